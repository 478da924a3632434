//! The simulated store: the journal's promises over a simulated disk, with its moments laid open.
//!
//! What happens inside one call of the journal's writer happens here in steps that the simulator
//! chooses: [`Simulated::stage`] queues; [`Simulated::begin_sync`] judges what is queued as one
//! batch and writes it; [`Simulated::end_sync`] makes it durable, shows it to readers and answers.
//! Between the last two lies the window in which a process may die, a machine lose its power, a
//! sync fail. What came in meanwhile is the next batch. There is no clock, no thread and no
//! randomness in here; the conformance suite of the journal runs on the same code
//! ([`face::Face`]).
//!
//! In one thing the disk is worse than the journal's: a crash may keep the first writes of a batch
//! and lose the others. Each write is whole or absent all the same.

mod book;
mod disk;
pub mod face;
mod judge;
mod mail;
mod transaction;

use std::collections::VecDeque;

pub use book::{Book, Version};
pub use disk::{Closed, Disk, Draw, SECTOR_BYTES};
pub use transaction::{
    Answer, Key, Notice, OrderChange, Refusal, Rows, Task, Transaction, Verdict,
};

/// Tasks of one batch, as in the journal.
const BATCH: usize = 512;
/// Queued tasks beyond which new work is refused, as in the journal.
const QUEUE: usize = 4096;

/// How much room the disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// Enough.
    #[default]
    Plenty,
    /// Below the low-water mark: new work is refused before anything is tried.
    Low,
    /// Full but for the reserve: outcomes are written, new work is refused.
    Reserve,
    /// Full, the reserve too: nothing is written.
    Full,
}

/// A store and its disk. `K` names who waits for an answer.
#[derive(Clone, Debug)]
pub struct Simulated<R: Rows, K> {
    book: Book<R>,
    /// A record is where it ends in the book's undo.
    disk: Disk<usize>,
    queue: VecDeque<(Task<R>, K)>,
    flight: Vec<(K, Answer<R>)>,
    space: Space,
    early: bool,
}

/// What was durable at one moment.
#[derive(Clone, Debug)]
pub struct Backup<R: Rows>(Book<R>);

impl<R: Rows, K> Default for Simulated<R, K> {
    fn default() -> Self {
        Self {
            book: Book::default(),
            disk: Disk::default(),
            queue: VecDeque::new(),
            flight: Vec::new(),
            space: Space::Plenty,
            early: false,
        }
    }
}

impl<R: Rows, K> Simulated<R, K> {
    /// **Breaks the store**: whoever waits is answered when the batch is written, and readers see
    /// it, before it is synced. For the mutant "acknowledge before durable".
    pub fn acknowledge_early(&mut self) {
        self.early = true;
    }

    /// Queues a task.
    ///
    /// # Errors
    /// `LowDisk` and `Busy`, for new work only: nothing was queued.
    pub fn stage(&mut self, task: impl Into<Task<R>>, caller: K) -> Result<(), Refusal> {
        let task = task.into();
        if task.is_intake() {
            if self.space != Space::Plenty {
                return Err(Refusal::LowDisk);
            }
            if self.queue.len() >= QUEUE {
                return Err(Refusal::Busy);
            }
        }
        self.queue.push_back((task, caller));
        Ok(())
    }

    /// How many tasks wait for the next batch.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Judges what is queued, up to 512 tasks, as one batch and begins to sync it. False when
    /// there is nothing to do, a sync runs, or the store is closed. `heard` gets nothing, except
    /// from a store that acknowledges early.
    pub fn begin_sync(&mut self, heard: &mut Vec<(K, Answer<R>)>) -> bool {
        if self.disk.is_syncing() || self.queue.is_empty() || !self.disk.is_open() {
            return false;
        }
        for (task, caller) in self.queue.drain(..self.queue.len().min(BATCH)) {
            let answer = perform(&mut self.book, &mut self.disk, self.space, task);
            self.flight.push((caller, answer));
        }
        let begun = self.disk.begin_sync().is_ok();
        if self.early {
            self.book.show();
            heard.append(&mut self.flight);
        }
        begun
    }

    /// Whether a sync has begun and not ended.
    pub fn is_syncing(&self) -> bool {
        self.disk.is_syncing()
    }

    /// The sync returned: the batch is durable and seen, and its callers are answered in the order
    /// of their writes. Nothing happens when no sync runs.
    pub fn end_sync(&mut self, heard: &mut Vec<(K, Answer<R>)>) {
        if self.disk.is_syncing() {
            self.disk.end_sync();
            self.book.settle();
            heard.append(&mut self.flight);
        }
    }

    /// The sync failed: the batch's callers hear `Failed`, which means unknown. The process lives,
    /// its queue waits, the store is closed. Nothing happens when no sync runs.
    pub fn fail_sync(&mut self, draw: Draw<'_>, heard: &mut Vec<(K, Answer<R>)>) {
        if self.disk.is_syncing() {
            self.disk.fail_sync(draw);
            heard.extend(self.flight.drain(..).map(|(caller, _)| (caller, Err(Refusal::Failed))));
        }
    }

    /// The process dies, with its queue and whoever waited. A batch that was being written is in
    /// the cache up to the write that the draw says.
    pub fn kill(&mut self, draw: Draw<'_>) {
        // Whoever was answered early was answered after the last write.
        let early = self.early;
        self.disk.kill(&mut |below| if early { below - 1 } else { draw(below) });
        self.forget();
    }

    /// The machine loses its power, whether the process still ran or not.
    pub fn lose_power(&mut self, draw: Draw<'_>) {
        self.disk.lose_power(draw);
        self.forget();
    }

    /// Opens a closed store again: what can be read is durable and seen.
    pub fn reopen(&mut self) {
        let mark = self.disk.reopen().last().unwrap_or(0);
        self.book.undo_to(mark);
        self.book.settle();
    }

    /// Whether the store is open; a closed one takes tasks for later and can't be read.
    pub fn is_open(&self) -> bool {
        self.disk.is_open()
    }

    /// What readers see: what was synced. None while the store is closed.
    pub fn book(&self) -> Option<&Book<R>> {
        self.disk.is_open().then_some(&self.book)
    }

    /// Sets how much room the disk has.
    pub fn set_space(&mut self, space: Space) {
        self.space = space;
    }

    /// How much room the disk has.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Bytes written since the store was made.
    pub fn bytes(&self) -> u64 {
        self.disk.bytes()
    }

    /// A copy of what is durable, as an operator's backup has it.
    pub fn backup(&self) -> Backup<R> {
        let mut book = self.book.clone();
        book.undo_to(0);
        Backup(book)
    }

    /// The disk is lost and an earlier copy put in its place; the process is dead. Reopen.
    pub fn restore(&mut self, backup: &Backup<R>) {
        self.disk.kill(&mut |_| 0);
        self.forget();
        self.book = backup.0.clone();
    }

    fn forget(&mut self) {
        self.queue.clear();
        self.flight.clear();
    }
}

fn perform<R: Rows>(
    book: &mut Book<R>,
    disk: &mut Disk<usize>,
    space: Space,
    task: Task<R>,
) -> Answer<R> {
    if space == Space::Full || space == Space::Reserve && task.is_intake() {
        return Err(Refusal::Full);
    }
    let bytes = task.bytes();
    let verdict = book.judge(task).map_err(|_| Refusal::Unfit)?;
    if matches!(verdict, Verdict::Done) {
        disk.write(book.changes(), bytes).map_err(|_| Refusal::Failed)?;
    }
    Ok(verdict)
}
