//! Sheds the least valuable work when the process itself is too slow.
//!
//! The measure is the process's own: a task that sleeps a few milliseconds wakes late when the
//! threads have more to do than they can. While the typical wake-up is later than it may be, lists
//! and reports are refused first, then new payments, beginning with merchants over their share.
//! Captures, refunds, cancels, notifications and outcomes are never refused: they finish what was
//! begun, and without them the load would only come back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the measuring task sleeps.
const NAP: Duration = Duration::from_millis(5);
/// How many naps make one judgement: a tenth of a second.
const NAPS: usize = 20;
/// How many judgements a merchant's rate is counted over: a second.
const RATE_JUDGEMENTS: u32 = 10;
/// Lists and payments all pass.
const FULL: f64 = 2.0;
/// Payments pass, lists don't.
const PAYMENTS_ONLY: f64 = 1.0;
/// So many payments always pass, or nothing would show that it is over.
const FLOOR: f64 = 0.05;
/// What too much takes, as a factor.
const LESS: f64 = 0.75;
/// What a good judgement gives back: everything in four seconds.
const MORE: f64 = 0.05;

/// What may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A list or a report.
    List,
    /// A new payment.
    Payment,
}

impl Work {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "lists",
            Self::Payment => "payments",
        }
    }
}

/// Says what is refused.
pub struct Overload {
    late: Option<Duration>,
    calm: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// 2: all passes; 1: payments only; below: that share of the payments.
    level: f64,
    merchants: HashMap<String, Rate>,
    judgements: u32,
    /// The share of the payments of merchants over their share that passes.
    over_share: f64,
    /// The rate up to which a merchant's payments all pass, per second.
    fair: f64,
}

#[derive(Default)]
struct Rate {
    /// In this second so far, and in the last one.
    now: u32,
    last: u32,
}

impl Overload {
    /// Judges wake-ups that are later than `late`; `None` refuses nothing.
    pub fn new(late: Option<Duration>) -> Arc<Self> {
        let state = State {
            level: FULL,
            merchants: HashMap::new(),
            judgements: 0,
            over_share: 1.0,
            fair: f64::INFINITY,
        };
        Arc::new(Self { late, calm: AtomicBool::new(true), state: Mutex::new(state) })
    }

    /// Whether one request may pass; `draw` is a random number from 0 to 1. Merchants are the
    /// configured ones, so there are few.
    pub fn admits(&self, work: Work, merchant: &str, draw: f64) -> bool {
        if self.late.is_none() {
            return true;
        }
        if self.calm.load(Ordering::Acquire) && work == Work::List {
            return true;
        }
        let mut state = lock(&self.state);
        match work {
            Work::List => draw < state.level - PAYMENTS_ONLY,
            Work::Payment => {
                let rate = state.merchants.entry(merchant.to_owned()).or_default();
                rate.now = rate.now.saturating_add(1);
                let within = f64::from(rate.now) <= state.fair;
                within || draw < state.over_share
            }
        }
    }

    /// The level: 2 when everything passes, 1 when only payments do, below that their share.
    pub fn level(&self) -> f64 {
        lock(&self.state).level
    }

    /// Measures until the process ends.
    pub async fn run(self: Arc<Self>) {
        let Some(late) = self.late else { return };
        let mut lags = Vec::with_capacity(NAPS);
        loop {
            let due = Instant::now() + NAP;
            tokio::time::sleep_until(due).await;
            lags.push(due.elapsed());
            if lags.len() == NAPS {
                lags.sort_unstable();
                self.judge(lags[NAPS / 2] > late);
                lags.clear();
            }
        }
    }

    fn judge(&self, too_late: bool) {
        let mut state = lock(&self.state);
        let before = state.level;
        state.level = match too_late {
            // What is cheap to spare goes at once.
            true if state.level > PAYMENTS_ONLY => PAYMENTS_ONLY,
            true => (state.level * LESS).max(FLOOR),
            false => (state.level + MORE).min(FULL),
        };
        if before == FULL && state.level < FULL {
            tracing::warn!("too slow: lists are refused, then new payments");
        } else if before < FULL && state.level == FULL {
            tracing::info!("quick enough again: nothing is refused");
        }
        state.judgements += 1;
        if state.judgements.is_multiple_of(RATE_JUDGEMENTS) {
            state.merchants.retain(|_, rate| {
                rate.last = std::mem::take(&mut rate.now);
                rate.last > 0
            });
        }
        state.share_out();
        self.calm.store(state.level == FULL, Ordering::Release);
    }
}

impl State {
    /// Merchants within an even share of what passes are not touched; the others share the rest.
    fn share_out(&mut self) {
        if self.level >= PAYMENTS_ONLY {
            (self.fair, self.over_share) = (f64::INFINITY, 1.0);
            return;
        }
        let rates: Vec<f64> = self.merchants.values().map(|r| f64::from(r.last)).collect();
        let passes = rates.iter().sum::<f64>() * self.level;
        self.fair = if rates.len() > 1 { passes / rates.len() as f64 } else { 0.0 };
        let (within, over): (Vec<f64>, Vec<f64>) = rates.iter().partition(|r| **r <= self.fair);
        // Those over their share have passed that much already.
        let rest = passes - within.iter().sum::<f64>() - self.fair * over.len() as f64;
        let asked = over.iter().sum::<f64>() - self.fair * over.len() as f64;
        self.over_share = if asked > 0.0 { (rest / asked).clamp(0.0, 1.0) } else { self.level };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overload() -> Arc<Overload> {
        Overload::new(Some(Duration::from_millis(10)))
    }

    #[test]
    fn lists_go_first_and_then_payments_and_all_comes_back_in_four_seconds() {
        let o = overload();
        assert!(o.admits(Work::List, "a", 0.99) && o.admits(Work::Payment, "a", 0.99));
        o.judge(true);
        assert!(!o.admits(Work::List, "a", 0.0));
        assert!(o.admits(Work::Payment, "a", 0.99), "payments are dearer");
        o.judge(true);
        assert!(!o.admits(Work::Payment, "a", 0.99));
        assert!(o.admits(Work::Payment, "a", 0.5));
        (0..100).for_each(|_| o.judge(true));
        assert!(o.admits(Work::Payment, "a", 0.04), "never nobody");
        (0..39).for_each(|_| o.judge(false));
        assert_eq!(o.level(), FULL);
    }

    #[test]
    fn a_merchant_within_its_share_pays_nothing_for_one_that_is_not() {
        let o = overload();
        for second in 0..3 {
            for n in 0..1_000 {
                o.admits(Work::Payment, "loud", f64::from(n) / 1_000.0);
            }
            (0..10).for_each(|_| {
                o.admits(Work::Payment, "quiet", 0.5);
            });
            (0..RATE_JUDGEMENTS).for_each(|_| o.judge(second == 0));
        }
        // Judged too slow ten times, then well for two seconds: still below full.
        while o.level() > 0.5 {
            o.judge(true);
        }
        let passed = |merchant: &str, count: u32| {
            let draws = (0..count).map(|n| f64::from(n) / f64::from(count));
            draws.filter(|draw| o.admits(Work::Payment, merchant, *draw)).count()
        };
        (0..RATE_JUDGEMENTS).for_each(|_| {
            o.admits(Work::Payment, "quiet", 0.5);
        });
        assert_eq!(passed("quiet", 10), 10);
        let loud = passed("loud", 1_000);
        assert!((200..700).contains(&loud), "{loud} of 1000");
    }

    #[test]
    fn without_a_limit_nothing_is_measured_or_refused() {
        let o = Overload::new(None);
        o.judge(true);
        assert!(o.admits(Work::List, "a", 1.0) && o.admits(Work::Payment, "a", 1.0));
    }
}
