//! What the merchant was told: the one side of the verdict.
//!
//! The first final status of a payment is kept, because a final answer must never change; what
//! comes later only adds attempts and refunds.

use std::collections::BTreeMap;

use serde_json::Value;

/// A status of a payment as the merchant API says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Not decided yet.
    Processing,
    /// The shopper must act.
    RequiresAction,
    /// Held, not taken.
    RequiresCapture,
    /// Taken.
    Succeeded,
    /// Not taken, for good.
    Failed,
    /// Given up by the merchant, not taken.
    Canceled,
}

impl Status {
    /// Reads the word of the API; an unknown one counts as undecided, so that it spoils the
    /// verdict.
    pub fn read(word: &str) -> Self {
        match word {
            "requires_action" => Self::RequiresAction,
            "requires_capture" => Self::RequiresCapture,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            _ => Self::Processing,
        }
    }

    /// Whether it must never change.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// One refund that the merchant asked for.
#[derive(Debug, Clone)]
pub struct Refund {
    /// `None` until an answer names it.
    pub id: Option<String>,
    /// Minor units.
    pub amount: i64,
    /// The word of the API: `processing`, `succeeded`, `failed` or `reversed`.
    pub status: String,
}

/// One payment that the merchant asked for.
#[derive(Debug, Clone)]
pub struct Told {
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// `None` until an answer names it.
    pub id: Option<String>,
    /// An HTTP error ended it: its code.
    pub refused: Option<String>,
    /// The latest status, until one is final.
    pub status: Status,
    /// Account and provider key of every attempt that was ever shown.
    pub attempts: Vec<(String, String)>,
    /// What was given back.
    pub refunds: Vec<Refund>,
    /// The shopper says that it is paid.
    pub shopper_paid: bool,
    /// A GET of its id answered 404.
    pub forgotten: bool,
    /// From the request to its answer.
    pub latency_ms: Option<u64>,
}

/// All payments of a demo.
#[derive(Debug, Default)]
pub struct Book {
    payments: Vec<Told>,
    complaints: BTreeMap<String, u64>,
}

impl Book {
    /// A payment is about to be asked for; answers its number.
    pub fn open(&mut self, amount: i64, currency: &str) -> usize {
        self.payments.push(Told {
            amount,
            currency: currency.into(),
            id: None,
            refused: None,
            status: Status::Processing,
            attempts: Vec::new(),
            refunds: Vec::new(),
            shopper_paid: false,
            forgotten: false,
            latency_ms: None,
        });
        self.payments.len() - 1
    }

    /// The merchant was shown `payment`, an object of the API.
    pub fn told(&mut self, number: usize, payment: &Value) {
        let Some(told) = self.payments.get_mut(number) else { return };
        if let Some(id) = payment["id"].as_str() {
            told.id = Some(id.into());
        }
        if !told.status.is_final() {
            told.status = Status::read(payment["status"].as_str().unwrap_or_default());
        }
        for attempt in payment["attempts"].as_array().into_iter().flatten() {
            let word = |name: &str| attempt[name].as_str().unwrap_or_default().to_owned();
            let attempt = (word("account"), word("op_id"));
            if !told.attempts.contains(&attempt) {
                told.attempts.push(attempt);
            }
        }
    }

    /// Changes what is known of one payment.
    pub fn change(&mut self, number: usize, how: impl FnOnce(&mut Told)) {
        if let Some(told) = self.payments.get_mut(number) {
            how(told);
        }
    }

    /// A refund was asked for; answers its number within the payment.
    pub fn refund(&mut self, number: usize, amount: i64) -> usize {
        let Some(told) = self.payments.get_mut(number) else { return 0 };
        told.refunds.push(Refund { id: None, amount, status: "processing".into() });
        told.refunds.len() - 1
    }

    /// The merchant was shown a refund, an object of the API.
    pub fn refund_told(&mut self, number: usize, which: usize, refund: &Value) {
        let told = self.payments.get_mut(number);
        let Some(held) = told.and_then(|told| told.refunds.get_mut(which)) else { return };
        if let Some(id) = refund["id"].as_str() {
            held.id = Some(id.into());
        }
        if let Some(status) = refund["status"].as_str() {
            held.status = status.into();
        }
    }

    /// Something that should not have been answered; shown with the verdict.
    pub fn complain(&mut self, what: String) {
        if self.complaints.len() < 20 || self.complaints.contains_key(&what) {
            *self.complaints.entry(what).or_default() += 1;
        }
    }

    /// What should not have been answered, and how often.
    pub fn complaints(&self) -> &BTreeMap<String, u64> {
        &self.complaints
    }

    /// Every payment asked for.
    pub fn payments(&self) -> &[Told] {
        &self.payments
    }

    /// The numbers of the payments whose fate may still change by itself.
    pub fn unsettled(&self) -> Vec<usize> {
        let open = |told: &Told| told.id.is_some() && !told.forgotten && told.is_unsettled();
        (0..self.payments.len()).filter(|n| open(&self.payments[*n])).collect()
    }
}

impl Told {
    /// Whether an answer is still owed: money in doubt, a refund under way, or a code that the
    /// shopper has paid.
    pub fn is_unsettled(&self) -> bool {
        let waits = match self.status {
            Status::Processing => self.refused.is_none(),
            Status::RequiresAction => self.shopper_paid,
            _ => false,
        };
        waits || self.refunds.iter().any(|refund| refund.status == "processing")
    }

    /// Tries at another account after the first.
    pub fn failovers(&self) -> u64 {
        (self.attempts.len() as u64).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_final_answer_stays_and_attempts_add_up() {
        let mut book = Book::default();
        let n = book.open(100, "EUR");
        let show = |status: &str, ops: &[&str]| {
            let attempts: Vec<Value> =
                ops.iter().map(|op| json!({ "account": "a", "op_id": op })).collect();
            json!({ "id": "pay_1", "status": status, "attempts": attempts })
        };
        book.told(n, &show("processing", &["x"]));
        assert_eq!(book.unsettled(), [n]);
        book.told(n, &show("failed", &["x", "y"]));
        book.told(n, &show("succeeded", &["x", "y", "z"]));
        let told = &book.payments()[n];
        assert_eq!((told.status, told.failovers()), (Status::Failed, 2));
        assert!(book.unsettled().is_empty());
    }

    #[test]
    fn a_status_that_nobody_knows_is_not_decided() {
        assert_eq!(Status::read("splendid"), Status::Processing);
    }

    #[test]
    fn a_paid_code_and_a_refund_under_way_are_owed_an_answer() {
        let mut book = Book::default();
        let n = book.open(100, "CNY");
        book.told(n, &json!({ "id": "pay_1", "status": "requires_action" }));
        assert!(book.unsettled().is_empty(), "nobody scanned it");
        book.change(n, |told| told.shopper_paid = true);
        assert_eq!(book.unsettled(), [n]);
        book.told(n, &json!({ "status": "succeeded" }));
        let which = book.refund(n, 40);
        assert_eq!(book.unsettled(), [n]);
        book.refund_told(n, which, &json!({ "id": "ref_1", "status": "succeeded" }));
        assert!(book.unsettled().is_empty());
    }
}
