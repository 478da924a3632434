//! The operations: what is sent for each, and who reads the answer.

use interlock_plugin_api::{
    CaptureMode, Credential, Cx, Event, Fault, Operation, Original, Provider, Request, Send, Sent,
    Step, StepResult, exchange, is_path_segment,
};
use serde::{Deserialize, Serialize};

use crate::answers;
use crate::notification; // for: parse_notification

/// One account at Acme: what `[accounts.NAME.config]` holds. Secrets are not here, a plugin never
/// sees them.
#[derive(Debug, Deserialize)]
pub struct Acme {
    merchant: String,
}

impl Provider for Acme {
    // What is kept between a request and its answer. It is written to disk: no credential in it.
    type State = Sent;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &serde_json::Value) -> Result<Self, Fault> {
        let account =
            Self::deserialize(config).map_err(|_| Fault::config("`merchant` must be a text"))?;
        if account.merchant.is_empty() {
            return Err(Fault::config("`merchant` is empty"));
        }
        Ok(account)
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || {
            let Some(Credential::AccountToken { token }) = &r.credential else {
                return Err(Fault::input("a payment needs an account_token"));
            };
            let body = NewPayment {
                merchant: &self.merchant,
                amount: positive(r)?,
                currency: r.amount.currency.as_str(),
                capture: r.capture == CaptureMode::Automatic,
                card: token,
                reference: &r.op_id,
            };
            Ok(post("/v1/payments".into(), &r.op_id, &body))
        };
        exchange(cx, s, e, build, |status, body| answers::payment(status, body, &r.op_id))
    }

    // for: capture
    fn capture(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || Ok(post(path(r, "captures")?, &r.op_id, &part(r)?));
        exchange(cx, s, e, build, |status, body| {
            answers::operation(status, body, &r.op_id, Operation::Capture)
        })
    }

    // for: void
    fn void(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let body = Cancel { reference: &r.op_id };
        let build = || Ok(post(path(r, "cancels")?, &r.op_id, &body));
        exchange(cx, s, e, build, |status, body| {
            answers::operation(status, body, &r.op_id, Operation::Void)
        })
    }

    // for: refund
    fn refund(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let build = || Ok(post(path(r, "refunds")?, &r.op_id, &part(r)?));
        exchange(cx, s, e, build, |status, body| {
            answers::operation(status, body, &r.op_id, Operation::Refund)
        })
    }

    // for: inquire
    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let ours = &original(r)?.op_id;
        let build = || Ok((get("/v1/payments").query("reference", ours), Vec::new()));
        exchange(cx, s, e, build, |status, body| answers::payments(status, body, ours))
    }

    // for: inquire_operation
    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: Sent, e: &Event) -> StepResult<Self> {
        let Some((op, _)) = r.target else { return Err(Fault::input("nothing is asked about")) };
        let build = || Ok((get("/v1/operations").query("reference", &r.op_id), Vec::new()));
        exchange(cx, s, e, build, |status, body| answers::operations(status, body, &r.op_id, op))
    }

    // for: parse_notification
    fn parse_notification(&self, cx: &Cx<'_>, _: Sent, e: &Event) -> StepResult<Self> {
        notification::read(cx, e).map(Step::end)
    }

    // for: probe
    fn probe(&self, cx: &Cx<'_>, s: Sent, e: &Event) -> StepResult<Self> {
        exchange(cx, s, e, || Ok((get("/v1/health"), Vec::new())), answers::health)
    }
}

#[derive(Serialize)]
struct NewPayment<'a> {
    merchant: &'a str,
    amount: i64,
    currency: &'a str,
    capture: bool,
    card: &'a str,
    reference: &'a str,
}

// for: capture, refund
#[derive(Serialize)]
struct Part<'a> {
    amount: i64,
    currency: &'a str,
    reference: &'a str,
}

// for: void
#[derive(Serialize)]
struct Cancel<'a> {
    reference: &'a str,
}

/// The amount of this operation, which may be a part of the payment's.
// for: capture, refund
fn part(r: &Request) -> Result<Part<'_>, Fault> {
    let currency = r.amount.currency.as_str();
    Ok(Part { amount: positive(r)?, currency, reference: &r.op_id })
}

fn positive(r: &Request) -> Result<i64, Fault> {
    if r.amount.amount <= 0 {
        return Err(Fault::input("the amount is not positive"));
    }
    Ok(r.amount.amount)
}

// for: capture, void, refund, inquire
fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the operation names no payment"))
}

/// A path under the payment, by Acme's number of it. The host encodes nothing in a path.
// for: capture, void, refund
fn path(r: &Request, of: &str) -> Result<String, Fault> {
    let id = original(r)?.provider_ref.as_deref().filter(|id| is_path_segment(id));
    let id = id.ok_or(Fault::input("the provider's number of the payment is not known"))?;
    Ok(format!("/v1/payments/{id}/{of}"))
}

/// A request that may move money: our number is its idempotency key.
fn post(path: String, key: &str, body: &impl Serialize) -> (Send, Vec<u8>) {
    let send = Send::to("POST", "api", path)
        .header("authorization", "Bearer {secret:api_key}")
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    (send, serde_json::to_vec(body).expect("plain structs can be written"))
}

/// A request that only reads.
// for: inquire, inquire_operation, probe
fn get(path: &str) -> Send {
    Send::to("GET", "api", path).header("authorization", "Bearer {secret:api_key}")
}
