//! The shop's webhook: it hears what the proxy tells, and believes only what is signed as
//! Standard Webhooks says. Like every shop it is told some things twice.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use super::book::{Book, Status};

/// What signs the messages of the merchant of `config/demo.toml`.
const KEY: &str = "whsec_aW50ZXJsb2NrLWRlbW8td2ViaG9vay1rZXktMzJiISE=";
/// A message whose time is further away is an old one that somebody plays again, seconds.
const TOLERANCE_S: u64 = 300;
/// A body that is longer is no message of ours, bytes.
const BODY_MAX: usize = 1 << 20;

/// What the shop was told.
#[derive(Debug, Default)]
pub struct Heard {
    ids: HashSet<String>,
    ends: HashSet<(String, Status)>,
    unsigned: u64,
}

impl Heard {
    /// Different messages.
    pub fn messages(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Messages whose signature does not fit.
    pub fn unsigned(&self) -> u64 {
        self.unsigned
    }

    /// Payments whose end the merchant knows from an answer and was not told by a message.
    pub fn untold(&self, book: &Book) -> u64 {
        let ended = book.payments().iter().filter(|told| told.status.is_final());
        let heard = |id: &String, end: Status| self.ends.contains(&(id.clone(), end));
        let untold =
            ended.filter(|told| told.id.as_ref().is_some_and(|id| !heard(id, told.status)));
        untold.count() as u64
    }

    fn hear(&mut self, message: &Message, now_s: u64) -> bool {
        if !message.is_signed(now_s) {
            self.unsigned += 1;
            return false;
        }
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let kind = body["type"].as_str().unwrap_or_default();
        if let (Some(word), Some(id)) = (kind.strip_prefix("payment."), body["data"]["id"].as_str())
        {
            self.ends.insert((id.to_owned(), Status::read(word)));
        }
        self.ids.insert(message.id.clone());
        true
    }
}

type Shared = Arc<Mutex<Heard>>;

/// The server. It serves until the process ends.
pub struct Hook(Shared);

impl Hook {
    /// Listens where `config/demo.toml` says.
    ///
    /// # Errors
    /// The port is taken, or there is no thread or file left to serve it with.
    pub fn start(port: u16) -> Result<Self, String> {
        let why = |error: std::io::Error| format!("the shop's webhook needs port {port}: {error}");
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).map_err(why)?;
        listener.set_nonblocking(true).map_err(why)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(why)?;
        let heard = Shared::default();
        let routes = Router::new()
            .route("/", post(listen))
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(Arc::clone(&heard));
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, routes).await
            })
        });
        Ok(Self(heard))
    }

    /// Looks at what was heard.
    pub fn with<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn listen(State(heard): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let message = Message {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signatures: text("webhook-signature"),
        body: body.into(),
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let believed = heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&message, now_s);
    if believed { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
}

/// One message as it came.
#[derive(Debug, Default)]
struct Message {
    id: String,
    timestamp: String,
    signatures: String,
    body: Vec<u8>,
}

impl Message {
    /// Whether one of its signatures is ours, and its time is now.
    fn is_signed(&self, now_s: u64) -> bool {
        let fresh = self.timestamp.parse().is_ok_and(|at: u64| at.abs_diff(now_s) <= TOLERANCE_S);
        let bytes = KEY.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes.unwrap_or_default());
        let signed = [format!("{}.{}.", self.id, self.timestamp).as_bytes(), &self.body].concat();
        let fits = |signature: &str| {
            let tag = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
            tag.is_some_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
        };
        fresh && self.signatures.split(' ').any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Signed apart from this code: `openssl dgst -sha256 -hmac`.
    fn message() -> Message {
        Message {
            id: "evt_1".into(),
            timestamp: "1700000000".into(),
            signatures: "v1,AAAA v1,xPne4xAciOrpFcDjFrZZt71DLNVq5wdx23WCbUVithA=".into(),
            body: br#"{"type":"payment.succeeded","data":{"id":"pay_1","n":1}}"#.to_vec(),
        }
    }

    #[test]
    fn only_what_is_signed_and_fresh_is_believed() {
        let now_s = 1_700_000_000;
        assert!(message().is_signed(now_s) && message().is_signed(now_s + TOLERANCE_S));
        assert!(!message().is_signed(now_s + TOLERANCE_S + 1), "an old one, played again");
        for damage in [
            |m: &mut Message| m.id.push('2'),
            |m: &mut Message| m.timestamp = "1700000001".into(),
            |m: &mut Message| m.body[30] ^= 1,
            |m: &mut Message| m.signatures.clear(),
        ] {
            let mut damaged = message();
            damage(&mut damaged);
            assert!(!damaged.is_signed(now_s), "{damaged:?}");
        }
    }

    #[test]
    fn a_payment_whose_end_was_not_told_is_counted() {
        let mut book = Book::default();
        for id in ["pay_1", "pay_2"] {
            let n = book.open(100, "EUR");
            book.told(n, &json!({ "id": id, "status": "succeeded" }));
        }
        let mut heard = Heard::default();
        assert_eq!(heard.untold(&book), 2);
        assert!(heard.hear(&message(), 1_700_000_000) && heard.hear(&message(), 1_700_000_000));
        assert_eq!((heard.messages(), heard.untold(&book), heard.unsigned()), (1, 1, 0));
        assert!(!heard.hear(&Message::default(), 1_700_000_000));
        assert_eq!(heard.unsigned(), 1);
    }
}
