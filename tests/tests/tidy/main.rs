//! The rules of the house, executed: who may import whom, and what no file may hold.
//!
//! Each rule is a list of data and a function from a file to its complaints, so that every rule
//! is also shown a file that breaks it. A complaint names file and line and says how to mend it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod arrows;
mod code;
mod papers;
mod rooms;
mod source;
mod tree;

/// What a rule found: `path:line: what is wrong; how to mend it`.
type Complaints = Vec<String>;

fn nothing_of(complaints: Complaints) {
    let count = complaints.len();
    assert!(count == 0, "{count} complaints:\n  {}\n", complaints.join("\n  "));
}
