//! The payments of one Adyen account: pure rules, without sockets or a clock of its own.
//!
//! A payment is decided at once, later, or after the shopper's challenge. Every change to one is
//! accepted whatever it asks for, as long as the payment is known, and told by a notification once
//! it was tried. Money of an automatic payment counts as charged in the moment of the
//! authorization, and is captured a moment later; before that it can't be refunded.

use std::collections::HashMap;

use super::credential::Fate;
use crate::faults::Operation;
use crate::ledger::{Kind, Move};

/// So many payments fit into one account.
pub const PAYMENTS_LIMIT: usize = 1_000_000;

/// What a merchant wants, validated.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Minor units.
    pub amount: i64,
    /// As the provider writes it.
    pub currency: String,
    /// Whether it is captured by itself.
    pub automatic: bool,
    /// The merchant's reference.
    pub reference: String,
    /// The idempotency key, else the reference.
    pub op_id: String,
    /// Whether the shopper must pass 3-D Secure first.
    pub challenge: bool,
    /// How it goes.
    pub fate: Fate,
    /// The name of the payment method.
    pub method: &'static str,
}

/// How a payment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// 3-D Secure is open; whether the shopper passed, once he acted.
    Challenged(Option<bool>),
    /// It is decided later.
    Pending,
    /// Refused, with the number of the reason.
    Refused(String),
    /// The way to the issuer broke off.
    Broken,
    /// Authorised.
    Held,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Payment {
    /// `pspReference`.
    pub psp: String,
    /// Names the open challenge.
    pub session: String,
    /// What the merchant wanted.
    pub wish: Wish,
    /// How it stands.
    pub state: State,
    captured: i64,
    voided: i64,
    refunded: i64,
}

/// What a change asks for. Amounts are minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The automatic capture, which moves no money: it counted as charged before.
    Settle,
    /// `captures`; what is not captured is released.
    Capture(i64),
    /// `cancels`.
    Cancel,
    /// `refunds`.
    Refund(i64),
    /// `reversals`.
    Reverse,
    /// `POST /cancels` by the merchant's reference.
    TechnicalCancel,
}

/// A change that was accepted and is tried later.
#[derive(Debug, Clone)]
pub struct Step {
    /// The payment's `pspReference`.
    pub payment: String,
    /// Its own `pspReference`.
    pub psp: String,
    /// What to do.
    pub asked: Asked,
    /// The idempotency key, else the reference.
    pub op_id: String,
    /// The merchant's reference for it.
    pub reference: String,
    /// Refused by the dial.
    pub refused: bool,
}

/// A notification to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The operation that it tells of.
    pub cause: Operation,
    /// `AUTHORISATION` and so on.
    pub code: &'static str,
    /// Whether it succeeded.
    pub success: bool,
    /// The number of the payment or the change.
    pub psp: String,
    /// Of a change: the payment's number.
    pub original: Option<String>,
    /// The reference of the payment or the change.
    pub reference: String,
    /// Minor units.
    pub amount: i64,
    /// As the provider writes it.
    pub currency: String,
    /// The name of the payment method.
    pub method: &'static str,
}

/// What a call changed outside the payments.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the ledger.
    pub moves: Vec<Move>,
    /// Notifications.
    pub events: Vec<Event>,
    /// To be tried later.
    pub steps: Vec<Step>,
    /// Payments to be decided later, by `pspReference`.
    pub decisions: Vec<String>,
    /// Challenges that were opened, by `pspReference`.
    pub challenges: Vec<String>,
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

    /// Makes a payment. `verdict` is the issuer's refusal, asked only when it is decided at once.
    pub fn make(
        &mut self,
        wish: Wish,
        verdict: impl FnOnce() -> Option<String>,
        fx: &mut Effects,
    ) -> Payment {
        let (psp, session) = (fresh(), fresh());
        self.by_op.insert(wish.op_id.clone(), psp.clone());
        self.by_session.insert(session.clone(), psp.clone());
        self.by_reference.entry(wish.reference.clone()).or_default().push(psp.clone());
        let (challenge, fate) = (wish.challenge, wish.fate);
        let made = Payment {
            psp: psp.clone(),
            session,
            wish,
            state: State::Pending,
            captured: 0,
            voided: 0,
            refunded: 0,
        };
        self.payments.insert(psp.clone(), made);
        let payment = self.payments.get_mut(&psp).expect("it was just put there");
        match fate {
            _ if challenge => payment.state = State::Challenged(None),
            Fate::Pending => fx.decisions.push(psp),
            Fate::Error => {
                payment.state = State::Broken;
                fx.events.push(payment.told(false));
            }
            Fate::Decided | Fate::StoreDown => payment.decide(verdict(), fx),
        }
        payment.clone()
    }

    /// The payment of a challenge.
    pub fn of_session(&self, session: &str) -> Option<&Payment> {
        self.payments.get(self.by_session.get(session)?)
    }

    /// The payment by the key or reference of its request.
    pub fn of_op(&self, op_id: &str) -> Option<&Payment> {
        self.payments.get(self.by_op.get(op_id)?)
    }

    /// The shopper acts on what is open; answers the payment.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(&mut self, psp: &str, passes: Option<bool>) -> Result<&Payment, &'static str> {
        let payment = self.payments.get_mut(psp).ok_or("no such payment")?;
        match payment.state {
            State::Challenged(None) => payment.state = State::Challenged(passes),
            State::Pending => {}
            _ => return Err("nothing is open"),
        }
        Ok(payment)
    }

    /// The merchant brings the shopper's result: the payment is decided, once.
    pub fn finish(
        &mut self,
        psp: &str,
        verdict: impl FnOnce() -> Option<String>,
        fx: &mut Effects,
    ) -> Option<Payment> {
        let payment = self.payments.get_mut(psp)?;
        match payment.state {
            State::Challenged(Some(true)) => payment.decide(verdict(), fx),
            // 3-D Secure was not passed.
            State::Challenged(_) => payment.decide(Some("11".into()), fx),
            _ => {}
        }
        Some(payment.clone())
    }

    /// Refuses a challenge that nobody brought back.
    pub fn give_up(&mut self, psp: &str, fx: &mut Effects) {
        let payment = self.payments.get_mut(psp);
        if let Some(payment) = payment.filter(|p| matches!(p.state, State::Challenged(_))) {
            payment.decide(Some("11".into()), fx);
        }
    }

    /// Decides what was pending.
    pub fn decide(&mut self, psp: &str, refusal: Option<String>, fx: &mut Effects) {
        if let Some(payment) = self.payments.get_mut(psp).filter(|p| p.state == State::Pending) {
            payment.decide(refusal, fx);
        }
    }

    /// Accepts a change of a known payment, whatever its state.
    pub fn accept(
        &self,
        psp: &str,
        asked: Asked,
        op_id: String,
        reference: String,
    ) -> Option<Step> {
        let payment = self.payments.get(psp)?;
        Some(Step {
            payment: payment.psp.clone(),
            psp: fresh(),
            asked,
            op_id,
            reference,
            refused: false,
        })
    }

    /// The payments with this reference, oldest first.
    pub fn with_reference(&self, reference: &str) -> Vec<String> {
        self.by_reference.get(reference).cloned().unwrap_or_default()
    }

    /// Tries an accepted change. A payment that was forgotten meanwhile is left alone.
    pub fn execute(&mut self, step: &Step, fx: &mut Effects) {
        if let Some(payment) = self.payments.get_mut(&step.payment) {
            payment.execute(step, fx);
        }
    }
}

impl Payment {
    fn decide(&mut self, refusal: Option<String>, fx: &mut Effects) {
        if let Some(refusal) = refusal {
            self.state = State::Refused(refusal);
            fx.events.push(self.told(false));
            return;
        }
        self.state = State::Held;
        let kind = if self.wish.automatic { Kind::Charge } else { Kind::Authorize };
        fx.moves.push(self.movement(kind, self.wish.amount, &self.wish.op_id));
        fx.events.push(self.told(true));
        if self.wish.automatic {
            fx.steps.push(Step {
                payment: self.psp.clone(),
                psp: fresh(),
                asked: Asked::Settle,
                op_id: self.wish.op_id.clone(),
                reference: self.wish.reference.clone(),
                refused: false,
            });
        }
    }

    fn execute(&mut self, step: &Step, fx: &mut Effects) {
        let amount = match step.asked {
            Asked::Capture(amount) | Asked::Refund(amount) => amount,
            _ => self.wish.amount,
        };
        let done = !step.refused && self.tried(step, fx);
        let (code, cause) = match step.asked {
            Asked::Settle => return,
            Asked::Capture(_) => ("CAPTURE", Operation::Capture),
            Asked::Cancel => ("CANCELLATION", Operation::Void),
            Asked::Refund(_) => ("REFUND", Operation::Refund),
            Asked::Reverse => ("CANCEL_OR_REFUND", Operation::Refund),
            Asked::TechnicalCancel => ("TECHNICAL_CANCEL", Operation::Close),
        };
        fx.events.push(Event {
            cause,
            code,
            success: done,
            psp: step.psp.clone(),
            original: Some(self.psp.clone()),
            reference: step.reference.clone(),
            amount,
            currency: self.wish.currency.clone(),
            method: self.wish.method,
        });
    }

    /// Whether the change could be made; it was, then.
    fn tried(&mut self, step: &Step, fx: &mut Effects) -> bool {
        if self.state != State::Held {
            return false;
        }
        let held = self.wish.amount - self.captured - self.voided;
        let untouched = held == self.wish.amount;
        let mut write = |moved: Move| fx.moves.push(moved);
        match step.asked {
            Asked::Settle => {
                self.captured += held;
                held > 0
            }
            Asked::Capture(amount) => {
                if self.wish.automatic || !untouched || !(1..=held).contains(&amount) {
                    return false;
                }
                self.captured = amount;
                write(self.movement(Kind::Capture, amount, &step.op_id));
                if amount < held {
                    self.voided += held - amount;
                    write(self.movement(Kind::Void, held - amount, &step.op_id));
                }
                true
            }
            Asked::Cancel | Asked::TechnicalCancel => {
                if untouched {
                    self.voided = held;
                    write(self.movement(Kind::Void, held, &step.op_id));
                }
                untouched
            }
            Asked::Refund(amount) => {
                let left = self.captured - self.refunded;
                if (1..=left).contains(&amount) {
                    self.refunded += amount;
                    write(self.movement(Kind::Refund, amount, &step.op_id));
                    return true;
                }
                false
            }
            Asked::Reverse => {
                let back = held + self.captured - self.refunded;
                if back > 0 {
                    self.voided += held;
                    self.refunded = self.captured;
                    write(self.movement(Kind::Reverse, back, &step.op_id));
                }
                back > 0
            }
        }
    }

    fn told(&self, success: bool) -> Event {
        Event {
            cause: Operation::Authorize,
            code: "AUTHORISATION",
            success,
            psp: self.psp.clone(),
            original: None,
            reference: self.wish.reference.clone(),
            amount: self.wish.amount,
            currency: self.wish.currency.clone(),
            method: self.wish.method,
        }
    }

    /// The payment's own key joins all movements of it.
    fn movement(&self, kind: Kind, amount: i64, op_id: &str) -> Move {
        Move {
            op_id: op_id.into(),
            provider_ref: self.psp.clone(),
            reference: self.wish.op_id.clone(),
            kind,
            amount,
            currency: self.wish.currency.clone(),
        }
    }
}

/// 16 random characters, as the provider's numbers look.
pub fn fresh() -> String {
    const ALPHABET: &[u8; 32] = b"23456789BCDFGHJKLMNPQRSTVWXZ4567";
    let mut bits: u128 = rand::random();
    let mut psp = String::with_capacity(16);
    for _ in 0..16 {
        psp.push(char::from(ALPHABET[(bits % 32) as usize]));
        bits /= 32;
    }
    psp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_capture_is_one_charge_that_can_be_refunded_once_it_is_captured() {
        let mut room = Room::default();
        let psp = room.pay(100, true);
        room.ask(&psp, Asked::Refund(40));
        assert_eq!(room.told.pop().map(|e| (e.code, e.success)), Some(("REFUND", false)));
        room.settle();
        room.ask(&psp, Asked::Refund(40));
        room.ask(&psp, Asked::Refund(61));
        let told: Vec<bool> = room.told.iter().map(|e| e.success).collect();
        assert_eq!(told, [true, true, false], "authorised, refunded, and no more than is left");
        assert_eq!(room.sums(), [(Kind::Charge, 100), (Kind::Refund, 40)]);
    }

    #[test]
    fn a_partial_capture_releases_the_rest_and_is_the_only_one() {
        let mut room = Room::default();
        let psp = room.pay(100, false);
        for amount in [101, 0, 30, 20] {
            room.ask(&psp, Asked::Capture(amount));
        }
        room.ask(&psp, Asked::Cancel);
        let told: Vec<bool> = room.told.iter().skip(1).map(|e| e.success).collect();
        assert_eq!(told, [false, false, true, false, false]);
        let sums = [(Kind::Authorize, 100), (Kind::Capture, 30), (Kind::Void, 70)];
        assert_eq!(room.sums(), sums);
    }

    #[test]
    fn a_reversal_undoes_a_hold_an_uncaptured_charge_and_a_capture_once() {
        for (automatic, settle) in [(false, false), (true, false), (true, true)] {
            let mut room = Room::default();
            let psp = room.pay(100, automatic);
            if settle {
                room.settle();
            }
            room.ask(&psp, Asked::Reverse);
            room.ask(&psp, Asked::Reverse);
            room.settle();
            let told: Vec<bool> = room.told.iter().skip(1).map(|e| e.success).collect();
            assert_eq!(told, [true, false]);
            assert_eq!(room.sums()[1], (Kind::Reverse, 100));
        }
    }

    #[test]
    fn a_challenge_moves_money_only_when_it_was_passed_and_brought_back() {
        for (passes, state) in [
            (Some(true), State::Held),
            (Some(false), State::Refused("11".into())),
            (None, State::Refused("11".into())),
        ] {
            let mut room = Room::default();
            let wish = Wish { challenge: true, ..wish(100, true) };
            let made = room.payments.make(wish, || None, &mut room.fx);
            assert_eq!(made.state, State::Challenged(None));
            room.payments.act(&made.psp, passes).unwrap();
            assert!(room.sums().is_empty(), "nothing moves before the merchant brings it");
            let done = room.payments.finish(&made.psp, || None, &mut room.fx).unwrap();
            assert_eq!(done.state, state);
            let again = room.payments.finish(&made.psp, || None, &mut room.fx).unwrap();
            assert_eq!(again.state, state);
            assert_eq!(room.sums().len(), usize::from(passes == Some(true)));
        }
    }

    #[derive(Default)]
    struct Room {
        payments: Payments,
        fx: Effects,
        told: Vec<Event>,
        settling: Vec<Step>,
    }

    impl Room {
        fn pay(&mut self, amount: i64, automatic: bool) -> String {
            let psp = self.payments.make(wish(amount, automatic), || None, &mut self.fx).psp;
            self.settling.append(&mut self.fx.steps);
            self.told.append(&mut self.fx.events);
            psp
        }

        fn ask(&mut self, psp: &str, asked: Asked) {
            let step = self.payments.accept(psp, asked, "k".into(), "r".into()).unwrap();
            self.payments.execute(&step, &mut self.fx);
            self.told.append(&mut self.fx.events);
        }

        fn settle(&mut self) {
            for step in std::mem::take(&mut self.settling) {
                self.payments.execute(&step, &mut self.fx);
            }
        }

        fn sums(&self) -> Vec<(Kind, i64)> {
            self.fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
        }
    }

    fn wish(amount: i64, automatic: bool) -> Wish {
        Wish {
            amount,
            currency: "EUR".into(),
            automatic,
            reference: "ref".into(),
            op_id: "key".into(),
            challenge: false,
            fate: Fate::Decided,
            method: "visa",
        }
    }
}
