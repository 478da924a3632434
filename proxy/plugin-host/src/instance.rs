//! A plugin opened for one account: the only way to call it.
//!
//! Every call is a job of the pool, watched by it. The job holds the instance, so `destroy` can
//! only run when no call is in flight, and it too is a job.

use std::fmt;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use interlock_plugin_api::{Envelope, FaultKind, Next, abi};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::apart::{Apart, Opening, Trouble};
use super::call::{self, BODY_BYTES_MAX, Handle, META_BYTES_MAX, STATE_BYTES_MAX, Sink};
use super::generation::{Generation, Home, QuarantineReason, count};
use super::keyring::{self, Keyrings, MissingKey};
use super::pool::Job;
use super::secrets::Secrets;
use super::services::Table;

/// A plugin opened for one account.
pub struct Instance {
    live: Arc<Live>,
}

/// What a step wants next, the continuation to keep, and the raw body of the request.
pub struct StepOut {
    /// A request, or the end.
    pub next: Next,
    /// The continuation for the next step, at most 64 KiB; may be empty.
    pub state: Vec<u8>,
    /// The request's raw body, at most 1 MiB; may hold card data, so never log it.
    pub body: Vec<u8>,
    /// A key of a keyring that the step named and that has to be fetched. Unless it is only stale,
    /// the step is to be run again when it is there.
    pub missing: Option<MissingKey>,
}

/// What one call gave, as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The effect, JSON.
    pub meta: Vec<u8>,
    /// The continuation.
    pub state: Vec<u8>,
    /// The raw body of the request.
    pub body: Vec<u8>,
}

impl Parts {
    /// Reads the effect.
    ///
    /// # Errors
    /// [`StepError::BadEffect`]; it holds nothing of what was read.
    pub fn read(self) -> Result<StepOut, StepError> {
        match serde_json::from_slice(&self.meta) {
            Ok(next) => Ok(StepOut { next, state: self.state, body: self.body, missing: None }),
            // The parser's own text can quote what it read.
            Err(e) => {
                let problem = match e.classify() {
                    serde_json::error::Category::Data => "a field is missing or unknown",
                    _ => "it is not JSON",
                };
                let (line, column) = (e.line(), e.column());
                let reason = format!("{problem}, line {line} column {column}");
                Err(StepError::BadEffect { reason })
            }
        }
    }
}

/// Why a plugin could not be opened for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The plugin refused the configuration.
    Fault {
        /// Whose fault.
        kind: FaultKind,
        /// The plugin's own fixed text.
        text: String,
    },
    /// It panicked.
    Panicked,
    /// It passed the hard deadline.
    TimedOut,
    /// Its own process ended.
    Died {
        /// How.
        how: String,
    },
    /// The pool was full.
    Busy,
    /// The generation may not be called.
    Quarantined {
        /// Why.
        reason: QuarantineReason,
    },
}

/// Why a step gave no effect. What that means for the money depends on what was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepError {
    /// The plugin said so.
    Fault {
        /// Whose fault.
        kind: FaultKind,
        /// The plugin's own fixed text; a plugin in C may break that promise.
        text: String,
    },
    /// It panicked; the generation is in quarantine.
    Panicked,
    /// It passed the hard deadline; the generation is in quarantine.
    TimedOut,
    /// What it said can't be read or did not fit; the generation is in quarantine.
    BadEffect {
        /// What is wrong; holds nothing of the plugin's output.
        reason: String,
    },
    /// Its own process ended.
    Died {
        /// How.
        how: String,
    },
    /// Its own process failed a moment ago and is not started again yet; nothing was run.
    Resting,
    /// The pool was full; nothing was run.
    Busy,
    /// The generation may not be called; nothing was run.
    Quarantined {
        /// Why.
        reason: QuarantineReason,
    },
}

impl StepError {
    /// The word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fault { .. } => "plugin_fault",
            Self::Panicked => "plugin_panicked",
            Self::TimedOut => "plugin_timed_out",
            Self::BadEffect { .. } => "plugin_bad_effect",
            Self::Died { .. } => "plugin_died",
            Self::Resting => "plugin_resting",
            Self::Busy => "plugin_pool_busy",
            Self::Quarantined { .. } => "plugin_quarantined",
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { text, .. } => write!(f, "plugin can't do this step: {text}"),
            Self::Panicked => write!(f, "plugin panicked"),
            Self::TimedOut => write!(f, "plugin passed its deadline"),
            Self::Died { how } => write!(f, "plugin failed, {how}"),
            Self::Resting => write!(f, "plugin's own process failed a moment ago"),
            Self::BadEffect { reason } => write!(f, "plugin's effect can't be used: {reason}"),
            Self::Busy => write!(f, "plugin pool is full"),
            Self::Quarantined { reason } => write!(f, "plugin is in quarantine: {reason}"),
        }
    }
}

impl std::error::Error for StepError {}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { text, .. } => write!(f, "plugin refuses the account: {text}"),
            Self::Panicked => write!(f, "plugin panicked when it opened the account"),
            Self::TimedOut => write!(f, "plugin passed its deadline when it opened the account"),
            Self::Died { how } => write!(f, "plugin failed when it opened the account, {how}"),
            Self::Busy => write!(f, "plugin pool is full"),
            Self::Quarantined { reason } => write!(f, "plugin is in quarantine: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl Generation {
    /// Opens the plugin for an account. Blocks for at most the wait in the queue and the hard
    /// deadline, so an async caller goes through `spawn_blocking`.
    ///
    /// # Errors
    /// [`OpenError`]; a panic or a passed deadline puts the generation into quarantine.
    pub fn open(
        self: &Arc<Self>,
        account: &str,
        config: &serde_json::Value,
        secrets: Secrets,
    ) -> Result<Arc<Instance>, OpenError> {
        if let Some(quarantine) = self.quarantine() {
            return Err(OpenError::Quarantined { reason: quarantine.reason });
        }
        let table = Table::new(&self.manifest, account, secrets);
        let config = config.to_string();
        // Two places, so that neither the worker nor the watch ever waits; the first answer counts.
        let (answer, answered) = sync_channel(2);
        let (late, generation, watched) = (answer.clone(), self.clone(), self.clone());
        let account = account.to_owned();
        let job = Job {
            hard: self.watched_for(),
            run: Box::new(move || {
                let _ = answer.send(Live::create(generation, account, table, &config));
            }),
            expired: Box::new(move || {
                count(&watched.counters.timeouts);
                watched.put_in_quarantine(QuarantineReason::TimedOut);
                let _ = late.send(Err(OpenError::TimedOut));
            }),
        };
        self.pool.submit(job).map_err(|_| OpenError::Busy)?;
        let live = answered.recv().unwrap_or(Err(OpenError::Busy))?;
        Ok(Arc::new(Instance { live: Arc::new(live) }))
    }
}

impl Instance {
    /// The generation that it belongs to.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.live.generation
    }

    /// The account that it was opened for.
    pub fn account(&self) -> &str {
        &self.live.account
    }

    /// The account's secrets, for placeholders in headers.
    pub fn secrets(&self) -> &Secrets {
        self.live.table.secrets()
    }

    /// The provider's public keys that were fetched for the account.
    pub fn keyrings(&self) -> &Keyrings {
        self.live.table.keyrings()
    }

    /// Runs one step of an operation. A step is pure, so it may be run again.
    ///
    /// # Errors
    /// [`StepError`]; no effect was produced.
    pub async fn step(
        &self,
        envelope: &Envelope,
        state: &[u8],
        body: &[u8],
    ) -> Result<StepOut, StepError> {
        let generation = &self.live.generation;
        if let Some(quarantine) = generation.quarantine() {
            return Err(StepError::Quarantined { reason: quarantine.reason });
        }
        // May hold a credential, so it is wiped.
        let mut meta = Zeroizing::new(Vec::with_capacity(4096));
        let written = serde_json::to_writer(&mut *meta, envelope);
        let fits = meta.len() <= META_BYTES_MAX
            && state.len() <= STATE_BYTES_MAX
            && body.len() <= BODY_BYTES_MAX;
        if written.is_err() || !fits {
            let text = "the step's input is larger than a plugin is given".to_owned();
            return Err(StepError::Fault { kind: FaultKind::Limit, text });
        }
        let input = Input { meta, state: state.to_vec(), body: Zeroizing::new(body.to_vec()) };
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let (late, live, watched) = (sender.clone(), self.live.clone(), generation.clone());
        let job = Job {
            hard: generation.watched_for(),
            run: Box::new(move || {
                if waiting(&sender) {
                    let result = live.step(&input);
                    // Before the answer: who hears the last one may expect `destroy` to follow.
                    drop(live);
                    answer(&sender, result);
                }
            }),
            expired: Box::new(move || {
                count(&watched.counters.timeouts);
                watched.put_in_quarantine(QuarantineReason::TimedOut);
                answer(&late, Err(StepError::TimedOut));
            }),
        };
        let queued = generation.submit(job);
        let result = match queued {
            Ok(()) => receiver.await.unwrap_or(Err(StepError::Busy)),
            Err(_) => Err(StepError::Busy),
        };
        if matches!(result, Err(StepError::Busy)) {
            count(&generation.counters.busy);
        }
        result
    }

    /// Runs one step on this thread with nobody to watch it, for a process of its own that somebody
    /// else watches. The parts are the envelope, the continuation and the raw body.
    ///
    /// # Errors
    /// [`StepError`]; no effect was produced. Whether the effect can be read is not looked at.
    pub fn step_here(&self, given: [&[u8]; 3]) -> Result<Parts, StepError> {
        self.live.call(given)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({} of {:?})", self.live.account, self.live.generation)
    }
}

impl fmt::Debug for StepOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.next {
            Next::Send(_) => "send",
            Next::Done(_) => "done",
        };
        write!(f, "StepOut({kind}, {} + {} bytes)", self.state.len(), self.body.len())
    }
}

type Answer = Mutex<Option<oneshot::Sender<Result<StepOut, StepError>>>>;

fn waiting(sender: &Answer) -> bool {
    let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
    sender.as_ref().is_some_and(|sender| !sender.is_closed())
}

/// The first answer counts; a caller that is gone hears none.
fn answer(sender: &Answer, result: Result<StepOut, StepError>) {
    let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(sender) = sender {
        let _ = sender.send(result);
    }
}

struct Input {
    meta: Zeroizing<Vec<u8>>,
    state: Vec<u8>,
    body: Zeroizing<Vec<u8>>,
}

/// An instance that `create` made and `destroy` has not ended.
struct Live {
    generation: Arc<Generation>,
    account: String,
    table: Arc<Table>,
    room: Room,
}

/// Where an instance lives.
enum Room {
    Here(&'static abi::Plugin, Handle),
    Apart(Apart),
}

impl Live {
    fn create(
        generation: Arc<Generation>,
        account: String,
        table: Arc<Table>,
        config: &str,
    ) -> Result<Self, OpenError> {
        if let Some(quarantine) = generation.quarantine() {
            return Err(OpenError::Quarantined { reason: quarantine.reason });
        }
        count(&generation.counters.calls);
        let since = Instant::now();
        let (rc, room, sink) = match &generation.home {
            Home::Here(plugin) => {
                let (rc, handle, sink) = call::create(plugin, table.as_ptr(), config.as_bytes());
                (rc, Room::Here(plugin, handle), sink)
            }
            Home::Apart { library, program, waiting_max } => {
                let opening = Opening {
                    program: program.clone(),
                    library: library.clone(),
                    file: generation.file.clone(),
                    config: config.to_owned(),
                    hard: generation.hard,
                    waiting_max: *waiting_max,
                };
                let (apart, rc, sink) =
                    Apart::open(opening, table.clone()).map_err(|trouble| match trouble {
                        Trouble::Died(how) => OpenError::Died { how },
                        Trouble::TimedOut => OpenError::TimedOut,
                        Trouble::Resting | Trouble::Busy => OpenError::Busy,
                    })?;
                (rc, Room::Apart(apart), sink)
            }
        };
        generation.returned(since.elapsed());
        match rc {
            abi::OK => Ok(Self { generation, account, table, room }),
            abi::E_PANIC => {
                count(&generation.counters.panics);
                generation.put_in_quarantine(QuarantineReason::Panicked);
                Err(OpenError::Panicked)
            }
            rc => {
                count(&generation.counters.faults);
                Err(OpenError::Fault { kind: fault_kind(rc), text: sink.error_text() })
            }
        }
    }

    fn step(&self, input: &Input) -> Result<StepOut, StepError> {
        let given = [&input.meta[..], &input.state[..], &input.body[..]];
        // Whoever serves the plugin's questions does so on this thread.
        keyring::begin();
        let out = self.call(given)?.read().inspect_err(|_| self.said_badly())?;
        Ok(StepOut { missing: keyring::missed(), ..out })
    }

    /// One call; what it gave is not looked into.
    fn call(&self, given: [&[u8]; 3]) -> Result<Parts, StepError> {
        let generation = &self.generation;
        if let Some(quarantine) = generation.quarantine() {
            return Err(StepError::Quarantined { reason: quarantine.reason });
        }
        count(&generation.counters.calls);
        let since = Instant::now();
        let (rc, sink) = match &self.room {
            Room::Here(plugin, handle) => call::step(plugin, *handle, given),
            Room::Apart(apart) => apart.step(given).map_err(|trouble| match trouble {
                Trouble::Died(how) => {
                    let deaths = count(&generation.counters.deaths);
                    let (plugin, account) = (generation.manifest.id.as_str(), &self.account);
                    tracing::warn!(plugin, account, how, deaths, "plugin's process ended");
                    StepError::Died { how }
                }
                Trouble::TimedOut => {
                    count(&generation.counters.timeouts);
                    StepError::TimedOut
                }
                Trouble::Resting => StepError::Resting,
                Trouble::Busy => StepError::Busy,
            })?,
        };
        generation.returned(since.elapsed());
        match rc {
            abi::OK => parts(sink).inspect_err(|_| self.said_badly()),
            abi::E_PANIC => {
                count(&generation.counters.panics);
                // Apart it has harmed nobody, and the next step begins in order.
                if !generation.is_apart() {
                    generation.put_in_quarantine(QuarantineReason::Panicked);
                }
                Err(StepError::Panicked)
            }
            rc => {
                count(&generation.counters.faults);
                Err(StepError::Fault { kind: fault_kind(rc), text: sink.error_text() })
            }
        }
    }
}

impl Live {
    fn said_badly(&self) {
        count(&self.generation.counters.bad_effects);
        self.generation.put_in_quarantine(QuarantineReason::BadEffect);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Code that has failed is not run once more, not even to end; its memory is lost, and what
        // it had of the host is not: no call is in flight.
        let Room::Here(plugin, handle) = self.room else { return };
        if self.generation.quarantine().is_some() {
            return;
        }
        let (generation, watched) = (self.generation.clone(), self.generation.clone());
        let table = self.table.clone();
        let ended = self.generation.pool.submit(Job {
            hard: self.generation.hard,
            run: Box::new(move || {
                if generation.quarantine().is_none() {
                    // SAFETY: every call holds its `Live`, and this is the drop of the last one.
                    unsafe { call::destroy(plugin, handle) };
                }
                drop(table);
            }),
            expired: Box::new(move || {
                count(&watched.counters.timeouts);
                watched.put_in_quarantine(QuarantineReason::TimedOut);
            }),
        });
        if ended.is_err() {
            let plugin = self.generation.manifest.id.as_str();
            tracing::warn!(plugin, "plugin pool is full, an instance stays in memory");
        }
    }
}

fn parts(sink: Sink) -> Result<Parts, StepError> {
    match sink.over {
        Some(part) => {
            let reason = format!("more than fits was put into a part, {part}");
            Err(StepError::BadEffect { reason })
        }
        None => Ok(Parts { meta: sink.meta, state: sink.state, body: sink.body }),
    }
}

/// A code of a later minor version is the plugin's own failure: no effect was produced.
fn fault_kind(rc: i32) -> FaultKind {
    match rc {
        abi::E_INPUT => FaultKind::Input,
        abi::E_UNSUPPORTED => FaultKind::Unsupported,
        abi::E_CONFIG => FaultKind::Config,
        abi::E_LIMIT => FaultKind::Limit,
        _ => FaultKind::Internal,
    }
}
