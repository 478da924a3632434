//! Every code of the provider sheet, where it is at hand, against the plugin's own table.

use std::path::Path;

use alipay::Alipay;
use interlock_plugin_api::{Class, Fact, Manifest, Operation, Provider, Scope, What};
use serde_json::json;

use crate::peer::said;

fn coded(op: Operation, flow: &str, code: &str) -> Fact {
    let (outer, sub) = code.split_once(':').unwrap_or_else(|| {
        if code.bytes().all(|b| b.is_ascii_digit()) { (code, "") } else { ("40004", code) }
    });
    let node = json!({
        "code": outer, "msg": "x", "sub_code": sub, "out_trade_no": "op1234567890",
    });
    said(op, flow, node)
}

#[test]
fn every_row_of_the_sheet_maps_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/providers/codes/alipay_codes.tsv");
    let Ok(sheet) = std::fs::read_to_string(path) else { return };
    let manifest = Manifest::parse(Alipay::MANIFEST.as_bytes()).unwrap();
    let mut rows = 0;
    for line in sheet.lines().skip(1) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap();
        let (code, class, _retry, safe) = (next(), next(), next(), next());
        for flow in ["barcode", "qr"] {
            let fact = coded(Operation::Authorize, flow, code);
            assert_eq!(fact.what == What::Declined, safe == "yes", "{code}");
            assert_eq!(fact.provider_code.as_deref(), Some(code));
            assert_eq!(fact.scope, Scope::Send, "{code}");
            let expected: &[Class] = match class {
                "unknown_outcome" => &[Class::ProviderDown],
                "config" => &[Class::Config, Class::AccountRestricted],
                "merchant_limit" => &[Class::AccountRestricted],
                "rate_limited" => &[Class::RateLimited],
                "user_data" => &[Class::Config],
                "duplicate" => &[Class::Duplicate],
                "soft_decline" => &[Class::User, Class::DeclinedSoft],
                "hard_decline" => &[Class::DeclinedHard, Class::DeclinedFraud],
                "verification_required" => &[Class::Verification],
                _ => &[],
            };
            assert!(expected.is_empty() || expected.contains(&fact.class.unwrap()), "{code}");
            if safe == "yes" && class != "config" {
                let advised = fact.advice.is_some();
                assert!(advised, "a shopper is told what to do: {code}");
            }
        }
        let refund = coded(Operation::Refund, "barcode", code);
        let gate = code.contains(':') && safe == "yes";
        let refused = gate || ["refund_user_data", "refund_hard"].contains(&class);
        assert_eq!(refund.what == What::Declined, refused, "{code}");
        assert_eq!(refund.what == What::Pending, class == "refund_merchant_funds", "{code}");
        assert_eq!(manifest.contract.proves(code), safe == "yes" || refused, "{code}");
        for op in [Operation::Inquire, Operation::InquireOperation, Operation::Close] {
            let fact = coded(op, "barcode", code);
            let absent = code.ends_with("TRADE_NOT_EXIST");
            assert_eq!(fact.what == What::Unknown, !absent, "{op:?} {code}");
        }
        rows += 1;
    }
    assert!(rows > 100, "the sheet was read: {rows}");
}

#[test]
fn a_code_that_nobody_knows_is_never_a_decline() {
    let codes = ["ACQ.BRAND_NEW", "ACQ.PAYMENT_FAIL2", "acq.payment_fail", "PAYMENT_FAIL", "99999"];
    for code in codes {
        for (op, flow) in [(Operation::Authorize, "barcode"), (Operation::Refund, "barcode")] {
            let fact = coded(op, flow, code);
            assert_eq!((fact.what, fact.class), (What::Unknown, Some(Class::Unmapped)), "{code}");
        }
    }
}

#[test]
fn a_refusal_under_another_outer_code_contradicts_itself() {
    for outer in ["10000", "10003", "20000", "40002", "", "x"] {
        let node = json!({
            "code": outer, "sub_code": "ACQ.PAYMENT_FAIL", "out_trade_no": "op1234567890",
            "total_amount": "88.88",
        });
        let fact = said(Operation::Authorize, "barcode", node);
        let pending = outer == "10003";
        let expected = if pending { What::Pending } else { What::Unknown };
        assert_eq!(fact.what, expected, "{outer}");
    }
}
