//! Who is tried next, and who is not (SAFETY section 3, the matrix of credentials, RESILIENCE).

use interlock_engine::{
    AttemptState, Candidate, ExchangeKind, FailReason, Failover, Input, Method, Outcome, Refusal,
    Sent, Settled, Skip, Strategy, route,
};
use interlock_plugin_api::{Class, CredentialForm, Fact, NotFound, What};

use crate::desk::{Desk, asks, at_the_till, by_card, refused};
use crate::table::{
    HOUR, account, barcode, barcode_method, bare, card, cny, method, money, policy, prompt_card,
    submission, token_method,
};

fn three() -> Desk {
    let accounts = ["a", "b", "c"].map(|name| account(name, card(NotFound::AfterFence)));
    Desk::with(policy(accounts.into()), submission(token_method(&["a", "b", "c"])))
}

fn cryptogram() -> Desk {
    let accounts = ["a", "b"].map(|name| account(name, card(NotFound::AfterFence)));
    let token = method("card", "token", CredentialForm::NetworkToken);
    Desk::with(policy(accounts.into()), submission(token))
}

/// A card's own number, which three accounts take.
fn numbered() -> Desk {
    let accounts = ["a", "b", "c"].map(|name| {
        let mut account = account(name, card(NotFound::AfterFence));
        account.methods.iter_mut().for_each(|m| m.credential = CredentialForm::Card);
        account
    });
    let number = method("card", "token", CredentialForm::Card);
    Desk::with(policy(accounts.into()), submission(number))
}

#[test]
fn each_class_of_refusal_says_whether_another_account_is_tried() {
    let goes_on = [
        (Class::DeclinedSoft, true),
        (Class::AccountRestricted, true),
        (Class::RateLimited, true),
        (Class::Maintenance, true),
        (Class::ProviderDown, true),
        (Class::Config, true),
        (Class::NotSupported, true),
        (Class::DeclinedHard, false),
        (Class::DeclinedFraud, false),
        (Class::User, false),
        (Class::Verification, false),
        (Class::Expired, false),
        (Class::Unmapped, false),
    ];
    for (class, goes) in goes_on {
        let mut desk = three();
        desk.hear(refused(class));
        assert_eq!(desk.word(0), "failed", "{class:?}");
        assert_eq!(desk.p().attempts.len() == 2, goes, "{class:?}");
        assert_eq!(desk.told().is_none(), goes, "{class:?}");
    }
}

#[test]
fn a_duplicate_at_the_provider_is_asked_about_and_never_a_refusal() {
    let mut desk = three();
    desk.hear(refused(Class::Duplicate));
    assert!(desk.state(0).in_doubt() && desk.p().attempts.len() == 1);
}

#[test]
fn a_refusal_without_a_class_or_a_proof_stops() {
    let mut desk = three();
    let silent = Fact { class: None, ..refused(Class::User) };
    desk.hear(silent);
    assert_eq!((desk.word(0), desk.told()), ("failed", Some(Settled::Failed)));
    let mut desk = three();
    desk.hear(Fact::declined(Class::RateLimited, "429"));
    assert!(desk.state(0).in_doubt(), "429 is no listed proof code here");
}

#[test]
fn a_soft_decline_is_tried_once_more_and_not_twice() {
    let mut desk = three();
    desk.hear(refused(Class::DeclinedSoft));
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!((desk.p().attempts.len(), desk.told()), (2, Some(Settled::Failed)));
}

#[test]
fn attempts_are_counted() {
    let mut desk = three();
    desk.policy.routes[0].attempts_max = 2;
    for _ in 0..2 {
        let id = desk.last(ExchangeKind::Authorize);
        desk.lose_on(&id, Sent::No);
    }
    assert_eq!((desk.p().attempts.len(), desk.told()), (2, Some(Settled::Failed)));
}

#[test]
fn the_routes_deadline_ends_failover_even_when_the_proof_comes() {
    let mut desk = three();
    desk.pass(4 * HOUR + 1);
    desk.hear(refused(Class::RateLimited));
    assert_eq!((desk.p().attempts.len(), desk.told()), (1, Some(Settled::Failed)));
}

#[test]
fn a_route_may_fail_over_only_what_was_not_sent_or_never() {
    let with = |failover: Failover, sent: bool| {
        let accounts = ["a", "b"].map(|name| account(name, prompt_card()));
        let mut policy = policy(accounts.into());
        policy.routes[0].failover = failover;
        let mut desk = Desk::with(policy, submission(token_method(&["a", "b"])));
        if sent {
            desk.hear(refused(Class::RateLimited));
        } else {
            let id = desk.last(ExchangeKind::Authorize);
            desk.lose_on(&id, Sent::No);
        }
        desk.p().attempts.len()
    };
    assert_eq!((with(Failover::NotSent, false), with(Failover::NotSent, true)), (2, 1));
    assert_eq!((with(Failover::None, false), with(Failover::None, true)), (1, 1));
    assert_eq!((with(Failover::Proven, false), with(Failover::Proven, true)), (2, 2));
}

#[test]
fn a_cryptogram_that_may_have_reached_the_network_is_spent() {
    let spent = |answer: fn(&mut Desk)| {
        let mut desk = cryptogram();
        answer(&mut desk);
        desk.p().attempts.len() == 1
    };
    assert!(spent(|d| drop(d.hear(refused(Class::DeclinedSoft)))));
    assert!(!spent(|d| drop(d.hear(refused(Class::RateLimited)))));
    assert!(!spent(|d| drop(d.hear(refused(Class::AccountRestricted)))));
    assert!(!spent(|d| {
        let id = d.last(ExchangeKind::Authorize);
        d.lose_on(&id, Sent::No);
    }));
    assert!(spent(|d| {
        d.time_out();
        d.pass(HOUR);
        d.look(0, Fact::new(What::NotFound));
        assert_eq!(d.word(0), "failed");
        assert!(d.said("cryptogram_spent"));
    }));
}

#[test]
fn a_card_without_a_cryptogram_is_tried_once_more_after_a_soft_decline_and_never_after_a_stop() {
    let mut desk = numbered();
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!((desk.p().attempts.len(), desk.told()), (2, None));
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!((desk.p().attempts.len(), desk.told()), (2, Some(Settled::Failed)));
    let mut desk = numbered();
    desk.hear(refused(Class::DeclinedSoft));
    desk.hear(refused(Class::DeclinedFraud));
    assert_eq!((desk.p().attempts.len(), desk.told()), (2, Some(Settled::Failed)));
    // Who is refused at the gate has not asked the issuer, so the second try is still to come.
    let mut desk = numbered();
    desk.hear(refused(Class::DeclinedSoft));
    desk.hear(refused(Class::RateLimited));
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!((desk.p().attempts.len(), desk.told()), (3, Some(Settled::Failed)));
    for stop in [
        Class::DeclinedFraud,
        Class::DeclinedHard,
        Class::Verification,
        Class::User,
        Class::Unmapped,
    ] {
        let mut desk = numbered();
        desk.hear(refused(stop));
        assert_eq!((desk.p().attempts.len(), desk.told()), (1, Some(Settled::Failed)), "{stop:?}");
    }
}

#[test]
fn a_card_without_a_cryptogram_goes_on_after_a_proof_because_nothing_is_spent() {
    let mut desk = numbered();
    desk.time_out();
    assert_eq!(desk.p().attempts.len(), 1, "silence proves nothing");
    desk.pass(HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("failed", 2));
    assert!(!desk.said("cryptogram_spent"));
}

#[test]
fn a_stored_token_goes_only_where_it_is_known() {
    let accounts = ["a", "b"].map(|name| account(name, prompt_card()));
    let mut desk = Desk::with(policy(accounts.into()), submission(token_method(&["b"])));
    assert_eq!(desk.attempt(0).account, "b");
    assert!(desk.said("no_token"));
    desk.hear(refused(Class::RateLimited));
    assert_eq!((desk.p().attempts.len(), desk.told()), (1, Some(Settled::Failed)));
}

#[test]
fn without_the_credential_in_memory_nobody_else_is_tried() {
    let mut desk = three();
    desk.credential = false;
    desk.hear(refused(Class::RateLimited));
    assert_eq!(desk.p().attempts.len(), 1);
    assert!(desk.said("credential_gone"));
}

#[test]
fn who_is_only_doubtful_is_tried_after_the_others_and_still_tried() {
    let doubts = |names: &[(&str, Skip)]| {
        let accounts = ["a", "b", "c"].map(|name| account(name, prompt_card()));
        let mut desk = Desk::new(policy(accounts.into()));
        desk.health.doubts = names.iter().map(|(name, why)| ((*name).into(), *why)).collect();
        desk.put(Input::Submitted(submission(token_method(&["a", "b", "c"])))).expect("taken");
        desk
    };
    let desk = doubts(&[("a", Skip::SlowStart), ("b", Skip::LowConversion)]);
    assert_eq!(desk.p().attempts[0].account, "c");
    assert!(desk.said("slow_start") && desk.said("low_conversion"));
    let all = ["a", "b", "c"].map(|name| (name, Skip::DomainDown));
    let mut desk = doubts(&all);
    assert_eq!(desk.p().attempts[0].account, "a");
    desk.hear(refused(Class::RateLimited));
    assert_eq!(desk.p().attempts[1].account, "b");
}

#[test]
fn every_skip_has_its_named_reason() {
    let skips = |change: fn(&mut Desk), asked: interlock_engine::Submission| {
        let accounts = ["a", "b"].map(|name| account(name, prompt_card()));
        let mut desk = Desk::new(policy(accounts.into()));
        change(&mut desk);
        match desk.put(Input::Submitted(asked)) {
            Err(Refusal::NoAccountAvailable { skips, .. }) => {
                skips.into_iter().find(|(name, _)| name == "a").map(|(_, skip)| skip)
            }
            other => panic!("{other:?}"),
        }
    };
    let card = || submission(token_method(&["a", "b"]));
    assert_eq!(skips(|d| d.policy.accounts.clear(), card()), Some(Skip::NotLoaded));
    assert_eq!(
        skips(|d| d.policy.accounts.values_mut().for_each(|a| a.methods.clear()), card()),
        Some(Skip::Method)
    );
    assert_eq!(
        skips(|d| d.policy.accounts.values_mut().for_each(|a| a.currencies.clear()), card()),
        Some(Skip::Currency)
    );
    let abroad = {
        let mut asked = card();
        asked.customer.country = Some("FR".into());
        asked
    };
    assert_eq!(
        skips(
            |d| d.policy.accounts.values_mut().for_each(|a| a.countries = vec!["DE".into()]),
            abroad
        ),
        Some(Skip::Country)
    );
    let coarse = |d: &mut Desk| {
        for a in d.policy.accounts.values_mut() {
            a.currencies.get_mut(&cny()).unwrap().provider_exponent = 0;
        }
    };
    let mut odd = card();
    odd.money = money(4_950);
    assert_eq!(skips(coarse, odd), Some(Skip::AmountNotRepresentable));
    assert_eq!(skips(|_| {}, submission(token_method(&[]))), Some(Skip::NoToken));
    assert_eq!(skips(|d| d.credential = false, card()), Some(Skip::CredentialGone));
    assert_eq!(
        skips(|d| d.policy.accounts.values_mut().for_each(|a| a.contract = bare()), card()),
        Some(Skip::NoWayOut)
    );
    let open = |d: &mut Desk| {
        for name in ["a", "b"] {
            d.health.skips.insert(name.into(), Skip::BreakerOpen);
        }
    };
    assert_eq!(skips(open, card()), Some(Skip::BreakerOpen));
    let taken = |d: &mut Desk| {
        d.refused = vec![("a".into(), Skip::InFlight), ("b".into(), Skip::RateLimited)];
    };
    assert_eq!(skips(taken, card()), Some(Skip::InFlight));
    assert_eq!(skips(|d| d.broken_plugin = true, card()), Some(Skip::NotPrepared));
}

#[test]
fn a_refused_reservation_goes_to_the_next_account_and_is_written_down() {
    let accounts = ["a", "b"].map(|name| account(name, prompt_card()));
    let mut desk = Desk::new(policy(accounts.into()));
    desk.refused = vec![("a".into(), Skip::BreakerHalfOpen)];
    desk.put(Input::Submitted(submission(token_method(&["a", "b"])))).unwrap();
    assert_eq!(desk.attempt(0).account, "b");
    assert!(desk.said("breaker_half_open"));
}

#[test]
fn accounts_that_fail_together_are_tried_once() {
    let accounts = ["a", "b"].map(|name| {
        let mut account = account(name, prompt_card());
        account.failure_domain = Some("acquirer-1".into());
        account
    });
    let mut desk = Desk::with(policy(accounts.into()), submission(token_method(&["a", "b"])));
    let id = desk.last(ExchangeKind::Authorize);
    desk.lose_on(&id, Sent::No);
    assert_eq!((desk.p().attempts.len(), desk.told()), (1, Some(Settled::Failed)));
    assert!(desk.said("failure_domain"));
}

#[test]
fn the_budget_of_second_tries_is_asked() {
    let mut desk = three();
    desk.health.no_budget = true;
    desk.hear(refused(Class::RateLimited));
    assert_eq!((desk.p().attempts.len(), desk.told()), (1, Some(Settled::Failed)));
    assert!(desk.said("failover_budget"));
}

#[test]
fn weights_choose_the_first_and_the_order_stays() {
    let candidates = [("a", 1), ("b", 3), ("c", 0)]
        .map(|(name, weight)| Candidate { account: name.into(), weight });
    let mut route = policy(Vec::new()).routes.remove(0);
    (route.candidates, route.strategy) = (candidates.into(), Strategy::Weighted);
    assert_eq!(route::order(&route, 0.0), ["a", "b", "c"]);
    assert_eq!(route::order(&route, 0.24), ["a", "b", "c"]);
    assert_eq!(route::order(&route, 0.26), ["b", "a", "c"]);
    assert_eq!(route::order(&route, 0.999), ["b", "a", "c"]);
    route.strategy = Strategy::Priority;
    assert_eq!(route::order(&route, 0.9), ["a", "b", "c"]);
}

#[test]
fn what_the_api_calls_failover_is_said_up_front() {
    let desk = at_the_till();
    assert_eq!(route::failover_of(desk.p(), &desk.policy), Ok("proven"));
    let accounts = ["a", "b"].map(|name| account(name, prompt_card()));
    let credential = CredentialForm::EncryptedWalletToken;
    let mut sealed = accounts.clone();
    sealed.iter_mut().for_each(|a| a.methods.iter_mut().for_each(|m| m.credential = credential));
    let token = Method { form: credential, ..token_method(&["b"]) };
    let desk = Desk::with(policy(sealed.into()), submission(token));
    assert_eq!(desk.p().attempts[0].account, "b");
    assert_eq!(route::failover_of(desk.p(), &desk.policy), Err("credential_bound"));
    let desk = Desk::with(policy(accounts.into()), submission(token_method(&["a"])));
    assert_eq!(route::failover_of(desk.p(), &desk.policy), Err("credential_bound"));
    let one = vec![account("a", barcode())];
    let desk = Desk::with(policy(one), submission(barcode_method()));
    assert_eq!(route::failover_of(desk.p(), &desk.policy), Err("single_candidate"));
}

#[test]
fn every_proof_but_an_operators_word_admits_another_account() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    desk.verdict(interlock_engine::Subject::Attempt(0), false).unwrap();
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::Operator, .. }));
    assert_eq!(desk.p().attempts.len(), 1);
    let mut desk = by_card(card(NotFound::AfterFence));
    let effects = desk.time_out();
    assert!(asks(&effects, interlock_engine::Subject::Attempt(0)));
    desk.run_for(HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.p().attempts.len(), 2);
}

#[test]
fn a_decision_that_needs_a_request_changes_nothing() {
    let accounts = vec![account("a", barcode())];
    let policy = policy(accounts);
    let desk = Desk::new(policy);
    let world = interlock_engine::World {
        now: desk.now,
        policy: &desk.policy,
        health: &desk.health,
        mint: &crate::table::Numbers,
        draw: 0.5,
        sending: false,
        credential: true,
        details: false,
        order: None,
        stated: None,
    };
    let input = Input::Submitted(submission(barcode_method()));
    let hand = interlock_engine::Hand::default();
    let Outcome::Need(call) = interlock_engine::decide(None, &input, &world, &hand) else {
        panic!("it needs the first request");
    };
    assert!(call.reserve && call.account == "a" && call.op_id.len() <= 32);
}
