//! What a restart, another node and a jumping clock mean for each state (SAFETY 2.9, G10).

use interlock_engine::{ExchangeKind, Input, OperationState, Sent, Settled, Subject};
use interlock_plugin_api::{Class, Fact, NotFound, What};

use crate::desk::{
    Desk, asks, at_the_till, authorized, by_card, on_the_screen, paid, refused, sends,
};
use crate::table::{
    HOUR, MINUTE, TIMEOUT, W, account, card, code, policy, prompt_card, qr_method, submission,
};

#[test]
fn what_was_on_the_wire_is_in_doubt_and_an_unshown_offer_is_not() {
    let mut desk = at_the_till();
    desk.restart();
    assert!(desk.state(0).in_doubt() && desk.p().attempts.len() == 1);
    let accounts = vec![account("a", code()), account("b", code())];
    let mut desk = Desk::with(policy(accounts), submission(qr_method()));
    desk.restart();
    assert_eq!((desk.word(0), desk.word(1)), ("failed", "started"));
}

#[test]
fn nothing_open_is_forgotten_by_a_restart() {
    let mut desks = vec![on_the_screen()];
    let mut pending = by_card(card(NotFound::AfterFence));
    pending.hear(Fact::new(What::Pending));
    desks.push(pending);
    let mut fenced = at_the_till();
    fenced.time_out();
    desks.push(fenced);
    let mut closing = at_the_till();
    closing.time_out();
    closing.look(0, Fact::new(What::NotFound));
    desks.push(closing);
    let mut due = at_the_till();
    due.cancel().unwrap();
    due.hear(paid());
    desks.push(due);
    for mut desk in desks {
        let before = desk.word(0);
        desk.restart();
        assert_eq!(desk.word(0), before);
        assert_eq!(desk.due, Some(desk.now.wall_ms), "{before}");
        assert!(!desk.put(Input::Due).unwrap().is_empty(), "{before}");
    }
    let mut desk = at_the_till();
    desk.hear(paid());
    let ver = desk.p().ver;
    desk.restart();
    assert_eq!(desk.p().ver, ver, "what is at rest stays at rest");
}

#[test]
fn an_operation_on_the_wire_is_in_doubt() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", None).unwrap();
    let effects = desk.restart();
    assert_eq!(desk.op(0).state, OperationState::Fenced);
    assert!(asks(&effects, Subject::Operation(0)));
    desk.look_op(0, Fact::new(What::Captured));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn a_restart_between_the_commit_and_the_send_loses_nothing() {
    // The version is durable and its effects never happened.
    let mut desk = at_the_till();
    desk.restart();
    desk.look(0, Fact::new(What::NotFound));
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedNothingFound));
    assert_eq!(desk.word(0), "closing");
    desk.run_for(W + 2 * TIMEOUT);
    desk.look(0, Fact::unknown("busy"));
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedNothingFound));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn a_wait_begins_anew_after_a_restart() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    desk.pass(W - MINUTE);
    desk.restart();
    desk.pass(2 * MINUTE);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "fenced");
    desk.pass(W);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn the_wait_for_an_offers_end_begins_anew_too() {
    let mut desk = on_the_screen();
    desk.pass(2 * HOUR);
    desk.restart();
    desk.pass(HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "action");
    desk.pass(2 * HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("failed", 1));
}

#[test]
fn another_node_proves_nothing_by_a_wait_that_it_did_not_see() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    desk.pass(2 * W);
    desk.other_process();
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "fenced");
}

#[test]
fn two_nodes_that_take_turns_do_not_begin_every_wait_again() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    let first = desk.now;
    let mut second = interlock_engine::Stamp { boot: 9, ..first };
    let mut turns = 0;
    while desk.word(0) == "fenced" {
        turns += 1;
        assert!(turns < 200, "it never ends");
        let wait = desk.due.unwrap() - desk.now.wall_ms;
        desk.pass(u64::try_from(wait.max(1)).unwrap());
        std::mem::swap(&mut desk.now, &mut second);
        let ahead = second.wall_ms - desk.now.wall_ms;
        desk.pass(u64::try_from(ahead.max(0)).unwrap());
        desk.put(Input::Due).unwrap();
        desk.look(0, Fact::new(What::NotFound));
    }
    assert_eq!(desk.word(0), "failed");
    assert!(desk.now.wall_ms - first.wall_ms < 3 * i64::try_from(W).unwrap());
}

#[test]
fn two_nodes_that_take_turns_end_the_doubt_of_an_operation_too() {
    let mut desk = by_card(card(NotFound::AfterFence));
    // The ladder is as slow as it becomes: only the ends of waits are soon.
    desk.policy.ladder.steps_ms = vec![HOUR];
    desk.hear(paid());
    desk.refund("r1", None).unwrap();
    desk.lose(ExchangeKind::Refund);
    let first = desk.now;
    let mut second = interlock_engine::Stamp { boot: 9, ..first };
    let mut turns = 0;
    while desk.op(0).state.is_open() {
        turns += 1;
        assert!(turns < 200, "it never ends");
        let wait = desk.due.unwrap() - desk.now.wall_ms;
        desk.pass(u64::try_from(wait.max(1)).unwrap());
        std::mem::swap(&mut desk.now, &mut second);
        let ahead = second.wall_ms - desk.now.wall_ms;
        desk.pass(u64::try_from(ahead.max(0)).unwrap());
        desk.put(Input::Due).unwrap();
        desk.look_op(0, Fact::new(What::NotFound));
    }
    assert_eq!(desk.op(0).state, OperationState::Rejected);
    assert!(desk.now.wall_ms - first.wall_ms < 3 * i64::try_from(W).unwrap());
}

#[test]
fn another_node_takes_a_send_over_when_its_time_is_over_and_late_answers_still_count() {
    let mut desk = by_card(prompt_card());
    let first = desk.last(ExchangeKind::Authorize);
    desk.other_process();
    desk.come_due();
    assert_eq!(desk.word(0), "ambiguous");
    desk.come_due();
    assert_eq!(desk.attempt(0).sends(), 2);
    desk.hear_on(&first, 200, vec![paid()]);
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    desk.lose_on(&first, Sent::Maybe);
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn the_process_that_sends_waits_for_its_own_socket() {
    let mut desk = at_the_till();
    desk.sending = true;
    desk.come_due();
    assert_eq!(desk.word(0), "started");
    assert!(desk.due.unwrap() > desk.now.wall_ms);
}

#[test]
fn after_a_restart_the_credential_is_gone_and_nothing_is_sent_again() {
    let mut desk = by_card(prompt_card());
    let effects = desk.restart();
    assert_eq!(desk.word(0), "fenced");
    assert!(sends(&effects).is_empty() && asks(&effects, Subject::Attempt(0)));
    desk.pass(W + TIMEOUT);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("failed", 1));
    assert!(desk.said("credential_gone"));
    assert_eq!(desk.told(), Some(Settled::Failed));
}

#[test]
fn a_jump_of_the_wall_clock_hurries_looks_and_proves_nothing() {
    for hours in [-30, 30] {
        let mut desk = by_card(card(NotFound::AfterFence));
        desk.time_out();
        desk.jump(hours * i64::try_from(HOUR).unwrap());
        desk.put(Input::Due).unwrap();
        desk.look(0, Fact::new(What::NotFound));
        desk.look(0, refused(Class::DeclinedSoft));
        assert!(desk.p().attempts.len() <= 2);
        let mut desk = by_card(prompt_card());
        desk.time_out();
        desk.jump(hours * i64::try_from(HOUR).unwrap());
        desk.put(Input::Due).unwrap();
        assert_eq!(desk.p().attempts.len(), 1);
    }
}

/// A node that starts finds every open payment of the cluster, also those that another node has in
/// its hands this very moment: what that node may still send counts until its timeout.
#[test]
fn what_a_living_process_may_still_send_is_waited_for() {
    let mut desk = by_card(card(NotFound::AfterFence));
    let may_leave_until = desk.now.wall_ms + i64::try_from(TIMEOUT).unwrap();
    desk.restart();
    let begun = desk.now;
    desk.pass(W);
    desk.look(0, Fact::new(What::NotFound));
    assert!(desk.now.wall_ms < may_leave_until + i64::try_from(W).unwrap());
    assert_eq!((desk.told(), desk.p().attempts.len()), (None, 1), "a copy may still arrive");
    desk.pass(TIMEOUT);
    assert!(desk.now.saw_pass(begun, W + TIMEOUT));
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn a_payment_that_became_known_needs_no_operator() {
    let mut desk = by_card(card(NotFound::Undeclared));
    desk.time_out();
    desk.run_for(80 * HOUR);
    assert!(desk.attempt(0).manual);
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    assert!(!desk.attempt(0).manual && desk.attempt(0).alert.is_none());
}

/// What only a version that is gone could read is not dropped without a word.
#[test]
fn a_failure_that_this_version_can_not_read_alerts() {
    let mut desk = at_the_till();
    desk.hear(paid());
    desk.refund("r1", None).unwrap();
    let done = Fact::new(What::Refunded);
    desk.hear_of(ExchangeKind::Refund, done);
    let number = desk.op(0).op_id.clone();
    let account = desk.policy.accounts.get_mut("a").unwrap();
    (account.state_version, account.continues) = (2, vec![2]);
    let bounced = Fact { what: What::Failed, ..refused(Class::Unmapped) }.about(number);
    let facts = vec![bounced];
    desk.put(Input::Noticed { account: "a".into(), state_version: 2, facts }).unwrap();
    assert_eq!(desk.op(0).state, OperationState::Done);
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("plugin_version"));
}

/// The configuration of the process that takes over may be another one.
#[test]
fn a_longer_timeout_of_the_process_before_is_waited_for() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.policy.accounts.get_mut("a").unwrap().timeout_ms = 1_000;
    desk.restart();
    desk.pass(W + TIMEOUT - 1);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.told(), None, "a copy may still arrive");
    desk.pass(1);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "failed");
}

/// What only waits is not told over and over beside something graver.
#[test]
fn an_alert_about_waiting_neither_hides_a_graver_one_nor_fills_the_timeline() {
    let mut desk = by_card(card(NotFound::Undeclared));
    desk.time_out();
    let wrong = Fact::new(What::Captured).with_amount(crate::table::money(1));
    desk.look(0, wrong);
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("amount_mismatch"));
    desk.run_for(200 * HOUR);
    assert!(desk.attempt(0).manual);
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("amount_mismatch"));
    let told = desk.lines.iter().filter(|(what, _)| what == "alert").count();
    assert_eq!(told, 1);
}
