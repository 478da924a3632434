//! What the reader asks for while it reads: every key, what it may be, its default, its place.
//!
//! The code that reads a configuration is the only list of its keys. This room listens to it, so
//! that `config show` and the JSON Schema know exactly what the reader knows, and no second list
//! can drift from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use serde_json::{Map, Value, json};

use super::meanings::meaning;
use super::words::{format_duration, format_size};

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Text,
    Switch,
    Whole(i64, i64),
    Share,
    Duration(u64, u64),
    Rate,
    Size(u64, u64),
    Word(Vec<String>),
    Secret,
    /// A table whose keys the reader knows.
    Table,
    /// A table whose keys are names.
    Names,
    List,
    /// One of what the list holds, or the list.
    OneOrMore,
}

/// One key, or one item of a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) shapes: Vec<Shape>,
    /// As it would be written.
    pub(super) default: Option<String>,
    needed: bool,
    /// The value's place in the file, where it is written.
    pub(super) written: Option<Range<usize>>,
}

impl Asked {
    /// Whether it holds other keys or items, and no value of its own.
    pub(super) fn is_branch(&self) -> bool {
        self.shapes.iter().any(|s| matches!(s, Shape::Table | Shape::Names))
    }

    pub(super) fn is_list(&self) -> bool {
        self.shapes.contains(&Shape::List)
    }
}

/// Everything that was asked for, in its order.
#[derive(Default)]
pub(super) struct Inventory(RefCell<Vec<Asked>>);

impl Inventory {
    pub(super) fn into_rows(self) -> Vec<Asked> {
        self.0.into_inner()
    }

    pub(super) fn written(&self, path: &str, place: Range<usize>) {
        self.change(path, |asked| asked.written = Some(place));
    }

    pub(super) fn shape(&self, path: &str, shape: Shape) {
        self.change(path, |asked| {
            if !asked.shapes.contains(&shape) {
                asked.shapes.push(shape);
            }
        });
    }

    pub(super) fn needed(&self, path: &str) {
        self.change(path, |asked| asked.needed = true);
    }

    pub(super) fn otherwise(&self, path: &str, text: impl Into<String>) {
        self.change(path, |asked| asked.default = Some(text.into()));
    }

    pub(super) fn asked(&self, path: &str) {
        self.change(path, |_| {});
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Asked)) {
        let mut rows = self.0.borrow_mut();
        // What is asked is asked again at once, if at all.
        let known = rows.iter().rposition(|asked| asked.path == path);
        let at = known.unwrap_or_else(|| {
            rows.push(Asked { path: path.to_owned(), ..Asked::default() });
            rows.len() - 1
        });
        change(&mut rows[at]);
    }
}

impl Shape {
    pub(super) fn duration(within: &RangeInclusive<u64>) -> Self {
        Self::Duration(*within.start(), *within.end())
    }

    pub(super) fn size(within: &RangeInclusive<u64>) -> Self {
        Self::Size(*within.start(), *within.end())
    }

    pub(super) fn words<T>(words: &[(&str, T)]) -> Self {
        Self::Word(words.iter().map(|(word, _)| (*word).to_owned()).collect())
    }
}

/// The JSON Schema of what was asked for, from a file in which everything is written.
///
/// # Errors
/// Keys of which nothing but the name is known: the file must write them.
pub(super) fn schema(rows: &[Asked]) -> Result<Value, Vec<String>> {
    let mut root = Node { shapes: vec![Shape::Table], tables: 1, ..Node::default() };
    for row in rows {
        root.enter(&row.path, row);
    }
    let mut unknown = Vec::new();
    root.unknown("", &mut unknown);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "Configuration of Interlock".into());
    if let Value::Object(members) = root.schema("") {
        schema.extend(members);
    }
    Ok(Value::Object(schema))
}

/// A key, whatever names and places lead to it.
#[derive(Default)]
struct Node {
    shapes: Vec<Shape>,
    default: Option<String>,
    /// How many tables there are of it, and how many of those around it need it.
    tables: usize,
    needed: usize,
    keys: BTreeMap<String, Node>,
    /// What stands under a name.
    named: Option<Box<Node>>,
    /// What a list holds.
    item: Option<Box<Node>>,
}

impl Node {
    fn enter(&mut self, path: &str, row: &Asked) {
        if path.is_empty() {
            let new = row.shapes.iter().filter(|s| !self.shapes.contains(s)).cloned();
            self.shapes.extend(new.collect::<Vec<_>>());
            self.tables += usize::from(row.shapes.contains(&Shape::Table));
            self.needed += usize::from(row.needed);
            self.default = self.default.take().or_else(|| row.default.clone());
            return;
        }
        if let Some(rest) = path.strip_prefix('[') {
            let rest = rest.split_once(']').map_or("", |(_, rest)| rest);
            return self.item.get_or_insert_default().enter(rest, row);
        }
        let path = path.trim_start_matches('.');
        let (key, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
        if self.shapes.contains(&Shape::Names) {
            self.named.get_or_insert_default().enter(rest, row);
        } else {
            self.keys.entry(key.to_owned()).or_default().enter(rest, row);
        }
    }

    /// The keys of which nobody said what they may be.
    fn unknown(&self, path: &str, found: &mut Vec<String>) {
        if self.shapes.is_empty() {
            found.push(path.to_owned());
        }
        for (key, node) in &self.keys {
            node.unknown(&format!("{path}.{key}"), found);
        }
        for (key, node) in [("NAME", &self.named), ("[]", &self.item)] {
            if let Some(node) = node {
                node.unknown(&format!("{path}.{key}"), found);
            }
        }
    }

    /// What it may be; `path` is its dotted name, with `NAME` for names and nothing for items.
    fn schema(&self, path: &str) -> Value {
        let many = self.shapes.contains(&Shape::OneOrMore);
        let mut forms: Vec<Value> = Vec::new();
        for shape in self.shapes.iter().filter(|s| **s != Shape::OneOrMore) {
            // What is read as a table by its names is no table of known keys as well.
            if *shape == Shape::Table && self.shapes.contains(&Shape::Names) {
                continue;
            }
            if !(many && *shape == Shape::List) {
                forms.push(self.form(shape, path));
            }
        }
        if many {
            let item = self.item.as_ref().map(|item| item.schema(path));
            forms.extend(
                item.iter().filter(|item| !forms.contains(item)).cloned().collect::<Vec<_>>(),
            );
            forms.push(json!({ "type": "array", "items": one_of(forms.clone()) }));
        }
        let mut schema = one_of(forms);
        if let (Value::Object(members), Some(default)) = (&mut schema, &self.default) {
            members.insert("default".into(), as_json(default));
        }
        schema
    }

    /// As [`Self::schema`], with what the key means, its unit and its default in words.
    fn explained(&self, path: &str, needed: bool) -> Value {
        let mut schema = self.schema(path);
        let Value::Object(members) = &mut schema else { return schema };
        let Some(sentence) = meaning(path) else { return schema };
        let (sentence, otherwise) = match sentence.split_once(" Default: ") {
            Some((sentence, otherwise)) => (sentence, Some(format!("Default: {otherwise}"))),
            None => (sentence, None),
        };
        let form = members.get("description").and_then(Value::as_str).map(|form| {
            let (first, rest) = form.split_at(1);
            format!("{}{rest}.", first.to_ascii_uppercase())
        });
        let default = || {
            let plain = self.default.as_ref()?.replace(['"', '[', ']'], "");
            Some(format!("Default: {plain}."))
        };
        let end = otherwise.or_else(default).or_else(|| needed.then(|| "Required.".into()));
        let parts = std::iter::once(sentence.to_owned()).chain(form).chain(end);
        members.insert("description".into(), parts.collect::<Vec<_>>().join(" ").into());
        schema
    }

    fn form(&self, shape: &Shape, path: &str) -> Value {
        let words = |text: &str, least: String, most: String, pattern: &str| {
            let description = format!("{text} from {least} to {most}");
            json!({ "type": "string", "pattern": pattern, "description": description })
        };
        match shape {
            Shape::Text | Shape::Secret => json!({ "type": "string", "minLength": 1 }),
            Shape::Switch => json!({ "type": "boolean" }),
            Shape::Whole(i64::MIN, i64::MAX) => json!({ "type": "integer" }),
            Shape::Whole(least, i64::MAX) => json!({ "type": "integer", "minimum": least }),
            Shape::Whole(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Shape::Duration(least, most) => words(
                "a time",
                format_duration(*least),
                format_duration(*most),
                "^ *([0-9]+(d|h|ms|m|s))+ *$",
            ),
            Shape::Size(least, most) => {
                let pattern = "^ *[0-9]+ *(B|KiB|MiB|GiB) *$";
                words("a size", format_size(*least), format_size(*most), pattern)
            }
            Shape::Rate => json!({
                "type": "string", "pattern": "^ *[0-9]+/(s|m|h)( +burst +[0-9]+)? *$",
                "description": "a rate such as 200/s, or 200/s burst 50",
            }),
            Shape::Word(words) => json!({ "enum": words }),
            Shape::Names => {
                let below = format!("{path}.NAME");
                let of = self.named.as_ref().map_or(json!(true), |named| named.schema(&below));
                json!({ "type": "object", "additionalProperties": of })
            }
            Shape::Table => {
                let is_needed = |node: &Node| node.needed == self.tables;
                let dot = if path.is_empty() { "" } else { "." };
                let explained = |(key, node): (&String, &Node)| {
                    let path = format!("{path}{dot}{key}");
                    (key.clone(), node.explained(&path, is_needed(node)))
                };
                let keys: Map<String, Value> = self.keys.iter().map(explained).collect();
                let needed: Vec<&String> =
                    self.keys.iter().filter(|(_, n)| is_needed(n)).map(|(k, _)| k).collect();
                let mut table = json!({ "type": "object", "properties": keys });
                if !needed.is_empty() {
                    table["required"] = json!(needed);
                }
                table["additionalProperties"] = json!(false);
                table
            }
            Shape::List | Shape::OneOrMore => {
                let item = self.item.as_ref().map_or(json!(true), |item| item.schema(path));
                json!({ "type": "array", "items": item })
            }
        }
    }
}

fn one_of(mut forms: Vec<Value>) -> Value {
    match forms.len() {
        1 => forms.remove(0),
        _ => json!({ "anyOf": forms }),
    }
}

/// A default as it would be written, as JSON.
fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
