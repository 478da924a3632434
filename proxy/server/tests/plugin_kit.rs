//! The plugin author's commands as an author types them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

fn interlock(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_interlock")).arg("plugin").args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api/examples/acme")
}

/// The example's library, as the workspace's build made it.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("libacme.so");
    assert!(
        path.is_file(),
        "run `cargo build --workspace --all-targets` first: {}",
        path.display()
    );
    path
}

#[test]
fn a_new_plugin_is_written_and_listed_and_not_written_twice() {
    let folder = TempDir::new().unwrap();
    let into = folder.path().to_str().unwrap();
    let made = interlock(&["new", "till", "--into", into, "--flows", "authorize,refund,status"]);
    let text = told(&made);
    assert!(made.status.success(), "{text}");
    assert!(text.contains("src/provider.rs") && text.contains("next: cd "), "{text}");
    assert!(!text.contains("vendor/"), "the contract's sources are not the author's: {text}");
    let manifest = fs::read_to_string(folder.path().join("till/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["id"], "till");
    assert_eq!(manifest["operations"], serde_json::json!(["authorize", "refund", "inquire"]));
    let again = interlock(&["new", "till", "--into", into]);
    assert_eq!(again.status.code(), Some(1));
    assert!(told(&again).contains("it exists already: "), "{}", told(&again));
    let wrong = interlock(&["new", "till2", "--into", into, "--flows", "teleport"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", told(&wrong));
}

#[test]
fn the_example_is_judged_as_text_json_and_junit() {
    let (library, fixtures) = (library(), example().join("fixtures"));
    let folder = TempDir::new().unwrap();
    let junit = folder.path().join("report.xml");
    let (library, fixtures) = (library.to_str().unwrap(), fixtures.to_str().unwrap());
    let args = ["test", library, "--fixtures", fixtures, "--only", "mapping,keys"];
    let good = interlock(&[&args[..], &["--junit", junit.to_str().unwrap()]].concat());
    let text = told(&good);
    assert!(good.status.success(), "{text}");
    assert!(text.starts_with("acme 0.1.0 · ABI 1.1 · 8 operations declared"), "{text}");
    assert!(text.trim_end().ends_with("9 checks, 9 passed, 0 failed"), "{text}");
    assert!(fs::read_to_string(junit).unwrap().contains("<testsuite"));
    let json = interlock(&[&args[..], &["--json"]].concat());
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&report["conforms"], report["checks"].as_array().unwrap().len()),
        (&true.into(), 9)
    );
    let unknown = interlock(&["test", library, "--fixtures", fixtures, "--only", "nonsense"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        told(&unknown).contains("no check or group is called `nonsense`"),
        "{}",
        told(&unknown)
    );
}

#[test]
fn what_is_no_plugin_is_told_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let empty = interlock(&["test", folder.path().to_str().unwrap()]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(told(&empty).contains("`interlock plugin new NAME` makes one"), "{}", told(&empty));
    let file = folder.path().join("libx.so");
    fs::write(&file, "not a library").unwrap();
    let text = told(&interlock(&["test", file.to_str().unwrap()]));
    assert!(text.contains("ELF") && text.contains("libx.so"), "{text}");
}

#[test]
fn a_library_is_signed_and_verified_by_its_publisher_alone() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::copy(library(), path("libacme.so")).unwrap();
    for name in ["ours", "stranger"] {
        let (private, public) = ed25519();
        fs::write(path(name), private).unwrap();
        fs::write(path(&format!("{name}.pub")), public).unwrap();
    }
    let library = path("libacme.so");
    let unsigned = interlock(&["verify", &library, "--key", &path("ours.pub")]);
    assert!(told(&unsigned).contains("its file .sig can't be read"), "{}", told(&unsigned));
    let signed = interlock(&["sign", &library, "--key", &path("ours")]);
    assert!(signed.status.success(), "{}", told(&signed));
    assert!(told(&signed).starts_with("signed acme 0.1.0: "), "{}", told(&signed));
    let good = interlock(&["verify", &library, "--key", &path("ours.pub")]);
    assert!(good.status.success() && told(&good).starts_with("acme 0.1.0 is signed by "));
    let bad = interlock(&["verify", &library, "--key", &path("stranger.pub")]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(told(&bad).contains("is not signed by this key"), "{}", told(&bad));
    let swapped = told(&interlock(&["sign", &library, "--key", &path("ours.pub")]));
    assert!(swapped.contains("it is a public key, the private one is needed"), "{swapped}");
}

/// A pair of keys for signing plugins, PEM.
fn ed25519() -> (String, String) {
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
    let spki = [&hex::decode("302a300506032b6570032100").unwrap(), pair.public_key().as_ref()];
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &spki.concat()))
}
