//! Notifications: nothing counts without its signature, and what counts is read by its event.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Done, Event, Fact, FaultKind, Host, Operation, Scope, What};
use serde_json::{Value, json};

use crate::{OP, PSP, account, code, payment, plain, with, without};

/// The key as the provider shows it, in hexadecimal; the signature is made with its bytes.
const KEY: &str = "5B7C1F2E8A90D3461122334455667788AABBCCDDEEFF00998877665544332211";
const CHANGE: &str = "JN7K4XTH25XXGN82";

#[test]
fn an_authorization_says_by_our_reference_when_its_money_is_taken() {
    for (tag, what) in [("auto", What::Captured), ("manual", What::Authorized)] {
        let item = with(authorisation("true"), "merchantReference", json!(format!("{OP}-{tag}")));
        let fact = only(&item);
        assert_eq!((fact.what, fact.scope), (what, Scope::Key), "{tag}");
        assert_eq!(fact.op_id.as_deref(), Some(OP));
        assert_eq!(fact.provider_ref.as_deref(), Some(PSP));
        assert_eq!((fact.operation_ref.as_deref(), fact.amount), (None, Some(payment().amount)));
    }
    let refused = only(&authorisation("false"));
    assert_eq!(code(&refused), (What::Declined, Some("AUTHORISATION:false")));
    assert_eq!((refused.scope, refused.op_id.as_deref()), (Scope::Key, Some(OP)));
}

#[test]
fn each_change_has_its_meaning() {
    let cases = [
        ("CAPTURE", "true", What::Captured),
        ("CAPTURE", "false", What::Failed),
        ("CAPTURE_FAILED", "true", What::Failed),
        ("REFUND", "true", What::Refunded),
        ("REFUND", "false", What::Failed),
        ("REFUND_FAILED", "true", What::Failed),
        ("REFUNDED_REVERSED", "true", What::Failed),
        ("CANCEL_OR_REFUND", "true", What::Refunded),
        ("CANCEL_OR_REFUND", "false", What::Failed),
        ("CANCELLATION", "true", What::Voided),
        ("CANCELLATION", "false", What::Declined),
        ("TECHNICAL_CANCEL", "true", What::Voided),
    ];
    for (event, success, what) in cases {
        let fact = only(&change(event, success));
        assert_eq!((fact.what, fact.scope), (what, Scope::Key), "{event} {success}");
        assert_eq!(fact.operation_ref.as_deref(), Some(CHANGE));
        assert_eq!(fact.op_id.as_deref(), Some("opLater0001"));
        assert_eq!(fact.provider_ref.as_deref(), Some(PSP));
        // What gives all of it back may say nothing of the amount.
        let counts = matches!(what, What::Captured | What::Refunded) && event != "CANCEL_OR_REFUND";
        assert_eq!(fact.amount.is_some(), counts, "{event}");
    }
}

#[test]
fn a_success_without_an_amount_is_believed_only_where_none_is_needed() {
    let bare = |event: &str| {
        let none = json!({ "currency": "EUR", "value": 0 });
        only(&with(change(event, "true"), "amount", none)).what
    };
    assert_eq!((bare("CAPTURE"), bare("REFUND")), (What::Unknown, What::Unknown));
    assert_eq!((bare("CANCEL_OR_REFUND"), bare("CANCELLATION")), (What::Refunded, What::Voided));
}

#[test]
fn other_events_say_nothing_and_are_acknowledged() {
    for event in ["REPORT_AVAILABLE", "CHARGEBACK", "TELEPORTED", ""] {
        let done = signed(&[change(event, "true")]);
        assert!(done.verified && done.facts.is_empty(), "{event}");
    }
    assert!(signed(&[change("TECHNICAL_CANCEL", "false")]).facts.is_empty());
    let report = with(change("REPORT_AVAILABLE", "true"), "pspReference", json!("batch_2.csv"));
    assert!(signed(&[report]).verified);
}

#[test]
fn it_is_acknowledged_with_the_word_that_the_provider_wants() {
    let done = signed(&[authorisation("true")]);
    let ack = done.ack.unwrap();
    assert_eq!((ack.status, &*ack.content_type, &*ack.body), (200, "text/plain", "[accepted]"));
    assert_eq!(done.event_id.unwrap(), format!("{PSP}:AUTHORISATION:true"));
}

#[test]
fn several_items_of_one_body_are_all_read() {
    let done = signed(&[authorisation("true"), change("REFUND", "true"), change("OTHER", "true")]);
    let whats: Vec<What> = done.facts.iter().map(|fact| fact.what).collect();
    assert_eq!(whats, [What::Captured, What::Refunded]);
    let id = done.event_id.unwrap();
    assert_eq!(id, format!("{PSP}:AUTHORISATION:true,{CHANGE}:REFUND:true,{CHANGE}:OTHER:true"));
}

#[test]
fn one_item_that_is_not_signed_spoils_all_of_it() {
    let good = sealed(authorisation("true"));
    let forged = with(sealed(change("REFUND", "true")), "merchantReference", json!("opOther"));
    let unsigned = change("REFUND", "true");
    for bad in [forged, unsigned] {
        for items in [vec![good.clone(), bad.clone()], vec![bad, good.clone()]] {
            refused(&heard(&body(&items)));
        }
    }
}

#[test]
fn each_signed_field_is_covered() {
    let item = sealed(change("REFUND", "true"));
    for (field, value) in [
        ("pspReference", json!("AAAAAAAAAAAAAAAA")),
        ("originalReference", json!("BBBBBBBBBBBBBBBB")),
        ("merchantAccountCode", json!("OtherShop")),
        ("merchantReference", json!("opLater0002")),
        ("amount", json!({ "currency": "EUR", "value": 1 })),
        ("amount", json!({ "currency": "USD", "value": 4900 })),
        ("eventCode", json!("CAPTURE")),
        ("success", json!("false")),
    ] {
        refused(&heard(&body(&[with(item.clone(), field, value)])));
    }
}

#[test]
fn what_is_not_signed_decides_nothing() {
    let item = sealed(authorisation("false"));
    let plain = heard(&body(std::slice::from_ref(&item)));
    for (field, value) in [
        ("reason", json!("APPROVED")),
        ("paymentMethod", json!("visa")),
        ("eventDate", json!("1999-01-01T00:00:00+01:00")),
        ("operations", json!(["CAPTURE"])),
    ] {
        let other = heard(&body(&[with(item.clone(), field, value)]));
        assert_eq!(other.facts, plain.facts, "{field}");
    }
}

#[test]
fn a_field_that_could_be_cut_elsewhere_says_nothing() {
    // The same content is signed for another cut of the fields, so neither is believed.
    let mut whole = authorisation("true");
    whole["merchantReference"] = json!("a:b");
    let signature = sealed(whole.clone())["additionalData"].clone();
    let mut moved = whole.clone();
    moved["merchantAccountCode"] = json!("ShopEU");
    moved["merchantReference"] = json!("a:b");
    moved["additionalData"] = signature;
    let done = heard(&body(&[moved]));
    assert!(done.verified && done.facts.is_empty());
    for field in ["pspReference", "originalReference", "eventCode"] {
        let done = signed(&[with(authorisation("true"), field, json!("A:B"))]);
        assert!(done.facts.is_empty(), "{field}");
    }
}

#[test]
fn a_number_that_is_not_ours_is_not_passed_on_as_ours() {
    for reference in ["invoice 7", OP, "op-1-auto", "-auto", ""] {
        let item = with(authorisation("true"), "merchantReference", json!(reference));
        let fact = only(&item);
        assert_eq!(fact.what, What::Unknown, "nobody knows when it is captured: {reference}");
        assert_eq!(fact.op_id, None, "{reference}");
        assert_eq!(fact.provider_ref.as_deref(), Some(PSP));
    }
    let fact = only(&with(change("REFUND", "true"), "merchantReference", json!("for Ann")));
    assert_eq!((fact.op_id, fact.operation_ref.as_deref()), (None, Some(CHANGE)));
}

#[test]
fn an_item_for_another_account_is_refused() {
    refused(&signed(&[with(authorisation("true"), "merchantAccountCode", json!("ShopUS"))]));
    let other = account(json!({ "merchant_account": "ShopUS" }));
    let host = host();
    let mut drive = Drive::new(&other, &host, Operation::ParseNotification, payment());
    let done = drive.notified(&[], &body(&[sealed(authorisation("true"))])).unwrap().done();
    refused(&done);
}

#[test]
fn a_body_of_another_form_is_refused() {
    let item = sealed(authorisation("true"));
    let mut bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"{\"notificationItems\":[]}".to_vec(),
        json!({ "notificationItems": [item] }).to_string().into_bytes(),
        json!({ "notificationItems": item }).to_string().into_bytes(),
        body(&vec![item.clone(); 65]),
    ];
    for (field, value) in [
        ("success", json!("yes")),
        ("success", Value::Null),
        ("amount", json!({ "currency": "EUR", "value": "4900" })),
        ("amount", json!({ "currency": "EUR", "value": 49.5 })),
        ("merchantReference", json!(7)),
        ("additionalData", json!({ "hmacSignature": "not base64!" })),
        ("additionalData", json!({ "hmacSignature": "" })),
        ("additionalData", Value::Null),
    ] {
        bodies.push(body(&[with(item.clone(), field, value)]));
    }
    bodies.push(body(&[without(item, "amount")]));
    for body in bodies {
        refused(&heard(&body));
    }
}

#[test]
fn every_bit_of_the_signature_counts() {
    let item = sealed(authorisation("true"));
    let text = item["additionalData"]["hmacSignature"].as_str().unwrap().to_owned();
    let raw = decoded(&text);
    for at in 0..raw.len() {
        let mut tampered = raw.clone();
        tampered[at] ^= 1;
        let seal = json!({ "hmacSignature": encoded(&tampered) });
        refused(&heard(&body(&[with(item.clone(), "additionalData", seal)])));
    }
    let short = json!({ "hmacSignature": encoded(&raw[..31]) });
    refused(&heard(&body(&[with(item.clone(), "additionalData", short)])));
    let host = TestHost::default().with_mac("hmac_key", b"another key");
    let plugin = plain();
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    refused(&drive.notified(&[], &body(&[item])).unwrap().done());
}

/// The vector was made with `openssl dgst -sha256 -mac HMAC -macopt hexkey:...` over the content.
#[test]
fn a_signature_that_another_program_made_is_verified() {
    let mut item = authorisation("true");
    item["additionalData"] =
        json!({ "hmacSignature": "W3KLInJnxNJTZWrqLptZzeOytOY+C4E3A6YkPBJRZDE=" });
    let done = heard(&body(&[item]));
    assert!(done.verified);
    assert_eq!(done.facts[0].what, What::Captured);
}

/// The provider's published sample, where the vectors are at hand.
#[test]
fn the_providers_own_sample_is_verified() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/vectors/simple_vectors.json");
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let sample = &vectors["adyen_notification_hmac"];
    let parts: Vec<&str> = sample["data"].as_str().unwrap().split(':').collect();
    let [psp, original, merchant, reference, value, currency, event, success] = parts[..] else {
        unreachable!("eight fields are signed: {parts:?}")
    };
    let item = json!({
        "pspReference": psp, "originalReference": original, "merchantAccountCode": merchant,
        "merchantReference": reference, "eventCode": event, "success": success,
        "amount": { "value": value.parse::<i64>().unwrap(), "currency": currency },
        "additionalData": { "hmacSignature": sample["signature_b64"] },
    });
    let key = hex::decode(sample["key_hex"].as_str().unwrap()).unwrap();
    let host = TestHost::default().with_mac("hmac_key", &key);
    let plugin = account(json!({ "merchant_account": merchant }));
    let read = |item: Value| {
        let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
        drive.notified(&[], &body(&[item])).unwrap().done()
    };
    assert!(read(item.clone()).verified);
    refused(&read(with(item, "amount", json!({ "value": 1, "currency": currency }))));
}

#[test]
fn without_a_key_or_a_notice_there_is_a_fault_and_no_fact() {
    let (plugin, bare) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &bare, Operation::ParseNotification, payment());
    let fault = drive.notified(&[], &body(&[sealed(authorisation("true"))])).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
    let host = host();
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    assert_eq!(drive.step(Event::Start, b"").unwrap_err().kind, FaultKind::Input);
}

fn host() -> TestHost {
    TestHost::default().with_mac("hmac_key", &hex::decode(KEY).unwrap())
}

fn authorisation(success: &str) -> Value {
    json!({
        "amount": { "currency": "EUR", "value": 4900 }, "eventCode": "AUTHORISATION",
        "eventDate": "2025-01-01T00:00:00+01:00", "merchantAccountCode": "ShopEU",
        "merchantReference": format!("{OP}-auto"), "operations": ["CANCEL", "REFUND"],
        "paymentMethod": "mc", "pspReference": PSP, "reason": "x", "success": success,
    })
}

fn change(event: &str, success: &str) -> Value {
    let mut item = authorisation(success);
    item["eventCode"] = event.into();
    item["pspReference"] = CHANGE.into();
    item["originalReference"] = PSP.into();
    item["merchantReference"] = "opLater0001".into();
    item
}

/// Signs an item as the provider does, apart from the plugin's own words for it.
fn sealed(mut item: Value) -> Value {
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
    let mac = host().mac("hmac_key", content.as_bytes()).unwrap();
    item["additionalData"] = json!({ "hmacSignature": encoded(&mac) });
    item
}

fn body(items: &[Value]) -> Vec<u8> {
    let wrapped: Vec<Value> =
        items.iter().map(|item| json!({ "NotificationRequestItem": item })).collect();
    json!({ "live": "false", "notificationItems": wrapped }).to_string().into_bytes()
}

fn heard(body: &[u8]) -> Done {
    let (plugin, host) = (plain(), host());
    let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
    drive.notified(&[], body).unwrap().done()
}

fn signed(items: &[Value]) -> Done {
    let items: Vec<Value> = items.iter().cloned().map(sealed).collect();
    heard(&body(&items))
}

fn refused(done: &Done) {
    assert!(!done.verified && done.facts.is_empty() && done.event_id.is_none(), "{done:?}");
    assert_eq!(done.ack.as_ref().unwrap().status, 401);
}

fn only(item: &Value) -> Fact {
    let done = signed(std::slice::from_ref(item));
    assert!(done.verified);
    assert_eq!(done.facts.len(), 1);
    done.facts.into_iter().next().unwrap()
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
