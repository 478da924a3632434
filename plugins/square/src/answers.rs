//! What an answer says about the money. Whatever is not documented is unknown, never a decline.

use interlock_plugin_api::{Advice, Class, Currency, Fact, Money, Operation, What};
use serde::Deserialize;
use serde_json::{Map, Value};

/// An answer: at least one of these.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    payment: Option<Payment>,
    refund: Option<Refund>,
    errors: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    category: String,
    code: String,
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
    currency: String,
}

/// A payment, as Square writes it.
#[derive(Deserialize)]
pub(crate) struct Payment {
    id: String,
    status: String,
    amount_money: Amount,
    reference_id: Option<String>,
}

/// A refund.
#[derive(Deserialize)]
pub(crate) struct Refund {
    id: String,
    status: String,
    amount_money: Amount,
    payment_id: String,
}

/// The answer to a new payment, or to a look-up of one.
pub(crate) fn paid(status: u16, body: &[u8], ours: &str) -> Fact {
    let Some(answer) = answer(status, body) else { return Fact::unanswered(status) };
    match &answer.payment {
        Some(payment) if payment.reference_id.as_deref() == Some(ours) => payment.fact(&answer),
        Some(_) => Fact::unknown("other_reference"),
        None => answer.refused(status),
    }
}

/// The answer to a capture or void, or to a look-up of one: the payment as it now is.
pub(crate) fn changed(status: u16, body: &[u8], op: Operation, ours: &str) -> Fact {
    let fact = paid(status, body, ours);
    match (op, fact.what) {
        (Operation::Capture, What::Captured) | (Operation::Void, What::Voided) => fact,
        // It stands as it was.
        (_, What::Authorized) => Fact { what: What::Pending, ..fact },
        (_, What::Declined | What::Unknown) => Fact { what: What::Unknown, ..fact },
        _ => Fact::unknown("other_state"),
    }
}

/// The answer to a refund, or to a look-up of one.
pub(crate) fn refund(status: u16, body: &[u8], payment: Option<&str>) -> Fact {
    let Some(answer) = answer(status, body) else { return Fact::unanswered(status) };
    match &answer.refund {
        Some(refund) if payment.is_none_or(|id| id == refund.payment_id) => refund.fact(),
        Some(_) => Fact::unknown("other_payment"),
        None => Fact { what: What::Unknown, ..answer.refused(status) },
    }
}

/// The answer to a cancel by key. It succeeds, too, where there is no such payment yet, and nothing
/// is said of one that arrives later: so it never says more than that.
pub(crate) fn closed(status: u16, body: &[u8]) -> Fact {
    let empty = serde_json::from_slice(body).is_ok_and(|fields: Map<String, Value>| {
        fields.values().all(|value| value.as_array().is_some_and(Vec::is_empty))
    });
    match answer(status, body) {
        Some(_) if status == 200 && empty => Fact::new(What::ClosedNothingFound),
        Some(answer) => Fact { what: What::Unknown, ..answer.refused(status) },
        None => Fact::unanswered(status),
    }
}

/// The answer to a question about nothing.
pub(crate) fn alive(status: u16, _: &[u8]) -> Fact {
    if status == 200 { Fact::new(What::NotFound) } else { Fact::unanswered(status) }
}

/// A body is read where Square itself wrote it: an object, and no failure of a server.
fn answer(status: u16, body: &[u8]) -> Option<Answer> {
    let object = body.trim_ascii_start().first() == Some(&b'{');
    let readable = object && (200..500).contains(&status);
    readable.then(|| serde_json::from_slice(body).ok()).flatten()
}

impl Answer {
    /// What the one error says. Several could each be about something else.
    fn refused(&self, status: u16) -> Fact {
        let [error] = &self.errors[..] else { return Fact::unanswered(status) };
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if error.code.len() > 64 || !error.code.bytes().all(plain) {
            return Fact::unanswered(status);
        }
        let (class, advice) = match error.code.as_str() {
            "INSUFFICIENT_FUNDS" | "TRANSACTION_LIMIT" => (Class::User, Advice::CheckBalance),
            "CARD_EXPIRED"
            | "CVV_FAILURE"
            | "EXPIRATION_FAILURE"
            | "ADDRESS_VERIFICATION_FAILURE" => (Class::User, Advice::FixData),
            "GENERIC_DECLINE" | "CARD_DECLINED" => (Class::DeclinedHard, Advice::ContactBank),
            // A token that was used may have been used by a copy of this very request.
            _ => {
                return Fact {
                    provider_code: Some(error.code.clone()),
                    ..Fact::unanswered(status)
                };
            }
        };
        if error.category != "PAYMENT_METHOD_ERROR" || !(400..500).contains(&status) {
            return Fact::unanswered(status);
        }
        Fact::declined(class, error.code.as_str()).with_advice(advice)
    }
}

impl Payment {
    fn fact(&self, answer: &Answer) -> Fact {
        let fact = match self.status.as_str() {
            "COMPLETED" => self.amount_money.of(What::Captured),
            "APPROVED" => self.amount_money.of(What::Authorized),
            "PENDING" => Fact::new(What::Pending),
            "CANCELED" => Fact::new(What::Voided),
            // The reason stands beside it in the answer to the request, and not in a look-up.
            "FAILED" if answer.errors.is_empty() => Fact::declined(Class::DeclinedHard, "FAILED"),
            "FAILED" => answer.refused(402),
            _ => Fact::unknown("status"),
        };
        fact.with_provider_ref(&self.id)
    }

    /// What it says in a notification, about our number of it.
    pub(crate) fn notice(&self) -> Option<Fact> {
        let ours = self.reference_id.as_deref()?;
        Some(self.fact(&Answer::default()).about(ours))
    }
}

impl Refund {
    /// What it says.
    pub(crate) fn fact(&self) -> Fact {
        let fact = match self.status.as_str() {
            "COMPLETED" => self.amount_money.of(What::Refunded),
            "PENDING" => Fact::new(What::Pending),
            "REJECTED" | "FAILED" => {
                let code = Some(self.status.clone());
                Fact {
                    class: Some(Class::DeclinedHard),
                    provider_code: code,
                    ..Fact::new(What::Failed)
                }
            }
            _ => Fact::unknown("status"),
        };
        fact.with_operation_ref(&self.id).with_provider_ref(&self.payment_id)
    }
}

impl Amount {
    fn of(&self, what: What) -> Fact {
        match Currency::parse(&self.currency).filter(|_| self.amount > 0) {
            Some(currency) => Fact::new(what).with_amount(Money::new(self.amount, currency)),
            None => Fact::unknown("no_amount"),
        }
    }
}
