//! What routing would do with a payment, and why: a look that takes, writes and sends nothing.
//!
//! It asks the same questions as [`crate::route`] and keeps the answers that routing throws away:
//! the keys that refused, and the reason of every account, not only of those before the chosen
//! one. Accounts are tried in turn as if nothing was sent each time, the mildest end there is.

use crate::exchange::Track;
use crate::payment::{Attempt, AttemptState, FailReason};
use crate::policy::{Failover, Policy, RoutePolicy, Strategy};
use crate::refusal::Skip;
use crate::route::{self, Shape};
use crate::world::World;

/// What routing makes of a payment.
#[derive(Clone, Debug)]
pub struct Explanation<'p> {
    /// The routes before the one that takes it, or all of them, with the keys that refused it.
    pub refused: Vec<(&'p RoutePolicy, Vec<&'static str>)>,
    /// The route that takes it.
    pub matched: Option<Matched<'p>>,
}

/// The route that takes a payment.
#[derive(Clone, Debug)]
pub struct Matched<'p> {
    /// It.
    pub route: &'p RoutePolicy,
    /// The keys that it was matched by, as the file names them; none takes every payment.
    pub by: Vec<&'static str>,
    /// Its accounts in the order in which they are asked.
    pub candidates: Vec<Candidate<'p>>,
}

/// One account of the route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<'p> {
    /// Its name.
    pub account: &'p str,
    /// How often it comes first, 0 to 1; `None` in a strict order.
    pub share: Option<f64>,
    /// What becomes of it.
    pub standing: Standing,
    /// Why it is tried after those that are beyond doubt.
    pub demoted: Option<Skip>,
}

/// What becomes of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is tried, from 1; after 1 only when it is proven that no money moved before.
    Rank(usize),
    /// It is skipped, also if it were the first.
    Skipped(Skip),
    /// It is skipped once those before it were tried.
    SkippedAfter(Skip),
    /// It is tried only in the place of those before it: the route does not fail over.
    Spare,
    /// So many accounts are tried before it that the route stops.
    Beyond,
}

impl Standing {
    /// The word in API and command line; `None` for what is tried.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Rank(_) => None,
            Self::Skipped(skip) | Self::SkippedAfter(skip) => Some(skip.as_str()),
            Self::Spare => Some("failover_none"),
            Self::Beyond => Some("attempts_max"),
        }
    }
}

/// Walks a payment through routing.
pub fn explain<'p>(shape: &Shape<'_>, world: &World<'p>) -> Explanation<'p> {
    let policy: &'p Policy = world.policy;
    let route = route::route_of(policy, shape);
    let is_it = |r: &RoutePolicy| route.is_some_and(|route| std::ptr::eq(route, r));
    let before = policy.routes.iter().take_while(|r| !is_it(r));
    let refused = before.map(|r| (r, keys(r, shape, false))).collect();
    let matched = route.map(|route| Matched {
        route,
        by: keys(route, shape, true),
        candidates: candidates(route, shape, world),
    });
    Explanation { refused, matched }
}

/// The written keys of a route that the payment passes, or fails.
fn keys(route: &RoutePolicy, shape: &Shape<'_>, passes: bool) -> Vec<&'static str> {
    let judged = route::judged(&route.matches, shape);
    judged.iter().filter(|(_, told)| *told == Some(passes)).map(|(key, _)| *key).collect()
}

/// Those that are tried, in turn; then the others, in the route's order.
fn candidates<'p>(
    route: &'p RoutePolicy,
    shape: &Shape<'_>,
    world: &World<'p>,
) -> Vec<Candidate<'p>> {
    let order = route::order(route, world.draw);
    let mut tried: Vec<Attempt> = Vec::new();
    while tried.len() < route.attempts_max && (tried.is_empty() || fails_over(route)) {
        match route::choose(route, shape, &tried, &[], world).0 {
            Some(name) => tried.push(unsent(&name, shape, world)),
            None => break,
        }
    }
    let rank = |name: &str| tried.iter().position(|a| a.account == name);
    let mut told: Vec<Candidate<'p>> = order
        .into_iter()
        .map(|account| Candidate {
            account,
            share: share(route, account),
            standing: match rank(account) {
                Some(place) => Standing::Rank(place + 1),
                None => untried(account, route, shape, &tried, world),
            },
            demoted: route::demotes(account, shape, world),
        })
        .collect();
    told.sort_by_key(|c| rank(c.account).unwrap_or(usize::MAX));
    told
}

fn fails_over(route: &RoutePolicy) -> bool {
    route.failover != Failover::None
}

/// Why an account is not tried.
fn untried(
    account: &str,
    route: &RoutePolicy,
    shape: &Shape<'_>,
    tried: &[Attempt],
    world: &World<'_>,
) -> Standing {
    if let Err(skip) = route::admits(account, route, shape, &[], world) {
        return Standing::Skipped(skip);
    }
    if !fails_over(route) {
        return Standing::Spare;
    }
    match route::admits(account, route, shape, tried, world) {
        Err(skip) => Standing::SkippedAfter(skip),
        Ok(()) => Standing::Beyond,
    }
}

fn share(route: &RoutePolicy, account: &str) -> Option<f64> {
    if route.strategy != Strategy::Weighted {
        return None;
    }
    let total: u64 = route.candidates.iter().map(|c| u64::from(c.weight)).sum();
    let own = route.candidates.iter().find(|c| c.account == account).map(|c| c.weight)?;
    (total > 0).then(|| f64::from(own) / total as f64)
}

/// A try of which nothing left this machine.
fn unsent(account: &str, shape: &Shape<'_>, world: &World<'_>) -> Attempt {
    let state = AttemptState::Failed {
        reason: FailReason::NotSent,
        class: None,
        provider_code: None,
        advice: None,
    };
    Attempt {
        id: String::new(),
        account: account.to_owned(),
        op_id: String::new(),
        method: shape.method.kind.clone(),
        flow: shape.method.flow.clone(),
        started_ms: world.now.wall_ms,
        state,
        track: Track::default(),
        provider_ref: None,
        offer: None,
        order_seen: false,
        unconfirmed: None,
        refund_due_ver: None,
        loser: false,
        manual: false,
        alert: None,
        payer_amount: None,
        captured_ms: None,
        second_charge_of: None,
        outside: Vec::new(),
    }
}
