//! The plugin as the host meets it: a token in, a request for keys, a verdict out.

#![allow(clippy::unwrap_used)]

mod bits;
mod damage;
mod forms;
mod keys;
mod refusals;
mod settings;
mod vectors;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;

use googlepay::GooglePay;
use interlock_plugin_api::testkit::{Drive, TestHost, Wanted, request};
use interlock_plugin_api::{
    Class, Credential, Done, Fault, Opened, Operation, Provider, Request, What,
};
use serde_json::{Value, json};
use wallet_tokens::google::{
    AuthMethod, CARD_NUMBER, DEVICE_NUMBER, Keys, Protocol, Wish, keys_json, token,
};

const NOW_MS: i64 = 1_764_000_000_000;
const RECIPIENT: &str = "merchant:BCR2DN4T7654321";
const ALL_PROTOCOLS: &str = "ECv2, ECv1, ECv2SigningOnly";

fn keys() -> Keys {
    Keys::from_seed("google")
}

fn account(config: Value) -> GooglePay {
    GooglePay::open(&config).unwrap()
}

/// An account that takes every protocol, for the recipient of the tests.
fn plain() -> GooglePay {
    account(json!({ "merchant_id": "BCR2DN4T7654321", "protocols": ALL_PROTOCOLS }))
}

fn host(keys: &Keys) -> TestHost {
    TestHost::default().with_agreement("encryption_key", &keys.merchant_pkcs8())
}

fn wish() -> Wish<'static> {
    Wish {
        protocol: Protocol::EcV2,
        auth_method: AuthMethod::Cryptogram3ds,
        number: DEVICE_NUMBER,
        recipient_id: RECIPIENT,
        gateway_merchant_id: None,
        message_id: "AH2EjtfkXmXo9cXv",
        now_ms: NOW_MS,
        defect: None,
    }
}

fn paid_with(token: Value) -> Request {
    let credential = Credential::EncryptedWalletToken { wallet: "google_pay".into(), token };
    Request { credential: Some(credential), ..request(4_900, "EUR", 2) }
}

/// Opens a token at a moment, when Google answers with these keys.
fn open_at(
    plugin: &GooglePay,
    host: &TestHost,
    token: Value,
    keys_json: &str,
    now_ms: i64,
) -> Result<Done, Fault> {
    let mut drive = Drive::new(plugin, host, Operation::OpenToken, paid_with(token));
    drive.envelope.now_ms = now_ms;
    drive.start()?.sent();
    drive.answer(200, keys_json.as_bytes()).map(Wanted::done)
}

fn open(plugin: &GooglePay, token: Value) -> Result<Done, Fault> {
    open_at(plugin, &host(&keys()), token, &keys_json(&keys(), NOW_MS), NOW_MS)
}

fn opened(done: Done) -> Opened {
    assert!(done.facts.is_empty(), "{:?}", done.facts);
    done.opened.unwrap()
}

/// The class and the word of a refusal.
fn refused(done: Done) -> (Class, String) {
    assert!(done.opened.is_none());
    let [fact] = &done.facts[..] else { unreachable!("{:?}", done.facts) };
    assert_eq!(fact.what, What::Declined);
    (fact.class.unwrap(), fact.provider_code.clone().unwrap())
}

fn refused_for(done: Result<Done, Fault>) -> String {
    refused(done.unwrap()).1
}
