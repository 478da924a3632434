//! What must hold over every operation: no certainty out of noise, and no credential anywhere.

use checkout::State;
use interlock_plugin_api::testkit::{Drive, TestHost, Wanted};
use interlock_plugin_api::{
    Credential, Cx, Event, FaultKind, Operation, Provider, Request, TransportLoss, What,
};

use crate::{CRYPTOGRAM, NUMBER, account, approved, asking, asking_about, card, later, payment};
use crate::{plain, refused};

fn operations() -> [(Operation, Request); 8] {
    [
        (Operation::Authorize, payment()),
        (Operation::Capture, later(100)),
        (Operation::Void, later(100)),
        (Operation::Refund, later(100)),
        (Operation::Inquire, asking(true)),
        (Operation::Inquire, asking(false)),
        (Operation::InquireOperation, asking_about(Operation::Refund, Some("act_1"))),
        (Operation::InquireOperation, asking_about(Operation::Capture, None)),
    ]
}

#[test]
fn noise_never_becomes_a_definite_fact_at_any_status() {
    let garbage: [&[u8]; 9] = [
        b"",
        b" ",
        b"null",
        b"true",
        b"<html>502</html>",
        b"\xff\xfe{",
        b"{\"status\":\"Declined\"",
        br#"["pay_1","Declined",false]"#,
        br#"{"status":"Declined","approved":false,"response_code":"20005"}"#,
    ];
    for (op, r) in operations() {
        for status in 100..600u16 {
            for body in garbage {
                let what = first_fact(op, &r, status, body);
                let moving = !op.reads_only();
                let allowed = match status {
                    // Refused by the provider's own words, but no proof: see the manifest.
                    429 if moving => what == What::Declined,
                    404 if !moving => matches!(what, What::Unknown | What::NotFound),
                    _ => what == What::Unknown,
                };
                assert!(allowed, "{op:?} {status} {:?} {what:?}", String::from_utf8_lossy(body));
            }
        }
    }
}

#[test]
fn a_result_under_a_failing_status_is_never_believed() {
    let bodies = [approved("Captured"), refused("20005"), approved("Voided")];
    for (op, r) in operations() {
        for status in (100..600u16).filter(|s| !matches!(s, 200..=202 | 404 | 429)) {
            for body in &bodies {
                let what = first_fact(op, &r, status, body.to_string().as_bytes());
                assert_eq!(what, What::Unknown, "{op:?} {status}");
            }
        }
    }
}

#[test]
fn every_cut_of_a_good_answer_is_unknown() {
    let body = approved("Captured").to_string();
    for cut in 0..body.len() {
        let what = first_fact(Operation::Authorize, &payment(), 201, &body.as_bytes()[..cut]);
        assert_eq!(what, What::Unknown);
    }
    assert_eq!(first_fact(Operation::Authorize, &payment(), 201, body.as_bytes()), What::Captured);
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
        let mut drive = Drive::new(&plugin, &host, op, r);
        drive.start().unwrap().sent();
        let fault = drive.step(Event::Notification { headers: vec![] }, b"{}").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input);
    }
    for (op, r) in operations().into_iter().filter(|(op, _)| op.reads_only()) {
        let (plugin, host) = (plain(), TestHost::default());
        let fault = Drive::new(&plugin, &host, op, r).answer(200, b"{}").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input);
    }
}

/// A provider that echoes the credential into every field that we read.
#[test]
fn a_credential_is_in_no_fault_or_fact() {
    let mut echo = approved("Authorized");
    for field in ["status", "response_code", "reference", "id", "currency"] {
        let kept = echo[field].take();
        for canary in [NUMBER, CRYPTOGRAM] {
            for approved in [true, false] {
                echo[field] = canary.into();
                echo["approved"] = approved.into();
                for status in [200, 201, 202, 422, 500] {
                    clean(Operation::Authorize, payment(), status, &echo.to_string());
                }
            }
        }
        echo[field] = kept;
    }
    let mut declined = refused(NUMBER);
    declined["actions"] = serde_json::json!([{"type": "Authorization", "response_code": NUMBER}]);
    clean(Operation::Authorize, payment(), 201, &declined.to_string());
    let debug = format!("{:?}", payment());
    assert!(!debug.contains(NUMBER) && !debug.contains(CRYPTOGRAM));
}

#[test]
fn what_is_journalled_between_two_steps_holds_no_credential() {
    let plugin = account(serde_json::json!({ "three_d_secure": true }));
    let host = TestHost::default();
    let cx = Cx { now_ms: 0, made_ms: 0, entropy: "", body: b"", notify_url: None, host: &host };
    let token = Credential::AccountToken { token: TOKEN.into() };
    for form in [payment().credential, Some(card()), Some(token)] {
        let return_url = Some("https://shop.example/back".into());
        let r = Request { credential: form, return_url, ..payment() };
        let step = plugin.authorize(&cx, &r, State::default(), &Event::Start).unwrap();
        let journalled = serde_json::to_string(&(&step.next, &step.state)).unwrap();
        for canary in [NUMBER, CRYPTOGRAM, TOKEN] {
            assert!(!journalled.contains(canary), "{journalled}");
        }
    }
}

const TOKEN: &str = "tok_canary4gzeau5o2uqubbk6fu";

fn clean(op: Operation, r: Request, status: u16, body: &str) {
    let (plugin, host) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, op, r);
    drive.start().unwrap().sent();
    let done = drive.answer(status, body.as_bytes());
    let seen = format!("{done:?}");
    assert!(!seen.contains(CRYPTOGRAM), "{seen}");
    assert!(!seen.contains(NUMBER), "{seen}");
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
