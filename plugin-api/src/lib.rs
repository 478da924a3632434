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
//!
//! A whole provider that charges a token and asks what became of it:
//!
//! ```
//! use interlock_plugin_api::{
//!     Class, Credential, Cx, Event, Fact, Fault, Provider, Request, Send, Sent, StepResult, What,
//!     exchange, export_provider,
//! };
//!
//! struct Example;
//!
//! impl Provider for Example {
//!     type State = Sent;
//!     const MANIFEST: &'static str = r#"{
//!         "schema": 1, "id": "example", "version": "1.0.0", "name": "Example",
//!         "kind": "processor", "currencies": { "EUR": 2 }, "state_version": 1,
//!         "methods": [{ "type": "card", "flow": "token", "credential": "account_token",
//!                       "capture": ["automatic"], "acts": "never" }],
//!         "operations": ["authorize", "inquire"],
//!         "hosts": { "api": "https://api.example.com" }, "secrets": { "key": "header" },
//!         "contract": {
//!             "sends": [
//!                 { "purpose": "pay", "method": "POST", "path": "/payments", "effect": "move" },
//!                 { "purpose": "ask", "method": "GET", "path": "/payments", "effect": "read" }],
//!             "moves": { "pay": { "class": "strong", "key_life_ms": 86400000 } },
//!             "inquiry": { "by_our_reference": true }
//!         }
//!     }"#;
//!
//!     fn open(_: &serde_json::Value) -> Result<Self, Fault> {
//!         Ok(Self)
//!     }
//!
//!     fn authorize(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
//!         let build = || {
//!             let Some(Credential::AccountToken { token }) = &r.credential else {
//!                 return Err(Fault::input("a payment needs an account_token"));
//!             };
//!             // The digits that were given: they are the provider's minor units already.
//!             let body = format!(
//!                 r#"{{"token":"{token}","amount":{},"reference":"{}"}}"#,
//!                 r.amount.amount, r.op_id
//!             );
//!             let send = Send::to("POST", "api", "/payments")
//!                 .header("authorization", "Bearer {secret:key}")
//!                 .header("idempotency-key", &r.op_id);
//!             Ok((send, body.into_bytes()))
//!         };
//!         exchange(cx, s, e, build, said)
//!     }
//!
//!     fn inquire(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
//!         let ours = r.original.as_ref().map_or("", |original| &original.op_id);
//!         let ask = Send::to("GET", "api", "/payments").query("reference", ours);
//!         exchange(cx, s, e, || Ok((ask, Vec::new())), said)
//!     }
//! }
//!
//! /// What the documentation of the provider says, and nothing that it does not say.
//! fn said(status: u16, body: &[u8]) -> Fact {
//!     match (status, body) {
//!         (200, br#"{"state":"paid"}"#) => Fact::new(What::Captured),
//!         (402, _) => Fact::declined(Class::DeclinedSoft, "402"),
//!         _ => Fact::unanswered(status),
//!     }
//! }
//!
//! export_provider!(Example);
//!
//! assert_eq!(said(503, b"").what, What::Unknown);
//! assert!(interlock_plugin_api::Manifest::parse(Example::MANIFEST.as_bytes()).is_ok());
//! ```

pub mod abi;
mod contract;
mod exchange;
mod fact;
mod manifest;
mod money;
mod provider;
mod statement;
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
    Acts, CaptureMode, CredentialForm, FieldSchema, Keyring, Kind, Manifest, ManifestError,
    MethodSupport, SecretKind, TokenGrant,
};
pub use money::{Currency, Money, MoneyError, convert_units, format_units, parse_units};
pub use provider::{Cx, Fault, FaultKind, Host, HostError, Provider, Sealed, Step, StepResult};
pub use statement::{
    Covers, LineKind, LineState, Packing, Period, StatementFile, StatementLine, StatementPart,
};
pub use step::{
    Ack, Credential, Customer, Details, Done, Envelope, Event, Next, Opened, Operation, Original,
    ProviderKey, Request, STEPS_MAX, Send, SessionRequest, TransportLoss, WantedKeys,
};
