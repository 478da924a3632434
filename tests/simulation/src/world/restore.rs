//! The disk is lost, and an earlier copy of the journal is put in its place.
//!
//! What came after the copy is known to nobody here. The node waits until nothing of the time
//! before can reach a provider any more, takes their statements, and starts with them. Merchants
//! ask again for whatever was promised to them, with the same keys; what they were told had failed
//! they let rest.

use interlock_engine::{Input, Line, Settled, Stamp, Statement};

use super::{Beside, Event, World};
use crate::declarations::{TIMEOUT, WINDOW};

impl World<'_> {
    /// Some evenings have a copy, and lose their disk soon or late after it.
    pub(super) fn plan_loss_of_disk(&mut self) {
        if self.nodes.len() > 1 || !self.dice.one_in(5) {
            return;
        }
        let copied = 1 + self.dice.below(super::CALM / 2);
        let within = self.dice.of(&[3_000, 60_000, super::CALM / 2]);
        let lost = copied + 1 + self.dice.below(within);
        self.at(copied, Event::Backup);
        self.at(lost, Event::LoseDisk);
    }

    /// An operator copies the journal.
    pub(super) fn back_up(&mut self) {
        if self.store.is_open() {
            self.backup = Some(self.store.backup());
        }
    }

    /// The node dies and its disk with it; the copy takes its place.
    pub(super) fn lose_disk(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        self.fault(|s| &mut s.restores);
        let versions = |world: &Self| -> Vec<Option<u64>> {
            (0..world.cases.len() as u32).map(|case| world.row(case).map(|row| row.ver)).collect()
        };
        let sure = self.store.is_open();
        let before = versions(self);
        self.nodes[0].dies();
        self.store.restore(&backup);
        self.store.reopen();
        self.store_run += 1;
        self.unrestored = true;
        for (case, after) in versions(self).into_iter().enumerate() {
            let lost = !sure || before[case] != after;
            let open = self.row(case as u32).is_some_and(|row| row.settled.is_none());
            let c = &mut self.cases[case];
            if lost || open {
                (c.restored, c.excused) = (true, true);
            }
        }
        self.wait_for_statements();
    }

    /// A process starts, and sees the late window pass before it does anything.
    pub(super) fn wait_for_statements(&mut self) {
        self.restoring = true;
        let started = self.now;
        let at = started + TIMEOUT + WINDOW + self.dice.below(60_000);
        self.at(at, Event::RiseRestored(started));
    }

    /// The node starts with the providers' statements; it has waited since it was started.
    pub(super) fn rise_restored(&mut self, started: u64) {
        self.restoring = false;
        if !self.store.is_open() {
            self.store.reopen();
        }
        self.take_up(0, started);
        let boot = self.nodes[0].boot;
        let waited = (self.now - started) as i64;
        let wall_ms = self.nodes[0].wall(self.now) - waited;
        let since = Stamp { wall_ms, boot, mono_ms: 0 };
        for case in 0..self.cases.len() as u32 {
            let lines = self.lines_of(case);
            self.cases[case as usize].stated = Some(Statement { since, lines });
            if self.row(case).is_some() {
                self.cases[case as usize].unheard = true;
                self.put(0, case, Input::Restored, Beside::default());
            }
            self.ask_again(case);
        }
        if self.nodes[0].up {
            self.mark_restored(0);
        }
    }

    /// Everything that the providers have under the numbers of a payment: what was taken, what is
    /// accepted, and what was done with it.
    fn lines_of(&self, case: u32) -> Vec<Line> {
        let c = &self.cases[case as usize];
        let books = c.providers.iter().zip(&c.accounts);
        books.flat_map(|(books, account)| books.statement(account)).collect()
    }

    /// Whoever was promised something, or hears nothing, asks again with the same keys.
    fn ask_again(&mut self, case: u32) {
        let absent = self.row(case).is_none();
        let canceling = self.row(case).is_some_and(|row| row.cancel_requested);
        let c = &mut self.cases[case as usize];
        let gave_up = c.canceled_ver.is_some()
            || c.refused
            || matches!(c.told, Some(Settled::Failed | Settled::Canceled));
        if absent && gave_up {
            return;
        }
        let canceled = c.canceled_ver.take_if(|_| !canceling).is_some();
        let wishes = c.wishes.len();
        let lost = c.restored;
        // Without an answer he asks by himself.
        if absent && c.acked {
            c.acked = false;
            let at = self.now + self.dice.below(30_000);
            self.at(at, Event::Submit(case, 0));
        }
        for wish in 0..if lost { wishes } else { 0 } {
            let cancels = matches!(
                self.cases[case as usize].wishes[wish],
                interlock_engine::Request::Cancel { .. }
            );
            let key = self.cases[case as usize].key_of_wish(wish).map(str::to_owned);
            let told = key.is_some_and(|k| self.cases[case as usize].operation_told(&k).is_some());
            if told || (cancels && canceled) {
                // Until he has an answer: at the latest when everything works again.
                for begin in [self.now, super::CALM] {
                    let at = begin + 30_000 + self.dice.below(30_000);
                    self.at(at, Event::Wish(case, wish));
                }
            }
        }
    }
}
