//! Checkout.com: cards by network token or by its own stored tokens, with a remembered success.
//!
//! The provider keeps an idempotency key only when its answer was 2xx, so anything else that comes
//! back is an unknown outcome, and a payment is resolved by asking, never by guessing. The
//! manifest declares exactly that much. `payments` builds the requests; `answers`, `inquiry` and
//! `notification` read the places where the provider speaks; `codes` says what its words mean.

mod answers;
mod codes;
mod inquiry;
mod notification;
mod payments;

use interlock_plugin_api::{
    Cx, Event, Fact, Fault, Provider, Request, Step, StepResult, TransportLoss, export_provider,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payments::{Change, Settings, is_ref};

/// One account at Checkout.com.
pub struct Checkout {
    settings: Settings,
}

/// What is kept between two steps: where an inquiry stands, in the provider's numbers and ours.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    #[serde(flatten)]
    asked: inquiry::Asked,
}

impl Provider for Checkout {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &Value) -> Result<Self, Fault> {
        let field = |name: &str| config.get(name).filter(|value| !value.is_null());
        if !(config.is_object() || config.is_null()) {
            return Err(Fault::config("the configuration is not an object"));
        }
        let processing_channel_id = match field("processing_channel_id") {
            None => None,
            Some(Value::String(id)) if id.starts_with("pc_") && is_ref(id) => Some(id.clone()),
            Some(_) => return Err(Fault::config("`processing_channel_id` must be pc_...")),
        };
        let three_d_secure = match field("three_d_secure") {
            None => false,
            Some(Value::Bool(asked)) => *asked,
            Some(_) => return Err(Fault::config("`three_d_secure` must be true or false")),
        };
        Ok(Self { settings: Settings { processing_channel_id, three_d_secure } })
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        if matches!(e, Event::Start) {
            let (send, body) = payments::create(&self.settings, r)?;
            return Ok(Step::send(send, body, State::default()));
        }
        Ok(Step::done(match answered(e)? {
            Ok(status) => answers::read_created(status, cx.body, r),
            Err(lost) => lost,
        }))
    }

    fn capture(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        change(Change::Capture, cx, r, e)
    }

    fn void(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        change(Change::Void, cx, r, e)
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        change(Change::Refund, cx, r, e)
    }

    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        inquiry::payment(cx.body, r, s, e)
    }

    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        inquiry::operation(cx.body, r, s, e)
    }

    fn parse_notification(&self, cx: &Cx<'_>, _: State, e: &Event) -> StepResult<Self> {
        notification::read(cx, e)
    }

    fn probe(&self, cx: &Cx<'_>, _: State, e: &Event) -> StepResult<Self> {
        inquiry::probe(cx, e)
    }
}

fn change(change: Change, cx: &Cx<'_>, r: &Request, e: &Event) -> StepResult<Checkout> {
    if matches!(e, Event::Start) {
        let (send, body) = payments::change(change, r)?;
        return Ok(Step::send(send, body, State::default()));
    }
    Ok(Step::done(match answered(e)? {
        Ok(status) => answers::read_changed(status, cx.body, r),
        Err(lost) => lost,
    }))
}

/// The status of the answer, or what is to be said when none came: nothing about the money,
/// because what the socket proved is the host's to know.
fn answered(e: &Event) -> Result<Result<u16, Fact>, Fault> {
    match e {
        Event::Response { status, .. } => Ok(Ok(*status)),
        Event::Transport { outcome, .. } => Ok(Err(Fact::unknown(match outcome {
            TransportLoss::NotSent => "not_sent",
            TransportLoss::MaybeSent => "no_answer",
        }))),
        Event::Start | Event::Notification { .. } | Event::Piece { .. } => {
            Err(Fault::input("the operation waits for an answer"))
        }
    }
}

export_provider!(Checkout);
