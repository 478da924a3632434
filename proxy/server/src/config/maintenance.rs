//! Announced maintenance: once, or on days of the week at a time of some zone.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};

use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::inventory::Shape;
use super::reader::{Table, Value};

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A time in which an account is not used.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// When.
    pub when: When,
    /// Why, for those who wonder.
    pub reason: String,
}

/// When a window is.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Once.
    Once {
        /// From this time on, ms since 1970.
        from_ms: i64,
        /// Until before this time, ms since 1970.
        until_ms: i64,
    },
    /// Again and again.
    Weekly {
        /// On these days.
        days: Vec<Weekday>,
        /// At this time of the clock on the wall.
        at: Time,
        /// For so long, ms.
        for_ms: u64,
        /// Where that clock hangs.
        zone: TimeZone,
    },
}

impl Window {
    /// When it is between two times, ms since 1970: each from and until.
    pub fn between(&self, from_ms: i64, until_ms: i64) -> Vec<(i64, i64)> {
        let all = match &self.when {
            When::Once { from_ms, until_ms } => vec![(*from_ms, *until_ms)],
            When::Weekly { days, at, for_ms, zone } => {
                weekly(days, *at, *for_ms, zone, from_ms, until_ms).unwrap_or_default()
            }
        };
        all.into_iter().filter(|(from, until)| *from < until_ms && *until > from_ms).collect()
    }
}

/// Begins a day early: a window may last past midnight, and zones differ by less than that.
fn weekly(
    days: &[Weekday],
    at: Time,
    for_ms: u64,
    zone: &TimeZone,
    from_ms: i64,
    until_ms: i64,
) -> Result<Vec<(i64, i64)>, jiff::Error> {
    let early = from_ms.saturating_sub_unsigned(2 * DAY);
    let mut day = Timestamp::from_millisecond(early)?.to_zoned_datetime(zone.clone()).date();
    let mut windows = Vec::new();
    loop {
        // A time that the clock skips in spring is the one after the gap.
        let begin: ZonedDateTime = day.to_datetime(at).to_zoned_datetime(zone.clone())?;
        let begin_ms = begin.timestamp().as_millisecond();
        if begin_ms >= until_ms {
            return Ok(windows);
        }
        if days.contains(&day.weekday()) {
            windows.push((begin_ms, begin_ms.saturating_add_unsigned(for_ms)));
        }
        day = day.checked_add(Span::new().days(1))?;
    }
}

/// The windows of a list.
pub(super) fn read_all(value: &Value<'_>) -> Vec<Window> {
    let windows = value.list().unwrap_or_default();
    windows.iter().filter_map(|v| window_of(v.table()?)).collect()
}

const ONCE: &str = "write `{ from = \"2030-01-31T22:00:00Z\", until = \"...\", reason = \"...\" }`";
const WEEKLY: &str = "write `{ every = \"sun\", at = \"02:00\", for = \"2h\", \
                      zone = \"Europe/Berlin\", reason = \"...\" }`";

fn window_of(table: Table<'_>) -> Option<Window> {
    let (help, when) = match table.get("every") {
        Some(every) => (WEEKLY, weekly_of(&table, &every)),
        None => (ONCE, once_of(&table)),
    };
    let reason = table.need("reason", help).and_then(|v| v.text().map(str::to_owned));
    table.finish(&[]);
    Some(Window { when: when?, reason: reason? })
}

fn once_of(table: &Table<'_>) -> Option<When> {
    let from = table.need("from", ONCE).and_then(|v| instant(&v));
    let until = table.need("until", ONCE).and_then(|v| instant(&v));
    let (from_ms, until_ms) = (from?, until?);
    if until_ms <= from_ms {
        let finding = Diagnostic::error("C026", "the maintenance ends before it begins");
        table.sink.report(finding, table.place.clone());
        return None;
    }
    Some(When::Once { from_ms, until_ms })
}

fn weekly_of(table: &Table<'_>, every: &Value<'_>) -> Option<When> {
    let days = days_of(every);
    let at = table.need("at", WEEKLY).and_then(|v| time_of(&v));
    let for_ms = table.need("for", WEEKLY).and_then(|v| v.duration(MINUTE..=DAY));
    let zone = match table.get("zone") {
        Some(written) => zone_of(&written),
        None => Some(TimeZone::UTC),
    };
    Some(When::Weekly { days: days?, at: at?, for_ms: for_ms?, zone: zone? })
}

fn days_of(value: &Value<'_>) -> Option<Vec<Weekday>> {
    if value.value.as_str() == Some("day") {
        value.shaped(Shape::Word(vec!["day".into()]));
        return Some(DAYS.map(|(_, day)| day).to_vec());
    }
    let words = match value.value.as_str() {
        Some(_) => vec![value.word(&DAYS)],
        None => value.list()?.iter().map(|v| v.word(&DAYS)).collect(),
    };
    words.into_iter().collect()
}

fn time_of(value: &Value<'_>) -> Option<Time> {
    value.text()?.parse().ok().or_else(|| {
        let text = format!("`{}` is no time of the day", value.path);
        value.refuse(Diagnostic::error("C026", text).help("write hours and minutes: \"02:00\""))
    })
}

fn zone_of(value: &Value<'_>) -> Option<TimeZone> {
    let name = value.text()?;
    TimeZone::get(name).ok().or_else(|| {
        let text = format!("`{}` is no time zone: `{name}`", value.path);
        let help = "write a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"";
        value.refuse(Diagnostic::error("C026", text).help(help))
    })
}

fn instant(value: &Value<'_>) -> Option<i64> {
    let text = match value.value {
        DeValue::Datetime(time) => time.to_string(),
        _ => value.text()?.to_owned(),
    };
    match text.parse::<Timestamp>() {
        Ok(time) => Some(time.as_millisecond()),
        Err(_) => {
            let text = format!("`{}` is not a time with its offset", value.path);
            let finding = Diagnostic::error("C026", text);
            value.refuse(finding.help("write RFC 3339, such as \"2030-01-31T22:00:00Z\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    fn sundays(zone: &str) -> Window {
        let when = When::Weekly {
            days: vec![Weekday::Sunday],
            at: jiff::civil::time(23, 30, 0, 0),
            for_ms: 2 * 60 * MINUTE,
            zone: TimeZone::get(zone).expect("it is known"),
        };
        Window { when, reason: "patches".into() }
    }

    #[test]
    fn a_weekly_window_is_found_while_it_lasts_and_past_midnight() {
        let window = sundays("UTC");
        // 2026-11-29 is a Sunday.
        let around = window.between(ms("2026-11-30T00:00:00Z"), ms("2026-12-01T00:00:00Z"));
        assert_eq!(around, [(ms("2026-11-29T23:30:00Z"), ms("2026-11-30T01:30:00Z"))]);
        let two_weeks = window.between(ms("2026-11-27T00:00:00Z"), ms("2026-12-10T00:00:00Z"));
        assert_eq!(two_weeks.len(), 2);
    }

    #[test]
    fn it_follows_the_clock_on_the_wall_over_a_change_of_hours() {
        let window = sundays("Europe/Berlin");
        let weeks = window.between(ms("2026-10-17T00:00:00Z"), ms("2026-10-27T00:00:00Z"));
        let begins: Vec<i64> = weeks.iter().map(|(from, _)| *from).collect();
        // Summer time ends on 2026-10-25, in the night before that Sunday's evening.
        assert_eq!(begins, [ms("2026-10-18T21:30:00Z"), ms("2026-10-25T22:30:00Z")]);
    }
}
