//! What goes wrong at the first account: each fault as the proxy in front of it meets it.
//!
//! From outside nobody can tell whether a request that went unanswered was executed. So in every
//! fault that leaves it open, about half of the requests were: a proxy must not depend on luck.

use serde_json::{Value, json};

/// One fault of the first account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens.
    Refused,
    /// Every request is answered with a 500 and none is executed.
    Error,
    /// No request is answered; half of them are executed.
    Hang,
    /// Three in ten are answered with a 500; half of these were executed.
    SomeErrors,
    /// Every connection is reset after the request was read; half were executed.
    Reset,
    /// Every connection is reset after the request was executed.
    ChargeThenDrop,
}

/// In the order of the table.
pub const FAULTS: [Fault; 6] = [
    Fault::Refused,
    Fault::Error,
    Fault::SomeErrors,
    Fault::Hang,
    Fault::Reset,
    Fault::ChargeThenDrop,
];

impl Fault {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Error => "500, nothing charged",
            Self::SomeErrors => "30 % errors",
            Self::Hang => "hang",
            Self::Reset => "reset after read",
            Self::ChargeThenDrop => "charge, then drop",
        }
    }

    /// Whether money moves at the broken account although it does not say so.
    pub fn always_charges(self) -> bool {
        self == Self::ChargeThenDrop
    }

    /// What the sandbox is told. The whole account is ill, not only its way to take payments: who
    /// asks it about one meets the same. The first order that matches and whose chance says yes
    /// is met.
    pub fn orders(self, account: &str) -> Vec<Value> {
        let order = |fault: &str, probability: f64| {
            json!({
                "account": account, "operation": "*", "fault": fault,
                "probability": probability, "ms": 4_000,
            })
        };
        match self {
            Self::Refused => vec![order("refuse", 1.0)],
            Self::Error => vec![order("error_before", 1.0)],
            // The second coin is thrown for the 85 % that the first one spared.
            Self::SomeErrors => vec![order("error_after", 0.15), order("error_before", 0.176)],
            Self::Hang => vec![order("slow", 0.5), order("hang", 1.0)],
            Self::Reset => vec![order("charge_then_drop", 0.5), order("reset_after_read", 1.0)],
            Self::ChargeThenDrop => vec![order("charge_then_drop", 1.0)],
        }
    }
}
