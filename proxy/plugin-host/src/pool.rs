//! The threads that plugins run on, and the watch over them.
//!
//! A plugin is a plain function call that nothing can interrupt, so it may take a thread with it.
//! Queue and threads are bounded. A call that passes its hard deadline is given up: its caller is
//! answered, its thread is abandoned and, a few times, replaced; after that the pool says that it
//! is unhealthy. An abandoned thread that does come back joins again or ends.
//!
//! To hand a call over and its answer back costs more than most calls, so a quick one runs beside
//! its caller, as a task of the runtime that the caller is on. Never more than a few at a time, and
//! the runtime has as many threads to spare, which sleep (each in a task that blocks it) until a
//! call keeps its thread for too long. So even when every such call is stuck for ever, nobody else
//! has a thread less.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// A call beside its caller that lasts longer wakes a spare thread.
const LATE: Duration = Duration::from_millis(10);

/// One call into a plugin.
pub(super) struct Job {
    /// How long it may run.
    pub hard: Duration,
    /// Runs it and answers its caller.
    pub run: Box<dyn FnOnce() + Send>,
    /// Answers its caller when the deadline has passed; called at most once.
    pub expired: Box<dyn FnOnce() + Send>,
}

/// The pool was full, closed or without threads.
#[derive(Debug)]
pub(super) struct Full;

/// How the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Threads that take work.
    pub workers: usize,
    /// Calls that run.
    pub running: usize,
    /// Calls that wait.
    pub queued: usize,
    /// Threads that are stuck in a plugin past its deadline, the runtime's among them.
    pub abandoned: usize,
}

/// Sizes of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub workers: usize,
    pub queue: usize,
    pub abandoned_max: usize,
    /// Calls that run beside their callers at most; as many threads the runtime has to spare.
    pub beside: usize,
    /// How often deadlines are looked at.
    pub tick: Duration,
}

pub(super) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    pub(super) fn start(sizes: Sizes) -> Self {
        let runtime = runtime();
        // Without threads to spare nothing runs beside its caller.
        let beside = if runtime.is_some() { sizes.beside } else { 0 };
        let sizes = Sizes { beside, ..sizes };
        let state = State {
            queue: VecDeque::new(),
            running: HashMap::new(),
            workers: 0,
            abandoned: 0,
            beside: 0,
            beside_stuck: 0,
            late: 0,
            lent: 0,
            closed: false,
            ticket: 0,
        };
        let shared = Arc::new(Shared {
            sizes,
            state: Mutex::new(state),
            work: Condvar::new(),
            closing: Condvar::new(),
            needed: Condvar::new(),
            given_back: Semaphore::new(0),
        });
        let mut state = shared.lock();
        for _ in 0..sizes.workers {
            shared.add_worker(&mut state);
        }
        drop(state);
        if let Some(runtime) = runtime {
            for _ in 0..sizes.beside {
                runtime.spawn(shared.clone().spare());
            }
        }
        let watched = shared.clone();
        let watch = thread::Builder::new().name("plugin-watch".into());
        if let Err(error) = watch.spawn(move || watched.watch()) {
            // Without deadlines no plugin may run.
            tracing::error!(%error, "plugin pool can't start its watch");
            shared.lock().closed = true;
        }
        Self { shared }
    }

    /// Runs a quick call beside its caller if there is a place, else queues it.
    pub(super) fn submit_quick(&self, job: Job) -> Result<(), Full> {
        let Some(runtime) = runtime() else { return self.submit(job) };
        let mut state = self.shared.lock();
        if state.closed || state.beside >= self.shared.sizes.beside {
            drop(state);
            return self.submit(job);
        }
        state.beside += 1;
        let (ticket, run) = state.begin(job, Place::Beside);
        drop(state);
        let shared = self.shared.clone();
        runtime.spawn(async move {
            run_caught(run);
            shared.finished(ticket);
        });
        Ok(())
    }

    /// Queues a call. A job that is refused, or dropped unrun, is dropped whole.
    pub(super) fn submit(&self, job: Job) -> Result<(), Full> {
        let mut state = self.shared.lock();
        let room = state.queue.len() < self.shared.sizes.queue;
        if state.closed || state.workers == 0 || !room {
            // Dropping a job may drop an instance, whose end is a job itself.
            drop(state);
            drop(job);
            return Err(Full);
        }
        state.queue.push_back(job);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    pub(super) fn state(&self) -> PoolState {
        let state = self.shared.lock();
        PoolState {
            workers: state.workers,
            running: state.running.len() - state.abandoned - state.beside_stuck,
            queued: state.queue.len(),
            abandoned: state.abandoned + state.beside_stuck,
        }
    }

    pub(super) fn healthy(&self) -> bool {
        let state = self.shared.lock();
        let sizes = &self.shared.sizes;
        let stuck = state.abandoned + state.beside_stuck;
        !state.closed && state.workers >= sizes.workers && stuck <= sizes.abandoned_max
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        self.shared.closing.notify_all();
        self.shared.needed.notify_all();
    }
}

struct Shared {
    sizes: Sizes,
    state: Mutex<State>,
    work: Condvar,
    closing: Condvar,
    /// Rings for spare threads of the runtime.
    needed: Condvar,
    /// Rings when one of them may sleep again.
    given_back: Semaphore,
}

struct State {
    queue: VecDeque<Job>,
    running: HashMap<u64, Running>,
    workers: usize,
    abandoned: usize,
    /// Calls beside their callers, those that are stuck included.
    beside: usize,
    beside_stuck: usize,
    /// Calls beside their callers that last too long.
    late: usize,
    /// Spare threads that are awake for them.
    lent: usize,
    closed: bool,
    ticket: u64,
}

/// Where a call runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On a thread of the pool.
    Thread,
    /// On one of its caller's runtime.
    Beside,
}

struct Running {
    place: Place,
    late: bool,
    since: Instant,
    hard: Duration,
    /// Taken when the call is given up.
    expired: Option<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// Writes down that a call begins, for the watch.
    fn begin(&mut self, job: Job, place: Place) -> (u64, Box<dyn FnOnce() + Send>) {
        let Job { hard, run, expired } = job;
        self.ticket += 1;
        let (since, expired) = (Instant::now(), Some(expired));
        let running = Running { place, late: false, since, hard, expired };
        self.running.insert(self.ticket, running);
        (self.ticket, run)
    }
}

/// The runtime of the caller, if a call that blocks one of its threads leaves it others.
fn runtime() -> Option<Handle> {
    Handle::try_current().ok().filter(|r| r.runtime_flavor() == RuntimeFlavor::MultiThread)
}

fn run_caught(run: Box<dyn FnOnce() + Send>) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        tracing::error!("plugin host panicked around a call");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_worker(self: &Arc<Self>, state: &mut State) {
        let shared = self.clone();
        let worker = thread::Builder::new().name("plugin".into());
        match worker.spawn(move || shared.work()) {
            Ok(_) => state.workers += 1,
            Err(error) => tracing::error!(%error, "plugin pool can't start a thread"),
        }
    }

    fn work(&self) {
        while let Some((ticket, run)) = self.next() {
            run_caught(run);
            if !self.finished(ticket) {
                return;
            }
        }
    }

    fn next(&self) -> Option<(u64, Box<dyn FnOnce() + Send>)> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(state.begin(job, Place::Thread));
            }
            if state.closed {
                state.workers -= 1;
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the pool's thread goes on.
    fn finished(&self, ticket: u64) -> bool {
        let mut state = self.lock();
        let running = state.running.remove(&ticket);
        let given_up = running.as_ref().is_some_and(|r| r.expired.is_none());
        let mut goes_on = true;
        if let Some(running) = running.as_ref().filter(|r| r.place == Place::Beside) {
            state.beside -= 1;
            state.beside_stuck -= usize::from(given_up);
            state.late -= usize::from(running.late);
            if state.lent > state.late {
                state.lent -= 1;
                self.given_back.add_permits(1);
            }
        } else if given_up {
            state.abandoned -= 1;
            goes_on = state.workers < self.sizes.workers;
            state.workers += usize::from(goes_on);
        }
        // What the closure holds may queue a job when it is dropped, which needs the lock.
        drop(state);
        drop(running);
        goes_on
    }

    /// One spare thread: blocks whatever thread it is polled on until that is needed.
    async fn spare(self: Arc<Self>) {
        loop {
            if !self.sleep() {
                return;
            }
            let Ok(told) = self.given_back.acquire().await else { return };
            told.forget();
        }
    }

    /// Whether the thread is needed; false when the pool is closed.
    fn sleep(&self) -> bool {
        let state = self.lock();
        let asleep = |state: &mut State| !state.closed && state.lent >= state.late;
        let woken = self.needed.wait_while(state, asleep);
        let mut state = woken.unwrap_or_else(PoisonError::into_inner);
        state.lent += 1;
        !state.closed
    }

    fn watch(self: Arc<Self>) {
        let mut seen = 0;
        loop {
            let state = self.lock();
            // Where nothing is called nobody is late.
            let tick = if state.ticket == seen { self.sizes.tick } else { LATE };
            seen = state.ticket;
            let waited = self.closing.wait_timeout(state, tick.min(self.sizes.tick));
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.closed && state.queue.is_empty() && state.running.is_empty() {
                return;
            }
            let (late, dropped) = self.give_up_late(&mut state);
            let end = state.closed && state.workers == 0;
            drop(state);
            for expired in late {
                if catch_unwind(AssertUnwindSafe(expired)).is_err() {
                    tracing::error!("plugin host panicked at a deadline");
                }
            }
            drop(dropped);
            if end {
                return;
            }
        }
    }

    /// Takes what is past its deadline, and the queue when no thread is left to serve it.
    #[allow(clippy::type_complexity)]
    fn give_up_late(
        self: &Arc<Self>,
        state: &mut State,
    ) -> (Vec<Box<dyn FnOnce() + Send>>, VecDeque<Job>) {
        let now = Instant::now();
        let mut late = Vec::new();
        let mut threads = 0;
        for running in state.running.values_mut() {
            let age = now.duration_since(running.since);
            if running.place == Place::Beside && age >= LATE && !running.late {
                running.late = true;
                state.late += 1;
                self.needed.notify_one();
            }
            if age < running.hard {
                continue;
            }
            let Some(expired) = running.expired.take() else { continue };
            late.push(expired);
            match running.place {
                Place::Thread => threads += 1,
                Place::Beside => state.beside_stuck += 1,
            }
        }
        for _ in 0..threads {
            state.abandoned += 1;
            state.workers -= 1;
            if state.abandoned <= self.sizes.abandoned_max {
                self.add_worker(state);
            }
        }
        let dropped = match state.workers {
            0 => std::mem::take(&mut state.queue),
            _ => VecDeque::new(),
        };
        (late, dropped)
    }
}
