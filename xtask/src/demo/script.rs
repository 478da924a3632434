//! Which account breaks, how, and when.
//!
//! Every fault ends by itself, so that a demo that dies leaves nothing broken behind.

use serde_json::{Value, json};

/// One fault in its place.
#[derive(Debug, Clone)]
pub struct Break {
    /// From the start of the traffic.
    pub at_ms: u64,
    /// How long it stands.
    pub for_ms: u64,
    /// Who breaks.
    pub account: &'static str,
    /// Which calls.
    pub operation: &'static str,
    /// How.
    pub fault: &'static str,
    /// The share of calls that meet it.
    pub probability: f64,
}

impl Break {
    /// The body of `POST /faults`.
    pub fn order(&self) -> Value {
        json!({
            "account": self.account, "operation": self.operation, "fault": self.fault,
            "probability": self.probability, "for_ms": self.for_ms,
        })
    }
}

const SCENES: [(&str, &str, &str, f64); 24] = [
    ("alipay-main", "authorize", "refuse", 1.0),
    ("checkout-eu", "authorize", "hang", 1.0),
    ("adyen-eu", "authorize", "charge_then_drop", 1.0),
    ("wechat-main", "authorize", "refuse", 1.0),
    ("checkout-us", "*", "error_before", 1.0),
    ("alipay-main", "authorize", "error_after", 1.0),
    ("checkout-eu", "authorize", "reset_after_read", 1.0),
    ("checkout-us", "authorize", "charge_then_drop", 1.0),
    ("alipay-main", "authorize", "charge_then_drop", 1.0),
    ("paypal-eu", "continue", "charge_then_drop", 1.0),
    ("checkout-eu", "authorize", "garbage", 1.0),
    ("alipay-main", "authorize", "bad_signature", 1.0),
    ("checkout-us", "authorize", "rate_limited", 1.0),
    ("wechat-main", "authorize", "charge_then_drop", 1.0),
    ("adyen-eu", "*", "error_after", 1.0),
    ("checkout-eu", "authorize", "decline_soft", 0.5),
    ("alipay-backup", "*", "hang", 0.5),
    ("alipay-main", "notify", "notify_lose", 1.0),
    ("paypal-eu", "notify", "notify_lose", 1.0),
    ("adyen-eu", "authorize", "refuse", 1.0),
    ("checkout-us", "capture", "error_after", 0.7),
    ("wechat-main", "inquire", "garbage", 0.7),
    ("checkout-eu", "refund", "charge_then_drop", 0.7),
    ("alipay-main", "inquire", "error_before", 0.7),
];

/// The scenes, spread over `seconds`; a twentieth of the time at each end is quiet.
pub fn script(seconds: u64) -> Vec<Break> {
    let whole_ms = seconds * 1000;
    let quiet_ms = whole_ms / 20;
    let slot_ms = (whole_ms - 2 * quiet_ms) / SCENES.len() as u64;
    let place = |(n, (account, operation, fault, probability)): (usize, _)| Break {
        at_ms: quiet_ms + n as u64 * slot_ms,
        for_ms: slot_ms.max(1),
        account,
        operation,
        fault,
        probability,
    };
    SCENES.into_iter().enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_follows_the_other_and_all_end_before_the_traffic() {
        for seconds in [10, 40, 300] {
            let script = script(seconds);
            for pair in script.windows(2) {
                assert!(pair[0].at_ms + pair[0].for_ms <= pair[1].at_ms);
            }
            let last = script.last().unwrap();
            assert!(last.at_ms + last.for_ms <= seconds * 1000);
        }
    }

    #[test]
    fn an_order_never_stands_for_ever() {
        assert!(script(1).iter().all(|fault| fault.order()["for_ms"].as_u64().unwrap() > 0));
    }
}
