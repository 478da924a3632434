//! The two configurations of a house: the sandbox's and the proxy's.

use std::path::PathBuf;

use super::{ALL, API_V3_KEY, MERCHANT_SERIAL, PUBLIC_KEY_ID, Plan, wallets};

pub(super) fn sandbox_config(plan: &Plan, control: &str, accounts: &[String], api: &str) -> String {
    let mut text = format!("[control]\nlisten = \"{control}\"\n");
    let notify = plan.notify.clone().unwrap_or_else(|| format!("http://{api}"));
    for (n, ((name, provider), listen)) in ALL.iter().zip(accounts).enumerate() {
        text += &format!("\n[accounts.{name}]\nprovider = \"{provider}\"\nlisten = \"{listen}\"\n");
        text += plan.sandbox_lines;
        text += "\n";
        if *provider == "alipay" {
            text += &format!(
                "app_id = \"202100000000000{n}\"\nseller_id = \"208800000000000{n}\"\n\
                 app_public_key = \"keys/{name}/app_public.pem\"\n\
                 gateway_private_key = \"keys/{name}/gateway_private.pem\"\n\
                 gateway_public_key = \"keys/{name}/gateway_public.pem\"\n"
            );
            if let Some((after, _)) = plan.offer_expiry {
                text += &format!("qr_expiry_ms = {}\n", whole_seconds(after) * 1_000);
            }
        } else if *provider == "adyen" {
            let hmac_key = hmac_key(n);
            // It notifies of refusals, too; a busy machine must not let that overtake the answer.
            text += "notify_delay_ms = 100\n";
            text += &format!(
                "api_key = \"AQE_test_secret_{n}\"\nmerchant_account = \"TestShop\"\n\
                 hmac_key = \"{hmac_key}\"\n\
                 notify_url = \"{notify}/v1/notifications/{name}\"\n"
            );
            if let (true, Some((after, _))) = (plan.challenges, plan.offer_expiry) {
                text += &format!("challenge_ms = {}\n", whole_seconds(after) * 1_000);
            }
        } else if *provider == "wechatpay" {
            text += &format!(
                "mchid = \"190000000{n}\"\nappid = \"wx00000000000000{n}\"\n\
                 merchant_serial = \"{MERCHANT_SERIAL}\"\napi_v3_key = \"{API_V3_KEY}\"\n\
                 merchant_public_key = \"keys/{name}/app_public.pem\"\n\
                 platform_private_key = \"keys/{name}/gateway_private.pem\"\n\
                 reverse_after_ms = 0\n"
            );
            if let Some((after, _)) = plan.offer_expiry {
                text += &format!("offer_expiry_ms = {}\n", whole_seconds(after) * 1_000);
            }
            // One account knows the public key, the other the certificates.
            text += &match *name {
                "wechat-main" => format!("public_key_id = \"{PUBLIC_KEY_ID}\"\n"),
                _ => {
                    "next_platform_private_key = \"keys/wechat-main/gateway_private.pem\"\n".into()
                }
            };
        } else if *provider == "paypal" {
            text += &format!(
                "client_id = \"paypal_test_id\"\nclient_secret = \"paypal_test_secret\"\n\
                 webhook_id = \"9TEST\"\nmagic_amounts = true\n\
                 webhook_private_key = \"keys/{name}/webhook_private.pem\"\n\
                 webhook_ca_private_key = \"keys/{name}/webhook_ca_private.pem\"\n\
                 notify_url = \"{notify}/v1/notifications/{name}\"\n"
            );
        } else {
            text += &format!(
                "secret_key = \"sk_test_secret_{n}\"\nwebhook_key = \"whk_test_secret_{n}\"\n\
                 notify_url = \"{notify}/v1/notifications/{name}\"\n"
            );
        }
    }
    text
}

pub(super) fn config(plan: &Plan, api: &str, admin: &str, accounts: &[String]) -> String {
    let data_dir = plan.data_dir.clone().unwrap_or_else(|| PathBuf::from("data"));
    let public = plan.notify.clone().unwrap_or_else(|| format!("http://{api}"));
    let mut text = format!(
        "[server]\nlisten = \"{api}\"\nadmin = \"{admin}\"\npublic_url = \"{public}\"\n\
         data_dir = \"{}\"\nplugins_dir = \"plugins\"\nplugins_lock = \"plugins.lock\"\n\
         workers = 2\ndrain = \"20s\"\nshed_after = \"never\"\n{}\n\n\
         [merchants.test]\napi_key = \"test_key_1\"\n{}\n\n\
         [merchants.other]\napi_key = \"other_key_2\"\n",
        data_dir.display(),
        plan.server_lines,
        plan.merchant_lines
    );
    for (n, ((name, provider), address)) in ALL.iter().zip(accounts).enumerate() {
        text += &format!(
            "\n[accounts.{name}]\nplugin = \"{provider}\"\nisolation = \"in-process\"\n\
             timeout = \"{}\"\nlate_window = \"{}\"\nbreaker = {}\n{}\n",
            plan.timeout, plan.late_window, plan.breaker, plan.account_lines
        );
        if *provider == "alipay" {
            let pages = plan.offer_expiry.map(|(after, _)| {
                format!(", pages = true, page_seconds = {}", whole_seconds(after))
            });
            let pages = pages.unwrap_or_default();
            text += &format!(
                "endpoints = {{ gateway = \"http://{address}\", \
                 bills = \"http://{address}\" }}\n\
                 config = {{ app_id = \"202100000000000{n}\"{pages} }}\n\
                 [accounts.{name}.secrets]\n\
                 app_private_key = \"${{file:keys/{name}/app_private.pem}}\"\n\
                 alipay_public_key = \"${{file:keys/{name}/gateway_public.pem}}\"\n"
            );
        } else if *provider == "adyen" {
            let (challenges, hmac_key) = (plan.challenges, hmac_key(n));
            text += &format!(
                "endpoints = {{ api = \"http://{address}/v72\" }}\n\
                 config = {{ merchant_account = \"TestShop\", three_d_secure = {challenges}, \
                 return_url = \"https://shop.example/back\" }}\n\
                 [accounts.{name}.secrets]\n\
                 api_key = \"AQE_test_secret_{n}\"\nhmac_key = \"{hmac_key}\"\n"
            );
        } else if *provider == "wechatpay" {
            let public = *name == "wechat-main";
            let (config, secret) = if public {
                let key = format!(
                    "wechatpay_public_key = \"${{file:keys/{name}/gateway_public.pem}}\"\n"
                );
                (format!("public_key_id = \"{PUBLIC_KEY_ID}\""), key)
            } else {
                ("platform_certificates = true".to_owned(), String::new())
            };
            text += &format!(
                "endpoints = {{ api = \"http://{address}\" }}\n\
                 config = {{ mchid = \"190000000{n}\", appid = \"wx00000000000000{n}\", \
                 serial_no = \"{MERCHANT_SERIAL}\", {config} }}\n\
                 [accounts.{name}.secrets]\n\
                 merchant_private_key = \"${{file:keys/{name}/app_private.pem}}\"\n\
                 api_v3_key = \"{API_V3_KEY}\"\n{secret}"
            );
        } else if *provider == "paypal" {
            text += &format!(
                "endpoints = {{ api = \"http://{address}\" }}\n\
                 ca = \"keys/{name}/webhook_ca.pem\"\n\
                 config = {{ webhook_id = \"9TEST\", sandbox = true }}\n\
                 [accounts.{name}.secrets]\n\
                 client_id = \"paypal_test_id\"\nclient_secret = \"paypal_test_secret\"\n"
            );
        } else {
            if *provider == "stripe" {
                text += &format!(
                    "config = {{ three_d_secure = {}, accepts_decrypted_wallet = true }}\n",
                    plan.challenges
                );
            }
            text += &format!(
                "endpoints = {{ api = \"http://{address}\" }}\n\
                 [accounts.{name}.secrets]\n\
                 secret_key = \"sk_test_secret_{n}\"\nwebhook_key = \"whk_test_secret_{n}\"\n"
            );
        }
        let reason = "the sandbox executes at once or never";
        let mut contract = String::new();
        if *provider == "wechatpay" {
            contract += &format!("close_after = {{ value = \"0s\", reason = \"{reason}\" }}\n");
        }
        // Adyen can't be asked; Stripe's search is behind, so its silence is never worth anything.
        let asked = !matches!(*provider, "adyen" | "stripe");
        if plan.not_found && asked {
            contract +=
                &format!("not_found = {{ value = \"after_fence\", reason = \"{reason}\" }}\n");
        }
        if *provider == "adyen" {
            if plan.proof_codes {
                contract += "proof_codes = { value = [\"429\", \"transient-error:703\"], \
                             reason = \"the sandbox executes nothing then\" }\n";
            }
            if plan.challenges {
                contract += "offer_expiry = { value = { after = \"1h\", margin = \"1m\" }, \
                             reason = \"nobody but us can finish a challenge\" }\n";
            }
        } else if *provider == "checkout" {
            contract += "proof_codes = { value = [\"429\"], reason = \"copies get 409\" }\n";
        } else if let Some((after, margin)) = plan.offer_expiry
            && !matches!(*provider, "paypal" | "stripe")
        {
            contract += &format!(
                "offer_expiry = {{ value = {{ after = \"{after}\", margin = \"{margin}\" }}, \
                 reason = \"the sandbox enforces it\" }}\n"
            );
        }
        text += &format!("[accounts.{name}.contract]\n{contract}");
    }
    let processor = [("wallets", "method = [\"apple_pay\", \"google_pay\"]", "\"adyen-eu\"")];
    let wallets = if plan.wallets { &wallets::ROUTES[..] } else { &processor };
    for (name, rule, candidates) in [
        ("alipay", "method = \"alipay\", currency = \"CNY\"", "\"alipay-main\", \"alipay-backup\""),
        ("cards-eu", "method = \"card\", currency = \"EUR\"", "\"checkout-eu\", \"checkout-us\""),
        ("cards-us", "method = \"card\", currency = \"USD\"", "\"checkout-us\", \"checkout-eu\""),
        (
            "cards-uk",
            "method = \"card\", currency = [\"GBP\", \"CLP\", \"CVE\"]",
            "\"adyen-eu\", \"checkout-us\"",
        ),
        ("cards-ch", "method = \"card\", currency = \"CHF\"", "\"checkout-us\", \"adyen-eu\""),
        ("cards-se", "method = \"card\", currency = \"SEK\"", "\"stripe-eu\", \"checkout-us\""),
        ("cards-no", "method = \"card\", currency = \"NOK\"", "\"checkout-eu\", \"stripe-eu\""),
        ("cards-dk", "method = \"card\", currency = \"DKK\"", "\"adyen-eu\", \"stripe-eu\""),
    ]
    .iter()
    .chain(wallets)
    .chain(&[
        ("wechat", "method = \"wechat_pay\"", "\"wechat-main\", \"wechat-backup\""),
        ("paypal", "method = \"paypal\"", "\"paypal-main\""),
    ]) {
        text += &format!(
            "\n[[routes]]\nname = \"{name}\"\nmatch = {{ {rule} }}\n\
             candidates = [{candidates}]\n{}\n",
            plan.route_lines
        );
    }
    text + "\n[inquiry]\nrecheck = [\"200ms\", \"300ms\", \"500ms\", \"1s\"]\n" + plan.tail
}

fn whole_seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().expect("whole seconds")
}

/// The key of an account's notifications, in hexadecimal as the provider shows it.
fn hmac_key(n: usize) -> String {
    let key = format!("hmac_test_secret_{n}");
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}
