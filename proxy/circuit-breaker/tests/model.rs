//! Runs random lives of a breaker against a model that is slow and obviously right.
//!
//! The model keeps every call it ever counted in a list, and lives through time millisecond by
//! millisecond. It shares no code with the breaker. Chance is off here (`jitter` 0), as its
//! bounds have tests of their own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use interlock_circuit_breaker::{
    Breaker, Manual, Permit, Reason, RefusedReason, Settings, State, Verdict,
};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Acquire,
    /// Ends the call at this place (modulo) among those in flight.
    Record(usize, Verdict, u64),
    Cancel(usize),
    Drop(usize),
    /// One whole call: the common case, so that breakers do trip.
    Call(Verdict, u64),
    Force(Manual),
    Release,
    /// Looks this far into the future, which must change nothing.
    Look(u64),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_breaker_does_what_the_model_does(
        settings in settings(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let breaker = Arc::new(Breaker::new(settings).unwrap());
        let mut model = Model::new(settings);
        let mut in_flight: Vec<(Permit, Ticket)> = Vec::new();
        let mut told = Vec::new();
        for step in steps {
            let now_ms = model.now_ms;
            match step {
                Step::Wait(ms) => model.live_until(now_ms + ms),
                Step::Acquire => {
                    let ours = breaker.try_acquire(now_ms);
                    match (ours, model.acquire()) {
                        (Ok(permit), Ok(ticket)) => {
                            prop_assert_eq!(permit.is_probe(), model.state == State::HalfOpen);
                            in_flight.push((permit, ticket));
                        }
                        (Err(refused), Err((reason, retry_after_ms))) => {
                            prop_assert_eq!(refused.reason, reason);
                            prop_assert_eq!(refused.retry_after_ms, retry_after_ms);
                        }
                        (ours, model) => prop_assert!(false, "{:?} but {:?}", ours, model),
                    }
                }
                Step::Record(place, verdict, elapsed_ms) => {
                    if let Some((permit, ticket)) = pick(&mut in_flight, place) {
                        permit.record(now_ms, verdict, elapsed_ms);
                        model.record(ticket, verdict, elapsed_ms);
                    }
                }
                Step::Cancel(place) => {
                    if let Some((permit, ticket)) = pick(&mut in_flight, place) {
                        permit.cancel(now_ms);
                        model.give_back(ticket);
                    }
                }
                Step::Drop(place) => {
                    // A drop has no clock, so the breaker is told the time just before.
                    told.extend(breaker.take_transitions(now_ms));
                    if let Some((permit, ticket)) = pick(&mut in_flight, place) {
                        drop(permit);
                        model.give_back(ticket);
                    }
                }
                Step::Call(verdict, elapsed_ms) => {
                    let ours = breaker.try_acquire(now_ms);
                    let models = model.acquire();
                    prop_assert_eq!(ours.is_ok(), models.is_ok());
                    if let (Ok(permit), Ok(ticket)) = (ours, models) {
                        permit.record(now_ms, verdict, elapsed_ms);
                        model.record(ticket, verdict, elapsed_ms);
                    }
                }
                Step::Force(manual) => {
                    prop_assert_eq!(breaker.force(manual, now_ms), model.force(manual));
                }
                Step::Release => prop_assert_eq!(breaker.release(now_ms), model.release()),
                Step::Look(ahead_ms) => {
                    let mut future = model.clone();
                    future.live_until(now_ms + ahead_ms);
                    compare(&breaker, &future)?;
                }
            }
            compare(&breaker, &model)?;
            told.extend(breaker.take_transitions(0));
        }
        told.extend(breaker.take_transitions(model.now_ms));
        let told: Vec<_> = told.iter().map(|t| (t.from, t.to, t.reason, t.at_ms)).collect();
        prop_assert_eq!(told, model.told);
    }
}

fn compare(breaker: &Breaker, model: &Model) -> Result<(), TestCaseError> {
    let now_ms = model.now_ms;
    let seen = breaker.snapshot(now_ms);
    prop_assert_eq!(breaker.state(now_ms), model.state);
    prop_assert_eq!(seen.state, model.state);
    prop_assert_eq!(seen.state_for_ms, now_ms - model.since_ms);
    let admits = breaker.would_admit(now_ms).map_err(|r| (r.reason, r.retry_after_ms));
    prop_assert_eq!(admits, model.would_admit());
    let (total, failed, slow) = model.counts();
    prop_assert_eq!(seen.window.total, total);
    prop_assert_eq!(seen.window.failed, failed);
    prop_assert_eq!(seen.window.slow, slow);
    prop_assert_eq!(seen.consecutive_failures, model.remote_row);
    prop_assert_eq!(seen.consecutive_local_failures, model.local_row);
    prop_assert_eq!(seen.probes_out as usize, model.probes.len());
    prop_assert_eq!((seen.probes_passed, seen.probes_failed), (model.passed, model.failed));
    prop_assert_eq!(seen.trips, model.trips);
    prop_assert_eq!(seen.generation, model.told.len() as u64);
    prop_assert!(
        model.probes.len() as u32 + model.passed + model.failed <= model.settings.half_open_permits
    );
    Ok(())
}

fn pick(in_flight: &mut Vec<(Permit, Ticket)>, place: usize) -> Option<(Permit, Ticket)> {
    if in_flight.is_empty() {
        return None;
    }
    let place = place % in_flight.len();
    Some(in_flight.swap_remove(place))
}

#[derive(Debug, Clone, Copy)]
struct Ticket {
    number: u64,
    changes: usize,
}

#[derive(Clone)]
struct Model {
    settings: Settings,
    now_ms: u64,
    state: State,
    since_ms: u64,
    until_ms: u64,
    calls: Vec<(u64, bool, bool)>,
    remote_row: u32,
    local_row: u32,
    probes: Vec<(u64, u64)>,
    passed: u32,
    failed: u32,
    next_number: u64,
    openings: u32,
    trips: u64,
    told: Vec<(State, State, Reason, u64)>,
}

impl Model {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            now_ms: 0,
            state: State::Closed,
            since_ms: 0,
            until_ms: 0,
            calls: Vec::new(),
            remote_row: 0,
            local_row: 0,
            probes: Vec::new(),
            passed: 0,
            failed: 0,
            next_number: 0,
            openings: 0,
            trips: 0,
            told: Vec::new(),
        }
    }

    fn live_until(&mut self, now_ms: u64) {
        while self.now_ms < now_ms {
            self.now_ms += 1;
            let wait_ms = self.settings.half_open_max_wait_ms;
            if self.state == State::Open && self.now_ms == self.until_ms {
                self.go(State::HalfOpen, Reason::OpenTimeOver);
            } else if self.probes.iter().any(|(_, out_ms)| self.now_ms == out_ms + wait_ms) {
                self.open(Reason::ProbeWaitOver);
            }
        }
    }

    fn would_admit(&self) -> Result<(), (RefusedReason, Option<u64>)> {
        let taken = self.probes.len() as u32 + self.passed + self.failed;
        match self.state {
            State::Open => Err((RefusedReason::Open, Some(self.until_ms - self.now_ms))),
            State::HalfOpen if taken == self.settings.half_open_permits => {
                Err((RefusedReason::HalfOpenFull, None))
            }
            State::ForcedOpen => Err((RefusedReason::ForcedOpen, None)),
            _ => Ok(()),
        }
    }

    fn acquire(&mut self) -> Result<Ticket, (RefusedReason, Option<u64>)> {
        self.would_admit()?;
        self.next_number += 1;
        if self.state == State::HalfOpen {
            self.probes.push((self.next_number, self.now_ms));
        }
        Ok(Ticket { number: self.next_number, changes: self.told.len() })
    }

    fn give_back(&mut self, ticket: Ticket) {
        self.probes.retain(|(number, _)| *number != ticket.number);
    }

    fn record(&mut self, ticket: Ticket, verdict: Verdict, elapsed_ms: u64) {
        self.give_back(ticket);
        if ticket.changes != self.told.len() || verdict == Verdict::Ignored {
            return;
        }
        let bad = matches!(verdict, Verdict::LocalFailure | Verdict::RemoteFailure);
        let slow = self.settings.slow_call_ms.is_some_and(|limit_ms| elapsed_ms >= limit_ms);
        if self.state == State::HalfOpen {
            self.judge_probe(bad || slow);
        }
        if matches!(self.state, State::Closed | State::Disabled)
            && ticket.changes == self.told.len()
        {
            self.calls.push((self.now_ms, bad, slow));
            (self.remote_row, self.local_row) = match verdict {
                Verdict::RemoteFailure => (self.remote_row + 1, 0),
                Verdict::LocalFailure => (self.remote_row, self.local_row + 1),
                _ => (0, 0),
            };
            if self.state == State::Closed {
                self.judge_calls();
            }
        }
    }

    fn judge_probe(&mut self, bad: bool) {
        if bad {
            self.failed += 1;
        } else {
            self.passed += 1;
        }
        let still_possible = self.settings.half_open_permits - self.failed;
        if self.passed == self.settings.half_open_needed {
            self.clean();
            self.go(State::Closed, Reason::ProbesPassed);
        } else if still_possible < self.settings.half_open_needed {
            self.open(Reason::ProbeFailed);
        }
    }

    fn judge_calls(&mut self) {
        let (total, failed, slow) = self.counts();
        let enough = total >= u64::from(self.settings.minimum_calls);
        if self.remote_row == self.settings.consecutive_failures {
            self.open(Reason::ConsecutiveFailures);
        } else if self.local_row == self.settings.consecutive_failures {
            self.open(Reason::ConsecutiveLocalFailures);
        } else if enough && failed as f64 / total as f64 >= self.settings.failure_rate {
            self.open(Reason::FailureRate);
        } else if enough && slow as f64 / total as f64 >= self.settings.slow_rate {
            self.open(Reason::SlowRate);
        }
    }

    fn counts(&self) -> (u64, u64, u64) {
        let slice_ms = self.settings.window_ms / u64::from(self.settings.buckets);
        let slice = |at_ms: u64| at_ms / slice_ms;
        let recent = |call: &&(u64, bool, bool)| {
            slice(call.0) + u64::from(self.settings.buckets) > slice(self.now_ms)
        };
        let calls: Vec<_> = self.calls.iter().filter(recent).collect();
        let failed = calls.iter().filter(|call| call.1).count() as u64;
        let slow = calls.iter().filter(|call| call.2).count() as u64;
        (calls.len() as u64, failed, slow)
    }

    fn open(&mut self, reason: Reason) {
        let closed_for_ms = self.now_ms - self.since_ms;
        if self.state == State::Closed && closed_for_ms >= self.settings.window_ms {
            self.openings = 0;
        }
        let mut open_ms = self.settings.open_ms;
        for _ in 0..self.openings {
            open_ms = (open_ms * 2).min(self.settings.open_max_ms);
        }
        self.openings += 1;
        self.trips += 1;
        self.until_ms = self.now_ms + open_ms;
        self.go(State::Open, reason);
    }

    fn force(&mut self, manual: Manual) -> bool {
        if self.state == manual.state() {
            return false;
        }
        self.clean();
        self.openings = 0;
        self.go(manual.state(), Reason::Forced);
        true
    }

    fn release(&mut self) -> bool {
        if matches!(self.state, State::Closed | State::Open | State::HalfOpen) {
            return false;
        }
        self.clean();
        self.go(State::Closed, Reason::Released);
        true
    }

    fn clean(&mut self) {
        self.calls.clear();
        (self.remote_row, self.local_row) = (0, 0);
    }

    fn go(&mut self, state: State, reason: Reason) {
        self.told.push((self.state, state, reason, self.now_ms));
        self.probes.clear();
        (self.passed, self.failed) = (0, 0);
        self.state = state;
        self.since_ms = self.now_ms;
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let rates = prop::sample::select(vec![0.1, 0.3, 0.5, 0.8, 1.0]);
    let probes = (1..5_u32).prop_flat_map(|permits| (Just(permits), 1..=permits));
    (
        (1..5_u32, 1..20_u64, 1..12_u32),
        (rates.clone(), rates, 1..8_u32),
        prop::option::of(1..60_u64),
        (1..40_u64, 1..6_u64),
        (probes, 1..50_u64),
    )
        .prop_map(|(window, rates, slow_call_ms, open, half_open)| Settings {
            window_ms: u64::from(window.0) * window.1,
            buckets: window.0,
            minimum_calls: window.2,
            failure_rate: rates.0,
            slow_rate: rates.1,
            consecutive_failures: rates.2,
            slow_call_ms,
            open_ms: open.0,
            open_max_ms: open.0 * open.1,
            jitter: 0.0,
            seed: 0,
            half_open_permits: half_open.0.0,
            half_open_needed: half_open.0.1,
            half_open_max_wait_ms: half_open.1,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = || {
        prop_oneof![
            4 => Just(Verdict::Success),
            1 => Just(Verdict::BusinessDecline),
            2 => Just(Verdict::LocalFailure),
            4 => Just(Verdict::RemoteFailure),
            1 => Just(Verdict::Ignored),
        ]
    };
    let manual =
        prop::sample::select(vec![Manual::ForcedOpen, Manual::ForcedClosed, Manual::Disabled]);
    let place = || any::<usize>();
    prop_oneof![
        6 => (0..30_u64).prop_map(Step::Wait),
        1 => (0..300_u64).prop_map(Step::Wait),
        6 => Just(Step::Acquire),
        5 => (place(), verdict(), 0..100_u64).prop_map(|(p, v, ms)| Step::Record(p, v, ms)),
        1 => place().prop_map(Step::Cancel),
        1 => place().prop_map(Step::Drop),
        8 => (verdict(), 0..100_u64).prop_map(|(v, ms)| Step::Call(v, ms)),
        1 => manual.prop_map(Step::Force),
        1 => Just(Step::Release),
        2 => (0..200_u64).prop_map(Step::Look),
    ]
}
