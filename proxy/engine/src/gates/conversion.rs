//! Whether shoppers can pay what an account offers: paid against created, beside its own past.
//!
//! A provider whose API answers in time and whose QR codes nobody can pay looks well to a breaker.
//! What was created is counted in the slot of its creation, and what is paid in the same slot,
//! however late; a slot is judged once shoppers had time to pay. What leaves the window becomes
//! the baseline, with a half-life of a day.

use std::collections::VecDeque;

use super::seen::Usual;

/// In how many slots the window slides.
const SLOTS: u64 = 10;
/// How much of the past counts half in the baseline, ms.
const HALF_LIFE_MS: f64 = 86_400_000.0;
/// A demoted account is well again at this share of its baseline.
const WELL: f64 = 0.8;
/// A demoted account gets few payments: this share of the minimum is enough to be well again.
const FEW: u32 = 5;
/// A demotion that no payment confirms for so many windows is over.
const STALE_WINDOWS: u64 = 6;

/// How conversion is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConversionSettings {
    /// How far back the rate looks, ms.
    pub window_ms: u64,
    /// How long a shopper may take before an unpaid offer counts, ms.
    pub mature_ms: u64,
    /// No rate is judged on fewer offers.
    pub minimum: u32,
    /// Below this share of the baseline the account is demoted.
    pub drop: f64,
}

impl Default for ConversionSettings {
    fn default() -> Self {
        Self { window_ms: 600_000, mature_ms: 120_000, minimum: 50, drop: 0.5 }
    }
}

/// Paid against created.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    /// Offers of the window that are old enough to be judged.
    pub created: u32,
    /// How many of them were paid.
    pub paid: u32,
    /// The share that is usual here; `None` until enough was seen.
    pub baseline: Option<f64>,
    /// Too few are paid: the account is tried last.
    pub low: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    number: u64,
    created: u32,
    paid: u32,
}

/// The memory of one method at one account.
pub(super) struct Memory {
    settings: ConversionSettings,
    slots: VecDeque<Slot>,
    base_created: f64,
    base_paid: f64,
    low_since_ms: Option<u64>,
}

impl Memory {
    pub(super) fn new(settings: ConversionSettings) -> Self {
        Self {
            settings,
            slots: VecDeque::new(),
            base_created: 0.0,
            base_paid: 0.0,
            low_since_ms: None,
        }
    }

    /// Something was created that a shopper may pay.
    pub(super) fn created(&mut self, now_ms: u64) {
        self.forget(now_ms);
        let number = now_ms / self.slot_ms();
        if self.slots.back().is_none_or(|slot| slot.number < number) {
            self.slots.push_back(Slot { number, created: 0, paid: 0 });
        }
        if let Some(slot) = self.slots.back_mut() {
            slot.created += 1;
        }
    }

    /// It was paid.
    pub(super) fn paid(&mut self, created_ms: u64, now_ms: u64) {
        self.forget(now_ms);
        let number = created_ms / self.slot_ms();
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            slot.paid += 1;
        } else {
            // Later than the window: the baseline still hears of it.
            self.base_paid = (self.base_paid + 1.0).min(self.base_created);
        }
    }

    /// What is true now.
    pub(super) fn look(&mut self, now_ms: u64) -> Conversion {
        self.forget(now_ms);
        let old = now_ms.saturating_sub(self.settings.mature_ms) / self.slot_ms();
        let judged = self.slots.iter().filter(|slot| slot.number < old);
        let (created, paid) = judged.fold((0, 0), |(c, p), s| (c + s.created, p + s.paid));
        let minimum = self.settings.minimum;
        let known = self.base_created >= f64::from(minimum) * 2.0;
        let baseline = known.then(|| self.base_paid / self.base_created);
        let share = f64::from(paid) / f64::from(created.max(1));
        match (baseline, self.low_since_ms) {
            (Some(usual), None) if created >= minimum && share < usual * self.settings.drop => {
                self.low_since_ms = Some(now_ms);
            }
            (Some(usual), Some(_)) if created >= minimum.div_ceil(FEW) && share >= usual * WELL => {
                self.low_since_ms = None;
            }
            (_, Some(since))
                if created == 0 && now_ms >= since + STALE_WINDOWS * self.settings.window_ms =>
            {
                self.low_since_ms = None;
            }
            _ => {}
        }
        Conversion { created, paid, baseline, low: self.low_since_ms.is_some() }
    }

    /// What the next process must know: the baseline, with what shoppers had time to pay since.
    /// `None` while nothing was seen.
    pub(super) fn usual(&mut self, now_ms: u64) -> Option<Usual> {
        self.forget(now_ms);
        let old = now_ms.saturating_sub(self.settings.mature_ms) / self.slot_ms();
        let mut next = Self { slots: VecDeque::new(), ..*self };
        for slot in self.slots.iter().filter(|slot| slot.number < old) {
            next.learn(*slot);
        }
        let low = self.low_since_ms.is_some();
        let usual = Usual { created: next.base_created, paid: next.base_paid, low };
        (low || usual.created > 0.0).then_some(usual)
    }

    /// Takes up what an earlier process knew, `away_ms` ago.
    pub(super) fn take_up(&mut self, usual: Usual, away_ms: u64, now_ms: u64) {
        let decay = 0.5_f64.powf(away_ms as f64 / HALF_LIFE_MS);
        self.base_created = usual.created.max(0.0) * decay;
        self.base_paid = (usual.paid.max(0.0) * decay).min(self.base_created);
        self.low_since_ms = usual.low.then_some(now_ms);
    }

    fn forget(&mut self, now_ms: u64) {
        let kept = self.settings.window_ms + self.settings.mature_ms;
        let from = now_ms.saturating_sub(kept) / self.slot_ms();
        while let Some(slot) = self.slots.front().copied().filter(|slot| slot.number < from) {
            self.slots.pop_front();
            self.learn(slot);
        }
    }

    fn learn(&mut self, slot: Slot) {
        // What a bad hour did is no new normal.
        if self.low_since_ms.is_none() {
            let decay = 0.5_f64.powf(self.slot_ms() as f64 / HALF_LIFE_MS);
            self.base_created = self.base_created * decay + f64::from(slot.created);
            self.base_paid = self.base_paid * decay + f64::from(slot.paid);
        }
    }

    fn slot_ms(&self) -> u64 {
        (self.settings.window_ms / SLOTS).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ConversionSettings =
        ConversionSettings { window_ms: 10_000, mature_ms: 2_000, minimum: 20, drop: 0.5 };

    /// Ten offers each second, of which the first `paid` are paid half a second later.
    fn second(memory: &mut Memory, second: u64, paid: u64) {
        for n in 0..10 {
            let at = second * 1_000 + n * 10;
            memory.created(at);
            if n < paid {
                memory.paid(at, at + 500);
            }
        }
    }

    #[test]
    fn offers_that_nobody_can_pay_demote_and_paid_ones_restore() {
        let mut memory = Memory::new(SETTINGS);
        (0..30).for_each(|s| second(&mut memory, s, 8));
        let well = memory.look(30_000);
        assert!(!well.low);
        assert!((0.75..0.85).contains(&well.baseline.expect("enough was seen")));
        (30..40).for_each(|s| second(&mut memory, s, 0));
        assert!(memory.look(41_000).low);
        (41..60).for_each(|s| second(&mut memory, s, 8));
        assert!(!memory.look(60_000).low, "{:?}", memory.look(60_000));
    }

    #[test]
    fn what_is_usual_and_what_is_low_outlive_the_process() {
        let mut memory = Memory::new(SETTINGS);
        assert_eq!(memory.usual(0), None);
        (0..30).for_each(|s| second(&mut memory, s, 8));
        let usual = memory.usual(30_000).expect("enough was seen");
        let mut next = Memory::new(SETTINGS);
        next.take_up(usual, 60_000, 5);
        let look = next.look(5);
        assert!((0.75..0.85).contains(&look.baseline.expect("it is known")) && !look.low);
        (1..11).for_each(|s| second(&mut next, s, 0));
        assert!(next.look(12_000).low, "a drop is one from the first window on");
        let low = next.usual(12_000).expect("enough was seen");
        let mut third = Memory::new(SETTINGS);
        third.take_up(low, 60_000, 0);
        assert!(third.look(0).low);
        (0..20).for_each(|s| second(&mut third, s, 8));
        assert!(!third.look(20_000).low);
        let mut late = Memory::new(SETTINGS);
        late.take_up(usual, 30 * 86_400_000, 0);
        assert_eq!(late.look(0).baseline, None, "a month ago says nothing any more");
    }

    #[test]
    fn what_is_too_young_to_be_paid_is_not_judged() {
        let mut memory = Memory::new(SETTINGS);
        (0..30).for_each(|s| second(&mut memory, s, 8));
        (30..32).for_each(|s| second(&mut memory, s, 0));
        let look = memory.look(32_000);
        assert!(!look.low);
        assert_eq!(look.created - look.paid, look.created / 5);
    }

    #[test]
    fn a_low_rate_that_is_usual_here_is_no_alarm() {
        let mut memory = Memory::new(SETTINGS);
        (0..60).for_each(|s| second(&mut memory, s, 2));
        assert!(!memory.look(60_000).low);
    }

    #[test]
    fn a_demotion_that_nobody_confirms_ends() {
        let mut memory = Memory::new(SETTINGS);
        (0..30).for_each(|s| second(&mut memory, s, 8));
        (30..40).for_each(|s| second(&mut memory, s, 0));
        assert!(memory.look(41_000).low);
        assert!(memory.look(60_000).low);
        assert!(!memory.look(41_000 + 61_000).low);
    }
}
