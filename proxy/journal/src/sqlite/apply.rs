//! One write, statement by statement, inside the transaction that somebody else opened.
//!
//! Every table answers its own question by the number of rows it changed, so that a write is
//! judged and made in one pass. A refusal half-way leaves rows behind, which the caller undoes.
//! No statement says RETURNING: SQLite would copy every page before it is changed.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params, params_from_iter};

use super::messages;
use super::reader::ReadFault;
use super::schema::checksum;
use crate::store::{Committed, EventRow, KeyRow, NoticeRow, OrderChange, Write};

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

impl From<ReadFault> for Fault {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Sqlite(error) => error.into(),
            // The others of its batch know nothing of this row.
            ReadFault::Damaged { table, id } => {
                Fault::Unfit(format!("a row of {table} is not what was written: {id}"))
            }
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
    messages::put(conn, row, &write.merchant, &write.outbox)?;
    Ok(Committed::Done)
}

/// Keeps a notice that no payment took in; false if it is there.
pub(super) fn keep_notice(conn: &Connection, notice: &NoticeRow) -> Result<bool, Fault> {
    let changed = put(
        conn,
        "INSERT INTO notice(account, event_id, payment, digest, at_ms, applied, sum)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        &notice_cells(notice),
    )?;
    Ok(changed == 1)
}

/// Sets a named value.
pub(super) fn put_setting(conn: &Connection, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    put(
        conn,
        "INSERT INTO setting(name, bytes, sum) VALUES(?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET bytes = excluded.bytes, sum = excluded.sum",
        &[text(name), ValueRef::Blob(bytes)],
    )?;
    Ok(())
}

/// The row that holds the key, if it was taken before.
fn take_key(conn: &Connection, key: &KeyRow) -> Result<Option<KeyRow>, Fault> {
    let changed = put(
        conn,
        "INSERT INTO idempotency(merchant, path, key, fingerprint, fingerprint_key, payment,
                                 operation, sum)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        &[
            text(&key.merchant),
            text(&key.path),
            text(&key.key),
            ValueRef::Blob(&key.fingerprint),
            text(&key.fingerprint_key),
            text(&key.payment),
            perhaps(key.operation.as_deref()),
        ],
    )?;
    if changed == 1 {
        if let Some((status, body)) = &key.answer {
            put_answer(conn, [&key.merchant, &key.path, &key.key], *status, body)?;
        }
        return Ok(None);
    }
    let taken = super::reader::key(conn, &key.merchant, &key.path, &key.key)?;
    taken.map(Some).ok_or_else(|| Fault::Broken("a key was taken and is not there".into()))
}

/// False if the notice was stored before. A row that was only kept gives way to one that is
/// applied: else the redelivery that a kept notice waits for would be taken for a duplicate.
fn put_notice(conn: &Connection, notice: &NoticeRow) -> Result<bool, Fault> {
    let changed = put(
        conn,
        "INSERT INTO notice(account, event_id, payment, digest, at_ms, applied, sum)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(account, event_id) DO UPDATE
         SET payment = excluded.payment, digest = excluded.digest, at_ms = excluded.at_ms,
             applied = 1, sum = excluded.sum
         WHERE notice.applied = 0 AND excluded.applied = 1",
        &notice_cells(notice),
    )?;
    Ok(changed == 1)
}

fn notice_cells(notice: &NoticeRow) -> [ValueRef<'_>; 6] {
    [
        text(&notice.account),
        text(&notice.event_id),
        perhaps(notice.payment.as_deref()),
        ValueRef::Blob(&notice.digest),
        ValueRef::Integer(notice.at_ms),
        ValueRef::Integer(notice.applied.into()),
    ]
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
    let cells = payment_cells(w, text(&w.merchant), w.created_ms)?;
    let sum = checksum(cells);
    let placed = if w.expect == 0 {
        let all = cells.into_iter().chain([ValueRef::Blob(&sum)]).map(ToSqlOutput::Borrowed);
        let made = conn
            .prepare_cached(
                "INSERT INTO payment(id, ver, merchant, due_at_ms, created_ms, status, in_doubt,
                                     account, amount, currency, merchant_ref, body, sum)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params_from_iter(all))?;
        (made == 1).then(|| conn.last_insert_rowid())
    } else {
        next_version(conn, w, sum)?
    };
    if let Some(row) = placed {
        return Ok(Placed::At(row));
    }
    let ver: Option<i64> = conn
        .prepare_cached("SELECT ver FROM payment WHERE id = ?1")?
        .query_row([&w.payment], |row| row.get(0))
        .optional()?;
    Ok(Placed::Nowhere { ver: ver.map(i64::cast_unsigned) })
}

/// The row of the version that was made, if the one before was there. Between the look and the
/// change nobody writes: the transaction is the only one that may.
fn next_version(conn: &Connection, w: &Write, sum: [u8; 8]) -> Result<Option<i64>, Fault> {
    let mut find = conn.prepare_cached(
        "SELECT row, merchant, created_ms, merchant_ref FROM payment WHERE id = ?1 AND ver = ?2",
    )?;
    let mut rows = find.query(params![w.payment, signed(w.expect)?])?;
    let Some(found) = rows.next()? else { return Ok(None) };
    let row: i64 = found.get(0)?;
    let created_ms = found.get(2)?;
    // The first write fixed merchant and time, and the sum is that of what is there.
    let sum = match found.get_ref(1)? {
        merchant if (merchant, created_ms) == (text(&w.merchant), w.created_ms) => sum,
        merchant => checksum(payment_cells(w, merchant, created_ms)?),
    };
    // An index is written whenever its column is set, to the same value too.
    let other_order = found.get_ref(3)? != perhaps(w.merchant_ref.as_deref());
    drop(rows);
    let changed = conn
        .prepare_cached(
            "UPDATE payment SET ver = ?2, due_at_ms = ?3, status = ?4, in_doubt = ?5,
                    account = ?6, amount = ?7, currency = ?8, sum = ?9, body = ?10
             WHERE row = ?1",
        )?
        .execute(params![
            row,
            signed(w.next)?,
            w.due_at_ms,
            w.status,
            w.in_doubt,
            w.account,
            w.amount,
            w.currency,
            sum,
            w.body,
        ])?;
    if other_order {
        conn.prepare_cached("UPDATE payment SET merchant_ref = ?2 WHERE row = ?1")?
            .execute(params![row, w.merchant_ref])?;
    }
    Ok((changed == 1).then_some(row))
}

fn payment_cells<'a>(
    w: &'a Write,
    merchant: ValueRef<'a>,
    created_ms: i64,
) -> Result<[ValueRef<'a>; 12], Fault> {
    Ok([
        text(&w.payment),
        ValueRef::Integer(signed(w.next)?),
        merchant,
        w.due_at_ms.map_or(ValueRef::Null, ValueRef::Integer),
        ValueRef::Integer(created_ms),
        text(&w.status),
        ValueRef::Integer(w.in_doubt.into()),
        perhaps(w.account.as_deref()),
        ValueRef::Integer(w.amount),
        text(&w.currency),
        perhaps(w.merchant_ref.as_deref()),
        ValueRef::Blob(&w.body),
    ])
}

/// The other payment that holds the order, if one does.
fn change_order(conn: &Connection, write: &Write) -> Result<Option<String>, Fault> {
    let cells = |name| [text(&write.merchant), name, text(&write.payment)];
    match &write.order {
        OrderChange::None => Ok(None),
        OrderChange::Claim { merchant_ref } => {
            let changed = put(
                conn,
                "INSERT INTO live_order(merchant, merchant_ref, payment, sum)
                 VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                &cells(text(merchant_ref)),
            )?;
            if changed == 1 {
                return Ok(None);
            }
            let holder = super::reader::order(conn, &write.merchant, merchant_ref)?;
            Ok(holder.filter(|holder| *holder != write.payment))
        }
        OrderChange::TakeOver { merchant_ref, from } => {
            let sum = checksum(cells(text(merchant_ref)));
            let changed = conn
                .prepare_cached(
                    "UPDATE live_order SET payment = ?3, sum = ?5
                     WHERE merchant = ?1 AND merchant_ref = ?2 AND payment = ?4",
                )?
                .execute(params![write.merchant, merchant_ref, write.payment, from, sum])?;
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
        let changed = put(
            conn,
            "INSERT INTO reference(account, reference, payment, sum) VALUES(?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            &[text(&r.account), text(&r.reference), text(&r.payment)],
        )?;
        if changed == 0 {
            let owner = super::reader::reference(conn, &r.account, &r.reference)?;
            if let Some(other) = owner.filter(|owner| *owner != r.payment) {
                return Ok(Some(other));
            }
        }
    }
    for id in &write.operations {
        let changed = put(
            conn,
            "INSERT INTO operation(id, payment, sum) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING",
            &[text(id), text(&write.payment)],
        )?;
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
        let name = [&answer.merchant, &answer.path, &answer.key];
        put_answer(conn, name, answer.status, &answer.body)?;
    }
    Ok(())
}

/// The first answer of a key is kept.
fn put_answer(
    conn: &Connection,
    name: [&String; 3],
    status: u16,
    body: &[u8],
) -> Result<(), Fault> {
    put(
        conn,
        "UPDATE idempotency SET answer_status = ?4, answer_body = ?5, answer_sum = ?6
         WHERE merchant = ?1 AND path = ?2 AND key = ?3 AND answer_status IS NULL",
        &[
            text(name[0]),
            text(name[1]),
            text(name[2]),
            ValueRef::Integer(status.into()),
            ValueRef::Blob(body),
        ],
    )?;
    Ok(())
}

fn put_events(conn: &Connection, row: i64, events: &[EventRow]) -> Result<(), Fault> {
    for event in events {
        put(
            conn,
            "INSERT INTO event(payment, seq, at_ms, actor, what, reason, detail, sum)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            &[
                ValueRef::Integer(row),
                ValueRef::Integer(signed(event.seq)?),
                ValueRef::Integer(event.at_ms),
                text(&event.actor),
                text(&event.what),
                perhaps(event.reason.as_deref()),
                perhaps(event.detail.as_deref()),
            ],
        )?;
    }
    Ok(())
}

/// Runs a statement whose parameters are the cells and, last, their checksum; how many rows it
/// changed.
pub(super) fn put(conn: &Connection, sql: &str, cells: &[ValueRef<'_>]) -> Result<usize, Fault> {
    let sum = checksum(cells.iter().copied());
    let all = cells.iter().copied().chain([ValueRef::Blob(&sum)]).map(ToSqlOutput::Borrowed);
    Ok(conn.prepare_cached(sql)?.execute(params_from_iter(all))?)
}

pub(super) fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text.as_bytes())
}

pub(super) fn perhaps(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

pub(super) fn signed(number: u64) -> Result<i64, Fault> {
    i64::try_from(number).map_err(|_| Fault::Unfit(format!("a number is too large: {number}")))
}
