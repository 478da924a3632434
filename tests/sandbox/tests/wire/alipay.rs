//! Alipay's v1 gateway: signatures, the life of a number, and the shopper with a QR code.

mod bills;

use serde_json::{Value, json};

use crate::stage::{Stage, alipay_request, barcode, verified};

#[tokio::test]
async fn a_barcode_is_paid_queried_refunded_in_parts_and_cancelled() {
    let stage = Stage::start().await;
    let a = "alipay-main";
    let paid = stage.barcode(a, "n1", "280000000000000001").await;
    assert_eq!((&paid["code"], &paid["total_amount"]), (&json!("10000"), &json!("12.34")));
    let again = stage.barcode(a, "n1", "280000000000000099").await;
    assert_eq!(paid["trade_no"], again["trade_no"]);

    let name = json!({ "out_trade_no": "n1" });
    let query = stage.alipay(a, "alipay.trade.query", name.clone()).await;
    assert_eq!(query["trade_status"], "TRADE_SUCCESS");

    let refund = json!({
        "out_trade_no": "n1", "refund_amount": "2.34", "out_request_no": "r1",
    });
    let first = stage.alipay(a, "alipay.trade.refund", refund.clone()).await;
    let second = stage.alipay(a, "alipay.trade.refund", refund).await;
    assert_eq!((&first["fund_change"], &second["fund_change"]), (&json!("Y"), &json!("N")));
    assert_eq!(second["refund_fee"], "2.34");
    let other = json!({
        "out_trade_no": "n1", "refund_amount": "2.35", "out_request_no": "r1",
    });
    let other = stage.alipay(a, "alipay.trade.refund", other).await;
    assert_eq!(other["sub_code"], "ACQ.DISCORDANT_REPEAT_REQUEST");
    let asked = json!({ "out_trade_no": "n1", "out_request_no": "r1" });
    let asked = stage.alipay(a, "alipay.trade.fastpay.refund.query", asked).await;
    assert_eq!(
        (&asked["refund_status"], &asked["refund_amount"]),
        (&json!("REFUND_SUCCESS"), &json!("2.34"))
    );

    let cancel = stage.alipay(a, "alipay.trade.cancel", name.clone()).await;
    assert_eq!((&cancel["action"], &cancel["retry_flag"]), (&json!("refund"), &json!("N")));
    let query = stage.alipay(a, "alipay.trade.query", name).await;
    assert_eq!(query["trade_status"], "TRADE_CLOSED");
    let ledger = stage.ledger(a).await;
    let expected = [("charge", 1234), ("refund", 234), ("reverse", 1000)];
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));

    let (_, movements) = stage.control("GET", "/ledger?since=1", Value::Null).await;
    assert_eq!((&movements[0]["op_id"], &movements[0]["seq"]), (&json!("r1"), &json!(2)));
    assert_eq!(movements[0]["provider_ref"], paid["trade_no"]);
    assert_eq!(movements[0]["currency"], "CNY");
    let (_, net) = stage.control("GET", "/net", Value::Null).await;
    assert_eq!((&net[0]["reference"], &net[0]["net"]), (&json!("n1"), &json!(0)));
}

#[tokio::test]
async fn altered_unsigned_and_foreign_requests_are_refused_and_move_nothing() {
    let stage = Stage::start().await;
    let url = format!("http://{}/gateway.do", stage.address("alipay-main"));
    let content = barcode("n1", "280000000000000001");
    let (query, body) = alipay_request("alipay.trade.pay", &content, "");
    let send = async |query: String, body: String| {
        let form = "application/x-www-form-urlencoded";
        let request = stage.client.post(format!("{url}?{query}")).header("content-type", form);
        request.body(body).send().await.unwrap().text().await.unwrap()
    };
    let altered = send(query.clone(), body.replace("12.34", "12.35")).await;
    let node = verified(&altered).expect("the refusal itself is signed");
    assert_eq!(
        (&node["code"], &node["sub_code"]),
        (&json!("40002"), &json!("isv.invalid-signature"))
    );
    let foreign = send(query.replace("2021000000000001", "2021000000000009"), body.clone()).await;
    let foreign: Value = serde_json::from_str(&foreign).unwrap();
    assert_eq!(foreign["error_response"]["sub_code"], "isv.invalid-app-id");
    let unsigned = query.split('&').filter(|pair| !pair.starts_with("sign=")).collect::<Vec<_>>();
    let unsigned = verified(&send(unsigned.join("&"), body.clone()).await).unwrap();
    assert_eq!(unsigned["sub_code"], "isv.missing-signature");
    assert!(stage.ledger("alipay-main").await.is_empty());

    let all = format!("{query}&{body}");
    let got = stage.client.get(format!("{url}?{all}")).send().await.unwrap().text().await.unwrap();
    assert_eq!(verified(&got).unwrap()["code"], "10000", "GET carries everything in the query");
    let form = send(String::new(), all).await;
    assert_eq!(verified(&form).unwrap()["code"], "10000", "and so may the body");
}

#[tokio::test]
async fn barcodes_decline_wait_or_leave_doubt_by_their_last_digits() {
    let stage = Stage::with("approve_ms = 0", "").await;
    let a = "alipay-main";
    let sub_code = async |number: &str, code: &str| {
        stage.barcode(a, number, code).await["sub_code"].as_str().unwrap().to_owned()
    };
    assert_eq!(sub_code("n3", "280000000000000003").await, "ACQ.BUYER_BALANCE_NOT_ENOUGH");
    assert_eq!(sub_code("n4", "280000000000000004").await, "ACQ.PAYMENT_REQUEST_HAS_RISK");
    assert_eq!(sub_code("n5", "280000000000000005").await, "ACQ.PAYMENT_AUTH_CODE_INVALID");
    assert!(stage.ledger(a).await.is_empty());

    let doubt = stage.barcode(a, "n6", "280000000000000006").await;
    assert_eq!(doubt["code"], "20000");
    assert_eq!(stage.ledger(a).await.len(), 1, "answered unknown, and paid");
    let after = stage.barcode(a, "n6", "280000000000000006").await;
    assert_eq!(after["code"], "10000");

    let waits = stage.barcode(a, "n2", "280000000000000002").await;
    assert_eq!(waits["code"], "10003");
    let act = async |act: &str| stage.act(json!({ "account": a, "op_id": "n2", "act": act })).await;
    assert_eq!(act("pay").await.0, 200);
    let (status, why) = act("pay").await;
    assert_eq!((status, &why["error"]), (409, &json!("the trade is already paid")));
    assert_eq!(stage.ledger(a).await.len(), 2);
}

#[tokio::test]
async fn a_pending_barcode_is_approved_by_itself() {
    let stage = Stage::with("approve_ms = 5", "").await;
    stage.barcode("alipay-main", "n", "280000000000000002").await;
    stage.hook.wait(1).await;
    assert_eq!(stage.ledger("alipay-main").await, [("charge".to_owned(), 1234)]);
}

#[tokio::test]
async fn a_qr_is_an_offer_until_the_shopper_scans_it() {
    let stage = Stage::start().await;
    let a = "alipay-main";
    let order = json!({ "out_trade_no": "n", "total_amount": "0.01", "subject": "x" });
    let raw = stage.alipay_raw(a, "alipay.trade.precreate", order.clone()).await;
    assert!(raw.contains("https:\\/\\/qr.alipay.com\\/"), "{raw}");
    let qr = verified(&raw).unwrap()["qr_code"].as_str().unwrap().to_owned();
    let name = json!({ "out_trade_no": "n" });
    let none = stage.alipay(a, "alipay.trade.close", name.clone()).await;
    assert_eq!(none["sub_code"], "ACQ.TRADE_NOT_EXIST");

    let act = async |act: &str| stage.act(json!({ "account": a, "qr_code": qr, "act": act })).await;
    assert_eq!(act("abandon").await.1["status"], Value::Null);
    assert_eq!(act("scan").await.1["status"], "WAIT_BUYER_PAY");
    let query = stage.alipay(a, "alipay.trade.query", name.clone()).await;
    assert_eq!(query["trade_status"], "WAIT_BUYER_PAY");
    assert_eq!(act("pay").await.1["status"], "TRADE_SUCCESS");
    let paid = stage.alipay(a, "alipay.trade.close", name).await;
    assert_eq!(paid["sub_code"], "ACQ.TRADE_STATUS_ERROR");
    assert_eq!(stage.ledger(a).await, [("charge".to_owned(), 1)]);
}

#[tokio::test]
async fn a_dead_qr_and_a_tombstone_refuse_the_shopper() {
    let order = json!({ "out_trade_no": "n", "total_amount": "0.01", "subject": "x" });
    let pay = json!({ "account": "alipay-main", "op_id": "n", "act": "pay" });
    let dead = Stage::with("qr_expiry_ms = 0", "").await;
    dead.alipay("alipay-main", "alipay.trade.precreate", order.clone()).await;
    let (status, why) = dead.act(pay.clone()).await;
    assert_eq!((status, &why["error"]), (409, &json!("the QR code has expired")));

    let grave = Stage::with("tombstone = true", "").await;
    grave.alipay("alipay-main", "alipay.trade.precreate", order).await;
    let name = json!({ "out_trade_no": "n" });
    let cancel = grave.alipay("alipay-main", "alipay.trade.cancel", name).await;
    assert_eq!((&cancel["code"], &cancel["action"]), (&json!("10000"), &Value::Null));
    assert_eq!(grave.act(pay).await.0, 409);
    assert!(grave.ledger("alipay-main").await.is_empty());
}

#[test]
fn the_published_vector_of_a_signed_answer_is_verified() {
    use interlock_sandbox::keys::Verifier;
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/alipay_v1_response.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        return;
    };
    let vector: Value = serde_json::from_str(&text).unwrap();
    let text = |name: &str| vector[name].as_str().unwrap();
    let bare: String =
        text("alipay_public_key_pem").lines().filter(|l| !l.contains("--")).collect();
    let key = Verifier::read(&bare).unwrap();
    assert!(key.verifies(text("signed_content").as_bytes(), text("sign")));
    assert!(!key.verifies(text("signed_content").replace("100", "101").as_bytes(), text("sign")));
}
