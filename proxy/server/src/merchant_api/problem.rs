//! The problems of the merchant API (RFC 9457): what is wrong, where, and whether to try again.
//!
//! An HTTP error always means that nothing was journalled and nothing was sent.

use interlock_engine::Refusal;
use interlock_journal::{Health, StoreError};
use interlock_plugin_api::Class;
use serde_json::{Map, Value, json};

use crate::access::Scope;
use crate::driver::DriveError;
use crate::front_door::Response;
use crate::wallets::NotOpened;

/// Who asks while a journal is restored asks again after this, s.
const RESTORING_S: u64 = 30;

/// One problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: String,
    retry: Retry,
    allow: Option<&'static str>,
    more: Map<String, Value>,
}

/// The only question that the caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Never,
    SameKey,
    AfterS(u64),
}

impl Problem {
    /// 400: the request can't be read; `param` is the member or header.
    pub fn invalid(param: &str, detail: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", "The request can't be read", detail).with("param", param)
    }

    /// 422: the request can be read and can't be accepted.
    pub fn unprocessable(param: &str, detail: impl Into<String>) -> Self {
        Self::new(422, "unprocessable", "A value can't be accepted", detail).with("param", param)
    }

    /// 400: a POST without its key.
    pub fn key_missing() -> Self {
        let detail = "send an Idempotency-Key header, so that the request can be repeated safely";
        Self::new(400, "idempotency_key_missing", "Idempotency-Key is missing", detail)
    }

    /// 422: the key stands for another request.
    pub fn key_reused() -> Self {
        let detail =
            "this key was first used with another content; use a new key for a new request";
        let title = "Idempotency-Key was used for a different request";
        Self::new(422, "idempotency_key_reused", title, detail)
    }

    /// 401: nobody we know.
    pub fn unauthorized() -> Self {
        let detail = "send `Authorization: Bearer` with the merchant's API key";
        Self::new(401, "unauthorized", "The API key is missing or not known", detail)
    }

    /// 401 of the operators' door.
    pub fn no_token() -> Self {
        let detail = "send `Authorization: Bearer` with an operator's token";
        Self::new(401, "unauthorized", "The token is missing or not known", detail)
    }

    /// 403: known, but not for this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "forbidden", "This is not allowed", detail)
    }

    /// 403: a merchant's key without the scope that the request needs.
    pub fn out_of_scope(key: &str, scope: Scope) -> Self {
        let scope = scope.as_str();
        Self::forbidden(format!("the key `{key}` lacks the scope `{scope}`")).with("scope", scope)
    }

    /// 404.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", "Not found", format!("there is no such {what}"))
    }

    /// 405.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("this path takes {allowed}");
        let problem = Self::new(405, "method_not_allowed", "Method not allowed", detail);
        Self { allow: Some(allowed), ..problem }
    }

    /// 415.
    pub fn unsupported_media_type() -> Self {
        let detail = "send `Content-Type: application/json`";
        Self::new(415, "unsupported_media_type", "The body is not JSON", detail)
    }

    /// 429, with how long to wait, ms.
    pub fn rate_limited(wait_ms: u64) -> Self {
        let seconds = wait_ms.div_ceil(1_000).max(1);
        let detail = format!("the merchant's limit is used up; try again in {seconds} s");
        Self::new(429, "rate_limited", "Too many requests", detail).retry(Retry::AfterS(seconds))
    }

    /// Nothing was taken up: the configuration can't be used (422), or it is not the time (409).
    pub fn not_reloaded(invalid: bool, detail: String) -> Self {
        let title = "The configuration was not taken up";
        match invalid {
            true => Self::new(422, "invalid_configuration", title, detail),
            false => Self::new(409, "invalid_state", title, detail),
        }
    }

    /// 503: the process is too slow, and this is what it spares.
    pub fn overloaded() -> Self {
        let detail = "the proxy has more to do than it can; nothing was journalled or sent";
        Self::new(503, "overloaded", "Too busy", detail).retry(Retry::AfterS(1))
    }

    /// What the journal's health forbids, if anything.
    pub fn of_health(health: &Health) -> Option<Self> {
        match health {
            Health::Writable => None,
            Health::LowDisk => Some(Self::storage_full()),
            Health::Failed(_) => Some(Self::journal_failed()),
        }
    }

    /// What the engine refuses.
    pub fn of_refusal(refusal: &Refusal, status: Option<&str>) -> Self {
        match refusal {
            Refusal::NoAccountAvailable { route, skips } => {
                let accounts: Map<String, Value> = skips
                    .iter()
                    .map(|(name, skip)| (name.clone(), Value::from(skip.as_str())))
                    .collect();
                let detail = match route {
                    Some(route) => format!("no account of route `{route}` can take it now"),
                    None => "no route takes this method, currency, amount and country".into(),
                };
                Self::new(503, "no_account_available", "No account is available", detail)
                    .retry(Retry::SameKey)
                    .with("accounts", Value::Object(accounts))
            }
            Refusal::OrderHasLivePayment { payment } => {
                let detail = "the order has a payment that is live or succeeded; \
                              switch that one, or say `another` once it succeeded";
                let title = "The order has a live payment";
                Self::new(409, "order_has_live_payment", title, detail)
                    .with("payment", payment.as_str())
            }
            Refusal::InvalidState { why } => {
                Self::new(409, "invalid_state", "The payment's state does not admit this", *why)
                    .with("status", status)
            }
            Refusal::Unprocessable { param, why } => Self::unprocessable(param, *why),
            Refusal::NotFound => Self::not_found("payment"),
        }
    }

    /// What a wallet did not open; `param` is what it was asked with.
    pub fn of_wallet(why: &NotOpened, param: &str) -> Self {
        const TITLE: &str = "The wallet can't be used now";
        match why {
            NotOpened::NoAccount if !param.starts_with("method.") => Self::not_found("wallet"),
            NotOpened::NoAccount => {
                let detail = "no account opens this wallet; send `form` = `processor` with the \
                              `account` that the token is encrypted to";
                Self::unprocessable("method.type", detail)
            }
            NotOpened::Which(accounts) => {
                let detail = format!("name the account that opens it: {}", accounts.join(", "));
                let of_payment = param.starts_with("method.");
                Self::unprocessable(if of_payment { "method.account" } else { "account" }, detail)
            }
            NotOpened::Refused(class, word) => {
                let detail = match class {
                    _ if !param.starts_with("method.") => "the page can't have a session by it",
                    Class::Expired => "it is too old; ask the shopper to pay again",
                    Class::User => "it was made for another amount or currency",
                    Class::Config => "the wallet's account is not set up for it",
                    _ => "it is not what the wallet gives out; do not try it again",
                };
                Self::unprocessable(param, detail)
                    .with("reason", word.as_str())
                    .with("class", class.as_str())
            }
            NotOpened::Skipped(account, skip) => {
                let detail = format!("account `{account}`: {}", skip.as_str());
                Self::new(503, "wallet_unavailable", TITLE, detail).retry(Retry::SameKey)
            }
            NotOpened::Unheard(account) => {
                let detail = format!(
                    "account `{account}` could not open it; nothing was journalled or sent; ask \
                     again with the same key"
                );
                Self::new(503, "wallet_unavailable", TITLE, detail).retry(Retry::SameKey)
            }
        }
    }

    /// 422: another payment was paid with this wallet's token, or this one was.
    pub fn token_used() -> Self {
        let detail = "it was used for a payment before; ask the shopper to pay again";
        Self::unprocessable("method.token", detail)
            .with("reason", "replayed")
            .with("class", Class::Duplicate.as_str())
    }

    /// What the driver could not do.
    pub fn of_failure(error: &DriveError) -> Self {
        match error {
            DriveError::Store(StoreError::LowDisk | StoreError::Full) => Self::storage_full(),
            DriveError::Restoring => Self::restoring("the providers are asked what happened since"),
            _ => Self::journal_failed(),
        }
    }

    /// 503: the disk is nearly full.
    pub fn storage_full() -> Self {
        let detail = "the journal's disk is nearly full, so no new payment is taken; nothing was \
                      sent; payments in progress go on";
        Self::new(503, "storage_full", "The journal's disk is nearly full", detail)
            .retry(Retry::SameKey)
    }

    /// 503: the journal is a backup, and what this request may repeat is not known yet.
    pub fn restoring(why: &str) -> Self {
        let detail = format!(
            "the journal was restored from a backup, and {why}; nothing was sent; ask again with \
             the same key"
        );
        let title = "The journal is being restored";
        Self::new(503, "restoring", title, detail).retry(Retry::AfterS(RESTORING_S))
    }

    /// 503: the journal can't be used.
    pub fn journal_failed() -> Self {
        let detail = "the journal did not take the request; ask again with the same key";
        Self::new(503, "journal_unavailable", "The journal can't be used", detail)
            .retry(Retry::SameKey)
    }

    /// Its word for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The answer over HTTP.
    pub fn response(&self, instance: &str, request_id: &str) -> Response {
        let retry = match self.retry {
            Retry::Never => "never".to_owned(),
            Retry::SameKey => "same_key".to_owned(),
            Retry::AfterS(seconds) => format!("after:{seconds}"),
        };
        let kind = format!("https://interlock.dev/problems/{}", self.code.replace('_', "-"));
        let mut body = json!({
            "type": kind, "title": self.title, "status": self.status, "detail": self.detail,
            "instance": instance, "code": self.code, "retry": retry, "request_id": request_id,
        });
        if let Value::Object(members) = &mut body {
            members.extend(self.more.clone());
        }
        let mut headers = vec![("Content-Type", "application/problem+json".to_owned())];
        match self.retry {
            Retry::AfterS(seconds) => headers.push(("Retry-After", seconds.to_string())),
            Retry::SameKey => headers.push(("Retry-After", "1".to_owned())),
            Retry::Never => {}
        }
        if let Some(allowed) = self.allow {
            headers.push(("Allow", allowed.to_owned()));
        }
        if self.status == 401 {
            headers.push(("WWW-Authenticate", "Bearer".to_owned()));
        }
        Response { headers, ..Response::json(self.status, body.to_string()) }
    }

    fn new(
        status: u16,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let (retry, allow, more) = (Retry::Never, None, Map::new());
        Self { status, code, title, detail: detail.into(), retry, allow, more }
    }

    fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// With one more member.
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }
}
