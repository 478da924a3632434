//! The sandbox's control: faults, shoppers, the ledger and the log of requests.

use serde_json::{Value, json};

use super::{Answer, House};

impl House {
    /// Turns the fault dial; the fault lasts until it is lifted.
    pub fn fault(&self, account: &str, operation: &str, fault: &str) -> Value {
        self.fault_with(json!({
            "account": account, "operation": operation, "fault": fault, "for_ms": 600_000,
        }))
    }

    /// Turns the fault dial with every member given.
    pub fn fault_with(&self, fault: Value) -> Value {
        let answer = self.control("POST", "/faults", Some(&fault));
        assert!(answer.status < 300, "fault is taken: {answer:?}");
        answer.json["id"].clone()
    }

    /// Lifts every fault.
    pub fn lift_faults(&self) {
        let answer = self.control("DELETE", "/faults", None);
        assert!(answer.status < 300, "faults are lifted: {answer:?}");
    }

    /// The shopper acts: `pay`, `abandon` or `fail`, at the account and op_id of an attempt.
    pub fn shopper(&self, account: &str, op_id: &str, act: &str) -> Answer {
        let body = json!({ "account": account, "op_id": op_id, "act": act });
        self.control("POST", "/customers/act", Some(&body))
    }

    /// The shopper scans a code and pays.
    pub fn scan(&self, account: &str, qr_code: &str, act: &str) -> Answer {
        let body = json!({ "account": account, "qr_code": qr_code, "act": act });
        self.control("POST", "/customers/act", Some(&body))
    }

    /// Every movement of money, in order.
    pub fn ledger(&self) -> Vec<Value> {
        self.control("GET", "/ledger", None).json.as_array().cloned().unwrap_or_default()
    }

    /// Every request that an account received, in order.
    pub fn requests(&self, account: &str) -> Vec<Value> {
        let path = format!("/requests?account={account}");
        self.control("GET", &path, None).json.as_array().cloned().unwrap_or_default()
    }

    /// A request to the sandbox's control.
    pub fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        let url = format!("{}{path}", self.control);
        self.send(method, &url, &[], body.as_deref().map(str::as_bytes))
    }

    /// How many requests all providers received.
    pub fn sent(&self) -> usize {
        self.control("GET", "/requests", None).json.as_array().map_or(0, Vec::len)
    }

    /// How many requests that make a payment the providers received. Payments in progress may be
    /// asked about at any time, so a test that has some counts these.
    pub fn payments_sent(&self) -> usize {
        let all = self.control("GET", "/requests", None).json;
        let makes = |r: &&Value| r["operation"] == "authorize";
        all.as_array().map_or(0, |list| list.iter().filter(makes).count())
    }
}
