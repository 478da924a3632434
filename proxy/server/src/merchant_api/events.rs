//! What a merchant was told, or should have been: to catch up after an outage of its own, to look
//! at one event, to have it told again.

use interlock_journal::{Message, MessageQuery};
use serde_json::{Value, json};

use super::{Answered, MerchantApi, Problem, query};
use crate::front_door::{Request, Response};

/// A page holds at most so many events.
const PAGE_MAX: usize = 100;

impl MerchantApi {
    /// `GET /v1/events?after=&limit=`: oldest first, as they were told.
    pub(super) async fn events(&self, merchant: &str, request: &Request) -> Answered {
        let mut wanted =
            MessageQuery { merchant: Some(merchant.to_owned()), limit: 20, ..Default::default() };
        for (name, value) in query(request) {
            match name.as_str() {
                "after" => wanted.after = self.position(merchant, &value).await?,
                "limit" => wanted.limit = super::limit(&value, PAGE_MAX)?,
                _ => return Err(Problem::invalid("query", "unknown parameter")),
            }
        }
        let limit = wanted.limit;
        // One more says whether there are more.
        wanted.limit += 1;
        let found = self.driver.store.messages(wanted).await;
        let found = found.map_err(|e| Problem::of_failure(&e.into()))?;
        let mut places: Vec<u64> = found.rows.iter().map(|m| m.position).collect();
        places.extend(found.damaged.iter().map(|(position, _)| *position));
        places.sort_unstable();
        let has_more = places.len() > limit;
        let last = limit.checked_sub(1).and_then(|n| places.get(n)).copied();
        let last = last.or_else(|| places.last().copied()).unwrap_or(0);
        let data: Vec<Value> =
            found.rows.iter().filter(|m| m.position <= last).map(shown).collect();
        let unreadable: Vec<&String> =
            found.damaged.iter().filter(|(at, _)| *at <= last).map(|(_, id)| id).collect();
        for id in &unreadable {
            tracing::error!(merchant, id, "event can't be read: its row is not what was written");
            self.driver.metrics.unreadable();
        }
        let next = has_more.then(|| super::cursor::of_position(last));
        let body = json!({
            "object": "list", "data": data, "unreadable": unreadable,
            "has_more": has_more, "next_cursor": next,
        });
        Ok(Response::json(200, body.to_string()))
    }

    /// `GET /v1/events/{id}`.
    pub(super) async fn show_event(&self, merchant: &str, id: &str) -> Answered {
        let event = self.event(merchant, id).await?.ok_or_else(|| Problem::not_found("event"))?;
        Ok(Response::json(200, shown(&event).to_string()))
    }

    /// `POST /v1/events/{id}/redeliver`. It needs no key: to be told twice changes nothing.
    pub(super) async fn redeliver(&self, merchant: &str, id: &str) -> Answered {
        if !self.driver.webhooks.tells(merchant) {
            let detail = "no webhook is configured for this merchant";
            return Err(Problem::unprocessable("webhook", detail));
        }
        let again = self.driver.webhooks.again(id, Some(merchant)).await;
        let again = again.map_err(|e| Problem::of_failure(&e.into()))?;
        let event = again.ok_or_else(|| Problem::not_found("event"))?;
        Ok(Response::json(202, shown(&event).to_string()))
    }

    /// Where to go on: a cursor, or the id of the last event that is known.
    async fn position(&self, merchant: &str, text: &str) -> Result<u64, Problem> {
        if let Some(position) = super::cursor::to_position(text) {
            return Ok(position);
        }
        let known = self.event(merchant, text).await?;
        let told = "is neither a cursor of this list nor the id of an event";
        known.map(|m| m.position).ok_or_else(|| Problem::invalid("after", told))
    }

    async fn event(&self, merchant: &str, id: &str) -> Result<Option<Message>, Problem> {
        let found = self.driver.store.message(id).await;
        let found = found.map_err(|e| Problem::of_failure(&e.into()))?;
        Ok(found.filter(|m| m.merchant == merchant))
    }
}

/// The body as it is sent, with how its delivery stands.
fn shown(message: &Message) -> Value {
    let mut body: Value = serde_json::from_slice(&message.row.body).unwrap_or_default();
    if let Value::Object(members) = &mut body {
        members.insert("delivery".to_owned(), delivery(message));
    }
    body
}

/// How the delivery of a message stands.
pub fn delivery(message: &Message) -> Value {
    let Some(d) = &message.delivery else { return json!({ "state": "delivered" }) };
    let state = match d {
        d if d.given_up => "given_up",
        d if d.is_first => "due",
        _ => "waiting",
    };
    json!({
        "state": state, "tries": d.tries, "reason": d.reason,
        "next_try": (state == "due").then(|| super::answer::time(d.due_at_ms)),
    })
}
