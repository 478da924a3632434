//! While a sync runs: nobody sees what is not durable, and what waits is bounded.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use interlock_journal::{
    Committed, KeyRow, Medium, Moment, Options, Purpose, SqliteStore, Store, StoreError, Write,
};

use crate::ground::{options, payment};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_seen_before_its_sync_and_only_new_work_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, told, open) = Gate::new();
    let options = Options { queue: 1, batch: 1, medium: Arc::new(gate), ..options() };
    let store = Arc::new(SqliteStore::open(dir.path(), options).unwrap());

    let first = spawn(&store, payment("first"));
    told.recv().unwrap();
    assert_eq!(store.payment("first").await, Ok(None), "its sync has not returned");
    assert!(!first.is_finished());

    // Polled once, it holds the queue's only place.
    let mut queued = Box::pin(store.commit(payment("queued")));
    tokio::select! {
        biased;
        _ = &mut queued => panic!("the writer is busy with the first"),
        () = std::future::ready(()) => {}
    }
    let intake = Write { purpose: Purpose::Intake, ..payment("intake") };
    assert_eq!(store.commit(intake).await, Err(StoreError::Busy));
    let waiting = spawn(&store, payment("waiting"));
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    assert_eq!(queued.await, Ok(Committed::Done));
    for task in [first, waiting] {
        assert_eq!(task.await.unwrap(), Ok(Committed::Done));
    }
    assert_eq!(store.payment("intake").await, Ok(None));
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loser_that_left_rows_behind_undoes_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, told, open) = Gate::new();
    let options = Options { medium: Arc::new(gate), ..options() };
    let store = Arc::new(SqliteStore::open(dir.path(), options).unwrap());
    let first = spawn(&store, payment("first"));
    told.recv().unwrap();

    // Its key is free and is taken, before its version turns out to be there.
    let key = KeyRow {
        merchant: "m".into(),
        path: "/p".into(),
        key: "k".into(),
        fingerprint: vec![1],
        fingerprint_key: "1".into(),
        payment: "first".into(),
        operation: None,
        answer: None,
    };
    let loser = Write { keys: vec![key], ..payment("first") };
    let mut batch: Vec<_> =
        [payment("before"), loser, payment("after")].map(|w| Box::pin(store.commit(w))).into();
    for queued in &mut batch {
        tokio::select! {
            biased;
            _ = queued => panic!("the writer is busy with the first"),
            () = std::future::ready(()) => {}
        }
    }
    open.send(()).unwrap();
    open.send(()).unwrap();
    let mut answers = Vec::new();
    for queued in batch {
        answers.push(queued.await);
    }
    let lost = Committed::Conflict { ver: Some(1) };
    assert_eq!(answers, [Ok(Committed::Done), Ok(lost), Ok(Committed::Done)]);
    assert_eq!(first.await.unwrap(), Ok(Committed::Done));
    assert_eq!((told.try_iter().count(), store.key("m", "/p", "k").await), (1, Ok(None)));
    for id in ["before", "after"] {
        assert_eq!(store.payment(id).await.unwrap().unwrap().ver, 1);
    }
}

fn spawn(
    store: &Arc<SqliteStore>,
    write: Write,
) -> tokio::task::JoinHandle<Result<Committed, StoreError>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.commit(write).await })
}

/// A disk whose syncs each wait to be let through.
struct Gate(Mutex<(Sender<()>, Receiver<()>)>);

impl Gate {
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((tell, told), (open, opened)) = (channel(), channel());
        (Self(Mutex::new((tell, opened))), told, open)
    }
}

impl Medium for Gate {
    fn syncing(&self, moment: Moment) -> io::Result<()> {
        if moment == Moment::Before {
            let gate = self.0.lock().unwrap();
            let _ = gate.0.send(());
            let _ = gate.1.recv();
        }
        Ok(())
    }
}
