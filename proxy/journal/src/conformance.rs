//! What every store must do, as one suite of cases that a store's own tests run.
//!
//! A store that passes may stand under the driver: the cases are the assumptions that the driver
//! makes. They know nothing of how a store works, so what only one store can do (disks that fill,
//! files that rot) is tested beside that store.
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn my_store_passes_the_suite() {
//!     interlock_journal::conformance::suite(&MyGround::new()).await;
//! }
//! ```

mod cases;
mod names;
mod reading;
mod telling;
mod versions;

use std::sync::Arc;

use async_trait::async_trait;

use crate::store::{
    Committed, EventRow, KeyRow, ListQuery, NoticeRow, OutboxRow, PaymentRow, Reference, Store,
    Write,
};

/// Where the suite gets its stores from.
#[async_trait]
pub trait Ground: Send + Sync {
    /// A new, empty store. It is the only one in use.
    async fn empty(&self) -> Arc<dyn Store>;

    /// Closes the store that was given last and opens the same one again.
    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;
}

/// Runs every case, each on an empty store. It needs a runtime with more than one thread.
///
/// # Panics
/// When the store breaks a rule; the line says which.
pub async fn suite(ground: &dyn Ground) {
    versions::a_payment_comes_back_as_it_was_written(&*ground.empty().await).await;
    versions::a_second_insert_is_a_conflict(&*ground.empty().await).await;
    versions::only_the_expected_version_can_be_followed(&*ground.empty().await).await;
    versions::one_of_many_racers_wins(&ground.empty().await).await;
    versions::a_thousand_inserts_at_once_are_all_kept(&ground.empty().await).await;
    names::a_taken_key_answers_with_its_row(&*ground.empty().await).await;
    names::the_first_answer_of_a_key_is_kept(&*ground.empty().await).await;
    names::an_order_has_one_holder(&*ground.empty().await).await;
    names::an_order_is_taken_over_only_from_the_payment_that_is_named(&*ground.empty().await).await;
    names::a_reference_belongs_to_one_payment(&*ground.empty().await).await;
    names::an_operation_leads_to_its_payment(&*ground.empty().await).await;
    names::a_notice_is_applied_once(&*ground.empty().await).await;
    names::a_kept_notice_can_still_be_applied(&*ground.empty().await).await;
    versions::a_refused_write_leaves_nothing(&*ground.empty().await).await;
    versions::a_write_that_does_not_fit_leaves_nothing(&*ground.empty().await).await;
    reading::the_earliest_due_comes_first(&*ground.empty().await).await;
    reading::every_open_payment_is_found_page_by_page(&*ground.empty().await).await;
    reading::a_timeline_is_read_in_order_and_in_parts(&*ground.empty().await).await;
    reading::all_events_are_read_in_the_order_of_their_commits(&ground.empty().await).await;
    telling::an_outbox_keeps_what_is_not_delivered(&*ground.empty().await).await;
    telling::only_the_first_message_of_a_payment_is_due(&*ground.empty().await).await;
    telling::a_message_that_is_given_up_lets_the_next_one_pass(&*ground.empty().await).await;
    telling::messages_are_kept_and_read_in_the_order_of_their_commits(ground).await;
    reading::a_list_shows_the_newest_first_and_goes_on_at_its_cursor(&*ground.empty().await).await;
    reading::a_list_shows_only_what_was_asked_for(&*ground.empty().await).await;
    cases::a_case_is_changed_only_from_the_version_before(ground).await;
    cases::cases_are_listed_as_they_were_opened(&*ground.empty().await).await;
    reading::settings_are_kept(&*ground.empty().await).await;
    reading::stats_count_what_is_open_and_in_doubt(&*ground.empty().await).await;
    versions::a_caller_that_goes_away_cancels_nothing(&ground.empty().await).await;
    versions::everything_is_there_after_reopening(ground).await;
}

async fn commit(store: &dyn Store, write: Write) -> Committed {
    store.commit(write).await.expect("a healthy store takes a sound write")
}

async fn done(store: &dyn Store, write: Write) {
    assert_eq!(commit(store, write).await, Committed::Done);
}

async fn read(store: &dyn Store, id: &str) -> Option<PaymentRow> {
    store.payment(id).await.expect("a healthy store can be read")
}

/// Every page of a list; each page keeps to the limit.
async fn ids(store: &dyn Store, mut query: ListQuery) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = store.list(query.clone()).await.expect("a healthy store can be read");
        assert!(page.rows.len() <= query.limit);
        all.extend(page.rows.into_iter().map(|row| row.id));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return all,
        }
    }
}

fn payment(id: &str) -> Write {
    Write {
        payment: id.into(),
        merchant: "m".into(),
        next: 1,
        due_at_ms: Some(1_000),
        created_ms: 500,
        status: "processing".into(),
        account: Some("a".into()),
        amount: 1_999,
        currency: "EUR".into(),
        body: format!("body of {id}").into_bytes(),
        ..Write::default()
    }
}

/// The next version of the payment, without the rows that came with the last one.
fn after(write: &Write) -> Write {
    Write {
        expect: write.next,
        next: write.next + 1,
        merchant: write.merchant.clone(),
        merchant_ref: write.merchant_ref.clone(),
        amount: write.amount,
        currency: write.currency.clone(),
        created_ms: write.created_ms,
        body: format!("version {}", write.next + 1).into_bytes(),
        ..payment(&write.payment)
    }
}

fn row(write: &Write) -> PaymentRow {
    let w = write.clone();
    PaymentRow {
        id: w.payment,
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
    }
}

fn key(name: &str, payment: &str) -> KeyRow {
    KeyRow {
        merchant: "m".into(),
        path: "/v1/payments".into(),
        key: name.into(),
        fingerprint: vec![1, 2, 3],
        fingerprint_key: "f1".into(),
        payment: payment.into(),
        operation: None,
        answer: None,
    }
}

fn reference(account: &str, name: &str, payment: &str) -> Reference {
    Reference { account: account.into(), reference: name.into(), payment: payment.into() }
}

fn notice(event_id: &str, applied: bool) -> NoticeRow {
    NoticeRow {
        account: "a".into(),
        event_id: event_id.into(),
        payment: Some("p".into()),
        digest: vec![7; 32],
        at_ms: 9,
        applied,
    }
}

fn event(payment: &str, seq: u64) -> EventRow {
    EventRow {
        payment: payment.into(),
        seq,
        at_ms: 600,
        actor: "engine".into(),
        what: "attempt_started".into(),
        reason: Some("first_choice".into()),
        detail: None,
    }
}

fn message(payment: &str, seq: u64) -> OutboxRow {
    OutboxRow {
        payment: payment.into(),
        seq,
        at_ms: 700,
        id: format!("evt_{payment}_{seq}"),
        kind: "payment.succeeded".into(),
        body: b"{}".to_vec(),
    }
}
