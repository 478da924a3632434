//! Damaged notifications and answers: whatever a provider, or somebody in its place, sends, the
//! reader neither falls nor makes up what is not proven. Signatures count as good here, so that
//! the damage reaches what lies behind them.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Operation, Request, TransportLoss};

use crate::{moves, mutator, payment, plain};

const ROUNDS: usize = 400;

#[test]
fn damaged_notifications_are_read_or_refused() {
    let (plugin, host) = (plain(), TestHost::default().believing());
    let mut heard = 0;
    let cases = mutator::each(&["tests/corpora/notifications-adyen"], ROUNDS, |body| {
        let mut drive = Drive::new(&plugin, &host, Operation::ParseNotification, payment());
        let Ok(wanted) = drive.notified(&[], body) else { return };
        let done = wanted.done();
        heard += usize::from(!done.facts.is_empty());
        assert!(done.verified || done.facts.is_empty(), "what is not proven says nothing");
        let ours = |id: &String| id.bytes().all(|b| b.is_ascii_alphanumeric());
        assert!(done.facts.iter().filter_map(|fact| fact.op_id.as_ref()).all(ours));
    });
    assert!(cases > ROUNDS && heard > 0, "{heard} of {cases} were read");
}

#[test]
fn damaged_answers_are_facts_or_nothing() {
    let (plugin, host) = (plain(), TestHost::default().believing());
    let mut cases = 0;
    for (operation, request) in requests() {
        for status in [200, 422, 503] {
            cases += mutator::each(&["tests/corpora/answers-adyen"], ROUNDS / 4, |body| {
                let mut drive = Drive::new(&plugin, &host, operation, request.clone());
                let Ok(_) = drive.start() else { return };
                // Another request, facts, or a fault that says what is wrong: nothing else.
                if let Err(fault) = drive.answer(status, body) {
                    assert!(!fault.to_string().is_empty());
                }
            });
        }
        let mut drive = Drive::new(&plugin, &host, operation, request);
        if drive.start().is_ok() {
            assert!(drive.lost(TransportLoss::MaybeSent).is_ok());
        }
    }
    assert!(cases > ROUNDS);
}

fn requests() -> [(Operation, Request); 6] {
    moves()
}
