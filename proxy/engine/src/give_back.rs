//! What must not be kept is given back: T18, and the void after a cancel.
//!
//! A charge is given back only after an inquiry that was asked after it became due has confirmed
//! it, under caps, and under a new number only when the old one is proven not to have happened.

use crate::exchange::ExchangeKind;
use crate::operation::{Operation, OperationState, Origin};
use crate::operations::NewOperation;
use crate::payment::AttemptState;
use crate::turn::{Flow, Turn};

/// After so many definite refusals an operator must look, while we go on trying.
const REFUSALS_ALERT: usize = 3;
/// How often we give back what is refused, at the ladder's pace: about its 72 h (T19).
const GIVE_BACKS_MAX: usize = 100;

impl Turn<'_> {
    /// What every turn asks: is there an authorization to void because the merchant cancelled?
    pub(crate) fn give_back(&mut self) -> Flow {
        if !self.p.cancel_requested || self.p.settled.is_some() {
            return Ok(());
        }
        let Some(winner) = self.p.winner_index() else { return Ok(()) };
        let held = self.p.attempts[winner].state == AttemptState::Success { captured: false };
        let moving = self.p.operations.iter().any(|o| o.attempt == winner && o.state.is_open());
        let begun = self.made(winner, ExchangeKind::Void) > 0;
        if !held || moving || begun {
            return Ok(());
        }
        self.let_go(winner)
    }

    /// Money is only held: it waits for the capture that comes by itself, or for its void.
    pub(crate) fn hold_due(&mut self, i: usize) -> Flow {
        let voids = self.made(i, ExchangeKind::Void);
        let moving = self.p.operations.iter().any(|o| o.attempt == i && o.state.is_open());
        if self.p.cancel_requested && voids > 0 && !moving {
            if voids >= REFUSALS_ALERT {
                self.p.attempts[i].manual = true;
                self.alert(i, "void_refused");
            }
            if voids < GIVE_BACKS_MAX {
                self.let_go(i)?;
            }
        }
        self.look_soon(i);
        Ok(())
    }

    /// Voids what an attempt holds. Its number names the attempt: after an instant switch there
    /// may be two.
    fn let_go(&mut self, i: usize) -> Flow {
        let amount = self.p.money.amount;
        let attempt = self.p.attempts[i].id.clone();
        let number = self.unused_number(ExchangeKind::Void, ["cancel", &attempt]);
        self.start_operation(NewOperation {
            kind: ExchangeKind::Void,
            attempt: i,
            amount,
            origin: Origin::Resolver,
            reason: None,
            key: &["cancel", &attempt, &number],
        })
    }

    /// The first of our numbers for such an operation that stands for none yet. Those that are
    /// known again from a statement need not be the first ones.
    fn unused_number(&self, kind: ExchangeKind, [why, attempt]: [&str; 2]) -> String {
        let number = |n: usize| n.to_string();
        let unused = |n: &String| {
            let (_, op_id) = self.operation_numbers(kind, &[why, attempt, n]);
            self.p.operation_of(&op_id).is_none()
        };
        let known = self.p.operations.len();
        (0..known).map(number).find(unused).unwrap_or_else(|| number(known))
    }

    /// T18 is due: confirm by an inquiry. Without one it is given back at once, unless a close may
    /// have given it back: then only that close's own answer decides.
    pub(crate) fn give_back_due(&mut self, i: usize) -> Flow {
        let Some(account) = self.account(i) else { return self.look_later(i) };
        if self.can_inquire(i, account) {
            self.look_soon(i);
            return Ok(());
        }
        let a = &self.p.attempts[i];
        let may_refund = account.contract.close_of(&a.flow).is_some_and(|c| c.may_refund);
        if may_refund && a.track.open_closes().next().is_some() {
            self.alert(i, "close_unanswered");
            return self.look_later(i);
        }
        self.start_give_back(i)
    }

    /// T18: refunds or voids a charge that must not be kept, under the caps.
    pub(crate) fn start_give_back(&mut self, i: usize) -> Flow {
        let AttemptState::RefundDue { authorized } = self.p.attempts[i].state else {
            return Ok(());
        };
        let kind = if authorized { ExchangeKind::Void } else { ExchangeKind::Refund };
        let mine = |o: &Operation| o.attempt == i && o.origin == Origin::Resolver;
        if self.p.operations.iter().any(|o| mine(o) && o.state.is_open()) {
            return self.look_later(i);
        }
        let name = self.p.attempts[i].account.clone();
        let amount = if authorized { self.p.money.amount } else { self.left_of(i) };
        if amount < 1 {
            self.p.attempts[i].state = AttemptState::Refunded;
            self.say("engine", "what must not be kept is given back", Some("duplicate_refunded"));
            return Ok(());
        }
        let made = self.made(i, kind);
        if let Some(at) = self.pause_until(i, made) {
            self.p.attempts[i].track.next_ms = Some(at);
            return Ok(());
        }
        if made >= REFUSALS_ALERT {
            self.p.attempts[i].manual = true;
            self.alert(i, "refund_refused");
        }
        if made >= GIVE_BACKS_MAX {
            return self.look_later(i);
        }
        if !self.world.health.refund_cap(&name, amount, self.world.now) {
            self.alert(i, "refund_cap");
            return self.look_later(i);
        }
        let attempt = self.p.attempts[i].id.clone();
        let number = self.unused_number(kind, ["give back", &attempt]);
        self.start_operation(NewOperation {
            kind,
            attempt: i,
            amount,
            origin: Origin::Resolver,
            reason: None,
            key: &["give back", &attempt, &number],
        })?;
        self.look_later(i)
    }

    /// What is left at the provider of a charge that must go back, minor units: some of it may have
    /// been given back in the portal.
    fn left_of(&self, i: usize) -> i64 {
        let back = self.p.sum(ExchangeKind::Refund, i, |s| s == OperationState::Done);
        self.p.captured_by(i) - back
    }

    /// What was refused is tried again at the ladder's pace, Unix ms.
    fn pause_until(&self, i: usize, made: usize) -> Option<i64> {
        let ours = |o: &&Operation| o.attempt == i && o.origin == Origin::Resolver;
        let last = self.p.operations.iter().rfind(ours)?.track.last_send_by()?;
        let tries = u32::try_from(made.checked_sub(1)?).unwrap_or(u32::MAX);
        let wait = self.world.policy.ladder.wait_ms(tries, self.world.draw);
        let at = last.wall_ms.saturating_add_unsigned(wait);
        (at > self.world.now.wall_ms).then_some(at)
    }

    /// How often we made such an operation for an attempt, whatever became of it.
    fn made(&self, attempt: usize, kind: ExchangeKind) -> usize {
        let ours =
            |o: &&Operation| o.attempt == attempt && o.kind == kind && o.origin == Origin::Resolver;
        self.p.operations.iter().filter(ours).count()
    }
}
