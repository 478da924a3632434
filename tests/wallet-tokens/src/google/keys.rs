//! The keys of a pretended Google and of one merchant.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::SecretKey;
use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use sha2::{Digest, Sha256};

/// Who signs, and whom it is encrypted to.
#[derive(Clone)]
pub struct Keys {
    pub(super) root: SigningKey,
    intermediate: SecretKey,
    merchant: SecretKey,
}

/// A text that is no private key on P-256 in PKCS#8; it says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError(pub &'static str);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a private key on P-256: {}", self.0)
    }
}

impl std::error::Error for KeyError {}

impl Keys {
    /// Keys that are the same for the same seed.
    pub fn from_seed(seed: &str) -> Self {
        let key = |role: &str| secret(&[seed.as_bytes(), role.as_bytes()]);
        Self {
            root: key("root").into(),
            intermediate: key("intermediate"),
            merchant: key("merchant"),
        }
    }

    /// Keys in PKCS#8, PEM.
    ///
    /// # Errors
    /// [`KeyError`] names the key that can't be read.
    pub fn from_pem(root: &str, intermediate: &str, merchant: &str) -> Result<Self, KeyError> {
        let read = |pem: &str, which| SecretKey::from_pkcs8_pem(pem).map_err(|_| KeyError(which));
        Ok(Self {
            root: read(root, "root")?.into(),
            intermediate: read(intermediate, "intermediate")?,
            merchant: read(merchant, "merchant")?,
        })
    }

    /// The root, the intermediate and the merchant's key, in PKCS#8, PEM.
    pub fn pem(&self) -> [String; 3] {
        let root = SecretKey::from(self.root.as_nonzero_scalar());
        [&root, &self.intermediate, &self.merchant]
            .map(|key| key.to_pkcs8_pem(LineEnding::LF).expect("a key can be written").to_string())
    }

    /// The merchant's private key, in PKCS#8, DER.
    pub fn merchant_pkcs8(&self) -> Vec<u8> {
        self.merchant.to_pkcs8_der().expect("a key can be written").as_bytes().to_vec()
    }

    /// The same, after the merchant's key was replaced.
    #[must_use]
    pub fn with_merchant_of(self, other: &Self) -> Self {
        Self { merchant: other.merchant.clone(), ..self }
    }

    /// The same, after Google's root key was replaced.
    #[must_use]
    pub fn with_root_of(self, other: &Self) -> Self {
        Self { root: other.root.clone(), ..self }
    }

    pub(super) fn intermediate(&self) -> SigningKey {
        self.intermediate.clone().into()
    }

    /// What a message is encrypted to.
    pub(super) fn merchant(&self) -> p256::PublicKey {
        self.merchant.public_key()
    }

    /// A merchant that is not this one.
    pub(super) fn other_merchant(&self) -> p256::PublicKey {
        secret(&[&self.merchant.to_bytes(), b"other"]).public_key()
    }

    /// A root key that is listed with an end in the past.
    pub(super) fn expired_root(&self) -> SigningKey {
        secret(&[&self.root.to_bytes(), b"expired"]).into()
    }

    /// A root key that is listed without an end.
    pub(super) fn endless_root(&self) -> SigningKey {
        secret(&[&self.root.to_bytes(), b"endless"]).into()
    }

    /// Nobody's key.
    pub(super) fn stranger(&self) -> SigningKey {
        secret(&[&self.root.to_bytes(), b"stranger"]).into()
    }

    /// The key that one message is encrypted with.
    pub(super) fn ephemeral(&self, message_id: &str) -> SecretKey {
        secret(&[&self.merchant.to_bytes(), b"ephemeral", message_id.as_bytes()])
    }
}

/// A public key as Google publishes it: SubjectPublicKeyInfo in base64.
pub(super) fn spki(key: &SigningKey) -> String {
    let der = key.verifying_key().to_public_key_der().expect("a key can be written");
    STANDARD.encode(der.as_bytes())
}

/// A private key made from texts; of the digests that are none (one in 2^32) the next is taken.
fn secret(parts: &[&[u8]]) -> SecretKey {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(part);
    }
    let mut bytes = digest.finalize();
    loop {
        if let Ok(key) = SecretKey::from_bytes(&bytes) {
            return key;
        }
        bytes = Sha256::digest(bytes);
    }
}
