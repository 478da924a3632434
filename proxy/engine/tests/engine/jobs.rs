//! Captures, voids and refunds in the fake provider's books.

use interlock_engine::ExchangeKind;
use interlock_plugin_api::{Class, Fact, IdempotencyClass, What};

use crate::ledger::{Job, JobState, Later, Provider, Reaction, answer, notify, refusal};
use crate::table::money;
use crate::walk::Dice;

impl Provider {
    /// A capture, void or refund arrives.
    pub fn operate(
        &mut self,
        kind: ExchangeKind,
        op_id: &str,
        (order, reference): (&str, Option<&str>),
        amount: i64,
        now: u64,
        dice: &mut Dice,
    ) -> Reaction {
        if !self.calm && dice.one_in(25) {
            return answer(503, vec![Fact::unknown("busy")]);
        }
        if !self.calm && dice.one_in(30) {
            return answer(429, vec![Fact::declined(Class::RateLimited, "proof.gate")]);
        }
        let class = self.contract.move_rule(kind.as_str()).class;
        if let Some(job) = self.jobs.get(op_id) {
            let kept = match class {
                IdempotencyClass::Strong => true,
                IdempotencyClass::SuccessOnly => {
                    matches!(job.state, JobState::Done | JobState::Pending)
                }
                IdempotencyClass::None => false,
            };
            if kept {
                return answer(200, vec![job.told().of_key()]);
            }
        }
        let target = self.orders.get(order).and_then(|o| {
            let named = reference.and_then(|r| o.charges.iter().position(|c| c.reference == r));
            named.or(if o.charges.is_empty() { None } else { Some(0) })
        });
        let Some(n) = target else {
            return answer(404, vec![refusal(Class::DeclinedHard)]);
        };
        let charge = &self.orders[order].charges[n];
        let possible = match kind {
            ExchangeKind::Capture => charge.held && !charge.void && amount <= self.amount,
            ExchangeKind::Void => charge.held && !charge.void && charge.taken == 0,
            _ => charge.taken - charge.given_back >= amount,
        };
        let job = |state| Job { kind, amount, state, seen_ms: now, target: (order.to_owned(), n) };
        if !possible || (!self.calm && dice.one_in(12)) {
            self.jobs.insert(op_id.to_owned(), job(JobState::Refused));
            let fact = refusal(Class::DeclinedHard);
            let kept = class == IdempotencyClass::Strong;
            return answer(400, vec![if kept { fact.of_key() } else { fact }]);
        }
        let prompt = self.contract.move_rule(kind.as_str()).never_asynchronous;
        let decides_later = !prompt || class != IdempotencyClass::SuccessOnly;
        if kind == ExchangeKind::Refund && decides_later && dice.one_in(3) {
            self.jobs.insert(op_id.to_owned(), job(JobState::Pending));
            let at = now + if self.calm { 500 } else { dice.below(300_000) };
            let later = vec![(at, Later::DecideJob(op_id.to_owned()))];
            return Reaction { later, ..answer(202, vec![Fact::new(What::Pending)]) };
        }
        self.jobs.insert(op_id.to_owned(), job(JobState::Done));
        let later = self.carry_out(op_id, now, dice);
        let fact = self.jobs[op_id].told();
        let mut reaction = Reaction { later, ..answer(200, vec![fact]) };
        if !self.calm && dice.one_in(20) {
            (reaction.status, reaction.facts) = (502, vec![Fact::unknown("gateway")]);
        }
        reaction
    }

    pub fn decide_job(&mut self, op_id: &str, now: u64, dice: &mut Dice) -> Vec<(u64, Later)> {
        let Some(job) = self.jobs.get_mut(op_id) else { return Vec::new() };
        if job.state != JobState::Pending {
            return Vec::new();
        }
        let (order, n) = &job.target;
        let charge = &self.orders[order].charges[*n];
        let possible = charge.taken - charge.given_back >= job.amount;
        if !possible || dice.one_in(5) {
            job.state = JobState::Failed;
            let fact = Fact { what: What::Failed, ..refusal(Class::Unmapped) }.about(op_id);
            return notify(fact, now, self.calm, dice);
        }
        job.state = JobState::Done;
        self.carry_out(op_id, now, dice)
    }

    /// Moves the money of an operation.
    fn carry_out(&mut self, op_id: &str, now: u64, dice: &mut Dice) -> Vec<(u64, Later)> {
        let Some(job) = self.jobs.get(op_id).cloned() else { return Vec::new() };
        let (order, n) = (&job.target.0, job.target.1);
        let Some(order) = self.orders.get_mut(order) else { return Vec::new() };
        let charge = &mut order.charges[n];
        let mut later = notify(job.told().about(op_id), now, self.calm, dice);
        match job.kind {
            ExchangeKind::Capture => {
                charge.held = false;
                charge.taken += job.amount;
            }
            ExchangeKind::Void => charge.void = true,
            _ => {
                charge.given_back += job.amount;
                if !self.calm && dice.one_in(15) {
                    later.push((now + dice.below(600_000), Later::Bounce(op_id.to_owned())));
                }
            }
        }
        later
    }

    /// What became of an operation.
    pub fn inquire_job(&mut self, op_id: &str, now: u64, dice: &mut Dice) -> Vec<Fact> {
        if !self.calm && dice.one_in(12) {
            return if dice.one_in(2) { Vec::new() } else { vec![Fact::unknown("busy")] };
        }
        match self.jobs.get(op_id) {
            Some(job) if self.calm || now >= job.seen_ms + dice.below(2_000) => vec![job.told()],
            _ => vec![Fact::new(What::NotFound)],
        }
    }
}

impl Job {
    fn told(&self) -> Fact {
        let what = match (self.state, self.kind) {
            (JobState::Pending, _) => What::Pending,
            (JobState::Failed, _) => {
                return Fact { what: What::Failed, ..refusal(Class::Unmapped) };
            }
            (JobState::Refused, _) => return refusal(Class::DeclinedHard).of_key(),
            (JobState::Done, ExchangeKind::Capture) => What::Captured,
            (JobState::Done, ExchangeKind::Void) => What::Voided,
            (JobState::Done, _) => What::Refunded,
        };
        let fact = Fact::new(what);
        if self.kind == ExchangeKind::Void { fact } else { fact.with_amount(money(self.amount)) }
    }
}
