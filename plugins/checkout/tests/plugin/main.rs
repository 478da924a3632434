//! The plugin as the host meets it: steps in, requests and facts out, through the test kit.

#![allow(clippy::unwrap_used)]

mod answers;
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

use checkout::Checkout;
use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{
    CaptureMode, Credential, Fact, Operation, Original, Provider, Request, What,
};
use serde_json::{Value, json};

const OP: &str = "op1234567890";
const PAYMENT: &str = "pay_mbabizu24mvu3mela5njyhpit4";
const NUMBER: &str = "4000000000004917";
const CRYPTOGRAM: &str = "Q0FOQVJZLUNSWVBUT0dSQU0=";

fn account(config: Value) -> Checkout {
    Checkout::open(&config).unwrap()
}

fn plain() -> Checkout {
    account(json!({}))
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

/// A later operation of that payment, under its own number.
fn later(amount: i64) -> Request {
    let mut r = request(amount, "EUR", 2);
    r.op_id = "opLater0001".into();
    r.original = Some(Original {
        op_id: OP.into(),
        provider_ref: Some(PAYMENT.into()),
        amount: payment().amount,
    });
    r
}

/// An inquiry about the payment, with or without the provider's number.
fn asking(known: bool) -> Request {
    let mut r = later(4_900);
    r.credential = None;
    if !known {
        r.original.as_mut().unwrap().provider_ref = None;
    }
    r
}

/// An inquiry about a capture, void or refund under `opLater0001`.
fn asking_about(operation: Operation, action: Option<&str>) -> Request {
    Request { target: Some((operation, action.map(Into::into))), ..later(4_900) }
}

fn approved(status: &str) -> Value {
    json!({
        "id": PAYMENT, "action_id": "act_1", "amount": 4900, "currency": "EUR",
        "approved": true, "status": status, "response_code": "10000",
        "response_summary": "Approved", "reference": OP,
    })
}

fn refused(code: &str) -> Value {
    json!({
        "id": PAYMENT, "action_id": "act_1", "amount": 4900, "currency": "EUR",
        "approved": false, "status": "Declined", "response_code": code, "reference": OP,
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

/// The one fact that this answer to the operation's first request ends in.
fn told(plugin: &Checkout, op: Operation, r: Request, status: u16, body: &[u8]) -> Fact {
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
