//! The host's services: keys are used by name, and never seen.

use std::collections::BTreeMap;

use interlock_plugin_api::{FaultKind, SecretKind};
use interlock_plugin_host::*;
use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::{Oaep, RsaPrivateKey};
use secrecy::SecretString;
use sha2::Sha256;

use crate::stage::{EC_KEY, KEY, envelope, host, open, step};

#[tokio::test]
async fn a_plugin_uses_keys_by_name_and_gets_only_results() {
    let host = host(5000);
    let instance = open(&host, "services", "script.c");
    let body = |result: Result<StepOut, StepError>| result.unwrap().body;

    let mac = body(instance.step(&envelope(), b"", b"m:mac:data").await);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"whsec");
    assert_eq!(mac, ring::hmac::sign(&key, b"data").as_ref());

    let signature = body(instance.step(&envelope(), b"", b"s:private:data").await);
    let public = KEY.to_public_key().to_pkcs1_der().unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_bytes());
    assert!(public.verify(b"data", &signature).is_ok());

    for (start, proof, good, bad) in
        [("v:public:", &signature, "data", "datA"), ("w:mac:", &mac, "data", "")]
    {
        for (data, verdict) in [(good, "good"), (bad, "bad")] {
            let input = [start.as_bytes(), proof, data.as_bytes()].concat();
            let seen = body(instance.step(&envelope(), b"", &input).await);
            assert_eq!(String::from_utf8(seen).unwrap(), verdict, "{start} {data}");
        }
    }
}

#[tokio::test]
async fn a_secret_is_established_with_a_key_that_stays_here() {
    let host = host(5000);
    let instance = open(&host, "establish", "script.c");
    let step = async |start: &str, more: &[u8]| {
        let input = [start.as_bytes(), more].concat();
        instance.step(&envelope(), b"", &input).await.unwrap().body
    };
    let spki = EC_KEY.public_key().to_public_key_der().unwrap();
    assert_eq!(step("p:agreement:", b"").await, spki.as_bytes());
    let spki = KEY.to_public_key().to_public_key_der().unwrap();
    assert_eq!(step("p:transport:", b"").await, spki.as_bytes());

    let theirs = p256::SecretKey::from_slice(&[9; 32]).unwrap();
    let point = theirs.public_key().to_encoded_point(false);
    let shared = diffie_hellman(theirs.to_nonzero_scalar(), EC_KEY.public_key().as_affine());
    assert_eq!(step("e:agreement:", point.as_bytes()).await, &shared.raw_secret_bytes()[..]);
    let sealed = KEY.to_public_key();
    let sealed =
        sealed.encrypt(&mut rsa::rand_core::OsRng, Oaep::new::<Sha256>(), b"a key").unwrap();
    assert_eq!(step("t:transport:", &sealed).await, b"a key");

    // What no peer would have sent gives nothing: off the curve, compressed, cut, changed.
    let mut off = point.as_bytes().to_vec();
    off[64] ^= 1;
    let compressed = theirs.public_key().to_encoded_point(true);
    for odd in [&off[..], compressed.as_bytes(), &point.as_bytes()[..64], b"\0", b""] {
        assert_eq!(step("e:agreement:", odd).await, b"nothing", "{odd:?}");
    }
    let mut changed = sealed;
    changed[9] ^= 1;
    assert_eq!(step("t:transport:", &changed).await, b"nothing");
}

#[tokio::test]
async fn an_ecdsa_signature_is_verified_with_a_key_in_pem() {
    let host = host(5000);
    let instance = open(&host, "ecdsa", "script.c");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let signature = rcgen::SigningKey::sign(&pair, b"data").unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap().pem();
    for (key, data, verdict) in
        [(&pem, "data", "good"), (&pem, "datA", "bad"), (&certificate, "data", "good")]
    {
        let length = [u8::try_from(signature.len()).unwrap()];
        let start = format!("c:{key}:");
        let input = [start.as_bytes(), &length, &signature, data.as_bytes()].concat();
        let seen = instance.step(&envelope(), b"", &input).await.unwrap().body;
        assert_eq!(String::from_utf8(seen).unwrap(), verdict, "{data}");
    }
    let rsa = KEY.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let input = format!("c:{rsa}:\u{1}xdata");
    let text = "the service failed".to_owned();
    let fault = Err(StepError::Fault { kind: FaultKind::Input, text });
    assert_eq!(step(&instance, input.as_bytes()).await, fault, "not on a curve");
}

#[tokio::test]
async fn a_key_of_another_name_or_kind_is_not_used() {
    let host = host(5000);
    let instance = open(&host, "wrong-key", "script.c");
    for (body, kind) in [
        ("m:other:data", FaultKind::Config),
        ("m:\u{e9}\0:data", FaultKind::Config),
        ("m:private:data", FaultKind::Unsupported),
        ("s:other:data", FaultKind::Config),
        ("s:mac:data", FaultKind::Unsupported),
        ("s:public:data", FaultKind::Unsupported),
        ("e:private:data", FaultKind::Unsupported),
        ("e:transport:data", FaultKind::Unsupported),
        ("t:agreement:data", FaultKind::Unsupported),
        ("p:mac:", FaultKind::Unsupported),
        ("p:other:", FaultKind::Config),
    ] {
        let text = "the service failed".to_owned();
        let fault = Err(StepError::Fault { kind, text });
        assert_eq!(step(&instance, body.as_bytes()).await, fault, "{body}");
    }
}

#[test]
fn rsa_keys_are_read_in_the_four_usual_forms_and_weak_ones_are_not() {
    let private = |pem: String| one(SecretKind::RsaPrivate, &pem);
    let public = |pem: String| one(SecretKind::RsaPublic, &pem);
    let both = KEY.to_public_key();
    private(KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()).unwrap();
    private(KEY.to_pkcs1_pem(LineEnding::CRLF).unwrap().to_string()).unwrap();
    public(both.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
    public(both.to_pkcs1_pem(LineEnding::CRLF).unwrap()).unwrap();

    let weak = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let pem = weak.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let error = private(pem).unwrap_err();
    assert!(error.contains("2048"), "{error}");
    let pem = weak.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let error = public(pem).unwrap_err();
    assert_eq!(error, "secret can't be used, the RSA key has fewer than 2048 bits: k");

    // Cut or changed anywhere, a key is refused or another key, but reading it goes well.
    let pem = both.to_public_key_pem(LineEnding::LF).unwrap();
    let der = both.to_public_key_der().unwrap();
    for len in 0..der.as_bytes().len() {
        use base64::Engine;
        let cut = base64::engine::general_purpose::STANDARD.encode(&der.as_bytes()[..len]);
        let text = format!("-----BEGIN PUBLIC KEY-----\n{cut}\n-----END PUBLIC KEY-----");
        assert!(public(text).is_err(), "{len}");
    }
    assert!(private(pem.clone()).unwrap_err().contains("it is a public key"));
    assert!(public(pem.clone() + &pem).unwrap_err().contains("more than one PEM block"));
}

fn one(kind: SecretKind, value: &str) -> Result<(), String> {
    let declared = BTreeMap::from([("k".to_owned(), kind)]);
    Secrets::from_pairs(&declared, vec![("k".into(), SecretString::from(value))])
        .map(drop)
        .map_err(|e| e.to_string())
}
