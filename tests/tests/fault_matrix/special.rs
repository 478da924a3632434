//! The cells that need a course of their own: who may be asked before a proof, what ends without a
//! declaration, and what becomes of a code that was shown.
//!
//! Each is a story of one payment; the matrix has the same faults without the order of events.

use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, barcode, fresh, network_token, qr, tokens};
use interlock_tests::ledger::{charges, net, of_payment};
use serde_json::{Value, json};

use crate::cell::{act, id_of, post};
use crate::kind::AMOUNT;
use crate::record::{WINDOW_MS, time};

/// Longer than a timeout, a late window and the looks that follow.
const WATCH: Duration = Duration::from_millis(3_500);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_refused_connection_moves_a_payment_on_within_the_same_request() {
    let house = House::start();
    house.fault("alipay-main", "*", "refuse");
    house.fault("checkout-eu", "*", "refuse");
    for body in [barcode(AMOUNT, "01"), network_token(AMOUNT, "EUR"), tokens(AMOUNT, "EUR")] {
        let paid = house.pay(&body);
        assert_eq!((paid.status, word(&paid["status"])), (201, "succeeded"), "{paid:?}");
        assert_eq!(states(&paid), ["failed/not_sent", "success/-"]);
    }
    let shown = house.pay(&qr(AMOUNT));
    assert_eq!((shown.status, word(&shown["status"])), (201, "requires_action"), "{shown:?}");
    assert_eq!(states(&shown), ["failed/not_sent", "action/-"]);
    assert!(house.requests("alipay-main").is_empty(), "nothing reached the first");
    assert!(house.requests("checkout-eu").is_empty(), "nothing reached the first");
}

#[test]
fn nobody_else_is_asked_while_the_first_account_answers_nothing() {
    let house = House::start();
    house.fault("alipay-main", "*", "hang");
    house.fault("checkout-eu", "*", "hang");
    let open: Vec<String> = [barcode(AMOUNT, "01"), tokens(AMOUNT, "EUR")]
        .iter()
        .map(|body| id_of(&post(&house, "/v1/payments", body, 0)))
        .collect();
    stays(&house, &open, &[("processing", "provider_outcome_unknown")]);
    for second in ["alipay-backup", "checkout-us"] {
        assert!(house.requests(second).is_empty(), "{second} was asked before a proof");
    }
    house.lift_faults();
    for id in &open {
        let p = house.wait_for(id, PATIENCE, |p| p["status"] == "succeeded");
        assert_eq!(money(&house, &p), (1, AMOUNT), "{p:?}");
    }
}

#[test]
fn a_cryptogram_that_may_be_spent_is_not_offered_again_and_a_stored_token_is() {
    let house = House::start();
    house.fault("checkout-eu", "authorize", "reset_after_read");
    let failed = house.pay(&network_token(AMOUNT, "EUR"));
    assert_eq!(word(&failed["status"]), "failed", "{failed:?}");
    assert_eq!(states(&failed), ["failed/not_found"]);
    assert!(house.requests("checkout-us").is_empty(), "the cryptogram went nowhere else");
    assert!(reasons(&house, &failed).iter().any(|r| r == "cryptogram_spent"), "it says why");
    let paid = house.pay(&tokens(AMOUNT, "EUR"));
    assert_eq!(states(&paid), ["failed/not_found", "success/-"]);
    assert_eq!(money(&house, &paid), (1, AMOUNT));
}

#[test]
fn without_a_declaration_a_barcode_waits_for_the_fence_and_the_late_window() {
    let house = House::with(Plan { not_found: false, ..Plan::default() });
    house.fault("alipay-main", "authorize", "reset_after_read");
    let paid = house.pay(&barcode(AMOUNT, "01"));
    assert_eq!(states(&paid), ["failed/closed", "success/-"], "{paid:?}");
    let at = |account: &str, operation: &str| -> Vec<i64> {
        let log = house.requests(account);
        let of = log.iter().filter(|r| r["operation"] == operation);
        of.map(|r| time(&r["at"])).collect()
    };
    let sent = at("alipay-main", "authorize");
    assert_eq!(sent.len(), 1, "it is not sent again");
    let second = at("alipay-backup", "authorize")[0];
    let closes = at("alipay-main", "close");
    let early = closes.first().expect("canceled at once");
    assert!(*early < sent[0] + WINDOW_MS, "the first cancel does not wait: it may find something");
    let believed = closes.iter().any(|c| *c >= sent[0] + WINDOW_MS && *c <= second);
    assert!(believed, "only a cancel after the window proves: {closes:?} after {sent:?}");
    assert_eq!(money(&house, &paid), (1, AMOUNT));
}

#[test]
fn without_a_declaration_an_unknown_card_payment_stays_and_is_found_by_an_operator() {
    let house = House::with(Plan { not_found: false, ..Plan::default() });
    house.fault("checkout-eu", "authorize", "hang");
    let open: Vec<String> = [tokens(AMOUNT, "EUR"), network_token(AMOUNT, "EUR")]
        .iter()
        .map(|body| id_of(&post(&house, "/v1/payments", body, 0)))
        .collect();
    stays(&house, &open, &[("processing", "provider_outcome_unknown")]);
    house.lift_faults();
    stays(&house, &open, &[("processing", "provider_outcome_unknown")]);
    let asked = house.requests("checkout-eu");
    let by_reference = asked.iter().filter(|r| r["call"] == "list" && r["answered"] == 200);
    assert!(by_reference.count() >= 2, "asked by our reference: {asked:?}");
    assert!(house.requests("checkout-us").is_empty(), "nobody else is asked");
    let (done, listed) =
        house.cli(&["payment", "list", "--in-doubt", "--json", "--config", "interlock.toml"]);
    assert!(done, "{listed}");
    for id in &open {
        assert!(listed.contains(id.as_str()), "{id} is listed in doubt:\n{listed}");
    }
    // The truth that comes late is still taken: here the operator's, who looked at the provider.
    let (done, told) = house.cli(&[
        "payment",
        "resolve",
        &open[0],
        "--outcome",
        "failed",
        "--reason",
        "no such reference",
        "--operator",
        "test",
        "--config",
        "interlock.toml",
    ]);
    assert!(done, "{told}");
    let p = house.wait_for(&open[0], PATIENCE, |p| p["status"] == "failed");
    assert_eq!((states(&p), money(&house, &p)), (vec!["failed/operator".to_owned()], (0, 0)));
}

#[test]
fn a_code_that_was_never_shown_gives_way_to_the_next_account_at_once() {
    let house = House::start();
    house.fault("alipay-main", "*", "reset_after_read");
    let shown = house.pay(&qr(AMOUNT));
    assert_eq!((shown.status, word(&shown["status"])), (201, "requires_action"), "{shown:?}");
    assert_eq!(states(&shown), ["failed/not_offered", "action/-"]);
    assert!(time_of(&shown, 1) < time_of(&shown, 0) + WINDOW_MS, "no window is waited for");
}

#[test]
fn a_code_that_was_scanned_ends_by_a_confirmed_close() {
    let house = House::start();
    let (canceled, switched) = (show(&house), show(&house));
    for p in [&canceled, &switched] {
        act(&house, p, "scan");
    }
    let ended = wish(&house, &canceled, "cancel", &json!({}));
    assert_eq!(
        (word(&ended["status"]), states(&ended)),
        ("canceled", vec!["failed/closed".into()])
    );
    let closes = house.requests("alipay-main");
    assert!(closes.iter().any(|r| r["operation"] == "close" && r["answered"] == 200));
    let body = json!({ "method": barcode(AMOUNT, "01")["method"] });
    let paid = wish(&house, &switched, "switch", &body);
    assert_eq!(word(&paid["status"]), "succeeded", "{paid:?}");
    assert_eq!(states(&paid), ["failed/closed", "success/-"]);
    assert_eq!(money(&house, &paid), (1, AMOUNT));
    let late = house.shopper("alipay-main", word(&switched["attempts"][0]["op_id"]), "pay");
    assert!(late.status >= 400, "the old code can't be paid any more: {late:?}");
}

#[test]
fn a_code_that_nobody_scanned_ends_only_by_the_providers_own_expiry() {
    let plan = Plan { offer_expiry: Some(("4s", "1s")), ..Plan::default() };
    let house = House::with(plan);
    let begun = Instant::now();
    let (canceled, switched) = (show(&house), show(&house));
    let body = json!({ "method": barcode(AMOUNT, "01")["method"] });
    let (id, other) = (id_of(&canceled), id_of(&switched));
    let asked = post(&house, &format!("/v1/payments/{id}/cancel"), &json!({}), 0);
    assert_eq!((asked.status, word(&asked["status"])), (202, "processing"), "{asked:?}");
    let asked = post(&house, &format!("/v1/payments/{other}/switch"), &body, 0);
    assert_eq!((asked.status, word(&asked["status_reason"])), (202, "closing"), "{asked:?}");
    let open = [id, other];
    while begun.elapsed() < Duration::from_millis(3_500) {
        for id in &open {
            let p = house.payment(id);
            assert_eq!(word(&p["status"]), "processing", "{p:?}");
            assert_eq!(states(&p), ["closing/-"], "nothing new while the old code can be paid");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let p = house.wait_for(&open[0], PATIENCE, |p| p["status"] == "canceled");
    assert_eq!((states(&p), money(&house, &p)), (vec!["failed/expired".to_owned()], (0, 0)));
    let p = house.wait_for(&open[1], PATIENCE, |p| p["status"] == "succeeded");
    assert_eq!(
        (states(&p), money(&house, &p)),
        (vec!["failed/expired".to_owned(), "success/-".to_owned()], (1, AMOUNT),)
    );
    assert!(time_of(&p, 1) >= time_of(&p, 0) + 5_000, "after the expiry and its margin");
}

#[test]
fn a_code_that_is_paid_while_it_is_being_closed_is_given_back_or_kept() {
    let house = House::with(Plan { offer_expiry: Some(("20s", "1s")), ..Plan::default() });
    let (canceled, switched) = (show(&house), show(&house));
    let (id, other) = (id_of(&canceled), id_of(&switched));
    post(&house, &format!("/v1/payments/{id}/cancel"), &json!({}), 0);
    let body = json!({ "method": barcode(AMOUNT, "01")["method"] });
    post(&house, &format!("/v1/payments/{other}/switch"), &body, 0);
    house.wait_until("both were asked to close", PATIENCE, |h| {
        let log = h.requests("alipay-main");
        log.iter().filter(|r| r["operation"] == "close" && r["answered"] == 200).count() >= 2
    });
    act(&house, &canceled, "pay");
    act(&house, &switched, "pay");
    let p = house.wait_for(&id, PATIENCE, |p| p["status"] == "canceled");
    assert_eq!(word(&p["attempts"][0]["state"]), "refunded", "{p:?}");
    assert_eq!(money(&house, &p), (1, 0), "canceled, so what came late is given back");
    let p = house.wait_for(&other, PATIENCE, |p| p["status"] == "succeeded");
    assert_eq!(states(&p), ["success/-"], "paid by the old code, so the new one is not tried");
    assert_eq!(money(&house, &p), (1, AMOUNT));
}

/// A code on the shopper's screen.
fn show(house: &House) -> Answer {
    let p = house.pay(&qr(AMOUNT));
    assert_eq!(word(&p["status"]), "requires_action", "{p:?}");
    p
}

fn wish(house: &House, p: &Answer, verb: &str, body: &Value) -> Answer {
    let path = format!("/v1/payments/{}/{verb}", word(&p["id"]));
    house.post(&path, &fresh("key"), body)
}

/// Watches that payments stay as they are: status and reason.
fn stays(house: &House, ids: &[String], allowed: &[(&str, &str)]) {
    let end = Instant::now() + WATCH;
    let found = |p: &Answer| (word(&p["status"]).to_owned(), word(&p["status_reason"]).to_owned());
    // Until the first send is given up, the provider is still being waited for.
    for id in ids {
        house.wait_for(id, PATIENCE, |p| p["status_reason"] == allowed[0].1);
    }
    while Instant::now() < end {
        for id in ids {
            let p = house.payment(id);
            let (status, reason) = found(&p);
            let sending = status == "processing" && states(&p) == ["started/-"];
            let as_allowed = allowed.contains(&(status.as_str(), reason.as_str()));
            assert!(as_allowed || sending, "{p:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How often money was taken for a payment, and what is kept of it.
fn money(house: &House, p: &Answer) -> (usize, i64) {
    let ledger = house.ledger();
    (charges(&ledger, &p.json), of_payment(&net(&ledger), &p.json))
}

/// State and reason of each attempt.
fn states(p: &Answer) -> Vec<String> {
    let attempts = p["attempts"].as_array().expect("attempts");
    let one = |a: &Value| format!("{}/{}", word(&a["state"]), a["reason"].as_str().unwrap_or("-"));
    attempts.iter().map(one).collect()
}

fn reasons(house: &House, p: &Answer) -> Vec<String> {
    let timeline = house.get(&format!("/v1/payments/{}/timeline", word(&p["id"])));
    let lines = timeline["data"].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(|l| l["reason"].as_str().map(str::to_owned)).collect()
}

/// When an attempt began, ms.
fn time_of(p: &Answer, attempt: usize) -> i64 {
    time(&p["attempts"][attempt]["started"])
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
