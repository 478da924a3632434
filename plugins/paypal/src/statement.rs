//! Reads PayPal's report of a day, page by page.
//!
//! The report runs after the account by some hours, and says how far it has come: what is later
//! can't be missed in it.

use interlock_plugin_api::{
    Covers, Cx, Fault, Money, Request, Send, StatementLine, StatementPart, Step,
};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use crate::State;
use crate::codes::object;
use crate::order::Amount;
use crate::requests::get;
use crate::transaction::{self, Transaction};

/// Lines of a page.
const PAGE_SIZE: &str = "500";
/// A day has never so many pages; what says so is no report.
const PAGES_MAX: u32 = 1_000;
/// A transaction is in the report after so long, where it does not say how far it is.
const LAG_MS: i64 = 3 * 3_600_000;
const UNREADABLE: Fault = Fault::input("the report can't be read");
const DAY: Fault = Fault::input("the day of the report is none");

/// How far a report is read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pages {
    /// The page that is on the wire or comes next.
    page: u32,
    /// What the first page was told to cover ends here.
    until_ms: Option<i64>,
}

impl Pages {
    /// Nothing was asked for.
    pub(crate) const FIRST: Self = Self { page: 1, until_ms: None };

    /// `GET /v1/reporting/transactions`.
    pub(crate) fn ask(self, r: &Request) -> Result<Step<State>, Fault> {
        let date = day(r)?;
        let send: Send = get("/v1/reporting/transactions".into())
            .query("start_date", format!("{date}T00:00:00Z"))
            .query("end_date", format!("{date}T23:59:59Z"))
            .query("fields", "transaction_info")
            .query("page_size", PAGE_SIZE)
            .query("page", self.page.to_string());
        Ok(Step::send(send, Vec::new(), State::Report(self)))
    }

    /// Reads a page. One line that can't be read spoils it: nothing of a report may be missing.
    pub(crate) fn read(self, cx: &Cx<'_>, r: &Request, status: u16) -> Result<Step<State>, Fault> {
        let read = object::<Page>(cx.body).filter(|read| {
            status == 200 && read.page == self.page && read.total_pages <= PAGES_MAX
        });
        let read = read.ok_or(UNREADABLE)?;
        let lines: Option<Vec<StatementLine>> =
            read.transaction_details.iter().map(|detail| detail.transaction_info.line()).collect();
        let more = self.page < read.total_pages;
        let covers = self.covers(day(r)?, &read, cx.now_ms)?;
        let part = StatementPart {
            lines: lines.ok_or(UNREADABLE)?,
            more,
            covers: Some(covers),
            file: None,
        };
        let next = Self { page: self.page.saturating_add(1), until_ms: Some(covers.until_ms) };
        Ok(Step::part(part, State::Report(next)))
    }

    /// The day in UTC, as it is asked for, as far as the report has come. What the first page was
    /// told to cover counts for all, so a page that knows less would make something seem missing.
    fn covers(&self, date: Date, read: &Page, now_ms: i64) -> Result<Covers, Fault> {
        let Covers { from_ms, until_ms } = covers(date)?;
        let known_ms = match (read.last_refreshed_datetime.as_deref(), self.until_ms) {
            (Some(text), _) => at_ms(text).ok_or(UNREADABLE)?,
            (None, Some(told_ms)) => told_ms,
            (None, None) => now_ms.saturating_sub(LAG_MS),
        };
        let until_ms = until_ms.min(known_ms);
        match self.until_ms {
            _ if until_ms <= from_ms => Err(Fault::input(
                "nothing of this day is in paypal's report yet; ask some hours later",
            )),
            Some(told_ms) if until_ms < told_ms => Err(Fault::input(
                "a later page of paypal's report knows less than the first; ask again later",
            )),
            told_ms => Ok(Covers { from_ms, until_ms: told_ms.unwrap_or(until_ms) }),
        }
    }
}

/// The day that is asked for.
pub(crate) fn day(r: &Request) -> Result<Date, Fault> {
    let date = r.period.as_ref().map(|period| period.date.as_str());
    let date = date.filter(|date| date.len() == 10).and_then(|date| date.parse().ok());
    date.ok_or(DAY)
}

fn covers(date: Date) -> Result<Covers, Fault> {
    let begins = |date: Date| {
        let at = Offset::UTC.to_timestamp(date.to_datetime(Time::midnight()));
        at.map(Timestamp::as_millisecond)
    };
    let next = date.tomorrow().and_then(begins);
    match (begins(date), next) {
        (Ok(from_ms), Ok(until_ms)) => Ok(Covers { from_ms, until_ms }),
        _ => Err(DAY),
    }
}

#[derive(Deserialize)]
struct Page {
    page: u32,
    total_pages: u32,
    /// What is later than this is not in the report yet.
    last_refreshed_datetime: Option<String>,
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
        let (goes_out, amount) = self.transaction_amount.signed()?;
        let fee = match &self.fee_amount {
            None => None,
            Some(fee) => {
                let (minus, fee) = fee.signed()?;
                // What PayPal keeps is negative in its report.
                let kept = if minus { fee.amount } else { -fee.amount };
                Some(Money::new(kept, fee.currency))
            }
        };
        let transaction = Transaction {
            id: &self.transaction_id,
            event_code: self.transaction_event_code.as_deref().unwrap_or_default(),
            goes_out,
            amount,
            fee,
            state: transaction::state(self.transaction_status.as_deref().unwrap_or_default()),
            at_ms: self.transaction_initiation_date.as_deref().and_then(at_ms),
            reference: self.paypal_reference_id.as_deref(),
            reference_type: self.paypal_reference_id_type.as_deref(),
            invoice: self.invoice_id.as_deref(),
            custom: self.custom_field.as_deref(),
        };
        Some(transaction.line())
    }
}

/// `2026-11-29T10:30:00+0000`.
fn at_ms(text: &str) -> Option<i64> {
    text.parse().ok().map(Timestamp::as_millisecond)
}
