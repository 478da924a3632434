//! Money was taken: what that means, whoever says it and whenever (SAFETY 2.4).
//!
//! A success is accepted in every state. What remains is whether it must be kept, given back, or
//! first confirmed because one of our closes may have given it back already.

use interlock_plugin_api::{CaptureMode, Fact};

use crate::answers::Source;
use crate::definite;
use crate::exchange::{ExchangeKind, Track};
use crate::input::{Asked, Subject};
use crate::mutant::{self, Mutant};
use crate::operation::OperationState;
use crate::payment::{Attempt, AttemptState, CloseReason, Settled, Unconfirmed};
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
        if mutant::on(Mutant::DropLateSuccess) && (a.is_over() || self.p.settled.is_some()) {
            return Ok(());
        }
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
        if let (Some(reference), None) = (&fact.provider_ref, &self.p.attempts[i].unconfirmed) {
            self.take_reference(i, reference);
        }
        let paid = fact.payer_amount.and_then(|m| account.iso_amount(m.currency, m.amount));
        self.p.attempts[i].payer_amount = paid.or(self.p.attempts[i].payer_amount);
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
            self.keep_late(i);
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

    /// A payment that had failed has succeeded after all.
    pub(crate) fn keep_late(&mut self, i: usize) {
        self.kept(i, true);
        self.p.settled = Some(Settled::Succeeded);
        let name = self.p.attempts[i].account.clone();
        self.say(&name, "paid after all; kept by the merchant's rule", Some("recovered"));
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
        let unanswered = a.track.open_closes().next().is_some();
        if mutant::on(Mutant::SuccessDuringClose)
            || (mutant::on(Mutant::RefundedCloseAsUnpaid) && !unanswered)
        {
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
                let denied = self.p.operations.iter().position(|o| {
                    o.attempt == i && o.kind == ExchangeKind::Capture && o.was_denied()
                });
                if let Some(n) = denied {
                    // Then it was that one, of that amount.
                    self.p.operations[n].not_denied();
                    return self.in_doubt_again(n);
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
            payer_amount: None,
            captured_ms: None,
            second_charge_of: Some(i),
            outside: Vec::new(),
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
}
