//! Every row of the provider sheet, where it is at hand, against the plugin's own table.

use std::path::Path;

use interlock_plugin_api::{Class, Fact, Manifest, Operation, Provider, Scope, What};
use wechatpay::WeChatPay;

use crate::peer::{self, failed, operations};

/// The codes that are confirmed for an order that is made. Of payments by code and of refunds
/// nothing is, but that a wrong signature moves nothing.
const CREATE: [&str; 5] =
    ["APPID_MCHID_NOT_MATCH", "MCH_NOT_EXISTS", "SIGN_ERROR", "NO_AUTH", "FREQUENCY_LIMITED"];
const CREATES: [&str; 4] = ["qr", "jsapi", "app", "h5"];

fn expected(class: &str) -> &'static [Class] {
    match class {
        "user_data" | "config" => &[Class::Config],
        "duplicate" => &[Class::Duplicate],
        "soft_decline" => &[Class::User, Class::DeclinedSoft],
        "hard_decline" => &[Class::DeclinedHard],
        "unknown_outcome" => &[Class::ProviderDown],
        "rate_limited" => &[Class::RateLimited],
        "refund_merchant_funds" => &[Class::AccountRestricted, Class::User],
        _ => &[Class::Unmapped],
    }
}

#[test]
fn every_row_of_the_sheet_maps_as_its_mark_allows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/providers/codes/wechat_codes.tsv");
    let Ok(sheet) = std::fs::read_to_string(path) else { return };
    let manifest = Manifest::parse(WeChatPay::MANIFEST.as_bytes()).unwrap();
    let mut rows = 0;
    for line in sheet.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (statuses, code, class) = (columns[0], columns[1], columns[3]);
        rows += 1;
        // What is no code is a state, or the lack of a body.
        if code.contains(['=', '(']) {
            continue;
        }
        for status in statuses.split('/').map(|status| status.parse::<u16>().unwrap()) {
            // A 202 is signed, or it is nothing.
            if status == 202 {
                continue;
            }
            for flow in CREATES.iter().chain(&["barcode"]) {
                let fact = failed(Operation::Authorize, flow, status, code);
                let confirmed = CREATE.contains(&code) && *flow != "barcode" && status != 404;
                let refused = confirmed || code == "SIGN_ERROR";
                assert_eq!(fact.what == What::Declined, refused, "{flow} {code}");
                assert_eq!(fact.provider_code.as_deref(), Some(code));
                assert_eq!(fact.scope, Scope::Send, "{code}");
                assert!(expected(class).contains(&fact.class.unwrap()), "{code} {:?}", fact.class);
                if class == "soft_decline" {
                    assert!(fact.advice.is_some(), "a shopper is told what to do: {code}");
                }
            }
            let refund = failed(Operation::Refund, "qr", status, code);
            let waits = code == "NOT_ENOUGH";
            assert_eq!(refund.what == What::Declined, code == "SIGN_ERROR", "{code}");
            assert_eq!(refund.what == What::Pending, waits, "{code}");
            assert!(!waits || refund.class == Some(Class::AccountRestricted));
            for (op, flow, absent) in [
                (Operation::Inquire, "qr", "ORDER_NOT_EXIST"),
                (Operation::InquireOperation, "qr", "RESOURCE_NOT_EXISTS"),
                (Operation::Close, "qr", "ORDER_NOT_EXIST"),
            ] {
                let fact = failed(op, flow, status, code);
                assert_eq!(fact.what == What::Unknown, code != absent, "{op:?} {code}");
            }
        }
        assert_eq!(manifest.contract.proves(code), CREATE.contains(&code), "{code}");
    }
    assert_eq!(rows, 32, "the whole sheet was read");
}

#[test]
fn the_spelling_drifts_and_is_reported_as_it_came() {
    for (code, what) in [
        ("SIGNERROR", What::Declined),
        ("NOAUTH", What::Declined),
        ("MCHNOTEXISTS", What::Declined),
        // A third spelling was never seen.
        ("SIGN__ERROR", What::Unknown),
        ("_SIGN_ERROR", What::Unknown),
    ] {
        let status = match code {
            "NOAUTH" => 403,
            "MCHNOTEXISTS" => 400,
            _ => 401,
        };
        let fact = failed(Operation::Authorize, "qr", status, code);
        assert_eq!((fact.what, fact.provider_code.as_deref()), (what, Some(code)));
        assert_eq!(fact.class, Some(Class::Config));
    }
    let gone = |op, code| failed(op, "qr", 404, code).what;
    assert_eq!(gone(Operation::Inquire, "ORDERNOTEXIST"), What::NotFound);
    assert_eq!(gone(Operation::Close, "ORDERNOTEXIST"), What::ClosedNothingFound);
    assert_eq!(gone(Operation::InquireOperation, "RESOURCENOTEXISTS"), What::NotFound);
    assert_eq!(failed(Operation::Refund, "qr", 403, "NOTENOUGH").what, What::Pending);
    let paid = failed(Operation::Close, "qr", 400, "ORDERPAID");
    assert_eq!((paid.what, paid.class), (What::Unknown, Some(Class::Duplicate)));
}

#[test]
fn a_code_that_nobody_knows_is_never_a_decline() {
    for (op, request, purpose) in operations() {
        for code in ["BRAND_NEW", "SIGN_ERROR_X", "NO_AUTHORITY", "X"] {
            for status in [400, 401, 403, 404, 409, 422] {
                let fact = failed(op, &request.flow, status, code);
                assert_eq!(fact.what, What::Unknown, "{purpose} {code}");
                assert_eq!(fact.class, Some(Class::Unmapped), "{purpose} {code}");
            }
        }
    }
}

#[test]
fn a_code_with_another_status_contradicts_itself() {
    for code in CREATE {
        let own: u16 = match code {
            "SIGN_ERROR" => 401,
            "NO_AUTH" => 403,
            "FREQUENCY_LIMITED" => 429,
            _ => 400,
        };
        for status in [400, 401, 403, 404, 409, 422, 429, 500, 502, 503] {
            let fact = failed(Operation::Authorize, "qr", status, code);
            assert_eq!(fact.what == What::Declined, status == own, "{code} {status}");
            assert_eq!(fact.class == Some(Class::ProviderDown), status >= 500, "{code}");
        }
    }
    for status in [400, 403, 410, 500] {
        let fact = failed(Operation::Inquire, "qr", status, "ORDER_NOT_EXIST");
        assert_eq!(fact.what, What::Unknown, "{status}");
        assert_ne!(failed(Operation::Refund, "qr", 400, "NOT_ENOUGH").what, What::Pending);
    }
}

#[test]
fn an_error_without_a_code_is_known_by_its_status_alone() {
    for (op, request, purpose) in operations() {
        let down = |status| {
            let body = b"<html><body>502 Bad Gateway</body></html>";
            let fact: Fact = peer::answered(op, request.clone(), status, &Vec::new(), body);
            assert_eq!(fact.what, What::Unknown, "{purpose} {status}");
            fact.class.unwrap()
        };
        assert_eq!(down(400), Class::Unmapped);
        assert_eq!(down(429), Class::RateLimited);
        for status in [500, 502, 503, 504, 599] {
            assert_eq!(down(status), Class::ProviderDown, "{purpose}");
        }
    }
}
