//! Differences between our books and a provider's: one row each, changed by comparison.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::apply::{Fault, perhaps, put as put_row, signed, text};
use super::reader::{MOST_LISTED, ReadFault, clamped, unsigned, whole};
use crate::store::{CaseQuery, CaseRow, Cases};

const COLUMNS: &str = "id, ver, account, date, kind, is_open, payment, opened_ms, changed_ms, \
                       body, sum, row";

/// Writes the version that the row names; false when the one before is not there.
pub(super) fn put(conn: &Connection, case: &CaseRow) -> Result<bool, Fault> {
    let before: Option<i64> = conn
        .prepare_cached("SELECT ver FROM case_file WHERE id = ?1")?
        .query_row([&case.id], |row| row.get(0))
        .optional()?;
    let expected = signed(case.ver)?.checked_sub(1).filter(|ver| *ver > 0);
    if before != expected {
        return Ok(false);
    }
    put_row(
        conn,
        "INSERT INTO case_file(id, ver, account, date, kind, is_open, payment, opened_ms,
                               changed_ms, body, sum)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT(id) DO UPDATE SET ver = excluded.ver, account = excluded.account,
             date = excluded.date, kind = excluded.kind, is_open = excluded.is_open,
             payment = excluded.payment, opened_ms = excluded.opened_ms,
             changed_ms = excluded.changed_ms, body = excluded.body, sum = excluded.sum",
        &[
            text(&case.id),
            ValueRef::Integer(signed(case.ver)?),
            text(&case.account),
            text(&case.date),
            text(&case.kind),
            ValueRef::Integer(case.open.into()),
            perhaps(case.payment.as_deref()),
            ValueRef::Integer(case.opened_ms),
            ValueRef::Integer(case.changed_ms),
            ValueRef::Blob(&case.body),
        ],
    )?;
    Ok(true)
}

/// A case by its id.
pub(super) fn by_id(conn: &Connection, id: &str) -> Result<Option<CaseRow>, ReadFault> {
    let mut find =
        conn.prepare_cached(&format!("SELECT {COLUMNS} FROM case_file WHERE id = ?1"))?;
    let mut rows = find.query([id])?;
    match rows.next()? {
        Some(row) => Ok(Some(case_row(row)?)),
        None => Ok(None),
    }
}

/// A page, in the order in which they were opened.
pub(super) fn list(conn: &Connection, query: &CaseQuery) -> Result<Cases, ReadFault> {
    let limit = query.limit.min(MOST_LISTED);
    let (mut filter, mut values) = (String::from("row > ?"), vec![Value::Integer(0)]);
    values[0] = Value::Integer(clamped(query.after));
    for (column, value) in [("account", &query.account), ("date", &query.date)] {
        if let Some(value) = value {
            filter += &format!(" AND {column} = ?");
            values.push(Value::Text(value.clone()));
        }
    }
    if let Some(open) = query.open {
        // Written out, so that the index of those that are open serves.
        filter += if open { " AND is_open = 1" } else { " AND is_open = 0" };
    }
    values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)));
    let mut find = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM case_file WHERE {filter} ORDER BY row LIMIT ?"
    ))?;
    let mut rows = find.query(params_from_iter(values))?;
    let mut cases = Cases::default();
    let mut last = query.after;
    while let Some(row) = rows.next()? {
        if cases.rows.len() + cases.damaged.len() == limit {
            cases.next = Some(last);
            break;
        }
        last = unsigned(row, 11)?;
        match case_row(row) {
            Ok(case) => cases.rows.push(case),
            Err(ReadFault::Damaged { id, .. }) => cases.damaged.push(id),
            Err(fault) => return Err(fault),
        }
    }
    Ok(cases)
}

fn case_row(row: &Row<'_>) -> Result<CaseRow, ReadFault> {
    let id: String = row.get(0)?;
    whole(row, 0..10, 10, "case_file", &id)?;
    Ok(CaseRow {
        id,
        ver: unsigned(row, 1)?,
        account: row.get(2)?,
        date: row.get(3)?,
        kind: row.get(4)?,
        open: row.get(5)?,
        payment: row.get(6)?,
        opened_ms: row.get(7)?,
        changed_ms: row.get(8)?,
        body: row.get(9)?,
    })
}
