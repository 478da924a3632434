//! The tables, and how a connection to them is opened and proven fit for use.
//!
//! Two of the checks are about truth rather than taste. A log left by a killed process may hold
//! commits that were written and never synced, even pages whose sync was tried and failed; they
//! look committed to a new process, and a power cut would take them away again. So the log is
//! written again and synced before SQLite looks at it, and checkpointed before anything is read.
//! And a file made by a newer version is refused, for it may mean something else.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use sha2::{Digest, Sha256};

use super::{Medium, OpenError};

/// The database's file name inside the data directory.
pub(super) const FILE: &str = "journal.db";

/// The log beside it.
const LOG: &str = "journal.db-wal";

/// "ILJN": says that a SQLite file is a journal.
const APPLICATION_ID: i64 = 0x494c_4a4e;

/// Each entry brings the schema from its index to the next version.
const MIGRATIONS: &[&str] = &[FIRST, SECOND, THIRD];

/// What a group commit costs is the number of pages it touches, and ids are random. So bodies live
/// in tables with a rowid, where new payments share pages, as do the next versions of payments of
/// the same minute; and events and messages name their payment by its row (payments are never
/// deleted). Only narrow rows that are looked up by a name are WITHOUT ROWID.
///
/// `sum` is the checksum of the columns before it, in their order; an answer comes later than the
/// rest of its row and has its own.
const FIRST: &str = "
CREATE TABLE payment(
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ver INTEGER NOT NULL,
    merchant TEXT NOT NULL, due_at_ms INTEGER, created_ms INTEGER NOT NULL, status TEXT NOT NULL,
    in_doubt INTEGER NOT NULL, account TEXT, amount INTEGER NOT NULL, currency TEXT NOT NULL,
    merchant_ref TEXT, sum BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE INDEX payment_due ON payment(due_at_ms) WHERE due_at_ms IS NOT NULL;
CREATE INDEX payment_created ON payment(created_ms, id);
CREATE INDEX payment_merchant ON payment(merchant, created_ms, id);
CREATE INDEX payment_ref ON payment(merchant_ref, created_ms, id) WHERE merchant_ref IS NOT NULL;
CREATE INDEX payment_in_doubt ON payment(created_ms, id) WHERE in_doubt = 1;
CREATE TABLE idempotency(
    row INTEGER PRIMARY KEY, merchant TEXT NOT NULL, path TEXT NOT NULL, key TEXT NOT NULL,
    fingerprint BLOB NOT NULL, fingerprint_key TEXT NOT NULL, payment TEXT NOT NULL,
    operation TEXT, sum BLOB NOT NULL, answer_status INTEGER, answer_body BLOB, answer_sum BLOB,
    UNIQUE(merchant, path, key)) STRICT;
CREATE TABLE reference(
    account TEXT NOT NULL, reference TEXT NOT NULL, payment TEXT NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY(account, reference)) STRICT, WITHOUT ROWID;
CREATE TABLE operation(
    id TEXT NOT NULL PRIMARY KEY, payment TEXT NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE live_order(
    merchant TEXT NOT NULL, merchant_ref TEXT NOT NULL, payment TEXT NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY(merchant, merchant_ref)) STRICT, WITHOUT ROWID;
CREATE TABLE notice(
    account TEXT NOT NULL, event_id TEXT NOT NULL, payment TEXT, digest BLOB NOT NULL,
    at_ms INTEGER NOT NULL, applied INTEGER NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY(account, event_id)) STRICT, WITHOUT ROWID;
CREATE TABLE event(
    row INTEGER PRIMARY KEY, payment INTEGER NOT NULL, seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, actor TEXT NOT NULL, what TEXT NOT NULL, reason TEXT, detail TEXT,
    sum BLOB NOT NULL, UNIQUE(payment, seq)) STRICT;
CREATE TABLE outbox(
    payment INTEGER NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
    body BLOB NOT NULL, sum BLOB NOT NULL, PRIMARY KEY(payment, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE setting(
    name TEXT NOT NULL PRIMARY KEY, bytes BLOB NOT NULL, sum BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// Messages stay when they are delivered; `outbox` has a narrow row for each that is not. In its
/// `state` 0 waits behind another of its payment, 1 is the first, 2 was given up. The first schema
/// had an outbox that no build wrote to.
const SECOND: &str = "
DROP TABLE outbox;
CREATE TABLE message(
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, merchant TEXT NOT NULL,
    payment INTEGER NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
    sum BLOB NOT NULL, body BLOB NOT NULL, UNIQUE(payment, seq)) STRICT;
CREATE INDEX message_merchant ON message(merchant);
CREATE TABLE outbox(
    payment INTEGER NOT NULL, seq INTEGER NOT NULL, merchant TEXT NOT NULL,
    state INTEGER NOT NULL, due_at_ms INTEGER NOT NULL, tries INTEGER NOT NULL, reason TEXT,
    sum BLOB NOT NULL, PRIMARY KEY(payment, seq)) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox(merchant, due_at_ms) WHERE state = 1;
";

/// Cases change, so what is looked for stands beside the body.
const THIRD: &str = "
CREATE TABLE case_file(
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ver INTEGER NOT NULL, account TEXT NOT NULL,
    date TEXT NOT NULL, kind TEXT NOT NULL, is_open INTEGER NOT NULL, payment TEXT,
    opened_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, body BLOB NOT NULL,
    sum BLOB NOT NULL) STRICT;
CREATE INDEX case_day ON case_file(account, date);
CREATE INDEX case_open ON case_file(row) WHERE is_open = 1;
";

/// The writer's connection, with the file proven to be ours, sound, of a known version and synced.
///
/// `create` is false when a store that was open is opened again: a file that has gone missing
/// meanwhile is a failure and not an empty journal.
pub(super) fn open_writer(
    dir: &Path,
    create: bool,
    check_below_bytes: u64,
    medium: &dyn Medium,
) -> Result<Connection, OpenError> {
    let path = dir.join(FILE);
    let log = dir.join(LOG);
    medium.rewrite(&log).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::DiskFull,
        _ => OpenError::io(&log, &error),
    })?;
    let size = path.metadata().map(|m| m.len()).unwrap_or(0);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let mut conn = Connection::open_with_flags(&path, flags)?;
    prepare(&conn)?;
    check_identity(&conn)?;
    begin_log(&conn)?;
    conn.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON;
         PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192;
         PRAGMA cell_size_check=ON;",
    )?;
    let is_checked = size > 0 && size < check_below_bytes;
    if is_checked {
        check_pages(&conn)?;
    }
    migrate(&mut conn)?;
    if is_checked {
        check_names(&conn)?;
    }
    let state = checkpoint(&conn, "TRUNCATE")?;
    if state.busy {
        return Err(OpenError::Sqlite { reason: "somebody else reads the journal's log".into() });
    }
    Ok(conn)
}

/// A connection that can only read.
pub(super) fn open_reader(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(dir.join(FILE), flags)?;
    prepare(&conn)?;
    // Not opened read-only: only a connection that may write can keep the log's shared index.
    conn.execute_batch(
        "PRAGMA query_only=ON; PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;
         PRAGMA cell_size_check=ON;",
    )?;
    Ok(conn)
}

/// A connection that only checkpoints.
pub(super) fn open_checkpointer(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(dir.join(FILE), flags)?;
    prepare(&conn)?;
    conn.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA checkpoint_fullfsync=ON; PRAGMA wal_autocheckpoint=0;",
    )?;
    Ok(conn)
}

/// What a checkpoint reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkpoint {
    /// Somebody stood in the way of a blocking checkpoint.
    pub(super) busy: bool,
    /// Pages in the log.
    pub(super) pages: u64,
}

/// Copies the log into the database. `mode` is one of SQLite's own words.
pub(super) fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<Checkpoint> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let pages: i64 = row.get(1)?;
        Ok(Checkpoint {
            busy: row.get::<_, i64>(0)? != 0,
            pages: u64::try_from(pages).unwrap_or(0),
        })
    })
}

/// Eight bytes that change when any of the cells does, or when bytes move from one to the next.
pub(super) fn checksum<'a>(cells: impl IntoIterator<Item = ValueRef<'a>>) -> [u8; 8] {
    let mut hash = Sha256::new();
    for cell in cells {
        let (kind, bytes) = match cell {
            ValueRef::Null => (0_u8, &[][..]),
            ValueRef::Integer(number) => {
                hash.update([1]);
                hash.update(number.to_be_bytes());
                continue;
            }
            ValueRef::Real(number) => {
                hash.update([2]);
                hash.update(number.to_bits().to_be_bytes());
                continue;
            }
            ValueRef::Text(bytes) => (3, bytes),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    let digest = hash.finalize();
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

/// Whether the columns of a row are what was written, by the sum in a column of its own.
pub(super) fn is_whole(
    row: &Row<'_>,
    columns: std::ops::Range<usize>,
    sum: usize,
) -> rusqlite::Result<bool> {
    let mut cells = Vec::with_capacity(columns.len());
    for column in columns {
        cells.push(row.get_ref(column)?);
    }
    Ok(row.get_ref(sum)? == ValueRef::Blob(&checksum(cells)))
}

fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    // The last connection to close would checkpoint by itself and its failure would be lost.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(())
}

/// Puts the file into write-ahead mode. The pragma says "wal" before it has committed the change,
/// and a commit that fails leaves the file with a rollback journal, whose deletion a power cut may
/// undo together with the payment; so the statement is run to its end, and asked again.
fn begin_log(conn: &Connection) -> Result<(), OpenError> {
    let mut change = conn.prepare("PRAGMA journal_mode=WAL")?;
    let mut rows = change.query([])?;
    while rows.next()?.is_some() {}
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(OpenError::Sqlite { reason: format!("no write-ahead log here: {mode}") })
}

fn check_identity(conn: &Connection) -> Result<(), OpenError> {
    let id: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && found == 0 {
        return Ok(());
    }
    if id != APPLICATION_ID {
        return Err(OpenError::Foreign);
    }
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    Ok(())
}

/// Rows that are found only by a name which no other table repeats: a name that is not what was
/// written would be a row that is not there.
const NARROW: &[(&str, &str, usize)] = &[
    ("reference", "SELECT account, reference, payment, sum FROM reference", 3),
    ("operation", "SELECT id, payment, sum FROM operation", 2),
    ("live_order", "SELECT merchant, merchant_ref, payment, sum FROM live_order", 3),
    ("notice", "SELECT account, event_id, payment, digest, at_ms, applied, sum FROM notice", 6),
    (
        "outbox",
        "SELECT payment, seq, merchant, state, due_at_ms, tries, reason, sum FROM outbox",
        7,
    ),
    ("setting", "SELECT name, bytes, sum FROM setting", 2),
];

/// Every page, and every index against its table.
fn check_pages(conn: &Connection) -> Result<(), OpenError> {
    let heard: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if heard == "ok" { Ok(()) } else { Err(OpenError::Corrupt { reason: heard }) }
}

/// Every row that is found by its own name. What a payment holds is looked at when it is read:
/// the others go on without it.
fn check_names(conn: &Connection) -> Result<(), OpenError> {
    for (table, all, columns) in NARROW {
        let mut find = conn.prepare(all)?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            if !is_whole(row, 0..*columns, *columns)? {
                let reason = format!("a row is not what was written: {table}");
                return Err(OpenError::Corrupt { reason });
            }
        }
    }
    Ok(())
}

fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let found = usize::try_from(found).unwrap_or(known);
    if found >= known {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for step in &MIGRATIONS[found..] {
        tx.execute_batch(step)?;
    }
    tx.execute_batch(&format!(
        "PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={known};"
    ))?;
    tx.commit()?;
    Ok(())
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => OpenError::DiskFull,
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { reason: error.to_string() },
            Some(ErrorCode::NotADatabase) => OpenError::Foreign,
            _ => OpenError::Sqlite { reason: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::RealDisk;

    #[test]
    fn the_writer_syncs_every_commit_and_nothing_checkpoints_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open_writer(dir.path(), true, 0, &RealDisk).unwrap();
        assert_eq!(number(&conn, "synchronous"), 2);
        assert_eq!(number(&conn, "wal_autocheckpoint"), 0);
        assert_eq!(number(&conn, "application_id"), APPLICATION_ID);
        assert_eq!(number(&conn, "user_version"), MIGRATIONS.len() as i64);
    }

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let _writer = open_writer(dir.path(), true, 0, &RealDisk).unwrap();
        let reader = open_reader(dir.path()).unwrap();
        assert!(reader.execute("DELETE FROM payment", []).is_err());
    }

    #[test]
    fn a_missing_file_is_not_made_anew_when_a_store_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open_writer(dir.path(), false, 0, &RealDisk).is_err());
    }

    #[test]
    fn the_checksum_tells_every_cell_apart() {
        use ValueRef::{Blob, Integer, Null, Text};
        let whole = checksum([Text(b"pay_1"), Integer(1), Null, Blob(b"body")]);
        for other in [
            [Text(b"pay_2"), Integer(1), Null, Blob(b"body")],
            [Text(b"pay_1"), Integer(2), Null, Blob(b"body")],
            [Text(b"pay_1"), Integer(1), Integer(0), Blob(b"body")],
            [Text(b"pay_1"), Integer(1), Null, Blob(b"bodz")],
            [Text(b"pay_1"), Integer(1), Null, Text(b"body")],
            [Blob(b"body"), Integer(1), Null, Text(b"pay_1")],
        ] {
            assert_ne!(whole, checksum(other), "{other:?}");
        }
        assert_ne!(checksum([Text(b"ab"), Text(b"c")]), checksum([Text(b"a"), Text(b"bc")]));
    }

    fn number(conn: &Connection, pragma: &str) -> i64 {
        conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
    }
}
