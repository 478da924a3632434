//! What a verified answer of each operation means.

use interlock_plugin_api::{Class, Currency, Fact, Money, Operation, Scope, What};
use serde_json::{Value, json};

use crate::peer::{is_definite, said};

const NUMBER: &str = "op1234567890";
const TRADE: &str = "2025112522001400000000000001";

fn node(members: Value) -> Value {
    let mut node = json!({ "code": "10000", "msg": "Success", "out_trade_no": NUMBER });
    for (name, value) in members.as_object().unwrap() {
        node[name] = value.clone();
    }
    node
}

fn error(sub_code: &str) -> Value {
    json!({ "code": "40004", "msg": "Business Failed", "sub_code": sub_code })
}

fn cny(amount: i64) -> Option<Money> {
    Some(Money::new(amount, Currency::parse("CNY").unwrap()))
}

fn what(fact: Fact) -> What {
    fact.what
}

#[test]
fn a_paid_barcode_is_captured_with_its_amount_and_number() {
    let paid = json!({ "trade_no": TRADE, "total_amount": "88.88", "receipt_amount": "80.00" });
    let fact = said(Operation::Authorize, "barcode", node(paid));
    assert_eq!((fact.what, fact.scope), (What::Captured, Scope::Key));
    assert_eq!(fact.amount, cny(8_888));
    assert_eq!(fact.provider_ref.as_deref(), Some(TRADE));
}

#[test]
fn an_amount_is_reported_as_it_is_echoed_for_the_host_to_compare() {
    let pay = |members| said(Operation::Authorize, "barcode", node(members));
    assert_eq!(pay(json!({ "total_amount": "0.01" })).amount, cny(1));
    let fact = pay(json!({ "total_amount": "88.88", "trans_currency": "USD" }));
    assert_eq!(fact.amount.unwrap().currency.as_str(), "USD");
    for bad in [json!("88.888"), json!("-1"), json!(""), json!(88.88), json!(null)] {
        assert_eq!(what(pay(json!({ "total_amount": bad }))), What::Unknown, "{bad}");
    }
    assert_eq!(what(pay(json!({}))), What::Unknown);
}

#[test]
fn a_shopper_who_must_type_a_password_is_pending() {
    let asks = json!({ "code": "10003", "out_trade_no": NUMBER, "trade_no": TRADE });
    let fact = said(Operation::Authorize, "barcode", asks.clone());
    assert_eq!(fact.what, What::Pending);
    assert_eq!(fact.provider_code.as_deref(), Some("10003"));
    for (op, flow) in [(Operation::Authorize, "qr"), (Operation::Refund, "barcode")] {
        assert_eq!(what(said(op, flow, asks.clone())), What::Unknown);
    }
}

#[test]
fn a_qr_code_is_shown_until_two_hours_after_it_was_made() {
    let made = json!({ "qr_code": "https://qr.alipay.com/bax0001" });
    let fact = said(Operation::Authorize, "qr", node(made));
    assert_eq!(fact.what, What::Action);
    let action = fact.action.unwrap();
    assert_eq!(action.kind, "qr_code");
    assert_eq!(action.payload["qr_code"], "https://qr.alipay.com/bax0001");
    assert_eq!(action.expires_ms, Some(1_764_000_000_000 + 7_200_000));
    assert_eq!(what(said(Operation::Authorize, "qr", node(json!({})))), What::Unknown);
}

#[test]
fn an_inquiry_maps_every_status() {
    let ask = |flow: &str, members| said(Operation::Inquire, flow, node(members));
    for status in ["TRADE_SUCCESS", "TRADE_FINISHED"] {
        let paid = json!({ "trade_status": status, "total_amount": "88.88", "trade_no": TRADE });
        let fact = ask("qr", paid);
        assert_eq!((fact.what, fact.scope, fact.amount), (What::Captured, Scope::Key, cny(8_888)));
        assert_eq!(what(ask("qr", json!({ "trade_status": status }))), What::Unknown);
    }
    let waits = json!({ "trade_status": "WAIT_BUYER_PAY", "total_amount": "88.88" });
    assert_eq!(what(ask("barcode", waits.clone())), What::Pending);
    let scanned = ask("qr", waits);
    assert_eq!((scanned.what, scanned.action), (What::Action, None));
    assert_eq!(what(ask("qr", json!({ "trade_status": "TRADE_PENDING" }))), What::Unknown);
    assert_eq!(what(ask("qr", json!({}))), What::Unknown);
    let gone = said(Operation::Inquire, "barcode", error("ACQ.TRADE_NOT_EXIST"));
    assert_eq!((gone.what, gone.class), (What::NotFound, None));
}

#[test]
fn a_closed_trade_was_given_back_if_it_was_ever_paid() {
    let ask = |mut members: Value| {
        members["trade_status"] = "TRADE_CLOSED".into();
        said(Operation::Inquire, "barcode", node(members))
    };
    assert_eq!(what(ask(json!({}))), What::ClosedUnpaid);
    assert_eq!(what(ask(json!({ "receipt_amount": "0.00" }))), What::ClosedUnpaid);
    assert_eq!(what(ask(json!({ "send_pay_date": "2025-11-25 00:00:00" }))), What::ClosedRefunded);
    for trace in [json!({ "receipt_amount": "88.88" }), json!({ "gmt_refund": "2025-11-25" })] {
        let fact = ask(trace);
        assert_eq!(fact.what, What::Unknown);
        assert_eq!(fact.provider_code.as_deref(), Some("TRADE_CLOSED"));
    }
}

#[test]
fn a_close_of_a_code_never_refunds() {
    let close = |node| what(said(Operation::Close, "qr", node));
    assert_eq!(close(node(json!({ "trade_no": TRADE }))), What::ClosedUnpaid);
    assert_eq!(close(error("ACQ.TRADE_NOT_EXIST")), What::ClosedNothingFound);
    assert_eq!(close(error("ACQ.TRADE_STATUS_ERROR")), What::Unknown);
    assert_eq!(close(error("ACQ.SYSTEM_ERROR")), What::Unknown);
}

#[test]
fn a_cancel_says_what_it_did() {
    let cancel = |members| what(said(Operation::Close, "barcode", node(members)));
    assert_eq!(cancel(json!({ "retry_flag": "N", "action": "close" })), What::ClosedUnpaid);
    assert_eq!(cancel(json!({ "retry_flag": "N", "action": "refund" })), What::ClosedRefunded);
    assert_eq!(cancel(json!({ "retry_flag": "N" })), What::ClosedNothingFound);
    assert_eq!(cancel(json!({ "retry_flag": "N", "trade_no": TRADE })), What::Unknown);
    assert_eq!(cancel(json!({ "retry_flag": "Y" })), What::Unknown);
    assert_eq!(cancel(json!({ "retry_flag": "Y", "action": "close" })), What::Unknown);
    assert_eq!(cancel(json!({ "retry_flag": "N", "action": "freeze" })), What::Unknown);
    assert_eq!(cancel(json!({})), What::Unknown);
    for code in ["ACQ.SYSTEM_ERROR", "AQC.SYSTEM_ERROR", "ACQ.TRADE_CANCEL_TIME_OUT"] {
        assert_eq!(what(said(Operation::Close, "barcode", error(code))), What::Unknown);
    }
    let poor = said(Operation::Close, "barcode", error("ACQ.SELLER_BALANCE_NOT_ENOUGH"));
    assert_eq!((poor.what, poor.class), (What::Unknown, Some(Class::AccountRestricted)));
}

#[test]
fn a_replayed_refund_is_no_failure_and_no_second_refund() {
    let refund = |members| said(Operation::Refund, "barcode", node(members));
    let done = refund(json!({ "fund_change": "Y", "refund_fee": "30.00", "trade_no": TRADE }));
    assert_eq!((done.what, done.amount), (What::Refunded, None), "the fee is a sum");
    assert_eq!(what(refund(json!({ "fund_change": "N", "refund_fee": "10.00" }))), What::Pending);
    assert_eq!(what(refund(json!({ "fund_change": "Y", "refund_fee": "9.99" }))), What::Unknown);
    assert_eq!(what(refund(json!({ "fund_change": "Y", "refund_fee": "x" }))), What::Unknown);
    assert_eq!(what(refund(json!({}))), What::Unknown);
    let poor = said(Operation::Refund, "barcode", error("ACQ.SELLER_BALANCE_NOT_ENOUGH"));
    assert_eq!((poor.what, poor.class), (What::Pending, Some(Class::AccountRestricted)));
    let other = said(Operation::Refund, "barcode", error("ACQ.DISCORDANT_REPEAT_REQUEST"));
    assert_eq!((other.what, other.class), (What::Unknown, Some(Class::Duplicate)));
}

#[test]
fn a_refund_inquiry_believes_only_a_status_of_our_own_refund() {
    let ask = |members| said(Operation::InquireOperation, "barcode", node(members));
    let ours = |mut members: Value| {
        members["out_request_no"] = "refund42".into();
        ask(members)
    };
    let done = json!({ "refund_status": "REFUND_SUCCESS", "refund_amount": "10.00" });
    let fact = ours(done.clone());
    assert_eq!((fact.what, fact.amount), (What::Refunded, cny(1_000)));
    assert_eq!(what(ask(done.clone())), What::Unknown);
    let mut other = done;
    other["out_request_no"] = "refund43".into();
    assert_eq!(what(ask(other)), What::Unknown);
    assert_eq!(what(ours(json!({}))), What::Pending);
    assert_eq!(what(ours(json!({ "refund_status": "REFUND_SUCCESS" }))), What::Unknown);
    assert_eq!(what(ours(json!({ "refund_status": "REFUND_FAIL" }))), What::Unknown);
    let gone = said(Operation::InquireOperation, "barcode", error("ACQ.TRADE_NOT_EXIST"));
    assert_eq!(gone.what, What::NotFound);
}

#[test]
fn an_answer_about_another_trade_settles_nothing() {
    let cases = [
        (Operation::Authorize, "barcode", json!({ "total_amount": "88.88" })),
        (Operation::Authorize, "qr", json!({ "qr_code": "https://qr.alipay.com/bax0001" })),
        (Operation::Inquire, "barcode", json!({ "trade_status": "TRADE_CLOSED" })),
        (Operation::Close, "barcode", json!({ "retry_flag": "N" })),
        (Operation::Close, "qr", json!({})),
        (Operation::Refund, "barcode", json!({ "fund_change": "Y" })),
    ];
    for (op, flow, members) in cases {
        let ours = node(members);
        assert!(is_definite(&said(op, flow, ours.clone())), "{op:?}");
        let mut other = ours.clone();
        other["out_trade_no"] = "op999".into();
        assert!(!is_definite(&said(op, flow, other)), "{op:?}");
        let mut nameless = ours;
        nameless["out_trade_no"] = "".into();
        assert!(!is_definite(&said(op, flow, nameless)), "{op:?}");
    }
    let mut declined = error("ACQ.PAYMENT_FAIL");
    declined["out_trade_no"] = "op999".into();
    assert_eq!(what(said(Operation::Authorize, "barcode", declined)), What::Unknown);
}
