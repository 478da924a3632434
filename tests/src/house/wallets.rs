//! The wallets of a house whose plan has them: their fakes, and the accounts that open tokens.

use serde_json::{Value, json};

use super::{Answer, House, Plan};

/// Accounts that open wallets' tokens: name and provider.
pub(super) const WALLETS: [(&str, &str); 2] =
    [("apple-pay", "applepay"), ("google-pay", "googlepay")];
const MERCHANT: &str = "merchant.example.shop";

/// Their part of the sandbox's configuration.
pub(super) fn sandbox([apple, google]: [&str; 2]) -> String {
    format!(
        "\n[accounts.apple-pay]\nprovider = \"applepay\"\nlisten = \"{apple}\"\n\
         merchant_id = \"{MERCHANT}\"\ndomains = [\"shop.example\"]\n\
         server_certificate = \"keys/apple-pay/server.pem\"\n\
         server_private_key = \"keys/apple-pay/server_private.pem\"\n\
         identity_ca = \"keys/apple-pay/identity_ca.pem\"\n\
         authority_private_key = \"keys/apple-pay/authority_private.pem\"\n\
         processing_private_key = \"keys/apple-pay/processing_private.pem\"\n\
         \n[accounts.google-pay]\nprovider = \"googlepay\"\nlisten = \"{google}\"\n\
         root_private_key = \"keys/google-pay/root_private.pem\"\n\
         intermediate_private_key = \"keys/google-pay/intermediate_private.pem\"\n\
         merchant_private_key = \"keys/google-pay/merchant_private.pem\"\n"
    )
}

/// Their part of the proxy's.
pub(super) fn config(plan: &Plan, [apple, google]: [&str; 2]) -> String {
    let common = format!("timeout = \"{}\"\nbreaker = {}\n", plan.timeout, plan.breaker);
    format!(
        "\n[accounts.apple-pay]\nplugin = \"applepay\"\n{common}\
         endpoints = {{ gateway = \"https://{apple}\" }}\n\
         ca = \"keys/apple-pay/server_ca.pem\"\n\
         client_cert = \"keys/apple-pay/identity.pem\"\n\
         client_key = \"keys/apple-pay/identity_private.pem\"\n\
         [accounts.apple-pay.config]\nmerchant_id = \"{MERCHANT}\"\ndisplay_name = \"Test Shop\"\n\
         root_certificate = \"${{file:keys/apple-pay/root.pem}}\"\n\
         [accounts.apple-pay.secrets]\n\
         processing_key = \"${{file:keys/apple-pay/processing_private.pem}}\"\n\
         \n[accounts.google-pay]\nplugin = \"googlepay\"\n{common}\
         endpoints = {{ keys = \"http://{google}\" }}\n\
         config = {{ merchant_id = \"12345678901234567890\", test = true }}\n\
         [accounts.google-pay.secrets]\n\
         encryption_key = \"${{file:keys/google-pay/merchant_private.pem}}\"\n"
    )
}

/// Which processors take a wallet's payment: each is the first of one currency.
pub(super) const ROUTES: [(&str, &str, &str); 3] = [
    (
        "wallets-eu",
        "method = [\"apple_pay\", \"google_pay\"], currency = \"EUR\"",
        "\"adyen-eu\", \"checkout-eu\", \"stripe-eu\"",
    ),
    (
        "wallets-us",
        "method = [\"apple_pay\", \"google_pay\"], currency = \"USD\"",
        "\"checkout-eu\", \"stripe-eu\", \"adyen-eu\"",
    ),
    (
        "wallets-uk",
        "method = [\"apple_pay\", \"google_pay\"], currency = \"GBP\"",
        "\"stripe-eu\", \"adyen-eu\", \"checkout-eu\"",
    ),
];

impl House {
    /// A token of a wallet from the sandbox, and what is inside: `token`, `inside`.
    pub fn token(&self, wallet: &str, more: &Value) -> Answer {
        let mut asked = json!({ "account": wallet.replace('_', "-") });
        if let (Value::Object(asked), Value::Object(more)) = (&mut asked, more) {
            asked.extend(more.clone());
        }
        let url = format!("{}/wallets/{wallet}/tokens", self.control);
        let made = self.send("POST", &url, &[], Some(asked.to_string().as_bytes()));
        assert_eq!(made.status, 200, "{made:?}");
        made
    }
}
