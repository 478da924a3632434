//! Reads PayPal's report of a day, page by page.
//!
//! What a line is follows from its event code, and its sign must agree: what a shopper paid is
//! positive, what went back to him is negative. Whatever is not listed moves no shopper's money as
//! far as can be told.

use interlock_plugin_api::{
    Covers, Fault, LineKind, LineState, Money, Request, Send, StatementLine, StatementPart, Step,
    is_path_segment,
};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use serde::Deserialize;

use crate::State;
use crate::codes::object;
use crate::order::Amount;
use crate::requests::{get, is_op_id};

/// Lines of a page.
const PAGE_SIZE: &str = "500";
/// A day has never so many pages; what says so is no report.
const PAGES_MAX: u32 = 1_000;
const UNREADABLE: Fault = Fault::input("the report can't be read");

/// `GET /v1/reporting/transactions`.
pub(crate) fn ask(r: &Request, page: u32) -> Result<Step<State>, Fault> {
    let date = day(r)?;
    let send: Send = get("/v1/reporting/transactions".into())
        .query("start_date", format!("{date}T00:00:00Z"))
        .query("end_date", format!("{date}T23:59:59Z"))
        .query("fields", "transaction_info")
        .query("page_size", PAGE_SIZE)
        .query("page", page.to_string());
    Ok(Step::send(send, Vec::new(), State::Page(page)))
}

/// Reads a page. One line that can't be read spoils it: nothing of a report may be missing.
pub(crate) fn read(r: &Request, page: u32, status: u16, body: &[u8]) -> Result<Step<State>, Fault> {
    let read = object::<Page>(body)
        .filter(|read| status == 200 && read.page == page && read.total_pages <= PAGES_MAX);
    let read = read.ok_or(UNREADABLE)?;
    let lines: Option<Vec<StatementLine>> =
        read.transaction_details.iter().map(|detail| detail.transaction_info.line()).collect();
    let more = page < read.total_pages;
    let covers = Some(covers(day(r)?)?);
    let part = StatementPart { lines: lines.ok_or(UNREADABLE)?, more, covers, file: None };
    Ok(Step::part(part, State::Page(page.saturating_add(1))))
}

fn day(r: &Request) -> Result<Date, Fault> {
    let date = r.period.as_ref().map(|period| period.date.as_str());
    let date = date.filter(|date| date.len() == 10).and_then(|date| date.parse().ok());
    date.ok_or(Fault::input("the day of the report is none"))
}

/// The day in UTC, as it is asked for.
fn covers(date: Date) -> Result<Covers, Fault> {
    let begins = |date: Date| {
        let at = Offset::UTC.to_timestamp(date.to_datetime(Time::midnight()));
        at.map(Timestamp::as_millisecond)
    };
    let next = date.tomorrow().and_then(begins);
    match (begins(date), next) {
        (Ok(from_ms), Ok(until_ms)) => Ok(Covers { from_ms, until_ms }),
        _ => Err(Fault::input("the day of the report is none")),
    }
}

#[derive(Deserialize)]
struct Page {
    page: u32,
    total_pages: u32,
    transaction_details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    transaction_info: Info,
}

#[derive(Deserialize)]
struct Info {
    transaction_id: String,
    paypal_reference_id: Option<String>,
    paypal_reference_id_type: Option<String>,
    transaction_event_code: Option<String>,
    transaction_initiation_date: Option<String>,
    transaction_amount: Amount,
    fee_amount: Option<Amount>,
    transaction_status: Option<String>,
    invoice_id: Option<String>,
    custom_field: Option<String>,
}

impl Info {
    fn line(&self) -> Option<StatementLine> {
        let (minus, amount) = self.transaction_amount.signed()?;
        let code = self.transaction_event_code.as_deref().unwrap_or_default();
        let kind = match code {
            "T1107" if minus => LineKind::Refund,
            "T1201" if minus => LineKind::Chargeback,
            code if code.starts_with("T11") && minus => LineKind::Chargeback,
            code if code.starts_with("T00") && !minus => LineKind::Charge,
            _ => LineKind::Other,
        };
        let state = match self.transaction_status.as_deref() {
            Some("S") => LineState::Done,
            Some("P") => LineState::Pending,
            Some("D") => LineState::Failed,
            // It moved and was taken back; what took it back has a line of its own.
            _ => LineState::Unknown,
        };
        let fee = match &self.fee_amount {
            None => None,
            Some(fee) => {
                let (minus, fee) = fee.signed()?;
                // What PayPal keeps is negative in its report.
                let kept = if minus { fee.amount } else { -fee.amount };
                Some(Money::new(kept, fee.currency))
            }
        };
        let own = |mark: &Option<String>| {
            let number = mark.as_deref()?.split(':').next()?;
            is_op_id(number).then(|| number.to_owned())
        };
        let (mark, invoice) = (own(&self.custom_field), own(&self.invoice_id));
        // A refund has a mark of its own; everything else has the order's, and the capture of an
        // authorization its own invoice.
        let (number, operation) = match kind {
            LineKind::Refund => (None, mark),
            _ => {
                let operation = invoice.filter(|invoice| Some(invoice) != mark.as_ref());
                (mark, operation)
            }
        };
        let order = self.paypal_reference_id_type.as_deref() == Some("ODR");
        let order = self.paypal_reference_id.clone().filter(|id| order && is_path_segment(id));
        Some(StatementLine {
            kind,
            state,
            at_ms: self.transaction_initiation_date.as_deref().and_then(at_ms),
            number,
            provider_ref: order,
            operation,
            operation_ref: Some(self.transaction_id.clone()).filter(|id| is_path_segment(id)),
            amount,
            fee,
        })
    }
}

/// `2026-11-29T10:30:00+0000`.
fn at_ms(text: &str) -> Option<i64> {
    text.parse().ok().map(Timestamp::as_millisecond)
}
