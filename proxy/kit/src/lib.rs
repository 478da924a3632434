//! The plugin author's kit: starts a plugin, judges it, and says what a defect does to money.
//!
//! The kit sees a plugin as the proxy does: a library behind the C ABI. What it knows of the
//! provider it learns from the plugin's own manifest and from its *fixtures*, worked examples of
//! what is asked, what is sent, what is answered and what that says ([`fixture`]). Each check
//! ([`checks`]) takes these examples and changes one thing: an amount, a status, a word of an
//! answer, a byte of a signature. It runs in a process of its own ([`child`]), so a plugin that
//! crashes, hangs or exits is a finding like any other. [`examine`] runs them all and gives a
//! [`Report`]; [`scaffold`] writes the folder that an author begins with.

mod account;
mod asking;
pub mod checks;
pub mod child;
mod examine;
pub mod fixture;
mod folder;
pub mod recording;
mod report;
pub mod scaffold;
mod subject;

pub use account::{Account, AccountError};
pub use asking::{Asked, Asking, OP_ID};
pub use examine::{ExamineError, Options, Program, examine, update};
pub use folder::{Folder, FolderError};
pub use report::{Finding, Outcome, Report, Ruled};
