//! Every arrow passes through here: what happened goes to the engine, its decision becomes
//! durable, and only then what it says is done.
//!
//! One turn: load the payment, ask the engine, build what it needs, ask again, commit by
//! compare-and-swap, carry out the effects. The loser of a race reloads and decides again. The
//! driver obeys and never decides: it does not know what a decline is.

mod effects;
mod listed;
mod written;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use interlock_engine::gates::{Group, Reservation};
use interlock_engine::{
    Call, ExchangeKind, Hand, Input, OrderHolder, Outcome, Payment, Refusal, Request, Skip,
    Statement, Submission, World, decide, intake,
};
use interlock_journal::{Committed, KeyRow, NoticeRow, Store, StoreError, Write};
use interlock_plugin_api::Details;
use tokio::time::Instant;

use crate::calls::{Caller, InHand, Order, Ready};
use crate::credentials::{Credentials, Held, Kept};
use crate::failpoint::{self, Side};
use crate::live::{Live, Slot};
use crate::merchant_api::answer;
use crate::metrics::Metrics;
use crate::node::{NodeClock, Numbers};
use crate::setup::{Heard, InForce, Setup, Told};
use crate::upstream::reason;
use crate::webhooks::Webhooks;

/// A turn that loses this many races in a row gives up; the payment's due time brings it back.
const RACES_MAX: usize = 32;
/// A decision needs at most this many built requests: every account once, and what is closed.
const NEEDS_MAX: usize = 32;
/// A move whose account's share is used up waits so long for its turn.
const SHARE_PATIENCE: Duration = Duration::from_secs(2);

/// Puts inputs through the engine and carries out its decisions.
pub struct Driver {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// The configurations in force.
    pub in_force: Arc<InForce>,
    /// This process's clock.
    pub clock: Arc<NodeClock>,
    /// This process's numbers.
    pub numbers: Arc<Numbers>,
    /// Credentials in memory.
    pub credentials: Credentials,
    /// What shoppers brought back, in memory.
    pub details: Kept<Details>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What tells merchants of their payments.
    pub webhooks: Arc<Webhooks>,
    caller: Caller,
    live: Live,
    under_way: Arc<AtomicUsize>,
    /// The journal is a backup whose payments have not heard their providers.
    held_back: AtomicBool,
}

/// What is written in the same transaction as a decision.
#[derive(Default)]
pub struct Beside {
    /// The idempotency key of the request that caused it.
    pub key: Option<KeyRow>,
    /// What only this payment may use from now on: tokens of wallets.
    pub once: Vec<KeyRow>,
    /// The notification that caused it.
    pub notice: Option<NoticeRow>,
    /// The shopper's credential that it brought; kept in memory if it is accepted.
    pub credential: Option<Held>,
    /// What the shopper brought back; kept in memory if it is accepted.
    pub details: Option<Details>,
    /// The further request that the plugin built, to be sent once its record is durable.
    pub further: Option<(Call, Ready)>,
    /// The configuration whose plugin read what happened: it is decided by the same one, which
    /// knows that plugin's amounts and continuations, and the account if it is gone since.
    pub read_by: Option<Arc<Setup>>,
    /// In a journal that was restored from a backup: what the providers say of the payment.
    pub stated: Option<Statement>,
}

/// What became of an input.
#[derive(Debug)]
pub enum Moved {
    /// A new version is durable.
    To(Arc<Payment>),
    /// Nothing had to change.
    Unchanged(Arc<Payment>),
    /// The engine refuses it; nothing is journalled, nothing is sent.
    Refused(Refusal),
    /// The key stands for this already.
    KeyTaken(KeyRow),
    /// The notification was applied before.
    NoticeSeen,
}

/// Why an input could not be put through. Nothing is known to be durable.
#[derive(Debug)]
pub enum DriveError {
    /// The journal.
    Store(StoreError),
    /// The row can't be read: another version wrote it, or it is damaged.
    Unreadable(String),
    /// Other writers won every race.
    Contended,
    /// The journal is a backup, and its payments have not heard their providers yet.
    Restoring,
}

impl std::fmt::Display for DriveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(e) => write!(f, "{e}"),
            Self::Unreadable(id) => write!(f, "payment can't be read: {id}"),
            Self::Contended => write!(f, "other writers won every race for the payment"),
            Self::Restoring => write!(f, "the journal is being restored from a backup"),
        }
    }
}

impl std::error::Error for DriveError {}

impl From<StoreError> for DriveError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// What the driver holds for one decision until it is durable.
#[derive(Default)]
struct Bench {
    hand: Hand,
    ready: Vec<(Call, Ready, Option<Reservation>)>,
    /// A share is used up: there will be a place after this, ms.
    wait_ms: Option<u64>,
}

impl Driver {
    /// A driver over an open journal.
    pub fn new(
        store: Arc<dyn Store>,
        in_force: Arc<InForce>,
        clock: Arc<NodeClock>,
        numbers: Arc<Numbers>,
        caller: Caller,
        metrics: Arc<Metrics>,
        webhooks: Arc<Webhooks>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            in_force,
            clock,
            numbers,
            credentials: Credentials::default(),
            details: Kept::default(),
            metrics,
            webhooks,
            caller,
            live: Live::default(),
            under_way: Arc::default(),
            held_back: AtomicBool::new(false),
        })
    }

    /// The pool of connections, for metrics.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Nothing goes on but what follows when payments hear their providers, or all goes on.
    pub fn hold_back(&self, held: bool) {
        self.held_back.store(held, Ordering::Release);
    }

    /// Sends whose outcome is not durable yet.
    pub fn sends_under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    /// The configuration in force: accounts, policy, gates.
    pub fn setup(&self) -> Arc<Setup> {
        self.in_force.setup()
    }

    /// Counts what was heard for a payment of this configuration: a canary may end by it.
    fn hear(&self, setup: &Arc<Setup>, account: &str, heard: Heard) {
        let Some(back) = self.in_force.hear(setup, account, heard) else { return };
        let (generation, class, why) = (back.generation, back.class, &back.why);
        tracing::error!(generation, account, class, why, "the canary was rolled back");
        self.reloaded(Told {
            at_ms: self.clock.now().wall_ms,
            result: "rolled_back",
            generation,
            by: None,
            why: Some(format!("account `{account}`: {class}: {why}")),
        });
    }

    /// What became of a reload or of a canary, for the status and the metric.
    pub fn reloaded(&self, told: Told) {
        self.metrics.reloaded(told.result);
        self.in_force.tell(told);
    }

    /// The slot of a payment, to wait for news.
    pub fn slot(&self, payment: &str) -> Arc<Slot> {
        self.live.slot(payment)
    }

    /// The durable version of a payment.
    ///
    /// # Errors
    /// The journal failed, or the row can't be read.
    pub async fn payment(&self, id: &str) -> Result<Option<Payment>, DriveError> {
        let Some(row) = self.store.payment(id).await? else { return Ok(None) };
        decode(id, &row.body).map(Some)
    }

    /// The payment that the first known one of these references leads to, ours or the provider's.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn named(
        &self,
        account: &str,
        references: &[&Option<String>],
    ) -> Result<Option<String>, DriveError> {
        for reference in references {
            if let Some(reference) = reference
                && let Some(payment) = self.store.reference(account, reference).await?
            {
                return Ok(Some(payment));
            }
        }
        Ok(None)
    }

    /// Makes a payment.
    ///
    /// # Errors
    /// See [`DriveError`].
    pub async fn submit(
        self: &Arc<Self>,
        submission: Submission,
        key: KeyRow,
        beside: Beside,
    ) -> Result<Moved, DriveError> {
        let id = key.payment.clone();
        let beside = Beside { key: Some(key), ..beside };
        self.put(&id, Input::Submitted(submission), beside).await
    }

    /// One turn: what happened, through the engine, into the journal, and its effects.
    ///
    /// # Errors
    /// See [`DriveError`]; whatever was not made durable was not sent either.
    pub async fn put(
        self: &Arc<Self>,
        id: &str,
        input: Input,
        mut beside: Beside,
    ) -> Result<Moved, DriveError> {
        if self.held_back.load(Ordering::Acquire) && !is_of_the_restored(&input) {
            return Err(DriveError::Restoring);
        }
        let input = failpoint::heard_of(input);
        let slot = self.live.slot(id);
        let mut turn = slot.turn.lock().await;
        // Most payments are new: that their key is free is judged where it is taken, in the
        // journal. One that this process has in its hands is not new.
        let new = turn.is_none() && matches!(input, Input::Submitted(_));
        if !new && let Some(row) = self.first_use(&beside).await? {
            return Ok(Moved::KeyTaken(row));
        }
        // Only the request that has the turn and an unused key may bring a secret: another content
        // under the same key must not change what a payment in progress is paid with.
        let now = self.clock.now();
        let credential = beside.credential.take();
        let credential = credential.map(|new| self.credentials.replace(id, Some(new), now));
        let details = beside.details.take().map(|new| self.details.replace(id, Some(new), now));
        let moved = self.take_turn(id, input, beside, &slot, &mut turn).await;
        match &moved {
            Ok(Moved::To(p) | Moved::Unchanged(p)) => {
                if !intake::wants_details(p) {
                    self.details.forget(id);
                }
            }
            _ => {
                if let Some(earlier) = credential {
                    self.credentials.replace(id, earlier, now);
                }
                if let Some(earlier) = details {
                    self.details.replace(id, earlier, now);
                }
            }
        }
        moved
    }

    /// The world as it is now, for a look that takes nothing; a credential is understood to be
    /// there.
    pub fn look<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> T {
        let setup = self.setup();
        look(&World {
            now: self.clock.now(),
            policy: &setup.policy,
            health: &setup.gates,
            mint: &*self.numbers,
            draw: 0.0,
            sending: false,
            credential: true,
            details: false,
            order: None,
            stated: None,
        })
    }

    async fn first_use(&self, beside: &Beside) -> Result<Option<KeyRow>, DriveError> {
        let Some(key) = &beside.key else { return Ok(None) };
        Ok(self.store.key(&key.merchant, &key.path, &key.key).await?)
    }

    async fn take_turn(
        self: &Arc<Self>,
        id: &str,
        input: Input,
        mut beside: Beside,
        slot: &Arc<Slot>,
        turn: &mut Option<Arc<Payment>>,
    ) -> Result<Moved, DriveError> {
        let mut drop_references = false;
        let patience = Instant::now() + SHARE_PATIENCE;
        let mut races = 0;
        // Nothing is read for a payment that is new, as most are: the journal judges whether its
        // key, its number and its order are free. Only if they are not is it decided again.
        let mut new = turn.is_none() && matches!(input, Input::Submitted(_));
        while races < RACES_MAX {
            if turn.is_none() && !new {
                *turn = self.payment(id).await?.map(Arc::new);
            }
            let before = turn.as_deref();
            // One configuration for the whole of a turn, and of what it sends.
            let setup = beside.read_by.clone();
            let setup = setup.unwrap_or_else(|| self.in_force.of(id, before.map(|p| p.created_ms)));
            let draw = fastrand::f64();
            let order = if new { None } else { self.order_holder(&input).await? };
            let mut bench = Bench::default();
            let mut world = World {
                now: self.clock.now(),
                policy: &setup.policy,
                health: &setup.gates,
                mint: &*self.numbers,
                draw,
                sending: slot.is_sending(),
                credential: match (before, &input) {
                    (Some(p), _) => self.credentials.has(&p.id),
                    (None, Input::Submitted(_)) => true,
                    (None, _) => false,
                },
                details: before.is_some_and(|p| self.details.has(&p.id)),
                order,
                stated: beside.stated.as_ref(),
            };
            let outcome = self.decide(&setup, before, &input, &mut world, &mut bench).await;
            let now = world.now;
            if let Some(wait_ms) = bench.wait_ms.filter(|_| can_wait(&input)) {
                let again = Instant::now() + Duration::from_millis(wait_ms);
                if again <= patience {
                    // What was decided counts its times from before the wait, so it is asked anew.
                    drop(bench);
                    tokio::time::sleep_until(again).await;
                    continue;
                }
            }
            if new && !matches!(outcome, Outcome::Commit(_)) {
                // Before anything is refused: perhaps it was accepted long ago.
                new = false;
                if let Some(row) = self.first_use(&beside).await? {
                    return Ok(Moved::KeyTaken(row));
                }
                continue;
            }
            let decision = match outcome {
                Outcome::Commit(decision) => decision,
                Outcome::Nothing => {
                    let Some(p) = turn.as_ref() else {
                        return Ok(Moved::Refused(Refusal::NotFound));
                    };
                    return self.nothing_changed(Arc::clone(p), &beside).await;
                }
                Outcome::Refuse(refusal) => {
                    if let Refusal::NoAccountAvailable { skips, .. } = &refusal {
                        for (account, skip) in skips {
                            self.metrics.skipped(account, skip.as_str());
                        }
                    }
                    return Ok(Moved::Refused(refusal));
                }
                Outcome::Need(_) => return Err(DriveError::Contended),
            };
            let write = self.write(&setup, before, &decision, &beside, &input, drop_references);
            let tells = !write.outbox.is_empty();
            let answer = answer::of_payment(&write.answers);
            match self.commit(write, &input).await? {
                Committed::Done => {
                    if tells {
                        self.webhooks.ring(&decision.next.merchant);
                    }
                    if let Some(answer) = answer {
                        slot.keep_answer(answer);
                    }
                    let further = beside.further.take();
                    bench.ready.extend(further.map(|(call, ready)| (call, ready, None)));
                    self.watch(&setup, before, &decision.next, &input, now);
                    self.durable(&setup, slot, before, &decision, bench, now);
                    let next = Arc::new(decision.next);
                    *turn = Some(Arc::clone(&next));
                    return Ok(Moved::To(next));
                }
                Committed::Conflict { .. } => {
                    races += 1;
                    new = false;
                    *turn = None;
                }
                Committed::KeyTaken(row) => return Ok(Moved::KeyTaken(row)),
                Committed::NoticeSeen => return Ok(Moved::NoticeSeen),
                Committed::OrderTaken(_) if new => new = false,
                Committed::OrderTaken(payment) => {
                    let refusal = Refusal::OrderHasLivePayment { payment };
                    return Ok(Moved::Refused(refusal));
                }
                Committed::ReferenceTaken(other) => {
                    // Two payments under one number of the provider: the row keeps the first,
                    // the payment is written without it.
                    tracing::error!(payment = id, other, "provider reference is taken");
                    races += 1;
                    drop_references = true;
                }
            }
        }
        Err(DriveError::Contended)
    }

    /// Asks the engine until its decision is complete.
    async fn decide(
        &self,
        setup: &Arc<Setup>,
        before: Option<&Payment>,
        input: &Input,
        world: &mut World<'_>,
        bench: &mut Bench,
    ) -> Outcome {
        for _ in 0..NEEDS_MAX {
            match decide(before, input, world, &bench.hand) {
                Outcome::Need(call) => {
                    self.provide(setup, before, input, *call, bench).await;
                    // A plugin may have read first, and waited for it: what is decided now counts
                    // its times from now.
                    world.now = self.clock.now();
                }
                outcome => return outcome,
            }
        }
        tracing::error!("a decision needed more requests than it may");
        Outcome::Refuse(Refusal::InvalidState { why: "no decision was reached" })
    }

    /// Reserves a place and lets the plugin build the request, or says why not.
    async fn provide(
        &self,
        setup: &Arc<Setup>,
        before: Option<&Payment>,
        input: &Input,
        call: Call,
        bench: &mut Bench,
    ) {
        match self.try_provide(setup, before, input, &call, bench).await {
            Ok((prepared, ready, reservation)) => {
                bench.hand.prepared.push(prepared);
                match (ready, reservation) {
                    (Some(ready), reservation) => bench.ready.push((call, ready, reservation)),
                    // Nothing is sent, so the place is free again.
                    (None, Some(reservation)) => reservation.cancel(self.clock.now()),
                    (None, None) => {}
                }
            }
            Err(skip) => {
                if !call.reserve {
                    bench.hand.unbuildable.push(call.op_id);
                }
                bench.hand.refused.push((call.account, skip));
            }
        }
    }

    async fn try_provide(
        &self,
        setup: &Arc<Setup>,
        before: Option<&Payment>,
        input: &Input,
        call: &Call,
        bench: &mut Bench,
    ) -> Result<(interlock_engine::Prepared, Option<Ready>, Option<Reservation>), Skip> {
        let account = setup.get(&call.account).ok_or(Skip::NotLoaded)?;
        let policy = setup.policy.accounts.get(&call.account).ok_or(Skip::NotLoaded)?;
        if account.instance.generation().quarantine().is_some() {
            setup.gates.quarantine(&call.account, true);
            self.hear(setup, &call.account, Heard::Broken);
            return Err(Skip::Quarantined);
        }
        let now = self.clock.now();
        let reservation = if call.reserve {
            let group = group(call.kind);
            Some(setup.gates.reserve(&call.account, &call.method, group, now)?)
        } else {
            let group = group(call.kind);
            match setup.gates.way_out(&call.account, &call.method, group, now) {
                Ok(place) => place,
                Err(wait_ms) => {
                    bench.wait_ms = Some(wait_ms);
                    // A merchant may ask again. What ends a doubt, a cancel's close or void and
                    // what gives money back goes out after its wait: a full share is no reason to
                    // fence, nor to ask an operator.
                    if is_wish(input) {
                        return Err(Skip::RateLimited);
                    }
                    None
                }
            }
        };
        let order = match (before, input) {
            (Some(p), _) => Order::from(p),
            (None, Input::Submitted(s)) => Order::from(s),
            (None, _) => return Err(Skip::NotPrepared),
        };
        let payment = before.map(|p| p.id.clone()).or_else(|| self.submitted_id(input));
        let paid_by = (call.method.as_str(), call.flow.as_str());
        let in_hand = payment.map_or_else(InHand::default, |id| InHand {
            credential: self.credentials.get(&id, paid_by, &call.account),
            details: self.details.brought(&id).filter(|_| call.kind == ExchangeKind::Continue),
        });
        let built = self.caller.prepare(account, policy, call, &order, before, in_hand).await;
        match built {
            Ok((prepared, ready)) => Ok((prepared, ready, reservation)),
            Err(why) => {
                let kind = call.kind.as_str();
                tracing::warn!(account = call.account, kind, why, "request was not built");
                self.hear(setup, &call.account, Heard::Unbuilt);
                if let Some(reservation) = reservation {
                    reservation.cancel(now);
                }
                let unreachable = reason::ALL.contains(&why.as_str());
                Err(if unreachable { Skip::Unreachable } else { Skip::NotPrepared })
            }
        }
    }

    fn submitted_id(&self, input: &Input) -> Option<String> {
        use interlock_engine::Mint;
        match input {
            Input::Submitted(s) => {
                Some(format!("pay_{}", self.numbers.mint(&["payment", &s.merchant, &s.key])))
            }
            _ => None,
        }
    }

    /// The payment under which the merchant's order is live or paid.
    async fn order_holder(&self, input: &Input) -> Result<Option<OrderHolder>, DriveError> {
        let Input::Submitted(Submission { merchant, merchant_ref: Some(order), .. }) = input else {
            return Ok(None);
        };
        let Some(payment) = self.store.order(merchant, order).await? else { return Ok(None) };
        let succeeded = self.payment(&payment).await?.is_some_and(|p| intake::holds_order(&p));
        Ok(Some(OrderHolder { payment, succeeded }))
    }

    /// A decision without a change still remembers the notification that it came from.
    async fn nothing_changed(&self, p: Arc<Payment>, beside: &Beside) -> Result<Moved, DriveError> {
        if let Some(notice) = &beside.notice {
            failpoint::pass("notice.unchanged", Side::Before);
            let kept = self.store.keep_notice(notice.clone()).await?;
            failpoint::pass("notice.unchanged", Side::After);
            if !kept {
                return Ok(Moved::NoticeSeen);
            }
        }
        Ok(Moved::Unchanged(p))
    }

    async fn commit(&self, write: Write, input: &Input) -> Result<Committed, DriveError> {
        let begun = Instant::now();
        failpoint::commit(input, Side::Before);
        let committed = self.store.commit(write).await;
        if matches!(committed, Ok(Committed::Done)) {
            failpoint::commit(input, Side::After);
        }
        self.metrics.committed(begun.elapsed());
        if let Err(e) = &committed {
            tracing::error!(error = %e, "journal did not take a write");
        }
        Ok(committed?)
    }
}

/// The stored form of a payment, read back.
pub fn decode(id: &str, body: &[u8]) -> Result<Payment, DriveError> {
    serde_json::from_slice(body).map_err(|_| DriveError::Unreadable(id.to_owned()))
}

/// Whether an input comes of a payment that has heard its provider: nothing else is sent or asked
/// while the others wait for it.
fn is_of_the_restored(input: &Input) -> bool {
    use Input::{GoesOn, Heard, Looked, Lost, Restored};
    matches!(input, Restored | Heard { .. } | GoesOn { .. } | Lost { .. } | Looked { .. })
}

/// Whether an input may wait for a place: what carries an outcome must become durable now.
fn can_wait(input: &Input) -> bool {
    matches!(input, Input::Merchant(_) | Input::Operator(_) | Input::Due | Input::Recovered)
}

/// Whether what goes out is the merchant's own wish, which may be refused: nothing is owed yet.
fn is_wish(input: &Input) -> bool {
    use Request::{Capture, Confirm, Refund};
    matches!(input, Input::Merchant(Capture { .. } | Refund { .. } | Confirm { .. }))
}

fn group(kind: ExchangeKind) -> Group {
    match kind {
        ExchangeKind::Authorize | ExchangeKind::Continue => Group::Payments,
        _ => Group::Operations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_row_is_told_by_its_number_and_what_is_read_stays_what_it_is() {
        let mut read = 0;
        crate::mutator::each(&["tests/corpora/journal-payment"], 600, |body| {
            let Ok(payment) = decode("pay_1", body).map_err(|error| {
                assert!(matches!(&error, DriveError::Unreadable(id) if id == "pay_1"), "{error}");
            }) else {
                return;
            };
            read += 1;
            let again = serde_json::to_vec(&payment).expect("it is JSON");
            assert_eq!(decode("pay_1", &again).ok(), Some(payment));
        });
        assert!(read > 0);
    }
}
