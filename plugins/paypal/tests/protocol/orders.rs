//! What orders say: every status of an order, a capture and an authorization, in answers to the
//! shopper's return and in inquiries; and answers that are about something else.

use interlock_plugin_api::{CaptureMode, Class, Fact, Operation, Request, Scope, What};
use serde_json::{Value, json};

use crate::peer::{
    self, ORDER, authorization, capture, heard, heard_raw, later, order, payment, problem, said,
    with,
};

const AUTOMATIC: CaptureMode = CaptureMode::Automatic;
const MANUAL: CaptureMode = CaptureMode::Manual;

fn link(rel: &str, href: &str) -> Value {
    json!([{ "href": href, "rel": rel, "method": "GET" }])
}

fn page() -> String {
    format!("https://www.paypal.com/checkoutnow?token={ORDER}")
}

fn units(fact: &Fact) -> Option<i64> {
    fact.amount.filter(|money| money.currency.as_str() == "EUR").map(|money| money.amount)
}

#[test]
fn a_new_order_is_an_offer_with_the_page_of_its_form() {
    for (status, word, rel) in [
        (201, "CREATED", "approve"),
        (200, "PAYER_ACTION_REQUIRED", "payer-action"),
        (201, "PAYER_ACTION_REQUIRED", "payer-action"),
    ] {
        let full = with(order(word, "CAPTURE", Value::Null), "/links", link(rel, &page()));
        let minimal = with(full.clone(), "/purchase_units", Value::Null);
        for body in [full, minimal] {
            let facts = heard(Operation::Authorize, payment(AUTOMATIC), &[(status, body)]);
            let [fact] = &facts[..] else { unreachable!("{facts:?}") };
            assert_eq!(fact.what, What::Action);
            assert_eq!(fact.provider_ref.as_deref(), Some(ORDER));
            let action = fact.action.as_ref().unwrap();
            assert_eq!((action.kind.as_str(), action.expires_ms), ("redirect", None));
            assert_eq!(action.payload["url"], page().as_str());
        }
    }
}

#[test]
fn anything_else_is_no_offer() {
    let good = with(order("CREATED", "CAPTURE", Value::Null), "/links", link("approve", &page()));
    for (place, value) in [
        ("/status", json!("APPROVED")),
        ("/status", json!("COMPLETED")),
        ("/status", json!("zzz")),
        ("/id", json!("a/b")),
        ("/id", json!("")),
        ("/intent", json!("AUTHORIZE")),
        ("/links", json!([])),
        ("/links", link("self", &page())),
        ("/links", link("approve", "javascript:alert(1)")),
        ("/links", link("approve", "http://www.paypal.com/x")),
        ("/links", link("approve", "https://www.paypal.com/a b")),
        ("/purchase_units/0/custom_id", json!("another")),
        ("/purchase_units/0/custom_id", Value::Null),
        ("/purchase_units/0/amount/value", json!("49.01")),
        ("/purchase_units/0/amount/currency_code", json!("USD")),
        ("/purchase_units/0/amount", Value::Null),
    ] {
        let body = with(good.clone(), place, value.clone());
        let facts = heard(Operation::Authorize, payment(AUTOMATIC), &[(201, body)]);
        assert_eq!(facts[0].what, What::Unknown, "{place} {value}");
        assert!(facts[0].provider_ref.is_none() && facts[0].action.is_none());
    }
    let two = with(
        good.clone(),
        "/purchase_units",
        json!([good["purchase_units"][0], good["purchase_units"][0]]),
    );
    for (status, body) in [(201, two), (202, good.clone()), (302, good.clone()), (500, good)] {
        let facts = heard(Operation::Authorize, payment(AUTOMATIC), &[(status, body)]);
        assert_eq!(facts[0].what, What::Unknown, "{status}");
    }
}

/// What a payment's captures and authorization say, in both places where an order is read.
fn table() -> Vec<(CaptureMode, Value, What, What, Option<&'static str>)> {
    let captures = |all: Value| json!({ "captures": all });
    let waits = |mut resource: Value, reason: &str| {
        resource["status_details"] = json!({ "reason": reason });
        resource
    };
    let held = |status: &str| json!({ "authorizations": [authorization(status)] });
    let both = |status: &str, taken: &str| {
        let captures = json!([capture(taken)]);
        json!({ "authorizations": [authorization(status)], "captures": captures })
    };
    let (yes, no) = (What::Captured, What::Unknown);
    let refused = What::Declined;
    vec![
        (AUTOMATIC, captures(json!([capture("COMPLETED")])), yes, yes, None),
        (AUTOMATIC, captures(json!([capture("PARTIALLY_REFUNDED")])), yes, yes, None),
        (
            AUTOMATIC,
            captures(json!([waits(capture("PENDING"), "ECHECK")])),
            What::Pending,
            What::Pending,
            Some("ECHECK"),
        ),
        (
            AUTOMATIC,
            captures(json!([capture("PENDING")])),
            What::Pending,
            What::Pending,
            Some("PENDING"),
        ),
        (
            AUTOMATIC,
            captures(json!([capture("DECLINED")])),
            refused,
            What::ClosedUnpaid,
            Some("DECLINED"),
        ),
        (
            AUTOMATIC,
            captures(json!([capture("FAILED")])),
            refused,
            What::ClosedUnpaid,
            Some("FAILED"),
        ),
        (AUTOMATIC, captures(json!([capture("zzz")])), no, no, Some("unlisted_status")),
        (AUTOMATIC, captures(json!([])), no, no, Some("no_capture")),
        (AUTOMATIC, captures(json!([capture("DECLINED"), capture("COMPLETED")])), yes, yes, None),
        (
            AUTOMATIC,
            captures(json!([capture("DECLINED"), capture("PENDING")])),
            What::Pending,
            What::Pending,
            Some("PENDING"),
        ),
        // An automatic payment is never held.
        (AUTOMATIC, held("CREATED"), no, no, Some("no_capture")),
        (MANUAL, held("CREATED"), What::Authorized, What::Authorized, None),
        (MANUAL, held("PENDING"), What::Pending, What::Pending, Some("PENDING")),
        (MANUAL, held("DENIED"), refused, What::ClosedUnpaid, Some("DENIED")),
        (MANUAL, held("VOIDED"), What::Voided, What::Voided, Some("VOIDED")),
        (MANUAL, held("EXPIRED"), no, no, Some("unlisted_status")),
        (MANUAL, held("CAPTURED"), no, no, Some("unlisted_status")),
        (MANUAL, held("zzz"), no, no, Some("unlisted_status")),
        (MANUAL, json!({}), no, no, Some("no_authorization")),
        (MANUAL, both("CAPTURED", "COMPLETED"), yes, yes, None),
        (MANUAL, both("PARTIALLY_CAPTURED", "COMPLETED"), yes, yes, None),
        (MANUAL, both("CAPTURED", "PENDING"), What::Pending, What::Pending, Some("PENDING")),
        // A refused capture leaves what is held.
        (MANUAL, both("CREATED", "DECLINED"), What::Authorized, What::Authorized, None),
        (
            MANUAL,
            json!({ "authorizations": [authorization("CREATED"), authorization("CREATED")] }),
            no,
            no,
            Some("no_authorization"),
        ),
    ]
}

#[test]
fn every_status_of_a_capture_and_an_authorization_says_one_thing() {
    for (mode, payments, back, asked, code) in table() {
        let intent = if mode == AUTOMATIC { "CAPTURE" } else { "AUTHORIZE" };
        let body = order("COMPLETED", intent, payments);
        for (op, what) in [(Operation::Continue, back), (Operation::Inquire, asked)] {
            for status in [200, 201] {
                let fact = said(op, mode, status, body.clone());
                assert_eq!(fact.what, what, "{op:?} {body}");
                assert_eq!(fact.provider_ref.as_deref(), Some(ORDER));
                assert_eq!(fact.provider_code.as_deref(), code, "{body}");
                let moved = matches!(what, What::Captured | What::Authorized);
                assert_eq!(units(&fact), moved.then_some(4_900), "{body}");
                let stored = !matches!(what, What::Pending | What::Unknown);
                assert_eq!(fact.scope == Scope::Key, stored, "{body}");
                if what == What::Declined {
                    assert_eq!(fact.class, Some(Class::DeclinedSoft));
                }
            }
        }
    }
}

#[test]
fn what_was_given_back_in_full_is_told_beside_what_was_taken() {
    let refunded = |refunds: Value| {
        order(
            "COMPLETED",
            "CAPTURE",
            json!({ "captures": [capture("REFUNDED")], "refunds": refunds }),
        )
    };
    let asked =
        |body| heard(Operation::Inquire, later(Operation::Inquire, AUTOMATIC), &[(200, body)]);
    for refunds in [json!([]), json!([peer::refund("COMPLETED")])] {
        let facts = asked(refunded(refunds));
        let whats: Vec<What> = facts.iter().map(|fact| fact.what).collect();
        assert_eq!(whats, [What::Captured, What::Refunded]);
        assert_eq!(facts[1].amount, None, "how much is told by each refund");
    }
    let facts = asked(refunded(json!([peer::refund("PENDING")])));
    assert_eq!(facts.len(), 1, "it may still bounce");
    assert_eq!(said(Operation::Continue, AUTOMATIC, 201, refunded(json!([]))).what, What::Captured);
}

#[test]
fn several_captures_are_summed_and_must_agree() {
    let part = |value: &str| with(capture("COMPLETED"), "/amount", peer::money(value));
    let taken = |parts: &[&str]| {
        let parts: Vec<Value> = parts.iter().map(|value| part(value)).collect();
        let held = [authorization("PARTIALLY_CAPTURED")];
        order("COMPLETED", "AUTHORIZE", json!({ "authorizations": held, "captures": parts }))
    };
    let fact = said(Operation::Inquire, MANUAL, 200, taken(&["12.34", "10.00"]));
    assert_eq!((fact.what, units(&fact)), (What::Captured, Some(2_234)));
    let mut mixed = taken(&["12.34", "10.00"]);
    mixed["purchase_units"][0]["payments"]["captures"][1]["amount"]["currency_code"] = "USD".into();
    assert_eq!(said(Operation::Inquire, MANUAL, 200, mixed).what, What::Unknown);
}

#[test]
fn the_status_of_an_order_says_how_far_the_shopper_came() {
    for (status, what) in [
        ("CREATED", What::Action),
        ("SAVED", What::Action),
        ("PAYER_ACTION_REQUIRED", What::Action),
        ("APPROVED", What::Approved),
        ("VOIDED", What::ClosedUnpaid),
        ("COMPLETED", What::Unknown),
        ("EXPIRED", What::Unknown),
        ("zzz", What::Unknown),
        ("", What::Unknown),
    ] {
        let body = with(order(status, "CAPTURE", Value::Null), "/links", link("approve", &page()));
        let fact = said(Operation::Inquire, AUTOMATIC, 200, body);
        assert_eq!(fact.what, what, "{status}");
        assert!(fact.action.is_none(), "an inquiry shows nothing anew");
    }
    // Money in an order that is not completed contradicts it.
    let paid = json!({ "captures": [capture("COMPLETED")] });
    for status in ["CREATED", "APPROVED", "PAYER_ACTION_REQUIRED", "SAVED"] {
        let fact = said(Operation::Inquire, AUTOMATIC, 200, order(status, "CAPTURE", paid.clone()));
        assert_eq!(fact.provider_code.as_deref(), Some("disagreement"));
    }
    let voided = json!({ "authorizations": [authorization("VOIDED")] });
    let fact = said(Operation::Inquire, MANUAL, 200, order("VOIDED", "AUTHORIZE", voided));
    assert_eq!(fact.what, What::Voided);
}

#[test]
fn an_order_about_something_else_says_nothing() {
    let good = peer::captured_order();
    for (place, value) in [
        ("/id", json!("3XY00000000000000")),
        ("/intent", json!("AUTHORIZE")),
        ("/purchase_units/0/custom_id", json!("another")),
        ("/purchase_units/0/custom_id", json!("OP1234567890")),
        ("/purchase_units/0/custom_id", Value::Null),
        ("/purchase_units/0/amount/value", json!("49.01")),
        ("/purchase_units/0/amount/value", json!("49")),
        ("/purchase_units/0/amount/value", json!("-49.00")),
        ("/purchase_units/0/amount/value", json!("4.9e1")),
        ("/purchase_units/0/amount/currency_code", json!("USD")),
        ("/purchase_units/0/amount", Value::Null),
        ("/purchase_units", json!([])),
        ("/purchase_units/0/payments/captures/0/amount/value", json!("48.99")),
        ("/purchase_units/0/payments/captures/0/amount/currency_code", json!("USD")),
        ("/purchase_units/0/payments/captures/0/amount", Value::Null),
        ("/purchase_units/0/payments/captures/0/status", json!("completed")),
        ("/purchase_units/0/payments/captures/0/status", Value::Null),
        ("/purchase_units/0/payments", Value::Null),
        ("/status", json!("completed")),
        ("/status", Value::Null),
    ] {
        let same = value == json!("49");
        let body = with(good.clone(), place, value.clone());
        for op in [Operation::Continue, Operation::Inquire] {
            let what = if same { What::Captured } else { What::Unknown };
            assert_eq!(said(op, AUTOMATIC, 200, body.clone()).what, what, "{op:?} {place} {value}");
        }
    }
    let two = json!([good["purchase_units"][0], good["purchase_units"][0]]);
    let two = with(good, "/purchase_units", two);
    assert_eq!(said(Operation::Inquire, AUTOMATIC, 200, two).what, What::Unknown);
    // Without a representation only the number and the word are there.
    let minimal = json!({ "id": ORDER, "status": "COMPLETED", "links": [] });
    assert_eq!(said(Operation::Continue, AUTOMATIC, 201, minimal).what, What::Unknown);
}

#[test]
fn only_an_order_that_is_not_there_is_not_found() {
    let asked = |status, body: Value| said(Operation::Inquire, AUTOMATIC, status, body);
    for body in [problem(404, "INVALID_RESOURCE_ID"), json!({ "name": "RESOURCE_NOT_FOUND" })] {
        assert_eq!(asked(404, body.clone()).what, What::NotFound);
        assert_eq!(asked(400, body).what, What::Unknown);
    }
    let pages: [&[u8]; 4] = [b"", b"{}", b"<html>404</html>", b"[\"RESOURCE_NOT_FOUND\"]"];
    for body in pages {
        let r = later(Operation::Inquire, AUTOMATIC);
        let facts = heard_raw(Operation::Inquire, r, &[(404, body.to_vec())]);
        assert_eq!(facts[0].what, What::Unknown);
    }
}

#[test]
fn a_shopper_who_must_choose_again_is_sent_to_the_page() {
    for issue in ["INSTRUMENT_DECLINED", "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING"] {
        let body = problem(422, issue);
        let sent = with(body.clone(), "/links", link("redirect", &page()));
        let fact = said(Operation::Continue, AUTOMATIC, 422, sent);
        assert_eq!((fact.what, fact.provider_code.as_deref()), (What::Action, Some(issue)));
        assert_eq!(fact.action.unwrap().payload["url"], page().as_str());
        let fact = said(Operation::Continue, AUTOMATIC, 422, body.clone());
        assert_eq!(fact.what, What::Declined, "nothing was taken, and no page is named");
        let unsafe_link = with(body.clone(), "/links", link("redirect", "http://evil.example/"));
        assert_eq!(said(Operation::Continue, AUTOMATIC, 422, unsafe_link).what, What::Declined);
        // It is documented for captures alone.
        assert_eq!(said(Operation::Continue, MANUAL, 422, body).what, What::Unknown);
    }
    let refused = with(problem(422, "TRANSACTION_REFUSED"), "/links", link("redirect", &page()));
    assert_eq!(said(Operation::Continue, AUTOMATIC, 422, refused).what, What::Declined);
}

#[test]
fn a_shopper_who_has_not_approved_is_sent_to_what_the_order_names() {
    let r = || later(Operation::Continue, AUTOMATIC);
    let open = with(order("CREATED", "CAPTURE", Value::Null), "/links", link("approve", &page()));
    for (status, issue) in
        [(422, "ORDER_NOT_APPROVED"), (422, "PAYER_ACTION_REQUIRED"), (403, "CONSENT_NEEDED")]
    {
        let first = (status, problem(status, issue));
        let facts = heard(Operation::Continue, r(), &[first.clone(), (200, open.clone())]);
        let [fact] = &facts[..] else { unreachable!("{facts:?}") };
        assert_eq!((fact.what, fact.provider_code.as_deref()), (What::Action, Some(issue)));
        assert_eq!(fact.class, Some(Class::Verification));
        assert_eq!(fact.action.as_ref().unwrap().payload["url"], page().as_str());
        // Its own link is taken where there is one, and nothing is asked.
        let named = with(first.1.clone(), "/links", link("payer-action", &page()));
        assert_eq!(said(Operation::Continue, AUTOMATIC, status, named).what, What::Action);
        // What the order says meanwhile counts; what it does not say is a doubt, never a refusal.
        let paid = heard(Operation::Continue, r(), &[first.clone(), (200, peer::captured_order())]);
        assert_eq!(paid[0].what, What::Captured);
        for (status, body) in [
            (200, order("APPROVED", "CAPTURE", Value::Null)),
            (200, order("CREATED", "CAPTURE", Value::Null)),
            (200, order("VOIDED", "CAPTURE", Value::Null)),
            (200, with(open.clone(), "/id", json!("another"))),
            (404, problem(404, "INVALID_RESOURCE_ID")),
            (503, problem(503, "SERVICE_UNAVAILABLE")),
        ] {
            let facts = heard(Operation::Continue, r(), &[first.clone(), (status, body)]);
            assert_eq!(facts[0].what, What::Unknown, "{facts:?}");
        }
    }
}

#[test]
fn an_answer_that_is_not_completed_is_no_payment() {
    for status in ["CREATED", "APPROVED", "SAVED", "PAYER_ACTION_REQUIRED", "VOIDED", "zzz"] {
        let bare = order(status, "CAPTURE", Value::Null);
        assert_eq!(said(Operation::Continue, AUTOMATIC, 201, bare.clone()).what, What::Unknown);
        let named = with(bare, "/links", link("payer-action", &page()));
        let waits = matches!(status, "CREATED" | "SAVED" | "PAYER_ACTION_REQUIRED");
        let what = if waits { What::Action } else { What::Unknown };
        assert_eq!(said(Operation::Continue, AUTOMATIC, 201, named).what, what, "{status}");
    }
}

#[test]
fn no_status_and_no_unreadable_body_is_a_result() {
    let bodies: [&[u8]; 6] =
        [b"", b"{}", b"[]", b"<html>502</html>", b"{\"id\":", br#"{"status":"zzz"}"#];
    for (op, r) in peer::operations() {
        for status in (100..600).filter(|status| *status != 404) {
            for body in bodies {
                let facts = heard_raw(op, r.clone(), &[(status, body.to_vec())]);
                assert_eq!(facts.len(), 1);
                assert_eq!(facts[0].what, What::Unknown, "{op:?} {status}");
            }
        }
    }
    let r = Request { ..later(Operation::Void, MANUAL) };
    for (status, body) in [(204, &b"{}"[..]), (200, b""), (201, b""), (202, b""), (404, b"")] {
        let first = peer::held_order().to_string().into_bytes();
        let facts = heard_raw(Operation::Void, r.clone(), &[(200, first), (status, body.to_vec())]);
        assert_eq!(facts[0].what, What::Unknown, "{status}");
    }
}
