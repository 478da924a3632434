//! Questions that change nothing: where a payment would go, how it goes now, and whether routing
//! does what its cases say. What is explained is what then happens, and asking leaves no trace.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use interlock_tests::house::{House, Plan, built, network_token, qr, tokens};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const QUICK: &str = "{ consecutive = 3, open_for = \"1m\" }";
const AT: [&str; 2] = ["--config", "interlock.toml"];

fn run(house: &House, arguments: &[&str]) -> (i32, String) {
    let (code, out) = house.cli_code(&[arguments, &AT].concat());
    (code.expect("it ended by itself"), out)
}

fn json_of(out: &str) -> Value {
    let line = out.lines().find(|line| line.starts_with('{')).unwrap_or("");
    serde_json::from_str(line).unwrap_or_else(|e| unreachable!("{e}: {out}"))
}

fn explained(house: &House, question: &Value) -> Value {
    let answer = house.operate("POST", "/admin/v1/explain", Some(question));
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer.json.clone()
}

/// `account: rank or reason`, in order.
fn standings(told: &Value) -> Vec<String> {
    let rows = told["candidates"].as_array().unwrap().iter();
    rows.map(|c| {
        let stands = c["reason"].as_str().map_or(c["rank"].to_string(), str::to_owned);
        format!("{}: {stands}", c["account"].as_str().unwrap())
    })
    .collect()
}

#[test]
fn what_is_explained_is_what_happens_and_asking_leaves_no_trace() {
    let house = House::with(Plan { breaker: QUICK, ..Plan::default() });
    let card = json!({ "amount": 4_900, "currency": "EUR", "method": { "type": "card" } });
    let told = explained(&house, &card);
    assert_eq!(told["route"], "cards-eu");
    assert!(told["place"].as_str().unwrap().starts_with("interlock.toml:"), "{told}");
    let keys: Vec<&Value> =
        told["matched_by"].as_array().unwrap().iter().map(|by| &by["key"]).collect();
    assert_eq!(keys, ["method", "currency"]);
    assert_eq!(standings(&told), ["checkout-eu: 1", "checkout-us: 2"]);
    let refused = told["refused"].as_array().unwrap();
    assert_eq!(
        (&refused[0]["route"], &refused[0]["by"]),
        (&json!("alipay"), &json!(["method", "currency"]))
    );
    let nobody = explained(&house, &json!({ "amount": 1, "currency": "JPY", "method": "card" }));
    assert_eq!((&nobody["route"], &nobody["candidates"]), (&Value::Null, &json!([])));
    let written = fs::read_to_string(house.dir.path().join("interlock.toml")).unwrap();
    let routes = written.matches("[[routes]]").count();
    assert_eq!(nobody["refused"].as_array().map(Vec::len), Some(routes), "{nobody:?}");
    for (bad, param) in [
        (json!({ "amount": 0, "currency": "EUR", "method": "card" }), "amount"),
        (json!({ "amount": 1, "currency": "XXQ", "method": "card" }), "currency"),
        (json!({ "amount": 1, "currency": "EUR", "method": "card", "draw": 2 }), "draw"),
        (json!({ "amount": 1, "currency": "EUR", "method": "card", "merchant": "x" }), "merchant"),
    ] {
        let answer = house.operate("POST", "/admin/v1/explain", Some(&bad));
        assert_eq!((answer.status, &answer["param"]), (422, &json!(param)), "{}", answer.json);
    }
    let unknown = json!({ "amount": 1, "currency": "EUR", "method": "card", "card": "4111" });
    assert_eq!(house.operate("POST", "/admin/v1/explain", Some(&unknown)).status, 400);
    assert_eq!((house.journalled(), house.sent()), (0, 0), "nothing was written or sent");
    assert!(house.ledger().is_empty());

    let paid = house.pay(&network_token(4_900, "EUR"));
    assert_eq!(paid["account"], "checkout-eu");
    house.fault("checkout-eu", "*", "refuse");
    // The breaker opens by what the fault does; then the account is skipped, and said to be.
    let question = json!({
        "amount": 4_900, "currency": "EUR",
        "method": { "type": "card", "credential": "account_token", "accounts": ["checkout-us"] },
    });
    assert_eq!(
        standings(&explained(&house, &question)),
        ["checkout-us: 1", "checkout-eu: no_token"]
    );
    for _ in 0..40 {
        house.pay(&network_token(4_900, "EUR"));
        if standings(&explained(&house, &card))[0] != "checkout-eu: 1" {
            break;
        }
    }
    let told = explained(&house, &card);
    assert_eq!(standings(&told), ["checkout-us: 1", "checkout-eu: breaker_open"]);
    assert_eq!(told["candidates"][1]["health"]["breaker"]["state"], "open");
    let paid = house.pay(&network_token(4_900, "EUR"));
    assert_eq!(paid["account"], "checkout-us", "as it was said");
    let deed = json!({ "reason": "incident 4411", "operator": "night shift" });
    let answer = house.operate("POST", "/admin/v1/accounts/checkout-us/drain", Some(&deed));
    assert!(answer.status == 200, "{}", answer.json);
    let (code, out) = run(&house, &["explain", "--amount", "49.00EUR", "--method", "card"]);
    assert_eq!(code, 1, "nobody would be tried: {out}");
    for words in [
        "payment    49.00 EUR · card token (network_token)",
        "route      cards-eu  matched by method=card, currency=EUR  interlock.toml:",
        "skipped: breaker_open · its breaker is open",
        "skipped: drained · drained by night shift: incident 4411",
        "not        alipay, because of method, currency",
    ] {
        assert!(out.contains(words), "`{words}` in:\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
}

#[test]
fn explain_answers_without_a_server_and_needs_no_secret() {
    let house = House::prepared(Plan::default());
    fs::remove_dir_all(house.dir.path().join("keys")).unwrap();
    let ask = |more: &[&str]| {
        run(&house, &[&["explain", "--amount", "49.00 CNY", "--method", "alipay"], more].concat())
    };
    let (code, out) = ask(&["--offline"]);
    assert_eq!(code, 0, "{out}");
    for words in ["alipay-main", "would be tried first", "alipay-backup", "as if every account"] {
        assert!(out.contains(words), "`{words}` in:\n{out}");
    }
    let (code, out) = ask(&["--offline", "--json", "--flow", "qr"]);
    assert_eq!((code, json_of(&out)["method"]["flow"].clone()), (0, json!("qr")), "{out}");
    assert_eq!(ask(&[]).0, 3, "without --offline a server is asked");
    assert_eq!(ask(&["--offline", "--country", "Germany"]).0, 1);
    assert_eq!(ask(&["--offline", "--credential", "cash"]).0, 2);
    let (code, out) = run(&house, &["explain", "--amount", "much", "--method", "card"]);
    assert_eq!(code, 2, "{out}");
    assert!(!house.dir.path().join("data").exists(), "it made nothing");
}

#[test]
fn status_is_one_screen_of_truth() {
    let house = House::with(Plan { breaker: QUICK, ..Plan::default() });
    for _ in 0..5 {
        house.pay(&network_token(4_900, "EUR"));
    }
    assert_eq!(house.pay(&qr(700))["status"], "requires_action");
    house.fault("checkout-us", "*", "refuse");
    for _ in 0..8 {
        house.pay(&tokens(4_900, "USD"));
    }
    let told = house.operate("GET", "/admin/v1/status", None);
    let account = |name: &str| -> Value {
        let accounts = told["accounts"].as_array().unwrap();
        accounts.iter().find(|a| a["name"] == name).cloned().unwrap_or_default()
    };
    let well = &account("checkout-eu")["now"];
    assert_eq!((&well["success"], &well["breaker"]["state"]), (&json!(1.0), &json!("closed")));
    assert!(well["calls"].as_u64() >= Some(5) && well["p95_ms"].as_u64() > Some(0), "{well}");
    let sick = &account("checkout-us")["now"];
    assert!(sick["failed"].as_u64() >= Some(3) && sick["success"].as_f64() < Some(0.5), "{sick}");
    assert_eq!(sick["breaker"]["state"], "open", "{sick}");
    assert_eq!(account("alipay-backup")["now"]["success"], Value::Null, "nobody called it");
    assert_eq!(told["recent"]["payments"], house.journalled());
    assert_eq!(told["recent"]["answered_in_time"], 1.0);

    let (code, out) = run(&house, &["status"]);
    assert_eq!(code, 0, "{out}");
    for words in
        ["ACCOUNT", "SUCCESS 5m", "checkout-us", "100.0 %", "└ card payments: ", "never sent"]
    {
        assert!(out.contains(words), "`{words}` in:\n{out}");
    }
    assert!(out.contains("PAYMENTS  ") && out.contains("none in doubt"), "{out}");
    assert!(out.contains("JOURNAL   writable"), "{out}");
    assert!(!out.contains('\x1b'), "no colours into a pipe: {out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert_eq!(json_of(&run(&house, &["status", "--json"]).1)["ready"], true);
    let mut house = house;
    house.stop_proxy();
    assert_eq!(run(&house, &["status"]).0, 3);
}

#[test]
fn the_shipped_routing_cases_pass_and_a_wrong_one_is_told_with_its_place() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config");
    let plugins = built("libalipay.so");
    let plugins = plugins.parent().unwrap().to_str().unwrap();
    let house = House::prepared(Plan::default());
    let test = |paths: &[&str]| run(&house, &[&["test", "--plugins", plugins], paths].concat());
    let (code, out) = test(&[config.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("0 not as expected") && !out.contains("FAIL"), "{out}");

    // A copy with a mistake of each kind.
    let folder = house.dir.path().join("cases");
    fs::create_dir(&folder).unwrap();
    for name in ["demo.toml", "demo.routes.toml"] {
        fs::copy(config.join(name), folder.join(name)).unwrap();
    }
    let cases: PathBuf = folder.join("demo.routes.toml");
    let good = fs::read_to_string(&cases).unwrap();
    let bad = good
        .replace(r#"order = ["alipay-backup"]"#, r#"order = ["alipay-main"]"#)
        .replace(r#"checkout-eu = "no_token""#, r#"checkout-eu = "currency""#)
        .replace("no_route = true", r#"route = "cards-us""#);
    assert_ne!(good, bad);
    fs::write(&cases, &bad).unwrap();
    let (code, out) = test(&["cases"]);
    assert_eq!(code, 1, "{out}");
    for words in [
        "FAIL  with the main account's breaker open, the backup carries it",
        "cases/demo.routes.toml:",
        "expected  alipay-main\n          found     alipay-backup",
        "skipped.checkout-eu\n          expected  currency\n          found     no_token",
        "expected  cards-us\n          found     none",
        "3 not as expected",
    ] {
        assert!(out.contains(words), "`{words}` in:\n{out}");
    }
    let (code, out) = test(&["--json", "cases"]);
    let told = json_of(&out);
    assert_eq!((code, &told["ok"], &told["failed"]), (1, &json!(false), &json!(3)));
    let failed = told["results"].as_array().unwrap().iter().find(|r| r["ok"] == false).unwrap();
    assert_eq!(failed["differences"][0]["found"], "alipay-backup");
    assert_eq!(test(&["--update", "cases"]).0, 0);
    let updated = fs::read_to_string(&cases).unwrap();
    assert!(updated.contains("# A case gives a payment"), "comments stay");
    assert_eq!(test(&["cases"]).0, 0, "{updated}");

    for (broken, words) in [
        (good.replace("method = \"card\"", "metod = \"card\""), "metod"),
        (good.replace("breaker.alipay-main", "breaker.alipay-mian"), "alipay-mian"),
        (good.replace("49.00 CNY", "49.001 CNY"), "2 decimal places"),
        (good.replace("\"drained\" }\npayment", "\"tired\" }\npayment"), "tired"),
    ] {
        fs::write(&cases, broken).unwrap();
        let (code, out) = test(&["cases"]);
        assert_eq!(code, 2, "{out}");
        assert!(out.contains("demo.routes.toml") && out.contains(words), "`{words}` in:\n{out}");
    }
    assert_eq!(test(&["nowhere.routes.toml"]).0, 2);
    assert_eq!(test(&["plugins"]).0, 2, "a folder without cases");
}

/// Exit codes 3 and 4, whoever answers at the admin address.
#[test]
fn being_refused_is_told_apart_from_not_being_reached() {
    let house = House::prepared(Plan::default());
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", door.local_addr().unwrap());
    let answers = ["403 Forbidden", "401 Unauthorized", "409 Conflict"];
    let guard = std::thread::spawn(move || {
        for answer in answers {
            let (mut caller, _) = door.accept().unwrap();
            let _ = caller.read(&mut [0; 4_096]).unwrap();
            let body = r#"{"title":"No","detail":"not you"}"#;
            let head = format!("HTTP/1.1 {answer}\r\nContent-Type: application/json\r\n");
            let size = body.len();
            let rest = format!("Content-Length: {size}\r\nConnection: close\r\n\r\n{body}");
            caller.write_all((head + &rest).as_bytes()).unwrap();
        }
    });
    for (answer, expected) in answers.into_iter().zip([4, 4, 1]) {
        let (code, out) = house.cli_code(&["status", "--admin", &at]);
        assert_eq!(code, Some(expected), "{answer}: {out}");
        assert!(out.contains("error: No: not you"), "{out}");
    }
    guard.join().unwrap();
    assert_eq!(house.cli_code(&["status", "--admin", &at]).0, Some(3), "nobody is there");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let house = House::prepared(Plan::default());
    for shell in ["bash", "zsh", "fish"] {
        let (code, out) = house.cli_code(&["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(out.contains("explain") && out.contains("timeline"), "{out}");
    }
    assert_eq!(house.cli_code(&["completions", "dos"]).0, Some(2));
    let (code, out) = house.cli_code(&["man"]);
    assert_eq!(code, Some(0));
    assert!(out.contains(".TH") && out.contains("interlock"), "{out}");
    assert_eq!(house.cli_code(&["man", "--out", "man"]).0, Some(0));
    for page in ["interlock.1", "interlock-explain.1", "interlock-payment-timeline.1"] {
        assert!(house.dir.path().join("man").join(page).exists(), "{page}");
    }
}

#[test]
fn a_fault_of_a_moment_leaves_the_five_minutes_and_not_the_doubt() {
    let house = House::start();
    house.fault("checkout-eu", "*", "hang");
    let answer = house.pay_within(&network_token(4_900, "EUR"), 1);
    let id = answer["id"].as_str().unwrap();
    let doubts =
        |h: &House| h.operate("GET", "/admin/v1/status", None)["in_doubt"]["payments"].clone();
    house.wait_until("it is in doubt", SOON, |h| doubts(h) == 1);
    let (_, out) = run(&house, &["status"]);
    assert!(out.contains("1 in doubt (oldest "), "{out}");
    house.lift_faults();
    house.wait_for(id, SOON, |p| p["status"] == "succeeded" || p["status"] == "failed");
    house.wait_until("the doubt is gone", SOON, |h| doubts(h) == 0);
    let told = house.operate("GET", "/admin/v1/status", None);
    let accounts = told["accounts"].as_array().unwrap();
    let hung = accounts.iter().find(|a| a["name"] == "checkout-eu").unwrap();
    assert!(hung["now"]["failed"].as_u64() >= Some(1), "{hung}");
}
