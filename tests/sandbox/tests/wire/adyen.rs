//! Adyen: keys, changes that are accepted first, challenges, faults and signed notifications.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::stage::{Arrived, HMAC_KEY, Stage, outcome};

const MAIN: &str = "adyen-main";

#[tokio::test]
async fn a_key_gives_one_execution_and_the_same_answer_for_ever() {
    let stage = Stage::start().await;
    let (status, headers, paid) = stage.adyen(MAIN, "/payments", Some("k1"), card("c1")).await;
    assert_eq!((status, &paid["resultCode"]), (200, &json!("Authorised")));
    assert_eq!(headers["idempotency-key"], "k1");
    assert!(headers.get("transient-error").is_none());
    assert_eq!(pay(&stage, "k1", card("c1")).await, (200, paid));
    // A refusal is kept as well, whatever comes with the key later.
    let (_, refused) = pay(&stage, "k2", token("M5_decline_12")).await;
    assert_eq!(
        (&refused["resultCode"], &refused["refusalReasonCode"]),
        (&json!("Refused"), &json!("12"))
    );
    assert_eq!(pay(&stage, "k2", token("M5")).await.1, refused);
    // What was not executed is not kept.
    let mut wrong = token("M5");
    wrong["amount"]["value"] = 0.into();
    let (status, error) = pay(&stage, "k3", wrong).await;
    assert_eq!((status, &error["errorCode"]), (422, &json!("137")));
    assert_eq!(pay(&stage, "k3", token("M5")).await.1["resultCode"], "Authorised");
    assert_eq!(stage.ledger(MAIN).await.len(), 2);
}

#[tokio::test]
async fn a_copy_under_way_meets_704_and_may_come_again() {
    let stage = Stage::with_all("", "", "latency_ms = 150").await;
    let copies = (stage.adyen(MAIN, "/payments", Some("k"), card("c")), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.adyen(MAIN, "/payments", Some("k"), card("c")).await
    });
    let (first, (status, headers, busy)) = tokio::join!(copies.0, copies.1);
    assert_eq!((first.0, status, &busy["errorCode"]), (200, 422, &json!("704")));
    assert_eq!(headers["transient-error"], "true");
    assert_eq!(pay(&stage, "k", card("c")).await.1, first.2);
    assert_eq!(stage.ledger(MAIN).await, [("charge".to_owned(), 4900)]);
}

#[tokio::test]
async fn a_store_that_is_down_turns_away_once_and_takes_nothing() {
    let stage = Stage::start().await;
    let body = token("M5_store_down");
    let (status, headers, error) = stage.adyen(MAIN, "/payments", Some("k"), body.clone()).await;
    assert_eq!((status, &error["errorCode"]), (503, &json!("703")));
    assert_eq!(headers["transient-error"], "true");
    assert!(stage.ledger(MAIN).await.is_empty());
    assert_eq!(pay(&stage, "k", body).await.1["resultCode"], "Authorised");
    assert_eq!(stage.ledger(MAIN).await.len(), 1);
}

#[tokio::test]
async fn who_is_not_known_or_asks_for_another_account_is_refused() {
    let stage = Stage::start().await;
    let url = format!("http://{}/v72/payments", stage.address(MAIN));
    for key in ["", "AQE_other"] {
        let request = stage.client.post(&url).header("X-API-Key", key).json(&card("c"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.json::<Value>().await.unwrap()["errorCode"], "000");
    }
    let mut foreign = card("c");
    foreign["merchantAccount"] = "OtherShop".into();
    let (status, error) = pay(&stage, "k", foreign).await;
    assert_eq!((status, &error["errorCode"]), (403, &json!("901")));
    // There is no way to ask.
    let paid = pay(&stage, "k2", card("c")).await.1;
    let url = format!("{url}/{}", paid["pspReference"].as_str().unwrap());
    assert_eq!(stage.client.get(url).send().await.unwrap().status(), 404);
    assert_eq!(stage.ledger(MAIN).await.len(), 1);
}

#[tokio::test]
async fn a_cryptogram_is_spent_for_every_processor() {
    let stage = Stage::start().await;
    let mut declined = card("c");
    declined["paymentMethod"]["number"] = "4900000000000005".into();
    assert_eq!(pay(&stage, "k1", declined).await.1["refusalReasonCode"], "2");
    let other = stage.pay("checkout-main", "k2", crate::stage::card("c")).await;
    assert_eq!(other.1["response_code"], "20063");
    stage.pay("checkout-main", "k3", crate::stage::card("d")).await;
    assert_eq!(pay(&stage, "k4", card("d")).await.1["refusalReasonCode"], "31");
}

#[tokio::test]
async fn changes_are_accepted_first_and_told_later() {
    let stage = Stage::start().await;
    let mut body = card("c");
    body["additionalData"] = json!({ "manualCapture": "true" });
    let psp = pay(&stage, "k", body).await.1["pspReference"].as_str().unwrap().to_owned();
    let change = async |what: &str, key: &str, amount: Option<i64>| {
        let path = format!("/payments/{psp}/{what}");
        let mut body = json!({ "merchantAccount": "StageShop", "reference": key });
        if let Some(value) = amount {
            body["amount"] = json!({ "currency": "EUR", "value": value });
        }
        let (status, _, answer) = stage.adyen(MAIN, &path, Some(key), body).await;
        (status, answer)
    };
    let mut count = 1;
    for (what, key, amount, event, success) in [
        ("refunds", "r0", Some(100), "REFUND", "false"),
        ("captures", "c0", Some(5_000), "CAPTURE", "false"),
        ("captures", "c1", Some(900), "CAPTURE", "true"),
        ("cancels", "v1", None, "CANCELLATION", "false"),
        ("refunds", "r1", Some(300), "REFUND", "true"),
        ("reversals", "x1", None, "CANCEL_OR_REFUND", "true"),
        ("reversals", "x2", None, "CANCEL_OR_REFUND", "false"),
    ] {
        let (status, accepted) = change(what, key, amount).await;
        assert_eq!((status, &accepted["status"]), (201, &json!("received")), "{what}");
        assert_eq!(accepted["paymentPspReference"], psp.as_str());
        assert_eq!(change(what, key, amount).await.1, accepted, "the same key, the same change");
        count += 1;
        let told = item(&stage.hook.wait(count).await[count - 1]);
        assert_eq!((&told["eventCode"], &told["success"]), (&json!(event), &json!(success)));
        assert_eq!(told["pspReference"], accepted["pspReference"]);
        assert_eq!(told["originalReference"], psp.as_str());
        assert_eq!(told["merchantReference"], key);
    }
    let ledger = stage.ledger(MAIN).await;
    let expected =
        [("authorize", 4900), ("capture", 900), ("void", 4000), ("refund", 300), ("reverse", 600)];
    assert_eq!(ledger, expected.map(|(kind, amount)| (kind.to_owned(), amount)));
    let (_, movements) = stage.control("GET", "/ledger", Value::Null).await;
    assert!(movements.as_array().unwrap().iter().all(|m| m["reference"] == "k"), "{movements}");
    let lost = json!({ "merchantAccount": "StageShop", "reference": "z" });
    let unknown = stage.adyen(MAIN, "/payments/NONE/cancels", Some("z"), lost).await;
    assert_eq!((unknown.0, &unknown.2["errorCode"]), (422, &json!("167")));
    assert_eq!(change("captures", "c2", None).await.1["errorCode"], "137");
}

#[tokio::test]
async fn a_hold_is_cancelled_by_its_number_or_by_our_reference() {
    let stage = Stage::start().await;
    for (n, by_reference) in [false, true].into_iter().enumerate() {
        let mut body = card(&format!("c{n}"));
        body["additionalData"] = json!({ "manualCapture": "true" });
        let key = format!("k{n}");
        let psp = pay(&stage, &key, body).await.1["pspReference"].as_str().unwrap().to_owned();
        let mut ask = json!({ "merchantAccount": "StageShop", "reference": format!("v{n}") });
        let path = if by_reference {
            ask["paymentReference"] = format!("ref-c{n}").into();
            "/cancels".to_owned()
        } else {
            format!("/payments/{psp}/cancels")
        };
        assert_eq!(stage.adyen(MAIN, &path, Some(&format!("v{n}")), ask).await.0, 201);
        let told = item(&stage.hook.wait(2 * n + 2).await[2 * n + 1]);
        let event = if by_reference { "TECHNICAL_CANCEL" } else { "CANCELLATION" };
        assert_eq!((&told["eventCode"], &told["success"]), (&json!(event), &json!("true")));
    }
    let kinds: Vec<String> = stage.ledger(MAIN).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["authorize", "void", "authorize", "void"]);
}

#[tokio::test]
async fn a_challenge_is_decided_when_the_merchant_brings_its_result() {
    let stage = Stage::start().await;
    for (act, result, charges) in [("pay", "Authorised", 1), ("fail", "Refused", 1)] {
        let mut body = token("M5");
        body["authenticationData"] = json!({ "attemptAuthentication": "always" });
        let (_, shown) = pay(&stage, act, body).await;
        assert_eq!(shown["resultCode"], "RedirectShopper");
        let url = shown["action"]["url"].as_str().unwrap();
        assert_eq!(stage.client.get(url).send().await.unwrap().status(), 200);
        let acting = json!({ "account": MAIN, "op_id": act, "act": act });
        let (status, acted) = stage.act(acting).await;
        assert_eq!(status, 200, "{acted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(stage.ledger(MAIN).await.len(), charges - usize::from(act == "pay"));
        let details = json!({ "details": { "redirectResult": acted["redirect_result"] } });
        let key = format!("{act}-back");
        let back = stage.adyen(MAIN, "/payments/details", Some(&key), details).await;
        assert_eq!((back.0, &back.2["resultCode"]), (200, &json!(result)));
        assert_eq!(back.2["pspReference"], shown["pspReference"]);
        assert_eq!(stage.ledger(MAIN).await.len(), charges);
    }
    let strange = json!({ "details": { "redirectResult": "eA==" } });
    let refused = stage.adyen(MAIN, "/payments/details", Some("d"), strange).await;
    assert_eq!((refused.0, &refused.2["errorCode"]), (422, &json!("14_006")));
    let mut bare = token("M5_not_enrolled");
    bare["authenticationData"] = json!({ "attemptAuthentication": "always" });
    assert_eq!(pay(&stage, "bare", bare).await.1["resultCode"], "Authorised");
}

#[tokio::test]
async fn a_card_without_a_cryptogram_is_charged_when_its_challenge_is_brought_back() {
    let stage = Stage::start().await;
    let bare = |number: &str| {
        let method = json!({
            "type": "scheme", "number": number, "expiryMonth": "12", "expiryYear": "2099",
        });
        let mut body = payment(number, method);
        body["authenticationData"] = json!({ "attemptAuthentication": "always" });
        body
    };
    let cases = [("4900000000001111", "Authorised", 1), ("4900000000000059", "Refused", 1)];
    for (number, result, charges) in cases {
        let (_, shown) = pay(&stage, number, bare(number)).await;
        assert_eq!(shown["resultCode"], "RedirectShopper");
        let acting = json!({ "account": MAIN, "op_id": number, "act": "pay" });
        let (_, acted) = stage.act(acting).await;
        let details = json!({ "details": { "redirectResult": acted["redirect_result"] } });
        let key = format!("{number}-back");
        let back = stage.adyen(MAIN, "/payments/details", Some(&key), details).await;
        assert_eq!(back.2["resultCode"], result);
        assert_eq!(stage.ledger(MAIN).await.len(), charges);
    }
    let (_, paid) = pay(&stage, "bare", bare("4900000000009990")).await;
    assert_eq!(paid["resultCode"], "Authorised", "it is not enrolled");
}

#[tokio::test]
async fn what_is_told_later_is_told_by_a_notification() {
    let stage = Stage::with_all("", "", "decide_ms = 0").await;
    assert_eq!(pay(&stage, "k1", token("M5_pending")).await.1["resultCode"], "Pending");
    stage.act(json!({ "account": MAIN, "op_id": "k1", "act": "pay" })).await;
    let broken = pay(&stage, "k2", token("M5_error")).await.1;
    assert_eq!(
        (&broken["resultCode"], &broken["refusalReasonCode"]),
        (&json!("Error"), &json!("4"))
    );
    let told: Vec<Value> = stage.hook.wait(2).await.iter().map(item).collect();
    let said = |n: usize| (told[n]["merchantReference"].clone(), told[n]["success"].clone());
    assert!(told.iter().all(|item| item["eventCode"] == "AUTHORISATION"));
    assert_eq!([said(0).1, said(1).1], ["true", "false"]);
    assert_eq!(stage.ledger(MAIN).await.len(), 1);
}

#[tokio::test]
async fn each_fault_does_to_money_what_it_says() {
    let stage = Stage::start().await;
    let fault = |fault: &str| json!({ "account": MAIN, "operation": "authorize", "fault": fault });
    for (name, answered, moved) in [
        ("error_before", 500, false),
        ("rate_limited", 429, false),
        ("error_after", 500, true),
        ("garbage", 200, true),
        ("bad_signature", 200, true),
    ] {
        let before = stage.ledger(MAIN).await.len();
        stage.fault(fault(name)).await;
        let (status, headers, body) = stage.adyen(MAIN, "/payments", Some(name), card(name)).await;
        assert_eq!(status, answered, "{name}");
        assert!(headers.get("transient-error").is_none(), "{name}");
        assert!(status == 429 || body.is_string(), "not JSON: {body}");
        assert_eq!(stage.ledger(MAIN).await.len() - before, usize::from(moved), "{name}");
        stage.lift_all().await;
        // The same request again: the one result, executed once.
        let again = pay(&stage, name, card(name)).await;
        assert_eq!((again.0, &again.1["resultCode"]), (200, &json!("Authorised")), "{name}");
        assert_eq!(stage.ledger(MAIN).await.len() - before, 1, "{name}");
    }
    for (name, code) in [("decline_soft", "2"), ("decline_hard", "20")] {
        stage.fault(fault(name)).await;
        assert_eq!(pay(&stage, name, card(name)).await.1["refusalReasonCode"], code);
        stage.lift_all().await;
    }
    let before = stage.ledger(MAIN).await.len();
    for (name, moved) in [("reset_after_read", 0), ("charge_then_drop", 1)] {
        stage.fault(fault(name)).await;
        let stream = stage.raw(MAIN, &raw(name, &card(name))).await;
        assert_eq!(outcome(stream).await, (vec![], true), "{name}");
        assert_eq!(stage.ledger(MAIN).await.len() - before, moved, "{name}");
        stage.lift_all().await;
    }
    stage
        .fault(json!({
            "account": MAIN, "operation": "authorize", "fault": "slow", "ms": 300,
        }))
        .await;
    let begun = Instant::now();
    let slow = stage.raw(MAIN, &raw("slow", &card("slow"))).await;
    while stage.ledger(MAIN).await.len() == before + 1 {
        assert!(begun.elapsed() < Duration::from_millis(290), "it waited with the money");
    }
    stage.lift_all().await;
    assert_eq!(pay(&stage, "slow", card("slow")).await.1["errorCode"], "704");
    drop(slow);
}

#[tokio::test]
async fn a_notification_is_signed_over_its_fields_and_comes_until_it_is_accepted() {
    let stage = Stage::start().await;
    stage.hook.refuse(2);
    pay(&stage, "k", card("c")).await;
    let arrived = stage.hook.wait(3).await;
    assert!(arrived.iter().all(|a| a.body == arrived[0].body && is_sealed(a)));
    let told = item(&arrived[0]);
    assert_eq!(told["merchantReference"], "ref-c");
    assert_eq!(told["amount"], json!({ "currency": "EUR", "value": 4900 }));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.hook.arrived().len(), 3, "accepted is accepted");

    stage.fault(json!({ "account": MAIN, "operation": "notify", "fault": "bad_signature" })).await;
    pay(&stage, "k2", card("d")).await;
    assert!(!is_sealed(&stage.hook.wait(4).await[3]));
}

#[tokio::test]
async fn no_secret_reaches_the_request_log() {
    let stage = Stage::start().await;
    pay(&stage, "k", card("cryptogram-x")).await;
    let (_, requests) = stage.control("GET", "/requests", Value::Null).await;
    assert_eq!((&requests[0]["call"], &requests[0]["op_id"]), (&json!("payments"), &json!("k")));
    assert_eq!(
        (&requests[0]["operation"], &requests[0]["answered"]),
        (&json!("authorize"), &json!(200))
    );
    let text = requests.to_string();
    for secret in ["cryptogram-x", "4900000000001111", "AQE_stage", HMAC_KEY] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

async fn pay(stage: &Stage, key: &str, body: Value) -> (u16, Value) {
    let (status, _, answer) = stage.adyen(MAIN, "/payments", Some(key), body).await;
    (status, answer)
}

fn payment(reference: &str, method: Value) -> Value {
    json!({
        "merchantAccount": "StageShop", "amount": { "currency": "EUR", "value": 4900 },
        "reference": reference, "returnUrl": "https://shop.example/", "paymentMethod": method,
        "shopperReference": "shopper-1", "captureDelayHours": 0,
    })
}

fn card(cryptogram: &str) -> Value {
    let method = json!({
        "type": "scheme", "number": "4900000000001111", "expiryMonth": "12", "expiryYear": "2099",
        "brand": "applepay",
    });
    let mut body = payment(&format!("ref-{cryptogram}"), method);
    body["mpiData"] = json!({
        "cavv": cryptogram, "eci": "05", "authenticationResponse": "Y", "directoryResponse": "Y",
    });
    body
}

fn token(stored: &str) -> Value {
    payment(stored, json!({ "type": "scheme", "storedPaymentMethodId": stored }))
}

fn raw(key: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST /v72/payments HTTP/1.1\r\nhost: x\r\nx-api-key: AQE_stage\r\n\
         idempotency-key: {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn item(arrived: &Arrived) -> Value {
    let body: Value = serde_json::from_str(&arrived.body).unwrap();
    body["notificationItems"][0]["NotificationRequestItem"].clone()
}

fn is_sealed(arrived: &Arrived) -> bool {
    let item = item(arrived);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let content = [
        text(&item["pspReference"]),
        text(&item["originalReference"]),
        text(&item["merchantAccountCode"]),
        text(&item["merchantReference"]),
        item["amount"]["value"].to_string(),
        text(&item["amount"]["currency"]),
        text(&item["eventCode"]),
        text(&item["success"]),
    ]
    .join(":");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &hex::decode(HMAC_KEY).unwrap());
    let signature = BASE64.decode(text(&item["additionalData"]["hmacSignature"])).unwrap();
    hmac::verify(&key, content.as_bytes(), &signature).is_ok()
}
