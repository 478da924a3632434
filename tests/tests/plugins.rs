//! A plugin that is broken in any way costs its own account, and no payment.
//!
//! The plugins are compiled from C when the tests run: a small card plugin that really pays at the
//! sandbox, built once well and once with each fault.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan, barcode, fresh};
use serde_json::json;

#[path = "plugins/card.rs"]
mod card_plugin;
use card_plugin::{account, add_accounts, build, card, charges};

const SOON: Duration = Duration::from_secs(15);

/// Name of account and plugin, what happens to its file, and what must be said of it.
const BROKEN: [(&str, Break, &[&str]); 8] = [
    ("gone", Break::Remove, &["plugin file can't be read", "libgone.so"]),
    ("cut", Break::Truncate, &["ELF field `", "libcut.so"]),
    ("flipped", Break::Flip, &["ELF field `e_machine`", "libflipped.so"]),
    ("tampered", Break::FlipUnpinned, &["sha256 is not the pinned one", "libtampered.so"]),
    ("swapped", Break::Swap, &["sha256 is not the pinned one", "libswapped.so"]),
    ("future", Break::Build("-DMAJOR=2"), &["built for ABI 2, host speaks 1", "libfuture.so"]),
    ("panics", Break::Build("-DCREATE_DOES=PANICS"), &["panicked when it op", "libpanics.so"]),
    ("loops", Break::Build("-DCREATE_DOES=LOOPS"), &["passed its deadline when", "libloops.so"]),
];

/// How a file is broken.
#[derive(Clone, Copy)]
enum Break {
    Remove,
    /// Half of it is pinned.
    Truncate,
    /// One bit is wrong, and pinned so.
    Flip,
    /// One bit is wrong after it was pinned.
    FlipUnpinned,
    /// Another good library lies in its place.
    Swap,
    /// Compiled wrong.
    Build(&'static str),
}

#[test]
fn a_broken_file_disables_its_account_by_name_and_the_others_serve() {
    let mut house = House::prepared(Plan::default());
    let names: Vec<&str> = BROKEN.iter().map(|(name, ..)| *name).chain(["loops-too"]).collect();
    add_accounts(&house, &names);
    for (name, how, _) in BROKEN {
        spoil(&house, name, how);
    }
    house.start_proxy();
    let (ok, told) = house.cli(&["check", "--config", "interlock.toml"]);
    assert!(!ok, "{told}");
    let log = house.log();
    for (name, _, words) in BROKEN {
        let account = account(&house, name);
        assert_eq!(account["serves"], false, "{account}");
        let reason = account["reason"].as_str().expect("a reason");
        for word in words {
            assert!(reason.contains(word), "{name}: {reason}");
        }
        // `check` opens no plugin while other files are wrong.
        assert!(told.contains(words[1]) || matches!(name, "panics" | "loops"), "{name}: {told}");
        let logged = |l: &str| l.contains("account is disabled") && l.contains(words[1]);
        assert!(log.lines().any(logged), "{name}: {log}");
    }
    // Two accounts of one looping plugin cost one thread.
    assert_eq!(account(&house, "loops-too")["serves"], false);
    assert_eq!(ready(&house), (200, "ready".to_owned()));
    let p = house.pay(&card(&names));
    assert_eq!(
        (p.status, &p["status"], &p["account"]),
        (201, &json!("succeeded"), &json!("checkout-eu"))
    );
    assert_eq!(p["attempts"].as_array().map(Vec::len), Some(1), "{p:?}");
    assert_eq!(house.pay(&barcode(900, "01"))["status"], "succeeded");
    for (name, ..) in BROKEN {
        build(&house, name, &[]);
    }
    restart_pinned(&mut house);
    for name in &names {
        assert_eq!(account(&house, name)["serves"], true);
    }
    assert_eq!(house.pay(&card(&names))["account"], names[0]);
}

#[test]
fn a_plugin_that_only_fails_when_it_is_opened_is_found_by_check() {
    let house = House::prepared(Plan::default());
    add_accounts(&house, &["panics", "loops"]);
    spoil(&house, "panics", Break::Build("-DCREATE_DOES=PANICS"));
    spoil(&house, "loops", Break::Build("-DCREATE_DOES=LOOPS"));
    let (code, told) = house.cli_code(&["check", "--config", "interlock.toml"]);
    assert_eq!(code, Some(1), "{told}");
    for words in ["account `panics` can't serve", "libpanics.so", "account `loops`", "libloops.so"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_plugin_that_fails_before_it_sends_fails_over_within_the_same_request() {
    let mut house = House::prepared(Plan::default());
    let names = ["looping", "panicking"];
    add_accounts(&house, &names);
    build(&house, "looping", &["-DSTART_DOES=LOOPS"]);
    build(&house, "panicking", &["-DSTART_DOES=PANICS"]);
    restart_pinned(&mut house);
    for _ in 0..3 {
        let p = house.pay(&card(&names));
        assert_eq!((p.status, &p["status"]), (201, &json!("succeeded")), "{p:?}");
        assert_eq!(p["account"], "checkout-eu");
        assert_eq!(charges(&house, &p), 1);
    }
    for (name, reason) in [("looping", "timed_out"), ("panicking", "panicked")] {
        let account = account(&house, name);
        assert_eq!((&account["serves"], &account["reason"]), (&json!(false), &json!(reason)));
        assert_eq!(account["plugin_file"], format!("lib{name}.so"));
        let log = house.log();
        let told = |l: &str| l.contains("in quarantine") && l.contains(&format!("lib{name}.so"));
        assert!(log.lines().any(told), "{log}");
    }
    assert_eq!(ready(&house).0, 200);
}

#[test]
fn a_plugin_that_fails_on_the_answer_neither_loses_the_payment_nor_lets_it_be_charged_twice() {
    let mut house = House::prepared(Plan::default());
    let names = ["looping", "panicking"];
    add_accounts(&house, &names);
    build(&house, "looping", &["-DANSWER_DOES=LOOPS"]);
    build(&house, "panicking", &["-DANSWER_DOES=PANICS"]);
    restart_pinned(&mut house);
    let mut doubts = Vec::new();
    for name in names {
        let (key, body) = (fresh("plugin"), card(&names));
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=3")];
        let url = format!("{}/v1/payments", house.api);
        let p = house.send("POST", &url, &headers, Some(body.to_string().as_bytes()));
        assert_eq!(
            (p.status, &p["status"], &p["account"]),
            (202, &json!("processing"), &json!(name))
        );
        assert_eq!(p["status_reason"], "provider_outcome_unknown", "{p:?}");
        assert_eq!(p["attempts"].as_array().map(Vec::len), Some(1), "nobody else is asked: {p:?}");
        assert_eq!(charges(&house, &p), 1);
        assert_eq!(account(&house, name)["serves"], false);
        doubts.push((key, body, p));
    }
    assert_eq!(ready(&house).0, 200);
    // The next ones go elsewhere at once.
    assert_eq!(house.pay(&card(&names))["account"], "checkout-eu");
    for name in names {
        build(&house, name, &[]);
    }
    restart_pinned(&mut house);
    for (key, body, p) in doubts {
        let id = p["id"].as_str().expect("an id");
        let now = house.wait_for(id, SOON, |p| p["status"] == "succeeded");
        assert_eq!((&now["account"], charges(&house, &now)), (&p["account"], 1));
        let again = house.pay_with_key(&key, &body);
        assert_eq!((&again["id"], &again["status"]), (&p["id"], &json!("succeeded")));
        assert_eq!(charges(&house, &now), 1);
    }
}

#[test]
fn the_third_stuck_thread_makes_the_proxy_unready_and_it_still_serves_and_stops() {
    let mut house = House::prepared(Plan::default());
    let names = ["first", "second", "third"];
    add_accounts(&house, &names);
    for name in names {
        build(&house, name, &["-DSTART_DOES=LOOPS"]);
    }
    restart_pinned(&mut house);
    for (name, expected) in names.into_iter().zip([200, 200, 503]) {
        let p = house.pay(&card(&[name]));
        assert_eq!((&p["status"], &p["account"]), (&json!("succeeded"), &json!("checkout-eu")));
        assert_eq!(account(&house, name)["reason"], "timed_out");
        assert_eq!(ready(&house).0, expected, "after {name}");
    }
    assert_eq!(ready(&house).1, "plugin threads are stuck");
    for _ in 0..10 {
        assert_eq!(house.pay(&card(&[]))["status"], "succeeded");
        assert_eq!(house.pay(&barcode(700, "01"))["status"], "succeeded");
    }
    let (code, took) = house.stop_proxy();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_plugin_in_its_own_process_takes_nothing_with_it_and_its_doubt_is_resolved_by_itself() {
    let mut house = House::prepared(Plan::default());
    let names = ["crashing", "exiting", "looping"];
    add_accounts(&house, &names);
    isolate(&house, &names);
    build(&house, "crashing", &["-DANSWER_DOES=CRASHES"]);
    build(&house, "exiting", &["-DANSWER_DOES=EXITS"]);
    build(&house, "looping", &["-DANSWER_DOES=LOOPS"]);
    restart_pinned(&mut house);
    for name in names {
        let (key, body) = (fresh("apart"), card(&[name]));
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=3")];
        let url = format!("{}/v1/payments", house.api);
        let p = house.send("POST", &url, &headers, Some(body.to_string().as_bytes()));
        // Its inquiry is read by a new process, and says that the money was taken.
        let id = p["id"].as_str().unwrap_or_else(|| unreachable!("{p:?}")).to_owned();
        let now = house.wait_for(&id, SOON, |p| p["status"] == "succeeded");
        assert_eq!((&now["account"], charges(&house, &now)), (&json!(name), 1));
        let again = house.pay_with_key(&key, &body);
        assert_eq!((&again["id"], charges(&house, &again)), (&json!(id), 1));
        assert_eq!(account(&house, name)["serves"], true, "it is not put into quarantine");
    }
    let plugins = house.operate("GET", "/admin/v1/plugins", None);
    let plugins = plugins["plugins"].as_array().expect("plugins").clone();
    let of = |name: &str| plugins.iter().find(|p| p["name"] == name).expect("it is loaded");
    assert_eq!(of("crashing")["isolation"], "process");
    assert!(of("crashing")["deaths"].as_u64() > Some(0), "{plugins:?}");
    assert!(of("exiting")["deaths"].as_u64() > Some(0), "{plugins:?}");
    assert!(of("looping")["timeouts"].as_u64() > Some(0), "{plugins:?}");
    assert_eq!(ready(&house).0, 200);
}

#[test]
fn a_plugin_whose_process_dies_before_it_sends_fails_over_within_the_same_request() {
    let mut house = House::prepared(Plan::default());
    let names = ["crashing", "gone"];
    add_accounts(&house, &names);
    isolate(&house, &names);
    build(&house, "crashing", &["-DSTART_DOES=CRASHES"]);
    build(&house, "gone", &["-DCREATE_DOES=EXITS"]);
    restart_pinned(&mut house);
    let gone = account(&house, "gone");
    let reason = gone["reason"].as_str().unwrap_or_default();
    assert!(gone["serves"] == false && reason.contains("exited with code 3"), "{gone}");
    for _ in 0..3 {
        let p = house.pay(&card(&names));
        assert_eq!((p.status, &p["status"]), (201, &json!("succeeded")), "{p:?}");
        assert_eq!((&p["account"], charges(&house, &p)), (&json!("checkout-eu"), 1));
    }
    assert_eq!(ready(&house).0, 200);
}

#[test]
fn a_plugin_runs_apart_unless_somebody_who_is_trusted_published_it() {
    let mut house = House::prepared(Plan::default());
    add_accounts(&house, &["small"]);
    let path = house.dir.path().join("interlock.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    let written = "plugin = \"small\"\nisolation = \"in-process\"\n";
    assert!(text.contains(written));
    let unwritten = text.replace(written, "plugin = \"small\"\n");
    fs::write(&path, &unwritten).expect("the configuration");
    let library = build(&house, "small", &[]);
    restart_pinned(&mut house);
    let home = |house: &House| {
        let all = house.operate("GET", "/admin/v1/plugins", None);
        let all = all["plugins"].as_array().expect("plugins").clone();
        let serves = |p: &&serde_json::Value| p["accounts"] == json!(["small"]);
        all.iter().find(serves).expect("it serves")["isolation"].clone()
    };
    assert_eq!(home(&house), "process");
    let p = house.pay(&card(&["small"]));
    assert_eq!((&p["account"], charges(&house, &p)), (&json!("small"), 1));

    // Signed, and pinned to its publisher, who is trusted: that is read with the next reload.
    let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let (private, public) = (house.dir.path().join("key"), house.dir.path().join("key.pub"));
    fs::write(&private, keys.serialize_pem()).expect("written");
    fs::write(&public, keys.public_key_pem()).expect("written");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    let (library, private, public) = (text(&library), text(&private), text(&public));
    for words in [
        &["plugin", "sign", &library, "--key", &private][..],
        &["plugin", "pin", "--config", "interlock.toml", "--publisher", &public],
    ] {
        let (ok, told) = house.cli(words);
        assert!(ok, "{told}");
    }
    let lock = fs::read_to_string(house.dir.path().join("plugins.lock")).expect("the lock");
    let key = lock.lines().find_map(|line| line.strip_prefix("ed25519 = ")).expect("a publisher");
    let reload = || {
        let body = json!({ "operator": "tester" });
        let answer = house.operate("POST", "/admin/v1/reload", Some(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    reload();
    assert_eq!(home(&house), "process", "nobody trusts him yet");
    let trusted =
        unwritten.replace("[server]\n", &format!("[server]\ntrusted_publishers = {key}\n"));
    fs::write(&path, trusted).expect("the configuration");
    reload();
    assert_eq!(home(&house), "in-process");
    let p = house.pay(&card(&["small"]));
    assert_eq!((&p["account"], charges(&house, &p)), (&json!("small"), 1));
}

/// Gives accounts' plugins processes of their own.
fn isolate(house: &House, names: &[&str]) {
    let path = house.dir.path().join("interlock.toml");
    let mut text = fs::read_to_string(&path).expect("the configuration");
    for name in names {
        let head = format!("[accounts.{name}]\nplugin = \"{name}\"\nisolation = ");
        assert!(text.contains(&head));
        let (here, apart) = (format!("{head}\"in-process\""), format!("{head}\"process\""));
        text = text.replace(&here, &apart);
    }
    fs::write(&path, text).expect("the configuration");
}

fn spoil(house: &House, name: &str, how: Break) {
    let flags: &[&str] = match &how {
        Break::Build(flag) => &[*flag],
        _ => &[],
    };
    let path = build(house, name, flags);
    let mut bytes = fs::read(&path).expect("the library");
    match how {
        Break::Remove => {
            pin_as_it_is(house, name, &path);
            fs::remove_file(&path).expect("removed");
        }
        Break::Truncate => {
            bytes.truncate(bytes.len() / 2);
            fs::write(&path, bytes).expect("written");
            pin_as_it_is(house, name, &path);
        }
        Break::Flip => {
            // The machine's number in the ELF header.
            bytes[18] ^= 1;
            fs::write(&path, bytes).expect("written");
            pin_as_it_is(house, name, &path);
        }
        Break::FlipUnpinned => {
            pin_as_it_is(house, name, &path);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).expect("written");
        }
        Break::Swap => {
            pin_as_it_is(house, name, &path);
            build(house, name, &["-DSTART_DOES=LOOPS"]);
        }
        Break::Build(_) => pin_as_it_is(house, name, &path),
    }
}

/// `plugin pin` refuses what can't be loaded, so the hash is written by hand.
fn pin_as_it_is(house: &House, name: &str, path: &Path) {
    let sum = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    let sum = String::from_utf8(sum.stdout).expect("text");
    let sha256 = sum.split_whitespace().next().expect("a hash");
    let lock = house.dir.path().join("plugins.lock");
    let text = fs::read_to_string(&lock).expect("the lock");
    let entry = format!(
        "\n[[plugin]]\nname = \"{name}\"\nfile = \"lib{name}.so\"\nsha256 = \"{sha256}\"\n\
         version = \"1.0.0\"\nabi = \"1.0\"\n"
    );
    fs::write(lock, text + &entry).expect("the lock");
}

fn restart_pinned(house: &mut House) {
    house.stop_proxy();
    let (ok, told) = house.cli(&["plugin", "pin", "--config", "interlock.toml"]);
    assert!(ok, "{told}");
    house.spawn_proxy();
    // An unready proxy must be seen as well, so only life is waited for.
    let begun = Instant::now();
    let url = format!("{}/livez", house.admin);
    while house.try_send("GET", &url, &[], None).is_none_or(|a| a.status != 200) {
        assert!(begun.elapsed() < SOON, "it does not start\n{}", house.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ready(house: &House) -> (u16, String) {
    let answer = house.operate("GET", "/readyz", None);
    (answer.status, String::from_utf8(answer.body).expect("text"))
}
