//! What a checkout page asks for: which methods can be paid with, the healthiest of several, and
//! what to tell a shopper after a failure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, barcode, fresh, network_token, qr};
use serde_json::{Value, json};

/// Cards in CNY, beside the wallets.
const CARDS: &str = "\n[[routes]]\nname = \"cards-cn\"\n\
                     match = { method = \"card\", currency = \"CNY\" }\n\
                     candidates = [\"checkout-eu\", \"checkout-us\"]\n";

fn house() -> House {
    House::with(Plan { tail: CARDS, ..Plan::default() })
}

fn methods(house: &House, query: &str) -> Vec<Value> {
    let answer = house.get(&format!("/v1/payment-methods?{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer["data"].as_array().unwrap().clone()
}

fn drain(house: &House, account: &str, verb: &str) {
    let path = format!("/admin/v1/accounts/{account}/{verb}");
    let why = json!({ "reason": "a test", "operator": "jo" });
    assert_eq!(house.operate("POST", &path, Some(&why)).status, 200);
}

/// A payment by whichever of these is the healthiest.
fn any(amount: i64, accept: &[Value]) -> Value {
    json!({ "amount": amount, "currency": "CNY",
            "method": { "type": "any", "accept": accept } })
}

fn method_of(body: &Value) -> Value {
    body["method"].clone()
}

/// Charges in the ledgers less what was given back, by provider.
fn charged(house: &House, provider: &str) -> Vec<i64> {
    let ledger = house.ledger();
    let ours = ledger.iter().filter(|l| l["provider"] == provider && l["kind"] == "charge");
    ours.map(|l| l["amount"].as_i64().unwrap()).collect()
}

#[test]
fn the_methods_of_a_checkout_page_are_listed_best_first_with_reasons() {
    let house = house();
    let all = methods(&house, "amount=4900&currency=CNY&country=CN");
    let types: Vec<&Value> = all.iter().map(|m| &m["type"]).collect();
    let routed = ["alipay", "apple_pay", "google_pay", "wechat_pay", "card"];
    assert_eq!(types[..5], routed, "in the order of the routes");
    assert!(all[..5].iter().all(|m| m["healthy"] == true && m["reason"].is_null()), "{all:?}");
    // No account takes it in this currency.
    assert_eq!((&all[5]["type"], &all[5]["healthy"]), (&json!("paypal"), &json!(false)));
    assert!(all[0]["flows"].as_array().unwrap().contains(&json!("qr")), "{all:?}");

    drain(&house, "alipay-main", "drain");
    drain(&house, "alipay-backup", "drain");
    let all = methods(&house, "amount=4900&currency=cny");
    assert!(all[..4].iter().all(|m| m["healthy"] == true && m["type"] != "alipay"), "{all:?}");
    assert_eq!((&all[4]["type"], &all[4]["healthy"]), (&json!("alipay"), &json!(false)));
    assert_eq!(all[4]["reason"], "drained");
    assert_eq!(house.sent(), 0, "a look asks nobody");

    for bad in [
        "amount=1",
        "currency=CNY",
        "amount=x&currency=CNY",
        "amount=1&currency=CN",
        "amount=0&currency=CNY",
        "amount=1&currency=CNY&country=CHN",
        "q=1",
    ] {
        let status = house.get(&format!("/v1/payment-methods?{bad}")).status;
        assert!(status == 400 || status == 422, "{bad}: {status}");
    }
    let post = house.post("/v1/payment-methods", &fresh("k"), &json!({}));
    assert_eq!(post.status, 405);
}

#[test]
fn of_several_methods_the_healthiest_is_charged_once_and_stays_chosen() {
    let house = house();
    let accept =
        [method_of(&barcode(1, "01")), method_of(&network_token(1, "CNY")), method_of(&qr(1))];
    let first = house.pay(&any(1_100, &accept));
    assert_eq!((first.status, &first["status"]), (201, &json!("succeeded")), "{first:?}");
    assert_eq!(first["method"], json!({ "type": "alipay", "flow": "barcode" }));

    // The first choice goes down: its breaker need not be told by anybody.
    drain(&house, "alipay-main", "drain");
    drain(&house, "alipay-backup", "drain");
    let key = fresh("any");
    let body = any(1_200, &accept);
    let second = house.pay_with_key(&key, &body);
    assert_eq!(second["status"], "succeeded", "{second:?}");
    assert_eq!(second["method"], json!({ "type": "card", "flow": "token" }));
    assert_eq!(second["route"], "cards-cn");

    // When it is well again, the same key still gives the same payment.
    drain(&house, "alipay-main", "resume");
    drain(&house, "alipay-backup", "resume");
    let again = house.pay_with_key(&key, &body);
    assert_eq!((&again["id"], &again.body), (&second["id"], &second.body));
    assert_eq!(charged(&house, "alipay"), [1_100]);
    assert_eq!(charged(&house, "checkout"), [1_200]);
}

#[test]
fn a_first_choice_whose_calls_fail_is_left_for_the_second_without_a_second_charge() {
    let breaker = "{ minimum_calls = 4, consecutive = 4, open_for = \"60s\" }";
    let house = House::with(Plan { tail: CARDS, breaker, ..Plan::default() });
    for account in ["alipay-main", "alipay-backup"] {
        house.fault(account, "*", "refuse");
    }
    let accept = || [method_of(&barcode(1, "01")), method_of(&network_token(1, "CNY"))];
    let (mut by_wallet, mut by_card) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let p = house.pay(&any(2_000 + n, &accept()));
        match p["method"]["type"].as_str().unwrap() {
            "alipay" => {
                assert_eq!(p["status"], "failed", "nobody was reached: {p:?}");
                by_wallet.push(2_000 + n);
            }
            _ => {
                assert_eq!(p["status"], "succeeded", "{p:?}");
                by_card.push(2_000 + n);
            }
        }
    }
    assert!(!by_wallet.is_empty() && by_card.len() >= 6, "{by_wallet:?} {by_card:?}");
    assert_eq!(charged(&house, "alipay"), [0_i64; 0]);
    assert_eq!(charged(&house, "checkout"), by_card, "each is charged exactly once");
}

#[test]
fn a_list_of_accepted_methods_is_read_strictly() {
    let house = house();
    let wallet = method_of(&qr(1));
    let twice = [wallet.clone(), wallet.clone()];
    let nested = [json!({ "type": "any", "accept": [wallet.clone()] })];
    for (accept, status) in [(&[][..], 422), (&twice[..], 422), (&nested[..], 422)] {
        let answer = house.pay(&any(100, accept));
        assert_eq!(answer.status, status, "{answer:?}");
    }
    for method in [
        json!({ "type": "any" }),
        json!({ "type": "any", "accept": {} }),
        json!({ "type": "any", "accept": [1] }),
        json!({ "type": "any", "accept": [wallet], "flow": "qr" }),
    ] {
        let answer =
            house.pay(&json!({ "amount": 100, "currency": "CNY", "method": method.clone() }));
        assert_eq!(answer.status, 400, "{method}");
    }
    assert_eq!(house.journalled(), 0);
}

#[test]
fn a_failure_says_what_a_shopper_can_do_in_two_languages() {
    let house = House::start();
    for ending in ["03", "04", "05"] {
        let p = house.pay(&barcode(3_000, ending));
        if p["status"] == "failed" {
            advised(&p);
            let replayed = house.payment(p["id"].as_str().unwrap());
            assert_eq!(replayed["failure"], p["failure"]);
        }
    }
    house.fault("checkout-eu", "*", "refuse");
    house.fault("checkout-us", "*", "refuse");
    let p = house.pay(&network_token(3_100, "EUR"));
    assert_eq!((&p["status"], &p["failure"]["advice"]), (&json!("failed"), &json!("retry")));
    advised(&p);
}

fn advised(p: &Answer) {
    let failure = &p["failure"];
    let text = |language: &str| failure["advice_text"][language].as_str().unwrap().to_owned();
    assert!(failure["advice"].as_str().is_some_and(|word| !word.is_empty()), "{failure}");
    assert!(text("en").is_ascii() && text("en").ends_with('.'), "{failure}");
    assert!(text("zh").ends_with('。'), "{failure}");
}

#[test]
fn a_preference_to_wait_is_honoured_and_said_to_be() {
    let house = House::start();
    house.fault_with(json!({
        "account": "checkout-eu", "operation": "authorize", "fault": "slow", "ms": 1_200,
    }));
    let url = format!("{}/v1/payments", house.api);
    let ask = |prefer: &str| {
        let body = network_token(4_000, "EUR").to_string();
        let key = fresh("wait");
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", prefer)];
        let begun = std::time::Instant::now();
        (house.send("POST", &url, &headers, Some(body.as_bytes())), begun.elapsed())
    };
    let (answer, took) = ask("wait=0");
    assert_eq!((answer.status, &answer["status"]), (202, &json!("processing")));
    assert_eq!(answer.header("preference-applied"), Some("wait=0"));
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    let (answer, _) = ask("respond-async, wait=99");
    assert_eq!((answer.status, &answer["status"]), (201, &json!("succeeded")));
    assert_eq!(answer.header("preference-applied"), Some("wait=30"));
    let (answer, _) = ask("handling=lenient");
    assert_eq!(answer.header("preference-applied"), None);
}
