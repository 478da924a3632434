//! What providers say by themselves is believed when it is signed, applied once, and acknowledged
//! only when it is durable, in whatever order and however often it comes.
//!
//! A recorder stands where the providers send to, so a test decides what arrives, when, and what
//! of it was altered on the way. Where only the result matters, the sandbox delivers by itself and
//! the fault dial loses, delays, doubles and reorders.

use std::thread;
use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, at_once, barcode, fresh, qr, tokens};
use interlock_tests::ledger;
use interlock_tests::recorder::{Notification, Recorder};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// A house whose providers' notifications come to the recorder alone.
fn apart() -> (House, Recorder) {
    let recorder = Recorder::start();
    let plan = Plan { notify: Some(recorder.url.clone()), ..Plan::default() };
    (House::with(plan), recorder)
}

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("a payment has an id")
}

fn op_id(payment: &Answer, attempt: usize) -> &str {
    payment["attempts"][attempt]["op_id"].as_str().expect("an attempt has our number")
}

fn timeline(house: &House, payment: &Answer) -> Value {
    house.get(&format!("/v1/payments/{}/timeline", id(payment))).json["data"].clone()
}

fn net(house: &House, payment: &Answer) -> i64 {
    ledger::of_payment(&ledger::net(&house.ledger()), &payment.json)
}

/// A card payment whose answer is lost, so that only a notification can tell.
fn unanswered_card(house: &House, amount: i64) -> Answer {
    house.fault("checkout-eu", "authorize", "charge_then_drop");
    house.fault("checkout-eu", "inquire", "error_before");
    let url = format!("{}/v1/payments", house.api);
    let key = fresh("lost");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
    let body = tokens(amount, "EUR").to_string();
    house.send("POST", &url, &headers, Some(body.as_bytes()))
}

/// A QR code that was scanned and paid while the account answers no inquiry.
fn paid_qr(house: &House, amount: i64) -> Answer {
    house.fault("alipay-main", "inquire", "error_before");
    let payment = house.pay(&qr(amount));
    let code = payment["next_action"]["qr_code"].as_str().expect("a code is shown");
    assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
    payment
}

#[test]
fn a_good_notification_is_applied_before_it_is_acknowledged_and_applied_once() {
    let (mut house, recorder) = apart();

    // Alipay reads the body and takes nothing but these seven bytes for an acknowledgement.
    let paid = paid_qr(&house, 1_100);
    let notice = recorder.wait_for(&[op_id(&paid, 0), "TRADE_SUCCESS"]);
    assert_eq!(house.payment(id(&paid))["status"], "requires_action");
    let ack = notice.deliver(&house);
    assert_eq!((ack.status, ack.body.as_slice()), (200, b"success".as_slice()), "{ack:?}");
    let now = house.payment(id(&paid));
    assert_eq!(now["status"], "succeeded", "what is acknowledged is durable: {now:?}");

    // Checkout.com wants a 2xx.
    let lost = unanswered_card(&house, 1_200);
    let card_notice = recorder.wait_for(&[op_id(&lost, 0), "payment_approved"]);
    assert_eq!(house.payment(id(&lost))["status"], "processing");
    let ack = card_notice.deliver(&house);
    assert_eq!(ack.status, 200, "{ack:?}");
    let held = house.payment(id(&lost));
    assert_eq!(held["status"], "processing", "the money is held, and not taken yet: {held:?}");
    assert_eq!(held["status_reason"], "provider_pending", "it is in doubt no more: {held:?}");
    let captured = recorder.wait_for(&[op_id(&lost, 0), "payment_captured"]);
    assert_eq!(captured.deliver(&house).status, 200);
    assert_eq!(house.payment(id(&lost))["status"], "succeeded");
    house.lift_faults();

    // Replays are acknowledged and change nothing: in a row, at once, and after a restart.
    let lines = (timeline(&house, &paid), timeline(&house, &lost));
    let again = |house: &House, notice: &Notification| {
        for answer in at_once(10, |_| notice.deliver(house)) {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!((timeline(house, &paid), timeline(house, &lost)), lines);
    };
    for _ in 0..2 {
        assert_eq!(notice.deliver(&house).body, b"success");
        again(&house, &notice);
        again(&house, &card_notice);
        again(&house, &captured);
        house.kill_proxy();
        house.start_proxy();
    }
    for payment in [&paid, &lost] {
        assert_eq!(ledger::charges(&house.ledger(), &house.payment(id(payment)).json), 1);
    }
}

#[test]
fn ten_copies_at_once_of_a_notification_are_applied_once() {
    let (house, recorder) = apart();
    let paid = paid_qr(&house, 900);
    let notice = recorder.wait_for(&[op_id(&paid, 0), "TRADE_SUCCESS"]);
    for ack in at_once(10, |_| notice.deliver(&house)) {
        assert_eq!((ack.status, ack.body.as_slice()), (200, b"success".as_slice()));
    }
    let lines = timeline(&house, &paid);
    let lines: Vec<&Value> = lines.as_array().unwrap().iter().collect();
    let said = lines.iter().filter(|e| e["what"] == "paid").count();
    assert_eq!(said, 1, "{lines:#?}");
    assert_eq!(house.payment(id(&paid))["status"], "succeeded");
}

#[test]
fn a_notification_altered_in_any_byte_is_refused_and_changes_nothing() {
    let (house, recorder) = apart();
    let paid = paid_qr(&house, 4_900);
    let lost = unanswered_card(&house, 4_800);
    let form = recorder.wait_for(&[op_id(&paid, 0), "TRADE_SUCCESS"]);
    let hook = recorder.wait_for(&[op_id(&lost, 0), "payment_approved"]);
    let before = (house.payment(id(&paid)).body, timeline(&house, &paid));

    let refused = |altered: &Notification, what: &str| {
        let answer = altered.deliver(&house);
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_ne!(answer.body, b"success", "{what}");
    };
    // Alipay: every character of the signature, and every field's value.
    let text = String::from_utf8(form.body.clone()).unwrap();
    let sign = text.find("sign=").expect("a signature") + 5;
    for at in (sign..text.len()).filter(|at| text.as_bytes()[*at].is_ascii_alphanumeric()) {
        // A change inside an escape makes another character of the signature.
        let mut altered = form.clone();
        altered.body[at] = if altered.body[at] == b'A' { b'B' } else { b'A' };
        refused(&altered, &format!("byte {at} of {}", text.len()));
    }
    for (from, to) in [
        ("total_amount=49.00", "total_amount=490.0"),
        ("total_amount=49.00", "total_amount=48.00"),
        ("total_amount=49.00", "total_amount=49.000"),
        ("TRADE_SUCCESS", "TRADE_CLOSED"),
        ("notify_id=2", "notify_id=3"),
        ("trade_no=2", "trade_no=3"),
        ("seller_id=2", "seller_id=3"),
        ("app_id=2", "app_id=3"),
        ("sign_type=RSA2", "sign_type=RSA"),
        ("charset=utf-8", "charset=utf-8&total_amount=48.00"),
        ("&sign=", "&refund_fee=49.00&sign="),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let body = text.replacen(from, to, 1).into_bytes();
        refused(&Notification { body, ..form.clone() }, to);
    }
    for body in [Vec::new(), b"x".to_vec(), text[..sign - 6].into(), vec![0xff; 64]] {
        refused(&Notification { body, ..form.clone() }, "no signature");
    }

    // Checkout.com: every digit of the signature, and every byte of the body.
    let place = hook.headers.iter().position(|(n, _)| n == "cko-signature").unwrap();
    for at in 0..hook.headers[place].1.len() {
        let mut altered = hook.clone();
        let digit = altered.headers[place].1.as_bytes()[at];
        let other = if digit == b'0' { "1" } else { "0" };
        altered.headers[place].1.replace_range(at..=at, other);
        refused(&altered, &format!("digit {at}"));
    }
    for at in 0..hook.body.len() {
        let mut altered = hook.clone();
        altered.body[at] ^= 1;
        refused(&altered, &format!("byte {at}"));
    }
    let mut unsigned = hook.clone();
    unsigned.headers.remove(place);
    refused(&unsigned, "no signature");
    // Good at one account is not good at another.
    for (notice, account) in [(&form, "alipay-backup"), (&hook, "checkout-us")] {
        let path = format!("/v1/notifications/{account}");
        refused(&Notification { path, ..notice.clone() }, account);
    }
    let path = "/v1/notifications/nobody".to_owned();
    assert_eq!(Notification { path, ..form.clone() }.deliver(&house).status, 404);

    assert_eq!((house.payment(id(&paid)).body, timeline(&house, &paid)), before);
    assert_eq!(house.payment(id(&lost))["status"], "processing");
    let bad = house.metric("interlock_notifications_total", &[("result", "bad_signature")]);
    assert!(bad > 400.0, "they are counted: {bad}");
    // And then the true ones.
    assert_eq!(form.deliver(&house).body, b"success");
    assert_eq!(hook.deliver(&house).status, 200);
    assert_eq!(house.payment(id(&paid))["status"], "succeeded");
    assert_eq!(house.payment(id(&lost))["status_reason"], "provider_pending");
}

#[test]
fn a_notification_about_an_order_that_is_not_ours_is_not_acknowledged() {
    let (theirs, recorder) = apart();
    let ours = House::start();
    // Both houses have the same accounts and keys, as two installations of one merchant would.
    let paid = theirs.pay(&barcode(1_000, "01"));
    let card = theirs.pay(&tokens(1_000, "EUR"));
    let form = recorder.wait_for(&[op_id(&paid, 0), "TRADE_SUCCESS"]);
    let hook = recorder.wait_for(&[op_id(&card, 0), "payment_approved"]);
    for notice in [&form, &hook] {
        for _ in 0..3 {
            let answer = notice.deliver(&ours);
            assert!(!(200..300).contains(&answer.status), "{answer:?}");
            assert_ne!(answer.body, b"success");
        }
    }
    assert_eq!(ours.journalled(), 0);
    let unknown = ours.metric("interlock_notifications_total", &[("result", "unknown")]);
    assert!(unknown >= 6.0, "it is counted: {unknown}");
    assert!(ours.log().contains("notification about a payment that is not ours"), "an alert");
    // It is kept: the journal's rows are read without the proxy.
    let kept = std::fs::read_dir(ours.dir.path().join("data")).unwrap().map_while(Result::ok);
    let held = kept.filter(|entry| entry.path().is_file()).any(|entry| {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let event: Value = serde_json::from_slice(&hook.body).unwrap();
        let event = event["id"].as_str().unwrap().as_bytes().to_vec();
        bytes.windows(event.len()).any(|window| window == event)
    });
    assert!(held, "the notification is kept in the journal");
    // The true owner takes it.
    assert_eq!(form.deliver(&theirs).body, b"success");
    assert_eq!(hook.deliver(&theirs).status, 200);
}

#[test]
fn a_notification_that_overtakes_the_answer_settles_the_payment() {
    let (house, recorder) = apart();
    for account in ["alipay-main", "checkout-eu"] {
        house.fault_with(json!({
            "account": account, "operation": "authorize", "fault": "slow", "ms": 1_000,
        }));
    }
    for (body, word) in
        [(barcode(700, "01"), "TRADE_SUCCESS"), (tokens(700, "EUR"), "payment_captured")]
    {
        let key = fresh("early");
        let waiting = thread::scope(|scope| {
            let asking = scope.spawn(|| house.pay_with_key(&key, &body));
            let mut seen = recorder.all().len();
            let notice = loop {
                let all = recorder.all();
                if let Some(found) = all[seen..].iter().find(|n| n.tells(word)) {
                    break found.clone();
                }
                seen = seen.min(all.len());
                thread::sleep(Duration::from_millis(5));
                assert!(!asking.is_finished(), "the answer came before the notification");
            };
            let ack = notice.deliver(&house);
            assert_eq!(ack.status, 200, "{ack:?}");
            let list = house.get("/v1/payments?limit=1");
            assert_eq!(list["data"][0]["status"], "succeeded", "{list:?}");
            asking.join().unwrap()
        });
        assert_eq!((waiting.status, &waiting["status"]), (201, &json!("succeeded")));
        // The answer comes after it and changes nothing.
        house.wait_until("the answer was read", SOON, |h| {
            h.metric("interlock_in_flight", &[]) == 0.0
        });
        let replay = house.pay_with_key(&key, &body);
        assert_eq!(replay.body, waiting.body);
        assert_eq!(ledger::charges(&house.ledger(), &waiting.json), 1);
        assert_eq!(house.payment(id(&waiting))["attempts"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn a_notification_after_a_failover_gives_the_second_charge_back() {
    let (house, recorder) = apart();
    // The first code is made and its answer lost: it was never shown, so the next account is
    // asked at once.
    house.fault_with(json!({
        "account": "alipay-main", "operation": "authorize", "fault": "charge_then_drop",
    }));
    let shown = house.pay(&qr(2_500));
    assert_eq!(shown["status"], "requires_action", "{shown:?}");
    assert_eq!(shown["account"], "alipay-backup", "{shown:?}");
    house.lift_faults();
    let code = shown["next_action"]["qr_code"].as_str().unwrap();
    assert_eq!(house.scan("alipay-backup", code, "pay").status, 200);
    let good = recorder.wait_for(&[op_id(&shown, 1), "TRADE_SUCCESS"]);
    assert_eq!(good.deliver(&house).body, b"success");
    house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");

    // Against all odds the code that was never shown is paid too.
    let (account, first) = ("alipay-main", op_id(&shown, 0));
    if house.shopper(account, first, "pay").status == 200 {
        assert_eq!(net(&house, &shown), 5_000, "charged twice for the moment");
        let late = recorder.wait_for(&[first, "TRADE_SUCCESS"]);
        assert_eq!(late.deliver(&house).body, b"success");
        house.wait_until("the second charge is given back", SOON, |h| net(h, &shown) == 2_500);
        let end = house.wait_for(id(&shown), SOON, |p| p["attempts"][0]["state"] == "refunded");
        assert_eq!(end["status"], "succeeded", "what was answered stays true: {end:?}");
        assert_eq!(end["amount_refunded"], 0, "it is not the merchant's refund");
        // The notice of our own refund comes back too.
        let refund = recorder.wait_for(&[first, "refund_fee"]);
        assert_eq!(refund.deliver(&house).body, b"success");
        assert_eq!(late.deliver(&house).body, b"success");
        assert_eq!(net(&house, &shown), 2_500);
    } else {
        unreachable!("the sandbox keeps the code of a lost answer payable");
    }
}

#[test]
fn a_refund_that_is_told_before_its_answer_counts_once() {
    let (house, recorder) = apart();
    let paid = house.pay(&barcode(3_000, "01"));
    let first = recorder.wait_for(&[op_id(&paid, 0), "TRADE_SUCCESS"]);
    house.fault_with(json!({
        "account": "alipay-main", "operation": "refund", "fault": "slow", "ms": 1_000,
    }));
    let body = json!({ "payment": paid["id"], "amount": 1_000 });
    let refund = thread::scope(|scope| {
        let asking = scope.spawn(|| house.post("/v1/refunds", &fresh("refund"), &body));
        let notice = recorder.wait_for(&[op_id(&paid, 0), "refund_fee"]);
        assert!(!asking.is_finished(), "the answer came before the notification");
        assert_eq!(notice.deliver(&house).body, b"success");
        let now = house.payment(id(&paid));
        assert_eq!(now["amount_refunded"], 1_000, "{now:?}");
        asking.join().unwrap()
    });
    assert_eq!((refund.status, &refund["status"]), (201, &json!("succeeded")), "{refund:?}");
    // The notice of the payment comes last, and is no second payment.
    assert_eq!(first.deliver(&house).body, b"success");
    let end = house.payment(id(&paid));
    assert_eq!((&end["status"], &end["amount_refunded"]), (&json!("succeeded"), &json!(1_000)));
    assert_eq!(net(&house, &paid), 2_000);
    // Two more refunds, told in the wrong order.
    house.lift_faults();
    for amount in [700, 1_300] {
        let body = json!({ "payment": paid["id"], "amount": amount });
        let refund = house.post("/v1/refunds", &fresh("refund"), &body);
        assert_eq!(refund["status"], "succeeded", "{refund:?}");
    }
    house.wait_until("every refund is told", SOON, |_| {
        recorder.all().iter().filter(|n| n.tells("refund_fee")).count() == 3
    });
    for notice in recorder.all().iter().rev() {
        assert_eq!(notice.deliver(&house).body, b"success");
    }
    let end = house.payment(id(&paid));
    assert_eq!((&end["status"], &end["amount_refunded"]), (&json!("succeeded"), &json!(3_000)));
    assert_eq!(net(&house, &paid), 0);
}

#[test]
fn lost_late_doubled_and_reordered_notifications_end_in_the_same_truth() {
    let house = House::start();
    let mut ended: Vec<(Answer, i64)> = Vec::new();
    for fault in ["notify_lose", "notify_delay", "notify_duplicate", "notify_reorder"] {
        for account in ["alipay-main", "checkout-eu"] {
            house.fault_with(json!({
                "account": account, "operation": "*", "fault": fault, "ms": 300,
            }));
        }
        // A code that is scanned, an authorization that is captured and refunded, a refund.
        let scanned = house.pay(&qr(1_000));
        let code = scanned["next_action"]["qr_code"].as_str().unwrap();
        assert_eq!(house.scan("alipay-main", code, "pay").status, 200);
        let path = format!("/v1/payments/{}?refresh=true", id(&scanned));
        house
            .wait_until("a scanned code succeeds", SOON, |h| h.get(&path)["status"] == "succeeded");
        ended.push((scanned, 1_000));

        let mut body = tokens(2_000, "EUR");
        body["capture"] = "manual".into();
        let held = house.pay(&body);
        let path = format!("/v1/payments/{}/capture", id(&held));
        let captured = house.post(&path, &fresh("capture"), &json!({ "amount": 1_500 }));
        assert_eq!(captured["status"], "succeeded", "{fault}: {captured:?}");
        let body = json!({ "payment": held["id"], "amount": 500 });
        let refund = house.post("/v1/refunds", &fresh("refund"), &body);
        assert_eq!(refund["status"], "succeeded", "{fault}: {refund:?}");
        ended.push((held, 1_000));

        let paid = house.pay(&barcode(900, "01"));
        let body = json!({ "payment": paid["id"], "amount": 400 });
        let refund = house.post("/v1/refunds", &fresh("refund"), &body);
        assert_eq!(refund["status"], "succeeded", "{fault}: {refund:?}");
        ended.push((paid, 500));
        house.lift_faults();
    }
    house.wait_until("every notification was taken", SOON, |h| {
        let health = h.control("GET", "/healthz", None);
        let accounts = health["accounts"].as_object().cloned().unwrap_or_default();
        accounts.values().all(|a| a["notifications_pending"] == 0)
    });
    for (payment, kept) in &ended {
        let end = house.payment(id(payment));
        assert_eq!(end["status"], "succeeded", "{end:?}");
        assert_eq!(net(&house, &end), *kept);
        let left =
            end["amount_captured"].as_i64().unwrap() - end["amount_refunded"].as_i64().unwrap();
        assert_eq!(left, *kept, "{end:?}");
        assert_eq!(ledger::charges(&house.ledger(), &end.json), 1);
    }
}

#[test]
fn the_door_for_notifications_takes_posts_of_bounded_size_and_nothing_else() {
    let house = House::start();
    let url = |account: &str| format!("{}/v1/notifications/{account}", house.api);
    for verb in ["GET", "PUT", "DELETE"] {
        assert_eq!(house.send(verb, &url("alipay-main"), &[], None).status, 405);
    }
    let huge = vec![b'a'; 4 << 20];
    let answer = house.try_send("POST", &url("alipay-main"), &[], Some(&huge));
    assert!(answer.is_none_or(|a| a.status == 413), "a huge body is not read");
    for account in ["alipay-main", "checkout-eu"] {
        for body in [&b""[..], b"{}", b"a=b&sign=AAAA&sign_type=RSA2", b"\xff\xfe", b"[[[[[["] {
            let answer = house.send("POST", &url(account), &[], Some(body));
            assert_eq!(answer.status, 401, "{account} {body:?}: {answer:?}");
        }
    }
    assert_eq!((house.journalled(), house.sent()), (0, 0));
}
