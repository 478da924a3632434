//! WeChat Pay through the whole house: every flow, coupons, errors that are no end, refunds that
//! wait, and keys that change while it runs. Money is read from the sandbox's ledger.

use std::time::Duration;

use interlock_tests::house::{Answer, House, fresh};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const MAIN: &str = "wechat-main";
const BACKUP: &str = "wechat-backup";

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("an id")
}

fn net(house: &House, payment: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &payment.json)
}

fn charges(house: &House, payment: &Answer) -> usize {
    ledger::charges(&house.ledger(), &payment.json)
}

fn offered(flow: &str) -> Value {
    let mut method = json!({ "type": "wechat_pay", "flow": flow });
    if flow == "jsapi" {
        method["openid"] = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".into();
    }
    json!({
        "amount": 1_250, "currency": "CNY", "method": method, "description": "tea for two",
        "customer": { "ip": "203.0.113.7" },
    })
}

/// A payment by the code on the shopper's screen; the last two digits choose what happens.
fn code(ending: &str) -> Value {
    let auth_code = format!("1312345678901234{ending}");
    json!({
        "amount": 1_250, "currency": "CNY",
        "method": { "type": "wechat_pay", "flow": "barcode", "auth_code": auth_code },
    })
}

fn refund(house: &House, payment: &Answer, amount: i64, reason: &str) -> Answer {
    let body = json!({ "payment": payment["id"], "amount": amount, "reason": reason });
    house.post_within("/v1/refunds", &fresh("refund"), &body, 0)
}

fn refunded(house: &House, refund: &Answer, status: &str) -> Answer {
    let path = format!("/v1/refunds/{}", id(refund));
    house
        .wait_until(&format!("the refund is {status}"), SOON, |h| h.get(&path)["status"] == status);
    house.get(&path)
}

fn shopper(house: &House, payment: &Answer, act: &str) {
    let last = payment["attempts"].as_array().and_then(|a| a.last()).expect("an attempt");
    let name = |key: &str| last[key].as_str().expect("a text").to_owned();
    let acted = house.shopper(&name("account"), &name("op_id"), act);
    assert!(acted.status < 300, "{act}: {acted:?}");
}

fn is(word: &'static str) -> impl Fn(&Answer) -> bool {
    move |p| p["status"] == word
}

fn reasons(house: &House, payment: &Answer) -> Vec<String> {
    let lines = house.get(&format!("/v1/payments/{}/timeline", id(payment)));
    let lines = lines["data"].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(|l| l["reason"].as_str().map(str::to_owned)).collect()
}

#[test]
fn every_flow_is_shown_paid_and_heard_of() {
    let house = House::start();
    for (flow, kind, member) in [
        ("qr", "qr_code", "qr_code"),
        ("jsapi", "sdk", "params"),
        ("app", "sdk", "params"),
        ("h5", "redirect", "url"),
    ] {
        let shown = house.pay(&offered(flow));
        assert_eq!((shown.status, &shown["status"]), (201, &json!("requires_action")), "{shown:?}");
        let action = &shown["next_action"];
        assert_eq!(action["type"], kind, "{flow}: {action}");
        assert!(!action[member].is_null() && action["expires"].is_string(), "{flow}: {action}");
        assert_eq!((charges(&house, &shown), net(&house, &shown)), (0, 0));
        shopper(&house, &shown, "pay");
        let paid = house.wait_for(id(&shown), SOON, is("succeeded"));
        assert_eq!((charges(&house, &paid), net(&house, &paid)), (1, 1_250), "{flow}");
        assert_eq!(paid["provider_ref"].as_str().map(str::len), Some(28), "{paid:?}");
        assert_eq!(paid["payer_amount"], Value::Null);
    }
    // What a page signs is signed with the merchant's key, for the shopper's app to check.
    let shown = house.pay(&offered("jsapi"));
    let params = &shown["next_action"]["params"];
    for name in ["appId", "timeStamp", "nonceStr", "package", "signType", "paySign"] {
        assert!(params[name].is_string(), "{name}: {params}");
    }
    let nowhere = house.pay(&{
        let mut body = offered("h5");
        body.as_object_mut().expect("an object").remove("customer");
        body
    });
    assert!(nowhere.status >= 400, "h5 needs the shopper's address: {nowhere:?}");
}

#[test]
fn a_code_is_paid_at_once_after_a_password_or_with_a_coupon() {
    let house = House::start();
    let paid = house.pay(&code("01"));
    assert_eq!((&paid["status"], charges(&house, &paid)), (&json!("succeeded"), 1), "{paid:?}");
    for ending in ["02", "12"] {
        // Nobody notifies of it: it is asked about until the shopper has typed his password.
        let paid = house.pay(&code(ending));
        assert_eq!((&paid["status"], charges(&house, &paid)), (&json!("succeeded"), 1), "{paid:?}");
    }
    let paid = house.pay(&code("09"));
    assert_eq!((&paid["status"], &paid["payer_amount"]), (&json!("succeeded"), &json!(1_249)));
    assert_eq!((&paid["amount_captured"], net(&house, &paid)), (&json!(1_250), 1_250));
}

#[test]
fn an_error_at_the_till_is_no_end_until_it_is_reversed() {
    let house = House::start();
    // The server failed after it charged: the question finds it.
    let paid = house.pay(&code("06"));
    assert_eq!((&paid["status"], charges(&house, &paid)), (&json!("succeeded"), 1), "{paid:?}");
    // PAYERROR, charged or not: only the reverse tells, and gives back. Then the next account may.
    for (ending, taken) in [("07", 1), ("08", 0)] {
        let paid = house.pay(&code(ending));
        let at_main = house
            .ledger()
            .into_iter()
            .filter(|m| m["account"] == MAIN && m["reference"] == paid["attempts"][0]["op_id"]);
        let kinds: Vec<String> =
            at_main.map(|m| m["kind"].as_str().expect("a kind").to_owned()).collect();
        let expected: &[&str] = if taken == 1 { &["charge", "reverse"] } else { &[] };
        assert_eq!(kinds, expected, "{ending}");
        let told = paid["status"] == "succeeded";
        assert_eq!(net(&house, &paid), if told { 1_250 } else { 0 }, "{paid:?}");
        assert_ne!(paid["status"], "processing", "{paid:?}");
    }
    // A balance that is too low is a code of which nobody says for sure that it proves anything, so
    // the order is reversed first; the shopper is told what to do all the same.
    let refused = house.pay(&code("03"));
    assert_ne!(refused["status"], "processing", "{refused:?}");
    assert_eq!(net(&house, &refused), if refused["status"] == "succeeded" { 1_250 } else { 0 });
}

#[test]
fn what_was_not_sent_goes_to_the_other_account_and_what_was_sent_does_not() {
    let house = House::start();
    house.fault(MAIN, "authorize", "refuse");
    for body in [code("01"), offered("qr")] {
        let made = house.pay(&body);
        assert_eq!(made["account"], BACKUP, "{made:?}");
        assert_eq!(made["attempts"][0]["reason"], "not_sent");
    }
    house.lift_faults();
    house.fault(MAIN, "authorize", "charge_then_drop");
    let paid = house.pay(&code("01"));
    assert_eq!((&paid["status"], &paid["account"]), (&json!("succeeded"), &json!(MAIN)));
    assert_eq!((charges(&house, &paid), net(&house, &paid)), (1, 1_250));
}

#[test]
fn a_shown_order_is_closed_before_anything_else_is_shown() {
    let house = House::start();
    let shown = house.pay(&offered("qr"));
    let old = shown["next_action"]["qr_code"].as_str().expect("a code").to_owned();
    let path = format!("/v1/payments/{}/switch", id(&shown));
    let body = json!({ "method": offered("jsapi")["method"] });
    let switched = house.post(&path, &fresh("switch"), &body);
    assert_eq!(switched["next_action"]["type"], "sdk", "{switched:?}");
    assert_eq!(house.scan(MAIN, &old, "pay").status, 409, "the old code can't be paid any more");
    let path = format!("/v1/payments/{}/cancel", id(&shown));
    house.post(&path, &fresh("cancel"), &json!({}));
    let over = house.wait_for(id(&shown), SOON, is("canceled"));
    assert_eq!((charges(&house, &over), net(&house, &over)), (0, 0));
}

#[test]
fn an_accepted_refund_is_not_done_and_an_abnormal_one_is_somebodys_case() {
    let house = House::start();
    let paid = house.pay(&code("01"));
    let done = refund(&house, &paid, 250, "came back");
    assert_eq!((done.status, &done["status"]), (202, &json!("processing")), "{done:?}");
    refunded(&house, &done, "succeeded");
    assert_eq!(net(&house, &paid), 1_000);
    // The merchant's balance was empty: the same number again, and one refund.
    let waits = refund(&house, &paid, 100, "not_enough");
    assert_eq!(house.get(&format!("/v1/refunds/{}", id(&waits)))["status"], "processing");
    let closed = refund(&house, &paid, 200, "closed");
    refunded(&house, &closed, "failed");
    let abnormal = refund(&house, &paid, 300, "abnormal");
    house.wait_until("an alert stands", SOON, |h| {
        h.payment(id(&paid))["attempts"][0]["reason"] == "merchant_action"
    });
    assert_eq!(house.get(&format!("/v1/refunds/{}", id(&abnormal)))["status"], "processing");
    assert!(reasons(&house, &paid).contains(&"merchant_action".to_owned()));
    assert_eq!(net(&house, &paid), 1_000, "nothing more went back");
    // A minute lies between two requests for one refund.
    house.wait_until("the refund is sent again", Duration::from_secs(100), |h| {
        h.get(&format!("/v1/refunds/{}", id(&waits)))["status"] == "succeeded"
    });
    assert_eq!(net(&house, &paid), 900, "once");
}

#[test]
fn certificates_are_fetched_when_an_unknown_one_signs_and_not_before() {
    let house = House::start();
    house.fault(MAIN, "authorize", "refuse");
    let fetched = || {
        let path = |r: &&Value| r["path"] == "/v3/certificates";
        house.requests(BACKUP).iter().filter(path).count()
    };
    for _ in 0..3 {
        let shown = house.pay(&offered("qr"));
        assert_eq!(shown["account"], BACKUP, "{shown:?}");
        shopper(&house, &shown, "pay");
        house.wait_for(id(&shown), SOON, is("succeeded"));
    }
    assert_eq!(fetched(), 1, "one list serves every answer and notification");
    let turn = json!({ "account": BACKUP, "act": "signs_with", "identity": "next" });
    assert_eq!(house.control("POST", "/portal", Some(&turn)).status, 200);
    let shown = house.pay(&offered("qr"));
    assert_eq!(shown["account"], BACKUP, "{shown:?}");
    shopper(&house, &shown, "pay");
    house.wait_for(id(&shown), SOON, is("succeeded"));
    // The list named both keys from the beginning: the new one needed no other fetch.
    assert_eq!(fetched(), 1);
}

#[test]
fn false_signatures_are_refused_and_the_true_ones_after_them_are_heard() {
    let house = House::start();
    house.fault(MAIN, "notify", "bad_signature");
    let shown = house.pay(&offered("qr"));
    shopper(&house, &shown, "pay");
    let paid = house.wait_for(id(&shown), SOON, is("succeeded"));
    assert_eq!((charges(&house, &paid), net(&house, &paid)), (1, 1_250));
    let health = house.control("GET", "/healthz", None);
    let main = &health["accounts"][MAIN];
    assert_eq!(
        (&main["probes_taken"], main["probes_refused"].as_u64() > Some(0)),
        (&json!(0), true)
    );
}
