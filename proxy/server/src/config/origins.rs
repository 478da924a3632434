//! Every effective value with where it came from, and the JSON Schema: what the reader asked for,
//! told to people and to editors.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Source};
use super::inventory::{self, Asked, Shape};
use super::meanings::meaning;
use super::secret::Reference;
use super::{mask, read_text, reader, sections};

/// A file in which everything is written that can be.
const SPECIMEN: &str = include_str!("specimen.toml");

/// One value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Its dotted name.
    pub key: String,
    /// As it is written, or would be; a secret is only named. `None` is "none".
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Whence,
    /// What it means, in one sentence.
    pub meaning: Option<&'static str>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Whence {
    /// Nobody wrote it.
    Default,
    /// The file holds it.
    File {
        /// As it was named.
        file: String,
        /// From 1.
        line: usize,
    },
    /// The file names a variable that holds it.
    Env {
        /// The variable.
        name: String,
        /// As it was named.
        file: String,
        /// From 1.
        line: usize,
    },
    /// The file names another file that holds it.
    OtherFile {
        /// The other file.
        path: String,
        /// As it was named.
        file: String,
        /// From 1.
        line: usize,
    },
}

/// Every value of a configuration, in the order in which it is read. Secrets are not looked up.
///
/// # Errors
/// Everything that is wrong with the file, when it can't be used.
pub fn effective(path: &Path) -> Result<Vec<Effective>, Vec<Diagnostic>> {
    let (text, file) = read_text(path)?;
    let (root, faults) = DeTable::parse_recoverable(&text);
    if !faults.is_empty() {
        return super::load_alone(path).map(|_| Vec::new());
    }
    let source = Source::new(file, mask::mask(&text, root.get_ref()));
    let sink = reader::Sink::new(source, path.parent().unwrap_or(Path::new("")), true);
    let read = sections::read(&sink, root.get_ref());
    let findings = sink.findings();
    if read.is_none() || findings.iter().any(Diagnostic::is_error) {
        return Err(findings);
    }
    let source = sink.source.clone();
    let rows = sink.inventory.into_rows();
    let shown = rows.iter().filter(|row| is_value(row, &rows));
    Ok(shown.map(|row| told(row, &source, meaning_of(&row.path, &rows))).collect())
}

/// The JSON Schema of the configuration.
///
/// # Errors
/// The keys that the specimen must write, because nothing else says what they may be.
pub fn schema() -> Result<Value, Vec<String>> {
    let (root, faults) = DeTable::parse_recoverable(SPECIMEN);
    if let Some(fault) = faults.first() {
        return Err(vec![fault.message().to_owned()]);
    }
    let source = Source::new("specimen.toml".into(), SPECIMEN.to_owned());
    let sink = reader::Sink::new(source, Path::new(""), true);
    sections::read(&sink, root.get_ref());
    let wrong: Vec<String> = sink
        .findings()
        .iter()
        .filter(|found| found.is_error())
        .map(|found| format!("specimen.toml:{}: {}", found.line, found.message))
        .collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    inventory::schema(&sink.inventory.into_rows())
}

/// Whether a row is shown: a table by its keys, a list of plain things as a whole.
fn is_value(row: &Asked, rows: &[Asked]) -> bool {
    let below = |other: &Asked| {
        other.path.strip_prefix(&row.path).is_some_and(|rest| rest.starts_with('['))
    };
    let tables = |list: &Asked| {
        list.is_list() && rows.iter().any(|r| r.is_branch() && item_of(&r.path, &list.path))
    };
    let plain_item = rows.iter().any(|r| r.is_list() && !tables(r) && item_of(&row.path, &r.path));
    let of_list = row.is_list() && rows.iter().any(below) && tables(row);
    let written_or_known = row.written.is_some() || !row.shapes.is_empty() || row.default.is_some();
    // A table that is one of several forms is shown by its keys where it is written as one.
    let branch = row.is_branch() && (row.written.is_some() || row.default.is_none());
    !branch && !of_list && !plain_item && written_or_known
}

fn item_of(path: &str, list: &str) -> bool {
    path.strip_prefix(list)
        .is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']') && !rest.contains('.'))
}

/// What a value means; what has a name of the operator's or of a plugin is explained as a whole.
fn meaning_of(path: &str, rows: &[Asked]) -> Option<&'static str> {
    let is_names =
        |path: &str| rows.iter().any(|row| row.path == path && row.shapes.contains(&Shape::Names));
    let (mut known, mut here) = (String::new(), String::new());
    for part in path.split('.') {
        let key = if is_names(&here) { "NAME" } else { part.split('[').next().unwrap_or(part) };
        for (text, part) in [(&mut known, key), (&mut here, part)] {
            let dot = if text.is_empty() { "" } else { "." };
            *text = format!("{text}{dot}{part}");
        }
    }
    meaning(&known).or_else(|| meaning(known.strip_suffix(".NAME")?))
}

fn told(row: &Asked, source: &Source, meaning: Option<&'static str>) -> Effective {
    let key = row.path.clone();
    let Some(place) = &row.written else {
        return Effective { key, value: row.default.clone(), origin: Whence::Default, meaning };
    };
    let written = source.quote(place).split_whitespace().collect::<Vec<_>>().join(" ");
    let (file, line) = (source.file().to_owned(), source.position(place.start).0);
    let inner = written.trim_matches(['"', '\'']);
    let hidden = !inner.is_empty() && inner.bytes().all(|b| b == b'*' || b == b' ');
    let is_secret = row.shapes.contains(&Shape::Secret);
    let origin = match Reference::of(inner) {
        Reference::Env(name) if is_secret => Whence::Env { name: name.to_owned(), file, line },
        Reference::File(path) if is_secret => {
            Whence::OtherFile { path: path.to_owned(), file, line }
        }
        _ => Whence::File { file, line },
    };
    // Not even its length.
    let value = if hidden || is_secret { "[secret]".to_owned() } else { written };
    Effective { key, value: Some(value), origin, meaning }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_specimen_says_what_every_key_may_be() {
        let schema = schema().unwrap_or_else(|why| unreachable!("write in specimen.toml: {why:?}"));
        let server = &schema["properties"]["server"];
        assert_eq!(server["required"], serde_json::json!(["data_dir", "listen", "plugins_dir"]));
        assert_eq!(server["properties"]["drain"]["default"], "45s");
        let account = &schema["properties"]["accounts"]["additionalProperties"]["properties"];
        assert_eq!(account["in_flight"]["maximum"], 100_000);
        let failover = &schema["properties"]["routes"]["items"]["properties"]["failover"];
        assert_eq!(failover["enum"], serde_json::json!(["proven", "not-sent", "none"]));
    }

    #[test]
    fn every_value_has_its_origin_and_no_secret_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        let text = r#"[server]
listen = "127.0.0.1:8080"
data_dir = "d"
plugins_dir = "p"
[merchants.shop]
api_key = "never_shown_1"
[accounts.one]
plugin = "acme"
endpoints = { api = "http://127.0.0.1:1" }
config = { app_token = "never_shown_2", name = "x" }
secrets = { a = "${env:NOT_SET}", b = "${file:nowhere}" }
breaker = { window = "5s" }
[[routes]]
name = "all"
match = { method = ["card",
  "wallet"] }
candidates = [{ to = "one", weight = 1 }]
failover = "none"
"#;
        std::fs::write(&path, text).unwrap();
        let rows = effective(&path).unwrap();
        let row = |key: &str| {
            let found = rows.iter().filter(|r| r.key == key).collect::<Vec<_>>();
            assert_eq!(found.len(), 1, "{key} in {rows:#?}");
            let line = match &found[0].origin {
                Whence::Default => "default".to_owned(),
                Whence::File { line, .. } => line.to_string(),
                Whence::Env { name, line, .. } => format!("{line} env {name}"),
                Whence::OtherFile { path, line, .. } => format!("{line} file {path}"),
            };
            (found[0].value.clone().unwrap_or("none".into()), line)
        };
        for (key, value, origin) in [
            ("server.listen", "\"127.0.0.1:8080\"", "2"),
            ("server.drain", "\"45s\"", "default"),
            ("server.workers", "2", "default"),
            ("server.address_limit", "none", "default"),
            ("merchants.shop.api_key", "[secret]", "6"),
            ("merchants.shop.late_success", "\"refund\"", "default"),
            ("accounts.one.config.app_token", "[secret]", "10"),
            ("accounts.one.config.name", "\"x\"", "10"),
            ("accounts.one.secrets.a", "[secret]", "11 env NOT_SET"),
            ("accounts.one.secrets.b", "[secret]", "11 file nowhere"),
            ("accounts.one.breaker.window", "\"5s\"", "12"),
            ("accounts.one.breaker.probes", "3", "default"),
            ("accounts.one.auto_refund.per_hour_count", "20", "default"),
            ("breaker.default.window", "\"10s\"", "default"),
            ("routes[0].match.method", "[\"card\", \"wallet\"]", "15"),
            ("routes[0].candidates[0].weight", "1", "17"),
            ("routes[0].strategy", "\"weighted\"", "default"),
            ("inquiry.give_up", "\"3d\"", "default"),
            ("telemetry.format", "\"text\"", "default"),
        ] {
            assert_eq!(row(key), (value.to_owned(), origin.to_owned()), "{key}");
        }
        for row in &rows {
            assert!(row.meaning.is_some(), "{} is not explained", row.key);
        }
        let all = format!("{rows:?}");
        assert!(!all.contains("never_shown") && !all.contains("***"), "{all}");
        std::fs::write(&path, text.replace("listen", "lisen")).unwrap();
        assert!(effective(&path).is_err());
    }
}
