//! What people do beside the payments: money is given back in a provider's portal, and an operator
//! speaks before he is asked, by what the books hold at that moment.

use interlock_engine::Input;

use super::{Beside, World};
use crate::declarations::AMOUNT;
use crate::operator::{self, Denied};

impl World<'_> {
    /// Somebody gives money back in the portal of one of the providers.
    pub(super) fn portal(&mut self, case: u32) {
        if self.row(case).is_none() {
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
        let Some(subject) = operator::doubts(&row).next() else { return };
        let (attempt, op_id) = operator::number(&row, subject);
        let account = self.account_of(case, &row.attempts[attempt].account);
        let c = &mut self.cases[case as usize];
        let verdict = operator::verdict(&row, subject, &c.providers[account]);
        if !verdict.moved {
            c.denied.push(Denied::now(account, op_id, &c.providers[account]));
        }
        self.score.verdicts += 1;
        self.anyone(case, Input::Operator(verdict), Beside::default());
    }
}

impl super::Case {
    /// Money moved after an operator had said that none did.
    pub(super) fn was_denied(&self) -> bool {
        self.denied.iter().any(|d| d.is_wrong(&self.providers[d.account]))
    }
}
