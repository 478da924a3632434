//! What lies beside the code: papers with titles, no notes of the work, no trace of a machine.

use crate::{Complaints, nothing_of, tree};

/// The only papers at the door.
const AT_THE_DOOR: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];

/// Parts of names that notes of the work have.
const NOTES: &[&str] = &[
    "todo",
    "next_steps",
    "next-steps",
    "pending_tasks",
    "gap_analysis",
    "implementation_summary",
    "progress",
    "scratch",
    "handoff",
    "status_report",
];

/// Binary and generated files, which are not read as text.
const NOT_READ: &[&str] = &[".png", ".ico", ".woff2", ".gz", ".so", ".pem", ".der"];

/// Larger files belong elsewhere.
const BYTES_LIMIT: u64 = 1 << 20;

#[test]
fn every_paper_has_a_title() {
    let papers = tree::files().into_iter().filter(|path| path.ends_with(".md"));
    let untitled = papers.filter(|path| !tree::text(path).starts_with("# "));
    nothing_of(untitled.map(|path| format!("{path}:1: begin with `# ` and a title")).collect());
}

#[test]
fn no_notes_of_the_work_lie_about() {
    nothing_of(tree::files().iter().filter_map(|path| note_complaint(path)).collect());
}

fn note_complaint(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let is_paper = name.ends_with(".md") || name.ends_with(".txt");
    if is_paper && NOTES.iter().any(|note| name.contains(note)) {
        return Some(format!("{path}: history lives in commits and CHANGELOG.md; delete it"));
    }
    let is_at_the_door = !path.contains('/') && is_paper && name != "license.txt";
    (is_at_the_door && !AT_THE_DOOR.contains(&path))
        .then(|| format!("{path}: at the door lie only {AT_THE_DOOR:?}"))
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let mut complaints = Vec::new();
    for path in tree::files() {
        if NOT_READ.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        complaints.extend(machine_complaints(&path, &tree::text(&path)));
    }
    nothing_of(complaints);
}

fn machine_complaints(path: &str, text: &str) -> Complaints {
    // Put together here, so that this file does not complain of itself.
    let places = ["work", "root", "home", "tmp/bash"].map(|place| format!("/{place}/"));
    let mut complaints = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for place in &places {
            let is_path = |at: usize| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "._-/}*".contains(c))
            };
            if line.match_indices(place.as_str()).any(|(at, _)| is_path(at)) {
                complaints.push(format!("{path}:{}: `{place}` is a place of one machine", n + 1));
            }
        }
    }
    complaints
}

#[test]
fn lock_files_name_no_registry_host() {
    let locks = tree::files().into_iter().filter(|path| path.ends_with("package-lock.json"));
    let naming = locks.filter(|path| tree::text(path).contains("\"resolved\": \"http"));
    nothing_of(
        naming
            .map(|path| format!("{path}: lock with `omit-lockfile-registry-resolved=true`"))
            .collect(),
    );
}

#[test]
fn the_licence_is_apache_2() {
    let licence = tree::text("LICENSE");
    for part in ["Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"] {
        assert!(licence.contains(part), "LICENSE lacks: {part}");
    }
}

#[test]
fn no_file_is_a_blob() {
    let large = tree::files().into_iter().filter_map(|path| {
        let bytes = std::fs::metadata(tree::root().join(&path)).ok()?.len();
        (bytes > BYTES_LIMIT).then(|| format!("{path}: {bytes} bytes; keep it out of the tree"))
    });
    nothing_of(large.collect());
}

#[test]
fn a_note_and_a_machine_are_seen() {
    for bad in ["docs/TODO.md", "proxy/NEXT_STEPS.md", "IDEAS.md", "a/gap_analysis.txt"] {
        assert!(note_complaint(bad).is_some(), "{bad}");
    }
    for good in ["README.md", "plugins/a/README.md", "LICENSE", "a/todo.rs"] {
        assert!(note_complaint(good).is_none(), "{good}");
    }
    let place = format!("/{}/main", "work");
    assert_eq!(machine_complaints("a.rs", &format!("let a = \"{place}\";")).len(), 1);
    assert!(machine_complaints("a.rs", &format!("https://x.example{place}")).is_empty());
    assert!(machine_complaints("a.rs", "/workers/ and /rooted/").is_empty());
}
