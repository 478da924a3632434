//! What must not be kept: cancels in every state, caps, bounced refunds, refused voids.

use interlock_engine::{AttemptState, ExchangeKind, OperationState, Settled, Subject};
use interlock_plugin_api::{
    Class, Concurrency, Contract, Fact, IdempotencyClass, Inquiry, NotFound, What,
};

use crate::desk::{
    Desk, asks, at_the_till, authorized, by_card, held, on_the_screen, paid, refused, sends,
};
use crate::table::{HOUR, MINUTE, card, moves, prompt_card};

const REFUND: ExchangeKind = ExchangeKind::Refund;
const VOID: ExchangeKind = ExchangeKind::Void;

/// A charge after a cancel, due to be given back.
fn due() -> Desk {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    desk.hear(paid());
    assert_eq!(desk.word(0), "refund_due");
    desk
}

#[test]
fn a_cancel_while_it_is_on_the_wire_waits_for_the_answer() {
    let mut desk = at_the_till();
    let effects = desk.cancel().unwrap();
    assert!(sends(&effects).is_empty() && desk.told().is_none());
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Canceled), 1));
}

#[test]
fn a_cancel_of_a_doubt_is_told_only_when_the_doubt_is_over() {
    let mut desk = at_the_till();
    desk.time_out();
    let effects = desk.cancel().unwrap();
    assert!(sends(&effects)[0].contains("close") && desk.told().is_none());
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedUnpaid));
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Canceled), 1));
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.cancel().unwrap();
    assert!(sends(&desk.run_for(MINUTE)).is_empty());
    assert_eq!((desk.word(0), desk.told()), ("fenced", None));
}

#[test]
fn a_cancel_of_a_shown_code_closes_it_and_accepts_that_it_was_paid() {
    let mut desk = on_the_screen();
    desk.cancel().unwrap();
    assert_eq!(desk.status(), ("processing", Some("closing")));
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedUnpaid));
    assert_eq!(desk.told(), Some(Settled::Canceled));
    let mut desk = on_the_screen();
    desk.cancel().unwrap();
    desk.hear_of(ExchangeKind::Close, paid());
    assert_eq!(desk.told(), None);
    desk.look(0, paid());
    assert_eq!(desk.word(0), "refund_due");
}

#[test]
fn a_cancel_without_a_close_waits_for_the_offers_own_end() {
    let mut desk = on_the_screen();
    desk.policy.accounts.get_mut("a").unwrap().contract.close.clear();
    assert!(sends(&desk.cancel().unwrap()).is_empty());
    desk.run_for(3 * HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.told(), Some(Settled::Canceled));
}

#[test]
fn a_cancel_of_what_is_final_is_refused() {
    let mut desk = at_the_till();
    desk.hear(paid());
    assert!(desk.cancel().is_err());
}

#[test]
fn the_caps_hold_a_refund_back_until_they_admit_it() {
    let mut desk = due();
    desk.health.no_refunds = true;
    assert!(sends(&desk.look(0, paid())).is_empty());
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("refund_cap"));
    assert!(desk.due.is_some());
    desk.health.no_refunds = false;
    assert_eq!(sends(&desk.look(0, paid())).len(), 1);
}

#[test]
fn no_second_refund_is_made_while_the_first_is_open() {
    let mut desk = due();
    desk.look(0, paid());
    desk.lose(REFUND);
    for _ in 0..5 {
        desk.pass(MINUTE);
        desk.look(0, paid());
    }
    assert_eq!(desk.p().operations.len(), 1);
}

#[test]
fn a_refused_refund_is_made_anew_under_another_number_while_an_operator_looks() {
    let mut desk = due();
    for n in 0..3 {
        let effects = desk.look(0, paid());
        assert_eq!(sends(&effects).len(), 1, "{n}");
        desk.hear_of(REFUND, refused(Class::DeclinedHard));
        assert_eq!(desk.op(n).state, OperationState::Rejected);
        assert!(sends(&desk.look(0, paid())).is_empty(), "at the ladder's pace");
        assert!(desk.due.is_some());
        desk.pass(MINUTE);
    }
    assert_ne!(desk.op(0).op_id, desk.op(1).op_id);
    assert_eq!(sends(&desk.look(0, paid())).len(), 1);
    assert!(desk.attempt(0).manual && desk.due.is_some());
    desk.hear_of(REFUND, Fact::new(What::Refunded));
    assert_eq!(desk.attempt(0).state, AttemptState::Refunded);
}

#[test]
fn a_bounced_refund_of_a_duplicate_is_due_again() {
    let mut desk = due();
    desk.look(0, paid());
    desk.hear_of(REFUND, Fact::new(What::Refunded));
    assert_eq!(desk.told(), Some(Settled::Canceled));
    let bounced = Fact::new(What::Failed).about(desk.op(0).op_id.clone());
    desk.notice("a", bounced);
    assert_eq!((desk.word(0), desk.op(0).state), ("refund_due", OperationState::Reversed));
    desk.pass(MINUTE);
    desk.look(0, paid());
    desk.hear_of(REFUND, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.told()), ("refunded", Some(Settled::Canceled)));
}

#[test]
fn a_refund_that_was_taken_for_done_while_it_was_open_is_due_again_when_it_fails() {
    let mut desk = due();
    let asked = desk.asking();
    desk.look(0, paid());
    desk.lose(REFUND);
    desk.answer(Subject::Attempt(0), asked, vec![Fact::new(What::Refunded)]);
    assert_eq!(desk.word(0), "refunded");
    desk.notice("a", Fact::new(What::Failed).about(desk.op(0).op_id.clone()));
    assert_eq!(desk.word(0), "refund_due");
}

#[test]
fn without_inquiry_what_is_due_is_given_back_at_once() {
    let moves = moves(IdempotencyClass::Strong, Concurrency::Excluded);
    let contract = Contract { moves, inquiry: Inquiry::default(), ..card(NotFound::Undeclared) };
    let mut desk = by_card(contract);
    desk.cancel().unwrap();
    desk.hear(paid());
    let effects = desk.come_due();
    assert_eq!(sends(&effects).len(), 1);
}

#[test]
fn a_void_that_finds_it_captured_becomes_a_refund() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    desk.hear(held());
    let effects = desk.hear_of(VOID, refused(Class::DeclinedHard));
    assert!(asks(&effects, Subject::Attempt(0)) && desk.due.is_some());
    desk.look(0, paid());
    assert_eq!((desk.word(0), desk.told()), ("refund_due", None));
    let effects = desk.look(0, paid());
    assert!(sends(&effects)[0].contains("refund"));
}

#[test]
fn a_refused_void_is_tried_again_and_never_forgotten() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    for n in 1..=3 {
        assert_eq!(desk.p().operations.len(), n);
        desk.hear_of(VOID, refused(Class::DeclinedHard));
        desk.look(0, held());
        assert!(desk.due.is_some());
        desk.run_for(HOUR);
    }
    assert!(desk.attempt(0).manual && desk.due.is_some());
    assert_eq!(desk.status().0, "processing");
}

#[test]
fn a_hold_that_must_not_be_kept_and_was_captured_is_refunded() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    desk.hear_of(VOID, Fact::new(What::Voided));
    desk.notice("a", held().with_provider_ref("ref-2").about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.word(1), "refund_due");
    let effects = desk.look(1, paid().with_provider_ref("ref-2"));
    assert!(sends(&effects)[0].contains("refund"));
}

/// The refund was done when it was asked about, and bounced before the answer came.
#[test]
fn an_inquiry_in_flight_when_a_refund_fails_is_void() {
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    desk.hear(paid());
    desk.look(0, paid());
    let number = desk.op(0).op_id.clone();
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Pending));
    let asked = desk.asking();
    let bounced = Fact { what: What::Failed, ..refused(Class::Unmapped) }.about(number);
    desk.notice("a", bounced);
    desk.answer(Subject::Attempt(0), asked, vec![Fact::new(What::Refunded)]);
    assert_eq!((desk.word(0), desk.told()), ("refund_due", None));
    desk.pass(MINUTE);
    desk.look(0, paid());
    assert_eq!(desk.p().operations.len(), 2, "it is given back again");
}
