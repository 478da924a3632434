//! The contract: does the plugin do what its manifest says, and does that agree with itself?

use interlock_plugin_api::{
    Acts, CaptureMode, Effect, FaultKind, IdempotencyClass, Kind, Manifest, Next, Operation,
};
use interlock_plugin_host::{OpenError, StepError};
use serde_json::{Value, json};

use super::{Check, Group, LOADS, Verdict, is_fault};
use crate::asking::word;
use crate::report::Finding;
use crate::subject::Subject;

static GROUP: Group =
    Group { name: "contract", about: "loads, describes itself, offers what it declares" };

pub(super) static CHECKS: &[Check] = &[
    Check {
        name: LOADS,
        group: &GROUP,
        title: "it loads and opens for the account of the fixtures",
        why: "an account whose plugin does not open takes no payment.",
        fix: "see the message; settings and secrets of the test account are in \
              fixtures/account.toml.",
        run: |_, _| Verdict::Passed(None),
    },
    Check {
        name: "refuses-bad-settings",
        group: &GROUP,
        title: "a required setting that is missing is refused by its name",
        why: "a typing error in a configuration must be a message at the start, not a failed \
              payment at night.",
        fix: "in `open`, answer Fault::config(\"`NAME` is required\").",
        run: refuses_bad_settings,
    },
    Check {
        name: "offers",
        group: &GROUP,
        title: "every declared operation is there, and no other",
        why: "the router plans with the manifest: a refund or an inquiry that is declared and \
              absent leaves a customer's money where it is.",
        fix: "implement the operation, or take it out of `operations` in the manifest.",
        run: offers,
    },
    Check {
        name: "methods",
        group: &GROUP,
        title: "every method builds its first request, in every way of capture",
        why: "shoppers are offered what the manifest lists; one would choose it and fail.",
        fix: "build the request for this method, or take it out of `methods` in the manifest.",
        run: methods,
    },
    Check {
        name: "way-out",
        group: &GROUP,
        title: "an unknown outcome can be resolved, in every flow",
        why: "when an answer is lost somebody must find out whether the customer paid; without a \
              strong key, an inquiry or a close, that is a person with a telephone, and the \
              account can't take part in failover.",
        fix: "declare and implement an inquiry or a close, or declare a key's class `strong` if \
              the provider's documents promise it.",
        run: way_out,
    },
    Check {
        name: "declarations-agree",
        group: &GROUP,
        title: "operations and the ambiguity contract agree",
        why: "the engine asks, closes and sends again by the contract alone; what is declared and \
              can't be done leaves a payment in doubt.",
        fix: "make the manifest agree with itself.",
        run: declarations_agree,
    },
    Check {
        name: "ignores-unknown-fields",
        group: &GROUP,
        title: "fields that a later host adds are ignored",
        why: "a plugin that refuses what it does not know stops all its payments on the day when \
              the proxy is upgraded.",
        fix: "don't use `deny_unknown_fields` on what the host sends.",
        run: ignores_unknown_fields,
    },
];

fn refuses_bad_settings(s: &Subject, _: bool) -> Verdict {
    let required: Vec<&String> =
        s.asks.manifest.config.iter().filter(|(_, f)| f.required).map(|(name, _)| name).collect();
    if required.is_empty() {
        return Verdict::Skipped("the manifest has no required setting".into());
    }
    let mut findings = Vec::new();
    for name in required {
        let mut settings = s.asks.account.config.clone();
        settings.remove(name);
        let Ok(secrets) = s.asks.account.secrets(&s.asks.manifest) else { continue };
        let what = match s.open_for(&Value::Object(settings), secrets) {
            Err(OpenError::Fault { kind: FaultKind::Config, text }) if text.contains(name) => None,
            Err(OpenError::Fault { text, .. }) => Some(format!("the message says only: {text}")),
            Err(e) => Some(e.to_string()),
            Ok(_) => Some("the account was opened all the same".to_owned()),
        };
        findings.extend(what.map(|what| Finding::new(format!("without `{name}`"), what)));
    }
    findings.into()
}

const ALL: [Operation; 15] = [
    Operation::Authorize,
    Operation::Continue,
    Operation::Capture,
    Operation::Void,
    Operation::Refund,
    Operation::Inquire,
    Operation::InquireOperation,
    Operation::Close,
    Operation::ParseNotification,
    Operation::FetchKeys,
    Operation::DownloadStatement,
    Operation::ReadStatement,
    Operation::Probe,
    Operation::StartSession,
    Operation::OpenToken,
];

fn offers(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    let asked = s.asked();
    for op in ALL {
        let declared = s.asks.manifest.offers(op);
        let example = asked.iter().find(|asked| asked.envelope.op == op);
        let plain = s.asks.ask(String::new(), op, s.asks.request(op));
        let asked = example.unwrap_or(&plain);
        let mut envelope = asked.envelope.clone();
        if op == Operation::ParseNotification && example.is_none() {
            envelope.event = interlock_plugin_api::Event::Notification { headers: Vec::new() };
        }
        if op == Operation::ReadStatement && example.is_none() {
            envelope.event = interlock_plugin_api::Event::Piece { last: true };
        }
        let answer = s.step(&s.one, &envelope, &[], &asked.body);
        let absent = matches!(answer, Err(StepError::Fault { kind: FaultKind::Unsupported, .. }));
        let what = match (declared, absent, answer) {
            (true, true, _) => "it is declared, and the plugin says that it does not offer it",
            (false, false, Ok(_)) => "it is not declared, and the plugin does it",
            (_, _, Err(e)) if !is_fault(&e) => {
                findings.push(Finding::new(op.as_str(), e.to_string()));
                break;
            }
            _ => continue,
        };
        findings.push(Finding::new(op.as_str(), what));
    }
    findings.into()
}

fn methods(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    for asked in s.asked().iter().filter(|asked| asked.envelope.op == Operation::Authorize) {
        match s.step(&s.one, &asked.envelope, &[], &asked.body) {
            Ok(taken) => {
                let carried = s.asks.manifest.contract.is_by_shopper(&asked.envelope.request.flow);
                if let (Next::Done(_), false) = (&taken.next, carried) {
                    let what = "it ends before it sent anything, and its flow is not `by_shopper`";
                    findings.push(Finding::new(&asked.at, what));
                }
            }
            Err(e) => findings.push(Finding::new(&asked.at, e.to_string())),
        }
    }
    findings.into()
}

fn way_out(s: &Subject, _: bool) -> Verdict {
    if s.asks.manifest.kind != Kind::Processor {
        return Verdict::Skipped("a wallet moves no money".into());
    }
    let mut flows: Vec<&str> = s.asks.manifest.methods.iter().map(|m| m.flow.as_str()).collect();
    flows.dedup();
    let lost = flows.into_iter().filter(|flow| !s.asks.manifest.contract.can_resolve(flow));
    let what = "no key of class `strong`, no inquiry and no close is declared";
    lost.map(|flow| Finding::new(format!("flow {flow}"), what)).collect::<Vec<_>>().into()
}

fn declarations_agree(s: &Subject, _: bool) -> Verdict {
    let m = &s.asks.manifest;
    let mut findings = Vec::new();
    let mut say = |field: &str, what: String| {
        findings.push(Finding::new(format!("manifest `{field}`"), what));
    };
    for (declared, op, field) in [
        (m.contract.inquiry.possible(), Operation::Inquire, "contract.inquiry"),
        (
            m.contract.operation_inquiry.possible(),
            Operation::InquireOperation,
            "contract.operation_inquiry",
        ),
        (!m.contract.close.is_empty(), Operation::Close, "contract.close"),
    ] {
        match (declared, m.offers(op)) {
            (true, false) => say(field, format!("`operations` has no `{}`", op.as_str())),
            (false, true) => say(
                field,
                format!("`{}` is an operation, and nothing is declared of it", op.as_str()),
            ),
            _ => {}
        }
    }
    let manual = m.methods.iter().any(|method| method.capture.contains(&CaptureMode::Manual));
    for op in [Operation::Capture, Operation::Void] {
        if manual && !m.offers(op) {
            let name = op.as_str();
            say("methods", format!("capture may be manual, and there is no operation `{name}`"));
        }
    }
    for method in &m.methods {
        if let Acts::If(setting) = &method.acts
            && m.config.get(setting).is_none_or(|field| field.kind != "boolean")
        {
            let what = format!("`acts` depends on `{setting}`, which is no boolean of `config`");
            say("methods", what);
        }
    }
    let boolean = |flag: &String| m.config.get(flag).is_some_and(|field| field.kind == "boolean");
    for flag in m.methods.iter().filter_map(|method| method.needs.as_ref()) {
        if !boolean(flag) {
            say("methods", format!("`needs` names `{flag}`, which is no boolean of `config`"));
        }
    }
    for flow in m.contract.returning.iter().filter(|_| !m.offers(Operation::Continue)) {
        say("contract.returning", format!("flow {flow}, and there is no operation `continue`"));
    }
    strange_moves(m, &mut say);
    for currency in m.multiples.keys().filter(|c| !m.currencies.contains_key(c)) {
        say("multiples", format!("{currency} is no currency of the plugin's"));
    }
    findings.into()
}

fn strange_moves(m: &Manifest, say: &mut impl FnMut(&str, String)) {
    for (purpose, rule) in &m.contract.moves {
        let sends = m.contract.sends.iter().filter(|send| send.purpose == *purpose);
        if sends.clone().all(|send| send.effect == Effect::Read) {
            let what = format!("`{purpose}` is a read, so its key is worth nothing");
            say("contract.moves", what);
        }
        if rule.class != IdempotencyClass::None && rule.key_life_ms == 0 {
            let class = word(&rule.class);
            let what = format!(
                "`{purpose}` is {class} and has no `key_life_ms`, so nothing is ever sent again"
            );
            say("contract.moves", what);
        }
    }
}

fn ignores_unknown_fields(s: &Subject, _: bool) -> Verdict {
    let mut findings = Vec::new();
    for asked in s.asked() {
        let Ok(known) = s.step(&s.one, &asked.envelope, &[], &asked.body) else { continue };
        let Ok(mut later) = serde_json::to_value(&asked.envelope) else { continue };
        later["a_later_field"] = json!({ "deep": [1, 2] });
        later["request"]["a_later_field"] = json!("text");
        later["request"]["customer"]["a_later_field"] = json!(true);
        later["event"]["a_later_field"] = json!(7);
        let meta = later.to_string();
        match s.raw(&s.one, "a later host's envelope", [meta.as_bytes(), &[], &asked.body]) {
            Ok(parts) if parts == known.parts => {}
            Ok(_) => findings.push(Finding::new(&asked.at, "it gives another step for them")),
            Err(e) => findings.push(Finding::new(&asked.at, e.to_string())),
        }
    }
    findings.into()
}
