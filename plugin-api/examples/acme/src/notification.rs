//! What Acme posts to us. Nothing of it is read before its signature was verified.

use interlock_plugin_api::{Ack, Cx, Done, Event, Fact, Fault, Operation};
use serde::Deserialize;

use crate::answers::{Change, Payment};

/// A signature over `{acme-timestamp}.{body}` is good for this long, ms.
const LIFE_MS: i64 = 5 * 60 * 1000;

#[derive(Deserialize)]
struct Notice {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    payment: Option<Payment>,
    operation: Option<Change>,
}

/// Verifies and reads one notification.
pub(crate) fn read(cx: &Cx<'_>, e: &Event) -> Result<Done, Fault> {
    let refused = Done { ack: Some(ack(401)), ..Done::default() };
    let (Some(stamp), Some(signature)) = (e.header("acme-timestamp"), e.header("acme-signature"))
    else {
        return Ok(refused);
    };
    let fresh = stamp.parse::<i64>().ok().and_then(|s| s.checked_mul(1000));
    let fresh = fresh.is_some_and(|made| cx.now_ms.abs_diff(made) <= LIFE_MS as u64);
    let signed = [stamp.as_bytes(), b".", cx.body].concat();
    let signature = unhex(signature).unwrap_or_default();
    if !fresh || !cx.host.verify("webhook_key", "hmac-sha256", &signed, &signature)? {
        return Ok(refused);
    }
    let Ok(notice) = serde_json::from_slice::<Notice>(cx.body) else {
        // Signed and not what is documented: Acme keeps it and sends it again.
        return Ok(Done { verified: true, ack: Some(ack(400)), ..Done::default() });
    };
    Ok(Done {
        facts: notice.fact().into_iter().collect(),
        verified: true,
        event_id: Some(notice.id),
        ack: Some(ack(200)),
        ..Done::default()
    })
}

impl Notice {
    /// What it says about our operation; `None` of what has nothing to do with money.
    fn fact(&self) -> Option<Fact> {
        if let ("payment", Some(payment)) = (self.kind.as_str(), &self.payment) {
            return Some(payment.fact().about(payment.ours()));
        }
        let op = match self.kind.as_str() {
            "capture" => Operation::Capture,
            "cancel" => Operation::Void,
            "refund" => Operation::Refund,
            _ => return None,
        };
        let change = self.operation.as_ref()?;
        Some(change.fact(op).about(change.ours()))
    }
}

fn ack(status: u16) -> Ack {
    Ack { status, content_type: "text/plain".into(), body: "ok".into() }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let pairs = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(pairs.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect())
}
