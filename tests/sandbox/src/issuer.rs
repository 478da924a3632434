//! The card issuer behind all card processors of one sandbox.
//!
//! A cryptogram is good once, whichever processor brings it: the issuer keeps a digest of every one
//! that reached it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{SHA256, digest};

const SPENT_LIMIT: usize = 4_000_000;

/// A digest of a cryptogram, by which it is known again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cryptogram([u8; 32]);

impl Cryptogram {
    /// The digest of `text`, or `None` when there is no cryptogram.
    pub fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        (!text.is_empty()).then_some(Self(bytes))
    }
}

/// The issuer.
#[derive(Default)]
pub struct Issuer {
    spent: Mutex<HashSet<Cryptogram>>,
}

impl Issuer {
    /// Takes a cryptogram; answers whether it had not been used before.
    pub fn spend(&self, cryptogram: &Cryptogram) -> bool {
        self.spent().insert(cryptogram.clone())
    }

    /// Whether there is no room for another cryptogram.
    pub fn is_full(&self) -> bool {
        self.spent().len() >= SPENT_LIMIT
    }

    /// Forgets which cryptograms were used.
    pub fn reset(&self) {
        self.spent().clear();
    }

    fn spent(&self) -> MutexGuard<'_, HashSet<Cryptogram>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
