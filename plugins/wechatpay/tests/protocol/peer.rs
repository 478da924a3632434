//! The other side of the wire: keys made for tests, and answers signed as WeChat Pay signs them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{self, Drive, TestHost, Wanted};
use interlock_plugin_api::{
    Credential, Event, Fact, Fault, Host, Operation, Original, Provider, Request, Send, What,
};
use ring::signature::{KeyPair, RsaKeyPair};
use serde_json::{Value, json};
use wechatpay::WeChatPay;

pub const RSA: &str = "rsa-sha256-pkcs1";
pub const NUMBER: &str = "op1234567890";
pub const ID: &str = "PUB_KEY_ID_0119000000012025112400000001";
pub const NEXT_ID: &str = "PUB_KEY_ID_0119000000012025112400000002";
pub const SERIAL: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E2";
/// The time of every test, s.
pub const NOW: i64 = 1_764_000_000;
/// The APIv3 key of every test.
pub const API_V3_KEY: &[u8; 32] = b"wechatpay-test-only-key-32-bytes";

const MERCHANT: &str = include_str!("../keys/test-only-merchant.pem");
const WECHATPAY: &str = include_str!("../keys/test-only-wechatpay.pem");
const NEXT: &str = include_str!("../keys/test-only-next.pem");
const STRANGER: &str = include_str!("../keys/test-only-stranger.pem");

/// The host of the plugin: our private key, WeChat Pay's public ones.
pub fn host() -> TestHost {
    TestHost::default()
        .with_private("merchant_private_key", &der(MERCHANT))
        .with_public("wechatpay_public_key", &public("wechatpay"))
        .with_public("next_wechatpay_public_key", &public("next"))
        .with_aead("api_v3_key", API_V3_KEY)
}

/// What WeChat Pay holds: our public key and its own private ones.
pub fn wechat_host() -> TestHost {
    TestHost::default()
        .with_private("wechatpay", &der(WECHATPAY))
        .with_private("next", &der(NEXT))
        .with_private("stranger", &der(STRANGER))
        .with_public("merchant", &public("merchant"))
}

/// The DER inside a PEM of one block.
pub fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(lines).unwrap()
}

/// The public half of a test's key.
pub fn public(name: &str) -> Vec<u8> {
    let pem = match name {
        "merchant" => MERCHANT,
        "wechatpay" => WECHATPAY,
        "next" => NEXT,
        _ => STRANGER,
    };
    RsaKeyPair::from_pkcs8(&der(pem)).unwrap().public_key().as_ref().to_vec()
}

/// A published vector, where it is at hand.
pub fn vector(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(name);
    Some(serde_json::from_str(&std::fs::read_to_string(path).ok()?).unwrap())
}

/// The settings that most tests use.
pub fn config() -> Value {
    json!({
        "appid": "wxd678efh567hg6787", "mchid": "1900000001", "public_key_id": ID,
        "serial_no": "5157F09EFDC096DE15EBE81A47057A7232F1B8E1",
    })
}

pub fn with(change: Value) -> Value {
    let mut config = config();
    for (name, value) in change.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

pub fn provider() -> WeChatPay {
    WeChatPay::open(&config()).unwrap()
}

/// The settings of a partner.
pub fn partner() -> Value {
    with(json!({ "sub_mchid": "1900000109", "sub_appid": "wxsub0000000000001" }))
}

/// A payment of 88.88 yuan.
pub fn payment(flow: &str) -> Request {
    let credential = match flow {
        "barcode" => Some(Credential::AuthCode { auth_code: "134567890123456789".into() }),
        "jsapi" => Some(Credential::OpenId { openid: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".into() }),
        _ => None,
    };
    let mut request = Request {
        method: "wechat_pay".into(),
        flow: flow.into(),
        credential,
        description: Some("Tea, \"cake\" 茶".into()),
        notify_url: Some("https://pay.example.com/n/wechatpay".into()),
        ..testkit::request(8_888, "CNY", 2)
    };
    request.customer.ip = Some(std::net::Ipv4Addr::new(203, 0, 113, 7).into());
    request
}

/// A request of another operation of the payment `op1234567890`: of 10.00 yuan where it gives
/// money back.
pub fn later(op: Operation, flow: &str) -> Request {
    let order = payment(flow);
    let original =
        Original { op_id: order.op_id.clone(), provider_ref: None, amount: order.amount };
    let mut r = Request {
        credential: None,
        description: None,
        original: Some(original),
        target: (op == Operation::InquireOperation).then_some((Operation::Refund, None)),
        ..order
    };
    if matches!(op, Operation::Refund | Operation::InquireOperation) {
        r.op_id = "refund42".into();
        r.amount.amount = 1_000;
    }
    r
}

/// Every operation that asks about money, with the purpose of its first request.
pub fn operations() -> Vec<(Operation, Request, &'static str)> {
    let later = |op, flow, purpose| (op, later(op, flow), purpose);
    vec![
        (Operation::Authorize, payment("qr"), "native"),
        (Operation::Authorize, payment("jsapi"), "jsapi"),
        (Operation::Authorize, payment("app"), "app"),
        (Operation::Authorize, payment("h5"), "h5"),
        (Operation::Authorize, payment("barcode"), "codepay"),
        later(Operation::Inquire, "qr", "query"),
        later(Operation::Inquire, "barcode", "query"),
        later(Operation::Close, "qr", "close"),
        later(Operation::Close, "barcode", "reverse"),
        later(Operation::Refund, "qr", "refund"),
        later(Operation::InquireOperation, "qr", "refund_query"),
    ]
}

pub fn request_of(op: Operation, flow: &str) -> Request {
    let all = operations();
    all.into_iter().find(|(o, r, _)| *o == op && r.flow == flow).unwrap().1
}

type Headers = Vec<(String, String)>;

/// The headers of something that is signed with this key at this time.
pub fn headers(key: &str, serial: &str, at: i64, body: &[u8]) -> Headers {
    let nonce = "d824f2e086d3c1df967785d13fcd22ef";
    let message = [format!("{at}\n{nonce}\n").as_bytes(), body, b"\n"].concat();
    let signature = BASE64.encode(wechat_host().sign(key, RSA, &message).unwrap());
    [
        ("wechatpay-timestamp", at.to_string().as_str()),
        ("wechatpay-nonce", nonce),
        ("wechatpay-serial", serial),
        ("wechatpay-signature", &signature),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// WeChat Pay's own, of now.
pub fn signed(body: &[u8]) -> Headers {
    headers("wechatpay", ID, NOW, body)
}

/// What a step gives for an answer with these headers.
pub fn answer(
    drive: &mut Drive<'_, WeChatPay>,
    status: u16,
    headers: Headers,
    body: &[u8],
) -> Result<Wanted, Fault> {
    drive.step(Event::Response { status, headers }, body)
}

/// The first request of an operation.
pub fn start(config: &Value, op: Operation, request: Request) -> (Send, Vec<u8>) {
    let (provider, host) = (WeChatPay::open(config).unwrap(), host());
    Drive::new(&provider, &host, op, request).start().unwrap().sent()
}

/// The one fact that an operation ends with when this answers it; what is sent after a reverse is
/// answered by the same.
pub fn answered(
    op: Operation,
    request: Request,
    status: u16,
    headers: &Headers,
    body: &[u8],
) -> Fact {
    answered_for(&config(), op, request, status, headers, body)
}

pub fn answered_for(
    config: &Value,
    op: Operation,
    request: Request,
    status: u16,
    headers: &Headers,
    body: &[u8],
) -> Fact {
    let (provider, host) = (WeChatPay::open(config).unwrap(), host());
    let mut drive = Drive::new(&provider, &host, op, request);
    drive.start().unwrap().sent();
    let mut wanted = answer(&mut drive, status, headers.clone(), body).unwrap();
    if matches!(wanted, Wanted::Send(..)) {
        wanted = answer(&mut drive, status, headers.clone(), body).unwrap();
    }
    let mut done = wanted.done();
    assert_eq!(done.facts.len(), 1);
    assert!(!done.verified && done.ack.is_none());
    done.facts.remove(0)
}

/// The fact of a signed answer with this content.
pub fn said(op: Operation, flow: &str, content: Value) -> Fact {
    let body = content.to_string().into_bytes();
    answered(op, request_of(op, flow), 200, &signed(&body), &body)
}

/// The fact of an error, which nobody signs.
pub fn failed(op: Operation, flow: &str, status: u16, code: &str) -> Fact {
    let body = json!({ "code": code, "message": "x" }).to_string();
    answered(op, request_of(op, flow), status, &Vec::new(), body.as_bytes())
}

/// An order as WeChat Pay shows it.
pub fn order(state: &str, members: Value) -> Value {
    let mut order = json!({
        "appid": "wxd678efh567hg6787", "mchid": "1900000001", "out_trade_no": NUMBER,
        "trade_state": state, "trade_state_desc": "x",
        "amount": { "total": 8_888, "currency": "CNY" },
    });
    for (name, value) in members.as_object().unwrap() {
        order[name] = value.clone();
    }
    order
}

/// What a paid order shows besides.
pub fn paid() -> Value {
    json!({
        "transaction_id": "4200000000202511240000000001",
        "success_time": "2025-11-25T00:00:01+08:00",
        "amount": { "total": 8_888, "payer_total": 8_888, "currency": "CNY",
                    "payer_currency": "CNY" },
    })
}

pub fn refund(status: &str) -> Value {
    json!({
        "refund_id": "50000000382019052709732678859", "out_refund_no": "refund42",
        "out_trade_no": NUMBER, "transaction_id": "4200000000202511240000000001",
        "status": status, "amount": { "total": 8_888, "refund": 1_000, "currency": "CNY" },
    })
}

/// A good answer to each operation.
pub fn good(purpose: &str) -> (u16, Vec<u8>) {
    let body = match purpose {
        "native" => json!({ "code_url": "weixin://wxpay/bizpayurl?pr=p4lpSuKzz" }),
        "jsapi" | "app" => json!({ "prepay_id": "wx26112221580621e9b071c00d9e093b0000" }),
        "h5" => json!({ "h5_url": "https://wx.tenpay.com/x?prepay_id=wx2016&package=1" }),
        "codepay" | "query" => order("SUCCESS", paid()),
        "reverse" => order("REVOKED", json!({})),
        "refund" | "refund_query" => refund("SUCCESS"),
        _ => return (204, Vec::new()),
    };
    (200, body.to_string().into_bytes())
}

/// Whether a fact settles anything.
pub fn is_definite(fact: &Fact) -> bool {
    !matches!(fact.what, What::Unknown)
}
