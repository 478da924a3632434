//! What an answer says about the money. Whatever is not documented is unknown, never a decline.

use interlock_plugin_api::{Advice, Class, Currency, Fact, Money, Operation, What};
use serde::Deserialize;

/// A payment, as Acme writes it.
#[derive(Deserialize)]
pub(crate) struct Payment {
    id: String,
    state: String,
    amount: i64,
    currency: String,
    reference: String,
    code: Option<String>,
}

/// A capture, cancel or refund.
// for: capture, void, refund, inquire_operation, parse_notification
#[derive(Deserialize)]
pub(crate) struct Change {
    id: String,
    state: String,
    amount: Option<i64>,
    currency: Option<String>,
    reference: String,
    code: Option<String>,
}

/// The answer to a new payment.
pub(crate) fn payment(status: u16, body: &[u8], ours: &str) -> Fact {
    if status != 201 {
        return Fact::unanswered(status);
    }
    match serde_json::from_slice::<Payment>(body) {
        Ok(payment) if payment.reference == ours => payment.fact(),
        Ok(_) => Fact::unknown("other_reference"),
        Err(_) => Fact::unknown("unreadable"),
    }
}

/// The answer to a look-up: a list with at most one payment of ours.
// for: inquire
pub(crate) fn payments(status: u16, body: &[u8], ours: &str) -> Fact {
    #[derive(Deserialize)]
    struct Found {
        payments: Vec<Payment>,
    }
    if status != 200 {
        return Fact::unanswered(status);
    }
    match serde_json::from_slice::<Found>(body).map(|found| found.payments) {
        Ok(list) => match &list[..] {
            [] => Fact::new(What::NotFound),
            [payment] if payment.reference == ours => payment.fact(),
            _ => Fact::unknown("other_reference"),
        },
        Err(_) => Fact::unknown("unreadable"),
    }
}

/// The answer to a capture, cancel or refund.
// for: capture, void, refund
pub(crate) fn operation(status: u16, body: &[u8], ours: &str, op: Operation) -> Fact {
    if status != 201 {
        return Fact::unanswered(status);
    }
    match serde_json::from_slice::<Change>(body) {
        Ok(change) if change.reference == ours => change.fact(op),
        Ok(_) => Fact::unknown("other_reference"),
        Err(_) => Fact::unknown("unreadable"),
    }
}

/// The answer to a look-up of a capture, cancel or refund.
// for: inquire_operation
pub(crate) fn operations(status: u16, body: &[u8], ours: &str, op: Operation) -> Fact {
    #[derive(Deserialize)]
    struct Found {
        operations: Vec<Change>,
    }
    if status != 200 {
        return Fact::unanswered(status);
    }
    match serde_json::from_slice::<Found>(body).map(|found| found.operations) {
        Ok(list) => match &list[..] {
            [] => Fact::new(What::NotFound),
            [change] if change.reference == ours => change.fact(op),
            _ => Fact::unknown("other_reference"),
        },
        Err(_) => Fact::unknown("unreadable"),
    }
}

/// The answer to a question about nothing.
// for: probe
pub(crate) fn health(status: u16, _: &[u8]) -> Fact {
    if status == 200 { Fact::new(What::NotFound) } else { Fact::unanswered(status) }
}

impl Payment {
    /// What it says. The amount is Acme's own: the host compares it with what was asked.
    pub(crate) fn fact(&self) -> Fact {
        let Some(money) = money(Some(self.amount), Some(&self.currency)) else {
            return Fact::unknown("no_amount");
        };
        let fact = match self.state.as_str() {
            "paid" => Fact::new(What::Captured).with_amount(money),
            "authorized" => Fact::new(What::Authorized).with_amount(money),
            "pending" => Fact::new(What::Pending),
            "canceled" => Fact::new(What::Voided),
            "declined" => declined(self.code.as_deref()),
            _ => Fact::unknown("state"),
        };
        fact.with_provider_ref(&self.id)
    }

    /// Our number of it.
    // for: parse_notification
    pub(crate) fn ours(&self) -> &str {
        &self.reference
    }
}

// for: capture, void, refund, inquire_operation, parse_notification
impl Change {
    /// What it says of an operation of this kind.
    pub(crate) fn fact(&self, op: Operation) -> Fact {
        let amount = money(self.amount, self.currency.as_deref());
        let fact = match (self.state.as_str(), op, amount) {
            ("done", Operation::Capture, Some(money)) => {
                Fact::new(What::Captured).with_amount(money)
            }
            ("done", Operation::Refund, Some(money)) => {
                Fact::new(What::Refunded).with_amount(money)
            }
            ("done", Operation::Void, _) => Fact::new(What::Voided),
            ("pending", _, _) => Fact::new(What::Pending),
            ("refused", _, _) => declined(self.code.as_deref()),
            _ => Fact::unknown("state"),
        };
        fact.with_operation_ref(&self.id)
    }

    /// Our number of it.
    // for: parse_notification
    pub(crate) fn ours(&self) -> &str {
        &self.reference
    }
}

/// A refusal, with what it means for routing and what the shopper can do. A code that is not
/// documented stays in doubt: it is not in `proof_codes`, so the host does not believe it.
fn declined(code: Option<&str>) -> Fact {
    let Some(code) = code else { return Fact::unknown("no_code") };
    let (class, advice) = match code {
        "insufficient_funds" => (Class::User, Advice::CheckBalance),
        "card_expired" => (Class::User, Advice::FixData),
        "suspected_fraud" => (Class::DeclinedFraud, Advice::OtherMethod),
        "try_later" => (Class::DeclinedSoft, Advice::Retry),
        _ => (Class::DeclinedHard, Advice::OtherMethod),
    };
    Fact::declined(class, code).with_advice(advice)
}

fn money(amount: Option<i64>, currency: Option<&str>) -> Option<Money> {
    let currency = Currency::parse(currency?)?;
    amount.filter(|amount| *amount > 0).map(|amount| Money::new(amount, currency))
}
