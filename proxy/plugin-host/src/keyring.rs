//! Public keys of a provider that were fetched from it: kept here, used by name, never asked for
//! by this room.
//!
//! A step that names a key which is not here verifies nothing, and the key is noted beside what the
//! step gave. Whoever runs the step fetches it and runs the step again: a step is pure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use interlock_plugin_api::Manifest;

use super::keys;

/// A ring holds at most so many keys; the ones that were put first make room.
const KEYS_MAX: usize = 64;
/// An id is not longer, bytes.
const ID_BYTES_MAX: usize = 128;

thread_local! {
    /// What the step that runs on this thread has missed.
    static MISSED: RefCell<Option<MissingKey>> = const { RefCell::new(None) };
}

/// A key that a step named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKey {
    /// The ring.
    pub ring: String,
    /// The key's id.
    pub id: String,
    /// It is there, and old enough to be fetched again.
    pub stale: bool,
}

/// A public key that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedKey {
    /// PKCS#1 DER.
    rsa: Vec<u8>,
    /// Good until then, Unix ms; for ever without it.
    pub until_ms: Option<i64>,
}

impl FetchedKey {
    /// Reads a certificate or a bare public key, PEM, one block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(pem: &str) -> Result<Self, &'static str> {
        let (rsa, until_ms) = keys::public_of(pem)?;
        Ok(Self { rsa, until_ms })
    }

    /// Reads an X.509 certificate, DER.
    ///
    /// # Errors
    /// As [`FetchedKey::read`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, &'static str> {
        let (rsa, until_ms) = keys::public_of_certificate(der)?;
        Ok(Self { rsa, until_ms })
    }
}

/// The keyrings of one account.
#[derive(Debug, Default)]
pub struct Keyrings {
    rings: BTreeMap<String, Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    refresh: Duration,
    keys: BTreeMap<String, Held>,
    serial: u64,
}

#[derive(Debug)]
struct Held {
    key: FetchedKey,
    since: Instant,
    serial: u64,
}

impl Keyrings {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let empty = |refresh_ms| {
            let refresh = Duration::from_millis(refresh_ms);
            Mutex::new(Ring { refresh, keys: BTreeMap::new(), serial: 0 })
        };
        let rings = manifest.keyrings.iter();
        Self { rings: rings.map(|(name, r)| (name.clone(), empty(r.refresh_ms))).collect() }
    }

    /// Puts a key into a ring, in the place of an earlier one of the same id. False where there is
    /// no such ring, or the id is none.
    pub fn put(&self, ring: &str, id: &str, key: FetchedKey) -> bool {
        let Some(mut ring) = self.rings.get(ring).map(lock) else { return false };
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains('/') {
            return false;
        }
        if ring.keys.len() >= KEYS_MAX && !ring.keys.contains_key(id) {
            let oldest = ring.keys.iter().min_by_key(|(_, held)| held.serial);
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.map(|id| ring.keys.remove(&id));
        }
        ring.serial += 1;
        let held = Held { key, since: Instant::now(), serial: ring.serial };
        ring.keys.insert(id.to_owned(), held);
        true
    }

    /// Whether a key is there and good.
    pub fn has(&self, ring: &str, id: &str) -> bool {
        self.rings.get(ring).map(lock).is_some_and(|ring| ring.get(id).is_some())
    }

    /// What `verify` does with a key of a ring, named `RING/ID`. `None` where no ring is meant; a
    /// key that is not there is noted, and is a key that verifies nothing.
    pub(super) fn verify(&self, name: &str, with: impl FnOnce(&[u8]) -> bool) -> Option<bool> {
        let (ring, id) = name.split_once('/')?;
        let held = lock(self.rings.get(ring)?);
        let found = held.get(id);
        let stale = found.is_some_and(|found| found.since.elapsed() >= held.refresh);
        if found.is_none() || stale {
            let missing = MissingKey { ring: ring.into(), id: id.into(), stale };
            MISSED.with_borrow_mut(|missed| *missed = Some(missing));
        }
        Some(found.is_some_and(|found| with(&found.key.rsa)))
    }
}

impl Ring {
    fn get(&self, id: &str) -> Option<&Held> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let good = |held: &&Held| held.key.until_ms.is_none_or(|until| now_ms < until);
        self.keys.get(id).filter(good)
    }
}

/// Forgets what an earlier step on this thread has missed.
pub(super) fn begin() {
    MISSED.with_borrow_mut(|missed| *missed = None);
}

/// The key that the step on this thread has missed, if any.
pub(super) fn missed() -> Option<MissingKey> {
    MISSED.with_borrow_mut(Option::take)
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_there_verifies_nothing_and_is_noted() {
        let rings = rings(60_000);
        begin();
        assert_eq!(rings.verify("theirs/A1", |_| true), Some(false));
        let missing = MissingKey { ring: "theirs".into(), id: "A1".into(), stale: false };
        assert_eq!(missed(), Some(missing));
        assert!(rings.put("theirs", "A1", key(None)));
        assert_eq!(rings.verify("theirs/A1", |rsa| rsa == [1]), Some(true));
        assert_eq!((missed(), rings.has("theirs", "A1")), (None, true));
        // What names no ring is a secret's name.
        assert_eq!(rings.verify("theirs", |_| true), None);
        assert_eq!(rings.verify("ours/A1", |_| true), None);
    }

    #[test]
    fn an_old_key_is_good_and_wanted_anew_and_a_key_after_its_end_is_not() {
        let rings = rings(0);
        rings.put("theirs", "A1", key(None));
        assert_eq!(rings.verify("theirs/A1", |_| true), Some(true));
        assert!(missed().unwrap().stale);
        rings.put("theirs", "A1", key(Some(1)));
        assert_eq!(rings.verify("theirs/A1", |_| true), Some(false));
        assert!(!missed().unwrap().stale && !rings.has("theirs", "A1"));
    }

    #[test]
    fn a_ring_is_bounded_and_takes_no_id_that_is_none() {
        let rings = rings(60_000);
        for n in 0..=KEYS_MAX {
            assert!(rings.put("theirs", &format!("k{n}"), key(None)));
        }
        assert!(!rings.has("theirs", "k0") && rings.has("theirs", "k1"));
        for id in ["", "a/b", &"x".repeat(200)] {
            assert!(!rings.put("theirs", id, key(None)), "{id}");
        }
        assert!(!rings.put("ours", "k", key(None)));
    }

    fn key(until_ms: Option<i64>) -> FetchedKey {
        FetchedKey { rsa: vec![1], until_ms }
    }

    fn rings(refresh_ms: u64) -> Keyrings {
        let refresh = Duration::from_millis(refresh_ms);
        let ring = Ring { refresh, keys: BTreeMap::new(), serial: 0 };
        Keyrings { rings: BTreeMap::from([("theirs".to_owned(), Mutex::new(ring))]) }
    }
}
