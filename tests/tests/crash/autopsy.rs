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
    seen: u64,
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
            _ => return,
        };
        if stands {
            self.told += 1;
        } else {
            self.wrong.push(format!("told, and not in the journal at the death: {word}"));
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
