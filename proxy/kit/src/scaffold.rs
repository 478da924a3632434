//! `interlock plugin new`: the folder that an author begins with.
//!
//! It is the example provider under another name, with the operations that were asked for and
//! nothing else, and with the contract's own sources beside it, so that it compiles anywhere. It
//! passes the kit as it is; an author replaces one operation after another.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use interlock_plugin_api::{Operation, SecretKind};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use crate::account::made;
use crate::fixture::Fixture;

/// What the new plugin is.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its id: lower case letters, digits and `-`.
    pub name: String,
    /// What it offers besides `authorize`.
    pub operations: Vec<Operation>,
    /// How its provider knows the merchant.
    pub auth: Auth,
    /// What it is written in.
    pub lang: Lang,
}

/// How a provider knows who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `Authorization: Basic CREDENTIALS`.
    Basic,
    /// `x-api-key: KEY`.
    Header,
    /// HMAC-SHA256 of the body in a header.
    Mac,
    /// An RSA signature of the body in a header.
    Rsa,
}

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    /// Rust.
    Rust,
    /// C.
    C,
}

/// What the example offers besides `authorize`.
pub const OPERATIONS: [Operation; 7] = [
    Operation::Capture,
    Operation::Void,
    Operation::Refund,
    Operation::Inquire,
    Operation::InquireOperation,
    Operation::ParseNotification,
    Operation::Probe,
];

/// Why no folder was written.
#[derive(Debug)]
pub enum ScaffoldError {
    /// The name is no plugin's.
    Name(String),
    /// Something is there already.
    Exists(PathBuf),
    /// The example has no such operation, or the language no such choice.
    Choice(String),
    /// The folder can't be written.
    Io(PathBuf, std::io::Error),
}

impl fmt::Display for ScaffoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "a plugin's name begins with a letter and has lower case letters, digits and `-`: \
                 {name}"
            ),
            Self::Exists(path) => write!(f, "it exists already: {}", path.display()),
            Self::Choice(what) => f.write_str(what),
            Self::Io(path, e) => write!(f, "can't be written, {}: {}", e.kind(), path.display()),
        }
    }
}

impl std::error::Error for ScaffoldError {}

macro_rules! example {
    ($file:literal) => {
        ($file, include_str!(concat!("../../../plugin-api/examples/acme/", $file)))
    };
}

const SOURCES: &[(&str, &str)] =
    &[example!("src/lib.rs"), example!("src/provider.rs"), example!("src/answers.rs")];
const NOTIFICATION: (&str, &str) = example!("src/notification.rs");
const MANIFEST: &str = example!("manifest.json").1;
const README: &str = example!("README.md").1;
const ACCOUNT: (&str, &str) = example!("fixtures/account.toml");
const FIXTURES: &[(&str, &str)] = &[
    example!("fixtures/authorize-declined.http"),
    example!("fixtures/authorize-lost.http"),
    example!("fixtures/authorize-manual.http"),
    example!("fixtures/authorize-paid.http"),
    example!("fixtures/authorize-unavailable.http"),
    example!("fixtures/capture-part.http"),
    example!("fixtures/inquire-nothing.http"),
    example!("fixtures/inquire-paid.http"),
    example!("fixtures/inquire-refund.http"),
    example!("fixtures/notification-paid.http"),
    example!("fixtures/probe.http"),
    example!("fixtures/refund-part.http"),
    example!("fixtures/refund-refused.http"),
    example!("fixtures/void.http"),
];

macro_rules! example_in_c {
    ($file:literal) => {
        ($file, include_str!(concat!("../../../plugin-api/examples/acme-c/", $file)))
    };
}

/// The same in C; its fixtures are those of the other.
const IN_C: &[(&str, &str)] = &[
    example_in_c!("Makefile"),
    example_in_c!("manifest.json"),
    example_in_c!("answers.c"),
    example_in_c!("json.c"),
    example_in_c!("json.h"),
    example_in_c!("notification.c"),
    example_in_c!("provider.c"),
    example_in_c!("provider.h"),
    example_in_c!(".gitignore"),
];
const README_C: &str = example_in_c!("README.md").1;
const HEADER: &str = include_str!("../../../plugin-api/include/interlock_plugin.h");

macro_rules! contract {
    ($file:literal) => {
        ($file, include_str!(concat!("../../../plugin-api/", $file)))
    };
}

/// The contract's sources, so that a plugin compiles without this house.
const CONTRACT: &[(&str, &str)] = &[
    contract!("include/interlock_plugin.h"),
    contract!("src/abi.rs"),
    contract!("src/contract.rs"),
    contract!("src/exchange.rs"),
    contract!("src/fact.rs"),
    contract!("src/lib.rs"),
    contract!("src/manifest.rs"),
    contract!("src/money.rs"),
    contract!("src/provider.rs"),
    contract!("src/statement.rs"),
    contract!("src/step.rs"),
    contract!("src/testkit.rs"),
];

/// Writes a plugin's folder inside `into`, and answers its files by their paths in it.
///
/// # Errors
/// [`ScaffoldError`]; a folder that is there already is not touched.
pub fn create(into: &Path, wanted: &Wanted) -> Result<Vec<PathBuf>, ScaffoldError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let name = &wanted.name;
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || name.len() > 40 || !name.bytes().all(good) || name.ends_with('-') {
        return Err(ScaffoldError::Name(name.clone()));
    }
    let folder = into.join(name);
    if folder.exists() {
        return Err(ScaffoldError::Exists(folder));
    }
    let files = match wanted.lang {
        Lang::Rust => rust(wanted)?,
        Lang::C => c(wanted)?,
    };
    let mut paths = Vec::new();
    for (path, text) in files {
        let full = folder.join(&path);
        let parent = full.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).map_err(|e| ScaffoldError::Io(parent.into(), e))?;
        fs::write(&full, text).map_err(|e| ScaffoldError::Io(full.clone(), e))?;
        paths.push(PathBuf::from(path));
    }
    Ok(paths)
}

type Files = Vec<(String, String)>;

fn rust(wanted: &Wanted) -> Result<Files, ScaffoldError> {
    if let Some(op) = wanted.operations.iter().find(|op| !OPERATIONS.contains(op)) {
        return Err(ScaffoldError::Choice(format!("the example does not show `{}`", op.as_str())));
    }
    let mut has: BTreeSet<&str> = wanted.operations.iter().map(|op| op.as_str()).collect();
    has.insert(Operation::Authorize.as_str());
    let renamed = |text: &str| renamed(text, &wanted.name);
    let mut files: Files = vec![
        ("Cargo.toml".into(), renamed(CARGO)),
        ("README.md".into(), renamed(README)),
        (".gitignore".into(), "/target\n".into()),
        ("manifest.json".into(), renamed(&manifest(&has, wanted.auth))),
    ];
    let mut sources = SOURCES.to_vec();
    if has.contains(Operation::ParseNotification.as_str()) {
        sources.push(NOTIFICATION);
    }
    for (path, text) in sources {
        let text = with_auth(&only_for(text, &has), wanted.auth);
        files.push((path.into(), renamed(&used_imports(&text))));
    }
    files.push((ACCOUNT.0.into(), renamed(ACCOUNT.1)));
    for (path, text) in FIXTURES {
        let fixture = Fixture::parse(PathBuf::from(path), text);
        let fixture = fixture.map_err(|e| ScaffoldError::Choice(e.to_string()))?;
        let op = fixture.operation().map_err(|e| ScaffoldError::Choice(e.to_string()))?;
        let manual = path.contains("manual") && !is_two_step(&has);
        if has.contains(op.as_str()) && !manual {
            let text = fixture.map_sends(|sent| signed(sent, wanted.auth)).to_string();
            files.push(((*path).into(), renamed(&text)));
        }
    }
    for (path, text) in CONTRACT {
        files.push((format!("vendor/interlock-plugin-api/{path}"), (*text).into()));
    }
    files.push(("vendor/interlock-plugin-api/Cargo.toml".into(), CONTRACT_CARGO.into()));
    Ok(files)
}

fn c(wanted: &Wanted) -> Result<Files, ScaffoldError> {
    let all = OPERATIONS.iter().all(|op| wanted.operations.contains(op));
    if !all || wanted.auth != Auth::Bearer {
        let what = "in C the example comes whole and with `bearer`; take out what is not needed";
        return Err(ScaffoldError::Choice(what.into()));
    }
    let library = format!("lib{}.so", wanted.name.replace('-', "_"));
    let named = |text: &str| {
        let text = text.replace("libacme_c.so", &library).replace("Acme Pay (C)", "Acme Pay");
        renamed(&text.replace("acme-c", "acme"), &wanted.name)
    };
    let mut files: Files = IN_C.iter().map(|(path, text)| ((*path).into(), named(text))).collect();
    for (path, text) in &mut files {
        if path == "Makefile" {
            *text = text.replace("INTERLOCK_INCLUDE ?= ../../include", "INTERLOCK_INCLUDE ?= .");
        }
    }
    files.push(("interlock_plugin.h".into(), HEADER.into()));
    files.push(("README.md".into(), named(README_C)));
    files.push((ACCOUNT.0.into(), named(ACCOUNT.1)));
    files.extend(FIXTURES.iter().map(|(path, text)| ((*path).into(), named(text))));
    Ok(files)
}

fn is_two_step(has: &BTreeSet<&str>) -> bool {
    has.contains("capture") && has.contains("void")
}

/// The example's names replaced by the plugin's.
fn renamed(text: &str, name: &str) -> String {
    let words: Vec<String> = name
        .split('-')
        .filter(|word| !word.is_empty())
        .map(|word| format!("{}{}", word[..1].to_ascii_uppercase(), &word[1..]))
        .collect();
    text.replace("Acme Pay", &words.join(" "))
        .replace("Acme", &words.concat())
        .replace("acme", name)
}

/// Keeps the paragraphs and lines that are for operations of the plugin; the marks go.
fn only_for(text: &str, has: &BTreeSet<&str>) -> String {
    const MARK: &str = "// for: ";
    let wanted = |line: &str| {
        let (_, list) = line.split_once(MARK)?;
        Some(list.split(',').any(|op| has.contains(op.trim())))
    };
    let mut kept: Vec<String> = Vec::new();
    let mut block_is_gone = false;
    for paragraph in text.trim_end().split("\n\n") {
        let alone = paragraph.lines().find(|line| line.trim_start().starts_with(MARK));
        let inside = paragraph.starts_with(' ');
        if alone.and_then(wanted) == Some(false) {
            // The last method of a block ends the block.
            let ends_block = inside && paragraph.ends_with("\n}") && !block_is_gone;
            block_is_gone |= !inside && !paragraph.ends_with("\n}");
            if let (true, Some(last)) = (ends_block, kept.last_mut()) {
                last.push_str("\n}");
            }
            continue;
        }
        block_is_gone &= inside;
        let lines = paragraph.lines().filter_map(|line| match wanted(line) {
            None => Some(line.to_owned()),
            Some(false) => None,
            Some(true) => line.split_once(MARK).map(|(code, _)| code.trim_end().to_owned()),
        });
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
        kept.push(lines.join("\n"));
    }
    format!("{}\n", kept.join("\n\n"))
}

/// Takes names out of `use interlock_plugin_api::{..}` that nothing uses any more.
fn used_imports(text: &str) -> String {
    const OPEN: &str = "use interlock_plugin_api::{";
    let Some((before, rest)) = text.split_once(OPEN) else { return text.to_owned() };
    let Some((list, after)) = rest.split_once("};") else { return text.to_owned() };
    let word = |name: &str| {
        after.match_indices(name).any(|(at, _)| {
            let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
            edge(after[..at].chars().next_back()) && edge(after[at + name.len()..].chars().next())
        })
    };
    let names: Vec<&str> =
        list.split(',').map(str::trim).filter(|name| !name.is_empty() && word(name)).collect();
    let one = format!("{OPEN}{}}};", names.join(", "));
    if one.len() <= 100 {
        return format!("{before}{one}{after}");
    }
    let mut lines = vec![String::from("   ")];
    for name in names {
        let last = lines.last_mut().expect("there is a first line");
        if last.len() + name.len() + 2 > 100 {
            lines.push(String::from("   "));
        }
        lines.last_mut().expect("as above").push_str(&format!(" {name},"));
    }
    format!("{before}{OPEN}\n{}\n}};{after}", lines.join("\n"))
}

const BEARER: &str = r#".header("authorization", "Bearer {secret:api_key}")"#;

fn with_auth(text: &str, auth: Auth) -> String {
    match auth {
        Auth::Bearer => text.to_owned(),
        Auth::Basic => text.replace("Bearer {secret:api_key}", "Basic {secret:api_key}"),
        Auth::Header => text.replace(BEARER, r#".header("x-api-key", "{secret:api_key}")"#),
        Auth::Mac | Auth::Rsa => {
            let service = match auth {
                Auth::Mac => r#"cx.host.mac("api_key", &body)?"#,
                _ => r#"cx.host.sign("api_key", "rsa-sha256-pkcs1", &body)?"#,
            };
            let signs = text.contains("exchange(cx, ");
            let text = text
                .replace(&format!("\n        {BEARER}"), "")
                .replace(BEARER, "")
                .replace("exchange(cx, s, e, ", "signed(cx, s, e, ")
                .replace("Event, Fault,", "Event, Fact, Fault,");
            if signs {
                format!("{text}\n{}\n{HEX}", SIGNED.replace("SERVICE", service))
            } else {
                text
            }
        }
    }
}

const SIGNED: &str = r#"/// One request, signed over its body, and its answer.
fn signed(
    cx: &Cx<'_>,
    s: Sent,
    e: &Event,
    build: impl FnOnce() -> Result<(Send, Vec<u8>), Fault>,
    read: impl FnOnce(u16, &[u8]) -> Fact,
) -> Result<Step<Sent>, Fault> {
    let build = || {
        let (send, body) = build()?;
        let signature = SERVICE;
        Ok((send.header("acme-signature", hex(&signature)), body))
    };
    exchange(cx, s, e, build, read)
}
"#;

const HEX: &str = "fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!(\"{byte:02x}\")).collect()
}
";

/// A request of a fixture with another authentication.
fn signed(sent: &str, auth: Auth) -> String {
    let text = match auth {
        Auth::Bearer => return sent.to_owned(),
        Auth::Basic => return sent.replace("Bearer {secret", "Basic {secret"),
        Auth::Header => {
            return sent
                .replace("authorization: Bearer {secret:api_key}", "x-api-key: {secret:api_key}");
        }
        Auth::Mac | Auth::Rsa => sent,
    };
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("authorization")).collect();
    let signature = hex::encode(match auth {
        Auth::Mac => {
            let secret = made("api_key", SecretKind::Mac);
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            hmac::sign(&key, body.as_bytes()).as_ref().to_vec()
        }
        _ => rsa_signature(body.as_bytes()),
    });
    let space = if body.is_empty() { "" } else { "\n\n" };
    format!("{}\nacme-signature: {signature}{space}{body}", head.join("\n"))
}

/// A signature by the kit's own test key.
fn rsa_signature(data: &[u8]) -> Vec<u8> {
    let pem = made("api_key", SecretKind::RsaPrivate);
    let packed: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, packed);
    let der = der.expect("the kit's own key is PEM");
    let pair = RsaKeyPair::from_pkcs8(&der).expect("the kit's own key is PKCS#8");
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
        .expect("the buffer has the key's length");
    signature
}

/// Purposes in the manifest by the operation that they are for.
const PURPOSES: [(&str, &str); 6] = [
    ("capture", "capture"),
    ("void", "cancel"),
    ("refund", "refund"),
    ("inquire", "find"),
    ("inquire_operation", "find_operation"),
    ("probe", "health"),
];

/// The example's manifest with what is wanted of it, as text: its order is for people.
fn manifest(has: &BTreeSet<&str>, auth: Auth) -> String {
    let mut text = MANIFEST.to_owned();
    for (op, purpose) in PURPOSES.iter().filter(|(op, _)| !has.contains(op)) {
        text = without(&text, &format!("{{ \"purpose\": \"{purpose}\""), "");
        text = without(&text, "{ \"class\"", &format!("\"{purpose}\": "));
        let inquiry = match *op {
            "inquire" => "\"inquiry\": ",
            "inquire_operation" => "\"operation_inquiry\": ",
            _ => continue,
        };
        text = without(&text, "{ \"by_our", inquiry);
    }
    if !is_two_step(has) {
        text = text.replace("[\"automatic\", \"manual\"]", "[\"automatic\"]");
    }
    if !has.contains("parse_notification") {
        text = text.replace(", \"webhook_key\": \"mac\"", "");
    }
    let kind = match auth {
        Auth::Mac => "mac",
        Auth::Rsa => "rsa_private",
        _ => "header",
    };
    text = text.replace("\"api_key\": \"header\"", &format!("\"api_key\": \"{kind}\""));
    let mut operations: Vec<String> = vec!["\"authorize\"".into()];
    let others = OPERATIONS.iter().filter(|op| has.contains(op.as_str()));
    operations.extend(others.map(|op| format!("\"{}\"", op.as_str())));
    if let Some((before, rest)) = text.split_once("\"operations\": [")
        && let Some((_, after)) = rest.split_once(']')
    {
        let list = operations.join(", ");
        text = format!("{before}\"operations\": [\n    {list}\n  ]{after}");
    }
    text
}

/// The text without the object that begins with `open` after `name`, and its comma.
fn without(text: &str, open: &str, name: &str) -> String {
    let Some(at) = text.find(&format!("{name}{open}")) else { return text.to_owned() };
    let mut depth = 0;
    let after = text[at + name.len()..].char_indices().find_map(|(n, c)| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        (depth == 0).then_some(at + name.len() + n + 1)
    });
    let Some(end) = after else { return text.to_owned() };
    let before = text[..at].trim_end();
    let rest = &text[end..];
    match rest.strip_prefix(',') {
        Some(rest) => format!("{before}{rest}"),
        None => format!("{}{rest}", before.trim_end_matches(',')),
    }
}

const CARGO: &str = r#"[package]
name = "acme"
version = "0.1.0"
edition = "2024"
publish = false
description = "Acme Pay for Interlock"

[lib]
crate-type = ["cdylib"]

[dependencies]
interlock-plugin-api = { path = "vendor/interlock-plugin-api" }
serde = { version = "1", features = ["derive"] }
serde_json = "1"

# A folder of its own, wherever it lies.
[workspace]
"#;

const CONTRACT_CARGO: &str = concat!(
    r#"[package]
name = "interlock-plugin-api"
version = ""#,
    env!("CARGO_PKG_VERSION"),
    r#""
edition = "2024"
license = "Apache-2.0"
publish = false
description = "The contract between Interlock and its provider plugins"

[features]
testkit = ["dep:ring"]

[dependencies]
serde = { version = "1", features = ["derive"] }
serde_json = { version = "1", features = ["raw_value"] }
ring = { version = "0.17", optional = true }
"#
);
