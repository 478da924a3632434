//! Reads `[[routes]]`: which payments a route takes, and which accounts it tries.

use interlock_plugin_api::Currency;

use super::diagnostic::{Diagnostic, Origin, nearest};
use super::reader::{Table, Value, quoted};
use super::sections::{Names, good_name};
use super::{Candidate, Failover, Match, OnAllOpen, Route, Strategy};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Reads every route; one that lacks what it needs is reported and left out.
pub(super) fn read_all(routes: Vec<Value<'_>>, names: &Names<'_>) -> Vec<Route> {
    routes.iter().filter_map(|v| route_of(v.table()?, names)).collect()
}

fn route_of(table: Table<'_>, names: &Names<'_>) -> Option<Route> {
    let mut origin = Origin::new(table.sink.source.clone(), table.place.clone());
    let name = table.need("name", "write `name = \"cards\"`");
    if let Some(name) = &name {
        origin.note("name", name.place.clone());
    }
    let name = name.and_then(|v| v.text().filter(|t| good_name(v.sink, t, &v.place)));
    let matches = table.get("match");
    if let Some(written) = &matches {
        origin.note("match", written.key.clone());
    }
    let matches = matches.and_then(|v| v.table()).map(|t| match_of(t, names, &mut origin));
    let written = table.need("candidates", "write `candidates = [\"ACCOUNT\", \"ACCOUNT\"]`");
    let candidates = written.as_ref().map(|v| candidates_of(v, names, &mut origin));
    let weighted = written.as_ref().is_some_and(|v| weights_written(v));
    let strategy = strategy_of(&table, weighted);
    table.default("failover", quoted("proven"));
    table.default("on_all_open", quoted("fail"));
    let failover = table.get("failover").and_then(|v| failover_of(&v));
    let deadline_ms = table.duration("deadline", SECOND..=5 * MINUTE, 25 * SECOND);
    let attempts_max = table.number("attempts_max", 1..=10, 3);
    if let Some(written) = table.get("on_all_open") {
        on_all_open_of(&written);
    }
    table.finish(&["panic"]);
    Some(Route {
        name: name?.to_owned(),
        matches: matches.unwrap_or_default(),
        candidates: candidates?,
        strategy,
        failover: failover.unwrap_or(Failover::Proven),
        deadline_ms,
        attempts_max,
        on_all_open: OnAllOpen::Fail,
        origin,
    })
}

fn match_of(table: Table<'_>, names: &Names<'_>, origin: &mut Origin) -> Match {
    let mut list = |key: &'static str, read: &dyn Fn(&Value<'_>) -> Option<String>| {
        let Some(written) = table.get(key) else { return Vec::new() };
        origin.note(format!("match.{key}"), written.place.clone());
        let empty = written.value.as_array().is_some_and(|items| items.is_empty());
        if empty {
            let text = format!("`{}` matches nothing", written.path);
            written.refuse::<()>(Diagnostic::error("C006", text).help("remove the key"));
        }
        written.one_or_more().iter().filter_map(read).collect()
    };
    let word = |v: &Value<'_>| v.text().map(str::to_owned);
    let method = list("method", &word);
    let flow = list("flow", &word);
    let currency = list("currency", &|v| currency_of(v).map(|c| c.as_str().to_owned()));
    let country = list("country", &country_of);
    let merchant = list("merchant", &|v| merchant_of(v, names));
    let amount = table.get("amount").and_then(|v| v.table());
    let (amount_min, amount_max) = amount.map(amount_of).unwrap_or_default();
    let metadata = table.get("metadata").and_then(|v| v.table());
    let metadata = metadata
        .iter()
        .flat_map(Table::names)
        .filter_map(|(name, value)| value.text().map(|text| (name.to_owned(), text.to_owned())));
    let matches = Match {
        method,
        flow,
        currency: currency.iter().filter_map(|code| Currency::parse(code)).collect(),
        country,
        merchant,
        amount_min,
        amount_max,
        metadata: metadata.collect(),
    };
    table.finish(&["time"]);
    matches
}

fn currency_of(value: &Value<'_>) -> Option<Currency> {
    let text = value.text()?;
    let known =
        Currency::parse(text).filter(|c| iso_currency::Currency::from_code(c.as_str()).is_some());
    known.or_else(|| {
        let finding = Diagnostic::error("C006", format!("`{text}` is not a currency"));
        value.refuse(finding.help("write an ISO 4217 code, such as \"EUR\""))
    })
}

fn country_of(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        return Some(text.to_owned());
    }
    let finding = Diagnostic::error("C006", format!("`{text}` is not a country"));
    value.refuse(finding.help("write an ISO 3166-1 code in capitals, such as \"DE\""))
}

fn merchant_of(value: &Value<'_>, names: &Names<'_>) -> Option<String> {
    let name = value.text()?;
    if names.merchants.contains(&name) {
        return Some(name.to_owned());
    }
    value.refuse(undefined("merchant", "merchants", name, &names.merchants))
}

fn amount_of(table: Table<'_>) -> (Option<i64>, Option<i64>) {
    let min = table.get("min").and_then(|v| v.integer(0..=i64::MAX));
    let max = table.get("max").and_then(|v| v.integer(0..=i64::MAX));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let text = format!("`{}` matches nothing: {min} to {max}", table.path);
        table.sink.report(Diagnostic::error("C009", text), table.place.clone());
    }
    table.finish(&[]);
    (min, max)
}

fn candidates_of(value: &Value<'_>, names: &Names<'_>, origin: &mut Origin) -> Vec<Candidate> {
    let Some(items) = value.list() else { return Vec::new() };
    origin.note("candidates", value.place.clone());
    if items.is_empty() {
        let finding = Diagnostic::error("C021", format!("`{}` is empty", value.path));
        value.refuse::<()>(finding.help("name at least one account"));
    }
    let tables = items.iter().filter(|v| v.value.is_table()).count();
    if tables != 0 && tables != items.len() {
        let text = "candidates are names or tables, not both";
        let finding = Diagnostic::error("C018", text)
            .help("write names for a strict order, or `{ to = ..., weight = ... }` for shares");
        value.refuse::<()>(finding);
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    for item in &items {
        let Some(candidate) = candidate_of(item, names, origin) else { continue };
        if candidates.iter().any(|c| c.to == candidate.to) {
            let text = format!("account `{}` is a candidate twice", candidate.to);
            item.refuse::<()>(Diagnostic::error("C015", text).help("remove one of them"));
            continue;
        }
        candidates.push(candidate);
    }
    let weights = candidates.iter().filter_map(|c| c.weight);
    if candidates.iter().all(|c| c.weight.is_some())
        && !candidates.is_empty()
        && weights.sum::<u32>() == 0
    {
        let finding = Diagnostic::error("C021", "all weights are zero");
        value.refuse::<()>(finding.help("give at least one candidate a weight"));
    }
    candidates
}

fn candidate_of(item: &Value<'_>, names: &Names<'_>, origin: &mut Origin) -> Option<Candidate> {
    let (name, weight, place) = if item.value.is_table() {
        let table = item.table()?;
        let to = table.need("to", "write `{ to = \"ACCOUNT\", weight = 70 }`");
        let weight = table.need("weight", "write `{ to = \"ACCOUNT\", weight = 70 }`");
        let weight = weight.and_then(|v| v.number(0..=1_000_000)).or(Some(1));
        table.finish(&[]);
        let to = to?;
        (to.text()?.to_owned(), weight, to)
    } else {
        let name = item.text()?.to_owned();
        (
            name,
            None,
            Value {
                path: item.path.clone(),
                key: item.key.clone(),
                place: item.place.clone(),
                ..*item
            },
        )
    };
    if !names.accounts.contains(&name.as_str()) {
        // It stays in the list, so that a route with one bad name is not also called too short.
        place.refuse::<()>(undefined("account", "accounts", &name, &names.accounts));
    }
    origin.note(format!("candidates.{name}"), place.place);
    Some(Candidate { to: name, weight })
}

fn undefined(what: &str, table: &str, name: &str, known: &[&str]) -> Diagnostic {
    let finding = Diagnostic::error("C014", format!("{what} `{name}` is not defined"))
        .label(format!("no [{table}.{name}]"));
    match nearest(name, known.iter().copied()) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => finding,
        None => finding.help(format!("defined: {}", known.join(", "))),
    }
}

fn weights_written(value: &Value<'_>) -> bool {
    let items = value.value.as_array();
    items.is_some_and(|items| items.as_ref().iter().any(|v| v.get_ref().is_table()))
}

fn strategy_of(table: &Table<'_>, weighted: bool) -> Strategy {
    let natural = if weighted { Strategy::Weighted } else { Strategy::Priority };
    let word = if weighted { "weighted" } else { "priority" };
    table.default("strategy", quoted(word));
    let Some(written) = table.get("strategy") else { return natural };
    if let Some(later @ ("least_cost" | "success_rate" | "fastest")) = written.value.as_str() {
        let text = format!("strategy `{later}` is not available in this version");
        let finding = Diagnostic::error("C017", text);
        written.refuse::<()>(finding.help("write `priority` or `weighted`"));
        return natural;
    }
    let words = [("priority", Strategy::Priority), ("weighted", Strategy::Weighted)];
    let Some(said) = written.word(&words) else { return natural };
    if said != natural {
        let (text, help) = match said {
            Strategy::Weighted => (
                "strategy `weighted` needs weights",
                "write the candidates as `{ to = \"ACCOUNT\", weight = 70 }`",
            ),
            Strategy::Priority => (
                "strategy `priority` takes no weights",
                "write the candidates as names, in their order",
            ),
        };
        written.refuse::<()>(Diagnostic::error("C018", text).help(help));
    }
    said
}

fn failover_of(value: &Value<'_>) -> Option<Failover> {
    if value.value.as_str() == Some("always") {
        let finding = Diagnostic::error("C006", "there is no failover `always`")
            .help("write `proven`, `not-sent` or `none`")
            .note(
                "a request that was sent and not answered may have charged the shopper; only \
                 proof that no money moved makes another try safe",
            );
        return value.refuse(finding);
    }
    value.word(&[
        ("proven", Failover::Proven),
        ("not-sent", Failover::NotSent),
        ("none", Failover::None),
    ])
}

fn on_all_open_of(value: &Value<'_>) {
    if value.value.as_str() == Some("declared-order") {
        let text = "`on_all_open = \"declared-order\"` is not available in this version";
        value.refuse::<()>(Diagnostic::error("C017", text).help("write `fail`"));
        return;
    }
    value.word(&[("fail", ())]);
}
