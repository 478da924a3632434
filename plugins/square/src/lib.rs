//! Square for Interlock: cards by the tokens of its Web Payments SDK and by its stored cards.
//!
//! Square's idempotency key stands in the body, remembers a success, and is the only name by which
//! a payment can be ended that never answered: cancelling by key succeeds whether it found one or
//! not. There is no look-up by our number.

mod answers;
mod notification;
mod provider;

use interlock_plugin_api::export_provider;

export_provider!(provider::Square);
