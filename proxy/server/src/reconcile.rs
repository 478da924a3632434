//! A provider's statement of a day beside the journal: what agrees, what does not, and what is done
//! about it.
//!
//! The lines come from the plugin alone, from the provider or from a file that an operator has, and
//! nothing holds more than a piece of them. What the provider says and we do not know is told to
//! the engine as a notification is; every difference is a case.

mod books;
mod cases;
mod reader;
mod run;
mod unpack;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use interlock_plugin_api::Operation;
use jiff::civil::Date;

pub use books::Kind;
pub use cases::{Body as CaseBody, Entry, Ours, close as close_case, read as read_case};
pub use reader::{Hears, Reader};
pub use run::{Run, Tally, Word, position_while};
pub use unpack::{PIECE_BYTES_MAX, Piece, check as check_file, packing_of, pieces};

use crate::driver::Driver;
use run::Comparison;

/// Runs that are remembered.
const RUNS_MAX: usize = 32;

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
    reader: Reader,
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
    /// A room without runs.
    pub fn new(driver: Arc<Driver>, reader: Reader) -> Arc<Self> {
        Arc::new(Self { driver, reader, runs: Mutex::default() })
    }

    /// Begins with the provider's own statement; the run goes on by itself.
    ///
    /// # Errors
    /// Why it does not begin.
    pub fn download(self: &Arc<Self>, account: &str, date: &str) -> Result<Arc<Run>, Refused> {
        let word = Word::Provider;
        let (run, mut comparison) =
            self.begin((account, date), Operation::DownloadStatement, word)?;
        self.hold(&run, None);
        let (reader, of) = (self.reader.clone(), Arc::clone(&run));
        tokio::spawn(async move {
            let account = Arc::clone(comparison.account());
            let of_the_day = (of.date.as_str(), of.id.as_str());
            let ended = match reader.provider(&account, of_the_day, &mut comparison).await {
                Ok(()) => comparison.end().await,
                Err(why) => Err(why),
            };
            if let Err(why) = &ended {
                tracing::warn!(account = of.account, date = of.date, why, "not reconciled");
            }
            of.end(ended);
        });
        Ok(run)
    }

    /// Begins with a file that comes in pieces, on this word.
    ///
    /// # Errors
    /// Why it does not begin.
    pub fn receive(
        self: &Arc<Self>,
        account: &str,
        date: &str,
        word: Word,
    ) -> Result<Arc<Run>, Refused> {
        let (run, comparison) = self.begin((account, date), Operation::ReadStatement, word)?;
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
        let account = Arc::clone(comparison.account());
        let piece = (state, bytes, last);
        match self.reader.piece(&account, &run.date, piece, &mut comparison).await {
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
        (account, date): (&str, &str),
        op: Operation,
        word: Word,
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
        let run = Run::new(id, (account, date), self.driver.clock.now().wall_ms, word);
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

    fn runs(&self) -> MutexGuard<'_, Vec<Held>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
