//! The token's outer form: exactly its members, each within its bounds.
//!
//! A member that Google does not send is refused, as Google's own library does: what nobody signed
//! must not be able to say anything.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

const TOKEN_BYTES_MAX: usize = 32 * 1024;
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
const SIGNED_KEY_BYTES_MAX: usize = 1024;
const SIGNATURE_CHARS_MAX: usize = 128;
const SIGNATURES_MAX: usize = 8;

/// How a token is signed and sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Signed by a root key, encrypted with AES-128.
    EcV1,
    /// Signed by an intermediate key, encrypted with AES-256.
    EcV2,
    /// Signed by an intermediate key, not encrypted.
    EcV2SigningOnly,
}

impl Protocol {
    /// The protocol of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::EcV1, Self::EcV2, Self::EcV2SigningOnly].into_iter().find(|p| p.name() == name)
    }

    /// Its name in tokens, in keys and under signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EcV1 => "ECv1",
            Self::EcV2 => "ECv2",
            Self::EcV2SigningOnly => "ECv2SigningOnly",
        }
    }

    fn members(self) -> &'static [&'static str] {
        const ECV2: &[&str] =
            &["protocolVersion", "signature", "signedMessage", "intermediateSigningKey"];
        match self {
            Self::EcV1 => &ECV2[..3],
            Self::EcV2 | Self::EcV2SigningOnly => ECV2,
        }
    }
}

/// A token in its parts, none of which is believed yet.
pub(crate) struct Token {
    /// What it says it is.
    pub(crate) protocol: Protocol,
    /// DER.
    pub(crate) signature: Vec<u8>,
    /// The text, byte for byte as it was signed.
    pub(crate) signed_message: String,
    /// Who signed the message, where the root keys do not.
    pub(crate) intermediate: Option<Intermediate>,
}

/// An intermediate key and who vouches for it.
pub(crate) struct Intermediate {
    /// The text, byte for byte as it was signed.
    pub(crate) signed_key: String,
    /// DER, each.
    pub(crate) signatures: Vec<Vec<u8>>,
}

impl Token {
    /// Takes a token apart: the JSON, or a JSON string that holds it.
    pub(crate) fn read(token: &Value, allowed: &[Protocol]) -> Result<Self, Refusal> {
        let within;
        let token = match token {
            Value::String(text) if text.len() <= TOKEN_BYTES_MAX => {
                within = serde_json::from_str(text).map_err(|_| Refusal::MalformedToken)?;
                &within
            }
            token => token,
        };
        let token = token.as_object().ok_or(Refusal::MalformedToken)?;
        let version = token.get("protocolVersion").ok_or(Refusal::MissingMember)?;
        let version = version.as_str().ok_or(Refusal::MalformedToken)?;
        let protocol = Protocol::of(version).ok_or(Refusal::UnknownProtocol)?;
        if !allowed.contains(&protocol) {
            return Err(Refusal::ProtocolNotAllowed);
        }
        exactly(token, protocol.members())?;
        let intermediate = token.get("intermediateSigningKey").map(Intermediate::read);
        Ok(Self {
            protocol,
            signature: signature(&token["signature"])?,
            signed_message: text(&token["signedMessage"], MESSAGE_BYTES_MAX)?.to_owned(),
            intermediate: intermediate.transpose()?,
        })
    }
}

impl Intermediate {
    fn read(key: &Value) -> Result<Self, Refusal> {
        let key = key.as_object().ok_or(Refusal::MalformedToken)?;
        exactly(key, &["signedKey", "signatures"])?;
        let signatures = key["signatures"].as_array().ok_or(Refusal::MalformedToken)?;
        if !(1..=SIGNATURES_MAX).contains(&signatures.len()) {
            return Err(Refusal::MalformedToken);
        }
        Ok(Self {
            signed_key: text(&key["signedKey"], SIGNED_KEY_BYTES_MAX)?.to_owned(),
            signatures: signatures.iter().map(signature).collect::<Result<_, _>>()?,
        })
    }
}

fn exactly(map: &Map<String, Value>, members: &[&str]) -> Result<(), Refusal> {
    if map.keys().any(|name| !members.contains(&name.as_str())) {
        return Err(Refusal::UnexpectedMember);
    }
    if map.len() != members.len() {
        return Err(Refusal::MissingMember);
    }
    Ok(())
}

fn text(value: &Value, bytes_max: usize) -> Result<&str, Refusal> {
    let text = value.as_str().filter(|text| !text.is_empty() && text.len() <= bytes_max);
    text.ok_or(Refusal::MalformedToken)
}

fn signature(value: &Value) -> Result<Vec<u8>, Refusal> {
    let text = text(value, SIGNATURE_CHARS_MAX)?;
    STANDARD.decode(text).map_err(|_| Refusal::MalformedToken)
}
