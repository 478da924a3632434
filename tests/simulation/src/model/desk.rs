//! What people do beside the payment: money is given back in a provider's portal, and an operator
//! speaks before he is asked, by what the books hold at that moment.

use interlock_engine::{Input, Subject};

use super::chance::Script;
use super::state::State;
use super::step::Action;
use super::turn::Mode;
use super::worlds::World;
use crate::operator::{self, Denied};

/// What is given back where it is not all, minor units.
const SOME: i64 = 1_000;

impl World {
    /// What may be done there in a state.
    pub fn at_the_desk(&self, s: &State, out: &mut Vec<Action>) {
        let Some(p) = s.payment() else { return };
        for (i, a) in p.attempts.iter().enumerate().filter(|_| s.left.portals > 0) {
            let books = &s.books[usize::from(self.account_index(&a.account))].provider;
            let could = books.refundable().any(|op_id| op_id == a.op_id);
            if a.second_charge_of.is_none() && could {
                let ways = [(true, false), (true, true), (false, false), (false, true)];
                out.extend(ways.map(|(whole, named)| Action::Portal(i as u8, whole, named)));
            }
        }
        if s.left.verdicts == 0 {
            return;
        }
        for (n, node) in s.nodes.iter().enumerate() {
            let visited = n == 0 || s.left.visits > 0;
            if node.up && node.held.is_none() && visited {
                let straight = |subject| Action::Verdict(subject, n as u8, Mode::Straight);
                out.extend(operator::doubts(p).map(straight));
            }
        }
    }

    /// Somebody gives money back in the portal.
    pub fn portal(&self, s: &mut State, i: usize, whole: bool, named: bool) -> Option<()> {
        s.left.portals = s.left.portals.checked_sub(1)?;
        let (account, op_id) = self.order_of(s, i)?;
        let amount = (!whole).then_some(SOME);
        self.does(s, account, Script::default(), |p, _| p.refund_outside(&op_id, amount, named));
        Some(())
    }

    /// An operator reads the books and says what is true now.
    pub fn speak(&self, s: &mut State, subject: Subject, node: usize, mode: Mode) -> Option<()> {
        s.left.verdicts = s.left.verdicts.checked_sub(1)?;
        let p = s.payment()?;
        let (attempt, op_id) = operator::number(p, subject);
        let account = usize::from(self.account_index(&p.attempts[attempt].account));
        let provider = &s.books[account].provider;
        let verdict = operator::verdict(p, subject, provider);
        if !verdict.moved {
            let denied = Denied::now(account, op_id, provider);
            s.denied.push(denied);
        }
        self.put(s, node, Input::Operator(verdict), mode)
    }
}
