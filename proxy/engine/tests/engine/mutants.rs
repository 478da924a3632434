//! Unsafe rules that others use (SAFETY section 4): each test fails if the engine used that rule.
//!
//! The scenario of each is the shortest one in which the rule would charge twice, lose a charge, or
//! tell a lie.

use std::collections::BTreeMap;

use interlock_engine::{Effect, ExchangeKind, Input, Outcome, Sent, Settled, Subject};
use interlock_plugin_api::{
    Class, Close, Concurrency, Contract, Fact, IdempotencyClass, NotFound, What,
};

use crate::desk::{Desk, at_the_till, by_card, on_the_screen, paid, refused, sends};
use crate::table::{
    HOUR, MINUTE, TIMEOUT, W, barcode_method, card, moves, prompt_card, submission,
};

const CLOSE: ExchangeKind = ExchangeKind::Close;

fn alone(desk: &Desk) -> bool {
    desk.p().attempts.len() == 1
}

/// A card that was sent twice, at a provider with a close.
fn twice_with_a_close(repeatable: bool) -> Desk {
    let close = Close { repeatable, ..Close::default() };
    let contract = Contract { close: BTreeMap::from([("*".to_owned(), close)]), ..prompt_card() };
    let mut desk = by_card(contract);
    desk.time_out();
    desk.come_due();
    desk.time_out();
    desk.credential = false;
    desk.come_due();
    assert_eq!((desk.word(0), desk.attempt(0).sends()), ("fenced", 2));
    desk
}

#[test]
fn fail_over_on_timeout() {
    let mut desk = at_the_till();
    let effects = desk.time_out();
    assert!(alone(&desk) && sends(&effects).is_empty());
    desk.run_for(24 * HOUR);
    assert!(alone(&desk));
}

#[test]
fn trust_not_found() {
    for belief in [NotFound::AfterFence, NotFound::Undeclared] {
        let mut desk = by_card(card(belief));
        desk.time_out();
        desk.look(0, Fact::new(What::NotFound));
        assert!(alone(&desk) && desk.told().is_none());
    }
}

#[test]
fn not_found_asked_before_the_window_and_received_after_it() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    let asked = desk.asking();
    desk.pass(W + HOUR);
    desk.answer(Subject::Attempt(0), asked, vec![Fact::new(What::NotFound)]);
    assert!(alone(&desk));
}

#[test]
fn send_again_after_the_fence() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.credential = false;
    desk.come_due();
    assert_eq!(desk.word(0), "fenced");
    desk.credential = true;
    assert!(sends(&desk.run_for(2 * HOUR)).is_empty());
    desk.look(0, Fact::new(What::Pending));
    assert!(sends(&desk.run_for(2 * HOUR)).is_empty());
}

#[test]
fn trust_a_decline_after_a_re_send_where_only_success_is_remembered() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    desk.hear(refused(Class::DeclinedSoft).of_key());
    assert!(alone(&desk) && desk.told().is_none());
}

#[test]
fn send_again_to_a_provider_without_idempotency() {
    let contract = Contract { moves: BTreeMap::new(), ..card(NotFound::Undeclared) };
    let mut desk = by_card(contract);
    desk.time_out();
    assert!(sends(&desk.run_for(24 * HOUR)).is_empty());
}

#[test]
fn send_again_while_the_first_copy_may_be_in_flight() {
    let contract = Contract {
        moves: moves(IdempotencyClass::Strong, Concurrency::Undeclared),
        ..card(NotFound::Undeclared)
    };
    let mut desk = by_card(contract);
    desk.time_out();
    assert!(sends(&desk.run_for(W - MINUTE)).is_empty());
    // Nor does a clock that was set forward let the window pass.
    desk.jump(i64::try_from(2 * W).unwrap());
    let again = desk.put(Input::Due).unwrap();
    assert!(sends(&again).is_empty());
}

#[test]
fn a_refusal_of_one_send_taken_as_the_keys_answer() {
    let contract = Contract {
        moves: moves(IdempotencyClass::Strong, Concurrency::Excluded),
        ..card(NotFound::AfterFence)
    };
    let mut desk = by_card(contract);
    desk.time_out();
    desk.come_due();
    let id = desk.last(ExchangeKind::Authorize);
    desk.hear_on(&id, 401, vec![refused(Class::AccountRestricted)]);
    assert!(alone(&desk) && desk.state(0).in_doubt());
}

#[test]
fn a_new_code_before_the_old_one_is_proven_closed() {
    let mut desk = on_the_screen();
    let request = interlock_engine::Request::Switch { key: "s".into(), method: barcode_method() };
    desk.put(Input::Merchant(request)).unwrap();
    assert!(alone(&desk));
    desk.lose(CLOSE);
    desk.look(0, Fact::new(What::NotFound));
    desk.hear_of(CLOSE, Fact::new(What::ClosedNothingFound));
    assert!(alone(&desk), "nobody has scanned it: it can still be paid");
    desk.look(0, refused(Class::User));
    assert!(alone(&desk));
    desk.run_for(2 * HOUR + 11 * MINUTE);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.p().attempts.len(), 2);
    assert_eq!(desk.attempt(1).flow, "barcode");
}

#[test]
fn a_close_that_refunded_taken_as_unpaid() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    desk.hear_of(CLOSE, Fact::new(What::ClosedRefunded).with_provider_ref("ref-1"));
    assert_eq!(desk.word(0), "reversed");
    // The charge that was given back is heard of late: it is no second charge and no success.
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("reversed", 2));
}

#[test]
fn another_account_after_a_cancel() {
    for answer in [refused(Class::DeclinedSoft), refused(Class::RateLimited)] {
        let mut desk = at_the_till();
        desk.cancel().unwrap();
        desk.hear(answer);
        assert!(alone(&desk));
        assert_eq!(desk.told(), Some(Settled::Canceled));
    }
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    let id = desk.last(ExchangeKind::Authorize);
    desk.lose_on(&id, Sent::No);
    assert!(alone(&desk) && desk.told() == Some(Settled::Canceled));
}

#[test]
fn a_refund_tried_again_under_a_new_number() {
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    desk.hear(paid());
    desk.look(0, paid());
    let number = desk.op(0).op_id.clone();
    desk.lose(ExchangeKind::Refund);
    for _ in 0..10 {
        desk.look(0, paid());
        desk.come_due();
    }
    assert!(desk.p().operations.iter().all(|o| o.op_id == number));
}

#[test]
fn a_decline_on_a_shown_offer_taken_as_final() {
    let mut desk = on_the_screen();
    desk.look(0, refused(Class::DeclinedHard));
    desk.notice("a", refused(Class::User).about(desk.attempt(0).op_id.clone()));
    assert!(alone(&desk) && desk.told().is_none());
    assert_eq!(desk.status().0, "requires_action");
}

#[test]
fn an_accepted_request_sent_again() {
    let mut desk = by_card(prompt_card());
    desk.hear(Fact::new(What::Pending));
    assert!(sends(&desk.run_for(2 * HOUR)).is_empty());
    // Even when what was accepted becomes a doubt.
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    desk.hear(Fact::new(What::Pending));
    desk.look(0, refused(Class::DeclinedSoft));
    assert!(desk.state(0).in_doubt());
    assert!(sends(&desk.run_for(2 * HOUR)).is_empty());
}

#[test]
fn an_unpaid_close_believed_across_a_re_send() {
    for what in [What::ClosedUnpaid, What::ClosedNothingFound] {
        let mut desk = twice_with_a_close(true);
        let mut early = desk.payment.clone().unwrap();
        // A close that was sent before the window was over.
        desk.look(0, Fact::new(What::NotFound));
        assert!(!desk.attempt(0).track.was_closed(), "an early close would prove nothing");
        early = desk.payment.clone().unwrap_or(early);
        desk.cancel().unwrap();
        let id = desk.last(CLOSE);
        desk.hear_on(&id, 200, vec![Fact::new(what)]);
        assert_eq!((desk.word(0), desk.told()), ("closing", None), "{what:?}");
        // The same close, sent behind the fence and after the window, ends it.
        desk.payment = Some(early);
        desk.due = Some(desk.now.wall_ms);
        desk.pass(W + TIMEOUT);
        desk.look(0, Fact::new(What::NotFound));
        assert!(desk.attempt(0).is_over() || desk.attempt(0).track.was_closed());
    }
    // Not even where the order was seen before: the other copy makes another order.
    let mut desk = twice_with_a_close(true);
    desk.look(0, Fact::new(What::Pending));
    desk.cancel().unwrap();
    assert!(desk.attempt(0).track.of(CLOSE).all(|x| x.order_seen));
    desk.hear_of(CLOSE, Fact::new(What::ClosedNothingFound));
    assert_eq!(desk.told(), None);
    // A close that is unanswered may be the one that is told of: it was sent too early.
    let mut desk = twice_with_a_close(true);
    desk.cancel().unwrap();
    desk.lose(CLOSE);
    desk.pass(W + TIMEOUT);
    desk.come_due();
    desk.look(0, Fact::unknown("?"));
    desk.hear_of(CLOSE, Fact::new(What::ClosedUnpaid));
    assert_eq!(desk.told(), None);
}

#[test]
fn nothing_found_believed_before_the_order_was_seen() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    desk.hear_of(CLOSE, Fact::new(What::ClosedNothingFound));
    assert!(alone(&desk), "the first copy may arrive later");
    desk.pass(W + TIMEOUT);
    desk.look(0, Fact::unknown("?"));
    desk.hear_of(CLOSE, Fact::new(What::ClosedNothingFound));
    assert_eq!((desk.word(0), desk.word(1)), ("failed", "started"));
}

#[test]
fn a_success_acknowledged_while_a_close_is_unanswered() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    desk.look(0, paid());
    desk.look(0, paid());
    assert_eq!((desk.told(), desk.status().0), (None, "processing"));
}

#[test]
fn send_before_durable() {
    // Effects exist only with the version that holds their exchanges.
    let mut desk = at_the_till();
    let check = |desk: &Desk, effects: &[Effect]| {
        for id in sends(effects) {
            let p = desk.p();
            let tracks = p.attempts.iter().map(|a| &a.track);
            let mut tracks = tracks.chain(p.operations.iter().map(|o| &o.track));
            let x = tracks.find_map(|t| t.exchange(id)).expect("its exchange is durable");
            assert!(x.sends > 0 && x.reply == interlock_engine::Reply::Open);
            assert!(x.last_send_by.wall_ms > desk.now.wall_ms);
        }
    };
    let effects = desk.time_out();
    check(&desk, &effects);
    let effects = desk.look(0, Fact::new(What::NotFound));
    assert_eq!(sends(&effects).len(), 1);
    check(&desk, &effects);
    let effects = desk.hear_of(CLOSE, Fact::new(What::ClosedUnpaid));
    assert_eq!(sends(&effects).len(), 1);
    check(&desk, &effects);
    desk.hear(paid());
    let effects = desk.refund("r1", None).unwrap();
    check(&desk, &effects);
}

#[test]
fn acknowledge_before_durable() {
    // What the merchant is told is read from a version; a decision that is not committed tells
    // nothing, and asking again with the same input decides the same again.
    let desk = at_the_till();
    let exchange = desk.last(ExchangeKind::Authorize);
    let input = Input::Heard { exchange, status: 200, state_version: 1, facts: vec![paid()] };
    let Outcome::Commit(decision) = desk.ask_engine(&input) else { panic!("it commits") };
    assert_eq!(decision.next.settled, Some(Settled::Succeeded));
    assert_eq!((desk.told(), desk.status().0), (None, "processing"));
    assert_eq!(decision.next.ver, desk.p().ver + 1);
}

#[test]
fn drop_a_late_success() {
    let mut desk = at_the_till();
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!(desk.told(), Some(Settled::Failed));
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.word(0), "refund_due");
    assert!(desk.due.is_some());
    // The first answer was lost on the way; it is read after the doubt was closed.
    let mut desk = at_the_till();
    let first = desk.last(ExchangeKind::Authorize);
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    desk.hear_of(CLOSE, Fact::new(What::ClosedUnpaid));
    desk.hear_on(&first, 200, vec![paid()]);
    assert!(desk.attempt(0).unconfirmed.is_some());
}

#[test]
fn an_order_that_is_live_gets_no_second_payment() {
    let mut desk = at_the_till();
    let holder = desk.p().id.clone();
    desk.payment = None;
    desk.order = Some(interlock_engine::OrderHolder { payment: holder, succeeded: false });
    let mut asked = submission(barcode_method());
    (asked.key, asked.another) = ("k2".into(), true);
    assert!(desk.put(Input::Submitted(asked)).is_err());
}
