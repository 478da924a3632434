//! Money that was taken is gone again: by our close, by a void, or at the provider's portal.
//!
//! What is said to be given back ends a doubt or adopts an operation; it never ends a success that
//! was confirmed, except in the books of what was refunded.

use interlock_plugin_api::Fact;

use crate::answers::Source;
use crate::definite;
use crate::exchange::{ExchangeKind, Track};
use crate::input::Subject;
use crate::operation::{Operation, OperationState, Origin};
use crate::payment::AttemptState;
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Turn};

impl Turn<'_> {
    /// A close or an inquiry says that what was paid was given back.
    pub(crate) fn given_back(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        let by_us = a.track.was_closed();
        match a.state {
            _ if a.is_over() => Ok(()),
            AttemptState::Success { .. } => {
                // A success was confirmed after every close, so this contradicts it: the books
                // follow only what is asked after them all.
                let certain = match source {
                    Source::Inquiry(asked) => definite::confirms(a, asked, account),
                    _ => !by_us,
                };
                if by_us {
                    self.alert(i, "close_contradicts_success");
                }
                if certain {
                    return self.refunded_outside_all(i, fact);
                }
                self.inquire(Subject::Attempt(i));
                Ok(())
            }
            _ => {
                let asked_late = match source {
                    Source::Inquiry(asked) => {
                        a.unconfirmed.as_ref().is_none_or(|u| asked.ver >= u.ver)
                    }
                    _ => true,
                };
                if !asked_late {
                    return Ok(());
                }
                let due = matches!(a.state, AttemptState::RefundDue { .. });
                let a = &mut self.p.attempts[i];
                a.unconfirmed = None;
                a.state = if due { AttemptState::Refunded } else { AttemptState::Reversed };
                self.say(&name, "paid and given back by our close", Some("closed"));
                Ok(())
            }
        }
    }

    /// T16b: an authorization was released. No other account is tried after it: the shopper's
    /// money was held once, and the merchant is told `canceled`.
    pub(crate) fn released(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let a = &mut self.p.attempts[i];
        let name = a.account.clone();
        let code = fact.provider_code.as_deref();
        match a.state {
            AttemptState::Success { captured: true } => {
                self.alert(i, "void_contradicts_capture");
                self.inquire(Subject::Attempt(i));
            }
            AttemptState::RefundDue { authorized: true } => {
                a.state = AttemptState::Refunded;
                self.say(&name, "the authorization was released", code);
            }
            AttemptState::Success { captured: false } => {
                a.state = AttemptState::Reversed;
                self.p.cancel_requested = true;
                self.say(&name, "the authorization was released", code);
            }
            AttemptState::RefundDue { .. } => {}
            _ if a.is_over() => {}
            _ => return self.was_reversed(i, account, source),
        }
        Ok(())
    }

    /// It was paid or held, and is no longer, though we never heard of it: that ends a doubt where
    /// no other copy can be executed.
    fn was_reversed(&mut self, i: usize, account: &AccountPolicy, source: &Source) -> Flow {
        let a = &self.p.attempts[i];
        let one = definite::early_close_proves(a, account);
        let late = match source {
            Source::Inquiry(asked) => {
                let waits = a.unconfirmed.as_ref().is_none_or(|u| asked.ver >= u.ver);
                waits && (one || definite::asked_behind_fence(&a.track, asked, account))
            }
            _ => one && a.unconfirmed.is_none(),
        };
        if !late {
            self.inquire(Subject::Attempt(i));
            return self.look_later(i);
        }
        let a = &mut self.p.attempts[i];
        a.unconfirmed = None;
        a.state = AttemptState::Reversed;
        let name = a.account.clone();
        self.say(&name, "it was given back at the provider", Some("external"));
        self.p.cancel_requested |= self.p.settled.is_none();
        Ok(())
    }

    /// T17: somebody gave money back in the provider's portal, or our refund is confirmed late.
    pub(crate) fn refunded_outside(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let minor = fact.amount.and_then(|m| account.iso_amount(m.currency, m.amount));
        let full = fact.amount.is_none() || minor == Some(self.p.money.amount);
        let state = &self.p.attempts[i].state;
        match state {
            _ if self.p.attempts[i].is_over() => return Ok(()),
            AttemptState::Success { .. } => {}
            AttemptState::RefundDue { .. } if full => return self.already_given_back(i, source),
            AttemptState::RefundDue { .. } => {
                self.alert(i, "external_refund_unclear");
                return self.hint_operations(i);
            }
            _ if full => return self.was_reversed(i, account, source),
            _ => {
                self.alert(i, "external_refund_unclear");
                return self.look_later(i);
            }
        }
        let open = self
            .p
            .operations
            .iter()
            .any(|o| o.attempt == i && o.kind == ExchangeKind::Refund && o.state.is_open());
        if open {
            let counted = self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
            if full && counted == self.p.captured_by(i) {
                self.refunds_were_made(i, source);
            }
            return self.hint_operations(i);
        }
        let known = fact.operation_ref.as_deref().or(fact.op_id.as_deref());
        if known.is_some_and(|r| self.p.operation_of(r).is_some()) {
            return Ok(());
        }
        let taken = self.p.captured_by(i);
        let ours = self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
        match minor {
            Some(minor) if minor > 0 && minor <= taken - ours => {
                self.adopt(i, ExchangeKind::Refund, minor, fact);
                let name = self.p.attempts[i].account.clone();
                self.say(&name, format!("refunded at the provider: {minor}"), Some("external"));
            }
            _ => self.alert(i, "external_refund_unclear"),
        }
        Ok(())
    }

    /// What must be given back was given back: by a refund of ours whose answer is missing, or in
    /// the provider's portal.
    fn already_given_back(&mut self, i: usize, source: &Source) -> Flow {
        let due = self.p.attempts[i].refund_due_ver;
        let asked_late = match source {
            Source::Inquiry(asked) => due.is_some_and(|ver| asked.ver >= ver),
            _ => false,
        };
        if !asked_late {
            self.inquire(Subject::Attempt(i));
            return self.hint_operations(i);
        }
        self.refunds_were_made(i, source);
        self.p.attempts[i].state = AttemptState::Refunded;
        self.say("engine", "what must not be kept is given back", Some("duplicate_refunded"));
        Ok(())
    }

    /// All of a charge was given back, so the refunds that were sent before it was asked are done.
    fn refunds_were_made(&mut self, i: usize, source: &Source) {
        let Source::Inquiry(asked) = source else { return };
        for n in 0..self.p.operations.len() {
            let o = &self.p.operations[n];
            let sent = o.track.exchanges.iter().all(|x| x.made_ver <= asked.ver)
                && o.failed_ver.is_none_or(|failed| asked.ver >= failed);
            if o.attempt == i && o.kind == ExchangeKind::Refund && o.state.is_open() && sent {
                self.say("engine", "all of it was given back, so the refund is done", None);
                self.complete(n);
            }
        }
    }

    fn refunded_outside_all(&mut self, i: usize, fact: &Fact) -> Flow {
        let rest =
            self.p.captured_by(i) - self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
        if rest > 0 {
            self.adopt(i, ExchangeKind::Refund, rest, fact);
            let name = self.p.attempts[i].account.clone();
            self.say(&name, format!("refunded at the provider: {rest}"), Some("external"));
        }
        Ok(())
    }

    /// Takes over an operation that was made at the provider's portal.
    pub(crate) fn adopt(&mut self, i: usize, kind: ExchangeKind, amount: i64, fact: &Fact) {
        let number = self.p.operations.len().to_string();
        let prefix = if kind == ExchangeKind::Capture { "cap" } else { "ref" };
        let id = format!("{prefix}_{}", self.world.mint.mint(&["external", &self.p.id, &number]));
        let op_id = fact.op_id.clone().unwrap_or_else(|| id.clone());
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
        });
    }
}
