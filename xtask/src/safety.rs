//! `cargo xtask safety`: every layer of the proof, one table, and `tests/SAFETY-REPORT.md`.
//!
//! The layers do not know each other: each is a program or a test that counts, judges itself, and
//! leaves one JSON object. Here they are built, run one after the other, and put together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::control::need_proxies;
use crate::failpoints;
use crate::ground::{Ground, Progress, need_c_tools};
use crate::rehearsal::make_folder;

/// What switches the engine's unsafe rules into a build.
const MUTANTS: &str = "--cfg interlock_mutants";
const REPORT: &str = "tests/SAFETY-REPORT.md";
const BEGIN: &str = "<!-- figures:begin -->";
const END: &str = "<!-- figures:end -->";

/// What `cargo xtask safety` is asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// The long form: hours
    #[arg(long)]
    long: bool,
    /// One line of JSON on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,
    /// Only these layers: model, simulation, mutants, kills, disk, control
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// Leave the report as it is
    #[arg(long)]
    keep: bool,
}

/// What `cargo xtask simulate` is asked for.
#[derive(clap::Args)]
pub struct Evenings {
    /// How many payments
    #[arg(long, default_value_t = 1_000_000)]
    payments: u64,
    /// The seed: with it, that one evening is told line by line
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

/// How much of each layer is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Some seconds, in `cargo xtask test --quick`.
    Quick,
    /// With every change.
    Change,
    /// Hours.
    Long,
}

/// What a layer left.
struct Layer {
    /// Its name in the table.
    name: &'static str,
    /// What it is about.
    about: &'static str,
    counts: Value,
}

/// Runs the layers and prints the table; answers whether every promise was kept.
///
/// # Errors
/// When it did not come to a verdict.
pub fn run(ground: &Ground, progress: &Progress, wish: &Wish) -> Result<bool, String> {
    let began = Instant::now();
    let known = ["model", "simulation", "mutants", "kills", "disk", "control"];
    if let Some(name) = wish.layers.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no such layer: {name}; there are {}", known.join(", ")));
    }
    let wanted = |name: &str| wish.layers.is_empty() || wish.layers.iter().any(|l| l == name);
    let size = if wish.long { Size::Long } else { Size::Change };
    need_c_tools(progress)?;
    let mut layers = Vec::new();
    let mut pure = Vec::from(["model", "simulation", "mutants"]);
    pure.retain(|name| wanted(name));
    layers.extend(run_pure(ground, progress, size, &pure)?);
    let mut passed = true;
    let houses = ["kills", "disk", "control"].into_iter().any(wanted);
    if houses {
        build_houses(ground, progress)?;
    }
    if wanted("kills") {
        let kills = if wish.long { "10000" } else { "220" };
        passed &= run_test(ground, progress, "crash", &[("KILLS", kills)])?;
        layers.push(left(
            ground,
            "L3 kills, aimed",
            "the real binary, killed at every write, send and answer",
            "kills_failpoints",
        ));
        layers.push(left(
            ground,
            "L3 kills, random",
            "the real binary, killed under load",
            "kills_random",
        ));
    }
    if wanted("disk") {
        let prefixes = if wish.long { "100000" } else { "10000" };
        passed &= run_test(ground, progress, "power_loss", &[("PREFIXES", prefixes)])?;
        passed &= run_test(ground, progress, "disk", &[])?;
        passed &= run_test(ground, progress, "disk_wounds", &[])?;
        layers.push(left(
            ground,
            "L4 power loss",
            "the journal after every legal loss of power",
            "power_loss",
        ));
        layers.push(left(
            ground,
            "L4 disk faults",
            "every call that the journal makes of its disk fails once",
            "disk",
        ));
        layers.push(left(
            ground,
            "L4 flipped bits",
            "any bit of the journal is flipped",
            "disk_flips",
        ));
    }
    if wanted("control") {
        need_proxies(ground, progress)?;
        passed &= run_test(ground, progress, "control", &[("INTERLOCK_CONTROL", "full")])?;
        layers.push(left(
            ground,
            "L6 control",
            "general proxies and Interlock under the same faults",
            "control",
        ));
    }
    let seconds = began.elapsed().as_secs_f64();
    let good = passed && layers.iter().all(Layer::is_good);
    let table = table(&layers, seconds);
    if wish.layers.is_empty() && !wish.keep {
        write_report(ground, &table, good)?;
        progress.say(&format!("the figures are in {REPORT}"));
    }
    if wish.json {
        println!("{}", as_json(&layers, seconds));
    } else {
        println!("\n{table}");
    }
    for layer in layers.iter().filter(|layer| !layer.is_good()) {
        progress.say(&format!("{} FAILED: {}", layer.name, layer.found()));
    }
    Ok(good)
}

/// The layers that need no proxy, in a size that fits `cargo xtask test`; answers whether every
/// promise was kept.
///
/// # Errors
/// When it did not come to a verdict.
pub fn rehearse(ground: &Ground, progress: &Progress, size: Size) -> Result<bool, String> {
    let layers: &[&'static str] = match size {
        Size::Quick => &["model", "simulation"],
        Size::Change | Size::Long => &["model", "simulation", "mutants"],
    };
    let began = Instant::now();
    let layers = run_pure(ground, progress, size, layers)?;
    println!("\n{}", table(&layers, began.elapsed().as_secs_f64()));
    for layer in layers.iter().filter(|layer| !layer.is_good()) {
        progress.say(&format!("{} FAILED: {}", layer.name, layer.found()));
    }
    Ok(layers.iter().all(Layer::is_good))
}

/// Lets evenings happen, or tells one.
///
/// # Errors
/// When it could not be built or started.
pub fn simulate(ground: &Ground, progress: &Progress, wish: &Evenings) -> Result<bool, String> {
    need_c_tools(progress)?;
    let program = build_simulation(ground, progress, false)?;
    let mut command = Command::new(program);
    match wish.seed {
        Some(seed) => command.args(["retell", &seed.to_string()]),
        None => command.args(["simulate", "--payments", &wish.payments.to_string()]),
    };
    if wish.json {
        command.arg("--json");
    }
    let status = command.status().map_err(|why| format!("could not start the simulator: {why}"))?;
    Ok(status.success())
}

fn run_pure(
    ground: &Ground,
    progress: &Progress,
    size: Size,
    wanted: &[&str],
) -> Result<Vec<Layer>, String> {
    let mut layers = Vec::new();
    if wanted.iter().any(|name| matches!(*name, "model" | "simulation")) {
        let program = build_simulation(ground, progress, false)?;
        if wanted.contains(&"model") {
            let word = ["quick", "change", "long"][size as usize];
            let counts =
                ask(progress, "L1: search the model", &program, &["model", "--size", word])?;
            layers.push(Layer {
                name: "L1 model",
                about: "the engine's own decisions, searched whole",
                counts,
            });
        }
        if wanted.contains(&"simulation") {
            let payments = ["200000", "5000000", "500000000"][size as usize];
            let seed = std::env::var("SEED").unwrap_or_else(|_| "0".into());
            let arguments = ["simulate", "--payments", payments, "--seed", &seed];
            let counts = ask(progress, "L2: evenings of a shop", &program, &arguments)?;
            layers.push(Layer {
                name: "L2 simulation",
                about: "the engine among nodes, disks, clocks, providers and people",
                counts,
            });
        }
    }
    if wanted.contains(&"mutants") {
        let program = build_simulation(ground, progress, true)?;
        let counts = ask(progress, "hunt the unsafe rules", &program, &["mutants"])?;
        layers.push(Layer {
            name: "mutants",
            about: "unsafe rules that L1 or L2 must notice",
            counts,
        });
    }
    Ok(layers)
}

/// The program of the pure layers; with the unsafe rules in a folder of its own, so that nothing
/// else is ever built with them.
fn build_simulation(
    ground: &Ground,
    progress: &Progress,
    mutants: bool,
) -> Result<PathBuf, String> {
    let mut cargo = ground.cargo();
    cargo.args(["build", "--profile", "simulation", "-p", "interlock-simulation"]);
    let mut target = ground.target.clone();
    if mutants {
        target = target.join("mutants");
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        cargo.env("RUSTFLAGS", format!("{flags} {MUTANTS}").trim());
        // It is built once and runs for a minute.
        cargo.env("CARGO_PROFILE_SIMULATION_LTO", "off");
        cargo.env("CARGO_PROFILE_SIMULATION_CODEGEN_UNITS", "16");
    }
    cargo.arg("--target-dir").arg(&target);
    let what =
        if mutants { "build the simulation with the unsafe rules" } else { "build the simulation" };
    progress.run(what, cargo.stdout(Stdio::from(std::io::stderr())))?;
    Ok(target.join("simulation/interlock-simulation"))
}

/// Runs a program that prints one JSON object; it may fail, as long as it says why.
fn ask(
    progress: &Progress,
    what: &str,
    program: &Path,
    arguments: &[&str],
) -> Result<Value, String> {
    progress.say(what);
    let began = Instant::now();
    let mut command = Command::new(program);
    command.args(arguments).arg("--json").stdin(Stdio::null()).stderr(Stdio::inherit());
    let ran =
        command.output().map_err(|why| format!("could not start {}: {why}", program.display()))?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let counts = serde_json::from_str(text.trim())
        .map_err(|why| format!("{what}: no counts ({why}), exit {:?}", ran.status.code()))?;
    progress.say(&format!("{what}: {:.1} s", began.elapsed().as_secs_f64()));
    Ok(counts)
}

fn build_houses(ground: &Ground, progress: &Progress) -> Result<(), String> {
    let mut build = ground.cargo();
    build.args(["build", "--workspace", "--all-targets"]).stdout(Stdio::from(std::io::stderr()));
    progress.run("build everything with its tests", &mut build)?;
    failpoints::build(ground, progress)?;
    // What an earlier run counted must not pass for this one's.
    let folder = ground.target.join("safety");
    for name in ["kills_failpoints", "kills_random", "power_loss", "disk", "disk_flips", "control"]
    {
        let _ = fs::remove_file(folder.join(format!("{name}.json")));
    }
    make_folder(&folder)
}

/// Runs one of the house's tests; it judges itself, and a failure is in what it leaves.
fn run_test(
    ground: &Ground,
    progress: &Progress,
    test: &str,
    environment: &[(&str, &str)],
) -> Result<bool, String> {
    let mut cargo = ground.cargo();
    cargo.args(["test", "-p", "interlock-tests", "--test", test, "--", "--nocapture"]);
    cargo.envs(environment.iter().copied()).env_remove("INTERLOCK_SKIP_PEERS");
    cargo.stdout(Stdio::from(std::io::stderr()));
    progress.try_run(&format!("the house's test: {test}"), &mut cargo)
}

/// What a test left; one that left nothing did not come to its end, and has shown nothing.
fn left(ground: &Ground, name: &'static str, about: &'static str, file: &str) -> Layer {
    let path = ground.target.join("safety").join(format!("{file}.json"));
    let read = || -> Result<Value, String> {
        let text = fs::read_to_string(&path).map_err(|why| why.to_string())?;
        serde_json::from_str(&text).map_err(|why| why.to_string())
    };
    let counts = read().unwrap_or_else(
        |why| json!({ "violations": 1, "found": [format!("it left no counts: {why}")] }),
    );
    Layer { name, about, counts }
}

impl Layer {
    fn is_good(&self) -> bool {
        let survivors = self.counts["survivors"].as_array().is_none_or(Vec::is_empty);
        self.counts["violations"] == json!(0) && survivors
    }

    /// What is wrong, in short.
    fn found(&self) -> String {
        let found = self.counts["found"].as_array().cloned().unwrap_or_default();
        let survivors = self.counts["survivors"].as_array().cloned().unwrap_or_default();
        let all = found.iter().chain(&survivors).take(3);
        let texts: Vec<String> =
            all.map(|why| why.as_str().map_or(why.to_string(), str::to_owned)).collect();
        texts.join("; ")
    }

    /// Its counts that are plain numbers, without those that have a column of their own.
    fn numbers(&self) -> Vec<(String, u64)> {
        let empty = Map::new();
        let members = self.counts.as_object().unwrap_or(&empty);
        let own = ["seconds", "cpu_seconds", "violations", "seed", "layer"];
        let plain = |(name, value): (&String, &Value)| {
            let number = value.as_f64().filter(|n| *n > 0.0 && !own.contains(&name.as_str()))?;
            Some((name.replace('_', " "), number.round() as u64))
        };
        members.iter().filter_map(plain).collect()
    }
}

fn table(layers: &[Layer], seconds: f64) -> String {
    let mut lines = vec![
        "| layer | what | counted | s | broken |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for layer in layers {
        let counted: Vec<String> =
            layer.numbers().iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
        let took = layer.counts["seconds"].as_f64().unwrap_or(0.0);
        let mut broken = layer.counts["violations"].to_string();
        if let Some(survivors) = layer.counts["survivors"].as_array() {
            broken = format!("{} survive", survivors.len());
        }
        lines.push(format!(
            "| {} | {} | {} | {took:.0} | {broken} |",
            layer.name,
            layer.about,
            counted.join(", "),
        ));
    }
    let killed: Vec<String> = layers
        .iter()
        .flat_map(|layer| layer.counts["mutants"].as_array().cloned().unwrap_or_default())
        .map(|m| {
            let text = |name: &str| m[name].as_str().unwrap_or("-").to_owned();
            let end = if m["killed"] == json!(true) { "killed" } else { "not noticed" };
            let took = m["seconds"].as_f64().unwrap_or(0.0);
            let (name, layer, after) = (text("name"), text("layer"), text("after"));
            format!("| {} | {layer} | {end} | {after} | {took:.2} |", name.replace('_', " "))
        })
        .collect();
    if !killed.is_empty() {
        lines.push("\n| unsafe rule | layer | | after | s |\n|---|---|---|---|---|".to_owned());
        lines.extend(killed);
    }
    lines.push(format!("\nAll of it took {seconds:.0} s."));
    lines.join("\n")
}

/// 1234567 as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn as_json(layers: &[Layer], seconds: f64) -> Value {
    let mut all = Map::new();
    for layer in layers {
        all.insert(
            layer.name.replace([' ', ','], "_").to_lowercase().replace("__", "_"),
            layer.counts.clone(),
        );
    }
    let violations: u64 =
        layers.iter().filter_map(|layer| layer.counts["violations"].as_u64()).sum();
    let hunts = || layers.iter().filter(|layer| layer.counts["survivors"].is_array());
    let killed: u64 = hunts().filter_map(|layer| layer.counts["killed"].as_u64()).sum();
    let survivors: Vec<Value> = hunts()
        .flat_map(|l| l.counts["survivors"].as_array().cloned().unwrap_or_default())
        .collect();
    json!({
        "seconds": seconds, "violations": violations,
        "mutants": { "killed": killed, "survivors": survivors }, "layers": all,
    })
}

/// The figures between their marks; what was found stays as somebody wrote it.
fn write_report(ground: &Ground, table: &str, good: bool) -> Result<(), String> {
    let path = ground.root.join(REPORT);
    let report = fs::read_to_string(&path).map_err(|why| format!("{REPORT}: {why}"))?;
    let parts = report.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or(format!("{REPORT} lacks {BEGIN} or {END}"))?;
    let verdict = if good {
        "Every layer kept every promise, and every unsafe rule was noticed."
    } else {
        "**A layer FAILED.**"
    };
    let text = format!("{before}{BEGIN}\n{verdict}\n\n{table}\n{END}{after}");
    fs::write(&path, text).map_err(|why| format!("{REPORT}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(counts: Value) -> Layer {
        Layer { name: "L2 simulation", about: "evenings", counts }
    }

    #[test]
    fn a_layer_is_good_only_with_nothing_broken_and_nobody_left() {
        assert!(layer(json!({ "violations": 0 })).is_good());
        assert!(!layer(json!({ "violations": 1 })).is_good());
        assert!(!layer(json!({})).is_good(), "what was not counted was not shown");
        assert!(layer(json!({ "violations": 0, "survivors": [] })).is_good());
        assert!(!layer(json!({ "violations": 0, "survivors": ["trust"] })).is_good());
    }

    #[test]
    fn a_table_has_one_line_for_a_layer_and_one_for_a_rule() {
        let hunt = json!({ "name": "trust_not_found", "layer": "L2", "killed": true,
                           "after": "2 evenings", "seconds": 0.01 });
        let counts = json!({ "violations": 0, "seconds": 3.2, "payments": 5_000_000,
                             "mutants": [hunt] });
        let table = table(&[layer(counts)], 4.0);
        assert!(table.contains("| L2 simulation | evenings | payments 5,000,000 | 3 | 0 |"));
        assert!(table.contains("| trust not found | L2 | killed | 2 evenings | 0.01 |"));
    }

    #[test]
    fn one_line_sums_what_the_layers_found() {
        let one = layer(json!({ "violations": 2, "found": ["a"] }));
        let all = as_json(&[one], 1.0);
        assert_eq!(all["violations"], 2);
        assert_eq!(all["layers"]["l2_simulation"]["found"][0], "a");
        assert!(!all.to_string().contains('\n'));
    }
}
