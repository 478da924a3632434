//! Stripe (PaymentIntents): cards by stored tokens and by the wallets, under a key that gives
//! every request one execution.
//!
//! A payment is one PaymentIntent, made and confirmed by one request. What was executed under a
//! key is answered to every copy of it, a 500 too: so a copy never charges again, and a 500 stays
//! a doubt that only a look at the intent ends. A challenge (3-D Secure) goes on by our `continue`
//! alone. `payments` builds the requests; `intent`, `answers`, `inquiry` and `notification` read
//! the places where the provider speaks; `codes` says what its words mean.

mod answers;
mod codes;
mod inquiry;
mod intent;
mod notification;
mod payments;

use interlock_plugin_api::{
    Cx, Event, Fact, Fault, Provider, Request, Send, Step, StepResult, TransportLoss,
    export_provider,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payments::{Change, Pays, Settings};

const UNASKED: Fault = Fault::input("this event was not asked for");

/// One account at Stripe.
pub struct Stripe {
    settings: Settings,
}

/// What is kept between two steps. It is journalled, so it holds numbers only, never a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "asked", rename_all = "snake_case")]
pub enum State {
    /// Nothing was sent.
    #[default]
    Begun,
    /// A wallet's token is being exchanged for one of the provider's.
    Token,
    /// The request that may move money is on the wire.
    Move,
    /// The intent of this number is asked for; `found` when a search named it.
    Intent {
        /// The provider's number.
        id: String,
        /// It was found by our number.
        found: bool,
    },
    /// Intents with our number are searched.
    Search,
    /// This refund is asked for.
    Refund {
        /// The provider's number.
        id: String,
    },
    /// The refunds of a payment are listed; so many pages were read.
    Refunds {
        /// Pages.
        pages: u32,
    },
}

impl Provider for Stripe {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &Value) -> Result<Self, Fault> {
        Settings::read(config).map(|settings| Self { settings })
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => match payments::pays(&self.settings, r)? {
                Pays::Token(form) => Ok(send(payments::tokenize(r, form)?, State::Token)),
                Pays::With(source) => {
                    Ok(send(payments::create(&self.settings, r, &source)?, State::Move))
                }
            },
            (State::Token, e) => match answered(e)? {
                Err(lost) => Ok(Step::done(lost)),
                Ok(status) => match answers::token(status, cx.body) {
                    Ok(source) => {
                        Ok(send(payments::create(&self.settings, r, &source)?, State::Move))
                    }
                    Err(why) => Ok(Step::done(*why)),
                },
            },
            (State::Move, e) => said(e, |status| answers::paid(status, cx.body, r)),
            _ => Err(UNASKED),
        }
    }

    /// The shopper came back. What he brought is not needed: the intent knows whether he passed.
    fn resume(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        one_request(s, e, || payments::confirm(r), |status| answers::paid(status, cx.body, r))
    }

    fn capture(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let build = || payments::change(Change::Capture, r);
        one_request(s, e, build, |status| answers::changed(Change::Capture, status, cx.body, r))
    }

    fn void(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let build = || payments::change(Change::Cancel, r);
        one_request(s, e, build, |status| answers::changed(Change::Cancel, status, cx.body, r))
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        one_request(s, e, || payments::refund(r), |status| answers::refunded(status, cx.body, r))
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

    fn probe(&self, cx: &Cx<'_>, s: State, e: &Event) -> StepResult<Self> {
        inquiry::probe(cx, s, e)
    }
}

fn send((send, body): (Send, Vec<u8>), state: State) -> Step<State> {
    Step::send(send, body, state)
}

/// An operation of one request that may move money.
fn one_request(
    s: State,
    e: &Event,
    build: impl FnOnce() -> Result<(Send, Vec<u8>), Fault>,
    read: impl FnOnce(u16) -> Fact,
) -> StepResult<Stripe> {
    match (s, e) {
        (State::Begun, Event::Start) => Ok(send(build()?, State::Move)),
        (State::Move, e) => said(e, read),
        _ => Err(UNASKED),
    }
}

fn said(e: &Event, read: impl FnOnce(u16) -> Fact) -> StepResult<Stripe> {
    Ok(Step::done(match answered(e)? {
        Ok(status) => read(status),
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
        Event::Start | Event::Notification { .. } | Event::Piece { .. } => Err(UNASKED),
    }
}

export_provider!(Stripe);
