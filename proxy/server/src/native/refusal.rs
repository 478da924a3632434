//! What a merchant's SDK hears when we do not, or can't, pass its request on (RFC 9457). It always
//! says whether the provider may have received it.

use interlock_engine::Skip;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};
use serde_json::json;

use crate::access::Scope;

/// A refusal, or a loss.
pub(super) struct Refusal {
    pub(super) status: u16,
    code: &'static str,
    title: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
    /// The provider may have received the request.
    sent: bool,
}

impl Refusal {
    fn new(status: u16, code: &'static str, title: &'static str, detail: String) -> Self {
        Self { status, code, title, detail, retry_after_s: None, sent: false }
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send the merchant's API key in `X-Interlock-Key`, or show its client \
                      certificate"
            .to_owned();
        Self::new(401, "unauthorized", "The API key is missing or not known", detail)
    }

    pub(super) fn out_of_scope(key: &str) -> Self {
        let detail = format!("the key `{key}` lacks the scope `{}`", Scope::Native.as_str());
        Self::new(403, "forbidden", "This is not allowed", detail)
    }

    pub(super) fn unknown_account(name: &str) -> Self {
        let shown: String = name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let detail = format!("no account of this name serves: {shown}");
        Self::new(404, "not_found", "Not found", detail)
    }

    pub(super) fn upgrade() -> Self {
        let detail = "another protocol than HTTP/1.1 is not passed on".to_owned();
        Self::new(400, "invalid_request", "The request can't be read", detail)
    }

    pub(super) fn too_large() -> Self {
        let detail = "the body exceeds the limit of this listener".to_owned();
        Self::new(413, "payload_too_large", "The request body is too large", detail)
    }

    fn too_slow() -> Self {
        let detail = "head and body together took too long".to_owned();
        Self::new(408, "request_timeout", "The request did not arrive in time", detail)
    }

    pub(super) fn rate_limited(wait_ms: u64) -> Self {
        let seconds = wait_ms.div_ceil(1_000).max(1);
        let detail = format!("the merchant's limit is used up; try again in {seconds} s");
        let refusal = Self::new(429, "rate_limited", "Too many requests", detail);
        Self { retry_after_s: Some(seconds), ..refusal }
    }

    pub(super) fn no_place(account: &str, skip: Skip) -> Self {
        let detail = format!("account `{account}` takes no request now: {}", skip.as_str());
        let title = "The account can't take the request";
        let refusal = Self::new(503, "no_account_available", title, detail);
        Self { retry_after_s: Some(1), ..refusal }
    }

    /// What became of a request that could not be passed on.
    pub(super) fn of(error: &Error, connected: bool) -> Self {
        let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
        match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(413), _) => Self { sent: connected, ..Self::too_large() },
            (ErrorType::HTTPStatus(408), _) => Self { sent: connected, ..Self::too_slow() },
            (ErrorType::ReadTimedout, ErrorSource::Downstream) => {
                Self { sent: connected, ..Self::too_slow() }
            }
            (_, ErrorSource::Downstream) => {
                let detail = "the request did not arrive whole".to_owned();
                let refusal =
                    Self::new(400, "invalid_request", "The request can't be read", detail);
                Self { sent: connected, ..refusal }
            }
            _ if !connected => {
                let detail = "no byte of it was sent; it is safe to send it again".to_owned();
                let title = "The provider can't be reached";
                Self::new(502, "provider_unreachable", title, detail)
            }
            _ => {
                let detail = "the provider may have received it: ask it, by the same idempotency \
                              key or order number, before you send anything else"
                    .to_owned();
                let (status, title) = if timed_out {
                    (504, "The provider did not answer in time")
                } else {
                    (502, "The provider's answer was lost")
                };
                let refusal = Self::new(status, "outcome_unknown", title, detail);
                Self { sent: true, ..refusal }
            }
        }
    }

    pub(super) async fn write(&self, session: &mut Session) -> pingora::Result<()> {
        let retry = match (self.sent, self.retry_after_s) {
            (true, _) => "same_key".to_owned(),
            (false, Some(seconds)) => format!("after:{seconds}"),
            (false, None) if self.status >= 500 => "same_key".to_owned(),
            (false, None) => "never".to_owned(),
        };
        let body = json!({
            "type": format!("https://interlock.dev/problems/{}", self.code.replace('_', "-")),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retry": retry,
            "sent": if self.sent { "maybe" } else { "no" },
        });
        let body = body.to_string();
        let mut head = ResponseHeader::build(self.status, Some(4))?;
        head.insert_header("Content-Type", "application/problem+json")?;
        head.insert_header("Content-Length", body.len().to_string())?;
        if let Some(seconds) = self.retry_after_s {
            head.insert_header("Retry-After", seconds.to_string())?;
        }
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(body.into()), true).await
    }
}
