//! WeChat Pay's trade bill, from its fake and from files.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use interlock_tests::house::{Answer, House, Plan};
use serde_json::{Value, json};

use crate::{CONFIG, all_closed, case, file, lift, net, number, portal, refund, text};

const ACCOUNT: &str = "wechat-main";
/// Hours east of Greenwich where its days begin.
const EAST: i8 = 8;

fn today() -> Option<String> {
    crate::today(EAST)
}

fn reconcile(house: &House, day: &str, more: &[&str]) -> (i32, Value) {
    crate::reconcile(house, ACCOUNT, day, more)
}

fn pay_by_code(house: &House, amount: i64) -> Answer {
    let paid = house.pay(&json!({
        "amount": amount, "currency": "CNY",
        "method": { "type": "wechat_pay", "flow": "barcode", "auth_code": "131234567890123401" },
    }));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    paid
}

#[test]
fn what_nobody_told_is_booked_once_and_the_rest_is_a_case() {
    let Some(day) = today() else { return };
    let house = House::start();
    let known = pay_by_code(&house, 1_250);
    refund(&house, &known, 100);
    // From now on nobody tells, and nobody answers.
    house.fault(ACCOUNT, "notify", "notify_lose");
    let silence = house.fault(ACCOUNT, "inquire", "hang");
    let shown = house.pay(&json!({
        "amount": 1_900, "currency": "CNY", "method": { "type": "wechat_pay", "flow": "qr" },
    }));
    house.shopper(ACCOUNT, &number(&shown), "pay");
    act(&house, "charge", "elsewhere-1", 500);
    act(&house, "refund", &number(&known), 250);
    let id = text(&shown, "id");
    assert_eq!(house.payment(&id)["status"], "requires_action", "paid and not credited");
    let sent = house.payments_sent();
    // A bill is asked for like a payment.
    lift(&house, &silence);

    let (code, report) = reconcile(&house, &day, &[]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("done")), "{report}");
    let differences = json!({ "not_credited": 1, "only_theirs": 1, "refund_not_ours": 1 });
    assert_eq!((&run["differences"], &run["booked"]), (&differences, &json!(2)), "{report}");
    assert_eq!(run["agrees"], 2, "the payment and its refund: {report}");
    assert_eq!(house.payment(&id)["status"], "succeeded");
    let known = house.payment(&text(&known, "id"));
    assert_eq!(known["amount_refunded"], 350);
    assert_eq!((net(&house, &known), net(&house, &house.payment(&id))), (900, 1_900));
    assert_eq!(house.payments_sent(), sent, "nothing was sent for it");

    let (code, report) = reconcile(&house, &day, &[]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["differences"]), (1, &json!({ "only_theirs": 1 })), "{report}");
    assert_eq!(run["agrees"], 4, "{report}");
    let cases = report["cases"].as_array().expect("cases");
    let open: Vec<&Value> = cases.iter().filter(|case| case["open"] == true).collect();
    assert_eq!((cases.len(), open.len()), (3, 1), "the booked ones are closed: {report}");
    let theirs = (&open[0]["theirs"]["number"], &open[0]["payment"]);
    assert_eq!(theirs, (&json!("elsewhere-1"), &Value::Null));
    let case = open[0]["id"].as_str().expect("an id");
    let arguments = [
        ["case", "close", case, "--reason", "the old till"].as_slice(),
        &["--operator", "night", "--config", CONFIG],
    ]
    .concat();
    let (closed, out) = house.cli_code(&arguments);
    assert_eq!(closed, Some(0), "{out}");
    let said: Vec<&str> = ["found", "found again", "closed: the old till"]
        .into_iter()
        .filter(|what| out.contains(what))
        .collect();
    assert_eq!(said.len(), 3, "{out}");
    let (code, report) = reconcile(&house, &day, &[]);
    assert_eq!((code, &report["reconciliation"]["settled"]), (0, &json!(1)), "{report}");
}

#[test]
fn a_file_shows_other_amounts_and_what_it_lacks() {
    let Some(day) = today() else { return };
    let house = House::start();
    let [right, other, missing] = [1_100, 1_200, 1_300].map(|amount| pay_by_code(&house, amount));
    let bill = bill(&[row(&right, "11.00"), row(&other, "12.34")], &day);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bill.as_bytes()).expect("packed");
    let packed = packed.finish().expect("packed");
    for path in [file(&house, "bill.csv", bill.as_bytes()), file(&house, "bill.gz", &packed)] {
        let (code, report) = reconcile(&house, &day, &["--file", &path]);
        let run = &report["reconciliation"];
        let ended = (code, &run["status"], &run["agrees"]);
        assert_eq!(ended, (1, &json!("done"), &json!(1)), "{report}");
        assert_eq!(run["differences"], json!({ "amount_differs": 1, "only_ours": 1 }), "{report}");
        let differs = case(&report, "amount_differs");
        assert_eq!(differs["payment"], other["id"]);
        assert_eq!(differs["theirs"]["amount"], 1_234);
        assert_eq!(differs["ours"]["amount"], 1_200);
        assert_eq!(case(&report, "only_ours")["payment"], missing["id"]);
    }
    // A later file has everything: nobody needs to close what was found before.
    let all = [row(&right, "11.00"), row(&other, "12.00"), row(&missing, "13.00")];
    let whole = file(&house, "whole.csv", self::bill(&all, &day).as_bytes());
    let (code, report) = reconcile(&house, &day, &["--file", &whole]);
    assert_eq!((code, &report["reconciliation"]["agrees"]), (0, &json!(3)), "{report}");
    assert!(all_closed(&report), "{report}");
    assert_eq!(house.payment(&text(&missing, "id"))["amount_refunded"], 0, "nothing was moved");

    let (lines, _) = bill.split_once("总交易单数").expect("a summary");
    let cut = file(&house, "cut.csv", lines.as_bytes());
    let (code, report) = reconcile(&house, &day, &["--file", &cut]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("failed")), "{report}");
    assert!(run["error"].as_str().is_some_and(|why| why.contains("summary")), "{report}");
}

#[test]
fn a_refund_that_a_bill_lacks_or_calls_closed_is_a_case_and_moves_nothing() {
    let Some(day) = today() else { return };
    let house = House::start();
    let paid = pay_by_code(&house, 1_100);
    let given = refund(&house, &paid, 300);
    let sent = house.payments_sent();
    let back = |state: &str| {
        let row =
            row(&paid, "0.00").replace("`SUCCESS", "`REFUND").replace(",`0,`0,`,`tea", "BACK");
        let (given, row) = (text(&given, "op_id"), row.replace("`0.00,`0.00", "`0.00,`3.00"));
        row.replace("BACK", &format!(",`5000000038,`{given},`{state},`tea"))
    };
    for (rows, kind) in [
        (vec![row(&paid, "11.00")], "refund_only_ours"),
        (vec![row(&paid, "11.00"), back("CLOSED")], "state_differs"),
    ] {
        let path = file(&house, "bill.csv", bill(&rows, &day).as_bytes());
        let (code, report) = reconcile(&house, &day, &["--file", &path]);
        let run = &report["reconciliation"];
        assert_eq!((code, &run["differences"]), (1, &json!({ kind: 1 })), "{report}");
        let found = case(&report, kind);
        assert_eq!((&found["payment"], &found["ours"]["amount"]), (&paid["id"], &json!(300)));
    }
    let rows = [row(&paid, "11.00"), back("SUCCESS")];
    let path = file(&house, "bill.csv", bill(&rows, &day).as_bytes());
    let (code, report) = reconcile(&house, &day, &["--file", &path]);
    assert_eq!((code, &report["reconciliation"]["agrees"]), (0, &json!(2)), "{report}");
    assert!(all_closed(&report), "{report}");
    assert_eq!(house.payment(&text(&paid, "id"))["amount_refunded"], 300);
    assert_eq!((net(&house, &paid), house.payments_sent()), (800, sent), "nothing was moved");
}

#[test]
fn the_fund_flow_is_held_against_the_journal_where_the_account_says_so() {
    let Some(day) = today() else { return };
    let mut house = House::prepared(Plan::default());
    let path = house.dir.path().join(CONFIG);
    let config = fs::read_to_string(&path).expect("a configuration");
    let key = "public_key_id = ";
    let flow = config.replace(key, &format!("statement = \"fund_flow\", {key}"));
    assert_ne!(flow, config);
    fs::write(&path, flow).expect("written");
    house.start_proxy();
    let paid = pay_by_code(&house, 1_250);
    refund(&house, &paid, 100);
    act(&house, "charge", "elsewhere-1", 500);
    act(&house, "refund", &number(&paid), 250);
    let (code, report) = reconcile(&house, &day, &[]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("done")), "{report}");
    // Of a refund in the portal the bill names a number that is none of ours, and no order.
    assert_eq!(run["differences"], json!({ "only_theirs": 2 }), "{report}");
    assert_eq!(run["agrees"], 2, "{report}");
    assert!(
        run["ignored"].as_u64().is_some_and(|fees| fees >= 2),
        "fees are passed over: {report}"
    );
    let asked = house.requests(ACCOUNT);
    assert!(asked.iter().any(|request| request["path"] == "/v3/bill/fundflowbill"), "{asked:?}");
}

fn act(house: &House, act: &str, number: &str, amount: i64) {
    let body = json!({ "account": ACCOUNT, "act": act, "op_id": number, "amount": amount });
    portal(house, &body);
}

/// A row of the trade bill for a payment.
fn row(payment: &Answer, amount: &str) -> String {
    let (number, reference) = (number(payment), text(payment, "provider_ref"));
    let paid = format!("`DAY 12:00:00,`{reference},`{number},`SUCCESS,`CNY");
    format!("{paid},`0,`0,`,`tea,`0.02000,`{amount},`0.00")
}

/// A trade bill of the columns that are needed.
fn bill(rows: &[String], day: &str) -> String {
    let head = "\u{feff}交易时间,微信订单号,商户订单号,交易状态,货币种类,微信退款单号,商户退款单号,\
                退款状态,商品名称,手续费,订单金额,申请退款金额";
    let sums = "总交易单数,订单总金额\r\n`2,`23.34\r\n";
    let rows = rows.join("\r\n").replace("DAY", day);
    format!("{head}\r\n{rows}\r\n{sums}")
}
