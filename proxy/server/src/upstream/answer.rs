//! Reads one whole answer: pingora's h1 session parses it, this room bounds it and names its loss.
//!
//! A write came before, so whatever goes wrong here is `MaybeSent`: an answer that cannot be read
//! says nothing about the money.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::{Error, ErrorType};

use super::{Failure, Incoming, Outgoing, reason};

/// Interim answers (1xx) before the real one; more of them is not a conversation.
const INTERIM_ANSWERS: usize = 16;

/// A whole answer and the connection it came by.
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    session: Option<HttpSession>,
}

/// Reads interim answers away, then the answer and all of its body.
/// With `cut_body` a body over the limit is left behind, and the connection with it.
pub(super) async fn read(stream: Stream, outgoing: &Outgoing) -> Result<Answer, Failure> {
    let mut session = HttpSession::new(stream);
    let mut interim = 0;
    let status = loop {
        session.read_response().await.map_err(|error| lost_in_head(&error))?;
        match session.get_status().map(|status| status.as_u16()) {
            // 101 would hand the connection to a protocol that nobody asked for.
            Some(100 | 102..=199) if interim < INTERIM_ANSWERS => interim += 1,
            Some(status) if status >= 200 => break status,
            _ => return Err(Failure::maybe_sent(reason::UNREADABLE)),
        }
    };
    let headers = read_headers(&session);
    if let Some(spill) = outgoing.spill.as_ref().filter(|_| status == 200) {
        spill.take(&mut session).await?;
        return Ok(Answer { status, headers, body: Bytes::new(), session: Some(session) });
    }
    match read_body(&mut session, outgoing.body_limit).await {
        Ok(body) => Ok(Answer { status, headers, body, session: Some(session) }),
        Err(_) if outgoing.cut_body => {
            Ok(Answer { status, headers, body: Bytes::new(), session: None })
        }
        Err(failure) => Err(failure),
    }
}

impl Answer {
    /// The connection and how long it may stay idle, when both sides mean to keep it.
    pub(super) async fn take_reusable(&mut self, idle: Duration) -> Option<(Stream, Duration)> {
        let mut session = self.session.take()?;
        session.respect_keepalive();
        if !session.will_keepalive() {
            return None;
        }
        let told =
            session.get_header("keep-alive").and_then(|value| told_timeout(value.as_bytes()));
        // One second less than told: the provider counts from when it sent, we from when we read.
        let idle = told.map_or(idle, |told| idle.min(told.saturating_sub(Duration::from_secs(1))));
        if idle.is_zero() {
            return None;
        }
        Some((session.reuse().await?, idle))
    }

    pub(super) fn incoming(self, began: Instant, connect_elapsed: Option<Duration>) -> Incoming {
        Incoming {
            status: self.status,
            headers: self.headers,
            body: self.body,
            elapsed: began.elapsed(),
            connect_elapsed,
            reused: connect_elapsed.is_none(),
        }
    }
}

fn read_headers(session: &HttpSession) -> Vec<(String, String)> {
    let Some(head) = session.resp_header() else {
        return Vec::new();
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    head.headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
        .collect()
}

async fn read_body(session: &mut HttpSession, limit: usize) -> Result<Bytes, Failure> {
    let told =
        session.get_header("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    if told.is_some_and(|told: u64| told > limit as u64) {
        return Err(Failure::maybe_sent(reason::ANSWER_TOO_LARGE));
    }
    let mut body = BytesMut::new();
    while let Some(part) = session.read_body_ref().await.map_err(|error| lost_in_body(&error))? {
        if body.len() + part.len() > limit {
            return Err(Failure::maybe_sent(reason::ANSWER_TOO_LARGE));
        }
        body.extend_from_slice(part);
    }
    Ok(body.freeze())
}

fn lost_in_head(error: &Error) -> Failure {
    // pingora tells how much of a head it had only in words; the tests hold it to them.
    let nothing_read =
        error.context.as_ref().is_some_and(|told| told.as_str().ends_with("bytes already read: 0"));
    let reason = match (error.etype(), io_kind(error)) {
        (ErrorType::ReadError, Some(ErrorKind::TimedOut)) => reason::TIMEOUT,
        (ErrorType::ReadError, Some(ErrorKind::ConnectionReset)) => reason::RESET,
        (ErrorType::ConnectionClosed | ErrorType::ReadError, _) if nothing_read => {
            reason::CLOSED_WITHOUT_ANSWER
        }
        _ => reason::UNREADABLE,
    };
    Failure::maybe_sent(reason)
}

pub(super) fn lost_in_body(error: &Error) -> Failure {
    let reason = match io_kind(error) {
        Some(ErrorKind::TimedOut) => reason::TIMEOUT,
        Some(ErrorKind::ConnectionReset) => reason::RESET,
        _ => reason::UNREADABLE,
    };
    Failure::maybe_sent(reason)
}

fn io_kind(error: &Error) -> Option<ErrorKind> {
    error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

/// `timeout=5, max=100` says five seconds.
fn told_timeout(value: &[u8]) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
    let seconds = value.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_keep_alive_is_heard() {
        assert_eq!(told_timeout(b"timeout=5, max=100"), Some(Duration::from_secs(5)));
        assert_eq!(told_timeout(b"max=7,Timeout = 9"), Some(Duration::from_secs(9)));
        assert_eq!(told_timeout(b"max=7"), None);
        assert_eq!(told_timeout(b"timeout=soon"), None);
    }
}
