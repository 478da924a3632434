//! The words of the breaker: verdicts that go in, and states, reasons and refusals that come out.
//!
//! Every word has one spelling (`as_str`), meant to be used unchanged in logs, metric labels,
//! interfaces and consoles.

use std::error::Error;
use std::fmt;

/// How a call ended, as far as trust in the other side goes.
///
/// There is no `Slow`: slowness is measured, it can befall a success as well as a failure, and
/// one call must not be able to claim it without having taken the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The other side did what it was asked.
    Success,
    /// The other side worked well and said no (a card declined). It counts as a success.
    BusinessDecline,
    /// The other side was not reached: name lookup, connect, TLS.
    LocalFailure,
    /// The other side was reached and failed: time-out, 5xx, an answer that cannot be read.
    RemoteFailure,
    /// Says nothing about health (our own bad request, a rate limit). Counts nowhere, and gives
    /// a half-open place back.
    Ignored,
}

impl Verdict {
    /// The word for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::BusinessDecline => "business_decline",
            Self::LocalFailure => "local_failure",
            Self::RemoteFailure => "remote_failure",
            Self::Ignored => "ignored",
        }
    }

    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::LocalFailure | Self::RemoteFailure)
    }
}

/// What a breaker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything passes and is judged.
    Closed,
    /// Nothing passes until the open time is over.
    Open,
    /// A few probes pass; their results decide.
    HalfOpen,
    /// By hand: nothing passes until released.
    ForcedOpen,
    /// By hand: everything passes, nothing is judged or counted.
    ForcedClosed,
    /// By hand: everything passes and is counted, but nothing trips (observe only).
    Disabled,
}

impl State {
    /// The word for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::Disabled => "disabled",
        }
    }

    /// Whether every call passes in this state.
    pub fn admits_all(self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed | Self::Disabled)
    }
}

/// A state that an operator sets by hand and that only an operator ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manual {
    /// Let nothing pass.
    ForcedOpen,
    /// Let everything pass, count nothing.
    ForcedClosed,
    /// Let everything pass and keep counting (observe only).
    Disabled,
}

impl Manual {
    /// The state that it sets.
    pub fn state(self) -> State {
        match self {
            Self::ForcedOpen => State::ForcedOpen,
            Self::ForcedClosed => State::ForcedClosed,
            Self::Disabled => State::Disabled,
        }
    }

    /// The word for logs and labels, the same as its state's.
    pub fn as_str(self) -> &'static str {
        self.state().as_str()
    }
}

/// Why a breaker went from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too many remote failures in a row.
    ConsecutiveFailures,
    /// Too many local failures in a row.
    ConsecutiveLocalFailures,
    /// Too large a share of the window failed.
    FailureRate,
    /// Too large a share of the window was slow.
    SlowRate,
    /// The open time ended; probes may pass.
    OpenTimeOver,
    /// So many probes failed or were slow that the needed number cannot pass any more.
    ProbeFailed,
    /// Enough probes passed.
    ProbesPassed,
    /// A probe did not come back in time.
    ProbeWaitOver,
    /// An operator set a state by hand.
    Forced,
    /// An operator gave the breaker back to its rules.
    Released,
}

impl Reason {
    /// The word for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::ConsecutiveLocalFailures => "consecutive_local_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::OpenTimeOver => "open_time_over",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesPassed => "probes_passed",
            Self::ProbeWaitOver => "probe_wait_over",
            Self::Forced => "forced",
            Self::Released => "released",
        }
    }
}

/// A call may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refused {
    /// Why not.
    pub reason: RefusedReason,
    /// When probes may pass, in ms from the moment of asking. Known only while open: how soon a
    /// probe returns, or an operator, nobody knows.
    pub retry_after_ms: Option<u64>,
}

/// Why a call may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusedReason {
    /// The breaker is open.
    Open,
    /// The breaker is half-open and all its probes are given out.
    HalfOpenFull,
    /// An operator holds the breaker open.
    ForcedOpen,
}

impl RefusedReason {
    /// The word for logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::HalfOpenFull => "half_open_full",
            Self::ForcedOpen => "forced_open",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.reason.as_str();
        match self.retry_after_ms {
            Some(ms) => write!(f, "breaker refused, ask again in {ms} ms: {word}"),
            None => write!(f, "breaker refused: {word}"),
        }
    }
}

impl Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_a_sentence_with_its_word_last() {
        let open = Refused { reason: RefusedReason::Open, retry_after_ms: Some(40) };
        assert_eq!(open.to_string(), "breaker refused, ask again in 40 ms: open");
        let full = Refused { reason: RefusedReason::HalfOpenFull, retry_after_ms: None };
        assert_eq!(full.to_string(), "breaker refused: half_open_full");
    }

    #[test]
    fn a_manual_state_has_the_word_of_the_state_that_it_sets() {
        for manual in [Manual::ForcedOpen, Manual::ForcedClosed, Manual::Disabled] {
            assert_eq!(manual.as_str(), manual.state().as_str());
        }
    }
}
