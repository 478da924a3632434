//! The payments of one Checkout.com account: pure rules, without sockets or a clock of its own.
//!
//! A payment is authorized at once or waits for the shopper's 3-D Secure. Everything after that
//! (capture, void, refund, reversal) is accepted first and executed later, so an amount that was
//! accepted but not executed is reserved. With automatic capture the money counts as charged in
//! the moment of the authorization.

use std::collections::HashMap;

use super::payment::{APPROVED, Action, Event, Payment, Status, Wish, action, fresh, status_of};
use crate::faults::Operation;
use crate::ledger::{Kind, Move};

/// So many payments fit into one account.
pub const PAYMENTS_LIMIT: usize = 1_000_000;

const ACTIONS_LIMIT: usize = 150;

/// A step that was accepted and is executed later.
#[derive(Debug, Clone)]
pub struct Step {
    /// The payment.
    pub payment: String,
    /// `act_...`
    pub action: String,
    /// What to do.
    pub kind: StepKind,
    /// The idempotency key, else the reference, else the action's id.
    pub op_id: String,
    /// The merchant's reference for this step.
    pub reference: String,
    /// Refused in the end, with this code.
    pub declined: Option<&'static str>,
}

/// What a step does. Amounts are minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// The automatic capture, which moves no money: it counted as charged before.
    Settle,
    /// Takes a part of the hold; the last one releases the rest.
    Capture {
        /// How much.
        amount: i64,
        /// Whether the rest is released.
        last: bool,
    },
    /// Lets go what is held.
    Void,
    /// Gives back.
    Refund {
        /// How much.
        amount: i64,
    },
    /// Undoes all of it.
    Reverse,
}

/// Why a step was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unaccepted {
    /// 404.
    Unknown,
    /// 403: not in this state.
    NotAllowed,
    /// 422 with this error code.
    Invalid(&'static str),
    /// 204: a reversal that was done before.
    DoneBefore,
}

/// What a call changed outside the payments.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the ledger.
    pub moves: Vec<Move>,
    /// Webhooks.
    pub events: Vec<Event>,
    /// To be executed later.
    pub steps: Vec<Step>,
}

/// All payments of one account.
#[derive(Default)]
pub struct Payments {
    payments: HashMap<String, Payment>,
    by_session: HashMap<String, String>,
    by_op: HashMap<String, String>,
    by_reference: HashMap<String, Vec<String>>,
}

impl Payments {
    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.payments.len() >= PAYMENTS_LIMIT
    }

    /// Makes a payment. `verdict` is the issuer's decline code, asked only when there is no
    /// challenge to wait for.
    pub fn make(
        &mut self,
        wish: Wish,
        verdict: impl FnOnce() -> Option<String>,
        now: i64,
        fx: &mut Effects,
    ) -> Payment {
        let id = fresh("pay");
        let session = fresh("sid");
        let challenge = wish.challenge;
        self.by_op.insert(wish.op_id.clone(), id.clone());
        self.by_session.insert(session.clone(), id.clone());
        self.by_reference.entry(wish.reference.clone()).or_default().push(id.clone());
        let payment = Payment {
            id: id.clone(),
            session,
            status: Status::Pending,
            wish,
            made_ms: now,
            code: APPROVED.into(),
            captured: 0,
            voided: 0,
            refunded: 0,
            reversed: false,
            capture_reserved: 0,
            refund_reserved: 0,
            undo_reserved: false,
            settle_open: false,
            actions: Vec::new(),
        };
        self.payments.insert(id.clone(), payment);
        let payment = &mut self.payments.get_mut(&id).expect("it was just put there");
        if challenge {
            let waits = Action {
                id: String::new(),
                kind: "Authorization",
                amount: payment.wish.amount,
                code: APPROVED.into(),
                reference: payment.wish.reference.clone(),
                at_ms: now,
            };
            fx.events.push(payment.event("payment_pending", Operation::Authorize, &waits));
        } else {
            decide(payment, verdict(), now, fx);
        }
        payment.clone()
    }

    /// The payment by its id or its session.
    pub fn get(&self, id: &str) -> Option<&Payment> {
        let id = self.by_session.get(id).map_or(id, String::as_str);
        self.payments.get(id)
    }

    /// The payment that a key made, else the youngest with that reference, else by id.
    pub fn find(&self, op_id: &str) -> Option<&Payment> {
        let by_reference = || self.by_reference.get(op_id).and_then(|ids| ids.last());
        match self.by_op.get(op_id).or_else(by_reference) {
            Some(id) => self.payments.get(id),
            None => self.get(op_id),
        }
    }

    /// The payments with `reference` made up to `until_ms`, youngest first.
    pub fn list(&self, reference: &str, until_ms: i64) -> Vec<&Payment> {
        let ids = self.by_reference.get(reference).map_or(&[][..], Vec::as_slice);
        let visible = |payment: &&Payment| payment.made_ms <= until_ms;
        ids.iter().rev().filter_map(|id| self.payments.get(id)).filter(visible).collect()
    }

    /// The shopper passes, fails or leaves the open challenge. `verdict` is the issuer's decline
    /// code after a pass.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn finish(
        &mut self,
        id: &str,
        outcome: Outcome,
        verdict: impl FnOnce() -> Option<String>,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Payment, &'static str> {
        let payment = self.payments.get_mut(id).ok_or("no such payment")?;
        if payment.status != Status::Pending {
            return Err("the payment does not wait for the shopper");
        }
        match outcome {
            Outcome::Passed => decide(payment, verdict(), now, fx),
            Outcome::Failed => decide(payment, Some("20153".into()), now, fx),
            Outcome::Left => {
                payment.status = Status::Expired;
                let left = action(payment, fresh("act"), "Authorization", "20150", now);
                fx.events.push(payment.event("payment_expired", Operation::Authorize, &left));
            }
        }
        Ok(payment.clone())
    }

    /// Accepts a step, reserving what it needs.
    ///
    /// # Errors
    /// Why it is not accepted; nothing changed then.
    pub fn accept(
        &mut self,
        id: &str,
        asked: Asked,
        (op_id, reference): (Option<String>, String),
        declined: Option<&'static str>,
    ) -> Result<Step, Unaccepted> {
        let payment = self.payments.get_mut(id).ok_or(Unaccepted::Unknown)?;
        if payment.actions.len() >= ACTIONS_LIMIT {
            return Err(Unaccepted::Invalid("payment_actions_limit_reached"));
        }
        let kind = asked.fit(payment)?;
        match kind {
            StepKind::Capture { amount, .. } => payment.capture_reserved += amount,
            StepKind::Refund { amount } => payment.refund_reserved += amount,
            StepKind::Void | StepKind::Reverse => payment.undo_reserved = true,
            StepKind::Settle => {}
        }
        let action = fresh("act");
        let or_reference = || Some(reference.clone()).filter(|r| !r.is_empty());
        Ok(Step {
            payment: id.into(),
            op_id: op_id.or_else(or_reference).unwrap_or_else(|| action.clone()),
            action,
            kind,
            reference,
            declined,
        })
    }

    /// Executes an accepted step. A payment that was forgotten meanwhile is left alone.
    pub fn execute(&mut self, step: &Step, now: i64, fx: &mut Effects) {
        if let Some(payment) = self.payments.get_mut(&step.payment) {
            execute(payment, step, now, fx);
        }
    }
}

/// How a challenge ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The shopper is who he says.
    Passed,
    /// He is not.
    Failed,
    /// He went away.
    Left,
}

/// A step as asked for. Amounts are minor units; absent means all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `captures`.
    Capture {
        /// How much.
        amount: Option<i64>,
        /// `capture_type` is not `NonFinal`.
        last: bool,
    },
    /// `voids`.
    Void,
    /// `refunds`.
    Refund {
        /// How much.
        amount: Option<i64>,
    },
    /// `reversals`.
    Reverse,
}

impl Asked {
    fn fit(self, payment: &Payment) -> Result<StepKind, Unaccepted> {
        let open = matches!(payment.status, Status::Authorized | Status::PartiallyCaptured);
        let free = !payment.undo_reserved;
        match self {
            Self::Capture { amount, last } => {
                let left = payment.held() - payment.capture_reserved;
                if !open || payment.wish.capture || !free || left == 0 {
                    return Err(Unaccepted::NotAllowed);
                }
                let amount = amount.unwrap_or(left);
                if amount <= 0 || amount > left {
                    return Err(Unaccepted::Invalid(
                        "capture_value_greater_than_remaining_authorized",
                    ));
                }
                Ok(StepKind::Capture { amount, last })
            }
            Self::Void => {
                let holds = payment.held() > 0 && payment.capture_reserved == 0;
                if open && free && holds { Ok(StepKind::Void) } else { Err(Unaccepted::NotAllowed) }
            }
            Self::Refund { amount } => {
                let left = payment.captured - payment.refunded - payment.refund_reserved;
                if payment.captured == 0 || !free || payment.reversed {
                    return Err(Unaccepted::NotAllowed);
                }
                let amount = amount.unwrap_or(left);
                if amount <= 0 || amount > left {
                    return Err(Unaccepted::Invalid("refund_amount_exceeds_balance"));
                }
                Ok(StepKind::Refund { amount })
            }
            Self::Reverse if payment.reversed => Err(Unaccepted::DoneBefore),
            Self::Reverse => {
                let busy = payment.capture_reserved + payment.refund_reserved > 0;
                let undoable =
                    open || matches!(payment.status, Status::Captured | Status::PartiallyRefunded);
                if undoable && free && !busy {
                    Ok(StepKind::Reverse)
                } else {
                    Err(Unaccepted::NotAllowed)
                }
            }
        }
    }
}

fn decide(payment: &mut Payment, declined: Option<String>, now: i64, fx: &mut Effects) {
    if let Some(code) = declined {
        payment.status = Status::Declined;
        payment.code = code.clone();
        let refused = action(payment, fresh("act"), "Authorization", &code, now);
        fx.events.push(payment.event("payment_declined", Operation::Authorize, &refused));
        return;
    }
    payment.status = Status::Authorized;
    let held = action(payment, fresh("act"), "Authorization", APPROVED, now);
    let kind = if payment.wish.capture { Kind::Charge } else { Kind::Authorize };
    let op_id = payment.wish.op_id.clone();
    fx.moves.push(payment.movement(kind, payment.wish.amount, &op_id));
    fx.events.push(payment.event("payment_approved", Operation::Authorize, &held));
    if payment.wish.capture {
        payment.settle_open = true;
        fx.steps.push(Step {
            payment: payment.id.clone(),
            action: fresh("act"),
            kind: StepKind::Settle,
            op_id,
            reference: payment.wish.reference.clone(),
            declined: None,
        });
    }
}

fn execute(payment: &mut Payment, step: &Step, now: i64, fx: &mut Effects) {
    let refused = step.declined;
    let code = refused.unwrap_or(APPROVED);
    let total = payment.wish.amount;
    let (kind, amount, cause, events) = match step.kind {
        StepKind::Settle => {
            if !std::mem::take(&mut payment.settle_open) {
                return;
            }
            payment.captured = total;
            ("Capture", total, Operation::Authorize, ["payment_captured", ""])
        }
        StepKind::Capture { amount, last } => {
            payment.capture_reserved -= amount;
            if refused.is_none() {
                payment.captured += amount;
                fx.moves.push(payment.movement(Kind::Capture, amount, &step.op_id));
                let rest = payment.held();
                if last && rest > 0 && payment.capture_reserved == 0 {
                    payment.voided += rest;
                    fx.moves.push(payment.movement(Kind::Void, rest, &step.op_id));
                }
            }
            let events = ["payment_captured", "payment_capture_declined"];
            ("Capture", amount, Operation::Capture, events)
        }
        StepKind::Void => {
            payment.undo_reserved = false;
            let rest = payment.held();
            if refused.is_none() {
                payment.voided += rest;
                fx.moves.push(payment.movement(Kind::Void, rest, &step.op_id));
            }
            ("Void", rest, Operation::Void, ["payment_voided", "payment_void_declined"])
        }
        StepKind::Refund { amount } => {
            payment.refund_reserved -= amount;
            if refused.is_none() {
                payment.refunded += amount;
                fx.moves.push(payment.movement(Kind::Refund, amount, &step.op_id));
            }
            let events = ["payment_refunded", "payment_refund_declined"];
            ("Refund", amount, Operation::Refund, events)
        }
        StepKind::Reverse => {
            payment.undo_reserved = false;
            reverse(payment, step, fx)
        }
    };
    if refused.is_none() {
        payment.status = status_of(payment);
    }
    let done = Action {
        id: step.action.clone(),
        kind,
        amount,
        code: code.into(),
        reference: step.reference.clone(),
        at_ms: now,
    };
    payment.actions.push(done.clone());
    let event = events[usize::from(refused.is_some())];
    fx.events.push(payment.event(event, cause, &done));
}

fn reverse(
    payment: &mut Payment,
    step: &Step,
    fx: &mut Effects,
) -> (&'static str, i64, Operation, [&'static str; 2]) {
    let unsettled = payment.settle_open;
    let taken = if unsettled { payment.wish.amount } else { payment.captured };
    let held = payment.held();
    let amount = held + taken - payment.refunded;
    let only_hold = unsettled || payment.captured == 0;
    if step.declined.is_none() {
        payment.reversed = true;
        payment.settle_open = false;
        payment.voided += if unsettled { taken } else { held };
        payment.refunded += if unsettled { 0 } else { taken - payment.refunded };
        fx.moves.push(payment.movement(Kind::Reverse, amount, &step.op_id));
    }
    if only_hold {
        ("Void", amount, Operation::Close, ["payment_voided", "payment_void_declined"])
    } else {
        ("Refund", amount, Operation::Close, ["payment_refunded", "payment_refund_declined"])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn automatic_capture_is_one_charge_and_settles_without_another() {
        let mut room = Room::default();
        let id = room.pay(100, true, None);
        assert_eq!(room.sums(), [(Kind::Charge, 100)]);
        assert_eq!(room.payments.get(&id).unwrap().status, Status::Authorized);
        room.run();
        assert_eq!(room.payments.get(&id).unwrap().status, Status::Captured);
        assert_eq!(room.sums(), [(Kind::Charge, 100)]);
        assert_eq!(room.kinds(), ["payment_approved", "payment_captured"]);
    }

    #[test]
    fn a_final_partial_capture_releases_the_rest() {
        let mut room = Room::default();
        let id = room.pay(100, false, None);
        let over = room.ask(&id, Asked::Capture { amount: Some(101), last: true });
        assert!(matches!(over, Err(Unaccepted::Invalid(_))));
        room.ask(&id, Asked::Capture { amount: Some(30), last: false }).unwrap();
        room.run();
        assert_eq!(room.payments.get(&id).unwrap().status, Status::PartiallyCaptured);
        room.ask(&id, Asked::Capture { amount: Some(20), last: true }).unwrap();
        room.run();
        let sums =
            [(Kind::Authorize, 100), (Kind::Capture, 30), (Kind::Capture, 20), (Kind::Void, 50)];
        assert_eq!(room.sums(), sums);
    }

    #[test]
    fn accepted_amounts_are_reserved_before_they_are_executed() {
        let mut room = Room::default();
        let id = room.pay(100, true, None);
        assert_eq!(room.ask(&id, Asked::Refund { amount: None }), Err(Unaccepted::NotAllowed));
        room.run();
        room.ask(&id, Asked::Refund { amount: Some(60) }).unwrap();
        let over = room.ask(&id, Asked::Refund { amount: Some(41) });
        assert_eq!(over, Err(Unaccepted::Invalid("refund_amount_exceeds_balance")));
        room.ask(&id, Asked::Refund { amount: Some(40) }).unwrap();
        room.run();
        assert_eq!(room.payments.get(&id).unwrap().status, Status::Refunded);
        assert_eq!(room.net(), 0);
    }

    #[test]
    fn a_reversal_undoes_a_hold_an_unsettled_charge_and_a_capture_once() {
        for (capture, settle) in [(false, false), (true, false), (true, true)] {
            let mut room = Room::default();
            let id = room.pay(100, capture, None);
            let settling = std::mem::take(&mut room.waiting);
            if settle {
                room.waiting = settling.clone();
                room.run();
            }
            room.ask(&id, Asked::Reverse).unwrap();
            room.run();
            room.waiting = settling;
            room.run();
            assert_eq!(room.net(), 0, "capture {capture}, settle {settle}");
            assert_eq!(room.ask(&id, Asked::Reverse), Err(Unaccepted::DoneBefore));
            let status = room.payments.get(&id).unwrap().status;
            assert_eq!(status, if settle { Status::Refunded } else { Status::Voided });
        }
    }

    #[test]
    fn a_void_is_for_holds_only() {
        let mut room = Room::default();
        let held = room.pay(100, false, None);
        let charged = room.pay(100, true, None);
        assert_eq!(room.ask(&charged, Asked::Void), Err(Unaccepted::NotAllowed));
        room.ask(&held, Asked::Void).unwrap();
        assert_eq!(room.ask(&held, Asked::Void), Err(Unaccepted::NotAllowed));
        room.run();
        let capture = room.ask(&held, Asked::Capture { amount: None, last: true });
        assert_eq!(capture, Err(Unaccepted::NotAllowed));
    }

    #[test]
    fn a_challenge_moves_money_only_when_the_shopper_passes() {
        let mut room = Room::default();
        for (outcome, status) in [
            (Outcome::Passed, Status::Authorized),
            (Outcome::Failed, Status::Declined),
            (Outcome::Left, Status::Expired),
        ] {
            let wish = Wish { challenge: true, ..wish(100, true) };
            let pending = room.payments.make(wish, || None, 0, &mut room.fx);
            assert_eq!(pending.status, Status::Pending);
            let done = room.payments.finish(&pending.id, outcome, || None, 1, &mut room.fx);
            assert_eq!(done.unwrap().status, status);
            let again = room.payments.finish(&pending.id, outcome, || None, 1, &mut room.fx);
            assert!(again.is_err());
        }
        assert_eq!(room.sums(), [(Kind::Charge, 100)]);
    }

    #[derive(Default)]
    struct Room {
        payments: Payments,
        fx: Effects,
        waiting: Vec<Step>,
    }

    impl Room {
        fn pay(&mut self, amount: i64, capture: bool, declined: Option<String>) -> String {
            let id = self.payments.make(wish(amount, capture), || declined, 0, &mut self.fx).id;
            self.waiting.append(&mut self.fx.steps);
            id
        }

        fn ask(&mut self, id: &str, asked: Asked) -> Result<(), Unaccepted> {
            let step = self.payments.accept(id, asked, (None, "r".into()), None)?;
            self.waiting.push(step);
            Ok(())
        }

        fn run(&mut self) {
            for step in std::mem::take(&mut self.waiting) {
                self.payments.execute(&step, 5, &mut self.fx);
            }
        }

        fn sums(&self) -> Vec<(Kind, i64)> {
            self.fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
        }

        fn kinds(&self) -> Vec<&'static str> {
            self.fx.events.iter().map(|e| e.kind).collect()
        }

        fn net(&self) -> i64 {
            let sign = |kind| match kind {
                Kind::Charge | Kind::Authorize => 1,
                Kind::Capture => 0,
                Kind::Refund | Kind::Void | Kind::Reverse => -1,
            };
            self.fx.moves.iter().map(|m| sign(m.kind) * m.amount).sum()
        }
    }

    fn wish(amount: i64, capture: bool) -> Wish {
        Wish {
            amount,
            currency: "EUR".into(),
            capture,
            reference: "ref".into(),
            op_id: "key".into(),
            challenge: false,
            metadata: Value::Null,
            source: Value::Null,
        }
    }
}
