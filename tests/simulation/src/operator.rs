//! An operator who speaks before he is asked: what he may decide, and what the books hold at that
//! moment, for both judges of the engine.
//!
//! What he says may turn out to be wrong a moment later, because a request is still on its way.
//! Then two charges, or one after a "no", are his mistake; that they are found, told and put right
//! is still the engine's promise.

use interlock_engine::{AttemptState, OperationState, Payment, Subject, Verdict};

use crate::provider::{JobState, Provider};

/// A number of ours of which an operator said that no money moved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Denied {
    /// The account's place.
    pub account: usize,
    /// Our number.
    pub op_id: String,
    /// How often money had moved under it.
    before: usize,
}

impl Denied {
    /// What he says now, by these books.
    pub fn now(account: usize, op_id: &str, provider: &Provider) -> Self {
        Self { account, op_id: op_id.to_owned(), before: provider.moved(op_id) }
    }

    /// Money moved since.
    pub fn is_wrong(&self, provider: &Provider) -> bool {
        provider.moved(&self.op_id) > self.before
    }
}

/// What an operator may decide in this version.
pub fn doubts(p: &Payment) -> impl Iterator<Item = Subject> + '_ {
    let attempts = p.attempts.iter().enumerate().filter(|(_, a)| {
        let doubt = a.state.in_doubt() || matches!(a.state, AttemptState::Closing { .. });
        let settled = a.is_over() || a.state.is_success() || a.state == AttemptState::Started;
        !settled && (doubt || a.manual || a.unconfirmed.is_some())
    });
    let operations = p.operations.iter().enumerate();
    let open = operations.filter(|(_, o)| o.state.is_open() && o.state != OperationState::Started);
    let open = open.map(|(n, _)| Subject::Operation(n));
    attempts.map(|(i, _)| Subject::Attempt(i)).chain(open)
}

/// Our number of what he decides about, and the attempt that it belongs to.
pub fn number(p: &Payment, subject: Subject) -> (usize, &str) {
    match subject {
        Subject::Attempt(i) => (i, &p.attempts[i].op_id),
        Subject::Operation(n) => (p.operations[n].attempt, &p.operations[n].op_id),
    }
}

/// What he says, by the books of the account.
pub fn verdict(p: &Payment, subject: Subject, provider: &Provider) -> Verdict {
    let (_, op_id) = number(p, subject);
    let (moved, provider_ref) = match subject {
        Subject::Attempt(_) => {
            let live = provider.order(op_id).and_then(|o| o.charges.iter().find(|c| c.live()));
            (live.is_some(), live.map(|c| c.reference.clone()))
        }
        Subject::Operation(_) => {
            let done = |j: &crate::provider::Job| j.op_id == op_id && j.state == JobState::Done;
            (provider.jobs.iter().any(done), None)
        }
    };
    Verdict {
        subject,
        moved,
        provider_ref,
        evidence: "the books at this moment".into(),
        operator: "in a hurry".into(),
    }
}
