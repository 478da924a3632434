//! Apple Pay and Google Pay from the street: a token is opened once, paid at whoever can take what
//! is inside, remembered for ever, and refused for its own reason when it is not what a wallet
//! gives out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod failovers;
mod memory;
mod sessions;
mod tokens;

use interlock_tests::house::{Answer, House, fresh};
use serde_json::{Value, json};

const AMOUNT: i64 = 2_300;

/// A token of a wallet, and what is inside; Apple's says for how much it is.
fn token(house: &House, wallet: &str, currency: &str, more: Value) -> Value {
    let mut asked = match wallet {
        "apple_pay" => json!({ "amount": AMOUNT, "currency": currency }),
        _ => json!({}),
    };
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    house.token(wallet, &asked).json
}

/// Pays with a token, under a fresh key.
fn pay(house: &House, wallet: &str, currency: &str, token: &Value, wait: u32) -> Answer {
    pay_as(house, &fresh("key"), &body(wallet, currency, token), wait)
}

fn pay_as(house: &House, key: &str, body: &Value, wait: u32) -> Answer {
    let wait = format!("wait={wait}");
    let headers = [("Idempotency-Key", key), ("Prefer", wait.as_str())];
    let url = format!("{}/v1/payments", house.api);
    house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
}

fn body(wallet: &str, currency: &str, token: &Value) -> Value {
    json!({
        "amount": AMOUNT, "currency": currency, "return_url": "https://shop.example/thanks",
        "method": { "type": wallet, "token": token },
    })
}

/// How often money moved at all the providers.
fn charges(house: &House) -> usize {
    house
        .ledger()
        .iter()
        .filter(|row| row["kind"] == "charge" || row["kind"] == "authorize")
        .count()
}
