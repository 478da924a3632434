//! Plugins in processes of their own: whatever they break is theirs, and costs one step.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use interlock_plugin_api::{
    CaptureMode, Currency, Customer, Envelope, Event, FaultKind, Money, Operation, Request,
    SecretKind,
};
use interlock_plugin_host::*;
use secrecy::SecretString;
use tempfile::TempDir;

const HARD_MS: u64 = 500;

#[tokio::test]
async fn what_a_plugin_breaks_costs_one_step_and_its_own_process() {
    let host = host();
    let bad = open(&host, "script.c", true).unwrap();
    let good = open(&host, "echo.c", false).unwrap();
    for (body, expected) in [
        ("Z", "its process was ended by signal 11"),
        ("O", "its process was ended by signal 11"),
        ("A", "its process was ended by signal 6"),
        ("X", "its process exited with code 3"),
        ("Q", "because it called what it may not"),
        ("T", "because it called what it may not"),
        ("B", "plugin passed its deadline"),
    ] {
        settled(&bad).await;
        let error = step(&bad, body.as_bytes()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{body}: {error}");
        assert_eq!(step(&bad, b"S").await, Err(StepError::Resting), "{body}");
        step(&good, b"x").await.unwrap();
        assert!(bad.generation().quarantine().is_none(), "{body}");
    }
    settled(&bad).await;
    step(&bad, b"S").await.unwrap();
    assert!(host.healthy());
    assert_eq!(host.pool().abandoned, 0);
}

#[tokio::test]
async fn it_does_what_it_does_in_this_process_byte_for_byte() {
    let host = host();
    let (here, apart) = (open(&host, "script.c", false), open(&host, "script.c", true));
    let (here, apart) = (here.unwrap(), apart.unwrap());
    assert!(apart.generation().is_apart() && !here.generation().is_apart());
    for body in ["m:mac:data", "m:other:data", "m:mac:", "S", "F", "C", "G", "s:mac:data", "J"] {
        let (a, b) = (shown(&here, body).await, shown(&apart, body).await);
        assert_eq!(a, b, "{body}");
        if here.generation().quarantine().is_some() {
            assert!(apart.generation().quarantine().is_some(), "{body}");
            return assert_eq!(body, "J");
        }
    }
}

#[tokio::test]
async fn a_panic_that_was_caught_harms_nobody_there() {
    let host = host();
    let apart = open(&host, "script.c", true).unwrap();
    assert_eq!(step(&apart, b"P").await, Err(StepError::Panicked));
    step(&apart, b"S").await.unwrap();
    assert!(apart.generation().quarantine().is_none());
}

#[tokio::test]
async fn more_memory_than_it_gets_is_refused_to_it_alone() {
    let host = host();
    let apart = open(&host, "script.c", true).unwrap();
    let answer = step(&apart, b"R").await;
    assert!(matches!(answer, Err(StepError::Fault { kind: FaultKind::Limit, .. })), "{answer:?}");
    step(&apart, b"S").await.unwrap();
}

#[test]
fn an_account_that_it_refuses_or_hangs_on_is_told_as_in_this_process() {
    let host = host();
    let generation = load(&host, "echo.c", true);
    let open = |config: &str| generation.open("acct", &config.into(), secrets()).unwrap_err();
    let text = "the configurationis wrong".to_owned();
    assert_eq!(open("refuse"), OpenError::Fault { kind: FaultKind::Config, text });
    assert_eq!(open("hang"), OpenError::TimedOut);
}

#[tokio::test]
async fn two_accounts_have_two_processes() {
    let host = host();
    let generation = load(&host, "script.c", true);
    let one = generation.open("one", &"".into(), secrets()).unwrap();
    let two = generation.open("two", &"".into(), secrets()).unwrap();
    assert!(step(&one, b"X").await.is_err());
    step(&two, b"S").await.unwrap();
}

#[tokio::test]
async fn a_process_ends_with_its_account() {
    let host = host();
    // Under a name of its own, so that it can be told from those of other tests.
    let folder = folder();
    let path = folder.path().join("serve-once");
    fs::copy(program().path, &path).unwrap();
    let program = Program { path: path.clone(), args: Vec::new() };
    let library = build(&folder, "script.c");
    let generation = host.load_where(&library, Pin::Unpinned, &|_| Some(program.clone())).unwrap();
    let apart = generation.open("acct", &"".into(), secrets()).unwrap();
    step(&apart, b"S").await.unwrap();
    assert_eq!(running(&path), 1);
    drop(apart);
    let until = Instant::now() + Duration::from_secs(10);
    while running(&path) > 0 {
        assert!(Instant::now() < until, "a process is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_program_that_is_not_there_is_a_reason_and_no_panic() {
    let (host, folder) = (host(), folder());
    let program = Program { path: "nowhere/serve".into(), args: Vec::new() };
    let library = build(&folder, "echo.c");
    let generation = host.load_where(&library, Pin::Unpinned, &|_| Some(program.clone())).unwrap();
    let error = generation.open("acct", &"".into(), secrets()).unwrap_err().to_string();
    assert!(error.contains("can't be started"), "{error}");
}

/// Processes that run this program.
fn running(program: &Path) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|process| fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program))
        .count()
}

/// Waits until a process may be started again, and has been.
async fn settled(instance: &Instance) {
    let until = Instant::now() + Duration::from_secs(60);
    while step(instance, b"S").await == Err(StepError::Resting) {
        assert!(Instant::now() < until, "it rests for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn shown(instance: &Instance, body: &str) -> String {
    let out = instance.step(&envelope(), b"", body.as_bytes()).await;
    match out {
        Ok(out) => format!("{:?} {:?} {:?}", out.next, out.state, out.body),
        Err(e) => format!("{e:?}"),
    }
}

async fn step(instance: &Instance, body: &[u8]) -> Result<(), StepError> {
    instance.step(&envelope(), b"", body).await.map(drop)
}

fn host() -> Arc<PluginHost> {
    PluginHost::new(Options { hard_ms: HARD_MS, ..Options::default() })
}

fn load(host: &PluginHost, source: &str, apart: bool) -> Arc<Generation> {
    // The host has read it when it is loaded.
    let folder = folder();
    let path = build(&folder, source);
    match apart {
        true => host.load_where(&path, Pin::Unpinned, &|_| Some(program())),
        false => host.load(&path, Pin::Unpinned),
    }
    .unwrap()
}

fn open(host: &PluginHost, source: &str, apart: bool) -> Result<Arc<Instance>, OpenError> {
    load(host, source, apart).open("acct", &"".into(), secrets())
}

fn secrets() -> Secrets {
    let declared = BTreeMap::from([("mac".to_owned(), SecretKind::Mac)]);
    let pairs = vec![("mac".to_owned(), SecretString::from("whsec"))];
    Secrets::from_pairs(&declared, pairs).unwrap()
}

fn envelope() -> Envelope {
    let amount = Money::new(100, Currency::parse("CNY").unwrap());
    let request = Request {
        op_id: "op1234567890".into(),
        amount,
        exponent: 2,
        capture: CaptureMode::Automatic,
        method: "card".into(),
        flow: "token".into(),
        credential: None,
        description: None,
        return_url: None,
        notify_url: None,
        customer: Customer::default(),
        original: None,
        target: None,
        reason: None,
        details: None,
        wanted: None,
        period: None,
        session: None,
    };
    Envelope {
        op: Operation::Authorize,
        now_ms: 0,
        made_ms: 0,
        entropy: "0".repeat(32),
        request,
        event: Event::Start,
    }
}

/// The program that serves a plugin, built beside this test.
fn program() -> Program {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/serve");
    assert!(path.is_file(), "run `cargo build --all-targets` first: {}", path.display());
    Program { path, args: Vec::new() }
}

/// A folder where programs may be run from.
fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A test plugin in C, compiled.
fn build(folder: &TempDir, source: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = folder.path().join(source).with_extension("so");
    let built = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-I"])
        .arg(root.join("../../plugin-api/include"))
        .arg("-I")
        .arg(root.join("tests/plugins"))
        .arg(root.join("tests/plugins").join(source))
        .arg("-o")
        .arg(&path)
        .status()
        .unwrap();
    assert!(built.success());
    path
}
