//! The v1 gateway's way of speaking: parameters signed with RSA2, and an answer whose signature
//! covers the exact text of its node.
//!
//! An answer is believed only if Alipay's signature fits the node as it arrived: `/` is written
//! `\/` there, so a node that was parsed and written again would no longer verify.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Class, Cx, Fact, Fault, Send};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The only algorithm of RSA2, by the host's name.
pub const RSA2: &str = "rsa-sha256-pkcs1";
/// The host's name of Alipay's public key.
pub const ALIPAY_KEY: &str = "alipay_public_key";

/// The host's name of the application's private key.
pub const APP_KEY: &str = "app_private_key";
/// More than any documented code has; a longer one is cut before it is reported.
const CODE_MAX: usize = 64;

/// One kind of request, by the name that the manifest gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Pay,
    Precreate,
    Query,
    Close,
    Cancel,
    Refund,
    RefundQuery,
    Bill,
}

impl Purpose {
    /// Alipay's name of the method; the manifest pins the effect of each.
    pub fn method(self) -> &'static str {
        match self {
            Self::Pay => "alipay.trade.pay",
            Self::Precreate => "alipay.trade.precreate",
            Self::Query => "alipay.trade.query",
            Self::Close => "alipay.trade.close",
            Self::Cancel => "alipay.trade.cancel",
            Self::Refund => "alipay.trade.refund",
            Self::RefundQuery => "alipay.trade.fastpay.refund.query",
            Self::Bill => "alipay.data.dataservice.bill.downloadurl.query",
        }
    }
}

/// A signed request. Only `content` is in the body, so a re-send repeats it byte for byte while
/// the timestamp and the signature in the query are made anew.
pub fn request(
    cx: &Cx<'_>,
    app_id: &str,
    purpose: Purpose,
    notify_url: Option<&str>,
    content: &impl Serialize,
) -> Result<(Send, Vec<u8>), Fault> {
    let content = written(content)?;
    let timestamp = beijing(cx.now_ms)?;
    let mut params = parameters(app_id, purpose.method(), &timestamp);
    params.insert("biz_content", &content);
    params.extend(notify_url.filter(|url| !url.is_empty()).map(|url| ("notify_url", url)));
    let signature = cx.host.sign(APP_KEY, RSA2, self::content(&params).as_bytes())?;
    params.remove("biz_content");
    let mut query: Vec<(String, String)> =
        params.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    query.push(("sign".into(), BASE64.encode(signature)));
    let mut body = form_urlencoded::Serializer::new(String::new());
    let body = body.append_pair("biz_content", &content).finish();
    let send = Send {
        method: "POST".into(),
        endpoint: "gateway".into(),
        path: "/gateway.do".into(),
        query,
        headers: vec![(
            "content-type".into(),
            "application/x-www-form-urlencoded;charset=utf-8".into(),
        )],
    };
    Ok((send, body.into_bytes()))
}

/// The JSON of a request's content.
///
/// # Errors
/// It has no JSON form.
pub fn written(content: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(content).map_err(|_| Fault::internal("the request can't be written"))
}

/// The parameters that every request carries.
pub fn parameters<'a>(
    app_id: &'a str,
    method: &'a str,
    timestamp: &'a str,
) -> BTreeMap<&'a str, &'a str> {
    BTreeMap::from([
        ("app_id", app_id),
        ("charset", "utf-8"),
        ("format", "JSON"),
        ("method", method),
        ("sign_type", "RSA2"),
        ("timestamp", timestamp),
        ("version", "1.0"),
    ])
}

/// What is signed. An empty value would be left out of it; none is ever put in.
pub fn content(params: &BTreeMap<&str, &str>) -> String {
    let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The node of an answer whose signature fits, or the doubt that is left instead.
///
/// # Errors
/// Only the host's own: it has no key to verify with.
pub fn open(cx: &Cx<'_>, purpose: Purpose, status: u16) -> Result<Result<Node, Fact>, Fault> {
    if status != 200 {
        let class = if status >= 500 { Class::ProviderDown } else { Class::Unmapped };
        return Ok(Err(Fact { class: Some(class), ..Fact::unknown(format!("http_{status}")) }));
    }
    let unreadable = || Ok(Err(Fact::unknown("unreadable_answer")));
    let Ok(answer) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(cx.body) else {
        return unreadable();
    };
    let own = format!("{}_response", purpose.method().replace('.', "_"));
    let Some(raw) = answer.get(&own) else {
        // The gate's own complaint comes without a signature, so its code is shown, not believed.
        return match answer.get("error_response").and_then(|raw| Node::parse(raw.get())) {
            Some(node) => Ok(Err(unverified(&node))),
            None => unreadable(),
        };
    };
    let Some(node) = Node::parse(raw.get()) else { return unreadable() };
    let signature = answer
        .get("sign")
        .and_then(|sign| serde_json::from_str::<String>(sign.get()).ok())
        .and_then(|sign| BASE64.decode(sign).ok());
    let good = match signature {
        Some(signature) => cx.host.verify(ALIPAY_KEY, RSA2, raw.get().as_bytes(), &signature)?,
        None => false,
    };
    Ok(if good { Ok(node) } else { Err(unverified(&node)) })
}

fn unverified(node: &Node) -> Fact {
    Fact::unknown(format!("unverified:{}", node.provider_code()))
}

/// What Alipay said in one answer.
pub struct Node(Map<String, Value>);

impl Node {
    fn parse(raw: &str) -> Option<Self> {
        serde_json::from_str(raw).ok().map(Self)
    }

    /// A member that is a string and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The gateway's own code: whether the request came as far as the business.
    pub fn outer(&self) -> &str {
        self.text("code").unwrap_or("no_code")
    }

    /// The code that facts report: the business code alone (`ACQ.PAYMENT_FAIL`), a gate's reason
    /// behind the code of its gate (`40005:isv.app-call-limited`), or the bare outer code.
    pub fn provider_code(&self) -> String {
        let outer = self.outer();
        let code = match self.text("sub_code") {
            Some(sub) if ["isv.", "isp.", "aop."].iter().any(|gate| sub.starts_with(gate)) => {
                format!("{outer}:{sub}")
            }
            Some(sub) => sub.to_owned(),
            None => outer.to_owned(),
        };
        let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        code.chars().take(CODE_MAX).map(plain).collect()
    }
}

/// `yyyy-MM-dd HH:mm:ss` in Beijing, which has had no summer time since 1991.
pub fn beijing(ms: i64) -> Result<String, Fault> {
    let at =
        Timestamp::from_millisecond(ms).map_err(|_| Fault::input("the time is out of range"))?;
    Ok(Offset::constant(8).to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_told_the_time_of_beijing() {
        assert_eq!(beijing(0).unwrap(), "1970-01-01 08:00:00");
        assert_eq!(beijing(1_764_000_000_999).unwrap(), "2025-11-25 00:00:00");
        assert!(beijing(i64::MAX).is_err());
    }

    #[test]
    fn a_code_is_reported_short_and_printable() {
        let node = |json: &str| Node::parse(json).unwrap().provider_code();
        assert_eq!(node(r#"{"code":"40004","sub_code":"ACQ.PAYMENT_FAIL"}"#), "ACQ.PAYMENT_FAIL");
        assert_eq!(node(r#"{"code":"40005","sub_code":"isv.x"}"#), "40005:isv.x");
        assert_eq!(node(r#"{"code":"10003","sub_code":""}"#), "10003");
        assert_eq!(node(r#"{"code":10000}"#), "no_code");
        let long = format!(r#"{{"sub_code":"张{}"}}"#, "x".repeat(500));
        assert_eq!(node(&long), format!("?{}", "x".repeat(63)));
    }
}
