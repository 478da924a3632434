//! What every plugin's readers do with damaged bytes: whatever a provider, or somebody in its
//! place, sends, they neither fall nor make up what is not proven.
//!
//! A plugin's own tests include this file by its path, beside `mutator`, because no crate of the
//! product may import the tests. The host believes every signature, so that the damage reaches what
//! lies behind them.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Done, Operation, Provider, Request, TransportLoss};

use crate::mutator;

/// Damaged forms of each seed.
const ROUNDS: usize = 400;

/// A number that can't be one of ours is not told.
#[allow(dead_code, reason = "not every provider's notifications carry our numbers in one form")]
pub fn tells_our_numbers(done: &Done) {
    let ours = |id: &String| id.bytes().all(|b| b.is_ascii_alphanumeric());
    assert!(done.facts.iter().filter_map(|fact| fact.op_id.as_ref()).all(ours));
}

/// Notifications, from a corpus of good ones, are facts or nothing; what is not proven says
/// nothing. `headers` come with each of them, `judge` sees what is told.
pub fn damaged_notifications(
    plugin: &impl Provider,
    host: &TestHost,
    payment: &Request,
    headers: &[(&str, &str)],
    corpus: &str,
    judge: impl Fn(&Done),
) {
    let mut heard = 0;
    let cases = mutator::each(&[corpus], ROUNDS, |body| {
        let mut drive = Drive::new(plugin, host, Operation::ParseNotification, payment.clone());
        let Ok(wanted) = drive.notified(headers, body) else { return };
        let done = wanted.done();
        heard += usize::from(!done.facts.is_empty());
        assert!(done.verified || done.facts.is_empty(), "what is not proven says nothing");
        judge(&done);
    });
    assert!(cases > ROUNDS && heard > 0, "{heard} of {cases} were read");
}

/// Answers to each operation are another request, facts, or a fault that says what is wrong. So
/// many forms of each seed: signing each request takes its time.
pub fn damaged_answers(
    plugin: &impl Provider,
    host: &TestHost,
    operations: impl IntoIterator<Item = (Operation, Request)>,
    corpus: &str,
    rounds: usize,
) {
    let mut cases = 0;
    for (operation, request) in operations {
        for status in [200, 422, 503] {
            cases += mutator::each(&[corpus], rounds, |body| {
                let mut drive = Drive::new(plugin, host, operation, request.clone());
                let Ok(_) = drive.start() else { return };
                if let Err(fault) = drive.answer(status, body) {
                    assert!(!fault.to_string().is_empty());
                }
            });
        }
        let mut drive = Drive::new(plugin, host, operation, request);
        if drive.start().is_ok() {
            assert!(drive.lost(TransportLoss::MaybeSent).is_ok());
        }
    }
    assert!(cases > ROUNDS, "{cases}");
}
