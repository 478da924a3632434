//! Names by which a payment is found, each with its own rule of who may hold it.

use super::{after, commit, done, key, notice, payment, read, reference, row};
use crate::store::{Answer, Committed, KeyRow, NoticeRow, OrderChange, Store, Write};

pub(super) async fn a_taken_key_answers_with_its_row(store: &dyn Store) {
    let mut first = payment("p");
    first.keys = vec![key("k", "p")];
    done(store, first.clone()).await;

    let mut again = payment("p");
    again.keys = vec![key("k", "p")];
    assert_eq!(commit(store, again).await, Committed::KeyTaken(key("k", "p")));

    let mut other = payment("q");
    other.keys = vec![key("free", "q"), key("k", "q")];
    assert_eq!(commit(store, other.clone()).await, Committed::KeyTaken(key("k", "p")));
    assert_eq!(read(store, "q").await, None);

    // The same word under another path or merchant is another key.
    other.keys = vec![
        KeyRow { path: "/v1/refunds".into(), operation: Some("r".into()), ..key("k", "q") },
        KeyRow { merchant: "m2".into(), ..key("k", "q") },
        key("free", "q"),
    ];
    done(store, other.clone()).await;
    let kept = store.key("m", "/v1/refunds", "k").await.expect("readable");
    assert_eq!(kept.as_ref(), other.keys.first());
    assert_eq!(store.key("m", "/v1/payments", "none").await.expect("readable"), None);
}

pub(super) async fn the_first_answer_of_a_key_is_kept(store: &dyn Store) {
    let mut first = payment("p");
    first.keys = vec![key("k", "p")];
    done(store, first.clone()).await;
    let answer = |status, body: &[u8]| Answer {
        merchant: "m".into(),
        path: "/v1/payments".into(),
        key: "k".into(),
        status,
        body: body.to_vec(),
    };
    let mut second = after(&first);
    second.answers = vec![answer(201, b"")];
    done(store, second.clone()).await;
    let mut third = after(&second);
    third.answers = vec![answer(500, b"late")];
    done(store, third).await;
    let kept = store.key("m", "/v1/payments", "k").await.expect("readable").expect("taken");
    assert_eq!(kept.answer, Some((201, Vec::new())));

    // A key may come with its answer, and be answered in the write that takes it.
    let mut both = payment("q");
    both.keys =
        vec![KeyRow { answer: Some((202, b"a".to_vec())), ..key("with", "q") }, key("then", "q")];
    both.answers = vec![
        Answer { key: "with".into(), ..answer(500, b"b") },
        Answer { key: "then".into(), ..answer(203, b"c") },
    ];
    done(store, both).await;
    for (name, answer) in [("with", (202, b"a".to_vec())), ("then", (203, b"c".to_vec()))] {
        let kept = store.key("m", "/v1/payments", name).await.expect("readable").expect("taken");
        assert_eq!(kept.answer, Some(answer));
    }
}

pub(super) async fn an_order_has_one_holder(store: &dyn Store) {
    let claim = || OrderChange::Claim { merchant_ref: "o".into() };
    let release = || OrderChange::Release { merchant_ref: "o".into() };
    let first = Write { order: claim(), ..payment("p") };
    done(store, first.clone()).await;
    let rival = Write { order: claim(), ..payment("q") };
    assert_eq!(commit(store, rival.clone()).await, Committed::OrderTaken("p".into()));
    assert_eq!(read(store, "q").await, None);

    let foreign = Write { merchant: "m2".into(), order: claim(), ..payment("f") };
    done(store, foreign).await;

    let again = Write { order: claim(), ..after(&first) };
    done(store, again.clone()).await;
    assert_eq!(store.order("m", "o").await.expect("readable").as_deref(), Some("p"));

    let not_ours = Write { order: release(), ..payment("r") };
    done(store, not_ours).await;
    assert_eq!(store.order("m", "o").await.expect("readable").as_deref(), Some("p"));

    done(store, Write { order: release(), ..after(&again) }).await;
    assert_eq!(store.order("m", "o").await.expect("readable"), None);
    done(store, rival).await;
    assert_eq!(store.order("m", "o").await.expect("readable").as_deref(), Some("q"));
    assert_eq!(store.order("m2", "o").await.expect("readable").as_deref(), Some("f"));
}

pub(super) async fn a_reference_belongs_to_one_payment(store: &dyn Store) {
    let first = Write { references: vec![reference("a", "x", "p")], ..payment("p") };
    done(store, first.clone()).await;
    let again = Write {
        references: vec![reference("a", "x", "p"), reference("a", "y", "p")],
        ..after(&first)
    };
    done(store, again).await;
    let thief = Write {
        references: vec![reference("a", "z", "q"), reference("a", "y", "q")],
        ..payment("q")
    };
    assert_eq!(commit(store, thief).await, Committed::ReferenceTaken("p".into()));
    assert_eq!(store.reference("a", "z").await.expect("readable"), None);
    let elsewhere = Write { references: vec![reference("b", "x", "q")], ..payment("q") };
    done(store, elsewhere).await;
    assert_eq!(store.reference("a", "x").await.expect("readable").as_deref(), Some("p"));
    assert_eq!(store.reference("b", "x").await.expect("readable").as_deref(), Some("q"));
}

pub(super) async fn an_operation_leads_to_its_payment(store: &dyn Store) {
    let first = Write { operations: vec!["r1".into()], ..payment("p") };
    done(store, first.clone()).await;
    let more = Write { operations: vec!["r1".into(), "r2".into()], ..after(&first) };
    done(store, more).await;
    let thief = Write { operations: vec!["r2".into()], ..payment("q") };
    assert_eq!(commit(store, thief).await, Committed::ReferenceTaken("p".into()));
    for id in ["r1", "r2"] {
        assert_eq!(store.operation(id).await.expect("readable").as_deref(), Some("p"));
    }
    assert_eq!(store.operation("r3").await.expect("readable"), None);
}

pub(super) async fn a_notice_is_applied_once(store: &dyn Store) {
    let first = payment("p");
    done(store, first.clone()).await;
    let told = Write { notices: vec![notice("e", true)], ..after(&first) };
    done(store, told.clone()).await;
    let again = Write { notices: vec![notice("e", true)], ..after(&told) };
    assert_eq!(commit(store, again).await, Committed::NoticeSeen);
    let kept = Write { notices: vec![notice("e", false)], ..after(&told) };
    assert_eq!(commit(store, kept).await, Committed::NoticeSeen);
    assert!(!store.keep_notice(notice("e", false)).await.expect("storable"));
    assert_eq!(read(store, "p").await, Some(row(&told)));
    let elsewhere = NoticeRow { account: "b".into(), ..notice("e", true) };
    done(store, Write { notices: vec![elsewhere], ..after(&told) }).await;
    assert_eq!(store.notice("a", "e").await.expect("readable"), Some(notice("e", true)));
}

pub(super) async fn a_kept_notice_can_still_be_applied(store: &dyn Store) {
    let kept = NoticeRow { payment: None, digest: vec![9], ..notice("e", false) };
    assert!(store.keep_notice(kept.clone()).await.expect("storable"));
    assert!(!store.keep_notice(notice("e", false)).await.expect("storable"));
    assert_eq!(store.notice("a", "e").await.expect("readable"), Some(kept));
    done(store, Write { notices: vec![notice("e", true)], ..payment("p") }).await;
    assert_eq!(store.notice("a", "e").await.expect("readable"), Some(notice("e", true)));
    let again = Write { notices: vec![notice("e", true)], ..payment("q") };
    assert_eq!(commit(store, again).await, Committed::NoticeSeen);
}

pub(super) async fn an_order_is_taken_over_only_from_the_payment_that_is_named(store: &dyn Store) {
    let holder = || async { store.order("m", "over").await.expect("readable") };
    let take_over =
        |from: &str| OrderChange::TakeOver { merchant_ref: "over".into(), from: from.into() };
    let claim = OrderChange::Claim { merchant_ref: "over".into() };
    done(store, Write { order: claim, ..payment("over-1") }).await;
    let stale = Write { order: take_over("over-0"), ..payment("over-2") };
    assert_eq!(commit(store, stale).await, Committed::OrderTaken("over-1".into()));
    assert_eq!(read(store, "over-2").await, None);
    done(store, Write { order: take_over("over-1"), ..payment("over-2") }).await;
    assert_eq!(holder().await.as_deref(), Some("over-2"));
    let late = Write { order: take_over("over-1"), ..payment("over-3") };
    assert_eq!(commit(store, late).await, Committed::OrderTaken("over-2".into()));
}
