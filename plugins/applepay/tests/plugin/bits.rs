//! No bit of a token can be changed unnoticed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wallet_tokens::apple::ProcessingKey;

use crate::{keys, made, open, refusal};

/// Flips every bit of a field, one after another, and opens the token each time.
fn every_bit(key: &ProcessingKey, pointer: &str, read: Reads) {
    let good = made(key, None).token;
    let bytes = (read.decode)(good.pointer(pointer).unwrap().as_str().unwrap());
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut token = good.clone();
        *token.pointer_mut(pointer).unwrap() = Value::String((read.encode)(&bytes));
        let done = open(token);
        assert!(done.opened.is_none(), "{pointer}: bit {bit}");
        refusal(&done);
    }
}

#[derive(Clone, Copy)]
struct Reads {
    decode: fn(&str) -> Vec<u8>,
    encode: fn(&[u8]) -> String,
}

const BASE64: Reads =
    Reads { decode: |text| STANDARD.decode(text).unwrap(), encode: |bytes| STANDARD.encode(bytes) };
const HEX: Reads =
    Reads { decode: |text| hex::decode(text).unwrap(), encode: |bytes| hex::encode(bytes) };

#[test]
fn no_bit_of_the_data_can_flip() {
    every_bit(&keys().ec, "/data", BASE64);
    every_bit(&keys().rsa, "/data", BASE64);
}

#[test]
fn no_bit_of_the_key_can_flip() {
    every_bit(&keys().ec, "/header/ephemeralPublicKey", BASE64);
    every_bit(&keys().rsa, "/header/wrappedKey", BASE64);
    every_bit(&keys().ec, "/header/publicKeyHash", BASE64);
}

#[test]
fn no_bit_of_the_transactions_number_can_flip() {
    every_bit(&keys().ec, "/header/transactionId", HEX);
    every_bit(&keys().rsa, "/header/transactionId", HEX);
}

#[test]
fn no_bit_of_the_signature_can_flip() {
    every_bit(&keys().ec, "/signature", BASE64);
}
