//! Files: what can't be used is refused by its name, before anything of it runs.

use std::fs;
use std::path::Path;

use interlock_plugin_host::*;

use crate::stage::{build, compiler, folder, header, host, sha256};

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
        ("noentry", &["-DTEST_ENTRY=other"], "plugin exports no `interlock_plugin_v1`: noentry.so"),
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
