//! What must hold when many real threads use one breaker at the same time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use interlock_circuit_breaker::{Breaker, Manual, Permit, Settings, State, Verdict};

const THREADS: u64 = 16;

#[test]
fn sixteen_threads_at_once_get_exactly_three_probes() {
    for _ in 0..500 {
        let breaker = opened();
        let held = at_once(|_| (0..4).filter_map(|_| breaker.try_acquire(5_000).ok()).collect());
        let held: Vec<Permit> = held.into_iter().flat_map(|permits: Vec<Permit>| permits).collect();
        assert_eq!(held.len(), 3);
        assert!(held.iter().all(Permit::is_probe));
    }
}

#[test]
fn places_that_are_given_back_and_taken_again_never_add_up_to_more_than_three() {
    let breaker = opened();
    let (out, most, taken) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    at_once(|thread| {
        for round in 0..2_000 {
            let Ok(permit) = breaker.try_acquire(5_000) else {
                continue;
            };
            most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            taken.fetch_add(1, Ordering::SeqCst);
            if round % 4 == 0 {
                thread::yield_now();
            }
            out.fetch_sub(1, Ordering::SeqCst);
            match (thread + round) % 3 {
                0 => drop(permit),
                1 => permit.cancel(5_000),
                _ => permit.record(5_000, Verdict::Ignored, 1),
            }
        }
    });
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    assert!(taken.load(Ordering::SeqCst) > 100);
    let seen = breaker.snapshot(5_000);
    assert_eq!((seen.state, seen.probes_out), (State::HalfOpen, 0));
}

#[test]
fn no_result_is_lost_or_counted_twice() {
    let breaker = Arc::new(Breaker::new(Settings::default()).unwrap());
    breaker.force(Manual::Disabled, 0);
    at_once(|thread| {
        for round in 0..2_000 {
            let verdict = if round % 4 == 0 { Verdict::RemoteFailure } else { Verdict::Success };
            breaker.try_acquire(round).unwrap().record(round + thread, verdict, 1);
        }
    });
    let counts = breaker.snapshot(2_000).window;
    assert_eq!((counts.total, counts.failed), (THREADS * 2_000, THREADS * 500));
}

#[test]
fn concurrent_failures_trip_once() {
    for _ in 0..200 {
        let settings = Settings { jitter: 0.0, ..Settings::default() };
        let breaker = Arc::new(Breaker::new(settings).unwrap());
        at_once(|_| {
            if let Ok(permit) = breaker.try_acquire(0) {
                permit.record(0, Verdict::RemoteFailure, 1);
            }
        });
        let seen = breaker.snapshot(0);
        assert_eq!((seen.state, seen.trips, seen.window.failed), (State::Open, 1, 5));
    }
}

#[test]
fn a_storm_of_everything_leaves_a_story_without_a_gap() {
    let settings = Settings {
        window_ms: 100,
        open_ms: 10,
        open_max_ms: 40,
        half_open_max_wait_ms: 30,
        ..Settings::default()
    };
    let breaker = Arc::new(Breaker::new(settings).unwrap());
    let clock_ms = AtomicU64::new(0);
    let judged: Vec<AtomicU32> = (0..400_000).map(|_| AtomicU32::new(0)).collect();
    let stories = at_once(|thread| {
        let mut story = Vec::new();
        let mut chance = thread + 1;
        for _ in 0..3_000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let now_ms = clock_ms.fetch_add(chance >> 60 & 1, Ordering::Relaxed);
            if let Ok(permit) = breaker.try_acquire(now_ms) {
                let generation = permit.generation() as usize;
                let verdict = match chance >> 40 & 3 {
                    0 => Verdict::Success,
                    1 => Verdict::LocalFailure,
                    _ => Verdict::RemoteFailure,
                };
                if permit.is_probe() {
                    judged[generation].fetch_add(1, Ordering::Relaxed);
                }
                permit.record(clock_ms.load(Ordering::Relaxed), verdict, 1);
            }
            story.extend(breaker.take_transitions(now_ms));
        }
        story
    });
    let mut story: Vec<_> = stories.into_iter().flatten().collect();
    story.extend(breaker.take_transitions(clock_ms.load(Ordering::Relaxed)));
    story.sort_by_key(|transition| transition.sequence);
    assert!(story.len() > 100, "{}", story.len());
    for (place, transition) in story.iter().enumerate() {
        assert_eq!(transition.sequence, place as u64 + 1);
    }
    for pair in story.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
        assert!(pair[0].at_ms <= pair[1].at_ms);
    }
    assert!(judged.iter().all(|probes| probes.load(Ordering::Relaxed) <= 3));
    assert!(judged.iter().any(|probes| probes.load(Ordering::Relaxed) == 3));
}

/// Prints what the header of `src/breaker.rs` states.
#[test]
#[ignore = "a measurement, not a test"]
fn the_cost_of_a_call() {
    for threads in [1, 2] {
        let breaker = Arc::new(Breaker::new(Settings::default()).unwrap());
        let per_call = |what: &(dyn Fn(u64) + Sync)| {
            let begin = Instant::now();
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..2_000_000).for_each(what));
                }
            });
            begin.elapsed().as_nanos() / 2_000_000
        };
        let acquire = per_call(&|n| drop(breaker.try_acquire(n / 1_000).unwrap()));
        let both = per_call(&|n| {
            breaker.try_acquire(n / 1_000).unwrap().record(n / 1_000, Verdict::Success, 1);
        });
        breaker.force(Manual::ForcedOpen, 2_000);
        let refuse = per_call(&|_| assert!(breaker.try_acquire(2_000).is_err()));
        eprintln!("{threads} threads: acquire {acquire}, with record {both}, refusal {refuse}");
    }
}

fn opened() -> Arc<Breaker> {
    let settings = Settings { jitter: 0.0, ..Settings::default() };
    let breaker = Arc::new(Breaker::new(settings).unwrap());
    for _ in 0..5 {
        breaker.try_acquire(0).unwrap().record(0, Verdict::RemoteFailure, 1);
    }
    breaker
}

fn at_once<T: Send>(run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS as usize);
    let (start, run) = (&start, &run);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    start.wait();
                    run(thread)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
