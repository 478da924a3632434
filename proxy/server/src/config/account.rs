//! Reads `[accounts.NAME]` and the breakers that accounts use.
//!
//! Everything that an operator promises beyond the plugin's contract is reported as a warning
//! with its reason: a promise that is not kept can charge a shopper twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use interlock_circuit_breaker::{Settings, SettingsError};
use interlock_engine::TIMEOUT_MAX_MS;
use interlock_plugin_api::{NotFound, OfferExpiry, Strengthen, Stronger};
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, Origin, nearest};
use super::inventory::Shape;
use super::reader::{Table, Value, quoted};
use super::sections::good_name;
use super::words::format_duration;
use super::{
    Account, AutoRefund, BreakerSettings, Conversion, Isolation, Secret, doors, maintenance,
};

/// The named breakers of the file; always with a `default`.
pub(super) type BreakerTable = BTreeMap<String, BreakerSettings>;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const ISOLATIONS: [(&str, Isolation); 2] =
    [("in-process", Isolation::InProcess), ("process", Isolation::Process)];

/// Against a provider that is not a sandbox, W may not be shorter than this.
pub(super) const SHORTEST_LATE_WINDOW_MS: u64 = MINUTE;

/// Reads every account; one that lacks what it needs is reported and left out.
pub(super) fn read_all(table: &Table<'_>, breakers: &BreakerTable) -> BTreeMap<String, Account> {
    let mut accounts = BTreeMap::new();
    for (name, value) in table.names() {
        good_name(table.sink, name, &value.key);
        if let Some(account) = value.table().and_then(|t| account_of(name, t, breakers)) {
            accounts.insert(name.to_owned(), account);
        }
    }
    accounts
}

/// Whether an address leads to this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let uri: Option<http::Uri> = url.parse().ok();
    let Some(host) = uri.as_ref().and_then(http::Uri::host) else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An `http` or `https` address without its trailing `/`.
pub(super) fn address(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    check_address(value, text)?;
    Some(text.trim_end_matches('/').to_owned())
}

/// Whether a text is an `http` or `https` address; if not, that is reported at the value.
pub(super) fn check_address(value: &Value<'_>, text: &str) -> Option<()> {
    let fail = |label: &str, help: &str| {
        let finding =
            Diagnostic::error("C010", format!("`{}` is not a usable address", value.path));
        value.refuse(finding.label(label).help(help))
    };
    let Ok(uri) = text.parse::<http::Uri>() else {
        return fail("not a URL", "write \"https://HOST\"");
    };
    let Some(authority) = uri.authority() else {
        return fail("no host", "write \"https://HOST\"");
    };
    if authority.as_str().contains('@') {
        return fail("it holds credentials", "move them to `secrets`");
    }
    if text.contains(['?', '#']) {
        return fail("it has a query or a fragment", "leave them out");
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(text) => {}
        Some("http") => {
            return fail(
                "`http` leaves this machine",
                "write `https`; `http` is for loopback addresses only",
            );
        }
        _ => return fail("not `https`", "write \"https://HOST\""),
    }
    Some(())
}

fn account_of(name: &str, table: Table<'_>, breakers: &BreakerTable) -> Option<Account> {
    let mut origin = Origin::new(table.sink.source.clone(), table.place.clone());
    let plugin = table.need("plugin", "name the library: `plugin = \"acme\"` is libacme.so");
    if let Some(plugin) = &plugin {
        origin.note("plugin", plugin.place.clone());
    }
    let plugin = plugin.and_then(|v| v.text().filter(|t| good_name(v.sink, t, &v.place)));
    let (endpoints, alternatives) = endpoints_of(&table, &mut origin);
    let ca = table.get("ca").and_then(|v| readable_file(&v));
    let client = client_of(&table);
    let spki = table.get("spki").map(Value::one_or_more).unwrap_or_default();
    let spki = spki.iter().filter_map(doors::hash_of).collect();
    let config = settings_of(&table, &mut origin);
    let secrets = secrets_of(&table, &mut origin);
    let timeout_ms = table.duration("timeout", 100..=TIMEOUT_MAX_MS, 10 * SECOND);
    let connect_timeout_ms = connect_timeout_of(&table, timeout_ms);
    let limit = table.rate("limit");
    let in_flight = table.number("in_flight", 1..=100_000, 300);
    table.default("breaker", quoted("default"));
    let breaker = table.get("breaker").and_then(|v| chosen_breaker(&v, breakers));
    let failure_domain = table.text("failure_domain");
    let maintenance = table.get("maintenance").map(|v| maintenance::read_all(&v));
    let hang_after_ms = table.duration("hang_after", 10..=TIMEOUT_MAX_MS, timeout_ms / 4);
    let slow_start_ms = table.duration("slow_start", 0..=HOUR, 30 * SECOND);
    let adaptive_limit = table.switch("adaptive_limit", true);
    let conversion = match table.get("conversion") {
        Some(written) => conversion_of(&written),
        None => conversion_table(&table.empty("conversion")),
    };
    let late_window_ms = late_window_of(name, &table, &endpoints, &mut origin);
    let contract = table.get("contract").and_then(|v| v.table());
    let contract = contract.map(|t| contract_of(name, t, &mut origin)).unwrap_or_default();
    let auto_refund = auto_refund_of(table.section("auto_refund"));
    let isolation = table.get("isolation").and_then(|v| {
        origin.note("isolation", v.place.clone());
        v.word(&ISOLATIONS)
    });
    table.finish(&["fees"]);
    Some(Account {
        name: name.to_owned(),
        plugin: plugin?.to_owned(),
        endpoints,
        alternatives,
        ca,
        client,
        spki,
        config,
        secrets,
        timeout_ms,
        connect_timeout_ms,
        limit,
        in_flight,
        breaker: breaker.unwrap_or(breakers["default"]),
        failure_domain,
        maintenance: maintenance.unwrap_or_default(),
        hang_after_ms,
        slow_start_ms,
        adaptive_limit,
        conversion,
        late_window_ms,
        contract,
        auto_refund,
        isolation,
        origin,
    })
}

/// Nobody can wait longer for the connection than for the whole call.
fn connect_timeout_of(table: &Table<'_>, timeout_ms: u64) -> u64 {
    let default = timeout_ms.min(3 * SECOND);
    table.default("connect_timeout", quoted(&format_duration(default)));
    let Some(written) = table.get("connect_timeout") else { return default };
    match written.duration(10..=30 * SECOND) {
        Some(connect_ms) if connect_ms > timeout_ms => {
            let whole = format_duration(timeout_ms);
            let text = format!("`{}` is longer than the whole call: {whole}", written.path);
            written.refuse(Diagnostic::error("C009", text)).unwrap_or(default)
        }
        Some(connect_ms) => connect_ms,
        None => default,
    }
}

/// Addresses by the manifest's names: the first of each, and those to try after it.
type Endpoints = (BTreeMap<String, String>, BTreeMap<String, Vec<String>>);

fn endpoints_of(table: &Table<'_>, origin: &mut Origin) -> Endpoints {
    let mut endpoints = Endpoints::default();
    let Some(written) = table.get("endpoints") else { return endpoints };
    origin.note("endpoints", written.key.clone());
    for (name, value) in written.table().iter().flat_map(Table::names) {
        origin.note(format!("endpoints.{name}"), value.key.clone());
        for value in value.one_or_more() {
            let Some(address) = address(&value) else { continue };
            match endpoints.0.get(name) {
                None => drop(endpoints.0.insert(name.to_owned(), address)),
                Some(first) if path_of(first) == path_of(&address) => {
                    endpoints.1.entry(name.to_owned()).or_default().push(address);
                }
                Some(first) => {
                    let text = format!("`{}` has another path than `{first}`", value.path);
                    let help = "sites of one system differ in their hosts alone";
                    value.refuse::<()>(Diagnostic::error("C010", text).help(help));
                }
            }
        }
    }
    endpoints
}

fn path_of(url: &str) -> String {
    let uri: Option<http::Uri> = url.parse().ok();
    uri.map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// Our own certificate and key: both or none.
fn client_of(table: &Table<'_>) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
    let [certificate, key] = ["client_cert", "client_key"].map(|key| table.get(key));
    if certificate.is_some() != key.is_some() {
        let text = format!("{} needs both `client_cert` and `client_key`", table.called());
        table.sink.report(Diagnostic::error("C004", text), table.place.clone());
    }
    Some((readable_file(&certificate?)?, readable_file(&key?)?))
}

fn readable_file(value: &Value<'_>) -> Option<std::path::PathBuf> {
    let path = value.file_path()?;
    if let Err(why) = std::fs::File::open(&path)
        && !value.sink.alone
    {
        let text = format!("`{}` cannot be read: {}: {}", value.path, why.kind(), path.display());
        return value.refuse(Diagnostic::error("C013", text));
    }
    Some(path)
}

fn settings_of(
    table: &Table<'_>,
    origin: &mut Origin,
) -> serde_json::Map<String, serde_json::Value> {
    let mut settings = serde_json::Map::new();
    let Some(written) = table.get("config") else { return settings };
    origin.note("config", written.key.clone());
    for (name, value) in written.table().iter().flat_map(Table::names) {
        origin.note(format!("config.{name}"), value.key.clone());
        if let Some(plain) = plain_value(&value) {
            settings.insert(name.to_owned(), plain);
        }
    }
    settings
}

/// The manifest knows only three kinds of settings.
fn plain_value(value: &Value<'_>) -> Option<serde_json::Value> {
    match value.value {
        DeValue::String(_) => value.setting().map(serde_json::Value::from),
        DeValue::Boolean(_) => value.switch().map(serde_json::Value::from),
        DeValue::Integer(_) => value.integer(i64::MIN..=i64::MAX).map(serde_json::Value::from),
        _ => {
            let text = format!("`{}` must be a text, a truth value or a whole number", value.path);
            value.refuse(Diagnostic::error("C005", text))
        }
    }
}

fn secrets_of(table: &Table<'_>, origin: &mut Origin) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    let Some(written) = table.get("secrets") else { return secrets };
    origin.note("secrets", written.key.clone());
    for (name, value) in written.table().iter().flat_map(Table::names) {
        origin.note(format!("secrets.{name}"), value.key.clone());
        if let Some(secret) = value.secret() {
            secrets.insert(name.to_owned(), secret);
        }
    }
    secrets
}

fn chosen_breaker(value: &Value<'_>, breakers: &BreakerTable) -> Option<BreakerSettings> {
    if value.value.is_table() {
        return value.table().and_then(breaker_of);
    }
    let name = value.text()?;
    breakers.get(name).copied().or_else(|| {
        let finding = Diagnostic::error("C014", format!("breaker `{name}` is not defined"))
            .label(format!("no [breaker.{name}]"));
        value.refuse(match nearest(name, breakers.keys().map(String::as_str)) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding,
        })
    })
}

/// Reads the settings of a breaker; `None` when they could never work together.
pub(super) fn breaker_of(table: Table<'_>) -> Option<BreakerSettings> {
    let or = Settings::default();
    let share = |key, or| table.share(key, or);
    let settings = Settings {
        window_ms: table.duration("window", 100..=HOUR, or.window_ms),
        buckets: table.number("buckets", 1..=u32::MAX, or.buckets),
        minimum_calls: table.number("minimum_calls", 1..=u32::MAX, or.minimum_calls),
        failure_rate: share("failure_rate", or.failure_rate),
        consecutive_failures: table.number("consecutive", 1..=u32::MAX, or.consecutive_failures),
        slow_call_ms: table.get("slow_call").and_then(|v| v.duration(1..=HOUR)),
        slow_rate: share("slow_rate", or.slow_rate),
        open_ms: table.duration("open_for", 1..=HOUR, or.open_ms),
        open_max_ms: table.duration("open_max", 1..=24 * HOUR, or.open_max_ms),
        jitter: share("jitter", or.jitter),
        seed: or.seed,
        half_open_permits: table.number("probes", 1..=u32::MAX, or.half_open_permits),
        half_open_needed: table.number("probes_needed", 1..=u32::MAX, or.half_open_needed),
        half_open_max_wait_ms: table.duration("probe_wait", 1..=HOUR, or.half_open_max_wait_ms),
    };
    let checked = settings.check().map_err(|why| {
        let text = format!("the breaker of {} cannot work: {}", table.called(), in_words(why));
        table.sink.report(Diagnostic::error("C024", text), table.place.clone());
    });
    table.finish(&[]);
    checked.ok().map(|()| settings)
}

/// The breaker names its own fields; the reader of the file knows them as keys.
fn in_words(why: SettingsError) -> String {
    let keys = [
        ("half_open_max_wait_ms", "probe_wait"),
        ("half_open_permits", "probes"),
        ("half_open_needed", "probes_needed"),
        ("consecutive_failures", "consecutive"),
        ("open_max_ms", "open_max"),
        ("open_ms", "open_for"),
        ("slow_call_ms", "slow_call"),
        ("window_ms", "window"),
    ];
    keys.iter().fold(why.to_string(), |text, (field, key)| text.replace(field, key))
}

/// How it is judged whether shoppers can pay what the account offers; `None` does not judge.
fn conversion_of(value: &Value<'_>) -> Option<Conversion> {
    if value.value.as_str() == Some("off") {
        value.shaped(Shape::Word(vec!["off".into()]));
        return None;
    }
    let Some(table) = value.table() else { return Some(Conversion::default()) };
    let conversion = conversion_table(&table);
    table.finish(&[]);
    conversion
}

fn conversion_table(table: &Table<'_>) -> Option<Conversion> {
    let or = Conversion::default();
    Some(Conversion {
        window_ms: table.duration("window", SECOND..=24 * HOUR, or.window_ms),
        mature_ms: table.duration("mature", 100..=24 * HOUR, or.mature_ms),
        minimum: table.number("minimum", 5..=1_000_000, or.minimum),
        drop: table.share("drop", or.drop),
    })
}

fn late_window_of(
    name: &str,
    table: &Table<'_>,
    endpoints: &BTreeMap<String, String>,
    origin: &mut Origin,
) -> Option<u64> {
    let written = table.get("late_window")?;
    origin.note("late_window", written.place.clone());
    let late_window_ms = written.duration(100..=24 * HOUR)?;
    let sandbox = !endpoints.is_empty() && endpoints.values().all(|url| is_loopback(url));
    if late_window_ms < SHORTEST_LATE_WINDOW_MS && !sandbox {
        return written.refuse(short_late_window(name));
    }
    Some(late_window_ms)
}

/// The finding for a W that only a sandbox on this machine can keep.
pub(super) fn short_late_window(name: &str) -> Diagnostic {
    let text = format!("the late window of account `{name}` is shorter than a minute");
    Diagnostic::error("C023", text)
        .help("remove `late_window`; short ones are for sandboxes on loopback addresses")
        .note(
            "a request that was sent may still arrive after many minutes; believed dead too \
             early, it charges a second time",
        )
}

fn contract_of(name: &str, table: Table<'_>, origin: &mut Origin) -> Strengthen {
    let not_found = [("after_fence", NotFound::AfterFence)];
    let only_true = |v: &Value<'_>| match v.switch()? {
        true => Some(true),
        false => v.refuse(weaker(v)),
    };
    let contract = Strengthen {
        not_found: stronger(name, &table, "not_found", origin, |v| v.word(&not_found)),
        tombstone: stronger(name, &table, "tombstone", origin, only_true),
        offer_expiry: stronger(name, &table, "offer_expiry", origin, offer_expiry_of),
        close_after: stronger(name, &table, "close_after", origin, |v| v.duration(0..=24 * HOUR)),
        never_asynchronous: stronger(name, &table, "never_asynchronous", origin, only_true),
        proof_codes: stronger(name, &table, "proof_codes", origin, |v| {
            let codes = v.list()?;
            if codes.is_empty() {
                return v.refuse(weaker(v));
            }
            codes.iter().map(proof_code).collect()
        }),
    };
    table.finish(&[]);
    contract
}

fn proof_code(value: &Value<'_>) -> Option<String> {
    let code = value.text()?;
    if code.trim_end_matches('*').is_empty() {
        let finding = Diagnostic::error("C027", "this proof code matches every answer");
        return value.refuse(finding.note("then no answer would ever be in doubt"));
    }
    Some(code.to_owned())
}

fn offer_expiry_of(value: &Value<'_>) -> Option<OfferExpiry> {
    let table = value.table()?;
    let help = "write `{ after = \"15m\", margin = \"1m\" }`";
    let after = table.need("after", help).and_then(|v| v.duration(SECOND..=24 * HOUR));
    let margin = table.need("margin", help).and_then(|v| v.duration(100..=24 * HOUR));
    table.finish(&[]);
    Some(OfferExpiry { after_ms: after?, margin_ms: margin? })
}

fn weaker(value: &Value<'_>) -> Diagnostic {
    Diagnostic::error("C027", format!("`{}` strengthens nothing", value.path))
        .help("remove the key; what a plugin declares cannot be weakened here")
}

fn stronger<T>(
    name: &str,
    contract: &Table<'_>,
    key: &'static str,
    origin: &mut Origin,
    read: impl FnOnce(&Value<'_>) -> Option<T>,
) -> Option<Stronger<T>> {
    let written = contract.get(key)?;
    origin.note(format!("contract.{key}"), written.key.clone());
    let table = written.table()?;
    let help = format!("write `{key} = {{ value = ..., reason = \"who promised it, where\" }}`");
    let value = table.need("value", &help).and_then(|v| read(&v));
    let reason = table.get("reason");
    let reason = match reason {
        Some(reason) => reason.text().map(str::to_owned),
        None => {
            let text = format!("account `{name}` strengthens `{key}` without a reason");
            let finding = Diagnostic::error("C022", text).help(&*help).note(
                "if the promise is not kept, a shopper can be charged twice; the reason is what \
                 an operator reads that night",
            );
            table.sink.report(finding, written.key.clone());
            None
        }
    };
    table.finish(&[]);
    let stronger = Stronger { value: value?, reason: reason? };
    let text = format!("account `{name}` strengthens its contract: `{key}`");
    let finding = Diagnostic::warning("C033", text).note(format!("reason: {}", stronger.reason));
    written.sink.report(finding, written.key.clone());
    Some(stronger)
}

fn auto_refund_of(table: Option<Table<'_>>) -> AutoRefund {
    let mut caps = AutoRefund { per_hour_count: 20, per_hour_amount: None };
    let Some(table) = table else { return caps };
    caps.per_hour_count = table.number("per_hour_count", 0..=100_000, caps.per_hour_count);
    caps.per_hour_amount = table.get("per_hour_amount").and_then(|v| v.integer(0..=i64::MAX));
    table.finish(&[]);
    caps
}
