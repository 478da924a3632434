//! What a definite failure is (SAFETY section 2.5): G1 to G12, and every condition of T7.

use interlock_engine::{Effect, ExchangeKind, Failover, Input, Sent, Subject};
use interlock_plugin_api::{
    Class, Close, Concurrency, Contract, Fact, IdempotencyClass, NotFound, What,
};

use crate::desk::{Desk, at_the_till, by_card, on_the_screen, paid, refused, sends, shown};
use crate::table::{
    HOUR, MINUTE, W, account, barcode, bare, card, moves, policy, prompt_card, submission,
    token_method,
};

/// What comes out at the next due time after the first send was lost.
fn resent(mut desk: Desk) -> bool {
    desk.time_out();
    let mut effects = desk.come_due();
    effects.extend(desk.come_due());
    !sends(&effects).is_empty()
}

#[test]
fn g1_the_sockets_proof_counts_for_the_only_send_alone() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    let x = desk.last(ExchangeKind::Authorize);
    desk.lose_on(&x, Sent::No);
    assert!(desk.state(0).in_doubt());
    assert_eq!(desk.attempt(0).sends(), 2);
    desk.lose_on(&x, Sent::No);
    assert!(desk.state(0).in_doubt(), "said twice it disproves nothing more");
}

#[test]
fn g2_a_decline_is_definite_after_one_send_or_as_the_keys_own_result() {
    let mut strong = prompt_card();
    strong.moves = moves(IdempotencyClass::Strong, Concurrency::Excluded);
    let twice = |contract: &Contract| {
        let mut desk = by_card(contract.clone());
        desk.time_out();
        desk.come_due();
        assert_eq!(desk.attempt(0).sends(), 2);
        desk
    };
    let mut desk = twice(&strong);
    desk.hear(refused(Class::DeclinedHard));
    assert!(desk.state(0).in_doubt(), "of one send only");
    let mut desk = twice(&strong);
    desk.hear(refused(Class::DeclinedHard).of_key());
    assert_eq!(desk.word(0), "failed");
    let mut desk = by_card(strong);
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn g3_a_key_that_remembers_only_success_declines_nothing_after_a_re_send() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    desk.hear(refused(Class::DeclinedHard).of_key());
    assert!(desk.state(0).in_doubt() && desk.p().attempts.len() == 1);
}

#[test]
fn g4_not_found_must_have_been_asked_after_not_merely_received_after() {
    let mut desk = by_card(card(NotFound::AfterFence));
    let unfenced = desk.asking();
    desk.time_out();
    let early = desk.asking();
    desk.pass(W + MINUTE);
    desk.answer(Subject::Attempt(0), early, vec![Fact::new(What::NotFound)]);
    desk.answer(Subject::Attempt(0), unfenced, vec![Fact::new(What::NotFound)]);
    assert_eq!(desk.word(0), "fenced");
}

#[test]
fn g4_not_found_proves_nothing_where_nothing_is_declared() {
    let mut desk = by_card(card(NotFound::Undeclared));
    desk.time_out();
    desk.pass(2 * W);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "fenced");
}

#[test]
fn g5_nothing_is_sent_behind_the_fence() {
    let mut desk = at_the_till();
    desk.time_out();
    let effects = desk.run_for(3 * HOUR);
    let again = sends(&effects).into_iter().filter(|id| id.contains("authorize")).count();
    assert_eq!((again, desk.attempt(0).sends()), (0, 1));
}

#[test]
fn g5_a_key_that_is_about_to_die_is_not_used_again() {
    let mut contract = prompt_card();
    contract.moves.values_mut().for_each(|rule| rule.key_life_ms = W + 2 * MINUTE);
    assert!(resent(by_card(contract.clone())));
    let mut desk = by_card(contract);
    desk.jump(i64::try_from(2 * MINUTE).unwrap());
    assert!(!resent(desk));
    let mut undeclared = prompt_card();
    undeclared.moves.values_mut().for_each(|rule| rule.key_life_ms = 0);
    assert!(!resent(by_card(undeclared)));
}

#[test]
fn g6_a_code_once_shown_is_payable_whatever_is_declined() {
    let mut desk = on_the_screen();
    desk.notice("a", refused(Class::User).about(desk.attempt(0).op_id.clone()));
    desk.look(0, refused(Class::DeclinedHard));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("action", 1));
    desk.look(0, Fact::new(What::NotFound));
    desk.look(0, paid());
    assert_eq!(desk.word(0), "success");
}

#[test]
fn g7_without_key_inquiry_and_close_there_is_no_second_account_after_a_doubt() {
    let both = policy(vec![account("a", bare()), account("b", bare())]);
    let mut none = Desk::new(both.clone());
    let asked = submission(token_method(&["a", "b"]));
    let refusal = none.put(Input::Submitted(asked.clone())).unwrap_err();
    assert!(format!("{refusal:?}").contains("NoWayOut"), "{refusal:?}");
    let mut both = both;
    both.routes[0].failover = Failover::NotSent;
    let mut desk = Desk::with(both, asked);
    let effects = desk.time_out();
    assert!(sends(&effects).is_empty());
    let effects = desk.run_for(80 * HOUR);
    assert!(effects.is_empty(), "there is nothing to send and nothing to ask: {effects:?}");
    assert!(desk.attempt(0).manual && desk.p().attempts.len() == 1);
}

#[test]
fn g8_a_bad_amount_is_a_doubt_with_an_alert_and_never_sent_again() {
    let mut desk = by_card(prompt_card());
    let other = Fact { amount: Some(crate::table::money(1)), ..paid() };
    desk.hear(other);
    assert!(desk.state(0).in_doubt() && desk.told().is_none());
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("amount_mismatch"));
    assert!(sends(&desk.run_for(HOUR)).is_empty());
}

#[test]
fn g9_a_no_counts_only_from_a_plugin_that_continues_the_exchange() {
    let reading = |reader: u32, in_force: u32, continues: Vec<u32>, fact: Fact| {
        let mut desk = by_card(card(NotFound::AfterFence));
        let exchange = desk.last(ExchangeKind::Authorize);
        let a = desk.policy.accounts.get_mut("a").unwrap();
        (a.state_version, a.continues) = (in_force, continues);
        let facts = vec![fact];
        desk.put(Input::Heard { exchange, status: 200, state_version: reader, facts }).unwrap();
        desk
    };
    let no = refused(Class::DeclinedHard);
    assert!(reading(2, 2, vec![2], no.clone()).state(0).in_doubt());
    assert_eq!(reading(2, 2, vec![1, 2], no.clone()).word(0), "failed");
    assert_eq!(reading(1, 2, vec![2], no.clone()).word(0), "failed");
    assert!(reading(3, 2, vec![1, 2], no).state(0).in_doubt());
    assert_eq!(reading(2, 2, vec![2], paid()).word(0), "success");
}

#[test]
fn g10_the_wall_clock_alone_proves_nothing() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    desk.jump(i64::try_from(10 * HOUR).unwrap());
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "fenced");
    desk.pass(W);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "failed");
    let mut desk = on_the_screen();
    desk.jump(i64::try_from(10 * HOUR).unwrap());
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "action");
}

#[test]
fn g10_a_clock_set_back_lengthens_no_keys_life_that_another_clock_has_ended() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    // The stamp's wall clock is the later one of the clock and the journal's high-water mark.
    desk.jump(i64::try_from(25 * HOUR).unwrap());
    assert!(sends(&desk.come_due()).is_empty());
    assert_eq!(desk.word(0), "fenced");
}

#[test]
fn g12_some_providers_admit_a_re_send_only_after_silence() {
    let mut contract = prompt_card();
    contract.moves.values_mut().for_each(|rule| rule.resend_after_silence_only = true);
    assert!(resent(by_card(contract.clone())));
    let mut desk = by_card(contract);
    let id = desk.last(ExchangeKind::Authorize);
    desk.hear_on(&id, 503, vec![]);
    assert_eq!(desk.word(0), "fenced");
    assert!(sends(&desk.run_for(HOUR)).is_empty());
}

#[test]
fn t7_needs_every_one_of_its_conditions() {
    assert!(resent(by_card(prompt_card())), "all of them hold");
    assert!(!resent(by_card(card(NotFound::AfterFence))), "it may be accepted asynchronously");
    let mut none = prompt_card();
    none.moves.values_mut().for_each(|rule| rule.class = IdempotencyClass::None);
    assert!(!resent(by_card(none)), "no key");
    let mut aside = prompt_card();
    aside.moves.values_mut().for_each(|rule| rule.concurrency = Concurrency::Undeclared);
    assert!(!resent(by_card(aside)), "the first copy may be in flight");
    let mut desk = by_card(prompt_card());
    desk.credential = false;
    assert!(!resent(desk), "no credential");
    let mut desk = by_card(prompt_card());
    desk.policy.accounts.get_mut("a").unwrap().identity = "another".into();
    assert!(!resent(desk), "another endpoint");
    let mut desk = by_card(prompt_card());
    desk.policy.accounts.get_mut("a").unwrap().continues = vec![2];
    assert!(!resent(desk), "the plugin does not read this continuation");
    let mut desk = by_card(prompt_card());
    desk.broken_plugin = true;
    assert!(!resent(desk), "the plugin builds nothing");
    let mut desk = by_card(prompt_card());
    let mut p = desk.payment.take().unwrap();
    p.attempts[0].track.exchanges[0].digest = "other bytes".into();
    desk.payment = Some(p);
    assert!(!resent(desk), "other bytes");
    let mut desk = by_card(prompt_card());
    desk.cancel().unwrap();
    assert!(!resent(desk), "its money would not be kept");
    let mut close = prompt_card();
    close.close.insert("*".into(), Close { repeatable: true, ..Close::default() });
    let mut desk = by_card(close);
    desk.time_out();
    desk.come_due();
    desk.hear(Fact::new(What::Pending));
    desk.run_for(2 * MINUTE);
    desk.lose(ExchangeKind::Close);
    desk.look(0, refused(Class::DeclinedSoft));
    desk.run_for(HOUR);
    assert_eq!((desk.word(0), desk.attempt(0).sends()), ("closing", 2), "a close was sent");
}

#[test]
fn t7_copies_that_may_run_side_by_side_wait_out_the_late_window() {
    let mut contract = card(NotFound::Undeclared);
    contract.moves = moves(IdempotencyClass::Strong, Concurrency::Undeclared);
    let mut desk = by_card(contract);
    desk.time_out();
    assert_eq!(desk.word(0), "ambiguous");
    let effects = desk.run_for(W - MINUTE);
    assert!(sends(&effects).is_empty());
    let effects = desk.run_for(10 * MINUTE);
    assert_eq!(sends(&effects).len(), 1);
}

#[test]
fn t7_is_over_when_the_shopper_has_left_and_there_is_another_way_out() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.pass(5 * HOUR);
    let effects = desk.put(Input::Due).unwrap();
    assert!(sends(&effects).is_empty());
    assert_eq!(desk.word(0), "fenced");
}

#[test]
fn t7_goes_slower_from_one_re_send_to_the_next() {
    let mut desk = by_card(prompt_card());
    let mut sent_at = Vec::new();
    for _ in 0..8 {
        desk.time_out();
        for _ in 0..50 {
            if desk.word(0) == "started" {
                break;
            }
            desk.come_due();
        }
        sent_at.push(desk.now.wall_ms);
    }
    let waits: Vec<i64> = sent_at.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(waits.last() > waits.first(), "{waits:?}");
}

#[test]
fn an_answer_that_leads_on_is_refused_when_the_doubt_was_fenced_meanwhile() {
    let next = |desk: &Desk| Input::GoesOn {
        exchange: desk.last(ExchangeKind::Authorize),
        draft: crate::table::draft(&interlock_engine::Call {
            account: "a".into(),
            kind: ExchangeKind::Authorize,
            op_id: "second".into(),
            amount: crate::table::money(1),
            method: "card".into(),
            flow: "token".into(),
            attempt: 0,
            provider_ref: None,
            reason: None,
            reserve: false,
            again: None,
        }),
    };
    let mut desk = by_card(prompt_card());
    let effects = desk.put(next(&desk)).unwrap();
    assert_eq!((sends(&effects).len(), desk.attempt(0).track.exchanges.len()), (1, 2));
    for spoil in [
        |d: &mut Desk| drop(d.cancel()),
        |d: &mut Desk| drop(d.time_out()),
        |d: &mut Desk| drop(d.restart()),
    ] {
        let mut desk = by_card(prompt_card());
        let input = next(&desk);
        spoil(&mut desk);
        let ver = desk.p().ver;
        assert!(desk.put(input).is_err());
        assert_eq!(desk.p().ver, ver, "and nothing is journalled");
    }
}

#[test]
fn a_second_step_that_did_not_leave_proves_nothing_of_the_first() {
    let mut desk = by_card(card(NotFound::Undeclared));
    let exchange = desk.last(ExchangeKind::Authorize);
    let call = interlock_engine::Call {
        account: "a".into(),
        kind: ExchangeKind::Authorize,
        op_id: "x".into(),
        amount: crate::table::money(1),
        method: "card".into(),
        flow: "token".into(),
        attempt: 0,
        provider_ref: None,
        reason: None,
        reserve: false,
        again: None,
    };
    desk.put(Input::GoesOn { exchange, draft: crate::table::draft(&call) }).unwrap();
    let second = desk.last(ExchangeKind::Authorize);
    desk.lose_on(&second, Sent::No);
    assert!(desk.state(0).in_doubt() && desk.p().attempts.len() == 1);
}

#[test]
fn an_account_without_a_way_out_takes_no_part_in_failover() {
    let accounts = vec![account("a", bare()), account("b", barcode())];
    let desk = Desk::with(policy(accounts), submission(token_method(&["a", "b"])));
    assert_eq!(desk.attempt(0).account, "b");
    assert!(desk.said("no_way_out"));
}

#[test]
fn no_wait_is_without_an_end_and_no_inquiry_is_answered_by_an_inquiry() {
    let answers = [
        Fact::new(What::NotFound),
        Fact::new(What::Pending),
        Fact::unknown("?"),
        refused(Class::DeclinedSoft),
        Fact::new(What::Expired),
        Fact::new(What::ClosedUnpaid),
        Fact::new(What::ClosedNothingFound),
        Fact::new(What::Failed),
        shown(),
    ];
    for fact in answers {
        let mut desk = by_card(card(NotFound::Undeclared));
        desk.time_out();
        for _ in 0..5 {
            let effects = desk.look(0, fact.clone());
            let again = |e: &Effect| matches!(e, Effect::Inquire { .. });
            assert!(!effects.iter().any(again), "{:?}", fact.what);
            let open = !desk.attempt(0).is_over();
            assert!(!open || desk.due.is_some_and(|at| at > desk.now.wall_ms), "{:?}", fact.what);
        }
    }
}
