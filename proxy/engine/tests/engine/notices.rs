//! Notifications (SAFETY 2.8): before the answer, again, out of order, unknown, and as hints.

use interlock_engine::{ExchangeKind, Input, OperationState, Settled, Subject};
use interlock_plugin_api::{Class, Fact, Inquiry, NotFound, What};

use crate::desk::{Desk, asks, at_the_till, by_card, on_the_screen, paid, refused, sends};
use crate::table::{AMOUNT, account, bare, card, money, policy, submission, token_method};

fn about(desk: &Desk, fact: Fact) -> Fact {
    fact.about(desk.attempt(0).op_id.clone())
}

#[test]
fn a_notice_may_come_before_the_answer() {
    let mut desk = at_the_till();
    let first = desk.last(ExchangeKind::Authorize);
    desk.notice("a", about(&desk, paid()));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    let ver = desk.p().ver;
    desk.hear_on(&first, 200, vec![paid()]);
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Succeeded), 1));
    assert!(desk.p().ver >= ver);
    let mut desk = at_the_till();
    desk.notice("a", about(&desk, paid()));
    desk.time_out();
    assert_eq!((desk.word(0), desk.due), ("success", None));
}

#[test]
fn a_notice_that_is_said_again_changes_nothing() {
    let mut desk = at_the_till();
    desk.notice("a", about(&desk, paid()));
    let before = desk.p().clone();
    desk.notice("a", about(&desk, paid()));
    assert_eq!(desk.p(), &before);
}

#[test]
fn notices_out_of_order_end_in_the_same_truth() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.notice("a", about(&desk, paid()));
    desk.notice("a", about(&desk, Fact::new(What::Authorized).with_provider_ref("ref-1")));
    desk.notice("a", about(&desk, Fact::new(What::Pending)));
    assert_eq!((desk.word(0), desk.told()), ("success", Some(Settled::Succeeded)));
    assert_eq!(desk.p().captured(), AMOUNT);
}

#[test]
fn a_negative_notice_is_a_hint_where_only_success_is_remembered() {
    let mut desk = by_card(card(NotFound::AfterFence));
    let effects = desk.notice("a", about(&desk, refused(Class::DeclinedSoft)));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("started", 1));
    assert!(asks(&effects, Subject::Attempt(0)));
}

#[test]
fn a_negative_notice_of_a_strong_key_is_a_fact() {
    let mut desk = at_the_till();
    desk.notice("a", about(&desk, refused(Class::DeclinedHard)));
    assert_eq!((desk.word(0), desk.told()), ("failed", Some(Settled::Failed)));
}

#[test]
fn who_can_not_be_asked_is_believed_under_the_same_rules() {
    let mut contract = bare();
    contract.inquiry = Inquiry::default();
    let accounts = vec![account("a", contract)];
    let mut desk = Desk::with(policy(accounts), submission(token_method(&["a"])));
    desk.time_out();
    desk.notice("a", about(&desk, refused(Class::DeclinedHard)));
    assert_eq!((desk.word(0), desk.told()), ("failed", Some(Settled::Failed)));
}

#[test]
fn a_notice_without_a_proof_code_is_a_hint() {
    let mut desk = at_the_till();
    let effects = desk.notice("a", about(&desk, Fact::declined(Class::DeclinedHard, "unlisted")));
    assert_eq!(desk.word(0), "started");
    assert!(asks(&effects, Subject::Attempt(0)));
}

#[test]
fn a_notice_from_another_account_or_about_nothing_of_ours_is_written_down_only() {
    let mut desk = at_the_till();
    let effects = desk.notice("b", about(&desk, paid()));
    assert!(effects.is_empty() && desk.word(0) == "started");
    assert!(desk.said("unknown_reference"));
    desk.notice("a", paid().about("NOBODY").with_provider_ref("nothing"));
    assert_eq!((desk.word(0), desk.told()), ("started", None));
}

#[test]
fn a_notice_finds_its_operation_by_either_number() {
    for by_ours in [true, false] {
        let mut desk = at_the_till();
        desk.hear(paid());
        desk.refund("r1", None).unwrap();
        let pending = Fact::new(What::Pending).with_operation_ref("op-7");
        desk.hear_of(ExchangeKind::Refund, pending);
        let done = Fact::new(What::Refunded).with_amount(money(AMOUNT));
        let done = if by_ours {
            done.about(desk.op(0).op_id.clone())
        } else {
            done.with_operation_ref("op-7").with_provider_ref("ref-1")
        };
        desk.notice("a", done);
        assert_eq!(desk.op(0).state, OperationState::Done);
        assert_eq!((desk.p().operations.len(), desk.p().refunded()), (1, AMOUNT));
    }
}

#[test]
fn a_pending_notice_of_a_shown_code_means_that_the_order_was_seen() {
    let mut desk = on_the_screen();
    desk.look(0, Fact::new(What::Pending));
    assert!(desk.attempt(0).order_seen && desk.word(0) == "action");
    desk.cancel().unwrap();
    assert!(desk.attempt(0).track.of(ExchangeKind::Close).all(|x| x.order_seen));
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedNothingFound));
    assert_eq!(desk.told(), Some(Settled::Canceled));
}

#[test]
fn a_code_that_is_scanned_after_a_close_found_nothing_is_closed_again() {
    let mut desk = on_the_screen();
    desk.cancel().unwrap();
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedNothingFound));
    assert_eq!(desk.word(0), "closing");
    let effects = desk.look(0, Fact::new(What::Pending));
    assert_eq!(sends(&effects).len(), 1);
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedUnpaid));
    assert_eq!(desk.told(), Some(Settled::Canceled));
}

#[test]
fn a_notice_reads_as_its_plugins_version_allows() {
    let mut desk = at_the_till();
    let facts = vec![about(&desk, refused(Class::DeclinedHard))];
    let input = Input::Noticed { account: "a".into(), state_version: 7, facts };
    let effects = desk.put(input).unwrap();
    assert_eq!(desk.word(0), "started");
    assert!(asks(&effects, Subject::Attempt(0)));
    let failed = Fact::new(What::Failed);
    desk.hear(paid());
    desk.refund("r1", None).unwrap();
    desk.hear_of(ExchangeKind::Refund, Fact::new(What::Refunded));
    let facts = vec![failed.about(desk.op(0).op_id.clone())];
    desk.put(Input::Noticed { account: "a".into(), state_version: 7, facts }).unwrap();
    assert_eq!(desk.op(0).state, OperationState::Done);
}
