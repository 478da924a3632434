//! Opens the encrypted message of a token whose signatures are good.
//!
//! ECIES with P-256, HKDF-SHA256, AES in counter mode and HMAC-SHA256. The tag is compared before
//! anything is decrypted, and in constant time. Which key the sender encrypted to is not said, so
//! each of the account's is tried.

use aes::cipher::{KeyIvInit, StreamCipher};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctr::Ctr128BE;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use interlock_plugin_api::{Host, HostError};
use serde_json::{Map, Value};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::refusal::{Refusal, Stop};
use crate::token::{Protocol, Token};

/// The account's keys, newest first, while one takes the other's place.
const KEYS: [&str; 2] = ["encryption_key", "previous_encryption_key"];
const MEMBERS: [&str; 3] = ["encryptedMessage", "ephemeralPublicKey", "tag"];
const POINT_BYTES: usize = 65;
const INFO: &[u8] = b"Google";
const IV: [u8; 16] = [0; 16];

struct Sealed {
    ciphertext: Zeroizing<Vec<u8>>,
    ephemeral: Vec<u8>,
    tag: Vec<u8>,
}

/// The plain text.
pub(crate) fn open(host: &dyn Host, token: &Token) -> Result<Zeroizing<Vec<u8>>, Stop> {
    let mut sealed = Sealed::read(&token.signed_message)?;
    let key_bytes = if token.protocol == Protocol::EcV1 { 16 } else { 32 };
    for name in KEYS {
        let shared = match host.establish(name, "ecdh-p256", &sealed.ephemeral) {
            Ok(Some(shared)) => Zeroizing::new(shared),
            Ok(None) => return Err(Refusal::BadEphemeralKey.into()),
            Err(HostError::NoSuchKey) => continue,
            Err(error) => return Err(error.into()),
        };
        let keys = derived(&sealed.ephemeral, &shared, 2 * key_bytes);
        let (cipher_key, mac_key) = keys.split_at(key_bytes);
        if fits(mac_key, &sealed) {
            decrypt(cipher_key, &mut sealed.ciphertext);
            return Ok(sealed.ciphertext);
        }
    }
    Err(Refusal::NoKeyFits.into())
}

impl Sealed {
    fn read(signed_message: &str) -> Result<Self, Refusal> {
        let message: Map<String, Value> =
            serde_json::from_str(signed_message).map_err(|_| Refusal::MalformedMessage)?;
        if message.keys().any(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(Refusal::UnexpectedMessageMember);
        }
        if message.len() != MEMBERS.len() {
            return Err(Refusal::MissingMessageMember);
        }
        let bytes = |name: &str| {
            let text = message[name].as_str().ok_or(Refusal::MalformedMessage)?;
            STANDARD.decode(text).map_err(|_| Refusal::MalformedMessage)
        };
        let sealed = Self {
            ciphertext: Zeroizing::new(bytes("encryptedMessage")?),
            ephemeral: bytes("ephemeralPublicKey")?,
            tag: bytes("tag")?,
        };
        if sealed.ephemeral.len() != POINT_BYTES || sealed.ephemeral[0] != 4 {
            return Err(Refusal::BadEphemeralKey);
        }
        Ok(sealed)
    }
}

/// The cipher's key and the tag's, one behind the other.
fn derived(ephemeral: &[u8], shared: &[u8], bytes: usize) -> Zeroizing<Vec<u8>> {
    let mut secret = Zeroizing::new(Vec::with_capacity(ephemeral.len() + shared.len()));
    secret.extend_from_slice(ephemeral);
    secret.extend_from_slice(shared);
    let mut keys = Zeroizing::new(vec![0; bytes]);
    let hkdf = Hkdf::<Sha256>::new(None, &secret);
    hkdf.expand(INFO, &mut keys).expect("64 bytes are far below the most that HKDF gives");
    keys
}

fn fits(mac_key: &[u8], sealed: &Sealed) -> bool {
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(mac_key).expect("HMAC takes any key");
    mac.chain_update(&*sealed.ciphertext).verify_slice(&sealed.tag).is_ok()
}

fn decrypt(key: &[u8], text: &mut [u8]) {
    if key.len() == 16 {
        let cipher = Ctr128BE::<aes::Aes128>::new_from_slices(key, &IV);
        cipher.expect("16 bytes, and a block").apply_keystream(text);
    } else {
        let cipher = Ctr128BE::<aes::Aes256>::new_from_slices(key, &IV);
        cipher.expect("32 bytes, and a block").apply_keystream(text);
    }
}
