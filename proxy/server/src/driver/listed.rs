//! Lists of payments, as those who ask for them may see them: one damaged row hides no other.

use interlock_engine::Payment;
use interlock_journal::Page;

use super::{Driver, decode};

impl Driver {
    /// The payments of a page with their due times, and the ids of those that can't be read: they
    /// are told in log, metric and answer, and hide no other.
    pub fn readable(&self, page: &Page) -> (Vec<(Payment, Option<i64>)>, Vec<String>) {
        let mut unreadable = page.damaged.clone();
        let mut payments = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            match decode(&row.id, &row.body) {
                Ok(payment) => payments.push((payment, row.due_at_ms)),
                Err(_) => unreadable.push(row.id.clone()),
            }
        }
        for payment in &unreadable {
            tracing::error!(payment, "payment can't be read: its row is not what was written");
            self.metrics.unreadable();
        }
        (payments, unreadable)
    }
}
