//! What is on the disk in the moment of a death, against what the providers had received and the
//! merchants had been told until then.
//!
//! The end of a run proves that all came out well. This looks earlier: a request whose record was
//! lost may be repaired by a merchant who asks again, and a word that was said too soon may come
//! true later. So the journal's files are copied while nobody runs, and read in the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use interlock_tests::house::House;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use crate::shop::Street;
use crate::verdict::may_follow;

/// What was on its way when the process died arrives on a loopback within this time.
const ON_ITS_WAY: Duration = Duration::from_millis(25);
/// Operations that may move money, or offer something to be paid.
const EFFECTS: [&str; 6] = ["authorize", "continue", "capture", "void", "refund", "close"];

/// One who looks at every death of a house, and remembers what was found before.
#[derive(Default)]
pub struct Coroner {
    /// The last request that was looked at.
    pub seen: u64,
    /// How often each account received each request, by operation and number.
    received: BTreeMap<(String, String, String), u64>,
    /// Version and status of every payment.
    known: BTreeMap<String, (i64, String)>,
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// How many requests were found in the journal.
    pub sent: usize,
    /// How many words were found in the journal.
    pub told: usize,
}

impl Coroner {
    /// Looks at the disk of a house whose proxy is dead.
    pub fn look(&mut self, house: &House, street: &Street) {
        std::thread::sleep(ON_ITS_WAY);
        let copy = tempfile::tempdir().expect("a folder");
        let data = house.dir.path().join("data");
        for name in ["journal.db", "journal.db-wal"] {
            // Neither is there when the process died before it made them.
            let _ = fs::copy(data.join(name), copy.path().join(name));
        }
        let journal = Connection::open(copy.path().join("journal.db")).expect("a journal");
        let made = "SELECT count(*) FROM sqlite_schema WHERE name = 'payment'";
        let made: i64 = journal.query_row(made, [], |row| row.get(0)).expect("a schema");
        let requests = house.control("GET", &format!("/requests?since={}", self.seen), None);
        let requests = requests.json.as_array().cloned().unwrap_or_default();
        let words = street.words();
        if made == 0 {
            self.nothing_may_be_out(&requests, &words);
            return;
        }
        for request in &requests {
            self.sent_only_what_is_written(&journal, request);
        }
        for word in &words {
            self.told_only_what_is_written(&journal, word);
        }
        self.the_files_are_whole(&journal);
        self.nothing_open_is_forgotten(&journal);
        self.nothing_goes_back(&journal);
    }

    fn nothing_may_be_out(&mut self, requests: &[Value], words: &[Value]) {
        if !requests.is_empty() || !words.is_empty() {
            self.wrong.push(format!("out without a journal: {requests:?} {words:?}"));
        }
    }

    /// No move leaves, and no offer is asked for, before its exchange is durable; and no copy of it
    /// before that copy is.
    fn sent_only_what_is_written(&mut self, journal: &Connection, request: &Value) {
        self.seen = self.seen.max(request["seq"].as_u64().expect("a number"));
        let text = |key: &str| request[key].as_str().unwrap_or("");
        let (account, operation, op_id) = (text("account"), text("operation"), text("op_id"));
        if !EFFECTS.contains(&operation) {
            return;
        }
        let name = [account, operation, op_id].map(str::to_owned);
        let received = self.received.entry(name.into()).or_default();
        *received += 1;
        let written = payment_with(journal, account, op_id);
        let written = written.map_or(0, |body| sends(&body, operation, op_id));
        if *received <= written {
            self.sent += 1;
        } else {
            let times = format!("{received} times, {written} in the journal at the death");
            self.wrong.push(format!("sent {times}: {request}"));
        }
    }

    /// Whatever a merchant was told, the journal knows, and says no less.
    fn told_only_what_is_written(&mut self, journal: &Connection, word: &Value) {
        let text = |key: &str| word[key].as_str().unwrap_or("");
        let (id, status) = (text("id"), text("status"));
        let stands = match text("object") {
            "payment" => {
                let found = "SELECT status FROM payment WHERE id = ?1";
                let found = journal.query_row(found, [id], |row| row.get::<_, String>(0));
                found.optional().expect("a row").is_some_and(|now| may_follow(status, &now))
            }
            "refund" => {
                let found = "SELECT payment.body FROM operation JOIN payment
                             ON payment.id = operation.payment WHERE operation.id = ?1";
                let found = journal.query_row(found, [id], |row| row.get::<_, Vec<u8>>(0));
                found
                    .optional()
                    .expect("a row")
                    .is_some_and(|body| refund_stands(&body, id, status))
            }
            "notice" => {
                let found = "SELECT count(*) FROM notice WHERE account = ?1 AND event_id = ?2";
                let found =
                    journal.query_row(found, [text("account"), id], |row| row.get::<_, i64>(0));
                found.expect("a number") == 1
            }
            _ => return,
        };
        if stands {
            self.told += 1;
        } else {
            self.wrong.push(format!("told, and not in the journal at the death: {word}"));
        }
    }

    fn the_files_are_whole(&mut self, journal: &Connection) {
        let found: String = journal
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("an answer of the check");
        if found != "ok" {
            self.wrong.push(format!("the journal's files are damaged: {found}"));
        }
    }

    fn nothing_open_is_forgotten(&mut self, journal: &Connection) {
        let forgotten = "SELECT id || ' ' || status FROM payment WHERE due_at_ms IS NULL
                         AND (in_doubt = 1 OR status IN ('processing', 'requires_action'))";
        let mut forgotten = journal.prepare(forgotten).expect("a question");
        let rows = forgotten.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        for row in rows {
            self.wrong.push(format!("open without a due time: {}", row.expect("a row")));
        }
    }

    /// Versions only rise, and no status contradicts the one before; not two successes.
    fn nothing_goes_back(&mut self, journal: &Connection) {
        let rows = "SELECT id, ver, status, body FROM payment";
        let mut rows = journal.prepare(rows).expect("a question");
        let mut rows = rows.query([]).expect("rows");
        let mut missing: BTreeSet<String> = self.known.keys().cloned().collect();
        while let Some(row) = rows.next().expect("a row") {
            let (id, ver, status): (String, i64, String) = (get(row, 0), get(row, 1), get(row, 2));
            missing.remove(&id);
            let before = self.known.get(&id);
            if before.is_some_and(|(known, was)| ver < *known || !may_follow(was, &status)) {
                self.wrong.push(format!("{id} went back: {before:?}, then {ver} {status}"));
            }
            if before.is_none_or(|(known, _)| *known != ver) {
                let body: Vec<u8> = get(row, 3);
                self.one_success_at_most(&id, &body);
                self.known.insert(id, (ver, status));
            }
        }
        self.wrong.extend(missing.iter().map(|id| format!("gone from the journal: {id}")));
    }

    fn one_success_at_most(&mut self, id: &str, body: &[u8]) {
        let payment: Value = serde_json::from_slice(body).expect("a payment in JSON");
        let attempts = payment["attempts"].as_array().cloned().unwrap_or_default();
        let paid = |a: &&Value| a["state"]["is"] == "success";
        if attempts.iter().filter(paid).count() > 1 {
            self.wrong.push(format!("{id} has two successes: {payment}"));
        }
    }
}

fn get<T: FromSql>(row: &Row<'_>, column: usize) -> T {
    row.get(column).expect("a column of the schema")
}

fn payment_with(journal: &Connection, account: &str, op_id: &str) -> Option<Value> {
    let by_reference = "SELECT payment.body FROM reference JOIN payment
                        ON payment.id = reference.payment
                        WHERE reference.account = ?1 AND reference.reference = ?2";
    let found = journal.query_row(by_reference, [account, op_id], |row| row.get::<_, Vec<u8>>(0));
    let body = found.optional().expect("a row")?;
    Some(serde_json::from_slice(&body).expect("a payment in JSON"))
}

/// How often a request was meant to be sent. Some providers close by the number of the payment,
/// and not by a number of the close.
fn sends(payment: &Value, operation: &str, op_id: &str) -> u64 {
    let of = |list: &str| payment[list].as_array().into_iter().flatten();
    let mut sends = 0;
    for part in of("attempts").chain(of("operations")) {
        for exchange in part["track"]["exchanges"].as_array().into_iter().flatten() {
            let named =
                exchange["op_id"] == op_id || (operation == "close" && part["op_id"] == op_id);
            if named && exchange["kind"] == operation {
                sends += exchange["sends"].as_u64().expect("a number");
            }
        }
    }
    sends
}

fn refund_stands(body: &[u8], id: &str, told: &str) -> bool {
    let payment: Value = serde_json::from_slice(body).expect("a payment in JSON");
    let operations = payment["operations"].as_array().cloned().unwrap_or_default();
    let now = operations.iter().find(|o| o["id"] == id);
    let now = now.and_then(|o| o["state"].as_str());
    match told {
        "succeeded" => matches!(now, Some("done" | "reversed")),
        "failed" => now == Some("rejected"),
        _ => now.is_some(),
    }
}

mod the_coroner {
    use super::*;
    use serde_json::json;

    /// What this room reads of the journal's tables.
    const SCHEMA: &str = "
        CREATE TABLE payment(id, ver, status, due_at_ms, in_doubt, body);
        CREATE TABLE reference(account, reference, payment);
        CREATE TABLE operation(id, payment);
        CREATE TABLE notice(account, event_id);
        INSERT INTO reference VALUES('a', '1', 'pay_1'), ('a', '2', 'pay_1');
        INSERT INTO operation VALUES('ref_1', 'pay_1');
        INSERT INTO notice VALUES('a', 'evt_1');";

    #[test]
    fn sees_a_request_or_a_copy_of_one_that_was_not_written() {
        let journal = journal("processing", Some(5), 1);
        let mut coroner = Coroner::default();
        let mut received = |seq: u64, operation: &str, op_id: &str| {
            let request = json!({
                "seq": seq, "account": "a", "operation": operation, "op_id": op_id,
            });
            coroner.sent_only_what_is_written(&journal, &request);
            coroner.wrong.len()
        };
        assert_eq!(received(1, "authorize", "1"), 0);
        assert_eq!(received(2, "close", "1"), 0, "closed by the number of the payment");
        assert_eq!(received(3, "inquire", "9"), 0, "a question moves nothing");
        assert_eq!(received(4, "authorize", "1"), 1, "a copy that is not journalled");
        assert_eq!(received(5, "refund", "2"), 2, "a refund that is not journalled");
        assert_eq!(received(6, "authorize", "9"), 3, "a payment that nobody knows");
    }

    #[test]
    fn sees_a_word_that_the_journal_does_not_keep() {
        let journal = journal("processing", Some(5), 1);
        let mut coroner = Coroner::default();
        let mut told = |object: &str, id: &str, status: &str| {
            let word = json!({ "object": object, "id": id, "status": status, "account": "a" });
            coroner.told_only_what_is_written(&journal, &word);
            coroner.wrong.len()
        };
        assert_eq!(told("payment", "pay_1", "processing"), 0);
        assert_eq!(told("refund", "ref_1", "processing"), 0);
        assert_eq!(told("notice", "evt_1", ""), 0);
        assert_eq!(told("payment", "pay_1", "succeeded"), 1);
        assert_eq!(told("payment", "pay_9", "processing"), 2);
        assert_eq!(told("refund", "ref_1", "succeeded"), 3);
        assert_eq!(told("refund", "ref_9", "processing"), 4);
        assert_eq!(told("notice", "evt_9", ""), 5);
    }

    #[test]
    fn sees_what_is_forgotten_goes_back_vanishes_or_succeeds_twice() {
        let found = |journals: &[&Connection]| {
            let mut coroner = Coroner::default();
            for journal in journals {
                coroner.nothing_open_is_forgotten(journal);
                coroner.nothing_goes_back(journal);
            }
            coroner.wrong.len()
        };
        let (one, two) = (journal("processing", Some(5), 1), journal("succeeded", None, 2));
        assert_eq!(found(&[&one, &two, &two]), 0);
        assert_eq!(found(&[&journal("processing", None, 1)]), 1, "nobody looks at it again");
        assert_eq!(found(&[&two, &one]), 1, "an earlier version, and a final word taken back");
        assert_eq!(found(&[&two, &journal("failed", None, 3)]), 1);
        let gone = journal("succeeded", None, 2);
        gone.execute("DELETE FROM payment", []).expect("deleted");
        assert_eq!(found(&[&two, &gone]), 1);
        let twice = json!({ "attempts": [
            { "state": { "is": "success", "captured": true } },
            { "state": { "is": "success", "captured": false } },
        ] });
        let body = serde_json::to_vec(&twice).expect("JSON");
        gone.execute("INSERT INTO payment VALUES('pay_2', 1, 'succeeded', NULL, 0, ?1)", [body])
            .expect("written");
        assert_eq!(found(&[&gone]), 1);
    }

    fn journal(status: &str, due_at_ms: Option<i64>, ver: i64) -> Connection {
        let exchange =
            |kind: &str, op_id: &str| json!({ "kind": kind, "op_id": op_id, "sends": 1 });
        let payment = json!({
            "attempts": [{
                "op_id": "1", "state": { "is": "ambiguous" },
                "track": { "exchanges": [exchange("authorize", "1"), exchange("close", "7")] },
            }],
            "operations": [{ "id": "ref_1", "state": "started", "track": { "exchanges": [] } }],
        });
        let body = serde_json::to_vec(&payment).expect("JSON");
        let journal = Connection::open_in_memory().expect("a journal");
        journal.execute_batch(SCHEMA).expect("a schema");
        let row = (ver, status, due_at_ms, body);
        journal
            .execute("INSERT INTO payment VALUES('pay_1', ?1, ?2, ?3, 0, ?4)", row)
            .expect("written");
        journal
    }
}
