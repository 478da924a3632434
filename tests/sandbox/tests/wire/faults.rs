//! Every fault as a client sees it on its socket, and what the ledger says that it did.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{Stage, barcode, card, outcome, raw_barcode, raw_card, verified};

const ALIPAY: &str = "alipay-main";
const CHECKOUT: &str = "checkout-main";

#[tokio::test]
async fn refuse_closes_the_listener_resets_what_is_open_and_ends_by_itself() {
    let stage = Stage::start().await;
    let idle = stage.raw(ALIPAY, b"GET /gateway.do HTTP/1.1\r\n").await;
    // The connection must be in the door's hands before the door closes.
    stage.barcode(ALIPAY, "before", "280000000000000001").await;
    stage.fault(order(ALIPAY, "*", "refuse", json!({ "for_ms": 300 }))).await;
    let refused = TcpStream::connect(stage.address(ALIPAY)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(outcome(idle).await.1, "the open connection is reset");
    assert!(TcpStream::connect(stage.address("alipay-backup")).await.is_ok());
    let begun = Instant::now();
    while TcpStream::connect(stage.address(ALIPAY)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it never opened again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (bytes, _) = talk(&stage, ALIPAY, &raw_barcode("after")).await;
    assert!(bytes.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn refuse_is_lifted_and_begins_after_a_count_of_its_operation() {
    let stage = Stage::start().await;
    stage.fault(order(ALIPAY, "authorize", "refuse", json!({ "after_n": 2 }))).await;
    for n in 0..2 {
        let (bytes, reset) = talk(&stage, ALIPAY, &raw_barcode(&format!("n{n}"))).await;
        assert!(bytes.starts_with(b"HTTP/1.1 200") && !reset);
    }
    let begun = Instant::now();
    while TcpStream::connect(stage.address(ALIPAY)).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it never closed");
    }
    assert_eq!(stage.ledger(ALIPAY).await.len(), 2);
    stage.lift_all().await;
    assert!(TcpStream::connect(stage.address(ALIPAY)).await.is_ok(), "open as soon as lifted");
}

#[tokio::test]
async fn a_partial_refusal_resets_new_connections_unread() {
    let stage = Stage::start().await;
    stage.fault(order(ALIPAY, "*", "refuse", json!({ "probability": 0.5 }))).await;
    let mut resets = 0;
    for n in 0..40 {
        let mut stream = TcpStream::connect(stage.address(ALIPAY)).await.unwrap();
        let _ = stream.write_all(&close_after(&raw_barcode(&format!("n{n}")))).await;
        let mut bytes = Vec::new();
        resets += usize::from(stream.read_to_end(&mut bytes).await.is_err() || bytes.is_empty());
    }
    assert!((5..=35).contains(&resets), "{resets} of 40");
    assert_eq!(stage.ledger(ALIPAY).await.len(), 40 - resets);
}

#[tokio::test]
async fn reset_after_read_is_an_rst_and_moves_nothing() {
    let stage = Stage::start().await;
    stage.fault(order("*", "authorize", "reset_after_read", json!({}))).await;
    for (account, bytes) in [(ALIPAY, raw_barcode("n")), (CHECKOUT, raw_card("k", &card("c")))] {
        let stream = stage.raw(account, &bytes).await;
        assert_eq!(outcome(stream).await, (vec![], true), "{account}");
        assert!(stage.ledger(account).await.is_empty());
        let path = format!("/requests?account={account}");
        let (_, requests) = stage.control("GET", &path, Value::Null).await;
        assert_eq!(requests[0]["answered"], Value::Null);
        assert!(requests[0]["fault"].as_str().unwrap().starts_with("flt_"));
    }
}

#[tokio::test]
async fn charge_then_drop_is_an_rst_after_the_money_moved() {
    let stage = Stage::start().await;
    stage.fault(order("*", "*", "charge_then_drop", json!({}))).await;
    for (account, bytes) in [(ALIPAY, raw_barcode("n")), (CHECKOUT, raw_card("k", &card("c")))] {
        let stream = stage.raw(account, &bytes).await;
        assert_eq!(outcome(stream).await, (vec![], true), "{account}");
        assert_eq!(stage.ledger(account).await.len(), 1);
    }
    stage.lift_all().await;
    let replay = stage.pay(CHECKOUT, "k", card("c")).await;
    assert_eq!((replay.0, &replay.1["status"]), (201, &json!("Authorized")), "the key was kept");
    assert_eq!(stage.ledger(CHECKOUT).await.len(), 1);
}

#[tokio::test]
async fn hang_answers_nothing_until_it_ends_and_moves_nothing() {
    let stage = Stage::start().await;
    let id = stage.fault(order(ALIPAY, "authorize", "hang", json!({}))).await;
    let mut stream = stage.raw(ALIPAY, &raw_barcode("n")).await;
    let read = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
    assert!(read.is_err(), "not a byte, not an end");
    let query = json!({ "out_trade_no": "n" });
    let query = stage.alipay(ALIPAY, "alipay.trade.query", query).await;
    assert_eq!(query["sub_code"], "ACQ.TRADE_NOT_EXIST", "other operations go on");
    let (status, _) = stage.control("DELETE", &format!("/faults/{id}"), Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(outcome(stream).await, (vec![], true));
    assert!(stage.ledger(ALIPAY).await.is_empty());
    let gone = stage.control("DELETE", &format!("/faults/{id}"), Value::Null).await;
    assert_eq!(gone.0, 404);
}

#[tokio::test]
async fn slow_moves_the_money_at_once_even_when_the_client_leaves() {
    let stage = Stage::start().await;
    stage.fault(order(CHECKOUT, "authorize", "slow", json!({ "ms": 400 }))).await;
    let begun = Instant::now();
    let stream = stage.raw(CHECKOUT, &raw_card("k", &card("c"))).await;
    while stage.ledger(CHECKOUT).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_millis(390), "it waited with the money");
    }
    drop(stream);
    stage.lift_all().await;
    assert_eq!(stage.pay(CHECKOUT, "k", card("c")).await.0, 409, "the first copy still runs");
    while begun.elapsed() < Duration::from_millis(450) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stage.pay(CHECKOUT, "k", card("c")).await.0, 201);
    assert_eq!(stage.ledger(CHECKOUT).await.len(), 1);
}

#[tokio::test]
async fn errors_come_before_or_after_the_money() {
    let stage = Stage::start().await;
    let pay = async |key: &str, cryptogram: &str| stage.pay(CHECKOUT, key, card(cryptogram)).await;
    stage.fault(order("*", "authorize", "error_before", json!({}))).await;
    assert_eq!(pay("k", "c1").await.0, 500);
    let (bytes, _) = talk(&stage, ALIPAY, &raw_barcode("n")).await;
    assert!(bytes.starts_with(b"HTTP/1.1 502") && bytes.ends_with(b"</html>"));
    assert!(stage.ledger(CHECKOUT).await.is_empty() && stage.ledger(ALIPAY).await.is_empty());
    stage.lift_all().await;
    stage.fault(order("*", "authorize", "error_after", json!({}))).await;
    assert_eq!(pay("k", "c1").await.0, 500);
    let (bytes, _) = talk(&stage, ALIPAY, &raw_barcode("n")).await;
    assert!(bytes.starts_with(b"HTTP/1.1 502"));
    assert_eq!(stage.ledger(ALIPAY).await.len(), 1);
    stage.lift_all().await;
    assert_eq!(pay("k", "c2").await.0, 201);
    assert_eq!(stage.ledger(CHECKOUT).await.len(), 2, "after a 5xx the key executes again");
    stage.barcode(ALIPAY, "n", "280000000000000001").await;
    assert_eq!(stage.ledger(ALIPAY).await.len(), 1, "Alipay's number does not");
}

#[tokio::test]
async fn garbage_and_bad_signatures_cannot_be_read_but_were_executed() {
    let stage = Stage::start().await;
    for (n, fault) in ["garbage", "bad_signature"].into_iter().enumerate() {
        stage.fault(order("*", "authorize", fault, json!({}))).await;
        let number = format!("n{n}");
        let content = barcode(&number, "280000000000000001");
        let answer = stage.alipay_raw(ALIPAY, "alipay.trade.pay", content).await;
        assert_eq!(verified(&answer), None, "{fault}");
        let readable = serde_json::from_str::<Value>(&answer).is_ok();
        assert_eq!(readable, fault == "bad_signature");
        let (status, body) = stage.pay(CHECKOUT, &number, card(&number)).await;
        assert!(body.is_string(), "not JSON: {body}");
        assert_eq!(status, if fault == "garbage" { 200 } else { 201 });
        stage.lift_all().await;
        assert_eq!(stage.ledger(ALIPAY).await.len(), n + 1);
        assert_eq!(stage.ledger(CHECKOUT).await.len(), n + 1);
    }
}

#[tokio::test]
async fn declines_and_limits_move_nothing() {
    let stage = Stage::start().await;
    for (fault, sub_code, code, steps) in [
        ("decline_soft", "ACQ.PAYMENT_FAIL", "20005", 202),
        ("decline_hard", "ACQ.PAYMENT_REQUEST_HAS_RISK", "20059", 403),
    ] {
        let held = json!({ "capture": false });
        let body = merge(card(&format!("{fault}-held")), held);
        let id = stage.pay("checkout-backup", fault, body).await.1["id"].clone();
        let before = stage.ledger("checkout-backup").await.len();
        stage.fault(order("*", "*", fault, json!({}))).await;
        let answer = stage.barcode(ALIPAY, "n", "280000000000000001").await;
        assert_eq!((&answer["code"], &answer["sub_code"]), (&json!("40004"), &json!(sub_code)));
        let (status, answer) = stage.pay(CHECKOUT, fault, card(fault)).await;
        assert_eq!((status, &answer["response_code"]), (201, &json!(code)));
        let path = format!("/payments/{}/captures", id.as_str().unwrap());
        let step = stage.checkout("checkout-backup", ("POST", &path), None, json!({})).await;
        assert_eq!(step.0, steps);
        stage.lift_all().await;
        assert_eq!(stage.ledger("checkout-backup").await.len(), before);
    }
    stage.fault(order("*", "*", "rate_limited", json!({}))).await;
    let answer = stage.barcode(ALIPAY, "n", "280000000000000001").await;
    assert_eq!(
        (&answer["code"], &answer["sub_code"]),
        (&json!("40005"), &json!("isv.app-call-limited"))
    );
    assert_eq!(stage.pay(CHECKOUT, "limited", card("limited")).await.0, 429);
    assert!(stage.ledger(ALIPAY).await.is_empty() && stage.ledger(CHECKOUT).await.is_empty());
}

#[tokio::test]
async fn orders_without_sense_get_a_clear_400() {
    let stage = Stage::start().await;
    for (wrong, said) in [
        (order("nobody", "*", "hang", json!({})), "no such account: nobody"),
        (order(ALIPAY, "pay", "hang", json!({})), "unknown variant `pay`"),
        (order(ALIPAY, "*", "explode", json!({})), "unknown variant `explode`"),
        (order(ALIPAY, "*", "hang", json!({ "chance": 1 })), "unknown field `chance`"),
        (order(ALIPAY, "notify", "hang", json!({})), "operation notify knows"),
    ] {
        let (status, answer) = stage.control("POST", "/faults", wrong).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains(said), "{answer}");
    }
    assert_eq!(stage.control("GET", "/faults", Value::Null).await.1, json!([]));
    assert_eq!(stage.control("GET", "/ledger?account=nobody", Value::Null).await.0, 400);
    assert_eq!(stage.control("GET", "/healthz", Value::Null).await.1["ok"], true);
}

#[tokio::test]
async fn a_reset_forgets_money_requests_faults_and_numbers() {
    let stage = Stage::start().await;
    stage.barcode(ALIPAY, "n", "280000000000000001").await;
    stage.pay(CHECKOUT, "k", card("c")).await;
    stage.fault(order("*", "*", "refuse", json!({}))).await;
    assert_eq!(stage.control("POST", "/reset", Value::Null).await.0, 200);
    for path in ["/ledger", "/requests", "/faults"] {
        assert_eq!(stage.control("GET", path, Value::Null).await.1, json!([]), "{path}");
    }
    let query = json!({ "out_trade_no": "n" });
    let query = stage.alipay(ALIPAY, "alipay.trade.query", query).await;
    assert_eq!(query["sub_code"], "ACQ.TRADE_NOT_EXIST");
    let again = stage.pay(CHECKOUT, "k", card("c")).await;
    assert_eq!(again.1["response_code"], "10000", "the cryptogram is fresh again");
}

#[tokio::test]
async fn no_secret_reaches_the_request_log() {
    let stage = Stage::start().await;
    stage.barcode(ALIPAY, "n", "281234567890123401").await;
    stage.pay(CHECKOUT, "k", card("cryptogram-x")).await;
    let (_, requests) = stage.control("GET", "/requests", Value::Null).await;
    let text = requests.to_string();
    assert_eq!(requests[0]["call"], "alipay.trade.pay");
    for secret in ["281234567890123401", "cryptogram-x\"", "4900000000001111", "sk_sbox", "sign"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn order(account: &str, operation: &str, fault: &str, more: Value) -> Value {
    merge(json!({ "account": account, "operation": operation, "fault": fault }), more)
}

fn merge(mut one: Value, other: Value) -> Value {
    for (name, value) in other.as_object().unwrap() {
        one[name] = value.clone();
    }
    one
}

async fn talk(stage: &Stage, account: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    outcome(stage.raw(account, &close_after(bytes)).await).await
}

fn close_after(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.replacen("host: x\r\n", "host: x\r\nconnection: close\r\n", 1).into_bytes()
}
