//! This process: its clock, and the keyed numbers that it gives to payments and operations.
//!
//! Numbers come from HMAC-SHA256 over what they stand for, under a key that is made once and kept
//! for ever beside the journal. So a payment whose row is lost with a disk gets the same provider
//! key when the merchant asks again, and the provider recognises it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use interlock_engine::{Mint, Stamp};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::failpoint::{self, Side};

const KEY_FILE: &str = "ids.key";
/// The ending of the file that a key is written to before it has its name.
const DRAFT: &str = "draft";
const KEY_BYTES: usize = 32;
/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 26 digits of 5 bits.
const NUMBER_DIGITS: usize = 26;

/// The clock of one run of one process.
pub struct NodeClock {
    boot: u64,
    started: Instant,
    /// The durable high-water mark that this run began with, Unix ms.
    floor_ms: i64,
    latest_ms: AtomicI64,
}

impl NodeClock {
    /// A clock that never reads less than the durable mark plus the time since the start (G10).
    pub fn new(high_water_ms: i64) -> Self {
        let mut boot = [0; 8];
        // Without randomness the process id and the time still tell two runs apart.
        if SystemRandom::new().fill(&mut boot).is_err() {
            boot = (u64::from(std::process::id()) << 32 | system_ms() as u64 & 0xffff_ffff)
                .to_ne_bytes();
        }
        Self {
            boot: u64::from_ne_bytes(boot),
            started: Instant::now(),
            floor_ms: high_water_ms,
            latest_ms: AtomicI64::new(high_water_ms),
        }
    }

    /// Now.
    pub fn now(&self) -> Stamp {
        let mono_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let at_least = self.floor_ms.saturating_add_unsigned(mono_ms);
        let wall_ms = system_ms().max(at_least);
        let before = self.latest_ms.fetch_max(wall_ms, Ordering::AcqRel);
        Stamp { wall_ms: wall_ms.max(before), boot: self.boot, mono_ms }
    }

    /// The moment of a stamp of this run, for the socket layer.
    pub fn instant(&self, stamp: Stamp) -> Instant {
        self.started + Duration::from_millis(stamp.mono_ms)
    }

    /// The time since a stamp of this run, ms.
    pub fn since_ms(&self, stamp: Stamp) -> u64 {
        self.now().mono_ms.saturating_sub(stamp.mono_ms)
    }
}

/// The key under which numbers and fingerprints are made.
pub struct Numbers {
    key: hmac::Key,
}

impl Numbers {
    /// Reads the key of a data directory, or makes one where the journal holds no `payments`. The
    /// caller holds the directory's lock, so nobody else makes one at the same time.
    ///
    /// # Errors
    /// The file can't be read or written, holds something else, or is missing beside payments.
    pub fn open(data_dir: &Path, payments: u64) -> io::Result<Self> {
        let path = data_dir.join(KEY_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound && payments == 0 => create(&path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(lost(&path, payments)),
            Err(e) => return Err(e),
        };
        if bytes.len() != KEY_BYTES {
            let told = format!("key must have {KEY_BYTES} bytes: {}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, told));
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// A fingerprint of a request's content, which may hold secrets of few digits.
    pub fn fingerprint(&self, content: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"fingerprint\0");
        context.update(content);
        context.sign().as_ref().to_vec()
    }
}

impl Mint for Numbers {
    fn mint(&self, parts: &[&str]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        digits(context.sign().as_ref())
    }
}

fn digits(hash: &[u8]) -> String {
    let bit = |n: usize| hash[n / 8] >> (7 - n % 8) & 1;
    let digit = |d: usize| (0..5).fold(0, |value, n| value << 1 | bit(d * 5 + n));
    (0..NUMBER_DIGITS).map(|d| char::from(ALPHABET[usize::from(digit(d))])).collect()
}

/// A new key would not be that of the payments that are there.
fn lost(path: &Path, payments: u64) -> io::Error {
    let file = path.display();
    let told = format!(
        "it is missing, and the journal beside it holds {payments} payments whose numbers and \
         fingerprints were made with it; with another one, requests that merchants repeat would be \
         refused, and what a lost row has charged could be charged again. Put it back from its \
         backup: {file}. Only if it is lost for good, and no row of the journal is, write a new \
         one: `head -c {KEY_BYTES} /dev/urandom > {file}`"
    );
    io::Error::new(io::ErrorKind::NotFound, told)
}

/// The key gets its name when all of it is on the disk: half a key would never be used and would
/// keep the node from starting for ever.
fn create(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    let draft = path.with_extension(DRAFT);
    failpoint::pass("start.ids_key", Side::Before);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&key)?;
    file.sync_all()?;
    failpoint::pass("start.ids_key", Side::After);
    failpoint::pass("start.ids_key_name", Side::Before);
    fs::rename(&draft, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    failpoint::pass("start.ids_key_name", Side::After);
    Ok(key)
}

fn system_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_number_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Numbers::open(dir.path(), 0).expect("a new key");
        let again = Numbers::open(dir.path(), 7).expect("the same key");
        let number = first.mint(&["payment", "shop", "k1"]);
        assert_eq!(number, again.mint(&["payment", "shop", "k1"]));
        assert_eq!(number.len(), NUMBER_DIGITS);
        assert!(number.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(first.mint(&["ab", "c"]), first.mint(&["a", "bc"]));
        assert_ne!(number, first.mint(&["payment", "shop", "k2"]));
    }

    #[test]
    fn a_clock_set_back_does_not_turn_time_back() {
        let ahead = system_ms() + 3_600_000;
        let clock = NodeClock::new(ahead);
        assert!(clock.now().wall_ms >= ahead);
        let (a, b) = (clock.now(), clock.now());
        assert!(b.wall_ms >= a.wall_ms && b.mono_ms >= a.mono_ms && a.boot == b.boot);
    }

    #[test]
    fn a_key_that_was_half_made_when_the_process_died_is_made_again() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(KEY_FILE).with_extension(DRAFT), b"half").expect("written");
        let first = Numbers::open(dir.path(), 0).expect("a new key");
        let again = Numbers::open(dir.path(), 0).expect("the same key");
        assert_eq!(first.mint(&["payment"]), again.mint(&["payment"]));
        let names = fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(names, 1, "nothing of the draft is left");
    }

    #[test]
    fn a_broken_key_file_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(KEY_FILE), b"short").expect("written");
        assert!(Numbers::open(dir.path(), 0).is_err());
    }

    #[test]
    fn a_key_that_is_missing_beside_payments_is_not_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = Numbers::open(dir.path(), 3).err().expect("it is missing").to_string();
        assert!(refused.contains("3 payments") && refused.contains(KEY_FILE), "{refused}");
        assert!(!dir.path().join(KEY_FILE).exists());
    }
}
