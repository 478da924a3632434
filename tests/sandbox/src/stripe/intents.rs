//! The payments of one Stripe account: pure rules, without sockets or a clock of its own.
//!
//! A payment is decided when it is confirmed, later, or after the shopper's challenge and one more
//! confirmation. It is captured once; what is not captured is let go. A refund is made at once, or
//! fails later.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::wire::fresh;
use crate::faults::Operation;
use crate::ledger::{Kind, Move};

/// So many payments fit into one account.
pub const INTENTS_LIMIT: usize = 1_000_000;

/// What a merchant wants, validated.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Minor units.
    pub amount: i64,
    /// In lower case.
    pub currency: String,
    /// Held until it is captured.
    pub manual: bool,
    /// Goes on after a challenge only when it is confirmed again.
    pub confirmed_by_us: bool,
    /// The merchant's own words.
    pub metadata: BTreeMap<String, String>,
    /// The idempotency key, else the payment's number.
    pub op_id: String,
    /// When it was made.
    pub at_ms: i64,
}

/// How a payment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The shopper must pass 3-D Secure.
    Action,
    /// He has passed.
    Confirmation,
    /// It is decided later.
    Processing,
    /// The last try failed: the error's code, and the issuer's.
    Failed(&'static str, Option<String>),
    /// Held.
    Held,
    /// Taken.
    Taken,
    /// Over.
    Canceled,
}

impl State {
    /// The provider's word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Action => "requires_action",
            Self::Confirmation => "requires_confirmation",
            Self::Processing => "processing",
            Self::Failed(..) => "requires_payment_method",
            Self::Held => "requires_capture",
            Self::Taken => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Intent {
    /// `pi_...`.
    pub id: String,
    /// Names the open challenge.
    pub session: String,
    /// What the merchant wanted.
    pub wish: Wish,
    /// How it stands.
    pub state: State,
    charge: String,
    held: bool,
    received: i64,
    refunded: i64,
    ended_by: Option<String>,
}

/// One refund.
#[derive(Debug, Clone)]
pub struct Refund {
    /// `re_...`.
    pub id: String,
    /// The payment's number.
    pub intent: String,
    status: &'static str,
    amount: i64,
    currency: String,
    charge: String,
    metadata: BTreeMap<String, String>,
}

/// An event to send.
#[derive(Debug, Clone)]
pub struct Event {
    /// The operation that it tells of.
    pub cause: Operation,
    /// The provider's name of it.
    pub kind: &'static str,
    /// What it shows.
    pub object: Value,
}

/// What a call changed outside the payments.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the ledger.
    pub moves: Vec<Move>,
    /// Events.
    pub events: Vec<Event>,
    /// Payments to be decided later.
    pub decisions: Vec<String>,
    /// Refunds that fail later.
    pub failing: Vec<String>,
}

/// All payments of one account.
#[derive(Default)]
pub struct Intents {
    intents: HashMap<String, Intent>,
    by_session: HashMap<String, String>,
    by_op: HashMap<String, String>,
    by_number: HashMap<String, Vec<String>>,
    refunds: HashMap<String, Refund>,
    refunds_of: HashMap<String, Vec<String>>,
}

impl Intents {
    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.intents.len() >= INTENTS_LIMIT || self.refunds.len() >= INTENTS_LIMIT
    }

    /// Makes a payment that nobody has tried yet.
    pub fn make(&mut self, wish: Wish) -> String {
        let (id, session) = (fresh("pi_"), fresh("src_"));
        self.by_session.insert(session.clone(), id.clone());
        self.by_op.insert(wish.op_id.clone(), id.clone());
        for (name, value) in &wish.metadata {
            self.by_number.entry(format!("{name}={value}")).or_default().push(id.clone());
        }
        let made = Intent {
            id: id.clone(),
            session,
            wish,
            state: State::Action,
            charge: fresh("ch_"),
            held: false,
            received: 0,
            refunded: 0,
            ended_by: None,
        };
        self.intents.insert(id.clone(), made);
        id
    }

    /// The payment of this number.
    pub fn get(&self, id: &str) -> Option<&Intent> {
        self.intents.get(id)
    }

    /// The payment of this challenge.
    pub fn of_session(&self, session: &str) -> Option<&Intent> {
        self.get(self.by_session.get(session)?)
    }

    /// The payment by its key, its number, or our number of it.
    pub fn find(&self, name: &str) -> Option<&Intent> {
        let ours = || self.by_number.get(&format!("interlock_attempt={name}"))?.first();
        self.get(name).or_else(|| self.get(self.by_op.get(name).or_else(ours)?))
    }

    /// The payments with this pair of metadata that were made before, the newest first.
    pub fn search(&self, name: &str, value: &str, until_ms: i64) -> Vec<&Intent> {
        let found = self.by_number.get(&format!("{name}={value}"));
        let all = found.into_iter().flatten().rev().filter_map(|id| self.get(id));
        all.filter(|intent| intent.wish.at_ms <= until_ms).collect()
    }

    /// It is not decided yet.
    pub fn wait(&mut self, id: &str, state: State, fx: &mut Effects) {
        let Some(intent) = self.intents.get_mut(id) else { return };
        let kind = if state == State::Action {
            "payment_intent.requires_action"
        } else {
            fx.decisions.push(id.to_owned());
            "payment_intent.processing"
        };
        intent.state = state;
        fx.events.push(intent.told(Operation::Authorize, kind));
    }

    /// The issuer, or the challenge, decides. `failure` is the error's code, and the issuer's.
    pub fn decide(
        &mut self,
        id: &str,
        failure: Option<(&'static str, Option<String>)>,
        fx: &mut Effects,
    ) {
        let Some(intent) = self.intents.get_mut(id) else { return };
        if let Some((code, why)) = failure {
            intent.state = State::Failed(code, why);
            let kind = "payment_intent.payment_failed";
            fx.events.push(intent.told(Operation::Authorize, kind));
            return;
        }
        intent.held = true;
        let (kind, state, event) = if intent.wish.manual {
            (Kind::Authorize, State::Held, "payment_intent.amount_capturable_updated")
        } else {
            intent.received = intent.wish.amount;
            (Kind::Charge, State::Taken, "payment_intent.succeeded")
        };
        intent.state = state;
        let (amount, op_id) = (intent.wish.amount, intent.wish.op_id.clone());
        fx.moves.push(intent.movement(kind, amount, &op_id));
        fx.events.push(intent.told(Operation::Authorize, event));
    }

    /// The shopper acts on what is open.
    ///
    /// # Errors
    /// A sentence that says why he cannot.
    pub fn act(
        &mut self,
        id: &str,
        passes: bool,
        verdict: impl FnOnce() -> Option<(&'static str, Option<String>)>,
        fx: &mut Effects,
    ) -> Result<(), &'static str> {
        let intent = self.intents.get_mut(id).ok_or("no such payment")?;
        match (&intent.state, passes) {
            (State::Action, true) if intent.wish.confirmed_by_us => {
                intent.state = State::Confirmation;
            }
            (State::Action | State::Processing, true) => self.decide(id, verdict(), fx),
            (State::Action, false) => {
                self.decide(id, Some(("payment_intent_authentication_failure", None)), fx);
            }
            (State::Processing, false) => {
                self.decide(id, Some(("card_declined", Some("do_not_honor".into()))), fx);
            }
            _ => return Err("nothing is open"),
        }
        Ok(())
    }

    /// Takes so much of what is held, and lets the rest go; `None` when that can't be.
    pub fn capture(
        &mut self,
        id: &str,
        amount: Option<i64>,
        (op_id, metadata): (&str, BTreeMap<String, String>),
        fx: &mut Effects,
    ) -> Option<()> {
        let intent = self.intents.get_mut(id).filter(|intent| intent.state == State::Held)?;
        let all = intent.wish.amount;
        let amount = amount.unwrap_or(all);
        if !(1..=all).contains(&amount) {
            return None;
        }
        intent.state = State::Taken;
        intent.received = amount;
        intent.wish.metadata.extend(metadata);
        fx.moves.push(intent.movement(Kind::Capture, amount, op_id));
        if amount < all {
            fx.moves.push(intent.movement(Kind::Void, all - amount, op_id));
        }
        fx.events.push(intent.told(Operation::Capture, "payment_intent.succeeded"));
        Some(())
    }

    /// Ends what took nothing; `None` when that can't be.
    pub fn cancel(
        &mut self,
        id: &str,
        (op_id, why): (&str, Option<&str>),
        fx: &mut Effects,
    ) -> Option<()> {
        let intent = self.intents.get_mut(id)?;
        match intent.state {
            State::Held => {
                let amount = intent.wish.amount;
                fx.moves.push(intent.movement(Kind::Void, amount, op_id));
            }
            State::Action | State::Confirmation | State::Failed(..) => {}
            State::Processing | State::Taken | State::Canceled => return None,
        }
        intent.state = State::Canceled;
        intent.ended_by = why.map(str::to_owned);
        fx.events.push(intent.told(Operation::Void, "payment_intent.canceled"));
        Some(())
    }

    /// Gives so much back, all that is left when no amount is said.
    ///
    /// # Errors
    /// The error's code.
    pub fn refund(
        &mut self,
        id: &str,
        amount: Option<i64>,
        (op_id, metadata): (&str, BTreeMap<String, String>),
        fails: bool,
        fx: &mut Effects,
    ) -> Result<Refund, &'static str> {
        let intent = self.intents.get_mut(id).ok_or("resource_missing")?;
        let left = intent.received - intent.refunded;
        if intent.state != State::Taken {
            return Err("payment_intent_unexpected_state");
        }
        if left == 0 {
            return Err("charge_already_refunded");
        }
        let amount = amount.unwrap_or(left);
        if !(1..=left).contains(&amount) {
            return Err("charge_invalid_parameter");
        }
        let refund = Refund {
            id: fresh("re_"),
            intent: id.to_owned(),
            status: if fails { "pending" } else { "succeeded" },
            amount,
            currency: intent.wish.currency.clone(),
            charge: intent.charge.clone(),
            metadata,
        };
        if fails {
            fx.failing.push(refund.id.clone());
        } else {
            intent.refunded += amount;
            fx.moves.push(intent.movement(Kind::Refund, amount, op_id));
            let object = json!({
                "id": intent.charge, "object": "charge", "amount": intent.received,
                "amount_refunded": intent.refunded, "currency": intent.wish.currency,
                "payment_intent": intent.id, "metadata": intent.wish.metadata,
            });
            let kind = "charge.refunded";
            fx.events.push(Event { cause: Operation::Refund, kind, object });
        }
        fx.events.push(refund.told("refund.created"));
        self.refunds_of.entry(id.to_owned()).or_default().push(refund.id.clone());
        self.refunds.insert(refund.id.clone(), refund.clone());
        Ok(refund)
    }

    /// A refund that was pending came back.
    pub fn fail_refund(&mut self, id: &str, fx: &mut Effects) {
        if let Some(refund) = self.refunds.get_mut(id).filter(|r| r.status == "pending") {
            refund.status = "failed";
            fx.events.push(refund.told("refund.failed"));
        }
    }

    /// The refund of this number.
    pub fn refund_of(&self, id: &str) -> Option<&Refund> {
        self.refunds.get(id)
    }

    /// The refunds of a payment, the newest first.
    pub fn refunds_of(&self, intent: &str) -> Vec<&Refund> {
        let all = self.refunds_of.get(intent).into_iter().flatten().rev();
        all.filter_map(|id| self.refunds.get(id)).collect()
    }
}

impl Intent {
    /// As the provider shows it.
    pub fn show(&self, base: &str, expanded: bool) -> Value {
        let Wish { amount, currency, manual, confirmed_by_us, metadata, .. } = &self.wish;
        let capturable = if self.state == State::Held { *amount } else { 0 };
        let tried = self.held || matches!(self.state, State::Failed("card_declined", _));
        let charge = match (tried, expanded) {
            (false, _) => Value::Null,
            (true, false) => self.charge.as_str().into(),
            (true, true) => json!({
                "id": self.charge, "object": "charge", "amount": amount, "currency": currency,
                "status": if self.held { "succeeded" } else { "failed" },
                "captured": self.received > 0, "payment_intent": self.id,
            }),
        };
        let action = (self.state == State::Action).then(|| {
            let url = format!("{base}/redirect/authenticate/{}", self.session);
            json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url } })
        });
        json!({
            "id": self.id, "object": "payment_intent", "status": self.state.word(),
            "amount": amount, "amount_capturable": capturable, "amount_received": self.received,
            "currency": currency, "livemode": false, "created": self.wish.at_ms / 1_000,
            "capture_method": if *manual { "manual" } else { "automatic" },
            "confirmation_method": if *confirmed_by_us { "manual" } else { "automatic" },
            "cancellation_reason": self.ended_by, "last_payment_error": self.error(),
            "next_action": action, "latest_charge": charge, "metadata": metadata,
        })
    }

    /// Why the last try failed.
    pub fn error(&self) -> Value {
        let State::Failed(code, why) = &self.state else { return Value::Null };
        let kind = if *code == "card_declined" { "card_error" } else { "invalid_request_error" };
        let mut error = json!({ "type": kind, "code": code, "message": "It was declined." });
        if let Some(why) = why {
            error["decline_code"] = why.as_str().into();
        }
        error
    }

    fn told(&self, cause: Operation, kind: &'static str) -> Event {
        Event { cause, kind, object: self.show("https://hooks.invalid", false) }
    }

    /// The payment's own key joins all movements of it.
    fn movement(&self, kind: Kind, amount: i64, op_id: &str) -> Move {
        Move {
            op_id: op_id.into(),
            provider_ref: self.id.clone(),
            reference: self.wish.op_id.clone(),
            kind,
            amount,
            currency: self.wish.currency.to_ascii_uppercase(),
        }
    }
}

impl Refund {
    /// As the provider shows it.
    pub fn show(&self) -> Value {
        let failed = self.status == "failed";
        json!({
            "id": self.id, "object": "refund", "status": self.status, "amount": self.amount,
            "currency": self.currency, "charge": self.charge, "payment_intent": self.intent,
            "failure_reason": failed.then_some("expired_or_canceled_card"),
            "metadata": self.metadata,
        })
    }

    fn told(&self, kind: &'static str) -> Event {
        Event { cause: Operation::Refund, kind, object: self.show() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_capture_is_the_only_one_and_lets_the_rest_go() {
        let (mut all, mut fx, id) = room(true);
        all.decide(&id, None, &mut fx);
        for amount in [0, 101] {
            assert!(all.capture(&id, Some(amount), none(), &mut fx).is_none());
        }
        assert!(all.capture(&id, Some(30), none(), &mut fx).is_some());
        assert!(all.capture(&id, Some(30), none(), &mut fx).is_none());
        assert!(all.cancel(&id, ("k", None), &mut fx).is_none());
        let sums = [(Kind::Authorize, 100), (Kind::Capture, 30), (Kind::Void, 70)];
        assert_eq!(moved(&fx), sums);
        assert_eq!(all.get(&id).unwrap().show("", true)["amount_received"], 30);
    }

    #[test]
    fn a_challenge_moves_money_only_when_it_is_confirmed_again() {
        let (mut all, mut fx, id) = room(false);
        all.wait(&id, State::Action, &mut fx);
        all.act(&id, true, || None, &mut fx).unwrap();
        assert_eq!(all.get(&id).unwrap().state, State::Confirmation);
        assert!(moved(&fx).is_empty());
        all.decide(&id, None, &mut fx);
        assert_eq!(moved(&fx), [(Kind::Charge, 100)]);
        assert!(all.act(&id, true, || None, &mut fx).is_err());
    }

    #[test]
    fn no_more_is_given_back_than_was_taken_and_what_fails_moves_nothing() {
        let (mut all, mut fx, id) = room(false);
        assert!(all.refund(&id, None, none(), false, &mut fx).is_err());
        all.decide(&id, None, &mut fx);
        let fails = all.refund(&id, Some(100), none(), true, &mut fx).unwrap();
        all.fail_refund(&fails.id, &mut fx);
        assert_eq!(all.refund_of(&fails.id).unwrap().show()["status"], "failed");
        assert!(all.refund(&id, Some(60), none(), false, &mut fx).is_ok());
        assert!(all.refund(&id, Some(41), none(), false, &mut fx).is_err());
        assert!(all.refund(&id, None, none(), false, &mut fx).is_ok());
        let again = all.refund(&id, None, none(), false, &mut fx).unwrap_err();
        assert_eq!(again, "charge_already_refunded");
        assert_eq!(moved(&fx), [(Kind::Charge, 100), (Kind::Refund, 60), (Kind::Refund, 40)]);
        assert_eq!(all.refunds_of(&id).len(), 3);
    }

    fn room(manual: bool) -> (Intents, Effects, String) {
        let mut all = Intents::default();
        let id = all.make(Wish {
            amount: 100,
            currency: "eur".into(),
            manual,
            confirmed_by_us: true,
            metadata: BTreeMap::new(),
            op_id: "key".into(),
            at_ms: 0,
        });
        (all, Effects::default(), id)
    }

    fn none() -> (&'static str, BTreeMap<String, String>) {
        ("k", BTreeMap::new())
    }

    fn moved(fx: &Effects) -> Vec<(Kind, i64)> {
        fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
    }
}
