//! The checkpoint thread: it carries the log into the database while the writer goes on.
//!
//! It copies on a connection of its own and never stands in the writer's way. A log that is never
//! wholly copied never begins anew, so above a size the writer is asked to copy the small rest
//! itself, between two batches. A checkpoint whose sync failed is not repeated on the same
//! handles: the next sync could report success for pages that were dropped, and the log that still
//! has them would be overwritten. It is reported instead, and the writer reopens everything.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::apply::Fault;
use super::disk::Disk;
use super::schema::{checkpoint, open_checkpointer};

/// Seconds after which even a single write is carried over.
const PATIENCE_S: u32 = 10;
/// Bytes of one page of log.
const PAGE: u64 = 4_096;

/// What writer and keeper tell each other.
pub(super) struct Keeper {
    dir: PathBuf,
    /// Writes after which the keeper is woken.
    enough_writes: u64,
    /// Pages of log above which the writer is asked to help.
    long_log: u64,
    signal: Mutex<Signal>,
    bell: Condvar,
    /// None while the writer reopens everything. Held for the length of a checkpoint.
    conn: Mutex<Option<Connection>>,
    help: AtomicBool,
    broken: Mutex<Option<String>>,
}

#[derive(Default)]
struct Signal {
    writes: u64,
    stop: bool,
}

impl Keeper {
    pub(super) fn new(dir: &Path, enough_writes: u64, long_log_bytes: u64) -> Self {
        Self {
            dir: dir.to_path_buf(),
            enough_writes: enough_writes.max(1),
            long_log: long_log_bytes / PAGE,
            signal: Mutex::default(),
            bell: Condvar::new(),
            conn: Mutex::new(None),
            help: AtomicBool::new(false),
            broken: Mutex::new(None),
        }
    }

    /// The thread: a round each second, or sooner when the writer wrote much.
    pub(super) fn run(&self, disk: &Disk) {
        let mut quiet_s = 0;
        loop {
            let (writes, stop) = self.wait();
            if stop {
                return;
            }
            let _ = disk.is_low();
            disk.restore();
            quiet_s += 1;
            if writes >= self.enough_writes || (writes > 0 && quiet_s >= PATIENCE_S) {
                quiet_s = 0;
                self.round(writes);
            }
        }
    }

    /// The writer made so many writes durable.
    pub(super) fn wrote(&self, writes: u64) {
        let mut signal = lock(&self.signal);
        let before = signal.writes;
        signal.writes += writes;
        if before < self.enough_writes && signal.writes >= self.enough_writes {
            self.bell.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        lock(&self.signal).stop = true;
        self.bell.notify_one();
    }

    /// Whether the writer should copy the rest of the log, by which mode. Asked between batches.
    pub(super) fn wants_help(&self) -> bool {
        self.help.swap(false, Ordering::Relaxed)
    }

    /// The writer's part: the rest of a long log, and the cut of a huge one.
    pub(super) fn help(&self, conn: &Connection) -> Result<(), Fault> {
        let state = checkpoint(conn, "PASSIVE")?;
        if state.pages > self.long_log.saturating_mul(4) {
            checkpoint(conn, "TRUNCATE")?;
        }
        Ok(())
    }

    /// Why a checkpoint failed, if the writer has not dealt with it yet. Its sync may have been
    /// the one that tried, and lost, what the writer has just written to the log.
    pub(super) fn why_broken(&self) -> Option<String> {
        lock(&self.broken).clone()
    }

    /// Why a checkpoint failed, once.
    pub(super) fn take_broken(&self) -> Option<String> {
        lock(&self.broken).take()
    }

    /// Closes the keeper's connection and keeps it closed while the answer is held.
    pub(super) fn close(&self) -> MutexGuard<'_, Option<Connection>> {
        let mut conn = lock(&self.conn);
        *conn = None;
        *lock(&self.broken) = None;
        conn
    }

    fn wait(&self) -> (u64, bool) {
        let signal = lock(&self.signal);
        let tick = Duration::from_secs(1);
        let (signal, _) = self
            .bell
            .wait_timeout_while(signal, tick, |s| !s.stop && s.writes < self.enough_writes)
            .unwrap_or_else(PoisonError::into_inner);
        (signal.writes, signal.stop)
    }

    fn round(&self, writes: u64) {
        let mut conn = lock(&self.conn);
        if lock(&self.broken).is_some() {
            return;
        }
        lock(&self.signal).writes -= writes;
        match self.carry(&mut conn) {
            Ok(pages) if pages > self.long_log => self.help.store(true, Ordering::Relaxed),
            // A full disk or a busy one: the log holds everything, the next round tries again.
            Ok(_) | Err(Fault::Full | Fault::Busy) => {}
            Err(Fault::Unfit(reason) | Fault::Broken(reason)) => {
                tracing::error!(reason, "a checkpoint failed: the journal will be reopened");
                *conn = None;
                *lock(&self.broken) = Some(reason);
            }
        }
    }

    fn carry(&self, conn: &mut Option<Connection>) -> Result<u64, Fault> {
        let carried =
            conn.take().map_or_else(|| open_checkpointer(&self.dir), Ok).and_then(|open| {
                let state = checkpoint(&open, "PASSIVE")?;
                Ok((open, state.pages))
            });
        match carried {
            Ok((open, pages)) => {
                *conn = Some(open);
                Ok(pages)
            }
            // A process without a free descriptor, for example: nothing was tried on the disk, and
            // to close and reopen everything could end with nothing open.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                tracing::warn!(%error, "a checkpoint could not be begun: the log grows meanwhile");
                Err(Fault::Busy)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// At the end: the whole log into the database, and the file cut.
pub(super) fn cut(conn: &Connection) -> Result<(), Fault> {
    checkpoint(conn, "TRUNCATE")?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
