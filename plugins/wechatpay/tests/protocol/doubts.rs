//! What must stay in doubt: answers that were altered, unsigned, late, broken, or that never came.

use interlock_plugin_api::testkit::{Drive, Wanted};
use interlock_plugin_api::{Class, Event, FaultKind, Operation, TransportLoss, What};
use serde_json::json;

use crate::peer::{self, NOW, answered, good, headers, is_definite, operations, signed};

#[test]
fn an_answer_that_was_altered_anywhere_is_not_believed() {
    let (op, request, purpose) = operations().remove(4);
    let (_, body) = good(purpose);
    let theirs = signed(&body);
    assert_eq!(answered(op, request.clone(), 200, &theirs, &body).what, What::Captured);
    for at in 0..body.len() {
        for flip in [1, 0x20, 0x80] {
            let mut bad = body.clone();
            bad[at] ^= flip;
            assert!(!is_definite(&answered(op, request.clone(), 200, &theirs, &bad)), "{at}");
        }
    }
    for cut in 0..body.len() {
        assert!(!is_definite(&answered(op, request.clone(), 200, &theirs, &body[..cut])));
    }
}

#[test]
fn only_a_fresh_signature_of_a_known_key_is_believed_in_any_operation() {
    for (op, request, purpose) in operations() {
        let (status, body) = good(purpose);
        let told = |headers| is_definite(&answered(op, request.clone(), status, &headers, &body));
        assert!(told(signed(&body)), "{purpose}");
        for at in [NOW - 299, NOW + 299] {
            assert!(told(headers("wechatpay", peer::ID, at, &body)), "{purpose} {at}");
        }
        for at in [NOW - 300, NOW + 300, 0, i64::MAX, i64::MIN] {
            assert!(!told(headers("wechatpay", peer::ID, at, &body)), "{purpose} {at}");
        }
        assert!(!told(Vec::new()), "unsigned: {purpose}");
        assert!(!told(headers("stranger", peer::ID, NOW, &body)), "{purpose}");
        assert!(!told(headers("next", peer::ID, NOW, &body)), "{purpose}");
        for serial in ["", "PUB_KEY_ID_9", peer::NEXT_ID, peer::SERIAL, "../x"] {
            assert!(!told(headers("wechatpay", serial, NOW, &body)), "{purpose} {serial}");
        }
        for n in 0..4 {
            let mut missing = signed(&body);
            missing.remove(n);
            assert!(!told(missing), "{purpose} {n}");
            for other in ["", "x", "1764000001", "A"] {
                let mut changed = signed(&body);
                changed[n].1 = other.into();
                assert!(!told(changed), "{purpose} {n} {other}");
            }
        }
    }
}

#[test]
fn a_good_signature_over_nonsense_settles_nothing() {
    for (op, request, purpose) in operations() {
        let (_, good) = good(purpose);
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let bodies: [&[u8]; 12] = [
            b" ",
            b"null",
            b"[]",
            b"{}",
            b"\"\"",
            b"0",
            b"<html>",
            b"\xff\xfe{}",
            b"{\"trade_state\":{}}",
            b"{\"trade_state\":\"SUCCESS\",\"trade_state\":\"CLOSED\"}",
            deep.as_bytes(),
            &good[..good.len().saturating_sub(1)],
        ];
        for body in bodies.iter().filter(|body| !body.is_empty()) {
            for status in [200, 202, 204] {
                let fact = answered(op, request.clone(), status, &signed(body), body);
                assert!(
                    !is_definite(&fact),
                    "{purpose} {status} {}",
                    String::from_utf8_lossy(body)
                );
            }
        }
    }
}

#[test]
fn a_status_that_no_document_gives_settles_nothing() {
    for (op, request, purpose) in operations() {
        let (own, body) = good(purpose);
        let statuses = [100, 200, 201, 202, 203, 204, 206, 299, 301, 302, 304, 400, 403, 404, 500];
        for status in statuses {
            let fact = answered(op, request.clone(), status, &signed(&body), &body);
            let accepted = purpose == "codepay" && status == 202;
            assert_eq!(is_definite(&fact), status == own || accepted, "{purpose} {status}");
        }
    }
}

#[test]
fn a_request_without_an_answer_is_left_to_the_host() {
    let (provider, host) = (peer::provider(), peer::host());
    for (op, request, purpose) in operations() {
        for outcome in [TransportLoss::NotSent, TransportLoss::MaybeSent] {
            let mut drive = Drive::new(&provider, &host, op, request.clone());
            drive.start().unwrap().sent();
            let fact = drive.lost(outcome).unwrap().done().facts.remove(0);
            assert_eq!((fact.what, fact.class), (What::Unknown, Some(Class::ProviderDown)));
            assert!(fact.provider_code.is_some(), "{purpose}");
        }
    }
    let request = peer::later(Operation::Close, "barcode");
    let mut drive = Drive::new(&provider, &host, Operation::Close, request);
    drive.start().unwrap().sent();
    let wanted = peer::answer(&mut drive, 200, signed(b"{}"), b"{}").unwrap();
    assert!(matches!(wanted, Wanted::Send(..)));
    let fact = drive.lost(TransportLoss::NotSent).unwrap().done().facts.remove(0);
    assert_eq!(fact.what, What::Unknown, "the reverse was sent, the query was not");
}

#[test]
fn an_answer_to_nothing_is_a_fault_and_no_fact() {
    let (provider, host) = (peer::provider(), peer::host());
    for (op, request, purpose) in operations() {
        let (status, body) = good(purpose);
        let mut drive = Drive::new(&provider, &host, op, request);
        let fault = peer::answer(&mut drive, status, signed(&body), &body).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input, "{purpose}");
        let event = Event::Notification { headers: Vec::new() };
        assert_eq!(drive.step(event, b"").unwrap_err().kind, FaultKind::Input);
    }
}

#[test]
fn a_later_operation_without_its_payment_is_a_fault() {
    let (provider, host) = (peer::provider(), peer::host());
    for (op, mut request, purpose) in operations() {
        if op == Operation::Authorize {
            continue;
        }
        request.original = None;
        let mut drive = Drive::new(&provider, &host, op, request);
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input, "{purpose}");
    }
}

#[test]
fn a_shoppers_own_data_is_never_told_as_a_code() {
    for code in ["134567890123456789", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "lower_case", ""] {
        let fact = peer::failed(Operation::Authorize, "barcode", 400, code);
        assert_eq!(fact.provider_code.as_deref(), Some("http_400"));
        let told = peer::said(Operation::Authorize, "barcode", peer::order(code, json!({})));
        assert_ne!(told.provider_code.as_deref(), Some(code));
    }
}
