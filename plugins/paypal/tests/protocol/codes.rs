//! Every issue of the provider sheet, where it is at hand, against the plugin's own table.

use std::path::Path;

use interlock_plugin_api::{CaptureMode, Class, Fact, Manifest, Operation, Provider, Scope, What};
use paypal::Paypal;
use serde_json::{Value, json};

use crate::peer::{changed, heard, name_of, payment, problem, said};

/// The requests of the sheet that are ours.
const OURS: [&str; 6] = [
    "orders.create",
    "orders.capture",
    "orders.authorize",
    "authorizations.capture",
    "authorizations.void",
    "captures.refund",
];

/// The one fact of a request that is answered so.
fn refused(request: &str, status: u16, body: Value) -> Fact {
    match request {
        "orders.create" => {
            let r = payment(CaptureMode::Automatic);
            heard(Operation::Authorize, r, &[(status, body)]).remove(0)
        }
        "orders.capture" | "orders.authorize" => {
            let mode = match request {
                "orders.capture" => CaptureMode::Automatic,
                _ => CaptureMode::Manual,
            };
            let shopper = body.to_string();
            let acts = ["CONSENT_NEEDED", "ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED"];
            let readable = (400..500).contains(&status);
            if readable && acts.iter().any(|issue| shopper.contains(&format!("\"{issue}\""))) {
                // The order is asked where he is to go; here nobody knows.
                let r = crate::peer::later(Operation::Continue, mode);
                let answers = [(status, body), (503, json!({}))];
                return heard(Operation::Continue, r, &answers).remove(0);
            }
            said(Operation::Continue, mode, status, body)
        }
        "authorizations.capture" => changed(Operation::Capture, status, body),
        "authorizations.void" => changed(Operation::Void, status, body),
        _ => changed(Operation::Refund, status, body),
    }
}

fn classes(word: &str) -> &'static [Class] {
    match word {
        "unknown_outcome" => &[Class::ProviderDown],
        "config" => &[Class::Config, Class::AccountRestricted],
        "rate_limited" => &[Class::RateLimited],
        "user_data" => &[Class::Config],
        "duplicate" => &[Class::Duplicate],
        "soft_decline" => &[Class::DeclinedSoft, Class::User],
        "hard_decline" => &[Class::DeclinedHard],
        "expired" => &[Class::Expired],
        "verification_required" => &[Class::Verification],
        "refund_merchant_funds" => &[Class::AccountRestricted],
        "processing" => &[Class::Duplicate, Class::Unmapped],
        "not_found" => &[Class::Unmapped],
        _ => unreachable!("{word}"),
    }
}

#[test]
fn every_row_of_the_sheet_maps_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/providers/codes/paypal_issues.tsv");
    let Ok(sheet) = std::fs::read_to_string(path) else { return };
    let manifest = Manifest::parse(Paypal::MANIFEST.as_bytes()).unwrap();
    let (mut rows, mut judged) = (0, 0);
    for line in sheet.lines().skip(1) {
        rows += 1;
        let columns: Vec<&str> = line.split('\t').collect();
        let [issue, http, requests, class, _retry, safe] = columns[..] else {
            unreachable!("{line}")
        };
        let (issue, is_name) = match issue.split_once(' ') {
            Some((name, _)) => (name, true),
            None => (issue, false),
        };
        let documented: Vec<u16> = http.split('/').map(|status| status.parse().unwrap()).collect();
        let is_of = |ours: &str| requests == "*" || requests.split(',').any(|one| one == ours);
        let concerns_us = OURS.iter().any(|ours| is_of(ours));
        assert_eq!(manifest.contract.proves(issue), safe == "yes" && concerns_us, "{issue}");
        for ours in OURS {
            for status in [400, 401, 403, 404, 409, 422, 429, 500, 503] {
                let body = match is_name {
                    true => json!({ "name": issue, "message": "x", "debug_id": "f1" }),
                    false => problem(status, issue),
                };
                let fact = refused(ours, status, body);
                let listed = is_of(ours) && documented.contains(&status);
                let proven = listed && safe == "yes";
                assert_eq!(fact.what == What::Declined, proven, "{ours} {status} {issue}");
                assert_eq!(fact.scope, Scope::Send, "{issue}");
                let waits = listed && class == "refund_merchant_funds";
                let what = match (proven, waits) {
                    (true, _) => What::Declined,
                    (_, true) => What::Pending,
                    _ => What::Unknown,
                };
                assert_eq!(fact.what, what, "{ours} {status} {issue}");
                if listed {
                    judged += 1;
                    let known = fact.class.unwrap();
                    assert!(classes(class).contains(&known), "{ours} {issue}: {known:?}");
                    let code = fact.provider_code.as_deref();
                    assert!(code == Some(issue) || status >= 500, "{issue}: {code:?}");
                }
            }
        }
    }
    assert_eq!(rows, 218, "213 issues, four names and the token endpoint's own");
    assert!(judged > 300, "{judged}");
}

#[test]
fn an_issue_that_nobody_knows_is_never_a_refusal() {
    for issue in ["BRAND_NEW", "TRANSACTION_REFUSED2", "transaction_refused", "", "A B", "é"] {
        for ours in OURS {
            let fact = refused(ours, 422, problem(422, issue));
            assert_eq!((fact.what, fact.class), (What::Unknown, Some(Class::Unmapped)), "{issue}");
        }
    }
}

#[test]
fn a_refusal_that_contradicts_itself_proves_nothing() {
    let good = problem(422, "TRANSACTION_REFUSED");
    assert_eq!(refused("orders.capture", 422, good.clone()).what, What::Declined);
    let mut two = good.clone();
    two["details"] =
        json!([{ "issue": "TRANSACTION_REFUSED" }, { "issue": "DUPLICATE_INVOICE_ID" }]);
    let mut name = good.clone();
    name["name"] = "INTERNAL_SERVER_ERROR".into();
    let mut unnamed = good.clone();
    unnamed["name"] = Value::Null;
    let mut bare = good.clone();
    bare["details"] = json!([{ "description": "x" }]);
    for body in [two, name, unnamed, bare, json!([good])] {
        assert_eq!(refused("orders.capture", 422, body.clone()).what, What::Unknown, "{body}");
    }
    // The bare name of a gate's refusal belongs to its status alone.
    for (gate, own) in [("RATE_LIMIT_REACHED", 429), ("AUTHENTICATION_FAILURE", 401)] {
        for status in [400, 401, 403, 409, 422, 429, 500, 503] {
            let what = if status == own { What::Declined } else { What::Unknown };
            let body = json!({ "name": gate, "details": [] });
            assert_eq!(refused("captures.refund", status, body).what, what, "{gate} {status}");
        }
    }
    let token = json!({ "error": "invalid_token", "error_description": "x" });
    let fact = refused("orders.capture", 401, token);
    assert_eq!((fact.what, fact.class), (What::Unknown, Some(Class::AccountRestricted)));
    assert_eq!(fact.provider_code.as_deref(), Some("invalid_token"));
}

#[test]
fn a_question_is_never_refused() {
    for status in [400, 401, 403, 422, 429, 500] {
        for issue in ["TRANSACTION_REFUSED", "PERMISSION_DENIED", "INVALID_ACCOUNT_STATUS"] {
            let body = problem(status, issue);
            let fact = said(Operation::Inquire, CaptureMode::Automatic, status, body);
            assert_eq!(fact.what, What::Unknown, "{status} {}", name_of(status));
        }
    }
    let body = problem(403, "PERMISSION_DENIED");
    let fact = said(Operation::Inquire, CaptureMode::Automatic, 403, body);
    assert_eq!(fact.class, Some(Class::AccountRestricted), "worth an alarm");
}
