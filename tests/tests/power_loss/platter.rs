//! What a disk may hold after a power cut, given what was asked of it before.
//!
//! The rules, and where they come from:
//!
//! * A file that was synced holds what was written before the sync *began* (POSIX `fsync`: all data
//!   queued for the file, and what is needed to find it again, its length too). A sync that failed
//!   promises nothing, and on Linux the next one does not try those pages again: only bytes that
//!   are written anew are saved by it. Everybody who had the file open is told of it once, with
//!   the next sync of his own (Linux since 4.13, fsync(2)).
//! * What was written since may be there or not, each write by itself and in any order. The cache
//!   writes whole sectors as they are at some moment, so of two writes to one sector the later is
//!   never there without the earlier; 512 bytes are there or not (SQLite, "Atomic Commit", section
//!   2: sectors, and no write of several is atomic), and the one write that the cut interrupts ends
//!   at any byte (SQLite's powersafe overwrite: the bytes beside it are not hurt).
//! * A length is changed by itself: a file may be long before its bytes are there, and what is in
//!   between is zero or anything ("Atomic Commit", section 2, on files that grow). A cut is the
//!   directory's affair and whole: nothing of the old bytes is gone while the old length is there.
//! * A name of a new file is in its directory only when the directory was synced, whatever of the
//!   file was; a deleted one may be back.
//! * The log's shared index and the lock file are never synced: they hold anything.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

use crate::stage::{Event, Inode};

pub const SECTOR: usize = 512;

/// Every file of a directory: what is certain of it, and what is not.
#[derive(Debug, Clone, Default)]
pub struct Platter {
    disks: BTreeMap<Inode, Extent>,
    names: BTreeMap<String, Inode>,
    /// Changes of names since the directory was synced.
    renamed: Vec<(String, Option<Inode>)>,
}

/// One file.
#[derive(Debug, Clone, Default)]
struct Extent {
    content: Vec<u8>,
    len: u64,
    /// What was asked since, by sector and in order.
    pieces: BTreeMap<usize, Vec<Piece>>,
    lens: Vec<(Mark, u64)>,
    /// The length that a reader sees.
    seen_len: u64,
}

/// Where on the tape something was asked.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: usize,
    /// A sync of it failed: another one saves nothing.
    is_lost: bool,
}

#[derive(Debug, Clone)]
struct Piece {
    mark: Mark,
    within: Range<usize>,
    /// The bytes of the whole write and where these begin; none where a file was cut.
    bytes: Option<(Arc<[u8]>, usize)>,
}

/// Which of the uncertain writes are there.
#[derive(Debug, Clone, Copy)]
pub enum Keep {
    Nothing,
    Everything,
    /// Each write with this chance in 8.
    Some(u64, u64),
    /// Each sector at a moment of its own.
    Sectors,
    /// All before this place on the tape.
    Before(usize),
    /// All from this place on: the cache began with the latest.
    From(usize),
    /// All before this place; the write at it ends after so many bytes.
    Torn(usize, usize),
}

/// What a machine finds when it is switched on again.
#[derive(Debug, Default)]
pub struct Image {
    pub files: Vec<(String, Vec<u8>)>,
    /// How it was chosen, for a report.
    pub story: String,
}

impl Platter {
    /// A file that is there from the beginning.
    pub fn place(&mut self, inode: Inode, name: &str, content: Vec<u8>) {
        let len = content.len() as u64;
        let extent = Extent { content, len, seen_len: len, ..Extent::default() };
        self.disks.insert(inode, extent);
        self.names.insert(name.to_owned(), inode);
    }

    pub fn apply(&mut self, at: usize, event: &Event) {
        let mark = Mark { at, is_lost: false };
        match event {
            Event::Created { inode, name } => {
                self.disks.insert(*inode, Extent::default());
                self.renamed.push((name.clone(), Some(*inode)));
            }
            Event::Deleted { name } => self.renamed.push((name.clone(), None)),
            Event::Write { inode, at, bytes } => self.extent(*inode).write(mark, *at, bytes),
            Event::Truncate { inode, len } => self.extent(*inode).cut(mark, *len),
            Event::Synced { inode, from } => self.extent(*inode).sync(*from),
            Event::SyncFailed { inode, from } => self.extent(*inode).lose(*from),
            Event::NamesSynced => {
                for (name, inode) in self.renamed.drain(..) {
                    match inode {
                        Some(inode) => self.names.insert(name, inode),
                        None => self.names.remove(&name),
                    };
                }
            }
            Event::Begun(_) | Event::Acknowledged(_) => {}
        }
    }

    /// One of the directories that a cut may leave. Each file is drawn by itself.
    pub fn image(&self, draw: &mut StdRng) -> Image {
        let mut names = self.names.clone();
        let chance = [0.0, 0.5, 1.0][draw.random_range(0..3)];
        for (name, inode) in &self.renamed {
            if draw.random_bool(chance) {
                match inode {
                    Some(inode) => names.insert(name.clone(), *inode),
                    None => names.remove(name),
                };
            }
        }
        let mut image = Image::default();
        for (name, inode) in names {
            let extent = &self.disks[&inode];
            let keep = extent.keep(draw);
            let bytes = extent.draw(keep, draw);
            let (was, seen) = (extent.len, extent.seen_len);
            image.story += &format!("{name}: {keep:?}, {was} -> {} of {seen}; ", bytes.len());
            image.files.push((name, bytes));
        }
        image
    }

    /// How many writes and cuts may or may not be there.
    pub fn uncertain(&self) -> usize {
        self.disks.values().map(|d| d.pieces.len() + d.lens.len()).sum::<usize>()
            + self.renamed.len()
    }

    /// The sectors of a file that were written and not synced, as they are on the disk.
    pub fn unsynced(&self, inode: Inode) -> Vec<(u64, Vec<u8>)> {
        let extent = &self.disks[&inode];
        let old = |sector: &usize| {
            let begin = sector * SECTOR;
            let end = (begin + SECTOR).min(extent.seen_len as usize);
            let mut bytes = extent.sector(*sector);
            bytes.truncate(end.saturating_sub(begin));
            (begin as u64, bytes)
        };
        extent.pieces.keys().map(old).filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    fn extent(&mut self, inode: Inode) -> &mut Extent {
        self.disks.get_mut(&inode).expect("a file is made before it is written")
    }
}

impl Extent {
    fn write(&mut self, mark: Mark, at: u64, bytes: &Arc<[u8]>) {
        let (begin, end) = (at as usize, at as usize + bytes.len());
        let mut from = begin;
        while from < end {
            let sector = from / SECTOR;
            let to = end.min((sector + 1) * SECTOR);
            let within = from - sector * SECTOR..to - sector * SECTOR;
            let piece = Piece { mark, within, bytes: Some((Arc::clone(bytes), from - begin)) };
            self.pieces.entry(sector).or_default().push(piece);
            from = to;
        }
        // A length that was lost with its bytes comes again with them.
        let is_lost = self.lens.iter().any(|(mark, _)| mark.is_lost);
        if end as u64 > self.seen_len || (is_lost && end as u64 > self.len) {
            self.seen_len = self.seen_len.max(end as u64);
            self.lens.push((mark, end as u64));
        }
    }

    fn cut(&mut self, mark: Mark, len: u64) {
        let end = (self.seen_len.max(self.len) as usize).div_ceil(SECTOR);
        for sector in len as usize / SECTOR..end {
            let within = (len as usize).saturating_sub(sector * SECTOR)..SECTOR;
            self.pieces.entry(sector).or_default().push(Piece { mark, within, bytes: None });
        }
        self.seen_len = len;
        self.lens.push((mark, len));
    }

    fn sync(&mut self, from: usize) {
        let saves = |mark: &Mark| mark.at < from && !mark.is_lost;
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.retain(|sector, pieces| {
            if let Some(last) = pieces.iter().rposition(|p| saves(&p.mark)) {
                let mut bytes = self.sector(*sector);
                pieces.drain(..=last).for_each(|piece| piece.put(&mut bytes));
                self.settle(*sector, &bytes);
            }
            !pieces.is_empty()
        });
        self.pieces = pieces;
        if let Some(last) = self.lens.iter().rposition(|(mark, _)| saves(mark)) {
            self.len = self.lens[last].1;
            self.lens.drain(..=last);
        }
    }

    fn lose(&mut self, from: usize) {
        let pieces = self.pieces.values_mut().flatten().map(|p| &mut p.mark);
        let lens = self.lens.iter_mut().map(|(mark, _)| mark);
        pieces.chain(lens).filter(|m| m.at < from).for_each(|m| m.is_lost = true);
    }

    fn sector(&self, sector: usize) -> Vec<u8> {
        let begin = (sector * SECTOR).min(self.content.len());
        let end = (begin + SECTOR).min(self.content.len());
        let mut bytes = self.content[begin..end].to_vec();
        bytes.resize(SECTOR, 0);
        bytes
    }

    fn settle(&mut self, sector: usize, bytes: &[u8]) {
        let end = (sector + 1) * SECTOR;
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[end - SECTOR..end].copy_from_slice(bytes);
    }

    /// A choice that is worth trying for this file as it stands.
    fn keep(&self, draw: &mut StdRng) -> Keep {
        let marks = || {
            let pieces = self.pieces.values().flatten().map(|p| p.mark.at);
            pieces.chain(self.lens.iter().map(|(mark, _)| mark.at))
        };
        let (Some(first), Some(last)) = (marks().min(), marks().max()) else {
            return Keep::Nothing;
        };
        match draw.random_range(0..12) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            2 | 3 => Keep::Some(draw.random(), draw.random_range(1..8)),
            4 | 5 => Keep::Sectors,
            6 | 7 => Keep::Before(draw.random_range(first..=last)),
            8 | 9 => Keep::From(draw.random_range(first..=last)),
            _ => {
                let longest = |p: &Piece| match &p.bytes {
                    Some((bytes, _)) if p.mark.at == last => bytes.len(),
                    _ => 0,
                };
                let len = self.pieces.values().flatten().map(longest).max().unwrap_or(0);
                Keep::Torn(last, draw.random_range(0..=len))
            }
        }
    }

    fn draw(&self, keep: Keep, draw: &mut StdRng) -> Vec<u8> {
        let kept = self.lens.iter().rposition(|(mark, _)| match keep {
            Keep::Sectors => draw.random_bool(0.5),
            keep => keep.holds(*mark),
        });
        let len = kept.map_or(self.len, |last| self.lens[last].1) as usize;
        let cut_until = kept.map(|last| self.lens[last].0.at);
        let mut bytes = self.content.clone();
        bytes.resize(len, 0);
        let garbage = draw.random_bool(0.3);
        let first_new = (self.len as usize).div_ceil(SECTOR);
        for sector in first_new..len.div_ceil(SECTOR) {
            if garbage {
                let end = len.min((sector + 1) * SECTOR);
                draw.fill(&mut bytes[sector * SECTOR..end]);
            }
        }
        for (sector, pieces) in &self.pieces {
            let count = match keep {
                Keep::Sectors => draw.random_range(0..=pieces.len()),
                keep => pieces.iter().rposition(|p| keep.holds(p.mark)).map_or(0, |last| last + 1),
            };
            let mut now = self.sector(*sector);
            for piece in &pieces[..count] {
                match keep {
                    _ if piece.bytes.is_none() && Some(piece.mark.at) > cut_until => {}
                    Keep::Torn(at, cut) if piece.mark.at == at => piece.put_some(cut, &mut now),
                    _ => piece.put(&mut now),
                }
            }
            let begin = (sector * SECTOR).min(len);
            let end = (begin + SECTOR).min(len);
            if count > 0 || *sector < first_new {
                bytes[begin..end].copy_from_slice(&now[..end - begin]);
            }
        }
        bytes
    }
}

impl Keep {
    fn holds(self, mark: Mark) -> bool {
        match self {
            Keep::Nothing | Keep::Sectors => false,
            Keep::Everything => true,
            Keep::Some(salt, chance) => scattered(salt ^ mark.at as u64) % 8 < chance,
            Keep::Before(at) => mark.at < at,
            Keep::From(at) => mark.at >= at,
            Keep::Torn(at, _) => mark.at <= at,
        }
    }
}

impl Piece {
    fn put(&self, sector: &mut [u8]) {
        match &self.bytes {
            Some((bytes, from)) => {
                sector[self.within.clone()].copy_from_slice(&bytes[*from..from + self.within.len()])
            }
            None => sector[self.within.clone()].fill(0),
        }
    }

    /// Only what lies among the first `cut` bytes of the whole write.
    fn put_some(&self, cut: usize, sector: &mut [u8]) {
        let Some((bytes, from)) = &self.bytes else { return self.put(sector) };
        let count = cut.saturating_sub(*from).min(self.within.len());
        let begin = self.within.start;
        sector[begin..begin + count].copy_from_slice(&bytes[*from..from + count]);
    }
}

/// A number as good as random that is the same for the same seed.
fn scattered(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn written(at: u64, byte: u8, len: usize) -> Event {
        Event::Write { inode: 0, at, bytes: vec![byte; len].into() }
    }

    fn platter(events: &[Event]) -> Platter {
        let mut platter = Platter::default();
        platter.place(0, "journal.db", vec![1; 2 * SECTOR]);
        events.iter().enumerate().for_each(|(at, event)| platter.apply(at, event));
        platter
    }

    fn all(platter: &Platter) -> Vec<Vec<u8>> {
        let mut draw = StdRng::seed_from_u64(1);
        let image = |_| platter.image(&mut draw).files.remove(0).1;
        (0..2_000).map(image).collect()
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_may_be_there_in_parts() {
        let synced = platter(&[written(0, 2, 1024), Event::Synced { inode: 0, from: 1 }]);
        assert!(all(&synced).iter().all(|bytes| *bytes == vec![2; 1024]));
        let open = all(&platter(&[written(0, 2, 1024)]));
        let seen = |first: u8, second: u8| open.iter().any(|b| (b[0], b[600]) == (first, second));
        assert!(seen(1, 1) && seen(2, 2) && seen(1, 2) && seen(2, 1));
        let torn_at = |bytes: &Vec<u8>| bytes.iter().position(|byte| *byte == 1).unwrap_or(0);
        assert!(open.iter().any(|b| torn_at(b) % SECTOR != 0), "torn at any byte");
    }

    #[test]
    fn a_sync_promises_nothing_about_what_was_written_while_it_ran() {
        let events =
            [written(0, 2, 512), written(512, 3, 512), Event::Synced { inode: 0, from: 1 }];
        let images = all(&platter(&events));
        assert!(images.iter().all(|b| b[0] == 2) && images.iter().any(|b| b[600] == 1));
    }

    #[test]
    fn a_sync_that_failed_is_not_mended_by_the_next_one_but_by_writing_again() {
        let (failed, synced) =
            (Event::SyncFailed { inode: 0, from: 1 }, |from| Event::Synced { inode: 0, from });
        let lost = platter(&[written(0, 2, 512), failed.clone(), synced(2)]);
        assert!(all(&lost).iter().any(|bytes| bytes[0] == 1));
        assert_eq!(lost.unsynced(0), [(0, vec![1; 512])]);
        let again = platter(&[written(0, 2, 512), failed, written(0, 2, 512), synced(3)]);
        assert!(all(&again).iter().all(|bytes| bytes[0] == 2));
    }

    #[test]
    fn a_length_and_a_name_are_certain_only_after_their_own_sync() {
        let grown = all(&platter(&[written(1024, 2, 1024)]));
        let lens: std::collections::BTreeSet<usize> = grown.iter().map(Vec::len).collect();
        assert!(lens.contains(&1024) && lens.contains(&2048));
        assert!(grown.iter().any(|b| b.len() == 2048 && b[1024..] == [0; 1024]));
        assert!(grown.iter().any(|b| b.len() == 2048 && ![0, 2].contains(&b[1024])), "garbage");
        let cut = all(&platter(&[Event::Truncate { inode: 0, len: 0 }]));
        assert!(cut.iter().any(Vec::is_empty) && cut.iter().any(|b| b.len() == 1024));

        let name = Event::Created { inode: 1, name: "journal.db-wal".into() };
        let files = |events: &[Event]| -> Vec<usize> {
            let platter = platter(events);
            let mut draw = StdRng::seed_from_u64(1);
            (0..100).map(|_| platter.image(&mut draw).files.len()).collect()
        };
        let new = files(std::slice::from_ref(&name));
        assert!(new.contains(&1) && new.contains(&2));
        assert!(files(&[name, Event::NamesSynced]).iter().all(|count| *count == 2));
    }
}
