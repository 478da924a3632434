//! Effects: is a request what the manifest calls it, a read, an offer or a move?

use interlock_plugin_api::{Effect, Event, Next, Operation, STEPS_MAX, What};

use super::{Check, Group, Verdict, moved, told};
use crate::report::Finding;
use crate::subject::Subject;

static GROUP: Group = Group { name: "effects", about: "requests are what the manifest calls them" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "requests-listed",
        group: &GROUP,
        title: "every request is listed, may be sent, and reads where only reading is allowed",
        why: "the host decides by the list what a lost request may have done; an inquiry that \
              moves money would charge a customer each time somebody looks.",
        fix: "list the request in `contract.sends` with its method and path; an inquiry, a probe \
              and a notification may only `read`.",
        run: listed,
    },
    Check {
        name: "reads-only-read",
        group: &GROUP,
        title: "money never moves by a request that is called a read",
        why: "a read is sent again without asking; if it charges, every repetition charges.",
        fix: "call the request a `move` in `contract.sends`.",
        run: reads_only_read,
    },
    Check {
        name: "offers-only-offer",
        group: &GROUP,
        title: "money never moves by a request that is called an offer",
        why: "an offer whose answer was lost may be left alone, because nobody was shown it; one \
              that charges by itself is a payment that nobody looks for.",
        fix: "call the request a `move` in `contract.sends`.",
        run: offers_only_offer,
    },
    Check {
        name: "steps-end",
        group: &GROUP,
        title: "an operation ends within eight steps",
        why: "a plugin that asks for ever holds a customer's payment open; the host stops it, and \
              the payment is in doubt.",
        fix: "end with Fact::new(What::Pending); the host asks again later by itself.",
        run: steps_end,
    },
];

fn listed(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut judge = |at: &str, op: Operation, taken: &crate::subject::Taken| {
        let Next::Send(send) = &taken.next else { return };
        let request = format!("{} {}", send.method, send.path);
        match s.judge(op, send, &taken.parts.body) {
            Err(refused) => findings.push(Finding::new(at, format!("{request}: {refused}"))),
            Ok(c) if c.purpose == interlock_plugin_host::UNLISTED => {
                let what = format!("{request} is not in `contract.sends`, so it counts as a move");
                findings.push(Finding::new(at, what));
            }
            Ok(_) => {}
        }
    };
    for asked in s.asked() {
        if let Ok(taken) = s.step(&s.one, &asked.envelope, &[], &asked.body) {
            judge(&asked.at, asked.envelope.op, &taken);
        }
    }
    for walk in s.walks() {
        walk.stops.iter().skip(1).for_each(|stop| judge(&stop.at, walk.op(), &stop.taken));
    }
    findings.into()
}

/// Examples in which this operation moved money, with the strongest effect of its requests.
fn by_effect(s: &Subject) -> Vec<(String, String, Effect, bool)> {
    let mut found = Vec::new();
    for walk in s.walks() {
        let asks = walk.op().reads_only();
        let said = walk.done().and_then(|done| {
            let closed = |what| matches!(what, What::Voided | What::ClosedUnpaid);
            done.facts.iter().find(|f| moved(f) || closed(f.what))
        });
        let (Some(fact), false) = (said, asks) else { continue };
        let mut effects: Vec<Effect> = walk
            .sends()
            .filter_map(|(stop, send)| s.judge(walk.op(), send, &stop.taken.parts.body).ok())
            .map(|classified| classified.effect)
            .collect();
        effects.sort_by_key(|effect| *effect as u8);
        if let Some(strongest) = effects.last() {
            found.push((walk.stops[0].at.clone(), told(fact), *strongest, moved(fact)));
        }
    }
    found
}

fn reads_only_read(s: &Subject, _: bool) -> Verdict {
    let all = by_effect(s);
    if all.is_empty() {
        return Verdict::Skipped("no example moves money".into());
    }
    let wrong = all.into_iter().filter(|(_, _, effect, _)| *effect == Effect::Read);
    wrong
        .map(|(at, told, _, _)| {
            Finding::new(at, format!("it only reads by its manifest, and ends with: {told}"))
        })
        .collect::<Vec<_>>()
        .into()
}

fn offers_only_offer(s: &Subject, _: bool) -> Verdict {
    let all = by_effect(s);
    if all.is_empty() {
        return Verdict::Skipped("no example moves money".into());
    }
    let wrong = all.into_iter().filter(|(_, _, effect, m)| *effect == Effect::Offer && *m);
    wrong
        .map(|(at, told, _, _)| {
            Finding::new(at, format!("it only offers by its manifest, and ends with: {told}"))
        })
        .collect::<Vec<_>>()
        .into()
}

fn steps_end(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    let ok = Event::Response { status: 200, headers: Vec::new() };
    for walk in s.walks() {
        let mut answers: Vec<(Event, Vec<u8>)> =
            walk.answers().map(|(_, s)| (s.envelope.event.clone(), s.body.clone())).collect();
        answers.push((ok.clone(), b"{}".to_vec()));
        for (event, body) in answers {
            seen += 1;
            let first = &walk.stops[0];
            let (mut envelope, mut state) = (first.envelope.clone(), Vec::new());
            let mut raw = first.body.clone();
            let mut steps = 0;
            while let Ok(taken) = s.step(&s.one, &envelope, &state, &raw) {
                steps += 1;
                if !matches!(taken.next, Next::Send(_)) {
                    break;
                }
                if steps > STEPS_MAX {
                    let what = "after eight steps it still wants to send";
                    findings.push(Finding::new(&first.at, what));
                    break;
                }
                (state, raw, envelope.event) = (taken.parts.state, body.clone(), event.clone());
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("there is no example".into());
    }
    findings.dedup();
    findings.into()
}
