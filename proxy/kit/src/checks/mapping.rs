//! Mapping: what does the plugin make of an answer, and above all of one it does not know?

use interlock_plugin_api::{Effect, Event, Fact, Next, NotFound, Operation, TransportLoss, What};
use serde_json::Value;

use super::{Check, Group, Verdict, facts, is_fault, moved, refused, told};
use crate::asking::{OP_ID, PAYMENT_ID};
use crate::report::Finding;
use crate::subject::{Stop, Subject, Walk, shown};

static GROUP: Group =
    Group { name: "mapping", about: "what is not understood is unknown, and never a decline" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "statuses-honest",
        group: &GROUP,
        title: "no status and no unreadable body is taken for a result",
        why: "a 502 from a load balancer says nothing about the payment behind it; read as a \
              decline, the next provider charges the customer a second time.",
        fix: "answer Fact::unknown(..) for 5xx and for every body that is not the documented \
              one; a decline needs the provider's own code.",
        run: statuses,
    },
    Check {
        name: "unknown-is-unknown",
        group: &GROUP,
        title: "a word that is not known does not turn a paid answer into a refusal",
        why: "\"unknown\" read as \"declined\" charges customers twice: the provider adds a word \
              to its API and every payment with it is paid again elsewhere.",
        fix: "end every `match` on a provider's word with `_ => Fact::unknown(..)`.",
        run: unknown_words,
    },
    Check {
        name: "no-is-no",
        group: &GROUP,
        title: "a word that is not known does not turn a refusal into a payment",
        why: "goods are shipped that nobody paid.",
        fix: "name the words that mean success; everything else is unknown.",
        run: refusals_stay,
    },
    Check {
        name: "of-this-payment",
        group: &GROUP,
        title: "an answer about another payment is not believed",
        why: "a cache or a proxy that mixes answers up would credit one customer's order with \
              another one's money.",
        fix: "compare our number in the answer with the one that was asked about.",
        run: of_this_payment,
    },
    Check {
        name: "lost-is-unknown",
        group: &GROUP,
        title: "a request whose answer was lost is unknown",
        why: "the provider may have executed it; only the host knows whether a byte left.",
        fix: "answer Fact::unknown(..) to `TransportLoss::MaybeSent`.",
        run: lost,
    },
    Check {
        name: "declines-have-codes",
        group: &GROUP,
        title: "a refusal names the provider's code and a class",
        why: "the host believes a refusal only by a code of `proof_codes`; without one the payment \
              stays in doubt, and the shopper is told nothing useful.",
        fix: "use Fact::declined(class, code) with the code as the provider wrote it.",
        run: codes,
    },
];

/// Bodies that no provider documents as a result.
fn strange_bodies(real: &[u8]) -> [Vec<u8>; 6] {
    [
        Vec::new(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"<html><body><h1>502 Bad Gateway</h1></body></html>".to_vec(),
        real[..real.len() / 2].to_vec(),
        br#"{"status":"zzz","error":{"code":"zzz","message":"zzz"}}"#.to_vec(),
    ]
}

fn statuses(s: &Subject, _: bool) -> Verdict {
    let mut findings: Vec<Finding> = Vec::new();
    let walks = s.walks();
    let mut seen = 0;
    for walk in &walks {
        for (before, stop) in walk.answers() {
            let bodies = strange_bodies(&stop.body);
            // One finding for each body is enough to show it.
            for (n, body) in bodies.iter().enumerate() {
                let wrong = (100..600).find_map(|status| {
                    if is_shown(&walks, status, body) {
                        return None;
                    }
                    let taken = answered(s, before, stop, status, body)?;
                    seen += 1;
                    let taken = match taken {
                        Ok(taken) => taken,
                        Err(what) => return Some((status, what)),
                    };
                    let bad = facts(&taken).iter().find(|f| dishonest(s, walk, f, status, n));
                    bad.map(|fact| (status, told(fact)))
                });
                if let Some((status, what)) = wrong {
                    let at = format!("{} with status {status} and {}", stop.at, shown(body));
                    findings.push(Finding::new(at, what));
                }
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no example has an answer".into());
    }
    findings.into()
}

type Answered = Result<crate::subject::Taken, String>;

/// What the plugin makes of another answer; `None` where it may give up.
fn answered(s: &Subject, before: &Stop, stop: &Stop, status: u16, body: &[u8]) -> Option<Answered> {
    let mut envelope = stop.envelope.clone();
    let Event::Response { headers, .. } = &stop.envelope.event else { return None };
    envelope.event = Event::Response { status, headers: headers.clone() };
    match s.step(&s.one, &envelope, &before.taken.parts.state, body) {
        Ok(taken) => Some(Ok(taken)),
        Err(e) if is_fault(&e) => None,
        Err(e) => Some(Err(e.to_string())),
    }
}

/// An answer that an example shows as the provider's own, such as 204 without a body.
fn is_shown(walks: &[Walk], status: u16, body: &[u8]) -> bool {
    let mut stops = walks.iter().flat_map(|walk| walk.answers().map(|(_, stop)| stop));
    stops.any(|stop| {
        let Event::Response { status: theirs, .. } = stop.envelope.event else { return false };
        theirs == status && stop.body == body
    })
}

/// Whether a fact can't follow from an answer of this status with a strange body.
fn dishonest(s: &Subject, walk: &Walk, fact: &Fact, status: u16, body: usize) -> bool {
    const HTML: usize = 3;
    let code = fact.provider_code.as_deref();
    let believed = match fact.what {
        What::Declined | What::Failed => {
            code.is_some_and(|code| s.asks.manifest.contract.proves(code))
        }
        _ => true,
    };
    // A probe says only that somebody is there.
    let alive = walk.op() == Operation::Probe && fact.what == What::NotFound;
    match status {
        200..=499 if alive => false,
        // A client's error may be a refusal by its status, if it is not some proxy's page.
        400..=499 if moved(fact) => true,
        400..=499 if body == HTML => refused(fact) && believed,
        404 | 410 if walk.op() != Operation::Authorize => fact.what == What::Captured,
        400..=499 => refused(fact) && fact.what != What::Declined && fact.what != What::Failed,
        _ => moved(fact) || refused(fact),
    }
}

/// Answers after which a payment, capture, refund or release counts as done.
fn paid(walk: &Walk) -> impl Iterator<Item = (&Stop, &Stop)> {
    walk.answers().filter(|(_, stop)| facts(&stop.taken).iter().any(moved))
}

fn unknown_words(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for (before, stop) in paid(&walk) {
            for (place, body) in damaged(&stop.body) {
                // A list in which nothing has our number any more is an honest "not found".
                let ours = |body: &[u8]| {
                    let text = String::from_utf8_lossy(body);
                    text.contains(OP_ID) || text.contains(PAYMENT_ID)
                };
                if ours(&stop.body) && !ours(&body) {
                    continue;
                }
                seen += 1;
                let state = &before.taken.parts.state;
                let taken = match s.step(&s.one, &stop.envelope, state, &body) {
                    Ok(taken) => taken,
                    Err(e) if is_fault(&e) => continue,
                    Err(e) => {
                        findings.push(Finding::new(format!("{} {place}", stop.at), e.to_string()));
                        continue;
                    }
                };
                let bad = |fact: &&Fact| refused(fact) && believed(s, &walk, fact);
                if let Some(fact) = facts(&taken).iter().find(bad) {
                    findings.push(Finding::new(format!("{} {place}", stop.at), told(fact)));
                }
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no example shows a payment that was paid".into());
    }
    findings.into()
}

/// Whether the host would believe it: an absence only where the contract says so.
fn believed(s: &Subject, walk: &Walk, fact: &Fact) -> bool {
    let contract = &s.asks.manifest.contract;
    let inquiry = match walk.op() {
        Operation::InquireOperation => contract.operation_inquiry,
        _ => contract.inquiry,
    };
    fact.what != What::NotFound || inquiry.not_found == NotFound::AfterFence
}

fn refusals_stay(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for (before, stop) in walk.answers() {
            if !facts(&stop.taken).iter().any(refused) {
                continue;
            }
            for (place, body) in damaged(&stop.body) {
                seen += 1;
                let state = &before.taken.parts.state;
                let Ok(taken) = s.step(&s.one, &stop.envelope, state, &body) else { continue };
                if let Some(fact) = facts(&taken).iter().find(|fact| moved(fact)) {
                    findings.push(Finding::new(format!("{} {place}", stop.at), told(fact)));
                }
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no example shows a refusal".into());
    }
    findings.into()
}

/// Every form of an answer in which one word is another one, nothing, or not there; with its place.
pub(super) fn damaged(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    match serde_json::from_slice::<Value>(body) {
        Ok(json) if json.is_object() || json.is_array() => {
            let mut places = Vec::new();
            leaves(&json, String::new(), &mut places);
            places
                .into_iter()
                .flat_map(|place| {
                    let with = |value: Option<Value>, word: &str| {
                        let mut other = json.clone();
                        replace(&mut other, &place, value);
                        (format!("with \"{place}\" {word}"), other.to_string().into_bytes())
                    };
                    [
                        with(Some("zzz".into()), "being \"zzz\""),
                        with(Some(Value::Null), "being null"),
                        with(None, "absent"),
                    ]
                })
                .collect()
        }
        _ => words(body),
    }
}

/// JSON pointers of everything that is no object and no array.
fn leaves(value: &Value, place: String, into: &mut Vec<String>) {
    const MOST: usize = 400;
    if into.len() >= MOST {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, format!("{place}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                leaves(value, format!("{place}/{n}"), into);
            }
        }
        _ => into.push(place),
    }
}

fn replace(json: &mut Value, place: &str, value: Option<Value>) {
    let Some((parent, name)) = place.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    match (json.pointer_mut(parent), value) {
        (Some(Value::Object(fields)), Some(value)) => drop(fields.insert(name, value)),
        (Some(Value::Object(fields)), None) => drop(fields.remove(&name)),
        (Some(Value::Array(items)), value) => {
            if let Some(item) = name.parse().ok().and_then(|n: usize| items.get_mut(n)) {
                *item = value.unwrap_or(Value::Null);
            }
        }
        _ => {}
    }
}

/// A text of another kind: every word of it once as `zzz`.
fn words(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    const MOST: usize = 400;
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let mut found = Vec::new();
    let mut start = None;
    let ends = text.char_indices().chain([(text.len(), ' ')]);
    for (at, c) in ends {
        match (c.is_ascii_alphanumeric() || c == '_', start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                let other = format!("{}zzz{}", &text[..from], &text[at..]);
                found.push((format!("with `{}` being `zzz`", &text[from..at]), other.into_bytes()));
                start = None;
            }
            _ => {}
        }
        if found.len() >= MOST {
            break;
        }
    }
    found
}

fn of_this_payment(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for (before, stop) in walk.answers() {
            let decided = |fact: &Fact| moved(fact) || refused(fact);
            if !facts(&stop.taken).iter().any(decided) {
                continue;
            }
            let Ok(text) = std::str::from_utf8(&stop.body) else { continue };
            let other = [OP_ID, PAYMENT_ID]
                .iter()
                .fold(text.to_owned(), |t, id| t.replace(id, "KITother000000000000000000000000"));
            if other == text {
                continue;
            }
            seen += 1;
            let state = &before.taken.parts.state;
            let Ok(taken) = s.step(&s.one, &stop.envelope, state, other.as_bytes()) else {
                continue;
            };
            // A list without our number is an honest "not found"; so is what an inquiry says.
            let bad = facts(&taken).iter().find(|f| decided(f) && f.what != What::NotFound);
            findings.extend(bad.map(|fact| Finding::new(&stop.at, told(fact))));
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no answer of the examples has our number in it".into());
    }
    findings.into()
}

fn lost(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for (stop, send) in walk.sends() {
            let effect = s.judge(walk.op(), send, &stop.taken.parts.body).map(|c| c.effect);
            for reason in ["timeout", "reset"] {
                let mut envelope = stop.envelope.clone();
                let outcome = TransportLoss::MaybeSent;
                envelope.event = Event::Transport { outcome, reason: reason.into() };
                seen += 1;
                let at = format!("{}, then {reason}", stop.at);
                match s.step(&s.one, &envelope, &stop.taken.parts.state, &[]) {
                    Ok(taken) => {
                        if let Some(f) = facts(&taken).iter().find(|f| moved(f) || refused(f)) {
                            findings.push(Finding::new(at, told(f)));
                        } else if let (Next::Send(_), Ok(Effect::Move)) = (&taken.next, &effect) {
                            let what = "it sends again by itself; only the host may do that";
                            findings.push(Finding::new(at, what));
                        }
                    }
                    Err(e) if is_fault(&e) => {}
                    Err(e) => findings.push(Finding::new(at, e.to_string())),
                }
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no example sends anything".into());
    }
    findings.into()
}

fn codes(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for walk in s.walks() {
        for stop in &walk.stops {
            for fact in facts(&stop.taken).iter().filter(|fact| fact.what == What::Declined) {
                seen += 1;
                if fact.provider_code.as_deref().is_none_or(str::is_empty) {
                    findings.push(Finding::new(&stop.at, "it is declined without a provider_code"));
                } else if fact.class.is_none() {
                    findings.push(Finding::new(&stop.at, "it is declined without a class"));
                }
            }
        }
    }
    if seen == 0 {
        return Verdict::Skipped("no example shows a refusal".into());
    }
    findings.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_an_answer_is_changed_once_in_each_way() {
        let forms = damaged(br#"{"a":{"b/c":"paid"},"d":[1]}"#);
        let text: Vec<String> =
            forms.iter().map(|(_, b)| String::from_utf8_lossy(b).into_owned()).collect();
        assert_eq!(text.len(), 6);
        assert!(text.contains(&r#"{"a":{"b/c":"zzz"},"d":[1]}"#.to_owned()));
        assert!(text.contains(&r#"{"a":{},"d":[1]}"#.to_owned()));
        assert!(text.contains(&r#"{"a":{"b/c":"paid"},"d":[null]}"#.to_owned()));
        assert_eq!(forms[0].0, "with \"/a/b~1c\" being \"zzz\"");
    }

    #[test]
    fn a_form_is_changed_word_by_word() {
        let forms = damaged(b"state=paid&id=7");
        let text: Vec<String> =
            forms.iter().map(|(_, b)| String::from_utf8_lossy(b).into_owned()).collect();
        assert_eq!(
            text,
            ["zzz=paid&id=7", "state=zzz&id=7", "state=paid&zzz=7", "state=paid&id=zzz"]
        );
    }
}
