//! The SQLite store under test: the common suite, and what only a store on a disk can suffer.

#![allow(clippy::unwrap_used, clippy::panic)] // a test says "this cannot fail" by failing

mod corruption;
mod crash;
mod disk_full;
mod failed_sync;
mod ground;
mod kernel_fault;
mod model;
mod opening;
mod waiting;

use interlock_journal::conformance::suite;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sqlite_store_passes_the_suite() {
    suite(&ground::Directories::default()).await;
}
