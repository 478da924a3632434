//! The program itself: it makes keys, says where it listens, and carries load.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_interlock-sandbox");

#[test]
fn the_program_makes_keys_and_starts_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let made = Command::new(PROGRAM).arg("keys").arg(&keys).arg("a").status().unwrap();
    assert!(made.success());
    let config = folder.path().join("sandbox.toml");
    let text = r#"
        [accounts.a]
        provider = "alipay"
        listen = "127.0.0.1:0"
        app_id = "1"
        seller_id = "2"
        app_public_key = "keys/a/app_public.pem"
        gateway_private_key = "keys/a/gateway_private.pem"
        gateway_public_key = "keys/a/gateway_public.pem"
    "#;
    std::fs::write(&config, text).unwrap();
    let mut running = Command::new(PROGRAM)
        .args(["--control", "127.0.0.1:0", "--seed", "7", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert!(said["accounts"]["a"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(said["control"].is_string());
}

#[test]
fn a_wrong_pair_of_keys_is_told_before_anything_listens() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    assert!(Command::new(PROGRAM).arg("keys").arg(&keys).arg("a").status().unwrap().success());
    let config = folder.path().join("sandbox.toml");
    let text = r#"
        [accounts.a]
        provider = "alipay"
        listen = "127.0.0.1:0"
        app_id = "1"
        seller_id = "2"
        app_public_key = "keys/a/app_public.pem"
        gateway_private_key = "keys/a/gateway_private.pem"
        gateway_public_key = "keys/a/app_public.pem"
    "#;
    std::fs::write(&config, text).unwrap();
    let told = Command::new(PROGRAM).arg("--config").arg(&config).output().unwrap();
    assert!(!told.status.success());
    let error = String::from_utf8(told.stderr).unwrap();
    assert!(error.contains("gateway_public_key is of another pair"), "{error}");
}

#[test]
fn the_program_makes_what_signs_webhooks() {
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let mut program = Command::new(PROGRAM);
        program.arg("keys").arg(folder.path()).args(["p", "--webhooks"]).status().unwrap()
    };
    assert!(make().success());
    let read = |name: &str| std::fs::read_to_string(folder.path().join("p").join(name)).unwrap();
    let (authority, private) = (read("webhook_ca.pem"), read("webhook_private.pem"));
    assert!(authority.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(make().success());
    assert_eq!((read("webhook_ca.pem"), read("webhook_private.pem")), (authority, private));
    let text = r#"
        [accounts.p]
        provider = "paypal"
        listen = "127.0.0.1:0"
        client_id = "client"
        client_secret = "secret"
        webhook_id = "1WEBHOOK"
        webhook_private_key = "p/webhook_private.pem"
        webhook_ca_private_key = "p/none.pem"
    "#;
    let config = folder.path().join("sandbox.toml");
    std::fs::write(&config, text).unwrap();
    let told = Command::new(PROGRAM).arg("--config").arg(&config).output().unwrap();
    assert!(!told.status.success());
    assert!(String::from_utf8(told.stderr).unwrap().contains("p/none.pem"));
}

#[test]
fn the_program_makes_the_keys_of_a_google_pay() {
    let folder = tempfile::tempdir().unwrap();
    let make = || {
        let mut program = Command::new(PROGRAM);
        program.arg("keys").arg(folder.path()).args(["g", "--google-pay"]).status().unwrap()
    };
    assert!(make().success());
    let read = |name: &str| std::fs::read_to_string(folder.path().join("g").join(name)).unwrap();
    let all =
        || ["root", "intermediate", "merchant"].map(|role| read(&format!("{role}_private.pem")));
    let first = all();
    assert!(first.iter().all(|pem| pem.starts_with("-----BEGIN PRIVATE KEY-----")));
    assert!(make().success());
    assert_eq!(all(), first);
}

#[test]
fn the_program_makes_what_apple_pay_needs() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(PROGRAM);
    program.arg("keys").arg(folder.path()).args(["--apple-pay", "a"]);
    assert!(program.status().unwrap().success());
    let text = r#"
        [accounts.a]
        provider = "applepay"
        listen = "127.0.0.1:0"
        merchant_id = "merchant.example"
        server_certificate = "a/server.pem"
        server_private_key = "a/server_private.pem"
        identity_ca = "a/identity_ca.pem"
        authority_private_key = "a/authority_private.pem"
        processing_private_key = "a/rsa_processing_private.pem"
    "#;
    let config = folder.path().join("sandbox.toml");
    std::fs::write(&config, text).unwrap();
    let told = Command::new(PROGRAM).arg("--config").arg(&config).output().unwrap();
    assert!(!told.status.success());
    let error = String::from_utf8(told.stderr).unwrap();
    assert!(error.contains("a processing key is not PKCS#8 of its kind"), "{error}");
}
