//! What the merchant and the operator want after a payment was made.

use interlock_plugin_api::CaptureMode;

use crate::exchange::ExchangeKind;
use crate::input::{Request, Subject, Verdict};
use crate::intake::failed;
use crate::mutant::{self, Mutant};
use crate::operation::{OperationState, Origin};
use crate::operations::NewOperation;
use crate::payment::{AttemptState, CloseReason, FailReason, Method};
use crate::refusal::Refusal;
use crate::resolve::left;
use crate::route::{self, Shape};
use crate::turn::{Flow, Stop, Turn};

impl Turn<'_> {
    /// A merchant's request; refused without a trace when the state does not admit it.
    pub(crate) fn request(&mut self, request: &Request) -> Flow {
        match request {
            Request::Capture { key, amount } => self.capture(key, *amount),
            Request::Refund { key, amount, reason } => self.refund(key, *amount, reason.clone()),
            Request::Cancel { key: _ } => self.cancel(),
            Request::Confirm { key, details } => self.confirm(key, *details),
            Request::Switch { key: _, method } => self.switch(method),
        }
    }

    /// Captures stay within what was authorized, and never cross a void (2.7).
    fn capture(&mut self, key: &str, amount: Option<i64>) -> Flow {
        if self.asked_before(ExchangeKind::Capture, key) || self.claims(ExchangeKind::Capture, key)
        {
            return Ok(());
        }
        let Some(winner) = self.p.winner_index() else {
            return invalid("only an authorized payment can be captured");
        };
        if self.p.capture == CaptureMode::Automatic {
            return invalid("it is captured automatically");
        }
        let a = &self.p.attempts[winner];
        let canceled = self.p.cancel_requested && !mutant::on(Mutant::CaptureBesideVoid);
        if !a.state.is_success() || a.unconfirmed.is_some() || canceled {
            return invalid("only an authorized payment can be captured");
        }
        if self.voiding(winner) && !mutant::on(Mutant::CaptureBesideVoid) {
            return invalid("it is being voided");
        }
        let taken = self.p.sum(ExchangeKind::Capture, winner, OperationState::counts);
        let left = self.p.money.amount - taken;
        let amount = amount.unwrap_or(left);
        within(amount, left, "more than is left of the authorized amount")?;
        if !self.representable(winner, amount) {
            return unprocessable("the provider has no exact form of this amount");
        }
        self.start_operation(NewOperation {
            kind: ExchangeKind::Capture,
            attempt: winner,
            amount,
            origin: Origin::Merchant,
            reason: None,
            key: &["merchant", key],
        })
    }

    /// Refunds stay within what that attempt captured; refunds of duplicates do not count.
    fn refund(&mut self, key: &str, amount: Option<i64>, reason: Option<String>) -> Flow {
        if self.asked_before(ExchangeKind::Refund, key) || self.claims(ExchangeKind::Refund, key) {
            return Ok(());
        }
        let winner = self
            .p
            .winner_index()
            .filter(|i| self.p.attempts[*i].state == AttemptState::Success { captured: true });
        let Some(winner) = winner else {
            return invalid("only captured money can be refunded");
        };
        let left = self.p.captured_by(winner)
            - self.p.sum(ExchangeKind::Refund, winner, OperationState::counts);
        let amount = amount.unwrap_or(left);
        within(amount, left, "more than is left of the captured amount")?;
        if !self.representable(winner, amount) {
            return unprocessable("the provider has no exact form of this amount");
        }
        self.start_operation(NewOperation {
            kind: ExchangeKind::Refund,
            attempt: winner,
            amount,
            origin: Origin::Merchant,
            reason,
            key: &["merchant", key],
        })
    }

    /// No money is to be taken: offers are closed, holds are voided, a late success is given back.
    fn cancel(&mut self) -> Flow {
        if self.p.settled.is_some() {
            return invalid("it is final");
        }
        if let Some(winner) = self.p.winner_index()
            && self.capturing(winner)
        {
            return invalid("it is being captured");
        }
        if !self.p.cancel_requested {
            self.p.cancel_requested = true;
            self.p.switch = None;
            self.say("merchant", "asked to cancel", None);
        }
        for i in 0..self.p.attempts.len() {
            self.close_live(i, CloseReason::Cancel)?;
        }
        Ok(())
    }

    /// Another method for the same order: the old offer is closed first, then the new one shown.
    fn switch(&mut self, method: &Method) -> Flow {
        if self.p.settled.is_some() || self.p.winner().is_some() || self.p.cancel_requested {
            return invalid("it is final, authorized or being canceled");
        }
        if self.p.restored && !mutant::on(Mutant::TrustBackup) {
            return invalid("it was restored from a backup: nothing new is offered for it");
        }
        let shape = Shape { method, ..Shape::of(&self.p) };
        let Some(route) = route::route_of(self.world.policy, &shape) else {
            return Err(Stop::Refuse(Refusal::NoAccountAvailable {
                route: None,
                skips: Vec::new(),
            }));
        };
        let able = route.candidates.iter().any(|c| {
            let account = self.world.policy.accounts.get(&c.account);
            account.is_some_and(|a| route::capable(a, &shape).is_ok())
        });
        if !able {
            return Err(Stop::Refuse(Refusal::NoAccountAvailable {
                route: Some(route.name.clone()),
                skips: Vec::new(),
            }));
        }
        self.say("merchant", format!("asked to switch to {}", method.kind), None);
        let instant =
            self.world.policy.merchants.get(&self.p.merchant).is_some_and(|m| m.instant_switch);
        if instant {
            return self.switch_at_once(method);
        }
        self.p.switch = Some(method.clone());
        for i in 0..self.p.attempts.len() {
            self.close_live(i, CloseReason::Reoffer)?;
        }
        Ok(())
    }

    /// The declared exception to I6: the new method is shown at once, the loser is given back.
    fn switch_at_once(&mut self, method: &Method) -> Flow {
        for i in 0..self.p.attempts.len() {
            if !self.p.attempts[i].state.is_over() {
                self.p.attempts[i].loser = true;
            }
            self.close_live(i, CloseReason::Loser)?;
        }
        self.offer_instead(method.clone())
    }

    fn close_live(&mut self, i: usize, why: CloseReason) -> Flow {
        match self.p.attempts[i].state {
            AttemptState::Action | AttemptState::Pending | AttemptState::Fenced => {
                self.close(i, why)
            }
            AttemptState::Closing { .. } => {
                self.p.attempts[i].state = AttemptState::Closing { why };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// T20: an operator decides, with evidence; truth that comes later is still accepted.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) -> Flow {
        let who = format!("operator {}", verdict.operator);
        match verdict.subject {
            Subject::Attempt(i) => {
                let Some(a) = self.p.attempts.get(i) else {
                    return Err(Stop::Refuse(Refusal::NotFound));
                };
                let doubtful = a.manual
                    || a.unconfirmed.is_some()
                    || a.state.in_doubt()
                    || matches!(
                        a.state,
                        AttemptState::Closing { .. } | AttemptState::RefundDue { .. }
                    );
                if a.is_over() || a.state.is_success() || !doubtful {
                    return invalid("it is not in doubt");
                }
                if a.state == AttemptState::Started {
                    return invalid("its request is still under way");
                }
                if verdict.moved && self.may_be_given_back(i) {
                    return invalid("a close of ours that may give it back is still unanswered");
                }
                self.say(&who, resolved(verdict.moved), Some(&verdict.evidence));
                let a = &mut self.p.attempts[i];
                a.manual = false;
                if verdict.moved {
                    if let Some(reference) = &verdict.provider_ref {
                        self.keep_reference(i, reference);
                    }
                    return self.won(i, self.p.capture == CaptureMode::Automatic);
                }
                a.unconfirmed = None;
                let due = matches!(a.state, AttemptState::RefundDue { .. });
                a.state = if due { AttemptState::Refunded } else { failed(FailReason::Operator) };
                Ok(())
            }
            Subject::Operation(n) => {
                let Some(o) = self.p.operations.get(n) else {
                    return Err(Stop::Refuse(Refusal::NotFound));
                };
                if !o.state.is_open() || o.state == OperationState::Started {
                    return invalid("it is not in doubt");
                }
                self.say(&who, resolved(verdict.moved), Some(&verdict.evidence));
                self.operator_on_operation(n, verdict.moved);
                Ok(())
            }
        }
    }

    fn operator_on_operation(&mut self, n: usize, moved: bool) {
        self.p.operations[n].manual = false;
        if moved {
            self.complete(n);
        } else {
            self.p.operations[n].denied = true;
            self.reject(n);
        }
    }

    /// A close is on its way that gives back what it finds paid: what is true now is not true then.
    fn may_be_given_back(&self, i: usize) -> bool {
        let Some(account) = self.account(i) else { return false };
        let a = &self.p.attempts[i];
        let window = account.contract.late_window_ms;
        account.contract.close_of(&a.flow).is_some_and(|close| close.may_refund)
            && a.track.open_closes().any(|x| left(x.last_send_by, self.world.now, window).is_some())
    }

    /// One key makes one operation, whichever node is asked and however often (I8).
    fn asked_before(&self, kind: ExchangeKind, key: &str) -> bool {
        self.p.operations.iter().any(|o| o.kind == kind && o.key.as_deref() == Some(key))
    }

    fn voiding(&self, attempt: usize) -> bool {
        self.unsettled(attempt, ExchangeKind::Void)
    }

    fn capturing(&self, attempt: usize) -> bool {
        self.unsettled(attempt, ExchangeKind::Capture)
    }

    fn unsettled(&self, attempt: usize, kind: ExchangeKind) -> bool {
        self.p
            .operations
            .iter()
            .any(|o| o.attempt == attempt && o.kind == kind && o.state.is_open())
    }

    fn representable(&self, attempt: usize, amount: i64) -> bool {
        self.account(attempt)
            .is_some_and(|a| a.provider_amount(self.p.currency(), amount).is_some())
    }
}

fn resolved(moved: bool) -> &'static str {
    if moved { "resolved: the money moved" } else { "resolved: no money moved" }
}

fn invalid(why: &'static str) -> Flow {
    Err(Stop::Refuse(Refusal::InvalidState { why }))
}

fn unprocessable(why: &'static str) -> Flow {
    Err(Stop::Refuse(Refusal::Unprocessable { param: "amount", why }))
}

fn within(amount: i64, left: i64, why: &'static str) -> Flow {
    if left < 1 {
        return invalid("nothing is left of it");
    }
    if amount < 1 {
        return unprocessable("must be at least 1");
    }
    if amount > left { unprocessable(why) } else { Ok(()) }
}
