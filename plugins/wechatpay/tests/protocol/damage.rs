//! Damaged notifications, answers and bills of WeChat Pay: facts, lines or nothing, and no panic.

use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{Event, Operation, Period, Request};

use crate::{mutator, peer};

const CORPUS: &str = "tests/corpora/answers-wechatpay";

/// Signed in form; the host of these tests believes it.
fn headers() -> Vec<(String, String)> {
    peer::signed(b"")
}

#[test]
fn damaged_notifications_are_read_or_refused() {
    let (plugin, host) = (peer::provider(), peer::host().believing());
    let mut heard = 0;
    let cases = mutator::each(&["tests/corpora/notifications-wechatpay"], 400, |body| {
        let request = testkit::request(0, "CNY", 2);
        let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, request);
        let done = drive.step(Event::Notification { headers: headers() }, body).unwrap().done();
        heard += usize::from(!done.facts.is_empty());
        assert!(done.verified || done.facts.is_empty(), "what is not proven says nothing");
        assert!(done.verified == done.facts.is_empty() || done.event_id.is_some());
    });
    assert!(cases > 400 && heard > 0, "{heard} of {cases} were read");
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let (plugin, host) = (peer::provider(), peer::host().believing());
    let mut cases = 0;
    for (op, request, _) in peer::operations() {
        for status in [200, 204, 404] {
            cases += mutator::each(&[CORPUS], 10, |body| {
                let mut drive = Drive::new(&plugin, &host, op, request.clone());
                drive.start().unwrap().sent();
                let wanted = peer::answer(&mut drive, status, headers(), body);
                assert!(wanted.is_ok(), "{wanted:?}");
            });
        }
    }
    for op in [Operation::FetchKeys, Operation::DownloadStatement] {
        cases += mutator::each(&[CORPUS], 50, |body| {
            let mut request = testkit::request(0, "CNY", 2);
            let ring = "platform".into();
            request.wanted = Some(interlock_plugin_api::WantedKeys { ring, id: None });
            request.period = Some(interlock_plugin_api::Period { date: "2025-11-24".into() });
            let mut drive = Drive::new(&plugin, &host, op, request);
            drive.start().unwrap().sent();
            if let Err(fault) = peer::answer(&mut drive, 200, headers(), body) {
                assert!(!fault.to_string().is_empty());
            }
        });
    }
    assert!(cases > 1_000, "{cases}");
}

#[test]
fn damaged_bills_are_lines_or_refused() {
    let (plugin, host) = (peer::provider(), peer::host());
    let mut read = 0;
    let cases = mutator::each(&["tests/corpora/bills-wechatpay"], 2_000, |body| {
        let period = Some(Period { date: "2025-11-24".into() });
        let request = Request { period, ..testkit::request(0, "CNY", 2) };
        let mut drive = Drive::new(&plugin, &host, Operation::ReadStatement, request);
        match drive.step(Event::Piece { last: true }, body) {
            Ok(wanted) => read += wanted.done().statement.unwrap().lines.len(),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    });
    assert!(cases > 1_000 && read > 0, "{read} of {cases} were read");
}
