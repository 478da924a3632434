//! Kills aimed at one named moment: a request is on the wire, a refund was just sent, a code is on
//! the shopper's screen.
//!
//! The provider is slow or silent, so the moment is found by looking at it and not by luck.

use std::time::Duration;

use interlock_tests::house::{Answer, House, barcode, fresh, network_token, qr, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

/// Timeout, late window and the rechecks of the usual house, several times over.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_kill_at_a_named_moment_neither_loses_the_payment_nor_charges_it_twice() {
    let mut house = House::start();
    a_charge_that_never_happened(&mut house);
    a_silent_card_processor(&mut house);
    a_charge_that_happened_unheard(&mut house, "alipay-main", &barcode(4_900, "01"));
    a_charge_that_happened_unheard(&mut house, "checkout-eu", &network_token(5_100, "EUR"));
    a_charge_that_happened_unheard(&mut house, "checkout-us", &tokens(5_200, "USD"));
    a_refund_on_its_way(&mut house, "alipay-main", &barcode(3_000, "01"));
    a_refund_on_its_way(&mut house, "checkout-eu", &tokens(3_100, "EUR"));
    a_capture_on_its_way(&mut house, "slow");
    a_capture_on_its_way(&mut house, "hang");
    a_code_on_the_screen(&mut house);
    a_code_paid_while_nobody_is_there(&mut house);
    a_code_that_was_never_shown(&mut house);
    let doubts = house.operate("GET", "/admin/v1/status", None)["in_doubt"]["payments"].clone();
    assert_eq!(doubts, 0);
}

/// STARTED is on the disk and the provider hangs: it executes nothing. The credential died with
/// the process, so nobody else is asked either.
fn a_charge_that_never_happened(house: &mut House) {
    house.fault("alipay-main", "authorize", "hang");
    let (key, body) = (fresh("moment"), barcode(4_800, "01"));
    kill_once_received(house, "alipay-main", "authorize", "/v1/payments", &key, &body);
    let p = only_payment_of(house, 4_800);
    let p = house.wait_for(id(&p), SOON, |p| p["status"] != "processing");
    assert_eq!(p["status"], "failed", "{p:?}");
    assert_eq!(ledger::charges(&house.ledger(), &p.json), 0);
    same_payment(house, &key, &body, &p);
}

/// The shop asks again with the same key while the outcome is still in doubt.
fn a_silent_card_processor(house: &mut House) {
    house.fault("checkout-eu", "authorize", "hang");
    let (key, body) = (fresh("moment"), tokens(4_700, "EUR"));
    kill_once_received(house, "checkout-eu", "authorize", "/v1/payments", &key, &body);
    let p = house.pay_with_key(&key, &body);
    assert!(p.status < 300, "{p:?}");
    let p = house.wait_for(id(&p), SOON, |p| p["status"] != "processing");
    let taken = if p["status"] == "succeeded" { 4_700 } else { 0 };
    assert!(taken > 0 || p["status"] == "failed", "{p:?}");
    assert_eq!(net(house, &p), taken, "{p:?}");
    assert_eq!(ledger::charges(&house.ledger(), &p.json), usize::from(taken > 0));
    same_payment(house, &key, &body, &p);
}

/// The provider took the money, and the answer was on its way when the proxy died.
fn a_charge_that_happened_unheard(house: &mut House, account: &str, body: &Value) {
    house.fault_with(json!({
        "account": account, "operation": "authorize", "fault": "slow", "ms": 1_200,
    }));
    let (key, before) = (fresh("moment"), house.ledger().len());
    kill_when(house, "/v1/payments", &key, body, |h| h.ledger().len() > before);
    let amount = body["amount"].as_i64().expect("an amount");
    let p = only_payment_of(house, amount);
    let p = house.wait_for(id(&p), SOON, |p| p["status"] != "processing");
    assert_eq!((&p["status"], &p["account"]), (&json!("succeeded"), &json!(account)), "{p:?}");
    assert_eq!((net(house, &p), ledger::charges(&house.ledger(), &p.json)), (amount, 1));
    same_payment(house, &key, body, &p);
}

/// The refund was executed, and nobody heard of it.
fn a_refund_on_its_way(house: &mut House, account: &str, body: &Value) {
    let p = house.pay(body);
    assert_eq!((&p["status"], &p["account"]), (&json!("succeeded"), &json!(account)), "{p:?}");
    // The card processor captures 30 ms after its answer, and refuses a refund before.
    std::thread::sleep(Duration::from_millis(500));
    house.fault_with(json!({
        "account": account, "operation": "refund", "fault": "slow", "ms": 1_200,
    }));
    let (key, wish) = (fresh("moment"), json!({ "payment": p["id"], "amount": 1_000 }));
    let before = house.ledger().len();
    kill_when(house, "/v1/refunds", &key, &wish, |h| h.ledger().len() > before);
    let list = house.get(&format!("/v1/refunds?payment={}", id(&p)));
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list:?}");
    let p = house.wait_for(id(&p), SOON, |p| p["amount_refunded"] == 1_000);
    let again = house.post("/v1/refunds", &key, &wish);
    assert_eq!((&again["id"], &again["status"]), (&list["data"][0]["id"], &json!("succeeded")));
    assert_eq!(net(house, &p), p["amount"].as_i64().expect("an amount") - 1_000);
    assert_eq!(house.ledger().len(), before + 1, "it was given back once");
}

/// A capture that was executed unheard, or that never was.
fn a_capture_on_its_way(house: &mut House, fault: &str) {
    let mut body = tokens(2_000, "EUR");
    body["capture"] = json!("manual");
    let p = house.pay(&body);
    assert_eq!(p["status"], "requires_capture", "{p:?}");
    house.fault_with(json!({
        "account": "checkout-eu", "operation": "capture", "fault": fault, "ms": 1_200,
        "for_ms": 600_000,
    }));
    let (key, path) = (fresh("moment"), format!("/v1/payments/{}/capture", id(&p)));
    kill_once_received(house, "checkout-eu", "capture", &path, &key, &json!({}));
    let p = house.wait_for(id(&p), SOON, |p| p["status"] != "processing");
    let again = house.post(&path, &key, &json!({}));
    assert!(again.status < 300 && again["id"] == p["id"], "{again:?}");
    let captured = || {
        let ledger = house.ledger();
        let op = &p["attempts"][0]["op_id"];
        ledger.iter().filter(|e| e["kind"] == "capture" && e["reference"] == *op).count()
    };
    match p["status"].as_str() {
        Some("succeeded") => assert_eq!((captured(), &p["amount_captured"]), (1, &json!(2_000))),
        Some("requires_capture") if fault == "hang" => {
            assert_eq!(captured(), 0);
            let other = house.post(&path, &fresh("moment"), &json!({}));
            assert_eq!(other["status"], "succeeded", "{other:?}");
            assert_eq!(captured(), 1);
        }
        _ => unreachable!("{fault}: {p:?}"),
    }
    assert_eq!(net(house, &p), 2_000);
}

/// The code on the screen outlives the process that showed it.
fn a_code_on_the_screen(house: &mut House) {
    let (key, body) = (fresh("moment"), qr(1_100));
    let p = house.pay_with_key(&key, &body);
    assert_eq!(p["status"], "requires_action", "{p:?}");
    house.kill_proxy();
    house.start_proxy();
    let shown = house.payment(id(&p));
    assert_eq!(shown["status"], "requires_action");
    assert_eq!(shown["next_action"], p["next_action"]);
    same_payment(house, &key, &body, &p);
    scan(house, &p);
    paid_once(house, &p);
}

/// The shopper pays while no proxy runs; its provider may give up telling.
fn a_code_paid_while_nobody_is_there(house: &mut House) {
    let p = house.pay(&qr(1_200));
    assert_eq!(p["status"], "requires_action", "{p:?}");
    house.fault("alipay-main", "notify", "notify_lose");
    house.kill_proxy();
    scan(house, &p);
    house.start_proxy();
    paid_once(house, &p);
    house.lift_faults();
}

/// The process died before it could show the code, so nobody can pay it, and another account may
/// offer one.
fn a_code_that_was_never_shown(house: &mut House) {
    house.fault("alipay-main", "authorize", "hang");
    let (key, body) = (fresh("moment"), qr(1_300));
    kill_once_received(house, "alipay-main", "authorize", "/v1/payments", &key, &body);
    let p = house.pay_with_key(&key, &body);
    assert!(matches!(p["status"].as_str(), Some("requires_action" | "failed")), "{p:?}");
    assert_eq!(p["attempts"][0]["state"], "failed", "{p:?}");
    if p["status"] == "requires_action" {
        assert_eq!(p["account"], "alipay-backup");
        scan(house, &p);
        paid_once(house, &p);
    }
}

fn kill_once_received(
    house: &mut House,
    account: &str,
    operation: &str,
    path: &str,
    key: &str,
    body: &Value,
) {
    let received =
        |h: &House| h.requests(account).iter().filter(|r| r["operation"] == operation).count();
    let before = received(house);
    kill_when(house, path, key, body, |h| received(h) > before);
}

/// Sends a request and kills the proxy at the moment; then every provider is well again.
fn kill_when(
    house: &mut House,
    path: &str,
    key: &str,
    body: &Value,
    moment: impl Fn(&House) -> bool,
) {
    // A notification could answer the shop before the kill.
    house.fault("*", "notify", "notify_lose");
    std::thread::scope(|scope| {
        let house = &*house;
        let cut = scope.spawn(move || {
            let headers = [("Idempotency-Key", key), ("Prefer", "wait=30")];
            let url = format!("{}{path}", house.api);
            house.try_send("POST", &url, &headers, Some(body.to_string().as_bytes()))
        });
        house.wait_until("the request is at the provider", Duration::from_secs(5), moment);
        house.signal_proxy("KILL");
        let answer = cut.join().expect("the shop's thread");
        assert!(answer.is_none(), "it was answered before the kill: {answer:?}");
    });
    house.kill_proxy();
    house.lift_faults();
    house.start_proxy();
}

fn only_payment_of(house: &House, amount: i64) -> Answer {
    let list = house.get("/v1/payments?limit=100");
    let all = list["data"].as_array().expect("a list");
    let found: Vec<&Value> = all.iter().filter(|p| p["amount"] == amount).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    house.payment(found[0]["id"].as_str().expect("an id"))
}

fn same_payment(house: &House, key: &str, body: &Value, p: &Answer) {
    let before = house.ledger().len();
    let again = house.pay_with_key(key, body);
    assert_eq!((&again["id"], &again["status"]), (&p["id"], &p["status"]), "{again:?}");
    assert_eq!(house.ledger().len(), before);
}

fn scan(house: &House, p: &Answer) {
    let account = p["account"].as_str().expect("an account");
    let code = p["next_action"]["qr_code"].as_str().expect("a code");
    let paid = house.scan(account, code, "pay");
    assert!(paid.status < 300, "{paid:?}");
}

fn paid_once(house: &House, p: &Answer) {
    let p = house.wait_for(id(p), SOON, |p| p["status"] == "succeeded");
    assert_eq!(net(house, &p), p["amount"].as_i64().expect("an amount"));
    assert_eq!(ledger::charges(&house.ledger(), &p.json), 1);
}

fn net(house: &House, p: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &p.json)
}

fn id(p: &Answer) -> &str {
    p["id"].as_str().expect("a payment has an id")
}
