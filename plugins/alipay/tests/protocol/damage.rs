//! Damaged notifications and answers of Alipay.

use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{Event, Operation, Period, Request};

use crate::{mutator, peer, readers};

#[test]
fn damaged_notifications_are_read_or_refused() {
    let (plugin, host) = (peer::provider(), peer::host().believing());
    let corpus = "tests/corpora/notifications-alipay";
    readers::damaged_notifications(&plugin, &host, &peer::payment("qr"), &[], corpus, |_| {});
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let (plugin, host) = (peer::provider(), peer::host().believing());
    let operations =
        peer::operations().into_iter().map(|(operation, request, _)| (operation, request));
    readers::damaged_answers(&plugin, &host, operations, "tests/corpora/answers-alipay", 25);
}

fn bill() -> Request {
    let period = Some(Period { date: "2025-11-24".into() });
    Request { period, ..testkit::request(0, "CNY", 2) }
}

#[test]
fn damaged_answers_about_a_bill_are_a_file_or_refused() {
    let (plugin, host) = (peer::provider(), peer::host().believing());
    let mut made = 0;
    let cases = mutator::each(&["tests/corpora/answers-alipay"], 200, |body| {
        let mut drive = Drive::new(&plugin, &host, Operation::DownloadStatement, bill());
        drive.start().unwrap().sent();
        match drive.answer(200, body) {
            Ok(wanted) => {
                let file = wanted.done().statement.unwrap().file;
                made += usize::from(file.is_some());
                let path = file.map(|file| file.send.path);
                assert!(path.is_none_or(|path| path == "/downloadBillFile.resource"));
            }
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    });
    assert!(cases > 200 && made > 0, "{made} of {cases} told of a file");
}

#[test]
fn damaged_bills_are_lines_or_refused() {
    let (plugin, host) = (peer::provider(), peer::host());
    let mut read = 0;
    let cases = mutator::each(&["tests/corpora/bills-alipay"], 2_000, |body| {
        let mut drive = Drive::new(&plugin, &host, Operation::ReadStatement, bill());
        match drive.step(Event::Piece { last: true }, body) {
            Ok(wanted) => read += wanted.done().statement.unwrap().lines.len(),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    });
    assert!(cases > 1_000 && read > 0, "{read} of {cases} were read");
}
