//! The host's services: keys are used by name, and never seen.

use std::collections::BTreeMap;

use interlock_plugin_api::{FaultKind, SecretKind};
use interlock_plugin_host::*;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use secrecy::SecretString;

use crate::stage::{KEY, envelope, host, open, step};

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
