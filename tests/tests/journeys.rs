//! Every way to pay, from the merchant's first request to the last refund, as API.md draws it.
//!
//! Names and statuses are checked as a merchant's program would rely on them; money is read from
//! the sandbox's ledger.

use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, barcode, fresh, network_token, qr, tokens};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// The members of a payment that API.md names.
const PAYMENT: [&str; 20] = [
    "id",
    "object",
    "status",
    "status_reason",
    "amount",
    "currency",
    "amount_captured",
    "amount_refunded",
    "account",
    "provider",
    "provider_ref",
    "route",
    "attempts",
    "next_action",
    "failure",
    "failover",
    "merchant_ref",
    "created",
    "metadata",
    "method",
];

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("an id")
}

fn net(house: &House, payment: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &payment.json)
}

fn charges(house: &House, payment: &Answer) -> usize {
    ledger::charges(&house.ledger(), &payment.json)
}

fn manual(amount: i64) -> Value {
    let mut body = tokens(amount, "EUR");
    body["capture"] = "manual".into();
    body
}

fn wish(house: &House, payment: &Answer, verb: &str, body: Value) -> Answer {
    house.post(&format!("/v1/payments/{}/{verb}", id(payment)), &fresh(verb), &body)
}

fn refund(house: &House, payment: &Answer, amount: Option<i64>) -> Answer {
    let mut body = json!({ "payment": payment["id"], "reason": "came back" });
    if let Some(amount) = amount {
        body["amount"] = amount.into();
    }
    house.post("/v1/refunds", &fresh("refund"), &body)
}

fn events(house: &House, payment: &Answer) -> Vec<Value> {
    let answer = house.get(&format!("/v1/payments/{}/timeline", id(payment)));
    answer["data"].as_array().expect("a timeline").clone()
}

/// Prefix and 26 characters.
fn is_id(value: &Value, prefix: &str) -> bool {
    let number = value.as_str().and_then(|id| id.strip_prefix(prefix));
    number.is_some_and(|n| n.len() == 26 && n.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or("");
    text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

/// A payment has every member of API.md in its form.
fn in_form(p: &Value) {
    for name in PAYMENT {
        assert!(p.get(name).is_some(), "`{name}` in {p:#}");
    }
    assert!(is_id(&p["id"], "pay_") && p["object"] == "payment", "{p:#}");
    assert!(is_time(&p["created"]) && p["metadata"].is_object(), "{p:#}");
    for name in ["amount", "amount_captured", "amount_refunded"] {
        assert!(p[name].is_i64() || p[name].is_u64(), "`{name}` is a whole number: {p:#}");
    }
    for a in p["attempts"].as_array().expect("attempts") {
        for name in ["id", "account", "state", "reason", "started"] {
            assert!(a.get(name).is_some(), "`{name}` in {a:#}");
        }
        assert!(is_id(&a["id"], "att_") && is_time(&a["started"]), "{a:#}");
        let op_id = a["op_id"].as_str().expect("our number");
        assert!((1..=32).contains(&op_id.len()), "{a:#}");
        assert!(op_id.bytes().all(|b| b.is_ascii_alphanumeric()), "{a:#}");
    }
    if p["status"] == "failed" {
        for name in ["code", "class", "provider_code", "advice"] {
            assert!(p["failure"].get(name).is_some(), "`{name}` in {p:#}");
        }
    } else {
        assert!(p["failure"].is_null(), "{p:#}");
    }
    assert_eq!(p["next_action"].is_object(), p["status"] == "requires_action", "{p:#}");
    assert_eq!(p["status_reason"].is_string(), p["status"] == "processing", "{p:#}");
}

#[test]
fn a_barcode_is_paid_refused_or_waits_for_the_password() {
    let house = House::start();
    let mut body = barcode(4_900, "01");
    body["merchant_ref"] = "ord-7781".into();
    body["description"] = "Order 7781".into();
    body["currency"] = "cny".into();
    body["customer"] = json!({ "id": "c_12", "country": "cn" });
    body["metadata"] = json!({ "cart": "88" });
    body["return_url"] = "https://shop.example/thanks".into();
    let paid = house.pay(&body);
    assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
    in_form(&paid.json);
    let location = format!("/v1/payments/{}", id(&paid));
    assert_eq!(paid.header("location"), Some(location.as_str()));
    assert!(paid.header("request-id").is_some_and(|r| r.starts_with("req_")));
    for (name, value) in [
        ("amount", json!(4_900)),
        ("currency", json!("CNY")),
        ("amount_captured", json!(4_900)),
        ("amount_refunded", json!(0)),
        ("account", json!("alipay-main")),
        ("provider", json!("alipay")),
        ("route", json!("alipay")),
        ("failover", json!("proven")),
        ("merchant_ref", json!("ord-7781")),
        ("metadata", json!({ "cart": "88" })),
    ] {
        if name != "failover" {
            assert_eq!(paid[name], value, "{name}");
        } else {
            // A code on the shopper's screen can be used at one account only, or at both: said.
            assert!(paid[name] == value || paid["failover_reason"].is_string(), "{paid:?}");
        }
    }
    assert!(paid["provider_ref"].is_string());
    assert_eq!(house.payment(id(&paid)).json, paid.json);
    let movement = &house.ledger()[0];
    assert_eq!(movement["provider_ref"], paid["provider_ref"]);
    assert_eq!(movement["op_id"], paid["attempts"][0]["op_id"]);

    // The wallet refuses: the shopper is told what helps.
    for (ending, code) in [
        ("03", "ACQ.BUYER_BALANCE_NOT_ENOUGH"),
        ("04", "ACQ.PAYMENT_REQUEST_HAS_RISK"),
        ("05", "ACQ.PAYMENT_AUTH_CODE_INVALID"),
    ] {
        let refused = house.pay(&barcode(900, ending));
        assert_eq!((refused.status, &refused["status"]), (201, &json!("failed")), "{refused:?}");
        in_form(&refused.json);
        assert_eq!(refused["failure"]["provider_code"], code, "{refused:?}");
        assert!(refused["failure"]["advice"].is_string(), "{refused:?}");
        assert_eq!((net(&house, &refused), charges(&house, &refused)), (0, 0));
        assert_eq!(refused["attempts"].as_array().map(Vec::len), Some(1), "nobody else is tried");
    }

    // 10003: the shopper must type a password; paid by and by.
    let key = fresh("barcode");
    let url = format!("{}/v1/payments", house.api);
    let text = barcode(1_100, "02").to_string();
    let ask = |wait: &str| {
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", wait)];
        house.send("POST", &url, &headers, Some(text.as_bytes()))
    };
    let begun = Instant::now();
    let waits = ask("wait=0");
    assert!(begun.elapsed() < Duration::from_secs(5), "it does not wait: {:?}", begun.elapsed());
    assert_eq!((waits.status, &waits["status"]), (202, &json!("processing")), "{waits:?}");
    in_form(&waits.json);
    let pending = house.wait_for(id(&waits), SOON, |p| p["attempts"][0]["state"] == "pending");
    assert_eq!(pending["status_reason"], "provider_pending");
    let op_id = pending["attempts"][0]["op_id"].as_str().unwrap();
    assert_eq!(house.shopper("alipay-main", op_id, "pay").status, 200);
    let done = ask("wait=30");
    assert_eq!((done.status, &done["status"]), (201, &json!("succeeded")), "{done:?}");
    assert_eq!((net(&house, &done), charges(&house, &done)), (1_100, 1));
    // Nobody has to act: the sandbox's shopper approves by himself after a while.
    let by_itself = house.pay(&barcode(1_200, "02"));
    assert_eq!(by_itself["status"], "succeeded", "{by_itself:?}");

    // The shopper walks away, and the cashier cancels.
    let key = fresh("barcode");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
    let text = barcode(1_300, "02").to_string();
    let left = house.send("POST", &url, &headers, Some(text.as_bytes()));
    let pending = house.wait_for(id(&left), SOON, |p| p["attempts"][0]["state"] == "pending");
    let op_id = pending["attempts"][0]["op_id"].as_str().unwrap();
    assert_eq!(house.shopper("alipay-main", op_id, "abandon").status, 200);
    let canceled = wish(&house, &left, "cancel", json!({}));
    assert_eq!((canceled.status, &canceled["status"]), (200, &json!("canceled")), "{canceled:?}");
    in_form(&canceled.json);
    assert_eq!((net(&house, &canceled), charges(&house, &canceled)), (0, 0));
}

#[test]
fn a_qr_code_is_shown_scanned_and_paid() {
    let house = House::start();
    let shown = house.pay(&qr(2_500));
    assert_eq!((shown.status, &shown["status"]), (201, &json!("requires_action")), "{shown:?}");
    in_form(&shown.json);
    let action = &shown["next_action"];
    assert_eq!(action["type"], "qr_code", "{action}");
    assert!(action["qr_code"].as_str().unwrap().starts_with("https://qr.alipay.com/"), "{action}");
    assert!(action.as_object().unwrap().contains_key("expires"), "{action}");
    assert_eq!((&shown["amount_captured"], charges(&house, &shown)), (&json!(0), 0));
    // The shopper's wallet pays, and Alipay's notification tells.
    let code = action["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    in_form(&paid.json);
    assert!(paid["provider_ref"].is_string(), "the trade's number is known: {paid:?}");
    assert_eq!((net(&house, &paid), charges(&house, &paid)), (2_500, 1));

    // Without a notification, a look asks the provider first.
    house.fault("alipay-main", "*", "notify_lose");
    let shown = house.pay(&qr(2_600));
    let code = shown["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    let looked = house.get(&format!("/v1/payments/{}?refresh=true", id(&shown)));
    assert_eq!((looked.status, &looked["status"]), (200, &json!("succeeded")), "{looked:?}");
    // So does the shopper's return.
    let shown = house.pay(&qr(2_700));
    let code = shown["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    let back = wish(&house, &shown, "confirm", json!({ "details": {} }));
    assert!(matches!(back.status, 200 | 202), "{back:?}");
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    house.lift_faults();

    // A failed try leaves the code payable.
    let shown = house.pay(&qr(2_800));
    let code = shown["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "fail").status, 200);
    let looked = house.get(&format!("/v1/payments/{}?refresh=true", id(&shown)));
    assert_eq!(looked["status"], "requires_action", "{looked:?}");
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
}

#[test]
fn cards_are_paid_by_network_token_and_by_stored_tokens() {
    let house = House::start();
    for (body, account, route) in [
        (network_token(1_900, "EUR"), "checkout-eu", "cards-eu"),
        (network_token(1_900, "USD"), "checkout-us", "cards-us"),
        (tokens(1_900, "EUR"), "checkout-eu", "cards-eu"),
        (tokens(1_900, "USD"), "checkout-us", "cards-us"),
    ] {
        let paid = house.pay(&body);
        assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
        in_form(&paid.json);
        assert_eq!((&paid["account"], &paid["route"]), (&json!(account), &json!(route)));
        assert_eq!(paid["method"]["type"], "card");
        assert_eq!(paid["provider"], "checkout");
        assert_eq!((net(&house, &paid), charges(&house, &paid)), (1_900, 1));
    }
    // A decline is an answer, not an error: it says what helps.
    for (number, code) in [("4111111111110051", "20051"), ("4111111111110059", "20059")] {
        let mut body = network_token(700, "EUR");
        body["method"]["network_token"]["number"] = number.into();
        let declined = house.pay(&body);
        assert_eq!((declined.status, &declined["status"]), (201, &json!("failed")), "{declined:?}");
        in_form(&declined.json);
        assert_eq!(declined["failure"]["provider_code"], code, "{declined:?}");
        assert_eq!(declined["attempts"].as_array().map(Vec::len), Some(1), "{declined:?}");
        assert_eq!((net(&house, &declined), charges(&house, &declined)), (0, 0));
    }
    // A currency that no route takes.
    let refused = house.pay(&tokens(700, "JPY"));
    assert_eq!((refused.status, &refused["code"]), (503, &json!("no_account_available")));
}

#[test]
fn a_held_amount_is_captured_in_full_or_in_part_or_released() {
    let house = House::start();
    for (amount, captured) in [(None, 3_000), (Some(3_000), 3_000), (Some(1_200), 1_200)] {
        let held = house.pay(&manual(3_000));
        assert_eq!((held.status, &held["status"]), (201, &json!("requires_capture")), "{held:?}");
        in_form(&held.json);
        assert_eq!((&held["amount_captured"], net(&house, &held)), (&json!(0), 3_000));
        let body = amount.map_or(json!({}), |amount| json!({ "amount": amount }));
        let done = wish(&house, &held, "capture", body);
        assert_eq!((done.status, &done["status"]), (200, &json!("succeeded")), "{done:?}");
        in_form(&done.json);
        assert_eq!(done["amount_captured"], captured, "{done:?}");
        house.wait_until("what is not captured is released", SOON, |h| net(h, &done) == captured);
        // It can be given back up to what was captured.
        let over = refund(&house, &done, Some(captured + 1));
        assert_eq!((over.status, &over["param"]), (422, &json!("amount")), "{over:?}");
        let back = refund(&house, &done, Some(captured));
        assert_eq!((back.status, &back["status"]), (201, &json!("succeeded")), "{back:?}");
        assert_eq!(net(&house, &done), 0);
    }
    let held = house.pay(&manual(3_100));
    for amount in [3_101, 0, -1] {
        let over = wish(&house, &held, "capture", json!({ "amount": amount }));
        assert_eq!((over.status, &over["param"]), (422, &json!("amount")), "{over:?}");
    }
    let early = refund(&house, &held, None);
    assert_eq!((early.status, &early["code"]), (409, &json!("invalid_state")), "{early:?}");
    let released = wish(&house, &held, "cancel", json!({}));
    assert_eq!((released.status, &released["status"]), (200, &json!("canceled")), "{released:?}");
    in_form(&released.json);
    assert_eq!((net(&house, &held), &released["amount_captured"]), (0, &json!(0)));
    let late = wish(&house, &held, "capture", json!({}));
    assert_eq!((late.status, &late["code"]), (409, &json!("invalid_state")), "{late:?}");
}

#[test]
fn money_is_given_back_in_full_in_part_and_never_too_much() {
    let house = House::start();
    let paid = house.pay(&barcode(5_000, "01"));
    let part = refund(&house, &paid, Some(2_000));
    assert_eq!((part.status, &part["status"]), (201, &json!("succeeded")), "{part:?}");
    for (name, value) in [
        ("object", json!("refund")),
        ("payment", paid["id"].clone()),
        ("amount", json!(2_000)),
        ("currency", json!("CNY")),
        ("reason", json!("came back")),
        ("status_reason", Value::Null),
        ("failure", Value::Null),
    ] {
        assert_eq!(part[name], value, "{name}");
    }
    assert!(is_id(&part["id"], "ref_") && is_time(&part["created"]), "{part:?}");
    let shown = house.get(&format!("/v1/refunds/{}", part["id"].as_str().unwrap()));
    assert_eq!((shown.status, &shown.json), (200, &part.json));
    let over = refund(&house, &paid, Some(3_001));
    assert_eq!((over.status, &over["code"]), (422, &json!("unprocessable")), "{over:?}");
    let rest = refund(&house, &paid, None);
    assert_eq!(
        (&rest["status"], &rest["amount"]),
        (&json!("succeeded"), &json!(3_000)),
        "{rest:?}"
    );
    let more = refund(&house, &paid, Some(1));
    assert!(matches!(more.status, 409 | 422), "{more:?}");
    let list = house.get(&format!("/v1/refunds?payment={}", id(&paid)));
    assert_eq!((&list["object"], list["data"].as_array().map(Vec::len)), (&json!("list"), Some(2)));
    let now = house.payment(id(&paid));
    assert_eq!((&now["status"], &now["amount_refunded"]), (&json!("succeeded"), &json!(5_000)));
    assert_eq!(net(&house, &paid), 0);
    // A payment that took nothing has nothing to give back.
    let failed = house.pay(&barcode(900, "04"));
    let none = refund(&house, &failed, None);
    assert_eq!((none.status, &none["code"]), (409, &json!("invalid_state")), "{none:?}");
    assert_eq!(none["status"], "failed", "the payment's status: {none:?}");
}

/// Checkout.com captures a moment after it answered, and refuses a refund before that. Whatever
/// comes of it is final, true to the ledger, and leaves the rest of the money refundable.
#[test]
fn a_refund_right_after_a_card_payment_comes_to_a_true_end() {
    let house = House::start();
    for _ in 0..5 {
        let paid = house.pay(&tokens(1_200, "EUR"));
        assert_eq!(paid["status"], "succeeded", "{paid:?}");
        let first = refund(&house, &paid, None);
        assert_eq!(first.status, 201, "it comes to an end: {first:?}");
        let back = match first["status"].as_str() {
            Some("succeeded") => 1_200,
            Some("failed") => 0,
            _ => unreachable!("{first:?}"),
        };
        let now = house.payment(id(&paid));
        assert_eq!((net(&house, &paid), &now["amount_refunded"]), (1_200 - back, &json!(back)));
        if back == 0 {
            let again = refund(&house, &paid, None);
            assert_eq!((again.status, &again["status"]), (201, &json!("succeeded")), "{again:?}");
        }
        assert_eq!(net(&house, &paid), 0);
    }
}

#[test]
fn a_shopper_who_scanned_may_switch_once_the_old_offer_is_closed() {
    let house = House::start();
    let shown = house.pay(&qr(3_600));
    let code = shown["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "scan").status, 200);
    let done = wish(&house, &shown, "switch", json!({ "method": barcode(1, "01")["method"] }));
    assert!(matches!(done.status, 200 | 202), "{done:?}");
    let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    in_form(&paid.json);
    assert_eq!((net(&house, &paid), charges(&house, &paid)), (3_600, 1));
    assert_eq!(paid["method"]["flow"], "barcode", "{paid:?}");
    assert_eq!(paid["attempts"].as_array().map(Vec::len), Some(2), "{paid:?}");
    assert_eq!(paid["attempts"][0]["state"], "failed", "the first is proven closed: {paid:?}");
    // The old code can't be paid any more.
    assert_ne!(house.scan("alipay-main", code, "pay").status, 200);
    assert_eq!(net(&house, &paid), 3_600);
    let late = wish(&house, &shown, "switch", json!({ "method": qr(1)["method"] }));
    assert_eq!((late.status, &late["code"]), (409, &json!("invalid_state")), "{late:?}");
}

#[test]
fn a_code_that_nobody_scanned_stays_payable_until_the_provider_ends_it() {
    // Nothing ends it soon: the switch waits, the code may go on being shown, and may be paid.
    let house = House::start();
    let shown = house.pay(&qr(3_700));
    let key = fresh("switch");
    let path = format!("{}/v1/payments/{}/switch", house.api, id(&shown));
    let body = json!({ "method": barcode(1, "01")["method"] }).to_string();
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=1")];
    let waits = house.send("POST", &path, &headers, Some(body.as_bytes()));
    assert_eq!((waits.status, &waits["status"]), (202, &json!("processing")), "{waits:?}");
    assert_eq!(waits["status_reason"], "closing", "{waits:?}");
    let code = shown["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    assert_eq!((net(&house, &paid), charges(&house, &paid)), (3_700, 1));
    assert_eq!(paid["attempts"].as_array().map(Vec::len), Some(1), "{paid:?}");

    // The provider's own expiry ends it, after the margin and an inquiry.
    let house = House::with(Plan { offer_expiry: Some(("2s", "1s")), ..Plan::default() });
    let shown = house.pay(&qr(3_800));
    assert!(is_time(&shown["next_action"]["expires"]), "{shown:?}");
    let begun = Instant::now();
    let done = wish(&house, &shown, "switch", json!({ "method": barcode(1, "01")["method"] }));
    assert!(matches!(done.status, 200 | 202), "{done:?}");
    let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    assert!(begun.elapsed() >= Duration::from_secs(2), "not before the code ended");
    assert_eq!((net(&house, &paid), charges(&house, &paid)), (3_800, 1));
    assert_eq!(paid["method"]["flow"], "barcode");
    // A code that nobody wants any more ends as failed, or as canceled when that was asked.
    let left = house.pay(&qr(100));
    let dropped = house.pay(&qr(200));
    wish(&house, &dropped, "cancel", json!({}));
    let end = house.wait_for(id(&dropped), SOON, |p| p["status"] == "canceled");
    in_form(&end.json);
    let end = house.wait_for(id(&left), SOON, |p| p["status"] == "failed");
    assert_eq!(end["failure"]["code"], "expired", "{end:?}");
    in_form(&end.json);
}

#[test]
fn a_request_waits_as_long_as_its_merchant_prefers() {
    let house = House::start();
    house.fault_with(json!({
        "account": "alipay-main", "operation": "authorize", "fault": "slow", "ms": 1_200,
    }));
    house.fault("alipay-main", "*", "notify_lose");
    let url = format!("{}/v1/payments", house.api);
    let ask = |prefer: &str| {
        let key = fresh("prefer");
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", prefer)];
        let begun = Instant::now();
        let body = barcode(800, "01").to_string();
        let answer = house.send("POST", &url, &headers, Some(body.as_bytes()));
        (answer, begun.elapsed())
    };
    for prefer in ["wait=0", "respond-async, wait=0"] {
        let (answer, took) = ask(prefer);
        assert_eq!((answer.status, &answer["status"]), (202, &json!("processing")), "{answer:?}");
        assert!(took < Duration::from_millis(1_100), "{prefer}: {took:?}");
        house.wait_for(id(&answer), SOON, |p| p["status"] == "succeeded");
    }
    for prefer in ["wait=20", "", "wait=no", "wait=1000000"] {
        let (answer, took) = ask(prefer);
        assert_eq!((answer.status, &answer["status"]), (201, &json!("succeeded")), "{answer:?}");
        assert!(took >= Duration::from_millis(1_000), "{prefer}: {took:?}");
    }
}

#[test]
fn a_list_is_newest_first_narrowed_and_turned_page_by_page() {
    let house = House::start();
    let mut made = Vec::new();
    for n in 0..12 {
        let mut body = match n % 3 {
            0 => barcode(100 + n, "01"),
            1 => barcode(100 + n, "04"),
            _ => tokens(100 + n, "EUR"),
        };
        if n == 6 {
            body["merchant_ref"] = "ord-6".into();
        }
        made.push(house.pay(&body));
    }
    let list = |query: &str| -> (Vec<String>, Answer) {
        let answer = house.get(&format!("/v1/payments{query}"));
        assert_eq!((answer.status, &answer["object"]), (200, &json!("list")), "{answer:?}");
        let rows = answer["data"].as_array().unwrap();
        rows.iter().for_each(in_form);
        (rows.iter().map(|p| p["id"].as_str().unwrap().to_owned()).collect(), answer)
    };
    let newest_first: Vec<String> = made.iter().rev().map(|p| id(p).to_owned()).collect();
    let times: Vec<&str> = made.iter().map(|p| p["created"].as_str().unwrap()).collect();
    let distinct = times.windows(2).all(|w| w[0] < w[1]);
    assert!(distinct, "each is made in a millisecond of its own: {times:?}");
    let (all, answer) = list("");
    assert_eq!((all, &answer["has_more"]), (newest_first.clone(), &json!(false)));
    assert!(answer["next_cursor"].is_null());

    let (mut pages, mut cursor) = (Vec::new(), String::new());
    for _ in 0..10 {
        let (rows, answer) = list(&format!("?limit=5{cursor}"));
        pages.extend(rows);
        let Some(next) = answer["next_cursor"].as_str() else { break };
        assert_eq!(answer["has_more"], true);
        cursor = format!("&cursor={next}");
    }
    assert_eq!(pages, newest_first, "every payment once");

    let wanted = |keep: &dyn Fn(&Answer) -> bool| -> Vec<String> {
        made.iter().rev().filter(|p| keep(p)).map(|p| id(p).to_owned()).collect()
    };
    assert_eq!(list("?status=failed").0, wanted(&|p| p["status"] == "failed"));
    assert_eq!(list("?account=checkout-eu").0, wanted(&|p| p["account"] == "checkout-eu"));
    assert_eq!(
        list("?account=alipay-main&status=succeeded").0,
        wanted(&|p| p["account"] == "alipay-main" && p["status"] == "succeeded")
    );
    assert_eq!(list("?merchant_ref=ord-6").0, [id(&made[6])]);
    assert!(list("?merchant_ref=ord-7").0.is_empty());
    assert!(list("?status=requires_action").0.is_empty());
    let after = &made[7]["created"].as_str().unwrap();
    let (rows, _) = list(&format!("?created_after={after}"));
    assert_eq!(rows, wanted(&|p| p["created"].as_str() > Some(after)), "after {after}");
    // Pages of a narrowed list.
    let (first, answer) = list("?status=succeeded&limit=3");
    let next = answer["next_cursor"].as_str().unwrap();
    let (second, _) = list(&format!("?status=succeeded&limit=100&cursor={next}"));
    assert_eq!([first, second].concat(), wanted(&|p| p["status"] == "succeeded"));
}

#[test]
fn a_timeline_tells_everything_in_order() {
    let house = House::start();
    house.fault("checkout-eu", "*", "refuse");
    let paid = house.pay(&manual(1_000));
    assert_eq!(paid["account"], "checkout-us", "{paid:?}");
    house.lift_faults();
    wish(&house, &paid, "capture", json!({ "amount": 600 }));
    refund(&house, &paid, Some(250));
    let events = events(&house, &paid);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], n as u64 + 1, "{events:#?}");
        assert!(is_time(&event["at"]) && event["actor"].is_string(), "{event}");
        assert!(event["what"].is_string() && event.get("reason").is_some(), "{event}");
    }
    let times: Vec<&str> = events.iter().map(|e| e["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let place = |what: &str| {
        let found = events.iter().position(|e| e["what"].as_str().unwrap().contains(what));
        found.unwrap_or_else(|| unreachable!("`{what}` in {events:#?}"))
    };
    let told = [
        "asked for 1000 EUR",
        "route cards-eu to checkout-eu",
        "route cards-eu to checkout-us",
        "authorized",
        "capture of 600",
        "capture of 600 done",
        "payment succeeded",
        "refund of 250",
        "refund of 250 done",
    ];
    let places: Vec<usize> = told.iter().map(|what| place(what)).collect();
    assert!(places.is_sorted(), "{told:?} at {places:?}: {events:#?}");
}

#[test]
fn a_merchant_who_hangs_up_changes_nothing() {
    use std::io::Write;
    let house = House::start();
    house.fault_with(json!({
        "account": "alipay-main", "operation": "authorize", "fault": "slow", "ms": 600,
    }));
    let body = barcode(1_000, "01").to_string();
    let key = fresh("gone");
    let mut stream = std::net::TcpStream::connect(house.api.trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "POST /v1/payments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test_key_1\r\n\
         Idempotency-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    house.wait_until("the provider has it", SOON, |h| h.sent() == 1);
    drop(stream);
    house.wait_until("it is paid all the same", SOON, |h| {
        h.get("/v1/payments")["data"][0]["status"] == "succeeded"
    });
    let asked = house.pay_with_key(&key, &barcode(1_000, "01"));
    assert_eq!((&asked["status"], charges(&house, &asked)), (&json!("succeeded"), 1), "{asked:?}");
    assert_eq!(asked.header("idempotency-replayed"), Some("true"));
}
