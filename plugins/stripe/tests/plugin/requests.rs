//! Every request, byte for byte, and everything that is refused before one is built.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{Credential, FaultKind, Operation, Provider, Request, Send, What};
use serde_json::{Value, json};
use stripe::Stripe;

use crate::{
    CRYPTOGRAM, INTENT, LATER, NUMBER, OP, REFUND, STORED, TOKEN, account, asking, asking_about,
    back, by, error, later, manual, network_token, open, operations, payment, plain,
};

const END: &str = "&metadata%5Binterlock_attempt%5D=op1234567890&expand%5B%5D=latest_charge";

#[test]
fn a_stored_card_is_made_and_confirmed_by_one_request() {
    let (send, body) = sent(&plain(), Operation::Authorize, payment());
    assert_eq!(send, post("/v1/payment_intents", OP));
    let begin = "amount=4900&currency=eur&confirm=true&capture_method=automatic\
        &payment_method_types%5B%5D=card";
    let pays = format!("&payment_method={STORED}&error_on_requires_action=true");
    assert_eq!(body, format!("{begin}{pays}{END}"));
    let (_, body) = sent(&plain(), Operation::Authorize, manual());
    assert!(body.contains("&capture_method=manual&"), "{body}");
}

#[test]
fn a_challenge_is_asked_for_only_where_it_can_be_shown_and_goes_on_by_us() {
    let plugin = account(json!({ "three_d_secure": true }));
    let (_, body) = sent(&plugin, Operation::Authorize, payment());
    let ours = "&confirmation_method=manual&return_url=https%3A%2F%2Fshop.example%2Fback";
    assert!(body.contains(ours) && !body.contains("error_on_requires_action"), "{body}");
    // Without it nobody is sent anywhere, so no address is told.
    let (_, body) = sent(&plain(), Operation::Authorize, payment());
    assert!(!body.contains("shop.example") && !body.contains("confirmation_method"));
    refused(&plugin, Operation::Authorize, Request { return_url: None, ..payment() });
}

#[test]
fn a_customer_of_theirs_is_named_and_a_merchants_own_is_not() {
    let of = |id: &str| {
        let mut r = payment();
        r.customer.id = Some(id.into());
        sent(&plain(), Operation::Authorize, r).1
    };
    assert!(of("cus_NffrFeUfNV2Hib").contains("&customer=cus_NffrFeUfNV2Hib&"));
    for id in ["shopper-7", "cus_", "cus_a&b=c"] {
        assert!(!of(id).contains("customer"), "{id}");
    }
}

#[test]
fn googles_token_is_the_providers_own_already() {
    let paid = |token: Value| {
        let wallet = "google_pay".into();
        sent(&plain(), Operation::Authorize, by(Credential::EncryptedWalletToken { wallet, token }))
    };
    let inside = json!({ "id": TOKEN, "object": "token", "card": { "last4": "4242" } });
    for token in [inside.clone(), json!(inside.to_string()), json!(TOKEN)] {
        let (send, body) = paid(token);
        assert_eq!(send, post("/v1/payment_intents", OP));
        let pays = format!(
            "&payment_method_data%5Btype%5D=card&payment_method_data%5Bcard%5D%5Btoken%5D={TOKEN}&"
        );
        assert!(body.contains(&pays) && body.ends_with(END), "{body}");
    }
}

#[test]
fn apples_token_becomes_one_of_theirs_first_under_a_key_of_its_own() {
    let data = json!({ "data": "QQ==", "signature": "Uw==", "version": "EC_v1" });
    let whole = json!({
        "paymentData": data, "transactionIdentifier": "T1",
        "paymentMethod": { "displayName": "Visa 4917", "network": "Visa", "type": "debit" },
    });
    let beside = "&pk_token_instrument_name=Visa+4917&pk_token_payment_network=Visa\
        &pk_token_transaction_id=T1";
    for (token, rest) in
        [(whole.clone(), beside), (json!(whole.to_string()), beside), (data.clone(), "")]
    {
        let wallet = "apple_pay".into();
        let r = by(Credential::EncryptedWalletToken { wallet, token });
        let blob = "%7B%22data%22%3A%22QQ%3D%3D%22%2C%22signature%22%3A%22Uw%3D%3D%22%2C\
            %22version%22%3A%22EC_v1%22%7D";
        let first = format!("pk_token={blob}{rest}");
        tokenized(&plain(), r, &first);
    }
}

#[test]
fn a_decrypted_token_is_taken_only_where_the_account_says_so() {
    for source in ["apple_pay", "google_pay"] {
        let r = by(network_token(source));
        let host = TestHost::default();
        let (plugin, asked) = (plain(), r.clone());
        let fault = Drive::new(&plugin, &host, Operation::Authorize, asked).start().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported);
        assert!(fault.text.contains("accepts_decrypted_wallet"));
        let method = if source == "apple_pay" { "apple_pay" } else { "android_pay" };
        let first = format!(
            "card%5Bnumber%5D={NUMBER}&card%5Bexp_month%5D=7&card%5Bexp_year%5D=2031\
            &card%5Bcryptogram%5D={}&card%5Beci%5D=05&card%5Btokenization_method%5D={method}",
            CRYPTOGRAM.replace('=', "%3D")
        );
        tokenized(&account(json!({ "accepts_decrypted_wallet": true })), r, &first);
    }
    refused(&open(), Operation::Authorize, by(network_token("network")));
}

#[test]
fn without_a_token_of_theirs_nothing_that_could_move_money_is_sent() {
    let token = json!({ "id": TOKEN, "object": "token" });
    let card = error("card_error", Some("incorrect_number"));
    let odd = json!({ "id": "pm_1", "object": "token" });
    let other = json!({ "id": TOKEN, "object": "card" });
    for (status, body) in
        [(402, card), (400, token.clone()), (500, token), (200, odd), (200, other), (200, json!(1))]
    {
        let (plugin, host) = (open(), TestHost::default());
        let r = by(network_token("apple_pay"));
        let mut drive = Drive::new(&plugin, &host, Operation::Authorize, r);
        drive.start().unwrap().sent();
        let done = drive.answer(status, body.to_string().as_bytes()).unwrap().done();
        assert_eq!(done.facts[0].what, What::Unknown, "{status} {body}");
    }
}

#[test]
fn later_moves_name_the_payment_and_their_own_number() {
    let pi = format!("/v1/payment_intents/{INTENT}");
    let charge = "expand%5B%5D=latest_charge";
    for (op, r, path, expected) in [
        (
            Operation::Capture,
            later(1_200),
            format!("{pi}/capture"),
            format!("amount_to_capture=1200&metadata%5Binterlock_capture%5D={LATER}&{charge}"),
        ),
        (
            Operation::Void,
            later(1_200),
            format!("{pi}/cancel"),
            format!("cancellation_reason=requested_by_customer&{charge}"),
        ),
        (
            Operation::Refund,
            later(1_200),
            "/v1/refunds".into(),
            format!("payment_intent={INTENT}&amount=1200&metadata%5Binterlock_refund%5D={LATER}"),
        ),
        (
            Operation::Continue,
            back(),
            format!("{pi}/confirm"),
            format!("return_url=https%3A%2F%2Fshop.example%2Fback&{charge}"),
        ),
    ] {
        let (send, body) = sent(&plain(), op, r);
        assert_eq!(send, post(&path, LATER));
        assert_eq!(body, expected);
    }
}

#[test]
fn questions_are_asked_by_the_best_number_there_is() {
    let by_number = get(&format!("/v1/payment_intents/{INTENT}"), &[("expand[]", "latest_charge")]);
    let (send, body) = sent(&plain(), Operation::Inquire, asking(true));
    assert_eq!((send, body.as_str()), (by_number.clone(), ""));
    let query = [("query", "metadata['interlock_attempt']:'op1234567890'"), ("limit", "10")];
    let (send, _) = sent(&plain(), Operation::Inquire, asking(false));
    assert_eq!(send, get("/v1/payment_intents/search", &query));
    for op in [Operation::Capture, Operation::Void] {
        let (send, _) = sent(&plain(), Operation::InquireOperation, asking_about(op, None));
        assert_eq!(send, by_number);
    }
    let refund = |number| asking_about(Operation::Refund, number);
    let (send, _) = sent(&plain(), Operation::InquireOperation, refund(Some(REFUND)));
    assert_eq!(send, get(&format!("/v1/refunds/{REFUND}"), &[]));
    let (send, _) = sent(&plain(), Operation::InquireOperation, refund(None));
    assert_eq!(send, get("/v1/refunds", &[("payment_intent", INTENT), ("limit", "100")]));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for (op, r) in operations() {
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
fn amounts_go_out_digit_for_digit() {
    for (amount, currency, exponent, written) in [
        (1, "EUR", 2, "amount=1&currency=eur&"),
        (5_000, "JPY", 0, "amount=5000&currency=jpy&"),
        (500, "CLP", 0, "amount=500&currency=clp&"),
        (1_230, "KWD", 3, "amount=1230&currency=kwd&"),
        (i64::MAX, "EUR", 2, "amount=9223372036854775807&currency=eur&"),
    ] {
        let mut r = interlock_plugin_api::testkit::request(amount, currency, exponent);
        r.credential = payment().credential;
        let (_, body) = sent(&plain(), Operation::Authorize, r);
        assert!(body.starts_with(written), "{body}");
    }
    for amount in [0, -1, i64::MIN] {
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
    let token = |text: &str| by(Credential::AccountToken { token: text.into() });
    let wallet = |wallet: &str, token: Value| {
        by(Credential::EncryptedWalletToken { wallet: wallet.into(), token })
    };
    let cases = [
        Request { credential: None, ..payment() },
        token("tok_123"),
        token("card_123"),
        token("pm_1&customer=cus_2"),
        token(NUMBER),
        by(Credential::AuthCode { auth_code: "281234567890123456".into() }),
        wallet("huawei_pay", json!({ "id": TOKEN })),
        wallet("google_pay", json!({ "id": "pm_1" })),
        wallet("google_pay", json!({ "signature": "x" })),
        wallet("google_pay", json!("no JSON")),
        wallet("apple_pay", json!("no JSON")),
        wallet("apple_pay", json!([1])),
        wallet("apple_pay", json!({ "data": "x".repeat(20_000) })),
        Request { op_id: "op\r\nX: 1".into(), ..payment() },
        Request { op_id: "a".repeat(33), ..payment() },
        Request { op_id: String::new(), ..payment() },
        Request { op_id: "a-b".into(), ..by(network_token("apple_pay")) },
    ];
    for r in cases {
        refused(&open(), Operation::Authorize, r);
    }
    for op in [Operation::Capture, Operation::Void, Operation::Refund, Operation::Continue] {
        let of = |reference: Option<&str>| {
            let mut r = later(100);
            r.original.as_mut().unwrap().provider_ref = reference.map(Into::into);
            r
        };
        refused(&plain(), op, Request { original: None, ..later(100) });
        for reference in [None, Some("pi_1/confirm?x="), Some("ch_1"), Some("pi_"), Some("")] {
            refused(&plain(), op, of(reference));
        }
        refused(&plain(), op, Request { op_id: "a b".into(), ..later(100) });
    }
    refused(&plain(), Operation::Inquire, Request { original: None, ..asking(true) });
    refused(&plain(), Operation::InquireOperation, later(100));
    refused(&plain(), Operation::InquireOperation, asking_about(Operation::Close, None));
    refused(&plain(), Operation::InquireOperation, asking_about(Operation::Refund, Some("../x")));
}

#[test]
fn a_malformed_number_of_a_network_token_is_refused() {
    for (number, expiry_month, expiry_year) in [
        ("400000000000491x", 7, 2031),
        ("4000", 7, 2031),
        (NUMBER, 0, 2031),
        (NUMBER, 13, 2031),
        (NUMBER, 7, 31),
    ] {
        refused(
            &open(),
            Operation::Authorize,
            by(Credential::NetworkToken {
                number: number.into(),
                expiry_month,
                expiry_year,
                cryptogram: None,
                eci: None,
                source: "apple_pay".into(),
            }),
        );
    }
}

#[test]
fn a_setting_of_the_wrong_form_is_named() {
    let open = |config| Stripe::open(&config).map(|_| ()).unwrap_err();
    for field in ["three_d_secure", "accepts_decrypted_wallet"] {
        let fault = open(json!({ field: "yes" }));
        assert_eq!(fault.kind, FaultKind::Config);
        assert!(fault.text.contains(field), "{fault}");
    }
    assert_eq!(open(json!([])).kind, FaultKind::Config);
    assert!(Stripe::open(&json!(null)).is_ok());
}

#[test]
fn what_is_not_offered_says_so() {
    for op in [Operation::Close, Operation::DownloadStatement] {
        let (plugin, host) = (plain(), TestHost::default());
        let fault = Drive::new(&plugin, &host, op, payment()).start().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported, "{op:?}");
    }
}

/// The token's request, and the payment's behind it.
fn tokenized(plugin: &Stripe, r: Request, first: &str) {
    let host = TestHost::default();
    let mut drive = Drive::new(plugin, &host, Operation::Authorize, r);
    let (send, body) = drive.start().unwrap().sent();
    assert_eq!(send, post("/v1/tokens", "op1234567890-token"));
    assert_eq!(String::from_utf8(body).unwrap(), first);
    let token = json!({ "id": TOKEN, "object": "token" }).to_string();
    let (send, body) = drive.answer(200, token.as_bytes()).unwrap().sent();
    assert_eq!(send, post("/v1/payment_intents", OP));
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains(&format!("%5Btoken%5D={TOKEN}&")) && body.ends_with(END), "{body}");
}

fn sent(plugin: &Stripe, op: Operation, r: Request) -> (Send, String) {
    let host = TestHost::default();
    let (send, body) = Drive::new(plugin, &host, op, r).start().unwrap().sent();
    (send, String::from_utf8(body).unwrap())
}

fn refused(plugin: &Stripe, op: Operation, r: Request) {
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
            ("Stripe-Version", "2026-10-28.endive"),
        ]),
    }
}

fn post(path: &str, key: &str) -> Send {
    let mut send = get(path, &[]);
    send.method = "POST".into();
    let form = "application/x-www-form-urlencoded";
    send.headers.push(("Content-Type".into(), form.into()));
    send.headers.push(("Idempotency-Key".into(), key.into()));
    send
}
