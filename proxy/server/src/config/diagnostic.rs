//! What is wrong with a configuration, where, and what to do about it.
//!
//! A [`Diagnostic`] is data first: `check --json` prints it as it is, [`render`] draws it as a
//! compiler would. The text that it quotes is a [`Source`], which holds the file with every secret
//! already blotted out, so no way of printing a diagnostic can print a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};
use serde::Serialize;

/// Whether the configuration may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It may not.
    Error,
    /// It may, but somebody should know.
    Warning,
}

/// A place in the file, in bytes; `end` is not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnostic {
    /// `C` and three digits; the same finding has the same code for ever.
    pub code: &'static str,
    /// Whether it keeps the configuration from running.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file as it was named; empty where no file is concerned.
    pub file: String,
    /// The line, from 1; 0 without a place.
    pub line: usize,
    /// The column in characters, from 1; 0 without a place.
    pub column: usize,
    /// The place in bytes.
    pub span: Option<Span>,
    /// What stands at the place.
    pub label: Option<String>,
    /// What to write there.
    pub help: Option<String>,
    /// Why it matters.
    pub note: Option<String>,
    #[serde(skip)]
    source: Option<Arc<Source>>,
}

impl Diagnostic {
    /// A finding that keeps the configuration from running.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// A finding that somebody should know.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    /// Points at a place in the file.
    #[must_use]
    pub fn at(mut self, source: &Arc<Source>, place: Range<usize>) -> Self {
        let place = source.clamp(place);
        (self.line, self.column) = source.position(place.start);
        self.file = source.file.clone();
        self.span = Some(Span { start: place.start, end: place.end });
        self.source = Some(Arc::clone(source));
        self
    }

    /// Says what stands at the place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Says why it matters.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    /// Whether it keeps the configuration from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(super) fn in_file(mut self, file: String) -> Self {
        self.file = file;
        self
    }

    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        Self {
            code,
            severity,
            message,
            file: String::new(),
            line: 0,
            column: 0,
            span: None,
            label: None,
            help: None,
            note: None,
            source: None,
        }
    }
}

/// Draws findings as a compiler does, with the line of the file and carets under the place.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&draw(diagnostic, &renderer));
        out.push_str("\n\n");
    }
    out
}

fn draw(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&diagnostic.message).id(diagnostic.code);
    let mut group = match (&diagnostic.source, diagnostic.span) {
        (Some(source), Some(span)) => {
            let mut mark = AnnotationKind::Primary.span(span.start..span.end);
            if let Some(label) = &diagnostic.label {
                mark = mark.label(label);
            }
            title.element(Snippet::source(&source.text).path(&source.file).annotation(mark))
        }
        _ if !diagnostic.file.is_empty() => {
            title.element(annotate_snippets::Origin::path(&diagnostic.file))
        }
        _ => annotate_snippets::Group::with_title(title),
    };
    if let Some(note) = &diagnostic.note {
        group = group.element(Level::NOTE.message(normalize_untrusted_str(note)));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    renderer.render(&[group])
}

/// The text of a configuration file with every secret blotted out.
pub struct Source {
    file: String,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    /// Keeps a text that holds no secret any more.
    pub(super) fn new(file: String, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { file, text, lines }
    }

    /// Line and column, both from 1, of a byte.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines[line - 1];
        (line, self.text[start..at].chars().count() + 1)
    }

    /// The text at a place, with its secrets blotted out.
    pub(super) fn quote(&self, place: &Range<usize>) -> &str {
        let place = self.clamp(place.clone());
        &self.text[place]
    }

    /// The file as it was named.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The same place inside the text, on whole characters.
    fn clamp(&self, place: Range<usize>) -> Range<usize> {
        let fit = |at: usize| {
            let mut down = (0..=at.min(self.text.len())).rev();
            down.find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
        };
        let start = fit(place.start);
        start..fit(place.end).max(start)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.file)
    }
}

/// Where one part of the configuration was written, for messages that come later.
#[derive(Clone, Debug)]
pub struct Origin {
    source: Arc<Source>,
    whole: Range<usize>,
    keys: BTreeMap<String, Range<usize>>,
}

impl Origin {
    pub(super) fn new(source: Arc<Source>, whole: Range<usize>) -> Self {
        Self { source, whole, keys: BTreeMap::new() }
    }

    pub(super) fn note(&mut self, key: impl Into<String>, place: Range<usize>) {
        self.keys.insert(key.into(), place);
    }

    /// The file as it was named.
    pub fn file(&self) -> &str {
        &self.source.file
    }

    /// The line where it begins, from 1.
    pub fn line(&self) -> usize {
        self.source.position(self.whole.start.min(self.source.text.len())).0
    }

    /// Points a finding at a dotted key of this part (`config.app_id`), or at its first word when
    /// the key is not written.
    pub fn point(&self, finding: Diagnostic, key: &str) -> Diagnostic {
        let place = self.keys.get(key).unwrap_or(&self.whole).clone();
        finding.at(&self.source, place)
    }
}

/// The nearest of the known words, when it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = (word.chars().count() / 3).max(1);
    let distance = |other: &str| strsim::damerau_levenshtein(word, other);
    let near = known.into_iter().map(|other| (distance(other), other));
    near.filter(|(d, _)| *d <= reach).min().map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_line_and_a_column_of_characters() {
        let source = Arc::new(Source::new("a.toml".into(), "a = 1\nü = \"x\"\n".into()));
        let found = Diagnostic::error("C003", "unknown key").at(&source, 11..14);
        assert_eq!((found.line, found.column), (2, 5));
        assert_eq!(Diagnostic::error("C003", "x").at(&source, 900..901).line, 3);
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["paypal", "adyen", "checkout"];
        assert_eq!(nearest("paypla", known), Some("paypal"));
        assert_eq!(nearest("stripe", known), None);
    }
}
