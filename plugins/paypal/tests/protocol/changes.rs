//! Captures, voids and refunds: every status, answers about something else, and how they are found
//! again.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    CaptureMode, Class, Fact, Operation, Request, Scope, TransportLoss, What,
};
use serde_json::{Value, json};

use crate::peer::{
    self, AUTHORIZATION, CAPTURE, CHANGE, PAYMENT, REFUND, authorization, capture_of_part, changed,
    heard, heard_raw, later, order, problem, refund, with,
};

/// The statuses of a capture of ours.
const CAPTURES: [(&str, What); 8] = [
    ("COMPLETED", What::Captured),
    ("PARTIALLY_REFUNDED", What::Captured),
    ("REFUNDED", What::Captured),
    ("PENDING", What::Pending),
    ("DECLINED", What::Declined),
    ("FAILED", What::Declined),
    ("zzz", What::Unknown),
    ("", What::Unknown),
];
/// The statuses of a refund of ours.
const REFUNDS: [(&str, What); 6] = [
    ("COMPLETED", What::Refunded),
    ("PENDING", What::Pending),
    ("FAILED", What::Failed),
    ("CANCELLED", What::Failed),
    ("zzz", What::Unknown),
    ("", What::Unknown),
];

fn asked(target: (Operation, Option<&str>), status: u16, body: Value) -> Fact {
    let target = Some((target.0, target.1.map(str::to_owned)));
    let r = Request { target, ..later(Operation::InquireOperation, CaptureMode::Manual) };
    let mut facts = heard(Operation::InquireOperation, r, &[(status, body)]);
    assert_eq!(facts.len(), 1);
    facts.remove(0)
}

fn agrees(fact: &Fact, what: What, reference: &str) {
    assert_eq!(fact.what, what, "{fact:?}");
    assert_eq!(fact.operation_ref.as_deref(), Some(reference));
    let moved = matches!(what, What::Captured | What::Refunded);
    assert_eq!(fact.amount.map(|money| money.amount), moved.then_some(1_234));
    let stored = !matches!(what, What::Pending | What::Unknown);
    assert_eq!(fact.scope == Scope::Key, stored, "{fact:?}");
}

#[test]
fn every_status_of_a_capture_says_one_thing_wherever_it_is_read() {
    for (status, what) in CAPTURES {
        for http in [200, 201] {
            agrees(&changed(Operation::Capture, http, capture_of_part(status)), what, CAPTURE);
        }
        let known = (Operation::Capture, Some(CAPTURE));
        agrees(&asked(known, 200, capture_of_part(status)), what, CAPTURE);
        let payments = json!({ "authorizations": [authorization("PARTIALLY_CAPTURED")],
            "captures": [peer::capture("COMPLETED"), capture_of_part(status)] });
        let found = order("COMPLETED", "AUTHORIZE", payments);
        agrees(&asked((Operation::Capture, None), 200, found), what, CAPTURE);
    }
}

#[test]
fn every_status_of_a_refund_says_one_thing_wherever_it_is_read() {
    for (status, what) in REFUNDS {
        for http in [200, 201] {
            agrees(&changed(Operation::Refund, http, refund(status)), what, REFUND);
        }
        agrees(&asked((Operation::Refund, Some(REFUND)), 200, refund(status)), what, REFUND);
        let other = with(refund("COMPLETED"), "/custom_id", json!(PAYMENT));
        let payments = json!({ "captures": [peer::capture("PARTIALLY_REFUNDED")],
            "refunds": [other, refund(status)] });
        let found = order("COMPLETED", "AUTHORIZE", payments);
        agrees(&asked((Operation::Refund, None), 200, found), what, REFUND);
    }
    // A refund of one of several captures says which.
    let marked = with(refund("COMPLETED"), "/custom_id", json!(format!("{CHANGE}:{CAPTURE}")));
    agrees(&changed(Operation::Refund, 201, marked), What::Refunded, REFUND);
}

#[test]
fn every_status_of_an_authorization_is_a_void_or_none() {
    for (status, what) in [
        ("VOIDED", What::Voided),
        ("CREATED", What::Unknown),
        ("CAPTURED", What::Unknown),
        ("PARTIALLY_CAPTURED", What::Unknown),
        ("PENDING", What::Unknown),
        ("DENIED", What::Unknown),
        ("EXPIRED", What::Unknown),
        ("zzz", What::Unknown),
    ] {
        assert_eq!(changed(Operation::Void, 200, authorization(status)).what, what, "{status}");
        let found = match status {
            "CREATED" | "PENDING" => What::NotFound,
            _ => what,
        };
        let payments = json!({ "authorizations": [authorization(status)] });
        let fact = asked((Operation::Void, None), 200, order("COMPLETED", "AUTHORIZE", payments));
        assert_eq!(fact.what, found, "{status}");
    }
    let r = later(Operation::Void, CaptureMode::Manual);
    let first = peer::held_order().to_string().into_bytes();
    let facts = heard_raw(Operation::Void, r, &[(200, first), (204, Vec::new())]);
    assert_eq!(facts[0].what, What::Voided, "without content it is done");
}

#[test]
fn an_answer_about_something_else_is_a_doubt() {
    for (op, good, reference) in [
        (Operation::Capture, capture_of_part("COMPLETED"), CAPTURE),
        (Operation::Refund, refund("COMPLETED"), REFUND),
    ] {
        for (place, value) in [
            ("/custom_id", json!("another")),
            ("/amount/value", json!("12.35")),
            ("/amount/value", json!("12.345")),
            ("/amount/value", json!(12.34)),
            ("/amount/currency_code", json!("USD")),
            ("/amount", Value::Null),
            ("/status", json!("completed")),
            ("/id", json!("a/b")),
            ("/id", Value::Null),
        ] {
            let body = with(good.clone(), place, value.clone());
            let fact = changed(op, 201, body.clone());
            assert_eq!(fact.what, What::Unknown, "{op:?} {place} {value}");
            let fact = asked((op, Some(reference)), 200, body);
            assert_eq!(fact.what, What::Unknown, "{op:?} {place} {value}");
        }
        let other = asked((op, Some("9XX00000000000000")), 200, good);
        assert_eq!(other.what, What::Unknown, "another one than was asked for");
    }
    let invoice = with(capture_of_part("COMPLETED"), "/invoice_id", json!("another"));
    assert_eq!(changed(Operation::Capture, 201, invoice).what, What::Unknown);
    for (place, value) in [("/id", json!("9XX00000000000000")), ("/custom_id", json!("another"))] {
        let body = with(authorization("VOIDED"), place, value);
        assert_eq!(changed(Operation::Void, 200, body).what, What::Unknown, "{place}");
    }
}

#[test]
fn nothing_under_our_number_is_not_found_and_two_are_a_doubt() {
    let payments = json!({ "authorizations": [authorization("CAPTURED")],
        "captures": [peer::capture("COMPLETED")] });
    let body = order("COMPLETED", "AUTHORIZE", payments);
    for op in [Operation::Refund, Operation::Capture] {
        assert_eq!(asked((op, None), 200, body.clone()).what, What::NotFound);
    }
    let twice = with(
        body.clone(),
        "/purchase_units/0/payments/refunds",
        json!([refund("COMPLETED"), refund("FAILED")]),
    );
    let fact = asked((Operation::Refund, None), 200, twice);
    assert_eq!(fact.provider_code.as_deref(), Some("several_hits"));
    // Another order, or none, says nothing of a part of ours.
    let other = with(body, "/id", json!("another"));
    let gone = problem(404, "INVALID_RESOURCE_ID");
    for (status, body) in [(200, other), (404, gone.clone())] {
        assert_eq!(asked((Operation::Refund, None), status, body).what, What::Unknown);
    }
    assert_eq!(asked((Operation::Refund, Some(REFUND)), 404, gone).what, What::NotFound);
}

#[test]
fn nothing_is_changed_when_the_order_can_not_be_read() {
    for op in [Operation::Capture, Operation::Void, Operation::Refund] {
        let r = later(op, CaptureMode::Manual);
        let renewed =
            json!({ "authorizations": [authorization("CREATED"), authorization("VOIDED")] });
        for (status, body) in [
            (404, problem(404, "INVALID_RESOURCE_ID")),
            (401, problem(401, "AUTHENTICATION_FAILURE")),
            (429, problem(429, "RATE_LIMIT_REACHED")),
            (503, problem(503, "SERVICE_UNAVAILABLE")),
            (200, json!({})),
            (200, with(peer::held_order(), "/id", json!("another"))),
            (200, with(peer::held_order(), "/purchase_units/0/custom_id", json!("another"))),
            (200, order("COMPLETED", "AUTHORIZE", renewed)),
            (200, order("APPROVED", "AUTHORIZE", Value::Null)),
        ] {
            let facts = heard(op, r.clone(), &[(status, body)]);
            assert_eq!(facts[0].what, What::Unknown, "{op:?} {status}: {facts:?}");
        }
    }
}

#[test]
fn a_refund_that_the_balance_does_not_cover_is_asked_again() {
    let body = problem(422, "REFUND_FAILED_INSUFFICIENT_FUNDS");
    let fact = changed(Operation::Refund, 422, body.clone());
    assert_eq!((fact.what, fact.class), (What::Pending, Some(Class::AccountRestricted)));
    assert_eq!(changed(Operation::Capture, 422, body).what, What::Unknown);
}

#[test]
fn a_lost_answer_says_nothing_of_the_money() {
    for (op, r) in peer::operations() {
        for (outcome, code) in
            [(TransportLoss::NotSent, "not_sent"), (TransportLoss::MaybeSent, "no_answer")]
        {
            let (plugin, host) = (peer::provider(), TestHost::default());
            let mut drive = Drive::new(&plugin, &host, op, r.clone());
            drive.start().unwrap().sent();
            let done = drive.lost(outcome).unwrap().done();
            assert_eq!(done.facts[0].what, What::Unknown);
            assert_eq!(done.facts[0].provider_code.as_deref(), Some(code));
        }
    }
    let (plugin, host) = (peer::provider(), TestHost::default());
    let r = later(Operation::Void, CaptureMode::Manual);
    let mut drive = Drive::new(&plugin, &host, Operation::Void, r);
    drive.start().unwrap().sent();
    let (send, _) = drive.answer(200, peer::held_order().to_string().as_bytes()).unwrap().sent();
    assert!(send.path.contains(AUTHORIZATION));
    let done = drive.lost(TransportLoss::MaybeSent).unwrap().done();
    assert_eq!(done.facts[0].what, What::Unknown);
}
