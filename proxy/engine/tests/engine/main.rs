//! The engine seen from outside: transitions, rules, mutants, and a random walk with a ledger.
//!
//! `table` makes policies and worlds, `desk` walks one payment by hand, and `walk` lets thousands
//! of them run against fake providers (`ledger`) over a bad network, where only the providers'
//! books and what the merchant was told first are believed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod desk;
mod jobs;
mod ledger;
mod nodes;
mod table;

mod failover;
mod giving_back;
mod learning;
mod mutants;
mod notices;
mod operations;
mod orders;
mod restarts;
mod rules;
mod transitions;
mod walk;
