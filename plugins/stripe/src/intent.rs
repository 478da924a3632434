//! What a PaymentIntent and a refund say, wherever they stand: in an answer, an error, an event.
//!
//! An intent is believed only when its parts agree: the status with the amounts, how it was to be
//! captured, and the charge beside it where it is told. Whatever does not agree is an unknown
//! outcome, never a decline. What an intent says is true of the key that made it, because a key
//! makes one intent.

use std::collections::BTreeMap;

use interlock_plugin_api::{Action, Advice, CaptureMode, Class, Currency, Fact, Money, What};
use serde::Deserialize;
use serde_json::Value;

use crate::codes::{classed, is_word, refusal};
use crate::payments::{ATTEMPT, CAPTURE, REFUND, capture_method, is_intent, is_op_id, is_ref};

/// Longer links are not shown to a shopper.
const LINK_MAX: usize = 4_096;

/// A PaymentIntent.
#[derive(Deserialize)]
pub(crate) struct Intent {
    object: Option<String>,
    pub id: Option<String>,
    pub status: Option<String>,
    amount: Option<i64>,
    amount_capturable: Option<i64>,
    amount_received: Option<i64>,
    currency: Option<String>,
    capture_method: Option<String>,
    confirmation_method: Option<String>,
    cancellation_reason: Option<String>,
    last_payment_error: Option<LastError>,
    next_action: Option<NextAction>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
    /// A charge, its number, or null.
    #[serde(default = "unsaid")]
    latest_charge: Value,
}

#[derive(Deserialize)]
struct LastError {
    code: Option<String>,
    decline_code: Option<String>,
}

#[derive(Deserialize)]
struct NextAction {
    #[serde(rename = "type")]
    kind: Option<String>,
    redirect_to_url: Option<Redirect>,
}

#[derive(Deserialize)]
struct Redirect {
    url: Option<String>,
}

/// The charge of an intent, as far as it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charge {
    /// Only its number stands there, if anything.
    Untold,
    /// Nothing was held or taken.
    None,
    /// The amount is held.
    Held,
    /// The money was taken.
    Taken,
}

impl Intent {
    /// Our number of the payment.
    pub(crate) fn attempt(&self) -> Option<&str> {
        self.number(ATTEMPT)
    }

    /// Our number of its capture.
    pub(crate) fn capture(&self) -> Option<&str> {
        self.number(CAPTURE)
    }

    /// Its number, where it has the form of one.
    pub(crate) fn number_of(&self) -> Option<&str> {
        let whole = self.object.as_deref() == Some("payment_intent");
        self.id.as_deref().filter(|id| whole && is_intent(id))
    }

    /// When its money is taken.
    pub(crate) fn mode(&self) -> Option<CaptureMode> {
        let known = [CaptureMode::Automatic, CaptureMode::Manual];
        let said = self.capture_method.as_deref()?;
        known.into_iter().find(|mode| capture_method(*mode) == said)
    }

    /// What it says of the payment that was to be captured so.
    pub(crate) fn fact(&self, capture: CaptureMode) -> Fact {
        let Some(id) = self.number_of() else { return Fact::unknown("no_payment_id") };
        if self.mode().is_some_and(|mode| mode != capture) {
            return disagreement();
        }
        self.verdict(capture).with_provider_ref(id)
    }

    /// What was taken, if all that is told agrees that it was.
    pub(crate) fn taken(&self) -> Fact {
        let within = self.amount_received.zip(self.amount).is_some_and(|(got, all)| got <= all);
        match money(self.amount_received, self.currency.as_deref()) {
            None => Fact::unknown("no_amount"),
            Some(_) if !within => disagreement(),
            Some(_) if matches!(self.charge(), Charge::None | Charge::Held) => disagreement(),
            Some(money) => Fact::new(What::Captured).with_amount(money),
        }
    }

    /// It ended without taking anything: what was held is let go.
    pub(crate) fn ended(&self) -> Fact {
        let untouched = self.amount_received.is_none_or(|got| got == 0);
        let lapsed = matches!(self.cancellation_reason.as_deref(), Some("automatic" | "abandoned"));
        match self.charge() {
            _ if !untouched => disagreement(),
            Charge::Taken => disagreement(),
            Charge::Held if lapsed => coded(Fact::new(What::Voided), Class::Expired, self.told()),
            Charge::Held => Fact::new(What::Voided),
            Charge::None => {
                Fact::declined(Class::Expired, self.told()).with_advice(Advice::Retry).of_key()
            }
            Charge::Untold => Fact::unknown("canceled_untold"),
        }
    }

    /// The status as the code, where it is a plain word.
    pub(crate) fn told(&self) -> String {
        let status = self.status.as_deref().filter(|status| is_word(status));
        format!("status:{}", status.unwrap_or("unreadable"))
    }

    fn number(&self, name: &str) -> Option<&str> {
        let number = self.metadata.as_ref()?.get(name)?.as_str()?;
        is_op_id(number).then_some(number)
    }

    fn verdict(&self, capture: CaptureMode) -> Fact {
        match self.status.as_deref().unwrap_or_default() {
            "succeeded" => self.taken().of_key(),
            "requires_capture" => self.held(capture),
            "processing" => coded(Fact::new(What::Pending), Class::Unmapped, self.told()),
            "requires_action" => self.action(),
            // Only what waits for us alone goes on by our word.
            "requires_confirmation" if self.confirmation_method.as_deref() == Some("manual") => {
                Fact::new(What::Approved)
            }
            "requires_payment_method" => self.refused(),
            "canceled" => self.ended(),
            _ => Fact::unknown(self.told()),
        }
    }

    fn held(&self, capture: CaptureMode) -> Fact {
        let within = self.amount_capturable.zip(self.amount).is_some_and(|(held, all)| held <= all);
        match money(self.amount_capturable, self.currency.as_deref()) {
            None => Fact::unknown("no_amount"),
            Some(_) if !within || capture != CaptureMode::Manual => disagreement(),
            Some(_) if matches!(self.charge(), Charge::None | Charge::Taken) => disagreement(),
            Some(money) => Fact::new(What::Authorized).with_amount(money).of_key(),
        }
    }

    fn action(&self) -> Fact {
        let Some(action) = &self.next_action else { return Fact::unknown("no_action") };
        let url = action.redirect_to_url.as_ref().and_then(|redirect| redirect.url.as_deref());
        match (action.kind.as_deref(), url) {
            (Some("redirect_to_url"), Some(url)) if is_showable(url) => {
                let payload = serde_json::Map::from_iter([("url".into(), url.into())]);
                let kind = "three_d_secure".into();
                Fact {
                    action: Some(Action { kind, payload, expires_ms: None }),
                    amount: money(self.amount, self.currency.as_deref()),
                    ..Fact::new(What::Action)
                }
            }
            (Some("redirect_to_url"), _) => Fact::unknown("unsafe_redirect"),
            _ => Fact::unknown("unlisted_action"),
        }
    }

    /// The last try failed; without one nothing was tried yet, which says nothing.
    fn refused(&self) -> Fact {
        let Some(error) = &self.last_payment_error else { return Fact::unknown(self.told()) };
        if !self.is_untouched() {
            return disagreement();
        }
        match refusal(error.code.as_deref(), error.decline_code.as_deref()) {
            Some(why) => Fact::declined(why.class, why.code).with_advice(why.advice).of_key(),
            None => Fact::unknown("unlisted_refusal"),
        }
    }

    /// Whether nothing in it says that money is held or taken.
    pub(crate) fn is_untouched(&self) -> bool {
        let nothing = |sum: Option<i64>| sum.is_none_or(|sum| sum == 0);
        nothing(self.amount_received)
            && nothing(self.amount_capturable)
            && !matches!(self.charge(), Charge::Held | Charge::Taken)
    }

    fn charge(&self) -> Charge {
        if self.latest_charge.is_null() {
            return Charge::None;
        }
        let word = |name: &str| self.latest_charge.get(name).and_then(Value::as_str);
        let captured = self.latest_charge.get("captured").and_then(Value::as_bool);
        match (word("status"), captured) {
            (Some("failed"), Some(false) | None) => Charge::None,
            (Some("succeeded"), Some(true)) => Charge::Taken,
            (Some("succeeded"), Some(false)) => Charge::Held,
            _ => Charge::Untold,
        }
    }
}

/// Nothing is said of a charge, not even that there is none.
fn unsaid() -> Value {
    Value::Bool(false)
}

/// A refund.
#[derive(Deserialize)]
pub(crate) struct Refund {
    object: Option<String>,
    id: Option<String>,
    status: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
    pub payment_intent: Option<String>,
    failure_reason: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
}

impl Refund {
    /// Our number of it.
    pub(crate) fn ours(&self) -> Option<&str> {
        let number = self.metadata.as_ref()?.get(REFUND)?.as_str()?;
        is_op_id(number).then_some(number)
    }

    /// Its number, where it has the form of one.
    pub(crate) fn number(&self) -> Option<&str> {
        let whole = self.object.as_deref() == Some("refund");
        let refund = |id: &&str| is_ref(id, "re_") || is_ref(id, "pyr_");
        self.id.as_deref().filter(|id| whole && refund(id))
    }

    /// What it says.
    pub(crate) fn fact(&self) -> Fact {
        let Some(id) = self.number() else { return Fact::unknown("no_refund_id") };
        self.verdict().with_operation_ref(id)
    }

    fn verdict(&self) -> Fact {
        let money = money(self.amount, self.currency.as_deref());
        match self.status.as_deref().unwrap_or_default() {
            "succeeded" => match money {
                Some(_) if self.failure_reason.is_some() => disagreement(),
                Some(money) => Fact::new(What::Refunded).with_amount(money).of_key(),
                None => Fact::unknown("no_amount"),
            },
            "pending" | "requires_action" => Fact::new(What::Pending),
            "failed" => {
                let why = self.failure_reason.as_deref().filter(|why| is_word(why));
                self.failed(why.unwrap_or("failed"))
            }
            "canceled" => self.failed("canceled"),
            _ => Fact::unknown("unlisted_status"),
        }
    }

    fn failed(&self, why: &str) -> Fact {
        let fact = Fact::new(What::Failed).of_key().with_advice(Advice::OtherMethod);
        coded(fact, Class::DeclinedHard, format!("refund:{why}"))
    }
}

/// The parts of an answer contradict each other.
pub(crate) fn disagreement() -> Fact {
    Fact::unknown("disagreement")
}

pub(crate) fn coded(fact: Fact, class: Class, code: impl Into<String>) -> Fact {
    Fact { provider_code: Some(code.into()), ..classed(fact, class) }
}

/// The amount and the currency of a success; a success without them can't be compared with ours.
fn money(amount: Option<i64>, currency: Option<&str>) -> Option<Money> {
    let currency = Currency::parse(currency?)?;
    amount.filter(|amount| *amount > 0).map(|amount| Money::new(amount, currency))
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
