//! What was promised to plugins that are compiled already: the header of every released minor
//! version still says what it said, and a plugin of that time still does what it did.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use interlock_kit::{Folder, Options, examine};
use tempfile::TempDir;

use crate::program;

#[test]
fn todays_header_says_all_that_a_released_one_said() {
    let today = root().join("include");
    for folder in released() {
        let (then, now) = (said(&folder, &folder), said(&folder, &today));
        assert_eq!(then, now, "{}", folder.display());
        assert!(then.lines().count() > 50, "{then}");
    }
}

/// A probe that leaves something out would let it change.
#[test]
fn the_probes_leave_nothing_out() {
    for folder in released() {
        let text = |name: &str| fs::read_to_string(folder.join(name)).expect("a file of a release");
        let probed = words(&text("probe.c"));
        let header = uncommented(&text("interlock_plugin.h"));
        let constants = words(&header).into_iter().filter(|word| word.starts_with("ILK_"));
        let missing: Vec<String> = constants
            .chain(fields(&header))
            // How a symbol is exported is the compiler's, and the minor version is what grows.
            .filter(|word| !matches!(word.as_str(), "ILK_EXPORT" | "ILK_ABI_MINOR"))
            .filter(|word| !probed.contains(word))
            .collect();
        assert!(missing.is_empty(), "{}: {missing:?}", folder.display());
    }
}

#[test]
fn a_plugin_of_every_released_minor_loads_sends_and_says_what_it_did() {
    let mut judged = 0;
    for folder in released() {
        let library = folder.join(format!("libacme-{}.so", std::env::consts::ARCH));
        // It was compiled for one kind of machine.
        if !library.exists() {
            continue;
        }
        judged += 1;
        let subject = Folder { library, fixtures: folder.join("fixtures") };
        let report = examine(&subject, &program(), &Options::default(), &|_| {});
        let report = report.unwrap_or_else(|e| unreachable!("{}: {e}", folder.display()));
        assert!(report.conforms(), "{}", report.text());
    }
    assert!(judged > 0 || !cfg!(target_arch = "x86_64"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api")
}

fn released() -> Vec<PathBuf> {
    let all = fs::read_dir(root().join("released")).expect("the releases");
    let all = all.map(|entry| entry.expect("an entry").path());
    let folders: Vec<PathBuf> = all.filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    folders
}

/// What a release's probe says of the header in `include`.
fn said(release: &Path, include: &Path) -> String {
    let scratch = TempDir::new().expect("a folder");
    let program = scratch.path().join("probe");
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(include)
        // The copy beside the probe would be found first.
        .arg("-iquote")
        .arg(include)
        .args(["-x", "c", "-", "-o"])
        .arg(&program)
        .stdin(fs::File::open(release.join("probe.c")).expect("a probe"))
        .output()
        .expect("a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(&program).output().expect("it runs");
    String::from_utf8(ran.stdout).expect("text")
}

fn uncommented(header: &str) -> String {
    let mut rest = header;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once("/*") {
        text += before;
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    text + rest
}

fn words(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// The fields of every struct, `int32_t (*name)(...)` and `uint16_t a, b` among them.
fn fields(header: &str) -> Vec<String> {
    let mut names = Vec::new();
    for body in header.split("typedef struct").skip(1) {
        let body = body.split_once('{').map_or("", |(_, rest)| rest);
        let body = body.split_once("\n}").map_or("", |(fields, _)| fields);
        for field in body.split(';') {
            let field = match field.split_once("(*") {
                Some((_, name)) => name.split(')').next().unwrap_or_default(),
                None => field,
            };
            names.extend(field.split(',').filter_map(|part| {
                let last = part.split(|c: char| c.is_whitespace() || c == '*').next_back()?;
                (!last.is_empty()).then(|| last.to_owned())
            }));
        }
    }
    assert!(names.len() > 20, "{names:?}");
    names
}
