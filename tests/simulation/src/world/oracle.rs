//! The judge. It believes only the providers' books and what the merchant heard first.

use std::rc::Rc;

use interlock_engine::{
    Attempt, AttemptState, ExchangeKind, OperationState, Origin, Payment, Request, Settled,
    Statement, Submission, status,
};

use super::World;
use crate::declarations::unpermitted;
use crate::dice::Dice;
use crate::operator::Denied;
use crate::provider::{JobState, Provider};
use crate::rest;

/// One payment of an evening: who wants what, the providers' books, and what was heard.
pub struct Case {
    pub(super) submission: Rc<Submission>,
    pub(super) wishes: Vec<Request>,
    pub(super) accounts: Vec<Rc<str>>,
    pub(super) providers: Vec<Provider>,
    /// The merchant's order, shared by the payments of one number.
    pub(super) order: Option<u64>,
    /// He heard an answer that promises something.
    pub(super) acked: bool,
    /// He heard that it is refused, and nothing was done.
    pub(super) refused: bool,
    /// What he heard for good, and first.
    pub(super) told: Option<Settled>,
    /// By his key, the operation of which he heard.
    pub(super) operations_told: Vec<OperationTold>,
    /// The version in which his cancel was durable, and he heard of it.
    pub(super) canceled_ver: Option<u64>,
    /// Every code that was ever shown.
    pub(super) offers: Vec<Offered>,
    /// Sends that their last answer had not permitted: exchange and number.
    pub(super) unpermitted: Vec<(String, u32)>,
    /// Notices that were acknowledged.
    pub(super) acknowledged: Vec<u64>,
    /// A provider that does not keep its word.
    pub(super) lied_to: bool,
    /// Two live charges are no mistake of ours: an instant switch, or a provider that lied.
    pub(super) excused: bool,
    /// The journal forgot something of it, or may have: it was restored from a backup.
    pub(super) restored: bool,
    /// It has not heard the statements yet.
    pub(super) unheard: bool,
    /// What the providers said of it when the journal was restored.
    pub(super) stated: Option<Statement>,
    /// A plugin that does not continue an older version took something for a refusal.
    pub(super) misread: bool,
    /// The merchant's rule: for so long after it was asked for, a success after `failed` is kept.
    pub(super) accept_late_ms: Option<u64>,
    /// Of what an operator said that no money moved.
    pub(super) denied: Vec<Denied>,
    charges: usize,
}

/// An operation of which a merchant heard.
pub(super) struct OperationTold {
    pub key: String,
    pub id: String,
    pub op_id: String,
}

/// A code that was shown.
pub(super) struct Offered {
    pub account: usize,
    pub op_id: String,
    /// When it was made, ms of the world's clock.
    pub made_ms: u64,
    /// The shopper carries it to the provider himself.
    pub page: bool,
}

impl Case {
    pub(super) fn new(
        submission: Submission,
        providers: Vec<Provider>,
        accounts: Vec<Rc<str>>,
        wishes: Vec<Request>,
    ) -> Self {
        Self {
            submission: Rc::new(submission),
            wishes,
            accounts,
            providers,
            order: None,
            acked: false,
            refused: false,
            told: None,
            operations_told: Vec::new(),
            canceled_ver: None,
            offers: Vec::new(),
            unpermitted: Vec::new(),
            acknowledged: Vec::new(),
            lied_to: false,
            excused: false,
            restored: false,
            unheard: false,
            stated: None,
            misread: false,
            accept_late_ms: None,
            denied: Vec::new(),
            charges: 0,
        }
    }

    fn live(&self) -> usize {
        self.providers.iter().map(Provider::live).sum()
    }

    fn made(&self) -> usize {
        self.providers.iter().map(Provider::made).sum()
    }
}

impl World<'_> {
    /// The books of one account; in the calm it is in a plain mood.
    pub(super) fn books(&mut self, case: u32, account: usize) -> (&mut Provider, &mut Dice) {
        let calm = self.calm();
        let provider = &mut self.cases[case as usize].providers[account];
        provider.mood.moody &= !calm;
        (provider, &mut self.dice)
    }

    /// P1: at no moment are two charges of one order live, and none is made after a "no".
    pub(super) fn look_at_the_books(&mut self, case: u32) {
        let c = &mut self.cases[case as usize];
        let made = c.made();
        let new = made > c.charges;
        c.charges = made;
        c.excused |= c.was_denied();
        if !new || c.excused {
            return;
        }
        let (told, own) = (c.told, c.live());
        let order = c.order;
        let of_order = |other: &&Case| other.order.is_some() && other.order == order;
        // What was given back and came back is not charged anew.
        let bounced = |c: &Case| c.providers.iter().any(|p| p.bounced);
        let excused = self.cases.iter().filter(of_order).any(|c| c.excused || bounced(c));
        let all: usize = self.cases.iter().filter(of_order).map(Case::live).sum();
        if own > 1 {
            self.blame(case, format!("I1: {own} live charges of one payment"));
        } else if all > 1 && !excused {
            self.blame(case, format!("2.6: {all} live charges of one order"));
        }
        if matches!(told, Some(Settled::Failed | Settled::Canceled)) {
            self.blame(case, format!("I3: charged after it was told {told:?}"));
        }
    }

    /// Nobody is asked to take money after a cancel was acknowledged who was not asked before.
    pub(super) fn watch_send(&mut self, case: u32, row: &Rc<Payment>, exchange: &str, op_id: &str) {
        let durable = self.row(case).is_some_and(|durable| durable.ver >= row.ver);
        let record = |p: &Payment| {
            let tracks = p.attempts.iter().map(|a| &a.track);
            let operations = p.operations.iter().map(|o| &o.track);
            tracks.chain(operations).any(|t| t.exchange(exchange).is_some())
        };
        if !durable && !self.row(case).is_some_and(|durable| record(durable)) {
            self.blame(case, format!("I5: {exchange} is sent and its record is not durable"));
        }
        let Some(canceled) = self.cases[case as usize].canceled_ver else { return };
        let a = row.attempts.iter().find(|a| a.op_id == op_id);
        let new = a.and_then(|a| a.track.exchange(exchange)).is_some_and(|x| x.made_ver > canceled);
        if new {
            self.blame(case, "an account is asked to charge after the cancel was acknowledged");
        }
    }

    /// The merchant hears how his payment stands: I2, I3 and I9 at that moment.
    pub(super) fn hear(&mut self, case: u32, row: &Rc<Payment>) {
        let c = &mut self.cases[case as usize];
        if row.settled == c.told {
            return;
        }
        let Some(settled) = row.settled else {
            if c.restored {
                // It is about to be known again.
                return;
            }
            let told = c.told;
            return self.blame(case, format!("I9: told {told:?}, then nothing"));
        };
        let no = |told| matches!(told, Settled::Failed | Settled::Canceled);
        // A word that was lost may come again as another that costs the same, or as the truth where
        // a provider lied, an operator erred, or a merchant takes what comes late.
        let same = |told| no(told) && (no(settled) || rest::told_net(row) == 0);
        let erred = c.lied_to || !c.denied.is_empty() || c.accept_late_ms.is_some();
        let again = |told| c.restored && (erred || same(told));
        if let Some(told) = c.told.replace(settled).filter(|told| !again(*told)) {
            let recovers = (told, settled) == (Settled::Failed, Settled::Succeeded);
            if c.accept_late_ms.is_none() || !recovers {
                return self.blame(case, format!("I9: told {told:?}, then {settled:?}"));
            }
        }
        let live = c.live();
        let outside = c.providers.iter().any(|p| p.outside > 0);
        let bounced = c.providers.iter().any(|p| p.bounced);
        let refunded = row.operations.iter().any(|o| o.kind == ExchangeKind::Refund);
        let good = match settled {
            Settled::Succeeded => live == 1 || refunded || outside,
            Settled::Failed | Settled::Canceled => live == 0,
        };
        if !good && !bounced && !c.excused {
            self.blame(case, format!("told {settled:?} with {live} live charges"));
        }
    }

    /// I9 where it is decided: what was told changes by the merchant's own rule alone, from
    /// `failed` to `succeeded`, and wherever that rule holds it is followed.
    pub(super) fn watch_decision(
        &mut self,
        node: usize,
        case: u32,
        before: Option<&Payment>,
        next: &Payment,
    ) {
        let Some(before) = before.filter(|p| p.settled.is_some()) else { return };
        let c = &self.cases[case as usize];
        let age = self.nodes[node].wall(self.now) - before.created_ms;
        let late = c.accept_late_ms.is_some_and(|ms| age <= ms.cast_signed());
        let recovers = late && before.settled == Some(Settled::Failed);
        let given_back = || {
            before.attempts.iter().zip(&next.attempts).any(|(was, is)| {
                matches!(was.state, AttemptState::Failed { .. })
                    && is.state == AttemptState::RefundDue { authorized: false }
            })
        };
        if next.settled == before.settled {
            if recovers && given_back() && !c.restored {
                self.blame(case, "a success within the merchant's own time is not kept");
            }
        } else if recovers && next.settled == Some(Settled::Succeeded) {
            self.score.recovered += 1;
        } else {
            let (told, then) = (before.settled, next.settled);
            self.blame(case, format!("I9: told {told:?}, then {then:?}, at the age of {age} ms"));
        }
    }

    /// What is about to be sent again although the last answer did not permit it: the provider will
    /// not know it again.
    pub(super) fn watch_permissions(
        &mut self,
        node: usize,
        case: u32,
        before: Option<&Payment>,
        next: &Payment,
    ) {
        let policy = self.policies.of(self.seed, self.nodes[node].version);
        let sends = before.map(|before| unpermitted(before, next, policy)).unwrap_or_default();
        self.cases[case as usize].unpermitted.extend(sends);
    }

    /// The end of the evening: the providers' books against what the merchant was told.
    pub(super) fn judge(&mut self) {
        for case in 0..self.cases.len() as u32 {
            match self.row(case).cloned() {
                Some(row) => self.judge_case(case, &row),
                None => self.judge_absent(case),
            }
            self.fold.take(self.cases[case as usize].told.map_or(9, |told| told as u64));
        }
        self.fold.take(self.score.turns);
        self.fold.take(self.score.faults);
    }

    /// I4: nothing that was promised is missing, and nothing that is missing cost anything.
    fn judge_absent(&mut self, case: u32) {
        let c = &self.cases[case as usize];
        let (acked, refused, made) = (c.acked, c.refused, c.made());
        if c.restored {
            return self.judge_lost(case);
        }
        if refused {
            self.score.refused += 1;
        }
        if acked && !refused {
            self.blame(case, "I4: what was acknowledged is not there");
        }
        if made > 0 {
            self.blame(case, "a payment that is not there was charged");
        }
    }

    /// A payment that only the lost disk knew, and that nobody asked for again: its merchant was
    /// told "no", and what is charged all the same stands in the statement that was taken.
    fn judge_lost(&mut self, case: u32) {
        let c = &self.cases[case as usize];
        let let_rest = c.refused
            || c.canceled_ver.is_some()
            || matches!(c.told, Some(Settled::Failed | Settled::Canceled));
        if !let_rest && (c.acked || c.live() > 0) {
            self.blame(case, "I4: what the disk lost is not known again");
        } else if c.live() > 0 {
            self.score.operators += 1;
        }
    }

    fn judge_case(&mut self, case: u32, p: &Rc<Payment>) {
        self.hear(case, p);
        self.count(p);
        let c = &self.cases[case as usize];
        let moved = |op_id: &str| {
            let jobs = c.providers.iter().flat_map(|p| &p.jobs);
            jobs.filter(|j| matches!(j.state, JobState::Done | JobState::Pending))
                .any(|j| j.op_id == op_id)
        };
        // What moved nothing and was lost with its disk is lost.
        let lost = c
            .operations_told
            .iter()
            .find(|t| {
                let known = p.operations.iter().any(|o| o.id == t.id);
                !known && (!c.restored || moved(&t.op_id))
            })
            .map(|t| t.key.clone());
        if let Some(key) = lost {
            return self.blame(case, format!("I4: the operation of key {key} is lost"));
        }
        if rest::waits_for_operator(p) {
            self.score.operators += 1;
            let in_vain = rest::asks_in_vain(p, self.policies.of(self.seed, 0));
            let c = &self.cases[case as usize];
            // Clocks that differ by more than they may give up too early; no money rests on them.
            let apart = self.nodes.len() > 1 && self.nodes.iter().any(|n| n.skew_ms != 0);
            if !c.excused && !apart && !c.misread && in_vain {
                self.blame(case, "an operator is asked what could be known");
            }
            return;
        }
        if rest::is_open(p) {
            return self.blame(case, "open for ever");
        }
        let c = &self.cases[case as usize];
        let live = c.live();
        let net: i64 = c.providers.iter().map(Provider::net).sum();
        let held: usize = c.providers.iter().map(Provider::held).sum();
        let manual = c.providers[0].mood.manual;
        let expected = rest::told_net(p);
        // What a plugin told wrongly, or could not tell, is known when a statement is read.
        let alerted = |a: &Attempt| a.alert.as_deref() == Some("plugin_version");
        let told_wrongly = c.misread || p.attempts.iter().any(alerted);
        let bounced = c.providers.iter().any(|p| p.bounced);
        let denied = c.was_denied();
        self.score.denied += u64::from(denied);
        let outside = c.providers.iter().any(|p| p.outside > 0);
        if told_wrongly && (bounced || c.lied_to || denied || outside) {
            return;
        }
        if net != expected {
            self.blame(case, format!("I1: net {net} at the providers, {expected} told"));
        }
        match p.settled {
            Some(Settled::Succeeded) => {}
            Some(_) if live == 0 => {}
            Some(told) => self.blame(case, format!("I3: told {told:?}, {live} live")),
            None => {
                let word = status::status(p).0.as_str();
                if !(manual && held == 1 && word == "requires_capture") {
                    self.blame(case, "never told");
                }
            }
        }
    }

    fn count(&mut self, p: &Payment) {
        let ours = |o: &&interlock_engine::Operation| {
            o.origin == Origin::Resolver && o.state == OperationState::Done
        };
        self.score.given_back += p.operations.iter().filter(ours).count() as u64;
        match p.settled {
            Some(Settled::Succeeded) => self.score.succeeded += 1,
            Some(Settled::Failed) => self.score.failed += 1,
            Some(Settled::Canceled) => self.score.canceled += 1,
            None => self.score.holding += 1,
        }
    }
}

/// A payment in one line.
pub(super) fn story(p: &Payment) -> String {
    let mut text = format!(" [v{} {:?}", p.ver, p.settled);
    for a in &p.attempts {
        let doubt = if a.unconfirmed.is_some() { "?" } else { "" };
        text.push_str(&format!(", {}:{}/{}{doubt}", a.account, a.flow, a.state.as_str()));
    }
    for o in &p.operations {
        text.push_str(&format!(", {} {} {}", o.kind.as_str(), o.amount, o.state.as_str()));
    }
    text.push(']');
    text
}
