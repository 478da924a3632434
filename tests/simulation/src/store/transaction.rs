//! What a write brings to the simulated store and what it hears: the journal's own write, with the
//! names and bodies left to whoever uses the store.

use std::fmt::Debug;
use std::hash::Hash;

use interlock_journal::Purpose;

/// What the rows of one store are made of. The simulator keeps pointers and small numbers, the
/// journal's conformance suite whole rows; the store compares names and carries the rest.
pub trait Rows: Clone + Debug + PartialEq + Eq {
    /// A payment's id.
    type Id: Clone + Debug + Eq + Hash + Ord;
    /// A key, reference, operation, order, event id or setting. Each table has its own names.
    type Name: Clone + Debug + Eq + Hash;
    /// A payment at one version.
    type Payment: Clone + Debug + PartialEq;
    /// What a merchant's key stands for.
    type Key: Clone + Debug + PartialEq;
    /// The first answer under a key.
    type Answer: Clone + Debug + PartialEq;
    /// What is kept of a provider's notice.
    type Notice: Clone + Debug + PartialEq;
    /// One line of a timeline.
    type Event: Clone + Debug + PartialEq;
    /// What a merchant must be told.
    type Message: Clone + Debug + PartialEq;
    /// What became of telling it.
    type Told: Clone + Debug + PartialEq;
    /// A named value of the node.
    type Setting: Clone + Debug + PartialEq;

    /// Carries over what only a payment's first write may fix.
    fn follow(_before: &Self::Payment, _next: &mut Self::Payment) {}

    /// Records in a message what became of telling it.
    fn tell(_message: &mut Self::Message, _told: &Self::Told) {}
}

/// One payment's next version and everything that becomes true with it.
///
/// It is judged as the journal judges: keys, notices, version, order, references, and the first
/// "no" is the answer.
#[derive(Clone, Debug)]
pub struct Transaction<R: Rows> {
    /// The payment.
    pub payment: R::Id,
    /// The version that the decision was made from, 0 for none; the write makes the next one.
    pub expect: u64,
    /// The payment as it is from then on.
    pub row: R::Payment,
    /// When somebody must look at it again, Unix ms.
    pub due_ms: Option<i64>,
    /// Keys that it takes.
    pub keys: Vec<(R::Name, Key<R>)>,
    /// Answers to remember under keys; a later answer of the same key is dropped.
    pub answers: Vec<(R::Name, R::Answer)>,
    /// Notices that it applies or stores.
    pub notices: Vec<Notice<R>>,
    /// What happens to the merchant's order.
    pub order: OrderChange<R>,
    /// References, and the payments that they lead to.
    pub references: Vec<(R::Name, R::Id)>,
    /// Operations that belong to this payment.
    pub operations: Vec<R::Name>,
    /// Timeline lines by their number, which is unique in the payment for ever.
    pub events: Vec<(u64, R::Event)>,
    /// Messages by their number, which is unique in the payment for ever.
    pub messages: Vec<(u64, R::Message)>,
    /// Whether it takes new work or records what happened.
    pub purpose: Purpose,
    /// How much of the disk it takes, in bytes.
    pub bytes: u32,
}

impl<R: Rows> Transaction<R> {
    /// A payment's next version and nothing else, of 1,024 bytes.
    pub fn new(payment: R::Id, expect: u64, row: R::Payment, due_ms: Option<i64>) -> Self {
        Self {
            payment,
            expect,
            row,
            due_ms,
            keys: Vec::new(),
            answers: Vec::new(),
            notices: Vec::new(),
            order: OrderChange::None,
            references: Vec::new(),
            operations: Vec::new(),
            events: Vec::new(),
            messages: Vec::new(),
            purpose: Purpose::Outcome,
            bytes: 1024,
        }
    }
}

/// A key that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Key<R: Rows> {
    /// What it stands for.
    pub stands_for: R::Key,
    /// The first answer, if there was one.
    pub answer: Option<R::Answer>,
}

/// One provider's notice, known by its account and event id.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice<R: Rows> {
    /// The account and the event id, in one name.
    pub name: R::Name,
    /// Whether a payment has taken it in; one that was only kept gives way to one that is applied.
    pub applied: bool,
    /// What is kept of it.
    pub notice: R::Notice,
}

/// What a write does to the merchant's order.
#[derive(Clone, Debug, PartialEq)]
pub enum OrderChange<R: Rows> {
    /// Nothing.
    None,
    /// The payment takes it, unless another payment holds it.
    Claim(R::Name),
    /// The payment takes it over, if `from` holds it.
    TakeOver {
        /// The order.
        order: R::Name,
        /// The payment that is to lose it.
        from: R::Id,
    },
    /// The payment gives it back; an order that another payment holds is left alone.
    Release(R::Name),
}

/// Something to make durable. Nearly all are writes, and a box would cost each of them.
#[derive(Clone, Debug)]
pub enum Task<R: Rows> {
    /// One payment's transaction.
    Write(Transaction<R>),
    /// Keeps a notice whose payment is not known; one that is there already gives `NoticeSeen`.
    KeepNotice(Notice<R>),
    /// Sets a named value of the node.
    Set(R::Name, R::Setting),
    /// Records what became of telling a message; of one that is not there, nothing.
    Tell(R::Id, u64, R::Told),
}

impl<R: Rows> Task<R> {
    pub(super) fn is_intake(&self) -> bool {
        matches!(self, Task::Write(write) if write.purpose == Purpose::Intake)
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Task::Write(write) => write.bytes.into(),
            Task::KeepNotice(_) | Task::Set(..) | Task::Tell(..) => 256,
        }
    }
}

impl<R: Rows> From<Transaction<R>> for Task<R> {
    fn from(write: Transaction<R>) -> Self {
        Task::Write(write)
    }
}

/// What became of a task. Anything but `Done` left nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<R: Rows> {
    /// Everything is durable.
    Done,
    /// The payment is at another version, or missing.
    Conflict {
        /// The version that is there.
        ver: Option<u64>,
    },
    /// One of the keys is taken.
    KeyTaken(Key<R>),
    /// One of the notices was stored before.
    NoticeSeen,
    /// The order is held by this payment.
    OrderTaken(R::Id),
    /// A reference or an operation belongs to this other payment.
    ReferenceTaken(R::Id),
}

/// Why a task was not done, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The disk is nearly full and the task was new work. Nothing is durable, nothing was tried.
    LowDisk,
    /// The disk is full, the reserve too. Nothing is durable.
    Full,
    /// Too much is queued. Nothing is durable.
    Busy,
    /// The caller's mistake: a number that was used before. Nothing is durable.
    Unfit,
    /// The sync failed: **unknown**. It may be durable or not; read again.
    Failed,
}

/// What the caller of a task hears.
pub type Answer<R> = Result<Verdict<R>, Refusal>;
