//! What the door says when it refuses: RFC 9457, with the members of the merchant API.

use serde_json::json;

use super::Response;

/// A refusal that the door makes before a handler sees the request, or in place of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable word for programs, also the last part of `type`.
    pub code: &'static str,
    /// The same sentence for every occurrence.
    pub title: &'static str,
    /// What about this request.
    pub detail: &'static str,
    /// `never`, `same_key` or `after:N` (seconds).
    pub retry: &'static str,
}

impl Problem {
    /// The request is not HTTP as this door reads it.
    pub fn malformed(detail: &'static str) -> Problem {
        Problem {
            status: 400,
            code: "invalid_request",
            title: "The request is not valid HTTP/1.1",
            detail,
            retry: "never",
        }
    }

    /// The request did not arrive in time.
    pub fn too_slow() -> Problem {
        Problem {
            status: 408,
            code: "request_timeout",
            title: "The request did not arrive in time",
            detail: "head and body together took too long",
            retry: "same_key",
        }
    }

    /// The body is larger than the door accepts.
    pub fn body_too_large() -> Problem {
        Problem {
            status: 413,
            code: "payload_too_large",
            title: "The request body is too large",
            detail: "the body exceeds the limit of this listener",
            retry: "never",
        }
    }

    /// The request target is longer than the door accepts.
    pub fn target_too_long() -> Problem {
        Problem {
            status: 414,
            code: "uri_too_long",
            title: "The request target is too long",
            detail: "path and query together exceed the limit of this listener",
            retry: "never",
        }
    }

    /// The head is larger, or has more fields, than the door accepts.
    pub fn head_too_large() -> Problem {
        Problem {
            status: 431,
            code: "headers_too_large",
            title: "The request head is too large",
            detail: "the head has too many bytes or too many fields",
            retry: "never",
        }
    }

    /// This client address sends more than its share.
    pub fn too_many_requests() -> Problem {
        Problem {
            status: 429,
            code: "rate_limited",
            title: "Too many requests from this address",
            detail: "the limit of requests per second and address is reached",
            retry: "after:1",
        }
    }

    /// As many requests as the door admits are in flight.
    pub fn overloaded() -> Problem {
        Problem {
            status: 503,
            code: "overloaded",
            title: "Too many requests are in flight",
            detail: "nothing was recorded and nothing was sent",
            retry: "after:1",
        }
    }

    /// A handler failed; whether it had begun to act is not known here.
    pub fn internal() -> Problem {
        Problem {
            status: 500,
            code: "internal",
            title: "The proxy failed to answer",
            detail: "ask again with the same Idempotency-Key",
            retry: "same_key",
        }
    }

    /// The problem document; `instance` is the path, where the request was read so far.
    pub fn response(&self, request_id: &str, instance: Option<&str>) -> Response {
        let mut document = json!({
            "type": format!("https://interlock.dev/problems/{}", self.code.replace('_', "-")),
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retry": self.retry,
            "request_id": request_id,
        });
        if let Some(path) = instance {
            document["instance"] = path.into();
        }
        if self.code == "invalid_request" {
            document["param"] = "request".into();
        }
        let mut headers = vec![("Content-Type", "application/problem+json".to_owned())];
        if let Some(seconds) = self.retry.strip_prefix("after:") {
            headers.push(("Retry-After", seconds.to_owned()));
        }
        let body = document.to_string().into();
        Response { status: self.status, headers, body, stream: None }
    }
}
