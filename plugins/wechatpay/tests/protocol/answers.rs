//! What a verified answer of each operation means.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{Drive, Wanted};
use interlock_plugin_api::{Advice, Class, Currency, Fact, Host, Money, Operation, Scope, What};
use serde_json::{Value, json};

use crate::peer::{self, NUMBER, failed, is_definite, order, paid, refund, said};

const TRADE: &str = "4200000000202511240000000001";

fn cny(amount: i64) -> Option<Money> {
    Some(Money::new(amount, Currency::parse("CNY").unwrap()))
}

fn ask(flow: &str, state: &str, members: Value) -> Fact {
    said(Operation::Inquire, flow, order(state, members))
}

fn code(fact: &Fact) -> &str {
    fact.provider_code.as_deref().unwrap_or_default()
}

fn action(flow: &str, content: Value) -> (String, Value, i64) {
    let fact = said(Operation::Authorize, flow, content);
    assert_eq!((fact.what, fact.amount), (What::Action, None));
    let action = fact.action.unwrap();
    (action.kind, Value::Object(action.payload), action.expires_ms.unwrap())
}

const MADE_MS: i64 = 1_764_000_000_000;

#[test]
fn a_code_is_shown_for_two_hours_and_a_page_for_five_minutes() {
    let (kind, payload, until) = action("qr", json!({ "code_url": "weixin://x" }));
    assert_eq!((kind.as_str(), until), ("qr_code", MADE_MS + 7_200_000));
    assert_eq!(payload, json!({ "qr_code": "weixin://x" }));
    let (kind, payload, until) = action("h5", json!({ "h5_url": "https://wx.tenpay.com/x?a=1" }));
    assert_eq!((kind.as_str(), until), ("redirect", MADE_MS + 300_000));
    assert_eq!(payload, json!({ "url": "https://wx.tenpay.com/x?a=1" }));
    let config = peer::with(json!({ "offer_seconds": 60 }));
    let body = br#"{"code_url":"weixin://x"}"#;
    let request = peer::payment("qr");
    let headers = peer::signed(body);
    let fact = peer::answered_for(&config, Operation::Authorize, request, 200, &headers, body);
    assert_eq!(fact.action.unwrap().expires_ms, Some(MADE_MS + 60_000));
}

#[test]
fn a_page_and_an_app_are_given_all_that_they_hand_to_wechat_signed() {
    let prepaid = json!({ "prepay_id": "wx2611" });
    let nonce = "00112233445566778899aabbccddeeff";
    let signed = |message: &str, signature: &Value| {
        let signature = BASE64.decode(signature.as_str().unwrap()).unwrap();
        let host = peer::wechat_host();
        assert_eq!(host.verify("merchant", peer::RSA, message.as_bytes(), &signature), Ok(true));
    };
    let (kind, payload, until) = action("jsapi", prepaid.clone());
    assert_eq!((kind.as_str(), until), ("sdk", MADE_MS + 7_200_000));
    let mut params = payload["params"].clone();
    let sign = params.as_object_mut().unwrap().remove("paySign").unwrap();
    let package = "prepay_id=wx2611";
    signed(&format!("wxd678efh567hg6787\n1764000000\n{nonce}\n{package}\n"), &sign);
    let expected = json!({
        "appId": "wxd678efh567hg6787", "timeStamp": "1764000000", "nonceStr": nonce,
        "package": package, "signType": "RSA",
    });
    assert_eq!(params, expected);

    let (kind, payload, _) = action("app", prepaid);
    assert_eq!(kind, "sdk");
    let mut params = payload["params"].clone();
    let sign = params.as_object_mut().unwrap().remove("sign").unwrap();
    signed(&format!("wxd678efh567hg6787\n1764000000\n{nonce}\nwx2611\n"), &sign);
    let expected = json!({
        "appid": "wxd678efh567hg6787", "partnerid": "1900000001", "prepayid": "wx2611",
        "package": "Sign=WXPay", "noncestr": nonce, "timestamp": "1764000000",
    });
    assert_eq!(params, expected);
}

#[test]
fn a_partners_shopper_uses_the_sub_merchants_application() {
    let body = br#"{"prepay_id":"wx2611"}"#;
    let appid = |config: &Value| {
        let (op, headers) = (Operation::Authorize, peer::signed(body));
        let fact = peer::answered_for(config, op, peer::payment("jsapi"), 200, &headers, body);
        fact.action.unwrap().payload["params"]["appId"].clone()
    };
    assert_eq!(appid(&peer::partner()), "wxsub0000000000001");
    assert_eq!(appid(&peer::with(json!({ "sub_mchid": "19" }))), "wxd678efh567hg6787");
}

#[test]
fn an_answer_without_its_offer_is_none() {
    let offers = ["code_url", "prepay_id", "h5_url"];
    for (flow, member) in [("qr", 0), ("jsapi", 1), ("app", 1), ("h5", 2)] {
        for content in [
            json!({}),
            json!({ offers[(member + 1) % 3]: "https://x" }),
            json!({ offers[member]: "" }),
            json!({ offers[member]: null }),
            json!({ offers[member]: 7 }),
        ] {
            let text = content.to_string();
            assert!(!is_definite(&said(Operation::Authorize, flow, content)), "{flow} {text}");
        }
    }
    let strange = json!({ "h5_url": "javascript:alert(1)" });
    assert!(!is_definite(&said(Operation::Authorize, "h5", strange)));
}

#[test]
fn a_paid_order_is_captured_with_its_amount_and_number() {
    for (op, flow) in [
        (Operation::Authorize, "barcode"),
        (Operation::Inquire, "barcode"),
        (Operation::Inquire, "qr"),
    ] {
        let fact = said(op, flow, order("SUCCESS", paid()));
        assert_eq!((fact.what, fact.scope), (What::Captured, Scope::Key));
        assert_eq!((fact.amount, fact.payer_amount), (cny(8_888), None));
        assert_eq!(fact.provider_ref.as_deref(), Some(TRADE));
    }
}

#[test]
fn what_a_coupon_paid_is_told_beside_the_order_amount() {
    let amount = json!({ "total": 8_888, "payer_total": 8_000, "currency": "CNY" });
    let fact = ask("qr", "SUCCESS", json!({ "amount": amount }));
    assert_eq!((fact.amount, fact.payer_amount), (cny(8_888), cny(8_000)));
    let amount = json!({ "total": 8_888, "payer_total": 0, "currency": "CNY" });
    assert_eq!(ask("qr", "SUCCESS", json!({ "amount": amount })).payer_amount, cny(0));
}

#[test]
fn an_amount_is_reported_as_it_is_echoed_for_the_host_to_compare() {
    let paid = |amount: Value| ask("qr", "SUCCESS", json!({ "amount": amount }));
    assert_eq!(paid(json!({ "total": 1, "currency": "CNY" })).amount, cny(1));
    let dollars = paid(json!({ "total": 8_888, "currency": "USD" }));
    assert_eq!(dollars.amount.unwrap().currency.as_str(), "USD");
    for amount in [
        json!({ "total": 8_888 }),
        json!({ "currency": "CNY" }),
        json!({ "total": 8_888, "currency": "" }),
        json!({ "total": 8_888, "currency": "RMB元" }),
        json!({ "total": -1, "currency": "CNY" }),
        json!({ "total": 88.88, "currency": "CNY" }),
        json!({ "total": "8888", "currency": "CNY" }),
        json!(8_888),
        json!(null),
        json!({}),
    ] {
        assert_eq!(paid(amount.clone()).what, What::Unknown, "{amount}");
    }
}

#[test]
fn every_state_means_what_it_says_to_who_asks() {
    for flow in ["qr", "jsapi", "app", "h5", "barcode"] {
        let ask = |state: &str, members: Value| {
            let body = order(state, members).to_string().into_bytes();
            let request = peer::later(Operation::Inquire, flow);
            peer::answered(Operation::Inquire, request, 200, &peer::signed(&body), &body)
        };
        let barcode = flow == "barcode";
        for (state, what) in [
            ("NOTPAY", if barcode { What::Unknown } else { What::Action }),
            ("USERPAYING", What::Pending),
            ("ACCEPT", What::Pending),
            ("CLOSED", What::ClosedUnpaid),
            ("REVOKED", What::ClosedUnpaid),
            ("PAYERROR", What::Unknown),
            ("BRAND_NEW", What::Unknown),
        ] {
            let fact = ask(state, json!({}));
            assert_eq!((fact.what, code(&fact)), (what, state), "{flow} {state}");
            assert!(fact.action.is_none());
        }
        assert_eq!(ask("SUCCESS", paid()).what, What::Captured);
        let given_back = ask("REFUND", paid());
        assert_eq!((given_back.what, code(&given_back)), (What::Captured, "REFUND"));
        assert_eq!(given_back.amount, cny(8_888), "it was paid; how much went back is not said");
        assert_eq!(ask("REFUND", json!({ "amount": {} })).what, What::Unknown);
        assert_eq!(code(&ask("张三", json!({}))), "unknown_word");
        for nothing in [json!(""), json!(null)] {
            assert_eq!(ask("x", json!({ "trade_state": nothing })).what, What::Unknown);
        }
    }
    let failed = ask("barcode", "PAYERROR", json!({}));
    assert_eq!(
        (failed.class, failed.advice),
        (Some(Class::DeclinedSoft), Some(Advice::OtherMethod))
    );
}

#[test]
fn every_state_means_what_it_says_to_who_pays_by_code() {
    let pay = |state: &str, members| said(Operation::Authorize, "barcode", order(state, members));
    assert_eq!(pay("SUCCESS", paid()).what, What::Captured);
    for state in ["USERPAYING", "ACCEPT"] {
        assert_eq!(pay(state, json!({})).what, What::Pending);
    }
    for state in ["NOTPAY", "CLOSED", "REVOKED", "REFUND", "PAYERROR", "BRAND_NEW"] {
        let fact = pay(state, paid());
        assert_eq!((fact.what, code(&fact)), (What::Unknown, state));
    }
}

#[test]
fn a_shopper_who_must_type_a_password_is_pending_in_both_forms() {
    let pay = |status, content: Value| {
        let body = content.to_string().into_bytes();
        let request = peer::payment("barcode");
        peer::answered(Operation::Authorize, request, status, &peer::signed(&body), &body)
    };
    for fact in [
        pay(200, json!({ "trade_state": "USERPAYING" })),
        pay(202, json!({ "code": "USERPAYING", "message": "x" })),
    ] {
        assert_eq!((fact.what, code(&fact)), (What::Pending, "USERPAYING"));
    }
    let alone = |word: &str| pay(200, json!({ "trade_state": word })).what;
    for word in ["SUCCESS", "ACCEPT", "CLOSED"] {
        assert_eq!(alone(word), What::Unknown, "only this word comes alone: {word}");
    }
    let foreign = json!({ "trade_state": "USERPAYING", "out_trade_no": "op999999" });
    assert_eq!(pay(200, foreign).what, What::Unknown);
    let mixed = order("SUCCESS", json!({ "code": "USERPAYING" }));
    assert_eq!(pay(202, mixed).what, What::Unknown);
    let asked = said(Operation::Inquire, "barcode", json!({ "trade_state": "USERPAYING" }));
    assert_eq!(asked.what, What::Unknown, "an inquiry is answered with our number");
}

#[test]
fn an_end_that_shows_a_payment_contradicts_itself_or_gave_it_back() {
    let ended = |state: &str, members| ask("barcode", state, members).what;
    let amount = |payer| json!({ "total": 8_888, "payer_total": payer, "currency": "CNY" });
    assert_eq!(ended("CLOSED", paid()), What::Unknown);
    assert_eq!(ended("CLOSED", json!({ "success_time": "2025" })), What::Unknown);
    assert_eq!(ended("CLOSED", json!({ "amount": amount(1) })), What::Unknown);
    assert_eq!(ended("CLOSED", json!({ "amount": amount(0) })), What::ClosedUnpaid);
    assert_eq!(ended("REVOKED", paid()), What::ClosedRefunded);
    assert_eq!(ended("REVOKED", json!({ "success_time": "2025" })), What::ClosedRefunded);
    assert_eq!(ended("REVOKED", json!({ "amount": amount(8_888) })), What::Unknown);
    assert_eq!(ended("REVOKED", json!({ "transaction_id": TRADE })), What::ClosedUnpaid);
    let number = json!({ "transaction_id": TRADE, "amount": amount(8_888) });
    assert_eq!(ended("REVOKED", number), What::ClosedRefunded);
}

#[test]
fn a_close_is_believed_by_its_empty_204_alone() {
    let close = |status, body: &[u8]| {
        let request = peer::later(Operation::Close, "qr");
        peer::answered(Operation::Close, request, status, &peer::signed(body), body)
    };
    let fact = close(204, b"");
    assert_eq!((fact.what, fact.scope), (What::ClosedUnpaid, Scope::Key));
    for (status, body) in [(204, &b"{}"[..]), (200, b""), (200, b"{}"), (202, b""), (302, b"")] {
        assert_eq!(close(status, body).what, What::Unknown, "{status}");
    }
    let gone = failed(Operation::Close, "qr", 404, "ORDER_NOT_EXIST");
    assert_eq!(gone.what, What::ClosedNothingFound);
    for code in ["ORDER_PAID", "ORDERPAID"] {
        let paid = failed(Operation::Close, "qr", 400, code);
        assert_eq!((paid.what, paid.class), (What::Unknown, Some(Class::Duplicate)));
    }
}

/// What a close of a payment by code ends with, when these answer the reverse and the query.
fn reversed(reverse: (u16, &[u8]), query: Option<(u16, Value)>) -> Fact {
    let (provider, host) = (peer::provider(), peer::host());
    let request = peer::later(Operation::Close, "barcode");
    let mut drive = Drive::new(&provider, &host, Operation::Close, request);
    let (send, _) = drive.start().unwrap().sent();
    assert!(send.path.ends_with("/reverse"));
    let (status, body) = reverse;
    let wanted = peer::answer(&mut drive, status, peer::signed(body), body).unwrap();
    let Some((status, content)) = query else { return wanted.done().facts.remove(0) };
    let Wanted::Send(send, body) = wanted else { unreachable!("a query follows") };
    assert_eq!((send.method.as_str(), body.len()), ("GET", 0));
    assert!(send.path.ends_with(NUMBER));
    let body = content.to_string().into_bytes();
    let headers = if status < 300 { peer::signed(&body) } else { Vec::new() };
    peer::answer(&mut drive, status, headers, &body).unwrap().done().facts.remove(0)
}

#[test]
fn a_reverse_is_believed_by_the_query_that_follows_it() {
    let answers: [(u16, &[u8]); 5] = [
        (200, b"{}"),
        (204, b""),
        (500, br#"{"code":"SYSTEM_ERROR","message":"x"}"#),
        (400, br#"{"code":"ORDER_REVERSED","message":"x"}"#),
        (200, br#"{"trade_state":"REVOKED"}"#),
    ];
    for reverse in answers {
        let after = |state: &str, members| reversed(reverse, Some((200, order(state, members))));
        let unpaid = after("REVOKED", json!({}));
        assert_eq!((unpaid.what, unpaid.scope), (What::ClosedUnpaid, Scope::Key));
        assert_eq!(after("REVOKED", paid()).what, What::ClosedRefunded);
        for state in ["SUCCESS", "REFUND", "NOTPAY", "USERPAYING", "ACCEPT", "CLOSED", "PAYERROR"] {
            let fact = after(state, json!({}));
            assert_eq!((fact.what, fact.amount), (What::Unknown, None), "{state}");
        }
        let still = after("SUCCESS", paid());
        assert_eq!((still.what, code(&still)), (What::Unknown, "SUCCESS"));
        let gone = json!({ "code": "ORDER_NOT_EXIST", "message": "x" });
        assert_eq!(reversed(reverse, Some((404, gone))).what, What::Unknown);
    }
    let gone = br#"{"code":"ORDER_NOT_EXIST","message":"x"}"#;
    assert_eq!(reversed((404, gone), None).what, What::ClosedNothingFound);
}

#[test]
fn a_refund_is_done_when_its_status_says_so() {
    for (op, asks) in [(Operation::Refund, false), (Operation::InquireOperation, true)] {
        let told = |status: &str| said(op, "qr", refund(status));
        let done = told("SUCCESS");
        assert_eq!((done.what, done.scope, done.amount), (What::Refunded, Scope::Key, cny(1_000)));
        assert_eq!(done.operation_ref.as_deref(), Some("50000000382019052709732678859"));
        assert_eq!(done.provider_ref.as_deref(), Some(TRADE));
        assert_eq!(told("PROCESSING").what, What::Pending);
        let stuck = told("ABNORMAL");
        assert_eq!((stuck.what, stuck.class), (What::Pending, Some(Class::MerchantAction)));
        assert_eq!(code(&stuck), "ABNORMAL");
        assert_eq!(told("CLOSED").what, What::Failed);
        for word in ["", "BRAND_NEW", "FAIL"] {
            assert_eq!(told(word).what, What::Unknown, "{word}");
        }
        let change = |name: &str, value: Value| {
            let mut refund = refund("SUCCESS");
            refund[name] = value;
            said(op, "qr", refund).what
        };
        for amount in [json!({}), json!({ "refund": 1_000 }), json!({ "currency": "CNY" })] {
            assert_eq!(change("amount", amount), What::Unknown);
        }
        for name in ["out_refund_no", "out_trade_no"] {
            for value in [json!("op999999"), json!(""), json!(null), json!(7)] {
                assert_eq!(change(name, value), What::Unknown, "{name}");
            }
        }
        assert_eq!(change("mchid", json!("1900000009")), What::Unknown);
        let gone = failed(op, "qr", 404, "RESOURCE_NOT_EXISTS");
        assert_eq!(gone.what == What::NotFound, asks);
    }
}

#[test]
fn an_answer_about_another_order_or_merchant_settles_nothing() {
    for (op, flow) in [(Operation::Authorize, "barcode"), (Operation::Inquire, "qr")] {
        let with = |name: &str, value: Value| {
            let mut order = order("SUCCESS", paid());
            order[name] = value;
            said(op, flow, order)
        };
        for value in [json!("op999999"), json!(""), json!(null)] {
            assert!(!is_definite(&with("out_trade_no", value)));
        }
        assert!(!is_definite(&with("mchid", json!("1900000009"))));
        assert!(!is_definite(&with("appid", json!("wxother"))));
        assert!(is_definite(&with("appid", json!(null))), "what is not named is not another");
    }
}

#[test]
fn a_partner_reads_the_partners_names() {
    let told = |members: Value| {
        let mut content = order("SUCCESS", paid());
        for name in ["appid", "mchid"] {
            content.as_object_mut().unwrap().remove(name);
        }
        for (name, value) in members.as_object().unwrap() {
            content[name] = value.clone();
        }
        let body = content.to_string().into_bytes();
        let (op, headers) = (Operation::Inquire, peer::signed(&body));
        let request = peer::later(op, "qr");
        peer::answered_for(&peer::partner(), op, request, 200, &headers, &body).what
    };
    let ours = json!({
        "sp_mchid": "1900000001", "sub_mchid": "1900000109", "sp_appid": "wxd678efh567hg6787",
        "sub_appid": "wxsub0000000000001",
    });
    assert_eq!(told(ours.clone()), What::Captured);
    for name in ["sp_mchid", "sub_mchid", "sp_appid", "sub_appid"] {
        let mut other = ours.clone();
        other[name] = "1900000009".into();
        assert_eq!(told(other), What::Unknown, "{name}");
    }
}
