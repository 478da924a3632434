//! The journal over a disk that loses power and a disk that fails: what was acknowledged is there,
//! what is there is whole, and nothing is ever answered wrongly.
//!
//! `PREFIXES=` and `SEED=` make it longer or another one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cuts;
mod flips;
mod platter;
mod sites;
mod stage;
mod tables;
mod verdict;
mod vfs;
mod work;

use std::time::Instant;

use interlock_tests::report;
use serde_json::{Value, json};

use stage::Lie;

/// Lies of a disk, and how many cuts may pass before each is found out.
const LIES: [(&str, Lie); 6] = [
    ("acknowledge before the sync", Lie::EarlyAnswer),
    ("no sync of the log", Lie::LogSync),
    ("no sync of the database at a checkpoint", Lie::DatabaseSync),
    ("no sync of the directory", Lie::NamesSync),
    ("no sync of a log that begins anew", Lie::FreshLogSync),
    ("a log whose sync failed is trusted as it is read", Lie::Rewrite),
];
const PATIENCE: usize = 8_000;

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    vfs::install();
    let (seed, prefixes) = (number("SEED").unwrap_or(1), number("PREFIXES").unwrap_or(10_000));
    eprintln!("power loss: SEED={seed} PREFIXES={prefixes}");
    let begun = Instant::now();
    let tally = cuts::run(seed, prefixes as usize, Lie::None);
    let mutants: Vec<Value> = LIES.iter().map(|(name, lie)| mutant(name, *lie, seed)).collect();
    let survivors = mutants.iter().filter(|m| m["killed"] == false).count();
    report::leave(
        "power_loss",
        &json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "violations": tally.found.len(),
            "found": tally.found,
            "seed": seed,
            "power_loss_prefixes": tally.prefixes,
            "recoveries_cut": tally.recoveries_cut,
            "tapes": tally.tapes,
            "writes": tally.writes,
            "syncs": tally.syncs,
            "failed_syncs": tally.failed_syncs,
            "acknowledged": tally.acknowledged,
            "uncertain_per_cut": tally.uncertain / tally.prefixes.max(1),
            "mutants": mutants,
        }),
    );
    eprintln!("power loss: {tally:?}\n{mutants:#?}");
    assert_eq!(tally.found, Vec::<String>::new());
    assert!(tally.prefixes >= prefixes, "{} cuts", tally.prefixes);
    assert_eq!(survivors, 0, "a lie of the disk was not found out");
}

#[test]
fn a_fault_at_any_call_to_the_disk_is_never_a_wrong_answer() {
    vfs::install();
    let seed = number("SEED").unwrap_or(1);
    let begun = Instant::now();
    let tally = sites::run(seed);
    let lying = Instant::now();
    let liar = sites::run_with_a_liar(seed);
    report::leave(
        "disk",
        &json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "violations": tally.found.len(),
            "found": tally.found,
            "seed": seed,
            "io_sites": tally.sites.values().sum::<u64>(),
            "io_sites_by_kind": tally.sites,
            "io_faults": tally.faults,
            "lives": tally.lives,
            "power_loss_prefixes": tally.cuts,
            "refused_openings": tally.refused_openings,
            "answers": tally.answers,
            "mutants": [{
                "name": "a sync that failed is taken for done",
                "layer": "L4",
                "killed": !liar.found.is_empty(),
                "after": liar.lives,
                "seconds": lying.elapsed().as_secs_f64(),
                "by": liar.found.first(),
            }],
        }),
    );
    eprintln!("disk: {tally:?}");
    eprintln!("disk: a liar is found out: {:?}", liar.found.first());
    assert_eq!(tally.found, Vec::<String>::new());
    assert!(!liar.found.is_empty(), "a disk that lies was not found out");
    assert_eq!(tally.sites.len(), 14, "every kind of call was met: {:?}", tally.sites);
    for answer in ["done", "full", "low_disk", "unknown"] {
        assert!(tally.answers.contains_key(answer), "the faults bite: no {answer}");
    }
}

#[test]
fn a_flipped_bit_is_never_a_wrong_answer() {
    vfs::install();
    let (seed, flips) = (number("SEED").unwrap_or(1), number("FLIPS").unwrap_or(1_500));
    let begun = Instant::now();
    let tally = flips::run(seed, flips);
    report::leave(
        "disk_flips",
        &json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "violations": tally.found.len(),
            "found": tally.found,
            "seed": seed,
            "flips": tally.flips,
            "refused": tally.refused,
            "told": tally.told,
            "harmless": tally.harmless,
        }),
    );
    eprintln!("flips: {tally:?}");
    assert_eq!(tally.found, Vec::<String>::new());
    assert!(tally.refused > 0 && tally.told > 0, "flips are seen: {tally:?}");
}

fn mutant(name: &str, lie: Lie, seed: u64) -> Value {
    let begun = Instant::now();
    let tally = cuts::run(seed, PATIENCE, lie);
    json!({
        "name": name,
        "layer": "L4",
        "killed": !tally.found.is_empty(),
        "after": tally.prefixes,
        "seconds": begun.elapsed().as_secs_f64(),
        "by": tally.found.first(),
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
