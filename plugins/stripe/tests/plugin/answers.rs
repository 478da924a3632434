//! What each documented answer to a move is read as, and that its parts must agree.

use interlock_plugin_api::{Class, Money, Operation, Scope, What};
use serde_json::{Value, json};

use crate::{
    INTENT, REFUND, answer, back, charge, code, error, intent, later, manual, payment, refund,
    refused, released, taken_later, with, without,
};

const AUTHORIZE: Operation = Operation::Authorize;

#[test]
fn every_status_has_its_row() {
    let row = |body: &Value| answer(AUTHORIZE, payment(), 200, body);
    let paid = row(&intent("succeeded"));
    assert_eq!((paid.what, paid.scope), (What::Captured, Scope::Key));
    assert_eq!(paid.amount, Some(payment().amount));
    assert_eq!(paid.provider_ref.as_deref(), Some(INTENT));
    let held = answer(AUTHORIZE, manual(), 200, &intent("requires_capture"));
    assert_eq!((held.what, held.amount), (What::Authorized, Some(payment().amount)));
    let waits = row(&intent("processing"));
    assert_eq!(code(&waits), (What::Pending, Some("status:processing")));
    let acts = row(&intent("requires_action"));
    assert_eq!((acts.what, acts.amount), (What::Action, Some(payment().amount)));
    let action = acts.action.unwrap();
    assert_eq!(action.kind, "three_d_secure");
    assert!(action.payload["url"].as_str().unwrap().starts_with("https://hooks.stripe.com/"));
    let failed = row(&intent("requires_payment_method"));
    let why = "card_declined:insufficient_funds";
    assert_eq!(code(&failed), (What::Declined, Some(why)));
    let ended = row(&intent("canceled"));
    assert_eq!(code(&ended), (What::Declined, Some("status:canceled")));
    assert_eq!(code(&answer(AUTHORIZE, manual(), 200, &released())), (What::Voided, None));
    for status in ["requires_source", "Succeeded", "", "4000000000004917"] {
        assert_eq!(row(&intent(status)).what, What::Unknown, "{status}");
    }
    assert_eq!(row(&intent("4000 0000")).provider_code.as_deref(), Some("status:unreadable"));
}

#[test]
fn what_was_just_confirmed_and_waits_for_it_contradicts() {
    for op in [(AUTHORIZE, payment()), (Operation::Continue, back())] {
        let fact = answer(op.0, op.1, 200, &intent("requires_confirmation"));
        assert_eq!(code(&fact), (What::Unknown, Some("status:requires_confirmation")));
    }
}

#[test]
fn nothing_tried_is_no_refusal() {
    let untried = with(intent("requires_payment_method"), "last_payment_error", Value::Null);
    let fact = answer(AUTHORIZE, payment(), 200, &untried);
    assert_eq!(code(&fact), (What::Unknown, Some("status:requires_payment_method")));
}

#[test]
fn whatever_does_not_agree_is_unknown() {
    let paid = || intent("succeeded");
    let cases = [
        with(paid(), "amount_received", json!(0)),
        with(paid(), "amount_received", json!(4901)),
        with(paid(), "amount_received", Value::Null),
        with(paid(), "currency", json!("euro")),
        with(paid(), "capture_method", json!("manual")),
        with(paid(), "latest_charge", charge("failed", false)),
        with(paid(), "latest_charge", charge("succeeded", false)),
        with(paid(), "latest_charge", Value::Null),
        with(paid(), "object", json!("setup_intent")),
        with(paid(), "id", json!("pi_1/../refunds")),
        with(paid(), "id", json!("ch_1")),
        with(paid(), "metadata", json!({ "interlock_attempt": "another1" })),
        with(paid(), "metadata", json!({})),
        without(paid(), "metadata"),
        with(intent("canceled"), "amount_received", json!(4900)),
        with(intent("canceled"), "latest_charge", charge("succeeded", true)),
        with(intent("canceled"), "latest_charge", json!("ch_1")),
        with(intent("requires_payment_method"), "amount_received", json!(1)),
        with(intent("requires_payment_method"), "latest_charge", charge("succeeded", true)),
        with(intent("requires_payment_method"), "last_payment_error", json!({ "code": "new" })),
        with(intent("requires_action"), "next_action", Value::Null),
        with(intent("requires_action"), "next_action", json!({ "type": "use_stripe_sdk" })),
    ];
    for body in cases {
        assert_eq!(answer(AUTHORIZE, payment(), 200, &body).what, What::Unknown, "{body}");
    }
    // A hold is none of an automatic payment's.
    let held = with(intent("requires_capture"), "capture_method", json!("automatic"));
    assert_eq!(answer(AUTHORIZE, payment(), 200, &held).what, What::Unknown);
    assert_eq!(answer(AUTHORIZE, manual(), 200, &held).what, What::Unknown);
}

#[test]
fn a_shopper_is_sent_to_https_only() {
    for (url, what) in [
        ("https://acs.example/1", What::Action),
        ("http://127.0.0.1:9/3ds", What::Action),
        ("http://acs.example/1", What::Unknown),
        ("http://localhost@acs.example/", What::Unknown),
        ("javascript:alert(1)", What::Unknown),
        ("https://acs.example/a b", What::Unknown),
    ] {
        let mut body = intent("requires_action");
        body["next_action"]["redirect_to_url"]["url"] = json!(url);
        assert_eq!(answer(AUTHORIZE, payment(), 200, &body).what, what, "{url}");
    }
}

#[test]
fn a_refusal_of_the_card_is_the_keys_own_result() {
    for op in [(AUTHORIZE, payment()), (Operation::Continue, back())] {
        let body = refused("card_declined", Some("stolen_card"));
        let fact = answer(op.0, op.1, 402, &body);
        assert_eq!(code(&fact), (What::Declined, Some("card_declined:stolen_card")));
        assert_eq!((fact.class, fact.scope), (Some(Class::DeclinedFraud), Scope::Key));
        assert_eq!(fact.provider_ref.as_deref(), Some(INTENT));
    }
    let mut other = refused("card_declined", None);
    other["error"]["payment_intent"]["metadata"]["interlock_attempt"] = json!("another1");
    let mut taken = refused("card_declined", None);
    taken["error"]["payment_intent"]["amount_received"] = json!(4900);
    let new_type = with(refused("card_declined", None), "error", json!({ "type": "odd" }));
    for body in [other, taken, new_type, refused("a_new_code", None)] {
        assert_eq!(answer(AUTHORIZE, payment(), 402, &body).what, What::Unknown, "{body}");
    }
    // The same words under another status are not what the provider documents.
    for status in [200, 400, 404, 409, 500, 502] {
        let fact = answer(AUTHORIZE, payment(), status, &refused("card_declined", None));
        assert_eq!(fact.what, What::Unknown, "{status}");
    }
}

#[test]
fn what_was_refused_before_it_began_is_true_of_that_request_alone() {
    let invalid = "invalid_request_error";
    for (status, kind, word, code_told, class) in [
        (429, invalid, Some("rate_limit"), "429:rate_limit", Class::RateLimited),
        (401, invalid, None, "401:invalid_request_error", Class::AccountRestricted),
        (400, invalid, Some("parameter_missing"), "400:parameter_missing", Class::User),
        (400, invalid, Some("resource_missing"), "400:resource_missing", Class::User),
        (404, invalid, Some("resource_missing"), "404:resource_missing", Class::User),
        (400, invalid, Some("amount_too_small"), "400:amount_too_small", Class::User),
    ] {
        let fact = answer(AUTHORIZE, payment(), status, &error(kind, word));
        assert_eq!(code(&fact), (What::Declined, Some(code_told)));
        assert_eq!((fact.class, fact.scope), (Some(class), Scope::Send), "{code_told}");
    }
}

#[test]
fn what_says_nothing_of_the_first_one_is_unknown() {
    let invalid = "invalid_request_error";
    for (status, kind, word, class) in [
        (400, "idempotency_error", None, Class::Duplicate),
        (409, "idempotency_error", Some("idempotency_key_in_use"), Class::Duplicate),
        (409, invalid, Some("idempotency_key_in_use"), Class::Duplicate),
        (400, invalid, Some("payment_intent_unexpected_state"), Class::Duplicate),
        (429, invalid, Some("lock_timeout"), Class::RateLimited),
        (429, "odd", None, Class::RateLimited),
        (401, "odd", Some("odd"), Class::AccountRestricted),
        (403, invalid, None, Class::AccountRestricted),
        (400, invalid, Some("token_already_used"), Class::User),
        (402, invalid, Some("odd"), Class::User),
        (424, "api_error", None, Class::Unmapped),
        (500, "api_error", None, Class::ProviderDown),
        (503, "api_error", Some("parameter_missing"), Class::ProviderDown),
    ] {
        let fact = answer(AUTHORIZE, payment(), status, &error(kind, word));
        assert_eq!((fact.what, fact.class), (What::Unknown, Some(class)), "{status} {word:?}");
    }
    let used = answer(AUTHORIZE, payment(), 409, &error(invalid, Some("idempotency_key_in_use")));
    assert_eq!(used.provider_code.as_deref(), Some("409:idempotency_key_in_use"));
}

#[test]
fn a_replayed_500_stays_a_doubt_whatever_stands_in_it() {
    for body in [intent("succeeded"), refused("card_declined", None), error("api_error", None)] {
        let fact = answer(AUTHORIZE, payment(), 500, &body);
        assert_eq!(code(&fact), (What::Unknown, Some("http_500")));
        assert_eq!(fact.class, Some(Class::ProviderDown));
    }
}

#[test]
fn an_intent_that_is_further_than_was_thought_says_so_itself() {
    let mut body = error("invalid_request_error", Some("payment_intent_unexpected_state"));
    body["error"]["payment_intent"] = intent("succeeded");
    assert_eq!(answer(Operation::Continue, back(), 400, &body).what, What::Captured);
    body["error"]["payment_intent"] = intent("requires_confirmation");
    assert_eq!(answer(Operation::Continue, back(), 400, &body).what, What::Unknown);
    body["error"]["payment_intent"] = taken_later(1_200);
    assert_eq!(answer(Operation::Capture, later(1_200), 400, &body).what, What::Captured);
    body["error"]["payment_intent"] = released();
    assert_eq!(answer(Operation::Void, later(4_900), 400, &body).what, What::Voided);
    body["error"]["code"] = json!("payment_intent_authentication_failure");
    let mut failed = intent("requires_payment_method");
    failed["last_payment_error"]["code"] = json!("payment_intent_authentication_failure");
    body["error"]["payment_intent"] = failed;
    let fact = answer(Operation::Continue, back(), 400, &body);
    let why = "payment_intent_authentication_failure";
    assert_eq!(code(&fact), (What::Declined, Some(why)));
    assert_eq!(fact.class, Some(Class::Verification));
}

#[test]
fn a_capture_is_what_was_taken_under_its_own_number() {
    let fact = answer(Operation::Capture, later(1_200), 200, &taken_later(1_200));
    assert_eq!(fact.what, What::Captured);
    assert_eq!(fact.amount, Some(Money::new(1_200, payment().amount.currency)));
    let mut by_another = taken_later(1_200);
    by_another["metadata"]["interlock_capture"] = json!("another1");
    for body in [by_another, intent("succeeded"), intent("requires_capture")] {
        assert_eq!(answer(Operation::Capture, later(1_200), 200, &body).what, What::Unknown);
    }
    let gone = answer(Operation::Capture, later(1_200), 200, &released());
    assert_eq!(code(&gone), (What::Declined, Some("status:canceled")));
}

#[test]
fn a_void_is_an_intent_that_ended() {
    for body in [released(), intent("canceled")] {
        assert_eq!(answer(Operation::Void, later(4_900), 200, &body).what, What::Voided);
    }
    let taken = with(released(), "latest_charge", charge("succeeded", true));
    for body in [intent("succeeded"), intent("requires_capture"), taken] {
        assert_eq!(answer(Operation::Void, later(4_900), 200, &body).what, What::Unknown);
    }
}

#[test]
fn a_refund_is_what_its_status_says() {
    let row = |body: &Value| answer(Operation::Refund, later(4_900), 200, body);
    let done = row(&refund("succeeded"));
    assert_eq!((done.what, done.amount), (What::Refunded, Some(payment().amount)));
    assert_eq!(done.operation_ref.as_deref(), Some(REFUND));
    for status in ["pending", "requires_action"] {
        assert_eq!(row(&refund(status)).what, What::Pending);
    }
    let bounced = with(refund("failed"), "failure_reason", json!("lost_or_stolen_card"));
    assert_eq!(code(&row(&bounced)), (What::Failed, Some("refund:lost_or_stolen_card")));
    assert_eq!(code(&row(&refund("canceled"))), (What::Failed, Some("refund:canceled")));
    let cases = [
        refund("teleported"),
        with(refund("succeeded"), "payment_intent", json!("pi_another")),
        with(refund("succeeded"), "metadata", json!({ "interlock_refund": "another1" })),
        with(refund("succeeded"), "metadata", json!({})),
        with(refund("succeeded"), "amount", json!(0)),
        with(refund("succeeded"), "failure_reason", json!("unknown")),
        with(refund("succeeded"), "id", json!("ch_1")),
    ];
    for body in cases {
        assert_eq!(row(&body).what, What::Unknown, "{body}");
    }
    let gone = error("invalid_request_error", Some("charge_already_refunded"));
    let fact = answer(Operation::Refund, later(4_900), 400, &gone);
    assert_eq!(code(&fact), (What::Unknown, Some("400:charge_already_refunded")));
}
