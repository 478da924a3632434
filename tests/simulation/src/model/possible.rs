//! Everything that can happen next in a state.

use interlock_engine::Subject;
use interlock_plugin_api::{Fact, What};

use super::chance::{Player, Script, scripts};
use super::node::Run;
use super::state::{Body, Fault, Sending, State};
use super::step::{Action, Then};
use super::street::execute;
use super::turn::Mode;
use super::worlds::World;
use crate::provider::Provider;
use crate::provider::portal;

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
            self.tried(
                s,
                books,
                |p, chance| p.later(later, chance),
                |script| {
                    out.push(Action::Later(n as u8, script));
                },
            );
        }
        self.codes(s, out);
        if s.left.portals > 0 || s.left.verdicts > 0 {
            self.at_the_desk(s, out);
        }
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
        let may = |w: &usize| s.wishes >> w & 1 == 1;
        for w in (0..self.wishes.len()).filter(may) {
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
                if !s.may_come(m) {
                    return;
                }
                let sure = portal::is_outside(fact) || !s.denied.is_empty();
                for n in 0..if s.left.visits == 0 { 1 } else { s.nodes.len() as u8 } {
                    if self.hears(s, Run { node: n, boot: s.nodes[usize::from(n)].boot }) {
                        self.modes(s, |mode| {
                            // What is told until it is heard is not lost with a node.
                            if !sure || mode != Mode::Race {
                                out.push(Action::Reach(at, n, mode));
                            }
                        });
                        if self.notice_misread(s, n.into(), fact) {
                            out.push(Action::Misread(at, n));
                        }
                    }
                }
                // What nobody would ask about is told until it is heard.
                let sure = sure || fact.what == What::Failed;
                if lossy && !sure && !self.liar {
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
                self.tried(
                    s,
                    books,
                    |p, chance| p.pay(&a.op_id, s.now, chance),
                    |script| {
                        out.push(Action::Pay(i as u8, script));
                    },
                );
            }
        }
    }

    /// Whether a new plugin may misread what an old one began.
    fn may_misread(&self, s: &State, run: Run, subject: Subject) -> bool {
        let newer = s.nodes[usize::from(run.node)].newer && s.left.has(Fault::Misread);
        let old = |p: &interlock_engine::Payment| match subject {
            Subject::Attempt(i) => p.attempts[i].track.takers().any(|x| x.state_version == 1),
            Subject::Operation(n) => p.operations[n].track.takers().any(|x| x.state_version == 1),
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
        self.tried(
            s,
            books,
            |p, chance| {
                if !it.opens {
                    execute(p, it, s.now, chance);
                }
            },
            each,
        );
    }

    fn inquiries(&self, s: &State, subject: Subject, account: u8, each: impl FnMut(Script)) {
        let books = &s.books[usize::from(account)].provider;
        self.tried(s, books, |p, chance| self.asked(s, p, subject, chance), each);
    }

    fn hears(&self, s: &State, run: Run) -> bool {
        s.alive(run) && s.nodes[usize::from(run.node)].held.is_none()
    }
}
