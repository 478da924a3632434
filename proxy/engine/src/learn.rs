//! Money was taken: what that means, whoever says it and whenever (SAFETY 2.4).
//!
//! A success is accepted in every state. What remains is whether it must be kept, given back, or
//! first confirmed because one of our closes may have given it back already.

use interlock_plugin_api::{CaptureMode, Fact};

use crate::answers::Source;
use crate::definite;
use crate::input::{Asked, Subject};
use crate::payment::{
    Attempt, AttemptState, CloseReason, ExchangeKind, Operation, OperationState, Origin, Settled,
    Track, Unconfirmed,
};
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Turn, at_rest};

impl Turn<'_> {
    /// The provider holds (`captured: false`) or took the money of an attempt.
    pub(crate) fn learn(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        captured: bool,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let a = &self.p.attempts[i];
        let had_money = a.state.is_success()
            || matches!(
                a.state,
                AttemptState::RefundDue { .. } | AttemptState::Refunded | AttemptState::Reversed
            );
        let same_charge = match (&a.provider_ref, &fact.provider_ref) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        // 1. Known already; an authorization may have become a capture.
        if had_money && same_charge {
            return self.known_already(i, captured, fact, source, account);
        }
        if had_money {
            return self.second_charge(i, captured, fact);
        }
        // 3. Not our amount: whatever this is, it is not our success.
        if !definite::same_amount(fact, self.p.money.amount, account, &self.p) {
            return self.contradicted(i, "amount_mismatch");
        }
        if let Some(reference) = &fact.provider_ref {
            self.keep_reference(i, reference);
        }
        // 2. A close was sent, so it may have been given back: confirm first.
        if !self.confirmed(i, account, source) {
            let ver = self.p.ver;
            let name = self.p.attempts[i].account.clone();
            if self.p.attempts[i].unconfirmed.is_none() {
                self.p.attempts[i].unconfirmed = Some(Unconfirmed { fact: fact.clone(), ver });
                self.say(&name, "paid, says the provider; to be confirmed after our close", None);
            }
            self.inquire(Subject::Attempt(i));
            return self.look_later(i);
        }
        self.won(i, captured)
    }

    /// 4 to 6: keep it, or give it back.
    pub(crate) fn won(&mut self, i: usize, captured: bool) -> Flow {
        self.p.attempts[i].unconfirmed = None;
        let name = self.p.attempts[i].account.clone();
        let other = self.p.attempts.iter().enumerate().any(|(n, a)| n != i && a.state.is_success());
        let late = self.p.settled.is_some();
        if late && !other && self.may_keep_late(captured) {
            self.kept(i, captured);
            self.p.settled = Some(Settled::Succeeded);
            self.say(&name, "paid after all; kept by the merchant's rule", Some("recovered"));
            return Ok(());
        }
        if other || late {
            let reason = if other { "duplicate_charge" } else { "late_success" };
            self.alert(i, reason);
            self.must_give_back(i, captured);
            return Ok(());
        }
        if self.p.cancel_requested {
            if captured {
                self.say(&name, "paid although canceled; it is given back", Some("canceled"));
                self.must_give_back(i, captured);
            } else {
                self.kept(i, captured);
                self.say(&name, "authorized although canceled; it is voided", Some("canceled"));
            }
            return self.others_lose(i);
        }
        self.kept(i, captured);
        self.say(&name, if captured { "paid" } else { "authorized" }, None);
        self.others_lose(i)
    }

    fn kept(&mut self, i: usize, captured: bool) {
        let a = &mut self.p.attempts[i];
        a.state = AttemptState::Success { captured };
        a.loser = false;
        a.track.tries = 0;
        a.track.since_ms = None;
        a.track.next_ms = None;
        if !at_rest(&self.p, i) {
            self.schedule(i);
        }
    }

    /// Every other live attempt becomes a loser: offers are closed, doubts are never re-sent.
    fn others_lose(&mut self, winner: usize) -> Flow {
        for n in 0..self.p.attempts.len() {
            let a = &mut self.p.attempts[n];
            if n == winner || a.is_over() {
                continue;
            }
            a.loser = true;
            let closable = matches!(a.state, AttemptState::Action | AttemptState::Pending);
            if closable {
                self.close(n, CloseReason::Loser)?;
            }
        }
        Ok(())
    }

    /// A success that must not be kept; an inquiry asked after this version starts the refund.
    pub(crate) fn must_give_back(&mut self, i: usize, captured: bool) {
        let ver = self.p.ver;
        let a = &mut self.p.attempts[i];
        a.state = AttemptState::RefundDue { authorized: !captured };
        a.refund_due_ver = Some(ver);
        a.unconfirmed = None;
        a.track.tries = 0;
        a.track.since_ms = None;
        a.track.next_ms = Some(self.world.now.wall_ms);
        self.inquire(Subject::Attempt(i));
    }

    fn may_keep_late(&self, captured: bool) -> bool {
        let rule = self.world.policy.merchants.get(&self.p.merchant);
        let within = rule.and_then(|m| m.accept_late_ms).is_some_and(|ms| {
            self.world.now.wall_ms <= self.p.created_ms.saturating_add_unsigned(ms)
        });
        within && captured && self.p.settled == Some(Settled::Failed)
    }

    /// Whether this source may be believed although a close was sent (learn 2).
    fn confirmed(&self, i: usize, account: &AccountPolicy, source: &Source) -> bool {
        let a = &self.p.attempts[i];
        if !a.track.was_closed() && a.unconfirmed.is_none() {
            return true;
        }
        let can_ask = self.can_inquire(i, account);
        let may_refund = account.contract.close_of(&a.flow).is_some_and(|c| c.may_refund);
        // Another close that is still on its way may give back what this one found paid.
        let last_word = !may_refund || a.track.open_closes().next().is_none();
        match source {
            Source::Inquiry(asked) => definite::confirms(a, asked, account),
            Source::Answer(ExchangeKind::Close, _) => !can_ask && last_word,
            Source::Notice | Source::Answer(..) => !can_ask && !may_refund,
        }
    }

    /// Whether a "nobody has paid" outweighs a success that waits for its confirmation.
    pub(crate) fn refutes(
        &self,
        i: usize,
        account: &AccountPolicy,
        close_answered: bool,
        asked: Option<&Asked>,
    ) -> bool {
        let a = &self.p.attempts[i];
        match asked {
            Some(asked) => definite::confirms(a, asked, account),
            None => close_answered && !self.can_inquire(i, account),
        }
    }

    fn known_already(
        &mut self,
        i: usize,
        captured: bool,
        fact: &Fact,
        source: &Source,
        account: &AccountPolicy,
    ) -> Flow {
        if let Some(reference) = &fact.provider_ref {
            self.keep_reference(i, reference);
        }
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        match a.state {
            // Captured without a capture of ours: by the provider itself, or in its portal.
            AttemptState::Success { captured: false } if captured => {
                let ours = self.p.operations.iter().any(|o| {
                    o.attempt == i && o.kind == ExchangeKind::Capture && o.state.is_open()
                });
                if ours {
                    return self.hint_operations(i);
                }
                if !definite::same_amount(fact, self.p.money.amount, account, &self.p) {
                    return self.contradicted(i, "amount_mismatch");
                }
                self.say(&name, "captured", None);
                if self.p.cancel_requested && self.p.settled.is_none() {
                    self.must_give_back(i, true);
                    return Ok(());
                }
                self.p.attempts[i].state = AttemptState::Success { captured: true };
                let counted = self.p.sum(ExchangeKind::Capture, i, OperationState::counts);
                let left = self.p.money.amount - counted;
                if self.p.capture == CaptureMode::Manual && left > 0 {
                    self.adopt(i, ExchangeKind::Capture, left, fact);
                }
            }
            // T18: an inquiry asked after it became due confirms it, so it may be given back.
            AttemptState::RefundDue { .. } => {
                if let Source::Inquiry(asked) = source {
                    let due = a.refund_due_ver.is_some_and(|ver| asked.ver >= ver);
                    if due && definite::confirms(a, asked, account) {
                        self.p.attempts[i].state =
                            AttemptState::RefundDue { authorized: !captured };
                        return self.start_give_back(i);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A second charge under one of our numbers: it gets its own record and is given back.
    fn second_charge(&mut self, i: usize, captured: bool, fact: &Fact) -> Flow {
        let reference = fact.provider_ref.clone().unwrap_or_default();
        let known = self.p.attempts.iter().any(|a| a.provider_ref.as_ref() == Some(&reference));
        if known {
            return Ok(());
        }
        let of = &self.p.attempts[i];
        let copy = Attempt {
            id: format!("{}-{}", of.id, self.p.attempts.len()),
            provider_ref: Some(reference.clone()),
            state: AttemptState::RefundDue { authorized: !captured },
            track: Track { next_ms: Some(self.world.now.wall_ms), ..Track::default() },
            offer: None,
            unconfirmed: None,
            refund_due_ver: Some(self.p.ver),
            loser: true,
            manual: false,
            alert: None,
            second_charge_of: Some(i),
            ..of.clone()
        };
        let account = copy.account.clone();
        self.refer(&account, &reference);
        self.p.attempts.push(copy);
        let index = self.p.attempts.len() - 1;
        self.alert(index, "duplicate_charge");
        self.inquire(Subject::Attempt(index));
        Ok(())
    }

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
        let open = self.p.operations.iter().any(|o| {
            o.attempt == i && o.kind == ExchangeKind::Refund && o.state.is_open()
        });
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

    /// All of a charge was given back, so the refunds that were sent before that was asked are done.
    fn refunds_were_made(&mut self, i: usize, source: &Source) {
        let Source::Inquiry(asked) = source else { return };
        for n in 0..self.p.operations.len() {
            let o = &self.p.operations[n];
            let sent = o.track.exchanges.iter().all(|x| x.made_ver <= asked.ver);
            if o.attempt == i && o.kind == ExchangeKind::Refund && o.state.is_open() && sent {
                self.say("engine", "all of it was given back, so the refund is done", None);
                self.complete(n);
            }
        }
    }

    fn refunded_outside_all(&mut self, i: usize, fact: &Fact) -> Flow {
        let rest = self.p.captured_by(i)
            - self.p.sum(ExchangeKind::Refund, i, OperationState::counts);
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
