//! RSA key pairs of the fakes: made fresh for a demo, so that no private key is ever committed.
//!
//! `ring` signs and verifies because every answer of the Alipay fake carries a signature and the
//! sandbox has to carry load; the `rsa` crate makes keys and reads their many written forms.

use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey, EncodeRsaPublicKey};
use rsa::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
    SecretDocument,
};
use rsa::{RsaPrivateKey, RsaPublicKey};

/// Why a key could not be used.
#[derive(Debug)]
pub enum KeyError {
    /// The text is no RSA key in PEM, or in bare base64 of its DER.
    Unreadable(&'static str),
    /// The text is not hexadecimal.
    NotHex(&'static str),
    /// It is of the wrong kind, or missing.
    Unfit(&'static str),
    /// A key could not be made.
    NotMade(String),
    /// A key file could not be written.
    NotWritten(String),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(which) => write!(f, "not an RSA key of 2048 bits or more: {which}"),
            Self::NotHex(which) => write!(f, "not a key in hexadecimal: {which}"),
            Self::Unfit(why) => write!(f, "a key cannot be used: {why}"),
            Self::NotMade(why) => write!(f, "could not make a key: {why}"),
            Self::NotWritten(why) => write!(f, "could not write a key: {why}"),
        }
    }
}

impl std::error::Error for KeyError {}

/// A private key that signs with RSASSA-PKCS1-v1_5 and SHA-256 (Alipay's RSA2).
pub struct Signer {
    pair: RsaKeyPair,
    pkcs8: SecretDocument,
    random: SystemRandom,
}

impl Signer {
    /// Reads a private key: PKCS#8 or PKCS#1, as PEM or as the bare base64 that Alipay's own
    /// tools print.
    ///
    /// # Errors
    /// `Unreadable` when it is none of these, or shorter than 2048 bits.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let pkcs8 = private_der(text).ok_or(KeyError::Unreadable("private key"))?;
        let pair = RsaKeyPair::from_pkcs8(pkcs8.as_bytes())
            .map_err(|_| KeyError::Unreadable("private key"))?;
        Ok(Self { pair, pkcs8, random: SystemRandom::new() })
    }

    /// The signature of `content` in base64.
    pub fn sign(&self, content: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &self.random, content, &mut signature)
            .expect("the buffer has the length of the modulus");
        STANDARD.encode(signature)
    }

    /// A certificate of this key by itself, good from New Year of `year` for five years. The same
    /// key has the same serial number in every run.
    ///
    /// # Errors
    /// `NotMade` when it cannot be encoded.
    pub fn certify(&self, name: &str, year: i32) -> Result<Certified, KeyError> {
        let not_made = |why: rcgen::Error| KeyError::NotMade(why.to_string());
        let key = rcgen::KeyPair::try_from(self.pkcs8.as_bytes()).map_err(not_made)?;
        let mut serial = digest(&SHA256, self.pair.public().as_ref()).as_ref()[..20].to_vec();
        // Neither negative nor beginning with zeros, so that its hexadecimal has one form.
        serial[0] = 0x40 | (serial[0] & 0x3f);
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(serial.clone().into());
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + 5, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).map_err(not_made)?.pem();
        Ok(Certified { serial: hex::encode_upper(serial), pem })
    }
}

/// A certificate.
pub struct Certified {
    /// Upper hexadecimal, 40 digits.
    pub serial: String,
    /// X.509.
    pub pem: String,
}

/// A private key in PKCS#8, from any form that [`Signer::read`] takes.
pub(crate) fn private_der(text: &str) -> Option<SecretDocument> {
    let text = text.trim();
    let key = if text.starts_with("-----") {
        RsaPrivateKey::from_pkcs8_pem(text).ok().or(RsaPrivateKey::from_pkcs1_pem(text).ok())
    } else {
        bare(text).and_then(|der| {
            RsaPrivateKey::from_pkcs8_der(&der).ok().or(RsaPrivateKey::from_pkcs1_der(&der).ok())
        })
    };
    key.and_then(|key| key.to_pkcs8_der().ok())
}

/// A public key that checks RSA2 signatures.
pub struct Verifier {
    pkcs1_der: Vec<u8>,
}

impl Verifier {
    /// Reads a public key: SPKI or PKCS#1, as PEM or bare base64.
    ///
    /// # Errors
    /// `Unreadable` when it is none of these.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let key = if text.starts_with("-----") {
            RsaPublicKey::from_public_key_pem(text).ok().or(RsaPublicKey::from_pkcs1_pem(text).ok())
        } else {
            bare(text).and_then(|der| {
                RsaPublicKey::from_public_key_der(&der)
                    .ok()
                    .or(RsaPublicKey::from_pkcs1_der(&der).ok())
            })
        };
        let der = key.and_then(|key| key.to_pkcs1_der().ok());
        let der = der.ok_or(KeyError::Unreadable("public key"))?;
        Ok(Self { pkcs1_der: der.as_bytes().to_vec() })
    }

    /// Whether `signature` (base64) is this key's over `content`.
    pub fn verifies(&self, content: &[u8], signature: &str) -> bool {
        let Ok(raw) = STANDARD.decode(signature) else {
            return false;
        };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.pkcs1_der)
            .verify(content, &raw)
            .is_ok()
    }
}

/// One fresh RSA-2048 pair.
pub struct FreshPair {
    /// PKCS#8 PEM.
    pub private_pem: String,
    /// SPKI PEM.
    pub public_pem: String,
}

/// Makes an RSA-2048 pair from the operating system's randomness. Takes up to seconds.
///
/// # Errors
/// `NotMade` when the randomness or the encoding fails.
pub fn fresh_pair() -> Result<FreshPair, KeyError> {
    let not_made = |why: &dyn fmt::Display| KeyError::NotMade(why.to_string());
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).map_err(|e| not_made(&e))?;
    let private = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| not_made(&e))?;
    let public = key.to_public_key().to_public_key_pem(LineEnding::LF);
    Ok(FreshPair {
        private_pem: private.to_string(),
        public_pem: public.map_err(|e| not_made(&e))?,
    })
}

/// Writes `app_private.pem`, `app_public.pem`, `gateway_private.pem` and `gateway_public.pem`
/// into `folder`. A pair that is already there stays, so a running demo keeps its keys. Answers
/// how many pairs were made.
///
/// # Errors
/// `NotMade` and `NotWritten`.
pub fn write_account_keys(folder: &Path) -> Result<usize, KeyError> {
    write_pairs(folder, &["app", "gateway"])
}

/// Writes `ROLE_private.pem` and `ROLE_public.pem` into `folder` for each role; pairs that are
/// there stay. Answers how many were made.
///
/// # Errors
/// `NotMade` and `NotWritten`.
pub fn write_pairs(folder: &Path, roles: &[&str]) -> Result<usize, KeyError> {
    let not_written = |e: std::io::Error| KeyError::NotWritten(e.to_string());
    fs::create_dir_all(folder).map_err(not_written)?;
    let mut made = 0;
    for role in roles {
        let private = folder.join(format!("{role}_private.pem"));
        let public = folder.join(format!("{role}_public.pem"));
        if private.exists() && public.exists() {
            continue;
        }
        let pair = fresh_pair()?;
        write_private(&private, &pair.private_pem).map_err(not_written)?;
        fs::write(&public, &pair.public_pem).map_err(not_written)?;
        made += 1;
    }
    Ok(made)
}

pub(crate) fn write_private(path: &Path, pem: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(pem.as_bytes())
}

fn bare(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_pair_signs_what_its_public_half_accepts_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write_account_keys(folder.path()).unwrap(), 2);
        assert_eq!(write_account_keys(folder.path()).unwrap(), 0, "keys that exist stay");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let signer = Signer::read(&read("app_private.pem")).unwrap();
        let verifier = Verifier::read(&read("app_public.pem")).unwrap();
        let other = Verifier::read(&read("gateway_public.pem")).unwrap();
        let signature = signer.sign(b"total_amount=1.00");
        assert!(verifier.verifies(b"total_amount=1.00", &signature));
        assert!(!verifier.verifies(b"total_amount=1.01", &signature));
        assert!(!other.verifies(b"total_amount=1.00", &signature));
        assert!(!verifier.verifies(b"total_amount=1.00", "not base64"));
    }

    #[test]
    fn the_bare_base64_of_alipay_tools_is_a_key_too() {
        let pair = fresh_pair().unwrap();
        let inner = |pem: &str| -> String {
            pem.lines().filter(|line| !line.starts_with("-----")).collect()
        };
        let signer = Signer::read(&inner(&pair.private_pem)).unwrap();
        let verifier = Verifier::read(&inner(&pair.public_pem)).unwrap();
        assert!(verifier.verifies(b"x", &signer.sign(b"x")));
        assert!(Signer::read("rubbish").is_err());
    }

    #[test]
    fn a_certificate_holds_the_public_key_and_its_serial_number() {
        let pair = fresh_pair().unwrap();
        let signer = Signer::read(&pair.private_pem).unwrap();
        let made = signer.certify("Tenpay.com", 2026).unwrap();
        let der = |pem: &str| {
            bare(&pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>())
                .unwrap()
        };
        let (certificate, public) = (der(&made.pem), der(&pair.public_pem));
        let holds = |part: &[u8]| certificate.windows(part.len()).any(|window| window == part);
        assert!(holds(&public));
        assert!(holds(&hex::decode(&made.serial).unwrap()));
        assert_eq!((made.serial.len(), made.serial.to_uppercase()), (40, made.serial.clone()));
        assert_eq!(signer.certify("x", 2027).unwrap().serial, made.serial);
    }
}
