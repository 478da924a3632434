//! Money that somebody gives back in a provider's own portal (T17): told once, at any moment, and
//! kept until it can be booked.

use interlock_engine::{ExchangeKind, OperationState, Origin, Settled, Subject};
use interlock_plugin_api::{Class, Fact, NotFound, What};

use crate::desk::{Desk, asks, at_the_till, authorized, by_card, paid, refused, sends};
use crate::table::{AMOUNT, MINUTE, W, card, money};

const REFUND: ExchangeKind = ExchangeKind::Refund;
const UNCLEAR: Option<&str> = Some("external_refund_unclear");

/// As a notification tells it: by the payment's number at the provider and a number of its own.
fn portal(amount: i64, number: &str) -> Fact {
    let fact = Fact::new(What::Refunded).with_amount(money(amount)).with_provider_ref("ref-1");
    fact.with_operation_ref(number)
}

fn charged() -> Desk {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(paid());
    desk
}

#[test]
fn beside_an_open_refund_of_ours_it_waits_and_both_are_booked() {
    let mut desk = charged();
    desk.refund("r1", Some(1_000)).unwrap();
    desk.notice("a", portal(1_000, "x-1"));
    assert_eq!((desk.p().refunded(), desk.attempt(0).alert.as_deref()), (0, UNCLEAR));
    let own = Fact::new(What::Refunded).with_operation_ref("act-1");
    desk.hear_of(REFUND, own);
    assert_eq!((desk.p().refunded(), desk.attempt(0).alert.as_deref()), (2_000, None));
    desk.notice("a", portal(1_000, "x-1"));
    assert_eq!(desk.p().refunded(), 2_000, "told twice, booked once");
}

#[test]
fn of_another_amount_it_can_be_none_of_ours() {
    let mut desk = charged();
    desk.refund("r1", Some(1_000)).unwrap();
    desk.notice("a", portal(700, "x-1"));
    assert_eq!((desk.op(1).origin, desk.op(1).amount), (Origin::External, 700));
}

#[test]
fn heard_before_the_success_it_waits_for_it() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.lose(ExchangeKind::Authorize);
    let effects = desk.notice("a", portal(1_000, "x-1").about(desk.attempt(0).op_id.clone()));
    assert!(asks(&effects, Subject::Attempt(0)));
    desk.look(0, paid());
    assert_eq!((desk.told(), desk.p().refunded()), (Some(Settled::Succeeded), 1_000));
    assert_eq!(desk.attempt(0).alert, None);
}

#[test]
fn two_under_the_payments_own_number_are_two() {
    let mut desk = charged();
    let number = desk.attempt(0).op_id.clone();
    for own in ["x-1", "x-2"] {
        desk.notice("a", portal(1_000, own).about(number.clone()));
    }
    assert_eq!(desk.p().refunded(), 2_000);
    // A second charge under that number is not swallowed either.
    let second = Fact { provider_ref: Some("ref-2".into()), ..paid() };
    desk.notice("a", second.about(number));
    assert_eq!(desk.word(1), "refund_due");
}

#[test]
fn what_does_not_fit_before_a_bounce_is_heard_fits_after_it() {
    let mut desk = charged();
    desk.refund("r1", Some(1_000)).unwrap();
    desk.hear_of(REFUND, Fact::new(What::Refunded));
    desk.notice("a", portal(AMOUNT, "x-1"));
    assert_eq!((desk.p().refunded(), desk.attempt(0).alert.as_deref()), (1_000, UNCLEAR));
    let bounced = Fact { what: What::Failed, ..refused(Class::Unmapped) };
    desk.notice("a", bounced.about(desk.op(0).op_id.clone()));
    assert_eq!((desk.p().refunded(), desk.attempt(0).alert.as_deref()), (AMOUNT, None));
}

#[test]
fn an_inquiry_that_says_all_is_gone_books_the_rest_until_it_is_told_one_by_one() {
    let mut desk = charged();
    desk.look(0, Fact::new(What::Refunded).with_provider_ref("ref-1"));
    assert_eq!((desk.p().refunded(), desk.p().operations.len()), (AMOUNT, 1));
    desk.notice("a", portal(AMOUNT - 1_000, "x-1"));
    desk.notice("a", portal(1_000, "x-2"));
    let booked = |number: &str| desk.p().operations[desk.p().operation_of(number).unwrap()].amount;
    assert_eq!(
        (booked("x-1"), booked("x-2"), desk.p().refunded()),
        (AMOUNT - 1_000, 1_000, AMOUNT)
    );
}

#[test]
fn a_hold_that_was_taken_and_given_back_is_both() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.look(0, Fact::new(What::Refunded).with_provider_ref("ref-1"));
    assert_eq!((desk.told(), desk.p().refunded()), (Some(Settled::Succeeded), AMOUNT));
}

#[test]
fn part_of_what_must_go_back_is_not_given_back_twice() {
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    desk.hear(paid());
    desk.notice("a", portal(1_000, "x-1"));
    let effects = desk.look(0, paid());
    assert_eq!(sends(&effects).len(), 1);
    let refund = desk.p().operations.iter().find(|o| o.origin == Origin::Resolver).unwrap();
    assert_eq!(refund.amount, AMOUNT - 1_000);
    desk.hear_of(REFUND, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.told()), ("refunded", Some(Settled::Canceled)));
}

#[test]
fn an_operators_yes_waits_for_a_close_that_may_give_it_back() {
    let mut desk = at_the_till();
    desk.lose(ExchangeKind::Authorize);
    desk.look(0, Fact::new(What::NotFound));
    desk.lose(ExchangeKind::Close);
    assert_eq!(desk.word(0), "closing");
    assert!(desk.verdict(Subject::Attempt(0), true).is_err());
    desk.pass(W + MINUTE);
    desk.verdict(Subject::Attempt(0), true).unwrap();
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn a_capture_that_an_operator_denied_is_asked_about_when_it_is_said_to_be_done() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", Some(2_000)).unwrap();
    desk.lose(ExchangeKind::Capture);
    desk.verdict(Subject::Operation(0), false).unwrap();
    assert_eq!(desk.op(0).state, OperationState::Rejected);
    let effects = desk.look(0, Fact { amount: None, ..paid() });
    assert!(asks(&effects, Subject::Operation(0)), "it was that one, or a portal's");
    desk.look_op(0, Fact::new(What::Captured).with_amount(money(2_000)));
    assert_eq!((desk.told(), desk.p().captured()), (Some(Settled::Succeeded), 2_000));
}

#[test]
fn the_bounce_of_a_give_back_that_an_operator_denied_is_heard() {
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    desk.hear(paid());
    desk.look(0, paid());
    desk.lose(REFUND);
    desk.verdict(Subject::Operation(0), false).unwrap();
    desk.look(0, Fact::new(What::Refunded).with_provider_ref("ref-1"));
    assert_eq!(desk.word(0), "refunded");
    let bounced = Fact { what: What::Failed, ..refused(Class::Unmapped) };
    desk.notice("a", bounced.about(desk.op(0).op_id.clone()));
    assert_eq!(desk.word(0), "refund_due");
}
