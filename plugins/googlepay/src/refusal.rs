//! Why a token is refused: one word for each reason, and its class.

use interlock_plugin_api::{Class, Fault, HostError};

/// What ends the judging of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A verdict.
    Refused(Refusal),
    /// It can't be judged.
    Fault(Fault),
}

impl From<Refusal> for Stop {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Self::Fault(error.into())
    }
}

/// A reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not the JSON of a token, or a member of it has another form or size.
    MalformedToken,
    /// The token has a member that a token has not.
    UnexpectedMember,
    /// The token lacks a member.
    MissingMember,
    /// A protocol that nobody here knows.
    UnknownProtocol,
    /// A protocol that the account does not take.
    ProtocolNotAllowed,
    /// There is no root key for the protocol.
    NoRootKey,
    /// No root key in force has signed.
    WrongRoot,
    /// A root key has signed whose time is over.
    ExpiredRoot,
    /// A root key has signed that must not be used, because it has no end.
    RootWithoutExpiration,
    /// What Google signed as its intermediate key is none.
    MalformedIntermediate,
    /// The intermediate key's time is over.
    ExpiredIntermediate,
    /// The message was not signed by who had to, or not for this recipient.
    BadSignature,
    /// What was signed is no encrypted message.
    MalformedMessage,
    /// The encrypted message has a member too many.
    UnexpectedMessageMember,
    /// The encrypted message lacks a member.
    MissingMessageMember,
    /// What should be an ephemeral public key is no point of the curve.
    BadEphemeralKey,
    /// It was encrypted to none of the account's keys, or its tag is not the sender's.
    NoKeyFits,
    /// What was encrypted is no payment method.
    MalformedPayload,
    /// Its time is over.
    ExpiredMessage,
    /// It was made for another merchant of a gateway.
    OtherGatewayMerchant,
    /// It is not a card.
    UnsupportedPaymentMethod,
    /// Neither a card number nor a network token.
    UnsupportedAuthMethod,
    /// A network token without its cryptogram.
    MissingCryptogram,
}

impl Refusal {
    /// The word that operators read.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::MalformedToken => "malformed_token",
            Self::UnexpectedMember => "unexpected_member",
            Self::MissingMember => "missing_member",
            Self::UnknownProtocol => "unknown_protocol",
            Self::ProtocolNotAllowed => "protocol_not_allowed",
            Self::NoRootKey => "no_root_key",
            Self::WrongRoot => "wrong_root",
            Self::ExpiredRoot => "expired_root",
            Self::RootWithoutExpiration => "root_without_expiration",
            Self::MalformedIntermediate => "malformed_intermediate",
            Self::ExpiredIntermediate => "expired_intermediate",
            Self::BadSignature => "bad_signature",
            Self::MalformedMessage => "malformed_message",
            Self::UnexpectedMessageMember => "unexpected_message_member",
            Self::MissingMessageMember => "missing_message_member",
            Self::BadEphemeralKey => "bad_ephemeral_key",
            Self::NoKeyFits => "no_key_fits",
            Self::MalformedPayload => "malformed_payload",
            Self::ExpiredMessage => "expired_message",
            Self::OtherGatewayMerchant => "other_gateway_merchant",
            Self::UnsupportedPaymentMethod => "unsupported_payment_method",
            Self::UnsupportedAuthMethod => "unsupported_auth_method",
            Self::MissingCryptogram => "missing_cryptogram",
        }
    }

    /// What it means to who routes.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::ExpiredRoot | Self::ExpiredIntermediate | Self::ExpiredMessage => Class::Expired,
            Self::NoKeyFits => Class::Config,
            _ => Class::Verification,
        }
    }
}
