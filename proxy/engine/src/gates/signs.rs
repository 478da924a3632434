//! Signs of trouble that no single request shows: answers that the plugin can't read any more, and
//! notifications that do not come.

use std::collections::{HashMap, VecDeque};

/// No drift is judged on fewer answers.
const ANSWERS_MIN: u32 = 20;
/// How many answers are remembered.
const ANSWERS_MAX: usize = 200;
/// The share of unread answers at which the contract has drifted, and at which it is well again.
const DRIFTED: f64 = 0.1;
const WELL: f64 = 0.05;
/// A notification that is later than this is an alarm, ms.
const LATE_MS: u64 = 300_000;
/// After this a notification is not waited for any more, ms.
const LOST_MS: u64 = 3_600_000;
/// How many notifications are waited for.
const AWAITED_MAX: usize = 1_000;

/// Whether a provider still speaks as its plugin knows it.
#[derive(Default)]
pub(super) struct Drift {
    answers: VecDeque<bool>,
    unread: u32,
    drifted: bool,
}

impl Drift {
    pub(super) fn answered(&mut self, read: bool) {
        self.answers.push_back(read);
        self.unread += u32::from(!read);
        if self.answers.len() > ANSWERS_MAX && self.answers.pop_front() == Some(false) {
            self.unread -= 1;
        }
        let share = self.share();
        self.drifted = share >= if self.drifted { WELL } else { DRIFTED };
    }

    /// The share of answers that the plugin could not read; 0 while too few were seen.
    pub(super) fn share(&self) -> f64 {
        let seen = u32::try_from(self.answers.len()).unwrap_or(u32::MAX);
        if seen < ANSWERS_MIN { 0.0 } else { f64::from(self.unread) / f64::from(seen) }
    }

    pub(super) fn drifted(&self) -> bool {
        self.drifted
    }
}

/// What was paid and is known by our own asking, while its notification has not come.
#[derive(Default)]
pub(super) struct Notices {
    awaited: HashMap<String, u64>,
    /// Without one there may be nobody who sends any.
    heard: bool,
}

impl Notices {
    /// A payment became final because we asked.
    pub(super) fn asked(&mut self, payment: &str, now_ms: u64) {
        self.forget(now_ms);
        if self.heard && self.awaited.len() < AWAITED_MAX {
            self.awaited.insert(payment.to_owned(), now_ms);
        }
    }

    /// A notification came.
    pub(super) fn came(&mut self, payment: &str) {
        self.heard = true;
        self.awaited.remove(payment);
    }

    /// How long the oldest notification has been awaited, ms.
    pub(super) fn lag_ms(&mut self, now_ms: u64) -> u64 {
        self.forget(now_ms);
        let oldest = self.awaited.values().min();
        oldest.map_or(0, |since| now_ms.saturating_sub(*since))
    }

    pub(super) fn late(&mut self, now_ms: u64) -> bool {
        self.lag_ms(now_ms) >= LATE_MS
    }

    fn forget(&mut self, now_ms: u64) {
        self.awaited.retain(|_, since| *since + LOST_MS > now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_in_ten_that_nobody_can_read_is_drift() {
        let mut drift = Drift::default();
        (0..90).for_each(|_| drift.answered(true));
        assert!(!drift.drifted());
        (0..10).for_each(|_| drift.answered(false));
        assert!(drift.drifted());
        (0..200).for_each(|_| drift.answered(true));
        assert!(!drift.drifted());
    }

    #[test]
    fn a_few_unread_answers_at_the_start_say_nothing() {
        let mut drift = Drift::default();
        (0..5).for_each(|_| drift.answered(false));
        assert!(!drift.drifted());
    }

    #[test]
    fn a_notification_that_does_not_come_is_late_and_then_forgotten() {
        let mut notices = Notices::default();
        notices.asked("pay_0", 0);
        assert_eq!(notices.lag_ms(LATE_MS), 0, "nobody was heard yet");
        notices.came("pay_1");
        notices.asked("pay_2", 1_000);
        assert!(!notices.late(LATE_MS));
        assert!(notices.late(1_000 + LATE_MS));
        assert_eq!(notices.lag_ms(1_000 + LOST_MS), 0);
        notices.asked("pay_3", 0);
        notices.came("pay_3");
        assert_eq!(notices.lag_ms(LATE_MS), 0);
    }
}
