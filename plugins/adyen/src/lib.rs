//! Adyen Checkout: cards by network token, by its own stored tokens and by wallets' blobs, under a
//! key that gives every request one execution.
//!
//! There is no inquiry. What became of a request is told by its answer, by the answer to the same
//! request under the same key, or by a signed notification, and captures, voids and refunds are
//! only ever accepted by their answer. The manifest declares exactly that much. `payments` builds
//! the requests; `answers` and `notification` read the two places where the provider speaks;
//! `codes` says what its words mean.

mod answers;
mod codes;
mod notification;
mod payments;

use interlock_plugin_api::{
    Cx, Event, Fact, Fault, Provider, Request, Send, Step, StepResult, TransportLoss,
    export_provider,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payments::{Change, Settings};

/// One merchant account at Adyen.
pub struct Adyen {
    settings: Settings,
}

/// Nothing is kept between two steps: each operation is one request.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {}

impl Provider for Adyen {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &Value) -> Result<Self, Fault> {
        Settings::read(config).map(|settings| Self { settings })
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        one_request(e, || payments::create(&self.settings, r), || answers::read_paid(cx.body, r, e))
    }

    fn resume(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        one_request(e, || payments::details(r), || answers::read_paid(cx.body, r, e))
    }

    fn capture(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        self.change(Change::Capture, cx, r, e)
    }

    fn void(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        self.change(Change::Cancel, cx, r, e)
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, _: State, e: &Event) -> StepResult<Self> {
        self.change(Change::of_refund(r)?, cx, r, e)
    }

    fn parse_notification(&self, cx: &Cx<'_>, _: State, e: &Event) -> StepResult<Self> {
        notification::read(&self.settings.merchant_account, cx, e)
    }
}

impl Adyen {
    fn change(&self, change: Change, cx: &Cx<'_>, r: &Request, e: &Event) -> StepResult<Self> {
        let build = || payments::change(&self.settings, change, r);
        one_request(e, build, || answers::read_accepted(cx.body, r, e))
    }
}

/// An operation of one request: built at the start, read when it was answered.
fn one_request(
    e: &Event,
    build: impl FnOnce() -> Result<(Send, Vec<u8>), Fault>,
    read: impl FnOnce() -> Fact,
) -> StepResult<Adyen> {
    match e {
        Event::Start => build().map(|(send, body)| Step::send(send, body, State::default())),
        Event::Response { .. } => Ok(Step::done(read())),
        // What the socket proved is the host's to know.
        Event::Transport { outcome, .. } => Ok(Step::done(Fact::unknown(match outcome {
            TransportLoss::NotSent => "not_sent",
            TransportLoss::MaybeSent => "no_answer",
        }))),
        _ => Err(Fault::input("the operation waits for an answer")),
    }
}

export_provider!(Adyen);
