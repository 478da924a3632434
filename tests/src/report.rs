//! What a layer of the safety proof counted, left for `cargo xtask safety` to put in one table.
//!
//! Each layer leaves one JSON file, `target/safety/LAYER.json`, when it ends, also when it found
//! something: the file is the evidence, the test's own failure is the alarm.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the layers leave what they counted.
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
    target.join("safety")
}

/// Leaves the counts of one layer. `counts` is an object with at least `seconds` (a number) and
/// `violations` (how many promises were broken), and `found`, a list of sentences, when any was.
pub fn leave(layer: &str, counts: &Value) {
    for member in ["seconds", "violations"] {
        assert!(counts[member].is_number(), "{layer} says its {member}");
    }
    let folder = folder();
    fs::create_dir_all(&folder).expect("a folder for what was counted");
    write(&folder.join(format!("{layer}.json")), &format!("{counts}\n"));
}

/// Never half a file, even when the run is cut off.
fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("what was counted can be written");
    fs::rename(&draft, path).expect("what was counted is in its place");
}
