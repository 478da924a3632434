//! The configuration: one TOML file, read whole, checked before anything starts.
//!
//! A wrong file must be found by `interlock check` and not by a shopper, so unknown keys are
//! errors, every quantity carries its unit, and one run reports everything that is wrong with
//! carets under the place. [`load`] needs no plugins; [`check_account`] and [`check_routes`] add
//! what only their manifests know. Users of [`Config`] see plain values in ms and minor units.

mod account;
mod against_plugins;
mod cross_checks;
mod diagnostic;
mod doors;
#[cfg(test)]
mod drift;
mod inventory;
mod maintenance;
mod mask;
mod meanings;
mod origins;
mod reader;
mod restart;
mod route;
mod secret;
mod sections;
mod webhook;
mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use interlock_circuit_breaker::Settings as BreakerSettings;
pub use interlock_engine::gates::ConversionSettings as Conversion;
use interlock_plugin_api::{Currency, Strengthen};
use interlock_plugin_host::Publisher;
use toml::de::DeTable;
use zeroize::Zeroizing;

use crate::access::{self, Credential, Hash, Operator, Proof};
use crate::front_door::TlsOptions;

pub use against_plugins::{check_account, check_routes, strengthened, taken, taken_opened};
pub use diagnostic::{Diagnostic, Origin, Severity, Source, Span, render};
pub use maintenance::{When, Window};
pub use origins::{Effective, Whence, effective, schema};
pub use restart::needs_restart;
pub use secret::{MAX_SECRET_BYTES, Secret};
pub use webhook::Webhook;
pub use words::{
    Rate, WordError, format_duration, format_size, parse_duration, parse_rate, parse_size,
};

/// The largest configuration file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A configuration that may run, and what somebody should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that do not keep it from running.
    pub warnings: Vec<Diagnostic>,
    /// The file that it came from.
    pub path: PathBuf,
}

/// Everything that the file says, defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[merchants.NAME]`; at least one.
    pub merchants: BTreeMap<String, Merchant>,
    /// `[accounts.NAME]`; at least one.
    pub accounts: BTreeMap<String, Account>,
    /// `[[routes]]` in order; at least one, and the first match wins.
    pub routes: Vec<Route>,
    /// `[inquiry]`.
    pub inquiry: Inquiry,
    /// `[failover_budget]`.
    pub failover_budget: FailoverBudget,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
}

/// The process and its doors.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where merchants call.
    pub listen: SocketAddr,
    /// Where operators look: probes, metrics, the admin API.
    pub admin: SocketAddr,
    /// `[server.tls]`; without it the merchants' door speaks plain HTTP.
    pub tls: Option<TlsOptions>,
    /// The folder of the journal.
    pub data_dir: PathBuf,
    /// The folder of the plugin libraries.
    pub plugins_dir: PathBuf,
    /// The file that pins them.
    pub plugins_lock: PathBuf,
    /// Loads libraries that are not pinned; for development.
    pub allow_unpinned: bool,
    /// Whose plugins run in the proxy's own process; all others have processes of their own.
    pub trusted_publishers: Vec<Publisher>,
    /// Threads of the merchants' door.
    pub workers: usize,
    /// How long a shutdown waits for payments in flight, ms.
    pub drain_ms: u64,
    /// The address under which providers reach us, without a trailing `/`.
    pub public_url: Option<String>,
    /// The largest request body, bytes.
    pub body_limit: u64,
    /// With less free than this in `data_dir`, new payments are refused, bytes.
    pub disk_low_water: u64,
    /// How long a request may take to arrive whole, ms.
    pub request_timeout_ms: u64,
    /// How many requests are worked on at once; more are refused.
    pub in_flight: u32,
    /// While the process wakes up later than this, it refuses lists and then payments, ms; `None`
    /// refuses nothing.
    pub shed_after_ms: Option<u64>,
    /// How often one client address may call before it has proved who it is.
    pub address_limit: Option<Rate>,
    /// How many connections may be open at once; more are refused.
    pub connections: u32,
    /// How many of them may come from one client address.
    pub address_connections: Option<u32>,
}

/// Who may use the operators' door, and how.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// `[admin.tokens.NAME]`; without any, whoever reaches the door may do everything.
    pub operators: Vec<Operator>,
    /// `[admin.tls]`; without it the door speaks plain HTTP.
    pub tls: Option<TlsOptions>,
    /// Names under which it is called, besides `localhost` and addresses; lower case, no port.
    pub hosts: Vec<String>,
    /// Tokens may cross the network in clear.
    pub plaintext: bool,
}

impl Server {
    /// Where an account's provider sends its notifications, if we can be reached at all.
    pub fn notify_url(&self, account: &str) -> Option<String> {
        self.public_url.as_ref().map(|base| format!("{base}/v1/notifications/{account}"))
    }
}

/// Somebody who may ask for payments.
#[derive(Clone, Debug)]
pub struct Merchant {
    /// Its name in the file.
    pub name: String,
    /// What proves it, and what each may be used for; at least one.
    pub credentials: Vec<Credential>,
    /// How often it may call.
    pub limit: Option<Rate>,
    /// What becomes of money that arrives after a payment was told failed.
    pub late_success: LateSuccess,
    /// A switch of method shows the new offer at once and refunds the loser.
    pub instant_switch: bool,
    /// Where it is told of its payments.
    pub webhook: Option<Webhook>,
    /// Where it was written.
    pub origin: Origin,
}

impl Merchant {
    /// The merchant whose key was presented, or else whose certificate the connection proved. A
    /// key that is not known proves nothing, whatever the connection proved.
    pub fn of_caller<'m>(
        merchants: &'m [Merchant],
        key: Option<&[u8]>,
        client: Option<Hash>,
    ) -> Option<Caller<'m>> {
        let wanted = match (key, client) {
            (Some(key), _) => Proof::Key(Hash::of(key)),
            (None, Some(client)) => Proof::Certificate(client),
            (None, None) => return None,
        };
        let all = merchants.iter().flat_map(|merchant| {
            merchant.credentials.iter().map(move |credential| Caller { merchant, credential })
        });
        let all: Vec<Caller<'_>> = all.collect();
        let known = all.iter().filter_map(|caller| match (caller.credential.proof, wanted) {
            (Proof::Key(hash), Proof::Key(_))
            | (Proof::Certificate(hash), Proof::Certificate(_)) => Some((caller, hash)),
            _ => None,
        });
        let (Proof::Key(presented) | Proof::Certificate(presented)) = wanted;
        access::holder_of(known, &presented).copied()
    }
}

/// A merchant, and the key by which it proved itself.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'m> {
    /// Who it is.
    pub merchant: &'m Merchant,
    /// By what.
    pub credential: &'m Credential,
}

/// What becomes of money that arrives after a payment was told failed or canceled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateSuccess {
    /// It is given back.
    Refund,
    /// It is kept, and the merchant is told by `payment.recovered`.
    Accept {
        /// If it arrives within this time after the answer, ms; else it is given back.
        within_ms: u64,
    },
}

/// A provider with credentials and limits.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name in the file, in addresses, metrics and messages.
    pub name: String,
    /// The plugin: `libNAME.so` in the folder of plugins.
    pub plugin: String,
    /// By the manifest's name: the address to use in the place of its production address,
    /// without a trailing `/`.
    pub endpoints: BTreeMap<String, String>,
    /// Further addresses of the same system by the same names, tried in the connect phase alone.
    pub alternatives: BTreeMap<String, Vec<String>>,
    /// Certificates to trust in the place of the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate chain and its private key, shown to the provider.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Public keys of which the provider's certificate must have one.
    pub spki: Vec<Hash>,
    /// The plain settings, checked by the manifest.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// The secrets by the manifest's name.
    pub secrets: BTreeMap<String, Secret>,
    /// How long one call may take, connecting included, ms.
    pub timeout_ms: u64,
    /// How long connecting may take, ms.
    pub connect_timeout_ms: u64,
    /// How often it may be called.
    pub limit: Option<Rate>,
    /// How many calls may be under way at once.
    pub in_flight: u32,
    /// How its breakers judge. The seed is left 0 for the one who makes them.
    pub breaker: BreakerSettings,
    /// Accounts of one name fail together.
    pub failure_domain: Option<String>,
    /// When it is not used.
    pub maintenance: Vec<Window>,
    /// Unanswered payments that wait so long say that the provider hangs, ms.
    pub hang_after_ms: u64,
    /// How long it takes from a tenth of the payments to all of them after an outage, ms.
    pub slow_start_ms: u64,
    /// A 429 lowers the pace for a while.
    pub adaptive_limit: bool,
    /// How it is judged whether shoppers can pay what it offers; `None` does not judge.
    pub conversion: Option<Conversion>,
    /// W of the ambiguity contract, if not the plugin's, ms.
    pub late_window_ms: Option<u64>,
    /// What the operator promises beyond the plugin's contract.
    pub contract: Strengthen,
    /// How much is refunded without asking an operator.
    pub auto_refund: AutoRefund,
    /// Where its plugin runs; without a word it depends on who published it.
    pub isolation: Option<Isolation>,
    /// Where it was written, with the places of its keys.
    pub origin: Origin,
}

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In the proxy's own process.
    InProcess,
    /// In a process of its own for each account.
    Process,
}

/// Caps on refunds that nobody asked for: duplicates and late successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoRefund {
    /// How many in an hour.
    pub per_hour_count: u32,
    /// How much in an hour, in minor units of each currency; `None` is only counted.
    pub per_hour_amount: Option<i64>,
}

/// Which accounts are tried for a payment.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, in answers, metrics and messages.
    pub name: String,
    /// Which payments it takes.
    pub matches: Match,
    /// The accounts; at least one, no account twice.
    pub candidates: Vec<Candidate>,
    /// How their order is made.
    pub strategy: Strategy,
    /// When the next one may be tried.
    pub failover: Failover,
    /// After this time no further account is tried, ms.
    pub deadline_ms: u64,
    /// How many accounts are tried at most.
    pub attempts_max: u32,
    /// What happens when every breaker is open.
    pub on_all_open: OnAllOpen,
    /// Where it was written, with the places of its keys.
    pub origin: Origin,
}

/// Which payments a route takes. An empty list takes all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// Method types (`card`, `alipay`).
    pub method: Vec<String>,
    /// Flows (`qr`, `redirect`).
    pub flow: Vec<String>,
    /// Currencies.
    pub currency: Vec<Currency>,
    /// Customers' countries, two capital letters.
    pub country: Vec<String>,
    /// Merchants by name.
    pub merchant: Vec<String>,
    /// The smallest amount, minor units.
    pub amount_min: Option<i64>,
    /// The largest amount, minor units.
    pub amount_max: Option<i64>,
    /// Metadata that must be there with exactly these values.
    pub metadata: BTreeMap<String, String>,
}

/// One account of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The account.
    pub to: String,
    /// Its share of the first tries, against the sum; `None` in a strict order.
    pub weight: Option<u32>,
}

/// How the order of candidates is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// As written.
    Priority,
    /// Drawn by weight.
    Weighted,
}

/// When the next candidate may be tried. There is no "always".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// When it is proven that no money moved and none can.
    Proven,
    /// When not a byte was sent.
    NotSent,
    /// Never.
    None,
}

/// What happens when the breakers of all candidates are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAllOpen {
    /// 503 with Retry-After, before anything is written or sent.
    Fail,
}

/// How unknown outcomes are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The waits between two tries, ms, in order; the last one repeats until `give_up_ms`.
    pub recheck_ms: Vec<u64>,
    /// A payment in doubt for this long raises an alert, ms.
    pub alert_after_ms: u64,
    /// After this long an operator must decide, ms. Truth that arrives later is still taken.
    pub give_up_ms: u64,
}

/// How much traffic failover may add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailoverBudget {
    /// Further tries as a share of first tries, 0 to 1.
    pub ratio: f64,
    /// Further tries each second that are always allowed.
    pub per_second: u32,
    /// How far back the share looks, ms.
    pub ttl_ms: u64,
}

/// What the process says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// A filter for the log: a level, or levels by module.
    pub log: String,
    /// The form of its lines.
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object each.
    Json,
}

/// Reads and checks a configuration file, without its plugins.
///
/// # Errors
/// Everything that was found, warnings included, when at least one finding is an error.
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    load_with(path, false)
}

/// As [`load`], but what the file refers to outside itself is left unread: variables, secrets and
/// certificates are only named. For questions that need no provider, on a machine without them.
///
/// # Errors
/// As those of [`load`].
pub fn load_alone(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    load_with(path, true)
}

fn load_with(path: &Path, alone: bool) -> Result<Loaded, Vec<Diagnostic>> {
    let (text, file) = read_text(path)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let (config, findings) = parse(&text, file, base, alone);
    match config {
        Some(config) if !findings.iter().any(Diagnostic::is_error) => {
            Ok(Loaded { config, warnings: findings, path: path.to_owned() })
        }
        _ => Err(findings),
    }
}

/// The text of a file, and the file as it was named.
fn read_text(path: &Path) -> Result<(Zeroizing<String>, String), Vec<Diagnostic>> {
    let file = path.display().to_string();
    match read_file(path) {
        Ok(text) => Ok((text, file)),
        Err(why) => {
            let text = format!("the configuration cannot be read: {why}");
            Err(vec![Diagnostic::error("C001", text).in_file(file)])
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    use std::io::Read;

    let file = std::fs::File::open(path).map_err(|e| e.kind().to_string())?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| e.kind().to_string())?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is larger than {}", format_size(MAX_FILE_BYTES)));
    }
    Ok(text)
}

fn parse(text: &str, file: String, base: &Path, alone: bool) -> (Option<Config>, Vec<Diagnostic>) {
    let (root, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        let sink = reader::Sink::new(Source::new(file, mask::mask_unparsed(text)), base, alone);
        for fault in faults.iter().take(10) {
            let finding = Diagnostic::error("C002", format!("not TOML: {}", fault.message()));
            sink.report(finding, fault.span().unwrap_or(0..0));
        }
        return (None, sink.findings());
    }
    let source = Source::new(file, mask::mask(text, root.get_ref()));
    let sink = reader::Sink::new(source, base, alone);
    let config = sections::read(&sink, root.get_ref());
    (config, sink.findings())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file that uses every section, in the characters of more than one alphabet.
    const WHOLE: &str = r#"# 配置
[server]
listen = "127.0.0.1:8080"
data_dir = "data"
plugins_dir = "plugins"
[merchants.shop]
api_key = "cle_tres_secrete" # ключ
limit = "5/s burst 7"
late_success = { accept_within = "10m" }
[accounts.one]
plugin = "plain"
endpoints = { api = "http://127.0.0.1:1" }
config = { subject = "订单", on = true, n = 0x10 }
secrets = { k = """
多行
""" }
late_window = "2s"
breaker = { window = "5s", failure_rate = 0.25 }
maintenance = [{ from = 2030-01-31T22:00:00Z, until = "2030-01-31T23:00:00Z", reason = "x" }]
contract.proof_codes = { value = ["429"], reason = "agreement 7" }
[[routes]]
name = "all"
match = { method = ["card"], currency = "EUR", amount = { min = 1 }, metadata = { a = "b" } }
candidates = [{ to = "one", weight = 1 }]
failover = "none"
[inquiry]
recheck = ["1s", "1m30s"]
"#;

    fn read(text: &str) -> (Option<Config>, Vec<Diagnostic>) {
        parse(text, "a.toml".into(), Path::new(""), false)
    }

    #[test]
    fn the_whole_file_is_read() {
        let (config, found) = read(WHOLE);
        let codes: Vec<&str> = found.iter().map(|d| d.code).collect();
        assert_eq!(codes, ["C032", "C032", "C033"]);
        let config = config.expect("it is a good file");
        let account = &config.accounts["one"];
        assert_eq!(account.breaker.window_ms, 5_000);
        assert_eq!(account.config["n"], 16);
        assert_eq!(
            account.maintenance[0].between(0, i64::MAX)[0],
            (1_896_127_200_000, 1_896_130_800_000)
        );
        assert_eq!(config.inquiry.recheck_ms, [1_000, 90_000]);
        let within_ms = 600_000;
        assert_eq!(config.merchants["shop"].late_success, LateSuccess::Accept { within_ms });
    }

    #[test]
    fn damaged_files_are_read_or_refused_with_their_place() {
        let seeds = [
            "tests/corpora/config",
            "config/interlock.toml",
            "proxy/server/tests/config/doors.toml",
        ];
        crate::mutator::each(&seeds, 300, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (config, found) = read(&text);
            assert!(config.is_some() || found.iter().any(Diagnostic::is_error));
            assert_eq!(render(&found, false).is_empty(), found.is_empty());
        });
    }

    proptest! {
        #[test]
        fn no_damage_to_a_file_makes_the_reader_fall(
            start in 0..WHOLE.len(),
            cut in 0usize..40,
            put in "[\\PC\n\"'=\\[{\\]}]{0,8}",
        ) {
            let start = WHOLE.floor_char_boundary(start);
            let end = WHOLE.ceil_char_boundary((start + cut).min(WHOLE.len()));
            let text = format!("{}{put}{}", &WHOLE[..start], &WHOLE[end..]);
            let (config, found) = read(&text);
            prop_assert!(config.is_some() || found.iter().any(Diagnostic::is_error));
            prop_assert_eq!(render(&found, false).is_empty(), found.is_empty());
        }
    }
}
