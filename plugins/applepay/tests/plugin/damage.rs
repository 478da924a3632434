//! Damaged tokens and signatures: they are opened as what they were, or refused, and never slow.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::{keys, made, mutator, open, refusal};

const CORPUS: &str = "tests/corpora/tokens-applepay";

#[test]
fn damaged_tokens_are_opened_or_refused() {
    mutator::each(&[CORPUS], 400, |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let done = open(Value::String(text));
        // The corpus was signed long ago, by another authority.
        refusal(&done);
    });
}

#[test]
fn damaged_signatures_are_refused() {
    let good = made(&keys().ec, None).token;
    mutator::each(&["tests/corpora/signatures-applepay"], 1_500, |bytes| {
        let mut token = good.clone();
        token["signature"] = STANDARD.encode(bytes).into();
        refusal(&open(token));
    });
}
