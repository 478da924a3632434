//! Damages bytes in the same way on every machine, for the tests of every parser of bytes from
//! outside: what a fuzzer looks for, as a stable test with bounded cases.
//!
//! Seeds are files of `tests/corpora/`, all of them made for this house, and of the product itself.
//! A parser's own crate includes this file by its path, because no crate of the product may import
//! the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest that one case may take. A parser needs microseconds; a busy machine needs patience.
const PATIENCE: Duration = Duration::from_secs(2);

/// What parsers stumble over: ends, nestings, numbers at their bounds, other alphabets.
const WORDS: [&[u8]; 34] = [
    b"\0",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":",
    b":",
    b",",
    b"=",
    b"&",
    b"%",
    b"%00",
    b"%ff",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"9223372036854775808",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    "\u{202e}é好".as_bytes(),
];

/// Gives every seed to `check`, then `rounds` damaged forms of each. Answers how many cases there
/// were. A parser that panics or is slow fails with the case that did it. A seed is a file, or all
/// of a folder, by its path from the root of the repository.
pub fn each(paths: &[&str], rounds: usize, mut check: impl FnMut(&[u8])) -> usize {
    let seeds: Vec<_> = paths.iter().flat_map(|path| seeds(path)).collect();
    let mut cases = 0;
    let mut give = |name: &str, round: usize, bytes: &[u8]| {
        let case = Case { name, round, bytes };
        let began = Instant::now();
        check(bytes);
        assert!(began.elapsed() < PATIENCE, "slow: {:?}", began.elapsed());
        case.survived();
        cases += 1;
    };
    for (n, (name, seed)) in seeds.iter().enumerate() {
        give(name, 0, seed);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (n as u64 + 1));
        for round in 1..=rounds {
            let mut bytes = seed.clone();
            for _ in 0..=dice.below(3) {
                damage(&mut bytes, &seeds, &mut dice);
            }
            give(name, round, &bytes);
        }
    }
    cases
}

/// Says which case it was, when the parser panics.
struct Case<'a> {
    name: &'a str,
    round: usize,
    bytes: &'a [u8],
}

impl Case<'_> {
    fn survived(self) {
        std::mem::forget(self);
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        let (name, round) = (self.name, self.round);
        let text = String::from_utf8_lossy(self.bytes);
        let told = format!("--- the case that failed: {name}, round {round}\n{text:?}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes());
    }
}

/// The seeds at a path, by name. A name that ends in `.hex` holds bytes in hexadecimal.
fn seeds(path: &str) -> Vec<(String, Vec<u8>)> {
    let path = root().join(path);
    let mut files = vec![path.clone()];
    if path.is_dir() {
        let inside = fs::read_dir(&path).expect("the corpus can be read").flatten();
        files = inside.map(|file| file.path()).collect();
        files.sort();
    }
    let seed = |file: PathBuf| {
        let bytes = fs::read(&file).expect("a seed can be read");
        let is_hex = file.extension().is_some_and(|ending| ending == "hex");
        let name = file.display().to_string();
        (name, if is_hex { from_hex(&bytes) } else { bytes })
    };
    assert!(!files.is_empty(), "an empty corpus tests nothing: {}", path.display());
    files.into_iter().map(seed).collect()
}

/// The manifests of all plugins, by their paths from the root.
#[allow(dead_code, reason = "not every crate that includes this file reads manifests")]
pub fn manifests() -> Vec<String> {
    let folders = fs::read_dir(root().join("plugins")).expect("plugins are there").flatten();
    let names = folders.map(|folder| folder.file_name().to_string_lossy().into_owned());
    let paths = names.map(|name| format!("plugins/{name}/manifest.json"));
    paths.filter(|path| root().join(path).is_file()).collect()
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = here.ancestors().filter(|folder| folder.join("tests/corpora").is_dir());
    above.next().expect("tests/corpora is in the repository").to_path_buf()
}

fn from_hex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text.iter().filter(|b| b.is_ascii_hexdigit()).copied().collect();
    let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    digits.chunks_exact(2).map(|two| value(two[0]) << 4 | value(two[1])).collect()
}

fn damage(bytes: &mut Vec<u8>, seeds: &[(String, Vec<u8>)], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let end = (at + dice.below(16) + 1).min(bytes.len());
    match dice.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
        2 => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
        3 => drop(bytes.splice(at..end, WORDS[dice.below(WORDS.len())].iter().copied())),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copy = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        6 => bytes.truncate(at),
        _ => {
            let (_, other) = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            let until = (from + dice.below(64)).min(other.len());
            drop(bytes.splice(at..end, other[from..until].iter().copied()));
        }
    }
}

/// SplitMix64: the same throws everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}
