//! Who may pass now: breakers, rate limits, requests in flight, budgets, and who is tried last.
//!
//! A decision looks at the gates without taking anything ([`Health`]); the driver then *reserves* a
//! place just before the record is written, and a refused reservation goes back into the decision.
//! This is the only room of the engine with memory, and it lives on the clock that it is given.
//!
//! What refuses an account is certain: its breaker is open, its limit is used up, an operator
//! drained it. What is only doubtful about it (its breaker has just closed, a sibling's is open,
//! its offers are not paid) puts it behind the other candidates and refuses nothing.

mod account;
mod budget;
mod conversion;
mod flights;
mod hold;
mod pace;
mod seen;
mod signs;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interlock_circuit_breaker::{Settings, SettingsError, Snapshot, State, Transition};

use serde::{Deserialize, Serialize};

use crate::refusal::Skip;
use crate::stamp::Stamp;
use crate::world::Health;
use account::{Gate, skip_of};
use budget::Budget;
use pace::{EngineClock, Limiter, limiter};

pub use account::{Probe, Reservation};
pub use budget::FailoverBudget;
pub use conversion::{Conversion, ConversionSettings};
pub use hold::Hold;
pub use pace::Rate;
pub use seen::{Seen, SeenAccount};

/// Caps on automatic refunds count this much of the past, ms.
const HOUR_MS: u64 = 3_600_000;
/// The longest pause that a provider may ask for, ms.
const PAUSE_MAX_MS: u64 = 300_000;

/// What one account's gate is made of.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Of each of its breakers.
    pub breaker: Settings,
    /// Requests that make a payment. Operations and inquiries have a quarter of it each, beside.
    pub limit: Option<Rate>,
    /// Requests that make a payment, in flight. Operations and inquiries have a quarter each.
    pub in_flight: u32,
    /// The methods that it takes: each has its own breakers.
    pub methods: Vec<String>,
    /// Automatic refunds in an hour.
    pub refunds_per_hour: u32,
    /// Minor units of automatic refunds in an hour, over all currencies.
    pub refunded_per_hour: Option<i64>,
    /// Accounts of one name fail together.
    pub failure_domain: Option<String>,
    /// Unanswered payments that wait so long say that the provider hangs, ms.
    pub hang_after_ms: u64,
    /// How long it takes from a tenth of the payments to all of them, ms.
    pub slow_start_ms: u64,
    /// A 429 lowers the pace for a while.
    pub adaptive_limit: bool,
    /// How it is judged whether shoppers can pay; `None` does not judge.
    pub conversion: Option<ConversionSettings>,
    /// Its plugin can ask whether the provider is well: while it is not, no shopper tries it out.
    pub probes: bool,
}

/// Operations that fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Authorize and continue.
    Payments,
    /// Capture, void, refund, close.
    Operations,
    /// Inquiries.
    Inquiries,
}

impl Group {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Payments, Self::Operations, Self::Inquiries];

    /// The word in metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payments => "payments",
            Self::Operations => "operations",
            Self::Inquiries => "inquiries",
        }
    }

    /// The group of a word.
    pub fn of_str(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == word)
    }
}

/// How many requests of a group may be in flight where so many payments may.
pub fn places(group: Group, in_flight: u32) -> u32 {
    match group {
        Group::Payments => in_flight,
        Group::Operations | Group::Inquiries => (in_flight / 4).max(1),
    }
}

/// What an operator should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alarm {
    /// The provider says that the account is restricted; it is drained.
    AccountRestricted,
    /// Too few of its offers are paid.
    LowConversion,
    /// Its answers are not those that the plugin knows.
    ContractDrift,
    /// Notifications do not come.
    NotificationLag,
    /// Payments are sent and not answered.
    Hanging,
}

impl Alarm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AccountRestricted,
        Self::LowConversion,
        Self::ContractDrift,
        Self::NotificationLag,
        Self::Hanging,
    ];

    /// The word in log, metric and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountRestricted => "account_restricted",
            Self::LowConversion => "low_conversion",
            Self::ContractDrift => "contract_drift",
            Self::NotificationLag => "notification_lag",
            Self::Hanging => "hanging",
        }
    }
}

/// All gates of one process.
pub struct Gates {
    clock: EngineClock,
    accounts: BTreeMap<String, Gate>,
    merchants: BTreeMap<String, (Rate, Arc<Limiter>)>,
    failovers: Arc<Mutex<Budget>>,
    /// By the account that a second try leaves.
    left: BTreeMap<String, Arc<Mutex<Budget>>>,
}

/// An account as its gate sees it.
#[derive(Clone, Debug)]
pub struct AccountState {
    /// Each breaker, by method and group.
    pub breakers: Vec<(String, Group, Snapshot)>,
    /// Requests in flight, and how many may be, by group.
    pub in_flight: [(Group, u32, u32); 3],
    /// How long the oldest payment in flight has been, ms.
    pub oldest_in_flight_ms: u64,
    /// An operator drained it, or a provider's word did.
    pub drained: Option<Hold>,
    /// Breakers that an operator opened, by method and group.
    pub trips: Vec<(String, Group, Hold)>,
    /// Its plugin is quarantined.
    pub quarantined: bool,
    /// It is under announced maintenance until then, Unix ms.
    pub maintenance_until_ms: Option<i64>,
    /// Its provider asked for a pause of so many more ms.
    pub paused_ms: u64,
    /// How often its pace is halved after 429s, 0 to 3.
    pub pace_halved: u32,
    /// Paid against created, by method.
    pub conversion: Vec<(String, Conversion)>,
    /// The share of answers that its plugin could not read.
    pub unread_share: f64,
    /// How long the oldest notification has been awaited, ms.
    pub notification_lag_ms: u64,
    /// What an operator should look at.
    pub alarms: Vec<Alarm>,
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
        Self::build(None, &|_| false, accounts, merchants, failovers)
    }

    /// The gates of another configuration, beside these or in their place. What is set as it was
    /// is the same thing in both: a reload closes no breaker, forgets no refund and gives nobody a
    /// second burst. What happened to an account stays with its name, whatever is set. Only the
    /// breakers of those that `judged_anew` names begin anew.
    ///
    /// # Errors
    /// As [`Gates::new`].
    pub fn after(
        &self,
        judged_anew: &dyn Fn(&str) -> bool,
        accounts: BTreeMap<String, GateSettings>,
        merchants: BTreeMap<String, Option<Rate>>,
        failovers: FailoverBudget,
    ) -> Result<Self, (String, SettingsError)> {
        Self::build(Some(self), judged_anew, accounts, merchants, failovers)
    }

    fn build(
        before: Option<&Self>,
        judged_anew: &dyn Fn(&str) -> bool,
        accounts: BTreeMap<String, GateSettings>,
        merchants: BTreeMap<String, Option<Rate>>,
        failovers: FailoverBudget,
    ) -> Result<Self, (String, SettingsError)> {
        let clock = before.map_or_else(EngineClock::default, |gates| gates.clock.clone());
        let budget = |known: Option<&Arc<Mutex<Budget>>>| match known {
            Some(known) if lock(known).settings() == failovers => Arc::clone(known),
            _ => Arc::new(Mutex::new(Budget::new(failovers))),
        };
        let mut gates = BTreeMap::new();
        let mut left = BTreeMap::new();
        for (name, settings) in accounts {
            let known = before.and_then(|gates| gates.accounts.get(&name));
            let anew = judged_anew(&name);
            let gate = Gate::new(&name, &settings, known, anew, &clock);
            let gate = gate.map_err(|e| (name.clone(), e))?;
            left.insert(name.clone(), budget(before.and_then(|gates| gates.left.get(&name))));
            gates.insert(name, gate);
        }
        let merchants = merchants.into_iter().filter_map(|(name, rate)| {
            let rate = rate?;
            let known = before.and_then(|gates| gates.merchants.get(&name));
            let limiter = match known {
                Some((known, limiter)) if *known == rate => Arc::clone(limiter),
                _ => Arc::new(limiter(rate, &clock)),
            };
            Some((name, (rate, limiter)))
        });
        let merchants = merchants.collect();
        let failovers = budget(before.map(|gates| &gates.failovers));
        Ok(Self { clock, accounts: gates, merchants, failovers, left })
    }

    /// One request of a merchant.
    ///
    /// # Errors
    /// How long to wait, ms, when the merchant's limit is used up.
    pub fn admit_merchant(&self, merchant: &str, now: Stamp) -> Result<(), u64> {
        self.clock.set(now);
        let Some((_, limiter)) = self.merchants.get(merchant) else { return Ok(()) };
        pace::check(limiter, &self.clock)
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
            gate.open_for_payments(method, now)?;
        }
        let lane = gate.lane(method).ok_or(Skip::Method)?;
        let place = gate.fly(group, lane, now)?;
        let permit = lane.breaker(group).try_acquire(now.mono_ms).map_err(|r| skip_of(&r))?;
        if gate.pace(group).take(now).is_err() {
            permit.cancel(now.mono_ms);
            return Err(Skip::RateLimited);
        }
        let sign = (group == Group::Payments).then(|| lane.clone());
        Ok(Reservation::new(permit, sign, Some(place)))
    }

    /// Takes a place for a request that goes out whatever the breaker says: the way out of a doubt
    /// is never closed by the doubt. It keeps to its group's share, and the breaker still hears
    /// what became of it.
    ///
    /// # Errors
    /// The share is used up: how long to wait before asking again, ms.
    pub fn way_out(
        &self,
        account: &str,
        method: &str,
        group: Group,
        now: Stamp,
    ) -> Result<Option<Reservation>, u64> {
        self.clock.set(now);
        let Some(gate) = self.accounts.get(account) else { return Ok(None) };
        let Some(lane) = gate.lane(method) else { return Ok(None) };
        let place = gate.fly(group, lane, now).map_err(|_| FULL_WAIT_MS)?;
        gate.pace(group).take(now)?;
        let Ok(permit) = lane.breaker(group).try_acquire(now.mono_ms) else {
            // The breaker hears nothing of what it did not admit, and the place is still held.
            return Ok(Some(Reservation::unheard(place)));
        };
        Ok(Some(Reservation::new(permit, None, Some(place))))
    }

    /// What one probe is to speak for: each breaker of payments that wants to be tried out.
    pub fn probes(&self, account: &str, now: Stamp) -> Vec<Probe> {
        let lanes = self.accounts.get(account).into_iter().flat_map(|gate| &gate.lanes);
        lanes.filter_map(|lane| Probe::of(lane, now)).collect()
    }

    /// A try of an account; `left` is the account that was tried before it.
    pub fn count_try(&self, account: &str, left: Option<&str>, now: Stamp) {
        let second = now.mono_ms / 1_000;
        lock(&self.failovers).count(left.is_some(), second);
        if let Some(budget) = self.left.get(left.unwrap_or(account)) {
            lock(budget).count(left.is_some(), second);
        }
    }

    /// An automatic refund was started.
    pub fn count_refund(&self, account: &str, amount: i64, now: Stamp) {
        if let Some(gate) = self.accounts.get(account) {
            let mut refunds = lock(&gate.past.refunds);
            forget(&mut refunds, now.mono_ms);
            refunds.push_back((now.mono_ms, amount));
        }
    }

    /// The provider asked us to slow down: what it complained about goes at a lower pace for a
    /// while, and new payments pause first.
    pub fn slow_down(&self, account: &str, group: Group, pause_ms: u64, now: Stamp) {
        if let Some(gate) = self.accounts.get(account) {
            let until = now.mono_ms.saturating_add(pause_ms.min(PAUSE_MAX_MS));
            if group == Group::Payments {
                gate.past.paused_until_ms.fetch_max(until, Ordering::AcqRel);
            }
            if gate.settings.adaptive_limit {
                gate.pace(group).lower(now);
            }
        }
    }

    /// An answer came, and the plugin could read it or not.
    pub fn answered(&self, account: &str, read: bool) {
        if let Some(gate) = self.accounts.get(account) {
            lock(&gate.past.drift).answered(read);
        }
    }

    /// Something was created that a shopper may pay.
    pub fn created(&self, account: &str, method: &str, now: Stamp) {
        if let Some(lane) = self.accounts.get(account).and_then(|gate| gate.lane(method)) {
            lock(&lane.conversion).created(now.mono_ms);
        }
    }

    /// What was created `age_ms` ago was paid.
    pub fn paid(&self, account: &str, method: &str, age_ms: u64, now: Stamp) {
        if let Some(lane) = self.accounts.get(account).and_then(|gate| gate.lane(method)) {
            let created = now.mono_ms.saturating_sub(age_ms);
            lock(&lane.conversion).paid(created, now.mono_ms);
        }
    }

    /// A payment became final because we asked, and its notification did not come yet.
    pub fn paid_unnoticed(&self, account: &str, payment: &str, now: Stamp) {
        if let Some(gate) = self.accounts.get(account) {
            lock(&gate.past.notices).asked(payment, now.mono_ms);
        }
    }

    /// A notification about a payment came.
    pub fn noticed(&self, account: &str, payment: &str) {
        if let Some(gate) = self.accounts.get(account) {
            lock(&gate.past.notices).came(payment);
        }
    }

    /// Stops new payments at an account, or takes them again; false when there is no such account.
    pub fn drain(&self, account: &str, hold: Option<Hold>) -> bool {
        let Some(gate) = self.accounts.get(account) else { return false };
        *lock(&gate.past.drained) = hold;
        true
    }

    /// The provider says that the account is restricted: it takes nothing new until an operator
    /// says so. True when that is news.
    pub fn restrict(&self, account: &str, now: Stamp) -> bool {
        let Some(gate) = self.accounts.get(account) else { return false };
        let mut drained = lock(&gate.past.drained);
        if drained.as_ref().is_some_and(|hold| hold.until_ms.is_none()) {
            return false;
        }
        *drained = Some(Hold {
            reason: Alarm::AccountRestricted.as_str().into(),
            by: ENGINE.into(),
            token: None,
            since_ms: now.wall_ms,
            until_ms: None,
        });
        true
    }

    /// Opens breakers by hand, or gives them back to their rules: all of an account, or those of a
    /// method or a group. False when there is no such account or method.
    pub fn trip(
        &self,
        account: &str,
        method: Option<&str>,
        group: Option<Group>,
        hold: Option<&Hold>,
        now: Stamp,
    ) -> bool {
        self.accounts.get(account).is_some_and(|gate| gate.trip(method, group, hold, now))
    }

    /// The announced maintenance of the next days, Unix ms, from and until.
    pub fn maintain(&self, account: &str, windows: Vec<(i64, i64)>) {
        if let Some(gate) = self.accounts.get(account) {
            *lock(&gate.past.windows) = windows;
        }
    }

    /// Ends what an operator set until now; the accounts where something ended. What was set beside
    /// these gates, at those of another configuration, is in force here after it.
    pub fn end_holds(&self, now: Stamp) -> Vec<String> {
        let ended = self.accounts.iter().filter(|(_, gate)| gate.end_holds(now));
        ended.map(|(name, _)| name.clone()).collect()
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
        let of_lanes = gate.lanes.iter().flat_map(|lane| {
            let see = |group| lane.breaker(group).snapshot(now.mono_ms);
            Group::ALL.map(|group| (lane.method.to_string(), group, see(group)))
        });
        let trips = lock(&gate.past.trips);
        let trips = trips.iter().filter(|((method, _), _)| gate.lane(method).is_some());
        let trips = trips.map(|((method, group), hold)| (method.to_string(), *group, hold.clone()));
        let conversion: Vec<(String, Conversion)> = match gate.settings.conversion {
            None => Vec::new(),
            Some(_) => gate
                .lanes
                .iter()
                .map(|lane| (lane.method.to_string(), lock(&lane.conversion).look(now.mono_ms)))
                .collect(),
        };
        let within = |(from, until): &&(i64, i64)| (*from..*until).contains(&now.wall_ms);
        let drained = lock(&gate.past.drained).clone().filter(|hold| hold.holds(now.wall_ms));
        let alarms = gate.alarms(drained.as_ref(), &conversion, now);
        let paused = gate.past.paused_until_ms.load(Ordering::Acquire);
        let oldest = gate.flights.oldest();
        Some(AccountState {
            breakers: of_lanes.collect(),
            in_flight: Group::ALL.map(|g| (g, gate.flights.count(g), gate.places(g))),
            oldest_in_flight_ms: oldest.map_or(0, |since| now.mono_ms.saturating_sub(since)),
            drained,
            trips: trips.collect(),
            quarantined: gate.quarantined.load(Ordering::Acquire),
            maintenance_until_ms: lock(&gate.past.windows).iter().find(within).map(|w| w.1),
            paused_ms: paused.saturating_sub(now.mono_ms),
            pace_halved: gate.pace(Group::Payments).halved(now),
            conversion,
            unread_share: lock(&gate.past.drift).share(),
            notification_lag_ms: lock(&gate.past.notices).lag_ms(now.mono_ms),
            alarms,
        })
    }

    /// What the breakers did since the last call: account, method, group, transition.
    pub fn transitions(&self, now: Stamp) -> Vec<(String, String, Group, Transition)> {
        let mut all = Vec::new();
        for (account, gate) in &self.accounts {
            for lane in &gate.lanes {
                for group in Group::ALL {
                    for t in lane.breaker(group).take_transitions(now.mono_ms) {
                        let recovered = t.from == State::HalfOpen && t.to == State::Closed;
                        if recovered && group == Group::Payments {
                            lane.closed(now.mono_ms);
                        }
                        all.push((account.clone(), lane.method.to_string(), group, t));
                    }
                }
            }
        }
        all
    }

    /// Whether an account of the same failure domain is in an outage.
    fn sibling_is_down(&self, account: &str, gate: &Gate, method: &str, now: Stamp) -> bool {
        let Some(domain) = &gate.settings.failure_domain else { return false };
        let down = |gate: &Gate| {
            gate.lane(method).is_some_and(|lane| {
                let state = lane.breaker(Group::Payments).state(now.mono_ms);
                matches!(state, State::Open | State::HalfOpen)
            })
        };
        self.accounts.iter().any(|(name, other)| {
            name != account && other.settings.failure_domain.as_ref() == Some(domain) && down(other)
        })
    }
}

/// Who set what no operator did.
const ENGINE: &str = "engine";
/// A share that is full is asked again after this, ms.
const FULL_WAIT_MS: u64 = 20;

impl Gate {
    fn alarms(
        &self,
        drained: Option<&Hold>,
        conversion: &[(String, Conversion)],
        now: Stamp,
    ) -> Vec<Alarm> {
        let word = Alarm::AccountRestricted.as_str();
        let hangs = || self.lanes.iter().any(|lane| self.hangs(lane, now));
        Alarm::ALL
            .into_iter()
            .filter(|alarm| match alarm {
                Alarm::AccountRestricted => {
                    drained.is_some_and(|hold| hold.by == ENGINE && hold.reason == word)
                }
                Alarm::LowConversion => conversion.iter().any(|(_, c)| c.low),
                Alarm::ContractDrift => lock(&self.past.drift).drifted(),
                Alarm::NotificationLag => lock(&self.past.notices).late(now.mono_ms),
                Alarm::Hanging => hangs(),
            })
            .collect()
    }
}

impl Health for Gates {
    fn admits(&self, account: &str, method: &str, now: Stamp) -> Result<(), Skip> {
        let gate = self.accounts.get(account).ok_or(Skip::NotLoaded)?;
        let lane = gate.open_for_payments(method, now)?;
        if gate.flights.count(Group::Payments) >= gate.places(Group::Payments) {
            return Err(Skip::InFlight);
        }
        lane.breaker(Group::Payments).would_admit(now.mono_ms).map_err(|r| skip_of(&r))
    }

    fn failing_permille(&self, account: &str, method: &str, now: Stamp) -> u32 {
        let lane = self.accounts.get(account).and_then(|gate| gate.lane(method));
        let Some(lane) = lane else { return 0 };
        let window = lane.breaker(Group::Payments).snapshot(now.mono_ms).window;
        let share = window.failed.saturating_mul(1_000) / window.total.max(1);
        u32::try_from(share).unwrap_or(1_000)
    }

    fn demotes(&self, account: &str, method: &str, draw: f64, now: Stamp) -> Option<Skip> {
        let gate = self.accounts.get(account)?;
        let lane = gate.lane(method)?;
        if draw >= gate.warmth(lane, now) {
            return Some(Skip::SlowStart);
        }
        if gate.converts_badly(lane, now, draw) {
            return Some(Skip::LowConversion);
        }
        self.sibling_is_down(account, gate, method, now).then_some(Skip::DomainDown)
    }

    fn failover_budget(&self, left: &str, now: Stamp) -> bool {
        let second = now.mono_ms / 1_000;
        lock(&self.failovers).admits(second)
            && self.left.get(left).is_none_or(|budget| lock(budget).admits(second))
    }

    fn refund_cap(&self, account: &str, amount: i64, now: Stamp) -> bool {
        let Some(gate) = self.accounts.get(account) else { return false };
        let mut refunds = lock(&gate.past.refunds);
        forget(&mut refunds, now.mono_ms);
        let sum: i64 = refunds.iter().map(|(_, amount)| *amount).sum();
        let count = u32::try_from(refunds.len()).unwrap_or(u32::MAX);
        count < gate.settings.refunds_per_hour
            && gate.settings.refunded_per_hour.is_none_or(|cap| sum.saturating_add(amount) <= cap)
    }
}

fn forget(refunds: &mut VecDeque<(u64, i64)>, now_ms: u64) {
    while refunds.front().is_some_and(|(at, _)| at + HOUR_MS <= now_ms) {
        refunds.pop_front();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
