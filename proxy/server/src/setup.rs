//! A configuration in use: its accounts with their plugins open, its merchants, and what
//! the engine reads. Never changed: a reload makes another one beside it.
//!
//! A plugin that can't be loaded or opened disables its account with a message that names file and
//! field; every other account serves.

mod account;
mod in_force;
mod policy;

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_engine::Policy;
use interlock_engine::gates::Gates;

use crate::config::{self, Config, Diagnostic, Merchant};
use crate::recent::Recent;
use interlock_plugin_host::{PluginHost, PluginLock};

pub use account::{OpenAccount, plugin_file};
pub(crate) use account::{load, open_account};
pub use in_force::{Canary, Heard, InForce, RolledBack, Tally, Told};
pub use policy::{iso_exponent, policy_of_manifests};

/// Everything of one configuration that may be changed without a restart.
pub struct Setup {
    /// Counts the configurations of this process, from 1.
    pub generation: u64,
    /// The accounts that serve.
    pub open: BTreeMap<String, Arc<OpenAccount>>,
    /// Those that do not, with the reason.
    pub disabled: BTreeMap<String, String>,
    /// What the engine reads.
    pub policy: Policy,
    /// Breakers, limits, budgets.
    pub gates: Gates,
    /// How the last minutes were.
    pub recent: Recent,
    /// Each route's line in the configuration.
    pub places: BTreeMap<String, String>,
    /// Each account's rate limit, as it was written.
    pub limits: BTreeMap<String, config::Rate>,
    /// Who may ask for payments.
    pub merchants: Vec<Merchant>,
    /// A payment in doubt for this long is told in the log, ms.
    pub alert_after_ms: u64,
}

impl Setup {
    /// Loads every account's plugin and compiles the policy. Blocks: call it from a blocking task.
    ///
    /// # Errors
    /// An account's breaker settings can't be used.
    pub fn load(config: &Config, host: &PluginHost) -> Result<Self, String> {
        Self::build(config, host, 1, None, false)
    }

    /// The same for another configuration, beside this one or in its place. What is open and made
    /// of the same is taken as it is; breakers, limits and what was counted go on.
    ///
    /// # Errors
    /// As [`Setup::load`].
    pub fn load_next(
        &self,
        config: &Config,
        host: &PluginHost,
        generation: u64,
        as_canary: bool,
    ) -> Result<Self, String> {
        Self::build(config, host, generation, Some(self), as_canary)
    }

    fn build(
        config: &Config,
        host: &PluginHost,
        generation: u64,
        before: Option<&Setup>,
        as_canary: bool,
    ) -> Result<Self, String> {
        let lock = locked(config);
        let mut open = BTreeMap::new();
        let mut disabled = BTreeMap::new();
        // A plugin that hung or panicked for one account would do so for the next, and each hang
        // costs a thread.
        let mut condemned: BTreeMap<&str, String> = BTreeMap::new();
        for account in config.accounts.values() {
            let known = condemned.get(account.plugin.as_str()).cloned();
            let before = before.and_then(|setup| setup.get(&account.name));
            let loaded = lock
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|lock| known.map_or(Ok(lock), Err))
                .and_then(|lock| load(config, account, lock, host))
                .and_then(|generation| {
                    open_account(config, account, &generation, before).inspect_err(|reason| {
                        if generation.quarantine().is_some() {
                            condemned.insert(&account.plugin, reason.clone());
                        }
                    })
                });
            match loaded {
                Ok(account) => {
                    open.insert(account.name.clone(), account);
                }
                Err(reason) => {
                    disabled.insert(account.name.clone(), reason);
                }
            }
        }
        let limits = config.accounts.values().filter_map(|a| Some((a.name.clone(), a.limit?)));
        Ok(Self {
            generation,
            policy: policy::policy(config, &open),
            gates: policy::gates(config, &open, before, as_canary)?,
            recent: Recent::new(open.keys(), before.map(|setup| &setup.recent)),
            places: places(config),
            limits: limits.collect(),
            merchants: config.merchants.values().cloned().collect(),
            alert_after_ms: config.inquiry.alert_after_ms,
            open,
            disabled,
        })
    }

    /// An account that serves.
    pub fn get(&self, name: &str) -> Option<&Arc<OpenAccount>> {
        self.open.get(name)
    }
}

/// What the plugins' manifests say of the accounts and routes; nothing is opened.
pub fn check(config: &Config, host: &PluginHost) -> Vec<Diagnostic> {
    let lock = match locked(config) {
        Ok(lock) => lock,
        Err(why) => return vec![Diagnostic::error("C080", why)],
    };
    let mut findings = Vec::new();
    let mut manifests = BTreeMap::new();
    for account in config.accounts.values() {
        match load(config, account, &lock, host) {
            Ok(generation) => {
                findings.extend(config::check_account(account, generation.manifest()));
                manifests.insert(account.name.clone(), generation.manifest().clone());
            }
            Err(reason) => findings.push(cant_serve(config, &account.name, "C081", &reason)),
        }
    }
    findings.extend(config::check_routes(config, &manifests));
    findings
}

/// An account that can't serve, as a finding in its file.
pub fn cant_serve(config: &Config, account: &str, code: &'static str, why: &str) -> Diagnostic {
    let found = Diagnostic::error(code, format!("account `{account}` can't serve: {why}"));
    match config.accounts.get(account) {
        Some(account) => account.origin.point(found, "plugin"),
        None => found,
    }
}

/// The pins of a configuration; none where there is no file of them.
pub(crate) fn locked(config: &Config) -> Result<PluginLock, String> {
    if config.server.plugins_lock.exists() {
        PluginLock::read(&config.server.plugins_lock).map_err(|e| e.to_string())
    } else {
        Ok(PluginLock::default())
    }
}

/// Each route's line in the file.
pub fn places(config: &Config) -> BTreeMap<String, String> {
    let place = |r: &config::Route| format!("{}:{}", r.origin.file(), r.origin.line());
    config.routes.iter().map(|r| (r.name.clone(), place(r))).collect()
}
