//! Reads a TOML tree key by key, and collects everything that is wrong with it.
//!
//! A derived reader stops at the first fault. This one goes on: a value that cannot be read is
//! reported and replaced by its default, so that one run of `check` shows all of them. A key that
//! nobody asked for is unknown, which makes the code that reads the only list of keys.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Source, nearest};
use super::inventory::{Inventory, Shape};
use super::secret::{Reference, Secret};
use super::words::{
    Rate, WordError, format_duration, format_size, parse_duration, parse_rate, parse_size,
};

/// Where findings gather.
pub(super) struct Sink {
    pub(super) source: Arc<Source>,
    /// The folder of the file, to which its paths are relative.
    pub(super) base: PathBuf,
    /// Files and variables outside the configuration are left alone.
    pub(super) alone: bool,
    /// What was asked for.
    pub(super) inventory: Inventory,
    nothing: DeTable<'static>,
    found: RefCell<Vec<Diagnostic>>,
}

impl Sink {
    pub(super) fn new(source: Source, base: &Path, alone: bool) -> Self {
        let base = base.to_owned();
        Self {
            source: Arc::new(source),
            base,
            alone,
            inventory: Inventory::default(),
            nothing: DeTable::new(),
            found: RefCell::default(),
        }
    }

    /// Reports something at a place.
    pub(super) fn report(&self, finding: Diagnostic, place: Range<usize>) {
        self.found.borrow_mut().push(finding.at(&self.source, place));
    }

    /// Reports something that has its place, or has none.
    pub(super) fn push(&self, finding: Diagnostic) {
        self.found.borrow_mut().push(finding);
    }

    /// Everything that was found, in the order of the file.
    pub(super) fn findings(&self) -> Vec<Diagnostic> {
        let mut found = self.found.borrow().clone();
        found.sort_by_key(|d| (d.line, d.column, d.code));
        found
    }
}

/// A table that is being read.
pub(super) struct Table<'a> {
    pub(super) sink: &'a Sink,
    /// Its dotted name; empty for the file.
    pub(super) path: String,
    /// Its header or braces.
    pub(super) place: Range<usize>,
    entries: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn root(sink: &'a Sink, entries: &'a DeTable<'a>) -> Self {
        Self { sink, path: String::new(), place: 0..0, entries, asked: RefCell::default() }
    }

    /// The value of a key, if it is written.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        self.sink.inventory.asked(&self.path_of(key));
        self.entries.iter().find(|(k, _)| k.get_ref() == key).map(|(k, v)| self.value(k, v))
    }

    /// The value of a key that must be written.
    pub(super) fn need(&self, key: &'static str, help: &str) -> Option<Value<'a>> {
        let found = self.get(key);
        self.sink.inventory.needed(&self.path_of(key));
        if found.is_none() {
            let place = self.place.clone();
            let missing = format!("{} needs `{key}`", self.called());
            self.sink.report(Diagnostic::error("C004", missing).help(help), place);
        }
        found
    }

    /// Every entry of a table whose keys are names.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + '_ {
        self.sink.inventory.shape(&self.path, Shape::Names);
        self.entries.iter().map(|(k, v)| (k.get_ref().as_ref(), self.value(k, v)))
    }

    /// The table of a key; an empty one where it is not written, so that its defaults are known.
    pub(super) fn section(&self, key: &'static str) -> Option<Table<'a>> {
        match self.get(key) {
            Some(written) => written.table(),
            None => Some(self.empty(key)),
        }
    }

    /// A table that is not written.
    pub(super) fn empty(&self, key: &str) -> Table<'a> {
        let path = self.path_of(key);
        self.sink.inventory.shape(&path, Shape::Table);
        let (sink, entries) = (self.sink, &self.sink.nothing);
        Table { sink, path, place: self.place.clone(), entries, asked: RefCell::default() }
    }

    /// What a key is when it is not written, as it would be written.
    pub(super) fn default(&self, key: &str, text: impl Into<String>) {
        self.sink.inventory.otherwise(&self.path_of(key), text);
    }

    /// A form that a key may have besides the ones that it is read in.
    pub(super) fn may_be(&self, key: &str, shape: Shape) {
        self.sink.inventory.shape(&self.path_of(key), shape);
    }

    fn takes(&self, key: &str, shape: Shape, default: impl Into<String>) {
        self.sink.inventory.shape(&self.path_of(key), shape);
        self.default(key, default);
    }

    fn path_of(&self, key: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{key}", self.path)
    }

    /// Keys of a later version: refused with a reason, so that nobody takes them for active.
    pub(super) fn later(&self, keys: &[&'static str]) {
        for key in keys {
            let found = self.entries.iter().find(|(k, _)| k.get_ref() == *key);
            if let Some((written, _)) = found {
                let text = format!("`{key}` is not available in this version");
                let finding = Diagnostic::error("C017", text).help("remove the key");
                self.sink.report(finding, written.span());
            }
        }
    }

    /// Reports every key that was never asked for, except those of [`Self::later`].
    pub(super) fn finish(self, later: &[&'static str]) {
        self.later(later);
        let asked = self.asked.borrow();
        for (key, _) in self.entries.iter() {
            let word = key.get_ref().as_ref();
            if asked.contains(&word) || later.contains(&word) {
                continue;
            }
            let text = format!("unknown key `{word}` in {}", self.called());
            let finding = Diagnostic::error("C003", text);
            let finding = match nearest(word, asked.iter().copied()) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => {
                    let mut known: Vec<&str> = asked.to_vec();
                    known.sort_unstable();
                    known.dedup();
                    finding.help(format!("known keys: {}", known.join(", ")))
                }
            };
            self.sink.report(finding, key.span());
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.get(key).and_then(|v| v.text()).map(str::to_owned)
    }

    pub(super) fn duration(&self, key: &'static str, within: RangeInclusive<u64>, or: u64) -> u64 {
        self.takes(key, Shape::duration(&within), quoted(&format_duration(or)));
        self.get(key).and_then(|v| v.duration(within)).unwrap_or(or)
    }

    pub(super) fn number(&self, key: &'static str, within: RangeInclusive<u32>, or: u32) -> u32 {
        let whole = Shape::Whole((*within.start()).into(), (*within.end()).into());
        self.takes(key, whole, or.to_string());
        self.get(key).and_then(|v| v.number(within)).unwrap_or(or)
    }

    pub(super) fn size(&self, key: &'static str, within: RangeInclusive<u64>, or: u64) -> u64 {
        self.takes(key, Shape::size(&within), quoted(&format_size(or)));
        self.get(key).and_then(|v| v.size(within)).unwrap_or(or)
    }

    pub(super) fn share(&self, key: &'static str, or: f64) -> f64 {
        self.takes(key, Shape::Share, or.to_string());
        self.get(key).and_then(|v| v.share()).unwrap_or(or)
    }

    pub(super) fn rate(&self, key: &'static str) -> Option<Rate> {
        self.sink.inventory.shape(&self.path_of(key), Shape::Rate);
        self.get(key).and_then(|v| v.rate())
    }

    pub(super) fn switch(&self, key: &'static str, or: bool) -> bool {
        self.takes(key, Shape::Switch, or.to_string());
        self.get(key).and_then(|v| v.switch()).unwrap_or(or)
    }

    pub(super) fn word<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        words: &[(&str, T)],
        or: T,
    ) -> T {
        let default = words.iter().find(|(_, meaning)| *meaning == or).map_or("", |(word, _)| word);
        self.takes(key, Shape::words(words), quoted(default));
        self.get(key).and_then(|v| v.word(words)).unwrap_or(or)
    }

    /// The table as a message names it.
    pub(super) fn called(&self) -> String {
        if self.path.is_empty() { "the file".into() } else { format!("`{}`", self.path) }
    }

    fn value(
        &self,
        key: &'a toml::Spanned<toml::de::DeString<'a>>,
        value: &'a toml::Spanned<DeValue<'a>>,
    ) -> Value<'a> {
        let path = self.path_of(key.get_ref());
        self.sink.inventory.written(&path, value.span());
        Value {
            sink: self.sink,
            path,
            key: key.span(),
            place: value.span(),
            value: value.get_ref(),
        }
    }
}

/// A value that is being read. Every reader reports what is wrong and answers `None`.
pub(super) struct Value<'a> {
    pub(super) sink: &'a Sink,
    /// Its dotted name.
    pub(super) path: String,
    /// Its key.
    pub(super) key: Range<usize>,
    /// Itself.
    pub(super) place: Range<usize>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn table(&self) -> Option<Table<'a>> {
        self.shaped(Shape::Table);
        let Some(entries) = self.value.as_table() else { return self.wrong("a table", None) };
        Some(Table {
            sink: self.sink,
            path: self.path.clone(),
            place: self.place.clone(),
            entries,
            asked: RefCell::default(),
        })
    }

    pub(super) fn list(&self) -> Option<Vec<Value<'a>>> {
        self.shaped(Shape::List);
        let Some(items) = self.value.as_array() else { return self.wrong("a list", None) };
        let item = |(at, v): (usize, &'a toml::Spanned<DeValue<'a>>)| {
            let path = format!("{}[{at}]", self.path);
            self.sink.inventory.written(&path, v.span());
            Value { sink: self.sink, path, key: v.span(), place: v.span(), value: v.get_ref() }
        };
        Some(items.as_ref().iter().enumerate().map(item).collect())
    }

    /// One value or a list of them.
    pub(super) fn one_or_more(self) -> Vec<Value<'a>> {
        self.shaped(Shape::OneOrMore);
        if self.value.is_array() { self.list().unwrap_or_default() } else { vec![self] }
    }

    /// A text that is no secret, so it may not refer to one.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.shaped(Shape::Text);
        self.plain_text()
    }

    fn plain_text(&self) -> Option<&'a str> {
        let Some(text) = self.value.as_str() else { return self.wrong("a text", None) };
        if text.contains("${") {
            let finding = Diagnostic::error("C016", "a reference stands where no secret is read")
                .help("write the value itself")
                .note(
                    "`${env:NAME}` and `${file:PATH}` are read where a key or a secret stands, \
                     and nowhere else, so that no secret ends up in a place that is shown",
                );
            self.sink.report(finding, self.place.clone());
            return None;
        }
        if text.trim().is_empty() {
            let finding = Diagnostic::error("C006", format!("`{}` is empty", self.path));
            self.sink.report(finding, self.place.clone());
            return None;
        }
        Some(text)
    }

    /// A setting of a plugin: a text, or `${file:PATH}` of a file that anybody may see, which is a
    /// certificate or a public key in PEM.
    pub(super) fn setting(&self) -> Option<String> {
        self.shaped(Shape::Text);
        let reference = self.value.as_str().map(Reference::of);
        let Some(reference @ Reference::File(_)) = reference else {
            return self.plain_text().map(str::to_owned);
        };
        if self.sink.alone {
            return Some(format!("unread:{}", self.path));
        }
        let fail = |message: String| {
            let finding = Diagnostic::error("C013", message)
                .help("name a file with a certificate or a public key in PEM");
            self.sink.report(finding, self.place.clone());
            None
        };
        match reference.resolve(&self.sink.base) {
            Ok(text) if is_public(text.expose()) => Some(text.expose().to_owned()),
            Ok(_) => fail(format!("the file of `{}` is nothing that may be shown", self.path)),
            Err(why) => fail(format!("`{}`: {why}", self.path)),
        }
    }

    /// A path, relative to the folder of the file.
    pub(super) fn file_path(&self) -> Option<PathBuf> {
        self.text().map(|text| self.sink.base.join(text))
    }

    pub(super) fn switch(&self) -> Option<bool> {
        self.shaped(Shape::Switch);
        self.value.as_bool().or_else(|| self.wrong("`true` or `false`", None))
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, within: RangeInclusive<u32>) -> Option<u32> {
        let bounds = i64::from(*within.start())..=i64::from(*within.end());
        self.integer(bounds).and_then(|n| u32::try_from(n).ok())
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, within: RangeInclusive<i64>) -> Option<i64> {
        self.shaped(Shape::Whole(*within.start(), *within.end()));
        let Some(digits) = self.value.as_integer() else {
            return self.wrong("a whole number", None);
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.filter(|n| within.contains(n)) {
            Some(number) => Some(number),
            None => self.outside(&digits.to_string(), within.start(), within.end()),
        }
    }

    /// A fraction between 0 and 1; whole `0` and `1` are read too.
    pub(super) fn share(&self) -> Option<f64> {
        self.shaped(Shape::Share);
        let number: Option<f64> = match self.value {
            DeValue::Float(f) => f.as_str().parse().ok(),
            DeValue::Integer(i) => i.as_str().parse().ok(),
            _ => return self.wrong("a number between 0 and 1", None),
        };
        match number.filter(|n| (0.0..=1.0).contains(n)) {
            Some(number) => Some(number),
            None => self.outside(&number.map_or("no number".into(), |n| n.to_string()), &0, &1),
        }
    }

    /// A duration in words, in ms, within bounds.
    pub(super) fn duration(&self, within: RangeInclusive<u64>) -> Option<u64> {
        self.shaped(Shape::duration(&within));
        let form = "a duration such as \"10s\", \"250ms\" or \"2h\"";
        let help =
            self.value.as_integer().map(|n| format!("write the unit: \"{n}s\" or \"{n}ms\""));
        let Some(text) = self.value.as_str() else { return self.wrong(form, help) };
        let ms = parse_duration(text).map_err(|e| self.not_a_word("C007", form, e)).ok()?;
        if within.contains(&ms) {
            return Some(ms);
        }
        let (least, most) = (format_duration(*within.start()), format_duration(*within.end()));
        self.outside(&format_duration(ms), &least, &most)
    }

    /// A rate in words.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.shaped(Shape::Rate);
        let form = "a rate such as \"200/s\", \"30/m\" or \"200/s burst 50\"";
        let help = self.value.as_integer().map(|n| format!("write the period: \"{n}/s\""));
        let Some(text) = self.value.as_str() else { return self.wrong(form, help) };
        parse_rate(text).map_err(|e| self.not_a_word("C008", form, e)).ok()
    }

    /// A size in words, in bytes, within bounds.
    pub(super) fn size(&self, within: RangeInclusive<u64>) -> Option<u64> {
        self.shaped(Shape::size(&within));
        let form = "a size such as \"64KiB\" or \"1MiB\"";
        let Some(text) = self.value.as_str() else { return self.wrong(form, None) };
        let bytes = parse_size(text).map_err(|e| self.not_a_word("C007", form, e)).ok()?;
        if within.contains(&bytes) {
            return Some(bytes);
        }
        let (least, most) = (format_size(*within.start()), format_size(*within.end()));
        self.outside(&format_size(bytes), &least, &most)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.shaped(Shape::words(words));
        let text = self.plain_text()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let finding = Diagnostic::error("C006", format!("`{}` cannot be `{text}`", self.path));
        let finding = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding.help(format!("write {}", known.join(" or "))),
        };
        self.sink.report(finding, self.place.clone());
        None
    }

    /// A secret: a reference, or the value itself with a warning.
    pub(super) fn secret(&self) -> Option<Secret> {
        self.shaped(Shape::Secret);
        let Some(text) = self.value.as_str() else {
            return self.wrong("a text that names a secret", Some(SECRET_HELP.into()));
        };
        let reference = Reference::of(text);
        let fail = |message: String, help: &str| {
            let finding = Diagnostic::error("C013", message).help(help);
            self.sink.report(finding, self.place.clone());
            None
        };
        match reference {
            Reference::Malformed => {
                fail(format!("`{}` is not a reference that can be read", self.path), SECRET_HELP)
            }
            Reference::Literal if text.is_empty() => {
                fail(format!("the secret `{}` is empty", self.path), SECRET_HELP)
            }
            Reference::Literal => {
                let message = format!("the secret `{}` is written in the file", self.path);
                let finding = Diagnostic::warning("C032", message)
                    .help(SECRET_HELP)
                    .note("whoever reads, copies or commits the file has the secret");
                self.sink.report(finding, self.place.clone());
                Some(Secret::new(text.to_owned()))
            }
            Reference::Env(_) | Reference::File(_) if self.sink.alone => {
                Some(Secret::new(format!("unread:{}", self.path)))
            }
            Reference::Env(_) | Reference::File(_) => match reference.resolve(&self.sink.base) {
                Ok(secret) => Some(secret),
                Err(why) => fail(
                    format!("the secret `{}` cannot be read: {why}", self.path),
                    "set the variable or write the file, readable by the proxy only",
                ),
            },
        }
    }

    /// Says what the value may be.
    pub(super) fn shaped(&self, shape: Shape) {
        self.sink.inventory.shape(&self.path, shape);
    }

    /// Reports an error at this value.
    pub(super) fn refuse<T>(&self, finding: Diagnostic) -> Option<T> {
        self.sink.report(finding, self.place.clone());
        None
    }

    fn wrong<T>(&self, expected: &str, help: Option<String>) -> Option<T> {
        let text = format!("`{}` must be {expected}", self.path);
        let finding = Diagnostic::error("C005", text);
        let finding = finding.label(format!("this is {}", kind(self.value)));
        let finding = if let Some(help) = help { finding.help(help) } else { finding };
        self.refuse(finding)
    }

    fn not_a_word(&self, code: &'static str, form: &str, why: WordError) {
        let text = format!("`{}` is not {form}", self.path);
        self.sink.report(Diagnostic::error(code, text).label(why.to_string()), self.place.clone());
    }

    fn outside<T>(
        &self,
        found: &str,
        least: &impl std::fmt::Display,
        most: &impl std::fmt::Display,
    ) -> Option<T> {
        let text = format!("`{}` must be between {least} and {most}: {found}", self.path);
        self.refuse(Diagnostic::error("C009", text))
    }
}

/// A text as it would be written.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Whether a text holds certificates and public keys, and nothing else.
fn is_public(text: &str) -> bool {
    let mut blocks = text.trim().split("-----BEGIN ").skip(1).peekable();
    text.trim_start().starts_with("-----BEGIN ")
        && blocks.peek().is_some()
        && blocks.all(|block| {
            let label = block.split_once("-----").map(|(label, _)| label);
            label.is_some_and(|label| {
                let end = format!("-----END {label}-----");
                matches!(label, "CERTIFICATE" | "PUBLIC KEY") && block.trim_end().ends_with(&end)
            })
        })
}

const SECRET_HELP: &str = "write \"${env:NAME}\" or \"${file:PATH}\", a path beside this file";

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
