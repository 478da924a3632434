//! Every shipped plugin passes every check that can judge it. `UPDATE=1` writes what the plugins
//! send and say now into their fixtures first, for review.

use std::fs;
use std::path::Path;

use interlock_kit::{Folder, Options, Outcome, examine, update};

use crate::{built, program};

#[test]
fn every_shipped_plugin_conforms() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut wrong = Vec::new();
    let mut names: Vec<String> = fs::read_dir(&plugins)
        .unwrap()
        .flatten()
        .filter(|folder| folder.path().join("manifest.json").is_file())
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let folder = Folder {
            library: built(&format!("lib{name}.so")),
            fixtures: plugins.join(&name).join("fixtures"),
        };
        if std::env::var_os("UPDATE").is_some() {
            update(&folder).unwrap();
        }
        let program = program();
        let report = examine(&folder, &program, &Options::default(), &|_| {}).unwrap();
        let bad = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. });
        if report.ruled.iter().any(|ruled| bad(&ruled.outcome)) {
            wrong.push(report.text());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
