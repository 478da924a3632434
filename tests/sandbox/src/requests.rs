//! What the fakes received, and what was answered or not: a bounded ring for tests to read.
//!
//! Only names are kept. Bodies, query strings and headers never come here, because they carry
//! credentials, card numbers, cryptograms and auth codes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::faults::Operation;
use crate::ledger::{Since, as_rfc3339};

/// The ring keeps the last requests, this many.
pub const REQUESTS_LIMIT: usize = 200_000;

const SEEN_LIMIT: usize = 4_000_000;

/// One request as received.
#[derive(Debug, Clone, Serialize)]
pub struct Received {
    /// From 1.
    pub seq: u64,
    /// Milliseconds since the epoch; RFC 3339 in JSON.
    #[serde(serialize_with = "as_rfc3339")]
    pub at: i64,
    /// The account's name.
    pub account: Arc<str>,
    /// `adyen`, `alipay`, `applepay`, `checkout`, `paypal`, `stripe` or `wechatpay`.
    pub provider: &'static str,
    /// What it asked for.
    pub operation: Operation,
    /// The HTTP method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The provider's name of the call, such as `alipay.trade.pay`.
    pub call: String,
    /// The idempotency key, order number or payment id, as received.
    pub op_id: Option<String>,
    /// Whether this account saw the same `op_id` for the same operation before.
    pub duplicate: bool,
    /// The HTTP status that was answered, or `null` when nothing was (yet).
    pub answered: Option<u16>,
    /// The fault that met it.
    pub fault: Option<Arc<str>>,
}

/// The ring of all accounts.
#[derive(Default)]
pub struct Requests {
    inner: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    next: u64,
    kept: VecDeque<Received>,
    seen: HashSet<u64>,
}

impl Requests {
    /// Keeps `received`, sets its number and whether it is a duplicate; answers the number.
    pub fn open(&self, mut received: Received) -> u64 {
        let mut ring = self.lock();
        ring.next += 1;
        received.seq = ring.next;
        if let Some(op_id) = &received.op_id {
            let mut hasher = DefaultHasher::new();
            (&*received.account, received.operation, op_id).hash(&mut hasher);
            let mark = hasher.finish();
            received.duplicate = ring.seen.contains(&mark);
            if ring.seen.len() < SEEN_LIMIT {
                ring.seen.insert(mark);
            }
        }
        if ring.kept.len() == REQUESTS_LIMIT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(received);
        ring.next
    }

    /// Notes the status that request `seq` was answered with.
    pub fn answered(&self, seq: u64, status: u16) {
        let mut ring = self.lock();
        let Some(first) = ring.kept.front().map(|r| r.seq) else {
            return;
        };
        let Some(place) = seq.checked_sub(first) else {
            return;
        };
        if let Some(received) = ring.kept.get_mut(usize::try_from(place).unwrap_or(usize::MAX)) {
            received.answered = Some(status);
        }
    }

    /// The requests of `account` (of all when `None`) that `since` keeps, in order.
    pub fn read(&self, account: Option<&str>, since: Since) -> Vec<Received> {
        let ring = self.lock();
        let wanted = |r: &&Received| {
            account.is_none_or(|name| &*r.account == name)
                && match since {
                    Since::Seq(seq) => r.seq > seq,
                    Since::Ms(ms) => r.at >= ms,
                }
        };
        ring.kept.iter().filter(wanted).cloned().collect()
    }

    /// Forgets everything, also which keys were seen. Numbers go on, so that an answer which is
    /// still under way cannot be noted on a younger request.
    pub fn clear(&self) {
        let mut ring = self.lock();
        ring.kept.clear();
        ring.seen.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_with_the_same_key_is_a_duplicate_for_its_operation_only() {
        let requests = Requests::default();
        requests.open(received(Operation::Authorize, "k"));
        requests.open(received(Operation::Authorize, "k"));
        requests.open(received(Operation::Inquire, "k"));
        let duplicates: Vec<bool> =
            requests.read(None, Since::Seq(0)).iter().map(|r| r.duplicate).collect();
        assert_eq!(duplicates, [false, true, false]);
    }

    #[test]
    fn the_ring_is_bounded_and_answers_find_their_request() {
        let requests = Requests::default();
        for _ in 0..REQUESTS_LIMIT + 5 {
            requests.open(received(Operation::Inquire, "k"));
        }
        requests.answered(3, 500);
        requests.answered(REQUESTS_LIMIT as u64 + 5, 201);
        let kept = requests.read(None, Since::Seq(0));
        assert_eq!(kept.len(), REQUESTS_LIMIT);
        assert_eq!(kept.last().unwrap().answered, Some(201));
        assert!(kept.iter().all(|r| r.answered != Some(500)));
    }

    fn received(operation: Operation, op_id: &str) -> Received {
        Received {
            seq: 0,
            at: 0,
            account: "a".into(),
            provider: "alipay",
            operation,
            method: "POST".into(),
            path: "/gateway.do".into(),
            call: String::new(),
            op_id: Some(op_id.into()),
            duplicate: false,
            answered: None,
            fault: None,
        }
    }
}
