//! How many second tries are admitted, so that failover never doubles an outage's load.

use std::collections::VecDeque;

/// How many second tries are admitted: over all accounts, and for each that fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailoverBudget {
    /// The share of first tries that may be tried a second time.
    pub ratio: f64,
    /// Second tries that are always admitted, per second.
    pub per_second: u32,
    /// How much of the past counts, ms.
    pub ttl_ms: u64,
}

impl Default for FailoverBudget {
    fn default() -> Self {
        Self { ratio: 0.2, per_second: 10, ttl_ms: 10_000 }
    }
}

/// First and second tries of the last seconds, one slot each.
pub(super) struct Budget {
    settings: FailoverBudget,
    slots: VecDeque<(u64, u64, u64)>,
}

impl Budget {
    pub(super) fn new(settings: FailoverBudget) -> Self {
        Self { settings, slots: VecDeque::new() }
    }

    pub(super) fn settings(&self) -> FailoverBudget {
        self.settings
    }

    pub(super) fn count(&mut self, second_try: bool, second: u64) {
        self.forget(second);
        if self.slots.back().is_none_or(|(s, ..)| *s != second) {
            self.slots.push_back((second, 0, 0));
        }
        if let Some((_, firsts, seconds)) = self.slots.back_mut() {
            *if second_try { seconds } else { firsts } += 1;
        }
    }

    pub(super) fn admits(&mut self, second: u64) -> bool {
        self.forget(second);
        let (firsts, seconds) =
            self.slots.iter().fold((0, 0), |(f, s), (_, first, second)| (f + first, s + second));
        let always = u64::from(self.settings.per_second) * self.seconds();
        let share = (firsts as f64 * self.settings.ratio) as u64;
        seconds < always + share
    }

    fn forget(&mut self, second: u64) {
        let kept = self.seconds();
        while self.slots.front().is_some_and(|(s, ..)| s + kept <= second) {
            self.slots.pop_front();
        }
    }

    fn seconds(&self) -> u64 {
        self.settings.ttl_ms.div_ceil(1_000).max(1)
    }
}
