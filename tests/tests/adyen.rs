//! Two processors for one card: a provider that nobody can ask beside one that can be asked.
//!
//! Adyen's outcome is its answer, the answer to the same request again, or its notification. So
//! every way to pay is tried through it, its notifications come early, twice, forged and not at
//! all, and the same network token goes on to the other processor only after a proof.

use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, at_once, fresh, network_token, stored};
use interlock_tests::ledger;
use interlock_tests::recorder::{Notification, Recorder};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const ADYEN: &str = "adyen-eu";
const OTHER: &str = "checkout-us";

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("an id")
}

fn op_id(payment: &Answer) -> &str {
    payment["attempts"][0]["op_id"].as_str().expect("our number")
}

fn net(house: &House, payment: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &payment.json)
}

fn charges(house: &House, payment: &Answer) -> usize {
    ledger::charges(&house.ledger(), &payment.json)
}

/// Account, state and reason of each attempt.
fn attempts(payment: &Answer) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one =
        |a: &Value| format!("{} {} {}", word(&a["account"]), word(&a["state"]), word(&a["reason"]));
    payment["attempts"].as_array().expect("attempts").iter().map(one).collect()
}

/// How often a payment's own request came to Adyen.
fn sends(house: &House, payment: &Answer) -> usize {
    let ours = |r: &&Value| r["op_id"] == op_id(payment) && r["operation"] == "authorize";
    house.requests(ADYEN).iter().filter(ours).count()
}

fn reasons(house: &House, payment: &Answer) -> Vec<String> {
    let lines = house.get(&format!("/v1/payments/{}/timeline", id(payment)));
    let lines = lines["data"].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(|l| l["reason"].as_str().map(str::to_owned)).collect()
}

fn no_wait(house: &House, path: &str, body: &Value) -> Answer {
    let key = fresh("key");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
    let url = format!("{}{path}", house.api);
    house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
}

fn wish(house: &House, payment: &Answer, verb: &str, body: Value) -> Answer {
    house.post(&format!("/v1/payments/{}/{verb}", id(payment)), &fresh(verb), &body)
}

fn refund(house: &House, payment: &Answer, amount: Option<i64>) -> Answer {
    let mut body = json!({ "payment": payment["id"] });
    if let Some(amount) = amount {
        body["amount"] = amount.into();
    }
    house.post("/v1/refunds", &fresh("refund"), &body)
}

fn manual(mut body: Value) -> Value {
    body["capture"] = "manual".into();
    body
}

fn wallet(kind: &str, token: Value) -> Value {
    json!({ "amount": 1_300, "currency": "GBP", "method": {
        "type": kind, "token": token, "form": "processor", "account": ADYEN,
    } })
}

#[test]
fn one_network_token_and_one_shoppers_tokens_are_paid_at_either_processor() {
    let house = House::start();
    for (body, account) in [
        (network_token(1_900, "GBP"), ADYEN),
        (network_token(1_900, "CHF"), OTHER),
        (stored(1_900, "GBP", "M5STORED"), ADYEN),
        (stored(1_900, "CHF", "M5STORED"), OTHER),
    ] {
        let paid = house.pay(&body);
        assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
        assert_eq!((&paid["account"], &paid["failover"]), (&json!(account), &json!("proven")));
        assert_eq!((net(&house, &paid), charges(&house, &paid)), (1_900, 1));
        assert!(paid["provider_ref"].is_string(), "{paid:?}");
    }
    // What a wallet encrypted to one processor goes nowhere else.
    for (kind, token) in [
        ("apple_pay", json!({ "paymentData": { "data": "c2VjcmV0", "version": "EC_v1" } })),
        ("google_pay", json!("{\"protocolVersion\":\"ECv2\",\"signedMessage\":\"x\"}")),
    ] {
        let paid = house.pay(&wallet(kind, token));
        assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
        assert_eq!((&paid["account"], &paid["failover"]), (&json!(ADYEN), &json!("none")));
        assert_eq!((net(&house, &paid), charges(&house, &paid)), (1_300, 1));
    }
    // A stored token without its shopper can't be used here, and can be there.
    let mut nameless = stored(1_900, "GBP", "M5STORED");
    nameless.as_object_mut().unwrap().remove("customer");
    let paid = house.pay(&nameless);
    assert_eq!((&paid["status"], &paid["account"]), (&json!("succeeded"), &json!(OTHER)));
}

#[test]
fn amounts_are_in_the_providers_own_units() {
    let house = House::start();
    // 500 pesos have no decimals for the merchant and two for the provider; 5.00 escudos the
    // other way round.
    for (amount, currency, theirs) in [(500, "CLP", 50_000), (500, "CVE", 5)] {
        let paid = house.pay(&network_token(amount, currency));
        assert_eq!((&paid["status"], &paid["account"]), (&json!("succeeded"), &json!(ADYEN)));
        let ledger = house.ledger();
        let last = ledger.last().expect("a movement");
        assert_eq!((&last["amount"], &last["currency"]), (&json!(theirs), &json!(currency)));
        let back = refund(&house, &paid, None);
        assert_eq!((back.status, &back["status"]), (201, &json!("succeeded")), "{back:?}");
        assert_eq!(house.ledger().last().expect("a movement")["amount"], theirs);
    }
    let odd = house.pay(&network_token(501, "CVE"));
    assert_eq!((odd.status, &odd["code"]), (503, &json!("no_account_available")), "{odd:?}");
    assert!(odd.json.to_string().contains("amount_not_representable"), "{odd:?}");
}

#[test]
fn what_is_held_is_captured_or_released_and_what_is_captured_is_given_back() {
    let house = House::start();
    for (amount, captured) in [(None, 3_000), (Some(1_200), 1_200)] {
        let held = house.pay(&manual(stored(3_000, "GBP", "M5STORED")));
        assert_eq!((held.status, &held["status"]), (201, &json!("requires_capture")), "{held:?}");
        assert_eq!((&held["account"], net(&house, &held)), (&json!(ADYEN), 3_000));
        let body = amount.map_or(json!({}), |amount| json!({ "amount": amount }));
        let done = wish(&house, &held, "capture", body);
        assert_eq!((done.status, &done["status"]), (200, &json!("succeeded")), "{done:?}");
        assert_eq!((&done["amount_captured"], net(&house, &done)), (&json!(captured), captured));
        let part = refund(&house, &done, Some(200));
        assert_eq!((part.status, &part["status"]), (201, &json!("succeeded")), "{part:?}");
        let rest = refund(&house, &done, None);
        assert_eq!((rest.status, &rest["status"]), (201, &json!("succeeded")), "{rest:?}");
        assert_eq!(net(&house, &done), 0);
    }
    let held = house.pay(&manual(network_token(2_000, "GBP")));
    let released = wish(&house, &held, "cancel", json!({}));
    assert_eq!((released.status, &released["status"]), (200, &json!("canceled")), "{released:?}");
    assert_eq!(net(&house, &held), 0);
    // All of an automatic payment is reversed, because nobody knows when it is captured.
    let paid = house.pay(&network_token(2_100, "GBP"));
    let back = refund(&house, &paid, None);
    assert_eq!((back.status, &back["status"]), (201, &json!("succeeded")), "{back:?}");
    let kinds: Vec<Value> = house.ledger().iter().map(|m| m["kind"].clone()).collect();
    assert_eq!(kinds.last(), Some(&json!("reverse")));
    assert_eq!(net(&house, &paid), 0);
    // The provider may say no later, by a notification.
    house.fault(ADYEN, "refund", "decline_soft");
    let paid = house.pay(&stored(900, "GBP", "M5STORED"));
    let refused = refund(&house, &paid, Some(300));
    assert_eq!((refused.status, &refused["status"]), (201, &json!("failed")), "{refused:?}");
    assert_eq!(net(&house, &paid), 900);
}

#[test]
fn a_refusal_says_what_helps_and_only_a_soft_one_goes_on() {
    let house = House::start();
    for (token, code, class) in [
        ("M5_decline_20", "Refused:20", "declined.fraud"),
        ("M5_decline_12", "Refused:12", "user"),
        ("M5_decline_27", "Refused:27", "declined.hard"),
        ("M5_decline_38", "Refused:38", "verification"),
    ] {
        let failed = house.pay(&stored(700, "GBP", token));
        assert_eq!((failed.status, &failed["status"]), (201, &json!("failed")), "{failed:?}");
        assert_eq!(failed["failure"]["provider_code"], code);
        assert_eq!(failed["failure"]["class"], class);
        assert!(failed["failure"]["advice"].is_string(), "{failed:?}");
        assert_eq!(attempts(&failed), [format!("{ADYEN} failed declined")]);
        assert_eq!(charges(&house, &failed), 0);
    }
    for token in ["M5_decline_2", "M5_decline_9", "M5_store_down"] {
        let paid = house.pay(&stored(800, "GBP", token));
        assert_eq!(paid["status"], "succeeded", "{paid:?}");
        let both = [format!("{ADYEN} failed declined"), format!("{OTHER} success -")];
        assert_eq!(attempts(&paid), both, "{token}");
        assert_eq!((net(&house, &paid), charges(&house, &paid)), (800, 1));
    }
    // The issuer saw the cryptogram, so no other processor may bring it again.
    let mut body = network_token(800, "GBP");
    body["method"]["network_token"]["number"] = "4111111111110091".into();
    let failed = house.pay(&body);
    assert_eq!(attempts(&failed), [format!("{ADYEN} failed declined")], "{failed:?}");
}

#[test]
fn the_same_network_token_goes_on_both_ways_when_the_first_is_proven_not_to_have_it() {
    let house = House::start();
    for (first, second, currency) in [(ADYEN, OTHER, "GBP"), (OTHER, ADYEN, "CHF")] {
        for (fault, reason) in [("refuse", "not_sent"), ("rate_limited", "declined")] {
            house.fault(first, "authorize", fault);
            let paid = house.pay(&network_token(1_500, currency));
            house.lift_faults();
            assert_eq!(paid["status"], "succeeded", "{fault} {paid:?}");
            let both = [format!("{first} failed {reason}"), format!("{second} success -")];
            assert_eq!(attempts(&paid), both, "{fault}");
            assert_eq!((net(&house, &paid), charges(&house, &paid)), (1_500, 1));
            // The provider's wish for patience is over.
            std::thread::sleep(Duration::from_millis(1_100));
        }
        house.fault(first, "authorize", "decline_soft");
        let paid = house.pay(&stored(1_600, currency, "M5STORED"));
        house.lift_faults();
        let both = [format!("{first} failed declined"), format!("{second} success -")];
        assert_eq!(attempts(&paid), both, "{paid:?}");
        assert_eq!((net(&house, &paid), charges(&house, &paid)), (1_600, 1));
    }
}

#[test]
fn an_unanswered_payment_is_sent_again_under_its_key_and_never_elsewhere() {
    let house = House::start();
    for fault in ["charge_then_drop", "reset_after_read", "hang", "slow"] {
        house.fault_with(json!({
            "account": ADYEN, "operation": "authorize", "fault": fault, "for_ms": 60_000,
            "ms": 2_500,
        }));
        house.fault(ADYEN, "notify", "notify_lose");
        let begun = no_wait(&house, "/v1/payments", &network_token(1_700, "GBP"));
        house.wait_until("it was sent", SOON, |h| sends(h, &house.payment(id(&begun))) >= 1);
        let doubtful = house.wait_for(id(&begun), SOON, |p| {
            p["status_reason"] == "provider_outcome_unknown" || p["status"] == "succeeded"
        });
        house.lift_faults();
        let paid = house.wait_for(id(&begun), SOON, |p| p["status"] == "succeeded");
        assert_eq!(attempts(&paid), [format!("{ADYEN} success -")], "{fault}: {doubtful:?}");
        assert!(sends(&house, &paid) >= 2, "{fault}: the same request came again");
        assert_eq!((net(&house, &paid), charges(&house, &paid)), (1_700, 1), "{fault}");
        assert!(house.requests(OTHER).is_empty(), "{fault}: nobody else was asked");
    }
}

#[test]
fn an_answer_that_says_nothing_is_not_followed_by_another_send() {
    let house = House::start();
    // Executed, and the answer is worthless: the notification tells.
    for fault in ["error_after", "garbage", "bad_signature"] {
        house.fault(ADYEN, "authorize", fault);
        let paid = house.pay(&stored(1_100, "GBP", "M5STORED"));
        house.lift_faults();
        assert_eq!(paid["status"], "succeeded", "{fault} {paid:?}");
        assert_eq!((sends(&house, &paid), charges(&house, &paid)), (1, 1), "{fault}");
    }
    // So it is for a result, and a refusal, that nobody has listed.
    for (token, status) in [("M5_error", "failed"), ("M5_decline_99", "failed")] {
        let told = house.pay(&stored(1_200, "GBP", token));
        assert_eq!(told["status"], status, "{token} {told:?}");
        assert_eq!(told["failure"]["provider_code"], "AUTHORISATION:false");
        assert_eq!(attempts(&told), [format!("{ADYEN} failed declined")], "{token}");
        assert_eq!((sends(&house, &told), charges(&house, &told)), (1, 0));
    }
    // Decided later, for once.
    let paid = house.pay(&stored(1_300, "GBP", "M5_pending"));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");

    // Not executed, so nobody ever tells: an operator who looked may.
    house.fault(ADYEN, "authorize", "error_before");
    let begun = no_wait(&house, "/v1/payments", &stored(1_400, "GBP", "M5STORED"));
    let doubtful =
        house.wait_for(id(&begun), SOON, |p| p["status_reason"] == "provider_outcome_unknown");
    house.lift_faults();
    std::thread::sleep(Duration::from_secs(3));
    let still = house.payment(id(&begun));
    assert_eq!(still["status"], "processing", "{still:?}");
    assert_eq!((sends(&house, &doubtful), charges(&house, &still)), (1, 0));
    let (settled, out) = house.cli(&[
        "payment",
        "resolve",
        id(&begun),
        "--outcome",
        "failed",
        "--reason",
        "not in the Customer Area",
        "--operator",
        "jo",
        "--config",
        "interlock.toml",
    ]);
    assert!(settled, "{out}");
    house.wait_for(id(&begun), SOON, |p| p["status"] == "failed");
    assert!(house.requests(OTHER).is_empty(), "nobody else was asked");
}

#[test]
fn a_notification_may_come_before_the_answer() {
    let house = House::start();
    house.fault_with(json!({
        "account": ADYEN, "operation": "*", "fault": "slow", "for_ms": 60_000, "ms": 1_000,
    }));
    let begun = no_wait(&house, "/v1/payments", &manual(stored(2_000, "GBP", "M5STORED")));
    let held = house
        .wait_for(id(&begun), Duration::from_millis(900), |p| p["status"] == "requires_capture");
    assert_eq!(attempts(&held), [format!("{ADYEN} success -")]);
    house.wait_until("the answer came, too", SOON, |h| answered(h, 200) == 1);
    let captured = no_wait(&house, &format!("/v1/payments/{}/capture", id(&begun)), &json!({}));
    assert!(captured.status < 300, "{captured:?}");
    house.wait_for(id(&begun), Duration::from_millis(900), |p| p["status"] == "succeeded");
    house.wait_until("the answer came, too", SOON, |h| answered(h, 201) == 1);
    let after = house.payment(id(&begun));
    assert_eq!((&after["status"], &after["amount_captured"]), (&json!("succeeded"), &json!(2_000)));
    assert_eq!((net(&house, &after), charges(&house, &after)), (2_000, 1));
}

/// How many requests Adyen has answered with this status.
fn answered(house: &House, status: u16) -> usize {
    house.requests(ADYEN).iter().filter(|r| r["answered"] == status).count()
}

/// A house whose notifications come to the recorder alone, and a payment that only they can tell.
fn unheard(recorder: &Recorder) -> (House, Answer, Notification) {
    let plan = Plan { notify: Some(recorder.url.clone()), ..Plan::default() };
    let house = House::with(plan);
    house.fault(ADYEN, "authorize", "error_after");
    let begun = no_wait(&house, "/v1/payments", &stored(2_200, "GBP", "M5STORED"));
    let doubtful =
        house.wait_for(id(&begun), SOON, |p| p["status_reason"] == "provider_outcome_unknown");
    house.lift_faults();
    let notice = recorder.wait_for(&[op_id(&doubtful), "AUTHORISATION"]);
    (house, doubtful, notice)
}

#[test]
fn copies_of_a_notification_are_accepted_and_applied_once() {
    let recorder = Recorder::start();
    let (mut house, payment, notice) = unheard(&recorder);
    for ack in at_once(10, |_| notice.deliver(&house)) {
        assert_eq!((ack.status, ack.body.as_slice()), (200, b"[accepted]".as_slice()), "{ack:?}");
    }
    let paid = house.payment(id(&payment));
    assert_eq!(paid["status"], "succeeded", "what is acknowledged is durable: {paid:?}");
    let lines = reasons(&house, &payment);
    house.kill_proxy();
    house.start_proxy();
    assert_eq!(notice.deliver(&house).body, b"[accepted]");
    assert_eq!(reasons(&house, &payment), lines, "and nothing more happened");
    assert_eq!((net(&house, &paid), charges(&house, &paid)), (2_200, 1));
}

/// Two payments that only notifications can tell, and one body that speaks of both.
fn two_unheard(recorder: &Recorder) -> (House, [(Answer, i64); 2], Notification) {
    let (house, first, one) = unheard(recorder);
    house.fault(ADYEN, "authorize", "error_after");
    let second = no_wait(&house, "/v1/payments", &stored(2_300, "GBP", "M5STORED"));
    let second =
        house.wait_for(id(&second), SOON, |p| p["status_reason"] == "provider_outcome_unknown");
    house.lift_faults();
    let other = recorder.wait_for(&[op_id(&second), "AUTHORISATION"]);
    let item = |notice: &Notification| -> Value {
        let body: Value = serde_json::from_slice(&notice.body).expect("JSON");
        body["notificationItems"][0].clone()
    };
    let both = json!({ "live": "false", "notificationItems": [item(&one), item(&other)] });
    let both = Notification { body: both.to_string().into_bytes(), ..one };
    (house, [(first, 2_200), (second, 2_300)], both)
}

#[test]
fn the_items_of_one_body_reach_their_payments() {
    let recorder = Recorder::start();
    let (house, payments, both) = two_unheard(&recorder);
    for _ in 0..2 {
        let ack = both.deliver(&house);
        assert_eq!((ack.status, ack.body.as_slice()), (200, b"[accepted]".as_slice()), "{ack:?}");
        for (payment, amount) in &payments {
            let paid = house.payment(id(payment));
            assert_eq!((&paid["status"], net(&house, &paid)), (&json!("succeeded"), *amount));
        }
    }
}

#[test]
fn a_process_that_dies_between_the_items_of_one_body_forgets_none_of_them() {
    let recorder = Recorder::start();
    let (mut house, first, both) = two_unheard(&recorder);
    house.stop_proxy();
    // It dies as soon as the first of them is durable.
    house
        .spawn_proxy_as("interlock-failpoints", &[("INTERLOCK_FAILPOINT", "commit.noticed.after")]);
    assert!(house.is_ready_within(SOON), "it starts\n{}", house.log());
    let headers: Vec<(&str, &str)> =
        both.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let url = format!("{}{}", house.api, both.path);
    assert!(house.try_send("POST", &url, &headers, Some(&both.body)).is_none(), "no answer");
    assert!(house.is_killed_within(SOON));
    house.start_proxy();
    let known = |p: &Answer| p["status"] == "succeeded";
    let now = first.iter().filter(|(p, _)| known(&house.payment(id(p)))).count();
    assert_eq!(now, 1, "one of them is known");
    assert_eq!(both.deliver(&house).body, b"[accepted]", "the provider tells it again");
    for (payment, amount) in &first {
        let paid = house.payment(id(payment));
        assert_eq!((&paid["status"], net(&house, &paid)), (&json!("succeeded"), *amount));
    }
}

#[test]
fn an_item_about_nothing_of_ours_is_told_again_and_the_others_are_taken() {
    let recorder = Recorder::start();
    let (house, payments, both) = two_unheard(&recorder);
    let stranger = Recorder::start();
    let (_elsewhere, _, theirs) = unheard(&stranger);
    let items = |notice: &Notification| -> Vec<Value> {
        let body: Value = serde_json::from_slice(&notice.body).expect("JSON");
        body["notificationItems"].as_array().expect("items").clone()
    };
    let mut all = items(&both);
    all.extend(items(&theirs));
    let body = json!({ "live": "false", "notificationItems": all }).to_string().into_bytes();
    let all = Notification { body, ..both };
    for _ in 0..2 {
        assert_eq!(all.deliver(&house).status, 404, "one item has found nobody");
        for (payment, amount) in &payments {
            let paid = house.payment(id(payment));
            assert_eq!((&paid["status"], net(&house, &paid)), (&json!("succeeded"), *amount));
        }
    }
}

#[test]
fn after_a_restart_only_the_notification_tells() {
    let recorder = Recorder::start();
    let mut house = House::with(Plan { notify: Some(recorder.url.clone()), ..Plan::default() });
    house.fault_with(json!({
        "account": ADYEN, "operation": "authorize", "fault": "slow", "for_ms": 60_000, "ms": 5_000,
    }));
    let begun = no_wait(&house, "/v1/payments", &network_token(2_400, "GBP"));
    let notice = recorder.wait_for(&["AUTHORISATION", "2400"]);
    house.kill_proxy();
    house.lift_faults();
    house.start_proxy();
    let fenced = house.wait_for(id(&begun), SOON, |p| p["attempts"][0]["state"] == "fenced");
    assert_eq!(fenced["status_reason"], "provider_outcome_unknown", "{fenced:?}");
    assert_eq!(notice.deliver(&house).body, b"[accepted]");
    let paid = house.payment(id(&begun));
    assert_eq!((&paid["status"], charges(&house, &paid)), (&json!("succeeded"), 1), "{paid:?}");
    assert_eq!(sends(&house, &paid), 1, "the credential is gone, so nothing was sent again");
}

#[test]
fn money_that_comes_after_a_cancel_is_given_back() {
    let recorder = Recorder::start();
    let (house, payment, notice) = unheard(&recorder);
    let path = format!("/v1/payments/{}/cancel", id(&payment));
    let canceled = no_wait(&house, &path, &json!({}));
    assert_eq!(canceled["status"], "processing", "nobody knows yet: {canceled:?}");
    assert_eq!(notice.deliver(&house).status, 200);
    let reversal = recorder.wait_for(&["CANCEL_OR_REFUND"]);
    assert_eq!(house.payment(id(&payment))["status"], "processing");
    assert_eq!(reversal.deliver(&house).status, 200);
    let back = house.wait_for(id(&payment), SOON, |p| p["status"] == "canceled");
    assert_eq!((net(&house, &back), charges(&house, &back)), (0, 1), "{back:?}");
}

#[test]
fn a_forged_notification_is_refused_and_nothing_of_it_is_kept() {
    let recorder = Recorder::start();
    let (house, payment, notice) = unheard(&recorder);
    let before = (house.payment(id(&payment)).body, reasons(&house, &payment));
    let text = String::from_utf8(notice.body.clone()).unwrap();
    let altered = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        Notification { body: text.replacen(from, to, 1).into_bytes(), ..notice.clone() }
    };
    let signature = text.split("hmacSignature\":\"").nth(1).unwrap().split('"').next().unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let two = text.replacen(
        "\"notificationItems\":[",
        "\"notificationItems\":[{\"NotificationRequestItem\":{}},",
        1,
    );
    for (what, forged) in [
        ("amount", altered("2200", "1")),
        ("outcome", altered("\"success\":\"true\"", "\"success\":\"false\"")),
        ("event", altered("AUTHORISATION", "CANCELLATION")),
        ("reference", altered("-auto", "-manual")),
        ("account", altered("TestShop", "OtherShop")),
        ("signature", altered(signature, &format!("{other}{}", &signature[1..]))),
        ("no signature", altered("hmacSignature", "hmacSignatures")),
        ("another item", Notification { body: two.into_bytes(), ..notice.clone() }),
        ("nothing", Notification { body: b"{}".to_vec(), ..notice.clone() }),
    ] {
        let answer = forged.deliver(&house);
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_ne!(answer.body, b"[accepted]", "{what}");
        let now = (house.payment(id(&payment)).body, reasons(&house, &payment));
        assert_eq!(now, before, "{what}");
    }
    assert!(house.metric("interlock_notifications_total", &[("account", ADYEN)]) >= 9.0);
    // What is not signed decides nothing, and a forgery has not used up the number of the true one.
    let ack = altered("\"reason\":\"\"", "\"reason\":\"REFUSED\"").deliver(&house);
    assert_eq!((ack.status, ack.body.as_slice()), (200, b"[accepted]".as_slice()), "{ack:?}");
    let paid = house.payment(id(&payment));
    assert_eq!((&paid["status"], net(&house, &paid)), (&json!("succeeded"), 2_200));
}
