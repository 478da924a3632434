//! The signature of a token: CMS SignedData (RFC 5652), detached, by one signer.

use cms::cert::CertificateChoices;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{ObjectIdentifier, OctetString};
use der::oid::db::rfc5911::{
    ID_CONTENT_TYPE, ID_DATA, ID_MESSAGE_DIGEST, ID_SIGNED_DATA, ID_SIGNING_TIME,
};
use der::oid::db::rfc5912::{ID_SHA_256, RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION};
use der::{Any, Decode, Encode};
use interlock_plugin_api::Host;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use crate::ber;
use crate::chain::{Chain, KeyKind, key_kind, verifies, was_valid};
use crate::refusal::{No, Refusal};
use crate::token::{Key, Token};

/// Apple sends two.
const CERTIFICATES_LIMIT: usize = 5;

/// Verifies the signature of a token against the account's root, and says when it was made, Unix
/// ms. The dates of the certificates are judged at that moment: they end long before the tokens do
/// that one would still like to look into.
pub(crate) fn verify(host: &dyn Host, root: &Certificate, token: &Token) -> Result<i64, No> {
    let signed = read(&token.signature).ok_or(Refusal::MalformedSignature)?;
    if signed.encap_content_info.econtent.is_some() {
        return Err(Refusal::AttachedContent.into());
    }
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(Refusal::NotOneSigner.into());
    };
    if signer.digest_alg.oid != ID_SHA_256 {
        return Err(Refusal::OtherDigest.into());
    }
    if !is_plain(&signed, signer) {
        return Err(Refusal::MalformedSignature.into());
    }
    let certificates = certificates(&signed).ok_or(Refusal::MalformedSignature)?;
    let chain = Chain::find(&signer.sid, &certificates)?;
    chain.judge(host, root)?;
    let kind = match &token.key {
        Key::Ephemeral(_) => KeyKind::P256,
        Key::Wrapped(_) => KeyKind::Rsa,
    };
    if key_kind(chain.leaf) != Some(kind) {
        return Err(Refusal::WrongLeafKey.into());
    }

    let signed_s = signing_time(signer).ok_or(Refusal::NoSigningTime)?;
    if attribute(signer, ID_CONTENT_TYPE) != Some(&Any::from(ID_DATA)) {
        return Err(Refusal::MalformedSignature.into());
    }
    let told = attribute(signer, ID_MESSAGE_DIGEST).and_then(|any| any.decode_as().ok());
    let told: OctetString = told.ok_or(Refusal::MalformedSignature)?;
    if told.as_bytes() != Sha256::digest(token.content()).as_slice() {
        return Err(Refusal::ContentChanged.into());
    }
    // What is signed is the attributes as a SET; in the message they stand under another tag.
    let attributes = signer.signed_attrs.as_ref().and_then(|attributes| attributes.to_der().ok());
    let attributes = attributes.ok_or(Refusal::MalformedSignature)?;
    // CMS also knows RSA by its key alone (RFC 3370, section 3.2); the digest is told beside it.
    let algorithm = match signer.signature_algorithm.oid {
        RSA_ENCRYPTION => SHA_256_WITH_RSA_ENCRYPTION,
        other => other,
    };
    if !verifies(host, chain.leaf, algorithm, &attributes, signer.signature.as_bytes())? {
        return Err(Refusal::BadSignature.into());
    }
    if [chain.leaf, chain.intermediate, root].iter().any(|link| !was_valid(link, signed_s)) {
        return Err(Refusal::NotValidThen.into());
    }
    let signed_ms = i64::try_from(signed_s).ok().and_then(|s| s.checked_mul(1_000));
    signed_ms.ok_or_else(|| Refusal::NoSigningTime.into())
}

fn read(ber: &[u8]) -> Option<SignedData> {
    let info = ContentInfo::from_der(&ber::to_der(ber)?).ok()?;
    (info.content_type == ID_SIGNED_DATA).then(|| info.content.decode_as().ok()).flatten()
}

/// Nobody signs what stands around the attributes, so it must be what Apple writes there.
fn is_plain(signed: &SignedData, signer: &SignerInfo) -> bool {
    let version = match signer.sid {
        SignerIdentifier::IssuerAndSerialNumber(_) => CmsVersion::V1,
        SignerIdentifier::SubjectKeyIdentifier(_) => CmsVersion::V3,
    };
    let absent = |algorithm: &AlgorithmIdentifierOwned| {
        algorithm.parameters.as_ref().is_none_or(|value| *value == Any::null())
    };
    (signed.version, signer.version) == (version, version)
        && signed.digest_algorithms.as_slice() == [signer.digest_alg.clone()]
        && signed.encap_content_info.econtent_type == ID_DATA
        && signed.crls.is_none()
        && signer.unsigned_attrs.is_none()
        && absent(&signer.digest_alg)
        && absent(&signer.signature_algorithm)
}

fn certificates(signed: &SignedData) -> Option<Vec<&Certificate>> {
    let all = signed.certificates.as_ref()?.0.as_slice();
    if all.len() > CERTIFICATES_LIMIT {
        return None;
    }
    let plain = all.iter().map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate),
        CertificateChoices::Other(_) => None,
    });
    plain.collect()
}

fn signing_time(signer: &SignerInfo) -> Option<u64> {
    let value = attribute(signer, ID_SIGNING_TIME)?.to_der().ok()?;
    Some(Time::from_der(&value).ok()?.to_unix_duration().as_secs())
}

/// The one value of a signed attribute that occurs once.
fn attribute(signer: &SignerInfo, id: ObjectIdentifier) -> Option<&Any> {
    let mut found = signer.signed_attrs.as_ref()?.iter().filter(|attribute| attribute.oid == id);
    let (Some(only), None) = (found.next(), found.next()) else { return None };
    let [value] = only.values.as_slice() else { return None };
    Some(value)
}
