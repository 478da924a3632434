//! The plugin that is being judged, opened as the proxy opens it, and its worked examples.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use interlock_plugin_api::{Done, Effect, Envelope, Event, Manifest, Next, Operation, Send};
use interlock_plugin_host::{
    Classified, Instance, Options, Parts, Pin, PluginHost, Program, Refused, StepError,
    classify_send,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::account::Account;
use crate::asking::{Asked, Asking};
use crate::fixture::{Fixture, Turn};
use crate::report::Finding;

/// A call that takes longer has hung: the proxy's own hard deadline.
pub const HUNG: Duration = Duration::from_millis(1000);

/// The plugin that is being judged.
pub struct Subject {
    /// Makes what it is asked.
    pub asks: Asking,
    pub fixtures: Vec<Fixture>,
    /// The plugin, opened for the account.
    pub one: Arc<Instance>,
    /// The same, loaded once more: another generation, with statics of its own.
    pub two: Arc<Instance>,
    diary: Diary,
    library: PathBuf,
    program: Option<Program>,
    host: Arc<PluginHost>,
}

/// What a step gave.
#[derive(Clone)]
pub struct Taken {
    pub parts: Parts,
    pub next: Next,
}

/// One step of a worked example, and what went into it.
#[derive(Clone)]
pub struct Stop {
    pub at: String,
    pub envelope: Envelope,
    pub state: Vec<u8>,
    pub body: Vec<u8>,
    pub taken: Taken,
}

/// A worked example as the plugin lives it.
pub struct Walk {
    pub stops: Vec<Stop>,
}

impl Walk {
    pub fn op(&self) -> Operation {
        self.stops[0].envelope.op
    }

    /// The end, if it came to one.
    pub fn done(&self) -> Option<&Done> {
        match &self.stops.last()?.taken.next {
            Next::Done(done) => Some(done),
            Next::Send(_) => None,
        }
    }

    /// Every request with the step that made it.
    pub fn sends(&self) -> impl Iterator<Item = (&Stop, &Send)> {
        self.stops.iter().filter_map(|stop| match &stop.taken.next {
            Next::Send(send) => Some((stop, send)),
            Next::Done(_) => None,
        })
    }

    /// Every answer with the step that it was an answer to.
    pub fn answers(&self) -> impl Iterator<Item = (&Stop, &Stop)> {
        let pairs = self.stops.iter().zip(self.stops.iter().skip(1));
        pairs.filter(|(_, after)| matches!(after.envelope.event, Event::Response { .. }))
    }
}

impl Subject {
    /// Loads and opens a plugin. What it is asked is written into `diary` before each call, for
    /// whoever finds this process dead; other files of the same folder are the subject's, too.
    /// `program` is what runs it in a process of its own.
    ///
    /// # Errors
    /// In words: the library, its account or its fixtures can't be used.
    pub fn open(
        library: &Path,
        fixtures: &Path,
        diary: &Path,
        program: Option<Program>,
    ) -> Result<Self, Finding> {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fail = |what: String| Finding::new(name.clone(), what);
        // Beside the diary, because a plugin that ends this process leaves it behind: whoever
        // started the process removes that folder.
        let beside = diary.parent().unwrap_or(Path::new("."));
        let copy = TempDir::new_in(beside).map_err(|e| fail(format!("no folder, {}", e.kind())))?;
        let diary = Diary::open(diary).map_err(|e| fail(format!("no diary, {}", e.kind())))?;
        let host = PluginHost::new(Options { workers: 1, ..Options::default() });
        let again: PathBuf = copy.path().join(format!("again-{name}"));
        fs::copy(library, &again).map_err(|e| fail(format!("can't be read, {}", e.kind())))?;
        let account = Account::read(fixtures).map_err(|e| fail(e.to_string()))?;
        let open = |path: &Path| {
            let generation = host.load(path, Pin::Unpinned).map_err(|e| fail(e.to_string()))?;
            let secrets = account.secrets(generation.manifest());
            let secrets = secrets.map_err(|e| fail(e.to_string()))?;
            let opened = generation.open("kit", &account.settings(), secrets);
            let opened = opened.map_err(|e| {
                let hint = "its settings are those of fixtures/account.toml";
                fail(format!("{e}; {hint}"))
            })?;
            account.give_keys(&opened).map_err(fail)?;
            Ok(opened)
        };
        let one = open(library)?;
        let two = open(&again)?;
        // The host has read it.
        drop(copy);
        let manifest = one.generation().manifest().clone();
        let fixtures = if fixtures.is_dir() {
            Fixture::read_all(fixtures)
                .map_err(|e| Finding::new(e.at.clone(), e.problem.clone()))?
        } else {
            Vec::new()
        };
        let asks = Asking { manifest, account };
        Ok(Self { asks, fixtures, one, two, diary, library: library.to_owned(), program, host })
    }

    /// Opens the plugin for another account.
    pub fn open_for(
        &self,
        settings: &Value,
        secrets: interlock_plugin_host::Secrets,
    ) -> Result<Arc<Instance>, interlock_plugin_host::OpenError> {
        self.diary.write(&format!("open the account with {settings}"));
        self.one.generation().open("kit", settings, secrets)
    }

    /// The plugin once more, in a process of its own.
    ///
    /// # Errors
    /// In words.
    pub fn apart(&self) -> Result<Arc<Instance>, String> {
        let program = self.program.as_ref().ok_or("there is no program for it")?;
        self.diary.write("open the account in a process of its own");
        let load = |_: Option<&Manifest>| Some(program.clone());
        let generation = self.host.load_where(&self.library, Pin::Unpinned, &load);
        let generation = generation.map_err(|e| e.to_string())?;
        let account = &self.asks.account;
        let secrets = account.secrets(generation.manifest()).map_err(|e| e.to_string())?;
        let opened = generation.open("kit", &account.settings(), secrets);
        self.diary.rest();
        let opened = opened.map_err(|e| e.to_string())?;
        account.give_keys(&opened)?;
        Ok(opened)
    }

    /// One step.
    ///
    /// # Errors
    /// What the proxy would get instead of an effect.
    pub fn step(
        &self,
        on: &Instance,
        envelope: &Envelope,
        state: &[u8],
        body: &[u8],
    ) -> Result<Taken, StepError> {
        let meta = serde_json::to_vec(envelope).map_err(|e| unwritable(&e))?;
        let parts = self.raw(on, &doing(envelope, body), [&meta, state, body])?;
        let next = parts.clone().read()?.next;
        Ok(Taken { parts, next })
    }

    /// One step of any bytes.
    ///
    /// # Errors
    /// As [`Subject::step`].
    pub fn raw(&self, on: &Instance, doing: &str, given: [&[u8]; 3]) -> Result<Parts, StepError> {
        self.diary.write(doing);
        let parts = on.step_here(given);
        self.diary.rest();
        parts
    }

    /// Every operation that the plugin can be asked to begin.
    pub fn asked(&self) -> Vec<Asked> {
        self.asks.asked(&self.fixtures)
    }

    /// Every request that is no read, with the step that made it: the first ones of all that can be
    /// asked, and what follows a read in the examples.
    pub fn moves(&self) -> Vec<Stop> {
        let first = |asked: Asked| {
            let Asked { at, envelope, body } = asked;
            let taken = self.step(&self.one, &envelope, &[], &body).ok()?;
            Some(Stop { at, envelope, state: Vec::new(), body, taken })
        };
        let mut all: Vec<Stop> = self.asked().into_iter().filter_map(first).collect();
        all.extend(self.walks().into_iter().flat_map(|walk| walk.stops.into_iter().skip(1)));
        all.retain(|stop| match &stop.taken.next {
            Next::Send(send) => {
                let judged = self.judge(stop.envelope.op, send, &stop.taken.parts.body);
                judged.is_ok_and(|classified| classified.effect != Effect::Read)
            }
            Next::Done(_) => false,
        });
        all
    }

    /// Lives through a fixture as it is written.
    ///
    /// # Errors
    /// A step gave no effect, or the fixture can't be asked.
    pub fn walk(&self, fixture: &Fixture) -> Result<Walk, Finding> {
        let place = fixture.place().to_string();
        let asked = self.asks.of_fixture(fixture).ok_or_else(|| {
            Finding::new(place.clone(), "its JSON makes no request that the proxy could send")
        })?;
        let turns = fixture.turns().map_err(|e| Finding::new(e.at, e.problem))?;
        let mut events = turns.into_iter().filter_map(|turn| match turn {
            Turn::Event(at, event, body) => Some((at.to_string(), event, body)),
            _ => None,
        });
        if !matches!(asked.envelope.event, Event::Start) {
            events.next();
        }
        let (mut at, mut envelope, mut body) = (asked.at, asked.envelope, asked.body);
        let (mut state, mut stops) = (Vec::new(), Vec::new());
        loop {
            let taken = self
                .step(&self.one, &envelope, &state, &body)
                .map_err(|e| Finding::new(at.clone(), e.to_string()))?;
            let kept = taken.parts.state.clone();
            let ends = matches!(taken.next, Next::Done(_));
            stops.push(Stop { at, envelope: envelope.clone(), state, body, taken });
            match events.next().filter(|_| !ends) {
                Some((place, event, raw)) => {
                    (at, envelope.event, state, body) = (place, event, kept, raw);
                }
                None => return Ok(Walk { stops }),
            }
        }
    }

    /// Lives through every fixture that can be.
    pub fn walks(&self) -> Vec<Walk> {
        self.fixtures.iter().filter_map(|fixture| self.walk(fixture).ok()).collect()
    }

    /// What the proxy's judge says of a request.
    ///
    /// # Errors
    /// Why it would not be sent.
    pub fn judge(&self, op: Operation, send: &Send, body: &[u8]) -> Result<Classified, Refused> {
        classify_send(&self.asks.manifest, op, send, body)
    }
}

fn doing(envelope: &Envelope, body: &[u8]) -> String {
    let event = match &envelope.event {
        Event::Start => "start".to_owned(),
        Event::Response { status, .. } => format!("answer {status}"),
        Event::Transport { .. } => "lost".to_owned(),
        Event::Notification { .. } => "notification".to_owned(),
        Event::Piece { .. } => "piece".to_owned(),
    };
    format!("{} {event} {}", envelope.op.as_str(), shown(body))
}

/// The beginning of a body, for people.
pub fn shown(body: &[u8]) -> String {
    const MOST: usize = 120;
    let text = String::from_utf8_lossy(&body[..body.len().min(MOST)]);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match body.len() {
        0 => "an empty body".to_owned(),
        n if n > MOST => format!("{text}... ({n} bytes)"),
        _ => text,
    }
}

fn unwritable(e: &serde_json::Error) -> StepError {
    StepError::BadEffect { reason: format!("the envelope can't be written, {e}") }
}

/// What the plugin is doing now, in a file that outlives this process; and a watch that ends the
/// process when a call does not come back.
struct Diary {
    file: File,
    /// When the call that runs began, µs since the start, plus one; 0 when none runs.
    began: Arc<AtomicU64>,
    start: Instant,
}

/// The exit code of a process whose plugin hung.
pub const HUNG_CODE: i32 = 97;
const LINE_BYTES: usize = 512;

impl Diary {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        let (began, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let watched = began.clone();
        std::thread::Builder::new().name("watch".into()).spawn(move || {
            loop {
                std::thread::sleep(HUNG / 10);
                let since = watched.load(Ordering::Relaxed);
                if since > 0 && micros(start) > since + HUNG.as_micros() as u64 {
                    std::process::exit(HUNG_CODE);
                }
            }
        })?;
        Ok(Self { file, began, start })
    }

    fn write(&self, doing: &str) {
        let mut line = [b' '; LINE_BYTES];
        let len = doing.len().min(LINE_BYTES);
        line[..len].copy_from_slice(&doing.as_bytes()[..len]);
        // Without it a crash is only told less well.
        let _ = self.file.write_all_at(&line, 0);
        self.began.store(micros(self.start) + 1, Ordering::Relaxed);
    }

    fn rest(&self) {
        self.began.store(0, Ordering::Relaxed);
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
