//! Damaged notifications and answers of Adyen.

use interlock_plugin_api::testkit::TestHost;

use crate::{moves, payment, plain, readers};

#[test]
fn damaged_notifications_are_read_or_refused() {
    let host = TestHost::default().believing();
    let corpus = "tests/corpora/notifications-adyen";
    let judge = readers::tells_our_numbers;
    readers::damaged_notifications(&plain(), &host, &payment(), &[], corpus, judge);
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let host = TestHost::default().believing();
    readers::damaged_answers(&plain(), &host, moves(), "tests/corpora/answers-adyen", 100);
}
