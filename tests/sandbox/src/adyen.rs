//! The fake of one Adyen merchant account: payments, their changes, challenges and notifications.
//!
//! Every POST may carry a key. What was executed under one is answered to every copy of it, also
//! when it was refused and also when its first answer was lost; a copy that comes while the first
//! is under way meets 704. Nothing can be asked about: the outcome of a change is notified.

mod credential;
mod payments;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::checkout::Outcome;
use crate::config::AdyenConfig;
use crate::courier::{Notice, Seal};
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::faults::Operation;
use crate::issuer::Issuer;
use crate::keys::KeyError;
use crate::moment;
use credential::{Credential, Fate};
use payments::{Asked, Effects, Event, Payment, Payments, State as Stands, Step, Wish, fresh};

const KEYS_LIMIT: usize = 2_000_000;
const KEY_LENGTH: usize = 64;
const KEY: &str = "idempotency-key";
const SOFT: &str = "2";
const HARD: &str = "20";
/// Stands in a notification where its signature goes.
const SEAL: &str = "@hmacSignature@";

/// One Adyen account.
pub struct Adyen {
    desk: Desk,
    config: AdyenConfig,
    base: String,
    issuer: Arc<Issuer>,
    hmac_key: hmac::Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    payments: Payments,
    keys: HashMap<String, Kept>,
    waiting: HashMap<String, Credential>,
    /// Keys whose first try met a store that was down.
    turned_away: HashSet<String>,
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
    Details,
    Change(&'a str, &'a str),
    CancelByReference,
    Challenge(&'a str),
    Nowhere,
}

impl Route<'_> {
    fn of<'a>(method: &str, path: &'a str) -> Route<'a> {
        let path = path.strip_prefix("/checkout").unwrap_or(path);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("POST", ["v72", "payments"]) => Route::Pay,
            ("POST", ["v72", "payments", "details"]) => Route::Details,
            ("POST", ["v72", "cancels"]) => Route::CancelByReference,
            ("POST", ["v72", "payments", psp, change]) => Route::Change(psp, change),
            ("GET", ["threeDS", session]) => Route::Challenge(session),
            _ => Route::Nowhere,
        }
    }

    fn operation(&self) -> Operation {
        match self {
            Self::Pay => Operation::Authorize,
            Self::Details | Self::Challenge(_) => Operation::Continue,
            Self::Change(_, "captures") => Operation::Capture,
            Self::Change(_, "cancels") => Operation::Void,
            Self::Change(_, "refunds" | "reversals") => Operation::Refund,
            Self::CancelByReference => Operation::Close,
            Self::Change(..) | Self::Nowhere => Operation::Inquire,
        }
    }
}

impl Adyen {
    /// An account without payments. `base` is its own URL, for links.
    ///
    /// # Errors
    /// The HMAC key is not hexadecimal.
    pub fn new(
        desk: Desk,
        config: AdyenConfig,
        base: String,
        issuer: Arc<Issuer>,
    ) -> Result<Self, KeyError> {
        let bytes = hex::decode(&config.hmac_key).ok().filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(KeyError::NotHex("hmac_key"))?;
        let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        Ok(Self { desk, config, base, issuer, hmac_key, state: Mutex::default() })
    }

    /// What `inbound` asks for, before it is known whether it may.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let route = Route::of(&inbound.method, &inbound.path);
        let name = match route {
            Route::Nowhere => "",
            _ => inbound.path.split("/v72/").nth(1).unwrap_or("threeDS"),
        };
        let name = name.split('/').next_back().unwrap_or_default();
        let reference = || {
            let body: Value = serde_json::from_slice(&inbound.body).ok()?;
            body["reference"].as_str().map(str::to_owned).filter(|text| !text.is_empty())
        };
        let op_id = inbound.header(KEY).map(str::to_owned).or_else(reference);
        Call {
            operation: route.operation(),
            name: name.into(),
            op_id: op_id.map(|id| clipped(&id, 200)),
        }
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
            Route::Challenge(session) => return self.challenge_page(session),
            Route::Nowhere => return Answer::empty(404),
            _ => {}
        }
        if inbound.header("x-api-key") != Some(&self.config.api_key) {
            return problem(401, "000", "security");
        }
        let Ok(body) = serde_json::from_slice::<Value>(&inbound.body) else {
            return problem(400, "702", "validation");
        };
        let foreign = route != Route::Details
            && body["merchantAccount"].as_str() != Some(&self.config.merchant_account);
        if foreign {
            return problem(403, "901", "security");
        }
        match inbound.header(KEY) {
            Some(key) if key.is_empty() || key.len() > KEY_LENGTH => {
                problem(422, "704", "validation")
            }
            key => self.keyed(&route, key, &body, bend),
        }
    }

    /// The answer to a client that asks too often.
    pub fn limited(&self) -> Answer {
        problem(429, "429", "validation")
    }

    /// The shopper acts on a challenge, or on a payment that is decided later.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(self: &Arc<Self>, op_id: &str, outcome: Outcome) -> Result<Value, &'static str> {
        let mut fx = Effects::default();
        let mut guard = self.state();
        let state = &mut *guard;
        let psp = state.payments.of_op(op_id).map(|p| p.psp.clone()).ok_or("no such payment")?;
        let passes = match outcome {
            Outcome::Passed => Some(true),
            Outcome::Failed => Some(false),
            Outcome::Left => return Ok(json!({ "op_id": op_id, "provider_ref": psp })),
        };
        let payment = state.payments.act(&psp, passes)?.clone();
        if payment.state == Stands::Pending {
            let refusal = (passes == Some(false)).then(|| SOFT.to_owned());
            state.payments.decide(&psp, refusal, &mut fx);
        }
        self.desk.write(moment::now_ms(), std::mem::take(&mut fx.moves));
        drop(guard);
        self.follow(fx);
        Ok(json!({
            "op_id": op_id, "provider_ref": psp,
            "redirect_result": redirect_result(&payment.session),
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

    fn challenge_page(&self, session: &str) -> Answer {
        let known = self.state().payments.of_session(session).is_some();
        let page = "<html><body>3-D Secure: POST /customers/act decides</body></html>";
        if known { Answer::html(200, page) } else { Answer::empty(404) }
    }

    fn keyed(
        self: &Arc<Self>,
        route: &Route<'_>,
        key: Option<&str>,
        body: &Value,
        bend: Bend,
    ) -> Answer {
        let mut fx = Effects::default();
        let mut state = self.state();
        let now = moment::now_ms();
        if let Some(kept) = key.and_then(|key| state.keys.get(key)) {
            if now < kept.busy_until_ms {
                return may_come_again(problem(422, "704", "validation"));
            }
            if now < kept.at_ms.saturating_add(self.config.key_life_ms as i64) {
                return kept.answer.clone();
            }
        }
        let answer = match route {
            Route::Pay => self.pay(&mut state, key, body, bend, &mut fx),
            Route::Details => self.details(&mut state, body, bend, &mut fx),
            Route::Change(psp, change) => {
                self.change(&state, (psp, change), key, body, bend, &mut fx)
            }
            _ => self.cancel_by_reference(&state, key, body, &mut fx),
        };
        // What was executed stays so, whatever becomes of its answer.
        let executed = (200..300).contains(&answer.status);
        let answer = match key {
            Some(key) if executed => {
                let mut answer = answer;
                answer.headers.push(("idempotency-key", key.to_owned()));
                let busy_until_ms = now + bend.busy_ms as i64;
                let kept = Kept { at_ms: now, busy_until_ms, answer: answer.clone() };
                state.keys.insert(key.to_owned(), kept);
                answer
            }
            _ => answer,
        };
        self.desk.write(now, std::mem::take(&mut fx.moves));
        drop(state);
        self.follow(fx);
        answer
    }

    fn pay(
        &self,
        state: &mut State,
        key: Option<&str>,
        body: &Value,
        bend: Bend,
        fx: &mut Effects,
    ) -> Answer {
        let (wish, credential) = match read_wish(key, body) {
            Ok(read) => read,
            Err(code) => return problem(422, code, "validation"),
        };
        let first = wish.fate == Fate::StoreDown && state.turned_away.insert(wish.op_id.clone());
        if first {
            return may_come_again(problem(503, "703", "internal"));
        }
        let forced = bend.decline.map(refusal_of);
        // A forced refusal is the issuer's, so the cryptogram is spent with it.
        let wish = Wish { challenge: wish.challenge && forced.is_none(), ..wish };
        let verdict = || {
            let own = credential.decide(&self.issuer);
            forced.or(own)
        };
        let payment = state.payments.make(wish, verdict, fx);
        if matches!(payment.state, Stands::Challenged(_)) {
            state.waiting.insert(payment.psp.clone(), credential);
            fx.challenges.push(payment.psp.clone());
        }
        Answer::json(200, self.receipt(&payment).to_string())
    }

    fn details(&self, state: &mut State, body: &Value, bend: Bend, fx: &mut Effects) -> Answer {
        let brought = |name: &str| body["details"][name].as_str();
        let result = brought("redirectResult").or(brought("threeDSResult")).unwrap_or_default();
        let session = BASE64.decode(result).ok().and_then(|raw| String::from_utf8(raw).ok());
        let known = session.and_then(|session| state.payments.of_session(&session));
        let Some(psp) = known.map(|payment| payment.psp.clone()) else {
            return problem(422, "14_006", "validation");
        };
        let credential = state.waiting.remove(&psp);
        let verdict = || {
            let own = credential.as_ref().and_then(|c| c.decide(&self.issuer));
            bend.decline.map(refusal_of).or(own)
        };
        match state.payments.finish(&psp, verdict, fx) {
            Some(payment) => Answer::json(200, self.receipt(&payment).to_string()),
            None => problem(422, "14_006", "validation"),
        }
    }

    fn change(
        &self,
        state: &State,
        (psp, change): (&str, &str),
        key: Option<&str>,
        body: &Value,
        bend: Bend,
        fx: &mut Effects,
    ) -> Answer {
        let amount = body["amount"]["value"].as_i64();
        let asked = match (change, amount) {
            ("captures", Some(amount)) => Asked::Capture(amount),
            ("refunds", Some(amount)) => Asked::Refund(amount),
            ("captures" | "refunds", None) => return problem(422, "137", "validation"),
            ("cancels", _) => Asked::Cancel,
            ("reversals", _) => Asked::Reverse,
            _ => return Answer::empty(404),
        };
        if bend.decline == Some(Decline::Hard) {
            return problem(403, "010", "security");
        }
        let reference = body["reference"].as_str().unwrap_or_default().to_owned();
        let op_id = key.map_or_else(|| reference.clone(), str::to_owned);
        let Some(step) = state.payments.accept(psp, asked, op_id, reference) else {
            return problem(422, "167", "validation");
        };
        let step = Step { refused: bend.decline.is_some(), ..step };
        let answer = json!({
            "merchantAccount": self.config.merchant_account,
            "paymentPspReference": psp,
            "pspReference": step.psp,
            "reference": step.reference,
            "status": "received",
        });
        fx.steps.push(step);
        Answer::json(201, answer.to_string())
    }

    fn cancel_by_reference(
        &self,
        state: &State,
        key: Option<&str>,
        body: &Value,
        fx: &mut Effects,
    ) -> Answer {
        let Some(named) = body["paymentReference"].as_str().filter(|text| !text.is_empty()) else {
            return problem(422, "130", "validation");
        };
        let reference = body["reference"].as_str().unwrap_or(named).to_owned();
        let op_id = key.map_or_else(|| reference.clone(), str::to_owned);
        for psp in state.payments.with_reference(named) {
            let asked = Asked::TechnicalCancel;
            fx.steps.extend(state.payments.accept(&psp, asked, op_id.clone(), reference.clone()));
        }
        let answer = json!({
            "merchantAccount": self.config.merchant_account,
            "paymentReference": named,
            "pspReference": fresh(),
            "reference": reference,
            "status": "received",
        });
        Answer::json(201, answer.to_string())
    }

    fn receipt(&self, payment: &Payment) -> Value {
        let wish = &payment.wish;
        let mut receipt = json!({
            "pspReference": payment.psp,
            "merchantReference": wish.reference,
            "amount": { "currency": wish.currency, "value": wish.amount },
        });
        receipt["resultCode"] = match &payment.state {
            Stands::Held => "Authorised",
            Stands::Pending => "Pending",
            Stands::Broken => "Error",
            Stands::Refused(_) => "Refused",
            Stands::Challenged(_) => "RedirectShopper",
        }
        .into();
        match &payment.state {
            Stands::Refused(code) => {
                receipt["refusalReasonCode"] = code.as_str().into();
                receipt["refusalReason"] = "Refused".into();
            }
            Stands::Broken => {
                receipt["refusalReasonCode"] = "4".into();
                receipt["refusalReason"] = "Acquirer Error".into();
            }
            Stands::Challenged(_) => {
                let url = format!("{}/threeDS/{}", self.base, payment.session);
                receipt["action"] = json!({
                    "type": "redirect", "method": "GET", "paymentMethodType": "scheme", "url": url,
                });
            }
            Stands::Held | Stands::Pending => {}
        }
        receipt
    }

    fn follow(self: &Arc<Self>, fx: Effects) {
        if let Some(url) = &self.config.notify_url {
            for event in &fx.events {
                self.desk.courier.send(self.notice(event, url));
            }
        }
        let wait = Duration::from_millis(self.config.action_ms);
        for step in fx.steps {
            let account = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                account.later(|state, fx| state.payments.execute(&step, fx));
            });
        }
        for psp in fx.challenges.into_iter().filter(|_| self.config.challenge_ms > 0) {
            let account = self.clone();
            let wait = Duration::from_millis(self.config.challenge_ms);
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                account.later(|state, fx| state.payments.give_up(&psp, fx));
            });
        }
        for psp in fx.decisions {
            let account = self.clone();
            let wait = Duration::from_millis(self.config.decide_ms);
            if self.config.decide_ms > 0 {
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    account.later(|state, fx| state.payments.decide(&psp, None, fx));
                });
            }
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
        let Event { code, success, psp, reference, amount, currency, .. } = event;
        let original = event.original.clone().unwrap_or_default();
        let account = &self.config.merchant_account;
        let content =
            format!("{psp}:{original}:{account}:{reference}:{amount}:{currency}:{code}:{success}");
        let mut item = json!({
            "additionalData": { "hmacSignature": SEAL },
            "amount": { "currency": currency, "value": amount },
            "eventCode": code,
            "eventDate": moment::rfc3339(moment::now_ms()),
            "merchantAccountCode": account,
            "merchantReference": reference,
            "paymentMethod": event.method,
            "pspReference": psp,
            "reason": if *success { "" } else { "Refused" },
            "success": success.to_string(),
        });
        if event.original.is_some() {
            item["originalReference"] = original.into();
        }
        let body =
            json!({ "live": "false", "notificationItems": [{ "NotificationRequestItem": item }] });
        let signature = BASE64.encode(hmac::sign(&self.hmac_key, content.as_bytes()));
        Notice {
            url: url.into(),
            cause: event.cause,
            content_type: "application/json",
            headers: Vec::new(),
            body: body.to_string(),
            seal: Seal::Within(SEAL, signature),
            wants: Some("[accepted]"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_wish(key: Option<&str>, body: &Value) -> Result<(Wish, Credential), &'static str> {
    let currency = body["amount"]["currency"].as_str().unwrap_or_default();
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err("138");
    }
    let amount = body["amount"]["value"].as_i64().filter(|value| *value > 0).ok_or("137")?;
    let reference = body["reference"].as_str().unwrap_or_default();
    if reference.is_empty() || reference.chars().count() > 80 {
        return Err("130");
    }
    body["returnUrl"].as_str().filter(|url| !url.is_empty()).ok_or("14_030")?;
    let credential = Credential::read(body)?;
    let asks = body["authenticationData"]["attemptAuthentication"] == "always";
    let wish = Wish {
        amount,
        currency: currency.into(),
        automatic: body["additionalData"]["manualCapture"] != "true",
        reference: reference.into(),
        op_id: key.unwrap_or(reference).into(),
        challenge: asks && credential.enrolled,
        fate: credential.fate,
        method: credential.name,
    };
    Ok((wish, credential))
}

/// The issuer's number for a refusal that the dial asks for.
fn refusal_of(decline: Decline) -> String {
    match decline {
        Decline::Soft => SOFT.to_owned(),
        Decline::Hard => HARD.to_owned(),
    }
}

/// What the shopper's browser brings back from a challenge.
fn redirect_result(session: &str) -> String {
    BASE64.encode(session)
}

fn problem(status: u16, code: &str, kind: &str) -> Answer {
    let body = json!({
        "status": status, "errorCode": code, "message": "refused", "errorType": kind,
    });
    Answer::json(status, body.to_string())
}

/// The header by which the provider permits that the same request is sent again.
fn may_come_again(mut answer: Answer) -> Answer {
    answer.headers.push(("transient-error", "true".into()));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_provider_names_them() {
        let of = |method, path| Route::of(method, path);
        assert_eq!(of("POST", "/v72/payments"), Route::Pay);
        assert_eq!(of("POST", "/checkout/v72/payments"), Route::Pay);
        assert_eq!(of("POST", "/v72/payments/details"), Route::Details);
        assert_eq!(of("POST", "/v72/payments/P/captures"), Route::Change("P", "captures"));
        assert_eq!(of("POST", "/v72/cancels"), Route::CancelByReference);
        // There is nothing to ask.
        assert_eq!(of("GET", "/v72/payments/P"), Route::Nowhere);
        assert_eq!(of("POST", "/v71/payments"), Route::Nowhere);
    }
}
