//! Captures, voids and refunds: how they are made, and what is said of them.
//!
//! The guards on sums are checked where an operation is made, in the same compare-and-swap, so two
//! nodes can't both make the last one. A failure may overtake the answer: after it a success counts
//! only from an inquiry that was asked after it.

use interlock_plugin_api::{Class, Fact, Money, What};

use crate::answers::Source;
use crate::definite;
use crate::exchange::{ExchangeKind, Track};
use crate::input::{Call, Subject};
use crate::mutant::{self, Mutant};
use crate::operation::{Operation, OperationState, Origin};
use crate::payment::AttemptState;
use crate::policy::AccountPolicy;
use crate::refusal::Refusal;
use crate::turn::{Flow, MERCHANT_ACTION, Stop, Turn};

/// What makes an operation.
pub(crate) struct NewOperation<'k> {
    pub kind: ExchangeKind,
    pub attempt: usize,
    pub amount: i64,
    pub origin: Origin,
    pub reason: Option<String>,
    /// What its numbers are derived from.
    pub key: &'k [&'k str],
}

impl Turn<'_> {
    /// Makes an operation and its first exchange, in this version.
    pub(crate) fn start_operation(&mut self, new: NewOperation<'_>) -> Flow {
        let kind = new.kind.as_str();
        let (id, op_id) = self.operation_numbers(new.kind, new.key);
        let subject = Subject::Attempt(new.attempt);
        let account = self.subject_account(subject)?;
        if self.unbuildable(&op_id) {
            if let (Origin::Merchant, Some(skip)) = (new.origin, self.refused(&account.name)) {
                let skips = vec![(account.name.clone(), skip)];
                let route = Some(self.p.route.clone());
                return Err(Stop::Refuse(Refusal::NoAccountAvailable { route, skips }));
            }
            if new.origin == Origin::Merchant {
                let why = "the plugin could not build the request";
                return Err(Stop::Refuse(Refusal::InvalidState { why }));
            }
            if self.refused(&account.name).is_none() {
                self.alert(new.attempt, "not_prepared");
            }
            return Ok(());
        }
        let draft = self.draft(Call {
            account: account.name.clone(),
            kind: new.kind,
            op_id: op_id.clone(),
            amount: Money::new(new.amount, self.p.currency()),
            attempt: new.attempt,
            method: self.p.attempts[new.attempt].method.clone(),
            flow: self.p.attempts[new.attempt].flow.clone(),
            provider_ref: self.p.attempts[new.attempt].provider_ref.clone(),
            reason: new.reason.clone(),
            reserve: false,
            again: None,
        })?;
        let x = self.new_exchange(account, new.kind, &op_id, 0, draft);
        let due = x.last_send_by.wall_ms.saturating_add(1_000);
        self.refer(&account.name, &op_id);
        self.announce(&id);
        let actor = match new.origin {
            Origin::Merchant => "merchant",
            Origin::Resolver => "engine",
            Origin::External => account.name.as_str(),
        };
        self.say(actor, format!("{kind} of {}", new.amount), None);
        self.p.operations.push(Operation {
            id,
            kind: new.kind,
            attempt: new.attempt,
            amount: new.amount,
            origin: new.origin,
            key: merchant_key(&new),
            reason: new.reason,
            created_ms: self.world.now.wall_ms,
            op_id,
            operation_ref: None,
            state: OperationState::Started,
            track: Track { exchanges: vec![x], next_ms: Some(due), ..Track::default() },
            failed_ver: None,
            done_ver: None,
            accepted: false,
            again: false,
            manual: false,
            provider_code: None,
            denied: false,
            done_ms: None,
        });
        Ok(())
    }

    /// The id of an operation, and our number of it at the provider.
    pub(crate) fn operation_numbers(&self, kind: ExchangeKind, key: &[&str]) -> (String, String) {
        let prefix = match kind {
            ExchangeKind::Capture => "cap",
            ExchangeKind::Void => "void",
            _ => "ref",
        };
        let mut parts = vec!["operation", kind.as_str(), self.p.id.as_str()];
        parts.extend(key);
        let op_id = self.world.mint.mint(&parts);
        parts[0] = "operation id";
        (format!("{prefix}_{}", self.world.mint.mint(&parts)), op_id)
    }

    /// One fact about an operation.
    pub(crate) fn hear_operation(
        &mut self,
        n: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        if let Some(reference) = &fact.operation_ref
            && self.p.operations[n].operation_ref.is_none()
        {
            self.p.operations[n].operation_ref = Some(reference.clone());
            self.refer(&account.name, reference);
        }
        let o = &self.p.operations[n];
        let done = match o.kind {
            ExchangeKind::Capture => fact.what == What::Captured,
            ExchangeKind::Void => matches!(fact.what, What::Voided | What::ClosedUnpaid),
            _ => fact.what == What::Refunded,
        };
        let code = fact.provider_code.as_deref();
        match fact.what {
            _ if done => self.operation_done(n, account, fact, source),
            What::Failed => self.operation_failed(n, account, fact, source),
            _ if !o.state.is_open() => Ok(()),
            What::Pending => self.operation_accepted(n, account, fact),
            What::Declined => {
                let behind_fence = match source {
                    Source::Inquiry(asked) => {
                        definite::asked_behind_fence(&o.track, asked, account)
                    }
                    _ => false,
                };
                if behind_fence || definite::declined(fact, &o.track, account) {
                    self.operation_refused(n, account, code);
                    return Ok(());
                }
                self.operation_unclear(n, account, fact, source)
            }
            What::NotFound => {
                let Source::Inquiry(asked) = source else { return self.operation_later(n) };
                let belief = account.contract.operation_inquiry.not_found;
                if o.state == OperationState::Fenced
                    && definite::not_found(belief, &o.track, asked, account)
                {
                    let said = o.provider_code.clone().unwrap_or_else(|| "not_found".into());
                    self.operation_refused(n, account, Some(&said));
                    return Ok(());
                }
                self.operation_later(n)
            }
            _ => self.operation_unclear(n, account, fact, source),
        }
    }

    fn operation_accepted(&mut self, n: usize, account: &AccountPolicy, fact: &Fact) -> Flow {
        if fact.class == Some(Class::MerchantAction) {
            // It goes on only when somebody has done something in the provider's portal.
            self.alert(self.p.operations[n].attempt, MERCHANT_ACTION);
        }
        let o = &mut self.p.operations[n];
        if matches!(o.state, OperationState::Started | OperationState::Ambiguous) {
            o.state = OperationState::Pending;
            o.again = fact.class == Some(Class::AccountRestricted);
            o.accepted |= !o.again;
            let what = format!("{} accepted; will decide later", o.kind.as_str());
            self.say(&account.name, what, fact.provider_code.as_deref());
        }
        self.operation_later(n)
    }

    fn operation_unclear(
        &mut self,
        n: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let o = &self.p.operations[n];
        if matches!(source, Source::Notice) {
            self.inquire(Subject::Operation(n));
            return Ok(());
        }
        let answered = o.state == OperationState::Started && matches!(source, Source::Answer(..));
        let taken_back = o.state == OperationState::Pending && fact.what == What::Declined;
        if answered || taken_back {
            let what = format!("{} got an unclear answer: in doubt", o.kind.as_str());
            let remembers = definite::strong(&o.track, account);
            self.say(&account.name, what, fact.provider_code.as_deref());
            // If it turns out not to have happened, this is the only reason that anybody gave.
            self.p.operations[n].provider_code.clone_from(&fact.provider_code);
            if fact.what == What::Declined && !remembers {
                // One more copy would be one more try, and would prove nothing about this one.
                self.fence_operation(n);
                self.inquire(Subject::Operation(n));
                return self.operation_later(n);
            }
            return self.operation_doubt(n);
        }
        self.operation_later(n)
    }

    fn operation_done(
        &mut self,
        n: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let o = &self.p.operations[n];
        let (kind, attempt, amount) = (o.kind, o.attempt, o.amount);
        let name = account.name.clone();
        match o.state {
            OperationState::Done => return Ok(()),
            OperationState::Reversed => return self.undone_is_done(n, account, source),
            _ => {}
        }
        // A failure may have overtaken this answer: only an inquiry asked after it counts.
        if let Some(failed) = o.failed_ver.filter(|_| !mutant::on(Mutant::ForgetEarlyFailure)) {
            let later = matches!(source, Source::Inquiry(asked) if asked.ver >= failed);
            if !later {
                return self.overtaken(n, account);
            }
        }
        if kind != ExchangeKind::Void && !definite::same_amount(fact, amount, account, &self.p) {
            self.alert(attempt, "amount_mismatch");
            return self.operation_unclear(n, account, &Fact::new(What::Unknown), source);
        }
        if o.state == OperationState::Rejected {
            let what = format!("{} was refused and is done after all", kind.as_str());
            self.say(&name, what, Some("contradiction"));
            self.alert(attempt, "operation_contradiction");
            // What was refused was left out of the sums, and may have been made anew since: the
            // provider will refuse one of the two, and what is asked from now on says which.
            if !self.fits(n) {
                return self.in_doubt_again(n);
            }
        }
        self.say(&name, format!("{} of {amount} done", kind.as_str()), None);
        self.complete(n);
        Ok(())
    }

    /// An older "ok" after a failure. It proves nothing: ask where that is possible.
    fn overtaken(&mut self, n: usize, account: &AccountPolicy) -> Flow {
        let o = &self.p.operations[n];
        if !o.state.is_open() {
            return Ok(());
        }
        if self.can_inquire_operation(n) {
            self.inquire(Subject::Operation(n));
        } else if definite::strong(&o.track, account) {
            self.operation_refused(n, account, Some("failed"));
            return Ok(());
        } else {
            // Re-sent under a key that remembers only success: nothing tells which copy it was.
            let attempt = o.attempt;
            self.p.operations[n].manual = true;
            self.alert(attempt, "operation_unclear");
        }
        self.operation_later(n)
    }

    /// What was undone is said to be done: an older word, unless it was sent more than once under a
    /// key that remembers only success. Then another copy may have been executed, and it is a doubt
    /// again.
    fn undone_is_done(&mut self, n: usize, account: &AccountPolicy, source: &Source) -> Flow {
        let o = &self.p.operations[n];
        let (kind, attempt) = (o.kind.as_str(), o.attempt);
        if definite::strong(&o.track, account) || o.track.moved() <= 1 {
            return Ok(());
        }
        let what = format!("{kind} was undone and is said to be done");
        self.say(&account.name, what, Some("contradiction"));
        if !self.fits(n) {
            self.alert(attempt, "operation_contradiction");
            return Ok(());
        }
        let undone = self.p.operations[n].failed_ver;
        if matches!(source, Source::Inquiry(asked) if undone.is_some_and(|ver| asked.ver >= ver)) {
            self.complete(n);
            return Ok(());
        }
        self.in_doubt_again(n)
    }

    /// Which of several copies was meant can't be told; only what is asked from now on decides.
    pub(crate) fn in_doubt_again(&mut self, n: usize) -> Flow {
        let attempt = self.p.operations[n].attempt;
        self.fence_operation(n);
        let track = &mut self.p.operations[n].track;
        (track.tries, track.since_ms) = (0, None);
        if self.can_inquire_operation(n) {
            self.inquire(Subject::Operation(n));
        } else {
            self.p.operations[n].manual = true;
            self.alert(attempt, "operation_unclear");
        }
        self.operation_later(n)
    }

    /// Whether the sums admit an operation that was left out of them.
    fn fits(&self, n: usize) -> bool {
        let o = &self.p.operations[n];
        let bound = match o.kind {
            ExchangeKind::Capture => self.p.money.amount,
            ExchangeKind::Refund if o.origin == Origin::Merchant => self.p.captured_by(o.attempt),
            _ => return true,
        };
        let counted = self.p.sum(o.kind, o.attempt, OperationState::counts);
        counted.saturating_add(o.amount) <= bound
    }

    /// An operation is done: what that makes of its attempt.
    pub(crate) fn complete(&mut self, n: usize) {
        let ver = self.p.ver;
        let o = &mut self.p.operations[n];
        o.state = OperationState::Done;
        o.done_ver = Some(ver);
        o.failed_ver = None;
        let (kind, attempt) = (o.kind, o.attempt);
        let a = &mut self.p.attempts[attempt];
        match (kind, &a.state) {
            (ExchangeKind::Capture, AttemptState::Success { captured: false }) => {
                a.state = AttemptState::Success { captured: true };
            }
            (ExchangeKind::Void, AttemptState::Success { captured: false }) => {
                a.state = AttemptState::Reversed;
                // The shopper was let go; no other account is tried.
                self.p.cancel_requested |= self.p.settled.is_none();
            }
            (ExchangeKind::Void | ExchangeKind::Refund, AttemptState::RefundDue { .. }) => {
                a.state = AttemptState::Refunded;
                let what = "the charge that must not be kept was given back";
                self.say("engine", what, Some("duplicate_refunded"));
            }
            _ => {}
        }
    }

    pub(crate) fn operation_refused(
        &mut self,
        n: usize,
        account: &AccountPolicy,
        code: Option<&str>,
    ) {
        let o = &mut self.p.operations[n];
        o.provider_code = code.map(str::to_owned);
        let kind = o.kind;
        self.say(&account.name, format!("{} refused", kind.as_str()), code);
        self.reject(n);
    }

    /// An operation is proven not to have happened: what that makes of its attempt.
    pub(crate) fn reject(&mut self, n: usize) {
        let o = &mut self.p.operations[n];
        o.state = OperationState::Rejected;
        let (kind, attempt) = (o.kind, o.attempt);
        if o.done_ver.is_some() {
            o.state = OperationState::Reversed;
            self.undo(n);
        }
        let held = self.p.cancel_requested
            && kind == ExchangeKind::Void
            && self.p.attempts[attempt].state.is_success();
        if matches!(self.p.attempts[attempt].state, AttemptState::RefundDue { .. }) {
            // What was asked before may have seen it done: inquiries in flight are void.
            self.p.attempts[attempt].refund_due_ver = Some(self.p.ver);
        }
        if held || matches!(self.p.attempts[attempt].state, AttemptState::RefundDue { .. }) {
            // It may have been captured or given back by itself: ask what is true.
            self.look_soon(attempt);
        }
        let ours = self.p.operations[n].origin == Origin::Resolver;
        if ours && self.p.attempts[attempt].state == AttemptState::Refunded {
            // It was taken for given back while this was open, and this was not it, or bounced.
            self.must_give_back(attempt, kind != ExchangeKind::Void);
        }
    }

    /// A failure notice is durable in any state and may overtake the answer.
    fn operation_failed(
        &mut self,
        n: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let ver = self.p.ver;
        let o = &mut self.p.operations[n];
        let code = fact.provider_code.as_deref();
        match o.state {
            OperationState::Done => {
                let after = match source {
                    Source::Inquiry(asked) => o.done_ver.is_some_and(|ver| asked.ver >= ver),
                    Source::Notice => true,
                    Source::Answer(..) => false,
                };
                if !after {
                    return Ok(());
                }
                // Of several copies another one may have failed than the one that was done.
                let one = definite::strong(&o.track, account) || o.track.moved() <= 1;
                if one || !matches!(source, Source::Notice) {
                    self.operation_reversed(n, &account.name, code);
                    return Ok(());
                }
                o.failed_ver = Some(ver);
                let what = format!("{} is done and is said to have failed", o.kind.as_str());
                if o.kind == ExchangeKind::Capture {
                    self.undo(n);
                }
                self.say(&account.name, what, Some("contradiction"));
                self.in_doubt_again(n)
            }
            OperationState::Rejected | OperationState::Reversed => {
                // Whatever is still on its way was asked before it.
                if matches!(source, Source::Notice) {
                    o.failed_ver = Some(ver);
                    self.given_back_in_vain(n);
                }
                Ok(())
            }
            _ => {
                let asked_late = match source {
                    Source::Inquiry(asked) => {
                        definite::asked_behind_fence(&o.track, asked, account)
                    }
                    _ => false,
                };
                if !matches!(source, Source::Inquiry(_)) || o.failed_ver.is_none() {
                    o.failed_ver = Some(ver);
                }
                // After one send, or under a key that means one execution, the failure is the
                // operation's own end, whether or not its answer is still under way.
                let own_end = definite::strong(&o.track, account)
                    || definite::declined(fact, &o.track, account);
                if own_end || asked_late {
                    self.p.operations[n].failed_ver = Some(ver);
                    self.operation_refused(n, account, code);
                    return Ok(());
                }
                // One of several copies failed: nothing more is sent, and what is asked when no
                // copy can arrive any more decides.
                self.fence_operation(n);
                if matches!(source, Source::Notice) {
                    self.inquire(Subject::Operation(n));
                }
                self.operation_later(n)
            }
        }
    }

    /// An attempt was found given back, and what had done it was denied by an operator: if it
    /// fails, somebody must ask again.
    fn given_back_in_vain(&mut self, n: usize) {
        let o = &self.p.operations[n];
        let (attempt, kind) = (o.attempt, o.kind);
        let ours = o.origin == Origin::Resolver;
        let done = |o: &Operation| o.attempt == attempt && o.state == OperationState::Done;
        let explained = self.p.operations.iter().any(done);
        if ours && !explained && self.p.attempts[attempt].state == AttemptState::Refunded {
            self.must_give_back(attempt, kind != ExchangeKind::Void);
        }
    }

    fn operation_reversed(&mut self, n: usize, name: &str, code: Option<&str>) {
        let ver = self.p.ver;
        let o = &mut self.p.operations[n];
        o.state = OperationState::Reversed;
        o.failed_ver = Some(ver);
        let kind = o.kind.as_str();
        self.say(name, format!("{kind} was undone by the provider"), code);
        self.undo(n);
    }

    /// What an operation that was done and is not any more makes of its attempt.
    fn undo(&mut self, n: usize) {
        let o = &self.p.operations[n];
        let (kind, attempt) = (o.kind, o.attempt);
        let sum = self.p.sum(ExchangeKind::Capture, attempt, |s| s == OperationState::Done);
        let own = if o.state == OperationState::Done { o.amount } else { 0 };
        let left = if kind == ExchangeKind::Capture { sum - own } else { sum };
        let a = &mut self.p.attempts[attempt];
        match (kind, &a.state) {
            (ExchangeKind::Refund, AttemptState::Refunded) => self.must_give_back(attempt, true),
            (ExchangeKind::Void, AttemptState::Refunded | AttemptState::Reversed) => {
                self.must_give_back(attempt, false);
            }
            (ExchangeKind::Capture, AttemptState::Success { captured: true }) if left == 0 => {
                a.state = AttemptState::Success { captured: false };
                self.alert(attempt, "capture_reversed");
            }
            (ExchangeKind::Capture, AttemptState::Success { .. }) => {
                self.alert(attempt, "capture_reversed");
            }
            _ => {}
        }
    }
}

fn merchant_key(new: &NewOperation<'_>) -> Option<String> {
    let last = new.key.last().filter(|_| new.origin == Origin::Merchant);
    last.map(|key| (*key).to_owned())
}
