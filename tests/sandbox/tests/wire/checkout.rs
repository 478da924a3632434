//! Checkout.com: keys, steps that are accepted first, inquiries, and the shopper in 3-D Secure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{Stage, card};

const MAIN: &str = "checkout-main";
const NONE: Value = Value::Null;

#[tokio::test]
async fn a_key_replays_a_success_and_executes_again_after_a_refusal() {
    let stage = Stage::start().await;
    let first = stage.pay(MAIN, "k1", card("c1")).await;
    assert_eq!((first.0, &first.1["status"]), (201, &json!("Authorized")));
    assert_eq!(first.1["response_code"], "10000");
    assert_eq!(stage.pay(MAIN, "k1", card("c1")).await, first);

    let mut wrong = card("c2");
    wrong["processing_channel_id"] = "pc_2".into();
    let refused = stage.pay(MAIN, "k2", wrong).await;
    assert_eq!((refused.0, &refused.1["error_type"]), (422, &json!("request_invalid")));
    assert_eq!(refused.1["error_codes"][0], "processing_channel_id_invalid");
    assert_eq!(stage.pay(MAIN, "k2", card("c2")).await.0, 201);

    let mut declined = card("c3");
    declined["source"]["token"] = "4900000000000051".into();
    let no = stage.pay(MAIN, "k3", declined).await;
    assert_eq!(
        (no.0, &no.1["status"], &no.1["approved"]),
        (201, &json!("Declined"), &json!(false))
    );
    assert_eq!(no.1["response_code"], "20051");
    assert_eq!(stage.pay(MAIN, "k3", card("c4")).await, no, "a decline is a 2xx and is kept");
    assert_eq!(stage.ledger(MAIN).await.len(), 2);
    let (_, requests) = stage.control("GET", "/requests", NONE).await;
    let duplicates: Vec<bool> =
        requests.as_array().unwrap().iter().map(|r| r["duplicate"].as_bool().unwrap()).collect();
    assert_eq!(duplicates, [false, true, false, true, false, true]);
}

#[tokio::test]
async fn a_concurrent_copy_meets_409_and_money_moves_once() {
    let stage = Stage::with("", "latency_ms = 150").await;
    let copies = (stage.pay(MAIN, "k", card("c")), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.pay(MAIN, "k", card("c")).await
    });
    let (first, second) = tokio::join!(copies.0, copies.1);
    assert_eq!((first.0, second.0), (201, 409));
    assert_eq!(stage.pay(MAIN, "k", card("c")).await, first);
    assert_eq!(stage.ledger(MAIN).await, [("charge".to_owned(), 4900)]);
}

#[tokio::test]
async fn a_cryptogram_is_spent_for_every_account() {
    let stage = Stage::start().await;
    let mut declined = card("c");
    declined["source"]["token"] = "4900000000000005".into();
    assert_eq!(stage.pay(MAIN, "k1", declined).await.1["response_code"], "20005");
    let other = stage.pay("checkout-backup", "k2", card("c")).await;
    assert_eq!(other.1["response_code"], "20063");
}

#[tokio::test]
async fn the_bearer_must_be_ours() {
    let stage = Stage::start().await;
    let url = format!("http://{}/payments", stage.address(MAIN));
    let none = stage.client.post(&url).json(&card("c")).send().await.unwrap();
    assert_eq!(none.status(), 401);
    let wrong = stage.client.post(&url).bearer_auth("sk_x").json(&card("c")).send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(stage.ledger(MAIN).await.is_empty());
}

#[tokio::test]
async fn a_hold_is_captured_in_part_and_refunded() {
    let stage = Stage::start().await;
    let mut body = card("c");
    body["capture"] = false.into();
    let id = stage.pay(MAIN, "k", body).await.1["id"].as_str().unwrap().to_owned();
    let step = async |what: &str, key: &str, body: Value| {
        let path = format!("/payments/{id}/{what}");
        stage.checkout(MAIN, ("POST", &path), Some(key), body).await
    };
    assert_eq!(step("refunds", "r0", json!({})).await.0, 403, "nothing captured yet");
    let over = step("captures", "c0", json!({ "amount": 5000 })).await;
    assert_eq!(over.0, 422);
    let capture = step("captures", "c1", json!({ "amount": 900, "reference": "cap" })).await;
    assert_eq!(capture.0, 202);
    assert_eq!(step("captures", "c1", json!({ "amount": 900 })).await, capture);
    let shown = eventually(&stage, &id, "Partially Captured").await;
    assert_eq!(shown["balances"]["total_voided"], 4000);
    assert_eq!(step("voids", "v1", json!({})).await.0, 403, "the rest is released already");
    assert_eq!(step("refunds", "r1", NONE).await.0, 202);
    eventually(&stage, &id, "Refunded").await;

    let path = format!("/payments/{id}/actions");
    let (_, actions) = stage.checkout(MAIN, ("GET", &path), None, NONE).await;
    let kinds: Vec<&str> =
        actions.as_array().unwrap().iter().map(|a| a["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Refund", "Capture", "Authorization"]);
    assert_eq!(
        (&actions[1]["id"], &actions[1]["reference"]),
        (&capture.1["action_id"], &json!("cap"))
    );
    let ledger = stage.ledger(MAIN).await;
    let expected = [("authorize", 4900), ("capture", 900), ("void", 4000), ("refund", 900)];
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
    let (_, movements) = stage.control("GET", "/ledger", NONE).await;
    assert_eq!(movements[1]["op_id"], "c1");
    assert_eq!(stage.checkout(MAIN, ("GET", "/payments/pay_none"), None, NONE).await.0, 404);
}

#[tokio::test]
async fn a_reversal_gives_everything_back_once() {
    let stage = Stage::start().await;
    let id = stage.pay(MAIN, "k", card("c")).await.1["id"].as_str().unwrap().to_owned();
    eventually(&stage, &id, "Captured").await;
    let path = format!("/payments/{id}/reversals");
    let reverse = async || stage.checkout(MAIN, ("POST", &path), Some("v"), json!({})).await.0;
    assert_eq!(reverse().await, 202);
    eventually(&stage, &id, "Refunded").await;
    assert_eq!(reverse().await, 204);
    let ledger = stage.ledger(MAIN).await;
    assert_eq!(ledger, [("charge".to_owned(), 4900), ("reverse".to_owned(), 4900)]);
}

#[tokio::test]
async fn the_list_by_reference_is_youngest_first_and_paged() {
    let stage = Stage::start().await;
    for n in 0..3 {
        let mut body = card(&format!("c{n}"));
        body["reference"] = "order".into();
        stage.pay(MAIN, &format!("k{n}"), body).await;
    }
    let path = "/payments?reference=order&limit=2&skip=1";
    let (status, page) = stage.checkout(MAIN, ("GET", path), None, NONE).await;
    assert_eq!((status, &page["total_count"]), (200, &json!(3)));
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    let none = stage.checkout(MAIN, ("GET", "/payments?reference=other"), None, NONE).await;
    assert_eq!((none.0, &none.1["data"]), (200, &json!([])));
    assert_eq!(stage.checkout(MAIN, ("GET", "/payments"), None, NONE).await.0, 422);
}

#[tokio::test]
async fn three_d_secure_waits_for_the_shopper() {
    let stage = Stage::start().await;
    for (act, status, charges) in
        [("pay", "Authorized", 1), ("fail", "Declined", 1), ("abandon", "Expired", 1)]
    {
        let mut body = card(act);
        body["3ds"] = json!({ "enabled": true });
        let (code, pending) = stage.pay(MAIN, act, body).await;
        assert_eq!((code, &pending["status"]), (202, &json!("Pending")));
        let href = pending["_links"]["redirect"]["href"].as_str().unwrap();
        assert_eq!(stage.client.get(href).send().await.unwrap().status(), 200);
        let session = href.rsplit('/').next().unwrap();
        let path = format!("/payments/{session}");
        let (_, shown) = stage.checkout(MAIN, ("GET", &path), None, NONE).await;
        assert_eq!((&shown["id"], &shown["status"]), (&pending["id"], &json!("Pending")));
        let acting = json!({ "account": MAIN, "op_id": act, "act": act });
        assert_eq!(stage.act(acting.clone()).await.1["status"], status);
        assert_eq!(stage.act(acting).await.0, 409, "a challenge ends once");
        assert_eq!(stage.ledger(MAIN).await.len(), charges);
    }
}

#[tokio::test]
async fn a_card_without_a_cryptogram_is_charged_when_the_shopper_has_passed() {
    let stage = Stage::start().await;
    let bare = |number: &str| {
        let mut body = card("unused");
        body["source"] = json!({
            "type": "card", "number": number, "expiry_month": 12, "expiry_year": 2099,
        });
        body["3ds"] = json!({ "enabled": true });
        body
    };
    let (code, pending) = stage.pay(MAIN, "k1", bare("4900000000001111")).await;
    assert_eq!((code, &pending["status"]), (202, &json!("Pending")));
    assert!(stage.ledger(MAIN).await.is_empty(), "nothing moves before the shopper has passed");
    let acting = json!({ "account": MAIN, "op_id": "k1", "act": "pay" });
    assert_eq!(stage.act(acting).await.1["status"], "Authorized");
    // The issuer's word about the card comes after the challenge.
    let (code, _) = stage.pay(MAIN, "k2", bare("4900000000000059")).await;
    assert_eq!(code, 202);
    let acting = json!({ "account": MAIN, "op_id": "k2", "act": "pay" });
    assert_eq!(stage.act(acting).await.1["status"], "Declined");
    let (code, paid) = stage.pay(MAIN, "k3", bare("4900000000009990")).await;
    assert_eq!((code, &paid["status"]), (201, &json!("Authorized")), "it is not enrolled");
    assert_eq!(stage.ledger(MAIN).await.len(), 2);
    let mut wrong = bare("4900000000001111");
    wrong["source"]["number"] = "4900".into();
    let refused = stage.pay(MAIN, "k4", wrong).await;
    assert_eq!((refused.0, &refused.1["error_codes"][0]), (422, &json!("card_number_invalid")));
}

async fn eventually(stage: &Stage, id: &str, status: &str) -> Value {
    let path = format!("/payments/{id}");
    for _ in 0..400 {
        let (_, shown) = stage.checkout(MAIN, ("GET", &path), None, NONE).await;
        if shown["status"] == status {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never {status}");
}
