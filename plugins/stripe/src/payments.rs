//! The requests, and the checks that come before any of them.
//!
//! Each carries our number twice: as its `Idempotency-Key`, and in the metadata of what it makes,
//! by which it is found again and recognized in an event. A challenge is confirmed by us alone
//! (`confirmation_method=manual`): then no copy of the shopper's page, and nobody who has read its
//! address, can take the money without us.

use form_urlencoded::Serializer;
use interlock_plugin_api::{CaptureMode, Credential, Fault, Original, Request, Send};
use serde_json::Value;

/// The version of the API that answers are read in, whatever the account's own default is.
const VERSION: &str = "2026-10-28.endive";
const REF_MAX: usize = 128;
const BLOB_MAX: usize = 16_384;

/// Where our number of a payment stands in its metadata.
pub(crate) const ATTEMPT: &str = "interlock_attempt";
/// Where our number of a capture stands in the metadata of the payment.
pub(crate) const CAPTURE: &str = "interlock_capture";
/// Where our number of a refund stands in its metadata.
pub(crate) const REFUND: &str = "interlock_refund";

/// The account's plain settings.
pub(crate) struct Settings {
    three_d_secure: bool,
    accepts_decrypted_wallet: bool,
}

impl Settings {
    pub(crate) fn read(config: &Value) -> Result<Self, Fault> {
        if !(config.is_object() || config.is_null()) {
            return Err(Fault::config("the configuration is not an object"));
        }
        let flag = |name: &str| match config.get(name) {
            None | Some(Value::Null) => Some(false),
            Some(value) => value.as_bool(),
        };
        let three_d_secure = flag("three_d_secure")
            .ok_or(Fault::config("`three_d_secure` must be true or false"))?;
        let accepts_decrypted_wallet = flag("accepts_decrypted_wallet")
            .ok_or(Fault::config("`accepts_decrypted_wallet` must be true or false"))?;
        Ok(Self { three_d_secure, accepts_decrypted_wallet })
    }
}

/// The two calls that change a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Capture,
    Cancel,
}

/// What a payment is paid with.
pub(crate) enum Pays {
    /// The provider knows it already.
    With(Source),
    /// This has to become a token of the provider's first.
    Token(Form),
}

/// What the provider knows a means of payment by.
pub(crate) enum Source {
    /// `pm_...`, stored.
    Stored(String),
    /// `tok_...`, for one use.
    Token(String),
}

impl Source {
    /// A token for one use, if it has the form of one.
    pub(crate) fn token(text: &str) -> Option<Self> {
        is_ref(text, "tok_").then(|| Self::Token(text.to_owned()))
    }
}

/// What is paid with, or the first thing that is wrong with it.
pub(crate) fn pays(settings: &Settings, r: &Request) -> Result<Pays, Fault> {
    match &r.credential {
        None => Err(Fault::input("the payment has no credential")),
        Some(Credential::AccountToken { token }) if is_ref(token, "pm_") => {
            Ok(Pays::With(Source::Stored(token.clone())))
        }
        Some(Credential::AccountToken { .. }) => Err(Fault::input("an account token is pm_...")),
        Some(Credential::EncryptedWalletToken { wallet, token }) => match wallet.as_str() {
            "apple_pay" => Ok(Pays::Token(apple(token)?)),
            "google_pay" => Ok(Pays::With(google(token)?)),
            _ => Err(Fault::input("the wallet is not known")),
        },
        Some(Credential::NetworkToken { .. }) if !settings.accepts_decrypted_wallet => Err(Fault {
            kind: interlock_plugin_api::FaultKind::Unsupported,
            text: "decrypted wallet tokens are not enabled: accepts_decrypted_wallet",
        }),
        Some(credential @ Credential::NetworkToken { .. }) => {
            Ok(Pays::Token(decrypted(credential)?))
        }
        Some(_) => Err(Fault::input("only an account token or a wallet's token is taken")),
    }
}

/// `POST /v1/tokens`: moves nothing. Its key is its own, so that the same payment built again is
/// given the same token.
pub(crate) fn tokenize(r: &Request, form: Form) -> Result<(Send, Vec<u8>), Fault> {
    let key = format!("{}-token", checked_op_id(&r.op_id)?);
    checked_amount(r)?;
    Ok((post("/v1/tokens".into(), &key), form.written()))
}

/// `POST /v1/payment_intents`, made and confirmed at once.
pub(crate) fn create(
    settings: &Settings,
    r: &Request,
    source: &Source,
) -> Result<(Send, Vec<u8>), Fault> {
    let op_id = checked_op_id(&r.op_id)?;
    let mut form = Form::default();
    form.add("amount", checked_amount(r)?.to_string());
    form.add("currency", r.amount.currency.as_str().to_ascii_lowercase());
    form.add("confirm", "true");
    form.add("capture_method", capture_method(r.capture));
    form.add("payment_method_types[]", "card");
    match source {
        Source::Stored(id) => form.add("payment_method", id),
        Source::Token(token) => {
            form.add("payment_method_data[type]", "card");
            form.add("payment_method_data[card][token]", token);
        }
    }
    // A stored card belongs to a customer of the provider's; a merchant's own id is none.
    if let Some(id) = r.customer.id.as_deref().filter(|id| is_ref(id, "cus_")) {
        form.add("customer", id);
    }
    if settings.three_d_secure {
        let url = r.return_url.as_deref().ok_or(Fault::input("3-D Secure needs a return_url"))?;
        form.add("confirmation_method", "manual");
        form.add("return_url", url);
    } else {
        form.add("error_on_requires_action", "true");
    }
    form.add(&format!("metadata[{ATTEMPT}]"), op_id);
    form.add("expand[]", "latest_charge");
    Ok((post("/v1/payment_intents".into(), op_id), form.written()))
}

/// `POST /v1/payment_intents/{id}/confirm`: what was passed is carried out.
pub(crate) fn confirm(r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let id = known_ref(original(r)?)?;
    let mut form = Form::default();
    if let Some(url) = &r.return_url {
        form.add("return_url", url);
    }
    form.add("expand[]", "latest_charge");
    let path = format!("/v1/payment_intents/{id}/confirm");
    Ok((post(path, checked_op_id(&r.op_id)?), form.written()))
}

/// `POST /v1/payment_intents/{id}/capture` or `/cancel`.
pub(crate) fn change(change: Change, r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let id = known_ref(original(r)?)?;
    let op_id = checked_op_id(&r.op_id)?;
    let mut form = Form::default();
    let path = match change {
        Change::Capture => {
            form.add("amount_to_capture", checked_amount(r)?.to_string());
            form.add(&format!("metadata[{CAPTURE}]"), op_id);
            "capture"
        }
        Change::Cancel => {
            form.add("cancellation_reason", "requested_by_customer");
            "cancel"
        }
    };
    form.add("expand[]", "latest_charge");
    Ok((post(format!("/v1/payment_intents/{id}/{path}"), op_id), form.written()))
}

/// `POST /v1/refunds`.
pub(crate) fn refund(r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let op_id = checked_op_id(&r.op_id)?;
    let mut form = Form::default();
    form.add("payment_intent", known_ref(original(r)?)?);
    form.add("amount", checked_amount(r)?.to_string());
    form.add(&format!("metadata[{REFUND}]"), op_id);
    Ok((post("/v1/refunds".into(), op_id), form.written()))
}

/// `GET` of a path under `/v1`.
pub(crate) fn get(path: impl Into<String>) -> Send {
    Send::to("GET", "api", path)
        .header("Authorization", "Bearer {secret:secret_key}")
        .header("Stripe-Version", VERSION)
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
    if !is_intent(id) {
        return Err(Fault::input("the provider's number of the payment has an impossible form"));
    }
    Ok(id)
}

/// Whether it has the form of one of our own numbers, which go into headers.
pub(crate) fn is_op_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether it has the form of a payment's number.
pub(crate) fn is_intent(text: &str) -> bool {
    is_ref(text, "pi_")
}

/// Whether it has the form of a provider's number of this kind. The word in front is asked for
/// because it keeps a card's number from passing as one.
pub(crate) fn is_ref(text: &str, kind: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(fits))
        && text.len() <= REF_MAX
}

pub(crate) fn checked_op_id(op_id: &str) -> Result<&str, Fault> {
    if is_op_id(op_id) { Ok(op_id) } else { Err(Fault::input("op_id has an impossible form")) }
}

/// The word for when the money is taken.
pub(crate) fn capture_method(capture: CaptureMode) -> &'static str {
    match capture {
        CaptureMode::Automatic => "automatic",
        CaptureMode::Manual => "manual",
    }
}

/// The pairs of a request's body.
#[derive(Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    fn written(&self) -> Vec<u8> {
        Serializer::new(String::new()).extend_pairs(&self.0).finish().into_bytes()
    }
}

/// Apple's token: `paymentData` as it was encrypted, beside what the wallet says of the card; or
/// `paymentData` alone.
fn apple(token: &Value) -> Result<Form, Fault> {
    let read: Value;
    let token = match token {
        Value::String(text) => {
            read = serde_json::from_str(text)
                .map_err(|_| Fault::input("the wallet's token is no JSON"))?;
            &read
        }
        token => token,
    };
    let members = token.as_object().ok_or(Fault::input("the wallet's token is no object"))?;
    let data = members.get("paymentData").unwrap_or(token).to_string();
    if data.len() > BLOB_MAX {
        return Err(Fault::input("the wallet's token is too long"));
    }
    let mut form = Form::default();
    form.add("pk_token", data);
    let text = |place: &str| token.pointer(place).and_then(Value::as_str);
    for (name, place) in [
        ("pk_token_instrument_name", "/paymentMethod/displayName"),
        ("pk_token_payment_network", "/paymentMethod/network"),
        ("pk_token_transaction_id", "/transactionIdentifier"),
    ] {
        if let Some(text) = text(place) {
            form.add(name, text);
        }
    }
    Ok(form)
}

/// What the provider made of Google's token before the browser was given it.
fn google(token: &Value) -> Result<Source, Fault> {
    let id = match token {
        Value::String(text) if text.starts_with("tok_") => Some(text.clone()),
        Value::String(text) => {
            let read: Option<Value> = serde_json::from_str(text).ok();
            read.and_then(|read| Some(read.get("id")?.as_str()?.to_owned()))
        }
        token => token.get("id").and_then(Value::as_str).map(str::to_owned),
    };
    id.as_deref().and_then(Source::token).ok_or(Fault::input("the wallet's token has no tok_..."))
}

fn decrypted(credential: &Credential) -> Result<Form, Fault> {
    let Credential::NetworkToken { number, expiry_month, expiry_year, cryptogram, eci, source } =
        credential
    else {
        return Err(Fault::input("the credential is no network token"));
    };
    let method = match source.as_str() {
        "apple_pay" => "apple_pay",
        "google_pay" => "android_pay",
        _ => return Err(Fault::input("the network token is of no wallet")),
    };
    if !(12..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::input("a network token has 12 to 19 digits"));
    }
    if !(1..=12).contains(expiry_month) || !(2000..=9999).contains(expiry_year) {
        return Err(Fault::input("the network token's expiry is no month of a year"));
    }
    let mut form = Form::default();
    form.add("card[number]", number);
    form.add("card[exp_month]", expiry_month.to_string());
    form.add("card[exp_year]", expiry_year.to_string());
    if let Some(cryptogram) = cryptogram {
        form.add("card[cryptogram]", cryptogram);
    }
    if let Some(eci) = eci {
        form.add("card[eci]", eci);
    }
    form.add("card[tokenization_method]", method);
    Ok(form)
}

fn checked_amount(r: &Request) -> Result<i64, Fault> {
    let amount = r.amount.amount;
    if amount <= 0 {
        return Err(Fault::input("the amount must be more than zero"));
    }
    if r.exponent == 3 && amount % 10 != 0 {
        return Err(Fault::input("the amount's third decimal must be 0"));
    }
    Ok(amount)
}

fn post(path: String, key: &str) -> Send {
    let mut send = get(path);
    send.method = "POST".into();
    send.header("Content-Type", "application/x-www-form-urlencoded").header("Idempotency-Key", key)
}
