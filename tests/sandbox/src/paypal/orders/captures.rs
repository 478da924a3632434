//! What becomes of a capture: completed, pending and decided later, or declined.

use super::{Effects, Event, Orders, Rules, owned};
use crate::faults::Operation;
use crate::ledger::Kind;
use crate::paypal::order::{Fate, Order};

impl Orders {
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
}

pub(super) fn fate_of(amount: i64, rules: &Rules) -> Fate {
    match amount % 100 {
        11 | 12 if rules.magic_amounts => Fate::Pending("PENDING_REVIEW"),
        13 if rules.magic_amounts => Fate::Declined,
        14 if rules.magic_amounts => Fate::Pending("ECHECK"),
        _ => Fate::Completed,
    }
}

/// Tells of a capture as it stands, and moves its money if it is completed.
pub(super) fn settle(order: &Order, id: &str, (base, cause): (&str, Operation), fx: &mut Effects) {
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

#[cfg(test)]
mod tests {
    use super::super::stage::{NOW, approve, asked, held, moves, order, want};
    use super::*;
    use crate::paypal::wish::{Intent, Want};

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
}
