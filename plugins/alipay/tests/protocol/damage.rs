//! Damaged notifications and answers of Alipay.

use crate::{peer, readers};

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
