//! What became of a payment, or of a capture, void or refund: the questions and their answers.
//!
//! The list by reference is filtered and paged by the provider, and our number need not be unique
//! there. So only an exact match counts, every page is read before "nothing" is said, and two hits
//! are an alarm instead of a guess. A hit is then asked for by its own number, because only that
//! answer is documented to hold everything that a verdict needs.

use interlock_plugin_api::{
    Advice, Class, Cx, Event, Fact, Fault, Money, Operation, Request, Send, Step, What,
};
use serde::{Deserialize, Serialize};

use crate::answers::{coded, disagreement, read_got};
use crate::codes::{Meaning, classed, meaning, object, unanswered_read};
use crate::payments::{get, is_op_id, is_ref, known_ref, original};
use crate::{State, answered};

/// Entries asked for in one page; the provider gives no more.
const PAGE: u64 = 100;
/// With the question by number at the end it is seven requests, which fits the host's eight steps.
const PAGES_MAX: u32 = 6;

/// Where an inquiry stands. It is journalled, so it holds numbers only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "asked", rename_all = "snake_case")]
pub(crate) enum Asked {
    /// Nothing yet.
    #[default]
    Nothing,
    /// The payment of this number; `listed` when the list named it.
    Payment { id: String, listed: bool },
    /// A page of the list, after `skip` entries in `pages` pages.
    List { skip: u64, pages: u32, hit: Option<String> },
    /// The actions of the payment.
    Actions,
}

/// One step of asking about a payment.
pub(crate) fn payment(body: &[u8], r: &Request, s: State, e: &Event) -> Result<Step<State>, Fault> {
    if matches!(e, Event::Start) {
        let original = original(r)?;
        return match &original.provider_ref {
            Some(_) => Ok(ask_payment(known_ref(original)?.into(), false)),
            None if is_op_id(&original.op_id) => Ok(ask_list(&original.op_id, 0, 0, None)),
            None => Err(Fault::input("the payment's op_id has an impossible form")),
        };
    }
    let status = match answered(e)? {
        Ok(status) => status,
        Err(lost) => return Ok(Step::done(lost)),
    };
    match s.asked {
        // The list has just named it, so a 404 contradicts and proves nothing.
        Asked::Payment { listed: false, .. } if status == 404 && readable(body) => {
            Ok(Step::done(coded(Fact::new(What::NotFound), "404")))
        }
        Asked::Payment { id, .. } => Ok(Step::done(read_got(status, body, r, &id)?)),
        Asked::List { skip, pages, hit } => {
            read_page(status, body, &original(r)?.op_id, skip, pages, hit)
        }
        Asked::Nothing | Asked::Actions => Err(Fault::input("this answer was not asked for")),
    }
}

/// One step of asking about a capture, void or refund.
pub(crate) fn operation(
    body: &[u8],
    r: &Request,
    s: State,
    e: &Event,
) -> Result<Step<State>, Fault> {
    let original = original(r)?;
    let id = known_ref(original)?;
    let target = Target::of(r)?;
    if matches!(e, Event::Start) {
        let send = get(format!("/payments/{id}/actions"), Vec::new());
        return Ok(ask(send, Asked::Actions));
    }
    let status = match answered(e)? {
        Ok(status) => status,
        Err(lost) => return Ok(Step::done(lost)),
    };
    if s.asked != Asked::Actions {
        return Err(Fault::input("this answer was not asked for"));
    }
    let fact = match status {
        200 => target.find(body),
        _ => unanswered_read(status),
    };
    Ok(Step::done(fact.with_provider_ref(id)))
}

/// What a refused capture, void or refund is called.
///
/// A capture and a refund had been accepted by 202 before, so they failed afterwards. A void moves
/// no money of the merchant's, so a refused one is simply declined: the authorization stands.
pub(crate) fn refusal(operation: Operation) -> What {
    if operation == Operation::Void { What::Declined } else { What::Failed }
}

fn ask(send: Send, asked: Asked) -> Step<State> {
    Step::send(send, Vec::new(), State { asked })
}

fn ask_payment(id: String, listed: bool) -> Step<State> {
    ask(get(format!("/payments/{id}"), Vec::new()), Asked::Payment { id, listed })
}

/// A question about a number that nobody has: a page of nothing is a sign of life.
pub(crate) fn probe(cx: &Cx<'_>, e: &Event) -> Result<Step<State>, Fault> {
    if matches!(e, Event::Start) {
        let number: String = cx.entropy.chars().filter(char::is_ascii_alphanumeric).collect();
        return Ok(ask_list(&number, 0, 0, None));
    }
    Ok(Step::done(match answered(e)? {
        Ok(200) if object::<Page>(cx.body).is_some() => Fact::new(What::NotFound),
        Ok(200) => Fact::unknown("unreadable"),
        Ok(status) => unanswered_read(status),
        Err(lost) => lost,
    }))
}

fn ask_list(op_id: &str, skip: u64, pages: u32, hit: Option<String>) -> Step<State> {
    let query = vec![
        ("reference".into(), op_id.into()),
        ("limit".into(), PAGE.to_string()),
        ("skip".into(), skip.to_string()),
    ];
    ask(get("/payments".into(), query), Asked::List { skip, pages, hit })
}

/// A 404 of the provider itself is empty or JSON; any other is some proxy's page.
fn readable(body: &[u8]) -> bool {
    body.trim_ascii().is_empty() || object::<serde_json::Value>(body).is_some()
}

#[derive(Deserialize)]
struct Page {
    total_count: u64,
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    reference: Option<String>,
}

fn read_page(
    status: u16,
    body: &[u8],
    op_id: &str,
    skip: u64,
    pages: u32,
    mut hit: Option<String>,
) -> Result<Step<State>, Fault> {
    // A 404 is no empty list: an account without this endpoint might answer so.
    if status != 200 {
        return Ok(Step::done(unanswered_read(status)));
    }
    let Some(page) = object::<Page>(body) else {
        return Ok(Step::done(Fact::unknown("unreadable")));
    };
    for entry in page.data.iter().filter(|entry| entry.reference.as_deref() == Some(op_id)) {
        match &hit {
            _ if !is_ref(&entry.id) => return Ok(Step::done(Fact::unknown("no_payment_id"))),
            None => hit = Some(entry.id.clone()),
            Some(known) if *known == entry.id => {}
            Some(_) => return Ok(Step::done(Fact::unknown("several_hits"))),
        }
    }
    let (read, pages) = (skip.saturating_add(page.data.len() as u64), pages + 1);
    let more = read < page.total_count;
    if more && page.data.is_empty() {
        return Ok(Step::done(Fact::unknown("list_incomplete")));
    }
    if more && pages >= PAGES_MAX {
        return Ok(Step::done(Fact::unknown("list_too_long")));
    }
    Ok(match hit {
        hit if more => ask_list(op_id, read, pages, hit),
        Some(id) => ask_payment(id, true),
        None => Step::done(Fact::new(What::NotFound)),
    })
}

#[derive(Deserialize)]
struct ActionEntry {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    amount: Option<i64>,
    approved: Option<bool>,
    response_code: Option<String>,
    reference: Option<String>,
}

/// The operation that is looked for among a payment's actions.
struct Target<'a> {
    operation: Operation,
    kind: &'static str,
    action_id: Option<&'a str>,
    op_id: &'a str,
    currency: interlock_plugin_api::Currency,
}

impl<'a> Target<'a> {
    fn of(r: &'a Request) -> Result<Self, Fault> {
        let Some((operation, action_id)) = &r.target else {
            return Err(Fault::input("the inquiry names no operation"));
        };
        let kind = match operation {
            Operation::Capture => "Capture",
            Operation::Void => "Void",
            Operation::Refund => "Refund",
            _ => return Err(Fault::input("only a capture, void or refund can be asked about")),
        };
        if !is_op_id(&r.op_id) {
            return Err(Fault::input("op_id has an impossible form"));
        }
        Ok(Self {
            operation: *operation,
            kind,
            action_id: action_id.as_deref(),
            op_id: &r.op_id,
            // An action has no currency of its own: it is always the payment's.
            currency: original(r)?.amount.currency,
        })
    }

    fn find(&self, body: &[u8]) -> Fact {
        let Ok(actions) = serde_json::from_slice::<Vec<ActionEntry>>(body) else {
            return Fact::unknown("unreadable");
        };
        let ours =
            |a: &&ActionEntry| a.kind == self.kind && a.reference.as_deref() == Some(self.op_id);
        let mut by_reference = actions.iter().filter(ours);
        let first = by_reference.next();
        // Two under one number of ours are two movements of money, whatever was asked about.
        if by_reference.any(|other| first.is_some_and(|first| first.id != other.id)) {
            return Fact::unknown("several_hits");
        }
        let found = match self.action_id {
            Some(id) => actions.iter().find(|a| a.id == id),
            None => first,
        };
        match found {
            None => Fact::new(What::NotFound),
            Some(a) if a.kind != self.kind || !is_ref(&a.id) => Fact::unknown("other_action"),
            Some(a) => self.verdict(a).with_operation_ref(&a.id),
        }
    }

    fn verdict(&self, action: &ActionEntry) -> Fact {
        let code = action.response_code.as_deref();
        let said = code.map(meaning);
        match (action.approved, said) {
            (_, Some(None)) => Fact::unknown("unreadable_code"),
            (Some(true), None | Some(Some(Meaning::Approved))) => self.done(action.amount),
            (Some(false), Some(Some(Meaning::Refused(class, advice)))) => {
                self.refused(class, code.unwrap_or_default()).with_advice(advice)
            }
            (Some(false), None) => self.refused(Class::DeclinedHard, "status:Declined"),
            (Some(_), Some(Some(_))) => disagreement(),
            (None, _) => Fact::unknown("undecided_action"),
        }
    }

    fn done(&self, amount: Option<i64>) -> Fact {
        let what = match self.operation {
            Operation::Void => return Fact::new(What::Voided),
            Operation::Capture => What::Captured,
            _ => What::Refunded,
        };
        match amount.filter(|amount| *amount > 0) {
            Some(amount) => Fact::new(what).with_amount(Money::new(amount, self.currency)),
            None => Fact::unknown("no_amount"),
        }
    }

    fn refused(&self, class: Class, code: &str) -> Fact {
        coded(classed(Fact::new(refusal(self.operation)), class), code)
            .with_advice(Advice::OtherMethod)
    }
}
