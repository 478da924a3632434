//! A provider's statement of a day beside the journal: what agrees, what does not, and what is done
//! about it.
//!
//! The lines come from the plugin alone, from the provider or from a file that an operator has, and
//! nothing holds more than a piece of them. What the provider says and we do not know is told to
//! the engine as a notification is; every difference is a case.

mod books;
mod cases;
mod run;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use interlock_plugin_api::{Operation, StatementFile};
use jiff::civil::Date;
use tokio::sync::mpsc;

pub use cases::{Body as CaseBody, Entry, Ours, close as close_case, read as read_case};
pub use run::{Run, Tally};
pub use unpack::{PIECE_BYTES_MAX, Piece, packing_of, pieces};

use crate::driver::Driver;
use run::Comparison;

/// Runs that are remembered.
const RUNS_MAX: usize = 32;
/// Pieces of a file that wait for being read.
const PIECES_AHEAD: usize = 4;
/// Parts of one statement at most.
const PARTS_MAX: usize = 100_000;

/// Why a run does not begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such account.
    NoAccount,
    /// Something is wrong with this parameter.
    Wrong(&'static str, String),
    /// A statement of this account is being read: the id of that run.
    Busy(String),
}

/// Statements beside the journal, one of an account at a time.
pub struct Reconciler {
    driver: Arc<Driver>,
    /// Where files are while they are read.
    folder: PathBuf,
    runs: Mutex<Vec<Held>>,
}

struct Held {
    run: Arc<Run>,
    /// Of a run whose file comes in pieces.
    feed: Option<Arc<Feed>>,
}

/// A run whose file is brought to us.
struct Feed {
    comparison: tokio::sync::Mutex<Option<(Comparison, Vec<u8>)>>,
}

impl Reconciler {
    /// A room without runs; what an earlier process left of its files is removed.
    pub fn new(driver: Arc<Driver>, data: &Path) -> Arc<Self> {
        let folder = data.join("statements");
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "old statements can't be removed");
        }
        Arc::new(Self { driver, folder, runs: Mutex::default() })
    }

    /// Begins with the provider's own statement; the run goes on by itself.
    ///
    /// # Errors
    /// Why it does not begin.
    pub fn download(self: &Arc<Self>, account: &str, date: &str) -> Result<Arc<Run>, Refused> {
        let (run, comparison) = self.begin(account, date, Operation::DownloadStatement)?;
        self.hold(&run, None);
        let (reconciler, of) = (Arc::clone(self), Arc::clone(&run));
        tokio::spawn(async move {
            let ended = reconciler.take_provider(comparison, &of).await;
            if let Err(why) = &ended {
                tracing::warn!(account = of.account, date = of.date, why, "not reconciled");
            }
            of.end(ended);
        });
        Ok(run)
    }

    /// Begins with a file that comes in pieces.
    ///
    /// # Errors
    /// Why it does not begin.
    pub fn receive(self: &Arc<Self>, account: &str, date: &str) -> Result<Arc<Run>, Refused> {
        let (run, comparison) = self.begin(account, date, Operation::ReadStatement)?;
        let comparison = tokio::sync::Mutex::new(Some((comparison, Vec::new())));
        self.hold(&run, Some(Arc::new(Feed { comparison })));
        Ok(run)
    }

    /// Takes the next piece of a file; the run when it is known.
    pub async fn piece(&self, id: &str, bytes: Bytes, last: bool) -> Option<Arc<Run>> {
        let (run, feed) = {
            let runs = self.runs();
            let held = runs.iter().find(|held| held.run.id == id)?;
            (Arc::clone(&held.run), held.feed.clone()?)
        };
        let mut place = feed.comparison.lock().await;
        let Some((mut comparison, state)) = place.take() else { return Some(run) };
        // Another one was begun in its place: nothing of this one is told any more.
        if !run.is_running() {
            return Some(run);
        }
        match self.read(&mut comparison, &run, state, bytes, last).await {
            Ok(state) if !last => *place = Some((comparison, state)),
            Ok(_) => run.end(comparison.end().await),
            Err(why) => run.end(Err(why)),
        }
        Some(run)
    }

    /// A run that is remembered.
    pub fn run(&self, id: &str) -> Option<Arc<Run>> {
        self.runs().iter().find(|held| held.run.id == id).map(|held| Arc::clone(&held.run))
    }

    /// Every run that is remembered, the latest first.
    pub fn all(&self) -> Vec<Arc<Run>> {
        self.runs().iter().rev().map(|held| Arc::clone(&held.run)).collect()
    }

    fn begin(
        &self,
        account: &str,
        date: &str,
        op: Operation,
    ) -> Result<(Arc<Run>, Comparison), Refused> {
        let day: Option<Date> = Some(date).filter(|d| d.len() == 10).and_then(|d| d.parse().ok());
        if day.is_none() {
            return Err(Refused::Wrong("date", "use a day like 2026-11-29".into()));
        }
        let setup = self.driver.setup();
        let open = Arc::clone(setup.get(account).ok_or(Refused::NoAccount)?);
        let manifest = open.manifest();
        if !manifest.offers(op) {
            let what = match op {
                Operation::DownloadStatement => "gets no statements from its provider",
                _ => "reads no files of statements",
            };
            return Err(Refused::Wrong("account", format!("plugin `{}` {what}", manifest.id)));
        }
        let running = |held: &&Held| held.run.account == account && held.run.is_running();
        if let Some(held) = self.runs().iter().find(running) {
            // A file that nobody brings any more must not keep the next from being read.
            match &held.feed {
                Some(_) => held.run.end(Err("another statement was begun".into())),
                None => return Err(Refused::Busy(held.run.id.clone())),
            }
        }
        let id = format!("rec_{}", ulid::Ulid::generate());
        let run = Run::new(id, account, date, self.driver.clock.now().wall_ms);
        let driver = Arc::clone(&self.driver);
        let comparison = Comparison::new(driver, setup, open, Arc::clone(&run));
        Ok((run, comparison))
    }

    fn hold(&self, run: &Arc<Run>, feed: Option<Arc<Feed>>) {
        let mut runs = self.runs();
        if runs.len() >= RUNS_MAX {
            let over = runs.iter().position(|held| !held.run.is_running());
            runs.remove(over.unwrap_or(0));
        }
        runs.push(Held { run: Arc::clone(run), feed });
    }

    async fn take_provider(&self, mut comparison: Comparison, run: &Run) -> Result<(), String> {
        let mut state = Vec::new();
        for _ in 0..PARTS_MAX {
            let caller = self.driver.caller();
            let asked = caller.ask_for_statement(comparison.account(), &run.date, state).await?;
            let (mut part, next) = (asked.part, asked.state);
            let (more, file) = (part.more, part.file.take());
            comparison.take(part).await?;
            if let Some(file) = file {
                self.take_file(&mut comparison, run, &file).await?;
            }
            if !more {
                return comparison.end().await;
            }
            state = next;
        }
        Err(format!("the statement has more than {PARTS_MAX} parts"))
    }

    /// Downloads a file, and reads it as it is unpacked.
    async fn take_file(
        &self,
        comparison: &mut Comparison,
        run: &Run,
        file: &StatementFile,
    ) -> Result<(), String> {
        std::fs::create_dir_all(&self.folder).map_err(|e| e.to_string())?;
        let path = Removed(self.folder.join(&run.id));
        let caller = self.driver.caller();
        caller.download(comparison.account(), file, &path.0).await?;
        let (give, mut pieces) = mpsc::channel::<Piece>(PIECES_AHEAD);
        let (at, packing, sha1) = (path.0.clone(), file.packing, file.sha1.clone());
        let unpacking = tokio::task::spawn_blocking(move || {
            unpack::pieces(&at, packing, sha1.as_deref(), &mut |piece| {
                give.blocking_send(piece).map_err(|_| "it could not be read".to_owned())
            })
        });
        let mut state = Vec::new();
        let mut failed = None;
        while let Some(piece) = pieces.recv().await {
            match self.read(comparison, run, state, piece.bytes.into(), piece.last).await {
                Ok(next) => state = next,
                Err(why) => {
                    failed = Some(why);
                    break;
                }
            }
        }
        drop(pieces);
        let unpacked = unpacking.await.map_err(|e| e.to_string())?;
        failed.map_or(unpacked, Err)
    }

    /// One piece through the plugin, and its lines beside the journal.
    async fn read(
        &self,
        comparison: &mut Comparison,
        run: &Run,
        mut state: Vec<u8>,
        piece: Bytes,
        last: bool,
    ) -> Result<Vec<u8>, String> {
        run.tally().bytes += piece.len() as u64;
        let caller = self.driver.caller();
        let account = comparison.account();
        let read = caller.read_statement(account, &run.date, state, piece, last).await?;
        state = read.state;
        comparison.take(read.part).await?;
        Ok(state)
    }

    fn runs(&self) -> MutexGuard<'_, Vec<Held>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is gone when it is not used any more.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a statement can't be removed");
        }
    }
}
