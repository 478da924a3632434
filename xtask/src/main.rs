//! `cargo xtask demo | test | control`: the commands of this repository.
//!
//! It depends on nothing that needs cmake and on none of our other crates, because on a fresh
//! machine it is what installs the first and builds the second.

#![allow(clippy::print_stdout, reason = "this program speaks to the person who ran it")]

mod control;
mod demo;
mod failpoints;
mod ground;
mod rehearsal;

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
    /// Put nginx, HAProxy and Envoy beside the proxy under the same faults, and write the table
    Control(control::Wish),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let progress = Progress::new();
    let done = Ground::find().and_then(|ground| match arguments.task {
        Task::Demo(wish) => demo::run(&ground, &progress, &wish),
        Task::Test(wish) => rehearsal::run(&ground, &progress, &wish),
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
