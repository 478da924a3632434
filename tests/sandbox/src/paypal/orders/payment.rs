//! An approved order is paid: captured at once, or held.

use std::collections::HashMap;

use super::captures::{fate_of, settle};
use super::{Asked, Effects, Orders, Rules};
use crate::faults::Operation;
use crate::ledger::Kind;
use crate::paypal::order::{Approval, Authorization, Order};
use crate::paypal::wire::{Issue, fresh};
use crate::paypal::wish::{Intent, Want};

const AUTHORIZATION_LIFE_MS: i64 = 29 * super::DAY_MS;

impl Orders {
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

#[cfg(test)]
mod tests {
    use super::super::stage::{NOW, approve, asked, capture, order, wish};
    use super::*;

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
}
