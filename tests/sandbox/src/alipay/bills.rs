//! The bill of one day: an archive of two comma-separated files in GBK, as merchants reconcile by.
//!
//! It is written from the fake's own trades, so also from those that were made at the portal. The
//! names of the files are UTF-8 here; Alipay is said to write them in GBK without a mark.

use std::io::{Cursor, Write as _};

use encoding_rs::GBK;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::BUYER_LOGON;
use super::trades::{Entry, Trade, Trades};
use crate::moment;

const END: &str = "\r\n";
const DAY_MS: i64 = 24 * 3_600_000;
/// Before and after the name of a list.
const DASHES: &str = "-----------------------------------------";

const DETAILS_HEAD: &str = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,\
    门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,\
    支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,\
    退款批次号/请求号,服务费（元）,分润（元）,备注";
const SUMS_HEAD: &str = "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,\
    商家实收（元）,支付宝优惠（元）,商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,\
    实收净额（元）";

/// Whose bill, and of which day.
#[derive(Debug, Clone, Copy)]
pub struct Sheet<'a> {
    /// The seller.
    pub seller_id: &'a str,
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
    /// The seller's account as bills write it: the user's id and four digits more.
    pub fn account(&self) -> String {
        format!("{}0156", self.seller_id)
    }

    /// The day as the names of files write it, `yyyyMMdd`.
    pub fn day(&self) -> String {
        moment::beijing_day(self.from_ms)
    }

    /// The packed bill, or `None` when nothing moved.
    pub fn archive(&self, trades: &Trades, now_ms: i64) -> Option<Vec<u8>> {
        let (details, sums) = self.files(trades, now_ms)?;
        let name = format!("{}_{}_业务明细", self.account(), self.day());
        let files = [(format!("{name}.csv"), details), (format!("{name}(汇总).csv"), sums)];
        packed(&files).ok()
    }

    /// The details and their sums.
    fn files(&self, trades: &Trades, now_ms: i64) -> Option<(String, String)> {
        let mut details = self.head("业务明细", DETAILS_HEAD);
        let (mut charges, mut refunds) = (Sum::default(), Sum::default());
        for (entry, trade) in trades.entries(self.from_ms, self.from_ms + DAY_MS) {
            let fee = self.fee(entry.amount);
            let sum = if entry.amount < 0 { &mut refunds } else { &mut charges };
            *sum =
                Sum { count: sum.count + 1, amount: sum.amount + entry.amount, fee: sum.fee + fee };
            details += &row(&detail(entry, trade, fee));
        }
        details += &format!("#{DASHES}业务明细列表结束{DASHES}{END}");
        for (name, what, sum) in [("交易", "", &charges), ("退款", "退款", &refunds)] {
            let (count, amount) = (sum.count, yuan(sum.amount));
            details += &format!(
                "#{name}合计：{count}笔，商家实收{what}共{amount}元，商家优惠{what}共0.00元{END}"
            );
        }
        let mut sums = self.head("业务汇总", SUMS_HEAD);
        let (amount, fee) = (charges.amount + refunds.amount, charges.fee + refunds.fee);
        let (zero, count) = (yuan(0), |sum: &Sum| sum.count.to_string());
        sums += &row(&[
            "合计\t".into(),
            "\t".into(),
            count(&charges),
            count(&refunds),
            yuan(amount),
            yuan(amount),
            zero.clone(),
            zero.clone(),
            zero.clone(),
            yuan(fee),
            zero,
            yuan(amount + fee),
        ]);
        sums += &format!("#{DASHES}业务汇总列表结束{DASHES}{END}");
        let made = format!("#导出时间：[{}]{END}", moment_in_words(now_ms));
        let any = charges.count + refunds.count > 0;
        any.then(|| (details + &made, sums + &made))
    }

    fn head(&self, name: &str, columns: &str) -> String {
        let (account, from) = (self.account(), moment_in_words(self.from_ms));
        let to = moment_in_words(self.from_ms + DAY_MS);
        format!(
            "#支付宝{name}查询{END}#账号：[{account}]{END}\
             #起始日期：[{from}]   终止日期：[{to}]{END}\
             #{DASHES}{name}列表{DASHES}{END}{columns}{END}"
        )
    }

    /// What the seller pays for `fen`, rounded to the nearest fen: negative for a payment, and
    /// given back with a refund.
    fn fee(&self, fen: i64) -> i64 {
        let fee = (fen.abs() * i64::from(self.fee_basis_points) + 5_000) / 10_000;
        if fen < 0 { fee } else { -fee }
    }
}

/// What lines of one kind add up to.
#[derive(Default)]
struct Sum {
    count: u64,
    amount: i64,
    fee: i64,
}

fn detail(entry: &Entry, trade: &Trade, fee: i64) -> Vec<String> {
    let padded = |text: &str| format!("{text}\t");
    let (amount, zero) = (yuan(entry.amount), yuan(0));
    let mut fields = vec![
        padded(&trade.trade_no),
        padded(&trade.order.out_trade_no),
        padded(if entry.amount < 0 { "退款" } else { "交易" }),
        trade.order.subject.replace(['\t', '\r', '\n'], " "),
        moment::beijing(trade.made_ms),
        moment::beijing(entry.at_ms),
    ];
    fields.extend((0..4).map(|_| padded("")));
    fields.push(padded(BUYER_LOGON));
    fields.extend([amount.clone(), amount]);
    fields.extend((0..5).map(|_| zero.clone()));
    fields.extend([String::new(), padded(&zero), zero.clone()]);
    fields.extend([padded(&entry.request), yuan(fee), zero, String::new()]);
    fields
}

/// Commas stay as they are, so that one in a text looks like the end of a field.
fn row(fields: &[String]) -> String {
    fields.join(",") + END
}

fn packed(files: &[(String, String)]) -> zip::result::ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, text) in files {
        archive.start_file(name, options)?;
        let (bytes, _, _) = GBK.encode(text);
        archive.write_all(&bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// `2025年11月24日 00:00:00`.
fn moment_in_words(ms: i64) -> String {
    let text = moment::beijing(ms);
    let (date, time) = text.split_once(' ').unwrap_or((&text, ""));
    let date = date.replacen('-', "年", 1).replacen('-', "月", 1);
    format!("{date}日 {time}")
}

fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", fen.abs() / 100, fen.abs() % 100)
}
