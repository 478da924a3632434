//! Google Pay payment method tokens (ECv1, ECv2, ECv2SigningOnly).
//!
//! It plays Google: roots, an intermediate key and a message for one merchant, sealed and signed
//! as Google's document says. The same wish gives the same token, byte for byte, so nothing here
//! is random: the ephemeral key and the cryptogram come from the message's number.

mod defect;
mod keys;
mod sealing;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use defect::{Defect, Part};
pub use keys::{KeyError, Keys};

/// A device account number and a card number that no issuer gives out.
pub const DEVICE_NUMBER: &str = "4000007000000024";
/// See [`DEVICE_NUMBER`].
pub const CARD_NUMBER: &str = "4000007000000032";
/// How long a message and an intermediate key are good, ms.
const LIFE_MS: i64 = 7 * 24 * 3_600_000;
const ROOT_LIFE_MS: i64 = 10 * 365 * 24 * 3_600_000;

/// How a token is signed and sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Signed by a root key, encrypted with AES-128.
    EcV1,
    /// Signed by an intermediate key, encrypted with AES-256.
    EcV2,
    /// Signed by an intermediate key, not encrypted.
    EcV2SigningOnly,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EcV1, Self::EcV2, Self::EcV2SigningOnly];

    /// As tokens and keys name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcV1 => "ECv1",
            Self::EcV2 => "ECv2",
            Self::EcV2SigningOnly => "ECv2SigningOnly",
        }
    }
}

/// What is in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// A card number.
    PanOnly,
    /// A network token with its cryptogram.
    Cryptogram3ds,
}

impl AuthMethod {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::PanOnly, Self::Cryptogram3ds];

    /// As the message names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PanOnly => "PAN_ONLY",
            Self::Cryptogram3ds => "CRYPTOGRAM_3DS",
        }
    }
}

/// What a token is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// How it is signed and sealed.
    pub protocol: Protocol,
    /// What is in it.
    pub auth_method: AuthMethod,
    /// The card's or the device's number.
    pub number: &'a str,
    /// Whom it is signed for, in whole: `merchant:ID`.
    pub recipient_id: &'a str,
    /// Which merchant of a gateway it is made for.
    pub gateway_merchant_id: Option<&'a str>,
    /// Its number.
    pub message_id: &'a str,
    /// When it is made, Unix ms.
    pub now_ms: i64,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// What a browser would hand over.
    pub token: Value,
    /// The number in it.
    pub number: String,
    /// The cryptogram in it.
    pub cryptogram: Option<String>,
}

/// Makes a token.
pub fn token(keys: &Keys, wish: &Wish<'_>) -> Made {
    token_with(keys, wish, |_| {})
}

/// Makes a token whose payload is changed before it is sealed and signed.
pub fn token_with(keys: &Keys, wish: &Wish<'_>, change: impl FnOnce(&mut Value)) -> Made {
    let defect = wish.defect;
    let is = |wanted: Defect| defect == Some(wanted);
    let protocol =
        if is(Defect::SigningOnlyAsEcv2) { Protocol::EcV2SigningOnly } else { wish.protocol };
    let cryptogram = (wish.auth_method == AuthMethod::Cryptogram3ds)
        .then(|| STANDARD.encode(&Sha256::digest(wish.message_id)[..20]));
    let mut payload = payload(wish, cryptogram.as_deref());
    change(&mut payload);
    let payload = if is(Defect::UnreadablePayload) { "{".into() } else { payload.to_string() };
    let message = match protocol {
        Protocol::EcV2SigningOnly => payload,
        sealed => sealing::seal(keys, sealed, wish.message_id, payload.as_bytes(), defect),
    };
    let root = match defect {
        Some(Defect::WrongRoot) => keys.stranger(),
        Some(Defect::ExpiredRoot) => keys.expired_root(),
        Some(Defect::RootWithoutExpiration) => keys.endless_root(),
        _ => keys.root.clone(),
    };
    let recipient = if is(Defect::WrongRecipient) { "merchant:another" } else { wish.recipient_id };
    let signed = lv(&["Google", recipient, protocol.name(), &message]);
    let mut token = json!({ "protocolVersion": protocol.name(), "signedMessage": message });
    if protocol == Protocol::EcV1 {
        token["signature"] = sign(&root, &signed).into();
    } else {
        let by = if is(Defect::WrongMessageKey) { keys.stranger() } else { keys.intermediate() };
        token["signature"] = sign(&by, &signed).into();
        let life_ms = if is(Defect::ExpiredIntermediate) { -1 } else { LIFE_MS };
        let signed_key = json!({
            "keyValue": keys::spki(&keys.intermediate()),
            "keyExpiration": (wish.now_ms + life_ms).to_string(),
        });
        let signed_key = signed_key.to_string();
        let vouched = sign(&root, &lv(&["Google", protocol.name(), &signed_key]));
        token["intermediateSigningKey"] =
            json!({ "signedKey": signed_key, "signatures": [vouched] });
    }
    if let Some(defect) = defect {
        defect.damage(&mut token);
    }
    let cryptogram = cryptogram.filter(|_| !is(Defect::MissingCryptogram));
    Made { token, number: wish.number.into(), cryptogram }
}

/// The file of public keys that Google would publish at this moment: those in force, one whose
/// time is over, and one without an end.
pub fn keys_json(keys: &Keys, now_ms: i64) -> String {
    let entry = |protocol: Protocol, key: &SigningKey, life_ms: Option<i64>| {
        let mut entry = json!({
            "keyValue": keys::spki(key), "protocolVersion": protocol.name(),
        });
        if let Some(life_ms) = life_ms {
            entry["keyExpiration"] = (now_ms + life_ms).to_string().into();
        }
        entry
    };
    let mut all = Vec::new();
    for protocol in Protocol::ALL {
        let old = protocol == Protocol::EcV1;
        all.push(entry(protocol, &keys.expired_root(), Some(-1)));
        all.push(entry(protocol, &keys.root, (!old).then_some(ROOT_LIFE_MS)));
        if !old {
            all.push(entry(protocol, &keys.endless_root(), None));
        }
    }
    json!({ "keys": all }).to_string()
}

fn payload(wish: &Wish<'_>, cryptogram: Option<&str>) -> Value {
    let life_ms = if wish.defect == Some(Defect::ExpiredMessage) { -1 } else { LIFE_MS };
    let mut details = json!({
        "pan": wish.number, "expirationMonth": 12, "expirationYear": 2035,
        "authMethod": wish.auth_method.name(),
    });
    if let Some(cryptogram) = cryptogram {
        details["cryptogram"] = cryptogram.into();
        details["eciIndicator"] = "05".into();
    }
    let mut payload = json!({
        "messageExpiration": (wish.now_ms + life_ms).to_string(),
        "messageId": wish.message_id,
        "paymentMethod": "CARD",
        "paymentMethodDetails": details,
    });
    if let Some(merchant) = wish.gateway_merchant_id {
        payload["gatewayMerchantId"] = merchant.into();
    }
    if let Some(defect) = wish.defect {
        defect.change(&mut payload);
    }
    payload
}

fn sign(key: &SigningKey, data: &[u8]) -> String {
    let signature: Signature = key.sign(data);
    STANDARD.encode(signature.to_der())
}

/// Each part after its length in bytes, four of them, the lowest first.
fn lv(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        let len = u32::try_from(part.len()).expect("a part of a token is short");
        out.extend(len.to_le_bytes());
        out.extend(part.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish<'static> {
        Wish {
            protocol: Protocol::EcV2,
            auth_method: AuthMethod::Cryptogram3ds,
            number: DEVICE_NUMBER,
            recipient_id: "merchant:1",
            gateway_merchant_id: None,
            message_id: "m1",
            now_ms: 1_764_000_000_000,
            defect: None,
        }
    }

    #[test]
    fn the_same_wish_gives_the_same_token_and_another_number_another_one() {
        let keys = Keys::from_seed("a");
        assert_eq!(token(&keys, &wish()), token(&keys, &wish()));
        let other = Wish { message_id: "m2", ..wish() };
        assert_ne!(token(&keys, &wish()).cryptogram, token(&keys, &other).cryptogram);
    }

    #[test]
    fn every_defect_changes_the_token_and_is_found_by_its_word() {
        let keys = Keys::from_seed("a");
        let good = token(&keys, &Wish { gateway_merchant_id: Some("gm"), ..wish() });
        for defect in Defect::ALL {
            let gateway_merchant_id = Some("gm");
            let bad = token(&keys, &Wish { defect: Some(*defect), gateway_merchant_id, ..wish() });
            assert_ne!(bad.token, good.token, "{}", defect.word());
            assert_eq!(Defect::of(defect.word()), Some(*defect));
        }
        assert_eq!(Defect::of("none"), None);
    }

    #[test]
    fn keys_are_read_from_what_they_write() {
        let keys = Keys::from_seed("a");
        let pem = keys.pem();
        let again = Keys::from_pem(&pem[0], &pem[1], &pem[2]).unwrap();
        assert_eq!(token(&keys, &wish()), token(&again, &wish()));
        assert!(Keys::from_pem(&pem[0], "rubbish", &pem[2]).is_err());
    }
}
