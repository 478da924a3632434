//! A way through the model in words, one step a line.

use interlock_engine::{Input, Payment, Subject};
use interlock_plugin_api::Fact;

use super::state::{Body, Sending, State};
use super::step::{Action, Then};
use super::turn::Mode;
use super::worlds::World;
use crate::operator;

impl World {
    /// What a step does, and how the payment stands after it.
    pub fn tell(&self, s: &State, action: Action, after: &State) -> String {
        let clock = s.now as f64 / 1_000.0;
        let stands = match (s.payment(), after.payment()) {
            (Some(a), Some(b)) if a.ver == b.ver => String::new(),
            (_, Some(p)) => format!("  => {}", stands(p)),
            (_, None) => String::new(),
        };
        let broken = after.broken.as_ref().map(|why| format!("  BROKEN: {why}"));
        format!(
            "{clock:>9.3}s {}{stands}{}",
            self.words(s, action, after),
            broken.unwrap_or_default()
        )
    }

    fn words(&self, s: &State, action: Action, after: &State) -> String {
        match action {
            Action::Submit(n, mode) => format!("node {n} is asked for a payment{}", befalls(mode)),
            Action::Arrive(at, script, then) => {
                format!("{} [{script}]{}", self.arrives(s, at), becomes(then))
            }
            Action::Copied(at, script) => {
                format!("{} [{script}] and a copy stays on the wire", self.arrives(s, at))
            }
            Action::Reach(at, n, mode) => {
                format!("node {n} gets {}{}", self.message(s, at), befalls(mode))
            }
            Action::Misread(at, n) => format!("node {n} misreads {}", self.message(s, at)),
            Action::Drop(at) => format!("{} is lost", self.message(s, at)),
            Action::Refuse(n, k, mode) => {
                format!("node {n}: {} is refused{}", self.socket_of(s, n, k), befalls(mode))
            }
            Action::Reset(n, k, mode) => {
                format!("node {n}: {} is reset{}", self.socket_of(s, n, k), befalls(mode))
            }
            Action::TimeOut(n, k, mode) => {
                format!("node {n}: {} times out{}", self.socket_of(s, n, k), befalls(mode))
            }
            Action::Later(k, script) => {
                let (account, later) = &s.laters[usize::from(k)];
                format!("{} by itself: {later:?} [{script}]", self.accounts[usize::from(*account)])
            }
            Action::Tick => match self.next_moment(s) {
                Some(at) => format!("the clock moves to {:.3}s", at as f64 / 1_000.0),
                None => "the clock moves".into(),
            },
            Action::Due(n, mode) => format!("node {n} looks{}", befalls(mode)),
            Action::Wish(w, n, mode) => {
                let wish = match self.wishes[usize::from(w)].input() {
                    Input::Merchant(request) => format!("{request:?}"),
                    _ => "news".into(),
                };
                format!("the merchant asks node {n} for {wish}{}", befalls(mode))
            }
            Action::Scan(i) => format!("the shopper scans the code of attempt {i}"),
            Action::Pay(i, script) => format!("the shopper pays attempt {i} [{script}]"),
            Action::Crash(n) => format!("node {n} dies"),
            Action::Rise(n, newer, mode) => {
                let with = if newer { " with newer plugins" } else { "" };
                format!("node {n} starts{with}{}", befalls(mode))
            }
            Action::Jump(n, true) => format!("node {n}'s wall clock jumps two hours ahead"),
            Action::Jump(n, false) => format!("node {n}'s wall clock jumps two hours back"),
            Action::Write(n) => format!("node {n} writes what it decided"),
            Action::Portal(i, whole, named) => {
                let how_much = if whole { "all" } else { "some" };
                let number = if named { "our number and its own" } else { "its own number" };
                format!("{how_much} of attempt {i} is given back in the portal, under {number}")
            }
            Action::Verdict(subject, n, mode) => {
                let number = s.payment().map(|p| operator::number(p, subject).1.to_owned());
                let yes = number.is_some_and(|number| {
                    !after.denied.iter().skip(s.denied.len()).any(|d| d.op_id == number)
                });
                let said = if yes { "moved" } else { "did not move" };
                let about = about(subject);
                format!(
                    "an operator tells node {n} that the money of {about} {said}{}",
                    befalls(mode)
                )
            }
        }
    }

    fn arrives(&self, s: &State, at: u8) -> String {
        format!("{} arrives", self.message(s, at))
    }

    fn message(&self, s: &State, at: u8) -> String {
        match &*s.wire[usize::from(at)].body {
            Body::Request(run, it) => {
                format!("{} from node {}", self.request(it), run.node)
            }
            Body::Answer(_, it, status, facts) => {
                format!("the answer {status} {} to {}", said(facts), self.request(it))
            }
            Body::Inquiry(run, subject, asked, _) => {
                format!(
                    "node {}'s inquiry about {}, asked in v{}",
                    run.node,
                    about(*subject),
                    asked.ver
                )
            }
            Body::Looked(_, subject, asked, facts) => {
                let (about, ver) = (about(*subject), asked.ver);
                format!("the answer {} about {about}, asked in v{ver}", said(facts))
            }
            Body::Notice(account, fact) => {
                let account = &self.accounts[usize::from(*account)];
                format!("a notification of {account}: {}", said(std::slice::from_ref(fact)))
            }
            Body::Repeat(_, input) => format!("once more: {input:?}"),
        }
    }

    fn request(&self, it: &Sending) -> String {
        let account = &self.accounts[usize::from(it.account)];
        let what = if it.offer { "offer" } else { it.kind.as_str() };
        format!("{what} #{} to {account}", it.number)
    }

    fn socket_of(&self, s: &State, n: u8, k: u8) -> String {
        self.request(&s.nodes[usize::from(n)].sockets[usize::from(k)].sending)
    }
}

fn about(subject: Subject) -> String {
    match subject {
        Subject::Attempt(i) => format!("attempt {i}"),
        Subject::Operation(n) => format!("operation {n}"),
    }
}

fn said(facts: &[Fact]) -> String {
    let each = |f: &Fact| {
        let class = f.class.map(|c| format!(" {}", c.as_str())).unwrap_or_default();
        format!("{:?}{class}", f.what)
    };
    match facts {
        [] => "nothing".into(),
        facts => facts.iter().map(each).collect::<Vec<_>>().join(" and "),
    }
}

fn befalls(mode: Mode) -> String {
    match mode {
        Mode::Straight => String::new(),
        Mode::Race => ", and writes later".into(),
        Mode::Dies(n) => format!(", and dies once that is durable, after {n} effects"),
        Mode::Unbuilt => ", and can't build the request".into(),
        Mode::Twice => ", and will hear it once more".into(),
    }
}

fn becomes(then: Then) -> String {
    match then {
        Then::Heard(mode) => format!(", and is answered{}", befalls(mode)),
        Then::Travels => ", and its answer stays on the wire".into(),
        Then::Lost => ", and nobody hears the answer".into(),
        Then::Misread => ", and a new plugin takes the answer for a decline".into(),
    }
}

/// A payment in one line.
fn stands(p: &Payment) -> String {
    let attempts = p.attempts.iter().map(|a| {
        let mark = |on: bool, mark: &'static str| if on { mark } else { "" };
        format!(
            "{}:{}{}{}{}",
            a.account,
            a.state.as_str(),
            mark(a.unconfirmed.is_some(), "?"),
            mark(a.loser, " loser"),
            mark(a.manual, " manual"),
        )
    });
    let operations = p
        .operations
        .iter()
        .map(|o| format!("{} {} {}", o.kind.as_str(), o.amount, o.state.as_str()));
    let told = p.settled.map(|told| format!(", told {told:?}")).unwrap_or_default();
    let canceled = if p.cancel_requested { ", canceled" } else { "" };
    let all: Vec<String> = attempts.chain(operations).collect();
    format!("v{} [{}]{canceled}{told}", p.ver, all.join(", "))
}
