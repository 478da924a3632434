//! The plugin against a peer that speaks PayPal's protocol: requests to the byte, every issue and
//! every status, and what must stay in doubt.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod changes;
mod codes;
mod contract;
mod damage;
mod notifications;
mod orders;
mod peer;
mod reports;
mod requests;
mod statements;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;
#[path = "../../../../tests/src/readers.rs"]
mod readers;
