//! The merchant: a few tills that each send one payment after another and write down the answers.
//!
//! What it sends to a general proxy is the provider's own request, as it would without Interlock;
//! the same reference and idempotency key travel with every copy that the proxy makes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::judge::{AMOUNT, Said, Sale};

/// How long the merchant waits for an answer; longer than any proxy tries.
const PATIENCE: Duration = Duration::from_secs(15);

/// How much is traded in one cell.
#[derive(Clone, Copy, Debug)]
pub struct Trade {
    /// Payments before the fault.
    pub before: usize,
    /// Payments while it stands.
    pub during: usize,
    /// Tills that trade at once.
    pub tills: usize,
    /// Between an answer and the next payment of one till.
    pub pause: Duration,
}

impl Trade {
    /// Sends all payments; `turn` breaks the account between the first ones and the rest.
    pub fn run(
        &self,
        pay: impl Fn(String) -> Sale + Sync,
        name: &str,
        turn: impl FnOnce(&[Sale]),
    ) -> Vec<Sale> {
        let mut book = self.some(self.before, &pay, &format!("{name}-before"));
        turn(&book);
        book.extend(self.some(self.during, &pay, &format!("{name}-during")));
        book
    }

    fn some(&self, count: usize, pay: &(impl Fn(String) -> Sale + Sync), name: &str) -> Vec<Sale> {
        let next = AtomicUsize::new(0);
        let till = || {
            let mut book = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return book;
                }
                book.push(pay(format!("{name}-{n}")));
                std::thread::sleep(self.pause);
            }
        };
        std::thread::scope(|scope| {
            let tills: Vec<_> = (0..self.tills).map(|_| scope.spawn(till)).collect();
            tills.into_iter().flat_map(|till| till.join().expect("a till's book")).collect()
        })
    }
}

/// The merchant's HTTP client. It never sends anything twice by itself, and each payment has a
/// connection of its own, so that every failure that it sees is the proxy's.
pub struct Line {
    agent: ureq::Agent,
}

impl Line {
    /// A client.
    pub fn new() -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .build()
            .into();
        Self { agent }
    }

    /// One request; status and body, or `None` when no answer came.
    pub fn ask(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.header("Content-Type", "application/json").body(body);
        let mut answer = self.agent.run(request.expect("a request")).ok()?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().read_to_vec().ok()?;
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// Pays by the provider's own request.
pub fn pay_provider(line: &Line, url: &str, key: &str, accounts: &[&str], name: String) -> Sale {
    let body = json!({
        "source": { "type": "id", "id": "src_stored" },
        "amount": AMOUNT, "currency": "EUR", "reference": name, "capture": true,
    });
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Cko-Idempotency-Key", name.as_str())];
    let said = match line.ask("POST", &format!("{url}/payments"), &headers, Some(&body)) {
        Some((200..300, _)) => Said::Paid,
        Some(_) => Said::Failed,
        None => Said::Nothing,
    };
    let entries = accounts.iter().map(|account| ((*account).to_owned(), name.clone())).collect();
    Sale { reference: name, id: None, said, later: false, entries }
}

/// Interlock's door, as its merchant sees it.
pub struct Shop<'a> {
    /// The client.
    pub line: &'a Line,
    /// `http://HOST:PORT` of the merchant API.
    pub api: &'a str,
}

const BEARER: (&str, &str) = ("Authorization", "Bearer test_key_1");

impl Shop<'_> {
    /// Pays by one request to the merchant API, and waits 2 s at most for its end.
    pub fn pay(&self, name: String) -> Sale {
        let mut body = interlock_tests::house::tokens(AMOUNT, "EUR");
        body["merchant_ref"] = json!(name);
        let headers = [BEARER, ("Idempotency-Key", &name), ("Prefer", "wait=2")];
        let url = format!("{}/v1/payments", self.api);
        let answer = self.line.ask("POST", &url, &headers, Some(&body));
        let (said, id, entries) = match &answer {
            Some((200..300, payment)) => heard(payment),
            Some(_) => (Said::Failed, None, Vec::new()),
            None => (Said::Nothing, None, Vec::new()),
        };
        Sale { reference: name, id, said, later: false, entries }
    }

    /// Hears the last word about every payment that had none, or was given no name, by `end`.
    pub fn ask_again(&self, book: &mut [Sale], end: Instant) {
        for sale in book.iter_mut().filter(|sale| sale.said != Said::Paid) {
            let first = sale.said;
            loop {
                self.ask_about(sale);
                if sale.said != Said::Nothing || sale.id.is_none() || Instant::now() > end {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            sale.later = first == Said::Nothing && sale.said != Said::Nothing;
        }
    }

    fn ask_about(&self, sale: &mut Sale) {
        let found = match &sale.id {
            Some(id) => {
                self.line.ask("GET", &format!("{}/v1/payments/{id}", self.api), &[BEARER], None)
            }
            None => {
                let url = format!("{}/v1/payments?merchant_ref={}", self.api, sale.reference);
                let listed = self.line.ask("GET", &url, &[BEARER], None);
                // What was refused was not journalled, so it may not be there.
                listed.map(|(status, list)| (status, list["data"][0].clone()))
            }
        };
        if let Some((200, payment)) = found
            && payment["id"].is_string()
        {
            (sale.said, sale.id, sale.entries) = heard(&payment);
        }
    }
}

/// The last word of a payment, its name, and the numbers under which it was tried.
fn heard(payment: &Value) -> (Said, Option<String>, Vec<(String, String)>) {
    let said = match payment["status"].as_str() {
        Some("succeeded") => Said::Paid,
        Some("failed" | "canceled") => Said::Failed,
        _ => Said::Nothing,
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attempts = payment["attempts"].as_array().cloned().unwrap_or_default();
    let entries = attempts.iter().map(|a| (text(&a["account"]), text(&a["op_id"]))).collect();
    (said, payment["id"].as_str().map(str::to_owned), entries)
}
