//! Wallets' tokens, opened by libraries that nobody here wrote.

use interlock_tests::house::{Answer, House, Plan};
use serde_json::{Value, json};

use crate::{checks, key, root, sdk, target};

/// So the peers themselves are known to open what wallets really gave out.
#[test]
fn two_libraries_open_the_published_tokens_of_wallets() {
    let (Some(apple), Some(google)) = (vector("applepay_ec_v1"), vector("googlepay_pypi_readme"))
    else {
        eprintln!("left out: ../shared/vectors is not here");
        return;
    };
    let apple = &apple["ec_v1"];
    let pkcs8 = google["private_key_pkcs8_b64"].as_str().unwrap();
    let label = |end| format!("-----{end} PRIVATE KEY-----\n");
    let pem = format!("{}{pkcs8}\n{}", label("BEGIN"), label("END"));
    opened(&json!({
        "apple": [{
            "token": apple["token"], "private_key": apple["key_pem"],
            "certificate": apple["cert_pem"],
        }],
        "google": [{ "token": google["token"], "private_key": pem }],
    }));
}

#[test]
fn two_libraries_open_the_tokens_that_the_sandbox_makes() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let apple = house.token("apple_pay", &json!({ "amount": 2_300, "currency": "EUR" }));
    let google = house.token("google_pay", &json!({}));
    opened(&json!({
        "apple": [{
            "token": apple["token"], "inside": card(&apple),
            "private_key": key(&house, "apple-pay", "processing_private.pem"),
            "merchant_id": "merchant.example.shop",
        }],
        "google": [{
            "token": google["token"], "inside": card(&google),
            "private_key": key(&house, "google-pay", "merchant_private.pem"),
        }],
    }));
}

/// The card that is inside a token.
fn card(made: &Answer) -> Value {
    let all = made["inside"].as_object().unwrap().iter();
    let of_card = ["number", "expiry_month", "expiry_year", "cryptogram", "eci"];
    let card = all.filter(|(name, _)| of_card.contains(&name.as_str()));
    Value::Object(card.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn opened(given: &Value) {
    let packages = ["@basis-theory/apple-pay-js", "@basis-theory/google-pay-js"];
    if packages.iter().any(|package| sdk(package).is_none()) {
        return;
    }
    assert_eq!(checks("wallet-tokens.mjs", given, &[("PEERS", target().join("peers"))]), 2);
}

/// A published example, where the folder of them is there.
fn vector(name: &str) -> Option<Value> {
    let path = root().join(format!("../shared/vectors/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}
