//! Both identities of WeChat Pay, public keys and platform certificates, and the change from one to
//! the next.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{self, Drive, TestHost};
use interlock_plugin_api::{
    Done, Fault, FaultKind, Host, Operation, Provider, Request, Sealed, WantedKeys, What,
};
use serde_json::{Value, json};
use wechatpay::WeChatPay;

use crate::peer::{self, NOW, SERIAL, headers};

/// The host takes a certificate's text for a key; the test host knows it by that.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB/of+wechat/pay\n-----END CERTIFICATE-----\n";

#[test]
fn two_public_keys_are_believed_while_they_are_changed() {
    let (status, body) = peer::good("query");
    let told = |config: &Value, key: &str, serial: &str| {
        let request = peer::later(Operation::Inquire, "qr");
        let headers = headers(key, serial, NOW, &body);
        peer::answered_for(config, Operation::Inquire, request, status, &headers, &body).what
    };
    let now = peer::config();
    let change = peer::with(json!({ "next_public_key_id": peer::NEXT_ID }));
    assert_eq!(told(&now, "wechatpay", peer::ID), What::Captured);
    assert_eq!(told(&now, "next", peer::NEXT_ID), What::Unknown);
    assert_eq!(told(&change, "wechatpay", peer::ID), What::Captured);
    assert_eq!(told(&change, "next", peer::NEXT_ID), What::Captured);
    assert_eq!(told(&change, "next", peer::ID), What::Unknown);
    assert_eq!(told(&change, "wechatpay", peer::NEXT_ID), What::Unknown);
}

#[test]
fn a_platform_certificate_is_believed_only_where_it_may_be_and_is_there() {
    let (status, body) = peer::good("query");
    let told = |config: &Value, host: TestHost, serial: &str| {
        let provider = WeChatPay::open(config).unwrap();
        let request = peer::later(Operation::Inquire, "qr");
        let mut drive = Drive::new(&provider, &host, Operation::Inquire, request);
        drive.start().unwrap().sent();
        let headers = headers("wechatpay", serial, NOW, &body);
        let done = peer::answer(&mut drive, status, headers, &body).unwrap().done();
        done.facts[0].what
    };
    let name = format!("platform/{SERIAL}");
    let there = || peer::host().with_public(&name, &peer::public("wechatpay"));
    let only = peer::with(json!({ "public_key_id": null, "platform_certificates": true }));
    let both = peer::with(json!({ "platform_certificates": true }));
    for config in [&only, &both] {
        assert_eq!(told(config, there(), SERIAL), What::Captured);
        // The host fetches what is not there, and runs the step again.
        assert_eq!(told(config, peer::host(), SERIAL), What::Unknown);
        for serial in ["", "zz", "a/b", "5157F09EFDC096DE15EBE81A47057A7232F1B8E3"] {
            assert_eq!(told(config, there(), serial), What::Unknown, "{serial}");
        }
    }
    assert_eq!(told(&both, there(), peer::ID), What::Captured);
    assert_eq!(told(&peer::config(), there(), SERIAL), What::Unknown, "it was not allowed");
}

#[test]
fn what_is_published_as_sealed_is_opened() {
    let Some(vector) = peer::vector("wechat_aes256gcm.json") else { return };
    let text = |name: &str| vector[name].as_str().unwrap();
    let host = TestHost::default().with_aead("key", text("key").as_bytes());
    let sealed = BASE64.decode(text("ciphertext_b64")).unwrap();
    let sealed = Sealed {
        algorithm: "aes-256-gcm",
        nonce: text("nonce").as_bytes(),
        associated: text("associated_data").as_bytes(),
        ciphertext: &sealed,
    };
    assert_eq!(host.unseal("key", &sealed).unwrap().unwrap(), text("plaintext").as_bytes());
}

fn listed(serial: &str, pem: &str, associated: &str) -> Value {
    let sealed =
        peer::host().seal("api_v3_key", b"61f9c719728a", associated.as_bytes(), pem.as_bytes());
    json!({ "data": [{
        "serial_no": serial,
        "effective_time": "2025-11-01T00:00:00+08:00",
        "expire_time": "2030-11-01T00:00:00+08:00",
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM", "nonce": "61f9c719728a",
            "associated_data": "certificate", "ciphertext": BASE64.encode(sealed),
        },
    }]})
}

fn asked() -> Request {
    let wanted = WantedKeys { ring: "platform".into(), id: Some(SERIAL.into()) };
    Request { wanted: Some(wanted), ..testkit::request(0, "CNY", 2) }
}

fn fetched(key: &str, serial: &str, at: i64, status: u16, body: &Value) -> Result<Done, Fault> {
    let config = peer::with(json!({ "platform_certificates": true }));
    let provider = WeChatPay::open(&config).unwrap();
    let host = peer::host().with_public(PEM, &peer::public("wechatpay"));
    let mut drive = Drive::new(&provider, &host, Operation::FetchKeys, asked());
    let (send, sent) = drive.start()?.sent();
    assert_eq!((send.method.as_str(), send.path.as_str()), ("GET", "/v3/certificates"));
    assert!(sent.is_empty() && send.headers.iter().all(|(name, _)| name != "wechatpay-serial"));
    let body = body.to_string().into_bytes();
    Ok(peer::answer(&mut drive, status, headers(key, serial, at, &body), &body)?.done())
}

#[test]
fn certificates_are_believed_by_the_apiv3_key_and_sign_their_own_answer() {
    let good = listed(SERIAL, PEM, "certificate");
    let done = fetched("wechatpay", SERIAL, NOW, 200, &good).unwrap();
    assert_eq!((done.keys[0].id.as_str(), done.keys[0].pem.as_str()), (SERIAL, PEM));
    assert!(done.facts.is_empty() && done.keys.len() == 1);

    let refused = |key: &str, serial: &str, at, status, body: &Value| {
        let fault = fetched(key, serial, at, status, body).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input, "{}", fault.text);
    };
    refused("stranger", SERIAL, NOW, 200, &good);
    refused("wechatpay", SERIAL, NOW - 300, 200, &good);
    refused("wechatpay", "5157F09EFDC096DE15EBE81A47057A7232F1B8E3", NOW, 200, &good);
    refused("wechatpay", SERIAL, NOW, 500, &good);
    // Sealed for something else, so it is nobody's.
    refused("wechatpay", SERIAL, NOW, 200, &listed(SERIAL, PEM, "transaction"));
    refused("wechatpay", SERIAL, NOW, 200, &listed("a/b", PEM, "certificate"));
    refused("wechatpay", SERIAL, NOW, 200, &listed(SERIAL, "no pem", "certificate"));
    for (name, value) in [("algorithm", "AES"), ("nonce", "x"), ("ciphertext", "!")] {
        let mut other = good.clone();
        other["data"][0]["encrypt_certificate"][name] = value.into();
        refused("wechatpay", SERIAL, NOW, 200, &other);
    }
    for body in [json!({}), json!({ "data": [] }), json!([]), json!({ "data": [{}] })] {
        refused("wechatpay", SERIAL, NOW, 200, &body);
    }
}

#[test]
fn an_account_in_between_may_be_answered_under_its_public_key() {
    let good = listed(SERIAL, PEM, "certificate");
    assert_eq!(fetched("wechatpay", peer::ID, NOW, 200, &good).unwrap().keys.len(), 1);
    assert!(fetched("stranger", peer::ID, NOW, 200, &good).is_err());
}

#[test]
fn another_ring_is_not_known() {
    let (provider, host) = (peer::provider(), peer::host());
    for wanted in [None, Some(WantedKeys { ring: "other".into(), id: None })] {
        let request = Request { wanted, ..asked() };
        let mut drive = Drive::new(&provider, &host, Operation::FetchKeys, request);
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input);
    }
}
