//! Reads keys from PEM, as far as a payment provider's keys need it.
//!
//! Only the four usual labels, exactly one block, and at least 2048 bits. An error says what is
//! wrong with the text and never repeats any of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rsa::PublicKeyComponents;
use ring::signature::RsaKeyPair;
use zeroize::Zeroizing;

const NOT_RSA: &str = "it is not an RSA public key";
const BITS_MIN: usize = 2048;
const BITS_MAX: usize = 8192;
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
