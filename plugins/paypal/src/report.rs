//! Reads the report files that PayPal lays down for a merchant every day: the settlement report
//! (STL), of what moved his balance, and the transaction detail report (TRR), of everything.
//!
//! Every record begins with its type: `RH` report, `FH` file and `SH` section begin, `CH` names the
//! columns, `SB` is a transaction, `SF` and `SC` end a section, `RF` and `RC` the report, `FF` the
//! file. Columns are found by their names. Amounts are hundredths of whatever currency, without a
//! sign: the direction stands beside them.

use std::mem;

use interlock_plugin_api::{
    Covers, Currency, Fault, LineState, Money, Request, StatementLine, StatementPart,
};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::strtime::BrokenDownTime;
use serde::{Deserialize, Serialize};

use crate::order::exponent;
use crate::statement::day;
use crate::transaction::{self, Transaction};

const UNREADABLE: Fault = Fault::input("the file is no settlement or transaction report of paypal");
const AMOUNT: Fault = Fault::input("an amount of the report can't be read");

const ID: &str = "Transaction ID";
const INVOICE: &str = "Invoice ID";
const REFERENCE: &str = "PayPal Reference ID";
const REFERENCE_TYPE: &str = "PayPal Reference ID Type";
const CODE: &str = "Transaction Event Code";
const INITIATED: &str = "Transaction Initiation Date";
const DIRECTION: &str = "Transaction Debit or Credit";
const GROSS: &str = "Gross Transaction Amount";
const CURRENCY: &str = "Gross Transaction Currency";
const FEE_DIRECTION: &str = "Fee Debit or Credit";
const FEE: &str = "Fee Amount";
const FEE_CURRENCY: &str = "Fee Currency";
const CUSTOM: &str = "Custom Field";
/// The columns without which a report can't be read.
const NEEDED: [&str; 13] = [
    ID,
    INVOICE,
    REFERENCE,
    REFERENCE_TYPE,
    CODE,
    INITIATED,
    DIRECTION,
    GROSS,
    CURRENCY,
    FEE_DIRECTION,
    FEE,
    FEE_CURRENCY,
    CUSTOM,
];
/// Only a transaction detail report has it; what a settlement report lists has moved.
const STATUS: &str = "Transactional Status";
/// More than any report has.
const COLUMNS_MAX: usize = 256;
/// A record with line ends in a text is longer than a line, but not so long.
const RECORD_BYTES_MAX: usize = 64 * 1024;
const TIME: &str = "%Y/%m/%d %H:%M:%S %z";

/// How far a file is read.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reading {
    /// What stands between two fields; not known before the first record.
    delimiter: Option<char>,
    /// A record of which a text goes on.
    #[serde(skip_serializing_if = "String::is_empty")]
    open: String,
    /// Whose the sections are, and of which time.
    of: Option<(String, Covers)>,
    /// The names of the section's columns.
    columns: Vec<String>,
    place: Place,
}

/// Where in the report the next record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// No section is open.
    #[default]
    Between,
    /// In a section, which has no footer yet.
    Section,
    /// The report is over.
    Ended,
}

impl Reading {
    /// The lines of a piece of the file, which is of whole lines.
    pub(crate) fn piece(
        &mut self,
        r: &Request,
        piece: &[u8],
        last: bool,
    ) -> Result<StatementPart, Fault> {
        let date = day(r)?;
        let text = std::str::from_utf8(piece)
            .map_err(|_| Fault::input("the report is not written in UTF-8"))?;
        let mut lines = Vec::new();
        for line in text.split_inclusive('\n') {
            let Some(record) = self.record(line)? else { continue };
            if let Some(fields) = self.fields(&record)? {
                lines.extend(self.take(date, &fields)?);
            }
        }
        if last && (self.place != Place::Ended || !self.open.is_empty()) {
            return Err(Fault::input("the report ends before its footer"));
        }
        let covers = self.of.as_ref().map(|(_, covers)| *covers);
        Ok(StatementPart { lines, covers, ..StatementPart::default() })
    }

    /// The record that ends with this line; a line whose quotes do not close is a part of one.
    fn record(&mut self, line: &str) -> Result<Option<String>, Fault> {
        let closes = line.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
        let ends = closes != self.open.is_empty();
        self.open.push_str(line);
        if self.open.len() > RECORD_BYTES_MAX {
            return Err(UNREADABLE);
        }
        Ok(ends.then(|| mem::take(&mut self.open)))
    }

    /// The fields of a record; none of an empty line. A quote inside a field is doubled.
    fn fields(&mut self, record: &str) -> Result<Option<Vec<String>>, Fault> {
        let record = record.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        if record.is_empty() {
            return Ok(None);
        }
        let delimiter = match self.delimiter {
            Some(delimiter) => delimiter,
            None => {
                let rest = record.strip_prefix("\"RH\"").or_else(|| record.strip_prefix("RH"));
                let next = rest.and_then(|rest| rest.chars().next());
                *self.delimiter.insert(next.filter(|c| [',', '\t'].contains(c)).ok_or(UNREADABLE)?)
            }
        };
        let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
        let mut chars = record.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
                '"' => quoted = !quoted,
                c if c == delimiter && !quoted => fields.push(mem::take(&mut field)),
                c => field.push(c),
            }
        }
        fields.push(field);
        Ok(Some(fields))
    }

    /// Takes a record: `None` where it is no transaction.
    fn take(&mut self, date: Date, record: &[String]) -> Result<Option<StatementLine>, Fault> {
        let (kind, fields) = record.split_first().ok_or(UNREADABLE)?;
        match (kind.as_str(), self.place) {
            ("RH" | "FH" | "FF", Place::Between) | ("RF" | "RC" | "FF", Place::Ended) => {}
            ("SH", Place::Between) => self.section(date, fields)?,
            ("CH", Place::Section) if self.columns.is_empty() => self.begin(fields)?,
            ("SB", Place::Section) => return self.line(fields).map(Some),
            // A footer for each currency.
            ("SF" | "SC", Place::Section | Place::Between) if self.of.is_some() => {
                self.place = Place::Between;
            }
            ("RF" | "RC", Place::Section | Place::Between) if self.of.is_some() => {
                self.place = Place::Ended;
            }
            _ => return Err(UNREADABLE),
        }
        Ok(None)
    }

    /// A section says whose it is and what time it covers.
    fn section(&mut self, date: Date, fields: &[String]) -> Result<(), Fault> {
        let [from, until, account, ..] = fields else { return Err(UNREADABLE) };
        let at = |text: &str| BrokenDownTime::parse(TIME, text).map_err(|_| UNREADABLE);
        let (from, until) = (at(from)?, at(until)?);
        if from.to_date().ok() != Some(date) {
            return Err(Fault::input("the report is of another day"));
        }
        let ms = |at: &BrokenDownTime| {
            at.to_timestamp().map(Timestamp::as_millisecond).map_err(|_| UNREADABLE)
        };
        // The last second is a part of it.
        let covers = Covers { from_ms: ms(&from)?, until_ms: ms(&until)?.saturating_add(1_000) };
        let of = (account.clone(), covers);
        if covers.until_ms <= covers.from_ms || self.of.as_ref().is_some_and(|first| *first != of) {
            return Err(Fault::input("the report is of several accounts or times"));
        }
        self.of = Some(of);
        self.place = Place::Section;
        self.columns.clear();
        Ok(())
    }

    fn begin(&mut self, names: &[String]) -> Result<(), Fault> {
        // Some versions write two spaces in a name.
        let name = |name: &String| name.split_whitespace().collect::<Vec<_>>().join(" ");
        let columns: Vec<String> = names.iter().take(COLUMNS_MAX + 1).map(name).collect();
        let has = |name: &&str| columns.iter().any(|column| column == name);
        if columns.len() > COLUMNS_MAX || !NEEDED.iter().all(has) {
            return Err(Fault::input("the report lacks a column that is needed"));
        }
        self.columns = columns;
        Ok(())
    }

    fn line(&self, fields: &[String]) -> Result<StatementLine, Fault> {
        if self.columns.is_empty() || fields.len() < self.columns.len() {
            return Err(UNREADABLE);
        }
        let field = |name: &str| {
            let at = self.columns.iter().position(|column| column == name)?;
            fields.get(at).map(|field| field.trim())
        };
        let text = |name: &str| field(name).unwrap_or_default();
        let amount = money(text(GROSS), text(CURRENCY)).ok_or(AMOUNT)?;
        let fee = match text(FEE) {
            "" => None,
            fee => {
                let Money { amount, currency } = money(fee, text(FEE_CURRENCY)).ok_or(AMOUNT)?;
                let kept = if goes_out(text(FEE_DIRECTION), amount)? { amount } else { -amount };
                Some(Money::new(kept, currency))
            }
        };
        let state = field(STATUS).map_or(LineState::Done, transaction::state);
        let transaction = Transaction {
            id: text(ID),
            event_code: text(CODE),
            goes_out: goes_out(text(DIRECTION), amount.amount)?,
            amount,
            fee,
            state,
            at_ms: at_ms(text(INITIATED)),
            reference: field(REFERENCE),
            reference_type: field(REFERENCE_TYPE),
            invoice: field(INVOICE),
            custom: field(CUSTOM),
        };
        Ok(transaction.line())
    }
}

/// Whether it is a debit. Only of nothing is no direction said.
fn goes_out(direction: &str, amount: i64) -> Result<bool, Fault> {
    match (direction, amount) {
        ("DR", _) => Ok(true),
        ("CR", _) | ("", 0) => Ok(false),
        _ => Err(AMOUNT),
    }
}

/// Hundredths, of a currency without minor units too.
fn money(text: &str, currency: &str) -> Option<Money> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let hundredths: i64 = text.parse().ok().filter(|_| digits)?;
    let currency = Currency::parse(currency)?;
    let amount = match exponent(currency) {
        0 if hundredths % 100 != 0 => return None,
        0 => hundredths / 100,
        _ => hundredths,
    };
    Some(Money::new(amount, currency))
}

/// `2026/11/29 10:30:00 -0800`.
fn at_ms(text: &str) -> Option<i64> {
    let at = BrokenDownTime::parse(TIME, text).ok()?;
    at.to_timestamp().ok().map(Timestamp::as_millisecond)
}
