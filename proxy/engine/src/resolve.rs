//! What to do about a doubt, and when: T7, T8, T19, and what a restart means.
//!
//! The ladder of one doubt: send the same request again if that is declared safe; otherwise fence,
//! ask, close, wait for the late window, ask or close again; at last an operator.

use interlock_plugin_api::{Concurrency, NotFound, Operation as PluginOperation};

use crate::confirm::approves;
use crate::definite::{self, Resend, ResendCase, SKEW_MS};
use crate::exchange::{ExchangeKind, Reply, Track};
use crate::input::{Call, Subject};
use crate::intake::failed;
use crate::mutant::{self, Mutant};
use crate::operation::OperationState;
use crate::payment::{Attempt, AttemptState, CloseReason, FailReason, Offer};
use crate::policy::{AccountPolicy, TIMEOUT_MAX_MS};
use crate::stamp::Stamp;
use crate::turn::{Flow, Turn, at_rest};

impl Turn<'_> {
    /// Something of the payment has come to its time.
    pub(crate) fn due(&mut self) -> Flow {
        let now = self.world.now.wall_ms;
        for i in 0..self.p.attempts.len() {
            let a = &self.p.attempts[i];
            if !at_rest(&self.p, i) && a.track.next_ms.is_none_or(|at| at <= now) {
                self.attempt_due(i)?;
            }
        }
        for n in 0..self.p.operations.len() {
            let o = &self.p.operations[n];
            if o.state.is_open() && o.track.next_ms.is_none_or(|at| at <= now) {
                self.operation_due(n)?;
            }
        }
        Ok(())
    }

    /// This process found the payment open: whatever was on the wire belongs to a dead process.
    pub(crate) fn recovered(&mut self) -> Flow {
        let now = self.world.now;
        for i in 0..self.p.attempts.len() {
            if at_rest(&self.p, i) {
                continue;
            }
            self.orphan_attempt(i);
            if let Some(offer) = &mut self.p.attempts[i].offer
                && offer.made.boot != now.boot
            {
                offer.made = now;
            }
            if self.p.attempts[i].state == AttemptState::Started {
                self.orphaned(i)?;
            } else {
                if self.p.attempts[i].state == AttemptState::Ambiguous
                    && self.resend_of(i) == Resend::IfBrought
                {
                    self.miss_details(i);
                }
                self.p.attempts[i].track.next_ms = Some(now.wall_ms);
            }
        }
        for n in 0..self.p.operations.len() {
            if !self.p.operations[n].state.is_open() {
                continue;
            }
            self.orphan_operation(n);
            if self.p.operations[n].state == OperationState::Started {
                let what = "restarted while an operation was under way";
                self.say("engine", what, Some("recovered"));
                self.operation_doubt(n)?;
            } else {
                self.p.operations[n].track.next_ms = Some(now.wall_ms);
            }
        }
        Ok(())
    }

    /// Somebody waits for news: ask about everything that may have changed.
    pub(crate) fn refresh(&mut self) -> Flow {
        for i in 0..self.p.attempts.len() {
            let a = &self.p.attempts[i];
            let asks = !matches!(a.state, AttemptState::Started) && !at_rest(&self.p, i);
            if asks && self.account(i).is_some_and(|account| self.can_inquire(i, account)) {
                self.inquire(Subject::Attempt(i));
            }
        }
        for n in 0..self.p.operations.len() {
            if self.p.operations[n].state.is_open() && self.can_inquire_operation(n) {
                self.inquire(Subject::Operation(n));
            }
        }
        Ok(())
    }

    /// T6 to T8: in doubt. What can't be sent again is fenced in the same version, because its
    /// socket is closed and this process was its only sender.
    pub(crate) fn doubt(&mut self, i: usize) -> Flow {
        let now = self.world.now.wall_ms;
        let a = &mut self.p.attempts[i];
        a.state = AttemptState::Ambiguous;
        // Waits grow from one re-send to the next, so that a sick provider is not hammered.
        if a.sends() <= 1 {
            a.track.tries = 0;
        }
        a.track.since_ms.get_or_insert(now);
        match self.resend_of(i) {
            Resend::Never => self.fence(i),
            Resend::IfBrought => self.miss_details(i),
            Resend::Now | Resend::After(_) => {}
        }
        self.ask_or_wait(i)
    }

    /// Whether an attempt can be looked up.
    pub(crate) fn can_inquire(&self, i: usize, account: &AccountPolicy) -> bool {
        let inquiry = account.contract.inquiry;
        let known = self.p.attempts[i].provider_ref.is_some();
        account.offers(PluginOperation::Inquire)
            && (inquiry.by_our_reference || (inquiry.by_provider_reference && known))
    }

    /// Whether there is any way to ask about it.
    pub(crate) fn can_ask(&self, subject: Subject) -> bool {
        match subject {
            Subject::Attempt(i) => {
                self.account(i).is_some_and(|account| self.can_inquire(i, account))
            }
            Subject::Operation(n) => self.can_inquire_operation(n),
        }
    }

    /// Asks at once, as soon as this version is durable.
    pub(crate) fn look_soon(&mut self, i: usize) {
        self.inquire(Subject::Attempt(i));
        self.schedule(i);
    }

    /// Looks again when the ladder says so.
    pub(crate) fn look_later(&mut self, i: usize) -> Flow {
        self.schedule(i);
        Ok(())
    }

    /// Sets the time of the next look from the state, the ladder, and the ends of waits.
    pub(crate) fn schedule(&mut self, i: usize) {
        let now = self.world.now;
        let ladder = &self.world.policy.ladder;
        let account = self.account(i);
        let a = &mut self.p.attempts[i];
        let tries = a.track.tries;
        a.track.tries = tries.saturating_add(1);
        let since = *a.track.since_ms.get_or_insert(now.wall_ms);
        // What was shown is looked at seldom, until it is over and only has to be known.
        let expiry = account.and_then(|account| account.contract.expiry_of(&a.flow));
        let over = |o: &Offer| expiry.is_some_and(|e| now.saw_pass(o.made, a.offer_life_ms(e)));
        let shown = a.state == AttemptState::Action && !a.offer.as_ref().is_some_and(over);
        let wait = if shown {
            ladder.offer_wait_ms(tries)
        } else {
            ladder.wait_ms(tries, self.world.draw)
        };
        let mut at = now.wall_ms.saturating_add_unsigned(wait.max(50));
        if let Some(end) = account.and_then(|account| end_of_wait(a, account, now)) {
            at = at.min(now.wall_ms.saturating_add_unsigned(end));
        }
        a.track.next_ms = Some(at);
        let tired = now.wall_ms >= since.saturating_add_unsigned(ladder.give_up_ms);
        if tired && !a.manual && !at_rest(&self.p, i) {
            self.p.attempts[i].manual = true;
            self.alert(i, "tries_exhausted");
        }
    }

    fn attempt_due(&mut self, i: usize) -> Flow {
        let now = self.world.now;
        if self.p.attempts[i].state == AttemptState::Started {
            if self.world.sending {
                self.p.attempts[i].track.next_ms = Some(now.wall_ms.saturating_add(1_000));
                return Ok(());
            }
            self.orphan_attempt(i);
            return self.orphaned(i);
        }
        self.take_over_waits(i);
        match self.p.attempts[i].state {
            AttemptState::RefundDue { .. } => return self.give_back_due(i),
            AttemptState::Success { .. } => return self.hold_due(i),
            AttemptState::Fenced | AttemptState::Closing { .. }
                if mutant::on(Mutant::ResendAfterFence) && self.resend_of(i) == Resend::Now =>
            {
                return self.resend(i);
            }
            AttemptState::Ambiguous => match self.resend_of(i) {
                Resend::Now => return self.resend(i),
                Resend::After(_) | Resend::IfBrought => {}
                Resend::Never => self.fence(i),
            },
            AttemptState::Closing { why }
                if self.can_close(i) && !self.p.attempts[i].track.was_closed() =>
            {
                return self.close(i, why);
            }
            AttemptState::Action if self.abandoned(i) => return self.close(i, CloseReason::Expiry),
            AttemptState::Pending if self.patience_over(i) => {
                return self.close(i, CloseReason::Expiry);
            }
            _ => {}
        }
        self.ask_or_wait(i)
    }

    /// Asks if there is a way to; otherwise closes if there is a way to; otherwise waits.
    pub(crate) fn ask_or_wait(&mut self, i: usize) -> Flow {
        if self.can_ask(Subject::Attempt(i)) {
            self.look_soon(i);
            return Ok(());
        }
        self.close_doubt(i)
    }

    fn orphan_attempt(&mut self, i: usize) {
        let timeout_ms = self.account(i).map_or(0, |account| account.timeout_ms);
        orphan(&mut self.p.attempts[i].track, self.world.now, timeout_ms);
    }

    pub(crate) fn orphan_operation(&mut self, n: usize) {
        let attempt = self.p.operations[n].attempt;
        let timeout_ms = self.account(attempt).map_or(0, |account| account.timeout_ms);
        orphan(&mut self.p.operations[n].track, self.world.now, timeout_ms);
    }

    /// What was on the wire when its process died.
    fn orphaned(&mut self, i: usize) -> Flow {
        if self.only_offers(i) {
            self.say("engine", "restarted before the offer was shown", Some("recovered"));
            self.p.attempts[i].state = failed(FailReason::NotOffered);
            return Ok(());
        }
        self.say("engine", "restarted while a request was under way: in doubt", Some("recovered"));
        self.doubt(i)
    }

    /// T8: durable with this version; nothing will ever be sent for it again.
    pub(crate) fn fence(&mut self, i: usize) {
        let ver = self.p.ver;
        let a = &mut self.p.attempts[i];
        a.state = AttemptState::Fenced;
        if a.track.fence.is_none() {
            a.track.fence = Some(ver);
        }
    }

    pub(crate) fn resend_of(&self, i: usize) -> Resend {
        let Some(account) = self.account(i) else { return Resend::Never };
        let a = &self.p.attempts[i];
        let Some(last) = a.track.takers().last() else { return Resend::Never };
        let case = ResendCase {
            account,
            track: &a.track,
            now: self.world.now,
            form: self.p.method.form,
            credential: self.world.credential,
            details: self.world.details || approves(account, a),
            loser: a.loser || self.p.cancel_requested,
            accepted: a.order_seen,
            challenges: account.contract.returning.contains(&a.flow),
        };
        let answer = definite::resend(last, &case);
        // Waiting out the late window only to send again would be slower than asking or closing,
        // and would charge a shopper who may have left. Asking ends a doubt only where "not found"
        // may be believed. How much of the window is left does not matter: what waits for it at
        // all is fenced.
        let believed = account.contract.inquiry.not_found == NotFound::AfterFence;
        let elsewhere = (believed && self.can_inquire(i, account))
            || account.contract.close_of(&a.flow).is_some();
        let rule = account.contract.move_rule(&last.purpose);
        let beside =
            rule.concurrency == Concurrency::Excluded || mutant::on(Mutant::ResendInFlight);
        let waits_for_window = !beside && last.sends > 0;
        let late = self.world.now.wall_ms > self.p.failover_until_ms;
        // Who has approved has done his part, and nothing but the same request can follow.
        let approved = last.kind == ExchangeKind::Continue && approves(account, a);
        let quicker = elsewhere && (late || waits_for_window) && !approved;
        if quicker && !mutant::on(Mutant::ResendAfterFence) { Resend::Never } else { answer }
    }

    /// T7: the same request, once more, under the same number.
    pub(crate) fn resend(&mut self, i: usize) -> Flow {
        let Some(account) = self.account(i) else { return self.look_later(i) };
        let a = &self.p.attempts[i];
        let Some(x) = a.track.takers().last().cloned() else { return self.look_later(i) };
        if self.unbuildable(&x.op_id) {
            if self.refused(&account.name).is_some() {
                return self.look_later(i);
            }
            self.fence(i);
            return self.ask_or_wait(i);
        }
        let draft = self.draft(Call {
            account: account.name.clone(),
            kind: x.kind,
            op_id: x.op_id.clone(),
            amount: self.p.money,
            attempt: i,
            method: self.p.attempts[i].method.clone(),
            flow: self.p.attempts[i].flow.clone(),
            provider_ref: self.p.attempts[i].provider_ref.clone(),
            reason: None,
            reserve: false,
            again: Some(Self::again(&x)),
        })?;
        let mut track = std::mem::take(&mut self.p.attempts[i].track);
        let same = self.send_again(&mut track, &x.id, draft, account.timeout_ms);
        self.p.attempts[i].track = track;
        if !same {
            self.say("engine", "the request can't be repeated exactly", Some("digest"));
            self.fence(i);
            return self.ask_or_wait(i);
        }
        let name = account.name.clone();
        self.say(&name, "sent again under the same number", Some("resend"));
        let due = self.world.now.plus(account.timeout_ms + 1_000).wall_ms;
        let a = &mut self.p.attempts[i];
        a.track.next_ms = Some(due);
        let shut = a.track.fence.is_some() && mutant::on(Mutant::ResendAfterFence);
        a.state = if shut { AttemptState::Fenced } else { AttemptState::Started };
        Ok(())
    }

    /// Waits count only what one process saw. What another process waited for is taken over, and
    /// waited for anew, once its own wait must be over: two live processes that took turns would
    /// otherwise begin again for ever.
    fn take_over_waits(&mut self, i: usize) {
        let now = self.world.now;
        let Some(account) = self.account(i) else { return };
        let contract = &account.contract;
        let a = &mut self.p.attempts[i];
        take_over(&mut a.track, now, account, self.world.sending);
        let life = contract.expiry_of(&a.flow).map(|expiry| a.offer_life_ms(expiry));
        if let (Some(offer), Some(life_ms)) = (&mut a.offer, life)
            && abandoned_wait(offer.made, now, life_ms)
        {
            offer.made = now;
        }
    }
}

/// The end of the next wait that decides something, as ms from now.
fn end_of_wait(a: &Attempt, account: &AccountPolicy, now: Stamp) -> Option<u64> {
    let left = |from: Stamp, ms: u64| left(from, now, ms);
    let window = account.contract.late_window_ms;
    let fenced = a.track.fence.and(a.track.last_send_by()).and_then(|at| left(at, window));
    let closes = a.track.open_closes().filter_map(|x| left(x.last_send_by, window)).min();
    let closes = closes.filter(|_| a.unconfirmed.is_some());
    let offer = a.offer.as_ref().zip(account.contract.expiry_of(&a.flow));
    let offer = offer.and_then(|(offer, expiry)| left(offer.made, a.offer_life_ms(expiry)));
    fenced.into_iter().chain(closes).chain(offer).min()
}

/// How much of a wait is left, ms: of our own, or until that of another process may be taken over.
pub(crate) fn left(from: Stamp, now: Stamp, ms: u64) -> Option<u64> {
    if from.boot == now.boot {
        let end = from.mono_ms.saturating_add(ms);
        return (end > now.mono_ms).then(|| end - now.mono_ms + 1);
    }
    let end = from.wall_ms.saturating_add_unsigned(ms.saturating_add(SKEW_MS));
    u64::try_from(end.saturating_sub(now.wall_ms)).ok().filter(|ms| *ms > 0)
}

/// Whether the process that waited should have been through with it, by the wall clock, long ago.
fn abandoned_wait(from: Stamp, now: Stamp, wait_ms: u64) -> bool {
    let end = from.wall_ms.saturating_add_unsigned(wait_ms.saturating_add(SKEW_MS));
    from.boot != now.boot && now.wall_ms >= end
}

/// Takes over the waits of another process, and the sends that nobody here holds any more.
pub(crate) fn take_over(track: &mut Track, now: Stamp, account: &AccountPolicy, sending: bool) {
    let window_ms = account.contract.late_window_ms;
    for x in &mut track.exchanges {
        let late = now.wall_ms > x.last_send_by.wall_ms.saturating_add(1_000);
        if x.reply == Reply::Open && late && !sending {
            x.reply = Reply::Lost;
        }
        if abandoned_wait(x.last_send_by, now, window_ms) {
            x.last_send_by = now.plus(account.timeout_ms);
        }
    }
}

/// What another process had in its hands is lost to us, and every wait for it begins again,
/// because this process saw none of it (G10). That process may be alive: what it made durable
/// before now leaves within its timeout or not at all, and its timeout may have been longer.
fn orphan(track: &mut Track, now: Stamp, timeout_ms: u64) {
    for x in &mut track.exchanges {
        if x.reply == Reply::Open {
            x.reply = Reply::Lost;
        }
        if x.last_send_by.boot != now.boot {
            let ahead = x.last_send_by.wall_ms.saturating_sub(now.wall_ms);
            // A clock that is wrong by more is not waited for.
            let ahead = u64::try_from(ahead).unwrap_or(0).min(TIMEOUT_MAX_MS);
            x.last_send_by = now.plus(timeout_ms.max(ahead));
        }
    }
}
