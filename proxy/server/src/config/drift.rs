//! Tests that the shipped schema, the shipped files and the reader say the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::Value;

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
