//! Every request, byte for byte, and everything that is refused before one is built.

use checkout::Checkout;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Credential, FaultKind, Operation, Provider, Request, Send, What};
use serde_json::json;

use crate::{
    NUMBER, OP, PAYMENT, account, asking, asking_about, card, later, manual, network_token,
};
use crate::{payment, plain};

#[test]
fn a_decrypted_wallet_token_is_sent_as_a_network_token() {
    let (send, body) = sent(&plain(), Operation::Authorize, payment());
    assert_eq!(send, post("/payments", OP));
    assert_eq!(
        body,
        concat!(
            r#"{"source":{"type":"network_token","token":"4000000000004917","#,
            r#""token_type":"applepay","expiry_month":7,"expiry_year":2031,"#,
            r#""cryptogram":"Q0FOQVJZLUNSWVBUT0dSQU0=","eci":"05"},"#,
            r#""amount":4900,"currency":"EUR","capture":true,"reference":"op1234567890","#,
            r#""payment_type":"Regular"}"#
        )
    );
}

#[test]
fn stored_tokens_go_by_their_own_kind_and_manual_capture_is_said() {
    let by = |token: &str| {
        let credential = Some(Credential::AccountToken { token: token.into() });
        sent(&plain(), Operation::Authorize, Request { credential, ..manual() }).1
    };
    assert_eq!(
        by("src_wmlfc3zyhqzehihu7giusaaawu"),
        concat!(
            r#"{"source":{"type":"id","id":"src_wmlfc3zyhqzehihu7giusaaawu"},"amount":4900,"#,
            r#""currency":"EUR","capture":false,"reference":"op1234567890","#,
            r#""payment_type":"Regular"}"#
        )
    );
    assert_eq!(
        by("tok_4gzeau5o2uqubbk6fufs3m7p54"),
        concat!(
            r#"{"source":{"type":"token","token":"tok_4gzeau5o2uqubbk6fufs3m7p54"},"#,
            r#""amount":4900,"currency":"EUR","capture":false,"reference":"op1234567890","#,
            r#""payment_type":"Regular"}"#
        )
    );
}

#[test]
fn the_account_adds_its_channel_and_three_d_secure() {
    let plugin = account(json!({"processing_channel_id": "pc_abc", "three_d_secure": true}));
    let r = Request { return_url: Some("https://shop.example/back".into()), ..payment() };
    let (_, body) = sent(&plugin, Operation::Authorize, r.clone());
    let tail = concat!(
        r#""payment_type":"Regular","processing_channel_id":"pc_abc","3ds":{"enabled":true},"#,
        r#""success_url":"https://shop.example/back","failure_url":"https://shop.example/back"}"#
    );
    assert!(body.ends_with(tail), "{body}");
    // Without 3-D Secure nobody is sent anywhere, so no address is told.
    let (_, body) = sent(&plain(), Operation::Authorize, r);
    assert!(!body.contains("3ds") && !body.contains("shop.example"));
}

#[test]
fn a_card_without_a_cryptogram_is_sent_with_three_d_secure_or_not_at_all() {
    let r = Request {
        credential: Some(card()),
        return_url: Some("https://shop.example/back".into()),
        ..payment()
    };
    let (send, body) =
        sent(&account(json!({"three_d_secure": true})), Operation::Authorize, r.clone());
    assert_eq!(send, post("/payments", OP));
    assert_eq!(
        body,
        concat!(
            r#"{"source":{"type":"card","number":"4000000000004917","expiry_month":7,"#,
            r#""expiry_year":2031},"amount":4900,"currency":"EUR","capture":true,"#,
            r#""reference":"op1234567890","payment_type":"Regular","3ds":{"enabled":true},"#,
            r#""success_url":"https://shop.example/back","#,
            r#""failure_url":"https://shop.example/back"}"#
        )
    );
    let plain = plain();
    let host = TestHost::default();
    let fault = Drive::new(&plain, &host, Operation::Authorize, r).start().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unsupported);
}

#[test]
fn a_token_says_whose_it_is() {
    for (source, number, kind) in [
        ("apple_pay", NUMBER, "applepay"),
        ("google_pay", NUMBER, "googlepay"),
        ("network", "4000000000004917", "vts"),
        ("network", "5200000000007789", "mdes"),
        ("network", "2223000000007787", "mdes"),
    ] {
        let mut credential = network_token(source);
        if let Credential::NetworkToken { number: n, cryptogram, eci, .. } = &mut credential {
            *n = number.into();
            (*cryptogram, *eci) = (None, None);
        }
        let r = Request { credential: Some(credential), ..payment() };
        let (_, body) = sent(&plain(), Operation::Authorize, r);
        assert!(body.contains(&format!(r#""token_type":"{kind}""#)), "{source} {number}");
        assert!(!body.contains("cryptogram") && !body.contains("eci"));
    }
}

#[test]
fn nothing_that_could_become_a_second_attempt_is_ever_sent() {
    let plugin = account(json!({"three_d_secure": true, "processing_channel_id": "pc_abc"}));
    let r = Request { return_url: Some("https://shop.example/back".into()), ..payment() };
    let (_, body) = sent(&plugin, Operation::Authorize, r);
    for field in ["retry", "fallback_source", "routing", "partial_authorization"] {
        assert!(!body.contains(field), "{field}");
    }
}

#[test]
fn later_moves_name_the_payment_and_their_own_number() {
    let cases = [
        (Operation::Capture, "captures", r#"{"amount":1200,"reference":"opLater0001"}"#),
        (Operation::Void, "voids", r#"{"reference":"opLater0001"}"#),
        (Operation::Refund, "refunds", r#"{"amount":1200,"reference":"opLater0001"}"#),
    ];
    for (op, path, expected) in cases {
        let (send, body) = sent(&plain(), op, later(1_200));
        assert_eq!(send, post(&format!("/payments/{PAYMENT}/{path}"), "opLater0001"));
        assert_eq!(body, expected);
    }
}

#[test]
fn questions_are_asked_by_the_best_number_there_is() {
    let (send, body) = sent(&plain(), Operation::Inquire, asking(true));
    assert_eq!((send, body.as_str()), (get(&format!("/payments/{PAYMENT}"), &[]), ""));
    let (send, _) = sent(&plain(), Operation::Inquire, asking(false));
    let page = [("reference", OP), ("limit", "100"), ("skip", "0")];
    assert_eq!(send, get("/payments", &page));
    let r = asking_about(Operation::Refund, Some("act_9"));
    let (send, _) = sent(&plain(), Operation::InquireOperation, r);
    assert_eq!(send, get(&format!("/payments/{PAYMENT}/actions"), &[]));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for (op, r) in [
        (Operation::Authorize, payment()),
        (Operation::Capture, later(1)),
        (Operation::Void, later(1)),
        (Operation::Refund, later(1)),
        (Operation::Inquire, asking(false)),
    ] {
        let host = TestHost::default();
        let (one, two) = (plain(), plain());
        let mut first = Drive::new(&one, &host, op, r.clone());
        let mut again = Drive::new(&two, &host, op, r);
        again.envelope.now_ms += 86_400_000;
        again.envelope.entropy = "ffeeddccbbaa99887766554433221100".into();
        assert_eq!(first.start().unwrap().sent(), again.start().unwrap().sent());
    }
}

#[test]
fn amounts_go_out_digit_for_digit_and_never_past_nine() {
    for (amount, currency, exponent) in
        [(1, "EUR", 2), (5_000, "JPY", 0), (50_000, "CLP", 2), (1_230, "KWD", 3)]
    {
        let mut r = interlock_plugin_api::testkit::request(amount, currency, exponent);
        r.credential = payment().credential;
        let (_, body) = sent(&plain(), Operation::Authorize, r);
        assert!(body.contains(&format!(r#""amount":{amount},"currency":"{currency}""#)), "{body}");
    }
    let (_, body) = sent(&plain(), Operation::Refund, later(999_999_999));
    assert!(body.contains("999999999"));
    for amount in [1_000_000_000, i64::MAX, 0, -1] {
        let mut r = payment();
        r.amount.amount = amount;
        refused(&plain(), Operation::Authorize, r);
        refused(&plain(), Operation::Capture, later(amount));
        refused(&plain(), Operation::Refund, later(amount));
    }
    let mut r = interlock_plugin_api::testkit::request(1_231, "KWD", 3);
    r.credential = payment().credential;
    refused(&plain(), Operation::Authorize, r);
}

#[test]
fn what_can_not_be_sent_safely_is_refused_before_any_send() {
    let with = |credential| Request { credential, ..payment() };
    let token = |text: &str| Some(Credential::AccountToken { token: text.into() });
    let cases = [
        with(None),
        with(token("card_123")),
        with(token("src_../captures")),
        with(Some(Credential::AuthCode { auth_code: "281234567890123456".into() })),
        with(Some(Credential::EncryptedWalletToken {
            wallet: "apple_pay".into(),
            token: json!({}),
        })),
        with(Some(network_token("huawei_pay"))),
        Request { op_id: "op\r\nX: 1".into(), ..payment() },
        Request { op_id: "a".repeat(33), ..payment() },
        Request { op_id: String::new(), ..payment() },
    ];
    for r in cases {
        refused(&plain(), Operation::Authorize, r);
    }
    // A challenge has to come back somewhere.
    refused(&account(json!({"three_d_secure": true})), Operation::Authorize, payment());
    for op in [Operation::Capture, Operation::Void, Operation::Refund] {
        let mut r = later(100);
        r.original = None;
        refused(&plain(), op, r);
        let mut r = later(100);
        r.original.as_mut().unwrap().provider_ref = None;
        refused(&plain(), op, r);
        let mut r = later(100);
        r.original.as_mut().unwrap().provider_ref = Some("pay_1/refunds?x=".into());
        refused(&plain(), op, r);
    }
    let r = Request { original: None, ..asking(true) };
    refused(&plain(), Operation::Inquire, r);
    refused(&plain(), Operation::InquireOperation, later(100));
    refused(&plain(), Operation::InquireOperation, asking_about(Operation::Close, None));
}

#[test]
fn a_malformed_number_is_refused() {
    let challenging = account(json!({"three_d_secure": true}));
    let cases = [("400000000000491x", 7, 2031), ("4000", 7, 2031), (NUMBER, 0, 2031)];
    for (number, expiry_month, expiry_year) in [cases.as_slice(), &[(NUMBER, 13, 2031)]].concat() {
        let credential = Some(Credential::NetworkToken {
            number: number.into(),
            expiry_month,
            expiry_year,
            cryptogram: None,
            eci: None,
            source: "network".into(),
        });
        refused(&plain(), Operation::Authorize, Request { credential, ..payment() });
        let (number, source) = (number.into(), "google_pay".into());
        let card = Credential::Card { number, expiry_month, expiry_year, source };
        let return_url = Some("https://shop.example/back".into());
        let r = Request { credential: Some(card), return_url, ..payment() };
        refused(&challenging, Operation::Authorize, r);
    }
}

#[test]
fn a_setting_of_the_wrong_form_is_named() {
    let open = |config| Checkout::open(&config).map(|_| ()).unwrap_err();
    for (config, field) in [
        (json!({"processing_channel_id": 7}), "processing_channel_id"),
        (json!({"processing_channel_id": "ch_1"}), "processing_channel_id"),
        (json!({"three_d_secure": "yes"}), "three_d_secure"),
    ] {
        let fault = open(config);
        assert_eq!(fault.kind, FaultKind::Config);
        assert!(fault.text.contains(field), "{fault}");
    }
    assert_eq!(open(json!([])).kind, FaultKind::Config);
    assert!(Checkout::open(&json!(null)).is_ok());
}

#[test]
fn a_probe_asks_for_a_number_that_nobody_has() {
    let (plugin, host) = (plain(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::Probe, payment());
    let (send, body) = drive.start().unwrap().sent();
    assert_eq!((send.method.as_str(), send.path.as_str()), ("GET", "/payments"));
    assert!(body.is_empty());
    let empty = br#"{"total_count":0,"data":[]}"#;
    assert_eq!(drive.answer(200, empty).unwrap().done().facts[0].what, What::NotFound);
    for (status, body) in [(200, &b"<html>"[..]), (503, b""), (401, b"")] {
        let mut drive = Drive::new(&plugin, &host, Operation::Probe, payment());
        drive.start().unwrap().sent();
        assert_eq!(drive.answer(status, body).unwrap().done().facts[0].what, What::Unknown);
    }
}

#[test]
fn what_is_not_offered_says_so() {
    for op in [Operation::Close, Operation::Continue] {
        let (plugin, host) = (plain(), TestHost::default());
        let fault = Drive::new(&plugin, &host, op, payment()).start().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported, "{op:?}");
    }
}

fn sent(plugin: &Checkout, op: Operation, r: Request) -> (Send, String) {
    let host = TestHost::default();
    let (send, body) = Drive::new(plugin, &host, op, r).start().unwrap().sent();
    (send, String::from_utf8(body).unwrap())
}

fn refused(plugin: &Checkout, op: Operation, r: Request) {
    let host = TestHost::default();
    let fault = Drive::new(plugin, &host, op, r).start().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Input, "{fault}");
}

fn get(path: &str, query: &[(&str, &str)]) -> Send {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    Send {
        method: "GET".into(),
        endpoint: "api".into(),
        path: path.into(),
        query: pairs(query),
        headers: pairs(&[
            ("Authorization", "Bearer {secret:secret_key}"),
            ("Accept", "application/json"),
        ]),
    }
}

fn post(path: &str, key: &str) -> Send {
    let mut send = get(path, &[]);
    send.method = "POST".into();
    send.headers.push(("Content-Type".into(), "application/json".into()));
    send.headers.push(("Cko-Idempotency-Key".into(), key.into()));
    send
}
