//! Questions to the database, asked on a few connections that can only read.
//!
//! A read blocks on the disk, so it runs on the runtime's blocking threads; the number of
//! connections bounds how many. The same functions serve the writer, which must see its own
//! transaction.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, Row, ToSql, params, params_from_iter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::schema::{is_whole, open_reader};
use crate::store::{
    Cursor, Due, EventRow, KeyRow, ListQuery, NoticeRow, Page, PaymentRow, Stats, StoreError,
};

/// Rows of one answer, whatever was asked for.
pub(super) const MOST_ROWS: usize = 10_000;
/// Payments on one page of a list.
pub(super) const MOST_LISTED: usize = 500;
/// Rows looked at for one page: a filter that matches little must not read the whole table.
pub(super) const MOST_SCANNED: usize = 20_000;

/// Why a read gave nothing.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// SQLite's own word.
    Sqlite(rusqlite::Error),
    /// A row that does not match its checksum.
    Damaged {
        /// Where.
        table: &'static str,
        /// Which.
        id: String,
    },
}

impl From<rusqlite::Error> for ReadFault {
    fn from(error: rusqlite::Error) -> Self {
        ReadFault::Sqlite(error)
    }
}

/// A bounded set of read connections.
pub(super) struct Readers {
    dir: PathBuf,
    count: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(dir: &Path, count: u32) -> Self {
        let count = count.max(1);
        Self {
            dir: dir.to_path_buf(),
            count,
            permits: Arc::new(Semaphore::new(count as usize)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Runs one question on a connection of its own.
    pub(super) async fn ask<T, F>(self: &Arc<Self>, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, ReadFault> + Send + 'static,
    {
        let closed = |_| StoreError::Busy;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let readers = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || readers.run(permit, question)).await;
        answer.unwrap_or_else(|error| Err(StoreError::Failed { reason: error.to_string() }))
    }

    /// Takes every connection out of use and closes it; none is opened while the answer is held.
    /// None when a reader did not come back in time.
    pub(super) fn close(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let start = Instant::now();
        loop {
            if let Ok(all) = Arc::clone(&self.permits).try_acquire_many_owned(self.count) {
                self.idle().clear();
                return Some(all);
            }
            if start.elapsed() > patience {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// No read begins any more, not even one that already waits for its turn.
    pub(super) fn shut(&self) {
        self.permits.close();
    }

    fn run<T, F>(&self, permit: OwnedSemaphorePermit, question: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, ReadFault>,
    {
        let idle = self.idle().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => open_reader(&self.dir).map_err(|error| explain(&error))?,
        };
        let answer = question(&conn);
        match &answer {
            // A handle that saw the disk fail may hold pages that are not there.
            Err(ReadFault::Sqlite(_)) => drop(conn),
            _ => self.idle().push(conn),
        }
        drop(permit);
        answer.map_err(|fault| match fault {
            ReadFault::Sqlite(error) => explain(&error),
            ReadFault::Damaged { table, id } => {
                tracing::error!(table, id, "a row is not what was written");
                StoreError::Corrupt { table, id }
            }
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explain(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            tracing::error!(%error, "the journal's file is damaged");
            StoreError::Corrupt { table: "database", id: error.to_string() }
        }
        _ => StoreError::Failed { reason: error.to_string() },
    }
}

const PAYMENT: &str = "SELECT id, ver, merchant, due_at_ms, created_ms, status, in_doubt, \
                       account, amount, currency, merchant_ref, body, sum FROM payment";

pub(super) fn payment(conn: &Connection, id: &str) -> Result<Option<PaymentRow>, ReadFault> {
    let mut find = conn.prepare_cached(&format!("{PAYMENT} WHERE id = ?1"))?;
    let mut rows = find.query([id])?;
    match rows.next()? {
        Some(row) => Ok(Some(payment_row(row)?)),
        None => Ok(None),
    }
}

pub(super) fn key(
    conn: &Connection,
    merchant: &str,
    path: &str,
    key: &str,
) -> Result<Option<KeyRow>, ReadFault> {
    let mut find = conn.prepare_cached(
        "SELECT merchant, path, key, fingerprint, fingerprint_key, payment, operation, sum,
                merchant, path, key, answer_status, answer_body, answer_sum
         FROM idempotency WHERE merchant = ?1 AND path = ?2 AND key = ?3",
    )?;
    let mut rows = find.query([merchant, path, key])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    whole(row, 0..7, 7, "idempotency", key)?;
    let is_answered = (11..14).try_fold(false, |any, at| {
        Ok::<_, rusqlite::Error>(any || row.get_ref(at)? != ValueRef::Null)
    })?;
    let answer = if is_answered {
        whole(row, 8..13, 13, "idempotency", key)?;
        Some((row.get(11)?, row.get(12)?))
    } else {
        None
    };
    Ok(Some(KeyRow {
        merchant: row.get(0)?,
        path: row.get(1)?,
        key: row.get(2)?,
        fingerprint: row.get(3)?,
        fingerprint_key: row.get(4)?,
        payment: row.get(5)?,
        operation: row.get(6)?,
        answer,
    }))
}

pub(super) fn reference(
    conn: &Connection,
    account: &str,
    reference: &str,
) -> Result<Option<String>, ReadFault> {
    let sql = "SELECT account, reference, payment, sum FROM reference
               WHERE account = ?1 AND reference = ?2";
    owner(conn, sql, &[&account, &reference], "reference", reference)
}

pub(super) fn operation(conn: &Connection, id: &str) -> Result<Option<String>, ReadFault> {
    owner(conn, "SELECT id, payment, sum FROM operation WHERE id = ?1", &[&id], "operation", id)
}

pub(super) fn order(
    conn: &Connection,
    merchant: &str,
    merchant_ref: &str,
) -> Result<Option<String>, ReadFault> {
    let sql = "SELECT merchant, merchant_ref, payment, sum FROM live_order
               WHERE merchant = ?1 AND merchant_ref = ?2";
    owner(conn, sql, &[&merchant, &merchant_ref], "live_order", merchant_ref)
}

pub(super) fn notice(
    conn: &Connection,
    account: &str,
    event_id: &str,
) -> Result<Option<NoticeRow>, ReadFault> {
    let mut find = conn.prepare_cached(
        "SELECT account, event_id, payment, digest, at_ms, applied, sum
         FROM notice WHERE account = ?1 AND event_id = ?2",
    )?;
    let mut rows = find.query([account, event_id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    whole(row, 0..6, 6, "notice", event_id)?;
    Ok(Some(NoticeRow {
        account: row.get(0)?,
        event_id: row.get(1)?,
        payment: row.get(2)?,
        digest: row.get(3)?,
        at_ms: row.get(4)?,
        applied: row.get(5)?,
    }))
}

pub(super) fn due(conn: &Connection, before_ms: i64, limit: usize) -> rusqlite::Result<Vec<Due>> {
    conn.prepare_cached(
        "SELECT id, due_at_ms FROM payment
         WHERE due_at_ms IS NOT NULL AND due_at_ms < ?1 ORDER BY due_at_ms, row LIMIT ?2",
    )?
    .query_map(params![before_ms, rows_of(limit)], |row| {
        Ok(Due { payment: row.get(0)?, due_at_ms: row.get(1)? })
    })?
    .collect()
}

pub(super) fn open(
    conn: &Connection,
    after: Option<Due>,
    limit: usize,
) -> rusqlite::Result<Vec<Due>> {
    let after = after.unwrap_or(Due { payment: String::new(), due_at_ms: i64::MIN });
    conn.prepare_cached(
        "SELECT id, due_at_ms FROM payment
         WHERE due_at_ms IS NOT NULL AND due_at_ms >= ?1 AND (due_at_ms > ?1 OR id > ?2)
         ORDER BY due_at_ms, id LIMIT ?3",
    )?
    .query_map(params![after.due_at_ms, after.payment, rows_of(limit)], |row| {
        Ok(Due { payment: row.get(0)?, due_at_ms: row.get(1)? })
    })?
    .collect()
}

pub(super) fn next_due(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT min(due_at_ms) FROM payment WHERE due_at_ms IS NOT NULL")?
        .query_row([], |row| row.get(0))
}

const EVENT: &str = "SELECT event.row, payment.id, event.payment, seq, at_ms, actor, what, \
                     reason, detail, event.sum FROM";

pub(super) fn timeline(
    conn: &Connection,
    payment: &str,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<EventRow>, ReadFault> {
    let mut find = conn.prepare_cached(&format!(
        "{EVENT} payment CROSS JOIN event ON event.payment = payment.row
         WHERE payment.id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    ))?;
    let mut rows = find.query(params![payment, clamped(after_seq), rows_of(limit)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event_row(row)?.1);
    }
    Ok(events)
}

pub(super) fn events(
    conn: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, EventRow)>, ReadFault> {
    let mut find = conn.prepare_cached(&format!(
        "{EVENT} event CROSS JOIN payment ON event.payment = payment.row
         WHERE event.row > ?1 ORDER BY event.row LIMIT ?2"
    ))?;
    let mut rows = find.query(params![clamped(after), rows_of(limit)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event_row(row)?);
    }
    Ok(events)
}

pub(super) fn setting(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>, ReadFault> {
    let mut find = conn.prepare_cached("SELECT name, bytes, sum FROM setting WHERE name = ?1")?;
    let mut rows = find.query([name])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    whole(row, 0..2, 2, "setting", name)?;
    Ok(Some(row.get(1)?))
}

/// A page: the indexed filters choose the rows, the others are compared row by row.
pub(super) fn list(conn: &Connection, query: &ListQuery) -> Result<Page, ReadFault> {
    let limit = query.limit.min(MOST_LISTED);
    let (filter, mut values) = indexed_filter(query);
    values.push(Value::Integer(MOST_SCANNED as i64 + 1));
    let mut find = conn.prepare_cached(&format!(
        "{PAYMENT} WHERE {filter} ORDER BY created_ms DESC, id DESC LIMIT ?"
    ))?;
    let mut rows = find.query(params_from_iter(values))?;
    let mut page = Page::default();
    let mut last = None;
    let mut scanned = 0;
    while let Some(row) = rows.next()? {
        if page.rows.len() + page.damaged.len() == limit || scanned == MOST_SCANNED {
            page.next = last;
            return Ok(page);
        }
        scanned += 1;
        last = Some(Cursor { created_ms: row.get(4)?, id: row.get(0)? });
        if matches_rest(row, query)? {
            match payment_row(row) {
                Ok(whole) => page.rows.push(whole),
                Err(ReadFault::Damaged { id, .. }) => page.damaged.push(id),
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(page)
}

/// Counts without reading the payments' bodies.
pub(super) fn stats(conn: &Connection) -> rusqlite::Result<Stats> {
    // Payments are never deleted, so the last row's number is how many there are.
    let payments: i64 =
        conn.query_row("SELECT coalesce(max(row), 0) FROM payment", [], |row| row.get(0))?;
    let open: i64 =
        conn.query_row("SELECT count(*) FROM payment WHERE due_at_ms IS NOT NULL", [], |row| {
            row.get(0)
        })?;
    let mut stats = Stats {
        payments: payments.cast_unsigned(),
        open: open.cast_unsigned(),
        ..Stats::default()
    };
    let mut find = conn.prepare_cached(
        "SELECT currency, amount, created_ms FROM payment INDEXED BY payment_in_doubt
         WHERE in_doubt = 1 ORDER BY created_ms",
    )?;
    let mut rows = find.query([])?;
    while let Some(row) = rows.next()? {
        let (currency, amount): (String, i64) = (row.get(0)?, row.get(1)?);
        let sum = stats.in_doubt_amounts.entry(currency).or_insert(0);
        *sum = sum.saturating_add(amount);
        stats.in_doubt += 1;
        if stats.oldest_in_doubt_ms.is_none() {
            stats.oldest_in_doubt_ms = Some(row.get(2)?);
        }
    }
    Ok(stats)
}

/// The part of a query that an index answers. A unary plus keeps the planner from preferring a
/// merchant's whole history to an order or to the few payments in doubt.
fn indexed_filter(query: &ListQuery) -> (String, Vec<Value>) {
    let mut filter = String::from("1");
    let mut values = Vec::new();
    let narrow = query.merchant_ref.is_some() || query.in_doubt == Some(true);
    if let Some(merchant) = &query.merchant {
        filter.push_str(if narrow { " AND +merchant = ?" } else { " AND merchant = ?" });
        values.push(Value::Text(merchant.clone()));
    }
    if let Some(merchant_ref) = &query.merchant_ref {
        filter.push_str(" AND merchant_ref = ?");
        values.push(Value::Text(merchant_ref.clone()));
    }
    if query.in_doubt == Some(true) {
        filter.push_str(" AND in_doubt = 1");
    }
    if let Some(after_ms) = query.created_after_ms {
        filter.push_str(" AND created_ms > ?");
        values.push(Value::Integer(after_ms));
    }
    if let Some(cursor) = &query.cursor {
        filter.push_str(" AND (created_ms, id) < (?, ?)");
        values.push(Value::Integer(cursor.created_ms));
        values.push(Value::Text(cursor.id.clone()));
    }
    (filter, values)
}

fn matches_rest(row: &Row<'_>, query: &ListQuery) -> rusqlite::Result<bool> {
    let text = |column: usize| -> rusqlite::Result<Option<&[u8]>> {
        Ok(row.get_ref(column)?.as_bytes_or_null()?)
    };
    if let Some(status) = &query.status
        && text(5)? != Some(status.as_bytes())
    {
        return Ok(false);
    }
    if let Some(account) = &query.account
        && text(7)? != Some(account.as_bytes())
    {
        return Ok(false);
    }
    let in_doubt: bool = row.get(6)?;
    Ok(query.in_doubt.is_none_or(|wanted| wanted == in_doubt))
}

fn payment_row(row: &Row<'_>) -> Result<PaymentRow, ReadFault> {
    if !is_whole(row, 0..12, 12)? {
        // The id itself may be what is damaged.
        let id = row.get_ref(0)?.as_bytes_or_null().ok().flatten().unwrap_or_default();
        let id = String::from_utf8_lossy(id).into_owned();
        return Err(ReadFault::Damaged { table: "payment", id });
    }
    Ok(PaymentRow {
        id: row.get(0)?,
        ver: unsigned(row, 1)?,
        merchant: row.get(2)?,
        due_at_ms: row.get(3)?,
        created_ms: row.get(4)?,
        status: row.get(5)?,
        in_doubt: row.get(6)?,
        account: row.get(7)?,
        amount: row.get(8)?,
        currency: row.get(9)?,
        merchant_ref: row.get(10)?,
        body: row.get(11)?,
    })
}

fn event_row(row: &Row<'_>) -> Result<(u64, EventRow), ReadFault> {
    let payment: String = row.get(1)?;
    whole(row, 2..9, 9, "event", &payment)?;
    let event = EventRow {
        payment,
        seq: unsigned(row, 3)?,
        at_ms: row.get(4)?,
        actor: row.get(5)?,
        what: row.get(6)?,
        reason: row.get(7)?,
        detail: row.get(8)?,
    };
    Ok((unsigned(row, 0)?, event))
}

/// The payment that a narrow row leads to: its last column before the sum.
fn owner(
    conn: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    table: &'static str,
    name: &str,
) -> Result<Option<String>, ReadFault> {
    let mut find = conn.prepare_cached(sql)?;
    let mut rows = find.query(values)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let last = values.len();
    whole(row, 0..last + 1, last + 1, table, name)?;
    Ok(Some(row.get(last)?))
}

/// Refuses a row that is not what was written.
pub(super) fn whole(
    row: &Row<'_>,
    columns: Range<usize>,
    sum: usize,
    table: &'static str,
    id: &str,
) -> Result<(), ReadFault> {
    if is_whole(row, columns, sum)? {
        return Ok(());
    }
    Err(ReadFault::Damaged { table, id: id.to_owned() })
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn rows_of(limit: usize) -> i64 {
    limit.min(MOST_ROWS) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{RealDisk, apply, schema};
    use crate::store::Write;

    #[test]
    fn a_filter_that_matches_little_does_not_read_the_whole_table_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(dir.path(), true, 0, &RealDisk).unwrap();
        let rare = Write {
            payment: "rare".into(),
            next: 1,
            status: "processing".into(),
            ..Write::default()
        };
        apply::write(&conn, &rare).unwrap();
        conn.execute_batch(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 45000)
             INSERT INTO payment SELECT NULL, 'p' || n, 1, '', NULL, n, 'failed', 0, NULL, 1, '',
                                        NULL, X'00', X'00' FROM n",
        )
        .unwrap();
        let mut query =
            ListQuery { status: Some("processing".into()), limit: 1, ..ListQuery::default() };
        for page_number in 1..=3 {
            let page = list(&conn, &query).unwrap();
            assert_eq!(page.rows.len(), usize::from(page_number == 3));
            assert_eq!(page.next.is_some(), page_number < 3);
            query.cursor = page.next;
        }
    }

    #[test]
    fn every_list_walks_an_index_and_sorts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(dir.path(), true, 0, &RealDisk).unwrap();
        let word = || Some("x".to_owned());
        let cursor = Some(Cursor { created_ms: 1, id: "x".into() });
        for (index, query) in [
            ("payment_created", ListQuery::default()),
            ("payment_created", ListQuery { created_after_ms: Some(1), ..Default::default() }),
            ("payment_merchant", ListQuery { merchant: word(), ..Default::default() }),
            ("payment_ref", ListQuery { merchant_ref: word(), ..Default::default() }),
            (
                "payment_ref",
                ListQuery { merchant: word(), merchant_ref: word(), ..Default::default() },
            ),
            (
                "payment_in_doubt",
                ListQuery { merchant: word(), in_doubt: Some(true), ..Default::default() },
            ),
        ] {
            for query in [query.clone(), ListQuery { cursor: cursor.clone(), ..query }] {
                let (filter, values) = indexed_filter(&query);
                let plan: Vec<String> = conn
                    .prepare(&format!(
                        "EXPLAIN QUERY PLAN {PAYMENT} WHERE {filter}
                         ORDER BY created_ms DESC, id DESC LIMIT 9"
                    ))
                    .unwrap()
                    .query_map(params_from_iter(values), |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                assert_eq!(plan.len(), 1, "{query:?}: {plan:?}");
                let used = plan[0].split("USING INDEX ").nth(1).unwrap_or("none");
                assert_eq!(used.split(' ').next(), Some(index), "{query:?}: {plan:?}");
            }
        }
    }
}
