//! The plugin that is being judged, opened as the proxy opens it, and its worked examples.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use interlock_plugin_api::{
    CaptureMode, Credential, CredentialForm, Currency, Customer, Done, Envelope, Event, Manifest,
    MethodSupport, Money, Next, Operation, Original, Request, Send,
};
use interlock_plugin_host::{
    Classified, Instance, Options, Parts, Pin, PluginHost, Refused, StepError, classify_send,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::account::Account;
use crate::fixture::{Fixture, Turn};
use crate::report::Finding;

/// The time in every example, Unix ms: 2025-11-24T16:00:00Z.
pub const NOW_MS: i64 = 1_764_000_000_000;
/// Our number of every example's operation.
pub const OP_ID: &str = "KIT00000000000000000000000000001";
/// Our number of the payment that a later operation belongs to.
pub const PAYMENT_ID: &str = "KIT00000000000000000000000000000";
const ENTROPY: &str = "00112233445566778899aabbccddeeff";
/// A call that takes longer has hung: the proxy's own hard deadline.
pub const HUNG: Duration = Duration::from_millis(1000);

const TOKEN: &str = "KITtokenCANARY";
/// A number that no issuer gives out, with a good check digit.
const NUMBER: &str = "4000007000000016";
const CRYPTOGRAM: &str = "S0lUQ0FOQVJZQ1JZUFRPR1I=";
const AUTH_CODE: &str = "289900000000000017";

/// The plugin that is being judged.
pub struct Subject {
    pub manifest: Manifest,
    pub account: Account,
    pub fixtures: Vec<Fixture>,
    /// The plugin, opened for the account.
    pub one: Arc<Instance>,
    /// The same, loaded once more: another generation, with statics of its own.
    pub two: Arc<Instance>,
    diary: Diary,
    _host: Arc<PluginHost>,
    _copy: TempDir,
}

/// An operation that is about to begin.
#[derive(Clone)]
pub struct Asked {
    /// Where it is from.
    pub at: String,
    pub envelope: Envelope,
    pub body: Vec<u8>,
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
    /// whoever finds this process dead.
    ///
    /// # Errors
    /// In words: the library, its account or its fixtures can't be used.
    pub fn open(library: &Path, fixtures: &Path, diary: &Path) -> Result<Self, Finding> {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fail = |what: String| Finding::new(name.clone(), what);
        let diary = Diary::open(diary).map_err(|e| fail(format!("no diary, {}", e.kind())))?;
        let host = PluginHost::new(Options { workers: 1, ..Options::default() });
        let copy = TempDir::new().map_err(|e| fail(format!("no folder, {}", e.kind())))?;
        let again: PathBuf = copy.path().join(format!("again-{name}"));
        fs::copy(library, &again).map_err(|e| fail(format!("can't be read, {}", e.kind())))?;
        let account = Account::read(fixtures).map_err(|e| fail(e.to_string()))?;
        let open = |path: &Path| {
            let generation = host.load(path, Pin::Unpinned).map_err(|e| fail(e.to_string()))?;
            let secrets = account.secrets(generation.manifest());
            let secrets = secrets.map_err(|e| fail(e.to_string()))?;
            let opened = generation.open("kit", &account.settings(), secrets);
            opened.map_err(|e| {
                let hint = "its settings are those of fixtures/account.toml";
                fail(format!("{e}; {hint}"))
            })
        };
        let one = open(library)?;
        let two = open(&again)?;
        let manifest = one.generation().manifest().clone();
        let fixtures = if fixtures.is_dir() {
            Fixture::read_all(fixtures)
                .map_err(|e| Finding::new(e.at.clone(), e.problem.clone()))?
        } else {
            Vec::new()
        };
        Ok(Self { manifest, account, fixtures, one, two, diary, _host: host, _copy: copy })
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

    /// Every operation that the plugin can be asked to begin: its worked examples, every method in
    /// every way of capture, and what has no example.
    pub fn asked(&self) -> Vec<Asked> {
        let mut all: Vec<Asked> = self.fixtures.iter().filter_map(|f| self.of_fixture(f)).collect();
        for method in &self.manifest.methods {
            for capture in &method.capture {
                let at = format!("authorize {} {}", named(method), word(capture));
                let mut request = self.request(Operation::Authorize);
                self.pay_by(&mut request, method);
                request.capture = *capture;
                all.push(self.ask(at, Operation::Authorize, request));
            }
        }
        for op in &self.manifest.operations {
            let shown = all.iter().any(|asked| asked.envelope.op == *op);
            if !shown && *op != Operation::ParseNotification {
                let at = format!("{} without a fixture", op.as_str());
                all.push(self.ask(at, *op, self.request(*op)));
            }
        }
        all
    }

    /// What a fixture asks.
    pub fn of_fixture(&self, fixture: &Fixture) -> Option<Asked> {
        let op = fixture.operation().ok()?;
        let mut patch = fixture.patch().ok()?;
        let mut request = serde_json::to_value(self.request(op)).ok()?;
        // A credential is replaced whole; its form alone stands for the kit's own of that form.
        if let Some(given) = patch.as_object_mut().and_then(|fields| fields.remove("credential")) {
            request["credential"] = match &given {
                Value::String(_) => {
                    let form = serde_json::from_value(given).ok()?;
                    serde_json::to_value(self.credential(form)).ok()?
                }
                given => given.clone(),
            };
        }
        merge(&mut request, &patch);
        let mut request: Request = serde_json::from_value(request).ok()?;
        request.exponent = self.exponent(request.amount.currency);
        let mut asked = self.ask(fixture.place().to_string(), op, request);
        let first = fixture.turns().ok()?.into_iter().next();
        if let Some(Turn::Event(_, event @ Event::Notification { .. }, body)) = first {
            asked.envelope.event = event;
            asked.body = body;
        }
        Some(asked)
    }

    /// An operation about to begin.
    pub fn ask(&self, at: String, op: Operation, request: Request) -> Asked {
        let envelope = Envelope {
            op,
            now_ms: NOW_MS,
            made_ms: NOW_MS,
            entropy: ENTROPY.into(),
            request,
            event: Event::Start,
        };
        Asked { at, envelope, body: Vec::new() }
    }

    /// Lives through a fixture as it is written.
    ///
    /// # Errors
    /// A step gave no effect, or the fixture can't be asked.
    pub fn walk(&self, fixture: &Fixture) -> Result<Walk, Finding> {
        let place = fixture.place().to_string();
        let asked = self.of_fixture(fixture).ok_or_else(|| {
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
        classify_send(&self.manifest, op, send, body)
    }

    /// The request of an operation that no fixture changes.
    pub fn request(&self, op: Operation) -> Request {
        let currency = self.currency();
        let amount = Money::new(4_900, currency);
        let later = !matches!(op, Operation::Authorize | Operation::ParseNotification);
        let mut request = Request {
            op_id: OP_ID.into(),
            amount,
            exponent: self.exponent(currency),
            capture: CaptureMode::Automatic,
            method: String::new(),
            flow: String::new(),
            credential: None,
            description: Some("Order 7781".into()),
            return_url: Some("https://shop.example/back".into()),
            notify_url: Some("https://pay.shop.example/v1/notifications/kit".into()),
            customer: Customer {
                id: Some("kit-shopper".into()),
                country: self.manifest.countries.first().cloned(),
            },
            original: None,
            target: None,
            reason: None,
            details: None,
        };
        if let Some(method) = self.manifest.methods.first() {
            self.pay_by(&mut request, method);
            request.capture = method.capture.first().copied().unwrap_or(CaptureMode::Automatic);
        }
        if matches!(op, Operation::Inquire | Operation::Close) {
            request.op_id = PAYMENT_ID.into();
        }
        if later && op != Operation::Probe {
            request.credential = None;
            let provider_ref = Some("kit_payment_0001".into());
            request.original = Some(Original { op_id: PAYMENT_ID.into(), provider_ref, amount });
        }
        if op == Operation::InquireOperation {
            request.target = Some((Operation::Refund, None));
        }
        if op == Operation::Continue {
            request.details = Some(interlock_plugin_api::Details(serde_json::json!({})));
        }
        request
    }

    /// Pays by a method of the manifest.
    fn pay_by(&self, request: &mut Request, method: &MethodSupport) {
        request.method.clone_from(&method.kind);
        request.flow.clone_from(&method.flow);
        request.credential = self.credential(method.credential);
    }

    /// The account's credential of a form, or the kit's own.
    fn credential(&self, form: CredentialForm) -> Option<Credential> {
        let form_word = word(&form);
        let Some(given) = self.account.credentials.get(&form_word) else { return made(form) };
        let mut given = given.clone();
        given.insert("form".into(), form_word.into());
        serde_json::from_value(Value::Object(given)).ok()
    }

    /// The provider's exponent of a currency.
    pub fn exponent(&self, currency: Currency) -> u8 {
        self.manifest.currencies.get(&currency).copied().unwrap_or(2)
    }

    /// A currency that the provider takes, with two decimals and without a rule if there is one.
    fn currency(&self) -> Currency {
        let all = &self.manifest.currencies;
        let plain = all.iter().find(|(c, e)| **e == 2 && !self.manifest.multiples.contains_key(c));
        let found = plain.or_else(|| all.iter().next()).map(|(currency, _)| *currency);
        found.unwrap_or_else(|| Currency::parse("EUR").expect("three letters"))
    }
}

/// The kit's own credential of a form.
fn made(form: CredentialForm) -> Option<Credential> {
    Some(match form {
        CredentialForm::None => return None,
        CredentialForm::AuthCode => Credential::AuthCode { auth_code: AUTH_CODE.into() },
        CredentialForm::OpenId => Credential::OpenId { openid: TOKEN.into() },
        CredentialForm::NetworkToken => Credential::NetworkToken {
            number: NUMBER.into(),
            expiry_month: 7,
            expiry_year: 2031,
            cryptogram: Some(CRYPTOGRAM.into()),
            eci: Some("05".into()),
            source: "apple_pay".into(),
        },
        CredentialForm::EncryptedWalletToken => Credential::EncryptedWalletToken {
            wallet: "apple_pay".into(),
            token: serde_json::json!({ "data": TOKEN }),
        },
        CredentialForm::AccountToken => Credential::AccountToken { token: TOKEN.into() },
    })
}

fn named(method: &MethodSupport) -> String {
    format!("{} {} by {}", method.kind, method.flow, word(&method.credential))
}

/// What must not turn up anywhere: the texts of a credential.
pub fn canaries(credential: Option<&Credential>) -> Vec<String> {
    const SHORTEST: usize = 8;
    const PLAIN: [&str; 4] = ["form", "source", "wallet", "eci"];
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) if text.len() >= SHORTEST => into.push(text.clone()),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if !PLAIN.contains(&name.as_str()) {
                        collect(value, into);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::to_value(credential).unwrap_or_default(), &mut found);
    found
}

/// A closed word of the contract, as JSON writes it.
pub fn word(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_value(value).unwrap_or_default();
    text.as_str().unwrap_or("-").to_owned()
}

fn doing(envelope: &Envelope, body: &[u8]) -> String {
    let event = match &envelope.event {
        Event::Start => "start".to_owned(),
        Event::Response { status, .. } => format!("answer {status}"),
        Event::Transport { .. } => "lost".to_owned(),
        Event::Notification { .. } => "notification".to_owned(),
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

/// Merges a JSON patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    let fields = into.as_object_mut().expect("made as one");
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
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
