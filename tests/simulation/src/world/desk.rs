//! What people do beside the payments: money is given back in a provider's portal, and an operator
//! speaks before he is asked, by what the books hold at that moment.

use interlock_engine::{AttemptState, Input, OperationState, Payment, Subject, Verdict};

use super::{Beside, World};
use crate::declarations::AMOUNT;
use crate::provider::JobState;

/// A number of ours of which an operator said that no money moved.
#[derive(Debug)]
pub(super) struct Denied {
    pub account: usize,
    pub op_id: String,
    /// How many charges were under it, or how often it was carried out.
    before: usize,
}

impl World<'_> {
    /// Somebody gives money back in the portal of one of the providers.
    pub(super) fn portal(&mut self, case: u32) {
        if std::env::var_os("NO_PORTAL").is_some() {
            return;
        }
        let amount = self.dice.of(&[None, Some(1_000), Some(AMOUNT / 2)]);
        let named = self.dice.one_in(2);
        let c = &mut self.cases[case as usize];
        let found = c.providers.iter().enumerate().find_map(|(account, provider)| {
            provider.refundable().next().map(|op_id| (account, op_id.to_owned()))
        });
        let Some((account, op_id)) = found else { return };
        let reaction = c.providers[account].refund_outside(&op_id, amount, named);
        self.score.portal += 1;
        self.at_provider(case, account, reaction);
    }

    /// An operator does not wait until he is asked: he reads the books and says what is true now.
    pub(super) fn speak(&mut self, case: u32) {
        let Some(row) = self.row(case).cloned() else { return };
        let Some(subject) = doubtful(&row) else { return };
        let (moved, provider_ref) = self.in_the_books(case, &row, subject);
        if !moved {
            self.deny(case, &row, subject);
        }
        let verdict = Verdict {
            subject,
            moved,
            provider_ref,
            evidence: "the books at this moment".into(),
            operator: "in a hurry".into(),
        };
        self.score.verdicts += 1;
        self.anyone(case, Input::Operator(verdict), Beside::default());
    }

    fn in_the_books(&self, case: u32, row: &Payment, subject: Subject) -> (bool, Option<String>) {
        let c = &self.cases[case as usize];
        let attempt = match subject {
            Subject::Attempt(i) => i,
            Subject::Operation(n) => row.operations[n].attempt,
        };
        let a = &row.attempts[attempt];
        let provider = &c.providers[self.account_of(case, &a.account)];
        match subject {
            Subject::Attempt(_) => {
                let live = provider.order(&a.op_id).and_then(|o| o.charges.iter().find(|c| c.live()));
                (live.is_some(), live.map(|c| c.reference.clone()))
            }
            Subject::Operation(n) => {
                let op_id = &row.operations[n].op_id;
                let done = |j: &&crate::provider::Job| j.op_id == *op_id && j.state == JobState::Done;
                (provider.jobs.iter().any(|j| done(&j)), None)
            }
        }
    }

    fn deny(&mut self, case: u32, row: &Payment, subject: Subject) {
        let (attempt, op_id) = match subject {
            Subject::Attempt(i) => (i, row.attempts[i].op_id.clone()),
            Subject::Operation(n) => (row.operations[n].attempt, row.operations[n].op_id.clone()),
        };
        let account = self.account_of(case, &row.attempts[attempt].account);
        let c = &mut self.cases[case as usize];
        let before = c.moved_under(account, &op_id);
        c.denied.push(Denied { account, op_id, before });
    }
}

impl super::Case {
    /// How often money moved under one of our numbers.
    fn moved_under(&self, account: usize, op_id: &str) -> usize {
        let provider = &self.providers[account];
        let charges = provider.order(op_id).map_or(0, |o| o.charges.len());
        let done = |j: &&crate::provider::Job| j.op_id == op_id && j.state == JobState::Done;
        charges + provider.jobs.iter().filter(done).count()
    }

    /// Money moved after an operator had said that none did: what follows is his mistake, and must
    /// still be found, told and put right.
    pub(super) fn was_denied(&self) -> bool {
        self.denied.iter().any(|d| self.moved_under(d.account, &d.op_id) > d.before)
    }
}

/// What an operator may decide, if anything.
fn doubtful(p: &Payment) -> Option<Subject> {
    let attempt = p.attempts.iter().position(|a| {
        let open = a.state.in_doubt() || matches!(a.state, AttemptState::Closing { .. });
        !a.is_over() && !a.state.is_success() && (open || a.manual || a.unconfirmed.is_some())
    });
    let operation = || {
        let open = |s: OperationState| s.is_open() && s != OperationState::Started;
        p.operations.iter().position(|o| open(o.state))
    };
    attempt.map(Subject::Attempt).or_else(|| operation().map(Subject::Operation))
}
