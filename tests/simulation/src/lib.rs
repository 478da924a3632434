//! The proof of the engine: a model that is searched whole, and a seeded simulator of everything
//! around it.

pub mod declarations;
pub mod dice;
pub mod model;
#[cfg(interlock_mutants)]
pub mod mutants;
mod operator;
pub mod provider;
mod rest;
pub mod simulate;
pub mod store;
pub mod world;
