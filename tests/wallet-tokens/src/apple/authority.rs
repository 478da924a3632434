//! An authority like Apple's: a root on P-384, an intermediate on P-256, and two leaves, one on
//! P-256 for EC_v1 and one with RSA for RSA_v1.
//!
//! The keys are all that is kept. Certificates are made from them when they are needed, always the
//! same bytes, so a defect needs no files of its own.

use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::pkcs1v15;
use rsa::signature::SignatureEncoding;
use sha2::{Digest, Sha256};

use super::Defect;
use super::keys::{KeyError, blocks, p256_key, pem, rsa_key};
use crate::Seeded;
use crate::der::{
    bits, boolean, context, element, integer, null, octets, oid, sequence, set, text, utc_time,
};

/// Marks a leaf that signs tokens.
const LEAF_OID: &str = "1.2.840.113635.100.6.29";
/// Marks the intermediate that certifies such leaves.
const INTERMEDIATE_OID: &str = "1.2.840.113635.100.6.2.14";
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
pub(super) const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
/// 2020-01-01, when every certificate begins.
const FROM_MS: i64 = 1_577_836_800_000;
/// 2049-12-31, after which `UTCTime` has no years.
const UNTIL_MS: i64 = 2_524_521_600_000;
/// 2020-02-01, when an expired leaf ended.
const EXPIRED_MS: i64 = 1_580_515_200_000;
pub(super) const INTERMEDIATE_NAME: &str = "Interlock Test Application Integration CA";
const ROOT_NAME: &str = "Interlock Test Root CA";
pub(super) const LEAF_SERIAL: &[u8] = &[0x4c, 0x30, 0x41, 0x49];

/// The keys of the authority.
#[derive(Clone)]
pub struct Authority {
    root: p384::SecretKey,
    intermediate: p256::SecretKey,
    leaf: p256::SecretKey,
    leaf_rsa: rsa::RsaPrivateKey,
}

impl Authority {
    /// The authority of a seed.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Seeded::new(seed, "apple pay authority");
        let root = loop {
            if let Ok(key) = p384::SecretKey::from_slice(&random.bytes::<48>()) {
                break key;
            }
        };
        Self {
            root,
            intermediate: p256_key(&mut random),
            leaf: p256_key(&mut random),
            leaf_rsa: rsa_key(&mut random),
        }
    }

    /// Four private keys in PEM, as [`Authority::to_pem`] writes them.
    ///
    /// # Errors
    /// [`KeyError`] when it is something else.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let [root, intermediate, leaf, leaf_rsa] = blocks(text)[..] else { return Err(KeyError) };
        Ok(Self {
            root: p384::SecretKey::from_pkcs8_pem(root).map_err(|_| KeyError)?,
            intermediate: p256::SecretKey::from_pkcs8_pem(intermediate).map_err(|_| KeyError)?,
            leaf: p256::SecretKey::from_pkcs8_pem(leaf).map_err(|_| KeyError)?,
            leaf_rsa: rsa::RsaPrivateKey::from_pkcs8_pem(leaf_rsa).map_err(|_| KeyError)?,
        })
    }

    /// The private keys: root, intermediate, leaf, RSA leaf.
    pub fn to_pem(&self) -> String {
        let keys = [
            self.root.to_pkcs8_pem(LineEnding::LF),
            self.intermediate.to_pkcs8_pem(LineEnding::LF),
            self.leaf.to_pkcs8_pem(LineEnding::LF),
            self.leaf_rsa.to_pkcs8_pem(LineEnding::LF),
        ];
        keys.map(|key| key.expect("a key can be written").to_string()).concat()
    }

    /// The root's certificate in PEM, which a verifier must trust.
    pub fn root_pem(&self) -> String {
        let key = spki(&self.root.public_key());
        let body = body(&[1], ROOT_NAME, ROOT_NAME, UNTIL_MS, &key, authority_extensions(&[]));
        pem("CERTIFICATE", &signed(body, &by_root(&self.root)))
    }

    /// The certificates that go with a signature, the leaf first.
    pub(super) fn chain(&self, rsa: bool, defect: Option<Defect>) -> Vec<Vec<u8>> {
        let mut chain = vec![self.leaf_certificate(rsa, defect)];
        if defect != Some(Defect::MissingIntermediate) {
            chain.push(self.intermediate_certificate(defect));
        }
        chain
    }

    fn leaf_certificate(&self, rsa: bool, defect: Option<Defect>) -> Vec<u8> {
        let key =
            if rsa { spki(&self.leaf_rsa.to_public_key()) } else { spki(&self.leaf.public_key()) };
        let mut extensions = vec![
            extension("2.5.29.19", true, &sequence(&[])),
            extension("2.5.29.15", true, &bits(7, &[0x80])),
        ];
        if defect != Some(Defect::MissingLeafOid) {
            extensions.push(extension(LEAF_OID, false, &null()));
        }
        let until = if defect == Some(Defect::ExpiredLeaf) { EXPIRED_MS } else { UNTIL_MS };
        let name = "interlock-test-broker-sign";
        let body = body(LEAF_SERIAL, INTERMEDIATE_NAME, name, until, &key, extensions);
        let stranger = p256_key(&mut Seeded::new(0, "another intermediate"));
        let broken = defect == Some(Defect::BrokenChain);
        signed(body, &by_p256(if broken { &stranger } else { &self.intermediate }))
    }

    fn intermediate_certificate(&self, defect: Option<Defect>) -> Vec<u8> {
        let marks: &[Vec<u8>] = &[extension(INTERMEDIATE_OID, false, &null())];
        let marks = if defect == Some(Defect::MissingIntermediateOid) { &[] } else { marks };
        let mut extensions = authority_extensions(marks);
        if defect == Some(Defect::IntermediateNoAuthority) {
            extensions[0] = extension("2.5.29.19", true, &sequence(&[]));
        }
        let key = spki(&self.intermediate.public_key());
        let body = body(&[2], ROOT_NAME, INTERMEDIATE_NAME, UNTIL_MS, &key, extensions);
        if defect == Some(Defect::WrongRoot) {
            let stranger = p384::SecretKey::from_slice(&[7; 48]).expect("a number below the order");
            return signed(body, &by_root(&stranger));
        }
        signed(body, &by_root(&self.root))
    }

    /// A leaf's signature, and the algorithm's name.
    pub(super) fn sign(&self, rsa: bool, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        if rsa {
            use rsa::signature::Signer;
            let key = pkcs1v15::SigningKey::<Sha256>::new(self.leaf_rsa.clone());
            let algorithm = sequence(&[oid(RSA_SHA256), null()]);
            return (key.sign(data).to_vec(), algorithm);
        }
        (by_p256(&self.leaf)(data), sequence(&[oid(ECDSA_SHA256)]))
    }
}

fn by_p256(key: &p256::SecretKey) -> impl Fn(&[u8]) -> Vec<u8> {
    use p256::ecdsa::signature::Signer;
    let key = p256::ecdsa::SigningKey::from(key);
    move |data| {
        let signature: p256::ecdsa::Signature = key.sign(data);
        signature.to_der().as_bytes().to_vec()
    }
}

/// Apple's root has a key on P-384 and signs its intermediates with SHA-256 all the same.
fn by_root(key: &p384::SecretKey) -> impl Fn(&[u8]) -> Vec<u8> {
    use p384::ecdsa::signature::hazmat::PrehashSigner;
    let key = p384::ecdsa::SigningKey::from(key);
    move |data| {
        let signed = key.sign_prehash(&Sha256::digest(data));
        let signature: p384::ecdsa::Signature = signed.expect("a digest that is long enough");
        signature.to_der().as_bytes().to_vec()
    }
}

fn spki(key: &impl EncodePublicKey) -> Vec<u8> {
    key.to_public_key_der().expect("a key can be written").as_bytes().to_vec()
}

pub(super) fn name(common: &str) -> Vec<u8> {
    let part = |kind: &str, value: &str| set(vec![sequence(&[oid(kind), text(value)])]);
    sequence(&[part("2.5.4.3", common), part("2.5.4.10", "Interlock Tests")])
}

fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { boolean(true) } else { Vec::new() };
    sequence(&[oid(id), critical, octets(value)])
}

fn authority_extensions(more: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut extensions = vec![
        extension("2.5.29.19", true, &sequence(&[boolean(true)])),
        extension("2.5.29.15", true, &bits(1, &[0x06])),
    ];
    extensions.extend_from_slice(more);
    extensions
}

/// What an issuer signs of a certificate.
fn body(
    serial: &[u8],
    issuer: &str,
    subject: &str,
    until_ms: i64,
    key: &[u8],
    extensions: Vec<Vec<u8>>,
) -> Vec<u8> {
    sequence(&[
        context(0, &integer(&[2])),
        integer(serial),
        sequence(&[oid(ECDSA_SHA256)]),
        name(issuer),
        sequence(&[utc_time(FROM_MS), utc_time(until_ms)]),
        name(subject),
        key.to_vec(),
        context(3, &sequence(&extensions)),
    ])
}

fn signed(body: Vec<u8>, sign: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let signature = bits(0, &sign(&body));
    element(0x30, &[body, sequence(&[oid(ECDSA_SHA256)]), signature].concat())
}
