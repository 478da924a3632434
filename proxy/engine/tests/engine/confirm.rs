//! The shopper comes back: what is told to the provider, once, and what a lost answer means.

use interlock_engine::{
    AttemptState, Effect, ExchangeKind, FailReason, Input, Refusal, Request, Sent, Settled,
    Subject, intake,
};
use interlock_plugin_api::{
    Class, Concurrency, Contract, Fact, IdempotencyClass, Inquiry, NotFound, OfferExpiry,
    Operation, What,
};

use crate::desk::{Desk, paid, refused, sends, shown};
use crate::table::{
    HOUR, MINUTE, W, account, asked, bare, moves, policy, submission, token_method,
};

const CONTINUE: ExchangeKind = ExchangeKind::Continue;

/// A challenge that was shown at `a`, with `b` next; both wait for the shopper's return.
fn challenged(contract: Contract) -> Desk {
    let mut desk = asked_for(contract);
    desk.hear(shown());
    assert_eq!(desk.status().0, "requires_action");
    desk
}

/// The same, before the answer.
fn asked_for(contract: Contract) -> Desk {
    let contract = Contract { returning: vec!["token".into()], ..contract };
    let accounts = ["a", "b"].map(|name| {
        let mut account = account(name, contract.clone());
        account.operations.push(Operation::Continue);
        account
    });
    Desk::with(policy(accounts.into()), submission(token_method(&["a", "b"])))
}

/// One key is one execution, a refusal is the end, nobody can be asked, nothing can be closed.
fn mute() -> Contract {
    let mut moves = moves(IdempotencyClass::Strong, Concurrency::Excluded);
    moves.values_mut().for_each(|rule| rule.refusal_final = true);
    Contract { moves, ..bare() }
}

/// Only a success is remembered; it can be asked, and a challenge ends by itself.
fn talkative() -> Contract {
    let expiry = OfferExpiry { after_ms: HOUR, margin_ms: MINUTE };
    Contract {
        moves: moves(IdempotencyClass::SuccessOnly, Concurrency::Excluded),
        inquiry: asked(NotFound::AfterFence),
        offer_expiry: Some(expiry),
        ..bare()
    }
}

fn conflicts(desk: &mut Desk, key: &str, brought: &'static str) {
    let refusal = desk.confirm(key, brought).unwrap_err();
    assert!(matches!(refusal, Refusal::InvalidState { .. }), "{refusal:?}");
}

#[test]
fn what_the_shopper_brought_is_told_once_and_decides() {
    let mut desk = challenged(mute());
    let effects = desk.confirm("c1", "ok").unwrap();
    let id = desk.last(CONTINUE);
    assert_eq!((sends(&effects), desk.word(0)), (vec![id.as_str()], "started"));
    assert_eq!(desk.attempt(0).sends(), 2, "it is durable with its number");
    assert!(intake::wants_details(desk.p()));
    assert!(desk.confirm("c1", "ok").unwrap().is_empty(), "the same key is the same return");
    conflicts(&mut desk, "c2", "other");
    desk.hear_of(CONTINUE, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    assert!(!intake::wants_details(desk.p()));
    assert!(desk.confirm("c3", "late").unwrap().is_empty(), "nothing is left to be told");
}

#[test]
fn without_details_nothing_is_sent_and_a_provider_that_waits_for_none_is_asked() {
    let mut desk = challenged(mute());
    let empty = Input::Merchant(Request::Confirm { key: "c".into(), details: false });
    let refusal = desk.put(empty.clone()).unwrap_err();
    assert!(matches!(refusal, Refusal::Unprocessable { param: "details", .. }), "{refusal:?}");
    desk.broken_plugin = true;
    let refusal = desk.confirm("c", "nonsense").unwrap_err();
    assert!(matches!(refusal, Refusal::Unprocessable { param: "details", .. }), "{refusal:?}");
    assert_eq!((desk.word(0), desk.attempt(0).sends()), ("action", 1));
    let mut code = crate::desk::on_the_screen();
    let effects = code.put(empty).unwrap();
    assert_eq!(effects, [Effect::Inquire { subject: Subject::Attempt(0) }]);
}

#[test]
fn a_final_refusal_ends_it_and_another_lets_the_shopper_act_again() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "failed").unwrap();
    desk.hear_of(CONTINUE, refused(Class::Verification).of_key());
    let declined = matches!(desk.state(0), AttemptState::Failed { reason, .. }
        if *reason == FailReason::Declined);
    assert!(declined && desk.told() == Some(Settled::Failed));

    let mut desk = challenged(talkative());
    desk.confirm("c1", "failed").unwrap();
    desk.hear_of(CONTINUE, refused(Class::DeclinedSoft));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("action", 1));
    let effects = desk.confirm("c2", "ok").unwrap();
    assert_eq!(sends(&effects).len(), 1);
    // The first answer, heard once more, says nothing about the second return.
    let first = desk.attempt(0).track.exchanges[1].id.clone();
    desk.hear_on(&first, 200, vec![refused(Class::DeclinedSoft)]);
    desk.hear(shown());
    assert_eq!(desk.word(0), "started");
    conflicts(&mut desk, "c3", "ok");
    desk.hear_of(CONTINUE, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn a_refusal_at_the_gate_ends_nothing() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    desk.hear_of(CONTINUE, refused(Class::RateLimited));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("action", 1));
    assert_eq!(sends(&desk.confirm("c2", "ok").unwrap()).len(), 1);
}

#[test]
fn a_soft_refusal_after_the_challenge_may_go_on_to_another_account() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    let effects = desk.hear_of(CONTINUE, refused(Class::DeclinedSoft).of_key());
    assert_eq!((desk.word(0), desk.word(1)), ("failed", "started"));
    assert_eq!(sends(&effects).len(), 1);
}

#[test]
fn a_lost_answer_is_a_doubt_that_is_sent_again_and_never_elsewhere() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    desk.lose(CONTINUE);
    assert_eq!(desk.status(), ("processing", Some("provider_outcome_unknown")));
    conflicts(&mut desk, "c2", "other");
    let effects = desk.come_due();
    assert_eq!(sends(&effects), [desk.last(CONTINUE)]);
    assert_eq!(desk.attempt(0).track.exchanges[1].sends, 2, "the same number once more");
    // Not the key's own answer: what became of the first copy is still not known.
    desk.hear_of(CONTINUE, refused(Class::DeclinedSoft));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("ambiguous", 1));
    desk.come_due();
    desk.hear_of(CONTINUE, paid());
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Succeeded), 1));
}

#[test]
fn what_was_not_sent_leaves_the_shopper_where_he_was() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    let id = desk.last(CONTINUE);
    desk.lose_on(&id, Sent::No);
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("action", 1));
    // The same key is the same request, for the first time.
    let effects = desk.confirm("c1", "ok").unwrap();
    assert_eq!(sends(&effects).len(), 1);
    let [_, old, new] = &desk.attempt(0).track.exchanges[..] else { panic!("two returns") };
    assert_eq!((&old.op_id, old.sends, new.sends), (&new.op_id, 0, 1));
    // A proof that is heard twice is about the old one.
    desk.lose_on(&id, Sent::No);
    assert_eq!(desk.word(0), "started");
}

#[test]
fn a_process_that_lost_the_details_waits_for_the_same_ones() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    desk.restart();
    assert_eq!(desk.word(0), "ambiguous", "not fenced: the shopper may come back");
    assert!(desk.said("details_gone"));
    assert!(sends(&desk.run_for(HOUR)).is_empty(), "nothing is sent without them");
    conflicts(&mut desk, "c2", "other");
    let effects = desk.confirm("c2", "ok").unwrap();
    let x = &desk.attempt(0).track.exchanges[1];
    assert_eq!((sends(&effects), x.sends), (vec![x.id.as_str()], 2), "under the first number");
    desk.hear_of(CONTINUE, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}

#[test]
fn where_a_doubt_can_be_resolved_otherwise_nobody_waits_for_the_shopper() {
    let mut desk = challenged(talkative());
    desk.confirm("c1", "ok").unwrap();
    desk.lose(CONTINUE);
    assert_eq!(desk.word(0), "fenced");
    conflicts(&mut desk, "c2", "ok");
    // It stands unpaid, says who may not have heard of it yet.
    desk.look(0, shown());
    desk.look(0, Fact::new(What::Pending));
    assert_eq!(desk.word(0), "fenced");
    let early = desk.asking();
    desk.pass(W + 2 * HOUR);
    desk.answer(Subject::Attempt(0), early, vec![Fact::new(What::Expired)]);
    assert_eq!(desk.word(0), "fenced");
    desk.look(0, Fact::new(What::Expired));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("failed", 2));
}

#[test]
fn a_notification_may_come_first_and_nothing_is_told_after_it() {
    let mut desk = challenged(mute());
    let number = desk.attempt(0).op_id.clone();
    desk.notice("a", paid().about(number));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    assert!(desk.confirm("c1", "ok").unwrap().is_empty());
    let mut desk = challenged(mute());
    let number = desk.attempt(0).op_id.clone();
    desk.notice("a", refused(Class::Verification).of_key().about(number));
    assert_eq!(desk.told(), Some(Settled::Failed), "abandoned, and the provider says so");
}

#[test]
fn after_a_cancel_nothing_more_is_told() {
    let mut desk = challenged(mute());
    desk.cancel().unwrap();
    assert!(desk.confirm("c1", "ok").is_ok_and(|effects| sends(&effects).is_empty()));
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    desk.cancel().unwrap();
    let id = desk.last(CONTINUE);
    desk.lose_on(&id, Sent::No);
    // It can't be paid without us, and nothing more is told: so it is over.
    assert_eq!((desk.word(0), desk.told()), ("failed", Some(Settled::Canceled)));
    assert!(desk.confirm("c1", "ok").is_ok_and(|effects| sends(&effects).is_empty()));
}

/// A provider of which only silence, or its own leave, permits another send.
fn strict() -> Contract {
    let mut contract = mute();
    contract.moves.values_mut().for_each(|rule| {
        rule.resend_after_silence_only = true;
        rule.resend_codes = vec!["again:*".into()];
        rule.resend_after_ms = 1_000;
    });
    Contract { inquiry: Inquiry::default(), ..contract }
}

#[test]
fn an_answer_is_followed_by_another_send_only_with_its_leave() {
    for (code, may) in [("again:busy", true), ("503", false)] {
        let accounts = vec![account("a", strict()), account("b", strict())];
        let mut desk = Desk::with(policy(accounts), submission(token_method(&["a", "b"])));
        let id = desk.last(ExchangeKind::Authorize);
        let busy = Fact::declined(Class::ProviderDown, code);
        desk.hear_on(&id, 503, vec![busy]);
        assert_eq!(desk.p().attempts.len(), 1, "leave to send again is no proof");
        assert_eq!(desk.word(0), if may { "ambiguous" } else { "fenced" }, "{code}");
        // It is remembered with the payment, whoever goes on with it.
        desk.other_process();
        desk.put(Input::Recovered).unwrap();
        let effects = desk.run_for(HOUR);
        assert_eq!(sends(&effects).first(), may.then_some(&id.as_str()), "{code}");
        assert_eq!(desk.p().attempts.len(), 1);
    }
}

#[test]
fn the_next_answer_takes_the_leave_back() {
    let accounts = vec![account("a", strict()), account("b", strict())];
    let mut desk = Desk::with(policy(accounts), submission(token_method(&["a", "b"])));
    let id = desk.last(ExchangeKind::Authorize);
    desk.hear_on(&id, 503, vec![Fact::unknown("again:busy")]);
    while desk.attempt(0).sends() < 2 {
        desk.come_due();
    }
    desk.hear_on(&id, 500, vec![Fact::unknown("500")]);
    assert_eq!(desk.word(0), "fenced");
    assert!(sends(&desk.run_for(HOUR)).is_empty());
}

#[test]
fn rows_of_an_older_build_are_still_read() {
    let mut desk = challenged(mute());
    desk.confirm("c1", "ok").unwrap();
    let mut row = serde_json::to_value(desk.p()).unwrap();
    let reply = &mut row["attempts"][0]["track"]["exchanges"][0]["reply"]["answered"];
    assert!(reply.get("may_follow").is_none(), "what is not said is not stored");
    let read: interlock_engine::Payment = serde_json::from_value(row).unwrap();
    assert_eq!(&read, desk.p());
}

#[test]
fn an_operators_denial_is_known_in_rows_of_both_forms() {
    let mut desk = crate::desk::authorized(mute());
    desk.capture("x", None).unwrap();
    desk.lose(ExchangeKind::Capture);
    desk.verdict(Subject::Operation(0), false).unwrap();
    let op = desk.op(0);
    assert!(op.denied && op.was_denied() && op.provider_code.is_none());
    let mut row = serde_json::to_value(desk.p()).unwrap();
    let old = row["operations"][0].as_object_mut().unwrap();
    old.remove("denied");
    old.insert("provider_code".into(), "operator".into());
    let read: interlock_engine::Payment = serde_json::from_value(row).unwrap();
    assert!(!read.operations[0].denied && read.operations[0].was_denied());
    desk.payment = Some(read);
    desk.notice("a", paid());
    assert!(desk.op(0).state.is_open(), "it was that one after all: {:?}", desk.op(0));
    assert!(!desk.op(0).was_denied());
}

#[test]
fn a_copy_that_would_open_a_second_challenge_is_never_sent() {
    let mut contract = talkative();
    contract.inquiry = Inquiry::default();
    contract.moves.values_mut().for_each(|rule| rule.never_asynchronous = true);
    let sends_after_silence = |returning: Vec<String>| {
        let mut one = account("a", Contract { returning, ..contract.clone() });
        one.operations.push(Operation::Continue);
        let mut desk = Desk::with(policy(vec![one]), submission(token_method(&["a"])));
        desk.time_out();
        desk.come_due();
        desk.attempt(0).sends()
    };
    assert_eq!(sends_after_silence(Vec::new()), 2, "elsewhere only a success is one");
    assert_eq!(sends_after_silence(vec!["token".into()]), 1);
}

#[test]
fn what_the_shopper_can_pay_by_himself_is_never_gone_on_with() {
    let mut desk = crate::desk::on_the_screen();
    let account = desk.policy.accounts.get_mut("a").unwrap();
    account.operations.push(Operation::Continue);
    let effects = desk.confirm("c1", "ok").unwrap();
    assert!(sends(&effects).is_empty(), "the flow is not declared");
}

#[test]
fn where_a_copy_of_a_return_may_come_late_no_other_return_is_told() {
    let mut contract = Contract { inquiry: asked(NotFound::Undeclared), ..talkative() };
    contract.moves.values_mut().for_each(|rule| rule.never_asynchronous = true);
    let mut desk = challenged(contract);
    desk.confirm("c1", "ok").unwrap();
    desk.lose(CONTINUE);
    desk.come_due();
    assert_eq!(desk.attempt(0).track.exchanges[1].sends, 2);
    // The copy that was answered opened a new challenge; the other one may still take the money.
    desk.hear_of(CONTINUE, shown());
    assert_eq!(desk.word(0), "action");
    conflicts(&mut desk, "c2", "ok");
    desk.pass(W + HOUR);
    conflicts(&mut desk, "c2", "ok");
    let number = desk.attempt(0).op_id.clone();
    desk.notice("a", paid().about(number));
    assert_eq!((desk.told(), desk.attempt(0).sends()), (Some(Settled::Succeeded), 3));
}

#[test]
fn where_a_version_can_not_read_what_came_of_it_no_return_is_told() {
    let mut desk = challenged(mute());
    let number = desk.attempt(0).op_id.clone();
    let account = desk.policy.accounts.get_mut("a").unwrap();
    (account.state_version, account.continues) = (2, vec![2]);
    conflicts(&mut desk, "c1", "ok");
    // What it took for a refusal may have been the success.
    let facts = vec![refused(Class::DeclinedHard).of_key().about(number)];
    desk.put(Input::Noticed { account: "a".into(), state_version: 2, facts }).unwrap();
    assert_eq!(
        (desk.word(0), desk.attempt(0).alert.as_deref()),
        ("action", Some("plugin_version"))
    );
    let account = desk.policy.accounts.get_mut("a").unwrap();
    (account.state_version, account.continues) = (1, vec![1]);
    conflicts(&mut desk, "c1", "ok");
    assert_eq!(desk.attempt(0).sends(), 1);
}

#[test]
fn a_success_under_another_number_than_the_challenge_is_one_charge() {
    let mut desk = challenged(mute());
    desk.look(0, shown().with_provider_ref("step-1"));
    desk.confirm("c1", "ok").unwrap();
    desk.hear_of(CONTINUE, paid().with_provider_ref("charge-1"));
    let number = desk.attempt(0).op_id.clone();
    desk.notice("a", paid().with_provider_ref("charge-1").about(number.clone()));
    assert_eq!((desk.p().attempts.len(), desk.told()), (1, Some(Settled::Succeeded)));
    assert_eq!(desk.attempt(0).provider_ref.as_deref(), Some("charge-1"));
    desk.notice("a", paid().with_provider_ref("charge-2").about(number));
    assert_eq!((desk.p().attempts.len(), desk.word(1)), (2, "refund_due"), "that is another one");
}

/// The same, at a provider that knows by itself that the shopper approved.
fn approving(contract: Contract) -> Desk {
    let mut desk = challenged(contract);
    for account in desk.policy.accounts.values_mut() {
        account.contract.approving = vec!["token".into()];
    }
    desk
}

fn approved(desk: &Desk) -> Fact {
    Fact::new(What::Approved).about(desk.attempt(0).op_id.clone())
}

#[test]
fn an_approval_is_gone_on_with_once_whoever_says_it() {
    let mut desk = approving(mute());
    let effects = desk.notice("a", approved(&desk));
    let id = desk.last(CONTINUE);
    assert_eq!((sends(&effects), desk.word(0)), (vec![id.as_str()], "started"));
    // Told again, and the shopper is back: nothing more is sent, and nobody is in the way.
    assert!(sends(&desk.notice("a", approved(&desk))).is_empty());
    assert!(desk.confirm("c1", "ok").unwrap().is_empty());
    desk.hear_of(CONTINUE, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    assert!(sends(&desk.notice("a", approved(&desk))).is_empty());
}

#[test]
fn an_approval_needs_no_details_and_another_provider_is_not_gone_on_with() {
    let mut desk = approving(mute());
    let empty = Input::Merchant(Request::Confirm { key: "c".into(), details: false });
    assert_eq!(sends(&desk.put(empty).unwrap()).len(), 1);
    let mut desk = challenged(mute());
    assert!(sends(&desk.notice("a", approved(&desk))).is_empty(), "it is not declared");
    assert_eq!(desk.word(0), "action");
}

#[test]
fn a_refused_return_is_followed_by_news_and_not_by_the_same_word_again() {
    let mut desk = approving(talkative());
    desk.look(0, approved(&desk));
    assert_eq!(desk.word(0), "started");
    desk.hear_of(CONTINUE, refused(Class::User));
    assert_eq!(desk.word(0), "action");
    // Asked, the provider still says so; another try would be refused like the first one.
    assert!(sends(&desk.look(0, approved(&desk))).is_empty());
    let effects = desk.notice("a", approved(&desk));
    assert_eq!(sends(&effects).len(), 1);
    assert_eq!(desk.attempt(0).track.of(CONTINUE).count(), 2);
    let mut numbers: Vec<_> = desk.attempt(0).track.of(CONTINUE).map(|x| x.op_id.clone()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), 2, "each under a number of its own");
}

#[test]
fn what_can_t_be_paid_without_us_ends_by_our_own_word() {
    let mut desk = approving(mute());
    desk.cancel().unwrap();
    assert_eq!((desk.word(0), desk.told()), ("failed", Some(Settled::Canceled)));
    assert!(desk.attempt(0).track.fence.is_some(), "nothing is sent any more");
    assert!(sends(&desk.notice("a", approved(&desk))).is_empty());
    // If it was paid all the same, that is not kept.
    let number = desk.attempt(0).op_id.clone();
    desk.notice("a", paid().about(number));
    assert_eq!(desk.word(0), "refund_due");
}

#[test]
fn a_return_in_doubt_ends_only_when_it_was_asked_about_behind_the_window() {
    let mut contract = talkative();
    contract.moves = moves(IdempotencyClass::None, Concurrency::Undeclared);
    let mut desk = approving(contract);
    desk.notice("a", approved(&desk));
    desk.lose(CONTINUE);
    assert_eq!(desk.word(0), "fenced");
    let early = desk.asking();
    desk.look(0, approved(&desk));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("fenced", 1), "a copy may be under way");
    desk.pass(W + MINUTE);
    desk.answer(Subject::Attempt(0), early, vec![approved(&desk)]);
    assert_eq!(desk.word(0), "fenced", "asked too early, whenever it is heard");
    desk.look(0, approved(&desk));
    assert_eq!(desk.word(0), "failed");
    assert_eq!(desk.p().attempts.len(), 2, "only then the next account");
}

#[test]
fn an_approval_of_what_a_lost_answer_had_shown_ends_it_when_it_is_asked_about_late() {
    let mut contract = talkative();
    contract.moves = moves(IdempotencyClass::None, Concurrency::Undeclared);
    let mut desk = asked_for(Contract { approving: vec!["token".into()], ..contract });
    desk.lose(ExchangeKind::Authorize);
    assert_eq!(desk.word(0), "fenced");
    desk.notice("a", approved(&desk));
    desk.look(0, approved(&desk));
    assert_eq!(desk.word(0), "fenced", "the request may still be under way");
    desk.pass(W + MINUTE);
    let effects = desk.look(0, approved(&desk));
    assert!(sends(&effects).iter().all(|id| !id.contains("continue")));
    assert_eq!(desk.word(0), "failed", "it waits for what is never sent");
}
