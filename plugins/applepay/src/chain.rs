//! Certificates: who signed whom, and what one may do (RFC 5280).
//!
//! The chain has three links and no more: a leaf that carries Apple's mark for payments, an
//! intermediate that carries Apple's mark for such authorities, and the account's root.

use cms::signed_data::SignerIdentifier;
use der::asn1::ObjectIdentifier;
use der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1,
    SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION,
};
use der::pem::LineEnding;
use der::{Encode, EncodePem};
use interlock_plugin_api::Host;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};

use crate::refusal::{No, Refusal};

const LEAF_MARK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.29");
const INTERMEDIATE_MARK: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.2.14");

/// What kind of key a certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    Rsa,
}

/// The leaf of a token's signature and the authority that vouches for it.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) leaf: &'a Certificate,
    pub(crate) intermediate: &'a Certificate,
}

impl<'a> Chain<'a> {
    /// Finds the signer among the certificates, and who issued it.
    pub(crate) fn find(
        signer: &SignerIdentifier,
        all: &[&'a Certificate],
    ) -> Result<Self, Refusal> {
        let is_signer = |certificate: &&&Certificate| match signer {
            SignerIdentifier::IssuerAndSerialNumber(named) => {
                let body = &certificate.tbs_certificate;
                body.issuer == named.issuer && body.serial_number == named.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(named) => {
                let own = certificate.tbs_certificate.get::<SubjectKeyIdentifier>();
                matches!(own, Ok(Some((_, own))) if own == *named)
            }
        };
        let leaf = *all.iter().find(is_signer).ok_or(Refusal::NoSignerCertificate)?;
        let issuer = &leaf.tbs_certificate.issuer;
        let issued_it = |certificate: &&&Certificate| {
            certificate.tbs_certificate.subject == *issuer && **certificate != leaf
        };
        let intermediate = *all.iter().find(issued_it).ok_or(Refusal::NoIntermediate)?;
        Ok(Self { leaf, intermediate })
    }

    /// Judges everything but the dates. The root vouches for the intermediate before the
    /// intermediate is asked about the leaf, so no key is used that nobody vouches for.
    pub(crate) fn judge(&self, host: &dyn Host, root: &Certificate) -> Result<(), No> {
        if !has(self.leaf, LEAF_MARK) {
            return Err(Refusal::LeafWithoutExtension.into());
        }
        if !has(self.intermediate, INTERMEDIATE_MARK) {
            return Err(Refusal::IntermediateWithoutExtension.into());
        }
        if !is_authority(self.intermediate) {
            return Err(Refusal::IntermediateNoAuthority.into());
        }
        if !issued(host, root, self.intermediate)? {
            return Err(Refusal::WrongRoot.into());
        }
        if !issued(host, self.intermediate, self.leaf)? {
            return Err(Refusal::BrokenChain.into());
        }
        if !may_sign(self.leaf) {
            return Err(Refusal::WrongLeafKey.into());
        }
        Ok(())
    }
}

/// Whether a certificate was valid at a moment, Unix seconds.
pub(crate) fn was_valid(certificate: &Certificate, at_s: u64) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    (seconds(validity.not_before)..=seconds(validity.not_after)).contains(&at_s)
}

/// Whether a certificate is that of an authority.
pub(crate) fn is_authority(certificate: &Certificate) -> bool {
    let body = &certificate.tbs_certificate;
    let constraints = body.get::<BasicConstraints>();
    let usage = body.get::<KeyUsage>();
    matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
        && usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
        && is_understood(certificate)
}

fn may_sign(leaf: &Certificate) -> bool {
    let usage = leaf.tbs_certificate.get::<KeyUsage>();
    usage.is_ok_and(|usage| usage.is_none_or(|(_, usage)| usage.digital_signature()))
        && is_understood(leaf)
}

/// Whether nothing in it is critical that is not looked at here.
fn is_understood(certificate: &Certificate) -> bool {
    use der::oid::AssociatedOid;
    let known = [BasicConstraints::OID, KeyUsage::OID];
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    extensions.filter(|extension| extension.critical).all(|e| known.contains(&e.extn_id))
}

fn has(certificate: &Certificate, mark: ObjectIdentifier) -> bool {
    let mut extensions = certificate.tbs_certificate.extensions.iter().flatten();
    extensions.any(|extension| extension.extn_id == mark)
}

/// Whether `issuer` signed `certificate` in its own name.
fn issued(host: &dyn Host, issuer: &Certificate, certificate: &Certificate) -> Result<bool, No> {
    let body = &certificate.tbs_certificate;
    if body.issuer != issuer.tbs_certificate.subject
        || body.signature != certificate.signature_algorithm
    {
        return Ok(false);
    }
    let Ok(signed) = body.to_der() else { return Ok(false) };
    let Some(signature) = certificate.signature.as_bytes() else { return Ok(false) };
    verifies(host, issuer, certificate.signature_algorithm.oid, &signed, signature)
}

/// Whether the key of a certificate verifies a signature. An algorithm that does not go with the
/// key verifies nothing.
pub(crate) fn verifies(
    host: &dyn Host,
    by: &Certificate,
    algorithm: ObjectIdentifier,
    data: &[u8],
    signature: &[u8],
) -> Result<bool, No> {
    use KeyKind::{P256, P384, Rsa};
    let algorithm = match (algorithm, key_kind(by)) {
        (ECDSA_WITH_SHA_256, Some(P256 | P384)) => "ecdsa-sha256",
        (ECDSA_WITH_SHA_384, Some(P256 | P384)) => "ecdsa-sha384",
        (SHA_256_WITH_RSA_ENCRYPTION, Some(Rsa)) => "rsa-sha256-pkcs1",
        _ => return Ok(false),
    };
    let Some(key) = public_pem(by) else { return Ok(false) };
    Ok(host.verify(&key, algorithm, data, signature)?)
}

/// The kind of a certificate's key, if it is one that is used here.
pub(crate) fn key_kind(certificate: &Certificate) -> Option<KeyKind> {
    let algorithm = &certificate.tbs_certificate.subject_public_key_info.algorithm;
    if algorithm.oid == RSA_ENCRYPTION {
        return Some(KeyKind::Rsa);
    }
    let curve = algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()?;
    match (algorithm.oid, curve) {
        (ID_EC_PUBLIC_KEY, SECP_256_R_1) => Some(KeyKind::P256),
        (ID_EC_PUBLIC_KEY, SECP_384_R_1) => Some(KeyKind::P384),
        _ => None,
    }
}

/// The public key of a certificate in PEM, if it is of a kind that is used here.
pub(crate) fn public_pem(certificate: &Certificate) -> Option<String> {
    key_kind(certificate)?;
    certificate.tbs_certificate.subject_public_key_info.to_pem(LineEnding::LF).ok()
}
