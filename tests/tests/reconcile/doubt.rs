//! What a statement may do to money: a file is nobody's word until somebody gives his, and what
//! comes too late is given back.

use interlock_tests::house::{Answer, House};
use interlock_tests::ledger;
use serde_json::{Value, json};

use crate::{CONFIG, SOON, case, file, lift, net, number, portal, reconcile, text, today};

const ACCOUNT: &str = "wechat-main";
const EAST: i8 = 8;

fn shown(house: &House) -> Answer {
    let shown = house.pay(&json!({
        "amount": 1_900, "currency": "CNY", "method": { "type": "wechat_pay", "flow": "qr" },
    }));
    assert_eq!(shown["status"], "requires_action", "{shown:?}");
    shown
}

/// A trade bill that says that this payment was paid.
fn bill(house: &House, payment: &Answer) -> String {
    let head = "交易时间,微信订单号,商户订单号,交易状态,货币种类,微信退款单号,商户退款单号,\
                退款状态,商品名称,手续费,订单金额,申请退款金额";
    let number = number(payment);
    let row = format!(
        "`2026-11-30 12:00:00,`4200001,`{number},`SUCCESS,`CNY,`0,`0,`,`tea,`0.02000,`19.00,`0.00"
    );
    let sums = "总交易单数,订单总金额\r\n`1,`19.00\r\n";
    file(house, "bill.csv", format!("{head}\r\n{row}\r\n{sums}").as_bytes())
}

#[test]
fn a_file_books_nothing_until_the_provider_or_an_operator_says_so() {
    let Some(day) = today(EAST) else { return };
    let house = House::start();
    let payment = shown(&house);
    let id = text(&payment, "id");
    let path = bill(&house, &payment);
    // Nobody has paid: the provider says so when it is asked, and the file says otherwise.
    let (code, report) = reconcile(&house, ACCOUNT, &day, &["--file", &path]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["reconciliation"]["booked"], 0, "{report}");
    let open = case(&report, "not_credited");
    assert_eq!((&open["open"], &open["payment"]), (&json!(true), &json!(id)), "{report}");
    assert_eq!(house.payment(&id)["status"], "requires_action");

    // He pays after all, and what the provider says then is no word of the file.
    house.fault(ACCOUNT, "notify", "notify_lose");
    house.shopper(ACCOUNT, &number(&payment), "pay");
    let (_, report) = reconcile(&house, ACCOUNT, &day, &["--file", &path]);
    let said = said(&case(&report, "not_credited"));
    let paid = house.wait_for(&id, SOON, |p| p["status"] == "succeeded");
    assert!(said.iter().any(|what| what.starts_with("confirmed by the provider")), "{said:?}");
    assert_eq!((net(&house, &paid), ledger::charges(&house.ledger(), &paid.json)), (1_900, 1));

    // Of another one only an operator knows.
    house.fault(ACCOUNT, "inquire", "hang");
    let payment = shown(&house);
    house.shopper(ACCOUNT, &number(&payment), "pay");
    let path = bill(&house, &payment);
    let booked = ["--file", &path, "--book", "--reason", "from the portal", "--operator", "night"];
    let (_, report) = reconcile(&house, ACCOUNT, &day, &booked);
    assert_eq!(house.payment(&text(&payment, "id"))["status"], "succeeded", "{report}");
    let of_it = |case: &&Value| case["payment"] == payment["id"];
    let cases = report["cases"].as_array().expect("cases");
    let said = crate::doubt::said(cases.iter().find(of_it).expect("its case"));
    assert!(
        said.iter().any(|what| what.starts_with("booked by night: from the portal")),
        "{said:?}"
    );

    for (arguments, why) in [
        (["--book", "--reason", "x"].as_slice(), "--file"),
        (&["--book", "--file", &path], "--reason"),
    ] {
        let asked = ["reconcile", "--account", ACCOUNT, "--date", &day, "--config", CONFIG];
        let (code, out) = house.cli_code(&[&asked, arguments].concat());
        assert!(code == Some(2) && out.contains(why), "{code:?}: {out}");
    }
}

#[test]
fn what_was_paid_after_its_end_is_given_back_once() {
    let Some(day) = today(EAST) else { return };
    let house = House::start();
    let unreachable = [ACCOUNT, "wechat-backup"].map(|account| house.fault(account, "*", "refuse"));
    let failed = house.pay(&json!({
        "amount": 1_900, "currency": "CNY",
        "method": { "type": "wechat_pay", "flow": "barcode", "auth_code": "131234567890123401" },
    }));
    assert_eq!(failed["status"], "failed", "{failed:?}");
    unreachable.iter().for_each(|fault| lift(&house, fault));
    // Against all that was proven, money is taken under the number that never left.
    let first = &failed["attempts"][0];
    assert_eq!(first["account"], ACCOUNT, "{failed:?}");
    let charge = json!({
        "account": ACCOUNT, "act": "charge", "op_id": first["op_id"], "amount": 1_900,
    });
    portal(&house, &charge);
    let (code, report) = reconcile(&house, ACCOUNT, &day, &[]);
    assert_eq!(code, 1, "{report}");
    assert_eq!(case(&report, "not_credited")["payment"], failed["id"], "{report}");
    let id = text(&failed, "id");
    house.wait_until("it is given back", SOON, |h| net(h, &h.payment(&id)) == 0);
    reconcile(&house, ACCOUNT, &day, &[]);
    let after = house.payment(&id);
    let charges = ledger::charges(&house.ledger(), &after.json);
    assert_eq!((&after["status"], charges, net(&house, &after)), (&json!("failed"), 1, 0));
}

/// The words of a case's timeline.
fn said(case: &Value) -> Vec<String> {
    let timeline = case["timeline"].as_array().expect("a timeline");
    timeline.iter().filter_map(|entry| Some(entry["what"].as_str()?.to_owned())).collect()
}
