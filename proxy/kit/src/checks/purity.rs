//! Purity: is a step a function of its input and of nothing else?

use std::time::Duration;

use interlock_plugin_host::cage;

use super::{Check, Group, Verdict, is_fault};
use crate::asking::Asked;
use crate::report::Finding;
use crate::subject::{Subject, Walk};

static GROUP: Group =
    Group { name: "purity", about: "same input, same bytes; no file, socket, thread or clock" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "same-input-same-bytes",
        group: &GROUP,
        title: "the same step gives the same bytes, now, later and in another process",
        why: "a request is built once to be recorded and perhaps again to be sent once more; if \
              the two differ, the provider sees two payments.",
        fix: "no clock, no randomness, no counter, no HashMap whose order is written; time and \
              entropy are in `cx`.",
        run: same,
    },
    Check {
        name: "continues-elsewhere",
        group: &GROUP,
        title: "a continuation is understood by another copy of the plugin",
        why: "an answer may be read after a reload, a restart or on another node; what only this \
              process knows is then lost, and the payment is in doubt.",
        fix: "put all that the next step needs into `State`.",
        run: elsewhere,
    },
    Check {
        name: "same-apart",
        group: &GROUP,
        title: "the examples give the same bytes in a process of its own",
        why: "an operator may give the plugin a process of its own at any time, with payments in \
              hand; what it then sends or reads differently is another payment.",
        fix: "nothing may depend on the process: not its number, its environment, its arguments or \
              an address in its memory.",
        run: apart,
    },
    Check {
        name: "touches-nothing",
        group: &GROUP,
        title: "no file, no socket, no thread, no output",
        why: "what a plugin sends by itself is in no journal: it is the one way to charge a \
              customer that the proxy can't see.",
        fix: "give the request to the host as Step::send(..); log lines by the host alone.",
        run: nothing,
    },
];

fn same(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut first = Vec::new();
    for asked in s.asked() {
        let meta = serde_json::to_vec(&asked.envelope).unwrap_or_default();
        let given = [&meta[..], &[], &asked.body];
        first.push((s.raw(&s.one, &asked.at, given), asked.at, meta, Vec::new(), asked.body));
    }
    for walk in s.walks() {
        for stop in walk.stops {
            let meta = serde_json::to_vec(&stop.envelope).unwrap_or_default();
            let given = [&meta[..], &stop.state, &stop.body];
            first.push((s.raw(&s.one, &stop.at, given), stop.at, meta, stop.state, stop.body));
        }
    }
    // A clock that is read shows by now.
    std::thread::sleep(Duration::from_millis(30));
    for (before, at, meta, state, body) in &first {
        for on in [&s.one, &s.two] {
            let now = s.raw(on, at, [meta, state, body]);
            if now != *before {
                let what = match (before, &now) {
                    (Ok(a), Ok(b)) if a.body != b.body => "its body differs from call to call",
                    (Ok(a), Ok(b)) if a.state != b.state => {
                        "its continuation differs from call to call"
                    }
                    _ => "its effect differs from call to call",
                };
                findings.push(Finding::new(at, what));
                break;
            }
        }
    }
    findings.into()
}

fn elsewhere(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for stop in walk.stops.iter().skip(1) {
            seen += 1;
            // The other copy has not seen the operation begin.
            match s.step(&s.two, &stop.envelope, &stop.state, &stop.body) {
                Ok(taken) if taken.parts == stop.taken.parts => {}
                Ok(_) => {
                    findings.push(Finding::new(&stop.at, "another copy of it does something else"));
                }
                Err(e) => findings.push(Finding::new(&stop.at, e.to_string())),
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no example has an answer".into());
    }
    findings.into()
}

fn apart(s: &Subject, _: bool) -> Verdict {
    let other = match s.apart() {
        Ok(other) => other,
        Err(why) => return Verdict::Failed(vec![Finding::new("open the account", why)]),
    };
    let mut findings = Vec::new();
    let mut seen = 0;
    let mut look = |at: &str, given: [&[u8]; 3]| {
        seen += 1;
        let (here, there) = (s.raw(&s.one, at, given), s.raw(&other, at, given));
        if here != there {
            let what = match there {
                Err(e) if !is_fault(&e) => format!("in a process of its own: {e}"),
                _ => "it does something else in a process of its own".to_owned(),
            };
            findings.push(Finding::new(at, what));
        }
    };
    for asked in s.asked() {
        let meta = serde_json::to_vec(&asked.envelope).unwrap_or_default();
        look(&asked.at, [&meta, &[], &asked.body]);
    }
    for stop in s.walks().iter().flat_map(|walk| &walk.stops) {
        let meta = serde_json::to_vec(&stop.envelope).unwrap_or_default();
        look(&stop.at, [&meta, &stop.state, &stop.body]);
    }
    match findings.is_empty() {
        true => Verdict::Passed(Some(format!("{seen} steps are the same"))),
        false => Verdict::Failed(findings),
    }
}

fn nothing(s: &Subject, _: bool) -> Verdict {
    let (asked, walks) = (s.asked(), s.walks());
    // The cage holds a thread for good, and the outcome must still be written.
    let caged = std::thread::scope(|scope| {
        let judged = scope.spawn(|| {
            cage::enter().map_err(|e| format!("this system has no cage for a thread, {e}"))?;
            Ok(in_cage(s, &asked, &walks))
        });
        judged.join().unwrap_or_else(|_| Err("the cage broke".to_owned()))
    });
    match caged {
        Ok(findings) => findings.into(),
        Err(reason) => Verdict::Skipped(reason),
    }
}

fn in_cage(s: &Subject, asked: &[Asked], walks: &[Walk]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |at: &str, on, envelope, state: &[u8], body: &[u8]| {
        let result = s.step(on, envelope, state, body);
        if let Some(call) = cage::trapped() {
            findings.push(Finding::new(at, format!("it calls {call}")));
        }
        if let Err(e) = result
            && !is_fault(&e)
        {
            findings.push(Finding::new(at, e.to_string()));
        }
    };
    for asked in asked {
        look(&asked.at, &s.one, &asked.envelope, &[], &asked.body);
    }
    for stop in walks.iter().flat_map(|walk| &walk.stops) {
        look(&stop.at, &s.two, &stop.envelope, &stop.state, &stop.body);
    }
    findings
}
