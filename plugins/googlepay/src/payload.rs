//! What was in a token, once it is known that Google wrote it for us.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use interlock_plugin_api::{Credential, Opened};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::WALLET;
use crate::refusal::Refusal;
use crate::roots::millis;

const MESSAGE_ID_CHARS_MAX: usize = 1024;
/// The longest that the host keeps.
const TOKEN_ID_CHARS_MAX: usize = 128;
const CRYPTOGRAM_CHARS_MAX: usize = 128;
const ECI_CHARS_MAX: usize = 2;

/// The number is borrowed from the plain text, so that what wipes it wipes the number.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    message_expiration: Cow<'a, str>,
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[serde(borrow, default)]
    gateway_merchant_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payment_method_details: Details<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    #[serde(borrow)]
    pan: Cow<'a, str>,
    expiration_month: u8,
    expiration_year: u16,
    #[serde(borrow)]
    auth_method: Cow<'a, str>,
    #[serde(borrow, default)]
    cryptogram: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    eci_indicator: Option<Cow<'a, str>>,
}

/// What processors can take. A card number stays one, whatever stands beside it: only the network
/// token's own authentication makes a cryptogram mean something.
pub(crate) fn read(
    plain: &[u8],
    now_ms: i64,
    gateway_merchant_id: Option<&str>,
) -> Result<Opened, Refusal> {
    // A method without a card's details has other members, and is refused by its name.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind<'a> {
        #[serde(borrow)]
        payment_method: Cow<'a, str>,
    }
    let kind: Kind<'_> = json(plain)?;
    if kind.payment_method != "CARD" {
        return Err(Refusal::UnsupportedPaymentMethod);
    }
    let payload: Payload<'_> = json(plain)?;
    let expires_ms = millis(&payload.message_expiration).ok_or(Refusal::MalformedPayload)?;
    if expires_ms <= now_ms {
        return Err(Refusal::ExpiredMessage);
    }
    if payload.gateway_merchant_id.as_deref() != gateway_merchant_id {
        return Err(Refusal::OtherGatewayMerchant);
    }
    let token_id = token_id(&payload.message_id)?;
    let credential = credential(payload.payment_method_details)?;
    Ok(Opened { credential, token_id, amount: None })
}

/// Google's number of the message; its digest where it is longer than the host keeps.
fn token_id(message_id: &str) -> Result<String, Refusal> {
    let is_text = message_id.bytes().all(|b| b.is_ascii_graphic());
    if !is_text || !(1..=MESSAGE_ID_CHARS_MAX).contains(&message_id.len()) {
        return Err(Refusal::MalformedPayload);
    }
    if message_id.len() <= TOKEN_ID_CHARS_MAX {
        return Ok(message_id.to_owned());
    }
    let digest = Sha256::digest(message_id);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

fn json<'a, T: Deserialize<'a>>(plain: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(plain).map_err(|_| Refusal::MalformedPayload)
}

fn credential(details: Details<'_>) -> Result<Credential, Refusal> {
    let is_number =
        (12..=19).contains(&details.pan.len()) && details.pan.bytes().all(|b| b.is_ascii_digit());
    let (month, year) = (details.expiration_month, details.expiration_year);
    if !is_number || !(1..=12).contains(&month) || !(2000..=9999).contains(&year) {
        return Err(Refusal::MalformedPayload);
    }
    let (number, source) = (details.pan.into_owned(), WALLET.to_owned());
    match &*details.auth_method {
        "PAN_ONLY" => {
            Ok(Credential::Card { number, expiry_month: month, expiry_year: year, source })
        }
        "CRYPTOGRAM_3DS" => Ok(Credential::NetworkToken {
            number,
            expiry_month: month,
            expiry_year: year,
            cryptogram: Some(cryptogram(details.cryptogram)?),
            eci: eci(details.eci_indicator)?,
            source,
        }),
        _ => Err(Refusal::UnsupportedAuthMethod),
    }
}

fn cryptogram(given: Option<Cow<'_, str>>) -> Result<String, Refusal> {
    let text = given.filter(|text| !text.is_empty()).ok_or(Refusal::MissingCryptogram)?;
    let sound = text.len() <= CRYPTOGRAM_CHARS_MAX && STANDARD.decode(&*text).is_ok();
    if sound { Ok(text.into_owned()) } else { Err(Refusal::MalformedPayload) }
}

/// As it was given: some networks have none.
fn eci(given: Option<Cow<'_, str>>) -> Result<Option<String>, Refusal> {
    let given = given.filter(|text| !text.is_empty());
    let sound =
        |text: &str| text.len() <= ECI_CHARS_MAX && text.bytes().all(|b| b.is_ascii_digit());
    match given {
        Some(text) if !sound(&text) => Err(Refusal::MalformedPayload),
        given => Ok(given.map(Cow::into_owned)),
    }
}
