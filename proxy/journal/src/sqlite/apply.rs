//! One write, statement by statement, inside the transaction that somebody else opened.
//!
//! Every table answers its own question by the number of rows it changed, so that a write is
//! judged and made in one pass. A refusal half-way leaves rows behind; the caller undoes them with
//! the savepoint that it set.

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::schema::checksum;
use crate::store::{Committed, EventRow, KeyRow, NoticeRow, OrderChange, OutboxRow, Write};

/// Why a statement did not work, by what must happen next.
#[derive(Debug)]
pub(super) enum Fault {
    /// This write cannot be stored; the others of its batch can.
    Unfit(String),
    /// The disk is full.
    Full,
    /// Another process holds the database.
    Busy,
    /// The handle is not to be trusted any more.
    Broken(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy,
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Fault::Unfit(error.to_string())
            }
            Some(_) => Fault::Broken(error.to_string()),
            // Not the database's word: a value that could not be bound or read.
            None => Fault::Unfit(error.to_string()),
        }
    }
}

/// Applies the write; anything but `Done` must be undone by the caller.
pub(super) fn write(conn: &Connection, write: &Write) -> Result<Committed, Fault> {
    for key in &write.keys {
        if let Some(taken) = take_key(conn, key)? {
            return Ok(Committed::KeyTaken(taken));
        }
    }
    for notice in &write.notices {
        if !put_notice(conn, notice)? {
            return Ok(Committed::NoticeSeen);
        }
    }
    let row = match put_payment(conn, write)? {
        Placed::At(row) => row,
        Placed::Nowhere { ver } => return Ok(Committed::Conflict { ver }),
    };
    if let Some(holder) = change_order(conn, write)? {
        return Ok(Committed::OrderTaken(holder));
    }
    if let Some(owner) = put_references(conn, write)? {
        return Ok(Committed::ReferenceTaken(owner));
    }
    put_answers(conn, write)?;
    put_events(conn, row, &write.events)?;
    put_messages(conn, row, &write.outbox)?;
    Ok(Committed::Done)
}

/// Keeps a notice that no payment took in; false if it is there.
pub(super) fn keep_notice(conn: &Connection, notice: &NoticeRow) -> Result<bool, Fault> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO notice(account, event_id, payment, digest, at_ms, applied)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    let n = notice;
    let changed =
        insert.execute(params![n.account, n.event_id, n.payment, n.digest, n.at_ms, n.applied])?;
    Ok(changed == 1)
}

/// Sets a named value.
pub(super) fn put_setting(conn: &Connection, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO setting(name, bytes) VALUES(?1, ?2)
         ON CONFLICT DO UPDATE SET bytes = excluded.bytes",
    )?
    .execute(params![name, bytes])?;
    Ok(())
}

/// Forgets a delivered message.
pub(super) fn drop_message(conn: &Connection, payment: &str, seq: u64) -> Result<(), Fault> {
    conn.prepare_cached(
        "DELETE FROM outbox
         WHERE payment = (SELECT row FROM payment WHERE id = ?1) AND seq = ?2",
    )?
    .execute(params![payment, signed(seq)?])?;
    Ok(())
}

/// The row that holds the key, if it was taken before.
fn take_key(conn: &Connection, key: &KeyRow) -> Result<Option<KeyRow>, Fault> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO idempotency(merchant, path, key, fingerprint, fingerprint_key, payment,
                                 operation, answer_status, answer_body)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
    )?;
    let (status, body) = match &key.answer {
        Some((status, body)) => (Some(*status), Some(body)),
        None => (None, None),
    };
    let changed = insert.execute(params![
        key.merchant,
        key.path,
        key.key,
        key.fingerprint,
        key.fingerprint_key,
        key.payment,
        key.operation,
        status,
        body,
    ])?;
    if changed == 1 {
        return Ok(None);
    }
    let taken = super::reader::key(conn, &key.merchant, &key.path, &key.key)?;
    taken.map(Some).ok_or_else(|| Fault::Broken("a key was taken and is not there".into()))
}

/// False if the notice was stored before. A row that was only kept gives way to one that is
/// applied: else the redelivery that a kept notice waits for would be taken for a duplicate.
fn put_notice(conn: &Connection, notice: &NoticeRow) -> Result<bool, Fault> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO notice(account, event_id, payment, digest, at_ms, applied)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(account, event_id) DO UPDATE
         SET payment = excluded.payment, digest = excluded.digest, at_ms = excluded.at_ms,
             applied = 1
         WHERE notice.applied = 0 AND excluded.applied = 1",
    )?;
    let n = notice;
    let changed =
        insert.execute(params![n.account, n.event_id, n.payment, n.digest, n.at_ms, n.applied])?;
    Ok(changed == 1)
}

/// Where a payment's new version is.
enum Placed {
    /// In this row.
    At(i64),
    /// Another version is there, or none.
    Nowhere { ver: Option<u64> },
}

/// The comparison that safety rests on.
fn put_payment(conn: &Connection, write: &Write) -> Result<Placed, Fault> {
    let w = write;
    let sum = checksum(&w.payment, w.next, w.due_at_ms, &w.body);
    let row: Option<i64> = if w.expect == 0 {
        conn.prepare_cached(
            "INSERT INTO payment(id, ver, merchant, due_at_ms, created_ms, status, in_doubt,
                                 account, amount, currency, merchant_ref, sum, body)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT DO NOTHING RETURNING row",
        )?
        .query_row(
            params![
                w.payment,
                signed(w.next)?,
                w.merchant,
                w.due_at_ms,
                w.created_ms,
                w.status,
                w.in_doubt,
                w.account,
                w.amount,
                w.currency,
                w.merchant_ref,
                sum,
                w.body,
            ],
            |row| row.get(0),
        )
        .optional()?
    } else {
        conn.prepare_cached(
            "UPDATE payment SET ver = ?3, due_at_ms = ?4, status = ?5, in_doubt = ?6,
                    account = ?7, amount = ?8, currency = ?9, merchant_ref = ?10, sum = ?11,
                    body = ?12
             WHERE id = ?1 AND ver = ?2 RETURNING row",
        )?
        .query_row(
            params![
                w.payment,
                signed(w.expect)?,
                signed(w.next)?,
                w.due_at_ms,
                w.status,
                w.in_doubt,
                w.account,
                w.amount,
                w.currency,
                w.merchant_ref,
                sum,
                w.body,
            ],
            |row| row.get(0),
        )
        .optional()?
    };
    if let Some(row) = row {
        return Ok(Placed::At(row));
    }
    let ver: Option<i64> = conn
        .prepare_cached("SELECT ver FROM payment WHERE id = ?1")?
        .query_row([&w.payment], |row| row.get(0))
        .optional()?;
    Ok(Placed::Nowhere { ver: ver.map(i64::cast_unsigned) })
}

/// The other payment that holds the order, if one does.
fn change_order(conn: &Connection, write: &Write) -> Result<Option<String>, Fault> {
    match &write.order {
        OrderChange::None => Ok(None),
        OrderChange::Claim { merchant_ref } => {
            let changed = conn
                .prepare_cached(
                    "INSERT INTO live_order(merchant, merchant_ref, payment) VALUES(?1, ?2, ?3)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![write.merchant, merchant_ref, write.payment])?;
            if changed == 1 {
                return Ok(None);
            }
            let holder = super::reader::order(conn, &write.merchant, merchant_ref)?;
            Ok(holder.filter(|holder| *holder != write.payment))
        }
        OrderChange::TakeOver { merchant_ref, from } => {
            let changed = conn
                .prepare_cached(
                    "UPDATE live_order SET payment = ?3
                     WHERE merchant = ?1 AND merchant_ref = ?2 AND payment = ?4",
                )?
                .execute(params![write.merchant, merchant_ref, write.payment, from])?;
            if changed == 1 {
                return Ok(None);
            }
            let holder = super::reader::order(conn, &write.merchant, merchant_ref)?;
            Ok(holder.filter(|holder| *holder != write.payment).or(Some(from.clone())))
        }
        OrderChange::Release { merchant_ref } => {
            conn.prepare_cached(
                "DELETE FROM live_order
                 WHERE merchant = ?1 AND merchant_ref = ?2 AND payment = ?3",
            )?
            .execute(params![write.merchant, merchant_ref, write.payment])?;
            Ok(None)
        }
    }
}

/// The other payment that owns one of the references or operations, if one does.
fn put_references(conn: &Connection, write: &Write) -> Result<Option<String>, Fault> {
    for r in &write.references {
        let changed = conn
            .prepare_cached(
                "INSERT INTO reference(account, reference, payment) VALUES(?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![r.account, r.reference, r.payment])?;
        if changed == 0 {
            let owner = super::reader::reference(conn, &r.account, &r.reference)?;
            if let Some(other) = owner.filter(|owner| *owner != r.payment) {
                return Ok(Some(other));
            }
        }
    }
    for id in &write.operations {
        let changed = conn
            .prepare_cached(
                "INSERT INTO operation(id, payment) VALUES(?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![id, write.payment])?;
        if changed == 0 {
            let owner = super::reader::operation(conn, id)?;
            if let Some(other) = owner.filter(|owner| *owner != write.payment) {
                return Ok(Some(other));
            }
        }
    }
    Ok(None)
}

fn put_answers(conn: &Connection, write: &Write) -> Result<(), Fault> {
    for answer in &write.answers {
        conn.prepare_cached(
            "UPDATE idempotency SET answer_status = ?4, answer_body = ?5
             WHERE merchant = ?1 AND path = ?2 AND key = ?3 AND answer_status IS NULL",
        )?
        .execute(params![
            answer.merchant,
            answer.path,
            answer.key,
            answer.status,
            answer.body
        ])?;
    }
    Ok(())
}

fn put_events(conn: &Connection, row: i64, events: &[EventRow]) -> Result<(), Fault> {
    for event in events {
        conn.prepare_cached(
            "INSERT INTO event(payment, seq, at_ms, actor, what, reason, detail)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row,
            signed(event.seq)?,
            event.at_ms,
            event.actor,
            event.what,
            event.reason,
            event.detail,
        ])?;
    }
    Ok(())
}

fn put_messages(conn: &Connection, row: i64, outbox: &[OutboxRow]) -> Result<(), Fault> {
    for message in outbox {
        conn.prepare_cached(
            "INSERT INTO outbox(payment, seq, at_ms, kind, body) VALUES(?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            row,
            signed(message.seq)?,
            message.at_ms,
            message.kind,
            message.body
        ])?;
    }
    Ok(())
}

fn signed(number: u64) -> Result<i64, Fault> {
    i64::try_from(number).map_err(|_| Fault::Unfit(format!("a number is too large: {number}")))
}
