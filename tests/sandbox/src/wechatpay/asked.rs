//! One admitted request of WeChat Pay, carried out: from its body to the answer's members.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::json;

use super::bills::{self, Part, Sheet};
use super::bodies::{self, Reader};
use super::order::{Order, State, Way};
use super::orders::{Effects, Orders};
use super::wire::{self, Refused, Route};
use super::{Done, Wechatpay};
use crate::desk::Inbound;
use crate::moment;

/// So many bills can be fetched; older ones are forgotten.
const BILLS_LIMIT: usize = 16;

/// One admitted request.
pub struct Asked<'a> {
    /// As received.
    pub inbound: &'a Inbound,
    /// Reads its body.
    pub reader: Reader<'a>,
    /// Who was asked.
    pub account: &'a Arc<Wechatpay>,
}

impl Asked<'_> {
    /// A new order: what the shopper is shown.
    pub fn create(&self, way: Way) -> Result<Done, Refused> {
        let body = wire::object(&self.inbound.body)?;
        let terms = self.reader.terms(way, &body, moment::now_ms())?;
        let offer = self.account.with_orders(|orders, now, _| orders.create(terms, now))?;
        let name = match way {
            Way::Native => "code_url",
            Way::H5 => "h5_url",
            Way::Jsapi | Way::App | Way::Codepay => "prepay_id",
        };
        Ok(Done::Said(200, json!({ name: offer })))
    }

    /// A barcode.
    pub fn pay(&self) -> Result<Done, Refused> {
        let body = wire::object(&self.inbound.body)?;
        let terms = self.reader.terms(Way::Codepay, &body, moment::now_ms())?;
        let code = bodies::auth_code(&body)?;
        let barcode = bodies::barcode(code);
        let paying =
            |orders: &mut Orders, now, fx: &mut Effects| orders.pay(terms, barcode, now, fx);
        let (order, begun) = self.account.with_orders(paying)?;
        if order.state != State::UserPaying {
            if begun && code.ends_with("06") {
                return Err(Refused::new(500, "SYSTEM_ERROR", "系统异常，请用相同参数重新调用"));
            }
            return Ok(Done::Said(200, self.account.shown().transaction(&order)));
        }
        if begun {
            self.account.approve_later(&order);
        }
        if code.ends_with("12") {
            let older = json!({ "code": "USERPAYING", "message": "需要用户输入支付密码" });
            return Ok(Done::Said(202, older));
        }
        Ok(Done::Said(200, json!({ "trade_state": "USERPAYING" })))
    }

    /// An order, as `find` finds it.
    pub fn query(
        &self,
        find: impl FnOnce(&mut Orders, Option<&str>, i64) -> Result<Order, Refused>,
    ) -> Result<Done, Refused> {
        let name = if self.reader.partner { "sp_mchid" } else { "mchid" };
        match self.param(name) {
            None => return Err(Refused::param(name, "商户号必填")),
            Some(given) if given != self.account.config.mchid => {
                return Err(Refused::new(400, "MCH_NOT_EXISTS", "商户号不存在"));
            }
            Some(_) => {}
        }
        let sub = self.param("sub_mchid").filter(|_| self.reader.partner);
        if self.reader.partner && sub.is_none() {
            return Err(Refused::param("sub_mchid", "子商户号必填"));
        }
        let sub = self.reader.sub(sub.as_deref())?;
        let order = self.account.with_orders(|orders, now, _| find(orders, sub.as_deref(), now))?;
        Ok(Done::Said(200, self.account.shown().transaction(&order)))
    }

    /// Closes the order of this number.
    pub fn close(&self, number: &str) -> Result<Done, Refused> {
        let sub = self.reader.whose(&wire::object(&self.inbound.body)?)?;
        let sub = sub.as_deref();
        self.account.with_orders(|orders, now, _| orders.close(number, sub, now))?;
        Ok(Done::Nothing)
    }

    /// Reverses the order of this number.
    pub fn reverse(&self, number: &str) -> Result<Done, Refused> {
        let sub = self.reader.whose(&wire::object(&self.inbound.body)?)?;
        let sub = sub.as_deref();
        let order = self.account.with_orders(|orders, now, fx| {
            orders.reverse(number, sub, now, fx)?;
            orders.query(number, sub, now)
        })?;
        Ok(Done::Said(200, self.account.shown().names(&order.terms)))
    }

    /// Accepts a refund, or finds it again.
    pub fn refund(&self) -> Result<Done, Refused> {
        let wish = self.reader.wish(&wire::object(&self.inbound.body)?)?;
        let at_once = self.account.config.refund_ms == 0;
        let refunding = |orders: &mut Orders, now, fx: &mut Effects| {
            let (order, mut refund, begun) = orders.refund(wish, now)?;
            if begun && at_once {
                refund = orders.end_refund(&refund, now, fx).unwrap_or(refund);
            }
            Ok((order, refund, begun))
        };
        let (order, refund, begun) = self.account.with_orders(refunding)?;
        if begun && !at_once {
            self.account.end_later(refund.clone());
        }
        Ok(Done::Said(200, self.account.shown().refund(&order, &refund)))
    }

    /// The refund of this number.
    pub fn refund_query(&self, no: &str) -> Result<Done, Refused> {
        let sub = self.reader.sub(self.param("sub_mchid").as_deref())?;
        let (order, refund) = self
            .account
            .with_orders(|orders, now, _| orders.query_refund(no, sub.as_deref(), now))?;
        Ok(Done::Said(200, self.account.shown().refund(&order, &refund)))
    }

    /// Makes a bill, and says where its file is.
    pub fn bill(&self, route: &Route) -> Result<Done, Refused> {
        let from_ms = self.param("bill_date").as_deref().and_then(bills::day);
        let from_ms = from_ms.ok_or(Refused::param("bill_date", "账单日期格式错误"))?;
        let packed = match self.param("tar_type").as_deref() {
            None => false,
            Some("GZIP") => true,
            Some(_) => return Err(Refused::param("tar_type", "压缩类型错误")),
        };
        let config = &self.account.config;
        let sub = self.reader.sub(self.param("sub_mchid").as_deref())?;
        let sheet = Sheet {
            appid: &config.appid,
            mchid: &config.mchid,
            sub_mchid: sub.as_deref(),
            from_ms,
            fee_basis_points: config.fee_basis_points,
        };
        let made = if *route == Route::TradeBill {
            let part = match self.param("bill_type").as_deref() {
                None | Some("ALL") => Part::All,
                Some("SUCCESS") => Part::Payments,
                Some("REFUND") => Part::Refunds,
                Some(_) => return Err(Refused::param("bill_type", "账单类型错误")),
            };
            sheet.trades(&self.account.orders(), part)
        } else {
            match self.param("account_type").as_deref() {
                None | Some("BASIC") => sheet.funds(&self.account.orders()),
                Some(_) => return Err(Refused::param("account_type", "资金账户类型错误")),
            }
        };
        let Some(text) = made else {
            return Err(Refused::new(400, "NO_STATEMENT_EXIST", "账单文件不存在"));
        };
        // Of the bill as it is when it is unpacked.
        let hash = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
        let bytes = if packed { gzip(text.as_bytes()) } else { text.into_bytes() };
        let token = format!("{:032x}", rand::random::<u128>());
        let url = format!("{}/v3/billdownload/file?token={token}", self.account.base);
        let mut bills = self.account.bills();
        bills.push_back((token, bytes.into()));
        if bills.len() > BILLS_LIMIT {
            bills.pop_front();
        }
        Ok(Done::Said(
            200,
            json!({
                "hash_type": "SHA1", "hash_value": hash, "download_url": url,
            }),
        ))
    }

    /// The file of a bill that was made.
    pub fn file(&self) -> Result<Done, Refused> {
        let token = self.param("token").unwrap_or_default();
        let bills = self.account.bills();
        let bill = bills.iter().find(|(held, _)| *held == token);
        let (_, bytes) = bill.ok_or(Refused::param("token", "账单下载地址已失效"))?;
        Ok(Done::File(bytes.clone()))
    }

    fn param(&self, name: &str) -> Option<String> {
        wire::param(&self.inbound.query, name)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).and_then(|()| packed.finish()).unwrap_or_default()
}
