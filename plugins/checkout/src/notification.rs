//! Reads the provider's webhooks, after their signature and never before.
//!
//! The signature covers the raw body and nothing else, and has no time in it: a replay is stopped
//! by the event's id alone. A refusal of a whole payment is only a hint here, because this
//! provider remembers successes only and another copy of the request may have been executed.

use interlock_plugin_api::{Ack, Class, Cx, Done, Event, Fact, Fault, Operation, Step, What};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::State;
use crate::answers::{coded, disagreement, money};
use crate::codes::{Meaning, classed, meaning, object};
use crate::inquiry::refusal;
use crate::payments::{is_op_id, is_ref};

const SIGNATURE: &str = "cko-signature";

/// Verifies and reads one notification.
pub(crate) fn read(cx: &Cx<'_>, e: &Event) -> Result<Step<State>, Fault> {
    let Event::Notification { .. } = e else {
        return Err(Fault::input("only a notification can be read"));
    };
    let signature = e.header(SIGNATURE).and_then(|text| hex::decode(text).ok());
    let verified = match signature {
        Some(bytes) => cx.host.verify("webhook_key", "hmac-sha256", cx.body, &bytes)?,
        None => false,
    };
    if !verified {
        return Ok(Step::end(Done { ack: Some(ack(401)), ..Done::default() }));
    }
    Ok(Step::end(match understood(cx.body) {
        Some((event_id, fact)) => Done {
            facts: fact.into_iter().collect(),
            verified,
            event_id: Some(event_id),
            ack: Some(ack(200)),
            ..Done::default()
        },
        // Signed, but not what was documented: the provider keeps it and tries again.
        None => Done { verified, ack: Some(ack(400)), ..Done::default() },
    }))
}

fn ack(status: u16) -> Ack {
    Ack { status, content_type: "application/json".into(), body: "{}".into() }
}

#[derive(Deserialize)]
struct Notice<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// Unread until the type is known: other types have other data.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data {
    id: String,
    action_id: Option<String>,
    reference: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
    response_code: Option<String>,
}

/// What a type of notice says.
enum Says {
    /// It happened, with this amount.
    Happened(What),
    /// It is under way.
    Pending,
    /// An accepted capture, void or refund was refused.
    Refused(Operation),
    /// A payment came to nothing, which an inquiry must confirm.
    Hint(Class),
}

/// The types that speak of money, whether they speak of one action, and what they say.
fn says(kind: &str) -> Option<(bool, Says)> {
    Some(match kind {
        "payment_approved" => (false, Says::Happened(What::Authorized)),
        "payment_pending" => (false, Says::Pending),
        "payment_declined" => (false, Says::Hint(Class::Unmapped)),
        "payment_expired" | "payment_canceled" => (false, Says::Hint(Class::Expired)),
        "payment_captured" => (true, Says::Happened(What::Captured)),
        "payment_voided" => (true, Says::Happened(What::Voided)),
        "payment_refunded" => (true, Says::Happened(What::Refunded)),
        "payment_capture_pending" | "payment_refund_pending" => (true, Says::Pending),
        "payment_capture_declined" => (true, Says::Refused(Operation::Capture)),
        "payment_void_declined" => (true, Says::Refused(Operation::Void)),
        "payment_refund_declined" => (true, Says::Refused(Operation::Refund)),
        _ => return None,
    })
}

/// The event's id and what it says of money; `None` when it is not of the documented form.
fn understood(body: &[u8]) -> Option<(String, Option<Fact>)> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    let notice: Notice<'_> = text.starts_with('{').then(|| serde_json::from_str(text).ok())??;
    if !is_ref(&notice.id) {
        return None;
    }
    let Some((of_action, says)) = says(&notice.kind) else {
        return Some((notice.id, None));
    };
    let data: Data = object(notice.data?.get().as_bytes())?;
    if !is_ref(&data.id) {
        return None;
    }
    let fact = data.fact(&notice.kind, says);
    let action = data.action_id.as_deref().filter(|id| of_action && is_ref(id));
    let op_id = data.reference.as_deref().filter(|text| is_op_id(text));
    let fact = Fact {
        op_id: op_id.map(Into::into),
        operation_ref: action.map(Into::into),
        ..fact.with_provider_ref(&data.id)
    };
    Some((notice.id, Some(fact)))
}

impl Data {
    fn fact(&self, kind: &str, says: Says) -> Fact {
        let said = self.response_code.as_deref().map(meaning);
        match (says, said) {
            // A void has no amount to compare.
            (Says::Happened(what), None | Some(Some(Meaning::Approved))) => {
                match money(self.amount, self.currency.as_deref()) {
                    _ if what == What::Voided => Fact::new(what),
                    Some(money) => Fact::new(what).with_amount(money),
                    None => Fact::unknown("no_amount"),
                }
            }
            (Says::Happened(_), Some(_)) => disagreement(),
            (Says::Pending, _) => coded(Fact::new(What::Pending), kind),
            (Says::Refused(operation), None) => {
                coded(classed(Fact::new(refusal(operation)), Class::DeclinedHard), kind)
            }
            (Says::Refused(operation), Some(Some(Meaning::Refused(class, advice)))) => {
                let code = self.response_code.clone().unwrap_or_default();
                coded(classed(Fact::new(refusal(operation)), class), code).with_advice(advice)
            }
            (Says::Refused(_), Some(_)) => disagreement(),
            (Says::Hint(class), said) => self.hint(kind, class, said.flatten()),
        }
    }

    /// The code is prefixed with the type, so that it can't be taken for a code that proves.
    fn hint(&self, kind: &str, class: Class, said: Option<Meaning>) -> Fact {
        match (said, self.response_code.as_deref()) {
            (Some(Meaning::Refused(of_code, advice)), Some(code)) => {
                let class = if class == Class::Unmapped { of_code } else { class };
                classed(Fact::unknown(format!("{kind}:{code}")), class).with_advice(advice)
            }
            _ => classed(Fact::unknown(kind), class),
        }
    }
}
