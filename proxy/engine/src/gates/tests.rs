//! The gates as a decision and a driver meet them.

use std::num::NonZeroU32;

use interlock_circuit_breaker::Verdict;

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
    let gates = Gates::new(BTreeMap::new(), merchants, FailoverBudget::default()).expect("valid");
    assert_eq!(gates.admit_merchant("shop", at(0)), Ok(()));
    assert_eq!(gates.admit_merchant("shop", at(400)), Err(600));
    assert_eq!(gates.admit_merchant("other", at(400)), Ok(()));
}

#[test]
fn second_tries_are_a_share_of_first_tries() {
    let gates = gates(settings());
    for _ in 0..100 {
        assert!(gates.failover_budget("a", at(0)));
        gates.count_try("b", Some("a"), at(0));
    }
    assert!(!gates.failover_budget("a", at(0)));
    (0..10).for_each(|_| gates.count_try("a", None, at(0)));
    assert!(gates.failover_budget("a", at(0)));
    gates.count_try("b", Some("a"), at(0));
    gates.count_try("b", Some("a"), at(0));
    assert!(!gates.failover_budget("a", at(0)));
    assert!(gates.failover_budget("a", at(10_000)));
}

#[test]
fn an_account_that_fails_does_not_use_up_the_second_tries_of_all() {
    let gates = two(settings());
    let share = FailoverBudget::default();
    (0..1_000).for_each(|_| gates.count_try("b", None, at(0)));
    let always = share.per_second * 10;
    (0..always).for_each(|_| gates.count_try("b", Some("a"), at(0)));
    assert!(!gates.failover_budget("a", at(0)), "its own budget");
    assert!(gates.failover_budget("b", at(0)), "all together have more");
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
    gates.drain("a", Some(hold(None)));
    assert_eq!(gates.admits("a", "card", at(0)), Err(Skip::Drained));
    assert!(gates.reserve("a", "card", Group::Operations, at(0)).is_ok());
    gates.drain("a", None);
    gates.slow_down("a", Group::Payments, 500, at(0));
    assert_eq!(gates.admits("a", "card", at(499)), Err(Skip::RateLimited));
    assert_eq!(gates.admits("a", "card", at(500)), Ok(()));
    gates.quarantine("a", true);
    let refused = gates.reserve("a", "card", Group::Operations, at(500)).err();
    assert_eq!(refused, Some(Skip::Quarantined));
}

#[test]
fn what_an_operator_set_ends_when_it_should() {
    let gates = gates(settings());
    gates.drain("a", Some(hold(Some(1_000))));
    assert!(gates.trip("a", Some("card"), None, Some(&hold(Some(2_000))), at(0)));
    assert!(!gates.trip("a", Some("cash"), None, Some(&hold(None)), at(0)));
    assert_eq!(gates.admits("a", "card", at(999)), Err(Skip::Drained));
    assert_eq!(gates.admits("a", "card", at(1_000)), Err(Skip::Tripped));
    assert_eq!(gates.end_holds(at(1_000)), ["a"]);
    assert_eq!(gates.state("a", at(1_000)).expect("it is there").trips.len(), 3);
    assert_eq!(gates.end_holds(at(2_000)), ["a"]);
    assert_eq!(gates.admits("a", "card", at(2_000)), Ok(()));
    assert!(gates.end_holds(at(3_000)).is_empty());
}

#[test]
fn what_is_kept_of_an_account_is_small_and_taken_up_where_it_still_fits() {
    let gates = gates(GateSettings { conversion: Some(conversion()), ..settings() });
    gates.noticed("a", "pay_0");
    for n in 0..5_000 {
        let payment = format!("pay_{n:026}");
        gates.created("a", "card", at(n));
        gates.paid("a", "card", 0, at(n));
        gates.answered("a", n % 2 == 0);
        gates.paid_unnoticed("a", &payment, at(n));
    }
    let seen = gates.seen(at(20_000));
    let bytes = serde_json::to_vec(&seen).expect("it has a JSON form");
    assert!(bytes.len() < 2_048, "{} bytes", bytes.len());
    let again: Seen = serde_json::from_slice(&bytes).expect("it is read");
    let next = two(GateSettings { conversion: Some(conversion()), ..settings() });
    next.take_up(&again, Stamp { wall_ms: 30_000, ..at(7) });
    let state = next.state("a", at(7)).expect("it is there");
    assert_eq!(state.alarms, [Alarm::ContractDrift]);
    assert!(state.conversion[0].1.baseline.is_some_and(|usual| usual > 0.9));
    assert_eq!(next.seen(at(7)).accounts["b"], SeenAccount::default());
    let other = Gates::new(BTreeMap::new(), BTreeMap::new(), FailoverBudget::default());
    other.expect("valid").take_up(&again, at(0));
}

fn conversion() -> ConversionSettings {
    ConversionSettings { window_ms: 10_000, mature_ms: 1_000, minimum: 20, drop: 0.5 }
}

#[test]
fn a_restricted_account_waits_for_an_operator() {
    let gates = gates(settings());
    assert!(gates.restrict("a", at(0)));
    assert!(!gates.restrict("a", at(1)), "it is no news");
    assert_eq!(gates.admits("a", "card", at(HOUR_MS)), Err(Skip::Drained));
    let state = gates.state("a", at(HOUR_MS)).expect("it is there");
    assert_eq!(state.alarms, [Alarm::AccountRestricted]);
    gates.drain("a", None);
    assert_eq!(gates.admits("a", "card", at(HOUR_MS)), Ok(()));
}

#[test]
fn maintenance_is_a_time_of_the_wall_clock() {
    let gates = gates(settings());
    gates.maintain("a", vec![(10, 20), (30, 40)]);
    assert_eq!(gates.admits("a", "card", at(9)), Ok(()));
    assert_eq!(gates.admits("a", "card", at(10)), Err(Skip::Maintenance));
    assert_eq!(gates.admits("a", "card", at(20)), Ok(()));
    assert_eq!(gates.admits("a", "card", at(39)), Err(Skip::Maintenance));
    let state = gates.state("a", at(35)).expect("it is there");
    assert_eq!(state.maintenance_until_ms, Some(40));
}

#[test]
fn doubts_and_refunds_have_a_share_that_new_payments_can_not_take() {
    let gates = gates(GateSettings { in_flight: 8, ..settings() });
    let take = |group| gates.reserve("a", "card", group, at(0));
    let payments: Vec<_> = (0..8).map(|_| take(Group::Payments).ok()).collect();
    assert!(payments.iter().all(Option::is_some));
    assert_eq!(take(Group::Payments).err(), Some(Skip::InFlight));
    let way_out = |group| gates.way_out("a", "card", group, at(0));
    let asked = [way_out(Group::Inquiries), way_out(Group::Inquiries)];
    assert!(asked.iter().all(|place| matches!(place, Ok(Some(_)))));
    assert!(way_out(Group::Inquiries).is_err(), "a quarter is used up");
    assert!(way_out(Group::Operations).is_ok(), "and is not taken from refunds");
    drop(asked);
    assert!(way_out(Group::Inquiries).is_ok());
}

#[test]
fn the_way_out_keeps_its_pace_when_the_breaker_is_open() {
    let one = NonZeroU32::MIN;
    let rate = Rate { count: one, per_ms: 250, burst: one };
    let gates = gates(GateSettings { limit: Some(rate), ..settings() });
    gates.trip("a", None, None, Some(&hold(None)), at(0));
    let ask = |now| gates.way_out("a", "card", Group::Inquiries, at(now));
    assert!(matches!(ask(0), Ok(Some(_))));
    assert_eq!(ask(400).err(), Some(600), "a quarter of the rate");
    assert!(ask(1_000).is_ok());
}

#[test]
fn a_hang_is_noticed_by_the_age_of_what_is_in_flight() {
    let gates = gates(GateSettings { hang_after_ms: 1_000, ..settings() });
    let send = |now| gates.reserve("a", "card", Group::Payments, at(now)).expect("a place");
    let sent: Vec<_> = (0..5).map(|n| send(10_000 + n)).collect();
    assert_eq!(gates.admits("a", "card", at(11_003)), Ok(()), "four are old enough");
    assert_eq!(gates.admits("a", "card", at(11_004)), Err(Skip::Hanging));
    let state = gates.state("a", at(11_004)).expect("it is there");
    assert_eq!((state.alarms, state.oldest_in_flight_ms), (vec![Alarm::Hanging], 1_004));
    // One answer says that it lives.
    let lively = gates.accounts["a"].lane("card").expect("it takes cards").clone();
    Reservation::new(
        lively.breaker(Group::Payments).try_acquire(11_100).expect("closed"),
        Some(lively.clone()),
        None,
    )
    .settle(at(11_100), Verdict::BusinessDecline, 100);
    assert_eq!(gates.admits("a", "card", at(11_200)), Ok(()));
    assert_eq!(gates.admits("a", "card", at(12_100)), Err(Skip::Hanging));
    drop(sent);
    assert_eq!(gates.admits("a", "card", at(12_100)), Ok(()));
}

/// The breaker opens at 0, and two probes close it at `at_ms`.
fn outage_until(gates: &Gates, at_ms: u64) {
    for _ in 0..5 {
        let sent = gates.reserve("a", "card", Group::Payments, at(0)).expect("a place");
        sent.settle(at(0), Verdict::RemoteFailure, 10);
    }
    for _ in 0..2 {
        let probe = gates.reserve("a", "card", Group::Payments, at(at_ms)).expect("a probe");
        probe.settle(at(at_ms), Verdict::Success, 10);
    }
    gates.transitions(at(at_ms));
}

#[test]
fn traffic_comes_back_by_and_by() {
    let gates = gates(settings());
    assert_eq!(gates.demotes("a", "card", 0.99, at(0)), None);
    outage_until(&gates, 6_000);
    let demoted = |draw, now| gates.demotes("a", "card", draw, at(now));
    assert_eq!(demoted(0.05, 6_000), None, "a tenth at once");
    assert_eq!(demoted(0.5, 6_000), Some(Skip::SlowStart));
    assert_eq!(demoted(0.5, 21_000), None, "half after half of the time");
    assert_eq!(demoted(0.99, 36_000), None);
}

#[test]
fn an_outage_of_one_is_a_doubt_about_its_siblings() {
    let gates = two(GateSettings { failure_domain: Some("bank".into()), ..settings() });
    assert_eq!(gates.demotes("b", "card", 0.5, at(0)), None);
    gates.trip("a", None, None, Some(&hold(None)), at(0));
    assert_eq!(gates.demotes("b", "card", 0.5, at(0)), None, "an operator's wish says nothing");
    gates.trip("a", None, None, None, at(0));
    for _ in 0..5 {
        let sent = gates.reserve("a", "card", Group::Payments, at(0)).expect("a place");
        sent.settle(at(0), Verdict::RemoteFailure, 10);
    }
    assert_eq!(gates.demotes("b", "card", 0.5, at(0)), Some(Skip::DomainDown));
    assert_eq!(gates.admits("b", "card", at(0)), Ok(()), "and no refusal");
}

#[test]
fn no_shopper_tries_a_provider_that_does_not_answer_a_probe() {
    let gates = gates(GateSettings { probes: true, ..settings() });
    for _ in 0..5 {
        let sent = gates.reserve("a", "card", Group::Payments, at(0)).expect("a place");
        sent.settle(at(0), Verdict::RemoteFailure, 10);
    }
    assert!(gates.probes("a", at(1)).is_empty(), "still open");
    assert_eq!(gates.admits("a", "card", at(6_000)), Err(Skip::BreakerHalfOpen));
    let probe = |now, verdict| {
        let mut probes = gates.probes("a", at(now));
        assert_eq!(probes.len(), 1, "one lane is half open");
        probes.remove(0).settle(at(now), verdict, 5);
    };
    probe(6_000, Verdict::RemoteFailure);
    probe(6_001, Verdict::RemoteFailure);
    assert_eq!(gates.admits("a", "card", at(6_100)), Err(Skip::BreakerOpen), "and nobody paid");
    probe(20_000, Verdict::Success);
    assert!(gates.probes("a", at(20_001)).is_empty(), "one good word is enough");
    assert_eq!(gates.admits("a", "card", at(20_001)), Ok(()), "now a few payments try");
    assert_eq!(gates.admits("a", "card", at(25_000)), Err(Skip::BreakerHalfOpen), "not for ever");
}

fn hold(until_ms: Option<i64>) -> Hold {
    Hold { reason: "incident 4411".into(), by: "ops".into(), token: None, since_ms: 0, until_ms }
}

fn two(settings: GateSettings) -> Gates {
    let accounts = ["a", "b"].map(|name| (name.to_owned(), settings.clone()));
    Gates::new(accounts.into(), BTreeMap::new(), FailoverBudget::default()).expect("valid")
}

/// The gates that a reload puts in the place of others.
fn after(gates: &Gates, settings: GateSettings) -> Gates {
    let accounts = BTreeMap::from([("a".to_owned(), settings)]);
    let failovers = FailoverBudget::default();
    gates.after(&|_| false, accounts, BTreeMap::new(), failovers).expect("valid settings")
}

#[test]
fn a_reload_closes_no_breaker_and_frees_no_place() {
    let before = gates(GateSettings { in_flight: 2, ..settings() });
    before.trip("a", None, None, Some(&hold(None)), at(0));
    let more = after(&before, GateSettings { in_flight: 3, ..settings() });
    assert_eq!(more.admits("a", "card", at(1)), Err(Skip::Tripped));
    more.trip("a", None, None, None, at(2));
    assert_eq!(before.admits("a", "card", at(2)), Ok(()), "they are the same breakers");

    let before = gates(GateSettings { in_flight: 2, ..settings() });
    let held: Vec<Reservation> =
        (0..2).filter_map(|_| before.reserve("a", "card", Group::Payments, at(0)).ok()).collect();
    let same = after(&before, GateSettings { in_flight: 2, ..settings() });
    assert_eq!(same.admits("a", "card", at(1)), Err(Skip::InFlight));
    let more = after(&before, GateSettings { in_flight: 3, ..settings() });
    assert_eq!(more.admits("a", "card", at(1)), Ok(()));
    drop(held);
    assert_eq!(same.admits("a", "card", at(2)), Ok(()));
}

#[test]
fn a_configuration_as_canary_is_judged_by_breakers_of_its_own_and_obeys_the_same_hands() {
    let old = gates(settings());
    let accounts = BTreeMap::from([("a".to_owned(), settings())]);
    let failovers = FailoverBudget::default();
    let new = old.after(&|name| name == "a", accounts, BTreeMap::new(), failovers);
    let new = new.expect("valid settings");
    for _ in 0..5 {
        let sent = new.reserve("a", "card", Group::Payments, at(0)).expect("a place");
        sent.settle(at(0), Verdict::RemoteFailure, 10);
    }
    assert_eq!(new.admits("a", "card", at(1)), Err(Skip::BreakerOpen));
    assert_eq!(old.admits("a", "card", at(1)), Ok(()));
    old.trip("a", Some("card"), None, Some(&hold(Some(2_000))), at(1));
    assert!(new.end_holds(at(2)).is_empty());
    assert_eq!(new.admits("a", "card", at(2)), Err(Skip::Tripped));
    assert_eq!(old.end_holds(at(2_000)), ["a"]);
    assert!(new.end_holds(at(2_000)).is_empty(), "told once");
    assert_eq!(old.admits("a", "card", at(2_000)), Ok(()));
    assert_ne!(new.admits("a", "card", at(2_000)), Err(Skip::Tripped));
}

#[test]
fn a_reload_gives_nobody_a_second_burst() {
    let one = NonZeroU32::MIN;
    let slow = Rate { count: one, per_ms: 1_000, burst: one };
    let quick = Rate { count: one, per_ms: 500, burst: one };
    let before = gates(GateSettings { limit: Some(slow), ..settings() });
    assert!(before.reserve("a", "card", Group::Payments, at(0)).is_ok());
    let same = after(&before, GateSettings { limit: Some(slow), ..settings() });
    let limited = same.reserve("a", "card", Group::Payments, at(10)).err();
    assert_eq!(limited, Some(Skip::RateLimited));
    // Another limit is another limit.
    let other = after(&before, GateSettings { limit: Some(quick), ..settings() });
    assert!(other.reserve("a", "card", Group::Payments, at(10)).is_ok());
}

#[test]
fn what_was_set_by_hand_and_given_back_stays_with_the_account() {
    let before = gates(GateSettings { refunds_per_hour: 1, ..settings() });
    before.count_refund("a", 5, at(0));
    assert!(before.trip("a", Some("card"), None, Some(&hold(None)), at(0)));
    // Other breakers, and still open by hand.
    let breaker = Settings { consecutive_failures: 77, ..settings().breaker };
    let other = after(&before, GateSettings { refunds_per_hour: 1, breaker, ..settings() });
    assert!(!other.refund_cap("a", 5, at(10)));
    assert_eq!(other.admits("a", "card", at(10)), Err(Skip::Tripped));
    assert!(other.trip("a", Some("card"), None, None, at(20)));
    assert_eq!(other.admits("a", "card", at(20)), Ok(()));
    // The quarantine was its plugin's.
    before.quarantine("a", true);
    assert_eq!(after(&before, settings()).admits("a", "card", at(30)), Ok(()));
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
        failure_domain: None,
        hang_after_ms: 2_500,
        slow_start_ms: 30_000,
        adaptive_limit: true,
        conversion: None,
        probes: false,
    }
}

fn at(mono_ms: u64) -> Stamp {
    Stamp { wall_ms: mono_ms.cast_signed(), boot: 1, mono_ms }
}
