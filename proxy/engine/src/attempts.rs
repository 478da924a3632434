//! What a fact means for an attempt: T4 to T6, T10, T11, T14 to T16.
//!
//! A "yes" goes to `learn`, whatever the state. A "no" ends an attempt only where `definite` proves
//! it; everything else is a doubt and belongs to `resolve`.

use interlock_plugin_api::{Class, Fact, What};

use crate::answers::Source;
use crate::confirm::is_continued;
use crate::definite;
use crate::exchange::ExchangeKind;
use crate::input::{Asked, Subject};
use crate::intake::failed;
use crate::mutant::{self, Mutant};
use crate::payment::{AttemptState, CloseReason, FailReason, Offer};
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Turn, is_about_waiting};

/// The alert that a plugin's version could not read a "no".
pub(crate) const PLUGIN_VERSION: &str = "plugin_version";

impl Turn<'_> {
    /// One fact about an attempt.
    pub(crate) fn hear_attempt(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let Some(i) = self.charge_of(i, fact) else { return Ok(()) };
        let positive = matches!(fact.what, What::Authorized | What::Captured);
        if let (false, Some(reference)) = (positive, &fact.provider_ref) {
            self.keep_reference(i, reference);
        }
        if fact.what == What::ClosedRefunded && mutant::on(Mutant::RefundedCloseAsUnpaid) {
            let unpaid = Fact { what: What::ClosedUnpaid, ..fact.clone() };
            return self.hear_attempt(i, account, &unpaid, source);
        }
        match fact.what {
            What::Authorized => return self.learn(i, account, false, fact, source),
            What::Captured => return self.learn(i, account, true, fact, source),
            What::Refunded => return self.refunded_outside(i, account, fact, source),
            What::ClosedRefunded => return self.given_back(i, account, fact, source),
            What::Voided => return self.released(i, account, fact, source),
            _ => {}
        }
        let a = &self.p.attempts[i];
        let stands = !a.is_over()
            && !a.state.is_success()
            && !matches!(a.state, AttemptState::RefundDue { .. });
        if !stands {
            return self.after_the_end(i, fact, source);
        }
        match fact.what {
            // Whoever is not the answer to the shopper's return may not have heard of it yet.
            What::Action | What::Pending | What::Approved
                if is_continued(a) && !matches!(source, Source::Answer(..)) =>
            {
                self.not_gone_on(i, account, fact, source)
            }
            What::Action if matches!(a.state, AttemptState::Closing { .. }) => {
                self.not_gone_on(i, account, fact, source)
            }
            What::Action => self.must_act(i, account, fact),
            What::Pending => self.will_decide(i, fact),
            What::Approved => self.approved(i, account, fact, source),
            What::Declined => self.declined(i, account, fact, source),
            What::NotFound => self.not_found(i, account, source),
            What::ClosedUnpaid => self.closed(i, account, source, true),
            What::ClosedNothingFound => self.closed(i, account, source, false),
            What::Expired => self.expired(i, account, source),
            _ => self.unclear(i, fact, source),
        }
    }

    /// Which record a fact is about: one number of ours may stand for several charges. What is said
    /// to be given back of a charge that was never heard of is nothing that we hold.
    fn charge_of(&self, i: usize, fact: &Fact) -> Option<usize> {
        let Some(reference) = &fact.provider_ref else { return Some(i) };
        let a = &self.p.attempts[i];
        if a.provider_ref.as_ref() == Some(reference) {
            return Some(i);
        }
        let of = |b: &crate::Attempt| {
            b.account == a.account && b.provider_ref.as_ref() == Some(reference)
        };
        if let Some(other) = self.p.attempts.iter().position(of) {
            return Some(other);
        }
        let undone = matches!(fact.what, What::Refunded | What::ClosedRefunded | What::Voided);
        (a.provider_ref.is_none() || !undone).then_some(i)
    }

    /// T16: what is over stays over; the contradiction is written down.
    fn after_the_end(&mut self, i: usize, fact: &Fact, source: &Source) -> Flow {
        let due = matches!(self.p.attempts[i].state, AttemptState::RefundDue { .. });
        let routine = due
            || matches!(fact.what, What::Unknown | What::Pending | What::Action | What::Approved);
        if !routine {
            let said = format!("said {:?} after the end", fact.what).to_lowercase();
            let name = self.p.attempts[i].account.clone();
            self.say(&name, said, fact.provider_code.as_deref());
        } else if matches!(source, Source::Notice) && fact.what == What::Unknown {
            self.inquire(Subject::Attempt(i));
        }
        Ok(())
    }

    /// T4: what to show, durable before it is shown; or the order was seen, still payable.
    pub(crate) fn must_act(&mut self, i: usize, account: &AccountPolicy, fact: &Fact) -> Flow {
        let now = self.world.now;
        let Some(action) = &fact.action else { return self.will_decide(i, fact) };
        if !definite::same_amount(fact, self.p.money.amount, account, &self.p) {
            return self.contradicted(i, "amount_mismatch");
        }
        let unwanted = self.p.cancel_requested || self.p.attempts[i].loser;
        let never_shown = self.only_offers(i);
        let a = &mut self.p.attempts[i];
        let waiting = matches!(
            a.state,
            AttemptState::Started
                | AttemptState::Ambiguous
                | AttemptState::Pending
                | AttemptState::Fenced
        );
        if !waiting {
            return self.still_there(i);
        }
        if unwanted && never_shown {
            let name = a.account.clone();
            self.say(&name, "an offer that nobody wants any more; it is not shown", None);
            self.p.attempts[i].state = failed(FailReason::NotOffered);
            return Ok(());
        }
        let sent = a.track.takers().filter(|x| x.sends > 0);
        let made = sent.map(|x| x.last_send_by).max_by_key(|at| at.wall_ms).unwrap_or(now);
        let made_ms = a.first().map_or(now.wall_ms, |x| x.made_ms);
        a.offer = Some(Offer { action: action.clone(), made_ms, made });
        a.state = AttemptState::Action;
        a.track.tries = 0;
        let (name, kind) = (a.account.clone(), action.kind.clone());
        self.say(&name, format!("the shopper must act: {kind}"), None);
        if unwanted {
            return self.close(i, CloseReason::Cancel);
        }
        self.schedule(i);
        Ok(())
    }

    /// T5: the provider accepted and will decide later.
    fn will_decide(&mut self, i: usize, fact: &Fact) -> Flow {
        let a = &mut self.p.attempts[i];
        a.order_seen = true;
        let becomes = match a.state {
            AttemptState::Started | AttemptState::Ambiguous => true,
            AttemptState::Action => a.offer.is_none(),
            _ => false,
        };
        if !becomes {
            return self.still_there(i);
        }
        a.state = AttemptState::Pending;
        let name = a.account.clone();
        self.say(&name, "accepted; will decide later", fact.provider_code.as_deref());
        if self.p.cancel_requested || self.p.attempts[i].loser {
            return self.close(i, CloseReason::Cancel);
        }
        self.schedule(i);
        Ok(())
    }

    /// It stands unpaid at the provider: what was asked to be closed is asked again.
    pub(crate) fn still_there(&mut self, i: usize) -> Flow {
        match self.p.attempts[i].state {
            AttemptState::Closing { .. } => self.close_doubt(i),
            AttemptState::Fenced if is_continued(&self.p.attempts[i]) => self.close_doubt(i),
            AttemptState::Fenced if self.patience_over(i) => self.close(i, CloseReason::Doubt),
            _ => self.look_later(i),
        }
    }

    /// T15, T10: a decline, if it is definite.
    fn declined(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        source: &Source,
    ) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        let code = fact.provider_code.as_deref();
        // The refusal of a close says nothing about the charge.
        if fact.class == Some(Class::Duplicate)
            || matches!(source, Source::Answer(ExchangeKind::Close, _))
        {
            return self.unclear(i, fact, source);
        }
        let behind_fence = match source {
            Source::Inquiry(asked) => definite::asked_behind_fence(&a.track, asked, account),
            _ => false,
        };
        let definite = behind_fence || definite::declined(fact, &a.track, account);
        // Once an offer was shown the same code can be paid again after a decline.
        let ends = definite && definite::refusal_ends(&a.track, account);
        if a.offer.is_some() && !ends && !mutant::on(Mutant::DeclineEndsOffer) {
            if matches!(source, Source::Inquiry(asked) if self.offer_over(i, account, asked)) {
                return self.expired(i, account, source);
            }
            self.say(&name, "declined; the offer can still be paid", code);
            return self.refused_as_shown(i, account, fact, source);
        }
        if a.unconfirmed.is_none() && definite {
            self.say(&name, "declined", code);
            self.p.attempts[i].state = AttemptState::Failed {
                reason: FailReason::Declined,
                class: fact.class,
                provider_code: fact.provider_code.clone(),
                advice: fact.advice,
            };
            return Ok(());
        }
        self.say(&name, "declined, but not definitely", code);
        let remembers = definite::strong(&self.p.attempts[i].track, account);
        match (&self.p.attempts[i].state, source) {
            (AttemptState::Started, Source::Answer(..)) | (AttemptState::Pending, _) => {
                if !remembers {
                    // One more copy would be one more try, and would prove nothing about this one.
                    self.fence(i);
                    self.p.attempts[i].track.tries = 0;
                    return self.ask_or_wait(i);
                }
                self.doubt(i)
            }
            (AttemptState::Fenced | AttemptState::Closing { .. }, _) => self.close_doubt(i),
            _ => self.look_later(i),
        }
    }

    /// T10 and T14: nothing under our number.
    fn not_found(&mut self, i: usize, account: &AccountPolicy, source: &Source) -> Flow {
        let Source::Inquiry(asked) = source else { return self.look_later(i) };
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        if a.offer.is_some() {
            return if self.offer_over(i, account, asked) {
                self.expired(i, account, source)
            } else {
                self.still_there(i)
            };
        }
        let waits = matches!(a.state, AttemptState::Fenced | AttemptState::Closing { .. })
            || mutant::on(Mutant::TrustNotFound);
        let belief = account.contract.inquiry.not_found;
        if waits && a.unconfirmed.is_none() && definite::not_found(belief, &a.track, asked, account)
        {
            self.say(&name, "not found, asked after the late window", Some("not_found"));
            self.p.attempts[i].state = failed(FailReason::NotFound);
            return Ok(());
        }
        self.say(&name, "not found yet; a provider may be late", Some("not_found"));
        self.close_doubt(i)
    }

    /// T11: the provider closed it, or found nothing to close.
    fn closed(&mut self, i: usize, account: &AccountPolicy, source: &Source, unpaid: bool) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        let (answered, asked) = match source {
            Source::Answer(ExchangeKind::Close, id) => (a.track.exchange(id), None),
            Source::Inquiry(asked) => (None, Some(asked)),
            _ => (None, None),
        };
        let proven = if unpaid {
            definite::closed_unpaid(a, answered, asked, account)
        } else {
            definite::nothing_found(a, answered, account)
        };
        if a.unconfirmed.is_some() {
            let decides = self.refutes(i, account, answered.is_some(), asked);
            return self.success_refuted(i, proven && decides);
        }
        let standing = matches!(
            a.state,
            AttemptState::Fenced
                | AttemptState::Action
                | AttemptState::Pending
                | AttemptState::Closing { .. }
        );
        let lapsed = asked.is_some_and(|asked| self.offer_over(i, account, asked));
        if lapsed && standing {
            return self.expired(i, account, source);
        }
        if proven && standing {
            self.say(&name, "closed; nobody had paid", Some("closed"));
            self.p.attempts[i].state = failed(FailReason::Closed);
            return Ok(());
        }
        let found =
            if unpaid { "closed, but a copy may be late" } else { "found nothing to close" };
        self.say(&name, found, Some("closing"));
        self.look_later(i)
    }

    /// T14: the offer lapsed.
    fn expired(&mut self, i: usize, account: &AccountPolicy, source: &Source) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        if a.unconfirmed.is_some() {
            let asked = match source {
                Source::Inquiry(asked) => Some(asked),
                _ => None,
            };
            let decides = self.refutes(i, account, false, asked);
            return self.success_refuted(i, decides);
        }
        let behind_fence = a.state == AttemptState::Fenced
            && matches!(source, Source::Inquiry(asked)
                if definite::asked_behind_fence(&a.track, asked, account));
        let standing = matches!(
            a.state,
            AttemptState::Action | AttemptState::Closing { .. } | AttemptState::Pending
        );
        if standing || behind_fence {
            self.p.attempts[i].state = failed(FailReason::Expired);
            self.say(&name, "expired unpaid", Some("expired"));
            return Ok(());
        }
        self.close_doubt(i)
    }

    /// A success was heard, and now it is said that nobody has paid: what one of our closes gave
    /// back looks like that. Only what was asked after it may say so.
    fn success_refuted(&mut self, i: usize, decides: bool) -> Flow {
        if decides {
            let a = &mut self.p.attempts[i];
            a.unconfirmed = None;
            a.state = AttemptState::Reversed;
            let name = a.account.clone();
            self.say(&name, "what was paid is gone; our close gave it back", Some("closed"));
            return Ok(());
        }
        self.alert(i, "close_contradicts_success");
        self.look_later(i)
    }

    /// T6: what the answer means for the money can't be told.
    fn unclear(&mut self, i: usize, fact: &Fact, source: &Source) -> Flow {
        let a = &self.p.attempts[i];
        let name = a.account.clone();
        let code = fact.provider_code.as_deref();
        match (&a.state, source) {
            (_, Source::Answer(ExchangeKind::Close, _)) => {
                self.say(&name, "unclear answer to the close", code);
                self.look_soon(i);
                Ok(())
            }
            (AttemptState::Started, Source::Answer(..)) if self.only_offers(i) => {
                self.say(&name, "no usable offer", code);
                self.p.attempts[i].state = failed(FailReason::NotOffered);
                Ok(())
            }
            (AttemptState::Started, Source::Answer(..)) => {
                self.say(&name, "unclear answer: in doubt, no other account is tried", code);
                self.doubt(i)
            }
            (_, Source::Notice) => {
                self.inquire(Subject::Attempt(i));
                Ok(())
            }
            (_, Source::Inquiry(_)) => self.close_doubt(i),
            _ => self.look_later(i),
        }
    }

    /// What the provider says can't be true of our payment: never sent again, an operator looks.
    pub(crate) fn contradicted(&mut self, i: usize, alert: &'static str) -> Flow {
        self.alert(i, alert);
        let state = &self.p.attempts[i].state;
        if matches!(state, AttemptState::Started | AttemptState::Ambiguous) {
            self.fence(i);
        }
        self.look_later(i)
    }

    /// Marks something that an operator should know.
    pub(crate) fn alert(&mut self, i: usize, alert: &'static str) {
        let known = self.p.attempts[i].alert.as_deref();
        // What waits must not hide what can't be known in any other way, and nothing hides a "no"
        // that was told once to a plugin's version which can't read it.
        let waits = is_about_waiting(alert);
        let unread = known == Some(PLUGIN_VERSION);
        let hidden = unread || known.is_some_and(|known| !is_about_waiting(known) && waits);
        let new = known != Some(alert);
        if new && !hidden {
            self.p.attempts[i].alert = Some(alert.to_owned());
        }
        if new && (!hidden || (unread && !waits)) {
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

    /// The number under which the money is: what was known before it is the number of a step on
    /// the way, and would make a second charge of the first.
    pub(crate) fn take_reference(&mut self, i: usize, reference: &str) {
        if self.p.attempts[i].provider_ref.as_deref() != Some(reference) {
            self.p.attempts[i].provider_ref = None;
            self.keep_reference(i, reference);
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
        let a = &self.p.attempts[i];
        let (Some(offer), Some(expiry)) = (&a.offer, account.contract.expiry_of(&a.flow)) else {
            return false;
        };
        asked.at.saw_pass(offer.made, a.offer_life_ms(expiry))
    }
}
