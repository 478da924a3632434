//! What a stranger can take from us before it has proved who it is: little, for a short time, and
//! nothing from others. Each limit is met on the binary, on both ways in, without a key.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan, tokens};
use interlock_tests::raw::{self, Told};

const SOON: Duration = Duration::from_secs(20);
const WAYS: [&str; 2] = ["/v1/payments", "/native/checkout-us/payments"];

fn house(server_lines: &'static str) -> House {
    House::with(Plan { server_lines, ..Plan::default() })
}

fn refused(told: &Told, status: u16, code: &str, what: &str) {
    assert_eq!(told.statuses(), [status], "{what}: {told:?}");
    assert!(told.closed && told.text.contains(&format!("\"code\":\"{code}\"")), "{what}: {told:?}");
}

/// The house still serves those whom it knows.
fn still_serves(house: &House) {
    let paid = house.pay(&tokens(500, "EUR"));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
}

#[test]
fn heads_and_bodies_have_their_limits() {
    let house = house("body_limit = \"4KiB\"");
    for path in WAYS {
        let post = format!("POST {path} HTTP/1.1\r\nHost: x\r\n");
        let many: String = (0..70).map(|n| format!("X-{n}: y\r\n")).collect();
        let large = format!("X: {}\r\n", "y".repeat(17 * 1024));
        let target = format!("POST {path}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(5_000));
        let chunk = format!("1388\r\n{}\r\n0\r\n\r\n", "y".repeat(5_000));
        for (what, request, status, code) in [
            ("fields", format!("{post}{many}\r\n"), 431, "headers_too_large"),
            ("bytes", format!("{post}{large}\r\n"), 431, "headers_too_large"),
            ("bytes without end", format!("{post}{large}"), 431, "headers_too_large"),
            ("target", target, 414, "uri_too_long"),
            ("length", format!("{post}Content-Length: 5000\r\n\r\n"), 413, "payload_too_large"),
        ] {
            let told = raw::say(&house.api, request.as_bytes());
            refused(&told, status, code, &format!("{path} {what}"));
        }
        let request = format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunk}");
        let told = raw::say(&house.api, request.as_bytes());
        refused(&told, 413, "payload_too_large", path);
    }
    assert_eq!((house.journalled(), house.sent()), (0, 0));
    still_serves(&house);
}

#[test]
fn whoever_drips_is_cut_off_at_a_time_that_no_drop_prolongs() {
    let house = house("request_timeout = \"1s\"");
    let drip = |mut stream: TcpStream, first: String| {
        let began = Instant::now();
        stream.write_all(first.as_bytes()).expect("written");
        let mut reader = stream.try_clone().expect("a clone");
        let told = std::thread::spawn(move || raw::heard(&mut reader, began));
        while !told.is_finished() && began.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(200));
            let _ = stream.write_all(b"x");
        }
        told.join().expect("heard")
    };
    let key = "X-Interlock-Key: test_key_1\r\nAuthorization: Bearer sk_test_secret_3\r\n";
    for path in WAYS {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{key}");
        let in_head = drip(raw::knock(&house.api), format!("{head}X-Slow: "));
        refused(&in_head, 408, "request_timeout", path);
        let body = format!("{head}Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{{");
        let in_body = drip(raw::knock(&house.api), body);
        refused(&in_body, 408, "request_timeout", path);
        for told in [in_head, in_body] {
            assert!(told.elapsed >= Duration::from_millis(900), "{path}: {told:?}");
            assert!(told.elapsed < Duration::from_secs(4), "{path}: {told:?}");
        }
        // A body that stops altogether.
        let began = Instant::now();
        let mut stream = raw::knock(&house.api);
        stream.write_all(format!("{head}Content-Length: 9\r\n\r\n{{").as_bytes()).expect("written");
        let told = raw::heard(stream, began);
        assert_eq!(told.statuses(), [408], "{path}: {told:?}");
        assert!(told.elapsed < Duration::from_secs(4), "{path}: {told:?}");
    }
    // Who says nothing at all is not answered, and does not stay.
    let began = Instant::now();
    let told = raw::heard(raw::knock(&house.api), began);
    assert!(told.closed && told.text.is_empty(), "{told:?}");
    assert!(told.elapsed < Duration::from_secs(4), "{told:?}");
    assert!(house.ledger().is_empty());
    still_serves(&house);
}

#[test]
fn connections_are_counted_in_all_and_for_each_address() {
    for (lines, most) in [("connections = 6", 6), ("address_connections = 4", 4)] {
        let house = house(lines);
        let silent: Vec<TcpStream> = (0..most).map(|_| raw::knock(&house.api)).collect();
        std::thread::sleep(Duration::from_millis(200));
        let told = raw::say(&house.api, b"");
        refused(&told, 503, "overloaded", lines);
        drop(silent);
        house.wait_until("the places are free again", SOON, |h| {
            let url = format!("{}/v1/payments", h.api);
            h.try_send("GET", &url, &[], None).is_some_and(|answer| answer.status == 200)
        });
        still_serves(&house);
    }
}

#[test]
fn one_address_calls_so_often_and_no_more_before_it_is_known() {
    let house = house("address_limit = \"20/s\"");
    let mut seen = Vec::new();
    for n in 0..60 {
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", WAYS[n % 2]);
        let told = raw::say(
            &house.api,
            request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        seen.push(told.statuses()[0]);
    }
    let limited = seen.iter().filter(|status| **status == 429).count();
    assert!(seen[..10].iter().all(|status| *status == 401), "{seen:?}");
    assert!(limited >= 5, "{seen:?}");
    assert!(seen.iter().all(|status| matches!(status, 401 | 429)), "{seen:?}");
    assert_eq!((house.journalled(), house.sent()), (0, 0));
}
