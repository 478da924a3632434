//! Captures, voids and refunds (SAFETY section 2.7): guards, doubts, failures that overtake.

use interlock_engine::{ExchangeKind, OperationState, Refusal, Sent, Settled, Subject};
use interlock_plugin_api::{
    Class, Concurrency, Contract, Fact, IdempotencyClass, Inquiry, NotFound, What,
};

use crate::desk::{Desk, asks, authorized, authorizing, by_card, held, paid, refused, sends};
use crate::table::{AMOUNT, HOUR, MINUTE, W, card, money, moves, prompt_card};

const CAPTURE: ExchangeKind = ExchangeKind::Capture;
const REFUND: ExchangeKind = ExchangeKind::Refund;

fn charged(contract: Contract) -> Desk {
    let mut desk = by_card(contract);
    desk.hear(paid());
    desk
}

fn refunding(contract: Contract) -> Desk {
    let mut desk = charged(contract);
    desk.refund("r1", None).unwrap();
    desk
}

fn blind(contract: Contract) -> Contract {
    Contract { operation_inquiry: Inquiry::default(), ..contract }
}

fn strong() -> Contract {
    Contract {
        moves: moves(IdempotencyClass::Strong, Concurrency::Excluded),
        ..card(NotFound::AfterFence)
    }
}

fn done() -> Fact {
    Fact::new(What::Refunded).with_amount(money(AMOUNT))
}

fn failed(desk: &Desk) -> Fact {
    Fact::new(What::Failed).about(desk.op(0).op_id.clone())
}

#[test]
fn captures_stay_within_the_authorization() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", Some(3_000)).unwrap();
    assert!(matches!(desk.capture("c2", Some(2_000)), Err(Refusal::Unprocessable { .. })));
    desk.capture("c3", Some(1_900)).unwrap();
    assert!(matches!(desk.capture("c4", Some(1)), Err(Refusal::InvalidState { .. })));
    assert!(matches!(desk.capture("c5", None), Err(Refusal::InvalidState { .. })));
}

#[test]
fn a_refused_capture_leaves_its_amount_free_and_an_ambiguous_one_does_not() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", None).unwrap();
    desk.hear_of(CAPTURE, refused(Class::DeclinedSoft));
    assert_eq!(desk.status().0, "requires_capture");
    desk.capture("c2", None).unwrap();
    desk.lose(CAPTURE);
    assert_eq!(desk.op(1).state, OperationState::Fenced);
    assert!(desk.capture("c3", None).is_err());
}

#[test]
fn a_void_names_the_number_that_came_with_the_answer_which_made_it_due() {
    let mut desk = authorizing(card(NotFound::AfterFence));
    desk.by_number = true;
    desk.cancel().unwrap();
    let effects = desk.hear(held());
    assert!(!desk.said("not_prepared"), "{:?}", desk.lines);
    assert_eq!(desk.op(0).kind, ExchangeKind::Void);
    assert_eq!(sends(&effects).len(), 1);
}

#[test]
fn a_capture_and_a_void_never_cross() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", Some(100)).unwrap();
    assert!(matches!(desk.cancel(), Err(Refusal::InvalidState { .. })));
    desk.lose(CAPTURE);
    assert!(desk.cancel().is_err(), "a doubt is unsettled too");
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    assert!(desk.capture("c1", None).is_err());
    desk.lose(ExchangeKind::Void);
    assert!(desk.capture("c2", None).is_err());
}

#[test]
fn refunds_stay_within_what_was_captured() {
    let mut desk = authorized(card(NotFound::AfterFence));
    assert!(desk.refund("r0", None).is_err());
    desk.capture("c1", Some(3_000)).unwrap();
    desk.hear_of(CAPTURE, Fact::new(What::Captured));
    desk.refund("r1", Some(2_500)).unwrap();
    assert!(desk.refund("r2", Some(501)).is_err());
    desk.hear_of(REFUND, refused(Class::DeclinedHard));
    desk.refund("r3", Some(3_000)).unwrap();
    assert!(desk.refund("r4", Some(1)).is_err());
}

#[test]
fn one_key_makes_one_operation_for_ever() {
    let mut desk = charged(card(NotFound::AfterFence));
    desk.refund("r1", Some(100)).unwrap();
    let first = desk.op(0).op_id.clone();
    assert!(desk.refund("r1", Some(100)).unwrap().is_empty());
    desk.hear_of(REFUND, refused(Class::DeclinedHard));
    assert!(desk.refund("r1", Some(100)).unwrap().is_empty());
    assert_eq!((desk.p().operations.len(), &desk.op(0).op_id), (1, &first));
    desk.refund("r2", Some(100)).unwrap();
    assert_ne!(desk.op(1).op_id, first);
    let mut again = charged(card(NotFound::AfterFence));
    again.refund("r1", Some(100)).unwrap();
    assert_eq!(again.op(0).op_id, first, "a row lost with a disk repeats the number");
}

#[test]
fn an_operation_is_sent_again_under_its_number_or_fenced() {
    let mut desk = refunding(prompt_card());
    desk.lose(REFUND);
    assert_eq!(desk.op(0).state, OperationState::Ambiguous);
    assert_eq!(sends(&desk.come_due()).len(), 1);
    assert_eq!((desk.op(0).track.moved(), desk.p().operations.len()), (2, 1));
    let mut desk = refunding(card(NotFound::AfterFence));
    desk.lose(REFUND);
    assert_eq!(desk.op(0).state, OperationState::Fenced);
    assert!(sends(&desk.run_for(HOUR)).is_empty());
}

#[test]
fn an_operation_that_did_not_leave_is_sent_as_a_first_send() {
    let mut desk = refunding(card(NotFound::Undeclared));
    let first = desk.last(REFUND);
    desk.lose_on(&first, Sent::No);
    assert_eq!(desk.op(0).track.moved(), 0);
    let effects = desk.come_due();
    assert_eq!(sends(&effects).len(), 1);
    desk.lose_on(&first, Sent::No);
    assert_eq!(desk.op(0).track.moved(), 1, "the old proof says nothing about the new send");
    assert_eq!(desk.op(0).state, OperationState::Started);
}

#[test]
fn a_refund_ends_by_not_found_only_behind_the_fence_and_after_the_window() {
    let mut desk = refunding(card(NotFound::AfterFence));
    desk.lose(REFUND);
    let early = desk.asking();
    desk.pass(W);
    desk.answer(Subject::Operation(0), early, vec![Fact::new(What::NotFound)]);
    assert_eq!(desk.op(0).state, OperationState::Fenced);
    desk.look_op(0, Fact::new(What::NotFound));
    assert_eq!(desk.op(0).state, OperationState::Rejected);
}

#[test]
fn a_decline_after_a_re_send_ends_an_operation_only_behind_the_fence() {
    let mut desk = refunding(prompt_card());
    desk.lose(REFUND);
    desk.come_due();
    desk.hear_of(REFUND, refused(Class::DeclinedHard).of_key());
    assert!(desk.op(0).state.is_open());
}

#[test]
fn what_was_declined_after_a_re_send_is_not_tried_again_and_ends_behind_the_fence() {
    let mut desk = refunding(prompt_card());
    desk.lose(REFUND);
    desk.come_due();
    desk.hear_of(REFUND, refused(Class::DeclinedHard));
    assert_eq!(desk.op(0).state, OperationState::Fenced);
    assert!(sends(&desk.run_for(HOUR)).is_empty());
    desk.look_op(0, refused(Class::DeclinedHard));
    assert_eq!(desk.op(0).state, OperationState::Rejected);
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!(desk.word(0), "fenced");
    assert!(sends(&desk.run_for(HOUR)).is_empty());
}

#[test]
fn a_failure_that_overtakes_the_answer_wins_over_it() {
    for contract in [card(NotFound::AfterFence), blind(card(NotFound::AfterFence)), strong()] {
        let mut desk = refunding(contract);
        desk.notice("a", failed(&desk));
        desk.hear_of(REFUND, done());
        assert_eq!(desk.op(0).state, OperationState::Rejected);
        desk.notice("a", done().about(desk.op(0).op_id.clone()));
        assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Rejected, 0));
    }
}

#[test]
fn inquiries_in_flight_when_a_failure_is_heard_are_void() {
    let mut desk = refunding(prompt_card());
    desk.lose(REFUND);
    desk.come_due();
    let before = desk.asking();
    desk.notice("a", failed(&desk));
    desk.answer(Subject::Operation(0), before, vec![done()]);
    assert!(desk.op(0).state.is_open());
    desk.look_op(0, done());
    assert_eq!(desk.op(0).state, OperationState::Done);
}

#[test]
fn an_older_ok_after_a_failure_of_a_re_sent_refund_that_can_not_be_asked_goes_to_an_operator() {
    let mut desk = refunding(blind(prompt_card()));
    desk.lose(REFUND);
    desk.come_due();
    desk.notice("a", failed(&desk));
    assert!(!desk.op(0).manual);
    desk.hear_of(REFUND, done());
    assert!(desk.op(0).manual && desk.op(0).state.is_open());
}

#[test]
fn what_is_done_is_undone_by_a_notice_or_a_later_inquiry_never_by_a_stale_one() {
    let mut desk = refunding(card(NotFound::AfterFence));
    let before = desk.asking();
    desk.hear_of(REFUND, done());
    desk.answer(Subject::Operation(0), before, vec![Fact::new(What::Failed)]);
    assert_eq!(desk.op(0).state, OperationState::Done);
    desk.look_op(0, Fact::new(What::Failed));
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Reversed, 0));
    let mut desk = refunding(card(NotFound::AfterFence));
    desk.hear_of(REFUND, done());
    desk.notice("a", failed(&desk));
    assert_eq!(desk.op(0).state, OperationState::Reversed);
    desk.notice("a", done().about(desk.op(0).op_id.clone()));
    assert_eq!(desk.op(0).state, OperationState::Reversed, "an older word");
    desk.refund("r2", None).unwrap();
}

#[test]
fn a_late_copy_of_an_undone_refund_is_a_doubt_again() {
    let mut desk = refunding(prompt_card());
    desk.lose(REFUND);
    desk.come_due();
    desk.hear_of(REFUND, done());
    desk.notice("a", failed(&desk));
    desk.notice("a", done().about(desk.op(0).op_id.clone()));
    assert_eq!(desk.op(0).state, OperationState::Fenced);
    assert!(desk.due.is_some());
    desk.look_op(0, done());
    assert_eq!(desk.op(0).state, OperationState::Done);
}

#[test]
fn a_failure_of_one_of_several_copies_does_not_undo_the_one_that_was_done() {
    let twice = |contract| {
        let mut desk = refunding(contract);
        desk.lose(REFUND);
        desk.come_due();
        desk.hear_of(REFUND, done());
        desk.notice("a", failed(&desk));
        assert_eq!(desk.op(0).state, OperationState::Fenced, "it may be the other copy's");
        desk
    };
    let mut desk = twice(prompt_card());
    desk.look_op(0, done());
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Done, AMOUNT));
    let mut desk = twice(prompt_card());
    desk.look_op(0, Fact::new(What::Failed));
    assert_eq!(desk.op(0).state, OperationState::Fenced, "a copy may still arrive");
    desk.pass(W + MINUTE);
    desk.look_op(0, Fact::new(What::Failed));
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Reversed, 0));
    let desk = twice(blind(prompt_card()));
    assert!(desk.op(0).manual && desk.due.is_some());
}

#[test]
fn an_answer_that_was_asked_for_before_the_last_failure_says_nothing() {
    let mut desk = refunding(prompt_card());
    desk.lose(REFUND);
    desk.come_due();
    desk.notice("a", failed(&desk));
    desk.hear_of(REFUND, done());
    let stale = desk.asking();
    desk.pass(W + MINUTE);
    desk.look_op(0, Fact::new(What::Failed));
    assert_eq!(desk.op(0).state, OperationState::Rejected);
    desk.answer(Subject::Operation(0), stale, vec![done()]);
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Rejected, 0));
    // A failure is durable in any state.
    let stale = desk.asking();
    desk.notice("a", failed(&desk));
    desk.answer(Subject::Operation(0), stale, vec![done()]);
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Rejected, 0));
}

#[test]
fn a_capture_that_fails_afterwards_lowers_what_was_captured() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", None).unwrap();
    desk.hear_of(CAPTURE, Fact::new(What::Captured));
    desk.notice("a", Fact::new(What::Failed).about(desk.op(0).op_id.clone()));
    assert_eq!((desk.word(0), desk.p().captured()), ("success", 0));
    assert_eq!(desk.told(), Some(Settled::Succeeded), "a final answer never changes");
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("capture_reversed"));
    assert!(desk.refund("r1", None).is_err());
    let mut desk = authorized(card(NotFound::AfterFence));
    for (key, amount) in [("c1", 1_000), ("c2", 2_000)] {
        desk.capture(key, Some(amount)).unwrap();
        desk.hear_of(CAPTURE, Fact::new(What::Captured));
    }
    desk.notice("a", Fact::new(What::Failed).about(desk.op(0).op_id.clone()));
    assert_eq!(desk.p().captured(), 2_000);
    desk.refund("r1", Some(2_000)).unwrap();
    assert!(desk.refund("r2", Some(1)).is_err());
}

#[test]
fn a_refund_that_waits_for_funds_is_asked_again_under_the_same_number() {
    let mut desk = refunding(strong());
    let empty = Fact { class: Some(Class::AccountRestricted), ..Fact::new(What::Pending) };
    desk.hear_of(REFUND, empty.clone());
    assert_eq!(desk.op(0).state, OperationState::Pending);
    let effects = desk.come_due();
    assert_eq!(sends(&effects).len(), 1);
    desk.hear_of(REFUND, empty);
    desk.come_due();
    desk.hear_of(REFUND, done());
    assert_eq!((desk.op(0).state, desk.p().operations.len()), (OperationState::Done, 1));
}

#[test]
fn an_accepted_refund_is_never_sent_again() {
    let mut desk = refunding(prompt_card());
    desk.hear_of(REFUND, Fact::new(What::Pending));
    let effects = desk.run_for(HOUR);
    assert!(sends(&effects).is_empty() && asks(&effects, Subject::Operation(0)));
    desk.look_op(0, done());
    assert_eq!(desk.op(0).state, OperationState::Done);
}

#[test]
fn an_operation_ends_at_an_operator_when_nothing_answers() {
    let mut desk = refunding(card(NotFound::Undeclared));
    desk.lose(REFUND);
    desk.run_for(73 * HOUR);
    assert!(desk.op(0).manual && desk.due.is_some());
    desk.verdict(Subject::Operation(0), true).unwrap();
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Done, AMOUNT));
    assert_eq!(desk.due, None);
}

#[test]
fn all_of_it_given_back_means_that_the_open_refund_is_done() {
    let mut desk = refunding(blind(card(NotFound::AfterFence)));
    let before = desk.asking();
    desk.lose(REFUND);
    let given = Fact::new(What::Refunded).with_amount(money(AMOUNT));
    let earlier = interlock_engine::Asked { ver: before.ver - 1, ..before };
    desk.answer(Subject::Attempt(0), earlier, vec![given.clone()]);
    assert!(desk.op(0).state.is_open(), "asked before it was sent");
    desk.look(0, given);
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Done, AMOUNT));
}

#[test]
fn an_amount_that_is_not_ours_is_never_taken_for_done() {
    let mut desk = refunding(card(NotFound::AfterFence));
    desk.hear_of(REFUND, Fact::new(What::Refunded).with_amount(money(1)));
    assert!(desk.op(0).state.is_open());
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("amount_mismatch"));
}

#[test]
fn what_was_refused_and_is_done_after_all_is_believed_within_the_sums() {
    let mut desk = charged(card(NotFound::AfterFence));
    desk.refund("r1", Some(3_000)).unwrap();
    let late = Fact::new(What::Refunded).with_amount(money(3_000)).about(desk.op(0).op_id.clone());
    desk.hear_of(REFUND, refused(Class::DeclinedHard));
    desk.refund("r2", Some(3_000)).unwrap();
    let effects = desk.notice("a", late);
    assert_eq!(desk.op(0).state, OperationState::Fenced, "both would be too much");
    assert!(asks(&effects, Subject::Operation(0)));
    desk.hear_of(REFUND, refused(Class::DeclinedHard));
    desk.look_op(0, Fact::new(What::Refunded).with_amount(money(3_000)));
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Done, 3_000));
}

#[test]
fn a_hold_that_the_provider_took_itself_is_adopted_as_a_capture() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.look(0, held());
    desk.look(0, paid());
    assert_eq!((desk.told(), desk.p().captured()), (Some(Settled::Succeeded), AMOUNT));
    assert!(desk.capture("c1", Some(1)).is_err());
    desk.pass(MINUTE);
    desk.refund("r1", None).unwrap();
}

#[test]
fn what_was_taken_and_given_back_says_since_when_that_is_known() {
    let mut desk = authorized(card(NotFound::AfterFence));
    assert_eq!(desk.attempt(0).captured_ms, None, "only held");
    desk.pass(MINUTE);
    desk.capture("c1", None).unwrap();
    desk.hear_of(CAPTURE, Fact::new(What::Captured).with_amount(money(AMOUNT)));
    let captured = desk.attempt(0).captured_ms.expect("it was taken");
    assert_eq!(desk.op(0).done_ms, Some(captured));
    desk.pass(MINUTE);
    desk.refund("r1", None).unwrap();
    assert_eq!(desk.op(1).done_ms, None);
    desk.hear_of(REFUND, done());
    assert_eq!(desk.op(1).done_ms, Some(captured.saturating_add_unsigned(MINUTE)));
    assert_eq!(desk.attempt(0).captured_ms, Some(captured), "the first time counts");
}
