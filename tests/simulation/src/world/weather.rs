//! How accounts are doing: breakers, limits and budgets that refuse for some spans of time.
//!
//! What an account is asked at one moment has one answer there, whoever asks and however often: a
//! decision asks again and again until it is complete.

use std::rc::Rc;

use interlock_engine::{Decision, Health, Payment, Refusal, Skip, Stamp};

use super::World;
use crate::dice::Dice;

/// How long one answer holds, ms.
const SPAN_MS: u64 = 20_000;
/// Why an account may be refused.
const SKIPS: [Skip; 4] =
    [Skip::BreakerOpen, Skip::BreakerHalfOpen, Skip::RateLimited, Skip::Drained];

/// What the accounts of one evening are like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Climate {
    /// Automatic refunds wait until the calm.
    pub capped: bool,
    /// Once in so many spans an account refuses; never when 0.
    pub storms: u64,
}

impl Climate {
    /// Mild on most evenings.
    pub fn draw(dice: &mut Dice) -> Self {
        let capped = dice.one_in(40);
        let storms = if dice.one_in(4) { dice.of(&[2, 4, 12]) } else { 0 };
        Self { capped, storms }
    }
}

/// How accounts are doing at one moment, as one node sees them.
pub(super) struct Weather {
    pub climate: Climate,
    /// The evening's seed, the node and the span.
    pub key: u64,
    pub calm: bool,
}

impl Weather {
    fn roll(&self, account: &str, what: u64) -> Option<u64> {
        if self.calm || self.climate.storms == 0 {
            return None;
        }
        let name = account.bytes().fold(what, |all, byte| all << 8 ^ u64::from(byte));
        let mut dice = Dice::new(self.key ^ name.wrapping_mul(0x2545_f491_4f6c_dd1d));
        dice.one_in(self.climate.storms).then(|| dice.any())
    }

    /// Whether an account that admits has no place left for a first send.
    pub fn is_full(&self, account: &str) -> bool {
        self.roll(account, 4).is_some()
    }
}

impl Health for Weather {
    fn admits(&self, account: &str, _: &str, _: Stamp) -> Result<(), Skip> {
        let refused = self.roll(account, 1);
        refused.map_or(Ok(()), |n| Err(SKIPS[(n % SKIPS.len() as u64) as usize]))
    }

    fn failover_budget(&self, account: &str, _: Stamp) -> bool {
        self.roll(account, 2).is_none()
    }

    fn refund_cap(&self, account: &str, _: i64, _: Stamp) -> bool {
        (self.calm || !self.climate.capped) && self.roll(account, 3).is_none()
    }
}

impl World<'_> {
    pub(super) fn weather(&self, node: usize) -> Weather {
        let span = self.now / SPAN_MS;
        let key = self.seed.wrapping_mul(0x9e37_79b9) ^ span << 8 ^ node as u64;
        Weather { climate: self.climate, key, calm: self.calm() }
    }

    /// Counts whom a decision did not try, and what waits under a cap.
    pub(super) fn count_refusals(&mut self, decision: &Decision, before: Option<&Rc<Payment>>) {
        if self.climate.storms == 0 && !self.climate.capped {
            return;
        }
        let had = before.map_or(0, |p| p.attempts.len());
        for entry in &decision.entries {
            match entry.reason.as_deref() {
                Some("refund_cap") => self.score.capped += 1,
                Some("failover_budget") => self.score.over_budget += 1,
                Some(_) if entry.what.ends_with(" skipped") => self.score.skipped += 1,
                _ => {}
            }
        }
        // What could not fail over ends there.
        let tried = decision.next.attempts.len() > had;
        let skips = decision.entries.iter().filter(|e| e.what.ends_with(" skipped")).count();
        self.score.stranded += u64::from(!tried && skips > 0);
    }

    /// Whether a merchant whom nobody could serve asks again with the same key, by and by.
    pub(super) fn asks_again(&mut self, refusal: &Refusal) -> bool {
        if !matches!(refusal, Refusal::NoAccountAvailable { .. }) {
            return false;
        }
        self.score.no_account += 1;
        self.dice.one_in(2)
    }
}
