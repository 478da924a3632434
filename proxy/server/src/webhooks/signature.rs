//! The signature of Standard Webhooks: HMAC-SHA256 of the message's id, the time and the body.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What signs messages to one merchant. It has no `Debug`.
pub struct Key(hmac::Key);

impl Key {
    /// Reads `whsec_` and base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix("whsec_")?).ok().map(Zeroizing::new)?;
        let fits = KEY_BYTES.contains(&bytes.len());
        fits.then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.0);
        signing.update(format!("{id}.{timestamp_s}.").as_bytes());
        signing.update(body);
        STANDARD.encode(signing.sign())
    }
}

/// The value of `webhook-signature`: one signature for each key, so that a merchant verifies with
/// either while keys rotate.
pub fn signatures(keys: &[Key], id: &str, timestamp_s: i64, body: &[u8]) -> String {
    let mut all = String::new();
    for key in keys {
        let space = if all.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(all, "{space}v1,{}", key.sign(id, timestamp_s, body));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whsec_and_base64() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert!(Key::parse(&of(24)).is_some() && Key::parse(&of(64)).is_some());
        for bad in [&of(23), &of(65), "whsec_", "whsec_!!!!", &of(32)[6..], "Whsec_AAAA"] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn each_key_signs_id_time_and_body() {
        // Computed apart from this code, by `openssl dgst -sha256 -hmac`.
        let key = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let keys = [Key::parse(key).expect("a key"), Key::parse(key).expect("a key")];
        let both = signatures(&keys, "evt_1", 1_700_000_000, b"{\"a\":1}");
        let one = signatures(&keys[..1], "evt_1", 1_700_000_000, b"{\"a\":1}");
        assert_eq!(both, format!("{one} {one}"));
        assert_eq!(one, "v1,E91RjL3XwKNvhbIjLEB4Oo053Uu727CszikrY+6s9HE=");
        assert_ne!(one, signatures(&keys[..1], "evt_2", 1_700_000_000, b"{\"a\":1}"));
        assert_ne!(one, signatures(&keys[..1], "evt_1", 1_700_000_001, b"{\"a\":1}"));
    }
}
