//! A session for a merchant's page: one request, whose answer is the wallet's to read.
//!
//! It is good once and for a few minutes, so it is never kept and never asked for ahead. Asking
//! again costs nothing: it creates nothing but another session.

use interlock_plugin_api::{Class, Done, Fact, Fault, Request, Send};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::account::Account;
use crate::gateways;

const DISPLAY_NAME_LENGTH: usize = 64;
const DOMAIN_LENGTH: usize = 253;
const LABEL_LENGTH: usize = 63;
const SESSION_LIMIT: usize = 64 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ask<'a> {
    merchant_identifier: &'a str,
    display_name: &'a str,
    initiative: &'static str,
    initiative_context: &'a str,
}

/// The request, with its body.
pub(crate) fn ask(account: &Account, r: &Request) -> Result<(Send, Vec<u8>), Fault> {
    let session = r.session.as_ref().ok_or(Fault::input("there is no page to ask for"))?;
    if !is_domain(&session.domain) {
        return Err(Fault::input("the page's domain is not a host name"));
    }
    let display_name = match (&session.display_name, &account.display_name) {
        (Some(name), _) if is_display_name(name) => name,
        (Some(_), _) => return Err(Fault::input("the display name has more than 64 characters")),
        (None, Some(name)) => name,
        (None, None) => return Err(Fault::config("neither page nor account has a `display_name`")),
    };
    let (endpoint, path) = match &session.validation_url {
        None => (gateways::GATEWAY, gateways::SESSION_PATH),
        Some(url) => {
            gateways::of(url).ok_or(Fault::input("the validation address is none of Apple's"))?
        }
    };
    let ask = Ask {
        merchant_identifier: &account.merchant_id,
        display_name,
        initiative: "web",
        initiative_context: &session.domain,
    };
    let body = serde_json::to_vec(&ask)
        .map_err(|_| Fault::internal("the request could not be written"))?;
    let send = Send::to("POST", endpoint, path)
        .header("content-type", "application/json")
        .header("accept", "application/json");
    Ok((send, body))
}

/// What an answer means. A refusal says that Apple does not know the domain or the merchant, which
/// no second try changes.
pub(crate) fn read(status: u16, body: &[u8]) -> Done {
    let fact = match status {
        200 => match opaque(body) {
            Some(session) => return Done { session: Some(session), ..Done::default() },
            None => Fact::unknown("unreadable"),
        },
        429 => Fact::declined(Class::RateLimited, "http_429"),
        400..=499 => Fact::declined(Class::Config, format!("http_{status}")),
        _ => Fact::unanswered(status),
    };
    Done { facts: vec![fact], ..Done::default() }
}

/// The session, byte for byte: only the wallet knows what is in it.
fn opaque(body: &[u8]) -> Option<String> {
    let text = (body.len() <= SESSION_LIMIT).then(|| std::str::from_utf8(body).ok()).flatten()?;
    let object = serde_json::from_str::<Map<String, Value>>(text).ok()?;
    (!object.is_empty()).then(|| text.to_owned())
}

/// Whether the wallet's sheet can show it.
pub(crate) fn is_display_name(name: &str) -> bool {
    (1..=DISPLAY_NAME_LENGTH).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// A whole host name (RFC 1123), without a dot at its end.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL_LENGTH).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= DOMAIN_LENGTH && name.contains('.') && name.split('.').all(label)
}
