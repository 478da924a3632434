//! The bodies of requests, checked as the provider checks them, and what a barcode or a reason
//! chooses; see the tables in the crate's documentation.

use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::order::{Barcode, Fate, Terms, Way, Wish};
use super::wire::Refused;
use crate::config::WechatpayConfig;
use crate::moment;

const AMOUNT_LIMIT: i64 = 10_000_000_000;
const MINUTE_MS: i64 = 60_000;
const LONGEST_MS: i64 = 90 * 24 * 3_600_000;

const NO_MERCHANT: Refused = Refused::new(400, "MCH_NOT_EXISTS", "商户号不存在");
const MISMATCH: Refused = Refused::new(400, "APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配");
const NO_AUTH: Refused = Refused::new(403, "NO_AUTH", "商户无权限");

/// Reads bodies for one account; `partner` reads the partners' form of them.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The account.
    pub config: &'a WechatpayConfig,
    /// Whether the path was a partner's.
    pub partner: bool,
}

impl Reader<'_> {
    /// The terms of a new order.
    ///
    /// # Errors
    /// The first parameter that cannot be.
    pub fn terms(&self, way: Way, body: &Value, now: i64) -> Result<Terms, Refused> {
        let fits = |text: &&str| (1..=127).contains(&text.chars().count());
        let description = text(body, "/description").filter(fits);
        let description =
            description.ok_or(Refused::param("/description", "商品描述必填，最长127个字符"))?;
        let number = text(body, "/out_trade_no").filter(|number| is_order_number(number));
        let number = number.ok_or(Refused::param("/out_trade_no", "商户订单号格式错误"))?;
        let amount = fen(body, "/amount/total")?;
        currency(body, "/amount/currency", false)?;
        let notify_url = notify_url(body)?;
        if notify_url.is_none() && way != Way::Codepay {
            return Err(Refused::param("/notify_url", "通知地址必填"));
        }
        let attach = text(body, "/attach").unwrap_or_default();
        if attach.chars().count() > 128 {
            return Err(Refused::param("/attach", "附加数据最长128个字符"));
        }
        let expires_ms = expiry(body, now)?;
        let openid = self.openid(body);
        match way {
            Way::Jsapi if openid.is_none() => {
                return Err(Refused::param("/payer/openid", "用户标识必填"));
            }
            Way::H5 => {
                for field in ["/scene_info/payer_client_ip", "/scene_info/h5_info/type"] {
                    text(body, field).ok_or(Refused::param(field, "H5支付场景信息必填"))?;
                }
            }
            Way::Codepay => {
                let store = body.pointer("/scene_info/store_info").is_some_and(Value::is_object);
                if !store {
                    return Err(Refused::param("/scene_info/store_info", "门店信息必填"));
                }
                auth_code(body)?;
            }
            Way::Native | Way::Jsapi | Way::App => {}
        }
        let sub_mchid = self.whose(body)?;
        let appid = if self.partner { "/sp_appid" } else { "/appid" };
        let given = text(body, appid).ok_or(Refused::param(appid, "应用ID必填"))?;
        if given != self.config.appid {
            return Err(MISMATCH);
        }
        let fingerprint = digest(&SHA256, body.to_string().as_bytes());
        Ok(Terms {
            way,
            out_trade_no: number.into(),
            amount,
            description: description.into(),
            attach: attach.into(),
            notify_url,
            expires_ms,
            openid: openid.map(str::to_owned),
            sub_mchid,
            fingerprint: fingerprint.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        })
    }

    /// Checks the merchant that a body names; answers the sub-merchant of a partner.
    ///
    /// # Errors
    /// It is missing, or is not this account's.
    pub fn whose(&self, body: &Value) -> Result<Option<String>, Refused> {
        let field = if self.partner { "/sp_mchid" } else { "/mchid" };
        let given = text(body, field).ok_or(Refused::param(field, "商户号必填"))?;
        if given != self.config.mchid {
            return Err(NO_MERCHANT);
        }
        if !self.partner {
            return Ok(None);
        }
        let sub = text(body, "/sub_mchid").ok_or(Refused::param("/sub_mchid", "子商户号必填"))?;
        self.sub(Some(sub))
    }

    /// Checks a sub-merchant; none is well too.
    ///
    /// # Errors
    /// This account may not ask for it.
    pub fn sub(&self, sub: Option<&str>) -> Result<Option<String>, Refused> {
        let Some(sub) = sub else {
            return Ok(None);
        };
        match self.config.sub_mchid.all() {
            [] => Err(NO_AUTH),
            known if known.iter().any(|one| one == sub) => Ok(Some(sub.into())),
            _ => Err(NO_MERCHANT),
        }
    }

    /// What a refund asks for.
    ///
    /// # Errors
    /// The first parameter that cannot be.
    pub fn wish(&self, body: &Value) -> Result<Wish, Refused> {
        let (number, id) = (text(body, "/out_trade_no"), text(body, "/transaction_id"));
        if number.is_none() && id.is_none() {
            return Err(Refused::param("/out_trade_no", "transaction_id和out_trade_no必填一个"));
        }
        let refund_no = text(body, "/out_refund_no").filter(|no| is_refund_number(no));
        let refund_no =
            refund_no.ok_or(Refused::param("/out_refund_no", "商户退款单号格式错误"))?;
        let reason = text(body, "/reason").unwrap_or_default();
        if reason.chars().count() > 80 {
            return Err(Refused::param("/reason", "退款原因最长80个字符"));
        }
        currency(body, "/amount/currency", true)?;
        Ok(Wish {
            out_trade_no: number.map(str::to_owned),
            transaction_id: id.map(str::to_owned),
            out_refund_no: refund_no.into(),
            amount: fen(body, "/amount/refund")?,
            total: fen(body, "/amount/total")?,
            sub_mchid: self.sub(text(body, "/sub_mchid"))?,
            notify_url: notify_url(body)?,
            fate: match reason {
                "abnormal" => Fate::Abnormal,
                "closed" => Fate::Closed,
                _ => Fate::Success,
            },
            short_at_first: reason == "not_enough",
        })
    }

    fn openid<'b>(&self, body: &'b Value) -> Option<&'b str> {
        if self.partner {
            text(body, "/payer/sp_openid").or_else(|| text(body, "/payer/sub_openid"))
        } else {
            text(body, "/payer/openid")
        }
    }
}

/// The barcode of a request.
///
/// # Errors
/// It is none: 18 digits, the first two from 10 to 15.
pub fn auth_code(body: &Value) -> Result<&str, Refused> {
    let code = text(body, "/payer/auth_code").filter(|code| {
        let digits = code.len() == 18 && code.bytes().all(|b| b.is_ascii_digit());
        digits && code.starts_with('1') && code.as_bytes()[1] <= b'5'
    });
    code.ok_or(Refused::param("/payer/auth_code", "付款码格式错误"))
}

/// What the last two digits of a barcode choose.
pub fn barcode(auth_code: &str) -> Barcode {
    match auth_code.get(auth_code.len().saturating_sub(2)..).unwrap_or_default() {
        "02" | "12" => Barcode::Asks,
        "03" => Barcode::Refuses(Refused::new(403, "NOT_ENOUGH", "用户帐号余额不足")),
        "05" => {
            Barcode::Unreadable(Refused::new(400, "AUTH_CODE_EXPIRED", "付款码已过期，请刷新再试"))
        }
        "07" => Barcode::Fails { charged: true },
        "08" => Barcode::Fails { charged: false },
        "09" => Barcode::PaysWithCoupon,
        _ => Barcode::Pays,
    }
}

/// A text of at least one character.
pub fn text<'a>(body: &'a Value, field: &str) -> Option<&'a str> {
    body.pointer(field)?.as_str().filter(|text| !text.is_empty())
}

fn fen(body: &Value, field: &'static str) -> Result<i64, Refused> {
    let amount = body.pointer(field).and_then(Value::as_i64);
    let amount = amount.filter(|fen| (1..=AMOUNT_LIMIT).contains(fen));
    amount.ok_or(Refused::param(field, "金额必须是不小于1的整数，单位为分"))
}

fn currency(body: &Value, field: &'static str, required: bool) -> Result<(), Refused> {
    match body.pointer(field) {
        None if !required => Ok(()),
        Some(Value::String(code)) if code == "CNY" => Ok(()),
        _ => Err(Refused::param(field, "货币类型只支持CNY")),
    }
}

fn notify_url(body: &Value) -> Result<Option<String>, Refused> {
    let Some(url) = text(body, "/notify_url") else {
        return Ok(None);
    };
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if !is_web || url.contains('?') || url.len() > 255 {
        return Err(Refused::param("/notify_url", "通知地址必须为可访问的URL，不能携带参数"));
    }
    Ok(Some(url.into()))
}

fn expiry(body: &Value, now: i64) -> Result<Option<i64>, Refused> {
    let Some(value) = body.get("time_expire") else {
        return Ok(None);
    };
    let at_ms = value.as_str().and_then(moment::parse_rfc3339);
    let fits = |at_ms: &i64| (now + MINUTE_MS..=now + LONGEST_MS).contains(at_ms);
    match at_ms.filter(fits) {
        Some(at_ms) => Ok(Some(at_ms)),
        None => Err(Refused::param("/time_expire", "支付结束时间格式错误，或距现在不足1分钟")),
    }
}

fn is_order_number(number: &str) -> bool {
    (6..=32).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-|*".contains(&b))
}

fn is_refund_number(number: &str) -> bool {
    number.len() <= 64 && number.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-|*@".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_end_of_a_barcode_chooses_the_shopper() {
        assert_eq!(barcode("130000000000000001"), Barcode::Pays);
        assert_eq!(barcode("130000000000000006"), Barcode::Pays);
        assert_eq!(barcode("130000000000000012"), Barcode::Asks);
        assert_eq!(barcode("130000000000000007"), Barcode::Fails { charged: true });
        assert_eq!(barcode("130000000000000009"), Barcode::PaysWithCoupon);
        assert!(matches!(barcode("130000000000000003"), Barcode::Refuses(_)));
        assert!(matches!(barcode("130000000000000005"), Barcode::Unreadable(_)));
    }

    #[test]
    fn a_barcode_has_18_digits_and_begins_with_10_to_15() {
        let read = |code: &str| auth_code(&json!({ "payer": { "auth_code": code } })).is_ok();
        assert!(read("100000000000000000") && read("150000000000000000"));
        for bad in ["160000000000000000", "250000000000000000", "1300000000000000a0", "13", ""] {
            assert!(!read(bad), "{bad}");
        }
    }

    #[test]
    fn numbers_have_their_letters_and_lengths() {
        assert!(is_order_number("aZ09_-|*") && !is_order_number("a@0000"));
        assert!(!is_order_number("12345") && !is_order_number(&"1".repeat(33)));
        assert!(is_refund_number("r@1|*") && !is_refund_number(&"1".repeat(65)));
        assert!(!is_refund_number("r 1"));
    }

    #[test]
    fn an_expiry_lies_between_a_minute_and_ninety_days_ahead() {
        let at = |ms: i64| expiry(&json!({ "time_expire": moment::rfc3339(ms) }), 0);
        assert_eq!(at(60_000), Ok(Some(60_000)));
        assert_eq!(at(LONGEST_MS), Ok(Some(LONGEST_MS)));
        assert!(at(59_999).is_err() && at(LONGEST_MS + 1).is_err());
        assert_eq!(expiry(&json!({}), 0), Ok(None));
        assert!(expiry(&json!({ "time_expire": 60 }), 0).is_err());
    }
}
