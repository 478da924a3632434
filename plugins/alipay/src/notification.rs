//! Verifies and reads what Alipay posts to us: a form, signed over its decoded bytes.
//!
//! The signature is checked over bytes, so a form in GBK verifies without a table of characters;
//! everything that is acted upon is ASCII. Two families of notices differ in whether `sign_type`
//! is signed, and senders differ in whether empty values are: each is tried as it came first.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Ack, Cx, Done, Fact, HostError, What, parse_units};

use crate::Alipay;
use crate::answers::money;
use crate::gateway::{ALIPAY_KEY, RSA2};

/// What the notification in `cx.body` says.
///
/// # Errors
/// Only the host's own: it has no key to verify with.
pub fn read(alipay: &Alipay, cx: &Cx<'_>) -> Result<Done, HostError> {
    let Some(form) = Form::parse(cx.body) else { return Ok(refused()) };
    let ours = form.text("app_id") == Some(&alipay.app_id)
        && alipay.seller_id.as_deref().is_none_or(|id| form.text("seller_id") == Some(id));
    if !ours || form.can_be_cut_elsewhere() || !form.is_signed(cx)? {
        return Ok(refused());
    }
    Ok(Done {
        facts: form.fact().into_iter().collect(),
        verified: true,
        event_id: form.text("notify_id").map(str::to_owned),
        ack: Some(ack(200, "success")),
        ..Done::default()
    })
}

fn refused() -> Done {
    Done { ack: Some(ack(401, "fail")), ..Done::default() }
}

fn ack(status: u16, body: &str) -> Ack {
    Ack { status, content_type: "text/plain".into(), body: body.into() }
}

/// Everything that a fact is made of.
const ACTED_ON: [&str; 11] = [
    "app_id",
    "gmt_payment",
    "gmt_refund",
    "notify_id",
    "out_biz_no",
    "out_trade_no",
    "refund_fee",
    "seller_id",
    "total_amount",
    "trade_no",
    "trade_status",
];

/// A form's pairs, decoded once, in the order of their names.
struct Form(BTreeMap<Vec<u8>, Vec<u8>>);

impl Form {
    /// `None` when a name occurs twice, since then nobody can say which value was signed.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut pairs = BTreeMap::new();
        for pair in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let cut = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let value = pair.get(cut + 1..).unwrap_or_default();
            if pairs.insert(decode(&pair[..cut]), decode(value)).is_some() {
                return None;
            }
        }
        Some(Self(pairs))
    }

    /// A value that is text and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name.as_bytes())?;
        std::str::from_utf8(value).ok().filter(|text| !text.is_empty())
    }

    /// The signed content escapes neither `&` nor `=`, so fields could be hidden in a text, or a
    /// text that a shopper chose be cut into fields, without touching the signature.
    fn can_be_cut_elsewhere(&self) -> bool {
        let holds = |value: &[u8], field: &[u8]| value.windows(field.len()).any(|w| w == field);
        let fields = ACTED_ON.map(|name| format!("&{name}="));
        self.0.iter().any(|(name, value)| {
            name.iter().any(|b| matches!(b, b'&' | b'='))
                || value.contains(&b'&') && fields.iter().any(|f| holds(value, f.as_bytes()))
        })
    }

    fn is_signed(&self, cx: &Cx<'_>) -> Result<bool, HostError> {
        let signature = self.text("sign").and_then(|sign| BASE64.decode(sign).ok());
        let (Some(signature), Some("RSA2")) = (signature, self.text("sign_type")) else {
            return Ok(false);
        };
        let mut tried: Vec<Vec<u8>> = Vec::with_capacity(4);
        let families = [(false, true), (false, false), (true, true), (true, false)];
        for (with_type, with_empty) in families {
            let content = self.content(with_type, with_empty);
            if tried.contains(&content) {
                continue;
            }
            if cx.host.verify(ALIPAY_KEY, RSA2, &content, &signature)? {
                return Ok(true);
            }
            tried.push(content);
        }
        Ok(false)
    }

    fn content(&self, with_type: bool, with_empty: bool) -> Vec<u8> {
        let signed = |(name, value): &(&Vec<u8>, &Vec<u8>)| {
            name.as_slice() != b"sign"
                && (with_type || name.as_slice() != b"sign_type")
                && (with_empty || !value.is_empty())
        };
        let pairs: Vec<Vec<u8>> = self
            .0
            .iter()
            .filter(signed)
            .map(|(name, value)| [name.as_slice(), b"=", value].concat())
            .collect();
        pairs.join(&b'&')
    }

    /// `None` for a notice that is about no trade.
    fn fact(&self) -> Option<Fact> {
        let number = self.text("out_trade_no")?;
        let fact = match self.text("trade_status")? {
            "TRADE_SUCCESS" | "TRADE_FINISHED" if self.has_refund() => self.refund(number),
            "TRADE_CLOSED" if self.has_refund() && self.refund_number(number).is_some() => {
                self.refund(number)
            }
            "TRADE_SUCCESS" | "TRADE_FINISHED" => match money(self.text("total_amount"), None) {
                Some(amount) => Fact::new(What::Captured).of_key().with_amount(amount),
                None => Fact::unknown("no_amount"),
            },
            "TRADE_CLOSED" => {
                let paid = self.has_refund() || self.text("gmt_payment").is_some();
                let what = if paid { What::ClosedRefunded } else { What::ClosedUnpaid };
                Fact { provider_code: Some("TRADE_CLOSED".into()), ..Fact::new(what).of_key() }
            }
            _ => Fact::unknown("unknown_trade_status"),
        };
        let fact = if fact.op_id.is_some() { fact } else { fact.about(number) };
        Some(match self.text("trade_no") {
            Some(trade_no) => fact.with_provider_ref(trade_no),
            None => fact,
        })
    }

    /// A refund notifies with the status of its trade: that is no second payment.
    fn has_refund(&self) -> bool {
        let some_fee = self.text("refund_fee").is_some_and(|fee| parse_units(fee, 2) != Ok(0));
        some_fee || self.text("gmt_refund").is_some()
    }

    /// The refund's own number: one that is the trade's was not given by us.
    fn refund_number(&self, number: &str) -> Option<&str> {
        self.text("out_biz_no").filter(|refund| *refund != number)
    }

    /// Without an amount, because `refund_fee` is the sum of all refunds of the trade.
    fn refund(&self, number: &str) -> Fact {
        match self.refund_number(number) {
            Some(refund) => Fact::new(What::Refunded).of_key().about(refund),
            None => Fact::unknown("refund_without_number"),
        }
    }
}

/// Percent-decoding to bytes; what is no escape stays as it is, and the signature decides.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
        at += 1;
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once_and_to_bytes() {
        let form = Form::parse(b"a=%25B9+%b9%FA&b=&c&%64=1%2&&").unwrap();
        let value = |name: &str| form.0.get(name.as_bytes()).unwrap().as_slice();
        assert_eq!(value("a"), b"%B9 \xb9\xfa");
        assert_eq!((value("b"), value("c"), value("d")), (&b""[..], &b""[..], &b"1%2"[..]));
        assert!(Form::parse(b"a=1&%61=1").is_none());
    }

    #[test]
    fn a_text_that_reads_like_fields_is_noticed() {
        let cut = |body: &[u8]| Form::parse(body).unwrap().can_be_cut_elsewhere();
        assert!(cut(b"subject=x%26total_amount=1&total_amount=2"));
        assert!(cut(b"subject%26trade_no=x"));
        assert!(!cut(b"subject=fish%26chips%3Dlunch&total_amount=2"));
    }
}
