//! The shopper comes back from a challenge: `confirm` tells Adyen what he brought, once.
//!
//! His details are as secret as a card, so they live in memory alone. What is lost on the way is a
//! doubt of this payment and never a reason to ask another processor, and the ledger says how often
//! it was charged.

use std::time::Duration;

use interlock_tests::house::{Answer, House, Plan, at_once, fresh, network_token, stored};
use interlock_tests::ledger;
use interlock_tests::recorder::Recorder;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const ADYEN: &str = "adyen-eu";
const OTHER: &str = "checkout-us";

fn id(payment: &Answer) -> &str {
    payment["id"].as_str().expect("an id")
}

fn op_id(payment: &Answer) -> &str {
    payment["attempts"][0]["op_id"].as_str().expect("our number")
}

/// Charges and net money of a payment.
fn money(house: &House, payment: &Answer) -> (usize, i64) {
    let ledger = house.ledger();
    let net = ledger::of_payment(&ledger::net(&ledger), &payment.json);
    (ledger::charges(&ledger, &payment.json), net)
}

fn attempts(payment: &Answer) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one =
        |a: &Value| format!("{} {} {}", word(&a["account"]), word(&a["state"]), word(&a["reason"]));
    payment["attempts"].as_array().expect("attempts").iter().map(one).collect()
}

/// How often Adyen was told what a shopper brought.
fn returns(house: &House) -> usize {
    house.requests(ADYEN).iter().filter(|r| r["operation"] == "continue").count()
}

fn house() -> House {
    House::with(Plan { challenges: true, ..Plan::default() })
}

/// A challenge that was shown, and what its shopper brings back after this act.
fn challenged(house: &House, amount: i64, act: &str) -> (Answer, Value) {
    let shown = house.pay(&stored(amount, "GBP", "M5STORED"));
    assert_eq!((shown.status, &shown["status"]), (201, &json!("requires_action")), "{shown:?}");
    assert_eq!(shown["next_action"]["type"], "three_d_secure", "{shown:?}");
    let acted = house.shopper(ADYEN, op_id(&shown), act);
    assert_eq!(acted.status, 200, "{acted:?}");
    let details = json!({ "details": { "redirectResult": acted["redirect_result"] } });
    (shown, details)
}

fn confirm(house: &House, payment: &Answer, key: &str, details: &Value) -> Answer {
    house.post(&format!("/v1/payments/{}/confirm", id(payment)), key, details)
}

fn no_wait(house: &House, payment: &Answer, key: &str, details: &Value) -> Answer {
    let url = format!("{}/v1/payments/{}/confirm", house.api, id(payment));
    let headers = [("Idempotency-Key", key), ("Prefer", "wait=0")];
    house.send("POST", &url, &headers, Some(details.to_string().as_bytes()))
}

fn reasons(house: &House, payment: &Answer) -> Vec<String> {
    let lines = house.get(&format!("/v1/payments/{}/timeline", id(payment)));
    let lines = lines["data"].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(|l| l["reason"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_challenge_that_was_passed_is_charged_once_and_one_that_was_not_never() {
    let house = house();
    // Nothing to prove: the cryptogram did, or the card has no 3-D Secure.
    let mut plain = network_token(900, "GBP");
    assert_eq!(house.pay(&plain)["status"], "succeeded");
    plain["method"]["network_token"]["number"] = "4111111111119990".into();
    plain["method"]["network_token"].as_object_mut().unwrap().remove("cryptogram");
    assert_eq!(house.pay(&plain)["status"], "succeeded");
    assert_eq!(returns(&house), 0);

    let (shown, details) = challenged(&house, 2_300, "pay");
    assert_eq!(money(&house, &shown), (0, 0), "nothing moves until it is brought back");
    let paid = confirm(&house, &shown, "back-1", &details);
    assert_eq!((paid.status, &paid["status"]), (200, &json!("succeeded")), "{paid:?}");
    assert_eq!((money(&house, &paid), returns(&house)), ((1, 2_300), 1));
    let again = confirm(&house, &shown, "back-1", &details);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!((again.status, again.body), (paid.status, paid.body.clone()));
    let late = confirm(&house, &shown, "back-2", &details);
    assert_eq!((late.status, &late["status"]), (200, &json!("succeeded")), "{late:?}");
    let other = confirm(&house, &shown, "back-1", &json!({ "details": { "redirectResult": "x" } }));
    assert_eq!((other.status, &other["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!((money(&house, &paid), returns(&house)), ((1, 2_300), 1));

    let (shown, details) = challenged(&house, 2_400, "fail");
    let failed = confirm(&house, &shown, &fresh("back"), &details);
    assert_eq!((failed.status, &failed["status"]), (200, &json!("failed")), "{failed:?}");
    assert_eq!(failed["failure"]["code"], "verification_failed", "{failed:?}");
    assert_eq!(attempts(&failed), [format!("{ADYEN} failed declined")]);
    assert_eq!(money(&house, &failed), (0, 0));
    assert!(house.requests(OTHER).is_empty());

    // Held, and then captured.
    let mut held = stored(2_500, "GBP", "M5STORED");
    held["capture"] = "manual".into();
    let shown = house.pay(&held);
    let acted = house.shopper(ADYEN, op_id(&shown), "pay");
    let details = json!({ "details": { "threeDSResult": acted["redirect_result"] } });
    let held = confirm(&house, &shown, &fresh("back"), &details);
    assert_eq!((held.status, &held["status"]), (200, &json!("requires_capture")), "{held:?}");
    let path = format!("/v1/payments/{}/capture", id(&held));
    let taken = house.post(&path, &fresh("capture"), &json!({}));
    assert_eq!((&taken["status"], money(&house, &taken).1), (&json!("succeeded"), 2_500));
}

#[test]
fn an_issuer_that_says_no_after_the_challenge_is_asked_through_another_processor() {
    let house = house();
    let (shown, details) = challenged(&house, 1_100, "pay");
    house.fault(ADYEN, "continue", "decline_soft");
    let paid = confirm(&house, &shown, &fresh("back"), &details);
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    let both = [format!("{ADYEN} failed declined"), format!("{OTHER} success -")];
    assert_eq!((attempts(&paid), money(&house, &paid)), (both.to_vec(), (1, 1_100)));
}

#[test]
fn what_is_missing_or_makes_no_sense_is_told_and_sends_nothing() {
    let house = house();
    let (shown, details) = challenged(&house, 1_200, "pay");
    for body in [json!({}), json!({ "details": {} }), json!({ "details": { "a": "b" } })] {
        let told = confirm(&house, &shown, &fresh("back"), &body);
        assert_eq!((told.status, &told["code"]), (422, &json!("unprocessable")), "{told:?}");
        assert_eq!(told["param"], "details");
    }
    let told = confirm(&house, &shown, &fresh("back"), &json!({ "details": "text" }));
    assert_eq!((told.status, &told["code"]), (400, &json!("invalid_request")), "{told:?}");
    let long = json!({ "details": { "redirectResult": "x".repeat(40_000) } });
    assert_eq!(confirm(&house, &shown, &fresh("back"), &long).status, 422);
    assert_eq!(
        (returns(&house), &house.payment(id(&shown))["status"]),
        (0, &json!("requires_action"))
    );
    let paid = confirm(&house, &shown, &fresh("back"), &details);
    assert_eq!((&paid["status"], money(&house, &paid)), (&json!("succeeded"), (1, 1_200)));
}

#[test]
fn many_returns_at_once_are_one() {
    let house = house();
    house.fault_with(json!({
        "account": ADYEN, "operation": "continue", "fault": "slow", "for_ms": 60_000, "ms": 700,
    }));
    let (shown, details) = challenged(&house, 1_300, "pay");
    for answer in at_once(8, |_| confirm(&house, &shown, "one-key", &details)) {
        assert_eq!((answer.status, &answer["status"]), (200, &json!("succeeded")), "{answer:?}");
    }
    assert_eq!((returns(&house), money(&house, &shown)), (1, (1, 1_300)));
    let (shown, details) = challenged(&house, 1_400, "pay");
    let answers = at_once(8, |n| confirm(&house, &shown, &format!("key-{n}"), &details));
    let told = |status: u16| answers.iter().filter(|a| a.status == status).count();
    assert_eq!((told(200), told(409)), (1, 7), "{answers:?}");
    assert_eq!((returns(&house), money(&house, &shown)), (2, (1, 1_400)));
}

#[test]
fn a_return_that_was_not_sent_leaves_the_shopper_where_he_was() {
    let house = house();
    let (shown, details) = challenged(&house, 1_500, "pay");
    house.fault(ADYEN, "continue", "refuse");
    let unsent = confirm(&house, &shown, "back-1", &details);
    house.lift_faults();
    assert_eq!((unsent.status, &unsent["status"]), (200, &json!("requires_action")), "{unsent:?}");
    assert_eq!((returns(&house), money(&house, &shown)), (0, (0, 0)));
    // Turned away at the gate, by a code that proves it.
    house.fault(ADYEN, "continue", "rate_limited");
    let turned = confirm(&house, &shown, "back-1", &details);
    house.lift_faults();
    assert_eq!(turned["status"], "requires_action", "{turned:?}");
    std::thread::sleep(Duration::from_millis(1_100));
    let paid = confirm(&house, &shown, "back-2", &details);
    assert_eq!((&paid["status"], money(&house, &paid)), (&json!("succeeded"), (1, 1_500)));
    assert!(house.requests(OTHER).is_empty());
}

#[test]
fn a_return_that_was_lost_is_told_again_under_its_number_and_never_elsewhere() {
    let house = house();
    for fault in ["reset_after_read", "charge_then_drop", "hang", "slow"] {
        let (shown, details) = challenged(&house, 1_600, "pay");
        let before = returns(&house);
        house.fault(ADYEN, "notify", "notify_lose");
        house.fault_with(json!({
            "account": ADYEN, "operation": "continue", "fault": fault, "for_ms": 60_000,
            "ms": 2_500,
        }));
        let begun = no_wait(&house, &shown, "back-1", &details);
        assert_eq!(begun.status, 202, "{fault} {begun:?}");
        let doubtful = house.wait_for(id(&shown), SOON, |p| {
            p["status_reason"] == "provider_outcome_unknown" || p["status"] == "succeeded"
        });
        if doubtful["status"] == "processing" {
            let other = json!({ "details": { "redirectResult": "b3RoZXI=" } });
            let refused = confirm(&house, &shown, &fresh("other"), &other);
            assert_eq!((refused.status, &refused["code"]), (409, &json!("invalid_state")));
        }
        house.lift_faults();
        house.fault(ADYEN, "notify", "notify_lose");
        let paid = house.wait_for(id(&shown), SOON, |p| p["status"] == "succeeded");
        house.lift_faults();
        assert_eq!(attempts(&paid), [format!("{ADYEN} success -")], "{fault}");
        assert!(returns(&house) >= before + 2, "{fault}: told again");
        assert_eq!(money(&house, &paid), (1, 1_600), "{fault}");
    }
    assert!(house.requests(OTHER).is_empty(), "nobody else was asked");
}

#[test]
fn a_process_that_lost_the_details_takes_the_same_ones_again() {
    let recorder = Recorder::start();
    let notify = Some(recorder.url.clone());
    let mut house = House::with(Plan { challenges: true, notify, ..Plan::default() });
    for fault in ["charge_then_drop", "reset_after_read"] {
        let (shown, details) = challenged(&house, 1_700, "pay");
        house.fault_with(json!({
            "account": ADYEN, "operation": "continue", "fault": fault, "for_ms": 60_000,
        }));
        let before = returns(&house);
        let begun = no_wait(&house, &shown, "back-1", &details);
        assert_eq!(begun.status, 202, "{begun:?}");
        house.wait_until("it was told", SOON, |h| returns(h) > before);
        house.kill_proxy();
        house.lift_faults();
        house.start_proxy();
        let lost = house.wait_for(id(&shown), SOON, |p| p["attempts"][0]["state"] == "ambiguous");
        assert_eq!(lost["status_reason"], "provider_outcome_unknown", "{lost:?}");
        assert!(reasons(&house, &shown).iter().any(|r| r == "details_gone"));
        let told = returns(&house);
        std::thread::sleep(Duration::from_millis(1_500));
        assert_eq!(returns(&house), told, "nothing can be told without them");
        let other = json!({ "details": { "redirectResult": "b3RoZXI=" } });
        assert_eq!(confirm(&house, &shown, &fresh("other"), &other).status, 409);
        // With the first key, or with another one.
        let key = if fault == "charge_then_drop" { "back-1" } else { "back-2" };
        let paid = confirm(&house, &shown, key, &details);
        assert_eq!((paid.status, &paid["status"]), (200, &json!("succeeded")), "{fault} {paid:?}");
        assert_eq!(money(&house, &paid), (1, 1_700), "{fault}");
        assert_eq!(attempts(&paid), [format!("{ADYEN} success -")]);
        // What the shopper brought is in no file.
        let secret = details["details"]["redirectResult"].as_str().expect("a text").to_owned();
        assert!(!found(house.dir.path(), &secret), "{secret} was written down");
    }
    assert!(house.requests(OTHER).is_empty());
}

/// Whether a text stands in any file of a folder.
fn found(folder: &std::path::Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder").map_while(Result::ok);
    entries.into_iter().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return found(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|w| w == text.as_bytes())
    })
}

#[test]
fn a_notification_may_come_before_the_answer_and_before_the_shopper() {
    let house = house();
    let (shown, details) = challenged(&house, 1_800, "pay");
    house.fault_with(json!({
        "account": ADYEN, "operation": "continue", "fault": "slow", "for_ms": 60_000, "ms": 1_200,
    }));
    no_wait(&house, &shown, &fresh("back"), &details);
    let paid =
        house.wait_for(id(&shown), Duration::from_millis(1_100), |p| p["status"] == "succeeded");
    std::thread::sleep(Duration::from_millis(1_500));
    let after = house.payment(id(&paid));
    assert_eq!((&after["status"], money(&house, &after)), (&json!("succeeded"), (1, 1_800)));
}

#[test]
fn an_abandoned_challenge_ends_when_the_provider_says_so() {
    let plan = Plan { challenges: true, offer_expiry: Some(("2s", "1s")), ..Plan::default() };
    let house = House::with(plan);
    let (left, _) = challenged(&house, 1_900, "abandon");
    let end = house.wait_for(id(&left), SOON, |p| p["status"] == "failed");
    assert_eq!(
        (attempts(&end), money(&house, &end)),
        (vec![format!("{ADYEN} failed declined")], (0, 0))
    );
    let (dropped, details) = challenged(&house, 2_000, "pay");
    let path = format!("{}/v1/payments/{}/cancel", house.api, id(&dropped));
    let key = fresh("cancel");
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
    // Nobody but us can finish it, so nothing has to be closed.
    let over = house.send("POST", &path, &headers, Some(b"{}"));
    assert_eq!((over.status, &over["status"]), (200, &json!("canceled")), "{over:?}");
    let told = returns(&house);
    no_wait(&house, &dropped, &fresh("back"), &details);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((returns(&house), money(&house, &over)), (told, (0, 0)), "{over:?}");
    assert!(house.requests(OTHER).is_empty());
}

/// A payment that nobody waits for.
fn later(house: &House, body: &Value) -> Answer {
    let (key, url) = (fresh("key"), format!("{}/v1/payments", house.api));
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "wait=0")];
    house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
}

/// A house whose account declares no code as proof.
fn without_proof() -> House {
    House::with(Plan { proof_codes: false, ..Plan::default() })
}

#[test]
fn an_answer_that_permits_it_is_followed_by_the_same_request_and_never_by_another_account() {
    let house = without_proof();
    let sends = |payment: &Answer| {
        let ours = |r: &&Value| r["op_id"] == op_id(payment) && r["operation"] == "authorize";
        house.requests(ADYEN).iter().filter(ours).count()
    };
    // Its store was down, and it says that the same may come again.
    let paid = house.pay(&stored(2_100, "GBP", "M5_store_down"));
    assert_eq!((paid.status, &paid["status"]), (201, &json!("succeeded")), "{paid:?}");
    assert_eq!((attempts(&paid), sends(&paid)), (vec![format!("{ADYEN} success -")], 2));
    assert_eq!(money(&house, &paid), (1, 2_100));
    // A copy meets the first one at work (704), until that is done.
    house.fault(ADYEN, "notify", "notify_lose");
    house.fault_with(json!({
        "account": ADYEN, "operation": "authorize", "fault": "slow", "for_ms": 60_000,
        "ms": 4_000,
    }));
    let begun = later(&house, &stored(2_200, "GBP", "M5STORED"));
    let paid =
        house.wait_for(id(&begun), SOON, |p| p["status_reason"] == "provider_outcome_unknown");
    house.lift_faults();
    house.fault(ADYEN, "notify", "notify_lose");
    let paid = house.wait_for(id(&paid), SOON, |p| p["status"] == "succeeded");
    assert_eq!(
        (attempts(&paid), money(&house, &paid)),
        (vec![format!("{ADYEN} success -")], (1, 2_200))
    );
    assert!(sends(&paid) >= 3, "turned away and sent again: {}", sends(&paid));
    house.lift_faults();
    // Without its leave nothing follows, although nobody knows.
    house.fault(ADYEN, "authorize", "error_before");
    let begun = later(&house, &stored(2_300, "GBP", "M5STORED"));
    let fenced = house.wait_for(id(&begun), SOON, |p| p["attempts"][0]["state"] == "fenced");
    house.lift_faults();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((sends(&fenced), money(&house, &fenced)), (1, (0, 0)));
    assert!(house.requests(OTHER).is_empty(), "leave to send again is no proof");
}
