//! The configured accounts with their plugins open, and the policy that the engine reads.
//!
//! A plugin that can't be loaded or opened disables its account with a message that names file and
//! field; every other account serves.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use interlock_engine::gates::{FailoverBudget, GateSettings, Gates, Rate};
use interlock_engine::{
    AccountPolicy, Candidate, CurrencyRule, Failover, Ladder, MerchantPolicy, Policy, RouteMatch,
    RoutePolicy, Strategy,
};
use interlock_plugin_api::{Currency, Manifest, Operation};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::config::{self, Account, Config, Isolation, LateSuccess, Window, strengthened};
use crate::native;
use crate::recent::Recent;
use crate::upstream::{Endpoint, Trust};
use interlock_plugin_host::{Generation, Instance, Pin, PluginHost, PluginLock, Program, Secrets};

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
    /// When it is not used.
    pub maintenance: Vec<Window>,
}

impl OpenAccount {
    /// The manifest of its plugin.
    pub fn manifest(&self) -> &Manifest {
        self.instance.generation().manifest()
    }
}

/// All accounts of one configuration.
pub struct Accounts {
    /// Those that serve.
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
}

impl Accounts {
    /// Loads every account's plugin and compiles the policy. Blocks: call it from a blocking task.
    ///
    /// # Errors
    /// An account's breaker settings can't be used.
    pub fn load(config: &Config, host: &PluginHost) -> Result<Self, String> {
        let lock = if config.server.plugins_lock.exists() {
            PluginLock::read(&config.server.plugins_lock).map_err(|e| e.to_string())
        } else {
            Ok(PluginLock::default())
        };
        let mut open = BTreeMap::new();
        let mut disabled = BTreeMap::new();
        // A plugin that hung or panicked for one account would do so for the next, and each hang
        // costs a thread.
        let mut condemned: BTreeMap<&str, String> = BTreeMap::new();
        for account in config.accounts.values() {
            let known = condemned.get(account.plugin.as_str()).cloned();
            let loaded = lock
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|lock| known.map_or(Ok(lock), Err))
                .and_then(|lock| load(config, account, lock, host))
                .and_then(|generation| {
                    open_account(config, account, &generation).inspect_err(|reason| {
                        if generation.quarantine().is_some() {
                            condemned.insert(&account.plugin, reason.clone());
                        }
                    })
                });
            match loaded {
                Ok(account) => {
                    open.insert(account.name.clone(), Arc::new(account));
                }
                Err(reason) => {
                    tracing::warn!(account = account.name, reason, "account is disabled");
                    disabled.insert(account.name.clone(), reason);
                }
            }
        }
        let policy = policy(config, &open);
        let gates = gates(config, &open)?;
        let recent = Recent::new(open.keys());
        let limits = config.accounts.values().filter_map(|a| Some((a.name.clone(), a.limit?)));
        let limits = limits.collect();
        Ok(Self { open, disabled, policy, gates, recent, places: places(config), limits })
    }

    /// An account that serves.
    pub fn get(&self, name: &str) -> Option<&Arc<OpenAccount>> {
        self.open.get(name)
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
    let loaded = match account.isolation {
        Isolation::InProcess => host.load(&path, pin),
        Isolation::Process => host.load_apart(&path, pin, &served_by()),
    };
    loaded.map_err(|e| e.to_string())
}

/// This very program, as the process of one plugin: not what an upgrade has put in its place, which
/// may speak to it in other words.
fn served_by() -> Program {
    Program { path: "/proc/self/exe".into(), args: vec!["plugin".into(), "serve".into()] }
}

/// Opens an account's plugin, with its secrets and addresses.
pub(crate) fn open_account(
    config: &Config,
    account: &Account,
    generation: &Arc<Generation>,
) -> Result<OpenAccount, String> {
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
    let secrets = Secrets::from_pairs(&manifest.secrets, pairs).map_err(|e| e.to_string())?;
    let trust = trust(account)?;
    let site =
        |url: &String| Endpoint::trusting(&account.name, url, &trust).map_err(|e| e.to_string());
    let (mut endpoints, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for (name, default) in &manifest.hosts {
        let url = account.endpoints.get(name).unwrap_or(default);
        let others = account.alternatives.get(name).into_iter().flatten().map(site);
        let endpoint = site(url)?.with_others(others.collect::<Result<_, _>>()?);
        endpoints.insert(name.clone(), endpoint);
        addresses.insert(name.clone(), url.clone());
    }
    let settings = serde_json::Value::Object(account.config.clone());
    let instance = generation
        .open(&account.name, &settings, secrets)
        .map_err(|e| format!("{e}: {}", generation.file()))?;
    Ok(OpenAccount {
        name: account.name.clone(),
        instance,
        endpoints,
        addresses,
        timeout: Duration::from_millis(account.timeout_ms),
        connect_timeout: Duration::from_millis(account.connect_timeout_ms),
        notify_url: config.server.notify_url(&account.name),
        maintenance: account.maintenance.clone(),
    })
}

/// Whom an account's connections trust, and how we prove ourselves to its provider.
fn trust(account: &Account) -> Result<Trust, String> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|e| format!("file can't be read, {}: {}", e.kind(), path.display()))
    };
    let ca = account.ca.as_ref().map(read).transpose()?;
    let client = match &account.client {
        Some((certificate, key)) => Some((read(certificate)?, Zeroizing::new(read(key)?))),
        None => None,
    };
    let client = client.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
    Trust::new(ca.as_deref(), client, &account.spki).map_err(|e| e.to_string())
}

/// Each route's line in the file.
pub fn places(config: &Config) -> BTreeMap<String, String> {
    let place = |r: &config::Route| format!("{}:{}", r.origin.file(), r.origin.line());
    config.routes.iter().map(|r| (r.name.clone(), place(r))).collect()
}

fn policy(config: &Config, open: &BTreeMap<String, Arc<OpenAccount>>) -> Policy {
    let accounts = config.accounts.values().filter_map(|account| {
        let open = open.get(&account.name)?;
        Some(account_policy(account, open.manifest(), identity(account, open)))
    });
    policy_over(config, accounts)
}

/// The policy of a configuration whose plugins are known by their manifests alone: enough to say
/// where a payment would go, and not enough to send one.
pub fn policy_of_manifests(config: &Config, manifests: &BTreeMap<String, Manifest>) -> Policy {
    let accounts = config.accounts.values().filter_map(|account| {
        Some(account_policy(account, manifests.get(&account.plugin)?, String::new()))
    });
    policy_over(config, accounts)
}

fn policy_over(config: &Config, accounts: impl Iterator<Item = AccountPolicy>) -> Policy {
    let accounts = accounts.map(|policy| (policy.name.clone(), policy)).collect();
    let merchants = config.merchants.values().map(|m| {
        let accept_late_ms = match m.late_success {
            LateSuccess::Refund => None,
            LateSuccess::Accept { within_ms } => Some(within_ms),
        };
        let policy = MerchantPolicy { accept_late_ms, instant_switch: m.instant_switch };
        (m.name.clone(), policy)
    });
    let mut ladder = Ladder { give_up_ms: config.inquiry.give_up_ms, ..Ladder::default() };
    if !config.inquiry.recheck_ms.is_empty() {
        ladder.steps_ms.clone_from(&config.inquiry.recheck_ms);
    }
    Policy {
        accounts,
        routes: config.routes.iter().map(route_policy).collect(),
        merchants: merchants.collect(),
        ladder,
    }
}

fn account_policy(account: &Account, manifest: &Manifest, identity: String) -> AccountPolicy {
    let contract = strengthened(account, manifest).unwrap_or_else(|_| manifest.contract.clone());
    let mut continues = manifest.continues.clone();
    continues.push(manifest.state_version);
    let currencies = manifest.currencies.iter().filter_map(|(currency, exponent)| {
        let rule = CurrencyRule {
            iso_exponent: iso_exponent(*currency)?,
            provider_exponent: *exponent,
            multiple_of: manifest.multiples.get(currency).copied().unwrap_or(1),
        };
        Some((*currency, rule))
    });
    AccountPolicy {
        name: account.name.clone(),
        plugin: manifest.id.clone(),
        plugin_version: manifest.version.clone(),
        state_version: manifest.state_version,
        continues,
        identity,
        methods: manifest.methods.clone(),
        operations: manifest.operations.clone(),
        currencies: currencies.collect(),
        countries: manifest.countries.clone(),
        contract,
        timeout_ms: account.timeout_ms,
        failure_domain: account.failure_domain.clone(),
    }
}

/// Names the credentials and addresses of an account without holding them: a re-send under other
/// ones could reach another merchant account at the provider, where the key means nothing.
fn identity(account: &Account, open: &OpenAccount) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    add(&account.plugin);
    add(&serde_json::Value::Object(account.config.clone()).to_string());
    for (name, default) in &open.manifest().hosts {
        add(name);
        add(account.endpoints.get(name).unwrap_or(default));
        account.alternatives.get(name).into_iter().flatten().for_each(|url| add(url));
    }
    for (name, secret) in &account.secrets {
        add(name);
        add(secret.expose());
    }
    hex::encode(&context.finish().as_ref()[..12])
}

fn route_policy(route: &config::Route) -> RoutePolicy {
    let m = &route.matches;
    RoutePolicy {
        name: route.name.clone(),
        matches: RouteMatch {
            method: m.method.clone(),
            flow: m.flow.clone(),
            currency: m.currency.clone(),
            country: m.country.clone(),
            merchant: m.merchant.clone(),
            amount_min: m.amount_min,
            amount_max: m.amount_max,
            metadata: m.metadata.clone(),
        },
        candidates: route
            .candidates
            .iter()
            .map(|c| Candidate { account: c.to.clone(), weight: c.weight.unwrap_or(1) })
            .collect(),
        strategy: match route.strategy {
            config::Strategy::Priority => Strategy::Priority,
            config::Strategy::Weighted => Strategy::Weighted,
        },
        failover: match route.failover {
            config::Failover::Proven => Failover::Proven,
            config::Failover::NotSent => Failover::NotSent,
            config::Failover::None => Failover::None,
        },
        deadline_ms: route.deadline_ms,
        attempts_max: route.attempts_max as usize,
    }
}

fn gates(config: &Config, open: &BTreeMap<String, Arc<OpenAccount>>) -> Result<Gates, String> {
    let accounts = config.accounts.values().filter_map(|a| Some((a, open.get(&a.name)?)));
    let settings = accounts.map(|(account, open)| {
        let mut methods: Vec<String> =
            open.manifest().methods.iter().map(|m| m.kind.clone()).collect();
        methods.push(native::METHOD.to_owned());
        methods.sort();
        methods.dedup();
        let settings = GateSettings {
            breaker: account.breaker,
            limit: account.limit.and_then(rate),
            in_flight: account.in_flight,
            methods,
            refunds_per_hour: account.auto_refund.per_hour_count,
            refunded_per_hour: account.auto_refund.per_hour_amount,
            failure_domain: account.failure_domain.clone(),
            hang_after_ms: account.hang_after_ms,
            slow_start_ms: account.slow_start_ms,
            adaptive_limit: account.adaptive_limit,
            conversion: account.conversion,
            probes: open.manifest().operations.contains(&Operation::Probe),
        };
        (account.name.clone(), settings)
    });
    let merchants = config.merchants.values().map(|m| (m.name.clone(), m.limit.and_then(rate)));
    let budget = config.failover_budget;
    let failovers = FailoverBudget {
        ratio: budget.ratio,
        per_second: budget.per_second,
        ttl_ms: budget.ttl_ms,
    };
    Gates::new(settings.collect(), merchants.collect(), failovers)
        .map_err(|(account, e)| format!("breaker of account `{account}` can't be used: {e}"))
}

fn rate(rate: config::Rate) -> Option<Rate> {
    Some(Rate {
        count: NonZeroU32::new(rate.count)?,
        per_ms: rate.period_ms,
        burst: NonZeroU32::new(rate.burst)?,
    })
}

/// The exponent of ISO 4217; `None` for what has no minor unit of its own (gold, tests).
pub fn iso_exponent(currency: Currency) -> Option<u8> {
    let known = iso_currency::Currency::from_code(currency.as_str())?;
    u8::try_from(known.exponent()?).ok()
}
