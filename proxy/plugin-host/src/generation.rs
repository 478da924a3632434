//! One loaded plugin file, what it has done so far, and whether it may still be called.
//!
//! A reload makes a new generation beside the old one, which serves until nothing holds it. A
//! generation that panics, hangs or says what can't be read is put into quarantine for good, with
//! a named reason; its provider is then disabled and nothing else.

use std::fmt;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use interlock_plugin_api::{Manifest, abi};

use super::apart::Program;
use super::load::Linked;
use super::pool::{Full, Job, Pool};

/// The next call runs beside its caller if the last one took no longer.
const QUICK: Duration = Duration::from_millis(5);

/// One loaded plugin file.
pub struct Generation {
    pub(super) home: Home,
    pub(super) pool: Arc<Pool>,
    pub(super) soft: Duration,
    pub(super) hard: Duration,
    pub(super) counters: Counters,
    pub(super) file: String,
    pub(super) sha256: [u8; 32],
    pub(super) abi: (u16, u16),
    pub(super) manifest: Manifest,
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) quarantine: OnceLock<Quarantine>,
    pub(super) linked: Arc<Linked>,
    /// The last call that came back was a long one.
    pub(super) slow: AtomicBool,
}

/// Where a plugin's code runs.
pub(super) enum Home {
    /// In this process.
    Here(&'static abi::Plugin),
    /// In processes of its own, one for each account.
    Apart {
        /// The library's bytes, sealed.
        library: Arc<File>,
        /// What runs them.
        program: Program,
        /// So many callers may wait for an account's process.
        waiting_max: usize,
    },
}

/// Why and since when a generation may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Why.
    pub reason: QuarantineReason,
    /// Since when.
    pub at: SystemTime,
}

/// Why a generation may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuarantineReason {
    /// It panicked.
    Panicked,
    /// A call passed its hard deadline.
    TimedOut,
    /// It said something that is not of the contract.
    BadEffect,
    /// It wanted to send what it may not.
    RefusedSend,
}

impl QuarantineReason {
    /// The word for logs, metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::BadEffect => "bad_effect",
            Self::RefusedSend => "refused_send",
        }
    }
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a generation has done, counted since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// Calls into the plugin.
    pub calls: u64,
    /// Calls that took longer than the soft deadline.
    pub soft_overruns: u64,
    /// Calls that passed the hard deadline.
    pub timeouts: u64,
    /// Calls that panicked.
    pub panics: u64,
    /// Processes of its own that ended by themselves.
    pub deaths: u64,
    /// Calls that answered with a fault.
    pub faults: u64,
    /// Calls whose effect could not be read, or did not fit.
    pub bad_effects: u64,
    /// Steps that were not run, because the pool was full.
    pub busy: u64,
    /// The time of all calls that came back, microseconds.
    pub time_us: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub calls: AtomicU64,
    pub soft_overruns: AtomicU64,
    pub timeouts: AtomicU64,
    pub panics: AtomicU64,
    pub deaths: AtomicU64,
    pub faults: AtomicU64,
    pub bad_effects: AtomicU64,
    pub busy: AtomicU64,
    pub time_us: AtomicU64,
}

/// Adds one and gives the new value.
pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

impl Generation {
    /// The manifest inside the file.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether its code runs in processes of its own.
    pub fn is_apart(&self) -> bool {
        matches!(self.home, Home::Apart { .. })
    }

    /// sha256 of the file.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The plugin's own version.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// The ABI that the plugin was built for: major, minor.
    pub fn abi(&self) -> (u16, u16) {
        self.abi
    }

    /// The file's name, without its folder.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Counts the generations of this process, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Since when it is loaded.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why it may not be called, if so.
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.quarantine.get().copied()
    }

    /// Forbids every further call, for good. The first reason stays.
    pub fn put_in_quarantine(&self, reason: QuarantineReason) {
        if self.quarantine.set(Quarantine { reason, at: SystemTime::now() }).is_ok() {
            self.linked.forget(&self.file, self.sha256);
            let (plugin, version) = (self.manifest.id.as_str(), self.version());
            let (file, reason) = (self.file.as_str(), reason.as_str());
            tracing::warn!(file, plugin, version, self.number, reason, "plugin is in quarantine");
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> CounterValues {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        CounterValues {
            calls: get(&c.calls),
            soft_overruns: get(&c.soft_overruns),
            timeouts: get(&c.timeouts),
            panics: get(&c.panics),
            deaths: get(&c.deaths),
            faults: get(&c.faults),
            bad_effects: get(&c.bad_effects),
            busy: get(&c.busy),
            time_us: get(&c.time_us),
        }
    }

    /// How long the pool lets a call run. A process of its own is given up by its caller, who then
    /// may wait for others before him and start it anew.
    pub(super) fn watched_for(&self) -> Duration {
        match &self.home {
            Home::Here(_) => self.hard,
            Home::Apart { waiting_max, .. } => {
                self.hard * (2 * u32::try_from(*waiting_max).unwrap_or(u32::MAX / 4) + 3)
            }
        }
    }

    /// Queues a step, or runs it beside its caller while steps are quick.
    pub(super) fn submit(&self, job: Job) -> Result<(), Full> {
        // Another process can't be hurried, so nobody's own thread waits for it.
        if self.is_apart() || self.slow.load(Ordering::Relaxed) {
            return self.pool.submit(job);
        }
        self.pool.submit_quick(job)
    }

    /// Counts a call that came back, and warns of slow ones: of the 1st, 2nd, 4th, 8th, ...
    pub(super) fn returned(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.time_us.fetch_add(us, Ordering::Relaxed);
        self.slow.store(took > QUICK, Ordering::Relaxed);
        if took > self.soft {
            let overruns = count(&self.counters.soft_overruns);
            if overruns.is_power_of_two() {
                let plugin = self.manifest.id.as_str();
                tracing::warn!(plugin, took_us = us, overruns, "plugin is slow");
            }
        }
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("file", &self.file)
            .field("version", &self.manifest.version)
            .field("quarantine", &self.quarantine())
            .finish_non_exhaustive()
    }
}
