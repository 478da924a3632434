//! Sheds the least valuable work when the process itself is too slow.
//!
//! Two measures of the process's own, in which no provider's time is: a task that sleeps a few
//! milliseconds wakes late when the threads have more to do than they can; and a new payment takes
//! longer to become durable than it did in the best minute of the last ten. (Longer than at its
//! best, because a slow disk alone is no overload.) While one of them is typically later than it
//! may be, lists and reports are refused, and fewer new payments are taken in hand at once: what
//! would only wait is refused at once, beginning with merchants over their share. Captures,
//! refunds, cancels, notifications and outcomes are never refused: they finish what was begun, and
//! without them the load would only come back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the measuring task sleeps.
const NAP: Duration = Duration::from_millis(5);
/// How many naps make one judgement: about a twentieth of a second.
const NAPS: usize = 10;
/// Payments in hand at once are never limited to fewer, or nothing would show that it is over.
const FLOOR: f64 = 4.0;
/// Nor to more, because the door itself has a limit.
const CEILING: f64 = 4_096.0;
/// What too much takes of the limit, as a factor.
const LESS: f64 = 0.7;
/// What a good judgement gives back where the limit was reached: ten times as much in a second.
const MORE: f64 = 1.12;
/// The same where it was not: a limit that nobody needs is forgotten in a minute.
const FORGET: f64 = 1.005;
/// Good judgements in a row after which lists are answered again: two seconds.
const LISTS_AFTER: u32 = 40;
/// Payments of one judgement whose times are kept.
const TOOK_MAX: usize = 1_024;
/// So many payments say something.
const TOOK_MIN: usize = 3;
/// The best judgement of each of the last minutes is remembered.
const MINUTES: usize = 10;
/// Judgements of a minute.
const MINUTE: u32 = 1_200;

/// Says what is refused.
pub struct Overload {
    late: Option<Duration>,
    state: Mutex<State>,
}

struct State {
    /// New payments that may be in hand at once.
    limit: f64,
    /// Those that are, and the most since the last judgement.
    in_hand: usize,
    most: usize,
    /// Those that are, by merchant; one that has none is not listed.
    merchants: HashMap<String, usize>,
    /// Good judgements in a row.
    good: u32,
    judgements: u32,
    /// How long new payments took to become durable, since the last judgement.
    took: Vec<Duration>,
    /// The shortest typical one, in each of the last minutes.
    best: VecDeque<Duration>,
}

/// A new payment in hand, until it is durable or refused.
pub struct InHand<'o> {
    overload: &'o Overload,
    merchant: String,
    begun: Instant,
}

impl InHand<'_> {
    /// It became durable.
    pub fn durable(self) {
        let mut state = lock(&self.overload.state);
        if state.took.len() < TOOK_MAX {
            state.took.push(self.begun.elapsed());
        }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.overload.state);
        state.in_hand -= 1;
        if let Some(count) = state.merchants.get_mut(&self.merchant) {
            *count -= 1;
            if *count == 0 {
                state.merchants.remove(&self.merchant);
            }
        }
    }
}

impl Overload {
    /// Judges what is later than `late`; `None` refuses nothing.
    pub fn new(late: Option<Duration>) -> Arc<Self> {
        let state = State {
            limit: CEILING,
            in_hand: 0,
            most: 0,
            merchants: HashMap::new(),
            good: LISTS_AFTER,
            judgements: 0,
            took: Vec::new(),
            best: VecDeque::from([Duration::MAX]),
        };
        Arc::new(Self { late, state: Mutex::new(state) })
    }

    /// Whether a list or a report may be made now.
    pub fn admits_list(&self) -> bool {
        lock(&self.state).good >= LISTS_AFTER
    }

    /// Takes a new payment in hand, or refuses it. A merchant within an even share is taken
    /// although others have used up the limit.
    pub fn admit_payment(&self, merchant: &str) -> Option<InHand<'_>> {
        let mut state = lock(&self.state);
        if self.late.is_some() && state.in_hand as f64 >= state.limit {
            let own = state.merchants.get(merchant).copied().unwrap_or(0);
            let sharers = state.merchants.len() + usize::from(own == 0);
            if sharers < 2 || (own + 1) as f64 > state.limit / sharers as f64 {
                state.most = usize::MAX;
                return None;
            }
        }
        state.in_hand += 1;
        state.most = state.most.max(state.in_hand);
        *state.merchants.entry(merchant.to_owned()).or_default() += 1;
        Some(InHand { overload: self, merchant: merchant.to_owned(), begun: Instant::now() })
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
                let lag = median(&mut lags);
                lags.clear();
                lock(&self.state).judge(lag, late);
            }
        }
    }
}

impl State {
    fn judge(&mut self, lag: Option<Duration>, late: Duration) {
        let slow = self.is_slow(late);
        let too_late = slow || lag.is_some_and(|lag| lag > late);
        let reached = self.most as f64 >= self.limit;
        if too_late {
            if self.good >= LISTS_AFTER {
                tracing::warn!("too slow: lists are refused, and payments that would only wait");
            }
            self.good = 0;
            // So few in hand are not what it is too slow for.
            if self.most as f64 > 2.0 * FLOOR {
                self.limit = (self.limit.min(self.most as f64) * LESS).max(FLOOR);
            }
        } else {
            self.good = self.good.saturating_add(1);
            if self.good == LISTS_AFTER {
                tracing::info!("quick enough again: lists are answered");
            }
            let more = if reached { MORE } else { FORGET };
            self.limit = (self.limit * more).min(CEILING);
        }
        self.most = self.in_hand;
        self.judgements = self.judgements.wrapping_add(1);
        if self.judgements.is_multiple_of(MINUTE) {
            self.best.push_back(Duration::MAX);
            if self.best.len() > MINUTES {
                self.best.pop_front();
            }
        }
    }

    /// Whether payments typically took longer than at their best, by more than that.
    fn is_slow(&mut self, late: Duration) -> bool {
        let mut took = std::mem::take(&mut self.took);
        let typical = median(&mut took).filter(|_| took.len() >= TOOK_MIN);
        let Some(typical) = typical else { return false };
        if let Some(best) = self.best.back_mut() {
            *best = typical.min(*best);
        }
        let best = self.best.iter().min().copied().unwrap_or(typical);
        typical > best.saturating_add(late)
    }
}

fn median(all: &mut [Duration]) -> Option<Duration> {
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_millis(10);

    fn overload() -> Arc<Overload> {
        Overload::new(Some(LATE))
    }

    fn judge(o: &Overload, lag_ms: u64) {
        lock(&o.state).judge(Some(Duration::from_millis(lag_ms)), LATE);
    }

    /// Takes as many as are admitted, of so many.
    fn take<'o>(o: &'o Overload, merchant: &str, count: usize) -> Vec<InHand<'o>> {
        (0..count).filter_map(|_| o.admit_payment(merchant)).collect()
    }

    #[test]
    fn lists_go_first_and_payments_that_would_only_wait() {
        let o = overload();
        assert!(o.admits_list());
        let held = take(&o, "a", 100);
        assert_eq!(held.len(), 100);
        judge(&o, 50);
        assert!(!o.admits_list());
        assert!(o.admit_payment("a").is_none(), "more are in hand than may be");
        drop(held);
        assert_eq!(take(&o, "a", 100).len(), 70);
        for _ in 0..100 {
            take(&o, "a", 100);
            judge(&o, 50);
        }
        assert_eq!(take(&o, "a", 100).len(), 4, "never nobody");
        for _ in 0..LISTS_AFTER - 1 {
            take(&o, "a", 1_000);
            judge(&o, 1);
        }
        assert!(!o.admits_list());
        judge(&o, 1);
        assert!(o.admits_list());
        assert!(take(&o, "a", 1_000).len() > 100, "what is needed comes back in two seconds");
    }

    #[test]
    fn a_slow_moment_with_hardly_a_payment_in_hand_limits_none() {
        let o = overload();
        take(&o, "a", 8);
        judge(&o, 50);
        assert!(!o.admits_list());
        assert_eq!(take(&o, "a", 1_000).len(), 1_000);
    }

    #[test]
    fn a_limit_that_nobody_reaches_is_forgotten_slowly() {
        let o = overload();
        let held = take(&o, "a", 20);
        judge(&o, 50);
        drop(held);
        (0..40).for_each(|_| judge(&o, 1));
        assert!(take(&o, "a", 1_000).len() < 25);
        (0..2 * MINUTE).for_each(|_| judge(&o, 1));
        assert_eq!(take(&o, "a", 1_000).len(), 1_000);
    }

    #[test]
    fn a_merchant_within_its_share_pays_nothing_for_one_that_is_not() {
        let o = overload();
        let held = take(&o, "loud", 40);
        judge(&o, 50);
        drop(held);
        let loud = take(&o, "loud", 100);
        assert_eq!(loud.len(), 28);
        let quiet = take(&o, "quiet", 100);
        assert_eq!(quiet.len(), 14, "half of the limit");
        drop(loud);
        assert!(take(&o, "loud", 100).len() <= 14);
    }

    #[test]
    fn payments_are_slow_beside_their_own_best_and_not_because_a_disk_is() {
        let o = overload();
        let slow = |ms: u64, count: usize| {
            let mut state = lock(&o.state);
            state.took = vec![Duration::from_millis(ms); count];
            state.is_slow(LATE)
        };
        assert!(!slow(40, 5), "nothing better is known");
        assert!(!slow(49, 5));
        assert!(slow(51, 5));
        assert!(!slow(5, 5));
        assert!(slow(40, 5));
        assert!(!slow(400, 2), "two payments say nothing");
        (0..MINUTE * MINUTES as u32).for_each(|_| judge(&o, 1));
        assert!(!slow(40, 5), "what was best is long ago");
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let o = Overload::new(None);
        assert!(o.admits_list());
        assert_eq!(take(&o, "a", 10_000).len(), 10_000);
    }
}
