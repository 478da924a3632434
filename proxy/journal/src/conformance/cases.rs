//! Differences between two books: changed only from the version that was read, listed in order.

use super::Ground;
use crate::store::{CaseQuery, CaseRow, Cases, Store};

pub(super) async fn a_case_is_changed_only_from_the_version_before(ground: &dyn Ground) {
    let store = ground.empty().await;
    assert_eq!(store.case("c").await.expect("readable"), None);
    assert!(!put(&*store, case("c", 2)).await, "nothing to follow");
    assert!(put(&*store, case("c", 1)).await);
    assert!(!put(&*store, case("c", 1)).await, "it is there");
    let next = CaseRow { open: false, payment: Some("p".into()), ..case("c", 2) };
    assert!(put(&*store, next.clone()).await);
    assert!(!put(&*store, case("c", 2)).await, "somebody was faster");
    assert!(!put(&*store, case("c", 4)).await);
    let store = ground.reopen(store).await;
    assert_eq!(store.case("c").await.expect("readable"), Some(next));
}

pub(super) async fn cases_are_listed_as_they_were_opened(store: &dyn Store) {
    for (id, account, date, open) in [
        ("z", "a", "2026-11-29", true),
        ("y", "a", "2026-11-30", false),
        ("x", "b", "2026-11-29", true),
        ("w", "a", "2026-11-29", false),
    ] {
        let (account, date) = (account.to_owned(), date.to_owned());
        assert!(put(store, CaseRow { account, date, open, ..case(id, 1) }).await);
    }
    let again = CaseRow { date: "2026-11-30".into(), ..case("y", 2) };
    assert!(put(store, again).await, "opened again, in its place");
    let all = CaseQuery { limit: 10, ..CaseQuery::default() };
    assert_eq!(ids(&list(store, all.clone()).await), ["z", "y", "x", "w"]);
    let of_a = CaseQuery { account: Some("a".into()), ..all.clone() };
    assert_eq!(ids(&list(store, of_a.clone()).await), ["z", "y", "w"]);
    let day = CaseQuery { date: Some("2026-11-29".into()), ..of_a.clone() };
    assert_eq!(ids(&list(store, day).await), ["z", "w"]);
    let open = |open| CaseQuery { open: Some(open), ..all.clone() };
    assert_eq!(ids(&list(store, open(true)).await), ["z", "y", "x"]);
    assert_eq!(ids(&list(store, open(false)).await), ["w"]);
    let first = list(store, CaseQuery { limit: 2, ..of_a.clone() }).await;
    assert_eq!(ids(&first), ["z", "y"]);
    let after = first.next.expect("there is another");
    let rest = list(store, CaseQuery { limit: 2, after, ..of_a }).await;
    assert_eq!((ids(&rest), rest.next), (vec!["w"], None));
}

async fn put(store: &dyn Store, case: CaseRow) -> bool {
    store.case_put(case).await.expect("a healthy store takes it")
}

async fn list(store: &dyn Store, query: CaseQuery) -> Cases {
    store.cases(query).await.expect("readable")
}

fn ids(cases: &Cases) -> Vec<&str> {
    cases.rows.iter().map(|case| case.id.as_str()).collect()
}

fn case(id: &str, ver: u64) -> CaseRow {
    CaseRow {
        id: id.into(),
        ver,
        account: "a".into(),
        date: "2026-11-29".into(),
        kind: "only_theirs".into(),
        open: true,
        payment: None,
        opened_ms: 700,
        changed_ms: 700 + i64::try_from(ver).unwrap_or(0),
        body: vec![1, 2, 3],
    }
}
