//! The cost: what does a call take, and does it give back what it took?

use std::fs;
use std::time::{Duration, Instant};

use super::{Check, Group, Verdict};
use crate::report::Finding;
use crate::subject::Subject;

static GROUP: Group = Group { name: "cost", about: "quick, and no memory is kept" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "quick",
        group: &GROUP,
        title: "a call takes well under 50 ms",
        why: "calls share a few threads; a slow plugin delays every provider's payments.",
        fix: "look for work that grows faster than the input, and for tables that are built \
              anew in every call.",
        run: quick,
    },
    Check {
        name: "small-stack",
        group: &GROUP,
        title: "a call needs less than 256 KiB of stack",
        why: "a stack that overflows ends the process, with every payment in it.",
        fix: "no large array in a function, no recursion that the input can deepen.",
        run: stack,
    },
    Check {
        name: "keeps-no-memory",
        group: &GROUP,
        title: "memory does not grow with calls",
        why: "a proxy runs for months; what a plugin keeps ends it in the middle of a payment.",
        fix: "a plugin keeps nothing between two calls; in C, free it on every path.",
        run: memory,
    },
];

/// The soft deadline of the proxy.
const SOFT: Duration = Duration::from_millis(50);

/// Every call that the examples make, as bytes.
fn calls(s: &Subject) -> Vec<(String, [Vec<u8>; 3])> {
    let mut all = Vec::new();
    for asked in s.asked() {
        let meta = serde_json::to_vec(&asked.envelope).unwrap_or_default();
        all.push((asked.at, [meta, Vec::new(), asked.body]));
    }
    for walk in s.walks() {
        for stop in walk.stops {
            let meta = serde_json::to_vec(&stop.envelope).unwrap_or_default();
            all.push((stop.at, [meta, stop.state, stop.body]));
        }
    }
    all
}

fn call(s: &Subject, parts: &[Vec<u8>; 3]) -> Duration {
    let since = Instant::now();
    // Whether it succeeds is judged elsewhere.
    let _ = s.raw(&s.one, "timed", [&parts[0], &parts[1], &parts[2]]);
    since.elapsed()
}

fn quick(s: &Subject, _: bool) -> Verdict {
    const ROUNDS: usize = 51;
    let calls = calls(s);
    if calls.is_empty() {
        return Verdict::Skipped("nothing can be asked".into());
    }
    let (mut findings, mut slowest) = (Vec::new(), (Duration::ZERO, String::new()));
    for (at, parts) in &calls {
        let mut times: Vec<Duration> = Vec::new();
        let is_slow = |times: &[Duration]| times.len() >= 5 && times.iter().all(|t| *t > SOFT);
        while times.len() < ROUNDS && !is_slow(&times) {
            times.push(call(s, parts));
        }
        times.sort();
        // Another process may hold the core for one call, hardly for half of them.
        let median = times[times.len() / 2];
        if median > SOFT {
            findings.push(Finding::new(at, format!("it takes {} ms", median.as_millis())));
        }
        slowest = slowest.max((median, at.clone()));
    }
    if findings.is_empty() {
        let (time, at) = slowest;
        return Verdict::Passed(Some(format!("the slowest takes {} µs: {at}", time.as_micros())));
    }
    findings.into()
}

/// An overflow ends this process, and the diary says where.
fn stack(s: &Subject, _: bool) -> Verdict {
    const STACK: usize = 256 * 1024;
    let calls = calls(s);
    let small = std::thread::Builder::new().stack_size(STACK);
    let done = std::thread::scope(|scope| {
        let calling = small.spawn_scoped(scope, || {
            for (at, parts) in &calls {
                let _ = s.raw(&s.one, at, [&parts[0], &parts[1], &parts[2]]);
                // The deepest JSON that a library reads without refusing it, and more.
                for deep in [100, 100_000] {
                    let body = "[".repeat(deep);
                    let _ = s.raw(&s.one, at, [&parts[0], &parts[1], body.as_bytes()]);
                }
            }
        });
        calling.map(|thread| thread.join().is_ok())
    });
    match done {
        Ok(true) => Verdict::Passed(Some(format!("{} steps, and as many answers", calls.len()))),
        Ok(false) => Verdict::Failed(vec![Finding::new("a small stack", "the call panicked")]),
        Err(e) => Verdict::Skipped(format!("no thread, {}", e.kind())),
    }
}

fn memory(s: &Subject, long: bool) -> Verdict {
    let (most, time) = if long { (1_000_000, 1_000) } else { (1_000_000, 4) };
    let calls = calls(s);
    if calls.is_empty() {
        return Verdict::Skipped("nothing can be asked".into());
    }
    // Allocators and tables that are built once have settled by then.
    for _ in 0..200 {
        for (_, parts) in &calls {
            call(s, parts);
        }
    }
    let (before, began) = (resident(), Instant::now());
    let mut made: u64 = 0;
    while made < most && began.elapsed().as_secs() < time {
        for (_, parts) in &calls {
            call(s, parts);
            made += 1;
        }
    }
    let (Some(before), Some(after)) = (before, resident()) else {
        return Verdict::Skipped("this system does not say how much memory a process has".into());
    };
    let grown = after.saturating_sub(before);
    // Some kilobytes are the allocator's own; a leak of one byte a call is more in a million.
    if grown > 512 * 1024 && grown / made.max(1) >= 1 {
        let what =
            format!("{} KiB more after {made} calls, {} bytes a call", grown / 1024, grown / made);
        return Verdict::Failed(vec![Finding::new("all calls of the examples", what)]);
    }
    Verdict::Passed(Some(format!("{} KiB more after {made} calls", grown / 1024)))
}

/// Resident memory of this process, bytes.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
