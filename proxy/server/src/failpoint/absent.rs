//! The places in an ordinary build: nothing at all.

use std::sync::Arc;

use interlock_engine::Input;
use interlock_journal::{Options, Store};

use super::Side;
use crate::front_door::Request;

/// A place with a name of its own.
#[inline(always)]
pub fn pass(_point: &str, _side: Side) {}

/// The commit of a decision about this input.
#[inline(always)]
pub fn commit(_input: &Input, _side: Side) {}

/// What a future sends and hears belongs to this kind of call.
#[inline(always)]
pub fn during<F: Future>(_call: &'static str, future: F) -> F {
    future
}

/// The bytes of a request to a provider.
#[inline(always)]
pub fn send(_side: Side) {}

/// The reading of a provider's whole answer by its plugin.
#[inline(always)]
pub fn answer(_side: Side) {}

/// What is believed of an input.
#[inline(always)]
pub fn heard_of(input: Input) -> Input {
    input
}

/// The journal's disk.
#[inline(always)]
pub fn over_disk(options: Options) -> Options {
    options
}

/// The journal.
#[inline(always)]
pub fn over_store(store: Arc<dyn Store>) -> Arc<dyn Store> {
    store
}

/// The answer to a request of the street.
pub struct Told;

impl Told {
    /// The answer to this request.
    #[inline(always)]
    pub fn to(_request: &Request) -> Self {
        Self
    }

    /// It is being written.
    #[inline(always)]
    pub fn pass(&self, _side: Side) {}
}
