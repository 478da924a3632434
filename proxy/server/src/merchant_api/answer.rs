//! What the merchant reads: payments, refunds, timelines as JSON, from the stored payment alone.

use interlock_engine::{
    AttemptState, ExchangeKind, Operation, OperationState, Origin, Payment, Policy, route, status,
};
use interlock_journal::{Answer, EventRow};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::advice;

/// The path under which payments are made; a key is scoped by it.
pub const PAYMENTS_PATH: &str = "/v1/payments";
/// The path under which refunds are made.
pub const REFUNDS_PATH: &str = "/v1/refunds";

/// The path under which a payment is captured.
pub fn capture_path(payment: &str) -> String {
    format!("{PAYMENTS_PATH}/{payment}/capture")
}

/// A payment as its merchant sees it.
pub fn payment(p: &Payment, policy: &Policy) -> Value {
    let (word, reason) = status::status(p);
    let shown = p.winner().or_else(|| p.attempts.iter().rfind(|a| a.second_charge_of.is_none()));
    let account = shown.map(|a| a.account.as_str());
    let provider = account.and_then(|name| policy.accounts.get(name)).map(|a| a.plugin.as_str());
    let failover = route::failover_of(p, policy);
    let attempts: Vec<Value> = p.attempts.iter().map(attempt).collect();
    json!({
        "id": p.id,
        "object": "payment",
        "status": word.as_str(),
        "status_reason": reason.map(status::Reason::as_str),
        "amount": p.money.amount,
        "currency": p.currency().as_str(),
        "capture": p.capture,
        "amount_captured": p.captured(),
        "amount_refunded": p.refunded(),
        "payer_amount": p.winner().and_then(|a| a.payer_amount),
        "method": { "type": p.method.kind, "flow": p.method.flow },
        "account": account,
        "provider": provider,
        "provider_ref": shown.and_then(|a| a.provider_ref.as_deref()),
        "route": p.route,
        "attempts": attempts,
        "next_action": next_action(p),
        "failure": failure(p),
        "failover": failover.unwrap_or("none"),
        "failover_reason": failover.err(),
        "merchant_ref": p.merchant_ref,
        "description": p.description,
        "customer": p.customer,
        "created": time(p.created_ms),
        "metadata": p.metadata,
    })
}

/// A refund as its merchant sees it.
pub fn refund(p: &Payment, o: &Operation) -> Value {
    json!({
        "id": o.id,
        "object": "refund",
        "payment": p.id,
        "status": refund_status(o.state),
        "status_reason": in_doubt(o.state).then_some("provider_outcome_unknown"),
        "amount": o.amount,
        "currency": p.currency().as_str(),
        "reason": o.reason,
        "op_id": o.op_id,
        "provider_ref": o.operation_ref,
        "failure": (o.state == OperationState::Rejected).then(|| json!({
            "code": if o.was_denied() { "resolved_by_operator" } else { "refund_refused" },
            "provider_code": o.provider_code.as_ref().filter(|_| !o.was_denied()),
            "advice": advice::ASK_THE_SHOP, "advice_text": advice::of_refund(),
        })),
        "created": time(o.created_ms),
    })
}

/// The refunds of a payment that its merchant may see: its own, and those made in the portal.
pub fn refunds(p: &Payment) -> impl Iterator<Item = &Operation> {
    p.operations.iter().filter(|o| o.kind == ExchangeKind::Refund && is_shown(o))
}

/// Whether an operation is the merchant's, or was made in the provider's portal.
pub fn is_shown(o: &Operation) -> bool {
    o.origin != Origin::Resolver
}

/// One line of a timeline.
pub fn event(row: &EventRow) -> Value {
    json!({
        "seq": row.seq,
        "at": time(row.at_ms),
        "actor": row.actor,
        "what": row.what,
        "reason": row.reason,
    })
}

/// The HTTP status of a payment's answer: 201 when it is final or the merchant must go on.
pub fn created_status(p: &Payment) -> u16 {
    if status::status(p).0.answers() { 201 } else { 202 }
}

/// The HTTP status of a refund's answer.
pub fn refund_created_status(o: &Operation) -> u16 {
    if o.state.is_open() { 202 } else { 201 }
}

/// The final answers that a version gives for the first time: kept under their keys, so that a
/// replay is the first answer byte for byte.
pub fn final_answers(before: Option<&Payment>, p: &Payment, policy: &Policy) -> Vec<Answer> {
    let mut answers = Vec::new();
    if before.is_none_or(|b| b.settled.is_none()) && p.settled.is_some() {
        answers.push(Answer {
            merchant: p.merchant.clone(),
            path: PAYMENTS_PATH.to_owned(),
            key: p.key.clone(),
            status: 201,
            body: payment(p, policy).to_string().into_bytes(),
        });
    }
    for (n, o) in p.operations.iter().enumerate() {
        let was_open = before.and_then(|b| b.operations.get(n)).is_none_or(|o| o.state.is_open());
        let Some(key) = o.key.clone().filter(|_| was_open && !o.state.is_open()) else {
            continue;
        };
        let (path, status, body) = match o.kind {
            ExchangeKind::Refund => (REFUNDS_PATH.to_owned(), 201, refund(p, o)),
            ExchangeKind::Capture => (capture_path(&p.id), 200, payment(p, policy)),
            _ => continue,
        };
        let (merchant, body) = (p.merchant.clone(), body.to_string().into_bytes());
        answers.push(Answer { merchant, path, key, status, body });
    }
    answers
}

/// The answer under a payment's own key, where a version gives it.
pub fn of_payment(answers: &[Answer]) -> Option<(u16, Vec<u8>)> {
    let answer = answers.iter().find(|a| a.path == PAYMENTS_PATH)?;
    Some((answer.status, answer.body.clone()))
}

/// RFC 3339 in UTC, with milliseconds.
pub fn time(unix_ms: i64) -> String {
    match Timestamp::from_millisecond(unix_ms) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => String::new(),
    }
}

fn attempt(a: &interlock_engine::Attempt) -> Value {
    let reason = match &a.state {
        AttemptState::Failed { reason, .. } => Some(reason.as_str()),
        AttemptState::Ambiguous | AttemptState::Fenced => Some("provider_outcome_unknown"),
        _ => a.alert.as_deref(),
    };
    json!({
        "id": a.id,
        "account": a.account,
        "state": a.state.as_str(),
        "reason": reason,
        "op_id": a.op_id,
        "provider_ref": a.provider_ref,
        "started": time(a.started_ms),
        "manual": a.manual,
    })
}

fn next_action(p: &Payment) -> Value {
    if status::status(p).0 != status::Status::RequiresAction {
        return Value::Null;
    }
    let acting = p.attempts.iter().rfind(|a| a.state == AttemptState::Action);
    let Some(offer) = acting.and_then(|a| a.offer.as_ref()) else { return Value::Null };
    let mut action = serde_json::Map::new();
    action.insert("type".into(), offer.action.kind.as_str().into());
    action.extend(offer.action.payload.clone());
    action.insert("expires".into(), offer.action.expires_ms.map(time).into());
    Value::Object(action)
}

fn failure(p: &Payment) -> Value {
    let (word, _) = status::status(p);
    if !matches!(word, status::Status::Failed) {
        return Value::Null;
    }
    match status::failure(p) {
        Some(f) => json!({
            "code": f.code,
            "class": f.class.map(|c| c.as_str()),
            "provider_code": f.provider_code,
            "advice": advice::word(f.advice),
            "advice_text": advice::text(f.advice),
        }),
        None => Value::Null,
    }
}

fn refund_status(state: OperationState) -> &'static str {
    match state {
        OperationState::Done => "succeeded",
        OperationState::Rejected => "failed",
        OperationState::Reversed => "reversed",
        _ => "processing",
    }
}

fn in_doubt(state: OperationState) -> bool {
    matches!(state, OperationState::Ambiguous | OperationState::Fenced)
}
