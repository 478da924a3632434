//! The native pass-through: a merchant's SDK speaks a provider's own API, and only its base URL
//! changes. Whatever fails meanwhile, the provider receives one copy, and the merchant is told
//! whether it may have been received.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, fresh, tokens};
use serde_json::{Value, json};

const ACCOUNT: &str = "checkout-us";
const KEY: (&str, &str) = ("X-Interlock-Key", "test_key_1");
/// What the sandbox expects of this account.
const PROVIDER: (&str, &str) = ("Authorization", "Bearer sk_test_secret_3");

#[test]
fn a_payment_passes_as_it_is_and_the_answer_is_the_providers() {
    let house = House::start();
    let key = fresh("native");
    let paid = pay(&house, &key);
    assert_eq!((paid.status, &paid["response_code"]), (201, &json!("10000")), "{paid:?}");
    let again = pay(&house, &key);
    assert_eq!((again.status, again.body), (201, paid.body.clone()), "the provider's own replay");
    assert_eq!(charges(&house), 1);
    let id = paid["id"].as_str().expect("an id");
    let asked = house.send("GET", &url(&house, &format!("/payments/{id}")), &[KEY, PROVIDER], None);
    assert_eq!((asked.status, &asked["id"]), (200, &paid["id"]));
    // Nothing of it is ours to remember.
    assert_eq!(house.journalled(), 0);
    let metrics = house.metrics();
    assert!(metrics.contains("native_pay") && metrics.contains("native_get"), "{metrics}");
}

#[test]
fn who_calls_must_prove_it_and_the_proof_stays_here() {
    let house = House::start();
    let none = house.send("POST", &url(&house, "/payments"), &[PROVIDER], Some(b"{}"));
    problem(&none, 401, "unauthorized", "no");
    let wrong = [("X-Interlock-Key", "test_key_2"), PROVIDER];
    problem(&house.send("GET", &url(&house, "/x"), &wrong, None), 401, "unauthorized", "no");
    let nobody = format!("{}/native/nobody/payments", house.api);
    problem(&house.send("GET", &nobody, &[KEY], None), 404, "not_found", "no");
    assert_eq!(house.sent(), 0);
    // The provider's own refusal passes like any other answer.
    let stranger = [KEY, ("Authorization", "Bearer sk_wrong")];
    let refused = house.send("POST", &url(&house, "/payments"), &stranger, Some(b"{}"));
    assert_eq!(refused.status, 401);
    assert_ne!(refused.header("content-type"), Some("application/problem+json"));
    assert!(!house.log().contains("test_key_1"), "no key is logged");
}

#[test]
fn a_hang_is_told_as_unknown_and_nothing_is_sent_twice() {
    let house = House::with(Plan { timeout: "700ms", ..Plan::default() });
    for (fault, charged) in
        [("hang", 0), ("charge_then_drop", 1), ("reset_after_read", 0), ("error_after", 1)]
    {
        let (sent, before) = (house.requests(ACCOUNT).len(), charges(&house));
        house.fault_with(json!({ "account": ACCOUNT, "operation": "authorize", "fault": fault }));
        let began = Instant::now();
        let answer = pay(&house, &fresh("native"));
        assert!(began.elapsed() < Duration::from_secs(5), "{fault}");
        if fault == "error_after" {
            // The provider's own 5xx is its answer.
            assert!(answer.status >= 500, "{fault}: {answer:?}");
        } else {
            let status = if fault == "hang" { 504 } else { 502 };
            problem(&answer, status, "outcome_unknown", "maybe");
        }
        assert_eq!(house.requests(ACCOUNT).len(), sent + 1, "{fault}: one copy");
        assert_eq!(charges(&house), before + charged, "{fault}");
        house.lift_faults();
    }
}

#[test]
fn whatever_the_provider_does_one_copy_arrives_and_no_is_never_said_of_it() {
    let house = House::with(Plan { timeout: "700ms", ..Plan::default() });
    // The last one makes the account be left alone for a while.
    for fault in [
        "refuse",
        "reset_after_read",
        "hang",
        "slow",
        "error_before",
        "error_after",
        "charge_then_drop",
        "garbage",
        "decline_soft",
        "decline_hard",
        "rate_limited",
    ] {
        let (sent, before) = (house.requests(ACCOUNT).len(), charges(&house));
        house.fault_with(json!({
            "account": ACCOUNT, "operation": "authorize", "fault": fault, "ms": 200,
        }));
        let answer = pay(&house, &fresh("native"));
        let copies = house.requests(ACCOUNT).len() - sent;
        let charged = charges(&house) - before;
        assert!(copies <= 1 && charged <= copies, "{fault}: {copies} copies, {charged} charged");
        match answer["sent"].as_str() {
            // Ours: it says whether the provider may have it.
            Some("no") => assert_eq!(copies, 0, "{fault}: {answer:?}"),
            Some(word) => assert_eq!((word, copies), ("maybe", 1), "{fault}: {answer:?}"),
            // The provider's own.
            None => assert_eq!(copies, 1, "{fault}: {answer:?}"),
        }
        house.lift_faults();
    }
}

#[test]
fn what_never_left_is_told_so_and_the_next_one_passes() {
    let house = House::start();
    house.fault_with(json!({ "account": ACCOUNT, "operation": "*", "fault": "refuse" }));
    let refused = pay(&house, &fresh("native"));
    problem(&refused, 502, "provider_unreachable", "no");
    house.lift_faults();
    assert_eq!(charges(&house), 0);
    assert_eq!(pay(&house, &fresh("native")).status, 201);
}

#[test]
fn its_breaker_opens_by_itself_and_the_unified_api_goes_on() {
    let breaker = "{ minimum_calls = 1000000, consecutive = 3, open_for = \"30s\" }";
    let house = House::with(Plan { breaker, timeout: "400ms", ..Plan::default() });
    house.fault_with(json!({ "account": ACCOUNT, "operation": "authorize", "fault": "hang" }));
    for _ in 0..3 {
        problem(&pay(&house, &fresh("native")), 504, "outcome_unknown", "maybe");
    }
    let shed = pay(&house, &fresh("native"));
    problem(&shed, 503, "no_account_available", "no");
    assert!(shed["detail"].as_str().expect("words").contains("breaker"), "{shed:?}");
    assert!(shed.header("retry-after").is_some());
    house.lift_faults();
    let unified = house.pay(&tokens(1_000, "USD"));
    assert_eq!((&unified["status"], &unified["account"]), (&json!("succeeded"), &json!(ACCOUNT)));
}

#[test]
fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let house = House::with(Plan { server_lines: "body_limit = \"4KiB\"", ..Plan::default() });
    let large = vec![b'x'; 5_000];
    let told = house.send("POST", &url(&house, "/payments"), &[KEY, PROVIDER], Some(&large));
    assert_eq!((told.status, &told["code"]), (413, &json!("payload_too_large")));
    assert_eq!(house.sent(), 0, "its length was told, so it was refused unread");
    // In pieces, each of them small.
    let door = house.api.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&door).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let head = format!(
        "POST /native/{ACCOUNT}/payments HTTP/1.1\r\nHost: {door}\r\n{}: {}\r\n{}: {}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        KEY.0, KEY.1, PROVIDER.0, PROVIDER.1
    );
    stream.write_all(head.as_bytes()).expect("written");
    for _ in 0..6 {
        let part = format!("3e8\r\n{}\r\n", "x".repeat(1_000));
        if stream.write_all(part.as_bytes()).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(charges(&house), 0);
}

#[test]
fn two_readers_never_disagree_where_a_native_request_ends() {
    let house = House::start();
    let door = house.api.trim_start_matches("http://").to_owned();
    for smuggled in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Content-Length : 0\r\n\r\n",
        "X: a\nContent-Length: 0\r\n\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(&door).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        let head = format!("POST /native/{ACCOUNT}/payments HTTP/1.1\r\nHost: {door}\r\n");
        let key = format!("{}: {}\r\n", KEY.0, KEY.1);
        stream.write_all(format!("{head}{key}{smuggled}").as_bytes()).expect("written");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{smuggled:?}: {answer}");
    }
    assert_eq!(house.sent(), 0);
}

fn url(house: &House, path: &str) -> String {
    format!("{}/native/{ACCOUNT}{path}", house.api)
}

fn pay(house: &House, key: &str) -> Answer {
    let body = json!({
        "source": {
            "type": "network_token", "token": "4900000000001111", "token_type": "applepay",
            "expiry_month": "12", "expiry_year": 2099, "cryptogram": key, "eci": "05",
        },
        "amount": 4_900, "currency": "EUR", "reference": key,
    });
    let headers = [KEY, PROVIDER, ("Cko-Idempotency-Key", key)];
    house.send("POST", &url(house, "/payments"), &headers, Some(body.to_string().as_bytes()))
}

fn charges(house: &House) -> usize {
    let ours = |e: &&Value| e["account"] == ACCOUNT && e["kind"] == "charge";
    house.ledger().iter().filter(ours).count()
}

fn problem(answer: &Answer, status: u16, code: &str, sent: &str) {
    let told = (answer.status, &answer["code"], &answer["sent"]);
    assert_eq!(told, (status, &json!(code), &json!(sent)), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}
