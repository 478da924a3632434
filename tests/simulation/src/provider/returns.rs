//! The shopper of a payment: he comes back from what he was shown, or carries there himself what
//! was made for him.

use interlock_plugin_api::{Class, Concurrency, Fact, IdempotencyClass, What};

use super::{Asked, Chance, Later, Mood, Order, Provider, RUNNING_MS, Reaction};
use super::{answer, gateway, refusal, said, shown};
use crate::declarations::{CHALLENGE, CONTINUE};

/// What was made of one return of the shopper, under its own number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Returned {
    op_id: String,
    became: Option<Became>,
    running_until_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Became {
    /// It was taken, or is accepted.
    Taken,
    /// It was refused.
    Refused(Class),
    /// The shopper must act once more.
    Challenged,
}

impl Provider {
    /// The shopper came back: what he brought is told under a number of its own.
    pub fn proceed(&mut self, asked: &Asked<'_>, now: u64, chance: &mut impl Chance) -> Reaction {
        let (class, approving) = (self.class(), self.approving());
        let rule = self.contract.move_rule(CONTINUE);
        let Mood { manual, moody, .. } = self.mood;
        let bad = u32::from(moody);
        let strong = class == IdempotencyClass::Strong;
        if let Some(refused) = self.gate(chance) {
            return refused;
        }
        self.lapse(asked.order, now);
        let no = if strong { refusal(Class::Config).of_key() } else { refusal(Class::Config) };
        let Some(order) = self.order_mut(asked.order) else { return answer(400, no) };
        let excluded = rule.concurrency == Concurrency::Excluded;
        let one = order.returned(asked.op_id);
        let beside = !excluded && now < one.running_until_ms;
        one.running_until_ms = now + RUNNING_MS;
        let became = one.became.filter(|became| match class {
            _ if beside || asked.unpermitted => false,
            IdempotencyClass::Strong => true,
            IdempotencyClass::SuccessOnly => *became == Became::Taken,
            IdempotencyClass::None => false,
        });
        match became {
            Some(Became::Taken) => {
                let facts = order.told(class, approving).into_iter().map(Fact::of_key).collect();
                return Reaction { status: 200, facts, ..Reaction::default() };
            }
            Some(Became::Refused(class)) => return answer(400, refusal(class).of_key()),
            Some(Became::Challenged) => return answer(200, shown()),
            None => {}
        }
        // What has ended can't be gone on with; what is closed can, where keys are worth little.
        if order.over || order.expired || order.tombstone || (order.closed && strong) {
            return answer(400, no);
        }
        let accepts = if rule.never_asynchronous { 0 } else { 100 };
        let outcome = chance.pick(&[700, 70 * bad, 30 * bad, 40 * bad, accepts, 40 * bad]);
        let leave = outcome == 5 && self.may_follow(chance);
        let order = self.seen(asked.order);
        let became = match outcome {
            1 => Became::Refused(Class::DeclinedSoft),
            2 => Became::Refused(Class::Verification),
            3 => Became::Challenged,
            _ => Became::Taken,
        };
        order.returned(asked.op_id).became = Some(became);
        match (outcome, became) {
            (_, Became::Refused(class)) => {
                if rule.refusal_final {
                    (order.over, order.challenged, order.refusal) = (true, false, Some(class));
                }
                let fact = if strong { refusal(class).of_key() } else { refusal(class) };
                answer(400, fact)
            }
            (_, Became::Challenged) => {
                Reaction { later: self.passes(asked.order), ..answer(200, shown()) }
            }
            (4, _) => {
                order.pending += 1;
                order.challenged = false;
                let fact = Fact::new(What::Pending).with_provider_ref(order.reference.clone());
                Reaction { later: vec![Later::Decide(asked.order.to_owned())], ..answer(202, fact) }
            }
            (5, _) => gateway(502, leave, self.charge(asked.order, manual)),
            _ => self.charge(asked.order, manual),
        }
    }

    /// What a challenge brings about where the provider knows by itself that it was passed.
    pub(super) fn passes(&mut self, op_id: &str) -> Vec<Later> {
        let approving = self.approving();
        let order = self.seen(op_id);
        order.approved = false;
        if approving { vec![Later::Approve(op_id.to_owned())] } else { Vec::new() }
    }

    /// He passes it, if it is still open: told to everybody.
    pub(super) fn approve(&mut self, op_id: &str) -> Reaction {
        let open = |o: &&mut Order| o.challenged && !o.closed && !o.expired && !o.over;
        let Some(order) = self.order_mut(op_id).filter(open) else { return Reaction::default() };
        order.approved = true;
        said(Fact::new(What::Approved).about(op_id))
    }

    pub(super) fn approving(&self) -> bool {
        self.contract.is_approving(CHALLENGE)
    }

    /// The shopper opens an offer that was made then and never sent: as often as he likes, and
    /// also what was closed, unless the close left a tombstone.
    pub fn carry(&mut self, op_id: &str, made_ms: u64, now: u64) {
        let end = self.contract.offer_expiry.map(|e| made_ms + e.after_ms);
        if end.is_some_and(|end| now >= end) {
            return;
        }
        let order = self.seen(op_id);
        if !order.tombstone && order.charges.is_empty() {
            order.first_seen_ms.get_or_insert(now);
            order.offered_ms = Some(made_ms);
            (order.payable, order.closed, order.scanned) = (true, false, true);
        }
    }

    /// Whether an answer that says nothing permits the same request again.
    pub(super) fn may_follow(&self, chance: &mut impl Chance) -> bool {
        let strict = self.contract.moves.get("pay").is_some_and(|r| r.resend_after_silence_only);
        strict && chance.happens(500)
    }
}

impl Order {
    fn returned(&mut self, op_id: &str) -> &mut Returned {
        let n = match self.returns.iter().position(|r| r.op_id == op_id) {
            Some(n) => n,
            None => {
                let op_id = op_id.to_owned();
                self.returns.push(Returned { op_id, became: None, running_until_ms: 0 });
                self.returns.len() - 1
            }
        };
        &mut self.returns[n]
    }
}
