//! Wallets' tokens, opened by libraries that nobody here wrote.

use interlock_tests::house::House;
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
#[ignore = "the sandbox has no wallets"]
fn two_libraries_open_the_tokens_that_the_sandbox_makes() {
    let house = House::start();
    let made = |wallet: &str, asked: Value| {
        let path = format!("/wallets/{wallet}/tokens");
        let made = house.control("POST", &path, Some(&asked));
        assert_eq!(made.status, 200, "{made:?}");
        made.json
    };
    let apple = json!({ "account": "apple-pay", "amount": 2_300, "currency": "EUR" });
    let apple = made("apple_pay", apple);
    let google = made("google_pay", json!({ "account": "google-pay" }));
    opened(&json!({
        "apple": [{
            "token": apple["token"], "inside": apple["inside"],
            "private_key": key(&house, "apple-pay", "payment_processing.pem"),
            "merchant_id": "merchant.example.shop",
        }],
        "google": [{
            "token": google["token"], "inside": google["inside"],
            "private_key": key(&house, "google-pay", "gateway.pem"),
        }],
    }));
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
