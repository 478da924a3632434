//! The manifest: what is declared, and that no declaration reaches further than meant.

use std::collections::BTreeSet;

use checkout::Checkout;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    Acts, CaptureMode, Concurrency, CredentialForm, Currency, Effect, IdempotencyClass, Manifest,
    NotFound, Operation, Provider, Request,
};

use crate::{asking, asking_about, later, payment, plain};

#[test]
fn it_parses_and_takes_cards_by_token() {
    let manifest = manifest();
    for form in [CredentialForm::NetworkToken, CredentialForm::AccountToken] {
        let support = manifest.supports("card", "token", form).unwrap();
        assert_eq!(support.capture, [CaptureMode::Automatic, CaptureMode::Manual]);
        assert_eq!(support.acts, Acts::If("three_d_secure".into()));
    }
    let bare = manifest.supports("card", "token", CredentialForm::Card).unwrap();
    assert_eq!(bare.needs.as_deref(), Some("three_d_secure"), "it is never taken without");
    assert_eq!(bare.acts, Acts::If("three_d_secure".into()));
    let blob = CredentialForm::EncryptedWalletToken;
    assert!(manifest.supports("card", "token", blob).is_none());
    assert!(manifest.methods.iter().all(|m| m.kind == "card"));
    assert!(manifest.config.contains_key("three_d_secure"));
    assert!(!manifest.offers(Operation::Close));
}

#[test]
fn the_contract_is_the_cautious_one() {
    let contract = manifest().contract;
    for purpose in ["pay", "capture", "void", "refund"] {
        let rule = contract.move_rule(purpose);
        assert_eq!(rule.class, IdempotencyClass::SuccessOnly);
        assert_eq!(rule.concurrency, Concurrency::Excluded);
        assert_eq!((rule.key_life_ms, rule.resend_after_ms), (86_400_000, 30_000));
        assert!(rule.resend_after_silence_only && !rule.never_asynchronous);
    }
    for inquiry in [contract.inquiry, contract.operation_inquiry] {
        assert!(inquiry.by_our_reference && inquiry.by_provider_reference);
        assert_eq!(inquiry.not_found, NotFound::Undeclared);
    }
    assert!(contract.close.is_empty() && contract.offer_expiry.is_none());
    assert_eq!(contract.late_window_ms, 20 * 60 * 1000);
}

#[test]
fn every_request_that_is_built_falls_under_its_own_rule() {
    let contract = manifest().contract;
    let refund = asking_about(Operation::Refund, None);
    let cases: [(Operation, Request, &str, Effect); 7] = [
        (Operation::Authorize, payment(), "pay", Effect::Move),
        (Operation::Capture, later(1), "capture", Effect::Move),
        (Operation::Void, later(1), "void", Effect::Move),
        (Operation::Refund, later(1), "refund", Effect::Move),
        (Operation::Inquire, asking(true), "get", Effect::Read),
        (Operation::Inquire, asking(false), "list", Effect::Read),
        (Operation::InquireOperation, refund, "actions", Effect::Read),
    ];
    for (op, r, purpose, effect) in cases {
        let (plugin, host) = (plain(), TestHost::default());
        let (send, _) = Drive::new(&plugin, &host, op, r).start().unwrap().sent();
        let rule = contract.rule(&send.method, &send.path, &send.query).unwrap();
        assert_eq!((rule.purpose.as_str(), rule.effect), (purpose, effect));
    }
}

#[test]
fn every_decline_code_is_proven_and_no_http_status_is() {
    let contract = manifest().contract;
    for group in ["20", "30", "40", "50"] {
        for rest in 0..1000 {
            let code = format!("{group}{rest:03}");
            assert!(contract.proves(&code), "{code}");
        }
    }
    for status in ["Declined", "Expired", "Canceled"] {
        assert!(contract.proves(&format!("status:{status}")));
    }
    // `40*` would take a 409 for a proof, and `50*` a 500.
    for status in 0..1000u16 {
        assert!(!contract.proves(&status.to_string()), "{status}");
        assert!(!contract.proves(&format!("{status}:request_invalid")), "{status}");
    }
    let unproven = [
        "10000",
        "202:Declined",
        "no_answer",
        "not_sent",
        "disagreement",
        "unreadable",
        "payment_declined:20005",
        "status:Voided",
        "status:Pending",
    ];
    for code in unproven {
        assert!(!contract.proves(code), "{code}");
    }
}

#[test]
fn exponents_are_the_providers_own() {
    let manifest = manifest();
    let with = |exponent: u8| -> BTreeSet<&str> {
        let list = manifest.currencies.iter().filter(|(_, e)| **e == exponent);
        list.map(|(c, _)| c.as_str()).collect()
    };
    let zero = "BIF DJF GNF ISK JPY KMF KRW PYG RWF UGX VUV VND XAF XOF XPF";
    assert_eq!(with(0), zero.split(' ').collect());
    let three: BTreeSet<&str> = "BHD IQD JOD KWD LYD OMR TND".split(' ').collect();
    assert_eq!(with(3), three);
    let tens: BTreeSet<&str> = manifest.multiples.keys().map(Currency::as_str).collect();
    assert_eq!(tens, three);
    assert!(manifest.multiples.values().all(|multiple| *multiple == 10));
    let two = "EUR USD GBP CHF SEK NOK DKK PLN CZK HUF RON BGN AUD CAD NZD SGD HKD CNY THB MYR \
        PHP IDR INR ZAR MXN BRL CLP COP PEN ILS AED SAR QAR TRY EGP NGN KES MAD";
    for currency in two.split_whitespace() {
        assert!(with(2).contains(currency), "{currency}");
    }
    assert!(!manifest.currencies.contains_key(&Currency::parse("CLF").unwrap()));
    let all = manifest.currencies.len();
    assert_eq!(with(0).len() + with(2).len() + with(3).len(), all);
}

fn manifest() -> Manifest {
    Manifest::parse(Checkout::MANIFEST.as_bytes()).unwrap()
}
