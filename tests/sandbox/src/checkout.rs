//! The fake of one Checkout.com account (NAS): payments, their steps, inquiries and webhooks.
//!
//! The idempotency key is kept only after a 2xx, replays that status and body, and executes again
//! after anything else; that is what the provider promises and what a client must survive.

mod credential;
mod payment;
mod payments;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};

use crate::config::CheckoutConfig;
use crate::courier::{Notice, Seal};
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::faults::Operation;
use crate::issuer::Issuer;
use crate::moment;
use credential::Credential;
use payment::{Event, Payment, Status, Wish, fresh};
use payments::{Asked, Effects, Payments, Step, Unaccepted};

pub use payments::Outcome;

const KEYS_LIMIT: usize = 2_000_000;
const SOFT: &str = "20005";
const HARD: &str = "20059";
const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";

/// One Checkout.com account.
pub struct Checkout {
    desk: Desk,
    config: CheckoutConfig,
    base: String,
    issuer: Arc<Issuer>,
    webhook_key: hmac::Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    payments: Payments,
    keys: HashMap<(String, String), Kept>,
    waiting: HashMap<String, Credential>,
}

struct Kept {
    at_ms: i64,
    busy_until_ms: i64,
    answer: Answer,
}

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route<'a> {
    Pay,
    List,
    Show(&'a str),
    Actions(&'a str),
    Step(&'a str, Operation),
    Challenge,
    Nowhere,
}

impl Route<'_> {
    fn of<'a>(method: &str, path: &'a str) -> Route<'a> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["payments"]) => Route::Pay,
            ("GET", ["payments"]) => Route::List,
            ("GET", ["payments", id]) => Route::Show(id),
            ("GET", ["payments", id, "actions"]) => Route::Actions(id),
            ("POST", ["payments", id, "captures"]) => Route::Step(id, Operation::Capture),
            ("POST", ["payments", id, "voids"]) => Route::Step(id, Operation::Void),
            ("POST", ["payments", id, "refunds"]) => Route::Step(id, Operation::Refund),
            ("POST", ["payments", id, "reversals"]) => Route::Step(id, Operation::Close),
            ("GET", ["sessions-interceptor", _]) => Route::Challenge,
            _ => Route::Nowhere,
        }
    }
}

impl Checkout {
    /// An account without payments. `base` is its own URL, for links.
    pub fn new(desk: Desk, config: CheckoutConfig, base: String, issuer: Arc<Issuer>) -> Self {
        let webhook_key = hmac::Key::new(hmac::HMAC_SHA256, config.webhook_key.as_bytes());
        Self { desk, config, base, issuer, webhook_key, state: Mutex::default() }
    }

    /// What `inbound` asks for, before it is known whether it may.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let route = Route::of(&inbound.method, &inbound.path);
        let (operation, name, id) = match route {
            Route::Pay => (Operation::Authorize, "payments", None),
            Route::List => (Operation::Inquire, "list", query(&inbound.query, "reference")),
            Route::Show(id) => (Operation::Inquire, "payment", Some(id.to_owned())),
            Route::Actions(id) => (Operation::Inquire, "actions", Some(id.to_owned())),
            Route::Step(id, operation) => {
                let name = inbound.path.rsplit('/').next().unwrap_or_default();
                (operation, name, Some(id.to_owned()))
            }
            Route::Challenge => (Operation::Continue, "challenge", None),
            Route::Nowhere => (Operation::Inquire, "", None),
        };
        let reference = || {
            let body: Value = serde_json::from_slice(&inbound.body).ok()?;
            body["reference"].as_str().map(str::to_owned).filter(|text| !text.is_empty())
        };
        let op_id = key(inbound).or_else(reference).or(id);
        Call { operation, name: name.into(), op_id: op_id.map(|id| clipped(&id, 200)) }
    }

    /// Whether there is no room for another payment.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.payments.is_full() || state.keys.len() >= KEYS_LIMIT || self.issuer.is_full()
    }

    /// Executes `inbound`, bent by a fault.
    pub fn execute(self: &Arc<Self>, inbound: &Inbound, bend: Bend) -> Answer {
        let route = Route::of(&inbound.method, &inbound.path);
        match route {
            Route::Challenge => {
                let page = "<html><body>3-D Secure: POST /customers/act decides</body></html>";
                return Answer::html(200, page);
            }
            Route::Nowhere => return Answer::empty(404),
            _ => {}
        }
        let bearer = inbound.header("authorization").and_then(|a| a.strip_prefix("Bearer "));
        if bearer != Some(&self.config.secret_key) {
            return Answer::empty(401);
        }
        match route {
            Route::Pay | Route::Step(..) => self.keyed(&route, inbound, bend),
            Route::List => self.list(&inbound.query),
            Route::Actions(id) => self.find(id, |payment| payment.list_actions()),
            Route::Show(id) => self.find(id, |payment| payment.show(&self.base)),
            Route::Challenge | Route::Nowhere => Answer::empty(404),
        }
    }

    /// The answer to a client that asks too often.
    pub fn limited(&self) -> Answer {
        problem(429, "too_many_requests", None)
    }

    /// The shopper acts on a payment that waits for 3-D Secure.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(self: &Arc<Self>, op_id: &str, outcome: Outcome) -> Result<Value, &'static str> {
        let mut fx = Effects::default();
        let mut guard = self.state();
        let state = &mut *guard;
        let now = moment::now_ms();
        let id = state.payments.find(op_id).map(|p| p.id.clone()).ok_or("no such payment")?;
        let credential = state.waiting.get(&id).cloned();
        let verdict = || credential.as_ref().and_then(|c| c.decide(&self.issuer));
        let payment = state.payments.finish(&id, outcome, verdict, now, &mut fx)?;
        state.waiting.remove(&id);
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(guard);
        self.follow(fx);
        Ok(json!({
            "op_id": op_id, "provider_ref": payment.id, "status": payment.status.word(),
        }))
    }

    /// Forgets all payments, keys, and what is still to be notified.
    pub fn reset(&self) {
        *self.state() = State::default();
        self.issuer.reset();
        self.desk.courier.forget();
    }

    /// See [`Desk`].
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    fn keyed(self: &Arc<Self>, route: &Route<'_>, inbound: &Inbound, bend: Bend) -> Answer {
        // Reversals are not among the provider's idempotent endpoints.
        let reversal = matches!(route, Route::Step(_, Operation::Close));
        let key = key(inbound).filter(|key| !key.is_empty() && !reversal);
        let place = key.map(|key| (inbound.path.clone(), key));
        let mut fx = Effects::default();
        let mut state = self.state();
        let now = moment::now_ms();
        if let Some(kept) = place.as_ref().and_then(|place| state.keys.get(place)) {
            if now < kept.busy_until_ms {
                return problem(409, "request_in_progress", None);
            }
            if now < kept.at_ms.saturating_add(self.config.key_life_ms as i64) {
                return kept.answer.clone();
            }
        }
        let answer = match route {
            Route::Step(id, operation) => {
                self.step(&mut state, (id, *operation), inbound, bend, &mut fx)
            }
            _ => self.pay(&mut state, inbound, bend, now, &mut fx),
        };
        if let Some(place) = place.filter(|_| (200..300).contains(&answer.status) && !bend.fails) {
            let busy_until_ms = now + bend.busy_ms as i64;
            state.keys.insert(place, Kept { at_ms: now, busy_until_ms, answer: answer.clone() });
        }
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
        answer
    }

    fn pay(
        &self,
        state: &mut State,
        inbound: &Inbound,
        bend: Bend,
        now: i64,
        fx: &mut Effects,
    ) -> Answer {
        let (wish, credential) = match self.read_wish(inbound, now) {
            Ok(read) => read,
            Err(code) => return problem(422, "request_invalid", Some(code)),
        };
        let forced = bend.decline.map(|decline| match decline {
            Decline::Soft => SOFT.to_owned(),
            Decline::Hard => HARD.to_owned(),
        });
        // A forced decline is the issuer's, so the cryptogram is spent with it.
        let wish = Wish { challenge: wish.challenge && forced.is_none(), ..wish };
        let verdict = || {
            let own = credential.decide(&self.issuer);
            forced.or(own)
        };
        let payment = state.payments.make(wish, verdict, now, fx);
        let pending = payment.status == Status::Pending;
        if pending {
            state.waiting.insert(payment.id.clone(), credential);
        }
        let status = if pending { 202 } else { 201 };
        Answer::json(status, payment.receipt(&self.base).to_string())
    }

    fn read_wish(&self, inbound: &Inbound, now: i64) -> Result<(Wish, Credential), &'static str> {
        let body: Value =
            serde_json::from_slice(&inbound.body).map_err(|_| "request_body_malformed")?;
        let currency = body["currency"].as_str().unwrap_or_default();
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err("currency_invalid");
        }
        let amount = body["amount"].as_i64().ok_or("amount_invalid")?;
        let whole = !THREE_DECIMALS.contains(currency) || amount % 10 == 0;
        if !(1..=999_999_999).contains(&amount) || !whole {
            return Err("amount_invalid");
        }
        let channel = body["processing_channel_id"].as_str();
        match &self.config.processing_channel {
            Some(_) if channel.is_none() => return Err("processing_channel_id_required"),
            Some(own) if channel != Some(own) => return Err("processing_channel_id_invalid"),
            _ => {}
        }
        let reference = body["reference"].as_str().unwrap_or_default();
        if reference.chars().count() > 80 {
            return Err("reference_invalid");
        }
        let credential = Credential::read(&body["source"], now)?;
        let three_ds = &body["3ds"];
        let asks = three_ds["enabled"].as_bool().unwrap_or(false);
        let or_reference = || Some(reference.to_owned()).filter(|text| !text.is_empty());
        let op_id = key(inbound).or_else(or_reference);
        let wish = Wish {
            amount,
            currency: currency.into(),
            capture: body["capture"].as_bool().unwrap_or(true),
            reference: reference.into(),
            op_id: op_id.unwrap_or_else(|| fresh("req")),
            // Results of an outside 3-D Secure server come with their own cryptogram.
            challenge: asks && credential.enrolled && three_ds["cryptogram"].is_null(),
            metadata: body["metadata"].clone(),
            source: credential.shown.clone(),
        };
        Ok((wish, credential))
    }

    fn step(
        &self,
        state: &mut State,
        (id, operation): (&str, Operation),
        inbound: &Inbound,
        bend: Bend,
        fx: &mut Effects,
    ) -> Answer {
        let body: Value = if inbound.body.iter().all(u8::is_ascii_whitespace) {
            json!({})
        } else {
            match serde_json::from_slice(&inbound.body) {
                Ok(body) => body,
                Err(_) => return problem(422, "request_invalid", Some("request_body_malformed")),
            }
        };
        let amount = match &body["amount"] {
            Value::Null => None,
            value => match value.as_i64() {
                None => return problem(422, "request_invalid", Some("amount_invalid")),
                amount => amount,
            },
        };
        if bend.decline == Some(Decline::Hard) {
            return Answer::empty(403);
        }
        let asked = match operation {
            Operation::Capture => {
                Asked::Capture { amount, last: body["capture_type"] != "NonFinal" }
            }
            Operation::Void => Asked::Void,
            Operation::Refund => Asked::Refund { amount },
            _ => Asked::Reverse,
        };
        let reference = body["reference"].as_str().unwrap_or_default().to_owned();
        let names = (key(inbound), reference.clone());
        let declined = bend.decline.map(|_| SOFT);
        match state.payments.accept(id, asked, names, declined) {
            Err(Unaccepted::Unknown) => Answer::empty(404),
            Err(Unaccepted::NotAllowed) => Answer::empty(403),
            Err(Unaccepted::DoneBefore) => Answer::empty(204),
            Err(Unaccepted::Invalid(code)) => problem(422, "request_invalid", Some(code)),
            Ok(step) => {
                let payment = format!("{}/payments/{id}", self.base);
                let answer = json!({
                    "action_id": step.action,
                    "reference": reference,
                    "_links": { "payment": { "href": payment } },
                });
                fx.steps.push(step);
                Answer::json(202, answer.to_string())
            }
        }
    }

    fn list(&self, text: &str) -> Answer {
        let Some(reference) = query(text, "reference") else {
            return problem(422, "request_invalid", Some("reference_required"));
        };
        let number = |name, most: usize, usual| {
            query(text, name).map_or(Some(usual), |n| n.parse().ok().filter(|n| *n <= most))
        };
        let (Some(limit), Some(skip)) = (number("limit", 100, 10), number("skip", 1_000_000, 0))
        else {
            return problem(422, "request_invalid", Some("paging_limit_invalid"));
        };
        let state = self.state();
        let until_ms = moment::now_ms() - self.config.list_delay_ms as i64;
        let found = state.payments.list(&reference, until_ms);
        let data: Vec<Value> =
            found.iter().skip(skip).take(limit).map(|payment| payment.show(&self.base)).collect();
        let body = json!({
            "limit": limit, "skip": skip, "total_count": found.len(), "data": data,
        });
        Answer::json(200, body.to_string())
    }

    fn find(&self, id: &str, show: impl FnOnce(&Payment) -> Value) -> Answer {
        match self.state().payments.get(id) {
            Some(payment) => Answer::json(200, show(payment).to_string()),
            None => Answer::empty(404),
        }
    }

    fn follow(self: &Arc<Self>, fx: Effects) {
        if let Some(url) = &self.config.notify_url {
            for event in &fx.events {
                self.desk.courier.send(self.notice(event, url));
            }
        }
        for step in fx.steps {
            let account = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(account.config.action_ms)).await;
                account.run(&step);
            });
        }
    }

    fn run(self: &Arc<Self>, step: &Step) {
        let mut fx = Effects::default();
        let mut state = self.state();
        let now = moment::now_ms();
        state.payments.execute(step, now, &mut fx);
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
    }

    fn notice(&self, event: &Event, url: &str) -> Notice {
        let id = event.data["id"].as_str().unwrap_or_default();
        let body = json!({
            "id": fresh("evt"),
            "type": event.kind,
            "version": "1.0.0",
            "created_on": moment::rfc3339(moment::now_ms()),
            "data": event.data,
            "_links": { "payment": { "href": format!("{}/payments/{id}", self.base) } },
        })
        .to_string();
        let signature = hex::encode(hmac::sign(&self.webhook_key, body.as_bytes()));
        Notice {
            url: url.into(),
            cause: event.cause,
            content_type: "application/json",
            headers: Vec::new(),
            body,
            seal: Seal::Header("Cko-Signature", signature),
            wants: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(inbound: &Inbound) -> Option<String> {
    inbound.header("cko-idempotency-key").map(str::to_owned)
}

fn query(text: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    pairs.find(|(held, _)| held == name).map(|(_, value)| value.into_owned())
}

fn problem(status: u16, error_type: &str, code: Option<&str>) -> Answer {
    let mut body = json!({ "request_id": fresh("req"), "error_type": error_type });
    if let Some(code) = code {
        body["error_codes"] = json!([code]);
    }
    Answer::json(status, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_provider_names_them() {
        let of = |method, path| Route::of(method, path);
        assert_eq!(of("POST", "/payments"), Route::Pay);
        assert_eq!(of("GET", "/payments"), Route::List);
        assert_eq!(of("GET", "/payments/pay_1/actions"), Route::Actions("pay_1"));
        let reversal = Route::Step("pay_1", Operation::Close);
        assert_eq!(of("POST", "/payments/pay_1/reversals"), reversal);
        assert_eq!(of("DELETE", "/payments/pay_1"), Route::Nowhere);
        assert_eq!(of("POST", "/gateway.do"), Route::Nowhere);
    }
}
