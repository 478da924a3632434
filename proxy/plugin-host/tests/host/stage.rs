//! Plugins compiled from C, hosts and accounts for them, and folders that go away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use interlock_plugin_api::{
    CaptureMode, Currency, Customer, Envelope, Event, Money, Operation, Request, SecretKind,
};
use interlock_plugin_host::*;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use secrecy::SecretString;

pub static KEY: LazyLock<RsaPrivateKey> =
    LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());

/// On P-256.
pub static EC_KEY: LazyLock<p256::SecretKey> =
    LazyLock::new(|| p256::SecretKey::from_slice(&[7; 32]).unwrap());

pub fn host(hard_ms: u64) -> Arc<PluginHost> {
    PluginHost::new(Options { hard_ms, ..Options::default() })
}

pub fn open(host: &PluginHost, name: &str, source: &str) -> Arc<Instance> {
    let generation = host.load(&build(name, source, &[]), Pin::Unpinned).unwrap();
    generation.open("acct", &"".into(), secrets()).unwrap()
}

pub fn secrets() -> Secrets {
    let declared = BTreeMap::from([
        ("mac".to_owned(), SecretKind::Mac),
        ("private".to_owned(), SecretKind::RsaPrivate),
        ("public".to_owned(), SecretKind::RsaPublic),
        ("agreement".to_owned(), SecretKind::EcKeyAgreement),
        ("transport".to_owned(), SecretKind::RsaKeyTransport),
    ]);
    let private = KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let public = KEY.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let agreement = EC_KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let pairs = [
        ("mac", "whsec".to_owned()),
        ("private", private.clone()),
        ("public", public),
        ("agreement", agreement),
        ("transport", private),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), SecretString::from(value)));
    Secrets::from_pairs(&declared, pairs.into()).unwrap()
}

/// One step; the answer without what can't be compared.
pub async fn step(instance: &Instance, body: &[u8]) -> Result<(), StepError> {
    instance.step(&envelope(), b"", body).await.map(drop)
}

pub async fn assert_quarantined(instance: &Instance, reason: QuarantineReason) {
    assert_eq!(instance.generation().quarantine().map(|q| q.reason), Some(reason));
    let calls = instance.generation().counters().calls;
    assert_eq!(step(instance, b"S").await, Err(StepError::Quarantined { reason }));
    assert_eq!(instance.generation().counters().calls, calls);
}

/// Waits for another thread, at most ten seconds.
pub async fn until(mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(10), "it never happened");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn envelope() -> Envelope {
    Envelope {
        op: Operation::Authorize,
        now_ms: 1_764_000_000_000,
        made_ms: 1_764_000_000_000,
        entropy: "00112233445566778899aabbccddeeff".into(),
        request: Request {
            op_id: "op1234567890".into(),
            amount: Money::new(100, Currency::parse("CNY").unwrap()),
            exponent: 2,
            capture: CaptureMode::Automatic,
            method: "alipay".into(),
            flow: "qr".into(),
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
        },
        event: Event::Start,
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// Compiles a plugin to `NAME.so`; every test uses names of its own.
pub fn build(name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let path = SCRATCH.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins").join(source);
    let define = |flag: &str| match flag.split_once("=\"") {
        Some((name, value)) => {
            format!("{name}=\"{}\"", value.trim_end_matches('"').replace('"', "\\\""))
        }
        None => flag.to_owned(),
    };
    let mut cc = compiler();
    cc.args(["-shared", "-fPIC", "-O1"]).args(flags.iter().map(|f| define(f)));
    let done = cc.arg(source).arg("-o").arg(&path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    path
}

pub fn compiler() -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(header().parent().unwrap());
    cc.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins"));
    cc
}

pub fn header() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../../plugin-api/include/interlock_plugin.h")
}

pub fn folder(name: &str) -> PathBuf {
    let path = SCRATCH.join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A folder of this run; those of runs that have ended are removed.
pub static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host");
    let ours = all.join(std::process::id().to_string());
    fs::create_dir_all(&ours).unwrap();
    for old in fs::read_dir(&all).unwrap().flatten() {
        if !Path::new("/proc").join(old.file_name()).exists() {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    ours
});
