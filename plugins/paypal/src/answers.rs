//! Reads the answers to what moves money, and to questions about it.
//!
//! 200 and 201 are the same: PayPal answers a copy with the present state of what the first one
//! made. Both are believed only for what stands in them.

use interlock_plugin_api::{Advice, Class, Fact, Money, Operation, Request, What, is_path_segment};

use crate::codes::{self, Purpose, object, refused};
use crate::order::{Doubt, Order, Resource, Unit, coded, door, doubt, original};
use crate::requests::{is_marked, is_op_id};

/// Refusals after which the order can still be paid, in another way.
const TRY_ANOTHER: [&str; 2] = ["INSTRUMENT_DECLINED", "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING"];

/// The answer to a new order: an offer, or a doubt.
pub(crate) fn offered(status: u16, body: &[u8], r: &Request) -> Fact {
    if !matches!(status, 200 | 201) {
        return refused(Purpose::Create, status, body).0;
    }
    let Some(order) = object::<Order>(body) else { return Fact::unknown("unreadable") };
    if !is_path_segment(&order.id) {
        return Fact::unknown("no_order_id");
    }
    if let (false, Err(doubt)) = (order.is_minimal(), order.unit(&r.op_id, r.amount, r)) {
        return *doubt;
    }
    let offers = matches!(order.status.as_str(), "CREATED" | "PAYER_ACTION_REQUIRED");
    match order.door().filter(|_| offers) {
        Some(action) => {
            let fact = Fact { action: Some(action), ..Fact::new(What::Action) };
            fact.with_provider_ref(order.id)
        }
        None => Fact::unknown("no_usable_link"),
    }
}

/// What the answer to the capture or authorization of an order leads to.
pub(crate) enum Continued {
    /// An end.
    Says(Fact),
    /// The shopper must act first, and where is for the order itself to say.
    Asks(Fact),
}

/// The answer to the capture or authorization of an order.
pub(crate) fn continued(status: u16, body: &[u8], r: &Request, purpose: Purpose) -> Continued {
    if matches!(status, 200 | 201) {
        return Continued::Says(match Order::read(status, body, r) {
            Ok(order) if order.status == "COMPLETED" => order.fact(r),
            Ok(order) => sent_back(&order, r, Fact::unknown("not_completed")),
            Err(doubt) => *doubt,
        });
    }
    let (fact, refusal) = refused(purpose, status, body);
    let again = TRY_ANOTHER.iter().any(|issue| fact.provider_code.as_deref() == Some(issue));
    let acts = fact.class == Some(Class::Verification);
    match door(&refusal.links).filter(|_| acts || (again && fact.what == What::Declined)) {
        Some(action) => {
            let fact = Fact { what: What::Action, action: Some(action), ..fact };
            Continued::Says(named(fact, r))
        }
        None if acts => Continued::Asks(fact),
        None => Continued::Says(fact),
    }
}

/// The order after a refusal that sends the shopper back: where he is to go, or what else became
/// of it.
pub(crate) fn sent_back(order: &Order, r: &Request, doubt: Fact) -> Fact {
    let fact = order.fact(r);
    match (fact.what, order.door()) {
        (What::Action, Some(action)) => {
            let why = Fact { advice: Some(Advice::Verify), ..doubt };
            let fact = Fact { what: What::Action, action: Some(action), ..why };
            fact.with_provider_ref(&order.id)
        }
        (What::Action | What::Approved | What::ClosedUnpaid, _) => doubt,
        _ => fact,
    }
}

/// The answer to the capture of an authorization, or to a question about one.
pub(crate) fn captured(status: u16, body: &[u8], r: &Request) -> Fact {
    let capture = match resource(Purpose::Capture, status, body) {
        Ok(capture) => capture,
        Err(doubt) => return *doubt,
    };
    let payment = r.original.as_ref().map(|original| original.op_id.as_str());
    let theirs = capture.custom_id.as_deref();
    if theirs.is_some_and(|theirs| Some(theirs) != payment) {
        return Fact::unknown("other_payment");
    }
    if capture.invoice_id.as_deref().is_some_and(|theirs| theirs != r.op_id) {
        return Fact::unknown("other_number");
    }
    capture.capture(r.amount)
}

/// The answer to a refund, or to a question about one.
pub(crate) fn refunded(status: u16, body: &[u8], r: &Request) -> Fact {
    let refund = match resource(Purpose::Refund, status, body) {
        Ok(refund) => refund,
        Err(doubt) => return *doubt,
    };
    if refund.custom_id.as_deref().is_some_and(|theirs| !is_marked(theirs, &r.op_id)) {
        return Fact::unknown("other_number");
    }
    refund.refund(r.amount)
}

/// The answer to a question about the capture or refund with this number of PayPal's.
pub(crate) fn asked(op: Operation, id: &str, status: u16, body: &[u8], r: &Request) -> Fact {
    if status != 200 {
        return codes::unasked(status, body);
    }
    let fact = if op == Operation::Capture {
        captured(status, body, r)
    } else {
        refunded(status, body, r)
    };
    match fact.operation_ref.as_deref() {
        Some(theirs) if theirs != id => Fact::unknown("other_operation"),
        _ => fact,
    }
}

/// The answer to the void of this authorization.
pub(crate) fn voided(status: u16, body: &[u8], r: &Request, id: &str) -> Fact {
    if status == 204 && body.is_empty() {
        return Fact::new(What::Voided);
    }
    let authorization = match resource(Purpose::Void, status, body) {
        Ok(authorization) => authorization,
        Err(doubt) => return *doubt,
    };
    let payment = r.original.as_ref().map(|original| original.op_id.as_str());
    let theirs = authorization.custom_id.as_deref();
    if authorization.id != id || theirs.is_some_and(|theirs| Some(theirs) != payment) {
        return Fact::unknown("other_authorization");
    }
    match authorization.status.as_str() {
        "VOIDED" => coded(What::Voided, "VOIDED"),
        _ => Fact::unknown("unlisted_status"),
    }
}

/// What an order says of a capture, void or refund of ours.
pub(crate) fn found(op: Operation, order: &Order, r: &Request) -> Fact {
    let paid = match order.ours(r) {
        Ok(Unit { payments, .. }) => payments,
        Err(doubt) => return *doubt,
    };
    let one = |mut all: Vec<&Resource>, say: fn(&Resource, &Request) -> Fact| match all.pop() {
        None => Fact::new(What::NotFound),
        Some(one) if all.is_empty() => say(one, r),
        Some(_) => Fact::unknown("several_hits"),
    };
    match op {
        Operation::Capture => {
            let ours = paid.captures.iter().filter(|capture| is_ours(&capture.invoice_id, r));
            one(ours.collect(), |capture, r| capture.capture(r.amount))
        }
        Operation::Refund => {
            let ours = paid.refunds.iter().filter(|refund| is_ours(&refund.custom_id, r));
            one(ours.collect(), |refund, r| refund.refund(r.amount))
        }
        _ => match paid.authorization().map(|authorization| authorization.status.as_str()) {
            Some("VOIDED") => coded(What::Voided, "VOIDED").of_key(),
            Some("CREATED" | "PENDING") => Fact::new(What::NotFound),
            _ => Fact::unknown("unlisted_status"),
        },
    }
}

/// The capture that a refund is made of, and whether there are several: the only one, or the first
/// that has so much left.
pub(crate) fn refundable<'a>(order: &'a Order, r: &Request) -> Result<(&'a str, bool), Doubt> {
    let paid = &order.ours(r)?.payments;
    is_new(paid.refunds.iter().map(|refund| &refund.custom_id), r)?;
    let taken = |c: &&Resource| {
        let done = ["COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"].contains(&c.status.as_str());
        done && is_path_segment(&c.id)
    };
    let captures: Vec<&Resource> = paid.captures.iter().filter(taken).collect();
    let left = |capture: &&&Resource| {
        let back = paid.refunds.iter().filter(|refund| {
            !matches!(refund.status.as_str(), "FAILED" | "CANCELLED")
                && refund.parent() == Some(capture.id.as_str())
        });
        let add = |sum: i64, money: Money| sum.saturating_add(money.amount);
        let back = back.filter_map(Resource::money).fold(0, add);
        capture.money().is_some_and(|money| money.amount.saturating_sub(back) >= r.amount.amount)
    };
    let chosen = match &captures[..] {
        [one] => Some(one),
        _ => captures.iter().find(left),
    };
    let chosen = chosen.ok_or_else(|| doubt("no_capture_has_so_much_left"))?;
    Ok((&chosen.id, captures.len() > 1))
}

/// The authorization that is captured.
pub(crate) fn capturable<'a>(order: &'a Order, r: &Request) -> Result<&'a str, Doubt> {
    let captures = &order.ours(r)?.payments.captures;
    is_new(captures.iter().map(|capture| &capture.invoice_id), r)?;
    authorization(order, r)
}

/// The authorization that is captured or voided.
pub(crate) fn authorization<'a>(order: &'a Order, r: &Request) -> Result<&'a str, Doubt> {
    let one = order.ours(r)?.payments.authorization();
    one.map(|one| one.id.as_str()).ok_or_else(|| doubt("no_authorization"))
}

/// What is there already was made by an earlier copy, which is asked about and never made again:
/// what it was made from may have another number by now.
fn is_new<'a>(
    mut marks: impl Iterator<Item = &'a Option<String>>,
    r: &Request,
) -> Result<(), Doubt> {
    if marks.any(|mark| is_ours(mark, r)) { Err(doubt("made_before")) } else { Ok(()) }
}

fn is_ours(mark: &Option<String>, r: &Request) -> bool {
    mark.as_deref().is_some_and(|mark| is_op_id(&r.op_id) && is_marked(mark, &r.op_id))
}

fn resource(purpose: Purpose, status: u16, body: &[u8]) -> Result<Resource, Doubt> {
    if !matches!(status, 200 | 201) {
        return Err(refused(purpose, status, body).0.into());
    }
    let resource: Resource = object(body).ok_or_else(|| doubt("unreadable"))?;
    if is_path_segment(&resource.id) { Ok(resource) } else { Err(doubt("no_id")) }
}

/// The same fact of the order that was asked about.
fn named(fact: Fact, r: &Request) -> Fact {
    let order = original(r).ok().and_then(|original| original.provider_ref.clone());
    Fact { provider_ref: order, ..fact }
}
