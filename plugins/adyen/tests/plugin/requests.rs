//! Every request, byte for byte, and everything that is refused before one is built.

use adyen::Adyen;
use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    CaptureMode, Credential, Details, FaultKind, Operation, Provider, Request, Send,
};
use serde_json::{Value, json};

use crate::{CRYPTOGRAM, NUMBER, PSP, account, back, card, challenging, later, manual, moves};
use crate::{network_token, payment, plain, stored};

#[test]
fn a_decrypted_wallet_token_is_sent_with_the_proof_that_it_brought() {
    let (send, body) = sent(&plain(), Operation::Authorize, payment());
    assert_eq!(send, post("/payments", "op1234567890"));
    assert_eq!(
        body,
        concat!(
            r#"{"merchantAccount":"ShopEU","amount":{"currency":"EUR","value":4900},"#,
            r#""reference":"op1234567890-auto","paymentMethod":{"type":"scheme","#,
            r#""number":"4000000000004917","expiryMonth":"07","expiryYear":"2031","#,
            r#""brand":"applepay"},"mpiData":{"authenticationResponse":"Y","#,
            r#""directoryResponse":"Y","cavv":"Q0FOQVJZLUNSWVBUT0dSQU0=","eci":"05"},"#,
            r#""returnUrl":"https://shop.example/back","shopperInteraction":"Ecommerce","#,
            r#""captureDelayHours":0,"authenticationData":{"attemptAuthentication":"never"}}"#
        )
    );
}

#[test]
fn a_stored_token_goes_with_its_shopper_and_manual_capture_is_said() {
    let r = Request { capture: CaptureMode::Manual, ..stored() };
    let (_, body) = sent(&plain(), Operation::Authorize, r);
    assert_eq!(
        body,
        concat!(
            r#"{"merchantAccount":"ShopEU","amount":{"currency":"EUR","value":4900},"#,
            r#""reference":"op1234567890-manual","paymentMethod":{"type":"scheme","#,
            r#""storedPaymentMethodId":"M5N7TQ4TG5PFWR50"},"#,
            r#""returnUrl":"https://shop.example/back","shopperInteraction":"ContAuth","#,
            r#""shopperReference":"shopper-7","recurringProcessingModel":"CardOnFile","#,
            r#""additionalData":{"manualCapture":"true"},"#,
            r#""authenticationData":{"attemptAuthentication":"never"}}"#
        )
    );
}

#[test]
fn a_wallets_blob_is_handed_through_unopened() {
    let data =
        json!({ "data": "c2VjcmV0", "header": { "publicKeyHash": "x" }, "version": "EC_v1" });
    let apple = |token: Value| method_of(wallet("apple_pay", token));
    let blob = apple(json!({ "paymentData": data, "transactionIdentifier": "t" }));
    assert_eq!(blob["type"], "applepay");
    let bytes = decoded(blob["applePayToken"].as_str().unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), data);
    assert_eq!(apple(data.clone()), blob, "paymentData alone is enough");
    assert_eq!(apple(json!("YmxvYg=="))["applePayToken"], "YmxvYg==");
    let google = |token: Value| method_of(wallet("google_pay", token));
    let text = r#"{"signature":"s","protocolVersion":"ECv2","signedMessage":"{\"a\":1}"}"#;
    assert_eq!(google(json!(text))["googlePayToken"], text);
    let object: Value = serde_json::from_str(text).unwrap();
    let written = google(object.clone())["googlePayToken"].clone();
    assert_eq!(serde_json::from_str::<Value>(written.as_str().unwrap()).unwrap(), object);
    assert_eq!(google(object)["type"], "googlepay");
}

#[test]
fn three_d_secure_is_asked_for_only_where_nothing_proves_the_shopper() {
    let plugin = challenging();
    let asked =
        |r: Request| body_of(&plugin, r)["authenticationData"]["attemptAuthentication"].clone();
    assert_eq!(asked(payment()), "never");
    assert_eq!(asked(wallet("google_pay", json!("t"))), "never");
    assert_eq!(asked(stored()), "always");
    let mut bare = payment();
    if let Some(Credential::NetworkToken { cryptogram, .. }) = &mut bare.credential {
        *cryptogram = None;
    }
    assert_eq!(asked(bare.clone()), "always");
    assert!(body_of(&plugin, bare).get("mpiData").is_none());
}

#[test]
fn a_card_without_a_cryptogram_is_sent_with_three_d_secure_or_not_at_all() {
    let r = Request { credential: Some(card()), ..payment() };
    let (send, body) = sent(&challenging(), Operation::Authorize, r.clone());
    assert_eq!(send, post("/payments", "op1234567890"));
    assert_eq!(
        body,
        concat!(
            r#"{"merchantAccount":"ShopEU","amount":{"currency":"EUR","value":4900},"#,
            r#""reference":"op1234567890-auto","paymentMethod":{"type":"scheme","#,
            r#""number":"4000000000004917","expiryMonth":"07","expiryYear":"2031"},"#,
            r#""returnUrl":"https://shop.example/back","shopperInteraction":"Ecommerce","#,
            r#""captureDelayHours":0,"authenticationData":{"attemptAuthentication":"always"}}"#
        )
    );
    let (plugin, host) = (plain(), TestHost::default());
    let fault = Drive::new(&plugin, &host, Operation::Authorize, r).start().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unsupported);
}

#[test]
fn the_payments_own_return_url_comes_first_and_one_must_be_known() {
    let own = Request { return_url: Some("https://shop.example/own".into()), ..payment() };
    assert_eq!(body_of(&plain(), own.clone())["returnUrl"], "https://shop.example/own");
    let bare = account(json!({ "merchant_account": "ShopEU" }));
    assert_eq!(body_of(&bare, own)["returnUrl"], "https://shop.example/own");
    rejected(&bare, Operation::Authorize, payment());
}

#[test]
fn a_token_says_whose_it_is() {
    for (source, brand) in [
        ("apple_pay", json!("applepay")),
        ("google_pay", json!("googlepay")),
        ("network", Value::Null),
    ] {
        let r = Request { credential: Some(network_token(source)), ..payment() };
        assert_eq!(method_of(r)["brand"], brand, "{source}");
    }
}

#[test]
fn later_moves_name_the_payment_and_their_own_number() {
    let (auto, manual) = (CaptureMode::Automatic, CaptureMode::Manual);
    let amount = r#""amount":{"currency":"EUR","value":1200},"#;
    let cases = [
        (Operation::Capture, later(1_200, manual), "captures", amount),
        (Operation::Void, later(4_900, manual), "cancels", ""),
        (Operation::Refund, later(1_200, manual), "refunds", amount),
        (Operation::Refund, later(1_200, auto), "refunds", amount),
        // Nobody knows whether all of an automatic payment is captured yet.
        (Operation::Refund, later(4_900, auto), "reversals", ""),
    ];
    for (op, r, path, amount) in cases {
        let (send, body) = sent(&plain(), op, r);
        assert_eq!(send, post(&format!("/payments/{PSP}/{path}"), "opLater0001"));
        let expected =
            format!(r#"{{"merchantAccount":"ShopEU",{amount}"reference":"opLater0001"}}"#);
        assert_eq!(body, expected);
    }
    let (send, _) = sent(&plain(), Operation::Refund, later(4_900, manual));
    assert_eq!(send.path, format!("/payments/{PSP}/refunds"), "all that was captured by us");
}

#[test]
fn the_shopper_returns_with_one_text_and_nothing_else_is_passed_on() {
    let (send, body) = sent(&plain(), Operation::Continue, back());
    assert_eq!(send, post("/payments/details", "opLater0001"));
    assert_eq!(body, r#"{"details":{"redirectResult":"eyJ0cmFucyI6IjEifQ"}}"#);
    let with = |details: Value| Request { details: Some(Details(details)), ..back() };
    let (_, body) = sent(
        &plain(),
        Operation::Continue,
        with(json!({ "threeDSResult": "abc", "amount": { "value": 1 } })),
    );
    assert_eq!(body, r#"{"details":{"threeDSResult":"abc"}}"#);
    for details in [
        json!({}),
        json!([]),
        json!("x"),
        json!({ "redirectResult": "" }),
        json!({ "redirectResult": 7 }),
        json!({ "redirectResult": "a", "threeDSResult": "b" }),
        json!({ "redirectResult": "a".repeat(20_000) }),
    ] {
        rejected(&plain(), Operation::Continue, with(details));
    }
    rejected(&plain(), Operation::Continue, Request { details: None, ..back() });
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for (op, r) in moves() {
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
fn every_move_carries_its_number_as_the_key_and_the_key_of_the_account_by_name() {
    for (op, r) in moves() {
        let number = r.op_id.clone();
        let (send, _) = sent(&plain(), op, r);
        let header = |name: &str| send.headers.iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!(header("Idempotency-Key"), number);
        assert_eq!(header("X-API-Key"), "{secret:api_key}");
    }
}

#[test]
fn amounts_go_out_digit_for_digit_in_the_providers_units() {
    for (amount, currency, exponent) in
        [(1, "EUR", 2), (5_000, "JPY", 0), (50_000, "CLP", 2), (500, "CVE", 0), (1_231, "KWD", 3)]
    {
        let mut r = interlock_plugin_api::testkit::request(amount, currency, exponent);
        r.credential = payment().credential;
        let body = body_of(&plain(), r);
        assert_eq!(body["amount"], json!({ "currency": currency, "value": amount }));
    }
    for amount in [0, -1] {
        let mut r = payment();
        r.amount.amount = amount;
        rejected(&plain(), Operation::Authorize, r);
        for op in [Operation::Capture, Operation::Refund] {
            rejected(&plain(), op, later(amount, CaptureMode::Manual));
        }
    }
}

#[test]
fn what_can_not_be_sent_safely_is_refused_before_any_send() {
    let by = |credential| Request { credential, ..stored() };
    let token = |text: &str| Some(Credential::AccountToken { token: text.into() });
    let cases = [
        by(None),
        by(token("a/../refunds")),
        by(token("")),
        by(Some(Credential::AuthCode { auth_code: "281234567890123456".into() })),
        by(Some(network_token("huawei_pay"))),
        wallet("samsung_pay", json!("x")),
        wallet("apple_pay", json!(7)),
        wallet("google_pay", json!("")),
        wallet("google_pay", json!("x".repeat(20_000))),
        Request { op_id: "op\r\nX: 1".into(), ..payment() },
        Request { op_id: "op:1".into(), ..payment() },
        Request { op_id: "a".repeat(33), ..payment() },
        Request { op_id: String::new(), ..payment() },
    ];
    for r in cases {
        rejected(&plain(), Operation::Authorize, r);
    }
    // A stored token belongs to a shopper, whom the provider wants to be told.
    for id in [None, Some("ab".to_owned())] {
        let mut r = stored();
        r.customer.id = id;
        rejected(&plain(), Operation::Authorize, r);
    }
    for op in [Operation::Capture, Operation::Void, Operation::Refund] {
        let mut r = later(100, CaptureMode::Manual);
        r.original = None;
        rejected(&plain(), op, r);
        for id in [None, Some("8836/refunds?x=".to_owned()), Some("short".to_owned())] {
            let mut r = later(100, CaptureMode::Manual);
            r.original.as_mut().unwrap().provider_ref = id;
            rejected(&plain(), op, r);
        }
    }
}

#[test]
fn a_malformed_number_is_refused() {
    for (number, expiry_month, expiry_year) in
        [("400000000000491x", 7, 2031), ("4000", 7, 2031), (NUMBER, 0, 2031), (NUMBER, 13, 2031)]
    {
        let credential = Some(Credential::NetworkToken {
            number: number.into(),
            expiry_month,
            expiry_year,
            cryptogram: Some(CRYPTOGRAM.into()),
            eci: None,
            source: "network".into(),
        });
        rejected(&plain(), Operation::Authorize, Request { credential, ..payment() });
        let (number, source) = (number.into(), "google_pay".into());
        let card = Credential::Card { number, expiry_month, expiry_year, source };
        let r = Request { credential: Some(card), ..payment() };
        rejected(&challenging(), Operation::Authorize, r);
    }
}

#[test]
fn a_setting_of_the_wrong_form_is_named() {
    let open = |config| Adyen::open(&config).map(|_| ()).unwrap_err();
    for (config, field) in [
        (json!({}), "merchant_account"),
        (json!([]), "merchant_account"),
        (json!({ "merchant_account": "a:b" }), "merchant_account"),
        (json!({ "merchant_account": "a", "three_d_secure": "yes" }), "three_d_secure"),
        (json!({ "merchant_account": "a", "return_url": "http://x" }), "return_url"),
        (json!({ "merchant_account": "a", "return_url": 7 }), "return_url"),
    ] {
        let fault = open(config);
        assert_eq!(fault.kind, FaultKind::Config);
        assert!(fault.text.contains(field), "{fault}");
    }
}

#[test]
fn what_is_not_offered_says_so() {
    for op in [Operation::Inquire, Operation::InquireOperation, Operation::Close, Operation::Probe]
    {
        let (plugin, host) = (plain(), TestHost::default());
        let fault = Drive::new(&plugin, &host, op, payment()).start().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported, "{op:?}");
    }
}

fn sent(plugin: &Adyen, op: Operation, r: Request) -> (Send, String) {
    let host = TestHost::default();
    let (send, body) = Drive::new(plugin, &host, op, r).start().unwrap().sent();
    (send, String::from_utf8(body).unwrap())
}

fn body_of(plugin: &Adyen, r: Request) -> Value {
    serde_json::from_str(&sent(plugin, Operation::Authorize, r).1).unwrap()
}

fn method_of(r: Request) -> Value {
    body_of(&plain(), r)["paymentMethod"].clone()
}

fn wallet(wallet: &str, token: Value) -> Request {
    let credential = Credential::EncryptedWalletToken { wallet: wallet.into(), token };
    Request { method: wallet.into(), credential: Some(credential), ..manual() }
}

fn rejected(plugin: &Adyen, op: Operation, r: Request) {
    let host = TestHost::default();
    let fault = Drive::new(plugin, &host, op, r).start().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Input, "{fault}");
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn post(path: &str, key: &str) -> Send {
    let headers = [
        ("X-API-Key", "{secret:api_key}"),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", key),
    ];
    Send {
        method: "POST".into(),
        endpoint: "api".into(),
        path: path.into(),
        query: Vec::new(),
        headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
    }
}
