//! One turn of a node, as the real driver takes it: decide on what is durable, commit by
//! compare-and-swap, and only then do what the decision says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use interlock_engine::{
    Asked, Decision, Draft, Effect, ExchangeKind, Hand, Input, Outcome, Payment, Policy, Prepared,
    Reply, Request, Sent, Subject, World as EngineWorld, decide, intake,
};
use interlock_plugin_api::Effect as SendEffect;

use super::digest::{self, digest};
use super::node::{Held, Run, Socket};
use super::oracle;
use super::state::{Body, Fault, Row, Sending, State};
use super::worlds::World;
use crate::declarations::{AllWell, CHALLENGE, CREATE, Numbers, draft, opening, unpermitted};

/// What befalls a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing.
    Straight,
    /// It is written later; others have their turn meanwhile.
    Race,
    /// The node dies once it is durable and so many of its effects are carried out.
    Dies(u8),
    /// The first request that it needs can't be built, or gets no place.
    Unbuilt,
    /// The same input comes once more, sooner or later.
    Twice,
}

impl Mode {
    /// What it costs.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Straight => None,
            Self::Race => Some(Fault::Race),
            Self::Dies(_) => Some(Fault::Crash),
            Self::Unbuilt => Some(Fault::Unbuilt),
            Self::Twice => Some(Fault::Twice),
        }
    }
}

/// The shopper is back, and this node is told what he brought.
fn brings_details(input: &Input) -> bool {
    matches!(input, Input::Merchant(Request::Confirm { details: true, .. }))
}

impl World {
    /// The policy of a node.
    pub fn policy_of(&self, s: &State, node: usize) -> &Policy {
        if s.nodes[node].newer { &self.newer } else { &self.policy }
    }

    fn run(s: &State, node: usize) -> Run {
        Run { node: node as u8, boot: s.nodes[node].boot }
    }

    /// Puts an input through. `None` where this mode makes no difference to another one.
    pub fn put(&self, s: &mut State, node: usize, input: Input, mode: Mode) -> Option<()> {
        if let Some(fault) = mode.fault() {
            s.left.spend(fault, 1)?;
        }
        let outcome = self.decide(s, node, &input, mode == Mode::Unbuilt);
        let decision = match outcome {
            Ok(Some(decision)) => decision,
            Ok(None) if matches!(mode, Mode::Straight | Mode::Twice) => {
                if mode == Mode::Twice {
                    return None;
                }
                return Some(());
            }
            Ok(None) => return None,
            Err(why) => {
                s.breaks(why);
                return Some(());
            }
        };
        match mode {
            Mode::Race => {
                let base = s.ver();
                let digest = digest(|h| {
                    use std::hash::Hash;
                    (base, format!("{input:?}")).hash(h);
                    digest::payment(&decision.next, h);
                });
                let held = Held { input, base, decision, digest };
                s.nodes[node].held = Some(Arc::new(held));
            }
            Mode::Dies(after) => {
                if decision.effects.len() <= usize::from(after) {
                    return None;
                }
                self.durable(s, node, decision, usize::from(after));
                self.crash(s, node);
            }
            Mode::Straight | Mode::Unbuilt | Mode::Twice => {
                let run = Self::run(s, node);
                self.durable(s, node, decision, usize::MAX);
                if mode == Mode::Twice {
                    s.post(Body::Repeat(run, input), true, u64::MAX);
                }
            }
        }
        Some(())
    }

    /// Writes what was decided earlier, or decides again when others were faster.
    pub fn write(&self, s: &mut State, node: usize) -> Option<()> {
        let held = s.nodes[node].held.take()?;
        if held.base != s.ver() {
            return self.put(s, node, held.input.clone(), Mode::Straight);
        }
        let d = &held.decision;
        let again = Decision {
            next: d.next.clone(),
            due: d.due,
            entries: Vec::new(),
            references: Vec::new(),
            operations: Vec::new(),
            order: d.order.clone(),
            effects: d.effects.clone(),
        };
        self.durable(s, node, again, usize::MAX);
        Some(())
    }

    fn decide(
        &self,
        s: &mut State,
        node: usize,
        input: &Input,
        unbuilt: bool,
    ) -> Result<Option<Decision>, String> {
        let now = s.nodes[node].stamp(s.now);
        let submitted = matches!(input, Input::Submitted(_));
        let world = EngineWorld {
            now,
            policy: self.policy_of(s, node),
            health: &AllWell,
            mint: &Numbers,
            draw: 0.5,
            sending: !s.nodes[node].sockets.is_empty(),
            credential: submitted || s.nodes[node].credential,
            details: s.nodes[node].details || brings_details(input),
            order: None,
            stated: None,
        };
        let before = s.payment();
        let mut hand = Hand::default();
        let mut refuse = unbuilt;
        loop {
            let decided = catch_unwind(AssertUnwindSafe(|| decide(before, input, &world, &hand)));
            match decided {
                Ok(Outcome::Need(call)) if refuse => {
                    refuse = false;
                    if call.reserve {
                        hand.refused.push((call.account, interlock_engine::Skip::InFlight));
                    } else {
                        hand.unbuildable.push(call.op_id);
                    }
                }
                Ok(Outcome::Need(call)) => {
                    let draft = self.first_draft(&call);
                    hand.prepared.push(Prepared { call: *call, draft });
                }
                // No request was needed, so none could be refused.
                Ok(Outcome::Commit(_)) if refuse => return Ok(None),
                Ok(Outcome::Commit(decision)) => return Ok(Some(*decision)),
                Ok(Outcome::Nothing | Outcome::Refuse(_)) => return Ok(None),
                Err(panic) => {
                    let said = panic.downcast_ref::<String>().cloned();
                    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).into()));
                    return Err(said.unwrap_or_else(|| "the engine stopped".into()));
                }
            }
        }
    }

    /// The first request of a call, also of one that is to be sent again: where a plugin needs two,
    /// one that moves nothing yet.
    fn first_draft(&self, call: &interlock_engine::Call) -> Draft {
        let built = draft(call);
        match self.two_steps {
            Some(effect)
                if call.kind == ExchangeKind::Authorize && built.effect == SendEffect::Move =>
            {
                opening(built, effect)
            }
            _ => built,
        }
    }

    /// A version is durable: what must be true of it, and its effects.
    pub fn durable(&self, s: &mut State, node: usize, decision: Decision, effects: usize) {
        let Decision { next, due, effects: wanted, .. } = decision;
        if let Some(why) = oracle::commit(self, s, &next, due.is_some()) {
            s.breaks(why);
        }
        self.sights.see(&next);
        let submitted = s.row.is_none();
        let policy = self.policy_of(s, node);
        let barred = s.payment().map(|before| unpermitted(before, &next, policy));
        let barred = barred.unwrap_or_default();
        s.row = Some(Arc::new(Row::new(next, due.map(|(at, _)| at))));
        s.nodes[node].credential |= submitted;
        for effect in wanted.into_iter().take(effects) {
            match effect {
                Effect::Send { exchange } => self.send(s, node, &exchange, &barred),
                Effect::Inquire { subject } => self.ask(s, node, subject),
            }
        }
        let wanted = s.payment().is_some_and(intake::wants_credential);
        s.nodes[node].credential &= wanted;
        s.nodes[node].details &= s.payment().is_some_and(intake::wants_details);
    }

    /// Sends a durable request, unless it is too late for it.
    fn send(&self, s: &mut State, node: usize, exchange: &str, barred: &[(String, u32)]) {
        let now = s.nodes[node].peek(s.now);
        let Some(p) = s.payment() else { return s.breaks("I5: sent before durable") };
        let Some((by, mut sending)) = self.sending(p, exchange) else {
            return s.breaks(format!("I5: sent before durable, or nothing to send: {exchange}"));
        };
        sending.unpermitted =
            barred.iter().any(|(id, number)| (id.as_str(), *number) == (exchange, sending.number));
        let run = Self::run(s, node);
        if by.boot != now.boot || now.mono_ms >= by.mono_ms {
            let lost = Input::Lost {
                exchange: exchange.to_owned(),
                sent: Sent::No,
                reason: "too_late".into(),
            };
            let _ = self.put(s, node, lost, Mode::Straight);
            return;
        }
        let until_ms = s.now + (by.mono_ms - now.mono_ms);
        let sending = Arc::new(sending);
        let socket = Socket { sending: Arc::clone(&sending), until_ms };
        s.nodes[node].sockets.push(socket);
        s.post(Body::Request(run, sending), false, u64::MAX);
    }

    /// What a durable exchange sends.
    fn sending(&self, p: &Payment, exchange: &str) -> Option<(interlock_engine::Stamp, Sending)> {
        let attempt =
            p.attempts.iter().find_map(|a| a.track.exchange(exchange).map(|x| (a, x, None)));
        let operation = || {
            p.operations.iter().find_map(|o| {
                let x = o.track.exchange(exchange)?;
                Some((&p.attempts[o.attempt], x, Some(o)))
            })
        };
        let (a, x, o) = attempt.or_else(operation)?;
        let durable = x.sends > 0 && x.reply == Reply::Open;
        let sending = Sending {
            exchange: exchange.to_owned(),
            number: x.sends,
            account: self.account_index(&a.account),
            kind: x.kind,
            op_id: x.op_id.clone(),
            target: a.op_id.clone(),
            reference: a.provider_ref.clone(),
            amount: o.map_or(p.money.amount, |o| o.amount),
            offer: x.effect == SendEffect::Offer,
            challenge: a.flow == CHALLENGE,
            unpermitted: false,
            opens: x.purpose == CREATE,
        };
        durable.then_some((x.last_send_by, sending))
    }

    fn ask(&self, s: &mut State, node: usize, subject: Subject) {
        let at = s.nodes[node].peek(s.now);
        let Some(p) = s.payment() else { return };
        let asked = Asked { ver: p.ver, at };
        let attempt = match subject {
            Subject::Attempt(i) => i,
            Subject::Operation(n) => p.operations[n].attempt,
        };
        let account = self.account_index(&p.attempts[attempt].account);
        let run = Self::run(s, node);
        // One at a time for a subject: what was not read yet is asked once more instead.
        s.wire.retain(|m| {
            let same =
                matches!(&*m.body, Body::Inquiry(r, about, ..) if (*r, *about) == (run, subject));
            !same || m.late
        });
        s.post(Body::Inquiry(run, subject, asked, account), false, u64::MAX);
    }

    /// A node dies: its memory, its sockets and what was on its way to it are gone. What it has
    /// sent may still arrive.
    pub fn crash(&self, s: &mut State, node: usize) {
        let gone = s.now + self.late_window_ms;
        let n = &mut s.nodes[node];
        n.up = false;
        (n.credential, n.details) = (false, false);
        n.sockets.clear();
        n.held = None;
        let run = Self::run(s, node);
        for mut m in std::mem::take(&mut s.wire) {
            match &*m.body {
                Body::Request(r, _) if *r == run => {
                    m.gone_ms = m.gone_ms.min(gone);
                    s.put_back(m);
                }
                body if body.run() == Some(run) => {}
                _ => s.put_back(m),
            }
        }
    }

    /// A socket is closed: nothing of it leaves any more, and no answer comes.
    pub fn close_socket(&self, s: &mut State, node: usize, socket: usize) -> Arc<Sending> {
        let Socket { sending, .. } = s.nodes[node].sockets.remove(socket);
        let run = Self::run(s, node);
        let gone = s.now + self.late_window_ms;
        let same = |it: &Sending| {
            (it.number, it.exchange.as_str()) == (sending.number, sending.exchange.as_str())
        };
        for mut m in std::mem::take(&mut s.wire) {
            match &*m.body {
                Body::Request(r, it) if *r == run && same(it) => {
                    m.gone_ms = m.gone_ms.min(gone);
                    s.put_back(m);
                }
                Body::Answer(r, it, ..) if *r == run && same(it) => {}
                _ => s.put_back(m),
            }
        }
        sending
    }
}
