//! The journal keeps what happened to every payment, and answers only when it is on the disk.
//!
//! It stores bytes and a few narrow rows that find them again; it decides nothing about money. The
//! engine decides, the driver asks [`Store::commit`] to make the decision durable, and only then
//! may anything be sent or said. Safety rests on one comparison: a payment's `ver` goes up by one
//! and the loser of a race gets [`Committed::Conflict`], reloads, and decides again.
//!
//! * [`Store`] is the contract and its nouns.
//! * [`SqliteStore`] is one node's store: a directory, one writer, group commit.
//! * `conformance` (a feature) is the suite that every store must pass.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "conformance")]
pub mod conformance;
mod sqlite;
mod store;

pub use sqlite::{Medium, Moment, OpenError, Options, RealDisk, SqliteStore};
pub use store::{
    Answer, CaseQuery, CaseRow, Cases, Committed, Cursor, Delivery, Due, EventRow, Health, KeyRow,
    ListQuery, Message, MessageQuery, Messages, NoticeRow, OrderChange, OutboxRow, Page,
    PaymentRow, Purpose, Reference, Stats, Store, StoreError, Told, Write,
};
