//! A line of the fund-flow bill: what moved on the merchant's account, when it was booked there.
//!
//! Of a payment there is one line of what came in and one of the fee; fees, withdrawals, shares and
//! whatever else is booked are no shopper's money.

use interlock_plugin_api::{
    Currency, Fault, LineKind, LineState, Money, StatementLine, parse_units,
};

use crate::day::{AMOUNT, UNREADABLE, beijing_ms};

pub const REMARK: &str = "备注";
const BOOKED: &str = "记账时间";
const BUSINESS: &str = "微信支付业务单号";
const KIND: &str = "业务类型";
const DIRECTION: &str = "收支类型";
const AMOUNT_YUAN: &str = "收支金额(元)";
const VOUCHER: &str = "业务凭证号";
/// The columns without which a fund-flow bill can't be read.
pub const NEEDED: [&str; 8] =
    [BOOKED, BUSINESS, "资金流水单号", KIND, DIRECTION, AMOUNT_YUAN, REMARK, VOUCHER];
/// Before WeChat Pay's number of the order, where that is a refund's voucher.
const OF_ORDER: &str = "REF";

/// The line, by its fields' names.
pub fn line<'a>(field: &impl Fn(&str) -> Option<&'a str>) -> Result<StatementLine, Fault> {
    let text = |name: &str| field(name).unwrap_or_default();
    let kind = match (text(KIND), text(DIRECTION)) {
        ("交易", "收入") => LineKind::Charge,
        ("退款", "支出") => LineKind::Refund,
        _ => LineKind::Other,
    };
    let currency = Currency::parse("CNY").ok_or(UNREADABLE)?;
    let amount = parse_units(text(AMOUNT_YUAN), 2).map_err(|_| AMOUNT)?;
    let told = |text: &str| Some(text).filter(|text| !text.is_empty()).map(str::to_owned);
    let (voucher, business) = (text(VOUCHER), text(BUSINESS));
    let mut line = StatementLine {
        kind,
        state: LineState::Done,
        at_ms: beijing_ms(text(BOOKED)),
        number: None,
        provider_ref: None,
        operation: None,
        operation_ref: None,
        amount: Money::new(amount, currency),
        fee: None,
    };
    let order = voucher
        .strip_prefix(OF_ORDER)
        .filter(|order| order.len() >= 16 && order.bytes().all(|digit| digit.is_ascii_digit()));
    match (kind, order) {
        (LineKind::Refund, Some(order)) => {
            line.provider_ref = told(order);
            line.operation_ref = told(business);
        }
        // Our number of the refund; of a payment that was taken back it is the order's.
        (LineKind::Refund, None) => {
            (line.number, line.operation) = (told(voucher), told(voucher));
            line.operation_ref = told(business);
        }
        _ => (line.number, line.provider_ref) = (told(voucher), told(business)),
    }
    Ok(line)
}
