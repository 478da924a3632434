//! Bills of WeChat Pay: their hash, their form, and that they tell of everything that moved.

use std::io::Read as _;

use flate2::read::GzDecoder;
use interlock_sandbox::moment;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

use super::stage::{APPID, MCHID, Shop, refund_of};

/// Asks for a bill, fetches it by its address, and checks its hash.
async fn bill(shop: &Shop, target: &str) -> String {
    let (status, offer) = shop.call("GET", target, Value::Null).await;
    assert_eq!((status, &offer["hash_type"]), (200, &json!("SHA1")), "{offer}");
    let url = offer["download_url"].as_str().unwrap();
    let target = url.strip_prefix(&shop.url("")).expect("this account's own address");
    let unsigned = shop.client.get(url).header("accept", "*/*").send().await.unwrap();
    assert_eq!(unsigned.status(), 401, "a download is authorised like any request");
    let reply = shop.reply("GET", target, Value::Null).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.headers.contains_key("wechatpay-signature"), "files are not signed");
    let mut text = Vec::new();
    if reply.body.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&reply.body[..]).read_to_end(&mut text).expect("packed as RFC 1952 says");
    } else {
        text = reply.body;
    }
    let hash = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text));
    assert_eq!(offer["hash_value"], hash, "of the unpacked bill");
    String::from_utf8(text).unwrap()
}

/// The fields of a line, as merchants' readers find them.
fn fields(line: &str) -> Vec<String> {
    let line = line.strip_prefix('`').expect("every field begins with a backtick");
    line.split(",`").map(str::to_owned).collect()
}

/// Today in Beijing; a test that runs through midnight there asks again.
fn today() -> String {
    moment::beijing(moment::now_ms())[..10].to_owned()
}

#[tokio::test]
async fn the_trade_bill_tells_of_payments_refunds_and_reversals_also_of_the_portal() {
    let shop = Shop::with("refund_ms = 0\nreverse_after_ms = 0").await;
    let day = today();
    let all = format!("/v3/bill/tradebill?bill_date={day}&bill_type=ALL");
    assert_eq!(shop.refused(400, "GET", &all, Value::Null).await, "NO_STATEMENT_EXIST");
    let (_, paid) = shop.pay("code-01", "130000000000000009").await;
    shop.refund(refund_of("code-01", "r1", 234)).await;
    shop.pay("code-07", "130000000000000007").await;
    shop.reverse("code-07").await;
    shop.portal(json!({ "act": "charge", "op_id": "elsewhere-1", "amount": 500 })).await;
    if today() != day {
        return;
    }
    let text = bill(&shop, &all).await;
    let text = text.strip_prefix('\u{feff}').expect("a mark of UTF-8");
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1 + 5 + 2, "{text}");
    let head: Vec<&str> = lines[0].split(',').collect();
    assert_eq!((head.len(), head[0], head[26]), (27, "交易时间", "费率备注"));
    let at = |line: usize, name: &str| {
        fields(lines[line])[head.iter().position(|known| *known == name).unwrap()].clone()
    };
    assert!(lines[1..6].iter().all(|line| fields(line).len() == 27));
    assert_eq!((at(1, "公众账号ID"), at(1, "商户号")), (APPID.into(), MCHID.into()));
    assert_eq!(at(1, "微信订单号"), paid["transaction_id"].as_str().unwrap());
    let money = ["应结订单金额", "代金券金额", "订单金额", "手续费"].map(|name| at(1, name));
    assert_eq!(money, ["12.34", "0.01", "12.34", "0.07000"]);
    let told = ["商户订单号", "交易状态", "商户退款单号", "退款金额", "退款状态"];
    assert_eq!(told.map(|name| at(2, name)), ["code-01", "REFUND", "r1", "2.34", "SUCCESS"]);
    assert_eq!(told.map(|name| at(4, name)), ["code-07", "REVOKED", "0", "12.34", "SUCCESS"]);
    assert_eq!(told.map(|name| at(5, name)), ["elsewhere-1", "SUCCESS", "0", "0.00", ""]);
    assert!(lines[6].starts_with("总交易单数,应结订单总金额,"));
    let sums = fields(lines[7]);
    assert_eq!(sums, ["5", "29.68", "14.68", "0.00", "0.09000", "29.68", "14.68"]);

    assert_eq!(bill(&shop, &format!("{all}&tar_type=GZIP")).await, bill(&shop, &all).await);
    let refunds = format!("/v3/bill/tradebill?bill_date={day}&bill_type=REFUND");
    let text = bill(&shop, &refunds).await;
    assert_eq!(text.split_terminator("\r\n").count(), 1 + 2 + 2);
    let yesterday = "/v3/bill/tradebill?bill_date=2020-02-29";
    assert_eq!(shop.refused(400, "GET", yesterday, Value::Null).await, "NO_STATEMENT_EXIST");
    for wrong in ["bill_date=20200229", "bill_date=2020-02-29&tar_type=ZIP"] {
        let target = format!("/v3/bill/tradebill?{wrong}");
        assert_eq!(shop.refused(400, "GET", &target, Value::Null).await, "PARAM_ERROR");
    }
    let gone = "/v3/billdownload/file?token=0";
    assert_eq!(shop.refused(400, "GET", gone, Value::Null).await, "PARAM_ERROR");
}

#[tokio::test]
async fn the_fund_bill_adds_up_to_its_balance() {
    let shop = Shop::with("refund_ms = 0").await;
    let day = today();
    shop.pay("code-01", "130000000000000001").await;
    shop.refund(refund_of("code-01", "r1", 1000)).await;
    let target = format!("/v3/bill/fundflowbill?bill_date={day}");
    if today() != day {
        return;
    }
    let text = bill(&shop, &target).await;
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 1 + 4 + 2, "{text}");
    let balances: Vec<String> = lines[1..5].iter().map(|line| fields(line)[7].clone()).collect();
    assert_eq!(balances, ["12.34", "12.27", "2.27", "2.33"], "the fee of a refund comes back");
    assert_eq!(fields(lines[6]), ["4", "2", "12.40", "2", "10.07"]);
}
