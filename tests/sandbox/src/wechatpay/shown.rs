//! Orders and refunds as answers and notifications show them.

use serde_json::{Value, json};

use super::order::{Order, Refund, State, Terms};
use crate::moment;

/// The shopper, when the merchant names none.
pub const OPENID: &str = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o";
/// What the shopper paid with.
pub const BANK: &str = "OTHERS";

/// Shows the orders of one account.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The application.
    pub appid: &'a str,
    /// The merchant.
    pub mchid: &'a str,
}

impl Shown<'_> {
    /// An order as queries and notifications show it.
    pub fn transaction(&self, order: &Order) -> Value {
        let (word, sentence) = order.state.words();
        let mut shown = self.names(&order.terms);
        let openid = order.terms.openid.as_deref().unwrap_or(OPENID);
        let payer = if order.terms.sub_mchid.is_some() { "sp_openid" } else { "openid" };
        shown["trade_type"] = order.terms.way.trade_type().into();
        shown["trade_state"] = word.into();
        shown["trade_state_desc"] = sentence.into();
        shown["attach"] = order.terms.attach.clone().into();
        shown["amount"] = json!({ "total": order.terms.amount, "currency": "CNY" });
        // Of a payment that failed it does not say whether money moved.
        if let (Some((paid_ms, id)), false) = (&order.paid, order.state == State::PayError) {
            shown["transaction_id"] = id.clone().into();
            shown["success_time"] = moment::beijing_rfc3339(*paid_ms).into();
            shown["bank_type"] = BANK.into();
            shown["payer"] = json!({ payer: openid });
            shown["amount"]["payer_total"] = (order.terms.amount - order.coupon).into();
            shown["amount"]["payer_currency"] = "CNY".into();
            if order.coupon > 0 {
                shown["promotion_detail"] = json!([{
                    "coupon_id": "109519", "name": "单品惠-6", "scope": "GLOBAL", "type": "CASH",
                    "amount": order.coupon, "stock_id": "931386", "currency": "CNY",
                    "wechatpay_contribute": order.coupon,
                    "merchant_contribute": 0, "other_contribute": 0,
                }]);
            }
        }
        shown
    }

    /// A refund as its answers show it.
    pub fn refund(&self, order: &Order, refund: &Refund) -> Value {
        let mut shown = json!({
            "refund_id": refund.refund_id,
            "out_refund_no": refund.out_refund_no,
            "transaction_id": order.transaction_id(),
            "out_trade_no": refund.out_trade_no,
            "channel": "ORIGINAL",
            "user_received_account": "支付用户零钱",
            "create_time": moment::beijing_rfc3339(refund.made_ms),
            "status": refund.status(),
            "funds_account": "AVAILABLE",
            "amount": refund_amount(order, refund),
            "promotion_detail": [],
        });
        shown["amount"]["settlement_refund"] = refund.amount.into();
        shown["amount"]["settlement_total"] = order.terms.amount.into();
        shown["amount"]["discount_refund"] = 0.into();
        shown["amount"]["currency"] = "CNY".into();
        if let (Some(ended_ms), "SUCCESS") = (refund.ended_ms, refund.status()) {
            shown["success_time"] = moment::beijing_rfc3339(ended_ms).into();
        }
        shown
    }

    /// A refund as notifications show it: fewer members, and another name for the status.
    pub fn notified_refund(&self, order: &Order, refund: &Refund) -> Value {
        let mut shown = match &order.terms.sub_mchid {
            None => json!({ "mchid": self.mchid }),
            Some(sub) => json!({ "sp_mchid": self.mchid, "sub_mchid": sub }),
        };
        shown["out_trade_no"] = refund.out_trade_no.clone().into();
        shown["transaction_id"] = order.transaction_id().into();
        shown["out_refund_no"] = refund.out_refund_no.clone().into();
        shown["refund_id"] = refund.refund_id.clone().into();
        shown["refund_status"] = refund.status().into();
        shown["user_received_account"] = "支付用户零钱".into();
        shown["amount"] = refund_amount(order, refund);
        if let (Some(ended_ms), "SUCCESS") = (refund.ended_ms, refund.status()) {
            shown["success_time"] = moment::beijing_rfc3339(ended_ms).into();
        }
        shown
    }

    /// The names that every order carries.
    pub fn names(&self, terms: &Terms) -> Value {
        let (appid, mchid) = (self.appid, self.mchid);
        let number = &terms.out_trade_no;
        match &terms.sub_mchid {
            None => json!({ "appid": appid, "mchid": mchid, "out_trade_no": number }),
            Some(sub) => json!({
                "sp_appid": appid, "sp_mchid": mchid, "sub_mchid": sub, "out_trade_no": number,
            }),
        }
    }
}

/// What of a refund is in its answers and in its notification; a coupon is given back last.
fn refund_amount(order: &Order, refund: &Refund) -> Value {
    let payer_total = order.terms.amount - order.coupon;
    json!({
        "total": order.terms.amount,
        "refund": refund.amount,
        "payer_total": payer_total,
        "payer_refund": refund.amount.min(payer_total),
    })
}
