//! What became of a payment, or of a capture, void or refund: the questions and their answers.
//!
//! By the provider's number the intent itself is read, which is always up to date. By ours it is
//! searched, and the search is behind by a minute, or by an hour in an outage: so a hit is then
//! read by its number, and no hit proves nothing. Refunds are listed by their payment; lists are
//! not behind.

use interlock_plugin_api::{Class, Cx, Event, Fact, Fault, Operation, Request, Send, Step, What};
use serde::Deserialize;

use crate::answers::{became, is_ours};
use crate::codes::{Error, classed, object};
use crate::intent::{Intent, Refund};
use crate::payments::{
    ATTEMPT, Change, checked_op_id, get, is_intent, is_ref, known_ref, original,
};
use crate::{State, UNASKED, answered};

/// Refunds asked for in one page; the provider gives no more.
const PAGE: &str = "100";
/// More pages than the host's eight steps would not be read.
const PAGES_MAX: u32 = 7;
/// Hits asked for; more than one is an alarm.
const HITS: &str = "10";

/// One step of asking about a payment.
pub(crate) fn payment(body: &[u8], r: &Request, s: State, e: &Event) -> Result<Step<State>, Fault> {
    let original = original(r)?;
    if matches!(e, Event::Start) {
        return match &original.provider_ref {
            Some(_) => Ok(ask_intent(known_ref(original)?, false)),
            None => Ok(ask_search(checked_op_id(&original.op_id)?)),
        };
    }
    let status = match answered(e)? {
        Ok(status) => status,
        Err(lost) => return Ok(Step::done(lost)),
    };
    match s {
        State::Search => Ok(read_hits(status, body, &original.op_id)),
        State::Intent { id, found } => Ok(Step::done(read_intent(status, body, r, &id, found))),
        _ => Err(UNASKED),
    }
}

/// One step of asking about a capture, void or refund.
pub(crate) fn operation(
    body: &[u8],
    r: &Request,
    s: State,
    e: &Event,
) -> Result<Step<State>, Fault> {
    let id = known_ref(original(r)?)?;
    let Some((operation, number)) = &r.target else {
        return Err(Fault::input("the inquiry names no operation"));
    };
    checked_op_id(&r.op_id)?;
    let change = match operation {
        Operation::Capture => Some(Change::Capture),
        Operation::Void => Some(Change::Cancel),
        Operation::Refund => None,
        _ => return Err(Fault::input("only a capture, void or refund can be asked about")),
    };
    if matches!(e, Event::Start) {
        return Ok(match (change, number) {
            (Some(_), _) => ask_intent(id, false),
            (None, Some(refund)) if is_ref(refund, "re_") || is_ref(refund, "pyr_") => {
                let send = get(format!("/v1/refunds/{refund}"));
                ask(send, State::Refund { id: refund.clone() })
            }
            (None, Some(_)) => return Err(Fault::input("the refund's number has no such form")),
            (None, None) => ask_refunds(id, None, 0),
        });
    }
    let status = match answered(e)? {
        Ok(status) => status,
        Err(lost) => return Ok(Step::done(lost)),
    };
    match (s, change) {
        (State::Intent { .. }, Some(change)) => {
            Ok(Step::done(read_change(status, body, r, change)))
        }
        (State::Refund { id: refund }, None) => {
            Ok(Step::done(read_refund(status, body, r, &refund, id)))
        }
        (State::Refunds { pages }, None) => Ok(read_refunds(status, body, r, id, pages)),
        _ => Err(UNASKED),
    }
}

/// A question about a number that nobody has: "no such payment" is a sign of life.
pub(crate) fn probe(cx: &Cx<'_>, s: State, e: &Event) -> Result<Step<State>, Fault> {
    if matches!(e, Event::Start) {
        let number: String = cx.entropy.chars().filter(char::is_ascii_alphanumeric).collect();
        return Ok(ask_intent(&format!("pi_{number}"), false));
    }
    let State::Intent { .. } = s else { return Err(UNASKED) };
    Ok(Step::done(match answered(e)? {
        Ok(404) if is_missing(cx.body) => Fact::new(What::NotFound),
        Ok(status) => Fact::unanswered(status),
        Err(lost) => lost,
    }))
}

fn ask(send: Send, state: State) -> Step<State> {
    Step::send(send, Vec::new(), state)
}

fn ask_intent(id: &str, found: bool) -> Step<State> {
    let send = get(format!("/v1/payment_intents/{id}")).query("expand[]", "latest_charge");
    ask(send, State::Intent { id: id.to_owned(), found })
}

fn ask_search(op_id: &str) -> Step<State> {
    let query = format!("metadata['{ATTEMPT}']:'{op_id}'");
    let send = get("/v1/payment_intents/search").query("query", query).query("limit", HITS);
    ask(send, State::Search)
}

fn ask_refunds(intent: &str, after: Option<&str>, pages: u32) -> Step<State> {
    let send = get("/v1/refunds").query("payment_intent", intent).query("limit", PAGE);
    let send = match after {
        Some(last) => send.query("starting_after", last),
        None => send,
    };
    ask(send, State::Refunds { pages })
}

/// The provider itself says that there is no such thing.
fn is_missing(body: &[u8]) -> bool {
    Error::read(body).is_some_and(|error| error.code.as_deref() == Some("resource_missing"))
}

fn read_intent(status: u16, body: &[u8], r: &Request, id: &str, found: bool) -> Fact {
    match status {
        200 => {}
        // The search has just named it, so a 404 contradicts.
        404 if !found && is_missing(body) => {
            let code = Some("404:resource_missing".to_owned());
            return Fact { provider_code: code, ..Fact::new(What::NotFound) };
        }
        _ => return Fact::unanswered(status),
    }
    match object::<Intent>(body) {
        None => Fact::unknown("unreadable"),
        Some(intent) if intent.id.as_deref() == Some(id) && is_ours(&intent, r) => {
            intent.fact(r.capture)
        }
        Some(_) => Fact::unknown("other_payment"),
    }
}

#[derive(Deserialize)]
struct Page<T> {
    object: String,
    data: Vec<T>,
    has_more: bool,
}

fn read_hits(status: u16, body: &[u8], op_id: &str) -> Step<State> {
    if status != 200 {
        return Step::done(Fact::unanswered(status));
    }
    let page = object::<Page<Intent>>(body).filter(|page| page.object == "search_result");
    let Some(page) = page else { return Step::done(Fact::unknown("unreadable")) };
    let mut ours = page.data.iter().filter(|intent| intent.attempt() == Some(op_id));
    match (ours.next().map(|intent| intent.id.as_deref()), ours.next()) {
        (_, Some(_)) => Step::done(Fact::unknown("several_hits")),
        (Some(Some(id)), None) if is_intent(id) => ask_intent(id, true),
        (Some(_), None) => Step::done(Fact::unknown("no_payment_id")),
        (None, None) if page.has_more => Step::done(Fact::unknown("search_incomplete")),
        (None, None) => Step::done(Fact::new(What::NotFound)),
    }
}

fn read_change(status: u16, body: &[u8], r: &Request, change: Change) -> Fact {
    if status != 200 {
        return Fact::unanswered(status);
    }
    match object::<Intent>(body) {
        None => Fact::unknown("unreadable"),
        Some(intent) if !is_ours(&intent, r) => Fact::unknown("other_payment"),
        // Still held: neither was carried out.
        Some(intent) if intent.status.as_deref() == Some("requires_capture") => {
            Fact::new(What::NotFound)
        }
        Some(intent) => became(change, &intent, r),
    }
}

fn read_refund(status: u16, body: &[u8], r: &Request, refund: &str, intent: &str) -> Fact {
    match status {
        200 => {}
        404 if is_missing(body) => return Fact::new(What::NotFound),
        _ => return Fact::unanswered(status),
    }
    match object::<Refund>(body) {
        None => Fact::unknown("unreadable"),
        Some(told) => {
            let same = told.number() == Some(refund);
            let of_it = told.payment_intent.as_deref() == Some(intent);
            // One that was made at the provider's dashboard has no number of ours.
            let ours = told.ours().is_none_or(|number| number == r.op_id);
            if same && of_it && ours { told.fact() } else { Fact::unknown("other_refund") }
        }
    }
}

fn read_refunds(status: u16, body: &[u8], r: &Request, intent: &str, pages: u32) -> Step<State> {
    if status != 200 {
        return Step::done(Fact::unanswered(status));
    }
    let page = object::<Page<Refund>>(body).filter(|page| page.object == "list");
    let Some(page) = page else { return Step::done(Fact::unknown("unreadable")) };
    if page.data.iter().any(|refund| refund.payment_intent.as_deref() != Some(intent)) {
        return Step::done(Fact::unknown("other_payment"));
    }
    let mut ours = page.data.iter().filter(|refund| refund.ours() == Some(&r.op_id));
    match (ours.next(), ours.next()) {
        // Two under one number of ours are two movements of money.
        (Some(_), Some(_)) => return Step::done(Fact::unknown("several_hits")),
        (Some(refund), None) => return Step::done(refund.fact()),
        (None, _) => {}
    }
    match page.data.last().and_then(Refund::number) {
        _ if !page.has_more => Step::done(Fact::new(What::NotFound)),
        Some(last) if pages + 1 < PAGES_MAX => ask_refunds(intent, Some(last), pages + 1),
        _ => Step::done(classed(Fact::unknown("list_too_long"), Class::Unmapped)),
    }
}
