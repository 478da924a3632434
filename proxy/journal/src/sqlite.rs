//! One node's store: SQLite in a directory that nobody else may open.
//!
//! ```text
//! commit ─ queue ─▶ writer ─ one transaction, one sync for all that waited ─▶ answers
//! reads  ─ permits ─▶ a few read connections on blocking threads
//! keeper ─ carries the log into the database, watches the disk, keeps the reserve
//! ```
//! An answer is given after the sync returned, never before: a reader, too, sees a commit only
//! once it is on the disk, for the log's index is published after the sync.

mod apply;
mod cases;
mod disk;
mod keeper;
mod messages;
mod reader;
mod schema;
mod sync_times;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use self::disk::{Disk, Lock};
pub use self::disk::{Medium, Moment, RealDisk};
use self::keeper::Keeper;
use self::reader::{ReadFault, Readers};
use self::sync_times::SyncTimes;
use self::writer::{Applied, Job, Shared, Task, Writer};
use crate::store::{
    CaseQuery, CaseRow, Cases, Committed, Due, EventRow, Health, KeyRow, ListQuery, Message,
    MessageQuery, Messages, NoticeRow, OutboxRow, Page, PaymentRow, Purpose, Stats, Store,
    StoreError, Told, Write,
};

/// The largest write, all its rows together.
const MOST_BYTES: usize = 4 << 20;

/// How a store uses its directory.
#[derive(Clone)]
pub struct Options {
    /// Free bytes below which new payments are refused. Default 256 MiB.
    pub low_water_bytes: u64,
    /// Size of the file that outcomes may use when the disk is full. Default 16 MiB.
    pub reserve_bytes: u64,
    /// Writes in one transaction at most. Default 512.
    pub batch: usize,
    /// Writes that may wait; beyond, new payments are told `Busy` and outcomes wait. Default 4,096.
    pub queue: usize,
    /// Connections that read at the same time. Default 4.
    pub readers: u32,
    /// A database smaller than this is checked when it is opened: pages, indexes, names. Default
    /// 256 MiB.
    pub check_below_bytes: u64,
    /// Writes after which the log is carried into the database without waiting for a quiet
    /// moment. Default 5,000.
    pub checkpoint_writes: u64,
    /// A log longer than this is carried over between two batches, and one four times as long is
    /// cut. Default 64 MiB.
    pub long_log_bytes: u64,
    /// How long an answer about free bytes holds. Default one second.
    pub poll_every: Duration,
    /// The disk. Default the real one.
    pub medium: Arc<dyn Medium>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            low_water_bytes: 256 << 20,
            reserve_bytes: 16 << 20,
            batch: 512,
            queue: 4096,
            readers: 4,
            check_below_bytes: 256 << 20,
            checkpoint_writes: 5_000,
            long_log_bytes: 64 << 20,
            poll_every: Duration::from_secs(1),
            medium: Arc::new(RealDisk),
        }
    }
}

/// Why a store could not be opened. Nothing in the directory was changed, except by SQLite's own
/// recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Another process (or another store of this one) uses the directory.
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who says that it holds it.
        pid: Option<u32>,
    },
    /// The journal was written by a newer version.
    Newer {
        /// Its schema's version.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// The file is something else than a journal.
    Foreign,
    /// The file is damaged: restore a backup.
    Corrupt {
        /// The first damage found.
        reason: String,
    },
    /// The log cannot be carried over for want of space: free some.
    DiskFull,
    /// The directory or a file in it cannot be used.
    Io {
        /// Which.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// SQLite refused.
    Sqlite {
        /// Its word.
        reason: String,
    },
}

impl OpenError {
    fn io(path: &Path, error: &io::Error) -> Self {
        OpenError::Io { path: path.to_path_buf(), reason: error.to_string() }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { dir, pid: Some(pid) } => {
                write!(f, "the journal is in use by process {pid}: {}", dir.display())
            }
            OpenError::Locked { dir, pid: None } => {
                write!(f, "the journal is in use: {}", dir.display())
            }
            OpenError::Newer { found, known } => {
                write!(f, "the journal has schema {found}, this build knows up to: {known}")
            }
            OpenError::Foreign => f.write_str("the file is not a journal"),
            OpenError::Corrupt { reason } => write!(f, "the journal is damaged: {reason}"),
            OpenError::DiskFull => f.write_str("the disk is too full to open the journal"),
            OpenError::Io { path, reason } => write!(f, "{}: {reason}", path.display()),
            OpenError::Sqlite { reason } => write!(f, "the journal cannot be opened: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// The store of one node. Dropping it finishes what is queued and closes the files.
pub struct SqliteStore {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// Last, so that the directory is free only when everything is closed.
    _lock: Lock,
}

impl SqliteStore {
    /// Opens the journal in `dir`, making both if there is none.
    ///
    /// It blocks: it may check every page and carries an old log into the database.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(|error| OpenError::io(dir, &error))?;
        let lock = Lock::take(dir)?;
        let disk = Disk::new(
            dir,
            Arc::clone(&options.medium),
            options.low_water_bytes,
            options.reserve_bytes,
            options.poll_every,
        );
        let check_below = options.check_below_bytes;
        let open = || schema::open_writer(dir, true, check_below, disk.medium());
        let conn = match open() {
            Err(OpenError::DiskFull) if disk.spend() => open()?,
            other => other?,
        };
        sync_names(dir, disk.medium())?;
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            check_below_bytes: options.check_below_bytes,
            disk,
            readers: Arc::new(Readers::new(dir, options.readers)),
            keeper: Keeper::new(dir, options.checkpoint_writes, options.long_log_bytes),
            syncs: SyncTimes::new(),
            reopening: AtomicBool::new(false),
            failed: OnceLock::new(),
        });
        let (queue, jobs) = mpsc::channel(options.queue.max(1));
        let mut store = Self { shared, queue: None, threads: Vec::new(), _lock: lock };
        let writer = Writer::new(conn, Arc::clone(&store.shared), jobs, options.batch);
        store.spawn("journal-writer", move || writer.run())?;
        // Only now may jobs be queued: an open that fails half-way drops a store without a queue.
        store.queue = Some(queue);
        let shared = Arc::clone(&store.shared);
        store.spawn("journal-keeper", move || shared.keeper.run(&shared.disk))?;
        Ok(store)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads.push(thread.map_err(|error| OpenError::io(&self.shared.dir, &error))?);
        Ok(())
    }

    async fn submit(&self, task: Task, purpose: Purpose) -> Result<Applied, StoreError> {
        self.refuse_if_failed()?;
        if purpose == Purpose::Intake && self.shared.disk.is_low() {
            return Err(StoreError::LowDisk);
        }
        let queue = self.queue.as_ref().ok_or(StoreError::Busy)?;
        let (caller, answer) = oneshot::channel();
        let job = Job { task, caller };
        // New work that finds no room has lost nothing; what happened to old work has to wait.
        match purpose {
            Purpose::Intake => queue.try_send(job).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(_) => self.writer_is_gone(),
            })?,
            Purpose::Outcome => queue.send(job).await.map_err(|_| self.writer_is_gone())?,
        }
        answer.await.unwrap_or_else(|_| Err(self.writer_is_gone()))
    }

    async fn read<T, F>(&self, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadFault> + Send + 'static,
    {
        self.refuse_if_failed()?;
        if self.shared.reopening.load(Ordering::Acquire) {
            return Err(StoreError::Busy);
        }
        self.shared.readers.ask(question).await
    }

    fn refuse_if_failed(&self) -> Result<(), StoreError> {
        match self.shared.failed.get() {
            Some(reason) => Err(StoreError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// The writer ends only with the store, unless a bug ended it: then nothing is taken any more.
    fn writer_is_gone(&self) -> StoreError {
        let reason = "the journal's writer is gone".to_owned();
        let _ = self.shared.failed.set(reason.clone());
        StoreError::Failed { reason }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue = None;
        self.shared.keeper.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal panicked");
            }
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, write: Write) -> Result<Committed, StoreError> {
        check(&write)?;
        let purpose = write.purpose;
        match self.submit(Task::Commit(Box::new(write)), purpose).await? {
            Applied::Write(committed) => Ok(committed),
            other => {
                Err(StoreError::Failed { reason: format!("not a commit's answer: {other:?}") })
            }
        }
    }

    async fn payment(&self, id: &str) -> Result<Option<PaymentRow>, StoreError> {
        let id = id.to_owned();
        self.read(move |conn| reader::payment(conn, &id)).await
    }

    async fn key(
        &self,
        merchant: &str,
        path: &str,
        key: &str,
    ) -> Result<Option<KeyRow>, StoreError> {
        let (merchant, path, key) = (merchant.to_owned(), path.to_owned(), key.to_owned());
        self.read(move |conn| reader::key(conn, &merchant, &path, &key)).await
    }

    async fn reference(
        &self,
        account: &str,
        reference: &str,
    ) -> Result<Option<String>, StoreError> {
        let (account, reference) = (account.to_owned(), reference.to_owned());
        self.read(move |conn| reader::reference(conn, &account, &reference)).await
    }

    async fn operation(&self, id: &str) -> Result<Option<String>, StoreError> {
        let id = id.to_owned();
        self.read(move |conn| reader::operation(conn, &id)).await
    }

    async fn order(
        &self,
        merchant: &str,
        merchant_ref: &str,
    ) -> Result<Option<String>, StoreError> {
        let (merchant, merchant_ref) = (merchant.to_owned(), merchant_ref.to_owned());
        self.read(move |conn| reader::order(conn, &merchant, &merchant_ref)).await
    }

    async fn notice(&self, account: &str, event_id: &str) -> Result<Option<NoticeRow>, StoreError> {
        let (account, event_id) = (account.to_owned(), event_id.to_owned());
        self.read(move |conn| reader::notice(conn, &account, &event_id)).await
    }

    async fn keep_notice(&self, notice: NoticeRow) -> Result<bool, StoreError> {
        let applied = self.submit(Task::KeepNotice(notice), Purpose::Outcome).await?;
        Ok(matches!(applied, Applied::Kept(true)))
    }

    async fn due(&self, before_ms: i64, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.read(move |conn| Ok(reader::due(conn, before_ms, limit)?)).await
    }

    async fn next_due(&self) -> Result<Option<i64>, StoreError> {
        self.read(|conn| Ok(reader::next_due(conn)?)).await
    }

    async fn open(&self, after: Option<Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.read(move |conn| Ok(reader::open(conn, after, limit)?)).await
    }

    async fn timeline(
        &self,
        payment: &str,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<EventRow>, StoreError> {
        let payment = payment.to_owned();
        self.read(move |conn| reader::timeline(conn, &payment, after_seq, limit)).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, EventRow)>, StoreError> {
        self.read(move |conn| reader::events(conn, after, limit)).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.read(move |conn| reader::list(conn, &query)).await
    }

    async fn outbox(&self, payment: &str, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let payment = payment.to_owned();
        self.read(move |conn| messages::of_payment(conn, &payment, limit)).await
    }

    async fn outbox_told(&self, payment: &str, seq: u64, told: Told) -> Result<(), StoreError> {
        let task = Task::Tell { payment: payment.to_owned(), seq, told };
        self.submit(task, Purpose::Outcome).await.map(|_| ())
    }

    async fn deliveries(
        &self,
        merchant: &str,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let merchant = merchant.to_owned();
        self.read(move |conn| messages::due(conn, &merchant, before_ms, limit)).await
    }

    async fn next_delivery(&self, merchant: &str, from_ms: i64) -> Result<Option<i64>, StoreError> {
        let merchant = merchant.to_owned();
        self.read(move |conn| Ok(messages::next_due(conn, &merchant, from_ms)?)).await
    }

    async fn message(&self, id: &str) -> Result<Option<Message>, StoreError> {
        let id = id.to_owned();
        self.read(move |conn| messages::by_id(conn, &id)).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Messages, StoreError> {
        self.read(move |conn| messages::list(conn, &query)).await
    }

    async fn case_put(&self, case: CaseRow) -> Result<bool, StoreError> {
        if case.body.len() > MOST_BYTES {
            let reason = format!("a case is too large: {} bytes", case.body.len());
            return Err(StoreError::Failed { reason });
        }
        let applied = self.submit(Task::PutCase(case), Purpose::Outcome).await?;
        Ok(matches!(applied, Applied::Kept(true)))
    }

    async fn case(&self, id: &str) -> Result<Option<CaseRow>, StoreError> {
        let id = id.to_owned();
        self.read(move |conn| cases::by_id(conn, &id)).await
    }

    async fn cases(&self, query: CaseQuery) -> Result<Cases, StoreError> {
        self.read(move |conn| cases::list(conn, &query)).await
    }

    async fn settings_get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.read(move |conn| reader::setting(conn, &name)).await
    }

    async fn settings_put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let task = Task::PutSetting { name: name.to_owned(), bytes };
        self.submit(task, Purpose::Outcome).await.map(|_| ())
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = self.read(|conn| Ok(reader::stats(conn)?)).await?;
        let file = |name: &str| self.shared.dir.join(name).metadata().map_or(0, |m| m.len());
        stats.bytes = file(schema::FILE) + file(&format!("{}-wal", schema::FILE));
        stats.sync_p50_us = self.shared.syncs.quantile_us(50);
        stats.sync_p99_us = self.shared.syncs.quantile_us(99);
        Ok(stats)
    }

    fn health(&self) -> Health {
        match self.shared.failed.get() {
            Some(reason) => Health::Failed(reason.clone()),
            None if self.shared.disk.is_low() => Health::LowDisk,
            None => Health::Writable,
        }
    }
}

fn check(write: &Write) -> Result<(), StoreError> {
    let refuse = |reason: String| Err(StoreError::Failed { reason });
    if write.expect.checked_add(1) != Some(write.next) {
        return refuse(format!("a version must follow the one before: {}", write.next));
    }
    let strange = |payment: &String| *payment != write.payment;
    if write.events.iter().map(|e| &e.payment).any(strange)
        || write.outbox.iter().map(|o| &o.payment).any(strange)
    {
        return refuse(format!("a write brings another payment's rows: {}", write.payment));
    }
    match size(write) {
        bytes if bytes > MOST_BYTES => refuse(format!("a write is too large: {bytes} bytes")),
        _ => Ok(()),
    }
}

/// About how many bytes a write brings.
fn size(write: &Write) -> usize {
    /// Names, numbers and the row's own cost.
    const ROW: usize = 256;
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let keys = write.keys.iter().map(|k| ROW + k.answer.as_ref().map_or(0, |a| a.1.len()));
    let answers = write.answers.iter().map(|a| ROW + a.body.len());
    let events = write.events.iter().map(|e| ROW + text(&e.reason) + text(&e.detail));
    let outbox = write.outbox.iter().map(|o| 2 * ROW + o.body.len());
    let rows = write.references.len() + write.operations.len() + write.notices.len() + 1;
    let long = keys.chain(answers).chain(events).chain(outbox).sum::<usize>();
    write.body.len() + rows * ROW + long
}

/// The names of new files must be as durable as what the files hold.
fn sync_names(dir: &Path, medium: &dyn Medium) -> Result<(), OpenError> {
    medium.sync_names(dir).map_err(|error| OpenError::io(dir, &error))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // The parent may be another user's; its entry for us is as old as the first start.
        let _ = medium.sync_names(parent);
    }
    Ok(())
}
