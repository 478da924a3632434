//! The store: what can be made durable, in one transaction for one payment, and what can be asked.
//!
//! Every row is plain data. Bodies are opaque bytes in the caller's own encoding; the columns
//! beside them exist to find a payment again (by key, reference, order, due time) and for nothing
//! else. Amounts are integers in minor units, times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;

/// Durable payments. One implementation is one place of truth.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// One payment's whole transaction; it returns only after the sync returned.
    ///
    /// Anything but [`Committed::Done`] means that nothing of the write was applied. A caller that
    /// goes away while the write is queued does not cancel it.
    ///
    /// # Errors
    /// See [`StoreError`], which says for each case whether anything is durable.
    async fn commit(&self, write: Write) -> Result<Committed, StoreError>;

    /// The payment's latest version.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row does not match its checksum.
    async fn payment(&self, id: &str) -> Result<Option<PaymentRow>, StoreError>;

    /// What a merchant's idempotency key stands for.
    ///
    /// # Errors
    /// Like every read: `Busy`, `Failed` or `Corrupt`.
    async fn key(
        &self,
        merchant: &str,
        path: &str,
        key: &str,
    ) -> Result<Option<KeyRow>, StoreError>;

    /// The payment that a provider's (or our own) reference at this account belongs to.
    ///
    /// # Errors
    /// Like every read.
    async fn reference(&self, account: &str, reference: &str)
    -> Result<Option<String>, StoreError>;

    /// The payment that an operation (a refund, for example) belongs to.
    ///
    /// # Errors
    /// Like every read.
    async fn operation(&self, id: &str) -> Result<Option<String>, StoreError>;

    /// The payment that holds this merchant's order.
    ///
    /// # Errors
    /// Like every read.
    async fn order(&self, merchant: &str, merchant_ref: &str)
    -> Result<Option<String>, StoreError>;

    /// A notice that was stored before, applied or not.
    ///
    /// # Errors
    /// Like every read.
    async fn notice(&self, account: &str, event_id: &str) -> Result<Option<NoticeRow>, StoreError>;

    /// Keeps a valid notice whose payment is not known; false if this notice was there already.
    ///
    /// A later write that applies the same notice replaces the kept row: a notice that was only
    /// kept must not stop its own redelivery from being applied.
    ///
    /// # Errors
    /// Like [`Store::commit`].
    async fn keep_notice(&self, notice: NoticeRow) -> Result<bool, StoreError>;

    /// Payments due strictly before `before_ms`, earliest first, at most `limit` (capped at
    /// 10,000).
    ///
    /// # Errors
    /// Like every read.
    async fn due(&self, before_ms: i64, limit: usize) -> Result<Vec<Due>, StoreError>;

    /// The earliest due time of all.
    ///
    /// # Errors
    /// Like every read.
    async fn next_due(&self) -> Result<Option<i64>, StoreError>;

    /// Open payments by due time and id, from behind one of them: what is due later than it was
    /// is found again, and none is passed over.
    ///
    /// # Errors
    /// Like every read.
    async fn open(&self, after: Option<Due>, limit: usize) -> Result<Vec<Due>, StoreError>;

    /// One payment's timeline after `after_seq`, in the order of `seq`, at most `limit` (capped at
    /// 10,000).
    ///
    /// # Errors
    /// Like every read.
    async fn timeline(
        &self,
        payment: &str,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<EventRow>, StoreError>;

    /// The timeline rows of all payments after position `after` (0: from the beginning), each with
    /// its position, in the order of their commits; at most `limit` (capped at 10,000). No row
    /// appears later behind a position that was already read.
    ///
    /// # Errors
    /// Like every read.
    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, EventRow)>, StoreError>;

    /// A page of payments, newest first. A page may be short, even empty, and still have a `next`:
    /// the store looks at a bounded number of rows for one page. A row that is not what was written
    /// is only named and hides no other.
    ///
    /// # Errors
    /// `Busy` or `Failed`.
    async fn list(&self, query: ListQuery) -> Result<Page, StoreError>;

    /// What a payment still has to tell its merchant: undelivered rows in the order of `seq`.
    ///
    /// # Errors
    /// Like every read.
    async fn outbox(&self, payment: &str, limit: usize) -> Result<Vec<OutboxRow>, StoreError>;

    /// Records what became of telling one message; of a message that is not there, or was
    /// delivered meanwhile, nothing.
    ///
    /// # Errors
    /// Like [`Store::commit`].
    async fn outbox_told(&self, payment: &str, seq: u64, told: Told) -> Result<(), StoreError>;

    /// Messages that may be told to this merchant now: due strictly before `before_ms`, and each
    /// the first that its payment still has to tell. Earliest first, at most `limit` (capped at
    /// 10,000). A message that is not what was written is told to nobody, and keeps none back but
    /// the later ones of its payment.
    ///
    /// # Errors
    /// Like every read.
    async fn deliveries(
        &self,
        merchant: &str,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError>;

    /// When the next of those is due, at `from_ms` or later.
    ///
    /// # Errors
    /// Like every read.
    async fn next_delivery(&self, merchant: &str, from_ms: i64) -> Result<Option<i64>, StoreError>;

    /// A message by its id, delivered or not.
    ///
    /// # Errors
    /// Like every read.
    async fn message(&self, id: &str) -> Result<Option<Message>, StoreError>;

    /// Messages in the order of their commits. No message appears later behind a position that
    /// was already read.
    ///
    /// # Errors
    /// Like every read.
    async fn messages(&self, query: MessageQuery) -> Result<Messages, StoreError>;

    /// Writes a version of a case: the first (`ver` 1) only where none is, another only where the
    /// one before is. False when it was not so, and nothing was written.
    ///
    /// # Errors
    /// Like [`Store::commit`].
    async fn case_put(&self, case: CaseRow) -> Result<bool, StoreError>;

    /// A case by its id.
    ///
    /// # Errors
    /// Like every read.
    async fn case(&self, id: &str) -> Result<Option<CaseRow>, StoreError>;

    /// Cases in the order in which they were opened.
    ///
    /// # Errors
    /// Like every read.
    async fn cases(&self, query: CaseQuery) -> Result<Cases, StoreError>;

    /// A named value of the node, such as its clock's high-water mark.
    ///
    /// # Errors
    /// Like every read.
    async fn settings_get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets a named value of the node, durably.
    ///
    /// # Errors
    /// Like [`Store::commit`].
    async fn settings_put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError>;

    /// Counts for metrics and the console. It reads every row in doubt, so ask it every few
    /// seconds and not for each request.
    ///
    /// # Errors
    /// Like every read.
    async fn stats(&self) -> Result<Stats, StoreError>;

    /// Whether new work may be taken; cheap enough for every request.
    fn health(&self) -> Health;
}

/// One payment's next version and everything that becomes true with it.
///
/// A write is judged in this order, and the first "no" is the answer: keys, notices, version,
/// order, references. So a repeated request hears of its own key, not of the order it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// The payment's id.
    pub payment: String,
    /// The merchant it belongs to. Fixed by the first write.
    pub merchant: String,
    /// The version that the decision was made from; 0 means that the payment must not exist.
    pub expect: u64,
    /// The version that this write makes: `expect + 1`.
    pub next: u64,
    /// When somebody must look at the payment again, if anything about it is open.
    pub due_at_ms: Option<i64>,
    /// When it was made. Fixed by the first write.
    pub created_ms: i64,
    /// The merchant's word for its state, for lists.
    pub status: String,
    /// Whether money may have moved and nobody knows.
    pub in_doubt: bool,
    /// The account of the latest attempt, for lists.
    pub account: Option<String>,
    /// The order's amount in minor units.
    pub amount: i64,
    /// The order's currency.
    pub currency: String,
    /// The merchant's own name for the order.
    pub merchant_ref: Option<String>,
    /// The encoded payment.
    pub body: Vec<u8>,
    /// Idempotency keys that this write takes; a key that is there gives [`Committed::KeyTaken`].
    pub keys: Vec<KeyRow>,
    /// Answers to remember under keys. The first answer of a key is kept, a later one is dropped.
    pub answers: Vec<Answer>,
    /// References by which this payment can be found.
    pub references: Vec<Reference>,
    /// Ids of operations (refunds) that belong to this payment.
    pub operations: Vec<String>,
    /// What happens to the merchant's order.
    pub order: OrderChange,
    /// Notices that this write applies or stores.
    pub notices: Vec<NoticeRow>,
    /// New timeline rows of this payment; `(payment, seq)` is unique for ever.
    pub events: Vec<EventRow>,
    /// New messages to this payment's merchant; `(payment, seq)` and the id are unique for ever.
    pub outbox: Vec<OutboxRow>,
    /// Whether the write takes new work or records what happened.
    pub purpose: Purpose,
}

/// Why a write is made; a nearly full disk refuses the one and lets the other pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// New work: nothing was sent for it, so it can be refused.
    Intake,
    /// What happened to work that was taken. It may use the last of the disk.
    #[default]
    Outcome,
}

/// What a write does to the merchant's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OrderChange {
    /// Nothing.
    #[default]
    None,
    /// The payment takes the order; another payment that holds it gives [`Committed::OrderTaken`].
    Claim {
        /// The merchant's own name for the order.
        merchant_ref: String,
    },
    /// The payment takes the order over from one that holds it; when another payment than `from`
    /// holds it, [`Committed::OrderTaken`].
    TakeOver {
        /// The merchant's own name for the order.
        merchant_ref: String,
        /// The payment that is to lose it.
        from: String,
    },
    /// The payment gives the order back; an order that another payment holds is left alone.
    Release {
        /// The merchant's own name for the order.
        merchant_ref: String,
    },
}

/// What became of a write. Anything but `Done` applied nothing at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Everything is durable.
    Done,
    /// The payment is at another version (or missing): reload and decide again.
    Conflict {
        /// The version that is there.
        ver: Option<u64>,
    },
    /// One of the keys is taken, by this row.
    KeyTaken(KeyRow),
    /// The order is held by this payment.
    OrderTaken(String),
    /// A reference or an operation's id belongs to this other payment.
    ReferenceTaken(String),
    /// One of the notices was stored before.
    NoticeSeen,
}

/// A payment as it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// The payment's id.
    pub id: String,
    /// The merchant it belongs to.
    pub merchant: String,
    /// Its version, 1 for the first.
    pub ver: u64,
    /// When somebody must look at it again.
    pub due_at_ms: Option<i64>,
    /// When it was made.
    pub created_ms: i64,
    /// The merchant's word for its state.
    pub status: String,
    /// Whether money may have moved and nobody knows.
    pub in_doubt: bool,
    /// The account of the latest attempt.
    pub account: Option<String>,
    /// The order's amount in minor units.
    pub amount: i64,
    /// The order's currency.
    pub currency: String,
    /// The merchant's own name for the order.
    pub merchant_ref: Option<String>,
    /// The encoded payment.
    pub body: Vec<u8>,
}

/// An idempotency key: the same key stands for the same thing for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRow {
    /// The merchant whose key it is.
    pub merchant: String,
    /// The resource it was used at.
    pub path: String,
    /// The key.
    pub key: String,
    /// The keyed hash of the request that came with it.
    pub fingerprint: Vec<u8>,
    /// Which secret the fingerprint was made with.
    pub fingerprint_key: String,
    /// The payment it stands for.
    pub payment: String,
    /// The operation it stands for, when it is not the payment itself.
    pub operation: Option<String>,
    /// The first answer: HTTP status and body.
    pub answer: Option<(u16, Vec<u8>)>,
}

/// An answer to be remembered under a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The merchant whose key it is.
    pub merchant: String,
    /// The resource the key was used at.
    pub path: String,
    /// The key.
    pub key: String,
    /// HTTP status.
    pub status: u16,
    /// The body as it was sent.
    pub body: Vec<u8>,
}

/// A name by which a provider's words can be brought to a payment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// The account at which the reference holds.
    pub account: String,
    /// Ours (an `op_id`) or the provider's.
    pub reference: String,
    /// The payment it leads to.
    pub payment: String,
}

/// One provider's notice, known by its account and event id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticeRow {
    /// The account it was sent to.
    pub account: String,
    /// The provider's id of the event.
    pub event_id: String,
    /// The payment it speaks of, if that is known.
    pub payment: Option<String>,
    /// A hash of the body.
    pub digest: Vec<u8>,
    /// When it came.
    pub at_ms: i64,
    /// Whether a payment has taken it in.
    pub applied: bool,
}

/// One line of a payment's timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventRow {
    /// The payment.
    pub payment: String,
    /// Its place in the payment's timeline.
    pub seq: u64,
    /// When it happened.
    pub at_ms: i64,
    /// Who did it.
    pub actor: String,
    /// What happened, a word of the trade.
    pub what: String,
    /// The named reason.
    pub reason: Option<String>,
    /// More, as JSON.
    pub detail: Option<String>,
}

/// One message that a merchant must be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// The payment.
    pub payment: String,
    /// Its place among the payment's messages.
    pub seq: u64,
    /// When it was decided.
    pub at_ms: i64,
    /// Its id, the same however often it is told.
    pub id: String,
    /// The kind of event.
    pub kind: String,
    /// The message.
    pub body: Vec<u8>,
}

/// A message as it is kept, and how its delivery stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its place among all messages, 1 for the first.
    pub position: u64,
    /// Whom it is for.
    pub merchant: String,
    /// The message.
    pub row: OutboxRow,
    /// None when it was delivered.
    pub delivery: Option<Delivery>,
}

/// How the delivery of a message stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// When it may be tried, if it is the first of its payment.
    pub due_at_ms: i64,
    /// How often it was tried.
    pub tries: u32,
    /// Nothing of its payment waits before it. Not so when it was given up.
    pub is_first: bool,
    /// It is not tried any more.
    pub given_up: bool,
    /// Why the last try failed.
    pub reason: Option<String>,
}

/// What became of telling a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The merchant took it. The next message of its payment may go.
    Delivered,
    /// It did not.
    Failed {
        /// When to try again; none gives it up, and the next message of its payment may go.
        again_at_ms: Option<i64>,
        /// The named reason.
        reason: String,
    },
    /// Somebody wants it told (again), from this time on, whatever became of it before.
    Wanted {
        /// From when on.
        at_ms: i64,
    },
}

/// Which messages are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageQuery {
    /// Only this merchant's.
    pub merchant: Option<String>,
    /// Only those that are not delivered: with true those given up, with false the others.
    pub given_up: Option<bool>,
    /// Only those after this position.
    pub after: u64,
    /// At most so many, capped at 500.
    pub limit: usize,
}

/// Messages in the order of their commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Messages {
    /// Those that are what was written.
    pub rows: Vec<Message>,
    /// Those that are not: their positions, and what is left of their ids.
    pub damaged: Vec<(u64, String)>,
}

/// A difference between our books and a provider's, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseRow {
    /// Its id: the same difference found again is the same case.
    pub id: String,
    /// Its version, 1 for the first.
    pub ver: u64,
    /// The account whose statement it is about.
    pub account: String,
    /// The provider's day, `2026-11-29`.
    pub date: String,
    /// What kind of difference.
    pub kind: String,
    /// Whether somebody must still look at it.
    pub open: bool,
    /// The payment, if one is known.
    pub payment: Option<String>,
    /// When it was found first.
    pub opened_ms: i64,
    /// When this version was made.
    pub changed_ms: i64,
    /// Both sides and the timeline, in the caller's own encoding.
    pub body: Vec<u8>,
}

/// Which cases are meant. An empty query means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseQuery {
    /// Only this account's.
    pub account: Option<String>,
    /// Only this day's.
    pub date: Option<String>,
    /// Only those that are open, or only those that are not.
    pub open: Option<bool>,
    /// Only those after this position.
    pub after: u64,
    /// At most so many, capped at 500.
    pub limit: usize,
}

/// A page of cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cases {
    /// Those that are what was written.
    pub rows: Vec<CaseRow>,
    /// Those that are not, by what is left of their ids.
    pub damaged: Vec<String>,
    /// The position after which to go on, if there are more.
    pub next: Option<u64>,
}

/// A payment that somebody must look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The payment.
    pub payment: String,
    /// Since when.
    pub due_at_ms: i64,
}

/// Which payments a list shows. An empty filter shows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only this merchant's.
    pub merchant: Option<String>,
    /// Only this order's.
    pub merchant_ref: Option<String>,
    /// Only those in this state.
    pub status: Option<String>,
    /// Only those whose latest attempt is at this account.
    pub account: Option<String>,
    /// Only those in doubt, or only those not in doubt.
    pub in_doubt: Option<bool>,
    /// Only those made strictly after this time.
    pub created_after_ms: Option<i64>,
    /// At most so many, capped at 500.
    pub limit: usize,
    /// Where the last page ended.
    pub cursor: Option<Cursor>,
}

/// A place in a list: everything after it is older.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the payment at this place was made.
    pub created_ms: i64,
    /// Its id, which orders payments of the same millisecond.
    pub id: String,
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The payments, newest first.
    pub rows: Vec<PaymentRow>,
    /// Payments of this page whose rows do not match their checksums, by what is left of their
    /// ids. Of those that a filter left out nobody can say whether they belong here.
    pub damaged: Vec<String>,
    /// Where to go on; none when nothing older is left.
    pub next: Option<Cursor>,
}

/// What the store holds and how it fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// All payments.
    pub payments: u64,
    /// Payments with a due time.
    pub open: u64,
    /// Payments in doubt.
    pub in_doubt: u64,
    /// Amounts in doubt, in minor units, by currency.
    pub in_doubt_amounts: BTreeMap<String, i64>,
    /// When the oldest payment in doubt was made.
    pub oldest_in_doubt_ms: Option<i64>,
    /// Bytes on the disk, log included.
    pub bytes: u64,
    /// Half of the last minutes' syncs took at most about so many microseconds.
    pub sync_p50_us: u64,
    /// 99 of 100 syncs took at most about so many microseconds.
    pub sync_p99_us: u64,
}

/// Whether the store takes new work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Writable,
    /// Only outcomes: the disk is nearly full.
    LowDisk,
    /// Nothing at all, for this reason, until the node is started again.
    Failed(String),
}

/// Why the store could not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// The disk is nearly full and the write was new work. Nothing is durable, nothing was tried.
    LowDisk,
    /// The disk is full, the reserve too. Nothing is durable.
    Full,
    /// Too much is queued, or the store is being reopened. Nothing is durable; try again.
    Busy,
    /// The disk or the database failed. **For a write this means unknown**: it may be durable or
    /// not, and the caller must read the payment again before it does anything.
    Failed {
        /// What was heard.
        reason: String,
    },
    /// A row is not what was written. Nothing was changed; do not act on what is left of it.
    Corrupt {
        /// Where.
        table: &'static str,
        /// Which row.
        id: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::LowDisk => f.write_str("the journal's disk is nearly full"),
            StoreError::Full => f.write_str("the journal's disk is full"),
            StoreError::Busy => f.write_str("the journal is busy"),
            StoreError::Failed { reason } => write!(f, "the journal failed: {reason}"),
            StoreError::Corrupt { table, id } => {
                write!(f, "a row of {table} is not what was written: {id}")
            }
        }
    }
}

impl std::error::Error for StoreError {}
