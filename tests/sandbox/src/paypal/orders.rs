//! The orders of one PayPal account and what comes of them: pure rules, without sockets or a clock.
//!
//! Approving moves no money; only a capture or an authorization does. A capture counts in the
//! ledger when it completes, so a pending one is no money yet. The sums are the truth: the status
//! of an authorization, a capture and an order is read from them.

use std::collections::HashMap;

use serde_json::Value;

use super::wire::{Issue, fresh};
use super::wish::{Intent, Want, Wish};
use crate::faults::Operation;
use crate::ledger::{Kind, Move};

/// So many orders fit into one account.
pub const ORDERS_LIMIT: usize = 1_000_000;

const PARTS_LIMIT: usize = 100;
const DAY_MS: i64 = 24 * 3_600_000;
/// A hold is good for so long; from then on it may be renewed.
const HONOURED_MS: i64 = 3 * DAY_MS;
const AUTHORIZATION_LIFE_MS: i64 = 29 * DAY_MS;

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

/// What the payer did with an open order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Nothing yet.
    Awaited,
    /// He approved.
    Given,
    /// He approved with an instrument that will be declined.
    Hollow,
}

/// One order.
#[derive(Debug, Clone)]
pub struct Order {
    /// 17 capitals and digits.
    pub id: String,
    /// What the merchant asked for.
    pub wish: Wish,
    /// What the payer did.
    pub approval: Approval,
    /// The hold, of an order that is to be authorised.
    pub authorization: Option<Authorization>,
    /// What was taken.
    pub captures: Vec<Capture>,
    /// What was given back.
    pub refunds: Vec<Refund>,
    /// When it was made, milliseconds since the epoch.
    pub made_ms: i64,
    /// When it changed last.
    pub changed_ms: i64,
}

/// The hold of an order. Amounts are minor units of the order's currency.
#[derive(Debug, Clone)]
pub struct Authorization {
    /// 17 capitals and digits; a renewal changes it.
    pub id: String,
    /// What was let go.
    pub voided: i64,
    /// Whether the merchant let it go.
    pub void: bool,
    /// Whether a capture said to be the last.
    pub closed: bool,
    /// Whether it was renewed, which it can be once.
    pub renewed: bool,
    /// When it was made or renewed.
    pub made_ms: i64,
    /// When it ends.
    pub ends_ms: i64,
}

/// What becomes of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The money is there.
    Completed,
    /// It is looked at, for this reason.
    Pending(&'static str),
    /// It was refused.
    Declined,
}

/// One capture.
#[derive(Debug, Clone)]
pub struct Capture {
    /// 17 capitals and digits.
    pub id: String,
    /// Minor units.
    pub amount: i64,
    /// What became of it.
    pub fate: Fate,
    /// Given back, in minor units, by whomever.
    pub refunded: i64,
    /// Taken back by PayPal.
    pub reversed: bool,
    /// The payer complains.
    pub disputed: bool,
    /// Whether it was the last of its hold.
    pub last: bool,
    /// The authorization that it was taken from.
    pub authorization: Option<String>,
    /// The merchant's invoice.
    pub invoice_id: Option<String>,
    /// The `PayPal-Request-Id`, else the order's id.
    pub op_id: String,
    /// When it was asked for.
    pub made_ms: i64,
    /// When it changed last.
    pub changed_ms: i64,
}

/// One refund, or what PayPal took back.
#[derive(Debug, Clone)]
pub struct Refund {
    /// 17 capitals and digits.
    pub id: String,
    /// The capture.
    pub capture: String,
    /// Minor units.
    pub amount: i64,
    /// `T1107` for a refund, `T1106` for a reversal, `T1201` for a chargeback.
    pub code: &'static str,
    /// The merchant's invoice.
    pub invoice_id: Option<String>,
    /// The merchant's own mark.
    pub custom_id: Option<String>,
    /// When.
    pub made_ms: i64,
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

    /// Takes the money of an approved order.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn capture_order(
        &mut self,
        id: &str,
        asked: Asked<'_>,
        fx: &mut Effects,
    ) -> Result<(), Issue> {
        let order = self.orders.get_mut(id).ok_or("INVALID_RESOURCE_ID")?;
        if order.wish.intent != Intent::Capture {
            return Err("ACTION_DOES_NOT_MATCH_INTENT");
        }
        if !order.captures.is_empty() {
            return Err("ORDER_ALREADY_CAPTURED");
        }
        may_be_paid(order, &self.paid_invoices, &self.rules, asked)?;
        let fate = fate_of(order.wish.amount, &self.rules);
        let want = Want { last: true, ..Want::default() };
        let capture = order.take(order.wish.amount, &want, fate, asked);
        note_paid(order, &mut self.paid_invoices);
        self.owners.insert(capture.clone(), order.id.clone());
        self.journal.push((asked.now, capture.clone()));
        settle(order, &capture, (&self.rules.base, Operation::Continue), fx);
        Ok(())
    }

    /// Holds the money of an approved order.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn authorize(&mut self, id: &str, asked: Asked<'_>, fx: &mut Effects) -> Result<(), Issue> {
        let order = self.orders.get_mut(id).ok_or("INVALID_RESOURCE_ID")?;
        if order.wish.intent != Intent::Authorize {
            return Err("ACTION_DOES_NOT_MATCH_INTENT");
        }
        if order.authorization.is_some() {
            return Err("ORDER_ALREADY_AUTHORIZED");
        }
        may_be_paid(order, &self.paid_invoices, &self.rules, asked)?;
        let authorization = Authorization {
            id: fresh(),
            voided: 0,
            void: false,
            closed: false,
            renewed: false,
            made_ms: asked.now,
            ends_ms: asked.now + AUTHORIZATION_LIFE_MS,
        };
        self.owners.insert(authorization.id.clone(), order.id.clone());
        order.authorization = Some(authorization);
        order.changed_ms = asked.now;
        note_paid(order, &mut self.paid_invoices);
        let op_id = asked.op_id.unwrap_or(&order.id).to_owned();
        fx.moves.push(order.movement(Kind::Authorize, order.wish.amount, &op_id));
        fx.events.extend(order.authorization_event(
            "PAYMENT.AUTHORIZATION.CREATED",
            Operation::Continue,
            &self.rules.base,
        ));
        Ok(())
    }

    /// Takes a part of a hold, or all of it; answers the capture's id.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn capture(
        &mut self,
        id: &str,
        want: &Want,
        asked: Asked<'_>,
        fx: &mut Effects,
    ) -> Result<String, Issue> {
        let order = owned(&mut self.orders, &self.owners, id)?;
        let left = order.left_to_capture();
        let hold = order.authorization.as_ref().ok_or("INVALID_RESOURCE_ID")?;
        if hold.void {
            return Err("AUTHORIZATION_VOIDED");
        }
        if hold.closed || left == 0 {
            return Err("AUTHORIZATION_ALREADY_CAPTURED");
        }
        if hold.ends_ms <= asked.now {
            return Err("AUTHORIZATION_EXPIRED");
        }
        let amount = match &want.amount {
            Some((_, currency)) if *currency != order.wish.currency => {
                return Err("AUTH_CAPTURE_CURRENCY_MISMATCH");
            }
            Some((amount, _)) if *amount > left => return Err("MAX_CAPTURE_AMOUNT_EXCEEDED"),
            Some((amount, _)) => *amount,
            None => left,
        };
        if order.captures.len() >= PARTS_LIMIT {
            return Err("MAX_CAPTURE_COUNT_EXCEEDED");
        }
        if let Some(issue) = asked.declined {
            return Err(issue);
        }
        let fate = fate_of(amount, &self.rules);
        let capture = order.take(amount, want, fate, asked);
        self.owners.insert(capture.clone(), order.id.clone());
        self.journal.push((asked.now, capture.clone()));
        settle(order, &capture, (&self.rules.base, Operation::Capture), fx);
        if want.last && fate != Fate::Declined {
            let op_id = asked.op_id.unwrap_or(id);
            order.let_go(op_id, fx);
        }
        Ok(capture)
    }

    /// Lets go what a hold still holds.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn void(&mut self, id: &str, asked: Asked<'_>, fx: &mut Effects) -> Result<(), Issue> {
        let order = owned(&mut self.orders, &self.owners, id)?;
        let left = order.left_to_capture();
        let pends = order.captures.iter().any(|c| matches!(c.fate, Fate::Pending(_)));
        let hold = order.authorization.as_mut().ok_or("INVALID_RESOURCE_ID")?;
        if hold.void {
            return Err("PREVIOUSLY_VOIDED");
        }
        if pends {
            return Err("CANNOT_BE_VOIDED");
        }
        if hold.closed || left == 0 {
            return Err("PREVIOUSLY_CAPTURED");
        }
        if let Some(issue) = asked.declined {
            return Err(issue);
        }
        hold.void = true;
        order.changed_ms = asked.now;
        order.let_go(asked.op_id.unwrap_or(id), fx);
        fx.events.extend(order.authorization_event(
            "PAYMENT.AUTHORIZATION.VOIDED",
            Operation::Void,
            &self.rules.base,
        ));
        Ok(())
    }

    /// Renews a hold, once, after the days in which it is honoured; answers its new id.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn reauthorize(&mut self, id: &str, asked: Asked<'_>) -> Result<String, Issue> {
        let order = owned(&mut self.orders, &self.owners, id)?;
        let left = order.left_to_capture();
        let hold = order.authorization.as_mut().ok_or("INVALID_RESOURCE_ID")?;
        if hold.void {
            return Err("AUTHORIZATION_VOIDED");
        }
        if hold.closed || left == 0 {
            return Err("AUTHORIZATION_ALREADY_CAPTURED");
        }
        let due = hold.made_ms + HONOURED_MS <= asked.now && asked.now < hold.ends_ms;
        if hold.renewed || !due {
            return Err("REAUTHORIZATION_NOT_SUPPORTED");
        }
        if let Some(issue) = asked.declined {
            return Err(issue);
        }
        hold.id = fresh();
        hold.renewed = true;
        hold.made_ms = asked.now;
        // The old id goes on to lead here.
        self.owners.insert(hold.id.clone(), order.id.clone());
        Ok(hold.id.clone())
    }

    /// Gives back a part of a capture, or all that is left; answers the refund's id.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn refund(
        &mut self,
        id: &str,
        want: &Want,
        asked: Asked<'_>,
        fx: &mut Effects,
    ) -> Result<String, Issue> {
        let order = owned(&mut self.orders, &self.owners, id)?;
        let capture = order.capture(id).ok_or("INVALID_RESOURCE_ID")?;
        let left = capture.amount - capture.refunded;
        match capture.fate {
            Fate::Pending(_) => return Err("PENDING_CAPTURE"),
            Fate::Declined => return Err("REFUND_NOT_ALLOWED"),
            Fate::Completed if capture.reversed => {
                return Err("REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK");
            }
            Fate::Completed if left == 0 => return Err("CAPTURE_FULLY_REFUNDED"),
            Fate::Completed if capture.disputed => return Err("TRANSACTION_DISPUTED"),
            Fate::Completed => {}
        }
        let amount = match &want.amount {
            Some((_, currency)) if *currency != order.wish.currency => {
                return Err("REFUND_CAPTURE_CURRENCY_MISMATCH");
            }
            Some((amount, _)) if *amount > left => return Err("REFUND_AMOUNT_EXCEEDED"),
            Some((amount, _)) => *amount,
            None => left,
        };
        if order.refunds.len() >= PARTS_LIMIT {
            return Err("MAX_NUMBER_OF_REFUNDS_EXCEEDED");
        }
        if let Some(issue) = asked.declined {
            return Err(issue);
        }
        let refund = give_back(order, id, (amount, "T1107"), want, asked.now);
        self.owners.insert(refund.clone(), order.id.clone());
        self.journal.push((asked.now, refund.clone()));
        fx.moves.push(order.movement(Kind::Refund, amount, asked.op_id.unwrap_or(&refund)));
        let about = ("PAYMENT.CAPTURE.REFUNDED", Operation::Refund);
        fx.events.extend(order.refund_event(&refund, about, &self.rules.base));
        Ok(refund)
    }

    /// Decides a pending capture; one that is decided already stays as it is.
    pub fn decide(&mut self, id: &str, completes: bool, now: i64, fx: &mut Effects) {
        let Ok(order) = owned(&mut self.orders, &self.owners, id) else {
            return;
        };
        let Some(capture) = order.captures.iter_mut().find(|c| c.id == id) else {
            return;
        };
        if !matches!(capture.fate, Fate::Pending(_)) {
            return;
        }
        capture.fate = if completes { Fate::Completed } else { Fate::Declined };
        capture.changed_ms = now;
        let op_id = capture.op_id.clone();
        let of_hold = capture.authorization.is_some();
        let cause = if of_hold { Operation::Capture } else { Operation::Continue };
        settle(order, id, (&self.rules.base, cause), fx);
        if order.authorization.as_ref().is_some_and(|hold| hold.closed) {
            // What a refused last capture leaves is held no longer.
            order.let_go(&op_id, fx);
        }
    }

    /// Takes back, at PayPal's own will, what is left of a completed capture; answers the id.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn reverse(
        &mut self,
        id: &str,
        now: i64,
        fx: &mut Effects,
    ) -> Result<String, &'static str> {
        let order = owned(&mut self.orders, &self.owners, id).map_err(|_| "no such capture")?;
        let capture = order.captures.iter_mut().find(|c| c.id == id).ok_or("no such capture")?;
        let left = capture.amount - capture.refunded;
        if capture.fate != Fate::Completed || left == 0 {
            return Err("there is nothing to take back");
        }
        capture.reversed = true;
        // A dispute that is lost ends in a chargeback.
        let code = if capture.disputed { "T1201" } else { "T1106" };
        let reversal = give_back(order, id, (left, code), &Want::default(), now);
        self.owners.insert(reversal.clone(), order.id.clone());
        self.journal.push((now, reversal.clone()));
        fx.moves.push(order.movement(Kind::Reverse, left, &reversal));
        let about = ("PAYMENT.CAPTURE.REVERSED", Operation::Refund);
        fx.events.extend(order.refund_event(&reversal, about, &self.rules.base));
        Ok(reversal)
    }

    /// The payer complains of a completed capture; no money moves yet.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn dispute(
        &mut self,
        id: &str,
        now: i64,
        fx: &mut Effects,
    ) -> Result<String, &'static str> {
        let order = owned(&mut self.orders, &self.owners, id).map_err(|_| "no such capture")?;
        let capture = order.captures.iter_mut().find(|c| c.id == id).ok_or("no such capture")?;
        if capture.fate != Fate::Completed || capture.disputed || capture.reversed {
            return Err("there is nothing to dispute");
        }
        capture.disputed = true;
        capture.changed_ms = now;
        let capture = capture.clone();
        let dispute = format!("PP-D-{}", &fresh()[..6]);
        fx.events.push(Event {
            cause: Operation::Refund,
            kind: "CUSTOMER.DISPUTE.CREATED",
            resource_type: "dispute",
            resource: order.show_dispute(&dispute, &capture, now),
        });
        Ok(dispute)
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

fn may_be_paid(
    order: &Order,
    paid_invoices: &HashMap<String, String>,
    rules: &Rules,
    asked: Asked<'_>,
) -> Result<(), Issue> {
    let paid = order.wish.invoice_id.as_ref().and_then(|invoice| paid_invoices.get(invoice));
    match order.approval {
        Approval::Awaited => Err("ORDER_NOT_APPROVED"),
        _ if rules.one_payment_an_invoice && paid.is_some_and(|by| *by != order.id) => {
            Err("DUPLICATE_INVOICE_ID")
        }
        Approval::Hollow => Err("INSTRUMENT_DECLINED"),
        Approval::Given => asked.declined.map_or(Ok(()), Err),
    }
}

fn note_paid(order: &Order, paid_invoices: &mut HashMap<String, String>) {
    if let Some(invoice) = &order.wish.invoice_id {
        paid_invoices.insert(invoice.clone(), order.id.clone());
    }
}

fn fate_of(amount: i64, rules: &Rules) -> Fate {
    match amount % 100 {
        11 | 12 if rules.magic_amounts => Fate::Pending("PENDING_REVIEW"),
        13 if rules.magic_amounts => Fate::Declined,
        14 if rules.magic_amounts => Fate::Pending("ECHECK"),
        _ => Fate::Completed,
    }
}

/// Tells of a capture as it stands, and moves its money if it is completed.
fn settle(order: &Order, id: &str, (base, cause): (&str, Operation), fx: &mut Effects) {
    let Some(capture) = order.capture(id) else {
        return;
    };
    let kind = match capture.fate {
        Fate::Completed => {
            let of_hold = capture.authorization.is_some();
            let kind = if of_hold { Kind::Capture } else { Kind::Charge };
            fx.moves.push(order.movement(kind, capture.amount, &capture.op_id));
            "PAYMENT.CAPTURE.COMPLETED"
        }
        Fate::Pending(reason) => {
            // A cheque is decided by nobody but the payer's bank.
            if reason != "ECHECK" {
                fx.decisions.push((capture.id.clone(), capture.amount % 100 == 11));
            }
            "PAYMENT.CAPTURE.PENDING"
        }
        Fate::Declined => "PAYMENT.CAPTURE.DENIED",
    };
    fx.events.push(Event {
        cause,
        kind,
        resource_type: "capture",
        resource: order.show_capture(capture, base),
    });
}

fn give_back(
    order: &mut Order,
    capture: &str,
    (amount, code): (i64, &'static str),
    want: &Want,
    now: i64,
) -> String {
    let id = fresh();
    for held in order.captures.iter_mut().filter(|c| c.id == capture) {
        held.refunded += amount;
        held.changed_ms = now;
    }
    order.refunds.push(Refund {
        id: id.clone(),
        capture: capture.into(),
        amount,
        code,
        invoice_id: want.invoice_id.clone(),
        custom_id: want.custom_id.clone(),
        made_ms: now,
    });
    id
}

impl Order {
    /// Whether the payer may still act and nothing was paid.
    pub fn is_open(&self) -> bool {
        self.captures.is_empty() && self.authorization.is_none()
    }

    /// The capture by its id.
    pub fn capture(&self, id: &str) -> Option<&Capture> {
        self.captures.iter().find(|capture| capture.id == id)
    }

    /// The refund by its id.
    pub fn refund(&self, id: &str) -> Option<&Refund> {
        self.refunds.iter().find(|refund| refund.id == id)
    }

    /// What the hold still holds, in minor units; pending captures count as taken.
    pub fn left_to_capture(&self) -> i64 {
        let Some(hold) = &self.authorization else {
            return 0;
        };
        let taken = self.captures.iter().filter(|c| c.fate != Fate::Declined);
        self.wish.amount - hold.voided - taken.map(|c| c.amount).sum::<i64>()
    }

    /// The name that joins all movements of this order in the ledger.
    pub fn reference(&self) -> &str {
        let wish = &self.wish;
        wish.op_id.as_deref().or(wish.custom_id.as_deref()).unwrap_or(&self.id)
    }

    fn movement(&self, kind: Kind, amount: i64, op_id: &str) -> Move {
        Move {
            op_id: op_id.into(),
            provider_ref: self.id.clone(),
            reference: self.reference().into(),
            kind,
            amount,
            currency: self.wish.currency.clone(),
        }
    }

    fn take(&mut self, amount: i64, want: &Want, fate: Fate, asked: Asked<'_>) -> String {
        let id = fresh();
        self.changed_ms = asked.now;
        self.captures.push(Capture {
            id: id.clone(),
            amount,
            fate,
            refunded: 0,
            reversed: false,
            disputed: false,
            last: want.last,
            authorization: self.authorization.as_ref().map(|hold| hold.id.clone()),
            invoice_id: want.invoice_id.clone().or_else(|| self.wish.invoice_id.clone()),
            op_id: asked.op_id.unwrap_or(&self.id).into(),
            made_ms: asked.now,
            changed_ms: asked.now,
        });
        id
    }

    /// Closes the hold and lets go what nothing was taken of.
    fn let_go(&mut self, op_id: &str, fx: &mut Effects) {
        let left = self.left_to_capture();
        if let Some(hold) = &mut self.authorization {
            hold.closed = true;
            hold.voided += left;
        }
        if left > 0 {
            fx.moves.push(self.movement(Kind::Void, left, op_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn nothing_is_captured_before_the_payer_approved() {
        let (mut orders, id) = order(Intent::Capture, 1000);
        assert_eq!(capture(&mut orders, &id), Err("ORDER_NOT_APPROVED"));
        approve(&mut orders, &id, true);
        assert_eq!(capture(&mut orders, &id), Err("INSTRUMENT_DECLINED"));
        approve(&mut orders, &id, false);
        assert_eq!(capture(&mut orders, &id), Ok(vec![(Kind::Charge, 1000)]));
        assert_eq!(capture(&mut orders, &id), Err("ORDER_ALREADY_CAPTURED"));
        let fx = &mut Effects::default();
        assert!(orders.approve(&id, false, NOW, fx).is_err());
        assert_eq!(orders.authorize(&id, asked(), fx), Err("ACTION_DOES_NOT_MATCH_INTENT"));
    }

    #[test]
    fn a_hold_gives_its_parts_and_lets_the_rest_go() {
        let (mut orders, hold) = held(1000);
        let fx = &mut Effects::default();
        let part = orders.capture(&hold, &want(300, false), asked(), fx).unwrap();
        assert_eq!(orders.owner(&part).unwrap().left_to_capture(), 700);
        let over = orders.capture(&hold, &want(701, false), asked(), fx);
        assert_eq!(over, Err("MAX_CAPTURE_AMOUNT_EXCEEDED"));
        orders.capture(&hold, &want(200, true), asked(), fx).unwrap();
        assert_eq!(moves(fx), [(Kind::Capture, 300), (Kind::Capture, 200), (Kind::Void, 500)]);
        let after = orders.capture(&hold, &Want::default(), asked(), fx);
        assert_eq!(after, Err("AUTHORIZATION_ALREADY_CAPTURED"));
        assert_eq!(orders.void(&hold, asked(), fx), Err("PREVIOUSLY_CAPTURED"));
    }

    #[test]
    fn a_void_happens_once() {
        let (mut orders, hold) = held(1000);
        let fx = &mut Effects::default();
        assert_eq!(orders.void(&hold, asked(), fx), Ok(()));
        assert_eq!(moves(fx), [(Kind::Void, 1000)]);
        assert_eq!(orders.void(&hold, asked(), fx), Err("PREVIOUSLY_VOIDED"));
        let after = orders.capture(&hold, &Want::default(), asked(), fx);
        assert_eq!(after, Err("AUTHORIZATION_VOIDED"));
    }

    #[test]
    fn a_hold_is_renewed_from_the_fourth_day_on_and_once() {
        let (mut orders, hold) = held(1000);
        let at = |days: i64| Asked { now: NOW + days * DAY_MS, ..asked() };
        assert_eq!(orders.reauthorize(&hold, at(2)), Err("REAUTHORIZATION_NOT_SUPPORTED"));
        let renewed = orders.reauthorize(&hold, at(3)).unwrap();
        assert_ne!(renewed, hold);
        assert_eq!(orders.reauthorize(&renewed, at(7)), Err("REAUTHORIZATION_NOT_SUPPORTED"));
        let fx = &mut Effects::default();
        let late = orders.capture(&renewed, &Want::default(), at(29), fx);
        assert_eq!(late, Err("AUTHORIZATION_EXPIRED"));
        assert!(orders.capture(&hold, &Want::default(), at(28), fx).is_ok(), "by its old id");
    }

    #[test]
    fn a_refund_never_gives_more_than_was_taken() {
        let (mut orders, id) = order(Intent::Capture, 1000);
        approve(&mut orders, &id, false);
        capture(&mut orders, &id).unwrap();
        let taken = orders.get(&id).unwrap().captures[0].id.clone();
        let fx = &mut Effects::default();
        orders.refund(&taken, &want(400, false), asked(), fx).unwrap();
        let over = orders.refund(&taken, &want(601, false), asked(), fx);
        assert_eq!(over, Err("REFUND_AMOUNT_EXCEEDED"));
        orders.refund(&taken, &Want::default(), asked(), fx).unwrap();
        assert_eq!(moves(fx), [(Kind::Refund, 400), (Kind::Refund, 600)]);
        let after = orders.refund(&taken, &Want::default(), asked(), fx);
        assert_eq!(after, Err("CAPTURE_FULLY_REFUNDED"));
        assert!(orders.reverse(&taken, NOW, fx).is_err());
    }

    #[test]
    fn a_pending_capture_is_no_money_yet() {
        for (amount, completes, expected) in [
            (1011, true, vec![(Kind::Charge, 1011)]),
            (1012, false, vec![]),
            (1014, true, vec![(Kind::Charge, 1014)]),
        ] {
            let (mut orders, id) = order(Intent::Capture, amount);
            orders.rules.magic_amounts = true;
            approve(&mut orders, &id, false);
            let fx = &mut Effects::default();
            orders.capture_order(&id, asked(), fx).unwrap();
            assert!(fx.moves.is_empty());
            let taken = orders.get(&id).unwrap().captures[0].id.clone();
            let decided = if amount == 1014 { vec![] } else { vec![(taken.clone(), completes)] };
            assert_eq!(fx.decisions, decided);
            let refund = orders.refund(&taken, &Want::default(), asked(), fx);
            assert_eq!(refund, Err("PENDING_CAPTURE"));
            orders.decide(&taken, completes, NOW, fx);
            orders.decide(&taken, !completes, NOW, fx);
            assert_eq!(moves(fx), expected, "decided once");
        }
    }

    #[test]
    fn a_refused_last_capture_leaves_nothing_held() {
        let (mut orders, hold) = held(2000);
        orders.rules.magic_amounts = true;
        let fx = &mut Effects::default();
        let taken = orders.capture(&hold, &want(1012, true), asked(), fx).unwrap();
        assert_eq!(moves(fx), [(Kind::Void, 988)]);
        orders.decide(&taken, false, NOW, fx);
        assert_eq!(moves(fx), [(Kind::Void, 988), (Kind::Void, 1012)]);
    }

    #[test]
    fn an_invoice_is_paid_once_where_the_account_says_so() {
        let (mut orders, first) = order(Intent::Capture, 1000);
        let second = orders.create(wish(Intent::Capture, 1000), NOW);
        for id in [&first, &second] {
            approve(&mut orders, id, false);
        }
        capture(&mut orders, &first).unwrap();
        orders.rules.one_payment_an_invoice = true;
        assert_eq!(capture(&mut orders, &second), Err("DUPLICATE_INVOICE_ID"));
        orders.rules.one_payment_an_invoice = false;
        assert!(capture(&mut orders, &second).is_ok());
    }

    #[test]
    fn a_lost_dispute_is_a_chargeback() {
        let (mut orders, id) = order(Intent::Capture, 1000);
        approve(&mut orders, &id, false);
        capture(&mut orders, &id).unwrap();
        let taken = orders.get(&id).unwrap().captures[0].id.clone();
        let fx = &mut Effects::default();
        orders.dispute(&taken, NOW, fx).unwrap();
        assert!(fx.moves.is_empty(), "a complaint moves nothing");
        let refund = orders.refund(&taken, &Want::default(), asked(), fx);
        assert_eq!(refund, Err("TRANSACTION_DISPUTED"));
        orders.reverse(&taken, NOW, fx).unwrap();
        assert_eq!(moves(fx), [(Kind::Reverse, 1000)]);
        assert_eq!(orders.get(&id).unwrap().refunds[0].code, "T1201");
    }

    fn wish(intent: Intent, amount: i64) -> Wish {
        Wish {
            intent,
            amount,
            currency: "EUR".into(),
            reference_id: "default".into(),
            custom_id: None,
            invoice_id: Some("invoice".into()),
            description: None,
            payer_acts: false,
            return_url: None,
            cancel_url: None,
            op_id: Some("create".into()),
        }
    }

    fn order(intent: Intent, amount: i64) -> (Orders, String) {
        let mut orders = Orders::new(Rules::default());
        let id = orders.create(wish(intent, amount), NOW);
        (orders, id)
    }

    fn held(amount: i64) -> (Orders, String) {
        let (mut orders, id) = order(Intent::Authorize, amount);
        approve(&mut orders, &id, false);
        orders.authorize(&id, asked(), &mut Effects::default()).unwrap();
        let hold = orders.get(&id).unwrap().authorization.as_ref().unwrap().id.clone();
        (orders, hold)
    }

    fn asked() -> Asked<'static> {
        Asked { op_id: Some("k"), declined: None, now: NOW }
    }

    fn want(amount: i64, last: bool) -> Want {
        Want { amount: Some((amount, "EUR".into())), last, ..Want::default() }
    }

    fn approve(orders: &mut Orders, id: &str, hollow: bool) {
        orders.approve(id, hollow, NOW, &mut Effects::default()).unwrap();
    }

    fn capture(orders: &mut Orders, id: &str) -> Result<Vec<(Kind, i64)>, Issue> {
        let mut fx = Effects::default();
        orders.capture_order(id, asked(), &mut fx)?;
        Ok(moves(&fx))
    }

    fn moves(fx: &Effects) -> Vec<(Kind, i64)> {
        fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
    }
}
