//! Reads keys from PEM, as far as a payment provider's keys need it.
//!
//! Only the four usual labels, exactly one block, and at least 2048 bits. An error says what is
//! wrong with the text and never repeats any of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::DecodePrivateKey;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaVerificationAlgorithm, RsaKeyPair};
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

const NOT_RSA: &str = "it is not an RSA public key";
const BITS_MIN: usize = 2048;
const BITS_MAX: usize = 8192;
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const RSA_OID: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// A private key from PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
pub(super) fn rsa_private(pem: &str) -> Result<RsaKeyPair, &'static str> {
    let (label, der) = block(pem)?;
    let pair = match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
        "ENCRYPTED PRIVATE KEY" => return Err("the private key is encrypted"),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {
            return Err("it is a public key, a private one is needed");
        }
        _ => return Err("it is PEM, but not a private key"),
    };
    let pair = pair.map_err(|_| "it is not a sound RSA private key of 2048 to 4096 bits")?;
    let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
    if bits(&public.n) < BITS_MIN {
        return Err("the RSA key has fewer than 2048 bits");
    }
    Ok(pair)
}

/// A private key on P-256 from PKCS#8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`).
pub(super) fn ec_private(pem: &str) -> Result<p256::SecretKey, &'static str> {
    let (label, der) = block(pem)?;
    let key = match label {
        "PRIVATE KEY" => p256::SecretKey::from_pkcs8_der(&der).ok(),
        "EC PRIVATE KEY" => p256::SecretKey::from_sec1_der(&der).ok(),
        _ => None,
    };
    key.ok_or("it is not a private key on the curve P-256")
}

/// A private RSA key that others encrypt to, from PKCS#8 or PKCS#1.
pub(super) fn rsa_transport(pem: &str) -> Result<rsa::RsaPrivateKey, &'static str> {
    let (label, der) = block(pem)?;
    let key = match label {
        "PRIVATE KEY" => rsa::RsaPrivateKey::from_pkcs8_der(&der).ok(),
        "RSA PRIVATE KEY" => rsa::RsaPrivateKey::from_pkcs1_der(&der).ok(),
        _ => None,
    };
    let key = key.ok_or("it is not a sound RSA private key")?;
    let sound = (BITS_MIN..=4096).contains(&(key.size() * 8));
    sound.then_some(key).ok_or("it is not a sound RSA private key of 2048 to 4096 bits")
}

/// The point of a public key in PEM, and how ECDSA is verified with it.
pub(super) fn ec_public(
    pem: &str,
    alg: &[u8],
) -> Result<(Vec<u8>, &'static EcdsaVerificationAlgorithm), &'static str> {
    const NOT_EC: &str = "it is not a public key on P-256 or P-384";
    let (label, der) = block(pem)?;
    let spki = match label {
        "PUBLIC KEY" => SubjectPublicKeyInfo::from_der(&der).map_err(|_| NOT_EC)?.1,
        "CERTIFICATE" => {
            let read = x509_parser::parse_x509_certificate(&der);
            read.map_err(|_| "the certificate can't be read")?.1.tbs_certificate.subject_pki
        }
        _ => return Err("it is PEM, but not a public key"),
    };
    let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).ok_or(NOT_EC)?;
    let how = match (curve.to_id_string().as_str(), alg) {
        (P256, b"ecdsa-sha256") => &signature::ECDSA_P256_SHA256_ASN1,
        (P256, b"ecdsa-sha384") => &signature::ECDSA_P256_SHA384_ASN1,
        (P384, b"ecdsa-sha256") => &signature::ECDSA_P384_SHA256_ASN1,
        (P384, b"ecdsa-sha384") => &signature::ECDSA_P384_SHA384_ASN1,
        _ => return Err(NOT_EC),
    };
    Ok((spki.subject_public_key.data.to_vec(), how))
}

/// A public key from SPKI (`PUBLIC KEY`), PKCS#1 (`RSA PUBLIC KEY`) or a certificate, as PKCS#1
/// DER.
pub(super) fn rsa_public(pem: &str) -> Result<Vec<u8>, &'static str> {
    public_of(pem).map(|(key, _)| key)
}

/// A public key as PKCS#1 DER, and the end of its certificate's validity, Unix ms.
pub(super) type Public = (Vec<u8>, Option<i64>);

/// As [`rsa_public`], with the end of a certificate's validity.
pub(super) fn public_of(pem: &str) -> Result<Public, &'static str> {
    let (label, der) = block(pem)?;
    let pkcs1 = match label {
        "PUBLIC KEY" => spki_content(&der).ok_or(NOT_RSA)?,
        "RSA PUBLIC KEY" => &der[..],
        "CERTIFICATE" => {
            return public_of_certificate(&der);
        }
        "PRIVATE KEY" | "RSA PRIVATE KEY" => {
            return Err("it is a private key, which is not theirs");
        }
        _ => return Err("it is PEM, but not a public key"),
    };
    sound(pkcs1).map(|key| (key, None))
}

/// The public key of an X.509 certificate, DER.
pub(super) fn public_of_certificate(der: &[u8]) -> Result<Public, &'static str> {
    let read = x509_parser::parse_x509_certificate(der);
    let (_, certificate) = read.map_err(|_| "the certificate can't be read")?;
    let until_ms = certificate.validity().not_after.timestamp().saturating_mul(1_000);
    let spki: &[u8] = certificate.tbs_certificate.subject_pki.raw;
    sound(spki_content(spki).ok_or(NOT_RSA)?).map(|key| (key, Some(until_ms)))
}

/// PKCS#1 DER of a key that can be verified with.
fn sound(pkcs1: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (modulus, exponent) = public_numbers(pkcs1).ok_or(NOT_RSA)?;
    if bits(modulus) < BITS_MIN {
        return Err("the RSA key has fewer than 2048 bits");
    }
    let sound = bits(modulus) <= BITS_MAX && exponent.last().is_some_and(|last| last % 2 == 1);
    if !sound || bits(exponent) < 2 || bits(exponent) > 33 {
        return Err("the RSA key is not one that can be verified with");
    }
    Ok(pkcs1.to_vec())
}

/// The label and the content of the one block in a PEM text.
pub(super) fn block(pem: &str) -> Result<(&str, Zeroizing<Vec<u8>>), &'static str> {
    const NOT_PEM: &str = "it is not PEM, which begins with -----BEGIN";
    const NO_END: &str = "its PEM block has no matching end";
    let rest = pem.trim().strip_prefix("-----BEGIN ").ok_or(NOT_PEM)?;
    let (label, rest) = rest.split_once("-----").ok_or(NOT_PEM)?;
    let (content, rest) = rest.split_once("-----END ").ok_or(NO_END)?;
    let rest = rest.strip_prefix(label).and_then(|r| r.strip_prefix("-----")).ok_or(NO_END)?;
    if !rest.trim().is_empty() {
        return Err("more than one PEM block");
    }
    if content.contains(':') {
        return Err("the private key is encrypted");
    }
    let mut packed = Zeroizing::new(String::with_capacity(content.len()));
    packed.extend(content.chars().filter(|c| !c.is_ascii_whitespace()));
    let der = STANDARD.decode(packed.as_bytes()).map_err(|_| "its PEM content is not base64")?;
    Ok((label, Zeroizing::new(der)))
}

/// RFC 5280 4.1.2.7: SEQUENCE { SEQUENCE { OID, NULL }, BIT STRING { 0, PKCS#1 } }.
fn spki_content(der: &[u8]) -> Option<&[u8]> {
    let (whole, []) = element(der, 0x30)? else { return None };
    let (algorithm, rest) = element(whole, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    let (bit_string, []) = element(rest, 0x03)? else { return None };
    let (0, content) = bit_string.split_first()? else { return None };
    (oid == RSA_OID).then_some(content)
}

/// RFC 8017 A.1.1: SEQUENCE { INTEGER n, INTEGER e }, both without leading zeros.
fn public_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (whole, []) = element(der, 0x30)? else { return None };
    let (modulus, rest) = element(whole, 0x02)?;
    let (exponent, []) = element(rest, 0x02)? else { return None };
    let plain = |number: &'_ [u8]| usize::from(number.first() == Some(&0));
    Some((&modulus[plain(modulus)..], &exponent[plain(exponent)..]))
}

/// One DER element of a tag: its content and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (len, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes(rest.first_chunk().copied()?)), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(len)
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
