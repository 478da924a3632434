//! Tokens that are good, whom they are for, and what they must agree with.

use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{Class, Credential, Event, FaultKind, Operation, Provider, Request};
use serde_json::{Value, json};
use wallet_tokens::apple::{Authority, Made, Payment, ProcessingKey, make};

use crate::{
    AMOUNT, ApplePay, CURRENCY, MERCHANT, NOW_MS, asked, config, host, keys, made, open, open_at,
    opened, payment, plugin, refusal,
};

fn is_inside(made: &Made, token: Value) {
    let opened = opened(open(token));
    let Credential::NetworkToken { number, expiry_month, expiry_year, cryptogram, eci, source } =
        opened.credential
    else {
        unreachable!("a token holds a network token")
    };
    let inside = &made.inside;
    assert_eq!(number, inside.number);
    assert_eq!((expiry_month, expiry_year), (inside.expiry_month, inside.expiry_year));
    assert_eq!(cryptogram.as_ref(), Some(&inside.cryptogram));
    assert_eq!(eci, inside.eci.as_ref().map(|eci| format!("{eci:0>2}")));
    assert_eq!(source, "apple_pay");
    assert_eq!(opened.token_id, inside.transaction_id);
    let amount = opened.amount.unwrap();
    assert_eq!((amount.amount, amount.currency.as_str()), (AMOUNT, CURRENCY));
}

#[test]
fn both_versions_open_in_every_form_that_merchants_send() {
    for key in [&keys().ec, &keys().rsa] {
        let made = made(key, None);
        let token = made.token.clone();
        let outer = json!({
            "paymentData": token, "transactionIdentifier": "x",
            "paymentMethod": { "network": "Visa" },
        });
        let forms =
            [token.clone(), outer.clone(), token.to_string().into(), outer.to_string().into()];
        for form in forms {
            is_inside(&made, form);
        }
    }
}

#[test]
fn an_indicator_may_be_missing_or_have_two_digits() {
    for eci in [None, Some("05"), Some("7")] {
        let payment = Payment { eci: eci.map(str::to_owned), ..payment() };
        let made = make(&keys().authority, MERCHANT, &keys().ec, &payment, None);
        is_inside(&made, made.token.clone());
    }
}

#[test]
fn data_of_an_application_is_signed_content() {
    let payment = Payment { application_data: Some([9; 32]), ..payment() };
    for key in [&keys().ec, &keys().rsa] {
        let made = make(&keys().authority, MERCHANT, key, &payment, None);
        is_inside(&made, made.token.clone());
        let mut stripped = made.token.clone();
        stripped["header"].as_object_mut().unwrap().remove("applicationData");
        assert_eq!(refusal(&open(stripped)).1, "content_changed");
        let mut added = crate::made(key, None).token;
        added["header"]["applicationData"] = hex::encode([9; 32]).into();
        assert_eq!(refusal(&open(added)).1, "content_changed");
    }
}

#[test]
fn the_amount_and_the_currency_are_the_payments() {
    let token = made(&keys().ec, None).token;
    let asks = |amount, currency| {
        let request =
            Request { credential: asked(token.clone()).credential, ..request(amount, currency, 2) };
        refusal(&open_at(plugin(), host(), request, NOW_MS).unwrap())
    };
    assert_eq!(asks(AMOUNT + 1, CURRENCY), (Class::User, "wrong_amount".into()));
    assert_eq!(asks(AMOUNT - 1, CURRENCY), (Class::User, "wrong_amount".into()));
    assert_eq!(asks(AMOUNT, "EUR"), (Class::User, "wrong_currency".into()));
}

#[test]
fn every_currency_keeps_its_own_units() {
    for (currency, amount) in [("JPY", 4_900), ("KWD", 1_234_560), ("AUD", 1), ("CLP", 900)] {
        let payment = Payment::new(amount, currency, NOW_MS, 8);
        let made = make(&keys().authority, MERCHANT, &keys().ec, &payment, None);
        let credential = asked(made.token).credential;
        let request = Request { credential, ..request(amount, currency, 0) };
        let opened = opened(open_at(plugin(), host(), request, NOW_MS).unwrap());
        assert_eq!(opened.amount.unwrap().to_string(), format!("{amount} {currency}"));
    }
}

#[test]
fn a_token_is_good_for_its_age_in_both_directions() {
    let token = made(&keys().ec, None).token;
    let at = |plugin: &ApplePay, offset_ms: i64| {
        open_at(plugin, host(), asked(token.clone()), NOW_MS + offset_ms).unwrap()
    };
    for offset_ms in [-300_000, 0, 300_000] {
        opened(at(plugin(), offset_ms));
    }
    assert_eq!(refusal(&at(plugin(), 300_001)), (Class::Expired, "stale".into()));
    assert_eq!(refusal(&at(plugin(), -300_001)), (Class::Expired, "future".into()));
    let mut strict = config();
    strict["max_age"] = 60.into();
    let strict = ApplePay::open(&strict).unwrap();
    opened(at(&strict, 60_000));
    assert_eq!(refusal(&at(&strict, 60_001)).1, "stale");
}

#[test]
fn a_key_is_replaced_without_losing_a_token() {
    let (old, new) = (ProcessingKey::seeded(11), ProcessingKey::seeded(12));
    let rotating = TestHost::default()
        .with_agreement("processing_key", &new.to_der())
        .with_agreement("previous_processing_key", &old.to_der());
    for key in [&old, &new] {
        opened(open_at(plugin(), &rotating, asked(made(key, None).token), NOW_MS).unwrap());
    }
    let after = TestHost::default().with_agreement("processing_key", &new.to_der());
    let done = open_at(plugin(), &after, asked(made(&old, None).token), NOW_MS).unwrap();
    assert_eq!(refusal(&done), (Class::Config, "no_key_fits".into()));
    let rsa =
        TestHost::default().with_transport("previous_rsa_processing_key", &keys().rsa.to_der());
    opened(open_at(plugin(), &rsa, asked(made(&keys().rsa, None).token), NOW_MS).unwrap());
    // A key of the other kind fits nothing, even by its digest.
    let done = open_at(plugin(), &rsa, asked(made(&new, None).token), NOW_MS).unwrap();
    assert_eq!(refusal(&done).1, "no_key_fits");
}

#[test]
fn without_a_key_or_a_token_there_is_a_fault_and_no_verdict() {
    let token = made(&keys().ec, None).token;
    let fault = open_at(plugin(), &TestHost::default(), asked(token.clone()), NOW_MS).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
    let none = open_at(plugin(), host(), request(AMOUNT, CURRENCY, 2), NOW_MS).unwrap_err();
    assert_eq!(none.kind, FaultKind::Input);
    let credential =
        Credential::EncryptedWalletToken { wallet: "google_pay".into(), token: token.clone() };
    let other = Request { credential: Some(credential), ..request(AMOUNT, CURRENCY, 2) };
    assert_eq!(open_at(plugin(), host(), other, NOW_MS).unwrap_err().kind, FaultKind::Input);
    let mut drive = Drive::new(plugin(), host(), Operation::OpenToken, asked(token));
    let event = Event::Response { status: 200, headers: Vec::new() };
    assert_eq!(drive.step(event, b"{}").unwrap_err().kind, FaultKind::Input);
}

#[test]
fn a_merchant_believes_only_the_root_of_its_account() {
    let mut other = config();
    other["root_certificate"] = Authority::seeded(5).root_pem().into();
    let other = ApplePay::open(&other).unwrap();
    let done = open_at(&other, host(), asked(made(&keys().ec, None).token), NOW_MS).unwrap();
    assert_eq!(refusal(&done), (Class::Verification, "wrong_root".into()));
    let mut stranger = config();
    stranger["merchant_id"] = "merchant.example.other".into();
    let stranger = ApplePay::open(&stranger).unwrap();
    let done = open_at(&stranger, host(), asked(made(&keys().ec, None).token), NOW_MS).unwrap();
    assert_eq!(refusal(&done).1, "not_decrypted");
}

#[test]
fn fields_have_limits_and_forms() {
    let good = made(&keys().ec, None).token;
    let long = "A".repeat(40_000);
    for (pointer, value) in [
        ("/data", json!(long)),
        ("/data", json!("")),
        ("/data", json!(7)),
        ("/data", json!("not base64")),
        ("/signature", json!(long)),
        ("/signature", Value::Null),
        ("/header", json!([])),
        ("/header/publicKeyHash", json!("AAAA")),
        ("/header/transactionId", json!("")),
        ("/header/transactionId", json!("0")),
        ("/header/transactionId", json!("ab".repeat(65))),
        ("/header/ephemeralPublicKey", json!(long)),
    ] {
        let mut token = good.clone();
        *token.pointer_mut(pointer).unwrap() = value;
        assert_eq!(
            refusal(&open(token)),
            (Class::Verification, "malformed_token".into()),
            "{pointer}"
        );
    }
    for token in [Value::Null, json!({}), json!("{"), json!(" ".repeat(100_000)), json!([[]])] {
        assert_eq!(refusal(&open(token)).1, "malformed_token");
    }
    let mut both = good.clone();
    both["header"]["wrappedKey"] = json!("AAAA");
    assert_eq!(refusal(&open(both)).1, "version_mismatch");
    let mut nothing = good;
    nothing["signature"] = json!("MIAAAA==");
    assert_eq!(refusal(&open(nothing)).1, "malformed_signature");
}

#[test]
fn a_debug_form_tells_nothing_of_the_card() {
    let made = made(&keys().ec, None);
    let shown = format!("{:?}", open(made.token));
    for secret in [&made.inside.number, &made.inside.cryptogram] {
        assert!(!shown.contains(secret.as_str()), "{shown}");
    }
}
