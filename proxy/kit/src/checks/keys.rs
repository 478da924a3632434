//! Keys: does our number reach the provider, so that a copy is recognized there?

use interlock_plugin_api::{IdempotencyClass, Next, Operation, Send};

use super::{Check, Group, Verdict};
use crate::asking::{OP_ID, PAYMENT_ID};
use crate::report::Finding;
use crate::subject::{Stop, Subject, Taken};

static GROUP: Group =
    Group { name: "keys", about: "our number reaches the provider, the same in every copy" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: "key-in-every-move",
        group: &GROUP,
        title: "a payment carries our number, and so does every request whose key is declared",
        why: "without it the provider can't recognize a copy, and an inquiry has nothing to ask \
              for: a lost answer becomes a second charge or a payment nobody finds.",
        fix: "put `r.op_id` where the provider reads its idempotency key or its order number.",
        run: in_every_move,
    },
    Check {
        name: "key-of-this-operation",
        group: &GROUP,
        title: "two operations have two keys",
        why: "under the key of the first the provider answers the second with the first one's \
              result: the second is never paid, or a refund never made.",
        fix: "use the `op_id` of this request, and nothing that stays the same.",
        run: of_this_operation,
    },
    Check {
        name: "copy-is-a-copy",
        group: &GROUP,
        title: "a request that is built again later has the same key, path and body",
        why: "a provider that remembers the key refuses another body under it, and one that finds \
              another key charges again.",
        fix: "take times from `cx.made_ms` and randomness from `cx.entropy`; `cx.now_ms` is for \
              the time stamps of authentication alone.",
        run: copies,
    },
];

fn text(taken: &Taken) -> String {
    let meta = match &taken.next {
        Next::Send(send) => everything(send),
        Next::Done(_) => String::new(),
    };
    format!("{meta}\n{}", String::from_utf8_lossy(&taken.parts.body))
}

fn everything(send: &Send) -> String {
    let pairs = send.query.iter().chain(&send.headers);
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}\n{}", send.path, pairs.join("\n"))
}

fn in_every_move(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for stop in s.moves() {
        let Next::Send(send) = &stop.taken.next else { continue };
        if is_keyless(s, stop.envelope.op, send, &stop.taken.parts.body) {
            continue;
        }
        seen += 1;
        let ours = &stop.envelope.request.op_id;
        if !text(&stop.taken).contains(ours) {
            let what = format!("{} {} has no {ours} in it", send.method, send.path);
            findings.push(Finding::new(&stop.at, what));
        }
    }
    if seen == 0 {
        return Verdict::Skipped("nothing that may move money could be built".into());
    }
    findings.into()
}

/// A change of a known payment may have no key, if none is declared: then it is never sent again.
/// A payment itself needs our number, for without it nothing can be asked about.
fn is_keyless(s: &Subject, op: Operation, send: &Send, body: &[u8]) -> bool {
    let purpose = s.judge(op, send, body).map(|classified| classified.purpose);
    let class = purpose.map(|purpose| s.asks.manifest.contract.move_rule(&purpose).class);
    op != Operation::Authorize && class == Ok(IdempotencyClass::None)
}

fn of_this_operation(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let mut seen = 0;
    for stop in s.moves() {
        let Stop { at, envelope: asked, state, body, taken } = &stop;
        let Next::Send(send) = &taken.next else { continue };
        let closes = asked.op == Operation::Close;
        if !closes && is_keyless(s, asked.op, send, &taken.parts.body) {
            continue;
        }
        let ours = &asked.request.op_id;
        let other = if ours == OP_ID { "KITsecond0000000000000000000001" } else { OP_ID };
        let mut envelope = asked.clone();
        envelope.request.op_id = other.into();
        // A close goes by the payment's own number.
        if let (Operation::Close, Some(original)) = (envelope.op, &mut envelope.request.original) {
            original.op_id = other.into();
        }
        let Ok(second) = s.step(&s.one, &envelope, state, body) else { continue };
        seen += 1;
        let (first, second) = (text(taken), text(&second));
        if first == second {
            findings.push(Finding::new(at, "the request of another operation is the same"));
        } else if second.contains(ours.as_str()) && ours != PAYMENT_ID {
            let what = format!("the request of {other} still has {ours} in it");
            findings.push(Finding::new(at, what));
        }
    }
    if seen == 0 {
        return Verdict::Skipped("nothing that may move money could be built".into());
    }
    findings.into()
}

fn copies(s: &Subject, _: bool) -> Verdict {
    const LATER_MS: i64 = 91_000;
    let mut findings = Vec::new();
    let mut seen = 0;
    for stop in s.moves() {
        let Stop { at, envelope: asked, state, body, taken } = &stop;
        let mut envelope = asked.clone();
        envelope.now_ms += LATER_MS;
        let Ok(copy) = s.step(&s.two, &envelope, state, body) else { continue };
        seen += 1;
        let (Next::Send(first), Next::Send(second)) = (&taken.next, &copy.next) else { continue };
        let keys = |send: &Send| {
            let named = |name: &str| name.to_ascii_lowercase().contains("idempoten");
            let ours = |(name, value): &&(String, String)| {
                named(name) || value.contains(&asked.request.op_id)
            };
            send.headers.iter().filter(ours).cloned().collect::<Vec<_>>()
        };
        let what = if first.path != second.path || first.method != second.method {
            "its path is another one"
        } else if keys(first) != keys(second) {
            "its key is another one"
        } else if taken.parts.body != copy.parts.body {
            "its body is another one"
        } else {
            continue;
        };
        let what = format!("{what} when it is built {} s later", LATER_MS / 1000);
        findings.push(Finding::new(at, what));
    }
    if seen == 0 {
        return Verdict::Skipped("nothing that may move money could be built".into());
    }
    findings.into()
}
