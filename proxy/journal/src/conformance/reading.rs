//! What is asked of a store: due payments, timelines, messages, lists, settings and counts.

use std::sync::Arc;

use super::{after, done, event, ids, payment, row};
use crate::store::{Cursor, EventRow, ListQuery, Store, Write};

pub(super) async fn the_earliest_due_comes_first(store: &dyn Store) {
    assert_eq!(store.next_due().await.expect("readable"), None);
    for (id, due_at_ms) in [("b", Some(20)), ("d", Some(40)), ("a", Some(-10)), ("n", None)] {
        done(store, Write { due_at_ms, ..payment(id) }).await;
    }
    let due = async |before, limit| -> Vec<(String, i64)> {
        let rows = store.due(before, limit).await.expect("readable");
        rows.into_iter().map(|due| (due.payment, due.due_at_ms)).collect()
    };
    assert_eq!(due(40, 9).await, [("a".into(), -10), ("b".into(), 20)]);
    assert_eq!(due(41, 2).await, [("a".into(), -10), ("b".into(), 20)]);
    assert_eq!(due(41, 0).await, []);
    assert_eq!(store.next_due().await.expect("readable"), Some(-10));
    done(store, Write { due_at_ms: None, ..after(&payment("a")) }).await;
    done(store, Write { due_at_ms: Some(50), ..after(&payment("b")) }).await;
    assert_eq!(due(i64::MAX, 9).await, [("d".into(), 40), ("b".into(), 50)]);
    assert_eq!(store.next_due().await.expect("readable"), Some(40));
}

pub(super) async fn every_open_payment_is_found_page_by_page(store: &dyn Store) {
    assert_eq!(store.open(None, 9).await.expect("readable"), []);
    for (id, due_at_ms) in [("b", Some(20)), ("d", Some(40)), ("a", Some(20)), ("n", None)] {
        done(store, Write { due_at_ms, ..payment(id) }).await;
    }
    let mut found = Vec::new();
    let mut last = None;
    loop {
        let page = store.open(last, 2).await.expect("readable");
        assert!(page.len() <= 2);
        found.extend(page.iter().map(|due| (due.payment.clone(), due.due_at_ms)));
        // What is put off on the way comes again, and what waits behind it is not passed over.
        if found.len() == 2 {
            done(store, Write { due_at_ms: Some(30), ..after(&payment("a")) }).await;
        }
        last = page.into_iter().next_back();
        if last.is_none() {
            break;
        }
    }
    let known = [("a", 20), ("b", 20), ("a", 30), ("d", 40)];
    assert_eq!(found, known.map(|(id, due_at_ms)| (id.to_owned(), due_at_ms)));
}

pub(super) async fn a_timeline_is_read_in_order_and_in_parts(store: &dyn Store) {
    let first = Write { events: vec![event("p", 2), event("p", 1)], ..payment("p") };
    done(store, first.clone()).await;
    done(store, Write { events: vec![event("q", 1)], ..payment("q") }).await;
    let bare = EventRow { reason: None, detail: Some("{\"n\":1}".into()), ..event("p", 3) };
    done(store, Write { events: vec![bare.clone()], ..after(&first) }).await;
    let all = store.timeline("p", 0, 10).await.expect("readable");
    assert_eq!(all, [event("p", 1), event("p", 2), bare.clone()]);
    assert_eq!(store.timeline("p", 0, 1).await.expect("readable"), [event("p", 1)]);
    assert_eq!(store.timeline("p", 2, 10).await.expect("readable"), [bare]);
    assert_eq!(store.timeline("p", u64::MAX, 10).await.expect("readable"), []);
}

pub(super) async fn all_events_are_read_in_the_order_of_their_commits(store: &Arc<dyn Store>) {
    let mut tasks = Vec::new();
    for n in 0..50 {
        let store = Arc::clone(store);
        tasks.push(tokio::spawn(async move {
            let id = format!("p{n}");
            let mut write = Write { events: vec![event(&id, 1)], ..payment(&id) };
            done(&*store, write.clone()).await;
            write = Write { events: vec![event(&id, 2), event(&id, 3)], ..after(&write) };
            done(&*store, write).await;
        }));
    }
    // Read while they are written: what a tail has read must be all there is up to its position.
    let (mut tail, mut at) = (Vec::new(), 0);
    while tail.len() < 150 {
        for (position, event) in store.events(at, 7).await.expect("readable") {
            assert!(position > at);
            at = position;
            tail.push(event);
        }
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
    let all = store.events(0, 1000).await.expect("readable");
    assert_eq!(tail, all.into_iter().map(|(_, event)| event).collect::<Vec<_>>());
    for n in 0..50 {
        let of_one = tail.iter().filter(|e| e.payment == format!("p{n}")).map(|e| e.seq);
        assert_eq!(of_one.collect::<Vec<_>>(), [1, 2, 3]);
    }
}

pub(super) async fn a_list_shows_the_newest_first_and_goes_on_at_its_cursor(store: &dyn Store) {
    let mut expected = Vec::new();
    for n in 0..25 {
        // Several of the same millisecond, and not in the order of time.
        let write = Write { created_ms: (n * 7) % 5, ..payment(&format!("p{n:02}")) };
        expected.push((write.created_ms, write.payment.clone()));
        done(store, write).await;
    }
    expected.sort();
    expected.reverse();
    for limit in [1, 4, 25, 26] {
        let heard = ids(store, ListQuery { limit, ..ListQuery::default() }).await;
        assert_eq!(heard, expected.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>());
    }
    let from = Cursor { created_ms: 2, id: "p".into() };
    let query = ListQuery { limit: 100, cursor: Some(from), ..ListQuery::default() };
    let older = expected.iter().filter(|(ms, _)| *ms < 2).map(|(_, id)| id.clone());
    assert_eq!(ids(store, query).await, older.collect::<Vec<_>>());
}

pub(super) async fn a_list_shows_only_what_was_asked_for(store: &dyn Store) {
    let mut all = Vec::new();
    for n in 0..64_i64 {
        let bit = |b: u32, no: &str, yes: &str| {
            if n & (1 << b) == 0 { no.to_owned() } else { yes.to_owned() }
        };
        let write = Write {
            merchant: bit(0, "m1", "m2"),
            merchant_ref: (n & 2 == 0).then(|| bit(2, "o1", "o2")),
            status: bit(3, "failed", "processing"),
            account: (n & 16 == 0).then(|| bit(0, "a1", "a2")),
            in_doubt: n & 32 != 0,
            created_ms: 100 - n,
            ..payment(&format!("p{n:02}"))
        };
        all.push(row(&write));
        done(store, write).await;
    }
    let some = |word: &str| Some(word.to_owned());
    let mut queries = Vec::new();
    for chosen in 0..64 {
        let on = |b: u32| chosen & (1 << b) != 0;
        queries.push(ListQuery {
            merchant: on(0).then(|| "m2".into()),
            merchant_ref: on(1).then(|| "o1".into()),
            status: on(2).then(|| "processing".into()),
            account: on(3).then(|| "a1".into()),
            in_doubt: if on(4) { Some(on(0)) } else { None },
            created_after_ms: on(5).then_some(60),
            limit: 5,
            cursor: None,
        });
    }
    queries.push(ListQuery { account: some("nobody"), limit: 5, ..ListQuery::default() });
    for query in queries {
        let wanted =
            |text: &Option<String>, has: Option<&String>| text.is_none() || text.as_ref() == has;
        let expected: Vec<_> = all
            .iter()
            .filter(|p| wanted(&query.merchant, Some(&p.merchant)))
            .filter(|p| wanted(&query.merchant_ref, p.merchant_ref.as_ref()))
            .filter(|p| wanted(&query.status, Some(&p.status)))
            .filter(|p| wanted(&query.account, p.account.as_ref()))
            .filter(|p| query.in_doubt.is_none_or(|wanted| wanted == p.in_doubt))
            .filter(|p| query.created_after_ms.is_none_or(|ms| p.created_ms > ms))
            .map(|p| p.id.clone())
            .collect();
        assert_eq!(ids(store, query.clone()).await, expected, "{query:?}");
    }
}

pub(super) async fn settings_are_kept(store: &dyn Store) {
    assert_eq!(store.settings_get("clock").await.expect("readable"), None);
    store.settings_put("clock", b"1".to_vec()).await.expect("storable");
    store.settings_put("clock", b"22".to_vec()).await.expect("storable");
    assert_eq!(store.settings_get("clock").await.expect("readable"), Some(b"22".to_vec()));
}

pub(super) async fn stats_count_what_is_open_and_in_doubt(store: &dyn Store) {
    let write = |id: &str, created_ms, amount, currency: &str, due_at_ms, in_doubt| Write {
        created_ms,
        amount,
        currency: currency.into(),
        due_at_ms,
        in_doubt,
        ..payment(id)
    };
    let settled = write("a", 5, 100, "EUR", Some(1), true);
    done(store, settled.clone()).await;
    done(store, write("b", 30, 200, "EUR", Some(1), true)).await;
    done(store, write("c", 20, 7, "JPY", Some(1), true)).await;
    done(store, write("d", 10, 300, "EUR", Some(1), false)).await;
    done(store, Write { due_at_ms: None, in_doubt: false, ..after(&settled) }).await;
    let stats = store.stats().await.expect("readable");
    assert_eq!((stats.payments, stats.open, stats.in_doubt), (4, 3, 2));
    assert_eq!(stats.oldest_in_doubt_ms, Some(20));
    let amounts = [("EUR".to_owned(), 200), ("JPY".to_owned(), 7)];
    assert_eq!(stats.in_doubt_amounts, amounts.into());
}
