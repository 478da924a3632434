//! The signature of a token: CMS SignedData (RFC 5652) over detached content, in open-ended BER as
//! Apple writes it.

use sha2::{Digest, Sha256};

use super::authority::{INTERMEDIATE_NAME, LEAF_SERIAL, name};
use super::{Authority, Defect};
use crate::der::{context, element, integer, octets, oid, open_ended, sequence, set, utc_time};

const DATA: &str = "1.2.840.113549.1.7.1";
const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA512: &str = "2.16.840.1.101.3.4.2.3";

/// The signature of `content` at `at_ms`.
pub(super) fn signature(
    by: &Authority,
    rsa: bool,
    content: &[u8],
    at_ms: i64,
    defect: Option<Defect>,
) -> Vec<u8> {
    let is = |other| defect == Some(other);
    let leaf_rsa = rsa != is(Defect::OtherLeafKey);
    let digest = sequence(&[oid(if is(Defect::OtherDigest) { SHA512 } else { SHA256 })]);
    let signer = signer(by, leaf_rsa, content, at_ms, &digest, defect);
    let signers = match defect {
        Some(Defect::NoSigner) => Vec::new(),
        // The same one twice would be no set.
        Some(Defect::TwoSigners) => {
            [signer, self::signer(by, leaf_rsa, content, at_ms + 1_000, &digest, defect)].concat()
        }
        _ => signer,
    };
    let attached = is(Defect::AttachedContent).then(|| context(0, &octets(content)));
    let signed = [
        integer(&[1]),
        set(vec![digest]),
        open_ended(0x30, &[oid(DATA), attached.unwrap_or_default()].concat()),
        open_ended(0xa0, &by.chain(leaf_rsa, defect).concat()),
        element(0x31, &signers),
    ];
    let signed = open_ended(0x30, &signed.concat());
    open_ended(0x30, &[oid(SIGNED_DATA), open_ended(0xa0, &signed)].concat())
}

fn signer(
    by: &Authority,
    rsa: bool,
    content: &[u8],
    at_ms: i64,
    digest: &[u8],
    defect: Option<Defect>,
) -> Vec<u8> {
    let attribute = |id: &str, value: Vec<u8>| sequence(&[oid(id), set(vec![value])]);
    let mut attributes = vec![
        attribute(CONTENT_TYPE, oid(DATA)),
        attribute(MESSAGE_DIGEST, octets(&Sha256::digest(content))),
    ];
    if defect != Some(Defect::NoSigningTime) {
        attributes.push(attribute(SIGNING_TIME, utc_time(at_ms)));
    }
    let attributes = set(attributes);
    let (signature, algorithm) = by.sign(rsa, &attributes);
    // What was signed is a SET; in its place stands the same with the tag [0].
    let placed = [&[0xa0], &attributes[1..]].concat();
    sequence(&[
        integer(&[1]),
        sequence(&[name(INTERMEDIATE_NAME), integer(LEAF_SERIAL)]),
        digest.to_vec(),
        placed,
        algorithm,
        octets(&signature),
    ])
}
