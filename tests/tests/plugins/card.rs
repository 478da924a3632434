//! The card plugin in C, compiled while the tests run, with what it is told to be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use interlock_tests::house::{Answer, House};
use serde_json::{Value, json};

/// Puts accounts in front of `checkout-eu` that pay at its provider through plugins of their own.
pub fn add_accounts(house: &House, names: &[&str]) {
    let path = house.dir.path().join("interlock.toml");
    let mut text = fs::read_to_string(&path).expect("the configuration");
    let endpoints = text
        .split("[accounts.checkout-eu]")
        .nth(1)
        .and_then(|rest| rest.lines().find(|l| l.starts_with("endpoints")))
        .expect("the address of the provider")
        .to_owned();
    let before: String = names.iter().map(|name| format!("\"{name}\", ")).collect();
    let old = "\"checkout-eu\", \"checkout-us\"]";
    assert!(text.contains(old));
    text = text.replace(old, &format!("{before}{old}"));
    for name in names {
        // `loops-too` is a second account of `loops`.
        let plugin = name.trim_end_matches("-too");
        text += &format!(
            "\n[accounts.{name}]\nplugin = \"{plugin}\"\nisolation = \"in-process\"\n\
             timeout = \"1500ms\"\nlate_window = \"1s\"\n{endpoints}\n\
             [accounts.{name}.secrets]\nsecret_key = \"sk_test_secret_2\"\n"
        );
    }
    fs::write(&path, text).expect("the configuration");
}

/// Compiles the card plugin into the house.
pub fn build(house: &House, name: &str, flags: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = house.dir.path().join(format!("plugins/lib{name}.so"));
    let done = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O1", "-I"])
        .arg(root.join("../plugin-api/include"))
        .arg(format!("-DID=\"{name}\""))
        .args(flags)
        .arg(root.join("tests/plugins/card.c"))
        .arg("-o")
        .arg(&path)
        .output()
        .expect("a C compiler");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    path
}

/// A payment by stored tokens at these accounts and at `checkout-eu`.
pub fn card(names: &[&str]) -> Value {
    let mut tokens = json!({ "checkout-eu": "src_stored_eu" });
    for name in names {
        tokens[*name] = json!("src_stored_eu");
    }
    json!({ "amount": 3_300, "currency": "EUR", "method": { "type": "card", "tokens": tokens } })
}

/// An account as the operators' door shows it.
pub fn account(house: &House, name: &str) -> Value {
    let all = house.operate("GET", "/admin/v1/accounts", None);
    let all = all["accounts"].as_array().expect("accounts");
    all.iter().find(|a| a["name"] == name).cloned().expect("the account")
}

/// Charges under any of the payment's numbers, at whatever account of the sandbox.
pub fn charges(house: &House, p: &Answer) -> usize {
    let attempts = p["attempts"].as_array().expect("attempts");
    let ledger = house.ledger();
    let ours =
        |e: &&Value| e["kind"] == "charge" && attempts.iter().any(|a| a["op_id"] == e["op_id"]);
    ledger.iter().filter(ours).count()
}
