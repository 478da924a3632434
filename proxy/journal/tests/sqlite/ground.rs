//! Stores in directories of their own, and the smallest writes that mean something.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use interlock_journal::conformance::Ground;
use interlock_journal::{Committed, Options, SqliteStore, Store, Write};
use tempfile::TempDir;

/// Gives out each store in a new directory and remembers the last.
#[derive(Default)]
pub struct Directories(Mutex<Option<TempDir>>);

#[async_trait]
impl Ground for Directories {
    async fn empty(&self) -> Arc<dyn Store> {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        *self.0.lock().unwrap() = Some(dir);
        Arc::new(store)
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        let dir = self.0.lock().unwrap();
        Arc::new(open(dir.as_ref().unwrap().path()))
    }
}

/// A store that asks nothing of the machine's real disk.
pub fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, options()).unwrap()
}

pub fn options() -> Options {
    Options { low_water_bytes: 0, reserve_bytes: 1 << 16, ..Options::default() }
}

pub fn payment(id: &str) -> Write {
    version(id, 1)
}

pub fn version(id: &str, next: u64) -> Write {
    Write {
        payment: id.into(),
        merchant: "m".into(),
        expect: next - 1,
        next,
        due_at_ms: Some(1),
        status: "processing".into(),
        currency: "EUR".into(),
        body: format!("{id} {next}").into_bytes(),
        ..Write::default()
    }
}

pub async fn done(store: &dyn Store, write: Write) {
    assert_eq!(store.commit(write).await, Ok(Committed::Done));
}
