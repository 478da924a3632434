//! The plugin as the host meets it: steps in, sessions and opened tokens out, through the test kit.

#![allow(clippy::unwrap_used)]

mod bits;
mod damage;
mod defects;
mod manifest;
mod openssl;
mod sessions;
mod tokens;
mod vectors;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;

use std::sync::OnceLock;

use applepay::ApplePay;
use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{
    Class, Credential, Done, Fault, Host, Opened, Operation, Provider, Request, What,
};
use serde_json::{Value, json};
use wallet_tokens::apple::{Authority, Defect, Made, Payment, ProcessingKey, make};

const NOW_MS: i64 = 1_764_000_000_000;
const MERCHANT: &str = "merchant.example.shop";
const AMOUNT: i64 = 4_900;
const CURRENCY: &str = "USD";

/// An RSA key takes a second, so there is one of each for all tests.
struct Keys {
    authority: Authority,
    ec: ProcessingKey,
    rsa: ProcessingKey,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        authority: Authority::seeded(1),
        ec: ProcessingKey::seeded(2),
        rsa: ProcessingKey::seeded_rsa(3),
    })
}

fn config() -> Value {
    json!({ "merchant_id": MERCHANT, "root_certificate": keys().authority.root_pem() })
}

fn plugin() -> &'static ApplePay {
    static PLUGIN: OnceLock<ApplePay> = OnceLock::new();
    PLUGIN.get_or_init(|| ApplePay::open(&config()).unwrap())
}

fn host() -> &'static TestHost {
    static HOST: OnceLock<TestHost> = OnceLock::new();
    HOST.get_or_init(|| {
        TestHost::default()
            .with_agreement("processing_key", &keys().ec.to_der())
            .with_transport("rsa_processing_key", &keys().rsa.to_der())
    })
}

fn payment() -> Payment {
    Payment::new(AMOUNT, CURRENCY, NOW_MS, 7)
}

fn made(to: &ProcessingKey, defect: Option<Defect>) -> Made {
    make(&keys().authority, MERCHANT, to, &payment(), defect)
}

fn asked(token: Value) -> Request {
    let credential = Credential::EncryptedWalletToken { wallet: "apple_pay".into(), token };
    Request { credential: Some(credential), ..request(AMOUNT, CURRENCY, 2) }
}

fn open_at(
    plugin: &ApplePay,
    host: &dyn Host,
    request: Request,
    now_ms: i64,
) -> Result<Done, Fault> {
    let mut drive = Drive::new(plugin, host, Operation::OpenToken, request);
    drive.envelope.now_ms = now_ms;
    drive.start().map(|wanted| wanted.done())
}

fn open(token: Value) -> Done {
    open_at(plugin(), host(), asked(token), NOW_MS).unwrap()
}

fn opened(done: Done) -> Opened {
    assert!(done.facts.is_empty(), "{done:?}");
    done.opened.unwrap()
}

/// The class and the word of a refusal, which opens nothing.
fn refusal(done: &Done) -> (Class, String) {
    assert!(done.opened.is_none());
    let [fact] = &done.facts[..] else { unreachable!("one fact says why: {done:?}") };
    assert_eq!(fact.what, What::Declined);
    (fact.class.unwrap(), fact.provider_code.clone().unwrap())
}
