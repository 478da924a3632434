//! Pages that a shopper opens and orders that Alipay's app is given: made without a word to the
//! provider, so it is the shopper who brings them there, and only their own end is a proof.

use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, barcode, fresh};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const FIRST: &str = "alipay-main";

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("an id")
}

fn money(house: &House, payment: &Answer) -> (usize, i64) {
    let ledger = house.ledger();
    let net = ledger::of_payment(&ledger::net(&ledger), &payment.json);
    (ledger::charges(&ledger, &payment.json), net)
}

fn page(amount: i64, flow: &str) -> Value {
    json!({
        "amount": amount, "currency": "CNY", "method": { "type": "alipay", "flow": flow },
        "description": "茶 & 2 cups", "return_url": "https://shop.example/thanks?a=1&b=2",
        "customer": { "id": "c_12", "country": "CN" },
    })
}

/// Offers end after so many seconds, and the provider says so a second later.
fn house(after: &'static str) -> House {
    House::with(Plan { offer_expiry: Some((after, "1s")), ..Plan::default() })
}

/// What the shopper carries to the provider.
fn order(payment: &Answer) -> String {
    let action = &payment["next_action"];
    let order = match action["type"].as_str() {
        Some("redirect") => &action["url"],
        Some("sdk") => &action["params"]["order_string"],
        _ => panic!("neither a page nor an order: {payment:?}"),
    };
    order.as_str().expect("a text").to_owned()
}

fn carry(house: &House, order: &str, act: &str) -> Answer {
    let body = json!({ "account": FIRST, "order": order, "act": act });
    house.control("POST", "/customers/act", Some(&body))
}

fn shown(house: &House, amount: i64, flow: &str) -> Answer {
    let shown = house.pay(&page(amount, flow));
    assert_eq!((shown.status, &shown["status"]), (201, &json!("requires_action")), "{shown:?}");
    assert_eq!(shown["account"], FIRST);
    assert!(shown["next_action"]["expires"].is_string(), "{shown:?}");
    shown
}

fn wish(house: &House, payment: &Answer, verb: &str, body: Value) -> Answer {
    let (key, path) = (fresh(verb), format!("{}/v1/payments/{}/{verb}", house.api, id(payment)));
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=1")];
    house.send("POST", &path, &headers, Some(body.to_string().as_bytes()))
}

#[test]
fn a_page_and_an_order_for_the_app_are_paid_by_who_carries_them() {
    let house = house("30s");
    for flow in ["redirect", "wap", "app"] {
        let shown = shown(&house, 1_205, flow);
        let order = order(&shown);
        assert!(!order.contains(['+', ' ']), "an app reads a plus as itself: {order}");
        if flow != "app" {
            let opened = house.send("GET", &order, &[], None);
            assert_eq!(opened.status, 200);
            assert!(String::from_utf8_lossy(&opened.body).contains("cashier"), "{opened:?}");
        }
        let changed = order.replace("12.05", "1.00");
        assert_ne!(changed, order);
        assert_eq!(carry(&house, &changed, "pay").status, 409, "the amount is signed");
        let paid = carry(&house, &order, "pay");
        assert_eq!(paid.status, 200, "{paid:?}");
        let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
        assert_eq!(money(&house, &paid), (1, 1_205), "{flow}");
        assert_eq!(carry(&house, &order, "pay").status, 409, "not a second time");
        let back = json!({ "payment": paid["id"] });
        let back = house.post("/v1/refunds", &fresh("refund"), &back);
        assert_eq!((back.status, &back["status"]), (201, &json!("succeeded")), "{back:?}");
        assert_eq!(money(&house, &paid), (1, 0));
    }
}

#[test]
fn nothing_is_sent_until_the_shopper_opens_it_and_the_offer_outlives_the_process() {
    let mut house = house("30s");
    // The provider may be away: nobody asks it for anything.
    house.fault(FIRST, "*", "refuse");
    let shown = shown(&house, 700, "redirect");
    assert!(house.requests(FIRST).iter().all(|r| r["operation"] == "inquire"));
    let key = fresh("same");
    let one = house.post("/v1/payments", &key, &page(701, "app"));
    let two = house.post("/v1/payments", &key, &page(701, "app"));
    assert_eq!(order(&one), order(&two), "the same key is the same offer");
    house.kill_proxy();
    house.lift_faults();
    house.start_proxy();
    let after = house.payment(id(&shown));
    assert_eq!(after["next_action"], shown["next_action"]);
    assert_eq!(carry(&house, &order(&shown), "pay").status, 200);
    let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
    assert_eq!(money(&house, &paid), (1, 700));
}

#[test]
fn what_nobody_opens_ends_by_its_own_time_and_not_before() {
    let house = house("4s");
    let left = shown(&house, 800, "redirect");
    let opened = shown(&house, 801, "wap");
    assert_eq!(carry(&house, &order(&opened), "abandon").status, 200);
    let begun = Instant::now();
    for p in [&left, &opened] {
        let path = format!("/v1/payments/{}?refresh=true", id(p));
        assert_eq!(house.get(&path)["status"], "requires_action", "not found is not opened");
    }
    for p in [&left, &opened] {
        let end = house.wait_for(id(p), SOON, |p| p["status"] == "failed");
        assert_eq!(end["failure"]["code"], "expired", "{end:?}");
        assert_eq!(end["attempts"][0]["reason"], "expired", "{end:?}");
        assert_eq!(money(&house, &end), (0, 0));
        assert_eq!(carry(&house, &order(p), "pay").status, 409, "the provider takes it no more");
    }
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn a_close_does_not_end_what_can_be_opened_again() {
    let house = house("6s");
    // The shop gives it up, its close is answered well, and the shopper opens it once more.
    let dropped = shown(&house, 900, "redirect");
    assert_eq!(carry(&house, &order(&dropped), "abandon").status, 200);
    let asked = wish(&house, &dropped, "cancel", json!({}));
    assert_eq!((asked.status, &asked["status"]), (202, &json!("processing")), "{asked:?}");
    assert_eq!(asked["status_reason"], "closing", "{asked:?}");
    let closes = |h: &House| h.requests(FIRST).iter().filter(|r| r["operation"] == "close").count();
    house.wait_until("it was closed", SOON, |h| closes(h) >= 1);
    assert_eq!(carry(&house, &order(&dropped), "pay").status, 200, "and paid after that");
    let end = house.wait_for(id(&dropped), SOON, |p| p["status"] == "canceled");
    assert_eq!(money(&house, &end), (1, 0), "it was given back: {end:?}");

    // Another way to pay is offered only once the page has ended.
    let first = shown(&house, 901, "app");
    let begun = Instant::now();
    let switched = json!({ "method": barcode(1, "01")["method"] });
    let waits = wish(&house, &first, "switch", switched);
    assert_eq!((waits.status, &waits["status_reason"]), (202, &json!("closing")), "{waits:?}");
    let paid = house.wait_for(id(&first), SOON, |p| p["status"] == "succeeded");
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((&paid["method"]["flow"], money(&house, &paid)), (&json!("barcode"), (1, 901)));
}

#[test]
fn while_the_provider_is_silent_a_page_neither_ends_nor_goes_elsewhere() {
    let house = house("2s");
    for fault in ["hang", "error_before", "bad_signature", "refuse"] {
        house.fault(FIRST, "inquire", fault);
        let left = shown(&house, 1_000, "redirect");
        std::thread::sleep(Duration::from_millis(4_500));
        let still = house.payment(id(&left));
        assert_eq!(still["status"], "requires_action", "{fault}: {still:?}");
        let tried = still["attempts"].as_array().map(Vec::len);
        assert_eq!(tried, Some(1), "{fault}: nobody else is tried: {still:?}");
        house.lift_faults();
        house.wait_for(id(&left), SOON, |p| p["status"] == "failed");
    }
}

#[test]
fn an_account_without_pages_offers_none() {
    let house = House::start();
    for flow in ["redirect", "wap", "app"] {
        let none = house.pay(&page(1_000, flow));
        assert_eq!((none.status, &none["code"]), (503, &json!("no_account_available")), "{none:?}");
    }
    assert!(house.requests(FIRST).is_empty());
}
