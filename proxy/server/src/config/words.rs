//! Durations, rates and sizes as words: `250ms`, `2h`, `200/s burst 50`, `64KiB`.
//!
//! A bare number in a payment configuration is a unit that somebody has to guess, so every
//! quantity carries its own. What cannot be read exactly is refused, never rounded.

use std::fmt;

/// The units of durations, largest first, in ms.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The periods of rates, in ms.
const PERIODS: [(&str, u64); 3] = [("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// The units of sizes, in bytes.
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// How often something may happen: `count` in each `period_ms`, in bursts of at most `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in one period; at least 1.
    pub count: u32,
    /// The period, ms: a second, a minute or an hour.
    pub period_ms: u64,
    /// How many at once after a quiet time; at least 1. Without a word: one second's worth.
    pub burst: u32,
}

impl Rate {
    /// The time that one of them takes, in nanoseconds; at least 1.
    pub fn interval_ns(&self) -> u64 {
        (self.period_ms * 1_000_000 / u64::from(self.count)).max(1)
    }

    /// The number in one second, as a fraction.
    pub fn per_second(&self) -> f64 {
        f64::from(self.count) * 1_000.0 / self.period_ms as f64
    }

    fn second_worth(count: u32, period_ms: u64) -> u32 {
        let each_second = u64::from(count).div_ceil(period_ms / 1_000);
        u32::try_from(each_second).unwrap_or(u32::MAX).max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = PERIODS.iter().find(|(_, ms)| *ms == self.period_ms).map_or("s", |(w, _)| w);
        write!(f, "{}/{period}", self.count)?;
        if self.burst != Self::second_worth(self.count, self.period_ms) {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

/// Why a word was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordError {
    /// There is nothing to read.
    Empty,
    /// No digits where a number must stand; signs and decimals are not read.
    NoNumber,
    /// A number without its unit.
    NoUnit,
    /// A unit that is none of the known ones.
    UnknownUnit,
    /// The units of one duration do not go from large to small.
    Order,
    /// More than fits.
    TooLarge,
    /// A rate or burst of nothing.
    Zero,
    /// A rate that is not `COUNT/PERIOD` or `COUNT/PERIOD burst COUNT`.
    NotARate,
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::NoNumber => "a whole number was expected",
            Self::NoUnit => "the unit is missing",
            Self::UnknownUnit => "the unit is unknown",
            Self::Order => "larger units come first, each once",
            Self::TooLarge => "it is too large",
            Self::Zero => "it must be at least 1",
            Self::NotARate => "a rate is COUNT/PERIOD",
        })
    }
}

impl std::error::Error for WordError {}

/// Reads `250ms`, `10s`, `5m`, `2h`, `3d` or a chain such as `1m30s`, in ms.
///
/// # Errors
/// [`WordError`] for anything else.
pub fn parse_duration(text: &str) -> Result<u64, WordError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(WordError::Empty);
    }
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let ms = unit_of(&UNITS, unit)?;
        if ms >= smallest {
            return Err(WordError::Order);
        }
        smallest = ms;
        total = number
            .checked_mul(ms)
            .and_then(|part| total.checked_add(part))
            .ok_or(WordError::TooLarge)?;
        rest = after;
    }
    Ok(total)
}

/// The shortest chain of units that [`parse_duration`] reads as the same time.
pub fn format_duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

/// Reads `200/s`, `30/m`, `1000/h`, each with an optional ` burst N`.
///
/// # Errors
/// [`WordError`] for anything else.
pub fn parse_rate(text: &str) -> Result<Rate, WordError> {
    let mut words = text.split_whitespace();
    let (count, period) =
        words.next().ok_or(WordError::Empty)?.split_once('/').ok_or(WordError::NotARate)?;
    let count = whole(count)?;
    let period_ms = unit_of(&PERIODS, period)?;
    let burst = match (words.next(), words.next(), words.next()) {
        (None, ..) => Rate::second_worth(count, period_ms),
        (Some("burst"), Some(burst), None) => whole(burst)?,
        _ => return Err(WordError::NotARate),
    };
    Ok(Rate { count, period_ms, burst })
}

/// Reads `512B`, `64KiB` or `1 MiB`, in bytes.
///
/// # Errors
/// [`WordError`] for anything else.
pub fn parse_size(text: &str) -> Result<u64, WordError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(WordError::Empty);
    }
    let (number, unit) = leading_number(text)?;
    number.checked_mul(unit_of(&SIZES, unit.trim_start())?).ok_or(WordError::TooLarge)
}

/// The largest unit that holds the size exactly.
pub fn format_size(bytes: u64) -> String {
    let exact = SIZES.iter().rev().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    let (unit, size) = exact.copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / size)
}

fn leading_number(text: &str) -> Result<(u64, &str), WordError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(WordError::NoNumber);
    }
    Ok((digits.parse().map_err(|_| WordError::TooLarge)?, rest))
}

fn unit_of(units: &[(&str, u64)], word: &str) -> Result<u64, WordError> {
    if word.is_empty() {
        return Err(WordError::NoUnit);
    }
    let found = units.iter().find(|(unit, _)| *unit == word);
    found.map(|(_, size)| *size).ok_or(WordError::UnknownUnit)
}

fn whole(text: &str) -> Result<u32, WordError> {
    match leading_number(text)? {
        (0, "") => Err(WordError::Zero),
        (number, "") => u32::try_from(number).map_err(|_| WordError::TooLarge),
        _ => Err(WordError::NoNumber),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_carry_their_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("3d", 259_200_000),
            ("1m30s", 90_000),
            (" 0s ", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, why) in [
            ("", WordError::Empty),
            ("10", WordError::NoUnit),
            ("s", WordError::NoNumber),
            ("-1s", WordError::NoNumber),
            ("1.5s", WordError::NoUnit),
            ("10sec", WordError::UnknownUnit),
            ("10 s", WordError::NoUnit),
            ("30s1m", WordError::Order),
            ("1s1s", WordError::Order),
            ("99999999999999999999s", WordError::TooLarge),
            ("18446744073709551615d", WordError::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_rate_without_a_burst_bursts_one_second() {
        let rate = |count, period_ms, burst| Ok(Rate { count, period_ms, burst });
        assert_eq!(parse_rate("200/s"), rate(200, 1_000, 200));
        assert_eq!(parse_rate("200/s burst 50"), rate(200, 1_000, 50));
        assert_eq!(parse_rate("30/m"), rate(30, 60_000, 1));
        assert_eq!(parse_rate("7200/h"), rate(7_200, 3_600_000, 2));
        assert_eq!(parse_rate("200/s").map(|r| r.interval_ns()), Ok(5_000_000));
    }

    #[test]
    fn what_is_no_rate_says_why() {
        for (text, why) in [
            ("", WordError::Empty),
            ("200", WordError::NotARate),
            ("200/", WordError::NoUnit),
            ("200/d", WordError::UnknownUnit),
            ("0/s", WordError::Zero),
            ("x/s", WordError::NoNumber),
            ("1/s burst", WordError::NotARate),
            ("1/s burst 0", WordError::Zero),
            ("1/s burst 5 more", WordError::NotARate),
            ("4294967296/s", WordError::TooLarge),
        ] {
            assert_eq!(parse_rate(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1 MiB"), Ok(1_048_576));
        assert_eq!(parse_size("64"), Err(WordError::NoUnit));
        assert_eq!(parse_size("64kb"), Err(WordError::UnknownUnit));
        assert_eq!(format_size(65_536), "64KiB");
        assert_eq!(format_size(1_000), "1000B");
    }

    proptest! {
        #[test]
        fn every_duration_survives_its_words(ms in any::<u64>()) {
            prop_assert_eq!(parse_duration(&format_duration(ms)), Ok(ms));
        }

        #[test]
        fn every_rate_survives_its_words(
            count in 1u32..,
            period_ms in prop::sample::select(vec![1_000u64, 60_000, 3_600_000]),
            burst in 1u32..,
        ) {
            let rate = Rate { count, period_ms, burst };
            prop_assert_eq!(parse_rate(&rate.to_string()), Ok(rate));
            prop_assert!(rate.interval_ns() >= 1);
        }

        #[test]
        fn every_size_survives_its_words(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_reader_fall(text in "\\PC{0,20}") {
            let _ = (parse_duration(&text), parse_rate(&text), parse_size(&text));
        }
    }
}
