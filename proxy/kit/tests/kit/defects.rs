//! The kit against the example provider: whole, and with one defect at a time, each of which must
//! be found by the check that is meant for it, with words that help.

use std::fs;
use std::path::{Path, PathBuf};

use interlock_kit::{Folder, Options, Outcome, Report, examine, update};
use tempfile::TempDir;

use crate::{built, program};

/// A defect of `tests/broken`, the check that must find it, and what it must say.
const DEFECTS: &[(&str, &str, &str)] = &[
    ("accepts-missing", "refuses-bad-settings", "the account was opened all the same"),
    ("names-no-setting", "refuses-bad-settings", "says only: something is missing"),
    ("void-missing", "offers", "it is declared, and the plugin says that it does not"),
    ("closes-undeclared", "offers", "it is not declared, and the plugin does it"),
    ("manual-missing", "methods", "only at once"),
    ("yen-by-hundred", "amounts-exact", "which is divided by 100"),
    ("dinar-by-ten", "amounts-exact", "which is divided by 10"),
    ("floats", "amounts-exact", "neither 123456789 nor"),
    ("refunds-all", "parts-are-parts", "the payment's 4900 is"),
    ("always-euro", "currency-sent", "JPY is nowhere in the request"),
    ("echoes", "amount-heard", "the answer said 6000 instead of 4900"),
    ("5xx-declined", "statuses-honest", "with status 500"),
    ("404-declined", "statuses-honest", "with status 404"),
    ("unknown-declined", "unknown-is-unknown", "\"/state\" being \"zzz\""),
    ("unknown-paid", "no-is-no", "captured"),
    ("any-reference", "of-this-payment", "captured"),
    ("timeout-declined", "lost-is-unknown", "then timeout"),
    ("no-code", "declines-have-codes", "without a provider_code"),
    ("no-class", "declines-have-codes", "without a class"),
    ("no-key", "key-in-every-move", "has no KIT"),
    ("one-key", "key-of-this-operation", "the same"),
    ("key-of-now", "copy-is-a-copy", "its key is another one"),
    ("body-of-now", "copy-is-a-copy", "its body is another one"),
    ("unlisted", "requests-listed", "is not in `contract.sends`"),
    ("other-host", "requests-listed", "lists no such endpoint: elsewhere"),
    ("inquiry-moves", "requests-listed", "inquire may only read"),
    ("secret-in-query", "placeholders-in-headers", "in the path or the query"),
    ("undeclared-secret", "placeholders-in-headers", "no secret `other` is declared"),
    ("token-in-state", "credential-only-in-body", "the continuation holds the credential"),
    ("token-in-query", "credential-only-in-body", "the path or the query holds"),
    ("leaks-into-errors", "errors-are-fixed-texts", "its error text repeats"),
    ("panics-on-short", "survives-damage", "plugin panicked"),
    ("recurses", "survives-extremes", "a stack that overflowed"),
    ("loops", "survives-extremes", "did not come back from a call within 1 s"),
    ("keeps-the-answer", "survives-extremes", "more than the host takes"),
    ("exits", "statuses-honest", "exit code 3"),
    ("aborts", "statuses-honest", "SIGABRT"),
    ("no-event-id", "good-notifications", "no `event_id`"),
    ("no-ack", "good-notifications", "no `ack`"),
    ("signature-unchecked", "altered-notifications", "was changed, and it is verified"),
    ("signature-unchecked", "foreign-keys", "an account with other keys verifies it too"),
    ("new-id-each-time", "old-notifications", "a copy of it has another id"),
    ("counts", "same-input-same-bytes", "its effect differs"),
    ("reads-the-clock", "same-input-same-bytes", "its effect differs"),
    ("remembers", "continues-elsewhere", "does something else"),
    ("knows-its-process", "same-apart", "something else in a process of its own"),
    ("opens-file", "touches-nothing", "openat (opens a file)"),
    ("opens-socket", "touches-nothing", "socket (opens a connection)"),
    ("starts-thread", "touches-nothing", "it starts a thread or a process"),
    ("prints", "touches-nothing", "write (prints something)"),
    ("slow", "quick", "it takes "),
    ("needs-stack", "small-stack", "a stack that overflowed"),
    ("leaks", "keeps-no-memory", "bytes a call"),
];

/// Defects of the manifest: what is replaced in the file by something of the same length.
const DECLARATIONS: &[(&[(&str, &str)], &str, &str)] = &[
    (
        &[(
            r#""path": "/v1/payments", "effect": "move""#,
            r#""path": "/v1/payments", "effect": "read""#,
        )],
        "reads-only-read",
        "it only reads by its manifest, and ends with: captured",
    ),
    (
        &[(
            r#""path": "/v1/payments", "effect": "move""#,
            r#""path": "/v1/payments", "effect":"offer""#,
        )],
        "offers-only-offer",
        "it only offers by its manifest, and ends with: captured",
    ),
    (
        &[(r#""by_our_reference": true, "#, r#""by_our_reference": false,"#)],
        "declarations-agree",
        "`inquire` is an operation, and nothing is declared of it",
    ),
    (
        &[
            (r#""by_our_reference": true, "#, r#""by_our_reference": false,"#),
            (r#""class": "strong""#, r#""class": "none"  "#),
        ],
        "way-out",
        "no key of class `strong`, no inquiry and no close",
    ),
    (&[(r#""void", "#, r#"        "#)], "declarations-agree", "there is no operation `void`"),
    (
        &[(r#""key_life_ms": 86400000"#, r#""key_life_ms": 0       "#)],
        "declarations-agree",
        "nothing is ever sent again",
    ),
];

#[test]
fn the_example_provider_passes_every_check() {
    let fixtures = fixtures("");
    let report = judged(&library("acme"), fixtures.path(), &[]);
    assert!(report.conforms(), "{}", report.text());
    let skipped = report.ruled.iter().filter(|r| matches!(r.outcome, Outcome::Skipped { .. }));
    assert_eq!(skipped.count(), 0, "{}", report.text());
}

#[test]
fn every_defect_is_found_by_the_check_that_is_meant_for_it() {
    let mut missed = Vec::new();
    for (defect, check, words) in DEFECTS {
        let fixtures = fixtures(defect);
        let report = judged(&library("broken"), fixtures.path(), &[check]);
        missed.extend(missing(defect, check, words, &report));
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_wrong_declaration_is_found() {
    let fixtures = fixtures("");
    let good = fs::read(library("acme")).unwrap();
    let mut missed = Vec::new();
    for (changes, check, words) in DECLARATIONS {
        let mut bytes = good.clone();
        for (from, to) in *changes {
            assert_eq!(from.len(), to.len(), "{from}");
            assert!(replace(&mut bytes, from.as_bytes(), to.as_bytes()), "not found: {from}");
        }
        let library = fixtures.path().join("libwrong.so");
        fs::write(&library, &bytes).unwrap();
        let report = judged(&library, fixtures.path(), &[check]);
        missed.extend(missing(changes[0].1, check, words, &report));
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_change_of_what_is_sent_is_shown_and_written_on_demand() {
    let fixtures = fixtures("undeclared-secret");
    let report = judged(&library("broken"), fixtures.path(), &["examples-hold"]);
    let text = report.text();
    assert!(
        text.contains("fixtures/authorize-declined.http:4") && text.contains("+ x-key:"),
        "{text}"
    );
    let folder = Folder { library: library("broken"), fixtures: fixtures.path().into() };
    let changed = update(&folder).unwrap();
    assert!(!changed.is_empty());
    let report = judged(&library("broken"), fixtures.path(), &["examples-hold"]);
    assert!(report.conforms(), "{}", report.text());
    assert!(update(&folder).unwrap().is_empty(), "a second time nothing changes");
}

#[test]
fn a_missing_example_is_asked_for() {
    let fixtures = fixtures("");
    for name in ["refund-part", "refund-refused", "authorize-declined"] {
        fs::remove_file(fixtures.path().join(format!("{name}.http"))).unwrap();
    }
    let text = judged(&library("acme"), fixtures.path(), &["examples-complete"]).text();
    assert!(text.contains("there is none of `refund`"), "{text}");
    assert!(text.contains("there is none of a payment that was refused"), "{text}");
}

#[test]
fn the_report_has_the_same_words_for_programs_and_build_servers() {
    let fixtures = fixtures("unknown-declined");
    let report = judged(&library("broken"), fixtures.path(), &["unknown-is-unknown"]);
    let json = report.json();
    assert_eq!(json["conforms"], false);
    assert_eq!(json["plugin"], "acme");
    let check = &json["checks"][0];
    assert_eq!(
        (&check["check"], &check["outcome"]),
        (&"unknown-is-unknown".into(), &"failed".into())
    );
    assert!(check["why"].as_str().unwrap().contains("charges customers twice"));
    let xml = report.junit().unwrap();
    assert!(xml.contains("<failure") && xml.contains("charges customers twice"), "{xml}");
}

fn missing(defect: &str, check: &str, words: &str, report: &Report) -> Option<String> {
    let found = report.ruled.iter().find(|r| r.check.name == check);
    match found.map(|r| &r.outcome) {
        Some(Outcome::Failed { findings })
            if findings.iter().any(|f| format!("{} {}", f.at, f.what).contains(words)) =>
        {
            None
        }
        other => Some(format!("{defect}: {check} should say `{words}`, it says {other:?}")),
    }
}

fn judged(library: &Path, fixtures: &Path, only: &[&str]) -> Report {
    let folder = Folder { library: library.into(), fixtures: fixtures.into() };
    let only = only.iter().map(|name| (*name).to_owned()).collect();
    let options = Options { only, ..Options::default() };
    let program = program();
    examine(&folder, &program, &options, &|_| {}).unwrap()
}

/// The example's fixtures, for an account with a defect.
fn fixtures(defect: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api/examples/acme/fixtures");
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    if !defect.is_empty() {
        let account = folder.path().join("account.toml");
        let text = fs::read_to_string(&account).unwrap();
        fs::write(&account, format!("{text}defect = \"{defect}\"\n")).unwrap();
    }
    folder
}

fn library(name: &str) -> PathBuf {
    built(&format!("lib{name}.so"))
}

/// Replaces every stand of some bytes by others of the same length.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> bool {
    let mut found = false;
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
            found = true;
        }
    }
    found
}
