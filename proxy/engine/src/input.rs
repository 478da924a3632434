//! What can happen to a payment, and what the driver brings along when it asks for a decision.

use interlock_plugin_api::{CaptureMode, Customer, Effect, Fact, Money};

use crate::exchange::ExchangeKind;
use crate::payment::Method;
use crate::refusal::Skip;
use crate::stamp::Stamp;
use std::collections::BTreeMap;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A merchant wants to be paid.
    Submitted(Submission),
    /// The provider answered an exchange.
    Heard {
        /// Which one.
        exchange: String,
        /// The HTTP status.
        status: u16,
        /// The version of the continuations of the plugin that read it (G9).
        state_version: u32,
        /// What the plugin read in it.
        facts: Vec<Fact>,
    },
    /// The plugin wants to go on with another send of the same operation.
    GoesOn {
        /// The exchange that was answered.
        exchange: String,
        /// The next one.
        draft: Draft,
    },
    /// No answer to an exchange will come: its socket is closed.
    Lost {
        /// Which one.
        exchange: String,
        /// The socket's proof.
        sent: Sent,
        /// The named reason.
        reason: String,
    },
    /// An inquiry was answered.
    Looked {
        /// What it asked about.
        subject: Subject,
        /// When it was asked.
        asked: Asked,
        /// The version of the continuations of the plugin that read it.
        state_version: u32,
        /// What the plugin read in it; empty when nothing was heard.
        facts: Vec<Fact>,
    },
    /// A verified notification.
    Noticed {
        /// The account whose provider sent it.
        account: String,
        /// The version of the continuations of the plugin that read it.
        state_version: u32,
        /// What the plugin read in it.
        facts: Vec<Fact>,
    },
    /// The merchant asks for something.
    Merchant(Request),
    /// An operator decides.
    Operator(Verdict),
    /// This process found the payment open when it started.
    Recovered,
    /// The journal was restored from a backup; what the providers say is in the world.
    Restored,
    /// Its time has come.
    Due,
    /// Somebody waits for news: look as soon as that is useful.
    Refresh,
}

/// What a merchant wants to be paid.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The configured merchant.
    pub merchant: String,
    /// The Idempotency-Key.
    pub key: String,
    /// ISO 4217 minor units.
    pub money: Money,
    /// When the money is to be taken.
    pub capture: CaptureMode,
    /// How the shopper pays.
    pub method: Method,
    /// Methods of which the healthiest is chosen in the place of `method`; empty: that one.
    pub accept: Vec<Method>,
    /// The merchant's order.
    pub merchant_ref: Option<String>,
    /// A second payment for a paid order is meant.
    pub another: bool,
    /// For the statement.
    pub description: Option<String>,
    /// Where the shopper returns to.
    pub return_url: Option<String>,
    /// Who pays.
    pub customer: Customer,
    /// The merchant's notes.
    pub metadata: BTreeMap<String, String>,
}

/// Whether bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Proven by the socket: no byte left.
    No,
    /// Some may have.
    Maybe,
}

/// What an inquiry asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An attempt, by its index.
    Attempt(usize),
    /// An operation, by its index.
    Operation(usize),
}

/// When an inquiry was asked: only that counts, not when its answer came (G4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The payment's durable version.
    pub ver: u64,
    /// The moment.
    pub at: Stamp,
}

/// What a merchant asks for after a payment was made.
#[derive(Clone, Debug)]
pub enum Request {
    /// Take (part of) what was authorized.
    Capture {
        /// The Idempotency-Key.
        key: String,
        /// Minor units; all that is left when absent.
        amount: Option<i64>,
    },
    /// Take no money.
    Cancel {
        /// The Idempotency-Key.
        key: String,
    },
    /// Give (part of) the money back.
    Refund {
        /// The Idempotency-Key.
        key: String,
        /// Minor units; all that is left when absent.
        amount: Option<i64>,
        /// Why.
        reason: Option<String>,
    },
    /// The shopper came back from what was shown to him.
    Confirm {
        /// The Idempotency-Key.
        key: String,
        /// He brought something back, and this process holds it.
        details: bool,
    },
    /// Offer another method.
    Switch {
        /// The Idempotency-Key.
        key: String,
        /// The new method.
        method: Method,
    },
}

/// What an operator decides, with evidence.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The attempt or operation.
    pub subject: Subject,
    /// The money moved.
    pub moved: bool,
    /// The provider's number, when it moved.
    pub provider_ref: Option<String>,
    /// Why this is true.
    pub evidence: String,
    /// Who says so.
    pub operator: String,
}

/// What the driver prepared for one decision. A decision that needs more says so and is asked
/// again with it; nothing is durable until it is complete, so one input makes one version.
#[derive(Clone, Debug, Default)]
pub struct Hand {
    /// Requests that plugins have built.
    pub prepared: Vec<Prepared>,
    /// Accounts that could not be reserved or prepared, with their reasons.
    pub refused: Vec<(String, Skip)>,
    /// Calls that no plugin could build, by their op_id.
    pub unbuildable: Vec<String>,
}

impl Hand {
    /// The request that was built for this call.
    pub fn find(&self, account: &str, kind: ExchangeKind, op_id: &str) -> Option<&Draft> {
        self.prepared
            .iter()
            .find(|p| p.call.account == account && p.call.kind == kind && p.call.op_id == op_id)
            .map(|p| &p.draft)
    }
}

/// A call and what the plugin built for it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What was asked for.
    pub call: Call,
    /// What the journal must know of the request.
    pub draft: Draft,
}

/// A request that the engine needs before it can decide.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The account.
    pub account: String,
    /// What for.
    pub kind: ExchangeKind,
    /// The provider's idempotency key.
    pub op_id: String,
    /// The amount of the operation, ISO minor units.
    pub amount: Money,
    /// The attempt that it belongs to: its index.
    pub attempt: usize,
    /// The API's method type of that attempt.
    pub method: String,
    /// Its flow.
    pub flow: String,
    /// The provider's number of that attempt, as far as this decision knows it: the answer that
    /// brings it may be the one that asks for the call.
    pub provider_ref: Option<String>,
    /// Of a capture, void, refund: the reason in the merchant's words.
    pub reason: Option<String>,
    /// A first send of a payment takes a place at the account: breaker, limiter, in flight.
    pub reserve: bool,
    /// Of a re-send: the exchange to be repeated exactly.
    pub again: Option<Again>,
}

/// What a re-send must repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Again {
    /// The exchange's id.
    pub exchange: String,
    /// The envelope's `made_ms`.
    pub made_ms: i64,
    /// The envelope's entropy.
    pub entropy: String,
}

/// What the journal keeps of a request that a plugin built.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The manifest's name of the send.
    pub purpose: String,
    /// Offer or move.
    pub effect: Effect,
    /// What the plugin keeps until the answer.
    pub continuation: String,
    /// SHA-256 of the body, hexadecimal.
    pub digest: String,
    /// The envelope's `made_ms`.
    pub made_ms: i64,
    /// The envelope's entropy.
    pub entropy: String,
    /// An offer that the plugin made by itself: nothing is sent, the shopper carries it there.
    pub said: Option<Fact>,
}

/// What the providers say of a payment, taken when nothing of the time before the restoration could
/// arrive any more.
#[derive(Clone, Debug)]
pub struct Statement {
    /// When the first process after the restoration began: what was sent before had left by then.
    pub since: Stamp,
    /// Every charge and operation under a number of the payment.
    pub lines: Vec<Line>,
}

/// One line of a provider's statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The account.
    pub account: String,
    /// Our number of the payment at that provider.
    pub number: String,
    /// Of a capture, void or refund: its kind, and our number of it.
    pub operation: Option<(ExchangeKind, String)>,
    /// What became of it, with the provider's numbers and amounts.
    pub fact: Fact,
}
