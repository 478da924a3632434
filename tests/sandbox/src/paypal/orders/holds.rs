//! A hold is taken in parts, let go, or renewed.

use super::captures::{fate_of, settle};
use super::{Asked, DAY_MS, Effects, Orders, PARTS_LIMIT, owned};
use crate::faults::Operation;
use crate::paypal::order::Fate;
use crate::paypal::wire::{Issue, fresh};
use crate::paypal::wish::Want;

/// A hold is good for so long; from then on it may be renewed.
const HONOURED_MS: i64 = 3 * DAY_MS;

impl Orders {
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
}

#[cfg(test)]
mod tests {
    use super::super::stage::{NOW, asked, held, moves, want};
    use super::*;
    use crate::ledger::Kind;

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
}
