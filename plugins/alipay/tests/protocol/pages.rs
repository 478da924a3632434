//! Pages and orders for the app: nothing is sent, so the offer itself is what is checked.

use alipay::Alipay;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::Drive;
use interlock_plugin_api::{
    CaptureMode, Effect, Fact, FaultKind, Host, Manifest, Operation, Provider, Request, What,
};
use serde_json::{Value, json};

use crate::peer::{self, RSA2};

const MADE: i64 = 1_764_000_000_999;

fn provider() -> Alipay {
    let config = json!({ "app_id": "2021000000000001", "pages": true, "page_seconds": 600 });
    Alipay::open(&config).unwrap()
}

fn payment(flow: &str) -> Request {
    Request { return_url: Some("https://shop.example/a?b=1&c=2".into()), ..peer::payment(flow) }
}

fn made(request: Request) -> Fact {
    let (provider, host) = (provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::Authorize, request);
    (drive.envelope.made_ms, drive.envelope.now_ms) = (MADE, MADE + 5_000);
    let done = drive.start().unwrap().done();
    assert_eq!(done.facts.len(), 1);
    done.facts[0].clone()
}

/// The pairs of an order as Alipay reads them, without its signature, and that.
fn read(order: &str) -> (Vec<(String, String)>, Vec<u8>) {
    assert!(!order.contains('+') && order.bytes().all(|b| b.is_ascii_graphic()), "{order}");
    let mut pairs: Vec<(String, String)> =
        form_urlencoded::parse(order.as_bytes()).into_owned().collect();
    let at = pairs.iter().position(|(name, _)| name == "sign").unwrap();
    let signature = BASE64.decode(pairs.remove(at).1).unwrap();
    (pairs, signature)
}

fn order_of(fact: &Fact) -> (String, String) {
    let action = fact.action.as_ref().unwrap();
    let order = match action.kind.as_str() {
        "redirect" => {
            let url = action.payload["url"].as_str().unwrap();
            url.strip_prefix("{endpoint:gateway}/gateway.do?").unwrap().to_owned()
        }
        _ => action.payload["params"]["order_string"].as_str().unwrap().to_owned(),
    };
    (action.kind.clone(), order)
}

#[test]
fn each_door_has_its_method_its_product_and_a_signature_over_all_of_it() {
    for (flow, kind, method, product) in [
        ("redirect", "redirect", "alipay.trade.page.pay", "FAST_INSTANT_TRADE_PAY"),
        ("wap", "redirect", "alipay.trade.wap.pay", "QUICK_WAP_WAY"),
        ("app", "sdk", "alipay.trade.app.pay", "QUICK_MSECURITY_PAY"),
    ] {
        let fact = made(payment(flow));
        assert_eq!(fact.what, What::Action);
        let (shown, order) = order_of(&fact);
        assert_eq!(shown, kind);
        let (pairs, signature) = read(&order);
        let value = |name: &str| {
            let found = pairs.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("method"), Some(method));
        assert_eq!(value("timestamp"), Some("2025-11-25 00:00:00"), "when it was made");
        assert_eq!(value("notify_url"), Some("https://pay.example.com/n/alipay?a=1&b=2"));
        let back = (flow != "app").then_some("https://shop.example/a?b=1&c=2");
        assert_eq!(value("return_url"), back, "{flow}");
        let mut content = json!({
            "out_trade_no": "op1234567890", "total_amount": "88.88", "subject": "Tea & cake/two",
            "product_code": product, "time_expire": "2025-11-25 00:10:00",
        });
        if flow == "wap" {
            content["quit_url"] = "https://shop.example/a?b=1&c=2".into();
        }
        let ours: Value = serde_json::from_str(value("biz_content").unwrap()).unwrap();
        assert_eq!(ours, content);
        let joined: Vec<String> = pairs.iter().map(|(n, value)| format!("{n}={value}")).collect();
        assert!(pairs.is_sorted(), "in the order in which it is signed");
        let signed = joined.join("&");
        let good = peer::alipay_host().verify("app", RSA2, signed.as_bytes(), &signature);
        assert_eq!(good, Ok(true));
        assert_eq!(fact.action.unwrap().expires_ms, Some(MADE + 600_000));
        assert_eq!(order_of(&made(payment(flow))).1, order, "the same call is the same offer");
    }
}

#[test]
fn what_alipay_could_not_take_is_refused_before_anything_is_shown() {
    let host = peer::host();
    let refused = |provider: &Alipay, request: Request| {
        let fault = Drive::new(provider, &host, Operation::Authorize, request).start();
        assert_eq!(fault.unwrap_err().kind, FaultKind::Input);
    };
    let manual = |flow| Request { capture: CaptureMode::Manual, ..payment(flow) };
    for flow in ["redirect", "wap", "app"] {
        refused(&peer::provider(), payment(flow));
        refused(&provider(), manual(flow));
        refused(&provider(), Request { op_id: "a-b".into(), ..payment(flow) });
        let mut free = payment(flow);
        free.amount.amount = 0;
        refused(&provider(), free);
    }
    for page_seconds in [0, 1_296_001] {
        let config = json!({ "app_id": "1", "pages": true, "page_seconds": page_seconds });
        assert!(Alipay::open(&config).is_err(), "{page_seconds}");
    }
    let (provider, made) = (provider(), payment("app"));
    let mut drive = Drive::new(&provider, &host, Operation::Authorize, made);
    drive.start().unwrap();
    assert!(drive.answer(200, b"{}").is_err(), "there was no request");
}

#[test]
fn the_manifest_declares_no_end_that_is_not_confirmed() {
    let manifest = Manifest::parse(Alipay::MANIFEST.as_bytes()).unwrap();
    let contract = &manifest.contract;
    for flow in ["redirect", "wap", "app"] {
        assert!(contract.is_by_shopper(flow) && contract.expiry_of(flow).is_none());
        assert!(!contract.ends(flow, true), "{flow}: an operator must say how it ends");
        assert!(contract.close_of(flow).is_some_and(|c| !c.tombstone && !c.may_refund));
    }
    assert!(contract.expiry_of("qr").is_some() && contract.ends("qr", true));
    assert!(contract.sends.iter().all(|s| s.effect != Effect::Offer || s.purpose == "precreate"));
}
