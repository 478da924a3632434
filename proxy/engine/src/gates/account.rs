//! One account's gate: a lane with its breakers for each method, and what all of them share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use interlock_circuit_breaker::{
    Breaker, Manual, Permit, Refused, RefusedReason, Settings, SettingsError, State, Verdict,
};

use super::conversion::Memory;
use super::flights::{Flights, Place};
use super::hold::Hold;
use super::pace::{EngineClock, Pace};
use super::signs::{Drift, Notices};
use super::{GateSettings, Group, lock, places};
use crate::refusal::Skip;
use crate::stamp::Stamp;

/// A lane's share of payments when its breaker has just closed.
const FIRST_SHARE: f64 = 0.1;
/// So many payments still go first to an account that converts badly: without them nobody would
/// notice that it is well again.
const EXPLORED: f64 = 0.05;
/// A probe that found the provider well speaks for so long, ms.
const PROBE_HOLDS_MS: u64 = 5_000;
const NEVER: u64 = u64::MAX;

/// Everything that one account's requests pass, as it is configured now.
pub(super) struct Gate {
    pub(super) lanes: Vec<Arc<Lane>>,
    pub(super) flights: Arc<Flights>,
    paces: [Arc<Pace>; 3],
    pub(super) past: Arc<Past>,
    /// Its plugin can't be called any more: as long as it is that plugin.
    pub(super) quarantined: AtomicBool,
    pub(super) settings: GateSettings,
}

/// What happened to an account and what was done to it, however it is configured.
#[derive(Default)]
pub(super) struct Past {
    pub(super) drained: Mutex<Option<Hold>>,
    /// By method and group.
    pub(super) trips: Mutex<BTreeMap<(Arc<str>, Group), Hold>>,
    /// After a 429: nothing new before this, monotonic ms.
    pub(super) paused_until_ms: AtomicU64,
    /// Announced maintenance, Unix ms, from and until.
    pub(super) windows: Mutex<Vec<(i64, i64)>>,
    pub(super) refunds: Mutex<VecDeque<(u64, i64)>>,
    pub(super) drift: Mutex<Drift>,
    pub(super) notices: Mutex<Notices>,
}

/// One method at one account.
pub(super) struct Lane {
    pub(super) method: Arc<str>,
    breakers: [Arc<Breaker>; 3],
    /// When a payment was last answered, monotonic ms.
    last_answer_ms: AtomicU64,
    /// When a probe last found the provider well, monotonic ms.
    probed_ms: AtomicU64,
    /// When the breaker of payments last closed after an outage, monotonic ms.
    closed_ms: AtomicU64,
    pub(super) conversion: Mutex<Memory>,
}

/// A place at an account: taken just before a send, given back when it is settled or dropped.
pub struct Reservation {
    /// `None` when the breaker did not admit it and does not hear of it.
    permit: Option<Permit>,
    /// Of a payment: its answer is a sign of life.
    lane: Option<Arc<Lane>>,
    _place: Option<Place>,
}

impl Reservation {
    pub(super) fn new(permit: Permit, lane: Option<Arc<Lane>>, place: Option<Place>) -> Self {
        Self { permit: Some(permit), lane, _place: place }
    }

    /// A place of which no breaker hears.
    pub(super) fn unheard(place: Place) -> Self {
        Self { permit: None, lane: None, _place: Some(place) }
    }

    /// What became of the request, for the breaker.
    pub fn settle(self, now: Stamp, verdict: Verdict, elapsed_ms: u64) {
        let alive = matches!(verdict, Verdict::Success | Verdict::BusinessDecline);
        if let (true, Some(lane)) = (alive, &self.lane) {
            lane.last_answer_ms.fetch_max(now.mono_ms, Ordering::AcqRel);
        }
        if let Some(permit) = self.permit {
            permit.record(now.mono_ms, verdict, elapsed_ms);
        }
    }

    /// Nothing was sent after all.
    pub fn cancel(self, now: Stamp) {
        if let Some(permit) = self.permit {
            permit.cancel(now.mono_ms);
        }
    }
}

/// One probe's word for one breaker of payments.
///
/// A provider that answers a probe may still fail payments, so a good word only lets the first few
/// payments try; a bad one is a failed try, and no shopper paid for it.
pub struct Probe {
    lane: Arc<Lane>,
    permit: Permit,
}

impl Probe {
    pub(super) fn of(lane: &Arc<Lane>, now: Stamp) -> Option<Self> {
        if !lane.wants_probe(now) {
            return None;
        }
        let permit = lane.breaker(Group::Payments).try_acquire(now.mono_ms).ok()?;
        Some(Self { lane: Arc::clone(lane), permit })
    }

    /// What the probe found.
    pub fn settle(self, now: Stamp, verdict: Verdict, elapsed_ms: u64) {
        if matches!(verdict, Verdict::LocalFailure | Verdict::RemoteFailure) {
            self.permit.record(now.mono_ms, verdict, elapsed_ms);
        } else {
            self.permit.cancel(now.mono_ms);
            self.lane.probed_ms.store(now.mono_ms, Ordering::Release);
        }
    }
}

impl Lane {
    fn new(account: &str, method: &str, s: &GateSettings) -> Result<Self, SettingsError> {
        let breaker = |group: Group| {
            let seed = seed(&[account, method, group.as_str()]);
            Breaker::new(Settings { seed, ..s.breaker }).map(Arc::new)
        };
        let [payments, operations, inquiries] = Group::ALL;
        Ok(Self {
            method: method.into(),
            breakers: [breaker(payments)?, breaker(operations)?, breaker(inquiries)?],
            last_answer_ms: AtomicU64::new(0),
            probed_ms: AtomicU64::new(NEVER),
            closed_ms: AtomicU64::new(NEVER),
            conversion: Mutex::new(Memory::new(s.conversion.unwrap_or_default())),
        })
    }

    pub(super) fn breaker(&self, group: Group) -> &Arc<Breaker> {
        &self.breakers[group as usize]
    }

    /// Whether it is half-open, and nothing says yet that the provider answers at all.
    fn wants_probe(&self, now: Stamp) -> bool {
        let probed_ms = self.probed_ms.load(Ordering::Acquire);
        let fresh = probed_ms != NEVER && now.mono_ms < probed_ms.saturating_add(PROBE_HOLDS_MS);
        !fresh && self.breaker(Group::Payments).state(now.mono_ms) == State::HalfOpen
    }

    /// Its breaker closed after an outage: traffic comes back by and by.
    pub(super) fn closed(&self, at_ms: u64) {
        self.closed_ms.store(at_ms, Ordering::Release);
    }
}

impl Gate {
    /// The gate of these settings. What it has `before`, it keeps: the past and what is in flight,
    /// and each breaker and pace that is set as it was.
    pub(super) fn new(
        name: &str,
        s: &GateSettings,
        before: Option<&Gate>,
        judged_anew: bool,
        clock: &EngineClock,
    ) -> Result<Self, SettingsError> {
        let past = before.map_or_else(Arc::default, |gate| Arc::clone(&gate.past));
        let judged = |s: &GateSettings| (s.breaker, s.conversion);
        let as_it_was = before.filter(|gate| !judged_anew && judged(&gate.settings) == judged(s));
        let lanes = s.methods.iter().map(|method| {
            if let Some(lane) = as_it_was.and_then(|gate| gate.lane(method)) {
                return Ok(Arc::clone(lane));
            }
            Lane::new(name, method, s).map(Arc::new)
        });
        let lanes = lanes.collect::<Result<_, _>>()?;
        let share = s.limit.map(super::Rate::share);
        let as_fast = before.filter(|gate| gate.settings.limit == s.limit);
        let paces = match as_fast {
            Some(gate) => gate.paces.clone(),
            None => [s.limit, share, share].map(|rate| Arc::new(Pace::new(rate, clock))),
        };
        let gate = Self {
            lanes,
            flights: before.map_or_else(Arc::default, |gate| Arc::clone(&gate.flights)),
            paces,
            past,
            quarantined: AtomicBool::new(false),
            settings: s.clone(),
        };
        gate.obey_trips(clock.mono_ms());
        Ok(gate)
    }

    pub(super) fn lane(&self, method: &str) -> Option<&Arc<Lane>> {
        self.lanes.iter().find(|lane| *lane.method == *method)
    }

    /// How many of a group may be in flight at once.
    pub(super) fn places(&self, group: Group) -> u32 {
        places(group, self.settings.in_flight)
    }

    /// Takes a place in flight until it is dropped.
    pub(super) fn fly(&self, group: Group, lane: &Lane, now: Stamp) -> Result<Place, Skip> {
        self.flights.take((group, self.places(group)), &lane.method, now.mono_ms)
    }

    pub(super) fn pace(&self, group: Group) -> &Pace {
        &self.paces[group as usize]
    }

    /// Whether it takes new payments of a method at all, whatever their number.
    pub(super) fn open_for_payments(&self, method: &str, now: Stamp) -> Result<&Arc<Lane>, Skip> {
        if self.quarantined.load(Ordering::Acquire) {
            return Err(Skip::Quarantined);
        }
        if lock(&self.past.drained).as_ref().is_some_and(|hold| hold.holds(now.wall_ms)) {
            return Err(Skip::Drained);
        }
        let within = |(from, until): &(i64, i64)| (*from..*until).contains(&now.wall_ms);
        if lock(&self.past.windows).iter().any(within) {
            return Err(Skip::Maintenance);
        }
        if now.mono_ms < self.past.paused_until_ms.load(Ordering::Acquire) {
            return Err(Skip::RateLimited);
        }
        let lane = self.lane(method).ok_or(Skip::Method)?;
        if self.hangs(lane, now) {
            return Err(Skip::Hanging);
        }
        if self.settings.probes && lane.wants_probe(now) {
            return Err(Skip::BreakerHalfOpen);
        }
        Ok(lane)
    }

    /// Whether its payments are sent and not answered: so many wait so long, and none was answered
    /// meanwhile. It ends by itself: they are answered, or time out and the breaker hears of it.
    pub(super) fn hangs(&self, lane: &Lane, now: Stamp) -> bool {
        let hang_after_ms = self.settings.hang_after_ms;
        let Some(before_ms) = now.mono_ms.checked_sub(hang_after_ms) else { return false };
        let enough = self.settings.breaker.consecutive_failures;
        lane.last_answer_ms.load(Ordering::Acquire) <= before_ms
            && self.flights.older(&lane.method, before_ms, enough) >= enough
    }

    /// The share of payments that it should get after its breaker closed, 1 when all.
    pub(super) fn warmth(&self, lane: &Lane, now: Stamp) -> f64 {
        let closed_ms = lane.closed_ms.load(Ordering::Acquire);
        let since_ms = now.mono_ms.saturating_sub(closed_ms);
        if closed_ms == NEVER || since_ms >= self.settings.slow_start_ms {
            return 1.0;
        }
        let passed = since_ms as f64 / self.settings.slow_start_ms.max(1) as f64;
        FIRST_SHARE + (1.0 - FIRST_SHARE) * passed
    }

    /// Whether too few of its offers are paid, and this payment is not one of the few that try.
    pub(super) fn converts_badly(&self, lane: &Lane, now: Stamp, draw: f64) -> bool {
        self.settings.conversion.is_some()
            && draw >= EXPLORED
            && lock(&lane.conversion).look(now.mono_ms).low
    }
}

pub(super) fn skip_of(refused: &Refused) -> Skip {
    match refused.reason {
        RefusedReason::Open => Skip::BreakerOpen,
        RefusedReason::HalfOpenFull => Skip::BreakerHalfOpen,
        RefusedReason::ForcedOpen => Skip::Tripped,
    }
}

impl Gate {
    /// Sets its breakers open by hand, or gives them back to their rules; false when there is no
    /// such method.
    pub(super) fn trip(
        &self,
        method: Option<&str>,
        group: Option<Group>,
        hold: Option<&Hold>,
        now: Stamp,
    ) -> bool {
        let mut any = false;
        let mut trips = lock(&self.past.trips);
        for lane in &self.lanes {
            if method.is_some_and(|method| *method != *lane.method) {
                continue;
            }
            any = true;
            for at in Group::ALL.into_iter().filter(|g| group.is_none_or(|group| group == *g)) {
                match hold {
                    Some(hold) => {
                        lane.breaker(at).force(Manual::ForcedOpen, now.mono_ms);
                        trips.insert((Arc::clone(&lane.method), at), hold.clone());
                    }
                    None => {
                        lane.breaker(at).release(now.mono_ms);
                        trips.remove(&(Arc::clone(&lane.method), at));
                    }
                }
            }
        }
        any
    }

    /// Ends what an operator set until now; says whether anything ended.
    pub(super) fn end_holds(&self, now: Stamp) -> bool {
        let mut drained = lock(&self.past.drained);
        let mut ended = drained.take_if(|hold| !hold.holds(now.wall_ms)).is_some();
        drop(drained);
        lock(&self.past.trips).retain(|_, hold| {
            ended |= !hold.holds(now.wall_ms);
            hold.holds(now.wall_ms)
        });
        self.obey_trips(now.mono_ms);
        ended
    }

    /// Its breakers are as they were set by hand, at these gates or at those of another
    /// configuration.
    fn obey_trips(&self, now_ms: u64) {
        let trips = lock(&self.past.trips);
        for lane in &self.lanes {
            for group in Group::ALL {
                let breaker = lane.breaker(group);
                let forced = breaker.state(now_ms) == State::ForcedOpen;
                let held = trips.contains_key(&(Arc::clone(&lane.method), group));
                if held && !forced {
                    breaker.force(Manual::ForcedOpen, now_ms);
                } else if forced && !held {
                    breaker.release(now_ms);
                }
            }
        }
    }
}

/// Breakers draw their jitter from this, so two of them do not probe in step (FNV-1a).
fn seed(parts: &[&str]) -> u64 {
    parts.iter().flat_map(|p| p.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
