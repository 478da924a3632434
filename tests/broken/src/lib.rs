//! The example provider with one defect, which the account's setting `defect` names. The kit must
//! find each of them.

#[path = "../../../plugin-api/examples/acme/src/answers.rs"]
mod answers;
#[path = "../../../plugin-api/examples/acme/src/notification.rs"]
mod notification;
#[path = "../../../plugin-api/examples/acme/src/provider.rs"]
mod provider;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use interlock_plugin_api::{
    CaptureMode, Class, Credential, Currency, Cx, Event, Fact, Fault, Host, HostError, Money, Next,
    Operation, Provider, Request, Send, Sent, Step, StepResult, What, export_provider,
};
use provider::Acme;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The good one, and what is wrong with it.
pub struct Broken {
    good: Acme,
    defect: String,
}

/// The good one's continuation, and what must not be in one.
#[derive(Default, Serialize, Deserialize)]
pub struct Kept {
    good: Sent,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<String>,
}

export_provider!(Broken);

static CALLS: AtomicU64 = AtomicU64::new(0);
static BEGUN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What one step is given, for a defect to change.
struct Given {
    op: Operation,
    request: Request,
    event: Event,
    body: Vec<u8>,
    now_ms: i64,
}

impl Provider for Broken {
    type State = Kept;

    const MANIFEST: &'static str = Acme::MANIFEST;

    fn open(config: &Value) -> Result<Self, Fault> {
        let defect = config["defect"].as_str().unwrap_or_default().to_owned();
        let good = match Acme::open(config) {
            Err(_) if defect == "accepts-missing" => Acme::open(&json!({ "merchant": "any" })),
            Err(_) if defect == "names-no-setting" => Err(Fault::config("something is missing")),
            opened => opened,
        };
        Ok(Self { good: good?, defect })
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::Authorize, cx, r, s, e)
    }
    fn capture(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::Capture, cx, r, s, e)
    }
    fn void(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::Void, cx, r, s, e)
    }
    fn refund(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::Refund, cx, r, s, e)
    }
    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::Inquire, cx, r, s, e)
    }
    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::InquireOperation, cx, r, s, e)
    }
    fn close(&self, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        match self.is("closes-undeclared") {
            true => self.run(Operation::Void, cx, r, s, e),
            false => Err(Fault::UNSUPPORTED),
        }
    }
    fn parse_notification(&self, cx: &Cx<'_>, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::ParseNotification, cx, &nothing(), s, e)
    }
    fn probe(&self, cx: &Cx<'_>, s: Kept, e: &Event) -> StepResult<Self> {
        self.run(Operation::Probe, cx, &nothing(), s, e)
    }
}

impl Broken {
    fn is(&self, defect: &str) -> bool {
        self.defect == defect
    }

    fn run(&self, op: Operation, cx: &Cx<'_>, r: &Request, s: Kept, e: &Event) -> StepResult<Self> {
        self.misbehave(cx.body, e);
        let mut given = Given {
            op,
            request: r.clone(),
            event: e.clone(),
            body: cx.body.to_vec(),
            now_ms: cx.now_ms,
        };
        if let Some(early) = self.before(&mut given)? {
            return Ok(early);
        }
        let believing = Believing(cx.host);
        let host: &dyn Host = if self.is("signature-unchecked") { &believing } else { cx.host };
        let inner = Cx { now_ms: given.now_ms, body: &given.body, host, ..*cx };
        let (r, e, g) = (&given.request, &given.event, &self.good);
        let step = match op {
            Operation::Authorize => g.authorize(&inner, r, s.good, e),
            Operation::Capture => g.capture(&inner, r, s.good, e),
            Operation::Void => g.void(&inner, r, s.good, e),
            Operation::Refund => g.refund(&inner, r, s.good, e),
            Operation::Inquire => g.inquire(&inner, r, s.good, e),
            Operation::InquireOperation => g.inquire_operation(&inner, r, s.good, e),
            Operation::ParseNotification => g.parse_notification(&inner, s.good, e),
            Operation::Probe => g.probe(&inner, s.good, e),
            _ => return Err(Fault::UNSUPPORTED),
        }?;
        let state = step.state.map(|good| Kept { good, more: None });
        let mut step = Step { next: step.next, state, body: step.body };
        self.after(cx, &given, &mut step);
        Ok(step)
    }

    /// What a plugin must not do at all.
    fn misbehave(&self, body: &[u8], e: &Event) {
        let answered = matches!(e, Event::Response { .. });
        match self.defect.as_str() {
            "panics-on-short" if answered => {
                black_box(body[10]);
            }
            "recurses" if answered => {
                black_box(nested(body, 0));
            }
            "loops" if body.starts_with(b"[[") => loop {
                black_box(0);
            },
            "exits" if answered => std::process::exit(3),
            "aborts" if answered => std::process::abort(),
            "opens-file" => drop(std::fs::read("/etc/hostname")),
            "opens-socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
            "starts-thread" => drop(std::thread::Builder::new().spawn(|| {})),
            "prints" => drop(std::io::Write::write_all(&mut std::io::stdout(), b"paid\n")),
            "needs-stack" => {
                let mut large = [0u8; 400 * 1024];
                std::hint::black_box(&mut large).fill(1);
            }
            "slow" => std::thread::sleep(Duration::from_millis(70)),
            "leaks" => {
                Box::leak(vec![7u8; 1024].into_boxed_slice());
            }
            _ => {}
        }
    }

    fn before(&self, given: &mut Given) -> Result<Option<Step<Kept>>, Fault> {
        let r = &mut given.request;
        let status = match &given.event {
            Event::Response { status, .. } => *status,
            _ => 0,
        };
        let no = || Some(Step::done(Fact::declined(Class::DeclinedHard, "insufficient_funds")));
        match (self.defect.as_str(), given.op) {
            ("void-missing", Operation::Void) => return Err(Fault::UNSUPPORTED),
            ("manual-missing", Operation::Authorize) if r.capture == CaptureMode::Manual => {
                return Err(Fault::input("only at once"));
            }
            ("yen-by-hundred", _) if r.exponent == 0 => r.amount.amount /= 100,
            ("dinar-by-ten", _) if r.exponent == 3 => r.amount.amount /= 10,
            ("floats", _) => r.amount.amount = r.amount.amount as f32 as i64,
            ("refunds-all", Operation::Refund) => {
                r.amount = r.original.as_ref().map_or(r.amount, |o| o.amount);
            }
            ("always-euro", _) => {
                r.amount.currency = Currency::parse("EUR").unwrap_or(r.amount.currency);
            }
            ("5xx-declined", _) if status >= 500 => return Ok(no()),
            ("404-declined", Operation::Inquire) if status == 404 => {
                return Ok(Some(Step::done(Fact::new(What::Expired))));
            }
            ("timeout-declined", _) if matches!(given.event, Event::Transport { .. }) => {
                return Ok(no());
            }
            ("any-reference", _) => given.body = with_our_number(&given.body, r),
            ("one-key", _) => r.op_id = "KIT00000000000000000000000000001".into(),
            ("inquiry-moves", Operation::Inquire) if status == 0 => {
                let send = Send {
                    method: "POST".into(),
                    endpoint: "api".into(),
                    path: "/v1/payments".into(),
                    ..Send::default()
                };
                return Ok(Some(Step::send(send, Vec::new(), Kept::default())));
            }
            ("leaks-into-errors", _) if status > 0 && given.body.starts_with(b"{\"message") => {
                let text = String::from_utf8_lossy(&given.body).into_owned();
                return Err(Fault::input(Box::leak(text.into_boxed_str())));
            }
            ("new-id-each-time", Operation::ParseNotification) => given.now_ms = 1_764_000_000_000,
            ("remembers", _) => {
                let mut begun = BEGUN.lock().map_err(|_| Fault::internal("poisoned"))?;
                let number = format!("{:?}{}", given.op, r.op_id);
                if status == 0 {
                    begun.insert(number);
                } else if !begun.contains(&number) {
                    return Ok(Some(Step::done(Fact::unknown("who_are_you"))));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn after(&self, cx: &Cx<'_>, given: &Given, step: &mut Step<Kept>) {
        let r = &given.request;
        match &mut step.next {
            Next::Send(send) => self.spoil_request(cx, given, send, &mut step.body),
            Next::Done(done) => {
                for fact in &mut done.facts {
                    self.spoil_fact(r, fact);
                }
                match self.defect.as_str() {
                    "no-event-id" => done.event_id = None,
                    "no-ack" => done.ack = None,
                    "new-id-each-time" if done.verified => {
                        done.event_id = Some(cx.now_ms.to_string());
                    }
                    "keeps-the-answer" => {
                        let more = String::from_utf8_lossy(&given.body).into_owned();
                        step.state = Some(Kept { more: Some(more), ..Kept::default() });
                    }
                    _ => {}
                }
            }
        }
        if let (Some(state), Some(Credential::AccountToken { token })) =
            (&mut step.state, &r.credential)
            && self.is("token-in-state")
        {
            state.more = Some(token.clone());
        }
    }

    fn spoil_request(&self, cx: &Cx<'_>, given: &Given, send: &mut Send, body: &mut Vec<u8>) {
        let r = &given.request;
        let replace = |body: &mut Vec<u8>, from: &str, to: &str| {
            *body = String::from_utf8_lossy(body).replace(from, to).into_bytes();
        };
        match self.defect.as_str() {
            "no-key" => {
                send.headers.retain(|(name, _)| name != "idempotency-key");
                replace(body, &r.op_id, "order");
            }
            "key-of-now" => {
                for (name, value) in &mut send.headers {
                    if name == "idempotency-key" {
                        *value = format!("{value}-{}", cx.now_ms);
                    }
                }
            }
            "body-of-now" => {
                replace(body, "\"merchant\":", &format!("\"at\":{},\"m\":", cx.now_ms))
            }
            "unlisted" => send.path = send.path.replace("/v1/", "/v2/"),
            "other-host" => send.endpoint = "elsewhere".into(),
            "secret-in-query" => send.query.push(("key".into(), "{secret:api_key}".into())),
            "undeclared-secret" => send.headers.push(("x-key".into(), "{secret:other}".into())),
            "token-in-query" => {
                if let Some(Credential::AccountToken { token }) = &r.credential {
                    send.query.push(("card".into(), token.clone()));
                }
            }
            "counts" => {
                let count = CALLS.fetch_add(1, Ordering::Relaxed);
                send.headers.push(("x-count".into(), count.to_string()));
            }
            "knows-its-process" => {
                send.headers.push(("x-process".into(), std::process::id().to_string()));
            }
            "reads-the-clock" => {
                let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_millis());
                send.headers.push(("x-now".into(), now.to_string()));
            }
            _ => {}
        }
    }

    fn spoil_fact(&self, r: &Request, fact: &mut Fact) {
        let code = fact.provider_code.as_deref();
        let unread = fact.what == What::Unknown && matches!(code, Some("state" | "no_code"));
        match self.defect.as_str() {
            "echoes" if fact.amount.is_some() => fact.amount = Some(r.amount),
            "unknown-declined" if unread => {
                *fact = Fact::declined(Class::DeclinedHard, "insufficient_funds");
            }
            "unknown-paid" if unread => {
                *fact = Fact::new(What::Captured).with_amount(r.amount);
            }
            "no-code" if fact.what == What::Declined => fact.provider_code = None,
            "no-class" if fact.what == What::Declined => fact.class = None,
            _ => {}
        }
    }
}

/// An answer about any payment, made one about ours.
fn with_our_number(body: &[u8], r: &Request) -> Vec<u8> {
    const NAME: &str = "\"reference\":\"";
    let text = String::from_utf8_lossy(body).into_owned();
    let ours = match (&r.original, &r.target) {
        (Some(original), None) if text.contains("payments") => &original.op_id,
        _ => &r.op_id,
    };
    let Some(at) = text.find(NAME).map(|at| at + NAME.len()) else { return body.to_vec() };
    let Some(end) = text[at..].find('"').map(|end| at + end) else { return body.to_vec() };
    format!("{}{ours}{}", &text[..at], &text[end..]).into_bytes()
}

/// How deep brackets stand in each other, by one call for each.
fn nested(body: &[u8], depth: usize) -> usize {
    let frame = black_box([0u8; 2048]);
    match body.first() {
        Some(b'[') => nested(&body[1..], depth + 1) + usize::from(frame[depth % 2048]),
        _ => depth,
    }
}

fn nothing() -> Request {
    let euro = Currency::parse("EUR").expect("three letters");
    Request {
        op_id: String::new(),
        amount: Money::new(1, euro),
        exponent: 2,
        capture: CaptureMode::Automatic,
        method: String::new(),
        flow: String::new(),
        credential: None,
        description: None,
        return_url: None,
        notify_url: None,
        customer: interlock_plugin_api::Customer::default(),
        original: None,
        target: None,
        reason: None,
        details: None,
        wanted: None,
        period: None,
        session: None,
    }
}

/// Holds every signature for good.
struct Believing<'a>(&'a dyn Host);

impl Host for Believing<'_> {
    fn mac(&self, key: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        self.0.mac(key, data)
    }
    fn sign(&self, key: &str, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, HostError> {
        self.0.sign(key, algorithm, data)
    }
    fn verify(&self, _: &str, _: &str, _: &[u8], _: &[u8]) -> Result<bool, HostError> {
        Ok(true)
    }
}
