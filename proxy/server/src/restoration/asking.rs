//! A key that the journal does not know: whether a provider knows its numbers.

use std::collections::HashMap;
use std::sync::Arc;

use interlock_engine::restored::{later_numbers, supposed};
use interlock_engine::{AccountPolicy, Line, Payment, Statement, Submission, intake};
use interlock_journal::CaseQuery;
use interlock_plugin_api::{LineKind, Operation, StatementLine, What};
use tokio::task::JoinSet;

use super::gather::in_words;
use super::{Restoration, lock};
use crate::driver::Driver;
use crate::reconcile::{self, Kind};
use crate::setup::{OpenAccount, Setup};

/// Lines under numbers that no row has; more of them are no gap but another journal.
const LOST_MAX: usize = 1_000_000;
/// So long what was shown to a shopper before may be paid, so that its numbers must lead to the
/// payment that asks again, ms.
const OFFERS_LIVE_MS: i64 = 72 * 3_600_000;
/// Cases of one page.
const PAGE: usize = 500;

/// What statements have under numbers that no row has: by account and number, and where a line
/// has none of ours, by account and the provider's.
#[derive(Default)]
pub struct Lost {
    lines: HashMap<(String, String), Vec<StatementLine>>,
}

impl Lost {
    /// The lines under this number of ours, and under the provider's numbers of these.
    fn under(&self, account: &str, number: &str) -> Vec<&StatementLine> {
        let at = |number: &str| self.lines.get(&(account.to_owned(), number.to_owned()));
        let own: Vec<&StatementLine> = at(number).into_iter().flatten().collect();
        let theirs = own.iter().filter_map(|line| line.provider_ref.as_deref());
        let mut theirs: Vec<&str> = theirs.collect();
        theirs.dedup();
        let unnamed = theirs.into_iter().filter_map(at).flatten();
        own.iter().copied().chain(unnamed).collect()
    }
}

impl Restoration {
    /// What the providers say of a payment that the journal does not know; none when it is new
    /// without a doubt.
    ///
    /// # Errors
    /// The account that could not be asked, and why.
    pub async fn stated(&self, submission: &Submission) -> Result<Option<Statement>, String> {
        let unborn = self.driver.look(|world| intake::blank(submission, world));
        let setup = self.driver.setup();
        let mark = lock(&self.mark).clone();
        let mut lines = Vec::new();
        let mut tasks = JoinSet::new();
        for (name, reach) in &mark.accounts {
            let open = setup.get(name).filter(|open| answers_by_number(open));
            if mark.is_covered(name) {
                match self.lost_of(name, &unborn, open.is_some()) {
                    Some(lost) => {
                        lines.extend(lost);
                        continue;
                    }
                    // It was given back without a number, so only its answer says what it is now.
                    None => tracing::debug!(account = name, "asking about a lost payment"),
                }
            }
            match open {
                Some(open) => {
                    let (driver, setup) = (Arc::clone(&self.driver), Arc::clone(&setup));
                    let (open, unborn) = (Arc::clone(open), unborn.clone());
                    tasks.spawn(async move {
                        let asked = ask(&driver, &setup, &open, &unborn).await;
                        asked.map_err(|why| format!("account `{}`: {why}", open.name))
                    });
                }
                None if reach.unasked => {}
                None => {
                    return Err(format!(
                        "account `{name}` has not given its statement of the time since the backup"
                    ));
                }
            }
        }
        while let Some(asked) = tasks.join_next().await {
            lines.extend(asked.map_err(|e| e.to_string())??);
        }
        let now_ms = self.driver.clock.now().wall_ms;
        let offers_live = now_ms < mark.began_ms.saturating_add(OFFERS_LIVE_MS);
        let new = lines.is_empty() && mark.all_covered() && !offers_live;
        Ok((!new).then_some(Statement { since: self.since, lines }))
    }

    /// What statements say; none when that is not all.
    fn lost_of(&self, account: &str, unborn: &Payment, by_number: bool) -> Option<Vec<Line>> {
        let lost = lock(&self.lost);
        let mut told = Vec::new();
        for number in later_numbers(unborn, &*self.driver.numbers) {
            let lines = lost.under(account, &number);
            let given_back =
                |line: &&StatementLine| line.kind != LineKind::Charge && line.operation.is_none();
            if by_number && lines.iter().any(given_back) {
                return None;
            }
            told.extend(lines.iter().flat_map(|line| in_words(account, &number, line, false)));
        }
        Some(told)
    }

    /// Reads again what reconciliation has found under numbers that no row has.
    pub(super) async fn find_lost(&self) -> Result<(), String> {
        let (accounts, began_ms) = {
            let mark = lock(&self.mark);
            (mark.accounts.keys().cloned().collect::<Vec<_>>(), mark.began_ms)
        };
        let (mut lost, mut count) = (Lost::default(), 0);
        for account in accounts {
            let of = Some(account.clone());
            let mut query = CaseQuery { account: of, limit: PAGE, ..CaseQuery::default() };
            loop {
                let page = self.driver.store.cases(query.clone()).await;
                let page = page.map_err(|e| e.to_string())?;
                let theirs = page.rows.iter().filter(|row| {
                    row.kind == Kind::OnlyTheirs.as_str() && row.changed_ms >= began_ms
                });
                for line in theirs.filter_map(|row| reconcile::read_case(&row.body).theirs) {
                    let number = line.number.clone().or_else(|| line.provider_ref.clone());
                    let Some(number) = number else { continue };
                    count += 1;
                    if count > LOST_MAX {
                        return Err(format!("more than {LOST_MAX} lines under unknown numbers"));
                    }
                    lost.lines.entry((account.clone(), number)).or_default().push(line);
                }
                match page.next {
                    Some(next) => query.after = next,
                    None => break,
                }
            }
        }
        *lock(&self.lost) = lost;
        Ok(())
    }
}

/// Whether a provider can be asked by a number of ours alone.
pub fn answers_by_number(account: &OpenAccount) -> bool {
    let manifest = account.manifest();
    manifest.offers(Operation::Inquire) && manifest.contract.inquiry.by_our_reference
}

/// What a provider has under the numbers that lost rows of a payment may have used. Nothing, where
/// it can't be asked by them, or can't have taken it.
///
/// # Errors
/// It did not answer, or not so that it can be read.
pub async fn ask(
    driver: &Arc<Driver>,
    setup: &Arc<Setup>,
    account: &Arc<OpenAccount>,
    payment: &Payment,
) -> Result<Vec<Line>, String> {
    let policy = setup.policy.accounts.get(&account.name);
    let takes = |policy: &&AccountPolicy| policy.currencies.contains_key(&payment.currency());
    let Some(policy) = policy.filter(takes).filter(|_| answers_by_number(account)) else {
        return Ok(Vec::new());
    };
    let mut lines = Vec::new();
    let copies: Vec<Payment> = supposed(payment, &*driver.numbers, &account.name).collect();
    for mut copy in copies {
        let Some(attempt) = copy.attempts.first_mut() else { continue };
        if !policy.takes(&copy.method, copy.capture)
            && let Some(method) = policy.methods.first()
        {
            // The shopper may have switched, and the provider is asked by the number.
            attempt.method.clone_from(&method.kind);
            attempt.flow.clone_from(&method.flow);
        }
        let number = attempt.op_id.clone();
        let facts = driver.ask_about(setup, account, policy, &copy).await;
        if facts.is_empty() || facts.iter().any(|fact| fact.what == What::Unknown) {
            return Err("it did not say what it knows of a number".into());
        }
        let there = facts.into_iter().filter(|fact| {
            use What::{Authorized, Captured, Pending, Refunded, Voided};
            matches!(fact.what, Authorized | Captured | Pending | Refunded | Voided)
        });
        lines.extend(there.map(|fact| Line {
            account: account.name.clone(),
            number: number.clone(),
            operation: None,
            fact,
        }));
    }
    Ok(lines)
}
