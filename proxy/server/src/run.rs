//! `interlock run`: puts the rooms together, recovers, opens the doors, and stops without losing
//! a payment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use interlock_journal::{Options as StoreOptions, SqliteStore, Store};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::Admin;
use crate::admin::guard::Guard;
use crate::calls::Caller;
use crate::certificates;
use crate::config::{Config, LogFormat, Telemetry};
use crate::driver::Driver;
use crate::failpoint::{self, Side};
use crate::front_door::{Door, DoorTls, FrontDoor, Limits, Passage, TlsOptions, serve};
use crate::health::Health;
use crate::merchant_api::MerchantApi;
use crate::metrics::Metrics;
use crate::native::{Native, Way};
use crate::node::{NodeClock, Numbers};
use crate::overload::Overload;
use crate::reconcile::{Reader, Reconciler};
use crate::reload::{Parts, Reloader, tell_manager};
use crate::resolver;
use crate::restoration::{Restoration, Told as Restored};
use crate::setup::{InForce, Setup};
use crate::upstream::{Upstream, UpstreamOptions};
use crate::wallets;
use crate::webhooks::Webhooks;
use interlock_plugin_host::{Options as HostOptions, PluginHost, dump_nothing, swap_nothing};

/// A journal that could not be restored is tried again after this.
const RESTORE_AGAIN: Duration = Duration::from_secs(2);

/// Why the proxy could not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(e: io::Error) -> Self {
        Self(e.to_string())
    }
}

/// Runs until SIGTERM or SIGINT, and then until every request in flight is answered. `path` is the
/// file that `config` was read from, and that a reload reads again. `restored` says that the
/// journal is a backup.
///
/// # Errors
/// What can't be used, with its place.
pub fn run(config: Config, path: PathBuf, restored: Option<Restored>) -> Result<(), StartError> {
    logging(&config.telemetry);
    dump_nothing();
    let drain = Duration::from_millis(config.server.drain_ms);
    let workers = config.server.workers;
    let stopped = serve(workers + spare_threads(workers), drain, start(config, path, restored))?;
    if stopped.unfinished > 0 {
        let unfinished = stopped.unfinished;
        tracing::warn!(unfinished, "stopped before every request was answered; nothing is lost");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Threads of the runtime that plugins may get stuck on without taking one from anybody else.
fn spare_threads(workers: usize) -> usize {
    1 + workers / 4
}

async fn start(
    config: Config,
    path: PathBuf,
    restored: Option<Restored>,
) -> Result<(Vec<Door>, impl Future<Output = ()>), StartError> {
    let [hangup, renew] = [signal(SignalKind::hangup())?, signal(SignalKind::hangup())?];
    let config = Arc::new(config);
    let loading = Arc::clone(&config);
    let opened = tokio::task::spawn_blocking(move || open(&loading)).await;
    let Opened { store, numbers, setup, host } =
        opened.map_err(|e| StartError(format!("start failed: {e}")))??;
    if wallets::are_opened(&setup) {
        let locked = swap_nothing();
        tracing::info!(
            locked,
            "tokens of wallets are opened here; memory that is locked is not swapped"
        );
    }
    let high_water_ms = high_water(&*store).await?;
    let clock = Arc::new(NodeClock::new(high_water_ms));
    let metrics = Metrics::new().map_err(|e| StartError(e.to_string()))?;
    let metrics = Arc::new(metrics);
    let in_force = Arc::new(InForce::new(Arc::new(setup)));
    let upstream = Upstream::new(UpstreamOptions::default());
    let caller = Caller::new(upstream.clone(), Arc::clone(&clock));
    let native = Native::new(Way {
        in_force: Arc::clone(&in_force),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        upstream,
        body_limit: limits(&config).body,
        body_within: limits(&config).read_timeout,
    });
    let watched = Arc::clone(&metrics);
    let webhooks = Webhooks::new(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&metrics));
    let webhooks = Arc::new(webhooks);
    let listeners = webhooks.prepare(&in_force.setup().merchants).await.map_err(StartError)?;
    let numbers = Arc::new(numbers);
    let driver =
        Driver::new(store, in_force, clock, numbers, caller, metrics, Arc::clone(&webhooks));
    let reader = Reader::new(Arc::clone(&driver), &config.server.data_dir);
    let reconciler = Reconciler::new(Arc::clone(&driver), reader.clone());
    let restoration = Restoration::begin(&driver, &reader, restored.as_ref(), high_water_ms);
    let restoration = restoration.await.map_err(StartError)?;
    let goes_on = restoration.as_ref().is_none_or(|restoration| restoration.is_open());
    if goes_on {
        failpoint::pass("start.recovery", Side::Before);
        let recovered = resolver::recover(&driver).await.map_err(|e| StartError(e.to_string()))?;
        failpoint::pass("start.recovery", Side::After);
        tracing::info!(recovered, "open payments are recovered");
    }
    let health = Health::restore(&driver).await.map_err(|e| StartError(e.to_string()))?;
    tokio::spawn(Arc::clone(&health).run());
    let overload = Overload::new(config.server.shed_after_ms.map(Duration::from_millis));
    tokio::spawn(Arc::clone(&overload).run());
    let (resolving, telling) = (Arc::clone(&driver), Arc::clone(&webhooks));
    let (restoring, reconciling) = (restoration.clone(), Arc::clone(&reconciler));
    tokio::spawn(async move {
        if let Some(restoration) = restoring.as_ref().filter(|_| !goes_on) {
            while let Err(error) = restoration.restore().await {
                tracing::error!(%error, "the journal is not restored yet");
                tokio::time::sleep(RESTORE_AGAIN).await;
            }
        }
        telling.put(listeners);
        tokio::spawn(resolver::run(resolving));
        if let Some(restoration) = restoring {
            restoration.cover(&reconciling).await;
        }
    });
    let api = MerchantApi::new(Arc::clone(&driver), Arc::clone(&overload), restoration.clone());
    let passage: Arc<dyn Passage> = Arc::new(native);
    let front = FrontDoor::with_passage(Arc::new(api), Some(passage), limits(&config));
    let operators = Arc::new(ArcSwap::from_pointee(config.admin.clone()));
    let reloader = Reloader::new(Parts {
        path,
        started: Config::clone(&config),
        host: Arc::clone(&host),
        driver: Arc::clone(&driver),
        webhooks,
        admin: Arc::clone(&operators),
    });
    let (driven, watched_by) = (Arc::clone(&driver), Arc::clone(&health));
    let reloading = Arc::clone(&reloader);
    let admin = Admin {
        driver: driven,
        health: watched_by,
        host,
        reloader: reloading,
        reconciler,
        restoration,
        merchants_door: front.clone(),
    };
    let admin = Guard::new(Arc::new(admin), operators);
    let back = FrontDoor::new(Arc::new(admin), Limits { rate_per_address: 0, ..Limits::default() });
    let mut certificates = Vec::new();
    let mut open = |name, address, front, tls: &Option<TlsOptions>| {
        let door = Door::bind(address, front)
            .map_err(|e| StartError(format!("address can't be used, {e}: {address}")))?;
        let Some(options) = tls else { return Ok::<_, StartError>(door) };
        let tls = DoorTls::load(options.clone())
            .map_err(|e| StartError(format!("TLS of the {name} door can't be used, {e}")))?;
        certificates.push((name, Arc::clone(&tls)));
        Ok(door.with_tls(tls))
    };
    let doors = vec![
        open("merchants", config.server.listen, front, &config.server.tls)?,
        open("admin", config.server.admin, back, &config.admin.tls)?,
    ];
    tokio::spawn(certificates::watch(certificates, watched, renew));
    tokio::spawn(reloader.watch(hangup));
    // Outcomes of sends still under way are taken by the driver's own tasks.
    let drained = async move {
        tell_manager(&[NotifyState::Stopping]);
        while driver.sends_under_way() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        health.stop().await;
    };
    Ok((doors, drained))
}

struct Opened {
    store: Arc<dyn Store>,
    numbers: Numbers,
    setup: Setup,
    host: Arc<PluginHost>,
}

fn open(config: &Config) -> Result<Opened, StartError> {
    let dir = &config.server.data_dir;
    let at = |what: &str, e: &dyn fmt::Display, path: &Path| {
        StartError(format!("{what}, {e}: {}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|e| at("data directory can't be made", &e, dir))?;
    let options =
        StoreOptions { low_water_bytes: config.server.disk_low_water, ..StoreOptions::default() };
    let options = failpoint::over_disk(options);
    failpoint::pass("start.journal", Side::Before);
    let store =
        SqliteStore::open(dir, options).map_err(|e| at("journal can't be opened", &e, dir))?;
    failpoint::pass("start.journal", Side::After);
    // The journal has locked the directory, so no other process makes a key in it.
    let stats = tokio::runtime::Handle::current().block_on(store.stats());
    let payments = stats.map_err(|e| at("journal can't be read", &e, dir))?.payments;
    let numbers =
        Numbers::open(dir, payments).map_err(|e| at("key of ids can't be used", &e, dir))?;
    let workers = config.server.workers.clamp(2, 16);
    let beside = spare_threads(config.server.workers);
    let options = HostOptions { workers, queue: 4_096, beside, ..HostOptions::default() };
    let host = PluginHost::new(options);
    let setup = Setup::load(config, &host).map_err(StartError)?;
    for (account, reason) in &setup.disabled {
        tracing::warn!(account, reason, "account is disabled");
    }
    if setup.open.is_empty() {
        tracing::error!("no account serves; every payment will be refused");
    }
    Ok(Opened { store: failpoint::over_store(Arc::new(store)), numbers, setup, host })
}

async fn high_water(store: &dyn Store) -> Result<i64, StartError> {
    let mark = store.settings_get(resolver::HIGH_WATER).await;
    let mark = mark.map_err(|e| StartError(e.to_string()))?;
    let text = mark.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|t| t.parse().ok()).unwrap_or(0))
}

fn limits(config: &Config) -> Limits {
    let s = &config.server;
    Limits {
        body: usize::try_from(s.body_limit).unwrap_or(usize::MAX),
        read_timeout: Duration::from_millis(s.request_timeout_ms),
        inflight: s.in_flight as usize,
        connections: s.connections as usize,
        connections_per_address: s.address_connections.unwrap_or(0) as usize,
        rate_per_address: s
            .address_limit
            .map_or(0, |r| r.per_second().ceil().clamp(1.0, f64::from(u32::MAX)) as u32),
        ..Limits::default()
    }
}

fn logging(telemetry: &Telemetry) {
    let filter = tracing_subscriber::EnvFilter::try_new(&telemetry.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call (tests in one process) finds a subscriber that is there already.
    let _ = match telemetry.format {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines.try_init(),
    };
}
