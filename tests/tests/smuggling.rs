//! What two readers would read in two ways, on both ways in and over raw sockets: it gets one
//! refusal, the connection ends, and nothing of it is journalled or sent. Each case is a payment
//! that would be made, so a reader who is lenient would leave a trace.

use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan, fresh, tokens};
use interlock_tests::raw::{self, Told};
use serde_json::json;

fn plan() -> Plan {
    Plan { server_lines: "request_timeout = \"3s\"", ..Plan::default() }
}

/// One of the two ways in: its request line without the version, its headers, a good body.
struct Way {
    name: &'static str,
    line: &'static str,
    headers: String,
    body: String,
}

fn ways() -> [Way; 2] {
    let native = json!({
        "source": {
            "type": "network_token", "token": "4900000000001111", "token_type": "applepay",
            "expiry_month": "12", "expiry_year": 2099, "cryptogram": "c", "eci": "05",
        },
        "amount": 4_900, "currency": "EUR", "reference": "smuggled",
    });
    let json = "Content-Type: application/json\r\n";
    [
        Way {
            name: "unified",
            line: "POST /v1/payments",
            headers: format!(
                "Authorization: Bearer test_key_1\r\nIdempotency-Key: {}\r\n{json}",
                fresh("smuggled")
            ),
            body: tokens(700, "EUR").to_string(),
        },
        Way {
            name: "native",
            line: "POST /native/checkout-us/payments",
            headers: format!(
                "X-Interlock-Key: test_key_1\r\nAuthorization: Bearer sk_test_secret_3\r\n\
                 Cko-Idempotency-Key: {}\r\n{json}",
                fresh("smuggled")
            ),
            body: native.to_string(),
        },
    ]
}

impl Way {
    /// A whole request: `framing` are the lines that say where it ends.
    fn request(&self, framing: &str, body: &str) -> String {
        format!("{} HTTP/1.1\r\nHost: x\r\n{}{framing}\r\n{body}", self.line, self.headers)
    }

    fn length(&self) -> String {
        format!("Content-Length: {}\r\n", self.body.len())
    }

    fn chunked(&self) -> String {
        format!("{:x}\r\n{}\r\n0\r\n\r\n", self.body.len(), self.body)
    }
}

fn is_refused(house: &House, what: &str, told: &Told) {
    assert_eq!(told.statuses(), [400], "{what}: one refusal and no second answer: {told:?}");
    assert!(told.closed, "{what}: {told:?}");
    assert!(told.elapsed < Duration::from_secs(3), "{what}: {told:?}");
    let lower = told.text.to_ascii_lowercase();
    assert!(lower.contains("application/problem+json"), "{what}: {told:?}");
    assert!(lower.contains("connection: close"), "{what}: {told:?}");
    no_trace(house, what);
}

fn no_trace(house: &House, what: &str) {
    assert_eq!((house.journalled(), house.sent()), (0, 0), "{what}: journalled or sent");
}

#[test]
fn heads_that_are_read_in_two_ways_are_refused_on_both_ways_in() {
    let house = House::with(plan());
    for way in ways() {
        let (length, chunked, body) = (way.length(), way.chunked(), way.body.as_str());
        let te = "Transfer-Encoding: chunked\r\n";
        let digits = body.len();
        let framings = [
            ("CL+TE", format!("{length}{te}"), chunked.as_str()),
            ("TE+CL", format!("{te}{length}"), chunked.as_str()),
            ("CL.0+TE", format!("Content-Length: 0\r\n{te}"), chunked.as_str()),
            ("same CL twice", format!("{length}{length}"), body),
            ("two CL", format!("{length}Content-Length: 0\r\n"), body),
            ("CL list", format!("Content-Length: {digits}, {digits}\r\n"), body),
            ("CL +", format!("Content-Length: +{digits}\r\n"), body),
            ("CL -", "Content-Length: -1\r\n".to_owned(), body),
            ("CL hex", format!("Content-Length: 0x{digits:x}\r\n"), body),
            ("CL inner space", "Content-Length: 1 0\r\n".to_owned(), body),
            ("CL empty", "Content-Length:\r\n".to_owned(), body),
            ("CL huge", "Content-Length: 99999999999999999999\r\n".to_owned(), body),
            ("CL bare LF", format!("X: y\n{length}"), body),
            ("CL bare CR", format!("X: y\r{length}"), body),
            ("xchunked", "Transfer-Encoding: xchunked\r\n".to_owned(), chunked.as_str()),
            ("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n".to_owned(), chunked.as_str()),
            ("chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n".to_owned(), chunked.as_str()),
            ("identity", format!("Transfer-Encoding: identity\r\n{length}"), body),
            ("TE twice", format!("{te}{te}"), chunked.as_str()),
            ("TE VT", "Transfer-Encoding: \x0bchunked\r\n".to_owned(), chunked.as_str()),
            ("TE quoted", "Transfer-Encoding: \"chunked\"\r\n".to_owned(), chunked.as_str()),
            ("TE name space", "Transfer-Encoding : chunked\r\n".to_owned(), chunked.as_str()),
            ("CL name tab", format!("Content-Length\t: {digits}\r\n"), body),
            ("TE folded", "Transfer-Encoding:\r\n chunked\r\n".to_owned(), chunked.as_str()),
            ("obs-fold", format!("{length}X: a\r\n b\r\n"), body),
            ("leading space", format!(" X: a\r\n{length}"), body),
            ("NUL in a name", format!("X\0Y: a\r\n{length}"), body),
            ("space in a name", format!("X Y: a\r\n{length}"), body),
            ("NUL in a value", format!("X: a\0b\r\n{length}"), body),
            ("no colon", format!("X\r\n{length}"), body),
            ("no name", format!(": a\r\n{length}"), body),
            ("a name beyond ASCII", format!("Ä: a\r\n{length}"), body),
            ("Host twice", format!("Host: y\r\n{length}"), body),
        ];
        for (case, framing, body) in &framings {
            // Behind it stands a request that a reader with another end would serve.
            let second = "GET /v1/payments HTTP/1.1\r\nHost: x\r\n\
                          Authorization: Bearer test_key_1\r\n\r\n";
            let request = way.request(framing, body) + second;
            let told = raw::say(&house.api, request.as_bytes());
            is_refused(&house, &format!("{} {case}", way.name), &told);
        }
    }
}

#[test]
fn request_lines_that_are_read_in_two_ways_are_refused_on_both_ways_in() {
    let house = House::with(plan());
    for way in ways() {
        let (method, path) = way.line.split_once(' ').unwrap();
        let rest = format!("Host: x\r\n{}{}\r\n{}", way.headers, way.length(), way.body);
        let chunked = format!(
            "Host: x\r\n{}Transfer-Encoding: chunked\r\n\r\n{}",
            way.headers,
            way.chunked()
        );
        let cases = [
            ("HTTP/1.0 chunked", format!("{} HTTP/1.0\r\n{chunked}", way.line)),
            ("HTTP/0.9", format!("{}\r\n{rest}", way.line)),
            ("HTTP/2.0", format!("{} HTTP/2.0\r\n{rest}", way.line)),
            ("HTTP/1.1 in small", format!("{} http/1.1\r\n{rest}", way.line)),
            ("HTTP/1.10", format!("{} HTTP/1.10\r\n{rest}", way.line)),
            ("bare LF", format!("{} HTTP/1.1\n{rest}", way.line)),
            ("only bare LF", format!("{} HTTP/1.1\r\n{rest}", way.line).replace("\r\n", "\n")),
            ("two spaces", format!("{method}  {path} HTTP/1.1\r\n{rest}")),
            ("a tab", format!("{method}\t{path} HTTP/1.1\r\n{rest}")),
            ("a space before", format!(" {} HTTP/1.1\r\n{rest}", way.line)),
            ("a space after", format!("{} HTTP/1.1 \r\n{rest}", way.line)),
            ("absolute form", format!("{method} http://x{path} HTTP/1.1\r\n{rest}")),
            ("no slash", format!("{method} {} HTTP/1.1\r\n{rest}", &path[1..])),
            ("a fragment", format!("{method} {path}#x HTTP/1.1\r\n{rest}")),
            ("beyond ASCII", format!("{method} {path}é HTTP/1.1\r\n{rest}")),
            ("small method", format!("post {path} HTTP/1.1\r\n{rest}")),
            ("CONNECT", format!("CONNECT {path} HTTP/1.1\r\n{rest}")),
            ("TRACE", format!("TRACE {path} HTTP/1.1\r\n{rest}")),
            ("no Host", format!("{} HTTP/1.1\r\n{}", way.line, &rest["Host: x\r\n".len()..])),
            ("prior knowledge of h2", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{rest}")),
        ];
        for (case, request) in &cases {
            let told = raw::say(&house.api, request.as_bytes());
            is_refused(&house, &format!("{} {case}", way.name), &told);
        }
    }
}

#[test]
fn chunks_that_are_read_in_two_ways_make_no_payment() {
    let house = House::with(plan());
    for way in ways() {
        let (size, body) = (way.body.len(), way.body.as_str());
        let cases = [
            ("0x", format!("0x{size:x}\r\n{body}\r\n0\r\n\r\n")),
            ("+", format!("+{size:x}\r\n{body}\r\n0\r\n\r\n")),
            ("-", format!("-1\r\n{body}\r\n0\r\n\r\n")),
            ("not hexadecimal", format!("zz\r\n{body}\r\n0\r\n\r\n")),
            ("no size", format!("\r\n{body}\r\n0\r\n\r\n")),
            ("beyond 64 bits", format!("1{size:016x}\r\n{body}\r\n0\r\n\r\n")),
            ("beyond 128 bits", format!("1{size:032x}\r\n{body}\r\n0\r\n\r\n")),
            ("larger than told", format!("{:x}\r\n{body}\r\n0\r\n\r\n", size - 1)),
            ("smaller than told", format!("{:x}\r\n{body}\r\n0\r\n\r\n", size + 1)),
            ("no line end", format!("{size:x}\r\n{body}0\r\n\r\n")),
            ("bare LF after the size", format!("{size:x}\n{body}\r\n0\r\n\r\n")),
            ("bare LF in an extension", format!("{size:x};a\nb\r\n{body}\r\n0\r\n\r\n")),
            ("bare LF after the data", format!("{size:x}\r\n{body}\n0\r\n\r\n")),
            ("bare LF at the end", format!("{size:x}\r\n{body}\r\n0\n\n")),
        ];
        for (case, body) in &cases {
            let request = way.request("Transfer-Encoding: chunked\r\n", body);
            let told = raw::say(&house.api, request.as_bytes());
            let what = format!("{} {case}", way.name);
            let statuses = told.statuses();
            assert!(matches!(statuses[..], [400 | 408]), "{what}: one refusal: {told:?}");
            assert!(told.closed, "{what}: {told:?}");
            no_trace(&house, &what);
        }
    }
}

#[test]
fn another_protocol_is_not_taken_up() {
    let house = House::with(plan());
    let [_, native] = ways();
    let upgrades = [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
    ];
    for upgrade in upgrades {
        let request = native.request(&format!("{upgrade}{}", native.length()), &native.body);
        let told = raw::say(&house.api, request.as_bytes());
        assert_eq!(told.statuses(), [400], "{told:?}");
        assert!(told.closed, "{told:?}");
        no_trace(&house, upgrade);
        // Here it is one request of HTTP/1.1, and what follows in the other protocol is refused.
        let read = "GET /v1/payments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test_key_1\r\n";
        let request = format!("{read}{upgrade}\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let told = raw::say(&house.api, request.as_bytes());
        assert_eq!(told.statuses(), [200, 400], "{told:?}");
        assert!(told.closed && !told.text.contains("101"), "{told:?}");
        no_trace(&house, upgrade);
    }
}

#[test]
fn requests_that_are_pipelined_are_served_one_by_one_or_not_at_all() {
    let house = House::with(plan());
    let [unified, native] = ways();
    let begun = Instant::now();
    // The unified API answers each by itself: both say the same payment.
    let one = unified.request(&unified.length(), &unified.body);
    let last = one.replacen("Host: x\r\n", "Host: x\r\nConnection: close\r\n", 1);
    let told = raw::say(&house.api, format!("{one}{last}").as_bytes());
    assert_eq!(told.statuses(), [201, 201], "{told:?}");
    assert_eq!(house.journalled(), 1, "one key, one payment");
    // The native way passes the first and closes: the second is nobody's to guess at.
    let sent = house.requests("checkout-us").len();
    let one = native.request(&native.length(), &native.body);
    let second = one.replace("smuggled", "pipelined");
    let told = raw::say(&house.api, format!("{one}{second}").as_bytes());
    assert_eq!(told.statuses(), [201], "{told:?}");
    assert!(told.closed, "{told:?}");
    assert_eq!(house.requests("checkout-us").len(), sent + 1);
    assert!(begun.elapsed() < Duration::from_secs(20));
}
