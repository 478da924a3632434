//! Reads the file's sections into a [`Config`]: everything but accounts and routes.
//!
//! Bounds stand beside the keys that they bound. They are wide: they refuse what can only be a
//! slip of the unit, not what is merely unusual.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use interlock_plugin_host::Publisher;
use toml::de::DeTable;

use super::account::{self, BreakerTable};
use super::diagnostic::{Diagnostic, Origin};
use super::inventory::Shape;
use super::reader::{Sink, Table, Value, quoted};
use super::words::format_duration;
use super::{
    Admin, Config, FailoverBudget, Inquiry, LateSuccess, LogFormat, Merchant, Server, Telemetry,
    cross_checks, doors, route, webhook,
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// A process that wakes up so late has more to do than it can, ms.
const SHED_AFTER_MS: u64 = 20;

/// Everything that the file names, read or not, so that one broken account does not also make
/// every route that uses it look broken.
pub(super) struct Names<'a> {
    pub(super) accounts: Vec<&'a str>,
    pub(super) merchants: Vec<&'a str>,
}

/// Reads all sections; `None` when something is missing without which nothing can be made.
pub(super) fn read<'a>(sink: &'a Sink, entries: &'a DeTable<'a>) -> Option<Config> {
    let root = Table::root(sink, entries);
    for key in ["server", "merchants", "accounts", "routes"] {
        sink.inventory.needed(key);
    }
    let admin = doors::admin_of(section(&root, "admin"));
    let server = section(&root, "server").and_then(|table| server_of(table, &admin));
    let breakers = breakers(&root);
    let merchants = section(&root, "merchants");
    let accounts = section(&root, "accounts");
    let names = Names {
        accounts: accounts.iter().flat_map(Table::names).map(|(name, _)| name).collect(),
        merchants: merchants.iter().flat_map(Table::names).map(|(name, _)| name).collect(),
    };
    let merchants = merchants.map(merchants_of);
    let accounts = accounts.map(|table| account::read_all(&table, &breakers));
    let routes = root.get("routes").and_then(|v| v.list());
    let has_routes = routes.is_some();
    let routes = route::read_all(routes.unwrap_or_default(), &names);
    let inquiry = inquiry_of(root.section("inquiry"));
    let failover_budget = budget_of(root.section("failover_budget"));
    let telemetry = telemetry_of(root.section("telemetry"));
    root.finish(&[]);

    let nothing = |what: &str, example: &str| {
        let finding = Diagnostic::error("C019", format!("the file defines no {what}"));
        sink.report(finding.help(format!("begin with `{example}`")), 0..0);
    };
    if names.merchants.is_empty() {
        nothing("merchant", "[merchants.NAME]");
    }
    if names.accounts.is_empty() {
        nothing("account", "[accounts.NAME]");
    }
    if !has_routes || routes.is_empty() {
        nothing("route", "[[routes]]");
    }
    let Some(server) = server else {
        if !entries.iter().any(|(key, _)| key.get_ref() == "server") {
            nothing("server", "[server]");
        }
        return None;
    };
    let config = Config {
        server,
        admin,
        merchants: merchants.unwrap_or_default(),
        accounts: accounts.unwrap_or_default(),
        routes,
        inquiry,
        failover_budget,
        telemetry,
    };
    cross_checks::run(&config, sink);
    Some(config)
}

/// A name that becomes a part of addresses, metrics and file names.
pub(super) fn good_name(sink: &Sink, name: &str, place: &Range<usize>) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let good = !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed);
    if !good {
        let finding = Diagnostic::error("C025", format!("`{name}` cannot be a name"))
            .help("use up to 64 of a-z, 0-9, `-` and `_`");
        sink.report(finding, place.clone());
    }
    good
}

fn section<'a>(root: &Table<'a>, key: &'static str) -> Option<Table<'a>> {
    root.get(key).and_then(|v| v.table())
}

fn server_of(table: Table<'_>, operators: &Admin) -> Option<Server> {
    table.default("admin", quoted("127.0.0.1:9700"));
    table.default("plugins_lock", quoted("plugins.lock"));
    let listen = table.need("listen", "write `listen = \"127.0.0.1:8080\"`");
    let listen = listen.and_then(|v| address(&v));
    let written = table.get("admin");
    let admin = match &written {
        Some(written) => address(written),
        None => Some(SocketAddr::from(([127, 0, 0, 1], 9700))),
    };
    let data_dir = table.need("data_dir", "write `data_dir = \"/var/lib/interlock\"`");
    let plugins_dir = table.need("plugins_dir", "write `plugins_dir = \"/usr/lib/interlock\"`");
    let lock = table.get("plugins_lock").and_then(|v| v.file_path());
    let server = Server {
        listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
        admin: admin.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9700))),
        data_dir: data_dir.and_then(|v| v.file_path()).unwrap_or_default(),
        plugins_dir: plugins_dir.and_then(|v| v.file_path()).unwrap_or_default(),
        plugins_lock: lock.unwrap_or_else(|| table.sink.base.join("plugins.lock")),
        allow_unpinned: table.switch("allow_unpinned", false),
        trusted_publishers: publishers_of(&table),
        workers: table.number("workers", 1..=256, 2) as usize,
        drain_ms: table.duration("drain", SECOND..=30 * MINUTE, 45 * SECOND),
        public_url: table.get("public_url").and_then(|v| account::address(&v)),
        body_limit: table.size("body_limit", 1 << 10..=1 << 20, 64 << 10),
        disk_low_water: table.size("disk_low_water", 16 << 20..=1 << 50, 256 << 20),
        request_timeout_ms: table.duration("request_timeout", SECOND..=2 * MINUTE, 15 * SECOND),
        in_flight: table.number("in_flight", 1..=1_000_000, 4_096),
        shed_after_ms: shed_after_of(&table),
        address_limit: table.rate("address_limit"),
        connections: table.number("connections", 1..=1_000_000, 4_096),
        address_connections: table.get("address_connections").and_then(|v| v.number(1..=1_000_000)),
        tls: table.get("tls").and_then(|v| v.table()).and_then(doors::tls_of),
    };
    if let Some(written) = &written {
        doors::closed_to_strangers(&server, operators, written);
    }
    if server.listen == server.admin {
        let finding = Diagnostic::error("C011", "merchants and operators cannot share a door")
            .help("give `listen` and `admin` different ports");
        table.sink.report(finding, table.place.clone());
    }
    table.finish(&[]);
    Some(server)
}

/// Public keys, as `interlock plugin verify` and `plugins.lock` write them.
fn publishers_of(table: &Table<'_>) -> Vec<Publisher> {
    let written = table.get("trusted_publishers").map(Value::one_or_more).unwrap_or_default();
    let key = |value: &Value<'_>| {
        Publisher::from_hex(value.text()?).or_else(|| {
            let finding =
                Diagnostic::error("C075", format!("`{}` is not a public key", value.path))
                    .help("write the 64 hexadecimal digits of `ed25519` in plugins.lock");
            value.refuse(finding)
        })
    };
    written.iter().filter_map(key).collect()
}

/// `None` sheds nothing.
fn shed_after_of(table: &Table<'_>) -> Option<u64> {
    table.may_be("shed_after", Shape::Word(vec!["never".into()]));
    table.default("shed_after", quoted(&format_duration(SHED_AFTER_MS)));
    match table.get("shed_after") {
        Some(written) if written.value.as_str() == Some("never") => None,
        Some(written) => Some(written.duration(1..=MINUTE).unwrap_or(SHED_AFTER_MS)),
        None => Some(SHED_AFTER_MS),
    }
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text()?;
    text.parse().ok().or_else(|| {
        let finding = Diagnostic::error("C011", format!("`{}` is not ADDRESS:PORT", value.path))
            .help("write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"");
        value.refuse(finding)
    })
}

fn merchants_of(table: Table<'_>) -> BTreeMap<String, Merchant> {
    let mut merchants = BTreeMap::new();
    for (name, value) in table.names() {
        good_name(table.sink, name, &value.key);
        if let Some(merchant) = value.table().and_then(|t| merchant_of(name, t)) {
            merchants.insert(name.to_owned(), merchant);
        }
    }
    merchants
}

fn merchant_of(name: &str, table: Table<'_>) -> Option<Merchant> {
    let mut origin = Origin::new(table.sink.source.clone(), table.place.clone());
    let credentials = doors::credentials_of(name, &table, &mut origin);
    let limit = table.rate("limit");
    table.default("late_success", quoted("refund"));
    let late_success = table.get("late_success").and_then(|v| late_success_of(&v));
    let instant_switch = table.switch("instant_switch", false);
    let webhook = table.get("webhook").and_then(|v| webhook::webhook_of(&v));
    table.finish(&[]);
    Some(Merchant {
        name: name.to_owned(),
        credentials: credentials?,
        limit,
        late_success: late_success.unwrap_or(LateSuccess::Refund),
        instant_switch,
        webhook,
        origin,
    })
}

fn late_success_of(value: &Value<'_>) -> Option<LateSuccess> {
    if value.value.as_table().is_none() {
        value.shaped(Shape::Word(vec!["refund".into()]));
        if value.value.as_str() == Some("refund") {
            return Some(LateSuccess::Refund);
        }
        let finding = Diagnostic::error("C006", format!("`{}` cannot be read", value.path))
            .help("write `\"refund\"` or `{ accept_within = \"10m\" }`");
        return value.refuse(finding);
    }
    let table = value.table()?;
    let within = table.need("accept_within", "write `{ accept_within = \"10m\" }`");
    let within_ms = within.and_then(|v| v.duration(SECOND..=24 * HOUR));
    table.finish(&[]);
    Some(LateSuccess::Accept { within_ms: within_ms? })
}

fn breakers(root: &Table<'_>) -> BreakerTable {
    let mut breakers = BreakerTable::new();
    let Some(table) = root.section("breaker") else {
        breakers.entry("default".into()).or_default();
        return breakers;
    };
    for (name, value) in table.names() {
        let settings = value.table().and_then(account::breaker_of);
        breakers.insert(name.to_owned(), settings.unwrap_or_default());
    }
    let unwritten = || account::breaker_of(table.empty("default")).unwrap_or_default();
    breakers.entry("default".into()).or_insert_with(unwritten);
    breakers
}

fn inquiry_of(table: Option<Table<'_>>) -> Inquiry {
    let mut inquiry =
        Inquiry { recheck_ms: ladder(), alert_after_ms: 5 * MINUTE, give_up_ms: 72 * HOUR };
    let Some(table) = table else { return inquiry };
    let steps: Vec<String> =
        inquiry.recheck_ms.iter().map(|ms| quoted(&format_duration(*ms))).collect();
    table.default("recheck", format!("[{}]", steps.join(", ")));
    if let Some(written) = table.get("recheck") {
        let waits = written.list().unwrap_or_default();
        let waits: Vec<u64> = waits.iter().filter_map(|v| v.duration(100..=24 * HOUR)).collect();
        match waits.len() {
            0 => {
                let text = "`inquiry.recheck` holds no wait";
                written.refuse::<()>(Diagnostic::error("C006", text));
            }
            1..=64 => inquiry.recheck_ms = waits,
            _ => {
                let text = "`inquiry.recheck` holds more than 64 waits";
                written.refuse::<()>(Diagnostic::error("C009", text));
            }
        }
    }
    inquiry.alert_after_ms = table.duration("alert_after", SECOND..=24 * HOUR, 5 * MINUTE);
    inquiry.give_up_ms = table.duration("give_up", SECOND..=30 * 24 * HOUR, 72 * HOUR);
    table.finish(&[]);
    inquiry
}

/// 1 s to 64 s, doubling, for ten minutes; five minutes to one hour; then hourly.
fn ladder() -> Vec<u64> {
    let doubling = (0..7).map(|n| SECOND << n);
    let minutes = std::iter::repeat_n(64 * SECOND, 8);
    let to_the_hour = std::iter::repeat_n(5 * MINUTE, 10);
    doubling.chain(minutes).chain(to_the_hour).chain([HOUR]).collect()
}

fn budget_of(table: Option<Table<'_>>) -> FailoverBudget {
    let mut budget = FailoverBudget { ratio: 0.2, per_second: 10, ttl_ms: 10 * SECOND };
    let Some(table) = table else { return budget };
    budget.ratio = table.share("ratio", budget.ratio);
    budget.per_second = table.number("per_second", 0..=100_000, budget.per_second);
    budget.ttl_ms = table.duration("ttl", SECOND..=MINUTE, budget.ttl_ms);
    table.finish(&[]);
    budget
}

fn telemetry_of(table: Option<Table<'_>>) -> Telemetry {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let mut telemetry = Telemetry { log: "info".into(), format: LogFormat::Text };
    let Some(table) = table else { return telemetry };
    table.default("log", quoted("info"));
    if let Some(written) = table.get("log")
        && let Some(filter) = written.text()
    {
        match filter.parse::<tracing_subscriber::filter::EnvFilter>() {
            Ok(_) => telemetry.log = filter.to_owned(),
            Err(_) => {
                let finding = Diagnostic::error("C006", "`telemetry.log` is no filter")
                    .help("write error, warn, info, debug or trace, or \"info,MODULE=debug\"");
                written.refuse::<()>(finding);
            }
        }
    }
    telemetry.format = table.word("format", &formats, telemetry.format);
    table.finish(&["otlp"]);
    telemetry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_asks_often_then_seldom_and_never_stops_early() {
        let ladder = ladder();
        let ten_minutes: u64 = ladder[..15].iter().sum();
        assert!((10 * MINUTE..11 * MINUTE).contains(&ten_minutes), "{ten_minutes}");
        let hour: u64 = ladder[..25].iter().sum();
        assert!((HOUR..HOUR + 2 * MINUTE).contains(&hour), "{hour}");
        assert_eq!(ladder.last(), Some(&HOUR));
        assert!(ladder.is_sorted());
    }
}
