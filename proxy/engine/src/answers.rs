//! What the provider said about an attempt, or that it said nothing: T2 to T6, T10, T11, T14, T15.

use interlock_plugin_api::{Class, Fact, What};

use crate::definite;
use crate::input::{Asked, Draft, Sent, Subject};
use crate::intake::failed;
use crate::payment::{
    AttemptState, CloseReason, ExchangeKind, FailReason, Offer, Reply,
};
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Stop, Turn};
use crate::Refusal;

/// Where a fact comes from: that decides what it may prove.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The answer to an exchange of this kind and id.
    Answer(ExchangeKind, String),
    /// An inquiry.
    Inquiry(Asked),
    /// A verified notification.
    Notice,
}

impl Turn<'_> {
    /// The provider answered an exchange.
    pub(crate) fn heard(&mut self, id: &str, status: u16, reader: u32, facts: &[Fact]) -> Flow {
        let subject = self.subject_of(id)?;
        let now = self.world.now;
        let ver = self.p.ver;
        let x = self.exchange_mut(subject, id)?;
        x.reply = Reply::Answered { server_error: status >= 500 };
        x.answered_ver = Some(ver);
        if x.last_send_by.boot == now.boot && now.mono_ms < x.last_send_by.mono_ms {
            x.last_send_by = now;
        }
        let x = x.clone();
        let account = self.subject_account(subject)?;
        let silent = [Fact::new(What::Unknown)];
        let facts = if facts.is_empty() { &silent } else { facts };
        for fact in facts {
            let mut fact = definite::believe(fact, status, account);
            let positive = matches!(fact.what, What::Authorized | What::Captured | What::Refunded);
            if !positive && !definite::reads(reader, &x, account) {
                fact.what = What::Unknown;
            }
            let source = Source::Answer(x.kind, x.id.clone());
            self.hear(subject, account, &fact, &source)?;
        }
        Ok(())
    }

    /// The plugin goes on with another request: a new exchange of the same attempt.
    pub(crate) fn goes_on(&mut self, id: &str, draft: &Draft) -> Flow {
        let subject = self.subject_of(id)?;
        let account = self.subject_account(subject)?;
        let ver = self.p.ver;
        let x = self.exchange_mut(subject, id)?;
        x.reply = Reply::Answered { server_error: false };
        x.answered_ver = Some(ver);
        let (kind, op_id) = (x.kind, x.op_id.clone());
        let number = self.track(subject).exchanges.len();
        let next = self.new_exchange(account, kind, &op_id, number, draft);
        self.track(subject).exchanges.push(next);
        Ok(())
    }

    /// No answer will come; the socket is closed, so nothing of this send leaves any more.
    pub(crate) fn lost(&mut self, id: &str, sent: Sent, reason: &str) -> Flow {
        let subject = self.subject_of(id)?;
        let now = self.world.now;
        let x = self.exchange_mut(subject, id)?;
        if x.last_send_by.boot == now.boot && now.mono_ms < x.last_send_by.mono_ms {
            x.last_send_by = now;
        }
        match sent {
            Sent::No => {
                x.reply = Reply::NotSent;
                x.sends = x.sends.saturating_sub(1);
            }
            Sent::Maybe => x.reply = Reply::Lost,
        }
        let (kind, sends) = (x.kind, x.sends);
        match subject {
            Subject::Operation(index) => self.operation_lost(index, sent, reason),
            Subject::Attempt(index) => self.attempt_lost(index, kind, sends, sent, reason),
        }
    }

    fn attempt_lost(
        &mut self,
        index: usize,
        kind: ExchangeKind,
        sends: u32,
        sent: Sent,
        reason: &str,
    ) -> Flow {
        let account = self.p.attempts[index].account.clone();
        match (kind, sent) {
            (ExchangeKind::Close, _) => {
                self.say(&account, "no answer to the close", Some(reason));
                self.look_soon(index);
                return Ok(());
            }
            // T2: the socket proves that no byte of the only send left.
            (_, Sent::No) if sends == 0 && self.p.attempts[index].sends() == 0 => {
                self.say(&account, "not sent", Some(reason));
                self.p.attempts[index].state = failed(FailReason::NotSent);
                return Ok(());
            }
            (ExchangeKind::Continue, Sent::No) => {
                self.say(&account, "not sent; the shopper may try again", Some(reason));
                self.p.attempts[index].state = AttemptState::Action;
                return Ok(());
            }
            _ => {}
        }
        if self.p.attempts[index].state != AttemptState::Started {
            return Ok(());
        }
        // T3: what was never shown can't be paid.
        if self.only_offers(index) {
            self.say(&account, "no answer; the offer was never shown", Some(reason));
            self.p.attempts[index].state = failed(FailReason::NotOffered);
            return Ok(());
        }
        self.say(&account, "no answer after sending: in doubt, no other account is tried", Some(reason));
        self.into_doubt(index)
    }

    /// One fact about an attempt or an operation.
    pub(crate) fn hear(
        &mut self,
        subject: Subject,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        match subject {
            Subject::Attempt(index) => self.hear_attempt(index, account, fact, source),
            Subject::Operation(index) => self.hear_operation(index, account, fact, source),
        }
    }

    fn hear_attempt(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let negative = !matches!(fact.what, What::Authorized | What::Captured);
        if let (true, Some(reference)) = (negative, &fact.provider_ref) {
            self.keep_reference(i, reference);
        }
        let over = self.p.attempts[i].state.is_over()
            || matches!(self.p.attempts[i].state, AttemptState::RefundDue { .. });
        let won = self.p.attempts[i].state.is_success();
        match fact.what {
            What::Authorized => self.learn(i, account, false, fact, source),
            What::Captured => self.learn(i, account, true, fact, source),
            What::Refunded => self.refunded_outside(i, account, fact),
            What::ClosedRefunded => self.given_back(i, fact, source),
            What::Voided if won || !over => self.released(i, fact),
            // T16: what is over stays over; the contradiction is written down.
            _ if over || won => {
                if fact.what != What::Unknown {
                    let said = format!("said {:?} after the end", fact.what).to_lowercase();
                    let name = self.p.attempts[i].account.clone();
                    self.say(&name, said, fact.provider_code.as_deref());
                }
                Ok(())
            }
            What::Action => self.must_act(i, account, fact),
            What::Pending => self.will_decide(i, fact),
            What::Declined => self.declined(i, account, fact),
            What::NotFound => self.not_found(i, account, source),
            What::ClosedUnpaid => self.closed(i, account, source, true),
            What::ClosedNothingFound => self.closed(i, account, source, false),
            What::Expired => self.expired(i),
            What::Voided | What::Failed | What::Unknown => self.unclear(i, fact, source),
        }
    }

    /// T4: what to show, durable before it is shown; or the order was seen, still payable.
    fn must_act(&mut self, i: usize, account: &AccountPolicy, fact: &Fact) -> Flow {
        let now = self.world.now;
        let same = definite::same_amount(fact, self.p.money.amount, account, &self.p);
        let a = &mut self.p.attempts[i];
        let Some(action) = &fact.action else {
            a.order_seen = true;
            return self.will_decide(i, fact);
        };
        if !same {
            return self.contradicted(i, "amount_mismatch");
        }
        let waiting = matches!(
            a.state,
            AttemptState::Started
                | AttemptState::Ambiguous
                | AttemptState::Pending
                | AttemptState::Fenced
        );
        if waiting && !self.p.cancel_requested && !a.loser {
            let made = a.first().map_or(now, |x| x.last_send_by);
            let made_ms = a.first().map_or(now.wall_ms, |x| x.made_ms);
            a.offer = Some(Offer { action: action.clone(), made_ms, made });
            a.state = AttemptState::Action;
            a.track.tries = 0;
            a.track.next_ms = None;
            let (name, kind) = (a.account.clone(), action.kind.clone());
            self.say(&name, format!("the shopper must act: {kind}"), None);
            self.schedule(i);
        } else if waiting {
            // Nobody will see it, but it exists: close it where that is possible.
            a.offer = Some(Offer { action: action.clone(), made_ms: now.wall_ms, made: now });
            return self.close(i, CloseReason::Cancel);
        }
        Ok(())
    }

    /// T5: the provider accepted and will decide later.
    fn will_decide(&mut self, i: usize, fact: &Fact) -> Flow {
        let a = &mut self.p.attempts[i];
        a.order_seen = true;
        let shown = a.offer.is_some();
        let becomes = match a.state {
            AttemptState::Started | AttemptState::Ambiguous | AttemptState::Fenced => true,
            AttemptState::Action => !shown,
            _ => false,
        };
        if becomes {
            a.state = AttemptState::Pending;
            let name = a.account.clone();
            self.say(&name, "accepted; will decide later", fact.provider_code.as_deref());
        }
        self.schedule(i);
        Ok(())
    }

    /// T15, T10: a decline, if it is definite.
    fn declined(&mut self, i: usize, account: &AccountPolicy, fact: &Fact) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        if fact.class == Some(Class::Duplicate) {
            return self.unclear(i, fact, &Source::Notice);
        }
        // Once an offer was shown the same code can be paid again after a decline.
        if a.offer.is_some() {
            self.say(&name, "declined; the offer can still be paid", fact.provider_code.as_deref());
            self.schedule(i);
            return Ok(());
        }
        if !definite::declined(fact, &a.track, account) {
            self.say(&name, "declined, but not definitely", fact.provider_code.as_deref());
            return self.into_doubt(i);
        }
        self.say(&name, "declined", fact.provider_code.as_deref());
        self.p.attempts[i].state = AttemptState::Failed {
            reason: FailReason::Declined,
            class: fact.class,
            provider_code: fact.provider_code.clone(),
            advice: fact.advice,
        };
        Ok(())
    }

    /// T10 and T14: nothing under our number.
    fn not_found(&mut self, i: usize, account: &AccountPolicy, source: &Source) -> Flow {
        let Source::Inquiry(asked) = source else { return self.look_later(i) };
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        if a.offer.is_some() {
            return if self.offer_over(i, account, asked) {
                self.expired(i)
            } else {
                self.look_later(i)
            };
        }
        let waits = matches!(a.state, AttemptState::Fenced | AttemptState::Closing { .. });
        let belief = account.contract.inquiry.not_found;
        if waits && a.unconfirmed.is_none() && definite::not_found(belief, &a.track, asked, account)
        {
            self.say(&name, "not found, asked after the late window", Some("not_found"));
            self.p.attempts[i].state = failed(FailReason::NotFound);
            return Ok(());
        }
        self.say(&name, "not found yet; a provider may be late", Some("not_found"));
        if matches!(self.p.attempts[i].state, AttemptState::Started | AttemptState::Pending) {
            self.into_doubt(i)?;
        }
        self.close_doubt(i)
    }

    /// T11: the provider closed it, or found nothing to close.
    fn closed(&mut self, i: usize, account: &AccountPolicy, source: &Source, unpaid: bool) -> Flow {
        let a = &self.p.attempts[i];
        let (name, flow) = (a.account.clone(), a.flow.clone());
        let answered = match source {
            Source::Answer(ExchangeKind::Close, id) => a.track.exchange(id),
            _ => None,
        };
        let definite = if unpaid {
            definite::closed_unpaid(a, &flow, account)
        } else {
            definite::nothing_found(a, answered, &flow, account)
        };
        let standing = matches!(
            a.state,
            AttemptState::Fenced
                | AttemptState::Action
                | AttemptState::Pending
                | AttemptState::Closing { .. }
                | AttemptState::Ambiguous
        );
        if a.unconfirmed.is_some() {
            // A success was heard before; a close that found nothing does not undo it.
            self.alert(i, "close_contradicts_success");
            return self.look_later(i);
        }
        if definite && standing {
            self.say(&name, "closed; nobody had paid", Some("closed"));
            self.p.attempts[i].state = failed(FailReason::Closed);
            return Ok(());
        }
        let found = if unpaid { "closed, but a copy may be late" } else { "found nothing to close" };
        self.say(&name, found, Some("closing"));
        self.look_later(i)
    }

    /// T14: the offer lapsed.
    fn expired(&mut self, i: usize) -> Flow {
        let a = &mut self.p.attempts[i];
        let name = a.account.clone();
        let standing = matches!(
            a.state,
            AttemptState::Action | AttemptState::Closing { .. } | AttemptState::Pending
        );
        if standing && a.unconfirmed.is_none() {
            a.state = failed(FailReason::Expired);
            self.say(&name, "expired unpaid", Some("expired"));
            return Ok(());
        }
        self.look_later(i)
    }

    /// T6: what the answer means for the money can't be told.
    fn unclear(&mut self, i: usize, fact: &Fact, source: &Source) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        match (&a.state, source) {
            (AttemptState::Started, Source::Answer(..)) if self.only_offers(i) => {
                self.say(&name, "no usable offer", fact.provider_code.as_deref());
                self.p.attempts[i].state = failed(FailReason::NotOffered);
                Ok(())
            }
            (AttemptState::Started, Source::Answer(..)) => {
                let code = fact.provider_code.as_deref();
                self.say(&name, "unclear answer: in doubt, no other account is tried", code);
                self.into_doubt(i)
            }
            (_, Source::Notice) => {
                self.inquire(Subject::Attempt(i));
                Ok(())
            }
            (_, Source::Answer(ExchangeKind::Close, _)) => {
                self.say(&name, "unclear answer to the close", fact.provider_code.as_deref());
                self.inquire(Subject::Attempt(i));
                self.look_later(i)
            }
            (_, Source::Inquiry(_)) => self.close_doubt(i),
            _ => self.look_later(i),
        }
    }

    /// What the provider says can't be true of our payment.
    pub(crate) fn contradicted(&mut self, i: usize, alert: &'static str) -> Flow {
        self.alert(i, alert);
        if self.p.attempts[i].state == AttemptState::Started {
            self.p.attempts[i].state = AttemptState::Ambiguous;
        }
        self.look_later(i)
    }

    /// Marks something that an operator should know.
    pub(crate) fn alert(&mut self, i: usize, alert: &'static str) {
        if self.p.attempts[i].alert.as_deref() != Some(alert) {
            self.p.attempts[i].alert = Some(alert.to_owned());
            let name = self.p.attempts[i].account.clone();
            self.say(&name, "alert", Some(alert));
        }
    }

    /// Keeps the provider's number of an attempt.
    pub(crate) fn keep_reference(&mut self, i: usize, reference: &str) {
        if self.p.attempts[i].provider_ref.is_none() {
            self.p.attempts[i].provider_ref = Some(reference.to_owned());
            let account = self.p.attempts[i].account.clone();
            self.refer(&account, reference);
        }
    }

    /// Whether everything sent for an attempt was an offer that has not been shown.
    pub(crate) fn only_offers(&self, i: usize) -> bool {
        let a = &self.p.attempts[i];
        let offer = |x: &crate::Exchange| x.effect == interlock_plugin_api::Effect::Offer;
        a.offer.is_none() && a.track.takers().all(offer)
    }

    /// Whether an inquiry was asked after the provider's own end of an offer.
    fn offer_over(&self, i: usize, account: &AccountPolicy, asked: &Asked) -> bool {
        let (Some(offer), Some(expiry)) =
            (&self.p.attempts[i].offer, account.contract.offer_expiry)
        else {
            return false;
        };
        asked.at.saw_pass(offer.made, expiry.after_ms + expiry.margin_ms)
    }

    pub(crate) fn subject_of(&self, exchange: &str) -> Result<Subject, Stop> {
        let has = |track: &crate::Track| track.exchange(exchange).is_some();
        let attempt = self.p.attempts.iter().position(|a| has(&a.track)).map(Subject::Attempt);
        let operation = || self.p.operations.iter().position(|o| has(&o.track));
        attempt
            .or_else(|| operation().map(Subject::Operation))
            .ok_or(Stop::Refuse(Refusal::NotFound))
    }

    fn exchange_mut(&mut self, subject: Subject, id: &str) -> Result<&mut crate::Exchange, Stop> {
        self.track(subject)
            .exchanges
            .iter_mut()
            .find(|x| x.id == id)
            .ok_or(Stop::Refuse(Refusal::NotFound))
    }

    pub(crate) fn track(&mut self, subject: Subject) -> &mut crate::Track {
        match subject {
            Subject::Attempt(index) => &mut self.p.attempts[index].track,
            Subject::Operation(index) => &mut self.p.operations[index].track,
        }
    }
}

impl<'a> Turn<'a> {
    pub(crate) fn subject_account(&self, subject: Subject) -> Result<&'a AccountPolicy, Stop> {
        let attempt = match subject {
            Subject::Attempt(index) => Some(index),
            Subject::Operation(index) => self.p.operations.get(index).map(|o| o.attempt),
        };
        attempt
            .and_then(|index| self.account(index))
            .ok_or(Stop::Refuse(Refusal::InvalidState { why: "its account is not configured" }))
    }
}
