//! A node: what it holds in memory, and its clocks.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use interlock_engine::{Decision, Input, Stamp};

use super::state::Sending;

/// Unix ms at the beginning.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// The run of a node: what it holds dies with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The node.
    pub node: u8,
    /// Its run.
    pub boot: u64,
}

/// A request whose answer a node waits for.
#[derive(Clone, Debug)]
pub struct Socket {
    /// What was sent.
    pub sending: Arc<Sending>,
    /// It gives up then.
    pub until_ms: u64,
}

/// A decision that is not written yet.
#[derive(Debug)]
pub struct Held {
    /// What it was decided from.
    pub input: Input,
    /// The version that it was decided on.
    pub base: u64,
    /// The decision.
    pub decision: Decision,
    /// The account's own numbers of what was prepared are in the decision.
    pub digest: u64,
}

/// One node's memory.
#[derive(Clone, Debug)]
pub struct Node {
    /// It runs.
    pub up: bool,
    /// Names the run.
    pub boot: u64,
    /// When it began.
    started_ms: u64,
    /// Its wall clock's error, ms.
    skew_ms: i64,
    /// The high-water mark that this run began with, Unix ms.
    floor_ms: i64,
    /// The latest that it has read, Unix ms.
    latest_ms: i64,
    /// It holds the shopper's credential.
    pub credential: bool,
    /// It holds what the shopper brought back.
    pub details: bool,
    /// It runs the newer version of the plugins.
    pub newer: bool,
    /// What it waits for.
    pub sockets: Vec<Socket>,
    /// What it has decided and not yet written: no other turn meanwhile.
    pub held: Option<Arc<Held>>,
}

impl Node {
    /// A node of the beginning.
    pub fn first(index: u8) -> Self {
        Self {
            up: true,
            boot: 1 + u64::from(index),
            started_ms: 0,
            skew_ms: 0,
            floor_ms: 0,
            latest_ms: 0,
            credential: false,
            details: false,
            newer: false,
            sockets: Vec::new(),
            held: None,
        }
    }

    /// A new run after a crash.
    pub fn rise(&mut self, now: u64, nodes: u64) {
        self.up = true;
        self.boot += nodes;
        self.started_ms = now;
        self.floor_ms = self.latest_ms;
    }

    /// Its wall clock is set.
    pub fn jump(&mut self, ms: i64) {
        self.skew_ms += ms;
    }

    fn wall(&self, now: u64) -> i64 {
        let wall = EPOCH_MS.saturating_add_unsigned(now) + self.skew_ms;
        let mono = now - self.started_ms;
        wall.max(self.floor_ms.saturating_add_unsigned(mono)).max(self.latest_ms)
    }

    /// What it would read.
    pub fn peek(&self, now: u64) -> Stamp {
        Stamp { wall_ms: self.wall(now), boot: self.boot, mono_ms: now - self.started_ms }
    }

    /// Reads its clock.
    pub fn stamp(&mut self, now: u64) -> Stamp {
        let stamp = self.peek(now);
        self.latest_ms = stamp.wall_ms;
        stamp
    }

    /// When its wall clock will show this, if it does not yet.
    pub fn when(&self, wall_ms: i64, now: u64) -> u64 {
        if self.wall(now) >= wall_ms {
            return now;
        }
        let by_wall = wall_ms - EPOCH_MS - self.skew_ms;
        let by_floor = (wall_ms - self.floor_ms).saturating_add_unsigned(self.started_ms);
        u64::try_from(by_wall.min(by_floor)).unwrap_or(now).max(now)
    }

    /// As far as it can still make a difference.
    pub fn hash(&self, now: u64, h: &mut impl Hasher) {
        let ahead = |ms: i64| (ms - EPOCH_MS.saturating_add_unsigned(now)).max(0);
        (self.up, self.boot, self.started_ms, self.skew_ms).hash(h);
        (ahead(self.latest_ms), self.credential, self.details, self.newer).hash(h);
        let mono = self.floor_ms.saturating_add_unsigned(now.saturating_sub(self.started_ms));
        ahead(mono).hash(h);
        for socket in &self.sockets {
            (&socket.sending.exchange, socket.sending.number, socket.until_ms).hash(h);
        }
        self.held.as_ref().map(|held| held.digest).hash(h);
    }
}
