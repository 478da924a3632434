//! Tokens, good, bad and used before.

use interlock_tests::house::{House, Plan, fresh};
use serde_json::json;

use crate::{AMOUNT, body, charges, pay, pay_as, token};

#[test]
fn a_token_is_paid_once_and_remembered_over_a_death() {
    let mut house = House::with(Plan { wallets: true, ..Plan::default() });
    for (n, wallet) in ["apple_pay", "google_pay"].into_iter().enumerate() {
        let made = token(&house, wallet, "EUR", json!({}));
        let (key, body) = (fresh("key"), body(wallet, "EUR", &made["token"]));
        let paid = pay_as(&house, &key, &body, 20);
        assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
        assert_eq!((&paid["account"], &paid["failover"]), (&json!("adyen-eu"), &json!("proven")));
        assert_eq!(charges(&house), n + 1);
        // The same request is the same payment; the same token under another key is none.
        let again = pay_as(&house, &key, &body, 20);
        assert_eq!((again.status, &again["id"]), (201, &paid["id"]), "{again:?}");
        let used = pay(&house, wallet, "EUR", &made["token"], 20);
        assert_eq!((used.status, &used["reason"]), (422, &json!("replayed")), "{used:?}");
        assert_eq!(used["param"], "method.token");
        house.kill_proxy();
        house.start_proxy();
        let used = pay(&house, wallet, "EUR", &made["token"], 20);
        assert_eq!((used.status, &used["reason"]), (422, &json!("replayed")), "{used:?}");
        assert_eq!(charges(&house), n + 1);
    }
}

#[test]
fn a_request_that_is_repeated_is_answered_though_its_token_is_too_old_by_now() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    // Some seconds before the token is stale.
    let now = now_ms();
    let made = token(&house, "apple_pay", "EUR", json!({ "now_ms": now - 292_000 }));
    let (key, body) = (fresh("key"), body("apple_pay", "EUR", &made["token"]));
    let paid = pay_as(&house, &key, &body, 20);
    assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
    std::thread::sleep(std::time::Duration::from_secs(9));
    let again = pay_as(&house, &key, &body, 20);
    assert_eq!((again.status, &again["id"]), (201, &paid["id"]), "{again:?}");
    let other = pay(&house, "apple_pay", "EUR", &made["token"], 20);
    assert_eq!((other.status, &other["class"]), (422, &json!("expired")), "{other:?}");
    assert_eq!(charges(&house), 1);
}

#[test]
fn each_bad_token_is_refused_for_its_own_reason_and_nobody_hears_of_it() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let mut told = Vec::new();
    for (wallet, defect, class, reason) in BAD {
        let made = token(&house, wallet, "EUR", json!({ "defect": defect }));
        let answer = pay(&house, wallet, "EUR", &made["token"], 0);
        let seen = (answer.status, answer["class"].as_str(), answer["reason"].as_str());
        if seen != (422, Some(class), Some(reason)) || answer["param"] != "method.token" {
            told.push(format!("{wallet} {defect}: {answer:?}"));
        }
    }
    assert!(told.is_empty(), "{told:#?}");
    for (wallet, of, currency) in [("apple_pay", AMOUNT + 1, "EUR"), ("apple_pay", AMOUNT, "USD")] {
        let made = token(&house, wallet, currency, json!({ "amount": of }));
        let answer = pay(&house, wallet, "EUR", &made["token"], 0);
        assert_eq!((answer.status, &answer["class"]), (422, &json!("user")), "{answer:?}");
    }
    for odd in [json!({}), json!("no JSON"), json!({ "paymentData": 1 }), json!("{}")] {
        for wallet in ["apple_pay", "google_pay"] {
            let answer = pay(&house, wallet, "EUR", &odd, 0);
            assert_eq!((answer.status, &answer["class"]), (422, &json!("verification")), "{odd}");
        }
    }
    for odd in [json!(1), json!(null), json!([])] {
        assert_eq!(pay(&house, "apple_pay", "EUR", &odd, 0).status, 400, "{odd}");
    }
    assert_eq!(charges(&house), 0);
    assert_eq!(house.get("/v1/payments")["data"], json!([]), "nothing is written");
    for account in ["adyen-eu", "checkout-eu", "stripe-eu"] {
        assert_eq!(house.requests(account).len(), 0, "{account} heard of it");
    }
}

#[test]
fn a_card_number_without_a_cryptogram_is_taken_with_three_d_secure() {
    let house = House::with(Plan { wallets: true, challenges: true, ..Plan::default() });
    let made = token(&house, "google_pay", "EUR", json!({ "auth_method": "PAN_ONLY" }));
    let shown = pay(&house, "google_pay", "EUR", &made["token"], 20);
    assert_eq!((shown.status, &shown["status"]), (201, &json!("requires_action")), "{shown:?}");
    assert_eq!((&shown["account"], charges(&house)), (&json!("adyen-eu"), 0));
    let acted = house.shopper("adyen-eu", op_id(&shown), "pay");
    let details = json!({ "details": { "redirectResult": acted["redirect_result"] } });
    let url = format!("{}/v1/payments/{}/confirm", house.api, shown["id"].as_str().unwrap());
    let key = fresh("back");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=20")];
    let back = house.send("POST", &url, &headers, Some(details.to_string().as_bytes()));
    assert_eq!((back.status, &back["status"]), (200, &json!("succeeded")), "{back:?}");
    assert_eq!(charges(&house), 1);
    // Where nobody asks for it, nobody takes the card.
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let made = token(&house, "google_pay", "EUR", json!({ "auth_method": "PAN_ONLY" }));
    let answer = pay(&house, "google_pay", "EUR", &made["token"], 20);
    assert_eq!((answer.status, &answer["code"]), (503, &json!("no_account_available")));
    assert_eq!(charges(&house), 0);
}

#[test]
fn one_token_of_several_methods_and_one_that_is_switched_to_are_used_up_too() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let shown = pay_as(
        &house,
        &fresh("key"),
        &json!({
            "amount": AMOUNT, "currency": "EUR", "return_url": "https://shop.example/thanks",
            "method": { "type": "paypal", "flow": "redirect" },
        }),
        20,
    );
    assert_eq!(shown["status"], "requires_action", "{shown:?}");
    let made = token(&house, "google_pay", "EUR", json!({}));
    let to = json!({ "method": { "type": "google_pay", "token": made["token"] } });
    let url = format!("{}/v1/payments/{}/switch", house.api, shown["id"].as_str().unwrap());
    let key = fresh("switch");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=20")];
    let switched = house.send("POST", &url, &headers, Some(to.to_string().as_bytes()));
    assert_eq!((switched.status, &switched["status"]), (200, &json!("succeeded")), "{switched:?}");
    let used = pay(&house, "google_pay", "EUR", &made["token"], 20);
    assert_eq!((used.status, &used["reason"]), (422, &json!("replayed")), "{used:?}");
    assert_eq!(charges(&house), 1);

    let made = token(&house, "apple_pay", "EUR", json!({}));
    let sealed = json!({ "type": "apple_pay", "token": made["token"] });
    let several = json!({ "amount": AMOUNT, "currency": "EUR", "method": {
        "type": "any", "accept": [sealed],
    } });
    let paid = pay_as(&house, &fresh("key"), &several, 20);
    assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
    let used = pay(&house, "apple_pay", "EUR", &made["token"], 20);
    assert_eq!((used.status, &used["reason"]), (422, &json!("replayed")), "{used:?}");
    assert_eq!(charges(&house), 2);
}

fn op_id(payment: &interlock_tests::house::Answer) -> &str {
    payment["attempts"][0]["op_id"].as_str().expect("an op_id")
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_millis()).expect("fits")
}

/// Wallet, defect of the token, class and reason of its refusal. The plugins' own tests have every
/// defect; here each class comes through the whole house.
const BAD: [(&str, &str, &str, &str); 24] = [
    ("apple_pay", "missing_leaf_oid", "verification", "leaf_without_extension"),
    ("apple_pay", "missing_intermediate_oid", "verification", "intermediate_without_extension"),
    ("apple_pay", "wrong_root", "verification", "wrong_root"),
    ("apple_pay", "broken_chain", "verification", "broken_chain"),
    ("apple_pay", "unsigned_transaction_id", "verification", "content_changed"),
    ("apple_pay", "stripped_application_data", "verification", "content_changed"),
    ("apple_pay", "flipped_data", "verification", "content_changed"),
    ("apple_pay", "flipped_signature", "verification", "bad_signature"),
    ("apple_pay", "flipped_header", "verification", "content_changed"),
    ("apple_pay", "downgraded_version", "verification", "version_mismatch"),
    ("apple_pay", "stale", "expired", "stale"),
    ("apple_pay", "future", "expired", "future"),
    ("apple_pay", "wrong_recipient", "config", "no_key_fits"),
    ("google_pay", "wrong_root", "verification", "wrong_root"),
    ("google_pay", "expired_root", "expired", "expired_root"),
    ("google_pay", "expired_intermediate", "expired", "expired_intermediate"),
    ("google_pay", "wrong_recipient", "verification", "bad_signature"),
    ("google_pay", "downgraded_version", "verification", "protocol_not_allowed"),
    ("google_pay", "extra_member", "verification", "unexpected_member"),
    ("google_pay", "missing_member", "verification", "missing_member"),
    ("google_pay", "flipped_bit_of_message", "verification", "bad_signature"),
    ("google_pay", "bad_tag", "config", "no_key_fits"),
    ("google_pay", "expired_message", "expired", "expired_message"),
    ("google_pay", "missing_cryptogram", "verification", "missing_cryptogram"),
];
