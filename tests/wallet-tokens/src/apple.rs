//! Apple Pay payment tokens (`PKPaymentToken.paymentData`), EC_v1 and RSA_v1.
//!
//! ```
//! use wallet_tokens::apple::{Authority, Payment, ProcessingKey, make};
//! let payment = Payment::new(4_900, "USD", 1_764_000_000_000, 7);
//! let (by, to) = (Authority::seeded(1), ProcessingKey::seeded(2));
//! let made = make(&by, "merchant.example", &to, &payment, None);
//! assert_eq!(made.token["version"], "EC_v1");
//! assert_eq!(made.inside.currency, "USD");
//! ```

mod authority;
mod defect;
mod keys;
mod signed;

use aes_gcm::aead::generic_array::typenum::U16;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{AesGcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iso_currency::Currency;
use rsa::Oaep;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use authority::Authority;
pub use defect::{Defect, UnknownDefect};
pub use keys::{KeyError, ProcessingKey};

use crate::Seeded;

/// How far a token that is stale, or from the future, is away.
const HOUR_MS: i64 = 3_600_000;

/// What a token is made for.
#[derive(Clone)]
pub struct Payment {
    /// ISO 4217 minor units.
    pub amount: i64,
    /// Three letters.
    pub currency: String,
    /// When the device asks for the token, Unix ms.
    pub now_ms: i64,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// The device's account number; drawn when absent.
    pub number: Option<String>,
    /// As the network gives it, often one digit.
    pub eci: Option<String>,
    /// SHA-256 of the application's data.
    pub application_data: Option<[u8; 32]>,
}

impl Payment {
    /// Of this amount, with the indicator `7`.
    pub fn new(amount: i64, currency: &str, now_ms: i64, seed: u64) -> Self {
        let (currency, eci) = (currency.to_owned(), Some("7".to_owned()));
        Self { amount, currency, now_ms, seed, number: None, eci, application_data: None }
    }
}

/// A token, and what must come out of it.
#[derive(Clone)]
pub struct Made {
    /// `paymentData`.
    pub token: Value,
    /// What is encrypted in it.
    pub inside: Inside,
    /// What was signed.
    pub content: Vec<u8>,
    /// When, Unix ms.
    pub signed_ms: i64,
}

/// What is encrypted in a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// The device's account number.
    pub number: String,
    /// 1 to 12.
    pub expiry_month: u8,
    /// Four digits.
    pub expiry_year: u16,
    /// The one-time cryptogram, base64.
    pub cryptogram: String,
    /// As it stands inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eci: Option<String>,
    /// ISO 4217 minor units.
    pub amount: i64,
    /// Three letters.
    pub currency: String,
    /// Lower-case hexadecimal.
    pub transaction_id: String,
}

/// Whether a token can be made in this currency.
pub fn knows_currency(code: &str) -> bool {
    Currency::from_code(code).is_some()
}

/// A token for this merchant, with at most one thing wrong.
pub fn make(
    by: &Authority,
    merchant: &str,
    to: &ProcessingKey,
    payment: &Payment,
    defect: Option<Defect>,
) -> Made {
    let is = |other| defect == Some(other);
    let mut random = Seeded::new(payment.seed, "apple pay token");
    let inside = inside(payment, &mut random);
    let transaction = hex::decode(&inside.transaction_id).expect("it was just written");
    let stranger = ProcessingKey::seeded(0);
    let recipient = if is(Defect::WrongRecipient) { &stranger } else { to };
    let merchant = if is(Defect::OtherMerchant) { "merchant.of.somebody.else" } else { merchant };
    let text = text(&inside, payment, defect);
    let Sealed { key_name, key, mut data } = seal(recipient, merchant, &text, &mut random);

    let signed_ms = match defect {
        Some(Defect::Stale) => payment.now_ms - HOUR_MS,
        Some(Defect::Future) => payment.now_ms + HOUR_MS,
        _ => payment.now_ms,
    };
    // Without any data of an application there would be nothing to strip.
    let stripped = is(Defect::StrippedApplicationData);
    let application = payment.application_data.or(stripped.then_some([0x5a; 32]));
    let mut content = [&key[..], &data].concat();
    if !is(Defect::UnsignedTransactionId) {
        content.extend(&transaction);
    }
    content.extend(application.iter().flatten());
    let rsa = matches!(recipient, ProcessingKey::Rsa(_));
    let mut signature = signed::signature(by, rsa, &content, signed_ms, defect);

    let mut key = key;
    let flip = |bytes: &mut Vec<u8>| {
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
    };
    match defect {
        Some(Defect::FlippedData) => flip(&mut data),
        Some(Defect::FlippedHeader) => flip(&mut key),
        Some(Defect::FlippedSignature) => flip_signature(&mut signature),
        _ => {}
    }
    let shown = if is(Defect::ReplacedTransactionId) { [7; 32].to_vec() } else { transaction };
    let mut header = json!({
        "publicKeyHash": STANDARD.encode(Sha256::digest(recipient.public_der())),
        "transactionId": hex::encode(shown),
    });
    header[key_name] = STANDARD.encode(&key).into();
    if let Some(application) = application.filter(|_| !stripped) {
        header["applicationData"] = hex::encode(application).into();
    }
    let version = match (defect, rsa) {
        (Some(Defect::UnknownVersion), _) => "EC_v0",
        (Some(Defect::DowngradedVersion), true) | (None, false) => "EC_v1",
        (Some(Defect::DowngradedVersion), false) | (_, true) => "RSA_v1",
        (Some(_), false) => "EC_v1",
    };
    let token = json!({
        "version": version,
        "data": STANDARD.encode(&data),
        "signature": STANDARD.encode(&signature),
        "header": header,
    });
    Made { token, inside, content, signed_ms }
}

/// The last byte of the value that was signed stands before the zeros that end open elements.
fn flip_signature(signature: &mut [u8]) {
    let zeros = signature.iter().rev().take_while(|byte| **byte == 0).count();
    let last = signature.len() - zeros - 1;
    signature[last] ^= 0x10;
}

fn inside(payment: &Payment, random: &mut Seeded) -> Inside {
    let digits = random.bytes::<8>().map(|byte| char::from(b'0' + byte % 10));
    let drawn = with_check_digit(&format!("4000007{}", String::from_iter(digits)));
    Inside {
        number: payment.number.clone().unwrap_or(drawn),
        expiry_month: 7,
        expiry_year: 2031,
        cryptogram: STANDARD.encode(random.bytes::<20>()),
        eci: payment.eci.clone(),
        amount: payment.amount,
        currency: payment.currency.clone(),
        transaction_id: hex::encode(random.bytes::<32>()),
    }
}

/// Adds the digit of ISO/IEC 7812 (Luhn).
fn with_check_digit(number: &str) -> String {
    let doubled = |(at, digit): (usize, char)| {
        let digit = digit.to_digit(10).expect("only digits are drawn");
        if at.is_multiple_of(2) { digit * 2 / 10 + digit * 2 % 10 } else { digit }
    };
    let sum: u32 = number.chars().rev().enumerate().map(doubled).sum();
    format!("{number}{}", (10 - sum % 10) % 10)
}

/// What is encrypted.
fn text(inside: &Inside, payment: &Payment, defect: Option<Defect>) -> Vec<u8> {
    if defect == Some(Defect::UnreadableInside) {
        return b"{\"applicationPrimaryAccountNumber\":".to_vec();
    }
    let known = Currency::from_code(&payment.currency);
    let currency = known.expect("a currency of ISO 4217").numeric();
    let (kind, mut data) = match defect {
        Some(Defect::EmvData) => ("EMV", json!({ "emvData": STANDARD.encode([0x9f, 0x26]) })),
        _ => ("3DSecure", json!({ "onlinePaymentCryptogram": inside.cryptogram })),
    };
    if let Some(eci) = &inside.eci {
        data["eciIndicator"] = eci.clone().into();
    }
    let (year, month) = (inside.expiry_year % 100, inside.expiry_month);
    let text = json!({
        "applicationPrimaryAccountNumber": inside.number,
        "applicationExpirationDate": format!("{year:02}{month:02}31"),
        "currencyCode": format!("{currency:03}"),
        "transactionAmount": inside.amount,
        "deviceManufacturerIdentifier": "040010030273",
        "paymentDataType": kind,
        "paymentData": data,
    });
    text.to_string().into_bytes()
}

struct Sealed {
    /// The field of the header in which the key stands.
    key_name: &'static str,
    key: Vec<u8>,
    data: Vec<u8>,
}

fn seal(to: &ProcessingKey, merchant: &str, text: &[u8], random: &mut Seeded) -> Sealed {
    let iv = Nonce::<U16>::default();
    match to {
        ProcessingKey::Ec(to) => {
            let ephemeral = keys::p256_key(random);
            let shared = p256::ecdh::diffie_hellman(
                ephemeral.to_nonzero_scalar(),
                to.public_key().as_affine(),
            );
            let key = Sha256::new()
                .chain_update([0, 0, 0, 1])
                .chain_update(shared.raw_secret_bytes())
                .chain_update(b"\x0did-aes256-GCMApple")
                .chain_update(Sha256::digest(merchant))
                .finalize();
            let data = AesGcm::<Aes256, U16>::new(&key).encrypt(&iv, text);
            let key = ProcessingKey::Ec(ephemeral).public_der();
            Sealed { key_name: "ephemeralPublicKey", key, data: data.expect("short enough") }
        }
        ProcessingKey::Rsa(to) => {
            let key = random.bytes::<16>();
            let wrapped = to.to_public_key().encrypt(random, Oaep::new::<Sha256>(), &key);
            let data = AesGcm::<Aes128, U16>::new(&key.into()).encrypt(&iv, text);
            let key = wrapped.expect("16 bytes fit");
            Sealed { key_name: "wrappedKey", key, data: data.expect("short enough") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_has_a_word_of_its_own() {
        for (defect, word) in Defect::ALL {
            assert_eq!(word.parse(), Ok(defect));
            assert_eq!(defect.to_string(), word);
        }
        assert_eq!("good".parse::<Defect>(), Err(UnknownDefect("good".into())));
    }

    #[test]
    fn a_seed_makes_the_same_token_and_keys_survive_a_file() {
        let authority = Authority::seeded(3);
        let read = Authority::from_pem(&authority.to_pem()).unwrap();
        assert_eq!(read.root_pem(), authority.root_pem());
        for key in [ProcessingKey::seeded(4), ProcessingKey::seeded_rsa(4)] {
            let again = ProcessingKey::from_pem(&key.to_pem()).unwrap();
            let payment = Payment::new(100, "EUR", 1_764_000_000_000, 9);
            let one = make(&authority, "merchant.a", &key, &payment, None);
            let two = make(&read, "merchant.a", &again, &payment, None);
            assert_eq!(one.token, two.token);
        }
        assert!(Authority::from_pem("nothing").is_err());
    }

    #[test]
    fn a_drawn_number_has_its_check_digit() {
        assert_eq!(with_check_digit("7992739871"), "79927398713");
    }
}
