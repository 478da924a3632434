//! Judges a request head before any parser reads it: only what every reader reads alike may pass.
//!
//! Request smuggling lives on two servers disagreeing where a request ends. So this is stricter
//! than RFC 9112 lets a server be: no bare CR or LF, no folded line, one `Content-Length` at most
//! and digits only, `Transfer-Encoding` only as `chunked` and only once, never both, none of it in
//! HTTP/1.0, and only the origin form of a target (`/path?query`).

use super::{Limits, Problem};

/// Where the head ends in `read`, past its empty line; `None` when it is not whole yet.
pub(super) fn end_of_head(read: &[u8], limits: &Limits) -> Result<Option<usize>, Problem> {
    let head = match read.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => &read[..at + 4],
        None => read,
    };
    // Judged before the head is whole: after a bare LF another reader may see its end already.
    for (at, byte) in head.iter().enumerate() {
        let good = match byte {
            b'\n' => at > 0 && head[at - 1] == b'\r',
            b'\r' => head.get(at + 1).is_none_or(|next| *next == b'\n'),
            0 => false,
            _ => true,
        };
        if !good {
            return Err(Problem::malformed("a line of the head does not end with CR LF"));
        }
    }
    if head.len() > limits.header_bytes {
        return Err(Problem::head_too_large());
    }
    Ok((head.ends_with(b"\r\n\r\n") && head.len() >= 4).then_some(head.len()))
}

/// What a head says about what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) body: Body,
    pub(super) expects_continue: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(usize),
    Chunked,
}

/// Judges a whole head, as [`end_of_head`] cut it.
pub(super) fn judge(head: &[u8], limits: &Limits) -> Result<Framing, Problem> {
    let head = std::str::from_utf8(head)
        .map_err(|_| Problem::malformed("the head is not UTF-8"))?
        .trim_end_matches("\r\n");
    let mut lines = head.split("\r\n");
    let http_11 = judge_request_line(lines.next().unwrap_or_default(), limits)?;
    let mut length = None;
    let mut chunked = false;
    let mut hosts = 0;
    let mut expects_continue = false;
    for (count, line) in lines.enumerate() {
        if count >= limits.header_count {
            return Err(Problem::head_too_large());
        }
        let (name, value) = read_field(line)?;
        if name.eq_ignore_ascii_case("content-length") {
            if length.replace(read_length(value)?).is_some() {
                return Err(Problem::malformed("Content-Length is said twice"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !http_11 || !value.eq_ignore_ascii_case("chunked") {
                return Err(Problem::malformed("Transfer-Encoding may only be one \"chunked\""));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case("expect") {
            expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
    if hosts > 1 || (http_11 && hosts == 0) {
        return Err(Problem::malformed("Host must be said once"));
    }
    if chunked && length.is_some() {
        return Err(Problem::malformed("both Content-Length and Transfer-Encoding are said"));
    }
    let length = length.unwrap_or(0);
    if length > limits.body as u64 {
        return Err(Problem::body_too_large());
    }
    let body = if chunked { Body::Chunked } else { Body::Length(length as usize) };
    Ok(Framing { body, expects_continue: expects_continue && http_11 })
}

/// True for HTTP/1.1, false for HTTP/1.0.
fn judge_request_line(line: &str, limits: &Limits) -> Result<bool, Problem> {
    let malformed = || Problem::malformed("the request line is not METHOD /target HTTP/1.1");
    let parts: Vec<&str> = line.splitn(4, ' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(malformed());
    };
    if target.len() > limits.uri {
        return Err(Problem::target_too_long());
    }
    let good_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !good_method || matches!(method, "CONNECT" | "TRACE") {
        return Err(malformed());
    }
    let good_target = target.starts_with('/')
        && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match version {
        "HTTP/1.1" if good_target => Ok(true),
        "HTTP/1.0" if good_target => Ok(false),
        _ => Err(malformed()),
    }
}

fn read_field(line: &str) -> Result<(&str, &str), Problem> {
    let malformed = || Problem::malformed("a header field is not \"name: value\"");
    let (name, value) = line.split_once(':').ok_or_else(malformed)?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    // A name that ends with a space and a line that begins with one are read in two ways.
    if name.is_empty() || !name.bytes().all(token) {
        return Err(malformed());
    }
    let value = value.trim_matches([' ', '\t']);
    if value.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
        return Err(malformed());
    }
    Ok((name, value))
}

/// Digits only: `+5`, `5, 5` and `0x5` are read in two ways.
fn read_length(value: &str) -> Result<u64, Problem> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let length = if digits { value.parse().ok() } else { None };
    length.ok_or(Problem::malformed("Content-Length is not a number"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_request_passes() {
        let framing = read("POST /v1?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(framing.unwrap().body, Body::Length(5));
        let framing = read("GET / HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(framing, Framing { body: Body::Length(0), expects_continue: false });
        let framing = read("PUT / HTTP/1.1\r\nHost:x\r\nTransfer-Encoding: Chunked\r\n\r\n");
        assert_eq!(framing.unwrap().body, Body::Chunked);
    }

    #[test]
    fn what_two_servers_read_in_two_ways_is_refused() {
        let host = "Host: x\r\n";
        let post = "POST / HTTP/1.1\r\nHost: x\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n";
        let heads = [
            format!("{post}Content-Length: 5\r\n{chunked}\r\n"),
            format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
            format!("{post}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
            format!("{post}Content-Length: 5, 5\r\n\r\n"),
            format!("{post}Content-Length: +5\r\n\r\n"),
            format!("{post}Content-Length:\r\n\r\n"),
            format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
            format!("{post}Content-Length : 5\r\n\r\n"),
            format!("{post} Content-Length: 5\r\n\r\n"),
            format!("{post}X: a\r\n\tfolded\r\n\r\n"),
            format!("{post}Transfer-Encoding: xchunked\r\n\r\n"),
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            format!("{post}Transfer-Encoding: identity\r\n\r\n"),
            format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n"),
            format!("{post}{chunked}{chunked}\r\n"),
            format!("POST / HTTP/1.0\r\n{host}{chunked}\r\n"),
            format!("{post}{host}\r\n"),
            "POST / HTTP/1.1\r\nX: y\r\n\r\n".to_owned(),
            format!("POST / HTTP/1.1\n{host}\r\n"),
            format!("{post}X: a\n{chunked}\r\n"),
            format!("{post}X: a\rb\r\n\r\n"),
            format!("{post}X: a\0b\r\n\r\n"),
            format!("POST  / HTTP/1.1\r\n{host}\r\n"),
            format!("POST / x HTTP/1.1\r\n{host}\r\n"),
            format!("POST / HTTP/1.1 \r\n{host}\r\n"),
            format!("POST / HTTP/2.0\r\n{host}\r\n"),
            format!("POST /\r\n{host}\r\n"),
            format!("CONNECT /x HTTP/1.1\r\n{host}\r\n"),
            format!("GET http://y/ HTTP/1.1\r\n{host}\r\n"),
            format!("GET /é HTTP/1.1\r\n{host}\r\n"),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ];
        for head in heads {
            assert_eq!(read(&head).unwrap_err().status, 400, "{head:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused_before_the_head_is_whole() {
        let limits = Limits::default();
        assert!(end_of_head(b"GET / HTTP/1.1\n", &limits).is_err());
        assert!(end_of_head(b"GET / HTTP/1.1\rX", &limits).is_err());
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r", &limits), Ok(None));
        assert_eq!(end_of_head(b"GET / HTTP/1.1\r\n\r\n\n\0", &limits), Ok(Some(18)));
    }

    #[test]
    fn limits_have_their_own_status() {
        let limits =
            Limits { header_bytes: 100, header_count: 2, uri: 20, body: 9, ..Limits::default() };
        let status = |head: &str| {
            let end = end_of_head(head.as_bytes(), &limits);
            end.and_then(|end| judge(&head.as_bytes()[..end.unwrap()], &limits)).unwrap_err().status
        };
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(100))), 431);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\n\r\n"), 431);
        assert_eq!(status(&format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20))), 414);
        assert_eq!(status("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"), 413);
    }

    #[test]
    fn damaged_heads_are_judged_and_what_passes_is_read_in_one_way() {
        let limits = Limits::default();
        let mut passed = 0;
        let cases = crate::mutator::each(&["tests/corpora/framing"], 2_000, |bytes| {
            let Ok(Some(end)) = end_of_head(bytes, &limits) else { return };
            let head = &bytes[..end];
            let Ok(framing) = judge(head, &limits) else { return };
            passed += 1;
            let lower = String::from_utf8(head.to_ascii_lowercase()).expect("judged");
            let said = |name: &str| lower.lines().filter(|line| line.starts_with(name)).count();
            let (lengths, chunked) = (said("content-length:"), said("transfer-encoding:"));
            assert!(lengths + chunked <= 1 && said("host:") <= 1, "{lower}");
            assert_eq!(framing.body == Body::Chunked, chunked == 1, "{lower}");
            assert!(lower.split("\r\n").all(|line| !line.contains(['\r', '\n', '\0'])), "{lower}");
            let folded = lower.split("\r\n").any(|line| line.starts_with([' ', '\t']));
            assert!(!folded, "{lower}");
        });
        assert!(passed > cases / 50, "{passed} of {cases} passed");
    }

    fn read(head: &str) -> Result<Framing, Problem> {
        let limits = Limits::default();
        let end = end_of_head(head.as_bytes(), &limits)?.expect("a whole head");
        judge(&head.as_bytes()[..end], &limits)
    }
}
