//! Offers that a plugin makes without a request: the shopper carries them to the provider, whenever
//! and as often as he likes, so only their own end is a proof.

use interlock_engine::{ExchangeKind, Reply, Sent, Settled, Subject};
use interlock_plugin_api::{Action, Contract, Fact, What};

use crate::desk::{Desk, asks, paid, sends, shown};
use crate::table::{HOUR, MINUTE, account, code, policy, qr_method, submission};

const CLOSE: ExchangeKind = ExchangeKind::Close;

/// A page at `a`, which ends after two hours, with `b` next.
fn on_a_page() -> Desk {
    let accounts = vec![account("a", code()), account("b", code())];
    let mut desk = Desk::new(policy(accounts));
    desk.page = Some(shown());
    let asked = interlock_engine::Input::Submitted(submission(qr_method()));
    assert!(sends(&desk.put(asked).unwrap()).is_empty(), "nothing is sent");
    assert_eq!(desk.status(), ("requires_action", None), "and it is shown at once");
    desk
}

#[test]
fn nothing_is_sent_and_the_record_is_there() {
    let desk = on_a_page();
    let x = &desk.attempt(0).track.exchanges[0];
    assert!(x.by_shopper && matches!(x.reply, Reply::Answered { .. }));
    assert!(desk.attempt(0).offer.is_some() && desk.due.is_some());
}

#[test]
fn not_found_means_not_opened_until_its_end_and_a_proof_after_it() {
    let mut desk = on_a_page();
    desk.look(0, Fact::new(What::NotFound));
    desk.pass(HOUR);
    let early = desk.asking();
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "action");
    desk.pass(HOUR + 11 * MINUTE);
    desk.answer(Subject::Attempt(0), early, vec![Fact::new(What::NotFound)]);
    assert_eq!(desk.word(0), "action", "it was asked too early");
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.word(0), desk.p().attempts.len()), ("failed", 2), "and then the next");
}

#[test]
fn it_lives_at_least_as_long_as_it_says_itself() {
    let accounts = vec![account("a", code()), account("b", code())];
    let mut desk = Desk::new(policy(accounts));
    // Plugins here make everything at 0.
    let late = i64::try_from(5 * HOUR).unwrap();
    let action = Action { expires_ms: Some(late), ..shown().action.unwrap() };
    desk.page = Some(Fact { action: Some(action), ..shown() });
    desk.put(interlock_engine::Input::Submitted(submission(qr_method()))).unwrap();
    desk.pass(3 * HOUR);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "action");
    desk.pass(2 * HOUR + 11 * MINUTE);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!(desk.word(0), "failed");
}

#[test]
fn a_close_proves_nothing_because_the_page_can_be_opened_again() {
    for answer in [What::ClosedUnpaid, What::ClosedNothingFound] {
        let mut desk = on_a_page();
        desk.look(0, Fact::new(What::Pending));
        desk.cancel().unwrap();
        desk.hear_of(CLOSE, Fact::new(answer));
        assert_eq!((desk.word(0), desk.told()), ("closing", None), "{answer:?}");
        desk.look(0, Fact::new(What::ClosedUnpaid));
        assert_eq!(desk.told(), None);
        desk.pass(2 * HOUR + 11 * MINUTE);
        desk.look(0, Fact::new(What::ClosedUnpaid));
        assert_eq!(desk.told(), Some(Settled::Canceled), "its end was a proof");
    }
    let mut contract: Contract = code();
    contract.close.values_mut().for_each(|close| close.tombstone = true);
    let mut desk = Desk::new(policy(vec![account("a", contract)]));
    desk.page = Some(shown());
    desk.put(interlock_engine::Input::Submitted(submission(qr_method()))).unwrap();
    desk.cancel().unwrap();
    desk.hear_of(CLOSE, Fact::new(What::ClosedNothingFound));
    assert_eq!(desk.told(), Some(Settled::Canceled), "unless a close is declared to be one");
}

#[test]
fn money_is_heard_whenever_it_comes() {
    let mut desk = on_a_page();
    desk.cancel().unwrap();
    desk.lose_on(&desk.last(CLOSE).clone(), Sent::Maybe);
    desk.look(0, paid());
    assert!(desk.told().is_none());
    let mut desk = on_a_page();
    let effects = desk.restart();
    assert!(!asks(&effects, Subject::Attempt(0)) && desk.word(0) == "action");
    let effects = desk.come_due();
    assert!(asks(&effects, Subject::Attempt(0)));
    desk.look(0, paid());
    assert_eq!(desk.told(), Some(Settled::Succeeded));
}
