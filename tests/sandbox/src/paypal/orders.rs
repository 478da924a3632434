//! The orders of one PayPal account and what comes of them: pure rules, without sockets or a clock.
//!
//! Approving moves no money; only a capture or an authorization does. A capture counts in the
//! ledger when it completes, so a pending one is no money yet. What is done with an order has rooms
//! of its own: it is paid, its hold is taken or let go, a capture is decided, money goes back.

mod captures;
mod holds;
mod payment;
mod refunds;
#[cfg(test)]
mod stage;

use std::collections::HashMap;

use serde_json::Value;

use super::order::{Approval, Order};
use super::wire::{Issue, fresh};
use super::wish::Wish;
use crate::faults::Operation;
use crate::ledger::Move;

/// So many orders fit into one account.
pub const ORDERS_LIMIT: usize = 1_000_000;

const PARTS_LIMIT: usize = 100;
const DAY_MS: i64 = 24 * 3_600_000;

/// What stands throughout the life of an account.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The account's own URL, for links.
    pub base: String,
    /// Whether the last two digits of an amount choose what becomes of a capture.
    pub magic_amounts: bool,
    /// Whether one invoice is paid only once.
    pub one_payment_an_invoice: bool,
}

/// A webhook to send.
#[derive(Debug, Clone)]
pub struct Event {
    /// The operation that it tells of.
    pub cause: Operation,
    /// `PAYMENT.CAPTURE.COMPLETED` and so on.
    pub kind: &'static str,
    /// `capture` and so on.
    pub resource_type: &'static str,
    /// The whole of what it tells of.
    pub resource: Value,
}

/// What a call changed outside the orders.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the ledger.
    pub moves: Vec<Move>,
    /// Webhooks.
    pub events: Vec<Event>,
    /// Captures to be decided later, and whether they complete then.
    pub decisions: Vec<(String, bool)>,
}

/// How a step is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The `PayPal-Request-Id`, if any.
    pub op_id: Option<&'a str>,
    /// The issue that a fault declines it with, once it is known to be allowed.
    pub declined: Option<Issue>,
    /// Milliseconds since the epoch.
    pub now: i64,
}

/// All orders of one account.
#[derive(Debug, Default)]
pub struct Orders {
    rules: Rules,
    orders: HashMap<String, Order>,
    /// The order of an authorization, a capture or a refund.
    owners: HashMap<String, String>,
    /// The youngest order with a custom id, an invoice or a request id.
    names: HashMap<String, String>,
    paid_invoices: HashMap<String, String>,
    /// Captures and refunds in the order in which they were made.
    journal: Vec<(i64, String)>,
}

impl Orders {
    /// No orders yet.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Forgets all orders.
    pub fn clear(&mut self) {
        *self = Self::new(std::mem::take(&mut self.rules));
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.orders.len() >= ORDERS_LIMIT
    }

    /// The account's own URL.
    pub fn base(&self) -> &str {
        &self.rules.base
    }

    /// The order by its id.
    pub fn get(&self, id: &str) -> Option<&Order> {
        self.orders.get(id)
    }

    /// The order that an authorization, a capture or a refund belongs to.
    pub fn owner(&self, id: &str) -> Option<&Order> {
        self.orders.get(self.owners.get(id)?)
    }

    /// The order by its id, by the id of what came of it, or by one of the merchant's names.
    pub fn find(&self, name: &str) -> Option<&Order> {
        let named = || self.orders.get(self.names.get(name)?);
        self.get(name).or_else(|| self.owner(name)).or_else(named)
    }

    /// The ids of the captures and refunds made from `from_ms` to `until_ms`, in order.
    pub fn journal(&self, from_ms: i64, until_ms: i64) -> impl Iterator<Item = &str> {
        let within = move |(at_ms, _): &&(i64, String)| (from_ms..=until_ms).contains(at_ms);
        self.journal.iter().filter(within).map(|(_, id)| id.as_str())
    }

    /// Makes an order; answers its id.
    pub fn create(&mut self, wish: Wish, now: i64) -> String {
        let id = fresh();
        for name in [&wish.custom_id, &wish.invoice_id, &wish.op_id].into_iter().flatten() {
            self.names.insert(name.clone(), id.clone());
        }
        let order = Order {
            id: id.clone(),
            wish,
            approval: Approval::Awaited,
            authorization: None,
            captures: Vec::new(),
            refunds: Vec::new(),
            made_ms: now,
            changed_ms: now,
        };
        self.orders.insert(id.clone(), order);
        id
    }

    /// The payer approves the order, with a good instrument or a `hollow` one.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn approve(
        &mut self,
        id: &str,
        hollow: bool,
        now: i64,
        fx: &mut Effects,
    ) -> Result<(), &'static str> {
        let order = self.orders.get_mut(id).ok_or("no such order")?;
        if !order.is_open() {
            return Err("the order does not wait for the payer");
        }
        order.approval = if hollow { Approval::Hollow } else { Approval::Given };
        order.changed_ms = now;
        fx.events.push(Event {
            cause: Operation::Authorize,
            kind: "CHECKOUT.ORDER.APPROVED",
            resource_type: "checkout-order",
            resource: order.show(&self.rules.base),
        });
        Ok(())
    }
}

/// The order that `id` came of.
fn owned<'a>(
    orders: &'a mut HashMap<String, Order>,
    owners: &HashMap<String, String>,
    id: &str,
) -> Result<&'a mut Order, Issue> {
    owners.get(id).and_then(|owner| orders.get_mut(owner)).ok_or("INVALID_RESOURCE_ID")
}
