//! What a means of payment of the Stripe fake says to the issuer, without its number.
//!
//! Card numbers and wallets' blobs are read, turned into a verdict, and never kept. A card that is
//! declined at another processor of the sandbox is declined here too, in this provider's words.

use super::wire::Form;
use crate::issuer::{Cryptogram, Issuer};

/// The decline of a cryptogram that was used before: the issuer suspects fraud.
pub const REPLAYED: &str = "fraudulent";

/// The last four digits of a card's number that decline, and why.
const DECLINING: [(&str, &str); 13] = [
    ("0001", "call_issuer"),
    ("0005", "do_not_honor"),
    ("0014", "incorrect_number"),
    ("0051", "insufficient_funds"),
    ("0054", "expired_card"),
    ("0057", "transaction_not_allowed"),
    ("0059", "fraudulent"),
    ("0061", "card_velocity_exceeded"),
    ("0062", "restricted_card"),
    ("0088", "processing_error"),
    ("0091", "issuer_not_available"),
    ("0096", "processing_error"),
    ("0154", "authentication_required"),
];

/// What the issuer needs to know, without the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The decline code that it asks for.
    pub refusal: Option<String>,
    /// Whether the issuer wants 3-D Secure.
    pub challenged: bool,
    /// Whether it is decided later.
    pub later: bool,
    cryptogram: Option<Cryptogram>,
}

impl Credential {
    /// A `pm_...`, or a `tok_...` that the provider made of a wallet's token elsewhere.
    pub fn named(name: &str) -> Self {
        let why = name.split_once("_decline_").map(|(_, why)| why.to_owned());
        Self {
            refusal: why.filter(|why| why.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')),
            challenged: name.contains("_authenticate"),
            later: name.contains("_processing"),
            cryptogram: None,
        }
    }

    /// What `/v1/tokens` is given.
    ///
    /// # Errors
    /// The error's code.
    pub fn tokenized(form: &Form) -> Result<Self, &'static str> {
        let plain = Self { refusal: None, challenged: false, later: false, cryptogram: None };
        if let Some(blob) = form.get("pk_token") {
            let json = serde_json::from_str::<serde_json::Value>(blob);
            return if json.is_ok_and(|json| json.is_object()) {
                Ok(plain)
            } else {
                Err("parameter_invalid_string_blank")
            };
        }
        let number = form.get("card[number]").ok_or("parameter_missing")?;
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        if !digits || !(12..=19).contains(&number.len()) {
            return Err("incorrect_number");
        }
        let whole = |name: &str| form.get(name).and_then(|text| text.parse::<u16>().ok());
        if !whole("card[exp_month]").is_some_and(|month| (1..=12).contains(&month)) {
            return Err("invalid_expiry_month");
        }
        if whole("card[exp_year]").is_none_or(|year| year < 2_000) {
            return Err("invalid_expiry_year");
        }
        if !matches!(form.get("card[tokenization_method]"), Some("apple_pay" | "android_pay")) {
            return Err("parameter_missing");
        }
        let end = &number[number.len() - 4..];
        let declines = DECLINING.iter().find(|(known, _)| *known == end);
        Ok(Self {
            refusal: declines.map(|(_, why)| (*why).to_owned()),
            cryptogram: form.get("card[cryptogram]").and_then(Cryptogram::read),
            ..plain
        })
    }

    /// The issuer's verdict: the decline code, or `None` for yes. Spends the cryptogram either way.
    pub fn decide(&self, issuer: &Issuer) -> Option<String> {
        let replayed = self.cryptogram.as_ref().is_some_and(|c| !issuer.spend(c));
        if replayed { Some(REPLAYED.into()) } else { self.refusal.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_they_go() {
        let why = |name| Credential::named(name).refusal;
        assert_eq!(why("pm_decline_insufficient_funds").as_deref(), Some("insufficient_funds"));
        assert_eq!((why("pm_1"), why("pm_decline_20005")), (None, None));
        let challenged = Credential::named("pm_authenticate_decline_do_not_honor");
        assert!(challenged.challenged && challenged.refusal.is_some());
        assert!(Credential::named("pm_processing").later);
    }

    #[test]
    fn a_cryptogram_is_good_once_even_when_the_first_use_was_declined() {
        let issuer = Issuer::default();
        let card = |number: &str| {
            let body = format!(
                "card[number]={number}&card[exp_month]=7&card[exp_year]=2031\
                 &card[cryptogram]=c&card[tokenization_method]=apple_pay"
            );
            Credential::tokenized(&Form::read(body.as_bytes())).unwrap()
        };
        assert_eq!(card("4900000000000051").decide(&issuer).as_deref(), Some("insufficient_funds"));
        assert_eq!(card("4900000000001111").decide(&issuer).as_deref(), Some(REPLAYED));
    }
}
