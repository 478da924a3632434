//! One live payment per order, numbers that are derived, and switches (SAFETY 2.6).

use interlock_engine::{
    ExchangeKind, Input, MerchantPolicy, Method, OrderHolder, OrderStep, Refusal, Request, Settled,
    intake,
};
use interlock_plugin_api::{Class, CredentialForm, Fact, NotFound, What};

use crate::desk::{Desk, at_the_till, by_card, held, on_the_screen, paid, refused, sends, shown};
use crate::table::{
    HOUR, MINUTE, barcode_method, card, method, qr_method, submission, token_method,
};

fn switch(desk: &mut Desk, method: Method) -> Result<usize, Refusal> {
    let request = Request::Switch { key: "s1".into(), method };
    desk.put(Input::Merchant(request)).map(|effects| sends(&effects).len())
}

#[test]
fn numbers_are_derived_so_a_lost_row_repeats_them() {
    let (one, two) = (at_the_till(), at_the_till());
    assert_eq!(one.p(), two.p());
    let mut other = submission(barcode_method());
    other.key = "k2".into();
    let desk = Desk::with(one.policy.clone(), other);
    assert_ne!(desk.p().id, one.p().id);
    assert_ne!(desk.attempt(0).op_id, one.attempt(0).op_id);
    let ok = |s: &str| s.len() <= 32 && s.bytes().all(|b| b.is_ascii_alphanumeric());
    assert!(ok(&one.attempt(0).op_id));
    let world = interlock_engine::World {
        now: one.now,
        policy: &one.policy,
        health: &one.health,
        mint: &crate::table::Numbers,
        draw: 0.0,
        sending: false,
        credential: true,
        details: false,
        order: None,
        stated: None,
    };
    assert_eq!(intake::payment_id(&world, "shop", "k1"), one.p().id);
}

#[test]
fn a_live_order_refuses_a_second_payment_and_a_paid_one_needs_another() {
    let mut desk = at_the_till();
    desk.payment = None;
    let ask = |desk: &mut Desk, succeeded, another| {
        desk.payment = None;
        desk.order = Some(OrderHolder { payment: "pay_first".into(), succeeded });
        let mut asked = submission(barcode_method());
        (asked.key, asked.another) = ("k2".into(), another);
        desk.put(Input::Submitted(asked)).map(|_| desk.order_step.clone())
    };
    let taken = Refusal::OrderHasLivePayment { payment: "pay_first".into() };
    assert_eq!(ask(&mut desk, false, false), Err(taken.clone()));
    assert_eq!(ask(&mut desk, false, true), Err(taken.clone()));
    assert_eq!(ask(&mut desk, true, false), Err(taken));
    let over = OrderStep::TakeOver { from: "pay_first".into() };
    assert_eq!(ask(&mut desk, true, true), Ok(over));
    let mut loose = submission(barcode_method());
    loose.merchant_ref = None;
    desk.payment = None;
    desk.put(Input::Submitted(loose)).unwrap();
    assert_eq!(desk.order_step, OrderStep::Keep);
}

#[test]
fn a_failed_payment_gives_its_order_free_and_a_paid_one_keeps_it() {
    let mut desk = at_the_till();
    desk.hear(refused(Class::User));
    assert_eq!((desk.told(), desk.order_step.clone()), (Some(Settled::Failed), OrderStep::Release));
    assert!(!intake::holds_order(desk.p()));
    let mut desk = at_the_till();
    desk.hear(paid());
    assert_eq!(desk.order_step, OrderStep::Keep);
    assert!(intake::holds_order(desk.p()));
}

#[test]
fn a_switch_closes_the_old_offer_first_and_may_go_to_the_same_account() {
    let mut desk = on_the_screen();
    assert_eq!(switch(&mut desk, barcode_method()), Ok(1));
    assert_eq!(desk.status(), ("processing", Some("closing")));
    assert_eq!(desk.p().attempts.len(), 1);
    desk.look(0, Fact::new(What::Pending));
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedUnpaid));
    assert_eq!((desk.word(0), desk.word(1)), ("failed", "started"));
    assert_eq!((desk.attempt(1).account.as_str(), desk.attempt(1).flow.as_str()), ("a", "barcode"));
    assert_eq!(desk.told(), None);
}

#[test]
fn a_switch_that_finds_the_old_offer_paid_succeeds_with_it() {
    let mut desk = on_the_screen();
    switch(&mut desk, barcode_method()).unwrap();
    desk.hear_of(ExchangeKind::Close, paid());
    assert_eq!(desk.told(), None);
    desk.look(0, paid());
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Succeeded), 1));
}

#[test]
fn a_switch_of_a_doubt_waits_for_the_doubt() {
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.time_out();
    switch(&mut desk, qr_method()).unwrap();
    assert_eq!(desk.p().attempts.len(), 1);
    desk.run_for(21 * MINUTE);
    desk.look(0, Fact::new(What::NotFound));
    assert_eq!((desk.p().attempts.len(), desk.attempt(1).flow.as_str()), (2, "qr"));
}

#[test]
fn a_switch_is_refused_when_it_is_final_held_or_canceled_or_nobody_takes_the_method() {
    let mut desk = at_the_till();
    desk.hear(paid());
    assert!(switch(&mut desk, qr_method()).is_err());
    let mut desk = by_card(card(NotFound::AfterFence));
    desk.hear(held());
    assert!(switch(&mut desk, qr_method()).is_err());
    let mut desk = on_the_screen();
    desk.cancel().unwrap();
    assert!(switch(&mut desk, barcode_method()).is_err());
    let mut desk = on_the_screen();
    let ver = desk.p().ver;
    let carrier = method("pigeon", "post", CredentialForm::None);
    assert!(matches!(switch(&mut desk, carrier), Err(Refusal::NoAccountAvailable { .. })));
    assert_eq!((desk.p().ver, desk.word(0)), (ver, "action"));
}

#[test]
fn an_instant_switch_shows_at_once_and_gives_the_loser_back() {
    let mut desk = on_the_screen();
    let rule = MerchantPolicy { instant_switch: true, ..MerchantPolicy::default() };
    desk.policy.merchants.insert("shop".into(), rule);
    switch(&mut desk, barcode_method()).unwrap();
    assert_eq!((desk.word(0), desk.word(1)), ("closing", "started"));
    assert!(desk.attempt(0).loser);
    desk.hear(paid().with_provider_ref("ref-2"));
    assert_eq!(desk.told(), Some(Settled::Succeeded));
    desk.lose(ExchangeKind::Close);
    desk.notice("a", paid().about(desk.attempt(0).op_id.clone()));
    desk.pass(HOUR);
    desk.look(0, paid());
    assert_eq!(desk.word(0), "refund_due");
}

#[test]
fn after_an_instant_switch_each_hold_is_voided_under_its_own_number() {
    let mut desk = on_the_screen();
    let rule = MerchantPolicy { instant_switch: true, ..MerchantPolicy::default() };
    desk.policy.merchants.insert("shop".into(), rule);
    switch(&mut desk, barcode_method()).unwrap();
    desk.cancel().unwrap();
    desk.hear(held());
    desk.hear_of(ExchangeKind::Void, Fact::new(What::Voided));
    desk.hear_of(ExchangeKind::Close, Fact::unknown("busy"));
    desk.pass(HOUR);
    let late = held().with_provider_ref("ref-2");
    desk.look(0, late.clone());
    desk.look(0, late);
    let numbers: Vec<&str> = desk.p().operations.iter().map(|o| o.op_id.as_str()).collect();
    assert_eq!(numbers.len(), 2);
    assert_ne!(numbers[0], numbers[1]);
}

#[test]
fn a_cancel_takes_a_switch_back() {
    let mut desk = on_the_screen();
    switch(&mut desk, barcode_method()).unwrap();
    desk.cancel().unwrap();
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedUnpaid));
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Canceled), 1));
}

#[test]
fn a_switch_whose_method_nobody_can_take_now_ends_the_payment() {
    let mut desk = on_the_screen();
    switch(&mut desk, barcode_method()).unwrap();
    desk.broken_plugin = true;
    desk.hear_of(ExchangeKind::Close, Fact::new(What::ClosedUnpaid));
    assert_eq!((desk.told(), desk.p().attempts.len()), (Some(Settled::Failed), 1));
}

#[test]
fn the_credential_is_kept_only_while_it_may_be_wanted() {
    let mut desk = by_card(card(NotFound::AfterFence));
    assert!(intake::wants_credential(desk.p()));
    desk.hear(paid());
    assert!(!intake::wants_credential(desk.p()));
    let mut desk = on_the_screen();
    assert!(!intake::wants_credential(desk.p()));
    desk.look(0, shown());
    assert_eq!(token_method(&["a"]).token_accounts.len(), 1);
}
