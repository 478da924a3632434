//! The command line, the probes and the metrics, as an operator at 3 a.m. meets them: what is
//! true, what is unknown, and what may safely be done next.
//!
//! Exit codes: 0 done · 1 the answer is "no" · 2 wrong usage · 3 the server can't be reached.

use std::fs;
use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, barcode, fresh, qr, tokens};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// The names of UX.md section 5, with a label that each must have. Those of the webhooks that we
/// send and of reloading come with these.
const METRICS: [(&str, &str); 19] = [
    ("interlock_payments_total", "route"),
    ("interlock_payments_total", "status"),
    ("interlock_payment_duration_seconds_count", "route"),
    ("interlock_attempts_total", "account"),
    ("interlock_attempts_total", "outcome"),
    ("interlock_attempt_duration_seconds_count", "account"),
    ("interlock_failovers_total", "reason"),
    ("interlock_skips_total", "reason"),
    ("interlock_breaker_state", "state"),
    ("interlock_breaker_trips_total", "reason"),
    ("interlock_limited_total", "scope"),
    ("interlock_in_flight", "account"),
    ("interlock_in_doubt", "account"),
    ("interlock_in_doubt_oldest_seconds", ""),
    ("interlock_in_doubt_amount", "currency"),
    ("interlock_journal_sync_seconds_count", ""),
    ("interlock_journal_bytes", ""),
    ("interlock_plugin_info", "abi"),
    ("interlock_build_info", "version"),
];

fn run(house: &House, arguments: &[&str]) -> (i32, String) {
    let (code, out) = house.cli_code(arguments);
    (code.expect("it ended by itself"), out)
}

fn json_of(out: &str) -> Value {
    let line = out.lines().find(|line| line.starts_with('{')).unwrap_or("");
    serde_json::from_str(line).unwrap_or_else(|e| unreachable!("{e}: {out}"))
}

/// A change of the house's configuration; the old text is given back.
fn edit(house: &House, from: &str, to: &str) -> String {
    let path = house.dir.path().join("interlock.toml");
    let before = fs::read_to_string(&path).expect("a configuration");
    assert!(before.contains(from), "{from} is in the configuration");
    fs::write(&path, before.replacen(from, to, 1)).expect("written");
    before
}

fn put_back(house: &House, text: &str) {
    fs::write(house.dir.path().join("interlock.toml"), text).expect("written");
}

/// A payment in doubt that nothing but an operator ends.
fn doubtful(house: &House) -> Answer {
    house.fault("checkout-eu", "authorize", "hang");
    house.fault("checkout-eu", "inquire", "error_before");
    let key = fresh("doubt");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
    let url = format!("{}/v1/payments", house.api);
    let body = tokens(4_900, "EUR").to_string();
    let answer = house.send("POST", &url, &headers, Some(body.as_bytes()));
    let id = answer["id"].as_str().expect("an id");
    house.wait_for(id, SOON, |p| p["status_reason"] == "provider_outcome_unknown")
}

#[test]
fn check_says_whether_a_configuration_is_safe_to_run() {
    let house = House::prepared(Plan::default());
    let check = ["check", "--config", "interlock.toml"];
    let (code, out) = run(&house, &check);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("check  0 errors, "), "{out}");
    let (code, out) = run(&house, &[&check[..], &["--json"]].concat());
    let told = json_of(&out);
    assert_eq!((code, &told["ok"], &told["errors"]), (0, &json!(true), &json!(0)), "{out}");
    let warnings = told["warnings"].as_u64().unwrap();
    assert!(warnings > 0, "strengthened contracts are worth a warning each: {out}");
    assert_eq!(told["findings"].as_array().map(Vec::len), Some(warnings as usize));
    assert_eq!(run(&house, &[&check[..], &["--strict"]].concat()).0, 1);
    assert!(!house.dir.path().join("data").exists(), "it starts nothing");

    for (from, to, code, words) in [
        (
            "candidates = [\"alipay-main\", \"alipay-backup\"]",
            "candidates = [\"alipay-mian\", \"alipay-backup\"]",
            "C014",
            &["alipay-mian", "did you mean `alipay-main`?", "^^^"][..],
        ),
        ("drain = \"20s\"", "drian = \"20s\"", "C003", &["drian", "`drain`", "^^^^^"]),
        ("workers = 2", "workers = \"two\"", "C005", &["workers", "^"]),
        ("late_window = \"1s\"", "late_window = \"1 fortnight\"", "", &["late_window", "^"]),
        ("api_key = \"test_key_1\"", "", "C004", &["api_key"]),
        ("plugin = \"checkout\"", "plugin = \"chekout\"", "", &["chekout", "^"]),
        ("[[routes]]", "[[routes", "", &["interlock.toml:"]),
    ] {
        let before = edit(&house, from, to);
        let (exit, out) = run(&house, &check);
        assert_eq!(exit, 1, "{to}: {out}");
        assert!(out.contains("error[C") && out.contains(code), "{to}: {out}");
        assert!(out.contains("--> interlock.toml:"), "the place: {out}");
        for word in words {
            assert!(out.contains(word), "`{word}` in: {out}");
        }
        let (exit, out) = run(&house, &[&check[..], &["--json"]].concat());
        let told = json_of(&out);
        assert_eq!((exit, &told["ok"]), (1, &json!(false)), "{out}");
        let findings = told["findings"].as_array().unwrap();
        let first = findings.iter().find(|f| f["severity"] == "error").unwrap();
        assert!(first["code"].as_str().unwrap().starts_with('C'), "{first}");
        assert!(first["message"].is_string() && first["line"].as_u64().unwrap() > 0, "{first}");
        // What can't be read does not run; an account without its plugin is only left out.
        if !to.starts_with("plugin") {
            let (exit, out) = run(&house, &["run", "--config", "interlock.toml"]);
            assert_eq!(exit, 1, "{out}");
        }
        put_back(&house, &before);
    }
    let (exit, out) = run(&house, &["check", "--config", "nowhere.toml"]);
    assert_eq!(exit, 1, "{out}");
    assert!(out.contains("nowhere.toml"), "{out}");
}

#[test]
fn the_program_tells_its_version_and_refuses_wrong_usage() {
    let house = House::prepared(Plan::default());
    let (code, out) = run(&house, &["version"]);
    assert_eq!(
        (code, out.trim()),
        (0, format!("interlock {}", env!("CARGO_PKG_VERSION")).as_str())
    );
    let told = json_of(&run(&house, &["version", "--json"]).1);
    assert_eq!(told, json!({ "name": "interlock", "version": env!("CARGO_PKG_VERSION") }));
    assert_eq!(run(&house, &["--version"]).0, 0);
    assert_eq!(run(&house, &["--help"]).0, 0);
    for wrong in [
        &[][..],
        &["explode"],
        &["payment"],
        &["payment", "show"],
        &["check", "--colour"],
        &["payment", "list", "--limit", "many"],
        &["plugin", "eat"],
    ] {
        assert_eq!(run(&house, wrong).0, 2, "{wrong:?}");
    }
}

#[test]
fn payments_are_shown_told_and_listed() {
    let house = House::start();
    let at = ["--config", "interlock.toml"];
    let ask = |arguments: &[&str]| run(&house, &[arguments, &at].concat());
    let (code, out) = ask(&["payment", "list"]);
    assert_eq!((code, out.contains("no payments")), (0, true), "{out}");
    let mut body = tokens(4_900, "EUR");
    body["merchant_ref"] = "ord-7781".into();
    let paid = house.pay(&body);
    let declined = house.pay(&barcode(700, "04"));
    let (id, other) = (paid["id"].as_str().unwrap(), declined["id"].as_str().unwrap());

    let (code, out) = ask(&["payment", "show", id]);
    assert_eq!(code, 0, "{out}");
    for word in [
        id,
        "succeeded",
        "4900",
        "EUR",
        "checkout-eu",
        "ord-7781",
        "cards-eu",
        paid["attempts"][0]["op_id"].as_str().unwrap(),
        paid["provider_ref"].as_str().unwrap(),
    ] {
        assert!(out.contains(word), "`{word}` in: {out}");
    }
    let told = json_of(&ask(&["payment", "show", id, "--json"]).1);
    assert_eq!((&told["id"], &told["in_doubt"]), (&paid["id"], &json!(false)));

    let (code, out) = ask(&["payment", "timeline", id]);
    assert_eq!(code, 0, "{out}");
    let places: Vec<Option<usize>> =
        ["asked for 4900 EUR", "route cards-eu to checkout-eu", "paid", "payment succeeded"]
            .iter()
            .map(|what| out.find(what))
            .collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{out}");
    let told = json_of(&ask(&["payment", "timeline", id, "--json"]).1);
    let api = house.get(&format!("/v1/payments/{id}/timeline"));
    assert_eq!(told["data"], api["data"], "one timeline for everybody");

    let listed = |arguments: &[&str]| -> Vec<String> {
        let (code, out) = ask(&[&["payment", "list", "--json"], arguments].concat());
        assert_eq!(code, 0, "{out}");
        let told = json_of(&out);
        let rows = told["data"].as_array().unwrap().iter();
        rows.map(|p| p["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&[]), [other, id], "newest first");
    assert_eq!(listed(&["--limit", "1"]), [other]);
    assert_eq!(listed(&["--status", "succeeded"]), [id]);
    assert_eq!(listed(&["--account", "alipay-main"]), [other]);
    assert_eq!(listed(&["--merchant-ref", "ord-7781"]), [id]);
    assert!(listed(&["--in-doubt"]).is_empty());
    let (_, out) = ask(&["payment", "list"]);
    assert!(out.contains(id) && out.contains(other), "{out}");

    for verb in ["show", "timeline", "recheck"] {
        let unknown = "pay_00000000000000000000000000";
        let (code, out) = ask(&["payment", verb, unknown]);
        assert_eq!(code, 1, "{verb}: {out}");
        assert!(out.contains("error: Not found"), "{out}");
        let (code, out) = ask(&["payment", verb, unknown, "--json"]);
        assert_eq!((code, &json_of(&out)["code"]), (1, &json!("not_found")), "{out}");
    }
}

#[test]
fn a_payment_in_doubt_is_listed_asked_about_and_resolved_with_evidence() {
    let house = House::start();
    let at = ["--config", "interlock.toml"];
    let ask = |arguments: &[&str]| run(&house, &[arguments, &at].concat());
    let doubt = doubtful(&house);
    let id = doubt["id"].as_str().unwrap();
    let (code, out) = ask(&["payment", "list", "--in-doubt"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(id) && out.contains("provider_outcome_unknown"), "{out}");
    let (_, out) = ask(&["payment", "show", id]);
    assert!(out.contains("in doubt") && out.contains("another account is not tried"), "{out}");

    let before = house.requests("checkout-eu").len();
    let (code, out) = ask(&["payment", "recheck", id]);
    assert_eq!((code, out.contains("the provider is being asked")), (0, true), "{out}");
    house.wait_until("it was asked", SOON, |h| h.requests("checkout-eu").len() > before);
    assert_eq!(house.payment(id)["status"], "processing", "and no answer is no answer");

    let resolve = ["payment", "resolve", id, "--operator", "night shift"];
    let with = |more: &[&str]| ask(&[&resolve[..], more].concat());
    // Usage: an outcome, a reason.
    assert_eq!(with(&["--outcome", "failed"]).0, 2, "without a reason");
    assert_eq!(with(&["--reason", "dashboard"]).0, 2, "without an outcome");
    assert_eq!(with(&["--outcome", "perhaps", "--reason", "x"]).0, 2);
    // Evidence: the provider's number when the money moved, and words that say something.
    let (code, out) = with(&["--outcome", "succeeded", "--reason", "seen in the dashboard"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("provider's number"), "{out}");
    let (code, out) = with(&["--outcome", "failed", "--reason", "  "]);
    assert_eq!(code, 1, "{out}");
    assert_eq!(house.payment(id)["status"], "processing", "nothing was resolved");

    let (code, out) = with(&[
        "--outcome",
        "succeeded",
        "--reason",
        "seen in the dashboard",
        "--provider-ref",
        "pay_theirs4711",
        "--json",
    ]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(json_of(&out)["status"], "succeeded", "{out}");
    let now = house.payment(id);
    assert_eq!(
        (&now["status"], &now["provider_ref"]),
        (&json!("succeeded"), &json!("pay_theirs4711")),
        "{now:?}"
    );
    let (_, out) = ask(&["payment", "timeline", id]);
    assert!(out.contains("operator night shift") && out.contains("seen in the dashboard"), "{out}");
    let (code, out) = with(&["--outcome", "failed", "--reason", "changed my mind"]);
    assert_eq!((code, out.contains("nothing of this payment is in doubt")), (1, true), "{out}");

    // And one that was not executed.
    let doubt = doubtful(&house);
    let id = doubt["id"].as_str().unwrap();
    let (code, out) = ask(&[
        "payment",
        "resolve",
        id,
        "--operator",
        "night shift",
        "--outcome",
        "failed",
        "--reason",
        "no such payment at the provider",
    ]);
    assert_eq!(code, 0, "{out}");
    let end = house.wait_for(id, SOON, |p| p["status"] != "processing");
    assert_eq!(end["status"], "failed", "an operator's word starts no other account: {end:?}");
    assert!(house.ledger().is_empty());
}

#[test]
fn without_a_server_the_command_line_says_so() {
    let house = House::prepared(Plan::default());
    for command in [
        &["payment", "list"][..],
        &["payment", "show", "pay_x"],
        &["payment", "timeline", "pay_x"],
        &["payment", "recheck", "pay_x"],
        &["payment", "resolve", "pay_x", "--outcome", "failed", "--reason", "x", "--operator", "y"],
    ] {
        let (code, out) = run(&house, &[command, &["--config", "interlock.toml"]].concat());
        assert_eq!(code, 3, "{command:?}: {out}");
        assert!(out.contains("can't be reached"), "{out}");
        let (code, _) = run(&house, &[command, &["--admin", "http://127.0.0.1:9"]].concat());
        assert_eq!(code, 3, "{command:?}");
    }
}

#[test]
fn plugins_are_pinned_listed_and_inspected() {
    let house = House::prepared(Plan::default());
    let at = ["--config", "interlock.toml"];
    let ask = |arguments: &[&str]| run(&house, &[arguments, &at].concat());
    let (code, out) = ask(&["plugin", "list"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("alipay") && out.contains("checkout"), "{out}");
    assert!(!out.contains("not pinned"), "{out}");
    let told = json_of(&ask(&["plugin", "list", "--json"]).1);
    let rows = told["plugins"].as_array().unwrap();
    assert!(rows.len() == 6 && rows.iter().all(|r| r["state"] == "pinned"), "{told}");
    // Pinning again changes nothing.
    let lock = fs::read(house.dir.path().join("plugins.lock")).unwrap();
    let told = json_of(&ask(&["plugin", "pin", "--json"]).1);
    assert_eq!(told, json!({ "changes": [], "pinned": 6 }));
    assert_eq!(fs::read(house.dir.path().join("plugins.lock")).unwrap(), lock);
    // A file that is no longer the pinned one.
    let file = house.dir.path().join("plugins/libalipay.so");
    let good = fs::read(&file).unwrap();
    fs::write(&file, [&good[..], b"x"].concat()).unwrap();
    let told = json_of(&ask(&["plugin", "list", "--json"]).1);
    let row = told["plugins"].as_array().unwrap().iter().find(|r| r["file"] == "libalipay.so");
    assert_ne!(row.unwrap()["state"], "pinned", "{told}");
    let (code, out) = ask(&["check"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("libalipay.so"), "the file is named: {out}");
    fs::write(&file, &good).unwrap();
    assert_eq!(ask(&["check"]).0, 0);

    let path = "plugins/libcheckout.so";
    let (code, out) = run(&house, &["plugin", "inspect", path]);
    assert_eq!(code, 0, "{out}");
    for word in ["sha256", "abi", "checkout", "offers", "may move money", "inquiry"] {
        assert!(out.contains(word), "`{word}` in: {out}");
    }
    let told = json_of(&run(&house, &["plugin", "inspect", path, "--json"]).1);
    assert_eq!(told["manifest"]["id"], "checkout", "{told}");
    assert_eq!(told["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(run(&house, &["plugin", "inspect", "plugins/nothing.so"]).0, 1);
    assert_eq!(run(&house, &["plugin", "inspect", "interlock.toml"]).0, 1);
}

#[test]
fn probes_and_metrics_tell_the_truth_while_providers_are_down() {
    let house = House::with(Plan {
        merchant_lines: "limit = \"20/s burst 60\"",
        breaker: "{ minimum_calls = 20, consecutive = 5, open_for = \"60s\" }",
        ..Plan::default()
    });
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(house.operate("GET", probe, None).status, 200, "{probe}");
    }
    // Payments of every end, a failover, a doubt, a breaker that opens, a limit.
    let order = fresh("order");
    let mut body = tokens(4_900, "EUR");
    body["merchant_ref"] = order.as_str().into();
    let mut ids = vec![house.pay(&body), house.pay(&barcode(700, "04")), house.pay(&qr(100))];
    let refund = json!({ "payment": house.pay(&barcode(700, "01"))["id"], "amount": 100 });
    ids.push(house.post("/v1/refunds", &fresh("refund"), &refund));
    ids.push(doubtful(&house));
    for account in ["alipay-main", "alipay-backup", "checkout-eu", "checkout-us"] {
        house.fault(account, "*", "refuse");
    }
    for _ in 0..7 {
        house.pay(&tokens(100, "USD"));
    }
    house.wait_until("the limit is reached", SOON, |h| h.get("/v1/payments?limit=1").status == 429);
    for probe in ["/livez", "/readyz", "/startupz"] {
        let answer = house.operate("GET", probe, None);
        assert_eq!(answer.status, 200, "a sick provider never makes the proxy unready: {probe}");
    }
    let text = house.metrics();
    for (name, label) in METRICS {
        let ours = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && (label.is_empty() || line.contains(&format!("{label}=\"")))
        };
        assert!(text.lines().any(|line| ours(&line)), "`{name}` with `{label}` in:\n{text}");
    }
    for name in ["interlock_plugin_panics_total", "interlock_config_generation"] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    assert!(house.metric("interlock_in_doubt", &[("account", "checkout-eu")]) >= 1.0);
    assert!(house.metric("interlock_in_doubt_amount", &[("currency", "EUR")]) >= 4_900.0);
    assert!(house.metric("interlock_breaker_trips_total", &[("account", "checkout-us")]) >= 1.0);
    // Bounded labels: no number of a payment, order, key or provider.
    for answer in &ids {
        for value in [&answer["id"], &answer["provider_ref"], &answer["attempts"][0]["op_id"]] {
            if let Some(value) = value.as_str() {
                assert!(!text.contains(value), "{value} in a metric");
            }
        }
    }
    assert!(!text.contains(&order) && !text.contains("pay_") && !text.contains("ref_"), "{text}");
    for line in text.lines().filter(|line| !line.is_empty()) {
        let value = line.rsplit(' ').next().unwrap();
        let sample = value.parse::<f64>().is_ok();
        assert!(line.starts_with("# HELP ") || line.starts_with("# TYPE ") || sample, "{line}");
    }
    let types = text.lines().filter(|line| line.starts_with("# TYPE "));
    for line in types {
        let name = line.split(' ').nth(2).unwrap();
        let counter = line.ends_with(" counter");
        assert_eq!(name.ends_with("_total"), counter, "{line}");
    }
}

#[test]
fn every_value_of_a_configuration_says_what_it_means() {
    let house = House::prepared(Plan::default());
    let show = ["config", "show", "--explain", "--config", "interlock.toml"];
    let (done, told) = house.cli(&show);
    assert!(done, "{told}");
    let lines: Vec<&str> = told.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("server.drain ")).expect("it is shown");
    assert!(lines[at - 1].starts_with("# How long a shutdown waits"), "{told}");
    assert!(!told.contains("test_key_1"), "a secret is only named");
    let (done, told) = house.cli(&[&show[..], &["--json"]].concat());
    let values: Value = serde_json::from_str(&told).expect("JSON");
    let values = values["values"].as_array().expect("values").clone();
    assert!(done && values.len() > 50 && values.iter().all(|v| v["meaning"].is_string()), "{told}");
}
