//! The journal was restored from a backup: what happened since is unknown (SAFETY 2.9).
//!
//! Rows that came after the backup are gone, and rows that were in it have stood still. So whatever
//! could have been sent since counts as sent, nothing of it is sent again, no other account is
//! tried, and the providers' statements are heard before anything else. They are taken when nothing
//! of the dead time can arrive any more. What they show is taken over: charges under numbers that
//! this payment would have used, refunds that it would have made. Numbers are derived, so even a
//! payment whose row is gone is known again when its merchant asks with the same key.

use interlock_plugin_api::{Effect, Operation as PluginOperation};

use crate::confirm::waits_for_return;
use crate::exchange::{Exchange, ExchangeKind, Reply, Track};
use crate::input::Statement;
use crate::mutant::{self, Mutant};
use crate::operation::OperationState;
use crate::payment::{Attempt, AttemptState, CloseReason, Offer, Payment};
use crate::policy::AccountPolicy;
use crate::stamp::Stamp;
use crate::turn::{Flow, Stop, Turn, at_rest};
use crate::world::Mint;

/// How many numbers of attempts beyond those that are known a lost row may have used.
pub(crate) const LATER_NUMBERS: usize = 4;

/// The numbers that a lost row of a payment may have used.
pub fn later_numbers<'a>(p: &'a Payment, mint: &'a dyn Mint) -> impl Iterator<Item = String> + 'a {
    let known = p.attempts.len();
    (known..known + LATER_NUMBERS).map(|index| number(p, mint, index))
}

/// Copies of a payment as lost rows may have made it, each with one attempt at this account. They
/// are for asking its provider, and nothing is decided on them.
pub fn supposed<'a>(
    p: &'a Payment,
    mint: &'a dyn Mint,
    account: &'a str,
) -> impl Iterator<Item = Payment> + 'a {
    later_numbers(p, mint).map(move |number| {
        let lost =
            lost_attempt(p, (String::new(), account, &number), p.created_ms, Track::default());
        Payment { attempts: vec![lost], operations: Vec::new(), ..p.clone() }
    })
}

/// The attempt that a lost row has made: its id, its account, its number.
pub(crate) fn lost_attempt(
    p: &Payment,
    (id, account, op_id): (String, &str, &str),
    started_ms: i64,
    track: Track,
) -> Attempt {
    Attempt {
        id,
        account: account.to_owned(),
        op_id: op_id.to_owned(),
        method: p.method.kind.clone(),
        flow: p.method.flow.clone(),
        started_ms,
        state: AttemptState::Fenced,
        track,
        provider_ref: None,
        offer: None,
        order_seen: true,
        unconfirmed: None,
        refund_due_ver: None,
        loser: false,
        manual: false,
        alert: None,
        payer_amount: None,
        captured_ms: None,
        second_charge_of: None,
        outside: Vec::new(),
    }
}

fn number(p: &Payment, mint: &dyn Mint, index: usize) -> String {
    mint.mint(&["attempt", &p.id, &index.to_string()])
}

impl Turn<'_> {
    /// The row is from a backup: everything since is unknown, and then the statement is heard.
    pub(crate) fn restored(&mut self, statement: &Statement) -> Flow {
        if mutant::on(Mutant::TrustBackup) {
            return self.recovered();
        }
        for i in 0..self.p.attempts.len() {
            if !at_rest(&self.p, i) {
                self.unknown_since(i, statement.since);
            }
        }
        for n in 0..self.p.operations.len() {
            if self.p.operations[n].state.is_open() {
                self.operation_unknown_since(n, statement.since);
            }
        }
        if self.p.settled.is_none() {
            self.tries_no_other();
        }
        self.hear_statement(statement)
    }

    /// A merchant asks with a key that the journal does not know: it may have been lost. True when
    /// a provider knows one of its numbers, and nothing is to be sent.
    pub(crate) fn asked_again(&mut self, statement: &Statement) -> Result<bool, Stop> {
        self.refer_to_later_numbers();
        self.hear_statement(statement)?;
        let known = !self.p.attempts.is_empty();
        if known {
            self.tries_no_other();
        }
        Ok(known)
    }

    /// No other account is tried and nothing new is offered, because a lost row may have done so
    /// already; the numbers that it would have used lead here.
    fn tries_no_other(&mut self) {
        self.p.failover_until_ms = self.p.failover_until_ms.min(self.world.now.wall_ms - 1);
        self.p.switch = None;
        self.refer_to_later_numbers();
        self.say("engine", "restored from a backup: no other account is tried", Some("restored"));
    }

    fn refer_to_later_numbers(&mut self) {
        self.p.restored = true;
        let numbers: Vec<String> = later_numbers(&self.p, self.world.mint).collect();
        for number in numbers {
            for account in self.world.policy.accounts.keys() {
                self.refer(account, &number);
            }
        }
    }

    /// Our number of the attempt of this index.
    pub(crate) fn number(&self, index: usize) -> String {
        number(&self.p, self.world.mint, index)
    }

    /// Copies and closes may have left since, and an offer may have been shown.
    fn unknown_since(&mut self, i: usize, since: Stamp) {
        let Some(account) = self.account(i) else { return };
        let by = since.plus(account.timeout_ms);
        let closed = self.closed_since(i, account, by);
        let ver = self.p.ver;
        let now = self.world.now.wall_ms;
        let a = &mut self.p.attempts[i];
        (a.track.tries, a.track.since_ms, a.track.next_ms) = (0, None, Some(now));
        count_more(&mut a.track, by);
        if a.state.is_success() || matches!(a.state, AttemptState::RefundDue { .. }) {
            return;
        }
        if let Some(offer) = &mut a.offer {
            offer.made = by;
        }
        let shown = matches!(a.state, AttemptState::Started)
            && a.track.takers().all(|x| x.effect == Effect::Offer);
        if shown {
            let action = interlock_plugin_api::Action {
                kind: "lost".into(),
                payload: serde_json::Map::new(),
                expires_ms: None,
            };
            a.offer = Some(Offer { action, made_ms: by.wall_ms, made: by });
            a.state = AttemptState::Closing { why: CloseReason::Doubt };
        }
        // A return of the shopper may have been told to the provider since.
        if a.offer.is_none() || waits_for_return(account, a) {
            a.track.fence.get_or_insert(ver);
        }
        if matches!(a.state, AttemptState::Started | AttemptState::Ambiguous) {
            a.state = AttemptState::Fenced;
        }
        a.track.exchanges.extend(closed);
    }

    /// A close that may have been sent since: what is paid may have been given back by it.
    fn closed_since(&self, i: usize, account: &AccountPolicy, by: Stamp) -> Option<Exchange> {
        let a = &self.p.attempts[i];
        let closable =
            account.offers(PluginOperation::Close) && account.contract.close_of(&a.flow).is_some();
        if !closable {
            return None;
        }
        let tag = a.track.of(ExchangeKind::Close).count().to_string();
        let op_id = self.world.mint.mint(&["close", &a.op_id, &tag]);
        let number = a.track.exchanges.len();
        Some(self.assumed(account, ExchangeKind::Close, &op_id, number, by))
    }

    fn operation_unknown_since(&mut self, n: usize, since: Stamp) {
        let Some(account) = self.account(self.p.operations[n].attempt) else { return };
        let ver = self.p.ver;
        let now = self.world.now.wall_ms;
        let o = &mut self.p.operations[n];
        count_more(&mut o.track, since.plus(account.timeout_ms));
        o.track.fence.get_or_insert(ver);
        (o.track.tries, o.track.since_ms, o.track.next_ms) = (0, None, Some(now));
        if matches!(o.state, OperationState::Started | OperationState::Ambiguous) {
            o.state = OperationState::Fenced;
        }
        o.again = false;
    }

    /// A request that a lost row may have sent. Nothing is known of it, so it is the weakest.
    pub(crate) fn assumed(
        &self,
        account: &AccountPolicy,
        kind: ExchangeKind,
        op_id: &str,
        number: usize,
        by: Stamp,
    ) -> Exchange {
        Exchange {
            id: format!("{op_id}-{}-{}-lost-{number}", account.name, kind.as_str()),
            kind,
            purpose: String::new(),
            effect: Effect::Move,
            op_id: op_id.to_owned(),
            identity: account.identity.clone(),
            plugin: account.plugin.clone(),
            plugin_version: account.plugin_version.clone(),
            state_version: account.state_version,
            continuation: String::new(),
            digest: String::new(),
            made_ms: by.wall_ms,
            entropy: String::new(),
            made_ver: self.p.ver,
            sends: 2,
            first_send_by_ms: by.wall_ms,
            last_send_by: by,
            reply: Reply::Lost,
            answered_ver: None,
            by_shopper: false,
            after_window: false,
            order_seen: false,
        }
    }
}

/// What was not fenced may have been sent once more, and no answer will come.
fn count_more(track: &mut Track, by: Stamp) {
    let open = track.fence.is_none() && !track.was_closed();
    for x in &mut track.exchanges {
        if open && x.effect == Effect::Move && x.kind != ExchangeKind::Close {
            x.sends += 1;
        }
        if x.reply == Reply::Open {
            x.reply = Reply::Lost;
        }
        x.last_send_by = by;
    }
}
