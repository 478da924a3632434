//! Money goes back: by a refund, by PayPal's own will, or after a dispute.

use super::{Asked, Effects, Event, Orders, PARTS_LIMIT, owned};
use crate::faults::Operation;
use crate::ledger::Kind;
use crate::paypal::order::Fate;
use crate::paypal::wire::{Issue, fresh};
use crate::paypal::wish::Want;

impl Orders {
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
        let refund = order.give_back(id, (amount, "T1107"), want, asked.now);
        self.owners.insert(refund.clone(), order.id.clone());
        self.journal.push((asked.now, refund.clone()));
        fx.moves.push(order.movement(Kind::Refund, amount, asked.op_id.unwrap_or(&refund)));
        let about = ("PAYMENT.CAPTURE.REFUNDED", Operation::Refund);
        fx.events.extend(order.refund_event(&refund, about, &self.rules.base));
        Ok(refund)
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
        let reversal = order.give_back(id, (left, code), &Want::default(), now);
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

#[cfg(test)]
mod tests {
    use super::super::stage::{NOW, approve, asked, capture, moves, order, want};
    use super::*;
    use crate::paypal::wish::Intent;

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
}
