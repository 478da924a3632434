//! The day's bill: where its file is, and what its lines say.
//!
//! There are two, of trades and of what flowed through the merchant's account. The file of either
//! is CSV whose fields begin with a backtick, so that a comma in a text is no end of a field. Its
//! columns are found by their names, and say which bill it is. After the lines come two of a
//! summary.

use interlock_plugin_api::{
    Currency, Cx, Event, Fault, LineKind, LineState, Money, Packing, Request, Send, StatementFile,
    StatementLine, StatementPart, parse_units,
};
use serde::{Deserialize, Serialize};

use crate::account::WeChatPay;
use crate::codes;
use crate::day::{AMOUNT, UNREADABLE, beijing_ms, covers};
use crate::fund_flow;
use crate::wire::{self, Purpose, object};

/// The path of every file.
pub const FILE: &str = "/v3/billdownload/file";
/// A bill is made by then, counted from the end of its day: WeChat Pay begins an hour earlier.
const MADE_AFTER_MS: i64 = 10 * 3_600_000;
const NOT_YET: Fault =
    Fault::input("the statement is not ready yet; ask after 10:00 Beijing time of the next day");

#[derive(Deserialize)]
struct Made {
    hash_type: String,
    hash_value: String,
    download_url: String,
}

/// What the answer to a request for a bill says.
pub fn told(
    account: &WeChatPay,
    cx: &Cx<'_>,
    r: &Request,
    e: &Event,
    status: u16,
) -> Result<StatementPart, Fault> {
    let covers = covers(r)?;
    if status == 200 {
        if !wire::is_signed(account, cx, e)? {
            return Err(Fault::input("the answer with the bill's address is not verified"));
        }
        let made = object(cx.body).ok_or(Fault::input("the bill's address can't be read"))?;
        let file = Some(file(account, cx, made)?);
        return Ok(StatementPart { covers: Some(covers), file, ..StatementPart::default() });
    }
    let can_be_made = cx.now_ms >= covers.until_ms.saturating_add(MADE_AFTER_MS);
    match codes::code(cx.body).map(|code| codes::bare(&code)).as_deref() {
        // Nobody paid on that day.
        Some("NOSTATEMENTEXIST") if status == 400 && can_be_made => {
            Ok(StatementPart { covers: Some(covers), ..StatementPart::default() })
        }
        Some("NOSTATEMENTEXIST" | "STATEMENTCREATING") if status == 400 => Err(NOT_YET),
        _ => Err(Fault::input("wechatpay did not make the bill")),
    }
}

/// The file. Of its address only path and query count: it is got from the account's own endpoint.
fn file(account: &WeChatPay, cx: &Cx<'_>, made: Made) -> Result<StatementFile, Fault> {
    let url = made.download_url.as_str();
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let target = rest.and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    let query = target.and_then(|target| target.strip_prefix(FILE)?.strip_prefix('?'));
    let query = query.filter(|query| !query.contains('#') && made.hash_type == "SHA1");
    let query = query.ok_or(Fault::input("the bill's address is not one of wechatpay's"))?;
    let send = form_urlencoded::parse(query.as_bytes())
        .fold(Send::to("GET", "api", FILE), |send, (name, value)| send.query(&name, value));
    let send = wire::signed(account, cx, Purpose::BillFile, send, "")?;
    Ok(StatementFile { send, sha1: Some(made.hash_value), packing: Packing::Gzip })
}

/// How far a file is read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reading {
    /// What the file is; not known before the first line.
    form: Option<Form>,
    /// The names of the columns.
    columns: Vec<String>,
    /// The summary was reached.
    ended: bool,
}

/// Which of WeChat Pay's two bills a file is: its columns say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Trade,
    FundFlow,
}

impl Form {
    /// The columns without which it can't be read.
    fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Trade => &NEEDED,
            Self::FundFlow => &fund_flow::NEEDED,
        }
    }

    /// The column of the only text that others may choose.
    fn text(self) -> &'static str {
        match self {
            Self::Trade => PRODUCT,
            Self::FundFlow => fund_flow::REMARK,
        }
    }

    /// How the summary after its lines begins.
    fn summary(self) -> &'static str {
        match self {
            Self::Trade => "总交易单数",
            Self::FundFlow => "资金流水总笔数",
        }
    }
}

const PRODUCT: &str = "商品名称";
/// The columns without which a trade bill can't be read.
const NEEDED: [&str; 12] = [
    "交易时间",
    "微信订单号",
    "商户订单号",
    "交易状态",
    "货币种类",
    "微信退款单号",
    "商户退款单号",
    "退款状态",
    PRODUCT,
    "手续费",
    "订单金额",
    "申请退款金额",
];

impl Reading {
    /// The lines of a piece of the file, which is of whole lines.
    pub fn piece(
        &mut self,
        account: &WeChatPay,
        r: &Request,
        piece: &[u8],
        last: bool,
    ) -> Result<StatementPart, Fault> {
        let text = std::str::from_utf8(piece).map_err(|_| UNREADABLE)?;
        let mut lines = Vec::new();
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let Some(form) = self.form else {
                self.begin(line.trim_start_matches('\u{feff}'))?;
                continue;
            };
            if self.ended {
                break;
            } else if let Some(row) = line.strip_prefix('`') {
                lines.extend(self.row(form, account, row)?);
            } else if line.starts_with(form.summary()) {
                self.ended = true;
            } else {
                return Err(UNREADABLE);
            }
        }
        if last && !self.ended {
            return Err(Fault::input("the bill ends before its summary"));
        }
        Ok(StatementPart { lines, covers: Some(covers(r)?), ..StatementPart::default() })
    }

    fn begin(&mut self, header: &str) -> Result<(), Fault> {
        let name = |name: &str| name.trim().replace('（', "(").replace('）', ")");
        self.columns = header.split(',').map(name).collect();
        let has = |name: &&str| self.columns.iter().any(|column| column == name);
        let is = |form: &Form| form.needed().iter().all(has);
        self.form = [Form::Trade, Form::FundFlow].into_iter().find(is);
        match self.form {
            Some(_) => Ok(()),
            None => Err(Fault::input("the bill lacks a column that is needed")),
        }
    }

    /// `None` for a line of another merchant of the same partner.
    fn row(
        &self,
        form: Form,
        account: &WeChatPay,
        row: &str,
    ) -> Result<Option<StatementLine>, Fault> {
        let fields: Vec<&str> = row.split(",`").collect();
        let extra = fields.len().checked_sub(self.columns.len()).ok_or(UNREADABLE)?;
        let place = |name: &str| self.columns.iter().position(|column| column == name);
        let free = place(form.text());
        let field = |name: &str| {
            let at = place(name)?;
            let at = if free.is_some_and(|free| at > free) { at + extra } else { at };
            fields.get(at).map(|field| field.trim())
        };
        match form {
            Form::Trade => trade(account, &field),
            Form::FundFlow => fund_flow::line(&field).map(Some),
        }
    }
}

/// A line of the trade bill, by its fields' names.
fn trade<'a>(
    account: &WeChatPay,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<StatementLine>, Fault> {
    let text = |name: &str| field(name).unwrap_or_default();
    let sub = account.sub_mchid.as_deref();
    if sub.is_some_and(|sub| field("特约商户号").is_some_and(|theirs| theirs != sub)) {
        return Ok(None);
    }
    let (kind, state, amount) = match text("交易状态") {
        "SUCCESS" => (LineKind::Charge, LineState::Done, "订单金额"),
        "REFUND" => (LineKind::Refund, refund_state(text("退款状态")), "申请退款金额"),
        // A payment by code that was taken back.
        "REVOKED" => (LineKind::Refund, LineState::Done, "订单金额"),
        _ => (LineKind::Other, LineState::Unknown, "订单金额"),
    };
    let currency = Currency::parse(text("货币种类")).ok_or(UNREADABLE)?;
    let amount = parse_units(text(amount), 2).map_err(|_| AMOUNT)?;
    let number = |name| field(name).filter(|text| !text.is_empty() && *text != "0");
    Ok(Some(StatementLine {
        kind,
        state,
        at_ms: beijing_ms(text("交易时间")),
        number: number("商户订单号").map(str::to_owned),
        provider_ref: number("微信订单号").map(str::to_owned),
        operation: number("商户退款单号").map(str::to_owned),
        operation_ref: number("微信退款单号").map(str::to_owned),
        amount: Money::new(amount, currency),
        fee: fee(text("手续费")).map(|fee| Money::new(fee, currency)),
    }))
}

fn refund_state(word: &str) -> LineState {
    match word {
        "SUCCESS" => LineState::Done,
        "PROCESSING" => LineState::Pending,
        "FAIL" | "CLOSED" | "CHANGE" => LineState::Failed,
        _ => LineState::Unknown,
    }
}

/// In fen; negative when it is given back. What is no whole fen is not told.
fn fee(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(back) => parse_units(back, 2).ok().map(|fee| -fee),
        None => parse_units(text, 2).ok(),
    }
}
