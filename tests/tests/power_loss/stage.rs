//! One watched directory: the tape of everything that was asked of its files, and the fault that
//! is to happen at one of the calls.
//!
//! The tape is in one order, and an event is put on it so that a cut between two events is honest:
//! a write before its bytes may reach the disk, a sync after it returned, with the place on the
//! tape at which it began, because it promises nothing about what was written while it ran.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use interlock_journal::{Medium, Moment};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::ffi;

use crate::platter::Platter;

/// A file by itself, whatever its name.
pub type Inode = usize;

/// One thing that happened, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// A name was given to a new file.
    Created {
        inode: Inode,
        name: String,
    },
    /// A name was taken away.
    Deleted {
        name: String,
    },
    Write {
        inode: Inode,
        at: u64,
        bytes: Arc<[u8]>,
    },
    Truncate {
        inode: Inode,
        len: u64,
    },
    /// Everything of this file that is on the tape before `from` is on the disk.
    Synced {
        inode: Inode,
        from: usize,
    },
    /// What of this file is on the tape before `from` and was not synced may never be written.
    SyncFailed {
        inode: Inode,
        from: usize,
    },
    /// The directory was synced.
    NamesSynced,
    /// Somebody asked the store to do this piece of work.
    Begun(usize),
    /// The store said that this piece of work is done.
    Acknowledged(usize),
}

/// The calls that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Delete,
    Access,
    Size,
    Lock,
    ShmMap,
    ShmLock,
    /// The directory's own sync.
    Names,
    /// The question how much is free.
    Free,
    /// The log written again, byte for byte.
    Rewrite,
}

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is done, and SQLite hears this code.
    Fail(i32),
    /// A part is written, and SQLite hears this code.
    Short(i32),
    /// A sync fails, and the cache goes back to what is on the disk, here and there.
    Forget,
    /// The same, and the sync says that it worked.
    ForgetSilently,
}

/// A fault at the `nth` call of a kind, from 1; once, or from then on.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub site: Site,
    pub nth: u64,
    pub effect: Effect,
    pub lasts: bool,
}

/// A disk that lies, to show that the check would see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lie {
    #[default]
    None,
    /// The log's syncs return and do nothing.
    LogSync,
    /// The database's syncs return and do nothing, so that a log is given up too early.
    DatabaseSync,
    /// A log that begins anew does not sync its first page before the others.
    FreshLogSync,
    /// The directory is never synced.
    NamesSync,
    /// The store says "done" before the sync.
    EarlyAnswer,
    /// A log whose sync failed is not written again.
    Rewrite,
}

/// What the layer does with a call.
pub enum Act {
    Go,
    Fail(i32),
    Short(usize, i32),
}

/// What the layer does with a sync.
pub enum Syncing {
    Go { from: usize },
    Swallow,
    Fail { code: i32, taken_back: Vec<(u64, Vec<u8>)> },
}

static STAGES: LazyLock<Mutex<HashMap<PathBuf, Arc<Stage>>>> = LazyLock::new(Mutex::default);

/// The stage of the directory in which `path` lies.
pub fn of(path: &Path) -> Option<Arc<Stage>> {
    lock(&STAGES).get(path.parent()?).cloned()
}

/// A watched directory.
pub struct Stage {
    dir: PathBuf,
    lie: Lie,
    seed: u64,
    reel: Mutex<Reel>,
}

#[derive(Default)]
struct Reel {
    base: Platter,
    tape: Vec<Event>,
    names: BTreeMap<String, Inode>,
    /// By inode: the name that it was made with.
    made_as: Vec<String>,
    /// By inode: how many of its syncs failed.
    failed: BTreeMap<Inode, u64>,
    calls: BTreeMap<Site, u64>,
    fault: Option<Fault>,
    faults_met: u64,
    /// Work that was begun and not acknowledged, for the lie that answers early.
    in_hand: Vec<usize>,
}

impl Stage {
    /// Watches `dir` from now on; what lies in it is taken for durable.
    pub fn raise(dir: &Path, lie: Lie, seed: u64) -> Arc<Self> {
        let mut reel = Reel::default();
        for (name, bytes) in files(dir) {
            let inode = reel.name(&name);
            reel.base.place(inode, &name, bytes);
        }
        let stage = Arc::new(Self { dir: dir.to_path_buf(), lie, seed, reel: Mutex::new(reel) });
        lock(&STAGES).insert(dir.to_path_buf(), Arc::clone(&stage));
        stage
    }

    /// Stops watching: what was on the disk at first, and everything since.
    pub fn strike(&self) -> (Platter, Vec<Event>) {
        lock(&STAGES).remove(&self.dir);
        let mut reel = self.reel();
        (std::mem::take(&mut reel.base), std::mem::take(&mut reel.tape))
    }

    /// Makes a fault happen, counting calls from now.
    pub fn arm(&self, fault: Fault) {
        let mut reel = self.reel();
        reel.calls.clear();
        reel.fault = Some(fault);
    }

    pub fn lift(&self) {
        self.reel().fault = None;
    }

    /// How many calls met their fault.
    pub fn faults_met(&self) -> u64 {
        self.reel().faults_met
    }

    /// How far the tape has come.
    pub fn place(&self) -> usize {
        self.reel().tape.len()
    }

    /// Whether the database was written and synced since this place on the tape.
    pub fn is_carried_over(&self, since: usize) -> bool {
        let reel = self.reel();
        let is_ours = |event: &Event| match event {
            Event::Synced { inode, .. } => reel.made_as[*inode].ends_with(".db"),
            _ => false,
        };
        reel.tape[since..].iter().any(is_ours)
    }

    pub fn begun(&self, work: usize) {
        let mut reel = self.reel();
        reel.tape.push(Event::Begun(work));
        if self.lie == Lie::EarlyAnswer {
            reel.in_hand.push(work);
        }
    }

    pub fn acknowledged(&self, work: usize) {
        self.reel().tape.push(Event::Acknowledged(work));
    }

    /// The file, and how many failed syncs of it whoever opens it now is not told of.
    pub fn opened(&self, path: &Path) -> (Inode, u64) {
        let mut reel = self.reel();
        let inode = reel.inode_of(&name_of(path));
        let failed = reel.failed.get(&inode).copied().unwrap_or(0);
        (inode, failed)
    }

    pub fn deleted(&self, path: &Path) {
        let name = name_of(path);
        let mut reel = self.reel();
        reel.names.remove(&name);
        reel.tape.push(Event::Deleted { name });
    }

    pub fn names_synced(&self) {
        if self.lie != Lie::NamesSync {
            self.reel().tape.push(Event::NamesSynced);
        }
    }

    /// A call that writes nothing.
    pub fn asked(&self, site: Site) -> Act {
        match self.reel().meet(site) {
            Some(Effect::Fail(code) | Effect::Short(code)) => Act::Fail(code),
            Some(Effect::Forget | Effect::ForgetSilently) | None => Act::Go,
        }
    }

    pub fn writing(&self, inode: Inode, at: u64, bytes: &[u8]) -> Act {
        let mut reel = self.reel();
        let effect = reel.meet(Site::Write);
        let (kept, act) = match effect {
            Some(Effect::Fail(code)) => (0, Act::Fail(code)),
            Some(Effect::Short(code)) => {
                let kept = bytes.len() / 3;
                (kept, Act::Short(kept, code))
            }
            Some(Effect::Forget | Effect::ForgetSilently) | None => (bytes.len(), Act::Go),
        };
        if kept > 0 {
            reel.tape.push(Event::Write { inode, at, bytes: bytes[..kept].into() });
        }
        act
    }

    pub fn truncating(&self, inode: Inode, len: u64) -> Act {
        let mut reel = self.reel();
        match reel.meet(Site::Truncate) {
            Some(Effect::Fail(code) | Effect::Short(code)) => Act::Fail(code),
            Some(Effect::Forget | Effect::ForgetSilently) | None => {
                reel.tape.push(Event::Truncate { inode, len });
                Act::Go
            }
        }
    }

    /// `told` is how many failed syncs of this file this handle has heard of.
    pub fn syncing(&self, inode: Inode, told: &mut u64) -> Syncing {
        let mut reel = self.reel();
        let from = reel.tape.len();
        let failed = reel.failed.get(&inode).copied().unwrap_or(0);
        if failed > *told {
            *told = failed;
            reel.tape.push(Event::SyncFailed { inode, from });
            return Syncing::Fail { code: ffi::SQLITE_IOERR_FSYNC, taken_back: Vec::new() };
        }
        let effect = reel.meet(Site::Sync);
        if let Some(effect) = effect {
            let forgets = matches!(effect, Effect::Forget | Effect::ForgetSilently);
            let taken_back =
                if forgets { reel.take_back(inode, self.seed ^ from as u64) } else { Vec::new() };
            reel.tape.push(Event::SyncFailed { inode, from });
            if effect != Effect::ForgetSilently {
                *told = failed + 1;
                reel.failed.insert(inode, *told);
            }
            let code = match effect {
                Effect::Fail(code) | Effect::Short(code) => code,
                Effect::Forget => ffi::SQLITE_IOERR_FSYNC,
                Effect::ForgetSilently => ffi::SQLITE_OK,
            };
            return Syncing::Fail { code, taken_back };
        }
        if reel.is_lied_to(self.lie, inode) { Syncing::Swallow } else { Syncing::Go { from } }
    }

    pub fn synced(&self, inode: Inode, from: usize, worked: bool) {
        self.reel().tape.push(if worked {
            Event::Synced { inode, from }
        } else {
            Event::SyncFailed { inode, from }
        });
    }

    fn reel(&self) -> MutexGuard<'_, Reel> {
        lock(&self.reel)
    }
}

impl Reel {
    fn name(&mut self, name: &str) -> Inode {
        let inode = self.made_as.len();
        self.made_as.push(name.to_owned());
        self.names.insert(name.to_owned(), inode);
        inode
    }

    fn inode_of(&mut self, name: &str) -> Inode {
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        let inode = self.name(name);
        self.tape.push(Event::Created { inode, name: name.to_owned() });
        inode
    }

    fn meet(&mut self, site: Site) -> Option<Effect> {
        let calls = self.calls.entry(site).or_default();
        *calls += 1;
        let fault = self.fault.filter(|f| f.site == site)?;
        let is_met = *calls == fault.nth || (fault.lasts && *calls > fault.nth);
        self.faults_met += u64::from(is_met);
        is_met.then_some(fault.effect)
    }

    fn is_lied_to(&self, lie: Lie, inode: Inode) -> bool {
        let made_as = self.made_as[inode].as_str();
        match lie {
            Lie::LogSync => made_as.ends_with("-wal"),
            Lie::DatabaseSync => made_as.ends_with(".db"),
            Lie::FreshLogSync => {
                let ours = |event: &&Event| {
                    matches!(event, Event::Write { inode: i, .. } | Event::Synced { inode: i, .. }
                                    if *i == inode)
                };
                let last = self.tape.iter().rev().find(ours);
                made_as.ends_with("-wal")
                    && matches!(last, Some(Event::Write { at: 0, bytes, .. }) if bytes.len() == 32)
            }
            Lie::None | Lie::NamesSync | Lie::EarlyAnswer | Lie::Rewrite => false,
        }
    }

    /// What the cache forgets of a file: some of what was never synced, as it is on the disk.
    fn take_back(&self, inode: Inode, seed: u64) -> Vec<(u64, Vec<u8>)> {
        let mut platter = self.base.clone();
        for (at, event) in self.tape.iter().enumerate() {
            platter.apply(at, event);
        }
        let mut draw = StdRng::seed_from_u64(seed);
        let mut forgotten = platter.unsynced(inode);
        forgotten.retain(|_| draw.random_bool(0.5));
        forgotten
    }
}

/// The stage as the journal's medium: the directory's sync and the log's rewriting are on the tape
/// too, and room is never short.
pub struct Watcher(pub Arc<Stage>);

impl Medium for Watcher {
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        refused(&self.0, Site::Free)?;
        Ok(1 << 40)
    }

    fn sync_names(&self, dir: &Path) -> io::Result<()> {
        if dir == self.0.dir {
            refused(&self.0, Site::Names)?;
            self.0.names_synced();
        }
        Ok(())
    }

    fn rewrite(&self, path: &Path) -> io::Result<()> {
        let stage = &self.0;
        refused(stage, Site::Rewrite)?;
        let bytes = match std::fs::read(path) {
            Ok(bytes) if bytes.is_empty() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        if stage.lie != Lie::Rewrite {
            let mut reel = stage.reel();
            let inode = reel.inode_of(&name_of(path));
            for (n, chunk) in bytes.chunks(4_096).enumerate() {
                let at = (n * 4_096) as u64;
                reel.tape.push(Event::Write { inode, at, bytes: chunk.into() });
            }
            let from = reel.tape.len();
            reel.tape.push(Event::Synced { inode, from });
        }
        interlock_journal::RealDisk.rewrite(path)
    }

    fn syncing(&self, moment: Moment) -> io::Result<()> {
        if moment == Moment::Before {
            let in_hand = std::mem::take(&mut self.0.reel().in_hand);
            in_hand.into_iter().for_each(|work| self.0.acknowledged(work));
        }
        Ok(())
    }
}

fn refused(stage: &Stage, site: Site) -> io::Result<()> {
    match stage.asked(site) {
        Act::Go => Ok(()),
        Act::Fail(_) | Act::Short(..) => Err(io::Error::other("the disk does not answer")),
    }
}

/// The files that SQLite keeps in `dir`; the log's index is made anew by whoever opens first.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("the directory is there").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = names.filter(|name| name.starts_with("journal.db") && !name.ends_with("-shm"));
    ours.map(|name| (name.clone(), std::fs::read(dir.join(name)).expect("a file"))).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
