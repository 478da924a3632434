//! What most operations of most providers are: one request and its answer.

use serde::{Deserialize, Serialize};

use crate::{Class, Cx, Event, Fact, Fault, Send, Step};

/// The continuation of an operation with one request: whether it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    sent: bool,
}

/// One request and its answer. `build` makes the request, with its raw body; `read` says what an
/// answer means, from its status and its raw body. A lost answer is unknown: only the host knows
/// whether a byte left.
///
/// # Errors
/// `build`'s own fault; an event that was not asked for.
pub fn exchange(
    cx: &Cx<'_>,
    state: Sent,
    event: &Event,
    build: impl FnOnce() -> Result<(Send, Vec<u8>), Fault>,
    read: impl FnOnce(u16, &[u8]) -> Fact,
) -> Result<Step<Sent>, Fault> {
    match event {
        Event::Start => {
            let (send, body) = build()?;
            Ok(Step::send(send, body, Sent { sent: true }))
        }
        Event::Response { status, .. } if state.sent => Ok(Step::done(read(*status, cx.body))),
        Event::Transport { reason, .. } => Ok(Step::done(Fact::unknown(reason.as_str()))),
        _ => Err(Fault::input("this event was not asked for")),
    }
}

impl Fact {
    /// An answer that says nothing but its status: unknown, with what breakers can hear in it.
    ///
    /// ```
    /// use interlock_plugin_api::{Class, Fact, What};
    /// let fact = Fact::unanswered(502);
    /// assert_eq!((fact.what, fact.class), (What::Unknown, Some(Class::ProviderDown)));
    /// assert_eq!(fact.provider_code.as_deref(), Some("http_502"));
    /// ```
    pub fn unanswered(status: u16) -> Self {
        let class = match status {
            401 | 403 => Class::AccountRestricted,
            429 => Class::RateLimited,
            500.. => Class::ProviderDown,
            _ => Class::Unmapped,
        };
        Self { class: Some(class), ..Self::unknown(format!("http_{status}")) }
    }
}

impl Send {
    /// A request to an endpoint of the manifest's `hosts`: named, never an address.
    ///
    /// ```
    /// use interlock_plugin_api::Send;
    /// let send = Send::to("POST", "api", "/payments")
    ///     .header("authorization", "Bearer {secret:key}")
    ///     .query("expand", "source");
    /// assert_eq!((send.endpoint.as_str(), send.headers.len()), ("api", 1));
    /// ```
    pub fn to(method: &str, endpoint: &str, path: impl Into<String>) -> Self {
        let (method, endpoint, path) = (method.into(), endpoint.into(), path.into());
        Self { method, endpoint, path, ..Self::default() }
    }

    /// The same request with one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same request with one more pair in its query.
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }
}

/// Whether a provider's number can stand in a path, where the host encodes nothing: letters,
/// digits, `_` and `-`, at most 200.
///
/// ```
/// use interlock_plugin_api::is_path_segment;
/// assert!(is_path_segment("pay_01JD5Z3F"));
/// assert!(!is_path_segment("../refunds"));
/// ```
pub fn is_path_segment(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=200).contains(&text.len()) && text.bytes().all(fits)
}
