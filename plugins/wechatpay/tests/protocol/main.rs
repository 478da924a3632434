//! The plugin against a peer that speaks APIv3: requests to the byte, every code and state, and
//! what must stay in doubt.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod bills;
mod codes;
mod damage;
mod doubts;
mod fund_flows;
mod keys;
mod notifications;
mod peer;
mod requests;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;
