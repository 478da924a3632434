//! What a `source` of the Checkout.com fake says to the issuer, without its number.
//!
//! Card numbers are read, turned into a verdict, and never kept.

use serde_json::{Value, json};

use crate::issuer::{Cryptogram, Issuer};
use crate::moment;

/// The decline of a cryptogram that was used before: security violation.
pub const REPLAYED: &str = "20063";

/// The last four digits of a network token's number that decline, as `2` and these.
const DECLINING: [&str; 18] = [
    "0001", "0005", "0014", "0051", "0054", "0057", "0059", "0061", "0062", "0063", "0068", "0088",
    "0091", "0096", "0154", "0179", "0182", "0183",
];
/// The last four digits of a card that has no 3-D Secure.
const NOT_ENROLLED: &str = "9990";

/// What the issuer needs to know of a source, without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The decline that the number or token asks for.
    pub declines: Option<String>,
    /// Whether 3-D Secure can challenge it.
    pub enrolled: bool,
    /// What the answer may say of the source.
    pub shown: Value,
    cryptogram: Option<Cryptogram>,
}

impl Credential {
    /// Reads a `source`.
    ///
    /// # Errors
    /// The error code of a 422.
    pub fn read(source: &Value, now_ms: i64) -> Result<Self, &'static str> {
        match source["type"].as_str() {
            Some("network_token") => Self::network_token(source, now_ms),
            Some("card") => Self::card(source, now_ms),
            Some("token") => Self::token(source["token"].as_str(), "token_required"),
            Some("id") => Self::token(source["id"].as_str(), "source_id_required"),
            Some(_) => Err("payment_source_type_invalid"),
            None => Err("payment_source_required"),
        }
    }

    fn network_token(source: &Value, now_ms: i64) -> Result<Self, &'static str> {
        let number = source["token"].as_str().ok_or("token_required")?;
        if !is_number(number) {
            return Err("token_invalid");
        }
        if !matches!(source["token_type"].as_str(), Some("applepay" | "googlepay" | "vts" | "mdes"))
        {
            return Err("token_type_invalid");
        }
        let cryptogram = source["cryptogram"].as_str().and_then(Cryptogram::read);
        Ok(Self { cryptogram, ..Self::numbered(number, source, now_ms)? })
    }

    /// A card's own number. It brings no cryptogram, so nothing is spent with it.
    fn card(source: &Value, now_ms: i64) -> Result<Self, &'static str> {
        let number = source["number"].as_str().ok_or("card_number_required")?;
        if !is_number(number) {
            return Err("card_number_invalid");
        }
        Self::numbered(number, source, now_ms)
    }

    fn numbered(number: &str, source: &Value, now_ms: i64) -> Result<Self, &'static str> {
        let month = integer(&source["expiry_month"]).filter(|month| (1..=12).contains(month));
        let month = month.ok_or("card_expiry_month_invalid")?;
        let year = integer(&source["expiry_year"]).filter(|year| (2000..=2099).contains(year));
        let year = year.ok_or("card_expiry_year_invalid")?;
        if (year, month) < moment::year_month(now_ms) {
            return Err("card_expired");
        }
        let end = &number[number.len() - 4..];
        Ok(Self {
            declines: DECLINING.contains(&end).then(|| format!("2{end}")),
            enrolled: end != NOT_ENROLLED,
            shown: json!({
                "type": source["type"],
                "expiry_month": month,
                "expiry_year": year,
                "scheme": if number.starts_with('4') { "Visa" } else { "Mastercard" },
            }),
            cryptogram: None,
        })
    }

    /// The issuer's verdict: the decline code, or `None` for yes. Spends the cryptogram either way.
    pub fn decide(&self, issuer: &Issuer) -> Option<String> {
        let replayed = self.cryptogram.as_ref().is_some_and(|c| !issuer.spend(c));
        if replayed { Some(REPLAYED.into()) } else { self.declines.clone() }
    }

    fn token(token: Option<&str>, missing: &'static str) -> Result<Self, &'static str> {
        let token = token.filter(|token| !token.is_empty() && token.len() <= 200).ok_or(missing)?;
        let code = token.split("_decline_").nth(1).and_then(|rest| rest.get(..5));
        Ok(Self {
            declines: code.filter(|c| c.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned),
            enrolled: !token.contains("_not_enrolled"),
            shown: json!({ "type": "card", "scheme": "Visa" }),
            cryptogram: None,
        })
    }
}

fn is_number(text: &str) -> bool {
    (12..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cryptogram_is_good_once_even_when_the_first_use_was_declined() {
        let issuer = Issuer::default();
        let bad = network_token("4900000000000051", "c1");
        let good = network_token("4900000000001111", "c1");
        assert_eq!(bad.decide(&issuer).as_deref(), Some("20051"));
        assert_eq!(good.decide(&issuer).as_deref(), Some(REPLAYED));
        let fresh = network_token("4900000000001111", "c2");
        assert_eq!(fresh.decide(&issuer), None);
    }

    #[test]
    fn a_card_declines_as_its_token_does_and_spends_nothing() {
        let issuer = Issuer::default();
        let card = |number: &str| {
            let source = json!({
                "type": "card", "number": number, "expiry_month": 12, "expiry_year": 2099,
            });
            Credential::read(&source, 0).unwrap()
        };
        assert!(card("4900000000001111").enrolled && !card("4900000000009990").enrolled);
        let again = card("4900000000000005");
        for _ in 0..2 {
            assert_eq!(again.decide(&issuer).as_deref(), Some("20005"));
        }
        assert_eq!(again.shown["type"], "card");
    }

    #[test]
    fn tokens_say_how_they_decline() {
        let read = |token| {
            Credential::read(&json!({ "type": "token", "token": token }), 0).unwrap().declines
        };
        assert_eq!(read("tok_decline_20005_x").as_deref(), Some("20005"));
        assert_eq!(read("tok_decline_soon"), None);
        assert_eq!(read("tok_4d2"), None);
    }

    #[test]
    fn a_source_that_cannot_be_is_named() {
        let now = 1_700_000_000_000;
        let error = |source| Credential::read(&source, now).unwrap_err();
        assert_eq!(error(json!({})), "payment_source_required");
        assert_eq!(error(json!({ "type": "dlocal" })), "payment_source_type_invalid");
        assert_eq!(error(json!({ "type": "card" })), "card_number_required");
        let mut source = json!({
            "type": "network_token", "token": "4900000000001111", "token_type": "applepay",
            "expiry_month": "11", "expiry_year": "2023", "cryptogram": "c",
        });
        assert!(Credential::read(&source, now).is_ok(), "strings are fine, and so is this month");
        source["expiry_month"] = 10.into();
        assert_eq!(error(source.clone()), "card_expired");
        source["token"] = "4900".into();
        assert_eq!(error(source), "token_invalid");
    }

    fn network_token(number: &str, cryptogram: &str) -> Credential {
        let source = json!({
            "type": "network_token", "token": number, "token_type": "applepay",
            "expiry_month": 12, "expiry_year": 2099, "cryptogram": cryptogram,
        });
        Credential::read(&source, 0).unwrap()
    }
}
