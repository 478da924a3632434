//! Versions, races, and writes that leave nothing: the comparison that safety rests on.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    Ground, after, commit, done, event, ids, key, message, notice, payment, read, reference, row,
};
use crate::store::{Answer, Committed, Health, KeyRow, ListQuery, OrderChange, Store, Write};

pub(super) async fn a_payment_comes_back_as_it_was_written(store: &dyn Store) {
    assert_eq!(store.health(), Health::Writable);
    assert_eq!(read(store, "p").await, None);
    let mut first = payment("p");
    first.body = (0..=255).cycle().take(20_000).collect();
    first.amount = i64::MAX;
    first.merchant_ref = Some("bestellung-é-订单".into());
    done(store, first.clone()).await;
    assert_eq!(read(store, "p").await, Some(row(&first)));

    let mut second = after(&first);
    second.body = Vec::new();
    second.due_at_ms = None;
    second.account = None;
    second.amount = -1;
    second.in_doubt = true;
    done(store, second.clone()).await;
    assert_eq!(read(store, "p").await, Some(row(&second)));
}

pub(super) async fn a_second_insert_is_a_conflict(store: &dyn Store) {
    done(store, payment("p")).await;
    let mut other = payment("p");
    other.body = b"other".to_vec();
    assert_eq!(commit(store, other).await, Committed::Conflict { ver: Some(1) });
    assert_eq!(read(store, "p").await, Some(row(&payment("p"))));
}

pub(super) async fn only_the_expected_version_can_be_followed(store: &dyn Store) {
    let first = payment("p");
    let second = after(&first);
    assert_eq!(commit(store, second.clone()).await, Committed::Conflict { ver: None });
    done(store, first.clone()).await;
    done(store, second.clone()).await;
    assert_eq!(commit(store, second.clone()).await, Committed::Conflict { ver: Some(2) });
    let fourth = after(&after(&second));
    assert_eq!(commit(store, fourth).await, Committed::Conflict { ver: Some(2) });
    let mut jump = after(&second);
    jump.next += 1;
    assert!(store.commit(jump).await.is_err(), "a version must not be skipped");
    assert_eq!(read(store, "p").await, Some(row(&second)));
}

pub(super) async fn one_of_many_racers_wins(store: &Arc<dyn Store>) {
    let first = payment("p");
    done(&**store, first.clone()).await;
    for round in 0..20_u64 {
        let mut racers = Vec::new();
        for racer in 0..64_u64 {
            let mut write = after(&first);
            (write.expect, write.next) = (1 + round, 2 + round);
            write.body = racer.to_be_bytes().to_vec();
            write.events = vec![event("p", 1000 * (round + 1) + racer)];
            let store = Arc::clone(store);
            racers.push(tokio::spawn(async move { (racer, commit(&*store, write).await) }));
        }
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.expect("a racer does not panic") {
                (racer, Committed::Done) => winners.push(racer),
                (_, loser) => assert_eq!(loser, Committed::Conflict { ver: Some(2 + round) }),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let kept = read(&**store, "p").await.expect("it was inserted");
        assert_eq!(kept.body, winners[0].to_be_bytes());
        let events = store.timeline("p", 1000 * (round + 1) - 1, 100).await.expect("readable");
        assert_eq!(events, [event("p", 1000 * (round + 1) + winners[0])]);
    }
}

pub(super) async fn a_thousand_inserts_at_once_are_all_kept(store: &Arc<dyn Store>) {
    let mut tasks = Vec::new();
    for n in 0..1000 {
        let store = Arc::clone(store);
        tasks.push(tokio::spawn(async move {
            let mut write = payment(&format!("p{n}"));
            write.keys = vec![key(&format!("k{n}"), &write.payment)];
            done(&*store, write).await;
        }));
    }
    for task in tasks {
        task.await.expect("an insert does not panic");
    }
    for n in 0..1000 {
        let id = format!("p{n}");
        assert_eq!(read(&**store, &id).await, Some(row(&payment(&id))));
        let kept = store.key("m", "/v1/payments", &format!("k{n}")).await.expect("readable");
        assert_eq!(kept, Some(key(&format!("k{n}"), &id)));
    }
    assert_eq!(store.stats().await.expect("readable").payments, 1000);
}

pub(super) async fn a_refused_write_leaves_nothing(store: &dyn Store) {
    let mut holder = payment("p");
    holder.keys = vec![key("taken", "p")];
    holder.references = vec![reference("a", "taken", "p")];
    holder.order = OrderChange::Claim { merchant_ref: "taken".into() };
    holder.notices = vec![notice("taken", true)];
    done(store, holder).await;

    let whole = Write {
        keys: vec![key("new", "q")],
        answers: vec![Answer {
            merchant: "m".into(),
            path: "/v1/payments".into(),
            key: "taken".into(),
            status: 200,
            body: Vec::new(),
        }],
        references: vec![reference("a", "new", "q")],
        operations: vec!["new".into()],
        order: OrderChange::Claim { merchant_ref: "new".into() },
        notices: vec![notice("new", true)],
        events: vec![event("q", 1)],
        outbox: vec![message("q", 1)],
        ..payment("q")
    };
    let mut refused = vec![whole.clone(); 5];
    refused[0].keys.push(key("taken", "q"));
    refused[1].notices.push(notice("taken", true));
    refused[2].expect = 7;
    refused[2].next = 8;
    refused[3].order = OrderChange::Claim { merchant_ref: "taken".into() };
    refused[4].references.push(reference("a", "taken", "q"));
    for write in refused {
        assert_ne!(commit(store, write).await, Committed::Done);
        nothing_of_q(store).await;
    }
    done(store, whole).await;
    assert!(read(store, "q").await.is_some());
}

pub(super) async fn a_write_that_does_not_fit_leaves_nothing(store: &dyn Store) {
    done(store, Write { events: vec![event("p", 1)], ..payment("p") }).await;
    // A timeline's place cannot be taken twice: a caller's mistake, refused without a trace.
    let misfit = Write {
        keys: vec![key("new", "q")],
        events: vec![event("q", 1), event("q", 1)],
        ..payment("q")
    };
    assert!(store.commit(misfit).await.is_err());
    nothing_of_q(store).await;
    assert_eq!(store.health(), Health::Writable);
    done(store, payment("q")).await;
}

async fn nothing_of_q(store: &dyn Store) {
    assert_eq!(read(store, "q").await, None);
    assert_eq!(store.key("m", "/v1/payments", "new").await.expect("readable"), None);
    let taken = store.key("m", "/v1/payments", "taken").await.expect("readable");
    assert!(taken.is_none_or(|key| key.answer.is_none()));
    assert_eq!(store.reference("a", "new").await.expect("readable"), None);
    assert_eq!(store.operation("new").await.expect("readable"), None);
    assert_eq!(store.order("m", "new").await.expect("readable"), None);
    assert_eq!(store.notice("a", "new").await.expect("readable"), None);
    assert_eq!(store.timeline("q", 0, 10).await.expect("readable"), []);
    assert_eq!(store.outbox("q", 10).await.expect("readable"), []);
}

pub(super) async fn a_caller_that_goes_away_cancels_nothing(store: &Arc<dyn Store>) {
    // Polled once, so queued, and dropped: whatever the moment, the write is whole or absent, and
    // what was queued is made durable.
    let mut asked = BTreeSet::new();
    for n in 0..100 {
        let id = format!("p{n}");
        let write = Write { events: vec![event(&id, 1)], ..payment(&id) };
        let mut future = Box::pin(store.commit(write));
        tokio::select! {
            biased;
            _ = &mut future => {}
            () = std::future::ready(()) => {}
        }
        asked.insert(id);
    }
    done(&**store, payment("last")).await;
    for id in asked {
        assert!(read(&**store, &id).await.is_some(), "{id} was queued before the last");
        assert_eq!(store.timeline(&id, 0, 9).await.expect("readable"), [event(&id, 1)]);
    }
}

pub(super) async fn everything_is_there_after_reopening(ground: &dyn Ground) {
    let store = ground.empty().await;
    let whole = Write {
        keys: vec![KeyRow { answer: Some((201, b"x".to_vec())), ..key("k", "p") }],
        references: vec![reference("a", "x", "p")],
        operations: vec!["r".into()],
        order: OrderChange::Claim { merchant_ref: "o".into() },
        notices: vec![notice("e", true)],
        events: vec![event("p", 1), event("p", 2)],
        outbox: vec![message("p", 1)],
        ..payment("p")
    };
    done(&*store, whole.clone()).await;
    let second = after(&Write { keys: vec![], ..payment("p") });
    done(&*store, second.clone()).await;
    store.settings_put("s", vec![1]).await.expect("storable");
    store.keep_notice(notice("kept", false)).await.expect("storable");

    let store = ground.reopen(store).await;
    let store = &*store;
    assert_eq!(read(store, "p").await, Some(row(&second)));
    let kept = store.key("m", "/v1/payments", "k").await.expect("readable");
    assert_eq!(kept.as_ref(), whole.keys.first());
    assert_eq!(store.reference("a", "x").await.expect("readable").as_deref(), Some("p"));
    assert_eq!(store.operation("r").await.expect("readable").as_deref(), Some("p"));
    assert_eq!(store.order("m", "o").await.expect("readable").as_deref(), Some("p"));
    assert_eq!(store.notice("a", "e").await.expect("readable"), Some(notice("e", true)));
    assert_eq!(store.notice("a", "kept").await.expect("readable"), Some(notice("kept", false)));
    assert_eq!(store.timeline("p", 0, 9).await.expect("readable"), whole.events);
    assert_eq!(store.events(0, 9).await.expect("readable").len(), 2);
    assert_eq!(store.outbox("p", 9).await.expect("readable"), whole.outbox);
    assert_eq!(store.settings_get("s").await.expect("readable"), Some(vec![1]));
    assert_eq!(store.next_due().await.expect("readable"), second.due_at_ms);
    assert_eq!(ids(store, ListQuery { limit: 9, ..ListQuery::default() }).await, ["p"]);
    assert_eq!(commit(store, second.clone()).await, Committed::Conflict { ver: Some(2) });
    done(store, after(&second)).await;
}
