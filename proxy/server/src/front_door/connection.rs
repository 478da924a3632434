//! One client connection: request after request, each read whole within its time, then answered.
//!
//! Requests that were pipelined are served one after the other. A connection that the door refuses
//! is closed only after its peer had a moment to read the refusal: a close with unread bytes would
//! make the kernel reset the connection and take the refusal back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora::ErrorType;
use pingora::apps::ServerApp;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::chunks::Chunks;
use super::framing::{self, Body, Framing};
use super::tls::DoorTls;
use super::{FrontDoor, Passage, Problem, Request, Response};
use crate::access::Hash;
use crate::failpoint::{Side, Told};

/// Room for the next request's head while a connection is idle; most heads fit.
const HEAD_ROOM: usize = 2048;
/// How long, and how much, a refused client may still send before its connection is closed.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1 << 20;

/// A door as pingora's listener sees it: with the TLS that it speaks, if it does.
pub(super) struct Doorway {
    pub(super) front: FrontDoor,
    pub(super) tls: Option<Arc<DoorTls>>,
}

#[async_trait]
impl ServerApp for Doorway {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let door = &self.front;
        let peer =
            stream.get_socket_digest().and_then(|digest| digest.peer_addr()?.as_inet().copied());
        let Some(_seat) = door.seat(peer) else {
            // Before a handshake nothing can be said that the client would read.
            match self.tls {
                None => door.refuse(stream, Problem::overloaded().into()).await,
                Some(_) => drop(door.inner.refused.fetch_add(1, Relaxed)),
            }
            return None;
        };
        let stream = match &self.tls {
            Some(tls) => tls.accept(stream).await?,
            None => stream,
        };
        let client = client_key(&stream);
        let mut visit = Visit { door, peer, client, shutdown: shutdown.clone() };
        let limits = &door.inner.limits;
        let mut next = Some((stream, BytesMut::new()));
        let mut patience = limits.read_timeout;
        while let Some((stream, early)) = next {
            next = visit.one_request(stream, early, patience).await;
            patience = limits.keepalive;
        }
        None
    }
}

struct Visit<'d> {
    door: &'d FrontDoor,
    peer: Option<SocketAddr>,
    client: Option<Hash>,
    shutdown: ShutdownWatch,
}

/// Why a request was not read whole, and its path where that much was read.
struct Refusal {
    problem: Problem,
    path: Option<String>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, path: None }
    }
}

impl Visit<'_> {
    /// Serves one request; gives the stream and what was read past it when another may follow.
    async fn one_request(
        &mut self,
        mut stream: Stream,
        mut early: BytesMut,
        patience: Duration,
    ) -> Option<(Stream, BytesMut)> {
        if early.is_empty() && !self.first_bytes(&mut stream, &mut early, patience).await {
            return None;
        }
        let by = Instant::now() + self.door.inner.limits.read_timeout;
        let head = tokio::time::timeout_at(by.into(), self.read_head(&mut stream, &mut early));
        let (framing, end) = match head.await {
            Ok(Ok(Some(judged))) => judged,
            Ok(Ok(None)) => return None,
            Ok(Err(refusal)) => return self.refuse(stream, refusal).await,
            Err(_) => return self.refuse(stream, Problem::too_slow().into()).await,
        };
        if !self.door.within_rate(self.peer) {
            return self.refuse(stream, Problem::too_many_requests().into()).await;
        }
        let path = path_of(&early).unwrap_or_default();
        if framing.body == Body::Chunked {
            let whole = self.unchunk(&mut stream, &mut early, end, framing.expects_continue);
            match tokio::time::timeout_at(by.into(), whole).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return None,
                Ok(Err(problem)) => {
                    return self.refuse(stream, Refusal { problem, path: Some(path) }).await;
                }
                Err(_) => return self.refuse(stream, Problem::too_slow().into()).await,
            }
        }
        if let Some(passage) = self.door.inner.passage.clone().filter(|p| p.takes(&path)) {
            return self.pass(passage, stream, early, &path).await;
        }
        let id = request_id();
        let mut session = HttpSession::new(stream);
        session.set_pipelining_enabled(true);
        session.set_pipelined_prefix(early);
        let reading = self.read_request(&mut session, framing, &id);
        let request = match tokio::time::timeout_at(by.into(), reading).await {
            Ok(Ok(request)) => Ok(request),
            Ok(Err(Some(refusal))) => Err(refusal),
            Ok(Err(None)) => return None,
            Err(_) => Err(Problem::too_slow().into()),
        };
        let refused = request.is_err();
        let told = request.as_ref().ok().map(Told::to);
        let (response, in_flight) = match request {
            Ok(request) => self.door.answer(request).await,
            Err(Refusal { problem, path }) => {
                self.door.inner.refused.fetch_add(1, Relaxed);
                (problem.response(&id, path.as_deref()), None)
            }
        };
        if refused || *self.shutdown.borrow() {
            session.set_server_keepalive(None);
        }
        told.iter().for_each(|told| told.pass(Side::Before));
        let written = self.write(&mut session, response, &id, in_flight).await;
        if !written {
            return None;
        }
        told.iter().for_each(|told| told.pass(Side::After));
        if refused {
            let _ = timeout(LINGER, drain_body(&mut session)).await;
        }
        let reused = timeout(LINGER, session.reuse()).await;
        let (stream, past) = reused.ok()?.ok()??.into_parts();
        Some((stream, past.unwrap_or_default()))
    }

    /// Lets a request pass that is streamed. What was pipelined behind it is not served: its end is
    /// for the passage to find, and the connection ends with it.
    async fn pass(
        &self,
        passage: Arc<dyn Passage>,
        stream: Stream,
        early: BytesMut,
        path: &str,
    ) -> Option<(Stream, BytesMut)> {
        let Ok(_permit) = self.door.inner.inflight.clone().try_acquire_owned() else {
            let problem = Problem::overloaded();
            self.door.refuse(stream, Refusal { problem, path: Some(path.to_owned()) }).await;
            return None;
        };
        self.door.inner.requests.fetch_add(1, Relaxed);
        let mut session = HttpSession::new(stream);
        session.set_pipelined_prefix(early);
        session.set_read_timeout(Some(self.door.inner.limits.read_timeout));
        session.set_write_timeout(Some(self.door.inner.limits.write_timeout));
        let stream = passage.pass(ServerSession::H1(session), &self.shutdown).await?;
        Some((stream, BytesMut::new()))
    }

    /// Waits for the first bytes of a request; false when the connection is done with.
    async fn first_bytes(
        &mut self,
        stream: &mut Stream,
        early: &mut BytesMut,
        patience: Duration,
    ) -> bool {
        early.reserve(HEAD_ROOM);
        tokio::select! {
            biased;
            read = timeout(patience, stream.read_buf(early)) => matches!(read, Ok(Ok(1..))),
            _ = self.shutdown.wait_for(|stopping| *stopping) => false,
        }
    }

    /// Reads until the head is whole, and judges it; `None` when the client left.
    async fn read_head(
        &self,
        stream: &mut Stream,
        early: &mut BytesMut,
    ) -> Result<Option<(Framing, usize)>, Refusal> {
        let limits = &self.door.inner.limits;
        loop {
            // RFC 9112, 2.2: an empty line before the request line is skipped.
            while early.starts_with(b"\r\n") {
                early.advance(2);
            }
            if let Some(end) = framing::end_of_head(early, limits)? {
                let head = &early[..end];
                return framing::judge(head, limits)
                    .map(|framing| Some((framing, end)))
                    .map_err(|problem| Refusal { problem, path: path_of(head) });
            }
            early.reserve(HEAD_ROOM);
            if !matches!(stream.read_buf(early).await, Ok(1..)) {
                return Ok(None);
            }
        }
    }

    /// Reads a chunked body and puts it behind its head as one of a known length; false when the
    /// client left.
    async fn unchunk(
        &self,
        stream: &mut Stream,
        early: &mut BytesMut,
        end: usize,
        expects_continue: bool,
    ) -> Result<bool, Problem> {
        let head = early.split_to(end);
        if expects_continue {
            let told = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            if told.is_err() || stream.flush().await.is_err() {
                return Ok(false);
            }
        }
        let mut chunks = Chunks::new(self.door.inner.limits.body);
        while !chunks.take(early)? {
            early.reserve(HEAD_ROOM);
            if !matches!(stream.read_buf(early).await, Ok(1..)) {
                return Ok(false);
            }
        }
        *early = chunks.rewritten(&head, early);
        Ok(true)
    }

    /// Lets pingora parse the judged head, and reads the body; `Err(None)` when the client left.
    async fn read_request(
        &self,
        session: &mut HttpSession,
        framing: Framing,
        id: &str,
    ) -> Result<Request, Option<Refusal>> {
        match session.read_request().await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(None),
            Err(_) => return Err(Some(Problem::malformed("the head cannot be parsed").into())),
        }
        if framing.expects_continue && matches!(framing.body, Body::Length(1..)) {
            session.write_continue_response().await.map_err(|_| None)?;
        }
        let body = self.read_body(session).await;
        let head = session.req_header();
        let target = std::str::from_utf8(head.raw_path())
            .map_err(|_| Some(Problem::malformed("the target is not UTF-8").into()))?;
        let body = body.map_err(|refused| {
            let path = target.split('?').next().map(str::to_owned);
            refused.map(|problem| Refusal { problem, path })
        })?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Ok(Request {
            method: head.method.clone(),
            path: path.to_owned(),
            query,
            headers: head.headers.clone(),
            body,
            peer: self.peer,
            client: self.client,
            token: None,
            request_id: id.to_owned(),
        })
    }

    async fn read_body(&self, session: &mut HttpSession) -> Result<Bytes, Option<Problem>> {
        let mut body = BytesMut::new();
        loop {
            match session.read_body_bytes().await {
                Ok(Some(part)) if body.len() + part.len() > self.door.inner.limits.body => {
                    return Err(Some(Problem::body_too_large()));
                }
                Ok(Some(part)) => body.extend_from_slice(&part),
                Ok(None) => return Ok(body.freeze()),
                Err(error) => match error.etype() {
                    ErrorType::ConnectionClosed | ErrorType::ReadError => return Err(None),
                    _ => return Err(Some(Problem::malformed("the body is not whole"))),
                },
            }
        }
    }

    /// Writes an answer within its time; false when the client did not take it.
    async fn write(
        &mut self,
        session: &mut HttpSession,
        mut response: Response,
        id: &str,
        in_flight: Option<Arc<tokio::sync::OwnedSemaphorePermit>>,
    ) -> bool {
        let stream = response.stream.take();
        let streamed = stream.is_some();
        let Some(head) = response_head(&response, id, streamed) else {
            tracing::error!(request_id = id, status = response.status, "an answer is not HTTP");
            let _ = session.write_response_header(Box::new(plain_500(id))).await;
            let _ = session.finish_body().await;
            return false;
        };
        let patience = self.door.inner.limits.write_timeout;
        let writing = async {
            session.write_response_header(Box::new(head)).await?;
            if !response.body.is_empty() {
                session.write_body(&response.body).await?;
            }
            if !streamed {
                session.finish_body().await?;
            }
            Ok::<(), Box<pingora::Error>>(())
        };
        let written = matches!(timeout(patience, writing).await, Ok(Ok(())));
        drop(in_flight);
        match stream {
            Some(parts) if written => self.write_parts(session, parts).await,
            _ => written,
        }
    }

    /// Sends parts as they come, until there are no more, the client leaves or the door closes.
    async fn write_parts(
        &mut self,
        session: &mut HttpSession,
        mut parts: tokio::sync::mpsc::Receiver<Bytes>,
    ) -> bool {
        let patience = self.door.inner.limits.write_timeout;
        loop {
            let part = tokio::select! {
                part = parts.recv() => part,
                _ = self.shutdown.wait_for(|stopping| *stopping) => None,
            };
            let Some(part) = part else { break };
            if part.is_empty() {
                continue;
            }
            if !matches!(timeout(patience, session.write_body(&part)).await, Ok(Ok(_))) {
                return false;
            }
        }
        matches!(timeout(patience, session.finish_body()).await, Ok(Ok(_)))
    }

    async fn refuse(&self, stream: Stream, refusal: Refusal) -> Option<(Stream, BytesMut)> {
        self.door.refuse(stream, refusal).await;
        None
    }
}

impl FrontDoor {
    /// Answers a request that was not parsed, and closes: where it ends is not known.
    async fn refuse(&self, mut stream: Stream, Refusal { problem, path }: Refusal) {
        self.inner.refused.fetch_add(1, Relaxed);
        let id = request_id();
        let response = problem.response(&id, path.as_deref());
        let reason = http::StatusCode::from_u16(problem.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Refused");
        let mut wire = format!("HTTP/1.1 {} {reason}\r\n", problem.status);
        for (name, value) in &response.headers {
            wire.push_str(&format!("{name}: {value}\r\n"));
        }
        wire.push_str(&format!(
            "Request-Id: {id}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            response.body.len()
        ));
        let mut wire = wire.into_bytes();
        wire.extend_from_slice(&response.body);
        let told = async {
            stream.write_all(&wire).await?;
            stream.flush().await?;
            AsyncWriteExt::shutdown(&mut stream).await?;
            let mut rest = [0; 4096];
            let mut left = LINGER_BYTES;
            while let count @ 1.. = AsyncReadExt::read(&mut stream, &mut rest).await? {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
            Ok::<(), std::io::Error>(())
        };
        let _ = timeout(LINGER, told).await;
    }
}

/// The key that the client proved in the handshake.
fn client_key(stream: &Stream) -> Option<Hash> {
    stream.get_ssl_digest()?.extension.get::<Hash>().copied()
}

async fn drain_body(session: &mut HttpSession) {
    let mut left = LINGER_BYTES;
    while let Ok(Some(part)) = session.read_body_bytes().await {
        left = left.saturating_sub(part.len());
        if left == 0 {
            return;
        }
    }
}

/// The path of a head that is refused, if it has one that can be repeated.
fn path_of(head: &[u8]) -> Option<String> {
    let line = head.split(|b| *b == b'\r').next()?;
    let target = line.split(|b| *b == b' ').nth(1)?;
    let path = target.split(|b| *b == b'?').next()?;
    let plain = path.starts_with(b"/") && path.iter().all(u8::is_ascii_graphic);
    let path = plain.then(|| String::from_utf8_lossy(path).into_owned())?;
    Some(path).filter(|path| path.len() <= 256)
}

fn response_head(response: &Response, id: &str, streamed: bool) -> Option<ResponseHeader> {
    if !(200..=599).contains(&response.status) {
        return None;
    }
    let mut head = ResponseHeader::build(response.status, Some(response.headers.len() + 4)).ok()?;
    for (name, value) in &response.headers {
        head.append_header(*name, value.as_str()).ok()?;
    }
    head.insert_header("Request-Id", id).ok()?;
    if streamed {
        head.insert_header("Transfer-Encoding", "chunked").ok()?;
    } else if !matches!(response.status, 204 | 304) {
        head.insert_header("Content-Length", response.body.len().to_string()).ok()?;
    }
    Some(head)
}

fn plain_500(id: &str) -> ResponseHeader {
    let mut head = ResponseHeader::build(500, Some(4)).expect("500 is a status");
    head.insert_header("Request-Id", id).expect("an id is a field value");
    head.insert_header("Content-Length", "0").expect("a digit is a field value");
    head
}

fn request_id() -> String {
    format!("req_{}", ulid::Ulid::generate().to_string())
}
