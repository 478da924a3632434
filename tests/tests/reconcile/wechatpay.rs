//! WeChat Pay's trade bill, from its fake and from files.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use interlock_tests::house::{Answer, House, Plan};
use serde_json::json;

use crate::till::Till;
use crate::{CONFIG, all_closed, case, file, net, number, refund, text};

const TILL: Till =
    Till { account: "wechat-main", method: "wechat_pay", auth_code: "131234567890123401" };

#[test]
fn what_nobody_told_is_booked_once_and_the_rest_is_a_case() {
    TILL.what_nobody_told();
}

#[test]
fn a_file_shows_other_amounts_and_what_it_lacks() {
    let Some(day) = Till::today() else { return };
    let house = House::start();
    let [right, other, missing] = [1_100, 1_200, 1_300].map(|amount| TILL.paid(&house, amount));
    let bill = bill(&[row(&right, "11.00"), row(&other, "12.34")], &day);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bill.as_bytes()).expect("packed");
    let packed = packed.finish().expect("packed");
    for path in [file(&house, "bill.csv", bill.as_bytes()), file(&house, "bill.gz", &packed)] {
        let (code, report) = TILL.reconcile(&house, &day, &["--file", &path]);
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
    let (code, report) = TILL.reconcile(&house, &day, &["--file", &whole]);
    assert_eq!((code, &report["reconciliation"]["agrees"]), (0, &json!(3)), "{report}");
    assert!(all_closed(&report), "{report}");
    assert_eq!(house.payment(&text(&missing, "id"))["amount_refunded"], 0, "nothing was moved");

    let (lines, _) = bill.split_once("总交易单数").expect("a summary");
    let cut = file(&house, "cut.csv", lines.as_bytes());
    let (code, report) = TILL.reconcile(&house, &day, &["--file", &cut]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("failed")), "{report}");
    assert!(run["error"].as_str().is_some_and(|why| why.contains("summary")), "{report}");
}

#[test]
fn a_refund_that_a_bill_lacks_or_calls_closed_is_a_case_and_moves_nothing() {
    let Some(day) = Till::today() else { return };
    let house = House::start();
    let paid = TILL.paid(&house, 1_100);
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
        let (code, report) = TILL.reconcile(&house, &day, &["--file", &path]);
        let run = &report["reconciliation"];
        assert_eq!((code, &run["differences"]), (1, &json!({ kind: 1 })), "{report}");
        let found = case(&report, kind);
        assert_eq!((&found["payment"], &found["ours"]["amount"]), (&paid["id"], &json!(300)));
    }
    let rows = [row(&paid, "11.00"), back("SUCCESS")];
    let path = file(&house, "bill.csv", bill(&rows, &day).as_bytes());
    let (code, report) = TILL.reconcile(&house, &day, &["--file", &path]);
    assert_eq!((code, &report["reconciliation"]["agrees"]), (0, &json!(2)), "{report}");
    assert!(all_closed(&report), "{report}");
    assert_eq!(house.payment(&text(&paid, "id"))["amount_refunded"], 300);
    assert_eq!((net(&house, &paid), house.payments_sent()), (800, sent), "nothing was moved");
}

#[test]
fn the_fund_flow_is_held_against_the_journal_where_the_account_says_so() {
    let Some(day) = Till::today() else { return };
    let mut house = House::prepared(Plan::default());
    let path = house.dir.path().join(CONFIG);
    let config = fs::read_to_string(&path).expect("a configuration");
    let key = "public_key_id = ";
    let flow = config.replace(key, &format!("statement = \"fund_flow\", {key}"));
    assert_ne!(flow, config);
    fs::write(&path, flow).expect("written");
    house.start_proxy();
    let paid = TILL.paid(&house, 1_250);
    refund(&house, &paid, 100);
    TILL.act(&house, "charge", "elsewhere-1", 500);
    TILL.act(&house, "refund", &number(&paid), 250);
    let (code, report) = TILL.reconcile(&house, &day, &[]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("done")), "{report}");
    // Of a refund in the portal the bill names a number that is none of ours, and no order.
    assert_eq!(run["differences"], json!({ "only_theirs": 2 }), "{report}");
    assert_eq!(run["agrees"], 2, "{report}");
    assert!(
        run["ignored"].as_u64().is_some_and(|fees| fees >= 2),
        "fees are passed over: {report}"
    );
    let asked = house.requests(TILL.account);
    assert!(asked.iter().any(|request| request["path"] == "/v3/bill/fundflowbill"), "{asked:?}");
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
