//! A journal that others touch: a bit that flips while the node is stopped or runs, somebody who
//! holds SQLite's locks for a while, and a process that has no descriptor left.
//!
//! Whatever is answered meanwhile is right or a refusal, and in the end every payment that was
//! accepted is known and was charged once.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, at_once, barcode, fresh, qr, tokens};
use interlock_tests::ledger;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_bit_that_flipped_while_the_node_was_stopped_hides_one_payment_and_no_other() {
    let mut house = House::start();
    let (key, body) = (fresh("wound"), barcode(1_000, "01"));
    let hurt = house.pay_with_key(&key, &body);
    let sound = house.pay(&tokens(1_100, "EUR"));
    let shown = house.pay(&qr(1_200));
    let open = house.pay(&qr(1_300));
    house.stop_proxy();
    flip(&house, id(&hurt));
    flip(&house, id(&open));
    house.start_proxy();

    for p in [&hurt, &open] {
        unavailable(&house.payment(id(p)));
        assert!(house.log().contains(id(p)), "the log says which");
    }
    assert!(house.log().contains("a row is not what was written"));
    // A list names them and shows the others; nobody is left out silently.
    let hurts = json!([id(&open), id(&hurt)]);
    for list in [
        house.get("/v1/payments?limit=100"),
        house.operate("GET", "/admin/v1/payments?limit=100", None),
    ] {
        assert_eq!((list.status, &list["unreadable"]), (200, &hurts), "{list:?}");
        let listed: Vec<&Value> =
            list["data"].as_array().expect("a list").iter().map(|p| &p["id"]).collect();
        assert_eq!(listed, [&shown["id"], &sound["id"]], "{list:?}");
    }
    assert_eq!(house.metric("interlock_unreadable_rows_total", &[]), 4.0);
    let (done, told) = house.cli(&["payment", "list", "--config", "interlock.toml"]);
    assert!(done && told.contains(&format!("{}  CAN'T BE READ", id(&hurt))), "{told}");
    assert!(told.contains(id(&sound)), "{told}");
    let sent = sent_besides(&house, &shown);
    let refund = json!({ "payment": hurt["id"], "amount": 100 });
    unavailable(&house.post("/v1/refunds", &fresh("wound"), &refund));
    // Its key is another row, and sound: it stands for the answer that was given.
    let again = house.pay_with_key(&key, &body);
    assert!(again.status == 503 || again.body == hurt.body, "{again:?}");
    assert_eq!(sent_besides(&house, &shown), sent, "nothing was sent for it");

    // The others go on, and so does what is new.
    assert_eq!(house.payment(id(&sound))["status"], "succeeded");
    let refund = json!({ "payment": sound["id"], "amount": 400 });
    assert_eq!(house.post("/v1/refunds", &fresh("wound"), &refund)["status"], "succeeded");
    scan(&house, &shown);
    let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    let new = house.pay(&barcode(1_400, "01"));
    assert_eq!(new["status"], "succeeded");
    let net = ledger::net(&house.ledger());
    for (p, expected) in [(&hurt, 1_000), (&sound, 700), (&paid, 1_200), (&new, 1_400)] {
        assert_eq!(ledger::of_payment(&net, &p.json), expected, "{p:?}");
    }
}

#[test]
fn a_bit_that_flips_while_the_node_runs_is_told_when_it_is_read() {
    let mut house = House::start();
    let hurt = house.pay(&barcode(2_000, "01"));
    // The next payments lie on the last page: whoever writes there writes the whole page anew.
    for _ in 0..12 {
        assert_eq!(house.pay(&tokens(2_200, "USD"))["status"], "succeeded");
    }
    // A start carries everything into the database itself.
    house.stop_proxy();
    house.start_proxy();
    let before = house.payment(id(&hurt));
    assert_eq!(before["status"], "succeeded");
    flip(&house, id(&hurt));
    let end = Instant::now() + SOON;
    let mut others = 12;
    loop {
        // What is in a cache is still right; a commit of somebody else empties it.
        let answer = house.payment(id(&hurt));
        if answer.status == 503 {
            break;
        }
        assert_eq!((answer.status, &answer.json), (200, &before.json));
        assert!(Instant::now() < end, "the flipped bit is seen");
        assert_eq!(house.pay(&tokens(2_200, "USD"))["status"], "succeeded");
        others += 1;
    }
    assert!(house.log().contains("a row is not what was written"));
    assert_eq!(house.pay(&tokens(2_300, "EUR"))["status"], "succeeded", "the others go on");
    let net = ledger::net(&house.ledger());
    assert_eq!(ledger::of_payment(&net, &hurt.json), 2_000);
    assert_eq!(net.values().filter(|n| **n != 0).count(), others + 2, "no money of a stranger");
}

/// Numbers at providers come from it: a new one would not be that of the payments that are there.
#[test]
fn a_key_of_numbers_that_is_missing_beside_payments_stops_the_start() {
    let mut house = House::start();
    let key_file = house.dir.path().join("data/ids.key");
    // Nothing was paid yet, so nothing is lost with it.
    house.stop_proxy();
    fs::remove_file(&key_file).expect("removed");
    house.start_proxy();
    let (key, body) = (fresh("numbers"), barcode(1_500, "01"));
    let paid = house.pay_with_key(&key, &body);
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    house.stop_proxy();
    let backup = fs::read(&key_file).expect("the key");
    fs::remove_file(&key_file).expect("removed");
    house.spawn_proxy();
    assert_eq!(house.wait_exit(SOON), Some(Some(1)), "it does not start");
    let log = house.log();
    for told in ["ids.key", "holds 1 payments", "Put it back from its backup"] {
        assert!(log.contains(told), "{told} in {log}");
    }
    assert!(!key_file.exists(), "and makes none");
    fs::write(&key_file, &backup).expect("written");
    house.start_proxy();
    let again = house.pay_with_key(&key, &body);
    assert_eq!((again.status, &again.body), (paid.status, &paid.body));
    assert_eq!(ledger::charges(&house.ledger(), &paid.json), 1);
}

#[test]
fn somebody_who_holds_the_write_lock_delays_what_happens_and_refuses_what_is_new() {
    let house = House::with(Plan { timeout: "8s", ..Plan::default() });
    house.fault_with(json!({
        "account": "alipay-main", "operation": "authorize", "fault": "slow", "ms": 1_500,
    }));
    let news: Vec<(String, Value)> =
        (0..4).map(|_| (fresh("held"), tokens(3_100, "USD"))).collect();
    let in_flight = std::thread::scope(|scope| {
        let house = &house;
        let in_flight = scope.spawn(|| house.pay(&barcode(3_000, "01")));
        house.wait_until("one is in flight", SOON, |h| {
            h.requests("alipay-main").iter().any(|r| r["fault"].is_string())
        });
        let holder = Connection::open(journal(house)).expect("the journal");
        holder.busy_timeout(SOON).expect("patience");
        holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        let sent = house.requests("checkout-us").len();
        // Longer than the journal waits for a lock.
        let answers = at_once(news.len(), |n| house.pay_with_key(&news[n].0, &news[n].1));
        for answer in &answers {
            unavailable(answer);
        }
        assert_eq!(house.requests("checkout-us").len(), sent, "nothing was sent for them");
        holder.execute_batch("ROLLBACK").expect("released");
        in_flight.join().expect("an answer")
    });
    house.lift_faults();
    let in_flight = house.wait_for(id(&in_flight), SOON, |p| p["status"] == "succeeded");
    assert_eq!(ledger::charges(&house.ledger(), &in_flight.json), 1);
    for (key, body) in &news {
        assert_eq!(house.pay_with_key(key, body)["status"], "succeeded", "the same key goes on");
    }
    clean(&house, 1 + news.len());
}

#[test]
fn somebody_who_reads_the_log_holds_up_a_start_and_nothing_else() {
    let mut house = House::start();
    assert_eq!(house.pay(&barcode(4_000, "01"))["status"], "succeeded");
    let reader = Connection::open(journal(&house)).expect("the journal");
    let count = "SELECT count(*) FROM payment";
    let seen =
        |c: &Connection| c.query_row(count, [], |row| row.get::<_, i64>(0)).expect("a count");
    reader.execute_batch("BEGIN").expect("a snapshot");
    assert_eq!(seen(&reader), 1);
    let shown = house.pay(&qr(4_100));
    assert_eq!(house.pay(&tokens(4_200, "EUR"))["status"], "succeeded");
    house.kill_proxy();
    house.spawn_proxy();
    assert_eq!(house.wait_exit(SOON), Some(Some(1)), "it does not start over an unread log");
    assert!(house.log().contains("somebody else reads the journal's log"), "{}", house.log());
    assert_eq!(seen(&reader), 1, "the snapshot stands");
    reader.execute_batch("COMMIT").expect("released");
    drop(reader);
    house.start_proxy();
    scan(&house, &shown);
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    clean(&house, 3);
}

#[test]
fn a_process_without_descriptors_refuses_or_serves_and_forgets_nothing() {
    let mut house = House::start();
    let shown = house.pay(&qr(5_000));
    let pid = house.proxy_pid();
    let open_now = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    if !limit(pid, open_now + 12) {
        eprintln!("descriptors: skipped, no limit can be set here");
        return;
    }
    // Guests who say nothing take what is left.
    let door = house.api.trim_start_matches("http://").to_owned();
    let guests: Vec<TcpStream> = (0..64).filter_map(|_| TcpStream::connect(&door).ok()).collect();
    house.wait_until("no descriptor is left", SOON, |_| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        open + 2 >= open_now + 12
    });
    let asks: Vec<(String, Value)> = (0..12)
        .map(|n| {
            (fresh("fd"), if n % 2 == 0 { barcode(5_100, "01") } else { tokens(5_200, "EUR") })
        })
        .collect();
    let url = format!("{}/v1/payments", house.api);
    let told: Vec<Option<u16>> = std::thread::scope(|scope| {
        let asked: Vec<_> = asks
            .iter()
            .map(|(key, body)| {
                let (house, url) = (&house, &url);
                scope.spawn(move || {
                    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=5")];
                    let body = body.to_string();
                    house.try_send("POST", url, &headers, Some(body.as_bytes()))
                })
            })
            .collect();
        // Some of the guests go: whoever waited at the door comes in while few are left.
        std::thread::sleep(Duration::from_secs(2));
        drop(guests);
        asked.into_iter().map(|a| a.join().expect("it ends").map(|a| a.status)).collect()
    });
    for status in told.iter().flatten() {
        assert!(matches!(status, 200..=202 | 503), "served or refused: {told:?}");
    }
    assert!(house.proxy_is_alive(), "it lives: {}", house.log());
    assert!(limit(pid, 4_096));
    for (key, body) in &asks {
        let p = house.pay_with_key(key, body);
        assert!(p.status < 300, "{p:?}");
        // Without a socket nothing is sent: then it failed, and says so for ever.
        house.wait_for(id(&p), SOON, |p| p["status"] == "succeeded" || p["status"] == "failed");
    }
    assert!(!house.log().contains("the journal's disk failed"), "no disk failed here");
    scan(&house, &shown);
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    clean(&house, 1 + asks.len());
}

/// Changes one bit of what the payment's row holds, in the database's file; in copies of it that
/// lie on free pages, too.
fn flip(house: &House, payment: &str) {
    let path = journal(house);
    let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let reader = reader.expect("the journal");
    let sql = "SELECT body FROM payment WHERE id = ?1";
    let body: Vec<u8> = reader.query_row(sql, [payment], |row| row.get(0)).expect("its row");
    let is_elsewhere = |part: &[u8]| {
        let sql = "SELECT (SELECT count(*) FROM message WHERE instr(body, ?1))
                        + (SELECT count(*) FROM idempotency WHERE instr(answer_body, ?1))
                        + (SELECT count(*) FROM payment WHERE instr(body, ?1)) - 1";
        reader.query_row(sql, [part], |row| row.get::<_, i64>(0)).expect("a count") > 0
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).expect("the file");
    let bytes = fs::read(&path).expect("the file");
    let of = |part: &[u8]| -> Vec<usize> {
        (0..bytes.len() - part.len()).filter(|at| bytes[*at..].starts_with(part)).collect()
    };
    let mut parts = body.windows(24).step_by(8).filter(|part| !is_elsewhere(part)).map(of);
    let places = parts.find(|places| !places.is_empty()).expect("its bytes are in the file");
    for place in places {
        let at = place + 11;
        file.write_all_at(&[bytes[at] ^ 0x04], at as u64).expect("one byte");
    }
}

fn journal(house: &House) -> PathBuf {
    house.dir.path().join("data/journal.db")
}

/// Lets a process have so many open files; false where that can't be done.
fn limit(pid: u32, files: usize) -> bool {
    let arguments = [format!("--pid={pid}"), format!("--nofile={files}:")];
    Command::new("prlimit").args(arguments).status().is_ok_and(|s| s.success())
}

fn unavailable(answer: &Answer) {
    let told = (answer.status, &answer["code"], &answer["retry"]);
    assert_eq!(told, (503, &json!("journal_unavailable"), &json!("same_key")), "{answer:?}");
}

/// Every payment is final, and the ledgers hold what its status says, charged once.
fn clean(house: &House, count: usize) {
    let ledger = house.ledger();
    let net = ledger::net(&ledger);
    let page = house.get("/v1/payments?limit=100");
    let known = page["data"].as_array().expect("a list");
    for p in known {
        let charges = usize::from(p["status"] == "succeeded");
        assert!(charges == 1 || p["failure"]["code"] == "provider_unreachable", "{p}");
        assert_eq!(ledger::charges(&ledger, p), charges, "{p}");
        assert_eq!(ledger::of_payment(&net, p), p["amount_captured"].as_i64().expect("money"));
    }
    assert_eq!(known.len(), count, "every accepted payment is known, and no other");
    let paid = known.iter().filter(|p| p["status"] == "succeeded").count();
    assert_eq!(net.values().filter(|n| **n != 0).count(), paid, "no money of a stranger");
}

/// How many requests the providers received that are not about this payment, which is asked about
/// at any time.
fn sent_besides(house: &House, p: &Answer) -> usize {
    let number = &p["attempts"][0]["op_id"];
    assert!(number.is_string(), "{p:?}");
    let all = house.control("GET", "/requests", None).json;
    let others = |r: &&Value| r["op_id"] != *number;
    all.as_array().map_or(0, |list| list.iter().filter(others).count())
}

fn scan(house: &House, p: &Answer) {
    let code = p["next_action"]["qr_code"].as_str().expect("a code");
    house.scan(p["account"].as_str().expect("an account"), code, "pay");
}

fn id(p: &Answer) -> &str {
    p["id"].as_str().expect("an id")
}
