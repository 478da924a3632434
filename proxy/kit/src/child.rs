//! One check in a process of its own: a plugin that crashes, hangs or exits harms nothing else.
//!
//! The parent writes a [`Job`] to the child's standard input and reads an [`Outcome`] from its
//! standard output. A child that ends without one has been ended by the plugin; what the plugin
//! was doing stands in the diary.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use interlock_plugin_host::Program as HostProgram;
use serde::{Deserialize, Serialize};

use crate::checks::{self, Check, Verdict};
use crate::examine::Program;
use crate::report::{Finding, Outcome};
use crate::subject::{HUNG_CODE, Subject};

/// What a child is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The check's name.
    pub check: String,
    /// The library.
    pub library: PathBuf,
    /// The folder of its fixtures.
    pub fixtures: PathBuf,
    /// Where the plugin's doing is written.
    pub diary: PathBuf,
    /// What serves a plugin in a process of its own.
    pub program: PathBuf,
    /// Its arguments.
    pub serve: Vec<String>,
    /// Whole runs instead of quick ones.
    pub long: bool,
}

/// The whole of a child process: reads its job, judges, writes the outcome.
///
/// # Errors
/// The job can't be read or the outcome can't be written.
pub fn serve(input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    input.take(1024 * 1024).read_to_string(&mut text)?;
    let job: Job = serde_json::from_str(&text)?;
    let outcome = judge(&job);
    writeln!(output, "{}", serde_json::to_string(&outcome)?)
}

fn judge(job: &Job) -> Outcome {
    let Some(check) = checks::by_name(&job.check) else {
        return Outcome::Skipped { reason: format!("this build has no such check: {}", job.check) };
    };
    let program = HostProgram { path: job.program.clone(), args: job.serve.clone() };
    let subject = Subject::open(&job.library, &job.fixtures, &job.diary, Some(program));
    let subject = match subject {
        Ok(subject) => subject,
        Err(finding) if check.name == checks::LOADS => {
            return Outcome::Failed { findings: vec![finding] };
        }
        Err(_) => return Outcome::Skipped { reason: "the plugin can't be opened".into() },
    };
    let outcome = match (check.run)(&subject, job.long) {
        Verdict::Passed(note) => Outcome::Passed { note },
        Verdict::Failed(findings) => Outcome::Failed { findings },
        Verdict::Skipped(reason) => Outcome::Skipped { reason },
    };
    // What the plugin does at its end is judged elsewhere.
    std::mem::forget(subject);
    outcome
}

/// Runs one check in a child and waits for it, for at most `patience`.
pub(crate) fn run(program: &Program, job: &Job, check: &Check, patience: Duration) -> Outcome {
    match spawned(program, job, patience) {
        Ok((Some(outcome), _)) => outcome,
        Ok((None, status)) => {
            Outcome::Failed { findings: vec![Finding::new(doing(&job.diary), died(status, check))] }
        }
        Err(e) => Outcome::Skipped { reason: format!("the check could not be run, {e}") },
    }
}

fn spawned(
    program: &Program,
    job: &Job,
    patience: Duration,
) -> io::Result<(Option<Outcome>, Option<ExitStatus>)> {
    let mut child = Command::new(&program.path)
        .args(&program.examine)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let text = serde_json::to_string(job)?;
    if let Some(mut input) = child.stdin.take() {
        // A child that is dead already is told by its status.
        let _ = input.write_all(text.as_bytes());
    }
    let (said, heard) = mpsc::channel();
    let output = child.stdout.take();
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut output) = output {
            let _ = output.read_to_string(&mut text);
        }
        let _ = said.send(text);
    });
    match heard.recv_timeout(patience) {
        Ok(text) => {
            let status = child.wait()?;
            // The plugin may have printed something before.
            let last = text.trim().lines().next_back().unwrap_or_default();
            Ok((serde_json::from_str(last).ok(), Some(status)))
        }
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Ok((None, None))
        }
    }
}

fn died(status: Option<ExitStatus>, check: &Check) -> String {
    let how = match status {
        None => "did not end in time".to_owned(),
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("ended the process by {}", signal_name(signal)),
            (None, Some(HUNG_CODE)) => "did not come back from a call within 1 s".to_owned(),
            (None, Some(code)) => format!("ended the process with exit code {code}"),
            (None, None) => "ended the process".to_owned(),
        },
    };
    format!("the plugin {how}, in the check `{}`", check.name)
}

fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGSEGV => "SIGSEGV (a bad address, or a stack that overflowed)".to_owned(),
        libc::SIGABRT => "SIGABRT (an abort, or a stack that overflowed)".to_owned(),
        // Threads are made with every signal blocked, so the cage can't answer.
        libc::SIGSYS => "SIGSYS (it starts a thread or a process)".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        libc::SIGILL => "SIGILL".to_owned(),
        libc::SIGFPE => "SIGFPE (a division by zero)".to_owned(),
        libc::SIGKILL => "SIGKILL (out of memory, perhaps)".to_owned(),
        other => format!("signal {other}"),
    }
}

fn doing(diary: &Path) -> String {
    let text = fs::read(diary).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() { "before its first call".to_owned() } else { text }
}
