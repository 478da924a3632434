//! Between nodes and providers: what arrives, what is answered, what is told.

use std::sync::Arc;

use interlock_engine::{Call, ExchangeKind, Input, Subject};
use interlock_plugin_api::{Class, Fact, What};

use super::chance::{Player, Script};
use super::oracle;
use super::state::{Body, Books, Fault, Message, Sending, State};
use super::step::Then;
use super::turn::Mode;
use super::worlds::World;
use crate::declarations::draft;
use crate::provider::portal;
use crate::provider::{Asked, Later, Provider, Reaction, Task};

impl World {
    /// A request or an inquiry reaches its provider.
    pub fn arrive(&self, s: &mut State, m: Message, script: Script, then: Then) -> Option<()> {
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
        let call = Call {
            account: self.accounts[usize::from(it.account)].clone(),
            kind: ExchangeKind::Authorize,
            op_id: it.op_id.clone(),
            amount: p.money,
            attempt: p.attempts.iter().position(|a| a.op_id == it.op_id)?,
            method: p.method.kind.clone(),
            flow: p.method.flow.clone(),
            provider_ref: None,
            reason: None,
            reserve: false,
            again: None,
        };
        let input = Input::GoesOn { exchange: it.exchange.clone(), draft: draft(&call) };
        self.put(s, node, input, mode)
    }

    /// Something reaches a node.
    pub fn reach(&self, s: &mut State, body: &Body, node: usize, mode: Mode) -> Option<()> {
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
    pub fn does(
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
            // What is told until it is heard costs nothing when it is late.
            let outside = portal::is_outside(&fact);
            if self.notices || outside || fact.what == What::Failed || !s.denied.is_empty() {
                s.post(Body::Notice(account, fact), outside, u64::MAX);
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

    /// What a provider says about an attempt or an operation.
    pub fn asked(
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

    fn reader(&self, s: &State, node: usize) -> u32 {
        if s.nodes[node].newer { 2 } else { 1 }
    }

    /// The account's index and our number of an attempt.
    pub fn order_of(&self, s: &State, attempt: usize) -> Option<(u8, String)> {
        let a = s.payment()?.attempts.get(attempt)?;
        Some((self.account_index(&a.account), a.op_id.clone()))
    }
}

/// A provider carries out what arrives.
pub fn execute(p: &mut Provider, it: &Sending, now: u64, chance: &mut Player) -> Reaction {
    let asked = Asked {
        op_id: &it.op_id,
        order: &it.target,
        offer: it.offer,
        challenge: it.challenge,
        unpermitted: it.unpermitted,
    };
    match it.kind {
        ExchangeKind::Authorize => p.authorize(&asked, now, chance),
        ExchangeKind::Continue => p.proceed(&asked, now, chance),
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

/// What a plugin makes of words that it does not know: the worst that it could.
pub fn misread(fact: &Fact) -> Fact {
    let no = Fact::declined(Class::DeclinedSoft, "proof.no").of_key();
    Fact { op_id: fact.op_id.clone(), provider_ref: fact.provider_ref.clone(), ..no }
}
