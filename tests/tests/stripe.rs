//! Stripe beside two other processors: who goes on to whom, and what an account must switch on.
//!
//! A wallet's decrypted token is taken only by an account in whose configuration that is enabled,
//! and a challenge goes on by our confirmation alone.

use std::fs;
use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, network_token};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const STRIPE: &str = "stripe-eu";
const AT: [&str; 2] = ["--config", "interlock.toml"];

/// Charges and net money of a payment.
fn money(house: &House, payment: &Answer) -> (usize, i64) {
    let ledger = house.ledger();
    let net = ledger::of_payment(&ledger::net(&ledger), &payment.json);
    (ledger::charges(&ledger, &payment.json), net)
}

fn attempts(payment: &Answer) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one =
        |a: &Value| format!("{} {} {}", word(&a["account"]), word(&a["state"]), word(&a["reason"]));
    payment["attempts"].as_array().expect("attempts").iter().map(one).collect()
}

/// A payment by the tokens that two processors have stored of one card.
fn stored(currency: &str, tokens: Value) -> Value {
    json!({
        "amount": 2_300, "currency": currency, "customer": { "id": "shopper-7" },
        "return_url": "https://shop.example/back",
        "method": { "type": "card", "tokens": tokens },
    })
}

/// Why each account of a route is where it is, for a card by a credential of this form.
fn standings(house: &House, currency: &str, form: &str) -> Vec<String> {
    let question = json!({
        "amount": 2_300, "currency": currency,
        "method": { "type": "card", "credential": form },
    });
    let told = house.operate("POST", "/admin/v1/explain", Some(&question));
    let rows = told["candidates"].as_array().expect("candidates").iter();
    rows.map(|c| {
        let stands = c["reason"].as_str().map_or(c["rank"].to_string(), str::to_owned);
        format!("{}: {stands}", c["account"].as_str().expect("a name"))
    })
    .collect()
}

/// The proxy's configuration with one text in the place of another, which must be there.
fn rewrite(house: &House, from: &str, to: &str) {
    let path = house.dir.path().join("interlock.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("the configuration is written");
}

#[test]
fn a_card_goes_on_to_stripe_when_nothing_was_sent_to_the_first() {
    let house = House::start();
    for (currency, first) in [("NOK", "checkout-eu"), ("DKK", "adyen-eu")] {
        let token = match first {
            "adyen-eu" => "M5STORED",
            _ => "src_stored_eu",
        };
        let bodies = [
            network_token(2_300, currency),
            stored(currency, json!({ first: token, STRIPE: "pm_1" })),
        ];
        for body in &bodies {
            let paid = house.pay(body);
            assert_eq!(paid["account"], first, "{paid:?}");
        }
        house.fault(first, "*", "refuse");
        for body in [network_token(2_300, currency), bodies[1].clone()] {
            let paid = house.pay(&body);
            let both = [format!("{first} failed not_sent"), format!("{STRIPE} success -")];
            assert_eq!((paid.status, attempts(&paid)), (201, both.to_vec()), "{paid:?}");
            assert_eq!(money(&house, &paid), (1, 2_300));
        }
        house.lift_faults();
    }
}

#[test]
fn a_decrypted_token_goes_to_stripe_only_where_the_account_has_it_enabled() {
    let mut house = House::prepared(Plan::default());
    let enabled = "accepts_decrypted_wallet = true";
    rewrite(&house, enabled, "accepts_decrypted_wallet = false");
    house.start_proxy();
    // Not offered for this form, and not asked; by its own stored token it is.
    assert_eq!(standings(&house, "SEK", "network_token"), ["checkout-us: 1", "stripe-eu: method"]);
    let paid = house.pay(&network_token(2_300, "SEK"));
    assert_eq!(attempts(&paid), ["checkout-us success -"], "{paid:?}");
    assert_eq!(paid["failover"], "none", "nobody else takes the form");
    assert!(house.requests(STRIPE).is_empty());
    let paid = house.pay(&stored("SEK", json!({ STRIPE: "pm_1" })));
    assert_eq!(attempts(&paid), ["stripe-eu success -"], "{paid:?}");
    let (_, told) = house.cli(&["plugin", "inspect", "plugins/libstripe.so"]);
    assert!(told.contains("card token (network_token, with `accepts_decrypted_wallet`)"), "{told}");

    rewrite(&house, "accepts_decrypted_wallet = false", enabled);
    let (done, told) = house.cli(&[&["reload", "--operator", "test"][..], &AT].concat());
    assert!(done, "{told}");
    assert_eq!(standings(&house, "SEK", "network_token"), ["stripe-eu: 1", "checkout-us: 2"]);
    let paid = house.pay(&network_token(2_300, "SEK"));
    assert_eq!(attempts(&paid), ["stripe-eu success -"], "{paid:?}");
    assert_eq!((&paid["failover"], money(&house, &paid)), (&json!("proven"), (1, 2_300)));
}

#[test]
fn a_card_without_a_cryptogram_is_offered_only_where_shoppers_can_pass_3d_secure() {
    let plain = House::start();
    let refused = ["adyen-eu: method", "stripe-eu: method"];
    assert_eq!(standings(&plain, "DKK", "card"), refused);
    let challenging = House::with(Plan { challenges: true, ..Plan::default() });
    assert_eq!(standings(&challenging, "DKK", "card"), ["adyen-eu: 1", "stripe-eu: method"]);
    let (_, told) = plain.cli(&["plugin", "inspect", "plugins/libadyen.so"]);
    assert!(told.contains("card token (card, with `three_d_secure`)"), "{told}");
}

#[test]
fn a_challenge_is_charged_when_it_was_passed_and_we_confirm_it() {
    let house = House::with(Plan { challenges: true, ..Plan::default() });
    for (act, status, moved) in [("pay", "succeeded", (1, 2_300)), ("fail", "failed", (0, 0))] {
        let shown = house.pay(&stored("SEK", json!({ STRIPE: "pm_authenticate" })));
        assert_eq!(shown["status"], "requires_action", "{shown:?}");
        assert_eq!(shown["next_action"]["type"], "three_d_secure", "{shown:?}");
        assert_eq!(money(&house, &shown), (0, 0));
        let op_id = shown["attempts"][0]["op_id"].as_str().expect("our number");
        assert_eq!(house.shopper(STRIPE, op_id, act).status, 200);
        let id = shown["id"].as_str().expect("an id");
        house.post(&format!("/v1/payments/{id}/confirm"), &format!("back-{act}"), &json!({}));
        let done = house.wait_for(id, SOON, |p| p["status"] == status);
        assert_eq!(money(&house, &done), moved, "{done:?}");
    }
    assert!(house.requests("checkout-us").is_empty(), "who did not pass is asked nowhere else");
}
