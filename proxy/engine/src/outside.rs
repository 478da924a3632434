//! T17: somebody gives money back in the provider's own portal.
//!
//! It is told at any moment, once, and perhaps before we know that there is money at all. So it is
//! kept on the attempt until it can be booked as an operation of origin `external`: what names a
//! number of its own first, what says only that all is gone last. Until then an alert stands.

use interlock_plugin_api::{Fact, What};

use crate::answers::Source;
use crate::exchange::{ExchangeKind, Track};
use crate::input::Subject;
use crate::operation::{Operation, OperationState, Origin};
use crate::payment::{AttemptState, OUTSIDE_MAX};
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Turn};

impl Turn<'_> {
    /// T17: somebody gave money back in the provider's portal, or our refund is confirmed late. It
    /// is kept until it can be booked: a notification is told once, and nothing would ask again.
    pub(crate) fn refunded_outside(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let all = self.is_all(account, fact);
        match self.p.attempts[i].state {
            AttemptState::Failed { .. }
                if fact.amount.is_some() && self.p.attempts[i].is_over() =>
            {
                // It contradicts what is known; if the success comes after it, it is not lost.
                self.keep_outside(i, fact);
                self.inquire(Subject::Attempt(i));
                return Ok(());
            }
            _ if self.p.attempts[i].is_over() => return Ok(()),
            AttemptState::Success { captured: false } if all => {
                // Nothing can be given back of what was not taken.
                let taken = Fact { what: What::Captured, amount: None, ..fact.clone() };
                self.learn(i, account, true, &taken, source)?;
            }
            AttemptState::Success { .. } => {}
            AttemptState::RefundDue { .. } if all => return self.already_given_back(i, source),
            AttemptState::RefundDue { .. } => self.hint_operations(i)?,
            _ if all && self.can_ask(Subject::Attempt(i)) => {
                self.was_reversed(i, account, source)?;
                if self.p.attempts[i].is_over() {
                    return Ok(());
                }
            }
            _ => {
                self.inquire(Subject::Attempt(i));
                self.look_later(i)?;
            }
        }
        if self.open_refunds(i).next().is_some() {
            let counted = self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
            if all && counted == self.p.captured_by(i) {
                self.refunds_were_made(i, source);
            }
            self.hint_operations(i)?;
        }
        // Without a number of its own or an amount it says only how things stood when it was asked.
        let asked_late = |o: &Operation| match source {
            Source::Inquiry(asked) => o.failed_ver.is_none_or(|failed| asked.ver >= failed),
            _ => true,
        };
        let refunds = |o: &&Operation| o.attempt == i && o.kind == ExchangeKind::Refund;
        let current = self.p.operations.iter().filter(refunds).all(asked_late);
        let told = matches!(source, Source::Inquiry(_)) || fact.amount.is_some();
        if !current || !told {
            self.inquire(Subject::Attempt(i));
            return Ok(());
        }
        self.keep_outside(i, fact);
        Ok(())
    }

    /// Whether all of the payment is said to be given back.
    fn is_all(&self, account: &AccountPolicy, fact: &Fact) -> bool {
        let minor = fact.amount.and_then(|m| account.iso_amount(m.currency, m.amount));
        fact.amount.is_none() || minor == Some(self.p.money.amount)
    }

    fn open_refunds(&self, i: usize) -> impl Iterator<Item = &Operation> {
        let of_it = move |o: &&Operation| o.attempt == i && o.kind == ExchangeKind::Refund;
        self.p.operations.iter().filter(of_it).filter(|o| o.state.is_open())
    }

    fn keep_outside(&mut self, i: usize, fact: &Fact) {
        let a = &mut self.p.attempts[i];
        let same = |kept: &Fact| {
            kept == fact
                || (kept.operation_ref.is_some() && kept.operation_ref == fact.operation_ref)
        };
        if a.outside.iter().any(same) {
            return;
        }
        if a.outside.len() < OUTSIDE_MAX {
            a.outside.push(fact.clone());
        } else {
            self.alert(i, "external_refund_unclear");
        }
    }

    /// What every turn asks: can a refund that was made elsewhere be booked now?
    pub(crate) fn book_outside(&mut self) -> Flow {
        for i in 0..self.p.attempts.len() {
            if self.p.attempts[i].outside.is_empty() {
                continue;
            }
            let Some(account) = self.account(i) else { continue };
            // What is booked may make room for what was not.
            while self.books_some(i, account) {}
            if self.p.attempts[i].outside.is_empty() {
                self.p.attempts[i].alert.take_if(|alert| alert == "external_refund_unclear");
            } else {
                self.alert(i, "external_refund_unclear");
            }
        }
        Ok(())
    }

    /// Tries to book everything once; true when something was.
    fn books_some(&mut self, i: usize, account: &AccountPolicy) -> bool {
        let mut facts = std::mem::take(&mut self.p.attempts[i].outside);
        facts.sort_by_key(|fact| fact.amount.is_none());
        let mut some = false;
        for fact in facts {
            // What says only that all is gone waits for those that say how much.
            let waits = fact.amount.is_none() && !self.p.attempts[i].outside.is_empty();
            if !waits && self.is_booked(i, account, &fact) {
                some = true;
            } else {
                self.p.attempts[i].outside.push(fact);
            }
        }
        some
    }

    /// A refund by somebody else that was booked without a number of its own.
    pub(crate) fn unnamed_refund(&self, i: usize) -> Option<usize> {
        self.p.operations.iter().position(|o| {
            let of_it = o.attempt == i && o.kind == ExchangeKind::Refund;
            let unnamed = o.operation_ref.is_none() && o.op_id == o.id;
            of_it && unnamed && o.origin == Origin::External && o.state == OperationState::Done
        })
    }

    /// The number of a refund that was booked without one.
    pub(crate) fn name_refund(&mut self, i: usize, n: usize, number: &str) {
        let account = self.p.attempts[i].account.clone();
        self.refer(&account, number);
        self.p.operations[n].operation_ref = Some(number.to_owned());
    }

    /// Books a refund that was made elsewhere, or finds it booked.
    fn is_booked(&mut self, i: usize, account: &AccountPolicy, fact: &Fact) -> bool {
        let own = fact.op_id.as_deref().filter(|number| self.p.attempt_of(number).is_none());
        let known = fact.operation_ref.as_deref().or(own);
        if known.is_some_and(|number| self.p.operation_of(number).is_some()) {
            return true;
        }
        let minor = fact.amount.and_then(|m| account.iso_amount(m.currency, m.amount));
        if let (Some(number), Some(n)) = (known, self.unnamed_refund(i)) {
            if minor == Some(self.p.operations[n].amount) {
                self.name_refund(i, n, number);
                return true;
            }
            // It was booked as the rest of what was taken; now it is told one by one.
            self.p.operations[n].state = OperationState::Reversed;
            self.say("engine", "a refund of the rest is told one by one", Some("external"));
            let all = Fact { amount: None, operation_ref: None, op_id: None, ..fact.clone() };
            self.keep_outside(i, &all);
        }
        let state = &self.p.attempts[i].state;
        if matches!(state, AttemptState::Refunded | AttemptState::Reversed) {
            return true;
        }
        let taken = match state {
            AttemptState::Success { captured: true } => true,
            AttemptState::RefundDue { authorized } => !authorized,
            _ => false,
        };
        let left =
            self.p.captured_by(i) - self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
        let minor = minor.unwrap_or(left);
        // One of ours that is open and says no number of its own may be the same.
        let maybe_ours =
            |o: &Operation| known.is_none() || (o.operation_ref.is_none() && o.amount == minor);
        if !taken || self.open_refunds(i).any(maybe_ours) {
            return false;
        }
        if fact.amount.is_none() && left <= 0 {
            return true;
        }
        if minor < 1 || minor > left {
            return false;
        }
        self.adopt(i, ExchangeKind::Refund, minor, fact);
        let name = self.p.attempts[i].account.clone();
        self.say(&name, format!("refunded at the provider: {minor}"), Some("external"));
        true
    }

    /// Takes over an operation that was made at the provider's portal.
    pub(crate) fn adopt(&mut self, i: usize, kind: ExchangeKind, amount: i64, fact: &Fact) {
        let number = self.p.operations.len().to_string();
        let prefix = if kind == ExchangeKind::Capture { "cap" } else { "ref" };
        let id = format!("{prefix}_{}", self.world.mint.mint(&["external", &self.p.id, &number]));
        // Some notifications name the payment by our number: that is not the operation's.
        let own = fact.op_id.clone().filter(|number| self.p.attempt_of(number).is_none());
        let op_id = own.unwrap_or_else(|| id.clone());
        if let Some(reference) = &fact.operation_ref {
            let account = self.p.attempts[i].account.clone();
            self.refer(&account, reference);
        }
        self.announce(&id);
        self.p.operations.push(Operation {
            id,
            kind,
            attempt: i,
            amount,
            origin: Origin::External,
            key: None,
            reason: None,
            created_ms: self.world.now.wall_ms,
            op_id,
            operation_ref: fact.operation_ref.clone(),
            state: OperationState::Done,
            track: Track::default(),
            failed_ver: None,
            done_ver: Some(self.p.ver),
            accepted: false,
            again: false,
            manual: false,
            provider_code: None,
            denied: false,
            done_ms: None,
        });
    }
}
