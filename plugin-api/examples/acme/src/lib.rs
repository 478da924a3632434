//! Acme Pay for Interlock: payments by stored card, two-step capture, refunds, and a look-up by our
//! number.
//!
//! The protocol is an invented one, with what many providers have in common: JSON, amounts in minor
//! units, an idempotency key in a header, our number as `reference` in every object. Replace it by
//! your provider's, one operation after another; `interlock plugin test` says what is missing.

mod answers;
mod notification; // for: parse_notification
mod provider;

use interlock_plugin_api::export_provider;

export_provider!(provider::Acme);
