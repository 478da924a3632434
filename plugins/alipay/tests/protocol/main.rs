//! The plugin against a peer that speaks Alipay's protocol: requests to the byte, every code, and
//! what must stay in doubt.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod bills;
mod codes;
mod damage;
mod doubts;
mod notifications;
mod pages;
mod peer;
mod requests;

#[path = "../../../../tests/src/mutator.rs"]
mod mutator;
#[path = "../../../../tests/src/readers.rs"]
mod readers;
