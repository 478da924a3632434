//! Killed at any instruction: what was acknowledged is there, what is there is whole.
//!
//! A child process, this same test binary, commits from many tasks and prints each id once its
//! commit was acknowledged. The parent kills it at a random moment, again and again over one
//! directory, and reads everything back each time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use interlock_journal::{Committed, EventRow, KeyRow, Purpose, Store, Write};

use crate::ground::{open, version};

const DIR: &str = "JOURNAL_CRASH_DIR";
const ROUND: &str = "JOURNAL_CRASH_ROUND";
const ROUNDS: u64 = 20;
const TASKS: u64 = 48;

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut seed = std::process::id() as u64 | 1;
    for round in 0..ROUNDS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let heard = acknowledged.len();
        kill_one(dir.path(), round, seed >> 33, &mut acknowledged);
        assert!(acknowledged.len() > heard, "round {round} acknowledged something");

        let store = open(dir.path());
        for (id, ver) in &acknowledged {
            let row = store.payment(id).await.unwrap();
            let row = row.unwrap_or_else(|| panic!("{id} was acknowledged and is gone"));
            assert!(row.ver >= *ver, "{id}: {} < {ver}", row.ver);
            assert_eq!(row.body, version(id, row.ver).body);
            // Whatever version is there, it is there with everything that came with it.
            let events = store.timeline(id, 0, 100).await.unwrap();
            assert_eq!(events.len() as u64, row.ver, "{id}");
            assert!(store.key("m", "/v1/payments", id).await.unwrap().is_some(), "{id}");
        }
        let payments = store.stats().await.unwrap().payments;
        assert!(payments >= acknowledged.len() as u64);
    }
    eprintln!("{} payments acknowledged over {ROUNDS} kills", acknowledged.len());
}

/// The child; without its variables it is a test that has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_killed() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else {
        return;
    };
    let store: Arc<dyn Store> = Arc::new(open(dir.as_ref()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, round) = (Arc::clone(&store), round.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let id = format!("p-{round}-{task}-{n}");
                    for ver in 1..=3 {
                        assert_eq!(store.commit(step(&id, ver)).await, Ok(Committed::Done));
                        // One write call a line, so that a kill leaves no half of one.
                        let line = format!("ack {id} {ver}\n");
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn kill_one(
    dir: &std::path::Path,
    round: u64,
    draw: u64,
    acknowledged: &mut BTreeMap<String, u64>,
) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Now and then long enough to be killed around a checkpoint.
    let wait = if round % 7 == 6 { 5_000 + draw % 5_000 } else { 1 + draw % 600 };
    let mut count = 0;
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        let Some((id, ver)) = line.rsplit_once("ack ").and_then(|(_, ack)| ack.split_once(' '))
        else {
            continue;
        };
        let ver: u64 = ver.parse().unwrap();
        let known = acknowledged.entry(id.to_owned()).or_default();
        *known = ver.max(*known);
        count += 1;
        if count == wait {
            // Not always just after an acknowledgement: some way into what follows.
            std::thread::sleep(Duration::from_micros(draw % 5_000));
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "the child ended by itself: {status}");
}

fn step(id: &str, ver: u64) -> Write {
    let mut write = version(id, ver);
    write.purpose = if ver == 1 { Purpose::Intake } else { Purpose::Outcome };
    if ver == 1 {
        write.keys = vec![KeyRow {
            merchant: "m".into(),
            path: "/v1/payments".into(),
            key: id.into(),
            payment: id.into(),
            ..KeyRow::default()
        }];
    }
    write.events = vec![EventRow { payment: id.into(), seq: ver, ..EventRow::default() }];
    write
}
