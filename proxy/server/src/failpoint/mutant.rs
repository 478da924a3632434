//! Designs that are known to be wrong, so that what judges the kills can be seen to find them.
//!
//! `INTERLOCK_MUTANT` names one. Two of them put a store over the store that says "durable" a
//! moment too early; the third believes no success that comes later than the answer itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use interlock_engine::Input;
use interlock_journal::{
    CaseQuery, CaseRow, Cases, Committed, Due, EventRow, Health, KeyRow, ListQuery, Medium,
    Message, MessageQuery, Messages, Moment, NoticeRow, Options, OutboxRow, Page, PaymentRow,
    Purpose, RealDisk, Stats, Store, StoreError, Told, Write,
};
use interlock_plugin_api::What;

use super::{Side, pass};

/// Names a mutant.
const VARIABLE: &str = "INTERLOCK_MUTANT";
/// How much too early the hasty store says that something is durable.
const TOO_EARLY: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// A new payment is sent while its record is on its way to the disk.
    SendBeforeDurable,
    /// A merchant is told of an outcome while its record is on its way to the disk.
    AcknowledgeBeforeDurable,
    /// A success that is not the answer to the request itself is taken for nothing.
    DropLateSuccess,
}

fn mutant() -> Option<Mutant> {
    static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();
    *CHOSEN.get_or_init(|| match std::env::var(VARIABLE).ok()?.as_str() {
        "send_before_durable" => Some(Mutant::SendBeforeDurable),
        "acknowledge_before_durable" => Some(Mutant::AcknowledgeBeforeDurable),
        "drop_late_success" => Some(Mutant::DropLateSuccess),
        other => {
            tracing::error!(other, "no such mutant");
            None
        }
    })
}

/// What is believed of an input.
pub fn heard_of(mut input: Input) -> Input {
    if mutant() == Some(Mutant::DropLateSuccess)
        && let Input::Looked { facts, .. } | Input::Noticed { facts, .. } = &mut input
    {
        facts.retain(|fact| !matches!(fact.what, What::Captured | What::Authorized));
    }
    input
}

/// The journal's disk, with a place on each side of its syncs.
pub fn over_disk(options: Options) -> Options {
    Options { medium: Arc::new(Watched), ..options }
}

struct Watched;

impl Medium for Watched {
    fn free_bytes(&self, dir: &std::path::Path) -> std::io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn syncing(&self, moment: Moment) -> std::io::Result<()> {
        let side = match moment {
            Moment::Before => Side::Before,
            Moment::After => Side::After,
        };
        pass("journal.sync", side);
        Ok(())
    }
}

/// The journal, or a mutant of it.
pub fn over_store(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let early = match mutant() {
        Some(Mutant::SendBeforeDurable) => Purpose::Intake,
        Some(Mutant::AcknowledgeBeforeDurable) => Purpose::Outcome,
        Some(Mutant::DropLateSuccess) | None => return store,
    };
    Arc::new(Hasty { store, early, turns: Mutex::default() })
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Says "done" to writes of one purpose before they are.
struct Hasty {
    store: Arc<dyn Store>,
    early: Purpose,
    turns: Mutex<HashMap<String, Turn>>,
}

impl Hasty {
    fn turn(&self, payment: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(payment.to_owned()).or_default())
    }
}

#[async_trait]
impl Store for Hasty {
    async fn commit(&self, write: Write) -> Result<Committed, StoreError> {
        // The versions of one payment still reach the disk in their order.
        let turn = self.turn(&write.payment).lock_owned().await;
        if write.purpose != self.early {
            return self.store.commit(write).await;
        }
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            tokio::time::sleep(TOO_EARLY).await;
            let _ = store.commit(write).await;
            drop(turn);
        });
        Ok(Committed::Done)
    }

    async fn payment(&self, id: &str) -> Result<Option<PaymentRow>, StoreError> {
        self.store.payment(id).await
    }

    async fn key(
        &self,
        merchant: &str,
        path: &str,
        key: &str,
    ) -> Result<Option<KeyRow>, StoreError> {
        self.store.key(merchant, path, key).await
    }

    async fn reference(&self, account: &str, name: &str) -> Result<Option<String>, StoreError> {
        self.store.reference(account, name).await
    }

    async fn operation(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.store.operation(id).await
    }

    async fn order(&self, merchant: &str, order: &str) -> Result<Option<String>, StoreError> {
        self.store.order(merchant, order).await
    }

    async fn notice(&self, account: &str, id: &str) -> Result<Option<NoticeRow>, StoreError> {
        self.store.notice(account, id).await
    }

    async fn keep_notice(&self, notice: NoticeRow) -> Result<bool, StoreError> {
        self.store.keep_notice(notice).await
    }

    async fn due(&self, before_ms: i64, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.store.due(before_ms, limit).await
    }

    async fn next_due(&self) -> Result<Option<i64>, StoreError> {
        self.store.next_due().await
    }

    async fn open(&self, after: Option<Due>, limit: usize) -> Result<Vec<Due>, StoreError> {
        self.store.open(after, limit).await
    }

    async fn timeline(
        &self,
        payment: &str,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<EventRow>, StoreError> {
        self.store.timeline(payment, after_seq, limit).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, EventRow)>, StoreError> {
        self.store.events(after, limit).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.store.list(query).await
    }

    async fn outbox(&self, payment: &str, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.store.outbox(payment, limit).await
    }

    async fn outbox_told(&self, payment: &str, seq: u64, told: Told) -> Result<(), StoreError> {
        self.store.outbox_told(payment, seq, told).await
    }

    async fn deliveries(
        &self,
        merchant: &str,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        self.store.deliveries(merchant, before_ms, limit).await
    }

    async fn next_delivery(&self, merchant: &str, from_ms: i64) -> Result<Option<i64>, StoreError> {
        self.store.next_delivery(merchant, from_ms).await
    }

    async fn message(&self, id: &str) -> Result<Option<Message>, StoreError> {
        self.store.message(id).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Messages, StoreError> {
        self.store.messages(query).await
    }

    async fn case_put(&self, case: CaseRow) -> Result<bool, StoreError> {
        self.store.case_put(case).await
    }

    async fn case(&self, id: &str) -> Result<Option<CaseRow>, StoreError> {
        self.store.case(id).await
    }

    async fn cases(&self, query: CaseQuery) -> Result<Cases, StoreError> {
        self.store.cases(query).await
    }

    async fn settings_get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.settings_get(name).await
    }

    async fn settings_put(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.store.settings_put(name, bytes).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.store.stats().await
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}
