//! What must stay in doubt: answers that were altered, unsigned, broken, or that never came.

use std::path::Path;

use alipay::Alipay;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Class, Event, FaultKind, Operation, Provider, TransportLoss, What};
use serde_json::{Value, json};

use crate::peer::{self, answered, is_definite, operations, payment, sealed, sign};

const PAY: &str = "alipay.trade.pay";
const PAID: &str = concat!(
    r#"{"code":"10000","msg":"Success","out_trade_no":"op1234567890","trade_no":"1","#,
    r#""total_amount":"88.88"}"#
);
const DECLINED: &str = r#"{"code":"40004","sub_code":"ACQ.PAYMENT_FAIL"}"#;

fn pay(body: &[u8]) -> What {
    answered(Operation::Authorize, payment("barcode"), 200, body).what
}

#[test]
fn an_answer_that_was_altered_anywhere_is_not_believed() {
    let good = sealed(PAY, PAID).into_bytes();
    assert_eq!(pay(&good), What::Captured);
    for at in 0..good.len() {
        for flip in [1, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            assert_eq!(pay(&bad), What::Unknown, "{}", String::from_utf8_lossy(&bad));
        }
    }
    for cut in 0..good.len() {
        assert_eq!(pay(&good[..cut]), What::Unknown);
    }
}

#[test]
fn an_unsigned_or_wrongly_signed_refusal_declines_nothing() {
    let node = DECLINED;
    let signed = |key: &str| {
        let sign = sign(key, node.as_bytes());
        format!(r#"{{"alipay_trade_pay_response":{node},"sign":"{sign}"}}"#)
    };
    assert_eq!(pay(signed("alipay").as_bytes()), What::Declined);
    let theirs =
        answered(Operation::Authorize, payment("barcode"), 200, signed("stranger").as_bytes());
    assert_eq!(theirs.what, What::Unknown);
    assert_eq!(theirs.provider_code.as_deref(), Some("unverified:ACQ.PAYMENT_FAIL"));
    let sign = sign("alipay", node.as_bytes());
    for body in [
        format!(r#"{{"alipay_trade_pay_response":{node}}}"#),
        format!(r#"{{"alipay_trade_pay_response":{node},"sign":""}}"#),
        format!(r#"{{"alipay_trade_pay_response":{node},"sign":null}}"#),
        format!(r#"{{"alipay_trade_pay_response":{node},"sign":["{sign}"]}}"#),
        format!(r#"{{"error_response":{node},"sign":"{sign}"}}"#),
        format!(r#"{{"alipay_trade_query_response":{node},"sign":"{sign}"}}"#),
        format!(r#"{{"alipay_trade_pay_response":{node},"sign":"{sign}"}} x"#),
    ] {
        assert_eq!(pay(body.as_bytes()), What::Unknown, "{body}");
    }
}

#[test]
fn the_gates_own_complaint_is_shown_to_the_operator_and_not_believed() {
    let body = br#"{"error_response":{"code":"40002","sub_code":"isv.invalid-app-id"}}"#;
    let fact = answered(Operation::Authorize, payment("barcode"), 200, body);
    assert_eq!(fact.what, What::Unknown);
    assert_eq!(fact.provider_code.as_deref(), Some("unverified:40002:isv.invalid-app-id"));
}

#[test]
fn the_exact_text_of_the_node_is_what_is_verified() {
    let node = r#"{ "code" : "10000","url":"https:\/\/x\/\u8336", "sign":"inner",
        "total_amount":"88.88","out_trade_no":"op1234567890",
        "nested":{"alipay_trade_pay_response":{"sign":"x"}} }"#;
    let sign = sign("alipay", node.as_bytes());
    for body in [
        format!(r#"{{"alipay_trade_pay_response":{node},"sign":"{sign}"}}"#),
        format!(
            "{{\n \"sign\" :\t\"{sign}\",\"alipay_cert_sn\":\"1\",\r\n\
                 \"alipay_trade_pay_response\" :  {node}  }}\n"
        ),
    ] {
        assert_eq!(pay(body.as_bytes()), What::Captured, "{body}");
    }
    let rewritten: Value = serde_json::from_str(node).unwrap();
    let body = format!(r#"{{"alipay_trade_pay_response":{rewritten},"sign":"{sign}"}}"#);
    assert_eq!(pay(body.as_bytes()), What::Unknown);
}

#[test]
fn a_broken_answer_settles_nothing_in_any_operation() {
    for (op, request, method) in operations() {
        let good = sealed(method, PAID);
        let bodies: [&[u8]; 14] = [
            b"",
            b" ",
            b"null",
            b"true",
            b"[]",
            b"{}",
            b"\"\"",
            b"0",
            b"<html><body>502 Bad Gateway</body></html>",
            b"{\"error_response\":null}",
            b"{\"error_response\":{\"code\":\"40002\",\"sub_code\":\"isv.invalid-app-id\"}}",
            b"\xff\xfe{}",
            b"{\"sign\":\"\"}",
            &good.as_bytes()[..good.len() - 1],
        ];
        for body in bodies {
            let fact = answered(op, request.clone(), 200, body);
            assert_eq!(fact.what, What::Unknown, "{method} {}", String::from_utf8_lossy(body));
        }
        let nodes =
            ["null", "[]", "1", "\"10000\"", "{}", r#"{"code":null}"#, r#"{"code":"10000"}"#];
        for node in nodes {
            let body = sealed(method, node);
            let fact = answered(op, request.clone(), 200, body.as_bytes());
            assert!(!is_definite(&fact), "{method} {node}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(!is_definite(&answered(op, request.clone(), 200, deep.as_bytes())));
    }
}

#[test]
fn a_status_other_than_200_settles_nothing_whatever_the_body_says() {
    for (op, request, method) in operations() {
        let bodies = [sealed(method, PAID), sealed(method, DECLINED)];
        let statuses = [100, 201, 202, 204, 301, 302, 400, 401, 403, 404, 409, 422, 429];
        for status in statuses.into_iter().chain(500..=511).chain([599]) {
            for body in &bodies {
                let fact = answered(op, request.clone(), status, body.as_bytes());
                assert_eq!(fact.what, What::Unknown, "{method} {status}");
                let down = fact.class == Some(Class::ProviderDown);
                assert_eq!(down, status >= 500, "{method} {status}");
            }
        }
    }
}

#[test]
fn a_request_without_an_answer_is_left_to_the_host() {
    let (provider, host) = (peer::provider(), peer::host());
    for (op, request, method) in operations() {
        for outcome in [TransportLoss::NotSent, TransportLoss::MaybeSent] {
            let mut drive = Drive::new(&provider, &host, op, request.clone());
            drive.start().unwrap().sent();
            let done = drive.lost(outcome).unwrap().done();
            assert_eq!(done.facts.len(), 1);
            assert_eq!(done.facts[0].what, What::Unknown, "{method}");
        }
    }
}

#[test]
fn an_answer_to_nothing_is_a_fault_and_no_fact() {
    let (provider, host) = (peer::provider(), peer::host());
    for (op, request, method) in operations() {
        let mut drive = Drive::new(&provider, &host, op, request);
        let fault = drive.answer(200, sealed(method, PAID).as_bytes()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input, "{method}");
        let event = Event::Notification { headers: Vec::new() };
        assert_eq!(drive.step(event, b"").unwrap_err().kind, FaultKind::Input);
    }
}

#[test]
fn an_account_without_its_keys_is_a_fault_of_the_configuration() {
    let provider = peer::provider();
    let none = TestHost::default();
    let mut drive = Drive::new(&provider, &none, Operation::Authorize, payment("qr"));
    assert_eq!(drive.start().unwrap_err().kind, FaultKind::Config);
}

#[test]
fn a_published_answer_of_alipay_verifies() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/alipay_v1_response.json");
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let vector: Value = serde_json::from_str(&text).unwrap();
    let spki = peer::der(vector["alipay_public_key_pem"].as_str().unwrap());
    // The public key's bit string follows 24 bytes of DER in every SPKI of an RSA-2048 key.
    let host = peer::host().with_public("alipay_public_key", &spki[24..]);
    let raw = vector["raw_response"].as_str().unwrap();
    // It answers another method, so it is put under the name of ours; the node is untouched.
    let body = raw.replace(vector["response_key"].as_str().unwrap(), "alipay_trade_pay_response");
    let told = |body: &str| {
        let provider = Alipay::open(&json!({ "app_id": "1" })).unwrap();
        let mut drive = Drive::new(&provider, &host, Operation::Authorize, payment("barcode"));
        drive.start().unwrap().sent();
        drive.answer(200, body.as_bytes()).unwrap().done().facts[0].provider_code.clone().unwrap()
    };
    assert_eq!(told(&body), "no_trade_named", "verified, and it names no trade");
    assert_eq!(told(&body.replace("CAxA", "CAxB")), "unverified:10000");
}
