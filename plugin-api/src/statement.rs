//! The provider's own account of a day: what it took and gave back, line by line.
//!
//! A statement is long, so it comes in parts. A plugin that gets it page by page says `more` and is
//! asked again with its continuation; one that gets a file names the download, which the host makes
//! and checks, and is given the file's content in pieces of whole lines
//! ([`crate::Operation::ReadStatement`]). The same operation reads a file that an operator has.

use serde::{Deserialize, Serialize};

use crate::{Money, Send};

/// Which statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// The provider's own day, `2026-11-29`.
    pub date: String,
}

/// A part of a statement, at most 2,000 lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatementPart {
    /// What it says.
    pub lines: Vec<StatementLine>,
    /// There is more: ask again with the continuation.
    pub more: bool,
    /// What time the whole statement covers, told with the first part at the latest. Only what
    /// happened then can be missed in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covers: Option<Covers>,
    /// The lines are in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<StatementFile>,
}

/// The time that a statement covers: the provider's own day, in its own zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covers {
    /// From this moment on, Unix ms.
    pub from_ms: i64,
    /// Until just before this one, Unix ms.
    pub until_ms: i64,
}

/// A file that holds a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementFile {
    /// How it is got; a `read` of the manifest.
    pub send: Send,
    /// SHA-1 of the content, unpacked, in hexadecimal, where the provider tells it. It finds a
    /// download that is not whole; it protects against nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    /// How it is packed.
    #[serde(default)]
    pub packing: Packing,
}

/// How a file is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// As it is.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// A ZIP archive; its members are read one after the other, in the order of their names.
    Zip,
}

/// One line of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementLine {
    /// What happened.
    pub kind: LineKind,
    /// Whether it is done.
    #[serde(default)]
    pub state: LineState,
    /// When, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
    /// Our number of the payment, as the provider was given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The provider's number of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    /// Of what is done with a payment: our number of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// And the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_ref: Option<String>,
    /// The order's amount, or what was given back, in the provider's minor units; never negative.
    pub amount: Money,
    /// What the provider keeps for itself, in its minor units; negative when it is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<Money>,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// Money came from a shopper.
    Charge,
    /// Money went back to him, by a refund or because the payment was taken back.
    Refund,
    /// The provider or a bank took it back: a chargeback, a reversal.
    Chargeback,
    /// Something else, which moves no shopper's money.
    #[serde(other)]
    Other,
}

/// How far what a line says has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// Money moved.
    #[default]
    Done,
    /// It is not decided.
    Pending,
    /// No money moved.
    Failed,
    /// A word that this build does not know.
    #[serde(other)]
    Unknown,
}
