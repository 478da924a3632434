//! Runs all checks, a few at a time, each in a process of its own.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use interlock_plugin_api::{Event, Next};
use interlock_plugin_host::{LoadError, inspect};

use crate::checks::{self, Check};
use crate::child::{self, Job};
use crate::fixture::{FixtureError, request_text};
use crate::folder::Folder;
use crate::report::{Finding, Report, Ruled};
use crate::subject::Subject;

/// The program that serves a check, and a plugin that has a process of its own.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments when it must call [`child::serve`].
    pub examine: Vec<String>,
    /// Its arguments when it must call [`interlock_plugin_host::serve`].
    pub serve: Vec<String>,
}

/// How a plugin is judged.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whole runs (a million calls) instead of quick ones.
    pub long: bool,
    /// Only the checks of these names or groups; empty is all.
    pub only: Vec<String>,
}

impl Options {
    fn wants(&self, check: &Check) -> bool {
        let named = |name: &String| name == check.name || name == check.group.name;
        self.only.is_empty() || self.only.iter().any(named)
    }
}

/// Why nothing could be judged.
#[derive(Debug)]
pub enum ExamineError {
    /// The library.
    Load(LoadError),
    /// The manifest can't be read without running the plugin.
    NoManifest(PathBuf),
    /// No check or group of checks has this name.
    NoSuchCheck(String),
    /// A folder for the children's diaries.
    Io(std::io::Error),
    /// A fixture.
    Fixture(FixtureError),
    /// The plugin could not live through a fixture.
    Walk(Finding),
}

impl fmt::Display for ExamineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(e) => e.fmt(f),
            Self::NoManifest(path) => {
                write!(f, "manifest can't be read from the file: {}", path.display())
            }
            Self::NoSuchCheck(name) => {
                let mut groups: Vec<&str> = checks::all().map(|check| check.group.name).collect();
                groups.dedup();
                write!(f, "no check or group is called `{name}`; groups are {}", groups.join(", "))
            }
            Self::Io(e) => write!(f, "no folder for the checks: {}", e.kind()),
            Self::Fixture(e) => e.fmt(f),
            Self::Walk(finding) => write!(f, "{}: {}", finding.at, finding.what),
        }
    }
}

impl std::error::Error for ExamineError {}

/// Judges a plugin. `progress` hears of every check as it ends.
///
/// # Errors
/// [`ExamineError`]: the file is no plugin of this host's at all.
pub fn examine(
    folder: &Folder,
    program: &Program,
    options: &Options,
    progress: &(dyn Fn(&Ruled) + Sync),
) -> Result<Report, ExamineError> {
    let seen = inspect(&folder.library).map_err(ExamineError::Load)?;
    let manifest = seen.manifest.ok_or_else(|| ExamineError::NoManifest(folder.library.clone()))?;
    let unknown = |name: &&String| {
        !checks::all().any(|check| check.name == *name || check.group.name == *name)
    };
    if let Some(name) = options.only.iter().find(unknown) {
        return Err(ExamineError::NoSuchCheck(name.clone()));
    }
    let scratch = tempfile::tempdir().map_err(ExamineError::Io)?;
    let waiting: Mutex<VecDeque<(usize, &'static Check)>> =
        Mutex::new(checks::all().filter(|check| options.wants(check)).enumerate().collect());
    let ruled: Mutex<Vec<(usize, Ruled)>> = Mutex::new(Vec::new());
    let worker = || {
        while let Some((n, check)) = next(&waiting) {
            let job = Job {
                check: check.name.into(),
                library: folder.library.clone(),
                fixtures: folder.fixtures.clone(),
                diary: scratch.path().join(check.name),
                program: program.path.clone(),
                serve: program.serve.clone(),
                long: options.long,
            };
            let since = Instant::now();
            let outcome = child::run(program, &job, check, patience(options));
            let one = Ruled { check, outcome, took: since.elapsed() };
            progress(&one);
            ruled.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((n, one));
        }
    };
    let hands = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(worker);
        }
    });
    let mut ruled = ruled.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    ruled.sort_by_key(|(n, _)| *n);
    Ok(Report {
        plugin: manifest.id,
        version: manifest.version,
        abi: format!("{}.{}", seen.abi.0, seen.abi.1),
        operations: manifest.operations.len(),
        ruled: ruled.into_iter().map(|(_, one)| one).collect(),
    })
}

fn next<T>(waiting: &Mutex<VecDeque<T>>) -> Option<T> {
    waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
}

fn patience(options: &Options) -> Duration {
    Duration::from_secs(if options.long { 1200 } else { 120 })
}

/// Writes into every fixture what the plugin sends and says. Answers the files that changed.
///
/// # Errors
/// [`ExamineError`]; fixtures before the one that failed are written.
pub fn update(folder: &Folder) -> Result<Vec<PathBuf>, ExamineError> {
    let scratch = tempfile::tempdir().map_err(ExamineError::Io)?;
    let diary = scratch.path().join("diary");
    let subject = Subject::open(&folder.library, &folder.fixtures, &diary, None);
    let subject = subject.map_err(ExamineError::Walk)?;
    let mut changed = Vec::new();
    for fixture in &subject.fixtures {
        let walk = subject.walk(fixture).map_err(ExamineError::Walk)?;
        let sent: Vec<(String, String)> = walk
            .sends()
            .map(|(stop, send)| {
                let body = &stop.taken.parts.body;
                let purpose = subject.judge(walk.op(), send, body).map(|c| c.purpose);
                let purpose = purpose.unwrap_or_else(|refused| refused.as_str().to_owned());
                (purpose, request_text(send, body))
            })
            .collect();
        let last = walk.stops.last().expect("a walk has a first step");
        let Next::Done(done) = &last.taken.next else {
            let what = match last.envelope.event {
                Event::Start => "the plugin sends this and the fixture has no answer yet",
                _ => "the plugin sends once more and the fixture has no further answer",
            };
            let sent = sent.last().map_or("", |(_, text)| text.as_str());
            return Err(ExamineError::Walk(Finding::new(&last.at, format!("{what}\n{sent}"))));
        };
        let said = serde_json::to_value(done).unwrap_or_default();
        let new = fixture.with(&sent, &said).to_string();
        if new != fixture.to_string() {
            std::fs::write(&fixture.path, new).map_err(ExamineError::Io)?;
            changed.push(fixture.path.clone());
        }
    }
    Ok(changed)
}
