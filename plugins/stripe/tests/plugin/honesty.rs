//! What must hold over every operation: no certainty out of noise, and no credential anywhere.

use interlock_plugin_api::testkit::{Drive, TestHost, Wanted};
use interlock_plugin_api::{
    Credential, Cx, Event, FaultKind, Operation, Provider, Request, TransportLoss, What,
};
use serde_json::json;
use stripe::State;

use crate::{
    CRYPTOGRAM, INTENT, NUMBER, STORED, TOKEN, by, intent, network_token, open, operations,
    payment, plain, refund, refused,
};

#[test]
fn noise_never_becomes_a_definite_fact_at_any_status() {
    let garbage: [&[u8]; 9] = [
        b"",
        b" ",
        b"null",
        b"true",
        b"<html>502</html>",
        b"\xff\xfe{",
        b"{\"status\":\"canceled\"",
        br#"["pi_1","canceled",false]"#,
        br#"{"status":"requires_payment_method","last_payment_error":{"code":"card_declined"}}"#,
    ];
    for (op, r) in operations() {
        for status in 100..600u16 {
            for body in garbage {
                let what = first_fact(op, &r, status, body);
                assert_eq!(what, What::Unknown, "{op:?} {status} {body:?}");
            }
        }
    }
}

#[test]
fn a_result_under_a_failing_status_is_never_believed() {
    let bodies = [intent("succeeded"), intent("canceled"), refund("succeeded")];
    for (op, r) in operations() {
        for status in (100..600u16).filter(|status| *status != 200) {
            for body in &bodies {
                let what = first_fact(op, &r, status, body.to_string().as_bytes());
                assert_eq!(what, What::Unknown, "{op:?} {status}");
            }
        }
    }
}

#[test]
fn a_refusal_without_its_own_status_is_never_believed() {
    let body = refused("card_declined", Some("do_not_honor")).to_string();
    for (op, r) in operations() {
        for status in (100..600u16).filter(|status| *status != 402) {
            let what = first_fact(op, &r, status, body.as_bytes());
            assert_eq!(what, What::Unknown, "{op:?} {status}");
        }
    }
}

#[test]
fn every_cut_of_a_good_answer_is_unknown() {
    let body = intent("succeeded").to_string();
    let paid = |bytes: &[u8]| first_fact(Operation::Authorize, &payment(), 200, bytes);
    for cut in 0..body.len() {
        assert_eq!(paid(&body.as_bytes()[..cut]), What::Unknown);
    }
    assert_eq!(paid(body.as_bytes()), What::Captured);
}

#[test]
fn silence_is_unknown_however_it_came_about() {
    for (op, r) in operations() {
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
    for (op, r) in operations() {
        let (plugin, host) = (plain(), TestHost::default());
        let mut drive = Drive::new(&plugin, &host, op, r.clone());
        drive.start().unwrap().sent();
        let fault = drive.step(Event::Notification { headers: vec![] }, b"{}").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input);
        let fault = Drive::new(&plugin, &host, op, r).answer(200, b"{}").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input, "{op:?}");
    }
}

/// A provider that echoes the credential into every field that we read.
#[test]
fn a_credential_is_in_no_fault_or_fact() {
    for status in ["succeeded", "requires_payment_method", "canceled", "requires_action"] {
        let mut echo = intent(status);
        let fields: Vec<String> = echo.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let kept = echo[&field].take();
            for canary in [NUMBER, CRYPTOGRAM, STORED, TOKEN] {
                echo[&field] = canary.into();
                for http in [200, 400, 402, 500] {
                    clean(payment(), http, &echo.to_string());
                    clean(payment(), http, &json!({ "error": echo }).to_string());
                }
            }
            echo[&field] = kept;
        }
    }
    for canary in [NUMBER, CRYPTOGRAM, STORED, TOKEN] {
        for body in [refused(canary, None), refused("card_declined", Some(canary))] {
            clean(payment(), 402, &body.to_string());
        }
    }
    let debug = format!("{:?}", by(network_token("apple_pay")));
    assert!(!debug.contains(NUMBER) && !debug.contains(CRYPTOGRAM));
}

#[test]
fn what_is_journalled_between_two_steps_holds_no_credential() {
    let (plugin, host) = (open(), TestHost::default());
    let cx = Cx { now_ms: 0, made_ms: 0, entropy: "", body: b"", notify_url: None, host: &host };
    let wallet = |wallet: &str| Credential::EncryptedWalletToken {
        wallet: wallet.into(),
        token: json!({ "id": TOKEN, "data": CRYPTOGRAM }),
    };
    let stored = Credential::AccountToken { token: STORED.into() };
    for form in [stored, wallet("apple_pay"), wallet("google_pay"), network_token("apple_pay")] {
        let step = plugin.authorize(&cx, &by(form), State::default(), &Event::Start).unwrap();
        let journalled = serde_json::to_string(&(&step.next, &step.state)).unwrap();
        for canary in [NUMBER, CRYPTOGRAM, STORED, TOKEN] {
            assert!(!journalled.contains(canary), "{journalled}");
        }
    }
    // Nor is the token that the provider made of it.
    let told = json!({ "id": TOKEN, "object": "token" }).to_string();
    let answered = Event::Response { status: 200, headers: vec![] };
    let cx = Cx { body: told.as_bytes(), ..cx };
    let r = by(network_token("apple_pay"));
    let step = plugin.authorize(&cx, &r, State::Token, &answered).unwrap();
    let journalled = serde_json::to_string(&(&step.next, &step.state)).unwrap();
    assert!(!journalled.contains(TOKEN) && !journalled.contains(INTENT), "{journalled}");
    assert!(String::from_utf8(step.body).unwrap().contains(TOKEN));
}

fn clean(r: Request, status: u16, body: &str) {
    let (plugin, host) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::Authorize, r);
    drive.start().unwrap().sent();
    let seen = format!("{:?}", drive.answer(status, body.as_bytes()));
    for canary in [NUMBER, CRYPTOGRAM, STORED, TOKEN] {
        assert!(!seen.contains(canary), "{seen}");
    }
}

fn first_fact(op: Operation, r: &Request, status: u16, body: &[u8]) -> What {
    let (plugin, host) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, op, r.clone());
    drive.start().unwrap().sent();
    match drive.answer(status, body).unwrap() {
        Wanted::Done(done) => done.facts[0].what,
        Wanted::Send(send, _) => unreachable!("noise was followed up: {send:?}"),
    }
}
