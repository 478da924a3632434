//! `interlock-simulation simulate | model | mutants`: the layers of the proof that need no proxy.
//!
//! Progress goes to stderr; the last line of stdout is the result, with `--json` as JSON.

#![allow(clippy::print_stdout, reason = "this program speaks to the person who ran it")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use interlock_simulation::model::{self, Size};
use interlock_simulation::simulate::{self, PAYMENTS, Wish};
use interlock_simulation::world::Unsafe;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "The layers of the proof that need no proxy")]
struct Arguments {
    #[command(subcommand)]
    layer: Layer,
    /// One line of JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Layer {
    /// Let evenings of a shop happen by their seeds
    Simulate {
        /// How many payments, rounded up to whole evenings
        #[arg(long, default_value_t = 1_000_000)]
        payments: u64,
        /// The seed of the first evening
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Tell one evening line by line, twice, and compare
    Retell {
        /// Its seed
        seed: u64,
    },
    /// Search the model
    Model {
        /// quick, change or long
        #[arg(long, default_value = "change")]
        size: String,
    },
    /// Hunt every unsafe rule (in a build with `--cfg interlock_mutants`)
    Mutants {
        /// Only L1 (the model) or L2 (the simulator)
        #[arg(long)]
        layer: Option<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (found, words) = match arguments.layer {
        Layer::Simulate { payments, seed } => evenings(payments, seed),
        Layer::Retell { seed } => retell(seed),
        Layer::Model { size } => match size.as_str() {
            "quick" => search(Size::Quick),
            "change" => search(Size::Change),
            "long" => search(Size::Long),
            _ => {
                eprintln!("size must be quick, change or long: {size}");
                return ExitCode::FAILURE;
            }
        },
        Layer::Mutants { layer } => mutants(layer.as_deref()),
    };
    println!("{}", if arguments.json { found.to_string() } else { words });
    let survivors = found["survivors"].as_array().is_some_and(|all| !all.is_empty());
    let broken = found["violations"] != json!(0) || survivors;
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn evenings(payments: u64, seed: u64) -> (Value, String) {
    let wish = Wish::new(seed, payments.div_ceil(PAYMENTS.into()));
    let worlds = wish.worlds;
    let found = simulate::simulate(wish, &|done, seconds| {
        eprintln!("{done} of {worlds} evenings in {seconds:.0} s");
    });
    for why in &found.broken {
        eprintln!("BROKEN {why}");
    }
    let s = &found.score;
    let a_minute = s.payments as f64 / found.cpu_seconds * 60.0;
    let words = format!(
        "{} payments in {} evenings, {} faults, {} decisions, {} commits, {} kills, {} power \
         cuts; {:.1} s, {:.2} million payments a CPU-minute; {} promises broken; hash {:016x}",
        s.payments,
        s.worlds,
        s.faults,
        s.turns,
        s.commits,
        s.kills,
        s.power_cuts,
        found.seconds,
        a_minute / 1e6,
        found.broken.len(),
        found.fold,
    );
    let mut json = json!({
        "layer": "simulation", "seed": seed, "seconds": found.seconds,
        "cpu_seconds": found.cpu_seconds, "payments_a_cpu_minute": a_minute.round(),
        "hash": format!("{:016x}", found.fold),
        "violations": found.broken.len(), "found": found.broken,
        "worlds": s.worlds, "payments": s.payments, "faults": s.faults, "turns": s.turns,
        "commits": s.commits, "kills": s.kills, "kills_in_a_commit": s.aimed,
        "power_cuts": s.power_cuts, "restores": s.restores, "failed_syncs": s.failed_syncs, "lost": s.lost,
        "late": s.late, "not_sent": s.not_sent, "provider_faults": s.providers,
        "notice_faults": s.notices, "plugin_faults": s.plugins, "clock_jumps": s.jumps,
        "hangups": s.hangups, "lost_races": s.races, "succeeded": s.succeeded,
        "failed": s.failed, "canceled": s.canceled, "held": s.holding, "refused": s.refused,
        "operators_asked": s.operators, "given_back": s.given_back,
    });
    let more = json!({
        "went_on": s.went_on, "skipped": s.skipped, "unreserved": s.unreserved,
        "over_budget": s.over_budget,
        "no_account": s.no_account, "stranded": s.stranded, "refunds_capped": s.capped,
        "recovered": s.recovered, "portal_refunds": s.portal, "early_verdicts": s.verdicts,
        "wrong_verdicts": s.denied,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut json, more) {
        all.extend(more);
    }
    (json, words)
}

fn retell(seed: u64) -> (Value, String) {
    let (lines, broken, first) = simulate::retell(seed, Unsafe::No);
    let (_, _, second) = simulate::retell(seed, Unsafe::No);
    for line in lines {
        println!("{line}");
    }
    let same = first == second;
    let words = format!(
        "SEED={seed}: {} promises broken; hash {first:016x}, and {} the second time",
        broken.len(),
        if same { "the same" } else { "ANOTHER" },
    );
    let violations = broken.len() + usize::from(!same);
    let hash = format!("{first:016x}");
    (json!({ "seed": seed, "violations": violations, "found": broken, "hash": hash }), words)
}

fn search(size: Size) -> (Value, String) {
    let found = model::search(size, &mut |line| eprintln!("{line}"));
    // A search that did not look has shown nothing.
    let unseen = found.unseen.iter().map(|sight| format!("no world shows {sight}"));
    let broken: Vec<String> = found.violations.iter().cloned().chain(unseen).collect();
    for why in &broken {
        eprintln!("BROKEN {why}");
    }
    let words = format!(
        "{} states, {} of them different, depth {}, {} worlds ({} not exhausted), rest shown from \
         {} of them; {:.1} s; {} promises broken",
        found.states,
        found.unique,
        found.depth,
        found.worlds,
        found.not_exhausted,
        found.rests,
        found.seconds,
        broken.len(),
    );
    let json = json!({
        "layer": "model", "seconds": found.seconds, "states": found.unique,
        "steps": found.states, "depth": found.depth, "worlds": found.worlds,
        "not_exhausted": found.not_exhausted, "rests_shown": found.rests,
        "violations": broken.len(), "found": broken,
    });
    (json, words)
}

#[cfg(interlock_mutants)]
fn mutants(layer: Option<&str>) -> (Value, String) {
    let began = std::time::Instant::now();
    let all = interlock_simulation::mutants::hunt(layer, &mut |hunted| {
        let end = hunted.broken.as_deref().unwrap_or("survives");
        let end: String = end.chars().take(150).collect();
        let (mutant, layer, after, seconds) =
            (hunted.mutant, hunted.layer, &hunted.after, hunted.seconds);
        eprintln!("{mutant} {layer} {after} {seconds:.2} s: {end}");
    });
    let mut names: Vec<&str> = all.iter().map(|h| h.mutant).collect();
    names.dedup();
    let killed = |name: &str| all.iter().any(|h| h.mutant == name && h.broken.is_some());
    let survivors: Vec<&&str> = names.iter().filter(|name| !killed(name)).collect();
    let words = format!(
        "{} unsafe rules, {} killed, {} survive",
        names.len(),
        names.len() - survivors.len(),
        survivors.len(),
    );
    let hunted: Vec<Value> = all
        .iter()
        .map(|h| {
            json!({
                "name": h.mutant, "layer": h.layer, "killed": h.broken.is_some(),
                "after": h.after, "seconds": h.seconds, "broken": h.broken,
            })
        })
        .collect();
    let json = json!({
        "layer": "mutants", "seconds": began.elapsed().as_secs_f64(), "violations": 0,
        "killed": names.len() - survivors.len(), "survivors": survivors, "mutants": hunted,
    });
    (json, words)
}

#[cfg(not(interlock_mutants))]
fn mutants(_: Option<&str>) -> (Value, String) {
    let words = "this build has no unsafe rules to hunt: use `cargo xtask safety`".to_owned();
    (json!({ "layer": "mutants", "violations": 1, "found": [words] }), words)
}
