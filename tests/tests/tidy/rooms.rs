//! The rooms: every file is reachable, opens with a sentence, has an honest name, fits a page.

use std::collections::BTreeMap;

use cargo_metadata::MetadataCommand;

use crate::source::{Source, line_of, words};
use crate::{Complaints, nothing_of, tree};

const COLUMNS: usize = 100;

/// Names that say nothing of what lies behind them.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "types"];

#[test]
fn every_file_is_a_room_of_a_crate() {
    let rooms = rooms();
    let dead = tree::files().into_iter().filter(|path| path.ends_with(".rs"));
    let dead = dead.filter(|path| !rooms.contains_key(path));
    nothing_of(
        dead.map(|path| format!("{path}: no `mod` leads here; declare it, or delete it")).collect(),
    );
}

#[test]
fn every_file_opens_with_what_it_is() {
    let complaints = tree::rust().into_iter().filter_map(|(path, source)| {
        header_complaint(&source.text).map(|why| format!("{path}:1: {why}"))
    });
    nothing_of(complaints.collect());
}

fn header_complaint(text: &str) -> Option<&'static str> {
    let first = text.lines().next().unwrap_or_default();
    let sentence = first.strip_prefix("//! ").unwrap_or_default().trim();
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    let header: Vec<&str> = lines.map(|line| line.trim_start_matches("//!").trim()).collect();
    let header = header.join(" ");
    if sentence.is_empty() {
        Some("open with `//! ` and one sentence that says what this room is")
    } else if sentence.to_lowercase().contains("to be built") {
        Some("say what this room is, once it is built")
    } else if !header.contains(['.', ':', '!']) {
        Some("end the opening sentence")
    } else {
        None
    }
}

#[test]
fn no_name_is_empty() {
    let mut complaints = Vec::new();
    for (path, source) in tree::rust() {
        let stem = path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        let stem = stem.rsplit('/').next().unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            complaints.push(format!("{path}: name the room after what it holds"));
        }
        for (at, name) in modules(&source.code).into_iter().map(|(at, name, _)| (at, name)) {
            if EMPTY_NAMES.contains(&name.as_str()) {
                let line = line_of(&source.code, at);
                complaints.push(format!("{path}:{line}: name `mod {name}` after what it holds"));
            }
        }
    }
    nothing_of(complaints);
}

#[test]
fn lines_fit_in_100_columns() {
    let mut complaints = Vec::new();
    for (path, source) in tree::rust() {
        complaints.extend(wide_lines(&path, &source.text));
    }
    nothing_of(complaints);
}

fn wide_lines(path: &str, text: &str) -> Complaints {
    let wide = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS);
    wide.map(|(n, line)| {
        let columns = line.chars().count();
        format!("{path}:{}: {columns} columns; break the line at {COLUMNS}", n + 1)
    })
    .collect()
}

/// Every file that a `mod` leads to, and whether it ships.
pub fn rooms() -> BTreeMap<String, bool> {
    let root = tree::root();
    let mut ask = MetadataCommand::new();
    let metadata = ask.manifest_path(root.join("Cargo.toml")).no_deps().exec();
    let metadata = metadata.expect("cargo metadata answers");
    let mut found = BTreeMap::new();
    for package in metadata.workspace_packages() {
        for target in &package.targets {
            let ships = target.is_lib() || target.is_cdylib() || target.is_bin();
            if let Ok(path) = target.src_path.as_std_path().strip_prefix(&root) {
                enter(&path.to_string_lossy(), true, ships, &mut found);
            }
        }
    }
    found
}

fn enter(path: &str, is_door: bool, ships: bool, found: &mut BTreeMap<String, bool>) {
    // A file may be reached twice; it ships when one way ships.
    if found.get(path).is_some_and(|known| *known || !ships) || !tree::root().join(path).is_file() {
        return;
    }
    found.insert(path.into(), ships);
    let source = Source::read(&tree::text(path));
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let folder = if is_door || stem == "mod" { folder.into() } else { format!("{folder}/{stem}") };
    let shipping = modules(&source.shipping);
    for (at, name, elsewhere) in modules_with_path(&source) {
        let still_ships = ships && shipping.iter().any(|(place, ..)| *place == at);
        let ways = match elsewhere {
            Some(other) => vec![from(path.rsplit_once('/').unwrap_or_default().0, &other)],
            None => vec![format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")],
        };
        for way in ways {
            enter(&way, false, still_ships, found);
        }
    }
}

/// Where a relative path leads from a folder.
fn from(folder: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in relative.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// `mod name;` and `mod name {`: where, the name, and whether it lies in another file.
fn modules(code: &str) -> Vec<(usize, String, bool)> {
    let declared = words(code, "mod").filter_map(|at| {
        let rest = code[at + 3..].trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        let then = rest[end..].trim_start().chars().next()?;
        let is_name = end > 0 && matches!(then, ';' | '{');
        is_name.then(|| (at, rest[..end].to_owned(), then == ';'))
    });
    declared.collect()
}

/// The modules in other files, with the `#[path = "..."]` before them.
fn modules_with_path(source: &Source) -> Vec<(usize, String, Option<String>)> {
    let outside = modules(&source.code).into_iter().filter(|(.., outside)| *outside);
    outside
        .map(|(at, name, _)| {
            let lines: Vec<&str> = source.text[..at].lines().rev().take(3).collect();
            let path = lines.iter().find_map(|line| line.trim().strip_prefix("#[path = \""));
            (at, name, path.and_then(|rest| rest.split('"').next()).map(str::to_owned))
        })
        .collect()
}

#[test]
fn a_header_must_say_something() {
    assert!(header_complaint("//! Decides who may be tried.\n").is_none());
    assert!(header_complaint("//! Decides, for a payment,\n//! who may be tried.\n").is_none());
    for bad in ["use x;\n", "", "//!\n", "//! To be built.\n", "//! Decides\n", "// Decides.\n"] {
        assert!(header_complaint(bad).is_some(), "{bad}");
    }
}

#[test]
fn a_wide_line_is_counted_in_characters() {
    assert!(wide_lines("a.rs", &"好".repeat(100)).is_empty());
    assert_eq!(wide_lines("a.rs", &format!("x\n{}", "y".repeat(101))).len(), 1);
}

#[test]
fn modules_are_found_and_test_kits_do_not_ship() {
    let source = Source::read(
        "pub(crate) mod a;\n#[cfg(feature = \"x\")]\npub mod kit;\nmod b { mod c; }\n// mod d;\n",
    );
    let names = |code: &str| -> Vec<String> {
        modules(code).into_iter().filter(|(.., outside)| *outside).map(|(_, n, _)| n).collect()
    };
    assert_eq!(names(&source.code), ["a", "kit", "c"]);
    assert_eq!(names(&source.shipping), ["a", "c"]);
    let rooms = rooms();
    assert_eq!(rooms.get("tests/tests/tidy/rooms.rs"), Some(&false));
    assert_eq!(from("a/b/c", "../../d/e.rs"), "a/d/e.rs");
    assert_eq!(rooms.get("tests/sandbox/src/alipay/trades.rs"), Some(&true));
}
