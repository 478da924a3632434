//! The fake of one PayPal account: tokens, orders, what comes of them, webhooks and reports.
//!
//! A `PayPal-Request-Id` names a request on its path. What the first one made is remembered, not
//! how it was answered: a copy is told the present state with 200, whatever its own body says. A
//! request that was refused is not remembered, and executes again.

mod order;
mod orders;
mod reports;
mod shown;
mod tokens;
mod webhooks;
mod wire;
mod wish;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::account::{Portal, PortalAct};
use crate::checkout::Outcome;
use crate::config::PaypalConfig;
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::faults::Operation;
use crate::keys::KeyError;
use crate::moment;
use order::{Fate, Order};
use orders::{Asked, Effects, Orders, Rules};
use tokens::Tokens;
use webhooks::{Blank, Stamp};
use wire::{Issue, Problem, plain};
use wish::{Want, Wish};

pub use webhooks::{ca_pem, write_webhook_keys};

const KEYS_LIMIT: usize = 2_000_000;
const KEY_LENGTH: usize = 108;

/// One PayPal account.
pub struct Paypal {
    desk: Desk,
    config: PaypalConfig,
    stamp: Stamp,
    state: Mutex<State>,
}

struct State {
    orders: Orders,
    tokens: Tokens,
    keys: HashMap<(String, String), Kept>,
}

/// What the first request with a key made.
struct Kept {
    at_ms: i64,
    busy_until_ms: i64,
    made: Made,
}

/// Something that can be shown, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Made {
    Order(String),
    Authorization(String),
    Capture(String),
    Refund(String),
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Token,
    Create,
    Order(&'a str),
    CaptureOrder(&'a str),
    AuthorizeOrder(&'a str),
    Authorization(&'a str),
    Capture(&'a str),
    Reauthorize(&'a str),
    Void(&'a str),
    Captured(&'a str),
    Refund(&'a str),
    Refunded(&'a str),
    Report,
    Verify,
    Certificate(&'a str),
    Page,
    Nowhere,
}

impl<'a> Route<'a> {
    fn of(method: &str, path: &'a str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["v1", "oauth2", "token"]) => Self::Token,
            ("POST", ["v2", "checkout", "orders"]) => Self::Create,
            ("GET", ["v2", "checkout", "orders", id]) => Self::Order(id),
            ("POST", ["v2", "checkout", "orders", id, "capture"]) => Self::CaptureOrder(id),
            ("POST", ["v2", "checkout", "orders", id, "authorize"]) => Self::AuthorizeOrder(id),
            ("GET", ["v2", "payments", "authorizations", id]) => Self::Authorization(id),
            ("POST", ["v2", "payments", "authorizations", id, step]) => match *step {
                "capture" => Self::Capture(id),
                "reauthorize" => Self::Reauthorize(id),
                "void" => Self::Void(id),
                _ => Self::Nowhere,
            },
            ("GET", ["v2", "payments", "captures", id]) => Self::Captured(id),
            ("POST", ["v2", "payments", "captures", id, "refund"]) => Self::Refund(id),
            ("GET", ["v2", "payments", "refunds", id]) => Self::Refunded(id),
            ("GET", ["v1", "reporting", "transactions"]) => Self::Report,
            ("POST", ["v1", "notifications", "verify-webhook-signature"]) => Self::Verify,
            ("GET", ["v1", "notifications", "certs", id]) => Self::Certificate(id),
            ("GET", ["checkoutnow"]) => Self::Page,
            _ => Self::Nowhere,
        }
    }

    /// The operation, the provider's name of the call, and the id in the path.
    fn named(self) -> (Operation, &'static str, Option<&'a str>) {
        match self {
            Self::Token => (Operation::Inquire, "token", None),
            Self::Create => (Operation::Authorize, "orders.create", None),
            Self::Order(id) => (Operation::Inquire, "orders.get", Some(id)),
            Self::CaptureOrder(id) => (Operation::Continue, "orders.capture", Some(id)),
            Self::AuthorizeOrder(id) => (Operation::Continue, "orders.authorize", Some(id)),
            Self::Authorization(id) => (Operation::Inquire, "authorizations.get", Some(id)),
            Self::Capture(id) => (Operation::Capture, "authorizations.capture", Some(id)),
            Self::Reauthorize(id) => (Operation::Capture, "authorizations.reauthorize", Some(id)),
            Self::Void(id) => (Operation::Void, "authorizations.void", Some(id)),
            Self::Captured(id) => (Operation::Inquire, "captures.get", Some(id)),
            Self::Refund(id) => (Operation::Refund, "captures.refund", Some(id)),
            Self::Refunded(id) => (Operation::Inquire, "refunds.get", Some(id)),
            Self::Report => (Operation::Inquire, "transactions", None),
            Self::Verify => (Operation::Inquire, "verify-webhook-signature", None),
            Self::Certificate(id) => (Operation::Inquire, "certs", Some(id)),
            Self::Page => (Operation::Inquire, "checkoutnow", None),
            Self::Nowhere => (Operation::Inquire, "", None),
        }
    }

    /// What the fault dial's declines are called here.
    fn declined(self, decline: Decline) -> Issue {
        match (self, decline) {
            (Self::Create, _) => "COMPLIANCE_VIOLATION",
            (Self::CaptureOrder(_) | Self::AuthorizeOrder(_), Decline::Soft) => {
                "INSTRUMENT_DECLINED"
            }
            (Self::Refund(_), Decline::Soft) => "REFUND_FAILED_INSUFFICIENT_FUNDS",
            (Self::Refund(_), Decline::Hard) => "REFUND_NOT_ALLOWED",
            (Self::Void(_), _) => "CANNOT_BE_VOIDED",
            (Self::Capture(_), Decline::Soft) => "AUTHORIZATION_DENIED",
            _ => "TRANSACTION_REFUSED",
        }
    }

    /// What a copy is told while the first request is under way.
    fn under_way(self) -> Issue {
        match self {
            Self::CaptureOrder(_) => "ORDER_COMPLETION_IN_PROGRESS",
            _ => "PREVIOUS_REQUEST_IN_PROGRESS",
        }
    }
}

/// A request that changes something, and what it brings.
struct Brought<'a> {
    route: Route<'a>,
    key: Option<&'a str>,
    bend: Bend,
    now: i64,
}

impl Brought<'_> {
    fn asked(&self) -> Asked<'_> {
        let declined = self.bend.decline.map(|decline| self.route.declined(decline));
        Asked { op_id: self.key, declined, now: self.now }
    }
}

impl Paypal {
    /// An account without orders. `base` is its own URL, for links; the keys are PEM.
    ///
    /// # Errors
    /// A key cannot be used.
    pub fn new(
        desk: Desk,
        config: PaypalConfig,
        base: String,
        (private_key, ca_private_key): (&str, &str),
    ) -> Result<Self, KeyError> {
        let stamp = Stamp::make(&Blank {
            private_key,
            ca_private_key,
            name: &config.webhook_cn,
            webhook_id: &config.webhook_id,
        })?;
        let rules = Rules {
            base,
            magic_amounts: config.magic_amounts,
            one_payment_an_invoice: config.duplicate_invoice_id,
        };
        let state =
            State { orders: Orders::new(rules), tokens: Tokens::default(), keys: HashMap::new() };
        Ok(Self { desk, config, stamp, state: Mutex::new(state) })
    }

    /// What `inbound` asks for, before it is known whether it may.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let (operation, name, id) = Route::of(&inbound.method, &inbound.path).named();
        let op_id = key(inbound).or(id).map(|id| clipped(id, 200));
        Call { operation, name: name.into(), op_id }
    }

    /// Whether there is no room for another order.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.orders.is_full() || state.keys.len() >= KEYS_LIMIT
    }

    /// Executes `inbound`, bent by a fault.
    pub fn execute(self: &Arc<Self>, inbound: &Inbound, bend: Bend) -> Answer {
        let route = Route::of(&inbound.method, &inbound.path);
        match route {
            Route::Token => return self.give_token(inbound),
            Route::Certificate(id) => return self.certificate(id),
            Route::Page => return self.page(&inbound.query),
            _ => {}
        }
        if let Err(refusal) = self.admit(inbound) {
            return refusal;
        }
        match route {
            Route::Order(id) => self.show(&Made::Order(id.into())),
            Route::Authorization(id) => self.show(&Made::Authorization(id.into())),
            Route::Captured(id) => self.show(&Made::Capture(id.into())),
            Route::Refunded(id) => self.show(&Made::Refund(id.into())),
            Route::Report => {
                let seen_ms = moment::now_ms() - self.config.report_delay_ms as i64;
                reports::list(&self.state().orders, &inbound.query, seen_ms)
            }
            Route::Verify => self.verify(inbound),
            Route::Nowhere => plain(404, "RESOURCE_NOT_FOUND", "The resource does not exist."),
            _ => self.change(route, inbound, bend),
        }
    }

    /// The answer of an account that is broken.
    pub fn failure(&self) -> Answer {
        plain(500, "INTERNAL_SERVER_ERROR", "An internal server error has occurred.")
    }

    /// The answer to a client that asks too often.
    pub fn limited(&self) -> Answer {
        plain(429, "RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting.")
    }

    /// The payer acts on an open order, or his bank on a pending capture. The order is found by
    /// its id or one of the merchant's names, or by the address of its page.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(
        self: &Arc<Self>,
        op_id: Option<&str>,
        page: Option<&str>,
        outcome: Outcome,
    ) -> Result<Value, &'static str> {
        let token = page.and_then(|page| query(page.split_once('?')?.1, "token"));
        let name = op_id.or(token.as_deref()).ok_or("no op_id, and no page with a token")?;
        self.later(|state, now, fx| {
            let id = state.orders.find(name).map(|order| order.id.clone());
            let id = id.ok_or("no such order")?;
            let pending: Vec<String> =
                state.orders.get(&id).map(pending_captures).unwrap_or_default();
            match outcome {
                Outcome::Left => {}
                _ if !pending.is_empty() => {
                    for capture in pending {
                        state.orders.decide(&capture, outcome == Outcome::Passed, now, fx);
                    }
                }
                _ => state.orders.approve(&id, outcome == Outcome::Failed, now, fx)?,
            }
            let order = state.orders.get(&id).ok_or("no such order")?;
            let back = match outcome {
                Outcome::Left => &order.wish.cancel_url,
                _ => &order.wish.return_url,
            };
            Ok(json!({
                "op_id": name,
                "provider_ref": id,
                "status": order.status(),
                "redirect": back.as_ref().map(|url| with_token(url, &id)),
            }))
        })
    }

    /// Somebody moves money at PayPal's own pages.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn portal(self: &Arc<Self>, portal: &PortalAct) -> Result<Value, &'static str> {
        match portal.act {
            Portal::Charge => return self.charge(portal),
            Portal::SignsWith => return Err("only one key signs here"),
            Portal::Revoke => {
                self.state().tokens = Tokens::default();
                return Ok(json!({ "ok": true }));
            }
            Portal::Statement => {
                let file = reports::settlement(&self.state().orders, moment::now_ms());
                return Ok(json!({ "file": file }));
            }
            Portal::Refund | Portal::Reverse | Portal::Dispute => {}
        }
        let name = portal.op_id.as_deref().ok_or("no op_id")?;
        self.later(|state, now, fx| {
            let order = state.orders.find(name).ok_or("no such order or capture")?;
            let currency = order.wish.currency.clone();
            let named = order.capture(name);
            let taken = || order.captures.iter().find(|c| c.fate == Fate::Completed);
            let capture = named.or_else(taken).map(|c| c.id.clone()).ok_or("nothing was taken")?;
            let orders = &mut state.orders;
            let done = match portal.act {
                Portal::Dispute => orders.dispute(&capture, now, fx)?,
                Portal::Reverse => orders.reverse(&capture, now, fx)?,
                _ => {
                    let amount = portal.amount.filter(|amount| *amount > 0);
                    let amount = amount.map(|amount| (amount, currency));
                    let want = Want { amount, ..Want::default() };
                    let asked = Asked { op_id: None, declined: None, now };
                    orders.refund(&capture, &want, asked, fx)?
                }
            };
            Ok(json!({ "id": done, "capture_id": capture }))
        })
    }

    /// Forgets all orders, keys, and what is still to be notified. Tokens stay good.
    pub fn reset(&self) {
        let mut state = self.state();
        state.orders.clear();
        state.keys.clear();
        drop(state);
        self.desk.courier.forget();
    }

    /// See [`Desk`].
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// A payment that did not begin with a request of the merchant's.
    fn charge(self: &Arc<Self>, portal: &PortalAct) -> Result<Value, &'static str> {
        let amount = portal.amount.filter(|amount| *amount > 0).ok_or("no amount")?;
        let currency = portal.currency.as_deref().filter(|text| text.len() == 3);
        let currency = currency.ok_or("no currency")?;
        self.later(|state, now, fx| {
            let wish = Wish::of_portal(amount, currency);
            let id = state.orders.create(wish, now);
            // Nobody asked for the approval, so nobody is told of it.
            state.orders.approve(&id, false, now, &mut Effects::default())?;
            let asked = Asked { op_id: None, declined: None, now };
            state.orders.capture_order(&id, asked, fx)?;
            let order = state.orders.get(&id).ok_or("no such order")?;
            Ok(json!({ "id": id, "capture_id": order.captures.first().map(|c| &c.id) }))
        })
    }

    fn give_token(&self, inbound: &Inbound) -> Answer {
        let credentials = (self.config.client_id.as_str(), self.config.client_secret.as_str());
        let life_ms = self.config.token_life_s.saturating_mul(1000) as i64;
        self.state().tokens.give(inbound, credentials, (moment::now_ms(), life_ms))
    }

    fn admit(&self, inbound: &Inbound) -> Result<(), Answer> {
        self.state().tokens.admit(inbound, moment::now_ms())
    }

    fn certificate(&self, id: &str) -> Answer {
        match self.stamp.chain(id) {
            Some(chain) => Answer {
                content_type: "application/x-pem-file",
                ..Answer::json(200, chain.to_owned())
            },
            None => Answer::empty(404),
        }
    }

    fn page(&self, text: &str) -> Answer {
        let known = query(text, "token").is_some_and(|id| self.state().orders.get(&id).is_some());
        let page = "<html><body>PayPal: POST /customers/act decides</body></html>";
        if known { Answer::html(200, page) } else { Answer::empty(404) }
    }

    fn verify(&self, inbound: &Inbound) -> Answer {
        match self.stamp.verifies(&inbound.body) {
            None => Problem::of("MISSING_REQUIRED_PARAMETER").answer(),
            Some(good) => {
                let word = if good { "SUCCESS" } else { "FAILURE" };
                Answer::json(200, json!({ "verification_status": word }).to_string())
            }
        }
    }

    fn show(&self, made: &Made) -> Answer {
        match present(&self.state().orders, made) {
            Some(shown) => Answer::json(200, shown.to_string()),
            None => Problem::of("INVALID_RESOURCE_ID").answer(),
        }
    }

    fn change(self: &Arc<Self>, route: Route<'_>, inbound: &Inbound, bend: Bend) -> Answer {
        if let Some(issue) = mocked(inbound) {
            return Problem::of(issue).answer();
        }
        // The provider names neither a body nor a request id for voids, so none is remembered.
        let bare = matches!(route, Route::Void(_));
        let json = inbound.header("content-type").is_some_and(|t| t.contains("json"));
        if !json && !bare {
            return plain(415, "UNSUPPORTED_MEDIA_TYPE", "The request payload is not supported");
        }
        let key = key(inbound);
        if key.is_some_and(|key| key.chars().count() > KEY_LENGTH) {
            return Problem::of("INVALID_STRING_LENGTH").answer();
        }
        let place = key.filter(|_| !bare).map(|key| (inbound.path.clone(), key.to_owned()));
        let whole = inbound.header("prefer").is_some_and(|p| p.contains("return=representation"));
        let mut fx = Effects::default();
        let mut state = self.state();
        let now = moment::now_ms();
        if let Some(kept) = place.as_ref().and_then(|place| state.keys.get(place)) {
            if now < kept.busy_until_ms {
                return Problem::of(route.under_way()).answer();
            }
            if now < kept.at_ms.saturating_add(self.key_life_ms(&inbound.path)) {
                return answer_with(&state.orders, 200, &kept.made, whole);
            }
        }
        let brought = Brought { route, key, bend, now };
        let done = read_body(route, inbound)
            .and_then(|body| perform(&mut state.orders, &brought, &body, &mut fx));
        let answer = match done {
            Err(problem) => problem.answer(),
            Ok(made) => {
                let status = status_of(&state.orders, route, &made, whole);
                let answer = answer_with(&state.orders, status, &made, whole);
                if let Some(place) = place {
                    let busy_until_ms = now + bend.busy_ms as i64;
                    state.keys.insert(place, Kept { at_ms: now, busy_until_ms, made });
                }
                answer
            }
        };
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
        answer
    }

    fn key_life_ms(&self, path: &str) -> i64 {
        let of_orders = path.starts_with("/v2/checkout/");
        let life_ms =
            if of_orders { self.config.order_key_life_ms } else { self.config.payment_key_life_ms };
        i64::try_from(life_ms).unwrap_or(i64::MAX)
    }

    fn follow(self: &Arc<Self>, fx: Effects) {
        if let Some(url) = &self.config.notify_url {
            let base = self.state().orders.base().to_owned();
            let now = moment::now_ms();
            for event in &fx.events {
                let body = event.body(&base, now).to_string();
                self.desk.courier.send(self.stamp.notice((url, event.cause), body, now));
            }
        }
        for (capture, completes) in fx.decisions {
            let account = self.clone();
            let wait = Duration::from_millis(self.config.decide_ms);
            if self.config.decide_ms > 0 {
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    account.later(|state, now, fx| {
                        state.orders.decide(&capture, completes, now, fx);
                    });
                });
            }
        }
    }

    /// Does what no request of the merchant's asks for.
    fn later<T>(self: &Arc<Self>, act: impl FnOnce(&mut State, i64, &mut Effects) -> T) -> T {
        let mut fx = Effects::default();
        let mut state = self.state();
        let now = moment::now_ms();
        let done = act(&mut state, now, &mut fx);
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
        done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn perform(
    orders: &mut Orders,
    brought: &Brought<'_>,
    body: &Value,
    fx: &mut Effects,
) -> Result<Made, Problem> {
    let asked = brought.asked();
    match brought.route {
        Route::Create => {
            let wish = Wish::read(body, brought.key)?;
            match asked.declined {
                Some(issue) => Err(issue.into()),
                None => Ok(Made::Order(orders.create(wish, brought.now))),
            }
        }
        Route::CaptureOrder(id) | Route::AuthorizeOrder(id) => {
            let done = match brought.route {
                Route::CaptureOrder(_) => orders.capture_order(id, asked, fx),
                _ => orders.authorize(id, asked, fx),
            };
            done.map(|()| Made::Order(id.into())).map_err(|issue| curable(orders, id, issue))
        }
        Route::Capture(id) => {
            let want = Want::read(body)?;
            Ok(Made::Capture(orders.capture(id, &want, asked, fx)?))
        }
        Route::Refund(id) => {
            let want = Want::read(body)?;
            Ok(Made::Refund(orders.refund(id, &want, asked, fx)?))
        }
        Route::Reauthorize(id) => Ok(Made::Authorization(orders.reauthorize(id, asked)?)),
        Route::Void(id) => {
            orders.void(id, asked, fx)?;
            Ok(Made::Authorization(id.into()))
        }
        _ => Err(Problem::of("INVALID_RESOURCE_ID")),
    }
}

/// A declined instrument can be changed on the order's own page.
fn curable(orders: &Orders, id: &str, issue: Issue) -> Problem {
    let page = || orders.get(id).map(|order| order.page(orders.base()));
    let redirect = if issue == "INSTRUMENT_DECLINED" { page() } else { None };
    Problem { redirect, ..Problem::of(issue) }
}

fn status_of(orders: &Orders, route: Route<'_>, made: &Made, whole: bool) -> u16 {
    match (route, made) {
        (Route::Void(_), _) if !whole => 204,
        (Route::Void(_), _) => 200,
        (Route::Create, Made::Order(id)) if orders.get(id).is_some_and(|o| o.wish.payer_acts) => {
            200
        }
        _ => 201,
    }
}

fn answer_with(orders: &Orders, status: u16, made: &Made, whole: bool) -> Answer {
    match present(orders, made) {
        _ if status == 204 => Answer::empty(204),
        Some(shown) if whole => Answer::json(status, shown.to_string()),
        Some(shown) => Answer::json(status, shown::minimal(&shown).to_string()),
        None => Problem::of("INVALID_RESOURCE_ID").answer(),
    }
}

fn present(orders: &Orders, made: &Made) -> Option<Value> {
    let base = orders.base();
    match made {
        Made::Order(id) => Some(orders.get(id)?.show(base)),
        Made::Authorization(id) => {
            let order = orders.owner(id)?;
            let of_other = order.capture(id).is_some() || order.refund(id).is_some();
            let hold = order.authorization.as_ref().filter(|_| !of_other)?;
            Some(order.show_authorization(hold, base))
        }
        Made::Capture(id) => {
            let order = orders.owner(id)?;
            Some(order.show_capture(order.capture(id)?, base))
        }
        Made::Refund(id) => {
            let order = orders.owner(id)?;
            Some(order.show_refund(order.refund(id)?, base))
        }
    }
}

fn pending_captures(order: &Order) -> Vec<String> {
    let pending = order.captures.iter().filter(|c| matches!(c.fate, Fate::Pending(_)));
    pending.map(|capture| capture.id.clone()).collect()
}

/// The body of a change: JSON, or nothing where nothing is needed.
fn read_body(route: Route<'_>, inbound: &Inbound) -> Result<Value, Problem> {
    if matches!(route, Route::Void(_)) || inbound.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    let body = serde_json::from_slice::<Value>(&inbound.body).ok().filter(Value::is_object);
    body.ok_or_else(|| Problem::of("MALFORMED_REQUEST_JSON"))
}

fn key(inbound: &Inbound) -> Option<&str> {
    inbound.header("paypal-request-id").filter(|key| !key.is_empty())
}

/// The issue that a test of a merchant asks for by a header, as in the provider's own sandbox.
fn mocked(inbound: &Inbound) -> Option<String> {
    let asked: Value = serde_json::from_str(inbound.header("paypal-mock-response")?).ok()?;
    asked["mock_application_codes"].as_str().map(str::to_owned)
}

fn query(text: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    pairs.find(|(held, _)| held == name).map(|(_, value)| value.into_owned())
}

/// The merchant's address as PayPal sends the payer to it.
fn with_token(url: &str, id: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}token={id}&PayerID=SANDBOX0PAYER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_provider_names_them() {
        let of = |method, path| Route::of(method, path);
        assert_eq!(of("POST", "/v2/checkout/orders"), Route::Create);
        assert_eq!(of("GET", "/v2/checkout/orders/O"), Route::Order("O"));
        assert_eq!(of("POST", "/v2/checkout/orders/O/capture"), Route::CaptureOrder("O"));
        assert_eq!(of("POST", "/v2/payments/authorizations/A/void"), Route::Void("A"));
        assert_eq!(of("POST", "/v2/payments/authorizations/A/pay"), Route::Nowhere);
        assert_eq!(of("POST", "/v2/payments/captures/C/refund"), Route::Refund("C"));
        let cert = "/v1/notifications/certs/CERT-1";
        assert_eq!(of("GET", cert), Route::Certificate("CERT-1"));
        assert_eq!(of("GET", "/v2/checkout/orders"), Route::Nowhere);
    }

    #[test]
    fn the_payer_is_sent_back_with_his_token() {
        let back = with_token("https://shop.example/back?n=1", "O");
        assert_eq!(back, "https://shop.example/back?n=1&token=O&PayerID=SANDBOX0PAYER");
    }
}
