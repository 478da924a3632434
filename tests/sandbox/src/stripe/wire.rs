//! The provider's forms on the wire: bodies of pairs in, JSON and errors out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::desk::Answer;

/// The pairs of a body or a query.
#[derive(Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads pairs; what is no pair is none.
    pub fn read(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the charge is to be told in full.
    pub fn expands(&self) -> bool {
        self.0.iter().any(|(n, value)| n.starts_with("expand[") && value == "latest_charge")
    }

    /// A whole number of this name.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }

    /// The pairs of `metadata[...]`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let pair = |(name, value): &(String, String)| {
            let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((name.to_owned(), value.clone()))
        };
        self.0.iter().filter_map(pair).collect()
    }
}

/// The provider's error.
pub fn error(status: u16, kind: &str, code: Option<&str>, intent: Option<Value>) -> Answer {
    let mut error = json!({ "type": kind, "message": "The request was refused." });
    if let Some(code) = code {
        error["code"] = code.into();
    }
    if let Some(intent) = intent {
        error["payment_intent"] = intent;
    }
    Answer::json(status, json!({ "error": error }).to_string())
}

/// A parameter that can't be used: nothing was begun.
pub fn invalid(status: u16, code: &str) -> Answer {
    error(status, "invalid_request_error", Some(code), None)
}

/// `prefix` and 24 random letters and digits, as the provider's numbers look.
pub fn fresh(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyzABCDEF23";
    let mut bits: u128 = rand::random();
    let mut id = String::from(prefix);
    for _ in 0..24 {
        id.push(char::from(ALPHABET[(bits % 32) as usize]));
        bits /= 32;
    }
    id
}
