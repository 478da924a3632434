//! What a cell came to, in the words of the table, and the rules that hold in every cell.
//!
//! Money and order are read from the sandbox alone: its ledger and its request log. The proxy's
//! word is only held against them.

use std::collections::BTreeMap;

use interlock_tests::house::{ALL, Answer, House};
use serde_json::Value;

use crate::cell::{Operation, Run};
use crate::kind::{AMOUNT, REFUND};

/// The late window of every house of the matrix, ms.
pub const WINDOW_MS: i64 = 1_000;

/// A row as observed, or as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whether it ended while the fault stood, only after it, or not at all.
    pub ends: String,
    /// The payment's status, its reason, and the refund's status.
    pub status: String,
    /// Each attempt: account, state, reason.
    pub attempts: String,
    /// How often each account took money.
    pub charges: String,
    /// What the providers keep at the end.
    pub net: String,
    /// What was sent more than once under the same number.
    pub again: String,
}

/// The sandbox's books.
pub struct Books {
    ledger: Vec<Value>,
    requests: Vec<Value>,
    faults: Faults,
}

/// What each fault of a house was, by its id.
pub type Faults = BTreeMap<String, &'static str>;

/// One cell in the words of the table.
pub fn row(run: &Run, books: &Books) -> Row {
    let p = &run.payment;
    let mut status = word(&p["status"]);
    if let Some(reason) = p["status_reason"].as_str() {
        status += &format!("/{reason}");
    }
    if let Some(refund) = &run.refund {
        status += &format!(", refund {}", word(&refund["status"]));
        if let Some(reason) = refund["status_reason"].as_str() {
            status += &format!("/{reason}");
        }
    }
    let attempts: Vec<String> = attempts(p)
        .map(|a| {
            let place = place(run, a);
            match a["reason"].as_str() {
                Some(reason) => format!("{place} {}({reason})", word(&a["state"])),
                None => format!("{place} {}", word(&a["state"])),
            }
        })
        .collect();
    let charges = |account: &str| books.takes(p, account).count();
    Row {
        ends: ends(run),
        status,
        attempts: attempts.join(" > "),
        charges: format!("{}+{}", charges(run.kind.first()), charges(run.kind.second())),
        net: in_words(books.net(p)),
        again: books.again(p, run.refund.as_ref()),
    }
}

/// The rules that hold whatever is expected; each breach is a sentence.
pub fn breaches(run: &Run, books: &Books) -> Vec<String> {
    let p = &run.payment;
    let net = books.net(p);
    let mut found = Vec::new();
    let mut holds = |rule: bool, says: String| {
        if !rule {
            found.push(says);
        }
    };
    let refunded = run.refund.as_ref().is_some_and(|r| r["status"] == "succeeded");
    let open = run.refund.as_ref().is_some_and(|r| r["status"] == "processing");
    let kept = if refunded { AMOUNT - REFUND } else { AMOUNT };
    holds(
        [0, AMOUNT, AMOUNT - REFUND].contains(&net),
        format!("I1: net is neither 0 nor once the amount: {net}"),
    );
    match p["status"].as_str() {
        Some("failed" | "canceled") => {
            holds(net == 0, format!("I3: money is kept after the end: {net}"));
        }
        Some("succeeded") => {
            let true_to_refund = net == kept || (open && net == AMOUNT - REFUND);
            holds(true_to_refund, format!("I2: success and refund say {kept}, not {net}"));
        }
        Some("requires_capture") => {
            holds(net == AMOUNT, format!("I2: a hold of {AMOUNT} was told, not {net}"));
        }
        _ => {}
    }
    holds(books.most_at_once(p) <= AMOUNT, "I1: two charges stood at one time".into());
    for pair in attempts(p).collect::<Vec<_>>().windows(2) {
        if let Some(says) = books.too_early(pair[0], pair[1]) {
            holds(false, says);
        }
    }
    found
}

fn ends(run: &Run) -> String {
    let processing = |a: &Answer| a["status"] == "processing" || a["status"] == "requires_action";
    if run.refund.as_ref().map_or(processing(&run.payment), processing) {
        "never".into()
    } else if run.lifted {
        "after".into()
    } else {
        "during".into()
    }
}

fn place(run: &Run, attempt: &Value) -> &'static str {
    if attempt["account"] == run.kind.first() { "first" } else { "second" }
}

fn attempts(payment: &Answer) -> impl Iterator<Item = &Value> {
    payment["attempts"].as_array().into_iter().flatten()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn in_words(net: i64) -> String {
    match net {
        0 => "0".into(),
        AMOUNT => "amount".into(),
        n if n == AMOUNT - REFUND => "amount-refund".into(),
        n => n.to_string(),
    }
}

impl Books {
    /// The books of a house as they stand.
    pub fn of_house(house: &House, faults: Faults) -> Self {
        let standing = house.control("GET", "/faults", None);
        assert_eq!(standing.json, serde_json::json!([]), "no fault stands any more");
        let mut requests = Vec::new();
        for (account, _) in ALL {
            requests.extend(house.requests(account));
        }
        requests.sort_by_key(|r| r["seq"].as_u64());
        Self { ledger: house.ledger(), requests, faults }
    }

    /// The movements of a payment, in order.
    fn of<'a>(&'a self, p: &'a Answer) -> impl Iterator<Item = &'a Value> {
        self.ledger.iter().filter(move |m| {
            attempts(p).any(|a| {
                a["account"] == m["account"]
                    && (a["op_id"] == m["op_id"] || a["op_id"] == m["reference"])
                    || (a["account"] == m["account"]
                        && a["provider_ref"].is_string()
                        && a["provider_ref"] == m["provider_ref"])
            })
        })
    }

    fn takes<'a>(&'a self, p: &'a Answer, account: &'a str) -> impl Iterator<Item = &'a Value> {
        self.of(p)
            .filter(move |m| m["account"] == account)
            .filter(|m| matches!(m["kind"].as_str(), Some("charge" | "authorize")))
    }

    fn net(&self, p: &Answer) -> i64 {
        self.of(p).map(signed).sum()
    }

    /// The most that the providers held at one time.
    fn most_at_once(&self, p: &Answer) -> i64 {
        let mut sum = 0;
        self.of(p).fold(0, |most, m| {
            sum += signed(m);
            most.max(sum)
        })
    }

    /// What was sent more than once, leaving out questions.
    fn again(&self, p: &Answer, refund: Option<&Answer>) -> String {
        let ours = |r: &&Value| {
            let attempt = attempts(p).any(|a| {
                let named = a["op_id"] == r["op_id"];
                let path = r["path"].as_str().unwrap_or("");
                let on = a["provider_ref"].as_str().is_some_and(|id| path.contains(id));
                a["account"] == r["account"] && (named || on)
            });
            attempt || refund.is_some_and(|refund| refund["op_id"] == r["op_id"])
        };
        let mut words: Vec<String> = self
            .requests
            .iter()
            .filter(ours)
            .filter(|r| r["duplicate"] == true && r["operation"] != "inquire")
            .map(|r| word(&r["operation"]))
            .collect();
        words.sort();
        words.dedup();
        if words.is_empty() { "-".into() } else { words.join(" ") }
    }

    /// Whether the second attempt's request came before the first was proven to have taken nothing,
    /// by what the first account had been asked and had answered until then.
    fn too_early(&self, first: &Value, second: &Value) -> Option<String> {
        let about = |a: &Value, operation: &str| -> Vec<&Value> {
            let ours = |r: &&Value| {
                r["account"] == a["account"]
                    && r["op_id"] == a["op_id"]
                    && r["operation"] == operation
            };
            self.requests.iter().filter(ours).collect()
        };
        let begun = about(second, "authorize").into_iter().next()?;
        let at = time(&begun["at"]);
        // By the order of arrival: the log is one for all accounts.
        let before = |r: &&Value| r["seq"].as_u64() < begun["seq"].as_u64();
        let sent: Vec<&Value> = about(first, "authorize").into_iter().filter(before).collect();
        let last = time(&sent.last()?["at"]);
        // Told what became of it: an answer that no fault has spoilt, or a refusal.
        let fault = |r: &Value| r["fault"].as_str().and_then(|id| self.faults.get(id)).copied();
        let refused = |r: &&&Value| {
            matches!(fault(r), None | Some("decline_soft" | "decline_hard" | "rate_limited"))
        };
        let told = sent.iter().filter(refused).any(|r| r["answered"].is_number());
        let offered = sent.iter().all(|r| {
            r["call"].as_str().is_some_and(|c| c.ends_with(".precreate") || c == "native")
        });
        let heard = |operation: &str, wait: i64| {
            about(first, operation).into_iter().filter(before).any(|r| {
                let said = r["answered"].as_u64().is_some_and(|s| matches!(s, 200 | 204 | 404));
                // WeChat Pay signs no 404, so a false signature has nothing to spoil.
                let unsigned = r["account"].as_str().is_some_and(|a| a.starts_with("wechat"))
                    && r["answered"] == 404
                    && fault(r) == Some("bad_signature");
                said && (fault(r).is_none() || unsigned) && time(&r["at"]) >= last + wait
            })
        };
        let shown = !about(first, "close").is_empty() || !offered;
        let proven = told && (!offered || heard("close", 0))
            || !shown
            || heard("inquire", WINDOW_MS)
            || heard("close", WINDOW_MS)
            || self.gave_back(first, at)
            || (heard("inquire", 0) && heard("close", 0) && self.was_there(first));
        let late = about(first, "authorize").into_iter().any(|r| !before(&r));
        let accounts = format!("{} after {}", second["account"], first["account"]);
        if !proven {
            return Some(format!("I6: {accounts} was asked at {at} without a proof"));
        }
        late.then(|| format!("I6: {accounts}, and the first was asked again"))
    }

    /// Whether the first account had taken it, and had given it back by then.
    fn gave_back(&self, attempt: &Value, by: i64) -> bool {
        let ours =
            |m: &&Value| m["account"] == attempt["account"] && m["reference"] == attempt["op_id"];
        let moves: Vec<&Value> = self.ledger.iter().filter(ours).collect();
        let back = moves.iter().filter(|m| signed(m) < 0).any(|m| time(&m["at"]) <= by);
        back && moves.iter().map(|m| signed(m)).sum::<i64>() == 0
    }

    /// Whether the first account had taken it in: then a close finds it, and ends it.
    fn was_there(&self, attempt: &Value) -> bool {
        attempt["provider_ref"].is_string()
    }
}

fn signed(m: &Value) -> i64 {
    let amount = m["amount"].as_i64().expect("whole minor units");
    match m["kind"].as_str() {
        Some("charge" | "authorize") => amount,
        Some("refund" | "void" | "reverse") => -amount,
        _ => 0,
    }
}

/// RFC 3339 in UTC as milliseconds since the first of March of year 0.
pub fn time(value: &Value) -> i64 {
    let text = value.as_str().expect("a time");
    let number = |range: std::ops::Range<usize>| -> i64 {
        text.get(range).and_then(|t| t.parse().ok()).expect("RFC 3339")
    };
    // The year begins in March, so that the leap day is its last.
    let (year, month) = match number(5..7) {
        month @ 3.. => (number(0..4), month - 3),
        month => (number(0..4) - 1, month + 9),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5;
    let hours = (days + number(8..10)) * 24 + number(11..13);
    let seconds = (hours * 60 + number(14..16)) * 60 + number(17..19);
    let fraction = text.get(20..).unwrap_or("").trim_end_matches('Z');
    let ms: i64 = format!("{fraction:0<3}").get(..3).and_then(|t| t.parse().ok()).unwrap_or(0);
    seconds * 1_000 + ms
}

/// What a run is called in the table.
pub fn name(operation: Operation, fault: &str, kind: &str) -> String {
    format!("{} × {fault} × {kind}", operation.word())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_second_account_that_is_asked_before_a_proof_is_a_breach() {
        let proven = |second: u64, log: &[Value]| {
            let mut requests = log.to_vec();
            requests.push(request(second, "b", "authorize", "payments", json!(201), None));
            requests.sort_by_key(|r| r["seq"].as_u64());
            let faults = Faults::from([("flt_1".into(), "hang"), ("flt_2".into(), "decline_soft")]);
            let books = Books { ledger: Vec::new(), requests, faults };
            books.too_early(&attempt("a"), &attempt("b")).is_none()
        };
        let lost = request(1_000, "a", "authorize", "payments", json!(null), Some("flt_1"));
        let asked = |at| request(at, "a", "inquire", "list", json!(200), None);
        let refused = request(1_000, "a", "authorize", "payments", json!(201), Some("flt_2"));
        let offered = request(1_000, "a", "authorize", "x.precreate", json!(null), Some("flt_1"));
        assert!(proven(1_100, &[]), "nothing was sent");
        assert!(proven(1_100, &[refused]), "a decline");
        assert!(proven(1_100, &[offered]), "never shown");
        assert!(!proven(1_100, std::slice::from_ref(&lost)), "no answer");
        assert!(!proven(1_500, &[lost.clone(), asked(1_400)]), "asked within the window");
        assert!(!proven(2_000, &[lost.clone(), asked(2_100)]), "asked too late");
        assert!(proven(2_200, &[lost.clone(), asked(2_100)]), "asked after the window");
        let again = request(2_300, "a", "authorize", "payments", json!(201), None);
        assert!(!proven(2_200, &[lost, asked(2_100), again]), "sent again after the proof");
    }

    #[test]
    fn two_charges_at_one_time_are_seen_although_one_is_given_back() {
        let moved = |account: &str, kind: &str| {
            json!({
                "account": account, "op_id": account, "reference": account, "kind": kind,
                "amount": AMOUNT, "at": "2026-01-01T00:00:00Z",
            })
        };
        let most = |ledger: Vec<Value>| {
            let books = Books { ledger, requests: Vec::new(), faults: Faults::new() };
            let json = json!({ "attempts": [attempt("a"), attempt("b")] });
            let p = Answer { status: 200, headers: Vec::new(), json, body: Vec::new() };
            (books.most_at_once(&p), books.net(&p))
        };
        let (a, back, b) = (moved("a", "charge"), moved("a", "reverse"), moved("b", "charge"));
        assert_eq!(most(vec![a.clone(), back.clone(), b.clone()]), (AMOUNT, AMOUNT));
        assert_eq!(most(vec![a, b, back]), (2 * AMOUNT, AMOUNT));
    }

    #[test]
    fn times_go_on_over_the_ends_of_months() {
        let at = |text: &str| time(&json!(text));
        let day = 24 * 3_600_000;
        assert_eq!(at("2026-03-01T00:00:00Z") - at("2026-02-28T00:00:00Z"), day);
        assert_eq!(at("2028-03-01T00:00:00Z") - at("2028-02-28T00:00:00Z"), 2 * day);
        assert_eq!(at("2027-01-01T00:00:00.25Z") - at("2026-12-31T23:59:59.999Z"), 251);
        assert_eq!(at("2026-10-01T00:00:00Z") - at("2026-09-30T00:00:00Z"), day);
    }

    fn attempt(account: &str) -> Value {
        json!({ "account": account, "op_id": account })
    }

    fn request(
        ms: u64,
        account: &str,
        operation: &str,
        call: &str,
        answered: Value,
        fault: Option<&str>,
    ) -> Value {
        json!({
            "seq": ms, "at": format!("2026-01-01T00:00:{:02}.{:03}Z", ms / 1_000, ms % 1_000),
            "account": account, "op_id": account, "operation": operation, "call": call,
            "answered": answered, "fault": fault,
        })
    }
}
