//! The last five minutes of each account, and of the whole house, in memory that does not grow.
//!
//! Metrics count since the start and leave rates to Prometheus. Who looks at 3 a.m. with nothing
//! but this binary wants to know how it goes *now*: how many calls succeeded, how long they took,
//! how much of the limit is used. Slots of ten seconds in a ring, one for each configured account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interlock_circuit_breaker::Verdict;

/// How far back it looks, ms.
pub const WINDOW_MS: u64 = 300_000;
const SLOT_MS: u64 = 10_000;
const SLOTS: usize = (WINDOW_MS / SLOT_MS) as usize;
/// Four steps for each doubling of the time, up to two minutes and more.
const STEPS: usize = 72;
/// The default of `Prefer: wait`: a merchant who waits longer was not served in time, ms.
const IN_TIME_MS: i64 = 10_000;

/// What happened lately.
pub struct Recent {
    accounts: BTreeMap<String, Arc<Mutex<Ring<Calls>>>>,
    house: Arc<Mutex<Ring<Payments>>>,
}

/// One account's calls of the last five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// Calls that say something about the provider.
    pub calls: u64,
    /// Of these, the ones that failed; a decline is no failure.
    pub failed: u64,
    /// Of the failed ones, those that were never sent.
    pub unreached: u64,
    /// The time that half of all calls stayed under, ms.
    pub p50_ms: Option<u64>,
    /// The time that 95 % of all calls stayed under, ms.
    pub p95_ms: Option<u64>,
    /// Calls that make a payment, in the last whole second or in this one if it has more.
    pub used_per_second: u64,
}

impl Lately {
    /// The share of calls that succeeded, 0 to 1.
    pub fn success(&self) -> Option<f64> {
        (self.calls > 0).then(|| (self.calls - self.failed) as f64 / self.calls as f64)
    }
}

/// The payments of the last five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct House {
    /// New payments.
    pub begun: u64,
    /// Payments that got their first answer: final, or something for the shopper to do.
    pub answered: u64,
    /// Of these, the ones that got it within ten seconds.
    pub in_time: u64,
    /// New payments in a second, on average.
    pub per_second: f64,
}

impl Recent {
    /// Rings for these accounts and no others; those that are known `before` go on.
    pub fn new<'a>(
        accounts: impl IntoIterator<Item = &'a String>,
        before: Option<&Recent>,
    ) -> Self {
        let ring = |name| before.and_then(|b| b.accounts.get(name)).cloned().unwrap_or_default();
        let accounts = accounts.into_iter().map(|name| (name.clone(), ring(name)));
        let house = before.map(|b| Arc::clone(&b.house)).unwrap_or_default();
        Self { accounts: accounts.collect(), house }
    }

    /// A call that makes a payment begins.
    pub fn began(&self, account: &str, now_ms: u64) {
        if let Some(ring) = self.accounts.get(account) {
            lock(ring).at(now_ms).second.count(now_ms);
        }
    }

    /// A call ended.
    pub fn ended(&self, account: &str, now_ms: u64, verdict: Verdict, elapsed_ms: u64) {
        let Some(ring) = self.accounts.get(account) else { return };
        let mut ring = lock(ring);
        let slot = ring.at(now_ms);
        match verdict {
            Verdict::Ignored => return,
            Verdict::Success | Verdict::BusinessDecline => {}
            Verdict::RemoteFailure => slot.failed += 1,
            Verdict::LocalFailure => {
                slot.failed += 1;
                slot.unreached += 1;
            }
        }
        slot.calls += 1;
        slot.times[step_of(elapsed_ms)] += 1;
    }

    /// A payment was made.
    pub fn payment_began(&self, now_ms: u64) {
        lock(&self.house).at(now_ms).begun += 1;
    }

    /// A payment got its first answer, so long after it was made.
    pub fn payment_answered(&self, now_ms: u64, after_ms: i64) {
        let mut house = lock(&self.house);
        let slot = house.at(now_ms);
        slot.answered += 1;
        slot.in_time += u64::from(after_ms <= IN_TIME_MS);
    }

    /// How it went at an account.
    pub fn account(&self, account: &str, now_ms: u64) -> Lately {
        let Some(ring) = self.accounts.get(account) else { return Lately::default() };
        let ring = lock(ring);
        let mut lately = Lately::default();
        let mut times = [0u64; STEPS];
        for slot in ring.live(now_ms) {
            lately.calls += slot.calls;
            lately.failed += slot.failed;
            lately.unreached += slot.unreached;
            for (sum, count) in times.iter_mut().zip(slot.times) {
                *sum += u64::from(count);
            }
            lately.used_per_second = lately.used_per_second.max(slot.second.used(now_ms));
        }
        lately.p50_ms = under(&times, 0.5);
        lately.p95_ms = under(&times, 0.95);
        lately
    }

    /// How it went in the house.
    pub fn house(&self, now_ms: u64) -> House {
        let ring = lock(&self.house);
        let mut house = House::default();
        for slot in ring.live(now_ms) {
            house.begun += slot.begun;
            house.answered += slot.answered;
            house.in_time += slot.in_time;
        }
        let seconds = now_ms.clamp(1_000, WINDOW_MS) as f64 / 1_000.0;
        house.per_second = house.begun as f64 / seconds;
        house
    }
}

#[derive(Clone, Copy)]
struct Calls {
    calls: u64,
    failed: u64,
    unreached: u64,
    times: [u32; STEPS],
    second: Second,
}

impl Default for Calls {
    fn default() -> Self {
        let second = Second::default();
        Self { calls: 0, failed: 0, unreached: 0, times: [0; STEPS], second }
    }
}

#[derive(Clone, Copy, Default)]
struct Payments {
    begun: u64,
    answered: u64,
    in_time: u64,
}

/// Counts of the newest second and of the one before it.
#[derive(Clone, Copy, Default)]
struct Second {
    number: u64,
    count: u64,
    before: u64,
}

impl Second {
    fn count(&mut self, now_ms: u64) {
        let number = now_ms / 1_000;
        if number != self.number {
            self.before = if number == self.number + 1 { self.count } else { 0 };
            (self.number, self.count) = (number, 0);
        }
        self.count += 1;
    }

    fn used(&self, now_ms: u64) -> u64 {
        match (now_ms / 1_000).checked_sub(self.number) {
            Some(0) => self.count.max(self.before),
            Some(1) => self.count,
            _ => 0,
        }
    }
}

/// Slots by the number of their ten seconds since the start; an old one is used again.
struct Ring<T> {
    slots: Vec<(u64, T)>,
}

impl<T: Default + Copy> Default for Ring<T> {
    fn default() -> Self {
        Self { slots: vec![(0, T::default()); SLOTS] }
    }
}

impl<T: Default> Ring<T> {
    fn at(&mut self, now_ms: u64) -> &mut T {
        let number = now_ms / SLOT_MS;
        let (of, slot) = &mut self.slots[(number % SLOTS as u64) as usize];
        if *of != number {
            (*of, *slot) = (number, T::default());
        }
        slot
    }

    fn live(&self, now_ms: u64) -> impl Iterator<Item = &T> {
        let number = now_ms / SLOT_MS;
        let live = move |of: u64| of <= number && of + SLOTS as u64 > number;
        self.slots.iter().filter(move |(of, _)| live(*of)).map(|(_, slot)| slot)
    }
}

fn step_of(ms: u64) -> usize {
    let step = (ms.max(1) as f64).log2() * 4.0;
    (step.ceil() as usize).min(STEPS - 1)
}

/// The upper end of the step in which the share is reached, ms.
fn under(times: &[u64; STEPS], share: f64) -> Option<u64> {
    let total: u64 = times.iter().sum();
    let wanted = (total as f64 * share).ceil() as u64;
    let mut sum = 0;
    let step = times.iter().position(|count| {
        sum += count;
        sum >= wanted && total > 0
    })?;
    Some((step as f64 / 4.0).exp2().round() as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent() -> Recent {
        Recent::new([&"a".to_owned()], None)
    }

    #[test]
    fn five_minutes_are_remembered_and_not_more() {
        let recent = recent();
        (0..20).for_each(|_| recent.ended("a", 1_000, Verdict::Success, 100));
        recent.ended("a", 2_000, Verdict::RemoteFailure, 9_000);
        recent.ended("a", 2_000, Verdict::Ignored, 1);
        recent.ended("a", 12_000, Verdict::BusinessDecline, 110);
        recent.ended("a", 12_000, Verdict::LocalFailure, 1);
        let lately = recent.account("a", 20_000);
        assert_eq!((lately.calls, lately.failed, lately.unreached), (23, 2, 1));
        assert_eq!(lately.success().map(|s| (s * 23.0).round()), Some(21.0));
        assert_eq!(recent.account("a", 299_999).calls, 23);
        assert_eq!(recent.account("a", 300_000).calls, 2);
        assert_eq!(recent.account("a", 310_000), Lately::default());
        recent.ended("a", 301_000, Verdict::Success, 5);
        assert_eq!(recent.account("a", 301_000).calls, 3, "an old slot is emptied first");
    }

    #[test]
    fn times_are_told_within_a_fifth() {
        for ms in [1, 7, 50, 410, 3_000, 10_000, 119_000] {
            let recent = recent();
            (0..96).for_each(|_| recent.ended("a", 0, Verdict::Success, ms));
            (0..4).for_each(|_| recent.ended("a", 0, Verdict::Success, ms * 20));
            let told = recent.account("a", 0);
            for p in [told.p50_ms, told.p95_ms] {
                let p = p.expect("there were calls") as f64;
                assert!((1.0..1.2).contains(&(p / ms as f64)), "{ms}: {p}");
            }
        }
        assert_eq!(recent().account("a", 0).p95_ms, None);
    }

    #[test]
    fn the_use_of_a_limit_is_the_last_seconds() {
        let recent = recent();
        (0..38).for_each(|_| recent.began("a", 9_900));
        (0..5).for_each(|_| recent.began("a", 10_100));
        assert_eq!(recent.account("a", 10_200).used_per_second, 38);
        assert_eq!(recent.account("a", 11_500).used_per_second, 5);
        assert_eq!(recent.account("a", 12_000).used_per_second, 0);
        recent.began("unknown", 0);
        assert_eq!(recent.account("unknown", 0), Lately::default());
    }

    #[test]
    fn payments_are_counted_with_those_that_were_answered_in_time() {
        let recent = recent();
        (0..60).for_each(|_| recent.payment_began(30_000));
        (0..50).for_each(|_| recent.payment_answered(31_000, 400));
        recent.payment_answered(59_000, 29_000);
        let house = recent.house(60_000);
        assert_eq!((house.begun, house.answered, house.in_time), (60, 51, 50));
        assert!((house.per_second - 1.0).abs() < 1e-9);
        assert_eq!(recent.house(400_000), House::default());
    }
}
