//! Who was charged twice, and whose money was forgotten: the merchant's book against the ledgers.
//!
//! The judge knows neither proxy nor provider. It holds what the merchant was told at last against
//! the money that the providers keep at rest.

use std::fmt;

use interlock_tests::ledger;
use serde_json::Value;

/// What every payment is about, minor units.
pub const AMOUNT: i64 = 4_900;

/// What the merchant was told at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is paid.
    Paid,
    /// It failed: an error, or a payment that is failed or canceled.
    Failed,
    /// No answer, or none that is final.
    Nothing,
}

/// One payment in the merchant's book.
#[derive(Debug)]
pub struct Sale {
    /// Our name of it.
    pub reference: String,
    /// The proxy's name of it, when it gave one.
    pub id: Option<String>,
    /// The last word.
    pub said: Said,
    /// Whether the last word came later than the first answer.
    pub later: bool,
    /// Under which account and number the ledgers know it.
    pub entries: Vec<(String, String)>,
}

/// What the judge found in one cell of the matrix.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Payments that were asked for.
    pub payments: usize,
    /// Payments for which the last word was not "paid".
    pub failures: usize,
    /// Payments for which the providers keep more than their amount.
    pub charged_twice: usize,
    /// Payments whose money is kept though the merchant never heard that they are paid, and money
    /// that belongs to no payment at all.
    pub forgotten: usize,
    /// Payments that were told as paid and for which less than the amount is kept.
    pub unpaid: usize,
    /// Payments whose last word came later than the first answer.
    pub later: usize,
}

impl Verdict {
    /// Holds a book against the ledgers.
    pub fn of(book: &[Sale], entries: &[Value]) -> Self {
        let mut net = ledger::net(entries);
        let mut verdict = Self { payments: book.len(), ..Self::default() };
        for sale in book {
            let mut keys = sale.entries.clone();
            keys.sort();
            keys.dedup();
            let kept: i64 = keys.iter().filter_map(|key| net.remove(key)).sum();
            let paid = sale.said == Said::Paid;
            verdict.failures += usize::from(!paid);
            verdict.charged_twice += usize::from(kept > AMOUNT);
            verdict.forgotten += usize::from(kept > 0 && !paid);
            verdict.unpaid += usize::from(kept < AMOUNT && paid);
            verdict.later += usize::from(sale.later);
        }
        verdict.forgotten += net.values().filter(|kept| **kept > 0).count();
        verdict
    }

    /// How often the promise was broken.
    pub fn violations(&self) -> usize {
        self.charged_twice + self.forgotten + self.unpaid
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} payments, {} failures seen, {} charged twice, {} forgotten, {} told paid but not",
            self.payments, self.failures, self.charged_twice, self.forgotten, self.unpaid
        )
    }
}
