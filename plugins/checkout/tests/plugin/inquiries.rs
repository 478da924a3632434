//! Inquiries: by either number, over all pages, and about single operations.

use interlock_plugin_api::testkit::{Drive, TestHost, Wanted};
use interlock_plugin_api::{Class, Fact, Money, Operation, Request, STEPS_MAX, What};
use serde_json::{Value, json};

use crate::{OP, PAYMENT, answer, approved, asking, asking_about, code, payment, plain, refused};
use crate::{told, with, without};

const INQUIRE: Operation = Operation::Inquire;

#[test]
fn a_payment_is_found_by_the_providers_number() {
    let fact = answer(INQUIRE, asking(true), 200, &approved("Captured"));
    assert_eq!((fact.what, fact.amount), (What::Captured, Some(payment().amount)));
    let other = with(approved("Captured"), "id", json!("pay_other"));
    assert_eq!(answer(INQUIRE, asking(true), 200, &other).what, What::Unknown);
    for body in [
        with(approved("Captured"), "reference", json!("opOther")),
        without(approved("Captured"), "reference"),
    ] {
        assert_eq!(answer(INQUIRE, asking(true), 200, &body).what, What::Unknown);
    }
}

#[test]
fn a_decline_that_is_looked_up_takes_its_code_from_the_action() {
    let actions = |codes: &[&str]| {
        let list: Vec<Value> = codes
            .iter()
            .map(|code| json!({"id": "act_1", "type": "Authorization", "response_code": code}))
            .collect();
        with(without(refused(""), "response_code"), "actions", json!(list))
    };
    let ask = |body: Value| answer(INQUIRE, asking(true), 200, &body);
    assert_eq!(code(&ask(actions(&["20051"]))), (What::Declined, Some("20051")));
    assert_eq!(code(&ask(actions(&[]))), (What::Declined, Some("status:Declined")));
    let two = ask(actions(&["20051", "20005"]));
    assert_eq!(code(&two), (What::Declined, Some("status:Declined")));
    let odd = with(without(refused(""), "response_code"), "actions", json!({"a": 1}));
    assert_eq!(ask(odd).what, What::Declined);
}

#[test]
fn only_the_providers_own_404_is_nothing_found() {
    let ask = |known, body: &[u8]| told(&plain(), INQUIRE, asking(known), 404, body);
    assert_eq!(ask(true, b"").what, What::NotFound);
    assert_eq!(ask(true, b"{\"error_type\":\"not_found\"}").what, What::NotFound);
    assert_eq!(ask(true, b"<html>not here</html>").what, What::Unknown);
    // An account without the list might answer so.
    assert_eq!(ask(false, b"").what, What::Unknown);
}

#[test]
fn an_inquiry_that_is_refused_says_nothing_of_the_money() {
    for status in [401, 403, 409, 422, 429, 500, 503] {
        for known in [true, false] {
            let fact = answer(INQUIRE, asking(known), status, &json!({}));
            assert_eq!(fact.what, What::Unknown, "{status}");
        }
    }
}

#[test]
fn the_list_finds_one_and_asks_for_it_by_number() {
    let host = TestHost::default();
    let plugin = plain();
    let mut drive = Drive::new(&plugin, &host, INQUIRE, asking(false));
    drive.start().unwrap().sent();
    let (send, _) = drive.answer(200, &page(1, &[(PAYMENT, OP)])).unwrap().sent();
    assert_eq!(
        (send.path.as_str(), send.method.as_str()),
        (&*format!("/payments/{PAYMENT}"), "GET")
    );
    let body = approved("Authorized").to_string();
    let done = drive.answer(200, body.as_bytes()).unwrap().done();
    assert_eq!(done.facts[0].what, What::Captured);
}

#[test]
fn a_payment_that_the_list_named_can_not_be_missing() {
    let host = TestHost::default();
    let plugin = plain();
    let mut drive = Drive::new(&plugin, &host, INQUIRE, asking(false));
    drive.start().unwrap().sent();
    drive.answer(200, &page(1, &[(PAYMENT, OP)])).unwrap().sent();
    let done = drive.answer(404, b"").unwrap().done();
    assert_eq!(done.facts[0].what, What::Unknown);
}

#[test]
fn nothing_is_found_only_when_every_page_was_read() {
    assert_eq!(listed(&[page(0, &[])]).0.what, What::NotFound);
    assert_eq!(listed(&[page(1, &[("pay_x", "opOther")])]).0.what, What::NotFound);
    let strangers: Vec<(String, &str)> = (0..100).map(|i| (format!("pay_{i}"), "opX")).collect();
    let strangers: Vec<(&str, &str)> = strangers.iter().map(|(id, r)| (id.as_str(), *r)).collect();
    let pages = [page(250, &strangers), page(250, &strangers), page(250, &strangers[..50])];
    let (fact, asked) = listed(&pages);
    assert_eq!(
        (fact.what, asked),
        (What::NotFound, vec!["0", "100", "200"].into_iter().map(String::from).collect())
    );
    let (fact, _) = listed(&[page(250, &strangers), page(250, &[])]);
    assert_eq!(code(&fact), (What::Unknown, Some("list_incomplete")));
    let endless = vec![page(100_000, &strangers); 6];
    let (fact, asked) = listed(&endless);
    assert_eq!(code(&fact), (What::Unknown, Some("list_too_long")));
    assert!(asked.len() as u32 + 2 <= STEPS_MAX, "one question and its answer still fit");
}

#[test]
fn a_second_payment_under_one_number_is_an_alarm() {
    let (fact, _) = listed(&[page(2, &[("pay_a", OP), ("pay_b", OP)])]);
    assert_eq!(code(&fact), (What::Unknown, Some("several_hits")));
    let (fact, asked) = listed(&[page(2, &[("pay_a", OP)]), page(2, &[("pay_b", OP)])]);
    assert_eq!(code(&fact), (What::Unknown, Some("several_hits")));
    assert_eq!(asked.len(), 2);
    // A page that moved shows the same one twice.
    let (fact, _) = listed(&[page(2, &[(PAYMENT, OP)]), page(2, &[(PAYMENT, OP)])]);
    assert_eq!(fact.what, What::Captured);
}

#[test]
fn an_unreadable_list_is_no_empty_one() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"data":[]}"#,
        r#"{"total_count":0}"#,
        "<html>",
        "null",
        r#"{"total_count":-1,"data":[]}"#,
        r#"{"total_count":1,"data":[{"reference":"x"}]}"#,
    ] {
        let fact = told(&plain(), INQUIRE, asking(false), 200, body.as_bytes());
        assert_eq!(code(&fact), (What::Unknown, Some("unreadable")), "{body}");
    }
}

#[test]
fn an_operation_is_matched_by_its_action_or_by_our_number() {
    let list = json!([
        action("act_3", "Refund", "opOther", true, "10000"),
        action("act_2", "Refund", "opLater0001", true, "10000"),
        action("act_1", "Authorization", OP, true, "10000"),
    ]);
    for known in [Some("act_2"), None] {
        let fact = operation(Operation::Refund, known, &list);
        assert_eq!(fact.what, What::Refunded);
        assert_eq!(fact.operation_ref.as_deref(), Some("act_2"));
        assert_eq!(fact.amount, Some(Money::new(4_900, payment().amount.currency)));
    }
    assert_eq!(operation(Operation::Refund, Some("act_3"), &list).what, What::Refunded);
    assert_eq!(operation(Operation::Refund, Some("act_9"), &list).what, What::NotFound);
    assert_eq!(operation(Operation::Capture, None, &list).what, What::NotFound);
    assert_eq!(operation(Operation::Capture, None, &json!([])).what, What::NotFound);
    let other = operation(Operation::Refund, Some("act_1"), &list);
    assert_eq!(code(&other), (What::Unknown, Some("other_action")));
}

#[test]
fn an_action_says_how_the_operation_ended() {
    for (op, kind, done, failed) in [
        (Operation::Capture, "Capture", What::Captured, What::Failed),
        (Operation::Refund, "Refund", What::Refunded, What::Failed),
        (Operation::Void, "Void", What::Voided, What::Declined),
    ] {
        let one = |approved: bool, response: &str| {
            let list = json!([action("act_2", kind, "opLater0001", approved, response)]);
            operation(op, None, &list)
        };
        assert_eq!(one(true, "10000").what, done);
        let refused = one(false, "20051");
        assert_eq!(code(&refused), (failed, Some("20051")));
        assert_eq!(refused.class, Some(Class::User));
        for (approved, response) in [(true, "20051"), (false, "10000"), (true, "x"), (false, "")] {
            assert_eq!(one(approved, response).what, What::Unknown, "{approved} {response}");
        }
        let mut open = action("act_2", kind, "opLater0001", true, "10000");
        open["approved"] = Value::Null;
        assert_eq!(operation(op, None, &json!([open])).what, What::Unknown);
    }
}

#[test]
fn two_actions_under_one_number_are_an_alarm() {
    let list = json!([
        action("act_2", "Refund", "opLater0001", true, "10000"),
        action("act_3", "Refund", "opLater0001", true, "10000"),
    ]);
    for known in [Some("act_2"), None] {
        let fact = operation(Operation::Refund, known, &list);
        assert_eq!(code(&fact), (What::Unknown, Some("several_hits")));
    }
}

#[test]
fn a_list_of_actions_that_is_none_proves_nothing() {
    for (status, body) in [(200, ""), (200, "{}"), (200, "[1]"), (404, ""), (429, ""), (500, "[]")]
    {
        let r = asking_about(Operation::Refund, None);
        let fact = told(&plain(), Operation::InquireOperation, r, status, body.as_bytes());
        assert_eq!(fact.what, What::Unknown, "{status} {body}");
    }
}

fn page(total: u64, entries: &[(&str, &str)]) -> Vec<u8> {
    let data: Vec<Value> =
        entries.iter().map(|(id, r)| json!({"id": id, "reference": r, "amount": 1})).collect();
    json!({"limit": 100, "skip": 0, "total_count": total, "data": data}).to_string().into_bytes()
}

/// Plays the pages, then a captured payment; the fact, and every `skip` that was asked.
fn listed(pages: &[Vec<u8>]) -> (Fact, Vec<String>) {
    let (host, plugin) = (TestHost::default(), plain());
    let mut drive = Drive::new(&plugin, &host, INQUIRE, asking(false));
    let mut wanted = drive.start().unwrap();
    let mut asked = Vec::new();
    let mut pages = pages.iter();
    loop {
        match wanted {
            Wanted::Done(done) => return (done.facts.into_iter().next().unwrap(), asked),
            Wanted::Send(send, _) if send.path == "/payments" => {
                asked.push(send.query.iter().find(|(k, _)| k == "skip").unwrap().1.clone());
                wanted = drive.answer(200, pages.next().unwrap()).unwrap();
            }
            Wanted::Send(..) => {
                let body = approved("Captured").to_string();
                wanted = drive.answer(200, body.as_bytes()).unwrap();
            }
        }
    }
}

fn action(id: &str, kind: &str, reference: &str, approved: bool, response: &str) -> Value {
    json!({
        "id": id, "type": kind, "amount": 4900, "approved": approved,
        "response_code": response, "reference": reference,
    })
}

fn operation(op: Operation, known: Option<&str>, list: &Value) -> Fact {
    let r: Request = asking_about(op, known);
    answer(Operation::InquireOperation, r, 200, list)
}
