//! What the merchant is told: six words that any client of a payments API knows, and why.

use interlock_plugin_api::{Advice, CaptureMode, Class};

use crate::exchange::ExchangeKind;
use crate::operation::OperationState;
use crate::payment::{Attempt, AttemptState, FailReason, Payment, Settled};

/// A payment's status in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Wait; do not charge again.
    Processing,
    /// The shopper must act.
    RequiresAction,
    /// Authorized; capture it.
    RequiresCapture,
    /// The money is taken.
    Succeeded,
    /// No money is taken and none will be kept.
    Failed,
    /// As failed, by the merchant's wish.
    Canceled,
}

impl Status {
    /// The word in API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::RequiresAction => "requires_action",
            Self::RequiresCapture => "requires_capture",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether the merchant's request can be answered with it: nothing more comes by itself soon.
    pub fn answers(self) -> bool {
        self != Self::Processing
    }
}

/// Why a payment is `processing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Sent, and no definite answer: it may have been paid.
    ProviderOutcomeUnknown,
    /// The provider accepted and will decide later.
    ProviderPending,
    /// An offer is being closed.
    Closing,
    /// An operator must look.
    UnderReview,
}

impl Reason {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderOutcomeUnknown => "provider_outcome_unknown",
            Self::ProviderPending => "provider_pending",
            Self::Closing => "closing",
            Self::UnderReview => "under_review",
        }
    }
}

/// The status and, while `processing`, why.
pub fn status(p: &Payment) -> (Status, Option<Reason>) {
    match p.settled {
        Some(Settled::Succeeded) => return (Status::Succeeded, None),
        Some(Settled::Failed) => return (Status::Failed, None),
        Some(Settled::Canceled) => return (Status::Canceled, None),
        None => {}
    }
    if let Some(winner) = p.winner_index() {
        if p.attempts[winner].manual {
            return (Status::Processing, Some(Reason::UnderReview));
        }
        let moving = p.operations.iter().any(|o| o.attempt == winner && o.state.is_open());
        if moving || p.cancel_requested || p.capture == CaptureMode::Automatic {
            return (Status::Processing, Some(Reason::ProviderPending));
        }
        return (Status::RequiresCapture, None);
    }
    let live = || p.attempts.iter().filter(|a| !a.is_over());
    if live().any(|a| a.state == AttemptState::Action) && !p.cancel_requested {
        return (Status::RequiresAction, None);
    }
    let reason = if live().any(|a| a.manual) {
        Reason::UnderReview
    } else if live()
        .any(|a| a.state.in_doubt() || a.unconfirmed.is_some() || a.track.fence.is_some())
    {
        Reason::ProviderOutcomeUnknown
    } else if live().any(|a| matches!(a.state, AttemptState::Closing { .. })) {
        Reason::Closing
    } else {
        Reason::ProviderPending
    };
    (Status::Processing, Some(reason))
}

/// Whether any part of the payment's outcome is unknown: what operators look at first.
pub fn in_doubt(p: &Payment) -> bool {
    let attempt = p.attempts.iter().any(|a| {
        let closing = matches!(a.state, AttemptState::Closing { .. });
        let fenced_close = closing && a.track.fence.is_some();
        a.manual
            || a.state.in_doubt()
            || fenced_close
            || a.unconfirmed.is_some()
            || matches!(a.state, AttemptState::RefundDue { .. })
    });
    let operation = |s| matches!(s, OperationState::Ambiguous | OperationState::Fenced);
    attempt || p.operations.iter().any(|o| operation(o.state))
}

/// The final answer that the payment's state admits, if it is certain.
pub(crate) fn settled(p: &Payment) -> Option<Settled> {
    if let Some(winner) = p.winner() {
        let captured = winner.state == AttemptState::Success { captured: true };
        return (captured && winner.unconfirmed.is_none()).then_some(Settled::Succeeded);
    }
    let over = !p.attempts.is_empty() && p.attempts.iter().all(Attempt::is_over);
    if !over || p.switch.is_some() {
        return None;
    }
    let voided = p
        .operations
        .iter()
        .any(|o| o.kind == ExchangeKind::Void && o.state == OperationState::Done);
    Some(if p.cancel_requested || voided { Settled::Canceled } else { Settled::Failed })
}

/// Why a payment failed, for the merchant and the shopper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// One word.
    pub code: &'static str,
    /// The class of the last refusal.
    pub class: Option<Class>,
    /// The provider's code.
    pub provider_code: Option<&'a str>,
    /// What the shopper can do.
    pub advice: Advice,
}

/// The failure of the attempt that says most: a refusal before a technical reason.
pub fn failure(p: &Payment) -> Option<Failure<'_>> {
    let failed = p.attempts.iter().rev().filter_map(|a| match &a.state {
        AttemptState::Failed { reason, class, provider_code, advice } => {
            Some((*reason, *class, provider_code.as_deref(), *advice))
        }
        AttemptState::Reversed | AttemptState::Refunded => {
            Some((FailReason::Closed, None, None, None))
        }
        _ => None,
    });
    let (reason, class, provider_code, advice) =
        failed.min_by_key(|(reason, ..)| *reason != FailReason::Declined)?;
    let code = match (reason, class) {
        (FailReason::Declined, Some(Class::DeclinedFraud)) => "declined_fraud",
        (FailReason::Declined, Some(Class::User)) => "declined_user",
        (FailReason::Declined, Some(Class::Verification)) => "verification_failed",
        (FailReason::Declined, Some(Class::DeclinedSoft | Class::DeclinedHard)) => "declined",
        (FailReason::Declined, Some(Class::Expired)) | (FailReason::Expired, _) => "expired",
        (FailReason::Declined, _) => "provider_refused",
        (FailReason::NotSent | FailReason::NotOffered, _) => "provider_unreachable",
        (FailReason::NotFound | FailReason::Closed | FailReason::Operator, _) => "not_completed",
    };
    let advice = advice.unwrap_or(match reason {
        FailReason::Declined | FailReason::Expired => Advice::OtherMethod,
        _ => Advice::Retry,
    });
    Some(Failure { code, class, provider_code, advice })
}
