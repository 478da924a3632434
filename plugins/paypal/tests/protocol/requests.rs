//! Every request, to the byte.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    CaptureMode, Currency, Money, Operation, Period, Request, Send, WantedKeys, What,
};
use serde_json::json;

use crate::peer::{
    self, AUTHORIZATION, CAPTURE, CHANGE, ORDER, PAYMENT, REFUND, later, payment, with,
};

fn begun(config: serde_json::Value, op: Operation, r: Request) -> (Send, String) {
    let (plugin, host) = (peer::account(config), TestHost::default());
    let (send, body) = Drive::new(&plugin, &host, op, r).start().unwrap().sent();
    (send, String::from_utf8(body).unwrap())
}

/// What is sent after the order was read.
fn second(op: Operation, r: Request, order: serde_json::Value) -> (Send, String) {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, op, r);
    let (send, body) = drive.start().unwrap().sent();
    assert_eq!(
        (line(&send).as_str(), body.len()),
        (&*format!("GET /v2/checkout/orders/{ORDER}"), 0)
    );
    let (send, body) = drive.answer(200, order.to_string().as_bytes()).unwrap().sent();
    (send, String::from_utf8(body).unwrap())
}

fn line(send: &Send) -> String {
    assert_eq!(send.endpoint, "api");
    format!("{} {}", send.method, send.path)
}

fn header<'a>(send: &'a Send, name: &str) -> Option<&'a str> {
    let mut found = send.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let first = found.next();
    assert!(found.next().is_none(), "{name} twice");
    first
}

/// Everything but the number is the same for every change.
fn is_keyed(send: &Send, number: &str) {
    assert_eq!(header(send, "authorization"), Some("Bearer {token:access}"));
    assert_eq!(header(send, "prefer"), Some("return=representation"));
    assert_eq!(header(send, "content-type"), Some("application/json"));
    assert_eq!(header(send, "paypal-request-id"), Some(number));
    assert!(send.query.is_empty());
}

#[test]
fn an_order_asks_for_a_page_on_which_it_is_approved() {
    let (send, body) = begun(json!({}), Operation::Authorize, payment(CaptureMode::Automatic));
    assert_eq!(line(&send), "POST /v2/checkout/orders");
    is_keyed(&send, PAYMENT);
    assert_eq!(
        body,
        "{\"intent\":\"CAPTURE\",\"purchase_units\":[{\"custom_id\":\"op1234567890\",\
         \"invoice_id\":\"op1234567890\",\"description\":\"Tea & cake\",\
         \"amount\":{\"currency_code\":\"EUR\",\"value\":\"49.00\"}}],\
         \"application_context\":{\"user_action\":\"PAY_NOW\",\
         \"return_url\":\"https://shop.example/back?a=1\",\
         \"cancel_url\":\"https://shop.example/back?a=1\"}}"
    );
}

#[test]
fn the_other_form_names_paypal_as_the_source() {
    let config = json!({ "form": "payer_action", "brand_name": "Tea & Co",
        "cancel_url": "https://shop.example/cart" });
    let (_, body) = begun(config, Operation::Authorize, payment(CaptureMode::Manual));
    assert_eq!(
        body,
        "{\"intent\":\"AUTHORIZE\",\"purchase_units\":[{\"custom_id\":\"op1234567890\",\
         \"invoice_id\":\"op1234567890\",\"description\":\"Tea & cake\",\
         \"amount\":{\"currency_code\":\"EUR\",\"value\":\"49.00\"}}],\
         \"payment_source\":{\"paypal\":{\"experience_context\":{\"brand_name\":\"Tea & Co\",\
         \"user_action\":\"PAY_NOW\",\"return_url\":\"https://shop.example/back?a=1\",\
         \"cancel_url\":\"https://shop.example/cart\"}}}}"
    );
}

#[test]
fn an_amount_is_exact_in_every_currency() {
    for (units, currency, exponent, text) in [
        (1, "EUR", 2, "0.01"),
        (123_456_789_012_345, "USD", 2, "1234567890123.45"),
        (4_900, "JPY", 0, "4900"),
        (7, "HUF", 0, "7"),
    ] {
        let currency = Currency::parse(currency).unwrap();
        let amount = Money::new(units, currency);
        let r = Request { amount, exponent, ..payment(CaptureMode::Automatic) };
        let (_, body) = begun(json!({}), Operation::Authorize, r);
        let written = format!("{{\"currency_code\":\"{currency}\",\"value\":\"{text}\"}}");
        assert!(body.contains(&written), "{body}");
    }
}

#[test]
fn a_description_is_cut_at_characters_and_an_empty_one_is_left_out() {
    let described = |text: &str| {
        let r = Request { description: Some(text.into()), ..payment(CaptureMode::Automatic) };
        begun(json!({}), Operation::Authorize, r).1
    };
    assert!(
        described(&"é".repeat(200)).contains(&format!("\"description\":\"{}\"", "é".repeat(127)))
    );
    assert!(!described("  ").contains("description"));
}

#[test]
fn the_shoppers_return_captures_or_authorizes_the_order() {
    for (capture, word) in [(CaptureMode::Automatic, "capture"), (CaptureMode::Manual, "authorize")]
    {
        let r = later(Operation::Continue, capture);
        for details in [r.details.clone(), None] {
            let r = Request { details, ..r.clone() };
            let (send, body) = begun(json!({}), Operation::Continue, r);
            assert_eq!(line(&send), format!("POST /v2/checkout/orders/{ORDER}/{word}"));
            assert_eq!(body, "{}");
            is_keyed(&send, CHANGE);
        }
    }
}

#[test]
fn a_capture_is_final_only_when_it_is_all() {
    let r = later(Operation::Capture, CaptureMode::Manual);
    let (send, body) = second(Operation::Capture, r.clone(), peer::held_order());
    assert_eq!(line(&send), format!("POST /v2/payments/authorizations/{AUTHORIZATION}/capture"));
    is_keyed(&send, CHANGE);
    assert_eq!(
        body,
        "{\"amount\":{\"currency_code\":\"EUR\",\"value\":\"12.34\"},\
         \"invoice_id\":\"change42\",\"final_capture\":false}"
    );
    let all = Request { amount: payment(CaptureMode::Manual).amount, ..r };
    let (_, body) = second(Operation::Capture, all, peer::held_order());
    assert!(body.contains("\"49.00\"") && body.contains("\"final_capture\":true"), "{body}");
}

#[test]
fn a_void_has_no_number_of_ours() {
    let r = later(Operation::Void, CaptureMode::Manual);
    let (send, body) = second(Operation::Void, r, peer::held_order());
    assert_eq!(line(&send), format!("POST /v2/payments/authorizations/{AUTHORIZATION}/void"));
    assert_eq!((body.as_str(), header(&send, "paypal-request-id")), ("", None));
    assert_eq!(header(&send, "prefer"), Some("return=representation"));
}

#[test]
fn a_refund_is_of_the_capture_and_carries_our_number() {
    let r = later(Operation::Refund, CaptureMode::Automatic);
    let (send, body) = second(Operation::Refund, r, peer::captured_order());
    assert_eq!(line(&send), format!("POST /v2/payments/captures/{CAPTURE}/refund"));
    is_keyed(&send, CHANGE);
    assert_eq!(
        body,
        "{\"amount\":{\"currency_code\":\"EUR\",\"value\":\"12.34\"},\"custom_id\":\"change42\"}"
    );
}

/// The host tells copies by their bodies, so another capture must be another body.
#[test]
fn of_several_captures_one_is_chosen_and_named_in_the_body() {
    let small = with(peer::capture("COMPLETED"), "/amount", peer::money("10.00"));
    let mut large = with(peer::capture("COMPLETED"), "/amount", peer::money("39.00"));
    large["id"] = "8MC585209K746392H".into();
    let payments = json!({ "captures": [small, large] });
    let order = peer::order("COMPLETED", "AUTHORIZE", payments.clone());
    let r = later(Operation::Refund, CaptureMode::Manual);
    let (send, body) = second(Operation::Refund, r.clone(), order.clone());
    assert!(send.path.contains("8MC585209K746392H"), "only it has so much: {}", send.path);
    assert!(body.ends_with("\"custom_id\":\"change42:8MC585209K746392H\"}"), "{body}");
    let of = |mark: &str, value: &str| {
        let mut made = peer::refund("COMPLETED");
        made["custom_id"] = mark.into();
        made["links"][0]["href"] = "https://x/v2/payments/captures/8MC585209K746392H".into();
        made["amount"] = peer::money(value);
        with(order.clone(), "/purchase_units/0/payments/refunds", json!([made]))
    };
    assert_eq!(second(Operation::Refund, r.clone(), of("another", "26.66")), (send, body));
    // Nothing has so much left: nothing is sent.
    let facts = peer::heard(Operation::Refund, r, &[(200, of("another", "26.67"))]);
    assert_eq!(facts[0].provider_code.as_deref(), Some("no_capture_has_so_much_left"));
}

#[test]
fn what_an_earlier_copy_made_is_not_made_again() {
    let made = json!({ "captures": [peer::capture("PARTIALLY_REFUNDED")],
        "refunds": [peer::refund("PENDING")] });
    let refunded = peer::order("COMPLETED", "CAPTURE", made);
    let r = later(Operation::Refund, CaptureMode::Automatic);
    let marked = json!(format!("{CHANGE}:{CAPTURE}"));
    let place = "/purchase_units/0/payments/refunds/0/custom_id";
    let again = with(refunded.clone(), place, marked);
    let made = json!({ "authorizations": [peer::authorization("PARTIALLY_CAPTURED")],
        "captures": [peer::capture_of_part("PENDING")] });
    let captured = peer::order("COMPLETED", "AUTHORIZE", made);
    let c = later(Operation::Capture, CaptureMode::Manual);
    for (op, r, order) in [
        (Operation::Refund, r.clone(), refunded),
        (Operation::Refund, r, again),
        (Operation::Capture, c, captured),
    ] {
        let facts = peer::heard(op, r, &[(200, order)]);
        assert_eq!(facts[0].what, What::Unknown);
        assert_eq!(facts[0].provider_code.as_deref(), Some("made_before"));
    }
}

#[test]
fn questions_go_to_the_order_or_to_what_is_known_by_number() {
    let r = later(Operation::Inquire, CaptureMode::Automatic);
    let (send, body) = begun(json!({}), Operation::Inquire, r);
    assert_eq!((line(&send), body.as_str()), (format!("GET /v2/checkout/orders/{ORDER}"), ""));
    assert_eq!(header(&send, "authorization"), Some("Bearer {token:access}"));
    for (target, path) in [
        ((Operation::Refund, Some(REFUND)), format!("/v2/payments/refunds/{REFUND}")),
        ((Operation::Capture, Some(CAPTURE)), format!("/v2/payments/captures/{CAPTURE}")),
        ((Operation::Refund, None), format!("/v2/checkout/orders/{ORDER}")),
        ((Operation::Capture, None), format!("/v2/checkout/orders/{ORDER}")),
        ((Operation::Void, None), format!("/v2/checkout/orders/{ORDER}")),
        ((Operation::Void, Some("x")), format!("/v2/checkout/orders/{ORDER}")),
    ] {
        let target = Some((target.0, target.1.map(str::to_owned)));
        let r = Request { target, ..later(Operation::InquireOperation, CaptureMode::Manual) };
        let (send, _) = begun(json!({}), Operation::InquireOperation, r);
        assert_eq!(line(&send), format!("GET {path}"));
    }
}

#[test]
fn a_certificate_is_fetched_without_a_token_and_a_probe_asks_for_nobodys_order() {
    let wanted = |id: Option<&str>, ring: &str| Request {
        wanted: Some(WantedKeys { ring: ring.into(), id: id.map(str::to_owned) }),
        ..payment(CaptureMode::Automatic)
    };
    let r = wanted(Some("CERT-1"), "webhooks");
    let (send, _) = begun(json!({}), Operation::FetchKeys, r);
    assert_eq!(line(&send), "GET /v1/notifications/certs/CERT-1");
    assert!(send.headers.is_empty());
    let (plugin, host) = (peer::provider(), TestHost::default());
    for r in [
        wanted(None, "webhooks"),
        wanted(Some("a/b"), "webhooks"),
        wanted(Some("CERT-1"), "others"),
        wanted(Some(&"x".repeat(129)), "webhooks"),
        payment(CaptureMode::Automatic),
    ] {
        assert!(Drive::new(&plugin, &host, Operation::FetchKeys, r).start().is_err());
    }
    let (send, _) = begun(json!({}), Operation::Probe, payment(CaptureMode::Automatic));
    assert_eq!(line(&send), "GET /v2/checkout/orders/00112233445566778");
}

#[test]
fn a_report_is_of_a_whole_day() {
    let asked = |date: &str| {
        let period = Some(Period { date: date.into() });
        let r = Request { period, ..payment(CaptureMode::Automatic) };
        let (plugin, host) = (peer::provider(), TestHost::default());
        Drive::new(&plugin, &host, Operation::DownloadStatement, r).start()
    };
    let (send, _) = asked("2026-11-29").unwrap().sent();
    assert_eq!(line(&send), "GET /v1/reporting/transactions");
    let query = [
        ("start_date", "2026-11-29T00:00:00Z"),
        ("end_date", "2026-11-29T23:59:59Z"),
        ("fields", "transaction_info"),
        ("page_size", "500"),
        ("page", "1"),
    ];
    assert_eq!(send.query, query.map(|(n, v)| (n.to_owned(), v.to_owned())));
    for date in ["", "2026-11", "2026-11-29T00", "2026-1-29", "20261129", "2026-11-29-", "a-b-c"] {
        assert!(asked(date).is_err(), "{date}");
    }
}

#[test]
fn what_could_not_be_sent_safely_is_refused_before() {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let fails = |op, r| Drive::new(&plugin, &host, op, r).start().is_err();
    let good = payment(CaptureMode::Automatic);
    assert!(fails(Operation::Authorize, Request { return_url: None, ..good.clone() }));
    assert!(fails(Operation::Authorize, Request { op_id: "a b".into(), ..good.clone() }));
    for units in [0, -1] {
        let amount = Money::new(units, good.amount.currency);
        assert!(fails(Operation::Authorize, Request { amount, ..good.clone() }));
    }
    for (op, r) in peer::operations().into_iter().skip(1) {
        for reference in [None, Some("../refunds"), Some("a?b"), Some("")] {
            let mut r = r.clone();
            let original = r.original.as_mut().unwrap();
            original.provider_ref = reference.map(str::to_owned);
            assert!(fails(op, r), "{op:?} {reference:?}");
        }
        assert!(fails(op, Request { original: None, ..r }), "{op:?}");
    }
    let target = Some((Operation::Refund, Some("../x".to_owned())));
    let r = Request { target, ..later(Operation::InquireOperation, CaptureMode::Automatic) };
    assert!(fails(Operation::InquireOperation, r));
}
