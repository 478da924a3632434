//! Takes up another configuration while payments go on: reads it, checks it, loads its plugins,
//! opens its accounts, and only then puts it into force in one step.
//!
//! Whatever fails, the generation that runs goes on untouched, and why is said in the answer, the
//! log, the status and the metric. What only a start can change is named and left as it is. With a
//! canary the new generation first gets a share of the new payments; it is promoted when its time
//! is over, or rolled back by what it does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use interlock_journal::ListQuery;
use interlock_plugin_host::PluginHost;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, oneshot};

use crate::config::{self, Config, Diagnostic};
use crate::driver::Driver;
use crate::health;
use crate::setup::{self, Setup, Told};
use crate::webhooks::{Listeners, Webhooks};

/// How often a canary's time is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Takes up configurations, one at a time.
pub struct Reloader {
    path: PathBuf,
    /// What this process began with, for what only a start reads.
    started: Config,
    host: Arc<PluginHost>,
    driver: Arc<Driver>,
    webhooks: Arc<Webhooks>,
    admin: Arc<ArcSwap<config::Admin>>,
    generations: AtomicU64,
    /// What comes into force with the canary under way; held by whoever reloads.
    pending: Mutex<Option<Pending>>,
}

/// What a reload works with.
pub struct Parts {
    /// The configuration file.
    pub path: PathBuf,
    /// What was read of it at the start.
    pub started: Config,
    /// Loads plugins.
    pub host: Arc<PluginHost>,
    /// Holds the configuration in force.
    pub driver: Arc<Driver>,
    /// The merchants' webhooks.
    pub webhooks: Arc<Webhooks>,
    /// What the operators' door obeys.
    pub admin: Arc<ArcSwap<config::Admin>>,
}

/// What of a canary waits for its promotion.
struct Pending {
    config: Config,
    listeners: Listeners,
}

/// A share of new payments, and for how long it is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanaryWish {
    /// More than 0 and less than 1.
    pub share: f64,
    /// ms.
    pub for_ms: u64,
}

/// A configuration that was taken up.
#[derive(Debug)]
pub struct Reloaded {
    /// Its number.
    pub generation: u64,
    /// Whether it is tried out first.
    pub as_canary: bool,
    /// Accounts by what the reload means for them.
    pub accounts: Accounts,
    /// What somebody should know.
    pub warnings: Vec<Diagnostic>,
    /// Keys that differ and that only a start reads.
    pub needs_restart: Vec<&'static str>,
}

/// Accounts by what a reload means for them.
#[derive(Debug, Default)]
pub struct Accounts {
    /// New ones.
    pub added: Vec<String>,
    /// Opened again: their plugin or their settings are others.
    pub changed: Vec<String>,
    /// As they were, with their connections.
    pub kept: Vec<String>,
    /// Not configured any more.
    pub removed: Vec<String>,
}

/// Why nothing was taken up.
#[derive(Debug)]
pub enum Kept {
    /// The configuration can't be used: everything that was found.
    Findings(Vec<Diagnostic>),
    /// A canary is under way.
    Canary,
    /// There is no canary.
    NoCanary,
}

impl Kept {
    /// In one sentence.
    pub fn why(&self) -> String {
        match self {
            Self::Findings(found) => {
                let first = found.iter().find(|d| d.is_error()).or(found.first());
                let told = first.map_or("it can't be used", |d| d.message.as_str());
                match found.iter().filter(|d| d.is_error()).count() {
                    0 | 1 => told.to_owned(),
                    errors => format!("{told}, and {} more", errors - 1),
                }
            }
            Self::Canary => "a canary is under way: promote it or roll it back first".into(),
            Self::NoCanary => "no canary is under way".into(),
        }
    }
}

impl Reloader {
    /// Takes nothing up yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { path, started, host, driver, webhooks, admin } = parts;
        let generations = AtomicU64::new(driver.setup().generation);
        let pending = Mutex::default();
        Arc::new(Self { path, started, host, driver, webhooks, admin, generations, pending })
    }

    /// Reads the file again and takes it up; `by` is who asked for it.
    ///
    /// # Errors
    /// [`Kept`]: what runs goes on.
    pub async fn reload(
        &self,
        canary: Option<CanaryWish>,
        by: Option<String>,
    ) -> Result<Reloaded, Kept> {
        let mut pending = self.pending.lock().await;
        // systemd wants both in one message.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_manager(&[NotifyState::Reloading, now]);
        }
        let generation = self.generations.load(Ordering::Acquire) + 1;
        let taken = self.take_up(generation, canary, &mut pending).await;
        let running = self.driver.setup().generation;
        match &taken {
            Ok(done) => {
                let result = if done.as_canary { "canary" } else { "loaded" };
                let needs_restart = done.needs_restart.join(", ");
                tracing::warn!(generation, result, by, needs_restart, "configuration is taken up");
                self.tell(result, generation, by, None);
            }
            Err(kept) => {
                let why = kept.why();
                tracing::error!(
                    running,
                    by,
                    why,
                    "configuration was not taken up; what runs stays"
                );
                self.tell("kept", generation, by, Some(why));
            }
        }
        taken
    }

    async fn take_up(
        &self,
        generation: u64,
        canary: Option<CanaryWish>,
        pending: &mut Option<Pending>,
    ) -> Result<Reloaded, Kept> {
        if self.driver.in_force.canary().is_some() {
            return Err(Kept::Canary);
        }
        let before = self.driver.setup();
        let (path, host, running) = (self.path.clone(), Arc::clone(&self.host), before.clone());
        let as_canary = canary.is_some();
        let reading =
            move || read(&path, &host, &running, (generation, as_canary)).map_err(Kept::Findings);
        let (config, setup, mut warnings) = on_a_thread(reading).await?;
        let listeners = self.webhooks.prepare(&setup.merchants).await;
        let listeners = listeners.map_err(|why| finding("C084", why))?;
        let accounts = compare(&before, &setup);
        for name in &accounts.removed {
            warnings.extend(self.left_in_doubt(name).await);
        }
        let needs_restart = config::needs_restart(&self.started, &config);
        let now = self.driver.clock.now();
        let setup = Arc::new(setup);
        self.generations.store(generation, Ordering::Release);
        let next = Pending { config, listeners };
        match canary {
            None => self.put(setup, next),
            Some(CanaryWish { share, for_ms }) => {
                self.driver.in_force.begin_canary(setup, share, now, for_ms);
                *pending = Some(next);
            }
        }
        Ok(Reloaded { generation, as_canary, accounts, warnings, needs_restart })
    }

    /// Into force, in one step: from here on every turn decides by it.
    fn put(&self, setup: Arc<Setup>, next: Pending) {
        health::work_out_windows(&setup, self.driver.clock.now());
        let generation = setup.generation;
        self.driver.in_force.put(setup);
        self.follow(generation, next);
    }

    /// What is not read by turns follows.
    fn follow(&self, generation: u64, next: Pending) {
        self.driver.metrics.generation(generation);
        self.webhooks.put(next.listeners);
        if self.started.has_admin_door_of(&next.config) {
            self.admin.store(Arc::new(next.config.admin));
        }
    }

    /// Puts the canary into force for all; its generation.
    ///
    /// # Errors
    /// [`Kept::NoCanary`].
    pub async fn promote(&self, by: Option<String>, why: &str) -> Result<u64, Kept> {
        let mut pending = self.pending.lock().await;
        let canary = self.driver.in_force.canary().ok_or(Kept::NoCanary)?;
        let next = pending.take().ok_or(Kept::NoCanary)?;
        let generation = canary.setup.generation;
        if !self.driver.in_force.promote(&canary) {
            return Err(Kept::NoCanary);
        }
        health::work_out_windows(&canary.setup, self.driver.clock.now());
        self.follow(generation, next);
        tracing::warn!(generation, by, why, "the canary was promoted");
        self.tell("promoted", generation, by, Some(why.to_owned()));
        Ok(generation)
    }

    /// Ends the canary; the generation that goes on.
    ///
    /// # Errors
    /// [`Kept::NoCanary`].
    pub async fn roll_back(&self, by: Option<String>) -> Result<u64, Kept> {
        let mut pending = self.pending.lock().await;
        let canary = self.driver.in_force.canary().ok_or(Kept::NoCanary)?;
        *pending = None;
        if !self.driver.in_force.end(&canary) {
            return Err(Kept::NoCanary);
        }
        let (generation, running) = (canary.setup.generation, self.driver.setup().generation);
        tracing::warn!(generation, by, "the canary was rolled back by hand");
        self.tell("rolled_back", generation, by, Some("by hand".into()));
        Ok(running)
    }

    /// Obeys SIGHUP and ends canaries in time, for as long as the process lives.
    pub async fn watch(self: Arc<Self>, mut hangup: Signal) {
        tell_manager(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => {
                    // What came of it is told where it happens.
                    let _ = self.reload(None, None).await;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let over = self.driver.in_force.canary();
                    let now = self.driver.clock.now();
                    if over.is_some_and(|canary| canary.is_over(now)) {
                        let why = "its time is over, and nothing spoke against it";
                        let _ = self.promote(None, why).await;
                    }
                }
            }
        }
    }

    fn tell(&self, result: &'static str, generation: u64, by: Option<String>, why: Option<String>) {
        let running = self.driver.setup().generation;
        let status = match &why {
            Some(why) => format!("generation {running}; generation {generation} {result}: {why}"),
            None => format!("generation {running}"),
        };
        tell_manager(&[NotifyState::Ready, NotifyState::Status(&status)]);
        let at_ms = self.driver.clock.now().wall_ms;
        self.driver.reloaded(Told { at_ms, result, generation, by, why });
    }

    /// Payments whose money nobody knows keep nobody from removing their account, but somebody
    /// should know.
    async fn left_in_doubt(&self, account: &str) -> Option<Diagnostic> {
        let query = ListQuery {
            in_doubt: Some(true),
            account: Some(account.to_owned()),
            limit: 1,
            ..ListQuery::default()
        };
        let page = self.driver.store.list(query).await.ok()?;
        (!page.rows.is_empty()).then(|| {
            let told = format!("payments at account `{account}` are in doubt");
            Diagnostic::warning("C085", told)
                .note("nobody asks its provider about them until it is configured again")
        })
    }
}

/// On a thread of its own, which takes what it needed of memory with it when it ends.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Kept> + Send + 'static,
) -> Result<T, Kept> {
    let (sender, done) = oneshot::channel();
    let handle = Handle::current();
    let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
        let _entered = handle.enter();
        let _ = sender.send(work());
    });
    thread.map_err(|e| finding("C083", format!("no thread to read it, {}", e.kind())))?;
    done.await.unwrap_or_else(|_| Err(finding("C083", "reading it failed".to_owned())))
}

/// Everything that can fail and may block.
fn read(
    path: &std::path::Path,
    host: &PluginHost,
    running: &Setup,
    (generation, as_canary): (u64, bool),
) -> Result<(Config, Setup, Vec<Diagnostic>), Vec<Diagnostic>> {
    let loaded = config::load(path)?;
    let config = loaded.config;
    let setup = running.load_next(&config, host, generation, as_canary);
    let setup = setup.map_err(|why| vec![Diagnostic::error("C083", why)])?;
    // What did not serve before for the same reason keeps nothing else from being changed.
    let known = |name: &str, reason: &str| running.disabled.get(name).is_some_and(|r| r == reason);
    let mut found: Vec<Diagnostic> = setup
        .disabled
        .iter()
        .filter(|(name, reason)| !known(name, reason))
        .map(|(name, reason)| setup::cant_serve(&config, name, "C082", reason))
        .collect();
    let manifests = setup.open.iter();
    let manifests = manifests.map(|(name, open)| (name.clone(), open.manifest().clone())).collect();
    found.extend(config::check_routes(&config, &manifests));
    found.extend(loaded.warnings);
    match found.iter().any(Diagnostic::is_error) {
        true => Err(found),
        false => Ok((config, setup, found)),
    }
}

fn compare(before: &Setup, next: &Setup) -> Accounts {
    let mut accounts = Accounts::default();
    for (name, open) in &next.open {
        let list = match before.get(name) {
            None => &mut accounts.added,
            Some(known) if Arc::ptr_eq(known, open) => &mut accounts.kept,
            Some(_) => &mut accounts.changed,
        };
        list.push(name.clone());
    }
    let known = |name: &String| next.open.contains_key(name) || next.disabled.contains_key(name);
    accounts.removed = before.open.keys().filter(|name| !known(name)).cloned().collect();
    accounts
}

fn finding(code: &'static str, why: String) -> Kept {
    Kept::Findings(vec![Diagnostic::error(code, why)])
}

/// Tells the service manager, where one listens (`sd_notify`).
pub fn tell_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
