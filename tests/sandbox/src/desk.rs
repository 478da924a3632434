//! What the fakes of all providers have in common: names, the ledger, the courier, and the
//! plain forms of a request and an answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;

use crate::courier::Courier;
use crate::faults::Operation;
use crate::ledger::{Ledger, Move};

/// One account's place in the sandbox.
pub struct Desk {
    /// The account's name.
    pub account: Arc<str>,
    /// `adyen`, `alipay`, `applepay`, `checkout`, `googlepay`, `paypal`, `stripe` or `wechatpay`.
    pub provider: &'static str,
    /// The ledger of the whole sandbox.
    pub ledger: Arc<Ledger>,
    /// Carries this account's notifications.
    pub courier: Courier,
}

impl Desk {
    /// Writes `moves` to the ledger; call it under the lock of the state that moved the money.
    pub fn write(&self, at_ms: i64, moves: Vec<Move>) {
        self.ledger.write(&self.account, self.provider, at_ms, moves);
    }
}

/// A request, read in full.
#[derive(Debug)]
pub struct Inbound {
    /// The HTTP method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query string, not decoded.
    pub query: String,
    /// As received.
    pub headers: HeaderMap,
    /// At most 1 MiB.
    pub body: Bytes,
}

impl Inbound {
    /// The value of a header, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What an inbound request turned out to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// In the words of the fault dial.
    pub operation: Operation,
    /// The provider's name of the call.
    pub name: String,
    /// The key or order number, as received.
    pub op_id: Option<String>,
}

/// How a decline is forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decline {
    /// Another try may cure it.
    Soft,
    /// For good.
    Hard,
}

/// How a fault bends an execution.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bend {
    /// Declined by the dial.
    pub decline: Option<Decline>,
    /// The answer's signature must not fit.
    pub wrong_signature: bool,
    /// The caller will be answered with a 5xx whatever happens.
    pub fails: bool,
    /// The answer takes so long, in milliseconds.
    pub busy_ms: u64,
}

/// An answer, before it is put on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type; empty for none.
    pub content_type: &'static str,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self { content_type: "application/json; charset=utf-8", ..Self::of(status, body.into()) }
    }

    /// An HTML page.
    pub fn html(status: u16, body: impl Into<Bytes>) -> Self {
        Self { content_type: "text/html; charset=utf-8", ..Self::of(status, body.into()) }
    }

    /// A status alone.
    pub fn empty(status: u16) -> Self {
        Self::of(status, Bytes::new())
    }

    fn of(status: u16, body: Bytes) -> Self {
        Self { status, content_type: "", headers: Vec::new(), body }
    }
}

/// At most `limit` characters of `text`, for logs.
pub fn clipped(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
