//! What was in a token, held against the payment that it came with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use interlock_plugin_api::{Credential, Currency, Money, Opened};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::WALLET;
use crate::refusal::{No, Refusal};
use crate::token::Token;

/// What networks send is 20 bytes, or a few more.
const CRYPTOGRAM_LIMIT: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inside {
    application_primary_account_number: Zeroizing<String>,
    application_expiration_date: Zeroizing<String>,
    currency_code: String,
    transaction_amount: i64,
    payment_data_type: String,
    payment_data: PaymentData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PaymentData {
    #[serde(default)]
    online_payment_cryptogram: Option<Zeroizing<String>>,
    #[serde(default)]
    eci_indicator: Option<String>,
}

/// Reads the text of a token, for a payment of this amount.
pub(crate) fn read(text: &[u8], token: &Token, expected: Money) -> Result<Opened, No> {
    let inside: Inside = serde_json::from_slice(text).map_err(|_| Refusal::MalformedContent)?;
    match inside.payment_data_type.as_str() {
        "3DSecure" => {}
        "EMV" => return Err(Refusal::EmvData.into()),
        _ => return Err(Refusal::UnknownDataType.into()),
    }
    let currency = currency(&inside.currency_code).ok_or(Refusal::MalformedContent)?;
    let amount = Money::new(inside.transaction_amount, currency);
    if amount.currency != expected.currency {
        return Err(Refusal::WrongCurrency.into());
    }
    if amount.amount != expected.amount {
        return Err(Refusal::WrongAmount.into());
    }
    let credential = credential(&inside).ok_or(Refusal::MalformedContent)?;
    let token_id = hex::encode(&token.transaction_id);
    Ok(Opened { credential, token_id, amount: Some(amount) })
}

fn credential(inside: &Inside) -> Option<Credential> {
    let number = &inside.application_primary_account_number;
    let (expiry_year, expiry_month) = expiry(&inside.application_expiration_date)?;
    let cryptogram = inside.payment_data.online_payment_cryptogram.as_deref()?;
    let good = is_number(number) && is_cryptogram(cryptogram);
    let eci = match inside.payment_data.eci_indicator.as_deref() {
        None | Some("") => None,
        Some(text) => Some(indicator(text)?),
    };
    good.then(|| Credential::NetworkToken {
        number: number.to_string(),
        expiry_month,
        expiry_year,
        cryptogram: Some(cryptogram.to_owned()),
        eci,
        source: WALLET.into(),
    })
}

/// From the number of ISO 4217, which Apple writes as a text.
fn currency(code: &str) -> Option<Currency> {
    let digits = (1..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| code.parse().ok()).flatten()?;
    Currency::parse(iso_currency::Currency::from_numeric(number)?.code())
}

/// From `YYMMDD`; the day is that of the month's end and says nothing more.
fn expiry(text: &str) -> Option<(u16, u8)> {
    if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let year: u16 = text[..2].parse().ok()?;
    let month: u8 = text[2..4].parse().ok()?;
    (1..=12).contains(&month).then_some((2_000 + year, month))
}

fn is_number(text: &str) -> bool {
    (12..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_cryptogram(text: &str) -> bool {
    let fits = (1..=CRYPTOGRAM_LIMIT).contains(&text.len());
    fits && STANDARD.decode(text).map(Zeroizing::new).is_ok()
}

/// Networks give one digit or two; processors want two.
fn indicator(text: &str) -> Option<String> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| format!("{text:0>2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_currencies_dates_and_indicators_are_read() {
        assert_eq!(currency("840").map(|c| c.to_string()).as_deref(), Some("USD"));
        assert_eq!(currency("036"), currency("36"));
        for bad in ["", "USD", "0840", "+40", "000", "999"] {
            assert_ne!(currency(bad), currency("840"), "{bad}");
        }
        assert_eq!(expiry("310731"), Some((2031, 7)));
        for bad in ["", "311331", "310031", "31073", "3107é"] {
            assert_eq!(expiry(bad), None, "{bad}");
        }
        assert_eq!(indicator("7").as_deref(), Some("07"));
        assert_eq!(indicator("05").as_deref(), Some("05"));
        assert_eq!((indicator("007"), indicator("A")), (None, None));
    }
}
