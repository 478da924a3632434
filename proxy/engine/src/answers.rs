//! What came in, and from where: answers, losses, inquiries, notifications, each fact by fact.
//!
//! Where a fact comes from decides what it may prove, so every fact travels with its source. What
//! it means for an attempt is told in `attempts`, for an operation in `operations`.

use interlock_plugin_api::{Fact, What};

use crate::attempts::PLUGIN_VERSION;
use crate::definite;
use crate::exchange::{ExchangeKind, Reply};
use crate::input::{Asked, Draft, Sent, Subject};
use crate::intake::failed;
use crate::mutant::{self, Mutant};
use crate::operation::OperationState;
use crate::payment::{AttemptState, CloseReason, FailReason};
use crate::policy::AccountPolicy;
use crate::stamp::Stamp;
use crate::turn::{Flow, Stop, Turn, at_rest};
use crate::{Exchange, Refusal};

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
        let account = self.subject_account(subject)?;
        let silent = [Fact::new(What::Unknown)];
        let facts = if facts.is_empty() { &silent } else { facts };
        let known = self.exchange_mut(subject, id)?.clone();
        let believed: Vec<Fact> = facts
            .iter()
            .map(|fact| {
                let fact = definite::believe(fact, status, account);
                let readable = definite::reads(reader, &known, account);
                if readable || positive(fact.what) { fact } else { unknown(fact) }
            })
            .collect();
        // A close that is answered by "try later" may still be carried out.
        let told = known.kind != ExchangeKind::Close
            || believed.iter().any(|f| !matches!(f.what, What::Unknown | What::Pending));
        let now = self.world.now;
        let ver = self.p.ver;
        let may_follow = definite::may_follow(&known, facts, account);
        let x = self.exchange_mut(subject, id)?;
        x.reply = Reply::Answered { server_error: status >= 500, may_follow };
        if told && x.answered_ver.is_none() {
            x.answered_ver = Some(ver);
        }
        left_by(x, now);
        let followed = self.was_followed(subject, &known);
        for fact in believed {
            if followed && !tells_of_money(fact.what) {
                // It was heard before something else was sent.
                continue;
            }
            let source = Source::Answer(known.kind, known.id.clone());
            self.hear(subject, account, &fact, &source)?;
        }
        Ok(())
    }

    /// Another request of the attempt was sent after this one was answered.
    fn was_followed(&self, subject: Subject, x: &Exchange) -> bool {
        let Subject::Attempt(i) = subject else { return false };
        let last = self.p.attempts[i].track.takers().last();
        x.kind != ExchangeKind::Close && last.is_some_and(|last| last.id != x.id)
    }

    /// The plugin goes on with another request: a new exchange of the same attempt. Refused when
    /// anything has happened meanwhile: nothing is sent behind a fence, a close or a cancel.
    pub(crate) fn goes_on(&mut self, id: &str, draft: &Draft) -> Flow {
        let subject = self.subject_of(id)?;
        let account = self.subject_account(subject)?;
        let live = match subject {
            Subject::Attempt(i) => {
                let a = &self.p.attempts[i];
                a.state == AttemptState::Started
                    && !a.loser
                    && !self.p.cancel_requested
                    && !a.track.was_closed()
            }
            Subject::Operation(n) => self.p.operations[n].state == OperationState::Started,
        };
        let fenced = self.track(subject).fence.is_some();
        let ver = self.p.ver;
        let x = self.exchange_mut(subject, id)?;
        if !live || fenced || x.reply != Reply::Open {
            return Err(Stop::Refuse(Refusal::InvalidState { why: "it is no longer under way" }));
        }
        x.reply = Reply::Answered { server_error: false, may_follow: false };
        x.answered_ver = Some(ver);
        let (kind, op_id) = (x.kind, x.op_id.clone());
        let number = self.track(subject).exchanges.len();
        let next = self.new_exchange(account, kind, &op_id, number, draft);
        let track = self.track(subject);
        track.next_ms = Some(next.last_send_by.wall_ms.saturating_add(1_000));
        track.exchanges.push(next);
        Ok(())
    }

    /// No answer will come; the socket is closed, so nothing of this send leaves any more.
    pub(crate) fn lost(&mut self, id: &str, sent: Sent, reason: &str) -> Flow {
        let subject = self.subject_of(id)?;
        let now = self.world.now;
        let x = self.exchange_mut(subject, id)?;
        if x.reply != Reply::Open && sent == Sent::Maybe {
            // An older copy: it was counted as sent, and its loss is known.
            return Ok(());
        }
        left_by(x, now);
        // G1: the socket's proof counts for the only send alone. With two copies it can't be told
        // whose it is, and a repeated input must not disprove the other one.
        let unsent =
            sent == Sent::No && x.sends == 1 && matches!(x.reply, Reply::Open | Reply::Lost);
        if unsent {
            x.sends = 0;
            x.reply = Reply::NotSent;
        } else if x.reply == Reply::Open {
            x.reply = Reply::Lost;
        } else {
            return Ok(());
        }
        let kind = x.kind;
        match subject {
            Subject::Operation(index) => self.operation_lost(index, unsent, reason),
            Subject::Attempt(index) => self.attempt_lost(index, kind, unsent, reason),
        }
    }

    fn attempt_lost(&mut self, i: usize, kind: ExchangeKind, unsent: bool, reason: &str) -> Flow {
        let account = self.p.attempts[i].account.clone();
        if kind == ExchangeKind::Close {
            self.say(&account, "no answer to the close", Some(reason));
            self.look_soon(i);
            return Ok(());
        }
        let a = &self.p.attempts[i];
        let waiting = a.state == AttemptState::Started || a.state.in_doubt();
        // T2: the socket proves that no byte of anything that could take money left.
        if unsent && waiting && a.track.moved() == 0 && a.offer.is_none() {
            self.say(&account, "not sent", Some(reason));
            self.p.attempts[i].state = failed(FailReason::NotSent);
            return Ok(());
        }
        if unsent && kind == ExchangeKind::Continue && waiting && a.offer.is_some() {
            self.say(&account, "not sent; the shopper may try again", Some(reason));
            self.p.attempts[i].state = AttemptState::Action;
            if self.p.cancel_requested || self.p.attempts[i].loser {
                return self.close(i, CloseReason::Cancel);
            }
            return self.look_later(i);
        }
        if a.state != AttemptState::Started {
            return Ok(());
        }
        // T3: what was never shown can't be paid.
        if self.only_offers(i) {
            self.say(&account, "no answer; the offer was never shown", Some(reason));
            self.p.attempts[i].state = failed(FailReason::NotOffered);
            return Ok(());
        }
        if mutant::on(Mutant::FailOverOnTimeout) {
            self.p.attempts[i].state = failed(FailReason::NotSent);
            return Ok(());
        }
        let what = "no answer after sending: in doubt, no other account is tried";
        self.say(&account, what, Some(reason));
        self.doubt(i)
    }

    /// An inquiry was answered, or came back empty.
    pub(crate) fn looked(
        &mut self,
        subject: Subject,
        asked: &Asked,
        reader: u32,
        facts: &[Fact],
    ) -> Flow {
        let exists = match subject {
            Subject::Attempt(i) => i < self.p.attempts.len(),
            Subject::Operation(n) => n < self.p.operations.len(),
        };
        if !exists {
            return Ok(());
        }
        let account = self.subject_account(subject)?;
        let received = Asked { ver: self.p.ver, at: self.world.now };
        let asked = if mutant::on(Mutant::NotFoundReceivedLate) { &received } else { asked };
        self.looking = Some(subject);
        if facts.is_empty() {
            return match subject {
                Subject::Attempt(i) if !at_rest(&self.p, i) => self.close_doubt(i),
                Subject::Attempt(_) | Subject::Operation(_) => Ok(()),
            };
        }
        let reads = self.track(subject).takers().all(|x| definite::reads(reader, x, account));
        for fact in facts {
            let mut fact = definite::believe(fact, 200, account);
            if !reads && !positive(fact.what) {
                fact.what = What::Unknown;
            }
            self.hear(subject, account, &fact, &Source::Inquiry(*asked))?;
        }
        Ok(())
    }

    /// A verified notification: facts that name us by our number or the provider's.
    pub(crate) fn noticed(&mut self, account: &str, reader: u32, facts: &[Fact]) -> Flow {
        for fact in facts {
            let named = self.named(account, fact);
            let Some(subject) = named.or_else(|| self.of_lost_row(account, fact)) else {
                self.say(account, "notified about something unknown", Some("unknown_reference"));
                continue;
            };
            let policy = self.subject_account(subject)?;
            let mut fact = definite::believe(fact, 200, policy);
            let can_ask = self.can_ask(subject);
            let track = self.track(subject);
            let reads = track.takers().all(|x| definite::reads(reader, x, policy));
            // Bodies are hints where a key remembers only success, or nothing (2.8); who can't ask
            // takes them as facts under G2 and G3. A failure may overtake the answer, so it is
            // heard in any state; an approval says nothing of money.
            let hint = can_ask
                && !matches!(fact.what, What::Failed | What::Approved)
                && !track.exchanges.is_empty()
                && !definite::strong(track, policy);
            if !positive(fact.what) && (!reads || hint) {
                if !reads && negative(fact.what) {
                    // It is told once: somebody must look, for this version can't tell.
                    self.alert(self.attempt_of(subject), PLUGIN_VERSION);
                }
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
        let operation = [&fact.operation_ref, &fact.op_id]
            .into_iter()
            .flatten()
            .find_map(|r| self.p.operation_of(r))
            .filter(|n| on(self.p.operations[*n].attempt));
        let attempt = |r: &String| {
            self.p.attempts.iter().position(|a| {
                let returned = || a.track.of(ExchangeKind::Continue).any(|x| x.op_id == *r);
                a.account == account
                    && (a.op_id == *r || a.provider_ref.as_ref() == Some(r) || returned())
            })
        };
        operation.map(Subject::Operation).or_else(|| {
            let references = [&fact.provider_ref, &fact.op_id].into_iter().flatten();
            references.filter_map(attempt).map(Subject::Attempt).next()
        })
    }

    /// One fact about an attempt or an operation.
    fn hear(
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

    fn subject_of(&self, exchange: &str) -> Result<Subject, Stop> {
        let has = |track: &crate::Track| track.exchange(exchange).is_some();
        let attempt = self.p.attempts.iter().position(|a| has(&a.track)).map(Subject::Attempt);
        let operation = || self.p.operations.iter().position(|o| has(&o.track));
        attempt
            .or_else(|| operation().map(Subject::Operation))
            .ok_or(Stop::Refuse(Refusal::NotFound))
    }

    fn exchange_mut(&mut self, subject: Subject, id: &str) -> Result<&mut Exchange, Stop> {
        self.track(subject)
            .exchanges
            .iter_mut()
            .find(|x| x.id == id)
            .ok_or(Stop::Refuse(Refusal::NotFound))
    }

    fn attempt_of(&self, subject: Subject) -> usize {
        match subject {
            Subject::Attempt(index) => index,
            Subject::Operation(index) => self.p.operations[index].attempt,
        }
    }

    fn track(&mut self, subject: Subject) -> &mut crate::Track {
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

/// Its socket is closed, so it left before now; of several copies another one may be under way.
fn left_by(x: &mut Exchange, now: Stamp) {
    let earlier = x.last_send_by.boot == now.boot && now.mono_ms < x.last_send_by.mono_ms;
    if earlier && x.sends <= 1 {
        x.last_send_by = now;
    }
}

/// Says that money moved (G9): that is believed from any version of a plugin.
fn positive(what: What) -> bool {
    matches!(what, What::Authorized | What::Captured | What::Refunded)
}

/// Says what became of money that moved: that is heard at any time.
fn tells_of_money(what: What) -> bool {
    positive(what) || matches!(what, What::Voided | What::ClosedRefunded | What::Failed)
}

/// Says that money did not move, or came back.
fn negative(what: What) -> bool {
    !positive(what)
        && !matches!(what, What::Unknown | What::Pending | What::Action | What::Approved)
}

fn unknown(fact: Fact) -> Fact {
    Fact { what: What::Unknown, ..fact }
}
