//! What a merchant and an operator ask of the house, over HTTP.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Answer, House, fresh};

impl House {
    /// Makes a payment with a fresh key and waits up to 30 s for its end.
    pub fn pay(&self, body: &Value) -> Answer {
        self.pay_with_key(&fresh("key"), body)
    }

    /// Makes a payment with this key.
    pub fn pay_with_key(&self, key: &str, body: &Value) -> Answer {
        self.post("/v1/payments", key, body)
    }

    /// Makes a payment with a fresh key and waits so many seconds for its end.
    pub fn pay_within(&self, body: &Value, seconds: u32) -> Answer {
        self.post_within("/v1/payments", &fresh("key"), body, seconds)
    }

    /// POST to the merchant API.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.post_within(path, key, body, 30)
    }

    /// POST to the merchant API that waits so many seconds for an end.
    pub fn post_within(&self, path: &str, key: &str, body: &Value, seconds: u32) -> Answer {
        let wait = format!("wait={seconds}");
        let headers = [("Idempotency-Key", key), ("Prefer", wait.as_str())];
        let url = format!("{}{path}", self.api);
        self.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
    }

    /// GET of the merchant API.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("{}{path}", self.api), &[], None)
    }

    /// The payment as it stands.
    pub fn payment(&self, id: &str) -> Answer {
        self.get(&format!("/v1/payments/{id}"))
    }

    /// Waits until a payment is as wanted.
    pub fn wait_for(&self, id: &str, within: Duration, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + within;
        loop {
            let answer = self.payment(id);
            if wanted(&answer) {
                return answer;
            }
            if Instant::now() > end {
                let timeline = self.get(&format!("/v1/payments/{id}/timeline"));
                unreachable!("{id} did not become as wanted: {answer:?}\n{:#}", timeline.json);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Any request with the merchant's key; `Authorization` in `headers` replaces it.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        self.try_send(method, url, headers, body).expect("an answer")
    }

    /// As [`House::send`]; `None` when no answer came.
    pub fn try_send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Option<Answer> {
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("authorization") {
            request = request.header("Authorization", "Bearer test_key_1");
        }
        if body.is_some() && !given("content-type") {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers.iter().filter(|(_, v)| !v.is_empty()) {
            request = request.header(*name, *value);
        }
        let request = request.body(body.unwrap_or_default().to_vec()).expect("a request");
        let mut answer = self.agent.run(request).ok()?;
        let headers = answer
            .headers()
            .iter()
            .map(|(n, v)| (n.as_str().to_owned(), v.to_str().unwrap_or("").to_owned()))
            .collect();
        let status = answer.status().as_u16();
        // The books of a long run are longer than what an agent reads by itself.
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec().ok()?;
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Some(Answer { status, headers, json, body })
    }

    /// A request to the operators' door; a change without a body sends an empty object, because
    /// that door takes changes as JSON only.
    pub fn operate(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let empty = (method == "POST").then(|| json!({}));
        let body = body.or(empty.as_ref()).map(Value::to_string);
        self.send(method, &format!("{}{path}", self.admin), &[], body.as_deref().map(str::as_bytes))
    }

    /// How many payments the journal holds.
    pub fn journalled(&self) -> u64 {
        let status = self.operate("GET", "/admin/v1/status", None);
        status["journal"]["payments"].as_u64().expect("the journal counts payments")
    }

    /// What Prometheus reads.
    pub fn metrics(&self) -> String {
        let answer = self.operate("GET", "/metrics", None);
        String::from_utf8(answer.body).expect("metrics are text")
    }

    /// The sum of a metric's lines that carry all these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |line: &str| {
            labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
        };
        let text = self.metrics();
        let ours = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        ours.filter(|line| carries(line)).filter_map(value).sum()
    }

    pub(super) fn try_get(&self, url: &str) -> Option<Answer> {
        self.try_send("GET", url, &[], None)
    }
}

/// Sends the same kind of request from so many threads at once; answers in their order.
pub fn at_once(count: usize, ask: impl Fn(usize) -> Answer + Sync) -> Vec<Answer> {
    let start = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|n| {
                let (start, ask) = (&start, &ask);
                scope.spawn(move || {
                    start.wait();
                    ask(n)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("a thread answers")).collect()
    })
}

pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .max_idle_connections(256)
        .max_idle_connections_per_host(128)
        .build()
        .into()
}
