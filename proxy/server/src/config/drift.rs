//! Tests that the shipped schema, the shipped files and the reader say the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::meanings::explained;
use super::{load_alone, schema};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

#[test]
fn the_shipped_schema_is_what_the_reader_asks_for() {
    let file = shipped().join("interlock.schema.json");
    let text = format!("{:#}\n", schema().unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let how = "run `UPDATE=1 cargo test -p interlock --lib config::drift`";
    assert!(committed == text, "{} is old: {how}", file.display());
}

/// A file that the reader takes, the schema takes, and a key that neither knows is refused.
#[test]
fn the_schema_takes_what_the_reader_takes() {
    let schema = schema().unwrap();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.extend(["interlock.toml", "demo.toml"].map(|name| shipped().join(name)));
    let (mut taken, mut refused) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let Ok(value) = toml::from_str::<toml::Value>(&text) else { continue };
        let complaints = complaints(&schema, &as_json(value), "");
        let unknown_key = match load_alone(&file) {
            Ok(_) => {
                assert!(complaints.is_empty(), "{}: {complaints:?}", file.display());
                taken += 1;
                false
            }
            Err(found) => found.iter().any(|d| matches!(d.code, "C003" | "C004" | "C005")),
        };
        if unknown_key {
            assert!(!complaints.is_empty(), "the schema takes {}", file.display());
            refused += 1;
        }
    }
    assert!(taken >= 10 && refused >= 3, "{taken} taken, {refused} refused");
}

/// Every key has its sentence, its unit where it has one, and its default or that it is required;
/// nothing is explained that is no key.
#[test]
fn no_key_is_without_its_meaning() {
    let schema = schema().unwrap();
    let mut keys = BTreeSet::new();
    each_key(&schema, "", &mut |path, key| {
        keys.insert(path.to_owned());
        let text = key["description"].as_str().unwrap_or_default();
        let (sentence, _) = text.split_once('.').unwrap_or_default();
        assert!(sentence.len() >= 8, "{path} is not explained: {text:?}");
        if key["type"] != "object" {
            let told = text.contains("Default: ") || text.to_lowercase().contains("required");
            assert!(told, "{path} has no default and is not required: {text:?}");
        }
    });
    assert!(keys.len() > 100, "{keys:?}");
    for path in explained() {
        assert!(keys.contains(&path), "{path} is explained and is no key");
    }
}

/// The file that an operator copies leaves no key out.
#[test]
fn the_annotated_file_names_every_key() {
    let text = std::fs::read_to_string(shipped().join("interlock.toml")).unwrap();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = text.split(|c| !word(c)).collect();
    let mut missing = BTreeSet::new();
    each_key(&schema().unwrap(), "", &mut |path, _| {
        let key = path.rsplit('.').next().unwrap_or(path);
        if !names.contains(key) {
            missing.insert(path.to_owned());
        }
    });
    assert!(missing.is_empty(), "{missing:?}");
}

/// Every key below a schema, with its dotted name: `NAME` for names, nothing for items.
fn each_key(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    for form in schema["anyOf"].as_array().into_iter().flatten() {
        each_key(form, path, see);
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        see(&path, below);
        each_key(below, &path, see);
    }
    each_key_of(&schema["items"], path, see);
    each_key_of(&schema["additionalProperties"], &format!("{path}.NAME"), see);
}

fn each_key_of(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    if schema.is_object() {
        each_key(schema, path, see);
    }
}

#[test]
fn shipped_files_name_their_schema() {
    for name in ["interlock.toml", "demo.toml"] {
        let text = std::fs::read_to_string(shipped().join(name)).unwrap();
        assert!(text.starts_with("#:schema ./interlock.schema.json\n"), "{name}");
    }
}

/// The part of JSON Schema that ours uses.
fn complaints(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if *schema == Value::Bool(true) {
        return Vec::new();
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        let fits = forms.iter().any(|form| complaints(form, value, at).is_empty());
        return if fits { Vec::new() } else { vec![format!("{at}: none of the forms")] };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) {
            Vec::new()
        } else {
            vec![format!("{at}: no such word")]
        };
    }
    let wrong = |what: &str| vec![format!("{at}: {what}")];
    match schema["type"].as_str() {
        Some("string") => match value.as_str() {
            Some("") | None => wrong("no text"),
            Some(_) => Vec::new(),
        },
        Some("boolean") if !value.is_boolean() => wrong("no truth value"),
        Some("integer" | "number") => {
            let Some(number) = value.as_f64() else { return wrong("no number") };
            let least = schema["minimum"].as_f64().unwrap_or(f64::MIN);
            let most = schema["maximum"].as_f64().unwrap_or(f64::MAX);
            if (least..=most).contains(&number) { Vec::new() } else { wrong("out of bounds") }
        }
        Some("array") => {
            let Some(items) = value.as_array() else { return wrong("no list") };
            items.iter().flat_map(|item| complaints(&schema["items"], item, at)).collect()
        }
        Some("object") => in_table(schema, value, at),
        Some("boolean") => Vec::new(),
        kind => panic!("{at}: a form that this test does not know: {kind:?} in {schema}"),
    }
}

fn in_table(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(table) = value.as_object() else { return vec![format!("{at}: no table")] };
    let needed = schema["required"].as_array().cloned().unwrap_or_default();
    let missing = needed.iter().filter_map(Value::as_str).filter(|key| !table.contains_key(*key));
    let mut found: Vec<String> = missing.map(|key| format!("{at}: lacks {key}")).collect();
    for (key, value) in table {
        let at = format!("{at}.{key}");
        match schema["properties"].get(key) {
            Some(known) => found.extend(complaints(known, value, &at)),
            None if schema["additionalProperties"] == Value::Bool(false) => {
                found.push(format!("{at}: unknown"));
            }
            None => found.extend(complaints(&schema["additionalProperties"], value, &at)),
        }
    }
    found
}

/// TOML's times are texts in JSON.
fn as_json(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(key, value)| (key, as_json(value))).collect()
        }
        other => serde_json::to_value(other).unwrap(),
    }
}
