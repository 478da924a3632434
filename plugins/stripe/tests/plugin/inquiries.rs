//! What became of it: by the best number there is, and never more than was found.

use interlock_plugin_api::testkit::{Drive, TestHost, Wanted};
use interlock_plugin_api::{Fact, Money, Operation, Request, Send, What};
use serde_json::{Value, json};

use crate::{
    INTENT, LATER, OP, REFUND, answer, asking, asking_about, code, error, intent, list, plain,
    refund, released, taken_later, with,
};

const MISSING: &str = "resource_missing";
const INVALID: &str = "invalid_request_error";

#[test]
fn an_intent_is_read_by_its_number() {
    let row = |body: &Value| answer(Operation::Inquire, asking(true), 200, body);
    for (status, what) in [
        ("succeeded", What::Captured),
        ("processing", What::Pending),
        ("requires_action", What::Action),
        ("requires_confirmation", What::Approved),
        ("requires_payment_method", What::Declined),
        ("canceled", What::Declined),
        ("teleported", What::Unknown),
    ] {
        let fact = row(&intent(status));
        assert_eq!((fact.what, fact.provider_ref.as_deref()), (what, Some(INTENT)), "{status}");
    }
    // Nobody but we may go on with it, or the word means something else.
    let automatic =
        with(intent("requires_confirmation"), "confirmation_method", json!("automatic"));
    assert_eq!(row(&automatic).what, What::Unknown);
    let other = with(intent("succeeded"), "id", json!("pi_another"));
    let foreign = with(intent("succeeded"), "metadata", json!({ "interlock_attempt": LATER }));
    for body in [other, foreign, json!({}), json!([])] {
        assert_eq!(row(&body).what, What::Unknown);
    }
}

#[test]
fn no_such_intent_is_the_providers_own_word_alone() {
    let missing = error(INVALID, Some(MISSING));
    let fact = answer(Operation::Inquire, asking(true), 404, &missing);
    assert_eq!(code(&fact), (What::NotFound, Some("404:resource_missing")));
    for body in [json!({}), error(INVALID, None), json!("gone")] {
        assert_eq!(answer(Operation::Inquire, asking(true), 404, &body).what, What::Unknown);
    }
    for status in [400, 401, 403, 429, 500, 503] {
        let fact = answer(Operation::Inquire, asking(true), status, &missing);
        assert_eq!(fact.what, What::Unknown, "{status}");
    }
}

#[test]
fn a_hit_is_read_by_its_number_and_no_hit_proves_nothing() {
    let hits = list("search_result", vec![intent("processing")], false);
    let (send, fact) = found(&hits, 200, &intent("succeeded"));
    assert_eq!(send.path, format!("/v1/payment_intents/{INTENT}"));
    assert_eq!(fact.what, What::Captured);
    // The search has just named it, so what the provider says next contradicts.
    let (_, fact) = found(&hits, 404, &error(INVALID, Some(MISSING)));
    assert_eq!(fact.what, What::Unknown);

    let searched = |body: &Value| answer(Operation::Inquire, asking(false), 200, body);
    let none = list("search_result", vec![], false);
    assert_eq!(code(&searched(&none)), (What::NotFound, None));
    let foreign = with(intent("succeeded"), "metadata", json!({ "interlock_attempt": LATER }));
    assert_eq!(searched(&list("search_result", vec![foreign.clone()], false)).what, What::NotFound);
    for (body, why) in [
        (list("search_result", vec![foreign], true), "search_incomplete"),
        (
            list("search_result", vec![intent("canceled"), intent("succeeded")], false),
            "several_hits",
        ),
        (list("list", vec![], false), "unreadable"),
        (json!({ "object": "search_result", "data": [] }), "unreadable"),
        (
            list("search_result", vec![with(intent("succeeded"), "id", json!("ch_1"))], false),
            "no_payment_id",
        ),
    ] {
        assert_eq!(code(&searched(&body)), (What::Unknown, Some(why)));
    }
}

#[test]
fn a_capture_and_a_void_are_what_their_intent_shows() {
    let row = |op, body: &Value| answer(Operation::InquireOperation, about(op), 200, body);
    let taken = row(Operation::Capture, &taken_later(1_200));
    let amount = Money::new(1_200, asking(true).amount.currency);
    assert_eq!((taken.what, taken.amount), (What::Captured, Some(amount)));
    assert_eq!(row(Operation::Void, &released()).what, What::Voided);
    // Still held: neither was carried out, which may change.
    for op in [Operation::Capture, Operation::Void] {
        let fact = row(op, &intent("requires_capture"));
        assert_eq!(code(&fact), (What::NotFound, None));
        assert_eq!(row(op, &json!({})).what, What::Unknown);
    }
    let gone = row(Operation::Capture, &released());
    assert_eq!(code(&gone), (What::Declined, Some("status:canceled")));
    let elsewhere = with(taken_later(1_200), "metadata", json!({ "interlock_attempt": OP }));
    assert_eq!(row(Operation::Capture, &elsewhere).what, What::Unknown);
    assert_eq!(row(Operation::Void, &taken_later(4_900)).what, What::Unknown);
}

#[test]
fn a_refund_is_read_by_its_number() {
    let r = || asking_about(Operation::Refund, Some(REFUND));
    let row = |body: &Value| answer(Operation::InquireOperation, r(), 200, body);
    let done = row(&refund("succeeded"));
    assert_eq!((done.what, done.operation_ref.as_deref()), (What::Refunded, Some(REFUND)));
    // One that was made at the dashboard has no number of ours.
    assert_eq!(row(&with(refund("succeeded"), "metadata", json!({}))).what, What::Refunded);
    for body in [
        with(refund("succeeded"), "id", json!("re_another")),
        with(refund("succeeded"), "payment_intent", json!("pi_another")),
        with(refund("succeeded"), "metadata", json!({ "interlock_refund": "another1" })),
        json!({}),
    ] {
        assert_eq!(row(&body).what, What::Unknown, "{body}");
    }
    let missing = error(INVALID, Some(MISSING));
    assert_eq!(answer(Operation::InquireOperation, r(), 404, &missing).what, What::NotFound);
}

#[test]
fn a_refund_without_a_number_is_looked_for_on_every_page() {
    let other = |id: &str| with(with(refund("succeeded"), "id", json!(id)), "metadata", json!({}));
    let row =
        |body: &Value| answer(Operation::InquireOperation, about(Operation::Refund), 200, body);
    let hit = row(&list("list", vec![other("re_1"), refund("pending")], true));
    assert_eq!((hit.what, hit.operation_ref.as_deref()), (What::Pending, Some(REFUND)));
    assert_eq!(row(&list("list", vec![other("re_1")], false)).what, What::NotFound);
    let twice = vec![refund("succeeded"), with(refund("succeeded"), "id", json!("re_2"))];
    for (body, why) in [
        (list("list", twice, false), "several_hits"),
        (list("list", vec![], true), "list_too_long"),
        (
            list("list", vec![with(other("re_1"), "payment_intent", json!("pi_2"))], false),
            "other_payment",
        ),
        (list("search_result", vec![], false), "unreadable"),
    ] {
        assert_eq!(code(&row(&body)), (What::Unknown, Some(why)));
    }

    let (plugin, host) = (plain(), TestHost::default());
    let mut drive =
        Drive::new(&plugin, &host, Operation::InquireOperation, about(Operation::Refund));
    let (mut send, _) = drive.start().unwrap().sent();
    for page in 0..7 {
        let after = send.query.iter().find(|(name, _)| name == "starting_after");
        let last = page.to_string();
        assert_eq!(after.map(|(_, id)| id.clone()), (page > 0).then(|| format!("re_{last}")));
        let body = list("list", vec![other(&format!("re_{}", page + 1))], true).to_string();
        match drive.answer(200, body.as_bytes()).unwrap() {
            Wanted::Send(next, _) => send = next,
            Wanted::Done(done) => {
                assert_eq!(
                    (page, code(&done.facts[0])),
                    (6, (What::Unknown, Some("list_too_long")))
                );
                return;
            }
        }
    }
    unreachable!("it would take more than eight steps");
}

#[test]
fn a_probe_is_answered_by_no_such_payment() {
    let (plugin, host) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::Probe, asking(true));
    let (send, _) = drive.start().unwrap().sent();
    assert_eq!(send.path, "/v1/payment_intents/pi_00112233445566778899aabbccddeeff");
    let missing = error(INVALID, Some(MISSING)).to_string();
    let done = drive.answer(404, missing.as_bytes()).unwrap().done();
    assert_eq!(done.facts[0].what, What::NotFound);
    for (status, body) in [(404, "<html>"), (200, "{}"), (401, ""), (503, missing.as_str())] {
        let mut drive = Drive::new(&plugin, &host, Operation::Probe, asking(true));
        drive.start().unwrap().sent();
        let done = drive.answer(status, body.as_bytes()).unwrap().done();
        assert_eq!(done.facts[0].what, What::Unknown, "{status}");
    }
}

fn about(operation: Operation) -> Request {
    asking_about(operation, None)
}

/// The second question, and what its answer says.
fn found(hits: &Value, status: u16, body: &Value) -> (Send, Fact) {
    let (plugin, host) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::Inquire, asking(false));
    drive.start().unwrap().sent();
    let (send, _) = drive.answer(200, hits.to_string().as_bytes()).unwrap().sent();
    let mut done = drive.answer(status, body.to_string().as_bytes()).unwrap().done();
    (send, done.facts.remove(0))
}
