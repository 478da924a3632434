//! `cargo deny`: licences, bans and sources of everything that is linked, as `deny.toml` says.
//!
//! The tool is built from its source once, into the target folder: a minute and a half of one
//! processor, in debug, which is quick enough for a graph of some hundred crates. Known
//! vulnerabilities are looked up where their database can be fetched; where it can't, that is
//! said, because a machine without a network must be able to test and must not seem to have looked.

use std::process::{Command, Stdio};

use crate::ground::{Ground, Progress, version_of};

/// Built with its own lock file, so that it is the same everywhere.
const VERSION: &str = "0.20.2";

/// Installs the tool unless `quick`, and judges; answers whether nothing was refused.
///
/// # Errors
/// The tool could not be built or started.
pub fn judge(ground: &Ground, progress: &Progress, quick: bool) -> Result<bool, String> {
    let home = ground.target.join("tools");
    let tool = home.join("bin/cargo-deny");
    let wanted = format!("cargo-deny {VERSION}");
    if version_of(&tool).as_deref() != Some(&*wanted) {
        if quick {
            progress.say("cargo deny: not installed and not checked, because this is quick");
            return Ok(true);
        }
        let mut install = ground.cargo();
        install.args(["install", "--locked", "--debug", "--force", "cargo-deny"]);
        install.args(["--version", VERSION, "--root"]).arg(&home);
        install.env("CARGO_TARGET_DIR", home.join("build"));
        progress.run("build cargo-deny", &mut install)?;
        // What it was built from is ten times as large as the tool.
        let _ = std::fs::remove_dir_all(home.join("build"));
    }
    let deny = |arguments: &[&str]| {
        let mut deny = Command::new(&tool);
        deny.arg("deny").args(arguments).current_dir(&ground.root);
        deny
    };
    let mut check = deny(&["--offline", "check", "--hide-inclusion-graph"]);
    check.args(["licenses", "bans", "sources"]);
    let passed = progress.try_run("cargo deny: licences, bans, sources", &mut check)?;
    if quick || !is_fetched(&mut deny(&["fetch", "db"])) {
        progress.say("cargo deny: advisories were NOT checked, their database can't be fetched");
        return Ok(passed);
    }
    let mut check = deny(&["check", "--disable-fetch", "--hide-inclusion-graph", "advisories"]);
    Ok(progress.try_run("cargo deny: advisories", &mut check)? && passed)
}

fn is_fetched(fetch: &mut Command) -> bool {
    fetch.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    fetch.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
