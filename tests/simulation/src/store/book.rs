//! What is true: the tables, how they are read, and how what was not yet synced is undone.
//!
//! The tables hold everything that was judged, so that the next write of a batch is judged against
//! the ones before it. What they held before is kept until the sync has returned: it is what
//! readers see meanwhile, what a refused write leaves, and what a crash falls back to. A world of
//! the simulator is small and a batch is smaller, so a reader looks through the whole batch.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::transaction::{Key, Notice, Rows};

/// A payment at its latest version.
#[derive(Clone, Debug, PartialEq)]
pub struct Version<R: Rows> {
    /// Its version, 1 for the first.
    pub ver: u64,
    /// When somebody must look at it again, Unix ms.
    pub due_ms: Option<i64>,
    /// What was written.
    pub row: R::Payment,
}

/// Every table of one store.
#[derive(Clone, Debug)]
pub struct Book<R: Rows> {
    pub(super) payments: FxHashMap<R::Id, Version<R>>,
    pub(super) keys: FxHashMap<R::Name, Key<R>>,
    pub(super) references: FxHashMap<R::Name, R::Id>,
    pub(super) operations: FxHashMap<R::Name, R::Id>,
    pub(super) orders: FxHashMap<R::Name, R::Id>,
    pub(super) notices: FxHashMap<R::Name, Notice<R>>,
    pub(super) settings: FxHashMap<R::Name, R::Setting>,
    pub(super) messages: BTreeMap<(R::Id, u64), R::Message>,
    /// Where the messages are, in the order of their commits.
    pub(super) places: Vec<(R::Id, u64)>,
    pub(super) timelines: BTreeMap<(R::Id, u64), usize>,
    pub(super) events: Vec<(R::Id, u64, R::Event)>,
    /// What each change since the last sync replaced, in the order of the changes.
    pub(super) undo: Vec<Undo<R>>,
    /// How many of those changes readers see.
    shown: usize,
    /// As readers see it: nothing is judged by it.
    due: BTreeSet<(i64, R::Id)>,
    /// How many events readers see.
    events_shown: usize,
    /// How many messages readers see.
    places_shown: usize,
}

/// What a change replaced; `None` where there was nothing.
#[derive(Clone, Debug)]
pub(super) enum Undo<R: Rows> {
    Payment(R::Id, Option<Version<R>>),
    Key(R::Name, Option<Key<R>>),
    Reference(R::Name),
    Operation(R::Name),
    Order(R::Name, Option<R::Id>),
    Notice(R::Name, Option<Notice<R>>),
    Setting(R::Name, Option<R::Setting>),
    Message((R::Id, u64), Option<R::Message>),
    Event,
}

impl<R: Rows> Default for Book<R> {
    fn default() -> Self {
        Self {
            payments: FxHashMap::default(),
            keys: FxHashMap::default(),
            references: FxHashMap::default(),
            operations: FxHashMap::default(),
            orders: FxHashMap::default(),
            notices: FxHashMap::default(),
            settings: FxHashMap::default(),
            messages: BTreeMap::new(),
            places: Vec::new(),
            timelines: BTreeMap::new(),
            events: Vec::new(),
            undo: Vec::new(),
            shown: 0,
            due: BTreeSet::new(),
            events_shown: 0,
            places_shown: 0,
        }
    }
}

impl<R: Rows> Book<R> {
    /// The payment's latest version.
    pub fn payment(&self, id: &R::Id) -> Option<&Version<R>> {
        self.seen(self.payments.get(id), |undo| match undo {
            Undo::Payment(changed, before) if changed == id => Some(before.as_ref()),
            _ => None,
        })
    }

    /// All payments. Their order means nothing, but is the same after the same writes.
    pub fn payments(&self) -> impl Iterator<Item = (&R::Id, &Version<R>)> {
        self.payments.keys().filter_map(|id| Some((id, self.payment(id)?)))
    }

    /// What a key stands for.
    pub fn key(&self, name: &R::Name) -> Option<&Key<R>> {
        self.seen(self.keys.get(name), |undo| match undo {
            Undo::Key(changed, before) if changed == name => Some(before.as_ref()),
            _ => None,
        })
    }

    /// The payment that a reference leads to.
    pub fn reference(&self, name: &R::Name) -> Option<&R::Id> {
        self.seen(self.references.get(name), |undo| match undo {
            Undo::Reference(taken) if taken == name => Some(None),
            _ => None,
        })
    }

    /// The payment that an operation belongs to.
    pub fn operation(&self, name: &R::Name) -> Option<&R::Id> {
        self.seen(self.operations.get(name), |undo| match undo {
            Undo::Operation(taken) if taken == name => Some(None),
            _ => None,
        })
    }

    /// The payment that holds an order.
    pub fn order(&self, name: &R::Name) -> Option<&R::Id> {
        self.seen(self.orders.get(name), |undo| match undo {
            Undo::Order(changed, before) if changed == name => Some(before.as_ref()),
            _ => None,
        })
    }

    /// A notice that was stored, applied or not.
    pub fn notice(&self, name: &R::Name) -> Option<&Notice<R>> {
        self.seen(self.notices.get(name), |undo| match undo {
            Undo::Notice(changed, before) if changed == name => Some(before.as_ref()),
            _ => None,
        })
    }

    /// A named value of the node.
    pub fn setting(&self, name: &R::Name) -> Option<&R::Setting> {
        self.seen(self.settings.get(name), |undo| match undo {
            Undo::Setting(changed, before) if changed == name => Some(before.as_ref()),
            _ => None,
        })
    }

    /// Payments with a due time (Unix ms), earliest first. All of them, unless the caller stops.
    pub fn due(&self) -> impl Iterator<Item = (i64, &R::Id)> {
        self.due.iter().map(|(due_ms, id)| (*due_ms, id))
    }

    /// The earliest due time of all, Unix ms.
    pub fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// All timeline lines in the order of their commits: payment, number, line. They are only
    /// ever added at the end.
    pub fn events(&self) -> &[(R::Id, u64, R::Event)] {
        &self.events[..self.events_shown]
    }

    /// One payment's timeline, in the order of the lines' numbers.
    pub fn timeline(&self, id: &R::Id) -> impl Iterator<Item = (u64, &R::Event)> + use<'_, R> {
        let of_one = self.timelines.range((id.clone(), 0)..=(id.clone(), u64::MAX));
        of_one.filter_map(|((_, seq), at)| Some((*seq, &self.events().get(*at)?.2)))
    }

    /// All messages in the order of their commits: payment and number. They are only ever added
    /// at the end.
    pub fn places(&self) -> &[(R::Id, u64)] {
        &self.places[..self.places_shown]
    }

    /// A payment's messages to its merchant, in the order of the messages' numbers.
    pub fn messages(&self, id: &R::Id) -> impl Iterator<Item = (u64, &R::Message)> + use<'_, R> {
        let of_one = self.messages.range((id.clone(), 0)..=(id.clone(), u64::MAX));
        let mut seen: BTreeMap<u64, &R::Message> =
            of_one.map(|((_, seq), message)| (*seq, message)).collect();
        for undo in self.undo[self.shown..].iter().rev() {
            match undo {
                Undo::Message((changed, seq), Some(before)) if changed == id => {
                    seen.insert(*seq, before);
                }
                Undo::Message((changed, seq), None) if changed == id => {
                    seen.remove(seq);
                }
                _ => {}
            }
        }
        seen.into_iter()
    }

    /// How many changes were made since the last sync.
    pub(super) fn changes(&self) -> usize {
        self.undo.len()
    }

    /// Lets readers see everything that was judged. It can still be undone.
    pub(super) fn show(&mut self) {
        for undo in &self.undo[self.shown..] {
            if let Undo::Payment(id, before) = undo {
                let now = self.payments.get(id);
                plan(&mut self.due, id, due_of(before.as_ref()), due_of(now));
            }
        }
        self.shown = self.undo.len();
        self.events_shown = self.events.len();
        self.places_shown = self.places.len();
    }

    /// Everything that was judged is so for ever.
    pub(super) fn settle(&mut self) {
        self.show();
        self.undo.clear();
        self.shown = 0;
    }

    /// Undoes every change after the first `mark` since the last sync, the last one first.
    pub(super) fn undo_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let was_shown = self.undo.len() <= self.shown;
            match self.undo.pop() {
                Some(Undo::Payment(id, before)) => {
                    if was_shown {
                        let now = due_of(self.payments.get(&id));
                        plan(&mut self.due, &id, now, due_of(before.as_ref()));
                    }
                    put(&mut self.payments, id, before);
                }
                Some(Undo::Key(name, before)) => put(&mut self.keys, name, before),
                Some(Undo::Reference(name)) => put(&mut self.references, name, None),
                Some(Undo::Operation(name)) => put(&mut self.operations, name, None),
                Some(Undo::Order(name, before)) => put(&mut self.orders, name, before),
                Some(Undo::Notice(name, before)) => put(&mut self.notices, name, before),
                Some(Undo::Setting(name, before)) => put(&mut self.settings, name, before),
                Some(Undo::Message(place, Some(before))) => {
                    self.messages.insert(place, before);
                }
                Some(Undo::Message(place, None)) => {
                    self.messages.remove(&place);
                    self.places.pop();
                }
                Some(Undo::Event) => {
                    if let Some((id, seq, _)) = self.events.pop() {
                        self.timelines.remove(&(id, seq));
                    }
                }
                None => {}
            }
        }
        self.shown = self.shown.min(mark);
        self.events_shown = self.events_shown.min(self.events.len());
        self.places_shown = self.places_shown.min(self.places.len());
    }

    /// What was there before the first change that readers do not see, else what is there.
    fn seen<'a, V>(
        &'a self,
        now: Option<&'a V>,
        before: impl Fn(&'a Undo<R>) -> Option<Option<&'a V>>,
    ) -> Option<&'a V> {
        self.undo[self.shown..].iter().find_map(before).unwrap_or(now)
    }
}

fn due_of<R: Rows>(version: Option<&Version<R>>) -> Option<i64> {
    version.and_then(|version| version.due_ms)
}

fn plan<I: Clone + Ord>(
    due: &mut BTreeSet<(i64, I)>,
    id: &I,
    before: Option<i64>,
    now: Option<i64>,
) {
    if before == now {
        return;
    }
    if let Some(due_ms) = before {
        due.remove(&(due_ms, id.clone()));
    }
    if let Some(due_ms) = now {
        due.insert((due_ms, id.clone()));
    }
}

fn put<N: Eq + std::hash::Hash, V>(table: &mut FxHashMap<N, V>, name: N, before: Option<V>) {
    match before {
        Some(value) => table.insert(name, value),
        None => table.remove(&name),
    };
}
