//! A merchant's JSON, read strictly: what is wrong is said with its member, never with its value.

use std::collections::BTreeMap;

use interlock_engine::{Method, Submission};
use interlock_plugin_api::{
    CaptureMode, Credential, CredentialForm, Currency, Customer, Details, Money, SessionRequest,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::credentials::{Held, Sealed};
use crate::setup::iso_exponent;

const METADATA_MAX: usize = 50;
const TEXT_MAX: usize = 500;
const REFERENCE_MAX: usize = 64;
const URL_MAX: usize = 2_048;
const DOMAIN_MAX: usize = 253;
const TOKEN_MAX: usize = 4_096;
const ACCEPT_MAX: usize = 16;
const WALLET_TOKEN_MAX: usize = 16_384;
const DETAILS_MAX: usize = 32_768;
/// The words that a list can be narrowed to.
pub const STATUSES: [&str; 6] =
    ["processing", "requires_action", "requires_capture", "succeeded", "failed", "canceled"];

/// What `POST /v1/payments` asks for, with the credential apart.
pub struct NewPayment {
    /// Everything that may be journalled.
    pub submission: Submission,
    /// What may not.
    pub credential: Option<Held>,
}

/// `POST /v1/payments`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentBody {
    /// ISO 4217 minor units.
    #[schemars(range(min = 1))]
    amount: i64,
    /// ISO 4217.
    #[schemars(regex(pattern = "^[A-Za-z]{3}$"))]
    currency: String,
    /// `automatic` or `manual`.
    #[serde(default)]
    capture: Option<String>,
    #[schemars(schema_with = "super::openapi::new_method_schema")]
    method: Map<String, Value>,
    /// The merchant's order: it has one live payment at a time.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    merchant_ref: Option<String>,
    /// One more payment for an order that was paid.
    #[serde(default)]
    another: bool,
    /// For the shopper's statement.
    #[serde(default)]
    #[schemars(length(min = 1, max = 500))]
    description: Option<String>,
    /// Where the shopper returns to.
    #[serde(default)]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    return_url: Option<String>,
    /// Who pays.
    #[serde(default)]
    customer: Option<CustomerBody>,
    /// The merchant's own notes, at most 50.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CustomerBody {
    /// The merchant's name of the customer.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    id: Option<String>,
    /// ISO 3166-1, two letters.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z]{2}$"))]
    country: Option<String>,
    /// Where the shopper's browser or app comes from, IPv4 or IPv6; some wallets demand it.
    #[serde(default)]
    #[schemars(length(max = 45))]
    ip: Option<String>,
}

/// `POST /v1/payments/{id}/capture`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureBody {
    /// Minor units.
    #[serde(default)]
    pub amount: Option<i64>,
}

/// `POST /v1/payments/{id}/cancel`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

/// `POST /v1/payments/{id}/switch`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchBody {
    /// As in a payment.
    #[schemars(schema_with = "super::openapi::method_schema")]
    pub method: Map<String, Value>,
}

/// `POST /v1/payments/{id}/confirm`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmBody {
    /// What the shopper's browser or app brought back, as the provider wants it.
    #[serde(default)]
    details: Option<Map<String, Value>>,
}

impl ConfirmBody {
    /// What the shopper brought, if it is anything.
    pub fn details(self) -> Result<Option<Details>, Problem> {
        let Some(details) = self.details.filter(|details| !details.is_empty()) else {
            return Ok(None);
        };
        let details = Value::Object(details);
        if details.to_string().len() > DETAILS_MAX {
            let told = format!("must be at most {DETAILS_MAX} bytes");
            return Err(Problem::unprocessable("details", told));
        }
        Ok(Some(Details(details)))
    }
}

/// `POST /v1/wallets/{type}/sessions`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionBody {
    /// The host name of the page that asks, as it is registered at the wallet.
    #[schemars(length(min = 1, max = 253))]
    domain: String,
    /// What the wallet's sheet calls the shop.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    display_name: Option<String>,
    /// The address that the wallet gave to the page; only the wallet's own hosts are asked.
    #[serde(default)]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https://"))]
    validation_url: Option<String>,
    /// The account that opens it, where several could.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    account: Option<String>,
}

impl SessionBody {
    /// What is asked for, and of which account.
    pub fn asked(self) -> Result<(SessionRequest, Option<String>), Problem> {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let is_host = (1..=DOMAIN_MAX).contains(&self.domain.len())
            && self.domain.chars().all(named)
            && !self.domain.split('.').any(str::is_empty);
        if !is_host {
            return Err(Problem::unprocessable("domain", "must be a host name without a port"));
        }
        text("display_name", self.display_name.as_deref(), REFERENCE_MAX)?;
        text("account", self.account.as_deref(), REFERENCE_MAX)?;
        let https = |url: &String| url.starts_with("https://") && url.len() <= URL_MAX;
        if self.validation_url.as_ref().is_some_and(|url| !https(url)) {
            return Err(Problem::unprocessable("validation_url", "must begin with https://"));
        }
        let asked = SessionRequest {
            domain: self.domain.to_ascii_lowercase(),
            display_name: self.display_name,
            validation_url: self.validation_url,
        };
        Ok((asked, self.account))
    }
}

/// `POST /v1/refunds`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundBody {
    /// The payment's id.
    pub payment: String,
    /// Minor units.
    #[serde(default)]
    pub amount: Option<i64>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Reads JSON into a shape; an empty body is an empty object.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let param = if is_plain(&path) { path.as_str() } else { "body" };
        Problem::invalid(param, told(e.inner()))
    })?;
    reader.end().map_err(|_| Problem::invalid("body", "there is more after the JSON value"))?;
    Ok(value)
}

/// Reads and judges a new payment.
pub fn new_payment(merchant: &str, key: &str, body: &[u8]) -> Result<NewPayment, Problem> {
    let body: PaymentBody = read(body)?;
    let money = money(body.amount, &body.currency)?;
    let capture = match body.capture.as_deref() {
        None | Some("automatic") => CaptureMode::Automatic,
        Some("manual") => CaptureMode::Manual,
        Some(_) => return Err(Problem::unprocessable("capture", "use `automatic` or `manual`")),
    };
    let Accepted { method, accept, credential } = accepted(&body.method)?;
    let customer = customer(body.customer)?;
    text("merchant_ref", body.merchant_ref.as_deref(), REFERENCE_MAX)?;
    text("description", body.description.as_deref(), TEXT_MAX)?;
    url(body.return_url.as_deref())?;
    let metadata = body.metadata.unwrap_or_default();
    if metadata.len() > METADATA_MAX {
        return Err(Problem::unprocessable("metadata", format!("at most {METADATA_MAX} entries")));
    }
    for (name, value) in &metadata {
        text("metadata", Some(name), REFERENCE_MAX)?;
        text("metadata", Some(value), TEXT_MAX)?;
    }
    let submission = Submission {
        merchant: merchant.to_owned(),
        key: key.to_owned(),
        money,
        capture,
        method,
        accept,
        merchant_ref: body.merchant_ref,
        another: body.another,
        description: body.description,
        return_url: body.return_url,
        customer,
        metadata,
    };
    Ok(NewPayment { submission, credential })
}

/// How a new payment may be paid.
struct Accepted {
    method: Method,
    /// The methods of `any`.
    accept: Vec<Method>,
    credential: Option<Held>,
}

/// Reads one method, or the several of `any`.
fn accepted(members: &Map<String, Value>) -> Result<Accepted, Problem> {
    const AT: &str = "method.accept";
    if members.get("type").and_then(Value::as_str) != Some("any") {
        let (method, credential) = method(members)?;
        return Ok(Accepted { method, accept: Vec::new(), credential });
    }
    only(members, &["type", "accept"])?;
    let list = members.get("accept").ok_or(Problem::invalid(AT, "is missing"))?;
    let list = list.as_array().ok_or(Problem::invalid(AT, "expected a list of methods"))?;
    if list.is_empty() || list.len() > ACCEPT_MAX {
        return Err(Problem::unprocessable(AT, format!("give 1 to {ACCEPT_MAX} methods")));
    }
    let mut accept: Vec<Method> = Vec::new();
    let mut held = BTreeMap::new();
    for item in list {
        let item = item.as_object().ok_or(Problem::invalid(AT, "a method must be an object"))?;
        let (method, credential) = method(item)?;
        if accept.iter().any(|m| m.kind == method.kind && m.flow == method.flow) {
            return Err(Problem::unprocessable(AT, "a type and flow is given more than once"));
        }
        let name = (method.kind.clone(), method.flow.clone());
        held.extend(credential.map(|credential| (name, credential)));
        accept.push(method);
    }
    let credential = (!held.is_empty()).then_some(Held::Any(held));
    Ok(Accepted { method: accept[0].clone(), accept, credential })
}

/// Reads a method and takes the credential out of it.
pub fn method(members: &Map<String, Value>) -> Result<(Method, Option<Held>), Problem> {
    let kind = string(members, "method.type", "type")?;
    let flows: &[&str] = match kind.as_str() {
        "alipay" => &["qr", "barcode", "redirect", "wap", "app"],
        "wechat_pay" => &["qr", "barcode", "jsapi", "app", "h5"],
        "paypal" => &["redirect"],
        "huawei_pay" => &["app"],
        "card" => return card(members),
        "apple_pay" | "google_pay" => return wallet(&kind, members),
        "crypto" => {
            only(members, &["type", "chain", "asset", "wallet"])?;
            return Ok((plain(&kind, "transfer"), None));
        }
        "any" => {
            let detail = "name one method here; `any` is for a new payment";
            return Err(Problem::unprocessable("method.type", detail));
        }
        _ => return Err(Problem::unprocessable("method.type", "not a known method")),
    };
    let flow = string(members, "method.flow", "flow")?;
    if !flows.contains(&flow.as_str()) {
        let detail = format!("use one of: {}", flows.join(", "));
        return Err(Problem::unprocessable("method.flow", detail));
    }
    match flow.as_str() {
        "barcode" => {
            only(members, &["type", "flow", "auth_code"])?;
            let auth_code = string(members, "method.auth_code", "auth_code")?;
            let digits = auth_code.bytes().all(|b| b.is_ascii_digit());
            if !digits || !(10..=32).contains(&auth_code.len()) {
                let detail = "must be the 10 to 32 digits of the wallet's payment code";
                return Err(Problem::unprocessable("method.auth_code", detail));
            }
            Ok(with(&kind, &flow, Credential::AuthCode { auth_code }))
        }
        "jsapi" => {
            only(members, &["type", "flow", "openid"])?;
            let openid = string(members, "method.openid", "openid")?;
            text("method.openid", Some(&openid), 128)?;
            Ok(with(&kind, &flow, Credential::OpenId { openid }))
        }
        _ => {
            only(members, &["type", "flow"])?;
            Ok((plain(&kind, &flow), None))
        }
    }
}

/// The Idempotency-Key header: a quoted string (draft-ietf-httpapi-idempotency-key-header) or the
/// bare text.
pub fn idempotency_key(header: Option<&str>) -> Result<String, Problem> {
    let header = header.map(str::trim).filter(|h| !h.is_empty()).ok_or(Problem::key_missing())?;
    let quoted = header.strip_prefix('"').and_then(|h| h.strip_suffix('"'));
    let key = quoted.unwrap_or(header);
    let visible = key.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\');
    if key.is_empty() || key.len() > 255 || !visible {
        let detail = "must be 1 to 255 printable ASCII characters";
        return Err(Problem::invalid("Idempotency-Key", detail));
    }
    Ok(key.to_owned())
}

/// How long an answer waits for news, in s: 10 by default.
pub fn wait_s(prefer: Option<&str>) -> u64 {
    preferred_wait_s(prefer).unwrap_or(10)
}

/// `Prefer: wait=N` (RFC 7240) as it is honoured, in s: at most 30.
pub fn preferred_wait_s(prefer: Option<&str>) -> Option<u64> {
    let wait = prefer.into_iter().flat_map(|p| p.split(',')).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        (name.trim().eq_ignore_ascii_case("wait")).then(|| value.trim().parse::<u64>().ok())?
    });
    wait.map(|seconds| seconds.min(30))
}

fn card(members: &Map<String, Value>) -> Result<(Method, Option<Held>), Problem> {
    match (members.get("network_token"), members.get("tokens")) {
        (Some(token), None) => {
            only(members, &["type", "network_token"])?;
            Ok(with("card", "token", network_token(token)?))
        }
        (None, Some(Value::Object(tokens))) => {
            only(members, &["type", "tokens"])?;
            account_tokens(tokens)
        }
        (None, Some(_)) => {
            Err(Problem::invalid("method.tokens", "expected an object: account to token"))
        }
        _ => {
            let detail = "give either `network_token` or `tokens`";
            Err(Problem::unprocessable("method", detail))
        }
    }
}

fn account_tokens(tokens: &Map<String, Value>) -> Result<(Method, Option<Held>), Problem> {
    if tokens.is_empty() || tokens.len() > 32 {
        return Err(Problem::unprocessable("method.tokens", "give 1 to 32 tokens"));
    }
    let mut held = BTreeMap::new();
    for (account, token) in tokens {
        let token = token.as_str().filter(|t| !t.is_empty() && t.len() <= TOKEN_MAX);
        let token = token.ok_or(Problem::invalid("method.tokens", "a token must be a string"))?;
        held.insert(account.clone(), Credential::AccountToken { token: token.to_owned() });
    }
    let method = Method {
        form: CredentialForm::AccountToken,
        token_accounts: held.keys().cloned().collect(),
        ..plain("card", "token")
    };
    Ok((method, Some(Held::Tokens(held))))
}

fn network_token(value: &Value) -> Result<Credential, Problem> {
    const AT: &str = "method.network_token";
    let Value::Object(members) = value else {
        return Err(Problem::invalid(AT, "expected an object"));
    };
    only(members, &["number", "expiry_month", "expiry_year", "cryptogram", "eci", "source"])?;
    let number = string(members, AT, "number")?;
    if !(12..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::unprocessable(&format!("{AT}.number"), "must be 12 to 19 digits"));
    }
    let month = whole(members, AT, "expiry_month", 1..=12)?;
    let year = whole(members, AT, "expiry_year", 2000..=2100)?;
    let cryptogram = optional(members, AT, "cryptogram", 256)?;
    let eci = optional(members, AT, "eci", 2)?;
    let source = optional(members, AT, "source", 16)?.unwrap_or_else(|| "network".into());
    if !["apple_pay", "google_pay", "network"].contains(&source.as_str()) {
        let detail = "use `apple_pay`, `google_pay` or `network`";
        return Err(Problem::unprocessable(&format!("{AT}.source"), detail));
    }
    Ok(Credential::NetworkToken {
        number,
        expiry_month: u8::try_from(month).unwrap_or(0),
        expiry_year: u16::try_from(year).unwrap_or(0),
        cryptogram,
        eci,
        source,
    })
}

/// A wallet's token: to be opened here, or bound to the processor that it is encrypted to.
fn wallet(kind: &str, members: &Map<String, Value>) -> Result<(Method, Option<Held>), Problem> {
    only(members, &["type", "token", "form", "account"])?;
    let token = match members.get("token") {
        Some(token @ (Value::Object(_) | Value::String(_))) => token.clone(),
        Some(_) => return Err(Problem::invalid("method.token", "expected an object or a string")),
        None => return Err(Problem::invalid("method.token", "is missing")),
    };
    if token.to_string().len() > WALLET_TOKEN_MAX {
        let told = format!("must be at most {WALLET_TOKEN_MAX} bytes");
        return Err(Problem::unprocessable("method.token", told));
    }
    let account = optional(members, "method", "account", REFERENCE_MAX)?;
    let method = Method { form: CredentialForm::EncryptedWalletToken, ..plain(kind, "token") };
    match (optional(members, "method", "form", 16)?.as_deref(), account) {
        (None | Some("encrypted"), by) => {
            let sealed = Sealed { wallet: kind.to_owned(), token, by };
            Ok((method, Some(Held::Sealed(sealed))))
        }
        (Some("processor"), Some(account)) => {
            let wallet = kind.to_owned();
            let credential = Credential::EncryptedWalletToken { wallet, token };
            let method = Method { token_accounts: vec![account], ..method };
            Ok((method, Some(Held::One(credential))))
        }
        (Some("processor"), None) => {
            Err(Problem::invalid("method.account", "is missing: whose token is it?"))
        }
        _ => Err(Problem::unprocessable("method.form", "use `encrypted` or `processor`")),
    }
}

/// An amount in minor units of a known currency.
pub fn money(amount: i64, currency: &str) -> Result<Money, Problem> {
    let currency = Currency::parse(currency).filter(|c| iso_exponent(*c).is_some());
    let known = "not a currency of ISO 4217 with minor units";
    let currency = currency.ok_or(Problem::unprocessable("currency", known))?;
    if amount < 1 {
        return Err(Problem::unprocessable("amount", "must be at least 1 minor unit"));
    }
    Ok(Money::new(amount, currency))
}

fn customer(body: Option<CustomerBody>) -> Result<Customer, Problem> {
    let Some(body) = body else { return Ok(Customer::default()) };
    text("customer.id", body.id.as_deref(), REFERENCE_MAX)?;
    let country = country("customer.country", body.country)?;
    let address = |text: String| {
        let detail = "must be an IPv4 or IPv6 address";
        text.parse().map_err(|_| Problem::unprocessable("customer.ip", detail))
    };
    let ip = body.ip.map(address).transpose()?;
    Ok(Customer { id: body.id, country, ip })
}

/// A country in two capital letters.
pub fn country(param: &str, country: Option<String>) -> Result<Option<String>, Problem> {
    let country = country.map(|c| c.to_ascii_uppercase());
    let letters = |c: &str| c.len() == 2 && c.bytes().all(|b| b.is_ascii_uppercase());
    if country.as_deref().is_some_and(|c| !letters(c)) {
        let detail = "must be two letters (ISO 3166-1)";
        return Err(Problem::unprocessable(param, detail));
    }
    Ok(country)
}

fn plain(kind: &str, flow: &str) -> Method {
    Method {
        kind: kind.to_owned(),
        flow: flow.to_owned(),
        form: CredentialForm::None,
        token_accounts: Vec::new(),
    }
}

fn with(kind: &str, flow: &str, credential: Credential) -> (Method, Option<Held>) {
    let method = Method { form: credential.form(), ..plain(kind, flow) };
    (method, Some(Held::One(credential)))
}

fn string(members: &Map<String, Value>, param: &str, name: &str) -> Result<String, Problem> {
    let param = if param.ends_with(name) { param.to_owned() } else { format!("{param}.{name}") };
    match members.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(Problem::invalid(&param, "expected a string that is not empty")),
        None => Err(Problem::invalid(&param, "is missing")),
    }
}

fn optional(
    members: &Map<String, Value>,
    param: &str,
    name: &str,
    max: usize,
) -> Result<Option<String>, Problem> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => {
            let found = string(members, param, name)?;
            text(&format!("{param}.{name}"), Some(&found), max)?;
            Ok(Some(found))
        }
    }
}

fn whole(
    members: &Map<String, Value>,
    param: &str,
    name: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, Problem> {
    let param = format!("{param}.{name}");
    let value = members.get(name).ok_or(Problem::invalid(&param, "is missing"))?;
    let number = value.as_u64().or_else(|| value.as_str().and_then(|s| s.parse().ok()));
    let number = number.ok_or(Problem::invalid(&param, "expected a whole number"))?;
    if range.contains(&number) {
        return Ok(number);
    }
    let detail = format!("must be from {} to {}", range.start(), range.end());
    Err(Problem::unprocessable(&param, detail))
}

fn only(members: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    match members.keys().find(|k| !known.contains(&k.as_str())) {
        // The unknown member's name is the merchant's own word and could be anything.
        Some(_) => {
            let detail = format!("unknown member; it takes: {}", known.join(", "));
            Err(Problem::invalid("method", detail))
        }
        None => Ok(()),
    }
}

fn text(param: &str, value: Option<&str>, max: usize) -> Result<(), Problem> {
    let Some(value) = value else { return Ok(()) };
    if value.is_empty() || value.chars().count() > max || value.chars().any(char::is_control) {
        let detail = format!("must be 1 to {max} characters without control characters");
        return Err(Problem::unprocessable(param, detail));
    }
    Ok(())
}

fn url(value: Option<&str>) -> Result<(), Problem> {
    text("return_url", value, URL_MAX)?;
    let web = |v: &str| v.starts_with("https://") || v.starts_with("http://");
    if value.is_some_and(|v| !web(v)) {
        return Err(Problem::unprocessable("return_url", "must begin with https:// or http://"));
    }
    Ok(())
}

/// Whether a path is one that a member of ours could have, also misspelt. The name of an unknown
/// member is the sender's own text: it is not repeated when it could be a number or a token.
fn is_plain(path: &str) -> bool {
    path.split('.').all(|name| {
        let digits = name.bytes().filter(u8::is_ascii_digit).count();
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-[]".contains(&b));
        !name.is_empty() && name.len() <= 32 && digits <= 4 && letters
    })
}

/// What serde says, without the value that it quotes.
fn told(error: &serde_json::Error) -> String {
    let said = error.to_string();
    if error.is_syntax() || error.is_eof() {
        return format!("not JSON, line {} column {}", error.line(), error.column());
    }
    match (said.split_once("expected "), said.starts_with("invalid")) {
        (Some((_, expected)), true) => {
            let expected = expected.split(" at line").next().unwrap_or(expected);
            format!("expected {expected}")
        }
        _ if said.starts_with("missing field") => {
            "a required member is missing".to_owned()
                + said
                    .split(" at line")
                    .next()
                    .map_or("", |s| s.trim_start_matches("missing field"))
        }
        _ if said.starts_with("unknown field") => "unknown member".to_owned(),
        _ => "can't be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_quoted_or_bare() {
        assert_eq!(idempotency_key(Some("\"ord-1\"")).ok(), Some("ord-1".into()));
        assert_eq!(idempotency_key(Some("ord-1")).ok(), Some("ord-1".into()));
        assert!(idempotency_key(None).is_err());
        assert!(idempotency_key(Some("\"\"")).is_err());
        assert!(idempotency_key(Some(&"k".repeat(256))).is_err());
        assert!(idempotency_key(Some("a\u{7f}")).is_err());
    }

    #[test]
    fn waiting_is_bounded() {
        assert_eq!(wait_s(None), 10);
        assert_eq!(wait_s(Some("respond-async, wait=3")), 3);
        assert_eq!(wait_s(Some("wait=999")), 30);
        assert_eq!(wait_s(Some("wait=-1")), 10);
    }

    #[test]
    fn damaged_bodies_are_read_or_refused_by_name() {
        let judge = |problem: Option<Problem>| {
            let Some(problem) = problem else { return true };
            let said = problem.response("/v1/payments", "req_1");
            assert!(matches!(said.status, 400 | 422), "{said:?}");
            let body: Value = serde_json::from_slice(&said.body).expect("a problem document");
            let named = |member: &str| body[member].as_str().is_some_and(|text| !text.is_empty());
            assert!(named("param") && named("detail"), "{body}");
            false
        };
        let mut read_whole = 0;
        let cases = crate::mutator::each(&["tests/corpora/payment-request"], 800, |body| {
            read_whole += usize::from(judge(new_payment("shop", "key", body).err()));
        });
        assert!(read_whole > cases / 100, "{read_whole} of {cases}");
        crate::mutator::each(&["tests/corpora/wishes"], 400, |body| {
            judge(read::<CaptureBody>(body).err());
            judge(read::<EmptyBody>(body).err());
            judge(read::<RefundBody>(body).err());
            let switch = read::<SwitchBody>(body);
            judge(switch.and_then(|body| method(&body.method).map(drop)).err());
        });
    }

    #[test]
    fn values_are_never_echoed() {
        let secret = "4111111111111111";
        for body in [
            format!(r#"{{"amount":"{secret}","currency":"EUR","method":{{}}}}"#),
            format!(r#"{{"amount":1,"currency":"EUR","method":{{"type":"{secret}"}}}}"#),
            format!(r#"{{"amount":1,"currency":"EUR","method":{{"type":"card","{secret}":1}}}}"#),
            format!(r#"{{"{secret}":1}}"#),
            format!(
                r#"{{"amount":1,"currency":"EUR","method":{{"type":"card",
                "network_token":{{"number":"{secret}x","expiry_month":1,"expiry_year":2030}}}}}}"#
            ),
        ] {
            let problem = new_payment("shop", "k", body.as_bytes()).err().expect("refused");
            assert!(!format!("{problem:?}").contains(secret), "{problem:?}");
        }
    }
}
