//! Everything that can happen next, and what comes of it.

use std::sync::Arc;

use interlock_engine::{Input, Sent, Subject};

use super::chance::Script;
use super::state::{Body, Books, Fault, Left, Message, Sending, State};
use super::street::misread;
use super::turn::Mode;
use super::worlds::World;

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
    /// Somebody gives back all or some of a charge of an attempt in its provider's portal; it is
    /// told under our number too or under the provider's alone.
    Portal(u8, bool, bool),
    /// An operator says what the books hold at this moment.
    Verdict(Subject, u8, Mode),
}

/// How far a wall clock jumps, ms.
const JUMP_MS: i64 = 2 * 3_600_000;

impl World {
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
                let wish = &self.wishes[usize::from(w)];
                let (switches, returns) = (wish.brings_credential(), wish.brings_details());
                self.put(s, node.into(), input, mode)?;
                // Refused, or it changed nothing: it may be wished again later.
                let took = s.ver() > ver || s.nodes[usize::from(node)].held.is_some() != held;
                s.nodes[usize::from(node)].credential |= took && switches;
                let up = s.nodes[usize::from(node)].up;
                let waits = s.payment().is_some_and(interlock_engine::intake::wants_details);
                s.nodes[usize::from(node)].details |= took && returns && waits && up;
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
            Action::Portal(i, whole, named) => self.portal(s, i.into(), whole, named),
            Action::Verdict(subject, node, mode) => {
                visit(s, node)?;
                self.speak(s, subject, node.into(), mode)
            }
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
}

impl Left {
    /// Nothing goes wrong any more.
    pub fn nothing() -> Self {
        let of = [0; super::state::FAULTS];
        Self { all: 0, of, ticks: 0, scans: 0, pays: 0, visits: 0, portals: 0, verdicts: 0 }
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
