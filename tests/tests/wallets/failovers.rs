//! A wallet's token at each of three processors in turn, under every fault of the first: who was
//! tried next, and who was not. What must come of it is written in `failovers.md`; what may never
//! come of it is judged by the sandbox's ledger, whatever the page says.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan};
use serde_json::{Value, json};

use crate::{AMOUNT, pay, token};

/// Each processor comes first once, by the currency of the route.
const FIRST: [(&str, &str); 3] =
    [("EUR", "adyen-eu"), ("USD", "checkout-eu"), ("GBP", "stripe-eu")];
/// The wallets of the table, and what is in their tokens.
const WALLETS: [&str; 2] = ["apple_pay", "google_pay"];
const FAULTS: [&str; 12] = [
    "refuse",
    "reset_after_read",
    "hang",
    "slow",
    "error_before",
    "error_after",
    "charge_then_drop",
    "garbage",
    "bad_signature",
    "decline_soft",
    "decline_hard",
    // Last: the provider's wish for patience outlives its row.
    "rate_limited",
];
/// How long a row is watched while its fault stands, and after it.
const WATCH: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);

/// One row of the page, as observed.
struct Row {
    text: String,
    wrong: Vec<String>,
}

#[test]
fn a_token_goes_on_only_where_it_was_not_spent() {
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let houses: Vec<_> = FIRST
            .iter()
            .map(|(currency, first)| scope.spawn(|| house_of(currency, first)))
            .collect();
        houses.into_iter().flat_map(|house| house.join().expect("the house stood")).collect()
    });
    let mut page = String::from(HEAD);
    let mut wrong: Vec<&String> = Vec::new();
    for row in &rows {
        let _ = writeln!(page, "{}", row.text);
        wrong.extend(&row.wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{page}");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wallets/failovers.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs: Vec<&str> =
        page.lines().filter(|line| !written.lines().any(|known| known == *line)).collect();
    assert!(differs.is_empty(), "not as the page says:\n{}", differs.join("\n"));
}

const HEAD: &str = "\
# Which payments by a wallet's token go on at another processor

One token, opened once, a processor that fails in every way, and two that are well. Observed by
`tests/tests/wallets/failovers.rs`, which writes this page with `UPDATE=1` and else holds what it
sees against it. Charges are those of the sandbox's ledger, in the order of the route.

| first | wallet | its fault | what happened | status | charges |
|---|---|---|---|---|---|
";

/// Every row in which one processor comes first.
fn house_of(currency: &str, first: &str) -> Vec<Row> {
    let account_lines = "adaptive_limit = false";
    let house = House::with(Plan { wallets: true, account_lines, ..Plan::default() });
    let mut rows = Vec::new();
    for fault in FAULTS {
        // Both at once: what takes long takes long for both. But the first 429 lets the account
        // rest, and a second payment may meet it before or after.
        let wallets = if fault == "rate_limited" { &WALLETS[..1] } else { &WALLETS[..] };
        let tokens = wallets.iter().map(|wallet| token(&house, wallet, currency, json!({})));
        let tokens: Vec<Value> = tokens.collect();
        let dial = json!({
            "account": first, "operation": "authorize", "fault": fault, "ms": 2_500,
            "for_ms": 600_000,
        });
        house.fault_with(dial);
        let made = wallets.iter().zip(&tokens).map(|(wallet, made)| {
            let answer = pay(&house, wallet, currency, &made["token"], 0);
            answer["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
        });
        let ids: Vec<String> = made.collect();
        for id in &ids {
            is_over_within(&house, id, WATCH);
        }
        house.lift_faults();
        for (n, id) in ids.iter().enumerate() {
            is_over_within(&house, id, PATIENCE);
            rows.push(row(&house, first, wallets[n], fault, &house.payment(id)));
        }
    }
    rows
}

fn is_over_within(house: &House, id: &str, within: Duration) -> bool {
    let end = std::time::Instant::now() + within;
    loop {
        let p = house.payment(id);
        if matches!(p["status"].as_str(), Some("succeeded" | "failed")) {
            return true;
        }
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn row(house: &House, first: &str, wallet: &str, fault: &str, p: &Answer) -> Row {
    let attempts: Vec<&Value> = p["attempts"].as_array().expect("a list").iter().collect();
    let of = |a: &Value, key: &str| a[key].as_str().unwrap_or("-").to_owned();
    let took: Vec<i64> = attempts.iter().map(|a| taken(house, a)).collect();
    let told: Vec<String> = attempts
        .iter()
        .map(|a| match a["reason"].as_str() {
            Some(reason) => format!("{} {} ({reason})", of(a, "account"), of(a, "state")),
            None => format!("{} {}", of(a, "account"), of(a, "state")),
        })
        .collect();
    let status = p["status"].as_str().expect("a status");
    let charges: Vec<String> = took.iter().map(i64::to_string).collect();
    let text = format!(
        "| {first} | {wallet} | {fault} | {} | {status} | {} |",
        told.join(" > "),
        charges.join("+"),
    );
    let mut wrong = Vec::new();
    let expected = i64::from(status == "succeeded");
    let sum: i64 = took.iter().sum();
    if sum != expected && status != "processing" {
        wrong.push(format!("{text}: charged {sum} times"));
    }
    if sum > 1 {
        wrong.push(format!("{text}: charged more than once"));
    }
    // A fault after which nobody knows whether the cryptogram reached the network.
    let spent = !["refuse", "rate_limited"].contains(&fault);
    if spent && attempts.len() > 1 {
        wrong.push(format!("{text}: a spent cryptogram was offered again"));
    }
    Row { text, wrong }
}

/// How often an account took the amount for an attempt, less what it gave back.
fn taken(house: &House, attempt: &Value) -> i64 {
    let of_it = |row: &&Value| row["op_id"] == attempt["op_id"] && row["amount"] == AMOUNT;
    let ledger = house.ledger();
    let rows = ledger.iter().filter(of_it);
    rows.map(|row| match row["kind"].as_str() {
        Some("charge" | "authorize") => 1,
        Some("void" | "reverse" | "refund") => -1,
        _ => 0,
    })
    .sum()
}
