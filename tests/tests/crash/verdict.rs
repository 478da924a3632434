//! The judgement after the kills: the merchants' books against the journal and the ledgers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use interlock_tests::house::House;
use interlock_tests::ledger;
use serde_json::{Value, json};

use crate::shop::{Deal, Street, Told};

/// What was traded.
pub struct Counts {
    /// Payments that the journal knows.
    pub payments: usize,
    accepted: usize,
    /// Requests that no answer came to.
    pub cut: usize,
    refused: usize,
    by_status: BTreeMap<String, usize>,
    wishes: usize,
    /// Refunds that were accepted.
    pub refunds: usize,
    given_back: usize,
    settled_ms: u128,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} payments, {} keys accepted, {} requests cut, {} refused, {:?}, {} operations; \
             {} payments charged more than once and given back; settled {} ms after the last fault",
            self.payments,
            self.accepted,
            self.cut,
            self.refused,
            self.by_status,
            self.wishes,
            self.given_back,
            self.settled_ms,
        )
    }
}

/// Counts, and everything that is wrong.
pub fn judge(
    house: &House,
    street: &Street,
    deals: &[Deal],
    within: Duration,
) -> (Counts, Vec<String>) {
    let mut wrong = Vec::new();
    let settled = wait_until_settled(house, street, deals, within);
    let settled_ms = settled.unwrap_or_else(|story| {
        wrong.push(story);
        within.as_millis()
    });
    let payments = street.payments("");
    let entries = house.ledger();
    known(deals, &payments, &mut wrong);
    for deal in deals {
        consistent(street, deal, &payments, &mut wrong);
    }
    let net = ledger::net(&entries);
    for p in payments.values() {
        money(p, &entries, &net, &mut wrong);
    }
    wrong.extend(overdrawn(&entries, &payments));
    wrong.extend(strangers(&entries, &payments));
    if house.ledger().len() != entries.len() {
        wrong.push("money moved after all was settled".into());
    }
    (count(deals, &payments, &entries, settled_ms), wrong)
}

/// No doubt, nothing on its way, no offer that could still be paid, no refund under way.
fn wait_until_settled(
    house: &House,
    street: &Street,
    deals: &[Deal],
    within: Duration,
) -> Result<u128, String> {
    let begun = Instant::now();
    loop {
        let doubts =
            &house.operate("GET", "/admin/v1/status", None)["in_doubt"]["payments"].clone();
        let open = ["&status=processing", "&status=requires_action"];
        let open: Vec<Value> = open.iter().flat_map(|s| street.payments(s).into_values()).collect();
        if *doubts == 0 && open.is_empty() && refunds_under_way(street, deals) == 0 {
            return Ok(begun.elapsed().as_millis());
        }
        if begun.elapsed() > within / 2 {
            open.iter().for_each(|p| ask_the_books(house, street, p));
        }
        if begun.elapsed() > within {
            let stories: Vec<String> = open.iter().take(3).map(|p| story(house, p)).collect();
            let told = stories.join("\n");
            return Err(format!(
                "{doubts} in doubt, {} open after {within:?}:\n{told}",
                open.len()
            ));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Where nobody can ask (Adyen), a doubt ends by a notification or by an operator who has looked
/// into the provider's books.
fn ask_the_books(house: &House, street: &Street, p: &Value) {
    let Some(attempt) = p["attempts"].as_array().and_then(|attempts| attempts.last()) else {
        return;
    };
    if p["status_reason"] != "provider_outcome_unknown" || attempt["account"] != "adyen-eu" {
        return;
    }
    let text = |key: &str| attempt[key].as_str().unwrap_or("").to_owned();
    let moved = street.movements(&text("account"), &text("op_id"));
    let outcome = if moved.is_empty() { "failed" } else { "succeeded" };
    let mut body = json!({
        "outcome": outcome, "subject": attempt["id"], "operator": "night shift",
        "reason": "seen in the provider's own books",
    });
    if let Some(movement) = moved.first() {
        body["provider_ref"] = movement["provider_ref"].clone();
    }
    let id = p["id"].as_str().unwrap_or("");
    house.operate("POST", &format!("/admin/v1/payments/{id}/resolve"), Some(&body));
}

fn refunds_under_way(street: &Street, deals: &[Deal]) -> usize {
    let refunds = deals.iter().flat_map(|d| &d.wishes).filter(|w| w.path == "/v1/refunds");
    let ids = refunds.filter_map(|w| w.last()?["id"].as_str());
    ids.filter(|id| street.get(&format!("/v1/refunds/{id}")).1["status"] == "processing").count()
}

fn story(house: &House, p: &Value) -> String {
    let id = p["id"].as_str().unwrap_or("");
    let lines = house.get(&format!("/v1/payments/{id}/timeline"));
    let lines = lines["data"].as_array().cloned().unwrap_or_default();
    let lines: Vec<String> = lines
        .iter()
        .map(|l| format!("  {} {} {} {}", l["at"], l["actor"], l["what"], l["reason"]))
        .collect();
    format!("{id} {} {} {}\n{}", p["status"], p["status_reason"], p["attempts"], lines.join("\n"))
}

/// Every key that got a 2xx made one payment; a key that was refused last made none.
fn known(deals: &[Deal], payments: &BTreeMap<String, Value>, wrong: &mut Vec<String>) {
    let mut made: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, p) in payments {
        made.entry(p["metadata"]["key"].as_str().expect("a key")).or_default().push(id);
    }
    for deal in deals {
        let ids = made.remove(deal.ask.key.as_str()).unwrap_or_default();
        match (deal.ask.accepted(), &ids[..]) {
            (true, [id]) if deal.told.iter().all(|t| t.id == *id) => {}
            (false, []) => {}
            _ => wrong.push(format!("key {}: {:?} {ids:?}", deal.ask.key, deal.ask.answers)),
        }
    }
    wrong.extend(made.into_keys().map(|key| format!("a payment of a key that nobody sent: {key}")));
}

/// No later word contradicts an earlier one, the journal's last word least of all.
fn consistent(
    street: &Street,
    deal: &Deal,
    payments: &BTreeMap<String, Value>,
    wrong: &mut Vec<String>,
) {
    let Some(now) = deal.id().and_then(|id| payments.get(id)) else { return };
    let last = Told {
        id: deal.id().unwrap_or("").to_owned(),
        status: now["status"].as_str().unwrap_or("").to_owned(),
    };
    let mut words: Vec<&Told> = deal.told.iter().collect();
    words.push(&last);
    for pair in words.windows(2) {
        if !may_follow(&pair[0].status, &pair[1].status) {
            wrong.push(format!("{}: told {:?}, then {:?}", last.id, pair[0], pair[1]));
        }
    }
    for wish in &deal.wishes {
        refund_stays(street, wish, wrong);
    }
}

/// A final word is for ever; a hold ends as a sale or is let go.
pub fn may_follow(before: &str, after: &str) -> bool {
    match before {
        "succeeded" | "failed" | "canceled" => before == after,
        "requires_capture" => after != "failed" && after != "requires_action",
        _ => true,
    }
}

fn refund_stays(street: &Street, wish: &crate::shop::Ask, wrong: &mut Vec<String>) {
    if wish.path != "/v1/refunds" || !wish.accepted() {
        return;
    }
    let told: Vec<&Value> =
        wish.answers.iter().filter(|(s, _)| *s < 300).map(|(_, body)| body).collect();
    let ids: BTreeSet<&str> = told.iter().filter_map(|r| r["id"].as_str()).collect();
    let last = wish.last().expect("it was accepted");
    let (status, now) = street.get(&format!("/v1/refunds/{}", last["id"].as_str().unwrap_or("")));
    let stays = last["status"] == "processing" || now["status"] == last["status"];
    if status != 200 || ids.len() != 1 || !stays || now["status"] == "processing" {
        wrong.push(format!("refund {}: told {told:?}, now {status} {now}", wish.key));
    }
}

/// The providers' ledgers say what the merchant was told.
fn money(p: &Value, entries: &[Value], net: &ledger::Net, wrong: &mut Vec<String>) {
    let number = |key: &str| p[key].as_i64().unwrap_or(0);
    let found = ledger::of_payment(net, p);
    let expected = match p["status"].as_str() {
        Some("succeeded") => number("amount_captured") - number("amount_refunded"),
        Some("requires_capture") => number("amount"),
        _ => 0,
    };
    let whole = p["capture"] != "automatic"
        || p["status"] != "succeeded"
        || number("amount_captured") == number("amount");
    if found != expected || !whole {
        let lines: Vec<String> = attempts(p)
            .filter_map(|a| a["op_id"].as_str())
            .flat_map(|op| entries.iter().filter(move |e| number_of(e).1 == op))
            .map(Value::to_string)
            .collect();
        let lines = lines.join("\n  ");
        wrong.push(format!("net money is {found}, expected {expected}: {p}\n  {lines}"));
    }
}

/// Not even for a moment does a payment hold more than its amount: a second account is charged
/// only after the first gave everything back.
fn overdrawn(entries: &[Value], payments: &BTreeMap<String, Value>) -> Vec<String> {
    let mut owners = BTreeMap::new();
    for p in payments.values() {
        for a in attempts(p) {
            let text = |key: &str| a[key].as_str().unwrap_or("");
            owners.insert((text("account"), text("op_id")), p);
        }
    }
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for entry in entries {
        let Some(p) = owners.get(&number_of(entry)) else { continue };
        let moved: i64 = ledger::net(std::slice::from_ref(entry)).into_values().sum();
        let held = held.entry(p["id"].as_str().unwrap_or("")).or_default();
        *held += moved;
        if *held > p["amount"].as_i64().unwrap_or(0) {
            wrong.push(format!("two charges at once, {held} held: {entry} {p}"));
        }
    }
    wrong
}

/// The account and our number of the payment that a movement belongs to.
fn number_of(entry: &Value) -> (&str, &str) {
    let reference = entry["reference"].as_str().filter(|r| !r.is_empty());
    let number = reference.or(entry["op_id"].as_str());
    (entry["account"].as_str().unwrap_or(""), number.unwrap_or(""))
}

/// Money under a number that no known payment has.
fn strangers(entries: &[Value], payments: &BTreeMap<String, Value>) -> Vec<String> {
    let known: BTreeSet<(&str, &str)> = payments
        .values()
        .flat_map(attempts)
        .filter_map(|a| Some((a["account"].as_str()?, a["op_id"].as_str()?)))
        .collect();
    let strange = entries.iter().filter(|e| !known.contains(&number_of(e)));
    strange.map(|e| format!("money of an unknown payment: {e}")).collect()
}

fn attempts(p: &Value) -> impl Iterator<Item = &Value> {
    p["attempts"].as_array().into_iter().flatten()
}

fn count(
    deals: &[Deal],
    payments: &BTreeMap<String, Value>,
    entries: &[Value],
    settled_ms: u128,
) -> Counts {
    let mut by_status = BTreeMap::new();
    for p in payments.values() {
        *by_status.entry(p["status"].as_str().unwrap_or("").to_owned()).or_default() += 1;
    }
    let cuts = |d: &Deal| d.ask.cuts + d.wishes.iter().map(|w| w.cuts).sum::<usize>();
    Counts {
        payments: payments.len(),
        accepted: deals.iter().filter(|d| d.ask.accepted()).count(),
        cut: deals.iter().map(cuts).sum(),
        refused: deals.iter().filter(|d| !d.ask.accepted()).count(),
        by_status,
        wishes: deals.iter().map(|d| d.wishes.len()).sum(),
        refunds: deals
            .iter()
            .flat_map(|d| &d.wishes)
            .filter(|w| w.path == "/v1/refunds" && w.accepted())
            .count(),
        given_back: payments.values().filter(|p| ledger::charges(entries, p) > 1).count(),
        settled_ms,
    }
}

mod the_judge {
    use super::*;
    use serde_json::json;

    #[test]
    fn sees_money_that_contradicts_the_status_or_belongs_to_nobody() {
        let p = payment("succeeded");
        let charge = |account, op| entry("charge", account, op);
        let good = [charge("a", "1"), entry("refund", "a", "1"), charge("b", "2")];
        assert_eq!(judged(&p, &good), 0);
        assert_eq!(judged(&p, &[]), 1, "paid and not charged");
        assert_eq!(judged(&payment("failed"), &good), 1, "failed and charged");
        let twice = [charge("a", "1"), charge("b", "2")];
        assert_eq!(judged(&p, &twice), 2, "kept twice, so held twice as well");
        let overlap = [charge("a", "1"), charge("b", "2"), entry("reverse", "a", "1")];
        assert_eq!(judged(&p, &overlap), 1, "held twice for a moment");
        let stranger = [charge("b", "2"), charge("b", "9")];
        assert_eq!(judged(&p, &stranger), 1);
    }

    #[test]
    fn sees_a_final_word_that_changes() {
        assert!(may_follow("processing", "failed") && may_follow("requires_capture", "canceled"));
        assert!(!may_follow("failed", "succeeded") && !may_follow("succeeded", "processing"));
        assert!(!may_follow("requires_capture", "failed"));
    }

    fn judged(p: &Value, entries: &[Value]) -> usize {
        let payments = BTreeMap::from([("pay_1".to_owned(), p.clone())]);
        let mut wrong = Vec::new();
        money(p, entries, &ledger::net(entries), &mut wrong);
        wrong.len() + overdrawn(entries, &payments).len() + strangers(entries, &payments).len()
    }

    fn payment(status: &str) -> Value {
        json!({
            "id": "pay_1", "status": status, "amount": 100, "capture": "automatic",
            "amount_captured": if status == "succeeded" { 100 } else { 0 }, "amount_refunded": 0,
            "attempts": [{ "account": "a", "op_id": "1" }, { "account": "b", "op_id": "2" }],
        })
    }

    fn entry(kind: &str, account: &str, op: &str) -> Value {
        json!({ "kind": kind, "account": account, "op_id": op, "reference": op, "amount": 100 })
    }
}
