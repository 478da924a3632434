//! Money that was taken is gone again: by our close, by a void, or by what must be given back.
//!
//! What is said to be given back ends a doubt; it never ends a success that was confirmed, except
//! in the books of what was refunded (`outside`).

use interlock_plugin_api::Fact;

use crate::answers::Source;
use crate::definite;
use crate::exchange::ExchangeKind;
use crate::input::Subject;
use crate::operation::OperationState;
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
    pub(crate) fn was_reversed(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        source: &Source,
    ) -> Flow {
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
            // What was asked before may still say that it is paid.
            let ver = self.p.ver;
            if let (Some(u), false) =
                (&mut self.p.attempts[i].unconfirmed, matches!(source, Source::Inquiry(_)))
            {
                u.ver = ver;
            }
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

    /// What must be given back was given back: by a refund of ours whose answer is missing, or in
    /// the provider's portal.
    pub(crate) fn already_given_back(&mut self, i: usize, source: &Source) -> Flow {
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
    pub(crate) fn refunds_were_made(&mut self, i: usize, source: &Source) {
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

    pub(crate) fn refunded_outside_all(&mut self, i: usize, fact: &Fact) -> Flow {
        let rest =
            self.p.captured_by(i) - self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
        if rest > 0 {
            self.adopt(i, ExchangeKind::Refund, rest, fact);
            let name = self.p.attempts[i].account.clone();
            self.say(&name, format!("refunded at the provider: {rest}"), Some("external"));
        }
        Ok(())
    }
}
