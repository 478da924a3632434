//! The kit as its users meet it: against defects, against what ships, and against what it writes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod defects;
mod released;
mod scaffold;
mod shipped;

use std::path::PathBuf;

use interlock_kit::Program;

/// The program that serves a check.
fn program() -> Program {
    Program {
        path: built("examples/kit"),
        examine: vec!["examine".into()],
        serve: vec!["serve".into()],
    }
}

/// Something that the workspace's build has made, beside this test.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(path.is_file(), "run `cargo build --workspace --all-targets`: {}", path.display());
    path
}
