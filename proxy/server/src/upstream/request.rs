//! Writes a request as bytes, and those bytes to the socket, keeping the proof of the first write.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Instant;

use pingora::protocols::Stream;
use tokio::io::AsyncWrite;
use tokio::time::timeout_at;

use super::{Endpoint, Failure, Outgoing, reason};

/// Whether a write call was begun. Set before the call, so it never says too little.
#[derive(Debug, Default)]
pub(super) struct Progress {
    touched: AtomicBool,
}

impl Progress {
    fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// A read is sent a second time: what the first one did has no effect anywhere.
    pub(super) fn begin_again(&self) {
        self.touched.store(false, Ordering::Relaxed);
    }

    /// Whether no write call was begun.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched.load(Ordering::Relaxed)
    }

    /// What to say when the deadline cuts the exchange off here.
    pub(super) fn cut(&self) -> Failure {
        if self.touched.load(Ordering::Relaxed) {
            Failure::maybe_sent(reason::TIMEOUT)
        } else {
            Failure::not_sent(reason::CONNECT_TIMEOUT)
        }
    }
}

/// Refuses a request whose time has passed before anything is opened for it.
pub(super) fn still_in_time(last_send_by: Instant, deadline: Instant) -> Result<(), Failure> {
    if Instant::now() > last_send_by.min(deadline) {
        return Err(Failure::not_sent(reason::TOO_LATE));
    }
    Ok(())
}

/// Head and body in one buffer, so that they leave in one write.
pub(super) fn to_wire(endpoint: &Endpoint, outgoing: &Outgoing) -> Result<Vec<u8>, Failure> {
    let invalid = || Failure::not_sent(reason::INVALID_REQUEST);
    let Outgoing { method, path_and_query: target, headers, body, .. } = outgoing;
    // HEAD and CONNECT change how the answer is framed; no provider call needs them.
    if !matches!(method.as_str(), "GET" | "POST" | "PUT" | "PATCH" | "DELETE") {
        return Err(invalid());
    }
    let good_target = (target.is_empty() || target.starts_with(['/', '?']))
        && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !good_target {
        return Err(invalid());
    }
    let path = if endpoint.prefix().is_empty() && !target.starts_with('/') { "/" } else { "" };
    let mut wire = Vec::with_capacity(512 + body.len());
    let mut put = |parts: &[&str]| parts.iter().for_each(|part| wire.extend(part.as_bytes()));
    put(&[method, " ", endpoint.prefix(), path, target, " HTTP/1.1\r\n"]);
    put(&["Host: ", endpoint.authority(), "\r\n"]);
    for (name, value) in headers {
        if !is_token(name) || !is_field_value(value) {
            return Err(invalid());
        }
        if !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            put(&[name, ": ", value, "\r\n"]);
        }
    }
    if !body.is_empty() || !matches!(method.as_str(), "GET" | "DELETE") {
        put(&["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    put(&["\r\n"]);
    wire.extend_from_slice(body);
    Ok(wire)
}

/// Writes everything, or fails. No write call is begun after `last_send_by`.
pub(super) async fn write(
    stream: &mut Stream,
    wire: &[u8],
    outgoing: &Outgoing,
    progress: &Progress,
) -> Result<(), Failure> {
    let last_send_by = outgoing.last_send_by;
    let mut written = 0;
    let writing = poll_fn(|cx| {
        loop {
            // Checked before every call into the stream: a write that had to wait may be woken
            // after its time, and what it would send then nobody waits for any longer.
            if Instant::now() > last_send_by {
                return Poll::Ready(Err(late(progress)));
            }
            progress.touch();
            let stream = Pin::new(&mut *stream);
            if written == wire.len() {
                return Poll::Ready(ready!(stream.poll_flush(cx)).map_err(|e| lost_writing(&e)));
            }
            match ready!(stream.poll_write(cx, &wire[written..])) {
                Ok(0) => return Poll::Ready(Err(Failure::maybe_sent(reason::WRITE_FAILED))),
                Ok(count) => written += count,
                Err(error) => return Poll::Ready(Err(lost_writing(&error))),
            }
        }
    });
    timeout_at(last_send_by.into(), writing).await.unwrap_or_else(|_| Err(late(progress)))
}

/// Fields that this room alone decides; a second one of them would let two readers disagree about
/// where the request ends.
const OURS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"];

fn late(progress: &Progress) -> Failure {
    if progress.touched.load(Ordering::Relaxed) {
        Failure::maybe_sent(reason::TIMEOUT)
    } else {
        Failure::not_sent(reason::TOO_LATE)
    }
}

fn lost_writing(error: &std::io::Error) -> Failure {
    Failure::maybe_sent(match error.kind() {
        std::io::ErrorKind::ConnectionReset => reason::RESET,
        _ => reason::WRITE_FAILED,
    })
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_field_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::Sent;
    use super::*;

    #[test]
    fn head_and_body_are_one_buffer_with_one_length() {
        let endpoint = Endpoint::new("a", "https://api.example/v1/", None).unwrap();
        let mut outgoing = post("/charges?x=1", "{}");
        outgoing.headers = vec![
            ("X-Key".to_owned(), "k".to_owned()),
            ("content-length".to_owned(), "9".to_owned()),
            ("Transfer-Encoding".to_owned(), "chunked".to_owned()),
        ];
        let wire = to_wire(&endpoint, &outgoing).unwrap();
        let expected = "POST /v1/charges?x=1 HTTP/1.1\r\nHost: api.example\r\nX-Key: k\r\n\
                        Content-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(wire).unwrap(), expected);
    }

    #[test]
    fn a_base_without_path_still_has_a_target() {
        let endpoint = Endpoint::new("a", "https://api.example", None).unwrap();
        for (target, line) in [("", "POST / HTTP"), ("?a=1", "POST /?a=1 H"), ("/x", "POST /x HTT")]
        {
            let wire = to_wire(&endpoint, &post(target, "")).unwrap();
            assert!(wire.starts_with(line.as_bytes()), "{target}");
        }
    }

    #[test]
    fn what_would_smuggle_a_second_request_is_not_sent() {
        let endpoint = Endpoint::new("a", "https://api.example", None).unwrap();
        let mut bad: Vec<Outgoing> = ["/a b", "/a\r\nX: y", "http://elsewhere/", "/a#f", "/é"]
            .map(|target| post(target, ""))
            .into();
        for (name, value) in [("X\r\nY", "z"), ("X Y", "z"), ("", "z"), ("X", "y\r\nZ: 1")] {
            let mut outgoing = post("/", "");
            outgoing.headers.push((name.to_owned(), value.to_owned()));
            bad.push(outgoing);
        }
        for method in ["HEAD", "CONNECT", "post", "GET /x", ""] {
            bad.push(Outgoing { method: method.to_owned(), ..post("/", "") });
        }
        for outgoing in bad {
            let failure = to_wire(&endpoint, &outgoing).unwrap_err();
            assert_eq!(failure.sent, Sent::NotSent);
            assert_eq!(failure.reason, reason::INVALID_REQUEST, "{outgoing:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_written_after_its_time_even_when_the_write_was_begun_in_time() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut stream: Stream = Box::new(ours);
        let progress = Progress::default();
        let mut outgoing = post("/", "");
        outgoing.last_send_by = Instant::now() + Duration::from_millis(20);
        let failure = write(&mut stream, b"longer than four", &outgoing, &progress).await;
        let failure = failure.unwrap_err();
        assert_eq!((failure.sent, failure.reason), (Sent::MaybeSent, reason::TIMEOUT));
    }

    fn post(target: &str, body: &'static str) -> Outgoing {
        Outgoing {
            method: "POST".to_owned(),
            path_and_query: target.to_owned(),
            headers: Vec::new(),
            body: Bytes::from_static(body.as_bytes()),
            connect_timeout: Duration::from_secs(1),
            deadline: Instant::now() + Duration::from_secs(5),
            last_send_by: Instant::now() + Duration::from_secs(5),
            body_limit: 1 << 20,
            cut_body: false,
            retry_read: false,
            spill: None,
        }
    }
}
