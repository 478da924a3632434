//! What a merchant is told: one message for each change that it can see, in the same transaction.
//!
//! The first version of a payment tells nothing: its merchant has just asked for it and is about
//! to be answered. A payment that is still `processing` after it does, once.

use interlock_engine::{
    ExchangeKind, Mint, Operation, OperationState, Payment, Policy, Settled, status,
};
use interlock_journal::OutboxRow;
use serde_json::{Value, json};

use crate::merchant_api::answer;

/// Messages of one version at most: their numbers are the version's and these.
const OF_ONE_VERSION: u64 = 1 << 16;
/// Digits of an id that come from its time, so that ids of one time lie beside each other.
const TIME_DIGITS: usize = 10;

/// The messages of a payment's next version, in order.
pub fn of_version(
    before: Option<&Payment>,
    p: &Payment,
    policy: &Policy,
    mint: &dyn Mint,
    at_ms: i64,
) -> Vec<OutboxRow> {
    let told = payment_kinds(before, p).into_iter().map(|kind| (kind, answer::payment(p, policy)));
    let refunds =
        refund_changes(before, p).map(|(kind, o)| (kind.to_owned(), answer::refund(p, o)));
    let numbered = (p.ver * OF_ONE_VERSION..(p.ver + 1) * OF_ONE_VERSION).zip(told.chain(refunds));
    numbered.map(|(seq, (kind, data))| row(p, seq, at_ms, kind, &data, mint)).collect()
}

fn payment_kinds(before: Option<&Payment>, p: &Payment) -> Vec<String> {
    let word = status::status(p).0;
    let settled_late =
        |b: &Payment| b.settled == Some(Settled::Failed) && p.settled == Some(Settled::Succeeded);
    let taken_back =
        |b: &Payment| b.settled == Some(Settled::Succeeded) && p.captured() < b.captured();
    let mut kinds = Vec::new();
    if before.is_some_and(settled_late) {
        kinds.push("payment.recovered".to_owned());
    } else if told_before(before) != Some(word) && (before.is_some() || word.answers()) {
        kinds.push(format!("payment.{}", word.as_str()));
    }
    if before.is_some_and(taken_back) {
        kinds.push("payment.capture_reversed".to_owned());
    }
    kinds
}

/// The status that the merchant was told last: none after a first version that tells nothing.
fn told_before(before: Option<&Payment>) -> Option<status::Status> {
    let before = before?;
    let word = status::status(before).0;
    (before.ver > 1 || word.answers()).then_some(word)
}

/// Refunds that came to an end in this version, or to another one.
fn refund_changes<'p>(
    before: Option<&'p Payment>,
    p: &'p Payment,
) -> impl Iterator<Item = (&'static str, &'p Operation)> {
    let kind = |o: &Operation| match o.state {
        OperationState::Done => Some("refund.succeeded"),
        OperationState::Rejected | OperationState::Reversed => Some("refund.failed"),
        _ => None,
    };
    p.operations.iter().enumerate().filter_map(move |(n, o)| {
        let was = before.and_then(|b| b.operations.get(n)).and_then(kind);
        let is_refund = o.kind == ExchangeKind::Refund && answer::is_shown(o);
        let now = kind(o).filter(|now| is_refund && was != Some(*now))?;
        Some((now, o))
    })
}

fn row(
    p: &Payment,
    seq: u64,
    at_ms: i64,
    kind: String,
    data: &Value,
    mint: &dyn Mint,
) -> OutboxRow {
    let id = id(&p.id, seq, at_ms, mint);
    let body = json!({
        "id": id, "object": "event", "type": kind, "timestamp": answer::time(at_ms), "data": data,
    });
    let body = body.to_string().into_bytes();
    OutboxRow { payment: p.id.clone(), seq, at_ms, id, kind, body }
}

/// `evt_`, ten digits of time, and sixteen that no other message has.
fn id(payment: &str, seq: u64, at_ms: i64, mint: &dyn Mint) -> String {
    let time = ulid::Ulid::from_parts(at_ms.max(0).unsigned_abs(), 0).to_string();
    let own = mint.mint(&["event", payment, &seq.to_string()]);
    let own = own.get(TIME_DIGITS..).unwrap_or(&own);
    format!("evt_{}{own}", &time[..TIME_DIGITS])
}
