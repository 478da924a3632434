//! Everything that can happen next, and what comes of it.

use std::sync::Arc;

use interlock_engine::{ExchangeKind, Input, Sent, Subject};
use interlock_plugin_api::{Fact, What};

use super::chance::{Player, Script, scripts};
use super::oracle;
use super::state::{Body, Books, Fault, Left, Message, Run, Sending, State};
use super::turn::Mode;
use super::worlds::World;
use crate::declarations::draft;
use crate::provider::{Later, Provider, Reaction, Task};

/// What becomes of the answer to a request or an inquiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// It is heard at once.
    Heard(Mode),
    /// It stays on the wire.
    Travels,
    /// It is lost; of an inquiry, nothing is heard.
    Lost,
    /// It is heard by a new version of the plugin, which takes it for a "no".
    Misread,
}

/// One step; messages, sockets and laters by their place in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The merchant asks to be paid.
    Submit(u8, Mode),
    /// A request reaches its provider, or an inquiry does.
    Arrive(u8, Script, Then),
    /// The same, and another copy of the request stays on the wire.
    Copied(u8, Script),
    /// An answer, a notification or a repeated input reaches a node.
    Reach(u8, u8, Mode),
    /// A notification is misread by a new version of the plugin.
    Misread(u8, u8),
    /// A message is lost.
    Drop(u8),
    /// A connection is refused: no byte left.
    Refuse(u8, u8, Mode),
    /// A connection is reset.
    Reset(u8, u8, Mode),
    /// A socket has waited long enough.
    TimeOut(u8, u8, Mode),
    /// A provider does what it said it would.
    Later(u8, Script),
    /// The clock moves to the next moment at which something is to be done.
    Tick,
    /// Somebody looks, because it is time.
    Due(u8, Mode),
    /// The merchant wishes something.
    Wish(u8, u8, Mode),
    /// A shopper scans the code of an attempt.
    Scan(u8),
    /// A shopper pays the code of an attempt.
    Pay(u8, Script),
    /// A node dies.
    Crash(u8),
    /// It starts again, perhaps with newer plugins.
    Rise(u8, bool, Mode),
    /// A wall clock jumps forward or back.
    Jump(u8, bool),
    /// A node writes what it decided earlier.
    Write(u8),
}

/// How far a wall clock jumps, ms.
const JUMP_MS: i64 = 2 * 3_600_000;

impl World {
    /// What can happen in a state.
    pub fn actions_of(&self, s: &State, out: &mut Vec<Action>) {
        if s.broken.is_some() {
            return;
        }
        let free = |n: usize| s.nodes[n].up && s.nodes[n].held.is_none();
        let nodes = 0..s.nodes.len();
        if s.row.is_none() {
            for n in nodes.clone().filter(|n| free(*n)) {
                self.modes(s, |mode| out.push(Action::Submit(n as u8, mode)));
            }
        }
        for n in nodes.clone() {
            let node = n as u8;
            if s.nodes[n].held.is_some() {
                out.push(Action::Write(node));
            }
            if !s.nodes[n].up {
                self.modes(s, |mode| out.push(Action::Rise(node, false, mode)));
                if self.upgrades && !s.nodes[n].newer {
                    out.push(Action::Rise(node, true, Mode::Straight));
                }
                continue;
            }
            if s.row.is_none() {
                continue;
            }
            if s.left.has(Fault::Crash) {
                out.push(Action::Crash(node));
            }
            if s.left.has(Fault::Jump) {
                out.extend([Action::Jump(node, true), Action::Jump(node, false)]);
            }
            if free(n) {
                self.turns_of(s, n, out);
            }
        }
        for at in 0..s.wire.len() {
            self.deliveries(s, at, out);
        }
        for (n, (account, later)) in s.laters.iter().enumerate() {
            let books = &s.books[usize::from(*account)].provider;
            self.tried(s, books, |p, chance| p.later(later, chance), |script| {
                out.push(Action::Later(n as u8, script));
            });
        }
        self.codes(s, out);
        out.push(Action::Tick);
    }

    /// What a free node may be asked to do.
    fn turns_of(&self, s: &State, n: usize, out: &mut Vec<Action>) {
        let node = n as u8;
        for (k, socket) in s.nodes[n].sockets.iter().enumerate() {
            let k = k as u8;
            if socket.until_ms <= s.now {
                self.modes(s, |mode| out.push(Action::TimeOut(node, k, mode)));
            } else if s.left.has(Fault::Loss) {
                self.modes(s, |mode| {
                    out.push(Action::Refuse(node, k, mode));
                    out.push(Action::Reset(node, k, mode));
                });
            }
        }
        if n > 0 && s.left.visits == 0 {
            return;
        }
        if self.is_due(s, n) {
            self.modes(s, |mode| out.push(Action::Due(node, mode)));
        }
        for w in (0..self.wishes.len()).filter(|w| s.wishes >> w & 1 == 1) {
            self.modes(s, |mode| out.push(Action::Wish(w as u8, node, mode)));
        }
    }

    fn deliveries(&self, s: &State, at: usize, out: &mut Vec<Action>) {
        let m = &s.wire[at];
        let at = at as u8;
        let lossy = s.left.has(Fault::Loss);
        match &*m.body {
            Body::Request(run, it) => {
                let heard = s.socket(*run, it).is_some() && self.hears(s, *run);
                let open = s.socket(*run, it).is_some();
                self.arrivals(s, it, |script| {
                    if !open {
                        out.push(Action::Arrive(at, script, Then::Lost));
                        return;
                    }
                    if heard {
                        self.modes(s, |mode| {
                            out.push(Action::Arrive(at, script, Then::Heard(mode)));
                        });
                    }
                    if s.left.has(Fault::Late) {
                        out.push(Action::Arrive(at, script, Then::Travels));
                    }
                    if lossy {
                        out.push(Action::Arrive(at, script, Then::Lost));
                    }
                });
                if s.left.has(Fault::Twice) && self.serialises(it) {
                    out.push(Action::Copied(at, Script::default()));
                }
                if lossy {
                    out.push(Action::Drop(at));
                }
            }
            Body::Inquiry(run, subject, _, account) => {
                let heard = self.hears(s, *run);
                let old = self.may_misread(s, *run, *subject);
                self.inquiries(s, *subject, *account, |script| {
                    if heard {
                        self.modes(s, |mode| {
                            out.push(Action::Arrive(at, script, Then::Heard(mode)));
                        });
                    }
                    if s.left.has(Fault::Late) {
                        out.push(Action::Arrive(at, script, Then::Travels));
                    }
                    if heard && old {
                        out.push(Action::Arrive(at, script, Then::Misread));
                    }
                });
                if lossy && heard {
                    out.push(Action::Arrive(at, Script::default(), Then::Lost));
                }
            }
            Body::Answer(run, ..) | Body::Looked(run, ..) | Body::Repeat(run, ..) => {
                if self.hears(s, *run) {
                    self.modes(s, |mode| out.push(Action::Reach(at, run.node, mode)));
                }
                if lossy && matches!(&*m.body, Body::Answer(..)) {
                    out.push(Action::Drop(at));
                }
            }
            Body::Notice(_, fact) => {
                for n in 0..if s.left.visits == 0 { 1 } else { s.nodes.len() as u8 } {
                    if self.hears(s, Run { node: n, boot: s.nodes[usize::from(n)].boot }) {
                        self.modes(s, |mode| out.push(Action::Reach(at, n, mode)));
                        if self.notice_misread(s, n.into(), fact) {
                            out.push(Action::Misread(at, n));
                        }
                    }
                }
                // What nobody would ask about is told until it is heard.
                if lossy && fact.what != What::Failed && !self.liar {
                    out.push(Action::Drop(at));
                }
            }
        }
    }

    fn codes(&self, s: &State, out: &mut Vec<Action>) {
        let Some(p) = s.payment() else { return };
        for (i, a) in p.attempts.iter().enumerate().filter(|(_, a)| a.offer.is_some()) {
            let books = &s.books[usize::from(self.account_index(&a.account))].provider;
            let Some(order) = books.order(&a.op_id).filter(|o| o.payable) else { continue };
            if s.left.scans > 0 && !order.scanned {
                out.push(Action::Scan(i as u8));
            }
            if s.left.pays > 0 {
                self.tried(s, books, |p, chance| p.pay(&a.op_id, s.now, chance), |script| {
                    out.push(Action::Pay(i as u8, script));
                });
            }
        }
    }

    /// What becomes of one step; `None` where it makes no difference.
    pub fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut s = before.clone();
        self.apply(&mut s, action)?;
        Some(s)
    }

    fn apply(&self, s: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Submit(node, mode) => {
                self.put(s, node.into(), Input::Submitted(self.submission.clone()), mode)
            }
            Action::Arrive(at, script, then) => {
                s.left.spend(Fault::Whim, script.whims())?;
                let m = s.wire.remove(at.into());
                self.arrive(s, m, script, then)
            }
            Action::Copied(at, script) => {
                s.left.spend(Fault::Twice, 1)?;
                let mut m = s.wire[usize::from(at)].clone();
                let first = self.arrive(s, m.clone(), script, Then::Heard(Mode::Straight));
                let gone_ms = s.now + self.late_window_ms;
                s.wire.retain(|o| !Arc::ptr_eq(&o.body, &m.body));
                (m.late, m.gone_ms) = (true, gone_ms);
                s.put_back(m);
                first
            }
            Action::Reach(at, node, mode) => {
                let m = s.wire.remove(at.into());
                if matches!(&*m.body, Body::Notice(..)) {
                    visit(s, node)?;
                }
                self.reach(s, &m.body, node.into(), mode)
            }
            Action::Misread(at, node) => {
                s.left.spend(Fault::Misread, 1)?;
                let m = s.wire.remove(at.into());
                let Body::Notice(account, fact) = &*m.body else { return None };
                let fact = misread(fact);
                self.reach(s, &Body::Notice(*account, fact), node.into(), Mode::Straight)
            }
            Action::Drop(at) => {
                s.left.spend(Fault::Loss, 1)?;
                s.wire.remove(at.into());
                Some(())
            }
            Action::Refuse(node, socket, mode) => {
                s.left.spend(Fault::Loss, 1)?;
                let node = usize::from(node);
                let sending = self.close_socket(s, node, socket.into());
                let same = |m: &Message| match &*m.body {
                    Body::Request(_, it) => Arc::ptr_eq(it, &sending),
                    _ => false,
                };
                let at = s.wire.iter().position(|m| same(m) && !m.late)?;
                s.wire.remove(at);
                self.put(s, node, lost(&sending, Sent::No, "connect"), mode)
            }
            Action::Reset(node, socket, mode) => {
                s.left.spend(Fault::Loss, 1)?;
                let node = usize::from(node);
                let sending = self.close_socket(s, node, socket.into());
                self.put(s, node, lost(&sending, Sent::Maybe, "reset"), mode)
            }
            Action::TimeOut(node, socket, mode) => {
                let node = usize::from(node);
                let sending = self.close_socket(s, node, socket.into());
                self.put(s, node, lost(&sending, Sent::Maybe, "timeout"), mode)
            }
            Action::Later(n, script) => {
                s.left.spend(Fault::Whim, script.whims())?;
                let (account, later) = s.laters.remove(n.into());
                self.does(s, account, script, |p, chance| p.later(&later, chance));
                Some(())
            }
            Action::Tick => self.tick(s),
            Action::Due(node, mode) => {
                visit(s, node)?;
                self.put(s, node.into(), Input::Due, mode)
            }
            Action::Wish(w, node, mode) => {
                s.wishes &= !(1 << w);
                visit(s, node)?;
                let ver = s.ver();
                let held = s.nodes[usize::from(node)].held.is_some();
                let input = self.wishes[usize::from(w)].input();
                let switches = self.wishes[usize::from(w)].brings_credential();
                self.put(s, node.into(), input, mode)?;
                // Refused, or it changed nothing: it may be wished again later.
                let took = s.ver() > ver || s.nodes[usize::from(node)].held.is_some() != held;
                s.nodes[usize::from(node)].credential |= took && switches;
                took.then_some(())
            }
            Action::Scan(i) => {
                s.left.scans -= 1;
                let (account, op_id) = self.order_of(s, i.into())?;
                let mut provider = s.books[usize::from(account)].provider.clone();
                provider.scan(&op_id);
                s.books[usize::from(account)] = Arc::new(Books::new(provider));
                Some(())
            }
            Action::Pay(i, script) => {
                s.left.pays -= 1;
                s.left.spend(Fault::Whim, script.whims())?;
                let (account, op_id) = self.order_of(s, i.into())?;
                let now = s.now;
                self.does(s, account, script, |p, chance| p.pay(&op_id, now, chance));
                Some(())
            }
            Action::Crash(node) => {
                s.left.spend(Fault::Crash, 1)?;
                self.crash(s, node.into());
                Some(())
            }
            Action::Rise(node, newer, mode) => {
                let (now, nodes) = (s.now, s.nodes.len() as u64);
                let n = &mut s.nodes[usize::from(node)];
                n.rise(now, nodes);
                n.newer |= newer;
                if s.row.is_none() {
                    return (mode == Mode::Straight).then_some(());
                }
                self.put(s, node.into(), Input::Recovered, mode)
            }
            Action::Jump(node, forward) => {
                s.left.spend(Fault::Jump, 1)?;
                s.nodes[usize::from(node)].jump(if forward { JUMP_MS } else { -JUMP_MS });
                Some(())
            }
            Action::Write(node) => self.write(s, node.into()),
        }
    }

    /// A request or an inquiry reaches its provider.
    fn arrive(&self, s: &mut State, m: Message, script: Script, then: Then) -> Option<()> {
        match &*m.body {
            Body::Request(run, it) if it.opens => {
                let open = s.socket(*run, it);
                match then {
                    Then::Heard(mode) => {
                        let node = usize::from(run.node);
                        s.nodes[node].sockets.remove(open?);
                        self.goes_on(s, node, it, mode)
                    }
                    Then::Lost => {
                        if open.is_some() {
                            s.left.spend(Fault::Loss, 1)?;
                        }
                        Some(())
                    }
                    _ => None,
                }
            }
            Body::Request(run, it) => {
                let now = s.now;
                let open = s.socket(*run, it);
                let (status, facts) =
                    self.does(s, it.account, script, |p, chance| execute(p, it, now, chance));
                match (open, then) {
                    (Some(socket), Then::Heard(mode)) => {
                        let node = usize::from(run.node);
                        s.nodes[node].sockets.remove(socket);
                        let exchange = it.exchange.clone();
                        let state_version = self.reader(s, node);
                        let heard = Input::Heard { exchange, status, state_version, facts };
                        self.put(s, node, heard, mode)
                    }
                    (Some(_), Then::Travels) => {
                        s.left.spend(Fault::Late, u8::from(!m.late))?;
                        s.post(Body::Answer(*run, Arc::clone(it), status, facts), true, u64::MAX);
                        Some(())
                    }
                    (Some(_), Then::Lost) => s.left.spend(Fault::Loss, 1),
                    (None, Then::Lost | Then::Heard(Mode::Straight)) => Some(()),
                    _ => None,
                }
            }
            Body::Inquiry(run, subject, asked, account) => {
                let node = usize::from(run.node);
                let facts = if then == Then::Lost {
                    s.left.spend(Fault::Loss, 1)?;
                    Vec::new()
                } else {
                    self.read(s, *subject, *account, script)
                };
                let looked = |facts| Body::Looked(*run, *subject, *asked, facts);
                match then {
                    Then::Heard(mode) => self.reach(s, &looked(facts), node, mode),
                    Then::Lost => self.reach(s, &looked(facts), node, Mode::Straight),
                    Then::Misread => {
                        s.left.spend(Fault::Misread, 1)?;
                        let facts = facts.iter().map(misread).collect();
                        self.reach(s, &looked(facts), node, Mode::Straight)
                    }
                    Then::Travels => {
                        s.left.spend(Fault::Late, u8::from(!m.late))?;
                        s.post(looked(facts), true, u64::MAX);
                        Some(())
                    }
                }
            }
            _ => None,
        }
    }

    /// The plugin's second request of an operation, once its record is durable.
    fn goes_on(&self, s: &mut State, node: usize, it: &Sending, mode: Mode) -> Option<()> {
        let p = s.payment()?;
        let call = interlock_engine::Call {
            account: self.accounts[usize::from(it.account)].clone(),
            kind: ExchangeKind::Authorize,
            op_id: it.op_id.clone(),
            amount: p.money,
            attempt: p.attempts.iter().position(|a| a.op_id == it.op_id)?,
            method: p.method.kind.clone(),
            flow: p.method.flow.clone(),
            reason: None,
            reserve: false,
            again: None,
        };
        let input = Input::GoesOn { exchange: it.exchange.clone(), draft: draft(&call) };
        self.put(s, node, input, mode)
    }

    /// Something reaches a node.
    fn reach(&self, s: &mut State, body: &Body, node: usize, mode: Mode) -> Option<()> {
        let state_version = self.reader(s, node);
        let input = match body {
            Body::Answer(run, it, status, facts) => {
                let socket = s.socket(*run, it)?;
                s.nodes[node].sockets.remove(socket);
                Input::Heard {
                    exchange: it.exchange.clone(),
                    status: *status,
                    state_version,
                    facts: facts.clone(),
                }
            }
            Body::Looked(_, subject, asked, facts) => Input::Looked {
                subject: *subject,
                asked: *asked,
                state_version,
                facts: facts.clone(),
            },
            Body::Notice(account, fact) => Input::Noticed {
                account: self.accounts[usize::from(*account)].clone(),
                state_version,
                facts: vec![fact.clone()],
            },
            Body::Repeat(_, input) => input.clone(),
            Body::Request(..) | Body::Inquiry(..) => return None,
        };
        self.put(s, node, input, mode)
    }

    /// A provider does something: its books, its notifications, what is still to come.
    fn does(
        &self,
        s: &mut State,
        account: u8,
        script: Script,
        act: impl FnOnce(&mut Provider, &mut Player) -> Reaction,
    ) -> (u16, Vec<Fact>) {
        let index = usize::from(account);
        let mut provider = s.books[index].provider.clone();
        let mut player = Player::new(script);
        let reaction = act(&mut provider, &mut player);
        assert!(player.used_up() || script == Script::default(), "a script fits its questions");
        let before = s.books.iter().map(|b| b.provider.made()).sum::<usize>();
        s.books[index] = Arc::new(Books::new(provider));
        if let Some(why) = oracle::books(self, s, before) {
            s.breaks(why);
        }
        for fact in reaction.tells {
            if self.notices || fact.what == What::Failed {
                s.post(Body::Notice(account, fact), false, u64::MAX);
            }
        }
        s.laters.extend(reaction.later.into_iter().map(|l: Later| (account, l)));
        s.laters.sort();
        (reaction.status, reaction.facts)
    }

    /// A provider answers an inquiry.
    fn read(&self, s: &mut State, subject: Subject, account: u8, script: Script) -> Vec<Fact> {
        let index = usize::from(account);
        let mut provider = s.books[index].provider.clone();
        let mut player = Player::new(script);
        let facts = self.asked(s, &mut provider, subject, &mut player);
        assert!(player.used_up() || script == Script::default(), "a script fits its questions");
        s.books[index] = Arc::new(Books::new(provider));
        facts
    }

    fn asked(
        &self,
        s: &State,
        provider: &mut Provider,
        subject: Subject,
        chance: &mut Player,
    ) -> Vec<Fact> {
        let Some(p) = s.payment() else { return Vec::new() };
        match subject {
            Subject::Attempt(i) => {
                let a = &p.attempts[i];
                let named = a.second_charge_of.and(a.provider_ref.as_deref());
                provider.inquire(&a.op_id, named, s.now, chance)
            }
            Subject::Operation(n) => provider.inquire_job(&p.operations[n].op_id, s.now, chance),
        }
    }

    /// The clock moves on: what is still on the wire is late, and was paid for.
    fn tick(&self, s: &mut State) -> Option<()> {
        s.left.ticks = s.left.ticks.checked_sub(1)?;
        let to = self.next_moment(s)?;
        self.advance(s, to)
    }

    /// Moves the clock, if the faults that are left pay for everything that is late.
    pub fn advance(&self, s: &mut State, to: u64) -> Option<()> {
        let late = s.wire.iter().filter(|m| !m.late).count();
        let held = s.nodes.iter().filter(|n| n.held.is_some()).count();
        s.left.spend(Fault::Late, u8::try_from(late + held).ok()?)?;
        s.now = to;
        for mut m in std::mem::take(&mut s.wire) {
            m.late = true;
            if m.gone_ms > to {
                s.put_back(m);
            }
        }
        Some(())
    }

    /// The next moment at which something is to be done; `None` while something is to be done now,
    /// or never.
    pub fn next_moment(&self, s: &State) -> Option<u64> {
        let up = || s.nodes.iter().enumerate().filter(|(_, n)| n.up);
        let sockets = up().flat_map(|(_, n)| n.sockets.iter().map(|k| k.until_ms));
        let row = s.row.as_ref()?;
        let due = up().filter_map(|(_, n)| row.due.map(|at| n.when(at, s.now)));
        let next = sockets.chain(due).min();
        match next {
            Some(at) => (at > s.now).then_some(at),
            // Nobody is up: a long outage.
            None if up().next().is_none() => Some(s.now + self.late_window_ms + self.timeout_ms),
            None => None,
        }
    }

    /// Whether it is time for a node to look.
    pub fn is_due(&self, s: &State, n: usize) -> bool {
        let due = s.row.as_ref().and_then(|row| row.due);
        due.is_some_and(|at| s.nodes[n].peek(s.now).wall_ms >= at)
    }

    fn hears(&self, s: &State, run: Run) -> bool {
        s.alive(run) && s.nodes[usize::from(run.node)].held.is_none()
    }

    fn reader(&self, s: &State, node: usize) -> u32 {
        if s.nodes[node].newer { 2 } else { 1 }
    }

    /// Whether a new plugin may misread what an old one began.
    fn may_misread(&self, s: &State, run: Run, subject: Subject) -> bool {
        let newer = s.nodes[usize::from(run.node)].newer && s.left.has(Fault::Misread);
        let old = |p: &interlock_engine::Payment| match subject {
            Subject::Attempt(i) => p.attempts[i].track.takers().any(|x| x.state_version == 1),
            Subject::Operation(n) => {
                p.operations[n].track.takers().any(|x| x.state_version == 1)
            }
        };
        newer && s.payment().is_some_and(old)
    }

    fn notice_misread(&self, s: &State, node: usize, fact: &Fact) -> bool {
        let run = Run { node: node as u8, boot: s.nodes[node].boot };
        let subject = s.payment().and_then(|p| {
            let by = |r: &String| {
                let operation = p.operation_of(r).map(Subject::Operation);
                operation.or_else(|| p.attempt_of(r).map(Subject::Attempt))
            };
            [&fact.op_id, &fact.provider_ref].into_iter().flatten().find_map(by)
        });
        subject.is_some_and(|subject| self.may_misread(s, run, subject))
    }

    /// Calls back with every mode that can be paid for.
    fn modes(&self, s: &State, mut each: impl FnMut(Mode)) {
        each(Mode::Straight);
        if s.left.has(Fault::Race) && s.nodes.len() > 1 {
            each(Mode::Race);
        }
        if s.left.has(Fault::Crash) {
            each(Mode::Dies(0));
            each(Mode::Dies(1));
        }
        if s.left.has(Fault::Unbuilt) {
            each(Mode::Unbuilt);
        }
        if s.left.has(Fault::Twice) {
            each(Mode::Twice);
        }
    }

    fn tried<T>(
        &self,
        s: &State,
        books: &Provider,
        mut act: impl FnMut(&mut Provider, &mut Player) -> T,
        mut each: impl FnMut(Script),
    ) {
        let whims = s.left.count(Fault::Whim);
        if whims == 0 {
            return each(Script::default());
        }
        for script in scripts(whims, |player| {
            act(&mut books.clone(), player);
        }) {
            each(script);
        }
    }

    fn arrivals(&self, s: &State, it: &Sending, each: impl FnMut(Script)) {
        let books = &s.books[usize::from(it.account)].provider;
        self.tried(s, books, |p, chance| {
            if !it.opens {
                execute(p, it, s.now, chance);
            }
        }, each);
    }

    fn inquiries(&self, s: &State, subject: Subject, account: u8, each: impl FnMut(Script)) {
        let books = &s.books[usize::from(account)].provider;
        self.tried(s, books, |p, chance| self.asked(s, p, subject, chance), each);
    }

    fn order_of(&self, s: &State, attempt: usize) -> Option<(u8, String)> {
        let a = s.payment()?.attempts.get(attempt)?;
        Some((self.account_index(&a.account), a.op_id.clone()))
    }
}

impl Left {
    /// Nothing goes wrong any more.
    pub fn nothing() -> Self {
        Self { all: 0, of: [0; super::state::FAULTS], ticks: 0, scans: 0, pays: 0, visits: 0 }
    }
}

/// A provider carries out what arrives.
fn execute(p: &mut Provider, it: &Sending, now: u64, chance: &mut Player) -> Reaction {
    match it.kind {
        ExchangeKind::Authorize | ExchangeKind::Continue => {
            p.authorize(&it.op_id, it.offer, now, chance)
        }
        ExchangeKind::Close => p.close(&it.target, now, chance),
        kind => {
            let task = Task {
                kind,
                op_id: &it.op_id,
                order: &it.target,
                reference: it.reference.as_deref(),
                amount: it.amount,
            };
            p.operate(&task, now, chance)
        }
    }
}

fn lost(it: &Sending, sent: Sent, reason: &str) -> Input {
    Input::Lost { exchange: it.exchange.clone(), sent, reason: reason.into() }
}

/// The second node is visited only so often.
fn visit(s: &mut State, node: u8) -> Option<()> {
    if node > 0 && s.left.visits < u8::MAX {
        s.left.visits = s.left.visits.checked_sub(1)?;
    }
    Some(())
}

/// What a plugin makes of words that it does not know: the worst that it could.
fn misread(fact: &Fact) -> Fact {
    use interlock_plugin_api::Class;
    let no = Fact::declined(Class::DeclinedSoft, "proof.no").of_key();
    Fact { op_id: fact.op_id.clone(), provider_ref: fact.provider_ref.clone(), ..no }
}
