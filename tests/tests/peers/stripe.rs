//! Stripe's own SDK against the fake, through the proxy, and as the signer of events.

use std::time::Duration;

use interlock_tests::house::{House, Plan, free_ports};
use serde_json::json;

use crate::{STRIPE, Sandbox, checks, passed_by_name, root, sdk};

const SOON: Duration = Duration::from_secs(20);
/// A route of its own, so that no other account is asked.
const ROUTE: &str = "
[[routes]]
name = \"peers\"
match = { method = \"card\", currency = \"CZK\" }
candidates = [\"stripe-eu\"]
";

#[test]
fn the_sandbox_satisfies_the_sdk_of_stripe() {
    let Some(sdk) = sdk("stripe") else { return };
    let sandbox = Sandbox::start();
    let given = json!({
        "api": sandbox.url(&sandbox.said["accounts"][STRIPE]),
        "control": sandbox.url(&sandbox.said["control"]),
        "account": STRIPE,
        "secret_key": "sk_test_peer",
        "webhook_key": "whsec_peer",
        "hook": sandbox.hook,
    });
    assert_eq!(checks("stripe.mjs", &given, &[("STRIPE_SDK", sdk)]), 18);
}

#[test]
fn the_plugin_asks_for_the_version_that_the_sdk_of_stripe_describes() {
    let Some(sdk) = sdk("stripe") else { return };
    let described = std::fs::read_to_string(sdk.join("cjs/apiVersion.js")).unwrap();
    let asked = std::fs::read_to_string(root().join("plugins/stripe/src/payments.rs")).unwrap();
    let quoted = |text: &str, before: &str, quote: char| {
        let (_, rest) = text.split_once(before).unwrap();
        rest.split(quote).nth(1).unwrap().to_owned()
    };
    let described = quoted(&described, "exports.ApiVersion =", '\'');
    assert_eq!(quoted(&asked, "const VERSION: &str =", '"'), described);
}

#[test]
fn the_sdk_of_stripe_passes_through_the_proxy_while_others_hang() {
    let Some(sdk) = sdk("stripe") else { return };
    let hook = free_ports(1)[0];
    let notify = Some(format!("http://127.0.0.1:{hook}"));
    let house = House::with(Plan { notify, ..Plan::default() });
    house.fault_with(json!({ "account": "checkout-us", "operation": "*", "fault": "hang" }));
    let given = json!({
        "api": house.api,
        "prefix": format!("/native/{STRIPE}"),
        "control": house.control,
        "account": STRIPE,
        "secret_key": secret(&house, "secret_key"),
        "webhook_key": secret(&house, "webhook_key"),
        "hook": hook,
        "key": "test_key_1",
    });
    assert_eq!(checks("stripe.mjs", &given, &[("STRIPE_SDK", sdk)]), 18);
    passed_by_name(&house);
}

/// The fake tells nothing and can't be asked, so only what the SDK signs can end the payment.
#[test]
fn what_the_sdk_of_stripe_signs_ends_a_payment_and_nothing_else_does() {
    let Some(sdk) = sdk("stripe") else { return };
    let house = House::with(Plan { tail: ROUTE, ..Plan::default() });
    house.fault(STRIPE, "notify", "notify_lose");
    house.fault(STRIPE, "inquire", "error_before");
    let body = json!({
        "amount": 4_900, "currency": "CZK", "return_url": "https://shop.example/back",
        "method": { "type": "card", "tokens": { STRIPE: "pm_processing" } },
    });
    let waits = house.pay_within(&body, 1);
    assert_eq!(waits["status"], "processing", "{waits:?}");
    let id = waits["id"].as_str().unwrap();
    let op_id = house.requests(STRIPE)[0]["op_id"].as_str().unwrap().to_owned();
    let taken = house.shopper(STRIPE, &op_id, "pay");
    assert_eq!(taken["status"], "succeeded", "{taken:?}");
    let given = json!({
        "notifications": format!("{}/v1/notifications/{STRIPE}", house.api),
        "webhook_key": secret(&house, "webhook_key"),
        "intent": {
            "id": taken["provider_ref"], "object": "payment_intent", "status": "succeeded",
            "amount": 4_900, "amount_received": 4_900, "amount_capturable": 0,
            "currency": "czk", "capture_method": "automatic", "latest_charge": "ch_1",
            "metadata": { "interlock_attempt": op_id },
        },
        "payment": format!("{}/v1/payments/{id}", house.api),
        "key": "test_key_1",
    });
    assert_eq!(checks("stripe-events.mjs", &given, &[("STRIPE_SDK", sdk)]), 7);
    house.wait_for(id, SOON, |payment| payment["status"] == "succeeded");
    assert_eq!(house.ledger().len(), 1, "it was taken once");
}

/// A secret of the house's account, from its configuration.
fn secret(house: &House, name: &str) -> String {
    let config = std::fs::read_to_string(house.dir.path().join("interlock.toml")).unwrap();
    let (_, secrets) = config.split_once(&format!("[accounts.{STRIPE}.secrets]")).unwrap();
    let (_, value) = secrets.split_once(&format!("{name} = \"")).unwrap();
    value.split('"').next().unwrap().to_owned()
}
