//! What can be paid with now: every method by routes, capability and health, as a look that takes
//! nothing; and the healthiest of those that a merchant accepts.

use interlock_plugin_api::{CaptureMode, CredentialForm, Customer, Money};
use std::collections::BTreeMap;

use crate::input::{Hand, Submission};
use crate::payment::Method;
use crate::refusal::{Skip, Skips};
use crate::route::{self, Shape};
use crate::world::World;

/// Shares of failing calls that differ by less than this are alike, per mille.
const ALIKE_PERMILLE: u32 = 100;

/// What a shopper is about to pay.
pub struct Basket<'a> {
    /// Who asks.
    pub merchant: &'a str,
    /// How much is to be paid.
    pub money: Money,
    /// Who pays, as far as it is known.
    pub customer: &'a Customer,
}

/// One method type, as a payment page may show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The type.
    pub kind: String,
    /// The flows that would be taken now; when none would, those that some account could take.
    pub flows: Vec<String>,
    /// Why it would not be taken now.
    pub reason: Option<Skip>,
}

/// How well a method stands: less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    /// The account that would be tried is a last resort: it warms up, or converts badly.
    doubtful: bool,
    /// Failing calls of the account that would be tried, in steps.
    failing: u32,
    /// Accounts before it that are not well.
    skipped: usize,
    /// The place of its route.
    route: usize,
}

/// Every method that a route of this merchant takes, best first. The world's credential is
/// understood to be there.
pub fn methods(basket: &Basket<'_>, world: &World<'_>) -> Vec<Offered> {
    let mut found: Vec<(String, Found)> = Vec::new();
    for (method, capture) in known(world) {
        let looked = look_of(basket, &method, capture, NO_NOTES, &[], world);
        let Some(looked) = looked else { continue };
        let at = found.iter().position(|(kind, _)| *kind == method.kind).unwrap_or_else(|| {
            found.push((method.kind.clone(), Found::default()));
            found.len() - 1
        });
        found[at].1.add(&method.flow, looked);
    }
    for kind in unloaded(basket, world) {
        if !found.iter().any(|(known, _)| *known == kind) {
            found.push((kind, Found { reason: Some(Skip::NotLoaded), ..Found::default() }));
        }
    }
    found.sort_by_key(|(_, f)| (f.best.is_none(), f.best));
    found.into_iter().map(|(kind, f)| f.offered(kind)).collect()
}

/// The method that a submission is paid with: the healthiest of those it accepts, in its own
/// order where they are alike. A method for which a request is built already stays chosen.
pub(crate) fn chosen<'s>(s: &'s Submission, world: &World<'_>, hand: &Hand) -> &'s Method {
    let ready = hand.prepared.iter().map(|p| &p.call).filter(|call| call.reserve);
    for call in ready {
        let of_call = |m: &&Method| m.kind == call.method && m.flow == call.flow;
        if let Some(method) = s.accept.iter().find(of_call) {
            return method;
        }
    }
    let basket = Basket { merchant: &s.merchant, money: s.money, customer: &s.customer };
    let stands = |m: &Method| {
        look_of(&basket, m, s.capture, &s.metadata, &hand.refused, world)?
            .ok()
            .map(|standing| Standing { route: 0, ..standing })
    };
    let standing = s.accept.iter().filter_map(|m| Some((stands(m)?, m)));
    standing.min_by_key(|(standing, _)| *standing).map_or(&s.method, |(_, method)| method)
}

/// What was found of one type.
#[derive(Default)]
struct Found {
    best: Option<Standing>,
    well: Vec<String>,
    ill: Vec<String>,
    reason: Option<Skip>,
}

impl Found {
    fn add(&mut self, flow: &str, looked: Result<Standing, Skip>) {
        let flow = flow.to_owned();
        match looked {
            Ok(standing) => {
                self.best = Some(self.best.map_or(standing, |best| best.min(standing)));
                if !self.well.contains(&flow) {
                    self.well.push(flow);
                }
            }
            Err(skip) => {
                // That an account is unwell says more than that it can't take it at all.
                if self.reason.is_none_or(|known| is_lasting(known) && !is_lasting(skip)) {
                    self.reason = Some(skip);
                }
                if !matches!(skip, Skip::Method) && !self.ill.contains(&flow) {
                    self.ill.push(flow);
                }
            }
        }
    }

    fn offered(self, kind: String) -> Offered {
        if self.best.is_some() {
            return Offered { kind, flows: self.well, reason: None };
        }
        Offered { kind, flows: self.ill, reason: self.reason }
    }
}

/// Every way to pay that a loaded account has, in the order of the accounts.
fn known(world: &World<'_>) -> Vec<(Method, CaptureMode)> {
    let mut all: Vec<(Method, CaptureMode)> = Vec::new();
    for account in world.policy.accounts.values() {
        for support in &account.methods {
            let capture = if support.capture.contains(&CaptureMode::Automatic) {
                CaptureMode::Automatic
            } else {
                CaptureMode::Manual
            };
            let method = Method {
                kind: support.kind.clone(),
                flow: support.flow.clone(),
                form: support.credential,
                token_accounts: world.policy.accounts.keys().cloned().collect(),
            };
            if !all.iter().any(|(known, _)| *known == method) {
                all.push((method, capture));
            }
        }
    }
    all
}

/// Types that a route names and that no loaded account has.
fn unloaded(basket: &Basket<'_>, world: &World<'_>) -> Vec<String> {
    let named = world.policy.routes.iter().flat_map(|r| {
        let flow = r.matches.flow.first().cloned().unwrap_or_default();
        r.matches.method.iter().map(move |kind| (kind.clone(), flow.clone()))
    });
    let is_routed = |(kind, flow): &(String, String)| {
        let (kind, flow) = (kind.clone(), flow.clone());
        let method = Method { kind, flow, form: CredentialForm::None, token_accounts: Vec::new() };
        route::route_of(world.policy, &shape(basket, &method, CaptureMode::Automatic)).is_some()
    };
    named.filter(is_routed).map(|(kind, _)| kind).collect()
}

const NO_NOTES: &BTreeMap<String, String> = &BTreeMap::new();

fn shape<'a>(basket: &Basket<'a>, method: &'a Method, capture: CaptureMode) -> Shape<'a> {
    Shape {
        merchant: basket.merchant,
        money: basket.money,
        capture,
        method,
        customer: basket.customer,
        metadata: NO_NOTES,
    }
}

/// How a method stands at its route, or why no account would take it; none without a route.
fn look_of(
    basket: &Basket<'_>,
    method: &Method,
    capture: CaptureMode,
    metadata: &BTreeMap<String, String>,
    refused: &[(String, Skip)],
    world: &World<'_>,
) -> Option<Result<Standing, Skip>> {
    let shape = Shape { metadata, ..shape(basket, method, capture) };
    let at = world.policy.routes.iter().position(|r| route::takes(r, &shape))?;
    let route = &world.policy.routes[at];
    let (account, skips) = route::choose(route, &shape, &[], refused, world);
    let looked = match account {
        Some(account) => {
            let permille = world.health.failing_permille(&account, &method.kind, world.now);
            let skipped = skips.iter().filter(|(_, skip)| !is_lasting(*skip)).count();
            let doubtful = route::demotes(&account, &shape, world).is_some();
            Ok(Standing { doubtful, failing: permille / ALIKE_PERMILLE, skipped, route: at })
        }
        None => Err(why(&skips)),
    };
    Some(looked)
}

/// The reason that says most: an account that is unwell before one that can't take it at all.
fn why(skips: &Skips) -> Skip {
    let told = skips.iter().find(|(_, skip)| !is_lasting(*skip)).or(skips.first());
    told.map_or(Skip::NotLoaded, |(_, skip)| *skip)
}

/// Whether an account could not take it on its best day either.
fn is_lasting(skip: Skip) -> bool {
    matches!(
        skip,
        Skip::Method
            | Skip::Currency
            | Skip::Country
            | Skip::AmountNotRepresentable
            | Skip::NoToken
            | Skip::NoWayOut
    )
}
