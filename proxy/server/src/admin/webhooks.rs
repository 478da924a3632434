//! What merchants could not be told, and the two things that a person may do about it: tell a
//! message again, and tell a merchant again who once answered "gone".

use interlock_journal::MessageQuery;
use serde_json::{Value, json};

use super::{Admin, Answered, LIST_MAX};
use crate::front_door::{Request, Response};
use crate::merchant_api::{Problem, answer, events};

impl Admin {
    /// Every webhook, and the messages that are not delivered, oldest first.
    pub(super) async fn webhooks(&self, request: &Request) -> Answered {
        let mut wanted =
            MessageQuery { given_up: Some(false), limit: 100, ..MessageQuery::default() };
        let query = request.query.as_deref().unwrap_or("");
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "merchant" => wanted.merchant = Some(value.into_owned()),
                "given_up" => wanted.given_up = Some(value == "true"),
                "limit" => wanted.limit = value.parse().unwrap_or(100).clamp(1, LIST_MAX),
                _ => return Err(Problem::invalid("query", "unknown parameter")),
            }
        }
        let found = self.driver.store.messages(wanted).await;
        let found = found.map_err(|e| Problem::of_failure(&e.into()))?;
        let data: Vec<Value> = found
            .rows
            .iter()
            .map(|m| {
                json!({
                    "id": m.row.id, "type": m.row.kind, "merchant": m.merchant,
                    "payment": m.row.payment, "created": answer::time(m.row.at_ms),
                    "delivery": events::delivery(m),
                })
            })
            .collect();
        let endpoints = self.driver.webhooks.endpoints();
        let unreadable: Vec<&String> = found.damaged.iter().map(|(_, id)| id).collect();
        unreadable.iter().for_each(|_| self.driver.metrics.unreadable());
        let body = json!({
            "object": "list", "endpoints": endpoints, "data": data, "unreadable": unreadable,
        });
        Ok(Response::json(200, body.to_string()))
    }

    pub(super) async fn redeliver(&self, id: &str, request: &Request) -> Answered {
        let again = self.driver.webhooks.again(id, None).await;
        let again = again.map_err(|e| Problem::of_failure(&e.into()))?;
        let message = again.ok_or_else(|| Problem::not_found("event"))?;
        let (merchant, token) = (message.merchant.as_str(), request.token.as_deref());
        tracing::warn!(id, merchant, token, "event is told again by hand");
        let body = json!({
            "id": id, "merchant": merchant, "delivery": events::delivery(&message),
        });
        Ok(Response::json(202, body.to_string()))
    }

    pub(super) async fn resume_webhook(&self, merchant: &str, request: &Request) -> Answered {
        let resumed = self.driver.webhooks.resume(merchant).await;
        if !resumed.map_err(|e| Problem::of_failure(&e.into()))? {
            return Err(Problem::not_found("merchant with a webhook"));
        }
        tracing::warn!(merchant, token = request.token, "webhook is resumed by hand");
        let body = json!({ "merchant": merchant, "disabled": false });
        Ok(Response::json(200, body.to_string()))
    }
}
