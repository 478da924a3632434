//! `interlock plugin record` against the sandbox: what a provider answers becomes a fixture, and
//! nothing moves that was not asked for.

use std::fs;

use interlock_tests::house::{House, Plan};

const FIXTURE: &str = "# A stored token is charged at once.\n### authorize\n\
    { \"amount\": { \"currency\": \"EUR\" }, \"credential\": \"account_token\" }\n\n\
    ### answers\nHTTP/1.1 500\n";
const ACCOUNT: &str = "[credentials.account_token]\ntoken = \"src_stored_eu\"\n";

#[test]
fn a_sandboxs_answer_is_kept_with_the_kits_numbers_and_without_a_secret() {
    let house = House::prepared(Plan::default());
    let folder = house.dir.path().join("fixtures");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("account.toml"), ACCOUNT).expect("written");
    let path = folder.join("authorize.http");
    fs::write(&path, FIXTURE).expect("written");
    let file = path.to_str().expect("text");
    let record = |more: &[&str]| {
        let args = ["plugin", "record", file, "--account", "checkout-eu"];
        house.cli(&[&args[..], &["--config", "interlock.toml"], more].concat())
    };

    let (ok, told) = record(&[]);
    assert!(!ok && told.contains("POST /payments may move money at http://127.0.0.1"), "{told}");
    assert_eq!(fs::read_to_string(&path).expect("the fixture"), FIXTURE);
    assert!(house.ledger().is_empty(), "nothing was sent");

    let (ok, told) = record(&["--yes"]);
    assert!(ok, "{told}");
    assert!(told.contains("POST /payments 201") && told.contains("next: "), "{told}");
    let text = fs::read_to_string(&path).expect("the fixture");
    assert!(text.starts_with("# A stored token is charged at once.\n### authorize\n"), "{text}");
    assert!(text.contains("\"reference\":\"KIT00000000000000000000000000001\""), "{text}");
    assert!(text.contains("### answers\nHTTP/1.1 201\n"), "{text}");
    assert!(!text.contains("sk_test_secret") && !text.contains("date:"), "{text}");
    let charges = house.ledger().iter().filter(|e| e["kind"] == "charge").count();
    assert_eq!(charges, 1);

    let (ok, told) =
        house.cli(&["plugin", "record", file, "--account", "nobody", "--config", "interlock.toml"]);
    assert!(!ok && told.contains("account is not defined: nobody"), "{told}");
}

#[test]
fn production_is_never_asked() {
    // At a real provider a late window may not be short.
    let house = House::prepared(Plan { late_window: "2m", ..Plan::default() });
    let config = house.dir.path().join("interlock.toml");
    let text = fs::read_to_string(&config).expect("the configuration");
    let real = text
        .lines()
        .map(|line| match line.contains("endpoints") && line.contains("api =") {
            true => "endpoints = { api = \"https://api.checkout.com\" }",
            false => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    fs::write(&config, real).expect("written");
    let path = house.dir.path().join("authorize.http");
    fs::write(&path, FIXTURE).expect("written");
    let file = path.to_str().expect("text");
    let (ok, told) = house.cli(&[
        "plugin",
        "record",
        file,
        "--account",
        "checkout-eu",
        "--yes",
        "--config",
        "interlock.toml",
    ]);
    assert!(!ok && told.contains("stands at the provider's production address"), "{told}");
    assert!(house.ledger().is_empty());
}
