//! What somebody does in the provider's own portal, without a request of ours.

use interlock_engine::Payment;
use interlock_plugin_api::{Fact, What};

use super::{Job, JobState, Provider, Reaction, money, said};

/// A refund that nobody asked us for: nobody would ask about it, so it is told until it is heard.
pub fn is_outside(fact: &Fact) -> bool {
    fact.what == What::Refunded && fact.operation_ref.is_some()
}

/// Whether a notice is taken now: what names nothing that is durable is not acknowledged, and comes
/// later.
pub fn may_hear(p: &Payment, fact: &Fact) -> bool {
    let named = [&fact.provider_ref, &fact.op_id];
    !is_outside(fact) || named.into_iter().flatten().any(|r| p.attempt_of(r).is_some())
}

impl Provider {
    /// How often money moved under one of our numbers.
    pub fn moved(&self, op_id: &str) -> usize {
        let charges = self.order(op_id).map_or(0, |o| o.charges.len());
        let done = |j: &&Job| j.op_id == op_id && j.state == JobState::Done;
        charges + self.jobs.iter().filter(done).count()
    }

    /// Our numbers under which a portal could give something back.
    pub fn refundable(&self) -> impl Iterator<Item = &str> {
        let left = |o: &&super::Order| o.charges.iter().any(|c| c.taken > c.given_back);
        self.orders.iter().filter(left).map(|o| o.op_id.as_str())
    }

    /// Somebody gives back so much of the first charge under one of our numbers, or all that is
    /// left of it. It is told under a number of the provider's own, and by some providers under
    /// ours of the payment too.
    pub fn refund_outside(&mut self, op_id: &str, amount: Option<i64>, named: bool) -> Reaction {
        let number = format!("x-{op_id}-{}", self.outside);
        let charges = self.order_mut(op_id).map(|o| o.charges.iter_mut());
        let charge = charges.into_iter().flatten().find(|c| c.taken > c.given_back);
        let Some(charge) = charge else { return Reaction::default() };
        let left = charge.taken - charge.given_back;
        let amount = amount.map_or(left, |wanted| wanted.min(left));
        charge.given_back += amount;
        let fact = Fact::new(What::Refunded)
            .with_amount(money(amount))
            .with_provider_ref(charge.reference.clone())
            .with_operation_ref(number);
        self.outside += amount;
        self.portal.push((op_id.to_owned(), fact.clone()));
        said(if named { fact.about(op_id) } else { fact })
    }
}
