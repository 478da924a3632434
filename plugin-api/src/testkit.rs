//! What a plugin's own tests need: a host with test keys, and steps driven without a socket.
//!
//! The kit runs the provider through the same dispatch as the ABI, with the continuation written
//! to bytes and read back between steps, as the proxy does.

use std::collections::BTreeMap;

use p256::ecdh::diffie_hellman;
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair, UnparsedPublicKey};
use ring::{hmac, rand};
use rsa::{Oaep, RsaPrivateKey};
use sha2::Sha256;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{
    CaptureMode, Credential, Currency, Cx, Done, Envelope, Event, Fault, Host, HostError, Money,
    Next, Operation, Provider, Request, Sealed, Send, TransportLoss, abi,
};

/// A host whose keys are given by the test.
#[derive(Default)]
pub struct TestHost {
    macs: BTreeMap<String, Vec<u8>>,
    private: BTreeMap<String, RsaKeyPair>,
    public: BTreeMap<String, Vec<u8>>,
    sealing: BTreeMap<String, Vec<u8>>,
    agreeing: BTreeMap<String, p256::SecretKey>,
    transporting: BTreeMap<String, RsaPrivateKey>,
    believes: bool,
}

impl TestHost {
    /// Holds every signature for good, for tests of what lies behind them.
    pub fn believing(self) -> Self {
        Self { believes: true, ..self }
    }

    /// Adds a key for [`Host::mac`].
    pub fn with_mac(mut self, name: &str, key: &[u8]) -> Self {
        self.macs.insert(name.into(), key.into());
        self
    }

    /// Adds an RSA private key, PKCS#8 DER.
    pub fn with_private(mut self, name: &str, pkcs8: &[u8]) -> Self {
        let key = RsaKeyPair::from_pkcs8(pkcs8).expect("a PKCS#8 RSA key");
        self.private.insert(name.into(), key);
        self
    }

    /// Adds a private key on P-256 for [`Host::establish`], PKCS#8 DER.
    pub fn with_agreement(mut self, name: &str, pkcs8: &[u8]) -> Self {
        let key = p256::SecretKey::from_pkcs8_der(pkcs8).expect("a PKCS#8 key on P-256");
        self.agreeing.insert(name.into(), key);
        self
    }

    /// Adds a private RSA key for [`Host::establish`], PKCS#8 DER.
    pub fn with_transport(mut self, name: &str, pkcs8: &[u8]) -> Self {
        let key = RsaPrivateKey::from_pkcs8_der(pkcs8).expect("a PKCS#8 RSA key");
        self.transporting.insert(name.into(), key);
        self
    }

    /// Adds a key of 32 bytes for [`Host::unseal`].
    pub fn with_aead(mut self, name: &str, key: &[u8]) -> Self {
        self.sealing.insert(name.into(), key.into());
        self
    }

    /// What a provider would send, sealed with AES-256-GCM under the key of this name.
    pub fn seal(&self, name: &str, nonce: &[u8; 12], associated: &[u8], text: &[u8]) -> Vec<u8> {
        let key = self.sealing.get(name).expect("a key for sealing");
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes");
        let mut sealed = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        LessSafeKey::new(key)
            .seal_in_place_append_tag(nonce, Aad::from(associated), &mut sealed)
            .expect("short enough");
        sealed
    }

    /// Adds an RSA public key, PKCS#1 DER (the content of the SPKI's bit string).
    pub fn with_public(mut self, name: &str, pkcs1: &[u8]) -> Self {
        self.public.insert(name.into(), pkcs1.into());
        self
    }
}

impl Host for TestHost {
    fn mac(&self, key: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        let key = self.macs.get(key).ok_or(HostError::NoSuchKey)?;
        Ok(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec())
    }

    fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        let key = self.private.get(key).ok_or(HostError::NoSuchKey)?;
        if algorithm != "rsa-sha256-pkcs1" {
            return Err(HostError::Unsupported);
        }
        let rng: &dyn rand::SecureRandom = &SystemRandom::new();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&signature::RSA_PKCS1_SHA256, rng, data, &mut signature)
            .map_err(|_| HostError::Failed)?;
        Ok(signature)
    }

    fn verify(&self, key: &str, alg: &str, data: &[u8], sig: &[u8]) -> Result<bool, HostError> {
        match alg {
            _ if self.believes => Ok(true),
            "hmac-sha256" => {
                let key = self.macs.get(key).ok_or(HostError::NoSuchKey)?;
                Ok(hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), data, sig).is_ok())
            }
            "ecdsa-sha256" | "ecdsa-sha384" => ecdsa(key, alg, data, sig).ok_or(HostError::Failed),
            "rsa-sha256-pkcs1"
                if key.starts_with("-----BEGIN") && !self.public.contains_key(key) =>
            {
                let point = spki(key).ok_or(HostError::Failed)?;
                let key = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, point);
                Ok(key.verify(data, sig).is_ok())
            }
            "rsa-sha256-pkcs1" => {
                // A key of a keyring that is not there verifies nothing.
                let Some(key) = self.public.get(key) else {
                    return if key.contains('/') { Ok(false) } else { Err(HostError::NoSuchKey) };
                };
                let key = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key);
                Ok(key.verify(data, sig).is_ok())
            }
            _ => Err(HostError::Unsupported),
        }
    }

    fn unseal(&self, key: &str, sealed: &Sealed<'_>) -> Result<Option<Vec<u8>>, HostError> {
        let key = self.sealing.get(key).ok_or(HostError::NoSuchKey)?;
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| HostError::Unsupported)?;
        let Ok(nonce) = Nonce::try_assume_unique_for_key(sealed.nonce) else { return Ok(None) };
        let mut text = sealed.ciphertext.to_vec();
        let opened =
            LessSafeKey::new(key).open_in_place(nonce, Aad::from(sealed.associated), &mut text);
        Ok(opened.ok().map(|text| text.to_vec()))
    }

    fn public_key(&self, key: &str) -> Result<Vec<u8>, HostError> {
        let agreeing = self.agreeing.get(key).map(|key| key.public_key().to_public_key_der());
        let transporting = || Some(self.transporting.get(key)?.to_public_key().to_public_key_der());
        let spki = agreeing.or_else(transporting).ok_or(HostError::NoSuchKey)?;
        Ok(spki.expect("a key of the test").as_bytes().to_vec())
    }

    fn establish(&self, key: &str, alg: &str, peer: &[u8]) -> Result<Option<Vec<u8>>, HostError> {
        if let ("ecdh-p256", Some(key)) = (alg, self.agreeing.get(key)) {
            let Ok(point) = p256::PublicKey::from_sec1_bytes(peer) else { return Ok(None) };
            let secret = diffie_hellman(key.to_nonzero_scalar(), point.as_affine());
            return Ok(Some(secret.raw_secret_bytes().to_vec()));
        }
        match (alg, self.transporting.get(key)) {
            ("rsa-oaep-sha256", Some(key)) => Ok(key.decrypt(Oaep::new::<Sha256>(), peer).ok()),
            _ => Err(HostError::NoSuchKey),
        }
    }
}

/// The content of a public key's bit string, from a PEM public key or certificate.
fn spki(pem: &str) -> Option<Vec<u8>> {
    with_spki(pem, |spki| Some(spki.subject_public_key.data.to_vec()))
}

fn ecdsa(pem: &str, alg: &str, data: &[u8], sig: &[u8]) -> Option<bool> {
    let curve = with_spki(pem, |spki| {
        Some(spki.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string())
    })?;
    let how = match (curve.as_str(), alg) {
        ("1.2.840.10045.3.1.7", "ecdsa-sha256") => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.3.1.7", _) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.3.132.0.34", "ecdsa-sha256") => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.3.132.0.34", _) => &signature::ECDSA_P384_SHA384_ASN1,
        _ => return None,
    };
    Some(UnparsedPublicKey::new(how, spki(pem)?).verify(data, sig).is_ok())
}

fn with_spki<T>(pem: &str, read: impl Fn(&SubjectPublicKeyInfo<'_>) -> Option<T>) -> Option<T> {
    let block = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
    if block.label == "CERTIFICATE" {
        return read(&block.parse_x509().ok()?.tbs_certificate.subject_pki);
    }
    read(&SubjectPublicKeyInfo::from_der(&block.contents).ok()?.1)
}

/// One operation of a provider, driven step by step.
pub struct Drive<'a, P: Provider> {
    provider: &'a P,
    host: &'a dyn Host,
    /// What every step is given; change it freely between steps.
    pub envelope: Envelope,
    state: Vec<u8>,
}

/// What a step wanted.
#[derive(Debug)]
pub enum Wanted {
    /// To send this, with this raw body.
    Send(Send, Vec<u8>),
    /// To end.
    Done(Done),
}

impl Wanted {
    /// The request, or a failed test.
    pub fn sent(self) -> (Send, Vec<u8>) {
        match self {
            Self::Send(send, body) => (send, body),
            Self::Done(done) => unreachable!("expected a send, got {done:?}"),
        }
    }

    /// The end, or a failed test.
    pub fn done(self) -> Done {
        match self {
            Self::Done(done) => done,
            Self::Send(send, _) => unreachable!("expected the end, got {send:?}"),
        }
    }
}

impl<'a, P: Provider> Drive<'a, P> {
    /// An operation about to begin.
    pub fn new(provider: &'a P, host: &'a dyn Host, op: Operation, request: Request) -> Self {
        let envelope = Envelope {
            op,
            now_ms: 1_764_000_000_000,
            made_ms: 1_764_000_000_000,
            entropy: "00112233445566778899aabbccddeeff".into(),
            request,
            event: Event::Start,
        };
        Self { provider, host, envelope, state: Vec::new() }
    }

    /// The first step.
    ///
    /// # Errors
    /// The plugin's own fault.
    pub fn start(&mut self) -> Result<Wanted, Fault> {
        self.step(Event::Start, b"")
    }

    /// The provider answered.
    ///
    /// # Errors
    /// The plugin's own fault.
    pub fn answer(&mut self, status: u16, body: &[u8]) -> Result<Wanted, Fault> {
        self.step(Event::Response { status, headers: Vec::new() }, body)
    }

    /// No answer came.
    ///
    /// # Errors
    /// The plugin's own fault.
    pub fn lost(&mut self, outcome: TransportLoss) -> Result<Wanted, Fault> {
        self.step(Event::Transport { outcome, reason: "timeout".into() }, b"")
    }

    /// A notification arrived.
    ///
    /// # Errors
    /// The plugin's own fault.
    pub fn notified(&mut self, headers: &[(&str, &str)], body: &[u8]) -> Result<Wanted, Fault> {
        let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        self.step(Event::Notification { headers }, body)
    }

    /// Any step.
    ///
    /// # Errors
    /// The plugin's own fault.
    pub fn step(&mut self, event: Event, body: &[u8]) -> Result<Wanted, Fault> {
        self.envelope.event = event;
        let state = match &self.state[..] {
            [] => P::State::default(),
            bytes => serde_json::from_slice(bytes).expect("the plugin wrote it"),
        };
        let cx = Cx {
            now_ms: self.envelope.now_ms,
            made_ms: self.envelope.made_ms,
            entropy: &self.envelope.entropy,
            body,
            notify_url: self.envelope.request.notify_url.as_deref(),
            host: self.host,
        };
        let step = abi::dispatch(self.provider, &cx, &self.envelope, state)?;
        self.state = step.state.map_or(Vec::new(), |s| serde_json::to_vec(&s).expect("writable"));
        Ok(match step.next {
            Next::Send(send) => Wanted::Send(send, step.body),
            Next::Done(done) => Wanted::Done(done),
        })
    }
}

/// A request with this amount and nothing else set.
pub fn request(amount: i64, currency: &str, exponent: u8) -> Request {
    Request {
        op_id: "op1234567890".into(),
        amount: Money::new(amount, Currency::parse(currency).expect("three letters")),
        exponent,
        capture: CaptureMode::Automatic,
        method: String::new(),
        flow: String::new(),
        credential: None::<Credential>,
        description: None,
        return_url: None,
        notify_url: None,
        customer: crate::Customer::default(),
        original: None,
        target: None,
        reason: None,
        details: None,
        wanted: None,
        period: None,
        session: None,
    }
}
