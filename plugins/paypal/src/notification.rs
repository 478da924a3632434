//! Verifies and reads what PayPal posts to us.
//!
//! PayPal signs `id|time|webhook|crc`: the number and the time of the transmission, the webhook's
//! id, which is the account's own and never the request's, and the CRC-32 of the raw body as an
//! unsigned decimal. Which certificate it is verified with is named in the request, so the name is
//! believed only at PayPal's own addresses. There is no limit to its age: PayPal repeats for three
//! days, and a copy is known by the id of its event.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{
    Ack, Class, Cx, Done, Event, Fact, Fault, ProviderKey, Request, Send, Step, What,
    is_path_segment,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::codes::object;
use crate::order::{Order, Resource, coded};
use crate::requests::{is_op_id, post};
use crate::{Settings, State, Verify};

const RING: &str = "webhooks";
/// A key's id has at most so many characters.
const ID_MAX: usize = 128;
/// An event has some kilobytes. What is passed on must fit into a request.
const POSTBACK_MAX: usize = 512 * 1024;
const PATH: &str = "/v1/notifications/certs/";
const LIVE: [&str; 2] = ["api.paypal.com", "api-m.paypal.com"];
const SANDBOX: [&str; 2] = ["api.sandbox.paypal.com", "api-m.sandbox.paypal.com"];
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What a notification says, while PayPal is asked whether it is its own.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    event_id: Option<String>,
    facts: Vec<Fact>,
}

/// Verifies and reads one notification, or asks PayPal to verify it.
pub(crate) fn read(settings: &Settings, cx: &Cx<'_>, e: &Event) -> Result<Step<State>, Fault> {
    let (Some(webhook_id), Some(seal)) = (&settings.webhook_id, Seal::of(e, settings.sandbox))
    else {
        return Ok(refused());
    };
    if settings.verify == Verify::Postback {
        let fits = Some(cx.body).filter(|body| body.len() <= POSTBACK_MAX);
        let event = fits.and_then(|body| serde_json::from_slice::<&RawValue>(body).ok());
        let Some(event) = event else { return Ok(refused()) };
        let asked = Postback {
            auth_algo: "SHA256withRSA",
            cert_url: seal.cert_url,
            transmission_id: seal.id,
            transmission_sig: seal.signature,
            transmission_time: seal.time,
            webhook_id,
            webhook_event: event,
        };
        let body = serde_json::to_vec(&asked)
            .map_err(|_| Fault::internal("the notification can't be passed on"))?;
        let send = post("/v1/notifications/verify-webhook-signature".into());
        return Ok(Step::send(send, body, State::Verifying(understood(cx.body))));
    }
    let Ok(signature) = BASE64.decode(seal.signature) else { return Ok(refused()) };
    let crc = crc32fast::hash(cx.body);
    let content = format!("{}|{}|{webhook_id}|{crc}", seal.id, seal.time);
    let key = format!("{RING}/{}", seal.cert_id);
    // A certificate that is not here verifies nothing; the host fetches it and asks again.
    if cx.host.verify(&key, "rsa-sha256-pkcs1", content.as_bytes(), &signature)? {
        Ok(accepted(understood(cx.body)))
    } else {
        Ok(refused())
    }
}

/// What PayPal says of a notification that it was asked about.
pub(crate) fn verified(told: Told, status: u16, body: &[u8]) -> Result<Step<State>, Fault> {
    #[derive(Deserialize)]
    struct Verdict {
        verification_status: String,
    }
    let verdict = object::<Verdict>(body).filter(|_| status == 200);
    match verdict.as_ref().map(|verdict| verdict.verification_status.as_str()) {
        Some("SUCCESS") => Ok(accepted(told)),
        Some("FAILURE") => Ok(refused()),
        _ => Err(Fault::input("nobody said whether the notification is PayPal's")),
    }
}

/// `GET /v1/notifications/certs/{id}`. It is public, so no token goes with it.
pub(crate) fn certificate(r: &Request) -> Result<Send, Fault> {
    let id = wanted(r).ok_or(Fault::input("certificates are fetched by their ids"))?;
    Ok(Send::to("GET", "api", format!("{PATH}{id}")))
}

/// The certificate with those that issued it, as it came: whose it is, is for the host to check.
pub(crate) fn keys(r: &Request, status: u16, body: &[u8]) -> Done {
    let pem = std::str::from_utf8(body).ok().filter(|pem| status == 200 && is_pem(pem));
    let key = wanted(r).zip(pem).map(|(id, pem)| ProviderKey { id: id.into(), pem: pem.into() });
    Done { keys: key.into_iter().collect(), ..Done::default() }
}

fn wanted(r: &Request) -> Option<&str> {
    let wanted = r.wanted.as_ref().filter(|wanted| wanted.ring == RING)?;
    wanted.id.as_deref().filter(|id| is_certificate_id(id))
}

fn is_certificate_id(id: &str) -> bool {
    is_path_segment(id) && id.len() <= ID_MAX
}

/// Whether a text is certificates and nothing else, by its form.
fn is_pem(text: &str) -> bool {
    let mut inside = false;
    let mut count = 0;
    let fits = text.lines().map(str::trim_end).all(|line| match (line, inside) {
        (BEGIN, false) => {
            inside = true;
            true
        }
        (END, true) => {
            inside = false;
            count += 1;
            true
        }
        (line, true) => line.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)),
        (line, false) => line.is_empty(),
    });
    fits && !inside && count > 0
}

fn refused() -> Step<State> {
    Step::end(Done { ack: Some(ack(401)), ..Done::default() })
}

fn accepted(told: Told) -> Step<State> {
    // Signed, but not what was documented: PayPal keeps it and tries again.
    let status = if told.event_id.is_some() { 200 } else { 400 };
    Step::end(Done {
        facts: told.facts,
        verified: true,
        event_id: told.event_id,
        ack: Some(ack(status)),
        ..Done::default()
    })
}

fn ack(status: u16) -> Ack {
    Ack { status, content_type: "text/plain".into(), body: String::new() }
}

/// What comes with a notification.
struct Seal<'a> {
    id: &'a str,
    time: &'a str,
    signature: &'a str,
    cert_url: &'a str,
    cert_id: &'a str,
}

impl<'a> Seal<'a> {
    fn of(e: &'a Event, sandbox: bool) -> Option<Self> {
        // The signed content is parted by bars.
        let plain = |text: &&str| {
            (1..=ID_MAX).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic() && b != b'|')
        };
        let cert_url = e.header("paypal-cert-url")?;
        let seal = Self {
            id: e.header("paypal-transmission-id").filter(plain)?,
            time: e.header("paypal-transmission-time").filter(plain)?,
            signature: e.header("paypal-transmission-sig")?,
            cert_url,
            cert_id: certificate_id(cert_url, sandbox)?,
        };
        (e.header("paypal-auth-algo") == Some("SHA256withRSA")).then_some(seal)
    }
}

/// The certificate that an address names, if it is an address of PayPal's and nothing but that.
fn certificate_id(url: &str, sandbox: bool) -> Option<&str> {
    let (host, id) = url.strip_prefix("https://")?.split_once(PATH)?;
    let hosts = if sandbox { SANDBOX } else { LIVE };
    if !hosts.contains(&host) {
        return None;
    }
    is_certificate_id(id).then_some(id)
}

#[derive(Serialize)]
struct Postback<'a> {
    auth_algo: &'a str,
    cert_url: &'a str,
    transmission_id: &'a str,
    transmission_sig: &'a str,
    transmission_time: &'a str,
    webhook_id: &'a str,
    webhook_event: &'a RawValue,
}

#[derive(Deserialize)]
struct Notice<'a> {
    id: String,
    event_type: String,
    resource_type: Option<String>,
    /// Unread until the type is known: other types have other resources.
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

/// What a body says; nothing, not even an id, when it is not of the documented form.
fn understood(body: &[u8]) -> Told {
    let Some(notice) = std::str::from_utf8(body).ok().and_then(notice) else {
        return Told::default();
    };
    let raw = notice.resource.map_or("", RawValue::get).as_bytes();
    let fact = match notice.event_type.as_str() {
        "CHECKOUT.ORDER.APPROVED" => object(raw).map(approved),
        kind if kind.starts_with("PAYMENT.AUTHORIZATION.") => {
            object(raw).and_then(|held| authorization(kind, &held))
        }
        "PAYMENT.CAPTURE.REFUNDED" | "PAYMENT.CAPTURE.REVERSED" => {
            let refund = notice.resource_type.as_deref() == Some("refund");
            object(raw).map(|resource| match refund {
                true => given_back(&resource),
                false => named(Fact::unknown("unlisted_resource"), &resource),
            })
        }
        kind if kind.starts_with("PAYMENT.CAPTURE.") => {
            object(raw).and_then(|taken| capture(kind, &taken))
        }
        kind if kind.starts_with("PAYMENT.REFUND.") => object(raw).map(|back| given_back(&back)),
        // It concerns no money, or none that has moved.
        _ => None,
    };
    Told { event_id: Some(notice.id), facts: fact.into_iter().collect() }
}

fn notice(text: &str) -> Option<Notice<'_>> {
    let opens = text.trim_start().starts_with('{');
    let notice: Notice<'_> = opens.then(|| serde_json::from_str(text).ok()).flatten()?;
    is_path_segment(&notice.id).then_some(notice)
}

fn approved(order: Order) -> Fact {
    let number = order.only_number().filter(|number| is_op_id(number)).map(str::to_owned);
    let what = if order.status == "APPROVED" { What::Approved } else { What::Unknown };
    let order_id = Some(order.id).filter(|id| is_path_segment(id));
    Fact { op_id: number, provider_ref: order_id, ..coded(what, "APPROVED") }
}

/// An authorization is always of a payment. What it was voided for is what it says itself.
fn authorization(kind: &str, held: &Resource) -> Option<Fact> {
    let fact = match (kind, held.status.as_str()) {
        ("PAYMENT.AUTHORIZATION.CREATED", "CREATED") => amounted(What::Authorized, held),
        ("PAYMENT.AUTHORIZATION.CREATED", "PENDING") => coded(What::Pending, held.reason()),
        ("PAYMENT.AUTHORIZATION.VOIDED", "VOIDED") => coded(What::Voided, "VOIDED").of_key(),
        ("PAYMENT.AUTHORIZATION.CREATED" | "PAYMENT.AUTHORIZATION.VOIDED", _) => {
            Fact::unknown("unlisted_status")
        }
        _ => return None,
    };
    let fact = Fact { operation_ref: None, ..named(fact, held) };
    Some(Fact { op_id: own(&held.custom_id), ..fact })
}

/// The capture of an order is the payment's own; that of an authorization has our number as its
/// invoice. A refusal is said as a failure: what was captured had been accepted before.
fn capture(kind: &str, taken: &Resource) -> Option<Fact> {
    let fact = match (kind, taken.status.as_str()) {
        ("PAYMENT.CAPTURE.COMPLETED", "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED") => {
            amounted(What::Captured, taken)
        }
        ("PAYMENT.CAPTURE.PENDING", "PENDING") => coded(What::Pending, taken.reason()),
        ("PAYMENT.CAPTURE.DENIED" | "PAYMENT.CAPTURE.DECLINED", "DECLINED" | "FAILED") => {
            let failed = coded(What::Failed, &taken.status).of_key();
            Fact { class: Some(Class::DeclinedSoft), ..failed }
        }
        (
            "PAYMENT.CAPTURE.COMPLETED"
            | "PAYMENT.CAPTURE.PENDING"
            | "PAYMENT.CAPTURE.DENIED"
            | "PAYMENT.CAPTURE.DECLINED",
            _,
        ) => Fact::unknown("unlisted_status"),
        _ => return None,
    };
    Some(named(fact, taken))
}

/// A refund, by whomever, or what PayPal took back. Without a mark of our own it has the order's.
fn given_back(back: &Resource) -> Fact {
    let fact = match back.status.as_str() {
        "COMPLETED" => amounted(What::Refunded, back),
        "PENDING" => coded(What::Pending, back.reason()),
        "FAILED" | "CANCELLED" => {
            let failed = coded(What::Failed, &back.status).of_key();
            Fact { class: Some(Class::DeclinedHard), ..failed }
        }
        _ => Fact::unknown("unlisted_status"),
    };
    Fact { op_id: own(&back.custom_id), ..named(fact, back) }
}

fn amounted(what: What, resource: &Resource) -> Fact {
    match resource.money() {
        Some(money) => Fact::new(what).with_amount(money).of_key(),
        None => Fact::unknown("no_amount"),
    }
}

/// The same fact with every number by which it can be found.
fn named(fact: Fact, resource: &Resource) -> Fact {
    Fact {
        op_id: own(&resource.invoice_id).or_else(|| own(&resource.custom_id)),
        provider_ref: resource.order().map(str::to_owned),
        operation_ref: Some(resource.id.clone()).filter(|id| is_path_segment(id)),
        ..fact
    }
}

/// Our number in a mark that we gave, if it can be one.
fn own(mark: &Option<String>) -> Option<String> {
    let number = mark.as_deref()?.split(':').next()?;
    is_op_id(number).then(|| number.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_believed_only_at_paypals_own_address() {
        let id = |url: &str| certificate_id(url, false).map(str::to_owned);
        for host in LIVE {
            let url = format!("https://{host}{PATH}CERT-360caa42-fca2a594-7a8abba8");
            assert_eq!(id(&url).as_deref(), Some("CERT-360caa42-fca2a594-7a8abba8"));
            assert_eq!(certificate_id(&url, true), None, "{url}");
        }
        for host in SANDBOX {
            let url = format!("https://{host}{PATH}CERT-1");
            assert_eq!((id(&url), certificate_id(&url, true)), (None, Some("CERT-1")));
        }
        for wrong in [
            "",
            "https://",
            "http://api.paypal.com/v1/notifications/certs/CERT-1",
            "HTTPS://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://API.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com:443/v1/notifications/certs/CERT-1",
            "https://api.paypal.com./v1/notifications/certs/CERT-1",
            "https://me@api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
            "https://evil.example/api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
            "https://evil-api.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com/v1/notifications/certs/",
            "https://api.paypal.com/v1/notifications/certs/../CERT-1",
            "https://api.paypal.com/v1/notifications/certs/CERT-1/",
            "https://api.paypal.com/v1/notifications/certs/CERT-1?a=b",
            "https://api.paypal.com/v1/notifications/certs/CERT-1#a",
            "https://api.paypal.com/v1/notifications/certs/CERT%2D1",
            "https://api.paypal.com/v2/notifications/certs/CERT-1",
            "https://api.paypal.com//v1/notifications/certs/CERT-1",
            " https://api.paypal.com/v1/notifications/certs/CERT-1",
            "/v1/notifications/certs/CERT-1",
        ] {
            assert_eq!(id(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_chain_is_certificates_and_nothing_else() {
        let one = format!("{BEGIN}\nAAAA\nAA==\n{END}\n");
        for good in [one.clone(), format!("{one}{one}"), one.replace('\n', "\r\n")] {
            assert!(is_pem(&good), "{good}");
        }
        for bad in [
            String::new(),
            "AAAA".into(),
            format!("{BEGIN}\nAAAA\n"),
            format!("{one}AAAA\n"),
            format!("{BEGIN}\n<html>\n{END}\n"),
            one.replace("CERTIFICATE", "PRIVATE KEY"),
            format!("{END}\n{BEGIN}\n"),
        ] {
            assert!(!is_pem(&bad), "{bad}");
        }
    }
}
