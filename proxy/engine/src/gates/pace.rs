//! How fast an account may be called: its configured rate, lowered for a while after a 429.
//!
//! "Too many requests" is no failure, it is a measure: the rate that was just used is too high.
//! Each 429 halves the pace, down to an eighth, and each quiet spell gives one step back. Where no
//! rate is configured, the rate of the last second is what is halved.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::lock;
use crate::stamp::Stamp;

/// The pace is halved at most so often.
const HALVED_MAX: u32 = 3;
/// Where no rate is configured, no lower one than this is taken for the provider's, per second: a
/// quiet second says nothing about what it can bear.
const UNKNOWN_MIN: u32 = 20;
/// A step is given back after this long without a 429, ms.
const QUIET_MS: u64 = 10_000;

/// Requests per second, with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in `per_ms`.
    pub count: NonZeroU32,
    /// ms.
    pub per_ms: u64,
    /// How many at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// The rate divided by `by`, never below one at a time.
    fn divided(self, by: u32) -> Self {
        let burst = NonZeroU32::new(self.burst.get() / by.max(1)).unwrap_or(NonZeroU32::MIN);
        Self { per_ms: self.per_ms.saturating_mul(u64::from(by.max(1))), burst, ..self }
    }

    /// A quarter, for the traffic that has a share of its own beside new payments.
    pub(super) fn share(self) -> Self {
        self.divided(4)
    }
}

pub(super) type Limiter = RateLimiter<NotKeyed, InMemoryState, EngineClock, NoOpMiddleware<Nanos>>;

pub(super) fn limiter(rate: Rate, clock: &EngineClock) -> Limiter {
    let each = Duration::from_millis(rate.per_ms) / rate.count.get();
    let quota = Quota::with_period(each.max(Duration::from_nanos(1)))
        .expect("a period of at least a nanosecond")
        .allow_burst(rate.burst);
    RateLimiter::direct_with_clock(quota, clock.clone())
}

/// Takes one; or how long to wait, ms.
pub(super) fn check(limiter: &Limiter, clock: &EngineClock) -> Result<(), u64> {
    limiter.check().map_err(|until| {
        let wait = until.wait_time_from(clock.now());
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
    })
}

/// The time that the driver last gave, for the limiters.
#[derive(Clone, Default)]
pub(super) struct EngineClock(Arc<AtomicU64>);

impl EngineClock {
    pub(super) fn set(&self, now: Stamp) {
        self.0.fetch_max(now.mono_ms.saturating_mul(1_000_000), Ordering::AcqRel);
    }

    /// The last time that was given, monotonic ms.
    pub(super) fn mono_ms(&self) -> u64 {
        self.0.load(Ordering::Acquire) / 1_000_000
    }
}

impl Clock for EngineClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Acquire).into()
    }
}

/// The pace of one kind of traffic at one account.
pub(super) struct Pace {
    rate: Option<Rate>,
    limiter: Option<Limiter>,
    clock: EngineClock,
    seen: Mutex<Seen>,
    lowered: Mutex<Option<Lowered>>,
    /// Whether `lowered` holds something: the common case takes no second lock.
    halved: AtomicU32,
}

/// How many passed in this second and in the one before.
#[derive(Default)]
struct Seen {
    second: u64,
    now: u32,
    before: u32,
}

struct Lowered {
    base: Rate,
    halved: u32,
    limiter: Limiter,
    quiet_since_ms: u64,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>, clock: &EngineClock) -> Self {
        Self {
            rate,
            limiter: rate.map(|rate| limiter(rate, clock)),
            clock: clock.clone(),
            seen: Mutex::default(),
            lowered: Mutex::default(),
            halved: AtomicU32::new(0),
        }
    }

    /// Takes one request.
    ///
    /// # Errors
    /// How long to wait for the next, ms.
    pub(super) fn take(&self, now: Stamp) -> Result<(), u64> {
        if let Some(limiter) = &self.limiter {
            check(limiter, &self.clock)?;
        }
        if self.halved.load(Ordering::Acquire) > 0 {
            self.recover(now);
            if let Some(lowered) = &*lock(&self.lowered) {
                check(&lowered.limiter, &self.clock)?;
            }
        }
        lock(&self.seen).count(now.mono_ms / 1_000);
        Ok(())
    }

    /// The provider said that this was too fast.
    pub(super) fn lower(&self, now: Stamp) {
        let mut lowered = lock(&self.lowered);
        let (base, halved) = match &*lowered {
            Some(l) if now.mono_ms < l.quiet_since_ms + 1_000 => return,
            Some(l) => (l.base, (l.halved + 1).min(HALVED_MAX)),
            None => (self.base(now), 1),
        };
        let limiter = limiter(base.divided(1 << halved), &self.clock);
        *lowered = Some(Lowered { base, halved, limiter, quiet_since_ms: now.mono_ms });
        self.halved.store(halved, Ordering::Release);
    }

    /// How often the pace is halved now, 0 to 3.
    pub(super) fn halved(&self, now: Stamp) -> u32 {
        if self.halved.load(Ordering::Acquire) > 0 {
            self.recover(now);
        }
        self.halved.load(Ordering::Acquire)
    }

    fn base(&self, now: Stamp) -> Rate {
        self.rate.unwrap_or_else(|| {
            let seen = lock(&self.seen).rate(now.mono_ms / 1_000);
            let count = NonZeroU32::new(seen.max(UNKNOWN_MIN)).unwrap_or(NonZeroU32::MIN);
            Rate { count, per_ms: 1_000, burst: count }
        })
    }

    fn recover(&self, now: Stamp) {
        let mut lowered = lock(&self.lowered);
        let Some(l) = lowered.as_mut() else { return };
        if now.mono_ms < l.quiet_since_ms + QUIET_MS {
            return;
        }
        l.halved -= 1;
        l.quiet_since_ms = now.mono_ms;
        self.halved.store(l.halved, Ordering::Release);
        if l.halved == 0 {
            *lowered = None;
        } else {
            l.limiter = limiter(l.base.divided(1 << l.halved), &self.clock);
        }
    }
}

impl Seen {
    fn count(&mut self, second: u64) {
        self.roll(second);
        self.now = self.now.saturating_add(1);
    }

    fn rate(&mut self, second: u64) -> u32 {
        self.roll(second);
        self.now.max(self.before)
    }

    fn roll(&mut self, second: u64) {
        if second > self.second {
            self.before = if second == self.second + 1 { self.now } else { 0 };
            (self.second, self.now) = (second, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Stamp {
        Stamp { wall_ms: 0, boot: 1, mono_ms }
    }

    /// How many of 1,000 tries in the second after `from` pass.
    fn passed(pace: &Pace, clock: &EngineClock, from: u64) -> usize {
        let tries = (0..1_000).map(|n| at(from + n));
        tries
            .filter(|now| {
                clock.set(*now);
                pace.take(*now).is_ok()
            })
            .count()
    }

    #[test]
    fn each_429_halves_the_pace_and_quiet_gives_it_back() {
        let clock = EngineClock::default();
        let count = NonZeroU32::new(40).expect("not zero");
        let rate = Rate { count, per_ms: 1_000, burst: NonZeroU32::MIN };
        let pace = Pace::new(Some(rate), &clock);
        assert!((38..=42).contains(&passed(&pace, &clock, 1_000)));
        pace.lower(at(2_000));
        assert!((19..=22).contains(&passed(&pace, &clock, 2_000)));
        pace.lower(at(3_500));
        assert!((9..=12).contains(&passed(&pace, &clock, 4_000)));
        assert_eq!(pace.halved(at(5_000)), 2);
        assert!((19..=22).contains(&passed(&pace, &clock, 14_000)));
        assert!((38..=42).contains(&passed(&pace, &clock, 25_000)));
    }

    #[test]
    fn without_a_rate_the_last_seconds_own_rate_is_halved() {
        let clock = EngineClock::default();
        let pace = Pace::new(None, &clock);
        assert_eq!(passed(&pace, &clock, 1_000), 1_000);
        pace.lower(at(2_000));
        // A burst of half a second, and half the rate.
        assert!((900..=1_000).contains(&passed(&pace, &clock, 2_000)));
        assert!((490..=510).contains(&passed(&pace, &clock, 3_000)));
    }

    #[test]
    fn many_429s_at_once_are_one_step() {
        let clock = EngineClock::default();
        let pace = Pace::new(None, &clock);
        (0..50).for_each(|n| pace.lower(at(2_000 + n)));
        assert_eq!(pace.halved(at(2_100)), 1);
    }
}
