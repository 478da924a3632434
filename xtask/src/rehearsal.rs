//! `cargo xtask test`: from a fresh Debian 12 with Rust and a C compiler to all tests run.
//!
//! Everything that it installs by npm or pip lies under the target folder, so that deleting that
//! folder undoes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::control::need_proxies;
use crate::deny;
use crate::failpoints;
use crate::ground::{Ground, Progress, apt_install, need_c_tools, version_of};
use crate::safety::{self, Size};
use crate::scratch::Scratch;

/// The oldest Node that the peers' SDKs run on.
const NODE_MAJOR: u32 = 20;

/// What `cargo xtask test` is asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// Install nothing, leave the peers out, and give crash and load tests few rounds
    #[arg(long)]
    quick: bool,
}

/// Installs, builds and tests; answers whether all tests passed.
///
/// # Errors
/// When it did not come to the tests.
pub fn run(ground: &Ground, progress: &Progress, wish: &Wish) -> Result<bool, String> {
    need_c_tools(progress)?;
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !wish.quick {
        let node = need_node(ground, progress)?;
        if let Some(folder) = &node.folder {
            path = in_front(folder, &path)?;
        }
        need_peers(ground, progress, &node.npm)?;
        need_python_peers(ground, progress)?;
        need_proxies(ground, progress)?;
    }
    let scratch = Scratch::make(ground, progress)?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = ground.cargo();
        cargo.args(arguments).env("PATH", &path).env("RUST_BACKTRACE", "1");
        if let Some(scratch) = &scratch {
            cargo.env("TMPDIR", scratch.folder());
        }
        if wish.quick {
            cargo.env("INTERLOCK_QUICK", "1").env("INTERLOCK_SKIP_PEERS", "1");
        }
        cargo
    };
    progress.run(
        "build everything with its tests",
        &mut cargo(&["build", "--workspace", "--all-targets"]),
    )?;
    failpoints::build(ground, progress)?;
    let passed = if version_of("cargo-nextest").is_some() {
        let mut tests = cargo(&["nextest", "run", "--workspace", "--no-fail-fast"]);
        let tests = progress.try_run("all tests", &mut tests)?;
        let mut examples = cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]);
        progress.try_run("the examples in the documentation", &mut examples)? && tests
    } else {
        progress.try_run("all tests", &mut cargo(&["test", "--workspace", "--no-fail-fast"]))?
    };
    let passed = deny::judge(ground, progress, wish.quick)? && passed;
    let size = if wish.quick { Size::Quick } else { Size::Change };
    let passed = safety::rehearse(ground, progress, size)? && passed;
    progress.say(if passed { "all tests passed" } else { "some tests FAILED, see above" });
    Ok(passed)
}

/// The Node that was found or installed.
struct Node {
    /// Where `node` lies, when it is not the one in PATH.
    folder: Option<PathBuf>,
    npm: String,
}

fn need_node(ground: &Ground, progress: &Progress) -> Result<Node, String> {
    let has_npm = || version_of("npm").is_some();
    let npm = || "npm".to_owned();
    if major(version_of("node")) >= NODE_MAJOR && has_npm() {
        return Ok(Node { folder: None, npm: npm() });
    }
    let home = ground.target.join("node");
    let folder = home.join("node_modules/.bin");
    if !has_npm() {
        apt_install(progress, &["nodejs", "npm"])?;
    }
    if major(version_of("node")) >= NODE_MAJOR {
        return Ok(Node { folder: None, npm: npm() });
    }
    if major(version_of(folder.join("node"))) < NODE_MAJOR {
        make_folder(&home)?;
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"]);
        install.arg(&home).arg(format!("node@{NODE_MAJOR}")).current_dir(&home);
        let what = format!("npm install node@{NODE_MAJOR}, as Debian's is older");
        progress.run(&what, &mut install).map_err(no_registry)?;
    }
    match major(version_of(folder.join("node"))) {
        found if found >= NODE_MAJOR => Ok(Node { folder: Some(folder), npm: npm() }),
        found => Err(format!("the npm package node gave version {found}, not {NODE_MAJOR}")),
    }
}

/// 20 of `v20.20.2`; 0 when there is none.
fn major(version: Option<String>) -> u32 {
    let number = version.as_deref().and_then(|v| v.trim_start_matches('v').split('.').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Installs the providers' SDKs into `target/peers`, as the committed lock file says. That file
/// names versions and digests but no host, so any registry serves.
fn need_peers(ground: &Ground, progress: &Progress, npm: &str) -> Result<(), String> {
    let (from, to) = (ground.root.join("tests/peers"), ground.target.join("peers"));
    let lock = from.join("package-lock.json");
    let installed = to.join("installed-lock.json");
    let read = |path: &Path| fs::read(path).ok();
    if read(&installed).is_some() && read(&installed) == read(&lock) {
        return Ok(());
    }
    make_folder(&to)?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        copy(&from.join(name), &to.join(name))?;
    }
    let mut install = Command::new(npm);
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&to);
    progress.run("npm ci of the providers' SDKs", &mut install).map_err(no_registry)?;
    copy(&lock, &installed)
}

/// Installs what judges our OpenAPI document, and the Stripe that others wrote, into
/// `target/peers/python`, a folder of its own.
fn need_python_peers(ground: &Ground, progress: &Progress) -> Result<(), String> {
    let wanted = ground.root.join("tests/peers/requirements.txt");
    let home = ground.target.join("peers/python");
    let installed = home.join("installed.txt");
    let read = |path: &Path| fs::read(path).ok();
    if read(&installed).is_some() && read(&installed) == read(&wanted) {
        return Ok(());
    }
    let python = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        python.args(arguments);
        python
    };
    // Debian's Python comes without what makes such folders.
    let can = python(&["-c", "import ensurepip, venv"]).status().is_ok_and(|s| s.success());
    if !can {
        apt_install(progress, &["python3", "python3-venv"])?;
    }
    make_folder(&home)?;
    progress.run("a folder for Python packages", python(&["-m", "venv"]).arg(&home))?;
    let mut install = Command::new(home.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&wanted);
    progress.run("pip install of the Python peers", &mut install).map_err(no_registry)?;
    copy(&wanted, &installed)
}

fn no_registry(why: String) -> String {
    format!(
        "{why} (is there a network, and a registry in ~/.npmrc and pip.conf? \
         `cargo xtask test --quick` needs neither, and leaves the peers out)"
    )
}

fn in_front(folder: &Path, path: &std::ffi::OsStr) -> Result<std::ffi::OsString, String> {
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(path));
    std::env::join_paths(folders).map_err(|why| format!("PATH cannot hold a folder: {why}"))
}

/// Makes `folder` and those above it.
///
/// # Errors
/// Which one, and why not.
pub fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|why| format!("could not make {}: {why}", folder.display()))
}

/// Copies one file.
///
/// # Errors
/// Which one, and why not.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|why| format!("could not copy {}: {why}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_node_is_read_and_none_is_zero() {
        assert_eq!(major(Some("v20.20.2".into())), 20);
        assert_eq!(major(Some("v18.13.0".into())), 18);
        assert_eq!(major(Some("rubbish".into())), 0);
        assert_eq!(major(None), 0);
    }
}
