//! Alipay's trade bill, from its fake and from archives.

use std::io::{Cursor, Write};

use encoding_rs::GBK;
use interlock_tests::house::{Answer, House};
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::till::Till;
use crate::{all_closed, case, file, net, number, refund, text};

const TILL: Till =
    Till { account: "alipay-main", method: "alipay", auth_code: "287391044173052701" };

#[test]
fn what_nobody_told_is_booked_once_and_the_rest_is_a_case() {
    TILL.what_nobody_told();
}

#[test]
fn an_archive_shows_other_amounts_and_what_it_lacks() {
    let Some(day) = Till::today() else { return };
    let house = House::start();
    let payments = [1_100, 1_200, 1_300, 1_400].map(|amount| TILL.paid(&house, amount));
    let [right, other, missing, given_back] = &payments;
    let given = refund(&house, given_back, 300);
    let before: Vec<i64> = payments.iter().map(|payment| net(&house, payment)).collect();
    assert_eq!(before, [1_100, 1_200, 1_300, 1_100]);
    let sent = house.payments_sent();

    let lacks =
        [charge(right, "11.00"), charge(other, "12.34"), charge(given_back, "14.00")].concat();
    let path = file(&house, "bill.zip", &archive(&lacks, &day));
    for _ in 0..2 {
        let (code, report) = TILL.reconcile(&house, &day, &["--file", &path]);
        let run = &report["reconciliation"];
        assert_eq!(
            (code, &run["status"], &run["agrees"]),
            (1, &json!("done"), &json!(2)),
            "{report}"
        );
        let differences = json!({ "amount_differs": 1, "only_ours": 1, "refund_only_ours": 1 });
        assert_eq!(run["differences"], differences, "{report}");
        let differs = case(&report, "amount_differs");
        assert_eq!(differs["payment"], other["id"]);
        assert_eq!(differs["theirs"]["amount"], 1_234);
        assert_eq!(case(&report, "only_ours")["payment"], missing["id"]);
        let unseen = case(&report, "refund_only_ours");
        assert_eq!(
            (&unseen["payment"], &unseen["ours"]["amount"]),
            (&given_back["id"], &json!(300))
        );
    }
    // A later archive has everything: nobody needs to close what was found before.
    let all = [
        charge(right, "11.00"),
        charge(other, "12.00"),
        charge(missing, "13.00"),
        charge(given_back, "14.00"),
        row(given_back, "退款", "-3.00", &text(&given, "op_id")),
    ]
    .concat();
    let whole = file(&house, "whole.zip", &archive(&all, &day));
    let (code, report) = TILL.reconcile(&house, &day, &["--file", &whole]);
    assert_eq!((code, &report["reconciliation"]["agrees"]), (0, &json!(5)), "{report}");
    assert!(all_closed(&report), "{report}");
    let after: Vec<i64> = payments.iter().map(|payment| net(&house, payment)).collect();
    assert_eq!((after, house.payments_sent()), (before, sent), "nothing was moved");

    let cut = details(&all, &day).replace("业务明细列表结束", "");
    let cut = file(&house, "cut.csv", &GBK.encode(&cut).0);
    let (code, report) = TILL.reconcile(&house, &day, &["--file", &cut]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("failed")), "{report}");
    assert!(run["error"].as_str().is_some_and(|why| why.contains("details")), "{report}");
}

fn charge(payment: &Answer, amount: &str) -> String {
    row(payment, "交易", amount, "")
}

/// A row of the details for a payment.
fn row(payment: &Answer, kind: &str, amount: &str, request: &str) -> String {
    let (number, reference) = (number(payment), text(payment, "provider_ref"));
    format!(
        "{reference}\t,{number}\t,{kind}\t,tea, hot,DAY 12:00:00,DAY 12:00:01,{amount},\
         {request}\t,-0.02\r\n"
    )
}

/// The details, in the columns that are needed.
fn details(rows: &str, day: &str) -> String {
    let head = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,订单金额（元）,\
                退款批次号/请求号,服务费（元）";
    format!(
        "#支付宝业务明细查询\r\n#----业务明细列表----\r\n{head}\r\n{}#----业务明细列表结束----\r\n",
        rows.replace("DAY", day)
    )
}

/// An archive of details and of sums, as Alipay packs them.
fn archive(rows: &str, day: &str) -> Vec<u8> {
    let sums = "#支付宝业务汇总查询\r\n#----业务汇总列表----\r\n门店编号\r\n合计\r\n\
                #----业务汇总列表结束----\r\n";
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [("details.csv", details(rows, day)), ("sums.csv", sums.to_owned())] {
        archive.start_file(name, SimpleFileOptions::default()).expect("a member");
        archive.write_all(&GBK.encode(&content).0).expect("packed");
    }
    archive.finish().expect("packed").into_inner()
}
