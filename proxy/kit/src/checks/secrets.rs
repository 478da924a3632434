//! Secrets: does anything that must stay one end where it is logged, shown or kept?

use interlock_plugin_api::{Event, Next, SecretKind};
use serde_json::json;

use super::{Check, Group, Verdict, facts};
use crate::asking::canaries;
use crate::report::Finding;
use crate::subject::{Subject, Taken};

static GROUP: Group =
    Group { name: "secrets", about: "no secret in an address, a continuation, a fact or an error" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "placeholders-in-headers",
        group: &GROUP,
        title: "secrets are named in headers only, and every name is declared",
        why: "addresses are logged by everybody on the way; a placeholder in a body or a path is \
              sent as it is, and the provider refuses every payment.",
        fix: "put {secret:NAME} into a header's value, and declare NAME as `header` in `secrets`.",
        run: placeholders,
    },
    Check {
        name: "credential-only-in-body",
        group: &GROUP,
        title: "a card, a code or a token stands in a request's body and nowhere else",
        why: "continuations are written to disk, addresses and facts to logs; a card number there \
              is a breach that must be reported.",
        fix: "keep credentials out of `State`, paths, queries, headers and facts.",
        run: credential,
    },
    Check {
        name: "errors-are-fixed-texts",
        group: &GROUP,
        title: "no error text repeats what the plugin was given",
        why: "error texts are logged.",
        fix: "use fixed texts; a Fault of the Rust kit can hold no other.",
        run: errors,
    },
];

fn placeholders(s: &Subject, _: bool) -> Verdict {
    const OPEN: &str = "{secret:";
    let mut findings = Vec::new();
    let mut seen = 0;
    let mut look = |at: &str, taken: &Taken| {
        let Next::Send(send) = &taken.next else { return };
        seen += 1;
        let mut say = |what: String| findings.push(Finding::new(at, what));
        let query = send.query.iter().flat_map(|(name, value)| [name, value]);
        if std::iter::once(&send.path).chain(query).any(|text| text.contains(OPEN)) {
            say("a placeholder stands in the path or the query".into());
        }
        if String::from_utf8_lossy(&taken.parts.body).contains(OPEN) {
            say("a placeholder stands in the body, where it is not replaced".into());
        }
        for (header, value) in &send.headers {
            for rest in value.split(OPEN).skip(1) {
                let name = rest.split('}').next().unwrap_or_default();
                match s.asks.manifest.secrets.get(name) {
                    Some(SecretKind::Header) => {}
                    Some(_) => say(format!("header {header}: the secret `{name}` is no `header`")),
                    None => say(format!("header {header}: no secret `{name}` is declared")),
                }
            }
        }
    };
    for asked in s.asked() {
        if let Ok(taken) = s.step(&s.one, &asked.envelope, &[], &asked.body) {
            look(&asked.at, &taken);
        }
    }
    for walk in s.walks() {
        walk.stops.iter().skip(1).for_each(|stop| look(&stop.at, &stop.taken));
    }
    if seen == 0 {
        return Verdict::Skipped("nothing is sent".into());
    }
    findings.into()
}

fn credential(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for asked in s.asked() {
        let request = &asked.envelope.request;
        if request.credential.is_none() {
            continue;
        }
        seen += 1;
        let secret = canaries(request.credential.as_ref());
        let Ok(first) = s.step(&s.one, &asked.envelope, &[], &asked.body) else { continue };
        look(&asked.at, &secret, &first, &mut findings);
        // What an answer repeats of it must not be passed on either.
        let canary = secret.first().cloned().unwrap_or_default();
        let body = json!({ "status": canary, "code": canary, "error": { "code": canary } });
        let body = body.to_string();
        for status in [200, 201, 400, 422, 500] {
            let mut envelope = asked.envelope.clone();
            envelope.event = Event::Response { status, headers: Vec::new() };
            let state = &first.parts.state;
            let Ok(second) = s.step(&s.one, &envelope, state, body.as_bytes()) else { continue };
            let at = format!("{}, answered {status} with its own data", asked.at);
            let told = serde_json::to_string(facts(&second)).unwrap_or_default();
            if secret.iter().any(|canary| told.contains(canary)) {
                findings.push(Finding::new(at, "a fact repeats the credential"));
            }
        }
    }
    for walk in s.walks() {
        let secret = canaries(walk.stops[0].envelope.request.credential.as_ref());
        walk.stops.iter().for_each(|stop| look(&stop.at, &secret, &stop.taken, &mut findings));
    }
    if seen == 0 {
        return Verdict::Skipped("no method takes a credential".into());
    }
    findings.into()
}

/// Looks for a credential where it must not be.
fn look(at: &str, secret: &[String], taken: &Taken, findings: &mut Vec<Finding>) {
    let holds = |text: &str| secret.iter().any(|canary| text.contains(canary.as_str()));
    let mut say = |what: &str| findings.push(Finding::new(at, what));
    if holds(&String::from_utf8_lossy(&taken.parts.state)) {
        say("the continuation holds the credential");
    }
    match &taken.next {
        Next::Send(send) => {
            if holds(&send.path) || send.query.iter().any(|(n, v)| holds(n) || holds(v)) {
                say("the path or the query holds the credential");
            }
            if send.headers.iter().any(|(_, value)| holds(value)) {
                say("a header holds the credential");
            }
        }
        Next::Done(done) => {
            if holds(&serde_json::to_string(&done.facts).unwrap_or_default()) {
                say("a fact holds the credential");
            }
        }
    }
}

fn errors(s: &Subject, _: bool) -> Verdict {
    const CANARY: &str = "KITerrorCANARY";
    let mut findings = Vec::new();
    let mut look = |at: &str, what: String| {
        if what.contains(CANARY) {
            findings.push(Finding::new(at, "its error text repeats what it was given"));
        }
    };
    for asked in s.asked() {
        let mut envelope = asked.envelope.clone();
        // Values that are likely to be refused.
        envelope.request.op_id = format!("{CANARY}-not-a-number-of-ours/..");
        envelope.request.flow = CANARY.into();
        envelope.request.description = Some(CANARY.repeat(40));
        envelope.request.amount.amount = -1;
        if let Err(e) = s.step(&s.one, &envelope, &[], CANARY.as_bytes()) {
            look(&asked.at, e.to_string());
        }
        let state = format!("{{\"{CANARY}\":1}}");
        if let Err(e) = s.step(&s.one, &asked.envelope, state.as_bytes(), CANARY.as_bytes()) {
            look(&asked.at, e.to_string());
        }
        let mut envelope = asked.envelope.clone();
        envelope.event = Event::Response { status: 200, headers: Vec::new() };
        let body = format!("{{\"message\":\"{CANARY}\"");
        let first = s.step(&s.one, &asked.envelope, &[], &asked.body);
        let state = first.map(|taken| taken.parts.state).unwrap_or_default();
        if let Err(e) = s.step(&s.one, &envelope, &state, body.as_bytes()) {
            look(&asked.at, e.to_string());
        }
    }
    let settings = json!({ "an_unknown_setting": CANARY });
    if let Ok(secrets) = s.asks.account.secrets(&s.asks.manifest)
        && let Err(e) = s.open_for(&settings, secrets)
    {
        look("open", e.to_string());
    }
    findings.into()
}
