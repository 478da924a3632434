//! What each documented answer to a move is read as, and that its parts must agree.

use interlock_plugin_api::{Class, Money, Operation, Scope, What};
use serde_json::{Value, json};

use crate::{OP, PAYMENT, answer, approved, code, later, manual, payment, refused, told};
use crate::{plain, with, without};

const AUTHORIZE: Operation = Operation::Authorize;

#[test]
fn an_authorization_is_captured_when_the_provider_captures_by_itself() {
    let fact = answer(AUTHORIZE, payment(), 201, &approved("Authorized"));
    assert_eq!(fact.what, What::Captured);
    assert_eq!(fact.amount, Some(payment().amount));
    assert_eq!(fact.provider_ref.as_deref(), Some(PAYMENT));
    assert_eq!(fact.scope, Scope::Send);
    let fact = answer(AUTHORIZE, manual(), 201, &approved("Authorized"));
    assert_eq!(fact.what, What::Authorized);
}

#[test]
fn every_status_has_its_row() {
    let row = |body: Value| answer(AUTHORIZE, manual(), 201, &body);
    for status in ["Captured", "Paid", "Partially Refunded", "Refunded"] {
        assert_eq!(row(approved(status)).what, What::Captured, "{status}");
    }
    let open = ["Pending", "Requested", "Authentication Requested", "Active", "Retry Scheduled"];
    for status in open {
        let body = without(without(approved(status), "approved"), "response_code");
        assert_eq!(row(body).what, What::Pending, "{status}");
    }
    assert_eq!(row(approved("Voided")).what, What::Voided);
    for status in ["Canceled", "Expired"] {
        let proof = format!("status:{status}");
        let held = row(approved(status));
        assert_eq!(code(&held), (What::Voided, Some(proof.as_str())));
        let never = row(with(approved(status), "approved", json!(false)));
        assert_eq!(code(&never), (What::Declined, Some(proof.as_str())));
        assert_eq!(never.class, Some(Class::Expired));
    }
    for status in ["Card Verified", "Teleported", "authorized", ""] {
        assert_eq!(row(approved(status)).what, What::Unknown, "{status}");
    }
    let odd = row(approved("4000 0000"));
    assert_eq!(code(&odd), (What::Unknown, Some("status:unreadable")));
}

#[test]
fn a_decline_carries_the_class_of_its_code() {
    for (response_code, class) in [
        ("20005", Class::DeclinedSoft),
        ("20051", Class::User),
        ("20059", Class::DeclinedFraud),
        ("20154", Class::Verification),
        ("20006", Class::Config),
        ("30004", Class::DeclinedFraud),
        ("40101", Class::DeclinedFraud),
        ("20777", Class::DeclinedHard),
    ] {
        let fact = answer(AUTHORIZE, payment(), 201, &refused(response_code));
        assert_eq!(code(&fact), (What::Declined, Some(response_code)));
        assert_eq!((fact.class, fact.scope), (Some(class), Scope::Send));
        assert!(fact.advice.is_some());
    }
    let silent = answer(AUTHORIZE, payment(), 201, &without(refused(""), "response_code"));
    assert_eq!(code(&silent), (What::Declined, Some("status:Declined")));
}

#[test]
fn risk_codes_are_read_by_status_and_not_by_group() {
    let flagged = with(approved("Authorized"), "response_code", json!("10100"));
    assert_eq!(answer(AUTHORIZE, manual(), 201, &flagged).what, What::Authorized);
}

#[test]
fn whatever_does_not_agree_is_unknown() {
    let cases = [
        with(approved("Authorized"), "approved", json!(false)),
        without(approved("Authorized"), "approved"),
        with(approved("Authorized"), "approved", json!("true")),
        with(approved("Authorized"), "response_code", json!("20005")),
        with(approved("Authorized"), "response_code", json!("60000")),
        with(approved("Authorized"), "reference", json!("opOther")),
        with(approved("Authorized"), "amount", json!(49.0)),
        with(approved("Authorized"), "amount", json!("4900")),
        with(approved("Authorized"), "amount", json!(0)),
        with(approved("Authorized"), "id", json!("pay_1/../x")),
        with(approved("Authorized"), "id", json!("")),
        without(approved("Authorized"), "id"),
        without(approved("Authorized"), "amount"),
        without(approved("Authorized"), "currency"),
        without(approved("Authorized"), "status"),
        with(approved("Captured"), "balances", json!({"total_captured": 0})),
        with(approved("Captured"), "balances", json!({"total_captured": 4901})),
        with(approved("Voided"), "approved", json!(false)),
        with(approved("Voided"), "balances", json!({"total_captured": 1})),
        without(approved("Expired"), "approved"),
        with(
            with(approved("Expired"), "approved", json!(false)),
            "balances",
            json!({"total_authorized": 4900}),
        ),
        with(refused("20005"), "approved", json!(true)),
        without(refused("20005"), "approved"),
        refused("10000"),
        refused("4000000000004917"),
        with(refused("20005"), "response_code", json!(20005)),
        with(refused("20005"), "balances", json!({"total_captured": 4900})),
        with(refused("20005"), "balances", json!({"total_authorized": 4900})),
        approved("Pending"),
        approved("Retry Scheduled"),
    ];
    for body in cases {
        for status in [201, 202] {
            let fact = answer(AUTHORIZE, manual(), status, &body);
            assert_eq!(fact.what, What::Unknown, "{body}");
        }
    }
    let twice = br#"{"status":"Declined","status":"Authorized","approved":true}"#;
    assert_eq!(told(&plain(), AUTHORIZE, manual(), 201, twice).what, What::Unknown);
}

#[test]
fn a_partial_capture_is_never_told_as_full() {
    let captured = |sum: Value| with(approved("Partially Captured"), "balances", sum);
    let fact = answer(AUTHORIZE, manual(), 201, &captured(json!({"total_captured": 1200})));
    let sum = Money::new(1_200, payment().amount.currency);
    assert_eq!((fact.what, fact.amount), (What::Captured, Some(sum)));
    for balances in [json!({}), json!({"total_captured": 4900}), json!({"total_captured": 0})] {
        assert_eq!(answer(AUTHORIZE, manual(), 201, &captured(balances)).what, What::Unknown);
    }
    assert_eq!(answer(AUTHORIZE, manual(), 201, &captured(Value::Null)).what, What::Unknown);
}

#[test]
fn a_challenge_is_shown_and_a_strange_link_is_not() {
    let challenge = |href: &str| {
        let body = json!({
            "id": PAYMENT, "status": "Pending", "reference": OP,
            "3ds": {"downgraded": false, "enrolled": "Y"},
            "_links": {"self": {"href": "x"}, "redirect": {"href": href}},
        });
        answer(AUTHORIZE, payment(), 202, &body)
    };
    let fact = challenge("https://3ds.checkout.example/sid_1");
    let action = fact.action.unwrap();
    assert_eq!((fact.what, action.kind.as_str()), (What::Action, "three_d_secure"));
    assert_eq!(action.payload["url"], "https://3ds.checkout.example/sid_1");
    assert_eq!(fact.provider_ref.as_deref(), Some(PAYMENT));
    assert_eq!(challenge("http://127.0.0.1:8099/acs").what, What::Action);
    let long = format!("https://x/{}", "a".repeat(3_000));
    for href in ["javascript:alert(1)", "http://shop.example/", "", "https://a b", &long] {
        assert_eq!(challenge(href).what, What::Unknown, "{href}");
    }
}

#[test]
fn accepted_is_not_refused() {
    let fact = answer(AUTHORIZE, payment(), 202, &refused("20005"));
    assert_eq!(code(&fact), (What::Unknown, Some("202:Declined")));
}

#[test]
fn http_errors_of_a_payment_prove_nothing_but_are_told_apart() {
    let invalid = json!({"error_type": "request_invalid", "error_codes": ["card_expired"]});
    for (status, body, expected, class) in [
        (401, Value::Null, "401", Class::AccountRestricted),
        (403, Value::Null, "403", Class::Unmapped),
        (409, Value::Null, "409", Class::Duplicate),
        (422, invalid, "422:request_invalid", Class::User),
        (422, json!({"error_type": "other"}), "422", Class::Unmapped),
        (500, refused("20005"), "500", Class::ProviderDown),
        (502, approved("Authorized"), "502", Class::ProviderDown),
        (200, approved("Authorized"), "200", Class::Unmapped),
    ] {
        for op in [AUTHORIZE, Operation::Capture, Operation::Void, Operation::Refund] {
            let r = if op == AUTHORIZE { payment() } else { later(100) };
            let fact = answer(op, r, status, &body);
            assert_eq!(code(&fact), (What::Unknown, Some(expected)), "{op:?}");
            assert_eq!(fact.class, Some(class));
        }
    }
    let fact = answer(AUTHORIZE, payment(), 429, &Value::Null);
    assert_eq!(code(&fact), (What::Declined, Some("429")));
    assert_eq!((fact.class, fact.scope), (Some(Class::RateLimited), Scope::Send));
}

#[test]
fn a_later_move_is_pending_at_best() {
    let accepted = json!({"action_id": "act_7", "reference": "opLater0001", "_links": {}});
    for op in [Operation::Capture, Operation::Void, Operation::Refund] {
        let fact = answer(op, later(100), 202, &accepted);
        assert_eq!(fact.what, What::Pending);
        assert_eq!(fact.operation_ref.as_deref(), Some("act_7"));
        for body in [
            without(accepted.clone(), "action_id"),
            with(accepted.clone(), "action_id", json!("")),
            with(accepted.clone(), "reference", json!("opOther")),
        ] {
            assert_eq!(answer(op, later(100), 202, &body).what, What::Unknown, "{body}");
        }
        for status in [200, 201, 204, 403, 404] {
            assert_eq!(answer(op, later(100), status, &accepted).what, What::Unknown);
        }
    }
}
