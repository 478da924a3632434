//! Notifications of WeChat Pay, its certificates, and the signatures that must be refused.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{ACCOUNT, API_KEY, MCHID, Shop, opened, order, pair, refund_of};

/// Orders, and pays.
async fn paid(shop: &Shop, number: &str) {
    let (status, made) = shop.create("native", order(number, &shop.hook)).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(shop.act(json!({ "op_id": number, "act": "pay" })).await.0, 200);
}

#[tokio::test]
async fn payment_and_refund_are_told_sealed_and_signed() {
    let shop = Shop::with("").await;
    paid(&shop, "order-1").await;
    let told = shop.hook.wait(1).await[0].clone();
    assert!(told.is_signed());
    for name in ["request-id", "wechatpay-serial", "wechatpay-signature-type"] {
        assert!(told.headers.contains_key(name), "{name}");
    }
    let body = told.json();
    assert_eq!(body["event_type"], "TRANSACTION.SUCCESS");
    assert_eq!(body["resource_type"], "encrypt-resource");
    assert_eq!(body["resource"]["original_type"], "transaction");
    assert_eq!(told.content(), shop.query("order-1").await, "the shape of a query");

    shop.refund(refund_of("order-1", "r1", 234)).await;
    let told = shop.hook.wait(2).await[1].clone();
    assert!(told.is_signed());
    assert_eq!(told.json()["event_type"], "REFUND.SUCCESS");
    assert_ne!(told.json()["id"], body["id"]);
    let content = told.content();
    assert_eq!((&content["mchid"], &content["refund_status"]), (&json!(MCHID), &json!("SUCCESS")));
    assert_eq!((&content["amount"]["refund"], &content["status"]), (&json!(234), &Value::Null));
    assert_eq!(content["amount"]["currency"], Value::Null);
}

#[tokio::test]
async fn a_refused_notification_comes_again_and_a_status_of_200_ends_it() {
    let shop = Shop::with("").await;
    shop.hook.refuse(2);
    paid(&shop, "order-1").await;
    let told = shop.hook.wait(3).await;
    assert!(told.iter().all(|told| told.is_signed()));
    assert!(told.windows(2).all(|two| two[0].body == two[1].body));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(shop.hook.told().len(), 3, "the word FAIL with 200 is no refusal");
}

#[tokio::test]
async fn a_probe_is_refused_and_the_truth_comes_after_it() {
    let shop = Shop::with("").await;
    shop.fault("notify", "bad_signature").await;
    paid(&shop, "order-1").await;
    let told = shop.hook.wait(2).await;
    let signature = told[0].headers["wechatpay-signature"].to_str().unwrap();
    assert!(signature.starts_with("WECHATPAY/SIGNTEST/"), "{signature}");
    assert!(!told[0].is_signed() && told[1].is_signed());
    assert_eq!(told[0].body, told[1].body);
    let (_, health) = shop.control("GET", "/healthz", Value::Null).await;
    let account = &health["accounts"][ACCOUNT];
    assert_eq!((&account["probes_refused"], &account["probes_taken"]), (&json!(1), &json!(0)));

    let always = Shop::with("probe_signatures = true").await;
    paid(&always, "order-1").await;
    let told = always.hook.wait(2).await;
    assert!(!told[0].is_signed() && told[1].is_signed());
}

#[tokio::test]
async fn the_certificates_open_with_the_merchants_key_and_rotate() {
    let next = format!("next_platform_private_key = '''{}'''", pair("next").private_pem);
    let shop = Shop::with(&next).await;
    let reply = shop.reply("GET", "/v3/certificates", Value::Null).await;
    assert!(reply.is_signed_by("platform"));
    let listed = reply.json()["data"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    assert_eq!(reply.headers["wechatpay-serial"], listed[0]["serial_no"].as_str().unwrap());
    for (held, role) in listed.iter().zip(["platform", "next"]) {
        let sealed = &held["encrypt_certificate"];
        assert_eq!(sealed["associated_data"], "certificate");
        let pem = opened(API_KEY, sealed).expect("sealed with the merchant's key");
        assert!(opened(&API_KEY.replace("stage", "other"), sealed).is_none());
        assert!(holds(&pem, &pair(role).public_pem), "{role}: another key is certified");
    }
    let turned = shop.portal(json!({ "act": "signs_with", "identity": "next" })).await;
    assert_eq!(turned.0, 200);
    let reply = shop.reply("GET", "/v3/certificates", Value::Null).await;
    assert!(reply.is_signed_by("next") && !reply.is_signed_by("platform"));
    assert_eq!(reply.headers["wechatpay-serial"], listed[1]["serial_no"].as_str().unwrap());
    assert_eq!(shop.control("POST", "/reset", Value::Null).await.0, 200);
    let reply = shop.reply("GET", "/v3/certificates", Value::Null).await;
    assert!(reply.is_signed_by("platform"), "a reset turns back");

    let none = Shop::with("certificates = false").await;
    let code = none.refused(404, "GET", "/v3/certificates", Value::Null).await;
    assert_eq!(code, "RESOURCE_NOT_EXISTS");
}

/// Whether a certificate's bytes hold those of a public key.
fn holds(certificate: &str, public: &str) -> bool {
    use base64::Engine as _;
    let der = |pem: &str| {
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let public = der(public);
    der(certificate).windows(public.len()).any(|window| window == public)
}
