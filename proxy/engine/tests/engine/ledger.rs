//! A fake provider that keeps books: as unhelpful as its contract allows, and never worse.
//!
//! It executes what arrives, in the order of arrival, and remembers under a key exactly what its
//! contract says that it remembers. Its books are the only truth that the walk believes.

use std::collections::BTreeMap;

use interlock_engine::ExchangeKind;
use interlock_plugin_api::{
    Class, Close, Concurrency, Contract, Fact, IdempotencyClass, NotFound, What,
};

use crate::desk::shown;
use crate::table::money;
use crate::walk::Dice;

/// One charge in the provider's books.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    pub reference: String,
    pub held: bool,
    pub taken: i64,
    pub given_back: i64,
    pub by_close: bool,
    pub void: bool,
}

impl Charge {
    pub fn live(&self) -> bool {
        (self.held && !self.void) || self.taken > self.given_back
    }
}

/// Everything under one of our numbers.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub charges: Vec<Charge>,
    /// The provider's number of the order, from its first arrival.
    reference: String,
    first_seen_ms: u64,
    /// A code that a shopper can pay.
    pub payable: bool,
    /// A shopper has scanned the code: the provider knows the order.
    pub scanned: bool,
    pub made_ms: u64,
    pending: bool,
    closed: bool,
    expired: bool,
    tombstone: bool,
    refusal: Option<Class>,
    running_until_ms: u64,
}

/// A capture, void or refund under one of our numbers.
#[derive(Clone, Debug)]
pub struct Job {
    pub kind: ExchangeKind,
    pub amount: i64,
    pub state: JobState,
    pub seen_ms: u64,
    /// Its order and the charge in it.
    pub target: (String, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JobState {
    Pending,
    Done,
    Refused,
    Failed,
}

/// What the provider answers, and what it will do by itself later.
pub struct Reaction {
    pub status: u16,
    pub facts: Vec<Fact>,
    pub later: Vec<(u64, Later)>,
}

#[derive(Clone, Debug)]
pub enum Later {
    /// Decide about what was accepted.
    Decide(String),
    /// Decide about an accepted operation.
    DecideJob(String),
    /// A refund that was done fails after all.
    Bounce(String),
    /// Take what is only held, as automatic capture promises.
    Take(String),
    /// Take what was declined: a provider that does not keep its word.
    Betray(String),
    /// Tell it.
    Notify(Fact),
}

/// The books of one account for one payment.
pub struct Provider {
    pub contract: Contract,
    pub orders: BTreeMap<String, Order>,
    pub jobs: BTreeMap<String, Job>,
    pub amount: i64,
    pub manual: bool,
    pub liar: bool,
    /// Faults are over: everything is prompt and plain.
    pub calm: bool,
    /// A refund that was done has failed: what was told of it before was true.
    pub bounced: bool,
}

impl Provider {
    pub fn new(contract: Contract, amount: i64, manual: bool, liar: bool) -> Self {
        let (orders, jobs) = (BTreeMap::new(), BTreeMap::new());
        Self { contract, orders, jobs, amount, manual, liar, calm: false, bounced: false }
    }

    fn class(&self) -> IdempotencyClass {
        self.contract.move_rule("pay").class
    }

    pub fn live(&self) -> usize {
        self.orders.values().flat_map(|o| &o.charges).filter(|c| c.live()).count()
    }

    pub fn made(&self) -> usize {
        self.orders.values().map(|o| o.charges.len()).sum()
    }

    pub fn net(&self) -> i64 {
        self.orders.values().flat_map(|o| &o.charges).map(|c| c.taken - c.given_back).sum()
    }

    pub fn held(&self) -> usize {
        let all = self.orders.values().flat_map(|o| &o.charges);
        all.filter(|c| c.held && !c.void && c.taken == 0).count()
    }

    /// A request that takes money, or makes a code, arrives.
    pub fn authorize(&mut self, op_id: &str, offer: bool, now: u64, dice: &mut Dice) -> Reaction {
        let class = self.class();
        if !self.calm && dice.one_in(30) {
            return answer(503, vec![Fact::unknown("busy")]);
        }
        if !self.calm && dice.one_in(25) {
            // Neither executed nor saved under the key: true of this one request.
            let class = if dice.one_in(2) { Class::AccountRestricted } else { Class::RateLimited };
            return answer(401, vec![Fact::declined(class, "proof.gate")]);
        }
        let calm = self.calm;
        let order = self.orders.entry(op_id.to_owned()).or_default();
        if order.first_seen_ms == 0 {
            order.first_seen_ms = now.max(1);
            order.reference = format!("{op_id}-r{}", order.charges.len());
        }
        if order.tombstone {
            return answer(400, vec![refusal(Class::DeclinedHard)]);
        }
        if offer {
            order.payable = !order.closed;
            order.made_ms = now;
            return answer(200, vec![shown()]);
        }
        let excluded = self.contract.move_rule("pay").concurrency == Concurrency::Excluded;
        let beside = !excluded && now < order.running_until_ms;
        order.running_until_ms = now + 300;
        let remembered = match class {
            _ if beside => false,
            IdempotencyClass::Strong => {
                !order.charges.is_empty()
                    || order.refusal.is_some()
                    || order.closed
                    || order.pending
            }
            IdempotencyClass::SuccessOnly => !order.charges.is_empty(),
            IdempotencyClass::None => false,
        };
        if remembered {
            let facts = order.told(class);
            return answer(200, facts.into_iter().map(Fact::of_key).collect());
        }
        let never_asynchronous = self.contract.move_rule("pay").never_asynchronous;
        let roll = dice.below(100);
        if roll < 22 {
            let class = match roll {
                0..8 => Class::DeclinedSoft,
                8..14 => Class::DeclinedHard,
                14..18 => Class::User,
                _ => Class::Maintenance,
            };
            order.refusal = Some(class);
            let fact = if self.class() == IdempotencyClass::Strong {
                refusal(class).of_key()
            } else {
                refusal(class)
            };
            let mut reaction = answer(400, vec![fact]);
            if self.liar && dice.one_in(3) {
                let at = now + dice.below(600_000);
                reaction.later.push((at, Later::Betray(op_id.to_owned())));
            }
            return reaction;
        }
        if roll < 36 && !never_asynchronous {
            order.pending = true;
            let at = now + if calm { 1_000 } else { dice.below(600_000) };
            let later = vec![(at, Later::Decide(op_id.to_owned()))];
            let fact = Fact::new(What::Pending).with_provider_ref(order.reference.clone());
            return Reaction { later, ..answer(202, vec![fact]) };
        }
        let late_capture = !self.manual && roll < 40;
        let later = self.charge(op_id, self.manual || late_capture, now, dice);
        let order = &self.orders[op_id];
        let mut reaction = answer(200, order.told(class));
        reaction.later = later;
        if late_capture {
            reaction.later.push((now + dice.below(120_000), Later::Take(op_id.to_owned())));
        }
        if !calm && dice.one_in(20) {
            // It is done, and its gateway says that it failed.
            reaction.status = 502;
            reaction.facts = vec![Fact::unknown("gateway")];
        }
        reaction
    }

    /// Money moves: one more charge in the books.
    fn charge(&mut self, op_id: &str, held: bool, now: u64, dice: &mut Dice) -> Vec<(u64, Later)> {
        let amount = self.amount;
        let Some(order) = self.orders.get_mut(op_id) else { return Vec::new() };
        let number = order.charges.len();
        let reference = if number == 0 {
            order.reference.clone()
        } else {
            format!("{}-{number}", order.reference)
        };
        order.pending = false;
        order.payable = false;
        order.charges.push(Charge {
            reference: reference.clone(),
            held,
            taken: if held { 0 } else { amount },
            given_back: 0,
            by_close: false,
            void: false,
        });
        let what = if held { What::Authorized } else { What::Captured };
        let fact =
            Fact::new(what).with_amount(money(amount)).with_provider_ref(reference).about(op_id);
        let surely = self.liar;
        notify(fact, now, self.calm || surely, dice)
    }

    /// What was to come later comes.
    pub fn later(&mut self, later: &Later, now: u64, dice: &mut Dice) -> Vec<(u64, Later)> {
        match later {
            Later::Decide(op_id) => {
                let rule = self.contract.move_rule("pay");
                let Some(order) = self.orders.get_mut(op_id) else { return Vec::new() };
                // What was accepted twice is decided twice, unless one key is one execution.
                let strong = rule.class == IdempotencyClass::Strong;
                if order.closed || (strong && !order.pending) {
                    return Vec::new();
                }
                order.pending = false;
                if dice.one_in(3) {
                    order.refusal = Some(Class::DeclinedSoft);
                    let fact = refusal(Class::DeclinedSoft).of_key().about(op_id.clone());
                    return notify(fact, now, self.calm, dice);
                }
                self.charge(op_id, self.manual, now, dice)
            }
            Later::Betray(op_id) => {
                // Nobody asks about what was declined, so it is told until it is heard.
                let told = self.charge(op_id, self.manual, now, dice);
                let told = told.into_iter().next().map(|(_, told)| told);
                told.into_iter().map(|told| (now + dice.below(60_000), told)).collect()
            }
            Later::Take(op_id) => {
                let amount = self.amount;
                let Some(order) = self.orders.get_mut(op_id) else { return Vec::new() };
                let Some(charge) = order.charges.iter_mut().find(|c| c.held && !c.void) else {
                    return Vec::new();
                };
                charge.held = false;
                charge.taken = amount;
                let fact = Fact::new(What::Captured)
                    .with_amount(money(amount))
                    .with_provider_ref(charge.reference.clone())
                    .about(op_id.clone());
                notify(fact, now, self.calm, dice)
            }
            Later::DecideJob(op_id) => self.decide_job(op_id, now, dice),
            Later::Bounce(op_id) => {
                let Some(job) = self.jobs.get_mut(op_id) else { return Vec::new() };
                if job.state != JobState::Done {
                    return Vec::new();
                }
                job.state = JobState::Failed;
                self.bounced = true;
                let (order, n) = job.target.clone();
                let amount = job.amount;
                if let Some(order) = self.orders.get_mut(&order) {
                    order.charges[n].given_back -= amount;
                }
                // Nobody would ask about what was done, so the provider tells it until it is heard.
                let fact = Fact::declined(Class::Unmapped, "bounced");
                let fact = Fact { what: What::Failed, ..fact }.about(op_id.clone());
                vec![(now + dice.below(60_000), Later::Notify(fact))]
            }
            Later::Notify(_) => Vec::new(),
        }
    }

    /// A shopper pays a code, if the provider still lets him.
    pub fn pay(&mut self, op_id: &str, now: u64, dice: &mut Dice) -> Vec<(u64, Later)> {
        let end = self.contract.offer_expiry.map(|e| e.after_ms);
        let Some(order) = self.orders.get_mut(op_id) else { return Vec::new() };
        if end.is_some_and(|end| now >= order.made_ms + end) {
            order.payable = false;
            order.expired = true;
        }
        if !order.payable || order.closed || order.tombstone {
            return Vec::new();
        }
        order.scanned = true;
        if dice.one_in(4) {
            order.refusal = Some(Class::User);
            return notify(refusal(Class::User).about(op_id), now, self.calm, dice);
        }
        self.charge(op_id, false, now, dice)
    }

    /// A shopper scans a code and thinks about it.
    pub fn scan(&mut self, op_id: &str) {
        if let Some(order) = self.orders.get_mut(op_id) {
            order.scanned |= order.payable;
        }
    }

    /// A request to end what is not paid.
    pub fn close(&mut self, target: &str, now: u64, dice: &mut Dice) -> Reaction {
        let Close { may_refund, tombstone, min_age_ms, .. } =
            self.contract.close_of("*").cloned().unwrap_or_default();
        if !self.calm && dice.one_in(15) {
            return answer(503, vec![Fact::unknown("busy")]);
        }
        if tombstone {
            self.orders.entry(target.to_owned()).or_default().tombstone = true;
        }
        let unknown = self.orders.get(target).is_none_or(|o| {
            let only_code = o.made_ms > 0 && !o.scanned;
            o.first_seen_ms == 0 || (only_code && !tombstone)
        });
        if unknown {
            return answer(200, vec![Fact::new(What::ClosedNothingFound)]);
        }
        let order = self.orders.get_mut(target).expect("known");
        if now < order.first_seen_ms + min_age_ms {
            return answer(400, vec![Fact::declined(Class::Config, "proof.too_young")]);
        }
        if let Some(charge) = order.charges.iter().find(|c| c.live()).cloned() {
            if !may_refund {
                return answer(200, order.told(IdempotencyClass::None));
            }
            for charge in order.charges.iter_mut().filter(|c| c.live()) {
                charge.given_back = charge.taken;
                charge.void = charge.held;
                charge.by_close = true;
            }
            order.closed = true;
            let fact = Fact::new(What::ClosedRefunded).with_provider_ref(charge.reference);
            return self.crossed(answer(200, vec![fact]), dice);
        }
        if order.charges.iter().any(|c| c.by_close) {
            return answer(200, vec![Fact::new(What::ClosedRefunded)]);
        }
        let again = order.closed && dice.one_in(2);
        order.closed = true;
        order.payable = false;
        order.pending = false;
        let what = if again { What::ClosedNothingFound } else { What::ClosedUnpaid };
        self.crossed(answer(200, vec![Fact::new(what)]), dice)
    }

    /// It is done, and its gateway says that it failed.
    fn crossed(&self, reaction: Reaction, dice: &mut Dice) -> Reaction {
        if !self.calm && dice.one_in(20) {
            let facts = vec![Fact::unknown("gateway")];
            return Reaction { later: reaction.later, ..answer(504, facts) };
        }
        reaction
    }

    /// What became of an order.
    pub fn inquire(
        &mut self,
        op_id: &str,
        reference: Option<&str>,
        now: u64,
        dice: &mut Dice,
    ) -> Vec<Fact> {
        if !self.calm && dice.one_in(12) {
            return if dice.one_in(2) { Vec::new() } else { vec![Fact::unknown("busy")] };
        }
        let end = self.contract.offer_expiry.map(|e| e.after_ms);
        let believed = self.contract.inquiry.not_found == NotFound::AfterFence;
        let calm = self.calm;
        let not_found = || vec![Fact::new(What::NotFound)];
        let Some(order) = self.orders.get_mut(op_id) else { return not_found() };
        if end.is_some_and(|end| order.made_ms > 0 && now >= order.made_ms + end) {
            order.expired |= order.payable;
            order.payable = false;
        }
        // A copy of the books that lags behind.
        let lag = if believed { 2_000 } else { 300_000 };
        let only_code = order.made_ms > 0 && !order.scanned;
        if order.first_seen_ms == 0
            || only_code
            || (!calm && now < order.first_seen_ms + dice.below(lag))
        {
            return not_found();
        }
        if let Some(c) = reference.and_then(|r| order.charges.iter().find(|c| c.reference == r)) {
            return vec![c.told()];
        }
        order.told(self.contract.move_rule("pay").class)
    }
}

impl Order {
    /// What is true of the order.
    fn told(&self, class: IdempotencyClass) -> Vec<Fact> {
        if !self.charges.is_empty() {
            return self.charges.iter().map(Charge::told).collect();
        }
        let fact = match self.refusal {
            _ if self.closed => Fact::new(What::ClosedUnpaid),
            _ if self.expired => Fact::new(What::Expired),
            _ if self.pending => Fact::new(What::Pending),
            _ if self.payable => Fact::new(What::Pending),
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

pub fn answer(status: u16, facts: Vec<Fact>) -> Reaction {
    Reaction { status, facts, later: Vec::new() }
}

pub fn refusal(class: Class) -> Fact {
    Fact::declined(class, "proof.no")
}

/// Tells something never, once or twice, soon or late.
pub fn notify(fact: Fact, now: u64, calm: bool, dice: &mut Dice) -> Vec<(u64, Later)> {
    let copies = if calm { 1 } else { [0, 1, 1, 1, 2][dice.below(5) as usize] };
    let longest = if calm { 1_000 } else { 400_000 };
    (0..copies).map(|_| (now + dice.below(longest), Later::Notify(fact.clone()))).collect()
}
