//! Places at which a test makes the process die: before and after every durable write, every send
//! and every answer.
//!
//! In an ordinary build all of this is empty: the functions are inlined to nothing and neither a
//! name nor a variable of it is in the binary. Only `interlock-failpoints`, a binary that is built
//! with the feature `failpoints` and never shipped, has the places and knows how to die there; it
//! also has the mutants, three designs that are known to be wrong, because a test of a
//! safety rule must be seen to fail when the rule is broken.
//!
//! The shipped plugins neither go on with a further request of their own nor answer a challenge,
//! so those two kinds of input and exchange have no place here yet.

#[cfg(not(feature = "failpoints"))]
mod absent;
#[cfg(feature = "failpoints")]
pub mod armed;
#[cfg(feature = "failpoints")]
mod mutant;

#[cfg(not(feature = "failpoints"))]
pub use absent::{Told, answer, commit, during, heard_of, over_disk, over_store, pass, send};
#[cfg(feature = "failpoints")]
pub use armed::{Told, answer, commit, during, pass, send};
#[cfg(feature = "failpoints")]
pub use mutant::{heard_of, over_disk, over_store};

/// On which side of what it is named after a place lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it was done.
    Before,
    /// All of it was done, and nobody has been told.
    After,
}
