//! Orders: what is asked of WeChat Pay, and what the shopper is shown of the answer.

use std::collections::BTreeMap;

use interlock_plugin_api::{Action, Credential, Cx, Fact, Fault, Request, What};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::account::WeChatPay;
use crate::wire::{self, Purpose, object};

/// How long an order can be shown at most, ms.
const SHOWN_MS: i64 = 2 * 60 * 60 * 1000;
/// And the page of the h5 flow.
const PAGE_MS: i64 = 5 * 60 * 1000;
/// Characters.
const DESCRIPTION_MAX: usize = 127;

/// The purpose of a flow's order, if there is such a flow.
pub fn purpose(flow: &str) -> Option<Purpose> {
    Some(match flow {
        "qr" => Purpose::Native,
        "barcode" => Purpose::Codepay,
        "jsapi" => Purpose::Jsapi,
        "app" => Purpose::App,
        "h5" => Purpose::H5,
        _ => return None,
    })
}

#[derive(Serialize)]
struct Order<'a> {
    #[serde(flatten)]
    merchant: BTreeMap<&'static str, &'a str>,
    description: String,
    out_trade_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_expire: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify_url: Option<&'a str>,
    amount: Total,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    payer: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scene_info: Option<Scene<'a>>,
}

#[derive(Serialize)]
struct Total {
    total: i64,
    currency: &'static str,
}

#[derive(Default, Serialize)]
struct Scene<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payer_client_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h5_info: Option<H5<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_info: Option<Store<'a>>,
}

#[derive(Serialize)]
struct H5<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_url: Option<&'a str>,
}

#[derive(Serialize)]
struct Store<'a> {
    id: &'a str,
}

/// The body of an order. Nothing in it is of the present.
pub fn body(
    account: &WeChatPay,
    cx: &Cx<'_>,
    purpose: Purpose,
    r: &Request,
) -> Result<String, Fault> {
    let payer = match (purpose, &r.credential) {
        (Purpose::Codepay, Some(Credential::AuthCode { auth_code })) => {
            Some(("auth_code", auth_code.as_str()))
        }
        (Purpose::Codepay, _) => {
            return Err(Fault::input("a barcode payment needs an `auth_code`"));
        }
        (Purpose::Jsapi, Some(Credential::OpenId { openid })) => {
            Some((account.openid(), openid.as_str()))
        }
        (Purpose::Jsapi, _) => return Err(Fault::input("a jsapi payment needs an `open_id`")),
        _ => None,
    };
    let scene = match purpose {
        Purpose::Codepay => {
            Some(Scene { store_info: Some(Store { id: &account.store_id }), ..Scene::default() })
        }
        Purpose::H5 => {
            let ip = r.customer.ip.ok_or(Fault::input("an h5 payment needs `customer.ip`"))?;
            let page = H5 {
                kind: &account.h5_type,
                app_name: account.h5_app_name.as_deref(),
                app_url: account.h5_url.as_deref(),
            };
            Some(Scene {
                payer_client_ip: Some(ip.to_string()),
                h5_info: Some(page),
                ..Scene::default()
            })
        }
        _ => None,
    };
    let order = Order {
        merchant: account.merchant_and_app(),
        description: description(account, r),
        out_trade_no: &r.op_id,
        time_expire: account.offer_seconds.map(|life| expiry(cx.made_ms, life)).transpose()?,
        // A payment by code is notified to nobody.
        notify_url: match purpose {
            Purpose::Codepay => None,
            _ => Some(notify_url(r).ok_or(Fault::input("an order needs a `notify_url`"))?),
        },
        amount: Total { total: fen(r)?, currency: "CNY" },
        payer: payer.into_iter().collect(),
        scene_info: scene,
    };
    written(&order)
}

/// Where we are told, unless WeChat Pay would refuse the address.
pub fn notify_url(r: &Request) -> Option<&str> {
    r.notify_url.as_deref().filter(|url| !url.is_empty() && !url.contains('?'))
}

/// The JSON of a request.
pub fn written(content: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(content).map_err(|_| Fault::internal("the request can't be written"))
}

/// The amount in fen.
pub fn fen(r: &Request) -> Result<i64, Fault> {
    if r.amount.currency.as_str() != "CNY" || r.exponent != 2 {
        return Err(Fault::input("wechatpay takes only CNY in fen"));
    }
    if r.amount.amount < 1 {
        return Err(Fault::input("the amount is not positive"));
    }
    Ok(r.amount.amount)
}

fn description(account: &WeChatPay, r: &Request) -> String {
    let given = r.description.as_deref().filter(|text| !text.trim().is_empty());
    let text = given.or(account.description.as_deref()).unwrap_or(&r.op_id);
    text.chars().take(DESCRIPTION_MAX).collect()
}

/// RFC 3339, in Beijing, which has had no summer time since 1991.
fn expiry(made_ms: i64, life_s: i64) -> Result<String, Fault> {
    let seconds = made_ms.div_euclid(1_000).saturating_add(life_s);
    let at =
        Timestamp::from_second(seconds).map_err(|_| Fault::input("the time is out of range"))?;
    Ok(Offset::constant(8).to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S+08:00").to_string())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Made {
    code_url: String,
    prepay_id: String,
    h5_url: String,
}

/// What the shopper is shown of an order that was made.
pub fn made(account: &WeChatPay, cx: &Cx<'_>, purpose: Purpose) -> Result<Fact, Fault> {
    let Some(made) = object::<Made>(cx.body) else {
        return Ok(Fact::unknown("unreadable_answer"));
    };
    let (kind, payload) = match purpose {
        Purpose::Native if !made.code_url.is_empty() => {
            ("qr_code", json!({ "qr_code": made.code_url }))
        }
        Purpose::Jsapi if !made.prepay_id.is_empty() => {
            ("sdk", json!({ "params": page_params(account, cx, &made.prepay_id)? }))
        }
        Purpose::App if !made.prepay_id.is_empty() => {
            ("sdk", json!({ "params": app_params(account, cx, &made.prepay_id)? }))
        }
        Purpose::H5 if made.h5_url.starts_with("https://") => {
            ("redirect", json!({ "url": made.h5_url }))
        }
        _ => return Ok(Fact::unknown("no_offer")),
    };
    let Value::Object(payload) = payload else { return Err(Fault::internal("no object")) };
    let most = if purpose == Purpose::H5 { PAGE_MS } else { SHOWN_MS };
    let life = account.offer_seconds.map_or(most, |life| most.min(life.saturating_mul(1_000)));
    let expires_ms = Some(cx.made_ms.saturating_add(life));
    let action = Action { kind: kind.into(), payload, expires_ms };
    Ok(Fact { action: Some(action), ..Fact::new(What::Action) })
}

/// What a page in WeChat hands to it.
fn page_params(account: &WeChatPay, cx: &Cx<'_>, prepay_id: &str) -> Result<Value, Fault> {
    let appid = account.shoppers_appid();
    let (seconds, nonce) = (cx.made_ms.div_euclid(1_000), cx.entropy);
    let package = format!("prepay_id={prepay_id}");
    let sign = wire::signature(cx, &format!("{appid}\n{seconds}\n{nonce}\n{package}\n"))?;
    Ok(json!({
        "appId": appid,
        "timeStamp": seconds.to_string(),
        "nonceStr": nonce,
        "package": package,
        "signType": "RSA",
        "paySign": sign,
    }))
}

/// What the merchant's own app hands to WeChat's SDK.
fn app_params(account: &WeChatPay, cx: &Cx<'_>, prepay_id: &str) -> Result<Value, Fault> {
    let appid = account.shoppers_appid();
    let (seconds, nonce) = (cx.made_ms.div_euclid(1_000), cx.entropy);
    let sign = wire::signature(cx, &format!("{appid}\n{seconds}\n{nonce}\n{prepay_id}\n"))?;
    Ok(json!({
        "appid": appid,
        "partnerid": account.mchid,
        "prepayid": prepay_id,
        "package": "Sign=WXPay",
        "noncestr": nonce,
        "timestamp": seconds.to_string(),
        "sign": sign,
    }))
}
