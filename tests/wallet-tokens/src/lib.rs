//! Makes the payment tokens of wallets, good and bad, as the wallets' own documents describe them.
//!
//! It imports nothing of ours: it is the other side. Authorities and keys are made here, for tests
//! alone; a plugin trusts them only where its account names them as its roots.

pub mod apple;
mod der;
pub mod google;
mod seeded;

pub use seeded::Seeded;
