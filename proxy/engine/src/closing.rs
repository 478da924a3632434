//! How what is not paid is ended at the provider: T13, and the answers that do not come.
//!
//! A close is a move: it may give money back. So it is journalled before it is sent, sent only when
//! nothing that takes money will be sent any more, and nothing new is shown before it is confirmed.

use interlock_plugin_api::Operation as PluginOperation;

use crate::definite;
use crate::exchange::{ExchangeKind, Reply};
use crate::input::Call;
use crate::intake::failed;
use crate::mutant::{self, Mutant};
use crate::payment::{AttemptState, CloseReason, FailReason};
use crate::policy::AccountPolicy;
use crate::turn::{Flow, Turn};

impl Turn<'_> {
    /// After an inquiry that settled nothing: close what can be closed, then wait.
    pub(crate) fn close_doubt(&mut self, i: usize) -> Flow {
        let Some(account) = self.account(i) else { return self.look_later(i) };
        let a = &self.p.attempts[i];
        let why = match a.state {
            AttemptState::Pending if self.patience_over(i) => CloseReason::Expiry,
            AttemptState::Closing { why } => why,
            AttemptState::Fenced => CloseReason::Doubt,
            _ => return self.look_later(i),
        };
        if a.unconfirmed.is_some() || !self.close_helps(i, account) {
            return self.look_later(i);
        }
        self.close(i, why)
    }

    /// Whether one more close could end it.
    fn close_helps(&self, i: usize, account: &AccountPolicy) -> bool {
        let a = &self.p.attempts[i];
        let over = definite::window_over(&a.track, self.world.now, account);
        let early = definite::early_close_proves(a, account);
        if !a.track.was_closed() {
            return early || over;
        }
        let sent = || a.track.of(ExchangeKind::Close).filter(|x| x.sends > 0);
        let closed_late = sent().any(|x| x.after_window);
        let behind_fence = a.track.fence.is_some() && over;
        let unanswered = a.track.open_closes().next().is_some();
        let newly_seen = a.order_seen && !sent().any(|x| x.order_seen);
        let wanted =
            (unanswered && (early || over)) || (behind_fence && !closed_late) || newly_seen;
        let repeatable = account.contract.close_of(&a.flow).is_some_and(|c| c.repeatable);
        wanted && (repeatable || !unanswered)
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
        if a.state == AttemptState::Action && self.withdraws(i, account) {
            return Ok(());
        }
        let a = &self.p.attempts[i];
        if !from || !self.can_close(i) {
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
            self.look_soon(i);
            return Ok(());
        }
        let draft = self.draft(Call {
            account: account.name.clone(),
            kind: ExchangeKind::Close,
            op_id: op_id.clone(),
            amount: self.p.money,
            attempt: i,
            method: self.p.attempts[i].method.clone(),
            flow: self.p.attempts[i].flow.clone(),
            provider_ref: self.p.attempts[i].provider_ref.clone(),
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
        // T7 sends nothing more once a close is journalled, so what was never shown is fenced too.
        if a.offer.is_none() && a.track.fence.is_none() {
            a.track.fence = Some(self.p.ver);
        }
        let due = x.last_send_by.wall_ms.saturating_add(1_000);
        a.track.exchanges.push(x);
        a.track.next_ms = Some(due);
        a.state = AttemptState::Closing { why };
        if mutant::on(Mutant::OfferBeforeClosed) && a.offer.is_some() {
            a.state = failed(FailReason::Closed);
        }
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

    /// Whether there is any way to close it.
    pub(crate) fn can_close(&self, i: usize) -> bool {
        let a = &self.p.attempts[i];
        self.account(i).is_some_and(|account| {
            let rule = account.contract.close_of(&a.flow);
            account.offers(PluginOperation::Close)
                && rule.is_some_and(|c| !c.needs_provider_reference || a.provider_ref.is_some())
        })
    }

    /// A shopper at a terminal does not wait for ever: close what stays pending.
    pub(crate) fn patience_over(&self, i: usize) -> bool {
        let a = &self.p.attempts[i];
        let patience = self.world.policy.ladder.patience_ms;
        a.offer.is_none()
            && self.account(i).is_some_and(|c| c.contract.close_of(&a.flow).is_some())
            && self.world.now.wall_ms >= a.started_ms.saturating_add_unsigned(patience)
    }

    /// An offer whose own end nobody enforces is closed when its time is over.
    pub(crate) fn abandoned(&self, i: usize) -> bool {
        let a = &self.p.attempts[i];
        let Some(offer) = &a.offer else { return false };
        let give_up = self.world.policy.ladder.give_up_ms;
        let end = offer
            .action
            .expires_ms
            .unwrap_or_else(|| offer.made_ms.saturating_add_unsigned(give_up));
        let unenforced =
            self.account(i).is_some_and(|account| account.contract.expiry_of(&a.flow).is_none());
        unenforced && self.world.now.wall_ms >= end
    }
}
