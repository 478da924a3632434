//! What a merchant asks for, read from the bodies of requests and checked before anything is done.
//!
//! The fake takes one purchase unit and the payer's PayPal account; the rest of the provider's
//! many members are accepted and left alone.

use serde_json::Value;

use super::wire::{Issue, Problem, parse_value, read_money};

/// What an order is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Taken in one step.
    Capture,
    /// Held, and taken later.
    Authorize,
}

/// An order as asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What it is to become.
    pub intent: Intent,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The merchant's name of the purchase unit.
    pub reference_id: String,
    /// The merchant's own mark, on everything that comes of the order.
    pub custom_id: Option<String>,
    /// The merchant's invoice.
    pub invoice_id: Option<String>,
    /// What is bought.
    pub description: Option<String>,
    /// Whether the order names its payment source, so that the payer must act at once.
    pub payer_acts: bool,
    /// Where the payer goes after he approved.
    pub return_url: Option<String>,
    /// Where he goes when he leaves.
    pub cancel_url: Option<String>,
    /// The `PayPal-Request-Id` of the request.
    pub op_id: Option<String>,
}

/// A capture of a hold, or a refund, as asked for.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// Minor units and currency; all that is left when absent.
    pub amount: Option<(i64, String)>,
    /// Whether the rest of the hold is let go.
    pub last: bool,
    /// The merchant's invoice.
    pub invoice_id: Option<String>,
    /// The merchant's own mark.
    pub custom_id: Option<String>,
}

impl Wish {
    /// Reads the body of a request for an order.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &Value, op_id: Option<&str>) -> Result<Self, Problem> {
        let intent = match body["intent"].as_str() {
            Some("CAPTURE") => Intent::Capture,
            Some("AUTHORIZE") => Intent::Authorize,
            Some(_) => return Err(Problem::at("INVALID_PARAMETER_VALUE", "/intent")),
            None => return Err(Problem::at("MISSING_REQUIRED_PARAMETER", "/intent")),
        };
        let units = body["purchase_units"].as_array().map_or(&[][..], Vec::as_slice);
        let unit = match units {
            [] => return Err(Problem::at("MISSING_REQUIRED_PARAMETER", "/purchase_units")),
            [unit] => unit,
            _ => return Err(Problem::at("INVALID_ARRAY_MAX_ITEMS", "/purchase_units")),
        };
        let (amount, currency) = read_money(&unit["amount"], "/purchase_units/@0/amount/value")?;
        check_sums(unit, amount, &currency)?;
        let source = &body["payment_source"];
        let context = &source["paypal"]["experience_context"];
        // The older place of the same two addresses.
        let older = &body["application_context"];
        let url = |name: &'static str| {
            let node = if context[name].is_null() { &older[name] } else { &context[name] };
            short(node, 4_000, name)
        };
        match source.as_object().and_then(|named| named.keys().next()).map(String::as_str) {
            None | Some("paypal") => {}
            Some("card") => return Err(Problem::of("NOT_ENABLED_FOR_CARD_PROCESSING")),
            Some(_) => return Err(Problem::at("NOT_SUPPORTED", "/payment_source")),
        }
        if !source.is_null() && op_id.is_none() {
            return Err(Problem::of("PAYPAL_REQUEST_ID_REQUIRED"));
        }
        let reference_id = short(&unit["reference_id"], 256, "/purchase_units/@0/reference_id")?;
        Ok(Self {
            intent,
            amount,
            currency,
            reference_id: reference_id.unwrap_or_else(|| "default".into()),
            custom_id: short(&unit["custom_id"], 255, "/purchase_units/@0/custom_id")?,
            invoice_id: short(&unit["invoice_id"], 127, "/purchase_units/@0/invoice_id")?,
            description: short(&unit["description"], 127, "/purchase_units/@0/description")?,
            payer_acts: !source.is_null(),
            return_url: url("return_url")?,
            cancel_url: url("cancel_url")?,
            op_id: op_id.map(str::to_owned),
        })
    }
}

impl Wish {
    /// A payment that the payer made by himself, on PayPal's pages.
    pub fn of_portal(amount: i64, currency: &str) -> Self {
        Self {
            intent: Intent::Capture,
            amount,
            currency: currency.into(),
            reference_id: "default".into(),
            custom_id: None,
            invoice_id: None,
            description: None,
            payer_acts: false,
            return_url: None,
            cancel_url: None,
            op_id: None,
        }
    }
}

impl Want {
    /// Reads the body of a request to capture a hold or to refund a capture.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &Value) -> Result<Self, Problem> {
        let amount = match &body["amount"] {
            Value::Null => None,
            node => Some(read_money(node, "/amount/value")?),
        };
        let last = match &body["final_capture"] {
            Value::Null => false,
            node => {
                let given = node.as_bool();
                given.ok_or_else(|| Problem::at("INVALID_PARAMETER_SYNTAX", "/final_capture"))?
            }
        };
        Ok(Self {
            amount,
            last,
            invoice_id: short(&body["invoice_id"], 127, "/invoice_id")?,
            custom_id: short(&body["custom_id"], 255, "/custom_id")?,
        })
    }
}

fn short(node: &Value, most: usize, field: &'static str) -> Result<Option<String>, Problem> {
    match node {
        Value::Null => Ok(None),
        Value::String(text) if (1..=most).contains(&text.chars().count()) => Ok(Some(text.clone())),
        Value::String(_) => Err(Problem::at("INVALID_STRING_LENGTH", field)),
        _ => Err(Problem::at("INVALID_PARAMETER_SYNTAX", field)),
    }
}

/// The parts of an amount must make the whole.
fn check_sums(unit: &Value, amount: i64, currency: &str) -> Result<(), Problem> {
    let parts = &unit["amount"]["breakdown"];
    let value = |node: &Value| -> Result<i64, Issue> {
        match &node["value"] {
            Value::Null => Ok(0),
            text => parse_value(text.as_str().unwrap_or_default(), currency),
        }
    };
    let part = |name: &str| {
        value(&parts[name])
            .map_err(|issue| Problem::at(issue, "/purchase_units/@0/amount/breakdown"))
    };
    if parts.is_object() {
        let mut sum = -part("shipping_discount")? - part("discount")?;
        for name in ["item_total", "tax_total", "shipping", "handling", "insurance"] {
            sum += part(name)?;
        }
        if sum != amount {
            return Err(Problem::at("AMOUNT_MISMATCH", "/purchase_units/@0/amount/value"));
        }
    }
    let Some(items) = unit["items"].as_array().filter(|items| !items.is_empty()) else {
        return Ok(());
    };
    let field = "/purchase_units/@0/amount/breakdown/item_total";
    if parts["item_total"].is_null() {
        return Err(Problem::at("ITEM_TOTAL_REQUIRED", field));
    }
    let mut sum = 0_i64;
    for item in items {
        let quantity = item["quantity"].as_str().and_then(|text| text.parse::<i64>().ok());
        let price = value(&item["unit_amount"]).map_err(|issue| Problem::at(issue, field))?;
        sum = sum.saturating_add(price.saturating_mul(quantity.unwrap_or(0)));
    }
    if sum == part("item_total")? { Ok(()) } else { Err(Problem::at("ITEM_TOTAL_MISMATCH", field)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_wants_a_request_id() {
        let mut body = order("10.00");
        assert!(!Wish::read(&body, None).unwrap().payer_acts);
        let urls = json!({ "return_url": "https://shop.example/back" });
        body["payment_source"] = json!({ "paypal": { "experience_context": urls } });
        assert_eq!(issue(&body, None), "PAYPAL_REQUEST_ID_REQUIRED");
        let wish = Wish::read(&body, Some("k")).unwrap();
        assert!(wish.payer_acts);
        assert_eq!(wish.return_url.as_deref(), Some("https://shop.example/back"));
        body["payment_source"] = json!({ "card": {} });
        assert_eq!(issue(&body, Some("k")), "NOT_ENABLED_FOR_CARD_PROCESSING");
    }

    #[test]
    fn the_parts_make_the_whole() {
        let mut body = order("10.00");
        let euro = |value: &str| json!({ "currency_code": "EUR", "value": value });
        let unit = &mut body["purchase_units"][0];
        unit["amount"]["breakdown"] = json!({ "item_total": euro("9.00"), "shipping": euro("1") });
        unit["items"] = json!([{ "quantity": "3", "unit_amount": euro("3.00") }]);
        assert!(Wish::read(&body, None).is_ok());
        body["purchase_units"][0]["items"][0]["quantity"] = "2".into();
        assert_eq!(issue(&body, None), "ITEM_TOTAL_MISMATCH");
        body["purchase_units"][0]["amount"]["breakdown"]["shipping"] = euro("2");
        assert_eq!(issue(&body, None), "AMOUNT_MISMATCH");
    }

    #[test]
    fn what_is_missing_or_too_long_is_named() {
        let mut body = order("10.00");
        body["purchase_units"][0]["invoice_id"] = "x".repeat(128).into();
        assert_eq!(issue(&body, None), "INVALID_STRING_LENGTH");
        assert_eq!(issue(&json!({ "intent": "CAPTURE" }), None), "MISSING_REQUIRED_PARAMETER");
        assert_eq!(issue(&json!({ "intent": "SALE" }), None), "INVALID_PARAMETER_VALUE");
    }

    fn order(value: &str) -> Value {
        let amount = json!({ "currency_code": "EUR", "value": value });
        json!({ "intent": "CAPTURE", "purchase_units": [{ "amount": amount }] })
    }

    fn issue(body: &Value, op_id: Option<&str>) -> String {
        Wish::read(body, op_id).unwrap_err().issue
    }
}
