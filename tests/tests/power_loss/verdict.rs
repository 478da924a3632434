//! Whether a journal that was opened after a cut is one that may be: a beginning of what was
//! committed, long enough to hold everything that was acknowledged, and every row of it whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use interlock_journal::{
    Due, EventRow, KeyRow, ListQuery, NoticeRow, OrderChange, OutboxRow, PaymentRow, Store,
    StoreError, Write,
};

use crate::tables::{self, Tables};
use crate::work::{Log, Work, work_of};

/// What had been asked and answered when the power went.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub begun: BTreeSet<usize>,
    pub acknowledged: BTreeSet<usize>,
}

/// The first thing that is wrong, in a sentence. Payments and their timelines are asked of the
/// store; the narrow tables are read whole, so that a row too many is seen as well.
pub async fn judge(store: &dyn Store, file: &Path, log: &Log, heard: &Heard) -> Result<(), String> {
    let failed = |error: StoreError| format!("a read was refused: {error}");
    let events = store.events(0, 10_000).await.map_err(failed)?;
    let events: Vec<EventRow> = events.into_iter().map(|(_, event)| event).collect();
    let writes = beginning(&events, log, heard)?;
    let truth = Truth::after(&writes);
    same("events", &events, &writes.iter().flat_map(|w| w.events.clone()).collect::<Vec<_>>())?;
    let all = ListQuery { limit: 500, ..ListQuery::default() };
    let listed = store.list(all).await.map_err(failed)?.rows;
    same("payments", &listed, &truth.listed())?;
    let mut due = store.due(i64::MAX, 10_000).await.map_err(failed)?;
    due.sort_by(|a, b| a.payment.cmp(&b.payment));
    same("due payments", &due, &truth.due())?;
    let found = tables::read(file).map_err(|error| format!("a table was refused: {error}"))?;
    same("keys", &found.keys, &truth.keys)?;
    same("references", &found.references, &truth.references)?;
    same("operations", &found.operations, &truth.operations)?;
    same("orders", &found.orders, &truth.orders)?;
    messages(&found, &truth, log, heard)?;
    loose_ends(&found, &truth, log, heard)
}

/// The committed writes that are there: a beginning of the order in which they were committed, if
/// that is known, and in any case each payment's versions one after the other.
fn beginning<'a>(
    events: &[EventRow],
    log: &'a Log,
    heard: &Heard,
) -> Result<Vec<&'a Write>, String> {
    let mut found: Vec<usize> = events.iter().map(work_of).collect();
    found.dedup();
    if log.order.as_ref().is_some_and(|order| !order.starts_with(&found)) {
        return Err(format!("no beginning of what was committed: {found:?}"));
    }
    let there: BTreeSet<usize> = found.iter().copied().collect();
    let is_write = |work: &&usize| matches!(log.works[**work], Work::Write(_));
    if let Some(lost) = heard.acknowledged.iter().filter(is_write).find(|w| !there.contains(w)) {
        let Work::Write(write) = &log.works[*lost] else { unreachable!("only writes") };
        return Err(format!("acknowledged and lost: {} version {}", write.payment, write.next));
    }
    if let Some(early) = there.iter().find(|work| !heard.begun.contains(work)) {
        return Err(format!("there before it was asked for: {early}"));
    }
    let mut versions = BTreeMap::new();
    let mut writes = Vec::new();
    for work in &found {
        let Work::Write(write) = &log.works[*work] else {
            return Err(format!("not a write: {work}"));
        };
        if versions.insert(&write.payment, write.next).unwrap_or(0) != write.expect {
            return Err(format!("a version without the one before: {work}"));
        }
        writes.push(&**write);
    }
    Ok(writes)
}

/// What must be there after some writes.
#[derive(Default)]
struct Truth {
    payments: BTreeMap<String, PaymentRow>,
    keys: BTreeMap<String, KeyRow>,
    references: BTreeMap<String, String>,
    operations: BTreeMap<String, String>,
    orders: BTreeMap<String, String>,
    notices: BTreeMap<String, NoticeRow>,
    messages: BTreeMap<(String, u64), OutboxRow>,
}

impl Truth {
    fn after(writes: &[&Write]) -> Self {
        let mut truth = Self::default();
        for write in writes {
            let id = &write.payment;
            truth.payments.insert(id.clone(), row(write));
            truth.keys.extend(write.keys.iter().map(|k| (k.key.clone(), k.clone())));
            for answer in &write.answers {
                if let Some(key) = truth.keys.get_mut(&answer.key) {
                    key.answer.get_or_insert((answer.status, answer.body.clone()));
                }
            }
            let names = write.references.iter().map(|r| (r.reference.clone(), id.clone()));
            truth.references.extend(names);
            truth.operations.extend(write.operations.iter().map(|op| (op.clone(), id.clone())));
            match &write.order {
                OrderChange::Claim { merchant_ref } => {
                    truth.orders.insert(merchant_ref.clone(), id.clone());
                }
                OrderChange::Release { merchant_ref } => {
                    truth.orders.remove(merchant_ref);
                }
                OrderChange::None | OrderChange::TakeOver { .. } => {}
            }
            truth.notices.extend(write.notices.iter().map(|n| (n.event_id.clone(), n.clone())));
            let messages = write.outbox.iter().map(|m| ((id.clone(), m.seq), m.clone()));
            truth.messages.extend(messages);
        }
        truth
    }

    fn listed(&self) -> Vec<PaymentRow> {
        let mut rows: Vec<PaymentRow> = self.payments.values().cloned().collect();
        rows.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
        rows
    }

    fn due(&self) -> Vec<Due> {
        let due =
            |row: &PaymentRow| Some(Due { payment: row.id.clone(), due_at_ms: row.due_at_ms? });
        self.payments.values().filter_map(due).collect()
    }
}

/// What a payment has to tell is there until it was delivered.
fn messages(found: &Tables, truth: &Truth, log: &Log, heard: &Heard) -> Result<(), String> {
    let delivered = |works: &BTreeSet<usize>| -> BTreeSet<(String, u64)> {
        let place = |work: &usize| match &log.works[*work] {
            Work::Delivered { payment, seq } => Some((payment.clone(), *seq)),
            _ => None,
        };
        works.iter().filter_map(place).collect()
    };
    let (gone, perhaps_gone) = (delivered(&heard.acknowledged), delivered(&heard.begun));
    for (place, message) in &found.messages {
        if gone.contains(place) {
            return Err(format!("a delivered message is back: {place:?}"));
        }
        same("a message", &Some(message), &truth.messages.get(place))?;
    }
    let is_lost = |place: &&(String, u64)| {
        !found.messages.contains_key(*place) && !perhaps_gone.contains(*place)
    };
    match truth.messages.keys().find(is_lost) {
        Some(place) => Err(format!("a message is gone: {place:?}")),
        None => Ok(()),
    }
}

/// Notices, those of strangers too, and the node's clock.
fn loose_ends(found: &Tables, truth: &Truth, log: &Log, heard: &Heard) -> Result<(), String> {
    let clock = u64::from_be_bytes(found.clock.unwrap_or_default());
    let latest = |works: &BTreeSet<usize>| {
        let value = |work: &usize| match log.works[*work] {
            Work::Setting(value) => value,
            _ => 0,
        };
        works.iter().map(value).max().unwrap_or(0)
    };
    let (least, most) = (latest(&heard.acknowledged), latest(&heard.begun));
    if clock < least || clock > most {
        return Err(format!("the clock stands at {clock}, not in {least}..={most}"));
    }
    let mut notices = truth.notices.clone();
    for work in &heard.begun {
        let Work::Notice(notice) = &log.works[*work] else { continue };
        if found.notices.contains_key(&notice.event_id) || heard.acknowledged.contains(work) {
            notices.insert(notice.event_id.clone(), notice.clone());
        }
    }
    same("notices", &found.notices, &notices)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let short = |value: &T| format!("{value:?}").chars().take(300).collect::<String>();
    Err(format!("{what}: found {}, expected {}", short(found), short(expected)))
}

fn row(write: &Write) -> PaymentRow {
    let w = write.clone();
    PaymentRow {
        id: w.payment,
        merchant: w.merchant,
        ver: w.next,
        due_at_ms: w.due_at_ms,
        created_ms: w.created_ms,
        status: w.status,
        in_doubt: w.in_doubt,
        account: w.account,
        amount: w.amount,
        currency: w.currency,
        merchant_ref: w.merchant_ref,
        body: w.body,
    }
}
