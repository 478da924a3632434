//! A wallet's session for a merchant's page.

use interlock_tests::house::{Answer, House, Plan};
use serde_json::{Value, json};

#[test]
fn a_page_is_given_what_the_wallet_answered_and_each_time_another() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let page = json!({ "domain": "shop.example", "display_name": "Tea & Cake" });
    let first = start(&house, &page);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert!(first["merchantSessionIdentifier"].is_string() && first["nonce"].is_string());
    let second = start(&house, &page);
    assert_ne!(first["nonce"], second["nonce"], "a session is used once");
    let asked = house.requests("apple-pay");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(crate::charges(&house), 0);
}

#[test]
fn an_address_that_came_through_a_browser_leads_nowhere_else() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    for url in [
        "https://evil.example/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com.evil.example/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com@127.0.0.1/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com:8443/paymentservices/startSession",
        "https://apple-pay-gateway.apple.com/../admin",
        "https://127.0.0.1:9700/admin/v1/status",
    ] {
        let answer = start(&house, &json!({ "domain": "shop.example", "validation_url": url }));
        assert_eq!(answer.status, 422, "{url}: {answer:?}");
        assert_eq!(answer["param"], "validation_url", "{url}");
    }
    for body in [
        json!({}),
        json!({ "domain": "shop.example:443" }),
        json!({ "domain": "" }),
        json!({ "domain": "shop.example", "validation_url": "http://shop.example/" }),
        json!({ "domain": "shop.example", "account": "nobody" }),
        json!({ "domain": "shop.example", "more": 1 }),
    ] {
        let answer = start(&house, &body);
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
    }
    assert_eq!(house.requests("apple-pay").len(), 0, "nobody was asked");
}

#[test]
fn a_wallet_that_fails_is_told_from_a_page_that_is_refused() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let page = json!({ "domain": "shop.example" });
    for fault in ["refuse", "hang", "error_before", "garbage"] {
        house.fault("apple-pay", "*", fault);
        let answer = start(&house, &page);
        assert_eq!(
            (answer.status, &answer["code"]),
            (503, &json!("wallet_unavailable")),
            "{fault}"
        );
        assert_eq!(answer["retry"], "same_key");
        house.lift_faults();
    }
    assert_eq!(start(&house, &page).status, 200);
    let unknown = house.send(
        "POST",
        &format!("{}/v1/wallets/boat_pay/sessions", house.api),
        &[],
        Some(page.to_string().as_bytes()),
    );
    assert_eq!(unknown.status, 404, "{unknown:?}");
}

fn start(house: &House, body: &Value) -> Answer {
    let url = format!("{}/v1/wallets/apple_pay/sessions", house.api);
    house.send("POST", &url, &[], Some(body.to_string().as_bytes()))
}
