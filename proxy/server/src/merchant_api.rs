//! The payments API that merchants speak: reads a request, puts it through the driver, waits a
//! bounded time for news, answers from the stored payment.
//!
//! Malformed requests end here and the engine never hears of them. A merchant who hangs up changes
//! nothing: the request runs in a task of its own.

mod advice;
pub mod answer;
mod cursor;
pub mod events;
mod offers;
pub mod openapi;
mod problem;
mod request;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Method as Verb, header};
use interlock_engine::{
    Input, Mint, OperationState, Payment, Request as Wish, Statement, Submission, status,
};
use interlock_journal::{KeyRow, ListQuery};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::access::Scope;
use crate::config::{Caller, Merchant};
use crate::credentials::Held;
use crate::driver::{Beside, DriveError, Driver, Moved};
use crate::front_door::{Handler, Request, Response};
use crate::notifications;
use crate::overload::Overload;
use crate::restoration::Restoration;
use crate::wallets::{self, Unsealed};
pub use problem::Problem;
use request::NewPayment;
pub(crate) use request::read as read_body;

/// A page holds at most so many payments.
const PAGE_MAX: usize = 100;
/// A timeline is read in pieces of this many lines.
const TIMELINE_MAX: usize = 1_000;
/// How often one payment is asked about because somebody reads it, ms.
const REFRESH_WAIT_MS: u64 = 3_000;

/// What became of the wallets' tokens of a new payment.
enum Unsealing {
    /// They are open; what must be written with the payment.
    Done(Vec<KeyRow>),
    /// The key has a payment already.
    Known(KeyRow),
    /// One is refused.
    Refused(Problem),
}

/// The merchant's door.
pub struct MerchantApi {
    driver: Arc<Driver>,
    overload: Arc<Overload>,
    restoration: Option<Arc<Restoration>>,
}

impl MerchantApi {
    /// The door over a driver; over a journal that was restored it asks for what was lost.
    pub fn new(
        driver: Arc<Driver>,
        overload: Arc<Overload>,
        restoration: Option<Arc<Restoration>>,
    ) -> Self {
        Self { driver, overload, restoration }
    }
}

#[async_trait]
impl Handler for MerchantApi {
    async fn handle(&self, request: Request) -> Response {
        if let Some(account) = request.path.strip_prefix("/v1/notifications/") {
            return notifications::handle(&self.driver, account, &request).await;
        }
        if request.method == Verb::GET && request.path == "/openapi.json" {
            return Response::json(200, openapi::DOCUMENT.as_str());
        }
        match self.route(&request).await {
            Ok(response) => preferred(response, &request),
            Err(problem) => problem.response(&request.path, &request.request_id),
        }
    }
}

type Answered = Result<Response, Problem>;

impl MerchantApi {
    async fn route(&self, request: &Request) -> Answered {
        let setup = self.driver.setup();
        let caller = authenticate(&setup.merchants, request)?;
        let merchant = caller.merchant;
        let now = self.driver.clock.now();
        setup.gates.admit_merchant(&merchant.name, now).map_err(|wait_ms| {
            self.driver.metrics.limited("merchant", &merchant.name);
            Problem::rate_limited(wait_ms)
        })?;
        let scope = Scope::needed(&request.method, &request.path);
        if !caller.credential.allows(scope) {
            return Err(Problem::out_of_scope(&caller.credential.name, scope));
        }
        let merchant = merchant.name.as_str();
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        if is_list(&request.method, &parts) && !self.overload.admits_list() {
            self.driver.metrics.limited("overload", "lists");
            return Err(Problem::overloaded());
        }
        match (request.method.clone(), &parts[..]) {
            (Verb::POST, ["v1", "payments"]) => self.create(merchant, request).await,
            (Verb::GET, ["v1", "payments"]) => self.list(merchant, request).await,
            (Verb::GET, ["v1", "payments", id]) => self.show(merchant, id, request).await,
            (Verb::GET, ["v1", "payments", id, "timeline"]) => self.timeline(merchant, id).await,
            (Verb::POST, ["v1", "payments", id, verb]) => {
                self.wish(merchant, id, verb, request).await
            }
            (Verb::POST, ["v1", "refunds"]) => self.refund(merchant, request).await,
            (Verb::GET, ["v1", "refunds"]) => self.refunds(merchant, request).await,
            (Verb::GET, ["v1", "refunds", id]) => self.show_refund(merchant, id).await,
            (Verb::POST, ["v1", "wallets", wallet, "sessions"]) => {
                self.start_session(wallet, request).await
            }
            (Verb::GET, ["v1", "payment-methods"]) => self.methods(merchant, request),
            (Verb::GET, ["v1", "events"]) => self.events(merchant, request).await,
            (Verb::GET, ["v1", "events", id]) => self.show_event(merchant, id).await,
            (Verb::POST, ["v1", "events", id, "redeliver"]) => self.redeliver(merchant, id).await,
            (_, ["v1", "wallets", _, "sessions"]) => Err(Problem::method_not_allowed("POST")),
            (_, ["v1", "payments" | "refunds"]) => Err(Problem::method_not_allowed("GET, POST")),
            (
                _,
                ["v1", "events" | "payment-methods"] | ["v1", "payments" | "refunds" | "events", _],
            ) => Err(Problem::method_not_allowed("GET")),
            _ => Err(Problem::not_found("resource")),
        }
    }

    async fn create(&self, merchant: &str, request: &Request) -> Answered {
        let until = wait_until(request);
        let Some(in_hand) = self.overload.admit_payment(merchant) else {
            self.driver.metrics.limited("overload", "payments");
            return Err(Problem::overloaded());
        };
        json_body(request)?;
        let key = key_of(request)?;
        let mut new = request::new_payment(merchant, &key, &request.body)?;
        let id = format!("pay_{}", self.driver.numbers.mint(&["payment", merchant, &key]));
        let row = self.key_row(merchant, answer::PAYMENTS_PATH, &key, &request.body, &id);
        if let Some(problem) = Problem::of_health(&self.driver.store.health()) {
            // Only what is new needs room: a key that made a payment gets its answer.
            let first = self.first_use(&row).await?.ok_or(problem)?;
            return self.replay(&first, &row, until).await;
        }
        let stated = self.stated(&new.submission, &row).await?;
        let mut beside = Beside { stated, ..Beside::default() };
        match self.unsealed(&mut new, &row).await? {
            Unsealing::Done(once) => (beside.once, beside.credential) = (once, new.credential),
            Unsealing::Known(first) => return self.replay(&first, &row, until).await,
            // What was paid before the backup is the payment's, whatever its token is now.
            Unsealing::Refused(problem) if beside.stated.as_ref().is_none_or(is_silent) => {
                return Err(problem);
            }
            Unsealing::Refused(_) => {}
        }
        // Held until it is answered, so that what becomes of it is heard here and not read back.
        let slot = self.driver.slot(&id);
        let moved = self.driver.submit(new.submission, row.clone(), beside).await;
        match moved {
            Ok(Moved::To(_)) => in_hand.durable(),
            _ => drop(in_hand),
        }
        let answered = match moved.map_err(|e| Problem::of_failure(&e))? {
            Moved::To(_) | Moved::Unchanged(_) => self.answer_payment(&row, until, false).await,
            Moved::KeyTaken(first) if wallets::is_token(&first) => Err(Problem::token_used()),
            Moved::KeyTaken(first) => self.replay(&first, &row, until).await,
            Moved::Refused(refusal) => Err(Problem::of_refusal(&refusal, None)),
            Moved::NoticeSeen => Err(Problem::journal_failed()),
        };
        drop(slot);
        answered
    }

    /// Opens the wallets' tokens of a new payment. One that was accepted before is not opened
    /// again: its token may be too old by now, and its answer stands.
    async fn unsealed(&self, new: &mut NewPayment, row: &KeyRow) -> Result<Unsealing, Problem> {
        let Some(held) = new.credential.take_if(|held| held.is_sealed()) else {
            return Ok(Unsealing::Done(Vec::new()));
        };
        if let Some(first) = self.first_use(row).await? {
            return Ok(Unsealing::Known(first));
        }
        let s = &mut new.submission;
        let one = std::slice::from_mut(&mut s.method);
        let methods = if s.accept.is_empty() { one } else { &mut s.accept[..] };
        let (merchant, payment) = (&row.merchant, &row.payment);
        let opened = wallets::unseal(&self.driver, merchant, payment, s.money, methods, held);
        Ok(match opened.await {
            Ok(Unsealed { held, once }) => {
                new.credential = Some(held);
                if let Some(first) = s.accept.first() {
                    s.method = first.clone();
                }
                Unsealing::Done(once)
            }
            Err(why) => Unsealing::Refused(Problem::of_wallet(&why, "method.token")),
        })
    }

    /// Opens a session of a wallet for the merchant's page: what it answered, byte for byte.
    async fn start_session(&self, wallet: &str, request: &Request) -> Answered {
        json_body(request)?;
        let body: request::SessionBody = request::read(&request.body)?;
        let (asked, by) = body.asked()?;
        let by_address = if asked.validation_url.is_some() { "validation_url" } else { "domain" };
        let session = wallets::start_session(&self.driver, wallet, asked, by.as_deref()).await;
        let session = session.map_err(|why| Problem::of_wallet(&why, by_address))?;
        let mut response = Response::json(200, session);
        response.headers.push(("Cache-Control", "no-store".to_owned()));
        Ok(response)
    }

    /// In a journal that was restored: what the providers say of a key that it does not know.
    async fn stated(
        &self,
        submission: &Submission,
        row: &KeyRow,
    ) -> Result<Option<Statement>, Problem> {
        let Some(restoration) = &self.restoration else { return Ok(None) };
        if !restoration.is_open() {
            return Err(Problem::of_failure(&DriveError::Restoring));
        }
        if self.first_use(row).await?.is_some() {
            return Ok(None);
        }
        restoration.stated(submission).await.map_err(|why| Problem::restoring(&why))
    }

    /// Waits until the payment can be answered, and answers from what is durable.
    async fn answer_payment(&self, row: &KeyRow, until: Instant, replayed: bool) -> Answered {
        let settled = |p: &Payment| status::status(p).0.answers();
        let p = self.wait_for(&row.payment, until, settled).await?;
        if p.settled.is_some()
            && let Some(response) = self.kept_answer(row, replayed).await?
        {
            return Ok(located(response, &p));
        }
        let body = answer::payment(&p, &self.driver.setup().policy).to_string();
        let response = Response::json(answer::created_status(&p), body);
        Ok(located(mark(response, replayed), &p))
    }

    async fn replay(&self, first: &KeyRow, row: &KeyRow, until: Instant) -> Answered {
        if first.fingerprint != row.fingerprint {
            return Err(Problem::key_reused());
        }
        self.answer_payment(first, until, true).await
    }

    /// The first final answer of a key, byte for byte.
    async fn kept_answer(&self, row: &KeyRow, replayed: bool) -> Result<Option<Response>, Problem> {
        let slot = self.driver.slot(&row.payment);
        if let (Some((status, body)), answer::PAYMENTS_PATH) =
            (slot.kept_answer(), row.path.as_str())
        {
            return Ok(Some(mark(Response::json(*status, body.clone()), replayed)));
        }
        let kept = self.driver.store.key(&row.merchant, &row.path, &row.key).await;
        let kept = kept.map_err(|e| Problem::of_failure(&e.into()))?;
        let answer = kept.and_then(|k| k.answer);
        Ok(answer.map(|(status, body)| mark(Response::json(status, body), replayed)))
    }

    async fn show(&self, merchant: &str, id: &str, request: &Request) -> Answered {
        let p = self.owned(merchant, id).await?;
        let wants = query(request).any(|(name, value)| name == "refresh" && value == "true");
        if wants && !status_is_final(&p) {
            return self.refreshed(p).await;
        }
        Ok(self.payment_response(200, &p))
    }

    /// Inquires first, and answers with what is known then.
    async fn refreshed(&self, p: Payment) -> Answered {
        let moved = self.driver.put(&p.id, Input::Refresh, Beside::default()).await;
        moved.map_err(|e| Problem::of_failure(&e))?;
        let ver = p.ver;
        let until = Instant::now() + Duration::from_millis(REFRESH_WAIT_MS);
        let p = self.wait_for(&p.id, until, |p| p.ver > ver + 1 || status_is_final(p)).await?;
        Ok(self.payment_response(200, &p))
    }

    async fn timeline(&self, merchant: &str, id: &str) -> Answered {
        let p = self.owned(merchant, id).await?;
        let rows = self.driver.store.timeline(&p.id, 0, TIMELINE_MAX).await;
        let rows = rows.map_err(|e| Problem::of_failure(&e.into()))?;
        let data: Vec<Value> = rows.iter().map(answer::event).collect();
        let body = json!({ "object": "list", "payment": p.id, "data": data });
        Ok(Response::json(200, body.to_string()))
    }

    async fn list(&self, merchant: &str, request: &Request) -> Answered {
        let mut list = ListQuery { merchant: Some(merchant.to_owned()), ..ListQuery::default() };
        list.limit = 20;
        for (name, value) in query(request) {
            match name.as_str() {
                "merchant_ref" => list.merchant_ref = Some(value),
                "status" if !request::STATUSES.contains(&value.as_str()) => {
                    let told = format!("use one of: {}", request::STATUSES.join(", "));
                    return Err(Problem::invalid("status", told));
                }
                "status" => list.status = Some(value),
                "account" => list.account = Some(value),
                "created_after" => {
                    let at: jiff::Timestamp = value
                        .parse()
                        .map_err(|_| Problem::invalid("created_after", "expected RFC 3339"))?;
                    list.created_after_ms = Some(at.as_millisecond());
                }
                "limit" => list.limit = limit(&value, PAGE_MAX)?,
                "cursor" => {
                    let told = "is not a cursor of this list";
                    let place = cursor::to_payment(&value);
                    list.cursor = Some(place.ok_or(Problem::invalid("cursor", told))?);
                }
                _ => return Err(Problem::invalid("query", "unknown parameter")),
            }
        }
        let page = self.driver.store.list(list).await;
        let page = page.map_err(|e| Problem::of_failure(&e.into()))?;
        let (payments, unreadable) = self.driver.readable(&page);
        let setup = self.driver.setup();
        let policy = &setup.policy;
        let data: Vec<Value> = payments.iter().map(|(p, _)| answer::payment(p, policy)).collect();
        let next = page.next.as_ref().map(cursor::of_payment);
        let body = json!({
            "object": "list", "data": data, "unreadable": unreadable,
            "has_more": next.is_some(), "next_cursor": next,
        });
        Ok(Response::json(200, body.to_string()))
    }

    /// Capture, cancel, switch, confirm: each with its own key.
    async fn wish(&self, merchant: &str, id: &str, verb: &str, request: &Request) -> Answered {
        let until = wait_until(request);
        if !matches!(verb, "capture" | "cancel" | "switch" | "confirm") {
            return Err(Problem::not_found("resource"));
        }
        json_body(request)?;
        let key = key_of(request)?;
        let (mut sealed, mut details) = (None, None);
        let input = match verb {
            "capture" => {
                let body: request::CaptureBody = request::read(&request.body)?;
                Input::Merchant(Wish::Capture { key: key.clone(), amount: body.amount })
            }
            "cancel" => {
                let _: request::EmptyBody = request::read(&request.body)?;
                Input::Merchant(Wish::Cancel { key: key.clone() })
            }
            "switch" => {
                let body: request::SwitchBody = request::read(&request.body)?;
                let (method, held) = request::method(&body.method)?;
                sealed = held;
                Input::Merchant(Wish::Switch { key: key.clone(), method })
            }
            _ => {
                details = request::read::<request::ConfirmBody>(&request.body)?.details()?;
                let key = key.clone();
                Input::Merchant(Wish::Confirm { key, details: details.is_some() })
            }
        };
        let p = self.owned(merchant, id).await?;
        let path = format!("{}/{id}/{verb}", answer::PAYMENTS_PATH);
        let row = self.key_row(merchant, &path, &key, &request.body, id);
        if let Some(first) = self.first_use(&row).await? {
            if details.is_some() && first.fingerprint == row.fingerprint && !status_is_final(&p) {
                // A process that lost the details may need them: the same return, once more.
                let beside = Beside { details, ..Beside::default() };
                let moved = self.driver.put(id, input, beside).await;
                moved.map_err(|e| Problem::of_failure(&e))?;
            }
            return self.replay_wish(&first, &row, until).await;
        }
        let (input, credential, once) = self.switched(input, sealed, &p).await?;
        let key = Some(row.clone());
        let beside = Beside { key, once, credential, details, ..Beside::default() };
        let moved = self.driver.put(id, input, beside).await;
        match moved.map_err(|e| Problem::of_failure(&e))? {
            Moved::Refused(refusal) => {
                Err(Problem::of_refusal(&refusal, Some(status::status(&p).0.as_str())))
            }
            Moved::KeyTaken(first) if wallets::is_token(&first) => Err(Problem::token_used()),
            Moved::KeyTaken(first) => self.replay_wish(&first, &row, until).await,
            _ => {
                let ver = p.ver;
                let done = |p: &Payment| {
                    (p.ver > ver || status_is_final(p)) && status::status(p).0.answers()
                };
                self.answer_wish(&row, until, done, false).await
            }
        }
    }

    /// A wish to switch whose wallet's token was opened; any other is as it was.
    async fn switched(
        &self,
        input: Input,
        held: Option<Held>,
        p: &Payment,
    ) -> Result<(Input, Option<Held>, Vec<KeyRow>), Problem> {
        match (input, held) {
            (Input::Merchant(Wish::Switch { key, mut method }), Some(held)) if held.is_sealed() => {
                let one = std::slice::from_mut(&mut method);
                let opened = wallets::unseal(&self.driver, &p.merchant, &p.id, p.money, one, held);
                let Unsealed { held, once } =
                    opened.await.map_err(|why| Problem::of_wallet(&why, "method.token"))?;
                Ok((Input::Merchant(Wish::Switch { key, method }), Some(held), once))
            }
            (input, held) => Ok((input, held, Vec::new())),
        }
    }

    async fn replay_wish(&self, first: &KeyRow, row: &KeyRow, until: Instant) -> Answered {
        if first.fingerprint != row.fingerprint {
            return Err(Problem::key_reused());
        }
        let done = |p: &Payment| status::status(p).0.answers();
        self.answer_wish(first, until, done, true).await
    }

    async fn answer_wish(
        &self,
        row: &KeyRow,
        until: Instant,
        done: impl Fn(&Payment) -> bool,
        replayed: bool,
    ) -> Answered {
        let p = self.wait_for(&row.payment, until, done).await?;
        if let Some(kept) = self.kept_answer(row, replayed).await? {
            return Ok(kept);
        }
        Ok(mark(self.payment_response(wish_status(&p), &p), replayed))
    }

    async fn refund(&self, merchant: &str, request: &Request) -> Answered {
        let until = wait_until(request);
        json_body(request)?;
        let key = key_of(request)?;
        let body: request::RefundBody = request::read(&request.body)?;
        let p = self.owned(merchant, &body.payment).await?;
        let row = self.key_row(merchant, answer::REFUNDS_PATH, &key, &request.body, &p.id);
        if let Some(first) = self.first_use(&row).await? {
            return self.replay_refund(&first, &row, until).await;
        }
        let wish = Wish::Refund { key, amount: body.amount, reason: body.reason };
        let beside = Beside { key: Some(row.clone()), ..Beside::default() };
        let moved = self.driver.put(&p.id, Input::Merchant(wish), beside).await;
        match moved.map_err(|e| Problem::of_failure(&e))? {
            Moved::Refused(refusal) => {
                Err(Problem::of_refusal(&refusal, Some(status::status(&p).0.as_str())))
            }
            Moved::KeyTaken(first) => self.replay_refund(&first, &row, until).await,
            _ => {
                let first = self.first_use(&row).await?.ok_or_else(Problem::journal_failed)?;
                self.answer_refund(&first, until, false).await
            }
        }
    }

    async fn replay_refund(&self, first: &KeyRow, row: &KeyRow, until: Instant) -> Answered {
        if first.fingerprint != row.fingerprint {
            return Err(Problem::key_reused());
        }
        self.answer_refund(first, until, true).await
    }

    async fn answer_refund(&self, row: &KeyRow, until: Instant, replayed: bool) -> Answered {
        let id = row.operation.clone().unwrap_or_default();
        let state = |p: &Payment| p.operations.iter().find(|o| o.id == id).map(|o| o.state);
        let done = |p: &Payment| state(p).is_none_or(|s| !s.is_open());
        let p = self.wait_for(&row.payment, until, done).await?;
        if state(&p).is_some_and(|s| s != OperationState::Reversed)
            && let Some(kept) = self.kept_answer(row, replayed).await?
        {
            return Ok(kept);
        }
        let o = p.operations.iter().find(|o| o.id == id);
        let o = o.ok_or_else(|| Problem::not_found("refund"))?;
        let body = answer::refund(&p, o).to_string();
        Ok(mark(Response::json(answer::refund_created_status(o), body), replayed))
    }

    async fn show_refund(&self, merchant: &str, id: &str) -> Answered {
        let missing = || Problem::not_found("refund");
        let payment = self.driver.store.operation(id).await;
        let payment = payment.map_err(|e| Problem::of_failure(&e.into()))?.ok_or_else(missing)?;
        let p = self.owned(merchant, &payment).await.map_err(|_| missing())?;
        let o = answer::refunds(&p).find(|o| o.id == id).ok_or_else(missing)?;
        Ok(Response::json(200, answer::refund(&p, o).to_string()))
    }

    async fn refunds(&self, merchant: &str, request: &Request) -> Answered {
        let id = query(request).find(|(name, _)| name == "payment").map(|(_, id)| id);
        let id = id.ok_or(Problem::invalid("payment", "is missing"))?;
        let p = self.owned(merchant, &id).await?;
        let data: Vec<Value> = answer::refunds(&p).map(|o| answer::refund(&p, o)).collect();
        let body =
            json!({ "object": "list", "data": data, "has_more": false, "next_cursor": null });
        Ok(Response::json(200, body.to_string()))
    }

    /// A merchant's own payment; another's is as if it did not exist.
    async fn owned(&self, merchant: &str, id: &str) -> Result<Payment, Problem> {
        let found = self.driver.payment(id).await.map_err(|e| Problem::of_failure(&e))?;
        found.filter(|p| p.merchant == merchant).ok_or_else(|| Problem::not_found("payment"))
    }

    /// The payment once it is as wanted, or as it stands when the time is over.
    async fn wait_for(
        &self,
        id: &str,
        until: Instant,
        wanted: impl Fn(&Payment) -> bool,
    ) -> Result<Arc<Payment>, Problem> {
        let slot = self.driver.slot(id);
        let mut bell = slot.listen();
        loop {
            bell.borrow_and_update();
            let known = slot.turn.lock().await.clone();
            let p = match known {
                Some(p) => Some(p),
                None => {
                    let stored = self.driver.payment(id).await;
                    stored.map_err(|e| Problem::of_failure(&e))?.map(Arc::new)
                }
            };
            let p = p.ok_or_else(|| Problem::not_found("payment"))?;
            if wanted(&p) || timeout_at(until, bell.changed()).await.is_err() {
                return Ok(p);
            }
        }
    }

    async fn first_use(&self, row: &KeyRow) -> Result<Option<KeyRow>, Problem> {
        let first = self.driver.store.key(&row.merchant, &row.path, &row.key).await;
        first.map_err(|e| Problem::of_failure(&e.into()))
    }

    fn key_row(&self, merchant: &str, path: &str, key: &str, body: &[u8], id: &str) -> KeyRow {
        KeyRow {
            merchant: merchant.to_owned(),
            path: path.to_owned(),
            key: key.to_owned(),
            fingerprint: self.driver.numbers.fingerprint(&canonical(body)),
            fingerprint_key: "1".to_owned(),
            payment: id.to_owned(),
            operation: None,
            answer: None,
        }
    }

    fn payment_response(&self, status: u16, p: &Payment) -> Response {
        Response::json(status, answer::payment(p, &self.driver.setup().policy).to_string())
    }
}

/// By the key in `Authorization`; where that is absent, by the client certificate.
fn authenticate<'m>(merchants: &'m [Merchant], request: &Request) -> Result<Caller<'m>, Problem> {
    let bearer = |told: &HeaderValue| {
        let (scheme, key) = told.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
    };
    let key = match request.headers.get(header::AUTHORIZATION) {
        Some(told) => Some(bearer(told).ok_or_else(Problem::unauthorized)?),
        None => None,
    };
    let key = key.as_deref().map(str::as_bytes);
    Merchant::of_caller(merchants, key, request.client).ok_or_else(Problem::unauthorized)
}

/// The same content gives the same bytes, whatever the order of members and the white space.
fn canonical(body: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => value.to_string().into_bytes(),
        Err(_) => body.to_vec(),
    }
}

/// What is refused first when the process is too slow.
fn is_list(method: &Verb, parts: &[&str]) -> bool {
    method == Verb::GET
        && matches!(
            parts,
            ["v1", "payments" | "refunds" | "events"] | ["v1", "payments", _, "timeline"]
        )
}

fn status_is_final(p: &Payment) -> bool {
    p.settled.is_some()
}

fn wish_status(p: &Payment) -> u16 {
    if status::status(p).0.answers() { 200 } else { 202 }
}

fn json_body(request: &Request) -> Result<(), Problem> {
    if request.body.is_empty() {
        return Ok(());
    }
    let kind = request.headers.get(header::CONTENT_TYPE).and_then(|h| h.to_str().ok());
    let media = kind.and_then(|k| k.split(';').next()).unwrap_or("").trim();
    if media.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type())
    }
}

fn key_of(request: &Request) -> Result<String, Problem> {
    let header = request.headers.get("idempotency-key");
    if request.headers.get_all("idempotency-key").iter().count() > 1 {
        return Err(Problem::invalid("Idempotency-Key", "is given more than once"));
    }
    let text = header.map(|h| h.to_str().unwrap_or("\u{fffd}"));
    request::idempotency_key(text)
}

/// Whether the providers know nothing of a payment.
fn is_silent(stated: &Statement) -> bool {
    stated.lines.is_empty()
}

fn wait_until(request: &Request) -> Instant {
    let prefer = request.headers.get("prefer").and_then(|h| h.to_str().ok());
    Instant::now() + Duration::from_secs(request::wait_s(prefer))
}

/// Says which preference was honoured (RFC 7240): every POST but a redelivery waits.
fn preferred(mut response: Response, request: &Request) -> Response {
    let prefer = request.headers.get("prefer").and_then(|h| h.to_str().ok());
    let waits = request.method == Verb::POST && !request.path.ends_with("/redeliver");
    if let Some(seconds) = request::preferred_wait_s(prefer).filter(|_| waits) {
        response.headers.push(("Preference-Applied", format!("wait={seconds}")));
    }
    response
}

fn query(request: &Request) -> impl Iterator<Item = (String, String)> {
    let query = request.query.as_deref().unwrap_or("");
    form_urlencoded::parse(query.as_bytes()).into_owned()
}

fn limit(value: &str, most: usize) -> Result<usize, Problem> {
    let limit = value.parse().ok().filter(|n| (1..=most).contains(n));
    let told = format!("expected a number from 1 to {most}");
    limit.ok_or(Problem::invalid("limit", told))
}

fn mark(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers.push(("Idempotency-Replayed", "true".to_owned()));
    }
    response
}

fn located(mut response: Response, p: &Payment) -> Response {
    response.headers.push(("Location", format!("{}/{}", answer::PAYMENTS_PATH, p.id)));
    response
}
