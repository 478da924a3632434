//! Who may pass now: breakers, rate limits, requests in flight, budgets.
//!
//! A decision looks at the gates without taking anything ([`Health`]); the driver then *reserves* a
//! place just before the record is written, and a refused reservation goes back into the decision.
//! This is the only room of the engine with memory, and it lives on the clock that it is given.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use interlock_circuit_breaker::{
    Breaker, Permit, Refused, RefusedReason, Settings, SettingsError, Snapshot, Transition, Verdict,
};

use crate::refusal::Skip;
use crate::stamp::Stamp;
use crate::world::Health;

/// Caps on automatic refunds count this much of the past, ms.
const HOUR_MS: u64 = 3_600_000;

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

/// What one account's gate is made of.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Of each of its breakers.
    pub breaker: Settings,
    /// Requests that make a payment.
    pub limit: Option<Rate>,
    /// Requests of any kind in flight.
    pub in_flight: u32,
    /// The methods that it takes: each has its own breakers.
    pub methods: Vec<String>,
    /// Automatic refunds in an hour.
    pub refunds_per_hour: u32,
    /// Minor units of automatic refunds in an hour, over all currencies.
    pub refunded_per_hour: Option<i64>,
}

/// How many second tries are admitted, over all accounts.
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

/// Operations that fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Authorize and continue.
    Payments,
    /// Capture, void, refund, close.
    Operations,
    /// Inquiries.
    Inquiries,
}

impl Group {
    /// The word in metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Operations => "operations",
            Self::Inquiries => "inquiries",
        }
    }
}

/// All gates of one process.
pub struct Gates {
    clock: EngineClock,
    accounts: BTreeMap<String, Gate>,
    merchants: BTreeMap<String, Limiter>,
    failovers: Mutex<Budget>,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, EngineClock, NoOpMiddleware<Nanos>>;

struct Gate {
    breakers: BTreeMap<(String, Group), Arc<Breaker>>,
    limiter: Option<Limiter>,
    in_flight: Arc<AtomicU32>,
    in_flight_max: u32,
    drained: AtomicBool,
    quarantined: AtomicBool,
    /// After a 429: nothing new before this, monotonic ms.
    paused_until_ms: AtomicU64,
    refunds: Mutex<VecDeque<(u64, i64)>>,
    refunds_per_hour: u32,
    refunded_per_hour: Option<i64>,
}

/// A place at an account: taken just before a send, given back when it is settled or dropped.
pub struct Reservation {
    permit: Permit,
    _place: Place,
}

struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reservation {
    /// What became of the request, for the breaker.
    pub fn settle(self, now: Stamp, verdict: Verdict, elapsed_ms: u64) {
        self.permit.record(now.mono_ms, verdict, elapsed_ms);
    }

    /// Nothing was sent after all.
    pub fn cancel(self, now: Stamp) {
        self.permit.cancel(now.mono_ms);
    }
}

/// An account as its gate sees it.
#[derive(Clone, Debug)]
pub struct AccountState {
    /// Each breaker, by method and group.
    pub breakers: Vec<(String, Group, Snapshot)>,
    /// Requests in flight.
    pub in_flight: u32,
    /// How many may be.
    pub in_flight_max: u32,
    /// An operator drained it.
    pub drained: bool,
    /// Its plugin is quarantined.
    pub quarantined: bool,
}

impl Gates {
    /// The gates of the configured accounts and merchants.
    ///
    /// # Errors
    /// An account's name and what is wrong with its breaker's settings.
    pub fn new(
        accounts: BTreeMap<String, GateSettings>,
        merchants: BTreeMap<String, Option<Rate>>,
        failovers: FailoverBudget,
    ) -> Result<Self, (String, SettingsError)> {
        let clock = EngineClock::default();
        let mut gates = BTreeMap::new();
        for (name, settings) in accounts {
            let gate = Gate::new(&name, &settings, &clock).map_err(|e| (name.clone(), e))?;
            gates.insert(name, gate);
        }
        let merchants = merchants
            .into_iter()
            .filter_map(|(name, rate)| rate.map(|rate| (name, limiter(rate, &clock))))
            .collect();
        Ok(Self {
            clock,
            accounts: gates,
            merchants,
            failovers: Mutex::new(Budget::new(failovers)),
        })
    }

    /// One request of a merchant.
    ///
    /// # Errors
    /// How long to wait, ms, when the merchant's limit is used up.
    pub fn admit_merchant(&self, merchant: &str, now: Stamp) -> Result<(), u64> {
        self.clock.set(now);
        let Some(limiter) = self.merchants.get(merchant) else { return Ok(()) };
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
        })
    }

    /// Takes a place for one request.
    ///
    /// # Errors
    /// The named reason why there is none.
    pub fn reserve(
        &self,
        account: &str,
        method: &str,
        group: Group,
        now: Stamp,
    ) -> Result<Reservation, Skip> {
        self.clock.set(now);
        let gate = self.accounts.get(account).ok_or(Skip::NotLoaded)?;
        if gate.quarantined.load(Ordering::Acquire) {
            return Err(Skip::Quarantined);
        }
        if group == Group::Payments {
            gate.open_for_payments(now)?;
        }
        let place = gate.take_place()?;
        let breaker = gate.breaker(method, group).ok_or(Skip::Method)?;
        let permit = breaker.try_acquire(now.mono_ms).map_err(|r| skip_of(&r))?;
        if group == Group::Payments
            && gate.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err())
        {
            permit.cancel(now.mono_ms);
            return Err(Skip::RateLimited);
        }
        Ok(Reservation { permit, _place: place })
    }

    /// Takes a place for a request that must go out whatever the breaker says: the way out of a
    /// doubt is never closed by the doubt. The breaker still hears what became of it.
    pub fn resolver_place(
        &self,
        account: &str,
        method: &str,
        group: Group,
        now: Stamp,
    ) -> Option<Reservation> {
        let gate = self.accounts.get(account)?;
        let breaker = gate.breaker(method, group)?;
        let permit = breaker.try_acquire(now.mono_ms).ok()?;
        let place = gate.take_place().ok()?;
        Some(Reservation { permit, _place: place })
    }

    /// A try of an account; `second` when another was tried before.
    pub fn count_try(&self, account: &str, second: bool, now: Stamp) {
        if self.accounts.contains_key(account) {
            lock(&self.failovers).count(second, now.mono_ms / 1_000);
        }
    }

    /// An automatic refund was started.
    pub fn count_refund(&self, account: &str, amount: i64, now: Stamp) {
        if let Some(gate) = self.accounts.get(account) {
            let mut refunds = lock(&gate.refunds);
            forget(&mut refunds, now.mono_ms);
            refunds.push_back((now.mono_ms, amount));
        }
    }

    /// The provider asked us to slow down.
    pub fn pause(&self, account: &str, for_ms: u64, now: Stamp) {
        if let Some(gate) = self.accounts.get(account) {
            let until = now.mono_ms.saturating_add(for_ms);
            gate.paused_until_ms.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// Stops or resumes new payments at an account; false when there is no such account.
    pub fn drain(&self, account: &str, drained: bool) -> bool {
        let Some(gate) = self.accounts.get(account) else { return false };
        gate.drained.store(drained, Ordering::Release);
        true
    }

    /// The account's plugin can't be called any more, or can again.
    pub fn quarantine(&self, account: &str, quarantined: bool) {
        if let Some(gate) = self.accounts.get(account) {
            gate.quarantined.store(quarantined, Ordering::Release);
        }
    }

    /// An account as its gate sees it.
    pub fn state(&self, account: &str, now: Stamp) -> Option<AccountState> {
        let gate = self.accounts.get(account)?;
        let breakers = gate
            .breakers
            .iter()
            .map(|((method, group), b)| (method.clone(), *group, b.snapshot(now.mono_ms)))
            .collect();
        Some(AccountState {
            breakers,
            in_flight: gate.in_flight.load(Ordering::Acquire),
            in_flight_max: gate.in_flight_max,
            drained: gate.drained.load(Ordering::Acquire),
            quarantined: gate.quarantined.load(Ordering::Acquire),
        })
    }

    /// What the breakers did since the last call: account, method, group, transition.
    pub fn transitions(&self, now: Stamp) -> Vec<(String, String, Group, Transition)> {
        let mut all = Vec::new();
        for (account, gate) in &self.accounts {
            for ((method, group), breaker) in &gate.breakers {
                for transition in breaker.take_transitions(now.mono_ms) {
                    all.push((account.clone(), method.clone(), *group, transition));
                }
            }
        }
        all
    }
}

impl Health for Gates {
    fn admits(&self, account: &str, method: &str, now: Stamp) -> Result<(), Skip> {
        let gate = self.accounts.get(account).ok_or(Skip::NotLoaded)?;
        if gate.quarantined.load(Ordering::Acquire) {
            return Err(Skip::Quarantined);
        }
        gate.open_for_payments(now)?;
        if gate.in_flight.load(Ordering::Acquire) >= gate.in_flight_max {
            return Err(Skip::InFlight);
        }
        let breaker = gate.breaker(method, Group::Payments).ok_or(Skip::Method)?;
        breaker.would_admit(now.mono_ms).map_err(|r| skip_of(&r))
    }

    fn failing_permille(&self, account: &str, method: &str, now: Stamp) -> u32 {
        let gate = self.accounts.get(account);
        let Some(breaker) = gate.and_then(|g| g.breaker(method, Group::Payments)) else { return 0 };
        let window = breaker.snapshot(now.mono_ms).window;
        let share = u64::from(window.failed) * 1_000 / u64::from(window.total).max(1);
        u32::try_from(share).unwrap_or(1_000)
    }

    fn failover_budget(&self, _account: &str, now: Stamp) -> bool {
        lock(&self.failovers).admits(now.mono_ms / 1_000)
    }

    fn refund_cap(&self, account: &str, amount: i64, now: Stamp) -> bool {
        let Some(gate) = self.accounts.get(account) else { return false };
        let mut refunds = lock(&gate.refunds);
        forget(&mut refunds, now.mono_ms);
        let sum: i64 = refunds.iter().map(|(_, amount)| *amount).sum();
        let count = u32::try_from(refunds.len()).unwrap_or(u32::MAX);
        count < gate.refunds_per_hour
            && gate.refunded_per_hour.is_none_or(|cap| sum.saturating_add(amount) <= cap)
    }
}

impl Gate {
    fn new(name: &str, s: &GateSettings, clock: &EngineClock) -> Result<Self, SettingsError> {
        let mut breakers = BTreeMap::new();
        for method in &s.methods {
            for group in [Group::Payments, Group::Operations, Group::Inquiries] {
                let seed = seed(&[name, method, group.as_str()]);
                let breaker = Breaker::new(Settings { seed, ..s.breaker })?;
                breakers.insert((method.clone(), group), Arc::new(breaker));
            }
        }
        Ok(Self {
            breakers,
            limiter: s.limit.map(|rate| limiter(rate, clock)),
            in_flight: Arc::default(),
            in_flight_max: s.in_flight,
            drained: AtomicBool::new(false),
            quarantined: AtomicBool::new(false),
            paused_until_ms: AtomicU64::new(0),
            refunds: Mutex::default(),
            refunds_per_hour: s.refunds_per_hour,
            refunded_per_hour: s.refunded_per_hour,
        })
    }

    fn breaker(&self, method: &str, group: Group) -> Option<&Arc<Breaker>> {
        self.breakers.get(&(method.to_owned(), group))
    }

    fn open_for_payments(&self, now: Stamp) -> Result<(), Skip> {
        if self.drained.load(Ordering::Acquire) {
            return Err(Skip::Drained);
        }
        if now.mono_ms < self.paused_until_ms.load(Ordering::Acquire) {
            return Err(Skip::RateLimited);
        }
        Ok(())
    }

    fn take_place(&self) -> Result<Place, Skip> {
        let place = Place(Arc::clone(&self.in_flight));
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= self.in_flight_max {
            return Err(Skip::InFlight);
        }
        Ok(place)
    }
}

/// First and second tries of the last seconds, one slot each.
struct Budget {
    settings: FailoverBudget,
    slots: VecDeque<(u64, u64, u64)>,
}

impl Budget {
    fn new(settings: FailoverBudget) -> Self {
        Self { settings, slots: VecDeque::new() }
    }

    fn count(&mut self, second_try: bool, second: u64) {
        self.forget(second);
        if self.slots.back().is_none_or(|(s, ..)| *s != second) {
            self.slots.push_back((second, 0, 0));
        }
        if let Some((_, firsts, seconds)) = self.slots.back_mut() {
            *if second_try { seconds } else { firsts } += 1;
        }
    }

    fn admits(&mut self, second: u64) -> bool {
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

fn forget(refunds: &mut VecDeque<(u64, i64)>, now_ms: u64) {
    while refunds.front().is_some_and(|(at, _)| at + HOUR_MS <= now_ms) {
        refunds.pop_front();
    }
}

fn skip_of(refused: &Refused) -> Skip {
    match refused.reason {
        RefusedReason::Open => Skip::BreakerOpen,
        RefusedReason::HalfOpenFull => Skip::BreakerHalfOpen,
        RefusedReason::ForcedOpen => Skip::Drained,
    }
}

fn limiter(rate: Rate, clock: &EngineClock) -> Limiter {
    let each = Duration::from_millis(rate.per_ms) / rate.count.get();
    let quota = Quota::with_period(each.max(Duration::from_nanos(1)))
        .expect("a period of at least a nanosecond")
        .allow_burst(rate.burst);
    RateLimiter::direct_with_clock(quota, clock.clone())
}

/// Breakers draw their jitter from this, so two of them do not probe in step (FNV-1a).
fn seed(parts: &[&str]) -> u64 {
    parts.iter().flat_map(|p| p.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time that the driver last gave, for the limiters.
#[derive(Clone, Default)]
struct EngineClock(Arc<AtomicU64>);

impl EngineClock {
    fn set(&self, now: Stamp) {
        self.0.fetch_max(now.mono_ms.saturating_mul(1_000_000), Ordering::AcqRel);
    }
}

impl Clock for EngineClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Acquire).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_account_spills_and_a_finished_request_makes_room() {
        let gates = gates(GateSettings { in_flight: 1, ..settings() });
        let Ok(held) = gates.reserve("a", "card", Group::Payments, at(0)) else {
            unreachable!("there is one place");
        };
        assert_eq!(gates.admits("a", "card", at(1)), Err(Skip::InFlight));
        let second = gates.reserve("a", "card", Group::Payments, at(1));
        assert_eq!(second.err(), Some(Skip::InFlight));
        held.settle(at(2), Verdict::Success, 2);
        assert_eq!(gates.admits("a", "card", at(2)), Ok(()));
    }

    #[test]
    fn limits_live_on_the_given_clock() {
        let one = NonZeroU32::MIN;
        let rate = Rate { count: one, per_ms: 1_000, burst: one };
        let gates = gates(GateSettings { limit: Some(rate), ..settings() });
        assert!(gates.reserve("a", "card", Group::Payments, at(0)).is_ok());
        let limited = gates.reserve("a", "card", Group::Payments, at(999)).err();
        assert_eq!(limited, Some(Skip::RateLimited));
        assert!(gates.reserve("a", "card", Group::Payments, at(1_000)).is_ok());
        assert!(gates.reserve("a", "card", Group::Inquiries, at(1_000)).is_ok());
    }

    #[test]
    fn a_merchant_over_its_limit_is_told_how_long_to_wait() {
        let one = NonZeroU32::MIN;
        let rate = Rate { count: one, per_ms: 1_000, burst: one };
        let merchants = BTreeMap::from([("shop".to_owned(), Some(rate))]);
        let gates =
            Gates::new(BTreeMap::new(), merchants, FailoverBudget::default()).expect("valid");
        assert_eq!(gates.admit_merchant("shop", at(0)), Ok(()));
        assert_eq!(gates.admit_merchant("shop", at(400)), Err(600));
        assert_eq!(gates.admit_merchant("other", at(400)), Ok(()));
    }

    #[test]
    fn second_tries_are_a_share_of_first_tries() {
        let gates = gates(settings());
        for _ in 0..100 {
            assert!(gates.failover_budget("a", at(0)));
            gates.count_try("a", true, at(0));
        }
        assert!(!gates.failover_budget("a", at(0)));
        (0..10).for_each(|_| gates.count_try("a", false, at(0)));
        assert!(gates.failover_budget("a", at(0)));
        gates.count_try("a", true, at(0));
        gates.count_try("a", true, at(0));
        assert!(!gates.failover_budget("a", at(0)));
        assert!(gates.failover_budget("a", at(10_000)));
    }

    #[test]
    fn automatic_refunds_are_capped_by_the_hour() {
        let gates =
            gates(GateSettings { refunds_per_hour: 2, refunded_per_hour: Some(100), ..settings() });
        assert!(gates.refund_cap("a", 60, at(0)));
        gates.count_refund("a", 60, at(0));
        assert!(!gates.refund_cap("a", 60, at(1)));
        assert!(gates.refund_cap("a", 40, at(1)));
        gates.count_refund("a", 40, at(1));
        assert!(!gates.refund_cap("a", 0, at(2)));
        assert!(gates.refund_cap("a", 60, at(HOUR_MS + 1)));
    }

    #[test]
    fn drained_paused_and_quarantined_accounts_take_nothing_new() {
        let gates = gates(settings());
        gates.drain("a", true);
        assert_eq!(gates.admits("a", "card", at(0)), Err(Skip::Drained));
        assert!(gates.reserve("a", "card", Group::Operations, at(0)).is_ok());
        gates.drain("a", false);
        gates.pause("a", 500, at(0));
        assert_eq!(gates.admits("a", "card", at(499)), Err(Skip::RateLimited));
        assert_eq!(gates.admits("a", "card", at(500)), Ok(()));
        gates.quarantine("a", true);
        let refused = gates.reserve("a", "card", Group::Operations, at(500)).err();
        assert_eq!(refused, Some(Skip::Quarantined));
    }

    fn gates(settings: GateSettings) -> Gates {
        let accounts = BTreeMap::from([("a".to_owned(), settings)]);
        Gates::new(accounts, BTreeMap::new(), FailoverBudget::default()).expect("valid settings")
    }

    fn settings() -> GateSettings {
        GateSettings {
            breaker: Settings::default(),
            limit: None,
            in_flight: 10,
            methods: vec!["card".into()],
            refunds_per_hour: 20,
            refunded_per_hour: None,
        }
    }

    fn at(mono_ms: u64) -> Stamp {
        Stamp { wall_ms: 0, boot: 1, mono_ms }
    }
}
