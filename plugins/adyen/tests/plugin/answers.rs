//! What each answer to a move is read as, and that its parts must agree.

use interlock_plugin_api::{CaptureMode, Class, Money, Operation, Scope, What};
use serde_json::{Value, json};

use crate::{
    OP, PSP, answer, authorised, back, code, held, later, manual, moves, payment, refused,
};
use crate::{told, with, without};

const AUTHORIZE: Operation = Operation::Authorize;

#[test]
fn an_authorization_is_captured_when_the_provider_captures_by_itself() {
    let fact = answer(AUTHORIZE, payment(), 200, &authorised());
    assert_eq!((fact.what, fact.amount), (What::Captured, Some(payment().amount)));
    assert_eq!((fact.provider_ref.as_deref(), fact.scope), (Some(PSP), Scope::Key));
    let fact = answer(AUTHORIZE, manual(), 200, &held());
    assert_eq!((fact.what, fact.amount), (What::Authorized, Some(payment().amount)));
    let fact = answer(Operation::Continue, back(), 200, &authorised());
    assert_eq!((fact.what, fact.scope), (What::Captured, Scope::Key));
    let zero = with(authorised(), "refusalReasonCode", json!("0"));
    assert_eq!(answer(AUTHORIZE, payment(), 200, &zero).what, What::Captured);
}

#[test]
fn every_result_has_its_row() {
    let row = |result: &str| {
        let fact =
            answer(AUTHORIZE, payment(), 200, &with(authorised(), "resultCode", json!(result)));
        fact.what
    };
    for waits in ["Pending", "Received", "AuthenticationFinished", "AuthenticationNotRequired"] {
        assert_eq!(row(waits), What::Pending, "{waits}");
    }
    assert_eq!(row("Cancelled"), What::Declined);
    for unknown in ["Error", "Success", "authorised", "Approved", "", "Teleported"] {
        assert_eq!(row(unknown), What::Unknown, "{unknown}");
    }
    let error =
        answer(AUTHORIZE, payment(), 200, &with(refused("4"), "resultCode", json!("Error")));
    assert_eq!(code(&error), (What::Unknown, Some("Error")));
    assert_eq!(error.class, Some(Class::ProviderDown));
}

#[test]
fn a_refusal_is_true_of_the_key() {
    let fact = answer(AUTHORIZE, payment(), 200, &refused("2"));
    assert_eq!(code(&fact), (What::Declined, Some("Refused:2")));
    assert_eq!((fact.class, fact.scope), (Some(Class::DeclinedSoft), Scope::Key));
    assert_eq!(fact.provider_ref.as_deref(), Some(PSP));
    let silent = without(refused(""), "refusalReasonCode");
    let fact = answer(AUTHORIZE, payment(), 200, &silent);
    assert_eq!(code(&fact), (What::Declined, Some("Refused")));
    assert_eq!(fact.class, Some(Class::DeclinedHard));
    for strange in ["0", "1", "99", "2x", "4000000000004917"] {
        let fact = answer(AUTHORIZE, payment(), 200, &refused(strange));
        assert_eq!(code(&fact), (What::Unknown, Some("unlisted_refusal")), "{strange}");
    }
}

#[test]
fn a_part_is_never_told_as_all() {
    let partly = |value: i64| {
        let body = with(held(), "resultCode", json!("PartiallyAuthorised"));
        answer(
            AUTHORIZE,
            manual(),
            200,
            &with(body, "amount", json!({ "currency": "EUR", "value": value })),
        )
    };
    let part = Money::new(1_200, payment().amount.currency);
    assert_eq!((partly(1_200).what, partly(1_200).amount), (What::Authorized, Some(part)));
    assert_eq!(partly(4_900).what, What::Unknown, "all of it is no part");
}

#[test]
fn whatever_does_not_agree_is_unknown() {
    let amount = |value: Value| with(authorised(), "amount", value);
    let cases = [
        with(authorised(), "refusalReasonCode", json!("2")),
        with(authorised(), "merchantReference", json!("op1234567890-manual")),
        with(authorised(), "merchantReference", json!(OP)),
        with(authorised(), "merchantReference", json!("other-auto")),
        with(authorised(), "pspReference", json!("a/../b")),
        with(authorised(), "pspReference", json!("")),
        with(authorised(), "resultCode", json!(1)),
        without(authorised(), "resultCode"),
        without(authorised(), "amount"),
        amount(json!({ "currency": "EUR", "value": 0 })),
        amount(json!({ "currency": "EUR", "value": "4900" })),
        amount(json!({ "currency": "EUR", "value": 49.0 })),
        amount(json!({ "currency": "EURO", "value": 4900 })),
        amount(json!({ "value": 4900 })),
        with(refused("2"), "refusalReasonCode", json!(2)),
    ];
    for body in cases {
        for (op, r) in [(AUTHORIZE, payment()), (Operation::Continue, back())] {
            assert_eq!(answer(op, r, 200, &body).what, What::Unknown, "{body}");
        }
    }
    let twice = br#"{"resultCode":"Refused","resultCode":"Authorised"}"#;
    assert_eq!(told(AUTHORIZE, payment(), 200, None, twice).what, What::Unknown);
}

#[test]
fn a_challenge_is_shown_and_a_strange_one_is_not() {
    let challenge = |result: &str, action: Value| {
        let body = json!({ "resultCode": result, "pspReference": PSP, "action": action });
        answer(AUTHORIZE, payment(), 200, &body)
    };
    let redirect = |url: &str, method: &str| {
        challenge(
            "RedirectShopper",
            json!({
                "type": "redirect", "url": url, "method": method, "data": { "MD": "m" },
            }),
        )
    };
    let fact = redirect("https://checkoutshopper-test.adyen.com/3ds?d=1", "GET");
    let action = fact.action.unwrap();
    assert_eq!((fact.what, action.kind.as_str()), (What::Action, "three_d_secure"));
    assert_eq!(action.payload["url"], "https://checkoutshopper-test.adyen.com/3ds?d=1");
    assert!(!action.payload.contains_key("data"));
    assert_eq!(fact.provider_ref.as_deref(), Some(PSP));
    let posted = redirect("https://acs.example/pareq", "POST").action.unwrap();
    assert_eq!(posted.payload["method"], "POST");
    assert_eq!(posted.payload["data"], json!({ "MD": "m" }));
    let native = json!({ "type": "threeDS2", "subtype": "fingerprint", "token": "t" });
    for result in ["IdentifyShopper", "ChallengeShopper"] {
        let shown = challenge(result, native.clone()).action.unwrap();
        assert_eq!((shown.kind.as_str(), &shown.payload["params"]), ("sdk", &native));
    }
    let long = format!("https://x/{}", "a".repeat(5_000));
    for url in ["javascript:alert(1)", "http://shop.example/", "", "https://a b", &long] {
        assert_eq!(redirect(url, "GET").what, What::Unknown, "{url}");
    }
    assert_eq!(redirect("https://a.example", "PUT").what, What::Unknown);
    for action in [json!({ "type": "voucher" }), json!({}), Value::Null] {
        assert_eq!(challenge("PresentToShopper", action.clone()).what, What::Unknown, "{action}");
    }
}

#[test]
fn http_errors_prove_nothing_but_are_told_apart() {
    let error = |code: &str| json!({ "status": 422, "errorCode": code, "message": "x" });
    for (op, r) in moves() {
        for (status, body, expected, class) in [
            (401, Value::Null, "401", Class::AccountRestricted),
            (403, error("010"), "403:010", Class::AccountRestricted),
            (400, error("702"), "400:702", Class::User),
            (422, error("14_030"), "422:14_030", Class::User),
            (422, error("4000 0000"), "422", Class::User),
            (422, error("704"), "422:704", Class::Duplicate),
            (409, error("704"), "409:704", Class::Duplicate),
            (503, error("703"), "503", Class::ProviderDown),
            (500, refused("2"), "500", Class::ProviderDown),
            (502, authorised(), "502", Class::ProviderDown),
            (202, authorised(), "202", Class::Unmapped),
        ] {
            let fact = answer(op, r.clone(), status, &body);
            assert_eq!(code(&fact), (What::Unknown, Some(expected)), "{op:?}");
            assert_eq!(fact.class, Some(class));
        }
        let fact = answer(op, r, 429, &Value::Null);
        assert_eq!(code(&fact), (What::Declined, Some("429")));
        assert_eq!((fact.class, fact.scope), (Some(Class::RateLimited), Scope::Send));
    }
}

#[test]
fn what_may_be_sent_again_says_so_by_its_code() {
    let body = |code: &str| json!({ "errorCode": code }).to_string();
    let said = |status: u16, header: &str, body: &str| {
        told(AUTHORIZE, payment(), status, Some(header), body.as_bytes())
    };
    for status in [409, 422] {
        let busy = said(status, "true", &body("704"));
        assert_eq!(code(&busy), (What::Unknown, Some("transient-error:704")));
        assert_eq!(busy.class, Some(Class::Duplicate));
    }
    let down = said(503, "TRUE", &body("703"));
    assert_eq!(code(&down), (What::Declined, Some("transient-error:703")));
    assert_eq!((down.class, down.scope), (Some(Class::ProviderDown), Scope::Send));
    let other = said(500, "true", "<html>");
    assert_eq!(code(&other), (What::Unknown, Some("transient-error:http-500")));
    // 703 with a status that it does not belong to is any failure.
    assert_eq!(said(500, "true", &body("703")).what, What::Unknown);
    for header in ["false", "", "yes", "true,false"] {
        assert_eq!(code(&said(500, header, "")), (What::Unknown, Some("500")), "{header}");
        assert_eq!(code(&said(503, header, &body("703"))), (What::Unknown, Some("503")));
    }
}

#[test]
fn a_later_move_is_pending_at_best() {
    let accepted = json!({
        "merchantAccount": "ShopEU", "paymentPspReference": PSP, "reference": "opLater0001",
        "pspReference": "JN7K4XTH25XXGN82", "status": "received",
    });
    for (op, capture) in [
        (Operation::Capture, CaptureMode::Manual),
        (Operation::Void, CaptureMode::Manual),
        (Operation::Refund, CaptureMode::Manual),
        (Operation::Refund, CaptureMode::Automatic),
    ] {
        for status in [200, 201] {
            let fact = answer(op, later(4_900, capture), status, &accepted);
            assert_eq!(fact.what, What::Pending);
            assert_eq!(fact.operation_ref.as_deref(), Some("JN7K4XTH25XXGN82"));
        }
        for body in [
            without(accepted.clone(), "pspReference"),
            with(accepted.clone(), "pspReference", json!("x/y")),
            with(accepted.clone(), "reference", json!("opOther")),
            with(accepted.clone(), "paymentPspReference", json!("ZZZZZZZZZZZZZZZZ")),
            with(accepted.clone(), "status", json!("done")),
            without(accepted.clone(), "status"),
        ] {
            assert_eq!(answer(op, later(4_900, capture), 201, &body).what, What::Unknown, "{body}");
        }
        for status in [202, 204, 403, 404] {
            let fact = answer(op, later(4_900, capture), status, &accepted);
            assert_eq!(fact.what, What::Unknown);
        }
    }
}
