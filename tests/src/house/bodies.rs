//! Payments as a merchant writes them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// A name that no other call of this process gives.
pub fn fresh(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{n}", std::process::id())
}

/// A payment by QR code.
pub fn qr(amount: i64) -> Value {
    json!({ "amount": amount, "currency": "CNY", "method": { "type": "alipay", "flow": "qr" } })
}

/// A payment by the code on the shopper's screen; the last two digits choose what happens.
pub fn barcode(amount: i64, ending: &str) -> Value {
    let auth_code = format!("2812345678901234{ending}");
    json!({
        "amount": amount, "currency": "CNY",
        "method": { "type": "alipay", "flow": "barcode", "auth_code": auth_code },
    })
}

/// A payment by a decrypted network token with a cryptogram of its own.
pub fn network_token(amount: i64, currency: &str) -> Value {
    json!({
        "amount": amount, "currency": currency,
        "method": { "type": "card", "network_token": {
            "number": "4111111111111111", "expiry_month": 12, "expiry_year": 2031,
            "cryptogram": fresh("AgAAAcryptogram"), "eci": "05", "source": "apple_pay",
        } },
    })
}

/// A payment by stored tokens at both accounts of one processor.
pub fn tokens(amount: i64, currency: &str) -> Value {
    json!({
        "amount": amount, "currency": currency,
        "method": { "type": "card", "tokens": {
            "checkout-eu": "src_stored_eu", "checkout-us": "src_stored_us",
        } },
    })
}

/// A payment by stored tokens at two processors, for a shopper whom the merchant names.
pub fn stored(amount: i64, currency: &str, adyen: &str) -> Value {
    json!({
        "amount": amount, "currency": currency, "customer": { "id": "shopper-7" },
        "method": { "type": "card", "tokens": {
            "adyen-eu": adyen, "checkout-us": "src_stored_us",
        } },
    })
}
