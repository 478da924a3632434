//! A token in which any one bit is another one is refused.

use super::*;

fn every_bit(protocol: Protocol) {
    let keys = keys();
    let (plugin, host, published) = (plain(), host(&keys), keys_json(&keys, NOW_MS));
    let good = token(&keys, &Wish { protocol, ..wish() }).token.to_string().into_bytes();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // What is not UTF-8 is no text that a merchant could send.
        let Ok(text) = String::from_utf8(bad) else { continue };
        let done = open_at(&plugin, &host, text.clone().into(), &published, NOW_MS).unwrap();
        assert!(done.opened.is_none(), "{protocol:?}, bit {bit}: {text}");
    }
}

#[test]
fn every_bit_of_an_ecv2_token_counts() {
    every_bit(Protocol::EcV2);
}

#[test]
fn every_bit_of_an_ecv1_token_counts() {
    every_bit(Protocol::EcV1);
}

#[test]
fn every_bit_of_a_signed_token_counts() {
    every_bit(Protocol::EcV2SigningOnly);
}
