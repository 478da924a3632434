//! One bit of the journal's file is not what was written: whatever is asked, the answer is the
//! right one or none, and a list names what it can't show.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use interlock_journal::{ListQuery, Medium, Options, Page, SqliteStore, Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cuts::ground;
use crate::stage::{Lie, Stage, Watcher};
use crate::work::{self, Log, Score, Work};

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub flips: u64,
    /// The journal was not opened.
    pub refused: u64,
    /// Some answers were refused, the others right.
    pub told: u64,
    /// Nothing that is asked for was touched.
    pub harmless: u64,
    /// Answers that were wrong, by what was asked.
    pub wrong: BTreeMap<&'static str, u64>,
    pub found: Vec<String>,
}

type Answers = BTreeMap<(&'static str, String), Result<Told, StoreError>>;

/// An answer, line by line.
#[derive(Debug, PartialEq)]
struct Told {
    lines: Vec<String>,
    /// How many it names that it can't show.
    damaged: usize,
}

impl Told {
    /// Whether it says the truth but for exactly as many lines as it names.
    fn names_what_is_missing(&self, truth: &Self) -> bool {
        let mut others = truth.lines.iter();
        let in_order = self.lines.iter().all(|line| others.any(|other| other == line));
        in_order && self.damaged > 0 && self.lines.len() + self.damaged == truth.lines.len()
    }
}

/// Flips so many bits, each in a file that is sound but for it.
pub fn run(seed: u64, flips: u64) -> Tally {
    let dir = ground();
    let path = dir.path().canonicalize().expect("a folder");
    let log = life(&path, seed);
    let file = path.join("journal.db");
    let sound = fs::read(&file).expect("the journal");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let truth = runtime.block_on(all_answers(&open(&path).expect("it is sound"), &log));
    assert!(truth.values().all(Result::is_ok), "a sound journal answers everything");
    let mut draw = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    for _ in 0..flips {
        let (at, bit) = (draw.random_range(0..sound.len()), draw.random_range(0..8));
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << bit;
        for name in ["journal.db-wal", "journal.db-shm"] {
            let _ = fs::remove_file(path.join(name));
        }
        fs::write(&file, bytes).expect("a file");
        tally.flips += 1;
        let Some(store) = open(&path) else {
            tally.refused += 1;
            continue;
        };
        let answers = runtime.block_on(all_answers(&store, &log));
        let mut is_told = false;
        let mut is_wrong = false;
        for (question, answer) in answers {
            match answer {
                Err(_) => is_told = true,
                Ok(answer) if Ok(&answer) == truth[&question].as_ref() => {}
                Ok(answer)
                    if truth[&question].as_ref().is_ok_and(|t| answer.names_what_is_missing(t)) =>
                {
                    is_told = true;
                }
                Ok(answer) => {
                    is_wrong = true;
                    *tally.wrong.entry(question.0).or_default() += 1;
                    let short: String = format!("{answer:?}").chars().take(200).collect();
                    tally.found.push(format!("byte {at} bit {bit}: {question:?}: {short}"));
                }
            }
        }
        tally.told += u64::from(is_told && !is_wrong);
        tally.harmless += u64::from(!is_told && !is_wrong);
    }
    tally
}

fn life(path: &Path, seed: u64) -> Log {
    let stage = Stage::raise(path, Lie::None, seed);
    let medium: Arc<dyn Medium> = Arc::new(Watcher(Arc::clone(&stage)));
    let score = Score { payments: 12, rounds: 6, session: 3, voices: 8, ..Score::of(seed) };
    let log = work::play(path, &stage, &medium, score, |_| {});
    stage.strike();
    log
}

fn open(path: &Path) -> Option<SqliteStore> {
    let options = Options { low_water_bytes: 0, reserve_bytes: 4_096, ..Options::default() };
    SqliteStore::open(path, options).ok()
}

/// Everything that a store can be asked about these payments.
async fn all_answers(store: &dyn Store, log: &Log) -> Answers {
    let mut answers = Answers::new();
    let mut put = |what, name: &str, answer: Result<Told, StoreError>| {
        answers.insert((what, name.to_owned()), answer);
    };
    let query = ListQuery { limit: 500, ..ListQuery::default() };
    put("list", "", listed(store.list(query).await));
    let query = ListQuery { limit: 500, in_doubt: Some(true), ..ListQuery::default() };
    put("list", "in doubt", listed(store.list(query).await));
    put("due", "", told(store.due(i64::MAX, 10_000).await));
    put("events", "", told(store.events(0, 10_000).await));
    put("setting", "clock", told(store.settings_get("clock").await));
    for work in &log.works {
        let Work::Write(write) = work else { continue };
        let id = &write.payment;
        for key in &write.keys {
            put("key", &key.key, told(store.key("m", "/v1/payments", &key.key).await));
        }
        for reference in &write.references {
            let found = store.reference("a", &reference.reference).await;
            put("reference", &reference.reference, told(found));
        }
        for op in &write.operations {
            put("operation", op, told(store.operation(op).await));
        }
        for notice in &write.notices {
            put("notice", &notice.event_id, told(store.notice("a", &notice.event_id).await));
        }
        if write.expect == 0 {
            put("payment", id, told(store.payment(id).await));
            put("timeline", id, told(store.timeline(id, 0, 1_000).await));
            put("outbox", id, told(store.outbox(id, 1_000).await));
            let first = format!("evt-{id}-1");
            put("message", id, told(store.message(&first).await));
            let order = write.merchant_ref.as_deref().unwrap_or_default();
            put("order", order, told(store.order("m", order).await));
        }
    }
    answers
}

fn told<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> Result<Told, StoreError> {
    answer.map(|value| Told { lines: vec![format!("{value:?}")], damaged: 0 })
}

fn listed(answer: Result<Page, StoreError>) -> Result<Told, StoreError> {
    answer.map(|page| {
        let mut lines: Vec<String> = page.rows.iter().map(|row| format!("{row:?}")).collect();
        lines.push(format!("{:?}", page.next));
        Told { lines, damaged: page.damaged.len() }
    })
}
