//! The fake of one WeChat Pay account: APIv3, its notifications and its bills.
//!
//! It reads a request, passes the gate, lets the orders decide, writes the ledger under the lock
//! of the orders, and signs outside it. Only what succeeded is signed, as the provider does: a
//! refusal is believed by its status alone.

mod asked;
mod bills;
mod bodies;
mod order;
mod orders;
mod platform;
mod shown;
mod wire;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::account::{Portal, PortalAct};
use crate::alipay::Act;
use crate::config::WechatpayConfig;
use crate::courier::{Notice, Probed, Seal};
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::faults::Operation;
use crate::keys::{KeyError, Verifier};
use crate::moment;
use asked::Asked;
use bodies::{Reader, text};
use order::{Order, Refund, Terms, Way};
use orders::{Effects, Fact, Orders, Rules};
use platform::{Platform, SIGNATURE};
use shown::Shown;
use wire::{Gate, Place, Refused, Route};

pub use platform::Keys;

/// One WeChat Pay account.
pub struct Wechatpay {
    desk: Desk,
    config: WechatpayConfig,
    base: String,
    merchant_key: Verifier,
    platform: Platform,
    orders: Mutex<Orders>,
    /// By their tokens.
    bills: Mutex<VecDeque<(String, Bytes)>>,
}

/// What was done for a request.
enum Done {
    /// 204.
    Nothing,
    /// A status and a body.
    Said(u16, Value),
    /// A file, which is not signed.
    File(Bytes),
}

impl Wechatpay {
    /// An account without orders. `base` is its own URL, for the bills.
    ///
    /// # Errors
    /// A key is missing or cannot be used.
    pub fn new(
        desk: Desk,
        config: WechatpayConfig,
        base: String,
        merchant_key: Verifier,
        keys: Keys,
    ) -> Result<Self, KeyError> {
        let rules = Rules {
            offer_expiry_ms: config.offer_expiry_ms as i64,
            h5_expiry_ms: config.h5_expiry_ms as i64,
            order_expiry_ms: config.order_expiry_ms as i64,
            revoke_ms: config.userpaying_revoke_ms as i64,
            reverse_after_ms: config.reverse_after_ms as i64,
            close_after_ms: config.close_after_ms as i64,
        };
        let (id, chosen) = (config.public_key_id.clone(), config.signs_with);
        let platform = Platform::new(keys, &config.api_v3_key, id, chosen)?;
        // Two accounts, and two runs, must not make the same numbers.
        let serial = rand::random::<u64>() % 10_000_000_000_000;
        let orders = Mutex::new(Orders::new(rules, serial));
        Ok(Self { desk, config, base, merchant_key, platform, orders, bills: Mutex::default() })
    }

    /// What `inbound` asks for, before it is known whether it may.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let place = Place::of(&inbound.method, &inbound.path);
        let named = |field: &str| {
            let body: Value = serde_json::from_slice(&inbound.body).ok()?;
            text(&body, field).map(str::to_owned)
        };
        let op_id = match &place.route {
            Route::Create(_) => named("/out_trade_no"),
            Route::Refund => named("/out_refund_no"),
            Route::ByNumber(number) | Route::Close(number) | Route::Reverse(number) => {
                Some(number.clone())
            }
            Route::ById(id) | Route::RefundQuery(id) => Some(id.clone()),
            _ => None,
        };
        Call {
            operation: place.operation(),
            name: place.name().into(),
            op_id: op_id.map(|id| clipped(&id, 64)),
        }
    }

    /// Whether there is no room for another order.
    pub fn is_full(&self) -> bool {
        self.orders().is_full()
    }

    /// Executes `inbound`, bent by a fault.
    pub fn execute(self: &Arc<Self>, inbound: &Inbound, bend: Bend) -> Answer {
        let gate = Gate {
            mchid: &self.config.mchid,
            serial: &self.config.merchant_serial,
            key: &self.merchant_key,
            tolerance_ms: self.config.timestamp_tolerance_ms,
        };
        let now = moment::now_ms();
        let done = gate.admit(inbound, now).and_then(|()| self.business(inbound, bend.decline));
        let mut answer = match done {
            Err(refused) => return Answer::json(refused.status, refused.body()),
            Ok(Done::File(bytes)) => {
                return Answer {
                    content_type: "application/octet-stream",
                    ..Answer::json(200, bytes)
                };
            }
            Ok(Done::Nothing) => Answer::empty(204),
            Ok(Done::Said(status, value)) => Answer::json(status, value.to_string()),
        };
        let asked = inbound.header("wechatpay-serial");
        answer.headers = self.platform.sign(&answer.body, asked, bend.wrong_signature);
        answer
    }

    /// The answer of a system that has failed.
    pub fn failure(&self) -> Answer {
        refusal(Refused::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试"))
    }

    /// The answer to one who asks too often.
    pub fn limited(&self) -> Answer {
        refusal(Refused::new(429, "FREQUENCY_LIMITED", "频率超限"))
    }

    /// An answer that nobody can read, with a signature that fits nothing.
    pub fn garbage(&self) -> Answer {
        let body = "{\"code_url\":\"weixin://wxpay/bizpay\u{fffd}";
        Answer { headers: self.platform.sign(b"", None, true), ..Answer::json(200, body) }
    }

    /// The shopper acts on an order number, or on what he was shown.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(
        self: &Arc<Self>,
        op_id: Option<&str>,
        shown: Option<&str>,
        act: Act,
    ) -> Result<Value, &'static str> {
        let order = self.with_orders(|orders, now, fx| {
            let number = match (op_id, shown) {
                (_, Some(shown)) => orders.number_of(offer(shown), now)?,
                (Some(op_id), None) => op_id.to_owned(),
                (None, None) => return Err("neither op_id, qr_code nor order"),
            };
            orders.act(&number, act, now, fx)
        })?;
        Ok(told(&order))
    }

    /// Something happens at the portal, of which nobody is notified.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn portal(self: &Arc<Self>, portal: &PortalAct) -> Result<Value, &'static str> {
        if portal.act == Portal::SignsWith {
            self.platform.choose(portal.identity.ok_or("no identity")?)?;
            return Ok(json!({ "ok": true }));
        }
        let number = portal.op_id.clone().ok_or("no op_id")?;
        let amount = portal.amount.filter(|fen| *fen > 0).ok_or("amount is not positive")?;
        match portal.act {
            Portal::Charge => {
                let terms = Terms::of_the_portal(number, amount);
                let order = self.quietly(|o, now, fx| o.charge_elsewhere(terms, now, fx))?;
                Ok(told(&order))
            }
            Portal::Refund => {
                let refund = self
                    .quietly(|orders, now, fx| orders.refund_elsewhere(&number, amount, now, fx))?;
                Ok(json!({
                    "op_id": refund.out_refund_no, "provider_ref": refund.refund_id,
                    "status": refund.status(),
                }))
            }
            _ => Err("acts are charge, refund and signs_with"),
        }
    }

    /// Forgets all orders, bills and what is still to be notified.
    pub fn reset(&self) {
        self.orders().clear();
        self.bills().clear();
        self.platform.reset();
        self.desk.courier.forget();
    }

    /// See [`Desk`].
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    fn business(
        self: &Arc<Self>,
        inbound: &Inbound,
        decline: Option<Decline>,
    ) -> Result<Done, Refused> {
        let place = Place::of(&inbound.method, &inbound.path);
        if let Some(refused) = decline.and_then(|decline| forced(&place, decline)) {
            return Err(refused);
        }
        let reader = Reader { config: &self.config, partner: place.partner };
        let asked = Asked { inbound, reader, account: self };
        match &place.route {
            Route::Create(Way::Codepay) => asked.pay(),
            Route::Create(way) => asked.create(*way),
            Route::ByNumber(number) => {
                asked.query(|orders, sub, now| orders.query(number, sub, now))
            }
            Route::ById(id) => asked.query(|orders, sub, now| orders.query_by_id(id, sub, now)),
            Route::Close(number) => asked.close(number),
            Route::Reverse(number) => asked.reverse(number),
            Route::Refund => asked.refund(),
            Route::RefundQuery(no) => asked.refund_query(no),
            Route::Certificates if self.config.certificates => {
                Ok(Done::Said(200, self.platform.certificates()))
            }
            Route::Certificates => {
                let message = "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥";
                Err(Refused::new(404, "RESOURCE_NOT_EXISTS", message))
            }
            Route::TradeBill | Route::FundBill => asked.bill(&place.route),
            Route::File => asked.file(),
            Route::Nowhere => Err(Refused::new(404, "NOT_FOUND", "请求的资源不存在")),
        }
    }

    fn with_orders<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Orders, i64, &mut Effects) -> T,
    ) -> T {
        let (done, facts) = self.working(work);
        self.tell(facts);
        done
    }

    fn quietly<T>(&self, work: impl FnOnce(&mut Orders, i64, &mut Effects) -> T) -> T {
        self.working(work).0
    }

    fn working<T>(&self, work: impl FnOnce(&mut Orders, i64, &mut Effects) -> T) -> (T, Vec<Fact>) {
        let mut fx = Effects::default();
        let mut orders = self.orders();
        let now = moment::now_ms();
        let done = work(&mut orders, now, &mut fx);
        self.desk.write(now, fx.moves);
        (done, fx.facts)
    }

    fn approve_later(self: &Arc<Self>, order: &Order) {
        let delay_ms = self.config.approve_ms;
        if delay_ms == 0 {
            return;
        }
        let account = self.clone();
        let (number, made_ms) = (order.terms.out_trade_no.clone(), order.made_ms);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            account.with_orders(|orders, now, fx| orders.approve(&number, made_ms, now, fx));
        });
    }

    fn end_later(self: &Arc<Self>, refund: Refund) {
        let (account, delay_ms) = (self.clone(), self.config.refund_ms);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            account.with_orders(|orders, now, fx| orders.end_refund(&refund, now, fx));
        });
    }

    fn tell(&self, facts: Vec<Fact>) {
        for fact in facts {
            let its = fact.refund.as_ref().and_then(|refund| refund.notify_url.clone());
            let given = its.or_else(|| fact.order.terms.notify_url.clone());
            if let Some(url) = given.or_else(|| self.config.notify_url.clone()) {
                self.desk.courier.send(self.notice(&fact, url));
            }
        }
    }

    fn notice(&self, fact: &Fact, url: String) -> Notice {
        let (event, summary, kind, content) = match &fact.refund {
            None => (
                "TRANSACTION.SUCCESS",
                "支付成功",
                "transaction",
                self.shown().transaction(&fact.order),
            ),
            Some(refund) => {
                let (event, summary) = match refund.status() {
                    "ABNORMAL" => ("REFUND.ABNORMAL", "退款异常"),
                    "CLOSED" => ("REFUND.CLOSED", "退款关闭"),
                    _ => ("REFUND.SUCCESS", "退款成功"),
                };
                (event, summary, "refund", self.shown().notified_refund(&fact.order, refund))
            }
        };
        let mut resource = self.platform.seal(&content.to_string(), kind);
        resource["original_type"] = kind.into();
        let id = format!("{:032x}", rand::random::<u128>());
        let (a, b, c, d, e) = (&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        let body = json!({
            "id": format!("{a}-{b}-{c}-{d}-{e}"),
            "create_time": moment::beijing_rfc3339(moment::now_ms()),
            "resource_type": "encrypt-resource",
            "event_type": event,
            "summary": summary,
            "resource": resource,
        })
        .to_string();
        let mut headers = self.platform.sign(body.as_bytes(), None, false);
        let signature = headers.pop().map(|(_, signature)| signature).unwrap_or_default();
        Notice {
            url,
            cause: fact.cause(),
            content_type: "application/json",
            headers,
            body,
            seal: Seal::Probed(Probed {
                header: SIGNATURE,
                signature,
                probe: self.platform.probe(),
                always: self.config.probe_signatures,
            }),
            wants: None,
        }
    }

    fn shown(&self) -> Shown<'_> {
        Shown { appid: &self.config.appid, mchid: &self.config.mchid }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bills(&self) -> MutexGuard<'_, VecDeque<(String, Bytes)>> {
        self.bills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(refused: Refused) -> Answer {
    Answer::json(refused.status, refused.body())
}

fn told(order: &Order) -> Value {
    json!({
        "op_id": order.terms.out_trade_no, "provider_ref": order.transaction_id(),
        "status": order.state.words().0,
    })
}

/// A `code_url`, `prepay_id` or `h5_url` without what a merchant puts around it.
fn offer(shown: &str) -> &str {
    let shown = shown.strip_prefix("prepay_id=").unwrap_or(shown);
    shown.split("&redirect_url=").next().unwrap_or(shown)
}

fn forced(place: &Place, decline: Decline) -> Option<Refused> {
    let soft = decline == Decline::Soft;
    Some(match (&place.route, place.operation()) {
        (Route::Create(Way::Codepay), _) if soft => {
            Refused::new(403, "NOT_ENOUGH", "用户帐号余额不足")
        }
        (_, Operation::Authorize) if soft => Refused::new(403, "TRADE_ERROR", "交易失败"),
        (_, Operation::Authorize) => Refused::new(403, "RULE_LIMIT", "业务规则限制"),
        (_, Operation::Refund) if soft => Refused::new(403, "NOT_ENOUGH", "基本账户余额不足"),
        (_, Operation::Refund) => Refused::new(403, "USER_ACCOUNT_ABNORMAL", "用户帐户注销"),
        (_, Operation::Close) => Refused::new(403, "TRADE_ERROR", "交易错误"),
        _ => return None,
    })
}
