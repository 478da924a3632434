//! What leaves for WeChat Pay, to the byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    CaptureMode, Class, Currency, Effect, FaultKind, Host, Manifest, Operation, Provider, Request,
    Send, What,
};
use serde_json::{Value, json};
use wechatpay::WeChatPay;

use crate::peer::{self, NUMBER, RSA, start};

fn value<'a>(send: &'a Send, header: &str) -> &'a str {
    &send.headers.iter().find(|(name, _)| name == header).unwrap().1
}

/// A part of the authorization, by its name.
fn part(send: &Send, name: &str) -> String {
    let parts = value(send, "authorization").strip_prefix("WECHATPAY2-SHA256-RSA2048 ").unwrap();
    let mut pairs = parts.split(',').map(|pair| pair.split_once('=').unwrap());
    pairs.find(|(n, _)| *n == name).unwrap().1.trim_matches('"').to_owned()
}

fn names(list: &str) -> Vec<&str> {
    let rest = list.split_once(' ').map_or(list, |(_, rest)| rest);
    rest.split(',').map(|pair| pair.split_once('=').unwrap().0).collect()
}

#[test]
fn the_authorization_is_of_the_published_form() {
    let (send, _) = start(&peer::config(), Operation::Authorize, peer::payment("qr"));
    let authorization = value(&send, "authorization");
    if let Some(vector) = peer::vector("wechat_auth_header_format.json") {
        assert_eq!(names(authorization), names(vector["header_template"].as_str().unwrap()));
    }
    assert_eq!(part(&send, "mchid"), "1900000001");
    assert_eq!(part(&send, "serial_no"), "5157F09EFDC096DE15EBE81A47057A7232F1B8E1");
    assert_eq!(part(&send, "timestamp"), "1764000000");
    let nonce = part(&send, "nonce_str");
    assert!(nonce.len() <= 32 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()), "{nonce}");
}

#[test]
fn the_signature_covers_method_target_time_nonce_and_body() {
    for config in [peer::config(), peer::partner()] {
        for (op, request, purpose) in peer::operations() {
            let (send, body) = start(&config, op, request);
            let query: Vec<String> = send.query.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let mark = if query.is_empty() { "" } else { "?" };
            let target = format!("{}{mark}{}", send.path, query.join("&"));
            let (at, nonce) = (part(&send, "timestamp"), part(&send, "nonce_str"));
            let body = String::from_utf8(body).unwrap();
            let message = format!("{}\n{target}\n{at}\n{nonce}\n{body}\n", send.method);
            let signature = BASE64.decode(part(&send, "signature")).unwrap();
            let good = peer::wechat_host().verify("merchant", RSA, message.as_bytes(), &signature);
            assert_eq!(good, Ok(true), "{purpose}");
            assert_eq!(send.method == "GET", body.is_empty(), "{purpose}");
        }
    }
}

#[test]
fn a_published_signature_is_made() {
    let Some(vector) = peer::vector("wechat_rsa_sign.json") else { return };
    let key = peer::der(vector["private_key_pem"].as_str().unwrap());
    let host = TestHost::default().with_private("key", &key);
    let made = host.sign("key", RSA, vector["message"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(BASE64.encode(made), vector["signature_b64"].as_str().unwrap());
}

#[test]
fn every_request_has_the_headers_that_are_demanded() {
    for (op, request, purpose) in peer::operations() {
        let (send, body) = start(&peer::config(), op, request);
        assert_eq!(value(&send, "accept"), "application/json", "{purpose}");
        assert!(value(&send, "user-agent").starts_with("Interlock/"), "{purpose}");
        assert_eq!(value(&send, "wechatpay-serial"), peer::ID, "{purpose}");
        let typed = send.headers.iter().any(|(name, _)| name == "content-type");
        assert_eq!(typed, !body.is_empty(), "{purpose}");
        assert_eq!(send.endpoint, "api");
    }
    let config = json!({
        "appid": "wx1", "mchid": "1", "serial_no": "A", "platform_certificates": true,
    });
    let (send, _) = start(&config, Operation::Authorize, peer::payment("qr"));
    assert!(send.headers.iter().all(|(name, _)| name != "wechatpay-serial"));
}

/// Method, path, query and body of every operation, in the order of `peer::operations`.
fn expected() -> [(&'static str, String, &'static str, String); 11] {
    let orders = "/v3/pay/transactions";
    let of = |tail: &str| format!("{orders}{tail}");
    let order = |rest: &str| {
        String::from(r#"{"appid":"wxd678efh567hg6787","mchid":"1900000001","#)
            + &format!(r#""description":"Tea, \"cake\" 茶","out_trade_no":"{NUMBER}",{rest}}}"#)
    };
    let told = r#""notify_url":"https://pay.example.com/n/wechatpay","#;
    let amount = r#""amount":{"total":8888,"currency":"CNY"}"#;
    let plain = order(&format!("{told}{amount}"));
    let openid = r#""payer":{"openid":"oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}"#;
    let page = r#""scene_info":{"payer_client_ip":"203.0.113.7","h5_info":{"type":"Wap"}}"#;
    let code = concat!(
        r#""payer":{"auth_code":"134567890123456789"},"#,
        r#""scene_info":{"store_info":{"id":"0001"}}"#
    );
    let none = String::new;
    let query = of(&format!("/out-trade-no/{NUMBER}"));
    let refund = concat!(
        r#"{"out_trade_no":"op1234567890","out_refund_no":"refund42","#,
        r#""notify_url":"https://pay.example.com/n/wechatpay","#,
        r#""amount":{"refund":1000,"total":8888,"currency":"CNY"}}"#
    );
    [
        ("POST", of("/native"), "", plain.clone()),
        ("POST", of("/jsapi"), "", order(&format!("{told}{amount},{openid}"))),
        ("POST", of("/app"), "", plain),
        ("POST", of("/h5"), "", order(&format!("{told}{amount},{page}"))),
        ("POST", of("/codepay"), "", order(&format!("{amount},{code}"))),
        ("GET", query.clone(), "mchid=1900000001", none()),
        ("GET", query.clone(), "mchid=1900000001", none()),
        ("POST", format!("{query}/close"), "", r#"{"mchid":"1900000001"}"#.into()),
        (
            "POST",
            format!("{query}/reverse"),
            "",
            r#"{"appid":"wxd678efh567hg6787","mchid":"1900000001"}"#.into(),
        ),
        ("POST", "/v3/refund/domestic/refunds".into(), "", refund.into()),
        ("GET", "/v3/refund/domestic/refunds/refund42".into(), "", none()),
    ]
}

#[test]
fn every_operation_says_exactly_what_it_must() {
    for ((op, request, purpose), expected) in peer::operations().into_iter().zip(expected()) {
        let (send, body) = start(&peer::config(), op, request);
        let query: Vec<String> = send.query.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let body = String::from_utf8(body).unwrap();
        let sent = (send.method.as_str(), send.path, query.join("&"), body);
        let (method, path, query, body) = expected;
        assert_eq!(sent, (method, path, query.to_owned(), body), "{purpose}");
    }
}

#[test]
fn a_partner_names_both_merchants() {
    let body = |config: &Value, op, flow| {
        let (send, body) = start(config, op, peer::request_of(op, flow));
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        (send, json)
    };
    let config = peer::partner();
    let (send, order) = body(&config, Operation::Authorize, "jsapi");
    assert_eq!(send.path, "/v3/pay/partner/transactions/jsapi");
    assert_eq!(order["sp_appid"], "wxd678efh567hg6787");
    assert_eq!(
        (&order["sp_mchid"], &order["sub_mchid"]),
        (&json!("1900000001"), &json!("1900000109"))
    );
    assert_eq!(order["sub_appid"], "wxsub0000000000001");
    assert_eq!(order["payer"], json!({ "sub_openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o" }));
    assert!(order.get("mchid").is_none() && order.get("appid").is_none());
    let plain = peer::with(json!({ "sub_mchid": "1900000109" }));
    let (_, order) = body(&plain, Operation::Authorize, "jsapi");
    assert_eq!(order["payer"], json!({ "sp_openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o" }));
    assert!(order.get("sub_appid").is_none());

    let both = ["sp_mchid", "sub_mchid"];
    let (send, _) = body(&config, Operation::Inquire, "qr");
    assert_eq!(send.path, format!("/v3/pay/partner/transactions/out-trade-no/{NUMBER}"));
    assert_eq!(send.query.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), both);
    let (_, close) = body(&config, Operation::Close, "qr");
    assert_eq!(close, json!({ "sp_mchid": "1900000001", "sub_mchid": "1900000109" }));
    let (_, reverse) = body(&config, Operation::Close, "barcode");
    assert_eq!(reverse["sp_appid"], "wxd678efh567hg6787");
    let (send, refund) = body(&config, Operation::Refund, "qr");
    assert_eq!(
        (send.path.as_str(), &refund["sub_mchid"]),
        ("/v3/refund/domestic/refunds", &json!("1900000109"))
    );
    let (send, _) = body(&config, Operation::InquireOperation, "qr");
    assert_eq!(send.query, [("sub_mchid".to_owned(), "1900000109".to_owned())]);
}

#[test]
fn the_manifest_pins_the_effect_of_every_request() {
    let manifest = Manifest::parse(WeChatPay::MANIFEST.as_bytes()).unwrap();
    for config in [peer::config(), peer::partner()] {
        for (op, request, purpose) in peer::operations() {
            let (send, _) = start(&config, op, request);
            let rule = manifest.contract.rule(&send.method, &send.path, &send.query).unwrap();
            let expected = match purpose {
                "native" | "jsapi" | "app" | "h5" => Effect::Offer,
                "query" | "refund_query" => Effect::Read,
                _ => Effect::Move,
            };
            assert_eq!((rule.purpose.as_str(), rule.effect), (purpose, expected));
            assert!(!op.reads_only() || rule.effect == Effect::Read, "{purpose}");
            assert!(manifest.offers(op));
        }
    }
    for flow in ["qr", "jsapi", "app", "h5"] {
        let close = manifest.contract.close_of(flow).unwrap();
        assert!(!close.may_refund && !close.tombstone && close.min_age_ms == 300_000);
    }
    let close = manifest.contract.close_of("barcode").unwrap();
    assert!(close.may_refund && !close.tombstone && close.min_age_ms == 15_000);
    assert!(manifest.contract.expiry_of("qr").is_none());
}

/// By the native pass-through; no operation of the plugin builds these.
#[test]
fn what_only_a_merchants_own_sdk_asks_is_called_a_read() {
    let contract = Manifest::parse(WeChatPay::MANIFEST.as_bytes()).unwrap().contract;
    for (path, purpose) in [
        ("/v3/pay/transactions/id/42000", "query_by_id"),
        ("/v3/pay/partner/transactions/id/42000", "query_by_id"),
    ] {
        let rule = contract.rule("GET", path, &[]).unwrap();
        assert_eq!((rule.purpose.as_str(), rule.effect), (purpose, Effect::Read), "{path}");
        assert!(contract.rule("POST", path, &[]).is_none(), "{path}");
    }
}

#[test]
fn a_request_that_is_sent_again_repeats_its_body_and_has_another_nonce() {
    let (provider, host) = (peer::provider(), peer::host());
    for (op, request, purpose) in peer::operations() {
        let at = |now_ms| {
            let mut drive = Drive::new(&provider, &host, op, request.clone());
            drive.envelope.now_ms = now_ms;
            drive.start().unwrap().sent()
        };
        let ((first, body), (again, same)) = (at(1_764_000_000_000), at(1_764_000_000_777));
        assert_eq!((&first.path, &first.query), (&again.path, &again.query), "{purpose}");
        assert_eq!(body, same, "{purpose}");
        assert_ne!(part(&first, "nonce_str"), part(&again, "nonce_str"), "{purpose}");
    }
}

#[test]
fn the_settings_of_the_account_reach_the_request() {
    let config = peer::with(json!({
        "description": "A shop", "offer_seconds": 900, "store_id": "s7", "h5_type": "iOS",
        "h5_app_name": "Shop", "h5_url": "https://shop.example",
    }));
    let body = |flow: &str| -> Value {
        let request = Request { description: None, ..peer::payment(flow) };
        serde_json::from_slice(&start(&config, Operation::Authorize, request).1).unwrap()
    };
    assert_eq!(body("qr")["description"], "A shop");
    assert_eq!(body("qr")["time_expire"], "2025-11-25T00:15:00+08:00");
    assert_eq!(body("barcode")["scene_info"]["store_info"]["id"], "s7");
    let page = json!({ "type": "iOS", "app_name": "Shop", "app_url": "https://shop.example" });
    assert_eq!(body("h5")["scene_info"]["h5_info"], page);
    let none = Request { description: None, ..peer::payment("qr") };
    let (_, body) = start(&peer::config(), Operation::Authorize, none);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["description"], NUMBER);
    let long = Request { description: Some("茶".repeat(300)), ..peer::payment("qr") };
    let (_, body) = start(&peer::config(), Operation::Authorize, long);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["description"].as_str().unwrap(), "茶".repeat(127));
}

#[test]
fn what_wechat_pay_would_misread_is_refused_before_anything_is_sent() {
    let refused = |flow: &str, change: &dyn Fn(&mut Request)| {
        let (provider, host) = (peer::provider(), peer::host());
        let mut request = peer::payment(flow);
        change(&mut request);
        let mut drive = Drive::new(&provider, &host, Operation::Authorize, request);
        drive.start().map(|_| ()).map_err(|fault| fault.kind)
    };
    let input = Err(FaultKind::Input);
    assert_eq!(refused("qr", &|_| {}), Ok(()));
    for amount in [i64::MIN, -1, 0] {
        assert_eq!(refused("qr", &|r| r.amount.amount = amount), input, "{amount}");
    }
    assert_eq!(refused("qr", &|r| r.amount.currency = Currency::parse("USD").unwrap()), input);
    assert_eq!(refused("qr", &|r| r.exponent = 0), input);
    assert_eq!(refused("qr", &|r| r.capture = CaptureMode::Manual), input);
    assert_eq!(refused("qr", &|r| r.flow = "redirect".into()), input);
    assert_eq!(refused("qr", &|r| r.notify_url = None), input);
    assert_eq!(refused("qr", &|r| r.notify_url = Some("https://x.example/n?a=1".into())), input);
    assert_eq!(refused("barcode", &|r| r.credential = None), input);
    assert_eq!(refused("barcode", &|r| r.notify_url = None), Ok(()), "nothing is notified");
    assert_eq!(refused("jsapi", &|r| r.credential = None), input);
    assert_eq!(refused("h5", &|r| r.customer.ip = None), input);
    for number in ["", "short", "a b c d e", "a/../b", "aaa\"aaa", &"9".repeat(33)] {
        assert_eq!(refused("qr", &|r| r.op_id = number.into()), input, "{number}");
    }
}

#[test]
fn an_account_without_usable_settings_is_refused() {
    let open = |config: Value| WeChatPay::open(&config).map(|_| ()).map_err(|fault| fault.kind);
    let config = Err(FaultKind::Config);
    assert_eq!(open(peer::config()), Ok(()));
    assert_eq!(open(json!({})), config);
    assert_eq!(open(json!(null)), config);
    for (name, value) in [
        ("appid", json!("")),
        ("appid", json!("wx 1")),
        ("mchid", json!("19a")),
        ("mchid", json!(1_900_000_001)),
        ("serial_no", json!("5157f0")),
        ("public_key_id", json!("0119000000012025112400000001")),
        ("next_public_key_id", json!("PUB_KEY_ID_")),
        ("public_key_id", json!(null)),
        ("sub_mchid", json!("")),
        ("sub_appid", json!("wxsub0000000000001")),
        ("description", json!(" ")),
        ("offer_seconds", json!(59)),
        ("offer_seconds", json!(7_776_001)),
        ("store_id", json!("")),
        ("h5_type", json!("")),
    ] {
        let text = format!("{name} {value}");
        assert_eq!(open(peer::with(json!({ name: value }))), config, "{text}");
    }
    for seconds in [60, 7_776_000] {
        assert_eq!(open(peer::with(json!({ "offer_seconds": seconds }))), Ok(()));
    }
    let platform = json!({ "public_key_id": null, "platform_certificates": true });
    assert_eq!(open(peer::with(platform)), Ok(()));
}

#[test]
fn a_key_that_is_missing_is_known_before_anything_is_sent() {
    let provider = peer::provider();
    let only = TestHost::default().with_public("wechatpay_public_key", &peer::public("wechatpay"));
    for host in [TestHost::default(), only] {
        let mut drive = Drive::new(&provider, &host, Operation::Authorize, peer::payment("qr"));
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Config);
    }
    let config = peer::with(json!({ "next_public_key_id": peer::NEXT_ID }));
    let next = WeChatPay::open(&config).unwrap();
    let host = peer::host();
    assert!(Drive::new(&next, &host, Operation::Authorize, peer::payment("qr")).start().is_ok());
}

#[test]
fn a_probe_asks_for_a_number_that_nobody_has() {
    let probed = |status, headers, body: &str| {
        let request = peer::payment("qr");
        peer::answered(Operation::Probe, request, status, &headers, body.as_bytes())
    };
    let (send, body) = start(&peer::config(), Operation::Probe, peer::payment("qr"));
    let path = "/v3/pay/transactions/out-trade-no/00112233445566778899aabbccddeeff";
    assert_eq!((send.method.as_str(), send.path.as_str(), body.len()), ("GET", path, 0));
    let none = r#"{"code":"ORDER_NOT_EXIST","message":"x"}"#;
    assert_eq!(probed(404, Vec::new(), none).what, What::NotFound);
    assert_eq!(probed(404, Vec::new(), "<html>").what, What::Unknown);
    assert_eq!(probed(200, peer::signed(b"{}"), "{}").what, What::NotFound);
    assert_eq!(probed(200, Vec::new(), "{}").what, What::Unknown);
    assert_eq!(probed(502, Vec::new(), "").class, Some(Class::ProviderDown));
    let ours = probed(401, Vec::new(), r#"{"code":"SIGN_ERROR","message":"x"}"#);
    assert_eq!((ours.what, ours.class), (What::Unknown, Some(Class::Config)));
}

#[test]
fn what_the_plugin_does_not_offer_is_said_so() {
    let (provider, host) = (peer::provider(), peer::host());
    for op in [Operation::Capture, Operation::Void, Operation::Continue] {
        let mut drive = Drive::new(&provider, &host, op, peer::later(op, "qr"));
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Unsupported, "{op:?}");
    }
    let mut request = peer::later(Operation::InquireOperation, "qr");
    request.target = Some((Operation::Void, None));
    let mut drive = Drive::new(&provider, &host, Operation::InquireOperation, request);
    assert_eq!(drive.start().unwrap_err().kind, FaultKind::Unsupported);
}
