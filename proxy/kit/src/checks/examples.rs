//! Examples: are there worked ones, and does the plugin still do what they show?

use interlock_plugin_api::{Next, Operation, What};

use super::{Check, Group, Verdict};
use crate::fixture::{Turn, request_text};
use crate::report::Finding;
use crate::subject::Subject;

static GROUP: Group = Group { name: "examples", about: "does what its fixtures show" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "examples-complete",
        group: &GROUP,
        title: "every operation has a worked example, and a payment both ends",
        why: "the checks of money and mapping change one thing in an example; where there is none \
              they judge nothing.",
        fix: "add fixtures/NAME.http with the provider's documented or recorded answer, then run \
              `interlock plugin test --update`.",
        run: complete,
    },
    Check {
        name: "examples-hold",
        group: &GROUP,
        title: "it sends and says what the examples show, byte for byte",
        why: "a change of what is sent or understood must be seen in a review.",
        fix: "if it is meant, run `interlock plugin test --update` and review the difference.",
        run: hold,
    },
];

fn complete(s: &Subject, _: bool) -> Verdict {
    let walks = s.walks();
    let mut findings = Vec::new();
    for op in &s.asks.manifest.operations {
        if !walks.iter().any(|walk| walk.op() == *op) {
            findings.push(Finding::new("fixtures/", format!("there is none of `{}`", op.as_str())));
        }
    }
    let ends = |wanted: &[What]| {
        let of_payment = walks.iter().filter(|walk| {
            matches!(walk.op(), Operation::Authorize | Operation::Continue | Operation::Inquire)
        });
        let mut facts = of_payment.filter_map(|w| w.done()).flat_map(|done| &done.facts);
        facts.any(|fact| wanted.contains(&fact.what))
    };
    if s.asks.manifest.offers(Operation::Authorize) {
        if !ends(&[What::Captured, What::Authorized]) {
            findings.push(Finding::new("fixtures/", "there is none of a payment that was paid"));
        }
        if !ends(&[What::Declined]) {
            findings.push(Finding::new("fixtures/", "there is none of a payment that was refused"));
        }
    }
    findings.into()
}

fn hold(s: &Subject, _: bool) -> Verdict {
    if s.fixtures.is_empty() {
        return Verdict::Skipped("there is no fixture".into());
    }
    let mut findings = Vec::new();
    for fixture in &s.fixtures {
        let walk = match s.walk(fixture) {
            Ok(walk) => walk,
            Err(finding) => {
                findings.push(finding);
                continue;
            }
        };
        let turns = fixture.turns().unwrap_or_default();
        let mut shown = turns.iter().filter_map(|turn| match turn {
            Turn::Sends(at, text) => Some((at, text)),
            _ => None,
        });
        for (stop, send) in walk.sends() {
            let sent = request_text(send, &stop.taken.parts.body);
            match shown.next() {
                Some((_, text)) if *text == sent => {}
                Some((at, text)) => {
                    findings.push(Finding::new(at.to_string(), difference(text, &sent)));
                }
                None => findings.push(Finding::new(
                    &stop.at,
                    format!("it sends this and the fixture does not show it\n{sent}"),
                )),
            }
        }
        if let Some((at, _)) = shown.next() {
            findings.push(Finding::new(at.to_string(), "this is not sent any more"));
        }
        let said = turns.iter().find_map(|turn| match turn {
            Turn::Says(at, said) => Some((at, said)),
            _ => None,
        });
        match (&walk.stops.last().expect("a first step").taken.next, said) {
            (Next::Done(done), Some((at, said))) => {
                let now = serde_json::to_value(done).unwrap_or_default();
                if now != *said {
                    let text = |v| serde_json::to_string_pretty(v).unwrap_or_default();
                    findings
                        .push(Finding::new(at.to_string(), difference(&text(said), &text(&now))));
                }
            }
            (Next::Done(_), None) => {
                let what = "the fixture has no `### says`; `--update` writes it";
                findings.push(Finding::new(fixture.place().to_string(), what));
            }
            (Next::Send(_), _) => {
                let what = "it sends once more, and the fixture has no further answer";
                findings.push(Finding::new(fixture.place().to_string(), what));
            }
        }
    }
    findings.into()
}

/// The first line that differs.
fn difference(shown: &str, now: &str) -> String {
    let (mut theirs, mut ours) = (shown.lines(), now.lines());
    loop {
        match (theirs.next(), ours.next()) {
            (None, None) => return "they differ in their line ends".to_owned(),
            (a, b) if a == b => {}
            (a, b) => {
                let line = |l: Option<&str>| l.unwrap_or("(nothing)").to_owned();
                return format!("- {}\n+ {}", line(a), line(b));
            }
        }
    }
}
