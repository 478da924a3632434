//! What a decision says: the payment's next version, what to write beside it, what to do then.

use crate::input::{Call, Subject};
use crate::payment::Payment;
use crate::refusal::Refusal;

/// The outcome of one decision.
#[derive(Debug)]
pub enum Outcome {
    /// The decision needs this request first; ask again with it in the hand.
    Need(Box<Call>),
    /// Make this durable, then carry out its effects.
    Commit(Box<Decision>),
    /// Nothing changes.
    Nothing,
    /// The input can't be accepted; nothing is journalled, nothing is sent.
    Refuse(Refusal),
}

/// A payment's next version and what follows from it.
#[derive(Debug)]
pub struct Decision {
    /// The next version; the one before it is `next.ver - 1`.
    pub next: Payment,
    /// When it must be looked at again, Unix ms, and why.
    pub due: Option<(i64, &'static str)>,
    /// Timeline entries, in order.
    pub entries: Vec<Entry>,
    /// Numbers by which others will name this payment: `(account, reference)`.
    pub references: Vec<(String, String)>,
    /// Ids of new operations.
    pub operations: Vec<String>,
    /// What happens to the order.
    pub order: OrderStep,
    /// What may be done once the version is durable.
    pub effects: Vec<Effect>,
}

/// What happens to the merchant's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderStep {
    /// Nothing.
    Keep,
    /// This payment takes it.
    Claim,
    /// This payment takes it over from one that succeeded.
    TakeOver {
        /// The one that had it.
        from: String,
    },
    /// It is free again.
    Release,
}

/// What the driver may do once a version is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the prepared request of this exchange, unless its `last_send_by` has passed.
    Send {
        /// The exchange.
        exchange: String,
    },
    /// Ask the provider, by reads alone.
    Inquire {
        /// About what.
        subject: Subject,
    },
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the payment.
    pub seq: u64,
    /// Unix ms.
    pub at_ms: i64,
    /// `merchant`, `engine`, `operator`, or an account.
    pub actor: String,
    /// What happened, in words.
    pub what: String,
    /// The named reason.
    pub reason: Option<String>,
}
