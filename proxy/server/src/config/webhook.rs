//! Reads a merchant's `webhook`: where it is told of its payments, and what signs what it is told.

use super::diagnostic::Diagnostic;
use super::reader::{Table, Value, quoted};
use super::words::format_duration;
use super::{Secret, account};
use crate::webhooks::Key;

const SECOND: u64 = 1_000;
const HOUR: u64 = 60 * 60 * SECOND;
/// The ladder of Standard Webhooks: the waits after the first try, the second, and so on, ms.
const LADDER_MS: [u64; 9] = [
    5 * SECOND,
    5 * 60 * SECOND,
    30 * 60 * SECOND,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
];
/// Tries of one message at most.
const WAITS_MAX: usize = 32;

/// Where a merchant is told of its payments.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// The address that messages are sent to.
    pub url: String,
    /// What signs them, `whsec_` and base64: the key, and the old one while keys rotate.
    pub keys: Vec<Secret>,
    /// Loopback addresses may be told, without TLS too; for development and tests.
    pub allow_loopback: bool,
    /// How long one try may take, ms.
    pub timeout_ms: u64,
    /// The waits between tries, ms, in order; after the last one the message is given up.
    pub retry_ms: Vec<u64>,
}

pub(super) fn webhook_of(value: &Value<'_>) -> Option<Webhook> {
    let table = value.table()?;
    let allow_loopback = table.switch("allow_loopback", false);
    let written = table.need("url", "write `url = \"https://shop.example/interlock\"`");
    let url = written.and_then(|v| address(&v, allow_loopback));
    let example = "write `key = \"${env:NAME}\"`, a `whsec_...` of at least 24 random bytes";
    let key = table.need("key", example).and_then(|v| key_of(&v));
    let old = table.get("old_key").map(|v| key_of(&v));
    let timeout_ms = table.duration("timeout", SECOND..=30 * SECOND, 20 * SECOND);
    let retry_ms = waits(&table);
    table.finish(&[]);
    let old = match old {
        Some(None) => return None,
        Some(key) => key,
        None => None,
    };
    let keys = std::iter::once(key?).chain(old).collect();
    Some(Webhook { url: url?, keys, allow_loopback, timeout_ms, retry_ms: retry_ms? })
}

/// The address itself may have a query; its scheme, host and credentials are judged as those of
/// every other address.
fn address(value: &Value<'_>, allow_loopback: bool) -> Option<String> {
    let text = value.text()?;
    let (base, _) = text.split_once('?').unwrap_or((text, ""));
    account::check_address(value, base)?;
    if !allow_loopback && account::is_loopback(base) {
        let finding = Diagnostic::error("C066", format!("`{}` is on this machine", value.path))
            .label("a loopback address")
            .help("write an address of the shop, or `allow_loopback = true` for development")
            .note("messages are never sent to loopback, private or other special addresses");
        return value.refuse(finding);
    }
    Some(text.to_owned())
}

fn key_of(value: &Value<'_>) -> Option<Secret> {
    let key = value.secret()?;
    if Key::parse(key.expose()).is_some() {
        return Some(key);
    }
    let text = format!("`{}` cannot sign webhooks", value.path);
    let finding = Diagnostic::error("C013", text)
        .label("not `whsec_` and base64 of 24 to 64 bytes")
        .help("make one: `echo whsec_$(openssl rand -base64 32)`");
    value.refuse(finding)
}

fn waits(table: &Table<'_>) -> Option<Vec<u64>> {
    let ladder: Vec<String> = LADDER_MS.iter().map(|ms| quoted(&format_duration(*ms))).collect();
    table.default("retry", format!("[{}]", ladder.join(", ")));
    let Some(written) = table.get("retry") else { return Some(LADDER_MS.to_vec()) };
    let waits = written.list()?;
    if waits.len() > WAITS_MAX {
        let text = format!("`{}` holds more than {WAITS_MAX} waits", written.path);
        return written.refuse(Diagnostic::error("C009", text));
    }
    waits.iter().map(|v| v.duration(10..=7 * 24 * HOUR)).collect()
}
