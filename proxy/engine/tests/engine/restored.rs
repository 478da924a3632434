//! A journal that was restored from a backup (SAFETY section 2.9): what it had lost is known again
//! by its numbers, and nothing is sent that may have been sent already.

use interlock_engine::{
    ExchangeKind, Input, Line, MerchantPolicy, OperationState, Origin, Refusal, Request, Settled,
    Statement, Subject,
};
use interlock_plugin_api::{Class, Fact, NotFound, What};

use crate::desk::{Desk, at_the_till, by_card, on_the_screen, paid, refused, sends};
use crate::table::{AMOUNT, HOUR, MINUTE, W, card, money};

/// The same payment as it went on after the backup, on another desk.
fn lost(desk: &Desk, then: impl FnOnce(&mut Desk)) -> Desk {
    let mut on = Desk::new(desk.policy.clone());
    (on.payment, on.now, on.due) = (desk.payment.clone(), desk.now, desk.due);
    then(&mut on);
    on
}

fn charge(of: &Desk, attempt: usize, fact: Fact) -> Line {
    let a = of.attempt(attempt);
    Line { account: a.account.clone(), number: a.op_id.clone(), operation: None, fact }
}

fn operation(of: &Desk, n: usize, fact: Fact) -> Line {
    let o = of.op(n);
    let operation = Some((o.kind, o.op_id.clone()));
    Line { operation, ..charge(of, o.attempt, fact) }
}

/// A new process has waited, and hears these lines.
fn restore(desk: &mut Desk, lines: Vec<Line>) -> Vec<String> {
    desk.other_process();
    let since = desk.now;
    desk.pass(W + 5 * MINUTE);
    desk.stated = Some(Statement { since, lines });
    let effects = desk.put(Input::Restored).unwrap();
    sends(&effects).into_iter().map(str::to_owned).collect()
}

#[test]
fn an_attempt_that_the_backup_never_saw_is_known_again_and_nothing_is_sent() {
    let mut desk = at_the_till();
    let after = lost(&desk, |on| {
        on.hear(refused(Class::DeclinedSoft));
        on.hear(paid());
    });
    assert_eq!(after.word(1), "success");
    assert!(restore(&mut desk, vec![charge(&after, 1, paid())]).is_empty());
    assert_eq!((desk.word(1), desk.told()), ("success", Some(Settled::Succeeded)));
    assert_eq!(desk.attempt(1).id, after.attempt(1).id);
    // What was in doubt is over, or ends without another try.
    assert!(desk.attempt(0).loser || desk.attempt(0).is_over());
}

#[test]
fn without_a_charge_nobody_else_is_asked_and_what_comes_late_is_recognized() {
    let mut desk = at_the_till();
    let after = lost(&desk, |on| {
        on.hear(refused(Class::DeclinedSoft));
    });
    let late = after.attempt(1).op_id.clone();
    assert!(restore(&mut desk, Vec::new()).is_empty());
    assert_eq!(desk.word(0), "fenced");
    assert!(sends(&desk.run_for(HOUR)).iter().all(|id| id.contains("close")));
    desk.notice("b", paid().about(late));
    assert_eq!((desk.word(1), desk.told()), ("success", Some(Settled::Succeeded)));
}

#[test]
fn one_decline_proves_nothing_when_more_may_have_been_sent() {
    let mut desk = by_card(card(NotFound::AfterFence));
    let exchange = desk.last(ExchangeKind::Authorize);
    restore(&mut desk, Vec::new());
    desk.hear_on(&exchange, 400, vec![refused(Class::DeclinedHard)]);
    assert_eq!(desk.word(0), "fenced");
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.told(), Some(Settled::Failed));
}

#[test]
fn an_offer_that_was_in_the_making_counts_as_shown() {
    let policy = on_the_screen().policy;
    let mut desk = Desk::with(policy, crate::table::submission(crate::table::qr_method()));
    assert_eq!(desk.word(0), "started");
    restore(&mut desk, Vec::new());
    assert_eq!((desk.word(0), desk.told()), ("closing", None));
    assert!(desk.attempt(0).offer.is_some(), "it may be on somebody's screen");
}

#[test]
fn a_payment_whose_row_is_gone_is_known_again_by_the_same_key() {
    let kept = at_the_till();
    let after = lost(&kept, |on| {
        on.hear(refused(Class::DeclinedSoft));
        on.hear(paid());
    });
    let mut desk = Desk::new(kept.policy.clone());
    let lines = vec![charge(&after, 1, paid())];
    desk.stated = Some(Statement { since: desk.now, lines });
    desk.pass(W + HOUR);
    let asked = crate::table::submission(crate::table::barcode_method());
    let effects = desk.put(Input::Submitted(asked)).unwrap();
    assert!(sends(&effects).is_empty());
    assert_eq!(desk.p().id, after.p().id);
    assert_eq!((desk.attempt(0).account.as_str(), desk.told()), ("b", Some(Settled::Succeeded)));
}

#[test]
fn a_refund_that_was_lost_is_claimed_by_its_key_and_made_once() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(paid());
    let after = lost(&desk, |on| {
        on.refund("r1", Some(1_000)).unwrap();
        on.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    });
    let done = Fact::new(What::Refunded).with_amount(money(1_000));
    restore(&mut desk, vec![charge(&after, 0, paid()), operation(&after, 0, done)]);
    assert_eq!((desk.op(0).origin, desk.p().refunded()), (Origin::External, 1_000));
    assert!(sends(&desk.refund("r1", Some(1_000)).unwrap()).is_empty());
    assert_eq!(
        (desk.op(0).id.clone(), desk.op(0).origin),
        (after.op(0).id.clone(), Origin::Merchant)
    );
    assert!(desk.refund("r2", Some(AMOUNT)).is_err(), "the sums know it");
}

#[test]
fn a_refund_that_failed_in_the_lost_time_is_not_sent_again_under_its_number() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(paid());
    let after = lost(&desk, |on| {
        on.refund("r1", None).unwrap();
    });
    let failed = Fact::declined(Class::Unmapped, "bounced");
    let failed = Fact { what: What::Failed, ..failed };
    restore(&mut desk, vec![operation(&after, 0, failed)]);
    assert!(sends(&desk.refund("r1", None).unwrap()).is_empty());
    assert_eq!(desk.op(0).state, OperationState::Rejected);
    assert_eq!(sends(&desk.refund("r2", None).unwrap()).len(), 1);
}

#[test]
fn what_we_gave_back_ourselves_is_not_taken_for_the_payment() {
    let mut desk = at_the_till();
    let after = lost(&desk, |on| {
        on.cancel().unwrap();
        on.hear(paid());
        on.look(0, paid());
        on.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    });
    assert_eq!(after.told(), Some(Settled::Canceled));
    let back = Fact::new(What::Refunded).with_provider_ref("ref-1");
    let lines = vec![charge(&after, 0, back.clone()), operation(&after, 0, back)];
    restore(&mut desk, lines);
    assert_eq!((desk.word(0), desk.told()), ("refunded", Some(Settled::Failed)));
    assert_eq!(desk.op(0).origin, Origin::Resolver);
}

#[test]
fn the_charge_with_which_the_merchant_did_something_is_his() {
    let mut desk = at_the_till();
    let after = lost(&desk, |on| {
        on.hear(refused(Class::DeclinedSoft));
        on.hear(Fact { provider_ref: Some("ref-2".into()), ..paid() });
        on.refund("r1", Some(1_000)).unwrap();
        on.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    });
    // The first account took the money in spite of its word.
    let second = Fact { provider_ref: Some("ref-2".into()), ..paid() };
    let part = Fact::new(What::Refunded).with_amount(money(1_000)).with_provider_ref("ref-2");
    let lines =
        vec![charge(&after, 0, paid()), charge(&after, 1, second), operation(&after, 0, part)];
    restore(&mut desk, lines);
    assert_eq!((desk.word(0), desk.word(1)), ("refund_due", "success"));
    assert_eq!(desk.p().refunded(), 1_000);
}

#[test]
fn a_close_may_have_given_back_what_is_said_to_be_paid() {
    let mut desk = at_the_till();
    desk.lose(ExchangeKind::Authorize);
    restore(&mut desk, Vec::new());
    let before = desk.asking();
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    assert_eq!(desk.told(), None, "it is confirmed first");
    desk.answer(Subject::Attempt(0), before, vec![paid()]);
    assert_eq!(desk.told(), None, "by what is asked now");
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn nothing_new_is_offered_for_what_was_restored() {
    let mut desk = on_the_screen();
    restore(&mut desk, Vec::new());
    let attempts = desk.p().attempts.len();
    let method = crate::table::barcode_method();
    let refusal =
        desk.put(Input::Merchant(Request::Switch { key: "s1".into(), method })).unwrap_err();
    assert!(matches!(refusal, Refusal::InvalidState { .. }), "{refusal:?}");
    assert_eq!(desk.p().attempts.len(), attempts);
}

#[test]
fn what_is_given_back_again_gets_a_number_that_no_lost_refund_had() {
    let mut kept = by_card(card(NotFound::AfterFence));
    kept.cancel().unwrap();
    let mut desk = lost(&kept, |_| ());
    let no = |on: &mut Desk| {
        on.look(0, paid());
        on.hear_of(ExchangeKind::Refund, refused(Class::Config));
    };
    let after = lost(&kept, |on| {
        on.hear(paid());
        no(on);
        on.pass(HOUR);
        no(on);
    });
    assert_ne!(after.op(0).op_id, after.op(1).op_id);
    // Of two that were refused the provider keeps only the second in its books.
    restore(
        &mut desk,
        vec![charge(&after, 0, paid()), operation(&after, 1, refused(Class::Config))],
    );
    desk.look(0, paid());
    let numbers: Vec<&str> = desk.p().operations.iter().map(|o| o.op_id.as_str()).collect();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    assert_ne!(numbers[0], numbers[1]);
    assert_eq!(numbers[0], after.op(1).op_id);
}

#[test]
fn an_older_word_that_comes_after_the_statement_does_not_redo_what_was_undone() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(paid());
    desk.refund("r1", None).unwrap();
    desk.hear_of(ExchangeKind::Refund, refused(Class::Config));
    let kept = lost(&desk, |_| ());
    let failed = Fact { what: What::Failed, ..Fact::declined(Class::Unmapped, "bounced") };
    restore(&mut desk, vec![charge(&kept, 0, paid()), operation(&kept, 0, failed)]);
    let number = desk.op(0).op_id.clone();
    desk.notice("a", Fact::new(What::Refunded).with_amount(money(AMOUNT)).about(number));
    assert_eq!((desk.op(0).state, desk.p().refunded()), (OperationState::Rejected, 0));
}

#[test]
fn what_was_kept_late_and_refunded_in_the_lost_time_is_the_merchants() {
    let mut desk = by_card(card(NotFound::AfterFence));
    let late = MerchantPolicy { accept_late_ms: Some(HOUR), instant_switch: false };
    let merchant = desk.p().merchant.clone();
    desk.policy.merchants.insert(merchant, late);
    desk.hear(refused(Class::DeclinedHard));
    assert_eq!(desk.told(), Some(Settled::Failed));
    let after = lost(&desk, |on| {
        on.notice("a", paid().about(on.attempt(0).op_id.clone()));
        on.look(0, paid());
        on.refund("r1", None).unwrap();
        on.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    });
    assert_eq!((after.told(), after.p().refunded()), (Some(Settled::Succeeded), AMOUNT));
    let done = Fact::new(What::Refunded).with_amount(money(AMOUNT));
    let lines = vec![charge(&after, 0, Fact::new(What::Refunded)), operation(&after, 0, done)];
    assert!(restore(&mut desk, lines).is_empty(), "nothing is given back a second time");
    assert_eq!((desk.told(), desk.p().refunded()), (Some(Settled::Succeeded), AMOUNT));
    let effects = desk.refund("r1", None).unwrap();
    assert!(sends(&effects).is_empty());
    assert_eq!(
        (desk.op(0).id.as_str(), desk.op(0).origin),
        (after.op(0).id.as_str(), Origin::Merchant)
    );
}
