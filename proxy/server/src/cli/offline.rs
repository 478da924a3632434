//! A configuration and its plugins' manifests without a server: nothing is run, no secret is read.

use std::collections::BTreeMap;
use std::path::Path;

use interlock_engine::Policy;
use interlock_plugin_api::Manifest;

use super::client::{Code, NO};
use super::output;
use crate::config::{self, Config, Window};
use crate::setup;
use interlock_plugin_host::inspect;

/// What routing needs to know.
pub struct Drawing {
    /// Accounts, routes, merchants.
    pub policy: Policy,
    /// Each route's line in the file.
    pub places: BTreeMap<String, String>,
    /// When accounts are not used.
    pub maintenance: BTreeMap<String, Vec<Window>>,
}

/// Reads a configuration and the manifests of its plugins, from `plugins` or its own folder.
pub fn drawing(file: &Path, plugins: Option<&Path>) -> Result<Drawing, Code> {
    let loaded = config::load_alone(file).map_err(|found| {
        output::findings(&found);
        NO
    })?;
    let config = loaded.config;
    let folder = plugins.unwrap_or(&config.server.plugins_dir);
    let manifests = manifests(&config, folder).map_err(|why| {
        output::error(&why);
        NO
    })?;
    let policy = setup::policy_of_manifests(&config, &manifests);
    let windows = config.accounts.values().map(|a| (a.name.clone(), a.maintenance.clone()));
    let maintenance = windows.collect();
    Ok(Drawing { policy, places: setup::places(&config), maintenance })
}

fn manifests(config: &Config, folder: &Path) -> Result<BTreeMap<String, Manifest>, String> {
    let mut manifests = BTreeMap::new();
    for account in config.accounts.values() {
        if manifests.contains_key(&account.plugin) {
            continue;
        }
        let path = folder.join(setup::plugin_file(&account.plugin));
        let found = inspect(&path).map_err(|e| format!("{e} in {}", folder.display()))?;
        let manifest = found.manifest.ok_or_else(|| {
            format!("its manifest can't be read without running it: {}", path.display())
        })?;
        manifests.insert(account.plugin.clone(), manifest);
    }
    Ok(manifests)
}
