//! Remembers the last changes of state until somebody collects them.
//!
//! The outlet is a bounded queue and not a callback: nobody's code runs inside the breaker, so
//! nobody's panic or slowness can hurt it. A collector that sleeps too long loses the oldest
//! entries and can tell, because the sequence numbers have a gap.

use std::collections::VecDeque;

use crate::words::{Reason, State};

/// How many changes wait for collection at most.
pub const MAX_WAITING_TRANSITIONS: usize = 64;

/// One change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Counts the changes of this breaker from 1; a gap means that entries were lost.
    pub sequence: u64,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// When, on the caller's clock. A change that time alone brought about carries the moment
    /// when it was due, however late somebody asked.
    pub at_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Transitions {
    noted: u64,
    waiting: VecDeque<Transition>,
}

impl Transitions {
    pub(crate) fn note(&mut self, from: State, to: State, reason: Reason, at_ms: u64) {
        if self.waiting.len() == MAX_WAITING_TRANSITIONS {
            self.waiting.pop_front();
        }
        self.noted += 1;
        self.waiting.push_back(Transition { sequence: self.noted, from, to, reason, at_ms });
    }

    pub(crate) fn take(&mut self) -> Vec<Transition> {
        self.waiting.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_changes_are_lost_first_and_the_gap_shows() {
        let mut transitions = Transitions::default();
        for at_ms in 0..70 {
            transitions.note(State::Closed, State::Open, Reason::FailureRate, at_ms);
        }
        let taken = transitions.take();
        assert_eq!(taken.len(), MAX_WAITING_TRANSITIONS);
        assert_eq!((taken[0].sequence, taken[0].at_ms), (7, 6));
        assert_eq!(taken[63].sequence, 70);
        assert!(transitions.take().is_empty());
    }
}
