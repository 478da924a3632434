//! Notifications: two families of signatures, refunds, and everything that is not ours.

use alipay::Alipay;
use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{Done, Fact, Operation, Provider, Scope, What};
use serde_json::json;

use crate::peer::{self, sign};

const PAID: [(&str, &[u8]); 11] = [
    ("app_id", b"2021000000000001"),
    ("charset", b"utf-8"),
    ("gmt_payment", b"2025-11-25 00:00:01"),
    ("notify_id", b"2025112500222000001"),
    ("notify_type", b"trade_status_sync"),
    ("out_trade_no", b"op1234567890"),
    ("seller_id", b"2088000000000002"),
    ("subject", "茶 100% + &cake=1".as_bytes()),
    ("total_amount", b"88.88"),
    ("trade_no", b"2025112522001400000000000001"),
    ("trade_status", b"TRADE_SUCCESS"),
];

type Pairs = Vec<(&'static str, Vec<u8>)>;

/// The notice of a paid trade with some pairs put in, replaced, or (when `-`) taken out.
fn notice(change: &[(&'static str, &str)]) -> Pairs {
    let mut pairs: Pairs = PAID.iter().map(|(name, value)| (*name, value.to_vec())).collect();
    for (name, value) in change {
        pairs.retain(|(held, _)| held != name);
        if *value != "-" {
            pairs.push((name, value.as_bytes().to_vec()));
        }
    }
    pairs.push(("sign_type", b"RSA2".to_vec()));
    pairs
}

/// The form of these pairs, signed as one family of Alipay's senders does.
fn form(pairs: &Pairs, key: &str, with_type: bool, with_empty: bool) -> Vec<u8> {
    let mut signed: Vec<&(&str, Vec<u8>)> = pairs
        .iter()
        .filter(|(name, value)| {
            (with_type || *name != "sign_type") && (with_empty || !value.is_empty())
        })
        .collect();
    signed.sort();
    let parts: Vec<Vec<u8>> =
        signed.iter().map(|(name, value)| [name.as_bytes(), b"=", value].concat()).collect();
    let signature = sign(key, &parts.join(&b'&'));
    let encoded = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let mut form: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    form.insert(3, format!("sign={}", encoded(signature.as_bytes())));
    form.join("&").into_bytes()
}

fn signed(change: &[(&'static str, &str)]) -> Vec<u8> {
    form(&notice(change), "alipay", false, true)
}

fn read(config: serde_json::Value, body: &[u8]) -> Done {
    let (provider, host) = (Alipay::open(&config).unwrap(), peer::host());
    let request = testkit::request(0, "CNY", 2);
    let mut drive = Drive::new(&provider, &host, Operation::ParseNotification, request);
    drive.notified(&[], body).unwrap().done()
}

fn told(body: &[u8]) -> Done {
    read(json!({ "app_id": "2021000000000001" }), body)
}

fn fact(change: &[(&'static str, &str)]) -> Fact {
    let mut done = told(&signed(change));
    assert!(done.verified);
    assert_eq!(done.facts.len(), 1);
    done.facts.remove(0)
}

fn is_refused(done: &Done) -> bool {
    let ack = done.ack.as_ref().unwrap();
    assert_ne!(ack.body, "success");
    assert_eq!(ack.status == 401, !done.verified);
    !done.verified && done.facts.is_empty() && done.event_id.is_none()
}

#[test]
fn a_paid_trade_is_told_with_its_number_amount_and_id() {
    let done = told(&signed(&[]));
    assert!(done.verified);
    assert_eq!(done.event_id.as_deref(), Some("2025112500222000001"));
    let ack = done.ack.unwrap();
    assert_eq!((ack.status, ack.body.as_str()), (200, "success"));
    assert_eq!(ack.content_type, "text/plain");
    let fact = &done.facts[0];
    assert_eq!((fact.what, fact.scope), (What::Captured, Scope::Key));
    assert_eq!(fact.op_id.as_deref(), Some("op1234567890"));
    assert_eq!(fact.amount.unwrap().to_string(), "8888 CNY");
    assert_eq!(fact.provider_ref.as_deref(), Some("2025112522001400000000000001"));
}

#[test]
fn both_families_of_signatures_are_accepted_with_and_without_empties() {
    for with_type in [false, true] {
        for with_empty in [false, true] {
            let pairs = notice(&[("body", "")]);
            assert!(told(&form(&pairs, "alipay", with_type, with_empty)).verified);
        }
    }
}

#[test]
fn a_notice_in_gbk_verifies_over_its_bytes() {
    let mut pairs = notice(&[("charset", "gbk"), ("subject", "-")]);
    pairs.push(("subject", b"\xb2\xe8".to_vec()));
    let done = told(&form(&pairs, "alipay", false, true));
    assert!(done.verified);
    assert_eq!(done.facts[0].what, What::Captured);
}

#[test]
fn a_notice_that_was_altered_anywhere_is_refused() {
    let good = signed(&[]);
    for at in 0..good.len() {
        for flip in [1, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            assert!(is_refused(&told(&bad)), "{}", String::from_utf8_lossy(&bad));
        }
    }
    for cut in 0..good.len() {
        assert!(is_refused(&told(&good[..cut])));
    }
}

#[test]
fn a_notice_of_somebody_else_is_refused() {
    let pairs = notice(&[]);
    assert!(is_refused(&told(&form(&pairs, "stranger", false, true))));
    assert!(is_refused(&told(&signed(&[("app_id", "2021000000000009")]))));
    assert!(is_refused(&told(&signed(&[("app_id", "-")]))));
    let config = json!({ "app_id": "2021000000000001", "seller_id": "2088000000000002" });
    assert!(read(config.clone(), &signed(&[])).verified);
    assert!(is_refused(&read(config.clone(), &signed(&[("seller_id", "2088000000000003")]))));
    assert!(is_refused(&read(config, &signed(&[("seller_id", "-")]))));
}

#[test]
fn a_notice_that_can_be_read_in_two_ways_is_refused() {
    let twice = [signed(&[]), b"&total_amount=0.01".to_vec()].concat();
    assert!(is_refused(&told(&twice)));
    for body in [&b""[..], b"&", b"=", b"sign=x&sign_type=RSA2", b"null", b"\xff=%ff%"] {
        assert!(is_refused(&told(body)));
    }
}

#[test]
fn a_signed_text_can_not_be_cut_into_fields() {
    let text = "x&total_amount=1.00&trade_no=9&trade_status=TRADE_SUCCESS&z=1";
    let genuine = signed(&[("subject", text)]);
    let rest = "1&total_amount=88.88&trade_no=2025112522001400000000000001\
                &trade_status=TRADE_SUCCESS";
    let cut = notice(&[
        ("subject", "x"),
        ("total_amount", "1.00"),
        ("trade_no", "9"),
        ("trade_status", "TRADE_SUCCESS"),
        ("z", rest),
    ]);
    let forged = form(&cut, "alipay", false, true);
    let signature = |form: &[u8]| {
        let mut pairs = form_urlencoded::parse(form);
        pairs.find(|(name, _)| name == "sign").unwrap().1.into_owned()
    };
    assert_eq!(signature(&genuine), signature(&forged), "one signature fits both");
    assert!(is_refused(&told(&forged)));
    assert!(is_refused(&told(&genuine)), "nor can it be told which of the two is genuine");
}

#[test]
fn a_refund_is_told_by_its_own_number_and_is_no_second_payment() {
    let refund = |status, number| {
        fact(&[
            ("gmt_refund", "2025-11-25 00:10:00.000"),
            ("out_biz_no", number),
            ("refund_fee", "30.00"),
            ("trade_status", status),
        ])
    };
    for status in ["TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED"] {
        let fact = refund(status, "refund42");
        assert_eq!((fact.what, fact.amount), (What::Refunded, None), "the fee is a sum");
        assert_eq!(fact.op_id.as_deref(), Some("refund42"));
        assert!(fact.provider_ref.is_some());
    }
    for number in ["-", "op1234567890"] {
        assert_eq!(refund("TRADE_SUCCESS", number).what, What::Unknown);
        let all = refund("TRADE_CLOSED", number);
        assert_eq!(all.what, What::ClosedRefunded);
        assert_eq!(all.op_id.as_deref(), Some("op1234567890"));
    }
    assert_eq!(fact(&[("refund_fee", "0.00")]).what, What::Captured);
}

#[test]
fn a_closed_trade_was_given_back_if_it_was_ever_paid() {
    let closed = fact(&[("trade_status", "TRADE_CLOSED"), ("gmt_payment", "-")]);
    assert_eq!(closed.what, What::ClosedUnpaid);
    assert_eq!(closed.op_id.as_deref(), Some("op1234567890"));
    assert_eq!(fact(&[("trade_status", "TRADE_CLOSED")]).what, What::ClosedRefunded);
}

#[test]
fn a_status_or_amount_that_can_not_be_read_is_unknown() {
    assert_eq!(fact(&[("trade_status", "WAIT_BUYER_PAY")]).what, What::Unknown);
    assert_eq!(fact(&[("trade_status", "TRADE_NEW")]).what, What::Unknown);
    assert_eq!(fact(&[("total_amount", "-")]).what, What::Unknown);
    assert_eq!(fact(&[("total_amount", "88,88")]).what, What::Unknown);
}

#[test]
fn a_notice_about_no_trade_is_taken_note_of() {
    let done = told(&signed(&[("out_trade_no", "-"), ("trade_status", "-")]));
    assert!(done.verified && done.facts.is_empty());
    assert_eq!(done.ack.unwrap().body, "success");
}
