//! The manifest: what is declared, and that no declaration reaches further than meant.

use std::collections::BTreeSet;

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    Acts, CaptureMode, Concurrency, CredentialForm, Currency, Effect, IdempotencyClass, Manifest,
    NotFound, Operation, Provider,
};
use stripe::Stripe;

use crate::{by, network_token, open, operations};

#[test]
fn it_parses_and_takes_cards_and_two_wallets() {
    let manifest = manifest();
    for (kind, form) in [
        ("card", CredentialForm::AccountToken),
        ("card", CredentialForm::NetworkToken),
        ("apple_pay", CredentialForm::EncryptedWalletToken),
        ("google_pay", CredentialForm::EncryptedWalletToken),
    ] {
        let support = manifest.supports(kind, "token", form).unwrap();
        assert_eq!(support.capture, [CaptureMode::Automatic, CaptureMode::Manual]);
        assert_eq!(support.acts, Acts::If("three_d_secure".into()));
    }
    for method in &manifest.methods {
        // Undocumented, so only accounts that say so are asked for it at all.
        let needs = (method.credential == CredentialForm::NetworkToken)
            .then(|| "accepts_decrypted_wallet".to_owned());
        assert_eq!(method.needs, needs);
    }
    let blob = CredentialForm::EncryptedWalletToken;
    assert!(manifest.supports("card", "token", blob).is_none());
    assert!(!manifest.offers(Operation::Close));
}

#[test]
fn the_contract_is_a_strong_key_and_a_search_that_proves_no_absence() {
    let contract = manifest().contract;
    for purpose in ["pay", "confirm", "capture", "cancel", "refund"] {
        let rule = contract.move_rule(purpose);
        assert_eq!(rule.class, IdempotencyClass::Strong);
        assert_eq!(rule.concurrency, Concurrency::Excluded);
        assert_eq!((rule.key_life_ms, rule.resend_after_ms), (86_400_000, 1_000));
        assert!(rule.resend_after_silence_only && rule.refusal_kept);
        assert_eq!(rule.refusal_final, matches!(purpose, "pay" | "confirm"));
        assert!(rule.may_follow("409:idempotency_key_in_use"));
        // A 500 is answered again, and everything else was an answer.
        for answer in ["http_500", "http_503", "429:rate_limit", "400:idempotency_error", "409"] {
            assert!(!rule.may_follow(answer), "{answer}");
        }
    }
    for inquiry in [contract.inquiry, contract.operation_inquiry] {
        assert!(inquiry.by_our_reference && inquiry.by_provider_reference);
        assert_eq!(inquiry.not_found, NotFound::Undeclared);
    }
    assert!(contract.close.is_empty() && contract.offer_expiry.is_none());
    assert!(contract.is_returning("token") && contract.is_approving("token"));
    assert_eq!(contract.late_window_ms, 20 * 60 * 1000);
}

#[test]
fn every_request_that_is_built_falls_under_its_own_rule() {
    let contract = manifest().contract;
    let purposes = [
        "pay",
        "confirm",
        "capture",
        "cancel",
        "refund",
        "get",
        "search",
        "get_refund",
        "list_refunds",
        "get",
    ];
    let mut built: Vec<_> = operations().into_iter().zip(purposes).collect();
    built.push(((Operation::Authorize, by(network_token("apple_pay"))), "token"));
    for ((op, r), purpose) in built {
        let (plugin, host) = (open(), TestHost::default());
        let (send, _) = Drive::new(&plugin, &host, op, r).start().unwrap().sent();
        let rule = contract.rule(&send.method, &send.path, &send.query).unwrap();
        assert_eq!(rule.purpose, purpose);
        let reads = op.reads_only() || purpose == "token";
        assert_eq!(rule.effect, if reads { Effect::Read } else { Effect::Move }, "{purpose}");
        assert_eq!(contract.moves.contains_key(purpose), !reads);
    }
}

#[test]
fn only_refusals_are_proofs() {
    let contract = manifest().contract;
    for code in [
        "card_declined",
        "card_declined:do_not_honor",
        "card_declined:stolen_card",
        "expired_card",
        "authentication_required",
        "status:canceled",
        "429:rate_limit",
        "401:invalid_request_error",
        "400:parameter_missing",
    ] {
        assert!(contract.proves(code), "{code}");
    }
    let unproven = [
        "card_declined:duplicate_transaction",
        "card_declined:a_new_reason",
        "status:requires_payment_method",
        "status:succeeded",
        "canceled_untold",
        "unlisted_refusal",
        "no_answer",
        "not_sent",
        "400:idempotency_error",
        "400:payment_intent_unexpected_state",
        "400:charge_already_refunded",
        "409:idempotency_key_in_use",
        "429:lock_timeout",
        "401:api_key_expired",
        "payment_intent.payment_failed:card_declined",
        "refund:failed",
    ];
    for code in unproven {
        assert!(!contract.proves(code), "{code}");
    }
    for status in 0..1000u16 {
        for code in [status.to_string(), format!("http_{status}"), format!("{status}:odd")] {
            assert!(!contract.proves(&code), "{code}");
        }
    }
}

#[test]
fn exponents_are_the_providers_own() {
    let manifest = manifest();
    let with = |exponent: u8| -> BTreeSet<&str> {
        let list = manifest.currencies.iter().filter(|(_, e)| **e == exponent);
        list.map(|(c, _)| c.as_str()).collect()
    };
    // MGA has two in ISO 4217.
    let zero = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF";
    assert_eq!(with(0), zero.split(' ').collect());
    let three: BTreeSet<&str> = "BHD JOD KWD OMR TND".split(' ').collect();
    assert_eq!(with(3), three);
    // ISK has none in ISO 4217, and is written with two decimals that must be 00.
    for currency in "EUR USD GBP CHF SEK NOK DKK PLN HUF TWD ISK AUD CAD SGD INR BRL".split(' ') {
        assert!(with(2).contains(currency), "{currency}");
    }
    for (currency, multiple) in &manifest.multiples {
        let tens = three.contains(currency.as_str());
        assert_eq!((tens, *multiple), if tens { (true, 10) } else { (false, 100) }, "{currency}");
    }
    assert_eq!(manifest.multiples.len(), three.len() + 1);
    assert_eq!(manifest.multiples.get(&Currency::parse("ISK").unwrap()), Some(&100));
    assert_eq!(with(0).len() + with(2).len() + with(3).len(), manifest.currencies.len());
}

fn manifest() -> Manifest {
    Manifest::parse(Stripe::MANIFEST.as_bytes()).unwrap()
}
