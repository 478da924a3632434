//! The contract between Interlock and its provider plugins.
//!
//! A plugin is a pure, synchronous translator: bytes in, bytes out. It builds requests in its
//! provider's own protocol and reads the provider's answers; it never opens a socket, reads a
//! clock, sees a key or decides what happens next. The host does all of that, so a plugin can be
//! tested offline, replayed from a journal, and swapped between two steps of one payment.
//!
//! - [`Provider`] is the trait an author implements, [`export_provider!`] makes it a library;
//! - [`Manifest`] says what the provider can do and, in its [`Contract`], what may be believed of
//!   it when an answer is lost: an undeclared capability is the weakest one;
//! - [`Fact`] is the only thing a plugin may say about money;
//! - [`exchange`] is what most operations are: one request and its answer;
//! - [`abi`] is the C form of all this, the same as `include/interlock_plugin.h`.

pub mod abi;
mod contract;
mod exchange;
mod fact;
mod manifest;
mod money;
mod provider;
mod step;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use contract::{
    Close, Concurrency, Contract, ContractError, Effect, IdempotencyClass, Inquiry, LATE_WINDOW_MS,
    MoveRule, NotFound, OfferExpiry, SendRule, Strengthen, Stronger,
};
pub use exchange::{Sent, exchange, is_path_segment};
pub use fact::{Action, Advice, Class, Fact, Scope, What};
pub use manifest::{
    Acts, CaptureMode, CredentialForm, FieldSchema, Kind, Manifest, ManifestError, MethodSupport,
    SecretKind,
};
pub use money::{Currency, Money, MoneyError, convert_units, format_units, parse_units};
pub use provider::{Cx, Fault, FaultKind, Host, HostError, Provider, Step, StepResult};
pub use step::{
    Ack, Credential, Customer, Details, Done, Envelope, Event, Next, Operation, Original, Request,
    STEPS_MAX, Send, TransportLoss,
};
