//! The v1 gateway's way of speaking: merged parameters, RSA2 over them, and the signed envelope.
//!
//! A request is signed over all its parameters, `sign_type` included; an answer is signed over
//! the exact text of its node, in which every `/` is written `\/`. Clients verify that text and
//! not its meaning, so the node is built as text once and never serialized again.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::keys::{Signer, Verifier};
use crate::moment;

/// The methods that the fake knows.
pub const METHODS: [&str; 11] = [
    "alipay.trade.precreate",
    "alipay.trade.pay",
    "alipay.trade.page.pay",
    "alipay.trade.wap.pay",
    "alipay.trade.app.pay",
    "alipay.trade.query",
    "alipay.trade.close",
    "alipay.trade.cancel",
    "alipay.trade.refund",
    "alipay.trade.fastpay.refund.query",
    "alipay.data.dataservice.bill.downloadurl.query",
];

/// The parameters of one request, from the query string and the form body.
#[derive(Debug, Default)]
pub struct Params {
    map: BTreeMap<String, String>,
    repeated: bool,
}

impl Params {
    /// Merges query and body; both are form-urlencoded.
    pub fn merge(query: &str, body: &[u8]) -> Self {
        let mut params = Self::default();
        let body = form_urlencoded::parse(body);
        for (name, value) in form_urlencoded::parse(query.as_bytes()).chain(body) {
            let value = value.into_owned();
            match params.map.get(&*name) {
                Some(held) => params.repeated |= *held != value,
                None => {
                    params.map.insert(name.into_owned(), value);
                }
            }
        }
        params
    }

    /// The value of `name`; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.map.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What the `sign` of this request must cover.
    pub fn signed_content(&self) -> String {
        let covered = self.map.iter().filter(|(name, value)| *name != "sign" && !value.is_empty());
        let pairs: Vec<String> = covered.map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// What the gateway checks before any business is done.
pub struct Gate<'a> {
    /// The only application that may ask.
    pub app_id: &'a str,
    /// Its public key.
    pub app_key: &'a Verifier,
    /// How far the timestamp may be off, in milliseconds; 0 means any distance.
    pub tolerance_ms: u64,
}

impl Gate<'_> {
    /// The business content of an honest request.
    ///
    /// # Errors
    /// The code and sub code to answer.
    pub fn admit(&self, params: &Params, now_ms: i64) -> Result<Value, Turned> {
        let missing = [
            ("method", "isv.missing-method"),
            ("app_id", "isv.missing-app-id"),
            ("sign", "isv.missing-signature"),
            ("sign_type", "isv.missing-signature-type"),
            ("timestamp", "isv.missing-timestamp"),
            ("version", "isv.missing-version"),
        ];
        for (name, sub_code) in missing {
            if params.get(name).is_none() {
                return Err(Turned { code: "40001", sub_code });
            }
        }
        let is = |name: &str, value: &str| params.get(name) == Some(value);
        let is_or_absent = |name: &str, value: &str| {
            params.get(name).is_none_or(|given| given.eq_ignore_ascii_case(value))
        };
        let content = params.signed_content();
        let signature = params.get("sign").unwrap_or_default();
        let checks = [
            (!params.repeated, "isv.invalid-parameter"),
            (is("app_id", self.app_id), "isv.invalid-app-id"),
            (METHODS.iter().any(|method| is("method", method)), "isv.invalid-method"),
            (is_or_absent("format", "JSON"), "isv.invalid-format"),
            (is_or_absent("charset", "utf-8"), "isv.invalid-charset"),
            (is("sign_type", "RSA2"), "isv.invalid-signature-type"),
            (is("version", "1.0"), "isv.invalid-parameter"),
            (self.is_timely(params, now_ms), "isv.invalid-timestamp"),
            (params.get("encrypt_type").is_none(), "isv.invalid-encrypt-type"),
        ];
        if let Some((_, sub_code)) = checks.iter().find(|(good, _)| !good) {
            return Err(Turned { code: "40002", sub_code });
        }
        if !self.app_key.verifies(content.as_bytes(), signature) {
            return Err(Turned { code: "40002", sub_code: "isv.invalid-signature" });
        }
        match serde_json::from_str::<Value>(params.get("biz_content").unwrap_or("{}")) {
            Ok(content) if content.is_object() => Ok(content),
            _ => Err(Turned { code: "40002", sub_code: "isv.invalid-parameter" }),
        }
    }

    fn is_timely(&self, params: &Params, now_ms: i64) -> bool {
        match params.get("timestamp").and_then(moment::parse_beijing) {
            None => false,
            Some(_) if self.tolerance_ms == 0 => true,
            Some(at) => at.abs_diff(now_ms) <= self.tolerance_ms,
        }
    }
}

/// A request that the gateway turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// The envelope's code.
    pub code: &'static str,
    /// The reason.
    pub sub_code: &'static str,
}

/// The node of an answer, member by member in the order that they are put.
#[derive(Debug, Default)]
pub struct Node {
    text: String,
}

impl Node {
    /// A node with the envelope's `code` and its `msg`.
    pub fn coded(code: &str) -> Self {
        let msg = match code {
            "10000" => "Success",
            "10003" => " order success pay inprocess",
            "20000" => "Service Currently Unavailable",
            "40001" => "Missing Required Arguments",
            "40002" => "Invalid Arguments",
            "40004" => "Business Failed",
            "40005" => "Call Limited",
            _ => "Insufficient Permissions",
        };
        Self::default().put("code", code).put("msg", msg)
    }

    /// A refusal with its reason.
    pub fn refused(code: &str, sub_code: &str) -> Self {
        Self::coded(code).put("sub_code", sub_code).put("sub_msg", explain(sub_code))
    }

    /// It was done.
    pub fn is_good(&self) -> bool {
        self.text.starts_with("{\"code\":\"10000\"")
    }

    /// Adds a member; every value of this API is a string.
    pub fn put(mut self, name: &str, value: &str) -> Self {
        let quoted = Value::from(value).to_string().replace('/', "\\/");
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        self.text.push_str(&format!("\"{name}\":{quoted}"));
        self
    }

    /// The whole answer to `method`, signed.
    pub fn seal(mut self, method: &str, key: &Signer, wrong: bool) -> String {
        self.text.push('}');
        let name = method.replace('.', "_") + "_response";
        let signature = if wrong {
            key.sign(format!("{} ", self.text).as_bytes())
        } else {
            key.sign(self.text.as_bytes())
        };
        format!("{{\"{name}\":{},\"sign\":\"{signature}\"}}", self.text)
    }

    /// The whole answer to a request that the gateway cannot even attribute: not signed.
    pub fn into_error(mut self) -> String {
        self.text.push('}');
        format!("{{\"error_response\":{}}}", self.text)
    }
}

/// Minor units from a decimal string or number of yuan, within Alipay's bounds.
pub fn fen(value: Option<&Value>) -> Option<i64> {
    let text = match value? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let cents: i64 = format!("{part:0<2}").parse().ok()?;
    let amount = whole.parse::<i64>().ok()? * 100 + cents;
    (1..=10_000_000_000).contains(&amount).then_some(amount)
}

/// Yuan with two decimals, from minor units.
pub fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

fn explain(sub_code: &str) -> &'static str {
    match sub_code {
        "ACQ.TRADE_NOT_EXIST" => "交易不存在",
        "ACQ.TRADE_HAS_CLOSE" => "交易已经关闭",
        "ACQ.TRADE_HAS_SUCCESS" => "交易已被支付",
        "ACQ.TRADE_STATUS_ERROR" => "交易状态不合法",
        "ACQ.CONTEXT_INCONSISTENT" => "交易信息被篡改",
        "ACQ.BUYER_BALANCE_NOT_ENOUGH" => "买家余额不足",
        "ACQ.PAYMENT_AUTH_CODE_INVALID" => "支付授权码无效",
        "isp.bill_not_exist" => "账单不存在",
        "isv.invalid-signature" => "验签出错，请检查签名/参数",
        _ => "处理失败",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fresh_pair;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        let read = |text: &str| fen(Some(&Value::from(text)));
        assert_eq!(read("12.34"), Some(1234));
        assert_eq!(read("0.1"), Some(10));
        assert_eq!(read("100000000"), Some(10_000_000_000));
        for bad in ["", "0", "0.00", "1.234", "-1", "1e3", "100000000.01", " 1", ".5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(fen(Some(&serde_json::json!(1.5))), Some(150));
        assert_eq!(yuan(1205), "12.05");
    }

    #[test]
    fn the_signature_of_an_answer_covers_the_exact_text_of_its_node() {
        let pair = fresh_pair().unwrap();
        let key = Signer::read(&pair.private_pem).unwrap();
        let verifier = Verifier::read(&pair.public_pem).unwrap();
        let node = || Node::coded("10000").put("qr_code", "https://qr.alipay.com/x").put("n", "好");
        let text = node().seal("alipay.trade.precreate", &key, false);
        let start = "{\"alipay_trade_precreate_response\":".len();
        let end = text.find(",\"sign\":").unwrap();
        let raw = &text[start..end];
        assert!(raw.contains("https:\\/\\/qr.alipay.com\\/x") && raw.contains("好"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(verifier.verifies(raw.as_bytes(), value["sign"].as_str().unwrap()));
        let wrong = node().seal("alipay.trade.precreate", &key, true);
        let value: Value = serde_json::from_str(&wrong).unwrap();
        assert!(!verifier.verifies(raw.as_bytes(), value["sign"].as_str().unwrap()));
    }

    #[test]
    fn the_gate_turns_away_what_is_missing_late_or_altered() {
        let pair = fresh_pair().unwrap();
        let app_key = Verifier::read(&pair.public_pem).unwrap();
        let signer = Signer::read(&pair.private_pem).unwrap();
        let gate = Gate { app_id: "2021", app_key: &app_key, tolerance_ms: 60_000 };
        let admit = |change: &dyn Fn(&mut Params)| {
            let query = "app_id=2021&method=alipay.trade.query&sign_type=RSA2&version=1.0\
                         &timestamp=1970-01-01%2008:00:00&charset=utf-8&empty=";
            let mut params =
                Params::merge(query, b"biz_content=%7B%22out_trade_no%22%3A%22a%22%7D");
            let signature = signer.sign(params.signed_content().as_bytes());
            params.map.insert("sign".into(), signature);
            change(&mut params);
            gate.admit(&params, 30_000).map_err(|turned| turned.sub_code)
        };
        let set = |name: &'static str, value: &'static str| {
            move |params: &mut Params| {
                params.map.insert(name.into(), value.into());
            }
        };
        assert_eq!(admit(&|_| {}).unwrap()["out_trade_no"], "a");
        assert_eq!(admit(&set("sign", "")), Err("isv.missing-signature"));
        assert_eq!(admit(&set("biz_content", "{}")), Err("isv.invalid-signature"));
        assert_eq!(admit(&set("sign_type", "RSA")), Err("isv.invalid-signature-type"));
        assert_eq!(admit(&set("app_id", "2022")), Err("isv.invalid-app-id"));
        let utc = "1970-01-01 00:00:00";
        assert_eq!(admit(&set("timestamp", utc)), Err("isv.invalid-timestamp"));
        assert_eq!(admit(&set("method", "alipay.trade.x")), Err("isv.invalid-method"));
    }

    #[test]
    fn a_parameter_that_says_two_things_is_refused() {
        assert!(Params::merge("a=1", b"a=2").repeated);
        assert!(!Params::merge("a=1", b"a=1").repeated);
    }
}
