//! The rules of the breaker as a plain state machine, without threads.
//!
//! Time reaches it only as a number. What time alone brings about (the open time ends, a probe
//! has been out too long) happens in [`Machine::settle`], at the moment when it was due and not
//! when somebody came to ask, so the state at an instant never depends on who looked when.
//! That also lets a look settle a copy and leave the original untouched.

use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::transitions::Transitions;
use crate::window::Window;
use crate::words::{Manual, Reason, Refused, RefusedReason, State, Verdict};

/// Names a probe of one breaker; no two ever have the same.
pub(crate) type ProbeId = u64;

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    settings: Settings,
    phase: Phase,
    /// Grows with every change of state; a permit of an older one says nothing any more.
    generation: u64,
    since_ms: u64,
    /// Threads read the clock before they get here, so calls may arrive slightly out of order.
    latest_ms: u64,
    window: Window,
    remote_streak: u32,
    local_streak: u32,
    /// Openings without a recovery between them: the exponent of the open time, plus one.
    series: u32,
    trips: u64,
    /// Why the state is not plain closed, and since when.
    trouble: Option<Trouble>,
    next_probe: ProbeId,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed,
    Open { until_ms: u64 },
    HalfOpen { out: Vec<Probe>, passed: u32, failed: u32 },
    Manual(Manual),
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    id: ProbeId,
    due_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    cause: Reason,
    latest: Reason,
    since_ms: u64,
}

impl Machine {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Closed,
            generation: 0,
            since_ms: 0,
            latest_ms: 0,
            window: Window::new(&settings),
            remote_streak: 0,
            local_streak: 0,
            series: 0,
            trips: 0,
            trouble: None,
            next_probe: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Manual(manual) => manual.state(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Lets a call pass; a half-open breaker gives it one of its places.
    pub(crate) fn acquire(
        &mut self,
        now_ms: u64,
        log: &mut Transitions,
    ) -> Result<Option<ProbeId>, Refused> {
        let now_ms = self.settle(now_ms, log);
        self.admits(now_ms)?;
        let Phase::HalfOpen { out, .. } = &mut self.phase else {
            return Ok(None);
        };
        let id = self.next_probe;
        self.next_probe += 1;
        let due_ms = now_ms.saturating_add(self.settings.half_open_max_wait_ms);
        out.push(Probe { id, due_ms });
        Ok(Some(id))
    }

    /// Says whether a call would pass, on a settled machine.
    pub(crate) fn admits(&self, now_ms: u64) -> Result<(), Refused> {
        let (reason, retry_after_ms) = match &self.phase {
            Phase::Open { until_ms } => {
                (RefusedReason::Open, Some(until_ms.saturating_sub(now_ms)))
            }
            Phase::HalfOpen { out, passed, failed }
                if out.len() as u32 + passed + failed >= self.settings.half_open_permits =>
            {
                (RefusedReason::HalfOpenFull, None)
            }
            Phase::Manual(Manual::ForcedOpen) => (RefusedReason::ForcedOpen, None),
            Phase::Closed | Phase::HalfOpen { .. } | Phase::Manual(_) => return Ok(()),
        };
        Err(Refused { reason, retry_after_ms })
    }

    /// Takes the result of a call that was let pass in `generation`.
    pub(crate) fn record(
        &mut self,
        generation: u64,
        probe: Option<ProbeId>,
        now_ms: u64,
        verdict: Verdict,
        elapsed_ms: u64,
        log: &mut Transitions,
    ) {
        let now_ms = self.settle(now_ms, log);
        if generation != self.generation {
            return;
        }
        let slow = self.settings.is_slow(elapsed_ms);
        match (&self.phase, probe) {
            (Phase::HalfOpen { .. }, Some(id)) => self.judge_probe(id, now_ms, verdict, slow, log),
            (Phase::Closed, _) => {
                self.count(now_ms, verdict, slow);
                if verdict != Verdict::Ignored
                    && let Some(reason) = self.broken_rule(now_ms)
                {
                    self.open(reason, now_ms, log);
                }
            }
            (Phase::Manual(Manual::Disabled), _) => self.count(now_ms, verdict, slow),
            _ => {}
        }
    }

    /// Takes a probe back that ended without a result. `None` for the time means that the
    /// caller has no clock at hand; then the latest time seen stands in for it.
    pub(crate) fn cancel(
        &mut self,
        generation: u64,
        probe: ProbeId,
        now_ms: Option<u64>,
        log: &mut Transitions,
    ) {
        self.settle(now_ms.unwrap_or(self.latest_ms), log);
        if generation == self.generation
            && let Phase::HalfOpen { out, .. } = &mut self.phase
        {
            out.retain(|p| p.id != probe);
        }
    }

    /// Sets a state by hand, with a clean window; says whether that changed anything.
    pub(crate) fn force(&mut self, manual: Manual, now_ms: u64, log: &mut Transitions) -> bool {
        let now_ms = self.settle(now_ms, log);
        if matches!(self.phase, Phase::Manual(current) if current == manual) {
            return false;
        }
        self.forget();
        self.trouble =
            Some(Trouble { cause: Reason::Forced, latest: Reason::Forced, since_ms: now_ms });
        self.enter(Phase::Manual(manual), Reason::Forced, now_ms, log);
        true
    }

    /// Ends a state set by hand: closed, with a clean window. Says whether there was one.
    pub(crate) fn release(&mut self, now_ms: u64, log: &mut Transitions) -> bool {
        let now_ms = self.settle(now_ms, log);
        if !matches!(self.phase, Phase::Manual(_)) {
            return false;
        }
        self.forget();
        self.enter(Phase::Closed, Reason::Released, now_ms, log);
        true
    }

    /// Lets everything happen that was due by `now_ms`, each at its own moment; answers with
    /// the time to go on with, which never runs backwards.
    pub(crate) fn settle(&mut self, now_ms: u64, log: &mut Transitions) -> u64 {
        self.latest_ms = self.not_before_latest(now_ms);
        while let Some((at_ms, reason)) = self.next_due()
            && at_ms <= self.latest_ms
        {
            if reason == Reason::OpenTimeOver {
                let phase = Phase::HalfOpen { out: Vec::new(), passed: 0, failed: 0 };
                self.enter(phase, reason, at_ms, log);
            } else {
                self.open(reason, at_ms, log);
            }
        }
        self.latest_ms
    }

    /// Whether [`Machine::settle`] would change the state.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.next_due().is_some_and(|(at_ms, _)| at_ms <= self.not_before_latest(now_ms))
    }

    /// The time that counts when a caller brings `now_ms`.
    pub(crate) fn not_before_latest(&self, now_ms: u64) -> u64 {
        now_ms.max(self.latest_ms)
    }

    /// Describes a settled machine.
    pub(crate) fn snapshot(&self, now_ms: u64) -> Snapshot {
        let (probes_out, probes_passed, probes_failed) = match &self.phase {
            Phase::HalfOpen { out, passed, failed } => (out.len() as u32, *passed, *failed),
            _ => (0, 0, 0),
        };
        let retry_after_ms = match self.phase {
            Phase::Open { until_ms } => Some(until_ms.saturating_sub(now_ms)),
            _ => None,
        };
        let disabled = self.state() == State::Disabled;
        let trouble = self.trouble.filter(|_| self.state() != State::Closed);
        Snapshot {
            state: self.state(),
            state_for_ms: now_ms.saturating_sub(self.since_ms),
            reason: trouble.map(|t| t.latest),
            cause: trouble.map(|t| t.cause),
            opened_for_ms: trouble.map(|t| now_ms.saturating_sub(t.since_ms)),
            retry_after_ms,
            window: self.window.counts(now_ms),
            consecutive_failures: self.remote_streak,
            consecutive_local_failures: self.local_streak,
            would_trip: if disabled { self.broken_rule(now_ms) } else { None },
            probes_out,
            probes_passed,
            probes_failed,
            series: self.series_at(now_ms),
            trips: self.trips,
            generation: self.generation,
        }
    }

    fn next_due(&self) -> Option<(u64, Reason)> {
        match &self.phase {
            Phase::Open { until_ms } => Some((*until_ms, Reason::OpenTimeOver)),
            Phase::HalfOpen { out, .. } => {
                let first_ms = out.iter().map(|probe| probe.due_ms).min()?;
                Some((first_ms, Reason::ProbeWaitOver))
            }
            Phase::Closed | Phase::Manual(_) => None,
        }
    }

    fn judge_probe(
        &mut self,
        id: ProbeId,
        now_ms: u64,
        verdict: Verdict,
        slow: bool,
        log: &mut Transitions,
    ) {
        let Phase::HalfOpen { out, passed, failed } = &mut self.phase else {
            return;
        };
        out.retain(|probe| probe.id != id);
        if verdict == Verdict::Ignored {
            return;
        }
        // A slow probe fails: a breaker that closed on it would be tripped by its like.
        if verdict.is_failure() || slow {
            *failed += 1;
        } else {
            *passed += 1;
        }
        let needed = self.settings.half_open_needed;
        if *passed >= needed {
            self.close(now_ms, log);
        } else if *failed > self.settings.half_open_permits - needed {
            self.open(Reason::ProbeFailed, now_ms, log);
        }
    }

    fn count(&mut self, now_ms: u64, verdict: Verdict, slow: bool) {
        match verdict {
            Verdict::Ignored => return,
            Verdict::Success | Verdict::BusinessDecline => {
                self.remote_streak = 0;
                self.local_streak = 0;
            }
            // An answer, even a bad one, proves that the other side was reached; a call that
            // never got there proves nothing about its answers.
            Verdict::RemoteFailure => {
                self.remote_streak = self.remote_streak.saturating_add(1);
                self.local_streak = 0;
            }
            Verdict::LocalFailure => self.local_streak = self.local_streak.saturating_add(1),
        }
        self.window.add(now_ms, verdict.is_failure(), slow);
    }

    fn broken_rule(&self, now_ms: u64) -> Option<Reason> {
        let settings = &self.settings;
        if self.remote_streak >= settings.consecutive_failures {
            return Some(Reason::ConsecutiveFailures);
        }
        if self.local_streak >= settings.consecutive_failures {
            return Some(Reason::ConsecutiveLocalFailures);
        }
        let counts = self.window.counts(now_ms);
        if counts.total < u64::from(settings.minimum_calls) {
            None
        } else if counts.failure_rate() >= settings.failure_rate {
            Some(Reason::FailureRate)
        } else if counts.slow_rate() >= settings.slow_rate {
            Some(Reason::SlowRate)
        } else {
            None
        }
    }

    fn open(&mut self, reason: Reason, at_ms: u64, log: &mut Transitions) {
        if matches!(self.phase, Phase::Closed) {
            self.series = self.series_at(at_ms);
            self.trouble = Some(Trouble { cause: reason, latest: reason, since_ms: at_ms });
        } else if let Some(trouble) = &mut self.trouble {
            trouble.latest = reason;
        }
        let open_ms = self.settings.open_time_ms(self.series, self.generation + 1);
        self.series = self.series.saturating_add(1);
        self.trips += 1;
        let until_ms = at_ms.saturating_add(open_ms);
        self.enter(Phase::Open { until_ms }, reason, at_ms, log);
    }

    /// One whole window in closed ends a series. A breaker that closes on two lucky probes and
    /// trips again at once goes on where it was, or it would flap for ever at the shortest open
    /// time.
    fn series_at(&self, now_ms: u64) -> u32 {
        let lived_ms = now_ms.saturating_sub(self.since_ms);
        let recovered = matches!(self.phase, Phase::Closed) && lived_ms >= self.settings.window_ms;
        if recovered { 0 } else { self.series }
    }

    fn close(&mut self, at_ms: u64, log: &mut Transitions) {
        let series = self.series;
        self.forget();
        self.series = series;
        self.enter(Phase::Closed, Reason::ProbesPassed, at_ms, log);
    }

    fn forget(&mut self) {
        self.window.clear();
        self.remote_streak = 0;
        self.local_streak = 0;
        self.series = 0;
        self.trouble = None;
    }

    fn enter(&mut self, phase: Phase, reason: Reason, at_ms: u64, log: &mut Transitions) {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        self.since_ms = at_ms;
        log.note(from, self.state(), reason, at_ms);
    }
}
