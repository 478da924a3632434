//! What an answer says of a payment or of a change to one.
//!
//! HTTP 200 is no success: `resultCode` says what happened, and it must agree with the refusal's
//! number, the amount and the reference beside it. Whatever does not agree is an unknown outcome,
//! never a decline. What a 200 says is true of the key, because the provider answers every copy of
//! a request with the result of its one execution.

use interlock_plugin_api::{
    Action, Advice, CaptureMode, Class, Currency, Event, Fact, Money, Request, What,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::codes::{coded, object, refusal, unanswered};
use crate::payments::{is_ref, payment_reference, repeats_credential};

/// Longer links are not shown to a shopper.
const LINK_MAX: usize = 4_096;

/// Reads the answer to `POST /payments` and `POST /payments/details`.
pub(crate) fn read_paid(body: &[u8], r: &Request, e: &Event) -> Fact {
    let status = status(e);
    if status != 200 {
        return unanswered(status, e, body);
    }
    let Some(answer) = object::<Paid>(body) else { return Fact::unknown("unreadable") };
    let number = r.original.as_ref().map_or(&r.op_id, |original| &original.op_id);
    let ours = payment_reference(number, r.capture);
    if answer.merchant_reference.as_deref().is_some_and(|theirs| theirs != ours) {
        return Fact::unknown("other_reference");
    }
    let fact = answer.fact(r);
    match answer.psp_reference.as_deref() {
        None => fact,
        Some(id) if is_ref(id) && !repeats_credential(r, id) => fact.with_provider_ref(id),
        Some(_) => Fact::unknown("unreadable_number"),
    }
}

/// Reads the answer to a capture, cancel, refund or reversal: accepted at best. The result comes
/// by a notification.
pub(crate) fn read_accepted(body: &[u8], r: &Request, e: &Event) -> Fact {
    let status = status(e);
    if !matches!(status, 200 | 201) {
        return unanswered(status, e, body);
    }
    let Some(accepted) = object::<Accepted>(body) else { return Fact::unknown("unreadable") };
    if accepted.reference.as_deref().is_some_and(|theirs| theirs != r.op_id) {
        return Fact::unknown("other_reference");
    }
    let known = r.original.as_ref().and_then(|original| original.provider_ref.as_deref());
    if accepted.payment_psp_reference.as_deref().is_some_and(|theirs| Some(theirs) != known) {
        return Fact::unknown("other_payment");
    }
    match (accepted.status.as_deref(), accepted.psp_reference) {
        (Some("received"), Some(id)) if is_ref(&id) => {
            Fact::new(What::Pending).with_operation_ref(id)
        }
        (Some("received"), _) => Fact::unknown("unreadable_number"),
        _ => Fact::unknown("unlisted_status"),
    }
}

/// The amount and the currency of a success; a success without them can't be compared with ours.
pub(crate) fn money(value: Option<i64>, currency: Option<&str>) -> Option<Money> {
    let currency = Currency::parse(currency?)?;
    value.filter(|value| *value > 0).map(|value| Money::new(value, currency))
}

/// What a success of this capture mode is. The provider takes the money of an automatic one by
/// itself, nobody has anything left to do, and a capture that fails afterwards is notified.
pub(crate) fn success(capture: CaptureMode) -> What {
    match capture {
        CaptureMode::Automatic => What::Captured,
        CaptureMode::Manual => What::Authorized,
    }
}

fn status(e: &Event) -> u16 {
    match e {
        Event::Response { status, .. } => *status,
        _ => 0,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    psp_reference: Option<String>,
    payment_psp_reference: Option<String>,
    reference: Option<String>,
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    psp_reference: Option<String>,
    merchant_reference: Option<String>,
    result_code: Option<String>,
    refusal_reason_code: Option<String>,
    amount: Option<Amount>,
    action: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Amount {
    value: Option<i64>,
    currency: Option<String>,
}

impl Paid {
    fn fact(&self, r: &Request) -> Fact {
        let Some(result) = self.result_code.as_deref() else {
            return Fact::unknown("no_result");
        };
        match result {
            "Authorised" => self.authorised(r),
            "PartiallyAuthorised" => self.partly(r),
            "Refused" => self.refused(),
            "Cancelled" => Fact::declined(Class::User, result).with_advice(Advice::Retry).of_key(),
            // An error on the way to the issuer may have been answered there: only the
            // notification tells.
            "Error" => Fact { class: Some(Class::ProviderDown), ..Fact::unknown("Error") },
            "Pending" | "Received" | "AuthenticationFinished" | "AuthenticationNotRequired" => {
                coded(What::Pending, result)
            }
            "RedirectShopper" | "IdentifyShopper" | "ChallengeShopper" | "PresentToShopper" => {
                self.challenge(r)
            }
            _ => Fact::unknown("unlisted_result"),
        }
    }

    fn authorised(&self, r: &Request) -> Fact {
        // 0 is what an approval carries, where it carries anything.
        if self.refusal_reason_code.as_deref().is_some_and(|code| code != "0") {
            return Fact::unknown("disagreement");
        }
        match self.money() {
            Some(money) => Fact::new(success(r.capture)).with_amount(money).of_key(),
            None => Fact::unknown("no_amount"),
        }
    }

    /// A smaller amount than ours: the amount is passed on, so that it can't be taken for ours.
    fn partly(&self, r: &Request) -> Fact {
        let fact = self.authorised(r);
        if fact.amount == Some(r.amount) { Fact::unknown("disagreement") } else { fact }
    }

    fn refused(&self) -> Fact {
        let Some(code) = self.refusal_reason_code.as_deref() else {
            let hard = Fact::declined(Class::DeclinedHard, "Refused");
            return hard.with_advice(Advice::OtherMethod).of_key();
        };
        match refusal(code) {
            Some((class, advice)) => {
                Fact::declined(class, format!("Refused:{code}")).with_advice(advice).of_key()
            }
            None => Fact::unknown("unlisted_refusal"),
        }
    }

    fn challenge(&self, r: &Request) -> Fact {
        let Some(action) = &self.action else { return Fact::unknown("no_action") };
        if repeats_credential(r, &Value::Object(action.clone()).to_string()) {
            return Fact::unknown("unsafe_action");
        }
        match action.get("type").and_then(Value::as_str) {
            Some("redirect") => redirect(action),
            // The provider's own page component does the rest.
            Some("threeDS2" | "threeDS2Fingerprint" | "threeDS2Challenge" | "sdk") => {
                let payload = Map::from_iter([("params".into(), Value::Object(action.clone()))]);
                act("sdk", payload)
            }
            _ => Fact::unknown("unlisted_action"),
        }
    }

    fn money(&self) -> Option<Money> {
        let amount = self.amount.as_ref()?;
        money(amount.value, amount.currency.as_deref())
    }
}

fn redirect(action: &Map<String, Value>) -> Fact {
    let text = |name: &str| action.get(name).and_then(Value::as_str);
    let Some(url) = text("url").filter(|url| is_showable(url)) else {
        return Fact::unknown("unsafe_redirect");
    };
    let mut payload = Map::from_iter([("url".into(), Value::from(url))]);
    match text("method") {
        None | Some("GET") => {}
        // The page posts these fields there.
        Some("POST") => {
            let data = action.get("data").cloned().unwrap_or_else(|| Map::new().into());
            payload.insert("method".into(), "POST".into());
            payload.insert("data".into(), data);
        }
        Some(_) => return Fact::unknown("unlisted_action"),
    }
    act("three_d_secure", payload)
}

fn act(kind: &str, payload: Map<String, Value>) -> Fact {
    let action = Action { kind: kind.into(), payload, expires_ms: None };
    Fact { action: Some(action), ..Fact::new(What::Action) }
}

/// A shopper is sent to https only; a provider on this machine may be plain.
fn is_showable(href: &str) -> bool {
    let local = |host: &str| {
        let rest = href.strip_prefix(host);
        rest.is_some_and(|rest| rest.starts_with(['/', ':']) && !rest.contains('@'))
    };
    let allowed =
        href.starts_with("https://") || local("http://127.0.0.1") || local("http://localhost");
    allowed && href.len() <= LINK_MAX && href.bytes().all(|b| b.is_ascii_graphic())
}
