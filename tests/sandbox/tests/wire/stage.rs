//! A sandbox for one test: fresh ports, two accounts of each provider, a hook for notifications.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use interlock_sandbox::keys::{FreshPair, Signer, Verifier, fresh_pair};
use interlock_sandbox::{Config, Sandbox, moment};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const APP_ID: &str = "2021000000000001";
pub const SELLER_ID: &str = "2088000000000002";
pub const SECRET: &str = "sk_sbox_stage";
pub const WEBHOOK_KEY: &str = "hook-key";
pub const API_KEY: &str = "AQE_stage";
pub const STRIPE_KEY: &str = "sk_test_stage";
/// The whole of it is the key.
pub const STRIPE_HOOK: &str = "whsec_stage";
/// As the provider shows it, in hexadecimal.
pub const HMAC_KEY: &str = "73746167652d686d61632d6b6579";

struct Keys {
    app: FreshPair,
    gateway: FreshPair,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys { app: fresh_pair().unwrap(), gateway: fresh_pair().unwrap() })
}

pub fn app_key() -> Signer {
    Signer::read(&keys().app.private_pem).unwrap()
}

pub fn gateway_key() -> Verifier {
    Verifier::read(&keys().gateway.public_pem).unwrap()
}

pub struct Stage {
    pub sandbox: Sandbox,
    pub client: reqwest::Client,
    pub hook: Hook,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with("", "").await
    }

    /// `alipay` and `checkout` are more lines for the accounts of each.
    pub async fn with(alipay: &str, checkout: &str) -> Self {
        Self::with_all(alipay, checkout, "").await
    }

    /// As `with`; `adyen` are more lines for its accounts.
    pub async fn with_all(alipay: &str, checkout: &str, adyen: &str) -> Self {
        Self::with_each(alipay, checkout, adyen, "").await
    }

    /// `stripe` are more lines for its accounts.
    pub async fn with_stripe(stripe: &str) -> Self {
        Self::with_each("", "", "", stripe).await
    }

    async fn with_each(alipay: &str, checkout: &str, adyen: &str, stripe: &str) -> Self {
        let hook = Hook::start().await;
        let mut text = String::from("[control]\nlisten = \"127.0.0.1:0\"\n");
        for name in ["alipay-main", "alipay-backup"] {
            text += &format!(
                "[accounts.{name}]\nprovider = \"alipay\"\nlisten = \"127.0.0.1:0\"\n\
                 app_id = \"{APP_ID}\"\nseller_id = \"{SELLER_ID}\"\n\
                 app_public_key = '''{}'''\ngateway_private_key = '''{}'''\n\
                 gateway_public_key = '''{}'''\nnotify_delay_ms = 0\nnotify_retry_ms = 5\n\
                 {alipay}\n",
                keys().app.public_pem,
                keys().gateway.private_pem,
                keys().gateway.public_pem,
            );
        }
        for name in ["checkout-main", "checkout-backup"] {
            text += &format!(
                "[accounts.{name}]\nprovider = \"checkout\"\nlisten = \"127.0.0.1:0\"\n\
                 secret_key = \"{SECRET}\"\nwebhook_key = \"{WEBHOOK_KEY}\"\n\
                 processing_channel = \"pc_1\"\nnotify_url = \"{}\"\n\
                 notify_delay_ms = 0\nnotify_retry_ms = 5\naction_ms = 5\n{checkout}\n",
                hook.url(),
            );
        }
        for name in ["adyen-main", "adyen-backup"] {
            text += &format!(
                "[accounts.{name}]\nprovider = \"adyen\"\nlisten = \"127.0.0.1:0\"\n\
                 api_key = \"{API_KEY}\"\nmerchant_account = \"StageShop\"\n\
                 hmac_key = \"{HMAC_KEY}\"\nnotify_url = \"{}\"\n\
                 notify_delay_ms = 0\nnotify_retry_ms = 5\naction_ms = 5\n{adyen}\n",
                hook.url(),
            );
        }
        for name in ["stripe-main", "stripe-backup"] {
            text += &format!(
                "[accounts.{name}]\nprovider = \"stripe\"\nlisten = \"127.0.0.1:0\"\n\
                 secret_key = \"{STRIPE_KEY}\"\nwebhook_key = \"{STRIPE_HOOK}\"\n\
                 notify_url = \"{}\"\nnotify_delay_ms = 0\nnotify_retry_ms = 5\n\
                 action_ms = 5\n{stripe}\n",
                hook.url(),
            );
        }
        let config = Config::parse(&text, Path::new(".")).unwrap();
        let sandbox = Sandbox::start(config).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sandbox, client, hook }
    }

    pub fn address(&self, account: &str) -> SocketAddr {
        self.sandbox.accounts()[account]
    }

    /// One Alipay call as the official SDK for Node sends it; the answer's node after its
    /// signature was verified over the raw text.
    pub async fn alipay(&self, account: &str, method: &str, content: Value) -> Value {
        let answer = self.alipay_raw(account, method, content).await;
        verified(&answer).unwrap_or_else(|| panic!("not signed by the gateway: {answer}"))
    }

    pub async fn alipay_raw(&self, account: &str, method: &str, content: Value) -> String {
        let (query, body) = alipay_request(method, &content, &self.hook.url());
        let url = format!("http://{}/gateway.do?{query}", self.address(account));
        let form = "application/x-www-form-urlencoded;charset=UTF-8";
        let request = self.client.post(url).header("content-type", form).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }

    pub async fn barcode(&self, account: &str, number: &str, code: &str) -> Value {
        self.alipay(account, "alipay.trade.pay", barcode(number, code)).await
    }

    pub async fn checkout(
        &self,
        account: &str,
        (method, path): (&str, &str),
        key: Option<&str>,
        body: Value,
    ) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address(account));
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url).bearer_auth(SECRET);
        if let Some(key) = key {
            request = request.header("Cko-Idempotency-Key", key);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// One Adyen call: status, headers, and the body as JSON.
    pub async fn adyen(
        &self,
        account: &str,
        path: &str,
        key: Option<&str>,
        body: Value,
    ) -> (u16, reqwest::header::HeaderMap, Value) {
        let url = format!("http://{}/v72{path}", self.address(account));
        let mut request = self.client.post(url).header("X-API-Key", API_KEY).json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// One Stripe call: status, headers, and the body as JSON.
    pub async fn stripe(
        &self,
        account: &str,
        (method, path): (&str, &str),
        key: Option<&str>,
        pairs: &[(&str, &str)],
    ) -> (u16, reqwest::header::HeaderMap, Value) {
        let url = format!("http://{}/v1{path}", self.address(account));
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method.clone(), url).bearer_auth(STRIPE_KEY);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if method == reqwest::Method::POST {
            let form = "application/x-www-form-urlencoded";
            request = request.header("content-type", form).body(encoded(pairs));
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn pay(&self, account: &str, key: &str, body: Value) -> (u16, Value) {
        self.checkout(account, ("POST", "/payments"), Some(key), body).await
    }

    pub async fn control(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.sandbox.control());
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn fault(&self, order: Value) -> String {
        let (status, answer) = self.control("POST", "/faults", order).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    pub async fn lift_all(&self) {
        assert_eq!(self.control("DELETE", "/faults", Value::Null).await.0, 200);
    }

    pub async fn act(&self, acting: Value) -> (u16, Value) {
        self.control("POST", "/customers/act", acting).await
    }

    /// The ledger of `account` as (kind, amount) pairs.
    pub async fn ledger(&self, account: &str) -> Vec<(String, i64)> {
        let path = format!("/ledger?account={account}");
        let (status, movements) = self.control("GET", &path, Value::Null).await;
        assert_eq!(status, 200);
        let pair =
            |m: &Value| (m["kind"].as_str().unwrap().to_owned(), m["amount"].as_i64().unwrap());
        movements.as_array().expect("a plain array").iter().map(pair).collect()
    }

    /// Sends bytes on a connection of its own.
    pub async fn raw(&self, account: &str, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address(account)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

/// The raw bytes of a barcode payment.
pub fn raw_barcode(number: &str) -> Vec<u8> {
    let content = barcode(number, "280000000000000001");
    let (query, body) = alipay_request("alipay.trade.pay", &content, "");
    let head = format!(
        "POST /gateway.do?{query} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Pairs as a form.
pub fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The raw bytes of a card payment.
pub fn raw_card(key: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST /payments HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n\
         cko-idempotency-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// What the peer did: bytes, and whether the end was an RST.
pub async fn outcome(mut stream: TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let end = tokio::time::timeout(Duration::from_secs(10), end).await.expect("no end in 10 s");
    let reset = end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
    (bytes, reset)
}

pub fn barcode(number: &str, code: &str) -> Value {
    json!({
        "out_trade_no": number, "scene": "bar_code", "auth_code": code,
        "subject": "Tea/茶", "total_amount": "12.34", "product_code": "FACE_TO_FACE_PAYMENT",
    })
}

pub fn card(cryptogram: &str) -> Value {
    json!({
        "source": {
            "type": "network_token", "token": "4900000000001111", "token_type": "applepay",
            "expiry_month": "12", "expiry_year": 2099, "cryptogram": cryptogram, "eci": "05",
        },
        "amount": 4900, "currency": "EUR", "reference": format!("ref-{cryptogram}"),
        "processing_channel_id": "pc_1",
    })
}

/// Query and body of a signed request.
pub fn alipay_request(method: &str, content: &Value, notify_url: &str) -> (String, String) {
    let content = content.to_string();
    let timestamp = moment::beijing(moment::now_ms());
    let mut pairs = vec![
        ("app_id", APP_ID),
        ("biz_content", &content),
        ("charset", "utf-8"),
        ("format", "JSON"),
        ("method", method),
        ("sign_type", "RSA2"),
        ("timestamp", &timestamp),
        ("version", "1.0"),
    ];
    if !notify_url.is_empty() {
        pairs.push(("notify_url", notify_url));
    }
    pairs.sort();
    let text: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let signature = app_key().sign(text.join("&").as_bytes());
    pairs.push(("sign", &signature));
    let (body, query): (Vec<_>, Vec<_>) = pairs.iter().partition(|(k, _)| *k == "biz_content");
    let encode = |pairs: Vec<(&str, &str)>| {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    };
    (encode(query), encode(body))
}

/// The node of an answer whose signature fits the raw text between the node's braces.
pub fn verified(answer: &str) -> Option<Value> {
    let start = answer.find("_response\":")? + "_response\":".len();
    let end = answer.rfind(",\"sign\":\"")?;
    let raw = &answer[start..end];
    let whole: Value = serde_json::from_str(answer).ok()?;
    let good = gateway_key().verifies(raw.as_bytes(), whole["sign"].as_str()?);
    good.then(|| serde_json::from_str(raw).unwrap())
}

/// A notification as it arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub body: String,
    pub signature: Option<String>,
    pub headers: HeaderMap,
}

/// Takes notifications and answers them.
#[derive(Clone)]
pub struct Hook {
    address: SocketAddr,
    inner: Arc<Mutex<HookState>>,
}

struct HookState {
    arrived: Vec<Arrived>,
    refuses: usize,
}

impl Hook {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = HookState { arrived: Vec::new(), refuses: 0 };
        let hook = Self { address, inner: Arc::new(Mutex::new(state)) };
        let routes = Router::new().fallback(take).with_state(hook.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        hook
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1/notifications/x?a=b/c", self.address)
    }

    /// Answers the next `count` deliveries with something that is no acknowledgement.
    pub fn refuse(&self, count: usize) {
        self.inner.lock().unwrap().refuses = count;
    }

    pub fn arrived(&self) -> Vec<Arrived> {
        self.inner.lock().unwrap().arrived.clone()
    }

    /// Waits until `count` notifications are there.
    pub async fn wait(&self, count: usize) -> Vec<Arrived> {
        for _ in 0..1_000 {
            let arrived = self.arrived();
            if arrived.len() >= count {
                return arrived;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {} of {count} notifications in 5 s", self.arrived().len());
    }
}

async fn take(
    State(hook): State<Hook>,
    headers: HeaderMap,
    body: Bytes,
) -> (axum::http::StatusCode, &'static str) {
    let signature = headers.get("cko-signature").map(|v| v.to_str().unwrap().to_owned());
    let body = String::from_utf8(body.to_vec()).unwrap();
    let mut state = hook.inner.lock().unwrap();
    state.arrived.push(Arrived { body, signature, headers });
    let refused = state.refuses > 0;
    state.refuses = state.refuses.saturating_sub(1);
    // To Alipay anything but the seven bytes is none; to Checkout.com a 500 is none.
    let status = if refused { 500 } else { 200 };
    let word = if state.arrived.last().is_some_and(|a| a.body.contains("notificationItems")) {
        "[accepted]"
    } else {
        "success"
    };
    let text = if refused { "success\n" } else { word };
    (status.try_into().unwrap(), text)
}
