//! `cargo xtask bench`: what a request costs, beside nginx, HAProxy and Envoy, and single rooms
//! alone. The work is the bench's own program, in a release build.

use std::process::Command;

use crate::control::need_proxies;
use crate::ground::{Ground, Progress, apt_install, need_c_tools, version_of};

/// What `cargo xtask bench` is asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// Three short rounds, and nothing is written: an order of magnitude in a few minutes
    #[arg(long)]
    quick: bool,
    /// Leave the single rooms out
    #[arg(long)]
    no_rooms: bool,
    /// Only the single rooms
    #[arg(long, conflicts_with = "no_rooms")]
    rooms: bool,
    /// Only the rounds, of these contenders: `native`, `payment,tmpfs`, ...; or only `overload`
    #[arg(long, value_name = "NAMES", conflicts_with_all = ["rooms", "json"])]
    only: Option<String>,
    /// How many rounds, in place of 3 or 21
    #[arg(long)]
    rounds: Option<usize>,
    /// How many seconds memory is watched under load, in place of 20 or 600
    #[arg(long)]
    soak: Option<u64>,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// Installs the peers, builds, measures; a full run writes the README's table and its plots.
///
/// # Errors
/// When it could not be measured.
pub fn run(ground: &Ground, progress: &Progress, wish: &Wish) -> Result<bool, String> {
    need_c_tools(progress)?;
    if !wish.rooms {
        need_proxies(ground, progress)?;
        if version_of("taskset").is_none() {
            apt_install(progress, &["util-linux"])?;
        }
        let mut build = ground.cargo();
        build.args(["build", "--release", "-p", "interlock", "-p", "interlock-bench"]);
        build.args(["-p", "interlock-plugin-checkout"]);
        progress.run("build in release form", &mut build)?;
        let mut measure = Command::new(ground.target.join("release/interlock-bench"));
        measure.arg("--root").arg(&ground.root).arg("--target").arg(&ground.target);
        if wish.quick {
            measure.arg("--quick");
        }
        if wish.json {
            measure.arg("--json");
        }
        for (name, value) in [
            ("--only", wish.only.clone()),
            ("--rounds", wish.rounds.map(|n| n.to_string())),
            ("--soak", wish.soak.map(|n| n.to_string())),
        ] {
            if let Some(value) = value {
                measure.args([name, &value]);
            }
        }
        progress.run("measure", &mut measure)?;
    }
    if !wish.no_rooms && wish.only.is_none() {
        let mut rooms = ground.cargo();
        rooms.args(["bench", "-p", "interlock-bench"]);
        progress.run("single rooms", &mut rooms)?;
    }
    Ok(true)
}
