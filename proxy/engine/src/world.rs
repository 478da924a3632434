//! What a decision may know besides the payment: the time, the policy, and how accounts are doing.
//!
//! Everything is given, so the same inputs make the same decision on any node and in any replay.

use crate::input::Statement;
use crate::policy::Policy;
use crate::refusal::Skip;
use crate::stamp::Stamp;

/// The world at the moment of a decision.
pub struct World<'a> {
    /// Now.
    pub now: Stamp,
    /// The configuration.
    pub policy: &'a Policy,
    /// How accounts are doing.
    pub health: &'a dyn Health,
    /// Makes the numbers that payments and operations carry.
    pub mint: &'a dyn Mint,
    /// A random number from 0 to 1.
    pub draw: f64,
    /// This process has a send of this payment in its hands.
    pub sending: bool,
    /// This process holds the shopper's credential.
    pub credential: bool,
    /// This process holds what the shopper brought back from what was shown to him.
    pub details: bool,
    /// The payment that holds the merchant's order, if there is one.
    pub order: Option<OrderHolder>,
    /// In a journal that was restored from a backup: what the providers say of this payment.
    pub stated: Option<&'a Statement>,
}

/// The payment under which an order is live or paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderHolder {
    /// Its id.
    pub payment: String,
    /// It succeeded, so `another` may pass.
    pub succeeded: bool,
}

/// How accounts are doing, as a look that takes nothing.
pub trait Health: Sync {
    /// Whether an account would take a new payment now.
    ///
    /// # Errors
    /// The named reason why not.
    fn admits(&self, account: &str, method: &str, now: Stamp) -> Result<(), Skip>;

    /// The share of an account's recent calls that failed, per mille: which of several methods
    /// is the healthiest.
    fn failing_permille(&self, _account: &str, _method: &str, _now: Stamp) -> u32 {
        0
    }

    /// Why an account that would take it should be tried after the others; `draw` from 0 to 1
    /// decides which share of the payments is spared.
    fn demotes(&self, account: &str, method: &str, draw: f64, now: Stamp) -> Option<Skip> {
        let _ = (account, method, draw, now);
        None
    }

    /// Whether the failover budgets admit one more second try, over all and after `left` was tried.
    fn failover_budget(&self, left: &str, now: Stamp) -> bool;

    /// Whether the caps on automatic refunds admit this one.
    fn refund_cap(&self, account: &str, amount: i64, now: Stamp) -> bool;
}

/// Makes numbers by a keyed hash, so that a row lost with a disk repeats the same provider key.
pub trait Mint: Sync {
    /// 26 characters of `[0-9A-Z]` from a tuple of parts.
    fn mint(&self, parts: &[&str]) -> String;
}
