//! A token as the merchant sent it: `paymentData`, alone or inside the token of Apple's SDK, as
//! JSON or as a string with the JSON in it.
//!
//! Nothing in it is believed yet. Every field has a limit, and everything that is encoded is
//! decoded once, so that what is verified is what is used.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::refusal::Refusal;

const TEXT_LIMIT: usize = 64 * 1024;
const DATA_LIMIT: usize = 8 * 1024;
const SIGNATURE_LIMIT: usize = 16 * 1024;
/// A modulus of 4096 bits.
const WRAPPED_KEY_LIMIT: usize = 512;
/// So that its hexadecimal form has at most 128 characters.
const TRANSACTION_ID_LIMIT: usize = 64;
const DIGEST_LENGTH: usize = 32;
/// SubjectPublicKeyInfo of every key on P-256, before the uncompressed point.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_LENGTH: usize = 65;

/// A token, decoded.
pub(crate) struct Token {
    pub(crate) key: Key,
    /// Ciphertext and tag.
    pub(crate) data: Vec<u8>,
    /// CMS, in BER.
    pub(crate) signature: Vec<u8>,
    /// SHA-256 of the public key that it is encrypted to.
    pub(crate) public_key_hash: [u8; DIGEST_LENGTH],
    pub(crate) transaction_id: Vec<u8>,
    /// SHA-256 of what the merchant's application gave to the wallet.
    application_data: Option<[u8; DIGEST_LENGTH]>,
}

/// What a version encrypts with.
pub(crate) enum Key {
    /// EC_v1: the ephemeral public key, SubjectPublicKeyInfo in DER.
    Ephemeral(Vec<u8>),
    /// RSA_v1: the encrypted key.
    Wrapped(Vec<u8>),
}

#[derive(Deserialize)]
struct Written<'a> {
    version: &'a str,
    data: &'a str,
    signature: &'a str,
    #[serde(borrow)]
    header: Header<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    public_key_hash: &'a str,
    transaction_id: &'a str,
    #[serde(default)]
    ephemeral_public_key: Option<&'a str>,
    #[serde(default)]
    wrapped_key: Option<&'a str>,
    #[serde(default)]
    application_data: Option<&'a str>,
}

impl Token {
    pub(crate) fn read(given: &Value) -> Result<Self, Refusal> {
        let Value::String(text) = given else { return Self::of(given) };
        let inner = (text.len() <= TEXT_LIMIT).then(|| serde_json::from_str(text).ok()).flatten();
        Self::of(&inner.ok_or(Refusal::MalformedToken)?)
    }

    fn of(given: &Value) -> Result<Self, Refusal> {
        let written = given.get("paymentData").unwrap_or(given);
        let written = Written::deserialize(written).map_err(|_| Refusal::MalformedToken)?;
        let header = &written.header;
        let keys = (header.ephemeral_public_key, header.wrapped_key);
        let key = match (written.version, keys) {
            ("EC_v1", (Some(key), None)) => Key::Ephemeral(base64(key, 256)?),
            ("RSA_v1", (None, Some(key))) => Key::Wrapped(base64(key, WRAPPED_KEY_LIMIT)?),
            ("EC_v1" | "RSA_v1", _) => return Err(Refusal::VersionMismatch),
            _ => return Err(Refusal::UnknownVersion),
        };
        let public_key_hash = base64(header.public_key_hash, DIGEST_LENGTH)?;
        Ok(Self {
            key,
            data: base64(written.data, DATA_LIMIT)?,
            signature: base64(written.signature, SIGNATURE_LIMIT)?,
            public_key_hash: digest(public_key_hash)?,
            transaction_id: hexadecimal(header.transaction_id, TRANSACTION_ID_LIMIT)?,
            application_data: match header.application_data.filter(|text| !text.is_empty()) {
                Some(text) => Some(digest(hexadecimal(text, DIGEST_LENGTH)?)?),
                None => None,
            },
        })
    }

    /// What is signed, in Apple's order.
    pub(crate) fn content(&self) -> Vec<u8> {
        let (Key::Ephemeral(key) | Key::Wrapped(key)) = &self.key;
        let application_data = self.application_data.as_ref().map_or(&[][..], |digest| digest);
        [key, &self.data[..], &self.transaction_id, application_data].concat()
    }
}

/// The uncompressed point of a public key on P-256.
pub(crate) fn point(spki: &[u8]) -> Option<&[u8]> {
    let point = spki.strip_prefix(&P256_SPKI)?;
    (point.len() == POINT_LENGTH && point[0] == 4).then_some(point)
}

fn base64(text: &str, limit: usize) -> Result<Vec<u8>, Refusal> {
    let fits = text.len() <= limit.div_ceil(3) * 4;
    let bytes = fits.then(|| STANDARD.decode(text).ok()).flatten();
    whole(bytes, limit)
}

fn hexadecimal(text: &str, limit: usize) -> Result<Vec<u8>, Refusal> {
    let fits = text.len() <= limit * 2;
    whole(fits.then(|| hex::decode(text).ok()).flatten(), limit)
}

fn whole(bytes: Option<Vec<u8>>, limit: usize) -> Result<Vec<u8>, Refusal> {
    bytes.filter(|bytes| (1..=limit).contains(&bytes.len())).ok_or(Refusal::MalformedToken)
}

fn digest(bytes: Vec<u8>) -> Result<[u8; DIGEST_LENGTH], Refusal> {
    bytes.try_into().map_err(|_| Refusal::MalformedToken)
}
