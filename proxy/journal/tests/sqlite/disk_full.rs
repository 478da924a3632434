//! A disk that fills: new work is refused first, what happened is written to the last byte.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use interlock_journal::{
    Committed, Health, Medium, Options, Purpose, SqliteStore, Store, StoreError, Write,
};

use crate::ground::{done, payment, version};

const MOUNTED: &str = "JOURNAL_SMALL_DISK";
const NO_MOUNT: i32 = 77;

#[tokio::test]
async fn below_the_mark_new_work_is_refused_and_outcomes_pass() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(Free(AtomicU64::new(10_000)));
    let options = Options {
        low_water_bytes: 1_000,
        reserve_bytes: 100,
        poll_every: Duration::ZERO,
        medium: free.clone(),
        ..Options::default()
    };
    let store = SqliteStore::open(dir.path(), options).unwrap();
    done(&store, intake("p")).await;

    free.0.store(999, Ordering::Relaxed);
    assert_eq!(store.health(), Health::LowDisk);
    assert_eq!(store.commit(intake("q")).await, Err(StoreError::LowDisk));
    assert_eq!(store.payment("q").await, Ok(None));
    done(&store, version("p", 2)).await;

    free.0.store(10_000, Ordering::Relaxed);
    assert_eq!(store.health(), Health::Writable);
    done(&store, intake("q")).await;
}

/// Runs the next test in a mount namespace of its own, where a small disk vanishes with it.
#[test]
fn a_disk_that_is_really_full_refuses_new_work_and_takes_outcomes() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("mount -t tmpfs -o size=12m tmpfs \"$1\" || exit {NO_MOUNT}; shift; exec \"$@\"");
    let ended = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk_full::on_the_small_disk", "--nocapture"])
        .env(MOUNTED, dir.path())
        .output();
    match ended {
        Ok(out) if out.status.success() => {
            let told = String::from_utf8_lossy(&out.stderr);
            assert!(told.contains("small disk:"), "the inner test ran: {told}");
            eprintln!("{told}");
        }
        Ok(out) if out.status.code() == Some(NO_MOUNT) || told_no(&out.stderr) => {
            eprintln!("skipped: a small disk cannot be mounted here");
        }
        Ok(out) => panic!(
            "{}\n{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        ),
        Err(error) => eprintln!("skipped: no unshare here: {error}"),
    }
}

#[tokio::test]
async fn on_the_small_disk() {
    let Ok(dir) = std::env::var(MOUNTED) else {
        return;
    };
    let dir = Path::new(&dir);
    let options = || Options {
        low_water_bytes: 0,
        reserve_bytes: 4 << 20,
        poll_every: Duration::ZERO,
        ..Options::default()
    };
    let store = SqliteStore::open(dir, options()).unwrap();
    let reserve = dir.join("journal.reserve");
    assert_eq!(reserve.metadata().unwrap().len(), 4 << 20);

    // Somebody else fills the disk, as it is on most nights when this happens.
    let ballast = dir.join("ballast");
    done(&store, intake("first")).await;
    fill(&ballast, 1 << 20);
    let (mut taken, mut refused) = (vec!["first".to_owned()], None);
    for n in 0..1000 {
        let id = format!("p{n}");
        match store.commit(intake(&id)).await {
            Ok(Committed::Done) => taken.push(id),
            other => {
                refused = Some((id, other));
                break;
            }
        }
    }
    let (id, refusal) = refused.expect("the disk became full");
    assert_eq!(refusal, Err(StoreError::Full));
    assert_eq!(store.payment(&id).await, Ok(None));
    assert!(!reserve.exists(), "the reserve was given up");
    assert_eq!(store.health(), Health::LowDisk);
    assert_eq!(store.commit(intake("another")).await, Err(StoreError::LowDisk));

    for id in &taken {
        done(&store, large(version(id, 2))).await;
    }
    assert_eq!(store.health(), Health::LowDisk);

    // And to the very end: an outcome that has no room is refused as a whole.
    let (mut last, mut outcome) = (2, Ok(Committed::Done));
    while outcome == Ok(Committed::Done) && last < 5_000 {
        last += 1;
        outcome = store.commit(large(version("first", last))).await;
    }
    assert!(
        matches!(outcome, Err(StoreError::Full | StoreError::Failed { .. })),
        "{last}: {outcome:?}"
    );
    drop(store);

    std::fs::remove_file(&ballast).unwrap();
    let store = SqliteStore::open(dir, options()).unwrap();
    for id in &taken[1..] {
        assert_eq!(store.payment(id).await.unwrap().unwrap().ver, 2, "{id}");
    }
    assert!(store.payment("first").await.unwrap().unwrap().ver >= last - 1);
    let start = Instant::now();
    while store.health() != Health::Writable {
        assert!(start.elapsed() < Duration::from_secs(30), "it takes work again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    done(&store, intake("after")).await;
    eprintln!("small disk: {} payments taken, {last} versions of one", taken.len());
}

fn told_no(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains("unshare failed")
}

fn intake(id: &str) -> Write {
    large(Write { purpose: Purpose::Intake, ..payment(id) })
}

fn large(mut write: Write) -> Write {
    write.body.resize(8_000, b'x');
    write
}

/// Writes until only `leave` bytes are free.
fn fill(path: &Path, leave: u64) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    while RealDiskOf(path).free() > leave {
        if file.write_all(&[1; 4096]).is_err() {
            return;
        }
    }
}

struct RealDiskOf<'a>(&'a Path);

impl RealDiskOf<'_> {
    fn free(&self) -> u64 {
        interlock_journal::RealDisk.free_bytes(self.0).unwrap()
    }
}

struct Free(AtomicU64);

impl Medium for Free {
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}
