//! Who may come in, and for what: keys kept as hashes, their scopes, operators' tokens and roles,
//! and pages in a browser that nobody invited.

use std::fs;
use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, fresh, tokens};
use interlock_tests::raw;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// A new key by the command line: the key, and its hash.
fn new_key(house: &House) -> (String, String) {
    let (done, told) = house.cli(&["merchant", "key", "--json"]);
    assert!(done, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let text = |member: &str| told[member].as_str().expect("a text").to_owned();
    (text("key"), text("hash"))
}

fn append(house: &House, text: &str) {
    let path = house.dir.path().join("interlock.toml");
    let whole = fs::read_to_string(&path).expect("read") + text;
    fs::write(&path, whole).expect("written");
}

fn with_key(house: &House, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let (bearer, idempotency) = (format!("Bearer {key}"), fresh("scope"));
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-Interlock-Key", key),
        ("Idempotency-Key", idempotency.as_str()),
    ];
    let body = body.map(Value::to_string);
    let url = format!("{}{path}", house.api);
    house.send(method, &url, &headers, body.as_deref().map(str::as_bytes))
}

#[test]
fn keys_do_what_their_scopes_say_and_nothing_else() {
    let mut house = House::prepared(Plan::default());
    let scopes = ["payments:write", "payments:read", "refunds:write", "refunds:read", "native"];
    let keys: Vec<(String, String)> = scopes.iter().map(|_| new_key(&house)).collect();
    let mut text = String::new();
    for (n, (scope, (_, hash))) in scopes.iter().zip(&keys).enumerate() {
        text += &format!("\n[merchants.scoped.keys.k{n}]\nhash = \"{hash}\"\n");
        text += &format!("scopes = [\"{scope}\"]\n");
    }
    // A second key that may do all, and a key in clear beside it.
    let (all, hash) = new_key(&house);
    text += &format!("\n[merchants.scoped.keys.all]\nhash = \"{hash}\"\n");
    text += "\n[merchants.scoped.keys.plain]\nkey = \"plain_test_key_9\"\n";
    append(&house, &text);
    house.start_proxy();

    let paid = with_key(&house, &all, "POST", "/v1/payments", Some(&tokens(900, "EUR")));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    let id = paid["id"].as_str().expect("an id").to_owned();
    let refund = json!({ "payment": id, "amount": 1 });
    let refunded = with_key(&house, "plain_test_key_9", "POST", "/v1/refunds", Some(&refund));
    assert!(refunded.status < 300, "both keys are one merchant's: {refunded:?}");
    let payment = format!("/v1/payments/{id}");
    let requests = [
        ("payments:write", "POST", "/v1/payments".to_owned(), Some(tokens(900, "EUR"))),
        ("payments:write", "POST", format!("{payment}/capture"), Some(json!({}))),
        ("payments:read", "GET", payment.clone(), None),
        ("payments:read", "GET", format!("{payment}/timeline"), None),
        ("payments:read", "GET", "/v1/payments".to_owned(), None),
        ("refunds:write", "POST", "/v1/refunds".to_owned(), Some(refund)),
        ("refunds:read", "GET", format!("/v1/refunds?payment={id}"), None),
        ("native", "GET", "/native/checkout-us/payments/pay_none".to_owned(), None),
    ];
    for (needed, method, path, body) in &requests {
        for (scope, (key, _)) in scopes.iter().zip(&keys) {
            let sent = house.sent();
            let answer = with_key(&house, key, method, path, body.as_ref());
            let what = format!("{method} {path} with {scope}: {answer:?}");
            if scope == needed {
                let refused = matches!(answer["code"].as_str(), Some("unauthorized" | "forbidden"));
                assert!(!refused, "{what}");
            } else {
                assert_eq!((answer.status, &answer["code"]), (403, &json!("forbidden")), "{what}");
                let detail = answer["detail"].as_str().expect("words");
                assert!(detail.contains(&format!("`{needed}`")), "{what}");
                assert_eq!(house.sent(), sent, "{what}");
            }
        }
    }
    // Neither a hash nor what is nearly a key opens anything, and nothing of them is written down.
    for wrong in [keys[0].1.as_str(), &keys[0].0[..46], &format!("{}A", keys[0].0), "ilk_"] {
        let answer = with_key(&house, wrong, "GET", "/v1/payments", None);
        assert_eq!((answer.status, &answer["code"]), (401, &json!("unauthorized")), "{wrong}");
        let answer = with_key(&house, wrong, "GET", "/native/checkout-us/x", None);
        assert_eq!((answer.status, &answer["code"]), (401, &json!("unauthorized")), "{wrong}");
    }
    let written = house.log() + &house.metrics();
    for (key, hash) in &keys {
        assert!(!written.contains(key) && !written.contains(hash.trim_start_matches("sha256:")));
    }
}

#[test]
fn off_loopback_the_admin_door_needs_tokens_and_roles_are_kept() {
    let mut house = House::prepared(Plan::default());
    let path = house.dir.path().join("interlock.toml");
    let port = house.admin.rsplit_once(':').expect("a port").1.to_owned();
    let text = fs::read_to_string(&path).expect("read");
    let open = text
        .replace(&format!("admin = \"127.0.0.1:{port}\""), &format!("admin = \"0.0.0.0:{port}\""));
    fs::write(&path, &open).expect("written");
    house.spawn_proxy();
    assert_eq!(house.wait_exit(SOON), Some(Some(1)), "open to strangers, it does not start");
    assert!(house.log().contains("off loopback only with tokens"));

    let ((look, look_hash), (act, act_hash)) = (new_key(&house), new_key(&house));
    let tokens = format!(
        "\n[admin.tokens.watch]\nrole = \"look\"\nhash = \"{look_hash}\"\n\
         [admin.tokens.ops]\nrole = \"act\"\nhash = \"{act_hash}\"\n"
    );
    append(&house, &tokens);
    house.spawn_proxy();
    assert_eq!(house.wait_exit(SOON), Some(Some(1)), "tokens in clear, it does not start");
    assert!(house.log().contains("cross the network in clear"));
    let text = fs::read_to_string(&path).expect("read");
    let text =
        text.replace("\n[admin.tokens.watch]", "\n[admin]\nplaintext = true\n[admin.tokens.watch]");
    fs::write(&path, text).expect("written");
    house.start_proxy();

    let drain = "/admin/v1/accounts/checkout-eu/drain";
    let ask = |token: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        let url = format!("{}{path}", house.admin);
        let body = json!({ "reason": "a test", "operator": "jo" }).to_string();
        let body = (method == "POST").then_some(body.as_bytes());
        house.send(method, &url, &[("Authorization", bearer.as_str())], body)
    };
    for (token, looked, acted) in [("stranger", 401, 401), (&look, 200, 403), (&act, 200, 200)] {
        assert_eq!(ask(token, "GET", "/admin/v1/status").status, looked, "{token}");
        assert_eq!(ask(token, "GET", "/metrics").status, looked, "{token}");
        let answer = ask(token, "POST", drain);
        assert_eq!(answer.status, acted, "{answer:?}");
    }
    assert!(house.log().contains("an operator acts") && house.log().contains("ops"));

    let list = ["payment", "list", "--config", "interlock.toml"];
    let with = |token: &str| house.cli_code(&[&list[..], &["--token", token]].concat());
    assert_eq!(house.cli_code(&list).0, Some(4), "no token");
    assert_eq!(with("stranger").0, Some(4));
    assert_eq!(with(&look).0, Some(0));
    let recheck = ["payment", "recheck", "pay_none", "--config", "interlock.toml", "--token"];
    let (code, told) = house.cli_code(&[&recheck[..], &[&look]].concat());
    assert!(code == Some(4) && told.contains("`act`"), "{told}");
    assert_eq!(house.cli_code(&[&recheck[..], &[&act]].concat()).0, Some(1), "allowed, not found");
    let log = house.log();
    assert!(!log.contains(&look) && !log.contains(&act), "no token is logged");
}

#[test]
fn a_page_in_the_operators_browser_can_do_nothing() {
    let house = House::start();
    let drained = || {
        let accounts = house.operate("GET", "/admin/v1/accounts", None);
        let list = accounts["accounts"].as_array().expect("a list").clone();
        list.iter().any(|account| account["serves"] == false)
    };
    let own = house.admin.trim_start_matches("http://").to_owned();
    let path = "/admin/v1/accounts/checkout-eu/drain";
    let json = "Content-Type: application/json";
    let foreign = "Origin: https://evil.example";
    for (host, headers, status) in [
        ("evil.example", vec![json], 403),
        ("evil.example:9700", vec![json, "Origin: http://evil.example:9700"], 403),
        (own.as_str(), vec![json, foreign], 403),
        (own.as_str(), vec![json, "Origin: null"], 403),
        (own.as_str(), vec!["Content-Type: text/plain"], 415),
        (own.as_str(), vec!["Content-Type: application/x-www-form-urlencoded"], 415),
        (own.as_str(), vec![], 415),
    ] {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: 2\r\n\
             Connection: close\r\n\r\n{{}}"
        );
        let told = raw::say(&house.admin, request.as_bytes());
        assert_eq!(told.statuses(), [status], "{request}{}", told.text);
        assert!(!told.text.to_ascii_lowercase().contains("access-control-allow"), "{}", told.text);
        assert!(!drained(), "{request}");
    }
    let look = format!("GET /admin/v1/payments HTTP/1.1\r\nHost: evil.example\r\n{json}\r\n\r\n");
    let look = look.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(raw::say(&house.admin, look.as_bytes()).statuses(), [403], "a rebound name");
    let act = json!({ "reason": "a test", "operator": "jo" });
    assert_eq!(house.operate("POST", path, Some(&act)).status, 200);
    assert!(drained(), "the operator can");
}

/// Anybody may write a name; the token is what was shown. Both stand wherever a deed is told.
#[test]
fn the_trail_says_which_token_acted_and_never_the_token() {
    let mut house = House::prepared(Plan { not_found: false, ..Plan::default() });
    let ((night, night_hash), (day, day_hash)) = (new_key(&house), new_key(&house));
    append(
        &house,
        &format!(
            "\n[admin.tokens.night]\nrole = \"act\"\nhash = \"{night_hash}\"\n\
             [admin.tokens.day]\nrole = \"act\"\nhash = \"{day_hash}\"\n"
        ),
    );
    house.start_proxy();
    let told = |token: &str, words: &[&str]| {
        let access = ["--config", "interlock.toml", "--token", token];
        let (done, told) = house.cli(&[words, &access].concat());
        assert!(done, "{words:?}: {told}");
        told
    };
    let why = ["--reason", "incident 4411", "--operator", "jo"];
    told(&night, &[&["account", "drain", "checkout-us"], &why[..]].concat());
    told(&day, &[&["account", "trip", "alipay-main"], &why[..]].concat());
    let audit = told(&day, &["account", "audit"]);
    let lines: Vec<&str> = audit.lines().collect();
    assert!(lines[0].contains("jo (token day)") && lines[0].contains("trip"), "{audit}");
    assert!(lines[1].contains("jo (token night)") && lines[1].contains("drain"), "{audit}");
    let shown = told(&day, &["account", "show", "checkout-us"]);
    assert!(shown.contains("by jo (token night) since"), "{shown}");
    assert!(told(&day, &["status"]).contains("drained by jo (token night)"));
    let explained = told(&day, &["explain", "--amount", "9.00EUR", "--method", "card"]);
    assert!(explained.contains("drained by jo (token night): incident 4411"), "{explained}");

    house.fault("checkout-eu", "authorize", "reset_after_read");
    let doubtful = house.pay_within(&tokens(900, "EUR"), 0);
    let id = doubtful["id"].as_str().expect("an id");
    house.wait_until("it is in doubt", SOON, |h| {
        h.payment(id)["status_reason"] == "provider_outcome_unknown"
    });
    let said = ["payment", "resolve", id, "--outcome", "failed"];
    told(&day, &[&said[..], &why[..]].concat());
    let lines = told(&day, &["payment", "timeline", id]);
    assert!(lines.contains("operator jo (token day)"), "{lines}");

    house.stop_proxy();
    house.start_proxy();
    let (_, again) =
        house.cli(&["account", "audit", "--config", "interlock.toml", "--token", &night]);
    assert_eq!(again, audit, "the trail is durable");
    let written = house.log() + &again + &lines + &shown;
    assert!(!written.contains(&night) && !written.contains(&day));
}
