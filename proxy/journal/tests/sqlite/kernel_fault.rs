//! The kernel itself fails a sync of data: SQLite's own error, on the writer and on the checkpoint
//! thread.
//!
//! strace makes the first such sync of every thread fail with EIO, without doing it. It is not
//! everywhere, so the test says when it is skipped.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use interlock_journal::{Committed, Health, Store, StoreError};

use crate::ground::{done, open, payment, version};

const DIR: &str = "JOURNAL_KERNEL_FAULT_DIR";

#[test]
fn a_sync_that_the_kernel_fails_is_never_taken_for_done() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("strace.log");
    let ended = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=fdatasync"])
        .args(["-e", "inject=fdatasync:error=EIO:when=1", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "kernel_fault::on_a_failing_kernel", "--nocapture"])
        .env(DIR, dir.path().join("data"))
        .output();
    let out = match ended {
        Ok(out) => out,
        Err(error) => return eprintln!("skipped: no strace here: {error}"),
    };
    let told = String::from_utf8_lossy(&out.stderr);
    if told.contains("PTRACE") || told.contains("ptrace") {
        return eprintln!("skipped: no tracing here: {told}");
    }
    assert!(out.status.success(), "{}\n{told}", String::from_utf8_lossy(&out.stdout));
    assert!(told.contains("failing kernel:"), "the inner test ran: {told}");
    let injected = std::fs::read_to_string(&log).unwrap().matches("(INJECTED)").count();
    assert!(injected >= 3, "opener, writer and keeper each failed once: {injected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_failing_kernel() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir).to_path_buf();
    std::fs::create_dir(&dir).unwrap();
    let probe = File::open(&dir).unwrap();
    assert!(probe.sync_data().is_err(), "this thread's first sync is made to fail");
    let store: Arc<dyn Store> = Arc::new(open(&dir));

    let first = store.commit(payment("p")).await;
    assert!(matches!(first, Err(StoreError::Failed { .. })), "{first:?}");
    assert_eq!(store.health(), Health::Writable, "everything was opened again");
    let ver = store.payment("p").await.unwrap().map_or(0, |row| row.ver);
    done(&*store, version("p", ver + 1)).await;

    // Enough for the keeper to checkpoint, fail, and have the writer open everything once more.
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (mut acknowledged, mut unknown) = (Vec::new(), 0);
                for n in 0..200 {
                    let id = format!("p-{task}-{n}");
                    match store.commit(payment(&id)).await {
                        Ok(Committed::Done) => acknowledged.push(id),
                        Err(StoreError::Failed { .. }) => unknown += 1,
                        other => panic!("{id}: {other:?}"),
                    }
                }
                (acknowledged, unknown)
            })
        })
        .collect();
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    for task in tasks {
        let (ids, failed) = task.await.unwrap();
        acknowledged.extend(ids);
        unknown += failed;
    }
    assert_eq!(store.health(), Health::Writable);
    drop(store);
    let store = open(&dir);
    for id in &acknowledged {
        assert!(store.payment(id).await.unwrap().is_some(), "{id} was acknowledged and is gone");
    }
    eprintln!("failing kernel: {} acknowledged, {unknown} unknown", acknowledged.len());
}
