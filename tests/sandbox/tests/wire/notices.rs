//! Notifications: their signatures, their retries, and what the dial does to them.

use std::collections::BTreeMap;
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};

use crate::stage::{Arrived, SELLER_ID, Stage, WEBHOOK_KEY, card, gateway_key};

const ALIPAY: &str = "alipay-main";
const CHECKOUT: &str = "checkout-main";

#[tokio::test]
async fn alipay_tells_of_payment_and_refund_with_a_good_signature() {
    let stage = Stage::start().await;
    stage.barcode(ALIPAY, "n", "280000000000000001").await;
    let paid = form(&stage.hook.wait(1).await[0]);
    assert!(is_signed(&paid));
    let expected = [
        ("trade_status", "TRADE_SUCCESS"),
        ("out_trade_no", "n"),
        ("total_amount", "12.34"),
        ("seller_id", SELLER_ID),
        ("sign_type", "RSA2"),
    ];
    for (name, value) in expected {
        assert_eq!(paid[name], value);
    }
    let refund = json!({ "out_trade_no": "n", "refund_amount": "12.34" });
    stage.alipay(ALIPAY, "alipay.trade.refund", refund).await;
    let refunded = form(&stage.hook.wait(2).await[1]);
    assert!(is_signed(&refunded));
    assert_eq!(refunded["trade_status"], "TRADE_CLOSED");
    assert_eq!(refunded["refund_fee"], "12.34");
    assert_ne!(refunded["notify_id"], paid["notify_id"]);
}

#[tokio::test]
async fn a_notification_comes_again_until_it_is_taken() {
    let stage = Stage::start().await;
    stage.hook.refuse(2);
    stage.barcode(ALIPAY, "n", "280000000000000001").await;
    let arrived = stage.hook.wait(3).await;
    let ids: Vec<String> = arrived.iter().map(|a| form(a)["notify_id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.hook.arrived().len(), 3, "taken is taken");
    stage.hook.refuse(100);
    stage.barcode(ALIPAY, "m", "280000000000000001").await;
    stage.hook.wait(3 + 8).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(stage.hook.arrived().len(), 3 + 8, "eight times and no more");
}

#[tokio::test]
async fn checkout_tells_of_every_step_with_a_good_signature() {
    let stage = Stage::start().await;
    stage.pay(CHECKOUT, "k", card("c")).await;
    let arrived = stage.hook.wait(2).await;
    assert!(arrived.iter().all(is_sealed));
    let events: Vec<Value> =
        arrived.iter().map(|a| serde_json::from_str(&a.body).unwrap()).collect();
    let mut kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["payment_approved", "payment_captured"]);
    assert_eq!(events[0]["data"]["reference"], "ref-c");
    assert_eq!(events[0]["data"]["amount"], 4900);
}

#[tokio::test]
async fn the_dial_loses_doubles_and_spoils() {
    let stage = Stage::start().await;
    let notify = |fault: &str| json!({ "account": "*", "operation": "notify", "fault": fault });
    stage.fault(notify("notify_lose")).await;
    stage.barcode(ALIPAY, "lost", "280000000000000001").await;
    settled(&stage).await;
    stage.lift_all().await;
    assert_eq!(stage.ledger(ALIPAY).await.len(), 1);
    assert!(stage.hook.arrived().is_empty());

    stage.fault(notify("notify_duplicate")).await;
    stage.barcode(ALIPAY, "twice", "280000000000000001").await;
    let arrived = stage.hook.wait(2).await;
    assert_eq!(form(&arrived[0]), form(&arrived[1]));
    settled(&stage).await;
    stage.lift_all().await;

    stage.fault(notify("bad_signature")).await;
    stage.barcode(ALIPAY, "spoiled", "280000000000000001").await;
    assert!(!is_signed(&form(&stage.hook.wait(3).await[2])));
    settled(&stage).await;
    stage.pay(CHECKOUT, "k", card("c")).await;
    assert!(!is_sealed(&stage.hook.wait(5).await[4]));
}

#[tokio::test]
async fn the_dial_delays_and_reorders() {
    let stage = Stage::start().await;
    let notify = |fault: &str, ms: u64| {
        let mut order = json!({ "account": ALIPAY, "operation": "notify", "fault": fault });
        order["ms"] = ms.into();
        order
    };
    stage.fault(notify("notify_delay", 150)).await;
    let begun = std::time::Instant::now();
    stage.barcode(ALIPAY, "late", "280000000000000001").await;
    stage.hook.wait(1).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
    stage.lift_all().await;

    stage.fault(notify("notify_reorder", 4_000)).await;
    stage.barcode(ALIPAY, "first", "280000000000000001").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.lift_all().await;
    stage.barcode(ALIPAY, "second", "280000000000000001").await;
    let arrived = stage.hook.wait(3).await;
    let order: Vec<String> = arrived.iter().map(|a| form(a)["out_trade_no"].clone()).collect();
    assert_eq!(order, ["late", "second", "first"]);
}

/// Waits until nothing is pending at any account.
async fn settled(stage: &Stage) {
    for _ in 0..400 {
        let (_, health) = stage.control("GET", "/healthz", Value::Null).await;
        let mut accounts = health["accounts"].as_object().unwrap().values();
        if accounts.all(|account| account["notifications_pending"] == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("notifications stay pending");
}

fn form(arrived: &Arrived) -> BTreeMap<String, String> {
    form_urlencoded::parse(arrived.body.as_bytes()).into_owned().collect()
}

fn is_signed(form: &BTreeMap<String, String>) -> bool {
    let covered = form.iter().filter(|(name, _)| *name != "sign" && *name != "sign_type");
    let text: Vec<String> = covered.map(|(name, value)| format!("{name}={value}")).collect();
    gateway_key().verifies(text.join("&").as_bytes(), &form["sign"])
}

fn is_sealed(arrived: &Arrived) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_KEY.as_bytes());
    let signature = hex::decode(arrived.signature.as_ref().unwrap()).unwrap();
    hmac::verify(&key, arrived.body.as_bytes(), &signature).is_ok()
}
