//! The day's bill: where its file is, and what its lines say.
//!
//! The file is an archive of two in GBK, one of details and one of sums. Each tells by its lines
//! that begin with `#` which of the two it is, where its list begins and where it ends. A field is
//! padded with tabs and never quoted, so that a comma in a text looks like the end of a field; the
//! columns of times and amounts say where each text ends.

use encoding_rs::GBK;
use interlock_plugin_api::{
    Covers, Currency, Cx, Fault, LineKind, LineState, Money, Packing, Request, Send, StatementFile,
    StatementLine, StatementPart, parse_units,
};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use crate::gateway::{self, Node, Purpose};

/// The path of every file.
const FILE: &str = "/downloadBillFile.resource";
/// A bill is made by then, counted from the end of its day: as a rule it is an hour earlier.
const MADE_AFTER_MS: i64 = 10 * 3_600_000;
const DAY: Fault = Fault::input("the day is not like 2025-11-24");
const UNREADABLE: Fault = Fault::input("the file is no trade bill of alipay");

/// The day that is asked for.
pub fn day(r: &Request) -> Result<Date, Fault> {
    let date = r.period.as_ref().map(|period| period.date.as_str());
    let date = date.filter(|date| date.len() == 10).and_then(|date| date.parse().ok());
    date.ok_or(DAY)
}

/// The day in Beijing.
fn covers(r: &Request) -> Result<Covers, Fault> {
    let date = day(r)?;
    let begins = |date: Date| beijing(date.to_datetime(Time::midnight()));
    let next = date.tomorrow().ok().and_then(begins);
    let covers = begins(date).zip(next);
    covers.map(|(from_ms, until_ms)| Covers { from_ms, until_ms }).ok_or(DAY)
}

/// What the answer to a request for a bill says.
pub fn told(cx: &Cx<'_>, r: &Request, status: u16) -> Result<StatementPart, Fault> {
    let covers = covers(r)?;
    let node = gateway::open(cx, Purpose::Bill, status)?
        .map_err(|_| Fault::input("the answer with the bill's address is not verified"))?;
    let not_there = is_not_there(&node);
    if not_there && cx.now_ms < covers.until_ms.saturating_add(MADE_AFTER_MS) {
        return Err(Fault::input(
            "the bill is not there, or not yet; ask after 10:00 Beijing time of the next day",
        ));
    }
    // Beside the address of a file it may be said that the file has no lines.
    let empty = node.text("bill_file_code") == Some("EMPTY_DATA_WITH_BILL_FILE");
    let empty = not_there || empty && node.text("sub_code").is_none();
    let file = if empty { None } else { Some(file(&node)?) };
    Ok(StatementPart { covers: Some(covers), file, ..StatementPart::default() })
}

/// Whether there is no bill, in the words of the documents or of the gateway. The same is said of
/// a day on which nothing happened, and of one whose bill is not made yet.
fn is_not_there(node: &Node) -> bool {
    let code = node.text("sub_code").unwrap_or_default();
    let bare = code.rsplit('.').next().unwrap_or(code).to_ascii_uppercase();
    node.outer() == "40004" && ["BILL_NOT_EXIST", "NO_BILL_DATA"].contains(&bare.as_str())
}

/// The file. Of its address only path and query count: it is got from the account's own endpoint.
/// The address alone opens it, so nothing of the account's goes along.
fn file(node: &Node) -> Result<StatementFile, Fault> {
    if node.outer() != "10000" || node.text("sub_code").is_some() {
        return Err(Fault::input("alipay did not make the bill"));
    }
    let rest = node.text("bill_download_url").and_then(|url| url.split_once("://"));
    let target = rest.and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let query = target.and_then(|target| target.strip_prefix(FILE)?.strip_prefix('?'));
    let query = query.filter(|query| !query.is_empty() && !query.contains('#'));
    let query = query.ok_or(Fault::input("the bill's address is not one of alipay's"))?;
    let send = form_urlencoded::parse(query.as_bytes())
        .fold(Send::to("GET", "bills", FILE), |send, (name, value)| send.query(&name, value))
        .header("user-agent", concat!("Interlock/", env!("CARGO_PKG_VERSION")));
    Ok(StatementFile { send, sha1: None, packing: Packing::Zip })
}

/// How far an archive is read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reading {
    list: List,
    /// The names of the columns of details; none before their first line.
    columns: Vec<String>,
    /// A list of details was read to its end.
    ended: bool,
}

/// The list that a line is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum List {
    #[default]
    None,
    Details,
    Sums,
}

// What the lines that begin with `#` say: the first line of a file, and where its list is.
const DETAILS_FILE: &str = "业务明细查询";
const DETAILS: &str = "业务明细列表";
const DETAILS_END: &str = "业务明细列表结束";
const SUMS_FILE: &str = "业务汇总查询";
const SUMS: &str = "业务汇总列表";
const SUMS_END: &str = "业务汇总列表结束";

const TRADE: &str = "支付宝交易号";
const NUMBER: &str = "商户订单号";
const KIND: &str = "业务类型";
const FINISHED: &str = "完成时间";
const AMOUNT: &str = "订单金额(元)";
const REFUND: &str = "退款批次号/请求号";
const FEE: &str = "服务费(元)";
/// The columns without which a bill can't be read.
const NEEDED: [&str; 7] = [TRADE, NUMBER, KIND, FINISHED, AMOUNT, REFUND, FEE];
/// Those whose text others choose, so that it may hold commas.
const TEXTS: [&str; 4] = [PRODUCT, "门店名称", "券名称", "备注"];
const PRODUCT: &str = "商品名称";
/// More than any bill has.
const COLUMNS_MAX: usize = 64;
/// Looking for the places of a line's commas ends here.
const TRIES_MAX: u32 = 20_000;

impl Reading {
    /// The lines of a piece of the archive's files, which is of whole lines.
    pub fn piece(&mut self, r: &Request, piece: &[u8], last: bool) -> Result<StatementPart, Fault> {
        let text = GBK.decode_without_bom_handling_and_without_replacement(piece);
        let text = text.ok_or(Fault::input("the bill is not written in GBK"))?;
        let mut lines = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match self.list {
                _ if line.starts_with('#') => self.remark(line)?,
                List::None => return Err(UNREADABLE),
                List::Sums => {}
                List::Details if self.columns.is_empty() => self.begin(line)?,
                List::Details => lines.push(self.row(line)?),
            }
        }
        if last && (self.list == List::Details || !self.ended) {
            return Err(Fault::input("the bill ends before the end of its details"));
        }
        Ok(StatementPart { lines, covers: Some(covers(r)?), ..StatementPart::default() })
    }

    /// A line that begins with `#`. No file and no list begins before the details have ended, or
    /// what is missing of them would not be noticed.
    fn remark(&mut self, line: &str) -> Result<(), Fault> {
        let says = |words| line.contains(words);
        let begins = if says(DETAILS_END) {
            if self.list != List::Details || self.columns.is_empty() {
                return Err(UNREADABLE);
            }
            self.columns.clear();
            (self.list, self.ended) = (List::None, true);
            return Ok(());
        } else if says(DETAILS) {
            List::Details
        } else if says(SUMS) && !says(SUMS_END) {
            List::Sums
        } else if [SUMS_END, DETAILS_FILE, SUMS_FILE].into_iter().any(says) {
            List::None
        } else {
            return Ok(());
        };
        if self.list == List::Details {
            return Err(Fault::input("another list begins before the end of the bill's details"));
        }
        self.list = begins;
        Ok(())
    }

    fn begin(&mut self, header: &str) -> Result<(), Fault> {
        let name = |name: &str| name.trim().replace('（', "(").replace('）', ")");
        let columns: Vec<String> = header.split(',').take(COLUMNS_MAX + 1).map(name).collect();
        let has = |name: &&str| columns.iter().any(|column| column == name);
        if columns.len() > COLUMNS_MAX || !NEEDED.iter().all(has) {
            return Err(Fault::input("the bill lacks a column that is needed"));
        }
        self.columns = columns;
        Ok(())
    }

    fn row(&self, row: &str) -> Result<StatementLine, Fault> {
        let pieces: Vec<&str> = row.split(',').map(str::trim).collect();
        match pieces.len().checked_sub(self.columns.len()) {
            None => Err(UNREADABLE),
            Some(0) => line(self.needed(&pieces)),
            Some(extra) => {
                if let Some(fields) = self.of_the_product(&pieces, extra) {
                    return line(self.needed(&fields));
                }
                let mut search = Search { tries: TRIES_MAX, found: None, doubtful: false };
                self.fit(&pieces, &mut Vec::new(), &mut search);
                match search {
                    Search { found: Some(needed), doubtful: false, .. } => line(needed),
                    _ => Err(Fault::input("it can't be told where the fields of a line end")),
                }
            }
        }
    }

    /// The fields, if all commas that are too much can be of the product's name. Nobody may spoil a
    /// bill by a name that looks like the rest of a line.
    fn of_the_product<'a>(&self, pieces: &[&'a str], extra: usize) -> Option<Vec<&'a str>> {
        let at = self.columns.iter().position(|column| column == PRODUCT)? + 1;
        let fields = [pieces.get(..at)?, pieces.get(at + extra..)?].concat();
        self.columns
            .iter()
            .zip(&fields)
            .all(|(column, field)| fits(column, field))
            .then_some(fields)
    }

    /// Tries every way in which texts may hold the commas that are too much. They need not agree
    /// on the texts, only on what is read.
    fn fit<'a>(&self, rest: &[&'a str], taken: &mut Vec<&'a str>, search: &mut Search<'a>) {
        let Some(column) = self.columns.get(taken.len()) else {
            if rest.is_empty() {
                search.find(self.needed(taken));
            }
            return;
        };
        let left = self.columns.len() - taken.len();
        let extra = rest.len().saturating_sub(left);
        let widths = if TEXTS.contains(&column.as_str()) { 1..=1 + extra } else { 1..=1 };
        for width in widths {
            let (Some(field), Some(rest)) = (rest.first(), rest.get(width..)) else { return };
            if !search.goes_on() {
                return;
            }
            if fits(column, field) {
                taken.push(field);
                self.fit(rest, taken, search);
                taken.pop();
            }
        }
    }

    fn needed<'a>(&self, fields: &[&'a str]) -> [&'a str; NEEDED.len()] {
        NEEDED.map(|name| {
            let at = self.columns.iter().position(|column| column == name);
            at.and_then(|at| fields.get(at).copied()).unwrap_or_default()
        })
    }
}

/// The search for the places of a line's fields.
struct Search<'a> {
    tries: u32,
    found: Option<[&'a str; NEEDED.len()]>,
    /// There are two ways that say different things, or too many to look at.
    doubtful: bool,
}

impl<'a> Search<'a> {
    fn find(&mut self, needed: [&'a str; NEEDED.len()]) {
        self.doubtful |= self.found.is_some_and(|found| found != needed);
        self.found = Some(needed);
    }

    fn goes_on(&mut self) -> bool {
        self.tries = self.tries.saturating_sub(1);
        self.doubtful |= self.tries == 0;
        !self.doubtful
    }
}

/// Whether a field may stand in this column.
fn fits(column: &str, field: &str) -> bool {
    match column {
        "创建时间" | FINISHED => beijing_ms(field).is_some(),
        KIND => !field.is_empty(),
        TRADE => !field.is_empty() && field.bytes().all(|b| b.is_ascii_alphanumeric()),
        _ if column.ends_with("(元)") => units(field).is_some(),
        _ => true,
    }
}

/// The line of these needed fields.
fn line(needed: [&str; NEEDED.len()]) -> Result<StatementLine, Fault> {
    let [trade, number, kind, finished, amount, refund, fee] = needed;
    let (kind, state) = match kind {
        "交易" => (LineKind::Charge, LineState::Done),
        "退款" => (LineKind::Refund, LineState::Done),
        _ => (LineKind::Other, LineState::Unknown),
    };
    let currency = Currency::parse("CNY").ok_or(UNREADABLE)?;
    // A refund's amounts are negative; a charge's are not, or it is something else.
    let amount = units(amount).filter(|fen| kind != LineKind::Charge || *fen >= 0);
    let amount = amount.ok_or(Fault::input("an amount of the bill can't be read"))?;
    let told = |text: &str| Some(text).filter(|text| !text.is_empty()).map(str::to_owned);
    let refund = told(refund).filter(|_| kind != LineKind::Charge);
    Ok(StatementLine {
        kind,
        state,
        at_ms: beijing_ms(finished),
        number: told(number),
        provider_ref: told(trade),
        operation: refund.clone(),
        // Alipay has no other name of a refund: one that was made in its portal is known by it.
        operation_ref: refund,
        amount: Money::new(amount.abs(), currency),
        fee: units(fee).map(|fee| Money::new(kept(kind, fee), currency)),
    })
}

/// What Alipay keeps. Copies of its documents contradict each other on the sign of a fee, so it
/// follows from what the line is about: a payment costs a fee, and a refund brings it back.
fn kept(kind: LineKind, fee: i64) -> i64 {
    match kind {
        LineKind::Charge => fee.abs(),
        LineKind::Refund => -fee.abs(),
        _ => -fee,
    }
}

/// Yuan in fen, with its sign.
fn units(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(less) => parse_units(less, 2).ok().map(|fen| -fen),
        None => parse_units(text, 2).ok(),
    }
}

/// `2025-11-24 10:00:00` in Beijing.
fn beijing_ms(text: &str) -> Option<i64> {
    beijing(text.parse().ok()?)
}

fn beijing(at: DateTime) -> Option<i64> {
    Some(Offset::constant(8).to_timestamp(at).ok()?.as_millisecond())
}
