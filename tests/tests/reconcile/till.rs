//! The same story at each wallet with a statement: what nobody told is booked once, and what can't
//! be booked is a case until somebody closes it.

use interlock_tests::house::{Answer, House};
use serde_json::{Value, json};

use crate::{CONFIG, case, lift, net, number, portal, reconcile, refund, text, today};

/// A wallet whose codes are shown on a screen or read at a till.
pub struct Till {
    /// The account.
    pub account: &'static str,
    /// The API's method.
    pub method: &'static str,
    /// What the shopper shows at the till.
    pub auth_code: &'static str,
}

/// Hours east of Greenwich where the days of both begin.
const EAST: i8 = 8;

impl Till {
    /// The day, if one can be sure of it.
    pub fn today() -> Option<String> {
        today(EAST)
    }

    /// The exit code and the report.
    pub fn reconcile(&self, house: &House, day: &str, more: &[&str]) -> (i32, Value) {
        reconcile(house, self.account, day, more)
    }

    /// Somebody has paid.
    pub fn paid(&self, house: &House, amount: i64) -> Answer {
        let method = json!({ "type": self.method, "flow": "barcode", "auth_code": self.auth_code });
        let paid = house.pay(&json!({ "amount": amount, "currency": "CNY", "method": method }));
        assert_eq!(paid["status"], "succeeded", "{paid:?}");
        paid
    }

    /// Something is done in the portal.
    pub fn act(&self, house: &House, act: &str, number: &str, amount: i64) {
        let body =
            json!({ "account": self.account, "act": act, "op_id": number, "amount": amount });
        portal(house, &body);
    }

    /// What nobody told is booked once and the rest is a case.
    pub fn what_nobody_told(&self) {
        let Some(day) = Self::today() else { return };
        let house = House::start();
        let known = self.paid(&house, 1_250);
        refund(&house, &known, 100);
        // From now on nobody tells, and nobody answers.
        house.fault(self.account, "notify", "notify_lose");
        let silence = house.fault(self.account, "inquire", "hang");
        let shown = house.pay(&json!({
            "amount": 1_900, "currency": "CNY", "method": { "type": self.method, "flow": "qr" },
        }));
        house.shopper(self.account, &number(&shown), "pay");
        self.act(&house, "charge", "elsewhere1", 500);
        self.act(&house, "refund", &number(&known), 250);
        let id = text(&shown, "id");
        assert_eq!(house.payment(&id)["status"], "requires_action", "paid and not credited");
        let sent = house.payments_sent();
        // A bill is asked for like a payment.
        lift(&house, &silence);

        let (code, report) = self.reconcile(&house, &day, &[]);
        let run = &report["reconciliation"];
        assert_eq!((code, &run["status"]), (1, &json!("done")), "{report}");
        let differences = json!({ "not_credited": 1, "only_theirs": 1, "refund_not_ours": 1 });
        assert_eq!((&run["differences"], &run["booked"]), (&differences, &json!(2)), "{report}");
        assert_eq!(run["agrees"], 2, "the payment and its refund: {report}");
        assert_eq!(house.payment(&id)["status"], "succeeded");
        let known = house.payment(&text(&known, "id"));
        assert_eq!(known["amount_refunded"], 350);
        assert_eq!((net(&house, &known), net(&house, &house.payment(&id))), (900, 1_900));
        assert_eq!(house.payments_sent(), sent, "nothing was sent for it");

        let (code, report) = self.reconcile(&house, &day, &[]);
        let run = &report["reconciliation"];
        assert_eq!((code, &run["differences"]), (1, &json!({ "only_theirs": 1 })), "{report}");
        assert_eq!((&run["agrees"], &run["booked"]), (&json!(4), &json!(0)), "{report}");
        for booked in ["not_credited", "refund_not_ours"] {
            assert_eq!(case(&report, booked)["open"], false, "{report}");
        }
        let open = case(&report, "only_theirs");
        let theirs = (&open["theirs"]["number"], &open["payment"], &open["open"]);
        assert_eq!(theirs, (&json!("elsewhere1"), &Value::Null, &json!(true)));
        let id = open["id"].as_str().expect("an id");
        let close = ["case", "close", id, "--reason", "the old till", "--operator", "night"];
        let (closed, out) = house.cli_code(&[close.as_slice(), &["--config", CONFIG]].concat());
        assert_eq!(closed, Some(0), "{out}");
        for what in ["found", "found again", "closed: the old till"] {
            assert!(out.contains(what), "{what}: {out}");
        }
        let (code, report) = self.reconcile(&house, &day, &[]);
        assert_eq!((code, &report["reconciliation"]["settled"]), (0, &json!(1)), "{report}");
    }
}
