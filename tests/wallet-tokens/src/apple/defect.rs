//! What can be wrong with a token, each by a word that tests and the sandbox share.

use std::fmt;
use std::str::FromStr;

/// One thing that is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The leaf's certificate lacks Apple's extension.
    MissingLeafOid,
    /// The intermediate's certificate lacks Apple's extension.
    MissingIntermediateOid,
    /// The chain leads to another root of the same name.
    WrongRoot,
    /// Another authority than the intermediate signed the leaf in its name.
    BrokenChain,
    /// The intermediate is no authority.
    IntermediateNoAuthority,
    /// The leaf had expired when it signed.
    ExpiredLeaf,
    /// The intermediate's certificate is not there.
    MissingIntermediate,
    /// The signature says no time.
    NoSigningTime,
    /// Two signers instead of one.
    TwoSigners,
    /// Nobody signed.
    NoSigner,
    /// The digest is not SHA-256 by its name.
    OtherDigest,
    /// The leaf's key is not of the version's kind.
    OtherLeafKey,
    /// The content stands inside the signature.
    AttachedContent,
    /// The transaction's number was not signed.
    UnsignedTransactionId,
    /// The transaction's number was replaced afterwards.
    ReplacedTransactionId,
    /// The digest of the application's data was taken out.
    StrippedApplicationData,
    /// Signed an hour before.
    Stale,
    /// Signed an hour later.
    Future,
    /// Encrypted to a key of somebody else.
    WrongRecipient,
    /// Encrypted to this key in the name of another merchant.
    OtherMerchant,
    /// A bit of the encrypted data flipped.
    FlippedData,
    /// A bit of the signature flipped.
    FlippedSignature,
    /// A bit of the ephemeral or the wrapped key flipped.
    FlippedHeader,
    /// The other version's name.
    DowngradedVersion,
    /// A version that nobody made.
    UnknownVersion,
    /// A chip's data instead of a cryptogram.
    EmvData,
    /// What is inside is no JSON.
    UnreadableInside,
}

impl Defect {
    /// Every one, with its word.
    pub const ALL: [(Self, &'static str); 27] = [
        (Self::MissingLeafOid, "missing_leaf_oid"),
        (Self::MissingIntermediateOid, "missing_intermediate_oid"),
        (Self::WrongRoot, "wrong_root"),
        (Self::BrokenChain, "broken_chain"),
        (Self::IntermediateNoAuthority, "intermediate_no_authority"),
        (Self::ExpiredLeaf, "expired_leaf"),
        (Self::MissingIntermediate, "missing_intermediate"),
        (Self::NoSigningTime, "no_signing_time"),
        (Self::TwoSigners, "two_signers"),
        (Self::NoSigner, "no_signer"),
        (Self::OtherDigest, "other_digest"),
        (Self::OtherLeafKey, "other_leaf_key"),
        (Self::AttachedContent, "attached_content"),
        (Self::UnsignedTransactionId, "unsigned_transaction_id"),
        (Self::ReplacedTransactionId, "replaced_transaction_id"),
        (Self::StrippedApplicationData, "stripped_application_data"),
        (Self::Stale, "stale"),
        (Self::Future, "future"),
        (Self::WrongRecipient, "wrong_recipient"),
        (Self::OtherMerchant, "other_merchant"),
        (Self::FlippedData, "flipped_data"),
        (Self::FlippedSignature, "flipped_signature"),
        (Self::FlippedHeader, "flipped_header"),
        (Self::DowngradedVersion, "downgraded_version"),
        (Self::UnknownVersion, "unknown_version"),
        (Self::EmvData, "emv_data"),
        (Self::UnreadableInside, "unreadable_inside"),
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        let known = Self::ALL.iter().find(|(defect, _)| *defect == self);
        known.expect("every defect has a word").1
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Defect {
    type Err = UnknownDefect;

    fn from_str(word: &str) -> Result<Self, UnknownDefect> {
        let known = Self::ALL.iter().find(|(_, known)| *known == word);
        known.map(|(defect, _)| *defect).ok_or_else(|| UnknownDefect(word.into()))
    }
}

/// No defect has this word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDefect(pub String);

impl fmt::Display for UnknownDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no defect has this word: {}", self.0)
    }
}

impl std::error::Error for UnknownDefect {}
