//! The plugin host against real libraries, good and bad, compiled from C when the tests run.
//!
//! The library is the trust boundary, so nothing here is simulated: files are truncated and
//! flipped, plugins panic, hang and lie over the real C ABI. Deadlines are short, and the waits
//! for them are the only real time in these tests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod stage;

mod beside_their_callers;
mod calls;
mod deadlines;
mod files;
mod generations;
mod pins;
mod services;
