//! Money as integers of minor units, and the only arithmetic that providers' exponents need.
//!
//! Inside the proxy an amount is in ISO 4217 minor units. Across the plugin boundary it is in the
//! *provider's* minor units (CLP has no decimals by ISO and two at some processors); the host
//! converts both ways from the manifest's table, so a plugin sends the digits it was given.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A three-letter currency code in upper case. The set that is accepted is the manifest's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// ISO 4217's code for no currency, where nothing is paid.
    pub const NONE: Self = Self(*b"XXX");

    /// Reads `CNY` or `cny`; anything but three ASCII letters is refused.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 3] = code.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The code in upper case.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII letters are stored")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&code)
            .ok_or_else(|| serde::de::Error::custom("expected a three-letter currency"))
    }
}

/// An amount of minor units with its currency. On the wire the amount is a decimal string,
/// because a JSON number loses digits above 2^53 in many readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; never negative where a payment is meant.
    #[serde(with = "decimal_string")]
    pub amount: i64,
    /// The currency of `amount`.
    pub currency: Currency,
}

impl Money {
    /// An amount of minor units.
    pub fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// Why an amount has no exact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// Not `12`, `12.3` or `12.34` with at most the exponent's digits.
    NotDecimal,
    /// More minor units than fit, or digits would be lost.
    NotExact,
}

impl MoneyError {
    /// The fixed text of the error, fit for a [`crate::Fault`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotDecimal => "amount is not a decimal number",
            Self::NotExact => "amount has no exact form in these units",
        }
    }
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for MoneyError {}

/// The decimal number that a provider wants instead of minor units.
///
/// ```
/// use interlock_plugin_api::format_units;
/// assert_eq!(format_units(4_900, 2), "49.00");
/// assert_eq!(format_units(4_900, 0), "4900");
/// assert_eq!(format_units(7, 3), "0.007");
/// ```
pub fn format_units(units: i64, exponent: u8) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", units.unsigned_abs(), width = usize::from(exponent) + 1);
    let (whole, part) = digits.split_at(digits.len() - usize::from(exponent));
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// The inverse of [`format_units`]; `49`, `49.0` and `49.00` are the same with exponent 2.
///
/// ```
/// use interlock_plugin_api::{MoneyError, parse_units};
/// assert_eq!(parse_units("49.0", 2), Ok(4_900));
/// assert_eq!(parse_units("49.001", 2), Err(MoneyError::NotExact));
/// assert_eq!(parse_units("4e3", 2), Err(MoneyError::NotDecimal));
/// ```
///
/// # Errors
/// [`MoneyError::NotDecimal`] for anything but digits and one point, [`MoneyError::NotExact`] for
/// more decimals than the exponent has, unless they are zeros, and for what does not fit.
pub fn parse_units(text: &str, exponent: u8) -> Result<i64, MoneyError> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(part) || text.ends_with('.') {
        return Err(MoneyError::NotDecimal);
    }
    let exponent = usize::from(exponent);
    let (kept, extra) = part.split_at(part.len().min(exponent));
    if extra.bytes().any(|b| b != b'0') {
        return Err(MoneyError::NotExact);
    }
    format!("{whole}{kept:0<exponent$}").parse().map_err(|_| MoneyError::NotExact)
}

/// Moves an amount from one exponent to another, exactly or not at all.
///
/// # Errors
/// [`MoneyError::NotExact`] when digits would be lost or the result does not fit.
pub fn convert_units(units: i64, from: u8, to: u8) -> Result<i64, MoneyError> {
    let factor = 10i64.checked_pow(u32::from(from.abs_diff(to))).ok_or(MoneyError::NotExact)?;
    if to >= from {
        units.checked_mul(factor).ok_or(MoneyError::NotExact)
    } else if units % factor == 0 {
        Ok(units / factor)
    } else {
        Err(MoneyError::NotExact)
    }
}

mod decimal_string {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(amount: &i64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(amount)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse()
            .map_err(|_| serde::de::Error::custom("expected minor units as a decimal string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_survive_a_round_trip_through_text_in_every_exponent() {
        for exponent in [0u8, 2, 3] {
            for units in [1, 9, 10, 99, 100, 999, 1_000, 123_456_789_012_345] {
                assert_eq!(parse_units(&format_units(units, exponent), exponent), Ok(units));
            }
        }
    }

    #[test]
    fn digits_are_never_lost_silently() {
        assert_eq!(parse_units("1.005", 2), Err(MoneyError::NotExact));
        assert_eq!(parse_units("1.500", 2), Ok(150));
        assert_eq!(convert_units(50_001, 2, 0), Err(MoneyError::NotExact));
        assert_eq!(convert_units(500, 0, 2), Ok(50_000));
        assert_eq!(convert_units(i64::MAX, 0, 2), Err(MoneyError::NotExact));
    }

    #[test]
    fn what_is_no_decimal_number_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,00", " 1", "１"] {
            assert_eq!(parse_units(text, 2), Err(MoneyError::NotDecimal), "{text:?}");
        }
    }

    #[test]
    fn amounts_travel_as_strings() {
        let money = Money::new(4_900, Currency::parse("cny").expect("letters"));
        let json = serde_json::to_string(&money).expect("serializable");
        assert_eq!(json, r#"{"amount":"4900","currency":"CNY"}"#);
        assert_eq!(serde_json::from_str::<Money>(&json).expect("readable"), money);
        assert!(serde_json::from_str::<Money>(r#"{"amount":4900,"currency":"CNY"}"#).is_err());
    }
}
