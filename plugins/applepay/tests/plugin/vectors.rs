//! Apple's own: a token that a telephone made in Apple's sandbox, where it is at hand.
//!
//! Its leaf has expired since, so it is opened at the moment that it was signed. What must come out
//! was found by another program (Node's `crypto`) from the same published key.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use interlock_plugin_api::testkit::{TestHost, request};
use interlock_plugin_api::{Class, Credential, Done, Provider, Request};
use serde_json::{Value, json};
use wallet_tokens::apple::ProcessingKey;

use crate::{ApplePay, open_at, opened, refusal};

/// 2023-09-13T13:49:38Z.
const SIGNED_MS: i64 = 1_694_612_978_000;

struct Sample {
    plugin: ApplePay,
    host: TestHost,
    token: Value,
}

impl Sample {
    fn read() -> Option<Self> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
        let text = std::fs::read_to_string(shared.join("applepay_ec_v1.json")).ok()?;
        let root = std::fs::read_to_string(shared.join("AppleRootCA-G3.pem")).ok()?;
        let sample: Value = serde_json::from_str(&text).unwrap();
        let key = ProcessingKey::from_pem(sample["ec_v1"]["key_pem"].as_str().unwrap()).unwrap();
        let config =
            json!({ "merchant_id": "merchant.basistheory.sales", "root_certificate": root });
        Some(Self {
            plugin: ApplePay::open(&config).unwrap(),
            host: TestHost::default().with_agreement("processing_key", &key.to_der()),
            token: sample["ec_v1"]["token"].clone(),
        })
    }

    fn open(&self, token: Value, amount: i64, now_ms: i64) -> Done {
        let credential = Credential::EncryptedWalletToken { wallet: "apple_pay".into(), token };
        let request = Request { credential: Some(credential), ..request(amount, "USD", 2) };
        open_at(&self.plugin, &self.host, request, now_ms).unwrap()
    }
}

#[test]
fn a_real_token_opens_at_its_own_time() {
    let Some(sample) = Sample::read() else { return };
    let opened = opened(sample.open(sample.token.clone(), 100, SIGNED_MS));
    let Credential::NetworkToken { number, expiry_month, expiry_year, cryptogram, eci, .. } =
        &opened.credential
    else {
        unreachable!("a network token")
    };
    assert_eq!((number.len(), number.ends_with("0075")), (16, true));
    assert_eq!((*expiry_month, *expiry_year, eci.as_deref()), (2, 2029, Some("07")));
    assert_eq!(STANDARD.decode(cryptogram.as_ref().unwrap()).unwrap().len(), 20);
    assert_eq!(opened.token_id, sample.token["transactionIdentifier"]);
    assert_eq!(opened.amount.unwrap().to_string(), "100 USD");
}

#[test]
fn a_real_token_is_refused_later_or_for_another_amount() {
    let Some(sample) = Sample::read() else { return };
    let refused = |amount, now_ms| refusal(&sample.open(sample.token.clone(), amount, now_ms));
    assert_eq!(refused(100, SIGNED_MS + 301_000), (Class::Expired, "stale".into()));
    assert_eq!(refused(101, SIGNED_MS), (Class::User, "wrong_amount".into()));
}

#[test]
fn no_bit_of_a_real_token_can_flip() {
    let Some(sample) = Sample::read() else { return };
    for pointer in ["data", "signature", "header/ephemeralPublicKey"] {
        let pointer = format!("/paymentData/{pointer}");
        let bytes = STANDARD.decode(sample.token.pointer(&pointer).unwrap().as_str().unwrap());
        let bytes = bytes.unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut token = sample.token.clone();
            *token.pointer_mut(&pointer).unwrap() = STANDARD.encode(&bytes).into();
            let done = sample.open(token, 100, SIGNED_MS);
            assert!(done.opened.is_none(), "{pointer}: bit {bit}");
        }
    }
    let number = sample.token["paymentData"]["header"]["transactionId"].as_str().unwrap();
    let bytes = hex::decode(number).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut token = sample.token.clone();
        token["paymentData"]["header"]["transactionId"] = hex::encode(&bytes).into();
        let done = sample.open(token, 100, SIGNED_MS);
        assert_eq!(refusal(&done).1, "content_changed", "bit {bit}");
    }
}
