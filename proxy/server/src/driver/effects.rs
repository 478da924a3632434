//! What the driver does once a version is durable, and never before: sends, inquiries, counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use interlock_circuit_breaker::Verdict;
use interlock_engine::gates::{Group, Reservation};
use interlock_engine::{
    AccountPolicy, Asked, Call, Decision, Effect, Exchange, ExchangeKind, Health as _, Input,
    Origin, Payment, Sent, Stamp, Subject, classify, intake, status,
};
use interlock_plugin_api::Fact;
use tokio::sync::SemaphorePermit;

use super::{Bench, Beside, Driver};
use crate::calls::{Carried, Ready};
use crate::failpoint;
use crate::live::Slot;
use crate::setup::{Heard, OpenAccount, Setup};

/// So much of an account's payments may fail before its provider is ill whatever is configured.
const ILL_PERMILLE: u32 = 200;

impl Driver {
    /// The version is durable: now, and only now, its effects.
    pub(super) fn durable(
        self: &Arc<Self>,
        setup: &Arc<Setup>,
        slot: &Arc<Slot>,
        before: Option<&Payment>,
        decision: &Decision,
        mut bench: Bench,
        now: Stamp,
    ) {
        let p = &decision.next;
        self.account_for(setup, before, decision, now);
        for effect in &decision.effects {
            match effect {
                Effect::Send { exchange } => {
                    let Some((call, ready, reservation)) = take(&mut bench, p, exchange) else {
                        tracing::error!(payment = p.id, exchange, "send without a request");
                        continue;
                    };
                    let (driver, setup) = (Arc::clone(self), Arc::clone(setup));
                    let sending = slot.sending();
                    let (id, exchange) = (p.id.clone(), exchange.clone());
                    let by = last_send_by(p, &exchange).unwrap_or(now);
                    let under_way = Under::way(&self.under_way);
                    tokio::spawn(async move {
                        let sent = (call, ready, reservation);
                        driver.send(&setup, &id, &exchange, sent, by).await;
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
    fn account_for(
        &self,
        setup: &Setup,
        before: Option<&Payment>,
        decision: &Decision,
        now: Stamp,
    ) {
        let p = &decision.next;
        let known = before.map_or(0, |b| b.attempts.len());
        for (n, attempt) in p.attempts.iter().enumerate().skip(known) {
            if attempt.second_charge_of.is_none() {
                let left = n.checked_sub(1).map(|n| p.attempts[n].account.as_str());
                setup.gates.count_try(&attempt.account, left, now);
            }
        }
        for operation in p.operations.iter().skip(before.map_or(0, |b| b.operations.len())) {
            if operation.origin == Origin::Resolver && operation.kind == ExchangeKind::Refund {
                let account = &p.attempts[operation.attempt].account;
                setup.gates.count_refund(account, operation.amount, now);
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
        if before.is_none() {
            setup.recent.payment_began(now.mono_ms);
        }
        let answers = |p: &Payment| status::status(p).0.answers();
        if answers(p) && !before.is_some_and(answers) {
            let after_ms = now.wall_ms.saturating_sub(p.created_ms);
            setup.recent.payment_answered(now.mono_ms, after_ms);
        }
        if p.settled.is_some() && before.is_none_or(|b| b.settled.is_none()) {
            self.metrics.settled(p, now.wall_ms.saturating_sub(p.created_ms));
        }
    }

    /// Sends a durable request and puts its answer through.
    async fn send(
        self: &Arc<Self>,
        setup: &Arc<Setup>,
        id: &str,
        exchange: &str,
        (call, ready, reservation): (Call, Ready, Option<Reservation>),
        by: Stamp,
    ) {
        let account = Arc::clone(ready.account());
        if matches!(call.kind, ExchangeKind::Authorize | ExchangeKind::Continue) {
            setup.recent.began(&call.account, self.clock.now().mono_ms);
        }
        let carrying = self.caller.carry(ready, by);
        let carried = failpoint::during(call.kind.as_str(), carrying).await;
        let now = self.clock.now();
        let exchange = exchange.to_owned();
        let (input, verdict, elapsed_ms, next) = match carried {
            Carried::Heard { status, facts, elapsed_ms, retry_after_ms } => {
                let about = (&*account, super::group(call.kind));
                let verdict = self.judge(setup, about, status, &facts, retry_after_ms, now);
                let state_version = account.manifest().state_version;
                let input = Input::Heard { exchange, status, state_version, facts };
                (input, verdict, elapsed_ms, None)
            }
            Carried::Lost { sent, reason, elapsed_ms } => {
                self.metrics.lost(&call.account, reason);
                let ours = sent == Sent::No && matches!(reason, "too_late" | "invalid_request");
                let verdict = classify::lost(sent, ours);
                self.hear(setup, &call.account, Heard::Failure);
                let input = Input::Lost { exchange, sent, reason: reason.to_owned() };
                (input, verdict, elapsed_ms, None)
            }
            Carried::GoesOn(draft, ready) => {
                let verdict = Verdict::Success;
                (Input::GoesOn { exchange, draft }, verdict, 0, Some(ready))
            }
        };
        self.metrics.exchanged(&call.account, call.kind.as_str(), elapsed_ms);
        if next.is_none() {
            setup.recent.ended(&call.account, now.mono_ms, verdict, elapsed_ms);
        }
        if let Some(reservation) = reservation {
            reservation.settle(now, verdict, elapsed_ms);
        }
        self.publish_health(now);
        match next {
            None => self.put_until_done(setup, id, input).await,
            Some(ready) => self.go_on(setup, id, input, call, *ready).await,
        }
    }

    /// What an answer says about its account, whatever it says about the money.
    fn judge(
        &self,
        setup: &Arc<Setup>,
        (account, group): (&OpenAccount, Group),
        status: u16,
        facts: &[Fact],
        retry_after_ms: Option<u64>,
        now: Stamp,
    ) -> Verdict {
        let (verdict, pause) = classify::answered(status, facts);
        let (name, gates) = (account.name.as_str(), &setup.gates);
        if let Some(polite_ms) = pause {
            self.metrics.limited("provider", name);
            let pause_ms = retry_after_ms.unwrap_or(polite_ms);
            gates.slow_down(name, group, pause_ms, now);
        }
        let read = classify::read(status, facts);
        if let Some(read) = read {
            gates.answered(name, read);
        }
        // A refund may be refused for want of money: that stops no payment. Another configuration
        // may have other credentials: a canary ends, a generation that was replaced has ended, and
        // the account serves on.
        let restricted = group == Group::Payments && classify::restricts(facts);
        if restricted && self.in_force.is_in_force(setup) && gates.restrict(name, now) {
            tracing::error!(
                account = name,
                "the provider restricted the account: it is drained until an operator resumes it"
            );
        }
        let broken = account.instance.generation().quarantine().is_some();
        let heard = match verdict {
            _ if broken => Heard::Broken,
            _ if restricted => Heard::Restricted,
            _ if read == Some(false) => Heard::Unread,
            _ if classify::misconfigured(facts) => Heard::Config,
            Verdict::RemoteFailure | Verdict::LocalFailure => Heard::Failure,
            _ => Heard::Answer,
        };
        self.hear(setup, name, heard);
        verdict
    }

    /// What a version says about the health of accounts: who could pay, and who was not told.
    pub(super) fn watch(
        &self,
        setup: &Setup,
        before: Option<&Payment>,
        p: &Payment,
        input: &Input,
        now: Stamp,
    ) {
        let gates = &setup.gates;
        if let Input::Noticed { account, .. } = input {
            gates.noticed(account, &p.id);
        }
        for (n, a) in p.attempts.iter().enumerate() {
            let was = before.and_then(|b| b.attempts.get(n));
            let offered = a.offer.is_some() && was.is_none_or(|w| w.offer.is_none());
            let paid = a.state.is_success() && was.is_none_or(|w| !w.state.is_success());
            let declined = a.state.is_declined() && was.is_none_or(|w| !w.state.is_declined());
            if offered || (a.offer.is_none() && (paid || declined)) {
                gates.created(&a.account, &a.method, now);
            }
            if !paid {
                continue;
            }
            let made_ms = a.offer.as_ref().map_or(now.wall_ms, |offer| offer.made.wall_ms);
            let age_ms = now.wall_ms.saturating_sub(made_ms).max(0).unsigned_abs();
            gates.paid(&a.account, &a.method, age_ms, now);
            if a.offer.is_some() && matches!(input, Input::Looked { .. }) {
                gates.paid_unnoticed(&a.account, &p.id, now);
            }
        }
    }

    /// A further request of the same operation: durable first, then sent.
    async fn go_on(
        self: &Arc<Self>,
        setup: &Arc<Setup>,
        id: &str,
        input: Input,
        call: Call,
        ready: Ready,
    ) {
        let read_by = Some(Arc::clone(setup));
        let beside = Beside { further: Some((call, ready)), read_by, ..Beside::default() };
        if let Err(error) = self.put(id, input, beside).await {
            tracing::error!(payment = id, %error, "a further request could not be made durable");
        }
    }

    /// Puts an outcome through; the journal may be busy, and an outcome must not be dropped while
    /// this process lives. After a crash the payment is found open and asked about.
    async fn put_until_done(self: &Arc<Self>, setup: &Arc<Setup>, id: &str, input: Input) {
        for tries in 0..10u32 {
            let beside = Beside { read_by: Some(Arc::clone(setup)), ..Beside::default() };
            match self.put(id, input.clone(), beside).await {
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
        let Some(payment) = self.known(slot, id).await else { return };
        let Some((name, method)) = account_of(&payment, subject) else { return };
        let setup = self.in_force.of(id, Some(payment.created_ms));
        let policy = setup.policy.accounts.get(&name);
        let Some((account, policy)) = setup.get(&name).zip(policy) else { return };
        let (_turn, place) = self.turn_to_ask(&setup, account, &method).await;
        // While it waited, the payment may have moved.
        let Some(payment) = self.known(slot, id).await else { return };
        let asked = Asked { ver: payment.ver, at: self.clock.now() };
        let kind = match subject {
            Subject::Attempt(_) => "inquire",
            Subject::Operation(_) => "inquire_operation",
        };
        let asking = self.caller.inquire(account, policy, &payment, subject);
        let (facts, http, elapsed_ms) = failpoint::during(kind, asking).await;
        self.metrics.exchanged(&name, "inquire", elapsed_ms);
        let now = self.clock.now();
        let verdict = match http {
            0 => {
                self.hear(&setup, &name, Heard::Failure);
                classify::lost(Sent::Maybe, false)
            }
            status => self.judge(&setup, (account, Group::Inquiries), status, &facts, None, now),
        };
        if let Some(place) = place {
            place.settle(now, verdict, elapsed_ms);
        }
        let state_version = account.manifest().state_version;
        let input = Input::Looked { subject, asked, state_version, facts };
        self.put_until_done(&setup, id, input).await;
    }

    /// Asks about a payment that no row has, in turn with every other inquiry; empty when nothing
    /// was heard.
    pub async fn ask_about(
        &self,
        setup: &Arc<Setup>,
        account: &Arc<OpenAccount>,
        policy: &AccountPolicy,
        supposed: &Payment,
    ) -> Vec<Fact> {
        let (_turn, place) = self.turn_to_ask(setup, account, &supposed.method.kind).await;
        let asking = self.caller.inquire(account, policy, supposed, Subject::Attempt(0));
        let (facts, http, elapsed_ms) = asking.await;
        self.metrics.exchanged(&account.name, "inquire", elapsed_ms);
        let now = self.clock.now();
        let verdict = match http {
            0 => classify::lost(Sent::Maybe, false),
            status => self.judge(setup, (account, Group::Inquiries), status, &facts, None, now),
        };
        if let Some(place) = place {
            place.settle(now, verdict, elapsed_ms);
        }
        facts
    }

    /// The last durable version, from memory if it is there.
    async fn known(&self, slot: &Slot, id: &str) -> Option<Arc<Payment>> {
        if let Some(payment) = slot.turn.lock().await.clone() {
            return Some(payment);
        }
        let stored = self.payment(id).await.unwrap_or_else(|error| {
            tracing::error!(payment = id, %error, "inquiry was not asked");
            None
        });
        stored.map(Arc::new)
    }

    /// Waits for a place in an account's share of inquiries, in the order of asking.
    async fn turn_to_ask<'a>(
        &self,
        setup: &Setup,
        account: &'a OpenAccount,
        method: &str,
    ) -> (Option<SemaphorePermit<'a>>, Option<Reservation>) {
        let turn = account.inquiries.acquire().await.ok();
        loop {
            let now = self.clock.now();
            match setup.gates.way_out(&account.name, method, Group::Inquiries, now) {
                Ok(place) => return (turn, place),
                Err(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
            }
        }
    }

    /// Breakers that opened or closed, for logs and metrics.
    pub fn publish_health(&self, now: Stamp) {
        for setup in self.in_force.all() {
            for (account, method, group, t) in setup.gates.transitions(now) {
                let (from, to, reason) = (t.from.as_str(), t.to.as_str(), t.reason.as_str());
                let lane = group.as_str();
                if to == "open" {
                    tracing::warn!(account, method, group = lane, from, reason, "breaker opened");
                    self.metrics.tripped(&account, reason);
                    // A canary's breakers are its own: nothing more would be heard of it.
                    let others = self.setup();
                    let others_are_well = others.gates.admits(&account, &method, now).is_ok()
                        && others.gates.failing_permille(&account, &method, now) < ILL_PERMILLE;
                    if group == Group::Payments && others_are_well {
                        self.hear(&setup, &account, Heard::Tripped);
                    }
                } else {
                    tracing::info!(
                        account,
                        method,
                        group = lane,
                        from,
                        to,
                        reason,
                        "breaker moved"
                    );
                }
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

/// The account and the method that a subject is about.
fn account_of(p: &Payment, subject: Subject) -> Option<(String, String)> {
    let attempt = match subject {
        Subject::Attempt(index) => p.attempts.get(index),
        Subject::Operation(index) => {
            p.operations.get(index).and_then(|o| p.attempts.get(o.attempt))
        }
    };
    attempt.map(|a| (a.account.clone(), a.method.clone()))
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
