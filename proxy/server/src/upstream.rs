//! One HTTP/1.1 exchange with a provider, and the proof of whether a byte of it left this machine.
//!
//! The engine may try another provider after a failure only when the request cannot have been
//! sent, so this room answers exactly one question more than an HTTP client does: [`Sent`].
//! `NotSent` is said only of failures before the first write call (name, connect, TLS handshake,
//! too late); everything after it is `MaybeSent`, a write that failed included, since buffers may
//! deliver what an error denies. A pooled connection that dies under our write is `MaybeSent` too.
//!
//! Built on pingora's `TransportConnector` (connect, TLS, pool with a watcher on each idle
//! connection, liveness test at check-out) and its h1 parser for the answer. The request is
//! written by our own code, for two reasons: head and body leave in one write (pingora's session
//! flushes twice), and the last moment for sending is checked immediately before every write.
//!
//! Provider sockets are opened with `SO_LINGER 0`: to close one is to destroy what the kernel has
//! not yet delivered, so an exchange that was given up cannot arrive a minute later. With
//! `TCP_USER_TIMEOUT` the kernel itself gives up on an unacknowledged request. TLS early data is
//! never used, HTTP/2 is not offered.

mod answer;
mod counters;
mod endpoint;
mod names;
mod request;
mod spill;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::upstreams::peer::{HttpPeer, Peer, Tracer};
use pingora::{ErrorType, tls};
use tokio::time::timeout_at;

pub use counters::UpstreamCounts;
pub use endpoint::{Endpoint, EndpointError, Trust};
pub use spill::Spill;

use counters::{Counters, OpenSockets};
pub(crate) use names::LOOKUPS_MAX;
use names::Names;
use request::Progress;

use crate::failpoint::{self, Side};

/// How many resolved addresses of one provider are tried within one connect budget.
const ADDRESSES_TRIED: usize = 3;

/// Why an exchange was lost; the same words appear in logs, metrics and timelines.
pub mod reason {
    /// Nobody listens at the provider's address.
    pub const CONNECT_REFUSED: &str = "connect_refused";
    /// The connection or its TLS handshake was not ready in time.
    pub const CONNECT_TIMEOUT: &str = "connect_timeout";
    /// The connection could not be opened: no route, no descriptor, reset while connecting.
    pub const CONNECT_FAILED: &str = "connect_failed";
    /// The provider's name has no address, and never had one.
    pub const DNS: &str = "dns";
    /// The name leads to addresses that may not be connected to.
    pub const ADDRESS_REFUSED: &str = "address_refused";
    /// The TLS handshake failed: certificate, name, version.
    pub const TLS: &str = "tls";
    /// `last_send_by` or the deadline passed before the first write.
    pub const TOO_LATE: &str = "too_late";
    /// The request cannot be written as HTTP (a line break in a header, a foreign target).
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// The provider gave no access token, so the request was not sent.
    pub const NO_TOKEN: &str = "no_token";
    /// A write failed after it was begun.
    pub const WRITE_FAILED: &str = "write_failed";
    /// The deadline passed without a whole answer.
    pub const TIMEOUT: &str = "timeout";
    /// The provider reset the connection.
    pub const RESET: &str = "reset";
    /// The provider closed the connection without a byte of an answer.
    pub const CLOSED_WITHOUT_ANSWER: &str = "closed_without_answer";
    /// An answer came that is not whole, or not HTTP.
    pub const UNREADABLE: &str = "unreadable";
    /// The answer is larger than the caller accepts.
    pub const ANSWER_TOO_LARGE: &str = "answer_too_large";

    /// Every reason, in the order in which they are counted.
    pub const ALL: [&str; 15] = [
        CONNECT_REFUSED,
        CONNECT_TIMEOUT,
        CONNECT_FAILED,
        DNS,
        ADDRESS_REFUSED,
        TLS,
        TOO_LATE,
        INVALID_REQUEST,
        NO_TOKEN,
        WRITE_FAILED,
        TIMEOUT,
        RESET,
        CLOSED_WITHOUT_ANSWER,
        UNREADABLE,
        ANSWER_TOO_LARGE,
    ];
}

/// Settings of the pool that all accounts share.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Idle connections kept over all providers; the least recently used is closed first.
    pub pool_size: usize,
    /// How long a connection may stay idle. Shorter than the providers' own limits, so that it is
    /// we who close: a provider that closes while we write makes the outcome unknown.
    pub idle_timeout: Duration,
    /// `TCP_USER_TIMEOUT`: unacknowledged data makes the kernel give the connection up.
    pub user_timeout: Duration,
    /// How long an answer of the resolver is fresh.
    pub dns_ttl: Duration,
    /// How long a refresh may hold up a request that has an older answer at hand.
    pub dns_patience: Duration,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        UpstreamOptions {
            pool_size: 512,
            idle_timeout: Duration::from_secs(20),
            user_timeout: Duration::from_secs(30),
            dns_ttl: Duration::from_secs(30),
            dns_patience: Duration::from_millis(500),
        }
    }
}

/// One request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// Appended to the endpoint's base path; begins with `/` or `?`, or is empty.
    pub path_and_query: String,
    /// Sent in this order and spelling; `Host`, `Content-Length`, `Connection` and
    /// `Transfer-Encoding` are this room's and are left out.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// Budget for name, connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// End of the whole exchange: at this moment the socket is closed.
    pub deadline: Instant,
    /// No byte is written after this moment.
    pub last_send_by: Instant,
    /// The largest answer body accepted, in bytes.
    pub body_limit: usize,
    /// Only the status matters: a longer body is cut off there, and its connection closed.
    pub cut_body: bool,
    /// Has no effect at the provider (a `read`), so it may be sent again on a fresh connection
    /// when a pooled one died under it.
    pub retry_read: bool,
    /// Where the body of a good answer (200) goes instead of memory.
    pub spill: Option<Spill>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Status, 200 to 999.
    pub status: u16,
    /// Names in lower case, values as text, in the order received.
    pub headers: Vec<(String, String)>,
    /// The whole body, unchunked.
    pub body: Bytes,
    /// From the call to the last byte.
    pub elapsed: Duration,
    /// How long name, connect and handshake took; `None` on a pooled connection.
    pub connect_elapsed: Option<Duration>,
    /// A pooled connection carried it.
    pub reused: bool,
}

/// Whether the provider may have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Proven: no byte of the request left.
    NotSent,
    /// A write was begun; nothing can be said.
    MaybeSent,
}

/// An exchange without an answer. The socket is closed before this is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whether the provider may have seen it.
    pub sent: Sent,
    /// One of [`reason::ALL`].
    pub reason: &'static str,
    /// From the call to the loss.
    pub elapsed: Duration,
}

/// What failed and whether a write had begun: a [`Lost`] before its time is known.
#[derive(Clone, Copy, Debug)]
struct Failure {
    sent: Sent,
    reason: &'static str,
}

impl Failure {
    fn not_sent(reason: &'static str) -> Failure {
        Failure { sent: Sent::NotSent, reason }
    }

    fn maybe_sent(reason: &'static str) -> Failure {
        Failure { sent: Sent::MaybeSent, reason }
    }

    /// A pooled connection that the provider had already left fails in one of these ways.
    fn looks_like_a_dead_connection(self) -> bool {
        matches!(self.reason, reason::WRITE_FAILED | reason::RESET | reason::CLOSED_WITHOUT_ANSWER)
    }
}

/// The way out to all providers; cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    options: UpstreamOptions,
    transport: TransportConnector,
    names: Names,
    counters: Arc<Counters>,
}

impl Upstream {
    /// Loads the platform's trusted roots (for endpoints that pin no CA) and opens no socket.
    pub fn new(options: UpstreamOptions) -> Upstream {
        let mut connector = ConnectorOptions::new(options.pool_size);
        // pingora unwraps this load. Without roots every unpinned handshake fails as `tls`, which
        // is provably not sent: better than a proxy that does not start.
        let mut roots = tls::RootCertStore::empty();
        if let Err(error) = tls::load_platform_certs_incl_env_into_store(&mut roots) {
            tracing::warn!(%error, "no trusted roots on this machine: only pinned CAs will do");
            connector.ca_file = Some("/dev/null".to_owned());
        }
        let names = Names::system(options.dns_ttl, options.dns_patience);
        Upstream {
            shared: Arc::new(Shared {
                transport: TransportConnector::new(Some(connector)),
                counters: Arc::new(Counters::default()),
                names,
                options,
            }),
        }
    }

    /// Sends one request and waits for its whole answer, until `outgoing.deadline`.
    ///
    /// Dropping the future closes the socket. When it returns [`Lost`] the socket is closed
    /// already.
    pub async fn send(&self, endpoint: &Endpoint, outgoing: Outgoing) -> Result<Incoming, Lost> {
        let began = Instant::now();
        let progress = Progress::default();
        let deadline = outgoing.deadline.into();
        // The exchange owns its socket, and a finished `await` has dropped the exchange.
        let exchange = self.exchange(endpoint, &outgoing, &progress, began);
        let outcome = timeout_at(deadline, exchange).await;
        outcome.unwrap_or_else(|_| Err(progress.cut())).map_err(|failure| {
            self.shared.counters.lost(failure.reason);
            Lost { sent: failure.sent, reason: failure.reason, elapsed: began.elapsed() }
        })
    }

    /// Where an endpoint listens, for another way out than [`Upstream::send`]: the site and one of
    /// its addresses, in the order in which they are to be tried. None when no name of it has an
    /// address.
    pub async fn peers(&self, endpoint: &Endpoint) -> Option<Vec<(Endpoint, HttpPeer)>> {
        let mut peers = Vec::new();
        for site in endpoint.sites() {
            let addresses = site.addresses(&self.shared.names).await.unwrap_or_default();
            let addresses = addresses.into_iter().take(ADDRESSES_TRIED);
            peers.extend(addresses.map(|address| (site.clone(), self.peer(site, address))));
        }
        (!peers.is_empty()).then_some(peers)
    }

    /// Whether the certificate with this SHA-256, which another way out has met at `peer`, has a
    /// pinned public key. One that is not known yet is looked at on a connection of our own, on
    /// which nothing is sent.
    pub async fn proves(&self, site: &Endpoint, peer: &HttpPeer, leaf: &[u8]) -> bool {
        if site.knows_leaf(leaf) {
            return true;
        }
        let within = peer.options.total_connection_timeout.unwrap_or(Duration::from_secs(1));
        let look = tokio::time::timeout(within, self.shared.transport.new_stream(peer)).await;
        matches!(look, Ok(Ok(stream)) if site.is_pinned(&stream)) && site.knows_leaf(leaf)
    }

    /// Connections that are open and carry nothing.
    pub fn idle(&self) -> usize {
        self.counts().idle
    }

    /// What was counted since start.
    pub fn counts(&self) -> UpstreamCounts {
        self.shared.counters.read()
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        outgoing: &Outgoing,
        progress: &Progress,
        began: Instant,
    ) -> Result<Incoming, Failure> {
        let connect_by = outgoing.deadline.min(began + outgoing.connect_timeout);
        let sites = endpoint.sites();
        let mut last = Failure::not_sent(reason::DNS);
        for (at, site) in sites.iter().enumerate() {
            let wire = request::to_wire(site, outgoing)?;
            request::still_in_time(outgoing.last_send_by, outgoing.deadline)?;
            let left = connect_by.saturating_duration_since(Instant::now());
            let by = Instant::now() + left / (sites.len() - at) as u32;
            match self.at_site(site, &wire, outgoing, progress, by).await {
                // Nothing has left, so another site may have it.
                Err(failure) if failure.sent == Sent::NotSent && progress.is_untouched() => {
                    last = failure;
                }
                outcome => return outcome.map(|(answer, took)| answer.incoming(began, took)),
            }
        }
        Err(last)
    }

    /// The whole exchange at one site; how long connecting took, `None` on a pooled connection.
    async fn at_site(
        &self,
        site: &Endpoint,
        wire: &[u8],
        outgoing: &Outgoing,
        progress: &Progress,
        connect_by: Instant,
    ) -> Result<(answer::Answer, Option<Duration>), Failure> {
        let mut connecting = Instant::now();
        let budget = connect_by.saturating_duration_since(connecting);
        let addresses = timeout_at(connect_by.into(), site.addresses(&self.shared.names))
            .await
            .unwrap_or(Err(Failure::not_sent(reason::DNS)))?;
        let peers: Vec<HttpPeer> = addresses
            .into_iter()
            .take(ADDRESSES_TRIED)
            .map(|address| self.peer(site, address))
            .collect();

        let mut connect_by = connect_by;
        for peer in &peers {
            // Pingora has watched the idle connection, and reads it once more here: a provider
            // that has closed it is noticed before a byte is written.
            let Some(stream) = self.shared.transport.reused_stream(peer).await else {
                continue;
            };
            self.shared.counters.reused();
            match self.converse(stream, peer, wire, outgoing, progress).await {
                Ok(answer) => return Ok((answer, None)),
                Err(failure) if outgoing.retry_read && failure.looks_like_a_dead_connection() => {
                    tracing::debug!(reason = failure.reason, "read again on a fresh connection");
                    progress.begin_again();
                    connecting = Instant::now();
                    connect_by = outgoing.deadline.min(connecting + budget);
                    break;
                }
                Err(failure) => return Err(failure),
            }
        }
        let (stream, peer) = self.connect(site, &peers, connect_by).await?;
        let connect_elapsed = connecting.elapsed();
        let answer = self.converse(stream, peer, wire, outgoing, progress).await?;
        Ok((answer, Some(connect_elapsed)))
    }

    /// Opens a connection to the first address that accepts one; nothing of a request is sent.
    async fn connect<'p>(
        &self,
        site: &Endpoint,
        peers: &'p [HttpPeer],
        connect_by: Instant,
    ) -> Result<(Stream, &'p HttpPeer), Failure> {
        let mut last = Failure::not_sent(reason::DNS);
        for (at, peer) in peers.iter().enumerate() {
            // The time left is shared among the addresses left, so that a silent first one does
            // not use up the budget of its neighbours.
            let left = connect_by.saturating_duration_since(Instant::now());
            let share = left / (peers.len() - at) as u32;
            let attempt = self.shared.transport.new_stream(peer);
            match tokio::time::timeout(share, attempt).await {
                // Whoever signed it: with another key than the pinned one it is not our provider.
                Ok(Ok(stream)) if !site.is_pinned(&stream) => {
                    last = Failure::not_sent(reason::TLS);
                }
                Ok(Ok(stream)) => {
                    self.shared.counters.connected();
                    site.reached(true);
                    return Ok((stream, peer));
                }
                Ok(Err(error)) => last = Failure::not_sent(connect_reason(&error)),
                Err(_) => last = Failure::not_sent(reason::CONNECT_TIMEOUT),
            }
        }
        site.reached(false);
        Err(last)
    }

    /// Writes the request, reads the answer, and gives the connection back when it may be reused.
    async fn converse(
        &self,
        mut stream: Stream,
        peer: &HttpPeer,
        wire: &[u8],
        outgoing: &Outgoing,
        progress: &Progress,
    ) -> Result<answer::Answer, Failure> {
        let _busy = self.shared.counters.busy();
        failpoint::send(Side::Before);
        request::write(&mut stream, wire, outgoing, progress).await?;
        failpoint::send(Side::After);
        let mut answer = answer::read(stream, outgoing).await?;
        let idle = self.shared.options.idle_timeout;
        if let Some((stream, idle_timeout)) = answer.take_reusable(idle).await {
            let key = peer.reuse_hash();
            self.shared.transport.release_stream(stream, key, Some(idle_timeout));
        }
        Ok(answer)
    }

    fn peer(&self, endpoint: &Endpoint, address: std::net::SocketAddr) -> HttpPeer {
        let tracer = Tracer(Box::new(OpenSockets::of(&self.shared.counters)));
        endpoint.peer(address, self.shared.options.user_timeout, tracer)
    }
}

fn connect_reason(error: &pingora::Error) -> &'static str {
    match error.etype() {
        ErrorType::ConnectRefused => reason::CONNECT_REFUSED,
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => reason::CONNECT_TIMEOUT,
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => reason::TLS,
        _ => reason::CONNECT_FAILED,
    }
}
