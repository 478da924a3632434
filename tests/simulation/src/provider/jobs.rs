//! Captures, voids and refunds in the fake provider's books.

use interlock_engine::ExchangeKind;
use interlock_plugin_api::{Class, Fact, IdempotencyClass, What};

use super::{Chance, Later, Provider, Reaction, answer, gateway, money, refusal, said};

/// How far the copy of the books that answers inquiries may lag behind, ms.
const LAG_MS: u64 = 2_000;

/// A capture, void or refund under one of our numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// Our number.
    pub op_id: String,
    /// Capture, void or refund.
    pub kind: ExchangeKind,
    /// Minor units.
    pub amount: i64,
    /// Where it stands.
    pub state: JobState,
    seen_ms: u64,
    /// Its order and the charge in it.
    target: (usize, usize),
}

/// Where a capture, void or refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Accepted.
    Pending,
    /// Done.
    Done,
    /// Refused when it came.
    Refused,
    /// Accepted or done, and failed.
    Failed,
}

/// A capture, void or refund as it arrives.
pub struct Task<'a> {
    /// Capture, void or refund.
    pub kind: ExchangeKind,
    /// Our number of it.
    pub op_id: &'a str,
    /// Our number of the payment.
    pub order: &'a str,
    /// The provider's number of the charge, when we know it.
    pub reference: Option<&'a str>,
    /// Minor units.
    pub amount: i64,
}

impl Provider {
    /// A capture, void or refund arrives.
    pub fn operate(&mut self, task: &Task<'_>, now: u64, chance: &mut impl Chance) -> Reaction {
        let bad = u32::from(self.mood.moody);
        match chance.pick(&[930, 40 * bad, 30 * bad]) {
            1 => return answer(503, Fact::unknown("busy")),
            2 => return answer(429, Fact::declined(Class::RateLimited, "proof.gate")),
            _ => {}
        }
        let kind = task.kind;
        let rule = self.contract.moves.get(kind.as_str());
        let class = rule.map_or(IdempotencyClass::None, |r| r.class);
        let prompt = rule.is_some_and(|r| r.never_asynchronous);
        if let Some(job) = self.jobs.iter().find(|j| j.op_id == task.op_id) {
            let kept = match class {
                IdempotencyClass::Strong => true,
                IdempotencyClass::SuccessOnly => {
                    matches!(job.state, JobState::Done | JobState::Pending)
                }
                IdempotencyClass::None => false,
            };
            if kept {
                return answer(200, job.told().of_key());
            }
        }
        let Some(target) = self.target(task) else {
            return answer(404, refusal(Class::DeclinedHard));
        };
        let charge = &self.orders[target.0].charges[target.1];
        let possible = match kind {
            ExchangeKind::Capture => {
                charge.held && !charge.void && charge.taken + task.amount <= self.amount
            }
            // Where a close gives back what was paid, a void gives back what was captured.
            ExchangeKind::Void => {
                let reverses = self.contract.close_of("*").is_some_and(|c| c.may_refund);
                let only_held = charge.held && charge.taken == 0;
                !charge.void && (only_held || (reverses && charge.given_back == 0))
            }
            _ => charge.taken - charge.given_back >= task.amount,
        };
        let job = |state| Job {
            op_id: task.op_id.to_owned(),
            kind,
            amount: task.amount,
            state,
            seen_ms: now,
            target,
        };
        if !possible || chance.happens(80 * bad) {
            self.put(job(JobState::Refused));
            let fact = refusal(Class::DeclinedHard);
            let kept = class == IdempotencyClass::Strong;
            return answer(400, if kept { fact.of_key() } else { fact });
        }
        let decides_later = !prompt || class != IdempotencyClass::SuccessOnly;
        if kind == ExchangeKind::Refund && decides_later && chance.happens(333) {
            self.put(job(JobState::Pending));
            let later = vec![Later::DecideJob(task.op_id.to_owned())];
            return Reaction { later, ..answer(202, Fact::new(What::Pending)) };
        }
        let job = job(JobState::Done);
        let told = job.told();
        self.put(job.clone());
        let reaction = Reaction { status: 200, facts: vec![told], ..self.carry_out(&job, chance) };
        if chance.happens(50 * bad) { gateway(502, false, reaction) } else { reaction }
    }

    /// What became of an operation, and the number of the order that it belongs to.
    pub(super) fn job_told(&self, job: &Job) -> (&str, Fact) {
        let order = &self.orders[job.target.0];
        let reference = order.charges[job.target.1].reference.clone();
        (&order.op_id, job.told().with_provider_ref(reference))
    }

    /// The charge that a task is about.
    fn target(&self, task: &Task<'_>) -> Option<(usize, usize)> {
        let order = self.orders.iter().position(|o| o.op_id == task.order)?;
        let charges = &self.orders[order].charges;
        let named = task.reference.and_then(|r| charges.iter().position(|c| c.reference == r));
        named.or(if charges.is_empty() { None } else { Some(0) }).map(|charge| (order, charge))
    }

    /// The last word under a number replaces the one before: only what moved stays in the books.
    fn put(&mut self, job: Job) {
        match self.jobs.iter_mut().find(|j| j.op_id == job.op_id) {
            Some(known) => *known = job,
            None => self.jobs.push(job),
        }
    }

    pub(super) fn decide_job(&mut self, op_id: &str, chance: &mut impl Chance) -> Reaction {
        let Some(job) = self.jobs.iter_mut().find(|j| j.op_id == op_id) else {
            return Reaction::default();
        };
        if job.state != JobState::Pending {
            return Reaction::default();
        }
        let charge = &self.orders[job.target.0].charges[job.target.1];
        let possible = charge.taken - charge.given_back >= job.amount;
        if !possible || chance.happens(200) {
            job.state = JobState::Failed;
            return said(job.told().about(op_id));
        }
        job.state = JobState::Done;
        let job = job.clone();
        self.carry_out(&job, chance)
    }

    /// Moves the money of an operation, and tells it.
    fn carry_out(&mut self, job: &Job, chance: &mut impl Chance) -> Reaction {
        let charge = &mut self.orders[job.target.0].charges[job.target.1];
        let mut reaction = said(job.told().about(job.op_id.as_str()));
        match job.kind {
            ExchangeKind::Capture => {
                charge.held = false;
                charge.taken += job.amount;
            }
            ExchangeKind::Void => (charge.void, charge.given_back) = (true, charge.taken),
            _ => {
                charge.given_back += job.amount;
                if chance.happens(60 * u32::from(self.mood.moody)) {
                    reaction.later.push(Later::Bounce(job.op_id.clone()));
                }
            }
        }
        reaction
    }

    /// A refund that was done fails. Nobody would ask about what was done, so it must be told.
    pub(super) fn bounce(&mut self, op_id: &str) -> Reaction {
        let Some(job) = self.jobs.iter_mut().find(|j| j.op_id == op_id) else {
            return Reaction::default();
        };
        if job.state != JobState::Done {
            return Reaction::default();
        }
        job.state = JobState::Failed;
        self.bounced = true;
        self.orders[job.target.0].charges[job.target.1].given_back -= job.amount;
        let fact = Fact::declined(Class::Unmapped, "bounced");
        said(Fact { what: What::Failed, ..fact }.about(op_id))
    }

    /// What became of an operation; empty when no answer comes.
    pub fn inquire_job(&mut self, op_id: &str, now: u64, chance: &mut impl Chance) -> Vec<Fact> {
        let bad = u32::from(self.mood.moody);
        match chance.pick(&[900, 50 * bad, 50 * bad]) {
            1 => return Vec::new(),
            2 => return vec![Fact::unknown("busy")],
            _ => {}
        }
        let Some(job) = self.jobs.iter().find(|j| j.op_id == op_id) else {
            return vec![Fact::new(What::NotFound)];
        };
        let (seen, told) = (job.seen_ms, job.told());
        if now < seen + LAG_MS && chance.happens(400 * bad) {
            return vec![Fact::new(What::NotFound)];
        }
        vec![told]
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
