//! The requests that move money, and the checks that come before any of them.
//!
//! Nothing that could become a second attempt or another amount at the provider is ever asked for:
//! no automatic retry, no fallback source, no routing, no partial authorization. What the provider
//! is known to refuse, or what could not be written safely into a path or a header, is refused
//! here, before anything is sent.

use interlock_plugin_api::{CaptureMode, Credential, Fault, FaultKind, Original, Request, Send};
use serde::Serialize;

/// The longest amount that the provider takes: nine digits.
const AMOUNT_MAX: i64 = 999_999_999;

/// The account's plain settings.
pub(crate) struct Settings {
    pub processing_channel_id: Option<String>,
    pub three_d_secure: bool,
}

/// The three calls that change a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Capture,
    Void,
    Refund,
}

impl Change {
    fn path(self) -> &'static str {
        match self {
            Self::Capture => "captures",
            Self::Void => "voids",
            Self::Refund => "refunds",
        }
    }
}

/// `POST /payments`.
pub(crate) fn create(settings: &Settings, r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    if matches!(r.credential, Some(Credential::Card { .. })) && !settings.three_d_secure {
        return Err(Fault {
            kind: FaultKind::Unsupported,
            text: "a card without a cryptogram needs 3-D Secure: three_d_secure",
        });
    }
    let return_url = match (settings.three_d_secure, r.return_url.as_deref()) {
        (true, None) => return Err(Fault::input("3-D Secure needs a return_url")),
        (true, url) => url,
        (false, _) => None,
    };
    let body = Create {
        source: source(r.credential.as_ref())?,
        amount: checked_amount(r)?,
        currency: r.amount.currency.as_str(),
        capture: r.capture == CaptureMode::Automatic,
        reference: checked_op_id(&r.op_id)?,
        payment_type: "Regular",
        processing_channel_id: settings.processing_channel_id.as_deref(),
        three_ds: settings.three_d_secure.then_some(ThreeDs { enabled: true }),
        success_url: return_url,
        failure_url: return_url,
    };
    Ok((post("/payments".into(), &r.op_id), written(&body)))
}

/// `POST /payments/{id}/captures`, `/voids` or `/refunds`.
pub(crate) fn change(change: Change, r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let id = known_ref(original(r)?)?;
    let reference = checked_op_id(&r.op_id)?;
    let amount = match change {
        Change::Void => None,
        Change::Capture | Change::Refund => Some(checked_amount(r)?),
    };
    let path = format!("/payments/{id}/{}", change.path());
    Ok((post(path, reference), written(&Changed { amount, reference })))
}

/// `GET` of a path under `/payments`.
pub(crate) fn get(path: String, query: Vec<(String, String)>) -> Send {
    let headers = vec![
        ("Authorization".into(), "Bearer {secret:secret_key}".into()),
        ("Accept".into(), "application/json".into()),
    ];
    Send { method: "GET".into(), endpoint: "api".into(), path, query, headers }
}

/// The authorize that the operation belongs to.
pub(crate) fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the operation names no payment"))
}

/// The provider's number of it.
pub(crate) fn known_ref(original: &Original) -> Result<&str, Fault> {
    let id = original.provider_ref.as_deref();
    let id = id.ok_or(Fault::input("the provider's number of the payment is not known"))?;
    // The host encodes nothing in a path.
    if !is_ref(id) {
        return Err(Fault::input("the provider's number of the payment has an impossible form"));
    }
    Ok(id)
}

/// Whether it has the form of one of our own numbers, which go into headers.
pub(crate) fn is_op_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether it has the form of a provider's number (`pay_...`, `act_...`), which goes into paths.
/// The word in front is asked for because it keeps a card's number from passing as one.
pub(crate) fn is_ref(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let named = text.split_once('_').is_some_and(|(word, rest)| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.is_empty()
    });
    named && text.len() <= 64 && text.bytes().all(fits)
}

#[derive(Serialize)]
struct Create<'a> {
    source: Source<'a>,
    amount: i64,
    currency: &'a str,
    capture: bool,
    reference: &'a str,
    payment_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_channel_id: Option<&'a str>,
    #[serde(rename = "3ds", skip_serializing_if = "Option::is_none")]
    three_ds: Option<ThreeDs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_url: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    NetworkToken {
        token: &'a str,
        token_type: &'a str,
        expiry_month: u8,
        expiry_year: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        cryptogram: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        eci: Option<&'a str>,
    },
    Card {
        number: &'a str,
        expiry_month: u8,
        expiry_year: u16,
    },
    Token {
        token: &'a str,
    },
    Id {
        id: &'a str,
    },
}

#[derive(Serialize)]
struct ThreeDs {
    enabled: bool,
}

#[derive(Serialize)]
struct Changed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    reference: &'a str,
}

fn source(credential: Option<&Credential>) -> Result<Source<'_>, Fault> {
    match credential {
        Some(Credential::NetworkToken {
            number,
            expiry_month,
            expiry_year,
            cryptogram,
            eci,
            source,
        }) => {
            checked_card(number, *expiry_month, *expiry_year)?;
            Ok(Source::NetworkToken {
                token: number,
                token_type: token_type(source, number)?,
                expiry_month: *expiry_month,
                expiry_year: *expiry_year,
                cryptogram: cryptogram.as_deref(),
                eci: eci.as_deref(),
            })
        }
        Some(Credential::Card { number, expiry_month, expiry_year, .. }) => {
            checked_card(number, *expiry_month, *expiry_year)?;
            let (expiry_month, expiry_year) = (*expiry_month, *expiry_year);
            Ok(Source::Card { number, expiry_month, expiry_year })
        }
        Some(Credential::AccountToken { token }) if is_ref(token) => {
            if token.starts_with("src_") {
                Ok(Source::Id { id: token })
            } else if token.starts_with("tok_") {
                Ok(Source::Token { token })
            } else {
                Err(Fault::input("an account token begins with src_ or tok_"))
            }
        }
        Some(Credential::AccountToken { .. }) => {
            Err(Fault::input("the account token has an impossible form"))
        }
        Some(_) => Err(Fault::input("only a card, a network token or an account token is taken")),
        None => Err(Fault::input("the payment has no credential")),
    }
}

fn checked_card(number: &str, month: u8, year: u16) -> Result<(), Fault> {
    if !(12..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::input("the number of a card or token has 12 to 19 digits"));
    }
    if !(1..=12).contains(&month) || !(2000..=9999).contains(&year) {
        return Err(Fault::input("the expiry of the card or token is no month of a year"));
    }
    Ok(())
}

/// A wallet names itself; a token of a network is one of the network whose range it is in.
fn token_type(source: &str, number: &str) -> Result<&'static str, Fault> {
    match (source, number.as_bytes().first()) {
        ("apple_pay", _) => Ok("applepay"),
        ("google_pay", _) => Ok("googlepay"),
        ("network", Some(b'4')) => Ok("vts"),
        ("network", Some(b'2' | b'5')) => Ok("mdes"),
        ("network", _) => Err(Fault::input("the network token is neither Visa's nor Mastercard's")),
        _ => Err(Fault::input("the network token's source is not known")),
    }
}

fn checked_amount(r: &Request) -> Result<i64, Fault> {
    let amount = r.amount.amount;
    if amount <= 0 {
        return Err(Fault::input("the amount must be more than zero"));
    }
    if amount > AMOUNT_MAX {
        return Err(Fault::input("the amount has more than nine digits"));
    }
    if r.exponent == 3 && amount % 10 != 0 {
        return Err(Fault::input("the amount's third decimal must be 0"));
    }
    Ok(amount)
}

fn checked_op_id(op_id: &str) -> Result<&str, Fault> {
    if is_op_id(op_id) { Ok(op_id) } else { Err(Fault::input("op_id has an impossible form")) }
}

fn post(path: String, key: &str) -> Send {
    let mut send = get(path, Vec::new());
    send.method = "POST".into();
    send.headers.push(("Content-Type".into(), "application/json".into()));
    send.headers.push(("Cko-Idempotency-Key".into(), key.into()));
    send
}

fn written(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings, booleans and integers are always writable")
}
