//! Every check of the kit, in the order of the report. A check takes the plugin's worked examples,
//! changes one thing and looks at what the plugin makes of it.

mod contract;
mod cost;
mod effects;
mod examples;
mod hostile;
mod keys;
mod mapping;
mod money;
mod notifications;
mod purity;
mod secrets;

use interlock_plugin_api::{Fact, Next, What};
use interlock_plugin_host::StepError;

use crate::report::Finding;
use crate::subject::{Subject, Taken};

/// The check that says why a plugin can't be judged at all.
pub const LOADS: &str = "loads";

/// What several checks are about.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// One word.
    pub name: &'static str,
    /// What a good plugin does.
    pub about: &'static str,
}

/// One question to a plugin.
#[derive(Debug)]
pub struct Check {
    /// Its name, the same for ever.
    pub name: &'static str,
    /// What it belongs to.
    pub group: &'static Group,
    /// What is so of a good plugin.
    pub title: &'static str,
    /// What a defect does to money.
    pub why: &'static str,
    /// What to change.
    pub fix: &'static str,
    /// Asks it.
    pub(crate) run: fn(&Subject, long: bool) -> Verdict,
}

/// How a check went, inside its process.
pub(crate) enum Verdict {
    /// Nothing is wrong; perhaps with a figure.
    Passed(Option<String>),
    /// Something is.
    Failed(Vec<Finding>),
    /// There is nothing to judge, and why.
    Skipped(String),
}

impl From<Vec<Finding>> for Verdict {
    fn from(findings: Vec<Finding>) -> Self {
        if findings.is_empty() { Self::Passed(None) } else { Self::Failed(findings) }
    }
}

/// All checks, in the order of the report.
pub static CHECKS: &[&[Check]] = &[
    contract::CHECKS,
    examples::CHECKS,
    money::CHECKS,
    mapping::CHECKS,
    keys::CHECKS,
    effects::CHECKS,
    secrets::CHECKS,
    hostile::CHECKS,
    notifications::CHECKS,
    purity::CHECKS,
    cost::CHECKS,
];

/// All checks, one after another.
pub fn all() -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().flat_map(|group| group.iter())
}

/// A check by its name.
pub fn by_name(name: &str) -> Option<&'static Check> {
    all().find(|check| check.name == name)
}

/// Whether a fact says that money moved to us, or back.
fn moved(fact: &Fact) -> bool {
    matches!(fact.what, What::Authorized | What::Captured | What::Refunded | What::ClosedRefunded)
}

/// Whether a fact says for certain that something did not happen, or that it is over.
fn refused(fact: &Fact) -> bool {
    matches!(
        fact.what,
        What::Declined
            | What::NotFound
            | What::ClosedUnpaid
            | What::ClosedNothingFound
            | What::Voided
            | What::Expired
            | What::Failed
    )
}

/// The facts of an end; none of a step that sends.
fn facts(taken: &Taken) -> &[Fact] {
    match &taken.next {
        Next::Done(done) => &done.facts,
        Next::Send(_) => &[],
    }
}

/// A fact in words.
fn told(fact: &Fact) -> String {
    let what = crate::asking::word(&fact.what);
    let code = fact.provider_code.as_deref().map(|code| format!(", code `{code}`"));
    let amount = fact.amount.map(|amount| format!(", {amount}"));
    format!("{what}{}{}", amount.unwrap_or_default(), code.unwrap_or_default())
}

/// Whether a step that gave no effect did so in a permitted way.
fn is_fault(error: &StepError) -> bool {
    matches!(error, StepError::Fault { .. })
}
