//! The payments that this process has in its hands right now.
//!
//! One slot per payment: a turn at a time (which saves lost compare-and-swaps, and is not what
//! safety rests on), the last durable version, how many sends are under way, and a bell for those
//! who wait for news. A slot lives as long as somebody holds it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use interlock_engine::{Payment, Subject};
use tokio::sync::{Mutex as TurnMutex, watch};

/// Dead entries are swept when the table has grown by this much.
const SWEEP_EVERY: usize = 4_096;

/// All slots.
#[derive(Default)]
pub struct Live {
    slots: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    slots: HashMap<String, Weak<Slot>>,
    swept_at: usize,
}

/// One payment in this process's hands.
pub struct Slot {
    /// The last version that this process knows to be durable; holding it is having the turn.
    pub turn: TurnMutex<Option<Arc<Payment>>>,
    bell: watch::Sender<u64>,
    /// The answer that is kept under the payment's key, once this process has made it durable.
    answer: OnceLock<(u16, Vec<u8>)>,
    sending: AtomicUsize,
    asking: Mutex<HashMap<Subject, bool>>,
}

impl Live {
    /// The slot of a payment.
    pub fn slot(&self, payment: &str) -> Arc<Slot> {
        let mut table = lock(&self.slots);
        if let Some(slot) = table.slots.get(payment).and_then(Weak::upgrade) {
            return slot;
        }
        if table.slots.len() >= table.swept_at + SWEEP_EVERY {
            table.slots.retain(|_, slot| slot.strong_count() > 0);
            table.swept_at = table.slots.len();
        }
        let slot = Arc::new(Slot {
            turn: TurnMutex::default(),
            bell: watch::channel(0).0,
            answer: OnceLock::new(),
            sending: AtomicUsize::new(0),
            asking: Mutex::default(),
        });
        table.slots.insert(payment.to_owned(), Arc::downgrade(&slot));
        slot
    }
}

impl Slot {
    /// A version is durable: whoever waits looks again.
    pub fn ring(&self, ver: u64) {
        self.bell.send_replace(ver);
    }

    /// Hears of every version from here on.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// The payment's first final answer is durable.
    pub fn keep_answer(&self, answer: (u16, Vec<u8>)) {
        let _ = self.answer.set(answer);
    }

    /// The payment's first final answer, if this process made it durable.
    pub fn kept_answer(&self) -> Option<&(u16, Vec<u8>)> {
        self.answer.get()
    }

    /// Whether this process has a send of the payment under way.
    pub fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Acquire) > 0
    }

    /// A send is under way until the guard is dropped.
    pub fn sending(self: &Arc<Self>) -> Sending {
        self.sending.fetch_add(1, Ordering::AcqRel);
        Sending(Arc::clone(self))
    }

    /// Whether to ask now; when an inquiry is under way it is asked once more after it, because
    /// only an inquiry asked after a version may settle what that version doubts.
    pub fn begin_asking(&self, subject: Subject) -> bool {
        let mut asking = lock(&self.asking);
        match asking.get_mut(&subject) {
            Some(again) => {
                *again = true;
                false
            }
            None => {
                asking.insert(subject, false);
                true
            }
        }
    }

    /// An inquiry ended; whether it is wanted once more.
    pub fn end_asking(&self, subject: Subject) -> bool {
        lock(&self.asking).remove(&subject).unwrap_or(false)
    }
}

/// A send under way.
pub struct Sending(Arc<Slot>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_shared_while_somebody_holds_it() {
        let live = Live::default();
        let one = live.slot("pay_1");
        assert!(Arc::ptr_eq(&one, &live.slot("pay_1")));
        let sending = one.sending();
        assert!(live.slot("pay_1").is_sending());
        drop(sending);
        assert!(!one.is_sending());
    }

    #[test]
    fn an_inquiry_that_is_wanted_meanwhile_is_asked_once_more() {
        let live = Live::default();
        let slot = live.slot("pay_1");
        let subject = Subject::Attempt(0);
        assert!(slot.begin_asking(subject));
        assert!(!slot.begin_asking(subject));
        assert!(slot.end_asking(subject));
        assert!(slot.begin_asking(subject));
        assert!(!slot.end_asking(subject));
    }

    #[test]
    fn slots_that_nobody_holds_are_swept() {
        let live = Live::default();
        for n in 0..3 * SWEEP_EVERY {
            drop(live.slot(&format!("pay_{n}")));
        }
        assert!(lock(&live.slots).slots.len() <= SWEEP_EVERY + 1);
    }
}
