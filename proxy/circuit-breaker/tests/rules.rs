//! Every rule of the breaker, one sentence each, on a clock that the test owns.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use interlock_circuit_breaker::{
    Breaker, Manual, Permit, Reason, Refused, RefusedReason, Settings, SettingsError, State,
    Verdict,
};

use Verdict::{BusinessDecline, Ignored, LocalFailure, RemoteFailure, Success};

#[test]
fn a_new_breaker_is_closed_and_lets_calls_pass() {
    let breaker = breaker(Settings::default());
    assert_eq!(breaker.state(0), State::Closed);
    assert_eq!(breaker.would_admit(0), Ok(()));
    assert!(!breaker.try_acquire(0).unwrap().is_probe());
}

#[test]
fn a_breaker_cannot_be_made_with_settings_that_fail_their_check() {
    let refused = Breaker::new(Settings { buckets: 0, ..Settings::default() }).unwrap_err();
    assert_eq!(refused, SettingsError::Zero { key: "buckets" });
}

#[test]
fn five_remote_failures_in_a_row_trip_and_four_do_not() {
    let breaker = breaker(steady());
    calls(&breaker, 0, RemoteFailure, 4);
    assert_eq!(breaker.state(0), State::Closed);
    calls(&breaker, 0, RemoteFailure, 1);
    assert_eq!(breaker.state(0), State::Open);
    assert_eq!(breaker.snapshot(0).reason, Some(Reason::ConsecutiveFailures));
}

#[test]
fn five_local_failures_in_a_row_trip_under_their_own_name() {
    let breaker = breaker(steady());
    calls(&breaker, 0, LocalFailure, 5);
    assert_eq!(breaker.snapshot(0).reason, Some(Reason::ConsecutiveLocalFailures));
}

#[test]
fn local_and_remote_failures_are_not_added_up() {
    let breaker = breaker(steady());
    calls(&breaker, 0, RemoteFailure, 4);
    calls(&breaker, 0, LocalFailure, 4);
    assert_eq!(breaker.state(0), State::Closed);
    let seen = breaker.snapshot(0);
    assert_eq!((seen.consecutive_failures, seen.consecutive_local_failures), (4, 4));
}

#[test]
fn a_remote_failure_ends_a_row_of_local_ones_but_not_the_other_way_round() {
    let breaker = breaker(steady());
    calls(&breaker, 0, LocalFailure, 4);
    calls(&breaker, 0, RemoteFailure, 1);
    assert_eq!(breaker.snapshot(0).consecutive_local_failures, 0);
    calls(&breaker, 0, LocalFailure, 1);
    assert_eq!(breaker.snapshot(0).consecutive_failures, 1);
}

#[test]
fn a_success_or_a_business_decline_ends_both_rows() {
    for good in [Success, BusinessDecline] {
        let breaker = breaker(steady());
        calls(&breaker, 0, RemoteFailure, 4);
        calls(&breaker, 0, LocalFailure, 4);
        calls(&breaker, 0, good, 1);
        let seen = breaker.snapshot(0);
        assert_eq!((seen.consecutive_failures, seen.consecutive_local_failures), (0, 0));
        assert_eq!((seen.window.total, seen.window.failed), (9, 8));
    }
}

#[test]
fn an_ignored_result_counts_nowhere_and_ends_no_row() {
    let breaker = breaker(steady());
    calls(&breaker, 0, RemoteFailure, 4);
    calls(&breaker, 0, Ignored, 50);
    assert_eq!(breaker.snapshot(0).window.total, 4);
    calls(&breaker, 0, RemoteFailure, 1);
    assert_eq!(breaker.state(0), State::Open);
}

#[test]
fn a_cancelled_call_counts_nowhere() {
    let breaker = breaker(steady());
    for _ in 0..100 {
        drop(breaker.try_acquire(0).unwrap());
        breaker.try_acquire(0).unwrap().cancel(0);
    }
    assert_eq!(breaker.snapshot(0).window.total, 0);
    assert_eq!(breaker.state(0), State::Closed);
}

#[test]
fn any_number_of_declined_cards_never_trips() {
    let breaker = breaker(steady());
    calls(&breaker, 0, BusinessDecline, 10_000);
    assert_eq!(breaker.state(0), State::Closed);
}

#[test]
fn half_of_twenty_failing_trips_and_half_of_nineteen_does_not() {
    let breaker = breaker(steady());
    for _ in 0..9 {
        calls(&breaker, 0, RemoteFailure, 1);
        calls(&breaker, 0, Success, 1);
    }
    calls(&breaker, 0, RemoteFailure, 1);
    assert_eq!(breaker.state(0), State::Closed, "ten of nineteen, but too few calls");
    calls(&breaker, 0, Success, 1);
    assert_eq!(breaker.state(0), State::Open, "ten of twenty, noticed on a success");
    assert_eq!(breaker.snapshot(0).reason, Some(Reason::FailureRate));
}

#[test]
fn few_failures_among_many_successes_do_not_trip() {
    let breaker = breaker(steady());
    for _ in 0..3 {
        calls(&breaker, 0, Success, 10_000);
        calls(&breaker, 0, RemoteFailure, 1);
    }
    assert_eq!(breaker.state(0), State::Closed);
}

#[test]
fn failures_that_have_left_the_window_do_not_count_in_the_rate() {
    let breaker = breaker(Settings { consecutive_failures: u32::MAX, ..steady() });
    calls(&breaker, 0, RemoteFailure, 19);
    calls(&breaker, 10_000, RemoteFailure, 1);
    assert_eq!(breaker.state(10_000), State::Closed);
    calls(&breaker, 19_999, RemoteFailure, 18);
    assert_eq!(breaker.state(19_999), State::Closed);
    calls(&breaker, 19_999, RemoteFailure, 1);
    assert_eq!(breaker.state(19_999), State::Open);
}

#[test]
fn half_of_twenty_being_slow_trips_though_all_succeed() {
    let breaker = breaker(Settings { slow_call_ms: Some(2_000), ..steady() });
    for _ in 0..10 {
        breaker.try_acquire(0).unwrap().record(0, Success, 1_999);
    }
    for n in 0..10 {
        assert_eq!(breaker.state(0), State::Closed, "{n}");
        breaker.try_acquire(0).unwrap().record(0, Success, 2_000);
    }
    assert_eq!(breaker.snapshot(0).reason, Some(Reason::SlowRate));
}

#[test]
fn without_a_threshold_nothing_is_slow() {
    let breaker = breaker(steady());
    for _ in 0..100 {
        breaker.try_acquire(0).unwrap().record(0, Success, u64::MAX);
    }
    assert_eq!(breaker.snapshot(0).window.slow, 0);
    assert_eq!(breaker.state(0), State::Closed);
}

#[test]
fn an_open_breaker_refuses_and_says_until_when() {
    let breaker = opened_at(steady(), 100);
    let refused = Refused { reason: RefusedReason::Open, retry_after_ms: Some(4_000) };
    assert_eq!(breaker.would_admit(1_100), Err(refused));
    assert_eq!(breaker.try_acquire(1_100).unwrap_err(), refused);
    assert_eq!(breaker.would_admit(5_099).unwrap_err().retry_after_ms, Some(1));
    assert_eq!(breaker.would_admit(5_100), Ok(()));
}

#[test]
fn jitter_shortens_an_opening_by_half_at_most_and_by_its_seed() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let breaker = opened_at(Settings { seed, ..Settings::default() }, 0);
        let wait_ms = breaker.would_admit(0).unwrap_err().retry_after_ms.unwrap();
        assert!((2_500..=5_000).contains(&wait_ms), "{wait_ms}");
        assert_eq!(breaker.state(wait_ms - 1), State::Open);
        assert_eq!(breaker.state(wait_ms), State::HalfOpen);
        seen.insert(wait_ms);
    }
    assert!(seen.len() > 150);
}

#[test]
fn three_probes_pass_and_the_fourth_is_refused() {
    let breaker = opened_at(steady(), 0);
    let probes = probes(&breaker, 5_000);
    assert!(probes.iter().all(Permit::is_probe));
    let refused = Refused { reason: RefusedReason::HalfOpenFull, retry_after_ms: None };
    assert_eq!(breaker.try_acquire(5_000).unwrap_err(), refused);
    assert_eq!(breaker.would_admit(5_000), Err(refused));
}

#[test]
fn a_judged_probe_keeps_its_place() {
    let breaker = opened_at(steady(), 0);
    let [one, _two, _three] = probes(&breaker, 5_000);
    one.record(5_001, Success, 1);
    assert!(breaker.try_acquire(5_001).is_err());
}

#[test]
fn a_dropped_cancelled_or_ignored_probe_gives_its_place_back() {
    let breaker = opened_at(steady(), 0);
    let [one, two, three] = probes(&breaker, 5_000);
    drop(one);
    two.cancel(5_000);
    three.record(5_000, Ignored, 1);
    let seen = breaker.snapshot(5_000);
    assert_eq!((seen.probes_out, seen.probes_passed, seen.probes_failed), (0, 0, 0));
    let _again = probes(&breaker, 5_000);
    assert!(breaker.try_acquire(5_000).is_err());
}

#[test]
fn two_probes_that_pass_close_it_with_a_clean_window() {
    let breaker = opened_at(steady(), 0);
    let [one, two, _three] = probes(&breaker, 5_000);
    one.record(5_100, BusinessDecline, 100);
    assert_eq!(breaker.state(5_100), State::HalfOpen);
    two.record(5_200, Success, 200);
    let seen = breaker.snapshot(5_200);
    assert_eq!((seen.state, seen.reason, seen.opened_for_ms), (State::Closed, None, None));
    assert_eq!((seen.window.total, seen.consecutive_failures), (0, 0));
}

#[test]
fn one_failed_probe_is_forgiven_and_the_second_opens_it_for_twice_as_long() {
    let breaker = opened_at(steady(), 0);
    let [one, two, three] = probes(&breaker, 5_000);
    one.record(5_100, RemoteFailure, 100);
    assert_eq!(breaker.state(5_100), State::HalfOpen);
    two.record(5_200, LocalFailure, 200);
    let seen = breaker.snapshot(5_200);
    assert_eq!((seen.state, seen.reason), (State::Open, Some(Reason::ProbeFailed)));
    assert_eq!(seen.cause, Some(Reason::ConsecutiveFailures));
    assert_eq!((seen.retry_after_ms, seen.opened_for_ms), (Some(10_000), Some(5_200)));
    assert_eq!((seen.series, seen.trips), (2, 2));
    three.record(5_300, Success, 300);
    assert_eq!(breaker.state(5_300), State::Open);
}

#[test]
fn when_every_probe_is_needed_the_first_failure_opens_it() {
    let breaker = opened_at(Settings { half_open_needed: 3, ..steady() }, 0);
    breaker.try_acquire(5_000).unwrap().record(5_000, RemoteFailure, 1);
    assert_eq!(breaker.state(5_000), State::Open);
}

#[test]
fn a_slow_probe_does_not_pass() {
    let settings = Settings { slow_call_ms: Some(2_000), ..steady() };
    let breaker = opened_at(settings, 0);
    let [one, two, _three] = probes(&breaker, 5_000);
    one.record(7_000, Success, 2_000);
    two.record(7_000, Success, 2_000);
    assert_eq!(breaker.snapshot(7_000).reason, Some(Reason::ProbeFailed));
}

#[test]
fn a_probe_that_hangs_opens_it_again_when_its_wait_is_over() {
    let breaker = opened_at(steady(), 0);
    let hung = breaker.try_acquire(5_000).unwrap();
    let _younger = breaker.try_acquire(20_000).unwrap();
    assert_eq!(breaker.state(34_999), State::HalfOpen);
    let seen = breaker.snapshot(35_000);
    assert_eq!((seen.state, seen.reason), (State::Open, Some(Reason::ProbeWaitOver)));
    assert_eq!(seen.retry_after_ms, Some(10_000));
    hung.record(45_000, Success, 40_000);
    let seen = breaker.snapshot(45_000);
    assert_eq!((seen.state, seen.probes_passed, seen.probes_out), (State::HalfOpen, 0, 0));
    assert!(breaker.try_acquire(45_000).is_ok());
}

#[test]
fn a_leaked_permit_does_not_hold_it_half_open_for_ever() {
    let breaker = opened_at(steady(), 0);
    probes(&breaker, 5_000).into_iter().for_each(std::mem::forget);
    assert!(breaker.try_acquire(34_999).is_err());
    let _all_three_again = probes(&breaker, 45_000);
}

#[test]
fn a_half_open_breaker_without_traffic_waits_and_opens_not_again() {
    let breaker = opened_at(steady(), 0);
    breaker.try_acquire(5_000).unwrap().record(5_000, Success, 1);
    let hour_ms = 3_600_000;
    assert_eq!(breaker.state(hour_ms), State::HalfOpen);
    breaker.try_acquire(hour_ms).unwrap().record(hour_ms, Success, 1);
    assert_eq!(breaker.state(hour_ms), State::Closed);
}

#[test]
fn a_probe_dropped_after_its_wait_counts_as_cancelled_unless_somebody_noticed_first() {
    let unnoticed = opened_at(steady(), 0);
    drop(unnoticed.try_acquire(5_000).unwrap());
    assert_eq!(unnoticed.state(40_000), State::HalfOpen);

    let noticed = opened_at(steady(), 0);
    let probe = noticed.try_acquire(5_000).unwrap();
    assert!(noticed.try_acquire(40_000).is_err());
    drop(probe);
    assert_eq!(noticed.state(40_000), State::Open);

    let told = opened_at(steady(), 0);
    told.try_acquire(5_000).unwrap().cancel(40_000);
    assert_eq!(told.state(40_000), State::Open);
}

#[test]
fn the_open_time_doubles_while_probes_fail_and_stops_at_its_cap() {
    let breaker = opened_at(steady(), 0);
    let mut now_ms = 0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let wait_ms = breaker.would_admit(now_ms).unwrap_err().retry_after_ms.unwrap();
        waits.push(wait_ms / 1_000);
        now_ms += wait_ms;
        for probe in [breaker.try_acquire(now_ms), breaker.try_acquire(now_ms)] {
            probe.unwrap().record(now_ms, RemoteFailure, 1);
        }
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn a_relapse_within_a_window_goes_on_with_the_series_and_a_later_one_begins_anew() {
    for (closed_for_ms, open_ms) in [(9_999, 10_000), (10_000, 5_000)] {
        let breaker = opened_at(steady(), 0);
        close(&breaker, 5_000);
        let now_ms = 5_000 + closed_for_ms;
        calls(&breaker, now_ms, RemoteFailure, 5);
        let seen = breaker.snapshot(now_ms);
        assert_eq!(seen.retry_after_ms, Some(open_ms));
        assert_eq!((seen.cause, seen.trips), (Some(Reason::ConsecutiveFailures), 2));
    }
}

#[test]
fn late_results_of_an_older_generation_are_ignored() {
    let breaker = breaker(steady());
    let late: Vec<Permit> = (0..20).map(|_| breaker.try_acquire(0).unwrap()).collect();
    let generation = late[0].generation();
    calls(&breaker, 0, RemoteFailure, 5);
    let mut late = late.into_iter();

    late.next().unwrap().record(1, Success, 1);
    assert_eq!(breaker.state(1), State::Open, "a late success does not close an open breaker");

    for permit in late.by_ref().take(5) {
        permit.record(5_000, Success, 5_000);
    }
    let seen = breaker.snapshot(5_000);
    assert_eq!((seen.state, seen.probes_passed), (State::HalfOpen, 0), "nor a half-open one");

    for permit in late.by_ref().take(5) {
        permit.record(5_000, RemoteFailure, 5_000);
    }
    assert_eq!(breaker.state(5_000), State::HalfOpen, "late failures do not open it");

    close(&breaker, 5_000);
    late.for_each(|permit| permit.record(5_001, RemoteFailure, 5_001));
    assert_eq!(breaker.snapshot(5_001).window.total, 0, "nor do they count when it has closed");
    assert_eq!(breaker.snapshot(5_001).generation, generation + 3);
}

#[test]
fn a_late_drop_does_not_free_a_place_of_a_newer_half_open_phase() {
    let breaker = opened_at(steady(), 0);
    let [old_one, two, three] = probes(&breaker, 5_000);
    two.record(5_000, RemoteFailure, 1);
    three.record(5_000, RemoteFailure, 1);
    let _newer = probes(&breaker, 15_000);
    drop(old_one);
    assert!(breaker.try_acquire(15_000).is_err());
}

#[test]
fn forced_open_refuses_until_released_whatever_the_clock_says() {
    let breaker = breaker(steady());
    assert!(breaker.force(Manual::ForcedOpen, 10));
    assert!(!breaker.force(Manual::ForcedOpen, 11), "nothing changes the second time");
    let refused = Refused { reason: RefusedReason::ForcedOpen, retry_after_ms: None };
    assert_eq!(breaker.would_admit(86_400_000), Err(refused));
    assert_eq!(breaker.try_acquire(86_400_000).unwrap_err(), refused);
    assert_eq!(breaker.snapshot(110).reason, Some(Reason::Forced));
    assert_eq!(breaker.snapshot(86_400_000).opened_for_ms, Some(86_399_990));
    assert!(breaker.release(86_400_000));
    assert!(!breaker.release(86_400_000));
    assert_eq!(breaker.state(86_400_000), State::Closed);
}

#[test]
fn forced_closed_admits_and_counts_nothing() {
    let breaker = opened_at(steady(), 0);
    breaker.force(Manual::ForcedClosed, 1);
    calls(&breaker, 2, RemoteFailure, 1_000);
    let seen = breaker.snapshot(2);
    assert_eq!((seen.state, seen.window.total), (State::ForcedClosed, 0));
    assert_eq!((seen.consecutive_failures, seen.would_trip), (0, None));
    breaker.release(3);
    calls(&breaker, 3, RemoteFailure, 4);
    assert_eq!(breaker.state(3), State::Closed);
}

#[test]
fn disabled_admits_and_counts_and_says_what_would_trip() {
    let breaker = opened_at(steady(), 0);
    breaker.force(Manual::Disabled, 1);
    calls(&breaker, 2, RemoteFailure, 4);
    assert_eq!(breaker.snapshot(2).would_trip, None);
    calls(&breaker, 2, RemoteFailure, 1);
    let seen = breaker.snapshot(2);
    assert_eq!((seen.state, seen.window.failed), (State::Disabled, 5));
    assert_eq!(seen.would_trip, Some(Reason::ConsecutiveFailures));
    breaker.release(3);
    assert_eq!(breaker.snapshot(3).window.total, 0, "released, it counts from nothing");
}

#[test]
fn a_call_in_flight_when_a_state_is_forced_or_released_is_judged_no_more() {
    let breaker = breaker(steady());
    let before = breaker.try_acquire(0).unwrap();
    breaker.force(Manual::Disabled, 0);
    before.record(0, RemoteFailure, 1);
    let during = breaker.try_acquire(0).unwrap();
    assert_eq!(breaker.snapshot(0).window.total, 0);
    breaker.release(0);
    during.record(0, RemoteFailure, 1);
    assert_eq!(breaker.snapshot(0).window.total, 0);
}

#[test]
fn one_state_by_hand_may_follow_another() {
    let breaker = breaker(steady());
    for manual in [Manual::ForcedOpen, Manual::Disabled, Manual::ForcedClosed] {
        assert!(breaker.force(manual, 0));
        assert_eq!(breaker.state(0), manual.state());
    }
}

#[test]
fn looks_change_nothing_even_into_the_future() {
    let breaker = opened_at(steady(), 0);
    breaker.take_transitions(0);
    assert_eq!(breaker.would_admit(1_000_000), Ok(()));
    assert_eq!(breaker.state(1_000_000), State::HalfOpen);
    assert_eq!(breaker.snapshot(1_000_000).state, State::HalfOpen);
    assert_eq!(breaker.state(1), State::Open);
    assert_eq!(breaker.take_transitions(1), []);
    for _ in 0..10 {
        assert_eq!(breaker.would_admit(5_000), Ok(()));
    }
    let _all_three = probes(&breaker, 5_000);
}

#[test]
fn the_story_is_told_in_order_with_the_moments_when_things_were_due() {
    let breaker = opened_at(steady(), 7);
    std::mem::forget(breaker.try_acquire(6_000).unwrap());
    let story: Vec<_> = breaker
        .take_transitions(900_000)
        .iter()
        .map(|t| (t.sequence, t.from.as_str(), t.to.as_str(), t.reason.as_str(), t.at_ms))
        .collect();
    assert_eq!(
        story,
        [
            (1, "closed", "open", "consecutive_failures", 7),
            (2, "open", "half_open", "open_time_over", 5_007),
            (3, "half_open", "open", "probe_wait_over", 36_000),
            (4, "open", "half_open", "open_time_over", 46_000),
        ]
    );
    assert_eq!(breaker.take_transitions(900_000), []);
}

#[test]
fn a_clock_that_arrives_out_of_order_turns_nothing_back() {
    let breaker = opened_at(steady(), 10_000);
    assert_eq!(breaker.would_admit(3).unwrap_err().retry_after_ms, Some(5_000));
    let probe = breaker.try_acquire(15_000).unwrap();
    assert_eq!(breaker.state(14_000), State::HalfOpen);
    probe.record(14_990, Success, 1);
    assert_eq!(breaker.snapshot(0).probes_passed, 1);
}

#[test]
fn the_end_of_time_overflows_nothing() {
    let breaker = opened_at(steady(), u64::MAX);
    assert_eq!(breaker.state(u64::MAX), State::HalfOpen);
    assert!(breaker.try_acquire(u64::MAX).is_ok());
    assert_eq!(breaker.take_transitions(u64::MAX).last().unwrap().to, State::HalfOpen);
}

#[test]
fn a_permit_may_travel_to_another_thread_and_outlive_every_other_handle() {
    let breaker = breaker(steady());
    let permit = breaker.try_acquire(0).unwrap();
    let weak = Arc::downgrade(&breaker);
    drop(breaker);
    std::thread::spawn(move || permit.record(1, Success, 1)).join().unwrap();
    assert!(weak.upgrade().is_none());
}

/// The defaults without chance, so that times are exact.
fn steady() -> Settings {
    Settings { jitter: 0.0, ..Settings::default() }
}

fn breaker(settings: Settings) -> Arc<Breaker> {
    Arc::new(Breaker::new(settings).unwrap())
}

fn opened_at(settings: Settings, now_ms: u64) -> Arc<Breaker> {
    let breaker = breaker(settings);
    calls(&breaker, now_ms, RemoteFailure, settings.consecutive_failures);
    breaker
}

fn calls(breaker: &Arc<Breaker>, now_ms: u64, verdict: Verdict, count: u32) {
    for _ in 0..count {
        breaker.try_acquire(now_ms).unwrap().record(now_ms, verdict, 1);
    }
}

fn probes(breaker: &Arc<Breaker>, now_ms: u64) -> [Permit; 3] {
    [(); 3].map(|()| breaker.try_acquire(now_ms).unwrap())
}

fn close(breaker: &Arc<Breaker>, now_ms: u64) {
    calls(breaker, now_ms, Success, 2);
    assert_eq!(breaker.state(now_ms), State::Closed);
}
