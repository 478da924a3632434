//! One fault at every call that the journal makes of its disk, one after the other: the call fails,
//! once or from then on, and whatever is answered is true when the disk works again.
//!
//! A life is short: open, pay, close, open, pay until a checkpoint was made. For each kind of call
//! and each effect the first call is made to fail, in the next life the second, and so on, until a
//! life ends without having met its fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use interlock_journal::{
    Committed, Health, Medium, Options, Purpose, SqliteStore, Store, StoreError, Write,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rusqlite::ffi;

use crate::cuts::{self, ground, lay_out};
use crate::stage::{Effect, Fault, Lie, Site, Stage, Watcher};
use crate::verdict::{Heard, judge};
use crate::work::{self, Log, Work};

/// Kinds of call, what may happen at one, and whether it may go on happening.
const FAULTS: &[(&str, Site, Effect, bool)] = &[
    ("open", Site::Open, Effect::Fail(ffi::SQLITE_CANTOPEN), true),
    ("read", Site::Read, Effect::Fail(ffi::SQLITE_IOERR_READ), true),
    ("write", Site::Write, Effect::Fail(ffi::SQLITE_IOERR_WRITE), true),
    ("write", Site::Write, Effect::Fail(ffi::SQLITE_FULL), true),
    ("write", Site::Write, Effect::Short(ffi::SQLITE_IOERR_WRITE), false),
    ("write", Site::Write, Effect::Short(ffi::SQLITE_FULL), true),
    ("sync", Site::Sync, Effect::Fail(ffi::SQLITE_IOERR_FSYNC), true),
    ("sync", Site::Sync, Effect::Forget, true),
    ("truncate", Site::Truncate, Effect::Fail(ffi::SQLITE_IOERR_TRUNCATE), true),
    ("delete", Site::Delete, Effect::Fail(ffi::SQLITE_IOERR_DELETE), true),
    ("access", Site::Access, Effect::Fail(ffi::SQLITE_IOERR_ACCESS), true),
    ("size", Site::Size, Effect::Fail(ffi::SQLITE_IOERR_FSTAT), true),
    ("lock", Site::Lock, Effect::Fail(ffi::SQLITE_IOERR_LOCK), true),
    ("lock", Site::Lock, Effect::Fail(ffi::SQLITE_BUSY), false),
    ("shm_map", Site::ShmMap, Effect::Fail(ffi::SQLITE_IOERR_SHMMAP), true),
    ("shm_lock", Site::ShmLock, Effect::Fail(ffi::SQLITE_IOERR_SHMLOCK), true),
    ("shm_lock", Site::ShmLock, Effect::Fail(ffi::SQLITE_BUSY), false),
    ("names", Site::Names, Effect::Fail(0), true),
    ("free", Site::Free, Effect::Fail(0), true),
    ("rewrite", Site::Rewrite, Effect::Fail(0), true),
];
/// More calls of one kind than a life makes.
const MOST: u64 = 2_000;
/// How long a checkpoint may be waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls at which a fault was met at least once, by kind.
    pub sites: BTreeMap<&'static str, u64>,
    pub lives: u64,
    pub faults: u64,
    pub cuts: u64,
    pub refused_openings: u64,
    pub answers: BTreeMap<&'static str, u64>,
    pub found: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        for (name, count) in other.sites {
            let known = self.sites.entry(name).or_default();
            *known = count.max(*known);
        }
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.lives += other.lives;
        self.faults += other.faults;
        self.cuts += other.cuts;
        self.refused_openings += other.refused_openings;
        self.found.extend(other.found);
    }
}

/// Every kind of fault at every call, on two threads.
pub fn run(seed: u64) -> Tally {
    let mut kinds: Vec<(&'static str, Fault)> = Vec::new();
    for (name, site, effect, may_last) in FAULTS {
        for lasts in [false, true] {
            if !lasts || *may_last {
                kinds.push((name, Fault { site: *site, nth: 0, effect: *effect, lasts }));
            }
        }
    }
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, fault)) = kinds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = everywhere(name, *fault, seed);
                    let mut total = total.lock().expect("nobody failed");
                    total.add(tally);
                    let (lives, faults) = (total.lives, total.faults);
                    eprintln!("disk: {name} done, {lives} lives, {faults} faults");
                }
            });
        }
    });
    total.into_inner().expect("nobody failed")
}

/// A disk that forgets and says that it did not: the check must find it out.
pub fn run_with_a_liar(seed: u64) -> Tally {
    let effect = Effect::ForgetSilently;
    everywhere("sync", Fault { site: Site::Sync, nth: 0, effect, lasts: false }, seed)
}

/// One kind of fault, at the first call, at the second, until a life does not come so far.
fn everywhere(name: &'static str, fault: Fault, seed: u64) -> Tally {
    let mut tally = Tally::default();
    for nth in 1..MOST {
        if live(Fault { nth, ..fault }, seed, &mut tally) == 0 {
            return tally;
        }
        tally.sites.insert(name, nth);
    }
    unreachable!("a life has an end")
}

/// One life with one fault; how often it was met.
fn live(fault: Fault, seed: u64, tally: &mut Tally) -> u64 {
    let dir = ground();
    let path = dir.path().canonicalize().expect("a folder");
    let stage = Stage::raise(&path, Lie::None, seed ^ fault.nth);
    let mut life = Life::new(&path, &stage);
    stage.arm(fault);
    life.session(0..2);
    life.session(2..4);
    let met = stage.faults_met();
    stage.lift();
    life.must_work();
    let Life { log, begun, acknowledged, answers, refused_openings, mut found, .. } = life;
    let (base, events) = stage.strike();
    let heard = Heard { begun, acknowledged };
    if let Err(wrong) = judged(&path, &log, &heard) {
        found.push(wrong);
    }
    if met > 0 {
        let mut draw = StdRng::seed_from_u64(seed ^ (fault.nth << 8));
        let (image, heard) = cuts::one(&base, &events, &mut draw);
        lay_out(&path, &image, &mut draw);
        tally.cuts += 1;
        if let Err(wrong) = judged(&path, &log, &heard) {
            found.push(format!("after a power cut, too: {wrong}; {}", image.story));
        }
    }
    tally.lives += 1;
    tally.faults += met;
    tally.refused_openings += refused_openings;
    for (answer, count) in answers {
        *tally.answers.entry(answer).or_default() += count;
    }
    tally.found.extend(found.into_iter().map(|wrong| format!("{fault:?}: {wrong}")));
    met
}

fn judged(path: &Path, log: &Log, heard: &Heard) -> Result<(), String> {
    let options = Options { low_water_bytes: 0, reserve_bytes: 4_096, ..Options::default() };
    let store = SqliteStore::open(path, options).map_err(|e| format!("refused: {e}"))?;
    runtime().block_on(judge(&store, &path.join("journal.db"), log, heard))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// One journal, and everything that it said.
struct Life<'a> {
    path: &'a Path,
    stage: &'a Arc<Stage>,
    medium: Arc<dyn Medium>,
    log: Log,
    versions: Vec<u64>,
    /// Asked for, and not told that nothing came of it.
    begun: BTreeSet<usize>,
    acknowledged: BTreeSet<usize>,
    answers: BTreeMap<&'static str, u64>,
    refused_openings: u64,
    found: Vec<String>,
}

impl<'a> Life<'a> {
    fn new(path: &'a Path, stage: &'a Arc<Stage>) -> Self {
        Self {
            path,
            stage,
            medium: Arc::new(Watcher(Arc::clone(stage))),
            log: Log::default(),
            versions: vec![0; 7],
            begun: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            answers: BTreeMap::new(),
            refused_openings: 0,
            found: Vec::new(),
        }
    }

    fn open(&self) -> Option<SqliteStore> {
        let options = Options {
            low_water_bytes: 0,
            reserve_bytes: 4_096,
            readers: 1,
            poll_every: Duration::ZERO,
            checkpoint_writes: 4,
            medium: Arc::clone(&self.medium),
            ..Options::default()
        };
        SqliteStore::open(self.path, options).ok()
    }

    /// Opens, pays, waits for a checkpoint, closes. An opening that is refused is tried again once.
    fn session(&mut self, payments: std::ops::Range<usize>) {
        let Some(store) = self.open().or_else(|| {
            self.refused_openings += 1;
            self.open()
        }) else {
            return self.refused_openings += 1;
        };
        let opened_at = self.stage.place();
        let runtime = runtime();
        runtime.block_on(async {
            for payment in payments {
                for _ in 0..2 {
                    self.write(&store, payment).await;
                    self.look(&store, payment).await;
                }
                let id = work::id(payment);
                self.ask(&store, Work::Delivered { payment: id, seq: 1 }).await;
            }
            // A checkpoint that met a read carries over nothing; the next writes bring another.
            let end = Instant::now() + PATIENCE;
            loop {
                let clock = self.log.works.len() as u64;
                self.ask(&store, Work::Setting(clock)).await;
                if self.stage.is_carried_over(opened_at) || self.stage.faults_met() > 0 {
                    return;
                }
                if Instant::now() > end {
                    return self.found.push("no checkpoint was made".into());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// When the disk works again the journal does, too, at the latest after a start of the node.
    fn must_work(&mut self) {
        let Some(mut store) = self.open() else {
            return self.found.push("it can't be opened when the disk works again".into());
        };
        let runtime = runtime();
        for _ in 0..3 {
            let done = runtime.block_on(self.write(&store, 6));
            if done {
                return;
            }
            if matches!(store.health(), Health::Failed(_)) {
                drop(store);
                match self.open() {
                    Some(opened) => store = opened,
                    None => break,
                }
            }
        }
        self.found.push("it takes nothing when the disk works again".into());
    }

    /// The next version of a payment; whether it was acknowledged. After an answer that leaves it
    /// unknown the payment is read, as the driver does.
    async fn write(&mut self, store: &SqliteStore, payment: usize) -> bool {
        let seen = store.payment(&work::id(payment)).await;
        if let Ok(row) = seen {
            self.versions[payment] = row.map_or(0, |row| row.ver);
        }
        let ver = self.versions[payment] + 1;
        let number = self.log.works.len();
        let write = work::version(payment, ver, number, 4_500);
        let purpose = if payment.is_multiple_of(2) { Purpose::Intake } else { Purpose::Outcome };
        let done = self.ask(store, Work::Write(Box::new(Write { purpose, ..write }))).await;
        if done {
            self.versions[payment] = ver;
        }
        done
    }

    async fn ask(&mut self, store: &SqliteStore, work: Work) -> bool {
        let number = self.log.works.len();
        self.log.works.push(work);
        self.stage.begun(number);
        self.begun.insert(number);
        let answer = work::once(store, &self.log.works[number]).await;
        let (name, is_done, is_nothing) = match &answer {
            Ok(Some(Committed::Done) | None) => ("done", true, false),
            Ok(Some(_)) => ("conflict", false, true),
            Err(StoreError::Full) => ("full", false, true),
            Err(StoreError::Busy) => ("busy", false, true),
            Err(StoreError::LowDisk) => ("low_disk", false, true),
            Err(StoreError::Failed { .. }) => ("unknown", false, false),
            Err(StoreError::Corrupt { .. }) => {
                self.found.push(format!("{answer:?}"));
                ("corrupt", false, false)
            }
        };
        *self.answers.entry(name).or_default() += 1;
        if is_done {
            self.stage.acknowledged(number);
            self.acknowledged.insert(number);
        }
        if is_nothing {
            self.begun.remove(&number);
        }
        is_done
    }

    /// What is read is what was written: the latest that was acknowledged, or one not known to
    /// have failed.
    async fn look(&mut self, store: &SqliteStore, payment: usize) {
        let id = work::id(payment);
        let known = |number: &usize| match &self.log.works[*number] {
            Work::Write(write) if write.payment == id => Some(&**write),
            _ => None,
        };
        let least = self.acknowledged.iter().filter_map(known).map(|w| w.next).max().unwrap_or(0);
        match store.payment(&id).await {
            Ok(None) if least == 0 => {}
            Ok(None) => self.found.push(format!("{id} is not there")),
            Ok(Some(row)) => {
                let is_whole = |w: &Write| (w.next, &w.body) == (row.ver, &row.body);
                let is_ours = self.begun.iter().filter_map(known).any(is_whole);
                if row.ver < least || !is_ours {
                    self.found.push(format!("{id} is read as version {} of {least}", row.ver));
                }
            }
            Err(StoreError::Corrupt { .. }) => self.found.push(format!("{id} is called damaged")),
            Err(_) => {}
        }
    }
}
