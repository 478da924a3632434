//! Pins and publishers: only bytes that an operator named, or a publisher signed, are taken up.

use std::fs;

use interlock_plugin_host::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::stage::{build, folder, host};

/// `openssl genpkey -algorithm ed25519`, for this test alone.
const OPENSSL_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIKRLIotrXMSklVqWn8xW2X+AxOQZcYjjngoFt/0YQW4n\n\
    -----END PRIVATE KEY-----\n";
/// `openssl pkey -pubout` of it.
const OPENSSL_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA8cIIlUqURyWmctE3rooxm8dKAvaMKCWFBz9uLzlQJWQ=\n\
    -----END PUBLIC KEY-----\n";

#[test]
fn pinning_shows_what_changed_and_the_lock_is_read_back() {
    let folder = folder("pins");
    let place = |name: &str, flags: &[&str]| {
        fs::copy(build(&format!("pin-{name}"), "echo.c", flags), folder.join(name)).unwrap();
    };
    place("a.so", &["-DTEST_ID=\"a\""]);
    place("b.so", &["-DTEST_ID=\"b\""]);
    fs::write(folder.join("notes.txt"), "not a library").unwrap();
    let mut lock = PluginLock::default();
    let changes = pin(&folder, &mut lock, None).unwrap();
    assert!(matches!(&changes[..], [Change::Added(a), Change::Added(b)]
        if a.name == "a" && b.file == "b.so"));
    assert_eq!(pin(&folder, &mut lock, None).unwrap(), []);
    let path = folder.join("plugins.lock");
    lock.write(&path).unwrap();
    assert_eq!(PluginLock::read(&path).unwrap(), lock);
    let digest = lock.plugin("a").unwrap().digest().unwrap();
    let generation = host(100).load(&folder.join("a.so"), Pin::Sha256(digest)).unwrap();
    assert_eq!(generation.manifest().id, "a");

    place("a.so", &["-DTEST_ID=\"a\"", "-DTEST_VERSION=\"2.0.0\""]);
    fs::remove_file(folder.join("b.so")).unwrap();
    let changes = pin(&folder, &mut lock, None).unwrap();
    let text = changes[0].to_string();
    assert!(text.starts_with("changed a 1.0.0 to 2.0.0: a.so "), "{text}");
    assert_eq!(changes[1].to_string(), "removed b 1.0.0: b.so");
    let before = lock.clone();
    place("c.so", &["-DTEST_ID=\"a\""]);
    let error = pin(&folder, &mut lock, None).unwrap_err().to_string();
    assert_eq!(error, "plugin has the id of another file, a: c.so");
    assert_eq!(lock, before);
}

#[test]
fn what_its_pinned_publisher_did_not_sign_is_not_taken_up() {
    let folder = folder("publisher");
    let path = folder.join("a.so");
    let place = |flags: &[&str]| {
        let name = format!("signed-{}", flags.len());
        fs::copy(build(&name, "echo.c", flags), &path).unwrap();
    };
    let sign = |key: &str| {
        let seen = inspect(&path).unwrap();
        let signature = Signed::of(&seen).unwrap().sign(key).unwrap();
        fs::write(signature_file(&path), hex::encode(signature)).unwrap();
    };
    let (ours, public) = ed25519();
    let (strangers, _) = ed25519();
    let publisher = Publisher::from_pem(&public).unwrap();
    place(&["-DTEST_ID=\"a\""]);
    sign(&ours);
    let mut lock = PluginLock::default();
    pin(&folder, &mut lock, Some(publisher)).unwrap();
    assert_eq!(lock.plugin("a").unwrap().ed25519, Some(publisher.to_hex()));
    lock.plugin("a").unwrap().check_publisher(&folder).unwrap();

    // Another file under the old signature, then under a stranger's, then without any.
    place(&["-DTEST_ID=\"a\"", "-DTEST_VERSION=\"2.0.0\""]);
    let before = lock.clone();
    let refused = |lock: &mut PluginLock| pin(&folder, lock, None).unwrap_err().to_string();
    let wrong = "plugin's signature can't be used, it is not the pinned publisher's of this \
                 file: a.so";
    assert_eq!(refused(&mut lock), wrong);
    sign(&strangers);
    assert_eq!(refused(&mut lock), wrong);
    fs::remove_file(signature_file(&path)).unwrap();
    assert!(refused(&mut lock).contains("its file .sig can't be read"));
    assert_eq!(lock, before);
    sign(&ours);
    let changes = pin(&folder, &mut lock, None).unwrap();
    assert!(changes[0].to_string().starts_with("changed a 1.0.0 to 2.0.0"));
    assert_eq!(lock.plugin("a").unwrap().ed25519, Some(publisher.to_hex()));
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    let seen = inspect(&build("openssl", "echo.c", &[])).unwrap();
    let signed = Signed::of(&seen).unwrap();
    let signature = signed.sign(OPENSSL_PRIVATE).unwrap();
    let publisher = Publisher::from_pem(OPENSSL_PUBLIC).unwrap();
    assert!(publisher.signed(&signed, &signature));
    let other = Signed { version: "1.0.1", ..Signed::of(&seen).unwrap() };
    assert!(!publisher.signed(&other, &signature));
    assert_eq!(Publisher::from_hex(&publisher.to_hex()), Some(publisher));
}

#[test]
fn a_key_of_another_kind_is_named_and_not_repeated() {
    let (private, public) = ed25519();
    let seen = inspect(&build("kinds", "echo.c", &[])).unwrap();
    let signed = Signed::of(&seen).unwrap();
    assert_eq!(signed.sign(&public), Err("it is a public key, the private one is needed"));
    let error = Publisher::from_pem(&private).unwrap_err();
    assert_eq!(error, "it is a private key, the public one is needed");
    assert!(Publisher::from_pem("secret").unwrap_err().starts_with("it is not PEM"));
    assert!(Publisher::from_hex("00").is_none());
}

#[test]
fn a_lock_that_could_pin_the_wrong_thing_is_refused() {
    let path = folder("locks").join("plugins.lock");
    let entry = |file: &str, sha: &str| {
        format!(
            "[[plugin]]\nname = \"a\"\nfile = \"{file}\"\nsha256 = \"{sha}\"\n\
             version = \"1\"\nabi = \"1.0\"\n"
        )
    };
    let sha = "ab".repeat(32);
    for (text, problem) in [
        (entry("a.so", "abc"), "`sha256` is not 64 hexadecimal digits, a"),
        (entry("../a.so", &sha), "`file` is not a file of the plugin folder, ../a.so"),
        (entry("/a.so", &sha), "`file` is not a file of the plugin folder, /a.so"),
        (entry("..", &sha), "`file` is not a file of the plugin folder, .."),
        (entry("a.so", &sha) + &entry("b.so", &sha), "`name` is pinned twice, a"),
        (entry("a.so", &sha) + "extra = 1\n", "unknown field"),
        ("plugin = 1".into(), "invalid type"),
    ] {
        fs::write(&path, text).unwrap();
        let error = PluginLock::read(&path).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(error.ends_with(": ") || error.ends_with("plugins.lock"), "{error}");
    }
    let gone = PluginLock::read(&path.with_extension("gone")).unwrap_err();
    assert_eq!(gone.problem, "entity not found");
}

/// A pair of keys for signing plugins, PEM.
fn ed25519() -> (String, String) {
    use base64::Engine;
    let pem = |label: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let random = ring::rand::SystemRandom::new();
    let private = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
    let spki = [&hex::decode("302a300506032b6570032100").unwrap(), pair.public_key().as_ref()];
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", &spki.concat()))
}
