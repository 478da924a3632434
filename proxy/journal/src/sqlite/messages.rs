//! What merchants are told: messages that stay, and a narrow row for each that is not delivered.
//!
//! The due index holds only the first undelivered message of a payment, so that order is kept
//! without looking at the others, and a merchant who does not listen costs one index entry for a
//! payment.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::apply::{Fault, perhaps, put as put_row, signed, text};
use super::reader::{
    MOST_LISTED, MOST_ROWS, MOST_SCANNED, ReadFault, clamped, rows_of, unsigned, whole,
};
use crate::store::{Delivery, Message, MessageQuery, Messages, OutboxRow, Told};

/// Waits behind another message of its payment.
const BEHIND: i64 = 0;
/// The first that its payment has to tell.
const FIRST: i64 = 1;
/// Not tried any more.
const GIVEN_UP: i64 = 2;

/// A message and its delivery; a delivered one has no row in `outbox`.
const COLUMNS: &str = "message.row, payment.id, message.id, message.merchant, message.payment, \
                       message.seq, message.at_ms, message.kind, message.body, message.sum, \
                       outbox.payment, outbox.seq, outbox.merchant, outbox.state, \
                       outbox.due_at_ms, outbox.tries, outbox.reason, outbox.sum";

/// From the undelivered ones to the messages.
const UNDELIVERED: &str = "outbox CROSS JOIN message ON message.payment = outbox.payment \
                           AND message.seq = outbox.seq \
                           CROSS JOIN payment ON payment.row = message.payment";

/// From messages to their deliveries.
const ALL: &str = "message CROSS JOIN payment ON payment.row = message.payment \
                   LEFT JOIN outbox ON outbox.payment = message.payment \
                   AND outbox.seq = message.seq";

/// The row of an undelivered message.
struct Waiting {
    payment: i64,
    seq: i64,
    merchant: String,
    state: i64,
    due_at_ms: i64,
    tries: i64,
    reason: Option<String>,
}

/// Keeps new messages of the payment in this row.
pub(super) fn put(
    conn: &Connection,
    payment: i64,
    merchant: &str,
    messages: &[OutboxRow],
) -> Result<(), Fault> {
    for m in messages {
        let seq = signed(m.seq)?;
        put_row(
            conn,
            "INSERT INTO message(id, merchant, payment, seq, at_ms, kind, body, sum)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            &[
                text(&m.id),
                text(merchant),
                ValueRef::Integer(payment),
                ValueRef::Integer(seq),
                ValueRef::Integer(m.at_ms),
                text(&m.kind),
                ValueRef::Blob(&m.body),
            ],
        )?;
        let merchant = merchant.to_owned();
        let (state, due_at_ms) = (BEHIND, m.at_ms);
        wait(conn, &Waiting { payment, seq, merchant, state, due_at_ms, tries: 0, reason: None })?;
    }
    if messages.is_empty() {
        return Ok(());
    }
    match line_up(conn, payment) {
        // A damaged row of an older message must not keep the payment from being written.
        Err(Fault::Unfit(reason)) => {
            tracing::error!(reason, "messages of a payment are not in line");
            Ok(())
        }
        done => done,
    }
}

/// Records what became of telling a message.
pub(super) fn tell(conn: &Connection, id: &str, seq: u64, told: &Told) -> Result<(), Fault> {
    let seq = signed(seq)?;
    let found: Option<(i64, String)> = conn
        .prepare_cached(
            "SELECT payment.row, message.merchant FROM payment
             CROSS JOIN message ON message.payment = payment.row
             WHERE payment.id = ?1 AND message.seq = ?2",
        )?
        .query_row(params![id, seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((payment, merchant)) = found else { return Ok(()) };
    match told {
        Told::Delivered => {
            conn.prepare_cached("DELETE FROM outbox WHERE payment = ?1 AND seq = ?2")?
                .execute(params![payment, seq])?;
        }
        Told::Failed { again_at_ms, reason } => {
            let all = waiting(conn, payment)?;
            let Some(was) = all.into_iter().find(|w| w.seq == seq) else { return Ok(()) };
            let state = if again_at_ms.is_some() { BEHIND } else { GIVEN_UP };
            let due_at_ms = again_at_ms.unwrap_or(was.due_at_ms);
            let (tries, reason) = (was.tries.saturating_add(1), Some(reason.clone()));
            wait(conn, &Waiting { state, due_at_ms, tries, reason, ..was })?;
        }
        Told::Wanted { at_ms } => {
            let (state, due_at_ms, tries, reason) = (BEHIND, *at_ms, 0, None);
            wait(conn, &Waiting { payment, seq, merchant, state, due_at_ms, tries, reason })?;
        }
    }
    line_up(conn, payment)
}

/// What a payment still has to tell.
pub(super) fn of_payment(
    conn: &Connection,
    id: &str,
    limit: usize,
) -> Result<Vec<OutboxRow>, ReadFault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM payment CROSS JOIN outbox ON outbox.payment = payment.row
         CROSS JOIN message ON message.payment = outbox.payment AND message.seq = outbox.seq
         WHERE payment.id = ?1 AND outbox.state < 2 ORDER BY outbox.seq LIMIT ?2"
    );
    let values = [Value::Text(id.to_owned()), Value::Integer(rows_of(limit))];
    Ok(all(conn, &sql, values)?.into_iter().map(|message| message.row).collect())
}

/// What may be told to a merchant now.
pub(super) fn due(
    conn: &Connection,
    merchant: &str,
    before_ms: i64,
    limit: usize,
) -> Result<Vec<Message>, ReadFault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {UNDELIVERED}
         WHERE outbox.merchant = ?1 AND outbox.state = 1 AND outbox.due_at_ms < ?2
         ORDER BY outbox.due_at_ms, outbox.payment LIMIT ?3"
    );
    let (limit, most) = (limit.min(MOST_ROWS), MOST_SCANNED as i64);
    let mut find = conn.prepare_cached(&sql)?;
    let mut rows = find.query(params![merchant, before_ms, most])?;
    let mut due = Vec::new();
    while due.len() < limit
        && let Some(row) = rows.next()?
    {
        match message(row) {
            Ok(message) => due.push(message),
            Err(ReadFault::Damaged { table, id }) => {
                tracing::error!(table, id, "a message is not what was written: nobody is told");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(due)
}

/// When the next of those is due, at this time or later.
pub(super) fn next_due(
    conn: &Connection,
    merchant: &str,
    from_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(
        "SELECT min(due_at_ms) FROM outbox
         WHERE merchant = ?1 AND state = 1 AND due_at_ms >= ?2",
    )?
    .query_row(params![merchant, from_ms], |row| row.get(0))
}

/// One message.
pub(super) fn by_id(conn: &Connection, id: &str) -> Result<Option<Message>, ReadFault> {
    let sql = format!("SELECT {COLUMNS} FROM {ALL} WHERE message.id = ?1");
    Ok(all(conn, &sql, [Value::Text(id.to_owned())])?.pop())
}

/// Messages in the order of their commits.
pub(super) fn list(conn: &Connection, query: &MessageQuery) -> Result<Messages, ReadFault> {
    let from = if query.given_up.is_some() { UNDELIVERED } else { ALL };
    let mut filter = String::from("message.row > ?");
    let mut values = vec![Value::Integer(clamped(query.after))];
    if let Some(merchant) = &query.merchant {
        filter.push_str(" AND message.merchant = ?");
        values.push(Value::Text(merchant.clone()));
    }
    match query.given_up {
        Some(true) => filter.push_str(" AND outbox.state = 2"),
        Some(false) => filter.push_str(" AND outbox.state < 2"),
        None => {}
    }
    values.push(Value::Integer(rows_of(query.limit.min(MOST_LISTED))));
    let sql = format!("SELECT {COLUMNS} FROM {from} WHERE {filter} ORDER BY message.row LIMIT ?");
    let mut find = conn.prepare_cached(&sql)?;
    let mut rows = find.query(params_from_iter(values))?;
    let mut found = Messages::default();
    while let Some(row) = rows.next()? {
        match message(row) {
            Ok(message) => found.rows.push(message),
            Err(ReadFault::Damaged { .. }) => {
                // Its text may be what is damaged, so that it is none any more.
                let id = String::from_utf8_lossy(row.get_ref(2)?.as_bytes().unwrap_or_default());
                found.damaged.push((unsigned(row, 0)?, id.into_owned()));
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}

fn all(
    conn: &Connection,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<Message>, ReadFault> {
    let mut find = conn.prepare_cached(sql)?;
    let mut rows = find.query(params_from_iter(values))?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        messages.push(message(row)?);
    }
    Ok(messages)
}

fn message(row: &Row<'_>) -> Result<Message, ReadFault> {
    let payment: String = row.get(1)?;
    whole(row, 2..9, 9, "message", &payment)?;
    let delivery = if row.get_ref(10)? == ValueRef::Null {
        None
    } else {
        whole(row, 10..17, 17, "outbox", &payment)?;
        let state: i64 = row.get(13)?;
        Some(Delivery {
            due_at_ms: row.get(14)?,
            tries: row.get(15)?,
            is_first: state == FIRST,
            given_up: state == GIVEN_UP,
            reason: row.get(16)?,
        })
    };
    Ok(Message {
        position: unsigned(row, 0)?,
        merchant: row.get(3)?,
        row: OutboxRow {
            payment,
            seq: unsigned(row, 5)?,
            at_ms: row.get(6)?,
            id: row.get(2)?,
            kind: row.get(7)?,
            body: row.get(8)?,
        },
        delivery,
    })
}

/// Lets the first undelivered message of a payment stand in the due index, and no other.
fn line_up(conn: &Connection, payment: i64) -> Result<(), Fault> {
    let mut is_first = true;
    for was in waiting(conn, payment)? {
        if was.state == GIVEN_UP {
            continue;
        }
        let state = if is_first { FIRST } else { BEHIND };
        is_first = false;
        if state != was.state {
            wait(conn, &Waiting { state, ..was })?;
        }
    }
    Ok(())
}

fn waiting(conn: &Connection, payment: i64) -> Result<Vec<Waiting>, Fault> {
    let mut find = conn.prepare_cached(
        "SELECT payment, seq, merchant, state, due_at_ms, tries, reason, sum FROM outbox
         WHERE payment = ?1 ORDER BY seq",
    )?;
    let mut rows = find.query([payment])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        whole(row, 0..7, 7, "outbox", &payment.to_string())?;
        all.push(Waiting {
            payment: row.get(0)?,
            seq: row.get(1)?,
            merchant: row.get(2)?,
            state: row.get(3)?,
            due_at_ms: row.get(4)?,
            tries: row.get(5)?,
            reason: row.get(6)?,
        });
    }
    Ok(all)
}

fn wait(conn: &Connection, w: &Waiting) -> Result<(), Fault> {
    put_row(
        conn,
        "INSERT OR REPLACE INTO outbox(payment, seq, merchant, state, due_at_ms, tries, reason,
                                       sum)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            ValueRef::Integer(w.payment),
            ValueRef::Integer(w.seq),
            text(&w.merchant),
            ValueRef::Integer(w.state),
            ValueRef::Integer(w.due_at_ms),
            ValueRef::Integer(w.tries),
            perhaps(w.reason.as_deref()),
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{RealDisk, schema};

    #[test]
    fn what_is_due_is_found_in_the_index_and_sorted_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(dir.path(), true, 0, &RealDisk).unwrap();
        for sql in [
            format!(
                "SELECT {COLUMNS} FROM {UNDELIVERED} WHERE outbox.merchant = 'm'
                 AND outbox.state = 1 AND outbox.due_at_ms < 9
                 ORDER BY outbox.due_at_ms, outbox.payment LIMIT 9"
            ),
            "SELECT min(due_at_ms) FROM outbox
             WHERE merchant = 'm' AND state = 1 AND due_at_ms >= 9"
                .to_owned(),
        ] {
            let plan: Vec<String> = conn
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap()
                .query_map([], |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(plan[0].contains("INDEX outbox_due"), "{plan:?}");
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
        }
    }
}
