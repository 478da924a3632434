//! What to do about a doubt, and when: T7, T8, T13, T19, and what a restart means.
//!
//! The ladder of one doubt: send the same request again if that is declared safe; otherwise fence,
//! ask, close, wait for the late window, ask or close again; at last an operator.

use interlock_plugin_api::{Operation as PluginOperation, OfferExpiry};

use crate::definite::{self, Resend, ResendCase};
use crate::input::{Asked, Call, Subject};
use crate::payment::{
    Attempt, AttemptState, CloseReason, ExchangeKind, FailReason, OperationState, Reply, Stamp,
    Track,
};
use crate::intake::failed;
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Turn, at_rest};
use interlock_plugin_api::Fact;

impl Turn<'_> {
    /// Something of the payment has come to its time.
    pub(crate) fn due(&mut self) -> Flow {
        let now = self.world.now.wall_ms;
        for i in 0..self.p.attempts.len() {
            let a = &self.p.attempts[i];
            if !at_rest(a) && a.track.next_ms.is_none_or(|at| at <= now) {
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
            orphan(&mut self.p.attempts[i].track, now);
            self.rebase_offer(i);
            if self.p.attempts[i].state == AttemptState::Started {
                self.orphaned(i)?;
            } else if !at_rest(&self.p.attempts[i]) {
                self.p.attempts[i].track.next_ms = Some(now.wall_ms);
            }
        }
        for n in 0..self.p.operations.len() {
            orphan(&mut self.p.operations[n].track, now);
            if self.p.operations[n].state == OperationState::Started {
                self.say("engine", "restarted while an operation was under way", Some("recovered"));
                self.operation_doubt(n)?;
            } else if self.p.operations[n].state.is_open() {
                self.p.operations[n].track.next_ms = Some(now.wall_ms);
            }
        }
        Ok(())
    }

    /// Somebody waits for news: ask about everything that may have changed.
    pub(crate) fn refresh(&mut self) -> Flow {
        for i in 0..self.p.attempts.len() {
            let a = &self.p.attempts[i];
            let asks = !matches!(a.state, AttemptState::Started) && !at_rest(a);
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
        if facts.is_empty() {
            return match subject {
                Subject::Attempt(i) if !at_rest(&self.p.attempts[i]) => self.close_doubt(i),
                Subject::Attempt(_) => Ok(()),
                Subject::Operation(n) => self.operation_later(n),
            };
        }
        let reads = self.track(subject).takers().all(|x| definite::reads(reader, x, account));
        for fact in facts {
            let mut fact = definite::believe(fact, 200, account);
            use interlock_plugin_api::What::{Authorized, Captured, Refunded, Unknown};
            if !reads && !matches!(fact.what, Authorized | Captured | Refunded) {
                fact.what = Unknown;
            }
            let source = crate::answers::Source::Inquiry(*asked);
            self.hear(subject, account, &fact, &source)?;
        }
        Ok(())
    }

    /// T6 to T8: in doubt. What can't be sent again is fenced in the same version, because its
    /// socket is closed and this process was its only sender.
    pub(crate) fn into_doubt(&mut self, i: usize) -> Flow {
        let now = self.world.now.wall_ms;
        let a = &mut self.p.attempts[i];
        a.state = AttemptState::Ambiguous;
        a.track.tries = 0;
        a.track.since_ms = Some(now);
        a.track.next_ms = Some(now);
        match self.resend_of(i) {
            Resend::Never => self.fence(i),
            Resend::Now | Resend::After(_) => {}
        }
        self.ask_or_wait(i)
    }

    /// After an inquiry that settled nothing: close what can be closed, then wait.
    pub(crate) fn close_doubt(&mut self, i: usize) -> Flow {
        let Some(account) = self.account(i) else { return self.look_later(i) };
        let a = &self.p.attempts[i];
        let behind_fence = a.track.fence.is_some() && a.unconfirmed.is_none();
        let standing = matches!(a.state, AttemptState::Fenced | AttemptState::Closing { .. });
        if a.state == AttemptState::Pending && self.patience_over(i) {
            return self.close(i, CloseReason::Expiry);
        }
        if !standing {
            return self.look_later(i);
        }
        let over = definite::window_over(&a.track, self.world.now, account);
        let closed_late = a.track.of(ExchangeKind::Close).any(|x| x.after_window && x.sends > 0);
        let tried = a.track.was_closed();
        let repeatable = account.contract.close_of(&a.flow).is_some_and(|c| c.repeatable);
        let again = over && (!closed_late || a.track.open_closes().next().is_some());
        let shown = a.offer.is_some();
        if (behind_fence && !tried) || (tried && again && repeatable && (behind_fence || shown)) {
            let why = match a.state {
                AttemptState::Closing { why } => why,
                _ => CloseReason::Doubt,
            };
            return self.close(i, why);
        }
        self.look_later(i)
    }

    /// T13: asks the provider to end what is not paid. Nothing new is shown before it is confirmed.
    pub(crate) fn close(&mut self, i: usize, why: CloseReason) -> Flow {
        let Some(account) = self.account(i) else { return self.look_later(i) };
        let now = self.world.now;
        let a = &self.p.attempts[i];
        let from = matches!(
            a.state,
            AttemptState::Fenced
                | AttemptState::Action
                | AttemptState::Pending
                | AttemptState::Closing { .. }
        );
        let rule = account.contract.close_of(&a.flow);
        let known = rule.is_some_and(|c| !c.needs_provider_reference || a.provider_ref.is_some());
        if !from || !known || !account.offers(PluginOperation::Close) {
            // No close is declared: what stands ends by its own expiry or by truth.
            if !matches!(why, CloseReason::Doubt | CloseReason::Expiry) && from {
                self.p.attempts[i].state = AttemptState::Closing { why };
            }
            return self.look_later(i);
        }
        let age = now.wall_ms.saturating_sub(a.started_ms);
        let min_age_ms = rule.map_or(0, |c| c.min_age_ms);
        if age < i64::try_from(min_age_ms).unwrap_or(i64::MAX) {
            self.p.attempts[i].state = AttemptState::Closing { why };
            let at = self.p.attempts[i].started_ms.saturating_add_unsigned(min_age_ms);
            self.p.attempts[i].track.next_ms = Some(at);
            return Ok(());
        }
        let in_flight = a.track.open_closes().any(|x| x.reply == Reply::Open);
        if in_flight && self.world.sending {
            return self.look_later(i);
        }
        self.send_close(i, account, why)
    }

    fn send_close(&mut self, i: usize, account: &AccountPolicy, why: CloseReason) -> Flow {
        let a = &self.p.attempts[i];
        let number = a.track.exchanges.len();
        let tag = a.track.of(ExchangeKind::Close).count().to_string();
        let op_id = self.world.mint.mint(&["close", &a.op_id, &tag]);
        let name = a.account.clone();
        if self.unbuildable(&op_id) {
            self.say(&name, "the plugin could not build a close", Some("not_prepared"));
            return self.look_later(i);
        }
        let draft = self.draft(Call {
            account: account.name.clone(),
            kind: ExchangeKind::Close,
            op_id: op_id.clone(),
            amount: self.p.money,
            attempt: i,
            method: self.p.attempts[i].method.clone(),
            flow: self.p.attempts[i].flow.clone(),
            reason: None,
            reserve: false,
            again: None,
        })?;
        let now = self.world.now;
        let mut x = self.new_exchange(account, ExchangeKind::Close, &op_id, number, draft);
        let a = &mut self.p.attempts[i];
        x.after_window = a.track.fence.is_some_and(|ver| ver < self.p.ver)
            && definite::window_over(&a.track, now, account);
        x.order_seen = a.order_seen;
        let due = x.last_send_by.wall_ms.saturating_add(1_000);
        a.track.exchanges.push(x);
        a.track.next_ms = Some(due);
        a.state = AttemptState::Closing { why };
        let reason = match why {
            CloseReason::Reoffer => "reoffer",
            CloseReason::Cancel => "cancel",
            CloseReason::Loser => "loser",
            CloseReason::Expiry => "expiry",
            CloseReason::Doubt => "doubt",
        };
        self.say(&name, "asked to close", Some(reason));
        Ok(())
    }

    /// Whether an attempt can be looked up.
    pub(crate) fn can_inquire(&self, i: usize, account: &AccountPolicy) -> bool {
        let inquiry = account.contract.inquiry;
        let known = self.p.attempts[i].provider_ref.is_some();
        account.offers(PluginOperation::Inquire)
            && (inquiry.by_our_reference || (inquiry.by_provider_reference && known))
    }

    /// Looks again at once, as soon as this version is durable.
    pub(crate) fn look_soon(&mut self, i: usize) {
        self.p.attempts[i].track.next_ms = Some(self.world.now.wall_ms);
        if self.account(i).is_some_and(|account| self.can_inquire(i, account)) {
            self.inquire(Subject::Attempt(i));
            self.schedule(i);
        }
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
        let offer = a.state == AttemptState::Action;
        let wait = if offer {
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
        if tired && !offer && !a.manual && !a.state.is_over() {
            a.manual = true;
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
            orphan(&mut self.p.attempts[i].track, now);
            return self.orphaned(i);
        }
        rebase(&mut self.p.attempts[i].track, now);
        self.rebase_offer(i);
        if matches!(self.p.attempts[i].state, AttemptState::RefundDue { .. }) {
            return self.give_back_due(i);
        }
        if self.p.attempts[i].state == AttemptState::Ambiguous {
            match self.resend_of(i) {
                Resend::Now => return self.resend(i),
                Resend::After(_) => {}
                Resend::Never => self.fence(i),
            }
        }
        self.ask_or_wait(i)
    }

    /// Asks if there is a way to; otherwise closes if there is a way to; otherwise waits.
    fn ask_or_wait(&mut self, i: usize) -> Flow {
        let asks = self.account(i).is_some_and(|account| self.can_inquire(i, account));
        if asks {
            self.inquire(Subject::Attempt(i));
            self.schedule(i);
            return Ok(());
        }
        self.close_doubt(i)
    }

    /// What was on the wire when its process died.
    fn orphaned(&mut self, i: usize) -> Flow {
        if self.only_offers(i) {
            self.say("engine", "restarted before the offer was shown", Some("recovered"));
            self.p.attempts[i].state = failed(FailReason::NotOffered);
            return Ok(());
        }
        self.say("engine", "restarted while a request was under way: in doubt", Some("recovered"));
        self.into_doubt(i)
    }

    /// T8: durable with this version; nothing will ever be sent for it again.
    fn fence(&mut self, i: usize) {
        let ver = self.p.ver;
        let a = &mut self.p.attempts[i];
        a.state = AttemptState::Fenced;
        if a.track.fence.is_none() {
            a.track.fence = Some(ver);
        }
    }

    fn resend_of(&self, i: usize) -> Resend {
        let Some(account) = self.account(i) else { return Resend::Never };
        let a = &self.p.attempts[i];
        let Some(last) = a.track.takers().last() else { return Resend::Never };
        let case = ResendCase {
            account,
            track: &a.track,
            now: self.world.now,
            form: self.p.method.form,
            credential: self.world.credential,
            loser: a.loser || self.p.cancel_requested,
        };
        let answer = definite::resend(last, &case);
        // Waiting out the late window only to send again would be slower than asking or closing,
        // and would charge a shopper who may have left.
        let elsewhere = self.can_inquire(i, account)
            || account.contract.close_of(&a.flow).is_some();
        let window = account.contract.late_window_ms;
        match answer {
            Resend::After(ms) if elsewhere && ms + 1 >= window.min(60_000) => Resend::Never,
            answer => answer,
        }
    }

    /// T7: the same request, once more, under the same number.
    fn resend(&mut self, i: usize) -> Flow {
        let Some(account) = self.account(i) else { return self.look_later(i) };
        let a = &self.p.attempts[i];
        let Some(x) = a.track.takers().last().cloned() else { return self.look_later(i) };
        if self.unbuildable(&x.op_id) {
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
        self.p.attempts[i].track.next_ms = Some(due);
        self.p.attempts[i].state = AttemptState::Started;
        Ok(())
    }

    /// The provider's expiry is waited for anew by a process that did not see the offer made.
    fn rebase_offer(&mut self, i: usize) {
        let now = self.world.now;
        if let Some(offer) = &mut self.p.attempts[i].offer
            && offer.made.boot != now.boot
        {
            offer.made = now;
        }
    }

    /// A shopper at a terminal does not wait for ever: close what stays pending.
    fn patience_over(&self, i: usize) -> bool {
        let a = &self.p.attempts[i];
        let patience = self.world.policy.ladder.patience_ms;
        a.offer.is_none()
            && self.account(i).is_some_and(|c| c.contract.close_of(&a.flow).is_some())
            && self.world.now.wall_ms >= a.started_ms.saturating_add_unsigned(patience)
    }
}

/// The end of the next wait that decides something, as ms from now.
fn end_of_wait(a: &Attempt, account: &AccountPolicy, now: Stamp) -> Option<u64> {
    let left = |from: Stamp, ms: u64| {
        let end = from.mono_ms.saturating_add(ms);
        (from.boot == now.boot && end > now.mono_ms).then(|| end - now.mono_ms + 1)
    };
    let window = account.contract.late_window_ms;
    let fenced = a.track.fence.and(a.track.last_send_by()).and_then(|at| left(at, window));
    let offer = a.offer.as_ref().zip(account.contract.offer_expiry).and_then(
        |(offer, OfferExpiry { after_ms, margin_ms })| left(offer.made, after_ms + margin_ms),
    );
    fenced.into_iter().chain(offer).min()
}

/// Waits count only what one process saw, so after a restart they begin again (G10).
fn rebase(track: &mut Track, now: Stamp) {
    for x in &mut track.exchanges {
        if x.last_send_by.boot != now.boot {
            x.last_send_by = Stamp { boot: now.boot, mono_ms: now.mono_ms, ..x.last_send_by };
        }
    }
}

/// Nobody holds the sockets of a dead process: what was open is lost.
fn orphan(track: &mut Track, now: Stamp) {
    rebase(track, now);
    for x in track.exchanges.iter_mut().filter(|x| x.reply == Reply::Open) {
        x.reply = Reply::Lost;
    }
}
