//! A merchant wants to be paid: the order guard, the route, and the first account.

use interlock_plugin_api::CredentialForm;

use crate::confirm::is_continued;
use crate::decision::{OrderStep, Outcome};
use crate::exchange::{ExchangeKind, Reply, Track};
use crate::input::{Call, Hand, Submission};
use crate::mutant::{self, Mutant};
use crate::offers;
use crate::payment::{Attempt, AttemptState, FailReason, Method, Payment, Settled};
use crate::refusal::{Refusal, Skip};
use crate::route::{self, Shape};
use crate::turn::{Flow, Stop, Turn};
use crate::world::World;

/// The id of the payment that this key of this merchant makes, now and after any loss of a disk.
pub fn payment_id(world: &World<'_>, merchant: &str, key: &str) -> String {
    format!("pay_{}", world.mint.mint(&["payment", merchant, key]))
}

/// T1: a payment and its first attempt, in one version.
pub(crate) fn submit(s: &Submission, world: &World<'_>, hand: &Hand) -> Outcome {
    let order = match order_step(s, world) {
        Ok(step) => step,
        Err(refusal) => return Outcome::Refuse(refusal),
    };
    let mut blank = blank(s, world);
    if !s.accept.is_empty() {
        blank.method = offers::chosen(s, world, hand).clone();
    }
    let mut turn = Turn::begin(&blank, world, hand);
    turn.order = order;
    let Some(route) = route::route_of(world.policy, &Shape::of(&blank)) else {
        return Outcome::Refuse(Refusal::NoAccountAvailable { route: None, skips: Vec::new() });
    };
    turn.p.route = route.name.clone();
    turn.p.failover_until_ms = world.now.wall_ms.saturating_add_unsigned(route.deadline_ms);
    let asked = format!("asked for {}", s.money);
    turn.say("merchant", asked, None);
    if !s.accept.is_empty() {
        let (kind, flow) = (&turn.p.method.kind, &turn.p.method.flow);
        let chosen = format!("{kind} {flow} chosen of {} methods", s.accept.len());
        turn.say("engine", chosen, None);
    }
    if let Some(statement) = world.stated.filter(|_| !mutant::on(Mutant::TrustBackup)) {
        let heard = turn.asked_again(statement);
        match heard {
            Ok(true) => return turn.finish(&blank),
            Ok(false) => {}
            Err(stop) => return stop.into(),
        }
    }
    match turn.start_attempt() {
        Ok(None) => turn.finish(&blank),
        Ok(Some(skips)) => {
            Outcome::Refuse(Refusal::NoAccountAvailable { route: Some(route.name.clone()), skips })
        }
        Err(stop) => stop.into(),
    }
}

/// One live payment per order (SAFETY 2.6).
fn order_step(s: &Submission, world: &World<'_>) -> Result<OrderStep, Refusal> {
    if s.merchant_ref.is_none() {
        return Ok(OrderStep::Keep);
    }
    match &world.order {
        None => Ok(OrderStep::Claim),
        Some(holder) if holder.succeeded && s.another => {
            Ok(OrderStep::TakeOver { from: holder.payment.clone() })
        }
        Some(holder) => Err(Refusal::OrderHasLivePayment { payment: holder.payment.clone() }),
    }
}

/// What a merchant wants, before anything was done for it.
pub fn blank(s: &Submission, world: &World<'_>) -> Payment {
    Payment {
        id: payment_id(world, &s.merchant, &s.key),
        merchant: s.merchant.clone(),
        key: s.key.clone(),
        ver: 0,
        created_ms: world.now.wall_ms,
        money: s.money,
        capture: s.capture,
        method: s.method.clone(),
        merchant_ref: s.merchant_ref.clone(),
        description: s.description.clone(),
        return_url: s.return_url.clone(),
        customer: s.customer.clone(),
        metadata: s.metadata.clone(),
        route: String::new(),
        failover_until_ms: world.now.wall_ms,
        attempts: Vec::new(),
        operations: Vec::new(),
        cancel_requested: false,
        switch: None,
        settled: None,
        restored: false,
        seq: 0,
    }
}

impl Turn<'_> {
    /// Starts an attempt at the first account that may be tried; the skips when there is none.
    pub(crate) fn start_attempt(&mut self) -> Result<Option<crate::Skips>, Stop> {
        let number = self.p.attempts.len();
        // What a backup had lost may be known under a later number than its place.
        let used = |op_id: &String| self.p.attempts.iter().any(|a| a.op_id == *op_id);
        let mut numbered = number;
        while used(&self.number(numbered)) {
            numbered += 1;
        }
        let (tag, op_id) = (numbered.to_string(), self.number(numbered));
        let Some(route) = self.world.policy.routes.iter().find(|r| r.name == self.p.route) else {
            return Ok(Some(Vec::new()));
        };
        // What is reserved already was admitted; asking its health again would count it twice.
        let ready = self.hand.prepared.iter().find(|r| r.call.op_id == op_id && r.call.reserve);
        let ready = ready.map(|ready| ready.call.account.as_str());
        let shape = Shape::of(&self.p);
        let refused = &self.hand.refused;
        let (account, skips) =
            route::choose_for(route, &shape, &self.p.attempts, refused, ready, self.world);
        let Some(account) = account.and_then(|name| self.world.policy.accounts.get(&name)) else {
            return Ok(Some(skips));
        };
        let draft = self.draft(Call {
            account: account.name.clone(),
            kind: ExchangeKind::Authorize,
            op_id: op_id.clone(),
            amount: self.p.money,
            attempt: number,
            method: self.p.method.kind.clone(),
            flow: self.p.method.flow.clone(),
            provider_ref: None,
            reason: None,
            reserve: true,
            again: None,
        })?;
        for (name, skip) in &skips {
            if *skip != Skip::AlreadyTried {
                self.say("engine", format!("{name} skipped"), Some(skip.as_str()));
            }
        }
        let mut first = self.new_exchange(account, ExchangeKind::Authorize, &op_id, 0, draft);
        if draft.said.is_some() {
            self.effects.pop();
            first.by_shopper = true;
            first.last_send_by = self.world.now;
            first.answered_ver = Some(self.p.ver);
            first.reply = Reply::Answered { server_error: false, may_follow: false };
        }
        let due = first.last_send_by.wall_ms.saturating_add(1_000);
        self.refer(&account.name, &op_id);
        let id = format!("att_{}", self.world.mint.mint(&["attempt id", &self.p.id, &tag]));
        let name = account.name.clone();
        self.p.attempts.push(Attempt {
            id,
            account: name.clone(),
            op_id,
            method: self.p.method.kind.clone(),
            flow: self.p.method.flow.clone(),
            started_ms: self.world.now.wall_ms,
            state: AttemptState::Started,
            track: Track { exchanges: vec![first], next_ms: Some(due), ..Track::default() },
            provider_ref: None,
            offer: None,
            order_seen: false,
            unconfirmed: None,
            refund_due_ver: None,
            loser: false,
            manual: false,
            alert: None,
            payer_amount: None,
            captured_ms: None,
            second_charge_of: None,
            outside: Vec::new(),
        });
        self.say("engine", format!("route {} to {name}", self.p.route), None);
        if let Some(offer) = &draft.said {
            self.must_act(number, account, offer)?;
        }
        Ok(None)
    }

    /// T12: when every attempt is over and nobody wants to stop, the next account.
    pub(crate) fn try_next_account(&mut self) -> Flow {
        let over = !self.p.attempts.is_empty() && self.p.attempts.iter().all(Attempt::is_over);
        let canceled = self.p.cancel_requested && !mutant::on(Mutant::FailOverAfterCancel);
        if !over || self.p.settled.is_some() || canceled {
            if over {
                self.p.switch = None;
            }
            return Ok(());
        }
        if let Some(method) = self.p.switch.take() {
            return self.offer_instead(method);
        }
        let Some(route) = self.world.policy.routes.iter().find(|r| r.name == self.p.route) else {
            return Ok(());
        };
        if !route::may_fail_over(&self.p, route, self.world.now.wall_ms) {
            return Ok(());
        }
        if let Some(skips) = self.start_attempt()? {
            for (name, skip) in skips {
                if skip != Skip::AlreadyTried {
                    self.say("engine", format!("{name} skipped"), Some(skip.as_str()));
                }
            }
        }
        Ok(())
    }

    /// The method that the shopper wants instead, once the old offer is proven closed.
    pub(crate) fn offer_instead(&mut self, method: Method) -> Flow {
        self.p.method = method;
        let Some(route) = route::route_of(self.world.policy, &Shape::of(&self.p)) else {
            self.say("engine", "no route takes the new method", Some("no_route"));
            return Ok(());
        };
        self.p.route = route.name.clone();
        self.p.failover_until_ms =
            self.world.now.wall_ms.saturating_add_unsigned(route.deadline_ms);
        if self.start_attempt()?.is_some() {
            self.say("engine", "no account can offer the new method", Some("no_account"));
        }
        Ok(())
    }
}

/// The attempt failed, and this is what proved it.
pub(crate) fn failed(reason: FailReason) -> AttemptState {
    AttemptState::Failed { reason, class: None, provider_code: None, advice: None }
}

/// Whether a payment's order blocks the next payment although it succeeded.
pub fn holds_order(p: &Payment) -> bool {
    p.settled == Some(Settled::Succeeded)
}

/// Whether what the shopper brought back must stay in memory: to be told to the provider again.
pub fn wants_details(p: &Payment) -> bool {
    let open = |a: &Attempt| is_continued(a) && a.track.fence.is_none();
    p.settled.is_none() && p.attempts.iter().any(open)
}

/// Whether the shopper's credential must stay in memory: for another try, a re-send, or the method
/// that is offered once a close is confirmed.
pub fn wants_credential(p: &Payment) -> bool {
    let brings = |m: &Method| m.form != CredentialForm::None;
    let now = brings(&p.method) && p.winner().is_none();
    p.settled.is_none() && (now || p.switch.as_ref().is_some_and(brings))
}
