//! Notifications: nothing counts without its signature, and what counts is read by its type.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    Class, Done, Event, Fact, FaultKind, Host, Money, Operation, Request, What,
};
use serde_json::{Value, json};

use crate::{OP, PAYMENT, code, payment, plain, with};

#[test]
fn each_type_has_its_meaning() {
    let cases = [
        ("payment_approved", What::Authorized),
        ("payment_pending", What::Pending),
        ("payment_captured", What::Captured),
        ("payment_capture_pending", What::Pending),
        ("payment_voided", What::Voided),
        ("payment_refunded", What::Refunded),
        ("payment_refund_pending", What::Pending),
    ];
    for (kind, what) in cases {
        let fact = fact(kind, data("10000"));
        assert_eq!(fact.what, what, "{kind}");
        assert_eq!(fact.op_id.as_deref(), Some(OP));
        assert_eq!(fact.provider_ref.as_deref(), Some(PAYMENT));
        if matches!(what, What::Authorized | What::Captured | What::Refunded) {
            assert_eq!(fact.amount, Some(payment().amount));
        }
    }
}

#[test]
fn an_action_is_named_and_a_payment_is_not() {
    assert_eq!(fact("payment_captured", data("10000")).operation_ref.as_deref(), Some("act_5"));
    assert_eq!(fact("payment_approved", data("10000")).operation_ref, None);
}

#[test]
fn a_refused_payment_is_a_hint_and_no_verdict() {
    let declined = fact("payment_declined", data("20051"));
    assert_eq!(code(&declined), (What::Unknown, Some("payment_declined:20051")));
    assert_eq!(declined.class, Some(Class::User));
    for kind in ["payment_expired", "payment_canceled"] {
        let mut data = data("");
        data.as_object_mut().unwrap().remove("response_code");
        let lapsed = fact(kind, data);
        assert_eq!(code(&lapsed), (What::Unknown, Some(kind)));
        assert_eq!(lapsed.class, Some(Class::Expired));
    }
}

#[test]
fn a_refused_action_failed() {
    for (kind, what) in [
        ("payment_capture_declined", What::Failed),
        ("payment_refund_declined", What::Failed),
        ("payment_void_declined", What::Declined),
    ] {
        let fact = fact(kind, data("20005"));
        assert_eq!(code(&fact), (what, Some("20005")), "{kind}");
        assert_eq!(fact.operation_ref.as_deref(), Some("act_5"));
        assert_eq!(self::fact(kind, data("10000")).what, What::Unknown);
    }
}

#[test]
fn a_success_that_contradicts_itself_is_unknown() {
    for kind in ["payment_approved", "payment_captured", "payment_refunded"] {
        assert_eq!(fact(kind, data("20005")).what, What::Unknown);
        assert_eq!(fact(kind, with(data("10000"), "amount", json!(0))).what, What::Unknown);
        assert_eq!(fact(kind, with(data("10000"), "currency", Value::Null)).what, What::Unknown);
    }
}

#[test]
fn other_types_say_nothing_and_are_acknowledged() {
    for kind in ["card_verified", "dispute_received", "authentication_failed", "payment_teleported"]
    {
        let done = signed(&notice(kind, json!({"id": 7, "amount": "many"})));
        assert!(done.verified && done.facts.is_empty(), "{kind}");
        assert_eq!(done.event_id.as_deref(), Some("evt_1"));
        let ack = done.ack.unwrap();
        assert_eq!((ack.status, &*ack.content_type, &*ack.body), (200, "application/json", "{}"));
    }
}

#[test]
fn a_number_that_is_not_ours_is_not_passed_on_as_ours() {
    let fact = fact("payment_refunded", with(data("10000"), "reference", json!("refund for Ann")));
    assert_eq!(fact.op_id, None);
    assert_eq!(fact.provider_ref.as_deref(), Some(PAYMENT));
}

#[test]
fn a_signed_body_of_another_form_is_not_acknowledged() {
    let odd = [
        "".into(),
        "[]".into(),
        "{}".into(),
        "\u{feff}{}".into(),
        notice("payment_captured", json!(null)),
        notice("payment_captured", json!([])),
        notice("payment_captured", with(data("10000"), "amount", json!("4900"))),
        notice("payment_captured", with(data("10000"), "id", json!("pay_1/x"))),
    ];
    for body in odd {
        let done = signed(&body);
        assert!(done.verified && done.facts.is_empty(), "{body}");
        assert_eq!(done.ack.unwrap().status, 400);
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let body = notice("payment_captured", data("10000"));
    let signature = sign(body.as_bytes());
    assert!(heard(&signature, body.as_bytes()).verified);
    for i in 0..body.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut tampered = body.clone().into_bytes();
            tampered[i] ^= mask;
            refused(&heard(&signature, &tampered));
        }
    }
    for i in 0..signature.len() {
        // The lowest bit: a letter's 0x20 is only its case, which hex does not tell.
        let mut tampered = signature.clone().into_bytes();
        tampered[i] ^= 1;
        refused(&heard(&String::from_utf8(tampered).unwrap(), body.as_bytes()));
    }
}

#[test]
fn a_signature_that_is_missing_short_or_of_another_key_is_refused() {
    let body = notice("payment_captured", data("10000"));
    let good = sign(body.as_bytes());
    let other = TestHost::default().with_mac("webhook_key", b"another key");
    let wrong = hex::encode(other.mac("webhook_key", body.as_bytes()).unwrap());
    let long = format!("{good}00");
    for signature in ["", "zz", &good[..62], &long, &format!(" {good}"), &wrong] {
        refused(&heard(signature, body.as_bytes()));
    }
    let (plugin, host) = (plain(), host());
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    refused(&drive.notified(&[], body.as_bytes()).unwrap().done());
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    let padded = [body.as_bytes(), b" "].concat();
    refused(&drive.notified(&[("cko-signature", &good)], &padded).unwrap().done());
}

#[test]
fn without_a_key_or_a_notice_there_is_a_fault_and_no_fact() {
    let (plugin, bare) = (plain(), TestHost::default());
    let body = notice("payment_captured", data("10000"));
    let mut drive = Drive::new(&plugin, &bare, Operation::ParseNotification, payment());
    let headers = [("cko-signature", &*sign(body.as_bytes()))];
    let fault = drive.notified(&headers, body.as_bytes()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
    let host = host();
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    assert_eq!(drive.step(Event::Start, b"").unwrap_err().kind, FaultKind::Input);
}

fn host() -> TestHost {
    TestHost::default().with_mac("webhook_key", b"the webhook's signature key")
}

fn sign(body: &[u8]) -> String {
    hex::encode(host().mac("webhook_key", body).unwrap())
}

fn heard(signature: &str, body: &[u8]) -> Done {
    let (plugin, host) = (plain(), host());
    let r: Request = payment();
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, r);
    drive.notified(&[("cko-signature", signature)], body).unwrap().done()
}

fn signed(body: &str) -> Done {
    heard(&sign(body.as_bytes()), body.as_bytes())
}

fn refused(done: &Done) {
    assert!(!done.verified && done.facts.is_empty() && done.event_id.is_none());
    assert_eq!(done.ack.as_ref().unwrap().status, 401);
}

fn fact(kind: &str, data: Value) -> Fact {
    let done = signed(&notice(kind, data));
    assert!(done.verified);
    assert_eq!(done.ack.unwrap().status, 200);
    done.facts.into_iter().next().unwrap()
}

fn notice(kind: &str, data: Value) -> String {
    json!({
        "id": "evt_1", "type": kind, "version": "1.0.1", "created_on": "2025-01-01T00:00:00Z",
        "data": data, "_links": {},
    })
    .to_string()
}

fn data(response_code: &str) -> Value {
    let Money { amount, currency } = payment().amount;
    json!({
        "id": PAYMENT, "action_id": "act_5", "reference": OP, "amount": amount,
        "currency": currency.as_str(), "response_code": response_code,
    })
}
