//! What no code may do: be unsafe elsewhere, panic on purpose, touch the world, name a provider.

use crate::rooms::rooms;
use crate::source::{Source, line_of, words};
use crate::{Complaints, nothing_of, tree};

/// The only rooms with `unsafe`: both sides of the C ABI, and the tests' disk under SQLite, which
/// is a table of C functions.
const UNSAFE_ROOMS: &[&str] = &[
    "plugin-api/src/abi",
    "proxy/kit/src/cage",
    "proxy/plugin-host/src",
    "tests/tests/power_loss/vfs.rs",
];

/// What ships must not contain, and what to write.
const NOT_SHIPPED: &[(&str, &str)] = &[
    (".unwrap()", "return the error, or `expect(\"why it cannot fail\")`"),
    (".unwrap_err()", "match the result"),
    ("panic!", "return an error"),
    ("todo!", "build it"),
    ("unimplemented!", "build it"),
    ("dbg!", "use tracing, or delete it"),
    ("println!", "use tracing, or write to the output that was given"),
    ("print!", "write to the output that was given"),
    ("eprintln!", "use tracing, or write to the output that was given"),
    ("eprint!", "write to the output that was given"),
];

/// Where nothing of that ships: the programs that an operator or a load tester runs.
const SHIPPED: &[&str] = &["plugin-api/src/", "plugins/", "proxy/", "tests/sandbox/src/"];

/// The rooms without a world: the prefix of their paths, what they must not say, and why.
const PURE: &[(&str, &[&str], &str)] = &[
    ("proxy/engine/src/", WORLD, "the engine is given the time, the draw and the facts"),
    ("proxy/circuit-breaker/src/", WORLD, "the breaker is given the time"),
    ("plugins/", WORLD, "a plugin is bytes in, bytes out; ask for a host service by name"),
    ("plugin-api/src/", WORLD, "the contract has no world"),
];

const WORLD: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "thread::spawn",
    "thread::sleep",
    "Instant::now",
    "SystemTime",
    "UNIX_EPOCH",
    "tokio",
    "Timestamp::now",
    "Zoned::now",
    "rand",
    "getrandom",
    "thread_rng",
    "OsRng",
    "File::open",
    "File::create",
    "TcpStream",
    "UdpSocket",
];

/// Where no provider may be named.
const NAMELESS: &[&str] = &["proxy/", "plugin-api/src/"];

/// Folders of `plugins/` are added to these.
const PROVIDERS: &[&str] = &[
    "alipay",
    "wechat",
    "weixin",
    "tenpay",
    "paypal",
    "braintree",
    "stripe",
    "adyen",
    "checkout",
    "huawei",
    "tokenpocket",
];

/// Words that shoppers and merchants have for ways to pay, which the merchant API speaks; they are
/// no providers there, as exact texts.
const METHODS: (&str, &[&str]) = (
    "proxy/server/src/merchant_api",
    &["\"alipay\"", "\"wechat_pay\"", "\"paypal\"", "\"huawei_pay\""],
);

#[test]
fn unsafe_code_lies_at_the_abi_and_says_why_it_is_sound() {
    let mut complaints = Vec::new();
    for (path, source) in tree::rust() {
        complaints.extend(unsafe_complaints(&path, &source));
    }
    nothing_of(complaints);
}

fn unsafe_complaints(path: &str, source: &Source) -> Complaints {
    let allowed = UNSAFE_ROOMS.iter().any(|room| path.starts_with(room));
    let lines: Vec<&str> = source.text.lines().collect();
    let mut complaints = Vec::new();
    for at in words(&source.code, "unsafe") {
        let line = line_of(&source.code, at);
        let then = source.code[at + "unsafe".len()..].trim_start();
        if !allowed {
            complaints.push(format!("{path}:{line}: unsafe only in {UNSAFE_ROOMS:?}"));
        } else if (then.starts_with('{') || then.starts_with("impl")) && !says_why(&lines, line - 1)
        {
            complaints.push(format!("{path}:{line}: say above it why it is sound: `// SAFETY: `"));
        }
    }
    complaints
}

/// Whether the comment on or above line `at` (from 0) begins with `SAFETY:`; a statement may
/// begin a few lines earlier than its block.
fn says_why(lines: &[&str], at: usize) -> bool {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let says = |line: &str| line.contains("SAFETY:");
    let above = lines[..at].iter().rev();
    let mut code_between = 0;
    for line in std::iter::once(&lines[at]).chain(above) {
        if says(line) {
            return true;
        }
        if line.trim().is_empty() {
            return false;
        }
        if !is_comment(line) {
            code_between += 1;
        }
        if code_between > 4 {
            return false;
        }
    }
    false
}

#[test]
fn shipping_code_neither_panics_on_purpose_nor_prints() {
    let mut complaints = Vec::new();
    for (path, source) in shipped() {
        complaints.extend(unshippable(&path, &source));
    }
    nothing_of(complaints);
}

fn unshippable(path: &str, source: &Source) -> Complaints {
    let mut complaints = Vec::new();
    for (banned, mend) in NOT_SHIPPED {
        for at in words(&source.shipping, banned) {
            let line = line_of(&source.shipping, at);
            complaints.push(format!("{path}:{line}: `{banned}` in code that ships; {mend}"));
        }
    }
    complaints
}

/// The files of the programs and plugins that leave this house.
fn shipped() -> Vec<(String, Source)> {
    let rooms = rooms();
    let ships = |path: &str| {
        rooms.get(path) == Some(&true) && SHIPPED.iter().any(|room| path.starts_with(room))
    };
    tree::rust().into_iter().filter(|(path, _)| ships(path)).collect()
}

#[test]
fn pure_rooms_touch_no_world() {
    let mut complaints = Vec::new();
    for (path, source) in shipped() {
        complaints.extend(worldly(&path, &source));
    }
    nothing_of(complaints);
}

fn worldly(path: &str, source: &Source) -> Complaints {
    let mut complaints = Vec::new();
    for (room, banned, why) in PURE {
        if !path.starts_with(room) {
            continue;
        }
        for word in *banned {
            for at in words(&source.shipping, word) {
                let line = line_of(&source.shipping, at);
                complaints.push(format!("{path}:{line}: `{word}`, but {why}"));
            }
        }
    }
    complaints
}

#[test]
fn no_provider_is_known_by_name() {
    let plugins = tree::files().into_iter().filter_map(|path| {
        path.strip_prefix("plugins/").and_then(|rest| rest.split_once('/')).map(|(p, _)| p.into())
    });
    let mut names: Vec<String> = plugins.collect();
    names.extend(PROVIDERS.iter().map(|name| (*name).to_owned()));
    names.sort();
    names.dedup();
    assert!(names.iter().any(|name| name == "alipay"));
    let mut complaints = Vec::new();
    for (path, source) in shipped() {
        if NAMELESS.iter().any(|room| path.starts_with(room)) {
            complaints.extend(named(&path, &source, &names));
        }
    }
    nothing_of(complaints);
}

/// Comments are left out: "a merchant's checkout" is English there.
fn named(path: &str, source: &Source, names: &[String]) -> Complaints {
    let mut spoken = source.spoken.to_ascii_lowercase();
    if path.starts_with(METHODS.0) {
        for method in METHODS.1 {
            spoken = spoken.replace(method, &"-".repeat(method.len()));
        }
    }
    let mut complaints = Vec::new();
    for name in names {
        for (at, _) in spoken.match_indices(name.as_str()) {
            let line = line_of(&spoken, at);
            complaints.push(format!(
                "{path}:{line}: names `{name}`; the manifest and the configuration name providers"
            ));
        }
    }
    complaints
}

#[test]
fn unsafe_elsewhere_or_without_a_reason_is_seen() {
    let block = Source::read("fn a() {\n    unsafe { b() }\n}\n");
    assert_eq!(unsafe_complaints("proxy/engine/src/a.rs", &block).len(), 1);
    assert_eq!(unsafe_complaints("plugin-api/src/abi.rs", &block).len(), 1);
    let sound = Source::read("fn a() {\n    // SAFETY: b has no rules.\n    unsafe { b() }\n}\n");
    assert!(unsafe_complaints("plugin-api/src/abi.rs", &sound).is_empty());
    let word = Source::read("//! No unsafe here.\n#![forbid(unsafe_code)]\n");
    assert!(unsafe_complaints("proxy/engine/src/a.rs", &word).is_empty());
}

#[test]
fn what_must_not_ship_is_seen_in_code_and_not_in_tests() {
    let bad = "fn a() { b().unwrap(); dbg!(c); println!(\"d\"); panic!(\"e\") }\n\
               #[cfg(test)]\nmod tests { fn f() { g().unwrap() } }\n// todo!()\n";
    assert_eq!(unshippable("a.rs", &Source::read(bad)).len(), 4);
    let good = "fn a() { b().unwrap_or(1); writeln!(c, \"println!\").expect(\"d\") }\n";
    assert!(unshippable("a.rs", &Source::read(good)).is_empty());
}

#[test]
fn a_clock_in_the_engine_and_a_provider_in_the_proxy_are_seen() {
    let clock = Source::read("use std::time::Instant;\nfn a() { Instant::now() }\n");
    assert_eq!(worldly("proxy/engine/src/a.rs", &clock).len(), 1);
    assert!(worldly("proxy/server/src/a.rs", &clock).is_empty());
    let names = ["alipay".to_owned()];
    let naming = Source::read("// alipay\nconst A: &str = \"alipay\";\nstruct AlipayB;\n");
    assert_eq!(named("proxy/server/src/a.rs", &naming, &names).len(), 2);
    assert_eq!(named("proxy/server/src/merchant_api/a.rs", &naming, &names).len(), 1);
}
