//! What Square posts to us. Nothing of it is read before its signature was verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Ack, Cx, Done, Event, Fault};
use serde::Deserialize;

use crate::answers::{Payment, Refund};

#[derive(Deserialize)]
struct Notice {
    event_id: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    payment: Option<Payment>,
    refund: Option<Refund>,
}

/// Verifies and reads one notification. The signature covers the address that Square posts to, and
/// the raw body after it.
pub(crate) fn read(cx: &Cx<'_>, e: &Event) -> Result<Done, Fault> {
    let address = cx.notify_url.ok_or(Fault::config("the proxy has no public_url"))?;
    let signature = e.header("x-square-hmacsha256-signature");
    let signature = signature.and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
    let signed = [address.as_bytes(), cx.body].concat();
    if !cx.host.verify("signature_key", "hmac-sha256", &signed, &signature)? {
        return Ok(Done { ack: Some(ack(401)), ..Done::default() });
    }
    let Ok(notice) = serde_json::from_slice::<Notice>(cx.body) else {
        // Signed, and of a kind that says nothing of payments.
        return Ok(Done { verified: true, ack: Some(ack(200)), ..Done::default() });
    };
    let object = notice.data.object;
    let payment = object.payment.and_then(|payment| payment.notice());
    Ok(Done {
        facts: payment.into_iter().chain(object.refund.map(|refund| refund.fact())).collect(),
        verified: true,
        event_id: Some(notice.event_id),
        ack: Some(ack(200)),
        ..Done::default()
    })
}

fn ack(status: u16) -> Ack {
    Ack { status, content_type: "text/plain".into(), body: String::new() }
}
