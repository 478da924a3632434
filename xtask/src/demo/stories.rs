//! One payment from the merchant's and the shopper's side, as it would happen in a shop.
//!
//! The merchant keeps the rules of the API: every POST has its own idempotency key, and a POST
//! without an answer is sent again under the same key.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::book::{Book, Status};
use super::chance::Chance;
use super::client::{Answer, Client};

const REFUND_AFTER: Duration = Duration::from_millis(500);

/// How a payment is meant to go, drawn from the seed before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    number: u64,
    run: u64,
    amount: i64,
    currency: &'static str,
    method: Value,
    manual: bool,
    /// What the shopper does with what he is shown, and when.
    shopper: (&'static str, Duration),
    after: After,
}

/// What the merchant does after the payment is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    Refund { parts: i64 },
    Capture,
    Cancel,
}

impl Plan {
    /// The payment `number` of run `run`.
    pub fn draw(chance: &mut Chance, number: u64, run: u64) -> Self {
        let amount = chance.between(100, 90_000) as i64;
        let delay = Duration::from_millis(chance.between(100, 1_500));
        let euros = if chance.percent(50) { "EUR" } else { "USD" };
        let currency = if chance.percent(20) { "GBP" } else { euros };
        let refund = match chance.between(1, 100) {
            1..=6 => After::Refund { parts: 1 },
            7..=12 => After::Refund { parts: 2 },
            _ => After::Nothing,
        };
        let plan = |currency, method, shopper, after| Self {
            number,
            run,
            amount,
            currency,
            method,
            manual: matches!(after, After::Capture) || shopper == "hold",
            shopper: (shopper, delay),
            after,
        };
        match chance.between(1, 100) {
            1..=30 => {
                let kind = if chance.percent(35) { "wechat_pay" } else { "alipay" };
                let (shopper, after) = match chance.between(1, 100) {
                    1..=80 => ("pay", refund),
                    81..=88 => ("scan", After::Cancel),
                    _ => ("leave", After::Nothing),
                };
                let method = json!({ "type": kind, "flow": "qr" });
                plan("CNY", method, shopper, after)
            }
            31..=50 => {
                let wechat = chance.percent(35);
                // The sandbox reads the last two digits: waits, is poor, answers 5xx, pays.
                let end = match chance.between(1, 100) {
                    1..=6 => 2,
                    7..=11 => 3,
                    12..=15 => 6,
                    _ => 1,
                };
                let serial = run + number;
                let (kind, code) = if wechat {
                    ("wechat_pay", format!("13{:014}{end:02}", serial % 100_000_000_000_000))
                } else {
                    ("alipay", format!("28{:016}{end:02}", serial % 10_000_000_000_000_000))
                };
                let method = json!({ "type": kind, "flow": "barcode", "auth_code": code });
                plan("CNY", method, "leave", refund)
            }
            51..=60 => {
                let (shopper, after) = match chance.between(1, 100) {
                    1..=75 => ("pay", refund),
                    76..=90 => ("leave", After::Cancel),
                    _ => ("pay", After::Capture),
                };
                let method = json!({ "type": "paypal", "flow": "redirect" });
                plan(currency, method, shopper, after)
            }
            61..=66 => plan(currency, network_token(chance, number), "leave", refund),
            // Its token is made when the shopper agrees, and is good for minutes.
            67..=72 => {
                let kind = ["apple_pay", "google_pay"][chance.between(0, 1) as usize];
                plan(currency, json!({ "type": kind }), "leave", refund)
            }
            73..=88 => plan(currency, all_tokens(number), "leave", refund),
            89..=96 => plan(currency, all_tokens(number), "leave", After::Capture),
            _ => plan(currency, all_tokens(number), "hold", After::Cancel),
        }
    }

    fn key(&self, what: &str) -> String {
        format!("demo-{}-{}-{what}", self.run, self.number)
    }
}

fn network_token(chance: &mut Chance, number: u64) -> Value {
    let source = ["apple_pay", "google_pay", "network"][chance.between(0, 2) as usize];
    // 16 digits whose last four the sandbox does not decline.
    let digits = format!("400000{:06}100", number % 1_000_000);
    let cryptogram: String =
        (0..28).map(|_| char::from(b'A' + chance.between(0, 25) as u8)).collect();
    json!({ "type": "card", "network_token": {
        "number": with_check_digit(&digits), "expiry_month": 12, "expiry_year": 2031,
        "cryptogram": cryptogram, "eci": "05", "source": source,
    } })
}

fn all_tokens(number: u64) -> Value {
    json!({ "type": "card", "tokens": {
        "adyen-eu": format!("M5DEMO{number}"),
        "checkout-eu": format!("src_demo_eu_{number}"),
        "checkout-us": format!("src_demo_us_{number}"),
        "stripe-eu": format!("pm_demo_{number}"),
    } })
}

/// Luhn's check digit put last (ISO/IEC 7812-1).
fn with_check_digit(digits: &str) -> String {
    let value = |(place, digit): (usize, u8)| {
        let digit = u32::from(digit - b'0');
        let doubled = if place % 2 == 0 { digit * 2 } else { digit };
        doubled / 10 + doubled % 10
    };
    let sum: u32 = digits.bytes().rev().enumerate().map(value).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// The shop: whom it talks to, and its book.
pub struct Shop {
    /// The merchant API.
    pub proxy: Client,
    /// Where shoppers act.
    pub control: Client,
    /// What was told.
    pub book: Mutex<Book>,
}

impl Shop {
    /// Lives through `plan`.
    pub fn live(&self, plan: &Plan) {
        let number = self.with_book(|book| book.open(plan.amount, plan.currency));
        let Some(payment) = self.create(plan, number) else { return };
        let id = payment["id"].as_str().unwrap_or_default().to_owned();
        self.shopper(plan, number, &payment);
        match (plan.after, self.status(number)) {
            (After::Refund { parts }, _) => self.refund(plan, number, &id, parts),
            (After::Capture, Status::RequiresCapture) => {
                self.step(plan, number, &format!("/v1/payments/{id}/capture"), "capture");
            }
            (After::Cancel, Status::RequiresCapture | Status::RequiresAction) => {
                self.step(plan, number, &format!("/v1/payments/{id}/cancel"), "cancel");
            }
            _ => {}
        }
    }

    /// Asks for the payment `number` again; with a `refresh`, the proxy asks its provider first.
    pub fn ask(&self, number: usize) {
        let told = self.with_book(|book| book.payments().get(number).cloned());
        let Some(told) = told else { return };
        let Some(id) = &told.id else { return };
        // The shopper of a paid code came back to the shop, which looks.
        let look = if told.status == Status::RequiresAction { "?refresh=true" } else { "" };
        if let Ok(answer) = self.proxy.get(&format!("/v1/payments/{id}{look}")) {
            self.with_book(|book| match answer.status {
                200 => book.told(number, &answer.body),
                404 => book.change(number, |told| told.forgotten = true),
                status => book.complain(said("GET payment", status, &answer.body)),
            });
        }
        for (which, refund) in told.refunds.iter().enumerate() {
            let Some(id) = refund.id.as_ref().filter(|_| refund.status == "processing") else {
                continue;
            };
            match self.proxy.get(&format!("/v1/refunds/{id}")) {
                Ok(answer) if answer.status == 200 => {
                    self.with_book(|book| book.refund_told(number, which, &answer.body));
                }
                Ok(answer) => self.with_book(|book| {
                    book.complain(said("GET refund", answer.status, &answer.body));
                }),
                Err(_) => {}
            }
        }
    }

    /// Looks into the book or writes in it.
    pub fn with_book<T>(&self, how: impl FnOnce(&mut Book) -> T) -> T {
        how(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn status(&self, number: usize) -> Status {
        self.with_book(|book| book.payments()[number].status)
    }

    fn create(&self, plan: &Plan, number: usize) -> Option<Value> {
        let method = self.method(plan)?;
        let body = json!({
            "amount": plan.amount, "currency": plan.currency,
            "capture": if plan.manual { "manual" } else { "automatic" },
            "method": method,
            "merchant_ref": format!("ord-{}-{}", plan.run, plan.number),
            "description": format!("Order {}", plan.number),
            "return_url": "https://shop.example/thanks",
            "customer": { "id": "c_12", "country": "CN" }, "metadata": {},
        });
        let began = Instant::now();
        let answer = self.insist("/v1/payments", &plan.key("pay"), &body)?;
        let latency_ms = began.elapsed().as_millis() as u64;
        self.with_book(|book| {
            book.change(number, |told| told.latency_ms = Some(latency_ms));
            if matches!(answer.status, 201 | 202) {
                book.told(number, &answer.body);
                return Some(answer.body);
            }
            let code = answer.body["code"].as_str().unwrap_or("no code").to_owned();
            if code != "no_account_available" {
                book.complain(said("POST payment", answer.status, &answer.body));
            }
            book.change(number, |told| told.refused = Some(code));
            None
        })
    }

    /// How it is paid; a wallet gives its token to the shopper's device first.
    fn method(&self, plan: &Plan) -> Option<Value> {
        let mut method = plan.method.clone();
        let Some(wallet @ ("apple_pay" | "google_pay")) = plan.method["type"].as_str() else {
            return Some(method);
        };
        let mut asked = json!({ "account": wallet.replace('_', "-") });
        if wallet == "apple_pay" {
            // Apple's token says for how much it is.
            asked["amount"] = plan.amount.into();
            asked["currency"] = plan.currency.into();
        }
        match self.control.post(&format!("/wallets/{wallet}/tokens"), None, &asked) {
            Ok(answer) if answer.status == 200 => {
                method["token"] = answer.body["token"].clone();
                Some(method)
            }
            Ok(answer) => {
                let said = said("POST token", answer.status, &answer.body);
                self.with_book(|book| book.complain(said));
                None
            }
            Err(why) => {
                self.with_book(|book| book.complain(why));
                None
            }
        }
    }

    fn shopper(&self, plan: &Plan, number: usize, payment: &Value) {
        let (act, delay) = plan.shopper;
        let shown = &payment["next_action"];
        let acting = match (shown["qr_code"].as_str(), shown["url"].as_str()) {
            (Some(code), _) => {
                json!({ "account": payment["account"], "qr_code": code, "act": act })
            }
            (_, Some(url)) => json!({ "account": payment["account"], "order": url, "act": act }),
            _ => return,
        };
        if !matches!(act, "pay" | "scan") {
            return;
        }
        std::thread::sleep(delay);
        match self.control.post("/customers/act", None, &acting) {
            Ok(answer) if answer.status == 200 && act == "pay" => {
                self.with_book(|book| book.change(number, |told| told.shopper_paid = true));
                // The notification needs a moment; then the shop looks by itself.
                std::thread::sleep(Duration::from_millis(300));
                self.ask(number);
            }
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => self.with_book(|book| {
                book.complain(said("a shopper", answer.status, &answer.body));
            }),
            Err(why) => self.with_book(|book| book.complain(why)),
        }
    }

    fn refund(&self, plan: &Plan, number: usize, id: &str, parts: i64) {
        if self.status(number) != Status::Succeeded {
            return;
        }
        // Nobody returns goods at once, and a card's automatic capture takes its moment: a refund
        // before it is refused.
        std::thread::sleep(REFUND_AFTER);
        let amount = plan.amount / parts;
        let which = self.with_book(|book| book.refund(number, amount));
        let body = json!({ "payment": id, "amount": amount, "reason": "returned goods" });
        let Some(answer) = self.insist("/v1/refunds", &plan.key("refund"), &body) else { return };
        self.with_book(|book| {
            if matches!(answer.status, 200..=202) {
                book.refund_told(number, which, &answer.body);
                return;
            }
            // Refused as a whole: nothing was journalled, so nothing may move.
            book.refund_told(number, which, &json!({ "status": "failed" }));
            book.complain(said("POST refund", answer.status, &answer.body));
        });
    }

    fn step(&self, plan: &Plan, number: usize, path: &str, what: &str) {
        let Some(answer) = self.insist(path, &plan.key(what), &json!({})) else { return };
        self.with_book(|book| match answer.status {
            200..=202 => book.told(number, &answer.body),
            // It was paid or gave up in the same moment.
            409 => {}
            status => book.complain(said(&format!("POST {what}"), status, &answer.body)),
        });
    }

    /// Sends until there is an answer that is not "later": the same key makes that safe.
    fn insist(&self, path: &str, key: &str, body: &Value) -> Option<Answer> {
        for round in 0..5 {
            match self.proxy.post(path, Some(key), body) {
                Ok(answer) if matches!(answer.status, 429 | 503) && round < 4 => {
                    let wait_ms = answer.retry_after.map_or(400, |s| 1000 * s.clamp(1, 2));
                    std::thread::sleep(Duration::from_millis(wait_ms));
                }
                Ok(answer) => return Some(answer),
                Err(why) => {
                    self.with_book(|book| book.complain(why));
                    std::thread::sleep(Duration::from_millis(200 << round));
                }
            }
        }
        None
    }
}

fn said(what: &str, status: u16, body: &Value) -> String {
    let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let detail = [word("code"), word("detail"), word("param"), word("error")];
    let detail: Vec<String> = detail.into_iter().filter(|w| !w.is_empty()).collect();
    format!("{what}: {status} {}", detail.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_payments_by_every_method() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            let plans: Vec<Plan> = (0..200).map(|n| Plan::draw(&mut chance, n, 1)).collect();
            format!("{plans:?}")
        };
        let drawn = draw(3);
        assert_eq!(drawn, draw(3));
        for part in ["qr", "barcode", "network_token", "tokens", "wechat_pay", "paypal"] {
            assert!(drawn.contains(part), "{part}");
        }
        for part in ["Capture", "Cancel", "Refund { parts: 1 }", "Refund { parts: 2 }", "scan"] {
            assert!(drawn.contains(part), "{part}");
        }
    }

    #[test]
    fn card_numbers_pass_their_own_check() {
        assert_eq!(with_check_digit("424242424242424"), "4242424242424242");
        assert_eq!(with_check_digit("555555555555444"), "5555555555554444");
    }
}
