//! A provider's statement beside the journal: what nobody told us is found and booked, once, and
//! what can't be booked is a case. Money is read from the sandbox's ledger.

mod alipay;
mod doubt;
mod million;
mod paypal;
mod refusals;
mod till;
mod wechatpay;

use std::fs;
use std::time::Duration;

use interlock_tests::house::{Answer, House, fresh};
use interlock_tests::ledger;
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Value, json};

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

/// Gives a part back, and waits until it is.
fn refund(house: &House, payment: &Answer, amount: i64) -> Answer {
    let body = json!({ "payment": payment["id"], "amount": amount });
    let refund = house.post("/v1/refunds", &fresh("refund"), &body);
    let path = format!("/v1/refunds/{}", text(&refund, "id"));
    house.wait_until("it is given back", SOON, |h| h.get(&path)["status"] == "succeeded");
    house.get(&path)
}

/// Somebody does this in the provider's portal.
fn portal(house: &House, body: &Value) -> Answer {
    let done = house.control("POST", "/portal", Some(body));
    assert_eq!(done.status, 200, "{done:?}");
    done
}

fn lift(house: &House, fault: &Value) {
    house.control("DELETE", &format!("/faults/{}", fault.as_str().expect("an id")), None);
}

/// A file in the house's folder.
fn file(house: &House, name: &str, bytes: &[u8]) -> String {
    let path = house.dir.path().join(name);
    fs::write(&path, bytes).expect("written");
    path.to_str().expect("a path").to_owned()
}

/// The one case of this kind in a report.
fn case(report: &Value, kind: &str) -> Value {
    let cases = report["cases"].as_array().expect("cases");
    let found: Vec<&Value> = cases.iter().filter(|case| case["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {report}");
    found[0].clone()
}

/// Every case of a report is closed.
fn all_closed(report: &Value) -> bool {
    report["cases"].as_array().expect("cases").iter().all(|case| case["open"] == false)
}
