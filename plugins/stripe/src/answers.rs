//! What the answers to requests say.
//!
//! A result comes under 200 alone. An error may hold the intent that it speaks of; it is compared
//! with ours before anything of it counts. A refusal of the card (402) is kept under the key and
//! answered to every copy; what is refused before anything was begun is true of that one request.

use interlock_plugin_api::{Class, Fact, Request, What};
use serde::Deserialize;

use crate::codes::{Error, classed, object, refusal, unexecuted};
use crate::intent::{Intent, Refund, disagreement};
use crate::payments::{Change, Source};

/// The token that a wallet's token became, or why there is none.
pub(crate) fn token(status: u16, body: &[u8]) -> Result<Source, Box<Fact>> {
    #[derive(Deserialize)]
    struct Token {
        object: Option<String>,
        id: Option<String>,
    }
    if status != 200 {
        // Nothing can have moved, whatever it says.
        return Err(Box::new(match Error::read(body) {
            Some(error) => classed(Fact::unknown(error.word(status)), Class::User),
            None => Fact::unanswered(status),
        }));
    }
    let token = object::<Token>(body).filter(|token| token.object.as_deref() == Some("token"));
    let source = token.and_then(|token| Source::token(&token.id?));
    source.ok_or_else(|| Box::new(Fact::unknown("no_token")))
}

/// Reads the answer to a payment and to its confirmation.
pub(crate) fn paid(status: u16, body: &[u8], r: &Request) -> Fact {
    if status != 200 {
        return failed(status, body, r, |intent| intent.fact(r.capture));
    }
    let Some(intent) = object::<Intent>(body) else { return Fact::unknown("unreadable") };
    if !is_ours(&intent, r) {
        return Fact::unknown("other_payment");
    }
    let fact = intent.fact(r.capture);
    match fact.what {
        // It was confirmed just now, so what waits for a confirmation contradicts.
        What::Approved => Fact { what: What::Unknown, ..coded_by(&intent, fact) },
        _ => fact,
    }
}

/// Reads the answer to a capture or a cancel.
pub(crate) fn changed(change: Change, status: u16, body: &[u8], r: &Request) -> Fact {
    let read = |intent: &Intent| became(change, intent, r);
    if status != 200 {
        return failed(status, body, r, read);
    }
    let Some(intent) = object::<Intent>(body) else { return Fact::unknown("unreadable") };
    if is_ours(&intent, r) { read(&intent) } else { Fact::unknown("other_payment") }
}

/// What the intent says of a capture or a cancel with the number of this request.
pub(crate) fn became(change: Change, intent: &Intent, r: &Request) -> Fact {
    let Some(id) = intent.number_of() else { return Fact::unknown("no_payment_id") };
    let status = intent.status.as_deref().unwrap_or_default();
    let fact = match (change, status) {
        (Change::Capture, "succeeded") if intent.capture() == Some(&r.op_id) => {
            intent.taken().of_key()
        }
        // Somebody else took it, with another amount perhaps.
        (Change::Capture, "succeeded") => Fact::unknown("other_capture"),
        (Change::Capture, "processing") => Fact::new(What::Pending),
        // What ended without taking anything can't be taken any more; only a cancel wants that.
        (_, "canceled") => match (intent.ended().what, change) {
            (What::Voided | What::Declined, Change::Cancel) => Fact::new(What::Voided).of_key(),
            (What::Voided | What::Declined, Change::Capture) => {
                Fact::declined(Class::Expired, intent.told()).of_key()
            }
            _ => intent.ended(),
        },
        _ => Fact::unknown(intent.told()),
    };
    fact.with_provider_ref(id)
}

/// Reads the answer to a refund.
pub(crate) fn refunded(status: u16, body: &[u8], r: &Request) -> Fact {
    if status != 200 {
        return failed(status, body, r, |_| disagreement());
    }
    let Some(refund) = object::<Refund>(body) else { return Fact::unknown("unreadable") };
    let known = r.original.as_ref().and_then(|original| original.provider_ref.as_deref());
    if refund.ours() != Some(&r.op_id) || refund.payment_intent.as_deref() != known {
        return Fact::unknown("other_refund");
    }
    refund.fact()
}

/// Whether it is the intent of the payment that the request is about: by our number of it, and by
/// the provider's where that is known.
pub(crate) fn is_ours(intent: &Intent, r: &Request) -> bool {
    let known = r.original.as_ref().and_then(|original| original.provider_ref.as_deref());
    let number = r.original.as_ref().map_or(&r.op_id, |original| &original.op_id);
    intent.attempt() == Some(number) && known.is_none_or(|id| intent.id.as_deref() == Some(id))
}

/// What an error says. `read` is what the intent in it says, for the one error that is told of an
/// intent which is further than was thought.
fn failed(status: u16, body: &[u8], r: &Request, read: impl FnOnce(&Intent) -> Fact) -> Fact {
    let Some(error) = Error::read(body).filter(|_| (400..500).contains(&status)) else {
        return Fact::unanswered(status);
    };
    let intent = error.payment_intent.as_ref();
    if intent.is_some_and(|intent| !is_ours(intent, r)) {
        return Fact::unknown("other_payment");
    }
    let code = error.code.as_deref();
    if status == 402 && error.kind == "card_error" {
        let Some(why) = refusal(code, error.decline_code.as_deref()) else {
            return Fact::unknown("unlisted_refusal");
        };
        if intent.is_some_and(|intent| !intent.is_untouched()) {
            return disagreement();
        }
        let fact = Fact::declined(why.class, why.code).with_advice(why.advice).of_key();
        return Fact {
            provider_ref: intent.and_then(|intent| intent.number_of()).map(Into::into),
            ..fact
        };
    }
    match (code, intent) {
        (
            Some("payment_intent_unexpected_state" | "payment_intent_authentication_failure"),
            Some(i),
        ) if matches!(status, 400 | 402) => {
            let fact = read(i);
            let decided = !matches!(fact.what, What::Unknown | What::Approved);
            if decided { fact } else { unexecuted(status, &error) }
        }
        _ => unexecuted(status, &error),
    }
}

fn coded_by(intent: &Intent, fact: Fact) -> Fact {
    Fact { provider_code: Some(intent.told()), class: Some(Class::Unmapped), ..fact }
}
