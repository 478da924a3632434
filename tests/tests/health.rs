//! Health that sees more than errors, on the real binary: a hang before its time-out, a provider
//! whose offers nobody can pay, an account that its provider restricted, a recovery by and by, and
//! what operators set by hand.

use std::fs;
use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, at_once, qr, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const BREAKER: &str = "{ minimum_calls = 20, consecutive = 5, open_for = \"1s\", probes = 3 }";

fn euros() -> Value {
    tokens(1_000, "EUR")
}

fn account(house: &House, name: &str) -> Value {
    house.operate("GET", &format!("/admin/v1/accounts/{name}"), None).json
}

fn alarms(house: &House, name: &str) -> Vec<String> {
    let shown = account(house, name);
    let alarms = shown["alarms"].as_array().expect("it is shown").iter();
    alarms.filter_map(|a| a.as_str().map(str::to_owned)).collect()
}

/// The command line against this house.
fn operator(house: &House, arguments: &[&str]) -> (bool, String) {
    let admin = ["--admin", house.admin.as_str()];
    house.cli(&[arguments, &admin].concat())
}

/// Why an account was not tried for a payment, by its timeline.
fn skipped(house: &House, payment: &Answer, name: &str) -> Option<String> {
    let id = payment["id"].as_str().expect("a payment");
    let lines = house.get(&format!("/v1/payments/{id}/timeline"));
    let lines = lines["data"].as_array().expect("a timeline").clone();
    let line = lines.iter().find(|e| e["what"] == format!("{name} skipped"))?;
    line["reason"].as_str().map(str::to_owned)
}

#[test]
fn a_hang_is_noticed_long_before_its_time_out() {
    let house = House::with(Plan {
        breaker: BREAKER,
        timeout: "6s",
        account_lines: "hang_after = \"400ms\"",
        ..Plan::default()
    });
    assert_eq!(house.pay(&euros())["account"], "checkout-eu");
    house.fault("checkout-eu", "authorize", "hang");
    let begun = Instant::now();
    let hung = std::thread::scope(|scope| {
        let hung = scope.spawn(|| at_once(5, |_| house.pay(&euros())));
        house.wait_until("the hang is noticed", SOON, |h| {
            alarms(h, "checkout-eu").contains(&"hanging".to_owned())
        });
        let next = house.pay(&euros());
        assert_eq!(next["account"], "checkout-us", "{next:?}");
        assert_eq!(skipped(&house, &next, "checkout-eu").as_deref(), Some("hanging"));
        assert!(begun.elapsed() < Duration::from_secs(5), "no time-out was needed");
        let alarm = [("account", "checkout-eu"), ("alarm", "hanging")];
        assert_eq!(house.metric("interlock_account_alarm", &alarm), 1.0);
        hung.join().expect("the five are answered")
    });
    house.lift_faults();
    for payment in &hung {
        let id = payment["id"].as_str().expect("it is accepted");
        let end = house.wait_for(id, SOON, |p| p["status"] != "processing");
        assert_eq!(end["status"], "succeeded", "{end:?}");
        assert_eq!(ledger::charges(&house.ledger(), &end.json), 1);
    }
    house.wait_until("the alarm is over", SOON, |h| alarms(h, "checkout-eu").is_empty());
}

#[test]
fn after_an_outage_traffic_comes_back_by_and_by() {
    let house = House::with(Plan {
        breaker: BREAKER,
        account_lines: "slow_start = \"10m\"",
        ..Plan::default()
    });
    house.fault("checkout-eu", "*", "refuse");
    for _ in 0..5 {
        house.pay(&euros());
    }
    house.lift_faults();
    let state = |h: &House| {
        let breakers = account(h, "checkout-eu")["breakers"].clone();
        let of = |b: &&Value| b["method"] == "card" && b["group"] == "payments";
        breakers.as_array().and_then(|b| b.iter().find(of).cloned()).expect("it is shown")
    };
    house.wait_until("the breaker has closed", SOON, |h| {
        h.pay(&euros());
        state(h)["state"] == "closed"
    });
    let answers: Vec<Answer> = (0..20).map(|_| house.pay(&euros())).collect();
    let elsewhere: Vec<&Answer> =
        answers.iter().filter(|a| a["account"] == "checkout-us").collect();
    assert!(elsewhere.len() >= 10, "about a tenth comes back at once: {}", elsewhere.len());
    assert_eq!(skipped(&house, elsewhere[0], "checkout-eu").as_deref(), Some("slow_start"));
    // Where nobody else can, a doubtful account is still tried.
    let why = json!({ "reason": "only one is left", "operator": "tests" });
    house.operate("POST", "/admin/v1/accounts/checkout-us/drain", Some(&why));
    assert_eq!(house.pay(&euros())["account"], "checkout-eu");
}

#[test]
fn no_shopper_tries_a_provider_that_does_not_answer_a_probe() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    house.fault("checkout-eu", "*", "refuse");
    for _ in 0..5 {
        house.pay(&euros());
    }
    // It is down, half-open comes and goes, and nobody is sent there any more.
    let deadline = Instant::now() + Duration::from_secs(4);
    while Instant::now() < deadline {
        let answer = house.pay(&euros());
        assert_eq!(answer["attempts"].as_array().map(Vec::len), Some(1), "{answer:?}");
        assert_eq!(answer["account"], "checkout-us");
        std::thread::sleep(Duration::from_millis(50));
    }
    let probed = house.operate("POST", "/admin/v1/accounts/checkout-eu/probe", None);
    assert_eq!((probed.status, &probed["well"]), (200, &json!(false)), "{probed:?}");
    house.lift_faults();
    let probed = house.operate("POST", "/admin/v1/accounts/checkout-eu/probe", None);
    assert_eq!((&probed["well"], &probed["http"]), (&json!(true), &json!(200)), "{probed:?}");
    house.wait_until("it is back", SOON, |h| h.pay(&euros())["account"] == "checkout-eu");
    let (ok, told) = operator(&house, &["account", "probe", "alipay-main"]);
    assert!(ok && told.contains("alipay-main is well"), "{told}");
    let (ok, told) = operator(&house, &["account", "probe", "adyen-eu"]);
    assert!(!ok && told.contains("no probe"), "{told}");
}

#[test]
fn offers_that_nobody_can_pay_put_an_account_behind() {
    let house = House::with(Plan {
        account_lines: "conversion = { window = \"2s\", mature = \"200ms\", minimum = 6 }",
        ..Plan::default()
    });
    let offers = |count: usize| -> Vec<Answer> {
        let made = at_once(count, |_| house.pay(&qr(700)));
        assert!(made.iter().all(|p| p["account"] == "alipay-main"), "{made:?}");
        made
    };
    for offer in offers(14) {
        let code = offer["next_action"]["qr_code"].as_str().expect("a code");
        house.scan("alipay-main", code, "pay");
        let id = offer["id"].as_str().expect("an id");
        house.wait_for(id, SOON, |p| p["status"] == "succeeded");
    }
    house.wait_until("what is usual here is known", SOON, |h| {
        account(h, "alipay-main")["conversion"][0]["baseline"].as_f64().is_some_and(|b| b > 0.9)
    });
    offers(8);
    house.wait_until("nobody paid", SOON, |h| {
        alarms(h, "alipay-main").contains(&"low_conversion".to_owned())
    });
    // One payment in twenty still tries it, or nobody would notice that it is well again.
    let answers: Vec<Answer> = (0..6).map(|_| house.pay(&qr(700))).collect();
    let behind: Vec<&Answer> = answers.iter().filter(|a| a["account"] == "alipay-backup").collect();
    assert!(behind.len() >= 3, "{answers:?}");
    assert_eq!(skipped(&house, behind[0], "alipay-main").as_deref(), Some("low_conversion"));
    house.wait_until("it is told", SOON, |h| h.log().contains("low_conversion"));
}

/// Without it a start would need hours until a drop can be told from what is usual.
#[test]
fn what_is_usual_and_what_is_owed_outlive_the_process() {
    let mut house = House::with(Plan {
        account_lines: "conversion = { window = \"2s\", mature = \"200ms\", minimum = 6 }",
        ..Plan::default()
    });
    let restart = |house: &mut House| {
        house.stop_proxy();
        house.start_proxy();
    };
    let scanned = |house: &House| -> String {
        let offer = house.pay(&qr(700));
        assert_eq!(offer["account"], "alipay-main", "{offer:?}");
        let code = offer["next_action"]["qr_code"].as_str().expect("a code");
        house.scan("alipay-main", code, "pay");
        offer["id"].as_str().expect("an id").to_owned()
    };
    for id in (0..14).map(|_| scanned(&house)).collect::<Vec<_>>() {
        house.wait_for(&id, SOON, |p| p["status"] == "succeeded");
    }
    let usual = |h: &House| account(h, "alipay-main")["conversion"][0]["baseline"].as_f64();
    house.wait_until("what is usual is known", SOON, |h| usual(h).is_some_and(|b| b > 0.9));
    // A payment whose notification is lost, and answers that nobody can read.
    house.fault("alipay-main", "notify", "notify_lose");
    let id = scanned(&house);
    house.wait_until("it is found paid by asking", SOON, |h| {
        h.get(&format!("/v1/payments/{id}?refresh=true"))["status"] == "succeeded"
    });
    let lag = |h: &House| account(h, "alipay-main")["notification_lag_ms"].as_u64().unwrap_or(0);
    house.wait_until("its notification is owed", SOON, |h| lag(h) > 0);
    for _ in 0..20 {
        house.pay(&euros());
    }
    house.fault("checkout-eu", "authorize", "garbage");
    for _ in 0..4 {
        house.pay(&euros());
    }
    assert_eq!(alarms(&house, "checkout-eu"), ["contract_drift"]);
    house.lift_faults();

    let owed = lag(&house);
    restart(&mut house);
    assert!(usual(&house).is_some_and(|b| b > 0.9), "{}", account(&house, "alipay-main"));
    assert!(lag(&house) >= owed, "{}", account(&house, "alipay-main"));
    assert_eq!(alarms(&house, "checkout-eu"), ["contract_drift"]);

    // The drop is one at once, and stays one.
    at_once(8, |_| house.pay(&qr(700)));
    let is_low = |h: &House| alarms(h, "alipay-main").contains(&"low_conversion".to_owned());
    house.wait_until("nobody paid", SOON, is_low);
    restart(&mut house);
    assert!(is_low(&house), "{}", account(&house, "alipay-main"));

    // A process that dies has kept it before.
    house.kill_proxy();
    house.start_proxy();
    assert!(is_low(&house) && usual(&house).is_some_and(|b| b > 0.9));
}

#[test]
fn a_restricted_account_is_drained_until_an_operator_says_so() {
    let mut house = House::prepared(Plan::default());
    let file = house.dir.path().join("interlock.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    let table = text.find("[accounts.checkout-eu]").expect("the account");
    let (before, after) = text.split_at(table);
    let after = after.replacen("secret_key = \"", "secret_key = \"revoked_", 1);
    fs::write(&file, format!("{before}{after}")).expect("written");
    house.start_proxy();
    let first = house.pay_within(&euros(), 1);
    house.wait_until("it is drained", SOON, |h| alarms(h, "checkout-eu") == ["account_restricted"]);
    let next = house.pay(&euros());
    assert_eq!(skipped(&house, &next, "checkout-eu").as_deref(), Some("drained"));
    assert_eq!(next["account"], "checkout-us");
    assert!(house.log().contains("drained until an operator resumes it"));
    // It stays so after a restart, and until somebody says so.
    std::thread::sleep(Duration::from_millis(600));
    house.stop_proxy();
    house.start_proxy();
    assert_eq!(account(&house, "checkout-eu")["drained"]["reason"], "account_restricted");
    let (ok, told) = operator(
        &house,
        &["account", "resume", "checkout-eu", "--reason", "the key is back", "--operator", "tests"],
    );
    assert!(ok && told.contains("it serves"), "{told}");
    assert!(alarms(&house, "checkout-eu").is_empty());
    assert!(first["id"].is_string());
}

#[test]
fn what_operators_set_by_hand_has_a_reason_an_end_and_a_trail() {
    let mut house = House::start();
    let no_reason = json!({ "reason": " ", "operator": "tests" });
    let refused = house.operate("POST", "/admin/v1/accounts/checkout-eu/drain", Some(&no_reason));
    assert_eq!((refused.status, &refused["param"]), (422, &json!("reason")), "{refused:?}");
    let refused = house.operate("POST", "/admin/v1/accounts/checkout-eu/drain", None);
    assert_eq!((refused.status, &refused["code"]), (400, &json!("invalid_request")));
    let of_method = json!({ "reason": "x", "operator": "tests", "method": "cash" });
    let refused = house.operate("POST", "/admin/v1/accounts/checkout-eu/trip", Some(&of_method));
    assert_eq!((refused.status, &refused["param"]), (422, &json!("method")), "{refused:?}");

    let (ok, told) = operator(
        &house,
        &[
            "account",
            "drain",
            "checkout-eu",
            "--for",
            "1h",
            "--reason",
            "incident 4411",
            "--operator",
            "ada",
        ],
    );
    assert!(ok && told.contains("takes no new payments until 20"), "{told}");
    assert!(told.contains("Undo: interlock account resume checkout-eu"), "{told}");
    let (ok, told) = operator(
        &house,
        &[
            "account",
            "trip",
            "checkout-us",
            "--for",
            "2s",
            "--method",
            "card",
            "--group",
            "payments",
            "--reason",
            "a test of the runbook",
            "--operator",
            "ada",
        ],
    );
    assert!(ok && told.contains("1 breakers are held open until 20"), "{told}");
    let refused = house.pay(&euros());
    assert_eq!(
        refused["accounts"],
        json!({ "checkout-eu": "drained", "checkout-us": "tripped" }),
        "{refused:?}"
    );
    // What has no end outlives the process; what has one ends by itself.
    house.stop_proxy();
    house.start_proxy();
    assert_eq!(account(&house, "checkout-eu")["drained"]["reason"], "incident 4411");
    house.wait_until("the trip has ended", SOON, |h| {
        account(h, "checkout-us")["trips"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(house.pay(&euros())["account"], "checkout-us");
    let (ok, told) = operator(
        &house,
        &["account", "resume", "checkout-eu", "--reason", "it is over", "--operator", "ada"],
    );
    assert!(ok, "{told}");
    assert_eq!(house.pay(&euros())["account"], "checkout-eu");
    let (ok, told) = operator(&house, &["account", "audit"]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(ok && lines.len() == 3, "{told}");
    assert!(lines[0].contains("resume") && lines[0].contains("it is over"), "{told}");
    assert!(lines[2].contains("drain") && lines[2].contains("incident 4411"), "{told}");
    let (ok, told) = operator(&house, &["account", "list"]);
    assert!(ok && told.contains("checkout-eu"), "{told}");
}

#[test]
fn announced_maintenance_comes_back_every_week() {
    let lines = "maintenance = [{ every = \"day\", at = \"00:00\", for = \"24h\", \
                 zone = \"Asia/Shanghai\", reason = \"the bank sleeps\" }]";
    let house = House::with(Plan { account_lines: lines, ..Plan::default() });
    let refused = house.pay(&euros());
    assert_eq!(
        refused["accounts"],
        json!({ "checkout-eu": "maintenance", "checkout-us": "maintenance" }),
        "{refused:?}"
    );
    let shown = account(&house, "checkout-eu");
    assert_eq!(shown["reason"], "maintenance");
    assert!(shown["maintenance_until"].is_string());
    assert_eq!(house.operate("GET", "/readyz", None).status, 200);
}

#[test]
fn too_many_requests_halve_the_pace() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    assert_eq!(account(&house, "checkout-eu")["pace"], 1.0);
    house.fault("checkout-eu", "authorize", "rate_limited");
    house.pay(&euros());
    let shown = account(&house, "checkout-eu");
    assert_eq!(shown["pace"], 0.5, "{shown}");
    assert!(shown["paused_ms"].as_u64().is_some_and(|ms| ms > 0), "{shown}");
    let limited =
        house.metric("interlock_limited_total", &[("scope", "provider"), ("name", "checkout-eu")]);
    assert_eq!(limited, 1.0);
}
