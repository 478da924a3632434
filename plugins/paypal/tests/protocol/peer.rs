//! The other side of the wire: orders and what comes of them as PayPal shows them, and the one
//! fact that an answer leads to.

use interlock_plugin_api::testkit::{self, Drive, TestHost, Wanted};
use interlock_plugin_api::{
    CaptureMode, Details, Fact, Money, Operation, Original, Provider, Request,
};
use paypal::Paypal;
use serde_json::{Value, json};

/// Our number of the payment.
pub const PAYMENT: &str = "op1234567890";
/// Our number of a capture, a void, a refund or a return of the shopper.
pub const CHANGE: &str = "change42";
pub const ORDER: &str = "5O190127TN364715T";
pub const AUTHORIZATION: &str = "0AW2184448108334S";
pub const CAPTURE: &str = "3C679366HE4398245";
pub const REFUND: &str = "1JU08902781691411";

/// The account that most tests use.
pub fn provider() -> Paypal {
    account(json!({ "webhook_id": "1JE4291016473214C" }))
}

pub fn account(config: Value) -> Paypal {
    Paypal::open(&config).unwrap()
}

/// A payment of 49.00 euros.
pub fn payment(capture: CaptureMode) -> Request {
    Request {
        capture,
        method: "paypal".into(),
        flow: "redirect".into(),
        description: Some("Tea & cake".into()),
        return_url: Some("https://shop.example/back?a=1".into()),
        ..testkit::request(4_900, "EUR", 2)
    }
}

/// A request of another operation of that payment: of 12.34 euros where it is of a part.
pub fn later(op: Operation, capture: CaptureMode) -> Request {
    let order = payment(capture);
    let part = matches!(op, Operation::Capture | Operation::Refund | Operation::InquireOperation);
    let units = if part { 1_234 } else { order.amount.amount };
    Request {
        op_id: if op == Operation::Inquire { PAYMENT.into() } else { CHANGE.into() },
        amount: Money::new(units, order.amount.currency),
        original: Some(Original {
            op_id: PAYMENT.into(),
            provider_ref: Some(ORDER.into()),
            amount: order.amount,
        }),
        target: (op == Operation::InquireOperation).then_some((Operation::Refund, None)),
        details: (op == Operation::Continue).then(|| Details(json!({ "token": ORDER }))),
        ..order
    }
}

/// Every operation about a payment, with a request of it.
pub fn operations() -> Vec<(Operation, Request)> {
    let (automatic, manual) = (CaptureMode::Automatic, CaptureMode::Manual);
    let mut all = vec![(Operation::Authorize, payment(automatic))];
    for (op, capture) in [
        (Operation::Continue, automatic),
        (Operation::Continue, manual),
        (Operation::Capture, manual),
        (Operation::Void, manual),
        (Operation::Refund, automatic),
        (Operation::Inquire, automatic),
        (Operation::Inquire, manual),
        (Operation::InquireOperation, automatic),
    ] {
        all.push((op, later(op, capture)));
    }
    all
}

/// The facts after these answers, one after the other.
pub fn heard(op: Operation, r: Request, answers: &[(u16, Value)]) -> Vec<Fact> {
    let raw: Vec<(u16, Vec<u8>)> =
        answers.iter().map(|(status, body)| (*status, body.to_string().into_bytes())).collect();
    heard_raw(op, r, &raw)
}

/// The same with bodies as they are.
pub fn heard_raw(op: Operation, r: Request, answers: &[(u16, Vec<u8>)]) -> Vec<Fact> {
    let (plugin, host) = (provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, op, r);
    let mut wanted = drive.start().unwrap();
    for (status, body) in answers {
        wanted.sent();
        wanted = drive.answer(*status, body).unwrap();
    }
    let done = match wanted {
        Wanted::Done(done) => done,
        Wanted::Send(send, _) => unreachable!("it goes on: {send:?}"),
    };
    assert!(!done.verified && done.ack.is_none() && done.statement.is_none());
    done.facts
}

/// The one fact of one answer.
pub fn said(op: Operation, capture: CaptureMode, status: u16, body: Value) -> Fact {
    let mut facts = heard(op, later(op, capture), &[(status, body)]);
    assert_eq!(facts.len(), 1, "{facts:?}");
    facts.remove(0)
}

/// The one fact of the second answer, after the order was read.
pub fn changed(op: Operation, status: u16, body: Value) -> Fact {
    let capture =
        if op == Operation::Refund { CaptureMode::Automatic } else { CaptureMode::Manual };
    let first = if op == Operation::Refund { captured_order() } else { held_order() };
    let mut facts = heard(op, later(op, capture), &[(200, first), (status, body)]);
    assert_eq!(facts.len(), 1, "{facts:?}");
    facts.remove(0)
}

pub fn money(value: &str) -> Value {
    json!({ "currency_code": "EUR", "value": value })
}

pub fn order(status: &str, intent: &str, payments: Value) -> Value {
    let mut unit = json!({
        "reference_id": "default", "amount": money("49.00"),
        "custom_id": PAYMENT, "invoice_id": PAYMENT,
    });
    if !payments.is_null() {
        unit["payments"] = payments;
    }
    json!({ "id": ORDER, "intent": intent, "status": status, "purchase_units": [unit],
        "links": [{ "href": "https://api-m.paypal.com/v2/checkout/orders/x", "rel": "self" }] })
}

pub fn captured_order() -> Value {
    order("COMPLETED", "CAPTURE", json!({ "captures": [capture("COMPLETED")] }))
}

pub fn held_order() -> Value {
    order("COMPLETED", "AUTHORIZE", json!({ "authorizations": [authorization("CREATED")] }))
}

/// The capture of the whole order.
pub fn capture(status: &str) -> Value {
    json!({ "id": CAPTURE, "status": status, "amount": money("49.00"),
        "custom_id": PAYMENT, "invoice_id": PAYMENT,
        "supplementary_data": { "related_ids": { "order_id": ORDER } } })
}

/// Our capture of a part of what is held.
pub fn capture_of_part(status: &str) -> Value {
    json!({ "id": CAPTURE, "status": status, "amount": money("12.34"),
        "custom_id": PAYMENT, "invoice_id": CHANGE,
        "supplementary_data": { "related_ids":
            { "order_id": ORDER, "authorization_id": AUTHORIZATION } } })
}

pub fn authorization(status: &str) -> Value {
    json!({ "id": AUTHORIZATION, "status": status, "amount": money("49.00"),
        "custom_id": PAYMENT, "invoice_id": PAYMENT,
        "supplementary_data": { "related_ids": { "order_id": ORDER } } })
}

pub fn refund(status: &str) -> Value {
    json!({ "id": REFUND, "status": status, "amount": money("12.34"), "custom_id": CHANGE,
        "links": [{ "href": format!("https://api-m.paypal.com/v2/payments/captures/{CAPTURE}"),
            "rel": "up" }] })
}

/// A problem with one issue, whose name is that of its status.
pub fn problem(status: u16, issue: &str) -> Value {
    json!({ "name": name_of(status), "message": "x", "debug_id": "f1",
        "details": [{ "issue": issue, "description": "x" }], "links": [] })
}

pub fn name_of(status: u16) -> &'static str {
    match status {
        400 => "INVALID_REQUEST",
        401 => "AUTHENTICATION_FAILURE",
        403 => "NOT_AUTHORIZED",
        404 => "RESOURCE_NOT_FOUND",
        409 => "RESOURCE_CONFLICT",
        422 => "UNPROCESSABLE_ENTITY",
        429 => "RATE_LIMIT_REACHED",
        503 => "SERVICE_UNAVAILABLE",
        _ => "INTERNAL_SERVER_ERROR",
    }
}

/// The same document with one member, by its JSON pointer, being another; gone where it is null.
pub fn with(mut document: Value, place: &str, value: Value) -> Value {
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match (parent.as_object_mut(), value) {
        (Some(members), Value::Null) => drop(members.remove(name)),
        (Some(members), value) => drop(members.insert(name.into(), value)),
        (None, value) => *parent.get_mut(name.parse::<usize>().unwrap()).unwrap() = value,
    }
    document
}
