//! The journal's narrow tables, read whole by somebody who knows their columns.

use std::collections::BTreeMap;
use std::path::Path;

use interlock_journal::{KeyRow, NoticeRow, OutboxRow};
use rusqlite::{Connection, OptionalExtension, Row};

/// Every row, by its name.
#[derive(Debug, Default)]
pub struct Tables {
    pub keys: BTreeMap<String, KeyRow>,
    pub references: BTreeMap<String, String>,
    pub operations: BTreeMap<String, String>,
    pub orders: BTreeMap<String, String>,
    pub notices: BTreeMap<String, NoticeRow>,
    pub messages: BTreeMap<(String, u64), OutboxRow>,
    pub clock: Option<[u8; 8]>,
}

/// Reads the file while its store is open.
pub fn read(file: &Path) -> rusqlite::Result<Tables> {
    let conn = Connection::open(file)?;
    let clock = conn
        .query_row("SELECT bytes FROM setting WHERE name = 'clock'", [], |row| row.get(0))
        .optional()?;
    Ok(Tables {
        keys: rows(
            &conn,
            "SELECT merchant, path, key, fingerprint, fingerprint_key, payment, operation,
                    answer_status, answer_body FROM idempotency",
            key,
        )?,
        references: pairs(&conn, "SELECT reference, payment FROM reference")?,
        operations: pairs(&conn, "SELECT id, payment FROM operation")?,
        orders: pairs(&conn, "SELECT merchant_ref, payment FROM live_order")?,
        notices: rows(
            &conn,
            "SELECT account, event_id, payment, digest, at_ms, applied FROM notice",
            notice,
        )?,
        messages: rows(
            &conn,
            "SELECT payment.id, seq, at_ms, kind, message.body, message.id
             FROM outbox LEFT JOIN message USING (payment, seq)
             LEFT JOIN payment ON outbox.payment = payment.row",
            message,
        )?,
        clock,
    })
}

fn rows<K: Ord, V>(
    conn: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<(K, V)>,
) -> rusqlite::Result<BTreeMap<K, V>> {
    conn.prepare(sql)?.query_map([], read)?.collect()
}

fn pairs(conn: &Connection, sql: &str) -> rusqlite::Result<BTreeMap<String, String>> {
    rows(conn, sql, |row| Ok((row.get(0)?, row.get(1)?)))
}

fn key(row: &Row<'_>) -> rusqlite::Result<(String, KeyRow)> {
    let status: Option<u16> = row.get(7)?;
    let body: Option<Vec<u8>> = row.get(8)?;
    let key = KeyRow {
        merchant: row.get(0)?,
        path: row.get(1)?,
        key: row.get(2)?,
        fingerprint: row.get(3)?,
        fingerprint_key: row.get(4)?,
        payment: row.get(5)?,
        operation: row.get(6)?,
        answer: status.zip(body),
    };
    Ok((key.key.clone(), key))
}

fn notice(row: &Row<'_>) -> rusqlite::Result<(String, NoticeRow)> {
    let notice = NoticeRow {
        account: row.get(0)?,
        event_id: row.get(1)?,
        payment: row.get(2)?,
        digest: row.get(3)?,
        at_ms: row.get(4)?,
        applied: row.get(5)?,
    };
    Ok((notice.event_id.clone(), notice))
}

fn message(row: &Row<'_>) -> rusqlite::Result<((String, u64), OutboxRow)> {
    let message = OutboxRow {
        payment: row.get(0)?,
        seq: row.get::<_, i64>(1)?.cast_unsigned(),
        at_ms: row.get(2)?,
        kind: row.get(3)?,
        body: row.get(4)?,
        id: row.get(5)?,
    };
    Ok(((message.payment.clone(), message.seq), message))
}
