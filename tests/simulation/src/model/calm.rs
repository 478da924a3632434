//! No dead end: from any state, if nothing goes wrong any more, the payment comes to rest.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashSet;

use super::chance::Script;
use super::oracle;
use super::state::{Body, Left, State};
use super::step::{Action, Then};
use super::turn::Mode;
use super::worlds::World;
use crate::rest;

/// So many steps lead from any state to its rest.
const STEPS_MAX: u32 = 1_500;

/// So often the clock moves before it is believed that nobody but an operator knows.
const PATIENCE: u32 = 24;

/// Shelves of what was shown to come to rest already, so that threads seldom wait for one another.
const SHELVES: usize = 64;

/// From where it was shown that the payment comes to rest.
#[derive(Debug)]
pub struct Rests {
    shelves: [Mutex<FxHashSet<u64>>; SHELVES],
    count: AtomicU64,
}

impl Default for Rests {
    fn default() -> Self {
        Self { shelves: std::array::from_fn(|_| Mutex::default()), count: AtomicU64::new(0) }
    }
}

impl Rests {
    /// Whether this state has not been here before.
    fn is_new(&self, digest: u64) -> bool {
        let shelf = &self.shelves[(digest >> 58) as usize % SHELVES];
        let new = shelf.lock().is_ok_and(|mut shelf| shelf.insert(digest));
        self.count.fetch_add(u64::from(new), Ordering::Relaxed);
        new
    }
}

impl World {
    /// From how many states it was shown that the payment comes to rest.
    pub fn rests(&self) -> u64 {
        self.rests.count.load(Ordering::Relaxed)
    }

    /// Why there is no way out of a state: asked of a part of all states, and of every one at the
    /// end of what may happen.
    pub fn way_out(&self, s: &State) -> Option<String> {
        if s.broken.is_some() || s.row.is_none() {
            return None;
        }
        let idle = s.nothing_comes() && s.laters.is_empty();
        let at_rest = |n: &super::node::Node| n.held.is_none() && n.sockets.is_empty();
        let spent = idle && s.left.ticks == 0 && s.nodes.iter().all(at_rest);
        if s.quiet()
            && let Some(why) = oracle::at_rest(self, s)
        {
            return Some(why);
        }
        let digest = s.calm_digest();
        let asked = spent || digest.is_multiple_of(self.sample);
        if !asked || !self.rests.is_new(digest) {
            return None;
        }
        self.dead_end(s)
    }

    /// What goes wrong when nothing goes wrong any more: everything is delivered at once, everybody
    /// is plain, and nodes take turns in looking when it is time.
    pub fn dead_end(&self, from: &State) -> Option<String> {
        self.walk(from, &mut |_, _, _| {})
    }

    /// The same, step by step.
    pub fn walk(
        &self,
        from: &State,
        each: &mut dyn FnMut(&State, Action, &State),
    ) -> Option<String> {
        let mut s = from.clone();
        self.still(&mut s);
        let mut waited = 0;
        for n in 0..STEPS_MAX {
            if s.broken.is_some() {
                return s.broken.map(|why| format!("on the way to rest: {why}"));
            }
            let operator = s.payment().is_some_and(rest::waits_for_operator);
            let nothing = s.nothing_comes() && s.laters.is_empty();
            // An operator may be asked before the truth is found, when a clock was wrong.
            waited = if operator { waited } else { 0 };
            if s.quiet() || (operator && nothing) {
                let wrong = oracle::at_rest(self, &s);
                if s.quiet() || wrong.is_none() || waited > PATIENCE {
                    return wrong;
                }
            }
            match self.next_calm(&s, n) {
                Some(action) => {
                    let next = self.step(&s, action);
                    let Some(next) = next else {
                        return Some(format!("no way out: {action:?} leads nowhere"));
                    };
                    each(&s, action, &next);
                    s = next;
                }
                None => {
                    waited += 1;
                    let Some(to) = self.next_moment(&s) else {
                        return Some("no way out: nothing will ever happen".into());
                    };
                    if self.advance(&mut s, to).is_none() {
                        return Some("no way out: something stays on the wire".into());
                    }
                }
            }
        }
        Some("no way out: it never comes to rest".into())
    }

    fn still(&self, s: &mut State) {
        s.left = Left { visits: u8::MAX, ..Left::nothing() };
        s.wishes = 0;
        for books in &mut s.books {
            let mut provider = books.provider.clone();
            provider.mood.moody = false;
            *books = std::sync::Arc::new(super::state::Books::new(provider));
        }
    }

    /// What happens next when nothing goes wrong, short of moving the clock.
    pub fn next_calm(&self, s: &State, n: u32) -> Option<Action> {
        let nodes = 0..s.nodes.len();
        if let Some(down) = nodes.clone().find(|i| !s.nodes[*i].up) {
            return Some(Action::Rise(down as u8, false, Mode::Straight));
        }
        if let Some(held) = nodes.clone().find(|i| s.nodes[*i].held.is_some()) {
            return Some(Action::Write(held as u8));
        }
        if s.row.is_none() {
            return Some(Action::Submit(0, Mode::Straight));
        }
        if let Some(at) = s.wire.iter().position(|m| s.may_come(m)) {
            let to = at as u8;
            return Some(match &*s.wire[at].body {
                Body::Request(run, it) => {
                    let open = s.socket(*run, it).is_some();
                    let then = if open { Then::Heard(Mode::Straight) } else { Then::Lost };
                    Action::Arrive(to, Script::default(), then)
                }
                Body::Inquiry(..) => {
                    Action::Arrive(to, Script::default(), Then::Heard(Mode::Straight))
                }
                Body::Notice(..) => {
                    Action::Reach(to, (n % s.nodes.len() as u32) as u8, Mode::Straight)
                }
                body => Action::Reach(to, body.run()?.node, Mode::Straight),
            });
        }
        for i in nodes.clone() {
            let over = s.nodes[i].sockets.iter().position(|k| k.until_ms <= s.now);
            if let Some(over) = over {
                return Some(Action::TimeOut(i as u8, over as u8, Mode::Straight));
            }
        }
        if !s.laters.is_empty() {
            return Some(Action::Later(0, Script::default()));
        }
        // Now the one and now the other, in no rhythm that could keep a wait from ending.
        let first = (n.wrapping_mul(0x9e37_79b9) >> 29) as usize % s.nodes.len();
        let order = nodes.map(|i| (first + i) % s.nodes.len());
        let due = order.into_iter().find(|i| self.is_due(s, *i));
        due.map(|i| Action::Due(i as u8, Mode::Straight))
    }
}
