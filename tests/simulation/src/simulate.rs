//! Many evenings, by their seeds, on every core; what they counted, and what was broken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::dice::Fold;
use crate::world::{Policies, Score, Unsafe, World};

/// Payments of one evening.
pub const PAYMENTS: u32 = 12;
/// Configurations over which evenings are spread.
const POLICIES: u64 = 512;
/// Evenings whose folds are joined before they are added to the whole.
const CHUNK: u64 = 64;

/// How many evenings, and which.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The seed of the first evening; the others follow it.
    pub seed: u64,
    /// How many.
    pub worlds: u64,
    /// On how many threads.
    pub threads: usize,
    /// The driver under test.
    pub driver: Unsafe,
    /// No new evening is begun after so much time.
    pub within: Duration,
    /// Stops at the first evening that breaks a promise.
    pub first: bool,
}

impl Wish {
    /// These evenings, on all cores, to the end.
    pub fn new(seed: u64, worlds: u64) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let within = Duration::MAX;
        Self { seed, worlds, threads, driver: Unsafe::No, within, first: false }
    }
}

/// What they counted.
#[derive(Clone, Debug, Default)]
pub struct Simulated {
    /// In numbers.
    pub score: Score,
    /// Promises that were broken, each with its seed.
    pub broken: Vec<String>,
    /// One number for everything that happened: the same whenever seeds and count are.
    pub fold: u64,
    /// Wall clock.
    pub seconds: f64,
    /// CPU time of all threads together.
    pub cpu_seconds: f64,
}

/// Lets the evenings happen. `tell` hears of the progress every few seconds.
pub fn simulate(wish: Wish, tell: &(dyn Fn(u64, f64) + Sync)) -> Simulated {
    let policies = Policies::new(POLICIES);
    let began = Instant::now();
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let chunks = wish.worlds.div_ceil(CHUNK);
    let found: Mutex<(Simulated, Vec<(u64, u64)>)> = Mutex::default();
    let work = || {
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks || stop.load(Ordering::Relaxed) || began.elapsed() > wish.within {
                break;
            }
            let mut fold = Fold::default();
            let mut score = Score::default();
            let mut broken = Vec::new();
            let from = chunk * CHUNK;
            for n in from..(from + CHUNK).min(wish.worlds) {
                let seed = wish.seed.wrapping_add(n);
                let evening = evening(seed, &policies, wish.driver);
                fold.take(evening.fold);
                score += evening.score;
                broken.extend(evening.broken);
                done.fetch_add(1, Ordering::Relaxed);
                if wish.first && !broken.is_empty() {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
            let mut found = found.lock().expect("no thread panics while it holds this");
            found.0.score += score;
            found.0.broken.extend(broken);
            found.1.push((chunk, fold.value()));
            if found.0.broken.len() > 50 {
                stop.store(true, Ordering::Relaxed);
            }
        }
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        found.lock().expect("no thread panics while it holds this").0.cpu_seconds += cpu_seconds;
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..wish.threads).map(|_| scope.spawn(work)).collect();
        let mut told = Instant::now();
        while !workers.iter().all(|w| w.is_finished()) {
            std::thread::sleep(Duration::from_millis(2));
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                tell(done.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
            }
        }
    });
    let (mut found, mut folds) = found.into_inner().expect("no thread panicked");
    // Threads finish in any order; the folds are joined in the order of the seeds.
    folds.sort_unstable();
    let mut fold = Fold::default();
    folds.into_iter().for_each(|(_, value)| fold.take(value));
    found.fold = fold.value();
    found.broken.sort();
    found.seconds = began.elapsed().as_secs_f64();
    found
}

/// One evening and what became of it; an assertion of the engine that fails is a broken promise.
struct Evening {
    score: Score,
    broken: Vec<String>,
    fold: u64,
}

fn evening(seed: u64, policies: &Policies, driver: Unsafe) -> Evening {
    let mut world = World::new(seed, PAYMENTS, policies, driver);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let fold = ran.unwrap_or_else(|cause| {
        let said = cause.downcast_ref::<String>().map(String::as_str);
        let said = said.or(cause.downcast_ref::<&str>().copied()).unwrap_or("?");
        world.broken.push(format!("SEED={seed}: the engine stops: {said}"));
        0
    });
    Evening { score: world.score, broken: std::mem::take(&mut world.broken), fold }
}

/// One evening, line by line.
pub fn retell(seed: u64, driver: Unsafe) -> (Vec<String>, Vec<String>, u64) {
    let policies = Policies::new(POLICIES);
    let mut world = World::new(seed, PAYMENTS, &policies, driver).tracing();
    let fold = world.run();
    (world.lines().to_vec(), std::mem::take(&mut world.broken), fold)
}
