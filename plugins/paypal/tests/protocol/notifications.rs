//! Notifications: signatures, every byte of them, whose certificate it is, what each event says,
//! and PayPal asked itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{Drive, TestHost, Wanted};
use interlock_plugin_api::{
    CaptureMode, Class, Done, Fact, Host, Operation, Request, Scope, WantedKeys, What,
};
use ring::signature::{KeyPair, RsaKeyPair};
use serde_json::{Value, json};

use crate::peer::{
    self, CAPTURE, CHANGE, ORDER, PAYMENT, REFUND, authorization, capture, capture_of_part,
    payment, refund, with,
};

const PAYPAL: &str = include_str!("../keys/test-only-paypal.pem");
const STRANGER: &str = include_str!("../keys/test-only-stranger.pem");
const WEBHOOK: &str = "1JE4291016473214C";
const EVENT: &str = "WH-2WR32451HC0233532-67976317FL4543714";
const ID: &str = "69cd13f0-d67a-11e5-baa3-778b53f4ae55";
const TIME: &str = "2026-11-29T10:30:00Z";
const CERT: &str = "CERT-360caa42-fca2a594-7a8abba8";

fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(lines).unwrap()
}

/// The host, which has PayPal's certificate.
fn host() -> TestHost {
    let key = RsaKeyPair::from_pkcs8(&der(PAYPAL)).unwrap();
    TestHost::default().with_public(&format!("webhooks/{CERT}"), key.public_key().as_ref())
}

fn sign(key: &str, content: &str) -> String {
    let signer = TestHost::default().with_private("key", &der(key));
    BASE64.encode(signer.sign("key", "rsa-sha256-pkcs1", content.as_bytes()).unwrap())
}

/// The checksum of zip and Ethernet, bit by bit, as a peer of the plugin's own.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let fold = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, fold)
}

fn signature(key: &str, webhook: &str, body: &[u8]) -> String {
    sign(key, &format!("{ID}|{TIME}|{webhook}|{}", crc32(body)))
}

fn headers(signature: &str) -> Vec<(String, String)> {
    [
        ("paypal-transmission-id", ID),
        ("paypal-transmission-time", TIME),
        ("paypal-transmission-sig", signature),
        ("paypal-cert-url", &format!("https://api.paypal.com/v1/notifications/certs/{CERT}")),
        ("paypal-auth-algo", "SHA256withRSA"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn arrives(config: Value, host: &TestHost, headers: &[(String, String)], body: &[u8]) -> Wanted {
    let plugin = peer::account(config);
    let r = payment(CaptureMode::Automatic);
    let mut drive = Drive::new(&plugin, host, Operation::ParseNotification, r);
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    drive.notified(&headers, body).unwrap()
}

fn read(headers: &[(String, String)], body: &[u8]) -> Done {
    arrives(json!({ "webhook_id": WEBHOOK }), &host(), headers, body).done()
}

fn event(kind: &str, resource_type: &str, resource: Value) -> Vec<u8> {
    let body = json!({ "id": EVENT, "event_version": "1.0", "create_time": TIME,
        "resource_type": resource_type, "event_type": kind, "resource": resource });
    body.to_string().into_bytes()
}

/// The facts of a good notification.
fn told(kind: &str, resource_type: &str, resource: Value) -> Vec<Fact> {
    let body = event(kind, resource_type, resource);
    let done = read(&headers(&signature(PAYPAL, WEBHOOK, &body)), &body);
    assert!(done.verified);
    assert_eq!(done.event_id.as_deref(), Some(EVENT));
    let ack = done.ack.unwrap();
    assert_eq!((ack.status, ack.body.as_str()), (200, ""));
    done.facts
}

fn is_refused(done: &Done) -> bool {
    !done.verified
        && done.facts.is_empty()
        && done.event_id.is_none()
        && done.ack.as_ref().is_some_and(|ack| ack.status == 401)
}

#[test]
fn the_sum_is_an_unsigned_decimal() {
    assert_eq!(crc32(b"123456789"), 3_421_780_262);
    let (mut high, mut low) = (0, 0);
    for n in 0..64 {
        let body = format!("{{\"id\":\"{EVENT}\",\"event_type\":\"X\",\"n\":{n}}}");
        let sum = crc32(body.as_bytes());
        let content = format!("{ID}|{TIME}|{WEBHOOK}|{sum}");
        let done = read(&headers(&sign(PAYPAL, &content)), body.as_bytes());
        assert!(done.verified && done.facts.is_empty());
        let negative = format!("{ID}|{TIME}|{WEBHOOK}|{}", sum.cast_signed());
        let other = read(&headers(&sign(PAYPAL, &negative)), body.as_bytes());
        assert_eq!(is_refused(&other), sum > i32::MAX.cast_unsigned());
        if sum > i32::MAX.cast_unsigned() { high += 1 } else { low += 1 }
    }
    assert!(high > 10 && low > 10, "{high} {low}");
}

#[test]
fn every_byte_of_the_body_and_of_the_signature_counts() {
    let body = event("PAYMENT.CAPTURE.COMPLETED", "capture", capture("COMPLETED"));
    let good = signature(PAYPAL, WEBHOOK, &body);
    assert!(read(&headers(&good), &body).verified);
    for at in 0..body.len() {
        let mut other = body.clone();
        other[at] ^= 0x01;
        assert!(is_refused(&read(&headers(&good), &other)), "byte {at} of the body");
    }
    let raw = BASE64.decode(&good).unwrap();
    for at in 0..raw.len() {
        let mut other = raw.clone();
        other[at] ^= 0x01;
        let other = BASE64.encode(other);
        assert!(is_refused(&read(&headers(&other), &body)), "byte {at} of the signature");
    }
    let stranger = signature(STRANGER, WEBHOOK, &body);
    let of_another_webhook = signature(PAYPAL, "0AB00000000000000", &body);
    for wrong in [stranger.as_str(), &of_another_webhook, "", "!", &good[..10], &"A".repeat(9_000)]
    {
        assert!(is_refused(&read(&headers(wrong), &body)), "{wrong}");
    }
}

#[test]
fn every_header_counts() {
    let body = event("PAYMENT.CAPTURE.COMPLETED", "capture", capture("COMPLETED"));
    let good = headers(&signature(PAYPAL, WEBHOOK, &body));
    for at in 0..good.len() {
        let mut missing = good.clone();
        missing.remove(at);
        assert!(is_refused(&read(&missing, &body)), "without {}", good[at].0);
    }
    let with = |name: &str, value: &str| {
        let mut other = good.clone();
        other.iter_mut().find(|(n, _)| n == name).unwrap().1 = value.into();
        other
    };
    let cert = |host: &str| format!("https://{host}/v1/notifications/certs/{CERT}");
    for (name, value) in [
        ("paypal-transmission-id", "another"),
        ("paypal-transmission-id", ""),
        ("paypal-transmission-time", "2026-11-29T10:30:01Z"),
        ("paypal-auth-algo", "SHA1withRSA"),
        ("paypal-auth-algo", "sha256withrsa"),
        ("paypal-auth-algo", ""),
        ("paypal-cert-url", ""),
        ("paypal-cert-url", &cert("api.sandbox.paypal.com")),
        ("paypal-cert-url", &cert("api.paypal.com.evil.example")),
        ("paypal-cert-url", &cert("api.paypal.com:443")),
        ("paypal-cert-url", "https://api.paypal.com/v1/notifications/certs/CERT-unknown"),
    ] {
        assert!(is_refused(&read(&with(name, value), &body)), "{name}: {value}");
    }
    assert!(read(&with("paypal-cert-url", &cert("api-m.paypal.com")), &body).verified);
    // The parts of the signed content can't be cut elsewhere.
    let mut cut = with("paypal-transmission-id", &format!("{ID}|{TIME}"));
    cut.iter_mut().find(|(n, _)| n == "paypal-transmission-time").unwrap().1 = WEBHOOK.into();
    assert!(is_refused(&read(&cut, &body)));
}

#[test]
fn without_a_webhook_of_the_accounts_own_nothing_is_believed() {
    let body = event("PAYMENT.CAPTURE.COMPLETED", "capture", capture("COMPLETED"));
    let good = headers(&signature(PAYPAL, WEBHOOK, &body));
    let believing = TestHost::default().believing();
    assert!(is_refused(&arrives(json!({}), &believing, &good, &body).done()));
    // A key that the host does not have yet verifies nothing; it fetches it and asks again.
    let config = json!({ "webhook_id": WEBHOOK });
    assert!(is_refused(&arrives(config.clone(), &TestHost::default(), &good, &body).done()));
    assert!(arrives(config, &host(), &good, &body).done().verified);
}

#[test]
fn the_sandbox_signs_for_the_sandbox_alone() {
    let body = event("PAYMENT.CAPTURE.COMPLETED", "capture", capture("COMPLETED"));
    let live = headers(&signature(PAYPAL, WEBHOOK, &body));
    let mut sandbox = live.clone();
    sandbox[3].1 = format!("https://api.sandbox.paypal.com/v1/notifications/certs/{CERT}");
    let config = json!({ "webhook_id": WEBHOOK, "sandbox": true });
    assert!(arrives(config.clone(), &host(), &sandbox, &body).done().verified);
    assert!(is_refused(&arrives(config, &host(), &live, &body).done()));
    assert!(is_refused(&read(&sandbox, &body)));
}

fn one(kind: &str, resource_type: &str, resource: Value) -> Fact {
    let mut facts = told(kind, resource_type, resource);
    assert_eq!(facts.len(), 1, "{kind}");
    facts.remove(0)
}

#[test]
fn an_approval_asks_for_our_capture() {
    let order = |status: &str| peer::order(status, "CAPTURE", Value::Null);
    let fact = one("CHECKOUT.ORDER.APPROVED", "checkout-order", order("APPROVED"));
    assert_eq!((fact.what, fact.op_id.as_deref()), (What::Approved, Some(PAYMENT)));
    assert_eq!(fact.provider_ref.as_deref(), Some(ORDER));
    let fact = one("CHECKOUT.ORDER.APPROVED", "checkout-order", order("COMPLETED"));
    assert_eq!(fact.what, What::Unknown, "then an inquiry tells");
}

#[test]
fn a_capture_is_told_by_every_number() {
    for (kind, status, what, code) in [
        ("PAYMENT.CAPTURE.COMPLETED", "COMPLETED", What::Captured, None),
        ("PAYMENT.CAPTURE.COMPLETED", "PARTIALLY_REFUNDED", What::Captured, None),
        ("PAYMENT.CAPTURE.COMPLETED", "REFUNDED", What::Captured, None),
        ("PAYMENT.CAPTURE.COMPLETED", "DECLINED", What::Unknown, Some("unlisted_status")),
        ("PAYMENT.CAPTURE.COMPLETED", "zzz", What::Unknown, Some("unlisted_status")),
        ("PAYMENT.CAPTURE.PENDING", "PENDING", What::Pending, Some("PENDING")),
        ("PAYMENT.CAPTURE.PENDING", "COMPLETED", What::Unknown, Some("unlisted_status")),
        ("PAYMENT.CAPTURE.DENIED", "DECLINED", What::Failed, Some("DECLINED")),
        ("PAYMENT.CAPTURE.DECLINED", "DECLINED", What::Failed, Some("DECLINED")),
        ("PAYMENT.CAPTURE.DENIED", "FAILED", What::Failed, Some("FAILED")),
        ("PAYMENT.CAPTURE.DENIED", "COMPLETED", What::Unknown, Some("unlisted_status")),
    ] {
        // Of the order, and of an authorization: then our number is the capture's.
        for (resource, number, units) in
            [(capture(status), PAYMENT, 4_900), (capture_of_part(status), CHANGE, 1_234)]
        {
            let fact = one(kind, "capture", resource);
            assert_eq!(fact.what, what, "{kind} {status}");
            assert_eq!(fact.op_id.as_deref(), Some(number));
            assert_eq!(fact.operation_ref.as_deref(), Some(CAPTURE));
            assert_eq!(fact.provider_ref.as_deref(), Some(ORDER));
            assert_eq!(fact.provider_code.as_deref(), code);
            let amount = fact.amount.map(|money| money.amount);
            assert_eq!(amount, (what == What::Captured).then_some(units));
        }
    }
    let without = with(capture("COMPLETED"), "/amount", Value::Null);
    assert_eq!(one("PAYMENT.CAPTURE.COMPLETED", "capture", without).what, What::Unknown);
    let strange = with(capture("COMPLETED"), "/invoice_id", json!("not ours"));
    let fact = one("PAYMENT.CAPTURE.COMPLETED", "capture", strange);
    assert_eq!(fact.op_id.as_deref(), Some(PAYMENT), "the order's mark is left");
}

#[test]
fn a_refund_is_ours_or_somebody_elses() {
    let related = json!({ "related_ids": { "order_id": ORDER, "capture_id": CAPTURE } });
    for (status, what) in [
        ("COMPLETED", What::Refunded),
        ("PENDING", What::Pending),
        ("FAILED", What::Failed),
        ("CANCELLED", What::Failed),
        ("zzz", What::Unknown),
    ] {
        for kind in ["PAYMENT.CAPTURE.REFUNDED", "PAYMENT.CAPTURE.REVERSED", "PAYMENT.REFUND.X"] {
            for (mark, number) in [
                (json!(CHANGE), Some(CHANGE)),
                (json!(format!("{CHANGE}:{CAPTURE}")), Some(CHANGE)),
                (json!(PAYMENT), Some(PAYMENT)),
                (json!("Refund of tea"), None),
                (Value::Null, None),
            ] {
                let mut resource = with(refund(status), "/custom_id", mark);
                resource["supplementary_data"] = related.clone();
                let fact = one(kind, "refund", resource);
                assert_eq!((fact.what, fact.op_id.as_deref()), (what, number), "{kind} {status}");
                assert_eq!(fact.operation_ref.as_deref(), Some(REFUND));
                assert_eq!(fact.provider_ref.as_deref(), Some(ORDER));
                let units = fact.amount.map(|money| money.amount);
                assert_eq!(units, (what == What::Refunded).then_some(1_234));
            }
        }
    }
    // What is taken back may be told with the capture itself: how much is for an inquiry.
    let fact = one("PAYMENT.CAPTURE.REVERSED", "capture", capture("REFUNDED"));
    assert_eq!((fact.what, fact.op_id.as_deref()), (What::Unknown, Some(PAYMENT)));
}

#[test]
fn an_authorization_is_of_the_payment() {
    for (kind, status, what) in [
        ("PAYMENT.AUTHORIZATION.CREATED", "CREATED", What::Authorized),
        ("PAYMENT.AUTHORIZATION.CREATED", "PENDING", What::Pending),
        ("PAYMENT.AUTHORIZATION.CREATED", "DENIED", What::Unknown),
        ("PAYMENT.AUTHORIZATION.VOIDED", "VOIDED", What::Voided),
        ("PAYMENT.AUTHORIZATION.VOIDED", "CREATED", What::Unknown),
    ] {
        let fact = one(kind, "authorization", authorization(status));
        assert_eq!((fact.what, fact.op_id.as_deref()), (what, Some(PAYMENT)), "{kind} {status}");
        assert_eq!((fact.operation_ref, fact.provider_ref.as_deref()), (None, Some(ORDER)));
    }
    let fact = one("PAYMENT.AUTHORIZATION.VOIDED", "authorization", authorization("VOIDED"));
    assert_eq!(fact.scope, Scope::Key);
}

#[test]
fn what_moves_no_money_says_nothing() {
    for kind in [
        "CUSTOMER.DISPUTE.CREATED",
        "CHECKOUT.ORDER.COMPLETED",
        "PAYMENT.CAPTURE.BRAND_NEW",
        "PAYMENT.AUTHORIZATION.BRAND_NEW",
        "PAYMENT.SALE.COMPLETED",
        "",
    ] {
        for resource in [capture("COMPLETED"), json!({ "dispute_id": "PP-D-1" }), Value::Null] {
            assert!(told(kind, "dispute", resource).is_empty(), "{kind}");
        }
    }
    let unreadable = json!({ "id": 1 });
    assert!(told("PAYMENT.CAPTURE.COMPLETED", "capture", unreadable).is_empty());
}

#[test]
fn what_is_signed_and_not_documented_is_not_acknowledged() {
    for body in
        ["{}", "[]", "null", "", "<html>", "{\"id\":\"a b\",\"event_type\":\"X\"}", "\u{e9}"]
    {
        let body = body.as_bytes();
        let done = read(&headers(&signature(PAYPAL, WEBHOOK, body)), body);
        assert!(done.verified && done.facts.is_empty() && done.event_id.is_none());
        assert_eq!(done.ack.unwrap().status, 400);
    }
}

#[test]
fn paypal_is_asked_with_the_bytes_as_they_came() {
    let config = || json!({ "webhook_id": WEBHOOK, "verify": "postback" });
    let raw = format!(
        "{{\"id\":\"{EVENT}\",  \"event_type\":\"PAYMENT.CAPTURE.COMPLETED\",\
         \"resource_type\":\"capture\",\"resource\": {} , \"x\":\"\\u00e9\"}}",
        capture("COMPLETED")
    );
    let body = raw.as_bytes();
    let plugin = peer::account(config());
    let host = TestHost::default();
    let r = payment(CaptureMode::Automatic);
    let headers = headers("c2lnbmF0dXJl");
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, r.clone());
    let (send, asked) = drive.notified(&headers, body).unwrap().sent();
    assert_eq!(send.path, "/v1/notifications/verify-webhook-signature");
    let text = String::from_utf8(asked).unwrap();
    assert!(text.ends_with(&format!("\"webhook_event\":{raw}}}")), "{text}");
    let asked: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&asked["webhook_id"], &asked["transmission_id"]), (&json!(WEBHOOK), &json!(ID)));
    assert_eq!(
        (&asked["transmission_time"], &asked["auth_algo"]),
        (&json!(TIME), &json!("SHA256withRSA"))
    );
    assert_eq!(asked["transmission_sig"], "c2lnbmF0dXJl");
    let done = drive.answer(200, br#"{"verification_status":"SUCCESS"}"#).unwrap().done();
    assert!(done.verified);
    assert_eq!((done.facts[0].what, done.event_id.as_deref()), (What::Captured, Some(EVENT)));
    for (status, answer, refused) in [
        (200, r#"{"verification_status":"FAILURE"}"#, true),
        (200, r#"{"verification_status":"success"}"#, false),
        (200, "{}", false),
        (200, "", false),
        (201, r#"{"verification_status":"SUCCESS"}"#, false),
        (401, "{}", false),
        (500, r#"{"verification_status":"SUCCESS"}"#, false),
    ] {
        let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, r.clone());
        drive.notified(&headers, body).unwrap().sent();
        match drive.answer(status, answer.as_bytes()) {
            Ok(wanted) => assert!(refused && is_refused(&wanted.done()), "{status} {answer}"),
            Err(_) => assert!(!refused, "nobody knows, so PayPal tells it again: {answer}"),
        }
    }
    // What could be read as something else beside the event never goes there.
    for body in ["", "{}{}", "{},\"webhook_id\":\"x\"", "{", "\u{0}"] {
        let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, r.clone());
        let done = drive.notified(&headers, body.as_bytes()).unwrap().done();
        assert!(is_refused(&done), "{body}");
    }
}

#[test]
fn certificates_are_handed_on_as_they_came() {
    let wanted = Some(WantedKeys { ring: "webhooks".into(), id: Some(CERT.into()) });
    let r = Request { wanted, ..payment(CaptureMode::Automatic) };
    let chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".repeat(2);
    let fetched = |status, body: &[u8]| {
        let (plugin, host) = (peer::provider(), TestHost::default());
        let mut drive = Drive::new(&plugin, &host, Operation::FetchKeys, r.clone());
        drive.start().unwrap().sent();
        drive.answer(status, body).unwrap().done().keys
    };
    let keys = fetched(200, chain.as_bytes());
    assert_eq!((keys.len(), keys[0].id.as_str(), keys[0].pem.as_str()), (1, CERT, chain.as_str()));
    for (status, body) in [
        (200, &b""[..]),
        (200, b"<html>"),
        (200, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        (200, b"\xff"),
        (404, chain.as_bytes()),
        (302, chain.as_bytes()),
    ] {
        assert!(fetched(status, body).is_empty(), "{status}");
    }
}

#[test]
fn a_failure_names_its_class() {
    let fact = one("PAYMENT.CAPTURE.DENIED", "capture", capture("DECLINED"));
    assert_eq!(fact.class, Some(Class::DeclinedSoft));
    let fact = one("PAYMENT.REFUND.FAILED", "refund", refund("FAILED"));
    assert_eq!(fact.class, Some(Class::DeclinedHard));
}
