//! Watches over the accounts while time passes: what operators set by hand and when it ends,
//! maintenance, probes, alarms.
//!
//! What was set by hand outlives the process: it is durable before it is told, with a trail of who
//! did what and why. Of what is only observed, what is usual and what is owed is kept now and then,
//! in a few numbers; breakers, paces and hangs begin anew with each process.

mod probe;
mod seen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use interlock_engine::Stamp;
use interlock_engine::gates::{Alarm, Group, Hold};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::driver::{DriveError, Driver};
use crate::setup::Setup;

/// How often everything is looked at, ms.
const TICK_MS: u64 = 250;
/// How often the windows of maintenance are worked out, ms.
const WINDOWS_MS: u64 = 60_000;
/// How far ahead they are worked out, ms.
const AHEAD_MS: i64 = 2 * 24 * 3_600_000;
/// Lines of the trail that are kept.
const TRAIL_MAX: usize = 1_000;
/// The name of what was set by hand in the journal.
const SETTING: &str = "set_by_hand";

/// What an operator did to an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// The account.
    pub account: String,
    /// What.
    pub wish: Wish,
    /// Why, who, when, until when.
    pub hold: Hold,
}

/// What an operator wants of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub enum Wish {
    /// No new payments.
    Drain,
    /// Open breakers.
    Trip {
        /// Only of this method.
        method: Option<String>,
        /// Only of this group.
        group: Option<Group>,
    },
    /// Everything that was set by hand ends.
    Resume,
}

impl Wish {
    /// The word in the trail.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Trip { .. } => "trip",
            Self::Resume => "resume",
        }
    }

    /// The method whose breakers are meant, when not all are.
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Trip { method, .. } => method.as_deref(),
            _ => None,
        }
    }

    /// The group whose breakers are meant, when not all are.
    pub fn group(&self) -> Option<&'static str> {
        match self {
            Self::Trip { group, .. } => group.map(Group::as_str),
            _ => None,
        }
    }
}

/// What the journal keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    drained: BTreeMap<String, Hold>,
    trips: Vec<(String, String, Group, Hold)>,
    trail: VecDeque<Deed>,
}

/// Watches over all accounts of one process.
pub struct Health {
    driver: Arc<Driver>,
    kept: Mutex<Kept>,
}

impl Health {
    /// Takes up what operators had set when the last process ended.
    ///
    /// # Errors
    /// The journal can't be read, or holds what this version does not know.
    pub async fn restore(driver: &Arc<Driver>) -> Result<Arc<Self>, DriveError> {
        let kept: Kept = match driver.store.settings_get(SETTING).await? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|_| DriveError::Unreadable(SETTING.to_owned()))?,
            None => Kept::default(),
        };
        let now = driver.clock.now();
        let setup = driver.setup();
        let gates = &setup.gates;
        for (account, hold) in &kept.drained {
            gates.drain(account, Some(hold.clone()));
        }
        for (account, method, group, hold) in &kept.trips {
            gates.trip(account, Some(method), Some(*group), Some(hold), now);
        }
        seen::take_up(driver, now).await?;
        let health = Self { driver: Arc::clone(driver), kept: Mutex::new(kept) };
        work_out_windows(&setup, now);
        Ok(Arc::new(health))
    }

    /// Does what an operator wants and writes it down; false when the account has no such method.
    ///
    /// # Errors
    /// The journal did not take it. It is in force in this process, and written at the next tick.
    pub async fn act(&self, deed: Deed, now: Stamp) -> Result<bool, DriveError> {
        let setup = self.driver.setup();
        let (account, gates) = (deed.account.as_str(), &setup.gates);
        let done = match &deed.wish {
            Wish::Drain => gates.drain(account, Some(deed.hold.clone())),
            Wish::Trip { method, group } => {
                gates.trip(account, method.as_deref(), *group, Some(&deed.hold), now)
            }
            Wish::Resume => {
                gates.drain(account, None) && gates.trip(account, None, None, None, now)
            }
        };
        if !done {
            return Ok(false);
        }
        let (action, operator, reason) =
            (deed.wish.as_str(), deed.hold.by.as_str(), deed.hold.reason.as_str());
        let token = deed.hold.token.as_deref();
        tracing::warn!(account, action, operator, token, reason, "an operator acted");
        let mut kept = self.kept.lock().await;
        kept.trail.push_back(deed);
        if kept.trail.len() > TRAIL_MAX {
            kept.trail.pop_front();
        }
        self.write(&mut kept, now, true).await?;
        Ok(true)
    }

    /// What operators did, oldest first.
    pub async fn audit(&self) -> VecDeque<Deed> {
        self.kept.lock().await.trail.clone()
    }

    /// Runs until the process ends.
    pub async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut worked_out_at_ms = 0;
        let (mut seen_at_ms, mut seen) = (0, BTreeMap::new());
        let mut alarms = BTreeSet::new();
        loop {
            tick.tick().await;
            let now = self.driver.clock.now();
            let all = self.driver.in_force.all();
            for account in all.flat_map(|setup| setup.gates.end_holds(now)) {
                tracing::warn!(account, "what an operator had set has ended, as it should");
            }
            if now.mono_ms >= worked_out_at_ms + WINDOWS_MS {
                worked_out_at_ms = now.mono_ms;
                work_out_windows(&self.driver.setup(), now);
            }
            if now.mono_ms >= seen_at_ms + seen::SEEN_MS {
                seen_at_ms = now.mono_ms;
                self.keep_seen(&mut seen, now).await;
            }
            self.tell_alarms(&mut alarms, now);
            self.send_probes(now);
            // A provider's word drains too, and what ended is no longer in force.
            let mut kept = self.kept.lock().await;
            if let Err(error) = self.write(&mut kept, now, false).await {
                tracing::error!(%error, "what is set by hand is not durable yet");
            }
        }
    }

    /// Makes what is in force durable, if that is news.
    async fn write(&self, kept: &mut Kept, now: Stamp, news: bool) -> Result<(), DriveError> {
        let (drained, trips) = by_hand(&self.driver.setup(), now);
        if !news && drained == kept.drained && trips == kept.trips {
            return Ok(());
        }
        let next = Kept { drained, trips, trail: kept.trail.clone() };
        let bytes = serde_json::to_vec(&next).expect("it has a JSON form");
        self.driver.store.settings_put(SETTING, bytes).await?;
        *kept = next;
        Ok(())
    }

    fn tell_alarms(&self, told: &mut BTreeSet<(String, Alarm)>, now: Stamp) {
        let mut on = BTreeSet::new();
        let setup = self.driver.setup();
        for name in setup.open.keys() {
            let state = setup.gates.state(name, now);
            on.extend(state.into_iter().flat_map(|s| s.alarms).map(|a| (name.clone(), a)));
        }
        for (account, alarm) in on.difference(told) {
            tracing::error!(account, alarm = alarm.as_str(), "alarm");
        }
        for (account, alarm) in told.difference(&on) {
            tracing::info!(account, alarm = alarm.as_str(), "alarm is over");
        }
        *told = on;
    }
}

/// Announced maintenance comes into force with its configuration, and as time passes.
pub(crate) fn work_out_windows(setup: &Setup, now: Stamp) {
    for (name, account) in &setup.open {
        let (from, until) = (now.wall_ms, now.wall_ms.saturating_add(AHEAD_MS));
        let windows = account.maintenance.iter().flat_map(|w| w.between(from, until));
        setup.gates.maintain(name, windows.collect());
    }
}

type ByHand = (BTreeMap<String, Hold>, Vec<(String, String, Group, Hold)>);

fn by_hand(setup: &Setup, now: Stamp) -> ByHand {
    let mut drained = BTreeMap::new();
    let mut trips = Vec::new();
    for name in setup.open.keys() {
        let Some(state) = setup.gates.state(name, now) else { continue };
        drained.extend(state.drained.map(|hold| (name.clone(), hold)));
        trips.extend(state.trips.into_iter().map(|(m, g, hold)| (name.clone(), m, g, hold)));
    }
    (drained, trips)
}
