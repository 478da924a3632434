//! The model: the engine's own payments and decisions, two providers, one or two nodes and a bad
//! network, searched whole.
//!
//! A state is a durable [`interlock_engine::Payment`], the providers' books, what is on the wire
//! and what each node has in memory; a step calls the engine's own `decide`. Whatever may happen is
//! tried, within a stated number of faults and moves of the clock. What must hold is asked of the
//! providers' books and of what the merchant was told, never of the engine.

mod calm;
mod chance;
mod desk;
mod digest;
#[cfg(interlock_mutants)]
mod hunt;
mod node;
mod oracle;
mod possible;
mod search;
mod sights;
mod state;
mod step;
mod story;
mod street;
mod turn;
mod worlds;

#[cfg(interlock_mutants)]
pub use hunt::{Hunt, hunt};
pub use search::{Explored, Level, Searched, Size, explore, search};
pub use worlds::World;
