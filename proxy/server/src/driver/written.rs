//! How a decision is written: one transaction for one version of one payment.

use interlock_engine::{Decision, Input, OrderStep, Payment, status};
use interlock_journal::{EventRow, KeyRow, OrderChange, OutboxRow, Purpose, Reference, Write};

use super::{Beside, Driver};
use crate::merchant_api::answer;
use crate::setup::Setup;
use crate::webhooks::message;

impl Driver {
    /// The whole transaction of a decision, with what is written beside it.
    pub(super) fn write(
        &self,
        setup: &Setup,
        before: Option<&Payment>,
        decision: &Decision,
        beside: &Beside,
        input: &Input,
        drop_references: bool,
    ) -> Write {
        let p = &decision.next;
        let order = match (&decision.order, &p.merchant_ref) {
            (OrderStep::Claim, Some(order)) => OrderChange::Claim { merchant_ref: order.clone() },
            (OrderStep::TakeOver { from }, Some(order)) => {
                OrderChange::TakeOver { merchant_ref: order.clone(), from: from.clone() }
            }
            (OrderStep::Release, Some(order)) => {
                OrderChange::Release { merchant_ref: order.clone() }
            }
            _ => OrderChange::None,
        };
        let references = decision.references.iter().filter(|_| !drop_references);
        let keys = beside.key.iter().map(|key| KeyRow {
            operation: key.operation.clone().or_else(|| decision.operations.first().cloned()),
            ..key.clone()
        });
        Write {
            payment: p.id.clone(),
            merchant: p.merchant.clone(),
            expect: before.map_or(0, |b| b.ver),
            next: p.ver,
            due_at_ms: decision.due.map(|(at, _)| at),
            created_ms: p.created_ms,
            status: status::status(p).0.as_str().to_owned(),
            in_doubt: status::in_doubt(p),
            account: p.attempts.last().map(|a| a.account.clone()),
            amount: p.money.amount,
            currency: p.currency().to_string(),
            merchant_ref: p.merchant_ref.clone(),
            body: serde_json::to_vec(p).expect("a payment has a JSON form"),
            keys: keys.chain(beside.once.iter().cloned()).collect(),
            answers: answer::final_answers(before, p, &setup.policy),
            references: references
                .map(|(account, reference)| Reference {
                    account: account.clone(),
                    reference: reference.clone(),
                    payment: p.id.clone(),
                })
                .collect(),
            operations: decision.operations.clone(),
            order,
            notices: beside.notice.iter().cloned().collect(),
            events: decision
                .entries
                .iter()
                .map(|e| EventRow {
                    payment: p.id.clone(),
                    seq: e.seq,
                    at_ms: e.at_ms,
                    actor: e.actor.clone(),
                    what: e.what.clone(),
                    reason: e.reason.clone(),
                    detail: None,
                })
                .collect(),
            outbox: self.messages(setup, before, p),
            purpose: match input {
                Input::Submitted(_) => Purpose::Intake,
                _ => Purpose::Outcome,
            },
        }
    }

    /// What the merchant is told of this version, if it has a webhook.
    fn messages(&self, setup: &Setup, before: Option<&Payment>, p: &Payment) -> Vec<OutboxRow> {
        if !self.webhooks.tells(&p.merchant) {
            return Vec::new();
        }
        let at_ms = self.clock.now().wall_ms;
        message::of_version(before, p, &setup.policy, &*self.numbers, at_ms)
    }
}
