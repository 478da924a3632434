//! Whether a task may be done, and its doing: table by table, in the journal's order.
//!
//! Judging and doing are one pass, as in the journal: each table answers its own question when the
//! row is put into it, and a refusal half-way undoes what the tables before it took.

use std::collections::btree_map;
use std::collections::hash_map::Entry;

use super::book::{Book, Undo, Version};
use super::transaction::{Key, Notice, OrderChange, Rows, Task, Transaction, Verdict};

/// A number was used before, or there is none left: the caller's mistake.
#[derive(Debug)]
pub(super) struct Unfit;

impl<R: Rows> Book<R> {
    /// Does the task, or nothing of it.
    pub(super) fn judge(&mut self, task: Task<R>) -> Result<Verdict<R>, Unfit> {
        let mark = self.undo.len();
        let verdict = match task {
            Task::Write(write) => self.write(write),
            Task::KeepNotice(notice) => Ok(self.keep_notice(notice)),
            Task::Set(name, value) => {
                let before = self.settings.insert(name.clone(), value);
                self.undo.push(Undo::Setting(name, before));
                Ok(Verdict::Done)
            }
            Task::Tell(id, seq, told) => {
                let place = (id, seq);
                if let Some(message) = self.messages.get_mut(&place) {
                    let before = message.clone();
                    R::tell(message, &told);
                    self.undo.push(Undo::Message(place, Some(before)));
                }
                Ok(Verdict::Done)
            }
        };
        if !matches!(verdict, Ok(Verdict::Done)) {
            self.undo_to(mark);
        }
        verdict
    }

    /// Anything but `Done` must be undone by the caller.
    fn write(&mut self, write: Transaction<R>) -> Result<Verdict<R>, Unfit> {
        for (name, key) in write.keys {
            if let Some(taken) = self.take_key(name, key) {
                return Ok(Verdict::KeyTaken(taken));
            }
        }
        for notice in write.notices {
            if !self.put_notice(notice) {
                return Ok(Verdict::NoticeSeen);
            }
        }
        let id = write.payment;
        let placed = self.put_payment(&id, write.expect, write.due_ms, write.row)?;
        if placed != Verdict::Done {
            return Ok(placed);
        }
        if let Some(holder) = self.change_order(&id, write.order) {
            return Ok(Verdict::OrderTaken(holder));
        }
        for (name, owner) in write.references {
            if let Some(other) = self.put_reference(name, owner) {
                return Ok(Verdict::ReferenceTaken(other));
            }
        }
        for name in write.operations {
            if let Some(other) = self.put_operation(name, &id) {
                return Ok(Verdict::ReferenceTaken(other));
            }
        }
        for (name, answer) in write.answers {
            self.put_answer(name, answer);
        }
        for (seq, event) in write.events {
            self.put_event(&id, seq, event)?;
        }
        for (seq, message) in write.messages {
            self.put_message(&id, seq, message)?;
        }
        Ok(Verdict::Done)
    }

    fn take_key(&mut self, name: R::Name, key: Key<R>) -> Option<Key<R>> {
        match self.keys.entry(name) {
            Entry::Occupied(taken) => Some(taken.get().clone()),
            Entry::Vacant(free) => {
                self.undo.push(Undo::Key(free.key().clone(), None));
                free.insert(key);
                None
            }
        }
    }

    /// False if the notice was stored before. A row that was only kept gives way to one that is
    /// applied: else the redelivery that a kept notice waits for would be taken for a duplicate.
    fn put_notice(&mut self, notice: Notice<R>) -> bool {
        match self.notices.entry(notice.name.clone()) {
            Entry::Occupied(mut there) => {
                if there.get().applied || !notice.applied {
                    return false;
                }
                let name = notice.name.clone();
                let before = there.insert(notice);
                self.undo.push(Undo::Notice(name, Some(before)));
            }
            Entry::Vacant(free) => {
                self.undo.push(Undo::Notice(notice.name.clone(), None));
                free.insert(notice);
            }
        }
        true
    }

    fn keep_notice(&mut self, notice: Notice<R>) -> Verdict<R> {
        match self.notices.entry(notice.name.clone()) {
            Entry::Occupied(_) => Verdict::NoticeSeen,
            Entry::Vacant(free) => {
                self.undo.push(Undo::Notice(notice.name.clone(), None));
                free.insert(notice);
                Verdict::Done
            }
        }
    }

    /// The comparison that safety rests on.
    fn put_payment(
        &mut self,
        id: &R::Id,
        expect: u64,
        due_ms: Option<i64>,
        mut row: R::Payment,
    ) -> Result<Verdict<R>, Unfit> {
        let ver = expect.checked_add(1).ok_or(Unfit)?;
        match self.payments.get_mut(id) {
            Some(there) if there.ver == expect => {
                R::follow(&there.row, &mut row);
                let before = std::mem::replace(there, Version { ver, due_ms, row });
                self.undo.push(Undo::Payment(id.clone(), Some(before)));
            }
            Some(there) => return Ok(Verdict::Conflict { ver: Some(there.ver) }),
            None if expect == 0 => {
                self.payments.insert(id.clone(), Version { ver, due_ms, row });
                self.undo.push(Undo::Payment(id.clone(), None));
            }
            None => return Ok(Verdict::Conflict { ver: None }),
        }
        Ok(Verdict::Done)
    }

    /// The other payment that holds the order, if one does.
    fn change_order(&mut self, id: &R::Id, change: OrderChange<R>) -> Option<R::Id> {
        match change {
            OrderChange::None => None,
            OrderChange::Claim(order) => match self.orders.entry(order) {
                Entry::Occupied(held) => Some(held.get().clone()).filter(|holder| holder != id),
                Entry::Vacant(free) => {
                    self.undo.push(Undo::Order(free.key().clone(), None));
                    free.insert(id.clone());
                    None
                }
            },
            OrderChange::TakeOver { order, from } => match self.orders.get_mut(&order) {
                Some(holder) if *holder == from => {
                    let before = std::mem::replace(holder, id.clone());
                    self.undo.push(Undo::Order(order, Some(before)));
                    None
                }
                Some(holder) if holder == id => None,
                Some(holder) => Some(holder.clone()),
                None => Some(from),
            },
            OrderChange::Release(order) => {
                if self.orders.get(&order) == Some(id) {
                    let before = self.orders.remove(&order);
                    self.undo.push(Undo::Order(order, before));
                }
                None
            }
        }
    }

    /// The other payment that the reference leads to, if it does.
    fn put_reference(&mut self, name: R::Name, owner: R::Id) -> Option<R::Id> {
        match self.references.entry(name) {
            Entry::Occupied(there) => Some(there.get().clone()).filter(|other| *other != owner),
            Entry::Vacant(free) => {
                self.undo.push(Undo::Reference(free.key().clone()));
                free.insert(owner);
                None
            }
        }
    }

    /// The other payment that the operation belongs to, if it does.
    fn put_operation(&mut self, name: R::Name, owner: &R::Id) -> Option<R::Id> {
        match self.operations.entry(name) {
            Entry::Occupied(there) => Some(there.get().clone()).filter(|other| other != owner),
            Entry::Vacant(free) => {
                self.undo.push(Undo::Operation(free.key().clone()));
                free.insert(owner.clone());
                None
            }
        }
    }

    /// The first answer of a key is kept; a key that is not there has none.
    fn put_answer(&mut self, name: R::Name, answer: R::Answer) {
        if let Some(key) = self.keys.get_mut(&name)
            && key.answer.is_none()
        {
            let before = key.clone();
            key.answer = Some(answer);
            self.undo.push(Undo::Key(name, Some(before)));
        }
    }

    fn put_event(&mut self, id: &R::Id, seq: u64, event: R::Event) -> Result<(), Unfit> {
        match self.timelines.entry((id.clone(), seq)) {
            btree_map::Entry::Occupied(_) => Err(Unfit),
            btree_map::Entry::Vacant(free) => {
                free.insert(self.events.len());
                self.events.push((id.clone(), seq, event));
                self.undo.push(Undo::Event);
                Ok(())
            }
        }
    }

    fn put_message(&mut self, id: &R::Id, seq: u64, message: R::Message) -> Result<(), Unfit> {
        match self.messages.entry((id.clone(), seq)) {
            btree_map::Entry::Occupied(_) => Err(Unfit),
            btree_map::Entry::Vacant(free) => {
                self.undo.push(Undo::Message(free.key().clone(), None));
                self.places.push(free.key().clone());
                free.insert(message);
                Ok(())
            }
        }
    }
}
