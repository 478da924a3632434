//! Canaries in everything that a shopper, a merchant and an operator entrust: after many payments
//! of every kind and end, none of them is in any file, line, metric, answer or output.
//!
//! The search itself is proven by finding what must be there.

use std::fs;
use std::time::Duration;

use interlock_tests::canaries::{Canaries, files};
use interlock_tests::house::{Answer, House, Plan, fresh};
use interlock_tests::recorder::Recorder;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

fn card(number: &str, cryptogram: &str, currency: &str) -> Value {
    json!({
        "amount": 1_900, "currency": currency, "description": "a plain order",
        "method": { "type": "card", "network_token": {
            "number": number, "expiry_month": 11, "expiry_year": 2032,
            "cryptogram": cryptogram, "eci": "05", "source": "google_pay",
        } },
    })
}

fn stored(eu: &str, us: &str) -> Value {
    json!({ "amount": 2_100, "currency": "EUR",
        "method": { "type": "card", "tokens": { "checkout-eu": eu, "checkout-us": us } } })
}

fn wallet(blob: &str) -> Value {
    json!({ "amount": 1_800, "currency": "GBP",
        "method": { "type": "google_pay", "form": "processor", "account": "adyen-eu",
            "token": { "signedMessage": blob } } })
}

fn barcode(auth_code: &str) -> Value {
    json!({ "amount": 1_700, "currency": "CNY",
        "method": { "type": "alipay", "flow": "barcode", "auth_code": auth_code } })
}

/// Payments of every kind and end; their ids.
fn traffic(house: &mut House, canaries: &mut Canaries) -> Vec<String> {
    let mut ids = Vec::new();
    let mut made = |answer: Answer| {
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        ids.push(answer["id"].as_str().expect("an id").to_owned());
        answer
    };
    let no_wait = |house: &House, body: &Value| {
        let key = fresh("canary");
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
        let url = format!("{}/v1/payments", house.api);
        house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
    };
    for ending in ["1111", "0005", "0051", "0059", "9990"] {
        let body = card(&canaries.card(ending), &canaries.text("cryptogram"), "EUR");
        made(house.pay(&body));
    }
    for ending in ["01", "02", "03", "04", "05", "06"] {
        made(no_wait(house, &barcode(&canaries.auth_code(ending))));
    }
    for suffix in ["", "_decline_20005", "_decline_20059"] {
        let eu = format!("{}{suffix}", canaries.text("stored token"));
        let us = canaries.text("stored token");
        let paid = made(house.pay(&stored(&eu, &us)));
        let refund = json!({ "payment": paid["id"], "amount": 100 });
        house.post("/v1/refunds", &fresh("refund"), &refund);
    }
    // Every fault, and a second account where one is allowed.
    let faults = [
        "refuse",
        "reset_after_read",
        "hang",
        "error_before",
        "error_after",
        "charge_then_drop",
        "garbage",
        "bad_signature",
        "decline_soft",
        "rate_limited",
    ];
    for fault in faults {
        house.fault("checkout-eu", "authorize", fault);
        house.fault("alipay-main", "authorize", fault);
        // Where its answer says nothing only a notification ends the doubt, and none comes here;
        // where it hangs the same request hangs again.
        let silent = ["hang", "error_before", "error_after", "garbage", "bad_signature"];
        if !silent.contains(&fault) {
            house.fault("adyen-eu", "authorize", fault);
        }
        let card_there = card(&canaries.card("1111"), &canaries.text("cryptogram"), "GBP");
        let blob = wallet(&canaries.text("wallet's blob"));
        // One processor takes the blob alone, so there is nobody when that one rests.
        let there = [made(no_wait(house, &card_there)), no_wait(house, &blob)];
        let token = (canaries.text("stored token"), canaries.text("stored token"));
        made(no_wait(house, &stored(&token.0, &token.1)));
        made(no_wait(house, &card(&canaries.card("1111"), &canaries.text("cryptogram"), "EUR")));
        made(no_wait(house, &barcode(&canaries.auth_code("01"))));
        house.wait_until("the requests were met by the fault", SOON, |h| {
            h.metric("interlock_in_flight", &[]) == 0.0
        });
        house.lift_faults();
        // It is sent again while its credential is in memory, before the next fault and the death.
        for id in there.iter().filter_map(|answer| answer["id"].as_str()) {
            house.wait_for(id, SOON, |p| p["status"] != "processing");
        }
    }
    // A switch that brings a code, and one that is refused.
    let shown = made(house.pay(&json!({ "amount": 500, "currency": "CNY",
        "method": { "type": "alipay", "flow": "qr" } })));
    let path = format!("/v1/payments/{}/switch", shown["id"].as_str().expect("a text"));
    let body = json!({ "method": barcode(&canaries.auth_code("01"))["method"] });
    let headers = [("Idempotency-Key", "switch-1"), ("Prefer", "wait=1")];
    let url = format!("{}{path}", house.api);
    house.send("POST", &url, &headers, Some(body.to_string().as_bytes()));
    // What is refused: bad values, a reused key, no account, a wrong key of ours.
    for number in [canaries.card("1111x"), canaries.text("number")] {
        let answer = house.pay(&card(&number, &canaries.text("cryptogram"), "EUR"));
        assert!(answer.status == 422 || answer.status == 400, "{answer:?}");
    }
    let mut odd = card(&canaries.card("1111"), &canaries.text("cryptogram"), "EUR");
    odd["method"]["network_token"]["cvv"] = canaries.text("cvv").into();
    assert_eq!(house.pay(&odd).status, 400);
    assert_eq!(
        house.pay(&card(&canaries.card("1111"), &canaries.text("cryptogram"), "JPY")).status,
        503
    );
    let wrong = format!("Bearer {}", canaries.text("wrong API key"));
    let url = format!("{}/v1/payments", house.api);
    let headers = [("Authorization", wrong.as_str())];
    assert_eq!(house.send("GET", &url, &headers, None).status, 401);
    let broken = format!("{{\"method\":{{\"number\":\"{}", canaries.card("1111"));
    let headers = [("Idempotency-Key", "broken-1")];
    assert_eq!(house.send("POST", &url, &headers, Some(broken.as_bytes())).status, 400);
    // A death in the middle of a payment, with its credential in memory.
    house.fault("checkout-eu", "authorize", "hang");
    made(no_wait(house, &card(&canaries.card("1111"), &canaries.text("cryptogram"), "EUR")));
    let (eu, us) = (canaries.text("stored token"), canaries.text("stored token"));
    made(no_wait(house, &stored(&eu, &us)));
    house.kill_proxy();
    house.lift_faults();
    house.start_proxy();
    ids
}

#[test]
fn no_secret_is_in_any_file_line_metric_answer_or_output() {
    let recorder = Recorder::start();
    let mut house = House::with(Plan {
        notify: Some(recorder.url.clone()),
        // Everything that the proxy and its libraries can say is written.
        tail: "\n[telemetry]\nlog = \"trace\"\n",
        ..Plan::default()
    });
    let mut canaries = Canaries::default();
    for secret in ["test_key_1", "other_key_2"] {
        canaries.add("API key", secret);
    }
    for n in 2..4 {
        canaries.add("secret key", &format!("sk_test_secret_{n}"));
        canaries.add("webhook key", &format!("whk_test_secret_{n}"));
    }
    canaries.add("API key of the provider", "AQE_test_secret_4");
    canaries.add("HMAC key", "hmac_test_secret_4");
    canaries.add("HMAC key", "686d61635f746573745f7365637265745f34");
    for account in ["alipay-main", "alipay-backup"] {
        let path = house.dir.path().join(format!("keys/{account}/app_private.pem"));
        let pem = fs::read_to_string(path).expect("a private key");
        for line in pem.lines().filter(|line| line.len() >= 60 && !line.starts_with("---")) {
            canaries.add("private key", line);
        }
    }
    let ids = traffic(&mut house, &mut canaries);
    assert!(canaries.len() > 100, "{} canaries", canaries.len());
    // Notifications with bad signatures come in, too.
    for mut notice in recorder.all().into_iter().take(20) {
        assert_eq!(notice.deliver(&house).status, 200);
        if let Some(byte) = notice.body.last_mut() {
            *byte ^= 1;
        }
        notice.deliver(&house);
    }
    house.wait_until("no doubt is left but those that wait for a shopper", SOON, |h| {
        h.operate("GET", "/admin/v1/status", None)["in_doubt"]["payments"] == 0
    });

    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    let mut answer = |what: String, answer: Answer| {
        let headers = format!("{:?}", answer.headers).into_bytes();
        seen.push((what, [answer.body, headers].concat()));
    };
    for path in [
        "/metrics",
        "/admin/v1/status",
        "/admin/v1/accounts",
        "/admin/v1/plugins",
        "/admin/v1/payments?limit=500",
        "/admin/v1/payments?in_doubt=true",
    ] {
        answer(path.to_owned(), house.operate("GET", path, None));
    }
    answer("list".to_owned(), house.get("/v1/payments?limit=100"));
    for id in &ids {
        answer(format!("payment {id}"), house.payment(id));
        answer(format!("timeline {id}"), house.get(&format!("/v1/payments/{id}/timeline")));
        answer(format!("refunds {id}"), house.get(&format!("/v1/refunds?payment={id}")));
        answer(
            format!("admin {id}"),
            house.operate("GET", &format!("/admin/v1/payments/{id}"), None),
        );
    }
    let config = ["--config", "interlock.toml"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["check"],
        vec!["check", "--json"],
        vec!["plugin", "list"],
        vec!["plugin", "list", "--json"],
        vec!["payment", "list"],
        vec!["payment", "list", "--json"],
        vec!["payment", "list", "--in-doubt"],
    ];
    for command in &commands {
        let (_, out) = house.cli_code(&[command.as_slice(), &config].concat());
        seen.push((format!("interlock {}", command.join(" ")), out.into_bytes()));
    }
    for id in ids.iter().take(12) {
        for (verb, more) in [
            ("show", None),
            ("show", Some("--json")),
            ("timeline", None),
            ("timeline", Some("--json")),
        ] {
            let mut command = vec!["payment", verb, id.as_str(), "--config", "interlock.toml"];
            command.extend(more);
            seen.push((format!("{command:?}"), house.cli_code(&command).1.into_bytes()));
        }
    }
    // While it runs, and what is left when it is killed and when it has stopped.
    let data = house.dir.path().join("data");
    files(&data, &mut seen);
    house.kill_proxy();
    files(&data, &mut seen);
    house.start_proxy();
    assert_eq!(house.stop_proxy().0, Some(0));
    files(&data, &mut seen);
    let log = fs::read(house.dir.path().join("interlock.log")).expect("a log");
    let said = |word: &str| String::from_utf8_lossy(&log).contains(word);
    assert!(said(" TRACE ") && said(" DEBUG "), "everything is written: {} bytes", log.len());
    seen.push(("the log".to_owned(), log));

    // The search finds what must be there.
    let known = Canaries::of("id", &ids[0]).search();
    let canaries = canaries.search();
    let found: Vec<&str> = known.places(&seen);
    assert!(found.iter().any(|what| what.contains("/data/")), "in a file: {found:?}");
    assert!(found.iter().any(|what| what.starts_with("payment")), "{found:?}");
    let config = fs::read(house.dir.path().join("interlock.toml")).expect("a configuration");
    assert!(canaries.find(&config).len() >= 3, "the configuration holds secrets");

    let leaks = canaries.leaks(&seen);
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}
