//! A payment that is not what was written is never handed out.

use interlock_journal::{
    ListQuery, Message, MessageQuery, OpenError, OutboxRow, SqliteStore, Store, StoreError, Write,
};

use crate::ground::{done, open, options, payment};

#[tokio::test]
async fn a_changed_payment_is_told_apart_from_a_written_one() {
    for change in [
        "body = X'00'",
        "body = CAST(body || X'00' AS BLOB)",
        "ver = 2",
        "due_at_ms = NULL",
        "due_at_ms = 99",
        "id = 'q'",
        "sum = X'0000000000000000'",
        "sum = X''",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        done(&store, payment("p")).await;
        done(&store, payment("sound")).await;
        drop(store);
        let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
        conn.execute_batch(&format!("UPDATE payment SET {change} WHERE id = 'p'")).unwrap();
        drop(conn);

        let store = open(dir.path());
        let id = if change.starts_with("id") { "q" } else { "p" };
        let corrupt = StoreError::Corrupt { table: "payment", id: id.into() };
        assert_eq!(store.payment(id).await, Err(corrupt), "{change}");
        let all = ListQuery { limit: 10, ..ListQuery::default() };
        let page = store.list(all).await.unwrap();
        let listed: Vec<&str> = page.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!((listed, page.damaged), (vec!["sound"], vec![id.to_owned()]), "{change}");
        assert!(store.payment("sound").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_changed_message_is_named_and_keeps_no_other_back() {
    for (change, table) in [("body = X'00'", "message"), ("tries = 7", "outbox")] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for id in ["p", "q", "r"] {
            done(&store, told(id)).await;
        }
        drop(store);
        let conn = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
        let of_p = "payment = (SELECT row FROM payment WHERE id = 'p')";
        conn.execute_batch(&format!("UPDATE {table} SET {change} WHERE {of_p}")).unwrap();
        drop(conn);

        // An outbox row is found by its name, so the store does not open over a damaged one.
        if table == "outbox" {
            let opened = SqliteStore::open(dir.path(), options());
            assert!(matches!(opened, Err(OpenError::Corrupt { .. })));
            continue;
        }
        let store = open(dir.path());
        let all = MessageQuery { limit: 10, ..MessageQuery::default() };
        let found = store.messages(all).await.unwrap();
        let ids =
            |rows: &[Message]| -> Vec<String> { rows.iter().map(|m| m.row.id.clone()).collect() };
        assert_eq!(ids(&found.rows), ["evt_q", "evt_r"]);
        assert_eq!(found.damaged, [(1, "evt_p".to_owned())]);
        // It is the earliest, and one place is asked for.
        assert_eq!(ids(&store.deliveries("m", 100, 1).await.unwrap()), ["evt_q"]);
    }
}

/// A payment with one message.
fn told(id: &str) -> Write {
    let message = OutboxRow {
        payment: id.into(),
        seq: 1,
        at_ms: 50,
        id: format!("evt_{id}"),
        kind: "payment.succeeded".into(),
        body: b"{}".to_vec(),
    };
    Write { outbox: vec![message], ..payment(id) }
}

#[tokio::test]
async fn a_damaged_page_is_found_when_the_file_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..200 {
        done(&store, payment(&format!("p{n}"))).await;
    }
    drop(store);
    let file = dir.path().join("journal.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let page = bytes.windows(5).position(|w| w == b"p150 ").unwrap() / 4096 * 4096;
    bytes[page..page + 64].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let refused = SqliteStore::open(dir.path(), options()).err().unwrap();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}
