//! Merchants, shoppers and operators: what they ask for, and what they hear.

use std::rc::Rc;

use interlock_engine::{Attempt, AttemptState, Input, Payment, Request, Settled, Subject, Verdict};

use super::oracle::{Offered, OperationTold};
use super::{Beside, Event, World};
use crate::declarations::{HOUR, PAGE};
use crate::rest;

/// How often a merchant asks again with the same key.
const ASKS_MAX: u32 = 12;
/// How often an operator looks at one payment.
const LOOKS_MAX: u32 = 6;

impl World<'_> {
    /// A merchant asks to be paid; without an answer he asks again with the same key.
    pub(super) fn submit(&mut self, case: u32, tries: u32) {
        let c = &self.cases[case as usize];
        let was_told_no = matches!(c.told, Some(Settled::Failed | Settled::Canceled))
            || (c.restored && c.canceled_ver.is_some());
        if c.refused || was_told_no || (tries > 0 && c.acked) || tries > ASKS_MAX {
            return;
        }
        let Some(node) = self.up() else {
            let at = self.now + 5_000;
            return self.at(at, Event::Submit(case, tries));
        };
        if tries > 0 {
            self.fault(|s| &mut s.hangups);
        }
        let input = Input::Submitted((*self.cases[case as usize].submission).clone());
        let key = Some(key_of(case, 0));
        self.put(node, case, input, Beside { key, tries, ..Beside::default() });
        let c = &self.cases[case as usize];
        if !c.acked {
            // The answer may be lost on its way to him: he looks again.
            let at = self.now + 15_000;
            self.at(at, Event::Submit(case, tries + 1));
        }
    }

    /// A key that is taken answers with what it stands for.
    pub(super) fn key_taken(&mut self, case: u32, input: &Input, operation: Option<&str>) {
        if let Input::Merchant(Request::Refund { key, .. } | Request::Capture { key, .. }) = input {
            let told = self.cases[case as usize].operation_told(key).map(str::to_owned);
            if told.is_some() && told.as_deref() != operation {
                self.blame(case, format!("I8: key {key} stands for another operation"));
            }
        }
        self.cases[case as usize].acked = true;
        let row = self.row(case).cloned();
        match row {
            Some(row) => self.hear(case, &row),
            None => self.blame(case, "a key stands for nothing"),
        }
    }

    /// Asked for something after the payment was made.
    pub(super) fn wish(&mut self, case: u32, wish: usize) {
        if self.store.is_open() && self.row(case).is_none() {
            return;
        }
        let Some(node) = self.up().filter(|_| self.store.is_open()) else {
            let at = self.now + 10_000;
            return self.at(at, Event::Wish(case, wish));
        };
        let c = &self.cases[case as usize];
        let request = c.wishes[wish].clone();
        let keyed = matches!(request, Request::Refund { .. } | Request::Capture { .. });
        let key = keyed.then(|| key_of(case, 1 + wish as u64));
        let beside = Beside { key, ..Beside::default() };
        self.put(node, case, Input::Merchant(request), beside);
    }

    /// The version with what was asked for is durable, and whoever asked hears it.
    pub(super) fn tell(&mut self, case: u32, input: &Input, row: &Rc<Payment>) {
        match input {
            Input::Submitted(_) => {
                if !self.calm() && self.dice.one_in(20) {
                    return self.fault(|s| &mut s.hangups);
                }
                self.cases[case as usize].acked = true;
            }
            Input::Merchant(request) => self.promised(case, request, row),
            _ => {}
        }
        self.hear(case, row);
    }

    /// Nothing had to change for what was asked: that is an answer too.
    pub(super) fn granted(&mut self, case: u32, input: &Input) {
        if let (Input::Merchant(request), Some(row)) = (input, self.row(case).cloned()) {
            self.promised(case, request, &row);
        }
    }

    fn promised(&mut self, case: u32, request: &Request, row: &Rc<Payment>) {
        match request {
            Request::Cancel { .. } => {
                let c = &mut self.cases[case as usize];
                c.canceled_ver.get_or_insert(row.ver);
            }
            Request::Refund { key, .. } | Request::Capture { key, .. } => {
                let made = row.operations.iter().find(|o| o.key.as_deref() == Some(key));
                let Some(made) = made else {
                    return self.blame(case, format!("key {key} made no operation"));
                };
                let (id, op_id) = (made.id.clone(), made.op_id.clone());
                let c = &mut self.cases[case as usize];
                match c.operation_told(key) {
                    None => {
                        let key = key.clone();
                        c.operations_told.push(OperationTold { key, id, op_id });
                    }
                    Some(told) if told == id => {}
                    Some(_) => self.blame(case, format!("I8: key {key} made two operations")),
                }
            }
            Request::Switch { .. } | Request::Confirm { .. } => {}
        }
    }

    /// Refused: nothing was journalled or sent for it.
    pub(super) fn refused(&mut self, case: u32, input: &Input) {
        if matches!(input, Input::Submitted(_)) && self.row(case).is_none() {
            let c = &mut self.cases[case as usize];
            c.refused = true;
            c.acked = true;
        }
    }

    /// A code is shown, and may be scanned or paid as long as somebody has it on a screen.
    pub(super) fn offered(&mut self, case: u32, attempt: usize, row: &Rc<Payment>) {
        let a = &row.attempts[attempt];
        let (account, made_ms) = (self.account_of(case, &a.account), self.now);
        let offers = &mut self.cases[case as usize].offers;
        let page = a.flow == PAGE;
        offers.push(Offered { account, op_id: a.op_id.clone(), made_ms, page });
        let offer = offers.len() - 1;
        for _ in 0..self.dice.below(3) {
            let late = self.dice.one_in(3);
            let longest = if late { 15 * 60_000 } else { 60_000 };
            let at = self.now + self.dice.below(longest);
            let pays = self.dice.below(3) > 0;
            self.at(at, Event::Shopper(case, offer, pays));
        }
    }

    pub(super) fn shopper(&mut self, case: u32, offer: usize, pays: bool) {
        let c = &mut self.cases[case as usize];
        let Offered { account, op_id, made_ms, page } = &c.offers[offer];
        let account = *account;
        let provider = &mut c.providers[account];
        if *page {
            provider.carry(op_id, *made_ms, self.now);
        }
        if !pays {
            return provider.scan(op_id);
        }
        let reaction = provider.pay(op_id, self.now, &mut self.dice);
        self.at_provider(case, account, reaction);
    }

    /// An operator reads the provider's own books and says what is true.
    pub(super) fn operator(&mut self, case: u32, looks: u32) {
        let Some(row) = self.row(case).cloned() else { return };
        if !rest::waits_for_operator(&row) {
            return;
        }
        let doubtful = |a: &Attempt| {
            a.manual && !a.state.is_success() && !matches!(a.state, AttemptState::RefundDue { .. })
        };
        let doubt = row.attempts.iter().enumerate().find(|(_, a)| doubtful(a));
        let verdict = doubt.map(|(i, a)| {
            let account = self.account_of(case, &a.account);
            let order = self.cases[case as usize].providers[account].order(&a.op_id);
            let live = order.and_then(|o| o.charges.iter().find(|c| c.live()));
            (Subject::Attempt(i), live.is_some(), live.map(|c| c.reference.clone()))
        });
        let job = || {
            let n = row.operations.iter().position(|o| o.manual)?;
            let o = &row.operations[n];
            let account = self.account_of(case, &row.attempts[o.attempt].account);
            let jobs = &self.cases[case as usize].providers[account].jobs;
            let done = jobs
                .iter()
                .any(|j| j.op_id == o.op_id && j.state == crate::provider::JobState::Done);
            Some((Subject::Operation(n), done, None))
        };
        let Some((subject, moved, provider_ref)) = verdict.or_else(job) else { return };
        let verdict = Verdict {
            subject,
            moved,
            provider_ref,
            evidence: "the provider's statement".into(),
            operator: "on duty".into(),
        };
        self.anyone(case, Input::Operator(verdict), Beside::default());
        if looks < LOOKS_MAX {
            let at = self.now + HOUR;
            self.at(at, Event::Operator(case, looks + 1));
        }
    }
}

/// The name of one of a merchant's keys: 0 made the payment, the others his wishes.
fn key_of(case: u32, key: u64) -> u64 {
    u64::from(case) << 16 | key
}

impl super::Case {
    pub(super) fn operation_told(&self, key: &str) -> Option<&str> {
        self.operations_told.iter().find(|t| t.key == key).map(|t| t.id.as_str())
    }

    /// The Idempotency-Key of a capture or refund that he wants.
    pub(super) fn key_of_wish(&self, wish: usize) -> Option<&str> {
        match &self.wishes[wish] {
            Request::Refund { key, .. } | Request::Capture { key, .. } => Some(key),
            Request::Cancel { .. } | Request::Switch { .. } | Request::Confirm { .. } => None,
        }
    }
}
