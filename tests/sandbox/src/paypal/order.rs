//! One order and what came of it: a hold, captures, refunds.
//!
//! The sums are the truth: what a hold still holds, and the status of an authorization, a capture
//! and an order, is read from them.

use super::orders::{Asked, Effects};
use super::wire::fresh;
use super::wish::{Want, Wish};
use crate::ledger::{Kind, Move};

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

    pub(super) fn movement(&self, kind: Kind, amount: i64, op_id: &str) -> Move {
        Move {
            op_id: op_id.into(),
            provider_ref: self.id.clone(),
            reference: self.reference().into(),
            kind,
            amount,
            currency: self.wish.currency.clone(),
        }
    }

    pub(super) fn take(
        &mut self,
        amount: i64,
        want: &Want,
        fate: Fate,
        asked: Asked<'_>,
    ) -> String {
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

    /// Notes that a part of a capture went back, by whomever; answers the refund's id.
    pub(super) fn give_back(
        &mut self,
        capture: &str,
        (amount, code): (i64, &'static str),
        want: &Want,
        now: i64,
    ) -> String {
        let id = fresh();
        for held in self.captures.iter_mut().filter(|c| c.id == capture) {
            held.refunded += amount;
            held.changed_ms = now;
        }
        self.refunds.push(Refund {
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

    /// Closes the hold and lets go what nothing was taken of.
    pub(super) fn let_go(&mut self, op_id: &str, fx: &mut Effects) {
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
