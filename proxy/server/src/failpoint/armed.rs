//! The places in the build that can die, their names, and how one of them is chosen.
//!
//! `INTERLOCK_FAILPOINT=commit.heard.before` kills the process by SIGKILL where it is about to make
//! an answer durable for the first time, `commit.heard.before:3` where it does so for the third
//! time. Nothing is flushed, closed or said. A place that is not in [`POINTS`] kills at once, so
//! that the list of what a test must reach cannot fall behind the code.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use interlock_engine::{Input, Request as Wish};
use rustix::process::{Signal, getpid, kill_process};

use super::Side;
use crate::front_door::Request;

/// Names a place, and after a colon which of its passings.
const VARIABLE: &str = "INTERLOCK_FAILPOINT";

/// Every place, without its two sides.
pub const POINTS: &[&str] = &[
    // The start of a node, and of a node on an empty disk.
    "start.ids_key",
    "start.ids_key_name",
    "start.journal",
    "start.recovery",
    // The commit of a decision, by what was decided about.
    "commit.submitted",
    "commit.heard",
    "commit.lost",
    "commit.looked",
    "commit.noticed",
    "commit.capture",
    "commit.cancel",
    "commit.switch",
    "commit.confirm",
    "commit.refund",
    "commit.operator",
    "commit.recovered",
    "commit.due",
    "commit.refresh",
    // The group commit under all of these: the transaction, and its sync.
    "journal.sync",
    // Other durable writes: notices that change nothing, and the clock's high-water mark.
    "notice.no_money",
    "notice.unknown",
    "notice.unchanged",
    "setting.clock",
    // A request: before its first byte, after its last.
    "send.authorize",
    "send.continue",
    "send.capture",
    "send.void",
    "send.refund",
    "send.close",
    "send.inquire",
    "send.inquire_operation",
    // A provider's whole answer: before and after its plugin read it.
    "answer.authorize",
    "answer.continue",
    "answer.capture",
    "answer.void",
    "answer.refund",
    "answer.close",
    "answer.inquire",
    "answer.inquire_operation",
    // The bytes of our own answer to a merchant, an operator, a provider's notification.
    "told.create",
    "told.show",
    "told.capture",
    "told.cancel",
    "told.switch",
    "told.confirm",
    "told.refund",
    "told.operator",
    "told.notification",
];

/// The chosen place.
struct Chosen {
    point: String,
    passings: AtomicU64,
}

tokio::task_local! {
    static CALL: &'static str;
}

/// A place with a name of its own.
pub fn pass(point: &str, side: Side) {
    if !POINTS.contains(&point) {
        die(&format!("not in the list of places: {point}"));
    }
    let Some(chosen) = chosen() else { return };
    let full = format!("{point}.{}", side.as_str());
    if chosen.point == full && chosen.passings.fetch_sub(1, Ordering::AcqRel) == 1 {
        die(&full);
    }
}

/// The commit of a decision about this input.
pub fn commit(input: &Input, side: Side) {
    let what = match input {
        Input::Submitted(_) => "submitted",
        Input::Heard { .. } => "heard",
        Input::GoesOn { .. } => "goes_on",
        Input::Lost { .. } => "lost",
        Input::Looked { .. } => "looked",
        Input::Noticed { .. } => "noticed",
        Input::Merchant(Wish::Capture { .. }) => "capture",
        Input::Merchant(Wish::Cancel { .. }) => "cancel",
        Input::Merchant(Wish::Refund { .. }) => "refund",
        Input::Merchant(Wish::Switch { .. }) => "switch",
        Input::Merchant(Wish::Confirm { .. }) => "confirm",
        Input::Operator(_) => "operator",
        Input::Recovered => "recovered",
        Input::Restored => "restored",
        Input::Due => "due",
        Input::Refresh => "refresh",
    };
    pass(&format!("commit.{what}"), side);
}

/// What a future sends and hears belongs to this kind of call.
pub fn during<F: Future>(call: &'static str, future: F) -> impl Future<Output = F::Output> {
    CALL.scope(call, future)
}

/// The bytes of a request to a provider.
pub fn send(side: Side) {
    of_the_call("send", side);
}

/// The reading of a provider's whole answer by its plugin.
pub fn answer(side: Side) {
    of_the_call("answer", side);
}

fn of_the_call(room: &str, side: Side) {
    // What a plugin reads before it builds a request belongs to no call yet.
    let _ = CALL.try_with(|call| pass(&format!("{room}.{call}"), side));
}

/// The answer to a request of the street.
pub struct Told(Option<&'static str>);

impl Told {
    /// The answer to this request.
    pub fn to(request: &Request) -> Self {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let posted = request.method == http::Method::POST;
        Self(match &parts[..] {
            ["v1", "payments"] if posted => Some("told.create"),
            ["v1", "payments", _] if !posted => Some("told.show"),
            ["v1", "payments", _, "capture"] => Some("told.capture"),
            ["v1", "payments", _, "cancel"] => Some("told.cancel"),
            ["v1", "payments", _, "switch"] => Some("told.switch"),
            ["v1", "payments", _, "confirm"] => Some("told.confirm"),
            ["v1", "refunds"] if posted => Some("told.refund"),
            ["v1", "notifications", _] => Some("told.notification"),
            ["admin", "v1", "payments", _, "resolve"] => Some("told.operator"),
            _ => None,
        })
    }

    /// It is being written.
    pub fn pass(&self, side: Side) {
        if let Some(point) = self.0 {
            pass(point, side);
        }
    }
}

impl Side {
    /// The word in the names of places.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Prints every place, a line each.
///
/// # Errors
/// Nobody reads.
pub fn list() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    POINTS.iter().try_for_each(|point| writeln!(out, "{point}"))
}

fn chosen() -> Option<&'static Chosen> {
    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        let (point, passings) = text.split_once(':').unwrap_or((&text, "1"));
        let known = point.rsplit_once('.').is_some_and(|(name, side)| {
            POINTS.contains(&name) && matches!(side, "before" | "after")
        });
        let Some(passings) = passings.parse().ok().filter(|n| known && *n > 0) else {
            die(&format!("no such place: {text}"));
        };
        Some(Chosen { point: point.to_owned(), passings: AtomicU64::new(passings) })
    };
    CHOSEN.get_or_init(read).as_ref()
}

/// As `kill -9` from outside, at this very instruction.
fn die(why: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "failpoint: {why}");
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}
