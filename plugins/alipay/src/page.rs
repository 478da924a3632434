//! Pages that the shopper opens, and orders that Alipay's app is given: signed here, sent by him.
//!
//! Nothing is asked of Alipay: the address or the order string is the offer, and Alipay hears of
//! it when the shopper opens it. Until then there is no trade, so "not found" means "not opened
//! yet". He may open it as often as he likes, also after the trade was closed. What ends it is
//! `time_expire`, by this machine's clock, or the trade's being paid.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Action, Cx, Fact, Fault, Request, What};
use serde::Serialize;
use serde_json::{Value, json};

use crate::gateway::{self, APP_KEY, RSA2, beijing};
use crate::{Alipay, yuan};

/// How a shopper comes to Alipay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A page on a computer.
    Page,
    /// A page on a telephone, which opens the app where there is one.
    Wap,
    /// Alipay's SDK inside the merchant's own app.
    App,
}

impl Door {
    /// The door of a flow, if it has one.
    pub fn of(flow: &str) -> Option<Self> {
        match flow {
            "redirect" => Some(Self::Page),
            "wap" => Some(Self::Wap),
            "app" => Some(Self::App),
            _ => None,
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Page => "alipay.trade.page.pay",
            Self::Wap => "alipay.trade.wap.pay",
            Self::App => "alipay.trade.app.pay",
        }
    }

    fn product(self) -> &'static str {
        match self {
            Self::Page => "FAST_INSTANT_TRADE_PAY",
            Self::Wap => "QUICK_WAP_WAY",
            Self::App => "QUICK_MSECURITY_PAY",
        }
    }
}

#[derive(Serialize)]
struct Order<'a> {
    out_trade_no: &'a str,
    total_amount: String,
    subject: &'a str,
    product_code: &'static str,
    time_expire: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    quit_url: Option<&'a str>,
}

/// What the shopper carries to Alipay.
pub fn offer(alipay: &Alipay, cx: &Cx<'_>, r: &Request, door: Door) -> Result<Fact, Fault> {
    let subject = alipay.subject(r);
    let life_ms = i64::from(alipay.page_seconds) * 1_000;
    let expires_ms = cx.made_ms.saturating_add(life_ms);
    let back = r.return_url.as_deref().filter(|url| !url.is_empty());
    let content = Order {
        out_trade_no: &r.op_id,
        total_amount: yuan(r)?,
        subject: &subject,
        product_code: door.product(),
        time_expire: beijing(expires_ms)?,
        quit_url: back.filter(|_| door == Door::Wap),
    };
    let content = gateway::written(&content)?;
    let timestamp = beijing(cx.made_ms)?;
    let mut params = gateway::parameters(&alipay.app_id, door.method(), &timestamp);
    params.insert("biz_content", &content);
    let notify = r.notify_url.as_deref().filter(|url| !url.is_empty());
    params.extend(notify.map(|url| ("notify_url", url)));
    params.extend(back.filter(|_| door != Door::App).map(|url| ("return_url", url)));
    let signature = cx.host.sign(APP_KEY, RSA2, gateway::content(&params).as_bytes())?;
    let signature = BASE64.encode(signature);
    params.insert("sign", &signature);
    let order = encoded(&params);
    let (kind, payload) = match door {
        // The host knows where the gateway is.
        Door::Page | Door::Wap => {
            ("redirect", json!({ "url": format!("{{endpoint:gateway}}/gateway.do?{order}") }))
        }
        Door::App => ("sdk", json!({ "params": { "order_string": order } })),
    };
    let Value::Object(payload) = payload else { return Err(Fault::internal("no object")) };
    let action = Action { kind: kind.into(), payload, expires_ms: Some(expires_ms) };
    Ok(Fact { action: Some(action), ..Fact::new(What::Action) })
}

/// `name=value&...`, every byte that is not unreserved percent-encoded: Alipay's app reads a `+` as
/// itself.
fn encoded(params: &BTreeMap<&str, &str>) -> String {
    let pairs: Vec<String> =
        params.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    pairs.join("&")
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_unreserved_is_encoded() {
        assert_eq!(percent("a-Z_0.~"), "a-Z_0.~");
        assert_eq!(percent("1 + 2/茶&"), "1%20%2B%202%2F%E8%8C%B6%26");
    }
}
