//! PayPal through the whole house: approval with and without a return, holds, declines that are no
//! end, reviews, lost answers, tokens that are refused, and money that PayPal takes back. Money is
//! read from the sandbox's ledger.

use std::time::Duration;

use interlock_tests::house::{Answer, House, fresh};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const ACCOUNT: &str = "paypal-main";

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("an id")
}

fn op_id(payment: &Answer) -> &str {
    payment["attempts"][0]["op_id"].as_str().expect("our number")
}

fn net(house: &House, payment: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &payment.json)
}

fn charges(house: &House, payment: &Answer) -> usize {
    ledger::charges(&house.ledger(), &payment.json)
}

fn redirect(amount: i64) -> Value {
    json!({
        "amount": amount, "currency": "EUR", "method": { "type": "paypal", "flow": "redirect" },
        "return_url": "https://shop.example/back", "description": "Order 7781",
    })
}

fn manual(amount: i64) -> Value {
    let mut body = redirect(amount);
    body["capture"] = "manual".into();
    body
}

/// What was shown to the shopper.
fn shown(house: &House, body: &Value) -> Answer {
    let shown = house.pay(body);
    assert_eq!((shown.status, &shown["status"]), (201, &json!("requires_action")), "{shown:?}");
    assert_eq!(shown["next_action"]["type"], "redirect", "{shown:?}");
    shown
}

fn wish(house: &House, payment: &Answer, verb: &str, body: Value) -> Answer {
    house.post(&format!("/v1/payments/{}/{verb}", id(payment)), &fresh(verb), &body)
}

fn approves(house: &House, payment: &Answer, act: &str) {
    let acted = house.shopper(ACCOUNT, op_id(payment), act);
    assert!(acted.status < 300, "{act}: {acted:?}");
}

fn is(word: &'static str) -> impl Fn(&Answer) -> bool {
    move |p| p["status"] == word
}

/// Requests of this kind for a payment's order.
fn requests(house: &House, operation: &str) -> usize {
    house.requests(ACCOUNT).iter().filter(|r| r["operation"] == operation).count()
}

#[test]
fn an_approved_order_is_captured_when_the_shopper_is_back() {
    let house = House::start();
    house.fault(ACCOUNT, "notify", "notify_lose");
    let order = shown(&house, &redirect(1_900));
    let early = wish(&house, &order, "confirm", json!({}));
    assert_eq!(early["status"], "requires_action", "nobody has approved it: {early:?}");
    assert_eq!(charges(&house, &order), 0);
    approves(&house, &order, "pay");
    let paid = wish(&house, &order, "confirm", json!({}));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    assert_eq!((charges(&house, &paid), net(&house, &paid)), (1, 1_900));
    let again = wish(&house, &order, "confirm", json!({}));
    assert_eq!((&again["status"], charges(&house, &again)), (&json!("succeeded"), 1));
}

#[test]
fn a_shopper_who_never_comes_back_has_paid_when_he_approved() {
    let house = House::start();
    let order = shown(&house, &redirect(1_900));
    approves(&house, &order, "pay");
    let paid = house.wait_for(id(&order), SOON, is("succeeded"));
    assert_eq!((charges(&house, &paid), net(&house, &paid)), (1, 1_900));
    assert_eq!(requests(&house, "continue"), 1);
    let given = json!({ "payment": paid["id"], "amount": 900 });
    let refund = house.post("/v1/refunds", &fresh("refund"), &given);
    assert_eq!(refund["status"], "succeeded", "{refund:?}");
    assert_eq!(net(&house, &paid), 1_000);
}

#[test]
fn what_is_held_is_captured_in_parts_or_released() {
    let house = House::start();
    let order = shown(&house, &manual(2_000));
    approves(&house, &order, "pay");
    let held = house.wait_for(id(&order), SOON, is("requires_capture"));
    assert_eq!((charges(&house, &held), net(&house, &held)), (1, 2_000));
    let captured = wish(&house, &held, "capture", json!({}));
    assert_eq!((&captured["status"], net(&house, &captured)), (&json!("succeeded"), 2_000));
    let order = shown(&house, &manual(2_000));
    approves(&house, &order, "pay");
    let held = house.wait_for(id(&order), SOON, is("requires_capture"));
    wish(&house, &held, "cancel", json!({}));
    let over = house.wait_for(id(&held), SOON, is("canceled"));
    assert_eq!(net(&house, &over), 0);
}

#[test]
fn a_declined_instrument_sends_the_shopper_back_and_is_no_end() {
    let house = House::start();
    let order = shown(&house, &redirect(1_900));
    approves(&house, &order, "fail");
    house.wait_until("the capture was declined", SOON, |h| requests(h, "continue") >= 1);
    let again = house.wait_for(id(&order), SOON, is("requires_action"));
    assert_eq!((&again["attempts"][0]["state"], charges(&house, &again)), (&json!("action"), 0));
    approves(&house, &order, "pay");
    let paid = house.wait_for(id(&order), SOON, is("succeeded"));
    assert_eq!((charges(&house, &paid), net(&house, &paid)), (1, 1_900));
}

#[test]
fn what_is_under_review_is_decided_later() {
    let house = House::start();
    for (amount, word, kept) in [(1_911, "succeeded", 1_911), (1_912, "failed", 0)] {
        let order = shown(&house, &redirect(amount));
        approves(&house, &order, "pay");
        let over = house.wait_for(id(&order), SOON, |p| p["status"] != "requires_action");
        assert_ne!(over["status"], "canceled", "{over:?}");
        let over = house.wait_for(id(&order), SOON, is(word));
        assert_eq!(net(&house, &over), kept, "{over:?}");
    }
}

#[test]
fn a_lost_capture_is_asked_about_and_made_once() {
    let house = House::start();
    for (fault, kept) in [("charge_then_drop", 1), ("error_after", 1), ("reset_after_read", 1)] {
        let order = shown(&house, &redirect(1_900));
        let fault = house.fault(ACCOUNT, "continue", fault);
        approves(&house, &order, "pay");
        house.wait_until("the capture was tried", SOON, |h| {
            h.payment(id(&order))["status"] != "requires_action"
        });
        let path = format!("/faults/{}", fault.as_str().expect("an id"));
        house.control("DELETE", &path, None);
        let paid = house.wait_for(id(&order), SOON, is("succeeded"));
        assert_eq!((charges(&house, &paid), net(&house, &paid)), (kept, 1_900), "{fault}");
    }
}

#[test]
fn a_cancelled_order_is_over_at_once_and_its_approval_moves_nothing() {
    let house = House::start();
    let order = shown(&house, &redirect(1_900));
    let over = wish(&house, &order, "cancel", json!({}));
    assert_eq!(over["status"], "canceled", "{over:?}");
    approves(&house, &order, "pay");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((requests(&house, "continue"), net(&house, &order)), (0, 0));
}

#[test]
fn a_token_is_fetched_once_and_once_more_when_it_is_refused() {
    let house = House::start();
    let tokens =
        |h: &House| h.requests(ACCOUNT).iter().filter(|r| r["path"] == "/v1/oauth2/token").count();
    for _ in 0..3 {
        shown(&house, &redirect(1_900));
    }
    assert_eq!(tokens(&house), 1);
    let revoke = json!({ "account": ACCOUNT, "act": "revoke" });
    assert_eq!(house.control("POST", "/portal", Some(&revoke)).status, 200);
    let order = shown(&house, &redirect(1_900));
    assert_eq!(tokens(&house), 2);
    assert_eq!(order["account"], ACCOUNT);
}

#[test]
fn money_that_paypal_takes_back_is_booked_as_taken_from_outside() {
    let house = House::start();
    let order = shown(&house, &redirect(1_900));
    approves(&house, &order, "pay");
    let paid = house.wait_for(id(&order), SOON, is("succeeded"));
    let act = |act: &str, amount: Option<i64>| {
        let body = json!({
            "account": ACCOUNT, "act": act, "op_id": paid["provider_ref"], "amount": amount,
        });
        let done = house.control("POST", "/portal", Some(&body));
        assert_eq!(done.status, 200, "{done:?}");
    };
    act("refund", Some(400));
    house.wait_for(id(&order), SOON, |p| p["amount_refunded"] == 400);
    act("reverse", None);
    house.wait_for(id(&order), SOON, |p| p["amount_refunded"] == 1_900);
    assert_eq!(net(&house, &paid), 0);
}

#[test]
fn notifications_that_are_not_paypals_are_refused() {
    let house = House::start();
    let order = shown(&house, &redirect(1_900));
    house.fault(ACCOUNT, "notify", "bad_signature");
    approves(&house, &order, "pay");
    house.wait_until("a notification was refused", SOON, |h| {
        h.metric("interlock_notifications_total", &[("result", "bad_signature")]) > 0.0
    });
    assert_eq!(charges(&house, &order), 0);
    // The truth is asked for all the same.
    let paid = wish(&house, &order, "confirm", json!({}));
    assert_eq!((&paid["status"], charges(&house, &paid)), (&json!("succeeded"), 1));
}
