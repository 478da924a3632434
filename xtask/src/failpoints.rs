//! Builds the binary that the tests kill at named places.

use crate::ground::{Ground, Progress};

/// Builds `interlock-failpoints` beside the ordinary binary, which stays as it is.
///
/// `--test crash` is there for what Cargo makes of it: with a test among the targets, the crates of
/// the world get the same features as in `cargo build --all-targets`, and are not built once more.
///
/// # Errors
/// When it does not build.
pub fn build(ground: &Ground, progress: &Progress) -> Result<(), String> {
    let mut cargo = ground.cargo();
    cargo.args(["build", "--workspace", "--bin", "interlock-failpoints", "--test", "crash"]);
    cargo.args(["--features", "interlock/failpoints"]);
    progress.run("build the proxy with places to die at", &mut cargo)
}
