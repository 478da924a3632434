//! Damaged notifications and answers of Checkout.com.

use interlock_plugin_api::testkit::TestHost;
use interlock_plugin_api::{Operation, Request};

use crate::{asking, later, payment, plain, readers};

#[test]
fn damaged_notifications_are_read_or_refused() {
    let host = TestHost::default().believing();
    let signed = [("cko-signature", "00")];
    let corpus = "tests/corpora/notifications-checkout";
    let judge = readers::tells_our_numbers;
    readers::damaged_notifications(&plain(), &host, &payment(), &signed, corpus, judge);
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let host = TestHost::default().believing();
    let operations = [
        (Operation::Authorize, payment()),
        (Operation::Inquire, asking(true)),
        (Operation::Capture, Request { credential: None, ..later(4_900) }),
        (Operation::Refund, Request { credential: None, ..later(1_000) }),
    ];
    readers::damaged_answers(&plain(), &host, operations, "tests/corpora/answers-checkout", 100);
}
