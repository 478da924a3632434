//! What shops do so that a payment passes a given place: one short story each, told to its end or
//! until the shop closes.
//!
//! A scene knows nothing of kills. It insists until it is answered, by whichever process.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use interlock_tests::house::{barcode, fresh, network_token, qr, stored, tokens};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ring::hmac;
use serde_json::{Value, json};

use crate::shop::{Ask, Deal, Street, path, wish};

/// How long a scene waits for news before it goes on.
const NEWS: Duration = Duration::from_secs(3);

/// One story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Anything of the following.
    Any,
    /// A payment at once, and a look at it.
    Sale,
    /// A payment by a stored token: notifications follow its answer.
    Card,
    /// A code is shown and paid.
    Code,
    /// A code is shown, scanned, and cancelled.
    Close,
    /// A code is shown, scanned, and given up for another way to pay.
    Switch,
    /// A code is shown, and the shop asks for news.
    Refresh,
    /// A challenge is shown, and its shopper comes back.
    Confirm,
    /// Authorized, then captured.
    Capture,
    /// Authorized, then cancelled.
    Void,
    /// Paid, and partly refunded.
    Refund,
    /// A payment now and then.
    Calm,
    /// An operator settles a doubt, truly.
    Operator,
    /// A provider tells of a payment that is not ours.
    Stranger,
    /// A provider tells of something that is no money.
    NoMoney,
}

/// The scene that is on, for all shops.
pub type Stage = Mutex<Scene>;

/// Plays what is on until it is told to stop; gives the book.
pub fn play(street: &Street, seed: u64, stage: &Stage, stop: &AtomicBool) -> Vec<Deal> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut deals = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let on = *stage.lock().expect("no shop panics on the stage");
        deals.extend(Play { street, stop, chance: &mut chance }.one(on));
    }
    deals
}

struct Play<'a> {
    street: &'a Street,
    stop: &'a AtomicBool,
    chance: &'a mut StdRng,
}

impl Play<'_> {
    fn one(&mut self, scene: Scene) -> Option<Deal> {
        const ALL: [Scene; 8] = [
            Scene::Sale,
            Scene::Card,
            Scene::Code,
            Scene::Close,
            Scene::Switch,
            Scene::Capture,
            Scene::Void,
            Scene::Refund,
        ];
        let amount = self.chance.random_range(100..100_000);
        match scene {
            Scene::Any => {
                let one = ALL[self.chance.random_range(0..ALL.len())];
                self.one(one)
            }
            Scene::Sale => {
                let body = match self.chance.random_range(0..3) {
                    0 => barcode(amount, "01"),
                    1 => network_token(amount, "EUR"),
                    _ => tokens(amount, "USD"),
                };
                self.begin(body).map(|(mut deal, p)| {
                    self.look(&mut deal, &p, |_| true);
                    deal
                })
            }
            Scene::Calm => {
                std::thread::sleep(Duration::from_millis(300));
                self.one(Scene::Sale)
            }
            Scene::Card => self.begin(tokens(amount, "EUR")).map(|(deal, _)| deal),
            Scene::Code => self.shown(amount, "pay", |play, deal, p| {
                play.look(deal, p, |p| p["status"] != "requires_action");
            }),
            Scene::Close => self.shown(amount, "scan", |play, deal, p| {
                play.wish(deal, p, "cancel", json!({}));
            }),
            Scene::Switch => self.shown(amount, "scan", |play, deal, p| {
                play.wish(deal, p, "switch", json!({ "method": barcode(1, "01")["method"] }));
            }),
            Scene::Refresh => self.shown(amount, "scan", |play, deal, p| {
                let id = p["id"].as_str().unwrap_or_default();
                let (_, now) = play.street.get(&format!("/v1/payments/{id}?refresh=true"));
                deal.hear(&now);
            }),
            Scene::Confirm => self.challenged(amount),
            Scene::Capture => self.held(amount, "capture"),
            Scene::Void => self.held(amount, "cancel"),
            Scene::Refund => self.refunded(amount),
            Scene::Operator => self.resolved(amount),
            Scene::Stranger => self.notified("payment_approved"),
            Scene::NoMoney => self.notified("card_verified"),
        }
    }

    /// The order, until it is answered.
    fn begin(&mut self, body: Value) -> Option<(Deal, Value)> {
        let mut ask = Ask::new("/v1/payments".into(), body, self.chance);
        ask.body["metadata"] = json!({ "key": ask.key });
        let mut deal = Deal { ask, wishes: Vec::new(), told: Vec::new() };
        match deal.ask.insist(self.street, self.stop) {
            Some((status, p)) if status < 300 => {
                deal.hear(&p);
                Some((deal, p))
            }
            // The book keeps what was refused or not answered, too.
            _ => Some((deal, Value::Null)),
        }
    }

    fn shown(
        &mut self,
        amount: i64,
        act: &str,
        then: impl FnOnce(&mut Self, &mut Deal, &Value),
    ) -> Option<Deal> {
        let (mut deal, p) = self.begin(qr(amount))?;
        if p["status"] == "requires_action" {
            let (account, code) = (&p["account"], &p["next_action"]["qr_code"]);
            let act = json!({ "account": account, "qr_code": code, "act": act });
            self.street.control("/customers/act", &act);
            then(self, &mut deal, &p);
        }
        Some(deal)
    }

    fn challenged(&mut self, amount: i64) -> Option<Deal> {
        let (mut deal, p) = self.begin(stored(amount, "GBP", "M5STORED"))?;
        let number = p["attempts"][0]["op_id"].as_str().unwrap_or_default().to_owned();
        if p["status"] == "requires_action" {
            let act = json!({ "account": "adyen-eu", "op_id": number, "act": "pay" });
            let acted = self.street.controlled("/customers/act", &act);
            let body = json!({ "details": { "redirectResult": acted["redirect_result"] } });
            self.wish(&mut deal, &p, "confirm", body);
        }
        Some(deal)
    }

    fn held(&mut self, amount: i64, verb: &str) -> Option<Deal> {
        let mut body = match self.chance.random_range(0..2) {
            0 => network_token(amount, "EUR"),
            _ => tokens(amount, "EUR"),
        };
        body["capture"] = json!("manual");
        let (mut deal, p) = self.begin(body)?;
        let p = self.look(&mut deal, &p, |p| p["status"] != "processing");
        if p["status"] == "requires_capture" {
            self.wish(&mut deal, &p, verb, json!({}));
        }
        Some(deal)
    }

    fn refunded(&mut self, amount: i64) -> Option<Deal> {
        let body = match self.chance.random_range(0..2) {
            0 => barcode(amount, "01"),
            _ => tokens(amount, "EUR"),
        };
        let (mut deal, p) = self.begin(body)?;
        let p = self.look(&mut deal, &p, |p| p["status"] != "processing");
        if p["status"] == "succeeded" {
            // The card processor captures a moment after its answer, and refunds nothing before.
            std::thread::sleep(Duration::from_millis(60));
            let body = json!({ "payment": p["id"], "amount": amount / 2 });
            wish(self.street, &mut deal, "/v1/refunds".into(), body, self.chance, self.stop);
        }
        Some(deal)
    }

    fn resolved(&mut self, amount: i64) -> Option<Deal> {
        let (mut deal, p) = self.begin(tokens(amount, "EUR"))?;
        let p = self.look(&mut deal, &p, |p| p["attempts"][0]["state"] != "started");
        let text = |key: &str| p["attempts"][0][key].as_str().unwrap_or("").to_owned();
        let moved = self.street.movements(&text("account"), &text("op_id"));
        if p["status"] != "processing" || moved.is_empty() {
            return Some(deal);
        }
        let path = format!("/admin/v1/payments/{}/resolve", p["id"].as_str()?);
        let body = json!({
            "outcome": "succeeded", "provider_ref": moved[0]["provider_ref"],
            "reason": "seen in the provider's own books", "operator": "night shift",
        });
        while !self.stop.load(Ordering::Acquire) {
            if self.street.operate(&path, &body).is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.look(&mut deal, &p, |_| true);
        Some(deal)
    }

    /// A well signed notification about nobody's payment, until the proxy answers.
    fn notified(&mut self, kind: &str) -> Option<Deal> {
        let id = fresh("evt_");
        let body = json!({
            "id": id, "type": kind,
            "data": { "id": fresh("pay_"), "reference": "STRANGER", "amount": 100,
                "currency": "EUR", "response_code": "10000" },
        });
        let body = body.to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"whk_test_secret_2");
        let tag = hmac::sign(&key, body.as_bytes());
        let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        while !self.stop.load(Ordering::Acquire) {
            if let Some(status) = self.street.notify("checkout-eu", &id, &body, &signature) {
                assert!(matches!(status, 200 | 404), "the signature is good: {status}");
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn wish(&mut self, deal: &mut Deal, p: &Value, verb: &str, body: Value) {
        let path = format!("{}/{verb}", path(p));
        wish(self.street, deal, path, body, self.chance, self.stop);
    }

    /// Looks at a payment until it is as wanted, for a moment.
    fn look(&mut self, deal: &mut Deal, p: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + NEWS;
        let Some(id) = p["id"].as_str() else { return Value::Null };
        loop {
            let (status, now) = self.street.get(&format!("/v1/payments/{id}"));
            assert_eq!(status, 200, "an acknowledged payment is known: {id} {now}");
            deal.hear(&now);
            if wanted(&now) || Instant::now() > end || self.stop.load(Ordering::Acquire) {
                return now;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
