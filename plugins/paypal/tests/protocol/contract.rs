//! The manifest and the settings: what is declared, and what is refused.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    Acts, CaptureMode, Concurrency, CredentialForm, Effect, FaultKind, IdempotencyClass, Manifest,
    NotFound, Operation, Provider, SecretKind,
};
use paypal::Paypal;
use serde_json::json;

use crate::peer;

fn manifest() -> Manifest {
    Manifest::parse(Paypal::MANIFEST.as_bytes()).unwrap()
}

#[test]
fn a_page_is_offered_with_both_ways_of_capture() {
    let manifest = manifest();
    let support = manifest.supports("paypal", "redirect", CredentialForm::None).unwrap();
    assert_eq!(support.capture, [CaptureMode::Automatic, CaptureMode::Manual]);
    assert_eq!((&support.acts, manifest.methods.len()), (&Acts::Always, 1));
    let whole = |code: &str| {
        let currency = interlock_plugin_api::Currency::parse(code).unwrap();
        manifest.currencies.get(&currency).copied()
    };
    for (code, decimals) in [("JPY", Some(0)), ("HUF", Some(0)), ("TWD", Some(0)), ("EUR", Some(2))]
    {
        assert_eq!(whole(code), decimals);
    }
    assert_eq!((whole("CNY"), manifest.currencies.len()), (None, 23));
}

#[test]
fn keys_live_as_long_as_is_documented_and_a_void_has_none() {
    let contract = manifest().contract;
    for (purpose, hours) in [
        ("create", 6),
        ("capture_order", 6),
        ("authorize_order", 6),
        ("capture", 45 * 24),
        ("refund", 45 * 24),
    ] {
        let rule = contract.move_rule(purpose);
        assert_eq!(rule.class, IdempotencyClass::Strong, "{purpose}");
        assert_eq!(rule.key_life_ms, hours * 3_600_000, "{purpose}");
        assert_eq!(rule.concurrency, Concurrency::Undeclared, "a copy may meet the first one");
        assert!(!rule.refusal_kept && !rule.refusal_final && !rule.never_asynchronous);
    }
    assert_eq!(contract.move_rule("void").class, IdempotencyClass::None);
    assert!(contract.is_approving("redirect") && contract.ends("redirect", true));
    assert!(contract.close.is_empty() && contract.offer_expiry.is_none());
    assert!(!contract.inquiry.by_our_reference && contract.inquiry.by_provider_reference);
    assert!(contract.operation_inquiry.by_our_reference);
    for inquiry in [contract.inquiry, contract.operation_inquiry] {
        assert_eq!(inquiry.not_found, NotFound::Undeclared);
    }
}

#[test]
fn every_request_is_what_the_manifest_calls_it() {
    let contract = manifest().contract;
    for (op, r) in peer::operations() {
        let (plugin, host) = (peer::provider(), TestHost::default());
        let mut drive = Drive::new(&plugin, &host, op, r);
        let (send, _) = drive.start().unwrap().sent();
        let effect = |send: &interlock_plugin_api::Send| {
            contract.rule(&send.method, &send.path, &send.query).map(|rule| rule.effect)
        };
        let first = match op {
            Operation::Authorize => Effect::Offer,
            Operation::Continue => Effect::Move,
            _ => Effect::Read,
        };
        assert_eq!(effect(&send), Some(first), "{op:?}");
        if matches!(op, Operation::Capture | Operation::Void | Operation::Refund) {
            let order = match op {
                Operation::Refund => peer::captured_order(),
                _ => peer::held_order(),
            };
            let (send, _) = drive.answer(200, order.to_string().as_bytes()).unwrap().sent();
            assert_eq!(effect(&send), Some(Effect::Move), "{op:?}");
        }
    }
}

/// By the native pass-through; no operation of the plugin builds these.
#[test]
fn what_only_a_merchants_own_sdk_sends_is_called_what_it_is() {
    let contract = manifest().contract;
    for (method, path, purpose, effect) in [
        ("POST", "/v1/oauth2/token", "token", Effect::Read),
        ("GET", "/v2/payments/authorizations/5PE", "authorization", Effect::Read),
        ("POST", "/v2/payments/authorizations/5PE/reauthorize", "reauthorize", Effect::Move),
    ] {
        let rule = contract.rule(method, path, &[]).unwrap();
        assert_eq!((rule.purpose.as_str(), rule.effect), (purpose, effect), "{method} {path}");
    }
    assert_eq!(contract.move_rule("reauthorize").class, IdempotencyClass::None);
    for (method, path) in [
        ("GET", "/v1/oauth2/token"),
        ("POST", "/v2/payments/authorizations/5PE"),
        ("POST", "/v2/payments/authorizations/5PE/reauthorize/"),
    ] {
        assert!(contract.rule(method, path, &[]).is_none(), "{method} {path}");
    }
}

#[test]
fn nothing_but_listed_words_is_a_proof() {
    let contract = manifest().contract;
    for code in ["DECLINED", "FAILED", "DENIED", "INSTRUMENT_DECLINED", "RATE_LIMIT_REACHED"] {
        assert!(contract.proves(code), "{code}");
    }
    for code in [
        "",
        "DECLINE",
        "DECLINED2",
        "PENDING",
        "VOIDED",
        "EXPIRED",
        "ORDER_NOT_APPROVED",
        "ORDER_ALREADY_CAPTURED",
        "DUPLICATE_INVOICE_ID",
        "PREVIOUS_REQUEST_IN_PROGRESS",
        "REFUND_FAILED_INSUFFICIENT_FUNDS",
        "INVALID_RESOURCE_ID",
        "UNPROCESSABLE_ENTITY",
        "INTERNAL_SERVER_ERROR",
        "invalid_token",
        "no_answer",
        "not_sent",
        "unreadable",
        "http_429",
    ] {
        assert!(!contract.proves(code), "{code}");
    }
}

#[test]
fn the_host_fetches_tokens_and_checks_certificates() {
    let manifest = manifest();
    let grant = &manifest.tokens["access"];
    assert_eq!((grant.endpoint.as_str(), grant.path.as_str()), ("api", "/v1/oauth2/token"));
    for secret in [&grant.client_id, &grant.client_secret] {
        assert_eq!(manifest.secrets[secret], SecretKind::Header);
    }
    let names = &manifest.keyrings["webhooks"].common_names;
    assert_eq!(
        names[..],
        ["messageverificationcerts.paypal.com", "messageverificationcerts.sandbox.paypal.com"]
    );
}

#[test]
fn settings_are_refused_by_their_names() {
    for good in [
        json!({}),
        json!({ "webhook_id": "1JE4291016473214C", "verify": "postback", "sandbox": true }),
        json!({ "form": "payer_action", "brand_name": "Tea & Co", "verify": "offline" }),
    ] {
        assert!(Paypal::open(&good).is_ok(), "{good}");
    }
    for (bad, name) in [
        (json!({ "webhook_id": "" }), "`webhook_id`"),
        (json!({ "webhook_id": "a|b" }), "`webhook_id`"),
        (json!({ "brand_name": " " }), "`brand_name`"),
        (json!({ "brand_name": "x".repeat(128) }), "`brand_name`"),
        (json!({ "brand_name": "a\nb" }), "`brand_name`"),
        (json!({ "cancel_url": "http://shop.example/" }), "`cancel_url`"),
        (json!({ "verify": "never" }), "another type or no known word"),
        (json!({ "form": 1 }), "another type or no known word"),
        (json!({ "sandbox": "true" }), "another type or no known word"),
        (json!([]), ""),
    ] {
        let fault = Paypal::open(&bad).err().unwrap();
        assert!(fault.kind == FaultKind::Config && fault.text.contains(name), "{bad}: {fault}");
    }
}
