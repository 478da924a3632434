//! Generations: versions beside each other, and what becomes of the old ones.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use interlock_plugin_api::{FaultKind, Next, Operation, SecretKind};
use interlock_plugin_host::*;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use secrecy::SecretString;

use crate::stage::{KEY, build, envelope, folder, host, secrets, step, until};

#[tokio::test]
async fn a_new_version_serves_beside_the_old_one() {
    let host = host(5000);
    let path = folder("swap").join("swap.so");
    let mut instances = Vec::new();
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        let flag = format!("-DTEST_VERSION=\"{version}\"");
        fs::copy(build(&format!("swap-{version}"), "echo.c", &[&flag]), &path).unwrap();
        let generation = host.load(&path, Pin::Unpinned).unwrap();
        assert_eq!((generation.version(), generation.file()), (version, "swap.so"));
        instances.push(generation.open("acct", &"".into(), secrets()).unwrap());
    }
    for instance in &instances {
        assert!(step(instance, b"x").await.is_ok());
    }
    let numbers: Vec<u64> = host.generations().iter().map(|g| g.number()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    instances.remove(0);
    until(|| host.generations().len() == 2).await;
}

#[tokio::test]
async fn the_same_bytes_are_loaded_once_and_anew_after_a_quarantine() {
    let host = host(5000);
    let path = build("same", "script.c", &[]);
    let first = host.load(&path, Pin::Unpinned).unwrap();
    let again = host.load(&path, Pin::Sha256(first.sha256())).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let instance = first.open("acct", &"".into(), secrets()).unwrap();
    assert_eq!(step(&instance, b"P").await, Err(StepError::Panicked));
    let error = first.open("acct", &"".into(), secrets()).unwrap_err();
    assert_eq!(error.to_string(), "plugin is in quarantine: panicked");
    let fresh = host.load(&path, Pin::Unpinned).unwrap();
    assert_eq!((fresh.number(), fresh.quarantine()), (2, None));
    let instance = fresh.open("acct", &"".into(), secrets()).unwrap();
    assert!(step(&instance, b"S").await.is_ok());
}

#[tokio::test]
async fn an_instance_ends_once_nothing_uses_it_and_never_after_a_quarantine() {
    let host = host(5000);
    let folder = folder("ends");
    let generation = host.load(&build("ends", "script.c", &[]), Pin::Unpinned).unwrap();
    let open = |name: &str| {
        let ended = folder.join(name);
        let config = ended.to_str().unwrap().into();
        (ended, generation.open("acct", &config, secrets()).unwrap())
    };
    let (ended, instance) = open("ended");
    let slow = tokio::spawn({
        let instance = instance.clone();
        async move { step(&instance, b"L").await }
    });
    until(|| generation.counters().calls == 2).await;
    drop(instance);
    assert!(!ended.exists(), "a call is in flight");
    assert!(slow.await.unwrap().is_ok());
    until(|| ended.exists()).await;

    let (ended, instance) = open("quarantined");
    assert_eq!(step(&instance, b"P").await, Err(StepError::Panicked));
    drop(instance);
    until(|| host.pool().running + host.pool().queued == 0).await;
    assert!(!ended.exists());
}

#[test]
fn a_plugin_that_cannot_open_an_account_says_why() {
    let host = host(250);
    let open = |config: &str| {
        let flag = format!("-DTEST_VERSION=\"{config}\"");
        let path = build(&format!("open-{config}"), "echo.c", &[&flag]);
        let generation = host.load(&path, Pin::Unpinned).unwrap();
        let error = generation.open("acct", &config.into(), secrets()).unwrap_err();
        (error, generation.quarantine().map(|q| q.reason))
    };
    let text = "the configurationis wrong".to_owned();
    assert_eq!(open("refuse"), (OpenError::Fault { kind: FaultKind::Config, text }, None));
    assert_eq!(open("panic"), (OpenError::Panicked, Some(QuarantineReason::Panicked)));
    assert_eq!(open("hang"), (OpenError::TimedOut, Some(QuarantineReason::TimedOut)));
    assert_eq!(host.pool().abandoned, 1);
}

#[tokio::test]
async fn the_providers_of_this_repository_load_where_they_are_built() {
    for name in ["alipay", "checkout"] {
        let Some(path) = built_provider(name) else { continue };
        let seen = inspect(&path).unwrap();
        let manifest = seen.manifest.expect("readable from the file");
        assert_eq!(manifest.id, name);
        assert!(seen.warnings.is_empty(), "{:?}", seen.warnings);
        let generation = host(5000).load(&path, Pin::Sha256(seen.sha256)).unwrap();
        assert_eq!(generation.manifest().id, name);
        assert_eq!(generation.version(), manifest.version);
        let (config, secrets) = account(&manifest);
        let instance = generation.open("acct", &config, secrets).unwrap();
        // What it answers is its own tests' matter; that it keeps to the contract is ours.
        match instance.step(&envelope(), b"", b"").await {
            Ok(StepOut { next: Next::Send(send), body, .. }) => {
                let op = Operation::Authorize;
                let classified = classify_send(&manifest, op, &send, &body).unwrap();
                assert_ne!(classified.purpose, UNLISTED);
                let read = classify_send(&manifest, Operation::Inquire, &send, &body);
                assert!(read.unwrap_err().quarantines());
            }
            Ok(StepOut { next: Next::Done(_), .. }) | Err(StepError::Fault { .. }) => {}
            Err(error) => unreachable!("{error}"),
        }
        let garbled = instance.step(&envelope(), b"garbled", b"").await;
        assert!(matches!(garbled, Err(StepError::Fault { kind: FaultKind::Input, .. })));
        assert_eq!(generation.quarantine(), None);
    }
}

#[test]
fn generations_with_work_are_bounded_and_a_version_that_comes_back_is_the_one_in_memory() {
    let host = host(100);
    let path = build("many", "echo.c", &[]);
    let bytes = fs::read(&path).unwrap();
    // What follows the last section is no part of a library, and another version all the same.
    let version = |n: u32| fs::write(&path, [&bytes[..], &n.to_le_bytes()].concat()).unwrap();
    let mut held = Vec::new();
    for n in 0..GENERATIONS_MAX as u32 {
        version(n);
        held.push(host.load(&path, Pin::Unpinned).unwrap());
    }
    version(1_000);
    let full = host.load(&path, Pin::Unpinned).unwrap_err().to_string();
    assert!(full.contains("64 generations still have work"), "{full}");
    held.remove(0);
    held.push(host.load(&path, Pin::Unpinned).unwrap());
    // A thousand changes between two versions map two libraries.
    held.clear();
    let mapped = || fs::read_to_string("/proc/self/maps").unwrap().matches("r-xp").count();
    let before = mapped();
    for n in 0..1_000 {
        version(1 + n % 2);
        assert_eq!(host.load(&path, Pin::Unpinned).unwrap().number(), 66 + u64::from(n));
    }
    // Other tests may map some in the meantime.
    assert!(mapped() < before + 500);
}

/// An account with a plain value for everything that the manifest asks for.
fn account(manifest: &interlock_plugin_api::Manifest) -> (serde_json::Value, Secrets) {
    let field = |kind: &str| match kind {
        "boolean" => serde_json::json!(true),
        "integer" => serde_json::json!(1),
        _ => serde_json::json!("2021000000000000"),
    };
    let required = manifest.config.iter().filter(|(_, field)| field.required);
    let config = required.map(|(name, f)| (name.clone(), field(&f.kind))).collect();
    let pem = |kind| match kind {
        SecretKind::EcKeyAgreement => {
            let scalar = p256::SecretKey::from_slice(&[7; 32]).unwrap();
            scalar.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
        }
        SecretKind::RsaPrivate | SecretKind::RsaKeyTransport => {
            KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
        }
        SecretKind::RsaPublic => KEY.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
        SecretKind::Header | SecretKind::Mac => "plain".to_owned(),
        SecretKind::MacHex => "00112233445566778899".to_owned(),
        SecretKind::Aead => "0".repeat(32),
    };
    let pairs = manifest.secrets.iter().map(|(n, k)| (n.clone(), SecretString::from(pem(*k))));
    let secrets = Secrets::from_pairs(&manifest.secrets, pairs.collect()).unwrap();
    (serde_json::Value::Object(config), secrets)
}

/// A provider's library beside the test's own folder, if it has been built.
fn built_provider(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path = test.parent()?.parent()?.join(format!("lib{name}.so"));
    // An empty library is a provider that is not written yet.
    match inspect(&path) {
        Err(LoadError { reason: LoadReason::Unreadable(_) | LoadReason::NoEntry, .. }) => None,
        _ => Some(path),
    }
}
