//! Notifications: are they believed only when the provider signed every byte of them?

use std::sync::Arc;

use interlock_plugin_api::{Done, Envelope, Event, Next, Operation};
use interlock_plugin_host::Instance;

use super::{Check, Group, Verdict};
use crate::asking::NOW_MS;
use crate::report::Finding;
use crate::subject::{Stop, Subject};

static GROUP: Group =
    Group { name: "notifications", about: "good ones are believed, altered and foreign ones not" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "good-notifications",
        group: &GROUP,
        title: "a good notification is verified, named and acknowledged",
        why: "without the provider's id of it a copy counts again; without its exact answer the \
              provider repeats it for days and then switches notifications off.",
        fix: "set `verified`, `event_id` and `ack`.",
        run: good,
    },
    Check {
        name: "altered-notifications",
        group: &GROUP,
        title: "one byte changed, a signature changed or missing: not verified",
        why: "whoever knows the address could credit himself any order.",
        fix: "verify the signature over the raw bytes of `cx.body` with `cx.host.verify`, and read \
              nothing before.",
        run: altered,
    },
    Check {
        name: "foreign-keys",
        group: &GROUP,
        title: "a signature under another key is not verified",
        why: "a signature that anybody can make proves nothing.",
        fix: "verify under the account's own key by its name, and take `Ok(false)` for a no.",
        run: foreign,
    },
    Check {
        name: "old-notifications",
        group: &GROUP,
        title: "a replay is stopped by its id, or by its time",
        why: "a refund that is told again a year later must not be booked again.",
        fix: "give the provider's id of the notification as `event_id`, and refuse time stamps \
              that are older than the provider promises.",
        run: old,
    },
];

/// Notifications of the examples that the plugin verifies.
fn verified(s: &Subject) -> Vec<(Stop, Done)> {
    notices(s).into_iter().filter(|(_, done)| done.verified).collect()
}

fn notices(s: &Subject) -> Vec<(Stop, Done)> {
    let of_notices = s.walks().into_iter().filter(|w| w.op() == Operation::ParseNotification);
    let first = of_notices.filter_map(|walk| {
        let done = walk.done()?.clone();
        Some((walk.stops.into_iter().next()?, done))
    });
    first.collect()
}

fn none(s: &Subject) -> Verdict {
    Verdict::Skipped(match s.asks.manifest.offers(Operation::ParseNotification) {
        true => "no example has a notification that is verified".into(),
        false => "the plugin reads no notifications".into(),
    })
}

fn read(s: &Subject, on: &Arc<Instance>, envelope: &Envelope, body: &[u8]) -> Option<Done> {
    match s.step(on, envelope, &[], body).ok()?.next {
        Next::Done(done) => Some(done),
        Next::Send(_) => None,
    }
}

fn good(s: &Subject, _: bool) -> Verdict {
    let all = verified(s);
    if all.is_empty() {
        if s.asks.manifest.offers(Operation::ParseNotification) && !notices(s).is_empty() {
            let at = notices(s)[0].0.at.clone();
            let what = "no example's notification is verified; is it signed with the keys of \
                        fixtures/account.toml?";
            return Verdict::Failed(vec![Finding::new(at, what)]);
        }
        return none(s);
    }
    let mut findings = Vec::new();
    for (stop, done) in all {
        if done.event_id.as_deref().is_none_or(str::is_empty) {
            findings.push(Finding::new(&stop.at, "it has no `event_id`, so a copy counts again"));
        }
        if done.ack.is_none() {
            findings.push(Finding::new(&stop.at, "it has no `ack`, so the provider repeats it"));
        }
    }
    findings.into()
}

fn altered(s: &Subject, _: bool) -> Verdict {
    let all = verified(s);
    if all.is_empty() {
        return none(s);
    }
    let mut findings = Vec::new();
    for (stop, real) in all {
        // A change that leaves the signed meaning as it was (%2f for %2F) is none.
        let same = |done: &Done| {
            done.facts == real.facts && done.event_id == real.event_id && done.ack == real.ack
        };
        for at in 0..stop.body.len() {
            for flip in [0x01, 0x20] {
                let mut body = stop.body.clone();
                body[at] ^= flip;
                let Some(done) = read(s, &s.one, &stop.envelope, &body) else { continue };
                if done.verified && !same(&done) {
                    let what = format!("byte {at} of the body was changed, and it is verified");
                    findings.push(Finding::new(&stop.at, what));
                    break;
                }
            }
        }
        findings.extend(altered_headers(s, &stop));
        for body in [&b""[..], b"{}", b"a=b"] {
            if read(s, &s.one, &stop.envelope, body).is_some_and(|done| done.verified) {
                findings.push(Finding::new(&stop.at, "another body is verified"));
            }
        }
    }
    findings.into()
}

/// Headers that the example has and that the plugin does not need are no finding.
fn altered_headers(s: &Subject, stop: &Stop) -> Vec<Finding> {
    let Event::Notification { headers } = &stop.envelope.event else { return Vec::new() };
    let signs = |name: &str| {
        ["sign", "hmac", "digest"].iter().any(|word| name.to_ascii_lowercase().contains(word))
    };
    let with = |headers: Vec<(String, String)>| {
        let event = Event::Notification { headers };
        Envelope { event, ..stop.envelope.clone() }
    };
    let mut findings = Vec::new();
    for (n, (name, value)) in headers.iter().enumerate().filter(|(_, (name, _))| signs(name)) {
        let mut missing = headers.clone();
        missing.remove(n);
        let mut other = headers.clone();
        let middle = value.len() / 2;
        let changed: String = value
            .char_indices()
            .map(|(at, c)| if at == middle { if c == 'a' { 'b' } else { 'a' } } else { c })
            .collect();
        other[n].1 = changed;
        for (headers, word) in [(missing, "missing"), (other, "changed")] {
            if read(s, &s.one, &with(headers), &stop.body).is_some_and(|done| done.verified) {
                let what = format!("the header {name} is {word}, and it is verified");
                findings.push(Finding::new(&stop.at, what));
            }
        }
    }
    findings
}

fn foreign(s: &Subject, _: bool) -> Verdict {
    let all = verified(s);
    if all.is_empty() {
        return none(s);
    }
    let account = &s.asks.account;
    let other = account.other_secrets(&s.asks.manifest).map_err(|e| e.to_string());
    let other = other
        .and_then(|keys| s.open_for(&account.settings(), keys).map_err(|e| e.to_string()))
        .and_then(|other| account.give_other_keys(&other).map(|()| other));
    let other = match other {
        Ok(other) => other,
        Err(e) => {
            return Verdict::Skipped(format!("no account with other keys could be opened, {e}"));
        }
    };
    let mut findings = Vec::new();
    for (stop, _) in all {
        if read(s, &other, &stop.envelope, &stop.body).is_some_and(|done| done.verified) {
            let what = "an account with other keys verifies it too";
            findings.push(Finding::new(&stop.at, what));
        }
    }
    findings.into()
}

fn old(s: &Subject, _: bool) -> Verdict {
    const YEAR_MS: i64 = 366 * 24 * 60 * 60 * 1000;
    let all = verified(s);
    if all.is_empty() {
        return none(s);
    }
    let mut findings = Vec::new();
    let mut by_time = 0;
    for (stop, done) in &all {
        let mut envelope = stop.envelope.clone();
        envelope.now_ms = NOW_MS + YEAR_MS;
        match read(s, &s.two, &envelope, &stop.body) {
            Some(late) if late.verified && late.event_id.is_none() => {
                findings.push(Finding::new(&stop.at, "a year later it is verified, without an id"));
            }
            Some(late) if late.verified && late.event_id != done.event_id => {
                findings.push(Finding::new(&stop.at, "a copy of it has another id"));
            }
            Some(late) if late.verified => {}
            _ => by_time += 1,
        }
    }
    if findings.is_empty() {
        let by_id = all.len() - by_time;
        return Verdict::Passed(Some(format!(
            "{by_time} by their time, {by_id} by their id alone"
        )));
    }
    findings.into()
}
