//! Damaged notifications and answers of Stripe.

use interlock_plugin_api::Operation;
use interlock_plugin_api::testkit::TestHost;

use crate::{asking, asking_about, back, later, open, payment, readers};

#[test]
fn damaged_notifications_are_read_or_refused() {
    let host = TestHost::default().believing();
    let signed = [("stripe-signature", "t=1764000000,v1=00")];
    let corpus = "tests/corpora/notifications-stripe";
    let judge = readers::tells_our_numbers;
    readers::damaged_notifications(&open(), &host, &payment(), &signed, corpus, judge);
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let host = TestHost::default().believing();
    let operations = [
        (Operation::Authorize, payment()),
        (Operation::Continue, back()),
        (Operation::Inquire, asking(true)),
        (Operation::InquireOperation, asking_about(Operation::Refund, None)),
        (Operation::Capture, later(4_900)),
        (Operation::Refund, later(1_000)),
    ];
    readers::damaged_answers(&open(), &host, operations, "tests/corpora/answers-stripe", 100);
}
