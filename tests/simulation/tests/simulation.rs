//! The simulator itself: it finds nothing, it repeats itself exactly, and it can find something.

use std::time::Duration;

use interlock_simulation::simulate::{Wish, retell, simulate};
use interlock_simulation::world::Unsafe;

fn evenings(wish: Wish) -> interlock_simulation::simulate::Simulated {
    simulate(wish, &|_, _| {})
}

#[test]
fn whatever_happens_one_charge_at_most_is_kept_and_the_merchant_was_told_the_truth() {
    let found = evenings(Wish::new(0, 2_000));
    assert!(found.broken.is_empty(), "{:#?}", found.broken);
    let s = found.score;
    assert!(s.faults > s.payments, "an evening without faults shows nothing: {s:?}");
    let met = [s.kills, s.aimed, s.power_cuts, s.failed_syncs, s.races, s.jumps, s.plugins];
    assert!(met.iter().all(|n| *n > 0), "every kind of fault was met: {s:?}");
    let refused = [s.skipped, s.unreserved, s.over_budget, s.no_account, s.stranded, s.capped];
    assert!(refused.iter().all(|n| *n > 0), "every kind of refusal was met: {s:?}");
    let people = [s.went_on, s.recovered, s.portal, s.verdicts, s.denied];
    assert!(people.iter().all(|n| *n > 0), "{s:?}");
    let ends = [s.succeeded, s.failed, s.canceled, s.holding, s.refused, s.given_back];
    assert!(ends.iter().all(|n| *n > 0), "every end was met: {s:?}");
}

#[test]
fn the_same_seed_gives_the_same_evening_on_any_number_of_threads() {
    let one = evenings(Wish { threads: 1, ..Wish::new(77, 200) });
    let two = evenings(Wish { threads: 2, ..Wish::new(77, 200) });
    assert_eq!((one.fold, one.score), (two.fold, two.score));
    assert_ne!(one.fold, evenings(Wish::new(78, 200)).fold);
    let (lines, _, fold) = retell(77, Unsafe::No);
    let again = retell(77, Unsafe::No);
    assert_eq!((&lines, fold), (&again.0, again.2));
    assert!(lines.len() > 100);
}

#[test]
fn drivers_that_hurry_are_noticed() {
    for driver in [Unsafe::SendBeforeDurable, Unsafe::AcknowledgeBeforeDurable] {
        let within = Duration::from_secs(60);
        let found = evenings(Wish { driver, within, first: true, ..Wish::new(0, 20_000) });
        assert!(!found.broken.is_empty(), "{driver:?} survives {:?}", found.score);
    }
}
