//! Private keys of tests: drawn from a seed, written to PEM and read again.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};

use crate::Seeded;

/// The key of a merchant that tokens are encrypted to.
#[derive(Clone)]
pub enum ProcessingKey {
    /// On P-256, for EC_v1.
    Ec(p256::SecretKey),
    /// RSA of 2048 bits, for RSA_v1.
    Rsa(Box<rsa::RsaPrivateKey>),
}

/// It is not the private key in PEM that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a private key in PEM (PKCS#8) of the right kind")
    }
}

impl std::error::Error for KeyError {}

impl ProcessingKey {
    /// A key on P-256 from a seed.
    pub fn seeded(seed: u64) -> Self {
        Self::Ec(p256_key(&mut Seeded::new(seed, "apple pay processing key")))
    }

    /// An RSA key from a seed.
    pub fn seeded_rsa(seed: u64) -> Self {
        Self::Rsa(Box::new(rsa_key(&mut Seeded::new(seed, "apple pay rsa processing key"))))
    }

    /// Reads PKCS#8 in PEM, or SEC 1 as `openssl ecparam` writes it.
    ///
    /// # Errors
    /// [`KeyError`] when it is something else.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if let Ok(key) = p256::SecretKey::from_pkcs8_pem(text) {
            return Ok(Self::Ec(key));
        }
        let sec1 = text.find("-----BEGIN EC PRIVATE KEY").map(|at| &text[at..]);
        if let Some(Ok(key)) = sec1.map(p256::SecretKey::from_sec1_pem) {
            return Ok(Self::Ec(key));
        }
        let key = rsa::RsaPrivateKey::from_pkcs8_pem(text).map_err(|_| KeyError)?;
        Ok(Self::Rsa(Box::new(key)))
    }

    /// PKCS#8 in PEM.
    pub fn to_pem(&self) -> String {
        let text = match self {
            Self::Ec(key) => key.to_pkcs8_pem(LineEnding::LF),
            Self::Rsa(key) => key.to_pkcs8_pem(LineEnding::LF),
        };
        text.expect("a key can be written").to_string()
    }

    /// PKCS#8 in DER.
    pub fn to_der(&self) -> Vec<u8> {
        let der = match self {
            Self::Ec(key) => key.to_pkcs8_der(),
            Self::Rsa(key) => key.to_pkcs8_der(),
        };
        der.expect("a key can be written").as_bytes().to_vec()
    }

    /// The public half: SubjectPublicKeyInfo in DER, whose digest a token names.
    pub fn public_der(&self) -> Vec<u8> {
        let der = match self {
            Self::Ec(key) => key.public_key().to_public_key_der(),
            Self::Rsa(key) => key.to_public_key().to_public_key_der(),
        };
        der.expect("a key can be written").as_bytes().to_vec()
    }
}

pub(super) fn p256_key(random: &mut Seeded) -> p256::SecretKey {
    loop {
        if let Ok(key) = p256::SecretKey::from_slice(&random.bytes::<32>()) {
            return key;
        }
    }
}

pub(super) fn rsa_key(random: &mut Seeded) -> rsa::RsaPrivateKey {
    rsa::RsaPrivateKey::new(random, 2048).expect("there are primes enough")
}

/// The blocks of a PEM file, in their order.
pub(super) fn blocks(text: &str) -> Vec<&str> {
    const END: &str = "-----END PRIVATE KEY-----";
    text.split_inclusive(END).filter(|block| block.ends_with(END)).map(str::trim_start).collect()
}

/// A block of PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
