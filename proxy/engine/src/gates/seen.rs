//! What was seen of accounts, in a few numbers that outlive the process: without them a start would
//! forget what is usual, and an alarm that was on would need hours to come back.
//!
//! Monotonic times mean nothing to the next process, so ages are kept by the clock on the wall.
//! Nothing here decides about money: what is lost or wrong costs an alarm, or a place in the order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::account::Gate;
use super::{Gates, lock};
use crate::stamp::Stamp;

/// What was seen of all accounts: a few hundred bytes for each, and no more than two kilobytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// When it was true, Unix ms.
    pub at_ms: i64,
    /// By account.
    pub accounts: BTreeMap<String, SeenAccount>,
}

/// What was seen of one account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenAccount {
    /// By method.
    usual: BTreeMap<String, Usual>,
    answers: Answers,
    notices: Awaited,
}

/// How many of its offers are paid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    pub(super) created: f64,
    pub(super) paid: f64,
    pub(super) low: bool,
}

/// How many of its last answers the plugin could not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Answers {
    pub(super) seen: u32,
    pub(super) unread: u32,
    pub(super) drifted: bool,
}

/// Which notifications did not come, the oldest of them, with Unix ms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Awaited {
    pub(super) heard: bool,
    pub(super) since: Vec<(String, i64)>,
}

impl Gates {
    /// What is to be kept beyond this process.
    pub fn seen(&self, now: Stamp) -> Seen {
        let accounts = self.accounts.iter().map(|(name, gate)| (name.clone(), gate.seen(now)));
        Seen { at_ms: now.wall_ms, accounts: accounts.collect() }
    }

    /// Takes up what an earlier process had seen, before anything else is seen. Accounts and
    /// methods that are not configured any more are left out.
    pub fn take_up(&self, seen: &Seen, now: Stamp) {
        let away_ms = now.wall_ms.saturating_sub(seen.at_ms).max(0).unsigned_abs();
        for (name, account) in &seen.accounts {
            if let Some(gate) = self.accounts.get(name) {
                gate.take_up(account, away_ms, now);
            }
        }
    }
}

impl Gate {
    fn seen(&self, now: Stamp) -> SeenAccount {
        let lanes = self.lanes.iter();
        let usual = lanes.filter_map(|lane| {
            let usual = lock(&lane.conversion).usual(now.mono_ms)?;
            Some((lane.method.to_string(), usual))
        });
        SeenAccount {
            usual: usual.collect(),
            answers: lock(&self.past.drift).seen(),
            notices: lock(&self.past.notices).seen(now),
        }
    }

    fn take_up(&self, seen: &SeenAccount, away_ms: u64, now: Stamp) {
        for (method, usual) in &seen.usual {
            if let Some(lane) = self.lane(method) {
                lock(&lane.conversion).take_up(*usual, away_ms, now.mono_ms);
            }
        }
        lock(&self.past.drift).take_up(seen.answers);
        lock(&self.past.notices).take_up(&seen.notices, now);
    }
}
