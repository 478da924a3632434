//! What the operator configured, compiled into the form that decisions read.

use std::collections::BTreeMap;

use interlock_plugin_api::{
    CaptureMode, Contract, Currency, MethodSupport, Operation, convert_units,
};

use crate::payment::Method;

/// The whole configuration that decisions need.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// By name.
    pub accounts: BTreeMap<String, AccountPolicy>,
    /// In the order of the file: the first that matches wins.
    pub routes: Vec<RoutePolicy>,
    /// By name.
    pub merchants: BTreeMap<String, MerchantPolicy>,
    /// When doubts are looked at again.
    pub ladder: Ladder,
}

/// No account may be given a longer timeout, ms.
pub const TIMEOUT_MAX_MS: u64 = 2 * 60_000;

/// A configured provider.
#[derive(Clone, Debug)]
pub struct AccountPolicy {
    /// Its name in the configuration.
    pub name: String,
    /// The plugin's id.
    pub plugin: String,
    /// The plugin's version.
    pub plugin_version: String,
    /// The version of the continuations that the plugin writes.
    pub state_version: u32,
    /// Versions of continuations that the plugin can finish, its own among them.
    pub continues: Vec<u32>,
    /// Names credentials and endpoints: a re-send needs the same.
    pub identity: String,
    /// What can be paid with.
    pub methods: Vec<MethodSupport>,
    /// What the plugin implements.
    pub operations: Vec<Operation>,
    /// By currency: how its amounts are written.
    pub currencies: BTreeMap<Currency, CurrencyRule>,
    /// Customers' countries; empty is everywhere.
    pub countries: Vec<String>,
    /// What may be believed when an answer is lost, with the operator's stronger declarations.
    pub contract: Contract,
    /// How long one exchange may take, ms: nothing of it leaves later than this after it began.
    pub timeout_ms: u64,
    /// Accounts of one domain fail together.
    pub failure_domain: Option<String>,
}

impl AccountPolicy {
    /// Whether the plugin implements an operation.
    pub fn offers(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }

    /// The entry that takes this method.
    pub fn takes(&self, method: &Method, capture: CaptureMode) -> bool {
        self.methods.iter().any(|m| {
            m.kind == method.kind
                && m.flow == method.flow
                && m.credential == method.form
                && m.capture.contains(&capture)
        })
    }

    /// The provider's amount for ISO minor units, when it has an exact one.
    pub fn provider_amount(&self, currency: Currency, minor: i64) -> Option<i64> {
        let rule = self.currencies.get(&currency)?;
        let units = convert_units(minor, rule.iso_exponent, rule.provider_exponent).ok()?;
        (units % rule.multiple_of == 0).then_some(units)
    }

    /// ISO minor units of the provider's amount, when there are exact ones.
    pub fn iso_amount(&self, currency: Currency, units: i64) -> Option<i64> {
        let rule = self.currencies.get(&currency)?;
        convert_units(units, rule.provider_exponent, rule.iso_exponent).ok()
    }
}

/// How a provider writes one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrencyRule {
    /// ISO 4217's exponent.
    pub iso_exponent: u8,
    /// The provider's.
    pub provider_exponent: u8,
    /// Amounts must be a multiple of this, in the provider's units.
    pub multiple_of: i64,
}

/// Who may be tried for which payments.
#[derive(Clone, Debug)]
pub struct RoutePolicy {
    /// Its name in the configuration.
    pub name: String,
    /// Which payments it takes.
    pub matches: RouteMatch,
    /// Accounts, best first, with their weights.
    pub candidates: Vec<Candidate>,
    /// How the first is chosen.
    pub strategy: Strategy,
    /// When the next is tried.
    pub failover: Failover,
    /// How long after the payment began another account may be tried, ms.
    pub deadline_ms: u64,
    /// How many accounts are tried at most.
    pub attempts_max: usize,
}

/// Which payments a route takes; an empty list takes all.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// Method types.
    pub method: Vec<String>,
    /// Flows.
    pub flow: Vec<String>,
    /// Currencies.
    pub currency: Vec<Currency>,
    /// Customers' countries.
    pub country: Vec<String>,
    /// Merchants.
    pub merchant: Vec<String>,
    /// Minor units, inclusive.
    pub amount_min: Option<i64>,
    /// Minor units, inclusive.
    pub amount_max: Option<i64>,
    /// Metadata that must be present.
    pub metadata: BTreeMap<String, String>,
}

/// An account of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The account's name.
    pub account: String,
    /// Of [`Strategy::Weighted`].
    pub weight: u32,
}

/// How the first account is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// In the order of the file.
    Priority,
    /// By weight, then in the order of the file.
    Weighted,
}

/// When the next account is tried. There is no "always".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// When the money is proven not to have moved.
    Proven,
    /// Only when no byte left.
    NotSent,
    /// Never.
    None,
}

/// A merchant's own rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MerchantPolicy {
    /// A success after `failed` is kept when it comes within this, ms, and refunded otherwise.
    pub accept_late_ms: Option<u64>,
    /// A switch shows the new method at once and gives back what the loser takes.
    pub instant_switch: bool,
}

/// When something doubtful is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The waits in order, ms; the last one repeats.
    pub steps_ms: Vec<u64>,
    /// After this an operator must look, ms.
    pub give_up_ms: u64,
    /// An interactive payment that stays pending is closed after this, ms, where it can be.
    pub patience_ms: u64,
    /// An offer that was shown is looked at after these, ms.
    pub offer_steps_ms: Vec<u64>,
}

impl Default for Ladder {
    /// 1 s doubling to 64 s for 10 min, 5 min to 1 h, then hourly to 72 h.
    fn default() -> Self {
        let second = 1_000;
        let minute = 60 * second;
        let mut steps_ms: Vec<u64> = (0..7).map(|n| second << n).collect();
        steps_ms.extend([64 * second; 7]);
        steps_ms.extend([5 * minute; 10]);
        steps_ms.push(60 * minute);
        Self {
            steps_ms,
            give_up_ms: 72 * 60 * minute,
            patience_ms: minute,
            offer_steps_ms: vec![5 * second, 30 * second, 5 * minute, 30 * minute, 60 * minute],
        }
    }
}

impl Ladder {
    /// The wait before the next look, ms, drawn between 80 % and 120 % so that a crowd spreads.
    pub fn wait_ms(&self, tries: u32, draw: f64) -> u64 {
        let step = nth(&self.steps_ms, tries);
        (step as f64 * (0.8 + 0.4 * draw.clamp(0.0, 1.0))) as u64
    }

    /// The wait before the next look at an offer, ms.
    pub fn offer_wait_ms(&self, tries: u32) -> u64 {
        nth(&self.offer_steps_ms, tries)
    }
}

fn nth(steps: &[u64], n: u32) -> u64 {
    steps.get(n as usize).or(steps.last()).copied().unwrap_or(1_000)
}
