//! What can be paid with, and which of several accepted methods is chosen.

use interlock_engine::offers::{Basket, Offered, methods};
use interlock_engine::{Input, Policy, Refusal, Skip, Submission, World};
use interlock_plugin_api::{CredentialForm, Currency, Customer, Money};

use crate::desk::Desk;
use crate::table::{
    AMOUNT, Numbers, account, barcode_method, card, code, method, money, policy, qr_method,
    submission,
};
use interlock_plugin_api::NotFound;

/// Wallets over `a`, then `b`; cards over `c`.
fn shop() -> Policy {
    let mut policy = policy(vec![
        account("a", code()),
        account("b", code()),
        account("c", card(NotFound::AfterFence)),
    ]);
    let mut wallets = policy.routes[0].clone();
    let mut cards = wallets.clone();
    wallets.name = "wallets".into();
    wallets.matches.method = vec!["wallet".into()];
    wallets.candidates.truncate(2);
    cards.name = "cards".into();
    cards.matches.method = vec!["card".into()];
    cards.candidates.drain(..2);
    policy.routes = vec![wallets, cards];
    policy
}

fn any(accept: Vec<interlock_engine::Method>) -> Submission {
    Submission { accept: accept.clone(), ..submission(accept[0].clone()) }
}

fn token() -> interlock_engine::Method {
    method("card", "token", CredentialForm::NetworkToken)
}

fn look(desk: &Desk, money: Money) -> Vec<Offered> {
    let world = World {
        now: desk.now,
        policy: &desk.policy,
        health: &desk.health,
        mint: &Numbers,
        draw: 0.0,
        sending: false,
        credential: true,
        details: false,
        order: None,
        stated: None,
    };
    methods(&Basket { merchant: "shop", money, customer: &Customer::default() }, &world)
}

fn paid_by(desk: &Desk) -> (&str, &str, &str) {
    let p = desk.p();
    (&p.method.kind, &p.method.flow, &p.attempts[0].account)
}

#[test]
fn the_first_accepted_method_is_chosen_while_all_are_well() {
    let desk = Desk::with(shop(), any(vec![token(), qr_method()]));
    assert_eq!(paid_by(&desk), ("card", "token", "c"));
    let desk = Desk::with(shop(), any(vec![qr_method(), token()]));
    assert_eq!(paid_by(&desk), ("wallet", "qr", "a"));
    assert_eq!(desk.p().route, "wallets");
    assert!(desk.lines.iter().any(|(what, _)| what == "wallet qr chosen of 2 methods"));
}

#[test]
fn a_method_without_a_healthy_account_gives_way() {
    let mut desk = Desk::new(shop());
    desk.health.skips.insert("c".into(), Skip::BreakerOpen);
    desk.put(Input::Submitted(any(vec![token(), qr_method()]))).unwrap();
    assert_eq!(paid_by(&desk), ("wallet", "qr", "a"));

    // The one whose first account is well comes before the one that needs its second.
    let mut desk = Desk::new(shop());
    desk.health.skips.insert("a".into(), Skip::BreakerOpen);
    desk.put(Input::Submitted(any(vec![qr_method(), token()]))).unwrap();
    assert_eq!(paid_by(&desk), ("card", "token", "c"));

    // So does one whose only account is in doubt.
    let mut desk = Desk::new(shop());
    desk.health.doubts.insert("c".into(), Skip::LowConversion);
    desk.put(Input::Submitted(any(vec![token(), qr_method()]))).unwrap();
    assert_eq!(paid_by(&desk), ("wallet", "qr", "a"));

    // Where many calls fail, the breaker need not be open.
    let mut desk = Desk::new(shop());
    desk.health.failing.insert("a".into(), 350);
    desk.put(Input::Submitted(any(vec![qr_method(), token()]))).unwrap();
    assert_eq!(paid_by(&desk), ("card", "token", "c"));
    let mut desk = Desk::new(shop());
    desk.health.failing.insert("a".into(), 40);
    desk.put(Input::Submitted(any(vec![qr_method(), token()]))).unwrap();
    assert_eq!(paid_by(&desk), ("wallet", "qr", "a"));
}

#[test]
fn a_place_that_cannot_be_reserved_changes_the_choice_within_the_same_version() {
    let mut desk = Desk::new(shop());
    desk.refused = vec![("c".into(), Skip::InFlight)];
    desk.put(Input::Submitted(any(vec![token(), qr_method()]))).unwrap();
    assert_eq!(paid_by(&desk), ("wallet", "qr", "a"));
    assert_eq!((desk.p().ver, desk.p().attempts.len()), (1, 1));
}

#[test]
fn when_nothing_can_be_taken_the_reasons_are_told_and_nothing_is_written() {
    let mut desk = Desk::new(shop());
    for name in ["a", "b", "c"] {
        desk.health.skips.insert(name.into(), Skip::Drained);
    }
    let refused = desk.put(Input::Submitted(any(vec![qr_method(), token()])));
    let Err(Refusal::NoAccountAvailable { skips, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(skips[0], ("a".into(), Skip::Drained));
    assert!(desk.payment.is_none());
}

#[test]
fn every_method_is_offered_best_first_with_its_reason() {
    let mut desk = Desk::new(shop());
    let names = |found: &[Offered]| -> Vec<(String, Vec<String>, Option<Skip>)> {
        found.iter().map(|o| (o.kind.clone(), o.flows.clone(), o.reason)).collect()
    };
    let flows = |of: &[&str]| of.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
    let wallet = ("wallet".to_owned(), flows(&["barcode", "qr"]), None);
    let cards = ("card".to_owned(), flows(&["token"]), None);
    assert_eq!(names(&look(&desk, money(AMOUNT))), [wallet.clone(), cards.clone()]);

    desk.health.skips.insert("a".into(), Skip::BreakerOpen);
    assert_eq!(names(&look(&desk, money(AMOUNT))), [cards.clone(), wallet]);
    desk.health.skips.insert("b".into(), Skip::Maintenance);
    let hidden = ("wallet".to_owned(), flows(&["barcode", "qr"]), Some(Skip::BreakerOpen));
    assert_eq!(names(&look(&desk, money(AMOUNT))), [cards, hidden]);

    // What no account could take on its best day says so, too.
    let euro = Money::new(AMOUNT, Currency::parse("EUR").unwrap());
    let found = look(&desk, euro);
    assert!(found.iter().all(|o| o.reason == Some(Skip::Currency)), "{found:?}");

    // A type without a route is not offered; one whose accounts are gone says why.
    desk.policy.routes.truncate(1);
    assert_eq!(look(&desk, money(AMOUNT)).len(), 1);
    desk.policy.accounts.clear();
    let gone = ("wallet".to_owned(), Vec::new(), Some(Skip::NotLoaded));
    assert_eq!(names(&look(&desk, money(AMOUNT))), [gone]);
}

#[test]
fn a_look_starts_nothing() {
    let desk = Desk::new(shop());
    let _ = look(&desk, money(AMOUNT));
    assert!(desk.payment.is_none() && desk.lines.is_empty());
    let plain = Desk::with(shop(), submission(barcode_method()));
    assert!(!plain.lines.iter().any(|(what, _)| what.contains("chosen")));
}
