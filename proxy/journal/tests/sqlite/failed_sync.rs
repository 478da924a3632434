//! A sync that fails: the batch is unknown, every handle is closed, and the truth is read anew.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use interlock_journal::{
    Committed, Health, Medium, Moment, Options, SqliteStore, Store, StoreError,
};

use crate::ground::{done, options, payment, version};

#[tokio::test]
async fn a_sync_that_never_happened_leaves_nothing_and_the_store_goes_on() {
    let (dir, medium) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let store = open(dir.path(), &medium);
    done(&store, payment("p")).await;
    medium.fail(Moment::Before);
    let answer = store.commit(version("p", 2)).await;
    assert!(matches!(answer, Err(StoreError::Failed { .. })), "{answer:?}");
    assert_eq!(store.health(), Health::Writable, "it was reopened");
    assert_eq!(store.payment("p").await.unwrap().unwrap().ver, 1);
    done(&store, version("p", 2)).await;
}

#[tokio::test]
async fn a_sync_whose_success_was_not_heard_is_unknown_and_found_by_reading() {
    let (dir, medium) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let store = open(dir.path(), &medium);
    done(&store, payment("p")).await;
    medium.fail(Moment::After);
    let answer = store.commit(version("p", 2)).await;
    assert!(matches!(answer, Err(StoreError::Failed { .. })), "{answer:?}");
    assert_eq!(store.payment("p").await.unwrap().unwrap().ver, 2);
    let again = store.commit(version("p", 2)).await;
    assert_eq!(again, Ok(Committed::Conflict { ver: Some(2) }));
    let wal = dir.path().join("journal.db-wal");
    drop(store);
    assert_eq!(wal.metadata().map_or(0, |m| m.len()), 0);
}

#[tokio::test]
async fn a_store_that_cannot_be_reopened_refuses_everything() {
    let (dir, medium) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let store = open(&dir.path().join("data"), &medium);
    done(&store, payment("p")).await;
    assert!(store.payment("p").await.unwrap().is_some());
    medium.vanish(dir.path().join("data"));
    let answer = store.commit(version("p", 2)).await;
    assert!(matches!(answer, Err(StoreError::Failed { .. })), "{answer:?}");
    assert!(matches!(store.health(), Health::Failed(_)));
    assert!(matches!(store.payment("p").await, Err(StoreError::Failed { .. })));
    let answer = store.commit(payment("q")).await;
    assert!(matches!(answer, Err(StoreError::Failed { .. })), "{answer:?}");
    assert!(!dir.path().join("data").exists(), "no empty journal takes the place of a lost one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failing_disk_under_load_loses_nothing_that_was_acknowledged() {
    let (dir, medium) = (tempfile::tempdir().unwrap(), Arc::new(Faulty::default()));
    let store: Arc<dyn Store> = Arc::new(open(dir.path(), &medium));
    let mut tasks = Vec::new();
    for task in 0..32 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let (mut acknowledged, mut unknown) = (Vec::new(), 0);
            for n in 0..60 {
                let id = format!("p{task}-{n}");
                match store.commit(payment(&id)).await {
                    Ok(Committed::Done) => acknowledged.push(id),
                    Err(StoreError::Failed { .. }) => unknown += 1,
                    other => panic!("{id}: {other:?}"),
                }
                let _ = store.payment("p0-0").await;
            }
            (acknowledged, unknown)
        }));
    }
    for n in 0..10 {
        medium.fail(if n % 2 == 0 { Moment::Before } else { Moment::After });
        while medium.is_armed() && tasks.iter().any(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
    }
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    for task in tasks {
        let (ids, failed) = task.await.unwrap();
        acknowledged.extend(ids);
        unknown += failed;
    }
    assert!(unknown > 0, "a sync failed");
    assert_eq!(acknowledged.len() + unknown, 32 * 60);
    for id in &acknowledged {
        assert!(store.payment(id).await.unwrap().is_some(), "{id}");
    }
}

fn open(dir: &std::path::Path, medium: &Arc<Faulty>) -> SqliteStore {
    SqliteStore::open(dir, Options { medium: medium.clone(), ..options() }).unwrap()
}

#[derive(Default)]
struct Faulty(Mutex<Fault>);

#[derive(Default)]
struct Fault {
    at: Option<Moment>,
    remove: Option<PathBuf>,
}

impl Faulty {
    fn fail(&self, moment: Moment) {
        self.0.lock().unwrap().at = Some(moment);
    }
    fn is_armed(&self) -> bool {
        self.0.lock().unwrap().at.is_some()
    }
    fn vanish(&self, dir: PathBuf) {
        *self.0.lock().unwrap() = Fault { at: Some(Moment::Before), remove: Some(dir) };
    }
}

impl Medium for Faulty {
    fn syncing(&self, moment: Moment) -> io::Result<()> {
        let mut fault = self.0.lock().unwrap();
        if fault.at != Some(moment) {
            return Ok(());
        }
        fault.at = None;
        if let Some(dir) = fault.remove.take() {
            std::fs::remove_dir_all(dir)?;
        }
        Err(io::Error::other("the disk does not answer"))
    }
}
