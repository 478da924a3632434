//! Every decision about money and routing; pure: no clock, no randomness, no IO.
//!
//! [`decide`] is the one door: a payment as it is stored, one thing that happened, and the world
//! as it is, give the payment's next version and what may be done once that version is durable.
//! The same inputs give the same decision on any node and in any replay. Safety rests on nothing
//! but this and the compare-and-swap of the payment's `ver`: no lock, no lease.
//!
//! A reader walks one payment through [`mod@intake`] (who is tried), `answers` (what came in, and
//! from where), `attempts` and `operations` (what it means), `learn` (money was taken), `undone`
//! and `outside` (it is gone again), `resolve`, `closing` and `operation_doubts` (what to do about
//! a doubt), `restored` and `statement` (the journal is a backup), `give_back` (what must not be
//! kept), `requests` (what the merchant and the operator want) and [`status`] (what the merchant is
//! told). [`offers`] says what can be paid with now. `definite` holds the rules of when a "no" may
//! be believed; `payment`, `operation` and `exchange` are what is stored. [`mod@explain`] asks
//! `route` for those who wonder, and changes nothing. [`gates`] is the only room with memory of its
//! own: breakers, limiters and budgets, on the clock that it is given.

mod answers;
mod attempts;
pub mod classify;
mod closing;
mod confirm;
mod decision;
mod definite;
mod exchange;
pub mod explain;
pub mod gates;
mod give_back;
mod input;
pub mod intake;
mod learn;
#[cfg(interlock_mutants)]
pub mod mutant;
#[cfg(not(interlock_mutants))]
mod mutant;
pub mod offers;
mod operation;
mod operation_doubts;
mod operations;
mod outside;
mod payment;
mod policy;
mod refusal;
mod requests;
mod resolve;
pub mod restored;
pub mod route;
mod stamp;
mod statement;
pub mod status;
mod turn;
mod undone;
mod world;

pub use decision::{Decision, Effect, Entry, OrderStep, Outcome};
pub use exchange::{Exchange, ExchangeKind, Reply, Track};
pub use input::{
    Again, Asked, Call, Draft, Hand, Input, Line, Prepared, Request, Sent, Statement, Subject,
    Submission, Verdict,
};
pub use operation::{Operation, OperationState, Origin};
pub use payment::{
    Attempt, AttemptState, CloseReason, FailReason, Method, Offer, Payment, Settled, Unconfirmed,
};
pub use policy::{
    AccountPolicy, Candidate, CurrencyRule, Failover, Ladder, MerchantPolicy, Policy, RouteMatch,
    RoutePolicy, Strategy, TIMEOUT_MAX_MS,
};
pub use refusal::{Refusal, Skip, Skips};
pub use stamp::Stamp;
pub use world::{Health, Mint, OrderHolder, World};

use turn::{Stop, Turn};

/// Decides what one thing that happened means for one payment.
///
/// `payment` is the durable version; `None` only for [`Input::Submitted`]. The hand holds what
/// plugins built for this very decision: when the outcome is [`Outcome::Need`], build that and ask
/// again with the same input and world.
pub fn decide(payment: Option<&Payment>, input: &Input, world: &World<'_>, hand: &Hand) -> Outcome {
    match (payment, input) {
        (None, Input::Submitted(submission)) => intake::submit(submission, world, hand),
        (None, _) | (Some(_), Input::Submitted(_)) => Outcome::Refuse(Refusal::NotFound),
        (Some(payment), input) => {
            let mut turn = Turn::begin(payment, world, hand);
            match turn.apply(input) {
                Ok(()) => turn.finish(payment),
                Err(stop) => stop.into(),
            }
        }
    }
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Need(call) => Outcome::Need(call),
            Stop::Refuse(refusal) => Outcome::Refuse(refusal),
        }
    }
}
