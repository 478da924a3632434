//! Each move of an attempt (SAFETY section 2.3), by its number.

use interlock_engine::{
    AttemptState, ExchangeKind, FailReason, Input, OrderStep, Sent, Settled, Subject,
};
use interlock_plugin_api::{Class, Fact, NotFound, What};

use crate::desk::{
    asks, at_the_till, authorized, by_card, held, on_the_screen, paid, refused, sends, shown,
};
use crate::table::{HOUR, MINUTE, TIMEOUT, W, card, prompt_card};

const CLOSE: ExchangeKind = ExchangeKind::Close;

#[test]
fn t1_a_payment_is_durable_with_its_first_exchange_before_it_is_sent() {
    let desk = at_the_till();
    assert_eq!((desk.p().ver, desk.word(0)), (1, "started"));
    assert_eq!(desk.order_step, OrderStep::Claim);
    let x = desk.attempt(0).first().unwrap();
    assert_eq!((x.sends, x.made_ver), (1, 1));
    assert_eq!(x.last_send_by, desk.now.plus(TIMEOUT));
    assert!(desk.due.is_some());
}

#[test]
fn t2_what_was_proven_not_sent_goes_to_the_next_account_at_once() {
    let mut desk = at_the_till();
    let first = desk.last(ExchangeKind::Authorize);
    let effects = desk.lose_on(&first, Sent::No);
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::NotSent, .. }));
    assert_eq!((desk.word(1), sends(&effects).len()), ("started", 1));
    assert_ne!(desk.attempt(0).op_id, desk.attempt(1).op_id);
}

#[test]
fn t3_an_offer_that_was_never_shown_can_not_be_paid() {
    let accounts = vec![
        crate::table::account("a", crate::table::code()),
        crate::table::account("b", crate::table::code()),
    ];
    let asked = crate::table::submission(crate::table::qr_method());
    let mut desk = crate::desk::Desk::with(crate::table::policy(accounts), asked);
    desk.time_out();
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::NotOffered, .. }));
    assert_eq!(desk.word(1), "started");
}

#[test]
fn t4_an_offer_is_durable_before_it_is_shown_and_waits_for_the_shopper() {
    let desk = on_the_screen();
    assert_eq!((desk.word(0), desk.status().0), ("action", "requires_action"));
    assert!(desk.attempt(0).offer.is_some());
    assert!(!interlock_engine::status::in_doubt(desk.p()));
}

#[test]
fn t5_what_was_accepted_is_not_in_doubt() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(Fact::new(What::Pending));
    assert_eq!(desk.word(0), "pending");
    assert_eq!(desk.status(), ("processing", Some("provider_pending")));
    assert!(!interlock_engine::status::in_doubt(desk.p()));
}

#[test]
fn t6_no_usable_answer_is_a_doubt_and_nobody_else_is_tried() {
    type Answer = (u16, Vec<Fact>);
    let answers: [Answer; 5] = [
        (503, vec![]),
        (200, vec![]),
        (200, vec![Fact::unknown("new_code")]),
        (502, vec![paid()]),
        (400, vec![Fact::declined(Class::DeclinedSoft, "unlisted")]),
    ];
    for (status, facts) in answers {
        let mut desk = by_card(card(NotFound::AfterFence));
        let id = desk.last(ExchangeKind::Authorize);
        let effects = desk.hear_on(&id, status, facts.clone());
        assert!(desk.state(0).in_doubt(), "{status} {facts:?}");
        assert!(sends(&effects).is_empty() && desk.p().attempts.len() == 1);
        assert_eq!(desk.status(), ("processing", Some("provider_outcome_unknown")));
    }
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    assert!(desk.state(0).in_doubt() && desk.p().attempts.len() == 1);
    desk.run_for(2 * HOUR);
    assert_eq!(desk.p().attempts.len(), 1);
}

#[test]
fn t6_a_decline_of_what_was_accepted_that_is_not_definite_is_a_doubt() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    desk.hear(Fact::new(What::Pending));
    assert_eq!(desk.word(0), "pending");
    desk.look(0, refused(Class::DeclinedSoft));
    assert!(desk.state(0).in_doubt());
}

#[test]
fn t7_the_same_request_is_sent_again_under_the_same_number() {
    let mut desk = by_card(prompt_card());
    let first = desk.attempt(0).first().unwrap().clone();
    desk.time_out();
    assert_eq!(desk.word(0), "ambiguous");
    let effects = desk.come_due();
    assert_eq!(sends(&effects), [first.id.as_str()]);
    let x = desk.attempt(0).first().unwrap();
    assert_eq!((x.sends, &x.op_id, &x.digest), (2, &first.op_id, &first.digest));
    assert_eq!(x.first_send_by_ms, first.first_send_by_ms);
    assert!(x.last_send_by.wall_ms > first.last_send_by.wall_ms);
    assert_eq!(desk.word(0), "started");
}

#[test]
fn t8_what_is_never_sent_again_is_fenced_in_the_same_version() {
    let mut desk = at_the_till();
    let effects = desk.time_out();
    assert_eq!(desk.word(0), "fenced");
    assert_eq!(desk.attempt(0).track.fence, Some(desk.p().ver));
    assert!(asks(&effects, Subject::Attempt(0)));
}

#[test]
fn t9_a_success_is_accepted_in_every_state() {
    let mut desk = at_the_till();
    desk.hear(paid());
    assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, paid());
    assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    let mut desk = on_the_screen();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(Fact::new(What::Pending));
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn t10_not_found_ends_it_when_asked_behind_the_fence_and_after_the_window() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "fenced");
    desk.pass(W);
    desk.look(0, Fact::new(What::NotFound));
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::NotFound, .. }));
    assert_eq!(desk.word(1), "started");
}

#[test]
fn t10_a_decline_ends_it_when_asked_behind_the_fence_and_after_the_window() {
    let mut desk = by_card(prompt_card());
    desk.time_out();
    desk.come_due();
    desk.time_out();
    desk.credential = false;
    desk.come_due();
    assert_eq!(desk.word(0), "fenced");
    desk.look(0, refused(Class::DeclinedSoft));
    assert_eq!(desk.word(0), "fenced");
    desk.pass(W);
    desk.look(0, refused(Class::DeclinedSoft));
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::Declined, .. }));
}

#[test]
fn t11_a_confirmed_close_ends_it_and_the_next_account_is_tried() {
    let mut desk = at_the_till();
    desk.time_out();
    let effects = desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.word(0), sends(&effects).len()), ("closing", 1));
    desk.hear_of(CLOSE, Fact::new(What::ClosedUnpaid));
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::Closed, .. }));
    assert_eq!(desk.word(1), "started");
}

#[test]
fn t11_a_close_that_gave_the_money_back_reverses_it() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    desk.hear_of(CLOSE, Fact::new(What::ClosedRefunded));
    assert_eq!((desk.word(0), desk.word(1)), ("reversed", "started"));
}

#[test]
fn t11_a_close_without_an_answer_leaves_the_doubt_and_is_asked_again() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.look(0, Fact::new(What::NotFound));
    let effects = desk.lose(CLOSE);
    assert!(desk.word(0) == "closing" && asks(&effects, Subject::Attempt(0)));
    let first = desk.last(CLOSE);
    let effects = desk.look(0, Fact::new(What::NotFound));
    assert_eq!(sends(&effects).len(), 1);
    assert_ne!(desk.last(CLOSE), first);
}

#[test]
fn t12_the_next_account_waits_for_the_proof_and_for_the_deadline() {
    let mut desk = at_the_till();
    desk.time_out();
    desk.pass(5 * HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("failed", 1));
    assert_eq!(desk.told(), Some(Settled::Failed));
    assert_eq!(desk.order_step, OrderStep::Release);
}

#[test]
fn t13_an_offer_is_closed_not_before_the_provider_admits_it() {
    let mut desk = on_the_screen();
    for account in desk.policy.accounts.values_mut() {
        account.contract.close.get_mut("*").unwrap().min_age_ms = 5 * MINUTE;
    }
    let effects = desk.cancel().unwrap();
    assert!(sends(&effects).is_empty() && desk.word(0) == "closing");
    let effects = desk.run_for(6 * MINUTE);
    assert_eq!(sends(&effects).len(), 1);
}

#[test]
fn t14_an_offer_ends_by_the_providers_own_expiry() {
    let mut desk = on_the_screen();
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "action");
    let early = desk.asking();
    desk.pass(2 * HOUR + 10 * MINUTE);
    desk.answer(Subject::Attempt(0), early, vec![Fact::new(What::NotFound)]);
    assert_eq!(desk.word(0), "action");
    desk.look(0, Fact::new(What::Pending));
    assert_eq!(desk.word(0), "action");
    desk.look(0, Fact::new(What::NotFound));
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::Expired, .. }));
    let mut desk = on_the_screen();
    desk.look(0, Fact::new(What::Expired));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn t15_a_definite_decline_is_final_and_a_soft_one_may_be_tried_once_more() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!((desk.word(0), desk.told()), ("failed", Some(Settled::Failed)));
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(refused(Class::DeclinedSoft));
    assert_eq!((desk.word(0), desk.word(1)), ("failed", "started"));
}

#[test]
fn t16_a_late_no_after_a_success_changes_nothing() {
    for what in [What::Declined, What::ClosedUnpaid, What::Expired, What::NotFound] {
        let mut desk = at_the_till();
        desk.hear(paid());
        let late = Fact { what, provider_code: Some("proof.x".into()), ..Fact::new(what) };
        desk.look(0, late);
        assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
    }
}

#[test]
fn t16b_a_void_or_a_lapse_ends_an_authorization_and_nobody_else_is_tried() {
    let mut desk = authorized(card(NotFound::AfterFence));
    assert_eq!(desk.status().0, "requires_capture");
    desk.look(0, Fact::new(What::Voided));
    assert_eq!((desk.word(0), desk.told()), ("reversed", Some(Settled::Canceled)));
    assert_eq!(desk.p().attempts.len(), 1);
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.cancel().unwrap();
    desk.hear_of(ExchangeKind::Void, Fact::new(What::Voided));
    assert_eq!((desk.word(0), desk.told()), ("reversed", Some(Settled::Canceled)));
}

#[test]
fn t16b_a_capture_makes_it_succeed() {
    let mut desk = authorized(card(NotFound::AfterFence));
    desk.capture("c1", None).unwrap();
    assert_eq!(desk.told(), None);
    desk.hear_of(ExchangeKind::Capture, Fact::new(What::Captured));
    assert_eq!(desk.state(0), &AttemptState::Success { captured: true });
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn t17_a_refund_made_at_the_portal_is_adopted() {
    let mut desk = at_the_till();
    desk.hear(paid());
    let portal = Fact::new(What::Refunded)
        .with_amount(crate::table::money(900))
        .with_provider_ref("ref-1")
        .with_operation_ref("portal-1");
    desk.notice("a", portal.clone());
    desk.notice("a", portal);
    assert_eq!((desk.word(0), desk.p().refunded(), desk.p().operations.len()), ("success", 900, 1));
}

#[test]
fn t18_a_success_that_must_not_be_kept_is_confirmed_and_given_back() {
    let mut desk = at_the_till();
    desk.cancel().unwrap();
    let before = desk.asking();
    let effects = desk.hear(paid());
    assert_eq!(desk.word(0), "refund_due");
    assert!(asks(&effects, Subject::Attempt(0)) && sends(&effects).is_empty());
    let effects = desk.answer(Subject::Attempt(0), before, vec![paid()]);
    assert!(sends(&effects).is_empty(), "asked before it became due");
    let effects = desk.look(0, paid());
    assert_eq!(sends(&effects).len(), 1);
    assert_eq!(desk.told(), None);
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    assert_eq!((desk.word(0), desk.told()), ("refunded", Some(Settled::Canceled)));
    assert!(desk.said("duplicate_refunded"));
}

#[test]
fn t19_when_tries_are_exhausted_an_operator_looks_and_truth_is_still_accepted() {
    let mut desk = by_card(card(NotFound::Undeclared));
    desk.time_out();
    desk.run_for(73 * HOUR);
    assert!(desk.attempt(0).manual && desk.due.is_some());
    assert_eq!(desk.status(), ("processing", Some("under_review")));
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn t20_an_operator_decides_with_evidence() {
    let doubt = || {
        let mut desk = by_card(card(NotFound::Undeclared));
        desk.time_out();
        desk
    };
    let mut desk = doubt();
    desk.verdict(Subject::Attempt(0), true).unwrap();
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    let mut desk = doubt();
    desk.verdict(Subject::Attempt(0), false).unwrap();
    assert!(matches!(desk.state(0), AttemptState::Failed { reason: FailReason::Operator, .. }));
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Failed), 1));
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.word(0), "refund_due");
    let mut desk = doubt();
    desk.cancel().unwrap();
    desk.verdict(Subject::Attempt(0), true).unwrap();
    assert_eq!(desk.word(0), "refund_due");
    let mut desk = on_the_screen();
    assert!(desk.verdict(Subject::Attempt(0), false).is_err(), "a shown code is payable");
    let mut desk = at_the_till();
    assert!(desk.verdict(Subject::Attempt(0), false).is_err(), "it is on the wire");
}

#[test]
fn an_automatic_capture_that_is_only_held_is_asked_about_until_it_is_taken() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(held());
    assert_eq!(desk.status(), ("processing", Some("provider_pending")));
    assert_eq!(desk.told(), None);
    let effects = desk.come_due();
    assert!(asks(&effects, Subject::Attempt(0)));
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn an_offer_is_not_shown_to_a_shopper_who_has_left() {
    let accounts = vec![crate::table::account("a", crate::table::code())];
    let asked = crate::table::submission(crate::table::qr_method());
    let mut desk = crate::desk::Desk::with(crate::table::policy(accounts), asked);
    desk.cancel().unwrap();
    desk.hear(shown());
    assert!(desk.attempt(0).offer.is_none());
    assert_eq!(desk.told(), Some(Settled::Canceled));
}

#[test]
fn a_terminal_payment_that_stays_pending_is_closed() {
    let mut desk = at_the_till();
    desk.hear(Fact::new(What::Pending));
    let mut closes = 0;
    for _ in 0..12 {
        closes += sends(&desk.come_due()).len();
        if closes > 0 {
            break;
        }
        desk.look(0, Fact::new(What::Pending));
    }
    assert_eq!((closes, desk.word(0)), (1, "closing"));
    desk.hear_of(CLOSE, Fact::new(What::ClosedUnpaid));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn the_same_inputs_make_the_same_decision() {
    let desk = at_the_till();
    let exchange = desk.last(ExchangeKind::Authorize);
    let input = Input::Lost { exchange, sent: Sent::No, reason: "connect".into() };
    let say = |desk: &crate::desk::Desk| format!("{:?}", desk.ask_engine(&input));
    assert_eq!(say(&desk), say(&desk));
}
