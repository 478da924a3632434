//! PayPal: orders, holds, refunds, request ids, faults, webhooks, reports, and money by the portal.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use interlock_sandbox::keys::{FreshPair, Verifier, fresh_pair};
use interlock_sandbox::{Config, Sandbox, moment, paypal};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};

use crate::stage::{Arrived, Hook, Stage};

const MAIN: &str = "paypal-main";
const NONE: Value = Value::Null;
const ORDERS: &str = "/v2/checkout/orders";
const WEBHOOK_ID: &str = "1WEBHOOK";
const CN: &str = "messageverificationcerts.sandbox.paypal.com";

#[tokio::test]
async fn only_a_live_token_lets_in() {
    let shop = Shop::start().await;
    let url = shop.url("/v1/oauth2/token");
    let form = [("grant_type", "client_credentials")];
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let ask = async |secret: &str| {
        let request = shop.stage.client.post(&url).basic_auth("client", Some(secret));
        let response = request.body(body.clone()).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, wrong) = ask("other").await;
    assert_eq!((status, &wrong["error"]), (401, &json!("invalid_client")));
    let (status, given) = ask("secret").await;
    assert_eq!((status, &given["expires_in"]), (200, &json!(32_400)));
    assert_eq!(given["token_type"], "Bearer");

    let get = shop.url(&format!("{ORDERS}/X"));
    let none = shop.stage.client.get(&get).send().await.unwrap();
    assert_eq!(none.status(), 401);
    assert_eq!(none.json::<Value>().await.unwrap()["name"], "AUTHENTICATION_FAILURE");
    let unknown = shop.stage.client.get(&get).bearer_auth("A21AA").send().await.unwrap();
    assert_eq!(unknown.status(), 401);
    assert!(unknown.headers().contains_key("www-authenticate"));
    assert_eq!(unknown.json::<Value>().await.unwrap()["error"], "invalid_token");
    shop.stage.control("POST", "/reset", NONE).await;
    assert_eq!(shop.get(&format!("{ORDERS}/X")).await.0, 404, "a reset leaves tokens good");

    let short = Shop::with("token_life_s = 0").await;
    let (status, late) = short.get(&format!("{ORDERS}/X")).await;
    assert_eq!((status, &late["error"]), (401, &json!("invalid_token")), "it has ended");
}

#[tokio::test]
async fn an_order_is_approved_and_captured_once() {
    let shop = Shop::start().await;
    let (status, made) = shop.post(ORDERS, Some("k"), order("CAPTURE", "12.34")).await;
    assert_eq!((status, &made["status"]), (201, &json!("CREATED")));
    assert_eq!(made.as_object().unwrap().len(), 3, "id, status and links: {made}");
    let id = made["id"].as_str().unwrap();
    let page = shop.stage.client.get(href(&made, "approve")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let path = format!("{ORDERS}/{id}/capture");
    let early = shop.post(&path, Some("c0"), json!({})).await;
    assert_eq!(issue(&early), (422, "ORDER_NOT_APPROVED"));
    let acted = shop.act(id, "pay").await;
    assert_eq!((acted.0, &acted.1["status"]), (200, &json!("APPROVED")));
    assert!(shop.stage.ledger(MAIN).await.is_empty(), "an approval is no money");

    let authorize = shop.post(&format!("{ORDERS}/{id}/authorize"), Some("a"), json!({})).await;
    assert_eq!(issue(&authorize), (422, "ACTION_DOES_NOT_MATCH_INTENT"));
    let (status, taken) = shop.whole(&path, Some("c1"), json!({})).await;
    assert_eq!((status, &taken["status"]), (201, &json!("COMPLETED")));
    let capture = &taken["purchase_units"][0]["payments"]["captures"][0];
    assert_eq!(capture["status"], "COMPLETED");
    assert_eq!(capture["amount"], json!({ "currency_code": "EUR", "value": "12.34" }));
    assert_eq!(capture["supplementary_data"]["related_ids"]["order_id"], id);
    let again = shop.post(&path, Some("c2"), json!({})).await;
    assert_eq!(issue(&again), (422, "ORDER_ALREADY_CAPTURED"));
    assert_eq!(shop.get(&format!("{ORDERS}/{id}")).await.1, taken);
    let own = format!("/v2/payments/captures/{}", capture["id"].as_str().unwrap());
    assert_eq!(shop.get(&own).await, (200, capture.clone()));

    let (_, movements) = shop.stage.control("GET", "/ledger", NONE).await;
    assert_eq!(movements.as_array().unwrap().len(), 1);
    let moved = &movements[0];
    assert_eq!((&moved["kind"], &moved["amount"]), (&json!("charge"), &json!(1234)));
    assert_eq!((&moved["op_id"], &moved["reference"]), (&json!("c1"), &json!("k")));
    assert_eq!(moved["provider_ref"], id);
    let unknown = shop.get(&format!("{ORDERS}/NONE")).await;
    assert_eq!(issue(&unknown), (404, "INVALID_RESOURCE_ID"));
    assert_eq!(unknown.1["name"], "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn an_order_with_a_source_waits_for_the_payer() {
    let shop = Shop::start().await;
    let mut body = order("CAPTURE", "5.00");
    let urls = json!({ "return_url": "https://s.example/b", "cancel_url": "https://s.example/c" });
    body["payment_source"] = json!({ "paypal": { "experience_context": urls } });
    let bare = shop.post(ORDERS, None, body.clone()).await;
    assert_eq!(issue(&bare), (400, "PAYPAL_REQUEST_ID_REQUIRED"));
    let (status, made) = shop.post(ORDERS, Some("k"), body).await;
    assert_eq!((status, &made["status"]), (200, &json!("PAYER_ACTION_REQUIRED")));
    let id = made["id"].as_str().unwrap();
    let page = href(&made, "payer-action");
    let acting = json!({ "account": MAIN, "order": page, "act": "abandon" });
    let (_, left) = shop.stage.act(acting).await;
    assert!(left["redirect"].as_str().unwrap().starts_with("https://s.example/c?token="));
    assert_eq!(left["status"], "PAYER_ACTION_REQUIRED");
    let acting = json!({ "account": MAIN, "order": page, "act": "pay" });
    let (_, paid) = shop.stage.act(acting).await;
    assert_eq!((&paid["status"], &paid["provider_ref"]), (&json!("APPROVED"), &json!(id)));
    for name in ["k", "custom-5.00", "inv-5.00"] {
        assert_eq!(shop.act(name, "pay").await.1["provider_ref"], id, "{name}");
    }
    assert_eq!(shop.act("nobody", "pay").await.0, 409);
}

#[tokio::test]
async fn a_request_id_names_what_its_first_request_made() {
    let shop = Shop::with("order_key_life_ms = 600").await;
    let (_, made) = shop.post(ORDERS, Some("k"), order("CAPTURE", "9.00")).await;
    let copy = shop.post(ORDERS, Some("k"), order("CAPTURE", "1.00")).await;
    assert_eq!(copy, (200, made.clone()), "whatever the copy's body says");
    let id = made["id"].as_str().unwrap();
    let path = format!("{ORDERS}/{id}/capture");
    let refused = shop.post(&path, Some("k"), json!({})).await;
    assert_eq!(issue(&refused), (422, "ORDER_NOT_APPROVED"), "a key is of one path");
    shop.act(id, "pay").await;
    assert_eq!(shop.post(&path, Some("k"), json!({})).await.0, 201, "a refusal is forgotten");
    let copy = shop.post(&path, Some("k"), json!({})).await;
    assert_eq!((copy.0, &copy.1["status"]), (200, &json!("COMPLETED")));
    let copy = shop.post(ORDERS, Some("k"), order("CAPTURE", "9.00")).await;
    assert_eq!((copy.0, &copy.1["status"]), (200, &json!("COMPLETED")), "as it stands now");
    assert_eq!(shop.stage.ledger(MAIN).await, [("charge".to_owned(), 900)]);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (status, other) = shop.post(ORDERS, Some("k"), order("CAPTURE", "9.00")).await;
    assert_eq!(status, 201, "forgotten");
    assert_ne!(other["id"], made["id"]);
    let long = shop.post(ORDERS, Some(&"x".repeat(109)), order("CAPTURE", "9.00")).await;
    assert_eq!(issue(&long), (400, "INVALID_STRING_LENGTH"));
}

#[tokio::test]
async fn a_hold_is_captured_in_parts_and_the_rest_let_go() {
    let shop = Shop::start().await;
    let hold = shop.hold("k", "20.00").await;
    let own = format!("/v2/payments/authorizations/{hold}");
    let shown = shop.get(&own).await.1;
    assert_eq!(shown["status"], "CREATED");
    let soon = shop.post(&format!("{own}/reauthorize"), Some("r"), json!({})).await;
    assert_eq!(issue(&soon), (422, "REAUTHORIZATION_NOT_SUPPORTED"));
    let path = format!("{own}/capture");
    let over = shop.post(&path, Some("c0"), json!({ "amount": euro("20.01") })).await;
    assert_eq!(issue(&over), (422, "MAX_CAPTURE_AMOUNT_EXCEEDED"));
    let part = json!({ "amount": euro("5.00"), "final_capture": false });
    let (status, first) = shop.post(&path, Some("c1"), part.clone()).await;
    assert_eq!((status, &first["status"]), (201, &json!("COMPLETED")));
    assert_eq!(shop.post(&path, Some("c1"), part).await, (200, first));
    assert_eq!(shop.get(&own).await.1["status"], "PARTIALLY_CAPTURED");
    let last = json!({ "amount": euro("5.00"), "final_capture": true });
    assert_eq!(shop.post(&path, Some("c2"), last).await.0, 201);
    assert_eq!(shop.get(&own).await.1["status"], "CAPTURED");
    let after = shop.post(&path, Some("c3"), json!({})).await;
    assert_eq!(issue(&after), (422, "AUTHORIZATION_ALREADY_CAPTURED"));
    let void = shop.post(&format!("{own}/void"), None, NONE).await;
    assert_eq!(issue(&void), (422, "PREVIOUSLY_CAPTURED"));
    let expected = [("authorize", 2000), ("capture", 500), ("capture", 500), ("void", 1000)];
    let ledger = shop.stage.ledger(MAIN).await;
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
    let (_, net) = shop.stage.control("GET", "/net", NONE).await;
    assert_eq!((&net[0]["reference"], &net[0]["net"]), (&json!("k"), &json!(1000)));
}

#[tokio::test]
async fn a_void_takes_no_request_id_and_happens_once() {
    let shop = Shop::start().await;
    let own = format!("/v2/payments/authorizations/{}", shop.hold("k", "20.00").await);
    let path = format!("{own}/void");
    assert_eq!(shop.post(&path, Some("v"), NONE).await, (204, json!("")));
    let again = shop.post(&path, Some("v"), NONE).await;
    assert_eq!(issue(&again), (422, "PREVIOUSLY_VOIDED"));
    assert_eq!(shop.get(&own).await.1["status"], "VOIDED");
    let (_, movements) = shop.stage.control("GET", "/ledger", NONE).await;
    assert_eq!(movements[1]["op_id"], "v");
    let capture = shop.post(&format!("{own}/capture"), Some("c"), json!({})).await;
    assert_eq!(issue(&capture), (422, "AUTHORIZATION_VOIDED"));
    let other = format!("/v2/payments/authorizations/{}/void", shop.hold("l", "3.00").await);
    let (status, shown) = shop.whole(&other, None, NONE).await;
    assert_eq!((status, &shown["status"]), (200, &json!("VOIDED")));
    let expected = [("authorize", 2000), ("void", 2000), ("authorize", 300), ("void", 300)];
    let ledger = shop.stage.ledger(MAIN).await;
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
}

#[tokio::test]
async fn refunds_give_back_at_most_what_was_taken() {
    let shop = Shop::start().await;
    let (_, capture) = shop.sale("k", "10.00").await;
    let path = format!("/v2/payments/captures/{capture}/refund");
    let part = json!({ "amount": euro("4.00"), "invoice_id": "r-1" });
    let (status, first) = shop.post(&path, Some("r1"), part.clone()).await;
    assert_eq!((status, &first["status"]), (201, &json!("COMPLETED")));
    assert_eq!(shop.post(&path, Some("r1"), part).await, (200, first.clone()));
    let shown = shop.get(&format!("/v2/payments/captures/{capture}")).await.1;
    assert_eq!(shown["status"], "PARTIALLY_REFUNDED");
    let over = shop.post(&path, Some("r2"), json!({ "amount": euro("6.01") })).await;
    assert_eq!(issue(&over), (422, "REFUND_AMOUNT_EXCEEDED"));
    let dollars = json!({ "amount": { "currency_code": "USD", "value": "1.00" } });
    let other = shop.post(&path, Some("r2"), dollars).await;
    assert_eq!(issue(&other), (422, "REFUND_CAPTURE_CURRENCY_MISMATCH"));
    assert_eq!(shop.post(&path, Some("r2"), json!({})).await.0, 201);
    let after = shop.post(&path, Some("r3"), json!({})).await;
    assert_eq!(issue(&after), (422, "CAPTURE_FULLY_REFUNDED"));
    let own = format!("/v2/payments/refunds/{}", first["id"].as_str().unwrap());
    let shown = shop.get(&own).await.1;
    assert_eq!((&shown["amount"]["value"], &shown["invoice_id"]), (&json!("4.00"), &json!("r-1")));
    let expected = [("charge", 1000), ("refund", 400), ("refund", 600)];
    let ledger = shop.stage.ledger(MAIN).await;
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
}

#[tokio::test]
async fn a_declined_instrument_leaves_the_order_usable() {
    let shop = Shop::start().await;
    let (_, made) = shop.post(ORDERS, Some("k"), order("CAPTURE", "10.00")).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("{ORDERS}/{id}/capture");
    shop.act(id, "fail").await;
    let declined = shop.post(&path, Some("c1"), json!({})).await;
    assert_eq!(issue(&declined), (422, "INSTRUMENT_DECLINED"));
    assert_eq!(href(&declined.1, "redirect"), href(&made, "approve"));
    assert!(shop.stage.ledger(MAIN).await.is_empty());
    shop.act(id, "pay").await;
    assert_eq!(shop.post(&path, Some("c2"), json!({})).await.0, 201);
}

#[tokio::test]
async fn what_is_not_well_formed_is_named() {
    let shop = Shop::start().await;
    let make = async |change: fn(&mut Value)| {
        let mut body = order("CAPTURE", "10.00");
        change(&mut body);
        shop.post(ORDERS, Some("k"), body).await
    };
    let yen = make(|b| b["purchase_units"][0]["amount"]["currency_code"] = "JPY".into()).await;
    assert_eq!(issue(&yen), (422, "DECIMALS_NOT_SUPPORTED"));
    let text = make(|b| b["purchase_units"][0]["amount"]["value"] = "ten".into()).await;
    assert_eq!(issue(&text), (400, "INVALID_PARAMETER_VALUE"));
    assert_eq!(text.1["details"][0]["field"], "/purchase_units/@0/amount/value");
    for member in ["name", "message", "debug_id", "links"] {
        assert!(!text.1[member].is_null(), "{member}");
    }
    let fine = make(|b| b["purchase_units"][0]["amount"]["value"] = "10.001".into()).await;
    assert_eq!(issue(&fine), (422, "DECIMAL_PRECISION"));
    let none = make(|b| b["purchase_units"] = json!([])).await;
    assert_eq!(issue(&none), (400, "MISSING_REQUIRED_PARAMETER"));
    let request = shop.stage.client.post(shop.url(ORDERS)).bearer_auth(&shop.token);
    let plain = request.header("content-type", "text/plain").body("{}").send().await.unwrap();
    assert_eq!(plain.status(), 415);
    let request = shop.stage.client.post(shop.url(ORDERS)).bearer_auth(&shop.token);
    let half = request.header("content-type", "application/json").body("{").send().await.unwrap();
    assert_eq!(half.status(), 400);
    assert_eq!(shop.post(ORDERS, Some("k"), order("CAPTURE", "10.00")).await.0, 201);
}

#[tokio::test]
async fn an_issue_can_be_asked_for() {
    let shop = Shop::start().await;
    let asking = [("PayPal-Mock-Response", r#"{"mock_application_codes":"INSTRUMENT_DECLINED"}"#)];
    let body = order("CAPTURE", "10.00");
    let mocked = shop.send("POST", ORDERS, &asking, body).await;
    assert_eq!(issue(&mocked), (422, "INSTRUMENT_DECLINED"));
    let asking = [("PayPal-Mock-Response", r#"{"mock_application_codes":"PERMISSION_DENIED"}"#)];
    let mocked = shop.send("POST", ORDERS, &asking, order("CAPTURE", "10.00")).await;
    assert_eq!(issue(&mocked), (403, "PERMISSION_DENIED"));
}

#[tokio::test]
async fn an_amount_chooses_what_becomes_of_a_capture() {
    let shop = Shop::with("magic_amounts = true\ndecide_ms = 100").await;
    for (value, first, last, sum) in [
        ("1.11", "PENDING", "COMPLETED", Some(111)),
        ("1.12", "PENDING", "DECLINED", None),
        ("1.13", "DECLINED", "DECLINED", None),
        ("1.14", "PENDING", "PENDING", None),
    ] {
        let (id, capture) = shop.sale(value, value).await;
        let path = format!("/v2/payments/captures/{capture}");
        assert_eq!(shop.get(&path).await.1["status"], first, "{value}");
        assert!(!shop.charged(&id).await, "no money yet: {value}");
        let refund = shop.post(&format!("{path}/refund"), Some("r"), json!({})).await;
        assert_eq!(refund.0, 422, "{value}");
        tokio::time::sleep(Duration::from_millis(400)).await;
        let shown = shop.get(&path).await.1;
        assert_eq!(shown["status"], last, "{value}");
        assert_eq!(shown["processor_response"].is_object(), last == "DECLINED");
        assert_eq!(shop.charged(&id).await, sum.is_some(), "{value}");
    }
    assert_eq!(shop.act("1.14", "pay").await.0, 200, "his cheque is good");
    assert_eq!(shop.act("1.14", "pay").await.0, 409, "once");
    let charges = [("charge".to_owned(), 111), ("charge".to_owned(), 114)];
    assert_eq!(shop.stage.ledger(MAIN).await, charges);
}

#[tokio::test]
async fn an_invoice_may_be_payable_once() {
    let shop = Shop::with("duplicate_invoice_id = true").await;
    shop.sale("k", "10.00").await;
    let (_, made) = shop.post(ORDERS, Some("l"), order("CAPTURE", "10.00")).await;
    shop.act("l", "pay").await;
    let path = format!("{ORDERS}/{}/capture", made["id"].as_str().unwrap());
    let second = shop.post(&path, Some("c"), json!({})).await;
    assert_eq!(issue(&second), (422, "DUPLICATE_INVOICE_ID"));
    assert_eq!(shop.stage.ledger(MAIN).await.len(), 1);
}

#[tokio::test]
async fn the_dial_declines_and_limits_without_executing() {
    let shop = Shop::start().await;
    let (_, made) = shop.post(ORDERS, Some("k"), order("CAPTURE", "10.00")).await;
    shop.act("k", "pay").await;
    let path = format!("{ORDERS}/{}/capture", made["id"].as_str().unwrap());
    let meet = async |operation: &str, fault: &str, path: &str, body: Value| {
        shop.fault(operation, fault, 0).await;
        let answer = shop.post(path, Some("c"), body).await;
        shop.stage.lift_all().await;
        answer
    };
    for (fault, expected) in
        [("decline_soft", "INSTRUMENT_DECLINED"), ("decline_hard", "TRANSACTION_REFUSED")]
    {
        assert_eq!(issue(&meet("continue", fault, &path, json!({})).await), (422, expected));
    }
    let create = meet("authorize", "decline_soft", ORDERS, order("CAPTURE", "10.00")).await;
    assert_eq!(issue(&create), (422, "COMPLIANCE_VIOLATION"));
    let limited = meet("continue", "rate_limited", &path, json!({})).await;
    assert_eq!((limited.0, &limited.1["name"]), (429, &json!("RATE_LIMIT_REACHED")));
    let before = meet("continue", "error_before", &path, json!({})).await;
    assert_eq!((before.0, &before.1["name"]), (500, &json!("INTERNAL_SERVER_ERROR")));
    assert!(shop.stage.ledger(MAIN).await.is_empty());
    let (_, capture) = shop.finish("k", &path).await;
    let refund = format!("/v2/payments/captures/{capture}/refund");
    let poor = meet("refund", "decline_soft", &refund, json!({})).await;
    assert_eq!(issue(&poor), (422, "REFUND_FAILED_INSUFFICIENT_FUNDS"));
    let hold = shop.hold("h", "5.00").await;
    let own = format!("/v2/payments/authorizations/{hold}");
    let denied = meet("capture", "decline_soft", &format!("{own}/capture"), json!({})).await;
    assert_eq!(issue(&denied), (422, "AUTHORIZATION_DENIED"));
    let void = meet("void", "decline_soft", &format!("{own}/void"), NONE).await;
    assert_eq!(issue(&void), (422, "CANNOT_BE_VOIDED"));
    assert_eq!(shop.stage.ledger(MAIN).await.len(), 2, "one charge, one hold");
}

#[tokio::test]
async fn what_was_executed_is_found_by_its_request_id() {
    let shop = Shop::start().await;
    let faults = ["error_after", "charge_then_drop", "garbage", "bad_signature"];
    for (n, fault) in faults.into_iter().enumerate() {
        let (_, made) = shop.post(ORDERS, Some(fault), order("CAPTURE", "10.00")).await;
        shop.act(fault, "pay").await;
        let path = format!("{ORDERS}/{}/capture", made["id"].as_str().unwrap());
        shop.fault("continue", fault, 0).await;
        let request = shop.request("POST", &path, &[("PayPal-Request-Id", "c")], json!({}));
        match (fault, request.send().await) {
            ("charge_then_drop", answer) => assert!(answer.is_err()),
            ("error_after", answer) => assert_eq!(answer.unwrap().status(), 500),
            (_, answer) => {
                let answer = answer.unwrap();
                assert!(answer.status().is_success());
                let text = answer.text().await.unwrap();
                assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
            }
        }
        shop.stage.lift_all().await;
        assert_eq!(shop.stage.ledger(MAIN).await.len(), n + 1, "{fault}");
        let copy = shop.post(&path, Some("c"), json!({})).await;
        assert_eq!((copy.0, &copy.1["status"]), (200, &json!("COMPLETED")), "{fault}");
        assert_eq!(shop.stage.ledger(MAIN).await.len(), n + 1, "{fault}");
    }
}

#[tokio::test]
async fn a_copy_of_what_is_under_way_is_refused() {
    let shop = Arc::new(Shop::start().await);
    let (_, made) = shop.post(ORDERS, Some("k"), order("CAPTURE", "10.00")).await;
    shop.act("k", "pay").await;
    let order = made["id"].as_str().unwrap();
    let capture = format!("{ORDERS}/{order}/capture");
    let mut refund = String::new();
    for expected in ["ORDER_COMPLETION_IN_PROGRESS", "PREVIOUS_REQUEST_IN_PROGRESS"] {
        let first_time = refund.is_empty();
        let path = if first_time { capture.clone() } else { refund.clone() };
        shop.fault("*", "slow", 600).await;
        let slow = {
            let (shop, path) = (shop.clone(), path.clone());
            tokio::spawn(async move { shop.post(&path, Some("c"), json!({})).await })
        };
        shop.moved(if first_time { 1 } else { 2 }).await;
        shop.stage.lift_all().await;
        let status = if first_time { 422 } else { 409 };
        let copy = shop.post(&path, Some("c"), json!({})).await;
        assert_eq!(issue(&copy), (status, expected));
        assert_eq!(slow.await.unwrap().0, 201);
        assert_eq!(shop.post(&path, Some("c"), json!({})).await.0, 200, "it is over");
        let (_, shown) = shop.get(&format!("{ORDERS}/{order}")).await;
        let taken = &shown["purchase_units"][0]["payments"]["captures"][0]["id"];
        refund = format!("/v2/payments/captures/{}/refund", taken.as_str().unwrap());
    }
    assert_eq!(shop.stage.ledger(MAIN).await.len(), 2);
}

#[tokio::test]
async fn the_request_log_names_every_call() {
    let shop = Shop::start().await;
    let (_, capture) = shop.sale("k", "10.00").await;
    shop.post(&format!("/v2/payments/captures/{capture}/refund"), None, json!({})).await;
    let (_, requests) = shop.stage.control("GET", "/requests", NONE).await;
    let told = |r: &Value| {
        let text = |name: &str| r[name].as_str().unwrap().to_owned();
        (text("call"), text("operation"), r["op_id"].as_str().map(str::to_owned))
    };
    let told: Vec<_> = requests.as_array().unwrap().iter().map(told).collect();
    let expected = [
        ("token", "inquire", None),
        ("orders.create", "authorize", Some("k")),
        ("orders.capture", "continue", Some("k")),
        ("captures.refund", "refund", Some(capture.as_str())),
    ];
    let expected =
        expected.map(|(call, op, id)| (call.to_owned(), op.to_owned(), id.map(str::to_owned)));
    assert_eq!(told, expected);
    assert!(requests.as_array().unwrap().iter().all(|r| r["provider"] == "paypal"));
}

#[tokio::test]
async fn webhooks_are_signed_by_the_certificate_that_is_served() {
    let shop = Shop::start().await;
    let (id, capture) = shop.sale("k", "10.00").await;
    shop.post(&format!("/v2/payments/captures/{capture}/refund"), None, json!({})).await;
    let hold = shop.hold("h", "5.00").await;
    shop.post(&format!("/v2/payments/authorizations/{hold}/void"), None, NONE).await;
    let arrived = shop.stage.hook.wait(6).await;
    let mut kinds = Vec::new();
    for one in &arrived {
        assert!(shop.vouches(one).await, "{one:?}");
        let event: Value = serde_json::from_str(&one.body).unwrap();
        assert!(event["id"].as_str().unwrap().starts_with("WH-"));
        if event["event_type"].as_str().unwrap().starts_with("PAYMENT.CAPTURE.") {
            let related = &event["resource"]["supplementary_data"]["related_ids"];
            assert_eq!(related["order_id"], id);
        }
        kinds.push(event["event_type"].as_str().unwrap().to_owned());
    }
    kinds.sort_unstable();
    let expected = [
        "CHECKOUT.ORDER.APPROVED",
        "CHECKOUT.ORDER.APPROVED",
        "PAYMENT.AUTHORIZATION.CREATED",
        "PAYMENT.AUTHORIZATION.VOIDED",
        "PAYMENT.CAPTURE.COMPLETED",
        "PAYMENT.CAPTURE.REFUNDED",
    ];
    assert_eq!(kinds, expected);

    let mut forged = arrived[0].clone();
    forged.body = forged.body.replacen("CHECKOUT", "CHECKOUt", 1);
    assert!(!shop.vouches(&forged).await);
    let unknown = shop.url("/v1/notifications/certs/CERT-0");
    assert_eq!(shop.stage.client.get(unknown).send().await.unwrap().status(), 404);
    shop.fault("notify", "bad_signature", 0).await;
    shop.sale("l", "1.00").await;
    let spoiled = shop.stage.hook.wait(7).await;
    assert!(!shop.vouches(&spoiled[6]).await);
}

#[tokio::test]
async fn the_certificate_leads_to_the_authority_and_can_be_of_another_name() {
    let shop = Shop::start().await;
    shop.sale("k", "10.00").await;
    let arrived = &shop.stage.hook.wait(1).await[0];
    let chain = shop.chain_of(arrived).await;
    let ca = paypal::ca_pem(&keys().1.private_pem).unwrap();
    assert_eq!(chain.len(), 2);
    assert!(leads_to(&chain, &ca, CN));
    assert!(!leads_to(&chain, &ca, "paypal.example"));
    let other = paypal::ca_pem(&keys().0.private_pem).unwrap();
    assert!(!leads_to(&chain, &other, CN), "of another authority");

    let wrong = Shop::with("webhook_cn = \"certs.example\"").await;
    wrong.sale("k", "10.00").await;
    let chain = wrong.chain_of(&wrong.stage.hook.wait(1).await[0]).await;
    assert!(!leads_to(&chain, &ca, CN));
    assert!(leads_to(&chain, &ca, "certs.example"));
}

#[tokio::test]
async fn a_postback_is_judged_by_the_raw_event() {
    let shop = Shop::start().await;
    shop.sale("k", "10.00").await;
    let arrived = &shop.stage.hook.wait(1).await[0];
    let ask = async |webhook_id: &str, event: &str| {
        let header = |name: &str| json!(arrived.headers[name].to_str().unwrap());
        let members = json!({
            "auth_algo": header("paypal-auth-algo"),
            "cert_url": header("paypal-cert-url"),
            "transmission_id": header("paypal-transmission-id"),
            "transmission_sig": header("paypal-transmission-sig"),
            "transmission_time": header("paypal-transmission-time"),
            "webhook_id": webhook_id,
        });
        let mut body = members.to_string();
        body.truncate(body.len() - 1);
        let body = format!("{body},\"webhook_event\":{event}}}");
        let url = shop.url("/v1/notifications/verify-webhook-signature");
        let request = shop.stage.client.post(url).bearer_auth(&shop.token).body(body);
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["verification_status"].clone()
    };
    assert_eq!(ask(WEBHOOK_ID, &arrived.body).await, "SUCCESS");
    assert_eq!(ask("2WEBHOOK", &arrived.body).await, "FAILURE");
    let spaced = arrived.body.replacen(':', ": ", 1);
    assert_eq!(ask(WEBHOOK_ID, &spaced).await, "FAILURE", "the same JSON, other bytes");
}

#[tokio::test]
async fn the_report_lists_what_moved_the_balance() {
    let shop = Shop::with("magic_amounts = true\ndecide_ms = 0").await;
    let (id, capture) = shop.sale("k", "10.00").await;
    let part = json!({ "amount": euro("4.00") });
    let path = format!("/v2/payments/captures/{capture}/refund");
    let refund = shop.post(&path, Some("r"), part).await.1["id"].clone();
    let (_, pending) = shop.sale("p", "1.11").await;
    let (_, report) = shop.report("").await;
    assert_eq!((&report["total_items"], &report["total_pages"]), (&json!(2), &json!(1)));
    let known = |report: &Value| {
        let until = report["last_refreshed_datetime"].as_str().expect("how far it is");
        moment::parse_rfc3339(until).expect("a time")
    };
    assert!((0..60_000).contains(&(moment::now_ms() - known(&report))), "{report}");
    let rows = &report["transaction_details"];
    let taken = &rows[0]["transaction_info"];
    assert_eq!(taken["transaction_id"], json!(capture));
    assert_eq!(taken["transaction_event_code"], "T0006");
    assert_eq!(taken["transaction_amount"], euro("10.00"));
    assert_eq!(taken["fee_amount"], euro("-0.83"));
    assert_eq!(taken["transaction_status"], "S");
    assert_eq!(taken["invoice_id"], "inv-10.00");
    assert_eq!(taken["custom_field"], "custom-10.00");
    assert_eq!(taken["paypal_reference_id"], json!(id));
    let given = &rows[1]["transaction_info"];
    assert_eq!(
        (&given["transaction_id"], &given["paypal_reference_id"]),
        (&refund, &json!(capture))
    );
    assert_eq!(given["transaction_event_code"], "T1107");
    assert_eq!(given["transaction_amount"], euro("-4.00"));

    let (_, all) = shop.report("&balance_affecting_records_only=N").await;
    let last = &all["transaction_details"][2]["transaction_info"];
    assert_eq!(
        (&last["transaction_id"], &last["transaction_status"]),
        (&json!(pending), &json!("P"))
    );
    let (_, page) = shop.report("&page_size=1&page=2").await;
    assert_eq!((&page["total_items"], &page["total_pages"]), (&json!(2), &json!(2)));
    assert_eq!(page["transaction_details"][0]["transaction_info"]["transaction_id"], refund);
    let (_, one) = shop.report(&format!("&transaction_id={capture}")).await;
    assert_eq!(one["total_items"], 1);
    assert_eq!(shop.report("&page_size=501").await.0, 400);

    let range = "/v1/reporting/transactions?start_date=2024-01-01T00:00:00-0700&end_date=";
    let within = shop.get(&format!("{range}2024-02-01T00:00:00-0700")).await;
    assert_eq!((within.0, &within.1["total_items"]), (200, &json!(0)));
    let long = shop.get(&format!("{range}2024-02-01T00:00:01-0700")).await;
    assert_eq!((long.0, &long.1["name"]), (400, &json!("INVALID_REQUEST")));
    assert_eq!(shop.get("/v1/reporting/transactions").await.0, 400);

    let late = Shop::with("report_delay_ms = 600").await;
    late.sale("k", "10.00").await;
    let (_, early) = late.report("").await;
    assert_eq!(early["total_items"], 0, "not yet");
    assert!(moment::now_ms() - known(&early) >= 600, "{early}");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(late.report("").await.1["total_items"], 1);
}

#[tokio::test]
async fn the_settlement_report_of_the_day_is_a_file() {
    let shop = Shop::with("magic_amounts = true").await;
    let (_, capture) = shop.sale("k", "10.00").await;
    let part = json!({ "amount": euro("4.00") });
    shop.post(&format!("/v2/payments/captures/{capture}/refund"), Some("r"), part).await;
    shop.sale("p", "1.14").await;
    let taken = json!({ "account": MAIN, "act": "statement" });
    let (status, taken) = shop.stage.control("POST", "/portal", taken).await;
    assert_eq!(status, 200, "{taken}");
    let file = taken["file"].as_str().unwrap();
    let of = |kind: &str| {
        let begins = format!("\"{kind}\",");
        file.lines().filter(|line| line.trim_start_matches('\u{feff}').starts_with(&begins)).count()
    };
    let kinds = ["RH", "FH", "SH", "CH", "SB", "SF", "SC", "RF", "RC", "FF"];
    assert_eq!(
        kinds.map(of),
        [1, 1, 1, 1, 2, 1, 1, 1, 1, 1],
        "what is pending moved nothing: {file}"
    );
    let row = file.lines().find(|line| line.contains(&capture)).unwrap();
    assert!(row.contains(",\"CR\",1000,\"EUR\",\"DR\",83,\"EUR\","), "{row}");
    assert!(file.contains(",\"DR\",400,\"EUR\","), "{file}");
}

#[tokio::test]
async fn money_moves_at_the_portal_too() {
    let shop = Shop::start().await;
    let act = async |act: &str, more: Value| {
        let mut body = json!({ "account": MAIN, "act": act });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        shop.stage.control("POST", "/portal", body).await
    };
    let (status, charged) = act("charge", json!({ "amount": 700, "currency": "EUR" })).await;
    assert_eq!(status, 200, "{charged}");
    let stranger = charged["id"].as_str().unwrap();
    assert_eq!(shop.get(&format!("{ORDERS}/{stranger}")).await.1["status"], "COMPLETED");
    let (_, capture) = shop.sale("k", "10.00").await;
    let (_, refund) = act("refund", json!({ "op_id": capture, "amount": 250 })).await;
    let own = format!("/v2/payments/refunds/{}", refund["id"].as_str().unwrap());
    assert_eq!(shop.get(&own).await.1["amount"], euro("2.50"));
    let (_, dispute) = act("dispute", json!({ "op_id": "k" })).await;
    assert!(dispute["id"].as_str().unwrap().starts_with("PP-D-"));
    assert_eq!(act("reverse", json!({ "op_id": "k" })).await.0, 200);
    assert_eq!(act("reverse", json!({ "op_id": stranger })).await.0, 200);
    assert_eq!(act("reverse", json!({ "op_id": "k" })).await.0, 409, "nothing is left");
    assert_eq!(act("refund", json!({ "op_id": "none" })).await.0, 409);
    let expected =
        [("charge", 700), ("charge", 1000), ("refund", 250), ("reverse", 750), ("reverse", 700)];
    let ledger = shop.stage.ledger(MAIN).await;
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
    let (_, report) = shop.report("").await;
    let rows = report["transaction_details"].as_array().unwrap();
    let codes: Vec<&Value> =
        rows.iter().map(|row| &row["transaction_info"]["transaction_event_code"]).collect();
    assert_eq!(codes, ["T0006", "T0006", "T1107", "T1201", "T1106"]);
    assert_eq!(rows[0]["transaction_info"]["transaction_status"], "V");

    let arrived = shop.stage.hook.wait(7).await;
    let told = |kind: &str| arrived.iter().filter(|a| a.body.contains(kind)).count();
    assert_eq!(told("\"PAYMENT.CAPTURE.REVERSED\""), 2);
    assert_eq!(told("\"CUSTOMER.DISPUTE.CREATED\""), 1);
    assert_eq!(told("\"PAYMENT.CAPTURE.REFUNDED\""), 1);
    assert_eq!(told("\"PAYMENT.CAPTURE.COMPLETED\""), 2);
    assert_eq!(told("\"CHECKOUT.ORDER.APPROVED\""), 1);

    let cards = Stage::start().await;
    let body = json!({ "account": "checkout-main", "act": "reverse", "op_id": "k" });
    assert_eq!(cards.control("POST", "/portal", body).await.0, 409);
}

fn keys() -> &'static (FreshPair, FreshPair) {
    static KEYS: OnceLock<(FreshPair, FreshPair)> = OnceLock::new();
    KEYS.get_or_init(|| (fresh_pair().unwrap(), fresh_pair().unwrap()))
}

fn euro(value: &str) -> Value {
    json!({ "currency_code": "EUR", "value": value })
}

fn order(intent: &str, value: &str) -> Value {
    let (custom, invoice) = (format!("custom-{value}"), format!("inv-{value}"));
    let unit = json!({ "amount": euro(value), "custom_id": custom, "invoice_id": invoice });
    json!({ "intent": intent, "purchase_units": [unit] })
}

fn issue((status, body): &(u16, Value)) -> (u16, &str) {
    (*status, body["details"][0]["issue"].as_str().unwrap_or_default())
}

fn href<'a>(body: &'a Value, rel: &str) -> &'a str {
    let links = body["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["rel"] == rel);
    link.unwrap_or_else(|| panic!("no {rel}: {body}"))["href"].as_str().unwrap()
}

/// Whether the first certificate is `name`'s and was issued by the authority `ca`.
fn leads_to(chain: &[CertificateDer<'_>], ca: &str, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let judge = judge.build().unwrap();
    judge.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).is_ok()
}

/// The RSA-2048 key in a certificate.
fn key_in(certificate: &[u8]) -> Verifier {
    let head = hex::decode("30820122300d06092a864886f70d01010105000382010f00").unwrap();
    let at = certificate.windows(head.len()).position(|window| window == head).unwrap();
    Verifier::read(&STANDARD.encode(&certificate[at..at + 294])).unwrap()
}

/// A sandbox with one PayPal account, and a merchant with a token.
struct Shop {
    stage: Stage,
    token: String,
}

impl Shop {
    async fn start() -> Self {
        Self::with("").await
    }

    /// `more` are more lines for the account.
    async fn with(more: &str) -> Self {
        let hook = Hook::start().await;
        let text = format!(
            "[control]\nlisten = \"127.0.0.1:0\"\n[accounts.{MAIN}]\nprovider = \"paypal\"\n\
             listen = \"127.0.0.1:0\"\nclient_id = \"client\"\nclient_secret = \"secret\"\n\
             webhook_id = \"{WEBHOOK_ID}\"\nwebhook_private_key = '''{}'''\n\
             webhook_ca_private_key = '''{}'''\nnotify_url = \"{}\"\nnotify_delay_ms = 0\n\
             notify_retry_ms = 5\n{more}\n",
            keys().0.private_pem,
            keys().1.private_pem,
            hook.url(),
        );
        let sandbox = Sandbox::start(Config::parse(&text, Path::new(".")).unwrap()).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let stage = Stage { sandbox, client, hook };
        let url = format!("http://{}/v1/oauth2/token", stage.address(MAIN));
        let asking = stage.client.post(url).basic_auth("client", Some("secret"));
        let given = asking.body("grant_type=client_credentials").send().await.unwrap();
        let given: Value = given.json().await.unwrap();
        Self { stage, token: given["access_token"].as_str().unwrap().to_owned() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.stage.address(MAIN))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.stage.client.request(method, self.url(path));
        request = request.bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_null() { request } else { request.json(&body) }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (u16, Value) {
        let response = self.request(method, path, headers, body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, &[], NONE).await
    }

    async fn post(&self, path: &str, key: Option<&str>, body: Value) -> (u16, Value) {
        let headers: Vec<_> = key.map(|key| ("PayPal-Request-Id", key)).into_iter().collect();
        self.send("POST", path, &headers, body).await
    }

    /// As `post`; the answer is to be the whole.
    async fn whole(&self, path: &str, key: Option<&str>, body: Value) -> (u16, Value) {
        let mut headers: Vec<_> = key.map(|key| ("PayPal-Request-Id", key)).into_iter().collect();
        headers.push(("Prefer", "return=representation"));
        self.send("POST", path, &headers, body).await
    }

    async fn act(&self, op_id: &str, act: &str) -> (u16, Value) {
        self.stage.act(json!({ "account": MAIN, "op_id": op_id, "act": act })).await
    }

    async fn fault(&self, operation: &str, fault: &str, ms: u64) {
        let order = json!({ "account": MAIN, "operation": operation, "fault": fault, "ms": ms });
        self.stage.fault(order).await;
    }

    /// An order that is approved and captured: its id and the capture's.
    async fn sale(&self, key: &str, value: &str) -> (String, String) {
        let (_, made) = self.post(ORDERS, Some(key), order("CAPTURE", value)).await;
        self.act(key, "pay").await;
        let path = format!("{ORDERS}/{}/capture", made["id"].as_str().unwrap());
        self.finish(key, &path).await
    }

    async fn finish(&self, key: &str, path: &str) -> (String, String) {
        let (status, taken) = self.whole(path, Some(key), json!({})).await;
        assert_eq!(status, 201, "{taken}");
        let capture = &taken["purchase_units"][0]["payments"]["captures"][0]["id"];
        (taken["id"].as_str().unwrap().to_owned(), capture.as_str().unwrap().to_owned())
    }

    /// The id of a new authorization.
    async fn hold(&self, key: &str, value: &str) -> String {
        let (_, made) = self.post(ORDERS, Some(key), order("AUTHORIZE", value)).await;
        self.act(key, "pay").await;
        let path = format!("{ORDERS}/{}/authorize", made["id"].as_str().unwrap());
        let (status, held) = self.whole(&path, Some(key), json!({})).await;
        assert_eq!(status, 201, "{held}");
        let hold = &held["purchase_units"][0]["payments"]["authorizations"][0]["id"];
        hold.as_str().unwrap().to_owned()
    }

    async fn charged(&self, order: &str) -> bool {
        let (_, movements) = self.stage.control("GET", "/ledger", NONE).await;
        movements.as_array().unwrap().iter().any(|m| m["provider_ref"] == order)
    }

    /// Waits until `count` movements are in the ledger.
    async fn moved(&self, count: usize) {
        for _ in 0..400 {
            if self.stage.ledger(MAIN).await.len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("less than {count} movements");
    }

    /// The report of the last hour; `more` are more parameters.
    async fn report(&self, more: &str) -> (u16, Value) {
        let now = moment::now_ms();
        let (from, until) = (moment::rfc3339(now - 3_600_000), moment::rfc3339(now + 1_000));
        let path = "/v1/reporting/transactions";
        self.get(&format!("{path}?start_date={from}&end_date={until}{more}")).await
    }

    async fn chain_of(&self, arrived: &Arrived) -> Vec<CertificateDer<'static>> {
        let url = arrived.headers["paypal-cert-url"].to_str().unwrap();
        let path = url.strip_prefix("https://api.sandbox.paypal.com").unwrap();
        // Nobody needs a token to fetch it.
        let served = self.stage.client.get(self.url(path)).send().await.unwrap();
        let served = served.text().await.unwrap();
        CertificateDer::pem_slice_iter(served.as_bytes()).map(|der| der.unwrap()).collect()
    }

    /// Whether the served certificate's key made the signature over what arrived.
    async fn vouches(&self, arrived: &Arrived) -> bool {
        let header = |name: &str| arrived.headers[name].to_str().unwrap();
        assert_eq!(header("paypal-auth-algo"), "SHA256withRSA");
        let (id, time) = (header("paypal-transmission-id"), header("paypal-transmission-time"));
        let sum = crc32fast::hash(arrived.body.as_bytes());
        let content = format!("{id}|{time}|{WEBHOOK_ID}|{sum}");
        let chain = self.chain_of(arrived).await;
        key_in(&chain[0]).verifies(content.as_bytes(), header("paypal-transmission-sig"))
    }
}
