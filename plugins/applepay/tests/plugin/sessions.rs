//! Sessions: exactly the request that Apple documents, and its answer byte for byte.

use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{
    Class, Done, FaultKind, Operation, Provider, Request, SessionRequest, TransportLoss, What,
};
use serde_json::{Value, json};

use crate::{ApplePay, config};

const SESSION: &str = r#"{"epochTimestamp":1764000000000,  "nonce":"a1","signature":"3080\/"}"#;

fn named(name: Option<&str>) -> ApplePay {
    let mut config = config();
    config["display_name"] = name.map_or(Value::Null, Into::into);
    ApplePay::open(&config).unwrap()
}

fn page(domain: &str, name: Option<&str>, url: Option<&str>) -> Request {
    let session = SessionRequest {
        domain: domain.into(),
        display_name: name.map(str::to_owned),
        validation_url: url.map(str::to_owned),
    };
    Request { session: Some(session), ..request(0, "USD", 2) }
}

#[test]
fn the_request_is_apples_own() {
    let (plugin, host) = (named(Some("Tea House")), TestHost::default());
    let mut drive =
        Drive::new(&plugin, &host, Operation::StartSession, page("shop.example", None, None));
    let (send, body) = drive.start().unwrap().sent();
    assert_eq!((send.method.as_str(), send.endpoint.as_str()), ("POST", "gateway"));
    assert_eq!(send.path, "/paymentservices/paymentSession");
    assert!(send.query.is_empty());
    let expected = concat!(
        r#"{"merchantIdentifier":"merchant.example.shop","displayName":"Tea House","#,
        r#""initiative":"web","initiativeContext":"shop.example"}"#
    );
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    let done = drive.answer(200, SESSION.as_bytes()).unwrap().done();
    assert_eq!(done.session.as_deref(), Some(SESSION));
    assert!(done.facts.is_empty());
}

#[test]
fn the_pages_name_and_address_go_before_the_accounts() {
    let (plugin, host) = (named(Some("Tea House")), TestHost::default());
    let url = "https://cn-apple-pay-gateway-sh-pod2.apple.com/paymentservices/startSession";
    let page = page("shop.example", Some("茶"), Some(url));
    let mut drive = Drive::new(&plugin, &host, Operation::StartSession, page);
    let (send, body) = drive.start().unwrap().sent();
    assert_eq!(send.endpoint, "cn-apple-pay-gateway-sh-pod2");
    assert_eq!(send.path, "/paymentservices/startSession");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["displayName"], "茶");
}

#[test]
fn what_a_page_must_not_ask_for_is_a_fault_before_anything_is_sent() {
    let (plugin, host) = (named(Some("Tea House")), TestHost::default());
    let fault = |page: Request| {
        Drive::new(&plugin, &host, Operation::StartSession, page).start().unwrap_err()
    };
    let evil = "https://apple-pay-gateway.apple.com.evil.example/paymentservices/paymentSession";
    let told = fault(page("shop.example", None, Some(evil)));
    assert_eq!((told.kind, told.text.contains("evil")), (FaultKind::Input, false));
    for domain in ["", "shop", "shop..example", "-shop.example", "shop.example/", "a b.example"] {
        assert_eq!(fault(page(domain, None, None)).kind, FaultKind::Input, "{domain}");
    }
    for name in [String::new(), "x".repeat(65), "a\nb".into()] {
        assert_eq!(fault(page("shop.example", Some(&name), None)).kind, FaultKind::Input);
    }
    assert_eq!(fault(request(0, "USD", 2)).kind, FaultKind::Input);
    let long = "é".repeat(64);
    assert!(
        Drive::new(
            &plugin,
            &host,
            Operation::StartSession,
            page("shop.example", Some(&long), None)
        )
        .start()
        .is_ok()
    );
    let nameless = named(None);
    let page = page("shop.example", None, None);
    let fault = Drive::new(&nameless, &host, Operation::StartSession, page).start().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
}

#[test]
fn an_answer_that_is_no_session_is_a_fact() {
    let answered = |status: u16, body: &[u8]| -> Done {
        let (plugin, host) = (named(Some("Tea House")), TestHost::default());
        let page = page("shop.example", None, None);
        let mut drive = Drive::new(&plugin, &host, Operation::StartSession, page);
        drive.start().unwrap().sent();
        let done = drive.answer(status, body).unwrap().done();
        assert!(done.session.is_none(), "{status}");
        done
    };
    let told = |done: Done| {
        let fact = done.facts.into_iter().next().unwrap();
        (fact.what, fact.class.unwrap(), fact.provider_code.unwrap())
    };
    for status in [400, 401, 403, 404, 417] {
        let expected = (What::Declined, Class::Config, format!("http_{status}"));
        assert_eq!(told(answered(status, b"{}")), expected);
    }
    assert_eq!(told(answered(429, b"")).1, Class::RateLimited);
    for status in [500, 503] {
        let expected = (What::Unknown, Class::ProviderDown, format!("http_{status}"));
        assert_eq!(told(answered(status, b"")), expected);
    }
    assert_eq!(told(answered(302, b"")).0, What::Unknown);
    assert_eq!(told(answered(204, b"")).0, What::Unknown);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
    for body in
        [&b""[..], b"{}", b"[]", b"\"x\"", b"{\"a\":1", b"{\"a\":\"\xff\"}", large.as_bytes()]
    {
        assert_eq!(
            told(answered(200, body)),
            (What::Unknown, Class::Unmapped, "unreadable".into())
        );
    }
}

#[test]
fn a_lost_answer_says_nothing() {
    let (plugin, host) = (named(Some("Tea House")), TestHost::default());
    let page = page("shop.example", None, None);
    let mut drive = Drive::new(&plugin, &host, Operation::StartSession, page);
    drive.start().unwrap().sent();
    let done = drive.lost(TransportLoss::MaybeSent).unwrap().done();
    assert_eq!((done.facts[0].what, done.session), (What::Unknown, None));
    assert_eq!(drive.answer(200, b"{}").unwrap_err().kind, FaultKind::Input);
}

#[test]
fn an_account_that_could_not_work_is_not_opened() {
    for (name, value) in [
        ("merchant_id", Value::Null),
        ("merchant_id", json!("")),
        ("merchant_id", json!("two words")),
        ("root_certificate", Value::Null),
        ("root_certificate", json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")),
        ("display_name", json!("x".repeat(65))),
        ("display_name", json!("")),
        ("max_age", json!(0)),
        ("max_age", json!(100_000)),
        ("max_age", json!("300")),
    ] {
        let mut config = config();
        config[name] = value;
        let fault = ApplePay::open(&config).err();
        assert_eq!(fault.map(|fault| fault.kind), Some(FaultKind::Config), "{name}");
    }
}
