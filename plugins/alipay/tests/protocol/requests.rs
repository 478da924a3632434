//! What leaves for the gateway, to the byte.

use std::collections::BTreeMap;

use alipay::Alipay;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::Drive;
use interlock_plugin_api::{
    CaptureMode, Class, Currency, Effect, FaultKind, Host, Manifest, Operation, Provider, Request,
    Send, What,
};
use serde_json::json;

use crate::peer::{self, RSA2};

fn start_at(now_ms: i64, op: Operation, request: Request) -> (Send, Vec<u8>) {
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, op, request);
    drive.envelope.now_ms = now_ms;
    drive.start().unwrap().sent()
}

fn start(op: Operation, request: Request) -> (Send, Vec<u8>) {
    start_at(1_764_000_000_000, op, request)
}

fn content(body: &[u8]) -> String {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0].0, "biz_content");
    pairs[0].1.clone()
}

#[test]
fn the_signature_covers_every_parameter_sorted_and_as_it_is() {
    let (send, body) = start(Operation::Authorize, peer::payment("qr"));
    let sign_string = "app_id=2021000000000001&biz_content={\"out_trade_no\":\"op1234567890\",\
        \"total_amount\":\"88.88\",\"subject\":\"Tea & cake/two\",\
        \"product_code\":\"FACE_TO_FACE_PAYMENT\"}&charset=utf-8&format=JSON\
        &method=alipay.trade.precreate&notify_url=https://pay.example.com/n/alipay?a=1&b=2\
        &sign_type=RSA2&timestamp=2025-11-25 00:00:00&version=1.0";
    let mut merged: BTreeMap<String, String> = send.query.iter().cloned().collect();
    let signature = BASE64.decode(merged.remove("sign").unwrap()).unwrap();
    merged.insert("biz_content".into(), content(&body));
    let joined: Vec<String> = merged.iter().map(|(n, value)| format!("{n}={value}")).collect();
    assert_eq!(joined.join("&"), sign_string);
    let verified = peer::alipay_host().verify("app", RSA2, sign_string.as_bytes(), &signature);
    assert_eq!(verified, Ok(true));
}

#[test]
fn the_public_parameters_go_in_the_query_and_the_content_in_the_body() {
    let (send, body) = start(Operation::Inquire, peer::later(Operation::Inquire, "barcode"));
    assert_eq!((send.method.as_str(), send.path.as_str()), ("POST", "/gateway.do"));
    assert_eq!(send.endpoint, "gateway");
    let form = "application/x-www-form-urlencoded;charset=utf-8";
    assert_eq!(send.headers, [("content-type".to_string(), form.to_string())]);
    let names: Vec<&str> = send.query.iter().map(|(name, _)| name.as_str()).collect();
    let public = ["app_id", "charset", "format", "method", "sign_type", "timestamp", "version"];
    assert_eq!(names[..7], public);
    assert_eq!(names[7..], ["sign"]);
    assert_eq!(body, b"biz_content=%7B%22out_trade_no%22%3A%22op1234567890%22%7D");
}

#[test]
fn every_operation_says_exactly_what_it_must() {
    let number = r#"{"out_trade_no":"op1234567890"}"#;
    let expected = [
        concat!(
            r#"{"out_trade_no":"op1234567890","total_amount":"88.88","subject":"Tea & cake/two","#,
            r#""product_code":"FACE_TO_FACE_PAYMENT","scene":"bar_code","#,
            r#""auth_code":"280000000000000001"}"#
        ),
        concat!(
            r#"{"out_trade_no":"op1234567890","total_amount":"88.88","subject":"Tea & cake/two","#,
            r#""product_code":"FACE_TO_FACE_PAYMENT"}"#
        ),
        number,
        number,
        number,
        number,
        r#"{"out_trade_no":"op1234567890","refund_amount":"10.00","out_request_no":"refund42"}"#,
        r#"{"out_trade_no":"op1234567890","out_request_no":"refund42"}"#,
    ];
    for ((op, request, method), expected) in peer::operations().into_iter().zip(expected) {
        // What comes later is told where the payment was said to be told.
        let notifies = request.notify_url.clone().filter(|_| op == Operation::Authorize);
        let (send, body) = start(op, request);
        assert_eq!(content(&body), expected, "{method}");
        let value =
            |name: &str| send.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        assert_eq!(value("method").as_deref(), Some(method));
        assert_eq!(value("notify_url"), notifies, "{method}");
    }
}

#[test]
fn the_manifest_pins_the_effect_of_every_request() {
    let manifest = Manifest::parse(Alipay::MANIFEST.as_bytes()).unwrap();
    for (op, request, method) in peer::operations() {
        let (send, _) = start(op, request);
        let rule = manifest.contract.rule(&send.method, &send.path, &send.query).unwrap();
        let expected = match method {
            "alipay.trade.precreate" => Effect::Offer,
            "alipay.trade.query" | "alipay.trade.fastpay.refund.query" => Effect::Read,
            _ => Effect::Move,
        };
        assert_eq!(rule.effect, expected, "{method}");
        assert!(!op.reads_only() || rule.effect == Effect::Read, "{method}");
        assert!(manifest.offers(op) && manifest.hosts.contains_key(&send.endpoint));
    }
    assert!(manifest.contract.can_resolve("qr") && manifest.contract.can_resolve("barcode"));
    assert!(!manifest.contract.close_of("qr").unwrap().may_refund);
    assert!(manifest.contract.close_of("barcode").unwrap().may_refund);
}

#[test]
fn a_request_that_is_sent_again_repeats_its_body_byte_for_byte() {
    for (op, request, method) in peer::operations() {
        let (first, body) = start_at(1_764_000_000_000, op, request.clone());
        let (again, same) = start_at(1_764_000_777_000, op, request);
        assert_eq!(body, same, "{method}");
        assert_ne!(first.query, again.query, "the timestamp and its signature are made anew");
        let parts = |send: &Send| -> Vec<(String, String)> {
            let anew = ["timestamp", "sign"];
            send.query.iter().filter(|(n, _)| !anew.contains(&n.as_str())).cloned().collect()
        };
        assert_eq!(parts(&first), parts(&again));
    }
}

#[test]
fn the_settings_of_the_account_reach_the_request() {
    let config = json!({ "app_id": "1", "subject": "A shop", "timeout_express": "5m" });
    let (provider, host) = (Alipay::open(&config).unwrap(), peer::host());
    let mut request = peer::payment("qr");
    request.description = None;
    request.notify_url = None;
    let mut drive = Drive::new(&provider, &host, Operation::Authorize, request);
    let (send, body) = drive.start().unwrap().sent();
    assert!(content(&body).contains(r#""subject":"A shop""#));
    assert!(content(&body).ends_with(r#""timeout_express":"5m"}"#));
    assert!(send.query.contains(&("app_id".into(), "1".into())));
    assert!(send.query.iter().all(|(name, value)| name != "notify_url" && !value.is_empty()));
}

#[test]
fn a_long_description_is_cut_between_characters() {
    let mut request = peer::payment("qr");
    request.description = Some("茶".repeat(300));
    let (_, body) = start(Operation::Authorize, request);
    let value: serde_json::Value = serde_json::from_str(&content(&body)).unwrap();
    assert_eq!(value["subject"].as_str().unwrap(), "茶".repeat(256));
}

#[test]
fn what_alipay_would_misread_is_refused_before_anything_is_sent() {
    let refused = |change: &dyn Fn(&mut Request)| {
        let (provider, host) = (peer::provider(), peer::host());
        let mut request = peer::payment("barcode");
        change(&mut request);
        let mut drive = Drive::new(&provider, &host, Operation::Authorize, request);
        drive.start().map(|wanted| content(&wanted.sent().1)).map_err(|fault| fault.kind)
    };
    let input = Err(FaultKind::Input);
    assert!(refused(&|_| {}).is_ok());
    assert!(refused(&|r| r.amount.amount = 10_000_000_000).unwrap().contains("\"100000000.00\""));
    assert!(refused(&|r| r.amount.amount = 1).unwrap().contains("\"0.01\""));
    for amount in [i64::MIN, -1, 0, 10_000_000_001, i64::MAX] {
        assert_eq!(refused(&|r| r.amount.amount = amount), input, "{amount}");
    }
    assert_eq!(refused(&|r| r.amount.currency = Currency::parse("USD").unwrap()), input);
    assert_eq!(refused(&|r| r.exponent = 0), input);
    assert_eq!(refused(&|r| r.credential = None), input);
    assert_eq!(refused(&|r| r.capture = CaptureMode::Manual), input);
    assert_eq!(refused(&|r| r.flow = "wap".into()), input);
    for number in ["", "a b", "a\"b", &"9".repeat(65)] {
        assert_eq!(refused(&|r| r.op_id = number.into()), input, "{number}");
    }
}

#[test]
fn an_account_without_usable_settings_is_refused() {
    let open = |config| Alipay::open(&config).map(|_| ()).map_err(|fault| fault.kind);
    let config = Err(FaultKind::Config);
    assert_eq!(open(json!({})), config);
    assert_eq!(open(json!(null)), config);
    assert_eq!(open(json!({ "app_id": "" })), config);
    assert_eq!(open(json!({ "app_id": 1 })), config);
    assert_eq!(open(json!({ "app_id": "1", "seller_id": "" })), config);
    for bad in ["", "5", "m", "0m", "16d", "2c", "5s", "+5m", "5.5h", "99999999999m"] {
        assert_eq!(open(json!({ "app_id": "1", "timeout_express": bad })), config, "{bad}");
    }
    for good in ["1m", "90m", "2h", "15d", "1c"] {
        assert_eq!(open(json!({ "app_id": "1", "timeout_express": good })), Ok(()), "{good}");
    }
}

#[test]
fn a_probe_asks_for_a_number_that_nobody_has_and_believes_only_a_signature() {
    let probed = |status: u16, body: &str| {
        let request = peer::payment("barcode");
        peer::answered(Operation::Probe, request, status, body.as_bytes())
    };
    let node = r#"{"code":"40004","msg":"x","sub_code":"ACQ.TRADE_NOT_EXIST"}"#;
    let sealed = peer::sealed("alipay.trade.query", node);
    assert_eq!(probed(200, &sealed).what, What::NotFound);
    let forged = sealed.replace("\"msg\":\"x\"", "\"msg\":\"y\"");
    assert_eq!(probed(200, &forged).what, What::Unknown);
    assert_eq!(probed(502, "").class, Some(Class::ProviderDown));
    let ill = r#"{"code":"20000","msg":"x","sub_code":"ACQ.SYSTEM_ERROR"}"#;
    let ill = peer::sealed("alipay.trade.query", ill);
    assert_ne!(probed(200, &ill).what, What::NotFound);
}

#[test]
fn what_the_plugin_does_not_offer_is_said_so() {
    let (provider, host) = (peer::provider(), peer::host());
    for op in [Operation::Capture, Operation::Void, Operation::Continue] {
        let mut drive = Drive::new(&provider, &host, op, peer::later(op, "barcode"));
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Unsupported, "{op:?}");
    }
    let mut request = peer::later(Operation::InquireOperation, "barcode");
    request.target = Some((Operation::Void, None));
    let mut drive = Drive::new(&provider, &host, Operation::InquireOperation, request);
    assert_eq!(drive.start().unwrap_err().kind, FaultKind::Unsupported);
}
