//! Money was taken (SAFETY section 2.4): who keeps it, who must confirm it, who gives it back.

use std::collections::BTreeMap;

use interlock_engine::{
    AttemptState, ExchangeKind, MerchantPolicy, OrderStep, Sent, Settled, Subject,
};
use interlock_plugin_api::{Class, Close, Contract, Fact, Inquiry, NotFound, What};

use crate::desk::{Desk, asks, at_the_till, by_card, held, on_the_screen, paid, refused, sends};
use crate::table::{
    HOUR, MINUTE, TIMEOUT, W, account, barcode, barcode_method, card, policy, prompt_card,
    submission,
};

const CLOSE: ExchangeKind = ExchangeKind::Close;

/// A close that may refund is on its way after a doubt.
fn closing() -> Desk {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "closing");
    desk
}

/// The same at an account that can't be asked.
fn closing_blind(may_refund: bool) -> Desk {
    let close = Close { may_refund, repeatable: true, ..Close::default() };
    let contract = Contract {
        inquiry: Inquiry::default(),
        close: BTreeMap::from([("*".to_owned(), close)]),
        ..barcode()
    };
    let accounts = vec![account("a", contract)];
    let mut desk = Desk::with(policy(accounts), submission(barcode_method()));
    desk.time_out();
    assert_eq!(desk.word(0), "closing");
    desk
}

#[test]
fn rule_1_the_same_charge_is_heard_once() {
    let mut desk = at_the_till();
    desk.hear(paid());
    let ver = desk.p().ver;
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.look(0, paid());
    assert_eq!((desk.p().ver, desk.p().attempts.len()), (ver, 1));
}

#[test]
fn rule_2_after_a_close_a_success_waits_for_an_inquiry_asked_after_it() {
    let mut desk = closing();
    let before = desk.asking();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert!(desk.attempt(0).unconfirmed.is_some() && desk.told().is_none() && desk.due.is_some());
    desk.answer(Subject::Attempt(0), before, vec![paid()]);
    assert_eq!(desk.told(), None, "asked before it was durable");
    desk.look(0, paid());
    assert_eq!(desk.told(), None, "the close is unanswered and young");
    desk.pass(TIMEOUT + W);
    desk.look(0, paid());
    assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
}

#[test]
fn rule_2_the_close_may_have_given_it_back() {
    let mut desk = closing();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.hear_of(CLOSE, Fact::new(What::ClosedRefunded));
    assert_eq!(desk.word(0), "reversed");
    assert!(desk.attempt(0).unconfirmed.is_none());
    let mut desk = closing();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.lose(CLOSE);
    desk.pass(TIMEOUT + W);
    desk.look(0, Fact::new(What::ClosedUnpaid));
    assert_eq!(desk.word(0), "reversed");
}

#[test]
fn rule_2_an_unclear_answer_to_the_close_is_none() {
    let mut desk = closing();
    let id = desk.last(CLOSE);
    desk.hear_on(&id, 502, vec![Fact::unknown("gateway")]);
    desk.look(0, paid());
    assert!(desk.told().is_none() && desk.attempt(0).unconfirmed.is_some());
    desk.look(0, paid());
    assert_eq!(desk.told(), None, "the gateway's close may still be carried out");
    desk.pass(TIMEOUT + W);
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn rule_2_a_later_close_opens_the_question_again() {
    let mut desk = closing();
    let id = desk.last(CLOSE);
    desk.hear_on(&id, 502, vec![Fact::unknown("gateway")]);
    let asked = desk.asking();
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.attempt(0).track.of(CLOSE).count(), 2);
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.pass(TIMEOUT + W);
    desk.answer(Subject::Attempt(0), asked, vec![paid()]);
    assert_eq!(desk.told(), None);
}

#[test]
fn rule_2_without_inquiry_only_the_closes_own_answer_decides() {
    let mut desk = closing_blind(true);
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert!(desk.told().is_none());
    desk.hear_of(CLOSE, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    let mut desk = closing_blind(true);
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.hear_of(CLOSE, Fact::new(What::ClosedRefunded));
    assert_eq!(desk.word(0), "reversed");
    let mut desk = closing_blind(false);
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn rule_2_without_inquiry_another_close_on_its_way_may_still_refund() {
    let mut desk = closing_blind(true);
    desk.lose(CLOSE);
    let first = desk.last(CLOSE);
    desk.come_due();
    assert_eq!(desk.attempt(0).track.of(CLOSE).count(), 2);
    desk.hear_of(CLOSE, paid());
    assert_eq!(desk.told(), None);
    desk.hear_on(&first, 200, vec![paid()]);
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn rule_2_holds_before_a_refund_too() {
    let mut desk = closing();
    desk.cancel().unwrap();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.pass(TIMEOUT + W);
    desk.look(0, paid());
    assert_eq!(desk.word(0), "refund_due");
    let effects = desk.look(0, paid());
    assert_eq!(sends(&effects).len(), 1);
}

#[test]
fn a_failure_is_not_told_while_a_success_waits_for_its_confirmation() {
    let mut desk = closing();
    desk.hear_of(CLOSE, Fact::new(What::ClosedUnpaid));
    assert_eq!((desk.word(0), desk.word(1)), ("failed", "started"));
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert!(desk.attempt(0).unconfirmed.is_some());
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!((desk.word(1), desk.told()), ("failed", None));
    assert!(desk.due.is_some());
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn rule_4_after_a_cancel_a_hold_is_voided_and_a_charge_refunded() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    let effects = desk.hear(held());
    assert!(sends(&effects)[0].contains("void"));
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    desk.hear(paid());
    assert_eq!((desk.word(0), desk.told()), ("refund_due", None));
}

#[test]
fn rule_5_every_other_live_attempt_becomes_a_loser() {
    let mut desk = by_card(prompt_card());
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!(desk.word(1), "started");
    // The provider takes its own decline back.
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
    assert!(desk.attempt(1).loser && desk.due.is_some());
    desk.time_out();
    assert!(sends(&desk.run_for(HOUR)).is_empty(), "a loser is never re-sent");
    let other = paid().with_provider_ref("ref-2");
    desk.look(1, other.clone());
    assert_eq!(desk.word(1), "refund_due");
    let effects = desk.look(1, other);
    assert_eq!(sends(&effects).len(), 1);
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    assert_eq!(desk.word(1), "refunded");
    assert_eq!((desk.p().captured(), desk.p().refunded()), (4_900, 0));
    assert_eq!((desk.told(), desk.due), (Some(Settled::Succeeded), None));
}

#[test]
fn rule_5_a_shown_code_of_a_loser_is_closed() {
    let mut desk = on_the_screen();
    desk.look(0, Fact::new(What::Expired));
    desk.hear(crate::desk::shown());
    assert_eq!(desk.word(1), "action");
    let effects = desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!((desk.word(0), desk.word(1)), ("success", "closing"));
    assert!(sends(&effects)[0].contains("close"));
}

#[test]
fn rule_6_a_success_after_the_payment_was_told_failed_is_given_back() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!(desk.told(), Some(Settled::Failed));
    let effects = desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.word(0), "refund_due");
    assert_eq!(desk.attempt(0).alert.as_deref(), Some("late_success"));
    assert!(asks(&effects, Subject::Attempt(0)));
    desk.look(0, paid());
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.told()), ("refunded", Some(Settled::Failed)));
}

#[test]
fn rule_6_a_late_success_is_kept_by_the_merchants_rule_within_its_time() {
    let late = |after: u64| {
        let mut desk = by_card(card(NotFound::AfterFence));
        let accept_late_ms = Some(10 * MINUTE);
        let rule = MerchantPolicy { accept_late_ms, ..MerchantPolicy::default() };
        desk.policy.merchants.insert("shop".into(), rule);
        desk.hear(refused(Class::DeclinedHard));
        desk.pass(after);
        desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
        desk
    };
    let desk = late(5 * MINUTE);
    assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
    assert!(desk.said("recovered"));
    let desk = late(11 * MINUTE);
    assert_eq!((desk.word(0), desk.told()), ("refund_due", Some(Settled::Failed)));
    let mut desk = by_card(card(NotFound::AfterFence));
    let rule = MerchantPolicy { accept_late_ms: Some(HOUR), ..MerchantPolicy::default() };
    desk.policy.merchants.insert("shop".into(), rule);
    desk.cancel().unwrap();
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!(desk.told(), Some(Settled::Canceled));
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.word(0), "refund_due", "canceled is canceled");
}

#[test]
fn rule_6_a_second_charge_under_one_number_is_given_back_alone() {
    let mut desk = by_card(prompt_card());
    desk.hear(paid());
    let second = paid().with_provider_ref("ref-2");
    desk.notice("a", second.clone().about(desk.attempt(0).op_id.clone()));
    desk.notice("a", second.clone().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.p().attempts.len(), 2);
    assert_eq!(desk.attempt(1).second_charge_of, Some(0));
    assert_eq!((desk.word(0), desk.word(1)), ("success", "refund_due"));
    let effects = desk.look(1, second);
    assert_eq!(sends(&effects).len(), 1);
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.word(1)), ("success", "refunded"));
    assert_eq!((desk.p().captured(), desk.p().refunded()), (4_900, 0));
}

#[test]
fn a_second_charge_counts_as_no_try_and_is_given_back_before_another_account_is_tried() {
    let mut desk = closing();
    desk.hear_of(CLOSE, Fact::new(What::ClosedRefunded).with_provider_ref("ref-1"));
    assert_eq!((desk.word(0), desk.word(1)), ("reversed", "started"));
    desk.notice("a", paid().with_provider_ref("ref-9").about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.attempt(2).second_charge_of, Some(0));
    let b = desk.attempt(1).track.exchanges[0].id.clone();
    desk.lose_on(&b, Sent::No);
    assert_eq!((desk.word(1), desk.told()), ("failed", None), "money is still at the provider");
    desk.look(2, paid().with_provider_ref("ref-9"));
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    assert_eq!((desk.word(2), desk.told()), ("refunded", Some(Settled::Failed)));
    assert_eq!(desk.order_step, OrderStep::Release);
}

#[test]
fn what_is_said_of_one_charge_is_not_taken_for_another_under_the_same_number() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    desk.hear(paid());
    let other = paid().with_provider_ref("ref-2");
    desk.notice("a", other.clone().about(desk.attempt(0).op_id.clone()));
    assert_eq!((desk.word(0), desk.word(1)), ("refund_due", "refund_due"));
    let asked = desk.asking();
    let given = Fact::new(What::Refunded).with_provider_ref("ref-2");
    let stranger = Fact::new(What::Refunded).with_provider_ref("ref-3");
    desk.answer(Subject::Attempt(0), asked, vec![given, stranger]);
    assert_eq!((desk.word(0), desk.word(1)), ("refund_due", "refunded"));
}

#[test]
fn what_must_be_given_back_and_is_found_given_back_is_done() {
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    desk.hear(paid());
    desk.look(0, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.told()), ("refunded", Some(Settled::Canceled)));
    assert!(desk.p().operations.is_empty() && desk.p().refunded() == 0);
}

#[test]
fn a_doubt_that_was_paid_and_refunded_at_the_portal_ends_without_another_charge() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.told()), ("reversed", Some(Settled::Canceled)));
    assert_eq!(desk.p().attempts.len(), 1);
}

#[test]
fn a_close_that_contradicts_a_confirmed_success_changes_nothing_by_itself() {
    let mut desk = closing();
    desk.lose(CLOSE);
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.pass(TIMEOUT + W);
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    let effects = desk.hear_of(CLOSE, Fact::new(What::ClosedRefunded));
    assert_eq!(desk.word(0), "success");
    assert!(asks(&effects, Subject::Attempt(0)));
    assert_eq!(desk.state(0), &AttemptState::Success { captured: true });
}
