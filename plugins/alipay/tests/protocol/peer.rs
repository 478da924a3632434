//! The other side of the wire: keys made for tests, and answers signed as Alipay signs them.

use alipay::Alipay;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{self, Drive, TestHost};
use interlock_plugin_api::{Credential, Fact, Host, Operation, Original, Provider, Request, What};
use ring::signature::{KeyPair, RsaKeyPair};
use serde_json::{Value, json};

pub const RSA2: &str = "rsa-sha256-pkcs1";

const APP: &str = include_str!("../keys/test-only-app.pem");
const ALIPAY: &str = include_str!("../keys/test-only-alipay.pem");
const STRANGER: &str = include_str!("../keys/test-only-stranger.pem");

/// The host of the plugin: our private key, Alipay's public one.
pub fn host() -> TestHost {
    TestHost::default()
        .with_private("app_private_key", &der(APP))
        .with_public("alipay_public_key", &public(ALIPAY))
}

/// What Alipay holds: our public key and its own private one.
pub fn alipay_host() -> TestHost {
    TestHost::default()
        .with_private("alipay", &der(ALIPAY))
        .with_private("stranger", &der(STRANGER))
        .with_public("app", &public(APP))
}

pub fn sign(key: &str, content: &[u8]) -> String {
    BASE64.encode(alipay_host().sign(key, RSA2, content).unwrap())
}

/// The DER inside a PEM of one block.
pub fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(lines).unwrap()
}

fn public(pem: &str) -> Vec<u8> {
    RsaKeyPair::from_pkcs8(&der(pem)).unwrap().public_key().as_ref().to_vec()
}

/// The account that all tests use.
pub fn provider() -> Alipay {
    Alipay::open(&json!({ "app_id": "2021000000000001" })).unwrap()
}

/// A payment of 88.88 yuan.
pub fn payment(flow: &str) -> Request {
    let auth_code = Credential::AuthCode { auth_code: "280000000000000001".into() };
    Request {
        method: "alipay".into(),
        flow: flow.into(),
        credential: (flow == "barcode").then_some(auth_code),
        description: Some("Tea & cake/two".into()),
        notify_url: Some("https://pay.example.com/n/alipay?a=1&b=2".into()),
        ..testkit::request(8_888, "CNY", 2)
    }
}

/// A request of another operation of the payment `op1234567890`: of 10.00 yuan where it gives
/// money back.
pub fn later(op: Operation, flow: &str) -> Request {
    let order = payment(flow);
    let refunds = matches!(op, Operation::Refund | Operation::InquireOperation);
    let mut r = Request {
        credential: None,
        description: None,
        original: Some(Original {
            op_id: order.op_id.clone(),
            provider_ref: None,
            amount: order.amount,
        }),
        target: (op == Operation::InquireOperation).then_some((Operation::Refund, None)),
        ..order
    };
    if refunds {
        r.op_id = "refund42".into();
        r.amount.amount = 1_000;
    }
    r
}

/// Every operation that talks to the gateway, with the method of its request.
pub fn operations() -> [(Operation, Request, &'static str); 8] {
    let later = |op, flow, method| (op, later(op, flow), method);
    [
        (Operation::Authorize, payment("barcode"), "alipay.trade.pay"),
        (Operation::Authorize, payment("qr"), "alipay.trade.precreate"),
        later(Operation::Inquire, "barcode", "alipay.trade.query"),
        later(Operation::Inquire, "qr", "alipay.trade.query"),
        later(Operation::Close, "barcode", "alipay.trade.cancel"),
        later(Operation::Close, "qr", "alipay.trade.close"),
        later(Operation::Refund, "barcode", "alipay.trade.refund"),
        later(Operation::InquireOperation, "barcode", "alipay.trade.fastpay.refund.query"),
    ]
}

/// A signed answer with this exact node.
pub fn sealed(method: &str, node: &str) -> String {
    let name = method.replace('.', "_");
    format!(r#"{{"{name}_response":{node},"sign":"{}"}}"#, sign("alipay", node.as_bytes()))
}

/// The one fact that an operation ends with when this raw body answers it.
pub fn answered(op: Operation, request: Request, status: u16, body: &[u8]) -> Fact {
    let (provider, host) = (provider(), host());
    let mut drive = Drive::new(&provider, &host, op, request);
    drive.start().unwrap().sent();
    let mut done = drive.answer(status, body).unwrap().done();
    assert_eq!(done.facts.len(), 1);
    assert!(!done.verified && done.ack.is_none());
    done.facts.remove(0)
}

/// The fact of a signed answer with this node.
pub fn said(op: Operation, flow: &str, node: Value) -> Fact {
    let (_, request, method) =
        operations().into_iter().find(|(o, r, _)| *o == op && r.flow == flow).unwrap();
    answered(op, request, 200, sealed(method, &node.to_string()).as_bytes())
}

/// Whether a fact settles anything.
pub fn is_definite(fact: &Fact) -> bool {
    !matches!(fact.what, What::Unknown)
}
