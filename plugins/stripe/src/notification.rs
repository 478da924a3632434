//! Reads the provider's events, after their signature and never before.
//!
//! The signature covers the time and the raw body. Events are neither in order nor told once, and
//! what an event shows is how things stood when it was made: so one that speaks of a failure is a
//! hint to look, and only what can't become less true is a fact. A dispute is the bank's business
//! and no refund of ours.

use interlock_plugin_api::{Ack, CaptureMode, Cx, Done, Event, Fact, Fault, Step, What};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::State;
use crate::codes::{classed, object};
use crate::intent::{Intent, Refund};
use crate::payments::is_ref;

const SIGNATURE: &str = "stripe-signature";
const KEY: &str = "webhook_key";
/// A replay is refused by its time; every delivery is signed anew.
const TOLERANCE_MS: u64 = 300_000;
/// While a secret is rolled there are two.
const SIGNATURES_MAX: usize = 8;

/// Verifies and reads one notification.
pub(crate) fn read(cx: &Cx<'_>, e: &Event) -> Result<Step<State>, Fault> {
    let Event::Notification { .. } = e else {
        return Err(Fault::input("only a notification can be read"));
    };
    if !is_signed(cx, e.header(SIGNATURE).unwrap_or_default())? {
        return Ok(Step::end(Done { ack: Some(ack(401)), ..Done::default() }));
    }
    Ok(Step::end(match understood(cx.body) {
        Some((event_id, fact)) => Done {
            facts: fact.into_iter().collect(),
            verified: true,
            event_id: Some(event_id),
            ack: Some(ack(200)),
            ..Done::default()
        },
        // Signed, but not what was documented: the provider keeps it and tries again.
        None => Done { verified: true, ack: Some(ack(400)), ..Done::default() },
    }))
}

/// Whether one of the signatures is good and the time is near. Schemes but `v1` are ignored.
fn is_signed(cx: &Cx<'_>, header: &str) -> Result<bool, Fault> {
    let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
    let mut times = pairs().filter(|(name, _)| *name == "t").map(|(_, value)| value);
    let (Some(time), None) = (times.next(), times.next()) else { return Ok(false) };
    let digits = !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit());
    let at_ms = time.parse::<i64>().ok().filter(|_| digits).and_then(|s| s.checked_mul(1_000));
    if at_ms.is_none_or(|at| cx.now_ms.abs_diff(at) > TOLERANCE_MS) {
        return Ok(false);
    }
    let mut content = Vec::with_capacity(time.len() + 1 + cx.body.len());
    content.extend_from_slice(time.as_bytes());
    content.push(b'.');
    content.extend_from_slice(cx.body);
    let signatures = pairs().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX);
    for signature in signatures.filter_map(|(_, value)| hex::decode(value).ok()) {
        if cx.host.verify(KEY, "hmac-sha256", &content, &signature)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ack(status: u16) -> Ack {
    Ack { status, content_type: "application/json".into(), body: "{}".into() }
}

#[derive(Deserialize)]
struct Notice<'a> {
    id: String,
    object: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    /// Unread until the type is known: other types have other objects.
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// The event's id and what it says of money; `None` when it is not of the documented form.
fn understood(body: &[u8]) -> Option<(String, Option<Fact>)> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    let notice: Notice<'_> = text.starts_with('{').then(|| serde_json::from_str(text).ok())??;
    if notice.object != "event" || !is_ref(&notice.id, "evt_") {
        return None;
    }
    let shown = || notice.data.as_ref()?.object.map(|raw| raw.get().as_bytes());
    let fact = match notice.kind.as_str() {
        "payment_intent.succeeded"
        | "payment_intent.amount_capturable_updated"
        | "payment_intent.processing"
        | "payment_intent.requires_action"
        | "payment_intent.payment_failed"
        | "payment_intent.canceled" => of_intent(&notice.kind, &object(shown()?)?)?,
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            return Some((notice.id, of_refund(&object(shown()?)?)));
        }
        // A refund is told by its own events, with its number; `charge.refunded` has only a sum.
        _ => return Some((notice.id, None)),
    };
    Some((notice.id, Some(fact)))
}

fn of_intent(kind: &str, intent: &Intent) -> Option<Fact> {
    let id = intent.number_of()?;
    let says = match kind {
        "payment_intent.succeeded" => Some("succeeded"),
        "payment_intent.amount_capturable_updated" => Some("requires_capture"),
        "payment_intent.processing" => Some("processing"),
        "payment_intent.requires_action" => Some("requires_action"),
        _ => None,
    };
    let mode = intent.mode();
    let told = match (says, mode) {
        (Some(status), Some(mode)) if intent.status.as_deref() == Some(status) => intent.fact(mode),
        // Of an unlisted way of capture, or of another status than its name says.
        (Some(_), _) => Fact::unknown(kind),
        (None, _) => hint(kind, intent),
    };
    // What was held and then taken by a capture of ours was taken by that capture.
    let captured = mode == Some(CaptureMode::Manual) && told.what == What::Captured;
    let number = intent.capture().filter(|_| captured).or(intent.attempt());
    let told = told.with_provider_ref(id);
    Some(match number {
        Some(op_id) => told.about(op_id),
        None => told,
    })
}

/// The code is prefixed with the event's type, so that it can't be taken for one that proves.
fn hint(kind: &str, intent: &Intent) -> Fact {
    let fact = intent.fact(intent.mode().unwrap_or(CaptureMode::Automatic));
    match (fact.what, fact.class, fact.provider_code) {
        (What::Declined, Some(class), Some(code)) => {
            classed(Fact::unknown(format!("{kind}:{code}")), class)
        }
        _ => Fact::unknown(kind),
    }
}

fn of_refund(refund: &Refund) -> Option<Fact> {
    let intent = refund.payment_intent.as_deref().filter(|id| is_ref(id, "pi_"))?;
    refund.number()?;
    let fact = refund.fact().with_provider_ref(intent);
    Some(match refund.ours() {
        Some(op_id) => fact.about(op_id),
        None => fact,
    })
}
