//! A million lines of a file: how long they take, and what is held of them.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use interlock_tests::house::{House, at_once};
use serde_json::json;

use crate::{file, reconcile, text, today};

const ACCOUNT: &str = "wechat-main";
const EAST: i8 = 8;
const PAYMENTS: usize = 1_000;
const LINES: usize = 1_000_000;
/// What a run may hold beside what the process holds anyway, KiB.
const HELD_MAX: u64 = 128 * 1024;

#[test]
#[ignore = "a measurement: `--test reconcile -- --ignored --nocapture`"]
fn a_million_lines_are_held_a_piece_at_a_time() {
    let Some(day) = today(EAST) else { return };
    let house = House::start();
    let paid = at_once(PAYMENTS, |_| {
        house.pay(&json!({
            "amount": 1_900, "currency": "CNY",
            "method": {
                "type": "wechat_pay", "flow": "barcode", "auth_code": "131234567890123401",
            },
        }))
    });
    let mut bill = "交易时间,微信订单号,商户订单号,交易状态,货币种类,微信退款单号,商户退款单号,\
                    退款状态,商品名称,手续费,订单金额,申请退款金额\r\n"
        .to_owned();
    for n in 0..LINES {
        let payment = &paid[n % PAYMENTS];
        let (number, reference) = (crate::number(payment), text(payment, "provider_ref"));
        let row = format!("`{day} 12:00:00,`{reference},`{number},`SUCCESS,`CNY,`0,`0,`,`tea");
        writeln!(bill, "{row},`0.02000,`19.00,`0.00\r").expect("written");
    }
    bill.push_str("总交易单数,订单总金额\r\n`1000000,`19000000.00\r\n");
    let path = file(&house, "million.csv", bill.as_bytes());
    let bytes = bill.len();
    drop(bill);

    let before = held(&house, "VmRSS");
    let begun = Instant::now();
    let (code, report) = reconcile(&house, ACCOUNT, &day, &["--file", &path]);
    let took = begun.elapsed();
    let peak = held(&house, "VmHWM");
    let run = &report["reconciliation"];
    assert_eq!((code, &run["lines"], &run["agrees"]), (0, &json!(LINES), &json!(LINES)), "{run}");
    println!(
        "{LINES} lines, {} MB, in {:.1} s: {:.0} lines/s; held {} KiB before, {peak} KiB at most",
        bytes / 1_000_000,
        took.as_secs_f64(),
        LINES as f64 / took.as_secs_f64(),
        before
    );
    assert!(peak < before + HELD_MAX, "{before} KiB before, {peak} KiB at most");
}

/// A line of the proxy's `/proc/PID/status`, KiB.
fn held(house: &House, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", house.proxy_pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
