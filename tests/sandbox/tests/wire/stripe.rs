//! Stripe: keys that repeat a 500, challenges that are confirmed again, the search, faults, events.

use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::{Value, json};

use crate::stage::{Arrived, STRIPE_HOOK, STRIPE_KEY, Stage, encoded, outcome};

const MAIN: &str = "stripe-main";
const PAY: (&str, &str) = ("POST", "/payment_intents");

#[tokio::test]
async fn a_key_gives_one_execution_and_the_same_answer_to_every_copy() {
    let stage = Stage::start().await;
    let (status, headers, paid) = stage.stripe(MAIN, PAY, Some("k1"), &card("pm_1")).await;
    assert_eq!((status, &paid["status"]), (200, &json!("succeeded")), "{paid}");
    assert_eq!(paid["latest_charge"]["captured"], true);
    assert!(headers.get("idempotent-replayed").is_none());
    let (status, headers, again) = stage.stripe(MAIN, PAY, Some("k1"), &card("pm_1")).await;
    assert_eq!((status, again), (200, paid));
    assert_eq!(headers["idempotent-replayed"], "true");
    // Other parameters under the key say nothing of the first ones.
    let other = pay(&stage, "k1", "pm_2").await;
    assert_eq!((other.0, &other.1["error"]["type"]), (400, &json!("idempotency_error")));
    // A refusal is kept as well.
    let declined = pay(&stage, "k2", "pm_decline_insufficient_funds").await;
    let error = &declined.1["error"];
    assert_eq!((declined.0, &error["code"]), (402, &json!("card_declined")));
    assert_eq!(error["decline_code"], "insufficient_funds");
    assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
    assert_eq!(pay(&stage, "k2", "pm_decline_insufficient_funds").await, declined);
    // What failed validation is not kept.
    let missing = pay(&stage, "k3", "pm_missing").await;
    assert_eq!((missing.0, &missing.1["error"]["code"]), (400, &json!("resource_missing")));
    assert_eq!(pay(&stage, "k3", "pm_1").await.0, 200);
    assert_eq!(stage.ledger(MAIN).await, [charge(), charge()]);
}

#[tokio::test]
async fn a_copy_under_way_meets_409() {
    let stage = Stage::with_stripe("latency_ms = 150").await;
    let copies = (pay(&stage, "k", "pm_1"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        pay(&stage, "k", "pm_1").await
    });
    let (first, busy) = tokio::join!(copies.0, copies.1);
    assert_eq!((first.0, busy.0), (200, 409));
    assert_eq!(busy.1["error"]["code"], "idempotency_key_in_use");
    assert_eq!(pay(&stage, "k", "pm_1").await, first);
    assert_eq!(stage.ledger(MAIN).await, [charge()]);
}

#[tokio::test]
async fn who_is_not_known_is_refused_and_a_wrong_form_is_named() {
    let stage = Stage::start().await;
    let url = format!("http://{}/v1/payment_intents", stage.address(MAIN));
    let request = stage.client.post(&url).bearer_auth("sk_other").body(encoded(&card("pm_1")));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    for (name, value, code) in [
        ("currency", "", "parameter_missing"),
        ("currency", "EUR", "parameter_invalid_string_blank"),
        ("amount", "49.00", "parameter_invalid_integer"),
        ("amount", "0", "amount_too_small"),
        ("payment_method", "card_1", "resource_missing"),
        ("error_on_requires_action", "false", "parameter_missing"),
    ] {
        let mut pairs = card("pm_1");
        pairs.iter_mut().find(|(n, _)| *n == name).unwrap().1 = value;
        let (status, _, error) = stage.stripe(MAIN, PAY, Some("k"), &pairs).await;
        assert_eq!((status, &error["error"]["code"]), (400, &json!(code)), "{name}={value}");
    }
    assert!(stage.ledger(MAIN).await.is_empty());
}

#[tokio::test]
async fn a_wallets_token_is_good_once_and_its_cryptogram_for_one_processor() {
    let stage = Stage::start().await;
    let token = async |key: &str, pairs: &[(&str, &str)]| {
        let (status, _, made) = stage.stripe(MAIN, ("POST", "/tokens"), Some(key), pairs).await;
        assert_eq!(status, 200, "{made}");
        made["id"].as_str().unwrap().to_owned()
    };
    let apple = token("t1", &[("pk_token", "{\"data\":\"x\"}")]).await;
    assert_eq!(token("t1", &[("pk_token", "{\"data\":\"x\"}")]).await, apple, "the same key");
    assert_eq!(by_token(&stage, "k1", &apple).await.0, 200);
    let again = by_token(&stage, "k2", &apple).await;
    assert_eq!((again.0, &again.1["error"]["code"]), (400, &json!("token_already_used")));
    let decrypted = [
        ("card[number]", "4900000000001111"),
        ("card[exp_month]", "12"),
        ("card[exp_year]", "2099"),
        ("card[cryptogram]", "c"),
        ("card[tokenization_method]", "apple_pay"),
    ];
    let (one, two) = (token("t2", &decrypted).await, token("t3", &decrypted).await);
    assert_eq!(by_token(&stage, "k3", &one).await.0, 200);
    let spent = by_token(&stage, "k4", &two).await;
    assert_eq!((spent.0, &spent.1["error"]["decline_code"]), (402, &json!("fraudulent")));
    let other = stage.pay("checkout-main", "k5", crate::stage::card("c")).await;
    assert_eq!(other.1["response_code"], "20063");
    assert_eq!(stage.ledger(MAIN).await, [charge(), charge()]);
    // Google's comes ready made.
    assert_eq!(by_token(&stage, "k6", "tok_decline_do_not_honor").await.0, 402);
}

#[tokio::test]
async fn a_hold_is_captured_once_or_let_go_and_given_back_in_parts() {
    let stage = Stage::start().await;
    let held = async |key: &str| {
        let number = format!("{key}n");
        let mut pairs = card("pm_1");
        pairs.iter_mut().find(|(n, _)| *n == "capture_method").unwrap().1 = "manual";
        pairs.push(("metadata[interlock_attempt]", &number));
        let (_, _, held) = stage.stripe(MAIN, PAY, Some(key), &pairs).await;
        assert_eq!(
            (&held["status"], &held["amount_capturable"]),
            (&json!("requires_capture"), &json!(4900))
        );
        held["id"].as_str().unwrap().to_owned()
    };
    let change = async |id: &str, what: &str, key: &str, pairs: &[(&str, &str)]| {
        let path = format!("/payment_intents/{id}/{what}");
        let (status, _, body) = stage.stripe(MAIN, ("POST", &path), Some(key), pairs).await;
        (status, body)
    };
    let id = held("k1").await;
    let part = [("amount_to_capture", "900"), ("metadata[interlock_capture]", "c1")];
    let (status, taken) = change(&id, "capture", "c1", &part).await;
    assert_eq!((status, &taken["amount_received"]), (200, &json!(900)), "{taken}");
    assert_eq!(taken["metadata"], json!({ "interlock_attempt": "k1n", "interlock_capture": "c1" }));
    let (status, late) = change(&id, "capture", "c2", &part).await;
    assert_eq!((status, &late["error"]["code"]), (400, &json!("payment_intent_unexpected_state")));
    assert_eq!(late["error"]["payment_intent"]["status"], "succeeded");
    for (key, amount, status) in [("r1", "300", 200), ("r2", "601", 400), ("r3", "600", 200)] {
        let pairs =
            [("payment_intent", &*id), ("amount", amount), ("metadata[interlock_refund]", key)];
        let made = stage.stripe(MAIN, ("POST", "/refunds"), Some(key), &pairs).await;
        assert_eq!(made.0, status, "{:?}", made.2);
    }
    let path = format!("/refunds?payment_intent={id}&limit=1");
    let (_, _, page) = stage.stripe(MAIN, ("GET", &path), None, &[]).await;
    assert_eq!((&page["has_more"], &page["data"][0]["amount"]), (&json!(true), &json!(600)));
    let newest = page["data"][0]["id"].as_str().unwrap();
    let path = format!("{path}&starting_after={newest}");
    let (_, _, page) = stage.stripe(MAIN, ("GET", &path), None, &[]).await;
    assert_eq!((&page["has_more"], &page["data"][0]["amount"]), (&json!(false), &json!(300)));

    let id = held("k2").await;
    let (status, ended) = change(&id, "cancel", "v", &[]).await;
    assert_eq!((status, &ended["status"]), (200, &json!("canceled")));
    assert_eq!(change(&id, "capture", "c3", &[]).await.0, 400);
    let expected = [
        ("authorize", 4900),
        ("capture", 900),
        ("void", 4000),
        ("refund", 300),
        ("refund", 600),
        ("authorize", 4900),
        ("void", 4900),
    ];
    let ledger = stage.ledger(MAIN).await;
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
}

#[tokio::test]
async fn a_challenge_takes_nothing_before_it_is_confirmed_again() {
    let stage = Stage::start().await;
    for (n, (act, status, charges)) in [("pay", 200, 1), ("fail", 400, 1)].into_iter().enumerate() {
        let shown = challenged(&stage, act).await;
        assert_eq!(shown["status"], "requires_action", "{shown}");
        let url = shown["next_action"]["redirect_to_url"]["url"].as_str().unwrap();
        assert_eq!(stage.client.get(url).send().await.unwrap().status(), 200);
        let path = format!("/payment_intents/{}/confirm", shown["id"].as_str().unwrap());
        let early = stage.stripe(MAIN, ("POST", &path), Some(&format!("e{n}")), &[]).await;
        assert_eq!((early.0, &early.2["status"]), (200, &json!("requires_action")));
        let (acted, told) = stage.act(json!({ "account": MAIN, "op_id": act, "act": act })).await;
        assert_eq!(acted, 200, "{told}");
        assert_eq!(stage.ledger(MAIN).await.len(), n, "nothing moved yet");
        let done = stage.stripe(MAIN, ("POST", &path), Some(&format!("c{n}")), &[]).await;
        assert_eq!(done.0, status, "{:?}", done.2);
        if status == 400 {
            let intent = &done.2["error"]["payment_intent"];
            let why = "payment_intent_authentication_failure";
            assert_eq!(intent["last_payment_error"]["code"], why);
        }
        assert_eq!(stage.ledger(MAIN).await.len(), charges);
    }
    // Who can't show one is refused instead.
    let stopped = pay(&stage, "stop", "pm_authenticate").await;
    assert_eq!((stopped.0, &stopped.1["error"]["code"]), (402, &json!("authentication_required")));
}

#[tokio::test]
async fn the_search_is_behind_and_the_payment_itself_is_not() {
    let stage = Stage::with_stripe("search_delay_ms = 300").await;
    let paid = pay(&stage, "k", "pm_1").await.1;
    let id = paid["id"].as_str().unwrap();
    let query = encoded(&[("query", "metadata['interlock_attempt']:'kn'"), ("limit", "10")]);
    let search = format!("/payment_intents/search?{query}");
    let hits = async || stage.stripe(MAIN, ("GET", &search), None, &[]).await.2;
    assert_eq!(hits().await["data"], json!([]));
    let path = format!("/payment_intents/{id}?expand[]=latest_charge");
    let (status, _, shown) = stage.stripe(MAIN, ("GET", &path), None, &[]).await;
    assert_eq!((status, &shown["status"]), (200, &json!("succeeded")));
    let begun = Instant::now();
    while hits().await["data"][0]["id"] != id {
        assert!(begun.elapsed() < Duration::from_secs(5), "never found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let nowhere = stage.stripe(MAIN, ("GET", "/payment_intents/pi_none"), None, &[]).await;
    assert_eq!((nowhere.0, &nowhere.2["error"]["code"]), (404, &json!("resource_missing")));
}

#[tokio::test]
async fn each_fault_does_to_money_what_it_says() {
    let stage = Stage::start().await;
    let fault = |fault: &str| json!({ "account": MAIN, "operation": "authorize", "fault": fault });
    for (name, answered, moved, again) in [
        ("error_before", 500, false, 200),
        ("rate_limited", 429, false, 200),
        // What was told as a failure is told so again, though the money moved.
        ("error_after", 500, true, 500),
        ("garbage", 200, true, 200),
        ("bad_signature", 200, true, 200),
    ] {
        let before = stage.ledger(MAIN).await.len();
        stage.fault(fault(name)).await;
        assert_eq!(pay(&stage, name, "pm_1").await.0, answered, "{name}");
        assert_eq!(stage.ledger(MAIN).await.len() - before, usize::from(moved), "{name}");
        stage.lift_all().await;
        assert_eq!(pay(&stage, name, "pm_1").await.0, again, "{name}");
        assert_eq!(stage.ledger(MAIN).await.len() - before, 1, "{name}");
    }
    for (name, why) in [("decline_soft", "do_not_honor"), ("decline_hard", "fraudulent")] {
        stage.fault(fault(name)).await;
        let declined = pay(&stage, name, "pm_1").await;
        assert_eq!((declined.0, &declined.1["error"]["decline_code"]), (402, &json!(why)));
        stage.lift_all().await;
    }
    let before = stage.ledger(MAIN).await.len();
    for (name, moved) in [("reset_after_read", 0), ("charge_then_drop", 1)] {
        stage.fault(fault(name)).await;
        let stream = stage.raw(MAIN, &raw(name)).await;
        assert_eq!(outcome(stream).await, (vec![], true), "{name}");
        assert_eq!(stage.ledger(MAIN).await.len() - before, moved, "{name}");
        stage.lift_all().await;
    }
    assert_eq!(pay(&stage, "charge_then_drop", "pm_1").await.0, 200);
    assert_eq!(stage.ledger(MAIN).await.len() - before, 1, "a copy charges nothing");
}

#[tokio::test]
async fn events_are_signed_over_their_time_and_body_and_come_until_they_are_taken() {
    let stage = Stage::start().await;
    stage.hook.refuse(1);
    let paid = pay(&stage, "k", "pm_1").await.1;
    let arrived = stage.hook.wait(2).await;
    assert!(arrived.iter().all(|a| a.body == arrived[0].body && is_signed(a)));
    let event = told(&arrived[0]);
    assert_eq!(
        (&event["object"], &event["type"]),
        (&json!("event"), &json!("payment_intent.succeeded"))
    );
    assert_eq!(event["data"]["object"]["metadata"]["interlock_attempt"], "kn");
    assert!(event["data"]["object"]["latest_charge"].is_string(), "an event expands nothing");

    // Made at the dashboard, and one of ours that comes back.
    let (status, refund) = stage
        .control(
            "POST",
            "/portal",
            json!({
                "account": MAIN, "act": "refund", "op_id": "k", "amount": 1000,
            }),
        )
        .await;
    assert_eq!((status, &refund["amount"]), (200, &json!(1000)), "{refund}");
    stage.fault(json!({ "account": MAIN, "operation": "refund", "fault": "decline_soft" })).await;
    let pairs = [("payment_intent", paid["id"].as_str().unwrap()), ("amount", "100")];
    let (_, _, pending) = stage.stripe(MAIN, ("POST", "/refunds"), Some("r"), &pairs).await;
    assert_eq!(pending["status"], "pending");
    let mut kinds: Vec<String> = stage.hook.wait(6).await[2..]
        .iter()
        .map(|a| told(a)["type"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    let expected = ["charge.refunded", "refund.created", "refund.created", "refund.failed"];
    assert_eq!(kinds, expected);
    let sums = [charge(), ("refund".to_owned(), 1000)];
    assert_eq!(stage.ledger(MAIN).await, sums);

    stage.fault(json!({ "account": MAIN, "operation": "notify", "fault": "bad_signature" })).await;
    pay(&stage, "k2", "pm_1").await;
    assert!(!is_signed(&stage.hook.wait(7).await[6]));
}

#[tokio::test]
async fn what_is_decided_later_is_told_by_an_event() {
    let stage = Stage::with_stripe("decide_ms = 0").await;
    for (key, act, kind, sum) in [
        ("k1", "pay", "payment_intent.succeeded", 1),
        ("k2", "fail", "payment_intent.payment_failed", 1),
    ] {
        let waits = pay(&stage, key, "pm_processing").await;
        assert_eq!((waits.0, &waits.1["status"]), (200, &json!("processing")));
        stage.act(json!({ "account": MAIN, "op_id": key, "act": act })).await;
        let count = if key == "k1" { 2 } else { 4 };
        let kinds: Vec<Value> =
            stage.hook.wait(count).await.iter().map(|a| told(a)["type"].clone()).collect();
        assert!(kinds.contains(&json!(kind)), "{kinds:?}");
        assert_eq!(stage.ledger(MAIN).await.len(), sum);
    }
}

#[tokio::test]
async fn no_secret_reaches_the_request_log() {
    let stage = Stage::start().await;
    pay(&stage, "k", "pm_secret_token").await;
    let (_, requests) = stage.control("GET", "/requests", Value::Null).await;
    let first = &requests[0];
    assert_eq!((&first["call"], &first["op_id"]), (&json!("payment_intents"), &json!("k")));
    assert_eq!((&first["operation"], &first["answered"]), (&json!("authorize"), &json!(200)));
    let text = requests.to_string();
    for secret in ["pm_secret_token", STRIPE_KEY, STRIPE_HOOK] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

fn card(method: &str) -> Vec<(&str, &str)> {
    vec![
        ("amount", "4900"),
        ("currency", "eur"),
        ("confirm", "true"),
        ("capture_method", "automatic"),
        ("payment_method", method),
        ("error_on_requires_action", "true"),
        ("expand[]", "latest_charge"),
    ]
}

/// A payment whose metadata has the key and `n` for our number.
async fn pay(stage: &Stage, key: &str, method: &str) -> (u16, Value) {
    let number = format!("{key}n");
    let mut pairs = card(method);
    pairs.push(("metadata[interlock_attempt]", &number));
    let (status, _, body) = stage.stripe(MAIN, PAY, Some(key), &pairs).await;
    (status, body)
}

async fn by_token(stage: &Stage, key: &str, token: &str) -> (u16, Value) {
    let mut pairs = card("");
    pairs.retain(|(name, _)| *name != "payment_method");
    pairs.push(("payment_method_data[type]", "card"));
    pairs.push(("payment_method_data[card][token]", token));
    let (status, _, body) = stage.stripe(MAIN, PAY, Some(key), &pairs).await;
    (status, body)
}

async fn challenged(stage: &Stage, key: &str) -> Value {
    let mut pairs = card("pm_authenticate");
    pairs.retain(|(name, _)| *name != "error_on_requires_action");
    pairs.push(("confirmation_method", "manual"));
    pairs.push(("return_url", "https://shop.example/back"));
    stage.stripe(MAIN, PAY, Some(key), &pairs).await.2
}

fn charge() -> (String, i64) {
    ("charge".to_owned(), 4900)
}

fn raw(key: &str) -> Vec<u8> {
    let number = format!("{key}n");
    let mut pairs = card("pm_1");
    pairs.push(("metadata[interlock_attempt]", &number));
    let body = encoded(&pairs);
    let head = format!(
        "POST /v1/payment_intents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {STRIPE_KEY}\r\n\
         idempotency-key: {key}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn told(arrived: &Arrived) -> Value {
    serde_json::from_str(&arrived.body).unwrap()
}

fn is_signed(arrived: &Arrived) -> bool {
    let header = arrived.headers["stripe-signature"].to_str().unwrap();
    let Some((time, signature)) = header.split_once(",v1=") else { return false };
    let Some(time) = time.strip_prefix("t=") else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, STRIPE_HOOK.as_bytes());
    let Ok(signature) = hex::decode(signature) else { return false };
    hmac::verify(&key, format!("{time}.{}", arrived.body).as_bytes(), &signature).is_ok()
}
