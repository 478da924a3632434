//! The requests, to the byte.
//!
//! Our number of an operation is its `PayPal-Request-Id`, so a copy is recognised. It also stands
//! in the body, where an inquiry, a notification and a report find it again: in an order as
//! `custom_id` and `invoice_id`, in the capture of an authorization as `invoice_id`, in a refund as
//! `custom_id`.

use interlock_plugin_api::{Fault, Request, Send, format_units, is_path_segment};
use serde::Serialize;

use crate::order::{intent, original};
use crate::{Form, Settings};

/// Characters of a description.
const DESCRIPTION_MAX: usize = 127;
const TOKEN: &str = "Bearer {token:access}";

/// `POST /v2/checkout/orders`.
pub(crate) fn create(settings: &Settings, r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let number = checked_op_id(r)?;
    let return_url = r.return_url.as_deref().filter(|url| !url.is_empty());
    let return_url = return_url.ok_or(Fault::input("the shopper needs a return_url"))?;
    let context = Context {
        brand_name: settings.brand_name.as_deref(),
        user_action: "PAY_NOW",
        return_url,
        cancel_url: settings.cancel_url.as_deref().unwrap_or(return_url),
    };
    let (application_context, payment_source) = match settings.form {
        Form::Approve => (Some(context), None),
        Form::PayerAction => {
            (None, Some(Source { paypal: Experience { experience_context: context } }))
        }
    };
    let description: Option<String> =
        r.description.as_deref().map(|text| text.chars().take(DESCRIPTION_MAX).collect());
    let body = Create {
        intent: intent(r.capture),
        purchase_units: [Unit {
            custom_id: number,
            invoice_id: number,
            description: description.filter(|text| !text.trim().is_empty()),
            amount: amount(r)?,
        }],
        application_context,
        payment_source,
    };
    Ok((keyed(post("/v2/checkout/orders".into()), number), written(&body)?))
}

/// `POST /v2/checkout/orders/{order}/capture` or `/authorize`.
pub(crate) fn take(r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let word = intent(r.capture).to_ascii_lowercase();
    let path = format!("/v2/checkout/orders/{}/{word}", order_id(r)?);
    Ok((keyed(post(path), checked_op_id(r)?), b"{}".to_vec()))
}

/// `GET /v2/checkout/orders/{order}`.
pub(crate) fn order(r: &Request) -> Result<Send, Fault> {
    Ok(get(format!("/v2/checkout/orders/{}", order_id(r)?)))
}

/// `POST /v2/payments/authorizations/{id}/capture`.
pub(crate) fn capture(r: &Request, authorization: &str) -> Result<(Send, Vec<u8>), Fault> {
    let number = checked_op_id(r)?;
    let path = format!("/v2/payments/authorizations/{authorization}/capture");
    // Whatever is left of the authorization must stay there while it may still be captured.
    let final_capture = original(r)?.amount == r.amount;
    let body = Capture { amount: amount(r)?, invoice_id: number, final_capture };
    Ok((keyed(post(path), number), written(&body)?))
}

/// `POST /v2/payments/authorizations/{id}/void`, which has no `PayPal-Request-Id`.
pub(crate) fn void(authorization: &str) -> Send {
    post(format!("/v2/payments/authorizations/{authorization}/void"))
}

/// `POST /v2/payments/captures/{id}/refund`. Where the payment has several captures the body says
/// which: the host tells copies of a request by their bodies, not by their paths.
pub(crate) fn refund(r: &Request, capture: &str, several: bool) -> Result<(Send, Vec<u8>), Fault> {
    let number = checked_op_id(r)?;
    let path = format!("/v2/payments/captures/{capture}/refund");
    let custom_id = if several { format!("{number}:{capture}") } else { number.to_owned() };
    let body = Refund { amount: amount(r)?, custom_id };
    Ok((keyed(post(path), number), written(&body)?))
}

/// A `GET`.
pub(crate) fn get(path: String) -> Send {
    Send::to("GET", "api", path).header("accept", "application/json").header("authorization", TOKEN)
}

/// A `POST` of JSON whose answer is the whole of what it is about.
pub(crate) fn post(path: String) -> Send {
    Send::to("POST", "api", path)
        .header("accept", "application/json")
        .header("authorization", TOKEN)
        .header("content-type", "application/json")
        .header("prefer", "return=representation")
}

/// Whether it has the form of one of our own numbers, which go into headers.
pub(crate) fn is_op_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether a refund's mark is of the operation with this number.
pub(crate) fn is_marked(custom_id: &str, number: &str) -> bool {
    custom_id.split(':').next() == Some(number)
}

fn keyed(send: Send, number: &str) -> Send {
    send.header("paypal-request-id", number)
}

/// The host encodes nothing in a path.
fn order_id(r: &Request) -> Result<&str, Fault> {
    let id = original(r)?.provider_ref.as_deref();
    let id = id.ok_or(Fault::input("the provider's number of the order is not known"))?;
    let fault = Fault::input("the provider's number of the order has an impossible form");
    if is_path_segment(id) { Ok(id) } else { Err(fault) }
}

fn checked_op_id(r: &Request) -> Result<&str, Fault> {
    if is_op_id(&r.op_id) {
        Ok(&r.op_id)
    } else {
        Err(Fault::input("op_id has an impossible form"))
    }
}

fn amount(r: &Request) -> Result<Amount<'_>, Fault> {
    if r.amount.amount <= 0 {
        return Err(Fault::input("the amount must be more than zero"));
    }
    let value = format_units(r.amount.amount, r.exponent);
    Ok(Amount { currency_code: r.amount.currency.as_str(), value })
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(body).map_err(|_| Fault::internal("the request can't be written"))
}

#[derive(Serialize)]
struct Create<'a> {
    intent: &'static str,
    purchase_units: [Unit<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    application_context: Option<Context<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_source: Option<Source<'a>>,
}

#[derive(Serialize)]
struct Unit<'a> {
    custom_id: &'a str,
    invoice_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    amount: Amount<'a>,
}

#[derive(Serialize)]
struct Amount<'a> {
    currency_code: &'a str,
    value: String,
}

#[derive(Serialize)]
struct Source<'a> {
    paypal: Experience<'a>,
}

#[derive(Serialize)]
struct Experience<'a> {
    experience_context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    brand_name: Option<&'a str>,
    user_action: &'static str,
    return_url: &'a str,
    cancel_url: &'a str,
}

#[derive(Serialize)]
struct Capture<'a> {
    amount: Amount<'a>,
    invoice_id: &'a str,
    final_capture: bool,
}

#[derive(Serialize)]
struct Refund<'a> {
    amount: Amount<'a>,
    custom_id: String,
}
