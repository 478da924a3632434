//! PayPal's way of writing: money as decimal text, problems with an issue, ids and moments.
//!
//! A client decides on the issue of a problem, so the status and the name are read from the issue
//! and can never disagree with it.

use serde_json::{Value, json};

use crate::desk::Answer;
use crate::moment;

/// Everything that PayPal takes.
const CURRENCIES: &str = "AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF ILS JPY MXN MYR NOK NZD PHP \
     PLN SEK SGD THB TWD USD";
const WHOLE: &str = "HUF JPY TWD";
const MOST: i64 = 1_000_000_000_000;

/// One of PayPal's words for what is wrong.
pub type Issue = &'static str;

/// Why a request is not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The word that a client decides on.
    pub issue: String,
    /// The member of the body that is wrong.
    pub field: Option<&'static str>,
    /// Where the payer is to be sent, to cure it.
    pub redirect: Option<String>,
}

impl Problem {
    /// A problem with no member of the body.
    pub fn of(issue: impl Into<String>) -> Self {
        Self { issue: issue.into(), field: None, redirect: None }
    }

    /// A problem with `field`.
    pub fn at(issue: Issue, field: &'static str) -> Self {
        Self { field: Some(field), ..Self::of(issue) }
    }

    /// The answer.
    pub fn answer(&self) -> Answer {
        let (status, name, message) = kind_of(&self.issue);
        let mut detail = json!({ "issue": self.issue, "description": describe(&self.issue) });
        if let Some(field) = self.field {
            detail["field"] = field.into();
            detail["location"] = "body".into();
        }
        let help = format!("https://developer.paypal.com/api/rest/#{}", self.issue);
        let mut links = vec![link(&help, "information_link", "GET")];
        links.extend(self.redirect.iter().map(|url| link(url, "redirect", "GET")));
        refusal(status, (name, message), json!([detail]), json!(links))
    }
}

impl From<Issue> for Problem {
    fn from(issue: Issue) -> Self {
        Self::of(issue)
    }
}

/// An answer that has a name and no issue.
pub fn plain(status: u16, name: &str, message: &str) -> Answer {
    refusal(status, (name, message), json!([]), json!([]))
}

/// An answer of the reports, whose issues are sentences.
pub fn unreported(field: &str, sentence: &str) -> Answer {
    let details = json!([{ "field": field, "issue": sentence, "location": "query" }]);
    refusal(400, ("INVALID_REQUEST", "Invalid request - see details"), details, json!([]))
}

fn refusal(status: u16, (name, message): (&str, &str), details: Value, links: Value) -> Answer {
    let debug_id = debug_id();
    let body = json!({
        "name": name, "message": message, "debug_id": debug_id, "details": details, "links": links,
    });
    let mut answer = Answer::json(status, body.to_string());
    answer.headers.push(("paypal-debug-id", debug_id));
    answer
}

fn kind_of(issue: &str) -> (u16, &'static str, &'static str) {
    match issue {
        "INVALID_ARRAY_MAX_ITEMS"
        | "INVALID_ARRAY_MIN_ITEMS"
        | "INVALID_COUNTRY_CODE"
        | "INVALID_PARAMETER_SYNTAX"
        | "INVALID_PARAMETER_VALUE"
        | "INVALID_STRING_LENGTH"
        | "INVALID_STRING_MAX_LENGTH"
        | "MALFORMED_REQUEST_JSON"
        | "MISSING_REQUIRED_PARAMETER"
        | "NOT_SUPPORTED"
        | "PAYPAL_REQUEST_ID_REQUIRED" => (
            400,
            "INVALID_REQUEST",
            "Request is not well-formed, syntactically incorrect, or violates schema.",
        ),
        "INVALID_ACCOUNT_STATUS" => (401, "AUTHENTICATION_FAILURE", "Account validations failed."),
        "CONSENT_NEEDED"
        | "NOT_ELIGIBLE_FOR_TOKEN_PROCESSING"
        | "PAYEE_ACCOUNT_NOT_VERIFIED"
        | "PERMISSION_DENIED"
        | "PERMISSION_DENIED_FOR_DONATION_ITEMS" => {
            (403, "NOT_AUTHORIZED", "Authorization failed due to insufficient permissions.")
        }
        "INVALID_RESOURCE_ID" => {
            (404, "RESOURCE_NOT_FOUND", "The specified resource does not exist.")
        }
        "PREVIOUS_REQUEST_IN_PROGRESS" => (
            409,
            "RESOURCE_CONFLICT",
            "The server has detected a conflict while processing this request.",
        ),
        "RATE_LIMIT_REACHED" => {
            (429, "RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting.")
        }
        "INTERNAL_SERVER_ERROR" => {
            (500, "INTERNAL_SERVER_ERROR", "An internal server error has occurred.")
        }
        "SERVICE_UNAVAILABLE" => (503, "SERVICE_UNAVAILABLE", "Service Unavailable."),
        _ => (
            422,
            "UNPROCESSABLE_ENTITY",
            "The requested action could not be performed, semantically incorrect, or failed \
             business validation.",
        ),
    }
}

fn describe(issue: &str) -> String {
    match issue {
        "INSTRUMENT_DECLINED" => "The instrument presented was either declined by the processor \
             or bank, or it can't be used for this payment."
            .into(),
        "ORDER_NOT_APPROVED" => "Payer has not yet approved the Order for payment.".into(),
        "INVALID_RESOURCE_ID" => {
            "Specified resource ID does not exist. Please check the resource ID and try again."
                .into()
        }
        other => format!("{}.", other.to_lowercase().replace('_', " ")),
    }
}

/// One entry of `links`.
pub fn link(href: &str, rel: &str, method: &str) -> Value {
    json!({ "href": href, "rel": rel, "method": method })
}

/// How many decimals an amount in `currency` has.
pub fn decimals(currency: &str) -> usize {
    if WHOLE.contains(currency) { 0 } else { 2 }
}

/// Minor units as the text of a `value`.
pub fn value_text(minor: i64, currency: &str) -> String {
    match decimals(currency) {
        0 => minor.to_string(),
        _ => {
            let sign = if minor < 0 { "-" } else { "" };
            let size = minor.unsigned_abs();
            format!("{sign}{}.{:02}", size / 100, size % 100)
        }
    }
}

/// An amount as PayPal writes it.
pub fn money(minor: i64, currency: &str) -> Value {
    json!({ "currency_code": currency, "value": value_text(minor, currency) })
}

/// Minor units of the text of a `value`, zero and negative ones too.
///
/// # Errors
/// What is wrong with it.
pub fn parse_value(text: &str, currency: &str) -> Result<i64, Issue> {
    let (sign, size) = match text.strip_prefix('-') {
        Some(size) => (-1, size),
        None => (1, text),
    };
    let (whole, part) = match size.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (size, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let ends_well = part.map_or(!whole.is_empty(), |part| !part.is_empty() && digits(part));
    if text.len() > 32 || !digits(whole) || !ends_well {
        return Err("INVALID_PARAMETER_VALUE");
    }
    let (part, width) = (part.unwrap_or_default(), decimals(currency));
    if width == 0 && !part.is_empty() {
        return Err("DECIMALS_NOT_SUPPORTED");
    }
    if part.len() > width {
        return Err("DECIMAL_PRECISION");
    }
    let minor = format!("{whole}{part:0<width$}").parse::<i64>().ok();
    minor.filter(|minor| *minor <= MOST).map(|minor| sign * minor).ok_or("MAX_VALUE_EXCEEDED")
}

/// Reads an amount that must be there and positive: minor units and currency.
///
/// # Errors
/// What is wrong with it; `field` is its place in the body.
pub fn read_money(node: &Value, field: &'static str) -> Result<(i64, String), Problem> {
    let (Some(currency), Some(value)) = (node["currency_code"].as_str(), node["value"].as_str())
    else {
        return Err(Problem::at("MISSING_REQUIRED_PARAMETER", field));
    };
    let known = currency.len() == 3 && CURRENCIES.split(' ').any(|one| one == currency);
    if !known {
        return Err(Problem::at("INVALID_CURRENCY_CODE", field));
    }
    match parse_value(value, currency) {
        Ok(minor) if minor > 0 => Ok((minor, currency.into())),
        Ok(_) => Err(Problem::at("CANNOT_BE_ZERO_OR_NEGATIVE", field)),
        Err(issue) => Err(Problem::at(issue, field)),
    }
}

/// `ms` since the epoch, to the second.
pub fn second(ms: i64) -> String {
    moment::rfc3339(ms - ms.rem_euclid(1000))
}

/// 17 random capitals and digits, as the ids of orders and payments look.
pub fn fresh() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKLMNPRSTUVWXY";
    let mut bits: u128 = rand::random();
    let mut id = String::with_capacity(17);
    for _ in 0..17 {
        id.push(char::from(ALPHABET[(bits % 32) as usize]));
        bits /= 32;
    }
    id
}

/// A random UUID, as the ids of transmissions look.
pub fn fresh_uuid() -> String {
    let bits: u128 = rand::random();
    let text = format!("{bits:032x}");
    let parts = [&text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..]];
    format!("{}-{}-4{}-a{}-{}", parts[0], parts[1], parts[2], parts[3], parts[4])
}

fn debug_id() -> String {
    let bits: u64 = rand::random();
    format!("f{:012x}", bits & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_decimals_of_their_currency() {
        assert_eq!(parse_value("12.3", "EUR"), Ok(1230));
        assert_eq!(parse_value("12", "EUR"), Ok(1200));
        assert_eq!(parse_value(".05", "USD"), Ok(5));
        assert_eq!(parse_value("-1.00", "USD"), Ok(-100));
        assert_eq!(parse_value("1200", "JPY"), Ok(1200));
        assert_eq!(parse_value("1200.00", "JPY"), Err("DECIMALS_NOT_SUPPORTED"));
        assert_eq!(parse_value("1.234", "EUR"), Err("DECIMAL_PRECISION"));
        for bad in ["", ".", "1.", "1,00", "1e3", " 1", "+1", "--1"] {
            assert_eq!(parse_value(bad, "EUR"), Err("INVALID_PARAMETER_VALUE"), "{bad}");
        }
        assert_eq!(parse_value("99999999999999999999", "EUR"), Err("MAX_VALUE_EXCEEDED"));
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        for (minor, currency, text) in
            [(5, "EUR", "0.05"), (-1250, "USD", "-12.50"), (1250, "JPY", "1250")]
        {
            assert_eq!(value_text(minor, currency), text);
            assert_eq!(parse_value(text, currency), Ok(minor));
        }
    }

    #[test]
    fn amounts_must_be_positive_and_in_a_known_currency() {
        let read = |value: &str, currency: &str| {
            let node = json!({ "value": value, "currency_code": currency });
            read_money(&node, "/amount").map_err(|problem| problem.issue)
        };
        assert_eq!(read("1.00", "EUR"), Ok((100, "EUR".into())));
        assert_eq!(read("0.00", "EUR"), Err("CANNOT_BE_ZERO_OR_NEGATIVE".into()));
        assert_eq!(read("1.00", "XXX"), Err("INVALID_CURRENCY_CODE".into()));
        let missing = read_money(&json!({ "value": "1.00" }), "/amount").unwrap_err();
        assert_eq!(missing.issue, "MISSING_REQUIRED_PARAMETER");
    }

    #[test]
    fn the_status_follows_the_issue() {
        let status = |issue: &str| Problem::of(issue).answer().status;
        assert_eq!(status("INSTRUMENT_DECLINED"), 422);
        assert_eq!(status("INVALID_RESOURCE_ID"), 404);
        assert_eq!(status("PREVIOUS_REQUEST_IN_PROGRESS"), 409);
        assert_eq!(status("MISSING_REQUIRED_PARAMETER"), 400);
        assert_eq!(status("RATE_LIMIT_REACHED"), 429);
    }
}
