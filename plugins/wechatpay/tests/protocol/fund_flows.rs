//! The fund-flow bill: asked for where the account says so, and known by its columns.

use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{
    Effect, Event, Fault, FaultKind, LineKind, LineState, Manifest, Operation, Packing, Period,
    Provider, Request, StatementLine,
};
use serde_json::json;
use wechatpay::WeChatPay;

use crate::peer::{self, NUMBER};

const ORDER: &str = "4200000000202511240000000001";
const REFUND: &str = "50000000382019052709732678859";
const HEADER: &str = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,\
    收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号";
const SUMMARY: &str = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n\
    `2,`1,`88.88,`1,`10.00\r\n";

fn asked() -> Request {
    let period = Some(Period { date: "2025-11-24".into() });
    Request { period, ..testkit::request(0, "CNY", 2) }
}

/// A row: its business, kind, direction, amount, remark and voucher.
fn row([business, kind, direction, amount, remark, voucher]: [&str; 6]) -> String {
    format!(
        "`2025-11-24 10:00:00,`{business},`1000202511240001,`交易,`{kind},`{direction},`{amount},\
         `100.00,`1900000001API,`{remark},`{voucher}\r\n"
    )
}

fn charge(remark: &str) -> String {
    row([ORDER, "交易", "收入", "88.88", remark, NUMBER])
}

fn bill(rows: &[String]) -> String {
    format!("\u{feff}{HEADER}\r\n{}{SUMMARY}", rows.concat())
}

fn read(pieces: &[&str]) -> Result<Vec<StatementLine>, Fault> {
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
    let mut lines = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let event = Event::Piece { last: n + 1 == pieces.len() };
        let part = drive.step(event, piece.as_bytes())?.done().statement.unwrap();
        assert_eq!(part.covers.unwrap().from_ms, 1_763_913_600_000, "midnight in Beijing");
        lines.extend(part.lines);
    }
    Ok(lines)
}

fn one(row: String) -> StatementLine {
    let mut lines = read(&[&bill(&[row])]).unwrap();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn it_is_asked_for_where_the_account_says_so() {
    let config = peer::with(json!({ "statement": "fund_flow" }));
    let (send, body) = peer::start(&config, Operation::DownloadStatement, asked());
    let query = [("account_type", "BASIC"), ("bill_date", "2025-11-24"), ("tar_type", "GZIP")];
    let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((send.path.as_str(), &send.query[..]), ("/v3/bill/fundflowbill", &query[..]));
    assert!(body.is_empty());
    let manifest = Manifest::parse(WeChatPay::MANIFEST.as_bytes()).unwrap();
    let rule = manifest.contract.rule("GET", &send.path, &send.query).unwrap();
    assert_eq!((rule.effect, rule.purpose.as_str()), (Effect::Read, "fund_flow"));

    let (provider, host) = (WeChatPay::open(&config).unwrap(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    drive.start().unwrap().sent();
    let url = "https://api.mch.weixin.qq.com/v3/billdownload/file?token=x";
    let sha1 = "79bb0f45fc4c42234a918000b2668d689e2bde04";
    let made = json!({ "hash_type": "SHA1", "hash_value": sha1, "download_url": url });
    let made = made.to_string().into_bytes();
    let part = peer::answer(&mut drive, 200, peer::signed(&made), &made).unwrap().done().statement;
    let file = part.unwrap().file.unwrap();
    assert_eq!((file.sha1.as_deref(), file.packing), (Some(sha1), Packing::Gzip));
    for (statement, path) in
        [("trade", "/v3/bill/tradebill"), ("fund_flow", "/v3/bill/fundflowbill")]
    {
        let config = peer::with(json!({ "statement": statement }));
        assert_eq!(peer::start(&config, Operation::DownloadStatement, asked()).0.path, path);
    }
}

#[test]
fn another_word_or_a_partners_is_refused() {
    let mut partner = peer::partner();
    partner["statement"] = "fund_flow".into();
    for config in [partner, peer::with(json!({ "statement": "funds" }))] {
        assert_eq!(WeChatPay::open(&config).unwrap_err().kind, FaultKind::Config);
    }
}

#[test]
fn a_charge_is_what_came_in() {
    let line = one(charge(""));
    assert_eq!((line.kind, line.state), (LineKind::Charge, LineState::Done));
    assert_eq!((line.amount.to_string(), line.fee), ("8888 CNY".into(), None));
    assert_eq!(line.at_ms, Some(1_763_949_600_000));
    assert_eq!(line.number.as_deref(), Some(NUMBER));
    assert_eq!(line.provider_ref.as_deref(), Some(ORDER));
    assert_eq!((line.operation, line.operation_ref), (None, None));
}

#[test]
fn a_refund_is_known_by_its_own_number_or_by_its_order() {
    let line = one(row([REFUND, "退款", "支出", "10.00", "", "refund42"]));
    assert_eq!((line.kind, line.state), (LineKind::Refund, LineState::Done));
    assert_eq!(line.amount.to_string(), "1000 CNY");
    assert_eq!(line.operation.as_deref(), Some("refund42"));
    assert_eq!(line.operation_ref.as_deref(), Some(REFUND));
    assert_eq!((line.number.as_deref(), line.provider_ref), (Some("refund42"), None));
    let line = one(row([REFUND, "退款", "支出", "10.00", "", &format!("REF{ORDER}")]));
    assert_eq!((line.kind, line.number, line.operation), (LineKind::Refund, None, None));
    assert_eq!(line.provider_ref.as_deref(), Some(ORDER));
    assert_eq!(line.operation_ref.as_deref(), Some(REFUND));
    let line = one(row([REFUND, "退款", "支出", "10.00", "", "REF42"]));
    assert_eq!((line.operation.as_deref(), line.provider_ref), (Some("REF42"), None));
}

#[test]
fn everything_else_is_no_shoppers_money() {
    for (kind, direction) in [
        ("扣除交易手续费", "支出"),
        ("退还交易手续费", "收入"),
        ("退款关闭", "收入"),
        ("提现", "支出"),
        ("分账", "支出"),
        ("交易", "支出"),
        ("退款", "收入"),
        ("交易", ""),
        ("", ""),
    ] {
        let line = one(row([ORDER, kind, direction, "1.00", "", NUMBER]));
        assert_eq!(line.kind, LineKind::Other, "{kind} {direction}");
    }
}

#[test]
fn a_remark_moves_no_column_and_brackets_may_be_wide() {
    for remark in ["a, b", "a,`b", "`", ",", "缺货"] {
        assert_eq!(one(charge(remark)), one(charge("")), "{remark}");
    }
    let wide = bill(&[charge("")]).replace('(', "（").replace(')', "）");
    assert_eq!(read(&[&wide]).unwrap(), [one(charge(""))]);
}

#[test]
fn it_is_read_in_pieces_and_only_as_a_whole() {
    let whole = bill(&[charge(""), row([REFUND, "退款", "支出", "10.00", "x,`y", "refund42"])]);
    let expected = read(&[&whole]).unwrap();
    assert_eq!(expected.len(), 2);
    let each: Vec<&str> = whole.split_inclusive('\n').collect();
    assert_eq!(read(&each).unwrap(), expected);
    for bad in [
        whole.replace(SUMMARY, ""),
        whole.replace("资金流水总笔数", "总交易单数"),
        whole.replace("业务凭证号", "其他"),
        whole.replace("收支类型", "其他"),
        whole.replace("88.88", "-88.88"),
        whole.replace("88.88", "88.888"),
        bill(&["`2025-11-24 10:00:00,`1\r\n".into()]),
    ] {
        assert_eq!(read(&[&bad]).unwrap_err().kind, FaultKind::Input, "{bad}");
    }
}
