//! Bills of Alipay: their address, their form, and that they tell of everything that moved.

use std::io::{Cursor, Read as _};

use encoding_rs::GBK;
use interlock_sandbox::moment;
use serde_json::{Value, json};
use zip::ZipArchive;

use crate::stage::{SELLER_ID, Stage};

const A: &str = "alipay-main";
const METHOD: &str = "alipay.data.dataservice.bill.downloadurl.query";

/// Today in Beijing; a test that runs through midnight there ends early.
fn today() -> String {
    moment::beijing(moment::now_ms())[..10].to_owned()
}

async fn asked(stage: &Stage, day: &str) -> Value {
    stage.alipay(A, METHOD, json!({ "bill_type": "trade", "bill_date": day })).await
}

/// Fetches a bill by its address, and unpacks it: names and texts in the order of the names.
async fn files(stage: &Stage, made: &Value) -> Vec<(String, String)> {
    let url = made["bill_download_url"].as_str().unwrap();
    let own = format!("http://{}/downloadBillFile.resource?", stage.address(A));
    assert!(url.starts_with(&own), "this account's own address: {url}");
    let reply = stage.client.get(url).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let mut archive = ZipArchive::new(Cursor::new(reply.bytes().await.unwrap())).unwrap();
    let mut files = Vec::new();
    for n in 0..archive.len() {
        let mut file = archive.by_index(n).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let text = GBK.decode_without_bom_handling_and_without_replacement(&bytes);
        files.push((file.name().unwrap().into_owned(), text.expect("in GBK").into_owned()));
    }
    files.sort();
    files
}

/// The fields of the lines between the marks, with those of their head first.
fn list(text: &str) -> Vec<Vec<String>> {
    assert!(text.ends_with("\r\n"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(',').map(|field| field.trim().to_owned()).collect()).collect()
}

async fn portal(stage: &Stage, act: Value) -> (u16, Value) {
    let mut act = act;
    act["account"] = A.into();
    stage.control("POST", "/portal", act).await
}

/// 12.34 paid and 2.34 of it given back, 12.34 paid and cancelled, 5.00 paid elsewhere and 1.00 of
/// it given back there.
async fn busy(stage: &Stage) -> Value {
    let paid = stage.barcode(A, "n1", "280000000000000001").await;
    let refund = json!({ "out_trade_no": "n1", "refund_amount": "2.34", "out_request_no": "r1" });
    stage.alipay(A, "alipay.trade.refund", refund.clone()).await;
    stage.alipay(A, "alipay.trade.refund", refund).await;
    stage.barcode(A, "n2", "280000000000000001").await;
    stage.alipay(A, "alipay.trade.cancel", json!({ "out_trade_no": "n2" })).await;
    let charge = json!({ "act": "charge", "op_id": "elsewhere_1", "amount": 500 });
    assert_eq!(portal(stage, charge).await.0, 200);
    let refund = json!({ "act": "refund", "op_id": "elsewhere_1", "amount": 100 });
    assert_eq!(portal(stage, refund).await.0, 200);
    paid
}

#[tokio::test]
async fn the_details_tell_of_every_movement_also_of_the_portal() {
    let stage = Stage::start().await;
    let day = today();
    let paid = busy(&stage).await;
    let made = asked(&stage, &day).await;
    if today() != day {
        return;
    }
    let files = files(&stage, &made).await;
    let name = format!("{SELLER_ID}0156_{}_业务明细", day.replace('-', ""));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [format!("{name}(汇总).csv"), format!("{name}.csv")]);
    let text = &files[1].1;
    assert!(text.starts_with("#支付宝业务明细查询\r\n"), "{text}");
    let lines = list(text);
    assert_eq!(lines.len(), 1 + 6, "{text}");
    assert!(lines.iter().all(|line| line.len() == 25));
    let at = |line: usize, name: &str| {
        lines[line][lines[0].iter().position(|known| known == name).unwrap()].clone()
    };
    assert_eq!(at(1, "支付宝交易号"), paid["trade_no"].as_str().unwrap());
    let told = ["商户订单号", "业务类型", "订单金额（元）", "退款批次号/请求号", "服务费（元）"];
    let told = |line| told.map(|name| at(line, name));
    assert_eq!(told(1), ["n1", "交易", "12.34", "", "-0.07"]);
    assert_eq!(told(2), ["n1", "退款", "-2.34", "r1", "0.01"]);
    assert_eq!(told(3), ["n2", "交易", "12.34", "", "-0.07"]);
    assert_eq!(told(4), ["n2", "退款", "-12.34", "", "0.07"]);
    assert_eq!(told(5), ["elsewhere_1", "交易", "5.00", "", "-0.03"]);
    assert_eq!(told(6)[..3], ["elsewhere_1", "退款", "-1.00"]);
    assert!(at(6, "退款批次号/请求号").starts_with("portal"));
    let begins = text.find("业务明细列表--").unwrap();
    let ends = text.find("业务明细列表结束--").unwrap();
    assert!(
        begins < text.find("支付宝交易号").unwrap() && text.find("elsewhere_1").unwrap() < ends
    );
    assert!(text.contains("#交易合计：3笔，商家实收共29.68元，"), "{text}");
    assert!(text.contains("#退款合计：3笔，商家实收退款共-15.68元，"), "{text}");
}

#[tokio::test]
async fn the_sums_add_up_to_what_moved() {
    let stage = Stage::start().await;
    let day = today();
    busy(&stage).await;
    let made = asked(&stage, &day).await;
    if today() != day {
        return;
    }
    let files = files(&stage, &made).await;
    let fen = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
    let details = list(&files[1].1);
    let sum = |column: usize| details[1..].iter().map(|line| fen(&line[column])).sum::<i64>();
    let sums = list(&files[0].1);
    assert_eq!((sums.len(), sums[0].len(), sums[1][0].as_str()), (2, 12, "合计"));
    assert_eq!(sums[1][2..4], ["3", "3"]);
    assert_eq!((fen(&sums[1][4]), fen(&sums[1][9])), (sum(11), sum(22)));
    assert_eq!(fen(&sums[1][11]), sum(12) + sum(22));
    let (_, net) = stage.control("GET", "/net", Value::Null).await;
    let net: i64 = net.as_array().unwrap().iter().map(|net| net["net"].as_i64().unwrap()).sum();
    assert_eq!(sum(11), net, "as the ledger says");
}

#[tokio::test]
async fn an_address_is_good_for_its_time_and_a_day_without_movements_has_none() {
    let stage = Stage::with("bill_life_ms = 0", "").await;
    let day = today();
    let refused = asked(&stage, &day).await;
    assert_eq!(
        (&refused["code"], &refused["sub_code"]),
        (&json!("40004"), &json!("isp.bill_not_exist"))
    );
    stage.barcode(A, "n1", "280000000000000001").await;
    let made = asked(&stage, &day).await;
    let long_ago = asked(&stage, "2020-02-29").await;
    assert_eq!(long_ago["sub_code"], "isp.bill_not_exist");
    let at = async |url: &str| stage.client.get(url).send().await.unwrap().status().as_u16();
    if today() == day {
        assert_eq!(at(made["bill_download_url"].as_str().unwrap()).await, 404, "too late");
    }
    let own = format!("http://{}/downloadBillFile.resource", stage.address(A));
    assert_eq!(at(&own).await, 404);
    assert_eq!(at(&format!("{own}?token=0")).await, 404);
    for wrong in [
        json!({ "bill_type": "trade", "bill_date": "20200229" }),
        json!({ "bill_type": "trade", "bill_date": "2020-02-30" }),
        json!({ "bill_type": "signcustomer", "bill_date": "2020-02-29" }),
        json!({ "bill_type": "trade" }),
    ] {
        let refused = stage.alipay(A, METHOD, wrong).await;
        assert_eq!(refused["sub_code"], "isv.invalid_arguments");
    }
}

#[tokio::test]
async fn the_portal_moves_money_of_which_nobody_is_told() {
    let stage = Stage::start().await;
    let charge = json!({ "act": "charge", "op_id": "elsewhere_1", "amount": 500 });
    let (status, made) = portal(&stage, charge.clone()).await;
    assert_eq!((status, &made["status"]), (200, &json!("TRADE_SUCCESS")));
    assert_eq!(portal(&stage, charge).await.0, 409, "its number is used");
    let query = json!({ "out_trade_no": "elsewhere_1" });
    let query = stage.alipay(A, "alipay.trade.query", query).await;
    assert_eq!(query["trade_status"], "TRADE_SUCCESS");
    let refund = |amount: i64| json!({ "act": "refund", "op_id": "elsewhere_1", "amount": amount });
    let (status, made) = portal(&stage, refund(200)).await;
    assert_eq!((status, &made["status"]), (200, &json!("TRADE_SUCCESS")));
    assert_eq!(portal(&stage, refund(301)).await.0, 409, "more than is left");
    assert_eq!(portal(&stage, refund(300)).await.1["status"], "TRADE_CLOSED");
    for wrong in [
        json!({ "act": "charge" }),
        json!({ "act": "charge", "op_id": "a b", "amount": 1 }),
        json!({ "act": "charge", "op_id": "x", "amount": 0 }),
        json!({ "act": "refund", "op_id": "nobody", "amount": 1 }),
        json!({ "act": "dispute", "op_id": "elsewhere_1", "amount": 1 }),
    ] {
        assert_eq!(portal(&stage, wrong).await.0, 409);
    }
    let moved = [("charge", 500), ("refund", 200), ("refund", 300)];
    assert_eq!(stage.ledger(A).await, moved.map(|(kind, amount)| (kind.to_owned(), amount)));
    stage.barcode(A, "n1", "280000000000000001").await;
    let told = stage.hook.wait(1).await;
    assert!(told.iter().all(|notice| notice.body.contains("out_trade_no=n1")));
}
