//! The bills of one day: comma-separated text whose fields begin with a backtick, as merchants
//! reconcile by.
//!
//! They are written from the fake's own orders, so also from those that were made at the portal.

use super::order::{Order, Refund};
use super::orders::Orders;
use super::shown::{BANK, OPENID};
use crate::moment;

const BOM: &str = "\u{feff}";
const END: &str = "\r\n";
const DAY_MS: i64 = 24 * 3_600_000;

const TRADE_HEAD: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,\
    用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,\
    退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,\
    申请退款金额,费率备注";
const TRADE_SUMS: &str =
    "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额";
const FUND_HEAD: &str = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,\
    收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号";
const FUND_SUMS: &str = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额";

/// One movement of money, for the bills.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The merchant's number of the order.
    pub number: String,
    /// What moved.
    pub line: Line,
}

/// What one line of a bill tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The order was paid.
    Payment,
    /// The refund of this number reached the shopper.
    Refund(String),
    /// The order was reversed, and given back.
    Reversal,
}

/// Which lines of the trade bill are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// Payments.
    Payments,
    /// Refunds and reversals.
    Refunds,
}

/// Whose bill, and of which day.
#[derive(Debug, Clone, Copy)]
pub struct Sheet<'a> {
    /// The application.
    pub appid: &'a str,
    /// The merchant.
    pub mchid: &'a str,
    /// Only of this sub-merchant.
    pub sub_mchid: Option<&'a str>,
    /// Where the day begins in Beijing, in milliseconds since the epoch.
    pub from_ms: i64,
    /// The provider's fee in hundredths of a percent.
    pub fee_basis_points: u32,
}

/// When `yyyy-MM-dd` begins in Beijing, in milliseconds since the epoch.
pub fn day(text: &str) -> Option<i64> {
    moment::parse_beijing(&format!("{text} 00:00:00"))
}

impl Sheet<'_> {
    /// The bill of trades, or `None` when there were none.
    pub fn trades(&self, orders: &Orders, part: Part) -> Option<String> {
        let mut text = format!("{BOM}{TRADE_HEAD}{END}");
        let mut sums = [0_i64; 6];
        let mut count = 0_u64;
        for (entry, order, refund) in orders.entries(self.from_ms, self.from_ms + DAY_MS) {
            let is_payment = entry.line == Line::Payment;
            let wanted = match part {
                Part::All => true,
                Part::Payments => is_payment,
                Part::Refunds => !is_payment,
            };
            let sub = order.terms.sub_mchid.as_deref();
            if !wanted || (self.sub_mchid.is_some() && self.sub_mchid != sub) {
                continue;
            }
            let (paid, back) = amounts(order, refund, is_payment);
            let fee = self.fee(paid) - self.fee(back);
            count += 1;
            for (sum, part) in sums.iter_mut().zip([paid, back, 0, fee, paid, back]) {
                *sum += part;
            }
            push_row(&mut text, &self.trade(entry, order, refund));
        }
        text += &format!("{TRADE_SUMS}{END}");
        let mut row = vec![count.to_string()];
        row.extend(sums.iter().map(|fen| yuan(*fen)));
        row[4] = long(sums[3]);
        push_row(&mut text, &row);
        (count > 0).then_some(text)
    }

    fn trade(&self, entry: &Entry, order: &Order, refund: Option<&Refund>) -> Vec<String> {
        let is_payment = entry.line == Line::Payment;
        let (paid, back) = amounts(order, refund, is_payment);
        let coupon = if is_payment { order.coupon } else { 0 };
        let (state, refunded) = match (&entry.line, refund) {
            (Line::Payment, _) => ("SUCCESS", ["0".into(), "0".into(), String::new()]),
            (Line::Refund(_), Some(refund)) => {
                let status = refund.status().to_owned();
                ("REFUND", [refund.refund_id.clone(), refund.out_refund_no.clone(), status])
            }
            (Line::Refund(_) | Line::Reversal, _) => {
                ("REVOKED", ["0".into(), "0".into(), "SUCCESS".into()])
            }
        };
        let [refund_id, out_refund_no, status] = refunded;
        let kind = if is_payment { "" } else { "ORIGINAL" };
        vec![
            moment::beijing(entry.at_ms),
            self.appid.into(),
            self.mchid.into(),
            order.terms.sub_mchid.clone().unwrap_or_else(|| "0".into()),
            String::new(),
            order.transaction_id().unwrap_or_default().into(),
            order.terms.out_trade_no.clone(),
            order.terms.openid.clone().unwrap_or_else(|| OPENID.into()),
            order.terms.way.trade_type().into(),
            state.into(),
            BANK.into(),
            "CNY".into(),
            // The coupon is WeChat Pay's own gift: it settles like money.
            yuan(paid),
            yuan(coupon),
            refund_id,
            out_refund_no,
            yuan(back),
            yuan(0),
            kind.into(),
            status,
            order.terms.description.clone(),
            order.terms.attach.clone(),
            long(self.fee(paid) - self.fee(back)),
            format!("{}.{:02}%", self.fee_basis_points / 100, self.fee_basis_points % 100),
            yuan(paid),
            yuan(back),
            String::new(),
        ]
    }

    /// The bill of funds, or `None` when nothing moved.
    pub fn funds(&self, orders: &Orders) -> Option<String> {
        let mut text = format!("{BOM}{FUND_HEAD}{END}");
        let (mut balance, mut serial) = (0_i64, 0_u64);
        let mut sums = [(0_u64, 0_i64); 2];
        for (entry, order, refund) in orders.entries(i64::MIN, self.from_ms + DAY_MS) {
            let (paid, back) = amounts(order, refund, entry.line == Line::Payment);
            let document = match refund {
                Some(refund) => &refund.out_refund_no,
                None => &order.terms.out_trade_no,
            };
            let business = match refund {
                Some(refund) => &refund.refund_id,
                None => order.transaction_id().unwrap_or_default(),
            };
            let steps = [
                ("交易", paid),
                ("扣除交易手续费", -self.fee(paid)),
                ("退款", -back),
                ("退还交易手续费", self.fee(back)),
            ];
            for (name, fen) in steps.into_iter().filter(|(_, fen)| *fen != 0) {
                balance += fen;
                serial += 1;
                if entry.at_ms < self.from_ms {
                    continue;
                }
                let side = &mut sums[usize::from(fen < 0)];
                (side.0, side.1) = (side.0 + 1, side.1 + fen.abs());
                push_row(
                    &mut text,
                    &[
                        moment::beijing(entry.at_ms),
                        business.into(),
                        format!("1000{}{serial:016}", moment::beijing_day(entry.at_ms)),
                        name.into(),
                        name.into(),
                        if fen < 0 { "支出" } else { "收入" }.into(),
                        yuan(fen.abs()),
                        yuan(balance),
                        self.mchid.into(),
                        String::new(),
                        document.clone(),
                    ],
                );
            }
        }
        let [(incomes, income), (expenses, expense)] = sums;
        text += &format!("{FUND_SUMS}{END}");
        let total = incomes + expenses;
        push_row(
            &mut text,
            &[
                total.to_string(),
                incomes.to_string(),
                yuan(income),
                expenses.to_string(),
                yuan(expense),
            ],
        );
        (total > 0).then_some(text)
    }

    /// The fee of `fen`, rounded to the nearest fen.
    fn fee(&self, fen: i64) -> i64 {
        (fen * i64::from(self.fee_basis_points) + 5_000) / 10_000
    }
}

/// What was paid and what was given back, in fen.
fn amounts(order: &Order, refund: Option<&Refund>, is_payment: bool) -> (i64, i64) {
    match refund {
        _ if is_payment => (order.terms.amount, 0),
        Some(refund) => (0, refund.amount),
        None => (0, order.terms.amount),
    }
}

/// Commas stay as they are: only a comma before a backtick ends a field.
fn push_row(text: &mut String, fields: &[String]) {
    for (n, field) in fields.iter().enumerate() {
        text.push_str(if n == 0 { "`" } else { ",`" });
        text.push_str(&field.replace(['`', '\r', '\n'], " "));
    }
    text.push_str(END);
}

fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", fen.abs() / 100, fen.abs() % 100)
}

/// Fees have five decimals.
fn long(fen: i64) -> String {
    yuan(fen) + "000"
}
