//! The simulated store behind the journal's own trait, so that the journal's conformance suite can
//! judge the very code that the simulator runs on.
//!
//! Every caller that waits takes a turn at the next step of the store: one begins the sync for all
//! that are queued, the next ends it. So batches, and reads in the middle of a sync, come about as
//! they do under the journal's writer, and a crash meets the store in the same states as in the
//! simulator. It is for tests: lists and counts read every payment.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use interlock_journal::{
    CaseQuery, CaseRow, Cases, Committed, Cursor, Due, EventRow, Health, KeyRow, ListQuery,
    Message, MessageQuery, Messages, NoticeRow, OrderChange as Order, OutboxRow, Page, PaymentRow,
    Stats, Store, StoreError, Told, Write,
};

use super::mail;
use super::{
    Answer, Book, Key, Notice, OrderChange, Refusal, Rows, Simulated, Space, Task, Transaction,
    Verdict, Version,
};

/// Rows of one answer, payments on one page, as in the journal.
const MOST_ROWS: usize = 10_000;
const MOST_LISTED: usize = 500;

/// The journal's rows as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole;

impl Rows for Whole {
    type Id = String;
    type Name = Vec<String>;
    type Payment = PaymentRow;
    type Key = KeyRow;
    type Answer = (u16, Vec<u8>);
    type Notice = NoticeRow;
    type Event = EventRow;
    type Message = Message;
    type Told = Told;
    type Setting = Vec<u8>;

    fn follow(before: &PaymentRow, next: &mut PaymentRow) {
        next.merchant.clone_from(&before.merchant);
        next.created_ms = before.created_ms;
    }

    fn tell(message: &mut Message, told: &Told) {
        mail::tell(message, told);
    }
}

/// Where an answer is left for whoever waits for it.
pub type Waiter = Arc<Mutex<Option<Answer<Whole>>>>;

/// The simulated store as a [`Store`].
#[derive(Default)]
pub struct Face {
    store: Mutex<Simulated<Whole, Waiter>>,
    /// No decision about money rests on a case, so here they are durable at once.
    cases: Mutex<Vec<CaseRow>>,
}

impl Face {
    /// The store itself, for a test that crashes it. Nobody else moves meanwhile.
    pub fn inside(&self) -> MutexGuard<'_, Simulated<Whole, Waiter>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, task: Task<Whole>) -> Result<Verdict<Whole>, StoreError> {
        let waiter = Waiter::default();
        self.inside().stage(task, Arc::clone(&waiter)).map_err(explain)?;
        loop {
            breathe().await;
            let is_open = self.step();
            // Nobody holds the other end once it was answered, or its process has died.
            let is_over = Arc::strong_count(&waiter) == 1;
            if let Some(answer) = lock(&waiter).take() {
                return answer.map_err(explain);
            }
            if is_over || !is_open {
                return Err(explain(Refusal::Failed));
            }
        }
    }

    /// Whether the store is open afterwards.
    fn step(&self) -> bool {
        let mut heard = Vec::new();
        let mut store = self.inside();
        if !store.begin_sync(&mut heard) {
            store.end_sync(&mut heard);
        }
        for (waiter, answer) in heard {
            *lock(&waiter) = Some(answer);
        }
        store.is_open()
    }

    fn read<T>(&self, question: impl FnOnce(&Book<Whole>) -> T) -> Result<T, StoreError> {
        self.inside().book().map(question).ok_or(StoreError::Busy)
    }
}

#[async_trait]
impl Store for Face {
    async fn commit(&self, write: Write) -> Result<Committed, StoreError> {
        let verdict = self.perform(Task::Write(transaction(write)?)).await?;
        Ok(match verdict {
            Verdict::Done => Committed::Done,
            Verdict::Conflict { ver } => Committed::Conflict { ver },
            Verdict::KeyTaken(key) => Committed::KeyTaken(key_row(&key)),
            Verdict::NoticeSeen => Committed::NoticeSeen,
            Verdict::OrderTaken(holder) => Committed::OrderTaken(holder),
            Verdict::ReferenceTaken(owner) => Committed::ReferenceTaken(owner),
        })
    }

    async fn payment(&self, id: &str) -> Result<Option<PaymentRow>, StoreError> {
        self.read(|book| book.payment(&id.to_owned()).map(|version| version.row.clone()))
    }

    async fn key(
        &self,
        merchant: &str,
        path: &str,
        key: &str,
    ) -> Result<Option<KeyRow>, StoreError> {
        self.read(|book| book.key(&name([merchant, path, key])).map(key_row))
    }

    async fn reference(
        &self,
        account: &str,
        reference: &str,
    ) -> Result<Option<String>, StoreError> {
        self.read(|book| book.reference(&name([account, reference])).cloned())
    }

    async fn operation(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.read(|book| book.operation(&name([id])).cloned())
    }

    async fn order(
        &self,
        merchant: &str,
        merchant_ref: &str,
    ) -> Result<Option<String>, StoreError> {
        self.read(|book| book.order(&name([merchant, merchant_ref])).cloned())
    }

    async fn notice(&self, account: &str, event_id: &str) -> Result<Option<NoticeRow>, StoreError> {
        self.read(|book| book.notice(&name([account, event_id])).map(|kept| kept.notice.clone()))
    }

    async fn keep_notice(&self, notice: NoticeRow) -> Result<bool, StoreError> {
        Ok(self.perform(Task::KeepNotice(kept(notice))).await? == Verdict::Done)
    }

    async fn due(&self, before_ms: i64, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.read(|book| {
            let due = book.due().take_while(|(due_ms, _)| *due_ms < before_ms);
            due.take(limit.min(MOST_ROWS))
                .map(|(due_at_ms, id)| Due { payment: id.clone(), due_at_ms })
                .collect()
        })
    }

    async fn open(&self, after: Option<Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.read(|book| {
            let after = after.as_ref().map(|due| (due.due_at_ms, &due.payment));
            let rest = book.due().filter(|(at, id)| after.is_none_or(|after| (*at, *id) > after));
            rest.take(limit.min(MOST_ROWS))
                .map(|(due_at_ms, id)| Due { payment: id.clone(), due_at_ms })
                .collect()
        })
    }

    async fn next_due(&self) -> Result<Option<i64>, StoreError> {
        self.read(Book::next_due)
    }

    async fn timeline(
        &self,
        payment: &str,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<EventRow>, StoreError> {
        self.read(|book| {
            let rest = book.timeline(&payment.to_owned()).filter(|(seq, _)| *seq > after_seq);
            rest.take(limit.min(MOST_ROWS)).map(|(_, event)| event.clone()).collect()
        })
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, EventRow)>, StoreError> {
        self.read(|book| {
            let rest = (1..).zip(book.events()).filter(|(position, _)| *position > after);
            rest.take(limit.min(MOST_ROWS)).map(|(at, (_, _, event))| (at, event.clone())).collect()
        })
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.read(|book| page(book.payments().map(|(_, version)| &version.row), &query))
    }

    async fn outbox(&self, payment: &str, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let limit = limit.min(MOST_ROWS);
        self.read(|book| mail::outbox(book, &payment.to_owned()).take(limit).collect())
    }

    async fn outbox_told(&self, payment: &str, seq: u64, told: Told) -> Result<(), StoreError> {
        self.perform(Task::Tell(payment.to_owned(), seq, told)).await.map(|_| ())
    }

    async fn deliveries(
        &self,
        merchant: &str,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        self.read(|book| {
            let mut due = mail::due(book, merchant);
            due.retain(|message| mail::due_ms(message) < Some(before_ms));
            due.truncate(limit.min(MOST_ROWS));
            due
        })
    }

    async fn next_delivery(&self, merchant: &str, from_ms: i64) -> Result<Option<i64>, StoreError> {
        self.read(|book| {
            let due = mail::due(book, merchant);
            due.iter().filter_map(mail::due_ms).find(|due_ms| *due_ms >= from_ms)
        })
    }

    async fn message(&self, id: &str) -> Result<Option<Message>, StoreError> {
        self.read(|book| mail::all(book).find(|message| message.row.id == id))
    }

    async fn messages(&self, query: MessageQuery) -> Result<Messages, StoreError> {
        let limit = query.limit.min(MOST_LISTED);
        self.read(|book| {
            let meant = mail::all(book).filter(|m| mail::is_meant(m, &query));
            Messages { rows: meant.take(limit).collect(), damaged: Vec::new() }
        })
    }

    async fn case_put(&self, case: CaseRow) -> Result<bool, StoreError> {
        let mut cases = lock(&self.cases);
        let before = cases.iter_mut().find(|known| known.id == case.id);
        let fits = before.as_ref().map_or(0, |known| known.ver) + 1 == case.ver;
        match before {
            Some(known) if fits => *known = case,
            None if fits => cases.push(case),
            _ => {}
        }
        Ok(fits)
    }

    async fn case(&self, id: &str) -> Result<Option<CaseRow>, StoreError> {
        Ok(lock(&self.cases).iter().find(|case| case.id == id).cloned())
    }

    async fn cases(&self, query: CaseQuery) -> Result<Cases, StoreError> {
        let limit = query.limit.min(MOST_LISTED);
        let is = |wanted: &Option<String>, found: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let cases = lock(&self.cases);
        let mut found = (1_u64..).zip(cases.iter()).filter(|(position, case)| {
            *position > query.after
                && is(&query.account, &case.account)
                && is(&query.date, &case.date)
                && query.open.is_none_or(|open| open == case.open)
        });
        let page: Vec<(u64, &CaseRow)> = found.by_ref().take(limit).collect();
        let next = page.last().map(|(position, _)| *position).filter(|_| found.next().is_some());
        let rows = page.into_iter().map(|(_, case)| case.clone()).collect();
        Ok(Cases { rows, damaged: Vec::new(), next })
    }

    async fn settings_get(&self, setting: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|book| book.setting(&name([setting])).cloned())
    }

    async fn settings_put(&self, setting: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.perform(Task::Set(name([setting]), bytes)).await.map(|_| ())
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let bytes = self.inside().bytes();
        self.read(|book| count(book.payments().map(|(_, version)| version), bytes))
    }

    fn health(&self) -> Health {
        let store = self.inside();
        match store.space() {
            _ if !store.is_open() => Health::Failed("the simulated store is closed".to_owned()),
            Space::Plenty => Health::Writable,
            Space::Low | Space::Reserve | Space::Full => Health::LowDisk,
        }
    }
}

/// Lets the other callers take their turns.
async fn breathe() {
    let mut breathed = false;
    poll_fn(|context| {
        if breathed {
            return Poll::Ready(());
        }
        breathed = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn explain(refusal: Refusal) -> StoreError {
    match refusal {
        Refusal::LowDisk => StoreError::LowDisk,
        Refusal::Full => StoreError::Full,
        Refusal::Busy => StoreError::Busy,
        Refusal::Unfit => StoreError::Failed { reason: "a write does not fit".to_owned() },
        Refusal::Failed => StoreError::Failed { reason: "the simulated disk failed".to_owned() },
    }
}

fn name<const N: usize>(parts: [&str; N]) -> Vec<String> {
    parts.map(str::to_owned).into()
}

fn transaction(write: Write) -> Result<Transaction<Whole>, StoreError> {
    let strange = |payment: &String| *payment != write.payment;
    if write.expect.checked_add(1) != Some(write.next)
        || write.events.iter().map(|event| &event.payment).any(strange)
        || write.outbox.iter().map(|message| &message.payment).any(strange)
    {
        return Err(explain(Refusal::Unfit));
    }
    let w = write;
    let order_of = |merchant_ref: &str| name([&w.merchant, merchant_ref]);
    let order = match w.order {
        Order::None => OrderChange::None,
        Order::Claim { merchant_ref } => OrderChange::Claim(order_of(&merchant_ref)),
        Order::TakeOver { merchant_ref, from } => {
            OrderChange::TakeOver { order: order_of(&merchant_ref), from }
        }
        Order::Release { merchant_ref } => OrderChange::Release(order_of(&merchant_ref)),
    };
    let (keys, answers, references) = (w.keys, w.answers, w.references);
    let messages = w.outbox.into_iter().map(|row| (row.seq, mail::new(&w.merchant, row)));
    let messages = messages.collect();
    let bytes = u32::try_from(w.body.len()).unwrap_or(u32::MAX).saturating_add(512);
    let row = PaymentRow {
        id: w.payment.clone(),
        merchant: w.merchant,
        ver: w.next,
        due_at_ms: w.due_at_ms,
        created_ms: w.created_ms,
        status: w.status,
        in_doubt: w.in_doubt,
        account: w.account,
        amount: w.amount,
        currency: w.currency,
        merchant_ref: w.merchant_ref,
        body: w.body,
    };
    Ok(Transaction {
        keys: keys.into_iter().map(taken).collect(),
        answers: answers
            .into_iter()
            .map(|a| (name([&a.merchant, &a.path, &a.key]), (a.status, a.body)))
            .collect(),
        notices: w.notices.into_iter().map(kept).collect(),
        order,
        references: references
            .into_iter()
            .map(|r| (name([&r.account, &r.reference]), r.payment))
            .collect(),
        operations: w.operations.into_iter().map(|id| vec![id]).collect(),
        events: w.events.into_iter().map(|event| (event.seq, event)).collect(),
        messages,
        purpose: w.purpose,
        bytes,
        ..Transaction::new(w.payment, w.expect, row, w.due_at_ms)
    })
}

fn taken(row: KeyRow) -> (Vec<String>, Key<Whole>) {
    let answer = row.answer.clone();
    (name([&row.merchant, &row.path, &row.key]), Key { stands_for: row, answer })
}

fn key_row(key: &Key<Whole>) -> KeyRow {
    KeyRow { answer: key.answer.clone(), ..key.stands_for.clone() }
}

fn kept(notice: NoticeRow) -> Notice<Whole> {
    Notice { name: name([&notice.account, &notice.event_id]), applied: notice.applied, notice }
}

fn page<'a>(rows: impl Iterator<Item = &'a PaymentRow>, query: &ListQuery) -> Page {
    let at = |row: &PaymentRow| Cursor { created_ms: row.created_ms, id: row.id.clone() };
    let wanted =
        |word: &Option<String>, has: Option<&String>| word.is_none() || word.as_ref() == has;
    let mut rows: Vec<&PaymentRow> = rows
        .filter(|row| wanted(&query.merchant, Some(&row.merchant)))
        .filter(|row| wanted(&query.merchant_ref, row.merchant_ref.as_ref()))
        .filter(|row| wanted(&query.status, Some(&row.status)))
        .filter(|row| wanted(&query.account, row.account.as_ref()))
        .filter(|row| query.in_doubt.is_none_or(|wanted| wanted == row.in_doubt))
        .filter(|row| query.created_after_ms.is_none_or(|ms| row.created_ms > ms))
        .filter(|row| query.cursor.as_ref().is_none_or(|cursor| at(row) < *cursor))
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(at(row)));
    let shown = rows.len().min(query.limit.min(MOST_LISTED));
    let next = if shown < rows.len() { rows[..shown].last().map(|row| at(row)) } else { None };
    let rows = rows[..shown].iter().map(|row| (*row).clone()).collect();
    Page { rows, next, ..Page::default() }
}

fn count<'a>(versions: impl Iterator<Item = &'a Version<Whole>>, bytes: u64) -> Stats {
    let mut stats = Stats { bytes, ..Stats::default() };
    for version in versions {
        let row = &version.row;
        stats.payments += 1;
        stats.open += u64::from(version.due_ms.is_some());
        if row.in_doubt {
            stats.in_doubt += 1;
            let oldest = stats.oldest_in_doubt_ms.unwrap_or(i64::MAX);
            stats.oldest_in_doubt_ms = Some(row.created_ms.min(oldest));
            let sum = stats.in_doubt_amounts.entry(row.currency.clone()).or_insert(0);
            *sum = sum.saturating_add(row.amount);
        }
    }
    stats
}
