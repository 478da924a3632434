//! What is stored of a payment: the one row on which every decision rests.
//!
//! A payment has attempts (one per account that was tried) and operations (captures, voids,
//! refunds of one attempt). Both are moved by exchanges: single requests that may have an effect,
//! each durable before it is sent. Enumerations are closed: a word on disk that this build does
//! not know is an error, never a guess.

use std::collections::BTreeMap;

use interlock_plugin_api::{
    Action, Advice, CaptureMode, Class, CredentialForm, Currency, Customer, Fact, Money,
    OfferExpiry,
};
use serde::{Deserialize, Serialize};

use crate::exchange::{Exchange, ExchangeKind, Track};
use crate::operation::{Operation, OperationState, Origin};
use crate::stamp::Stamp;

/// One payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// `pay_` and 26 characters.
    pub id: String,
    /// The configured merchant.
    pub merchant: String,
    /// The Idempotency-Key that made it.
    pub key: String,
    /// Goes up by one with every durable change.
    pub ver: u64,
    /// Unix ms.
    pub created_ms: i64,
    /// What is to be paid, ISO 4217 minor units.
    pub money: Money,
    /// When the money is to be taken.
    pub capture: CaptureMode,
    /// How the shopper pays, without the credential.
    pub method: Method,
    /// The merchant's own number of the order.
    pub merchant_ref: Option<String>,
    /// For the shopper's statement or wallet page.
    pub description: Option<String>,
    /// Where the shopper returns to.
    pub return_url: Option<String>,
    /// Who pays.
    pub customer: Customer,
    /// The merchant's own notes.
    pub metadata: BTreeMap<String, String>,
    /// The route that matched.
    pub route: String,
    /// After this no other account is tried, Unix ms.
    pub failover_until_ms: i64,
    /// One for each account that was tried, in order.
    pub attempts: Vec<Attempt>,
    /// Captures, voids and refunds, in order.
    pub operations: Vec<Operation>,
    /// The merchant wants no money to be taken.
    pub cancel_requested: bool,
    /// The shopper wants another method; offered once the old one is closed.
    pub switch: Option<Method>,
    /// What the merchant was told for good. Never changes (I9).
    pub settled: Option<Settled>,
    /// The journal was restored from a backup and may have lost attempts of it: their numbers lead
    /// here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// The number of the last timeline entry.
    pub seq: u64,
}

/// The final answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// The money is taken.
    Succeeded,
    /// No money is taken and none will be kept.
    Failed,
    /// As failed, by the merchant's wish.
    Canceled,
}

/// How the shopper pays; never holds the credential itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// `alipay`, `card`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// `qr`, `barcode`, ..., or `token`.
    pub flow: String,
    /// The form of the credential.
    pub form: CredentialForm,
    /// Of a credential that is bound to accounts: which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_accounts: Vec<String>,
}

impl Method {
    /// Whether only the accounts that are named can use the credential: a processor's own token,
    /// or a wallet's that is encrypted to it.
    pub fn is_bound(&self) -> bool {
        matches!(self.form, CredentialForm::AccountToken | CredentialForm::EncryptedWalletToken)
    }
}

/// One account tried for a payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// `att_` and 26 characters.
    pub id: String,
    /// The account.
    pub account: String,
    /// Our number at the provider: its idempotency key.
    pub op_id: String,
    /// The API's method type that was asked for.
    pub method: String,
    /// The flow that was asked for.
    pub flow: String,
    /// Unix ms.
    pub started_ms: i64,
    /// Where it stands.
    pub state: AttemptState,
    /// What was sent for it, and its doubts.
    pub track: Track,
    /// The provider's number of the payment.
    pub provider_ref: Option<String>,
    /// What we showed to the shopper; once shown it is payable until proven closed or expired.
    pub offer: Option<Offer>,
    /// The provider has been seen to know the order.
    pub order_seen: bool,
    /// A success that waits for an inquiry, because a close was sent.
    pub unconfirmed: Option<Unconfirmed>,
    /// The version in which it became due to be given back: only an inquiry asked after it may
    /// start the refund.
    pub refund_due_ver: Option<u64>,
    /// Another attempt won: never re-sent, and its money is given back.
    pub loser: bool,
    /// Tries are exhausted; an operator must look. Truth is still accepted.
    pub manual: bool,
    /// Something an operator should know, by its named reason.
    pub alert: Option<String>,
    /// What the shopper himself paid, minor units, where coupons or subsidies paid the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_amount: Option<i64>,
    /// When it became known that the money was taken, Unix ms. Nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_ms: Option<i64>,
    /// A second charge found under another attempt's number.
    pub second_charge_of: Option<usize>,
    /// Refunds made elsewhere that can't be booked yet; at most [`OUTSIDE_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Fact>,
}

/// How many refunds made elsewhere an attempt keeps until they can be booked.
pub const OUTSIDE_MAX: usize = 8;

/// The states of SAFETY section 2.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum AttemptState {
    /// An exchange is durable; its send may be on the wire.
    Started,
    /// The shopper must act.
    Action,
    /// The provider accepted and will decide later.
    Pending,
    /// Sent, and no definite answer.
    Ambiguous,
    /// Ambiguous, and durable: nothing will ever be sent for it again.
    Fenced,
    /// A close was asked for and is not confirmed.
    Closing {
        /// Why.
        why: CloseReason,
    },
    /// The provider holds or took the money.
    Success {
        /// Taken, not only held.
        captured: bool,
    },
    /// Proven: no money moved and none can.
    Failed {
        /// What proved it.
        reason: FailReason,
        /// The provider's class, if it said one.
        class: Option<Class>,
        /// The provider's code.
        provider_code: Option<String>,
        /// What the shopper can do.
        advice: Option<Advice>,
    },
    /// Money moved and our close or void gave it back.
    Reversed,
    /// A success that must not be kept.
    RefundDue {
        /// Only held, so that a void gives it back.
        authorized: bool,
    },
    /// A success that was given back.
    Refunded,
}

impl AttemptState {
    /// The word in API, timeline, metrics and console.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Action => "action",
            Self::Pending => "pending",
            Self::Ambiguous => "ambiguous",
            Self::Fenced => "fenced",
            Self::Closing { .. } => "closing",
            Self::Success { .. } => "success",
            Self::Failed { .. } => "failed",
            Self::Reversed => "reversed",
            Self::RefundDue { .. } => "refund_due",
            Self::Refunded => "refunded",
        }
    }

    /// Nothing more can come of it that the merchant was not told: the condition of T12.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Reversed | Self::Refunded)
    }

    /// Money is or was at the provider.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success { .. })
    }

    /// The provider took the money, whether it is to be kept or not.
    pub fn took(&self) -> bool {
        matches!(self, Self::Success { captured: true } | Self::RefundDue { authorized: false })
    }

    /// The provider said no.
    pub fn is_declined(&self) -> bool {
        matches!(self, Self::Failed { reason: FailReason::Declined, .. })
    }

    /// Its outcome is unknown.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::Ambiguous | Self::Fenced)
    }
}

/// Why a close was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Another method is to be offered.
    Reoffer,
    /// The merchant cancelled.
    Cancel,
    /// Another attempt won.
    Loser,
    /// It ran out of time.
    Expiry,
    /// To end a doubt.
    Doubt,
}

/// What proved that an attempt moved no money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// No byte left.
    NotSent,
    /// An offer that was never shown.
    NotOffered,
    /// A definite decline.
    Declined,
    /// Not found, asked after the fence and the late window.
    NotFound,
    /// A confirmed close.
    Closed,
    /// The offer lapsed.
    Expired,
    /// An operator's evidence.
    Operator,
}

impl FailReason {
    /// The word in API, timeline and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::NotOffered => "not_offered",
            Self::Declined => "declined",
            Self::NotFound => "not_found",
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Operator => "operator",
        }
    }
}

/// What the shopper was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// What to show.
    pub action: Action,
    /// Unix ms.
    pub made_ms: i64,
    /// When its own process saw it made: the provider's expiry is counted from here.
    pub made: Stamp,
}

/// A success that may have been given back by one of our closes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// The fact that said so.
    pub fact: Fact,
    /// The version that made it durable: only an inquiry asked after it may clear it.
    pub ver: u64,
}

impl Attempt {
    /// How often a request that takes money may have left.
    pub fn sends(&self) -> u32 {
        self.track.takers().map(|x| x.sends).sum()
    }

    /// How long to wait before the end of what was shown may be believed, ms. What the shopper
    /// carries says itself how long the provider takes it.
    pub(crate) fn offer_life_ms(&self, expiry: OfferExpiry) -> u64 {
        let carried = self.offer.as_ref().filter(|_| self.track.takers().any(|x| x.by_shopper));
        let said = carried.and_then(|o| Some(o.action.expires_ms?.saturating_sub(o.made_ms)));
        let said = said.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        expiry.after_ms.max(said).saturating_add(expiry.margin_ms)
    }

    /// Nothing more can come of it that the merchant was not told, and no success waits for its
    /// confirmation: only then may another account be tried or a failure be told.
    pub fn is_over(&self) -> bool {
        self.state.is_over() && self.unconfirmed.is_none()
    }

    /// The exchange that began it.
    pub fn first(&self) -> Option<&Exchange> {
        self.track.of(ExchangeKind::Authorize).next()
    }
}

impl Payment {
    /// The attempt that holds the payment's money.
    pub fn winner(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.state.is_success())
    }

    /// The index of the attempt that holds the payment's money.
    pub fn winner_index(&self) -> Option<usize> {
        self.attempts.iter().position(|a| a.state.is_success())
    }

    /// The attempt whose number or provider's number this is.
    pub fn attempt_of(&self, reference: &str) -> Option<usize> {
        self.attempts
            .iter()
            .position(|a| a.op_id == reference || a.provider_ref.as_deref() == Some(reference))
    }

    /// The operation whose number or provider's number this is.
    pub fn operation_of(&self, reference: &str) -> Option<usize> {
        self.operations
            .iter()
            .position(|o| o.op_id == reference || o.operation_ref.as_deref() == Some(reference))
    }

    /// What was taken and not undone, minor units.
    pub fn captured(&self) -> i64 {
        let Some(winner) = self.winner_index() else { return 0 };
        self.captured_by(winner)
    }

    /// What one attempt took, minor units.
    pub fn captured_by(&self, attempt: usize) -> i64 {
        let taken = |a: &Attempt| {
            matches!(
                a.state,
                AttemptState::Success { captured: true }
                    | AttemptState::RefundDue { authorized: false }
                    | AttemptState::Refunded
            )
        };
        let manual: i64 = self.sum(ExchangeKind::Capture, attempt, |s| s == OperationState::Done);
        match self.attempts.get(attempt) {
            Some(a) if taken(a) && self.capture == CaptureMode::Automatic => self.money.amount,
            Some(a) if taken(a) && manual == 0 => self.money.amount,
            _ => manual,
        }
    }

    /// What the merchant's customers got back, minor units.
    pub fn refunded(&self) -> i64 {
        // What is given back of a charge that is not kept is nobody's refund.
        let kept = |n: usize| self.attempts.get(n).is_some_and(|a| a.state.is_success());
        self.operations
            .iter()
            .filter(|o| o.kind == ExchangeKind::Refund && o.origin != Origin::Resolver)
            .filter(|o| o.state == OperationState::Done && kept(o.attempt))
            .map(|o| o.amount)
            .sum()
    }

    /// The sum of an attempt's operations of a kind in the states that `counted` admits. Refunds
    /// of charges that must not be kept are not the merchant's and do not count.
    pub fn sum(
        &self,
        kind: ExchangeKind,
        attempt: usize,
        counted: impl Fn(OperationState) -> bool,
    ) -> i64 {
        self.operations
            .iter()
            .filter(|o| o.kind == kind && o.attempt == attempt && counted(o.state))
            .filter(|o| kind != ExchangeKind::Refund || o.origin != Origin::Resolver)
            .map(|o| o.amount)
            .sum()
    }

    /// The currency.
    pub fn currency(&self) -> Currency {
        self.money.currency
    }
}
