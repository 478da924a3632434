//! Signs of trouble that no single request shows: answers that the plugin can't read any more, and
//! notifications that do not come.

use std::collections::{HashMap, VecDeque};

use super::seen::{Answers, Awaited};
use crate::stamp::Stamp;

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
/// How many of them the next process hears of, the oldest.
const AWAITED_KEPT: usize = 20;

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

    /// What the next process must know.
    pub(super) fn seen(&self) -> Answers {
        let seen = u32::try_from(self.answers.len()).unwrap_or(u32::MAX);
        Answers { seen, unread: self.unread, drifted: self.drifted }
    }

    /// Takes up what an earlier process knew. In which order answers came is not kept, so the
    /// unread ones stand evenly among the others.
    pub(super) fn take_up(&mut self, answers: Answers) {
        let seen = answers.seen.min(ANSWERS_MAX as u32);
        let unread = answers.unread.min(seen);
        let before = |n: u32| n * unread / seen.max(1);
        self.answers = (0..seen).map(|n| before(n + 1) == before(n)).collect();
        (self.unread, self.drifted) = (unread, answers.drifted);
    }
}

/// What was paid and is known by our own asking, while its notification has not come.
#[derive(Default)]
pub(super) struct Notices {
    /// Since when, monotonic ms: below zero is before this process.
    awaited: HashMap<String, i64>,
    /// Without one there may be nobody who sends any.
    heard: bool,
}

impl Notices {
    /// A payment became final because we asked.
    pub(super) fn asked(&mut self, payment: &str, now_ms: u64) {
        self.forget(now_ms);
        if self.heard && self.awaited.len() < AWAITED_MAX {
            self.awaited.insert(payment.to_owned(), signed(now_ms));
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
        oldest.map_or(0, |since| (signed(now_ms) - since).max(0).unsigned_abs())
    }

    pub(super) fn late(&mut self, now_ms: u64) -> bool {
        self.lag_ms(now_ms) >= LATE_MS
    }

    /// What the next process must know.
    pub(super) fn seen(&self, now: Stamp) -> Awaited {
        let age = |since: i64| (signed(now.mono_ms) - since).max(0);
        let awaited = self.awaited.iter();
        let mut since: Vec<(String, i64)> =
            awaited.map(|(id, at)| (id.clone(), now.wall_ms.saturating_sub(age(*at)))).collect();
        since.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        since.truncate(AWAITED_KEPT);
        Awaited { heard: self.heard, since }
    }

    /// Takes up what an earlier process knew.
    pub(super) fn take_up(&mut self, awaited: &Awaited, now: Stamp) {
        self.heard = awaited.heard;
        for (payment, wall_ms) in awaited.since.iter().take(AWAITED_KEPT) {
            let age = now.wall_ms.saturating_sub(*wall_ms).max(0);
            self.awaited.insert(payment.clone(), signed(now.mono_ms).saturating_sub(age));
        }
    }

    fn forget(&mut self, now_ms: u64) {
        let lost = signed(now_ms).saturating_sub(signed(LOST_MS));
        self.awaited.retain(|_, since| *since > lost);
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
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
    fn drift_outlives_the_process_and_what_is_damaged_stays_in_bounds() {
        let mut drift = Drift::default();
        (0..100).for_each(|n| drift.answered(n % 8 != 0));
        let mut next = Drift::default();
        next.take_up(drift.seen());
        assert_eq!((next.share(), next.drifted()), (drift.share(), true));
        assert_eq!(next.seen(), drift.seen());
        (0..195).for_each(|_| next.answered(true));
        assert!(!next.drifted(), "the unread ones leave by and by");
        next.take_up(Answers { seen: u32::MAX, unread: u32::MAX, drifted: true });
        assert_eq!((next.answers.len(), next.share()), (ANSWERS_MAX, 1.0));
    }

    #[test]
    fn what_is_awaited_longest_is_still_awaited_by_the_next_process() {
        let at = |wall_ms, mono_ms| Stamp { wall_ms, boot: 1, mono_ms };
        let mut notices = Notices::default();
        notices.came("pay_0");
        (0..500).for_each(|n| notices.asked(&format!("pay_{n}"), 1_000 + n));
        let seen = notices.seen(at(50_000, 11_000));
        assert_eq!(seen.since.len(), AWAITED_KEPT);
        let mut next = Notices::default();
        next.take_up(&seen, at(60_000, 5));
        assert_eq!(next.lag_ms(5), 20_000, "10 s before, and 10 s between them");
        assert!(next.late(LATE_MS - 20_000 + 5));
        next.asked("pay_new", 6);
        assert_eq!(next.awaited.len(), AWAITED_KEPT + 1, "somebody was heard before");
        assert_eq!(next.lag_ms(LOST_MS - 19_000), LOST_MS - 19_006, "the old ones are given up");
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
