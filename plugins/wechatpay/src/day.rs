//! The day of a bill, its times, and what is said of one that can't be read.

use interlock_plugin_api::{Covers, Fault, Request};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

pub const UNREADABLE: Fault = Fault::input("the file is no bill of wechatpay");
pub const AMOUNT: Fault = Fault::input("an amount of the bill can't be read");
const NO_DAY: Fault = Fault::input("the day is not like 2025-11-24");

/// The day that is asked for.
pub fn day(r: &Request) -> Result<Date, Fault> {
    let date = r.period.as_ref().map(|period| period.date.as_str());
    let date = date.filter(|date| date.len() == 10).and_then(|date| date.parse().ok());
    date.ok_or(NO_DAY)
}

/// The day in Beijing.
pub fn covers(r: &Request) -> Result<Covers, Fault> {
    let date = day(r)?;
    let begins = |date: Date| beijing(date.to_datetime(Time::midnight()));
    let next = date.tomorrow().ok().and_then(begins);
    let covers = begins(date).zip(next);
    covers.map(|(from_ms, until_ms)| Covers { from_ms, until_ms }).ok_or(NO_DAY)
}

/// `2025-11-24 10:00:00` in Beijing.
pub fn beijing_ms(text: &str) -> Option<i64> {
    beijing(text.parse().ok()?)
}

fn beijing(at: DateTime) -> Option<i64> {
    Some(Offset::constant(8).to_timestamp(at).ok()?.as_millisecond())
}
