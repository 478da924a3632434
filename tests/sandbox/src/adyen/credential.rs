//! What a `paymentMethod` of the Adyen fake says to the issuer, without its number.
//!
//! Card numbers and wallets' blobs are read, turned into a verdict, and never kept. A card that is
//! declined at another processor of the sandbox is declined here too, with this provider's number.

use serde_json::Value;

use crate::issuer::{Cryptogram, Issuer};

/// The refusal of a cryptogram that was used before: the issuer suspects fraud.
pub const REPLAYED: &str = "31";

/// The last four digits of a network token's number that decline, and the refusal's number.
const DECLINING: [(&str, &str); 18] = [
    ("0001", "3"),
    ("0005", "2"),
    ("0014", "8"),
    ("0051", "12"),
    ("0054", "6"),
    ("0057", "23"),
    ("0059", "20"),
    ("0061", "28"),
    ("0062", "25"),
    ("0063", "2"),
    ("0068", "9"),
    ("0088", "4"),
    ("0091", "9"),
    ("0096", "4"),
    ("0154", "38"),
    ("0179", "26"),
    ("0182", "2"),
    ("0183", "31"),
];
/// The last four digits of a card that has no 3-D Secure.
const NOT_ENROLLED: &str = "9990";

/// What becomes of a payment, by what it is paid with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The issuer decides at once.
    Decided,
    /// It is told later.
    Pending,
    /// The way to the issuer breaks off, and nothing is taken.
    Error,
    /// The store of keys is down at the first try of each key.
    StoreDown,
}

/// What the issuer needs to know of a payment method, without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The refusal that the number or token asks for.
    pub refusal: Option<String>,
    /// Whether 3-D Secure can challenge it.
    pub enrolled: bool,
    /// How it goes.
    pub fate: Fate,
    /// The name of the method in notifications.
    pub name: &'static str,
    cryptogram: Option<Cryptogram>,
}

impl Credential {
    /// Reads `paymentMethod` and `mpiData` of a request.
    ///
    /// # Errors
    /// The error code of a 422.
    pub fn read(body: &Value) -> Result<Self, &'static str> {
        let method = &body["paymentMethod"];
        let text = |name: &str| method[name].as_str().filter(|text| !text.is_empty());
        match text("type") {
            Some("scheme") if text("storedPaymentMethodId").is_some() => {
                // A token belongs to a shopper, who must be named.
                body["shopperReference"].as_str().filter(|s| s.len() >= 3).ok_or("800")?;
                Ok(Self::stored(text("storedPaymentMethodId").unwrap_or_default()))
            }
            Some("scheme") => Self::numbered(method, &body["mpiData"]),
            Some("applepay") => {
                text("applePayToken").map(|_| Self::wallet("applepay")).ok_or("702")
            }
            Some("googlepay") => {
                text("googlePayToken").map(|_| Self::wallet("googlepay")).ok_or("702")
            }
            _ => Err("14_004"),
        }
    }

    /// The issuer's verdict: the refusal, or `None` for yes. Spends the cryptogram either way.
    pub fn decide(&self, issuer: &Issuer) -> Option<String> {
        let replayed = self.cryptogram.as_ref().is_some_and(|c| !issuer.spend(c));
        if replayed { Some(REPLAYED.into()) } else { self.refusal.clone() }
    }

    /// A network token, or a card's own number where nothing is proven.
    fn numbered(method: &Value, mpi_data: &Value) -> Result<Self, &'static str> {
        let number = method["number"].as_str().unwrap_or_default();
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        if !digits || !(12..=19).contains(&number.len()) {
            return Err("101");
        }
        let part = |name: &str| method[name].as_str().and_then(|text| text.parse::<u16>().ok());
        let month = part("expiryMonth").is_some_and(|month| (1..=12).contains(&month));
        if !month || part("expiryYear").is_none_or(|year| year < 2_000) {
            return Err("103");
        }
        let end = &number[number.len() - 4..];
        let declines = DECLINING.iter().find(|(known, _)| *known == end);
        let proven = mpi_data["authenticationResponse"] == "Y";
        Ok(Self {
            refusal: declines.map(|(_, refusal)| (*refusal).to_owned()),
            enrolled: end != NOT_ENROLLED && !proven,
            fate: Fate::Decided,
            name: if number.starts_with('4') { "visa" } else { "mc" },
            cryptogram: mpi_data["cavv"].as_str().and_then(Cryptogram::read),
        })
    }

    fn stored(token: &str) -> Self {
        let number = token.split("_decline_").nth(1).unwrap_or_default();
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        let fate = if token.contains("_pending") {
            Fate::Pending
        } else if token.contains("_error") {
            Fate::Error
        } else if token.contains("_store_down") {
            Fate::StoreDown
        } else {
            Fate::Decided
        };
        Self {
            refusal: Some(digits).filter(|digits| !digits.is_empty()),
            enrolled: !token.contains("_not_enrolled"),
            fate,
            name: "visa",
            cryptogram: None,
        }
    }

    fn wallet(name: &'static str) -> Self {
        Self { refusal: None, enrolled: false, fate: Fate::Decided, name, cryptogram: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_say_how_they_go() {
        let read = |token: &str| {
            let method = json!({ "type": "scheme", "storedPaymentMethodId": token });
            let body = json!({ "paymentMethod": method, "shopperReference": "shopper" });
            Credential::read(&body).unwrap()
        };
        assert_eq!(read("M5_decline_20_x").refusal.as_deref(), Some("20"));
        assert_eq!(read("M5_decline_soon").refusal, None);
        assert_eq!((read("M5_pending").fate, read("M5").fate), (Fate::Pending, Fate::Decided));
        assert!(!read("M5_not_enrolled").enrolled && read("M5").enrolled);
    }

    #[test]
    fn a_cryptogram_is_good_once() {
        let token = |number: &str, cavv: &str| {
            let method = json!({
                "type": "scheme", "number": number, "expiryMonth": "12", "expiryYear": "2099",
            });
            let mpi_data = json!({ "cavv": cavv, "authenticationResponse": "Y" });
            Credential::read(&json!({ "paymentMethod": method, "mpiData": mpi_data })).unwrap()
        };
        let issuer = Issuer::default();
        assert_eq!(token("4900000000000051", "c1").decide(&issuer).as_deref(), Some("12"));
        assert_eq!(token("4900000000001111", "c1").decide(&issuer).as_deref(), Some(REPLAYED));
        assert_eq!(token("4900000000001111", "c2").decide(&issuer), None);
        assert!(!token("4900000000001111", "c3").enrolled, "the wallet has proven the shopper");
    }

    #[test]
    fn a_card_is_challenged_and_spends_nothing() {
        let issuer = Issuer::default();
        let card = |number: &str| {
            let method = json!({
                "type": "scheme", "number": number, "expiryMonth": "12", "expiryYear": "2099",
            });
            Credential::read(&json!({ "paymentMethod": method })).unwrap()
        };
        assert!(card("4900000000001111").enrolled && !card("4900000000009990").enrolled);
        let again = card("4900000000000005");
        for _ in 0..2 {
            assert_eq!(again.decide(&issuer).as_deref(), Some("2"));
        }
    }

    #[test]
    fn a_method_that_cannot_be_is_named() {
        let error =
            |method: Value| Credential::read(&json!({ "paymentMethod": method })).unwrap_err();
        assert_eq!(error(json!({})), "14_004");
        assert_eq!(error(json!({ "type": "scheme", "storedPaymentMethodId": "M" })), "800");
        assert_eq!(error(json!({ "type": "scheme", "number": "4900" })), "101");
        assert_eq!(error(json!({ "type": "applepay" })), "702");
        let card = json!({ "type": "scheme", "number": "4900000000001111", "expiryMonth": "13" });
        assert_eq!(error(card), "103");
    }
}
