//! The fault dial: which request meets which fault, decided by account, operation and chance.
//!
//! The dial only decides. What a fault does to a socket, an answer or a notification is done
//! where those live, so that a decision can be tested without a network. Chance comes from one
//! seeded generator: the same seed and the same order of requests give the same faults.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// So many faults may be set at once.
pub const FAULTS_LIMIT: usize = 1_000;

/// What a request asks for, in the words of the fault dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Pay, or offer to pay.
    Authorize,
    /// A second step of a payment.
    Continue,
    /// Take a held amount.
    Capture,
    /// Let a hold go.
    Void,
    /// Close, cancel or reverse a payment.
    Close,
    /// Give money back.
    Refund,
    /// Ask, changing nothing.
    Inquire,
    /// A notification that the fake sends.
    Notify,
    /// In a fault: every operation.
    #[serde(rename = "*")]
    Any,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Nobody listens: connections are refused and open ones reset.
    Refuse,
    /// Read in full, not executed, then a TCP reset.
    ResetAfterRead,
    /// Read in full, not executed, never answered.
    Hang,
    /// Executed at once, answered after `ms`.
    Slow,
    /// Not executed, answered with a 5xx.
    ErrorBefore,
    /// Executed, answered with a 5xx.
    ErrorAfter,
    /// Executed, then a TCP reset.
    ChargeThenDrop,
    /// Executed, answered with 200 and an unreadable body.
    Garbage,
    /// Executed, answered with a signature that does not fit.
    BadSignature,
    /// Declined in a way that another try may cure.
    DeclineSoft,
    /// Declined for good.
    DeclineHard,
    /// Not executed: too many requests.
    RateLimited,
    /// A notification that never arrives.
    NotifyLose,
    /// A notification that leaves `ms` later.
    NotifyDelay,
    /// A notification that arrives twice.
    NotifyDuplicate,
    /// A notification that waits until a younger one has left.
    NotifyReorder,
}

impl FaultKind {
    fn is_of_notifications(self) -> bool {
        use FaultKind::{NotifyDelay, NotifyDuplicate, NotifyLose, NotifyReorder};
        matches!(self, NotifyLose | NotifyDelay | NotifyDuplicate | NotifyReorder)
    }

    fn is_decline(self) -> bool {
        matches!(self, Self::DeclineSoft | Self::DeclineHard)
    }
}

/// A fault as it is ordered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// The account's name, or `*` for all.
    pub account: String,
    /// Which operation meets it.
    pub operation: Operation,
    /// What goes wrong.
    pub fault: FaultKind,
    /// From 0 to 1, for each matching request.
    #[serde(default = "always")]
    pub probability: f64,
    /// How long it stands, in milliseconds; until it is deleted when absent or 0.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// How long to wait, for the faults that wait; 0 means the account's `late_ms`.
    #[serde(default)]
    pub ms: u64,
    /// So many matching requests pass before it starts.
    #[serde(default)]
    pub after_n: u64,
}

fn always() -> f64 {
    1.0
}

impl FaultOrder {
    /// Why the order makes no sense, if it does not.
    pub fn complaint(&self) -> Option<String> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Some(format!("probability is not between 0 and 1: {}", self.probability));
        }
        let for_notify = self.fault.is_of_notifications()
            || matches!(self.fault, FaultKind::BadSignature | FaultKind::Slow);
        if self.operation == Operation::Notify && !for_notify {
            return Some(format!(
                "operation notify knows notify_lose, notify_delay, notify_duplicate, \
                 notify_reorder, bad_signature and slow, not: {}",
                word(&self.fault)
            ));
        }
        if self.operation == Operation::Inquire && self.fault.is_decline() {
            return Some(format!("an inquiry cannot be declined: {}", word(&self.fault)));
        }
        None
    }

    fn is_for(&self, account: &str) -> bool {
        self.account == "*" || self.account == account
    }

    fn meets_request(&self, account: &str, operation: Operation) -> bool {
        self.is_for(account)
            && (self.operation == Operation::Any || self.operation == operation)
            && !self.fault.is_of_notifications()
            && !(self.fault.is_decline() && operation == Operation::Inquire)
    }

    fn meets_notice(&self, account: &str, cause: Operation) -> bool {
        let of_notifications = self.fault.is_of_notifications();
        self.is_for(account)
            && match self.operation {
                Operation::Notify => true,
                Operation::Any => of_notifications || self.fault == FaultKind::BadSignature,
                operation => of_notifications && operation == cause,
            }
    }
}

/// A fault that one request met.
#[derive(Debug, Clone)]
pub struct Met {
    /// The fault's id.
    pub id: Arc<str>,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How long to wait; 0 when the order did not say.
    pub ms: u64,
    /// When the fault ends by itself.
    pub ends: Option<Instant>,
    /// Becomes true when the fault is lifted.
    pub lifted: watch::Receiver<bool>,
}

impl Met {
    /// Waits until the fault ends, by time or by being lifted.
    pub async fn over(mut self) {
        let lifted = async {
            // An error means that the dial is gone, which lifts everything.
            let _ = self.lifted.wait_for(|lifted| *lifted).await;
        };
        match self.ends {
            None => lifted.await,
            Some(ends) => {
                tokio::select! {
                    () = lifted => {}
                    () = tokio::time::sleep_until(ends.into()) => {}
                }
            }
        }
    }
}

/// A standing fault as `GET /faults` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// `flt_` and a number.
    pub id: Arc<str>,
    /// The order, flattened in JSON.
    #[serde(flatten)]
    pub order: FaultOrder,
    /// Milliseconds until it ends by itself.
    pub remaining_ms: Option<u64>,
    /// Requests that it could have met.
    pub matched: u64,
    /// Requests that it met.
    pub fired: u64,
}

/// How an account's door must behave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Refusal {
    /// Nobody listens.
    pub closed: bool,
    /// Otherwise the chance that a connection is reset as soon as it is made.
    pub chance: f64,
    /// When the next `refuse` fault ends by itself.
    pub until: Option<Instant>,
}

/// All faults of one sandbox.
pub struct FaultDial {
    inner: Mutex<Dial>,
    standing: AtomicUsize,
    turned: watch::Sender<u64>,
}

struct Dial {
    next: u64,
    chance: StdRng,
    faults: Vec<Fault>,
}

struct Fault {
    id: Arc<str>,
    order: FaultOrder,
    ends: Option<Instant>,
    matched: u64,
    fired: u64,
    lifted: watch::Sender<bool>,
}

impl FaultDial {
    /// A dial without faults whose chance comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new(Dial {
                next: 0,
                chance: StdRng::seed_from_u64(seed),
                faults: Vec::new(),
            }),
            standing: AtomicUsize::new(0),
            turned: watch::Sender::new(0),
        }
    }

    /// Sets a fault; answers its id, or why not.
    ///
    /// # Errors
    /// The complaint about the order, or that there are too many.
    pub fn set(&self, order: FaultOrder, now: Instant) -> Result<Arc<str>, String> {
        if let Some(complaint) = order.complaint() {
            return Err(complaint);
        }
        let mut dial = self.lock();
        dial.drop_ended(now);
        if dial.faults.len() >= FAULTS_LIMIT {
            return Err(format!("too many faults at once, the limit is: {FAULTS_LIMIT}"));
        }
        dial.next += 1;
        let id: Arc<str> = format!("flt_{:026}", dial.next).into();
        let for_ms = order.for_ms.filter(|ms| *ms > 0);
        dial.faults.push(Fault {
            id: id.clone(),
            order,
            ends: for_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms))),
            matched: 0,
            fired: 0,
            lifted: watch::Sender::new(false),
        });
        self.note(&dial);
        Ok(id)
    }

    /// Lifts one fault; answers whether it stood.
    pub fn lift(&self, id: &str) -> bool {
        let mut dial = self.lock();
        let before = dial.faults.len();
        dial.faults.retain(|fault| {
            let stays = &*fault.id != id;
            if !stays {
                fault.lifted.send_replace(true);
            }
            stays
        });
        self.note(&dial);
        dial.faults.len() < before
    }

    /// Lifts all faults; answers how many stood.
    pub fn lift_all(&self) -> usize {
        let mut dial = self.lock();
        let faults = std::mem::take(&mut dial.faults);
        for fault in &faults {
            fault.lifted.send_replace(true);
        }
        self.note(&dial);
        faults.len()
    }

    /// Begins the chance anew from `seed`.
    pub fn reseed(&self, seed: u64) {
        self.lock().chance = StdRng::seed_from_u64(seed);
    }

    /// The faults that stand.
    pub fn standing(&self, now: Instant) -> Vec<Standing> {
        let mut dial = self.lock();
        dial.drop_ended(now);
        self.note_count(&dial);
        let left = |ends: Instant| ends.saturating_duration_since(now).as_millis() as u64;
        let show = |fault: &Fault| Standing {
            id: fault.id.clone(),
            order: fault.order.clone(),
            remaining_ms: fault.ends.map(left),
            matched: fault.matched,
            fired: fault.fired,
        };
        dial.faults.iter().map(show).collect()
    }

    /// The fault that a request meets: the oldest standing one that matches and whose chance
    /// says yes.
    pub fn meet_request(&self, account: &str, operation: Operation, now: Instant) -> Option<Met> {
        self.meet(now, |order| order.meets_request(account, operation))
    }

    /// The fault that a notification meets; `cause` is the operation that it tells of.
    pub fn meet_notice(&self, account: &str, cause: Operation, now: Instant) -> Option<Met> {
        self.meet(now, |order| order.meets_notice(account, cause))
    }

    /// How `account`'s door must behave.
    pub fn refusal(&self, account: &str, now: Instant) -> Refusal {
        let mut refusal = Refusal::default();
        if self.standing.load(Ordering::Acquire) == 0 {
            return refusal;
        }
        let mut dial = self.lock();
        dial.drop_ended(now);
        self.note_count(&dial);
        let refuse = |f: &&Fault| f.order.fault == FaultKind::Refuse && f.order.is_for(account);
        for fault in dial.faults.iter().filter(refuse) {
            if fault.matched < fault.order.after_n {
                continue;
            }
            if fault.order.probability >= 1.0 {
                refusal.closed = true;
            } else {
                refusal.chance = refusal.chance.max(fault.order.probability);
            }
            refusal.until = [refusal.until, fault.ends].into_iter().flatten().min();
        }
        refusal
    }

    /// Yes with a chance of `probability`.
    pub fn roll(&self, probability: f64) -> bool {
        probability > 0.0 && self.lock().chance.random::<f64>() < probability
    }

    /// Changes whenever a door should look at its refusal again.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turned.subscribe()
    }

    fn meet(&self, now: Instant, matches: impl Fn(&FaultOrder) -> bool) -> Option<Met> {
        if self.standing.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut guard = self.lock();
        let dial = &mut *guard;
        dial.drop_ended(now);
        let mut met = None;
        let mut door_closes = false;
        for fault in dial.faults.iter_mut().filter(|f| matches(&f.order)) {
            fault.matched += 1;
            let refuses = fault.order.fault == FaultKind::Refuse;
            door_closes |= refuses && fault.matched == fault.order.after_n;
            let starts = fault.matched > fault.order.after_n;
            // A partial refusal is rolled once for each connection, at the door.
            let here = !(refuses && fault.order.probability < 1.0);
            if met.is_some() || !starts || !here {
                continue;
            }
            if fault.order.probability < 1.0
                && dial.chance.random::<f64>() >= fault.order.probability
            {
                continue;
            }
            fault.fired += 1;
            met = Some(Met {
                id: fault.id.clone(),
                kind: fault.order.fault,
                ms: fault.order.ms,
                ends: fault.ends,
                lifted: fault.lifted.subscribe(),
            });
        }
        self.note_count(dial);
        if door_closes {
            self.turned.send_modify(|turn| *turn += 1);
        }
        met
    }

    fn note(&self, dial: &Dial) {
        self.note_count(dial);
        self.turned.send_modify(|turn| *turn += 1);
    }

    fn note_count(&self, dial: &Dial) {
        self.standing.store(dial.faults.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Dial> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dial {
    fn drop_ended(&mut self, now: Instant) {
        self.faults.retain(|fault| {
            let stands = fault.ends.is_none_or(|ends| ends > now);
            if !stands {
                fault.lifted.send_replace(true);
            }
            stands
        });
    }
}

/// The word of a value in JSON, without quotes.
pub fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_its_account_and_operation_only() {
        let dial = FaultDial::new(1);
        let now = Instant::now();
        dial.set(order(r#"{"account":"a","operation":"authorize","fault":"hang"}"#), now).unwrap();
        assert!(dial.meet_request("b", Operation::Authorize, now).is_none());
        assert!(dial.meet_request("a", Operation::Refund, now).is_none());
        assert!(dial.meet_notice("a", Operation::Authorize, now).is_none());
        let met = dial.meet_request("a", Operation::Authorize, now).unwrap();
        assert_eq!(met.kind, FaultKind::Hang);
    }

    #[test]
    fn a_fault_starts_after_n_requests_and_ends_after_its_time() {
        let dial = FaultDial::new(1);
        let now = Instant::now();
        let text =
            r#"{"account":"*","operation":"*","fault":"slow","ms":5,"for_ms":100,"after_n":2}"#;
        dial.set(order(text), now).unwrap();
        let meets = |at| dial.meet_request("a", Operation::Capture, at).is_some();
        assert_eq!([meets(now), meets(now), meets(now)], [false, false, true]);
        assert!(!meets(now + Duration::from_millis(100)));
        assert!(dial.standing(now + Duration::from_millis(100)).is_empty());
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let run = |seed| -> Vec<bool> {
            let dial = FaultDial::new(seed);
            let now = Instant::now();
            let text = r#"{"account":"a","operation":"*","fault":"hang","probability":0.5}"#;
            dial.set(order(text), now).unwrap();
            (0..64).map(|_| dial.meet_request("a", Operation::Void, now).is_some()).collect()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let fired = run(7).iter().filter(|met| **met).count();
        assert!((16..48).contains(&fired), "{fired} of 64");
    }

    #[test]
    fn a_refusal_closes_the_door_or_gives_a_chance() {
        let dial = FaultDial::new(1);
        let now = Instant::now();
        let partial = r#"{"account":"a","operation":"*","fault":"refuse","probability":0.2}"#;
        dial.set(order(partial), now).unwrap();
        assert_eq!(dial.refusal("a", now), Refusal { closed: false, chance: 0.2, until: None });
        let full = r#"{"account":"a","operation":"refund","fault":"refuse","after_n":1}"#;
        dial.set(order(full), now).unwrap();
        assert!(!dial.refusal("a", now).closed);
        assert!(dial.meet_request("a", Operation::Refund, now).is_none(), "the first passes");
        assert!(dial.refusal("a", now).closed);
        assert!(!dial.refusal("b", now).closed);
        assert_eq!(dial.lift_all(), 2);
        assert_eq!(dial.refusal("a", now), Refusal::default());
    }

    #[test]
    fn notification_faults_follow_their_cause() {
        let dial = FaultDial::new(1);
        let now = Instant::now();
        let text = r#"{"account":"a","operation":"refund","fault":"notify_lose"}"#;
        dial.set(order(text), now).unwrap();
        assert!(dial.meet_notice("a", Operation::Authorize, now).is_none());
        assert!(dial.meet_notice("a", Operation::Refund, now).is_some());
        assert!(dial.meet_request("a", Operation::Refund, now).is_none());
    }

    #[test]
    fn orders_without_sense_are_refused() {
        let dial = FaultDial::new(1);
        let set = |text| dial.set(order(text), Instant::now()).unwrap_err();
        let text = r#"{"account":"a","operation":"notify","fault":"hang"}"#;
        assert!(set(text).ends_with("not: hang"));
        let text = r#"{"account":"a","operation":"inquire","fault":"decline_soft"}"#;
        assert!(set(text).contains("decline_soft"));
        let text = r#"{"account":"a","operation":"*","fault":"slow","probability":2}"#;
        assert!(set(text).contains("probability"));
        let unknown = r#"{"account":"a","operation":"*","fault":"explode"}"#;
        assert!(serde_json::from_str::<FaultOrder>(unknown).is_err());
    }

    fn order(text: &str) -> FaultOrder {
        serde_json::from_str(text).unwrap()
    }
}
