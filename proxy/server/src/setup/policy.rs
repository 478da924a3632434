//! A configuration in the form that decisions read: the engine's policy and its gates.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use interlock_engine::gates::{FailoverBudget, GateSettings, Gates, Rate};
use interlock_engine::{
    AccountPolicy, Candidate, CurrencyRule, Failover, Ladder, MerchantPolicy, Policy, RouteMatch,
    RoutePolicy, Strategy,
};
use interlock_plugin_api::{Currency, Manifest, MethodSupport, Operation};

use super::{OpenAccount, Setup};
use crate::config::{self, Account, Config, LateSuccess, strengthened, taken, taken_opened};
use crate::{native, wallets};

pub(super) fn policy(config: &Config, open: &BTreeMap<String, Arc<OpenAccount>>) -> Policy {
    let wallets = wallets::opened_here(open.values().map(|open| open.manifest()));
    let accounts = config.accounts.values().filter_map(|account| {
        let open = open.get(&account.name)?;
        Some(account_policy(account, open.manifest(), &wallets, open.identity.clone()))
    });
    policy_over(config, accounts)
}

/// The policy of a configuration whose plugins are known by their manifests alone: enough to say
/// where a payment would go, and not enough to send one.
pub fn policy_of_manifests(config: &Config, manifests: &BTreeMap<String, Manifest>) -> Policy {
    let used = config.accounts.values().filter_map(|account| manifests.get(&account.plugin));
    let wallets = wallets::opened_here(used);
    let accounts = config.accounts.values().filter_map(|account| {
        let manifest = manifests.get(&account.plugin)?;
        Some(account_policy(account, manifest, &wallets, String::new()))
    });
    policy_over(config, accounts)
}

fn policy_over(config: &Config, accounts: impl Iterator<Item = AccountPolicy>) -> Policy {
    let accounts = accounts.map(|policy| (policy.name.clone(), policy)).collect();
    let merchants = config.merchants.values().map(|m| {
        let accept_late_ms = match m.late_success {
            LateSuccess::Refund => None,
            LateSuccess::Accept { within_ms } => Some(within_ms),
        };
        let policy = MerchantPolicy { accept_late_ms, instant_switch: m.instant_switch };
        (m.name.clone(), policy)
    });
    let mut ladder = Ladder { give_up_ms: config.inquiry.give_up_ms, ..Ladder::default() };
    if !config.inquiry.recheck_ms.is_empty() {
        ladder.steps_ms.clone_from(&config.inquiry.recheck_ms);
    }
    Policy {
        accounts,
        routes: config.routes.iter().map(route_policy).collect(),
        merchants: merchants.collect(),
        ladder,
    }
}

fn account_policy(
    account: &Account,
    manifest: &Manifest,
    wallets: &BTreeSet<String>,
    identity: String,
) -> AccountPolicy {
    let contract = strengthened(account, manifest).unwrap_or_else(|_| manifest.contract.clone());
    let mut continues = manifest.continues.clone();
    continues.push(manifest.state_version);
    let currencies = manifest.currencies.iter().filter_map(|(currency, exponent)| {
        let rule = CurrencyRule {
            iso_exponent: iso_exponent(*currency)?,
            provider_exponent: *exponent,
            multiple_of: manifest.multiples.get(currency).copied().unwrap_or(1),
        };
        Some((*currency, rule))
    });
    AccountPolicy {
        name: account.name.clone(),
        plugin: manifest.id.clone(),
        plugin_version: manifest.version.clone(),
        state_version: manifest.state_version,
        continues,
        identity,
        methods: payable(account, manifest, wallets).collect(),
        operations: manifest.operations.clone(),
        currencies: currencies.collect(),
        countries: manifest.countries.clone(),
        contract,
        timeout_ms: account.timeout_ms,
        failure_domain: account.failure_domain.clone(),
    }
}

/// All the ways in which an account is paid.
fn payable<'a>(
    account: &'a Account,
    manifest: &'a Manifest,
    wallets: &'a BTreeSet<String>,
) -> impl Iterator<Item = MethodSupport> {
    let own = taken(account, manifest).cloned();
    own.chain(taken_opened(account, manifest, wallets))
}

fn route_policy(route: &config::Route) -> RoutePolicy {
    let m = &route.matches;
    RoutePolicy {
        name: route.name.clone(),
        matches: RouteMatch {
            method: m.method.clone(),
            flow: m.flow.clone(),
            currency: m.currency.clone(),
            country: m.country.clone(),
            merchant: m.merchant.clone(),
            amount_min: m.amount_min,
            amount_max: m.amount_max,
            metadata: m.metadata.clone(),
        },
        candidates: route
            .candidates
            .iter()
            .map(|c| Candidate { account: c.to.clone(), weight: c.weight.unwrap_or(1) })
            .collect(),
        strategy: match route.strategy {
            config::Strategy::Priority => Strategy::Priority,
            config::Strategy::Weighted => Strategy::Weighted,
        },
        failover: match route.failover {
            config::Failover::Proven => Failover::Proven,
            config::Failover::NotSent => Failover::NotSent,
            config::Failover::None => Failover::None,
        },
        deadline_ms: route.deadline_ms,
        attempts_max: route.attempts_max as usize,
    }
}

/// The gates of a configuration; what `before` knows and is set as it was stays as it is. As a
/// canary an account that is not the same is judged by breakers of its own.
pub(super) fn gates(
    config: &Config,
    open: &BTreeMap<String, Arc<OpenAccount>>,
    before: Option<&Setup>,
    as_canary: bool,
) -> Result<Gates, String> {
    let wallets = wallets::opened_here(open.values().map(|open| open.manifest()));
    let accounts = config.accounts.values().filter_map(|a| Some((a, open.get(&a.name)?)));
    let settings = accounts.map(|(account, open)| {
        let mut methods: Vec<String> =
            payable(account, open.manifest(), &wallets).map(|m| m.kind).collect();
        methods.push(native::METHOD.to_owned());
        methods.sort();
        methods.dedup();
        let settings = GateSettings {
            breaker: account.breaker,
            limit: account.limit.and_then(rate),
            in_flight: account.in_flight,
            methods,
            refunds_per_hour: account.auto_refund.per_hour_count,
            refunded_per_hour: account.auto_refund.per_hour_amount,
            failure_domain: account.failure_domain.clone(),
            hang_after_ms: account.hang_after_ms,
            slow_start_ms: account.slow_start_ms,
            adaptive_limit: account.adaptive_limit,
            conversion: account.conversion,
            probes: open.manifest().operations.contains(&Operation::Probe),
        };
        (account.name.clone(), settings)
    });
    let merchants = config.merchants.values().map(|m| (m.name.clone(), m.limit.and_then(rate)));
    let budget = config.failover_budget;
    let failovers = FailoverBudget {
        ratio: budget.ratio,
        per_second: budget.per_second,
        ttl_ms: budget.ttl_ms,
    };
    let (settings, merchants) = (settings.collect(), merchants.collect());
    let gates = match before {
        Some(before) => {
            let other = |name: &str| match (before.get(name), open.get(name)) {
                (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
                _ => false,
            };
            let judged_anew = |name: &str| as_canary && other(name);
            before.gates.after(&judged_anew, settings, merchants, failovers)
        }
        None => Gates::new(settings, merchants, failovers),
    };
    gates.map_err(|(account, e)| format!("breaker of account `{account}` can't be used: {e}"))
}

fn rate(rate: config::Rate) -> Option<Rate> {
    Some(Rate {
        count: NonZeroU32::new(rate.count)?,
        per_ms: rate.period_ms,
        burst: NonZeroU32::new(rate.burst)?,
    })
}

/// The exponent of ISO 4217; `None` for what has no minor unit of its own (gold, tests).
pub fn iso_exponent(currency: Currency) -> Option<u8> {
    let known = iso_currency::Currency::from_code(currency.as_str())?;
    u8::try_from(known.exponent()?).ok()
}
