//! Messages of the simulated store behind the journal's trait: in the plainest way, by looking at
//! all of them, so that the journal's own bookkeeping has something to agree with.

use interlock_journal::{Delivery, Message, MessageQuery, OutboxRow, Told};

use super::Book;
use super::face::Whole;

/// A message that nobody was told yet.
pub(super) fn new(merchant: &str, row: OutboxRow) -> Message {
    let delivery = Delivery { due_at_ms: row.at_ms, ..Delivery::default() };
    Message { merchant: merchant.to_owned(), row, delivery: Some(delivery), position: 0 }
}

/// Records what became of telling it.
pub(super) fn tell(message: &mut Message, told: &Told) {
    match (told, &mut message.delivery) {
        (Told::Delivered, delivery) => *delivery = None,
        (Told::Wanted { at_ms }, delivery) => {
            *delivery = Some(Delivery { due_at_ms: *at_ms, ..Delivery::default() });
        }
        (Told::Failed { again_at_ms, reason }, Some(delivery)) => {
            delivery.due_at_ms = again_at_ms.unwrap_or(delivery.due_at_ms);
            delivery.given_up = again_at_ms.is_none();
            delivery.tries += 1;
            delivery.reason = Some(reason.clone());
        }
        (Told::Failed { .. }, None) => {}
    }
}

/// What a payment still has to tell.
pub(super) fn outbox(book: &Book<Whole>, payment: &String) -> impl Iterator<Item = OutboxRow> {
    book.messages(payment).filter(|(_, m)| waits(m)).map(|(_, m)| m.row.clone())
}

/// What may be told to a merchant, the earliest first.
pub(super) fn due(book: &Book<Whole>, merchant: &str) -> Vec<Message> {
    let first = |m: &Message| m.delivery.as_ref().is_some_and(|d| d.is_first);
    let mut due: Vec<Message> = all(book).filter(|m| m.merchant == merchant && first(m)).collect();
    due.sort_by_key(due_ms);
    due
}

/// When a message may be told.
pub(super) fn due_ms(message: &Message) -> Option<i64> {
    message.delivery.as_ref().map(|d| d.due_at_ms)
}

/// Every message, in the order of the commits.
pub(super) fn all(book: &Book<Whole>) -> impl Iterator<Item = Message> + '_ {
    (1..).zip(book.places()).filter_map(|(position, (payment, seq))| {
        let mut of_one = book.messages(payment);
        let first = book.messages(payment).find(|(_, m)| waits(m)).map(|(seq, _)| seq);
        let mut message = of_one.find(|(there, _)| there == seq)?.1.clone();
        message.position = position;
        if let Some(delivery) = &mut message.delivery {
            delivery.is_first = first == Some(*seq);
        }
        Some(message)
    })
}

/// Whether a query means this message.
pub(super) fn is_meant(message: &Message, query: &MessageQuery) -> bool {
    let given_up = message.delivery.as_ref().map(|d| d.given_up);
    message.position > query.after
        && query.merchant.as_ref().is_none_or(|merchant| *merchant == message.merchant)
        && query.given_up.is_none_or(|wanted| given_up == Some(wanted))
}

fn waits(message: &Message) -> bool {
    message.delivery.as_ref().is_some_and(|d| !d.given_up)
}
