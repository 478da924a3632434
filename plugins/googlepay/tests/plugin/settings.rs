//! What an account may say, and what is refused before it takes a payment.

use super::*;

#[test]
fn an_account_that_cannot_be_meant_is_refused() {
    for config in [
        json!({}),
        json!(null),
        json!([]),
        json!({ "merchant_id": "" }),
        json!({ "merchant_id": 1 }),
        json!({ "merchant_id": "x".repeat(300) }),
        json!({ "merchant_id": "1", "recipient_id": "merchant:1" }),
        json!({ "merchant_id": "1", "test": "yes" }),
        json!({ "merchant_id": "1", "protocols": "" }),
        json!({ "merchant_id": "1", "protocols": "ECv2,ECv3" }),
        json!({ "merchant_id": "1", "protocols": ["ECv2"] }),
        json!({ "merchant_id": "1", "root_keys": "{}" }),
        json!({ "merchant_id": "1", "root_keys": { "keys": [] } }),
        json!({ "merchant_id": "1", "gateway_merchant_id": 7 }),
    ] {
        assert!(GooglePay::open(&config).is_err(), "{config}");
    }
}

#[test]
fn a_merchants_id_is_a_recipient() {
    let config = json!({ "merchant_id": RECIPIENT.strip_prefix("merchant:").unwrap() });
    assert!(open(&account(config), token(&keys(), &wish()).token).unwrap().opened.is_some());
}

#[test]
fn the_test_environment_signs_for_one_merchant() {
    let test = account(json!({ "test": true }));
    let wish = Wish { recipient_id: "merchant:12345678901234567890", ..wish() };
    assert!(open(&test, token(&keys(), &wish).token).unwrap().opened.is_some());
}
