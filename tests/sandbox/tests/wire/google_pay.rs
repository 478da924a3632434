//! Google Pay at the wire: its public keys, how long they may be kept, and its tokens.

use std::collections::BTreeSet;
use std::path::Path;

use interlock_sandbox::google_pay::write_google_pay_keys;
use interlock_sandbox::{Config, Sandbox};
use serde_json::{Value, json};

const KEYS: &str = "/paymentmethodtoken/keys.json";

struct Wallet {
    sandbox: Sandbox,
    client: reqwest::Client,
}

impl Wallet {
    async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write_google_pay_keys(&folder.path().join("keys")).unwrap(), 3);
        assert_eq!(write_google_pay_keys(&folder.path().join("keys")).unwrap(), 0);
        let text = format!(
            "[control]\nlisten = \"127.0.0.1:0\"\n[accounts.wallet]\nprovider = \"googlepay\"\n\
             listen = \"127.0.0.1:0\"\nroot_private_key = \"keys/root_private.pem\"\n\
             intermediate_private_key = \"keys/intermediate_private.pem\"\n\
             merchant_private_key = \"keys/merchant_private.pem\"\nlate_ms = 1\n{more}\n"
        );
        let config = Config::parse(&text, folder.path()).unwrap();
        let sandbox = Sandbox::start(config).await.unwrap();
        Self { sandbox, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        let at = self.sandbox.accounts()["wallet"];
        self.client.get(format!("http://{at}{path}")).send().await
    }

    async fn control(&self, path: &str, body: Value) -> (u16, Value) {
        let at = format!("http://{}{path}", self.sandbox.control());
        let answer = self.client.post(at).body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    async fn token(&self, wish: Value) -> (u16, Value) {
        let mut wish = wish;
        wish["account"] = "wallet".into();
        self.control("/wallets/google_pay/tokens", wish).await
    }
}

#[tokio::test]
async fn public_keys_say_how_long_they_may_be_kept() {
    let wallet = Wallet::start("max_age_s = 77").await;
    for path in [KEYS, "/paymentmethodtoken/test/keys.json"] {
        let answer = wallet.get(path).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["cache-control"], "public, max-age=77");
        let file: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let keys = file["keys"].as_array().unwrap();
        let of: BTreeSet<&str> =
            keys.iter().map(|key| key["protocolVersion"].as_str().unwrap()).collect();
        assert_eq!(of, BTreeSet::from(["ECv1", "ECv2", "ECv2SigningOnly"]));
    }
    assert_eq!(wallet.get("/paymentmethodtoken").await.unwrap().status(), 404);
    let log = format!("http://{}/requests", wallet.sandbox.control());
    let log: Value =
        serde_json::from_str(&wallet.client.get(log).send().await.unwrap().text().await.unwrap())
            .unwrap();
    let calls: Vec<&str> =
        log.as_array().unwrap().iter().map(|r| r["call"].as_str().unwrap()).collect();
    assert_eq!(calls, ["keys", "test_keys", "unknown"]);
}

#[tokio::test]
async fn the_dial_bends_the_answer() {
    let wallet = Wallet::start("").await;
    for (fault, status) in
        [("error_before", 500), ("error_after", 500), ("rate_limited", 429), ("slow", 200)]
    {
        let order = json!({ "account": "wallet", "operation": "inquire", "fault": fault });
        let (_, set) = wallet.control("/faults", order).await;
        assert_eq!(wallet.get(KEYS).await.unwrap().status(), status, "{fault}");
        let id = set["id"].as_str().unwrap();
        let lift = format!("http://{}/faults/{id}", wallet.sandbox.control());
        wallet.client.delete(lift).send().await.unwrap();
    }
    for fault in ["garbage", "bad_signature"] {
        let order =
            json!({ "account": "wallet", "operation": "inquire", "fault": fault, "for_ms": 0 });
        let (_, set) = wallet.control("/faults", order).await;
        let body = wallet.get(KEYS).await.unwrap().text().await.unwrap();
        assert!(serde_json::from_str::<Value>(&body).is_err(), "{fault}: {body}");
        let id = set["id"].as_str().unwrap();
        let lift = format!("http://{}/faults/{id}", wallet.sandbox.control());
        wallet.client.delete(lift).send().await.unwrap();
    }
    for fault in ["reset_after_read", "charge_then_drop", "refuse"] {
        let order = json!({ "account": "wallet", "operation": "inquire", "fault": fault });
        wallet.control("/faults", order).await;
        assert!(wallet.get(KEYS).await.is_err(), "{fault}");
    }
    let (status, _) = wallet
        .control("/customers/act", json!({ "account": "wallet", "op_id": "x", "act": "pay" }))
        .await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_token_is_what_was_asked_for_and_each_has_its_own_cryptogram() {
    let wallet = Wallet::start("gateway_merchant_id = \"gm\"").await;
    let (status, made) = wallet.token(json!({})).await;
    assert_eq!((status, made["token"]["protocolVersion"].as_str()), (200, Some("ECv2")));
    assert_eq!(made["token"].as_object().unwrap().len(), 4);
    let (_, other) = wallet.token(json!({})).await;
    assert_ne!(made["inside"]["cryptogram"], other["inside"]["cryptogram"]);
    assert_eq!(made["inside"]["number"], other["inside"]["number"]);

    let wish =
        json!({ "protocol": "ECv1", "auth_method": "PAN_ONLY", "number": "4000007000009990" });
    let (_, card) = wallet.token(wish).await;
    assert_eq!(card["token"].as_object().unwrap().len(), 3);
    assert_eq!(card["inside"], json!({ "number": "4000007000009990", "cryptogram": null }));

    let (_, signed) = wallet.token(json!({ "protocol": "ECv2SigningOnly", "now_ms": 1 })).await;
    let message: Value =
        serde_json::from_str(signed["token"]["signedMessage"].as_str().unwrap()).unwrap();
    assert_eq!(message["messageExpiration"], "604800001");
    assert_eq!(message["gatewayMerchantId"], "gm");
}

#[tokio::test]
async fn a_word_that_nobody_knows_is_refused() {
    let wallet = Wallet::start("").await;
    for wish in [
        json!({ "protocol": "ECv3" }),
        json!({ "auth_method": "pan_only" }),
        json!({ "defect": "rusty" }),
        json!({ "defect": "bad_tag", "protocol": "ECv2SigningOnly" }),
        json!({ "defekt": "bad_tag" }),
    ] {
        assert_eq!(wallet.token(wish.clone()).await.0, 400, "{wish}");
    }
    let nobody = json!({ "account": "nobody" });
    assert_eq!(wallet.control("/wallets/google_pay/tokens", nobody).await.0, 400);
    let (_, bad) = wallet.token(json!({ "defect": "extra_member" })).await;
    assert_eq!(bad["token"].as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn a_key_that_is_none_is_named() {
    let text = "[accounts.wallet]\nprovider = \"googlepay\"\nlisten = \"127.0.0.1:0\"\n\
                root_private_key = \"-----BEGIN x\"\nintermediate_private_key = \"-----BEGIN x\"\n\
                merchant_private_key = \"-----BEGIN x\"\n";
    let config = Config::parse(text, Path::new(".")).unwrap();
    let Err(why) = Sandbox::start(config).await else { unreachable!("it started") };
    assert!(why.to_string().contains("root"), "{why}");
}
