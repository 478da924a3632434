//! Merchants who trade through kills: each asks with one key until it is answered, and writes down
//! what it was told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use interlock_tests::house::{House, barcode, fresh, network_token, qr, tokens};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Longer than any restart.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to the house's doors, for a thread of its own.
#[derive(Clone)]
pub struct Street {
    api: String,
    admin: String,
    control: String,
    agent: ureq::Agent,
    /// Payments, refunds and taken notices as they were told since somebody last asked.
    words: Arc<Mutex<Vec<Value>>>,
}

/// One order and what became of it, as its merchant knows it.
pub struct Deal {
    /// The request that makes the payment.
    pub ask: Ask,
    /// Captures, cancels and refunds.
    pub wishes: Vec<Ask>,
    /// Every state of the payment that the merchant was told, in order.
    pub told: Vec<Told>,
}

/// One POST under one key, sent until it is answered.
pub struct Ask {
    /// Where to.
    pub path: String,
    /// The Idempotency-Key.
    pub key: String,
    /// What is asked.
    pub body: Value,
    /// The answers that came, in order: status and body.
    pub answers: Vec<(u16, Value)>,
    /// How often no answer came.
    pub cuts: usize,
    /// How long the shop waits for news, s.
    wait: u32,
}

/// One state of a payment.
#[derive(Clone, Debug)]
pub struct Told {
    /// The payment.
    pub id: String,
    /// Its status.
    pub status: String,
}

impl Street {
    /// The doors of a house.
    pub fn of(house: &House) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(15)))
            .build();
        Self {
            api: house.api.clone(),
            admin: house.admin.clone(),
            control: house.control.clone(),
            agent: agent.into(),
            words: Arc::default(),
        }
    }

    /// Every payment and refund that was told with a 2xx since the last call.
    pub fn words(&self) -> Vec<Value> {
        std::mem::take(&mut self.words.lock().expect("no shop panics with the book open"))
    }

    fn heard(&self, (status, body): &(u16, Value)) {
        if *status < 300 && matches!(body["object"].as_str(), Some("payment" | "refund")) {
            let word = json!({
                "object": body["object"], "id": body["id"], "status": body["status"],
            });
            self.words.lock().expect("no shop panics with the book open").push(word);
        }
    }

    /// GET of the merchant API, until it is answered.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let end = Instant::now() + PATIENCE;
        loop {
            let request = self.agent.get(format!("{}{path}", self.api));
            if let Ok(answer) = request.header("Authorization", "Bearer test_key_1").call()
                && let Some(read) = read(answer).filter(is_of_the_house)
            {
                self.heard(&read);
                return read;
            }
            assert!(Instant::now() < end, "no answer: {path}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The merchant's payments by their ids, page by page; `filter` is more of the query.
    pub fn payments(&self, filter: &str) -> BTreeMap<String, Value> {
        let mut payments = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let (status, page) = self.get(&format!("/v1/payments?limit=100{filter}{cursor}"));
            assert_eq!(status, 200, "{page}");
            for p in page["data"].as_array().expect("a list") {
                payments.insert(p["id"].as_str().expect("an id").to_owned(), p.clone());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return payments,
            }
        }
    }

    /// POST to the sandbox's control; what it says.
    pub fn control(&self, path: &str, body: &Value) -> u16 {
        let url = format!("{}{path}", self.control);
        let request = self.agent.post(url).header("Content-Type", "application/json");
        request.send(body.to_string()).map_or(0, |a| a.status().as_u16())
    }

    /// The same, and what is answered.
    pub fn controlled(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("{}{path}", self.control));
        let answer = request.header("Content-Type", "application/json").send(body.to_string());
        answer.ok().and_then(read).map_or(Value::Null, |(_, body)| body)
    }

    /// POST to the operators' door.
    pub fn operate(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.agent.post(format!("{}{path}", self.admin));
        read(request.header("Content-Type", "application/json").send(body.to_string()).ok()?)
    }

    /// A notification that a provider's signature comes with; its answer's status.
    pub fn notify(&self, account: &str, id: &str, body: &str, signature: &str) -> Option<u16> {
        let request = self.agent.post(format!("{}/v1/notifications/{account}", self.api));
        let request = request.header("Content-Type", "application/json");
        let answer = request.header("cko-signature", signature).send(body).ok()?;
        let status = answer.status().as_u16();
        // One about nobody is refused, and kept all the same.
        if matches!(status, 200 | 404) {
            let word = json!({ "object": "notice", "account": account, "id": id });
            self.words.lock().expect("no shop panics with the book open").push(word);
        }
        Some(status)
    }

    /// Every movement of money at an account under this number of ours, in order.
    pub fn movements(&self, account: &str, op_id: &str) -> Vec<Value> {
        let url = format!("{}/ledger?account={account}", self.control);
        let ledger = self.agent.get(url).call().ok().and_then(read).map(|(_, list)| list);
        let ledger = ledger.and_then(|l| l.as_array().cloned()).unwrap_or_default();
        ledger.into_iter().filter(|entry| entry["op_id"] == op_id).collect()
    }

    fn post(&self, ask: &Ask) -> Option<(u16, Value)> {
        let request = self.agent.post(format!("{}{}", self.api, ask.path));
        let request = request
            .header("Authorization", "Bearer test_key_1")
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", &ask.key)
            .header("Prefer", format!("wait={}", ask.wait));
        read(request.send(ask.body.to_string()).ok()?)
    }
}

impl Ask {
    /// A request under a fresh key.
    pub fn new(path: String, body: Value, chance: &mut StdRng) -> Self {
        let wait = chance.random_range(0..4);
        Self { path, key: fresh("crash"), body, answers: Vec::new(), cuts: 0, wait }
    }

    /// Sends it until it is answered, or until the shop closes.
    pub fn insist(&mut self, street: &Street, stop: &AtomicBool) -> Option<(u16, Value)> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = street.post(self).filter(is_of_the_house) {
                street.heard(&answer);
                self.answers.push(answer.clone());
                return Some(answer);
            }
            self.cuts += 1;
            // Kills come faster than some news.
            self.wait = 0;
            if stop.load(Ordering::Acquire) {
                return None;
            }
            assert!(Instant::now() < end, "no answer: {} {}", self.path, self.key);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether any answer was 2xx.
    pub fn accepted(&self) -> bool {
        self.answers.iter().any(|(status, _)| *status < 300)
    }

    /// The last answer that was 2xx.
    pub fn last(&self) -> Option<&Value> {
        self.answers.iter().rfind(|(status, _)| *status < 300).map(|(_, body)| body)
    }
}

impl Deal {
    /// The payment's id, once the merchant was told.
    pub fn id(&self) -> Option<&str> {
        self.told.first().map(|t| t.id.as_str())
    }

    /// Writes down what was told of the payment.
    pub fn hear(&mut self, payment: &Value) {
        if payment["object"] == "payment" {
            let text = |key: &str| payment[key].as_str().unwrap_or("").to_owned();
            self.told.push(Told { id: text("id"), status: text("status") });
        }
    }
}

/// Trades until it is told to stop; gives the book.
pub fn trade(street: &Street, seed: u64, stop: &AtomicBool) -> Vec<Deal> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut deals = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let mut deal = begin(&mut chance);
        if let Some((status, body)) = deal.ask.insist(street, stop)
            && status < 300
        {
            deal.hear(&body);
            go_on(street, &mut deal, body, &mut chance, stop);
        }
        deals.push(deal);
    }
    deals
}

/// What was not answered is asked again with the same key, and some that was, too.
pub fn ask_again(street: &Street, deals: &mut [Deal]) {
    let stop = AtomicBool::new(false);
    for (n, deal) in deals.iter_mut().enumerate() {
        if deal.ask.answers.is_empty() || (n % 7 == 0 && deal.ask.accepted()) {
            deal.ask.wait = 0;
            if let Some((_, body)) = deal.ask.insist(street, &stop) {
                deal.hear(&body);
            }
        }
        for wish in deal.wishes.iter_mut().filter(|w| w.answers.is_empty()) {
            wish.wait = 0;
            wish.insist(street, &stop);
        }
    }
}

/// A code that was scanned and not paid stays payable for hours, so its merchant closes it.
pub fn cancel_open_codes(street: &Street) {
    let stop = AtomicBool::new(false);
    let open = street.payments("&status=requires_action");
    for p in open.values() {
        let path = format!("{}/cancel", path(p));
        let mut ask = Ask { wait: 0, ..Ask::new(path, json!({}), &mut StdRng::seed_from_u64(0)) };
        let (status, answer) = ask.insist(street, &stop).expect("it is answered");
        // Paid or expired in the same moment is no wrong either.
        assert!(status < 300 || answer["code"] == "invalid_state", "{status} {answer}");
    }
}

fn begin(chance: &mut StdRng) -> Deal {
    let amount = chance.random_range(100..100_000);
    let currency = ["EUR", "USD"][chance.random_range(0..2)];
    let mut body = match chance.random_range(0..10) {
        0..3 => qr(amount),
        3..6 => barcode(amount, ["01", "01", "01", "03", "04", "06"][chance.random_range(0..6)]),
        6..8 => network_token(amount, currency),
        _ => tokens(amount, currency),
    };
    if body["method"]["type"] == "card" && chance.random_bool(0.4) {
        body["capture"] = json!("manual");
    }
    let mut ask = Ask::new("/v1/payments".into(), body, chance);
    // So that a list of all payments says which key made which.
    ask.body["metadata"] = json!({ "key": ask.key });
    Deal { ask, wishes: Vec::new(), told: Vec::new() }
}

/// What a merchant does after the first answer.
fn go_on(street: &Street, deal: &mut Deal, mut p: Value, chance: &mut StdRng, stop: &AtomicBool) {
    let id = p["id"].as_str().expect("a payment has an id").to_owned();
    for _ in 0..3 {
        match p["status"].as_str().expect("a payment has a status") {
            "requires_action" => at_the_code(street, deal, &p, chance, stop),
            "requires_capture" => at_the_hold(street, deal, &p, chance, stop),
            "succeeded" => after_the_sale(street, deal, &p, chance, stop),
            _ => {}
        }
        if stop.load(Ordering::Acquire) {
            return;
        }
        let (status, now) = street.get(&format!("/v1/payments/{id}"));
        assert_eq!(status, 200, "an acknowledged payment is known: {id} {now}");
        deal.hear(&now);
        p = now;
    }
    if chance.random_bool(0.2)
        && let Some((status, again)) = deal.ask.insist(street, stop)
    {
        assert!(status < 300, "a key that was accepted stays so: {id} {again}");
        deal.hear(&again);
    }
}

fn at_the_code(street: &Street, deal: &mut Deal, p: &Value, c: &mut StdRng, stop: &AtomicBool) {
    let act = match c.random_range(0..10) {
        0..6 => "pay",
        6 => "abandon",
        7 => "fail",
        8 => return wish(street, deal, format!("{}/cancel", path(p)), json!({}), c, stop),
        _ => return,
    };
    let (account, code) = (&p["account"], &p["next_action"]["qr_code"]);
    street.control("/customers/act", &json!({ "account": account, "qr_code": code, "act": act }));
    std::thread::sleep(Duration::from_millis(c.random_range(0..150)));
}

fn at_the_hold(street: &Street, deal: &mut Deal, p: &Value, c: &mut StdRng, stop: &AtomicBool) {
    let amount = p["amount"].as_i64().expect("whole minor units");
    match c.random_range(0..10) {
        0..5 => wish(street, deal, format!("{}/capture", path(p)), json!({}), c, stop),
        5..7 => {
            let body = json!({ "amount": amount / 2 });
            wish(street, deal, format!("{}/capture", path(p)), body, c, stop);
        }
        7..9 => wish(street, deal, format!("{}/cancel", path(p)), json!({}), c, stop),
        _ => {}
    }
}

fn after_the_sale(street: &Street, deal: &mut Deal, p: &Value, c: &mut StdRng, stop: &AtomicBool) {
    let mut body = json!({ "payment": p["id"] });
    match c.random_range(0..10) {
        0..3 => {}
        3..5 => body["amount"] = json!(p["amount"].as_i64().expect("minor units") / 3),
        _ => return,
    }
    wish(street, deal, "/v1/refunds".into(), body, c, stop);
}

/// One more request about a payment, sent until it is answered.
pub fn wish(
    street: &Street,
    deal: &mut Deal,
    path: String,
    body: Value,
    chance: &mut StdRng,
    stop: &AtomicBool,
) {
    let mut ask = Ask::new(path, body, chance);
    if let Some((status, answer)) = ask.insist(street, stop)
        && status < 300
    {
        deal.hear(&answer);
    }
    deal.wishes.push(ask);
}

/// Where a payment is.
pub fn path(p: &Value) -> String {
    format!("/v1/payments/{}", p["id"].as_str().expect("an id"))
}

/// A door that closes says that nothing happened, and that one may ask again.
fn is_of_the_house((_, body): &(u16, Value)) -> bool {
    body["code"] != "overloaded"
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> Option<(u16, Value)> {
    let body = answer.body_mut().read_to_vec().ok()?;
    Some((answer.status().as_u16(), serde_json::from_slice(&body).ok()?))
}
