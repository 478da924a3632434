//! The unsafe rules that others use, as switches, so that the proof can show that it would notice.
//!
//! They exist only in a build with `--cfg interlock_mutants`, which `cargo xtask safety` makes for
//! itself; everywhere else [`on`] is the constant `false` and nothing of this is left. With a
//! mutant on, the engine's own assertions are silent: whoever kills it must have seen what it did
//! to the money or to the merchant.

/// One unsafe rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(not(interlock_mutants), allow(dead_code, reason = "named where it is switched"))]
pub enum Mutant {
    /// A timeout is taken as "not sent", and the next account is tried.
    FailOverOnTimeout = 1,
    /// "Not found" is believed whenever it is heard.
    TrustNotFound,
    /// What counts is when "not found" was received, not when it was asked.
    NotFoundReceivedLate,
    /// A fenced attempt is sent again.
    ResendAfterFence,
    /// A decline is believed after a re-send, though only success is remembered.
    TrustDeclineAfterResend,
    /// A provider without idempotency is sent the same again.
    ResendWithoutIdempotency,
    /// It is sent again while the first copy may be in flight.
    ResendInFlight,
    /// A refusal of one send is taken as the key's own answer.
    SendScopeAsKey,
    /// Another method is offered before the old code is proven closed.
    OfferBeforeClosed,
    /// A close that gave money back is taken as one that found nothing paid.
    RefundedCloseAsUnpaid,
    /// Another account is tried after the merchant cancelled.
    FailOverAfterCancel,
    /// A refund whose answer is lost is made again under a new number.
    RefundUnderNewNumber,
    /// A decline ends an offer that was shown.
    DeclineEndsOffer,
    /// What a provider accepts and decides later is sent again.
    ResendAccepted,
    /// It is sent again after an answer that does not permit it.
    ResendUnpermitted,
    /// The shopper's return is told to the provider while an earlier one is in doubt.
    ContinueBesideDoubt,
    /// A close that says "unpaid" or "nothing found" is believed across a re-send.
    CloseAcrossResend,
    /// A success is told while a close is unanswered.
    SuccessDuringClose,
    /// A success that comes after the end is dropped.
    DropLateSuccess,
    /// The wall clock proves that the late window is over.
    WallClockProves,
    /// Any version of a plugin is believed when it says "no".
    TrustAnyVersion,
    /// An authorization is captured while it is being voided.
    CaptureBesideVoid,
    /// A failure that overtook its answer is forgotten.
    ForgetEarlyFailure,
    /// A journal that was restored from a backup is taken for the last word.
    TrustBackup,
}

#[cfg(not(interlock_mutants))]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(not(interlock_mutants))]
pub(crate) const fn any() -> bool {
    false
}

#[cfg(interlock_mutants)]
pub use switch::{any, on, set};

#[cfg(interlock_mutants)]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static ON: AtomicU8 = AtomicU8::new(0);

    /// Switches one mutant on in the whole process, or all off.
    pub fn set(mutant: Option<Mutant>) {
        ON.store(mutant.map_or(0, |m| m as u8), Ordering::SeqCst);
    }

    /// Whether this mutant is on.
    pub fn on(mutant: Mutant) -> bool {
        ON.load(Ordering::Relaxed) == mutant as u8
    }

    /// Whether any is.
    pub fn any() -> bool {
        ON.load(Ordering::Relaxed) != 0
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 24] = [
            Self::FailOverOnTimeout,
            Self::TrustNotFound,
            Self::NotFoundReceivedLate,
            Self::ResendAfterFence,
            Self::TrustDeclineAfterResend,
            Self::ResendWithoutIdempotency,
            Self::ResendInFlight,
            Self::SendScopeAsKey,
            Self::OfferBeforeClosed,
            Self::RefundedCloseAsUnpaid,
            Self::FailOverAfterCancel,
            Self::RefundUnderNewNumber,
            Self::DeclineEndsOffer,
            Self::ResendAccepted,
            Self::ResendUnpermitted,
            Self::ContinueBesideDoubt,
            Self::CloseAcrossResend,
            Self::SuccessDuringClose,
            Self::DropLateSuccess,
            Self::WallClockProves,
            Self::TrustAnyVersion,
            Self::CaptureBesideVoid,
            Self::ForgetEarlyFailure,
            Self::TrustBackup,
        ];

        /// Its name on the command line and in reports.
        pub fn name(self) -> &'static str {
            match self {
                Self::FailOverOnTimeout => "fail_over_on_timeout",
                Self::TrustNotFound => "trust_not_found",
                Self::NotFoundReceivedLate => "not_found_received_late",
                Self::ResendAfterFence => "resend_after_fence",
                Self::TrustDeclineAfterResend => "trust_decline_after_resend",
                Self::ResendWithoutIdempotency => "resend_without_idempotency",
                Self::ResendInFlight => "resend_in_flight",
                Self::SendScopeAsKey => "send_scope_as_key",
                Self::OfferBeforeClosed => "offer_before_closed",
                Self::RefundedCloseAsUnpaid => "refunded_close_as_unpaid",
                Self::FailOverAfterCancel => "fail_over_after_cancel",
                Self::RefundUnderNewNumber => "refund_under_new_number",
                Self::DeclineEndsOffer => "decline_ends_offer",
                Self::ResendAccepted => "resend_accepted",
                Self::ResendUnpermitted => "resend_unpermitted",
                Self::ContinueBesideDoubt => "continue_beside_doubt",
                Self::CloseAcrossResend => "close_across_resend",
                Self::SuccessDuringClose => "success_during_close",
                Self::DropLateSuccess => "drop_late_success",
                Self::WallClockProves => "wall_clock_proves",
                Self::TrustAnyVersion => "trust_any_version",
                Self::CaptureBesideVoid => "capture_beside_void",
                Self::ForgetEarlyFailure => "forget_early_failure",
                Self::TrustBackup => "trust_backup",
            }
        }
    }
}
