//! What the providers' ledgers say, summed up independently of the proxy.

use std::collections::BTreeMap;

use serde_json::Value;

/// Net money of one payment at one provider account and number, minor units.
pub type Net = BTreeMap<(String, String), i64>;

/// Money taken or held and not given back, by account and our number of the payment. A capture
/// moves what its authorization already holds.
pub fn net(ledger: &[Value]) -> Net {
    let mut net = Net::new();
    for entry in ledger {
        let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
        let amount = entry["amount"].as_i64().expect("whole minor units");
        let signed = match entry["kind"].as_str() {
            Some("charge" | "authorize") => amount,
            Some("refund" | "void" | "reverse") => -amount,
            _ => 0,
        };
        // Refunds and voids carry their own number; the payment's is its reference.
        let payment = match entry["reference"].as_str() {
            Some(reference) if !reference.is_empty() => reference.to_owned(),
            _ => text("op_id"),
        };
        *net.entry((text("account"), payment)).or_default() += signed;
    }
    net
}

/// The net money of one payment over all of its attempts.
pub fn of_payment(net: &Net, payment: &Value) -> i64 {
    let attempts = payment["attempts"].as_array().cloned().unwrap_or_default();
    let mut seen = Vec::new();
    let mut sum = 0;
    for attempt in attempts {
        let text = |key: &str| attempt[key].as_str().unwrap_or("").to_owned();
        let key = (text("account"), text("op_id"));
        if !seen.contains(&key) {
            sum += net.get(&key).copied().unwrap_or(0);
            seen.push(key);
        }
    }
    sum
}

/// How often money was taken for a payment, whatever was given back later.
pub fn charges(ledger: &[Value], payment: &Value) -> usize {
    let attempts = payment["attempts"].as_array().cloned().unwrap_or_default();
    let ours = |entry: &Value| {
        // What the shopper had to approve first was taken under another number of ours.
        let named = |a: &Value| a["op_id"] == entry["op_id"] || a["op_id"] == entry["reference"];
        attempts.iter().any(|a| a["account"] == entry["account"] && named(a))
    };
    let takes = |entry: &&Value| {
        matches!(entry["kind"].as_str(), Some("charge" | "authorize")) && ours(entry)
    };
    ledger.iter().filter(takes).count()
}
