//! PayPal's report, page by page from its fake, and its settlement report from a file.

use std::fs;

use interlock_tests::house::{Answer, House, Plan};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{CONFIG, SOON, all_closed, case, file, lift, net, number, portal, refund, text};

const ACCOUNT: &str = "paypal-main";

/// Its days are those of UTC.
fn today() -> Option<String> {
    crate::today(0)
}

fn reconcile(house: &House, day: &str, more: &[&str]) -> (i32, Value) {
    crate::reconcile(house, ACCOUNT, day, more)
}

/// An order that the shopper has approved.
fn approved(house: &House, amount: i64) -> Answer {
    let shown = house.pay(&json!({
        "amount": amount, "currency": "EUR", "method": { "type": "paypal", "flow": "redirect" },
        "return_url": "https://shop.example/back",
    }));
    assert_eq!(shown["status"], "requires_action", "{shown:?}");
    let acted = house.shopper(ACCOUNT, &number(&shown), "pay");
    assert!(acted.status < 300, "{acted:?}");
    shown
}

fn pay(house: &House, amount: i64) -> Answer {
    let shown = approved(house, amount);
    house.wait_for(&text(&shown, "id"), SOON, |payment| payment["status"] == "succeeded")
}

#[test]
fn what_nobody_told_is_booked_once_and_the_rest_is_a_case() {
    let Some(day) = today() else { return };
    // A doubt is not asked about before the report tells of it.
    let mut house = House::prepared(Plan::default());
    let path = house.dir.path().join(CONFIG);
    let config = fs::read_to_string(&path).expect("a configuration");
    let (usual, _) = config.split_once("\n[inquiry]\n").expect("as the house writes it");
    fs::write(&path, format!("{usual}\n[inquiry]\nrecheck = [\"10m\"]\n")).expect("written");
    house.start_proxy();
    let known = pay(&house, 1_250);
    refund(&house, &known, 100);
    // From now on nobody tells, what is done is not answered, and neither is a question about it.
    house.fault(ACCOUNT, "notify", "notify_lose");
    let silence = house.fault(ACCOUNT, "inquire", "error_before");
    house.fault(ACCOUNT, "continue", "error_after");
    let taken = approved(&house, 1_900);
    let id = text(&taken, "id");
    house.post_within(&format!("/v1/payments/{id}/confirm"), "confirm-1", &json!({}), 0);
    house.wait_until("it was captured, and the one question about it failed", SOON, |h| {
        let asked = h.requests(ACCOUNT);
        let captures = asked.iter().rposition(|request| request["operation"] == "continue");
        let after = captures.map(|at| &asked[at..]).unwrap_or_default();
        after.iter().any(|request| request["operation"] == "inquire" && request["answered"] == 500)
            && net(h, &h.payment(&id)) == 1_900
    });
    lift(&house, &silence);
    portal(
        &house,
        &json!({ "account": ACCOUNT, "act": "charge", "amount": 500, "currency": "EUR" }),
    );
    let op_id = number(&known);
    portal(&house, &json!({ "account": ACCOUNT, "act": "refund", "op_id": op_id, "amount": 250 }));
    let taken = house.payment(&id);
    assert_eq!(taken["status"], "processing", "taken and not credited: {taken:?}");
    assert_eq!(net(&house, &taken), 1_900);
    let sent = house.payments_sent();

    let (code, report) = reconcile(&house, &day, &[]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("done")), "{report}");
    let differences = json!({ "not_credited": 1, "only_theirs": 1, "refund_not_ours": 1 });
    assert_eq!((&run["differences"], &run["booked"]), (&differences, &json!(2)), "{report}");
    assert_eq!(run["agrees"], 2, "the payment and its refund: {report}");
    let until: Timestamp =
        run["covers"]["until"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    assert!(until <= Timestamp::now(), "no further than the report has come: {report}");
    assert_eq!(house.payment(&id)["status"], "succeeded");
    let known = house.payment(&text(&known, "id"));
    assert_eq!(known["amount_refunded"], 350);
    assert_eq!((net(&house, &known), net(&house, &house.payment(&id))), (900, 1_900));
    assert_eq!(house.payments_sent(), sent, "nothing was sent for it");

    let (code, report) = reconcile(&house, &day, &[]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["differences"]), (1, &json!({ "only_theirs": 1 })), "{report}");
    assert_eq!((&run["agrees"], &run["booked"]), (&json!(4), &json!(0)), "{report}");
    let theirs = case(&report, "only_theirs");
    assert_eq!((&theirs["theirs"]["amount"], &theirs["open"]), (&json!(500), &json!(true)));
    for booked in ["not_credited", "refund_not_ours"] {
        assert_eq!(case(&report, booked)["open"], false, "{report}");
    }
}

#[test]
fn a_settlement_report_shows_other_amounts_and_what_it_lacks() {
    let Some(day) = today() else { return };
    let house = House::start();
    let payments = [1_100, 1_200, 1_300, 1_400].map(|amount| pay(&house, amount));
    let [_, other, missing, given_back] = &payments;
    refund(&house, given_back, 300);
    let before: Vec<i64> = payments.iter().map(|payment| net(&house, payment)).collect();
    assert_eq!(before, [1_100, 1_200, 1_300, 1_100]);
    let sent = house.payments_sent();
    let taken = portal(&house, &json!({ "account": ACCOUNT, "act": "statement" }));
    let whole = text(&taken, "file");

    let lacks = |line: &&str| !line.contains(&number(missing)) && !line.contains("T1107");
    let lines = whole.split_inclusive('\n').filter(lacks).map(|line| {
        let other = line.contains(&number(other));
        if other { line.replace(",1200,", ",1234,") } else { line.to_owned() }
    });
    let path = file(&house, "STL.csv", lines.collect::<String>().as_bytes());
    for _ in 0..2 {
        let (code, report) = reconcile(&house, &day, &["--file", &path]);
        let run = &report["reconciliation"];
        assert_eq!(
            (code, &run["status"], &run["agrees"]),
            (1, &json!("done"), &json!(2)),
            "{report}"
        );
        let differences = json!({ "amount_differs": 1, "only_ours": 1, "refund_only_ours": 1 });
        assert_eq!(run["differences"], differences, "{report}");
        let differs = case(&report, "amount_differs");
        assert_eq!(differs["payment"], other["id"]);
        assert_eq!(differs["theirs"]["amount"], 1_234);
        assert_eq!(case(&report, "only_ours")["payment"], missing["id"]);
        let unseen = case(&report, "refund_only_ours");
        assert_eq!(
            (&unseen["payment"], &unseen["ours"]["amount"]),
            (&given_back["id"], &json!(300))
        );
    }
    let path = file(&house, "STL-whole.csv", whole.as_bytes());
    let (code, report) = reconcile(&house, &day, &["--file", &path]);
    assert_eq!((code, &report["reconciliation"]["agrees"]), (0, &json!(5)), "{report}");
    assert!(all_closed(&report), "{report}");

    let (cut, _) = whole.split_once("\"RF\"").expect("a footer");
    let cut = file(&house, "STL-cut.csv", cut.as_bytes());
    let (code, report) = reconcile(&house, &day, &["--file", &cut]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["status"]), (1, &json!("failed")), "{report}");
    assert!(run["error"].as_str().is_some_and(|why| why.contains("footer")), "{report}");
    let after: Vec<i64> = payments.iter().map(|payment| net(&house, payment)).collect();
    assert_eq!((after, house.payments_sent()), (before, sent), "nothing was moved");
}

#[test]
fn what_a_transaction_report_calls_failed_is_done_here() {
    let Some(day) = today() else { return };
    let house = House::start();
    let [right, denied] = [1_100, 1_200].map(|amount| pay(&house, amount));
    let sent = house.payments_sent();
    let taken = portal(&house, &json!({ "account": ACCOUNT, "act": "statement" }));
    // A transaction detail report has the same columns and more; the last one is not read.
    let whole = text(&taken, "file").replace("\"Store ID\"", "\"Transactional Status\"");
    let lines = whole.split_inclusive('\n').map(|line| match line.strip_suffix("\"\"\n") {
        Some(row) if row.contains(&number(&denied)) => format!("{row}\"D\"\n"),
        Some(row) if row.starts_with("\"SB\"") => format!("{row}\"S\"\n"),
        _ => line.to_owned(),
    });
    let path = file(&house, "TRR.csv", lines.collect::<String>().as_bytes());
    let (code, report) = reconcile(&house, &day, &["--file", &path]);
    let run = &report["reconciliation"];
    assert_eq!((code, &run["agrees"]), (1, &json!(1)), "{report}");
    assert_eq!(run["differences"], json!({ "state_differs": 1 }), "{report}");
    let differs = case(&report, "state_differs");
    assert_eq!(
        (&differs["payment"], &differs["theirs"]["state"]),
        (&denied["id"], &json!("failed"))
    );
    assert_eq!(house.payment(&text(&denied, "id"))["status"], "succeeded");
    assert_eq!((net(&house, &right), net(&house, &denied)), (1_100, 1_200));
    assert_eq!(house.payments_sent(), sent, "nothing was moved");
}
