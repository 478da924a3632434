//! One account: its plugin loaded by its pin, and opened with its secrets and addresses.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use interlock_engine::gates::{Group, places};
use interlock_plugin_api::{Kind, Manifest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::calls::{Fetches, Tokens};
use crate::config::{self, Account, Config, Isolation, Window};
use crate::upstream::{Endpoint, Trust};
use interlock_plugin_host::{
    Generation, Instance, Pin, PluginHost, PluginLock, Program, Publisher, Secrets,
};

/// An account whose plugin is open.
pub struct OpenAccount {
    /// Its name in the configuration.
    pub name: String,
    /// Its plugin.
    pub instance: Arc<Instance>,
    /// Its provider's addresses, by the manifest's names.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// The same as they are written, for links that a shopper opens.
    pub addresses: BTreeMap<String, String>,
    /// Bound on one whole exchange.
    pub timeout: Duration,
    /// Bound on name, connect and handshake.
    pub connect_timeout: Duration,
    /// Where its provider notifies us.
    pub notify_url: Option<String>,
    /// The access tokens that it holds now.
    pub tokens: Tokens,
    /// When its provider's public keys were last asked for.
    pub fetches: Fetches,
    /// Whom the certificates of such keys must lead to.
    pub authorities: Vec<CertificateDer<'static>>,
    /// When it is not used.
    pub maintenance: Vec<Window>,
    /// Who may ask its provider about payments, in the order of asking.
    pub inquiries: Semaphore,
    /// Names its credentials and addresses without holding them.
    pub identity: String,
    /// All that it was made of: an account of the same is not opened again.
    seal: String,
}

impl OpenAccount {
    /// The manifest of its plugin.
    pub fn manifest(&self) -> &Manifest {
        self.instance.generation().manifest()
    }

    /// Tells it from the same account as it was or will be configured.
    pub(crate) fn seal(&self) -> &str {
        &self.seal
    }
}

/// The file of a plugin, by its name in the configuration.
pub fn plugin_file(plugin: &str) -> String {
    format!("lib{}.so", plugin.replace('-', "_"))
}

/// Loads an account's plugin by its pin.
pub(crate) fn load(
    config: &Config,
    account: &Account,
    lock: &PluginLock,
    host: &PluginHost,
) -> Result<Arc<Generation>, String> {
    let file = plugin_file(&account.plugin);
    let path = config.server.plugins_dir.join(&file);
    if let Some(locked) = lock.file(&file) {
        locked.check_publisher(&config.server.plugins_dir).map_err(|e| e.to_string())?;
    }
    let pin = match lock.file(&file) {
        Some(locked) => Pin::Sha256(locked.digest().ok_or_else(|| {
            format!("plugins.lock field `sha256` is not 64 hexadecimal digits: {file}")
        })?),
        None if config.server.allow_unpinned => Pin::Unpinned,
        None => {
            return Err(format!(
                "plugin is not pinned; run `interlock plugin pin`: {file} in {}",
                config.server.plugins_lock.display()
            ));
        }
    };
    let publisher = lock.file(&file).and_then(|locked| locked.ed25519.as_deref());
    let publisher = publisher.and_then(Publisher::from_hex);
    let trusted = publisher.is_some_and(|p| config.server.trusted_publishers.contains(&p));
    let default = if trusted { Isolation::InProcess } else { Isolation::Process };
    let isolation = account.isolation.unwrap_or(default);
    let loaded = host.load_where(&path, pin, &|manifest| {
        // Card data is opened apart, whoever published it.
        let wallet = manifest.is_some_and(|manifest| manifest.kind == Kind::Wallet);
        (isolation == Isolation::Process || wallet).then(served_by)
    });
    loaded.map_err(|e| e.to_string())
}

/// This very program, as the process of one plugin: not what an upgrade has put in its place, which
/// may speak to it in other words.
fn served_by() -> Program {
    Program { path: "/proc/self/exe".into(), args: vec!["plugin".into(), "serve".into()] }
}

/// Opens an account's plugin, with its secrets and addresses; `before` is taken as it is if it was
/// made of the same, with its connections.
pub(crate) fn open_account(
    config: &Config,
    account: &Account,
    generation: &Arc<Generation>,
    before: Option<&Arc<OpenAccount>>,
) -> Result<Arc<OpenAccount>, String> {
    let manifest = generation.manifest();
    let problems = config::check_account(account, manifest);
    if let Some(problem) = problems.iter().find(|d| d.is_error()) {
        return Err(problem.message.clone());
    }
    let pairs = account
        .secrets
        .iter()
        .map(|(name, secret)| (name.clone(), SecretString::from(secret.expose().to_owned())))
        .collect();
    let secrets = Secrets::of(manifest, pairs).map_err(|e| e.to_string())?;
    let trust = trust(account)?;
    let site =
        |url: &String| Endpoint::trusting(&account.name, url, &trust).map_err(|e| e.to_string());
    let (mut endpoints, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for (name, default) in &manifest.hosts {
        let url = account.endpoints.get(name).unwrap_or(default);
        let others = further_sites(account, manifest, name).iter().map(site);
        let endpoint = site(url)?.with_others(others.collect::<Result<_, _>>()?);
        endpoints.insert(name.clone(), endpoint);
        addresses.insert(name.clone(), url.clone());
    }
    let identity = identity(account, manifest);
    let notify_url = config.server.notify_url(&account.name);
    let seal = format!(
        "{:?}",
        (
            (&identity, generation.number(), trust.key()),
            (account.timeout_ms, account.connect_timeout_ms, account.in_flight),
            (&notify_url, &account.maintenance),
        )
    );
    if let Some(before) = before.filter(|open| open.seal == seal) {
        return Ok(Arc::clone(before));
    }
    let settings = serde_json::Value::Object(account.config.clone());
    let instance = generation
        .open(&account.name, &settings, secrets)
        .map_err(|e| format!("{e}: {}", generation.file()))?;
    Ok(Arc::new(OpenAccount {
        tokens: Tokens::new(manifest),
        fetches: Fetches::new(manifest),
        authorities: authorities(account, manifest)?,
        name: account.name.clone(),
        instance,
        endpoints,
        addresses,
        timeout: Duration::from_millis(account.timeout_ms),
        connect_timeout: Duration::from_millis(account.connect_timeout_ms),
        notify_url,
        maintenance: account.maintenance.clone(),
        inquiries: Semaphore::new(places(Group::Inquiries, account.in_flight) as usize),
        identity,
        seal,
    }))
}

/// The other doors of an endpoint: the provider's own only beside its own address.
fn further_sites<'a>(account: &'a Account, manifest: &'a Manifest, name: &str) -> &'a [String] {
    let theirs =
        || manifest.alternatives.get(name).filter(|_| !account.endpoints.contains_key(name));
    account.alternatives.get(name).or_else(theirs).map_or(&[], Vec::as_slice)
}

/// The authorities of certificates that a provider signs notifications with; none where no keyring
/// asks for one.
fn authorities(
    account: &Account,
    manifest: &Manifest,
) -> Result<Vec<CertificateDer<'static>>, String> {
    if manifest.keyrings.values().all(|ring| ring.common_names.is_empty()) {
        return Ok(Vec::new());
    }
    match &account.ca {
        Some(path) => {
            let certificates: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(&read(path)?).collect();
            certificates.map_err(|_| format!("file is not PEM: {}", path.display()))
        }
        None => Ok(pingora::tls::load_native_certs().unwrap_or_default()),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("file can't be read, {}: {}", e.kind(), path.display()))
}

/// Whom an account's connections trust, and how we prove ourselves to its provider.
fn trust(account: &Account) -> Result<Trust, String> {
    let ca = account.ca.as_ref().map(read).transpose()?;
    let client = match &account.client {
        Some((certificate, key)) => Some((read(certificate)?, Zeroizing::new(read(key)?))),
        None => None,
    };
    let client = client.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
    Trust::new(ca.as_deref(), client, &account.spki).map_err(|e| e.to_string())
}

/// Names the credentials and addresses of an account without holding them: a re-send under other
/// ones could reach another merchant account at the provider, where the key means nothing.
fn identity(account: &Account, manifest: &Manifest) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    add(&account.plugin);
    add(&serde_json::Value::Object(account.config.clone()).to_string());
    for (name, default) in &manifest.hosts {
        add(name);
        add(account.endpoints.get(name).unwrap_or(default));
        further_sites(account, manifest, name).iter().for_each(|url| add(url));
    }
    for (name, secret) in &account.secrets {
        add(name);
        add(secret.expose());
    }
    hex::encode(&context.finish().as_ref()[..12])
}
