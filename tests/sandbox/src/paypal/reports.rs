//! What a merchant reconciles with, by its date: the list of transactions, and the settlement
//! report, a file of what moved his balance.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::order::{Capture, Fate, Order, Refund};
use super::orders::Orders;
use super::shown::fee;
use super::wire::{money, second, unreported};
use crate::desk::Answer;
use crate::moment;

const LONGEST_MS: i64 = 31 * 24 * 3_600_000;
const LARGEST_PAGE: usize = 500;
const DAY_MS: i64 = 24 * 3_600_000;
const MERCHANT: &str = "SANDBOX0MERCH";
/// Of a settlement report.
const COLUMNS: &str = "\"CH\",\"Transaction ID\",\"Invoice ID\",\"PayPal Reference ID\",\
    \"PayPal Reference ID Type\",\"Transaction Event Code\",\"Transaction Initiation Date\",\
    \"Transaction Completion Date\",\"Transaction Debit or Credit\",\"Gross Transaction Amount\",\
    \"Gross Transaction Currency\",\"Fee Debit or Credit\",\"Fee Amount\",\"Fee Currency\",\
    \"Custom Field\",\"Consumer ID\",\"Payment Tracking ID\",\"Store ID\"";

/// What is asked for.
struct Asked {
    from_ms: i64,
    until_ms: i64,
    transaction: Option<String>,
    only_balance: bool,
    page: usize,
    page_size: usize,
}

impl Asked {
    fn read(query: &str) -> Result<Self, Answer> {
        let get = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(held, _)| held == name).map(|(_, value)| value.into_owned())
        };
        let date = |name: &'static str| {
            let given = get(name).ok_or_else(|| unreported(name, "Required parameter missing"))?;
            moment::parse_rfc3339(&given).ok_or_else(|| unreported(name, "Invalid date format"))
        };
        let number = |name: &'static str, usual: usize, most: usize| match get(name) {
            None => Ok(usual),
            Some(text) => {
                let number = text.parse().ok().filter(|n| (1..=most).contains(n));
                number.ok_or_else(|| unreported(name, "Value is out of range"))
            }
        };
        let (from_ms, until_ms) = (date("start_date")?, date("end_date")?);
        if until_ms < from_ms {
            return Err(unreported("end_date", "End date is before the start date"));
        }
        if until_ms - from_ms > LONGEST_MS {
            return Err(unreported("end_date", "Date range is greater than 31 days"));
        }
        Ok(Self {
            from_ms,
            until_ms,
            transaction: get("transaction_id"),
            only_balance: get("balance_affecting_records_only").as_deref() != Some("N"),
            page: number("page", 1, 1_000_000)?,
            page_size: number("page_size", 100, LARGEST_PAGE)?,
        })
    }
}

/// Answers a request for transactions that are known up to `seen_ms`.
pub fn list(orders: &Orders, query: &str, seen_ms: i64) -> Answer {
    let asked = match Asked::read(query) {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    let ids = orders.journal(asked.from_ms, asked.until_ms.min(seen_ms));
    let wanted = |id: &&str| asked.transaction.as_ref().is_none_or(|one| one == id);
    let shown = ids.filter(wanted).filter_map(|id| row(orders.owner(id)?, id));
    let rows: Vec<Value> = shown
        .filter(|row| !asked.only_balance || moves_balance(row))
        .map(|row| json!({ "transaction_info": row }))
        .collect();
    let first = (asked.page - 1) * asked.page_size;
    let page: Vec<&Value> = rows.iter().skip(first).take(asked.page_size).collect();
    let body = json!({
        "transaction_details": page,
        "account_number": MERCHANT,
        "start_date": date_text(asked.from_ms),
        "end_date": date_text(asked.until_ms),
        "last_refreshed_datetime": date_text(seen_ms),
        "page": asked.page,
        "total_items": rows.len(),
        "total_pages": rows.len().div_ceil(asked.page_size),
        "links": [],
    });
    Answer::json(200, body.to_string())
}

fn moves_balance(row: &Value) -> bool {
    matches!(row["transaction_status"].as_str(), Some("S" | "V"))
}

/// The settlement report of the day that `now_ms` is in, whole as if that day were over. Its
/// window is UTC.
pub fn settlement(orders: &Orders, now_ms: i64) -> String {
    let from_ms = now_ms - now_ms.rem_euclid(DAY_MS);
    let until_ms = from_ms + DAY_MS - 1_000;
    let mut text = format!(
        "\u{feff}\"RH\",{},\"A\",\"{MERCHANT}\",009,\n\"FH\",01\n\
         \"SH\",{},{},\"{MERCHANT}\",\"\"\n{COLUMNS}\n",
        slashed(now_ms),
        slashed(from_ms),
        slashed(until_ms)
    );
    // By currency: what came in, what went out, fees given back, fees kept, records.
    let mut sums: BTreeMap<String, [i64; 5]> = BTreeMap::new();
    let rows = orders.journal(from_ms, until_ms + 999).filter_map(|id| row(orders.owner(id)?, id));
    for row in rows.filter(moves_balance) {
        let field = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let currency = row["transaction_amount"]["currency_code"].as_str().unwrap_or_default();
        let (gross, fee) = (hundredths(&row["transaction_amount"]), hundredths(&row["fee_amount"]));
        let sums = sums.entry(currency.to_owned()).or_default();
        sums[usize::from(gross < 0)] += gross.abs();
        sums[2 + usize::from(fee < 0)] += fee.abs();
        sums[4] += 1;
        let at = field("transaction_initiation_date");
        let at = slashed(moment::parse_rfc3339(&at).unwrap_or(from_ms));
        let mut fields = vec![quoted("SB")];
        fields.extend(
            [
                "transaction_id",
                "invoice_id",
                "paypal_reference_id",
                "paypal_reference_id_type",
                "transaction_event_code",
            ]
            .map(|name| quoted(&field(name))),
        );
        fields.extend([at.clone(), at]);
        for amount in [gross, fee] {
            let way = if amount < 0 { "DR" } else { "CR" };
            fields.extend([quoted(way), amount.abs().to_string(), quoted(currency)]);
        }
        fields.extend([field("custom_field"), "PAYER".into()].map(|text| quoted(&text)));
        fields.extend([quoted(""), quoted("")]);
        text += &(fields.join(",") + "\n");
    }
    let total: i64 = sums.values().map(|sums| sums[4]).sum();
    for footer in ["SF", "RF"] {
        for (currency, sums) in &sums {
            let sums = sums.map(|sum| sum.to_string()).join(",");
            text += &format!("{},{},{sums}\n", quoted(footer), quoted(currency));
        }
        let count = footer.replace('F', "C");
        text += &format!("{},{total}\n", quoted(&count));
    }
    text + &format!("\"FF\",{total}\n")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// As a report's file writes an amount, whatever its currency.
fn hundredths(money: &Value) -> i64 {
    let text = money["value"].as_str().unwrap_or("0");
    let (whole, part) = text.split_once('.').unwrap_or((text, "00"));
    format!("{whole}{part}").parse().unwrap_or(0)
}

/// As a report's file writes a date: `2026/11/29 10:30:00 +0000`.
fn slashed(ms: i64) -> String {
    second(ms).replace('-', "/").replace('T', " ").replace('Z', " +0000")
}

fn row(order: &Order, id: &str) -> Option<Value> {
    let of_capture = || order.capture(id).map(|capture| capture_row(order, capture));
    let of_refund = || order.refund(id).map(|refund| refund_row(order, refund));
    of_capture().or_else(of_refund)
}

fn capture_row(order: &Order, capture: &Capture) -> Value {
    let currency = &order.wish.currency;
    let (reference, kind) = match &capture.authorization {
        Some(hold) => (hold, "TXN"),
        None => (&order.id, "ODR"),
    };
    let status = match capture.fate {
        Fate::Completed if capture.reversed => "V",
        Fate::Completed => "S",
        Fate::Pending(_) => "P",
        Fate::Declined => "D",
    };
    let mut row = json!({
        "transaction_id": capture.id,
        "paypal_reference_id": reference,
        "paypal_reference_id_type": kind,
        "transaction_event_code": "T0006",
        "transaction_initiation_date": date_text(capture.made_ms),
        "transaction_updated_date": date_text(capture.changed_ms),
        "transaction_amount": money(capture.amount, currency),
        "transaction_status": status,
    });
    if capture.fate == Fate::Completed {
        row["fee_amount"] = money(-fee(capture.amount), currency);
    }
    let marks = (capture.invoice_id.as_deref(), order.wish.custom_id.as_deref());
    marked(row, marks)
}

fn refund_row(order: &Order, refund: &Refund) -> Value {
    let row = json!({
        "transaction_id": refund.id,
        "paypal_reference_id": refund.capture,
        "paypal_reference_id_type": "TXN",
        "transaction_event_code": refund.code,
        "transaction_initiation_date": date_text(refund.made_ms),
        "transaction_updated_date": date_text(refund.made_ms),
        "transaction_amount": money(-refund.amount, &order.wish.currency),
        "transaction_status": "S",
    });
    let custom = refund.custom_id.as_deref().or(order.wish.custom_id.as_deref());
    marked(row, (refund.invoice_id.as_deref(), custom))
}

fn marked(mut row: Value, (invoice_id, custom): (Option<&str>, Option<&str>)) -> Value {
    if let Some(invoice_id) = invoice_id {
        row["invoice_id"] = invoice_id.into();
    }
    if let Some(custom) = custom {
        row["custom_field"] = custom.into();
    }
    row
}

/// As the reports write dates.
fn date_text(ms: i64) -> String {
    second(ms).replace('Z', "+0000")
}
