//! Configuration files and what is said about them, one case a file in `tests/config`.
//!
//! `UPDATE=1 cargo test -p interlock --test config` writes what is said today into the
//! `.expected` files; read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use interlock::config::{
    Diagnostic, Failover, LateSuccess, Loaded, Strategy, check_account, check_routes, load, render,
};
use interlock_plugin_api::Manifest;

/// Every value of a secret in the cases holds one of these.
const SECRETS: [&str; 4] = ["never_shown", "shop_test_key", "12345678", "PrIvAtE0"];

#[test]
fn every_file_is_answered_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    for case in cases {
        let (answer, findings) = answer(&case);
        let expected = case.with_extension("expected");
        if update {
            std::fs::write(&expected, &answer).unwrap();
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(&answer) {
            wrong.push(format!("{}\n{answer}", case.display()));
        }
        shows_no_secret(&case, &answer, &findings);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn no_expectation_has_lost_its_case() {
    for file in files("expected") {
        assert!(file.with_extension("toml").exists(), "{}", file.display());
    }
}

#[test]
fn a_loaded_configuration_does_not_show_its_secrets() {
    let loaded = load(Path::new("tests/config/secret-literal.toml")).unwrap();
    let shown = format!("{loaded:?} {:#?}", loaded.config);
    assert!(shown.contains("[secret]"));
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret}");
    }
    let shop = &loaded.config.merchants["shop"].credentials;
    let hash = interlock::access::Hash::of(b"never_shown_1");
    assert_eq!(shop[0].proof, interlock::access::Proof::Key(hash));
    assert_eq!(loaded.config.accounts["two"].secrets["k"].expose(), "never_shown_2\n");
}

#[test]
fn defaults_are_filled_in() {
    let loaded = load(Path::new("tests/config/good.toml")).unwrap();
    let config = loaded.config;
    assert_eq!(config.server.admin.to_string(), "127.0.0.1:9700");
    assert_eq!(config.server.data_dir, Path::new("tests/config/data"));
    assert_eq!(config.server.plugins_lock, Path::new("tests/config/plugins.lock"));
    assert_eq!((config.server.workers, config.server.drain_ms), (2, 45_000));
    assert_eq!((config.server.body_limit, config.server.disk_low_water), (65_536, 256 << 20));
    assert_eq!(config.server.notify_url("one"), None);
    let account = &config.accounts["one"];
    assert_eq!((account.timeout_ms, account.connect_timeout_ms), (10_000, 3_000));
    assert_eq!((account.in_flight, account.late_window_ms), (300, None));
    assert_eq!(account.auto_refund.per_hour_count, 20);
    assert_eq!(account.origin.line(), 11);
    let route = &config.routes[0];
    assert_eq!((route.strategy, route.failover), (Strategy::Priority, Failover::Proven));
    assert_eq!((route.deadline_ms, route.attempts_max), (25_000, 3));
    assert_eq!(config.merchants["shop"].late_success, LateSuccess::Refund);
    assert_eq!(config.inquiry.recheck_ms[..3], [1_000, 2_000, 4_000]);
    assert_eq!(config.inquiry.give_up_ms, 72 * 3_600_000);
    assert_eq!(config.failover_budget.ratio, 0.2);
}

#[test]
fn the_demo_may_run_and_its_plugins_agree() {
    let dir = tempfile::tempdir().unwrap();
    let config = shipped("demo.toml", dir.path());
    let ca = dir.path().join("target/demo/keys/paypal-eu");
    std::fs::create_dir_all(&ca).unwrap();
    std::fs::write(ca.join("webhook_ca.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    for account in ["alipay-main", "alipay-backup", "wechat-main", "wechat-backup"] {
        let keys = dir.path().join("target/demo/keys").join(account);
        std::fs::create_dir_all(&keys).unwrap();
        let pem =
            |kind: &str| format!("-----BEGIN {kind} KEY-----\nAAAA\n-----END {kind} KEY-----\n");
        std::fs::write(keys.join("app_private.pem"), pem("PRIVATE")).unwrap();
        std::fs::write(keys.join("gateway_public.pem"), pem("PUBLIC")).unwrap();
    }
    for (account, file, kind) in [
        ("apple-pay", "server_ca.pem", "CERTIFICATE"),
        ("apple-pay", "root.pem", "CERTIFICATE"),
        ("apple-pay", "identity.pem", "CERTIFICATE"),
        ("apple-pay", "identity_private.pem", "PRIVATE KEY"),
        ("apple-pay", "processing_private.pem", "PRIVATE KEY"),
        ("google-pay", "merchant_private.pem", "PRIVATE KEY"),
    ] {
        let keys = dir.path().join("target/demo/keys").join(account);
        std::fs::create_dir_all(&keys).unwrap();
        let pem = format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
        std::fs::write(keys.join(file), pem).unwrap();
    }
    let loaded = load(&config).unwrap_or_else(|found| panic!("{}", render(&found, false)));
    for warning in &loaded.warnings {
        assert!(["C032", "C033"].contains(&warning.code), "{warning:?}");
    }
    let server = &loaded.config.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(server.admin.to_string(), "127.0.0.1:9700");
    assert_eq!(
        server.notify_url("checkout-eu").as_deref(),
        Some("http://127.0.0.1:8080/v1/notifications/checkout-eu")
    );
    let endpoints = [
        ("alipay-main", "gateway", 9911),
        ("alipay-backup", "gateway", 9912),
        ("checkout-eu", "api", 9921),
        ("checkout-us", "api", 9922),
    ];
    for (account, name, port) in endpoints {
        let account = &loaded.config.accounts[account];
        assert_eq!(account.endpoints[name], format!("http://127.0.0.1:{port}"));
        assert_eq!((account.timeout_ms, account.late_window_ms), (3_000, Some(2_000)));
        assert_eq!(account.breaker.open_ms, 2_000);
        assert!(account.contract.not_found.is_some() && account.contract.tombstone.is_none());
    }
    agrees_with_shipped_plugins(&loaded);
}

#[test]
fn the_annotated_example_may_run_and_its_plugins_agree() {
    let dir = tempfile::tempdir().unwrap();
    let config = shipped("interlock.toml", dir.path());
    // The example names credentials of a service that runs; here they are files beside it.
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (name, kind) in [("app", "PRIVATE"), ("gateway", "PUBLIC")] {
        for account in ["main", "backup"] {
            let file = format!("alipay_{account}_{name}.pem");
            let pem = format!("-----BEGIN {kind} KEY-----\nAAAA\n-----END {kind} KEY-----\n");
            std::fs::write(dir.path().join("config").join(&file), pem).unwrap();
            text = text.replace(&format!("/run/credentials/interlock/{file}"), &file);
        }
    }
    for name in [
        "SHOP_API_KEY",
        "CHECKOUT_EU_KEY",
        "CHECKOUT_EU_HOOK",
        "CHECKOUT_US_KEY",
        "CHECKOUT_US_HOOK",
        "ADYEN_EU_KEY",
        "ADYEN_EU_HMAC",
    ] {
        // One of them is written in hexadecimal.
        std::fs::write(dir.path().join("config").join(name), "00112233445566778899").unwrap();
        text = text.replace(&format!("${{env:{name}}}"), &format!("${{file:{name}}}"));
    }
    std::fs::write(&config, text).unwrap();
    let loaded = load(&config).unwrap_or_else(|found| panic!("{}", render(&found, false)));
    assert!(loaded.warnings.is_empty(), "{}", render(&loaded.warnings, false));
    agrees_with_shipped_plugins(&loaded);
}

#[test]
fn findings_are_data_as_well() {
    let found = load(Path::new("tests/config/undefined-account.toml")).unwrap_err();
    let json = serde_json::to_value(&found).unwrap();
    let first = &json[0];
    assert_eq!(first["code"], "C014");
    assert_eq!(first["severity"], "error");
    assert_eq!(first["message"], "account `tow` is not defined");
    assert_eq!(first["file"], "tests/config/undefined-account.toml");
    assert_eq!(first["help"], "did you mean `two`?");
    assert_eq!((&first["line"], &first["column"]), (&19.into(), &22.into()));
    assert!(first["span"]["start"].as_u64() < first["span"]["end"].as_u64());
    assert!(first.get("source").is_none());
}

#[test]
fn colours_are_asked_for() {
    let found = load(Path::new("tests/config/undefined-account.toml")).unwrap_err();
    assert!(render(&found, true).contains('\u{1b}'));
    assert!(!render(&found, false).contains('\u{1b}'));
}

#[test]
fn a_file_that_is_not_there_is_one_finding() {
    let found = load(Path::new("tests/config/nowhere.toml")).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].code, found[0].line), ("C001", 0));
    assert!(render(&found, false).contains("tests/config/nowhere.toml"));
}

/// What is said about a file, first without and then with the plugins that `tests/config` has.
fn answer(case: &Path) -> (String, Vec<Diagnostic>) {
    let findings = match load(case) {
        Err(findings) => findings,
        Ok(loaded) => {
            let manifests = manifests(&loaded, |plugin| {
                Path::new("tests/config/plugins").join(format!("{plugin}.json"))
            });
            [&loaded.warnings[..], &against(&loaded, &manifests)].concat()
        }
    };
    let errors = findings.iter().filter(|d| d.is_error()).count();
    let tally = format!("{errors} errors, {} warnings\n", findings.len() - errors);
    (render(&findings, false) + &tally, findings)
}

fn against(loaded: &Loaded, manifests: &BTreeMap<String, Manifest>) -> Vec<Diagnostic> {
    let accounts = manifests
        .iter()
        .flat_map(|(name, manifest)| check_account(&loaded.config.accounts[name], manifest));
    accounts.chain(check_routes(&loaded.config, manifests)).collect()
}

fn manifests(loaded: &Loaded, file: impl Fn(&str) -> PathBuf) -> BTreeMap<String, Manifest> {
    let read = |plugin: &str| {
        let text = std::fs::read(file(plugin)).ok()?;
        Some(Manifest::parse(&text).unwrap())
    };
    let accounts = loaded.config.accounts.values();
    accounts.filter_map(|a| Some((a.name.clone(), read(&a.plugin)?))).collect()
}

fn agrees_with_shipped_plugins(loaded: &Loaded) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let manifests = manifests(loaded, |plugin| root.join(plugin).join("manifest.json"));
    let found = against(loaded, &manifests);
    let errors: Vec<Diagnostic> = found.into_iter().filter(Diagnostic::is_error).collect();
    assert!(errors.is_empty(), "{}", render(&errors, false));
}

/// A copy of a shipped file in a folder where its relative paths lead nowhere else.
fn shipped(name: &str, dir: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name);
    std::fs::create_dir_all(dir.join("config")).unwrap();
    let to = dir.join("config").join(name);
    std::fs::copy(from, &to).unwrap();
    to
}

fn shows_no_secret(case: &Path, answer: &str, findings: &[Diagnostic]) {
    let json = serde_json::to_string(findings).unwrap();
    let debug = format!("{findings:?}");
    let colored = render(findings, true);
    for text in [answer, &json, &debug, &colored] {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{}: {secret}", case.display());
        }
    }
}

fn cases() -> Vec<PathBuf> {
    files("toml")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/config").unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == extension));
    files.sort();
    files
}
