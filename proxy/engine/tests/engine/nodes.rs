//! Two nodes, one journal, a bad network and the fake providers, on one clock that the test owns.
//!
//! A node decides on the version it has read and commits by compare-and-swap, at once or a little
//! later; effects follow only a commit, and a crash loses whatever was in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use interlock_engine::{
    Asked, AttemptState, Decision, Effect, Exchange, ExchangeKind, Hand, Input, Outcome, Payment,
    Policy, Prepared, Sent, Settled, Skip, Stamp, Subject, World, decide,
};
use interlock_plugin_api::{Effect as SendEffect, Fact};

use crate::ledger::{Later, Provider};
use crate::table::{Board, Numbers, TIMEOUT, draft};
use crate::walk::Dice;

/// W in the walk: short, so that much happens within it.
pub const WINDOW: u64 = 90_000;
/// Faults are lifted then.
pub const CALM: u64 = 40 * 60_000;

/// One thing that will happen.
pub enum Event {
    /// Something reaches a node; only if it is still the same run of it.
    Reach(usize, u64, Input),
    /// A decision that was slow to be written.
    Write(usize, u64, Input, u64, Box<Decision>, bool),
    /// A request reaches the provider.
    Arrive {
        node: usize,
        boot: u64,
        socket: u64,
        request: Wire,
    },
    /// A socket gives up.
    TimeOut {
        node: usize,
        boot: u64,
        socket: u64,
        exchange: String,
    },
    /// An answer reaches its socket.
    Answer {
        node: usize,
        boot: u64,
        socket: u64,
        exchange: String,
        status: u16,
        facts: Vec<Fact>,
    },
    /// An inquiry reaches the provider.
    Ask {
        node: usize,
        boot: u64,
        subject: Subject,
        asked: Asked,
    },
    /// A provider does by itself what it said it would.
    Provider(String, Later),
    /// Somebody must look.
    Due(u64),
    Crash(usize),
    Rise(usize),
    Jump(usize, i64),
    /// The merchant, an operator, anybody: to whichever node.
    Anyone(Input),
    Scan(usize),
    Pay(usize),
}

/// A request as it travels.
#[derive(Clone)]
pub struct Wire {
    pub account: String,
    pub kind: ExchangeKind,
    pub exchange: String,
    pub op_id: String,
    pub target: String,
    pub reference: Option<String>,
    pub amount: i64,
    pub offer: bool,
}

pub struct Node {
    pub boot: u64,
    up: bool,
    started_ms: u64,
    skew_ms: i64,
    high_ms: i64,
    credential: bool,
    sockets: BTreeMap<u64, ()>,
}

pub struct Street<'w> {
    pub policy: &'w Policy,
    pub board: &'w Board,
    pub dice: Dice,
    pub now: u64,
    pub payment: Option<Payment>,
    pub providers: BTreeMap<String, Provider>,
    pub nodes: Vec<Node>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, Event>,
    seq: u64,
    boots: u64,
    /// What the merchant was told first, for good.
    pub told: Option<Settled>,
    pub faults: u64,
    pub turns: u64,
    pub broken: Vec<String>,
    /// Two live charges are no mistake of ours: an instant switch, or a provider that lied.
    pub excused: bool,
    shown: Vec<String>,
    charges: usize,
    /// Print every turn.
    pub trace: bool,
}

impl<'w> Street<'w> {
    pub fn new(
        policy: &'w Policy,
        board: &'w Board,
        dice: Dice,
        providers: BTreeMap<String, Provider>,
    ) -> Self {
        let node = |n: u64| Node {
            boot: n + 1,
            up: true,
            started_ms: 0,
            skew_ms: 0,
            high_ms: 0,
            credential: true,
            sockets: BTreeMap::new(),
        };
        Self {
            policy,
            board,
            dice,
            now: 1_000,
            payment: None,
            providers,
            nodes: vec![node(0), node(1)],
            events: BinaryHeap::new(),
            what: BTreeMap::new(),
            seq: 0,
            boots: 2,
            told: None,
            faults: 0,
            turns: 0,
            broken: Vec::new(),
            excused: false,
            shown: Vec::new(),
            charges: 0,
            trace: false,
        }
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.events.push(Reverse((at.max(self.now), self.seq)));
        self.what.insert(self.seq, event);
    }

    pub fn calm(&self) -> bool {
        self.now >= CALM
    }

    /// Lets everything happen, until nothing is left to happen.
    pub fn run(&mut self, events_max: u64) {
        for _ in 0..events_max {
            let Some(Reverse((at, id))) = self.events.pop() else { return };
            self.now = at;
            if self.calm() {
                self.providers.values_mut().for_each(|p| p.calm = true);
            }
            let event = self.what.remove(&id).expect("each event happens once");
            self.happen(event);
        }
        self.broken.push("it never comes to rest".into());
    }

    fn stamp(&mut self, node: usize) -> Stamp {
        let wall = 1_800_000_000_000 + self.now as i64 + self.nodes[node].skew_ms;
        let n = &mut self.nodes[node];
        n.high_ms = n.high_ms.max(wall);
        Stamp { wall_ms: n.high_ms, boot: n.boot, mono_ms: self.now - n.started_ms }
    }

    fn alive(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].up && self.nodes[node].boot == boot
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Reach(node, boot, input) => {
                if self.alive(node, boot) {
                    self.turn(node, input);
                }
            }
            Event::Write(node, boot, input, ver, decision, crash) => {
                if !self.alive(node, boot) {
                    return;
                }
                if self.payment.as_ref().map_or(0, |p| p.ver) != ver {
                    return self.turn(node, input);
                }
                self.durable(node, *decision, crash);
            }
            Event::Arrive { node, boot, socket, request } => {
                self.arrive(node, boot, socket, request);
            }
            Event::TimeOut { node, boot, socket, exchange } => {
                if self.alive(node, boot) && self.nodes[node].sockets.remove(&socket).is_some() {
                    let reason = "timeout".to_owned();
                    self.turn(node, Input::Lost { exchange, sent: Sent::Maybe, reason });
                }
            }
            Event::Answer { node, boot, socket, exchange, status, facts } => {
                if self.alive(node, boot) && self.nodes[node].sockets.remove(&socket).is_some() {
                    self.turn(node, Input::Heard { exchange, status, state_version: 1, facts });
                }
            }
            Event::Ask { node, boot, subject, asked } => self.asked(node, boot, subject, asked),
            Event::Provider(account, later) => {
                if let Later::Notify(fact) = later {
                    let facts = vec![fact];
                    return self.anyone(Input::Noticed { account, state_version: 1, facts });
                }
                let (now, provider) = (self.now, self.providers.get_mut(&account).unwrap());
                let next = provider.later(&later, now, &mut self.dice);
                self.promise(&account, next);
                self.look_at_the_books();
            }
            Event::Due(ver) => self.due(ver),
            Event::Crash(node) => self.crash(node),
            Event::Rise(node) => {
                self.boots += 1;
                let boot = self.boots;
                let n = &mut self.nodes[node];
                (n.boot, n.up, n.started_ms) = (boot, true, self.now);
                self.turn(node, Input::Recovered);
            }
            Event::Jump(node, ms) => self.nodes[node].skew_ms += ms,
            Event::Anyone(input) => self.anyone(input),
            Event::Scan(attempt) | Event::Pay(attempt) => {
                let Some(a) = self.payment.as_ref().and_then(|p| p.attempts.get(attempt)) else {
                    return;
                };
                let (account, op_id, now) = (a.account.clone(), a.op_id.clone(), self.now);
                let provider = self.providers.get_mut(&account).unwrap();
                if matches!(event, Event::Scan(_)) {
                    return provider.scan(&op_id);
                }
                let next = provider.pay(&op_id, now, &mut self.dice);
                self.promise(&account, next);
                self.look_at_the_books();
            }
        }
    }

    fn promise(&mut self, account: &str, next: Vec<(u64, Later)>) {
        for (at, later) in next {
            self.at(at, Event::Provider(account.to_owned(), later));
        }
    }

    fn up(&mut self) -> Option<usize> {
        let first = self.dice.below(2) as usize;
        [first, 1 - first].into_iter().find(|n| self.nodes[*n].up)
    }

    fn anyone(&mut self, input: Input) {
        match self.up() {
            Some(node) => self.turn(node, input),
            None => {
                let later = self.now + 30_000;
                self.at(later, Event::Anyone(input));
            }
        }
    }

    fn due(&mut self, ver: u64) {
        if self.payment.as_ref().is_none_or(|p| p.ver != ver) {
            return;
        }
        let Some(node) = self.up() else {
            let later = self.now + 10_000;
            return self.at(later, Event::Due(ver));
        };
        if self.calm() && self.payment.as_ref().is_some_and(resting) {
            return;
        }
        self.turn(node, Input::Due);
        let p = self.payment.as_ref().expect("still there");
        if p.ver == ver {
            // Another node's clock says that it is too early, or the write is on its way.
            let later = self.now + 1_500;
            self.at(later, Event::Due(ver));
        }
    }

    /// One turn of a node: decide on what is durable, then commit, now or a little later.
    pub fn turn(&mut self, node: usize, input: Input) {
        self.turns += 1;
        let now = self.stamp(node);
        let world = World {
            now,
            policy: self.policy,
            health: self.board,
            mint: &Numbers,
            draw: 0.5,
            sending: !self.nodes[node].sockets.is_empty(),
            credential: self.nodes[node].credential,
            order: None,
        };
        let mut hand = Hand::default();
        let outcome = loop {
            match decide(self.payment.as_ref(), &input, &world, &hand) {
                Outcome::Need(call) => {
                    let odds = if self.now >= CALM { 0 } else { self.dice.below(60) };
                    if odds == 1 && call.reserve {
                        hand.refused.push((call.account, Skip::InFlight));
                    } else if odds == 1 {
                        hand.unbuildable.push(call.op_id);
                    } else {
                        let draft = draft(&call);
                        hand.prepared.push(Prepared { call: *call, draft });
                    }
                }
                outcome => break outcome,
            }
        };
        if self.trace {
            let said = match &outcome {
                Outcome::Commit(d) => format!("{:?} due {:?}", d.effects, d.due),
                other => format!("{other:?}"),
            };
            println!("{:>9} node {node} {input:?} -> {said}", self.now);
        }
        let Outcome::Commit(decision) = outcome else { return };
        let crash = !self.calm() && self.dice.one_in(60);
        if !self.calm() && self.dice.one_in(4) {
            let at = self.now + self.dice.below(400);
            let (boot, ver) = (now.boot, decision.next.ver - 1);
            return self.at(at, Event::Write(node, boot, input, ver, decision, crash));
        }
        self.durable(node, *decision, crash);
    }

    fn durable(&mut self, node: usize, decision: Decision, crash: bool) {
        let next = decision.next;
        let recovered = (Some(Settled::Failed), Some(Settled::Succeeded));
        let told = (self.told, next.settled);
        if self.told.is_some() && told.0 != told.1 && told != recovered {
            self.broken.push(format!("told {:?}, then {:?}", told.0, told.1));
        }
        let first = self.told.is_none() && next.settled.is_some();
        self.told = next.settled;
        if next.ver.is_multiple_of(16) {
            let json = serde_json::to_vec(&next).unwrap();
            assert!(serde_json::from_slice::<Payment>(&json).unwrap() == next);
        }
        for (i, a) in next.attempts.iter().enumerate() {
            if a.state == AttemptState::Action && !self.shown.contains(&a.op_id) {
                self.shown.push(a.op_id.clone());
                for _ in 0..self.dice.below(3) {
                    let at = self.now + self.dice.below(15 * 60_000);
                    let event = if self.dice.one_in(2) { Event::Scan(i) } else { Event::Pay(i) };
                    self.at(at, event);
                }
            }
        }
        if let Some((at, _)) = decision.due {
            let wait = (at - self.stamp(node).wall_ms).max(0) as u64;
            let (at, ver) = (self.now + wait, next.ver);
            self.at(at, Event::Due(ver));
        }
        self.payment = Some(next);
        if first {
            self.check_told();
        }
        if crash {
            return self.crash(node);
        }
        for effect in decision.effects {
            match effect {
                Effect::Send { exchange } => self.send(node, &exchange),
                Effect::Inquire { subject } => {
                    let at = self.stamp(node);
                    let asked = Asked { ver: self.payment.as_ref().unwrap().ver, at };
                    let boot = at.boot;
                    let wire = if self.calm() { 20 } else { self.dice.below(3_000) };
                    let at = self.now + wire;
                    self.at(at, Event::Ask { node, boot, subject, asked });
                }
            }
        }
    }

    fn crash(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.faults += 1;
        let n = &mut self.nodes[node];
        n.up = false;
        n.credential = false;
        n.sockets.clear();
        let at = self.now + 500 + self.dice.below(60_000);
        self.at(at, Event::Rise(node));
    }

    fn send(&mut self, node: usize, exchange: &str) {
        let p = self.payment.as_ref().expect("durable");
        let Some((x, request)) = wire(p, exchange) else {
            self.broken.push(format!("sent before durable: {exchange}"));
            return;
        };
        self.seq += 1;
        let (boot, socket, calm) = (self.nodes[node].boot, self.seq, self.calm());
        self.nodes[node].sockets.insert(socket, ());
        let exchange = exchange.to_owned();
        let roll = if calm { 99 } else { self.dice.below(100) };
        if roll < 6 {
            self.faults += 1;
            self.nodes[node].sockets.remove(&socket);
            let reason = "connect".to_owned();
            let input = Input::Lost { exchange, sent: Sent::No, reason };
            let at = self.now + self.dice.below(2_000);
            let again = self.dice.one_in(8).then(|| input.clone());
            self.at(at, Event::Reach(node, boot, input));
            if let Some(input) = again {
                // A journal that was not sure makes the driver say it twice.
                self.at(at + 50, Event::Reach(node, boot, input));
            }
            return;
        }
        let timeout = self.now + TIMEOUT;
        self.at(timeout, Event::TimeOut { node, boot, socket, exchange });
        if roll < 11 {
            // Gone on the wire.
            self.faults += 1;
            return;
        }
        let late = roll < 17;
        self.faults += u64::from(late);
        let longest = if late { TIMEOUT + WINDOW - 4_000 } else { 400 };
        let wire = self.dice.below(longest);
        debug_assert!(x.sends > 0);
        let at = self.now + wire;
        self.at(at, Event::Arrive { node, boot, socket, request });
    }

    fn arrive(&mut self, node: usize, boot: u64, socket: u64, r: Wire) {
        let (now, provider) = (self.now, self.providers.get_mut(&r.account).unwrap());
        let dice = &mut self.dice;
        let reaction = match r.kind {
            ExchangeKind::Authorize | ExchangeKind::Continue => {
                provider.authorize(&r.op_id, r.offer, now, dice)
            }
            ExchangeKind::Close => provider.close(&r.target, now, dice),
            kind => {
                let target = (r.target.as_str(), r.reference.as_deref());
                provider.operate(kind, &r.op_id, target, r.amount, now, dice)
            }
        };
        self.faults += u64::from(reaction.status >= 500);
        self.promise(&r.account, reaction.later);
        self.look_at_the_books();
        if !self.calm() && self.dice.one_in(12) {
            self.faults += 1;
            return;
        }
        let back = if self.calm() { 30 } else { self.dice.below(900) };
        let slow = !self.calm() && self.dice.one_in(12);
        let at = self.now + if slow { back + TIMEOUT } else { back };
        let (exchange, status, facts) = (r.exchange, reaction.status, reaction.facts);
        self.at(at, Event::Answer { node, boot, socket, exchange, status, facts });
    }

    fn asked(&mut self, node: usize, boot: u64, subject: Subject, asked: Asked) {
        let p = self.payment.as_ref().expect("asked about");
        let now = self.now;
        let facts = match subject {
            Subject::Attempt(i) => {
                let a = &p.attempts[i];
                let provider = self.providers.get_mut(&a.account).unwrap();
                let named = a.second_charge_of.and(a.provider_ref.as_deref());
                provider.inquire(&a.op_id, named, now, &mut self.dice)
            }
            Subject::Operation(n) => {
                let o = &p.operations[n];
                let account = &p.attempts[o.attempt].account;
                let provider = self.providers.get_mut(account).unwrap();
                provider.inquire_job(&o.op_id, now, &mut self.dice)
            }
        };
        if !self.calm() && self.dice.one_in(20) {
            self.faults += 1;
            return;
        }
        let slow = !self.calm() && self.dice.one_in(10);
        let back = if slow { self.dice.below(30_000) } else { self.dice.below(500) };
        let at = self.now + back;
        let input = Input::Looked { subject, asked, state_version: 1, facts };
        self.at(at, Event::Reach(node, boot, input));
    }

    /// P1: at no moment are two charges of one payment live, and none is made after a "no".
    fn look_at_the_books(&mut self) {
        let live: usize = self.providers.values().map(Provider::live).sum();
        let made: usize = self.providers.values().map(Provider::made).sum();
        let new = made > self.charges;
        self.charges = made;
        if !new || self.excused {
            return;
        }
        if live > 1 {
            self.broken.push(format!("{live} live charges at {}", self.now));
        }
        if matches!(self.told, Some(Settled::Failed | Settled::Canceled)) {
            self.broken.push(format!("charged after it was told {:?}", self.told));
        }
    }

    /// I2 and I3 at the moment of the answer.
    fn check_told(&mut self) {
        let live: usize = self.providers.values().map(Provider::live).sum();
        let good = match self.told {
            Some(Settled::Succeeded) => live == 1,
            _ => live == 0,
        };
        let bounced = self.providers.values().any(|p| p.bounced);
        if !good && !bounced && !self.excused {
            self.broken.push(format!("told {:?} with {live} live charges", self.told));
        }
    }
}

/// Everything that is open waits for an operator, or nothing is open.
pub fn resting(p: &Payment) -> bool {
    let attempts = p.attempts.iter().all(|a| a.is_over() || a.state.is_success() || a.manual);
    let operations = p.operations.iter().all(|o| !o.state.is_open() || o.manual);
    let waits = p.attempts.iter().any(|a| a.manual) || p.operations.iter().any(|o| o.manual);
    attempts && operations && waits
}

/// The request of a durable exchange, as it goes over the wire.
fn wire(p: &Payment, exchange: &str) -> Option<(Exchange, Wire)> {
    let attempt = p.attempts.iter().find_map(|a| a.track.exchange(exchange).map(|x| (a, x, None)));
    let operation = || {
        p.operations.iter().find_map(|o| {
            let x = o.track.exchange(exchange)?;
            Some((&p.attempts[o.attempt], x, Some(o)))
        })
    };
    let (a, x, o) = attempt.or_else(operation)?;
    Some((
        x.clone(),
        Wire {
            account: a.account.clone(),
            kind: x.kind,
            exchange: exchange.to_owned(),
            op_id: x.op_id.clone(),
            target: a.op_id.clone(),
            reference: a.provider_ref.clone(),
            amount: o.map_or(p.money.amount, |o| o.amount),
            offer: x.effect == SendEffect::Offer,
        },
    ))
}
