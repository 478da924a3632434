//! Loads provider plugins and runs them where they can harm nothing but themselves.
//!
//! The life of a plugin: its file is pinned by hash ([`PluginLock`]), read and checked without
//! running ([`inspect`]), loaded as a [`Generation`] ([`PluginHost::load`]), opened for an account
//! ([`Generation::open`]) and asked for one step at a time ([`Instance::step`]). What a step wants
//! to send is judged by [`classify_send`]. A plugin that breaks its word is put into quarantine
//! with a named reason; the proxy and the last good generation go on.

mod apart;
pub mod cage;
mod call;
mod elf;
mod frame;
mod generation;
mod guard;
mod instance;
mod keyring;
mod keys;
mod load;
mod load_error;
mod lock;
mod memory;
mod pool;
mod publisher;
mod secrets;
mod served;
mod services;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use interlock_plugin_api::{Manifest, abi};

pub use apart::Program;
pub use elf::{FILE_BYTES_MAX, Inspection, inspect};
pub use generation::{CounterValues, Generation, Quarantine, QuarantineReason};
pub use guard::{Classified, Refused, UNLISTED, classify_send};
pub use instance::{Instance, OpenError, Parts, StepError, StepOut};
pub use keyring::{FetchedKey, Keyrings, MissingKey};
pub use load_error::{LoadError, LoadReason};
pub use lock::{Change, LockError, LockedPlugin, PluginLock, pin};
pub use memory::{dump_nothing, swap_nothing};
pub use pool::PoolState;
pub use publisher::{Publisher, Signed, read_signature, signature_file};
pub use secrets::{SecretError, Secrets};
pub use served::serve;

use elf::PluginFile;
use generation::Home;
use load::Linked;
use pool::{Job, Pool, Sizes};

/// At most this many generations are held at once: an old one is never unmapped.
pub const GENERATIONS_MAX: usize = 64;
/// How long the dynamic linker and a library's start-up code may take, ms.
const LINK_MS: u64 = 10_000;

/// How plugins are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that run plugins.
    pub workers: usize,
    /// Calls that may wait for a thread.
    pub queue: usize,
    /// A call that takes longer is counted and logged, ms.
    pub soft_ms: u64,
    /// A call that takes longer is given up, and its generation with it, ms.
    pub hard_ms: u64,
    /// So many stuck threads are replaced; with one more, whosever it is, the host is unhealthy.
    pub abandoned_max: usize,
    /// So many quick calls run beside their callers: no more than the caller's runtime has threads
    /// to spare, for each may get stuck and keep one.
    pub beside: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { workers: 4, queue: 256, soft_ms: 50, hard_ms: 1000, abandoned_max: 2, beside: 0 }
    }
}

/// Which bytes may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Only those of this hash.
    Sha256([u8; 32]),
    /// Any: for development only.
    Unpinned,
}

/// Loads plugins and owns the threads that run them.
pub struct PluginHost {
    options: Options,
    pool: Arc<Pool>,
    generations: Mutex<Vec<Weak<Generation>>>,
    /// Held for the whole of a load, so that two loads of one file make one generation.
    loading: Mutex<()>,
    loaded: AtomicU64,
    linked: Arc<Linked>,
}

impl PluginHost {
    /// Starts the threads.
    pub fn new(options: Options) -> Arc<Self> {
        let pool = Pool::start(Sizes {
            workers: options.workers.max(1),
            queue: options.queue.max(1),
            abandoned_max: options.abandoned_max,
            beside: options.beside,
            tick: Duration::from_millis((options.hard_ms / 10).clamp(1, 100)),
        });
        Arc::new(Self {
            options,
            pool: Arc::new(pool),
            generations: Mutex::new(Vec::new()),
            loading: Mutex::new(()),
            loaded: AtomicU64::new(0),
            linked: Arc::default(),
        })
    }

    /// Loads a plugin. The same file with the same bytes is loaded once, as long as something holds
    /// its generation and it is not in quarantine. Blocks (at most 10 s and the wait in the queue),
    /// so an async caller goes through `spawn_blocking`.
    ///
    /// # Errors
    /// [`LoadError`] names the file and what is wrong with it; what was loaded before goes on.
    pub fn load(&self, path: &Path, pin: Pin) -> Result<Arc<Generation>, LoadError> {
        self.load_where(path, pin, &|_| None)
    }

    /// The same, with the plugin's code in processes of its own where there is an `apart` for its
    /// manifest, one for each account: none of it runs in this one. A manifest that can't be read
    /// without running the plugin is none.
    ///
    /// # Errors
    /// As [`PluginHost::load`].
    pub fn load_where(
        &self,
        path: &Path,
        pin: Pin,
        apart: &dyn Fn(Option<&Manifest>) -> Option<Program>,
    ) -> Result<Arc<Generation>, LoadError> {
        let (name, sha256) = PluginFile::hashed(path)?;
        if matches!(pin, Pin::Unpinned) || pin == Pin::Sha256(sha256) {
            let same = self.same(&name, sha256, |m| apart(Some(m)).is_some());
            if let Some(same) = same {
                return Ok(same);
            }
        }
        // What is loaded is what is read here, once; it may be another file by now.
        let file = PluginFile::read(path)?;
        self.load_file(file, pin, apart).map_err(|reason| {
            let word = reason.as_str();
            tracing::warn!(file = name, reason = word, "plugin was not loaded");
            reason.of(&name)
        })
    }

    /// Whether every thread that should take work does.
    pub fn healthy(&self) -> bool {
        self.pool.healthy()
    }

    /// How the pool is.
    pub fn pool(&self) -> PoolState {
        self.pool.state()
    }

    /// The generations that something still holds, oldest first.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        let known = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().filter_map(Weak::upgrade).collect()
    }

    /// The generation of these bytes that something holds and that may be called, in a process of
    /// its own or not as `apart` says.
    fn same(
        &self,
        name: &str,
        sha256: [u8; 32],
        apart: impl Fn(&Manifest) -> bool,
    ) -> Option<Arc<Generation>> {
        self.generations().into_iter().find(|g| {
            g.sha256 == sha256
                && g.file == name
                && g.is_apart() == apart(&g.manifest)
                && g.quarantine().is_none()
        })
    }

    fn load_file(
        &self,
        file: PluginFile,
        pin: Pin,
        apart: &dyn Fn(Option<&Manifest>) -> Option<Program>,
    ) -> Result<Arc<Generation>, LoadReason> {
        if let Pin::Sha256(pinned) = pin
            && pinned != file.sha256
        {
            let (pinned, found) = (hex::encode(pinned), hex::encode(file.sha256));
            return Err(LoadReason::WrongHash { pinned, found });
        }
        let inspection = file.inspect().map_err(|error| error.reason)?;
        let program = apart(inspection.manifest.as_ref());
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = self.same(&file.name, file.sha256, |_| program.is_some()) {
            return Ok(same);
        }
        if self.generations().len() >= GENERATIONS_MAX {
            return Err(LoadReason::TooMany { max: GENERATIONS_MAX });
        }
        for warning in &inspection.warnings {
            tracing::warn!(file = file.name, warning, "plugin has a weakness");
        }
        let (name, sha256) = (file.name.clone(), file.sha256);
        let (home, manifest) = match program {
            Some(program) => {
                let manifest = inspection.manifest.ok_or(LoadReason::Descriptor {
                    field: "manifest",
                    problem: "it is unreadable without running the plugin here".into(),
                })?;
                let library = load::sealed(&file.bytes);
                let library = library.map_err(|e| LoadReason::Mapping(e.to_string()))?;
                let waiting_max = self.options.workers.saturating_sub(2).max(1);
                let library = Arc::new(library);
                (Home::Apart { library, program, waiting_max }, manifest)
            }
            None => {
                let plugin = match self.linked.get(&name, sha256) {
                    Some(plugin) => plugin,
                    None => self.link(file)?,
                };
                let text = load::manifest(plugin)?;
                let manifest = Manifest::parse(text).map_err(LoadReason::Manifest)?;
                self.linked.add(&name, sha256, plugin);
                (Home::Here(plugin), manifest)
            }
        };
        let generation = Arc::new(Generation {
            home,
            pool: self.pool.clone(),
            soft: Duration::from_millis(self.options.soft_ms),
            hard: Duration::from_millis(self.options.hard_ms.max(1)),
            counters: generation::Counters::default(),
            file: name,
            sha256,
            abi: inspection.abi,
            manifest,
            number: self.loaded.fetch_add(1, Ordering::Relaxed) + 1,
            since: Instant::now(),
            quarantine: OnceLock::new(),
            linked: Arc::clone(&self.linked),
            slow: AtomicBool::new(false),
        });
        let mut known = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|generation| generation.strong_count() > 0);
        known.push(Arc::downgrade(&generation));
        drop(known);
        let (id, version) = (generation.manifest.id.as_str(), generation.version());
        tracing::info!(id, version, number = generation.number, "plugin is loaded");
        Ok(generation)
    }

    /// A library's start-up code is plugin code, so it too runs on the pool.
    fn link(&self, file: PluginFile) -> Result<&'static abi::Plugin, LoadReason> {
        self.linked.count()?;
        let (answer, answered) = sync_channel(2);
        let late = answer.clone();
        let job = Job {
            hard: Duration::from_millis(LINK_MS),
            run: Box::new(move || {
                let _ = answer.send(load::link(&file));
            }),
            expired: Box::new(move || {
                let _ = late.send(Err(LoadReason::TimedOut { limit_ms: LINK_MS }));
            }),
        };
        self.pool.submit(job).map_err(|_| LoadReason::Busy)?;
        answered.recv().unwrap_or(Err(LoadReason::Busy))
    }
}

#[cfg(test)]
#[path = "../../../tests/src/mutator.rs"]
mod mutator;
