//! The engine seen from outside: transitions, rules, and the unsafe rules that it does not use.
//!
//! `table` makes policies and worlds, `desk` walks one payment by hand. What no hand would think of
//! is the simulator's and the model's (`tests/simulation`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod desk;
mod table;

mod carried;
mod confirm;
mod explaining;
mod failover;
mod giving_back;
mod learning;
mod mutants;
mod notices;
mod offers;
mod operations;
mod orders;
mod portal;
mod restarts;
mod restored;
mod rules;
mod transitions;
