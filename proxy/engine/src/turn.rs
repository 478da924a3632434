//! One decision in the making: the working copy of a payment, and what every decision ends with.
//!
//! Whatever happened, a turn closes with the same questions in the same order: may another account
//! be tried (T12), must something be given back (T18), what is the merchant told for good, when
//! must somebody look again.

use interlock_plugin_api::{CaptureMode, Effect as SendEffect};

use crate::decision::{Decision, Effect, Entry, OrderStep, Outcome};
use crate::exchange::{Exchange, ExchangeKind, Reply, Track};
use crate::input::{Again, Call, Draft, Hand, Input, Subject};
use crate::mutant;
use crate::operation::{OperationState, Origin};
use crate::payment::{AttemptState, Payment, Settled};
use crate::policy::AccountPolicy;
use crate::refusal::{Refusal, Skip};
use crate::status;
use crate::world::World;

/// Why a turn stopped before it was complete.
pub(crate) enum Stop {
    /// It needs a request first.
    Need(Box<Call>),
    /// The input can't be accepted.
    Refuse(Refusal),
}

/// The outcome of a part of a turn.
pub(crate) type Flow = Result<(), Stop>;

/// One decision in the making.
pub(crate) struct Turn<'a> {
    pub(crate) p: Payment,
    pub(crate) world: &'a World<'a>,
    pub(crate) hand: &'a Hand,
    pub(crate) order: OrderStep,
    pub(crate) effects: Vec<Effect>,
    /// What this turn heard of an inquiry: asking again at once would never end.
    pub(crate) looking: Option<Subject>,
    /// Inquiries that are wanted, each once.
    wanted: Vec<Subject>,
    entries: Vec<Entry>,
    references: Vec<(String, String)>,
    operations: Vec<String>,
}

impl<'a> Turn<'a> {
    /// A turn over the durable version.
    pub(crate) fn begin(payment: &Payment, world: &'a World<'a>, hand: &'a Hand) -> Self {
        let mut p = payment.clone();
        p.ver += 1;
        Self {
            p,
            world,
            hand,
            order: OrderStep::Keep,
            effects: Vec::new(),
            looking: None,
            wanted: Vec::new(),
            entries: Vec::new(),
            references: Vec::new(),
            operations: Vec::new(),
        }
    }

    /// What happened.
    pub(crate) fn apply(&mut self, input: &Input) -> Flow {
        match input {
            Input::Submitted(_) => Err(Stop::Refuse(Refusal::NotFound)),
            Input::Heard { exchange, status, state_version, facts } => {
                self.heard(exchange, *status, *state_version, facts)
            }
            Input::GoesOn { exchange, draft } => self.goes_on(exchange, draft),
            Input::Lost { exchange, sent, reason } => self.lost(exchange, *sent, reason),
            Input::Looked { subject, asked, state_version, facts } => {
                self.looked(*subject, asked, *state_version, facts)
            }
            Input::Noticed { account, state_version, facts } => {
                self.noticed(account, *state_version, facts)
            }
            Input::Merchant(request) => self.request(request),
            Input::Operator(verdict) => self.verdict(verdict),
            Input::Recovered => self.recovered(),
            Input::Restored => match self.world.stated {
                Some(statement) => self.restored(statement),
                None => self.recovered(),
            },
            Input::Due => self.due(),
            Input::Refresh => self.refresh(),
        }
    }

    /// The end of every turn.
    pub(crate) fn finish(mut self, before: &Payment) -> Outcome {
        let booked = self.book_outside();
        let closing = booked.and_then(|()| self.try_next_account()).and_then(|()| self.give_back());
        if let Err(stop) = closing {
            return stop.into();
        }
        self.relieve();
        self.settle();
        self.date(before);
        let looks = std::mem::take(&mut self.wanted);
        for subject in looks {
            if self.can_ask(subject) {
                self.effects.push(Effect::Inquire { subject });
            }
        }
        let ver = std::mem::replace(&mut self.p.ver, before.ver);
        let unchanged =
            self.entries.is_empty() && self.order == OrderStep::Keep && self.p == *before;
        self.p.ver = ver;
        if unchanged && self.effects.is_empty() {
            return Outcome::Nothing;
        }
        let due = self.next_look();
        if !mutant::any() {
            check(before, &self.p, due.is_some());
        }
        Outcome::Commit(Box::new(Decision {
            next: self.p,
            due,
            entries: self.entries,
            references: self.references,
            operations: self.operations,
            order: self.order,
            effects: self.effects,
        }))
    }

    /// When it became known that money was taken or given back, for who looks for it in a
    /// statement.
    fn date(&mut self, before: &Payment) {
        let now = Some(self.world.now.wall_ms);
        for (i, a) in self.p.attempts.iter_mut().enumerate() {
            let was = before.attempts.get(i).is_some_and(|b| b.state.took());
            if a.state.took() && !was {
                a.captured_ms = a.captured_ms.or(now);
            }
        }
        for (n, o) in self.p.operations.iter_mut().enumerate() {
            let was = before.operations.get(n).map(|b| b.state);
            if o.state == OperationState::Done && was != Some(OperationState::Done) {
                o.done_ms = o.done_ms.or(now);
            }
        }
    }

    /// What is known needs nobody to look at it; the timeline keeps why somebody had to.
    fn relieve(&mut self) {
        for i in 0..self.p.attempts.len() {
            if self.p.attempts[i].manual && at_rest(&self.p, i) {
                self.p.attempts[i].manual = false;
                self.p.attempts[i].alert.take_if(|alert| is_about_waiting(alert));
            }
        }
        for o in self.p.operations.iter_mut().filter(|o| !o.state.is_open()) {
            o.manual = false;
        }
        for i in 0..self.p.attempts.len() {
            let open = self.p.operations.iter().any(|o| o.attempt == i && o.state.is_open());
            let alert = &mut self.p.attempts[i].alert;
            alert.take_if(|alert| !open && alert == MERCHANT_ACTION);
        }
    }

    /// Adds a line to the timeline.
    pub(crate) fn say(&mut self, actor: &str, what: impl Into<String>, reason: Option<&str>) {
        self.p.seq += 1;
        self.entries.push(Entry {
            seq: self.p.seq,
            at_ms: self.world.now.wall_ms,
            actor: actor.to_owned(),
            what: what.into(),
            reason: reason.map(str::to_owned),
        });
    }

    /// Makes a number by which others will name this payment findable.
    pub(crate) fn refer(&mut self, account: &str, reference: &str) {
        let pair = (account.to_owned(), reference.to_owned());
        if !self.references.contains(&pair) {
            self.references.push(pair);
        }
    }

    /// Makes an operation findable.
    pub(crate) fn announce(&mut self, operation: &str) {
        self.operations.push(operation.to_owned());
    }

    /// Wants to ask the provider once this version is durable; what was just asked about waits for
    /// its time.
    pub(crate) fn inquire(&mut self, subject: Subject) {
        if self.looking != Some(subject) && !self.wanted.contains(&subject) {
            self.wanted.push(subject);
        }
    }

    /// The account of an attempt, if it is still configured.
    pub(crate) fn account(&self, attempt: usize) -> Option<&'a AccountPolicy> {
        let name = &self.p.attempts.get(attempt)?.account;
        self.world.policy.accounts.get(name)
    }

    /// The request for a call, or the need for it.
    pub(crate) fn draft(&self, call: Call) -> Result<&'a Draft, Stop> {
        match self.hand.find(&call.account, call.kind, &call.op_id) {
            Some(draft) => Ok(draft),
            None => Err(Stop::Need(Box::new(call))),
        }
    }

    /// Why what was asked can't go to an account now, where it is only a matter of time.
    pub(crate) fn refused(&self, account: &str) -> Option<Skip> {
        let refused = self.hand.refused.iter().find(|(name, _)| name == account);
        let in_time = |skip: &Skip| matches!(skip, Skip::RateLimited | Skip::Unreachable);
        refused.map(|(_, skip)| *skip).filter(in_time)
    }

    /// Whether a plugin could not build the request of this number in this turn.
    pub(crate) fn unbuildable(&self, op_id: &str) -> bool {
        self.hand.unbuildable.iter().any(|id| id == op_id)
    }

    /// The record of a first send, durable with this version; the effect sends it afterwards.
    pub(crate) fn new_exchange(
        &mut self,
        account: &AccountPolicy,
        kind: ExchangeKind,
        op_id: &str,
        number: usize,
        draft: &Draft,
    ) -> Exchange {
        let now = self.world.now;
        let id = format!("{op_id}-{}-{number}", kind.as_str());
        self.effects.push(Effect::Send { exchange: id.clone() });
        Exchange {
            id,
            kind,
            purpose: draft.purpose.clone(),
            effect: draft.effect,
            op_id: op_id.to_owned(),
            identity: account.identity.clone(),
            plugin: account.plugin.clone(),
            plugin_version: account.plugin_version.clone(),
            state_version: account.state_version,
            continuation: draft.continuation.clone(),
            digest: draft.digest.clone(),
            made_ms: draft.made_ms,
            entropy: draft.entropy.clone(),
            made_ver: self.p.ver,
            sends: 1,
            first_send_by_ms: now.wall_ms.saturating_add_unsigned(account.timeout_ms),
            last_send_by: now.plus(account.timeout_ms),
            reply: Reply::Open,
            answered_ver: None,
            by_shopper: false,
            after_window: false,
            order_seen: false,
        }
    }

    /// The call that repeats an exchange exactly.
    pub(crate) fn again(exchange: &Exchange) -> Again {
        Again {
            exchange: exchange.id.clone(),
            made_ms: exchange.made_ms,
            entropy: exchange.entropy.clone(),
        }
    }

    /// Marks an exchange as sent once more, in this version, if the rebuilt request is the same.
    pub(crate) fn send_again(
        &mut self,
        track: &mut Track,
        id: &str,
        draft: &Draft,
        ms: u64,
    ) -> bool {
        let now = self.world.now;
        let ver = self.p.ver;
        let number = track.exchanges.len();
        let Some(x) = track.exchanges.iter_mut().find(|x| x.id == id) else { return false };
        if x.digest != draft.digest {
            return false;
        }
        if x.sends == 0 {
            // Nothing of it left. It gets an id of its own, so that the old proof, heard twice,
            // says nothing about this send.
            let kind = x.kind.as_str();
            let id = format!("{}-{kind}-{number}", x.op_id);
            let again = Exchange {
                id: id.clone(),
                made_ver: ver,
                sends: 1,
                last_send_by: now.plus(ms),
                reply: Reply::Open,
                ..x.clone()
            };
            track.exchanges.push(again);
            self.effects.push(Effect::Send { exchange: id });
            return true;
        }
        x.sends += 1;
        x.reply = Reply::Open;
        x.answered_ver = None;
        x.last_send_by = now.plus(ms);
        self.effects.push(Effect::Send { exchange: id.to_owned() });
        true
    }

    /// What the merchant is told for good, once that is certain. It never changes afterwards.
    fn settle(&mut self) {
        if self.p.settled.is_some() {
            return;
        }
        let Some(settled) = status::settled(&self.p) else { return };
        self.p.settled = Some(settled);
        let (word, reason) = match settled {
            Settled::Succeeded => ("payment succeeded", None),
            Settled::Canceled => ("payment canceled", None),
            Settled::Failed => {
                ("payment failed", status::failure(&self.p).map(|f| f.code.to_owned()))
            }
        };
        self.say("engine", word, reason.as_deref());
        if settled != Settled::Succeeded && self.p.merchant_ref.is_some() {
            self.order = OrderStep::Release;
        }
    }

    /// When somebody must look again: nothing that is open is without a time (I10).
    fn next_look(&self) -> Option<(i64, &'static str)> {
        let open = self.p.attempts.iter().enumerate().filter(|(i, _)| !at_rest(&self.p, *i));
        let attempts = open
            .map(|(_, a)| (a.track.next_ms.unwrap_or(self.world.now.wall_ms), a.state.as_str()));
        let operations = self
            .p
            .operations
            .iter()
            .filter(|o| o.state.is_open())
            .map(|o| (o.track.next_ms.unwrap_or(self.world.now.wall_ms), o.kind.as_str()));
        attempts.chain(operations).min_by_key(|(at, _)| *at)
    }
}

/// The alert that a provider waits for the merchant.
pub(crate) const MERCHANT_ACTION: &str = "merchant_action";

/// Whether an alert says only that something takes too long: it ends when that is known.
pub(crate) fn is_about_waiting(alert: &str) -> bool {
    matches!(
        alert,
        "tries_exhausted"
            | "operation_tries_exhausted"
            | "refund_refused"
            | "void_refused"
            | "refund_cap"
            | MERCHANT_ACTION
            | "external_refund_unclear"
            | "close_unanswered"
    )
}

/// Nothing more is to be done for an attempt, though late truth is still accepted. What is only
/// held waits for its capture where that comes by itself, and for its void after a cancel.
pub(crate) fn at_rest(p: &Payment, i: usize) -> bool {
    let a = &p.attempts[i];
    match a.state {
        AttemptState::Success { captured: true } => true,
        AttemptState::Success { captured: false } => {
            p.settled.is_some() || (p.capture == CaptureMode::Manual && !p.cancel_requested)
        }
        _ => a.is_over(),
    }
}

/// The invariants that a next version must keep (SAFETY section 2.12).
fn check(before: &Payment, next: &Payment, due: bool) {
    assert_eq!(next.ver, before.ver + 1, "I9: ver goes up by one");
    if let Some(told) = before.settled {
        let kept = next.settled == Some(told);
        let recovered = told == Settled::Failed && next.settled == Some(Settled::Succeeded);
        assert!(kept || recovered, "I9: a final answer never changes");
    }
    let successes = next.attempts.iter().filter(|a| a.state.is_success()).count();
    assert!(successes <= 1, "I7: at most one attempt holds the money");
    let open = (0..next.attempts.len()).any(|i| !at_rest(next, i))
        || next.operations.iter().any(|o| o.state.is_open());
    assert!(!open || due, "I10: nothing open is without a time");
    // What others did at the provider is true all the same; the bounds are ours for what we ask.
    let asked = next.operations.iter().skip(before.operations.len());
    for o in asked.filter(|o| o.origin == Origin::Merchant) {
        let sum = next.sum(o.kind, o.attempt, OperationState::counts);
        assert!(sum <= next.money.amount, "I11: captures and refunds within what was authorized");
    }
    if next.attempts.len() > before.attempts.len() && before.settled.is_none() {
        let others = &next.attempts[..next.attempts.len() - 1];
        let last = &next.attempts[next.attempts.len() - 1];
        let tried_next = last.second_charge_of.is_none() && last.state == AttemptState::Started;
        let over = others.iter().all(|a| a.is_over() || a.loser);
        assert!(!tried_next || over, "I6: another account only when all before are over");
    }
    for (was, is) in before.attempts.iter().zip(&next.attempts) {
        let shut = was.track.fence.is_some() || was.track.was_closed() || was.is_over();
        let more = is.sends() > was.sends();
        assert!(!shut || !more, "G5: nothing is sent behind a fence or a close");
    }
    let mut sent = next.attempts.iter().flat_map(|a| a.track.exchanges.iter());
    let offers_are_shown_durably = sent.all(|x| x.effect != SendEffect::Read);
    assert!(offers_are_shown_durably, "reads are not journalled");
}
