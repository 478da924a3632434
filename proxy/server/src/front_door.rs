//! The door for merchants: reads one small request whole, then lets a handler answer it.
//!
//! A request is read whole before anything is decided, so that every send to a provider is ours to
//! decide and a half-sent order never starts a payment. The handler runs in a task of its own: a
//! merchant who hangs up loses the answer, not the payment, and a handler that panics costs one
//! 500, not the process.
//!
//! Built on pingora as a `ServerApp` over its h1 session (`ProxyHttp` would abort the provider's
//! call when the merchant leaves, and cannot read a body before it chooses a peer). Pingora has no
//! limit on bodies, connections or the time of a whole request, reads a head of up to a megabyte,
//! and lets a bare line feed pass; so the head is read and judged here, byte by byte, and only a
//! head that two readers cannot read in two ways is handed to pingora's parser.
//!
//! Everything is bounded by [`Limits`]; what the door refuses, it refuses as a problem document.

mod chunks;
mod connection;
mod framing;
mod problem;
mod seats;
mod serving;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora_limits::rate::Rate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::access::Hash;

pub use problem::Problem;
use seats::{ByAddress, Seat, network_of};
pub use serving::{Door, Running, Stopped, serve};
pub use tls::{DoorTls, Reload, TlsError, TlsFiles, TlsOptions};

/// One whole request.
#[derive(Clone, Debug)]
pub struct Request {
    /// As sent; never `CONNECT` or `TRACE`.
    pub method: http::Method,
    /// As sent, not decoded; begins with `/`.
    pub path: String,
    /// What follows the first `?`, not decoded.
    pub query: Option<String>,
    /// Every field, names in lower case.
    pub headers: http::HeaderMap,
    /// The whole body, unchunked; at most [`Limits::body`] bytes.
    pub body: Bytes,
    /// Who is at the other end of the socket.
    pub peer: Option<SocketAddr>,
    /// The public key of the client's certificate, when it proved one in the handshake.
    pub client: Option<Hash>,
    /// The name of the operator's token that let it in; only the operators' door knows any.
    pub token: Option<String>,
    /// `req_` and a ULID; the answer carries it as `Request-Id`.
    pub request_id: String,
}

/// An answer; the door adds `Request-Id`, `Content-Length`, `Date` and `Connection`.
#[derive(Debug, Default)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Written in this order.
    pub headers: Vec<(&'static str, String)>,
    /// The whole body.
    pub body: Bytes,
    /// When present, `body` is only its first part: each further part is sent as it comes, until
    /// the sender is dropped (server-sent events). The door's drain does not wait for it.
    pub stream: Option<mpsc::Receiver<Bytes>>,
}

impl Response {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Response {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Response { status, headers, body: body.into(), stream: None }
    }

    /// An answer of plain text.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Response {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Response { status, headers, body: body.into(), stream: None }
    }
}

/// Answers whole requests. It runs to its end even when the merchant has hung up.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    async fn handle(&self, request: Request) -> Response;
}

/// Takes over requests whose body and answer are streamed; the door has judged their head.
#[async_trait]
pub trait Passage: Send + Sync + 'static {
    /// Whether it takes a request for this path.
    fn takes(&self, path: &str) -> bool;

    /// Serves one request, from its head on.
    async fn pass(&self, session: ServerSession, shutdown: &ShutdownWatch) -> Passed;
}

/// The connection, when another request may follow on it.
pub type Passed = Option<Stream>;

/// What one door accepts.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body, in bytes.
    pub body: usize,
    /// The largest head, request line included, in bytes.
    pub header_bytes: usize,
    /// The most header fields.
    pub header_count: usize,
    /// The longest request target, in bytes.
    pub uri: usize,
    /// From the first byte of a request to its last; also how long a new connection may be silent.
    pub read_timeout: Duration,
    /// For the client to take the answer.
    pub write_timeout: Duration,
    /// How long a connection may be silent between two requests.
    pub keepalive: Duration,
    /// Connections open at once; one more is closed with a 503.
    pub connections: usize,
    /// Connections open at once from one client address (a /64 of IPv6); 0 is no limit.
    pub connections_per_address: usize,
    /// Requests handled at once; one more is answered 503.
    pub inflight: usize,
    /// Requests per second and client address (a /64 of IPv6), before authentication; 0 is
    /// no limit. The count is an estimate that may err upwards when very many addresses call.
    pub rate_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 256 * 1024,
            header_bytes: 16 * 1024,
            header_count: 64,
            uri: 4 * 1024,
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(60),
            connections: 4096,
            connections_per_address: 0,
            inflight: 1024,
            rate_per_address: 2000,
        }
    }
}

/// What one door saw since start; gauges are of this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorCounts {
    /// Connections open.
    pub connections: usize,
    /// Requests at the handler, or whose answer is being written.
    pub inflight: usize,
    /// Requests given to the handler.
    pub requests: u64,
    /// Requests that the door itself refused.
    pub refused: u64,
    /// Handlers that panicked.
    pub panics: u64,
}

/// A handler behind its limits; cheap to clone.
#[derive(Clone)]
pub struct FrontDoor {
    inner: Arc<Inner>,
}

struct Inner {
    handler: Arc<dyn Handler>,
    passage: Option<Arc<dyn Passage>>,
    limits: Limits,
    connections: Arc<Semaphore>,
    by_address: Arc<ByAddress>,
    inflight: Arc<Semaphore>,
    rate: Rate,
    requests: AtomicU64,
    refused: AtomicU64,
    panics: AtomicU64,
}

impl FrontDoor {
    /// A door that is not open yet: [`Door::bind`] gives it an address.
    pub fn new(handler: Arc<dyn Handler>, limits: Limits) -> FrontDoor {
        FrontDoor::with_passage(handler, None, limits)
    }

    /// A door through which some requests pass as they are.
    pub fn with_passage(
        handler: Arc<dyn Handler>,
        passage: Option<Arc<dyn Passage>>,
        limits: Limits,
    ) -> FrontDoor {
        FrontDoor {
            inner: Arc::new(Inner {
                handler,
                passage,
                connections: Arc::new(Semaphore::new(limits.connections)),
                by_address: Arc::default(),
                inflight: Arc::new(Semaphore::new(limits.inflight)),
                rate: Rate::new(Duration::from_secs(1)),
                requests: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                panics: AtomicU64::new(0),
                limits,
            }),
        }
    }

    /// What was counted since start.
    pub fn counts(&self) -> DoorCounts {
        let Inner { limits, connections, inflight, .. } = &*self.inner;
        DoorCounts {
            connections: limits.connections.saturating_sub(connections.available_permits()),
            inflight: limits.inflight.saturating_sub(inflight.available_permits()),
            requests: self.inner.requests.load(Relaxed),
            refused: self.inner.refused.load(Relaxed),
            panics: self.inner.panics.load(Relaxed),
        }
    }

    /// Lets the handler answer in its own task. The permit is free again when both that task and
    /// the returned answer's writer are done.
    async fn answer(&self, request: Request) -> (Response, Option<Arc<OwnedSemaphorePermit>>) {
        let (id, path) = (request.request_id.clone(), request.path.clone());
        let Ok(permit) = self.inner.inflight.clone().try_acquire_owned() else {
            self.inner.refused.fetch_add(1, Relaxed);
            return (Problem::overloaded().response(&id, Some(&path)), None);
        };
        self.inner.requests.fetch_add(1, Relaxed);
        let permit = Arc::new(permit);
        let handler = self.inner.handler.clone();
        let held = permit.clone();
        let task = tokio::spawn(async move {
            let _held = held;
            handler.handle(request).await
        });
        let response = task.await.unwrap_or_else(|error| {
            self.inner.panics.fetch_add(1, Relaxed);
            tracing::error!(request_id = id, %error, "a handler did not answer");
            Problem::internal().response(&id, Some(&path))
        });
        (response, Some(permit))
    }

    /// A place for one connection, until it is dropped; none above the limits.
    fn seat(&self, peer: Option<SocketAddr>) -> Option<Seat> {
        let limit = self.inner.limits.connections_per_address;
        let all = self.inner.connections.clone().try_acquire_owned().ok()?;
        let address = peer.map(|peer| network_of(peer.ip())).filter(|_| limit > 0);
        let own = address.map(|address| self.inner.by_address.take(address, limit));
        match own {
            Some(None) => None,
            own => Some(Seat::new(all, own.flatten())),
        }
    }

    /// Counts one request of this address; false above its limit.
    fn within_rate(&self, peer: Option<SocketAddr>) -> bool {
        let limit = self.inner.limits.rate_per_address;
        let Some(peer) = peer.filter(|_| limit > 0) else {
            return true;
        };
        self.inner.rate.observe(&network_of(peer.ip()), 1) <= limit as isize
    }

    /// Waits until nothing is in flight; new requests are answered 503 from then on.
    async fn emptied(&self) {
        let all = u32::try_from(self.inner.limits.inflight).unwrap_or(u32::MAX);
        if self.inner.inflight.acquire_many(all).await.is_ok() {
            self.inner.inflight.close();
        }
    }

    /// Requests in flight now; none once the door was emptied.
    fn unfinished(&self) -> usize {
        if self.inner.inflight.is_closed() { 0 } else { self.counts().inflight }
    }
}
