//! A merchant of WeChat Pay for one test: it signs requests, verifies answers and opens seals.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_sandbox::keys::{FreshPair, Signer, Verifier, fresh_pair};
use interlock_sandbox::{Config, Sandbox, moment};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};

pub const MCHID: &str = "1900000001";
pub const APPID: &str = "wxd678efh567hg6787";
pub const SERIAL: &str = "3775B6A45ACD588826D15E583A95F5DD00000001";
pub const API_KEY: &str = "stage0stage0stage0stage0stage000";
pub const KEY_ID: &str = "PUB_KEY_ID_0119000000012026010100000001";
pub const ACCOUNT: &str = "wechatpay-main";

/// `merchant`, `platform`, `next` and `public`; each is made when it is first asked for.
pub fn pair(role: &str) -> &'static FreshPair {
    static PAIRS: [OnceLock<FreshPair>; 4] = [const { OnceLock::new() }; 4];
    let roles = ["merchant", "platform", "next", "public"];
    let place = roles.iter().position(|known| *known == role).unwrap();
    PAIRS[place].get_or_init(|| fresh_pair().unwrap())
}

pub fn verifier(role: &str) -> Verifier {
    Verifier::read(&pair(role).public_pem).unwrap()
}

pub struct Shop {
    pub sandbox: Sandbox,
    pub client: reqwest::Client,
    pub hook: Hook,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn is_signed_by(&self, role: &str) -> bool {
        is_signed(&self.headers, &self.body, &verifier(role))
    }
}

impl Shop {
    /// `lines` are more lines for the account.
    pub async fn with(lines: &str) -> Self {
        let hook = Hook::start().await;
        let text = format!(
            "[control]\nlisten = \"127.0.0.1:0\"\n[accounts.{ACCOUNT}]\n\
             provider = \"wechatpay\"\nlisten = \"127.0.0.1:0\"\nmchid = \"{MCHID}\"\n\
             appid = \"{APPID}\"\nmerchant_serial = \"{SERIAL}\"\n\
             merchant_public_key = '''{}'''\napi_v3_key = \"{API_KEY}\"\n\
             platform_private_key = '''{}'''\nnotify_delay_ms = 0\nnotify_retry_ms = 5\n\
             {lines}\n",
            pair("merchant").public_pem,
            pair("platform").private_pem,
        );
        let config = Config::parse(&text, Path::new(".")).unwrap();
        let sandbox = Sandbox::start(config).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().user_agent("shop").build().unwrap();
        Self { sandbox, client, hook }
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.sandbox.accounts()[ACCOUNT])
    }

    /// A request, signed; a body of null is none.
    pub fn request(&self, method: &str, target: &str, body: &Value) -> reqwest::RequestBuilder {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let now = moment::now_ms() / 1_000;
        let header = authorization(method, target, &body, now);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.client
            .request(method, self.url(target))
            .header("accept", "application/json")
            .header("authorization", header)
            .header("content-type", "application/json")
            .body(body)
    }

    pub async fn send(request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    pub async fn reply(&self, method: &str, target: &str, body: Value) -> Reply {
        Self::send(self.request(method, target, &body)).await
    }

    /// Status and body of a call, after the signature of a good answer was verified; a refusal
    /// carries none.
    pub async fn call(&self, method: &str, target: &str, body: Value) -> (u16, Value) {
        let reply = self.reply(method, target, body).await;
        if reply.status < 300 {
            assert!(reply.is_signed_by("platform"), "{target}: not signed by the platform");
        } else {
            assert!(!reply.headers.contains_key("wechatpay-signature"), "{target}");
        }
        (reply.status, reply.json())
    }

    /// The code of a refusal, after its status was compared.
    pub async fn refused(&self, status: u16, method: &str, target: &str, body: Value) -> String {
        let (got, answer) = self.call(method, target, body).await;
        assert_eq!(got, status, "{target}: {answer}");
        answer["code"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn create(&self, way: &str, body: Value) -> (u16, Value) {
        self.call("POST", &format!("/v3/pay/transactions/{way}"), body).await
    }

    pub async fn pay(&self, number: &str, code: &str) -> (u16, Value) {
        self.create("codepay", barcode(number, code)).await
    }

    pub async fn query(&self, number: &str) -> Value {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}?mchid={MCHID}");
        let (status, answer) = self.call("GET", &target, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub async fn state(&self, number: &str) -> String {
        self.query(number).await["trade_state"].as_str().unwrap().to_owned()
    }

    pub async fn reverse(&self, number: &str) -> (u16, Value) {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}/reverse");
        self.call("POST", &target, json!({ "appid": APPID, "mchid": MCHID })).await
    }

    pub async fn close(&self, number: &str) -> (u16, Value) {
        let target = format!("/v3/pay/transactions/out-trade-no/{number}/close");
        self.call("POST", &target, json!({ "mchid": MCHID })).await
    }

    pub async fn refund(&self, body: Value) -> (u16, Value) {
        self.call("POST", "/v3/refund/domestic/refunds", body).await
    }

    /// Asks about a refund until it has `status`.
    pub async fn refund_becomes(&self, number: &str, status: &str) -> Value {
        let target = format!("/v3/refund/domestic/refunds/{number}");
        for _ in 0..1_000 {
            let (_, answer) = self.call("GET", &target, Value::Null).await;
            if answer["status"] == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the refund {number} never was {status}");
    }

    pub async fn control(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.sandbox.control());
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = self.client.request(method, url).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn act(&self, acting: Value) -> (u16, Value) {
        let mut acting = acting;
        acting["account"] = ACCOUNT.into();
        self.control("POST", "/customers/act", acting).await
    }

    pub async fn portal(&self, acting: Value) -> (u16, Value) {
        let mut acting = acting;
        acting["account"] = ACCOUNT.into();
        self.control("POST", "/portal", acting).await
    }

    pub async fn fault(&self, operation: &str, fault: &str) {
        let order = json!({ "account": ACCOUNT, "operation": operation, "fault": fault });
        assert_eq!(self.control("POST", "/faults", order).await.0, 200);
    }

    pub async fn lift_all(&self) {
        assert_eq!(self.control("DELETE", "/faults", Value::Null).await.0, 200);
    }

    /// The ledger as text: kind, amount and order of each movement.
    pub async fn ledger(&self) -> Vec<String> {
        let (_, movements) = self.control("GET", "/ledger", Value::Null).await;
        let show =
            |m: &Value| format!("{} {} {}", word(&m["kind"]), m["amount"], word(&m["reference"]));
        movements.as_array().unwrap().iter().map(show).collect()
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A native, jsapi, app or h5 order that has everything.
pub fn order(number: &str, hook: &Hook) -> Value {
    json!({
        "appid": APPID, "mchid": MCHID, "description": "Tea, 茶", "out_trade_no": number,
        "notify_url": hook.url(), "amount": { "total": 1234, "currency": "CNY" },
        "payer": { "openid": "o-shopper" },
        "scene_info": { "payer_client_ip": "127.0.0.1", "h5_info": { "type": "Wap" } },
    })
}

pub fn barcode(number: &str, code: &str) -> Value {
    json!({
        "appid": APPID, "mchid": MCHID, "description": "Tea", "out_trade_no": number,
        "amount": { "total": 1234, "currency": "CNY" }, "payer": { "auth_code": code },
        "scene_info": { "store_info": { "id": "0001" } },
    })
}

pub fn refund_of(number: &str, refund_no: &str, fen: i64) -> Value {
    json!({
        "out_trade_no": number, "out_refund_no": refund_no,
        "amount": { "refund": fen, "total": 1234, "currency": "CNY" },
    })
}

/// What a request's signature covers.
pub fn message(method: &str, target: &str, body: &str, timestamp: i64, nonce: &str) -> String {
    format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n")
}

pub fn authorization(method: &str, target: &str, body: &str, timestamp: i64) -> String {
    let key = Signer::read(&pair("merchant").private_pem).unwrap();
    let nonce = "593BEC0C930BF1AFEB40B4A08C8FB242";
    let signature = key.sign(message(method, target, body, timestamp, nonce).as_bytes());
    format!(
        "WECHATPAY2-SHA256-RSA2048 mchid=\"{MCHID}\",nonce_str=\"{nonce}\",\
         signature=\"{signature}\",timestamp=\"{timestamp}\",serial_no=\"{SERIAL}\""
    )
}

pub fn is_signed(headers: &HeaderMap, body: &[u8], key: &Verifier) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let names = ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature"];
    let [Some(timestamp), Some(nonce), Some(signature)] = names.map(header) else {
        return false;
    };
    let head = format!("{timestamp}\n{nonce}\n");
    key.verifies(&[head.as_bytes(), body, b"\n"].concat(), signature)
}

/// Opens a seal with `key`, or says that it does not fit.
pub fn opened(key: &str, resource: &Value) -> Option<String> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).unwrap());
    let nonce: [u8; 12] = word(&resource["nonce"]).as_bytes().try_into().unwrap();
    let associated = Aad::from(word(&resource["associated_data"]).as_bytes());
    let mut sealed = BASE64.decode(word(&resource["ciphertext"])).unwrap();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let text = key.open_in_place(nonce, associated, &mut sealed).ok()?;
    Some(String::from_utf8(text.to_vec()).unwrap())
}

/// A notification as it arrived.
#[derive(Debug, Clone)]
pub struct Told {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Told {
    pub fn is_signed(&self) -> bool {
        is_signed(&self.headers, &self.body, &verifier("platform"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// What was sealed in it.
    pub fn content(&self) -> Value {
        let text =
            opened(API_KEY, &self.json()["resource"]).expect("sealed with the merchant's key");
        serde_json::from_str(&text).unwrap()
    }
}

/// Takes notifications. It refuses false signatures, and as many good ones as it was told.
#[derive(Clone)]
pub struct Hook {
    address: SocketAddr,
    inner: Arc<Mutex<(Vec<Told>, usize)>>,
}

impl Hook {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hook = Self { address, inner: Arc::default() };
        let routes = Router::new().fallback(take).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        hook
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1/notifications/x", self.address)
    }

    pub fn refuse(&self, count: usize) {
        self.inner.lock().unwrap().1 = count;
    }

    pub fn told(&self) -> Vec<Told> {
        self.inner.lock().unwrap().0.clone()
    }

    /// Waits until `count` notifications are there.
    pub async fn wait(&self, count: usize) -> Vec<Told> {
        for _ in 0..1_000 {
            let told = self.told();
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {} of {count} notifications in 5 s", self.told().len());
    }
}

async fn take(
    State(hook): State<Hook>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let told = Told { headers, body };
    let good = told.is_signed();
    let mut inner = hook.inner.lock().unwrap();
    inner.0.push(told);
    if good && inner.1 == 0 {
        // The word says no and the status says yes: the status counts.
        return (StatusCode::OK, "{\"code\":\"FAIL\"}");
    }
    inner.1 = inner.1.saturating_sub(1);
    (StatusCode::UNAUTHORIZED, "{\"code\":\"FAIL\",\"message\":\"no\"}")
}
