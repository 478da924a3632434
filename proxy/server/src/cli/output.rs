//! What the command line prints: the only room that writes to standard output.

use std::fmt::{Arguments, Display};
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::config::{self, Diagnostic};

/// One line of output. A closed pipe is the reader's wish and no error.
pub fn line(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// One JSON document on one line.
pub fn json(value: &Value) {
    line(format_args!("{value}"));
}

/// Whether standard output may be coloured: a terminal, and `NO_COLOR` is not set.
pub fn colours() -> bool {
    io::stdout().is_terminal() && !colourless()
}

fn colourless() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// What went wrong, on standard error.
pub fn error(what: &dyn Display) {
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "error: {what}");
}

/// One line for the warnings of a configuration that is about to run; `check` shows them whole.
pub fn warnings(findings: &[Diagnostic]) {
    if findings.is_empty() {
        return;
    }
    let count = findings.len();
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{count} warnings in the configuration; `interlock check` shows them");
}

/// What is being done, on a line that the next one replaces; only where somebody looks at it.
pub fn progress(what: &str) {
    if io::stderr().is_terminal() {
        let mut out = io::stderr().lock();
        let _ = write!(out, "\r\x1b[2K{what}");
        let _ = out.flush();
    }
}

/// Clears the line of [`progress`].
pub fn progress_ends() {
    progress("");
}

/// Findings that the server has drawn already, on standard error.
pub fn found(drawn: &str) {
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{}", drawn.trim_end());
}

/// Findings in a configuration, on standard error, with carets.
pub fn findings(findings: &[Diagnostic]) {
    if findings.is_empty() {
        return;
    }
    let color = io::stderr().is_terminal() && !colourless();
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{}", config::render(findings, color));
}
