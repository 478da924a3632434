//! Notifications: signed, sealed, of this merchant, of now, and understood.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{Class, Done, Event, Fact, Operation, Provider, Scope, What};
use serde_json::{Value, json};
use wechatpay::WeChatPay;

use crate::peer::{self, NOW, NUMBER, headers, order, paid, refund};

const NONCE: &[u8; 12] = b"fdasflkja484";

/// A notification with this content, sealed.
pub fn notice(event_type: &str, original_type: &str, content: &Value) -> Value {
    let content = content.to_string();
    let sealed =
        peer::host().seal("api_v3_key", NONCE, original_type.as_bytes(), content.as_bytes());
    json!({
        "id": "EV-2018022511223320873",
        "create_time": "2025-11-25T00:00:02+08:00",
        "resource_type": "encrypt-resource",
        "event_type": event_type,
        "summary": "x",
        "resource": {
            "original_type": original_type, "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": BASE64.encode(sealed), "associated_data": original_type,
            "nonce": "fdasflkja484",
        },
    })
}

fn read(config: &Value, headers: Vec<(String, String)>, body: &[u8], now_ms: i64) -> Done {
    let (provider, host) = (WeChatPay::open(config).unwrap(), peer::host());
    let request = testkit::request(0, "CNY", 2);
    let mut drive = Drive::new(&provider, &host, Operation::ParseNotification, request);
    drive.envelope.now_ms = now_ms;
    drive.step(Event::Notification { headers }, body).unwrap().done()
}

fn told(notice: &Value) -> Done {
    let body = notice.to_string().into_bytes();
    read(&peer::config(), peer::signed(&body), &body, NOW * 1_000)
}

fn success() -> Value {
    notice("TRANSACTION.SUCCESS", "transaction", &order("SUCCESS", paid()))
}

/// A refund as a notification shows it: another name of the status, and no currency.
fn refunded(status: &str) -> Value {
    let mut refund = refund("x");
    refund.as_object_mut().unwrap().remove("status");
    refund["refund_status"] = status.into();
    refund["mchid"] = "1900000001".into();
    refund["amount"] = json!({ "total": 8_888, "refund": 1_000 });
    refund
}

fn fact(notice: &Value) -> Fact {
    let mut done = told(notice);
    assert!(done.verified);
    assert_eq!(done.ack.unwrap().status, 204);
    assert_eq!(done.facts.len(), 1);
    done.facts.remove(0)
}

fn is_refused(done: &Done) -> bool {
    let ack = done.ack.as_ref().unwrap();
    assert_eq!(ack.status == 401, !done.verified);
    !done.verified && done.facts.is_empty() && done.event_id.is_none() && ack.body.contains("FAIL")
}

/// Signed, and told again by WeChat Pay, because the answer is an error.
fn is_not_understood(done: &Done) -> bool {
    let ack = done.ack.as_ref().unwrap();
    let again = ack.status == 500 && ack.body.contains(r#""code":"FAIL""#);
    again && done.verified && done.facts.is_empty() && done.event_id.is_none()
}

#[test]
fn a_paid_order_is_told_with_its_number_amount_and_id() {
    let done = told(&success());
    assert!(done.verified);
    assert_eq!(done.event_id.as_deref(), Some("EV-2018022511223320873"));
    let ack = done.ack.unwrap();
    assert_eq!((ack.status, ack.body.as_str()), (204, ""));
    let fact = &done.facts[0];
    assert_eq!((fact.what, fact.scope), (What::Captured, Scope::Key));
    assert_eq!(fact.op_id.as_deref(), Some(NUMBER));
    assert_eq!(fact.amount.unwrap().to_string(), "8888 CNY");
    assert_eq!(fact.provider_ref.as_deref(), Some("4200000000202511240000000001"));
}

#[test]
fn a_refund_is_told_by_its_own_number() {
    let told = |event: &str, status| fact(&notice(event, "refund", &refunded(status)));
    let done = told("REFUND.SUCCESS", "SUCCESS");
    assert_eq!((done.what, done.op_id.as_deref()), (What::Refunded, Some("refund42")));
    assert_eq!(done.amount.unwrap().to_string(), "1000 CNY");
    assert_eq!(done.operation_ref.as_deref(), Some("50000000382019052709732678859"));
    let stuck = told("REFUND.ABNORMAL", "ABNORMAL");
    assert_eq!((stuck.what, stuck.class), (What::Pending, Some(Class::MerchantAction)));
    let closed = told("REFUND.CLOSED", "CLOSED");
    assert_eq!((closed.what, closed.op_id.as_deref()), (What::Failed, Some("refund42")));
    assert_eq!(told("REFUND.SUCCESS", "BRAND_NEW").what, What::Unknown);
    let mut poor = refunded("SUCCESS");
    poor["amount"] = json!({});
    assert_eq!(fact(&notice("REFUND.SUCCESS", "refund", &poor)).what, What::Unknown);
}

#[test]
fn a_notice_that_was_altered_anywhere_is_refused() {
    let body = success().to_string().into_bytes();
    let theirs = peer::signed(&body);
    let refused =
        |headers, body: &[u8]| is_refused(&read(&peer::config(), headers, body, NOW * 1_000));
    assert!(!refused(theirs.clone(), &body));
    for at in 0..body.len() {
        for flip in [1, 0x80] {
            let mut bad = body.clone();
            bad[at] ^= flip;
            assert!(refused(theirs.clone(), &bad), "{at}");
        }
    }
    for cut in 0..body.len() {
        assert!(refused(theirs.clone(), &body[..cut]));
    }
    for n in 0..theirs.len() {
        let mut missing = theirs.clone();
        missing.remove(n);
        assert!(refused(missing, &body));
    }
    for (key, serial) in [("stranger", peer::ID), ("wechatpay", "PUB_KEY_ID_9"), ("next", peer::ID)]
    {
        assert!(refused(headers(key, serial, NOW, &body), &body));
    }
}

#[test]
fn a_probe_with_a_false_signature_is_refused() {
    let body = success().to_string().into_bytes();
    let mut theirs = peer::signed(&body);
    for signature in ["WECHATPAY/SIGNTEST/abc", &format!("WECHATPAY/SIGNTEST/{}", "A".repeat(324))]
    {
        theirs[3].1 = signature.into();
        assert!(is_refused(&read(&peer::config(), theirs.clone(), &body, NOW * 1_000)));
    }
}

#[test]
fn a_replay_is_refused_after_five_minutes_and_known_by_its_id_before() {
    let body = success().to_string().into_bytes();
    let at =
        |seconds: i64| read(&peer::config(), peer::signed(&body), &body, (NOW + seconds) * 1_000);
    for seconds in [-299, 0, 299] {
        assert_eq!(at(seconds).event_id, at(0).event_id);
        assert!(at(seconds).verified, "{seconds}");
    }
    for seconds in [-300, 300, 86_400, 31_622_400] {
        assert!(is_refused(&at(seconds)), "{seconds}");
    }
}

#[test]
fn a_notice_about_another_merchant_is_refused() {
    let told = |name: &str, value: Value| {
        let mut order = order("SUCCESS", paid());
        order[name] = value;
        told(&notice("TRANSACTION.SUCCESS", "transaction", &order))
    };
    assert!(is_refused(&told("mchid", json!("1900000009"))));
    assert!(is_refused(&told("mchid", json!(null))));
    assert!(is_refused(&told("appid", json!("wxother"))));
    let mut refund = refunded("SUCCESS");
    refund["mchid"] = "1900000009".into();
    assert!(is_refused(&self::told(&notice("REFUND.SUCCESS", "refund", &refund))));
}

#[test]
fn a_partners_notice_names_both_merchants() {
    let config = peer::partner();
    let told = |content: &Value, kind: (&str, &str)| {
        let body = notice(kind.0, kind.1, content).to_string().into_bytes();
        read(&config, peer::signed(&body), &body, NOW * 1_000)
    };
    let paid_kind = ("TRANSACTION.SUCCESS", "transaction");
    let refund_kind = ("REFUND.SUCCESS", "refund");
    let mut trade = order("SUCCESS", paid());
    let mut refund = refunded("SUCCESS");
    for content in [&mut trade, &mut refund] {
        for name in ["appid", "mchid"] {
            content.as_object_mut().unwrap().remove(name);
        }
        content["sp_mchid"] = "1900000001".into();
        content["sub_mchid"] = "1900000109".into();
    }
    assert_eq!(told(&trade, paid_kind).facts[0].what, What::Captured);
    assert_eq!(told(&refund, refund_kind).facts[0].what, What::Refunded);
    for (name, value) in
        [("sub_mchid", json!("19")), ("sp_mchid", json!("19")), ("sub_mchid", json!(""))]
    {
        for (content, kind) in [(&trade, paid_kind), (&refund, refund_kind)] {
            let mut other = content.clone();
            other[name] = value.clone();
            assert!(is_refused(&told(&other, kind)), "{name}");
        }
    }
    assert!(is_refused(&told(&order("SUCCESS", paid()), paid_kind)), "a direct merchant's");
}

#[test]
fn what_is_signed_and_not_understood_is_told_again() {
    let success = success();
    let with = |place: &str, value: Value| {
        let mut other = success.clone();
        *other.pointer_mut(place).unwrap() = value;
        other
    };
    for other in [
        json!({}),
        json!([]),
        with("/id", json!("")),
        with("/id", json!(7)),
        with("/event_type", json!("BRAND.NEW")),
        with("/event_type", json!("REFUND.SUCCESS")),
        with("/resource/original_type", json!("complaint")),
        with("/resource/original_type", json!("refund")),
        with("/resource/algorithm", json!("AEAD_SM4_GCM")),
        with("/resource/nonce", json!("fdasflkja485")),
        with("/resource/nonce", json!("short")),
        with("/resource/associated_data", json!("other")),
        with("/resource/associated_data", json!(null)),
        with("/resource/ciphertext", json!("AAAA")),
        with("/resource/ciphertext", json!("!")),
        notice("TRANSACTION.SUCCESS", "transaction", &json!([])),
        notice("TRANSACTION.SUCCESS", "transaction", &json!({ "mchid": "1900000001" })),
        notice("REFUND.SUCCESS", "refund", &json!({ "mchid": "1900000001" })),
    ] {
        assert!(is_not_understood(&told(&other)), "{other}");
    }
}

#[test]
fn a_state_or_amount_that_was_not_expected_makes_the_host_ask() {
    let told = |state: &str, members| {
        let fact = fact(&notice("TRANSACTION.SUCCESS", "transaction", &order(state, members)));
        assert_eq!(fact.op_id.as_deref(), Some(NUMBER));
        fact.what
    };
    for state in ["CLOSED", "REVOKED", "REFUND", "NOTPAY", "PAYERROR", "USERPAYING", "NEW", ""] {
        assert_eq!(told(state, paid()), What::Unknown, "{state}");
    }
    assert_eq!(told("SUCCESS", json!({ "amount": { "total": 8_888 } })), What::Unknown);
}
