//! What the server does around the engine, in the same order: one turn at a time for a payment in
//! one process, a decision on what is durable, compare-and-swap, and then the effects.

use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use interlock_engine::{
    AttemptState, Decision, Effect, Hand, Input, OrderHolder, OrderStep, Outcome, Payment,
    Prepared, Request, Skip, World as Surroundings, decide, intake,
};
use interlock_journal::Purpose;

use super::wire::Socket;
use super::{Beside, Death, EPOCH, Event, Follow, Pending, Run, ShopRows, World};
use crate::declarations::Numbers;
use crate::provider::portal;
use crate::rest;
use crate::store::{Answer, Notice, OrderChange, Refusal as Refused, Task, Transaction, Verdict};

/// How often the clock's high-water mark is made durable, ms.
const HIGH_WATER_MS: u64 = 10_000;
/// Its name in the store.
const HIGH_WATER: u64 = 1;
/// That every payment of a restored journal has heard the providers' statements.
const RESTORED: u64 = 2;
/// How often an outcome is put through again when the store was not sure.
const TRIES_MAX: u32 = 10;

/// Unsafe drivers, to show that the simulator would notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsafe {
    /// The real order of things.
    #[default]
    No,
    /// What is to be sent leaves before its record is durable.
    SendBeforeDurable,
    /// Whoever waits is answered when the write is written, not when it is synced.
    AcknowledgeBeforeDurable,
}

/// A process.
pub(super) struct Node {
    pub boot: u64,
    pub up: bool,
    pub started_ms: u64,
    pub skew_ms: i64,
    /// The latest wall clock that it knows of, and when it looked.
    pub high_ms: i64,
    pub seen_ms: u64,
    /// Which of the two versions of its plugins it has loaded.
    pub version: usize,
    pub sockets: Vec<Socket>,
    /// By payment: whether the shopper's credential is in memory.
    pub credentials: Vec<bool>,
    /// By payment: whether what the shopper brought back is in memory.
    pub details: Vec<bool>,
    turns: Vec<Turn>,
    marked_ms: u64,
}

/// The inputs of one payment: one at a time, the others wait.
struct Turn {
    case: u32,
    busy: bool,
    waiting: VecDeque<(Input, Beside)>,
}

impl Node {
    pub fn new(boot: u64, payments: u32) -> Self {
        Self {
            boot,
            up: true,
            started_ms: 0,
            skew_ms: 0,
            high_ms: 0,
            seen_ms: 0,
            version: 0,
            sockets: Vec::new(),
            credentials: vec![false; payments as usize],
            details: vec![false; payments as usize],
            turns: Vec::new(),
            marked_ms: 0,
        }
    }

    /// Unix ms: the later of the wall clock and what was seen of it, going on by itself.
    pub fn wall(&self, now: u64) -> i64 {
        let wall = EPOCH + now as i64 + self.skew_ms;
        wall.max(self.high_ms + (now - self.seen_ms) as i64)
    }

    /// Whatever it had in memory is gone.
    pub fn dies(&mut self) {
        self.up = false;
        self.sockets.clear();
        self.turns.clear();
        self.credentials.fill(false);
        self.details.fill(false);
    }

    fn turn(&mut self, case: u32) -> &mut Turn {
        let n = match self.turns.iter().position(|t| t.case == case) {
            Some(n) => n,
            None => {
                self.turns.push(Turn { case, busy: false, waiting: VecDeque::new() });
                self.turns.len() - 1
            }
        };
        &mut self.turns[n]
    }
}

impl World<'_> {
    /// What happened reaches a node.
    pub(super) fn put(&mut self, node: usize, case: u32, input: Input, beside: Beside) {
        let turn = self.nodes[node].turn(case);
        turn.waiting.push_back((input, beside));
        self.serve(node, case);
    }

    /// To whichever node is up.
    pub(super) fn anyone(&mut self, case: u32, input: Input, beside: Beside) {
        if let Some(node) = self.up() {
            self.put(node, case, input, beside);
        }
    }

    pub(super) fn up(&mut self) -> Option<usize> {
        let first = self.dice.index(self.nodes.len());
        let nodes = self.nodes.len();
        (0..nodes).map(|n| (first + n) % nodes).find(|n| self.nodes[*n].up)
    }

    fn serve(&mut self, node: usize, case: u32) {
        loop {
            let turns = &mut self.nodes[node].turns;
            let Some(n) = turns.iter().position(|t| t.case == case) else { return };
            if turns[n].busy {
                return;
            }
            let Some((input, beside)) = turns[n].waiting.pop_front() else {
                turns.swap_remove(n);
                return;
            };
            self.turn(node, case, input, beside);
            if !self.nodes[node].up {
                return;
            }
        }
    }

    fn turn(&mut self, node: usize, case: u32, input: Input, beside: Beside) {
        let Some(book) = self.store.book() else {
            return self.put_off(node, case, input, beside);
        };
        // In a restored journal nothing goes on before the statements are heard.
        if self.cases[case as usize].unheard && !matches!(input, Input::Restored) {
            return self.put_off(node, case, input, beside);
        }
        if let Some(taken) = beside.key.and_then(|key| book.key(&key)).cloned() {
            return self.key_taken(case, &input, taken.stands_for.as_deref());
        }
        let before = book.payment(&case).map(|version| Rc::clone(&version.row));
        if let (Input::Noticed { facts, .. }, Some(row)) = (&input, &before)
            && !facts.iter().all(|fact| portal::may_hear(row, fact))
        {
            // It is not acknowledged, so it is told again.
            return;
        }
        match self.decide(node, case, before.as_deref(), &input) {
            Outcome::Commit(decision) => {
                self.count_refusals(&decision, before.as_ref());
                self.watch_decision(node, case, before.as_deref(), &decision.next);
                self.watch_permissions(node, case, before.as_deref(), &decision.next);
                let ver = before.map_or(0, |p| p.ver);
                self.commit(node, case, ver, *decision, input, beside);
            }
            Outcome::Nothing => {
                self.cases[case as usize].unheard &= !matches!(input, Input::Restored);
                self.nothing(node, case, input, beside);
            }
            Outcome::Refuse(refusal) if self.asks_again(&refusal) => {}
            Outcome::Refuse(_) => self.refused(case, &input),
            Outcome::Need(_) => self.blame(case, "a decision never had what it needed"),
        }
    }

    /// Asks the engine until its decision is complete; plugins fail and accounts refuse by chance.
    fn decide(
        &mut self,
        node: usize,
        case: u32,
        before: Option<&Payment>,
        input: &Input,
    ) -> Outcome {
        self.score.turns += 1;
        let now = self.stamp(node);
        let order = self.order_holder(case, input);
        let calm = self.calm();
        let n = &self.nodes[node];
        let (policies, version) = (self.policies, n.version);
        let policy = policies.of(self.seed, version);
        let weather = self.weather(node);
        let surroundings = Surroundings {
            now,
            policy,
            health: &weather,
            mint: &Numbers,
            draw: 0.5,
            sending: n.sockets.iter().any(|s| s.case == case),
            credential: n.credentials[case as usize] || before.is_none(),
            details: n.details[case as usize] || brings_details(input),
            order,
            stated: self.cases[case as usize].stated.as_ref(),
        };
        let mut hand = Hand::default();
        for _ in 0..16 {
            match decide(before, input, &surroundings, &hand) {
                Outcome::Need(call) => {
                    let full = call.reserve && weather.is_full(&call.account);
                    self.score.unreserved += u64::from(full);
                    if full || (!calm && self.dice.one_in(80)) {
                        self.score.faults += 1;
                        self.score.plugins += 1;
                        if call.reserve {
                            hand.refused.push((call.account, Skip::InFlight));
                        } else {
                            hand.unbuildable.push(call.op_id);
                        }
                    } else {
                        let draft = policies.steps(self.seed, version, &call.account).first(&call);
                        hand.prepared.push(Prepared { call: *call, draft });
                    }
                }
                outcome => return outcome,
            }
        }
        Outcome::Need(Box::new(hand.prepared.remove(0).call))
    }

    fn order_holder(&self, case: u32, input: &Input) -> Option<OrderHolder> {
        let Input::Submitted(_) = input else { return None };
        let order = self.cases[case as usize].order?;
        let holder = *self.store.book()?.order(&order)?;
        let row = self.row(holder)?;
        Some(OrderHolder { payment: row.id.clone(), succeeded: intake::holds_order(row) })
    }

    fn commit(
        &mut self,
        node: usize,
        case: u32,
        ver: u64,
        decision: Decision,
        input: Input,
        beside: Beside,
    ) {
        let row = Rc::new(decision.next);
        let due_ms = decision.due.map(|(at, _)| at);
        let mut write = Transaction::<ShopRows>::new(case, ver, Rc::clone(&row), due_ms);
        if let Some(key) = beside.key {
            let operation = decision.operations.first().map(|id| Rc::from(id.as_str()));
            let key_row = crate::store::Key { stands_for: operation, answer: None };
            write.keys.push((key, key_row));
        }
        if let Some(name) = beside.notice {
            write.notices.push(Notice { name, applied: true, notice: () });
        }
        for (account, reference) in &decision.references {
            write.references.push((name_of(account, reference), case));
        }
        write.operations.extend(decision.operations.iter().map(|id| name_of("", id)));
        let order = self.cases[case as usize].order;
        write.order = match (&decision.order, order) {
            (OrderStep::Claim, Some(order)) => OrderChange::Claim(order),
            (OrderStep::TakeOver { .. }, Some(order)) => {
                let holder = self.store.book().and_then(|book| book.order(&order)).copied();
                OrderChange::TakeOver { order, from: holder.unwrap_or(case) }
            }
            (OrderStep::Release, Some(order)) => OrderChange::Release(order),
            _ => OrderChange::None,
        };
        if matches!(input, Input::Submitted(_)) {
            write.purpose = Purpose::Intake;
        }
        let mut follow = Follow { due_ms, effects: decision.effects, row };
        if self.unsafe_driver == Unsafe::SendBeforeDurable {
            let effects = mem::take(&mut follow.effects);
            self.effects(node, case, &follow.row, &effects);
        }
        let run = Run { node, boot: self.nodes[node].boot };
        self.stage(write.into(), Pending { run, case, input, beside, follow: Some(follow) });
    }

    fn stage(&mut self, task: Task<ShopRows>, pending: Pending) {
        let Run { node, .. } = pending.run;
        self.nodes[node].turn(pending.case).busy = true;
        let pending = Box::new(pending);
        if self.store.stage(task, pending).is_err() {
            return self.blame(0, "a store with room refuses");
        }
        self.mark_clock(node);
        if !self.calm() && self.dice.one_in(250) {
            // Aimed: between the write and the end of its sync, or just after.
            self.score.aimed += 1;
            let (at, death) = (self.now + self.dice.below(6), self.death());
            self.at(at, Event::Crash(node, death));
        }
        self.begin_sync();
    }

    /// What this process has seen of the wall clock must not be unseen by the next one.
    fn mark_clock(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        if self.now >= n.marked_ms + HIGH_WATER_MS {
            n.marked_ms = self.now;
            let run = Run { node, boot: n.boot };
            let high = n.high_ms;
            self.set(run, HIGH_WATER, high, Input::Refresh);
        }
    }

    /// Every payment of a restored journal has its turn before this.
    pub(super) fn mark_restored(&mut self, node: usize) {
        let run = Run { node, boot: self.nodes[node].boot };
        self.set(run, RESTORED, 1, Input::Restored);
        self.begin_sync();
    }

    fn set(&mut self, run: Run, name: u64, value: i64, input: Input) {
        let (case, beside) = (u32::MAX, Beside::default());
        let nobody = Pending { run, case, input, beside, follow: None };
        let _ = self.store.stage(Task::Set(name, value), Box::new(nobody));
    }

    pub(super) fn death(&mut self) -> Death {
        if self.dice.one_in(2) { Death::Power } else { Death::Kill }
    }

    fn begin_sync(&mut self) {
        let mut heard = Vec::new();
        if self.store.begin_sync(&mut heard) {
            let (at, run) = (self.now + 1 + self.dice.below(4), self.store_run);
            self.at(at, Event::Synced(run));
        }
        self.answered(heard);
    }

    /// A sync ends, one way or the other.
    pub(super) fn synced(&mut self, run: u64) {
        if run != self.store_run {
            return;
        }
        let mut heard = Vec::new();
        if !self.calm() && self.dice.one_in(2_500) {
            self.fault(|s| &mut s.failed_syncs);
            let dice = &mut self.dice;
            self.store.fail_sync(&mut |n| dice.below(n), &mut heard);
            self.store_run += 1;
            let (at, run) = (self.now + 20 + self.dice.below(3_000), self.store_run);
            self.at(at, Event::Reopen(run));
        } else {
            self.store.end_sync(&mut heard);
        }
        self.answered(heard);
        self.begin_sync();
    }

    pub(super) fn reopen_store(&mut self, run: u64) {
        if run == self.store_run && !self.store.is_open() {
            self.store.reopen();
            self.look_at_what_is_due();
            self.begin_sync();
        }
    }

    /// What a failed sync left durable has nobody yet who comes back to it.
    fn look_at_what_is_due(&mut self) {
        let Some(book) = self.store.book() else { return };
        let due: Vec<(u32, u64, i64)> = book
            .due()
            .filter_map(|(at, case)| Some((*case, book.payment(case)?.ver, at)))
            .collect();
        for (case, ver, at) in due {
            self.come_back(case, ver, Some(at));
        }
    }

    fn answered(&mut self, heard: Vec<(Box<Pending>, Answer<ShopRows>)>) {
        for (pending, answer) in heard {
            if answer == Ok(Verdict::Done)
                && let Some(Follow { due_ms, row, .. }) = &pending.follow
            {
                self.score.commits += 1;
                self.come_back(pending.case, row.ver, *due_ms);
            }
            if answer == Ok(Verdict::Done) && pending.case == u32::MAX {
                self.unrestored &= !matches!(pending.input, Input::Restored);
            }
            if !self.alive(pending.run) || pending.case == u32::MAX {
                continue;
            }
            let (node, case) = (pending.run.node, pending.case);
            self.nodes[node].turn(case).busy = false;
            self.heard_of(*pending, answer);
            self.serve(node, case);
        }
    }

    /// What the store said of a write.
    fn heard_of(&mut self, pending: Pending, answer: Answer<ShopRows>) {
        let Pending { run: Run { node, .. }, case, input, beside, follow } = pending;
        match answer {
            Ok(Verdict::Done) => {
                if let Some(name) = beside.notice {
                    self.cases[case as usize].acknowledged.push(name);
                }
                self.cases[case as usize].unheard &= !matches!(input, Input::Restored);
                if let Some(follow) = follow {
                    self.durable(node, case, &input, &follow);
                }
            }
            Ok(Verdict::Conflict { .. }) => {
                self.fault(|s| &mut s.races);
                self.nodes[node].turn(case).waiting.push_front((input, beside));
            }
            Ok(Verdict::KeyTaken(key)) => self.key_taken(case, &input, key.stands_for.as_deref()),
            Ok(Verdict::NoticeSeen) => {
                self.cases[case as usize].acknowledged.extend(beside.notice);
            }
            Ok(Verdict::OrderTaken(_)) => self.refused(case, &input),
            Ok(Verdict::ReferenceTaken(other)) => {
                self.blame(case, format!("its reference belongs to case {other}"));
            }
            Err(Refused::Failed) => self.put_off(node, case, input, beside),
            Err(refused) => self.blame(case, format!("a store with room refuses: {refused:?}")),
        }
    }

    /// The store is not sure or not there: what came in is put through again; who asked from
    /// outside asks again by himself.
    fn put_off(&mut self, node: usize, case: u32, input: Input, beside: Beside) {
        let outcome = matches!(
            input,
            Input::Heard { .. }
                | Input::Lost { .. }
                | Input::Looked { .. }
                | Input::Recovered
                | Input::Restored
                | Input::Due
        );
        match &input {
            Input::Submitted(_) => {
                let at = self.now + 500 + self.dice.below(5_000);
                self.at(at, Event::Submit(case, beside.tries + 1));
            }
            _ if outcome && beside.tries < TRIES_MAX => {
                let run = Run { node, boot: self.nodes[node].boot };
                let at = self.now + (200 << beside.tries.min(6));
                self.at(at, Event::Reach(run, case, Box::new(input), beside.tries + 1));
            }
            _ => {}
        }
    }

    /// A decision without a change still remembers the notification that it came from.
    fn nothing(&mut self, node: usize, case: u32, input: Input, beside: Beside) {
        let Some(name) = beside.notice else {
            match input {
                Input::Merchant(_) => self.granted(case, &input),
                Input::Due => {
                    let ver = self.row(case).map_or(0, |row| row.ver);
                    let later = self.now + 1_000;
                    self.at(later, Event::Due(case, ver));
                }
                _ => {}
            }
            return;
        };
        let run = Run { node, boot: self.nodes[node].boot };
        let task = Task::KeepNotice(Notice { name, applied: true, notice: () });
        self.stage(task, Pending { run, case, input, beside, follow: None });
    }

    /// The version is durable: now, and only now, what follows from it.
    fn durable(&mut self, node: usize, case: u32, input: &Input, follow: &Follow) {
        let Follow { effects, row, .. } = follow;
        let run = Run { node, boot: self.nodes[node].boot };
        self.fold.take(row.ver ^ u64::from(case) << 32);
        if let Some(lines) = &mut self.trace {
            let story = super::oracle::story(row);
            lines.push(format!("{:>10}   case {case} node {node}: {effects:?}{story}", self.now));
        }
        if matches!(input, Input::Submitted(_)) {
            self.nodes[node].credentials[case as usize] = true;
        }
        let details = &mut self.nodes[node].details[case as usize];
        *details = (*details || brings_details(input)) && intake::wants_details(row);
        self.look_at_version(case, row);
        let crash = !self.calm() && self.dice.one_in(400);
        if crash && self.dice.one_in(2) {
            let death = self.death();
            return self.crash(node, death);
        }
        self.effects(node, case, row, effects);
        if crash {
            let death = self.death();
            return self.crash(node, death);
        }
        if self.alive(run) {
            self.tell(case, input, row);
        }
    }

    fn effects(&mut self, node: usize, case: u32, row: &Rc<Payment>, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Send { exchange } => self.send(node, case, row, exchange),
                Effect::Inquire { subject } => self.inquire(node, case, row.ver, *subject),
            }
        }
    }

    /// The resolvers will see it in the index of what is due, whoever wrote it.
    fn come_back(&mut self, case: u32, ver: u64, due_ms: Option<i64>) {
        if due_ms.is_some() {
            self.due(case, ver);
        }
    }

    /// The resolver of whichever node thinks that it is time comes back to what is due.
    pub(super) fn due(&mut self, case: u32, ver: u64) {
        let Some(book) = self.store.book() else {
            let later = self.now + 1_000;
            return self.at(later, Event::Due(case, ver));
        };
        let Some(version) = book.payment(&case).filter(|version| version.ver == ver) else {
            return;
        };
        let Some(due_ms) = version.due_ms else { return };
        if self.calm() && rest::waits_for_operator(&version.row) {
            return;
        }
        let now = self.now;
        let up = self.nodes.iter().enumerate().filter(|(_, n)| n.up);
        let first = up.map(|(node, n)| (due_ms.saturating_sub(n.wall(now)), node)).min();
        match first {
            Some((wait, node)) if wait <= 0 => {
                self.put(node, case, Input::Due, Beside::default());
            }
            Some((wait, _)) => {
                let at = self.now + wait.unsigned_abs();
                self.at(at, Event::Due(case, ver));
            }
            None => {
                let later = self.now + 5_000;
                self.at(later, Event::Due(case, ver));
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize, death: Death) {
        if !self.nodes[node].up || self.calm() {
            return;
        }
        match death {
            Death::Kill => self.fault(|s| &mut s.kills),
            Death::Power => self.fault(|s| &mut s.power_cuts),
        }
        self.nodes[node].dies();
        if self.nodes.len() == 1 {
            let dice = &mut self.dice;
            let mut draw = |n| dice.below(n);
            match death {
                Death::Kill => self.store.kill(&mut draw),
                Death::Power => self.store.lose_power(&mut draw),
            }
            self.store_run += 1;
        } else {
            // What this node was about to do, another one finds in the index.
            self.look_at_what_is_due();
        }
        let at = self.now + 500 + self.dice.below(60_000);
        self.at(at, Event::Rise(node));
    }

    /// A process starts: it takes up whatever is open.
    pub(super) fn rise(&mut self, node: usize) {
        if self.restoring || self.nodes[node].up {
            return;
        }
        if self.unrestored {
            return self.wait_for_statements();
        }
        if self.nodes.len() == 1 && !self.store.is_open() {
            self.store.reopen();
        }
        let Some(book) = self.store.book() else {
            let at = self.now + 1_000;
            return self.at(at, Event::Rise(node));
        };
        let open: Vec<u32> = book.due().map(|(_, case)| *case).collect();
        self.take_up(node, self.now);
        for case in open {
            self.put(node, case, Input::Recovered, Beside::default());
        }
    }

    /// A new process, which was started then.
    pub(super) fn take_up(&mut self, node: usize, started_ms: u64) {
        let book = self.store.book();
        let high = book.and_then(|book| book.setting(&HIGH_WATER)).copied().unwrap_or(0);
        self.boots += 1;
        let boot = self.boots;
        if !self.unrestored {
            // What the node that died had heard is durable.
            self.cases.iter_mut().for_each(|c| c.unheard = false);
        }
        let n = &mut self.nodes[node];
        (n.boot, n.up, n.started_ms) = (boot, true, started_ms);
        (n.high_ms, n.seen_ms) = (high, self.now);
    }

    /// What a version shows to the shopper; and that it can be read back.
    fn look_at_version(&mut self, case: u32, row: &Rc<Payment>) {
        if row.ver.is_multiple_of(16) {
            let json = serde_json::to_vec(&**row).expect("a payment has a JSON form");
            let read: Payment = serde_json::from_slice(&json).expect("it can be read back");
            if read != **row {
                self.blame(case, "what is stored is not what was decided");
                return;
            }
        }
        for (i, attempt) in row.attempts.iter().enumerate() {
            let known = |o: &super::oracle::Offered| o.op_id == attempt.op_id;
            let shown = attempt.offer.is_some() && attempt.state == AttemptState::Action;
            if shown && !self.cases[case as usize].offers.iter().any(known) {
                self.offered(case, i, row);
            }
        }
    }
}

/// The shopper is back, and this process is told what he brought.
fn brings_details(input: &Input) -> bool {
    matches!(input, Input::Merchant(Request::Confirm { details: true, .. }))
}

/// A name of the store's tables.
pub(super) fn name_of(account: &str, reference: &str) -> u64 {
    let mut fold = crate::dice::Fold::default();
    for byte in account.bytes().chain([0]).chain(reference.bytes()) {
        fold.take(byte.into());
    }
    fold.value()
}
