//! What must hold over every operation: no certainty out of noise, and no credential anywhere.

use adyen::State;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    Credential, Cx, Event, FaultKind, Operation, Provider, Request, TransportLoss, What,
};
use serde_json::{Value, json};

use crate::{CRYPTOGRAM, NUMBER, STORED, authorised, card, challenging, moves, payment, plain};
use crate::{refused, stored, told};

#[test]
fn noise_never_becomes_a_definite_fact_at_any_status() {
    let garbage: [&[u8]; 9] = [
        b"",
        b" ",
        b"null",
        b"true",
        b"<html>502</html>",
        b"\xff\xfe{",
        b"{\"resultCode\":\"Refused\"",
        br#"["QFQTPCQ8HXSKGK82","Refused","2"]"#,
        br#"{"resultCode":"Refused","refusalReasonCode":"2","merchantReference":"x"}"#,
    ];
    for (op, r) in moves() {
        for status in 100..600u16 {
            for transient in [None, Some("true")] {
                for body in garbage {
                    let what = told(op, r.clone(), status, transient, body).what;
                    // Refused by the provider's own words, but no proof: see the manifest.
                    let expected = if status == 429 { What::Declined } else { What::Unknown };
                    assert_eq!(what, expected, "{op:?} {status}");
                }
            }
        }
    }
}

#[test]
fn a_result_under_a_failing_status_is_never_believed() {
    let accepted = json!({ "status": "received", "pspReference": "JN7K4XTH25XXGN82" });
    for (op, r) in moves() {
        for status in (100..600u16).filter(|s| !matches!(s, 200 | 201 | 429)) {
            for body in [authorised(), refused("2"), accepted.clone()] {
                let fact = told(op, r.clone(), status, None, body.to_string().as_bytes());
                assert_eq!(fact.what, What::Unknown, "{op:?} {status}");
            }
        }
    }
}

#[test]
fn every_cut_of_a_good_answer_is_unknown() {
    let body = authorised().to_string();
    let read = |bytes: &[u8]| told(Operation::Authorize, payment(), 200, None, bytes).what;
    for cut in 0..body.len() {
        assert_eq!(read(&body.as_bytes()[..cut]), What::Unknown);
    }
    assert_eq!(read(body.as_bytes()), What::Captured);
}

#[test]
fn silence_is_unknown_however_it_came_about() {
    for (op, r) in moves() {
        for loss in [TransportLoss::NotSent, TransportLoss::MaybeSent] {
            let (plugin, host) = (plain(), TestHost::default());
            let mut drive = Drive::new(&plugin, &host, op, r.clone());
            drive.start().unwrap().sent();
            assert_eq!(drive.lost(loss).unwrap().done().facts[0].what, What::Unknown);
        }
    }
}

#[test]
fn an_event_out_of_turn_is_a_fault() {
    for (op, r) in moves() {
        let (plugin, host) = (plain(), TestHost::default());
        let mut drive = Drive::new(&plugin, &host, op, r);
        drive.start().unwrap().sent();
        let fault = drive.step(Event::Notification { headers: vec![] }, b"{}").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input);
    }
}

/// A provider that echoes the credential into every field that we read.
#[test]
fn a_credential_is_in_no_fault_or_fact() {
    let redirect = json!({
        "resultCode": "RedirectShopper", "action": { "type": "redirect", "url": "https://a" },
    });
    let native = json!({ "resultCode": "IdentifyShopper", "action": { "type": "threeDS2" } });
    let bare = Request { credential: Some(card()), ..payment() };
    for (r, canaries) in
        [(payment(), [NUMBER, CRYPTOGRAM]), (stored(), [STORED, STORED]), (bare, [NUMBER, NUMBER])]
    {
        for canary in canaries {
            for body in [authorised(), refused("2"), redirect.clone(), native.clone()] {
                for field in
                    ["resultCode", "refusalReasonCode", "pspReference", "merchantReference"]
                {
                    let mut echo = body.clone();
                    echo[field] = canary.into();
                    clean(&r, &echo, canary);
                }
                let mut echo = body.clone();
                echo["amount"] = json!({ "currency": canary, "value": 4900 });
                clean(&r, &echo, canary);
                for member in ["url", "data", "token", "paymentData"] {
                    let mut echo = body.clone();
                    if echo["action"].is_object() {
                        echo["action"][member] = json!(format!("https://x/{canary}"));
                        echo["action"]["method"] = json!("POST");
                        clean(&r, &echo, canary);
                    }
                }
            }
            clean(&r, &json!({ "errorCode": canary }), canary);
        }
    }
    let debug = format!("{:?}", payment());
    assert!(!debug.contains(NUMBER) && !debug.contains(CRYPTOGRAM));
}

#[test]
fn what_is_journalled_between_two_steps_holds_no_credential() {
    let (plugin, host) = (challenging(), TestHost::default());
    let cx = Cx { now_ms: 0, made_ms: 0, entropy: "", body: b"", notify_url: None, host: &host };
    let blob =
        Credential::EncryptedWalletToken { wallet: "google_pay".into(), token: json!(CRYPTOGRAM) };
    let by = |credential| Request { credential: Some(credential), ..payment() };
    for r in [payment(), stored(), by(card()), by(blob)] {
        let step = plugin.authorize(&cx, &r, State::default(), &Event::Start).unwrap();
        let journalled = serde_json::to_string(&(&step.next, &step.state)).unwrap();
        for canary in [NUMBER, CRYPTOGRAM, STORED] {
            assert!(!journalled.contains(canary), "{journalled}");
        }
    }
}

fn clean(r: &Request, body: &Value, canary: &str) {
    for status in [200, 201, 422, 500, 503] {
        let fact = told(Operation::Authorize, r.clone(), status, None, body.to_string().as_bytes());
        let seen = serde_json::to_string(&fact).unwrap();
        assert!(!seen.contains(canary), "{seen}");
    }
}
