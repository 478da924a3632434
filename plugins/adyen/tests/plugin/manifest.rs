//! The manifest: what is declared, and that no declaration reaches further than meant.

use std::collections::BTreeSet;

use adyen::Adyen;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    Acts, CaptureMode, Concurrency, CredentialForm, Currency, Effect, IdempotencyClass, Manifest,
    Operation, Provider,
};

use crate::{moves, plain};

#[test]
fn it_parses_and_takes_cards_and_two_wallets_blobs() {
    let manifest = manifest();
    let three_d_secure = Acts::If("three_d_secure".into());
    for (kind, form, acts) in [
        ("card", CredentialForm::NetworkToken, &three_d_secure),
        ("card", CredentialForm::AccountToken, &three_d_secure),
        ("apple_pay", CredentialForm::EncryptedWalletToken, &Acts::Never),
        ("google_pay", CredentialForm::EncryptedWalletToken, &Acts::Never),
    ] {
        let support = manifest.supports(kind, "token", form).unwrap();
        assert_eq!(support.capture, [CaptureMode::Automatic, CaptureMode::Manual]);
        assert_eq!(&support.acts, acts);
    }
    let bare = manifest.supports("card", "token", CredentialForm::Card).unwrap();
    assert_eq!(bare.needs.as_deref(), Some("three_d_secure"), "it is never taken without");
    assert_eq!(bare.acts, three_d_secure);
    let blob = CredentialForm::EncryptedWalletToken;
    assert!(manifest.supports("card", "token", blob).is_none());
    assert!(manifest.config["merchant_account"].required);
}

#[test]
fn the_contract_declares_a_strong_key_and_no_way_to_ask_or_close() {
    let manifest = manifest();
    for op in [Operation::Inquire, Operation::InquireOperation, Operation::Close] {
        assert!(!manifest.offers(op), "{op:?}");
    }
    let contract = &manifest.contract;
    assert!(!contract.inquiry.possible() && !contract.operation_inquiry.possible());
    assert!(contract.close.is_empty() && contract.offer_expiry.is_none());
    assert_eq!(contract.late_window_ms, 20 * 60 * 1000);
    assert!(contract.is_returning("token") && !contract.is_approving("token"));
    assert!(contract.can_resolve("token"), "the same key is the way out");
    for purpose in ["pay", "details", "capture", "cancel", "refund", "reverse"] {
        let rule = contract.move_rule(purpose);
        assert_eq!(rule.class, IdempotencyClass::Strong);
        assert_eq!(rule.concurrency, Concurrency::Excluded);
        // Seven days, the shorter one of two copies of the provider's page.
        assert_eq!(rule.key_life_ms, 7 * 24 * 3_600_000);
        assert!(rule.resend_after_silence_only && rule.refusal_kept);
        // A payment that was refused is over; a change that was refused says nothing of it.
        assert_eq!(rule.refusal_final, matches!(purpose, "pay" | "details"));
        assert!(rule.may_follow("transient-error:704") && rule.may_follow("transient-error:703"));
        for answer in ["500", "503", "422:704", "409:704", "429", "Refused:2", "unreadable"] {
            assert!(!rule.may_follow(answer), "{answer}");
        }
    }
}

#[test]
fn every_request_that_is_built_is_a_move_under_its_own_rule() {
    let contract = manifest().contract;
    let purposes = ["pay", "details", "capture", "cancel", "refund", "reverse"];
    for ((op, r), purpose) in moves().into_iter().zip(purposes) {
        let (plugin, host) = (plain(), TestHost::default());
        let (send, _) = Drive::new(&plugin, &host, op, r).start().unwrap().sent();
        let rule = contract.rule(&send.method, &send.path, &send.query).unwrap();
        assert_eq!((rule.purpose.as_str(), rule.effect), (purpose, Effect::Move));
        assert!(contract.moves.contains_key(purpose), "{purpose}");
    }
}

#[test]
fn only_refusals_are_proofs() {
    let contract = manifest().contract;
    for code in ["Refused", "Refused:2", "Refused:46", "Cancelled", "AUTHORISATION:false"] {
        assert!(contract.proves(code), "{code}");
    }
    let unproven = [
        "Refused:0",
        "Refused:99",
        "Error",
        "transient-error:703",
        "transient-error:704",
        "unlisted_refusal",
        "no_answer",
        "not_sent",
        "CAPTURE:false",
        "AUTHORISATION:true",
    ];
    for code in unproven {
        assert!(!contract.proves(code), "{code}");
    }
    for status in 0..1000u16 {
        assert!(!contract.proves(&status.to_string()), "{status}");
    }
}

#[test]
fn exponents_are_the_providers_own() {
    let manifest = manifest();
    let with = |exponent: u8| -> BTreeSet<&str> {
        let list = manifest.currencies.iter().filter(|(_, e)| **e == exponent);
        list.map(|(c, _)| c.as_str()).collect()
    };
    // CVE has none here and two in ISO 4217; CLP has two here and none there.
    let zero = "CVE DJF GNF JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
    assert_eq!(with(0), zero.split(' ').collect());
    assert_eq!(with(3), "BHD IQD JOD KWD LYD OMR TND".split(' ').collect());
    for currency in "EUR USD GBP CHF SEK NOK DKK PLN CLP AUD CAD NZD SGD CNY INR BRL".split(' ') {
        assert!(with(2).contains(currency), "{currency}");
    }
    for unconfirmed in ["ISK", "IDR"] {
        assert!(!manifest.currencies.contains_key(&Currency::parse(unconfirmed).unwrap()));
    }
    assert!(manifest.multiples.is_empty());
    assert_eq!(with(0).len() + with(2).len() + with(3).len(), manifest.currencies.len());
}

fn manifest() -> Manifest {
    Manifest::parse(Adyen::MANIFEST.as_bytes()).unwrap()
}
