//! A provider's statement beside the journal: what nobody told us is found and booked, once, and
//! what can't be booked is a case. Money is read from the sandbox's ledger.

mod refusals;
mod wechatpay;

use std::time::Duration;

use interlock_tests::house::{Answer, House};
use interlock_tests::ledger;
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
const CONFIG: &str = "interlock.toml";
/// Closer to midnight than this nobody can say in which day something was.
const EDGE: i64 = 10 * 60;

/// The day in a time zone, hours east of Greenwich, unless it ends or has begun just now.
fn today(east: i8) -> Option<String> {
    let now = Offset::constant(east).to_datetime(Timestamp::now());
    let second = i64::from(now.hour()) * 3_600 + i64::from(now.minute()) * 60;
    (EDGE..86_400 - EDGE).contains(&second).then(|| now.date().to_string())
}

fn text(answer: &Answer, key: &str) -> String {
    answer[key].as_str().expect("a text").to_owned()
}

/// The exit code and the report.
fn reconcile(house: &House, account: &str, day: &str, more: &[&str]) -> (i32, Value) {
    let mut arguments = vec!["reconcile", "--account", account, "--date", day, "--json"];
    arguments.extend(["--config", CONFIG]);
    arguments.extend(more);
    let (code, out) = house.cli_code(&arguments);
    let line = out.lines().find(|line| line.starts_with('{'));
    let report = line.and_then(|line| serde_json::from_str(line).ok());
    (code.expect("it ended by itself"), report.unwrap_or_else(|| unreachable!("{out}")))
}

/// Our number of its last attempt.
fn number(payment: &Answer) -> String {
    let last = payment["attempts"].as_array().and_then(|a| a.last()).expect("an attempt");
    last["op_id"].as_str().expect("a text").to_owned()
}

fn net(house: &House, payment: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &payment.json)
}
