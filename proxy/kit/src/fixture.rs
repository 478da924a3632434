//! A worked example of one operation, as a text file that is easy to write and to review.
//!
//! ```text
//! # A card is charged at once.
//! ### authorize
//! { "amount": { "amount": "4900", "currency": "EUR" } }
//!
//! ### sends pay
//! POST /v1/payments HTTP/1.1
//! host: api
//! authorization: Bearer {secret:api_key}
//!
//! {"amount":4900,"currency":"EUR"}
//!
//! ### answers
//! HTTP/1.1 201
//! content-type: application/json
//!
//! {"id":"pay_1","state":"paid","amount":4900,"currency":"EUR"}
//!
//! ### says
//! { "facts": [ { "what": "captured" } ] }
//! ```
//!
//! The first section names the operation; its JSON is merged (RFC 7396) over the request that the
//! kit makes from the manifest. An author writes it, and what the provider `answers`; what the
//! plugin `sends` and `says` is written by `interlock plugin test --update` and reviewed. Instead
//! of an answer a request may be `### lost maybe_sent timeout`; a notification `### arrives`, and
//! of a statement's file there is a `### piece`, or the `### piece last`. Line ends at the end of a
//! body are not a part of it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use interlock_plugin_api::{Event, Operation, Send, TransportLoss};
use serde_json::Value;

/// A fixture has at most this many bytes.
const BYTES_MAX: u64 = 1024 * 1024;
const MARK: &str = "### ";

/// One worked example.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The file.
    pub path: PathBuf,
    /// The lines before the first section.
    about: String,
    sections: Vec<Section>,
}

#[derive(Clone, Debug)]
struct Section {
    head: String,
    text: String,
    /// Of the head, from 1.
    line: usize,
}

/// What happens in an example, in order.
#[derive(Clone, Debug)]
pub enum Turn {
    /// The plugin sends this.
    Sends(Place, String),
    /// Then this happens, with this raw body.
    Event(Place, Event, Vec<u8>),
    /// The plugin ends with this.
    Says(Place, Value),
}

/// Where something stands: a file's name and a line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name without its folder.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixtures/{}:{}", self.file, self.line)
    }
}

/// A fixture that can't be read.
#[derive(Debug)]
pub struct FixtureError {
    /// The file and perhaps the line.
    pub at: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for FixtureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixture can't be used, {}: {}", self.problem, self.at)
    }
}

impl std::error::Error for FixtureError {}

impl Fixture {
    /// Reads every `*.http` of a folder, in the order of their names.
    ///
    /// # Errors
    /// [`FixtureError`] names the file, the line and what is wrong.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, FixtureError> {
        let fail = |path: &Path, e: io::Error| FixtureError {
            at: path.display().to_string(),
            problem: e.kind().to_string(),
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(|e| fail(folder, e))? {
            let path = entry.map_err(|e| fail(folder, e))?.path();
            if path.extension().is_some_and(|ending| ending == "http") {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: PathBuf| {
            let size = fs::metadata(&path).map_err(|e| fail(&path, e))?.len();
            if size > BYTES_MAX {
                let problem = format!("it has more than {BYTES_MAX} bytes");
                return Err(FixtureError { at: path.display().to_string(), problem });
            }
            let text = fs::read_to_string(&path).map_err(|e| fail(&path, e))?;
            Self::parse(path, &text)
        };
        paths.into_iter().map(read).collect()
    }

    /// Reads one.
    ///
    /// # Errors
    /// As [`Fixture::read_all`].
    pub fn parse(path: PathBuf, text: &str) -> Result<Self, FixtureError> {
        let mut about = String::new();
        let mut sections: Vec<Section> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            match (line.strip_prefix(MARK), sections.last_mut()) {
                (Some(head), _) => {
                    let head = head.trim().to_owned();
                    sections.push(Section { head, text: String::new(), line: n + 1 });
                }
                (None, Some(section)) => {
                    section.text.push_str(line);
                    section.text.push('\n');
                }
                (None, None) => {
                    about.push_str(line);
                    about.push('\n');
                }
            }
        }
        for section in &mut sections {
            section.text.truncate(section.text.trim_end_matches('\n').len());
        }
        let fixture = Self { path, about, sections };
        fixture.operation()?;
        fixture.patch()?;
        fixture.turns()?;
        Ok(fixture)
    }

    /// Where it begins.
    pub fn place(&self) -> Place {
        let line = self.sections.first().map_or(1, |section| section.line);
        self.at(line)
    }

    fn at(&self, line: usize) -> Place {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Place { file, line }
    }

    fn fail(&self, line: usize, problem: impl Into<String>) -> FixtureError {
        FixtureError { at: format!("{}:{line}", self.path.display()), problem: problem.into() }
    }

    fn first(&self) -> Result<&Section, FixtureError> {
        self.sections.first().ok_or_else(|| self.fail(1, "it has no `### OPERATION`"))
    }

    /// What is asked.
    ///
    /// # Errors
    /// The first section names no operation.
    pub fn operation(&self) -> Result<Operation, FixtureError> {
        let first = self.first()?;
        serde_json::from_value(Value::String(first.head.clone()))
            .map_err(|_| self.fail(first.line, format!("no operation is called `{}`", first.head)))
    }

    /// What the request has that the kit's own has not.
    ///
    /// # Errors
    /// The first section is not JSON.
    pub fn patch(&self) -> Result<Value, FixtureError> {
        let first = self.first()?;
        if first.text.trim().is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        let patch: Value = serde_json::from_str(&first.text).map_err(|e| {
            self.fail(first.line + e.line(), format!("the request is no JSON: {e}"))
        })?;
        match patch.is_object() {
            true => Ok(patch),
            false => Err(self.fail(first.line + 1, "the request is no JSON object")),
        }
    }

    /// What happens, in order.
    ///
    /// # Errors
    /// A section that is not known or not of its form.
    pub fn turns(&self) -> Result<Vec<Turn>, FixtureError> {
        self.sections.iter().skip(1).map(|section| self.turn(section)).collect()
    }

    fn turn(&self, section: &Section) -> Result<Turn, FixtureError> {
        let at = self.at(section.line);
        let mut words = section.head.split_whitespace();
        match words.next() {
            Some("sends") => Ok(Turn::Sends(at, section.text.clone())),
            Some("answers") => {
                let (first, rest) = section.text.split_once('\n').unwrap_or((&section.text, ""));
                let status = first.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3));
                let status = status.and_then(|digits| digits.parse().ok());
                let status = status.ok_or_else(|| {
                    self.fail(section.line + 1, "an answer begins with `HTTP/1.1 STATUS`")
                })?;
                let (headers, body) = self.message(section.line + 1, rest)?;
                Ok(Turn::Event(at, Event::Response { status, headers }, body))
            }
            Some("arrives") => {
                let (headers, body) = self.message(section.line, &section.text)?;
                Ok(Turn::Event(at, Event::Notification { headers }, body))
            }
            Some("piece") => {
                let last = words.next() == Some("last");
                let body = section.text.trim_start_matches('\n').as_bytes().to_vec();
                Ok(Turn::Event(at, Event::Piece { last }, body))
            }
            Some("lost") => {
                let word = words.next().unwrap_or_default().to_owned();
                let outcome: TransportLoss = serde_json::from_value(Value::String(word))
                    .map_err(|_| self.fail(section.line, "say `lost not_sent` or `maybe_sent`"))?;
                let reason = words.next().unwrap_or("timeout").to_owned();
                Ok(Turn::Event(at, Event::Transport { outcome, reason }, Vec::new()))
            }
            Some("says") => {
                let said = serde_json::from_str(&section.text).map_err(|e| {
                    self.fail(section.line + e.line(), format!("what it says is no JSON: {e}"))
                })?;
                Ok(Turn::Says(at, said))
            }
            _ => Err(self.fail(
                section.line,
                format!(
                    "a section is `sends`, `answers`, `arrives`, `lost`, `piece` or `says`, \
                     not `{}`",
                    section.head
                ),
            )),
        }
    }

    /// Headers, an empty line, and the body.
    fn message(&self, line: usize, text: &str) -> Result<Message, FixtureError> {
        let (head, body) = match text.strip_prefix('\n') {
            Some(body) => ("", body),
            None => text.split_once("\n\n").unwrap_or((text, "")),
        };
        let mut headers = Vec::new();
        for (n, header) in head.lines().enumerate() {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| self.fail(line + n + 1, "a header is `name: value`"))?;
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok((headers, body.as_bytes().to_vec()))
    }

    /// The same example with every request changed.
    pub(crate) fn map_sends(mut self, change: impl Fn(&str) -> String) -> Self {
        for section in self.sections.iter_mut().filter(|s| s.head.starts_with("sends")) {
            section.text = change(&section.text);
        }
        self
    }

    /// The same question with these answers, each as a section shows it.
    pub(crate) fn with_answers(&self, answers: &[String]) -> Self {
        let mut sections: Vec<Section> = self.sections.iter().take(1).cloned().collect();
        for answer in answers {
            sections.push(Section { head: "answers".into(), text: answer.clone(), line: 0 });
        }
        Self { sections, about: self.about.clone(), path: self.path.clone() }
    }

    /// The same example with what the plugin sent (with its purpose) and said.
    pub fn with(&self, sent: &[(String, String)], said: &Value) -> Self {
        let (mut sections, mut sent) = (Vec::new(), sent.iter());
        let mut send = |into: &mut Vec<Section>| {
            if let Some((purpose, text)) = sent.next() {
                let head = format!("sends {purpose}");
                into.push(Section { head, text: text.clone(), line: 0 });
            }
        };
        for section in &self.sections {
            let word = section.head.split_whitespace().next().unwrap_or_default();
            match word {
                "sends" | "says" => {}
                "answers" | "lost" => {
                    send(&mut sections);
                    sections.push(section.clone());
                }
                _ => sections.push(section.clone()),
            }
        }
        send(&mut sections);
        let text = serde_json::to_string_pretty(said).unwrap_or_default();
        sections.push(Section { head: "says".into(), text, line: 0 });
        Self { sections, about: self.about.clone(), path: self.path.clone() }
    }
}

type Message = (Vec<(String, String)>, Vec<u8>);

impl fmt::Display for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about)?;
        for (n, section) in self.sections.iter().enumerate() {
            let space = if n == 0 { "" } else { "\n" };
            writeln!(f, "{space}{MARK}{}", section.head)?;
            if !section.text.is_empty() {
                writeln!(f, "{}", section.text)?;
            }
        }
        Ok(())
    }
}

/// A request as a fixture shows it. The endpoint's name stands where its address will.
pub fn request_text(send: &Send, body: &[u8]) -> String {
    let mut text = format!("{} {}", send.method, send.path);
    for (n, (name, value)) in send.query.iter().enumerate() {
        text.push(if n == 0 { '?' } else { '&' });
        text.push_str(&format!("{name}={value}"));
    }
    text.push_str(&format!(" HTTP/1.1\nhost: {}\n", send.endpoint));
    for (name, value) in &send.headers {
        text.push_str(&format!("{}: {value}\n", name.to_ascii_lowercase()));
    }
    if !body.is_empty() {
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(body));
    }
    text.trim_end_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A card is charged.\n### authorize\n{\"flow\": \"token\"}\n\n\
        ### sends pay\nPOST /v1/payments HTTP/1.1\nhost: api\n\n{}\n\n\
        ### answers\nHTTP/1.1 201 Created\nContent-Type: application/json\n\n{\"id\":1}\n\n\
        ### says\n{ \"facts\": [] }\n";

    #[test]
    fn an_example_is_read_and_written_back_as_it_was() {
        let fixture = Fixture::parse("a/b.http".into(), TEXT).expect("readable");
        assert_eq!(fixture.to_string(), TEXT);
        assert_eq!(fixture.operation().expect("named"), Operation::Authorize);
        let turns = fixture.turns().expect("known");
        let Turn::Event(at, Event::Response { status: 201, headers }, body) = &turns[1] else {
            unreachable!("{turns:?}")
        };
        assert_eq!(at.to_string(), "fixtures/b.http:11");
        assert_eq!(headers[0], ("content-type".into(), "application/json".into()));
        assert_eq!(body, b"{\"id\":1}");
    }

    #[test]
    fn what_the_plugin_did_replaces_what_it_did_before() {
        let fixture = Fixture::parse("b.http".into(), TEXT).expect("readable");
        let sent = [("pay".to_owned(), "GET / HTTP/1.1\nhost: api".to_owned())];
        let text = fixture.with(&sent, &serde_json::json!({"facts": [1]})).to_string();
        let again = Fixture::parse("b.http".into(), &text).expect("readable");
        assert!(text.contains("### sends pay\nGET / HTTP/1.1\nhost: api\n\n### answers\n"));
        assert!(!text.contains("POST"));
        assert_eq!(again.to_string(), text);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, part) in [
            ("", 1, "no `### OPERATION`"),
            ("### pay\n", 1, "no operation is called `pay`"),
            ("### void\n[]\n", 2, "no JSON object"),
            ("### void\n### answers\nHTTP/2 200\n", 3, "begins with `HTTP/1.1 STATUS`"),
            ("### void\n### answers\nHTTP/1.1 200\nno header\n", 4, "`name: value`"),
            ("### void\n### lost perhaps\n", 2, "lost not_sent"),
            ("### void\n### hears\n", 2, "not `hears`"),
            ("### void\n### says\n{\n", 3, "no JSON"),
        ] {
            let error = Fixture::parse("x.http".into(), text).expect_err(text).to_string();
            assert!(error.contains(part) && error.contains(&format!("x.http:{line}")), "{error}");
        }
    }
}
