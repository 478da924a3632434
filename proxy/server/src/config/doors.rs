//! Reads who may come in and how: `[server.tls]`, `[admin]`, and the keys of merchants.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Origin};
use super::reader::{Table, Value};
use super::sections::good_name;
use super::{Admin, Server};
use crate::access::{Credential, Hash, Operator, Proof, Role, Scope};
use crate::front_door::{TlsFiles, TlsOptions};

const SECOND: u64 = 1_000;
const HASH_HELP: &str = "`interlock merchant key` prints a new key and its hash";

/// `[server.tls]` or `[admin.tls]`.
pub(super) fn tls_of(table: Table<'_>) -> Option<TlsOptions> {
    let mut certificates = Vec::new();
    let example = "write `certificates = [{ certificate = \"chain.pem\", key = \"key.pem\" }]`";
    let listed = table.need("certificates", example).and_then(|v| v.list());
    for value in listed.iter().flatten() {
        let Some(pair) = value.table() else { continue };
        let certificate = pair.need("certificate", example).and_then(|v| v.file_path());
        let key = pair.need("key", example).and_then(|v| v.file_path());
        pair.finish(&[]);
        if let (Some(certificate), Some(key)) = (certificate, key) {
            certificates.push(TlsFiles { certificate, key });
        }
    }
    let timeout_ms = table.duration("handshake_timeout", 100..=60 * SECOND, 5 * SECOND);
    let options = TlsOptions {
        certificates,
        client_ca: table.get("client_ca").and_then(|v| v.file_path()),
        handshake_timeout: Duration::from_millis(timeout_ms),
        handshakes: table.number("handshakes", 1..=100_000, 256) as usize,
    };
    table.finish(&[]);
    (!options.certificates.is_empty()).then_some(options)
}

/// `[admin]`: everything about the operators' door but its address.
pub(super) fn admin_of(table: Option<Table<'_>>) -> Admin {
    let Some(table) = table else { return Admin::default() };
    let mut admin = Admin {
        tls: table.get("tls").and_then(|v| v.table()).and_then(tls_of),
        plaintext: table.switch("plaintext", false),
        ..Admin::default()
    };
    for value in table.get("hosts").and_then(|v| v.list()).iter().flatten() {
        admin.hosts.extend(value.text().map(str::to_ascii_lowercase));
    }
    let tokens = table.get("tokens").and_then(|v| v.table());
    for (name, value) in tokens.iter().flat_map(Table::names) {
        good_name(table.sink, name, &value.key);
        admin.operators.extend(value.table().and_then(|table| operator_of(name, table)));
    }
    table.finish(&[]);
    admin
}

fn operator_of(name: &str, table: Table<'_>) -> Option<Operator> {
    let roles = [("look", Role::Look), ("act", Role::Act)];
    let role = table.need("role", "write `role = \"look\"` or `role = \"act\"`");
    let role = role.and_then(|v| v.word(&roles));
    let plain = table.get("token").and_then(|v| key_of(name, &v));
    let hash = table.get("hash").and_then(|v| hash_of(&v));
    let place = table.place.clone();
    let sink = table.sink;
    table.finish(&[]);
    match (plain, hash) {
        (Some(token), None) | (None, Some(token)) => {
            Some(Operator { name: name.to_owned(), token, role: role? })
        }
        _ => {
            let text = format!("token `{name}` needs `hash` or `token`, and not both");
            sink.report(Diagnostic::error("C070", text).help(HASH_HELP), place);
            None
        }
    }
}

/// Off loopback the operators' door needs tokens, and TLS or a word that it is not wanted.
pub(super) fn closed_to_strangers(server: &Server, admin: &Admin, written: &Value<'_>) {
    if server.admin.ip().is_loopback() {
        return;
    }
    let refuse = |text: &str, help: &str| {
        let finding = Diagnostic::error("C012", text).label("reachable from other machines");
        let note = "who reaches it can drain accounts and settle payments in doubt";
        written.refuse::<()>(finding.help(help).note(note));
    };
    if admin.operators.is_empty() {
        refuse(
            "the admin door may open off loopback only with tokens",
            "write `admin = \"127.0.0.1:9700\"`, or add `[admin.tokens.NAME]`; \
             `interlock merchant key` prints a new token and its hash",
        );
    } else if admin.tls.is_none() && !admin.plaintext {
        refuse(
            "tokens would cross the network in clear",
            "add `[admin.tls]`, or write `admin.plaintext = true` where the network encrypts",
        );
    }
}

/// The keys of a merchant: `api_key`, which may do everything, and `[merchants.NAME.keys.KEY]`.
pub(super) fn credentials_of(
    name: &str,
    table: &Table<'_>,
    origin: &mut Origin,
) -> Option<Vec<Credential>> {
    let all = Scope::WORDS.map(|(_, scope)| scope).to_vec();
    let mut credentials = Vec::new();
    let mut good = true;
    let api_key = table.get("api_key");
    if let Some(written) = &api_key {
        origin.note("api_key", written.place.clone());
        match key_of(name, written) {
            Some(hash) => credentials.push(Credential {
                name: "api_key".to_owned(),
                proof: Proof::Key(hash),
                scopes: all.clone(),
            }),
            None => good = false,
        }
    }
    let keys = table.get("keys").and_then(|v| v.table());
    for (key, value) in keys.iter().flat_map(Table::names) {
        origin.note(format!("keys.{key}"), value.key.clone());
        good &= good_name(table.sink, key, &value.key);
        match value.table().and_then(|t| credential_of(key, t, &all)) {
            Some(credential) => credentials.push(credential),
            None => good = false,
        }
    }
    if good && credentials.is_empty() {
        let text = format!("merchant `{name}` needs `api_key` or a key");
        let finding = Diagnostic::error("C004", text).help(
            "write `api_key = \"${env:NAME}\"`, or `[merchants.NAME.keys.KEY]` with its `hash`",
        );
        table.sink.report(finding, table.place.clone());
    }
    (good && !credentials.is_empty()).then_some(credentials)
}

fn credential_of(name: &str, table: Table<'_>, all: &[Scope]) -> Option<Credential> {
    let plain = table.get("key").map(|v| key_of(name, &v).map(Proof::Key));
    let hash = table.get("hash").map(|v| hash_of(&v).map(Proof::Key));
    let certificate = table.get("client_cert").map(|v| hash_of(&v).map(Proof::Certificate));
    let scopes = match table.get("scopes") {
        None => Some(all.to_vec()),
        Some(written) => {
            let words = written.list();
            words.map(|words| words.iter().filter_map(|v| v.word(&Scope::WORDS)).collect())
        }
    };
    let place = table.place.clone();
    let sink = table.sink;
    table.finish(&[]);
    let mut proofs = [plain, hash, certificate].into_iter().flatten();
    let (Some(proof), None) = (proofs.next(), proofs.next()) else {
        let text = format!("key `{name}` needs one of `hash`, `key` and `client_cert`");
        sink.report(Diagnostic::error("C070", text).help(HASH_HELP), place);
        return None;
    };
    Some(Credential { name: name.to_owned(), proof: proof?, scopes: scopes? })
}

/// A key in clear, by reference or written.
fn key_of(name: &str, written: &Value<'_>) -> Option<Hash> {
    let key = written.secret()?;
    let long = key.expose().len() >= 8;
    let plain = key.expose().bytes().all(|b| b.is_ascii_graphic());
    if !(long && plain) {
        let finding = Diagnostic::error("C013", format!("the key of `{name}` cannot be used"))
            .help("use at least 8 visible ASCII characters, better 32 at random");
        return written.refuse(finding);
    }
    Some(Hash::of(key.expose().as_bytes()))
}

/// A hash; what is written is not repeated, because somebody may have written the key.
pub(super) fn hash_of(value: &Value<'_>) -> Option<Hash> {
    let text = value.text()?;
    text.parse().ok().or_else(|| {
        let finding = Diagnostic::error("C070", format!("`{}` is not a hash", value.path))
            .help("write \"sha256:\" and 64 hexadecimal digits");
        value.refuse(finding)
    })
}

/// Reports keys that two merchants, or two names of one, share.
pub(super) fn keys_are_different<'m>(
    merchants: impl Iterator<Item = &'m super::Merchant>,
) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<Hash, (&str, &str)> = BTreeMap::new();
    let mut found = Vec::new();
    for merchant in merchants {
        for credential in &merchant.credentials {
            let (Proof::Key(hash) | Proof::Certificate(hash)) = credential.proof;
            let (name, key) = (merchant.name.as_str(), credential.name.as_str());
            let Some((other, _)) = seen.insert(hash, (name, key)) else { continue };
            let text = if other == name {
                format!("merchant `{name}` has the same key twice")
            } else {
                format!("merchants `{other}` and `{name}` have the same key")
            };
            let finding = Diagnostic::error("C015", text).help("give each its own key");
            let place = if key == "api_key" { key.to_owned() } else { format!("keys.{key}") };
            found.push(merchant.origin.point(finding, &place));
        }
    }
    found
}
