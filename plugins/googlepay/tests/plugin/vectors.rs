//! Tokens that others made: Google's own, of its test environment, and those of its published test
//! keys. They lie outside this repository, so without them these tests have nothing to say.

use std::path::Path;

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn vector(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(name);
    Some(serde_json::from_str(&std::fs::read_to_string(path).ok()?).unwrap())
}

fn merchant(pkcs8: &Value) -> TestHost {
    let der = STANDARD.decode(pkcs8.as_str().unwrap()).unwrap();
    TestHost::default().with_agreement("encryption_key", &der)
}

#[test]
fn a_token_of_googles_test_environment_opens_at_its_own_moment() {
    let (Some(real), Some(roots)) =
        (vector("googlepay_pypi_readme.json"), vector("google_test_root_keys.json"))
    else {
        return;
    };
    let plugin = account(json!({ "test": true }));
    let host = merchant(&real["private_key_pkcs8_b64"]);
    let at = |now_ms| {
        open_at(&plugin, &host, real["token"].clone(), &roots.to_string(), now_ms).unwrap()
    };
    // The intermediate key ends half a day after the message does.
    let (message_end_ms, key_end_ms) = (1_653_664_726_857, 1_653_715_443_593);
    let opened = opened(at(message_end_ms - 1));
    let Credential::Card { number, expiry_month, expiry_year, .. } = opened.credential else {
        unreachable!("a network token out of PAN_ONLY");
    };
    assert_eq!((number.as_str(), expiry_month, expiry_year), ("5555555555554444", 12, 2027));
    // Google's number of it is longer than ours may be.
    assert!(opened.token_id.starts_with("sha256:") && opened.token_id.len() == 71);
    assert_eq!(refused(at(message_end_ms)), (Class::Expired, "expired_message".into()));
    assert_eq!(refused(at(key_end_ms)), (Class::Expired, "expired_intermediate".into()));
    let other = account(json!({ "merchant_id": "1" }));
    let done =
        open_at(&other, &host, real["token"].clone(), &roots.to_string(), message_end_ms - 1);
    assert_eq!(refused_for(done), "bad_signature");
}

#[test]
fn tokens_of_published_test_keys_open() {
    let Some(made) = vector("googlepay_generated.json") else { return };
    let config = json!({
        "recipient_id": made["recipient_id"], "gateway_merchant_id": "gm",
        "protocols": ALL_PROTOCOLS,
    });
    let host = merchant(&made["merchant_private_key_pkcs8_base64"]);
    let roots = json!({ "keys": made["roots"] }).to_string();
    let mut opened_of = 0;
    for protocol in Protocol::ALL {
        let token = made[protocol.name()].clone();
        if token.is_null() {
            continue;
        }
        let done = open_at(&account(config.clone()), &host, token.clone(), &roots, NOW_MS).unwrap();
        assert_eq!(opened(done).token_id, "m1", "{protocol:?}");
        opened_of += 1;
        let foreign = account(json!({
            "recipient_id": "merchant:abd", "gateway_merchant_id": "gm",
            "protocols": ALL_PROTOCOLS,
        }));
        let done = open_at(&foreign, &host, token, &roots, NOW_MS);
        assert_eq!(refused_for(done), "bad_signature");
    }
    assert!(opened_of >= 2);
}
