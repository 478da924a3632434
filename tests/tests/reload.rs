//! Another configuration, another plugin, while payments go on: at once or for a share of them, and
//! not at all when anything of it can't be used.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use interlock_tests::house::{House, Plan, at_once, fresh};
use serde_json::{Value, json};

#[path = "plugins/card.rs"]
mod card_plugin;
use card_plugin::{account, add_accounts, build, card, charges};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn another_configuration_comes_into_force_and_what_is_unchanged_stays_as_it_was() {
    let mut house = House::prepared(Plan { account_lines: "limit = \"500/s\"", ..Plan::default() });
    add_accounts(&house, &["small"]);
    build(&house, "small", &[]);
    pin(&house);
    house.start_proxy();
    assert_eq!(house.pay(&card(&["small"]))["account"], "small");
    let (ok, told) = house.cli(&act(&house, &["account", "drain", "checkout-us"]));
    assert!(ok, "{told}");

    // A new plugin under the same name, one account more, and one that nobody routes to any more.
    add_accounts(&house, &["second"]);
    build(&house, "small", &["-DVERSION=\"2.0.0\""]);
    build(&house, "second", &[]);
    pin(&house);
    edit(&house, "limit = \"500/s\"", "limit = \"400/s\"");
    edit(&house, "api_key = \"other_key_2\"", "api_key = \"other_key_3\"");
    let (ok, told) = reload(&house, &[]);
    assert!(ok, "{told}");
    for words in ["generation 2 is in force", "second", "opened again small", "as before"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = status(&house);
    assert_eq!((&told["generation"], &told["reload"]["result"]), (&json!(2), &json!("loaded")));
    assert_eq!(told["reload"]["by"], "tester");
    assert_eq!(house.metric("interlock_config_generation", &[]), 2.0);
    let loaded = house.metric("interlock_config_reload_total", &[("result", "loaded")]);
    assert_eq!(loaded, 1.0);
    assert_eq!(account(&house, "small")["plugin_version"], "2.0.0");
    assert_eq!(account(&house, "checkout-us")["drained"]["reason"], "why", "as it was set by hand");
    assert!(house.metrics().contains("account=\"small\",plugin=\"small\",version=\"2.0.0\""));
    assert!(!house.metrics().contains("plugin=\"small\",version=\"1.0.0\""));
    build(&house, "second", &["-DVERSION=\"9.0.0\""]);
    let (ok, list) = house.cli(&["plugin", "list", "--config", "interlock.toml"]);
    assert!(ok && list.contains("2.0.0: serves small, for "), "{list}");
    assert!(list.contains("the file is another one now: `interlock reload`"), "{list}");
    let p = house.pay(&card(&["second"]));
    assert_eq!((&p["account"], charges(&house, &p)), (&json!("second"), 1));

    // The keys of merchants are those of the new file.
    let list = |key: &str| {
        let bearer = format!("Bearer {key}");
        let url = format!("{}/v1/payments", house.api);
        house.send("GET", &url, &[("Authorization", bearer.as_str())], None).status
    };
    assert_eq!((list("other_key_2"), list("other_key_3"), list("test_key_1")), (401, 200, 200));
}

#[test]
fn whatever_can_not_be_used_changes_nothing_and_says_why() {
    let house = started();
    let good = fs::read_to_string(config(&house)).expect("the configuration");
    let lock = fs::read_to_string(house.dir.path().join("plugins.lock")).expect("the lock");
    let broken = |what: &str| {
        fs::write(config(&house), &good).expect("written");
        fs::write(house.dir.path().join("plugins.lock"), &lock).expect("written");
        build(&house, "small", &[]);
        match what {
            "not toml" => fs::write(config(&house), "[server\n").expect("written"),
            "unknown key" => edit(&house, "workers = 2", "workres = 2"),
            "gone" => fs::remove_file(config(&house)).expect("removed"),
            "another file" => drop(build(&house, "small", &["-DVERSION=\"2.0.0\""])),
            "panics" => {
                build(&house, "small", &["-DCREATE_DOES=PANICS"]);
                pin(&house);
            }
            "unknown account" => edit(&house, "\"small\", ", "\"smal\", "),
            "no account takes it" => {
                edit(&house, "candidates = [\"adyen-eu\"]", "candidates = [\"alipay-main\"]")
            }
            _ => unreachable!("{what}"),
        }
    };
    let cases = [
        ("not toml", "C002"),
        ("unknown key", "workres"),
        ("gone", "can't be read"),
        ("another file", "sha256 is not the pinned one"),
        ("panics", "panicked when it opened the account"),
        ("unknown account", "smal"),
        ("no account takes it", "wallets"),
    ];
    for (n, (what, words)) in cases.into_iter().enumerate() {
        broken(what);
        let (code, told) = house.cli_code(&reload_words(&house, &[]));
        assert_eq!(code, Some(1), "{what}: {told}");
        let words = if what == "gone" { "cannot be read" } else { words };
        assert!(told.contains(words), "{what}: {told}");
        assert!(told.contains("generation 1 goes on"), "{what}: {told}");
        assert!(!told.contains("warning["), "only what is in the way: {told}");
        let now = status(&house);
        assert_eq!(now["generation"], 1, "{what}");
        assert_eq!(now["reload"]["result"], "kept", "{what}: {now}");
        let kept = house.metric("interlock_config_reload_total", &[("result", "kept")]);
        assert_eq!(kept, (n + 1) as f64);
        let p = house.pay(&card(&["small"]));
        assert_eq!((&p["account"], &p["status"]), (&json!("small"), &json!("succeeded")), "{what}");
        assert_eq!(account(&house, "small")["plugin_version"], "1.0.0");
    }
    let (_, page) = house.cli(&["status", "--config", "interlock.toml"]);
    assert!(page.contains("was not taken up"), "{page}");
    // A signal does the same, and tells it in the log.
    house.signal_proxy("HUP");
    house.wait_until("the signal is obeyed", SOON, |h| {
        h.metric("interlock_config_reload_total", &[("result", "kept")]) > cases.len() as f64
    });
    fs::write(config(&house), &good).expect("written");
    fs::write(house.dir.path().join("plugins.lock"), &lock).expect("written");
    build(&house, "small", &[]);
    house.signal_proxy("HUP");
    house.wait_until("the good one is in force", SOON, |h| status(h)["generation"] == 2);
}

#[test]
fn what_is_in_flight_is_read_by_the_generation_that_sent_it() {
    let mut house = House::prepared(Plan { timeout: "5s", ..Plan::default() });
    add_accounts(&house, &["small"]);
    edit(&house, "timeout = \"1500ms\"", "timeout = \"5s\"");
    build(&house, "small", &[]);
    pin(&house);
    house.start_proxy();
    let slow = json!({
        "account": "checkout-eu", "operation": "authorize", "fault": "slow", "ms": 1_500,
    });
    house.fault_with(slow);
    let paid = std::thread::scope(|scope| {
        let paying = scope.spawn(|| house.pay(&card(&["small"])));
        house.wait_until("the provider has it", SOON, |h| h.payments_sent() == 1);
        build(&house, "small", &["-DANSWER_DOES=FAILS", "-DVERSION=\"2.0.0\""]);
        pin(&house);
        let (ok, told) = reload(&house, &[]);
        assert!(ok, "{told}");
        assert_eq!(account(&house, "small")["plugin_version"], "2.0.0");
        let loaded = generations(&house, "small");
        assert_eq!(loaded.len(), 2, "the old one has work: {loaded:?}");
        paying.join().expect("it was answered")
    });
    assert_eq!((&paid["status"], charges(&house, &paid)), (&json!("succeeded"), 1), "{paid:?}");
    house.lift_faults();
    // The new one can't read an answer; what it left in doubt is found out by asking.
    let p = house.pay(&card(&["small"]));
    let id = p["id"].as_str().expect("an id");
    let now = house.wait_for(id, SOON, |p| p["status"] == "succeeded");
    assert_eq!((&now["account"], charges(&house, &now)), (&json!("small"), 1));
    house.wait_until("the old one has ended", SOON, |h| generations(h, "small").len() == 1);
}

#[test]
fn an_account_that_is_removed_while_it_pays_is_heard_to_the_end() {
    let house = started();
    let slow = json!({
        "account": "checkout-eu", "operation": "authorize", "fault": "slow", "ms": 1_000,
    });
    house.fault_with(slow);
    let paid = std::thread::scope(|scope| {
        let paying = scope.spawn(|| house.pay(&card(&["small"])));
        house.wait_until("the provider has it", SOON, |h| h.payments_sent() == 1);
        remove_small(&house);
        let (ok, told) = reload(&house, &[]);
        assert!(ok && told.contains("gone         small"), "{told}");
        paying.join().expect("it was answered")
    });
    let told = (&paid["status"], &paid["account"], charges(&house, &paid));
    assert_eq!(told, (&json!("succeeded"), &json!("small"), 1), "{paid:?}");
    let list = house.operate("GET", "/admin/v1/accounts", None);
    assert!(!list.json.to_string().contains("\"small\""));
}

#[test]
fn a_thousand_reloads_under_load_fail_no_request_and_charge_nobody_twice() {
    const RELOADS: usize = 1_000;
    let mut house = House::prepared(Plan::default());
    add_accounts(&house, &["small"]);
    // Two versions, each with the file that pins it, so that a reload is two renames.
    let versions = ["1.0.0", "2.0.0"].map(|version| {
        let library = build(&house, "small", &[&format!("-DVERSION=\"{version}\"")]);
        pin(&house);
        let lock = fs::read(house.dir.path().join("plugins.lock")).expect("the lock");
        (fs::read(library).expect("the library"), lock)
    });
    house.start_proxy();
    let before = memory_kb(&house);
    let (done, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let payments: Vec<Value> = std::thread::scope(|scope| {
        let payers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut paid = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let p = house.pay(&card(&["small"]));
                        if (p.status, &p["status"]) != (201, &json!("succeeded")) {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                        paid.push(p.json);
                    }
                    paid
                })
            })
            .collect();
        for n in 0..RELOADS {
            let (library, lock) = &versions[n % 2];
            replace(&house.dir.path().join("plugins/libsmall.so"), library);
            replace(&house.dir.path().join("plugins.lock"), lock);
            let body = json!({ "operator": "tester" });
            let answer = house.operate("POST", "/admin/v1/reload", Some(&body));
            assert_eq!(answer.status, 200, "reload {n}: {answer:?}");
        }
        done.store(true, Ordering::Relaxed);
        payers.into_iter().flat_map(|payer| payer.join().expect("it ended")).collect()
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {} payments", payments.len());
    assert!(payments.len() > 100, "there was load: {}", payments.len());
    let by_account = |name: &str| payments.iter().filter(|p| p["account"] == name).count();
    assert_eq!(by_account("small"), payments.len(), "nobody was sent elsewhere");
    assert_eq!(status(&house)["generation"], 1 + RELOADS);
    let ledger = house.ledger();
    let charged = ledger.iter().filter(|entry| entry["kind"] == "charge").count();
    assert_eq!(charged, payments.len(), "each is charged once");
    assert!(generations(&house, "small").len() <= 2);
    let grown = memory_kb(&house).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} kB more than before");
}

#[test]
fn a_canary_that_fails_is_rolled_back_by_itself_and_nobody_is_charged_twice() {
    rolled_back("", "breaker_open");
    let blunt = "\nbreaker = { minimum_calls = 1000000, consecutive = 1000000 }";
    rolled_back(blunt, "unread_answers");
}

/// A canary whose plugin can't read answers, at an account with these lines, ends by this class.
fn rolled_back(lines: &str, class: &str) {
    let mut house = House::prepared(Plan::default());
    add_accounts(&house, &["small"]);
    edit(&house, "plugin = \"small\"", &format!("plugin = \"small\"{lines}"));
    build(&house, "small", &[]);
    pin(&house);
    house.start_proxy();
    build(&house, "small", &["-DANSWER_DOES=FAILS", "-DVERSION=\"2.0.0\""]);
    pin(&house);
    let (ok, told) = reload(&house, &["--canary", "50%"]);
    assert!(ok && told.contains("generation 2 tries out 50 % of the new payments"), "{told}");
    let (code, told) = house.cli_code(&reload_words(&house, &[]));
    assert!(code == Some(1) && told.contains("a canary is under way"), "{told}");
    assert_eq!(status(&house)["generation"], 1);
    let mut payments = Vec::new();
    while !status(&house)["canary"].is_null() {
        let headers = [("Prefer", "wait=0"), ("Idempotency-Key", &*fresh("canary"))];
        let body = card(&["small"]).to_string();
        let url = format!("{}/v1/payments", house.api);
        payments.push(house.send("POST", &url, &headers, Some(body.as_bytes())));
        assert!(payments.len() < 500, "{}", status(&house));
    }
    let told = status(&house)["reload"].clone();
    assert_eq!((&told["result"], &told["generation"]), (&json!("rolled_back"), &json!(2)));
    let why = told["why"].as_str().expect("a reason");
    assert!(why.contains(&format!("account `small`: {class}")), "{why}");
    assert!(house.log().contains("the canary was rolled back"));
    let back = house.metric("interlock_config_reload_total", &[("result", "rolled_back")]);
    assert_eq!(back, 1.0);
    let (_, page) = house.cli(&["status", "--config", "interlock.toml"]);
    assert!(page.contains("generation 2 was rolled back"), "{page}");
    // What it left in doubt is resolved by the generation before it.
    for p in &payments {
        let id = p["id"].as_str().unwrap_or_else(|| unreachable!("{p:?}"));
        let now = house.wait_for(id, SOON, |p| p["status"] == "succeeded");
        assert_eq!((&now["account"], charges(&house, &now)), (&json!("small"), 1));
    }
    for _ in 0..20 {
        assert_eq!(house.pay(&card(&["small"]))["status"], "succeeded");
    }
    assert_eq!(account(&house, "small")["plugin_version"], "1.0.0");
}

#[test]
fn a_canary_whose_plugin_panics_is_rolled_back_by_the_first_of_its_payments() {
    let house = started();
    build(&house, "small", &["-DSTART_DOES=PANICS", "-DVERSION=\"2.0.0\""]);
    pin(&house);
    let (ok, told) = reload(&house, &["--canary", "90%"]);
    assert!(ok, "{told}");
    for _ in 0..20 {
        let p = house.pay(&card(&["small"]));
        assert_eq!((&p["status"], charges(&house, &p)), (&json!("succeeded"), 1));
    }
    let told = status(&house)["reload"].clone();
    assert_eq!(told["result"], "rolled_back", "{told}");
    let small = account(&house, "small");
    assert_eq!((&small["serves"], &small["plugin_version"]), (&json!(true), &json!("1.0.0")));
}

#[test]
fn a_canary_with_credentials_that_are_refused_drains_nobody() {
    let house = House::start();
    let text = fs::read_to_string(config(&house)).expect("the configuration");
    let at = text.find("[accounts.checkout-eu]").expect("the account");
    let (before, after) = text.split_at(at);
    let after = after.replacen("secret_key = \"", "secret_key = \"revoked_", 1);
    fs::write(config(&house), format!("{before}{after}")).expect("written");
    let (ok, told) = reload(&house, &["--canary", "90%"]);
    assert!(ok, "{told}");
    // Many at once: some are refused when the canary has ended already.
    at_once(40, |_| house.pay_within(&card(&[]), 1));
    house.wait_until("it ends", SOON, |h| status(h)["reload"]["result"] == "rolled_back");
    let why = status(&house)["reload"]["why"].to_string();
    assert!(why.contains("account `checkout-eu`: account_restricted"), "{why}");
    assert!(account(&house, "checkout-eu")["drained"].is_null(), "the others serve on");
    let p = house.pay(&card(&[]));
    assert_eq!((&p["account"], &p["status"]), (&json!("checkout-eu"), &json!("succeeded")));
    assert_eq!(charges(&house, &p), 1);
}

#[test]
fn a_canary_that_does_well_is_promoted_by_its_time_or_by_hand() {
    let house = started();
    let version = |version: &str| {
        build(&house, "small", &[&format!("-DVERSION=\"{version}\"")]);
        pin(&house);
    };
    version("2.0.0");
    assert!(reload(&house, &["--canary", "50%", "--for", "1s"]).0);
    house.wait_until("it is promoted", SOON, |h| {
        h.pay(&card(&["small"]));
        status(h)["generation"] == 2
    });
    let told = status(&house);
    assert!(told["canary"].is_null() && told["reload"]["result"] == "promoted", "{told}");
    assert_eq!(account(&house, "small")["plugin_version"], "2.0.0");

    version("3.0.0");
    assert!(reload(&house, &["--canary", "1%"]).0);
    let (ok, told) = reload(&house, &["--promote"]);
    assert!(ok && told.contains("generation 3 is in force"), "{told}");
    assert_eq!(account(&house, "small")["plugin_version"], "3.0.0");

    version("4.0.0");
    assert!(reload(&house, &["--canary", "1%"]).0);
    let (ok, told) = reload(&house, &["--roll-back"]);
    assert!(ok && told.contains("generation 3 is in force"), "{told}");
    let (code, told) = house.cli_code(&reload_words(&house, &["--promote"]));
    assert!(code == Some(1) && told.contains("no canary is under way"), "{told}");
    assert_eq!(account(&house, "small")["plugin_version"], "3.0.0");
    assert_eq!(house.pay(&card(&["small"]))["status"], "succeeded");
}

#[test]
fn an_account_with_doubts_may_be_removed_and_comes_back_to_them() {
    let house = started();
    house.fault("checkout-eu", "*", "charge_then_drop");
    house.fault("checkout-eu", "inquire", "hang");
    let headers = [("Prefer", "wait=1"), ("Idempotency-Key", &*fresh("left"))];
    let body = card(&["small"]).to_string();
    let url = format!("{}/v1/payments", house.api);
    let p = house.send("POST", &url, &headers, Some(body.as_bytes()));
    assert_eq!((p.status, &p["account"]), (202, &json!("small")), "{p:?}");
    let whole = fs::read_to_string(config(&house)).expect("the configuration");
    remove_small(&house);
    let (ok, told) = reload(&house, &[]);
    assert!(ok && told.contains("payments at account `small` are in doubt"), "{told}");
    house.lift_faults();
    std::thread::sleep(Duration::from_millis(1_500));
    let id = p["id"].as_str().expect("an id");
    assert_eq!(house.payment(id)["status"], "processing", "nobody asks");
    fs::write(config(&house), whole).expect("written");
    assert!(reload(&house, &[]).0);
    let now = house.wait_for(id, Duration::from_secs(60), |p| p["status"] == "succeeded");
    assert_eq!((&now["account"], charges(&house, &now)), (&json!("small"), 1));
}

#[test]
fn what_only_a_start_reads_is_named_and_an_open_door_stays_guarded() {
    let plan = Plan { tail: ADMIN, ..Plan::default() };
    let house = House::with(plan);
    edit(&house, "workers = 2", "workers = 3");
    edit(&house, "drain = \"20s\"", "drain = \"21s\"");
    let done = reload_as(&house, "old_token_1");
    assert_eq!(done.0, 200, "{done:?}");
    assert_eq!(done.1["needs_restart"], json!(["server.workers", "server.drain"]));
    // Another token, at the same door.
    edit(&house, "old_token_1", "new_token_2");
    assert_eq!(reload_as(&house, "old_token_1").0, 200);
    assert_eq!(reload_as(&house, "old_token_1").0, 401);
    assert_eq!(reload_as(&house, "new_token_2").0, 200);
    // The file speaks of another door, which needs no token: this one still does.
    let text = fs::read_to_string(config(&house)).expect("the configuration");
    let admin = house.admin.trim_start_matches("http://");
    let text = text.replace(&format!("admin = \"{admin}\""), "admin = \"127.0.0.1:1\"");
    let text = text.split("\n[admin.tokens").next().expect("the rest").to_owned();
    fs::write(config(&house), text).expect("written");
    let done = reload_as(&house, "new_token_2");
    assert_eq!(done.0, 200, "{done:?}");
    let needs = done.1["needs_restart"].to_string();
    assert!(needs.contains("server.admin") && needs.contains("admin.tokens"), "{needs}");
    assert_eq!(reload_as(&house, "wrong").0, 401);
    assert_eq!(reload_as(&house, "new_token_2").0, 200);
}

#[test]
fn the_service_manager_is_told_of_every_step() {
    let mut house = House::prepared(Plan::default());
    let path = house.dir.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("set");
    let name = path.to_str().expect("text");
    house.spawn_proxy_as("interlock", &[("NOTIFY_SOCKET", name)]);
    let hear = || {
        let mut message = [0; 4_096];
        let length = socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let until = |word: &str| {
        let mut heard = String::new();
        for _ in 0..10 {
            heard = hear();
            if heard.contains(word) {
                return heard;
            }
        }
        unreachable!("{word} was not told, but {heard}")
    };
    until("READY=1");
    house.signal_proxy("HUP");
    assert!(until("RELOADING=1").contains("MONOTONIC_USEC="), "both in one message");
    assert!(until("READY=1").contains("STATUS=generation 2"));
    edit(&house, "workers = 2", "workres = 2");
    house.signal_proxy("HUP");
    until("RELOADING=1");
    let kept = until("READY=1");
    assert!(kept.contains("STATUS=generation 2; generation 3 kept"), "{kept}");
    house.stop_proxy();
    until("STOPPING=1");
}

const ADMIN: &str = "\n[admin.tokens.ops]\ntoken = \"old_token_1\"\nrole = \"act\"\n";

/// A running house whose cards go to the account `small` first.
fn started() -> House {
    let mut house = House::prepared(Plan::default());
    add_accounts(&house, &["small"]);
    build(&house, "small", &[]);
    pin(&house);
    house.start_proxy();
    house
}

fn reload_as(house: &House, token: &str) -> (u16, Value) {
    let bearer = format!("Bearer {token}");
    let url = format!("{}/admin/v1/reload", house.admin);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let answer = house.send("POST", &url, &headers, Some(br#"{"operator":"tester"}"#));
    (answer.status, answer.json)
}

fn reload(house: &House, more: &[&str]) -> (bool, String) {
    house.cli(&reload_words(house, more))
}

fn reload_words<'a>(house: &'a House, more: &[&'a str]) -> Vec<&'a str> {
    let admin = ["reload", "--operator", "tester", "--admin", &house.admin];
    [&admin, more].concat()
}

fn act<'a>(house: &'a House, what: &[&'a str]) -> Vec<&'a str> {
    [what, &["--reason", "why", "--operator", "tester", "--admin", &house.admin]].concat()
}

fn status(house: &House) -> Value {
    house.operate("GET", "/admin/v1/status", None).json
}

fn config(house: &House) -> std::path::PathBuf {
    house.dir.path().join("interlock.toml")
}

fn edit(house: &House, old: &str, new: &str) {
    let text = fs::read_to_string(config(house)).expect("the configuration");
    assert!(text.contains(old), "{old}");
    fs::write(config(house), text.replace(old, new)).expect("written");
}

/// The account that was added last.
fn remove_small(house: &House) {
    let whole = fs::read_to_string(config(house)).expect("the configuration");
    let at = whole.find("\n[accounts.small]").expect("the account");
    fs::write(config(house), whole[..at].replace("\"small\", ", "")).expect("written");
}

fn pin(house: &House) {
    let (ok, told) = house.cli(&["plugin", "pin", "--config", "interlock.toml"]);
    assert!(ok, "{told}");
}

/// Another content at once, never half of it.
fn replace(path: &Path, content: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, content).expect("written");
    fs::rename(draft, path).expect("renamed");
}

/// The generations of a plugin that something still holds.
fn generations(house: &House, plugin: &str) -> Vec<Value> {
    let all = house.operate("GET", "/admin/v1/plugins", None);
    let all = all["plugins"].as_array().expect("plugins").clone();
    all.into_iter().filter(|p| p["name"] == plugin).collect()
}

fn memory_kb(house: &House) -> u64 {
    let path = format!("/proc/{}/status", house.proxy_pid());
    let text = fs::read_to_string(path).expect("the process");
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}
