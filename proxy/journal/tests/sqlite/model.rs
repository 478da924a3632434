//! Random writes against a map that says what a store is: whatever is asked, both answer alike.

use std::collections::BTreeMap;

use interlock_journal::{
    Answer, Committed, EventRow, KeyRow, NoticeRow, OrderChange, PaymentRow, Reference, Store,
    Write,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::ground::{open, version};

#[derive(Clone, Default)]
struct Model {
    payments: BTreeMap<String, Write>,
    keys: BTreeMap<String, KeyRow>,
    orders: BTreeMap<String, String>,
    references: BTreeMap<String, String>,
    notices: BTreeMap<String, bool>,
    events: Vec<EventRow>,
}

impl Model {
    fn commit(&mut self, write: &Write) -> Committed {
        let mut next = self.clone();
        let answer = next.apply(write);
        if answer == Committed::Done {
            *self = next;
        }
        answer
    }

    fn apply(&mut self, write: &Write) -> Committed {
        for key in &write.keys {
            if let Some(taken) = self.keys.get(&key.key) {
                return Committed::KeyTaken(taken.clone());
            }
            self.keys.insert(key.key.clone(), key.clone());
        }
        for notice in &write.notices {
            match self.notices.get(&notice.event_id) {
                Some(applied) if *applied || !notice.applied => return Committed::NoticeSeen,
                _ => self.notices.insert(notice.event_id.clone(), notice.applied),
            };
        }
        let ver = self.payments.get(&write.payment).map(|old| old.next);
        if ver.unwrap_or(0) != write.expect {
            return Committed::Conflict { ver };
        }
        self.payments.insert(write.payment.clone(), write.clone());
        match &write.order {
            OrderChange::None => {}
            OrderChange::Claim { merchant_ref } => {
                let holder = self.orders.entry(merchant_ref.clone());
                let holder = holder.or_insert_with(|| write.payment.clone());
                if *holder != write.payment {
                    return Committed::OrderTaken(holder.clone());
                }
            }
            OrderChange::TakeOver { .. } => unreachable!("the model draws no take-over"),
            OrderChange::Release { merchant_ref } => {
                if self.orders.get(merchant_ref) == Some(&write.payment) {
                    self.orders.remove(merchant_ref);
                }
            }
        }
        for r in &write.references {
            let owner = self.references.entry(r.reference.clone());
            let owner = owner.or_insert_with(|| r.payment.clone());
            if *owner != r.payment {
                return Committed::ReferenceTaken(owner.clone());
            }
        }
        for answer in &write.answers {
            if let Some(key) = self.keys.get_mut(&answer.key) {
                key.answer.get_or_insert((answer.status, answer.body.clone()));
            }
        }
        self.events.extend(write.events.iter().cloned());
        Committed::Done
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_store_answers_like_the_model(
        steps in proptest::collection::vec(any_write(), 1..120),
        reopen_at in 0..120_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut store = open(dir.path());
            let mut model = Model::default();
            for (n, mut write) in steps.into_iter().enumerate() {
                if n == reopen_at {
                    drop(store);
                    store = open(dir.path());
                }
                for event in &mut write.events {
                    event.seq = n as u64 + 1;
                }
                let answer = store.commit(write.clone()).await.unwrap();
                assert_eq!(answer, model.commit(&write), "{write:?}");
            }
            compare(&store, &model).await;
        });
    }
}

async fn compare(store: &dyn Store, model: &Model) {
    for id in PAYMENTS {
        let kept = store.payment(id).await.unwrap();
        assert_eq!(kept, model.payments.get(id).map(row));
    }
    for key in KEYS {
        let kept = store.key("m", "/", key).await.unwrap();
        assert_eq!(kept.as_ref(), model.keys.get(key));
    }
    for name in NAMES {
        assert_eq!(store.order("m", name).await.unwrap().as_ref(), model.orders.get(name));
        let kept = store.reference("a", name).await.unwrap();
        assert_eq!(kept.as_ref(), model.references.get(name));
        let kept = store.notice("a", name).await.unwrap().map(|notice| notice.applied);
        assert_eq!(kept.as_ref(), model.notices.get(name));
    }
    let events = store.events(0, 10_000).await.unwrap();
    assert_eq!(events.into_iter().map(|(_, e)| e).collect::<Vec<_>>(), model.events);
    let due = store.due(i64::MAX, 100).await.unwrap();
    let mut expected: Vec<_> =
        model.payments.values().filter_map(|w| Some((w.due_at_ms?, &w.payment))).collect();
    expected.sort();
    let mut heard: Vec<_> = due.iter().map(|d| (d.due_at_ms, &d.payment)).collect();
    assert!(heard.is_sorted_by_key(|(due_at_ms, _)| *due_at_ms));
    heard.sort();
    assert_eq!(heard, expected);
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.payments, model.payments.len() as u64);
    assert_eq!(stats.in_doubt, model.payments.values().filter(|w| w.in_doubt).count() as u64);
}

const PAYMENTS: [&str; 4] = ["p1", "p2", "p3", "p4"];
const KEYS: [&str; 6] = ["k1", "k2", "k3", "k4", "k5", "k6"];
const NAMES: [&str; 4] = ["n1", "n2", "n3", "n4"];

fn any_write() -> impl Strategy<Value = Write> {
    let few = |strategy| proptest::collection::vec(strategy, 0..2);
    let fields = (
        proptest::option::of(0..5_i64),
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 0..600),
    );
    let rows = (
        few(select(&KEYS[..])),
        few(select(&KEYS[..])),
        few(select(&NAMES[..])),
        few(select(&NAMES[..])),
        any::<bool>(),
        (0..6_usize, select(&NAMES[..])),
        any::<bool>(),
    );
    (select(&PAYMENTS[..]), 1..5_u64, fields, rows).prop_map(|(id, next, fields, rows)| {
        let (due_at_ms, in_doubt, body) = fields;
        let (keys, answers, references, notices, applied, (order, name), has_event) = rows;
        let order = match order {
            0 => OrderChange::Claim { merchant_ref: name.into() },
            1 => OrderChange::Release { merchant_ref: name.into() },
            _ => OrderChange::None,
        };
        let event = EventRow { payment: id.into(), what: "x".into(), ..EventRow::default() };
        Write {
            due_at_ms,
            in_doubt,
            answers: answers.into_iter().map(|key| answer(key, &body)).collect(),
            body,
            keys: keys.into_iter().map(|key| taking(key, id)).collect(),
            references: references.into_iter().map(|name| reference(name, id)).collect(),
            notices: notices.into_iter().map(|name| notice(name, applied)).collect(),
            order,
            events: if has_event { vec![event] } else { Vec::new() },
            ..version(id, next)
        }
    })
}

fn taking(key: &str, payment: &str) -> KeyRow {
    KeyRow {
        merchant: "m".into(),
        path: "/".into(),
        key: key.into(),
        payment: payment.into(),
        ..KeyRow::default()
    }
}

fn answer(key: &str, body: &[u8]) -> Answer {
    Answer {
        merchant: "m".into(),
        path: "/".into(),
        key: key.into(),
        status: 200,
        body: body.to_vec(),
    }
}

fn reference(name: &str, payment: &str) -> Reference {
    Reference { account: "a".into(), reference: name.into(), payment: payment.into() }
}

fn notice(name: &str, applied: bool) -> NoticeRow {
    NoticeRow { account: "a".into(), event_id: name.into(), applied, ..NoticeRow::default() }
}

fn row(write: &Write) -> PaymentRow {
    let w = write.clone();
    PaymentRow {
        id: w.payment,
        merchant: w.merchant,
        ver: w.next,
        due_at_ms: w.due_at_ms,
        created_ms: w.created_ms,
        status: w.status,
        in_doubt: w.in_doubt,
        account: w.account,
        amount: w.amount,
        currency: w.currency,
        merchant_ref: w.merchant_ref,
        body: w.body,
    }
}
