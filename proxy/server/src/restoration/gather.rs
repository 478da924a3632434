//! What a provider's statement says of open payments, in the engine's words.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use interlock_engine::{ExchangeKind, Line, Payment};
use interlock_plugin_api::{Fact, LineKind, LineState, StatementLine, StatementPart, What};

use super::asking::answers_by_number;
use crate::driver::Driver;
use crate::reconcile::Hears;
use crate::setup::OpenAccount;

/// More about open payments is no statement of a day.
const LINES_MAX: usize = 200_000;

/// Keeps the lines of one statement that open payments must hear.
pub struct Gathering<'a> {
    driver: &'a Driver,
    account: &'a Arc<OpenAccount>,
    open: &'a HashSet<&'a str>,
    /// The numbers that lost rows of open payments may have used.
    later: &'a HashMap<String, String>,
    lines: Vec<(String, Line)>,
}

impl<'a> Gathering<'a> {
    /// Nothing was heard yet.
    pub fn new(
        driver: &'a Driver,
        account: &'a Arc<OpenAccount>,
        open: &'a HashSet<&'a str>,
        later: &'a HashMap<String, String>,
    ) -> Self {
        Self { driver, account, open, later, lines: Vec::new() }
    }

    /// The statement was read to its end.
    pub fn give(self, lines: &mut HashMap<String, Vec<Line>>) {
        for (payment, line) in self.lines {
            lines.entry(payment).or_default().push(line);
        }
    }

    async fn line(&mut self, line: &StatementLine) -> Result<(), String> {
        let numbers = [&line.number, &line.provider_ref, &line.operation, &line.operation_ref];
        let named = self.driver.named(&self.account.name, &numbers).await;
        let later = || numbers.iter().find_map(|n| self.later.get(n.as_ref()?)).cloned();
        let Some(id) = named.map_err(|e| e.to_string())?.or_else(later) else { return Ok(()) };
        if !self.open.contains(id.as_str()) {
            return Ok(());
        }
        let number = match &line.number {
            Some(number) => Some(number.clone()),
            None => {
                let payment = self.driver.payment(&id).await.map_err(|e| e.to_string())?;
                payment.and_then(|p| number_of(&p, line))
            }
        };
        let Some(number) = number else { return Ok(()) };
        let by_number = answers_by_number(self.account);
        for line in in_words(&self.account.name, &number, line, by_number) {
            if self.lines.len() >= LINES_MAX {
                return Err(format!("more than {LINES_MAX} lines about open payments"));
            }
            self.lines.push((id.clone(), line));
        }
        Ok(())
    }
}

#[async_trait]
impl Hears for Gathering<'_> {
    fn bytes(&mut self, _count: usize) {}

    async fn part(&mut self, part: StatementPart) -> Result<(), String> {
        for line in &part.lines {
            self.line(line).await?;
        }
        Ok(())
    }
}

/// Our number of the attempt that the provider's own number names.
fn number_of(p: &Payment, line: &StatementLine) -> Option<String> {
    let named = |a: &&interlock_engine::Attempt| {
        a.provider_ref.is_some() && a.provider_ref == line.provider_ref
    };
    p.attempts.iter().find(named).map(|a| a.op_id.clone())
}

/// A line as the engine hears it. A statement says what a charge was when it was taken, an answer
/// what it is now: where the provider answers by our number, its answer is heard instead.
pub fn in_words(account: &str, number: &str, line: &StatementLine, by_number: bool) -> Vec<Line> {
    let told = |what: What, operation: Option<(ExchangeKind, String)>| {
        let mut fact = Fact::new(what).with_amount(line.amount);
        fact.provider_ref.clone_from(&line.provider_ref);
        if operation.is_some() {
            fact.operation_ref.clone_from(&line.operation_ref);
        }
        Line { account: account.to_owned(), number: number.to_owned(), operation, fact }
    };
    let state = |done: What| match line.state {
        LineState::Done => Some(done),
        LineState::Pending => Some(What::Pending),
        LineState::Failed => Some(What::Failed),
        LineState::Unknown => None,
    };
    let operation = |kind: ExchangeKind, done: What| {
        let number = line.operation.clone()?;
        Some(told(state(done)?, Some((kind, number))))
    };
    match line.kind {
        LineKind::Charge => {
            let charge = state(What::Captured).filter(|what| !by_number && *what != What::Failed);
            let charge = charge.map(|what| told(what, None));
            let capture = operation(ExchangeKind::Capture, What::Captured);
            charge.into_iter().chain(capture).collect()
        }
        LineKind::Refund => operation(ExchangeKind::Refund, What::Refunded).into_iter().collect(),
        LineKind::Chargeback | LineKind::Other => Vec::new(),
    }
}
