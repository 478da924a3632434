//! What is stored of a capture, void or refund of one attempt.

use serde::{Deserialize, Serialize};

use crate::exchange::{ExchangeKind, Track};

/// A capture, void or refund.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// `cap_`, `void_` or `ref_` and 26 characters.
    pub id: String,
    /// Capture, Void or Refund.
    pub kind: ExchangeKind,
    /// The attempt that it belongs to.
    pub attempt: usize,
    /// ISO 4217 minor units.
    pub amount: i64,
    /// Who asked for it.
    pub origin: Origin,
    /// The merchant's Idempotency-Key that made it.
    pub key: Option<String>,
    /// Why, in the merchant's words.
    pub reason: Option<String>,
    /// Unix ms.
    pub created_ms: i64,
    /// Our number at the provider.
    pub op_id: String,
    /// The provider's number of it.
    pub operation_ref: Option<String>,
    /// Where it stands.
    pub state: OperationState,
    /// What was sent for it.
    pub track: Track,
    /// A failure notice was heard in this version; it may have overtaken an answer.
    pub failed_ver: Option<u64>,
    /// The version in which it was done.
    pub done_ver: Option<u64>,
    /// When it became known to be done, Unix ms. Nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_ms: Option<i64>,
    /// The provider was heard to accept it and to decide later.
    pub accepted: bool,
    /// The provider wants it asked again under the same number.
    pub again: bool,
    /// Tries are exhausted; an operator must look.
    pub manual: bool,
    /// The provider's code of a refusal.
    pub provider_code: Option<String>,
    /// An operator said that it had moved no money.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
}

/// What older rows hold as the provider's code where an operator had denied an operation.
const DENIED: &str = "operator";

impl Operation {
    /// An operator said that it had moved no money.
    pub fn was_denied(&self) -> bool {
        self.denied || self.provider_code.as_deref() == Some(DENIED)
    }

    /// What was said turned out to be wrong.
    pub(crate) fn not_denied(&mut self) {
        self.denied = false;
        self.provider_code.take_if(|code| code == DENIED);
    }
}

/// Who asked for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The merchant.
    Merchant,
    /// Us: a charge that must not be kept, or a void after a cancel.
    Resolver,
    /// Somebody at the provider's portal.
    External,
}

/// The states of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Its send may be on the wire.
    Started,
    /// The provider accepted and will decide later.
    Pending,
    /// Sent, and no definite answer.
    Ambiguous,
    /// Ambiguous, and nothing will ever be sent for it again.
    Fenced,
    /// Done.
    Done,
    /// Proven not to have happened.
    Rejected,
    /// Done, and undone by the provider.
    Reversed,
}

impl OperationState {
    /// The word in timeline and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Pending => "pending",
            Self::Ambiguous => "ambiguous",
            Self::Fenced => "fenced",
            Self::Done => "done",
            Self::Rejected => "rejected",
            Self::Reversed => "reversed",
        }
    }

    /// Not yet known.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Started | Self::Pending | Self::Ambiguous | Self::Fenced)
    }

    /// It takes part in the sums that guard captures and refunds.
    pub fn counts(self) -> bool {
        !matches!(self, Self::Rejected | Self::Reversed)
    }
}
