//! Small JSON requests to the proxy and the sandbox, as a merchant's server would send them.

use std::time::Duration;

use serde_json::Value;

/// An answer, whatever its status.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, or null when it is no JSON.
    pub body: Value,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
}

/// A client of one server on this machine. Clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    bearer: Option<String>,
}

impl Client {
    /// Talks to `base`, such as `http://127.0.0.1:8080`, with `bearer` when given.
    pub fn new(base: &str, bearer: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(40)))
            .max_idle_connections(256)
            .max_idle_connections_per_host(256)
            .build();
        Self {
            agent: config.into(),
            base: base.into(),
            bearer: bearer.map(|key| format!("Bearer {key}")),
        }
    }

    /// GET of `path`.
    ///
    /// # Errors
    /// When no answer came.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        let mut request = self.agent.get(self.url(path));
        if let Some(bearer) = &self.bearer {
            request = request.header("Authorization", bearer);
        }
        self.read(path, request.call())
    }

    /// The text of `path`, when it is answered with 200.
    pub fn text(&self, path: &str) -> Option<String> {
        let mut response = self.agent.get(self.url(path)).call().ok()?;
        (response.status().as_u16() == 200).then(|| response.body_mut().read_to_string().ok())?
    }

    /// DELETE of `path`.
    ///
    /// # Errors
    /// When no answer came.
    pub fn delete(&self, path: &str) -> Result<Answer, String> {
        self.read(path, self.agent.delete(self.url(path)).call())
    }

    /// POST of `body` to `path`, under an idempotency key when given.
    ///
    /// # Errors
    /// When no answer came.
    pub fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Result<Answer, String> {
        let mut request = self.agent.post(self.url(path));
        request = request.header("Content-Type", "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header("Authorization", bearer);
        }
        if let Some(key) = key {
            // Half the default, so that a hanging provider shows as `processing` and not as a
            // merchant who waits.
            request = request.header("Idempotency-Key", key).header("Prefer", "wait=5");
        }
        self.read(path, request.send(body.to_string()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn read(
        &self,
        path: &str,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, String> {
        let unanswered = |why: ureq::Error| format!("no answer from {}{path}: {why}", self.base);
        let mut response = response.map_err(unanswered)?;
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|v| v.to_str().ok()?.parse().ok());
        // A ledger of a long demo is larger than the default limit of 10 MB.
        let body = response.body_mut().with_config().limit(512 << 20);
        let text = body.read_to_string().map_err(unanswered)?;
        Ok(Answer {
            status: response.status().as_u16(),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            retry_after,
        })
    }
}
