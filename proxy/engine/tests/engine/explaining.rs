//! What is explained is what happens: the same order, and the same reasons, as a payment meets.

use std::collections::BTreeMap;

use interlock_engine::explain::{Explanation, Standing, explain};
use interlock_engine::route::Shape;
use interlock_engine::{
    Candidate, Failover, Policy, RouteMatch, Skip, Stamp, Strategy, World, route,
};
use interlock_plugin_api::{CaptureMode, CredentialForm, Customer, NotFound};

use crate::desk::Desk;
use crate::table::{
    Board, Numbers, account, card, cny, method, money, policy, submission, token_method,
};

fn cards(names: &[&str]) -> Policy {
    policy(names.iter().map(|name| account(name, card(NotFound::AfterFence))).collect())
}

fn world<'a>(policy: &'a Policy, health: &'a Board, draw: f64) -> World<'a> {
    World {
        now: Stamp { wall_ms: 1_000, boot: 1, mono_ms: 0 },
        policy,
        health,
        mint: &Numbers,
        draw,
        sending: false,
        credential: true,
        details: false,
        order: None,
        stated: None,
    }
}

fn told<'p>(policy: &'p Policy, health: &'p Board, draw: f64) -> Explanation<'p> {
    let (customer, metadata) = (Customer::default(), BTreeMap::new());
    let method = method("card", "token", CredentialForm::NetworkToken);
    let shape = Shape {
        merchant: "shop",
        money: money(4_900),
        capture: CaptureMode::Automatic,
        method: &method,
        customer: &customer,
        metadata: &metadata,
    };
    explain(&shape, &world(policy, health, draw))
}

fn standings(told: &Explanation<'_>) -> Vec<(String, Standing)> {
    let matched = told.matched.as_ref().expect("a route takes it");
    matched.candidates.iter().map(|c| (c.account.to_owned(), c.standing)).collect()
}

#[test]
fn every_account_has_its_rank_or_its_reason() {
    let mut policy = cards(&["a", "b", "c", "d", "e"]);
    policy.accounts.get_mut("b").expect("b").currencies.clear();
    policy.accounts.remove("c");
    let health =
        Board { skips: BTreeMap::from([("d".to_owned(), Skip::BreakerOpen)]), ..Board::default() };
    let (first, second) = (Standing::Rank(1), Standing::Rank(2));
    let expected = [
        ("a", first),
        ("e", second),
        ("b", Standing::Skipped(Skip::Currency)),
        ("c", Standing::Skipped(Skip::NotLoaded)),
        ("d", Standing::Skipped(Skip::BreakerOpen)),
    ];
    let expected = expected.map(|(name, standing)| (name.to_owned(), standing));
    assert_eq!(standings(&told(&policy, &health, 0.0)), expected);
}

#[test]
fn what_stops_a_second_try_is_told_apart_from_what_stops_a_first() {
    let health = Board::default();
    let mut policy = cards(&["a", "b", "c", "d", "e"]);
    for name in ["a", "b"] {
        policy.accounts.get_mut(name).expect("known").failure_domain = Some("x".into());
    }
    policy.routes[0].attempts_max = 2;
    let of = |policy: &Policy, health: &Board, name: &str| {
        let all = standings(&told(policy, health, 0.0));
        all.iter().find(|(account, _)| account == name).expect("a candidate").1
    };
    assert_eq!(of(&policy, &health, "a"), Standing::Rank(1));
    assert_eq!(of(&policy, &health, "b"), Standing::SkippedAfter(Skip::FailureDomain));
    assert_eq!(of(&policy, &health, "c"), Standing::Rank(2));
    assert_eq!(of(&policy, &health, "d"), Standing::Beyond);
    assert_eq!(Standing::Beyond.reason(), Some("attempts_max"));
    let spent = Board { no_budget: true, ..Board::default() };
    assert_eq!(of(&policy, &spent, "c"), Standing::SkippedAfter(Skip::FailoverBudget));
    policy.routes[0].failover = Failover::None;
    for name in ["b", "c", "d", "e"] {
        assert_eq!(of(&policy, &health, name), Standing::Spare, "{name}");
    }
    assert_eq!(Standing::Spare.reason(), Some("failover_none"));
}

#[test]
fn routes_that_refuse_name_every_key_that_does() {
    let mut policy = cards(&["a"]);
    let mut narrow = policy.routes[0].clone();
    narrow.name = "narrow".into();
    narrow.matches = RouteMatch {
        method: vec!["card".into()],
        currency: vec![cny()],
        country: vec!["DE".into()],
        amount_min: Some(5_000),
        metadata: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        ..RouteMatch::default()
    };
    policy.routes[0].matches.amount_max = Some(4_900);
    policy.routes[0].matches.method = vec!["card".into()];
    policy.routes.insert(0, narrow);
    let health = Board::default();
    let explanation = told(&policy, &health, 0.0);
    let refused: Vec<_> =
        explanation.refused.iter().map(|(r, keys)| (r.name.as_str(), keys.clone())).collect();
    assert_eq!(refused, [("narrow", vec!["country", "amount", "metadata"])]);
    let matched = explanation.matched.as_ref().expect("the second takes it");
    assert_eq!((&*matched.route.name, &*matched.by), ("all", &["method", "amount"][..]));
    policy.routes[1].matches.merchant = vec!["other".into()];
    let explanation = told(&policy, &health, 0.0);
    assert!(explanation.matched.is_none() && explanation.refused.len() == 2);
    assert_eq!(explanation.refused[1].1, ["merchant"]);
}

#[test]
fn the_draw_decides_who_is_first_and_the_shares_are_told() {
    let mut policy = cards(&["a", "b"]);
    policy.routes[0].strategy = Strategy::Weighted;
    policy.routes[0].candidates = [("a", 70), ("b", 30)]
        .map(|(account, weight)| Candidate { account: account.into(), weight })
        .into();
    let health = Board::default();
    for (draw, first, share) in [(0.1, "a", 0.7), (0.69, "a", 0.7), (0.7, "b", 0.3)] {
        let explanation = told(&policy, &health, draw);
        let candidate = explanation.matched.as_ref().expect("it matches").candidates[0];
        assert_eq!((candidate.account, candidate.share), (first, Some(share)), "{draw}");
    }
}

/// Whatever is wrong with whom, a payment goes where it was said to go.
#[test]
fn routing_does_what_was_explained() {
    let reasons = [None, Some(Skip::BreakerOpen), Some(Skip::InFlight), Some(Skip::SlowStart)];
    for case in 0..64usize {
        let names = ["a", "b", "c"];
        let sick = names.iter().enumerate().filter_map(|(n, name)| {
            reasons[case / 4usize.pow(n as u32) % 4].map(|skip| ((*name).to_owned(), skip))
        });
        let policy = cards(&names);
        let (doubts, skips) = sick.partition(|(_, skip)| *skip == Skip::SlowStart);
        let health = Board { skips, doubts, ..Board::default() };
        let submission = submission(token_method(&names));
        let shape = Shape {
            merchant: &submission.merchant,
            money: submission.money,
            capture: submission.capture,
            method: &submission.method,
            customer: &submission.customer,
            metadata: &submission.metadata,
        };
        let world = world(&policy, &health, 0.5);
        let explanation = explain(&shape, &world);
        let said = standings(&explanation);
        let candidates = &explanation.matched.as_ref().expect("it matches").candidates;
        let (chosen, skips) = route::choose(&policy.routes[0], &shape, &[], &[], &world);
        let first = said.iter().find(|(_, s)| *s == Standing::Rank(1)).map(|(name, _)| name);
        assert_eq!(first, chosen.as_ref(), "{said:?}");
        for (name, skip) in skips {
            let told = candidates.iter().find(|c| c.account == name).expect("a candidate");
            let late = told.demoted == Some(skip);
            assert!(late || told.standing == Standing::Skipped(skip), "{said:?}");
        }
        let Some(first) = first else { continue };
        let mut desk = Desk::new(policy.clone());
        let (skips, doubts) = (health.skips.clone(), health.doubts.clone());
        desk.health = Board { skips, doubts, ..Board::default() };
        desk.put(interlock_engine::Input::Submitted(submission.clone())).expect("it is taken");
        assert_eq!(desk.p().attempts[0].account, *first);
    }
}
