//! Between a node and the providers: requests, answers, inquiries and notices, any of which may be
//! late, lost or doubled.

use std::rc::Rc;

use interlock_engine::{Asked, Draft, ExchangeKind, Input, Payment, Sent, Subject};
use interlock_plugin_api::{Class, Concurrency, Effect as SendEffect, Fact, IdempotencyClass};

use super::node::name_of;
use super::steps::second;
use super::{Beside, Event, Run, World};
use crate::declarations::{CHALLENGE, CREATE, TIMEOUT, WINDOW};
use crate::provider::portal;
use crate::provider::{Asked as Takes, Later, Reaction, Task};

/// How often a notice is told that nobody acknowledges.
const TOLD_MAX: u64 = 40;

/// An open socket of a node.
#[derive(Debug)]
pub(super) struct Socket {
    pub id: u64,
    pub case: u32,
    pub exchange: String,
    /// The continuations' version of the plugin that wrote the request.
    pub written_by: u32,
    pub account: usize,
    /// The request that follows the answer to this one.
    second: Option<Box<Draft>>,
}

/// A request as it travels.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    run: Run,
    socket: u64,
    case: u32,
    account: usize,
    kind: ExchangeKind,
    op_id: String,
    target: String,
    reference: Option<String>,
    amount: i64,
    offer: bool,
    challenge: bool,
    /// The last answer did not permit it.
    unpermitted: bool,
    /// It is the first of two requests, and moves nothing yet.
    opens: bool,
    /// It is a second copy of it.
    again: bool,
}

/// What is known of a request besides what travels.
struct Written {
    /// The continuations' version of the plugin that wrote it.
    by: u32,
    /// Monotonic ms of its process until which it may leave.
    until_ms: u64,
    second: Option<Box<Draft>>,
}

impl Wire {
    fn asks(&self) -> Takes<'_> {
        Takes {
            op_id: &self.op_id,
            order: &self.target,
            offer: self.offer,
            challenge: self.challenge,
            unpermitted: self.unpermitted,
        }
    }
}

impl World<'_> {
    /// Sends a request whose record is durable, unless its time is over.
    pub(super) fn send(&mut self, node: usize, case: u32, row: &Rc<Payment>, exchange: &str) {
        let Some((wire, written)) = self.wire(node, case, row, exchange) else {
            return self.blame(case, format!("no such exchange: {exchange}"));
        };
        let Written { by: written_by, until_ms, second } = written;
        let (run, id, account) = (wire.run, wire.socket, wire.account);
        self.watch_send(case, row, exchange, &wire.op_id);
        let exchange = exchange.to_owned();
        let calm = self.calm();
        let roll = if calm { 999 } else { self.dice.below(1_000) };
        // A process that was stopped looks at the clock again before it writes.
        let stalled = if roll < 4 { self.dice.below(3 * TIMEOUT) } else { 0 };
        let too_late = self.stamp(node).mono_ms + stalled > until_ms;
        if roll < 45 && (roll >= 4 || too_late) {
            self.fault(|s| &mut s.not_sent);
            let reason = "connect".to_owned();
            let input = Box::new(Input::Lost { exchange, sent: Sent::No, reason });
            let at = self.now + stalled + self.dice.below(2_000);
            if self.dice.one_in(8) {
                // A journal that was not sure makes the driver say it twice.
                self.at(at + 50, Event::Reach(run, case, input.clone(), 0));
            }
            return self.at(at, Event::Reach(run, case, input, 0));
        }
        let socket = Socket { id, case, exchange, written_by, account, second };
        self.nodes[node].sockets.push(socket);
        let sent = self.now + stalled;
        self.at(sent + TIMEOUT, Event::TimeOut(run, id));
        if roll < 75 {
            return self.fault(|s| &mut s.lost);
        }
        let late = roll < 110;
        if late {
            self.fault(|s| &mut s.late);
        }
        let longest = TIMEOUT + WINDOW - 4_000;
        let at = match self.dice.below(3) {
            _ if !late => sent + self.dice.below(400),
            // Aimed at the end of the late window.
            0 => sent + longest - self.dice.below(15_000),
            _ => sent + self.dice.below(longest),
        };
        self.at(at, Event::Arrive(Box::new(wire)));
    }

    /// A request reaches the provider.
    pub(super) fn arrive(&mut self, w: Wire) {
        let now = self.now;
        let (provider, dice) = self.books(w.case, w.account);
        let takes = matches!(w.kind, ExchangeKind::Authorize | ExchangeKind::Continue);
        let reaction = match w.kind {
            _ if w.opens => provider.create(takes.then_some(w.op_id.as_str()), now, dice),
            ExchangeKind::Authorize => provider.authorize(&w.asks(), now, dice),
            ExchangeKind::Continue => provider.proceed(&w.asks(), now, dice),
            ExchangeKind::Close => provider.close(&w.target, now, dice),
            kind => {
                let (op_id, order, amount) = (w.op_id.as_str(), w.target.as_str(), w.amount);
                let reference = w.reference.as_deref();
                provider.operate(&Task { kind, op_id, order, reference, amount }, now, dice)
            }
        };
        if matches!(reaction.status, 401 | 429 | 500..) {
            self.fault(|s| &mut s.providers);
        }
        if !w.again && reaction.status <= 202 && !self.calm() && self.dice.one_in(60) {
            self.copied(&w);
        }
        let (status, facts) = self.react(w.case, w.account, reaction);
        if w.again {
            // Its own answer goes nowhere.
            return;
        }
        if !self.calm() && self.dice.one_in(25) {
            return self.fault(|s| &mut s.lost);
        }
        let slow = !self.calm() && self.dice.one_in(30);
        if slow {
            self.fault(|s| &mut s.late);
        }
        let back = self.dice.below(600) + if slow { TIMEOUT } else { 0 };
        let at = now + back;
        self.at(at, Event::Answer(w.run, w.socket, status, facts));
    }

    /// Another copy of what was carried out arrives later, where a provider takes it for the first.
    fn copied(&mut self, w: &Wire) {
        let contract = &self.cases[w.case as usize].providers[w.account].contract;
        let purpose = match w.kind {
            ExchangeKind::Authorize => "pay",
            kind => kind.as_str(),
        };
        let rule = contract.move_rule(purpose);
        let remembers = rule.class == IdempotencyClass::Strong
            && rule.concurrency == Concurrency::Excluded
            && w.kind != ExchangeKind::Close
            && !w.offer;
        if w.opens || remembers {
            self.fault(|s| &mut s.late);
            let at = self.now + self.dice.below(WINDOW);
            self.at(at, Event::Arrive(Box::new(Wire { again: true, ..w.clone() })));
        }
    }

    /// What a provider did: the books are looked at, what it tells and will do is on its way.
    fn react(&mut self, case: u32, account: usize, reaction: Reaction) -> (u16, Vec<Fact>) {
        let calm = self.calm();
        for later in reaction.later {
            let longest = match &later {
                _ if calm => 1_000,
                Later::DecideJob(_) => 300_000,
                Later::Take(_) => 120_000,
                _ => 600_000,
            };
            let at = self.now + self.dice.below(longest);
            self.at(at, Event::Later(case, account, Box::new(later)));
        }
        for fact in reaction.tells {
            self.notify(case, account, fact);
        }
        self.look_at_the_books(case);
        (reaction.status, reaction.facts)
    }

    /// Tells something never, once or twice, soon or late. What nobody would ask about is told
    /// until it is heard.
    fn notify(&mut self, case: u32, account: usize, fact: Fact) {
        let alone = portal::is_outside(&fact) || fact.provider_code.as_deref() == Some("bounced");
        let c = &self.cases[case as usize];
        let sure = self.calm() || alone || c.lied_to || c.restored || !c.denied.is_empty();
        let copies = match self.dice.below(10) {
            _ if sure => 1,
            0..=1 => 0,
            2..=8 => 1,
            _ => 2,
        };
        if copies != 1 {
            self.fault(|s| &mut s.notices);
        }
        let late = !self.calm() && self.dice.one_in(6);
        let longest = if late { 400_000 } else { 3_000 };
        self.notices += 1;
        let id = self.notices;
        for _ in 0..copies {
            let at = self.now + self.dice.below(longest);
            self.at(at, Event::Notice(case, account, Box::new(fact.clone()), id));
        }
    }

    /// A notification comes to whichever node is up.
    pub(super) fn notice(&mut self, case: u32, account: usize, fact: Box<Fact>, id: u64) {
        // The upper half counts how often it was told.
        let (name, told) = (id & 0xffff_ffff, id >> 32);
        if self.cases[case as usize].acknowledged.contains(&name) {
            return;
        }
        // What happened in a portal is told more and more seldom, for a day.
        let outside = portal::is_outside(&fact);
        let (most, slower) = if outside { (90, 1 + told) } else { (TOLD_MAX, 1) };
        if told < most {
            let again = self.now + (5_000 + self.dice.below(30_000)) * slower;
            let id = name | (told + 1) << 32;
            self.at(again, Event::Notice(case, account, fact.clone(), id));
        }
        let Some(node) = self.up() else { return };
        let Some(book) = self.store.book() else { return };
        let provider = &self.cases[case as usize].accounts[account];
        let named = [&fact.provider_ref, &fact.op_id];
        let known = named
            .into_iter()
            .flatten()
            .any(|r| book.reference(&name_of(provider, r)).is_some_and(|owner| *owner == case));
        if !known {
            return;
        }
        let state_version = self.reader(node, account);
        let written_by = self.written_by(case, |row| subject_of(row, &fact));
        let facts = self.read((node, case, account), written_by, vec![*fact]);
        if facts.is_empty() {
            // What can't be read is not acknowledged.
            return;
        }
        let account = self.cases[case as usize].accounts[account].to_string();
        let input = Input::Noticed { account, state_version, facts };
        self.put(node, case, input, Beside { notice: Some(name), ..Beside::default() });
    }

    /// A provider does by itself what it said it would.
    pub(super) fn later(&mut self, case: u32, account: usize, later: &Later) {
        let (provider, dice) = self.books(case, account);
        let reaction = provider.later(later, dice);
        if matches!(later, Later::Bounce(_)) {
            self.fault(|s| &mut s.providers);
        }
        self.react(case, account, reaction);
    }

    /// A shopper's act at a provider.
    pub(super) fn at_provider(&mut self, case: u32, account: usize, reaction: Reaction) {
        self.react(case, account, reaction);
    }

    pub(super) fn time_out(&mut self, run: Run, socket: u64) {
        let Some(socket) = self.close_socket(run, socket) else { return };
        let Socket { case, exchange, .. } = socket;
        let reason = "timeout".to_owned();
        let input = Input::Lost { exchange, sent: Sent::Maybe, reason };
        self.put(run.node, case, input, Beside::default());
    }

    pub(super) fn answer(&mut self, run: Run, socket: u64, status: u16, facts: Vec<Fact>) {
        let Some(mut socket) = self.close_socket(run, socket) else { return };
        if status == 200
            && let Some(second) = socket.second.take()
        {
            return self.go_on(run, socket, *second);
        }
        let Socket { case, exchange, written_by, account, .. } = socket;
        let state_version = self.reader(run.node, account);
        let facts = self.read((run.node, case, account), Some(written_by), facts);
        let input = Input::Heard { exchange, status, state_version, facts };
        self.put(run.node, case, input, Beside::default());
    }

    fn close_socket(&mut self, run: Run, id: u64) -> Option<Socket> {
        if !self.alive(run) {
            return None;
        }
        let sockets = &mut self.nodes[run.node].sockets;
        let n = sockets.iter().position(|s| s.id == id)?;
        Some(sockets.swap_remove(n))
    }

    /// Asks about an attempt or an operation, on what this process knows as durable.
    pub(super) fn inquire(&mut self, node: usize, case: u32, ver: u64, subject: Subject) {
        let at = self.stamp(node);
        let run = Run { node, boot: at.boot };
        let wire = if self.calm() { 20 } else { self.dice.below(1_000) };
        let asked = Asked { ver, at };
        let at = self.now + wire;
        self.at(at, Event::Ask(run, case, subject, asked));
    }

    /// An inquiry reaches the provider.
    pub(super) fn ask(&mut self, run: Run, case: u32, subject: Subject, asked: Asked) {
        let now = self.now;
        let Some(row) = self.row(case).cloned() else { return };
        let attempt = match subject {
            Subject::Attempt(i) => row.attempts.get(i),
            Subject::Operation(n) => {
                row.operations.get(n).and_then(|o| row.attempts.get(o.attempt))
            }
        };
        let Some(a) = attempt else { return };
        let account = self.account_of(case, &a.account);
        let (provider, dice) = self.books(case, account);
        let facts = match subject {
            Subject::Attempt(_) => {
                let named = a.second_charge_of.and(a.provider_ref.as_deref());
                provider.inquire(&a.op_id, named, now, dice)
            }
            Subject::Operation(n) => provider.inquire_job(&row.operations[n].op_id, now, dice),
        };
        if !self.calm() && self.dice.one_in(30) {
            // No answer ever comes; the driver hears that nothing was heard.
            self.fault(|s| &mut s.lost);
            return;
        }
        let slow = !self.calm() && self.dice.one_in(15);
        let back = if slow { self.dice.below(2 * WINDOW) } else { self.dice.below(500) };
        if slow {
            self.fault(|s| &mut s.late);
        }
        let written_by = self.written_by(case, |_| Some(subject));
        let facts = self.read((run.node, case, account), written_by, facts);
        let state_version = self.reader(run.node, account);
        let input = Box::new(Input::Looked { subject, asked, state_version, facts });
        self.at(now + back, Event::Reach(run, case, input, 0));
    }

    /// The version of the continuations of the plugin that a node has loaded.
    fn reader(&self, node: usize, account: usize) -> u32 {
        let policy = self.policies.of(self.seed, self.nodes[node].version);
        let name = &self.cases[0].accounts[account];
        policy.accounts[&**name].state_version
    }

    /// The oldest version that wrote something for what is spoken of.
    fn written_by(
        &self,
        case: u32,
        subject: impl FnOnce(&Payment) -> Option<Subject>,
    ) -> Option<u32> {
        let row = self.row(case)?;
        let track = match subject(row)? {
            Subject::Attempt(i) => &row.attempts[i].track,
            Subject::Operation(n) => &row.operations[n].track,
        };
        track.takers().map(|x| x.state_version).min()
    }

    /// What the plugin in force reads. One that does not continue the version that wrote the
    /// request may take anything for a refusal.
    fn read(
        &mut self,
        (node, case, account): (usize, u32, usize),
        written_by: Option<u32>,
        facts: Vec<Fact>,
    ) -> Vec<Fact> {
        let policy = self.policies.of(self.seed, self.nodes[node].version);
        let name = &self.cases[0].accounts[account];
        let loaded = &policy.accounts[&**name];
        let knows = written_by.is_none_or(|v| loaded.continues.contains(&v));
        if !self.calm() && self.dice.one_in(150) {
            // Unreadable: nothing is read in it.
            self.fault(|s| &mut s.plugins);
            return Vec::new();
        }
        if knows || self.dice.one_in(2) {
            return facts;
        }
        self.fault(|s| &mut s.plugins);
        self.cases[case as usize].misread = true;
        let misread = |fact: Fact| Fact {
            op_id: fact.op_id,
            ..Fact::declined(Class::DeclinedHard, "proof.misread").of_key()
        };
        facts.into_iter().map(misread).collect()
    }

    pub(super) fn account_of(&self, case: u32, name: &str) -> usize {
        let accounts = &self.cases[case as usize].accounts;
        accounts.iter().position(|a| &**a == name).expect("a known account")
    }

    /// The request of a durable exchange, as it goes over the wire.
    fn wire(
        &mut self,
        node: usize,
        case: u32,
        row: &Rc<Payment>,
        exchange: &str,
    ) -> Option<(Wire, Written)> {
        let attempts = || row.attempts.iter().map(|a| (a, &a.track, None));
        let operations =
            || row.operations.iter().map(|o| (&row.attempts[o.attempt], &o.track, Some(o)));
        let (a, x, o) = attempts()
            .chain(operations())
            .find_map(|(a, track, o)| track.exchange(exchange).map(|x| (a, x, o)))?;
        self.sockets += 1;
        let account = self.account_of(case, &a.account);
        let wire = Wire {
            run: Run { node, boot: self.nodes[node].boot },
            socket: self.sockets,
            case,
            account,
            kind: x.kind,
            op_id: x.op_id.clone(),
            target: a.op_id.clone(),
            reference: a.provider_ref.clone(),
            amount: o.map_or(row.money.amount, |o| o.amount),
            offer: x.effect == SendEffect::Offer,
            challenge: a.flow == CHALLENGE,
            unpermitted: self.cases[case as usize]
                .unpermitted
                .iter()
                .any(|(id, number)| (id.as_str(), *number) == (exchange, x.sends)),
            opens: x.purpose == CREATE,
            again: false,
        };
        let until_ms = x.last_send_by.mono_ms;
        Some((wire, Written { by: x.state_version, until_ms, second: second(x) }))
    }
}

/// What a notification speaks of: an operation before an attempt.
fn subject_of(row: &Payment, fact: &Fact) -> Option<Subject> {
    let references = [&fact.operation_ref, &fact.op_id, &fact.provider_ref];
    let operation = references.into_iter().flatten().find_map(|r| row.operation_of(r));
    let attempt = || references.into_iter().flatten().find_map(|r| row.attempt_of(r));
    operation.map(Subject::Operation).or_else(|| attempt().map(Subject::Attempt))
}
