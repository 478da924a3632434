//! Decides which accounts may be tried for a payment, in what order, and why the others may not.
//!
//! A route is a list of candidates from the configuration. This room only orders names; every
//! refusal carries a [`Skip`], the same word in log, metric, timeline and API.

use interlock_plugin_api::{CaptureMode, Class, CredentialForm, Customer, Money, Operation};

use crate::payment::{Attempt, AttemptState, FailReason, Method, Payment};
use crate::policy::{AccountPolicy, Failover, Policy, RouteMatch, RoutePolicy, Strategy};
use crate::refusal::{Skip, Skips};
use crate::world::World;
use std::collections::BTreeMap;

/// What routing must know of a payment that does not exist yet.
pub struct Shape<'a> {
    /// Who asks.
    pub merchant: &'a str,
    /// How much.
    pub money: Money,
    /// When the money is taken.
    pub capture: CaptureMode,
    /// How the shopper pays.
    pub method: &'a Method,
    /// Who pays.
    pub customer: &'a Customer,
    /// The merchant's notes.
    pub metadata: &'a BTreeMap<String, String>,
}

impl<'a> Shape<'a> {
    /// The shape of a stored payment.
    pub fn of(payment: &'a Payment) -> Self {
        Self {
            merchant: &payment.merchant,
            money: payment.money,
            capture: payment.capture,
            method: &payment.method,
            customer: &payment.customer,
            metadata: &payment.metadata,
        }
    }
}

/// The first route that takes the payment.
pub fn route_of<'p>(policy: &'p Policy, shape: &Shape<'_>) -> Option<&'p RoutePolicy> {
    policy.routes.iter().find(|r| takes(r, shape))
}

/// Whether a route takes the payment.
pub(crate) fn takes(route: &RoutePolicy, shape: &Shape<'_>) -> bool {
    matches(&route.matches, shape)
}

/// A route's accounts in the order in which they would be tried, before health is asked.
pub fn order(route: &RoutePolicy, draw: f64) -> Vec<&str> {
    let mut names: Vec<&str> = route.candidates.iter().map(|c| c.account.as_str()).collect();
    if route.strategy == Strategy::Weighted {
        let total: u64 = route.candidates.iter().map(|c| u64::from(c.weight)).sum();
        let mut mark = (draw.clamp(0.0, 1.0) * total as f64) as u64;
        let first = route.candidates.iter().position(|c| {
            let inside = mark < u64::from(c.weight);
            mark = mark.saturating_sub(u64::from(c.weight));
            inside
        });
        if let Some(first) = first {
            let name = names.remove(first);
            names.insert(0, name);
        }
    }
    names
}

/// The first account that may be tried now, and why those before it may not.
pub fn choose(
    route: &RoutePolicy,
    shape: &Shape<'_>,
    tried: &[Attempt],
    refused: &[(String, Skip)],
    world: &World<'_>,
) -> (Option<String>, Skips) {
    choose_for(route, shape, tried, refused, None, world)
}

/// As [`choose`], where a place at one account is reserved already: it was admitted, and its health
/// is not asked again.
pub(crate) fn choose_for(
    route: &RoutePolicy,
    shape: &Shape<'_>,
    tried: &[Attempt],
    refused: &[(String, Skip)],
    reserved: Option<&str>,
    world: &World<'_>,
) -> (Option<String>, Skips) {
    let mut skips = Skips::new();
    let mut last_resort = None;
    for name in order(route, world.draw) {
        if reserved == Some(name) {
            return (Some(name.to_owned()), skips);
        }
        let refused = refused.iter().find(|(account, _)| account == name).map(|(_, skip)| *skip);
        let admitted = refused.map_or_else(|| admits(name, route, shape, tried, world), Err);
        let skip = match admitted.map(|()| demotes(name, shape, world)) {
            Ok(None) => return (Some(name.to_owned()), skips),
            Ok(Some(doubtful)) => {
                last_resort = last_resort.or(Some(name));
                doubtful
            }
            Err(skip) => skip,
        };
        skips.push((name.to_owned(), skip));
    }
    // Nobody is beyond doubt, so the first that is only doubtful is tried after all.
    skips.retain(|(name, _)| Some(name.as_str()) != last_resort);
    (last_resort.map(str::to_owned), skips)
}

/// Why an account should be tried after the others. Weights and shares must not fall together, so
/// this draw is another one.
pub(crate) fn demotes(name: &str, shape: &Shape<'_>, world: &World<'_>) -> Option<Skip> {
    let draw = (world.draw * 1e6).fract();
    world.health.demotes(name, &shape.method.kind, draw, world.now)
}

/// Whether the way the last attempt ended lets another account be tried at all.
pub fn may_fail_over(payment: &Payment, route: &RoutePolicy, now_ms: i64) -> bool {
    let Some(last) = payment.attempts.iter().rfind(|a| a.second_charge_of.is_none()) else {
        return true;
    };
    let tried = || tried_so(&payment.attempts, &payment.method);
    if now_ms > payment.failover_until_ms || tried().count() >= route.attempts_max {
        return false;
    }
    match route.failover {
        Failover::None => false,
        Failover::NotSent => {
            matches!(&last.state, AttemptState::Failed { reason: FailReason::NotSent, .. })
        }
        Failover::Proven => match &last.state {
            AttemptState::Failed { reason: FailReason::Declined, class, .. } => {
                let soft = tried().filter(|a| soft_declined(a)).count();
                match class {
                    Some(Class::DeclinedSoft) => soft <= 1,
                    Some(class) => at_the_gate(*class),
                    None => false,
                }
            }
            AttemptState::Failed { reason, .. } => *reason != FailReason::Operator,
            AttemptState::Reversed => true,
            _ => false,
        },
    }
}

/// Whether another account may carry the payment when the first can't, or why not: what the API
/// calls `failover`.
///
/// # Errors
/// `route`, `credential_bound` or `single_candidate`.
pub fn failover_of(payment: &Payment, policy: &Policy) -> Result<&'static str, &'static str> {
    let Some(route) = policy.routes.iter().find(|r| r.name == payment.route) else {
        return Err("route");
    };
    let shape = Shape::of(payment);
    let able = |c: &&crate::policy::Candidate| {
        policy.accounts.get(&c.account).is_some_and(|a| capable(a, &shape).is_ok())
    };
    let candidates = route.candidates.iter().filter(able).count();
    match route.failover {
        Failover::None => Err("route"),
        _ if candidates < 2 && payment.method.is_bound() => Err("credential_bound"),
        _ if candidates < 2 => Err("single_candidate"),
        Failover::Proven => Ok("proven"),
        Failover::NotSent => Ok("not_sent"),
    }
}

/// The accounts that were tried with this method: another method may go to the same account, and
/// a second charge that was found is no try.
fn tried_so<'a>(attempts: &'a [Attempt], method: &Method) -> impl Iterator<Item = &'a Attempt> {
    attempts.iter().filter(move |a| {
        a.second_charge_of.is_none() && a.method == method.kind && a.flow == method.flow
    })
}

/// Refused before anything was tried, by the provider's own word.
fn at_the_gate(class: Class) -> bool {
    matches!(
        class,
        Class::RateLimited
            | Class::Config
            | Class::AccountRestricted
            | Class::Maintenance
            | Class::ProviderDown
            | Class::MerchantAction
            | Class::NotSupported
    )
}

fn soft_declined(attempt: &Attempt) -> bool {
    matches!(&attempt.state, AttemptState::Failed { class: Some(Class::DeclinedSoft), .. })
}

/// The cryptogram may have reached the network: anything but proven non-submission.
fn cryptogram_spent<'a>(mut tried: impl Iterator<Item = &'a Attempt>) -> bool {
    tried.any(|a| match &a.state {
        AttemptState::Failed { reason: FailReason::NotSent | FailReason::NotOffered, .. } => false,
        AttemptState::Failed { reason: FailReason::Declined, class: Some(class), .. } => {
            !at_the_gate(*class)
        }
        _ => true,
    })
}

pub(crate) fn admits(
    name: &str,
    route: &RoutePolicy,
    shape: &Shape<'_>,
    tried: &[Attempt],
    world: &World<'_>,
) -> Result<(), Skip> {
    let account = world.policy.accounts.get(name).ok_or(Skip::NotLoaded)?;
    capable(account, shape)?;
    let tried = || tried_so(tried, shape.method);
    if tried().any(|a| a.account == name) {
        return Err(Skip::AlreadyTried);
    }
    if shape.method.form != CredentialForm::None && !world.credential {
        return Err(Skip::CredentialGone);
    }
    if shape.method.form == CredentialForm::NetworkToken && cryptogram_spent(tried()) {
        return Err(Skip::CryptogramSpent);
    }
    let fell = |a: &Attempt| {
        let domain = world.policy.accounts.get(&a.account).and_then(|p| p.failure_domain.as_ref());
        domain.is_some() && domain == account.failure_domain.as_ref()
    };
    if tried().any(fell) {
        return Err(Skip::FailureDomain);
    }
    let fails_over = route.failover == Failover::Proven && route.candidates.len() > 1;
    if fails_over && !account.contract.can_resolve(&shape.method.flow) {
        return Err(Skip::NoWayOut);
    }
    let left = tried().last().map(|a| a.account.as_str());
    if left.is_some_and(|left| !world.health.failover_budget(left, world.now)) {
        return Err(Skip::FailoverBudget);
    }
    world.health.admits(name, &shape.method.kind, world.now)
}

/// What an account could take on its best day.
pub fn capable(account: &AccountPolicy, shape: &Shape<'_>) -> Result<(), Skip> {
    if !account.offers(Operation::Authorize) || !account.takes(shape.method, shape.capture) {
        return Err(Skip::Method);
    }
    if !account.currencies.contains_key(&shape.money.currency) {
        return Err(Skip::Currency);
    }
    let country = shape.customer.country.as_ref();
    if !account.countries.is_empty() && country.is_some_and(|c| !account.countries.contains(c)) {
        return Err(Skip::Country);
    }
    if account.provider_amount(shape.money.currency, shape.money.amount).is_none() {
        return Err(Skip::AmountNotRepresentable);
    }
    if shape.method.is_bound() && !shape.method.token_accounts.contains(&account.name) {
        return Err(Skip::NoToken);
    }
    Ok(())
}

fn matches(rule: &RouteMatch, shape: &Shape<'_>) -> bool {
    judged(rule, shape).iter().all(|(_, passes)| passes.unwrap_or(true))
}

/// Each key of a rule as the file names it, and whether the payment passes it where it is written.
pub(crate) fn judged(rule: &RouteMatch, shape: &Shape<'_>) -> [(&'static str, Option<bool>); 7] {
    let within = |list: &[String], value: &str| {
        (!list.is_empty()).then(|| list.iter().any(|known| known == value))
    };
    let amount = shape.money.amount;
    let bounded = rule.amount_min.is_some() || rule.amount_max.is_some();
    let inside = || {
        rule.amount_min.is_none_or(|min| amount >= min)
            && rule.amount_max.is_none_or(|max| amount <= max)
    };
    let noted = || rule.metadata.iter().all(|(k, v)| shape.metadata.get(k) == Some(v));
    let currency = || rule.currency.contains(&shape.money.currency);
    [
        ("method", within(&rule.method, &shape.method.kind)),
        ("flow", within(&rule.flow, &shape.method.flow)),
        ("currency", (!rule.currency.is_empty()).then(currency)),
        ("country", within(&rule.country, shape.customer.country.as_deref().unwrap_or(""))),
        ("merchant", within(&rule.merchant, shape.merchant)),
        ("amount", bounded.then(inside)),
        ("metadata", (!rule.metadata.is_empty()).then(noted)),
    ]
}
