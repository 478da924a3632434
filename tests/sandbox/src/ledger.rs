//! Every movement of money at the fakes, in order: the independent truth that tests judge by.
//!
//! A movement is written in the moment the money moves, under the lock of the account that moved
//! it, whatever the caller is answered afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::moment;

/// The ledger holds at most this many movements; a full one makes the fakes refuse work with a
/// 5xx before they execute anything, so that no movement is ever left out.
pub const LEDGER_LIMIT: usize = 4_000_000;

/// What happened to the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Taken from the payer.
    Charge,
    /// Held on the payer's card.
    Authorize,
    /// Taken out of a hold; adds nothing to the net sum, which counted the hold.
    Capture,
    /// Given back after it was taken.
    Refund,
    /// A hold, or the rest of one, let go.
    Void,
    /// All of it given back by a cancel or a reversal.
    Reverse,
}

/// One movement, before it has its place in the ledger.
#[derive(Debug, Clone)]
pub struct Move {
    /// The idempotency key or order number, as received.
    pub op_id: String,
    /// The provider's name for the payment: trade number or payment id.
    pub provider_ref: String,
    /// The payment's order number or reference; joins refunds to their payment.
    pub reference: String,
    /// What happened.
    pub kind: Kind,
    /// Minor units of `currency`.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
}

/// One movement in its place.
#[derive(Debug, Clone, Serialize)]
pub struct Movement {
    /// From 1, without holes.
    pub seq: u64,
    #[serde(serialize_with = "as_rfc3339")]
    /// When, in milliseconds since the epoch; RFC 3339 in JSON.
    pub at: i64,
    /// The account's name.
    pub account: Arc<str>,
    /// `adyen`, `alipay`, `checkout`, `paypal`, `stripe` or `wechatpay`.
    pub provider: &'static str,
    /// See [`Move::op_id`].
    pub op_id: String,
    /// See [`Move::provider_ref`].
    pub provider_ref: String,
    /// See [`Move::kind`].
    pub kind: Kind,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// See [`Move::reference`].
    pub reference: String,
}

/// The sum of one payment.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Net {
    /// The account's name.
    pub account: Arc<str>,
    /// The payment's order number or reference.
    pub reference: String,
    /// ISO 4217.
    pub currency: String,
    /// Charges and holds, less refunds, voids and reversals, in minor units.
    pub net: i64,
    /// Movements that took or held money.
    pub charges: u64,
}

/// The ledger of all accounts of one sandbox.
#[derive(Default)]
pub struct Ledger {
    movements: Mutex<Vec<Movement>>,
}

impl Ledger {
    /// Writes `moves` at time `at_ms`, one after the other.
    pub fn write(&self, account: &Arc<str>, provider: &'static str, at_ms: i64, moves: Vec<Move>) {
        if moves.is_empty() {
            return;
        }
        let mut movements = self.lock();
        for m in moves {
            let seq = movements.len() as u64 + 1;
            movements.push(Movement {
                seq,
                at: at_ms,
                account: account.clone(),
                provider,
                op_id: m.op_id,
                provider_ref: m.provider_ref,
                kind: m.kind,
                amount: m.amount,
                currency: m.currency,
                reference: m.reference,
            });
        }
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.lock().len() >= LEDGER_LIMIT
    }

    /// The movements of `account` (of all when `None`) that `since` keeps, in order.
    pub fn read(&self, account: Option<&str>, since: Since) -> Vec<Movement> {
        let movements = self.lock();
        let first = match since {
            Since::Seq(seq) => usize::try_from(seq).unwrap_or(usize::MAX).min(movements.len()),
            Since::Ms(ms) => movements.partition_point(|m| m.at < ms),
        };
        let wanted = |m: &&Movement| account.is_none_or(|name| &*m.account == name);
        movements[first..].iter().filter(wanted).cloned().collect()
    }

    /// The sum of every payment, by account and reference.
    pub fn net(&self, account: Option<&str>) -> Vec<Net> {
        let mut sums: BTreeMap<(Arc<str>, String, String), (i64, u64)> = BTreeMap::new();
        for m in self.read(account, Since::Seq(0)) {
            let sum = sums.entry((m.account, m.reference, m.currency)).or_default();
            match m.kind {
                Kind::Charge | Kind::Authorize => {
                    sum.0 += m.amount;
                    sum.1 += 1;
                }
                Kind::Capture => {}
                Kind::Refund | Kind::Void | Kind::Reverse => sum.0 -= m.amount,
            }
        }
        let net = |((account, reference, currency), (net, charges))| Net {
            account,
            reference,
            currency,
            net,
            charges,
        };
        sums.into_iter().map(net).collect()
    }

    /// Empties the ledger; the next movement is number 1 again.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Movement>> {
        self.movements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After this number.
    Seq(u64),
    /// At this time (milliseconds since the epoch) or later.
    Ms(i64),
}

impl Since {
    /// Reads the `since` of a query: a number that was seen last, or an RFC 3339 time.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("") => Some(Self::Seq(0)),
            Some(text) => match text.parse() {
                Ok(seq) => Some(Self::Seq(seq)),
                Err(_) => moment::parse_rfc3339(text).map(Self::Ms),
            },
        }
    }
}

/// Writes milliseconds since the epoch as RFC 3339, for every log of the sandbox.
pub fn as_rfc3339<S: serde::Serializer>(ms: &i64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&moment::rfc3339(*ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movements_are_numbered_and_read_from_a_number_or_a_time() {
        let ledger = Ledger::default();
        write(&ledger, "a", 1_000, Kind::Charge, 500);
        write(&ledger, "b", 2_000, Kind::Authorize, 700);
        write(&ledger, "a", 3_000, Kind::Refund, 500);
        let seqs = |since| -> Vec<u64> {
            ledger.read(None, Since::parse(since).unwrap()).iter().map(|m| m.seq).collect()
        };
        assert_eq!(seqs(None), [1, 2, 3]);
        assert_eq!(seqs(Some("2")), [3]);
        assert_eq!(seqs(Some("1970-01-01T00:00:02Z")), [2, 3]);
        assert_eq!(Since::parse(Some("yesterday")), None);
        assert_eq!(ledger.read(Some("b"), Since::Seq(0)).len(), 1);
    }

    #[test]
    fn the_net_counts_a_captured_hold_once() {
        let ledger = Ledger::default();
        write(&ledger, "a", 1, Kind::Authorize, 100);
        write(&ledger, "a", 2, Kind::Capture, 60);
        write(&ledger, "a", 3, Kind::Void, 40);
        write(&ledger, "a", 4, Kind::Refund, 10);
        let net = ledger.net(None);
        assert_eq!((net[0].net, net[0].charges), (50, 1));
    }

    fn write(ledger: &Ledger, account: &str, at: i64, kind: Kind, amount: i64) {
        let one = Move {
            op_id: "k".into(),
            provider_ref: "p".into(),
            reference: "r".into(),
            kind,
            amount,
            currency: "CNY".into(),
        };
        ledger.write(&account.into(), "alipay", at, vec![one]);
    }
}
