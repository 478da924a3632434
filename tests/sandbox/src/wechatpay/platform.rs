//! WeChat Pay's own side of the cryptography: who signs, with what, and what is sealed.
//!
//! The platform is known by certificates, of which two are valid during a rotation, or by a public
//! key. A merchant trusts the certificates because they come sealed with a key that only the two
//! know.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

use crate::config::Identity;
use crate::keys::{Certified, KeyError, Signer};
use crate::moment;

const CERTIFICATE_YEARS: i64 = 5;
const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";
const PROBE: &str = "WECHATPAY/SIGNTEST/";

/// The headers of a signed answer or notification; the last is the signature.
pub type Headers = Vec<(&'static str, String)>;

/// The header of the signature.
pub const SIGNATURE: &str = "wechatpay-signature";

/// The private keys of one platform.
pub struct Keys {
    /// Of the certificate of today.
    pub current: Signer,
    /// Of the one that follows.
    pub next: Option<Signer>,
    /// Of the public key, when it is another.
    pub public: Option<Signer>,
}

/// The platform as one merchant knows it.
pub struct Platform {
    keys: Keys,
    current: Certified,
    next: Option<Certified>,
    public_key_id: Option<String>,
    year: i64,
    api_key: LessSafeKey,
    configured: Identity,
    chosen: Mutex<Identity>,
}

impl Platform {
    /// Makes the certificates. `api_v3_key` seals; `chosen` signs when a request does not say.
    ///
    /// # Errors
    /// A key is missing or cannot be used.
    pub fn new(
        keys: Keys,
        api_v3_key: &str,
        public_key_id: Option<String>,
        chosen: Option<Identity>,
    ) -> Result<Self, KeyError> {
        let unfit = KeyError::Unfit("api_v3_key is not 32 characters of ASCII");
        let key = UnboundKey::new(&AES_256_GCM, api_v3_key.as_bytes());
        let key = key.ok().filter(|_| api_v3_key.is_ascii()).ok_or(unfit)?;
        let (year, _) = moment::year_month(moment::now_ms());
        let certify = |signer: &Signer| signer.certify("Tenpay.com Root CA", year as i32);
        let usual = if public_key_id.is_some() { Identity::PublicKey } else { Identity::Current };
        let configured = chosen.unwrap_or(usual);
        let platform = Self {
            current: certify(&keys.current)?,
            next: keys.next.as_ref().map(certify).transpose()?,
            keys,
            public_key_id,
            year,
            api_key: LessSafeKey::new(key),
            configured,
            chosen: Mutex::new(configured),
        };
        platform
            .holds(configured)
            .then_some(platform)
            .ok_or(KeyError::Unfit("signs_with names a key that is not configured"))
    }

    /// From now on `identity` signs.
    ///
    /// # Errors
    /// It is not configured.
    pub fn choose(&self, identity: Identity) -> Result<(), &'static str> {
        if !self.holds(identity) {
            return Err("that key is not configured");
        }
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    /// Who is configured signs again.
    pub fn reset(&self) {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = self.configured;
    }

    /// The headers that sign `body`, by the identity that the request asked for, or by the chosen
    /// one. A wrong signature is of other content.
    pub fn sign(&self, body: &[u8], asked: Option<&str>, wrong: bool) -> Headers {
        let by_public_key = asked.is_some() && asked == self.public_key_id.as_deref();
        let chosen = *self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = if by_public_key { Identity::PublicKey } else { chosen };
        let (serial, signer) = self.identity(identity);
        let timestamp = (moment::now_ms() / 1_000).to_string();
        let nonce = fresh_nonce();
        let extra: &[u8] = if wrong { b" " } else { b"" };
        let head = format!("{timestamp}\n{nonce}\n");
        let signature = signer.sign(&[head.as_bytes(), body, extra, b"\n"].concat());
        vec![
            ("request-id", format!("{:032X}-0", rand::random::<u128>())),
            ("wechatpay-nonce", nonce),
            ("wechatpay-serial", serial.into()),
            ("wechatpay-signature-type", SCHEME.into()),
            ("wechatpay-timestamp", timestamp),
            (SIGNATURE, signature),
        ]
    }

    /// A signature that must be refused.
    pub fn probe(&self) -> String {
        let noise: [u128; 16] = std::array::from_fn(|_| rand::random());
        PROBE.to_owned() + &BASE64.encode(noise.map(u128::to_be_bytes).concat())
    }

    /// Seals `text` as notifications carry it.
    pub fn seal(&self, text: &str, associated: &str) -> Value {
        let nonce = clip(fresh_nonce(), 12);
        let bytes: [u8; 12] =
            nonce.as_bytes().try_into().expect("a fresh nonce is longer than 12 bytes of ASCII");
        let mut sealed = text.as_bytes().to_vec();
        self.api_key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(bytes),
                Aad::from(associated.as_bytes()),
                &mut sealed,
            )
            .expect("the text is far below the cipher's limit of 64 GiB");
        json!({
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": associated,
            "ciphertext": BASE64.encode(sealed),
        })
    }

    /// The answer of `/v3/certificates`.
    pub fn certificates(&self) -> Value {
        let valid = |year: i64| {
            let at_ms = moment::parse_rfc3339(&format!("{year}-01-01T00:00:00Z"));
            moment::beijing_rfc3339(at_ms.unwrap_or_default())
        };
        let list = [Some(&self.current), self.next.as_ref()].into_iter().flatten();
        let list: Vec<Value> = list
            .map(|certified| {
                json!({
                    "serial_no": certified.serial,
                    "effective_time": valid(self.year),
                    "expire_time": valid(self.year + CERTIFICATE_YEARS),
                    "encrypt_certificate": self.seal(&certified.pem, "certificate"),
                })
            })
            .collect();
        json!({ "data": list })
    }

    fn holds(&self, identity: Identity) -> bool {
        match identity {
            Identity::Current => true,
            Identity::Next => self.next.is_some(),
            Identity::PublicKey => self.public_key_id.is_some(),
        }
    }

    fn identity(&self, identity: Identity) -> (&str, &Signer) {
        let current = (self.current.serial.as_str(), &self.keys.current);
        match (identity, &self.next, &self.keys.next, &self.public_key_id) {
            (Identity::Next, Some(next), Some(signer), _) => (&next.serial, signer),
            (Identity::PublicKey, _, _, Some(id)) => {
                (id, self.keys.public.as_ref().unwrap_or(&self.keys.current))
            }
            _ => current,
        }
    }
}

/// 32 characters.
fn fresh_nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn clip(mut text: String, length: usize) -> String {
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fresh_pair;

    #[test]
    fn a_key_that_is_missing_or_too_short_is_told_at_once() {
        let pair = fresh_pair().unwrap();
        let made = |api_v3_key: &str, chosen: Option<Identity>, id: Option<&str>| {
            let current = Signer::read(&pair.private_pem).unwrap();
            let keys = Keys { current, next: None, public: None };
            let platform = Platform::new(keys, api_v3_key, id.map(str::to_owned), chosen);
            platform.map(|platform| platform.configured).map_err(|why| why.to_string())
        };
        let key = "0123456789abcdef0123456789abcdef";
        assert_eq!(made(key, None, None), Ok(Identity::Current));
        assert_eq!(made(key, None, Some("PUB_KEY_ID_1")), Ok(Identity::PublicKey));
        assert!(made(&key[1..], None, None).unwrap_err().contains("api_v3_key"));
        assert!(made(&key.replace("ef", "é"), None, None).is_err());
        assert!(made(key, Some(Identity::Next), None).unwrap_err().contains("signs_with"));
        assert!(made(key, Some(Identity::PublicKey), None).is_err());
    }

    #[test]
    fn a_probe_is_as_long_as_a_signature() {
        let pair = fresh_pair().unwrap();
        let keys =
            Keys { current: Signer::read(&pair.private_pem).unwrap(), next: None, public: None };
        let platform = Platform::new(keys, &"k".repeat(32), None, None).unwrap();
        let probe = platform.probe();
        let noise = BASE64.decode(probe.strip_prefix(PROBE).unwrap()).unwrap();
        assert_eq!(noise.len(), 256);
        assert_ne!(probe, platform.probe());
    }
}
