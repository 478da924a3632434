//! Google Pay: the public keys that Google publishes, and the tokens that a shopper's browser
//! would hand over.
//!
//! No money moves here, so nothing reaches the ledger. A token is asked for at the control plane,
//! because a browser, and not a merchant's server, gets one from Google.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use wallet_tokens::google::{
    AuthMethod, CARD_NUMBER, DEVICE_NUMBER, Defect, Keys, Made, Protocol, Wish, keys_json, token,
};

use crate::config::GooglepayConfig;
use crate::desk::{Answer, Call, Desk, Inbound};
use crate::faults::Operation;
use crate::keys::{KeyError, write_private};
use crate::moment;

const KEYS: &str = "/paymentmethodtoken/keys.json";
const TEST_KEYS: &str = "/paymentmethodtoken/test/keys.json";
/// Whom Google's test environment signs for.
const TEST_RECIPIENT: &str = "merchant:12345678901234567890";
const FILES: [&str; 3] = ["root_private.pem", "intermediate_private.pem", "merchant_private.pem"];

/// One merchant's Google Pay.
pub struct GooglePay {
    desk: Desk,
    config: GooglepayConfig,
    keys: Keys,
    made: AtomicU64,
}

/// What a token is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The account's name.
    pub account: String,
    /// `CRYPTOGRAM_3DS`, or `PAN_ONLY`.
    auth_method: Option<String>,
    /// `ECv2`, `ECv1` or `ECv2SigningOnly`.
    protocol: Option<String>,
    /// The number in it, by whose last digits the fakes of processors decide.
    number: Option<String>,
    /// A word of [`Defect`].
    defect: Option<String>,
    /// When it is made; now when absent.
    now_ms: Option<i64>,
}

impl GooglePay {
    /// A Google with the keys of this account.
    pub fn new(desk: Desk, config: GooglepayConfig, keys: Keys) -> Self {
        Self { desk, config, keys, made: AtomicU64::new(0) }
    }

    /// The account's place in the sandbox.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// What a request asks for.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let name = match inbound.path.as_str() {
            KEYS => "keys",
            TEST_KEYS => "test_keys",
            _ => "unknown",
        };
        Call { operation: Operation::Inquire, name: name.into(), op_id: None }
    }

    /// The answer to a request.
    pub fn execute(&self, inbound: &Inbound) -> Answer {
        match (inbound.method.as_str(), inbound.path.as_str()) {
            ("GET", KEYS | TEST_KEYS) => {
                let mut answer = Answer::json(200, keys_json(&self.keys, moment::now_ms()));
                let lives = format!("public, max-age={}", self.config.max_age_s);
                answer.headers.push(("cache-control", lives));
                answer
            }
            (_, KEYS | TEST_KEYS) => Answer::empty(405),
            _ => Answer::empty(404),
        }
    }

    /// A token, and what is in it.
    ///
    /// # Errors
    /// A sentence that says which word is not known, or that the defect can't be.
    pub fn token(&self, wanted: &Wanted) -> Result<Value, String> {
        let Wanted { auth_method, protocol, defect, .. } = wanted;
        let protocol = named(protocol.as_deref(), &Protocol::ALL, Protocol::name, Protocol::EcV2)?;
        let default = AuthMethod::Cryptogram3ds;
        let auth_method =
            named(auth_method.as_deref(), &AuthMethod::ALL, AuthMethod::name, default)?;
        let defect = match defect.as_deref() {
            None => None,
            Some(word) => Some(Defect::of(word).ok_or(format!("no such defect: {word}"))?),
        };
        if let Some(defect) = defect.filter(|defect| !defect.fits(protocol)) {
            return Err(format!("no {} can have this defect: {}", protocol.name(), defect.word()));
        }
        let now_ms = wanted.now_ms.unwrap_or_else(moment::now_ms);
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        let own = match auth_method {
            AuthMethod::PanOnly => CARD_NUMBER,
            AuthMethod::Cryptogram3ds => DEVICE_NUMBER,
        };
        let recipient_id = self.config.recipient_id.as_deref().unwrap_or(TEST_RECIPIENT);
        let Made { token, number, cryptogram } = token(
            &self.keys,
            &Wish {
                protocol,
                auth_method,
                number: wanted.number.as_deref().unwrap_or(own),
                recipient_id,
                gateway_merchant_id: self.config.gateway_merchant_id.as_deref(),
                message_id: &format!("{}-{}-{count}", self.desk.account, moment::now_ms()),
                now_ms,
                defect,
            },
        );
        Ok(json!({
            "token": token,
            "inside": { "number": number, "cryptogram": cryptogram },
        }))
    }
}

fn named<T: Copy>(
    word: Option<&str>,
    all: &[T],
    name: fn(T) -> &'static str,
    default: T,
) -> Result<T, String> {
    let Some(word) = word else { return Ok(default) };
    all.iter().copied().find(|one| name(*one) == word).ok_or(format!("no such word: {word}"))
}

/// Writes the private keys of a Google of its own and of one merchant into `folder`; keys that are
/// there stay. Answers how many were made.
///
/// # Errors
/// `NotWritten`.
pub fn write_google_pay_keys(folder: &Path) -> Result<usize, KeyError> {
    let not_written = |e: std::io::Error| KeyError::NotWritten(e.to_string());
    fs::create_dir_all(folder).map_err(not_written)?;
    let seed: [u8; 32] = rand::rng().random();
    let mut made = 0;
    for (file, pem) in FILES.iter().zip(Keys::from_seed(&hex::encode(seed)).pem()) {
        let path = folder.join(file);
        if !path.exists() {
            write_private(&path, &pem).map_err(not_written)?;
            made += 1;
        }
    }
    Ok(made)
}
