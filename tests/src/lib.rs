//! The house seen from the street: what every journey needs to stand before the real binary.

pub mod canaries;
pub mod hook;
pub mod house;
pub mod ledger;
pub mod mutator;
pub mod pki;
pub mod raw;
pub mod recorder;
pub mod report;
