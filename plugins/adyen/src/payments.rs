//! The requests, all of which may move money, and the checks that come before any of them.
//!
//! A notification is read without knowing how its payment was to be captured, and only the
//! reference of the payment is both ours and signed, so the reference carries that beside our
//! number. Nothing that could become a second attempt at the provider is ever asked for. What
//! could not be written safely into a path or a header is refused here, before anything is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{CaptureMode, Credential, Fault, FaultKind, Original, Request, Send};
use serde::Serialize;
use serde_json::{Map, Value};

const KEY_MAX: usize = 80;
const TEXT_MAX: usize = 16_384;
const AUTOMATIC: &str = "-auto";
const MANUAL: &str = "-manual";

/// The account's plain settings.
pub(crate) struct Settings {
    pub merchant_account: String,
    pub three_d_secure: bool,
    pub return_url: Option<String>,
}

impl Settings {
    pub(crate) fn read(config: &Value) -> Result<Self, Fault> {
        let field = |name: &str| config.get(name).filter(|value| !value.is_null());
        let merchant_account = match field("merchant_account") {
            Some(Value::String(name)) if is_account(name) => name.clone(),
            _ => return Err(Fault::config("`merchant_account` must be the account's code")),
        };
        let three_d_secure = match field("three_d_secure") {
            None => false,
            Some(Value::Bool(asked)) => *asked,
            Some(_) => return Err(Fault::config("`three_d_secure` must be true or false")),
        };
        let return_url = match field("return_url") {
            None => None,
            Some(Value::String(url)) if is_url(url) => Some(url.clone()),
            Some(_) => return Err(Fault::config("`return_url` must begin with https://")),
        };
        Ok(Self { merchant_account, three_d_secure, return_url })
    }
}

/// The calls that change a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Capture,
    Cancel,
    Refund,
    /// Undoes all of it, whether it is captured yet or not.
    Reverse,
}

impl Change {
    /// What gives this amount back. The provider captures an automatic payment by itself in its
    /// own time, and refuses to refund before that, so all of one is reversed.
    pub(crate) fn of_refund(r: &Request) -> Result<Self, Fault> {
        let all = original(r)?.amount == r.amount;
        let unsure = r.capture == CaptureMode::Automatic;
        Ok(if all && unsure { Self::Reverse } else { Self::Refund })
    }

    fn path(self) -> &'static str {
        match self {
            Self::Capture => "captures",
            Self::Cancel => "cancels",
            Self::Refund => "refunds",
            Self::Reverse => "reversals",
        }
    }
}

/// `POST /payments`.
pub(crate) fn create(settings: &Settings, r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let url = r.return_url.as_deref().or(settings.return_url.as_deref());
    let credential = r.credential.as_ref().ok_or(Fault::input("the payment has no credential"))?;
    if matches!(credential, Credential::Card { .. }) && !settings.three_d_secure {
        return Err(Fault {
            kind: FaultKind::Unsupported,
            text: "a card without a cryptogram needs 3-D Secure: three_d_secure",
        });
    }
    let stored = matches!(credential, Credential::AccountToken { .. });
    let automatic = r.capture == CaptureMode::Automatic;
    let (method, mpi_data) = method(credential)?;
    let challenge = settings.three_d_secure && mpi_data.is_none() && !is_wallet(credential);
    let body = Create {
        merchant_account: &settings.merchant_account,
        amount: checked_amount(r)?,
        reference: payment_reference(checked_op_id(&r.op_id)?, r.capture),
        payment_method: method,
        mpi_data,
        return_url: url.ok_or(Fault::input("the provider needs a return_url"))?,
        shopper_interaction: if stored { "ContAuth" } else { "Ecommerce" },
        shopper_reference: if stored { Some(shopper(r)?) } else { None },
        recurring_processing_model: stored.then_some("CardOnFile"),
        country_code: r.customer.country.as_deref(),
        capture_delay_hours: automatic.then_some(0),
        additional_data: (!automatic).then_some(ManualCapture { manual_capture: "true" }),
        authentication_data: Authentication {
            attempt_authentication: if challenge { "always" } else { "never" },
        },
    };
    Ok((post("/payments".into(), &r.op_id), written(&body)))
}

/// `POST /payments/details`: the shopper came back with what the browser was given.
pub(crate) fn details(r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let brought = r.details.as_ref().and_then(|details| details.0.as_object());
    let brought = brought.ok_or(Fault::input("the shopper brought no details back"))?;
    let mut kept = Map::new();
    for name in ["redirectResult", "threeDSResult"] {
        match brought.get(name) {
            None => {}
            Some(Value::String(text)) if (1..=TEXT_MAX).contains(&text.len()) => {
                kept.insert(name.into(), text.as_str().into());
            }
            Some(_) => return Err(Fault::input("a detail of the shopper's return is no text")),
        }
    }
    if kept.len() != 1 {
        return Err(Fault::input("exactly one of redirectResult and threeDSResult is needed"));
    }
    let key = checked_op_id(&r.op_id)?;
    Ok((post("/payments/details".into(), key), written(&Details { details: kept })))
}

/// `POST /payments/{psp}/captures`, `/cancels`, `/refunds` or `/reversals`.
pub(crate) fn change(
    settings: &Settings,
    change: Change,
    r: &Request,
) -> Result<(Send, Vec<u8>), Fault> {
    let id = known_ref(original(r)?)?;
    let reference = checked_op_id(&r.op_id)?;
    let amount = match change {
        Change::Capture | Change::Refund => Some(checked_amount(r)?),
        Change::Cancel | Change::Reverse => None,
    };
    let merchant_account = &settings.merchant_account;
    let path = format!("/payments/{id}/{}", change.path());
    Ok((post(path, reference), written(&Changed { merchant_account, amount, reference })))
}

/// The authorize that the operation belongs to.
pub(crate) fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the operation names no payment"))
}

/// The reference of a payment: our number, and when its money is taken.
pub(crate) fn payment_reference(op_id: &str, capture: CaptureMode) -> String {
    let tag = match capture {
        CaptureMode::Automatic => AUTOMATIC,
        CaptureMode::Manual => MANUAL,
    };
    format!("{op_id}{tag}")
}

/// The number and the capture mode in a payment's reference, if it is one of ours.
pub(crate) fn read_payment_reference(reference: &str) -> Option<(&str, CaptureMode)> {
    let tags = [(AUTOMATIC, CaptureMode::Automatic), (MANUAL, CaptureMode::Manual)];
    let (op_id, mode) =
        tags.into_iter().find_map(|(tag, mode)| Some((reference.strip_suffix(tag)?, mode)))?;
    is_op_id(op_id).then_some((op_id, mode))
}

/// Whether it has the form of one of our own numbers, which go into headers.
pub(crate) fn is_op_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether it has the form of a provider's number, which goes into paths. Such a number may be all
/// digits, so what was sent as a credential is told apart where one is at hand.
pub(crate) fn is_ref(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    (8..=32).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a text repeats what the shopper pays with.
pub(crate) fn repeats_credential(r: &Request, text: &str) -> bool {
    let same = |secret: &str| text.contains(secret) || secret == text;
    match &r.credential {
        Some(Credential::NetworkToken { number, cryptogram, .. }) => {
            same(number) || cryptogram.as_deref().is_some_and(same)
        }
        Some(Credential::Card { number, .. }) => same(number),
        Some(Credential::AccountToken { token }) => same(token),
        _ => false,
    }
}

fn known_ref(original: &Original) -> Result<&str, Fault> {
    let id = original.provider_ref.as_deref();
    let id = id.ok_or(Fault::input("the provider's number of the payment is not known"))?;
    // The host encodes nothing in a path.
    if !is_ref(id) {
        return Err(Fault::input("the provider's number of the payment has an impossible form"));
    }
    Ok(id)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Create<'a> {
    merchant_account: &'a str,
    amount: Amount<'a>,
    reference: String,
    payment_method: Method<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mpi_data: Option<MpiData<'a>>,
    return_url: &'a str,
    shopper_interaction: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper_reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recurring_processing_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capture_delay_hours: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_data: Option<ManualCapture>,
    authentication_data: Authentication,
}

#[derive(Serialize)]
struct Amount<'a> {
    currency: &'a str,
    value: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
enum Method<'a> {
    #[serde(rename = "scheme")]
    Numbered {
        number: &'a str,
        expiry_month: String,
        expiry_year: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        brand: Option<&'a str>,
    },
    #[serde(rename = "scheme")]
    Stored { stored_payment_method_id: &'a str },
    #[serde(rename = "applepay")]
    ApplePay { apple_pay_token: String },
    #[serde(rename = "googlepay")]
    GooglePay { google_pay_token: String },
}

/// What proves the shopper's authentication inside the wallet or at the network.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MpiData<'a> {
    authentication_response: &'a str,
    directory_response: &'a str,
    cavv: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    eci: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManualCapture {
    manual_capture: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    attempt_authentication: &'static str,
}

#[derive(Serialize)]
struct Details {
    details: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    merchant_account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Amount<'a>>,
    reference: &'a str,
}

fn method(credential: &Credential) -> Result<(Method<'_>, Option<MpiData<'_>>), Fault> {
    match credential {
        Credential::NetworkToken { number, expiry_month, expiry_year, cryptogram, eci, source } => {
            let token = numbered(number, *expiry_month, *expiry_year, brand(source)?)?;
            let mpi_data = cryptogram.as_deref().map(|cavv| MpiData {
                authentication_response: "Y",
                directory_response: "Y",
                cavv,
                eci: eci.as_deref(),
            });
            Ok((token, mpi_data))
        }
        // The brand is told by the number: the wallet has proven nobody.
        Credential::Card { number, expiry_month, expiry_year, .. } => {
            Ok((numbered(number, *expiry_month, *expiry_year, None)?, None))
        }
        Credential::AccountToken { token } if is_token(token) => {
            Ok((Method::Stored { stored_payment_method_id: token }, None))
        }
        Credential::AccountToken { .. } => {
            Err(Fault::input("the account token has an impossible form"))
        }
        Credential::EncryptedWalletToken { wallet, token } => {
            let method = match wallet.as_str() {
                "apple_pay" => Method::ApplePay { apple_pay_token: apple_token(token)? },
                "google_pay" => Method::GooglePay { google_pay_token: google_token(token)? },
                _ => return Err(Fault::input("the wallet is not known")),
            };
            Ok((method, None))
        }
        _ => Err(Fault::input("only a card, or a network, account or wallet token is taken")),
    }
}

fn numbered<'a>(
    number: &'a str,
    month: u8,
    year: u16,
    brand: Option<&'a str>,
) -> Result<Method<'a>, Fault> {
    if !(12..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::input("the number of a card or token has 12 to 19 digits"));
    }
    if !(1..=12).contains(&month) || !(2000..=9999).contains(&year) {
        return Err(Fault::input("the expiry of the card or token is no month of a year"));
    }
    let (expiry_month, expiry_year) = (format!("{month:02}"), year.to_string());
    Ok(Method::Numbered { number, expiry_month, expiry_year, brand })
}

/// A wallet names itself; a token of a network is told by its number.
fn brand(source: &str) -> Result<Option<&'static str>, Fault> {
    match source {
        "apple_pay" => Ok(Some("applepay")),
        "google_pay" => Ok(Some("googlepay")),
        "network" => Ok(None),
        _ => Err(Fault::input("the network token's source is not known")),
    }
}

/// Apple's `paymentData`, encrypted as it is, in base64; a text is in base64 already.
fn apple_token(token: &Value) -> Result<String, Fault> {
    let text = match token {
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let data = members.get("paymentData").unwrap_or(token);
            BASE64.encode(data.to_string())
        }
        _ => return Err(Fault::input("the wallet's token is neither text nor object")),
    };
    checked_blob(text)
}

/// Google's token is the text that the wallet gave; what was read into an object is written again.
fn google_token(token: &Value) -> Result<String, Fault> {
    match token {
        Value::String(text) => checked_blob(text.clone()),
        Value::Object(_) => checked_blob(token.to_string()),
        _ => Err(Fault::input("the wallet's token is neither text nor object")),
    }
}

fn checked_blob(text: String) -> Result<String, Fault> {
    let fits = (1..=TEXT_MAX).contains(&text.len());
    if fits { Ok(text) } else { Err(Fault::input("the wallet's token is empty or too long")) }
}

fn is_wallet(credential: &Credential) -> bool {
    matches!(credential, Credential::EncryptedWalletToken { .. })
}

fn is_token(token: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&token.len()) && token.bytes().all(fits)
}

/// A stored token is the shopper's own: the provider refuses it without his reference.
fn shopper(r: &Request) -> Result<&str, Fault> {
    let id = r.customer.id.as_deref().filter(|id| (3..=256).contains(&id.len()));
    id.ok_or(Fault::input("a stored token needs the customer's id, of 3 characters or more"))
}

fn checked_amount(r: &Request) -> Result<Amount<'_>, Fault> {
    if r.amount.amount <= 0 {
        return Err(Fault::input("the amount must be more than zero"));
    }
    Ok(Amount { currency: r.amount.currency.as_str(), value: r.amount.amount })
}

fn checked_op_id(op_id: &str) -> Result<&str, Fault> {
    if is_op_id(op_id) { Ok(op_id) } else { Err(Fault::input("op_id has an impossible form")) }
}

/// The signed content of a notification is parted by colons and escapes none.
fn is_account(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'.';
    (1..=KEY_MAX).contains(&name.len()) && name.bytes().all(fits)
}

fn is_url(url: &str) -> bool {
    url.starts_with("https://") && url.len() <= 1_024 && url.bytes().all(|b| b.is_ascii_graphic())
}

fn post(path: String, key: &str) -> Send {
    let headers = [
        ("X-API-Key", "{secret:api_key}"),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", key),
    ];
    Send {
        method: "POST".into(),
        endpoint: "api".into(),
        path,
        query: Vec::new(),
        headers: headers.map(|(name, value)| (name.into(), value.into())).to_vec(),
    }
}

fn written(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and integers are always writable")
}
