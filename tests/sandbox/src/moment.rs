//! Time as the fakes write it: UTC milliseconds inside, RFC 3339 and Beijing time on the wire.
//!
//! Alipay stamps everything with the wall clock of UTC+8 and no zone, so a client that signs in
//! another zone is wrong by hours; keeping the conversion in one room makes that visible.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const BEIJING_HOURS: i8 = 8;
const ALIPAY_FORM: &str = "%Y-%m-%d %H:%M:%S";

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// `ms` since the epoch as RFC 3339 in UTC.
pub fn rfc3339(ms: i64) -> String {
    instant(ms).to_string()
}

/// Milliseconds since the epoch of an RFC 3339 text, or `None` when it is not one.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|at| at.as_millisecond())
}

/// `ms` since the epoch as Alipay writes it: `yyyy-MM-dd HH:mm:ss` in Beijing.
pub fn beijing(ms: i64) -> String {
    instant(ms).to_zoned_datetime(beijing_zone()).strftime(ALIPAY_FORM).to_string()
}

/// `ms` since the epoch as `yyyyMMdd` in Beijing, the head of every trade number.
pub fn beijing_day(ms: i64) -> String {
    instant(ms).to_zoned_datetime(beijing_zone()).strftime("%Y%m%d").to_string()
}

/// `ms` since the epoch as RFC 3339 in Beijing, to the second: what WeChat Pay writes.
pub fn beijing_rfc3339(ms: i64) -> String {
    instant(ms).to_zoned_datetime(beijing_zone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Milliseconds since the epoch of Alipay's `yyyy-MM-dd HH:mm:ss`, or `None` for any other form.
pub fn parse_beijing(text: &str) -> Option<i64> {
    if text.len() != 19 {
        return None;
    }
    let civil = DateTime::strptime(ALIPAY_FORM, text).ok()?;
    Some(civil.to_zoned_datetime(beijing_zone()).ok()?.timestamp().as_millisecond())
}

/// The year and month of `ms` in UTC, for the expiry of cards.
pub fn year_month(ms: i64) -> (i64, i64) {
    let zoned = instant(ms).to_zoned_datetime(TimeZone::UTC);
    (i64::from(zoned.year()), i64::from(zoned.month()))
}

fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn beijing_zone() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(BEIJING_HOURS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beijing_is_eight_hours_ahead_of_utc() {
        assert_eq!(beijing(0), "1970-01-01 08:00:00");
        assert_eq!(parse_beijing("1970-01-01 08:00:00"), Some(0));
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(beijing_rfc3339(0), "1970-01-01T08:00:00+08:00");
        assert_eq!(parse_rfc3339("1970-01-01T08:00:00+08:00"), Some(0));
    }

    #[test]
    fn other_forms_of_time_are_refused() {
        assert_eq!(parse_beijing("1970-01-01T08:00:00"), None);
        assert_eq!(parse_beijing("1970-01-01 8:00"), None);
    }
}
