//! What merchants are told: kept for ever, in order for each payment, due until it is delivered.

use super::{Ground, after, done, message, payment};
use crate::store::{Message, MessageQuery, Store, Told, Write};

pub(super) async fn an_outbox_keeps_what_is_not_delivered(store: &dyn Store) {
    let first = Write { outbox: vec![message("p", 1), message("p", 2)], ..payment("p") };
    done(store, first.clone()).await;
    done(store, Write { outbox: vec![message("p", 3)], ..after(&first) }).await;
    done(store, Write { outbox: vec![message("q", 1)], ..payment("q") }).await;
    tell(store, "p", 1, Told::Delivered).await;
    tell(store, "p", 1, Told::Delivered).await;
    tell(store, "p", 1, failed(Some(9))).await;
    tell(store, "p", 9, Told::Wanted { at_ms: 1 }).await;
    tell(store, "r", 1, Told::Delivered).await;
    let left = store.outbox("p", 10).await.expect("readable");
    assert_eq!(left, [message("p", 2), message("p", 3)]);
    assert_eq!(store.outbox("p", 1).await.expect("readable"), [message("p", 2)]);
    assert_eq!(store.outbox("q", 10).await.expect("readable"), [message("q", 1)]);
}

pub(super) async fn only_the_first_message_of_a_payment_is_due(store: &dyn Store) {
    assert_eq!(store.next_delivery("m", 0).await.expect("readable"), None);
    let first = Write { outbox: vec![message("p", 1), message("p", 2)], ..payment("p") };
    done(store, first.clone()).await;
    done(store, Write { merchant: "n".into(), outbox: vec![message("q", 1)], ..payment("q") })
        .await;
    done(store, Write { outbox: vec![message("r", 5)], ..payment("r") }).await;
    assert_eq!(due(store, "m", 701).await, ["evt_p_1", "evt_r_5"]);
    assert_eq!(due(store, "m", 700).await, [""; 0]);
    assert_eq!(due(store, "n", 701).await, ["evt_q_1"]);
    assert_eq!(store.deliveries("m", 701, 1).await.expect("readable").len(), 1);

    tell(store, "p", 1, failed(Some(5_000))).await;
    assert_eq!(due(store, "m", 701).await, ["evt_r_5"]);
    tell(store, "r", 5, Told::Delivered).await;
    assert_eq!(store.next_delivery("m", 0).await.expect("readable"), Some(5_000));
    assert_eq!(store.next_delivery("m", 5_001).await.expect("readable"), None);
    let waiting = store.deliveries("m", 5_001, 9).await.expect("readable");
    let delivery = waiting[0].delivery.clone().expect("not delivered");
    assert_eq!((delivery.tries, delivery.reason.as_deref()), (1, Some("timeout")));
    assert_eq!((delivery.is_first, delivery.given_up, waiting.len()), (true, false, 1));

    // A message that comes later waits behind them.
    done(store, Write { outbox: vec![message("p", 3)], ..after(&first) }).await;
    assert_eq!(due(store, "m", i64::MAX).await, ["evt_p_1"]);
    tell(store, "p", 1, Told::Delivered).await;
    assert_eq!(due(store, "m", i64::MAX).await, ["evt_p_2"]);
    tell(store, "p", 2, Told::Delivered).await;
    assert_eq!(due(store, "m", i64::MAX).await, ["evt_p_3"]);
    tell(store, "p", 3, Told::Delivered).await;
    assert_eq!(store.next_delivery("m", 0).await.expect("readable"), None);
}

pub(super) async fn a_message_that_is_given_up_lets_the_next_one_pass(store: &dyn Store) {
    done(store, Write { outbox: vec![message("p", 1), message("p", 2)], ..payment("p") }).await;
    tell(store, "p", 1, failed(None)).await;
    assert_eq!(due(store, "m", i64::MAX).await, ["evt_p_2"]);
    assert_eq!(store.outbox("p", 9).await.expect("readable"), [message("p", 2)]);
    let given_up = MessageQuery { given_up: Some(true), limit: 9, ..MessageQuery::default() };
    assert_eq!(ids(store, given_up.clone()).await, ["evt_p_1"]);
    let waiting = MessageQuery { given_up: Some(false), ..given_up.clone() };
    assert_eq!(ids(store, waiting).await, ["evt_p_2"]);

    // What somebody wants is due again, and goes first, whether it was given up or delivered.
    tell(store, "p", 1, Told::Wanted { at_ms: 900 }).await;
    assert_eq!(ids(store, given_up).await, [""; 0]);
    assert_eq!(due(store, "m", i64::MAX).await, ["evt_p_1"]);
    tell(store, "p", 1, Told::Delivered).await;
    tell(store, "p", 2, Told::Delivered).await;
    assert_eq!(due(store, "m", i64::MAX).await, [""; 0]);
    tell(store, "p", 2, Told::Wanted { at_ms: 950 }).await;
    assert_eq!(store.next_delivery("m", 0).await.expect("readable"), Some(950));
}

pub(super) async fn messages_are_kept_and_read_in_the_order_of_their_commits(ground: &dyn Ground) {
    let store = ground.empty().await;
    let first = Write { outbox: vec![message("p", 1)], ..payment("p") };
    done(&*store, first.clone()).await;
    done(&*store, Write { merchant: "n".into(), outbox: vec![message("a", 1)], ..payment("a") })
        .await;
    done(&*store, Write { outbox: vec![message("p", 2)], ..after(&first) }).await;
    tell(&*store, "p", 1, Told::Delivered).await;
    tell(&*store, "p", 2, failed(Some(8_000))).await;
    let store = ground.reopen(store).await;
    let all = MessageQuery { limit: 9, ..MessageQuery::default() };
    assert_eq!(ids(&*store, all.clone()).await, ["evt_p_1", "evt_a_1", "evt_p_2"]);
    let ours = MessageQuery { merchant: Some("m".into()), ..all };
    assert_eq!(ids(&*store, ours.clone()).await, ["evt_p_1", "evt_p_2"]);
    assert_eq!(ids(&*store, MessageQuery { limit: 1, ..ours.clone() }).await, ["evt_p_1"]);

    let one = store.message("evt_p_1").await.expect("readable").expect("kept");
    assert_eq!((&one.row, one.merchant.as_str()), (&message("p", 1), "m"));
    assert_eq!(one.delivery, None);
    assert_eq!(ids(&*store, MessageQuery { after: one.position, ..ours }).await, ["evt_p_2"]);
    let two = store.message("evt_p_2").await.expect("readable").expect("kept");
    assert_eq!(two.delivery.map(|d| (d.due_at_ms, d.tries)), Some((8_000, 1)));
    assert_eq!(store.message("evt_p_3").await.expect("readable"), None);
}

fn failed(again_at_ms: Option<i64>) -> Told {
    Told::Failed { again_at_ms, reason: "timeout".into() }
}

async fn tell(store: &dyn Store, payment: &str, seq: u64, told: Told) {
    store.outbox_told(payment, seq, told).await.expect("storable");
}

async fn due(store: &dyn Store, merchant: &str, before_ms: i64) -> Vec<String> {
    names(store.deliveries(merchant, before_ms, 9).await.expect("readable"))
}

async fn ids(store: &dyn Store, query: MessageQuery) -> Vec<String> {
    names(store.messages(query).await.expect("readable").rows)
}

fn names(messages: Vec<Message>) -> Vec<String> {
    messages.into_iter().map(|message| message.row.id).collect()
}
