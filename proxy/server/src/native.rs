//! The native pass-through: `/native/{account}/...` speaks the provider's own API, so that only the
//! base URL changes in a merchant's SDK.
//!
//! Built on pingora's `ProxyHttp`: head, body and answer are streamed, the provider's signatures
//! pass untouched; only a chunked body is read whole first. What the account shares with the
//! unified API applies here too: its breaker, its limit, its requests in flight, its metrics.
//! Another address or site of the provider is tried only while connecting; once a byte may have
//! left, a request that is not a plain read is never sent again, and the merchant is told that its
//! outcome is unknown. Nothing is journalled: what was paid here is between the merchant and the
//! provider.
//!
//! The merchant proves itself by `X-Interlock-Key`, because its SDK fills `Authorization` itself,
//! or by a client certificate; the header never leaves this house. Bodies, queries and headers are
//! not logged.

mod refusal;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use interlock_circuit_breaker::Verdict;
use interlock_engine::gates::{Group, Reservation};
use interlock_engine::{Sent, Skip, TIMEOUT_MAX_MS, classify};
use interlock_plugin_api::Effect;
use pingora::apps::HttpServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use crate::access::{Hash, Scope};
use crate::config::Merchant;
use crate::front_door::{Passage, Passed};
use crate::metrics::Metrics;
use crate::node::NodeClock;
use crate::setup::{InForce, OpenAccount, Setup};
use crate::upstream::{Endpoint, Upstream, reason};

use refusal::Refusal;

/// Every path of the pass-through begins so.
pub const PREFIX: &str = "/native/";
/// The method under which its breakers and metrics stand.
pub const METHOD: &str = "native";
/// Proves who calls; it is removed before anything is forwarded.
const KEY_HEADER: &str = "x-interlock-key";
/// Bound on one request from its head to the last byte of its answer. Single reads and writes have
/// the account's timeout; somebody who sends a byte now and then must not hold a place for ever.
const WHOLE_MAX: Duration = Duration::from_millis(2 * TIMEOUT_MAX_MS);
/// How many addresses are tried while connecting.
const CONNECTS_MAX: usize = 8;
/// Connections to providers that are kept open and idle.
const POOL_SIZE: usize = 256;
/// What a request is called that the plugin's manifest does not list.
const UNLISTED: &str = "unlisted";

/// The pass-through of all accounts.
pub struct Native {
    proxy: Arc<HttpProxy<Way>>,
}

/// What the pass-through works with.
pub struct Way {
    /// The accounts with their gates, and who may call.
    pub in_force: Arc<InForce>,
    /// This process's clock.
    pub clock: Arc<NodeClock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Knows the addresses of providers.
    pub upstream: Upstream,
    /// The largest request body, bytes.
    pub body_limit: usize,
    /// How long a body may take to arrive whole, however steadily it drips.
    pub body_within: Duration,
}

/// One request on its way.
#[derive(Default)]
pub struct Visit {
    /// The configuration that it began with.
    setup: Option<Arc<Setup>>,
    target: Option<Target>,
    reservation: Option<Reservation>,
    began: Option<Instant>,
    /// Sites and addresses that are left to try while connecting.
    peers: Vec<(Endpoint, HttpPeer)>,
    /// The one that is tried.
    site: Option<Endpoint>,
    /// A connection stood, so bytes may have left.
    connected: bool,
    received: usize,
    answered: Option<u16>,
}

impl Visit {
    /// The site comes last for a while, when no address of it is left to try.
    fn not_reached(&self) {
        let Some(site) = &self.site else { return };
        if self.peers.last().is_none_or(|(next, _)| next.authority() != site.authority()) {
            site.reached(false);
        }
    }
}

struct Target {
    account: Arc<OpenAccount>,
    endpoint: String,
    path_and_query: String,
    purpose: String,
    reads: bool,
}

impl Target {
    /// `/native/ACCOUNT/path`, or `/native/ACCOUNT@ENDPOINT/path` where a plugin has several: the
    /// provider's host with the path that its SDK asks for.
    fn of(setup: &Setup, head: &RequestHeader) -> Result<Self, Refusal> {
        let path_and_query = std::str::from_utf8(head.raw_path()).unwrap_or_default();
        let rest = path_and_query.strip_prefix(PREFIX).unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (named, path_and_query) = rest.split_at(end);
        let (name, endpoint) = match named.split_once('@') {
            Some((name, endpoint)) => (name, Some(endpoint)),
            None => (named, None),
        };
        let account = setup.get(name).ok_or_else(|| Refusal::unknown_account(name))?;
        let endpoint = match endpoint {
            Some(endpoint) => account.endpoints.get_key_value(endpoint),
            None => account.endpoints.first_key_value(),
        };
        let (endpoint, base) = endpoint.ok_or_else(|| Refusal::unknown_account(named))?;
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, query),
            None => (path_and_query, ""),
        };
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let method = head.method.as_str();
        // The manifest's paths stand behind the endpoint's own; an SDK brings the whole path.
        let behind = path.strip_prefix(base.prefix()).unwrap_or(path);
        let rule = account.manifest().contract.rule(method, behind, &pairs);
        let purpose = rule.map_or(UNLISTED, |rule| rule.purpose.as_str()).to_owned();
        let reads = rule.is_some_and(|rule| rule.effect == Effect::Read);
        // A base URL alone has no path of its own.
        let slash = if path.is_empty() { "/" } else { "" };
        let path_and_query = format!("{slash}{path_and_query}");
        let (account, endpoint) = (Arc::clone(account), endpoint.clone());
        Ok(Self { account, endpoint, path_and_query, purpose, reads })
    }

    fn group(&self) -> Group {
        if self.reads { Group::Inquiries } else { Group::Payments }
    }
}

impl Native {
    /// Opens no socket.
    pub fn new(way: Way) -> Self {
        let conf = ServerConf {
            max_retries: CONNECTS_MAX,
            upstream_keepalive_pool_size: POOL_SIZE,
            ..ServerConf::default()
        };
        Self { proxy: Arc::new(http_proxy(&Arc::new(conf), way)) }
    }
}

#[async_trait]
impl Passage for Native {
    fn takes(&self, path: &str) -> bool {
        path.starts_with(PREFIX)
    }

    async fn pass(&self, session: ServerSession, shutdown: &ShutdownWatch) -> Passed {
        // Cut off, the sockets close and the place is free again.
        let passing = self.proxy.process_new_http(session, shutdown);
        let reused = tokio::time::timeout(WHOLE_MAX, passing).await.ok()?;
        reused.map(|stream| stream.consume().0)
    }
}

#[async_trait]
impl ProxyHttp for Way {
    type CTX = Visit;

    fn new_ctx(&self) -> Visit {
        Visit::default()
    }

    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {
        // Nothing is compressed, decompressed or rewritten on the way.
    }

    async fn request_filter(&self, session: &mut Session, visit: &mut Visit) -> OrError<bool> {
        visit.began = Some(Instant::now());
        let tls = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
        let client = tls.and_then(|tls| tls.extension.get::<Hash>().copied());
        match self.admit(session.req_header(), client, visit) {
            Ok(()) => Ok(false),
            Err(refusal) => {
                // What is left of the body is not read, so the connection ends with the answer.
                session.set_keepalive(None);
                refusal.write(session).await?;
                Ok(true)
            }
        }
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        whole: bool,
        visit: &mut Visit,
    ) -> OrError<()> {
        visit.received += body.as_ref().map_or(0, Bytes::len);
        if visit.received > self.body_limit {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is too large"));
        }
        if !whole && visit.began.is_some_and(|began| began.elapsed() > self.body_within) {
            return Err(Error::explain(ErrorType::HTTPStatus(408), "the body took too long"));
        }
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, visit: &mut Visit) -> OrError<Box<HttpPeer>> {
        let Some(target) = &visit.target else {
            return Err(Error::new(ErrorType::InternalError));
        };
        if visit.site.is_none() {
            visit.peers = self.peers(target).await?;
            visit.peers.reverse();
        }
        let next = visit.peers.pop().ok_or_else(|| Error::new_up(ErrorType::ConnectError))?;
        let (site, peer) = next;
        visit.site = Some(site);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        visit: &mut Visit,
    ) -> OrError<()> {
        let (Some(target), Some(site)) = (&visit.target, &visit.site) else {
            return Err(Error::new(ErrorType::InternalError));
        };
        request.remove_header(KEY_HEADER);
        request.insert_header("Host", site.authority())?;
        request.set_raw_path(target.path_and_query.as_bytes())
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        peer: &HttpPeer,
        #[cfg(unix)] _: std::os::unix::io::RawFd,
        digest: Option<&pingora::protocols::Digest>,
        visit: &mut Visit,
    ) -> OrError<()> {
        let Some(site) = &visit.site else { return Err(Error::new(ErrorType::InternalError)) };
        let leaf = digest.and_then(|digest| digest.ssl_digest.as_ref());
        let leaf = leaf.map(|tls| tls.cert_digest.as_slice()).unwrap_or_default();
        if !self.upstream.proves(site, peer, leaf).await {
            let told = "the provider's public key is not the pinned one";
            return Err(Error::explain(ErrorType::InvalidCert, told).into_up());
        }
        site.reached(true);
        visit.connected = true;
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        visit: &mut Visit,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // No byte of the request has left, so another address may have it.
        error.set_retry(!visit.peers.is_empty());
        visit.not_reached();
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        visit: &mut Visit,
        reused: bool,
    ) -> Box<Error> {
        // A plain read may be repeated when a pooled connection died under it; nothing else is.
        let plain = session.req_header().method == http::Method::GET;
        let reads = visit.target.as_ref().is_some_and(|target| target.reads);
        if !visit.connected {
            // It was the wrong certificate, before a byte was written.
            error.set_retry(!visit.peers.is_empty());
            visit.not_reached();
        } else if plain && reads && !session.as_ref().retry_buffer_truncated() {
            error.retry.decide_reuse(reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        answer: &mut pingora::http::ResponseHeader,
        visit: &mut Visit,
    ) -> OrError<()> {
        visit.answered = Some(answer.status.as_u16());
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        visit: &mut Visit,
    ) -> FailToProxy {
        let refusal = Refusal::of(error, visit.connected);
        let code = refusal.status;
        // Whoever hears of it and asks again meets a breaker that has heard of it too.
        self.ended(Some(error), visit);
        if session.response_written().is_none() {
            session.set_keepalive(None);
            let _ = refusal.write(session).await;
        }
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    async fn logging(&self, _: &mut Session, error: Option<&Error>, visit: &mut Visit) {
        self.ended(error, visit);
    }

    fn request_summary(&self, session: &Session, visit: &Visit) -> String {
        // Never the query: some providers put credentials there.
        let account = visit.target.as_ref().map_or("?", |t| t.account.name.as_str());
        format!("native {} {account}", session.req_header().method)
    }
}

type OrError<T> = pingora::Result<T>;

impl Way {
    /// Who calls, whom it wants to reach, and a place there.
    fn admit(
        &self,
        head: &RequestHeader,
        client: Option<Hash>,
        visit: &mut Visit,
    ) -> Result<(), Refusal> {
        let setup = self.in_force.setup();
        // By the key in its own header; where that is absent, by the client certificate.
        let key = head.headers.get(KEY_HEADER).map(|value| value.as_bytes());
        let caller = Merchant::of_caller(&setup.merchants, key, client);
        let caller = caller.ok_or_else(Refusal::unauthorized)?;
        let merchant = caller.merchant;
        let now = self.clock.now();
        setup.gates.admit_merchant(&merchant.name, now).map_err(|wait_ms| {
            self.metrics.limited("merchant", &merchant.name);
            Refusal::rate_limited(wait_ms)
        })?;
        if !caller.credential.allows(Scope::Native) {
            return Err(Refusal::out_of_scope(&caller.credential.name));
        }
        if head.headers.contains_key("upgrade") {
            return Err(Refusal::upgrade());
        }
        let told = head.headers.get("content-length").and_then(|v| v.to_str().ok()?.parse().ok());
        if told.is_some_and(|bytes: usize| bytes > self.body_limit) {
            return Err(Refusal::too_large());
        }
        let target = Target::of(&setup, head)?;
        let group = target.group();
        let account = target.account.name.clone();
        let reserved = setup.gates.reserve(&account, METHOD, group, now);
        let reservation = reserved.map_err(|skip| self.skipped(&account, skip))?;
        if group == Group::Payments {
            setup.recent.began(&account, now.mono_ms);
        }
        (visit.target, visit.reservation) = (Some(target), Some(reservation));
        visit.setup = Some(setup);
        Ok(())
    }

    fn skipped(&self, account: &str, skip: Skip) -> Refusal {
        self.metrics.skipped(account, skip.as_str());
        Refusal::no_place(account, skip)
    }

    /// Where to connect to, in order: every address of every site. They share the time.
    async fn peers(&self, target: &Target) -> OrError<Vec<(Endpoint, HttpPeer)>> {
        let endpoint = target.account.endpoints.get(&target.endpoint);
        let Some(endpoint) = endpoint else { return Err(Error::new(ErrorType::InternalError)) };
        let mut peers = self.upstream.peers(endpoint).await.ok_or_else(|| {
            Error::explain(ErrorType::ConnectNoRoute, "the provider's name has no address")
                .into_up()
        })?;
        peers.truncate(CONNECTS_MAX);
        let timeout = target.account.timeout;
        let share = target.account.connect_timeout / peers.len().max(1) as u32;
        for (_, peer) in &mut peers {
            peer.options.total_connection_timeout = Some(share);
            peer.options.connection_timeout = Some(share);
            peer.options.read_timeout = Some(timeout);
            peer.options.write_timeout = Some(timeout);
        }
        Ok(peers)
    }

    /// Tells the account's gates once what became of a request.
    fn ended(&self, error: Option<&Error>, visit: &mut Visit) {
        let (target, reservation) = (visit.target.as_ref(), visit.reservation.take());
        let Some(((setup, target), reservation)) =
            visit.setup.as_ref().zip(target).zip(reservation)
        else {
            return;
        };
        let elapsed = visit.began.map_or(Duration::ZERO, |began| began.elapsed());
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let account = target.account.name.as_str();
        let now = self.clock.now();
        let verdict = match (visit.answered, error) {
            (Some(status), None) => self.heard(setup, target, status),
            // The merchant left or sent too much: nothing is said about the provider.
            (_, Some(error)) if *error.esource() != pingora::ErrorSource::Upstream => {
                Verdict::Ignored
            }
            (_, _) => {
                let sent = if visit.connected { Sent::Maybe } else { Sent::No };
                self.metrics.lost(account, reason_of(error, visit.connected));
                classify::lost(sent, false)
            }
        };
        self.metrics.exchanged(account, &format!("native_{}", target.purpose), elapsed_ms);
        setup.recent.ended(account, now.mono_ms, verdict, elapsed_ms);
        reservation.settle(now, verdict, elapsed_ms);
    }

    fn heard(&self, setup: &Setup, target: &Target, status: u16) -> Verdict {
        let now = self.clock.now();
        if status == 429 {
            let (verdict, pause) = classify::answered(status, &[]);
            if let Some(ms) = pause {
                setup.gates.slow_down(&target.account.name, target.group(), ms, now);
            }
            return verdict;
        }
        // A refusal of what a merchant sent says nothing about the provider's health.
        if status >= 500 { Verdict::RemoteFailure } else { Verdict::Success }
    }
}

/// The named reason of a loss, as the unified API's exchanges have it.
fn reason_of(error: Option<&Error>, connected: bool) -> &'static str {
    let Some(error) = error else { return reason::UNREADABLE };
    match error.etype() {
        ErrorType::ConnectRefused => reason::CONNECT_REFUSED,
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => reason::CONNECT_TIMEOUT,
        ErrorType::ConnectNoRoute => reason::DNS,
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => reason::TLS,
        ErrorType::ReadTimedout => reason::TIMEOUT,
        ErrorType::WriteError | ErrorType::WriteTimedout => reason::WRITE_FAILED,
        ErrorType::ConnectionClosed => reason::CLOSED_WITHOUT_ANSWER,
        ErrorType::ReadError => reason::RESET,
        _ if connected => reason::UNREADABLE,
        _ => reason::CONNECT_FAILED,
    }
}
