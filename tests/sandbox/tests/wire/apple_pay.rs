//! Apple Pay: only a merchant who shows its identity gets sessions; telephones make tokens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use interlock_sandbox::{Config, Sandbox, apple_pay};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MAIN: &str = "applepay-main";
const SESSION: &str = "/paymentservices/paymentSession";
const MERCHANT: &str = "merchant.example.stage";

/// Two folders of keys, made once: the account's and a stranger's.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        for name in [MAIN, "stranger"] {
            apple_pay::write_keys(&folder.join(name)).unwrap();
        }
        folder
    })
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

struct Stage {
    sandbox: Sandbox,
    control: reqwest::Client,
}

impl Stage {
    async fn start() -> Self {
        let text = format!(
            r#"
            [control]
            listen = "127.0.0.1:0"
            [accounts.{MAIN}]
            provider = "applepay"
            listen = "127.0.0.1:0"
            merchant_id = "{MERCHANT}"
            domains = ["shop.example"]
            server_certificate = "{MAIN}/server.pem"
            server_private_key = "{MAIN}/server_private.pem"
            identity_ca = "{MAIN}/identity_ca.pem"
            authority_private_key = "{MAIN}/authority_private.pem"
            processing_private_key = "{MAIN}/processing_private.pem"
            previous_processing_private_key = "{MAIN}/previous_processing_private.pem"
            rsa_processing_private_key = "{MAIN}/rsa_processing_private.pem"
            "#
        );
        let config = Config::parse(&text, folder()).unwrap();
        let sandbox = Sandbox::start(config).await.unwrap();
        Self { sandbox, control: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.sandbox.accounts()[MAIN]
    }

    /// A connection that shows the identity in this folder, if any.
    async fn connect(&self, identity: Option<&str>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = pem(&format!("{MAIN}/server_ca.pem"));
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(name) => {
                let certificate = pem(&format!("{name}/identity.pem"));
                let certificate = CertificateDer::from_pem_slice(&certificate).unwrap();
                let key = pem(&format!("{name}/identity_private.pem"));
                let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Status and body; an error, when the connection ends before.
    async fn ask(
        &self,
        identity: Option<&str>,
        path: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut stream = self.connect(identity).await?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
        read.await.expect("no end in 10 s")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok((head[9..12].parse().unwrap(), body.to_owned()))
    }

    async fn session(&self) -> std::io::Result<(u16, String)> {
        self.ask(Some(MAIN), SESSION, &good().to_string()).await
    }

    async fn control(&self, path: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.sandbox.control());
        let request = match body {
            Value::Null => self.control.get(url),
            body => self.control.post(url).json(&body),
        };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn fault(&self, fault: &str, ms: u64) {
        let order = json!({ "account": MAIN, "operation": "inquire", "fault": fault, "ms": ms });
        assert_eq!(self.control("/faults", order).await.0, 200);
    }

    async fn lift_all(&self) {
        let url = format!("http://{}/faults", self.sandbox.control());
        assert_eq!(self.control.delete(url).send().await.unwrap().status(), 200);
    }

    async fn token(&self, more: Value) -> (u16, Value) {
        let mut order = json!({ "account": MAIN, "amount": 4_900, "currency": "USD" });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.control("/wallets/apple_pay/tokens", order).await
    }
}

fn good() -> Value {
    json!({
        "merchantIdentifier": MERCHANT, "displayName": "Tea/茶", "initiative": "web",
        "initiativeContext": "shop.example",
    })
}

#[tokio::test]
async fn a_merchant_who_shows_its_identity_gets_a_new_session_each_time() {
    let stage = Stage::start().await;
    let (status, one) = stage.session().await.unwrap();
    assert_eq!(status, 200, "{one}");
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one["domainName"], "shop.example");
    assert_eq!(one["displayName"], "Tea/茶");
    let old = "/paymentservices/startSession";
    let two = stage.ask(Some(MAIN), old, &good().to_string()).await.unwrap().1;
    let two: Value = serde_json::from_str(&two).unwrap();
    assert_ne!(one["nonce"], two["nonce"]);
    assert_ne!(one["merchantSessionIdentifier"], two["merchantSessionIdentifier"]);
    let (_, requests) = stage.control("/requests", Value::Null).await;
    assert_eq!(requests[0]["call"], "paymentSession");
    assert_eq!(
        (&requests[0]["operation"], &requests[0]["answered"]),
        (&json!("inquire"), &json!(200))
    );
    assert_eq!(requests[1]["call"], "startSession");
    assert_eq!(requests[0]["provider"], "applepay");
}

#[tokio::test]
async fn nobody_else_gets_a_word() {
    let stage = Stage::start().await;
    for identity in [None, Some("stranger")] {
        assert!(stage.ask(identity, SESSION, &good().to_string()).await.is_err());
    }
    let mut plain = TcpStream::connect(stage.address()).await.unwrap();
    plain.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(stage.control("/requests", Value::Null).await.1, json!([]));
}

#[tokio::test]
async fn a_body_is_checked_member_by_member() {
    let stage = Stage::start().await;
    let asked =
        async |body: Value| stage.ask(Some(MAIN), SESSION, &body.to_string()).await.unwrap();
    for (name, value, status) in [
        ("displayName", json!(""), 400),
        ("displayName", json!("x".repeat(65)), 400),
        ("initiative", json!("in_app"), 400),
        ("initiativeContext", json!("other.example"), 417),
        ("merchantIdentifier", json!("merchant.example.other"), 417),
        ("domainName", json!("shop.example"), 400),
        ("merchantIdentifier", Value::Null, 400),
    ] {
        let mut body = good();
        body[name] = value;
        assert_eq!(asked(body).await.0, status, "{name}");
    }
    assert_eq!(stage.ask(Some(MAIN), SESSION, "{").await.unwrap().0, 400);
    let elsewhere = stage.ask(Some(MAIN), "/paymentservices/other", &good().to_string()).await;
    assert_eq!(elsewhere.unwrap().0, 404);
}

#[tokio::test]
async fn the_dial_breaks_it() {
    let stage = Stage::start().await;
    stage.fault("error_before", 0).await;
    assert_eq!(stage.session().await.unwrap().0, 503);
    stage.lift_all().await;
    stage.fault("garbage", 0).await;
    let (status, body) = stage.session().await.unwrap();
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Value>(&body).is_err());
    stage.lift_all().await;
    stage.fault("rate_limited", 0).await;
    assert_eq!(stage.session().await.unwrap().0, 429);
    stage.lift_all().await;
    stage.fault("slow", 200).await;
    let began = std::time::Instant::now();
    assert_eq!(stage.session().await.unwrap().0, 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
    stage.lift_all().await;
    stage.fault("charge_then_drop", 0).await;
    assert!(stage.session().await.is_err());
    stage.lift_all().await;
    stage.fault("refuse", 0).await;
    let refused = TcpStream::connect(stage.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    stage.lift_all().await;
    assert_eq!(stage.session().await.unwrap().0, 200);
    stage.fault("hang", 0).await;
    let hanging = tokio::time::timeout(Duration::from_millis(300), stage.session()).await;
    assert!(hanging.is_err());
}

#[tokio::test]
async fn a_telephone_makes_tokens_good_and_bad() {
    let stage = Stage::start().await;
    let (status, made) = stage.token(json!({})).await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(made["token"]["version"], "EC_v1");
    let inside = &made["inside"];
    assert_eq!((&inside["amount"], &inside["currency"]), (&json!(4_900), &json!("USD")));
    assert_eq!(inside["transaction_id"], made["token"]["header"]["transactionId"]);
    assert_eq!(inside["number"].as_str().unwrap().len(), 16);
    let (_, another) = stage.token(json!({})).await;
    assert_ne!(inside["transaction_id"], another["inside"]["transaction_id"]);
    let wanted = json!({ "seed": made["seed"], "now_ms": 1_764_000_000_000_i64 });
    assert_eq!(stage.token(wanted.clone()).await, stage.token(wanted).await);

    let hash = |made: &Value| made["token"]["header"]["publicKeyHash"].clone();
    let (_, previous) = stage.token(json!({ "key": "previous" })).await;
    assert_ne!(hash(&previous), hash(&made));
    let (_, rsa) = stage.token(json!({ "key": "rsa", "number": "4000007000000016" })).await;
    assert_eq!(rsa["token"]["version"], "RSA_v1");
    assert_eq!(rsa["inside"]["number"], "4000007000000016");
    let (_, recipient) = stage.token(json!({ "defect": "wrong_recipient" })).await;
    assert_ne!(hash(&recipient), hash(&made));
}

#[tokio::test]
async fn a_token_that_cannot_be_made_is_told() {
    let stage = Stage::start().await;
    for more in [
        json!({ "defect": "no_such_defect" }),
        json!({ "currency": "XYZ" }),
        json!({ "key": "other" }),
        json!({ "now_ms": 0 }),
        json!({ "unknown": 1 }),
        json!({ "account": "nobody" }),
    ] {
        let (status, answer) = stage.token(more.clone()).await;
        assert_eq!(status, 400, "{more}: {answer}");
    }
}

#[test]
fn the_files_are_complete_and_stay() {
    let folder = folder().join(MAIN);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let names = [
        "authority_private.pem",
        "root.pem",
        "processing_private.pem",
        "previous_processing_private.pem",
        "rsa_processing_private.pem",
        "server.pem",
        "server_private.pem",
        "server_ca.pem",
        "identity.pem",
        "identity_private.pem",
        "identity_ca.pem",
    ];
    let before = names.map(read);
    assert_eq!(apple_pay::write_keys(&folder).unwrap(), 0);
    assert_eq!(names.map(read), before);
}
