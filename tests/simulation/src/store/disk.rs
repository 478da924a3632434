//! One append-only file under a model of a real disk: a page cache, sectors, and syncs that take
//! time and may fail.
//!
//! A record is written to the cache at once and is durable when a sync that began later has ended.
//! What a process wrote survives its death; a power cut keeps or loses each unsynced sector by
//! itself, in any order. Records carry checksums that chain, so a reader stops at the first one
//! that is not whole: what lies behind it is lost with it, and never comes back. That is why only
//! the first lost sector has to be known.

use std::collections::VecDeque;

/// The least that a disk writes as one, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// A number below the one that is given, from whoever owns the seed.
pub type Draw<'a> = &'a mut dyn FnMut(u64) -> u64;

/// The handle cannot be used: its sync failed, or its process is dead. Reopen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A file of records, of which only those that are not durable are held; the others are counted.
#[derive(Clone, Debug)]
pub struct Disk<T> {
    /// In the order of the log.
    tail: VecDeque<Written<T>>,
    /// How many of the tail the running sync covers.
    syncing: Option<usize>,
    durable_bytes: u64,
    open: bool,
}

#[derive(Clone, Debug)]
struct Written<T> {
    record: T,
    end: u64,
}

impl<T> Default for Disk<T> {
    fn default() -> Self {
        Self { tail: VecDeque::new(), syncing: None, durable_bytes: 0, open: true }
    }
}

impl<T> Disk<T> {
    /// Puts a record of so many bytes (at least one) into the page cache.
    ///
    /// # Errors
    /// [`Closed`]
    pub fn write(&mut self, record: T, bytes: u64) -> Result<(), Closed> {
        self.check_open()?;
        let end = self.bytes() + bytes.max(1);
        self.tail.push_back(Written { record, end });
        Ok(())
    }

    /// Begins to make durable what was written so far. A sync that runs already goes on, and
    /// covers no more than it did.
    ///
    /// # Errors
    /// [`Closed`]
    pub fn begin_sync(&mut self) -> Result<(), Closed> {
        self.check_open()?;
        self.syncing.get_or_insert(self.tail.len());
        Ok(())
    }

    /// The running sync returned: how many records it made durable.
    pub fn end_sync(&mut self) -> usize {
        let covered = self.syncing.take().unwrap_or(0);
        if let Some(last) = self.tail.drain(..covered).next_back() {
            self.durable_bytes = last.end;
        }
        covered
    }

    /// The running sync failed. The kernel may have given up any of the sectors and will not say
    /// so twice, so the handle is dead.
    pub fn fail_sync(&mut self, draw: Draw<'_>) {
        self.tear(draw);
        self.close();
    }

    /// The process dies. It may have died between any two of the writes since its last sync;
    /// those that it made are in the cache, and are there for the next process.
    pub fn kill(&mut self, draw: Draw<'_>) {
        if self.open {
            let made = draw(self.tail.len() as u64 + 1);
            self.tail.truncate(made as usize);
        }
        self.close();
    }

    /// The machine dies, with or without a process on it.
    pub fn lose_power(&mut self, draw: Draw<'_>) {
        self.tear(draw);
        self.close();
    }

    /// Opens the file again: what was not known to be durable and can be read. It is durable
    /// before it is given out: whoever acts on a record that only the cache holds would act on
    /// something that a power cut can take back.
    pub fn reopen(&mut self) -> impl Iterator<Item = T> + '_ {
        self.durable_bytes = self.bytes();
        self.syncing = None;
        self.open = true;
        self.tail.drain(..).map(|written| written.record)
    }

    /// Whether it can be written to.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a sync has begun and not ended.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Its length in bytes, durable or not.
    pub fn bytes(&self) -> u64 {
        self.tail.back().map_or(self.durable_bytes, |last| last.end)
    }

    /// Its length in bytes that no power cut takes away.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    fn check_open(&self) -> Result<(), Closed> {
        if self.open { Ok(()) } else { Err(Closed) }
    }

    fn close(&mut self) {
        self.syncing = None;
        self.open = false;
    }

    /// Keeps or loses each sector that was not synced; the draw says first how many of eight are
    /// kept, so that all and none are as likely as any mixture.
    fn tear(&mut self, draw: Draw<'_>) {
        let kept_of_eight = draw(9);
        // The first may hold the end of the durable part: that is in it before and after.
        let mut whole_up_to = self.durable_bytes / SECTOR_BYTES;
        let readable = self.tail.iter().position(|written| {
            let end = written.end.div_ceil(SECTOR_BYTES);
            while whole_up_to < end && draw(8) < kept_of_eight {
                whole_up_to += 1;
            }
            whole_up_to < end
        });
        self.tail.truncate(readable.unwrap_or(self.tail.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_sync_covered_is_durable() {
        let mut disk = Disk::default();
        disk.write(1, 100).unwrap();
        disk.begin_sync().unwrap();
        disk.write(2, 100).unwrap();
        assert_eq!(disk.durable_bytes(), 0);
        assert_eq!(disk.end_sync(), 1);
        assert_eq!((disk.durable_bytes(), disk.bytes()), (100, 200));
        disk.lose_power(&mut none);
        assert_eq!(disk.reopen().count(), 0);
        assert_eq!(disk.bytes(), 100);
    }

    #[test]
    fn a_dead_process_leaves_what_it_wrote_and_a_dead_machine_may_not() {
        let mut disk = Disk::default();
        disk.write(1, 100).unwrap();
        disk.write(2, 100).unwrap();
        disk.kill(&mut all);
        let mut cut = disk.clone();
        assert_eq!(disk.reopen().collect::<Vec<_>>(), [1, 2]);
        cut.lose_power(&mut none);
        assert_eq!(cut.reopen().count(), 0);
        disk.lose_power(&mut none);
        assert_eq!(disk.bytes(), 200, "what was reopened is durable");
    }

    #[test]
    fn a_hole_hides_what_lies_behind_it() {
        // Record 2 lies in the sectors 1 to 3; of its sectors the middle one is lost.
        let mut disk = Disk::default();
        for (record, sectors) in [(1, 1), (2, 3), (3, 1)] {
            disk.write(record, sectors * SECTOR_BYTES).unwrap();
        }
        let mut draws = [4, 0, 0, 7, 0, 0].into_iter();
        disk.lose_power(&mut |_| draws.next().unwrap());
        assert_eq!(disk.reopen().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn records_of_one_sector_share_its_fate() {
        let mut disk = Disk::default();
        disk.write(1, 10).unwrap();
        disk.write(2, 10).unwrap();
        let mut draws = [4, 0].into_iter();
        disk.lose_power(&mut |_| draws.next().unwrap());
        assert_eq!(disk.reopen().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_handle_is_dead_after_a_failed_sync() {
        let mut disk = Disk::default();
        disk.write(1, 10).unwrap();
        disk.begin_sync().unwrap();
        disk.fail_sync(&mut all);
        assert_eq!(disk.write(2, 10), Err(Closed));
        assert_eq!(disk.begin_sync(), Err(Closed));
        assert_eq!(disk.end_sync(), 0);
        assert_eq!(disk.reopen().collect::<Vec<_>>(), [1]);
        assert_eq!(disk.write(2, 10), Ok(()));
    }

    /// Keeps everything: most of eight, and every sector is below it.
    fn all(below: u64) -> u64 {
        if below == 8 { 0 } else { below - 1 }
    }

    fn none(_: u64) -> u64 {
        0
    }
}
