//! A fake provider that keeps books: as unhelpful as its contract allows, and never worse.
//!
//! It executes what arrives, in the order of arrival, and remembers under a key exactly what its
//! contract says that it remembers. Its books are the only truth that the oracle believes. It has
//! no clock and no dice of its own: what may happen is a question to [`Chance`], which the
//! simulator answers by a seed and the model by trying everything.

mod jobs;
pub mod portal;
mod returns;

use std::sync::Arc;

use interlock_engine::{ExchangeKind, Line};
use interlock_plugin_api::{
    Action, Class, Close, Concurrency, Contract, Currency, Fact, IdempotencyClass, Money, NotFound,
    What,
};

use crate::declarations::CONTINUE;
use returns::Returned;

pub use jobs::{Job, JobState, Task};

/// For how long a provider works on one request, ms: a copy that arrives meanwhile runs beside it.
const RUNNING_MS: u64 = 300;
/// How far the copy of the books that answers inquiries may lag behind, ms.
const LAG_MS: u64 = 300_000;
/// The same where "not found" may be believed after the late window.
const LAG_BELIEVED_MS: u64 = 2_000;

/// Answers what happens where several things may.
pub trait Chance {
    /// The index of one of these, by weight; what weighs nothing does not happen.
    fn pick(&mut self, weights: &[u32]) -> usize;

    /// Whether something happens that does so in `n` of 1,000 cases.
    fn happens(&mut self, n: u32) -> bool {
        self.pick(&[1_000 - n, n]) == 1
    }
}

/// One charge in the provider's books.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The provider's number.
    pub reference: String,
    /// Only authorized.
    pub held: bool,
    /// Minor units taken.
    pub taken: i64,
    /// Minor units given back.
    pub given_back: i64,
    /// A close gave it back.
    pub by_close: bool,
    /// The authorization was released.
    pub void: bool,
}

impl Charge {
    /// It costs the shopper something, or may.
    pub fn live(&self) -> bool {
        (self.held && !self.void) || self.taken > self.given_back
    }
}

/// Everything under one of our numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// Our number.
    pub op_id: String,
    /// What was charged under it.
    pub charges: Vec<Charge>,
    reference: String,
    first_seen_ms: Option<u64>,
    /// A code that a shopper can pay.
    pub payable: bool,
    /// A shopper has scanned the code: the provider knows the order.
    pub scanned: bool,
    offered_ms: Option<u64>,
    pending: u32,
    closed: bool,
    expired: bool,
    tombstone: bool,
    refusal: Option<Class>,
    running_until_ms: u64,
    /// It waits for the shopper's return.
    challenged: bool,
    /// He has done his part; it waits to be told to go on.
    approved: bool,
    /// It was refused for good.
    over: bool,
    returns: Vec<Returned>,
}

/// A request that takes money, or makes something to be paid.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its own number.
    pub op_id: &'a str,
    /// Our number of the payment.
    pub order: &'a str,
    /// It makes a code.
    pub offer: bool,
    /// The shopper must prove himself first.
    pub challenge: bool,
    /// It was sent although the last answer did not permit it: the key is not remembered.
    pub unpermitted: bool,
}

/// What the provider answers, says to everybody, and will do by itself later.
#[derive(Clone, Debug, Default)]
pub struct Reaction {
    /// HTTP status.
    pub status: u16,
    /// What a plugin reads in the answer.
    pub facts: Vec<Fact>,
    /// Notifications.
    pub tells: Vec<Fact>,
    /// What is still to come.
    pub later: Vec<Later>,
}

/// What a provider does by itself, sooner or later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Later {
    /// Decide about what was accepted.
    Decide(String),
    /// Decide about an accepted operation.
    DecideJob(String),
    /// A refund that was done fails after all.
    Bounce(String),
    /// Take what is only held, as automatic capture promises.
    Take(String),
    /// The shopper passes what he was shown.
    Approve(String),
    /// Take what was declined: a provider that does not keep its word.
    Betray(String),
}

/// How a provider behaves where its contract leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mood {
    /// The payment is captured by us, later.
    pub manual: bool,
    /// It takes what it declined.
    pub liar: bool,
    /// It fails, refuses and bounces by chance.
    pub moody: bool,
}

/// The books of one account for one payment.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What it promises.
    pub contract: Arc<Contract>,
    /// What it does beyond.
    pub mood: Mood,
    /// The order's amount, minor units.
    pub amount: i64,
    /// By our numbers.
    pub orders: Vec<Order>,
    /// Captures, voids and refunds.
    pub jobs: Vec<Job>,
    /// A refund that was done has failed: what was told of it before was true.
    pub bounced: bool,
    /// Minor units that were given back in its portal, without a request of ours.
    pub outside: i64,
    /// The same one by one: our number of the payment, and what is told.
    portal: Vec<(String, Fact)>,
}

impl Provider {
    /// Empty books.
    pub fn new(contract: Arc<Contract>, amount: i64, mood: Mood) -> Self {
        let (orders, jobs) = (Vec::new(), Vec::new());
        Self {
            contract,
            mood,
            amount,
            orders,
            jobs,
            bounced: false,
            outside: 0,
            portal: Vec::new(),
        }
    }

    fn class(&self) -> IdempotencyClass {
        self.contract.moves.get("pay").map_or(IdempotencyClass::None, |rule| rule.class)
    }

    /// All charges.
    pub fn charges(&self) -> impl Iterator<Item = &Charge> {
        self.orders.iter().flat_map(|o| &o.charges)
    }

    /// Charges that cost the shopper something.
    pub fn live(&self) -> usize {
        self.charges().filter(|c| c.live()).count()
    }

    /// Charges ever made.
    pub fn made(&self) -> usize {
        self.orders.iter().map(|o| o.charges.len()).sum()
    }

    /// What was taken and not given back, minor units.
    pub fn net(&self) -> i64 {
        self.charges().map(|c| c.taken - c.given_back).sum()
    }

    /// Authorizations that stand.
    pub fn held(&self) -> usize {
        self.charges().filter(|c| c.held && !c.void && c.taken == 0).count()
    }

    /// The books as a statement: what was taken or is accepted, and what was done with it.
    pub fn statement(&self, account: &str) -> Vec<Line> {
        let line = |number: &str, fact| Line {
            account: account.to_owned(),
            number: number.to_owned(),
            operation: None,
            fact,
        };
        let mut lines = Vec::new();
        for order in &self.orders {
            lines.extend(order.charges.iter().map(|c| line(&order.op_id, c.told())));
            if order.pending > 0 && order.charges.is_empty() {
                let fact = Fact::new(What::Pending).with_provider_ref(order.reference.clone());
                lines.push(line(&order.op_id, fact));
            }
        }
        for job in &self.jobs {
            let (order, fact) = self.job_told(job);
            let operation = Some((job.kind, job.op_id.clone()));
            lines.push(Line { operation, ..line(order, fact) });
        }
        for (order, fact) in &self.portal {
            let number = fact.operation_ref.clone().unwrap_or_default();
            let operation = Some((ExchangeKind::Refund, number));
            lines.push(Line { operation, ..line(order, fact.clone()) });
        }
        lines
    }

    /// The books under one of our numbers.
    pub fn order(&self, op_id: &str) -> Option<&Order> {
        self.orders.iter().find(|o| o.op_id == op_id)
    }

    fn order_mut(&mut self, op_id: &str) -> Option<&mut Order> {
        self.orders.iter_mut().find(|o| o.op_id == op_id)
    }

    fn seen(&mut self, op_id: &str) -> &mut Order {
        let n = match self.orders.iter().position(|o| o.op_id == op_id) {
            Some(n) => n,
            None => {
                self.orders.push(Order::new(op_id));
                self.orders.len() - 1
            }
        };
        &mut self.orders[n]
    }

    /// A request that takes money, or makes a code, arrives.
    pub fn authorize(&mut self, asked: &Asked<'_>, now: u64, chance: &mut impl Chance) -> Reaction {
        let Asked { op_id, offer, challenge, unpermitted, .. } = *asked;
        let (class, approving) = (self.class(), self.approving());
        let rule = self.contract.moves.get("pay");
        let excluded = rule.is_some_and(|r| r.concurrency == Concurrency::Excluded);
        let prompt = rule.is_some_and(|r| r.never_asynchronous);
        let Mood { manual, liar, moody } = self.mood;
        let bad = u32::from(moody);
        if let Some(refused) = self.gate(chance) {
            return refused;
        }
        let order = self.seen(op_id);
        order.first_seen_ms.get_or_insert(now);
        if order.tombstone {
            return answer(400, refusal(Class::DeclinedHard));
        }
        if offer {
            order.payable = !order.closed;
            order.offered_ms = Some(now);
            return answer(200, shown());
        }
        let beside = !excluded && now < order.running_until_ms;
        order.running_until_ms = now + RUNNING_MS;
        let remembered = match class {
            _ if beside || unpermitted => false,
            IdempotencyClass::Strong => order.has_result(),
            IdempotencyClass::SuccessOnly => !order.charges.is_empty(),
            IdempotencyClass::None => false,
        };
        if remembered && order.challenged {
            return answer(200, shown());
        }
        if remembered {
            let facts = order.told(class, approving).into_iter().map(Fact::of_key).collect();
            return Reaction { status: 200, facts, ..Reaction::default() };
        }
        if challenge && !chance.happens(150 * bad) {
            let order = self.seen(op_id);
            (order.challenged, order.scanned) = (true, true);
            order.offered_ms.get_or_insert(now);
            return Reaction { later: self.passes(op_id), ..answer(200, shown()) };
        }
        let accepts = if prompt { 0 } else { 100 };
        let held_first = if manual { 0 } else { 40 };
        match chance.pick(&[700, 70 * bad, 30 * bad, 30 * bad, accepts, held_first * bad, 40 * bad])
        {
            refused @ 1..=3 => {
                let class =
                    [Class::DeclinedSoft, Class::DeclinedHard, Class::Maintenance][refused - 1];
                self.refuse(op_id, class, liar, chance)
            }
            4 => {
                let order = self.seen(op_id);
                order.pending += 1;
                let fact = Fact::new(What::Pending).with_provider_ref(order.reference.clone());
                let later = vec![Later::Decide(op_id.to_owned())];
                Reaction { later, ..answer(202, fact) }
            }
            5 => {
                let mut reaction = self.charge(op_id, true);
                reaction.later.push(Later::Take(op_id.to_owned()));
                reaction
            }
            // It is done, and its gateway says that it failed.
            6 => {
                let leave = self.may_follow(chance);
                gateway(502, leave, self.charge(op_id, manual))
            }
            _ => self.charge(op_id, manual),
        }
    }

    /// The first of two requests: of a payment it makes an order, and nothing moves.
    pub fn create(&mut self, order: Option<&str>, now: u64, chance: &mut impl Chance) -> Reaction {
        if let Some(refused) = self.gate(chance) {
            return refused;
        }
        if let Some(op_id) = order {
            self.seen(op_id).first_seen_ms.get_or_insert(now);
        }
        Reaction { status: 200, ..Reaction::default() }
    }

    /// Neither executed nor saved under the key: true of this one request.
    pub(super) fn gate(&self, chance: &mut impl Chance) -> Option<Reaction> {
        let bad = u32::from(self.mood.moody);
        let (status, fact) = match chance.pick(&[920, 35 * bad, 15 * bad, 15 * bad]) {
            1 if self.may_follow(chance) => (503, Fact::unknown("again.busy")),
            1 => (503, Fact::unknown("busy")),
            2 => (401, Fact::declined(Class::AccountRestricted, "proof.gate")),
            3 => (429, Fact::declined(Class::RateLimited, "proof.gate")),
            _ => return None,
        };
        Some(answer(status, fact))
    }

    fn refuse(
        &mut self,
        op_id: &str,
        class: Class,
        liar: bool,
        chance: &mut impl Chance,
    ) -> Reaction {
        let strong = self.class() == IdempotencyClass::Strong;
        self.seen(op_id).refusal = Some(class);
        let fact = if strong { refusal(class).of_key() } else { refusal(class) };
        let mut reaction = answer(400, fact);
        if liar && chance.happens(333) {
            reaction.later.push(Later::Betray(op_id.to_owned()));
        }
        reaction
    }

    /// Money moves: one more charge in the books, told to whoever asked and to us.
    fn charge(&mut self, op_id: &str, held: bool) -> Reaction {
        let amount = self.amount;
        let (class, approving) = (self.class(), self.approving());
        let order = self.seen(op_id);
        let number = order.charges.len();
        let reference = match number {
            0 => order.reference.clone(),
            _ => format!("{}-{number}", order.reference),
        };
        order.pending = order.pending.saturating_sub(1);
        (order.payable, order.challenged) = (false, false);
        let taken = if held { 0 } else { amount };
        let charge = Charge {
            reference: reference.clone(),
            held,
            taken,
            given_back: 0,
            by_close: false,
            void: false,
        };
        order.charges.push(charge);
        let what = if held { What::Authorized } else { What::Captured };
        let told = Fact::new(what).with_amount(money(amount)).with_provider_ref(reference);
        let facts = order.told(class, approving);
        Reaction { status: 200, facts, tells: vec![told.about(op_id)], later: Vec::new() }
    }

    /// What was to come later comes.
    pub fn later(&mut self, later: &Later, chance: &mut impl Chance) -> Reaction {
        match later {
            Later::Decide(op_id) => self.decide(op_id, chance),
            Later::Betray(op_id) => self.charge(op_id, self.mood.manual),
            Later::Approve(op_id) => self.approve(op_id),
            Later::Take(op_id) => {
                let amount = self.amount;
                let held = |c: &&mut Charge| c.held && !c.void;
                let charge = self.order_mut(op_id).and_then(|o| o.charges.iter_mut().find(held));
                let Some(charge) = charge else { return Reaction::default() };
                (charge.held, charge.taken) = (false, amount);
                let told = Fact::new(What::Captured)
                    .with_amount(money(amount))
                    .with_provider_ref(charge.reference.clone());
                said(told.about(op_id.as_str()))
            }
            Later::DecideJob(op_id) => self.decide_job(op_id, chance),
            Later::Bounce(op_id) => self.bounce(op_id),
        }
    }

    fn decide(&mut self, op_id: &str, chance: &mut impl Chance) -> Reaction {
        let strong = self.class() == IdempotencyClass::Strong;
        let manual = self.mood.manual;
        let ends = self.contract.move_rule(CONTINUE).refusal_final;
        let Some(order) = self.order_mut(op_id) else { return Reaction::default() };
        // What was accepted twice is decided twice, unless one key is one execution.
        if order.closed || order.pending == 0 || (strong && !order.charges.is_empty()) {
            return Reaction::default();
        }
        if chance.happens(333) {
            order.pending -= 1;
            if order.returns.is_empty() || ends {
                order.refusal = Some(Class::DeclinedSoft);
                order.over = ends;
            } else {
                // The shopper may come back once more.
                order.challenged = true;
            }
            return said(refusal(Class::DeclinedSoft).of_key().about(op_id));
        }
        self.charge(op_id, manual)
    }

    /// A shopper scans a code and thinks about it.
    pub fn scan(&mut self, op_id: &str) {
        if let Some(order) = self.order_mut(op_id) {
            order.scanned |= order.payable;
        }
    }

    /// A shopper pays a code, if the provider still lets him.
    pub fn pay(&mut self, op_id: &str, now: u64, chance: &mut impl Chance) -> Reaction {
        self.lapse(op_id, now);
        let Some(order) = self.order_mut(op_id) else { return Reaction::default() };
        if !order.payable || order.closed || order.tombstone {
            return Reaction::default();
        }
        order.scanned = true;
        if chance.happens(250) {
            order.refusal = Some(Class::User);
            return said(refusal(Class::User).about(op_id));
        }
        self.charge(op_id, self.mood.manual)
    }

    /// A request to end what is not paid.
    pub fn close(&mut self, target: &str, now: u64, chance: &mut impl Chance) -> Reaction {
        let contract = self.contract.clone();
        let Close { may_refund, tombstone, min_age_ms, .. } =
            contract.close_of("*").cloned().unwrap_or_default();
        let bad = u32::from(self.mood.moody);
        if chance.happens(60 * bad) {
            return answer(503, Fact::unknown("busy"));
        }
        if tombstone {
            self.seen(target).tombstone = true;
        }
        let unknown = self.order(target).is_none_or(|o| {
            let only_code = o.offered_ms.is_some() && !o.scanned;
            o.first_seen_ms.is_none() || (only_code && !tombstone)
        });
        if unknown {
            return answer(200, Fact::new(What::ClosedNothingFound));
        }
        let order = self.seen(target);
        if now < order.first_seen_ms.unwrap_or(0) + min_age_ms {
            return answer(400, Fact::declined(Class::Config, "proof.too_young"));
        }
        if let Some(charge) = order.charges.iter().find(|c| c.live()).cloned() {
            if !may_refund {
                let facts = order.told(IdempotencyClass::None, false);
                return Reaction { status: 200, facts, ..Reaction::default() };
            }
            for charge in order.charges.iter_mut().filter(|c| c.live()) {
                charge.given_back = charge.taken;
                charge.void = charge.held;
                charge.by_close = true;
            }
            order.closed = true;
            let fact = Fact::new(What::ClosedRefunded).with_provider_ref(charge.reference);
            return self.crossed(answer(200, fact), chance);
        }
        if order.charges.iter().any(|c| c.by_close) {
            return answer(200, Fact::new(What::ClosedRefunded));
        }
        let again = order.closed && chance.happens(500);
        let order = self.seen(target);
        (order.closed, order.payable, order.pending) = (true, false, 0);
        order.challenged = false;
        let what = if again { What::ClosedNothingFound } else { What::ClosedUnpaid };
        self.crossed(answer(200, Fact::new(what)), chance)
    }

    /// It is done, and its gateway says that it failed.
    fn crossed(&self, reaction: Reaction, chance: &mut impl Chance) -> Reaction {
        let bad = u32::from(self.mood.moody);
        if chance.happens(50 * bad) { gateway(504, false, reaction) } else { reaction }
    }

    /// What became of an order; empty when no answer comes.
    pub fn inquire(
        &mut self,
        op_id: &str,
        reference: Option<&str>,
        now: u64,
        chance: &mut impl Chance,
    ) -> Vec<Fact> {
        let bad = u32::from(self.mood.moody);
        match chance.pick(&[900, 50 * bad, 50 * bad]) {
            1 => return Vec::new(),
            2 => return vec![Fact::unknown("busy")],
            _ => {}
        }
        self.lapse(op_id, now);
        let believed = self.contract.inquiry.not_found == NotFound::AfterFence;
        let (class, approving) = (self.class(), self.approving());
        let not_found = || vec![Fact::new(What::NotFound)];
        let Some(order) = self.order(op_id) else { return not_found() };
        let only_code = order.offered_ms.is_some() && !order.scanned;
        let Some(first_seen) = order.first_seen_ms.filter(|_| !only_code) else {
            return not_found();
        };
        // A copy of the books that lags behind.
        let lag = if believed { LAG_BELIEVED_MS } else { LAG_MS };
        if now < first_seen + lag && chance.happens(400 * bad) {
            return not_found();
        }
        if let Some(c) = reference.and_then(|r| order.charges.iter().find(|c| c.reference == r)) {
            return vec![c.told()];
        }
        order.told(class, approving)
    }

    /// The provider's own end of a code comes.
    fn lapse(&mut self, op_id: &str, now: u64) {
        let Some(end) = self.contract.offer_expiry.map(|e| e.after_ms) else { return };
        let Some(order) = self.order_mut(op_id) else { return };
        if order.offered_ms.is_some_and(|at| now >= at + end) {
            order.expired |= order.payable || order.challenged;
            (order.payable, order.challenged) = (false, false);
        }
    }
}

impl Order {
    fn new(op_id: &str) -> Self {
        Self {
            op_id: op_id.to_owned(),
            charges: Vec::new(),
            reference: format!("r-{op_id}"),
            first_seen_ms: None,
            payable: false,
            scanned: false,
            offered_ms: None,
            pending: 0,
            closed: false,
            expired: false,
            tombstone: false,
            refusal: None,
            running_until_ms: 0,
            challenged: false,
            approved: false,
            over: false,
            returns: Vec::new(),
        }
    }

    fn has_result(&self) -> bool {
        let open = self.challenged || self.expired || self.over;
        open || !self.charges.is_empty()
            || self.refusal.is_some()
            || self.closed
            || self.pending > 0
    }

    /// What is true of the order.
    fn told(&self, class: IdempotencyClass, approving: bool) -> Vec<Fact> {
        if !self.charges.is_empty() {
            return self.charges.iter().map(Charge::told).collect();
        }
        let fact = match self.refusal {
            _ if self.closed => Fact::new(What::ClosedUnpaid),
            _ if self.expired => Fact::new(What::Expired),
            _ if self.pending > 0 || self.payable => Fact::new(What::Pending),
            _ if self.challenged && self.approved => Fact::new(What::Approved),
            _ if self.challenged && approving => Fact::new(What::Action),
            _ if self.challenged => Fact::new(What::Pending),
            Some(refused) if class == IdempotencyClass::Strong => refusal(refused).of_key(),
            Some(refused) => refusal(refused),
            None => Fact::new(What::NotFound),
        };
        vec![fact]
    }
}

impl Charge {
    fn told(&self) -> Fact {
        let what = match self {
            c if c.by_close => What::ClosedRefunded,
            c if c.void => What::Voided,
            c if c.held => What::Authorized,
            c if c.given_back == c.taken => What::Refunded,
            _ => What::Captured,
        };
        Fact::new(what).with_provider_ref(self.reference.clone())
    }
}

/// The currency of every payment here.
pub fn cny() -> Currency {
    Currency::parse("CNY").expect("a currency")
}

/// Minor units as money.
pub fn money(amount: i64) -> Money {
    Money::new(amount, cny())
}

/// Something for the shopper to act on.
pub fn shown() -> Fact {
    let payload = serde_json::Map::new();
    let action = Action { kind: "qr_code".into(), payload, expires_ms: None };
    Fact { action: Some(action), ..Fact::new(What::Action) }
}

fn answer(status: u16, fact: Fact) -> Reaction {
    Reaction { status, facts: vec![fact], ..Reaction::default() }
}

/// Nothing but a notification.
fn said(fact: Fact) -> Reaction {
    Reaction { tells: vec![fact], ..Reaction::default() }
}

fn gateway(status: u16, may_follow: bool, reaction: Reaction) -> Reaction {
    let code = if may_follow { "again.gateway" } else { "gateway" };
    Reaction { status, facts: vec![Fact::unknown(code)], ..reaction }
}

/// A refusal with a code that proves that nothing moved.
fn refusal(class: Class) -> Fact {
    Fact::declined(class, "proof.no")
}
