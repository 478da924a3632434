//! The plugin as the host meets it: steps in, requests and facts out, through the test kit.

#![allow(clippy::unwrap_used)]

mod answers;
mod codes;
mod damage;
mod honesty;
mod inquiries;
mod manifest;
mod notices;
mod requests;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;
#[path = "../../../../tests/src/readers.rs"]
mod readers;

use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{
    CaptureMode, Credential, Fact, Operation, Original, Provider, Request, What,
};
use serde_json::{Value, json};
use stripe::Stripe;

const OP: &str = "op1234567890";
const LATER: &str = "opLater0001";
const INTENT: &str = "pi_3MtwBwLkdIwHu7ix28a3tqPa";
const REFUND: &str = "re_1Nispe2eZvKYlo2Cd31jOCgZ";
const STORED: &str = "pm_1MtwBwLkdIwHu7ixUEgbCANARY";
const TOKEN: &str = "tok_1MtwBwLkdIwHu7ixCANARY";
const NUMBER: &str = "4000000000004917";
const CRYPTOGRAM: &str = "Q0FOQVJZLUNSWVBUT0dSQU0=";
const BACK: &str = "https://shop.example/back";

fn account(config: Value) -> Stripe {
    Stripe::open(&config).unwrap()
}

fn plain() -> Stripe {
    account(json!({}))
}

/// An account that takes everything that can be switched on.
fn open() -> Stripe {
    account(json!({ "three_d_secure": true, "accepts_decrypted_wallet": true }))
}

fn network_token(source: &str) -> Credential {
    Credential::NetworkToken {
        number: NUMBER.into(),
        expiry_month: 7,
        expiry_year: 2031,
        cryptogram: Some(CRYPTOGRAM.into()),
        eci: Some("05".into()),
        source: source.into(),
    }
}

/// A payment of 49.00 EUR by a card that is stored there.
fn payment() -> Request {
    let mut r = request(4_900, "EUR", 2);
    r.method = "card".into();
    r.flow = "token".into();
    r.credential = Some(Credential::AccountToken { token: STORED.into() });
    r.return_url = Some(BACK.into());
    r
}

fn manual() -> Request {
    Request { capture: CaptureMode::Manual, ..payment() }
}

fn by(credential: Credential) -> Request {
    Request { credential: Some(credential), ..payment() }
}

/// A later operation of that payment, under its own number.
fn later(amount: i64) -> Request {
    let mut r = request(amount, "EUR", 2);
    r.op_id = LATER.into();
    r.original = Some(Original {
        op_id: OP.into(),
        provider_ref: Some(INTENT.into()),
        amount: payment().amount,
    });
    r
}

/// The shopper came back from a challenge.
fn back() -> Request {
    Request { return_url: Some(BACK.into()), ..later(4_900) }
}

/// An inquiry about the payment, with or without the provider's number.
fn asking(known: bool) -> Request {
    let mut r = later(4_900);
    r.op_id = OP.into();
    if !known {
        r.original.as_mut().unwrap().provider_ref = None;
    }
    r
}

/// An inquiry about a capture, void or refund under `opLater0001`.
fn asking_about(operation: Operation, number: Option<&str>) -> Request {
    Request { target: Some((operation, number.map(Into::into))), ..later(4_900) }
}

/// Every operation that sends something.
fn operations() -> [(Operation, Request); 10] {
    [
        (Operation::Authorize, payment()),
        (Operation::Continue, back()),
        (Operation::Capture, later(100)),
        (Operation::Void, later(4_900)),
        (Operation::Refund, later(100)),
        (Operation::Inquire, asking(true)),
        (Operation::Inquire, asking(false)),
        (Operation::InquireOperation, asking_about(Operation::Refund, Some(REFUND))),
        (Operation::InquireOperation, asking_about(Operation::Refund, None)),
        (Operation::InquireOperation, asking_about(Operation::Capture, None)),
    ]
}

/// An intent of this status in which nothing contradicts it.
fn intent(status: &str) -> Value {
    let mut body = json!({
        "id": INTENT, "object": "payment_intent", "status": status,
        "amount": 4900, "amount_capturable": 0, "amount_received": 0, "currency": "eur",
        "capture_method": "automatic", "confirmation_method": "automatic",
        "cancellation_reason": null, "last_payment_error": null, "next_action": null,
        "latest_charge": null, "metadata": { "interlock_attempt": OP },
    });
    match status {
        "succeeded" => {
            body["amount_received"] = json!(4900);
            body["latest_charge"] = charge("succeeded", true);
        }
        "requires_capture" => {
            body["capture_method"] = json!("manual");
            body["amount_capturable"] = json!(4900);
            body["latest_charge"] = charge("succeeded", false);
        }
        "requires_action" => {
            let url = "https://hooks.stripe.com/redirect/authenticate/src_1?client_secret=src_cs_1";
            body["confirmation_method"] = json!("manual");
            body["next_action"] = json!({
                "type": "redirect_to_url",
                "redirect_to_url": { "return_url": BACK, "url": url },
            });
        }
        "requires_confirmation" => body["confirmation_method"] = json!("manual"),
        "requires_payment_method" => {
            body["last_payment_error"] = json!({
                "type": "card_error", "code": "card_declined",
                "decline_code": "insufficient_funds",
            });
            body["latest_charge"] = charge("failed", false);
        }
        _ => {}
    }
    body
}

fn charge(status: &str, captured: bool) -> Value {
    json!({ "id": "ch_3MtwBw", "object": "charge", "status": status, "captured": captured })
}

/// What was held and then taken, by our capture.
fn taken_later(amount: i64) -> Value {
    let mut body = with(intent("succeeded"), "capture_method", json!("manual"));
    body["amount_received"] = json!(amount);
    body["metadata"]["interlock_capture"] = json!(LATER);
    body
}

/// What was held and then let go.
fn released() -> Value {
    let body = with(intent("canceled"), "capture_method", json!("manual"));
    with(body, "latest_charge", charge("succeeded", false))
}

fn refund(status: &str) -> Value {
    json!({
        "id": REFUND, "object": "refund", "status": status, "amount": 4900, "currency": "eur",
        "payment_intent": INTENT, "charge": "ch_3MtwBw", "failure_reason": null,
        "metadata": { "interlock_refund": LATER },
    })
}

/// A refusal of the card, with the intent beside it.
fn refused(code: &str, decline_code: Option<&str>) -> Value {
    let mut error = json!({
        "type": "card_error", "code": code, "message": "Your card was declined.",
        "payment_intent": intent("requires_payment_method"),
    });
    if let Some(why) = decline_code {
        error["decline_code"] = json!(why);
    }
    json!({ "error": error })
}

fn error(kind: &str, code: Option<&str>) -> Value {
    match code {
        Some(code) => json!({ "error": { "type": kind, "code": code, "message": "x" } }),
        None => json!({ "error": { "type": kind, "message": "x" } }),
    }
}

fn list(object: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": object, "url": "/v1/x", "data": data, "has_more": has_more })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().unwrap().remove(field);
    body
}

/// The one fact that this answer to the operation's first request ends in.
fn told(plugin: &Stripe, op: Operation, r: Request, status: u16, body: &[u8]) -> Fact {
    let host = TestHost::default();
    let mut drive = Drive::new(plugin, &host, op, r);
    drive.start().unwrap().sent();
    let done = drive.answer(status, body).unwrap().done();
    assert_eq!(done.facts.len(), 1);
    done.facts.into_iter().next().unwrap()
}

fn answer(op: Operation, r: Request, status: u16, body: &Value) -> Fact {
    told(&plain(), op, r, status, body.to_string().as_bytes())
}

fn code(fact: &Fact) -> (What, Option<&str>) {
    (fact.what, fact.provider_code.as_deref())
}
