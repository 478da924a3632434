//! Everything that can be wrong with a token is refused by a word of its own.

use interlock_plugin_api::Class::{self, Config, Expired, Verification};
use wallet_tokens::apple::Defect;

use crate::{keys, made, open, refusal};

fn expected(defect: Defect) -> (Class, &'static str) {
    match defect {
        Defect::MissingLeafOid => (Verification, "leaf_without_extension"),
        Defect::MissingIntermediateOid => (Verification, "intermediate_without_extension"),
        Defect::WrongRoot => (Verification, "wrong_root"),
        Defect::BrokenChain => (Verification, "broken_chain"),
        Defect::IntermediateNoAuthority => (Verification, "intermediate_no_authority"),
        Defect::ExpiredLeaf => (Verification, "not_valid_then"),
        Defect::MissingIntermediate => (Verification, "no_intermediate"),
        Defect::NoSigningTime => (Verification, "no_signing_time"),
        Defect::TwoSigners | Defect::NoSigner => (Verification, "not_one_signer"),
        Defect::OtherDigest => (Verification, "other_digest"),
        Defect::OtherLeafKey => (Verification, "wrong_leaf_key"),
        Defect::AttachedContent => (Verification, "attached_content"),
        Defect::UnsignedTransactionId
        | Defect::ReplacedTransactionId
        | Defect::StrippedApplicationData
        | Defect::FlippedData
        | Defect::FlippedHeader => (Verification, "content_changed"),
        Defect::Stale => (Expired, "stale"),
        Defect::Future => (Expired, "future"),
        Defect::WrongRecipient => (Config, "no_key_fits"),
        Defect::OtherMerchant => (Verification, "not_decrypted"),
        Defect::FlippedSignature => (Verification, "bad_signature"),
        Defect::DowngradedVersion => (Verification, "version_mismatch"),
        Defect::UnknownVersion => (Verification, "unknown_version"),
        Defect::EmvData => (Verification, "emv_data"),
        Defect::UnreadableInside => (Verification, "malformed_content"),
    }
}

#[test]
fn every_defect_of_ec_v1_is_refused_by_its_word() {
    for (defect, word) in Defect::ALL {
        let (class, code) = refusal(&open(made(&keys().ec, Some(defect)).token));
        assert_eq!((class, code.as_str()), expected(defect), "{word}");
    }
}

#[test]
fn every_defect_of_rsa_v1_is_refused_by_its_word() {
    for (defect, word) in Defect::ALL {
        // The encrypted key is bound to no merchant, and the stranger's key is on P-256.
        if defect == Defect::OtherMerchant {
            continue;
        }
        let (class, code) = refusal(&open(made(&keys().rsa, Some(defect)).token));
        assert_eq!((class, code.as_str()), expected(defect), "{word}");
    }
}
