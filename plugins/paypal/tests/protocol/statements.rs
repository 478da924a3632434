//! The report of a day: lines, pages, what it covers, and what is no report.

use std::slice;

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    CaptureMode, Event, Fault, LineKind, LineState, Operation, Period, Request, StatementPart,
};
use serde_json::{Value, json};

use crate::peer::{self, CAPTURE, CHANGE, ORDER, PAYMENT, REFUND, payment};

/// The day begins.
const DAY_MS: i64 = 1_795_910_400_000;
const HOUR_MS: i64 = 3_600_000;
const NEXT_DAY_MS: i64 = DAY_MS + 24 * HOUR_MS;

fn request() -> Request {
    let period = Some(Period { date: "2026-11-29".into() });
    Request { period, ..payment(CaptureMode::Automatic) }
}

fn row(code: &str, value: &str) -> Value {
    json!({ "transaction_info": {
        "transaction_id": CAPTURE, "paypal_reference_id": ORDER, "paypal_reference_id_type": "ODR",
        "transaction_event_code": code,
        "transaction_initiation_date": "2026-11-29T10:30:00+0000",
        "transaction_amount": { "currency_code": "EUR", "value": value },
        "fee_amount": { "currency_code": "EUR", "value": "-2.20" },
        "transaction_status": "S", "invoice_id": PAYMENT, "custom_field": PAYMENT,
    } })
}

/// A page of a report that knows the whole day.
fn page(page: u32, of: u32, rows: Value) -> Value {
    json!({
        "transaction_details": rows, "page": page, "total_items": 0, "total_pages": of,
        "last_refreshed_datetime": "2026-11-30T03:00:00+0000",
    })
}

/// A page that knows the day until then.
fn known(until: &str, number: u32, of: u32) -> Value {
    let mut body = page(number, of, json!([]));
    body["last_refreshed_datetime"] = until.into();
    body
}

fn read(body: &Value) -> Result<StatementPart, Fault> {
    read_at(NEXT_DAY_MS, slice::from_ref(body)).map(|mut parts| parts.remove(0))
}

/// What comes of these pages, one after the other, at this time.
fn read_at(now_ms: i64, pages: &[Value]) -> Result<Vec<StatementPart>, Fault> {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::DownloadStatement, request());
    drive.envelope.now_ms = now_ms;
    let mut parts = Vec::new();
    for body in pages {
        drive.start().unwrap().sent();
        let done = drive.answer(200, body.to_string().as_bytes())?.done();
        assert!(done.facts.is_empty());
        parts.extend(done.statement);
    }
    Ok(parts)
}

#[test]
fn a_payment_and_a_refund_are_told_with_every_number() {
    let mut back = row("T1107", "-12.34");
    let info = &mut back["transaction_info"];
    info["transaction_id"] = REFUND.into();
    info["paypal_reference_id"] = CAPTURE.into();
    info["paypal_reference_id_type"] = "TXN".into();
    info["custom_field"] = format!("{CHANGE}:{CAPTURE}").into();
    info["fee_amount"]["value"] = "0.30".into();
    let part = read(&page(1, 1, json!([row("T0006", "49.00"), back]))).unwrap();
    assert!(!part.more && part.file.is_none());
    let [charge, refund] = &part.lines[..] else { unreachable!("{part:?}") };
    assert_eq!((charge.kind, charge.state), (LineKind::Charge, LineState::Done));
    assert_eq!(charge.at_ms, Some(1_795_948_200_000));
    assert_eq!(charge.number.as_deref(), Some(PAYMENT));
    assert_eq!(charge.provider_ref.as_deref(), Some(ORDER));
    assert_eq!(
        (charge.operation.as_deref(), charge.operation_ref.as_deref()),
        (None, Some(CAPTURE))
    );
    assert_eq!((charge.amount.amount, charge.fee.unwrap().amount), (4_900, 220));
    assert_eq!((refund.kind, refund.state), (LineKind::Refund, LineState::Done));
    assert_eq!((refund.number.as_deref(), refund.provider_ref.as_deref()), (Some(CHANGE), None));
    assert_eq!(refund.operation.as_deref(), Some(CHANGE));
    assert_eq!(refund.operation_ref.as_deref(), Some(REFUND));
    assert_eq!((refund.amount.amount, refund.fee.unwrap().amount), (1_234, -30));
}

#[test]
fn a_capture_of_what_was_held_has_a_number_of_its_own() {
    let mut taken = row("T0006", "12.34");
    taken["transaction_info"]["invoice_id"] = CHANGE.into();
    let part = read(&page(1, 1, json!([taken]))).unwrap();
    assert_eq!(part.lines[0].number.as_deref(), Some(PAYMENT));
    assert_eq!(part.lines[0].operation.as_deref(), Some(CHANGE));
}

#[test]
fn what_a_line_is_follows_from_its_code_and_its_sign() {
    for (code, value, kind) in [
        ("T0006", "49.00", LineKind::Charge),
        ("T0000", "49.00", LineKind::Charge),
        ("T0006", "-49.00", LineKind::Other),
        ("T1107", "-49.00", LineKind::Refund),
        ("T1107", "49.00", LineKind::Other),
        ("T1106", "-49.00", LineKind::Chargeback),
        ("T1106", "49.00", LineKind::Other),
        ("T1201", "-49.00", LineKind::Chargeback),
        ("T1201", "49.00", LineKind::Other),
        ("T1202", "-49.00", LineKind::Other),
        ("T0400", "-49.00", LineKind::Other),
        ("zzz", "49.00", LineKind::Other),
        ("", "49.00", LineKind::Other),
    ] {
        let part = read(&page(1, 1, json!([row(code, value)]))).unwrap();
        assert_eq!(part.lines[0].kind, kind, "{code} {value}");
        assert_eq!(part.lines[0].amount.amount, 4_900, "never negative");
    }
    for (word, state) in [
        ("S", LineState::Done),
        ("P", LineState::Pending),
        ("D", LineState::Failed),
        ("V", LineState::Unknown),
        ("zzz", LineState::Unknown),
    ] {
        let mut line = row("T0006", "49.00");
        line["transaction_info"]["transaction_status"] = word.into();
        assert_eq!(read(&page(1, 1, json!([line]))).unwrap().lines[0].state, state, "{word}");
    }
}

#[test]
fn pages_are_asked_one_after_the_other() {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::DownloadStatement, request());
    drive.envelope.now_ms = NEXT_DAY_MS;
    let mut lines = 0;
    for number in 1..=3_u32 {
        let (send, _) = drive.step(Event::Start, b"").unwrap().sent();
        assert_eq!(send.query.last().unwrap(), &("page".to_owned(), number.to_string()));
        let body = page(number, 3, json!([row("T0006", "49.00")]));
        let part = drive.answer(200, body.to_string().as_bytes()).unwrap().done().statement;
        let part = part.unwrap();
        lines += part.lines.len();
        assert_eq!(part.more, number < 3);
    }
    assert_eq!(lines, 3);
}

#[test]
fn a_report_covers_what_paypal_has_refreshed() {
    let covers = |now_ms, body: Value| {
        let part = read_at(now_ms, &[body]).unwrap().remove(0);
        let covers = part.covers.unwrap();
        assert_eq!(covers.from_ms, DAY_MS);
        covers.until_ms
    };
    let noon_ms = DAY_MS + 12 * HOUR_MS;
    assert_eq!(covers(NEXT_DAY_MS, known("2026-11-30T03:00:00+0000", 1, 1)), NEXT_DAY_MS);
    assert_eq!(covers(NEXT_DAY_MS, known("2026-11-30T00:00:00+0000", 1, 1)), NEXT_DAY_MS);
    assert_eq!(covers(NEXT_DAY_MS, known("2026-11-29T12:00:00+0000", 1, 1)), noon_ms);
    assert_eq!(covers(NEXT_DAY_MS, known("2026-11-29T05:00:00-0700", 1, 1)), noon_ms);
    // A report that does not say it is three hours behind.
    let mut silent = page(1, 1, json!([]));
    silent.as_object_mut().unwrap().remove("last_refreshed_datetime");
    assert_eq!(covers(noon_ms + 3 * HOUR_MS, silent.clone()), noon_ms);
    assert_eq!(covers(NEXT_DAY_MS + 3 * HOUR_MS, silent.clone()), NEXT_DAY_MS);
    for (now_ms, body) in [
        (noon_ms, known("2026-11-29T00:00:00+0000", 1, 1)),
        (noon_ms, known("2026-11-28T23:00:00+0000", 1, 1)),
        (DAY_MS + 3 * HOUR_MS, silent),
    ] {
        let fault = read_at(now_ms, slice::from_ref(&body)).unwrap_err();
        assert!(fault.text.contains("later"), "{body}: {}", fault.text);
    }
    assert!(read(&known("yesterday", 1, 1)).is_err());
}

#[test]
fn what_the_first_page_covers_counts_for_all() {
    let covers = |first: &str, second: Value| {
        let parts = read_at(NEXT_DAY_MS, &[known(first, 1, 2), second])?;
        Ok::<_, Fault>(parts.iter().map(|part| part.covers.unwrap().until_ms).collect::<Vec<_>>())
    };
    let (noon, one) = ("2026-11-29T12:00:00+0000", "2026-11-29T13:00:00+0000");
    let noon_ms = DAY_MS + 12 * HOUR_MS;
    assert_eq!(covers(noon, known(one, 2, 2)), Ok(vec![noon_ms; 2]), "it was refreshed between");
    let mut silent = page(2, 2, json!([]));
    silent.as_object_mut().unwrap().remove("last_refreshed_datetime");
    assert_eq!(covers(noon, silent), Ok(vec![noon_ms; 2]));
    let fault = covers(one, known(noon, 2, 2)).unwrap_err();
    assert!(fault.text.contains("later"), "{}", fault.text);
}

#[test]
fn a_day_without_payments_is_an_empty_report() {
    let part = read(&page(1, 0, json!([]))).unwrap();
    assert!(part.lines.is_empty() && !part.more);
}

#[test]
fn a_line_that_can_not_be_read_spoils_the_page() {
    let good = row("T0006", "49.00");
    for (name, value) in [
        ("transaction_amount", Value::Null),
        ("transaction_amount", json!({ "currency_code": "EUR", "value": "4,900" })),
        ("transaction_amount", json!({ "currency_code": "EUR", "value": "49.001" })),
        ("transaction_amount", json!({ "currency_code": "euro", "value": "49.00" })),
        ("transaction_amount", json!({ "currency_code": "JPY", "value": "49.50" })),
        ("fee_amount", json!({ "currency_code": "EUR", "value": "--1" })),
        ("transaction_id", Value::Null),
    ] {
        let mut bad = good.clone();
        bad["transaction_info"][name] = value.clone();
        assert!(read(&page(1, 1, json!([good, bad]))).is_err(), "{name} {value}");
    }
    let endless = page(1, 1_001, json!([]));
    for body in [page(2, 3, json!([])), endless, json!({}), json!([]), json!({ "page": 1 })] {
        assert!(read(&body).is_err(), "{body}");
    }
    let (plugin, host) = (peer::provider(), TestHost::default());
    for status in [201, 204, 400, 403, 429, 500] {
        let mut drive = Drive::new(&plugin, &host, Operation::DownloadStatement, request());
        drive.start().unwrap().sent();
        let body = page(1, 1, json!([])).to_string();
        assert!(drive.answer(status, body.as_bytes()).is_err(), "{status}");
    }
}
