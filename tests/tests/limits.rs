//! Limits and breakers under real traffic: what is over a limit goes to the next account or is
//! told when to come back, and a sick account is left alone without being forgotten.
//!
//! How many requests an account received is read at the sandbox.

use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, at_once, barcode, fresh, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const BREAKER: &str = "{ minimum_calls = 20, consecutive = 5, open_for = \"2s\", probes = 3 }";

fn euros() -> Value {
    tokens(1_000, "EUR")
}

fn authorizations(house: &House, account: &str) -> usize {
    house.requests(account).iter().filter(|r| r["operation"] == "authorize").count()
}

fn skips(house: &House, account: &str, reason: &str) -> f64 {
    house.metric("interlock_skips_total", &[("account", account), ("reason", reason)])
}

/// The breaker of card payments at an account, as operators see it.
fn breaker(house: &House, account: &str) -> Value {
    let accounts = house.operate("GET", "/admin/v1/accounts", None);
    let account =
        accounts["accounts"].as_array().expect("it is shown").iter().find(|a| a["name"] == account);
    let breakers = account.expect("it is shown")["breakers"].as_array().expect("it is shown");
    let wanted = |b: &&Value| b["method"] == "card" && b["group"] == "payments";
    breakers.iter().find(wanted).expect("it is shown").clone()
}

/// What happened at the account of each answer, by account.
fn by_account(answers: &[Answer], account: &str) -> usize {
    answers.iter().filter(|a| a.status == 201 && a["account"] == account).count()
}

#[test]
fn a_merchant_over_its_limit_is_told_when_to_come_back() {
    let house = House::with(Plan { merchant_lines: "limit = \"4/s burst 8\"", ..Plan::default() });
    let keys: Vec<String> = (0..24).map(|_| fresh("limit")).collect();
    let answers = at_once(24, |n| house.pay_with_key(&keys[n], &euros()));
    let limited: Vec<usize> = (0..24).filter(|n| answers[*n].status == 429).collect();
    assert!(!limited.is_empty() && limited.len() <= 16, "{} of 24", limited.len());
    for n in &limited {
        let answer = &answers[*n];
        assert_eq!(answer["code"], "rate_limited", "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let seconds = answer.header("retry-after").and_then(|s| s.parse::<u64>().ok());
        let seconds = seconds.expect("Retry-After in seconds");
        assert_eq!(answer["retry"], format!("after:{seconds}"));
        assert!((1..=5).contains(&seconds), "{seconds}");
    }
    assert_eq!(house.journalled(), 24 - limited.len() as u64, "nothing journalled for the others");
    let counted =
        house.metric("interlock_limited_total", &[("scope", "merchant"), ("name", "test")]);
    assert_eq!(counted, limited.len() as f64);
    // The other merchant is not concerned.
    let url = format!("{}/v1/payments", house.api);
    for _ in 0..30 {
        let headers = [("Authorization", "Bearer other_key_2")];
        assert_eq!(house.send("GET", &url, &headers, None).status, 200);
    }
    // The key was not used up: the same request passes once there is room.
    let key = &keys[limited[0]];
    house.wait_until("there is room again", SOON, |h| {
        let answer = h.pay_with_key(key, &euros());
        assert!(answer.status == 201 || answer.status == 429, "{answer:?}");
        answer.status == 201
    });
}

#[test]
fn an_account_over_its_limit_spills_to_the_next() {
    let house = House::with(Plan { account_lines: "limit = \"1/s burst 3\"", ..Plan::default() });
    let answers = at_once(12, |_| house.pay(&euros()));
    let (eu, us) = (by_account(&answers, "checkout-eu"), by_account(&answers, "checkout-us"));
    assert!((3..=5).contains(&eu) && (3..=5).contains(&us), "{eu} and {us}");
    assert_eq!(
        (authorizations(&house, "checkout-eu"), authorizations(&house, "checkout-us")),
        (eu, us)
    );
    let refused: Vec<&Answer> = answers.iter().filter(|a| a.status == 503).collect();
    assert_eq!(refused.len(), 12 - eu - us, "{answers:?}");
    for answer in &refused {
        assert_eq!(answer["code"], "no_account_available");
        assert_eq!(answer["retry"], "same_key");
        assert_eq!(
            answer["accounts"],
            json!({
                "checkout-eu": "rate_limited", "checkout-us": "rate_limited",
            })
        );
    }
    assert_eq!(house.journalled(), (eu + us) as u64);
    let spilled = answers.iter().find(|a| a["account"] == "checkout-us").unwrap();
    let lines = house.get(&format!("/v1/payments/{}/timeline", spilled["id"].as_str().unwrap()));
    assert!(
        lines["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|e| { e["what"] == "checkout-eu skipped" && e["reason"] == "rate_limited" }),
        "{:#}",
        lines.json
    );
    let expected = (us + refused.len()) as f64;
    assert_eq!(skips(&house, "checkout-eu", "rate_limited"), expected);
    assert_eq!(skips(&house, "checkout-us", "rate_limited"), refused.len() as f64);
}

#[test]
fn an_account_with_all_places_taken_spills_to_the_next() {
    let house = House::with(Plan { account_lines: "in_flight = 2", ..Plan::default() });
    for account in ["checkout-eu", "checkout-us"] {
        house.fault_with(json!({
            "account": account, "operation": "authorize", "fault": "slow", "ms": 900,
        }));
    }
    let answers = at_once(6, |_| house.pay(&euros()));
    assert_eq!(by_account(&answers, "checkout-eu"), 2, "{answers:?}");
    assert_eq!(by_account(&answers, "checkout-us"), 2, "{answers:?}");
    let refused: Vec<&Answer> = answers.iter().filter(|a| a.status == 503).collect();
    assert_eq!(refused.len(), 2, "{answers:?}");
    for answer in &refused {
        assert_eq!(
            answer["accounts"],
            json!({
                "checkout-eu": "in_flight", "checkout-us": "in_flight",
            })
        );
    }
    assert_eq!(house.journalled(), 4);
    assert_eq!(skips(&house, "checkout-eu", "in_flight"), 4.0);
    assert_eq!(skips(&house, "checkout-us", "in_flight"), 2.0);
    // The places are free again.
    house.lift_faults();
    let busy = [("account", "checkout-eu")];
    house.wait_until("the last answers came", SOON, |h| {
        h.metric("interlock_in_flight", &busy) == 0.0
    });
    let after = house.pay(&euros());
    assert_eq!(after["account"], "checkout-eu", "{after:?}");
}

#[test]
fn declines_never_open_a_breaker() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    for (n, code) in ["20005", "20051", "20059"].iter().cycle().take(45).enumerate() {
        let mut body = euros();
        for account in ["checkout-eu", "checkout-us"] {
            body["method"]["tokens"][account] = format!("src_{n}_decline_{code}").into();
        }
        let answer = house.pay(&body);
        assert_eq!((answer.status, &answer["status"]), (201, &json!("failed")), "{answer:?}");
    }
    for account in ["checkout-eu", "checkout-us"] {
        let state = breaker(&house, account);
        assert_eq!((&state["state"], &state["trips"]), (&json!("closed"), &json!(0)), "{state}");
        assert_eq!(state["failed"], 0, "a decline is a working provider: {state}");
    }
    assert_eq!(house.metric("interlock_breaker_trips_total", &[]), 0.0);
    assert_eq!(house.pay(&euros())["account"], "checkout-eu");
}

#[test]
fn a_breaker_opens_on_faults_is_left_alone_and_probed_by_few() {
    let account_lines = "slow_start = \"0s\"";
    let house = House::with(Plan { breaker: BREAKER, account_lines, ..Plan::default() });
    // Nothing of these reaches the provider, so each is paid at the other account at once.
    house.fault("checkout-eu", "*", "refuse");
    for _ in 0..5 {
        let answer = house.pay(&euros());
        assert_eq!(answer["status"], "succeeded", "{answer:?}");
        assert_eq!(answer["account"], "checkout-us", "{answer:?}");
        assert_eq!(answer["attempts"][0]["account"], "checkout-eu", "{answer:?}");
    }
    let state = breaker(&house, "checkout-eu");
    assert_eq!(state["state"], "open", "{state}");
    assert!(state["reason"].is_string(), "a named reason: {state}");
    let trips = house.metric("interlock_breaker_trips_total", &[("account", "checkout-eu")]);
    assert_eq!(trips, 1.0);
    let open = [("account", "checkout-eu"), ("method", "card"), ("state", "open")];
    assert!(house.metric("interlock_breaker_state", &open) >= 1.0);

    // The account is well again, answers slowly, and is left alone while the breaker is open.
    house.lift_faults();
    house.fault_with(json!({
        "account": "checkout-eu", "operation": "authorize", "fault": "slow", "ms": 800,
    }));
    let mut skipped = 0;
    while breaker(&house, "checkout-eu")["state"] == "open"
        && breaker(&house, "checkout-eu")["retry_after_ms"].as_u64().unwrap_or(0) > 300
    {
        let answer = house.pay(&euros());
        assert_eq!(
            (&answer["status"], &answer["account"]),
            (&json!("succeeded"), &json!("checkout-us"))
        );
        assert_eq!(answer["attempts"].as_array().map(Vec::len), Some(1), "{answer:?}");
        skipped += 1;
    }
    assert!(skipped > 0);
    assert_eq!(authorizations(&house, "checkout-eu"), 0, "nothing is sent while it is open");
    assert_eq!(skips(&house, "checkout-eu", "breaker_open"), f64::from(skipped));

    // Half-open: forty at once, three of them probe.
    house.wait_until("the breaker may be probed", SOON, |h| {
        let state = breaker(h, "checkout-eu");
        state["state"] != "open" || state["retry_after_ms"].as_u64().unwrap_or(0) == 0
    });
    // First a probe of its own must find it well.
    std::thread::sleep(Duration::from_millis(800));
    let answers = at_once(40, |_| house.pay(&euros()));
    assert!(answers.iter().all(|a| a["status"] == "succeeded"), "{answers:?}");
    let probes = by_account(&answers, "checkout-eu");
    assert_eq!(probes, 3, "half-open admits its permits and no more");
    assert_eq!(authorizations(&house, "checkout-eu"), 3);
    assert_eq!(by_account(&answers, "checkout-us"), 37);
    assert_eq!(skips(&house, "checkout-eu", "breaker_half_open"), 37.0);

    // The probes were good. A notification may tell of a payment before the probe's own answer.
    house.lift_faults();
    house.wait_until("the probes are answered", SOON, |h| {
        breaker(h, "checkout-eu")["state"] != "half_open"
    });
    let state = breaker(&house, "checkout-eu");
    assert_eq!(state["state"], "closed", "{state}");
    assert_eq!(house.pay(&euros())["account"], "checkout-eu");
    let money = house.ledger();
    assert!(answers.iter().all(|a| ledger::charges(&money, &a.json) == 1));
}

#[test]
fn a_probe_that_fails_opens_the_breaker_again() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    house.fault("checkout-eu", "*", "refuse");
    for _ in 0..5 {
        house.pay(&euros());
    }
    assert_eq!(breaker(&house, "checkout-eu")["state"], "open");
    house.wait_until("the probes have failed", SOON, |h| {
        let answer = h.pay(&euros());
        assert_eq!(
            (&answer["status"], &answer["account"]),
            (&json!("succeeded"), &json!("checkout-us")),
            "{answer:?}"
        );
        breaker(h, "checkout-eu")["trips"].as_u64().unwrap() >= 2
    });
    let state = breaker(&house, "checkout-eu");
    assert_eq!(state["state"], "open", "{state}");
}

#[test]
fn errors_after_a_send_open_the_breaker_too_and_lose_no_payment() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    house.fault_with(json!({
        "account": "checkout-us", "operation": "authorize", "fault": "error_before",
    }));
    let bodies: Vec<Value> = (0..5).map(|_| tokens(700, "USD")).collect();
    let answers = at_once(5, |n| house.pay(&bodies[n]));
    assert_eq!(breaker(&house, "checkout-us")["state"], "open");
    let next = house.pay(&tokens(700, "USD"));
    assert_eq!(
        (&next["status"], &next["account"]),
        (&json!("succeeded"), &json!("checkout-eu")),
        "{next:?}"
    );
    assert!(skips(&house, "checkout-us", "breaker_open") >= 1.0);
    // The five were not executed; that is known after the late window, and then they are paid.
    for answer in &answers {
        let id = answer["id"].as_str().unwrap();
        let end = house.wait_for(id, SOON, |p| p["status"] != "processing");
        assert_eq!(end["status"], "succeeded", "{end:?}");
        assert_eq!(ledger::charges(&house.ledger(), &end.json), 1);
    }
}

#[test]
fn with_every_breaker_open_nothing_is_journalled_and_the_proxy_stays_ready() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    for account in ["checkout-eu", "checkout-us"] {
        house.fault(account, "*", "refuse");
    }
    for _ in 0..5 {
        let answer = house.pay(&euros());
        assert_eq!((answer.status, &answer["status"]), (201, &json!("failed")), "{answer:?}");
        assert_eq!(answer["failure"]["code"], "provider_unreachable", "{answer:?}");
    }
    let journalled = house.journalled();
    let key = fresh("later");
    let refused = house.pay_with_key(&key, &euros());
    assert_eq!(
        (refused.status, &refused["code"]),
        (503, &json!("no_account_available")),
        "{refused:?}"
    );
    assert_eq!(
        refused["accounts"],
        json!({
            "checkout-eu": "breaker_open", "checkout-us": "breaker_open",
        })
    );
    assert_eq!(refused["retry"], "same_key");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(house.journalled(), journalled, "nothing journalled");
    assert!(house.ledger().is_empty(), "nothing sent");
    for account in ["checkout-eu", "checkout-us"] {
        assert_eq!(skips(&house, account, "breaker_open"), 1.0);
    }
    assert_eq!(house.operate("GET", "/readyz", None).status, 200);
    assert_eq!(house.operate("GET", "/livez", None).status, 200);
    // The key is still free when they are back.
    house.lift_faults();
    house.wait_until("an account is back", SOON, |h| h.pay_with_key(&key, &euros()).status == 201);
    let paid = house.pay_with_key(&key, &euros());
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
}

#[test]
fn a_provider_that_asks_for_patience_is_given_it() {
    let house = House::with(Plan { breaker: BREAKER, ..Plan::default() });
    house.fault("checkout-eu", "authorize", "rate_limited");
    let first = house.pay(&euros());
    assert_eq!(
        (&first["status"], &first["account"]),
        (&json!("succeeded"), &json!("checkout-us")),
        "a declared proof that nothing moved: {first:?}"
    );
    let asked = authorizations(&house, "checkout-eu");
    assert_eq!(asked, 1);
    let answers = at_once(10, |_| house.pay(&euros()));
    assert_eq!(by_account(&answers, "checkout-us"), 10);
    assert_eq!(authorizations(&house, "checkout-eu"), asked, "it is left alone for a while");
    assert_eq!(skips(&house, "checkout-eu", "rate_limited"), 10.0);
    assert_eq!(breaker(&house, "checkout-eu")["state"], "closed", "and it is no fault");
    house.lift_faults();
    house.wait_until("it is asked again", SOON, |h| h.pay(&euros())["account"] == "checkout-eu");
}

#[test]
fn refunds_keep_to_a_share_of_their_own_and_none_is_lost_or_made_twice() {
    let lines = "limit = \"1/s burst 4\"";
    let house = House::with(Plan { account_lines: lines, ..Plan::default() });
    let paid = house.pay(&euros());
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    // A provider refunds only what it has captured, which it tells a moment later.
    house.wait_until("the capture is told", SOON, |h| {
        h.metric("interlock_notifications_total", &[("account", "checkout-eu")]) >= 2.0
    });
    let refund = json!({ "payment": paid["id"], "amount": 100 });
    let keys: Vec<String> = (0..3).map(|_| fresh("share")).collect();
    let ask = |n: usize| house.post("/v1/refunds", &keys[n], &refund);
    let answers = at_once(3, ask);
    let refused: Vec<usize> = (0..3).filter(|n| answers[*n].status == 503).collect();
    assert!(!refused.is_empty() && refused.len() < 3, "a quarter of the limit: {answers:?}");
    for n in &refused {
        let answer = &answers[*n];
        assert_eq!(answer["code"], "no_account_available", "{answer:?}");
        assert_eq!(answer["accounts"], json!({ "checkout-eu": "rate_limited" }));
        assert_eq!(answer["retry"], "same_key");
    }
    // The keys are still free, and nothing was sent for them.
    for n in 0..3 {
        house.wait_until("there is room for the refund", Duration::from_secs(40), |_| {
            matches!(ask(n).status, 201 | 202)
        });
    }
    house.wait_until("all refunds have succeeded", SOON, |h| {
        let p = h.payment(paid["id"].as_str().expect("an id"));
        p["amount_refunded"] == 300
    });
    let refunds = house.ledger().iter().filter(|m| m["kind"] == "refund").count();
    assert_eq!(refunds, 3);
}

#[test]
fn the_doubts_of_one_account_do_not_keep_another_from_being_asked() {
    let house = House::with(Plan { account_lines: "in_flight = 8", ..Plan::default() });
    house.fault("checkout-eu", "authorize", "charge_then_drop");
    house.fault("checkout-eu", "inquire", "hang");
    house.fault("checkout-us", "authorize", "charge_then_drop");
    house.fault("checkout-eu", "notify", "notify_lose");
    house.fault("checkout-us", "notify", "notify_lose");
    let sick = at_once(6, |_| house.pay_within(&euros(), 0));
    let other = house.pay_within(&tokens(700, "USD"), 0);
    assert_eq!(other["account"], "checkout-us", "{other:?}");
    let id = other["id"].as_str().expect("an id");
    let end = house.wait_for(id, SOON, |p| p["status"] != "processing");
    assert_eq!(end["status"], "succeeded", "{end:?}");
    let waiting = |p: &Answer| house.payment(p["id"].as_str().expect("an id"));
    assert!(sick.iter().all(|p| waiting(p)["status"] == "processing"), "theirs still hang");
    house.lift_faults();
    for payment in &sick {
        let id = payment["id"].as_str().expect("an id");
        let end = house.wait_for(id, SOON, |p| p["status"] != "processing");
        assert_eq!(ledger::charges(&house.ledger(), &end.json), 1);
    }
}

/// A payment whose money is only held, to be captured by hand.
fn held(amount: i64) -> Value {
    let mut body = tokens(amount, "EUR");
    body["capture"] = "manual".into();
    body
}

fn timeline(house: &House, id: &str) -> Vec<Value> {
    let lines = house.get(&format!("/v1/payments/{id}/timeline"));
    lines["data"].as_array().expect("a timeline").clone()
}

/// Nobody was asked to look, and nothing was closed to what still had to go out.
fn told_no_alert(lines: &[Value]) -> bool {
    lines.iter().all(|line| line["what"] != "alert" && line["reason"] != "not_prepared")
}

/// What a cancel owes goes out although merchants have used the share up, while another capture is
/// refused.
#[test]
fn a_void_that_we_owe_goes_out_although_merchants_have_used_the_share() {
    // Operations have a quarter: two at once, then one in sixteen seconds.
    let lines = "limit = \"15/m burst 8\"";
    let house = House::with(Plan { account_lines: lines, ..Plan::default() });
    let wish = |id: &str, verb: &str| {
        house.post_within(&format!("/v1/payments/{id}/{verb}"), &fresh(verb), &json!({}), 0)
    };
    let open: Vec<Answer> = (0..4).map(|_| house.pay(&held(1_100))).collect();
    assert!(open.iter().all(|p| p["account"] == "checkout-eu"), "{open:?}");
    let ids: Vec<&str> = open.iter().filter_map(|p| p["id"].as_str()).collect();
    for captured in &ids[..2] {
        let answer = wish(captured, "capture");
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    }
    let is_full = || {
        let answer = wish(ids[2], "capture");
        assert_eq!(answer["accounts"]["checkout-eu"], "rate_limited", "{answer:?}");
    };
    is_full();
    let answer = wish(ids[3], "cancel");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    let end = house.wait_for(ids[3], Duration::from_secs(8), |p| p["status"] == "canceled");
    is_full();
    let money = house.ledger();
    assert_eq!(ledger::charges(&money, &end.json), 1, "it was held once");
    assert_eq!(ledger::of_payment(&ledger::net(&money), &end.json), 0, "and let go");
    let lines = timeline(&house, ids[3]);
    assert!(told_no_alert(&lines), "{lines:#?}");
}

/// A refund whose answer is lost, at an account with this limit and late window: how long it took
/// until it was sent again, and that it ended in one refund.
fn refund_sent_again(limit: &'static str, late_window: &'static str) -> Duration {
    let plan = Plan { account_lines: limit, late_window, ..Plan::default() };
    let house = House::with(plan);
    let paid = house.pay(&barcode(2_000, "01"));
    assert_eq!((&paid["status"], &paid["account"]), (&json!("succeeded"), &json!("alipay-main")));
    house.fault("alipay-main", "refund", "reset_after_read");
    let sends = |house: &House| {
        house.requests("alipay-main").iter().filter(|r| r["operation"] == "refund").count()
    };
    let refund = json!({ "payment": paid["id"], "amount": 700 });
    let begun = Instant::now();
    let asked = house.post_within("/v1/refunds", &fresh("refund"), &refund, 0);
    assert_eq!(asked.status, 202, "{asked:?}");
    house.wait_until("it is sent", SOON, |h| sends(h) == 1);
    house.lift_faults();
    house.wait_until("it is sent again", SOON, |h| sends(h) == 2);
    let after = begun.elapsed();
    let id = asked["id"].as_str().expect("an id");
    house.wait_until("the refund has an end", SOON, |h| {
        h.get(&format!("/v1/refunds/{id}"))["status"] != "processing"
    });
    assert_eq!(house.get(&format!("/v1/refunds/{id}"))["status"], "succeeded");
    let lines = timeline(&house, paid["id"].as_str().expect("an id"));
    assert!(lines.iter().any(|line| line["reason"] == "resend"), "it was not fenced: {lines:#?}");
    assert!(told_no_alert(&lines), "{lines:#?}");
    let money = house.ledger();
    let shown = house.payment(paid["id"].as_str().expect("an id"));
    assert_eq!(ledger::charges(&money, &shown.json), 1);
    assert_eq!(ledger::of_payment(&ledger::net(&money), &shown.json), 1_300);
    after
}

/// It is due when the late window is over, and its share has a place again after four seconds.
#[test]
fn what_ends_a_doubt_waits_for_its_share() {
    let after = refund_sent_again("limit = \"1/s burst 4\"", "2500ms");
    assert!(after >= Duration::from_millis(3_900), "it did not wait: {after:?}");
}

/// Its share has no place for sixteen seconds: that is longer than it waits, and it goes out.
#[test]
fn what_ends_a_doubt_does_not_wait_for_ever_and_is_not_fenced() {
    let after = refund_sent_again("limit = \"15/m burst 4\"", "1s");
    assert!(after < Duration::from_secs(12), "it waited for the share: {after:?}");
}
