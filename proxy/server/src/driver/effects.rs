//! What the driver does once a version is durable, and never before: sends, inquiries, counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use interlock_circuit_breaker::Verdict;
use interlock_engine::gates::{Group, Reservation};
use interlock_engine::{
    Asked, Call, Decision, Effect, Exchange, ExchangeKind, Input, Origin, Payment, Sent, Stamp,
    Subject, classify, intake,
};

use super::{Bench, Beside, Driver};
use crate::calls::{Carried, Ready};
use crate::failpoint;
use crate::live::Slot;

impl Driver {
    /// The version is durable: now, and only now, its effects.
    pub(super) fn durable(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        before: Option<&Payment>,
        decision: &Decision,
        mut bench: Bench,
        now: Stamp,
    ) {
        let p = &decision.next;
        self.account_for(before, decision, now);
        for effect in &decision.effects {
            match effect {
                Effect::Send { exchange } => {
                    let Some((call, ready, reservation)) = take(&mut bench, p, exchange) else {
                        tracing::error!(payment = p.id, exchange, "send without a request");
                        continue;
                    };
                    let driver = Arc::clone(self);
                    let sending = slot.sending();
                    let (id, exchange) = (p.id.clone(), exchange.clone());
                    let by = last_send_by(p, &exchange).unwrap_or(now);
                    let under_way = Under::way(&self.under_way);
                    tokio::spawn(async move {
                        driver.send(&id, &exchange, call, ready, reservation, by).await;
                        drop((sending, under_way));
                    });
                }
                Effect::Inquire { subject } => self.ask(slot, &p.id, *subject),
            }
        }
        for (_, _, reservation) in bench.ready {
            if let Some(reservation) = reservation {
                reservation.cancel(now);
            }
        }
        if !intake::wants_credential(p) {
            self.credentials.forget(&p.id);
        }
        if !intake::wants_details(p) {
            self.details.forget(&p.id);
        }
        slot.ring(p.ver);
    }

    /// Counters and budgets of what became durable.
    fn account_for(&self, before: Option<&Payment>, decision: &Decision, now: Stamp) {
        let p = &decision.next;
        let known = before.map_or(0, |b| b.attempts.len());
        for (n, attempt) in p.attempts.iter().enumerate().skip(known) {
            if attempt.second_charge_of.is_none() {
                self.gates().count_try(&attempt.account, n > 0, now);
            }
        }
        for operation in p.operations.iter().skip(before.map_or(0, |b| b.operations.len())) {
            if operation.origin == Origin::Resolver && operation.kind == ExchangeKind::Refund {
                let account = &p.attempts[operation.attempt].account;
                self.gates().count_refund(account, operation.amount, now);
            }
        }
        for entry in &decision.entries {
            // The timeline is where the engine says whom it did not try, and why.
            if let (Some(account), Some(reason)) =
                (entry.what.strip_suffix(" skipped"), entry.reason.as_deref())
            {
                self.metrics.skipped(account, reason);
            }
        }
        self.metrics.moved(before, p);
        if p.settled.is_some() && before.is_none_or(|b| b.settled.is_none()) {
            self.metrics.settled(p, now.wall_ms.saturating_sub(p.created_ms));
        }
    }

    /// Sends a durable request and puts its answer through.
    async fn send(
        self: &Arc<Self>,
        id: &str,
        exchange: &str,
        call: Call,
        ready: Ready,
        reservation: Option<Reservation>,
        by: Stamp,
    ) {
        let Some(account) = self.accounts.get(&call.account).cloned() else { return };
        let carrying = self.caller.carry(&account, ready, by);
        let carried = failpoint::during(call.kind.as_str(), carrying).await;
        let now = self.clock.now();
        let exchange = exchange.to_owned();
        let (input, verdict, elapsed_ms, next) = match carried {
            Carried::Heard { status, facts, elapsed_ms } => {
                let (verdict, pause) = classify::answered(status, &facts);
                if let Some(ms) = pause {
                    self.gates().pause(&call.account, ms, now);
                }
                let state_version = account.manifest().state_version;
                let input = Input::Heard { exchange, status, state_version, facts };
                (input, verdict, elapsed_ms, None)
            }
            Carried::Lost { sent, reason, elapsed_ms } => {
                self.metrics.lost(&call.account, reason);
                let ours = sent == Sent::No && matches!(reason, "too_late" | "invalid_request");
                let verdict = classify::lost(sent, ours);
                let input = Input::Lost { exchange, sent, reason: reason.to_owned() };
                (input, verdict, elapsed_ms, None)
            }
            Carried::GoesOn(draft, ready) => {
                let verdict = Verdict::Success;
                (Input::GoesOn { exchange, draft }, verdict, 0, Some(ready))
            }
        };
        self.metrics.exchanged(&call.account, call.kind.as_str(), elapsed_ms);
        if let Some(reservation) = reservation {
            reservation.settle(now, verdict, elapsed_ms);
        }
        self.publish_health(now);
        match next {
            None => self.put_until_done(id, input).await,
            Some(ready) => self.go_on(id, input, call, *ready).await,
        }
    }

    /// A further request of the same operation: durable first, then sent.
    async fn go_on(self: &Arc<Self>, id: &str, input: Input, call: Call, ready: Ready) {
        let beside = Beside { further: Some((call, ready)), ..Beside::default() };
        if let Err(error) = self.put(id, input, beside).await {
            tracing::error!(payment = id, %error, "a further request could not be made durable");
        }
    }

    /// Puts an outcome through; the journal may be busy, and an outcome must not be dropped while
    /// this process lives. After a crash the payment is found open and asked about.
    async fn put_until_done(self: &Arc<Self>, id: &str, input: Input) {
        for tries in 0..10u32 {
            match self.put(id, input.clone(), Beside::default()).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::error!(payment = id, %error, "outcome is not durable yet");
                    tokio::time::sleep(Duration::from_millis(50 << tries.min(6))).await;
                }
            }
        }
        tracing::error!(payment = id, "outcome was not made durable; it will be asked again");
    }

    /// Asks the provider in the background, once at a time for one subject.
    pub fn ask(self: &Arc<Self>, slot: &Arc<Slot>, id: &str, subject: Subject) {
        if !slot.begin_asking(subject) {
            return;
        }
        let (driver, slot, id) = (Arc::clone(self), Arc::clone(slot), id.to_owned());
        tokio::spawn(async move {
            loop {
                driver.inquire(&slot, &id, subject).await;
                if !slot.end_asking(subject) || !slot.begin_asking(subject) {
                    return;
                }
            }
        });
    }

    async fn inquire(self: &Arc<Self>, slot: &Arc<Slot>, id: &str, subject: Subject) {
        let Ok(_permit) = self.inquiries.acquire().await else { return };
        let known = slot.turn.lock().await.clone();
        let payment = match known {
            Some(p) => p,
            None => match self.payment(id).await {
                Ok(Some(p)) => p,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(payment = id, %error, "inquiry was not asked");
                    return;
                }
            },
        };
        let attempt = match subject {
            Subject::Attempt(index) => payment.attempts.get(index),
            Subject::Operation(index) => {
                payment.operations.get(index).and_then(|o| payment.attempts.get(o.attempt))
            }
        };
        let Some(attempt) = attempt else { return };
        let name = attempt.account.clone();
        let (Some(account), Some(policy)) =
            (self.accounts.get(&name), self.accounts.policy.accounts.get(&name))
        else {
            return;
        };
        let at = self.clock.now();
        let asked = Asked { ver: payment.ver, at };
        let place = self.gates().resolver_place(&name, &attempt.method, Group::Inquiries, at);
        let kind = match subject {
            Subject::Attempt(_) => "inquire",
            Subject::Operation(_) => "inquire_operation",
        };
        let asking = self.caller.inquire(account, policy, &payment, subject);
        let (facts, http, elapsed_ms) = failpoint::during(kind, asking).await;
        self.metrics.exchanged(&name, "inquire", elapsed_ms);
        if let Some(place) = place {
            let verdict = if http == 0 {
                classify::lost(Sent::Maybe, false)
            } else {
                classify::answered(http, &facts).0
            };
            place.settle(self.clock.now(), verdict, elapsed_ms);
        }
        let state_version = account.manifest().state_version;
        self.put_until_done(id, Input::Looked { subject, asked, state_version, facts }).await;
    }

    /// Breakers that opened or closed, for logs and metrics.
    pub fn publish_health(&self, now: Stamp) {
        for (account, method, group, t) in self.gates().transitions(now) {
            let (from, to, reason) = (t.from.as_str(), t.to.as_str(), t.reason.as_str());
            let group = group.as_str();
            if to == "open" {
                tracing::warn!(account, method, group, from, reason, "breaker opened");
                self.metrics.tripped(&account, reason);
            } else {
                tracing::info!(account, method, group, from, to, reason, "breaker moved");
            }
        }
    }
}

/// Counts one send under way, also when its task panics.
struct Under(Arc<AtomicUsize>);

impl Under {
    fn way(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn take(
    bench: &mut Bench,
    p: &Payment,
    exchange: &str,
) -> Option<(Call, Ready, Option<Reservation>)> {
    let x = exchanges(p).find(|x| x.id == exchange)?;
    let position =
        bench.ready.iter().position(|(call, ..)| call.op_id == x.op_id && call.kind == x.kind)?;
    Some(bench.ready.swap_remove(position))
}

fn last_send_by(p: &Payment, exchange: &str) -> Option<Stamp> {
    exchanges(p).find(|x| x.id == exchange).map(|x| x.last_send_by)
}

fn exchanges(p: &Payment) -> impl Iterator<Item = &Exchange> {
    let attempts = p.attempts.iter().flat_map(|a| &a.track.exchanges);
    attempts.chain(p.operations.iter().flat_map(|o| &o.track.exchanges))
}
