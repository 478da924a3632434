//! The judgement: what the ledgers hold against what the merchant was told.
//!
//! A pure function of the two, so that its tests can show it every crime. It knows nothing of
//! the proxy beyond the answers in the [`Book`].

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::book::{Book, Status, Told};
use super::hook::Heard;

/// Net money by account, order number and currency, from the sandbox's ledgers.
#[derive(Debug, Default)]
pub struct Ledgers {
    net: HashMap<(String, String, String), Sum>,
    last_seq: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    net: i64,
    taken: i64,
}

impl Ledgers {
    /// Adds what `GET /ledger?since=` answered.
    ///
    /// # Errors
    /// When a movement cannot be read: an oracle that is half understood is none.
    pub fn add(&mut self, movements: &Value) -> Result<(), String> {
        let movements = movements.as_array().ok_or("the ledger is not a list")?;
        for movement in movements {
            let word = |name: &str| movement[name].as_str().map(str::to_owned);
            let read = || {
                let key = (word("account")?, word("reference")?, word("currency")?);
                Some((movement["seq"].as_u64()?, key, movement["amount"].as_i64()?))
            };
            let unread = || format!("a movement of the ledger cannot be read: {movement}");
            let (seq, key, amount) = read().ok_or_else(unread)?;
            if seq <= self.last_seq {
                continue;
            }
            self.last_seq = seq;
            let sum = self.net.entry(key).or_default();
            match movement["kind"].as_str() {
                Some("charge" | "authorize") => {
                    sum.net += amount;
                    sum.taken += amount;
                }
                // Its hold was counted.
                Some("capture") => {}
                Some("refund" | "void" | "reverse") => sum.net -= amount,
                _ => return Err(unread()),
            }
        }
        Ok(())
    }

    /// The last movement that was added.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    fn of(&self, told: &Told) -> i64 {
        self.keys(told).filter_map(|key| self.net.get(&key)).map(|sum| sum.net).sum()
    }

    fn keys(&self, told: &Told) -> impl Iterator<Item = (String, String, String)> {
        let currency = told.currency.clone();
        told.attempts
            .iter()
            .map(move |(account, op)| (account.clone(), op.clone(), currency.clone()))
    }

    /// Charges and holds that stand, for each payment that has one: 1.00 is the promise. `None`
    /// before the first.
    pub fn charges_per_payment(&self, book: &Book) -> Option<f64> {
        let standing = |told: &Told| -> i64 {
            let sums = self.keys(told).filter_map(|key| self.net.get(&key));
            let times = |net: i64| (net + told.amount - 1).div_euclid(told.amount);
            sums.map(|sum| times(sum.net)).filter(|times| *times > 0).sum()
        };
        let charged: Vec<i64> =
            book.payments().iter().map(standing).filter(|times| *times > 0).collect();
        let sum: i64 = charged.iter().sum();
        (!charged.is_empty()).then(|| sum as f64 / charged.len() as f64)
    }
}

/// The fields of the verdict, and some that explain it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Verdict {
    /// Accepted: an answer named an id.
    pub payments: u64,
    /// First final answer `succeeded`.
    pub succeeded: u64,
    /// First final answer `failed`.
    pub failed: u64,
    /// First final answer `canceled`.
    pub canceled: u64,
    /// Waiting for the shopper.
    pub requires_action: u64,
    /// Held for a capture that nobody asked for.
    pub requires_capture: u64,
    /// Neither paid nor failed, at the end: payments and refunds that got no true answer.
    pub in_doubt: u64,
    /// Attempts at another account.
    pub failovers: u64,
    /// The ledgers hold more than once the amount.
    pub charged_twice: u64,
    /// Money that is not where the merchant was told.
    pub lost: u64,
    /// Of `lost`: charges that belong to no payment that the merchant knows.
    pub unclaimed: u64,
    /// Refused with an HTTP error: nothing journalled, nothing sent.
    pub refused: u64,
    /// Refunds told `succeeded`.
    pub refunds: u64,
    /// Refunds told `failed` or refused.
    pub refunds_failed: u64,
    /// Signed messages that the merchant's webhook heard.
    pub webhooks: u64,
    /// Messages whose signature does not fit.
    pub unsigned: u64,
    /// Payments with an end that no message told.
    pub untold: u64,
    /// Half of the creating requests were answered within.
    pub p50_ms: u64,
    /// 99 of 100 were answered within.
    pub p99_ms: u64,
}

impl Verdict {
    /// Judges.
    pub fn of(book: &Book, ledgers: &Ledgers) -> Self {
        let mut verdict = Self::default();
        let mut known: HashMap<(String, String, String), ()> = HashMap::new();
        let mut latencies: Vec<u64> = Vec::new();
        for told in book.payments() {
            known.extend(ledgers.keys(told).map(|key| (key, ())));
            verdict.count(told, ledgers.of(told));
            latencies.extend(told.latency_ms);
        }
        let stray = |(key, sum): &(&(String, String, String), &Sum)| {
            sum.taken > 0 && !known.contains_key(*key)
        };
        verdict.unclaimed = ledgers.net.iter().filter(stray).count() as u64;
        verdict.lost += verdict.unclaimed;
        latencies.sort_unstable();
        verdict.p50_ms = percentile(&latencies, 50);
        verdict.p99_ms = percentile(&latencies, 99);
        verdict
    }

    /// With what the merchant's webhook heard.
    pub fn heard(mut self, heard: &Heard, book: &Book) -> Self {
        self.webhooks = heard.messages();
        self.unsigned = heard.unsigned();
        self.untold = heard.untold(book);
        self
    }

    fn count(&mut self, told: &Told, net: i64) {
        if told.refused.is_some() && told.id.is_none() {
            self.refused += 1;
            return;
        }
        if told.id.is_none() {
            // It was sent and never answered: nobody knows whether it was accepted.
            self.in_doubt += 1;
            return;
        }
        self.payments += 1;
        self.failovers += told.failovers();
        let by_status = |wanted: &str| {
            let of = told.refunds.iter().filter(|refund| refund.status == wanted);
            (of.clone().count() as u64, of.map(|refund| refund.amount).sum::<i64>())
        };
        let (refunds, given_back) = by_status("succeeded");
        self.refunds += refunds;
        self.refunds_failed += by_status("failed").0;
        self.in_doubt += by_status("processing").0;
        self.charged_twice += u64::from(net > told.amount);
        let owed = match told.status {
            Status::Succeeded => told.amount - given_back,
            Status::RequiresCapture => told.amount,
            Status::Failed | Status::Canceled | Status::RequiresAction => 0,
            // Undecided is counted below, and no amount is wrong.
            Status::Processing => net,
        };
        // A refund under way may have moved or not.
        let pending = by_status("processing").1;
        let is_right = net == owed || net == owed - pending;
        self.lost += u64::from(told.forgotten || !is_right);
        match told.status {
            Status::Succeeded => self.succeeded += 1,
            Status::Failed => self.failed += 1,
            Status::Canceled => self.canceled += 1,
            Status::RequiresAction => self.requires_action += 1,
            Status::RequiresCapture => self.requires_capture += 1,
            Status::Processing => self.in_doubt += 1,
        }
    }

    /// The promise held, and was put to the test.
    pub fn ok(&self) -> bool {
        let money = self.charged_twice == 0 && self.lost == 0 && self.in_doubt == 0;
        money && self.unsigned == 0 && self.untold == 0 && self.failovers > 0
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        json!({
            "payments": self.payments, "succeeded": self.succeeded, "failed": self.failed,
            "canceled": self.canceled, "requires_action": self.requires_action,
            "requires_capture": self.requires_capture, "in_doubt": self.in_doubt,
            "failovers": self.failovers, "charged_twice": self.charged_twice,
            "lost": self.lost, "unclaimed": self.unclaimed, "refused": self.refused,
            "refunds": self.refunds, "refunds_failed": self.refunds_failed,
            "webhooks": self.webhooks, "unsigned": self.unsigned, "untold": self.untold,
            "p50_ms": self.p50_ms, "p99_ms": self.p99_ms,
            "ok": self.ok(),
        })
        .to_string()
    }

    /// For people.
    pub fn text(&self, complaints: &BTreeMap<String, u64>) -> String {
        let v = self;
        let mut text = format!(
            "\nVerdict, from the sandbox's ledgers against what the merchant was told\n\
             \x20 payments       {:>6}   succeeded {}, failed {}, canceled {}, held {}, \
             waiting for the shopper {}\n\
             \x20 refunds        {:>6}   and {} that failed\n\
             \x20 refused        {:>6}   nothing journalled, nothing sent\n\
             \x20 failovers      {:>6}\n\
             \x20 webhooks       {:>6}   signatures that do not fit: {}, ends not told: {}\n\
             \x20 answered in    {:>6}   ms by half, {} ms by 99 of 100\n\
             \x20 in doubt       {:>6}\n\
             \x20 charged twice  {:>6}\n\
             \x20 lost           {:>6}   of these, charges that no payment knows: {}\n",
            v.payments,
            v.succeeded,
            v.failed,
            v.canceled,
            v.requires_capture,
            v.requires_action,
            v.refunds,
            v.refunds_failed,
            v.refused,
            v.failovers,
            v.webhooks,
            v.unsigned,
            v.untold,
            v.p50_ms,
            v.p99_ms,
            v.in_doubt,
            v.charged_twice,
            v.lost,
            v.unclaimed,
        );
        for (complaint, times) in complaints {
            text += &format!("  unexpected     {times:>6}   {complaint}\n");
        }
        text += match (v.ok(), v.failovers) {
            (true, _) => "OK: every payment was charged once or not at all, as was told.",
            (false, 0) => "NOT OK: nothing failed over, so nothing was shown.",
            (false, _) => "NOT OK: see the lines that are not 0.",
        };
        text
    }
}

/// The smallest value that `percent` of `sorted` do not exceed; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_demo_is_ok() {
        let mut case = Case::new("succeeded");
        case.moves(&[("a", "op2", "charge", 100)]);
        let verdict = case.judge();
        assert_eq!((verdict.payments, verdict.succeeded, verdict.failovers), (1, 1, 1));
        assert!(verdict.ok(), "{verdict:?}");
    }

    #[test]
    fn nothing_shown_is_not_ok() {
        assert!(!Verdict::of(&Book::default(), &Ledgers::default()).ok());
    }

    #[test]
    fn two_charges_of_one_payment_at_two_accounts_are_twice() {
        let mut case = Case::new("succeeded");
        case.moves(&[("a", "op1", "charge", 100), ("a", "op2", "authorize", 100)]);
        let verdict = case.judge();
        assert_eq!((verdict.charged_twice, verdict.lost), (1, 1));
        assert!(!verdict.ok());
    }

    #[test]
    fn a_second_charge_that_was_given_back_is_not_twice() {
        for back in ["refund", "void", "reverse"] {
            let mut case = Case::new("succeeded");
            let moves = [("op1", "charge"), ("op2", "authorize"), ("op1", back)];
            case.moves(&moves.map(|(op, kind)| ("a", op, kind, 100)));
            assert!(case.judge().ok(), "{back}");
        }
    }

    #[test]
    fn money_after_a_failure_is_lost_and_so_is_none_after_a_success() {
        for status in ["failed", "canceled", "requires_action"] {
            let mut case = Case::new(status);
            case.moves(&[("a", "op1", "charge", 100)]);
            assert_eq!(case.judge().lost, 1, "{status}");
        }
        for status in ["succeeded", "requires_capture"] {
            assert_eq!(Case::new(status).judge().lost, 1, "{status}");
        }
    }

    #[test]
    fn a_hold_that_was_captured_counts_once() {
        let mut case = Case::new("succeeded");
        case.moves(&[("a", "op1", "authorize", 100), ("a", "op1", "capture", 100)]);
        assert!(case.judge().ok());
    }

    #[test]
    fn only_refunds_told_succeeded_may_be_missing() {
        for (status, right) in [("succeeded", true), ("failed", false)] {
            let mut case = Case::new("succeeded");
            case.moves(&[("a", "op1", "charge", 100), ("a", "op1", "refund", 30)]);
            let which = case.book.refund(0, 30);
            case.book.refund_told(0, which, &json!({ "id": "ref", "status": status }));
            assert_eq!(case.judge().ok(), right, "{status}");
        }
        let mut case = Case::new("succeeded");
        case.moves(&[("a", "op1", "charge", 100)]);
        let which = case.book.refund(0, 30);
        case.book.refund_told(0, which, &json!({ "id": "ref", "status": "succeeded" }));
        assert_eq!(case.judge().lost, 1, "told to be given back, and kept");
        case.book.refund_told(0, which, &json!({ "status": "processing" }));
        let verdict = case.judge();
        assert_eq!((verdict.lost, verdict.in_doubt), (0, 1));
    }

    #[test]
    fn what_is_undecided_unanswered_or_forgotten_is_told() {
        assert_eq!(Case::new("processing").judge().in_doubt, 1);
        let mut book = Book::default();
        book.open(100, "EUR");
        assert_eq!(Verdict::of(&book, &Ledgers::default()).in_doubt, 1);
        let mut case = Case::new("failed");
        case.book.change(0, |told| told.forgotten = true);
        assert_eq!(case.judge().lost, 1);
    }

    #[test]
    fn a_charge_that_no_payment_knows_is_lost_money() {
        let mut case = Case::new("failed");
        case.moves(&[("a", "stranger", "charge", 5), ("b", "op1", "charge", 5)]);
        let verdict = case.judge();
        assert_eq!((verdict.lost, verdict.unclaimed), (2, 2));
    }

    #[test]
    fn a_charge_in_another_currency_is_not_the_payment() {
        let mut case = Case::new("succeeded");
        case.currency = "USD";
        case.moves(&[("a", "op1", "charge", 100)]);
        assert_eq!(case.judge().lost, 2);
    }

    #[test]
    fn a_movement_is_added_once_and_an_unknown_one_is_an_error() {
        let mut ledgers = Ledgers::default();
        let movement = |kind: &str| {
            json!([{ "seq": 1, "account": "a", "reference": "x", "currency": "EUR",
                     "amount": 5, "kind": kind }])
        };
        ledgers.add(&movement("charge")).unwrap();
        ledgers.add(&movement("charge")).unwrap();
        assert_eq!(ledgers.net.values().next().unwrap().net, 5);
        assert!(Ledgers::default().add(&movement("gift")).is_err());
        assert!(Ledgers::default().add(&json!({})).is_err());
    }

    #[test]
    fn charges_that_stand_are_counted_once_or_more_for_each_payment() {
        let standing = |moves: &[(&str, &str, &str, i64)]| {
            let mut case = Case::new("succeeded");
            case.moves(moves);
            case.ledgers.charges_per_payment(&case.book)
        };
        let charge = ("a", "op1", "charge", 100);
        assert_eq!(standing(&[]), None);
        assert_eq!(standing(&[charge, ("a", "op1", "refund", 30)]), Some(1.0));
        assert_eq!(standing(&[charge, ("a", "op1", "refund", 100)]), None);
        assert_eq!(standing(&[charge, ("a", "op2", "authorize", 100)]), Some(2.0));
        assert_eq!(standing(&[charge, charge]), Some(2.0), "one key, charged twice");
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 99), percentile(&[], 50)), (7, 0));
    }

    /// One payment of 100 EUR with two attempts, `op1` and `op2`, at account `a`.
    struct Case {
        book: Book,
        ledgers: Ledgers,
        currency: &'static str,
    }

    impl Case {
        fn new(status: &str) -> Self {
            let mut book = Book::default();
            let n = book.open(100, "EUR");
            let attempts = json!([
                { "account": "a", "op_id": "op1" }, { "account": "a", "op_id": "op2" },
            ]);
            book.told(n, &json!({ "id": "pay_1", "status": status, "attempts": attempts }));
            Self { book, ledgers: Ledgers::default(), currency: "EUR" }
        }

        fn moves(&mut self, moves: &[(&str, &str, &str, i64)]) {
            let rows: Vec<Value> = moves
                .iter()
                .zip(self.ledgers.last_seq + 1..)
                .map(|((account, op, kind, amount), seq)| {
                    json!({ "seq": seq, "account": account, "reference": op, "kind": kind,
                            "amount": amount, "currency": self.currency })
                })
                .collect();
            self.ledgers.add(&Value::from(rows)).unwrap();
        }

        fn judge(&self) -> Verdict {
            Verdict::of(&self.book, &self.ledgers)
        }
    }
}
