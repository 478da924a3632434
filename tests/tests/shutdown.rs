//! SIGTERM takes no payment away: requests in flight are answered, nobody new is let in, and the
//! next process finds everything.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, barcode, fresh, network_token, qr, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

/// As in every house.
const DRAIN: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(15);

#[test]
fn every_payment_in_flight_is_answered_and_nobody_new_is_let_in() {
    let mut house = House::with(Plan { timeout: "10s", ..Plan::default() });
    let idle = TcpStream::connect(door(&house)).expect("a connection that asks for nothing");
    for account in ["alipay-main", "checkout-eu", "checkout-us"] {
        house.fault_with(json!({
            "account": account, "operation": "authorize", "fault": "slow", "ms": 3_000,
        }));
        // A notification would tell the outcome before the answer does.
        house.fault(account, "notify", "notify_lose");
    }
    let asks: Vec<(String, Value)> = (0..20)
        .map(|n| match n % 4 {
            0 => barcode(1_000 + n, "01"),
            1 => qr(1_000 + n),
            2 => tokens(1_000 + n, "EUR"),
            _ => network_token(1_000 + n, "USD"),
        })
        .map(|body| (fresh("stop"), body))
        .collect();
    let answered = AtomicUsize::new(0);
    let (answers, told) = std::thread::scope(|scope| {
        let (house, answered) = (&house, &answered);
        let threads: Vec<_> = asks
            .iter()
            .map(|(key, body)| {
                scope.spawn(move || {
                    let answer = house.pay_with_key(key, body);
                    answered.fetch_add(1, Ordering::AcqRel);
                    answer
                })
            })
            .collect();
        house.wait_until("every request is at its provider", SOON, |h| authorizes(h) == 20);
        let told = Instant::now();
        house.signal_proxy("TERM");
        house.wait_until("the door is closed", Duration::from_secs(2), |h| {
            TcpStream::connect(door(h)).is_err()
        });
        assert_eq!(answered.load(Ordering::Acquire), 0, "it closed while payments were in flight");
        let answers: Vec<Answer> =
            threads.into_iter().map(|t| t.join().expect("an answer")).collect();
        (answers, told)
    });
    assert_eq!(house.wait_exit(DRAIN), Some(Some(0)), "{}", house.log());
    assert!(told.elapsed() < DRAIN, "{:?}", told.elapsed());
    drop(idle);
    house.lift_faults();
    house.start_proxy();
    assert_eq!(doubts(&house), 0);
    for ((key, body), answer) in asks.iter().zip(&answers) {
        let expected = match body["method"]["flow"].as_str() {
            Some("qr") => "requires_action",
            _ => "succeeded",
        };
        assert_eq!((answer.status, &answer["status"]), (201, &json!(expected)), "{answer:?}");
        let again = house.pay_with_key(key, body);
        assert_eq!((&again["id"], &again["status"]), (&answer["id"], &json!(expected)));
        let net = ledger::of_payment(&ledger::net(&house.ledger()), &again.json);
        let amount = body["amount"].as_i64().expect("an amount");
        assert_eq!(net, if expected == "succeeded" { amount } else { 0 });
    }
    let code = answers.iter().find(|a| a["status"] == "requires_action").expect("a code");
    let account = code["account"].as_str().expect("an account");
    house.scan(account, code["next_action"]["qr_code"].as_str().expect("a code"), "pay");
    house.wait_for(code["id"].as_str().expect("an id"), SOON, |p| p["status"] == "succeeded");
}

#[test]
fn an_idle_proxy_stops_at_once_and_starts_again() {
    let mut house = House::start();
    let p = house.pay(&barcode(2_500, "01"));
    assert_eq!(p["status"], "succeeded");
    for _ in 0..3 {
        let (code, took) = house.stop_proxy();
        assert_eq!(code, Some(0), "{}", house.log());
        assert!(took < Duration::from_secs(2), "{took:?}");
        house.start_proxy();
        let id = p["id"].as_str().expect("an id");
        assert_eq!(house.payment(id).json, p.json, "a stop changes nothing");
    }
}

#[test]
fn a_second_signal_leaves_at_once_and_loses_nothing() {
    let mut house = House::with(Plan { timeout: "15s", ..Plan::default() });
    house.fault("alipay-main", "authorize", "hang");
    house.fault_with(json!({
        "account": "checkout-eu", "operation": "authorize", "fault": "slow", "ms": 8_000,
    }));
    house.fault("checkout-eu", "notify", "notify_lose");
    let asks =
        [(fresh("stop"), barcode(2_600, "01")), (fresh("stop"), network_token(2_700, "EUR"))];
    let left = std::thread::scope(|scope| {
        let house = &house;
        for (key, body) in &asks {
            scope.spawn(move || {
                let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=30")];
                let url = format!("{}/v1/payments", house.api);
                house.try_send("POST", &url, &headers, Some(body.to_string().as_bytes()))
            });
        }
        house.wait_until("both are at their providers", SOON, |h| authorizes(h) == 2);
        house.signal_proxy("TERM");
        std::thread::sleep(Duration::from_millis(300));
        // Still there: this signal would fail otherwise.
        house.signal_proxy("TERM");
        Instant::now()
    });
    assert_eq!(house.wait_exit(Duration::from_secs(2)), Some(Some(0)), "{}", house.log());
    assert!(left.elapsed() < Duration::from_secs(3), "{:?}", left.elapsed());
    house.lift_faults();
    house.start_proxy();
    let list = house.get("/v1/payments");
    let list = list["data"].as_array().expect("a list").clone();
    assert_eq!(list.len(), 2, "{list:?}");
    for ((key, body), expected) in asks.iter().zip(["failed", "succeeded"]) {
        let ours = list.iter().find(|p| p["amount"] == body["amount"]).expect("the payment");
        let id = ours["id"].as_str().expect("an id");
        let p = house.wait_for(id, 2 * SOON, |p| p["status"] != "processing");
        assert_eq!(p["status"], expected, "{p:?}");
        let charged = usize::from(expected == "succeeded");
        assert_eq!(ledger::charges(&house.ledger(), &p.json), charged);
        let again = house.pay_with_key(key, body);
        assert_eq!((&again["id"], &again["status"]), (&p["id"], &p["status"]));
    }
    assert_eq!(doubts(&house), 0);
}

#[test]
fn a_drain_that_ends_before_the_provider_answers_leaves_a_doubt_that_is_resolved() {
    let mut house = House::prepared(Plan { timeout: "15s", ..Plan::default() });
    let path = house.dir.path().join("interlock.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, text.replace("drain = \"20s\"", "drain = \"1s\"")).expect("written");
    house.start_proxy();
    house.fault_with(json!({
        "account": "checkout-us", "operation": "authorize", "fault": "slow", "ms": 8_000,
    }));
    house.fault("checkout-us", "notify", "notify_lose");
    let (key, body) = (fresh("stop"), tokens(2_800, "USD"));
    std::thread::scope(|scope| {
        let house = &house;
        scope.spawn(|| {
            let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=30")];
            let url = format!("{}/v1/payments", house.api);
            house.try_send("POST", &url, &headers, Some(body.to_string().as_bytes()))
        });
        house.wait_until("it is at the provider", SOON, |h| authorizes(h) == 1);
        house.signal_proxy("TERM");
    });
    assert_eq!(house.wait_exit(Duration::from_secs(4)), Some(Some(0)));
    assert!(house.log().contains("stopped before every request was answered"));
    house.lift_faults();
    house.start_proxy();
    let p = house.pay_with_key(&key, &body);
    let p =
        house.wait_for(p["id"].as_str().expect("an id"), 2 * SOON, |p| p["status"] != "processing");
    assert_eq!(p["status"], "succeeded", "{p:?}");
    assert_eq!(ledger::charges(&house.ledger(), &p.json), 1);
}

fn authorizes(house: &House) -> usize {
    let accounts = ["alipay-main", "alipay-backup", "checkout-eu", "checkout-us"];
    let received = accounts.iter().flat_map(|account| house.requests(account));
    received.filter(|r| r["operation"] == "authorize").count()
}

fn doubts(house: &House) -> u64 {
    let status = house.operate("GET", "/admin/v1/status", None);
    status["in_doubt"]["payments"].as_u64().expect("a count")
}

fn door(house: &House) -> &str {
    house.api.trim_start_matches("http://")
}
