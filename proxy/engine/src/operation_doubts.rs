//! Operations whose outcome is unknown: the ladder that attempts have, but never another account.

use interlock_plugin_api::{CredentialForm, Money, Operation as PluginOperation};

use crate::definite::{self, Resend, ResendCase};
use crate::exchange::ExchangeKind;
use crate::input::{Call, Subject};
use crate::mutant::{self, Mutant};
use crate::operation::OperationState;
use crate::resolve::{left, take_over};
use crate::turn::{Flow, Turn};

impl Turn<'_> {
    /// No answer to an operation will come.
    pub(crate) fn operation_lost(&mut self, n: usize, unsent: bool, reason: &str) -> Flow {
        let o = &self.p.operations[n];
        let (name, kind) = (self.p.attempts[o.attempt].account.clone(), o.kind.as_str());
        if o.state != OperationState::Started {
            return Ok(());
        }
        if unsent {
            self.say(&name, format!("{kind} not sent; it is tried again"), Some(reason));
            self.p.operations[n].state = OperationState::Ambiguous;
            return self.operation_later(n);
        }
        let refund = o.kind == ExchangeKind::Refund;
        if refund && mutant::on(Mutant::RefundUnderNewNumber) {
            self.reject(n);
            return Ok(());
        }
        self.say(&name, format!("no answer to the {kind}: in doubt"), Some(reason));
        self.operation_doubt(n)
    }

    /// An operation whose outcome is unknown; fenced at once when it can't be sent again.
    pub(crate) fn operation_doubt(&mut self, n: usize) -> Flow {
        let now = self.world.now.wall_ms;
        let o = &mut self.p.operations[n];
        o.state = OperationState::Ambiguous;
        if o.track.moved() <= 1 {
            o.track.tries = 0;
        }
        o.track.since_ms.get_or_insert(now);
        if self.operation_resend_of(n) == Resend::Never {
            self.fence_operation(n);
        }
        self.inquire(Subject::Operation(n));
        self.operation_later(n)
    }

    /// An operation has come to its time.
    pub(crate) fn operation_due(&mut self, n: usize) -> Flow {
        let now = self.world.now;
        let sending = self.world.sending;
        let account = self.account(self.p.operations[n].attempt);
        let o = &mut self.p.operations[n];
        let waits_for_funds = o.state == OperationState::Pending && o.again;
        match o.state {
            OperationState::Started if sending => {
                o.track.next_ms = Some(now.wall_ms.saturating_add(1_000));
                return Ok(());
            }
            OperationState::Started => {
                self.orphan_operation(n);
                return self.operation_doubt(n);
            }
            _ => {
                if let Some(account) = account {
                    take_over(&mut o.track, now, account, sending);
                }
            }
        }
        if self.p.operations[n].state == OperationState::Ambiguous || waits_for_funds {
            match self.operation_resend_of(n) {
                Resend::Now => return self.resend_operation(n),
                Resend::Never if !waits_for_funds => self.fence_operation(n),
                Resend::Never | Resend::After(_) | Resend::IfBrought => {}
            }
        }
        self.inquire(Subject::Operation(n));
        self.operation_later(n)
    }

    /// Looks again when the ladder says so.
    pub(crate) fn operation_later(&mut self, n: usize) -> Flow {
        let now = self.world.now;
        let ladder = &self.world.policy.ladder;
        let o = &mut self.p.operations[n];
        if !o.state.is_open() {
            return Ok(());
        }
        let tries = o.track.tries;
        o.track.tries = tries.saturating_add(1);
        let since = *o.track.since_ms.get_or_insert(now.wall_ms);
        let mut wait = ladder.wait_ms(tries, self.world.draw).max(50);
        let (attempt, manual, fence, last) =
            (o.attempt, o.manual, o.track.fence, o.track.last_send_by());
        if let (Some(_), Some(last), Some(account)) = (fence, last, self.account(attempt)) {
            let end = left(last, now, account.contract.late_window_ms);
            wait = end.map_or(wait, |end| wait.min(end));
        }
        if let Resend::After(ms) = self.operation_resend_of(n) {
            wait = wait.min(ms.max(50));
        }
        let at = now.wall_ms.saturating_add_unsigned(wait);
        self.p.operations[n].track.next_ms = Some(at);
        let tired = now.wall_ms >= since.saturating_add_unsigned(ladder.give_up_ms);
        if tired && !manual {
            self.p.operations[n].manual = true;
            self.alert(attempt, "operation_tries_exhausted");
        }
        Ok(())
    }

    /// Whether an operation can be looked up.
    pub(crate) fn can_inquire_operation(&self, n: usize) -> bool {
        let o = &self.p.operations[n];
        self.account(o.attempt).is_some_and(|account| {
            let inquiry = account.contract.operation_inquiry;
            account.offers(PluginOperation::InquireOperation)
                && (inquiry.by_our_reference
                    || (inquiry.by_provider_reference && o.operation_ref.is_some()))
        })
    }

    /// Something was said that one of the open operations may explain: ask.
    pub(crate) fn hint_operations(&mut self, attempt: usize) -> Flow {
        for n in 0..self.p.operations.len() {
            let o = &self.p.operations[n];
            if o.attempt == attempt && o.state.is_open() {
                self.inquire(Subject::Operation(n));
            }
        }
        Ok(())
    }

    pub(crate) fn fence_operation(&mut self, n: usize) {
        let ver = self.p.ver;
        let o = &mut self.p.operations[n];
        o.state = OperationState::Fenced;
        if o.track.fence.is_none() {
            o.track.fence = Some(ver);
        }
    }

    fn operation_resend_of(&self, n: usize) -> Resend {
        let o = &self.p.operations[n];
        let (Some(account), Some(x)) = (self.account(o.attempt), o.track.exchanges.last()) else {
            return Resend::Never;
        };
        definite::resend(
            x,
            &ResendCase {
                account,
                track: &o.track,
                now: self.world.now,
                form: CredentialForm::None,
                credential: true,
                details: false,
                loser: false,
                accepted: o.accepted,
                challenges: false,
            },
        )
    }

    fn resend_operation(&mut self, n: usize) -> Flow {
        let o = &self.p.operations[n];
        let (attempt, amount) = (o.attempt, o.amount);
        let (reason, op_id) = (o.reason.clone(), o.op_id.clone());
        let Some(x) = o.track.exchanges.last().cloned() else { return self.operation_later(n) };
        let account = self.subject_account(Subject::Operation(n))?;
        if self.unbuildable(&op_id) {
            if self.refused(&account.name).is_none() {
                self.fence_operation(n);
            }
            return self.operation_later(n);
        }
        let draft = self.draft(Call {
            account: account.name.clone(),
            kind: x.kind,
            op_id,
            amount: Money::new(amount, self.p.currency()),
            attempt,
            method: self.p.attempts[attempt].method.clone(),
            flow: self.p.attempts[attempt].flow.clone(),
            provider_ref: self.p.attempts[attempt].provider_ref.clone(),
            reason,
            reserve: false,
            again: Some(Self::again(&x)),
        })?;
        let mut track = std::mem::take(&mut self.p.operations[n].track);
        let same = self.send_again(&mut track, &x.id, draft, account.timeout_ms);
        self.p.operations[n].track = track;
        if !same {
            self.say("engine", "the request can't be repeated exactly", Some("digest"));
            self.fence_operation(n);
            return self.operation_later(n);
        }
        let what = format!("{} sent again under the same number", x.kind.as_str());
        self.say(&account.name, what, Some("resend"));
        let due = self.world.now.plus(account.timeout_ms + 1_000).wall_ms;
        self.p.operations[n].track.next_ms = Some(due);
        self.p.operations[n].state = OperationState::Started;
        Ok(())
    }
}
