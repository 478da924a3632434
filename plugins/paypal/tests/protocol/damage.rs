//! Damaged notifications, answers and reports of PayPal.

use std::collections::BTreeMap;

use interlock_plugin_api::testkit::{Drive, TestHost, Wanted};
use interlock_plugin_api::{CaptureMode, Event, Operation, Period, Request};
use serde_json::json;
use serde_json::value::RawValue;

use crate::{mutator, peer, readers};

const HEADERS: [(&str, &str); 5] = [
    ("paypal-transmission-id", "69cd13f0-d67a-11e5-baa3-778b53f4ae55"),
    ("paypal-transmission-time", "2026-11-29T10:30:00Z"),
    ("paypal-transmission-sig", "c2lnbmF0dXJl"),
    ("paypal-cert-url", "https://api.paypal.com/v1/notifications/certs/CERT-1"),
    ("paypal-auth-algo", "SHA256withRSA"),
];

#[test]
fn damaged_notifications_are_read_or_refused() {
    let (plugin, host) = (peer::provider(), TestHost::default().believing());
    let corpus = "tests/corpora/notifications-paypal";
    let payment = peer::payment(CaptureMode::Automatic);
    let judge = readers::tells_our_numbers;
    readers::damaged_notifications(&plugin, &host, &payment, &HEADERS, corpus, judge);
}

#[test]
fn damaged_events_are_passed_on_as_one_value_or_not_at_all() {
    let plugin = peer::account(json!({ "webhook_id": "WH1", "verify": "postback" }));
    let host = TestHost::default();
    let mut passed = 0;
    mutator::each(&["tests/corpora/notifications-paypal"], 200, |body| {
        let payment = peer::payment(CaptureMode::Automatic);
        let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment);
        let wanted = drive.notified(&HEADERS, body).unwrap();
        if let Wanted::Send(_, sent) = wanted {
            passed += 1;
            let sent: BTreeMap<String, &RawValue> = serde_json::from_slice(&sent).unwrap();
            assert_eq!((sent.len(), sent["webhook_id"].get()), (7, "\"WH1\""));
        }
    });
    assert!(passed > 100, "{passed}");
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let corpus = "tests/corpora/answers-paypal";
    readers::damaged_answers(&plugin, &host, peer::operations(), corpus, 40);
}

#[test]
fn damaged_changes_and_reports_are_facts_or_nothing() {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let corpus = "tests/corpora/answers-paypal";
    for (op, order) in [
        (Operation::Capture, peer::held_order()),
        (Operation::Void, peer::held_order()),
        (Operation::Refund, peer::captured_order()),
    ] {
        mutator::each(&[corpus], 40, |body| {
            let r = peer::later(op, CaptureMode::Manual);
            let mut drive = Drive::new(&plugin, &host, op, r);
            drive.start().unwrap().sent();
            let order = match op {
                Operation::Refund => order.to_string().replace("CAPTURE\"", "AUTHORIZE\""),
                _ => order.to_string(),
            };
            drive.answer(200, order.as_bytes()).unwrap().sent();
            assert_eq!(drive.answer(201, body).unwrap().done().facts.len(), 1);
        });
    }
    mutator::each(&[corpus], 100, |body| {
        let period = Some(Period { date: "2026-11-29".into() });
        let r = Request { period, ..peer::payment(CaptureMode::Automatic) };
        let mut drive = Drive::new(&plugin, &host, Operation::DownloadStatement, r);
        drive.start().unwrap().sent();
        let _ = drive.answer(200, body);
    });
}

#[test]
fn damaged_files_are_lines_or_refused() {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut read = 0;
    let cases = mutator::each(&["tests/corpora/reports-paypal"], 2_000, |body| {
        let period = Some(Period { date: "2025-11-24".into() });
        let r = Request { period, ..peer::payment(CaptureMode::Automatic) };
        let mut drive = Drive::new(&plugin, &host, Operation::ReadStatement, r);
        match drive.step(Event::Piece { last: true }, body) {
            Ok(wanted) => read += wanted.done().statement.unwrap().lines.len(),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    });
    assert!(cases > 1_000 && read > 0, "{read} of {cases} were read");
}
