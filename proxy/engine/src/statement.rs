//! What the providers' statements say of a payment after the journal was restored from a backup.
//!
//! A line names numbers of ours, and numbers are derived: so a charge finds the attempt that a lost
//! row would have made, a refund the key or the rule that would have made it. What we would have
//! given back by ourselves is known by its number, and is not taken for the merchant's.

use interlock_plugin_api::{Fact, What};

use crate::answers::Source;
use crate::exchange::{ExchangeKind, Track};
use crate::input::{Asked, Line, Statement, Subject};
use crate::operation::{Operation, OperationState, Origin};
use crate::payment::{Attempt, AttemptState, Settled};
use crate::policy::{AccountPolicy, TIMEOUT_MAX_MS};
use crate::restored::{LATER_NUMBERS, lost_attempt};
use crate::stamp::Stamp;
use crate::turn::{Flow, Turn};

/// How many give-backs of one charge are known again by their numbers.
const GIVE_BACKS_KNOWN: usize = 8;

impl Turn<'_> {
    /// What the providers say: of several charges first the one that the merchant knows, because he
    /// asked for something with it, then those that are kept; and charges before what was done with
    /// them.
    pub(crate) fn hear_statement(&mut self, statement: &Statement) -> Flow {
        let asked = Asked { ver: self.p.ver, at: self.world.now };
        let source = Source::Inquiry(asked);
        let mut charges: Vec<&Line> =
            statement.lines.iter().filter(|l| l.operation.is_none()).collect();
        charges.sort_by_key(|charge| {
            let kept = matches!(charge.fact.what, What::Captured | What::Authorized);
            (!self.asked_for(charge, statement), !kept)
        });
        for line in charges {
            let reference = line.fact.provider_ref.as_deref();
            let known = self.attempt_under(&line.account, &line.number, reference);
            let by = statement.since;
            let index = known.or_else(|| self.known_again(&line.account, &line.number, by));
            let Some((i, account)) = index.and_then(|i| Some((i, self.account(i)?))) else {
                continue;
            };
            if self.was_kept_late(i, line, statement) {
                self.keep_late(i);
            }
            self.hear_charge(i, account, &line.fact, &statement.lines, &source)?;
        }
        for line in &statement.lines {
            let Some((kind, op_id)) = &line.operation else { continue };
            let reference = line.fact.provider_ref.as_deref();
            let attempt = self.attempt_under(&line.account, &line.number, reference);
            let Some((i, account)) = attempt.and_then(|i| Some((i, self.account(i)?))) else {
                continue;
            };
            match self.p.operation_of(op_id) {
                Some(n) => {
                    self.hear_operation(n, account, &line.fact, &source)?;
                    self.stays_undone(n, &line.fact);
                }
                None => self.operation_known_again(i, account, *kind, op_id, &line.fact),
            }
        }
        Ok(())
    }

    /// What was done and undone stays so: the notice of its end may have been lost with the
    /// journal, and the older one, that it is done, may still come.
    fn stays_undone(&mut self, n: usize, fact: &Fact) {
        let ver = self.p.ver;
        let o = &mut self.p.operations[n];
        let undone = matches!(o.state, OperationState::Rejected | OperationState::Reversed);
        if undone && fact.what == What::Failed {
            o.failed_ver.get_or_insert(ver);
        }
    }

    /// Whether something was done with a charge that we would not do by ourselves.
    fn asked_for(&self, charge: &Line, statement: &Statement) -> bool {
        let account = self.world.policy.accounts.get(&charge.account);
        let known = self.attempt_under(&charge.account, &charge.number, None);
        let id = match (known, account) {
            (Some(i), _) => self.p.attempts[i].id.clone(),
            (None, Some(_)) => match self.index_of(&charge.number) {
                Some(index) => self.attempt_id(&charge.account, &charge.number, index),
                None => return false,
            },
            (None, None) => return false,
        };
        statement.lines.iter().any(|line| {
            let same = line.account == charge.account && line.number == charge.number;
            let theirs = |(kind, op_id): &(ExchangeKind, String)| !self.is_ours(&id, *kind, op_id);
            same && line.operation.as_ref().is_some_and(theirs)
        })
    }

    /// Whether a charge that the backup takes for failed was kept since, by the merchant's rule:
    /// then something was done with it that only he could want.
    fn was_kept_late(&self, i: usize, charge: &Line, statement: &Statement) -> bool {
        let rule = self.world.policy.merchants.get(&self.p.merchant);
        let failed = matches!(self.p.attempts[i].state, AttemptState::Failed { .. })
            && self.p.settled == Some(Settled::Failed);
        failed
            && rule.is_some_and(|rule| rule.accept_late_ms.is_some())
            && matches!(charge.fact.what, What::Captured | What::Refunded)
            && self.asked_for(charge, statement)
    }

    /// Which attempt of this payment a number names.
    fn index_of(&self, number: &str) -> Option<usize> {
        let known = self.p.attempts.len();
        (0..known + LATER_NUMBERS).find(|n| self.number(*n) == number)
    }

    fn attempt_id(&self, account: &str, number: &str, index: usize) -> String {
        let tag = index.to_string();
        let mut parts = vec!["attempt id", self.p.id.as_str(), tag.as_str()];
        if self.p.attempts.iter().any(|a| a.op_id == number) {
            parts.push(account);
        }
        format!("att_{}", self.world.mint.mint(&parts))
    }

    fn attempt_under(&self, account: &str, number: &str, reference: Option<&str>) -> Option<usize> {
        let under = |a: &&Attempt| a.account == account && a.op_id == number;
        let all = || self.p.attempts.iter().enumerate().filter(move |(_, a)| under(a));
        let named =
            all().find(|(_, a)| reference.is_some() && a.provider_ref.as_deref() == reference);
        named.or_else(|| all().next()).map(|(i, _)| i)
    }

    /// The attempt of a lost row: its number is one that this payment would have used.
    fn known_again(&mut self, account: &str, number: &str, by: Stamp) -> Option<usize> {
        let policy = self.world.policy.accounts.get(account)?;
        let known = self.p.attempts.len();
        let id = self.attempt_id(account, number, self.index_of(number)?);
        let first = self.assumed(policy, ExchangeKind::Authorize, number, 0, by);
        self.refer(account, number);
        self.say(account, "an attempt that the journal had lost", Some("restored"));
        let track = Track {
            exchanges: vec![first],
            fence: Some(self.p.ver),
            next_ms: Some(self.world.now.wall_ms),
            ..Track::default()
        };
        let lost = lost_attempt(&self.p, (id, account, number), by.wall_ms, track);
        self.p.attempts.push(lost);
        Some(known)
    }

    /// A notification that money moved for an attempt that the journal had lost.
    pub(crate) fn of_lost_row(&mut self, account: &str, fact: &Fact) -> Option<Subject> {
        let moved = matches!(fact.what, What::Authorized | What::Captured) && self.p.restored;
        let number = fact.op_id.as_deref().filter(|_| moved)?;
        let by = self.world.now.plus(TIMEOUT_MAX_MS);
        self.known_again(account, number, by).map(Subject::Attempt)
    }

    /// One charge of the statement.
    fn hear_charge(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        fact: &Fact,
        lines: &[Line],
        source: &Source,
    ) -> Flow {
        let a = &self.p.attempts[i];
        let due = matches!(a.state, AttemptState::RefundDue { .. } | AttemptState::Refunded);
        let over = due || a.is_over();
        let held = matches!(fact.what, What::Authorized | What::Voided);
        if !due && self.given_back_by_us(i, lines) {
            if let Some(reference) = &fact.provider_ref {
                self.keep_reference(i, reference);
            }
            self.must_give_back(i, !held);
            return Ok(());
        }
        let canceled = lines.iter().any(|line| {
            let void = |(kind, op_id): &(ExchangeKind, String)| {
                *kind == ExchangeKind::Void && self.is_ours(&a.id, *kind, op_id)
            };
            line.operation.as_ref().is_some_and(void)
        });
        // What was captured by requests, and what was refunded, is told by the lines that follow.
        let captures = |line: &Line| {
            let of_it = line.account == account.name && line.number == self.p.attempts[i].op_id;
            of_it && line.operation.as_ref().is_some_and(|(kind, _)| *kind == ExchangeKind::Capture)
        };
        let by_request = lines.iter().any(captures);
        match fact.what {
            What::Captured | What::Refunded if !over => {
                let what = if by_request { What::Authorized } else { What::Captured };
                let amount = fact.amount.filter(|_| fact.what == What::Captured && !by_request);
                let fact = Fact { what, amount, ..fact.clone() };
                self.learn(i, account, !by_request, &fact, source)
            }
            What::Voided if canceled && !over => self.learn(i, account, false, fact, source),
            _ => self.hear_attempt(i, account, fact, source),
        }
    }

    fn given_back_by_us(&self, i: usize, lines: &[Line]) -> bool {
        let attempt = &self.p.attempts[i].id;
        lines.iter().filter_map(|line| line.operation.as_ref()).any(|(kind, op_id)| {
            self.numbers_of_give_back(*kind, "give back", attempt).any(|ours| ours == *op_id)
        })
    }

    /// Whether an operation of an attempt is one that we would make by ourselves.
    fn is_ours(&self, attempt: &str, kind: ExchangeKind, op_id: &str) -> bool {
        ["give back", "cancel"]
            .into_iter()
            .any(|why| self.numbers_of_give_back(kind, why, attempt).any(|ours| ours == op_id))
    }

    fn numbers_of_give_back(
        &self,
        kind: ExchangeKind,
        why: &'static str,
        attempt: &str,
    ) -> impl Iterator<Item = String> {
        (0..GIVE_BACKS_KNOWN)
            .map(move |n| self.operation_numbers(kind, &[why, attempt, &n.to_string()]).1)
    }

    /// An operation of a lost row: what was done, accepted or refused is taken over, so that
    /// nothing is sent under its number again.
    fn operation_known_again(
        &mut self,
        i: usize,
        account: &AccountPolicy,
        kind: ExchangeKind,
        op_id: &str,
        fact: &Fact,
    ) {
        let done = matches!(fact.what, What::Captured | What::Voided | What::Refunded);
        let undone = matches!(fact.what, What::Failed | What::Declined);
        if !done && !undone && fact.what != What::Pending {
            return;
        }
        let amount = fact.amount.and_then(|m| account.iso_amount(m.currency, m.amount));
        let unnamed =
            self.unnamed_refund(i).filter(|n| Some(self.p.operations[*n].amount) == amount);
        if let Some(n) = unnamed.filter(|_| done && kind == ExchangeKind::Refund) {
            self.name_refund(i, n, op_id);
            return;
        }
        let ours = self.is_ours(&self.p.attempts[i].id, kind, op_id);
        if self.p.attempts[i].is_over() && !ours && done {
            // It is gone already, whoever gave it back.
            return;
        }
        let key = format!("external {op_id}");
        let (id, _) = self.operation_numbers(kind, &[&key]);
        self.refer(&account.name, op_id);
        self.announce(&id);
        let what = format!("a {} that the journal had lost", kind.as_str());
        self.say(&account.name, what, Some("restored"));
        self.p.operations.push(Operation {
            id,
            kind,
            attempt: i,
            amount: amount.unwrap_or(self.p.money.amount),
            origin: if ours { Origin::Resolver } else { Origin::External },
            key: None,
            reason: None,
            created_ms: self.world.now.wall_ms,
            op_id: op_id.to_owned(),
            operation_ref: fact.operation_ref.clone(),
            state: if undone { OperationState::Rejected } else { OperationState::Pending },
            track: Track {
                fence: Some(self.p.ver),
                next_ms: Some(self.world.now.wall_ms),
                ..Track::default()
            },
            failed_ver: undone.then_some(self.p.ver),
            done_ver: None,
            accepted: true,
            again: false,
            manual: false,
            provider_code: fact.provider_code.clone(),
            denied: false,
            done_ms: None,
        });
        let n = self.p.operations.len() - 1;
        let to_be_given_back = matches!(self.p.attempts[i].state, AttemptState::RefundDue { .. });
        if done && !ours && to_be_given_back {
            // Part of it is back already, and it is not us who gave it.
            self.p.operations[n].state = OperationState::Done;
            self.p.operations[n].done_ver = Some(self.p.ver);
            self.alert(i, "external_refund_unclear");
        } else if done {
            self.complete(n);
        }
    }

    /// The merchant asks again for what the journal had lost and a statement has shown: it becomes
    /// his under the same key.
    pub(crate) fn claims(&mut self, kind: ExchangeKind, key: &str) -> bool {
        let (id, op_id) = self.operation_numbers(kind, &["merchant", key]);
        let lost = |o: &&mut Operation| o.op_id == op_id && o.origin == Origin::External;
        let Some(o) = self.p.operations.iter_mut().find(lost) else { return false };
        o.id.clone_from(&id);
        o.origin = Origin::Merchant;
        o.key = Some(key.to_owned());
        self.announce(&id);
        self.say("merchant", "asked again for what was done already", Some("restored"));
        true
    }
}
