//! `cargo xtask demo | test | safety | simulate | control | bench`: the commands of this
//! repository.
//!
//! It depends on nothing that needs cmake and on none of our other crates, because on a fresh
//! machine it is what installs the first and builds the second.

#![allow(clippy::print_stdout, reason = "this program speaks to the person who ran it")]

mod bench;
mod control;
mod demo;
mod deny;
mod failpoints;
mod ground;
mod rehearsal;
mod safety;
mod scratch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use ground::{Ground, Progress};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The commands of this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Send payments through the proxy while its providers break, and judge by the ledgers
    Demo(demo::Wish),
    /// Install what the tests need, build, and run all of them
    Test(rehearsal::Wish),
    /// Run every layer of the proof that no payment is charged twice or forgotten
    Safety(safety::Wish),
    /// Let evenings of a shop happen by their seeds, or tell one: SEED=n
    Simulate(safety::Evenings),
    /// Measure what a request costs beside nginx, HAProxy and Envoy, and write the tables
    Bench(bench::Wish),
    /// Put nginx, HAProxy and Envoy beside the proxy under the same faults, and write the table
    Control(control::Wish),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = matches!(&arguments.task, Task::Safety(wish) if wish.json)
        || matches!(&arguments.task, Task::Bench(wish) if wish.json)
        || matches!(&arguments.task, Task::Simulate(wish) if wish.json);
    let progress = Progress::new(json);
    let done = Ground::find().and_then(|ground| match arguments.task {
        Task::Demo(wish) => demo::run(&ground, &progress, &wish),
        Task::Test(wish) => rehearsal::run(&ground, &progress, &wish),
        Task::Safety(wish) => safety::run(&ground, &progress, &wish),
        Task::Simulate(wish) => safety::simulate(&ground, &progress, &wish),
        Task::Bench(wish) => bench::run(&ground, &progress, &wish),
        Task::Control(wish) => control::run(&ground, &progress, &wish),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
