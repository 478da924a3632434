//! What merchants are told by webhooks: signed, in order, at least once, whatever happens to them,
//! to us, or in between.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use interlock_tests::hook::{Heard, Hook, Manner};
use interlock_tests::house::{Answer, House, Plan, barcode, fresh, network_token, qr};
use ring::hmac;
use serde_json::{Value, json};

const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OLD_KEY: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const SOON: Duration = Duration::from_secs(15);

/// A house whose merchant is told at this address, with more keys of its webhook.
fn told_at(url: &str, more: &str) -> House {
    House::with(plan(url, more))
}

fn plan(url: &str, more: &str) -> Plan {
    let lines = format!("webhook = {{ url = \"{url}\", key = \"{KEY}\", {more} }}");
    Plan { merchant_lines: Box::leak(lines.into_boxed_str()), ..Plan::default() }
}

fn local(hook: &Hook, more: &str) -> House {
    let url = format!("http://{}/hooks?shop=1", hook.address);
    told_at(&url, &format!("allow_loopback = true, {more}"))
}

fn id(p: &Answer) -> &str {
    p["id"].as_str().unwrap()
}

/// What the signature of a message must be under a key.
fn signature(key: &str, heard: &Heard) -> String {
    let key = STANDARD.decode(key.strip_prefix("whsec_").unwrap()).unwrap();
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    let head = format!("{}.{}.", heard.id(), heard.header("webhook-timestamp"));
    signing.update(head.as_bytes());
    signing.update(&heard.body);
    format!("v1,{}", STANDARD.encode(signing.sign()))
}

fn kinds(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(Heard::kind).collect()
}

/// What the shopper scans.
fn code(p: &Answer) -> String {
    p["next_action"]["qr_code"].as_str().unwrap().to_owned()
}

fn waiting(house: &House, given_up: bool) -> Vec<Value> {
    let path = format!("/admin/v1/webhooks?given_up={given_up}");
    house.operate("GET", &path, None).json["data"].as_array().unwrap().clone()
}

#[test]
fn every_change_is_told_signed_in_order_and_can_be_read_again() {
    let hook = Hook::start();
    let house = local(&hook, "");
    let p = house.pay(&qr(1_200));
    hook.wait_for(1);
    house.scan("alipay-main", &code(&p), "pay");
    house.wait_for(id(&p), SOON, |p| p["status"] == "succeeded");
    hook.wait_for(2);
    let refund = house.post("/v1/refunds", &fresh("r"), &json!({ "payment": id(&p) }));
    assert_eq!(refund["status"], "succeeded", "{refund:?}");
    let declined = house.pay(&barcode(900, "04"));
    let heard = hook.wait_for(4);
    let told = ["payment.requires_action", "payment.succeeded", "refund.succeeded"];
    assert_eq!(kinds(&heard[..3]), told);
    assert_eq!(heard[3].kind(), format!("payment.{}", declined["status"].as_str().unwrap()));

    for message in &heard {
        assert_eq!(message.target, "/hooks?shop=1");
        assert_eq!(message.header("content-type"), "application/json");
        assert_eq!(message.header("webhook-signature"), signature(KEY, message));
        assert_eq!((&message.json["id"], message.id().len()), (&json!(message.id()), 30));
        assert!(message.header("webhook-timestamp").parse::<i64>().unwrap() > 1_700_000_000);
    }
    assert_eq!(heard[1].json["data"]["id"], p["id"]);
    assert_eq!(heard[1].json["data"]["amount_captured"], 1_200);
    assert_eq!(heard[2].json["data"]["id"], refund["id"]);
    let first_try = [("result", "delivered")];
    house.wait_until("all are noted", SOON, |h| {
        h.metric("interlock_webhook_deliveries_total", &first_try) >= 4.0
    });
    house.wait_until("nothing waits", SOON, |h| waiting(h, false).is_empty());

    let again = house.get(&format!("/v1/events/{}", heard[1].id()));
    assert_eq!((again.status, &again["delivery"]["state"]), (200, &json!("delivered")));
    for member in ["id", "type", "timestamp", "data"] {
        assert_eq!(again[member], heard[1].json[member]);
    }
    assert_eq!(hook.heard().len(), 4, "nothing is told twice");
}

#[test]
fn each_status_of_a_payment_has_its_word() {
    let hook = Hook::start();
    let house = local(&hook, "");
    let words = |p: &Answer, last: &str| -> Vec<String> {
        let id = p["id"].as_str().unwrap();
        let ours = |m: &&Heard| m.json["data"]["id"] == id;
        let heard =
            hook.wait_until(last, |heard| heard.iter().filter(ours).any(|m| m.kind() == last));
        let words = heard.iter().filter(ours).map(|m| {
            let word = m.json["data"]["status"].as_str().unwrap();
            assert_eq!(m.kind(), format!("payment.{word}"), "the body is of the same moment");
            word.to_owned()
        });
        words.collect()
    };
    let mut held = network_token(1_500, "EUR");
    held["capture"] = json!("manual");
    let p = house.pay(&held);
    assert_eq!(words(&p, "payment.requires_capture"), ["requires_capture"]);
    house.post(&format!("/v1/payments/{}/capture", id(&p)), &fresh("c"), &json!({}));
    assert_eq!(words(&p, "payment.succeeded").last().unwrap(), "succeeded");

    let mut held = network_token(1_600, "EUR");
    held["capture"] = json!("manual");
    let p = house.pay(&held);
    house.post(&format!("/v1/payments/{}/cancel", id(&p)), &fresh("c"), &json!({}));
    assert_eq!(words(&p, "payment.canceled").last().unwrap(), "canceled");

    // What is in doubt is told once, and then what became of it.
    house.fault("alipay-main", "authorize", "charge_then_drop");
    let p = house.pay(&barcode(1_700, "01"));
    house.wait_for(id(&p), SOON, |p| p["status"] == "succeeded");
    assert_eq!(words(&p, "payment.succeeded"), ["processing", "succeeded"]);
}

#[test]
fn events_are_caught_up_in_pages_by_their_own_merchant_alone() {
    let hook = Hook::start();
    let house = local(&hook, "");
    for n in 0..5 {
        assert_eq!(house.pay(&barcode(1_000 + n, "01"))["status"], "succeeded");
    }
    let heard = hook.wait_for(5);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = house.get(&format!("/v1/events?limit=2{after}"));
        let data = page["data"].as_array().unwrap().clone();
        seen.extend(data.iter().map(|e| e["id"].as_str().unwrap().to_owned()));
        assert_eq!(page["has_more"], json!(page["next_cursor"].is_string()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        after = format!("&after={next}");
    }
    let mut ids: Vec<&str> = heard.iter().map(Heard::id).collect();
    ids.sort_unstable();
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ids);

    // The id of the last event that is known is a place, too.
    let rest = house.get(&format!("/v1/events?after={}", seen[2]));
    let rest = rest["data"].as_array().unwrap().clone();
    assert_eq!(rest.iter().map(|e| e["id"].as_str().unwrap()).collect::<Vec<_>>(), seen[3..]);
    for bad in ["after=x", "after=evt_unknown", "limit=0", "limit=101", "what=1"] {
        assert_eq!(house.get(&format!("/v1/events?{bad}")).status, 400, "{bad}");
    }
    let payments = house.get("/v1/payments?limit=1");
    let cursor = payments["next_cursor"].as_str().unwrap();
    assert!(!cursor.contains("pay_"), "a cursor is opaque: {cursor}");
    assert_eq!(house.get(&format!("/v1/events?after={cursor}")).status, 400);

    let other = [("Authorization", "Bearer other_key_2")];
    let url = |path: &str| format!("{}{path}", house.api);
    let theirs = house.send("GET", &url("/v1/events"), &other, None);
    assert_eq!((theirs.status, &theirs["data"]), (200, &json!([])));
    let path = format!("/v1/events/{}", seen[0]);
    assert_eq!(house.send("GET", &url(&path), &other, None).status, 404);
    let path = format!("{path}/redeliver");
    assert_eq!(house.send("POST", &url(&path), &other, Some(b"")).status, 422);
}

#[test]
fn while_a_webhook_fails_payments_go_on_and_each_keeps_its_order() {
    let hook = Hook::start();
    hook.answer(Manner::Status(500));
    let house = local(&hook, "retry = [\"300ms\", \"300ms\", \"300ms\", \"300ms\", \"24h\"]");
    let p = house.pay(&qr(2_000));
    hook.wait_for(1);
    house.scan("alipay-main", &code(&p), "pay");
    house.wait_for(id(&p), SOON, |p| p["status"] == "succeeded");
    let heard = hook.wait_for(3);
    let first = heard[0].id().to_owned();
    let only_the_first =
        |heard: &[Heard]| heard.iter().all(|m| m.kind() == "payment.requires_action");
    assert!(only_the_first(&heard), "the second waits for the first: {:?}", kinds(&heard));
    let queue = waiting(&house, false);
    let states: Vec<&Value> = queue.iter().map(|m| &m["delivery"]["state"]).collect();
    assert_eq!(states, ["due", "waiting"]);
    assert_eq!(queue[0]["delivery"]["reason"], "status_500");

    // A redirection is not followed, and a long answer is not read.
    hook.answer(Manner::Redirect);
    let redirected = hook.heard().len() + 1;
    hook.wait_for(redirected);
    hook.answer(Manner::Long(200, 3 << 20));
    let heard = hook.wait_until("the success", |h| h.last().unwrap().kind().ends_with("succeeded"));
    let last = heard.len() - 1;
    assert!(only_the_first(&heard[..last]), "{:?}", kinds(&heard));
    assert!(heard[..last].iter().all(|m| m.id() == first), "the id is the same for every try");
    assert!(heard.iter().all(|m| m.target.starts_with("/hooks")));
    house.wait_until("nothing waits", SOON, |h| waiting(h, false).is_empty());
    assert!(house.metric("interlock_webhook_deliveries_total", &[("result", "failed")]) >= 3.0);
}

#[test]
fn a_process_that_dies_before_anybody_was_told_tells_it_after_its_restart() {
    let hook = Hook::start();
    hook.answer(Manner::Hang);
    let mut house = local(&hook, "");
    let mut paid = Vec::new();
    for n in 0..3 {
        let p = house.pay(&network_token(3_000 + n, "EUR"));
        assert_eq!(p["status"], "succeeded", "a merchant who does not listen delays nothing");
        paid.push(id(&p).to_owned());
    }
    let before = hook.wait_for(3);
    house.kill_proxy();
    hook.answer(Manner::Status(200));
    house.start_proxy();
    let after = hook.wait_for(6);
    let ids = |heard: &[Heard]| {
        let mut ids: Vec<String> = heard.iter().map(|m| m.id().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&before), ids(&after[3..]), "each is told again under its id");
    let mut of: Vec<&str> =
        after[3..].iter().map(|m| m.json["data"]["id"].as_str().unwrap()).collect();
    of.sort_unstable();
    paid.sort();
    assert_eq!(of, paid);

    // The time of the next try is durable, too: a restart tries nothing early.
    hook.answer(Manner::Status(503));
    let p = house.pay(&network_token(3_100, "EUR"));
    house.wait_until("the failure is noted", SOON, |h| {
        waiting(h, false).iter().any(|m| m["delivery"]["tries"] == 1)
    });
    let due = waiting(&house, false)[0]["delivery"]["next_try"].clone();
    assert!(due.is_string(), "{p:?}");
    house.kill_proxy();
    house.start_proxy();
    assert_eq!(waiting(&house, false)[0]["delivery"]["next_try"], due);
    hook.answer(Manner::Status(200));
    let heard = hook.wait_for(8);
    let waited = heard[7].at - heard[6].at;
    assert!(waited > Duration::from_millis(3_500), "the first wait is about 5 s: {waited:?}");
    assert_eq!(heard[6].id(), heard[7].id());
}

#[test]
fn a_webhook_that_is_gone_is_left_alone_until_an_operator_resumes_it() {
    let hook = Hook::start();
    hook.answer(Manner::Status(410));
    let mut house = local(&hook, "");
    house.pay(&barcode(4_000, "01"));
    house.wait_until("it is disabled", SOON, |h| {
        let found = h.operate("GET", "/admin/v1/webhooks", None);
        found["endpoints"][0]["disabled"] == true
    });
    hook.answer(Manner::Status(200));
    house.pay(&barcode(4_001, "01"));
    house.kill_proxy();
    house.start_proxy();
    house.pay(&barcode(4_002, "01"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(hook.heard().len(), 1, "nobody is told while it is disabled");
    let (done, out) = house.cli(&["webhook", "list", "--config", "interlock.toml"]);
    assert!(done && out.contains("disabled since") && out.matches("evt_").count() == 3, "{out}");
    assert!(!out.contains("shop=1"), "path and query may be secrets: {out}");

    let (done, out) = house.cli(&["webhook", "resume", "test", "--config", "interlock.toml"]);
    assert!(done, "{out}");
    let heard = hook.wait_for(4);
    // Between payments there is no order.
    let again = heard[1..].iter().any(|told| told.id() == heard[0].id());
    assert!(again, "what was refused is told again");
    let (done, _) = house.cli(&["webhook", "resume", "other", "--config", "interlock.toml"]);
    assert!(!done, "a merchant without a webhook has nothing to resume");
    house.kill_proxy();
    house.start_proxy();
    let found = house.operate("GET", "/admin/v1/webhooks", None);
    assert_eq!(found["endpoints"][0]["disabled"], false, "the resumption is durable");
}

#[test]
fn while_keys_rotate_a_message_is_signed_with_both() {
    let hook = Hook::start();
    let house = local(&hook, &format!("old_key = \"{OLD_KEY}\""));
    house.pay(&barcode(5_000, "01"));
    let heard = &hook.wait_for(1)[0];
    let both = format!("{} {}", signature(KEY, heard), signature(OLD_KEY, heard));
    assert_eq!(heard.header("webhook-signature"), both);
    for key in [KEY, OLD_KEY] {
        assert!(!house.log().contains(&key[6..]), "no key is in the log");
    }
}

#[test]
fn what_is_given_up_is_kept_and_told_again_when_somebody_wants_it() {
    let hook = Hook::start();
    hook.answer(Manner::Status(404));
    let house = local(&hook, "retry = []");
    house.pay(&barcode(6_000, "01"));
    let p = house.pay(&qr(6_001));
    house.wait_until("both are given up", SOON, |h| waiting(h, true).len() == 2);
    hook.answer(Manner::Status(200));
    house.scan("alipay-main", &code(&p), "pay");
    let heard = hook.wait_for(3);
    assert_eq!(heard[2].kind(), "payment.succeeded", "what was given up holds up nothing");

    let (done, out) = house.cli(&["webhook", "list", "--given-up", "--config", "interlock.toml"]);
    assert!(done && out.contains("status_404"), "{out}");
    let (first, second) = (heard[0].id().to_owned(), heard[1].id().to_owned());
    let (done, out) = house.cli(&["webhook", "redeliver", &first, "--config", "interlock.toml"]);
    assert!(done, "{out}");
    assert_eq!(hook.wait_for(4)[3].id(), first);
    let url = format!("{}/v1/events/{second}/redeliver", house.api);
    assert_eq!(house.send("POST", &url, &[], Some(b"")).status, 202);
    let heard = hook.wait_for(5);
    assert_eq!((heard[4].id(), &heard[4].body), (second.as_str(), &heard[1].body));
    house.wait_until("nothing is given up", SOON, |h| waiting(h, true).is_empty());
    let (done, _) = house.cli(&["webhook", "redeliver", "evt_x", "--config", "interlock.toml"]);
    assert!(!done);
    assert_eq!(house.metric("interlock_webhook_deliveries_total", &[("result", "given_up")]), 2.0);
}

#[test]
fn addresses_of_our_own_network_are_never_told() {
    let hook = Hook::start();
    let port = hook.address.rsplit(':').next().unwrap();
    for url in [
        "https://10.1.2.3/hook".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://[fd00:ec2::254]/".to_owned(),
        // The system's resolver takes this number for 127.0.0.1.
        format!("https://2130706433:{port}/hook"),
    ] {
        let house = told_at(&url, "retry = []");
        assert_eq!(house.pay(&barcode(7_000, "01"))["status"], "succeeded");
        house.wait_until("it is given up", SOON, |h| waiting(h, true).len() == 1);
        let reason = &waiting(&house, true)[0]["delivery"]["reason"];
        assert_eq!(reason, "address_refused", "{url}");
    }
    assert!(hook.heard().is_empty());

    // What can be seen in the configuration already does not start.
    let house = House::prepared(plan("https://shop.example/", ""));
    let file = house.dir.path().join("interlock.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    for (url, code) in [
        (format!("https://127.0.0.1:{port}/"), "C066"),
        ("http://shop.example/".to_owned(), "C010"),
    ] {
        std::fs::write(&file, text.replace("https://shop.example/", &url)).unwrap();
        let (done, out) = house.cli(&["check", "--config", "interlock.toml"]);
        assert!(!done && out.contains(code), "{out}");
    }
}

#[test]
fn a_merchant_without_a_webhook_is_told_nothing_and_costs_nothing() {
    let house = House::start();
    house.pay(&barcode(8_000, "01"));
    assert_eq!(house.get("/v1/events")["data"], json!([]));
    assert!(waiting(&house, false).is_empty());
    let url = format!("{}/v1/events/evt_1/redeliver", house.api);
    assert_eq!(house.send("POST", &url, &[], Some(b"")).status, 422);
}

#[test]
fn another_address_takes_over_with_a_reload_and_nothing_is_lost_or_out_of_order() {
    let (first, second) = (Hook::start(), Hook::start());
    let house = local(&first, "retry = [\"100ms\", \"200ms\", \"400ms\", \"1s\", \"1s\", \"1s\"]");
    first.answer(Manner::Status(503));
    let paid = house.pay(&barcode(1_200, "01"));
    let refund = house.post("/v1/refunds", &fresh("r"), &json!({ "payment": id(&paid) }));
    assert_eq!(refund["status"], "succeeded", "{refund:?}");
    first.wait_for(2);
    let path = house.dir.path().join("interlock.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let old = first.address.to_string();
    let new = text.replace(&old, &second.address.to_string());
    let new = new.replace(KEY, OLD_KEY);
    std::fs::write(&path, &new).unwrap();
    let reload = || {
        let body = json!({ "operator": "tester" });
        let answer = house.operate("POST", "/admin/v1/reload", Some(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    reload();
    let heard = second.wait_for(2);
    assert_eq!(kinds(&heard), ["payment.succeeded", "refund.succeeded"]);
    assert!(heard.iter().all(|m| m.header("webhook-signature") == signature(OLD_KEY, m)));
    // What is as it was goes on undisturbed, and who is not told any more is left alone.
    reload();
    house.pay(&barcode(900, "01"));
    second.wait_for(3);
    let tries = first.heard().len();
    let without: Vec<&str> = new.lines().filter(|l| !l.starts_with("webhook = ")).collect();
    std::fs::write(&path, without.join("\n")).unwrap();
    reload();
    let last = house.pay(&barcode(900, "01"));
    assert_eq!(last["status"], "succeeded");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((first.heard().len(), second.heard().len()), (tries, 3));
    assert!(
        house.operate("GET", "/admin/v1/webhooks", None)["endpoints"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}
