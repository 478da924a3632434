//! The operations: what is sent for each, and who reads the answer.

use interlock_plugin_api::{
    CaptureMode, Credential, Cx, Event, Fault, Money, Operation, Original, Provider, Request, Send,
    Sent, Step, StepResult, exchange, is_path_segment,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{answers, notification};

/// Stored cards; a payment by one names its owner.
const STORED: &str = "ccof:";

/// One account at Square.
#[derive(Debug, Deserialize)]
pub struct Square {
    #[serde(default)]
    location_id: String,
    #[serde(default = "version")]
    api_version: String,
}

fn version() -> String {
    "2025-01-23".into()
}

impl Provider for Square {
    type State = Sent;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &Value) -> Result<Self, Fault> {
        let account =
            Self::deserialize(config).map_err(|_| Fault::config("a setting is of another type"))?;
        if !is_path_segment(&account.location_id) {
            return Err(Fault::config("`location_id` is required, letters and digits"));
        }
        if !account.api_version.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Err(Fault::config("`api_version` is no date"));
        }
        Ok(account)
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || {
            let Some(Credential::AccountToken { token }) = &r.credential else {
                return Err(Fault::input("a payment needs an account_token"));
            };
            let owner = r.customer.id.as_deref().filter(|_| token.starts_with(STORED));
            let mut body = json!({
                "source_id": token,
                "idempotency_key": r.op_id,
                "amount_money": money(r)?,
                "autocomplete": r.capture == CaptureMode::Automatic,
                "location_id": self.location_id,
                "reference_id": r.op_id,
            });
            if let Some(owner) = owner {
                body["customer_id"] = owner.into();
            }
            Ok(self.post("/v2/payments".into(), &body))
        };
        exchange(cx, s, e, build, |status, body| answers::paid(status, body, &r.op_id))
    }

    /// Square completes all of it or nothing.
    fn capture(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || {
            if original(r)?.amount != r.amount {
                return Err(Fault::input("square captures the whole amount only"));
            }
            Ok(self.post(format!("/v2/payments/{}/complete", known(r)?), &json!({})))
        };
        exchange(cx, s, e, build, |status, body| {
            answers::changed(status, body, Operation::Capture, &original_id(r))
        })
    }

    fn void(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || Ok(self.post(format!("/v2/payments/{}/cancel", known(r)?), &json!({})));
        exchange(cx, s, e, build, |status, body| {
            answers::changed(status, body, Operation::Void, &original_id(r))
        })
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || {
            let body = json!({
                "idempotency_key": r.op_id, "payment_id": known(r)?, "amount_money": money(r)?,
            });
            Ok(self.post("/v2/refunds".into(), &body))
        };
        exchange(cx, s, e, build, |status, body| answers::refund(status, body, known(r).ok()))
    }

    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || Ok(self.get(format!("/v2/payments/{}", known(r)?)));
        exchange(cx, s, e, build, |status, body| answers::paid(status, body, &original_id(r)))
    }

    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let (op, number) = r.target.as_ref().ok_or(Fault::input("nothing is asked about"))?;
        if *op == Operation::Refund {
            let id = number.as_deref().filter(|id| is_path_segment(id));
            let build = || {
                let id = id.ok_or(Fault::input("the refund's number is not known"))?;
                Ok(self.get(format!("/v2/refunds/{id}")))
            };
            return exchange(cx, s, e, build, |status, body| {
                answers::refund(status, body, known(r).ok())
            });
        }
        let build = || Ok(self.get(format!("/v2/payments/{}", known(r)?)));
        exchange(cx, s, e, build, |status, body| {
            answers::changed(status, body, *op, &original_id(r))
        })
    }

    fn close(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let body = json!({ "idempotency_key": original_id(r) });
        let build = || Ok(self.post("/v2/payments/cancel".into(), &body));
        exchange(cx, s, e, build, answers::closed)
    }

    fn parse_notification(&self, cx: &Cx<'_>, _: Sent, e: &Event) -> StepResult<Self> {
        notification::read(cx, e).map(Step::end)
    }

    fn probe(&self, cx: &Cx<'_>, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || Ok(self.get(format!("/v2/locations/{}", self.location_id)));
        exchange(cx, s, e, build, answers::alive)
    }
}

impl Square {
    fn post(&self, path: String, body: &Value) -> (Send, Vec<u8>) {
        let (send, _) = self.ask("POST", path);
        (send.header("content-type", "application/json"), body.to_string().into_bytes())
    }

    fn get(&self, path: String) -> (Send, Vec<u8>) {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: String) -> (Send, Vec<u8>) {
        let send = Send::to(method, "api", path)
            .header("authorization", "Bearer {secret:access_token}")
            .header("square-version", &self.api_version);
        (send, Vec::new())
    }
}

fn money(r: &Request) -> Result<Value, Fault> {
    let Money { amount, currency } = r.amount;
    if amount <= 0 {
        return Err(Fault::input("the amount is not positive"));
    }
    Ok(json!({ "amount": amount, "currency": currency }))
}

fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the operation names no payment"))
}

/// Our number of the payment: its key, and the `reference_id` that Square shows.
fn original_id(r: &Request) -> String {
    r.original.as_ref().map_or_else(String::new, |original| original.op_id.clone())
}

/// Square's number of the payment, which goes into paths.
fn known(r: &Request) -> Result<&str, Fault> {
    let id = original(r)?.provider_ref.as_deref();
    id.filter(|id| is_path_segment(id))
        .ok_or(Fault::input("square's number of the payment is not known"))
}
