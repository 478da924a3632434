//! The plugin host against real libraries, good and bad, compiled from C when the tests run.
//!
//! The library is the trust boundary, so nothing here is simulated: files are truncated and
//! flipped, plugins panic, hang and lie over the real C ABI. Deadlines are short, and the waits
//! for them are the only real time in these tests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use interlock_plugin_api::{
    CaptureMode, Currency, Customer, Envelope, Event, FaultKind, Money, Next, Operation, Request,
    SecretKind,
};
use interlock_plugin_host::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use secrecy::SecretString;

mod files {
    use super::*;

    #[test]
    fn the_header_compiles_without_a_warning() {
        for standard in ["-std=c99", "-std=c11"] {
            let args = ["-fsyntax-only", "-pedantic", standard, "-x", "c"];
            compiler().args(args).arg(header()).status().map(|s| assert!(s.success())).unwrap();
        }
    }

    #[test]
    fn a_good_file_says_everything_without_being_loaded() {
        let path = build("good", "echo.c", &[]);
        let seen = inspect(&path).unwrap();
        assert_eq!(seen.file, "good.so");
        assert_eq!(seen.bytes, fs::metadata(&path).unwrap().len());
        assert_eq!(seen.abi, (1, 1));
        assert_eq!(seen.sha256, sha256(&fs::read(&path).unwrap()));
        let manifest = seen.manifest.unwrap();
        assert_eq!((manifest.id.as_str(), manifest.version.as_str()), ("test", "1.0.0"));
        assert!(seen.warnings.is_empty(), "{:?}", seen.warnings);
    }

    #[test]
    fn a_manifest_behind_packed_relocations_is_read_too() {
        let path = build("packed", "echo.c", &["-Wl,-z,pack-relative-relocs"]);
        assert_eq!(inspect(&path).unwrap().manifest.unwrap().id, "test");
    }

    #[test]
    fn each_wrong_library_is_named_with_the_field_that_is_wrong() {
        for (name, flags, expected) in [
            (
                "future",
                &["-DTEST_ENTRY=interlock_plugin_v2", "-DTEST_MAJOR=2"][..],
                "plugin was built for ABI 2, host speaks 1: future.so",
            ),
            ("major", &["-DTEST_MAJOR=2"], "plugin was built for ABI 2, host speaks 1: major.so"),
            (
                "noentry",
                &["-DTEST_ENTRY=other"],
                "plugin exports no `interlock_plugin_v1`: noentry.so",
            ),
            (
                "magic",
                &["-DTEST_MAGIC=0x7f"],
                "plugin's descriptor field `magic` can't be used, host needs 0x4b434f4c52544e49, \
                 found 0x7f: magic.so",
            ),
            (
                "small",
                &["-DTEST_SIZE=40"],
                "plugin's descriptor field `struct_size` can't be used, host needs 72, found 40: \
                 small.so",
            ),
            (
                "aborts",
                &["-DTEST_FLAGS=0"],
                "plugin's descriptor field `flags` can't be used, PANIC_UNWIND is not set, so a \
                 panic would end the process: aborts.so",
            ),
            (
                "nohosts",
                &["-DTEST_ID=\"Bad Id\""],
                "plugin can't be used, manifest field `id`: must be lower case letters, digits and \
                 `-`: Bad Id: nohosts.so",
            ),
            (
                "notjson",
                &["-DTEST_MANIFEST=\"{\""],
                "plugin can't be used, manifest field `manifest`: EOF while parsing an object at \
                 line 1 column 1: notjson.so",
            ),
            (
                "stack",
                &["-Wl,-z,execstack"],
                "plugin's ELF field `PT_GNU_STACK` can't be used, it wants an executable stack: \
                 stack.so",
            ),
        ] {
            let path = build(name, "echo.c", flags);
            assert_eq!(inspect(&path).unwrap_err().to_string(), expected);
            let loaded = host(100).load(&path, Pin::Unpinned);
            assert_eq!(loaded.unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_not_a_library_of_this_machine_is_named() {
        let folder = folder("strange");
        let good = fs::read(build("machine", "echo.c", &[])).unwrap();
        let text = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).unwrap();
            inspect(&path).unwrap_err().to_string()
        };
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            bytes
        };
        let elf = |field: &str, rest: &str| {
            format!("plugin's ELF field `{field}` can't be used, {rest}: x.so")
        };
        assert!(text("x.so", b"").starts_with("plugin's ELF field `e_ident`"));
        assert!(text("x.so", b"#!/bin/sh\n").starts_with("plugin's ELF field `e_ident`"));
        assert!(text("x.so", &with(4, &[1])).starts_with("plugin's ELF field `e_ident`"));
        assert!(text("x.so", &with(5, &[2])).starts_with("plugin's ELF field `e_ident`"));
        assert_eq!(text("x.so", &with(16, &[2])), elf("e_type", "it is not a shared library"));
        let machine = text("x.so", &with(18, &[8, 0]));
        assert!(machine.starts_with("plugin's ELF field `e_machine`"), "{machine}");
        // The flags of the second segment, which holds the code.
        let code = with(64 + 56 + 4, &[7]);
        assert_eq!(text("x.so", &code), elf("p_flags", "a segment is writable code"));
    }

    #[test]
    fn a_path_that_is_no_file_is_named() {
        let folder = folder("paths");
        let text = |path: &Path| inspect(path).unwrap_err().to_string();
        let missing = "plugin file can't be read, entity not found: gone.so";
        assert_eq!(text(&folder.join("gone.so")), missing);
        let loaded = host(100).load(&folder.join("gone.so"), Pin::Unpinned);
        assert_eq!(loaded.unwrap_err().to_string(), missing);
        assert_eq!(text(&folder), "plugin path is not a regular file: paths");
        let large = folder.join("large.so");
        fs::File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(text(&large), "plugin file has more than 67108864 bytes: large.so");
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_length() {
        let host = host(100);
        let whole = build("whole", "echo.c", &[]);
        let pinned = Pin::Sha256(inspect(&whole).unwrap().sha256);
        let good = fs::read(&whole).unwrap();
        let path = folder("truncated").join("cut.so");
        let lengths = (0..good.len()).step_by(37).chain(good.len() - 70..good.len());
        for len in lengths {
            fs::write(&path, &good[..len]).unwrap();
            let error = host.load(&path, Pin::Unpinned).unwrap_err();
            let named = matches!(error.reason, LoadReason::Elf { .. });
            assert!(named && error.file == "cut.so", "{len}: {error}");
            let error = host.load(&path, pinned).unwrap_err();
            assert_eq!(error.reason.as_str(), "wrong_hash", "{len}");
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_by_the_hash_and_never_breaks_the_reading() {
        let host = host(100);
        let whole = build("flips", "echo.c", &[]);
        let good = fs::read(&whole).unwrap();
        let sha = inspect(&whole).unwrap().sha256;
        let path = folder("flipped").join("flip.so");
        // SplitMix64 from a fixed seed, so that a failure can be seen again.
        let mut seed = 0x5eed_u64;
        let mut next = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as usize
        };
        for i in 0..1200 {
            // The headers and tables are where reading could go wrong.
            let range = if i % 2 == 0 { good.len() } else { 1200 };
            let (at, bit) = (next() % range, next() % 8);
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            let _ = inspect(&path);
            if i < 200 {
                let error = host.load(&path, Pin::Sha256(sha)).unwrap_err();
                let expected = format!(
                    "plugin's sha256 is not the pinned one, {} is pinned, found {}: flip.so",
                    hex::encode(sha),
                    hex::encode(sha256(&bytes)),
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn a_library_with_a_missing_symbol_fails_when_it_is_loaded_and_not_in_a_payment() {
        let source = folder("unlinked").join("unlinked.c");
        fs::write(
            &source,
            "#include \"plugin.h\"\nint not_there(void);\nstatic int32_t test_call(void *i, \
             uint32_t f, const ilk_bytes *p, size_t n, const ilk_out *o) { (void)i; (void)f; \
             (void)p; (void)n; (void)o; return not_there(); }\n",
        )
        .unwrap();
        let path = build("unlinked", source.to_str().unwrap(), &[]);
        let error = host(100).load(&path, Pin::Unpinned).unwrap_err().to_string();
        let expected = "plugin can't be linked, unlinked.so: undefined symbol: not_there: ";
        assert!(error.starts_with(expected), "{error}");
    }

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
    fn generations_with_work_are_bounded_and_a_version_that_comes_back_is_the_one_in_memory() {
        let host = host(100);
        let path = build("many", "echo.c", &[]);
        let bytes = fs::read(&path).unwrap();
        // What follows the last section is no part of a library, and another version all the same.
        let version = |n: u32| fs::write(&path, [&bytes[..], &n.to_le_bytes()].concat()).unwrap();
        let mut held = Vec::new();
        for n in 0..GENERATIONS_MAX as u32 {
            version(n);
            held.push(host.load(&path, Pin::Unpinned).unwrap());
        }
        version(1_000);
        let full = host.load(&path, Pin::Unpinned).unwrap_err().to_string();
        assert!(full.contains("64 generations still have work"), "{full}");
        held.remove(0);
        held.push(host.load(&path, Pin::Unpinned).unwrap());
        // A thousand changes between two versions map two libraries.
        held.clear();
        let mapped = || fs::read_to_string("/proc/self/maps").unwrap().matches("r-xp").count();
        let before = mapped();
        for n in 0..1_000 {
            version(1 + n % 2);
            assert_eq!(host.load(&path, Pin::Unpinned).unwrap().number(), 66 + u64::from(n));
        }
        // Other tests may map some in the meantime.
        assert!(mapped() < before + 500);
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
}

mod calls {
    use super::*;

    #[tokio::test]
    async fn sixty_four_steps_at_once_each_get_their_own_answer() {
        let host = host(5000);
        let instance = open(&host, "parallel", "echo.c");
        let steps = (0..64_u32).map(|i| {
            let instance = instance.clone();
            tokio::spawn(async move {
                let (state, body) = (vec![i as u8; 100 + i as usize], vec![!i as u8; 1000]);
                let out = instance.step(&envelope(), &state, &body).await.unwrap();
                assert!(matches!(&out.next, Next::Done(done) if done.facts.is_empty()));
                assert_eq!((out.state, out.body), (state, body));
            })
        });
        for step in steps.collect::<Vec<_>>() {
            step.await.unwrap();
        }
        // One call opened it.
        assert_eq!(instance.generation().counters().calls, 65);
        assert_eq!(instance.account(), "acct");
        assert!(host.healthy());
    }

    #[tokio::test]
    async fn the_largest_input_and_output_pass_and_one_byte_more_does_not() {
        let host = host(5000);
        let instance = open(&host, "caps", "echo.c");
        let (state, body) = (vec![1; 64 * 1024], vec![2; 1024 * 1024]);
        let out = instance.step(&envelope(), &state, &body).await.unwrap();
        assert_eq!((out.state.len(), out.body.len()), (state.len(), body.len()));
        for (state, body) in [(65 * 1024, 0), (0, 1024 * 1024 + 1)] {
            let error = instance.step(&envelope(), &vec![0; state], &vec![0; body]).await;
            assert!(matches!(error, Err(StepError::Fault { kind: FaultKind::Limit, .. })));
        }
        assert_eq!(instance.generation().quarantine(), None);
    }

    #[tokio::test]
    async fn a_fault_is_answered_and_forgiven() {
        let host = host(5000);
        let instance = open(&host, "faults", "script.c");
        let fault = |kind, text: &str| Err(StepError::Fault { kind, text: text.into() });
        assert_eq!(step(&instance, b"F").await, fault(FaultKind::Input, "fixedtext"));
        assert_eq!(step(&instance, b"C").await, fault(FaultKind::Internal, ""));
        // It saw the host's refusal and gave it back.
        assert_eq!(step(&instance, b"1").await, fault(FaultKind::Limit, ""));
        let generation = instance.generation();
        assert_eq!((generation.quarantine(), generation.counters().faults), (None, 3));
        assert!(step(&instance, b"G").await.is_ok(), "a thousand log lines do no harm");
    }

    #[tokio::test]
    async fn a_panic_disables_the_plugin_and_no_other() {
        let host = host(5000);
        let good = open(&host, "panic-good", "echo.c");
        let bad = open(&host, "panic-bad", "script.c");
        assert_eq!(step(&bad, b"P").await, Err(StepError::Panicked));
        assert_quarantined(&bad, QuarantineReason::Panicked).await;
        assert_eq!(bad.generation().counters().panics, 1);
        assert!(step(&good, b"x").await.is_ok() && host.healthy());
    }

    #[tokio::test]
    async fn an_effect_that_cannot_be_read_disables_the_plugin() {
        let host = host(5000);
        for (letter, reason) in [
            (b"J", "a field is missing or unknown, line 1 column 18"),
            (b"N", "it is not JSON, line 1 column 2"),
            (b"E", "it is not JSON, line 1 column 0"),
            (b"2", "more than fits was put into a part, body"),
        ] {
            let name = format!("effect-{}", letter[0]);
            let flag = format!("-DTEST_VERSION=\"{}\"", letter[0]);
            let path = build(&name, "script.c", &[&flag]);
            let generation = host.load(&path, Pin::Unpinned).unwrap();
            let instance = generation.open("acct", &"".into(), secrets()).unwrap();
            let Err(StepError::BadEffect { reason: found }) = step(&instance, letter).await else {
                unreachable!("a bad effect was taken");
            };
            assert_eq!(found, reason);
            assert_quarantined(&instance, QuarantineReason::BadEffect).await;
            assert_eq!(generation.counters().bad_effects, 1);
        }
    }

    #[tokio::test]
    async fn a_slow_call_is_counted_and_answered() {
        let host = PluginHost::new(Options { soft_ms: 10, ..Options::default() });
        let instance = open(&host, "slow", "script.c");
        assert!(step(&instance, b"S").await.is_ok());
        let counters = instance.generation().counters();
        assert_eq!((counters.soft_overruns, counters.timeouts), (1, 0));
        assert!(counters.time_us >= 30_000);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_runs_what_it_took() {
        let host = PluginHost::new(Options { workers: 1, queue: 2, ..Options::default() });
        let instance = open(&host, "busy", "script.c");
        let steps: Vec<_> = (0..12)
            .map(|_| {
                let instance = instance.clone();
                tokio::spawn(async move { step(&instance, b"S").await })
            })
            .collect();
        let (mut done, mut busy) = (0, 0);
        for result in steps {
            match result.await.unwrap() {
                Ok(_) => done += 1,
                Err(StepError::Busy) => busy += 1,
                Err(other) => unreachable!("{other}"),
            }
        }
        assert!((2..=3).contains(&done), "{done} were run");
        assert_eq!(done + busy, 12);
        assert_eq!(instance.generation().counters().busy, busy);
        assert!(host.healthy());
    }

    #[tokio::test]
    async fn a_caller_that_is_gone_is_not_worked_for() {
        let host = PluginHost::new(Options { workers: 1, ..Options::default() });
        let instance = open(&host, "gone", "script.c");
        let first = tokio::spawn({
            let instance = instance.clone();
            async move { step(&instance, b"L").await }
        });
        until(|| instance.generation().counters().calls == 2).await;
        for _ in 0..5 {
            let second = step(&instance, b"S");
            let waited = tokio::time::timeout(Duration::from_millis(1), second).await;
            assert!(waited.is_err());
        }
        assert!(first.await.unwrap().is_ok());
        assert!(step(&instance, b"S").await.is_ok());
        assert_eq!(instance.generation().counters().calls, 3);
    }
}

mod deadlines {
    use super::*;

    #[tokio::test]
    async fn a_plugin_that_hangs_is_given_up_and_its_thread_replaced() {
        let host = host(250);
        let good = open(&host, "hang-good", "echo.c");
        let bad = open(&host, "hang-bad", "script.c");
        let since = Instant::now();
        assert_eq!(step(&bad, b"H").await, Err(StepError::TimedOut));
        let took = since.elapsed();
        assert!((250..3000).contains(&took.as_millis()), "{took:?}");
        assert_quarantined(&bad, QuarantineReason::TimedOut).await;
        assert_eq!(bad.generation().counters().timeouts, 1);
        let pool = host.pool();
        assert_eq!((pool.workers, pool.abandoned), (4, 1));
        assert!(step(&good, b"x").await.is_ok() && host.healthy());
    }

    #[tokio::test]
    async fn the_third_stuck_thread_makes_the_host_unhealthy_but_not_dead() {
        let host = host(250);
        let good = open(&host, "three-good", "echo.c");
        let bad = open(&host, "three-bad", "script.c");
        let stuck = [(); 3].map(|()| {
            let bad = bad.clone();
            tokio::spawn(async move { step(&bad, b"H").await })
        });
        for step in stuck {
            assert_eq!(step.await.unwrap(), Err(StepError::TimedOut));
        }
        let pool = host.pool();
        assert_eq!((pool.workers, pool.abandoned), (3, 3));
        assert!(!host.healthy());
        assert!(step(&good, b"x").await.is_ok());
    }

    #[tokio::test]
    async fn when_every_thread_is_stuck_callers_are_told_at_once() {
        let options = Options { workers: 1, hard_ms: 250, abandoned_max: 0, ..Options::default() };
        let host = PluginHost::new(options);
        let good = open(&host, "dead-good", "echo.c");
        let bad = open(&host, "dead-bad", "script.c");
        let generation = bad.generation().clone();
        let stuck = tokio::spawn(async move { step(&bad, b"H").await });
        until(|| generation.counters().calls == 2).await;
        // It waits behind the stuck call, and is let go with it.
        let waits = tokio::spawn({
            let good = good.clone();
            async move { step(&good, b"x").await }
        });
        assert_eq!(stuck.await.unwrap(), Err(StepError::TimedOut));
        assert_eq!(waits.await.unwrap(), Err(StepError::Busy));
        assert_eq!(step(&good, b"x").await, Err(StepError::Busy));
        assert!(!host.healthy());
    }

    #[tokio::test]
    async fn a_thread_that_comes_back_late_joins_again() {
        let options = Options { workers: 1, hard_ms: 250, abandoned_max: 0, ..Options::default() };
        let host = PluginHost::new(options);
        let good = open(&host, "late-good", "echo.c");
        let bad = open(&host, "late-bad", "script.c");
        assert_eq!(step(&bad, b"L").await, Err(StepError::TimedOut));
        assert!(!host.healthy());
        until(|| host.healthy()).await;
        assert_eq!(host.pool().abandoned, 0);
        assert!(step(&good, b"x").await.is_ok());
        assert_quarantined(&bad, QuarantineReason::TimedOut).await;
    }
}

mod beside_their_callers {
    use super::*;

    /// Runs on a thread of a runtime of two, of which one is to spare.
    fn on_two_threads(work: impl Future<Output = ()> + Send + 'static) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::spawn(work).await }).unwrap();
        // A thread may be stuck for good.
        runtime.shutdown_background();
    }

    fn host() -> Arc<PluginHost> {
        PluginHost::new(Options { workers: 1, hard_ms: 250, beside: 1, ..Options::default() })
    }

    #[test]
    fn a_call_that_hangs_leaves_everybody_else_a_thread() {
        on_two_threads(async {
            let host = host();
            let good = open(&host, "beside-good", "echo.c");
            let bad = open(&host, "beside-bad", "script.c");
            let stuck = tokio::spawn({
                let bad = bad.clone();
                async move { step(&bad, b"H").await }
            });
            until(|| bad.generation().counters().calls == 2).await;
            // It is not given up yet, and the runtime goes on.
            assert!(step(&good, b"x").await.is_ok());
            assert_eq!(bad.generation().quarantine(), None);
            assert_eq!(stuck.await.unwrap(), Err(StepError::TimedOut));
            assert_quarantined(&bad, QuarantineReason::TimedOut).await;
            // The pool's own thread was not the one.
            let pool = host.pool();
            assert_eq!((pool.workers, pool.running, pool.abandoned), (1, 0, 1));
            for _ in 0..100 {
                assert!(step(&good, b"x").await.is_ok());
            }
            assert!(host.healthy());
        });
    }

    #[test]
    fn a_thread_that_comes_back_late_is_used_again() {
        on_two_threads(async {
            let host = host();
            let good = open(&host, "back-good", "echo.c");
            for _ in 0..2 {
                let late = open(&host, "back-late", "script.c");
                assert_eq!(step(&late, b"L").await, Err(StepError::TimedOut));
                until(|| host.pool().abandoned == 0).await;
            }
            assert!(step(&good, b"x").await.is_ok());
            assert!(host.healthy());
        });
    }

    #[test]
    fn hundreds_of_calls_at_once_each_get_their_own_answer() {
        on_two_threads(async {
            let host = host();
            let instance = open(&host, "beside-parallel", "echo.c");
            let steps = (0..400_u32).map(|i| {
                let instance = instance.clone();
                tokio::spawn(async move {
                    let body = i.to_be_bytes();
                    let out = instance.step(&envelope(), b"", &body).await.unwrap();
                    assert_eq!(out.body, body);
                })
            });
            for step in steps.collect::<Vec<_>>() {
                step.await.unwrap();
            }
            assert_eq!(instance.generation().counters().calls, 401);
        });
    }
}

mod generations {
    use super::*;

    #[tokio::test]
    async fn a_new_version_serves_beside_the_old_one() {
        let host = host(5000);
        let path = folder("swap").join("swap.so");
        let mut instances = Vec::new();
        for version in ["1.0.0", "2.0.0", "3.0.0"] {
            let flag = format!("-DTEST_VERSION=\"{version}\"");
            fs::copy(build(&format!("swap-{version}"), "echo.c", &[&flag]), &path).unwrap();
            let generation = host.load(&path, Pin::Unpinned).unwrap();
            assert_eq!((generation.version(), generation.file()), (version, "swap.so"));
            instances.push(generation.open("acct", &"".into(), secrets()).unwrap());
        }
        for instance in &instances {
            assert!(step(instance, b"x").await.is_ok());
        }
        let numbers: Vec<u64> = host.generations().iter().map(|g| g.number()).collect();
        assert_eq!(numbers, [1, 2, 3]);
        instances.remove(0);
        until(|| host.generations().len() == 2).await;
    }

    #[tokio::test]
    async fn the_same_bytes_are_loaded_once_and_anew_after_a_quarantine() {
        let host = host(5000);
        let path = build("same", "script.c", &[]);
        let first = host.load(&path, Pin::Unpinned).unwrap();
        let again = host.load(&path, Pin::Sha256(first.sha256())).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let instance = first.open("acct", &"".into(), secrets()).unwrap();
        assert_eq!(step(&instance, b"P").await, Err(StepError::Panicked));
        let error = first.open("acct", &"".into(), secrets()).unwrap_err();
        assert_eq!(error.to_string(), "plugin is in quarantine: panicked");
        let fresh = host.load(&path, Pin::Unpinned).unwrap();
        assert_eq!((fresh.number(), fresh.quarantine()), (2, None));
        let instance = fresh.open("acct", &"".into(), secrets()).unwrap();
        assert!(step(&instance, b"S").await.is_ok());
    }

    #[tokio::test]
    async fn an_instance_ends_once_nothing_uses_it_and_never_after_a_quarantine() {
        let host = host(5000);
        let folder = folder("ends");
        let generation = host.load(&build("ends", "script.c", &[]), Pin::Unpinned).unwrap();
        let open = |name: &str| {
            let ended = folder.join(name);
            let config = ended.to_str().unwrap().into();
            (ended, generation.open("acct", &config, secrets()).unwrap())
        };
        let (ended, instance) = open("ended");
        let slow = tokio::spawn({
            let instance = instance.clone();
            async move { step(&instance, b"L").await }
        });
        until(|| generation.counters().calls == 2).await;
        drop(instance);
        assert!(!ended.exists(), "a call is in flight");
        assert!(slow.await.unwrap().is_ok());
        until(|| ended.exists()).await;

        let (ended, instance) = open("quarantined");
        assert_eq!(step(&instance, b"P").await, Err(StepError::Panicked));
        drop(instance);
        until(|| host.pool().running + host.pool().queued == 0).await;
        assert!(!ended.exists());
    }

    #[test]
    fn a_plugin_that_cannot_open_an_account_says_why() {
        let host = host(250);
        let open = |config: &str| {
            let flag = format!("-DTEST_VERSION=\"{config}\"");
            let path = build(&format!("open-{config}"), "echo.c", &[&flag]);
            let generation = host.load(&path, Pin::Unpinned).unwrap();
            let error = generation.open("acct", &config.into(), secrets()).unwrap_err();
            (error, generation.quarantine().map(|q| q.reason))
        };
        let text = "the configurationis wrong".to_owned();
        assert_eq!(open("refuse"), (OpenError::Fault { kind: FaultKind::Config, text }, None));
        assert_eq!(open("panic"), (OpenError::Panicked, Some(QuarantineReason::Panicked)));
        assert_eq!(open("hang"), (OpenError::TimedOut, Some(QuarantineReason::TimedOut)));
        assert_eq!(host.pool().abandoned, 1);
    }

    #[tokio::test]
    async fn the_providers_of_this_repository_load_where_they_are_built() {
        for name in ["alipay", "checkout"] {
            let Some(path) = built_provider(name) else { continue };
            let seen = inspect(&path).unwrap();
            let manifest = seen.manifest.expect("readable from the file");
            assert_eq!(manifest.id, name);
            assert!(seen.warnings.is_empty(), "{:?}", seen.warnings);
            let generation = host(5000).load(&path, Pin::Sha256(seen.sha256)).unwrap();
            assert_eq!(generation.manifest().id, name);
            assert_eq!(generation.version(), manifest.version);
            let (config, secrets) = account(&manifest);
            let instance = generation.open("acct", &config, secrets).unwrap();
            // What it answers is its own tests' matter; that it keeps to the contract is ours.
            match instance.step(&envelope(), b"", b"").await {
                Ok(StepOut { next: Next::Send(send), body, .. }) => {
                    let op = Operation::Authorize;
                    let classified = classify_send(&manifest, op, &send, &body).unwrap();
                    assert_ne!(classified.purpose, UNLISTED);
                    let read = classify_send(&manifest, Operation::Inquire, &send, &body);
                    assert!(read.unwrap_err().quarantines());
                }
                Ok(StepOut { next: Next::Done(_), .. }) | Err(StepError::Fault { .. }) => {}
                Err(error) => unreachable!("{error}"),
            }
            let garbled = instance.step(&envelope(), b"garbled", b"").await;
            assert!(matches!(garbled, Err(StepError::Fault { kind: FaultKind::Input, .. })));
            assert_eq!(generation.quarantine(), None);
        }
    }
}

mod services {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[tokio::test]
    async fn a_plugin_uses_keys_by_name_and_gets_only_results() {
        let host = host(5000);
        let instance = open(&host, "services", "script.c");
        let body = |result: Result<StepOut, StepError>| result.unwrap().body;

        let mac = body(instance.step(&envelope(), b"", b"m:mac:data").await);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"whsec");
        assert_eq!(mac, ring::hmac::sign(&key, b"data").as_ref());

        let signature = body(instance.step(&envelope(), b"", b"s:private:data").await);
        let public = KEY.to_public_key().to_pkcs1_der().unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_bytes());
        assert!(public.verify(b"data", &signature).is_ok());

        for (start, proof, good, bad) in
            [("v:public:", &signature, "data", "datA"), ("w:mac:", &mac, "data", "")]
        {
            for (data, verdict) in [(good, "good"), (bad, "bad")] {
                let input = [start.as_bytes(), proof, data.as_bytes()].concat();
                let seen = body(instance.step(&envelope(), b"", &input).await);
                assert_eq!(String::from_utf8(seen).unwrap(), verdict, "{start} {data}");
            }
        }
    }

    #[tokio::test]
    async fn a_key_of_another_name_or_kind_is_not_used() {
        let host = host(5000);
        let instance = open(&host, "wrong-key", "script.c");
        for (body, kind) in [
            ("m:other:data", FaultKind::Config),
            ("m:\u{e9}\0:data", FaultKind::Config),
            ("m:private:data", FaultKind::Unsupported),
            ("s:other:data", FaultKind::Config),
            ("s:mac:data", FaultKind::Unsupported),
            ("s:public:data", FaultKind::Unsupported),
        ] {
            let text = "the service failed".to_owned();
            let fault = Err(StepError::Fault { kind, text });
            assert_eq!(step(&instance, body.as_bytes()).await, fault, "{body}");
        }
    }

    #[test]
    fn rsa_keys_are_read_in_the_four_usual_forms_and_weak_ones_are_not() {
        let private = |pem: String| one(SecretKind::RsaPrivate, &pem);
        let public = |pem: String| one(SecretKind::RsaPublic, &pem);
        let both = KEY.to_public_key();
        private(KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()).unwrap();
        private(KEY.to_pkcs1_pem(LineEnding::CRLF).unwrap().to_string()).unwrap();
        public(both.to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        public(both.to_pkcs1_pem(LineEnding::CRLF).unwrap()).unwrap();

        let weak = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
        let pem = weak.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let error = private(pem).unwrap_err();
        assert!(error.contains("2048"), "{error}");
        let pem = weak.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
        let error = public(pem).unwrap_err();
        assert_eq!(error, "secret can't be used, the RSA key has fewer than 2048 bits: k");

        // Cut or changed anywhere, a key is refused or another key, but reading it goes well.
        let pem = both.to_public_key_pem(LineEnding::LF).unwrap();
        let der = both.to_public_key_der().unwrap();
        for len in 0..der.as_bytes().len() {
            use base64::Engine;
            let cut = base64::engine::general_purpose::STANDARD.encode(&der.as_bytes()[..len]);
            let text = format!("-----BEGIN PUBLIC KEY-----\n{cut}\n-----END PUBLIC KEY-----");
            assert!(public(text).is_err(), "{len}");
        }
        assert!(private(pem.clone()).unwrap_err().contains("it is a public key"));
        assert!(public(pem.clone() + &pem).unwrap_err().contains("more than one PEM block"));
    }

    fn one(kind: SecretKind, value: &str) -> Result<(), String> {
        let declared = BTreeMap::from([("k".to_owned(), kind)]);
        Secrets::from_pairs(&declared, vec![("k".into(), SecretString::from(value))])
            .map(drop)
            .map_err(|e| e.to_string())
    }
}

/// `openssl genpkey -algorithm ed25519`, for this test alone.
const OPENSSL_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIKRLIotrXMSklVqWn8xW2X+AxOQZcYjjngoFt/0YQW4n\n\
    -----END PRIVATE KEY-----\n";
/// `openssl pkey -pubout` of it.
const OPENSSL_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA8cIIlUqURyWmctE3rooxm8dKAvaMKCWFBz9uLzlQJWQ=\n\
    -----END PUBLIC KEY-----\n";

static KEY: LazyLock<RsaPrivateKey> =
    LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());

fn host(hard_ms: u64) -> Arc<PluginHost> {
    PluginHost::new(Options { hard_ms, ..Options::default() })
}

fn open(host: &PluginHost, name: &str, source: &str) -> Arc<Instance> {
    let generation = host.load(&build(name, source, &[]), Pin::Unpinned).unwrap();
    generation.open("acct", &"".into(), secrets()).unwrap()
}

fn secrets() -> Secrets {
    let declared = BTreeMap::from([
        ("mac".to_owned(), SecretKind::Mac),
        ("private".to_owned(), SecretKind::RsaPrivate),
        ("public".to_owned(), SecretKind::RsaPublic),
    ]);
    let private = KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let public = KEY.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let pairs = [("mac", "whsec".to_owned()), ("private", private), ("public", public)];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), SecretString::from(value)));
    Secrets::from_pairs(&declared, pairs.into()).unwrap()
}

/// An account with a plain value for everything that the manifest asks for.
fn account(manifest: &interlock_plugin_api::Manifest) -> (serde_json::Value, Secrets) {
    let field = |kind: &str| match kind {
        "boolean" => serde_json::json!(true),
        "integer" => serde_json::json!(1),
        _ => serde_json::json!("2021000000000000"),
    };
    let required = manifest.config.iter().filter(|(_, field)| field.required);
    let config = required.map(|(name, f)| (name.clone(), field(&f.kind))).collect();
    let pem = |kind| match kind {
        SecretKind::RsaPrivate => KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        SecretKind::RsaPublic => KEY.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
        SecretKind::Header | SecretKind::Mac => "plain".to_owned(),
        SecretKind::MacHex => "00112233445566778899".to_owned(),
        SecretKind::Aead => "0".repeat(32),
    };
    let pairs = manifest.secrets.iter().map(|(n, k)| (n.clone(), SecretString::from(pem(*k))));
    let secrets = Secrets::from_pairs(&manifest.secrets, pairs.collect()).unwrap();
    (serde_json::Value::Object(config), secrets)
}

/// One step; the answer without what can't be compared.
async fn step(instance: &Instance, body: &[u8]) -> Result<(), StepError> {
    instance.step(&envelope(), b"", body).await.map(drop)
}

async fn assert_quarantined(instance: &Instance, reason: QuarantineReason) {
    assert_eq!(instance.generation().quarantine().map(|q| q.reason), Some(reason));
    let calls = instance.generation().counters().calls;
    assert_eq!(step(instance, b"S").await, Err(StepError::Quarantined { reason }));
    assert_eq!(instance.generation().counters().calls, calls);
}

/// Waits for another thread, at most ten seconds.
async fn until(mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(10), "it never happened");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn envelope() -> Envelope {
    Envelope {
        op: Operation::Authorize,
        now_ms: 1_764_000_000_000,
        made_ms: 1_764_000_000_000,
        entropy: "00112233445566778899aabbccddeeff".into(),
        request: Request {
            op_id: "op1234567890".into(),
            amount: Money::new(100, Currency::parse("CNY").unwrap()),
            exponent: 2,
            capture: CaptureMode::Automatic,
            method: "alipay".into(),
            flow: "qr".into(),
            credential: None,
            description: None,
            return_url: None,
            notify_url: None,
            customer: Customer::default(),
            original: None,
            target: None,
            reason: None,
            details: None,
            wanted: None,
            period: None,
        },
        event: Event::Start,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// Compiles a plugin to `NAME.so`; every test uses names of its own.
fn build(name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let path = SCRATCH.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins").join(source);
    let define = |flag: &str| match flag.split_once("=\"") {
        Some((name, value)) => {
            format!("{name}=\"{}\"", value.trim_end_matches('"').replace('"', "\\\""))
        }
        None => flag.to_owned(),
    };
    let mut cc = compiler();
    cc.args(["-shared", "-fPIC", "-O1"]).args(flags.iter().map(|f| define(f)));
    let done = cc.arg(source).arg("-o").arg(&path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    path
}

fn compiler() -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-I"]).arg(header().parent().unwrap());
    cc.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins"));
    cc
}

fn header() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../../plugin-api/include/interlock_plugin.h")
}

fn folder(name: &str) -> PathBuf {
    let path = SCRATCH.join(name);
    fs::create_dir_all(&path).unwrap();
    path
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

/// A provider's library beside the test's own folder, if it has been built.
fn built_provider(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let path = test.parent()?.parent()?.join(format!("lib{name}.so"));
    // An empty library is a provider that is not written yet.
    match inspect(&path) {
        Err(LoadError { reason: LoadReason::Unreadable(_) | LoadReason::NoEntry, .. }) => None,
        _ => Some(path),
    }
}

/// A folder of this run; those of runs that have ended are removed.
static SCRATCH: LazyLock<PathBuf> = LazyLock::new(|| {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("host");
    let ours = all.join(std::process::id().to_string());
    fs::create_dir_all(&ours).unwrap();
    for old in fs::read_dir(&all).unwrap().flatten() {
        if !Path::new("/proc").join(old.file_name()).exists() {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    ours
});
