//! The simulated store: the journal's own suite, then crashes at every moment against a plain map.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use interlock_journal::conformance::{self, Ground};
use interlock_journal::{Purpose, Store};
use interlock_simulation::store::face::Face;
use interlock_simulation::store::{
    Answer, Book, Key, Notice, OrderChange, Refusal, Rows, Simulated, Space, Task, Transaction,
    Verdict,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_store_passes_the_journals_suite() {
    conformance::suite(&Simulation::default()).await;
}

#[test]
fn whatever_crashes_the_acknowledged_is_there_and_each_write_is_whole_or_absent() {
    let mut seen = Seen::default();
    for seed in 0..3_000 {
        let told = World::new(seed, false).run(&mut seen);
        assert_eq!(told, Ok(()), "seed {seed}");
    }
    // A run that met only half of the cases would prove half.
    let Seen { whole, parts, nothing, verdicts, restored } = seen;
    assert!(whole > 1_000 && parts > 1_000 && nothing > 1_000, "{whole} {parts} {nothing}");
    assert!(restored > 100, "{restored}");
    let expected = [
        "conflict",
        "done",
        "failed",
        "full",
        "key taken",
        "low disk",
        "notice seen",
        "order taken",
        "reference taken",
        "unfit",
    ];
    assert_eq!(verdicts.keys().copied().collect::<Vec<_>>(), expected);
    assert!(verdicts.values().all(|count| *count > 100), "{verdicts:?}");
}

#[test]
fn a_store_that_acknowledges_before_the_sync_is_found_out() {
    let found = (0..100).filter(|seed| {
        let told = World::new(*seed, true).run(&mut Seen::default());
        told.is_err_and(|lost| lost == "something acknowledged is lost")
    });
    assert!(found.count() > 50);
}

#[test]
#[ignore = "a measurement, for a release build"]
fn what_a_transaction_costs() {
    for batch in [1, 4, 16] {
        let before = on_cpu_ns();
        let transactions: u32 = (0..4_000).map(|_| one_world_of_payments(batch)).sum();
        let each = (on_cpu_ns() - before) / u64::from(transactions);
        eprintln!("batches of {batch}: {each} ns for each of {transactions} transactions");
        assert!(each < 1_000);
    }
}

/// Gives out the simulated store, and lets no reopening pass without a crash of the worst kind.
#[derive(Default)]
struct Simulation(Mutex<Option<Arc<Face>>>);

#[async_trait]
impl Ground for Simulation {
    async fn empty(&self) -> Arc<dyn Store> {
        let face = Arc::new(Face::default());
        *self.0.lock().unwrap() = Some(Arc::clone(&face));
        face
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        let face = self.0.lock().unwrap().clone().unwrap();
        {
            let mut inside = face.inside();
            inside.kill(&mut |_| 0);
            inside.lose_power(&mut |_| 0);
            inside.reopen();
        }
        face
    }
}

/// The smallest rows that can be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Small;

impl Rows for Small {
    type Id = u8;
    type Name = u8;
    type Payment = u64;
    type Key = u64;
    type Answer = u64;
    type Notice = u64;
    type Event = u64;
    type Message = u64;
    type Told = u64;
    type Setting = u64;

    fn tell(message: &mut u64, told: &u64) {
        *message ^= told;
    }
}

/// What the crashes of a run left, so that a test can tell that it met every case.
#[derive(Default)]
struct Seen {
    whole: u64,
    parts: u64,
    nothing: u64,
    restored: u64,
    verdicts: BTreeMap<&'static str, u64>,
}

/// A store, and the plain map that says what it must be.
struct World {
    random: Random,
    store: Simulated<Small, u64>,
    early: bool,
    stamp: u64,
    /// What is durable.
    plain: Plain,
    queue: Vec<(Task<Small>, u64)>,
    /// The batch whose sync runs: what each caller must hear, and what is true after its write.
    flight: Option<Vec<(u64, Answer<Small>, Plain)>>,
}

impl World {
    fn new(seed: u64, early: bool) -> Self {
        let mut store = Simulated::default();
        if early {
            store.acknowledge_early();
        }
        let random = Random(seed);
        let (plain, queue, flight) = (Plain::default(), Vec::new(), None);
        Self { random, store, early, stamp: 0, plain, queue, flight }
    }

    fn run(mut self, seen: &mut Seen) -> Result<(), &'static str> {
        for _ in 0..200 {
            match self.random.below(24) {
                0..12 => self.stage(seen),
                12..17 => self.begin(),
                17..21 => self.end(seen),
                21 => self.set_space(),
                22 => self.crash(seen)?,
                _ if self.random.below(4) == 0 => self.restore(seen),
                _ => {}
            }
        }
        Ok(())
    }

    fn stage(&mut self, seen: &mut Seen) {
        self.stamp += 1;
        let task = any_task(&mut self.random, &self.plain, self.stamp);
        let is_intake = matches!(&task, Task::Write(write) if write.purpose == Purpose::Intake);
        let refused = is_intake && self.store.space() != Space::Plenty;
        let staged = self.store.stage(task.clone(), self.stamp);
        if refused {
            assert_eq!(staged, Err(Refusal::LowDisk));
            *seen.verdicts.entry("low disk").or_default() += 1;
        } else {
            assert_eq!(staged, Ok(()));
            self.queue.push((task, self.stamp));
        }
    }

    fn begin(&mut self) {
        let mut heard = Vec::new();
        let begun = self.store.begin_sync(&mut heard);
        assert_eq!(begun, self.flight.is_none() && !self.queue.is_empty());
        if begun {
            let mut now = self.plain.clone();
            let mut flight = Vec::new();
            for (task, caller) in self.queue.drain(..) {
                let answer = now.judge(&task, self.store.space());
                flight.push((caller, answer, now.clone()));
            }
            if self.early {
                assert_eq!(heard, answers(&flight));
                heard.clear();
            }
            self.flight = Some(flight);
        }
        assert_eq!(heard, []);
        self.compare();
    }

    fn end(&mut self, seen: &mut Seen) {
        let mut heard = Vec::new();
        self.store.end_sync(&mut heard);
        if let Some(mut flight) = self.flight.take() {
            let expected = if self.early { Vec::new() } else { answers(&flight) };
            assert_eq!(heard, expected);
            for (_, answer) in &heard {
                *seen.verdicts.entry(word(answer)).or_default() += 1;
            }
            if let Some((.., last)) = flight.pop() {
                self.plain = last;
            }
        }
        self.compare();
    }

    fn crash(&mut self, seen: &mut Seen) -> Result<(), &'static str> {
        let Self { random, store, .. } = self;
        let mut heard = Vec::new();
        let kind = random.below(4);
        match kind {
            0 => store.fail_sync(&mut |below| random.below(below), &mut heard),
            1 => store.kill(&mut |below| random.below(below)),
            2 => store.lose_power(&mut |below| random.below(below)),
            _ => {
                store.kill(&mut |below| random.below(below));
                store.lose_power(&mut |below| random.below(below));
            }
        }
        if store.is_open() {
            assert_eq!(self.flight, None, "only a sync that does not run cannot fail");
            return Ok(());
        }
        assert!(store.book().is_none());
        assert!(!store.begin_sync(&mut Vec::new()), "a closed handle syncs nothing");
        if kind > 0 {
            self.queue.clear(); // the process is dead
        }
        assert_eq!(store.queued(), self.queue.len());
        store.reopen();
        let flight = self.flight.take().unwrap_or_default();
        if !heard.is_empty() {
            let unknown = flight.iter().map(|(caller, ..)| (*caller, Err(Refusal::Failed)));
            assert_eq!(heard, unknown.collect::<Vec<_>>());
            *seen.verdicts.entry("failed").or_default() += 1;
        }
        let kept = Plain::read(store.book().unwrap());
        let states: Vec<Plain> =
            [self.plain.clone()].into_iter().chain(flight.into_iter().map(|f| f.2)).collect();
        let Some(survived) = states.iter().rposition(|state| *state == kept) else {
            return Err("what is left is no prefix of the log");
        };
        let first_of_all = states.iter().position(|state| state == states.last().unwrap()).unwrap();
        match survived {
            _ if first_of_all == 0 => {}
            0 => seen.nothing += 1,
            n if n < first_of_all => seen.parts += 1,
            _ => seen.whole += 1,
        }
        if self.early && survived < first_of_all {
            return Err("something acknowledged is lost");
        }
        self.plain = kept;
        self.compare();
        Ok(())
    }

    /// A backup is taken, work goes on, the disk is lost.
    fn restore(&mut self, seen: &mut Seen) {
        let backup = self.store.backup();
        let then = self.plain.clone();
        for _ in 0..5 {
            self.stage(seen);
            self.begin();
            self.end(seen);
        }
        self.stage(seen);
        self.begin();
        self.store.restore(&backup);
        assert!(!self.store.is_open());
        self.store.reopen();
        (self.plain, self.flight) = (then, None);
        self.queue.clear();
        seen.restored += 1;
        self.compare();
    }

    fn set_space(&mut self) {
        let spaces = [Space::Plenty, Space::Plenty, Space::Low, Space::Reserve, Space::Full];
        self.store.set_space(spaces[self.random.below(5) as usize]);
    }

    /// Readers see what is durable, and only that.
    fn compare(&self) {
        let shown = match &self.flight {
            Some(flight) if self.early => flight.last().map_or(&self.plain, |(.., last)| last),
            _ => &self.plain,
        };
        assert_eq!(Plain::read(self.store.book().unwrap()), *shown);
    }
}

fn answers(flight: &[(u64, Answer<Small>, Plain)]) -> Vec<(u64, Answer<Small>)> {
    flight.iter().map(|(caller, answer, _)| (*caller, answer.clone())).collect()
}

fn word(answer: &Answer<Small>) -> &'static str {
    match answer {
        Ok(Verdict::Done) => "done",
        Ok(Verdict::Conflict { .. }) => "conflict",
        Ok(Verdict::KeyTaken(_)) => "key taken",
        Ok(Verdict::NoticeSeen) => "notice seen",
        Ok(Verdict::OrderTaken(_)) => "order taken",
        Ok(Verdict::ReferenceTaken(_)) => "reference taken",
        Err(Refusal::LowDisk) => "low disk",
        Err(Refusal::Full) => "full",
        Err(Refusal::Busy) => "busy",
        Err(Refusal::Unfit) => "unfit",
        Err(Refusal::Failed) => "failed",
    }
}

const IDS: u8 = 4;
const NAMES: u8 = 8;

/// What a store is, in the plainest words; a refused write is a copy thrown away.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plain {
    payments: BTreeMap<u8, (u64, Option<i64>, u64)>,
    keys: BTreeMap<u8, Key<Small>>,
    references: BTreeMap<u8, u8>,
    operations: BTreeMap<u8, u8>,
    orders: BTreeMap<u8, u8>,
    notices: BTreeMap<u8, Notice<Small>>,
    settings: BTreeMap<u8, u64>,
    messages: BTreeMap<(u8, u64), u64>,
    places: Vec<(u8, u64)>,
    events: Vec<(u8, u64, u64)>,
}

impl Plain {
    /// Everything that can be read, with what one table says of another compared.
    fn read(book: &Book<Small>) -> Self {
        let mut plain = Self::default();
        plain.events.extend_from_slice(book.events());
        plain.places.extend_from_slice(book.places());
        let mut due = Vec::new();
        for id in 0..IDS {
            if let Some(version) = book.payment(&id) {
                plain.payments.insert(id, (version.ver, version.due_ms, version.row));
                due.extend(version.due_ms.map(|due_ms| (due_ms, id)));
            }
            plain.messages.extend(book.messages(&id).map(|(seq, m)| ((id, seq), *m)));
            let of_one = plain.events.iter().filter(|(payment, ..)| *payment == id);
            let mut timeline: Vec<_> = of_one.map(|(_, seq, event)| (*seq, event)).collect();
            timeline.sort();
            assert_eq!(book.timeline(&id).collect::<Vec<_>>(), timeline);
        }
        due.sort();
        assert_eq!(book.due().map(|(due_ms, id)| (due_ms, *id)).collect::<Vec<_>>(), due);
        assert_eq!(book.next_due(), due.first().map(|(due_ms, _)| *due_ms));
        assert_eq!(book.payments().count(), plain.payments.len());
        for name in 0..NAMES {
            let Plain { keys, references, operations, orders, notices, settings, .. } = &mut plain;
            keys.extend(book.key(&name).map(|key| (name, key.clone())));
            references.extend(book.reference(&name).map(|id| (name, *id)));
            operations.extend(book.operation(&name).map(|id| (name, *id)));
            orders.extend(book.order(&name).map(|id| (name, *id)));
            notices.extend(book.notice(&name).map(|notice| (name, notice.clone())));
            settings.extend(book.setting(&name).map(|setting| (name, *setting)));
        }
        plain
    }

    fn judge(&mut self, task: &Task<Small>, space: Space) -> Answer<Small> {
        let is_intake = matches!(task, Task::Write(write) if write.purpose == Purpose::Intake);
        if space == Space::Full || space == Space::Reserve && is_intake {
            return Err(Refusal::Full);
        }
        let mut next = self.clone();
        let answer = match task {
            Task::Write(write) => next.write(write),
            Task::KeepNotice(notice) if next.notices.contains_key(&notice.name) => {
                Ok(Verdict::NoticeSeen)
            }
            Task::KeepNotice(notice) => {
                next.notices.insert(notice.name, notice.clone());
                Ok(Verdict::Done)
            }
            Task::Set(name, value) => {
                next.settings.insert(*name, *value);
                Ok(Verdict::Done)
            }
            Task::Tell(id, seq, told) => {
                if let Some(message) = next.messages.get_mut(&(*id, *seq)) {
                    *message ^= told;
                }
                Ok(Verdict::Done)
            }
        };
        if answer == Ok(Verdict::Done) {
            *self = next;
        }
        answer
    }

    fn write(&mut self, write: &Transaction<Small>) -> Answer<Small> {
        let id = write.payment;
        for (name, key) in &write.keys {
            if let Some(taken) = self.keys.get(name) {
                return Ok(Verdict::KeyTaken(taken.clone()));
            }
            self.keys.insert(*name, key.clone());
        }
        for notice in &write.notices {
            match self.notices.get(&notice.name) {
                Some(there) if there.applied || !notice.applied => return Ok(Verdict::NoticeSeen),
                _ => self.notices.insert(notice.name, notice.clone()),
            };
        }
        let ver = self.payments.get(&id).map(|there| there.0);
        if ver.unwrap_or(0) != write.expect {
            return Ok(Verdict::Conflict { ver });
        }
        self.payments.insert(id, (write.expect + 1, write.due_ms, write.row));
        let holder = |order| self.orders.get(order).copied().filter(|holder| *holder != id);
        let taken = match &write.order {
            OrderChange::None => None,
            OrderChange::Claim(order) => holder(order),
            OrderChange::Release(order) if self.orders.get(order) == Some(&id) => {
                self.orders.remove(order);
                None
            }
            OrderChange::Release(_) => None,
            OrderChange::TakeOver { order, from } if self.orders.contains_key(order) => {
                holder(order).filter(|holder| holder != from)
            }
            OrderChange::TakeOver { from, .. } => Some(*from),
        };
        if let Some(holder) = taken {
            return Ok(Verdict::OrderTaken(holder));
        }
        if let OrderChange::Claim(order) | OrderChange::TakeOver { order, .. } = &write.order {
            self.orders.insert(*order, id);
        }
        let operations = write.operations.iter().map(|name| (*name, id));
        for (table, rows) in [
            (&mut self.references, write.references.clone()),
            (&mut self.operations, operations.collect()),
        ] {
            for (name, owner) in rows {
                let there = *table.entry(name).or_insert(owner);
                if there != owner {
                    return Ok(Verdict::ReferenceTaken(there));
                }
            }
        }
        for (name, answer) in &write.answers {
            if let Some(key) = self.keys.get_mut(name) {
                key.answer.get_or_insert(*answer);
            }
        }
        for (seq, event) in &write.events {
            if self.events.iter().any(|(payment, there, _)| (*payment, *there) == (id, *seq)) {
                return Err(Refusal::Unfit);
            }
            self.events.push((id, *seq, *event));
        }
        for (seq, message) in &write.messages {
            if self.messages.insert((id, *seq), *message).is_some() {
                return Err(Refusal::Unfit);
            }
            self.places.push((id, *seq));
        }
        Ok(Verdict::Done)
    }
}

/// A task that is likely, not certain, to be done.
fn any_task(random: &mut Random, plain: &Plain, stamp: u64) -> Task<Small> {
    let id = random.below(IDS.into()) as u8;
    let name = |random: &mut Random| random.below(NAMES.into()) as u8;
    let notice = |random: &mut Random| Notice {
        name: name(random),
        applied: random.below(2) == 0,
        notice: stamp,
    };
    match random.below(16) {
        0 => return Task::KeepNotice(notice(random)),
        1 => return Task::Set(name(random), stamp),
        2 => {
            let last = plain.messages.range((id, 0)..=(id, u64::MAX)).next_back();
            let seq = last.map_or(0, |((_, seq), _)| *seq);
            return Task::Tell(id, seq, stamp);
        }
        _ => {}
    }
    let ver = plain.payments.get(&id).map_or(0, |there| there.0);
    // Now and then the version that a write before it in the same batch makes, or a stale one.
    let expect = (ver + random.below(5) / 3).saturating_sub(random.below(8) / 7);
    let due_ms = (random.below(3) > 0).then(|| random.below(9) as i64);
    let mut write = Transaction::new(id, expect, stamp, due_ms);
    write.bytes = 1 + random.below(3_000) as u32;
    if random.below(4) == 0 {
        write.purpose = Purpose::Intake;
    }
    for _ in 0..random.below(3) {
        match random.below(8) {
            0 => {
                let answer = (random.below(2) == 0).then_some(stamp);
                write.keys.push((name(random), Key { stands_for: stamp, answer }));
            }
            1 => write.notices.push(notice(random)),
            2 => write.references.push((name(random), id)),
            3 => write.operations.push(name(random)),
            4 => write.answers.push((name(random), stamp)),
            5 => write.events.push((stamp - random.below(16) / 15, stamp)),
            6 => write.messages.push((stamp - random.below(16) / 15, stamp)),
            _ => {
                let (order, from) = (name(random), random.below(IDS.into()) as u8);
                write.order = match random.below(4) {
                    0 => OrderChange::Release(order),
                    1 => OrderChange::TakeOver { order, from },
                    _ => OrderChange::Claim(order),
                };
            }
        }
    }
    write.into()
}

/// What this thread has had of a processor, whoever shares it.
fn on_cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

/// Rows of about the weight of the simulator's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heavy;

impl Rows for Heavy {
    type Id = u32;
    type Name = Rc<str>;
    type Payment = Rc<[u64; 64]>;
    type Key = u32;
    type Answer = u16;
    type Notice = u32;
    type Event = ();
    type Message = ();
    type Told = ();
    type Setting = i64;
}

/// 64 payments of eight versions each, with the rows that a payment brings: how many writes.
fn one_world_of_payments(batch: u32) -> u32 {
    const PAYMENTS: u32 = 64;
    let names: Vec<Rc<str>> =
        (0..PAYMENTS).map(|id| format!("a-reference-{id:020}").into()).collect();
    let row = Rc::new([0; 64]);
    let mut store: Simulated<Heavy, u32> = Simulated::default();
    let mut heard = Vec::new();
    let mut done = 0;
    for expect in 0..8 {
        for id in 0..PAYMENTS {
            let name = || names[id as usize].clone();
            let due_ms = (expect < 7).then_some(i64::from(id) * 37 % 1_000 + expect as i64);
            let mut write = Transaction::new(id, expect, Rc::clone(&row), due_ms);
            match expect {
                0 => {
                    write.keys.push((name(), Key { stands_for: id, answer: None }));
                    write.references.push((name(), id));
                    write.order = OrderChange::Claim(name());
                }
                3 => write.notices.push(Notice { name: name(), applied: true, notice: id }),
                7 => {
                    write.answers.push((name(), 201));
                    write.order = OrderChange::Release(name());
                }
                _ => {}
            }
            assert_eq!(store.stage(write, id), Ok(()));
            if (id + 1) % batch == 0 {
                store.begin_sync(&mut heard);
                store.end_sync(&mut heard);
                done += heard.drain(..).filter(|(_, a)| *a == Ok(Verdict::Done)).count() as u32;
            }
        }
    }
    assert_eq!(done, 8 * PAYMENTS);
    done
}

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
