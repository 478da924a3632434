//! `interlock plugin inspect`: what a plugin says of itself, in words: above all, what it makes the
//! proxy believe when an answer is lost.

use interlock_plugin_api::{
    Close, Concurrency, Contract, Effect, IdempotencyClass, Inquiry, Kind, Manifest, MoveRule,
    NotFound,
};
use serde_json::json;

use super::output;
use crate::config::format_duration;
use interlock_plugin_host::Inspection;

/// A key that lives longer than ten years never ends for a payment, ms.
const FOR_EVER_MS: u64 = 10 * 365 * 24 * 3_600_000;
/// So many codes fit where people read.
const CODES_SHOWN: usize = 5;

/// Shows a file without running it.
pub fn show(found: &Inspection, as_json: bool) {
    let (major, minor) = found.abi;
    let hash = hex::encode(found.sha256);
    if as_json {
        output::json(&json!({
            "file": found.file, "bytes": found.bytes, "sha256": hash,
            "abi": format!("{major}.{minor}"), "manifest": found.manifest,
            "warnings": found.warnings,
        }));
        return;
    }
    output::line(format_args!("file      {} ({} bytes)", found.file, found.bytes));
    output::line(format_args!("sha256    {hash}"));
    output::line(format_args!("abi       {major}.{minor}"));
    for warning in &found.warnings {
        output::line(format_args!("warning   {warning}"));
    }
    let Some(manifest) = &found.manifest else {
        output::line(format_args!("manifest  can't be read without loading the plugin"));
        return;
    };
    for (word, text) in capabilities(manifest).into_iter().chain(contract(&manifest.contract)) {
        output::line(format_args!("{word:<9} {text}"));
    }
}

type Line = (&'static str, String);

fn capabilities(m: &Manifest) -> Vec<Line> {
    let mut lines = vec![("plugin", format!("{} {} ({})", m.id, m.version, m.name))];
    if m.kind == Kind::Wallet {
        lines.push(("kind", "opens wallets: always in a process of its own".into()));
    }
    let operations: Vec<&str> = m.operations.iter().map(|o| o.as_str()).collect();
    lines.push(("offers", operations.join(", ")));
    for method in &m.methods {
        let form = serde_json::to_value(method.credential).unwrap_or_default();
        let form = form.as_str().unwrap_or("-").to_owned();
        let only = method.needs.as_ref().map(|flag| format!(", with `{flag}`"));
        let only = only.unwrap_or_default();
        lines.push(("takes", format!("{} {} ({form}{only})", method.kind, method.flow)));
    }
    let currencies: Vec<String> = m.currencies.keys().map(ToString::to_string).collect();
    lines.push(("in", currencies.join(" ")));
    for (name, address) in &m.hosts {
        let others = m.alternatives.get(name).map_or(&[][..], Vec::as_slice);
        let others = others.iter().map(|url| format!(", else {url}")).collect::<String>();
        lines.push(("endpoint", format!("{name}, in production {address}{others}")));
    }
    let secrets: Vec<&str> = m.secrets.keys().map(String::as_str).collect();
    if !secrets.is_empty() {
        lines.push(("secrets", secrets.join(", ")));
    }
    if !m.optional_secrets.is_empty() {
        lines.push(("", format!("  may be left out: {}", m.optional_secrets.join(", "))));
    }
    for (name, grant) in &m.tokens {
        let at = format!("{} of {}", grant.path, grant.endpoint);
        lines.push(("token", format!("{name}, fetched by the proxy from {at}")));
    }
    for (name, ring) in &m.keyrings {
        let whose = match ring.common_names.is_empty() {
            true => "which the plugin vouches for".to_owned(),
            false => format!("with certificates of {}", ring.common_names.join(" or ")),
        };
        lines.push(("keys", format!("{name}, of the provider, {whose}")));
    }
    let mut states = m.continues.clone();
    states.push(m.state_version);
    let states: Vec<String> = states.iter().map(ToString::to_string).collect();
    lines.push(("finishes", format!("what version {} of its state began", states.join(", "))));
    lines
}

/// The ambiguity contract.
fn contract(c: &Contract) -> Vec<Line> {
    let mut lines = Vec::new();
    for send in &c.sends {
        let what = match send.effect {
            Effect::Read => "reads only",
            Effect::Offer => "makes an offer that can be paid once it is shown",
            Effect::Move => "may move money",
        };
        let query: Vec<String> = send.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let at = format!("{} {}{query}", send.method, send.path);
        lines.push(("send", format!("{} ({at}) {what}", send.purpose)));
        if send.effect != Effect::Read {
            let rule = c.move_rule(&send.purpose);
            lines.extend(key(&rule).into_iter().map(|text| ("", format!("  {text}"))));
        }
    }
    lines.push(("inquiry", format!("of payments: {}", inquiry(&c.inquiry))));
    lines.push(("", format!("of captures, voids, refunds: {}", inquiry(&c.operation_inquiry))));
    if c.close.is_empty() {
        lines.push(("close", "nothing can be closed".into()));
    }
    lines.extend(c.close.iter().map(|(flow, c)| ("close", format!("{flow}: {}", close(c)))));
    if let Some(expiry) = c.offer_expiry {
        let flows = match c.offer_expiry_flows.is_empty() {
            true => "every flow".to_owned(),
            false => c.offer_expiry_flows.join(", "),
        };
        let (after, margin) = (format_duration(expiry.after_ms), format_duration(expiry.margin_ms));
        let text = format!("of {flows} end by themselves after {after}, believed {margin} later");
        lines.push(("offers", text));
    }
    if !c.returning.is_empty() {
        let flows = c.returning.join(", ");
        lines.push(("returning", format!("{flows}: what was shown can't be paid without us")));
    }
    if !c.approving.is_empty() {
        let flows = c.approving.join(", ");
        lines.push(("approving", format!("{flows}: goes on as soon as the shopper approved")));
    }
    if !c.by_shopper.is_empty() {
        let flows = c.by_shopper.join(", ");
        let text = format!("{flows}: the shopper carries it, as often as he likes");
        lines.push(("carried", text));
    }
    let shown = &c.proof_codes[..c.proof_codes.len().min(CODES_SHOWN)];
    let codes = match c.proof_codes.len() - shown.len() {
        _ if shown.is_empty() => "no code proves that no money moved".to_owned(),
        0 => format!("no money moved after: {}", shown.join(", ")),
        more => format!("no money moved after: {}, and {more} more (--json)", shown.join(", ")),
    };
    lines.push(("proof", codes));
    let window = format_duration(c.late_window_ms);
    lines.push(("window", format!("a request may arrive {window} late")));
    lines
}

/// What the key of a move is worth.
fn key(rule: &MoveRule) -> Vec<String> {
    let remembers = match rule.class {
        IdempotencyClass::Strong => "remembers every outcome",
        IdempotencyClass::SuccessOnly => "remembers only a success",
        IdempotencyClass::None => return vec!["no key: never sent again".to_owned()],
    };
    if rule.key_life_ms == 0 {
        return vec![format!("its key {remembers}, nobody says for how long: never sent again")];
    }
    let life = match rule.key_life_ms {
        FOR_EVER_MS.. => "for ever".to_owned(),
        ms => format!("for {}", format_duration(ms)),
    };
    let copies = match rule.concurrency {
        Concurrency::Excluded => "copies never run side by side",
        Concurrency::Undeclared => "copies may run side by side",
    };
    let mut lines = vec![format!("its key {remembers} {life}; {copies}")];
    let mut again = Vec::new();
    if rule.resend_after_silence_only {
        again.push("after no answer at all".to_owned());
    }
    if !rule.resend_codes.is_empty() {
        again.push(format!("after {}", rule.resend_codes.join(", ")));
    }
    if rule.resend_after_ms > 0 {
        again.push(format!("not sooner than {}", format_duration(rule.resend_after_ms)));
    }
    if !again.is_empty() {
        lines.push(format!("sent again only {}", again.join(", ")));
    }
    if rule.class == IdempotencyClass::SuccessOnly && !rule.never_asynchronous {
        lines.push("may be accepted for later, so a failure heard now is not the end".to_owned());
    }
    if rule.refusal_kept {
        lines.push("a refusal is kept under the key: another try needs a new number".to_owned());
    }
    if rule.refusal_final {
        lines.push("a refusal ends the payment: what was shown can't be paid after it".to_owned());
    }
    lines
}

fn inquiry(i: &Inquiry) -> String {
    let asked = match (i.by_our_reference, i.by_provider_reference) {
        (true, true) => "by our number or the provider's",
        (true, false) => "by our number",
        (false, true) => "by the provider's number only",
        (false, false) => return "not possible".into(),
    };
    let not_found = match i.not_found {
        NotFound::AfterFence => "believed after the late window",
        NotFound::Undeclared => "never believed",
    };
    format!("{asked}; \"not found\" is {not_found}")
}

fn close(c: &Close) -> String {
    let refund = if c.may_refund { "may give back what was paid" } else { "never refunds" };
    let late = if c.tombstone { "a late create is refused" } else { "a late create may pass" };
    let mut text = format!("{refund}; {late}");
    if c.repeatable {
        text += "; may be repeated";
    }
    if c.needs_provider_reference {
        text += "; needs the provider's number";
    }
    if c.min_age_ms > 0 {
        text += &format!("; not before {}", format_duration(c.min_age_ms));
    }
    text
}
