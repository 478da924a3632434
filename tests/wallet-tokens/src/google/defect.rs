//! What can be wrong with a token: one defect for each thing that a merchant must refuse.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Protocol;

/// One thing that is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Nobody's root key signed it.
    WrongRoot,
    /// A root key signed it that is listed, and whose time is over.
    ExpiredRoot,
    /// A root key signed it that is listed without an end.
    RootWithoutExpiration,
    /// The intermediate key's time is over.
    ExpiredIntermediate,
    /// The message is signed by nobody's key.
    WrongMessageKey,
    /// It is signed for another recipient.
    WrongRecipient,
    /// It says that it is of an older protocol, which knows no intermediate key.
    DowngradedVersion,
    /// It is not encrypted, and says that it is of the protocol that is.
    SigningOnlyAsEcv2,
    /// It is of a protocol that nobody knows.
    UnknownVersion,
    /// It has a member too many.
    ExtraMember,
    /// Its signature is missing.
    MissingMember,
    /// The encrypted message has a member too many.
    ExtraMessageMember,
    /// The encrypted message has no tag.
    MissingMessageMember,
    /// One bit is not what it was.
    FlippedBit(Part),
    /// The tag is signed, and is not that of the message.
    BadTag,
    /// It is encrypted to another merchant's key.
    OtherMerchantKey,
    /// The ephemeral key is no point of the curve.
    BadEphemeralKey,
    /// Its time is over.
    ExpiredMessage,
    /// It is made for another merchant of the gateway.
    OtherGatewayMerchant,
    /// It is not a card.
    OtherPaymentMethod,
    /// It is neither a card number nor a network token.
    OtherAuthMethod,
    /// A network token without its cryptogram.
    MissingCryptogram,
    /// It has no number.
    MissingMessageId,
    /// What was sealed is not JSON.
    UnreadablePayload,
}

/// Where a bit is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The message's signature.
    Signature,
    /// The signed message.
    Message,
    /// The intermediate key.
    Intermediate,
    /// The intermediate key's signature.
    IntermediateSignature,
}

impl Defect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::WrongRoot,
        Self::ExpiredRoot,
        Self::RootWithoutExpiration,
        Self::ExpiredIntermediate,
        Self::WrongMessageKey,
        Self::WrongRecipient,
        Self::DowngradedVersion,
        Self::SigningOnlyAsEcv2,
        Self::UnknownVersion,
        Self::ExtraMember,
        Self::MissingMember,
        Self::ExtraMessageMember,
        Self::MissingMessageMember,
        Self::FlippedBit(Part::Signature),
        Self::FlippedBit(Part::Message),
        Self::FlippedBit(Part::Intermediate),
        Self::FlippedBit(Part::IntermediateSignature),
        Self::BadTag,
        Self::OtherMerchantKey,
        Self::BadEphemeralKey,
        Self::ExpiredMessage,
        Self::OtherGatewayMerchant,
        Self::OtherPaymentMethod,
        Self::OtherAuthMethod,
        Self::MissingCryptogram,
        Self::MissingMessageId,
        Self::UnreadablePayload,
    ];

    /// The defect of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|defect| defect.word() == word)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::WrongRoot => "wrong_root",
            Self::ExpiredRoot => "expired_root",
            Self::RootWithoutExpiration => "root_without_expiration",
            Self::ExpiredIntermediate => "expired_intermediate",
            Self::WrongMessageKey => "wrong_message_key",
            Self::WrongRecipient => "wrong_recipient",
            Self::DowngradedVersion => "downgraded_version",
            Self::SigningOnlyAsEcv2 => "signing_only_as_ecv2",
            Self::UnknownVersion => "unknown_version",
            Self::ExtraMember => "extra_member",
            Self::MissingMember => "missing_member",
            Self::ExtraMessageMember => "extra_message_member",
            Self::MissingMessageMember => "missing_message_member",
            Self::FlippedBit(Part::Signature) => "flipped_bit_of_signature",
            Self::FlippedBit(Part::Message) => "flipped_bit_of_message",
            Self::FlippedBit(Part::Intermediate) => "flipped_bit_of_intermediate",
            Self::FlippedBit(Part::IntermediateSignature) => {
                "flipped_bit_of_intermediate_signature"
            }
            Self::BadTag => "bad_tag",
            Self::OtherMerchantKey => "other_merchant_key",
            Self::BadEphemeralKey => "bad_ephemeral_key",
            Self::ExpiredMessage => "expired_message",
            Self::OtherGatewayMerchant => "other_gateway_merchant",
            Self::OtherPaymentMethod => "other_payment_method",
            Self::OtherAuthMethod => "other_auth_method",
            Self::MissingCryptogram => "missing_cryptogram",
            Self::MissingMessageId => "missing_message_id",
            Self::UnreadablePayload => "unreadable_payload",
        }
    }

    /// Whether a token of this protocol can have it.
    pub fn fits(self, protocol: Protocol) -> bool {
        let by_intermediate = protocol != Protocol::EcV1;
        let sealed = protocol != Protocol::EcV2SigningOnly;
        match self {
            Self::ExtraMessageMember
            | Self::MissingMessageMember
            | Self::BadTag
            | Self::OtherMerchantKey
            | Self::BadEphemeralKey => sealed,
            Self::RootWithoutExpiration
            | Self::ExpiredIntermediate
            | Self::WrongMessageKey
            | Self::DowngradedVersion
            | Self::SigningOnlyAsEcv2
            | Self::FlippedBit(Part::Intermediate | Part::IntermediateSignature) => by_intermediate,
            _ => true,
        }
    }

    /// Puts what is wrong into a payload that is not sealed yet.
    pub(super) fn change(self, payload: &mut Value) {
        match self {
            Self::OtherGatewayMerchant => payload["gatewayMerchantId"] = "another".into(),
            Self::OtherPaymentMethod => payload["paymentMethod"] = "TOKENIZED_CARD".into(),
            Self::OtherAuthMethod => payload["paymentMethodDetails"]["authMethod"] = "3DS".into(),
            Self::MissingCryptogram => {
                drop_from(&mut payload["paymentMethodDetails"], "cryptogram")
            }
            Self::MissingMessageId => drop_from(payload, "messageId"),
            _ => {}
        }
    }

    /// Puts what is wrong into a token that is signed.
    pub(super) fn damage(self, token: &mut Value) {
        match self {
            Self::DowngradedVersion => {
                token["protocolVersion"] = Protocol::EcV1.name().into();
                drop_from(token, "intermediateSigningKey");
            }
            Self::SigningOnlyAsEcv2 => token["protocolVersion"] = Protocol::EcV2.name().into(),
            Self::UnknownVersion => token["protocolVersion"] = "ECv9".into(),
            Self::ExtraMember => token["more"] = "x".into(),
            Self::MissingMember => drop_from(token, "signature"),
            Self::FlippedBit(part) => flip(token, part),
            _ => {}
        }
    }
}

fn drop_from(value: &mut Value, member: &str) {
    value.as_object_mut().map(|members: &mut Map<String, Value>| members.remove(member));
}

fn flip(token: &mut Value, part: Part) {
    let key = "intermediateSigningKey";
    let place = match part {
        Part::Signature => &mut token["signature"],
        Part::Message => &mut token["signedMessage"],
        Part::Intermediate => &mut token[key]["signedKey"],
        Part::IntermediateSignature => &mut token[key]["signatures"][0],
    };
    let text = place.as_str().unwrap_or_default();
    let flipped = match part {
        Part::Signature | Part::IntermediateSignature => {
            let mut bytes = STANDARD.decode(text).unwrap_or_default();
            // The last byte is of the number `s`, whatever the lengths in front of it are.
            bytes.iter_mut().last().map(|byte| *byte ^= 1).map(|()| STANDARD.encode(bytes))
        }
        Part::Message | Part::Intermediate => {
            let mut bytes = text.as_bytes().to_vec();
            let middle = bytes.len() / 2;
            bytes
                .get_mut(middle)
                .map(|byte| *byte ^= 1)
                .and_then(|()| String::from_utf8(bytes).ok())
        }
    };
    *place = flipped.unwrap_or_default().into();
}
