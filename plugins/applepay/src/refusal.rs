//! Why a token is refused: each reason has a word of its own, and a class that routing understands.

use interlock_plugin_api::{Class, Fault, HostError};

/// A reason to refuse a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not the JSON of a token, or a field that is too long.
    MalformedToken,
    UnknownVersion,
    /// The key in the header is not of the version's kind.
    VersionMismatch,
    /// Not a CMS signature with certificates.
    MalformedSignature,
    AttachedContent,
    NotOneSigner,
    OtherDigest,
    NoSignerCertificate,
    NoIntermediate,
    LeafWithoutExtension,
    IntermediateWithoutExtension,
    IntermediateNoAuthority,
    WrongRoot,
    BrokenChain,
    /// A certificate of the chain was not valid when the token was signed.
    NotValidThen,
    /// The leaf's key is not of the version's kind, or may not sign.
    WrongLeafKey,
    NoSigningTime,
    /// What was signed is not what stands in the token.
    ContentChanged,
    BadSignature,
    Stale,
    Future,
    NoKeyFits,
    NotDecrypted,
    MalformedContent,
    EmvData,
    UnknownDataType,
    WrongCurrency,
    WrongAmount,
}

impl Refusal {
    /// The word, as facts and logs have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MalformedToken => "malformed_token",
            Self::UnknownVersion => "unknown_version",
            Self::VersionMismatch => "version_mismatch",
            Self::MalformedSignature => "malformed_signature",
            Self::AttachedContent => "attached_content",
            Self::NotOneSigner => "not_one_signer",
            Self::OtherDigest => "other_digest",
            Self::NoSignerCertificate => "no_signer_certificate",
            Self::NoIntermediate => "no_intermediate",
            Self::LeafWithoutExtension => "leaf_without_extension",
            Self::IntermediateWithoutExtension => "intermediate_without_extension",
            Self::IntermediateNoAuthority => "intermediate_no_authority",
            Self::WrongRoot => "wrong_root",
            Self::BrokenChain => "broken_chain",
            Self::NotValidThen => "not_valid_then",
            Self::WrongLeafKey => "wrong_leaf_key",
            Self::NoSigningTime => "no_signing_time",
            Self::ContentChanged => "content_changed",
            Self::BadSignature => "bad_signature",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::NoKeyFits => "no_key_fits",
            Self::NotDecrypted => "not_decrypted",
            Self::MalformedContent => "malformed_content",
            Self::EmvData => "emv_data",
            Self::UnknownDataType => "unknown_data_type",
            Self::WrongCurrency => "wrong_currency",
            Self::WrongAmount => "wrong_amount",
        }
    }

    /// Whose business it is.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Stale | Self::Future => Class::Expired,
            Self::WrongCurrency | Self::WrongAmount => Class::User,
            Self::NoKeyFits => Class::Config,
            _ => Class::Verification,
        }
    }
}

/// Why nothing was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// The token is bad.
    Refused(Refusal),
    /// Nothing can be said of the token.
    Fault(Fault),
}

impl From<Refusal> for No {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<HostError> for No {
    fn from(error: HostError) -> Self {
        Self::Fault(error.into())
    }
}
