//! The providers' own SDKs against the sandbox: they judge whether the fakes speak the protocol.
//! And the reference library of Standard Webhooks against what the proxy tells merchants, a Stripe
//! that others wrote against our plugin, and other openers of wallets' tokens against our maker.
//!
//! The sandbox is the oracle of every other test, so it needs a judge that nobody here wrote.
//! `cargo xtask test` installs what is needed; `INTERLOCK_SKIP_PEERS=1` leaves these tests out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "peers/bridge.rs"]
mod bridge;
#[path = "peers/localstripe.rs"]
mod localstripe;
#[path = "peers/stripe.rs"]
mod stripe;
#[path = "peers/wallets.rs"]
mod wallets;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use interlock_tests::hook::Hook;
use interlock_tests::house::{API_V3_KEY, House, MERCHANT_SERIAL, PUBLIC_KEY_ID, Plan, qr};
use serde_json::{Value, json};

const ALIPAY: &str = "alipay-main";
const ADYEN: &str = "adyen-main";
const WECHAT: &str = "wechat-main";
const PAYPAL: &str = "paypal-main";
const STRIPE: &str = "stripe-eu";
const APP_ID: &str = "2021000000000001";
const HMAC_KEY: &str = "706565722d686d61632d6b6579";
const INSTALL: &str = "run `cargo xtask test` once, which installs it, or set \
                       INTERLOCK_SKIP_PEERS=1 to leave these tests out";

#[test]
fn the_sandbox_satisfies_the_sdk_of_alipay() {
    let Some(sdk) = sdk("alipay-sdk") else { return };
    let sandbox = Sandbox::start();
    let given = json!({
        "gateway": sandbox.url(&sandbox.said["accounts"][ALIPAY]),
        "control": sandbox.url(&sandbox.said["control"]),
        "account": ALIPAY,
        "app_id": APP_ID,
        "app_private_key": sandbox.key(ALIPAY, "app_private.pem"),
        "alipay_public_key": sandbox.key(ALIPAY, "gateway_public.pem"),
    });
    let zone = ("TZ", "Asia/Shanghai".into());
    assert_eq!(checks("alipay.mjs", &given, &[zone, ("ALIPAY_SDK", sdk)]), 9);
}

#[test]
fn the_sdk_of_alipay_signs_the_same_pages_and_orders() {
    let Some(sdk) = sdk("alipay-sdk") else { return };
    let house = House::with(Plan { offer_expiry: Some(("600s", "1s")), ..Plan::default() });
    let orders = ["redirect", "wap", "app"].map(|flow| {
        let shown = house.pay(&json!({
            "amount": 8_888, "currency": "CNY", "method": { "type": "alipay", "flow": flow },
            "description": "Tea & cake/两杯 100%+", "return_url": "https://shop.example/a?b=c d",
        }));
        let action = &shown["next_action"];
        let order = action["url"].as_str().or(action["params"]["order_string"].as_str());
        let order = order.unwrap_or_else(|| panic!("{shown:?}"));
        order.split_once('?').map_or(order, |(_, query)| query).to_owned()
    });
    let given = json!({
        "orders": orders,
        "app_id": "2021000000000000",
        "app_private_key": key(&house, ALIPAY, "app_private.pem"),
    });
    assert_eq!(checks("alipay-orders.mjs", &given, &[("ALIPAY_SDK", sdk)]), 3);
}

#[test]
fn the_sandbox_satisfies_the_sdk_of_adyen() {
    let Some(sdk) = sdk("@adyen/api-library") else { return };
    let sandbox = Sandbox::start();
    let given = json!({
        "api": sandbox.url(&sandbox.said["accounts"][ADYEN]),
        "control": sandbox.url(&sandbox.said["control"]),
        "account": ADYEN,
        "merchant_account": "PeerShop",
        "api_key": "AQE_peer",
        "hmac_key": HMAC_KEY,
        "hook": sandbox.hook,
    });
    assert_eq!(checks("adyen.mjs", &given, &[("ADYEN_SDK", sdk)]), 7);
}

#[test]
fn the_sandbox_satisfies_the_sdk_of_wechat_pay() {
    let Some(sdk) = sdk("wechatpay-axios-plugin") else { return };
    let sandbox = Sandbox::start();
    let given = json!({
        "api": sandbox.url(&sandbox.said["accounts"][WECHAT]),
        "control": sandbox.url(&sandbox.said["control"]),
        "account": WECHAT,
        "mchid": "1900000001",
        "appid": "wxd678efh567hg6787",
        "serial": MERCHANT_SERIAL,
        "merchant_private_key": sandbox.key(WECHAT, "app_private.pem"),
        "merchant_public_key": sandbox.key(WECHAT, "app_public.pem"),
        "public_key_id": PUBLIC_KEY_ID,
        "public_key": sandbox.key("wechat-next", "app_public.pem"),
        "api_v3_key": API_V3_KEY,
    });
    assert_eq!(checks("wechatpay.mjs", &given, &[("WECHATPAY_SDK", sdk)]), 19);
}

#[test]
fn the_sdk_of_wechat_pay_signs_the_same_for_pages_and_apps() {
    let Some(sdk) = sdk("wechatpay-axios-plugin") else { return };
    let house = House::start();
    let pays = ["jsapi", "app"].map(|flow| {
        let mut method = json!({ "type": "wechat_pay", "flow": flow });
        if flow == "jsapi" {
            method["openid"] = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".into();
        }
        let shown = house.pay(&json!({ "amount": 1_250, "currency": "CNY", "method": method,
            "description": "Tea & cake/两杯", "customer": { "ip": "203.0.113.7" } }));
        let params = shown["next_action"]["params"].clone();
        assert!(params.is_object(), "{flow}: {shown:?}");
        params
    });
    let given = json!({
        "pays": pays,
        "appid": "wx000000000000005",
        "mchid": "1900000005",
        "merchant_private_key": key(&house, WECHAT, "app_private.pem"),
        "merchant_public_key": key(&house, WECHAT, "app_public.pem"),
    });
    assert_eq!(checks("wechatpay-pays.mjs", &given, &[("WECHATPAY_SDK", sdk)]), 2);
}

#[test]
fn the_sandbox_satisfies_the_sdk_of_paypal() {
    let Some(sdk) = sdk("@paypal/checkout-server-sdk") else { return };
    let sandbox = Sandbox::start();
    let given = json!({
        "api": sandbox.url(&sandbox.said["accounts"][PAYPAL]),
        "control": sandbox.url(&sandbox.said["control"]),
        "account": PAYPAL,
        "client_id": "peer",
        "client_secret": "peer-secret",
        "webhook_id": "9PEER",
        "webhook_ca": sandbox.key(PAYPAL, "webhook_ca.pem"),
        "hook": sandbox.hook,
    });
    assert_eq!(checks("paypal.mjs", &given, &[("PAYPAL_SDK", sdk)]), 17);
}

#[test]
fn the_sdk_of_alipay_passes_through_the_proxy_while_others_hang() {
    let Some(sdk) = sdk("alipay-sdk") else { return };
    let house = House::start();
    house.fault_with(json!({ "account": "alipay-backup", "operation": "*", "fault": "hang" }));
    let given = json!({
        "gateway": format!("{}/native/{ALIPAY}", house.api),
        "control": house.control,
        "account": ALIPAY,
        "app_id": "2021000000000000",
        "app_private_key": key(&house, ALIPAY, "app_private.pem"),
        "alipay_public_key": key(&house, ALIPAY, "gateway_public.pem"),
        "key": "test_key_1",
    });
    let zone = ("TZ", "Asia/Shanghai".into());
    assert_eq!(checks("alipay.mjs", &given, &[zone, ("ALIPAY_SDK", sdk)]), 9);
    passed_by_name(&house);
}

#[test]
fn the_sdk_of_adyen_passes_through_the_proxy_while_others_hang() {
    let Some(sdk) = sdk("@adyen/api-library") else { return };
    let hook = interlock_tests::house::free_ports(1)[0];
    let notify = Some(format!("http://127.0.0.1:{hook}"));
    let house = House::with(Plan { notify, ..Plan::default() });
    house.fault_with(json!({ "account": "checkout-us", "operation": "*", "fault": "hang" }));
    house.fault_with(json!({
        "account": "adyen-eu", "operation": "authorize", "fault": "slow", "ms": 60,
    }));
    let key = "hmac_test_secret_4".bytes().map(|byte| format!("{byte:02x}"));
    let given = json!({
        "api": format!("{}/native/adyen-eu", house.api),
        "control": house.control,
        "account": "adyen-eu",
        "merchant_account": "TestShop",
        "api_key": "AQE_test_secret_4",
        "hmac_key": key.collect::<String>(),
        "hook": hook,
        "key": "test_key_1",
    });
    assert_eq!(checks("adyen.mjs", &given, &[("ADYEN_SDK", sdk)]), 7);
    passed_by_name(&house);
}

#[test]
fn the_sdk_of_wechat_pay_passes_through_the_proxy_while_others_hang() {
    let Some(sdk) = sdk("wechatpay-axios-plugin") else { return };
    let house = House::start();
    house.fault_with(json!({ "account": "wechat-backup", "operation": "*", "fault": "hang" }));
    let given = json!({
        "api": house.api,
        "prefix": format!("/native/{WECHAT}"),
        "control": house.control,
        "account": WECHAT,
        "mchid": "1900000005",
        "appid": "wx000000000000005",
        "serial": MERCHANT_SERIAL,
        "merchant_private_key": key(&house, WECHAT, "app_private.pem"),
        "merchant_public_key": key(&house, WECHAT, "app_public.pem"),
        "public_key_id": PUBLIC_KEY_ID,
        "public_key": key(&house, WECHAT, "gateway_public.pem"),
        "api_v3_key": API_V3_KEY,
        "key": "test_key_1",
    });
    assert_eq!(checks("wechatpay.mjs", &given, &[("WECHATPAY_SDK", sdk)]), 19);
    passed_by_name(&house);
}

#[test]
fn the_sdk_of_paypal_passes_through_the_proxy_while_others_hang() {
    let Some(sdk) = sdk("@paypal/checkout-server-sdk") else { return };
    let hook = interlock_tests::house::free_ports(1)[0];
    let notify = Some(format!("http://127.0.0.1:{hook}"));
    let house = House::with(Plan { notify, ..Plan::default() });
    house.fault_with(json!({ "account": "checkout-us", "operation": "*", "fault": "hang" }));
    let given = json!({
        "api": house.api,
        "prefix": format!("/native/{PAYPAL}"),
        "control": house.control,
        "account": PAYPAL,
        "client_id": "paypal_test_id",
        "client_secret": "paypal_test_secret",
        "webhook_id": "9TEST",
        "webhook_ca": key(&house, PAYPAL, "webhook_ca.pem"),
        "hook": hook,
        "key": "test_key_1",
    });
    assert_eq!(checks("paypal.mjs", &given, &[("PAYPAL_SDK", sdk)]), 17);
    passed_by_name(&house);
}

#[test]
fn the_reference_library_of_webhooks_verifies_what_merchants_are_told() {
    const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    let Some(library) = sdk("standardwebhooks") else { return };
    let hook = Hook::start();
    // The merchant has not changed over yet: it verifies with what is the old key here.
    let lines = format!(
        "webhook = {{ url = \"http://{}/\", key = \"{OTHER}\", old_key = \"{KEY}\", \
         allow_loopback = true }}",
        hook.address
    );
    let house =
        House::with(Plan { merchant_lines: Box::leak(lines.into_boxed_str()), ..Plan::default() });
    let p = house.pay(&qr(1_200));
    hook.wait_for(1);
    house.scan("alipay-main", p["next_action"]["qr_code"].as_str().unwrap(), "pay");
    hook.wait_for(2);
    let refund = json!({ "payment": p["id"], "reason": "zurück 退款" });
    house.post("/v1/refunds", "r-1", &refund);
    let messages: Vec<Value> = hook
        .wait_for(3)
        .iter()
        .map(|m| {
            let field = |name: &str| json!(m.header(name));
            json!({
                "body": String::from_utf8(m.body.clone()).unwrap(),
                "headers": {
                    "webhook-id": field("webhook-id"),
                    "webhook-timestamp": field("webhook-timestamp"),
                    "webhook-signature": field("webhook-signature"),
                },
            })
        })
        .collect();
    let stranger = "whsec_c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXI=";
    let given = json!({ "key": KEY, "other": stranger, "messages": messages });
    assert_eq!(checks("hooks.mjs", &given, &[("WEBHOOKS", library)]), 3);
}

/// The folder of an SDK, or `None` when these tests are left out.
fn sdk(package: &str) -> Option<PathBuf> {
    if std::env::var_os("INTERLOCK_SKIP_PEERS").is_some() {
        eprintln!("left out: INTERLOCK_SKIP_PEERS is set");
        return None;
    }
    let folder = target().join("peers/node_modules").join(package);
    assert!(folder.join("package.json").exists(), "npm package {package} is missing: {INSTALL}");
    Some(folder)
}

/// Runs a script to its end; how many of its parts were satisfied.
fn checks(script: &str, given: &Value, env: &[(&str, PathBuf)]) -> usize {
    let ran = Command::new(node())
        .arg(root().join("tests/peers").join(script))
        .arg(given.to_string())
        .envs(env.iter().map(|(name, value)| (*name, value)))
        .output()
        .unwrap_or_else(|why| panic!("node could not be started ({why}): {INSTALL}"));
    let out = String::from_utf8_lossy(&ran.stdout);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "the SDK is not satisfied:\n{out}\n{error}");
    let verdict: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(verdict["ok"], true);
    verdict["checks"].as_array().unwrap().len()
}

/// What an SDK sent through the proxy is known by the plugin's manifest, and left nothing behind.
fn passed_by_name(house: &House) {
    assert_eq!(house.journalled(), 0, "nothing of it is ours to remember");
    let metrics = house.metrics();
    let native: Vec<&str> = metrics.lines().filter(|line| line.contains("\"native_")).collect();
    assert!(!native.is_empty(), "{metrics}");
    let unlisted: Vec<_> = native.iter().filter(|line| line.contains("native_unlisted")).collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
}

/// One of a house's keys, as PEM.
fn key(house: &House, account: &str, name: &str) -> String {
    std::fs::read_to_string(house.dir.path().join("keys").join(account).join(name)).unwrap()
}

/// The sandbox program with fresh keys on free ports; ends when dropped.
struct Sandbox {
    child: Child,
    folder: tempfile::TempDir,
    said: Value,
    /// Where the notifications of those go who have one address for an account.
    hook: u16,
}

impl Sandbox {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = program();
        let keys = folder.path().join("keys");
        // The second pair of WeChat Pay has the key that follows, and the public key.
        for more in [&[ALIPAY, WECHAT, "wechat-next"][..], &["--webhooks", PAYPAL]] {
            let made = Command::new(&program).arg("keys").arg(&keys).args(more).status().unwrap();
            assert!(made.success());
        }
        let config = folder.path().join("sandbox.toml");
        let hook = interlock_tests::house::free_ports(1)[0];
        let text = format!(
            "[accounts.{ALIPAY}]\nprovider = \"alipay\"\nlisten = \"127.0.0.1:0\"\n\
             app_id = \"{APP_ID}\"\nseller_id = \"2088000000000003\"\n\
             app_public_key = \"keys/{ALIPAY}/app_public.pem\"\n\
             gateway_private_key = \"keys/{ALIPAY}/gateway_private.pem\"\n\
             [accounts.{ADYEN}]\nprovider = \"adyen\"\nlisten = \"127.0.0.1:0\"\n\
             api_key = \"AQE_peer\"\nmerchant_account = \"PeerShop\"\n\
             hmac_key = \"{HMAC_KEY}\"\nnotify_url = \"http://127.0.0.1:{hook}/\"\n\
             [accounts.{WECHAT}]\nprovider = \"wechatpay\"\nlisten = \"127.0.0.1:0\"\n\
             mchid = \"1900000001\"\nappid = \"wxd678efh567hg6787\"\n\
             merchant_serial = \"{MERCHANT_SERIAL}\"\napi_v3_key = \"{API_V3_KEY}\"\n\
             merchant_public_key = \"keys/{WECHAT}/app_public.pem\"\n\
             platform_private_key = \"keys/{WECHAT}/gateway_private.pem\"\n\
             next_platform_private_key = \"keys/wechat-next/gateway_private.pem\"\n\
             public_key_id = \"{PUBLIC_KEY_ID}\"\n\
             public_key_private_key = \"keys/wechat-next/app_private.pem\"\n\
             reverse_after_ms = 0\napprove_ms = 0\n\
             [accounts.{PAYPAL}]\nprovider = \"paypal\"\nlisten = \"127.0.0.1:0\"\n\
             client_id = \"peer\"\nclient_secret = \"peer-secret\"\n\
             webhook_id = \"9PEER\"\nmagic_amounts = true\n\
             webhook_private_key = \"keys/{PAYPAL}/webhook_private.pem\"\n\
             webhook_ca_private_key = \"keys/{PAYPAL}/webhook_ca_private.pem\"\n\
             notify_url = \"http://127.0.0.1:{hook}/\"\n\
             [accounts.{STRIPE}]\nprovider = \"stripe\"\nlisten = \"127.0.0.1:0\"\n\
             secret_key = \"sk_test_peer\"\nwebhook_key = \"whsec_peer\"\ndecide_ms = 0\n\
             notify_url = \"http://127.0.0.1:{hook}/\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(&program)
            .args(["--control", "127.0.0.1:0", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("the sandbox did not say where it listens: {line}");
        });
        Self { child, folder, said, hook }
    }

    fn key(&self, account: &str, name: &str) -> String {
        let keys = self.folder.path().join("keys");
        std::fs::read_to_string(keys.join(account).join(name)).unwrap()
    }

    fn url(&self, address: &Value) -> String {
        format!("http://{}", address.as_str().unwrap())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// The folder that Cargo builds in: this test lies in `target/PROFILE/deps`.
fn target() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(3).unwrap().into()
}

fn program() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("interlock-sandbox");
    let how = "run `cargo build -p interlock-sandbox`, or `cargo xtask test`";
    assert!(program.exists(), "{} is missing: {how}", program.display());
    program
}

fn node() -> PathBuf {
    let ours = target().join("node/node_modules/.bin/node");
    if ours.exists() { ours } else { "node".into() }
}
