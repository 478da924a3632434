//! The fake of one Stripe account: PaymentIntents, refunds, tokens, challenges and events.
//!
//! Every POST may carry a key. Once its execution has begun, its answer is kept and given to every
//! copy, a 500 too; other parameters under the key are refused, and a copy that comes while the
//! first is under way meets 409. What fails validation is not kept. The search may be behind.

mod credential;
mod intents;
mod wire;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};

use crate::account::{Portal, PortalAct};
use crate::checkout::Outcome;
use crate::config::StripeConfig;
use crate::courier::{Notice, Seal};
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::faults::Operation;
use crate::issuer::Issuer;
use crate::moment;
use credential::Credential;
use intents::{Effects, Event, Intents, State as Stands, Wish};
use wire::{Form, error, fresh, invalid};

const KEYS_LIMIT: usize = 2_000_000;
const KEY_LENGTH: usize = 255;
const KEY: &str = "idempotency-key";
const SOFT: &str = "do_not_honor";
const HARD: &str = "fraudulent";
const THREE_DECIMALS: &str = "bhd jod kwd omr tnd";

/// One Stripe account.
pub struct Stripe {
    desk: Desk,
    config: StripeConfig,
    base: String,
    issuer: Arc<Issuer>,
    webhook_key: hmac::Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    intents: Intents,
    keys: HashMap<String, Kept>,
    tokens: HashMap<String, Credential>,
    used: HashSet<String>,
    waiting: HashMap<String, Credential>,
}

struct Kept {
    at_ms: i64,
    busy_until_ms: i64,
    /// Where it was sent, and every byte of it.
    asked: (String, Vec<u8>),
    answer: Answer,
}

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route<'a> {
    Pay,
    Confirm(&'a str),
    Capture(&'a str),
    Cancel(&'a str),
    Refund,
    Token,
    Show(&'a str),
    Search,
    ShowRefund(&'a str),
    ListRefunds,
    Challenge(&'a str),
    Nowhere,
}

impl Route<'_> {
    fn of<'a>(method: &str, path: &'a str) -> Route<'a> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["v1", "payment_intents"]) => Route::Pay,
            ("POST", ["v1", "payment_intents", id, "confirm"]) => Route::Confirm(id),
            ("POST", ["v1", "payment_intents", id, "capture"]) => Route::Capture(id),
            ("POST", ["v1", "payment_intents", id, "cancel"]) => Route::Cancel(id),
            ("POST", ["v1", "refunds"]) => Route::Refund,
            ("POST", ["v1", "tokens"]) => Route::Token,
            ("GET", ["v1", "payment_intents", "search"]) => Route::Search,
            ("GET", ["v1", "payment_intents", id]) => Route::Show(id),
            ("GET", ["v1", "refunds", id]) => Route::ShowRefund(id),
            ("GET", ["v1", "refunds"]) => Route::ListRefunds,
            ("GET", ["redirect", "authenticate", session]) => Route::Challenge(session),
            _ => Route::Nowhere,
        }
    }

    fn operation(&self) -> Operation {
        match self {
            Self::Pay => Operation::Authorize,
            Self::Confirm(_) | Self::Challenge(_) => Operation::Continue,
            Self::Capture(_) => Operation::Capture,
            Self::Cancel(_) => Operation::Void,
            Self::Refund => Operation::Refund,
            _ => Operation::Inquire,
        }
    }
}

impl Stripe {
    /// An account without payments. `base` is its own URL, for links.
    pub fn new(desk: Desk, config: StripeConfig, base: String, issuer: Arc<Issuer>) -> Self {
        let webhook_key = hmac::Key::new(hmac::HMAC_SHA256, config.webhook_key.as_bytes());
        Self { desk, config, base, issuer, webhook_key, state: Mutex::default() }
    }

    /// What `inbound` asks for, before it is known whether it may.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let route = Route::of(&inbound.method, &inbound.path);
        let known = match route {
            Route::Show(id) | Route::ShowRefund(id) => Some(id.to_owned()),
            Route::Search => searched(inbound).map(|(_, value)| value),
            _ => None,
        };
        let name = inbound.path.rsplit('/').next().unwrap_or_default();
        let op_id = inbound.header(KEY).map(str::to_owned).or(known);
        Call {
            operation: route.operation(),
            name: if known_path(&route) { name.into() } else { String::new() },
            op_id: op_id.map(|id| clipped(&id, 200)),
        }
    }

    /// Whether there is no room for another payment.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.intents.is_full() || state.keys.len() >= KEYS_LIMIT || self.issuer.is_full()
    }

    /// Executes `inbound`, bent by a fault.
    pub fn execute(self: &Arc<Self>, inbound: &Inbound, bend: Bend) -> Answer {
        let route = Route::of(&inbound.method, &inbound.path);
        match route {
            Route::Challenge(session) => return self.challenge_page(session),
            Route::Nowhere => return invalid(404, "resource_missing"),
            _ => {}
        }
        let bearer = inbound.header("authorization").and_then(|a| a.strip_prefix("Bearer "));
        if bearer != Some(&self.config.secret_key) {
            return error(401, "invalid_request_error", None, None);
        }
        match route {
            Route::Show(_) | Route::Search | Route::ShowRefund(_) | Route::ListRefunds => {
                self.look(&route, inbound)
            }
            _ => self.keyed(&route, inbound, bend),
        }
    }

    /// The answer to a client that asks too often.
    pub fn limited(&self) -> Answer {
        invalid(429, "rate_limit")
    }

    /// The answer of a provider that failed.
    pub fn failure(&self) -> Answer {
        error(500, "api_error", None, None)
    }

    /// The shopper acts on a challenge, or on a payment that is decided later.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(self: &Arc<Self>, op_id: &str, outcome: Outcome) -> Result<Value, &'static str> {
        let mut fx = Effects::default();
        let mut guard = self.state();
        let state = &mut *guard;
        let id = state.intents.find(op_id).map(|i| i.id.clone()).ok_or("no such payment")?;
        let passes = match outcome {
            Outcome::Passed => Some(true),
            Outcome::Failed => Some(false),
            Outcome::Left => None,
        };
        if let Some(passes) = passes {
            let credential = state.waiting.get(&id).cloned();
            let verdict = || declined(credential.as_ref().and_then(|c| c.decide(&self.issuer)));
            state.intents.act(&id, passes, verdict, &mut fx)?;
        }
        let stands = state.intents.get(&id).map(|intent| intent.state.word());
        self.desk.write(moment::now_ms(), std::mem::take(&mut fx.moves));
        drop(guard);
        self.follow(fx);
        Ok(json!({ "op_id": op_id, "provider_ref": id, "status": stands }))
    }

    /// The merchant's clerk gives money back at the dashboard.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn portal(self: &Arc<Self>, act: &PortalAct) -> Result<Value, &'static str> {
        if act.act != Portal::Refund {
            return Err("only a refund can be made at this dashboard");
        }
        let mut fx = Effects::default();
        let mut state = self.state();
        let name = act.op_id.as_deref().ok_or("no op_id")?;
        let id = state.intents.find(name).map(|i| i.id.clone()).ok_or("no such payment")?;
        let clerk = ("dashboard", std::collections::BTreeMap::new());
        let refund = state.intents.refund(&id, act.amount, clerk, false, &mut fx)?;
        self.desk.write(moment::now_ms(), std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
        Ok(refund.show())
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

    fn challenge_page(&self, session: &str) -> Answer {
        let known = self.state().intents.of_session(session).is_some();
        let page = "<html><body>3-D Secure: POST /customers/act decides</body></html>";
        if known { Answer::html(200, page) } else { Answer::empty(404) }
    }

    fn keyed(self: &Arc<Self>, route: &Route<'_>, inbound: &Inbound, bend: Bend) -> Answer {
        let form = Form::read(&inbound.body);
        let asked = (inbound.path.clone(), inbound.body.to_vec());
        let key = inbound.header(KEY).filter(|key| !key.is_empty());
        if key.is_some_and(|key| key.len() > KEY_LENGTH) {
            return error(400, "idempotency_error", None, None);
        }
        let mut fx = Effects::default();
        let mut state = self.state();
        let now = moment::now_ms();
        let alive =
            |kept: &&Kept| now < kept.at_ms.saturating_add_unsigned(self.config.key_life_ms);
        if let Some(kept) = key.and_then(|key| state.keys.get(key)).filter(alive) {
            if kept.asked != asked {
                return error(400, "idempotency_error", None, None);
            }
            if now < kept.busy_until_ms {
                return error(409, "idempotency_error", Some("idempotency_key_in_use"), None);
            }
            let mut answer = kept.answer.clone();
            answer.headers.push(("idempotent-replayed", "true".into()));
            return answer;
        }
        let op_id = key.map_or_else(|| fresh("req_"), str::to_owned);
        let (begun, answer) = match self.run(&mut state, route, &op_id, &form, bend, &mut fx) {
            Ok(answer) => (true, answer),
            Err(refused) => (false, refused),
        };
        // What is told as a failure is kept as one, whatever became of it.
        let answer = if begun && bend.fails { self.failure() } else { answer };
        if let Some(key) = key.filter(|_| begun) {
            let busy_until_ms = now.saturating_add_unsigned(bend.busy_ms);
            let kept = Kept { at_ms: now, busy_until_ms, asked, answer: answer.clone() };
            state.keys.insert(key.to_owned(), kept);
        }
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
        answer
    }

    /// The answer of an execution that began, or what was refused before.
    fn run(
        &self,
        state: &mut State,
        route: &Route<'_>,
        op_id: &str,
        form: &Form,
        bend: Bend,
        fx: &mut Effects,
    ) -> Result<Answer, Answer> {
        match route {
            Route::Pay => self.pay(state, op_id, form, bend, fx),
            Route::Confirm(id) => self.confirm(state, id, form, bend, fx),
            Route::Capture(id) => {
                let named = (op_id, form.metadata());
                let amount = form.number("amount_to_capture");
                if bend.decline.is_some() {
                    return Err(invalid(400, "capture_unauthorized_payment"));
                }
                let done = state.intents.capture(id, amount, named, fx);
                self.changed(state, id, form, done)
            }
            Route::Cancel(id) => {
                let named = (op_id, form.get("cancellation_reason"));
                let done = match bend.decline {
                    Some(_) => return Err(invalid(400, "action_blocked")),
                    None => state.intents.cancel(id, named, fx),
                };
                self.changed(state, id, form, done)
            }
            Route::Refund => {
                let id =
                    form.get("payment_intent").ok_or_else(|| invalid(400, "parameter_missing"));
                if bend.decline == Some(Decline::Hard) {
                    return Err(invalid(400, "refund_disputed_payment"));
                }
                let fails = bend.decline.is_some();
                let named = (op_id, form.metadata());
                let made = state.intents.refund(id?, form.number("amount"), named, fails, fx);
                match made {
                    Ok(refund) => Ok(Answer::json(200, refund.show().to_string())),
                    Err(code) => Err(invalid(400, code)),
                }
            }
            _ => self.token(state, form),
        }
    }

    fn token(&self, state: &mut State, form: &Form) -> Result<Answer, Answer> {
        let credential = Credential::tokenized(form).map_err(|code| match code {
            "parameter_missing" => invalid(400, code),
            _ => error(402, "card_error", Some(code), None),
        })?;
        let id = fresh("tok_");
        state.tokens.insert(id.clone(), credential);
        let token = json!({ "id": id, "object": "token", "type": "card", "used": false });
        Ok(Answer::json(200, token.to_string()))
    }

    fn pay(
        &self,
        state: &mut State,
        op_id: &str,
        form: &Form,
        bend: Bend,
        fx: &mut Effects,
    ) -> Result<Answer, Answer> {
        let wish = read_wish(op_id, form)?;
        let credential = means(state, form)?;
        let stops = form.get("error_on_requires_action") == Some("true");
        let id = state.intents.make(wish);
        let forced = bend.decline.map(|decline| match decline {
            Decline::Soft => SOFT.to_owned(),
            Decline::Hard => HARD.to_owned(),
        });
        if credential.challenged && forced.is_none() && !stops {
            state.waiting.insert(id.clone(), credential);
            state.intents.wait(&id, Stands::Action, fx);
        } else if credential.later && forced.is_none() {
            state.waiting.insert(id.clone(), credential);
            state.intents.wait(&id, Stands::Processing, fx);
        } else if credential.challenged && forced.is_none() {
            let why = Some("authentication_required".to_owned());
            state.intents.decide(&id, Some(("authentication_required", why)), fx);
        } else {
            // A forced decline is the issuer's, so the cryptogram is spent with it.
            let own = credential.decide(&self.issuer);
            state.intents.decide(&id, declined(forced.or(own)), fx);
        }
        Ok(self.shown(state, &id, form))
    }

    fn confirm(
        &self,
        state: &mut State,
        id: &str,
        form: &Form,
        bend: Bend,
        fx: &mut Effects,
    ) -> Result<Answer, Answer> {
        let stands = state.intents.get(id).map(|intent| intent.state.clone());
        match stands.ok_or_else(|| invalid(404, "resource_missing"))? {
            Stands::Confirmation => {
                let credential = state.waiting.remove(id);
                let own = credential.and_then(|c| c.decide(&self.issuer));
                let forced = bend.decline.map(|decline| match decline {
                    Decline::Soft => SOFT.to_owned(),
                    Decline::Hard => HARD.to_owned(),
                });
                state.intents.decide(id, declined(forced.or(own)), fx);
                Ok(self.shown(state, id, form))
            }
            // The shopper has not acted yet.
            Stands::Action => Ok(self.shown(state, id, form)),
            _ => self.changed(state, id, form, None),
        }
    }

    /// What became of a change; one that can't be is told with the payment as it stands.
    fn changed(
        &self,
        state: &State,
        id: &str,
        form: &Form,
        done: Option<()>,
    ) -> Result<Answer, Answer> {
        let Some(intent) = state.intents.get(id) else {
            return Err(invalid(404, "resource_missing"));
        };
        let shown = intent.show(&self.base, form.expands());
        match done {
            Some(()) => Ok(Answer::json(200, shown.to_string())),
            None => {
                let code = Some("payment_intent_unexpected_state");
                Ok(error(400, "invalid_request_error", code, Some(shown)))
            }
        }
    }

    /// A payment after a try: as it stands, or the error of the try with it inside.
    fn shown(&self, state: &State, id: &str, form: &Form) -> Answer {
        let Some(intent) = state.intents.get(id) else { return self.failure() };
        let shown = intent.show(&self.base, form.expands());
        if !matches!(intent.state, Stands::Failed(..)) {
            return Answer::json(200, shown.to_string());
        }
        let mut error = intent.error();
        error["type"] = "card_error".into();
        error["payment_intent"] = shown;
        Answer::json(402, json!({ "error": error }).to_string())
    }

    fn look(&self, route: &Route<'_>, inbound: &Inbound) -> Answer {
        let query = Form::read(inbound.query.as_bytes());
        let state = self.state();
        let missing = || invalid(404, "resource_missing");
        match route {
            Route::Show(id) => state.intents.get(id).map_or_else(missing, |intent| {
                Answer::json(200, intent.show(&self.base, query.expands()).to_string())
            }),
            Route::ShowRefund(id) => state
                .intents
                .refund_of(id)
                .map_or_else(missing, |refund| Answer::json(200, refund.show().to_string())),
            Route::Search => {
                let Some((name, value)) = searched(inbound) else {
                    return invalid(400, "parameter_missing");
                };
                let delay_ms = i64::try_from(self.config.search_delay_ms).unwrap_or(i64::MAX);
                let until_ms = moment::now_ms().saturating_sub(delay_ms);
                let found = state.intents.search(&name, &value, until_ms);
                let data = found.iter().map(|intent| intent.show(&self.base, false)).collect();
                page("search_result", data, &query, "/v1/payment_intents/search")
            }
            _ => {
                let Some(intent) = query.get("payment_intent") else {
                    return invalid(400, "parameter_missing");
                };
                let found = state.intents.refunds_of(intent);
                let after = query.get("starting_after");
                let skip = after.and_then(|id| found.iter().position(|r| r.id == id));
                let data = found.iter().skip(skip.map_or(0, |n| n + 1)).map(|r| r.show());
                page("list", data.collect(), &query, "/v1/refunds")
            }
        }
    }

    fn follow(self: &Arc<Self>, fx: Effects) {
        if let Some(url) = &self.config.notify_url {
            for event in &fx.events {
                self.desk.courier.send(self.notice(event, url));
            }
        }
        for refund in fx.failing {
            let account = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(account.config.action_ms)).await;
                account.later(|state, fx| state.intents.fail_refund(&refund, fx));
            });
        }
        for id in fx.decisions.into_iter().filter(|_| self.config.decide_ms > 0) {
            let account = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(account.config.decide_ms)).await;
                account.later(|state, fx| {
                    let waits = |intent: &&intents::Intent| intent.state == Stands::Processing;
                    if state.intents.get(&id).filter(waits).is_some() {
                        state.intents.decide(&id, None, fx);
                    }
                });
            });
        }
    }

    fn later(self: &Arc<Self>, act: impl FnOnce(&mut State, &mut Effects)) {
        let mut fx = Effects::default();
        let mut state = self.state();
        act(&mut state, &mut fx);
        self.desk.write(moment::now_ms(), std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
    }

    fn notice(&self, event: &Event, url: &str) -> Notice {
        let created = moment::now_ms() / 1_000;
        let body = json!({
            "id": fresh("evt_"), "object": "event", "type": event.kind, "created": created,
            "livemode": false, "data": { "object": event.object },
        })
        .to_string();
        let content = format!("{created}.{body}");
        let signature = hex::encode(hmac::sign(&self.webhook_key, content.as_bytes()));
        Notice {
            url: url.into(),
            cause: event.cause,
            content_type: "application/json; charset=utf-8",
            headers: Vec::new(),
            body,
            seal: Seal::Header("Stripe-Signature", format!("t={created},v1={signature}")),
            wants: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known_path(route: &Route<'_>) -> bool {
    *route != Route::Nowhere
}

/// A decline as the provider's error says it.
fn declined(why: Option<String>) -> Option<(&'static str, Option<String>)> {
    why.map(|why| ("card_declined", Some(why)))
}

/// The pair of metadata that is searched for: `metadata['NAME']:'VALUE'`.
fn searched(inbound: &Inbound) -> Option<(String, String)> {
    let query = Form::read(inbound.query.as_bytes());
    let (name, value) = query.get("query")?.strip_prefix("metadata['")?.split_once("']:'")?;
    Some((name.to_owned(), value.strip_suffix('\'')?.to_owned()))
}

fn page(object: &str, mut data: Vec<Value>, query: &Form, url: &str) -> Answer {
    let limit = query.number("limit").and_then(|n| usize::try_from(n).ok());
    let limit = limit.filter(|n| (1..=100).contains(n)).unwrap_or(10);
    let has_more = data.len() > limit;
    data.truncate(limit);
    let body = json!({ "object": object, "url": url, "has_more": has_more, "data": data });
    Answer::json(200, body.to_string())
}

fn read_wish(op_id: &str, form: &Form) -> Result<Wish, Answer> {
    let text = |name: &str| form.get(name).filter(|text| !text.is_empty());
    let missing = || invalid(400, "parameter_missing");
    let currency = text("currency").ok_or_else(missing)?;
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err(invalid(400, "parameter_invalid_string_blank"));
    }
    let amount = text("amount").ok_or_else(missing)?;
    let amount = amount.parse().map_err(|_| invalid(400, "parameter_invalid_integer"))?;
    let whole = !THREE_DECIMALS.contains(currency) || amount % 10 == 0;
    if amount < 1 || !whole {
        return Err(invalid(400, "amount_too_small"));
    }
    if text("confirm") != Some("true") {
        return Err(missing());
    }
    let ours = text("confirmation_method") == Some("manual");
    let stops = text("error_on_requires_action") == Some("true");
    if !stops && text("return_url").is_none() {
        return Err(missing());
    }
    Ok(Wish {
        amount,
        currency: currency.into(),
        manual: text("capture_method") == Some("manual"),
        confirmed_by_us: ours,
        metadata: form.metadata(),
        op_id: op_id.into(),
        at_ms: moment::now_ms(),
    })
}

/// What the payment is paid with. A token is good once.
fn means(state: &mut State, form: &Form) -> Result<Credential, Answer> {
    if let Some(id) = form.get("payment_method") {
        return match id.starts_with("pm_") && !id.contains("_missing") {
            true => Ok(Credential::named(id)),
            false => Err(invalid(400, "resource_missing")),
        };
    }
    let Some(token) = form.get("payment_method_data[card][token]") else {
        return Err(invalid(400, "parameter_missing"));
    };
    if !token.starts_with("tok_") {
        return Err(invalid(400, "resource_missing"));
    }
    if !state.used.insert(token.to_owned()) {
        return Err(invalid(400, "token_already_used"));
    }
    Ok(state.tokens.remove(token).unwrap_or_else(|| Credential::named(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_provider_names_them() {
        let of = |method, path| Route::of(method, path);
        assert_eq!(of("POST", "/v1/payment_intents"), Route::Pay);
        assert_eq!(of("POST", "/v1/payment_intents/pi_1/confirm"), Route::Confirm("pi_1"));
        assert_eq!(of("GET", "/v1/payment_intents/search"), Route::Search);
        assert_eq!(of("GET", "/v1/payment_intents/pi_1"), Route::Show("pi_1"));
        assert_eq!(of("GET", "/v1/refunds"), Route::ListRefunds);
        assert_eq!(of("POST", "/v1/charges"), Route::Nowhere);
    }
}
