//! What the store is asked to do while the tape runs: payments in every stage of their lives, many
//! at once, over several openings, and a log of what was said about each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interlock_journal::{
    Answer, Committed, EventRow, Health, KeyRow, Medium, NoticeRow, Options, OrderChange,
    OutboxRow, Purpose, Reference, SqliteStore, Store, StoreError, Told, Write,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::stage::Stage;

/// One thing that the store is asked for.
#[derive(Debug, Clone)]
pub enum Work {
    Write(Box<Write>),
    Notice(NoticeRow),
    /// The value counts up.
    Setting(u64),
    Delivered {
        payment: String,
        seq: u64,
    },
}

/// Everything that was asked, and in which order the writes were committed.
#[derive(Debug, Default)]
pub struct Log {
    pub works: Vec<Work>,
    pub by_version: BTreeMap<(String, u64), usize>,
    /// Writes that were committed, in the order of the timeline. Not known where a sync failed:
    /// an attempt of unknown end may be there at one cut and be made anew, later, at the next.
    pub order: Option<Vec<usize>>,
    /// Keys of writes that were refused.
    pub refused_keys: BTreeSet<String>,
}

/// How one tape is made.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub seed: u64,
    pub payments: usize,
    pub rounds: usize,
    /// Rounds between two openings.
    pub session: usize,
    /// Payments that go on at the same time.
    pub voices: usize,
    /// Writes between two checkpoints, and bytes of a long log.
    pub checkpoint: (u64, u64),
}

impl Score {
    /// A different life for each seed.
    pub fn of(seed: u64) -> Self {
        let mut draw = StdRng::seed_from_u64(seed);
        Self {
            seed,
            payments: draw.random_range(12..32),
            rounds: draw.random_range(10..18),
            session: draw.random_range(3..9),
            voices: *[1, 3, 8, 24].choose(&mut draw).expect("a few"),
            checkpoint: *[(6, 1 << 14), (20, 1 << 16), (40, 1 << 30), (1_000_000, 1 << 30)]
                .choose(&mut draw)
                .expect("a few"),
        }
    }

    pub fn options(&self, medium: Arc<dyn Medium>) -> Options {
        Options {
            low_water_bytes: 0,
            reserve_bytes: 4_096,
            poll_every: Duration::from_secs(3_600),
            checkpoint_writes: self.checkpoint.0,
            long_log_bytes: self.checkpoint.1,
            medium,
            ..Options::default()
        }
    }
}

/// Plays the score on a store in `dir`. `around` is told of each round before it begins.
pub fn play(
    dir: &Path,
    stage: &Arc<Stage>,
    medium: &Arc<dyn Medium>,
    score: Score,
    around: impl Fn(usize),
) -> Log {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    // A disk that fails while the journal is opened is refused, and opened again.
    let open = || {
        let mut tries = (0..4).map(|_| SqliteStore::open(dir, score.options(Arc::clone(medium))));
        tries.find_map(Result::ok).expect("it opens at last")
    };
    let mut store: Option<Arc<dyn Store>> = None;
    let mut plan = Plan::new(score);
    for round in 0..score.rounds {
        around(round);
        let is_closed = |s: &Arc<dyn Store>| matches!(s.health(), Health::Failed(_));
        if round.is_multiple_of(score.session) || store.as_ref().is_some_and(is_closed) {
            // The files are closed before they are opened again.
            drop(store.take());
        }
        let store = Arc::clone(store.get_or_insert_with(|| Arc::new(open())));
        let voices = plan.round();
        let log = Arc::new(std::mem::take(&mut plan.log));
        runtime.block_on(sing(&store, stage, &log, voices));
        plan.log = Arc::into_inner(log).expect("everybody has ended");
    }
    let mut log = plan.log;
    let mut store = store.expect("there was a round");
    if matches!(store.health(), Health::Failed(_)) {
        drop(store);
        store = Arc::new(open());
    }
    log.order = Some(runtime.block_on(order_of(&*store)));
    log
}

/// All voices of a round at once, and one that only looks: what it sees must stay, too.
async fn sing(store: &Arc<dyn Store>, stage: &Arc<Stage>, log: &Arc<Log>, voices: Vec<Vec<usize>>) {
    let payments: BTreeSet<String> = voices
        .iter()
        .flatten()
        .filter_map(|work| match &log.works[*work] {
            Work::Write(write) => Some(write.payment.clone()),
            _ => None,
        })
        .collect();
    let ended = Arc::new(AtomicBool::new(false));
    let looks = {
        let (store, stage, log) = (Arc::clone(store), Arc::clone(stage), Arc::clone(log));
        let ended = Arc::clone(&ended);
        tokio::spawn(async move {
            while !ended.load(Ordering::Acquire) {
                for id in &payments {
                    let seen = store.payment(id).await;
                    if let Ok(Some(row)) = seen {
                        stage.acknowledged(log.by_version[&(row.id, row.ver)]);
                    }
                }
            }
        })
    };
    let sung: Vec<_> = voices
        .into_iter()
        .map(|works| {
            let (store, stage, log) = (Arc::clone(store), Arc::clone(stage), Arc::clone(log));
            tokio::spawn(async move {
                for work in works {
                    ask(&*store, &stage, &log, work).await;
                }
            })
        })
        .collect();
    for voice in sung {
        voice.await.expect("no voice fails");
    }
    ended.store(true, Ordering::Release);
    looks.await.expect("looking does not fail");
}

/// Asks for one piece of work until it is known to be done (or refused, where it must be).
async fn ask(store: &dyn Store, stage: &Stage, log: &Log, work: usize) {
    for _ in 0..1_000 {
        stage.begun(work);
        let answer = once(store, &log.works[work]).await;
        match answer {
            Ok(Some(Committed::Done) | None) => return stage.acknowledged(work),
            Ok(Some(_)) => {
                let Work::Write(write) = &log.works[work] else { return };
                let is_there = log.by_version.get(&(write.payment.clone(), write.next));
                // After an unknown end the second try meets the first.
                let ours = store.payment(&write.payment).await;
                let ver = ours.ok().flatten().map(|row| row.ver);
                if is_there == Some(&work) && ver == Some(write.next) {
                    stage.acknowledged(work);
                }
                return;
            }
            // It stays closed: the next round begins with a start of the node.
            Err(_) if matches!(store.health(), Health::Failed(_)) => return,
            Err(StoreError::Failed { .. } | StoreError::Busy) => tokio::task::yield_now().await,
            Err(other) => unreachable!("nothing is full or damaged here: {other}"),
        }
    }
    unreachable!("the store never came back")
}

/// Asks once.
pub async fn once(store: &dyn Store, work: &Work) -> Result<Option<Committed>, StoreError> {
    match work {
        Work::Write(write) => store.commit((**write).clone()).await.map(Some),
        Work::Notice(notice) => store.keep_notice(notice.clone()).await.map(|_| None),
        Work::Setting(value) => {
            store.settings_put("clock", value.to_be_bytes().to_vec()).await.map(|()| None)
        }
        Work::Delivered { payment, seq } => {
            store.outbox_told(payment, *seq, Told::Delivered).await.map(|()| None)
        }
    }
}

async fn order_of(store: &dyn Store) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    let mut after = 0;
    loop {
        let events = store.events(after, 1_000).await.expect("the timeline can be read");
        let Some((last, _)) = events.last() else { return order };
        after = *last;
        for (_, event) in events {
            let work = work_of(&event);
            if order.last() != Some(&work) {
                order.push(work);
            }
        }
    }
}

/// Each event says which write brought it.
pub fn work_of(event: &EventRow) -> usize {
    event.detail.as_deref().and_then(|text| text.parse().ok()).expect("the number of a write")
}

/// Makes up what happens next.
struct Plan {
    score: Score,
    draw: StdRng,
    log: Log,
    versions: Vec<u64>,
    clock: u64,
}

impl Plan {
    fn new(score: Score) -> Self {
        Self {
            score,
            draw: StdRng::seed_from_u64(score.seed ^ 0x5eed),
            log: Log::default(),
            versions: vec![0; score.payments],
            clock: 0,
        }
    }

    /// The works of one round: in each voice one after the other, the voices at once.
    fn round(&mut self) -> Vec<Vec<usize>> {
        let mut voices = Vec::new();
        let all: Vec<usize> = (0..self.score.payments).collect();
        let chosen: Vec<usize> =
            all.choose_multiple(&mut self.draw, self.score.voices).copied().collect();
        for payment in chosen {
            let mut works = Vec::new();
            for _ in 0..self.draw.random_range(1..3) {
                works.push(self.next_version(payment));
                if self.draw.random_bool(0.2) {
                    works.push(self.stale(payment));
                }
            }
            if self.draw.random_bool(0.3) {
                let seq = self.draw.random_range(1..=self.versions[payment]);
                works.push(self.add(Work::Delivered { payment: id(payment), seq }));
            }
            voices.push(works);
        }
        self.clock += 1;
        voices.push(vec![self.add(Work::Setting(self.clock))]);
        if self.draw.random_bool(0.5) {
            let event_id = format!("stranger-{}", self.clock);
            let digest = vec![9; self.draw.random_range(1..40)];
            let notice = NoticeRow { account: "a".into(), event_id, digest, ..Default::default() };
            voices.push(vec![self.add(Work::Notice(notice))]);
        }
        voices
    }

    fn add(&mut self, work: Work) -> usize {
        self.log.works.push(work);
        self.log.works.len() - 1
    }

    fn next_version(&mut self, payment: usize) -> usize {
        self.versions[payment] += 1;
        let ver = self.versions[payment];
        let work = self.log.works.len();
        let size = *[40, 300, 1_500, 9_000].choose(&mut self.draw).expect("a few");
        let write = version(payment, ver, work, size);
        self.log.by_version.insert((id(payment), ver), work);
        self.add(Work::Write(Box::new(write)))
    }

    /// A write that was decided from an old version: nothing of it may be left.
    fn stale(&mut self, payment: usize) -> usize {
        let ver = self.versions[payment];
        let work = self.log.works.len();
        let mut write = version(payment, ver, work, 300);
        let key = format!("stale-{work}");
        write.keys = vec![key_row(&key, &write.payment)];
        self.log.refused_keys.insert(key);
        self.add(Work::Write(Box::new(write)))
    }
}

/// The name of a payment.
pub fn id(payment: usize) -> String {
    format!("pay-{payment:04}")
}

pub fn key_row(key: &str, payment: &str) -> KeyRow {
    KeyRow {
        merchant: "m".into(),
        path: "/v1/payments".into(),
        key: key.into(),
        fingerprint: key.as_bytes().to_vec(),
        fingerprint_key: "f".into(),
        payment: payment.into(),
        ..KeyRow::default()
    }
}

/// A payment's version, with every kind of row that a write can bring.
pub fn version(payment: usize, ver: u64, work: usize, size: usize) -> Write {
    let id = id(payment);
    let text = format!("{id} version {ver} work {work} ");
    let body = text.bytes().cycle().take(size).collect();
    let order_name = format!("order-{}", payment);
    let event = |seq| EventRow {
        payment: id.clone(),
        seq,
        at_ms: work as i64,
        actor: "test".into(),
        what: "moved".into(),
        detail: Some(work.to_string()),
        ..EventRow::default()
    };
    let reference =
        Reference { account: "a".into(), reference: format!("{id}-{ver}"), payment: id.clone() };
    let answer = Answer {
        merchant: "m".into(),
        path: "/v1/payments".into(),
        key: format!("key-{id}"),
        status: 201,
        body: text.clone().into_bytes(),
    };
    let notice = NoticeRow {
        account: "a".into(),
        event_id: format!("{id}-{ver}"),
        payment: Some(id.clone()),
        digest: vec![7; 32],
        applied: true,
        ..NoticeRow::default()
    };
    let message = OutboxRow {
        payment: id.clone(),
        seq: ver,
        at_ms: work as i64,
        id: format!("evt-{id}-{ver}"),
        kind: "payment".into(),
        body: text.into_bytes(),
    };
    Write {
        payment: id.clone(),
        merchant: "m".into(),
        expect: ver - 1,
        next: ver,
        due_at_ms: (!ver.is_multiple_of(3)).then_some(1_000 + work as i64),
        created_ms: payment as i64,
        status: if ver.is_multiple_of(3) { "succeeded" } else { "processing" }.into(),
        in_doubt: ver % 3 == 2,
        account: Some("a".into()),
        amount: 100 + payment as i64,
        currency: "EUR".into(),
        merchant_ref: Some(order_name.clone()),
        body,
        keys: if ver == 1 { vec![key_row(&format!("key-{id}"), &id)] } else { Vec::new() },
        answers: if ver == 2 { vec![answer] } else { Vec::new() },
        references: vec![reference],
        operations: if ver.is_multiple_of(2) { vec![format!("op-{id}-{ver}")] } else { Vec::new() },
        order: match ver % 4 {
            1 => OrderChange::Claim { merchant_ref: order_name },
            3 => OrderChange::Release { merchant_ref: order_name },
            _ => OrderChange::None,
        },
        notices: if ver % 2 == 1 { vec![notice] } else { Vec::new() },
        events: if ver.is_multiple_of(2) {
            vec![event(2 * ver), event(2 * ver + 1)]
        } else {
            vec![event(2 * ver)]
        },
        outbox: vec![message],
        purpose: if ver == 1 { Purpose::Intake } else { Purpose::Outcome },
    }
}
