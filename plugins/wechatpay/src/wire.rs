//! APIv3's way of speaking: requests signed over their exact bytes, and answers that are believed
//! only when WeChat Pay signed theirs just now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Cx, Event, Fault, HostError, Send};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::account::WeChatPay;

/// The only algorithm of signatures, by the host's name.
const RSA: &str = "rsa-sha256-pkcs1";
const MERCHANT_KEY: &str = "merchant_private_key";
/// What was signed longer ago, or so far ahead, is a replay or a wrong clock, s.
const WINDOW_S: u64 = 300;

/// One kind of request, by the name that the manifest gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Native,
    Jsapi,
    App,
    H5,
    Codepay,
    Query,
    Close,
    Reverse,
    Refund,
    RefundQuery,
    Certificates,
    Bill,
    BillFile,
    FundFlow,
}

/// A signed request. Only the `Authorization` carries the present, so a re-send repeats the body
/// byte for byte.
pub fn signed(
    account: &WeChatPay,
    cx: &Cx<'_>,
    purpose: Purpose,
    send: Send,
    body: &str,
) -> Result<Send, Fault> {
    // A secret that is missing must be known before anything moves, not when the answer is there:
    // so something that can't verify is verified.
    for key in account.needed_keys() {
        cx.host.verify(key, RSA, b"", b"")?;
    }
    let seconds = cx.now_ms.div_euclid(1_000);
    let nonce = nonce(cx, purpose);
    let message = message(&send.method, &target(&send), seconds, &nonce, body);
    let signature = signature(cx, &message)?;
    let (mchid, serial) = (&account.mchid, &account.serial_no);
    let authorization = format!(
        "WECHATPAY2-SHA256-RSA2048 mchid=\"{mchid}\",nonce_str=\"{nonce}\",\
         timestamp=\"{seconds}\",serial_no=\"{serial}\",signature=\"{signature}\""
    );
    let mut send = send
        .header("authorization", authorization)
        .header("accept", "application/json")
        .header("user-agent", concat!("Interlock/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        send = send.header("content-type", "application/json");
    }
    // Certificates are asked for by whoever believes certificates.
    match &account.public_key_id {
        Some(id) if purpose != Purpose::Certificates => Ok(send.header("wechatpay-serial", id)),
        _ => Ok(send),
    }
}

/// A signature by the merchant's key, in base64.
pub fn signature(cx: &Cx<'_>, message: &str) -> Result<String, Fault> {
    Ok(BASE64.encode(cx.host.sign(MERCHANT_KEY, RSA, message.as_bytes())?))
}

/// At most 32 letters and digits, of the same operation at another time others.
fn nonce(cx: &Cx<'_>, purpose: Purpose) -> String {
    let ms = cx.now_ms & 0xffff_ffff_ffff;
    let random: String = cx.entropy.chars().filter(char::is_ascii_alphanumeric).take(19).collect();
    format!("{random}{:x}{ms:012x}", purpose as u8)
}

/// Path and query as the host writes them.
fn target(send: &Send) -> String {
    if send.query.is_empty() {
        return send.path.clone();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("{}?{}", send.path, query.extend_pairs(&send.query).finish())
}

fn message(method: &str, target: &str, seconds: i64, nonce: &str, body: &str) -> String {
    format!("{method}\n{target}\n{seconds}\n{nonce}\n{body}\n")
}

/// Whether WeChat Pay signed this answer or notification, under a key of the account, just now.
pub fn is_signed(account: &WeChatPay, cx: &Cx<'_>, e: &Event) -> Result<bool, HostError> {
    match e.header("wechatpay-serial").and_then(|serial| account.key_of(serial)) {
        Some(key) => is_signed_by(&key, cx, e),
        None => Ok(false),
    }
}

/// Whether it is signed just now by this key.
pub fn is_signed_by(key: &str, cx: &Cx<'_>, e: &Event) -> Result<bool, HostError> {
    let names = ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature"];
    let [Some(timestamp), Some(nonce), Some(signature)] = names.map(|name| e.header(name)) else {
        return Ok(false);
    };
    let (Ok(at), Ok(signature)) = (timestamp.parse::<i64>(), BASE64.decode(signature)) else {
        return Ok(false);
    };
    if cx.now_ms.div_euclid(1_000).abs_diff(at) >= WINDOW_S {
        return Ok(false);
    }
    let head = format!("{timestamp}\n{nonce}\n");
    cx.host.verify(key, RSA, &[head.as_bytes(), cx.body, b"\n"].concat(), &signature)
}

/// A JSON object of this form; an array is none.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(body).ok()?.trim_start();
    text.starts_with('{').then(|| serde_json::from_str(text).ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_the_published_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../shared/vectors/wechat_auth_header_format.json");
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (nonce, at) =
            (vector["nonce"].as_str().unwrap(), vector["timestamp"].as_i64().unwrap());
        let cases = vector["cases"].as_array().unwrap();
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let said = message(text("method"), text("url"), at, nonce, text("body"));
            assert_eq!(said, text("message"));
        }
        assert_eq!(cases.len(), 2);
    }

    #[test]
    fn the_query_is_signed_as_it_is_written() {
        let send = Send::to("GET", "api", "/v3/x").query("a", "1 +/=").query("b", "茶");
        assert_eq!(target(&send), "/v3/x?a=1+%2B%2F%3D&b=%E8%8C%B6");
        assert_eq!(target(&Send::to("GET", "api", "/v3/x")), "/v3/x");
    }

    #[test]
    fn only_an_object_is_one() {
        assert!(object::<std::collections::BTreeMap<String, i64>>(b" {\"a\":1}").is_some());
        for body in [&b""[..], b"[1]", b"null", b"{\"a\":1}x", b"\xff{}"] {
            assert!(object::<(i64,)>(body).is_none());
        }
    }
}
