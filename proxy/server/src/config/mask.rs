//! Blots out every secret in the text of a configuration before any of it is quoted.
//!
//! The rule is a list of what may be shown, not of what may not: inside `[merchants]` and
//! `[accounts]` a value is quoted only under a key that is known to be harmless, so a secret under
//! a misspelt key stays hidden too. References such as `${env:NAME}` are names, and are shown.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::secret::Reference;

/// The tables in which nothing secret is ever written.
const HARMLESS_TABLES: [&str; 6] =
    ["server", "routes", "breaker", "inquiry", "failover_budget", "telemetry"];

/// The keys of an account or merchant whose values may be quoted.
const HARMLESS_KEYS: [&str; 23] = [
    "plugin",
    "endpoints",
    "ca",
    "client_cert",
    "client_key",
    "spki",
    "timeout",
    "connect_timeout",
    "limit",
    "in_flight",
    "breaker",
    "failure_domain",
    "maintenance",
    "hang_after",
    "slow_start",
    "adaptive_limit",
    "conversion",
    "late_window",
    "contract",
    "auto_refund",
    "isolation",
    "late_success",
    "instant_switch",
];

/// Words in the name of a plain setting after which its value is not quoted.
const TELLTALES: [&str; 5] = ["secret", "private", "password", "token", "key"];

/// The text with stars in the place of secrets; bytes keep their places.
pub(super) fn mask(text: &str, root: &DeTable<'_>) -> String {
    let mut hidden = Vec::new();
    for (key, value) in root.iter() {
        let key = key.get_ref().as_ref();
        let things = value.get_ref().as_table().filter(|_| matches!(key, "merchants" | "accounts"));
        match things {
            Some(things) => things.iter().for_each(|(_, thing)| {
                in_thing(thing.get_ref(), thing.span(), &mut hidden);
            }),
            None if key == "admin" => in_admin(value.get_ref(), value.span(), &mut hidden),
            None if HARMLESS_TABLES.contains(&key) => {
                credentials(value.get_ref(), value.span(), &mut hidden);
            }
            None => leaves(value.get_ref(), value.span(), &mut hidden),
        }
    }
    star(text, &hidden)
}

/// The same for a text that is no TOML, by its lines: only known harmless ones are quoted.
pub(super) fn mask_unparsed(text: &str) -> String {
    let mut hidden = Vec::new();
    let mut harmless_table = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let place = at..at + line.trim_end().len();
        at = place.start + line.len();
        let content = line.trim();
        if content.starts_with('[') {
            let name = content.trim_start_matches('[');
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            harmless_table = HARMLESS_TABLES.contains(&&name[..end.unwrap_or(name.len())]);
            if harmless_table || header(content) {
                continue;
            }
        } else if harmless_table || content.is_empty() {
            continue;
        }
        let shown = match line.split_once('=') {
            Some((key, _)) if HARMLESS_KEYS.contains(&key.trim()) => continue,
            Some((key, _)) if matches!(key.trim(), "api_key" | "secrets" | "config" | "key") => {
                let value = &line[key.len() + 1..];
                key.len() + 1 + value.len() - value.trim_start().len()
            }
            _ => 0,
        };
        hidden.push(place.start + shown.min(place.len())..place.end);
    }
    star(text, &hidden)
}

fn in_thing(thing: &DeValue<'_>, place: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let Some(thing) = thing.as_table() else { return leaves(thing, place, hidden) };
    for (key, value) in thing.iter() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("config" | "endpoints", DeValue::Table(settings)) => {
                for (name, value) in settings.iter() {
                    let name = name.get_ref().to_ascii_lowercase();
                    if TELLTALES.iter().any(|word| name.contains(word)) {
                        leaves(value.get_ref(), value.span(), hidden);
                    } else {
                        credentials(value.get_ref(), value.span(), hidden);
                    }
                }
            }
            ("keys", DeValue::Table(keys)) => in_keys(keys, "scopes", hidden),
            (known, value_of) if HARMLESS_KEYS.contains(&known) => {
                credentials(value_of, value.span(), hidden);
            }
            (_, value_of) => leaves(value_of, value.span(), hidden),
        }
    }
}

/// Named keys; of each, one value may be quoted. A hash is not: somebody may have put a key there.
fn in_keys(keys: &DeTable<'_>, shown: &str, hidden: &mut Vec<Range<usize>>) {
    for (_, key) in keys.iter() {
        match key.get_ref().as_table() {
            Some(members) => members
                .iter()
                .filter(|(name, _)| name.get_ref() != shown)
                .for_each(|(_, value)| leaves(value.get_ref(), value.span(), hidden)),
            None => leaves(key.get_ref(), key.span(), hidden),
        }
    }
}

fn in_admin(admin: &DeValue<'_>, place: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let Some(admin) = admin.as_table() else { return leaves(admin, place, hidden) };
    for (key, value) in admin.iter() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("tokens", DeValue::Table(tokens)) => in_keys(tokens, "role", hidden),
            ("tls" | "hosts" | "plaintext", value_of) => {
                credentials(value_of, value.span(), hidden);
            }
            (_, value_of) => leaves(value_of, value.span(), hidden),
        }
    }
}

fn leaves(value: &DeValue<'_>, place: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(t) => t.iter().for_each(|(_, v)| leaves(v.get_ref(), v.span(), hidden)),
        DeValue::Array(a) => a.iter().for_each(|v| leaves(v.get_ref(), v.span(), hidden)),
        DeValue::String(s)
            if matches!(Reference::of(s), Reference::Env(_) | Reference::File(_)) => {}
        _ => hidden.push(place),
    }
}

/// Addresses such as `https://name:password@host` stand in harmless places.
fn credentials(value: &DeValue<'_>, place: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Table(t) => t.iter().for_each(|(_, v)| credentials(v.get_ref(), v.span(), hidden)),
        DeValue::Array(a) => a.iter().for_each(|v| credentials(v.get_ref(), v.span(), hidden)),
        DeValue::String(s) if s.contains("://") && s.contains('@') => hidden.push(place),
        _ => {}
    }
}

fn header(line: &str) -> bool {
    line.bytes().all(|b| b.is_ascii_alphanumeric() || b"[]._- \"'".contains(&b))
}

fn star(text: &str, hidden: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for place in hidden {
        let place = place.start.min(bytes.len())..place.end.min(bytes.len());
        let quoted = |b: u8| b == b'"' || b == b'\'';
        let inner = match &bytes[place.clone()] {
            [first, .., last] if quoted(*first) && first == last => place.start + 1..place.end - 1,
            _ => place,
        };
        // Line breaks stay, so that every line keeps its number.
        bytes[inner].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b'*');
    }
    String::from_utf8(bytes).expect("values begin and end on whole characters")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        mask(text, DeTable::parse(text).unwrap().get_ref())
    }

    #[test]
    fn secrets_are_blotted_out_wherever_a_key_was_misspelt() {
        for text in [
            "[merchants.m]\napi_key = \"sk_live\"\n",
            "[merchants.m]\napikey = \"sk_live\"\n",
            "merchants = { m = { api_key = 'sk_live' } }\n",
            "accounts.a.secrets.k = \"sk_live\"\n",
            "[accounts.a]\nsecrts = { k = \"sk_live\" }\n",
            "[acounts.a]\nplugin = \"sk_live\"\n",
            "[accounts.a.secrets]\nk = \"\"\"\nsk_live\n\"\"\"\n",
            "[accounts.a]\nconfig = { Private_Thing = \"sk_live\" }\n",
            "[accounts.a]\nendpoints = { api_key = \"sk_live\" }\n",
            "[accounts.a]\nendpoints = { api = \"https://x:sk_live@host\" }\n",
            "[server]\npublic_url = \"https://x:sk_live@host\"\n",
            "[merchants.m.keys.a]\nkey = \"sk_live\"\n",
            "[merchants.m.keys]\na = { hash = \"sk_live\" }\n",
            "[merchants.m]\nkeys = [\"sk_live\"]\n",
            "[admin.tokens.a]\ntoken = \"sk_live\"\n",
            "[admin.tokens]\na = \"sk_live\"\n",
            "[admin]\ntoken = \"sk_live\"\n",
            "admin = \"sk_live\"\n",
            "accounts = \"sk_live\"\n",
            "api_key = \"sk_live\"\n",
        ] {
            let shown = masked(text);
            assert!(!shown.contains("sk_live"), "{shown}");
            assert_eq!(shown.len(), text.len());
            assert_eq!(shown.lines().count(), text.lines().count());
        }
    }

    #[test]
    fn what_is_harmless_stays_readable() {
        let text = "[accounts.a]\nplugin = \"alipay\"\nsecrets = { k = \"${env:K}\" }\n";
        assert_eq!(masked(text), text);
        let text = "[admin.tokens.a]\nrole = \"lok\"\n[merchants.m.keys.a]\nscopes = [\"al\"]\n";
        assert_eq!(masked(text), text);
    }

    #[test]
    fn a_text_that_is_no_toml_hides_what_might_be_a_secret() {
        for text in [
            "[merchants.m]\napi_key = \"sk_live\n",
            "[merchants.m]\napi_key = sk_live\n",
            "[merchants.m]\nsk_live==\n",
            "[accounts.a]\nsecrets = { k = \"sk_live }\n",
            "[accounts.a]\nplugin = \"x\"\nsk_live/+[\n",
            "[sk_live+/=\n",
            "api_key = sk_live\n",
        ] {
            assert!(!mask_unparsed(text).contains("sk_live"), "{}", mask_unparsed(text));
        }
        let text = "[accounts.a]\ntimeout = \"3s\n[server]\nlisten = \"x\n";
        assert_eq!(mask_unparsed(text), text);
    }
}
