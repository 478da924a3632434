//! Notifications: nothing counts without its signature, and what counts is read by its type.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Class, Done, Event, Fact, FaultKind, Host, Operation, Scope, What};
use serde_json::{Value, json};

use crate::{
    INTENT, LATER, OP, REFUND, code, intent, payment, plain, refund, refused, taken_later, with,
};

/// The time of every test, s.
const NOW: i64 = 1_764_000_000;
const KEY: &[u8] = b"whsec_a_secret_in_whole";

#[test]
fn each_type_has_its_meaning() {
    for (kind, status, what) in [
        ("payment_intent.succeeded", "succeeded", What::Captured),
        ("payment_intent.amount_capturable_updated", "requires_capture", What::Authorized),
        ("payment_intent.processing", "processing", What::Pending),
        ("payment_intent.requires_action", "requires_action", What::Action),
    ] {
        let fact = fact(kind, shown(status));
        assert_eq!(fact.what, what, "{kind}");
        assert_eq!(fact.op_id.as_deref(), Some(OP));
        assert_eq!(fact.provider_ref.as_deref(), Some(INTENT));
        if what != What::Pending {
            assert_eq!(fact.amount, Some(payment().amount));
        }
    }
}

#[test]
fn a_failure_is_a_hint_and_no_verdict() {
    let kind = "payment_intent.payment_failed";
    let failed = fact(kind, shown("requires_payment_method"));
    let why = "payment_intent.payment_failed:card_declined:insufficient_funds";
    assert_eq!(code(&failed), (What::Unknown, Some(why)));
    assert_eq!((failed.class, failed.op_id.as_deref()), (Some(Class::User), Some(OP)));
    let ended = fact("payment_intent.canceled", shown("canceled"));
    assert_eq!(ended.what, What::Unknown);
    assert!(ended.provider_code.unwrap().starts_with("payment_intent.canceled"));
}

#[test]
fn a_capture_of_ours_is_told_under_its_own_number() {
    let told = fact("payment_intent.succeeded", taken_later(1_200));
    assert_eq!((told.what, told.op_id.as_deref()), (What::Captured, Some(LATER)));
    assert_eq!(told.amount.map(|money| money.amount), Some(1_200));
    let elsewhere = with(taken_later(1_200), "metadata", json!({ "interlock_attempt": OP }));
    assert_eq!(fact("payment_intent.succeeded", elsewhere).op_id.as_deref(), Some(OP));
}

#[test]
fn an_event_that_shows_something_else_than_its_name_is_a_hint() {
    for (kind, status) in [
        ("payment_intent.succeeded", "processing"),
        ("payment_intent.processing", "succeeded"),
        ("payment_intent.requires_action", "requires_payment_method"),
    ] {
        assert_eq!(code(&fact(kind, shown(status))), (What::Unknown, Some(kind)));
    }
    let strange = with(shown("succeeded"), "capture_method", json!("automatic_async"));
    assert_eq!(fact("payment_intent.succeeded", strange).what, What::Unknown);
}

#[test]
fn refunds_are_told_by_their_own_events() {
    for kind in ["refund.created", "refund.updated", "charge.refund.updated"] {
        let told = fact(kind, refund("succeeded"));
        assert_eq!((told.what, told.scope), (What::Refunded, Scope::Key), "{kind}");
        assert_eq!(told.op_id.as_deref(), Some(LATER));
        assert_eq!(told.operation_ref.as_deref(), Some(REFUND));
        assert_eq!(told.provider_ref.as_deref(), Some(INTENT));
    }
    let bounced = with(refund("failed"), "failure_reason", json!("expired_or_canceled_card"));
    let told = fact("refund.failed", bounced);
    assert_eq!(code(&told), (What::Failed, Some("refund:expired_or_canceled_card")));
    // Made at the dashboard: no number of ours.
    let outside = fact("refund.created", with(refund("succeeded"), "metadata", json!({})));
    assert_eq!((outside.what, outside.op_id), (What::Refunded, None));
    // Of a charge without an intent: none of ours.
    let foreign = with(refund("succeeded"), "payment_intent", Value::Null);
    assert!(signed(&event("refund.created", foreign)).facts.is_empty());
}

#[test]
fn disputes_sums_and_other_types_say_nothing_and_are_acknowledged() {
    for kind in [
        "charge.refunded",
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.succeeded",
        "payment_intent.created",
        "payment_intent.teleported",
    ] {
        let done = signed(&event(kind, json!({ "id": 7, "amount": "many" })));
        assert!(done.verified && done.facts.is_empty(), "{kind}");
        assert_eq!(done.event_id.as_deref(), Some("evt_1"));
        let ack = done.ack.unwrap();
        assert_eq!((ack.status, &*ack.content_type, &*ack.body), (200, "application/json", "{}"));
    }
}

#[test]
fn a_number_that_is_not_ours_is_not_passed_on_as_ours() {
    let mut body = shown("succeeded");
    body["metadata"]["interlock_attempt"] = json!("order for Ann");
    let told = fact("payment_intent.succeeded", body);
    assert_eq!((told.op_id, told.provider_ref.as_deref()), (None, Some(INTENT)));
}

#[test]
fn a_signed_body_of_another_form_is_not_acknowledged() {
    let kind = "payment_intent.succeeded";
    for body in [
        "".into(),
        "[]".into(),
        "{}".into(),
        "\u{feff}{}".into(),
        event(kind, json!(null)),
        event(kind, json!([])),
        event(kind, with(shown("succeeded"), "id", json!("pi_1/x"))),
        event(kind, with(shown("succeeded"), "amount_received", json!("4900"))),
        event(kind, shown("succeeded")).replace("evt_1", "odd_1"),
        event(kind, shown("succeeded")).replace("\"event\"", "\"v2.event\""),
        refused("card_declined", None).to_string(),
    ] {
        let done = signed(&body);
        assert!(done.verified && done.facts.is_empty(), "{body}");
        assert_eq!(done.ack.unwrap().status, 400);
    }
}

#[test]
fn any_of_several_signatures_will_do_and_other_schemes_will_not() {
    let body = event("payment_intent.succeeded", shown("succeeded"));
    let good = signature(NOW, body.as_bytes());
    let bad = "0".repeat(64);
    for (header, verified) in [
        (format!("t={NOW},v1={good}"), true),
        (format!("t={NOW},v1={bad},v1={good},v0=6ffb"), true),
        (format!("v1={good},t={NOW}"), true),
        (format!("t={NOW}, v1={good}"), true),
        (format!("t={NOW},v1={bad}"), false),
        (format!("t={NOW},v0={good}"), false),
        (format!("t={NOW},v1=zz"), false),
        (format!("t={NOW},t={NOW},v1={good}"), false),
        (format!("t={},v1={good}", NOW + 1), false),
        (format!("t=+{NOW},v1={good}"), false),
        (format!("v1={good}"), false),
        (format!("t=,v1={good}"), false),
        (format!("t={}9999999999,v1={good}", i64::MAX), false),
        (good.clone(), false),
        (String::new(), false),
    ] {
        let done = heard(&header, body.as_bytes());
        assert_eq!(done.verified, verified, "{header}");
        assert_eq!(done.ack.unwrap().status, if verified { 200 } else { 401 });
    }
    let (plugin, host) = (plain(), host());
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    assert!(!drive.notified(&[], body.as_bytes()).unwrap().done().verified);
}

#[test]
fn a_replay_is_refused_by_its_time_in_both_directions() {
    let body = event("payment_intent.succeeded", shown("succeeded"));
    for (age, verified) in
        [(0, true), (299, true), (300, true), (301, false), (-300, true), (-301, false)]
    {
        let header = format!("t={},v1={}", NOW - age, signature(NOW - age, body.as_bytes()));
        assert_eq!(heard(&header, body.as_bytes()).verified, verified, "{age} s");
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let body = event("payment_intent.succeeded", shown("succeeded"));
    let header = format!("t={NOW},v1={}", signature(NOW, body.as_bytes()));
    assert!(heard(&header, body.as_bytes()).verified);
    for i in 0..body.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut bytes = body.clone().into_bytes();
            bytes[i] ^= mask;
            let done = heard(&header, &bytes);
            assert!(!done.verified && done.facts.is_empty() && done.event_id.is_none());
        }
    }
    let another = TestHost::default().with_mac("webhook_key", b"whsec_another");
    let plugin = plain();
    let mut drive = Drive::new(&plugin, &another, Operation::ParseNotification, payment());
    let done = drive.notified(&[("stripe-signature", &header)], body.as_bytes()).unwrap().done();
    assert!(!done.verified);
}

#[test]
fn only_a_notification_can_be_read() {
    let (plugin, host) = (plain(), host());
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    assert_eq!(drive.step(Event::Start, b"{}").unwrap_err().kind, FaultKind::Input);
}

/// An intent as an event shows it: the charge is only named.
fn shown(status: &str) -> Value {
    let body = intent(status);
    let named = !body["latest_charge"].is_null();
    if named { with(body, "latest_charge", json!("ch_3MtwBw")) } else { body }
}

fn event(kind: &str, object: Value) -> String {
    json!({
        "id": "evt_1", "object": "event", "api_version": "2026-10-28.endive", "created": NOW,
        "type": kind, "livemode": true, "pending_webhooks": 1, "data": { "object": object },
    })
    .to_string()
}

fn host() -> TestHost {
    TestHost::default().with_mac("webhook_key", KEY)
}

fn signature(time: i64, body: &[u8]) -> String {
    let content = [format!("{time}.").as_bytes(), body].concat();
    let mac = host().mac("webhook_key", &content).unwrap();
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn heard(header: &str, body: &[u8]) -> Done {
    let (plugin, host) = (plain(), host());
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    drive.notified(&[("stripe-signature", header)], body).unwrap().done()
}

fn signed(body: &str) -> Done {
    heard(&format!("t={NOW},v1={}", signature(NOW, body.as_bytes())), body.as_bytes())
}

fn fact(kind: &str, object: Value) -> Fact {
    let done = signed(&event(kind, object));
    assert!(done.verified, "{kind}");
    assert_eq!(done.facts.len(), 1, "{kind}");
    done.facts.into_iter().next().unwrap()
}
