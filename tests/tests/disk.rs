//! A disk that fills up while payments run, and a data directory that somebody else uses.
//!
//! The small disk is a tmpfs of its own, so that a full one is really full; where mounting is not
//! permitted the test says so and does nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, barcode, built, fresh, qr, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(15);
/// What the journal keeps for outcomes.
const RESERVE: u64 = 16 << 20;

#[test]
fn a_full_disk_refuses_new_payments_before_any_send_and_lets_outcomes_pass() {
    let Some(disk) = SmallDisk::mount("96m") else { return };
    let mut house = House::with(Plan {
        data_dir: Some(disk.dir.join("data")),
        server_lines: "disk_low_water = \"32MiB\"",
        timeout: "8s",
        ..Plan::default()
    });
    let (sold_key, sold_body) = (fresh("disk"), barcode(1_000, "01"));
    let sold = house.pay_with_key(&sold_key, &sold_body);
    let shown = house.pay(&qr(1_100));
    let mut hold = tokens(1_200, "EUR");
    hold["capture"] = json!("manual");
    let held = house.pay(&hold);
    let statuses = [&sold, &shown, &held].map(|p| p["status"].as_str().unwrap_or("").to_owned());
    assert_eq!(statuses, ["succeeded", "requires_action", "requires_capture"]);

    let slow = json!({
        "account": "alipay-main", "operation": "authorize", "fault": "slow", "ms": 4_000,
    });
    house.fault_with(slow);
    let (stop, traffic) = (AtomicBool::new(false), tokens(1_300, "USD"));
    let (in_flight, during) = std::thread::scope(|scope| {
        let (house, stop) = (&house, &stop);
        let in_flight = scope.spawn(|| house.pay(&barcode(1_400, "01")));
        let traders: Vec<_> =
            (0..4).map(|_| scope.spawn(|| trade(house, &traffic, stop))).collect();
        house.wait_until("one is in flight", SOON, |h| {
            h.requests("alipay-main").iter().any(|r| r["fault"].is_string())
        });
        disk.fill();
        house.wait_until("the disk is seen to be low", SOON, |h| health(h) == "low_disk");
        stop.store(true, Ordering::Release);
        let in_flight = in_flight.join().expect("an answer");
        let during: Vec<Answer> =
            traders.into_iter().flat_map(|t| t.join().expect("answers")).collect();
        (in_flight, during)
    });
    house.lift_faults();
    assert_eq!(in_flight["status"], "succeeded", "an outcome has its reserve: {in_flight:?}");
    assert!(disk.free() <= RESERVE, "nothing is left but the reserve: {}", disk.free());

    // New payments, of every kind, are refused before any send.
    let sent = house.payments_sent();
    for body in [barcode(1_500, "01"), qr(1_500), tokens(1_500, "EUR"), traffic.clone()] {
        refused(&house.pay(&body));
    }
    assert_eq!(house.payments_sent(), sent, "nothing was sent");
    let ready = house.operate("GET", "/readyz", None);
    assert_eq!(ready.status, 200, "outcomes still pass, so it stays ready");
    // A key that was accepted keeps its answer.
    let again = house.pay_with_key(&sold_key, &sold_body);
    assert_eq!((again.status, &again["id"]), (201, &sold["id"]), "{again:?}");
    // What is in progress goes on.
    scan(&house, &shown);
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    let captured =
        house.post(&format!("/v1/payments/{}/capture", id(&held)), &fresh("disk"), &json!({}));
    assert!(captured.status < 300, "{captured:?}");
    house.wait_for(id(&held), SOON, |p| p["status"] == "succeeded");
    let refund =
        house.post("/v1/refunds", &fresh("disk"), &json!({ "payment": sold["id"], "amount": 400 }));
    assert_eq!(refund["status"], "succeeded", "{refund:?}");

    // A kill on the full disk: the next process finds everything and still refuses.
    house.kill_proxy();
    house.start_proxy();
    assert_eq!(house.payment(id(&shown))["status"], "succeeded");
    assert_eq!(house.payment(id(&sold))["amount_refunded"], 400);
    refused(&house.pay(&qr(1_600)));

    disk.empty();
    house.wait_until("the disk has room", SOON, |h| health(h) == "writable");
    for body in [barcode(1_700, "01"), tokens(1_700, "EUR"), traffic.clone()] {
        assert_eq!(house.pay(&body)["status"], "succeeded");
    }
    for answer in &during {
        if answer.status >= 300 {
            refused(answer);
        }
    }
    clean(&house, during.iter().filter(|a| a.status < 300).count() + 4 + 3);
}

#[test]
fn an_outcome_that_finds_no_room_at_all_is_learnt_once_there_is_some() {
    let Some(disk) = SmallDisk::mount("96m") else { return };
    let house = House::with(Plan {
        data_dir: Some(disk.dir.join("data")),
        server_lines: "disk_low_water = \"32MiB\"",
        timeout: "8s",
        ..Plan::default()
    });
    for account in ["alipay-main", "checkout-eu"] {
        house.fault_with(json!({
            "account": account, "operation": "authorize", "fault": "slow", "ms": 1_500,
        }));
        // A notification would tell the outcome while there is still room.
        house.fault(account, "notify", "notify_lose");
    }
    let asks = [barcode(3_000, "01"), tokens(3_100, "EUR")].map(|body| (fresh("disk"), body));
    std::thread::scope(|scope| {
        let (house, disk) = (&house, &disk);
        for (key, body) in &asks {
            // Whatever is answered now, the same key is answered in the end.
            scope.spawn(move || {
                let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=3")];
                let url = format!("{}/v1/payments", house.api);
                house.try_send("POST", &url, &headers, Some(body.to_string().as_bytes()))
            });
        }
        house.wait_until("both are charged", SOON, |h| h.ledger().len() == 2);
        // Somebody who cleans up has taken even the reserve.
        fs::remove_file(disk.dir.join("data/journal.reserve")).expect("the reserve");
        disk.fill();
        house.wait_until("an outcome found no room", SOON, |h| {
            h.log().contains("outcome is not durable yet")
        });
        disk.empty();
    });
    for (key, body) in &asks {
        let p = house.pay_with_key(key, body);
        let p = house.wait_for(id(&p), 2 * SOON, |p| p["status"] == "succeeded");
        assert_eq!(ledger::charges(&house.ledger(), &p.json), 1);
    }
    house.wait_until("the disk has room", SOON, |h| health(h) == "writable");
    assert_eq!(house.pay(&tokens(3_200, "USD"))["status"], "succeeded");
    clean(&house, 3);
}

#[test]
fn the_low_water_mark_is_configured_and_stops_only_what_is_new() {
    let mut house = House::start();
    let shown = house.pay(&qr(2_000));
    house.stop_proxy();
    set_mark(&house, "disk_low_water = \"1048576GiB\"");
    house.start_proxy();
    let sent = house.payments_sent();
    refused(&house.pay(&barcode(2_100, "01")));
    assert_eq!(house.payments_sent(), sent);
    assert_eq!(health(&house), "low_disk");
    scan(&house, &shown);
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    house.stop_proxy();
    set_mark(&house, "disk_low_water = \"16MiB\"");
    house.start_proxy();
    assert_eq!(house.pay(&barcode(2_200, "01"))["status"], "succeeded");
    clean(&house, 2);
}

#[test]
fn two_proxies_never_share_a_data_directory() {
    let house = House::start();
    let pid = house.proxy_pid().to_string();
    let second = Command::new("timeout")
        .arg("20")
        .arg(built("interlock"))
        .args(["run", "--config", "interlock.toml"])
        .current_dir(house.dir.path())
        .env("NO_COLOR", "1")
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&[second.stdout, second.stderr].concat()).into_owned();
    assert_eq!(second.status.code(), Some(1), "{told}");
    let line = told.lines().find(|l| l.contains("journal can't be opened")).expect("a message");
    for words in [pid.as_str(), "data"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(!told.contains("panicked"), "{told}");
    assert_eq!(house.pay(&barcode(2_300, "01"))["status"], "succeeded", "the first goes on");
}

/// Sends payments until it is told to stop.
fn trade(house: &House, body: &Value, stop: &AtomicBool) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::Acquire) {
        answers.push(house.pay(body));
    }
    answers
}

fn refused(answer: &Answer) {
    let told = (answer.status, &answer["code"], &answer["retry"]);
    assert_eq!(told, (503, &json!("storage_full"), &json!("same_key")), "{answer:?}");
}

/// Every payment is final, and the ledgers hold what its status says.
fn clean(house: &House, count: usize) {
    let net = ledger::net(&house.ledger());
    let mut known = 0;
    let mut cursor = String::new();
    loop {
        let page = house.get(&format!("/v1/payments?limit=100{cursor}"));
        for p in page["data"].as_array().expect("a list") {
            assert_eq!(p["status"], "succeeded", "{p}");
            let number = |key: &str| p[key].as_i64().expect("minor units");
            let expected = number("amount_captured") - number("amount_refunded");
            assert_eq!(ledger::of_payment(&net, p), expected, "{p}");
            known += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(known, count, "every accepted payment is known, and no other");
    assert_eq!(net.values().filter(|n| **n != 0).count(), count, "no money of a stranger");
}

fn set_mark(house: &House, line: &str) {
    let path = house.dir.path().join("interlock.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    let kept: Vec<&str> = text.lines().filter(|l| !l.starts_with("disk_low_water")).collect();
    let text = kept.join("\n").replacen("[server]\n", &format!("[server]\n{line}\n"), 1);
    fs::write(path, text).expect("the configuration");
}

fn health(house: &House) -> String {
    let status = house.operate("GET", "/admin/v1/status", None);
    status["journal"]["health"].as_str().unwrap_or("").to_owned()
}

fn scan(house: &House, p: &Answer) {
    let code = p["next_action"]["qr_code"].as_str().expect("a code");
    house.scan(p["account"].as_str().expect("an account"), code, "pay");
}

fn id(p: &Answer) -> &str {
    p["id"].as_str().expect("an id")
}

/// A disk of a few megabytes; it is taken away at the end.
struct SmallDisk {
    dir: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("disk");
        fs::create_dir(&dir).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&dir)
            .output();
        match mounted {
            Ok(out) if out.status.success() => Some(Self { dir, _folder: folder }),
            other => {
                let why = other.map_or_else(
                    |e| e.to_string(),
                    |out| String::from_utf8_lossy(&out.stderr).trim().to_owned(),
                );
                let line = format!("disk: skipped, a tmpfs can't be mounted here: {why}\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
                None
            }
        }
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a file");
        let chunk = vec![7; 1 << 20];
        for size in [1 << 20, 1 << 16, 1 << 12] {
            while file.write_all(&chunk[..size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).expect("removed");
    }

    /// Free bytes.
    fn free(&self) -> u64 {
        let out = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.dir).output();
        let text = String::from_utf8(out.expect("df").stdout).expect("text");
        text.lines().nth(1).and_then(|l| l.trim().parse().ok()).expect("a number")
    }

    fn ballast(&self) -> PathBuf {
        Path::new(&self.dir).join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
