//! A key stands for one payment, refund, capture or cancellation for ever: at once from fifty
//! clients, with another body, after a restart, after `kill -9`.
//!
//! The sandbox's ledger says how often money moved; what the API answers is only compared.

use std::time::Duration;

use interlock_tests::house::{Answer, House, at_once, barcode, fresh, qr, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(15);

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

fn authorizations(house: &House) -> usize {
    let all = house.control("GET", "/requests", None).json;
    let all = all.as_array().cloned().unwrap_or_default();
    all.iter().filter(|r| r["operation"] == "authorize").count()
}

fn moves(house: &House, kind: &str) -> usize {
    house.ledger().iter().filter(|e| e["kind"] == kind).count()
}

fn manual(amount: i64) -> Value {
    let mut body = tokens(amount, "EUR");
    body["capture"] = "manual".into();
    body
}

fn refund_of(payment: &Answer, amount: i64) -> Value {
    json!({ "payment": payment["id"], "amount": amount })
}

fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer["code"], code, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[test]
fn fifty_requests_with_one_key_are_one_payment_with_one_answer() {
    let house = House::start();
    for account in ["checkout-eu", "alipay-main"] {
        // The first is still under way when the others come.
        house.fault_with(json!({
            "account": account, "operation": "authorize", "fault": "slow", "ms": 400,
        }));
    }
    let mut charged = 0;
    for body in [tokens(4_900, "EUR"), barcode(1_200, "01"), barcode(1_300, "04")] {
        let (key, before) = (fresh("fifty"), authorizations(&house));
        let answers = at_once(50, |_| house.pay_with_key(&key, &body));
        let first = &answers[0];
        for answer in &answers {
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_eq!(answer.body, first.body, "the same answer, byte for byte");
            assert!(answer.header("location").is_some_and(|l| l.starts_with("/v1/payments/pay_")));
        }
        let fresh_answers = answers.iter().filter(|a| !replayed(a)).count();
        assert_eq!(fresh_answers, 1, "all but the first say that they are replays");
        assert_eq!(authorizations(&house) - before, 1, "one request at the providers");
        let succeeded = first["status"] == "succeeded";
        assert_eq!(ledger::charges(&house.ledger(), &first.json), usize::from(succeeded));
        charged += usize::from(succeeded);
    }
    assert_eq!((charged, moves(&house, "charge")), (2, 2));

    // A payment that waits for the shopper is no final answer: the same payment as it stands.
    let (key, before) = (fresh("fifty"), authorizations(&house));
    let answers = at_once(50, |_| house.pay_with_key(&key, &qr(700)));
    for answer in &answers {
        assert_eq!((answer.status, &answer["id"]), (201, &answers[0]["id"]), "{answer:?}");
        assert_eq!(answer["next_action"], answers[0]["next_action"]);
    }
    assert_eq!(answers.iter().filter(|a| !replayed(a)).count(), 1);
    assert_eq!(authorizations(&house) - before, 1);
    assert_eq!(house.journalled(), 4);
}

#[test]
fn when_two_bodies_race_for_one_key_the_loser_is_told_and_leaves_no_trace() {
    let house = House::start();
    house.fault_with(json!({
        "account": "checkout-eu", "operation": "authorize", "fault": "slow", "ms": 50,
    }));
    let mut declining = tokens(2_000, "EUR");
    for account in ["checkout-eu", "checkout-us"] {
        declining["method"]["tokens"][account] = "src_decline_20059".into();
    }
    let bodies = [tokens(1_000, "EUR"), declining];
    for _ in 0..25 {
        let key = fresh("race");
        let answers = at_once(8, |n| house.pay_with_key(&key, &bodies[n % 2]));
        let won: Vec<&Answer> = answers.iter().filter(|a| a.status == 201).collect();
        for lost in answers.iter().filter(|a| a.status != 201) {
            problem(lost, 422, "idempotency_key_reused");
        }
        assert_eq!(won.len(), 4, "all that sent the winning body: {answers:?}");
        // The token that was charged is the one of the body that won.
        let told = (won[0]["amount"].as_i64(), won[0]["status"].as_str());
        assert!(
            [(Some(1_000), Some("succeeded")), (Some(2_000), Some("failed"))].contains(&told),
            "{told:?}"
        );
        let charges = ledger::charges(&house.ledger(), &won[0].json);
        assert_eq!(charges, usize::from(told.0 == Some(1_000)));
        for answer in &won {
            assert_eq!(answer.body, won[0].body);
        }
    }
}

#[test]
fn a_reused_key_changes_neither_the_payment_nor_its_credential() {
    let house = House::start();
    let key = fresh("reused");
    // Nothing is executed, so after the late window the other account is tried, with the
    // credential that is in memory by then.
    house.fault("checkout-eu", "authorize", "hang");
    let send = |body: &Value| {
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
        let url = format!("{}/v1/payments", house.api);
        house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
    };
    let first = send(&tokens(3_300, "EUR"));
    assert_eq!((first.status, &first["status"]), (202, &json!("processing")), "{first:?}");
    let mut other = tokens(3_300, "EUR");
    other["method"]["tokens"]["checkout-us"] = "src_decline_20059".into();
    problem(&send(&other), 422, "idempotency_key_reused");
    let mut amount = tokens(3_301, "EUR");
    problem(&send(&amount), 422, "idempotency_key_reused");
    amount["amount"] = 3_300.into();
    let again = send(&amount);
    assert_eq!((again.status, &again["id"], replayed(&again)), (202, &first["id"], true));
    let id = first["id"].as_str().unwrap();
    let end = house.wait_for(id, SOON, |p| p["status"] != "processing");
    assert_eq!(
        (&end["status"], &end["account"]),
        (&json!("succeeded"), &json!("checkout-us")),
        "{end:?}"
    );
    assert_eq!(ledger::charges(&house.ledger(), &end.json), 1);
}

#[test]
fn the_same_content_in_other_words_is_the_same_request() {
    let house = House::start();
    let url = format!("{}/v1/payments", house.api);
    let key = fresh("words");
    let quoted = format!("\"{key}\"");
    let send = |key: &str, body: &str| {
        house.send("POST", &url, &[("Idempotency-Key", key)], Some(body.as_bytes()))
    };
    let one = r#"{"amount":500,"currency":"CNY","method":{"type":"alipay","flow":"qr"}}"#;
    let two =
        r#" { "method" : { "flow":"qr", "type":"alipay" }, "currency":"CNY","amount": 500 } "#;
    let first = send(&key, one);
    assert_eq!((first.status, replayed(&first)), (201, false), "{first:?}");
    for (key, body) in [(&quoted, one), (&key, two), (&quoted, two)] {
        let again = send(key, body);
        assert_eq!((again.status, &again["id"], replayed(&again)), (201, &first["id"], true));
    }
    let other = send(&quoted, &one.replace("500", "501"));
    problem(&other, 422, "idempotency_key_reused");
    assert_eq!(other["retry"], "never");
    assert_eq!(house.journalled(), 1);
}

#[test]
fn refunds_captures_and_cancellations_have_keys_of_their_own() {
    let house = House::start();
    let paid = house.pay(&barcode(5_000, "01"));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");

    // One refund of everything, so that a second one could not be made either.
    let key = fresh("refund");
    let answers = at_once(50, |_| house.post("/v1/refunds", &key, &refund_of(&paid, 5_000)));
    for answer in &answers {
        assert_eq!((answer.status, &answer["id"]), (201, &answers[0]["id"]), "{answer:?}");
        assert_eq!(answer.body, answers[0].body);
    }
    assert_eq!(answers.iter().filter(|a| !replayed(a)).count(), 1);
    assert_eq!(moves(&house, "refund"), 1);
    let other = house.post("/v1/refunds", &key, &refund_of(&paid, 4_999));
    problem(&other, 422, "idempotency_key_reused");
    let list = house.get(&format!("/v1/refunds?payment={}", paid["id"].as_str().unwrap()));
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list:?}");

    // Two bodies race for one key of a refund.
    for _ in 0..10 {
        let paid = house.pay(&barcode(1_000, "01"));
        let key = fresh("refund");
        let amounts = [100, 200];
        let ask = |n: usize| house.post("/v1/refunds", &key, &refund_of(&paid, amounts[n % 2]));
        let answers = at_once(8, ask);
        let won: Vec<&Answer> = answers.iter().filter(|a| a.status == 201).collect();
        assert_eq!(won.len(), 4, "{answers:?}");
        assert!(won.iter().all(|a| a.body == won[0].body));
        for lost in answers.iter().filter(|a| a.status != 201) {
            problem(lost, 422, "idempotency_key_reused");
        }
        let now = house.payment(paid["id"].as_str().unwrap());
        assert_eq!(now["amount_refunded"], won[0]["amount"]);
    }

    // A capture, fifty times.
    let held = house.pay(&manual(900));
    assert_eq!(held["status"], "requires_capture", "{held:?}");
    let id = held["id"].as_str().unwrap();
    let (path, key) = (format!("/v1/payments/{id}/capture"), fresh("capture"));
    let before = moves(&house, "capture");
    let answers = at_once(50, |_| house.post(&path, &key, &json!({ "amount": 900 })));
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer["status"], "succeeded", "{answer:?}");
        assert_eq!(answer.body, answers[0].body, "the same answer, byte for byte");
    }
    assert_eq!(moves(&house, "capture") - before, 1);
    problem(&house.post(&path, &key, &json!({ "amount": 899 })), 422, "idempotency_key_reused");
    let replay = house.post(&path, &key, &json!({ "amount": 900 }));
    assert!(replayed(&replay), "{replay:?}");
    let refund = house.post("/v1/refunds", &fresh("refund"), &refund_of(&held, 100));
    assert_eq!(refund["status"], "succeeded", "{refund:?}");
    let replay = house.post(&path, &key, &json!({ "amount": 900 }));
    assert_eq!(replay.body, answers[0].body, "what came later does not change the answer");
    // With nothing left, no amount and no capture of "the rest" can be accepted.
    for body in [json!({ "amount": 1 }), json!({})] {
        problem(&house.post(&path, &fresh("capture"), &body), 409, "invalid_state");
    }

    // Two bodies race for one key of a capture.
    for _ in 0..5 {
        let held = house.pay(&manual(1_000));
        let path = format!("/v1/payments/{}/capture", held["id"].as_str().unwrap());
        let key = fresh("capture");
        let ask = |n: usize| house.post(&path, &key, &json!({ "amount": 100 * (1 + n % 2) }));
        let answers = at_once(8, ask);
        let won: Vec<&Answer> = answers.iter().filter(|a| a.status == 200).collect();
        assert_eq!(won.len(), 4, "{answers:?}");
        assert!(won.iter().all(|a| a.body == won[0].body), "{answers:?}");
        for lost in answers.iter().filter(|a| a.status != 200) {
            problem(lost, 422, "idempotency_key_reused");
        }
    }

    // A cancellation, fifty times.
    let held = house.pay(&manual(800));
    let id = held["id"].as_str().unwrap();
    let (path, key) = (format!("/v1/payments/{id}/cancel"), fresh("cancel"));
    let answers = at_once(50, |_| house.post(&path, &key, &json!({})));
    for answer in &answers {
        assert_eq!((answer.status, &answer["status"]), (200, &json!("canceled")), "{answer:?}");
        assert_eq!(answer.body, answers[0].body);
    }
    assert!(replayed(&house.post(&path, &key, &json!({}))));
    assert_eq!(ledger::of_payment(&ledger::net(&house.ledger()), &house.payment(id).json), 0);
}

#[test]
fn a_key_is_not_used_up_by_a_request_that_was_refused() {
    let house = House::start();
    let key = fresh("refused");
    let mut bad = tokens(0, "EUR");
    problem(&house.pay_with_key(&key, &bad), 422, "unprocessable");
    bad["amount"] = "1".into();
    problem(&house.pay_with_key(&key, &bad), 400, "invalid_request");
    for name in ["checkout-eu", "checkout-us"] {
        let why = json!({ "reason": "a test", "operator": "tests" });
        let path = format!("/admin/v1/accounts/{name}/drain");
        let drained = house.operate("POST", &path, Some(&why));
        assert_eq!(drained.status, 200, "{drained:?}");
    }
    let refused = house.pay_with_key(&key, &tokens(1_100, "EUR"));
    problem(&refused, 503, "no_account_available");
    assert_eq!(refused["retry"], "same_key");
    assert_eq!(refused["accounts"]["checkout-eu"], "drained", "{refused:?}");
    assert_eq!((house.journalled(), house.sent()), (0, 0), "nothing journalled, nothing sent");
    for name in ["checkout-eu", "checkout-us"] {
        let why = json!({ "reason": "a test", "operator": "tests" });
        house.operate("POST", &format!("/admin/v1/accounts/{name}/resume"), Some(&why));
    }
    let paid = house.pay_with_key(&key, &tokens(1_200, "EUR"));
    assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
    assert!(!replayed(&paid));

    // The same for a refund: what was refused may be asked again with the same key.
    let paid = house.pay(&barcode(1_200, "01"));
    let key = fresh("refused");
    problem(&house.post("/v1/refunds", &key, &refund_of(&paid, 1_201)), 422, "unprocessable");
    let done = house.post("/v1/refunds", &key, &refund_of(&paid, 1_200));
    assert_eq!((done.status, &done["status"]), (201, &json!("succeeded")), "{done:?}");
}

#[test]
fn a_replay_after_a_restart_or_a_kill_is_the_first_answer_byte_for_byte() {
    let mut house = House::start();
    let mut asked: Vec<(&str, String, Value, Answer)> = Vec::new();
    for body in [barcode(2_100, "01"), tokens(2_200, "EUR"), barcode(2_300, "04")] {
        let key = fresh("replay");
        let answer = house.pay_with_key(&key, &body);
        asked.push(("/v1/payments", key, body, answer));
    }
    assert_eq!(asked[2].3["status"], "failed");
    for amount in [100, 2_000] {
        let (key, body) = (fresh("replay"), refund_of(&asked[0].3, amount));
        let answer = house.post("/v1/refunds", &key, &body);
        assert_eq!(answer.status, 201, "{answer:?}");
        asked.push(("/v1/refunds", key, body, answer));
    }
    let again = |house: &House| {
        for (path, key, body, first) in &asked {
            let replay = house.post(path, key, body);
            assert_eq!((replay.status, replayed(&replay)), (first.status, true), "{replay:?}");
            assert_eq!(replay.body, first.body, "{path} {body}");
            let mut other = body.clone();
            other["amount"] = 77.into();
            problem(&house.post(path, key, &other), 422, "idempotency_key_reused");
        }
    };
    let moved = house.ledger().len();
    again(&house);
    let (code, took) = house.stop_proxy();
    assert_eq!(code, Some(0), "a graceful stop after {took:?}");
    house.start_proxy();
    again(&house);
    house.kill_proxy();
    house.start_proxy();
    again(&house);
    assert_eq!(house.ledger().len(), moved, "no replay moved money");
}

#[test]
fn an_order_has_one_live_payment_until_it_fails_or_another_is_wanted() {
    let house = House::start();
    let order = fresh("order");
    let of_order = |mut body: Value, order: &str| {
        body["merchant_ref"] = order.into();
        body
    };
    // A live one, a successful one, another one.
    let live = house.pay(&of_order(qr(600), &order));
    assert_eq!(live["status"], "requires_action", "{live:?}");
    let blocked = house.pay(&of_order(barcode(600, "01"), &order));
    problem(&blocked, 409, "order_has_live_payment");
    assert_eq!((&blocked["payment"], &blocked["retry"]), (&live["id"], &json!("never")));
    let mut another = of_order(barcode(600, "01"), &order);
    another["another"] = true.into();
    let early = house.pay(&another);
    problem(&early, 409, "order_has_live_payment");
    let code = live["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    house.wait_for(live["id"].as_str().unwrap(), SOON, |p| p["status"] == "succeeded");
    let paid = house.pay(&of_order(barcode(600, "01"), &order));
    problem(&paid, 409, "order_has_live_payment");
    assert_eq!(paid["payment"], live["id"]);
    let second = house.pay(&another);
    assert_eq!((second.status, &second["status"]), (201, &json!("succeeded")), "{second:?}");
    let blocked = house.pay(&of_order(barcode(600, "01"), &order));
    assert_eq!(blocked["payment"], second["id"], "the order is the second payment's");

    // A failure frees the order.
    let order = fresh("order");
    let failed = house.pay(&of_order(barcode(300, "04"), &order));
    assert_eq!((failed.status, &failed["status"]), (201, &json!("failed")), "{failed:?}");
    let retried = house.pay(&of_order(barcode(300, "01"), &order));
    assert_eq!(retried["status"], "succeeded", "{retried:?}");

    // So does a cancellation.
    let order = fresh("order");
    let held = house.pay(&of_order(manual(300), &order));
    let path = format!("/v1/payments/{}/cancel", held["id"].as_str().unwrap());
    assert_eq!(house.post(&path, &fresh("cancel"), &json!({}))["status"], "canceled");
    assert_eq!(house.pay(&of_order(manual(300), &order)).status, 201);

    // Many clients at once for one order.
    let order = fresh("order");
    let answers = at_once(20, |_| house.pay(&of_order(tokens(400, "EUR"), &order)));
    let made: Vec<&Answer> = answers.iter().filter(|a| a.status == 201).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    for blocked in answers.iter().filter(|a| a.status != 201) {
        problem(blocked, 409, "order_has_live_payment");
        assert_eq!(blocked["payment"], made[0]["id"]);
    }
}

#[test]
fn another_merchant_sees_nothing_and_has_keys_and_orders_of_its_own() {
    let house = House::start();
    let (key, order) = (fresh("shared"), fresh("order"));
    let mut body = tokens(1_500, "EUR");
    body["merchant_ref"] = order.as_str().into();
    let ours = house.pay_with_key(&key, &body);
    let refunded = house.pay(&barcode(1_500, "01"));
    let refund = house.post("/v1/refunds", &fresh("refund"), &refund_of(&refunded, 100));
    let id = ours["id"].as_str().unwrap();
    let rid = refund["id"].as_str().unwrap();
    let other = |method: &str, path: &str, body: Option<&Value>| {
        let key = fresh("other");
        let headers = [("Authorization", "Bearer other_key_2"), ("Idempotency-Key", key.as_str())];
        let body = body.map(Value::to_string);
        let url = format!("{}{path}", house.api);
        house.send(method, &url, &headers, body.as_deref().map(str::as_bytes))
    };
    for path in [
        format!("/v1/payments/{id}"),
        format!("/v1/payments/{id}?refresh=true"),
        format!("/v1/payments/{id}/timeline"),
        format!("/v1/refunds/{rid}"),
        format!("/v1/refunds?payment={id}"),
    ] {
        problem(&other("GET", &path, None), 404, "not_found");
    }
    for verb in ["capture", "cancel", "confirm"] {
        let path = format!("/v1/payments/{id}/{verb}");
        problem(&other("POST", &path, Some(&json!({}))), 404, "not_found");
    }
    let method = json!({ "method": { "type": "alipay", "flow": "qr" } });
    problem(&other("POST", &format!("/v1/payments/{id}/switch"), Some(&method)), 404, "not_found");
    problem(&other("POST", "/v1/refunds", Some(&refund_of(&ours, 100))), 404, "not_found");
    let list = other("GET", "/v1/payments", None);
    assert_eq!(list["data"], json!([]), "{list:?}");
    let headers = [("Authorization", "Bearer other_key_2"), ("Idempotency-Key", key.as_str())];
    let url = format!("{}/v1/payments", house.api);
    let theirs = house.send("POST", &url, &headers, Some(body.to_string().as_bytes()));
    assert_eq!((theirs.status, replayed(&theirs)), (201, false), "{theirs:?}");
    assert_ne!(theirs["id"], ours["id"]);
}
