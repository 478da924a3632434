//! Layer L1 in some seconds: every world of the model a little way, and proof that the search can
//! see what is wrong.

use interlock_simulation::model::{Level, Size, World, explore, search};

#[test]
fn no_rule_is_broken_in_any_world_and_there_is_always_a_way_out() {
    let found = search(Size::Quick, &mut |line| eprintln!("{line}"));
    eprintln!(
        "{} worlds, {} unique of {} steps, depth {}, {} ways to rest, {:.1} s",
        found.worlds, found.unique, found.states, found.depth, found.rests, found.seconds
    );
    assert!(found.violations.is_empty(), "{}", found.violations.join("\n"));
    assert_eq!(found.not_exhausted, 0, "every world is searched whole");
    assert!(found.unseen.is_empty(), "nothing was seen of {:?}", found.unseen);
    assert!(found.worlds > 60 && found.unique > 50_000, "{} states", found.unique);
}

#[test]
fn a_provider_that_is_worse_than_it_declares_is_seen() {
    let level = Level { faults: 3, ticks: 5, visits: 0, rare: true };
    for (world, broken) in World::sabotaged() {
        let found = explore(&world.at(level), level, 1_000_000);
        let violation = found.violation.expect("it must be seen");
        let first = violation.lines().next().unwrap_or_default();
        assert!(first.contains(broken), "{violation}");
        assert!(violation.lines().count() > 5, "the way to it is told: {violation}");
        assert!(explore(&world.kept().at(level), level, 1_000_000).violation.is_none());
    }
}
