//! Power cuts by the thousand: record a tape, cut it anywhere, put on a disk what may be there,
//! open the journal on it and judge. Some openings are recorded and cut in their turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use interlock_journal::{Medium, Options, SqliteStore};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rusqlite::ffi;
use tempfile::TempDir;

use crate::platter::{Image, Platter};
use crate::stage::{Effect, Event, Fault, Lie, Site, Stage, Watcher};
use crate::verdict::{Heard, judge};
use crate::work::{self, Log, Score, Work};

/// Images of one tape.
const IMAGES: usize = 400;
/// One opening in so many is recorded and cut itself.
const AGAIN: u32 = 8;

/// A recorded life of a journal.
pub struct Tape {
    base: Platter,
    events: Vec<Event>,
    log: Log,
    seed: u64,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub prefixes: u64,
    pub recoveries_cut: u64,
    pub tapes: u64,
    pub writes: u64,
    pub syncs: u64,
    pub failed_syncs: u64,
    pub acknowledged: u64,
    pub uncertain: u64,
    pub found: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.prefixes += other.prefixes;
        self.recoveries_cut += other.recoveries_cut;
        self.tapes += other.tapes;
        self.writes += other.writes;
        self.syncs += other.syncs;
        self.failed_syncs += other.failed_syncs;
        self.acknowledged += other.acknowledged;
        self.uncertain += other.uncertain;
        self.found.extend(other.found);
    }
}

/// Cuts tapes of a disk that tells this lie until `prefixes` images were judged, or, for a lie,
/// until one is found out.
pub fn run(seed: u64, prefixes: usize, lie: Lie) -> Tally {
    let tapes = prefixes.div_ceil(IMAGES);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (total, begun) = (Mutex::new(Tally::default()), Instant::now());
    let workers = if lie == Lie::None { 2 } else { 1 };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut told = Instant::now();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= tapes || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let tape = record(seed.wrapping_mul(1_000_003).wrapping_add(n as u64), lie);
                    let images = IMAGES.min(prefixes - n * IMAGES);
                    let tally = cut(&tape, images, lie == Lie::None);
                    let mut total = total.lock().expect("nobody failed");
                    stop.fetch_or(lie != Lie::None && !tally.found.is_empty(), Ordering::Relaxed);
                    total.add(tally);
                    if told.elapsed() > Duration::from_secs(5) {
                        told = Instant::now();
                        let (done, s) = (total.prefixes, begun.elapsed().as_secs());
                        eprintln!("power loss: {done} of {prefixes} cuts, {s} s");
                    }
                }
            });
        }
    });
    total.into_inner().expect("nobody failed")
}

/// Every third tape is of a disk whose syncs fail now and then.
fn record(seed: u64, lie: Lie) -> Tape {
    let dir = ground();
    let path = dir.path().canonicalize().expect("a folder");
    let stage = Stage::raise(&path, lie, seed);
    let medium: Arc<dyn Medium> = Arc::new(Watcher(Arc::clone(&stage)));
    let mut score = Score::of(seed);
    if lie == Lie::FreshLogSync {
        // Few writes at once, so that a checkpoint copies all of the log and it begins anew.
        score = Score { rounds: 60, session: 60, voices: 3, checkpoint: (4, 1 << 30), ..score };
    }
    let fails = lie == Lie::Rewrite || (lie == Lie::None && seed % 3 == 2);
    let draw = Mutex::new(StdRng::seed_from_u64(seed ^ 0xfa17));
    let mut log = work::play(&path, &stage, &medium, score, |_| {
        let mut draw = draw.lock().expect("nobody failed");
        if fails {
            let forgets = draw.random_bool(0.5);
            let effect =
                if forgets { Effect::Forget } else { Effect::Fail(ffi::SQLITE_IOERR_FSYNC) };
            let nth = draw.random_range(1..8);
            stage.arm(Fault { site: Site::Sync, nth, effect, lasts: false });
        }
    });
    if stage.faults_met() > 0 {
        log.order = None;
    }
    let (base, events) = stage.strike();
    Tape { base, events, log, seed }
}

fn cut(tape: &Tape, images: usize, keep_what_failed: bool) -> Tally {
    let mut tally = Tally { tapes: 1, ..Tally::default() };
    for event in &tape.events {
        match event {
            Event::Write { .. } | Event::Truncate { .. } => tally.writes += 1,
            Event::Synced { .. } => tally.syncs += 1,
            Event::SyncFailed { .. } => tally.failed_syncs += 1,
            _ => {}
        }
    }
    tally.acknowledged = heard_by(tape, tape.events.len()).acknowledged.len() as u64;
    let mut draw = StdRng::seed_from_u64(tape.seed ^ 0xc07);
    let places = places(&tape.events, images, &mut draw);
    let dir = ground();
    let (mut platter, mut applied) = (tape.base.clone(), 0);
    let mut heard = Heard::default();
    for at in places {
        for (n, event) in tape.events[applied..at].iter().enumerate() {
            platter.apply(applied + n, event);
            hear(&mut heard, event);
        }
        applied = at;
        tally.uncertain += platter.uncertain() as u64;
        let mut image = platter.image(&mut draw);
        image.story = format!("tape {}, cut at {at}: {}", tape.seed, image.story);
        judge_image(&dir, tape, &heard, &image, &mut draw, &mut tally);
        if !tally.found.is_empty() {
            if keep_what_failed {
                put_away(&image);
            }
            return tally;
        }
    }
    tally
}

/// Where to cut: half anywhere, half where something was about to become certain.
fn places(events: &[Event], count: usize, draw: &mut StdRng) -> Vec<usize> {
    let is_edge = |event: &Event| match event {
        Event::Write { at, bytes, .. } => *at == 0 && bytes.len() == 32,
        Event::Begun(_) | Event::Acknowledged(_) => false,
        _ => true,
    };
    let edges: Vec<usize> = (0..events.len()).filter(|n| is_edge(&events[*n])).collect();
    let mut places: Vec<usize> = (0..count)
        .map(|n| match edges.choose(draw) {
            Some(edge) if n % 2 == 0 => (edge + draw.random_range(0..12)).min(events.len()),
            _ => draw.random_range(0..=events.len()),
        })
        .collect();
    places.sort_unstable();
    places
}

/// Opens one image; now and then the opening is cut, too, and what that leaves is opened.
fn judge_image(
    dir: &TempDir,
    tape: &Tape,
    heard: &Heard,
    image: &Image,
    draw: &mut StdRng,
    tally: &mut Tally,
) {
    let path = dir.path().canonicalize().expect("a folder");
    lay_out(&path, image, draw);
    tally.prefixes += 1;
    if !draw.random_ratio(1, AGAIN) {
        let medium = Arc::new(interlock_journal::RealDisk);
        if let Err(wrong) = open_and_judge(&path, tape, heard, medium) {
            tally.found.push(format!("{wrong}; {}", image.story));
        }
        return;
    }
    let stage = Stage::raise(&path, Lie::None, tape.seed);
    let judged = open_and_judge(&path, tape, heard, Arc::new(Watcher(Arc::clone(&stage))));
    let (base, events) = stage.strike();
    if let Err(wrong) = judged {
        return tally.found.push(format!("{wrong}; {}", image.story));
    }
    for _ in 0..2 {
        let (again, _) = one(&base, &events, draw);
        lay_out(&path, &again, draw);
        tally.prefixes += 1;
        tally.recoveries_cut += 1;
        let medium = Arc::new(interlock_journal::RealDisk);
        if let Err(wrong) = open_and_judge(&path, tape, heard, medium) {
            let story = format!("{}, opened, {}", image.story, again.story);
            return tally.found.push(format!("{wrong}; {story}"));
        }
    }
}

fn open_and_judge(
    path: &Path,
    tape: &Tape,
    heard: &Heard,
    medium: Arc<dyn Medium>,
) -> Result<(), String> {
    let options = Options {
        low_water_bytes: 0,
        reserve_bytes: 4_096,
        readers: 1,
        medium,
        ..Options::default()
    };
    let store = SqliteStore::open(path, options).map_err(|e| format!("refused: {e}"))?;
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME
        .with(|runtime| runtime.block_on(judge(&store, &path.join("journal.db"), &tape.log, heard)))
}

/// One cut of a tape at any place, and what had been said by then.
pub fn one(base: &Platter, events: &[Event], draw: &mut StdRng) -> (Image, Heard) {
    let at = draw.random_range(0..=events.len());
    let (mut platter, mut heard) = (base.clone(), Heard::default());
    for (n, event) in events[..at].iter().enumerate() {
        platter.apply(n, event);
        hear(&mut heard, event);
    }
    let mut image = platter.image(draw);
    image.story = format!("cut at {at}: {}", image.story);
    (image, heard)
}

fn hear(heard: &mut Heard, event: &Event) {
    match event {
        Event::Begun(work) => heard.begun.insert(*work),
        Event::Acknowledged(work) => heard.acknowledged.insert(*work),
        _ => false,
    };
}

fn heard_by(tape: &Tape, at: usize) -> Heard {
    let mut heard = Heard::default();
    tape.events[..at].iter().for_each(|event| hear(&mut heard, event));
    let writes = |work: &usize| matches!(tape.log.works[*work], Work::Write(_));
    heard.acknowledged.retain(writes);
    heard
}

/// Puts an image into an empty directory, with what nobody syncs: an index, a lock, a reserve.
pub fn lay_out(dir: &Path, image: &Image, draw: &mut StdRng) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        fs::remove_file(entry.path()).expect("removed");
    }
    for (name, bytes) in &image.files {
        fs::write(dir.join(name), bytes).expect("a file");
    }
    if draw.random_bool(0.25) {
        let mut index = vec![0; *[0, 3, 136, 32_768].get(draw.random_range(0..4)).expect("four")];
        draw.fill(&mut index[..]);
        fs::write(dir.join("journal.db-shm"), index).expect("a file");
    }
    if draw.random_bool(0.25) {
        let reserve = vec![0; [0, 1_000, 4_096][draw.random_range(0..3)]];
        fs::write(dir.join("journal.reserve"), reserve).expect("a file");
        fs::write(dir.join("journal.lock"), "4242\n").expect("a file");
    }
}

/// What was found is worth keeping.
fn put_away(image: &Image) {
    let folder = interlock_tests::report::folder().join("power_loss_found");
    let _ = fs::create_dir_all(&folder);
    for (name, bytes) in &image.files {
        let _ = fs::write(folder.join(name), bytes);
    }
    let _ = fs::write(folder.join("story.txt"), &image.story);
}

/// A folder in memory where there is one: nothing here is about the machine's own disk.
pub fn ground() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = tempfile::tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).expect("a folder")
}
