//! The plugin as the host meets it: steps in, requests and facts out, through the test kit.

#![allow(clippy::unwrap_used)]

mod answers;
mod codes;
mod damage;
mod honesty;
mod manifest;
mod notices;
mod requests;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;
#[path = "../../../../tests/src/readers.rs"]
mod readers;

use adyen::Adyen;
use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{
    CaptureMode, Credential, Details, Event, Fact, Operation, Original, Provider, Request, What,
};
use serde_json::{Value, json};

const OP: &str = "op1234567890";
const PSP: &str = "QFQTPCQ8HXSKGK82";
const NUMBER: &str = "4000000000004917";
const CRYPTOGRAM: &str = "Q0FOQVJZLUNSWVBUT0dSQU0=";
const STORED: &str = "M5N7TQ4TG5PFWR50";

fn account(config: Value) -> Adyen {
    Adyen::open(&config).unwrap()
}

fn plain() -> Adyen {
    account(json!({ "merchant_account": "ShopEU", "return_url": "https://shop.example/back" }))
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

/// A card's own number, out of a wallet that held no cryptogram.
fn card() -> Credential {
    Credential::Card {
        number: NUMBER.into(),
        expiry_month: 7,
        expiry_year: 2031,
        source: "google_pay".into(),
    }
}

/// An account that lets shoppers pass 3-D Secure.
fn challenging() -> Adyen {
    account(json!({
        "merchant_account": "ShopEU", "return_url": "https://shop.example/back",
        "three_d_secure": true,
    }))
}

/// A payment of 49.00 EUR by a decrypted Apple Pay token.
fn payment() -> Request {
    let mut r = request(4_900, "EUR", 2);
    r.method = "card".into();
    r.flow = "token".into();
    r.credential = Some(network_token("apple_pay"));
    r
}

fn manual() -> Request {
    Request { capture: CaptureMode::Manual, ..payment() }
}

/// The same by a token that is stored there, for a shopper whom the merchant names.
fn stored() -> Request {
    let mut r = payment();
    r.credential = Some(Credential::AccountToken { token: STORED.into() });
    r.customer.id = Some("shopper-7".into());
    r
}

/// A later operation of that payment, under its own number.
fn later(amount: i64, capture: CaptureMode) -> Request {
    let mut r = request(amount, "EUR", 2);
    r.op_id = "opLater0001".into();
    r.capture = capture;
    r.original = Some(Original {
        op_id: OP.into(),
        provider_ref: Some(PSP.into()),
        amount: payment().amount,
    });
    r
}

/// The shopper came back from a challenge.
fn back() -> Request {
    let mut r = later(4_900, CaptureMode::Automatic);
    r.details = Some(Details(json!({ "redirectResult": "eyJ0cmFucyI6IjEifQ" })));
    r
}

/// Every operation that sends something.
fn moves() -> [(Operation, Request); 6] {
    let (auto, manual) = (CaptureMode::Automatic, CaptureMode::Manual);
    [
        (Operation::Authorize, payment()),
        (Operation::Continue, back()),
        (Operation::Capture, later(100, manual)),
        (Operation::Void, later(4_900, manual)),
        (Operation::Refund, later(100, auto)),
        (Operation::Refund, later(4_900, auto)),
    ]
}

fn authorised() -> Value {
    json!({
        "pspReference": PSP, "resultCode": "Authorised", "merchantReference": "op1234567890-auto",
        "amount": { "currency": "EUR", "value": 4900 },
    })
}

/// The same under manual capture.
fn held() -> Value {
    with(authorised(), "merchantReference", json!("op1234567890-manual"))
}

fn refused(code: &str) -> Value {
    json!({
        "pspReference": PSP, "resultCode": "Refused", "refusalReasonCode": code,
        "refusalReason": "x", "merchantReference": "op1234567890-auto",
    })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn without(mut body: Value, field: &str) -> Value {
    body.as_object_mut().unwrap().remove(field);
    body
}

/// The one fact that this answer to the operation's request ends in.
fn told(op: Operation, r: Request, status: u16, transient: Option<&str>, body: &[u8]) -> Fact {
    let (plugin, host) = (challenging(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, op, r);
    drive.start().unwrap().sent();
    let headers =
        transient.map(|value| ("transient-error".to_owned(), value.to_owned())).into_iter();
    let event = Event::Response { status, headers: headers.collect() };
    let done = drive.step(event, body).unwrap().done();
    assert_eq!(done.facts.len(), 1);
    done.facts.into_iter().next().unwrap()
}

fn answer(op: Operation, r: Request, status: u16, body: &Value) -> Fact {
    told(op, r, status, None, body.to_string().as_bytes())
}

fn code(fact: &Fact) -> (What, Option<&str>) {
    (fact.what, fact.provider_code.as_deref())
}
