//! The shop's webhook: it hears what the proxy tells, and believes only what is signed as
//! Standard Webhooks says. Like every shop it is told some things twice.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use super::book::Book;

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
    /// A payment and the word of its status.
    ends: HashSet<(String, String)>,
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
        let end = |id: &String, word: &str| self.ends.contains(&(id.clone(), word.to_owned()));
        let untold =
            ended.filter(|told| told.id.as_ref().is_some_and(|id| !end(id, told.status.word())));
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
            self.ends.insert((id.to_owned(), word.to_owned()));
        }
        self.ids.insert(message.id.clone());
        true
    }
}

/// The server. It serves until the process ends.
pub struct Hook(Arc<Mutex<Heard>>);

impl Hook {
    /// Listens where `config/demo.toml` says.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(port: u16) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind(address)
            .map_err(|why| format!("the shop's webhook needs port {port}: {why}"))?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let shared = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &heard));
            }
        });
        Ok(Self(heard))
    }

    /// Looks at what was heard.
    pub fn with<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, heard: &Mutex<Heard>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let message = Message::read(&mut reader)?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let believed = heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&message, now_s);
        let status = if believed { "204 No Content" } else { "401 Unauthorized" };
        let length = if believed { "" } else { "Content-Length: 0\r\n" };
        writer.write_all(format!("HTTP/1.1 {status}\r\n{length}\r\n").as_bytes()).ok()?;
    }
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
    /// `None` when the connection ends, or does not speak HTTP.
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let mut message = Self::default();
        let mut length = 0_usize;
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => value.clone_into(&mut message.id),
                "webhook-timestamp" => value.clone_into(&mut message.timestamp),
                "webhook-signature" => value.clone_into(&mut message.signatures),
                "content-length" => length = value.parse().ok().filter(|n| *n <= BODY_MAX)?,
                _ => {}
            }
        }
        message.body.resize(length, 0);
        reader.read_exact(&mut message.body).ok()?;
        Some(message)
    }

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
        let text = b"POST / HTTP/1.1\r\nWebhook-Id: evt_1\r\nWebhook-Timestamp: 1700000000\r\n\
            Webhook-Signature: v1,AAAA v1,xPne4xAciOrpFcDjFrZZt71DLNVq5wdx23WCbUVithA=\r\n\
            Content-Length: 56\r\n\r\n\
            {\"type\":\"payment.succeeded\",\"data\":{\"id\":\"pay_1\",\"n\":1}}";
        Message::read(&mut &text[..]).expect("it is HTTP")
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
