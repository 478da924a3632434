//! The one writer: it takes what is queued, makes it one transaction, syncs once, answers all.
//!
//! Nobody waits for a batch to fill: what came in while the last sync ran is the next batch, and
//! whatever others, who want this core now, are about to bring. A
//! savepoint copies every page before it is changed, so there is none where nobody loses: a batch
//! with a loser that left rows behind is undone whole and made again, now with a savepoint for
//! each, so that the loser undoes only itself. What happens after a failure depends on what is
//! known of the disk:
//!
//! * full: nothing was synced, the handle is sound. The reserve is given up and what already
//!   happened is tried once more; new work is refused.
//! * anything else: the kernel may have dropped what it failed to write and will not say so twice.
//!   Every handle is closed, the files are opened and checked as after a crash, and the batch's
//!   callers hear `Failed`, which means unknown.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::apply::{self, Fault};
use super::cases;
use super::disk::{Disk, Moment};
use super::keeper::{self, Keeper};
use super::messages;
use super::reader::Readers;
use super::schema::open_writer;
use super::sync_times::SyncTimes;
use crate::store::{CaseRow, Committed, NoticeRow, Purpose, StoreError, Told, Write};

/// Bytes of one batch, so that a batch of large bodies does not hold everybody up.
const BATCH_BYTES: usize = 8 << 20;
/// How long open reads may hold up a reopening.
const READER_PATIENCE: Duration = Duration::from_secs(30);

/// Something to make durable, and who waits for it.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) caller: oneshot::Sender<Answer>,
}

/// What the caller of a job hears.
pub(super) type Answer = Result<Applied, StoreError>;

/// The kinds of write.
pub(super) enum Task {
    Commit(Box<Write>),
    KeepNotice(NoticeRow),
    PutSetting { name: String, bytes: Vec<u8> },
    Tell { payment: String, seq: u64, told: Told },
    PutCase(CaseRow),
}

/// What became of a task that is durable (or was judged and left nothing).
#[derive(Debug)]
pub(super) enum Applied {
    Write(Committed),
    Kept(bool),
    Stored,
}

/// What the writer, the keeper and the store's face all see.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) check_below_bytes: u64,
    pub(super) disk: Disk,
    pub(super) readers: Arc<Readers>,
    pub(super) keeper: Keeper,
    pub(super) syncs: SyncTimes,
    /// True while every handle is closed.
    pub(super) reopening: AtomicBool,
    /// Set once: nothing is possible until the node is started again.
    pub(super) failed: OnceLock<String>,
}

/// The writer's thread.
pub(super) struct Writer {
    conn: Option<Connection>,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    batch: usize,
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Job>,
        batch: usize,
    ) -> Self {
        Self { conn: Some(conn), shared, queue, batch: batch.max(1) }
    }

    /// Serves until nobody can send any more, then leaves a checkpointed file behind.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let batch = self.gather(first);
            self.tend();
            self.settle(batch);
        }
        if let Some(conn) = &self.conn
            && let Err(fault) = keeper::cut(conn)
        {
            tracing::warn!(?fault, "the journal's log is left for the next start");
        }
    }

    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.task.bytes();
        let mut batch = vec![first];
        // Returns at once where nobody waits for this core.
        std::thread::yield_now();
        while batch.len() < self.batch && bytes < BATCH_BYTES {
            match self.queue.try_recv() {
                Ok(job) => {
                    bytes += job.task.bytes();
                    batch.push(job);
                }
                Err(_) => break,
            }
        }
        batch
    }

    /// Between two batches: what the keeper asked for.
    fn tend(&mut self) {
        if let Some(reason) = self.shared.keeper.take_broken() {
            self.reopen(&reason);
        }
        if !self.shared.keeper.wants_help() {
            return;
        }
        if let Some(conn) = &self.conn {
            match self.shared.keeper.help(conn) {
                Ok(()) | Err(Fault::Full | Fault::Busy) => {}
                Err(Fault::Unfit(reason) | Fault::Broken(reason)) => self.reopen(&reason),
            }
        }
    }

    fn settle(&mut self, batch: Vec<Job>) {
        match self.attempt(&batch) {
            Ok(answers) => answer(batch, answers),
            Err(Fault::Full) => self.settle_on_a_full_disk(batch),
            Err(fault) => self.give_up(batch, fault),
        }
    }

    fn settle_on_a_full_disk(&mut self, batch: Vec<Job>) {
        self.shared.disk.spend();
        let (intake, outcomes): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|job| job.task.is_intake());
        answer_all(intake, &StoreError::Full);
        if outcomes.is_empty() {
            return;
        }
        match self.attempt(&outcomes) {
            Ok(answers) => answer(outcomes, answers),
            Err(fault) => self.give_up(outcomes, fault),
        }
    }

    fn give_up(&mut self, batch: Vec<Job>, fault: Fault) {
        match fault {
            Fault::Full => {
                tracing::error!(writes = batch.len(), "the disk is full: outcomes are not written");
                answer_all(batch, &StoreError::Full);
            }
            Fault::Busy => answer_all(batch, &StoreError::Busy),
            Fault::Unfit(reason) | Fault::Broken(reason) => {
                // First reopen, then answer: a caller who hears "unknown" reads again at once.
                self.reopen(&reason);
                answer_all(batch, &StoreError::Failed { reason });
            }
        }
    }

    /// One transaction and one sync for the whole batch, or nothing of it.
    fn attempt(&mut self, batch: &[Job]) -> Result<Vec<Answer>, Fault> {
        let Some(conn) = &self.conn else {
            let reason = self.shared.failed.get().cloned().unwrap_or_default();
            return Err(Fault::Broken(reason));
        };
        let done = transact(conn, batch, &self.shared);
        // After "full" the handle stays in use and must not stay inside the transaction.
        if matches!(done, Err(Fault::Full | Fault::Busy)) && !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK")?;
        }
        if done.is_ok() {
            self.shared.keeper.wrote(batch.len() as u64);
        }
        done
    }

    /// Closes every handle and starts over from what is on the disk, as after a crash.
    fn reopen(&mut self, reason: &str) {
        if self.shared.failed.get().is_some() {
            return;
        }
        tracing::error!(reason, "the journal's disk failed: reopening");
        self.shared.reopening.store(true, Ordering::Release);
        // The readers first, while the writer's handle keeps the log's index as it was: whoever
        // opens the files alone makes the index anew from the log, and sees in it the commit whose
        // sync failed.
        let readers = self.shared.readers.close(READER_PATIENCE);
        let _checkpointer = self.shared.keeper.close();
        self.conn = None;
        let opened = match &readers {
            Some(_) => self.open_again(),
            None => Err("a read did not end".to_owned()),
        };
        match opened {
            Ok(conn) => {
                self.conn = Some(conn);
                tracing::warn!("the journal is open again");
            }
            Err(why) => {
                tracing::error!(reason, why, "the journal stays closed until the next start");
                let _ = self.shared.failed.set(format!("{reason}; then: {why}"));
                self.shared.readers.shut();
            }
        }
        self.shared.reopening.store(false, Ordering::Release);
    }

    fn open_again(&self) -> Result<Connection, String> {
        let shared = &self.shared;
        if shared.disk.is_nearly_full() {
            shared.disk.spend();
        }
        let check_below = shared.check_below_bytes;
        let open = || open_writer(&shared.dir, false, check_below, shared.disk.medium());
        match open() {
            Err(super::OpenError::DiskFull) if shared.disk.spend() => open(),
            other => other,
        }
        .map_err(|error| error.to_string())
    }
}

impl Task {
    fn is_intake(&self) -> bool {
        matches!(self, Task::Commit(write) if write.purpose == Purpose::Intake)
    }

    fn bytes(&self) -> usize {
        match self {
            Task::Commit(write) => super::size(write),
            Task::PutSetting { bytes, .. } => bytes.len(),
            Task::PutCase(case) => case.body.len(),
            Task::KeepNotice(_) | Task::Tell { .. } => 256,
        }
    }
}

/// How the writes of one transaction are kept apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// Not at all: a loser spoils the transaction.
    No,
    /// By savepoints: a loser undoes itself.
    Yes,
}

fn transact(conn: &Connection, batch: &[Job], shared: &Shared) -> Result<Vec<Answer>, Fault> {
    run(conn, "BEGIN IMMEDIATE")?;
    let answers = match apply_all(conn, batch, Apart::No)? {
        Some(answers) => answers,
        None => {
            run(conn, "ROLLBACK")?;
            run(conn, "BEGIN IMMEDIATE")?;
            let again = apply_all(conn, batch, Apart::Yes)?;
            again.ok_or_else(|| Fault::Broken("a savepoint undid nothing".into()))?
        }
    };
    sync(shared, Moment::Before)?;
    let start = Instant::now();
    run(conn, "COMMIT")?;
    shared.syncs.record(start.elapsed());
    sync(shared, Moment::After)?;
    match shared.keeper.why_broken() {
        Some(reason) => Err(Fault::Broken(reason)),
        None => Ok(answers),
    }
}

/// The answers of a batch, or nothing where a loser left rows behind.
fn apply_all(conn: &Connection, batch: &[Job], apart: Apart) -> Result<Option<Vec<Answer>>, Fault> {
    let mut answers = Vec::with_capacity(batch.len());
    for job in batch {
        let rows = conn.total_changes();
        if apart == Apart::Yes {
            run(conn, "SAVEPOINT one")?;
        }
        let answer = match perform(conn, &job.task) {
            Ok(applied) => Ok(applied),
            Err(Fault::Unfit(reason)) => {
                // A batch that is made again says so then.
                if apart == Apart::Yes || conn.total_changes() == rows {
                    tracing::error!(reason, "a write does not fit the journal");
                }
                Err(StoreError::Failed { reason })
            }
            Err(fault) => return Err(fault),
        };
        let lost = !matches!(
            answer,
            Ok(Applied::Write(Committed::Done) | Applied::Kept(_) | Applied::Stored)
        );
        match apart {
            Apart::No if lost && conn.total_changes() != rows => return Ok(None),
            Apart::No => {}
            Apart::Yes => {
                if lost {
                    run(conn, "ROLLBACK TO one")?;
                }
                run(conn, "RELEASE one")?;
            }
        }
        answers.push(answer);
    }
    Ok(Some(answers))
}

fn run(conn: &Connection, sql: &str) -> Result<(), Fault> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn sync(shared: &Shared, moment: Moment) -> Result<(), Fault> {
    shared.disk.medium().syncing(moment).map_err(|error| Fault::Broken(error.to_string()))
}

fn perform(conn: &Connection, task: &Task) -> Result<Applied, Fault> {
    match task {
        Task::Commit(write) => apply::write(conn, write).map(Applied::Write),
        Task::KeepNotice(notice) => apply::keep_notice(conn, notice).map(Applied::Kept),
        Task::PutSetting { name, bytes } => {
            apply::put_setting(conn, name, bytes).map(|()| Applied::Stored)
        }
        Task::Tell { payment, seq, told } => {
            messages::tell(conn, payment, *seq, told).map(|()| Applied::Stored)
        }
        Task::PutCase(case) => cases::put(conn, case).map(Applied::Kept),
    }
}

/// A caller that went away does not hear; what it asked for is durable all the same.
fn answer(batch: Vec<Job>, answers: Vec<Answer>) {
    for (job, answer) in batch.into_iter().zip(answers) {
        let _ = job.caller.send(answer);
    }
}

fn answer_all(batch: Vec<Job>, error: &StoreError) {
    for job in batch {
        let _ = job.caller.send(Err(error.clone()));
    }
}
