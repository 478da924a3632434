//! What a step's request may do, decided from the pinned manifest and never from the step.
//!
//! A request that is not listed counts as a move. A request that could be read in two ways (a path
//! that a server may rewrite, a parameter that stands in query and body) is refused, because the
//! provider could execute something else than what was classified.

use std::fmt;

use http::{HeaderName, HeaderValue};
use interlock_plugin_api::{Effect, Manifest, Operation, Send, SendRule};

/// The purpose of a request that no rule lists.
pub const UNLISTED: &str = "unlisted";

const PATH_BYTES_MAX: usize = 4096;
const PAIRS_MAX: usize = 128;
const PAIR_BYTES_MAX: usize = 16 * 1024;
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// The host's own: they decide where a request goes and where it ends.
const HOST_HEADERS: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "content-encoding",
];

/// What a request is for and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The rule's purpose, or [`UNLISTED`].
    pub purpose: String,
    /// What it may do to money.
    pub effect: Effect,
}

/// Why a request is not sent. None of them holds a value of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The endpoint is no name of the manifest's `hosts`.
    Endpoint(String),
    /// A move or an offer from an operation that may only read.
    NotARead {
        /// The operation.
        operation: Operation,
        /// The rule's purpose.
        purpose: String,
    },
    /// The body repeats a query parameter by which the request was classified.
    RepeatedParameter(String),
    /// The body's type does not let it be searched for such a parameter.
    BodyType,
    /// The method is not one that the host sends.
    Method,
    /// The path.
    Path(&'static str),
    /// The query.
    Query(&'static str),
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Refused {
    /// The word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "endpoint_not_listed",
            Self::NotARead { .. } => "not_a_read",
            Self::RepeatedParameter(_) => "repeated_parameter",
            Self::BodyType => "body_type",
            Self::Method => "bad_method",
            Self::Path(_) => "bad_path",
            Self::Query(_) => "bad_query",
            Self::Header { .. } => "bad_header",
        }
    }

    /// Whether only a faulty plugin can want this, so that it must not be called again. The rest
    /// can come from what a shopper or a merchant typed, who must not be able to disable a
    /// provider.
    pub fn quarantines(&self) -> bool {
        matches!(self, Self::Endpoint(_) | Self::NotARead { .. } | Self::RepeatedParameter(_))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(name) => write!(f, "the manifest lists no such endpoint: {name}"),
            Self::NotARead { operation, purpose } => {
                write!(f, "{} may only read, this may move money: {purpose}", operation.as_str())
            }
            Self::RepeatedParameter(name) => {
                write!(f, "the body repeats a parameter that the query must have: {name}")
            }
            Self::BodyType => write!(f, "the body must be a form or JSON"),
            Self::Method => write!(f, "the host does not send this method"),
            Self::Path(problem) => write!(f, "the path can't be sent: {problem}"),
            Self::Query(problem) => write!(f, "the query can't be sent: {problem}"),
            Self::Header { name, problem } => {
                write!(f, "a header can't be sent, {problem}: {name}")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// Checks a request and says what it may do. Call it before anything else looks at the request,
/// and before secrets are put into its headers.
///
/// # Errors
/// [`Refused`]; when [`Refused::quarantines`], the generation must not be called again.
pub fn classify_send(
    manifest: &Manifest,
    operation: Operation,
    send: &Send,
    body: &[u8],
) -> Result<Classified, Refused> {
    if !manifest.hosts.contains_key(&send.endpoint) {
        return Err(Refused::Endpoint(super::call::printable(send.endpoint.as_bytes(), 64)));
    }
    if !METHODS.contains(&send.method.as_str()) {
        return Err(Refused::Method);
    }
    check_path(&send.path).map_err(Refused::Path)?;
    check_query(&send.query).map_err(Refused::Query)?;
    check_headers(&send.headers)?;
    let rule = manifest.contract.rule(&send.method, &send.path, &send.query);
    if let Some(rule) = rule {
        check_body(rule, &manifest.contract.sends, send, body)?;
    }
    let purpose = rule.map_or(UNLISTED, |rule| rule.purpose.as_str()).to_owned();
    let effect = rule.map_or(Effect::Move, |rule| rule.effect);
    if operation.reads_only() && effect != Effect::Read {
        return Err(Refused::NotARead { operation, purpose });
    }
    Ok(Classified { purpose, effect })
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Err("it is too long");
    }
    if !path.starts_with('/') || path.starts_with("//") {
        return Err("it must begin with one `/`");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it holds a space, a control or a non-ASCII character");
    }
    if path.contains(['?', '#', '\\']) {
        return Err("it holds `?`, `#` or `\\`");
    }
    // A server that decodes these would see another path than the one that was classified.
    let lower = path.to_ascii_lowercase();
    if ["%2e", "%2f", "%5c", "%3f", "%23", "%00", "%25"].iter().any(|code| lower.contains(code)) {
        return Err("it holds an encoded separator");
    }
    if path.split('/').any(|segment| segment == "." || segment.contains("..")) {
        return Err("it holds `.` or `..`");
    }
    Ok(())
}

fn check_query(query: &[(String, String)]) -> Result<(), &'static str> {
    if query.len() > PAIRS_MAX {
        return Err("it has too many pairs");
    }
    if query.iter().any(|(name, value)| name.len() + value.len() > PAIR_BYTES_MAX) {
        return Err("a pair is too long");
    }
    Ok(())
}

fn check_headers(headers: &[(String, String)]) -> Result<(), Refused> {
    let fail = |name: &str, problem| {
        let name = super::call::printable(name.as_bytes(), 64);
        Err(Refused::Header { name, problem })
    };
    if headers.len() > PAIRS_MAX {
        return fail("*", "there are too many");
    }
    let mut types = 0;
    for (name, value) in headers {
        let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
            return fail(name, "its name is not one");
        };
        if HOST_HEADERS.contains(&parsed.as_str()) {
            return fail(name, "only the host sets it");
        }
        if value.len() > PAIR_BYTES_MAX {
            return fail(name, "it is too long");
        }
        if !value.is_ascii() || HeaderValue::from_str(value).is_err() {
            return fail(name, "its value holds a control or non-ASCII character");
        }
        types += usize::from(parsed == http::header::CONTENT_TYPE);
        if types > 1 {
            return fail(name, "it is given twice");
        }
    }
    Ok(())
}

/// The body must not say again what the query was classified by: many servers read parameters
/// from both, and some prefer the body.
fn check_body(
    rule: &SendRule,
    rules: &[SendRule],
    send: &Send,
    body: &[u8],
) -> Result<(), Refused> {
    let same_path = rules.iter().filter(|r| r.path == rule.path && r.method == rule.method);
    let required: Vec<&String> = same_path.flat_map(|r| r.query.keys()).collect();
    if required.is_empty() || body.is_empty() {
        return Ok(());
    }
    let header = send.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let media = header.map_or("", |(_, value)| value.split(';').next().unwrap_or_default().trim());
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refused::BodyType);
    }
    // Older servers take `;` for a separator too.
    for piece in body.split(|b| matches!(b, b'&' | b';')) {
        for (name, _) in form_urlencoded::parse(piece) {
            let repeated = required.iter().find(|r| r.eq_ignore_ascii_case(name.trim()));
            if let Some(repeated) = repeated {
                return Err(Refused::RepeatedParameter((*repeated).clone()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_may_do_comes_from_the_manifest() {
        let ok = |operation, send: Send, body: &[u8]| {
            classify_send(&manifest(), operation, &send, body)
                .map(|c| (c.purpose, c.effect))
                .map_err(|refused| refused.as_str())
        };
        let query = gateway("trade.query");
        assert_eq!(ok(Operation::Inquire, query, b"a=b"), Ok(("query".into(), Effect::Read)));
        let pay = gateway("trade.pay");
        assert_eq!(ok(Operation::Authorize, pay.clone(), b""), Ok(("pay".into(), Effect::Move)));
        let other = Send { path: "/other".into(), ..pay.clone() };
        assert_eq!(
            ok(Operation::Authorize, other.clone(), b""),
            Ok((UNLISTED.into(), Effect::Move))
        );
        for operation in [
            Operation::Inquire,
            Operation::InquireOperation,
            Operation::ParseNotification,
            Operation::Probe,
        ] {
            for send in [pay.clone(), other.clone(), gateway("trade.offer")] {
                assert_eq!(ok(operation, send, b""), Err("not_a_read"));
            }
        }
    }

    #[test]
    fn a_body_that_says_again_what_the_query_was_classified_by_is_refused() {
        let send = gateway("trade.query");
        let refused = |body: &[u8]| classify_send(&manifest(), Operation::Inquire, &send, body);
        let repeated = Err(Refused::RepeatedParameter("method".into()));
        assert_eq!(refused(b"biz=1&method=trade.pay"), repeated);
        assert_eq!(refused(b"biz=1&%6Dethod=trade.pay"), repeated);
        assert_eq!(refused(b"biz=1;Method=trade.pay"), repeated);
        assert_eq!(refused(b"method"), repeated);
        assert!(refused(b"biz=method%3Dtrade.pay&methods=1").is_ok());
        let with = |media: &str| {
            let headers = vec![("Content-Type".into(), media.into())];
            classify_send(&manifest(), Operation::Inquire, &Send { headers, ..send.clone() }, b"x")
        };
        assert!(with("application/json; charset=utf-8").is_ok());
        assert_eq!(with("multipart/form-data; boundary=x"), Err(Refused::BodyType));
        let bare = Send { headers: Vec::new(), ..send.clone() };
        let bare = classify_send(&manifest(), Operation::Inquire, &bare, b"method=trade.pay");
        assert_eq!(bare, Err(Refused::BodyType));
    }

    #[test]
    fn a_request_leaves_only_for_a_listed_endpoint() {
        let send = Send { endpoint: "https://elsewhere".into(), ..gateway("trade.query") };
        let refused = classify_send(&manifest(), Operation::Inquire, &send, b"").unwrap_err();
        assert_eq!(refused, Refused::Endpoint("https://elsewhere".into()));
        assert!(refused.quarantines());
    }

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "gateway",
            "//host/gateway",
            "/a b",
            "/a\r\nX: y",
            "/a\u{7f}",
            "/é",
            "/a?b",
            "/a#b",
            "/a/../b",
            "/a/./b",
            "/a/..;/b",
            "/a%2F..",
            "/a%2e%2E/b",
            "/a\\b",
            "/a%252f",
        ] {
            let send = Send { path: path.into(), ..gateway("trade.query") };
            let refused = classify_send(&manifest(), Operation::Authorize, &send, b"").unwrap_err();
            assert_eq!(refused.as_str(), "bad_path", "{path}");
            assert!(!refused.quarantines());
        }
        let send = Send { path: "/v1/pay_1-2.3~4:5%20x".into(), ..gateway("trade.query") };
        assert!(classify_send(&manifest(), Operation::Authorize, &send, b"").is_ok());
    }

    #[test]
    fn a_plugin_sets_no_header_of_the_hosts_and_none_that_breaks_the_request() {
        for (name, value) in [
            ("Host", "x"),
            ("content-LENGTH", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("a b", "x"),
            ("", "x"),
            ("X", "a\r\nb"),
            ("X", "a\0"),
            ("X", "é"),
            ("Content-Type", "application/json"),
        ] {
            let mut send = gateway("trade.query");
            send.headers.push((name.into(), value.into()));
            let refused = classify_send(&manifest(), Operation::Inquire, &send, b"").unwrap_err();
            assert_eq!(refused.as_str(), "bad_header", "{name}: {value}");
        }
        let mut send = gateway("trade.query");
        send.headers.push(("Authorization".into(), "Bearer {secret:key}".into()));
        assert!(classify_send(&manifest(), Operation::Inquire, &send, b"").is_ok());
        send.method = "CONNECT".into();
        let refused = classify_send(&manifest(), Operation::Inquire, &send, b"");
        assert_eq!(refused, Err(Refused::Method));
    }

    fn gateway(method: &str) -> Send {
        Send {
            method: "POST".into(),
            endpoint: "api".into(),
            path: "/gateway".into(),
            query: vec![("method".into(), method.into())],
            headers: vec![("Content-Type".into(), "application/x-www-form-urlencoded".into())],
        }
    }

    fn manifest() -> Manifest {
        Manifest::parse(
            br#"{"schema":1,"id":"test","version":"1.0.0","name":"Test","kind":"processor",
            "methods":[],"currencies":{},"operations":["authorize"],
            "hosts":{"api":"https://api.example.com"},
            "contract":{"sends":[
            {"purpose":"query","method":"POST","path":"/gateway",
             "query":{"method":"trade.query"},"effect":"read"},
            {"purpose":"offer","method":"POST","path":"/gateway",
             "query":{"method":"trade.offer"},"effect":"offer"},
            {"purpose":"pay","method":"POST","path":"/gateway",
             "query":{"method":"trade.pay"},"effect":"move"}]}}"#,
        )
        .unwrap()
    }
}
