//! The disk under the journal: who may use the directory, how much is left, and the reserve.
//!
//! Nothing was sent yet for a new payment, so it can be refused while the disk still has room;
//! what already happened to the others must be written down to the last byte. A preallocated file
//! is that last byte: it is deleted when the disk is full, and made again when there is room.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::OpenError;

const LOCK_FILE: &str = "journal.lock";
const RESERVE_FILE: &str = "journal.reserve";

/// What the store asks of the medium that it stands on. Tests give it another one.
pub trait Medium: Send + Sync + 'static {
    /// Bytes that this process may still write in `dir`.
    ///
    /// # Errors
    /// An answer that cannot be had counts as a disk that is nearly full.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes the names of the files in `dir` durable, which are the directory's own bytes.
    ///
    /// # Errors
    /// An error means that a new file may be gone after a power cut, so it is not written to.
    fn sync_names(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Writes a file again, byte for byte, and syncs it; a file that is missing or empty is done.
    ///
    /// A sync that fails may leave pages that are marked as written and are not on the disk. They
    /// are read as if they were, and the next sync passes over them; only writing them again makes
    /// it try them.
    ///
    /// # Errors
    /// An error means that what is read from the file may not be on the disk.
    fn rewrite(&self, path: &Path) -> io::Result<()> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut chunk = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            file.seek(io::SeekFrom::Start(at))?;
            let count = file.read(&mut chunk)?;
            if count == 0 {
                return file.sync_all();
            }
            file.seek(io::SeekFrom::Start(at))?;
            file.write_all(&chunk[..count])?;
            at += count as u64;
        }
    }

    /// Called on the writer's thread around each sync.
    ///
    /// # Errors
    /// An error is taken for a failed sync: what the transaction held is unknown.
    fn syncing(&self, moment: Moment) -> io::Result<()> {
        let _ = moment;
        Ok(())
    }
}

/// When the medium is told of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The transaction is complete and not yet handed to the disk.
    Before,
    /// The sync returned.
    After,
}

/// The operating system's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Medium for RealDisk {}

/// The right to use a data directory; the kernel takes it back when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| OpenError::io(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(20).read_to_string(&mut holder);
                return Err(OpenError::Locked {
                    dir: dir.to_path_buf(),
                    pid: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&path, &error)),
        }
        // The number is for a person who wonders who holds the lock; a disk that has no room for
        // it must still be opened.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

/// What is left of the disk.
pub(super) struct Disk {
    dir: PathBuf,
    medium: Arc<dyn Medium>,
    low_water_bytes: u64,
    reserve_bytes: u64,
    poll_every: Duration,
    started: Instant,
    /// Milliseconds after `started` before which nobody asks again.
    next_poll_ms: AtomicU64,
    low: AtomicBool,
    reserve: Mutex<Reserve>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reserve {
    Kept,
    Spent,
}

impl Disk {
    pub(super) fn new(
        dir: &Path,
        medium: Arc<dyn Medium>,
        low_water_bytes: u64,
        reserve_bytes: u64,
        poll_every: Duration,
    ) -> Self {
        let kept = dir.join(RESERVE_FILE).metadata().is_ok_and(|m| m.len() == reserve_bytes);
        let disk = Self {
            dir: dir.to_path_buf(),
            medium,
            low_water_bytes,
            reserve_bytes,
            poll_every,
            started: Instant::now(),
            next_poll_ms: AtomicU64::new(0),
            low: AtomicBool::new(false),
            reserve: Mutex::new(if kept { Reserve::Kept } else { Reserve::Spent }),
        };
        disk.poll();
        disk.restore();
        disk
    }

    /// Whether new work must be refused. Asks the medium at most once in each interval.
    pub(super) fn is_low(&self) -> bool {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due_ms = self.next_poll_ms.load(Ordering::Relaxed);
        let every_ms = u64::try_from(self.poll_every.as_millis()).unwrap_or(u64::MAX);
        if now_ms >= due_ms
            && self
                .next_poll_ms
                .compare_exchange(
                    due_ms,
                    now_ms.saturating_add(every_ms),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            self.poll();
        }
        self.low.load(Ordering::Relaxed)
    }

    /// Gives the reserve to the file system; false if it was given before.
    pub(super) fn spend(&self) -> bool {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        self.low.store(true, Ordering::Relaxed);
        if *reserve == Reserve::Spent {
            return false;
        }
        *reserve = Reserve::Spent;
        let removed = std::fs::remove_file(self.dir.join(RESERVE_FILE));
        tracing::warn!(
            bytes = self.reserve_bytes,
            removed = removed.is_ok(),
            "the journal's disk is full: its reserve is given up"
        );
        true
    }

    /// Makes the reserve again when there is room for it above the low-water mark.
    pub(super) fn restore(&self) {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        if *reserve == Reserve::Kept {
            return;
        }
        let needed = self.low_water_bytes.saturating_add(self.reserve_bytes);
        if self.free().is_none_or(|free| free < needed) {
            return;
        }
        match self.allocate() {
            Ok(()) => *reserve = Reserve::Kept,
            Err(error) => {
                let _ = std::fs::remove_file(self.dir.join(RESERVE_FILE));
                tracing::warn!(%error, "the journal's reserve could not be made");
            }
        }
        drop(reserve);
        self.poll();
    }

    pub(super) fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// Less is left than the reserve would give back: a failure here is likely one of space.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.free().is_none_or(|free| free < self.reserve_bytes)
    }

    fn poll(&self) {
        let was_low = self.low.load(Ordering::Relaxed);
        let spent = {
            let reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
            *reserve == Reserve::Spent && self.reserve_bytes > 0
        };
        // A mark that is crossed both ways by one payment's own bytes would flap; going back up
        // takes as much more as the reserve is large.
        let mark = if was_low {
            self.low_water_bytes.saturating_add(if spent { 0 } else { self.reserve_bytes })
        } else {
            self.low_water_bytes
        };
        let free = self.free();
        let low = free.is_none_or(|free| free < mark) || (was_low && spent);
        if low != was_low {
            self.low.store(low, Ordering::Relaxed);
            if low {
                tracing::warn!(free, mark, "new payments are refused: the disk is nearly full");
            } else {
                tracing::info!(free, mark, "new payments are taken again: the disk has room");
            }
        }
    }

    fn free(&self) -> Option<u64> {
        match self.medium.free_bytes(&self.dir) {
            Ok(free) => Some(free),
            Err(error) => {
                tracing::warn!(%error, "the journal's disk does not say how much is free");
                None
            }
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let path = self.dir.join(RESERVE_FILE);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        let made = rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::empty(),
            0,
            self.reserve_bytes,
        );
        match made {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                io::copy(&mut io::repeat(0).take(self.reserve_bytes), &mut file)?;
            }
            Err(error) => return Err(error.into()),
        }
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let second = Lock::take(dir.path()).unwrap_err();
        assert_eq!(
            second,
            OpenError::Locked { dir: dir.path().into(), pid: Some(std::process::id()) }
        );
        drop(first);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn the_mark_has_a_wide_edge() {
        let (dir, free) = (tempfile::tempdir().unwrap(), Free::of(2000));
        let disk = disk(dir.path(), &free);
        assert!(!disk.is_low());
        free.set(999);
        assert!(disk.is_low());
        free.set(1050);
        assert!(disk.is_low(), "a few bytes more are not room");
        free.set(1100);
        assert!(!disk.is_low());
    }

    #[test]
    fn a_disk_that_gives_no_answer_takes_no_new_work() {
        let (dir, free) = (tempfile::tempdir().unwrap(), Free::of(2000));
        let disk = disk(dir.path(), &free);
        free.set(u64::MAX);
        assert!(disk.is_low());
    }

    #[test]
    fn a_spent_reserve_keeps_the_disk_low_until_it_is_made_again() {
        let (dir, free) = (tempfile::tempdir().unwrap(), Free::of(2000));
        let disk = disk(dir.path(), &free);
        let file = dir.path().join(RESERVE_FILE);
        assert_eq!(file.metadata().unwrap().len(), 100);
        assert!(disk.spend());
        assert!(!disk.spend(), "it can be given once");
        assert!(!file.exists());
        assert!(disk.is_low());
        free.set(1099);
        disk.restore();
        assert!(!file.exists() && disk.is_low());
        free.set(1100);
        disk.restore();
        assert!(file.exists() && !disk.is_low());
    }

    fn disk(dir: &Path, free: &Arc<Free>) -> Disk {
        Disk::new(dir, free.clone(), 1000, 100, Duration::ZERO)
    }

    struct Free(AtomicU64);

    impl Free {
        fn of(bytes: u64) -> Arc<Self> {
            Arc::new(Self(AtomicU64::new(bytes)))
        }
        fn set(&self, bytes: u64) {
            self.0.store(bytes, Ordering::Relaxed);
        }
    }

    impl Medium for Free {
        fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
            match self.0.load(Ordering::Relaxed) {
                u64::MAX => Err(io::Error::other("no answer")),
                bytes => Ok(bytes),
            }
        }
    }
}
