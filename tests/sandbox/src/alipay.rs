//! The fake of one Alipay account: the v1 gateway `/gateway.do`, its notifications and its bills.
//!
//! It reads a request, passes the gate, lets the trades decide, writes the ledger under the lock
//! of the trades, and signs outside it.

mod bills;
mod trades;
mod wire;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::account::{Portal, PortalAct};
use crate::config::AlipayConfig;
use crate::courier::{Notice, Seal};
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::faults::Operation;
use crate::keys::{Signer, Verifier};
use crate::moment;
use bills::Sheet;
use trades::{Barcode, Canceled, Effects, Fact, Order, Refused, Rules, Trade, Trades};
use wire::{Gate, Node, Params, fen, yuan};

pub use trades::Act;

const BUYER_ID: &str = "2088000000000001";
const BUYER_LOGON: &str = "buy***@example.com";

const BILL: &str = "alipay.data.dataservice.bill.downloadurl.query";
const BILL_FILE: &str = "/downloadBillFile.resource";
/// So many bills can be downloaded at a time.
const BILLS_LIMIT: usize = 64;

/// One Alipay account.
pub struct Alipay {
    desk: Desk,
    config: AlipayConfig,
    base: String,
    app_key: Verifier,
    gateway_key: Signer,
    trades: Mutex<Trades>,
    bills: Mutex<VecDeque<Made>>,
}

/// A bill that can be downloaded.
struct Made {
    token: String,
    at_ms: i64,
    bytes: Bytes,
}

impl Alipay {
    /// An account without trades. `base` is its own URL, for the bills.
    pub fn new(
        desk: Desk,
        config: AlipayConfig,
        base: String,
        app_key: Verifier,
        gateway_key: Signer,
    ) -> Self {
        let rules = Rules {
            qr_expiry_ms: config.qr_expiry_ms as i64,
            trade_timeout_ms: config.trade_timeout_ms as i64,
            tombstone: config.tombstone,
        };
        // Two accounts, and two runs, must not make the same numbers.
        let serial = rand::random::<u64>() % 1_000_000_000_000_000_000;
        let trades = Mutex::new(Trades::new(rules, serial));
        let bills = Mutex::default();
        Self { desk, config, base, app_key, gateway_key, trades, bills }
    }

    /// What `inbound` asks for, before it is known whether it may.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        if inbound.path == BILL_FILE {
            return Call { operation: Operation::Inquire, name: "bill_file".into(), op_id: None };
        }
        let params = Params::merge(&inbound.query, &inbound.body);
        let method = params.get("method").unwrap_or_default();
        let operation = match method {
            "alipay.trade.close" | "alipay.trade.cancel" => Operation::Close,
            "alipay.trade.refund" => Operation::Refund,
            "alipay.trade.query" | "alipay.trade.fastpay.refund.query" | BILL => Operation::Inquire,
            _ => Operation::Authorize,
        };
        let content: Value = params
            .get("biz_content")
            .and_then(|s| serde_json::from_str(s).ok())
            .unwrap_or_default();
        let named = |name: &str| content[name].as_str().map(|value| clipped(value, 64));
        let number = named("out_trade_no").or_else(|| named("trade_no"));
        let op_id = match method {
            "alipay.trade.refund" | "alipay.trade.fastpay.refund.query" => {
                named("out_request_no").or(number)
            }
            _ => number,
        };
        Call { operation, name: clipped(method, 64), op_id }
    }

    /// Whether there is no room for another trade.
    pub fn is_full(&self) -> bool {
        self.trades().is_full()
    }

    /// Executes `inbound`, bent by a fault.
    pub fn execute(self: &Arc<Self>, inbound: &Inbound, bend: Bend) -> Answer {
        if inbound.path == BILL_FILE && inbound.method == "GET" {
            return self.bill_file(&inbound.query);
        }
        if inbound.path != "/gateway.do" {
            return Answer::html(404, "<html><body>404 Not Found</body></html>");
        }
        let params = Params::merge(&inbound.query, &inbound.body);
        let method = params.get("method").unwrap_or_default();
        let node = match self.gate().admit(&params, moment::now_ms()) {
            Ok(content) => self.business(method, &content, &params, bend.decline),
            Err(turned) => {
                let node = Node::refused(turned.code, turned.sub_code);
                let nameless = ["missing-method", "missing-app-id", "invalid-app-id"];
                if nameless.iter().any(|reason| turned.sub_code.ends_with(reason)) {
                    return Answer::json(200, node.into_error());
                }
                node
            }
        };
        if is_page(method) {
            let said = if node.is_good() { "cashier" } else { "error" };
            return Answer::html(200, format!("<html><body>{said}</body></html>"));
        }
        Answer::json(200, node.seal(method, &self.gateway_key, bend.wrong_signature))
    }

    /// The answer of a gateway that turns a request away for want of quota.
    pub fn limited(&self, call: &Call) -> Answer {
        let node = Node::refused("40005", "isv.app-call-limited");
        Answer::json(200, node.seal(&call.name, &self.gateway_key, false))
    }

    /// An answer that nobody can read, to `call`.
    pub fn garbage(&self, call: &Call) -> Answer {
        let name = call.name.replace('.', "_");
        Answer::json(200, format!("{{\"{name}_response\":{{\"code\":\"100\u{fffd}"))
    }

    /// The shopper acts on an order number or a QR code.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(
        self: &Arc<Self>,
        op_id: Option<&str>,
        qr_code: Option<&str>,
        order: Option<&str>,
        act: Act,
    ) -> Result<Value, &'static str> {
        if let Some(order) = order {
            return self.carried(order, act);
        }
        let by_qr = |qr| self.trades().number_of_qr(qr).ok_or("no such QR code");
        let number = match (op_id, qr_code) {
            (_, Some(qr)) => by_qr(qr)?,
            (Some(op_id), None) => op_id.to_owned(),
            (None, None) => return Err("neither op_id nor qr_code"),
        };
        let trade = self.with_trades(|trades, now, fx| trades.act(&number, act, now, fx))?;
        Ok(serde_json::json!({
            "op_id": number,
            "provider_ref": trade.as_ref().map(|t| t.trade_no.clone()),
            "status": trade.as_ref().map(|t| t.status.word()),
        }))
    }

    /// The shopper opens a page by its address, or the app is given an order, and then he acts.
    fn carried(self: &Arc<Self>, order: &str, act: Act) -> Result<Value, &'static str> {
        let query = order.split_once('?').map_or(order, |(_, query)| query);
        let params = Params::merge(query, b"");
        let content = self.gate().admit(&params, moment::now_ms());
        let content = content.map_err(|turned| turned.sub_code)?;
        if !params.get("method").is_some_and(is_page) {
            return Err("no page and no order for the app");
        }
        Asked { content: &content, params: &params, account: self }.open()?;
        let number = content["out_trade_no"].as_str().unwrap_or_default();
        self.act(Some(number), None, None, act)
    }

    /// Something happens at the portal, of which nobody is notified.
    ///
    /// # Errors
    /// A sentence that says why it cannot be, or Alipay's sub code.
    pub fn portal(self: &Arc<Self>, portal: &PortalAct) -> Result<Value, &'static str> {
        let number = portal.op_id.clone().ok_or("no op_id")?;
        if !is_number(&number) {
            return Err("op_id is no out_trade_no");
        }
        let amount = portal.amount.filter(|fen| *fen > 0).ok_or("amount is not positive")?;
        let (op_id, trade) = match portal.act {
            Portal::Charge => {
                let order = Order::of_the_portal(number.clone(), amount);
                let charge = |t: &mut Trades, now, fx: &mut _| t.charge_elsewhere(order, now, fx);
                (number, self.quietly(charge)?)
            }
            Portal::Refund => {
                self.quietly(|t, now, fx| t.refund_elsewhere(&number, amount, now, fx))?
            }
            _ => return Err("acts are charge and refund"),
        };
        Ok(json!({
            "op_id": op_id, "provider_ref": trade.trade_no, "status": trade.status.word(),
        }))
    }

    /// The file of a bill that was made; its address alone opens it, and not for long.
    fn bill_file(&self, query: &str) -> Answer {
        let asked = Params::merge(query, b"");
        let token = asked.get("token").unwrap_or_default();
        let since = moment::now_ms() - self.config.bill_life_ms as i64;
        match self.bills().iter().find(|made| made.token == token && made.at_ms > since) {
            Some(made) => Answer {
                content_type: "application/octet-stream",
                ..Answer::json(200, made.bytes.clone())
            },
            None => Answer::html(404, "<html><body>404 Not Found</body></html>"),
        }
    }

    fn gate(&self) -> Gate<'_> {
        Gate {
            app_id: &self.config.app_id,
            app_key: &self.app_key,
            tolerance_ms: self.config.timestamp_tolerance_ms,
        }
    }

    /// Forgets all trades, bills and what is still to be notified.
    pub fn reset(&self) {
        self.trades().clear();
        self.bills().clear();
        self.desk.courier.forget();
    }

    /// See [`Desk`].
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    fn business(
        self: &Arc<Self>,
        method: &str,
        content: &Value,
        params: &Params,
        decline: Option<Decline>,
    ) -> Node {
        if let Some(decline) = decline {
            return Node::refused("40004", forced(method, decline));
        }
        let asked = Asked { content, params, account: self };
        let done = match method {
            "alipay.trade.pay" => asked.pay(),
            "alipay.trade.query" => asked.query(),
            "alipay.trade.close" => asked.close(),
            "alipay.trade.cancel" => asked.cancel(),
            "alipay.trade.refund" => asked.refund(),
            "alipay.trade.fastpay.refund.query" => asked.refund_query(),
            BILL => asked.bill(),
            _ if is_page(method) => asked.open(),
            _ => asked.precreate(),
        };
        done.unwrap_or_else(|sub_code| Node::refused("40004", sub_code))
    }

    fn with_trades<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Trades, i64, &mut Effects) -> T,
    ) -> T {
        let (done, facts) = self.working(work);
        self.tell(facts);
        done
    }

    fn quietly<T>(&self, work: impl FnOnce(&mut Trades, i64, &mut Effects) -> T) -> T {
        self.working(work).0
    }

    fn working<T>(&self, work: impl FnOnce(&mut Trades, i64, &mut Effects) -> T) -> (T, Vec<Fact>) {
        let mut fx = Effects::default();
        let mut trades = self.trades();
        let now = moment::now_ms();
        let done = work(&mut trades, now, &mut fx);
        self.desk.write(now, fx.moves);
        (done, fx.facts)
    }

    fn approve_later(self: &Arc<Self>, trade: &Trade) {
        let delay_ms = self.config.approve_ms;
        if delay_ms == 0 {
            return;
        }
        let account = self.clone();
        let (number, trade_no) = (trade.order.out_trade_no.clone(), trade.trade_no.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            account.with_trades(|trades, now, fx| trades.approve(&number, &trade_no, now, fx));
        });
    }

    fn tell(&self, facts: Vec<Fact>) {
        for fact in facts {
            let given = fact.trade.order.notify_url.clone();
            if let Some(url) = given.or_else(|| self.config.notify_url.clone()) {
                self.desk.courier.send(self.notice(&fact, url));
            }
        }
    }

    fn notice(&self, fact: &Fact, url: String) -> Notice {
        let now = moment::now_ms();
        let trade = &fact.trade;
        let id: u128 = rand::random();
        let mut pairs: Vec<(&str, String)> = vec![
            ("app_id", self.config.app_id.clone()),
            ("auth_app_id", self.config.app_id.clone()),
            ("buyer_id", BUYER_ID.into()),
            ("buyer_logon_id", BUYER_LOGON.into()),
            ("charset", "utf-8".into()),
            ("gmt_create", moment::beijing(trade.made_ms)),
            ("notify_id", format!("{}{id:026x}", moment::beijing_day(now))),
            ("notify_time", moment::beijing(now)),
            ("notify_type", "trade_status_sync".into()),
            ("out_trade_no", trade.order.out_trade_no.clone()),
            ("seller_id", self.config.seller_id.clone()),
            ("subject", trade.order.subject.clone()),
            ("total_amount", yuan(trade.order.amount)),
            ("trade_no", trade.trade_no.clone()),
            ("trade_status", trade.status.word().into()),
            ("version", "1.0".into()),
        ];
        if let Some(paid) = trade.paid_ms {
            pairs.push(("gmt_payment", moment::beijing(paid)));
            for name in ["buyer_pay_amount", "invoice_amount", "receipt_amount"] {
                pairs.push((name, yuan(trade.order.amount)));
            }
        }
        if let Some(closed) = trade.closed_ms {
            pairs.push(("gmt_close", moment::beijing(closed)));
        }
        if let Some(refund) = &fact.refund {
            pairs.push(("gmt_refund", format!("{}.000", moment::beijing(refund.at_ms))));
            pairs.push(("out_biz_no", refund.out_biz_no.clone()));
            pairs.push(("refund_fee", yuan(refund.fee)));
        }
        pairs.sort();
        let content: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let signature = self.gateway_key.sign(content.join("&").as_bytes());
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&pairs).append_pair("sign_type", "RSA2");
        Notice {
            url,
            cause: fact.cause,
            content_type: "application/x-www-form-urlencoded; charset=utf-8",
            headers: Vec::new(),
            body: body.finish(),
            seal: Seal::Form(signature),
            wants: Some("success"),
        }
    }

    fn trades(&self) -> MutexGuard<'_, Trades> {
        self.trades.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bills(&self) -> MutexGuard<'_, VecDeque<Made>> {
        self.bills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forced(method: &str, decline: Decline) -> Refused {
    let soft = decline == Decline::Soft;
    match method {
        "alipay.trade.refund" | "alipay.trade.cancel" if soft => "ACQ.SELLER_BALANCE_NOT_ENOUGH",
        "alipay.trade.refund" => "ACQ.TRADE_NOT_ALLOW_REFUND",
        "alipay.trade.cancel" => "ACQ.TRADE_CANCEL_TIME_OUT",
        "alipay.trade.close" => "ACQ.TRADE_STATUS_ERROR",
        _ if soft => "ACQ.PAYMENT_FAIL",
        _ => "ACQ.PAYMENT_REQUEST_HAS_RISK",
    }
}

/// What a shopper opens, or his app.
fn is_page(method: &str) -> bool {
    matches!(method, "alipay.trade.page.pay" | "alipay.trade.wap.pay" | "alipay.trade.app.pay")
}

/// What the last two digits of an auth code do; see the table in the crate's documentation.
fn barcode(auth_code: &str) -> Barcode {
    let digits = auth_code.bytes().all(|b| b.is_ascii_digit());
    let head: u32 = auth_code.get(..2).and_then(|head| head.parse().ok()).unwrap_or(0);
    if !digits || !(16..=24).contains(&auth_code.len()) || !(25..=30).contains(&head) {
        return Barcode::Refuses("ACQ.PAYMENT_AUTH_CODE_INVALID");
    }
    match &auth_code[auth_code.len() - 2..] {
        "02" => Barcode::Asks,
        "03" => Barcode::Refuses("ACQ.BUYER_BALANCE_NOT_ENOUGH"),
        "04" => Barcode::Refuses("ACQ.PAYMENT_REQUEST_HAS_RISK"),
        "05" => Barcode::Refuses("ACQ.PAYMENT_AUTH_CODE_INVALID"),
        _ => Barcode::Pays,
    }
}

/// One admitted request.
struct Asked<'a> {
    content: &'a Value,
    params: &'a Params,
    account: &'a Arc<Alipay>,
}

impl Asked<'_> {
    fn open(&self) -> Result<Node, Refused> {
        let order = self.order()?;
        self.account.with_trades(|trades, now, fx| trades.open(order, now, fx))?;
        Ok(Node::coded("10000"))
    }

    fn precreate(&self) -> Result<Node, Refused> {
        let order = self.order()?;
        let number = order.out_trade_no.clone();
        let qr = self.account.with_trades(|trades, now, fx| trades.precreate(order, now, fx))?;
        Ok(Node::coded("10000").put("out_trade_no", &number).put("qr_code", &qr))
    }

    fn pay(&self) -> Result<Node, Refused> {
        let order = self.order()?;
        let code = self.text("auth_code").ok_or("ACQ.INVALID_PARAMETER")?;
        if self.text("scene") != Some("bar_code") {
            return Err("ACQ.UN_SUPPORT_TRADE_SCENE");
        }
        let barcode = barcode(code);
        let mut begun = false;
        let trade = self.account.with_trades(|trades, now, fx| {
            let known = trades.query(Some(&order.out_trade_no), None, now, fx).is_ok();
            let trade = trades.pay(order, barcode, now, fx);
            begun = !known && trade.is_ok();
            trade
        })?;
        if begun && trade.status == trades::Status::Wait {
            self.account.approve_later(&trade);
        }
        if begun && code.ends_with("06") {
            return Ok(Node::refused("20000", "isp.unknow-error"));
        }
        let Some(paid) = trade.paid_ms else {
            return Ok(named(Node::coded("10003"), &trade).put("total_amount", &total(&trade)));
        };
        Ok(named(Node::coded("10000"), &trade)
            .put("total_amount", &total(&trade))
            .put("receipt_amount", &total(&trade))
            .put("buyer_pay_amount", &total(&trade))
            .put("gmt_payment", &moment::beijing(paid)))
    }

    fn query(&self) -> Result<Node, Refused> {
        let (out, no) = self.names()?;
        let trade = self.account.with_trades(|trades, now, fx| trades.query(out, no, now, fx))?;
        let node = named(Node::coded("10000"), &trade)
            .put("trade_status", trade.status.word())
            .put("total_amount", &total(&trade));
        Ok(match trade.paid_ms {
            None => node,
            Some(paid) => node
                .put("receipt_amount", &total(&trade))
                .put("buyer_pay_amount", &total(&trade))
                .put("send_pay_date", &moment::beijing(paid)),
        })
    }

    fn close(&self) -> Result<Node, Refused> {
        let (out, no) = self.names()?;
        let trade = self.account.with_trades(|trades, now, fx| trades.close(out, no, now, fx))?;
        Ok(Node::coded("10000")
            .put("trade_no", &trade.trade_no)
            .put("out_trade_no", &trade.order.out_trade_no))
    }

    fn cancel(&self) -> Result<Node, Refused> {
        let (out, no) = self.names()?;
        let done = self.account.with_trades(|trades, now, fx| trades.cancel(out, no, now, fx))?;
        let node = Node::coded("10000").put("retry_flag", "N");
        let node = match out {
            Some(out) => node.put("out_trade_no", out),
            None => node,
        };
        Ok(match done {
            Canceled::Nothing => node,
            Canceled::Close(no) => node.put("trade_no", &no).put("action", "close"),
            Canceled::Refund(no) => node.put("trade_no", &no).put("action", "refund"),
        })
    }

    fn refund(&self) -> Result<Node, Refused> {
        let names = self.names()?;
        let amount = fen(self.content.get("refund_amount")).ok_or("ACQ.INVALID_PARAMETER")?;
        let request = self.text("out_request_no");
        let done = self
            .account
            .with_trades(|trades, now, fx| trades.refund(names, amount, request, now, fx))?;
        let node = named(Node::coded("10000"), &done.trade)
            .put("fund_change", if done.changed { "Y" } else { "N" })
            .put("refund_fee", &yuan(done.trade.refunded));
        Ok(if done.changed {
            node.put("gmt_refund_pay", &moment::beijing(moment::now_ms()))
        } else {
            node
        })
    }

    fn refund_query(&self) -> Result<Node, Refused> {
        let names = self.names()?;
        let request = self.text("out_request_no").ok_or("ACQ.INVALID_PARAMETER")?;
        let (trade, amount) = self
            .account
            .with_trades(|trades, now, fx| trades.refund_query(names, request, now, fx))?;
        let node = Node::coded("10000");
        let Some(amount) = amount else {
            return Ok(node);
        };
        Ok(node
            .put("trade_no", &trade.trade_no)
            .put("out_trade_no", &trade.order.out_trade_no)
            .put("out_request_no", request)
            .put("total_amount", &total(&trade))
            .put("refund_amount", &yuan(amount))
            .put("refund_status", "REFUND_SUCCESS"))
    }

    /// Makes a bill, and says where its file is.
    fn bill(&self) -> Result<Node, Refused> {
        let from_ms = self.text("bill_date").and_then(bills::day);
        let (Some(from_ms), Some("trade")) = (from_ms, self.text("bill_type")) else {
            return Err("isv.invalid_arguments");
        };
        let account = self.account;
        let sheet = Sheet {
            seller_id: &account.config.seller_id,
            from_ms,
            fee_basis_points: account.config.fee_basis_points,
        };
        let at_ms = moment::now_ms();
        let bytes = sheet.archive(&account.trades(), at_ms).ok_or("isp.bill_not_exist")?;
        let (user, day) = (sheet.account(), sheet.day());
        let token = format!("{:032x}", rand::random::<u128>());
        let url = format!(
            "{}{BILL_FILE}?bizType=trade&userId={user}&fileType=csv.zip&bizDates={day}\
             &downloadFileName={user}_{day}.csv.zip&fileId=%2Ftrade%2F{user}%2F{day}.csv.zip\
             &timestamp={}&token={token}",
            account.base,
            at_ms / 1000,
        );
        let mut bills = account.bills();
        bills.push_back(Made { token, at_ms, bytes: bytes.into() });
        if bills.len() > BILLS_LIMIT {
            bills.pop_front();
        }
        Ok(Node::coded("10000").put("bill_download_url", &url))
    }

    fn order(&self) -> Result<Order, Refused> {
        let number = self.text("out_trade_no").filter(|number| is_number(number));
        let amount = fen(self.content.get("total_amount"));
        let subject = self.text("subject").filter(|subject| subject.chars().count() <= 256);
        let (Some(number), Some(amount), Some(subject)) = (number, amount, subject) else {
            return Err("ACQ.INVALID_PARAMETER");
        };
        Ok(Order {
            out_trade_no: number.into(),
            amount,
            subject: subject.into(),
            notify_url: self.params.get("notify_url").map(str::to_owned),
            expires_ms: self.text("time_expire").and_then(moment::parse_beijing),
        })
    }

    fn names(&self) -> Result<(Option<&str>, Option<&str>), Refused> {
        let (out, no) = (self.text("out_trade_no"), self.text("trade_no"));
        let good = out.is_none_or(is_number) && (out.is_some() || no.is_some());
        if good { Ok((out, no)) } else { Err("ACQ.INVALID_PARAMETER") }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.content[name].as_str().filter(|text| !text.is_empty())
    }
}

fn is_number(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn named(node: Node, trade: &Trade) -> Node {
    node.put("trade_no", &trade.trade_no)
        .put("out_trade_no", &trade.order.out_trade_no)
        .put("buyer_logon_id", BUYER_LOGON)
        .put("buyer_user_id", BUYER_ID)
}

fn total(trade: &Trade) -> String {
    yuan(trade.order.amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_auth_code_chooses_the_customer() {
        assert_eq!(barcode("280000000000000001"), Barcode::Pays);
        assert_eq!(barcode("300000000000009999"), Barcode::Pays);
        assert_eq!(barcode("280000000000000002"), Barcode::Asks);
        assert_eq!(barcode("280000000000000006"), Barcode::Pays);
        let refused = |code| matches!(barcode(code), Barcode::Refuses(_));
        assert!(refused("280000000000000003"));
        assert!(refused("310000000000000001"), "no payment code starts like this");
        assert!(refused("2800000001"), "too short");
        assert!(refused("28000000000000000a"));
    }
}
