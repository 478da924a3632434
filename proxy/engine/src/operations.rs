//! Captures, voids and refunds: the same doubts as attempts have, but never another account.
//!
//! The guards on sums are checked where an operation is made, in the same compare-and-swap, so two
//! nodes can't both make the last one. What we give back ourselves (a second charge, a success
//! after a cancel) is confirmed by an inquiry first and stays under caps.

use interlock_plugin_api::{Class, Fact, Operation as PluginOperation, What};

use crate::answers::Source;
use crate::definite::{self, Resend, ResendCase};
use crate::input::{Call, Sent, Subject};
use crate::payment::{
    AttemptState, Exchange, ExchangeKind, Operation, OperationState, Origin, Track,
};
use crate::policy::AccountPolicy;
use crate::route::Refusal;
use crate::turn::{Flow, Stop, Turn};
use crate::{Settled, Stamp};
use interlock_plugin_api::Money;

/// How often a refund of ours is made anew after definite refusals.
const GIVE_BACKS_MAX: usize = 3;

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
        let prefix = match new.kind {
            ExchangeKind::Capture => "cap",
            ExchangeKind::Void => "void",
            _ => "ref",
        };
        let mut parts = vec!["operation", kind, self.p.id.as_str()];
        parts.extend(new.key);
        let op_id = self.world.mint.mint(&parts);
        parts[0] = "operation id";
        let id = format!("{prefix}_{}", self.world.mint.mint(&parts));
        let subject = Subject::Attempt(new.attempt);
        let account = self.subject_account(subject)?;
        if self.unbuildable(&op_id) {
            if new.origin == Origin::Merchant {
                let why = "the plugin could not build the request";
                return Err(Stop::Refuse(Refusal::InvalidState { why }));
            }
            self.alert(new.attempt, "not_prepared");
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
            again: false,
            manual: false,
            provider_code: None,
        });
        Ok(())
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
        match fact.what {
            _ if done => self.operation_done(n, account, fact, source),
            What::Pending => {
                if matches!(
                    o.state,
                    OperationState::Started | OperationState::Ambiguous | OperationState::Fenced
                ) {
                    self.p.operations[n].state = OperationState::Pending;
                    self.p.operations[n].again = fact.class == Some(Class::AccountRestricted);
                    let kind = self.p.operations[n].kind.as_str();
                    let what = format!("{kind} accepted; will decide later");
                    self.say(&account.name, what, fact.provider_code.as_deref());
                }
                self.operation_later(n)
            }
            What::Declined if o.state.is_open() => {
                if definite::declined(fact, &o.track, account) && o.failed_ver.is_none() {
                    self.operation_refused(n, account, fact.provider_code.as_deref());
                    Ok(())
                } else {
                    self.operation_doubt(n)
                }
            }
            What::NotFound if o.state.is_open() => {
                let Source::Inquiry(asked) = source else { return self.operation_later(n) };
                let belief = account.contract.operation_inquiry.not_found;
                if o.state == OperationState::Fenced
                    && definite::not_found(belief, &o.track, asked, account)
                {
                    self.operation_refused(n, account, Some("not_found"));
                    return Ok(());
                }
                self.operation_later(n)
            }
            What::Failed => self.operation_failed(n, account, fact, source),
            What::Unknown | What::Declined | What::NotFound => {
                if matches!(source, Source::Notice) {
                    self.inquire(Subject::Operation(n));
                    return Ok(());
                }
                if o.state == OperationState::Started {
                    let what = format!("{} got an unclear answer: in doubt", o.kind.as_str());
                    self.say(&account.name, what, fact.provider_code.as_deref());
                    return self.operation_doubt(n);
                }
                self.operation_later(n)
            }
            _ => self.operation_later(n),
        }
    }

    fn operation_done(
        &mut self,
        n: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let o = &self.p.operations[n];
        let name = account.name.clone();
        if matches!(o.state, OperationState::Done | OperationState::Rejected) {
            if o.state == OperationState::Rejected {
                let what = format!("{} was refused and is done after all", o.kind.as_str());
                self.say(&name, what, Some("contradiction"));
                self.alert(self.p.operations[n].attempt, "operation_contradiction");
                self.p.operations[n].state = OperationState::Done;
                self.p.operations[n].done_ver = Some(self.p.ver);
            }
            return Ok(());
        }
        // A failure notice may have overtaken this answer: only an inquiry asked after it counts.
        if let Some(failed) = o.failed_ver {
            let later = matches!(source, Source::Inquiry(asked) if asked.ver >= failed);
            if !later {
                if self.can_inquire_operation(n) {
                    self.inquire(Subject::Operation(n));
                } else if o.track.sends(o.kind) > 1 {
                    self.p.operations[n].manual = true;
                    self.alert(self.p.operations[n].attempt, "operation_unclear");
                }
                return self.operation_later(n);
            }
        }
        let partial = o.kind != ExchangeKind::Void
            && !definite::same_amount(fact, o.amount, account, &self.p);
        if partial {
            self.alert(self.p.operations[n].attempt, "amount_mismatch");
            return self.operation_doubt(n);
        }
        let (kind, attempt, amount) = (o.kind, o.attempt, o.amount);
        let ver = self.p.ver;
        let o = &mut self.p.operations[n];
        o.state = OperationState::Done;
        o.done_ver = Some(ver);
        o.failed_ver = None;
        self.say(&name, format!("{} of {amount} done", kind.as_str()), None);
        let a = &mut self.p.attempts[attempt];
        match (kind, &a.state) {
            (ExchangeKind::Capture, AttemptState::Success { captured: false }) => {
                a.state = AttemptState::Success { captured: true };
            }
            (ExchangeKind::Void, AttemptState::Success { captured: false }) => {
                a.state = AttemptState::Reversed;
            }
            (ExchangeKind::Void | ExchangeKind::Refund, AttemptState::RefundDue { .. }) => {
                a.state = AttemptState::Refunded;
                self.say("engine", "the charge that must not be kept was given back", Some("duplicate_refunded"));
            }
            _ => {}
        }
        Ok(())
    }

    fn operation_refused(&mut self, n: usize, account: &AccountPolicy, code: Option<&str>) {
        let o = &mut self.p.operations[n];
        o.state = OperationState::Rejected;
        o.provider_code = code.map(str::to_owned);
        let (kind, attempt) = (o.kind, o.attempt);
        self.say(&account.name, format!("{} refused", kind.as_str()), code);
        if matches!(self.p.attempts[attempt].state, AttemptState::RefundDue { .. }) {
            self.p.attempts[attempt].track.next_ms = None;
            self.schedule(attempt);
        }
        if kind == ExchangeKind::Void && self.p.cancel_requested {
            // The provider no longer voids it (it may have captured by itself): ask what is true.
            self.inquire(Subject::Attempt(attempt));
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
        let o = &self.p.operations[n];
        let name = account.name.clone();
        let code = fact.provider_code.as_deref();
        match o.state {
            OperationState::Done => {
                let after = match source {
                    Source::Inquiry(asked) => o.done_ver.is_some_and(|ver| asked.ver >= ver),
                    _ => true,
                };
                if after {
                    self.operation_reversed(n, &name, code);
                }
                Ok(())
            }
            OperationState::Rejected | OperationState::Reversed => Ok(()),
            _ if definite::declined(fact, &o.track, account) => {
                // After exactly one send the failure is the operation's own end, whether or not
                // its answer is still under way.
                let ver = self.p.ver;
                self.p.operations[n].failed_ver = Some(ver);
                if self.p.operations[n].state != OperationState::Started {
                    self.operation_refused(n, account, code);
                    return Ok(());
                }
                self.inquire(Subject::Operation(n));
                self.operation_later(n)
            }
            _ => {
                let ver = self.p.ver;
                self.p.operations[n].failed_ver = Some(ver);
                self.inquire(Subject::Operation(n));
                self.operation_later(n)
            }
        }
    }

    fn operation_reversed(&mut self, n: usize, name: &str, code: Option<&str>) {
        let o = &mut self.p.operations[n];
        o.state = OperationState::Reversed;
        let (kind, attempt) = (o.kind, o.attempt);
        self.say(name, format!("{} was undone by the provider", kind.as_str()), code);
        let ver = self.p.ver;
        let a = &mut self.p.attempts[attempt];
        match (kind, &a.state) {
            (ExchangeKind::Refund, AttemptState::Refunded) => {
                a.state = AttemptState::RefundDue { authorized: false };
                a.refund_due_ver = Some(ver);
                a.track.next_ms = Some(self.world.now.wall_ms);
                self.inquire(Subject::Attempt(attempt));
            }
            (ExchangeKind::Capture, AttemptState::Success { captured: true }) => {
                a.state = AttemptState::Success { captured: false };
                self.alert(attempt, "capture_reversed");
            }
            _ => {}
        }
    }

    /// No answer to an operation will come.
    pub(crate) fn operation_lost(&mut self, n: usize, sent: Sent, reason: &str) -> Flow {
        let o = &self.p.operations[n];
        let name = self.p.attempts[o.attempt].account.clone();
        if sent == Sent::No && o.track.sends(o.kind) == 0 {
            self.say(&name, format!("{} not sent; it is tried again", o.kind.as_str()), Some(reason));
            self.p.operations[n].state = OperationState::Ambiguous;
            return self.operation_later(n);
        }
        if o.state == OperationState::Started {
            self.say(&name, format!("no answer to the {}: in doubt", o.kind.as_str()), Some(reason));
            return self.operation_doubt(n);
        }
        Ok(())
    }

    /// An operation whose outcome is unknown; fenced at once when it can't be sent again.
    pub(crate) fn operation_doubt(&mut self, n: usize) -> Flow {
        let now = self.world.now.wall_ms;
        let o = &mut self.p.operations[n];
        o.state = OperationState::Ambiguous;
        o.track.tries = 0;
        o.track.since_ms = Some(now);
        if self.operation_resend_of(n) == Resend::Never {
            self.fence_operation(n);
        }
        if self.can_inquire_operation(n) {
            self.inquire(Subject::Operation(n));
        }
        self.operation_later(n)
    }

    /// An operation has come to its time.
    pub(crate) fn operation_due(&mut self, n: usize) -> Flow {
        let now = self.world.now;
        let o = &mut self.p.operations[n];
        for x in &mut o.track.exchanges {
            if x.last_send_by.boot != now.boot {
                x.last_send_by = Stamp { boot: now.boot, mono_ms: now.mono_ms, ..x.last_send_by };
            }
        }
        let waits_for_funds = o.state == OperationState::Pending && o.again;
        match o.state {
            OperationState::Started if self.world.sending => {
                o.track.next_ms = Some(now.wall_ms.saturating_add(1_000));
                return Ok(());
            }
            OperationState::Started => return self.operation_doubt(n),
            _ => {}
        }
        if self.p.operations[n].state == OperationState::Ambiguous || waits_for_funds {
            match self.operation_resend_of(n) {
                Resend::Now => return self.resend_operation(n),
                Resend::After(_) => {}
                Resend::Never if waits_for_funds => {}
                Resend::Never => self.fence_operation(n),
            }
        }
        if self.can_inquire_operation(n) {
            self.inquire(Subject::Operation(n));
        }
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
            let end = last.mono_ms.saturating_add(account.contract.late_window_ms);
            if last.boot == now.boot && end > now.mono_ms {
                wait = wait.min(end - now.mono_ms + 1);
            }
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

    /// What every turn asks: is there an authorization to void because the merchant cancelled?
    pub(crate) fn give_back(&mut self) -> Flow {
        if !self.p.cancel_requested || self.p.settled == Some(Settled::Succeeded) {
            return Ok(());
        }
        let Some(winner) = self.p.winner_index() else { return Ok(()) };
        let held = self.p.attempts[winner].state == AttemptState::Success { captured: false };
        let moving = self.p.operations.iter().any(|o| o.attempt == winner && o.state.is_open());
        let refused = self.p.operations.iter().any(|o| {
            o.attempt == winner
                && o.kind == ExchangeKind::Void
                && o.state == OperationState::Rejected
        });
        if !held || moving || refused {
            return Ok(());
        }
        let money = self.p.money.amount;
        self.start_operation(NewOperation {
            kind: ExchangeKind::Void,
            attempt: winner,
            amount: money,
            origin: Origin::Resolver,
            reason: None,
            key: &["cancel"],
        })
    }

    /// T18 is due: confirm by an inquiry; without one, give it back.
    pub(crate) fn give_back_due(&mut self, i: usize) -> Flow {
        if self.account(i).is_some_and(|account| self.can_inquire(i, account)) {
            self.inquire(Subject::Attempt(i));
            return self.look_later(i);
        }
        self.start_give_back(i)
    }

    /// T18: refunds or voids a charge that must not be kept, under the caps.
    pub(crate) fn start_give_back(&mut self, i: usize) -> Flow {
        let AttemptState::RefundDue { authorized } = self.p.attempts[i].state else {
            return Ok(());
        };
        let mine = |o: &&Operation| o.attempt == i && o.origin == Origin::Resolver;
        let open = self.p.operations.iter().filter(mine).any(|o| o.state.is_open());
        let made = self.p.operations.iter().filter(mine).count();
        if open {
            return self.look_later(i);
        }
        let name = self.p.attempts[i].account.clone();
        let amount = self.p.money.amount;
        if made >= GIVE_BACKS_MAX {
            self.p.attempts[i].manual = true;
            self.alert(i, "refund_refused");
            return self.look_later(i);
        }
        if !self.world.health.refund_cap(&name, amount, self.world.now) {
            self.alert(i, "refund_cap");
            return self.look_later(i);
        }
        let number = made.to_string();
        let kind = if authorized { ExchangeKind::Void } else { ExchangeKind::Refund };
        let attempt = self.p.attempts[i].id.clone();
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

    /// A verified notification: facts that name us by our number or the provider's.
    pub(crate) fn noticed(&mut self, account: &str, reader: u32, facts: &[Fact]) -> Flow {
        for fact in facts {
            let Some(subject) = self.named(account, fact) else {
                self.say(account, "notified about something unknown", Some("unknown_reference"));
                continue;
            };
            let policy = self.subject_account(subject)?;
            let mut fact = definite::believe(fact, 200, policy);
            use What::{Authorized, Captured, Failed, Refunded};
            let positive = matches!(fact.what, Authorized | Captured | Refunded | Failed);
            let track = self.track(subject).clone();
            let reads = track.takers().all(|x| definite::reads(reader, x, policy));
            // Bodies are hints where a key remembers only success, or nothing (2.8).
            let strong = track.takers().all(|x: &Exchange| {
                policy.contract.move_rule(&x.purpose).class
                    == interlock_plugin_api::IdempotencyClass::Strong
            });
            if !positive && (!reads || !strong) {
                fact.what = What::Unknown;
            }
            self.hear(subject, policy, &fact, &Source::Notice)?;
        }
        Ok(())
    }

    /// What a fact of a notification is about: an operation before an attempt, because a payment's
    /// number alone may mean either.
    fn named(&self, account: &str, fact: &Fact) -> Option<Subject> {
        let on = |i: usize| self.p.attempts.get(i).is_some_and(|a| a.account == account);
        let references =
            [&fact.operation_ref, &fact.op_id, &fact.provider_ref].into_iter().flatten();
        let operation = references.clone().find_map(|r| self.p.operation_of(r));
        if let Some(n) = operation.filter(|n| on(self.p.operations[*n].attempt)) {
            return Some(Subject::Operation(n));
        }
        references
            .filter_map(|r| {
                self.p.attempts.iter().position(|a| {
                    a.account == account
                        && (a.op_id == *r || a.provider_ref.as_deref() == Some(r))
                })
            })
            .map(Subject::Attempt)
            .next()
    }

    fn fence_operation(&mut self, n: usize) {
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
                form: interlock_plugin_api::CredentialForm::None,
                credential: true,
                loser: false,
            },
        )
    }

    fn resend_operation(&mut self, n: usize) -> Flow {
        let o = &self.p.operations[n];
        let (attempt, amount, reason, op_id) = (o.attempt, o.amount, o.reason.clone(), o.op_id.clone());
        let Some(x) = o.track.exchanges.last().cloned() else { return self.operation_later(n) };
        let account = self.subject_account(Subject::Operation(n))?;
        if self.unbuildable(&op_id) {
            self.fence_operation(n);
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

fn merchant_key(new: &NewOperation<'_>) -> Option<String> {
    let last = new.key.last().filter(|_| new.origin == Origin::Merchant);
    last.map(|key| (*key).to_owned())
}
