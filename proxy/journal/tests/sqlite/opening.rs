//! Who may open a directory, and what is refused.

use interlock_journal::{OpenError, SqliteStore, Store};

use crate::ground::{done, open, options, payment};

#[test]
fn two_stores_never_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let refused = SqliteStore::open(dir.path(), options()).err().unwrap();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("journal.db");
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute_batch("PRAGMA user_version=99").unwrap();
    drop(conn);
    let refused = SqliteStore::open(dir.path(), options()).err();
    assert_eq!(refused, Some(OpenError::Newer { found: 99, known: 3 }));
}

#[test]
fn a_file_that_is_not_a_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.db");
    std::fs::write(&file, "not a database at all, but a long enough line of text").unwrap();
    assert_eq!(SqliteStore::open(dir.path(), options()).err(), Some(OpenError::Foreign));

    std::fs::remove_file(&file).unwrap();
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute_batch("CREATE TABLE somebody_elses(x)").unwrap();
    drop(conn);
    assert_eq!(SqliteStore::open(dir.path(), options()).err(), Some(OpenError::Foreign));
}

#[tokio::test]
async fn closing_leaves_everything_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    done(&store, payment("p")).await;
    drop(store);
    let wal = dir.path().join("journal.db-wal");
    assert_eq!(wal.metadata().map_or(0, |m| m.len()), 0);
    assert!(open(dir.path()).payment("p").await.unwrap().is_some());
}

#[tokio::test]
async fn a_log_left_by_a_killed_process_is_synced_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    done(&store, payment("p")).await;
    // What a kill leaves behind: the files as they are, the lock gone.
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let wal = copy.path().join("journal.db-wal");
    assert!(wal.metadata().unwrap().len() > 0);
    let copied = open(copy.path());
    assert_eq!(wal.metadata().unwrap().len(), 0, "the log was carried over");
    assert!(copied.payment("p").await.unwrap().is_some());
}
