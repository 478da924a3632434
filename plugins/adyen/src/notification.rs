//! Reads the provider's notifications, item by item, each after its signature and never before.
//!
//! The signature covers eight fields and nothing else: not the reason, not the time, not the
//! environment. So a refusal is told without its reason, and nothing here is decided from a field
//! that is not covered. The signed content is parted by colons and escapes none; an item with a
//! colon in a field could be cut elsewhere, so it says nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Ack, Advice, Class, Cx, Done, Event, Fact, Fault, Step, What};
use serde::Deserialize;
use serde_json::Value;

use crate::State;
use crate::answers::{money, success};
use crate::codes::{coded, object};
use crate::payments::{is_op_id, is_ref, read_payment_reference};

const KEY: &str = "hmac_key";
/// The provider sends one item, and never more than a handful.
const ITEMS_MAX: usize = 64;

/// Verifies and reads one notification. One item that is not signed, or not for this account,
/// spoils all of it.
pub(crate) fn read(account: &str, cx: &Cx<'_>, e: &Event) -> Result<Step<State>, Fault> {
    let Event::Notification { .. } = e else {
        return Err(Fault::input("only a notification can be read"));
    };
    let items = object::<Body>(cx.body).map(|body| body.notification_items).unwrap_or_default();
    let mut read = Vec::with_capacity(items.len().min(ITEMS_MAX));
    for wrapped in &items {
        let Some(item) = Item::read(&wrapped.item) else { return Ok(refused()) };
        let Some(signature) = signature(&wrapped.item) else { return Ok(refused()) };
        let content = item.signed_content();
        if !cx.host.verify(KEY, "hmac-sha256", content.as_bytes(), &signature)?
            || item.account != account
        {
            return Ok(refused());
        }
        read.push(item);
    }
    if read.is_empty() || read.len() > ITEMS_MAX {
        return Ok(refused());
    }
    let ids: Vec<String> = read.iter().map(Item::event_id).collect();
    Ok(Step::end(Done {
        facts: read.iter().filter_map(Item::fact).collect(),
        verified: true,
        event_id: Some(ids.join(",")),
        ack: Some(ack(200, "[accepted]")),
        ..Done::default()
    }))
}

fn refused() -> Step<State> {
    Step::end(Done { ack: Some(ack(401, "")), ..Done::default() })
}

fn ack(status: u16, body: &str) -> Ack {
    Ack { status, content_type: "text/plain".into(), body: body.into() }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    notification_items: Vec<Wrapped>,
}

#[derive(Deserialize)]
struct Wrapped {
    #[serde(rename = "NotificationRequestItem")]
    item: Value,
}

/// The signed fields of one item, as text.
struct Item {
    psp: String,
    original: String,
    account: String,
    reference: String,
    value: i64,
    currency: String,
    event: String,
    success: bool,
}

impl Item {
    /// `None` when a signed field is of another form than the provider writes it.
    fn read(item: &Value) -> Option<Self> {
        let text = |name: &str| match item.get(name) {
            None | Some(Value::Null) => Some(String::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => None,
        };
        let amount = item.get("amount")?;
        Some(Self {
            psp: text("pspReference")?,
            original: text("originalReference")?,
            account: text("merchantAccountCode")?,
            reference: text("merchantReference")?,
            value: amount.get("value")?.as_i64()?,
            currency: amount.get("currency")?.as_str()?.to_owned(),
            event: text("eventCode")?,
            success: match item.get("success")? {
                Value::Bool(success) => *success,
                Value::String(text) if text == "true" => true,
                Value::String(text) if text == "false" => false,
                _ => return None,
            },
        })
    }

    fn texts(&self) -> [&str; 6] {
        [&self.psp, &self.original, &self.account, &self.reference, &self.currency, &self.event]
    }

    fn signed_content(&self) -> String {
        let Self { psp, original, account, reference, value, currency, event, success } = self;
        format!("{psp}:{original}:{account}:{reference}:{value}:{currency}:{event}:{success}")
    }

    /// Copies carry the same number, event and outcome.
    fn event_id(&self) -> String {
        format!("{}:{}:{}", self.psp, self.event, self.success)
    }

    /// What the item says of money; `None` when it says nothing of it.
    fn fact(&self) -> Option<Fact> {
        if self.texts().iter().any(|text| text.contains([':', '\\'])) || !is_ref(&self.psp) {
            return None;
        }
        match self.event.as_str() {
            "AUTHORISATION" => Some(self.authorisation()),
            "CAPTURE" => Some(self.change(What::Captured, What::Failed)),
            "REFUND" | "CANCEL_OR_REFUND" => Some(self.change(What::Refunded, What::Failed)),
            "CANCELLATION" => Some(self.change(What::Voided, What::Declined)),
            // What had been done is undone, whatever `success` says of the message.
            "CAPTURE_FAILED" | "REFUND_FAILED" | "REFUNDED_REVERSED" => {
                Some(self.of_change(classed(coded(What::Failed, self.event.as_str()))))
            }
            // Made in the provider's portal: we never ask for one.
            "TECHNICAL_CANCEL" if self.success => Some(self.of_change(Fact::new(What::Voided))),
            _ => None,
        }
    }

    fn authorisation(&self) -> Fact {
        let ours = read_payment_reference(&self.reference);
        let fact = match (self.success, ours, self.money()) {
            (false, _, _) => self.refusal(What::Declined),
            (true, Some((_, capture)), Some(money)) => {
                Fact::new(success(capture)).with_amount(money)
            }
            (true, None, _) => Fact::unknown("other_reference"),
            (true, Some(_), None) => Fact::unknown("no_amount"),
        };
        let fact = fact.of_key().with_provider_ref(&self.psp);
        match ours {
            Some((op_id, _)) => fact.about(op_id),
            None => fact,
        }
    }

    fn change(&self, done: What, failed: What) -> Fact {
        let fact = match (self.success, self.money()) {
            (false, _) => self.refusal(failed),
            // A void, and all of it, has no amount to compare.
            (true, _) if done == What::Voided || self.event == "CANCEL_OR_REFUND" => {
                Fact::new(done)
            }
            (true, Some(money)) => Fact::new(done).with_amount(money),
            (true, None) => Fact::unknown("no_amount"),
        };
        self.of_change(fact)
    }

    /// By the number of the change, our own number of it, and the payment's number.
    fn of_change(&self, fact: Fact) -> Fact {
        let fact = fact.of_key().with_operation_ref(&self.psp);
        let fact = match is_op_id(&self.reference) {
            true => fact.about(&self.reference),
            false => fact,
        };
        if is_ref(&self.original) { fact.with_provider_ref(&self.original) } else { fact }
    }

    /// The reason is not signed, so nobody knows what another account would have said.
    fn refusal(&self, what: What) -> Fact {
        classed(coded(what, format!("{}:false", self.event)))
    }

    fn money(&self) -> Option<interlock_plugin_api::Money> {
        money(Some(self.value), Some(&self.currency))
    }
}

fn classed(fact: Fact) -> Fact {
    Fact { class: Some(Class::Unmapped), advice: Some(Advice::OtherMethod), ..fact }
}

fn signature(item: &Value) -> Option<Vec<u8>> {
    let text = item.get("additionalData")?.get("hmacSignature")?.as_str()?;
    BASE64.decode(text).ok()
}
