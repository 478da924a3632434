//! Hostile input: does the plugin survive whatever may stand on the wire?

use std::time::{Duration, Instant};

use interlock_plugin_api::{Envelope, Event, FaultKind};
use interlock_plugin_host::StepError;

use super::{Check, Group, Verdict, is_fault};
use crate::asking::Asked;
use crate::report::Finding;
use crate::subject::{Subject, shown};

static GROUP: Group =
    Group { name: "hostile", about: "truncated, huge, deep, not UTF-8, random: no panic, no end" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "survives-damage",
        group: &GROUP,
        title: "30 000 damaged inputs, and not one panic",
        why: "a plugin that panics is put into quarantine and its provider takes no payment until \
              somebody acts; if a move was sent, its payment is in doubt.",
        fix: "no indexing, no unwrap, no arithmetic that overflows on what comes from outside.",
        run: damage,
    },
    Check {
        name: "survives-extremes",
        group: &GROUP,
        title: "a body of a megabyte, ten thousand brackets, other alphabets",
        why: "a stack that overflows can't be fenced: it ends the process, with every payment in \
              it.",
        fix: "use a parser with a bounded depth (serde_json has one), and no recursion of your \
              own.",
        run: extremes,
    },
    Check {
        name: "survives-other-states",
        group: &GROUP,
        title: "a continuation of another version is refused, not believed",
        why: "after an upgrade payments in flight come back with the old version's continuation.",
        fix: "let `State` be a type of its own that refuses what it does not know, and raise \
              `state_version` when its form changes.",
        run: states,
    },
];

/// How long a quick run damages inputs at most.
const QUICK: Duration = Duration::from_secs(15);

/// What parsers stumble over.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\r\n\r\n",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":",
    b",",
    b"=",
    b"&",
    b"%00",
    b"%ff",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"0.1",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    "\u{202e}é好".as_bytes(),
];

fn damaged(seed: &[u8], dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.usize(0..4) {
        let at = dice.usize(0..=bytes.len());
        let end = (at + dice.usize(1..16)).min(bytes.len());
        match dice.u8(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.u8(0..8),
            1 if at < bytes.len() => bytes[at] = dice.u8(..),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let word = WORDS[dice.usize(0..WORDS.len())];
                drop(bytes.splice(at..end, word.iter().copied()));
            }
        }
    }
    bytes
}

/// A whole input of a step: envelope, continuation, body.
struct Input {
    at: String,
    parts: [Vec<u8>; 3],
}

fn seeds(s: &Subject) -> Vec<Input> {
    let mut seeds = Vec::new();
    let meta = |envelope: &Envelope| serde_json::to_vec(envelope).unwrap_or_default();
    for asked in s.asked() {
        seeds.push(Input {
            at: asked.at.clone(),
            parts: [meta(&asked.envelope), Vec::new(), asked.body.clone()],
        });
        seeds.extend(with_answers(s, &asked));
    }
    for walk in s.walks() {
        for stop in walk.stops {
            let parts = [meta(&stop.envelope), stop.state, stop.body];
            seeds.push(Input { at: stop.at, parts });
        }
    }
    seeds
}

/// An answer to what was asked, where no example has one.
fn with_answers(s: &Subject, asked: &Asked) -> Option<Input> {
    let taken = s.step(&s.one, &asked.envelope, &[], &asked.body).ok()?;
    let mut envelope = asked.envelope.clone();
    envelope.event = Event::Response { status: 200, headers: Vec::new() };
    let body = br#"{"id":"a","status":"b","data":[{"id":"c","amount":1}]}"#.to_vec();
    let meta = serde_json::to_vec(&envelope).ok()?;
    Some(Input { at: format!("{}, answered", asked.at), parts: [meta, taken.parts.state, body] })
}

fn run(s: &Subject, at: &str, parts: &[Vec<u8>; 3]) -> Option<Finding> {
    let doing = format!("{at}: {}", shown(&parts[2]));
    let given = [&parts[0][..], &parts[1][..], &parts[2][..]];
    let result = s.raw(&s.one, &doing, given).and_then(interlock_plugin_host::Parts::read);
    match result {
        Ok(_) => None,
        Err(StepError::Fault { kind: FaultKind::Limit, .. }) => {
            Some(Finding::new(doing, "it puts out more than the host takes"))
        }
        Err(e) if is_fault(&e) => None,
        Err(e) => Some(Finding::new(doing, e.to_string())),
    }
}

fn damage(s: &Subject, long: bool) -> Verdict {
    let rounds: usize = if long { 1_000_000 } else { 30_000 };
    let seeds = seeds(s);
    if seeds.is_empty() {
        return Verdict::Skipped("nothing can be asked".into());
    }
    let mut dice = fastrand::Rng::with_seed(7);
    let began = Instant::now();
    for round in 0..rounds {
        // Whoever signs with RSA in every step is given as many as fit.
        if !long && began.elapsed() > QUICK {
            return Verdict::Passed(Some(format!("{round} were all in {} s", QUICK.as_secs())));
        }
        let seed = &seeds[round % seeds.len()];
        let mut parts = seed.parts.clone();
        // Mostly the wire's bytes; sometimes the host's own, which another version may write.
        let which = match dice.u8(0..10) {
            0 => 0,
            1 | 2 => 1,
            _ => 2,
        };
        parts[which] = damaged(&parts[which], &mut dice);
        if let Some(finding) = run(s, &seed.at, &parts) {
            return Verdict::Failed(vec![finding]);
        }
    }
    Verdict::Passed(None)
}

fn extremes(s: &Subject, _: bool) -> Verdict {
    const MEGABYTE: usize = 1024 * 1024;
    let deep = |open: &str, close: &str, n: usize| {
        format!("{}{}", open.repeat(n), close.repeat(n)).into_bytes()
    };
    let bodies: Vec<Vec<u8>> = vec![
        vec![b'a'; MEGABYTE],
        vec![b'['; MEGABYTE],
        vec![0xff; MEGABYTE],
        vec![b'&'; MEGABYTE],
        vec![b'='; MEGABYTE],
        deep("[", "]", 10_000),
        deep("{\"a\":", "}", 10_000),
        deep("<a>", "</a>", 10_000),
        format!("{{\"id\":\"{}\"}}", "x".repeat(MEGABYTE - 100)).into_bytes(),
        format!("{{\"amount\":{}}}", "9".repeat(100_000)).into_bytes(),
        "\u{202e}你好".repeat(1_000).into_bytes(),
    ];
    for seed in seeds(s) {
        for body in &bodies {
            let mut parts = seed.parts.clone();
            parts[2].clone_from(body);
            if let Some(finding) = run(s, &seed.at, &parts) {
                return Verdict::Failed(vec![finding]);
            }
        }
    }
    Verdict::Passed(None)
}

fn states(s: &Subject, _: bool) -> Verdict {
    let other: [&[u8]; 5] =
        [b"not json", b"[]", b"{\"sent\":\"something_else\",\"version\":99}", b"7", b"\xff\xff"];
    let mut findings = Vec::new();
    for walk in s.walks() {
        for (_, stop) in walk.answers() {
            for state in other {
                let at = format!("{} with the continuation {}", stop.at, shown(state));
                match s.step(&s.one, &stop.envelope, state, &stop.body) {
                    Err(StepError::Fault { .. }) | Ok(_) => {}
                    Err(e) => findings.push(Finding::new(at, e.to_string())),
                }
            }
        }
    }
    findings.into()
}
