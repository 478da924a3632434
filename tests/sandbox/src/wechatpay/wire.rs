//! The wire form of requests and refusals: paths, the `Authorization` header, errors as JSON.
//!
//! What is signed is the text as it was sent: method, path with its query, timestamp, nonce and
//! body. So nothing here is decoded before it is verified.

use serde_json::{Value, json};

use super::order::Way;
use crate::desk::Inbound;
use crate::faults::Operation;
use crate::keys::Verifier;

const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048";

/// An error of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The code.
    pub code: &'static str,
    /// For people.
    pub message: &'static str,
    /// Which parameter, as a JSON pointer or the name of a header or a query parameter.
    field: Option<&'static str>,
}

impl Refused {
    /// An error without details.
    pub const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, field: None }
    }

    /// A parameter that cannot be.
    pub const fn param(field: &'static str, message: &'static str) -> Self {
        Self { status: 400, code: "PARAM_ERROR", message, field: Some(field) }
    }

    /// A request that cannot be believed.
    pub const fn sign(message: &'static str) -> Self {
        Self::new(401, "SIGN_ERROR", message)
    }

    /// Its text on the wire.
    pub fn body(&self) -> String {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(field) = self.field {
            let location = if field.starts_with('/') { "body" } else { "query" };
            body["detail"] = json!({ "location": location, "field": field, "issue": self.message });
        }
        body.to_string()
    }
}

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A new order.
    Create(Way),
    /// An order by the merchant's number.
    ByNumber(String),
    /// An order by WeChat Pay's number.
    ById(String),
    /// Close the order of this number.
    Close(String),
    /// Reverse the order of this number.
    Reverse(String),
    /// A new refund.
    Refund,
    /// The refund of this number.
    RefundQuery(String),
    /// The platform's certificates.
    Certificates,
    /// The bill of trades.
    TradeBill,
    /// The bill of funds.
    FundBill,
    /// A bill's file.
    File,
    /// Nothing here.
    Nowhere,
}

/// A route, and whether it is the partners' form of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What is asked for.
    pub route: Route,
    /// Under `/v3/pay/partner`.
    pub partner: bool,
}

impl Place {
    /// Reads a method and a path as received.
    pub fn of(method: &str, path: &str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (partner, parts) = match parts.as_slice() {
            ["v3", "pay", "partner", rest @ ..] => (true, [&["v3", "pay"], rest].concat()),
            _ => (false, parts),
        };
        let route = match (method, parts.as_slice()) {
            ("POST", ["v3", "pay", "transactions", way]) => {
                way_of(way).map_or(Route::Nowhere, Route::Create)
            }
            ("GET", ["v3", "pay", "transactions", "out-trade-no", number]) => {
                Route::ByNumber(decoded(number))
            }
            ("GET", ["v3", "pay", "transactions", "id", id]) => Route::ById(decoded(id)),
            ("POST", ["v3", "pay", "transactions", "out-trade-no", number, "close"]) => {
                Route::Close(decoded(number))
            }
            ("POST", ["v3", "pay", "transactions", "out-trade-no", number, "reverse"]) => {
                Route::Reverse(decoded(number))
            }
            ("POST", ["v3", "refund", "domestic", "refunds"]) => Route::Refund,
            ("GET", ["v3", "refund", "domestic", "refunds", no]) => Route::RefundQuery(decoded(no)),
            ("GET", ["v3", "certificates"]) => Route::Certificates,
            ("GET", ["v3", "bill", "tradebill"]) => Route::TradeBill,
            ("GET", ["v3", "bill", "fundflowbill"]) => Route::FundBill,
            ("GET", ["v3", "billdownload", "file"]) => Route::File,
            _ => Route::Nowhere,
        };
        Self { route, partner }
    }

    /// In the words of the fault dial.
    pub fn operation(&self) -> Operation {
        match self.route {
            Route::Create(_) => Operation::Authorize,
            Route::Close(_) | Route::Reverse(_) => Operation::Close,
            Route::Refund => Operation::Refund,
            _ => Operation::Inquire,
        }
    }

    /// A short name of the call.
    pub fn name(&self) -> &'static str {
        match self.route {
            Route::Create(Way::Native) => "native",
            Route::Create(Way::Jsapi) => "jsapi",
            Route::Create(Way::App) => "app",
            Route::Create(Way::H5) => "h5",
            Route::Create(Way::Codepay) => "codepay",
            Route::ByNumber(_) | Route::ById(_) => "query",
            Route::Close(_) => "close",
            Route::Reverse(_) => "reverse",
            Route::Refund => "refund",
            Route::RefundQuery(_) => "refund_query",
            Route::Certificates => "certificates",
            Route::TradeBill => "tradebill",
            Route::FundBill => "fundflowbill",
            Route::File => "billdownload",
            Route::Nowhere => "",
        }
    }
}

fn way_of(word: &str) -> Option<Way> {
    Some(match word {
        "native" => Way::Native,
        "jsapi" => Way::Jsapi,
        "app" => Way::App,
        "h5" => Way::H5,
        "codepay" => Way::Codepay,
        _ => return None,
    })
}

/// A part of a path without its escapes; the numbers of orders hold no plus sign.
fn decoded(part: &str) -> String {
    form_urlencoded::parse(part.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

/// The value of one parameter of a query string; an empty one counts as absent.
pub fn param(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
}

/// The members of an `Authorization` header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Authorization<'a> {
    mchid: &'a str,
    nonce_str: &'a str,
    timestamp: &'a str,
    serial_no: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the members in any order; each must be there, once.
    fn read(header: &'a str) -> Option<Self> {
        let members = header.strip_prefix(SCHEME)?.strip_prefix(' ')?;
        let mut read = Self::default();
        for member in members.split(',') {
            let (name, value) = member.trim().split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            let place = match name {
                "mchid" => &mut read.mchid,
                "nonce_str" => &mut read.nonce_str,
                "timestamp" => &mut read.timestamp,
                "serial_no" => &mut read.serial_no,
                "signature" => &mut read.signature,
                _ => return None,
            };
            if !place.is_empty() || value.is_empty() {
                return None;
            }
            *place = value;
        }
        let all = [read.mchid, read.nonce_str, read.timestamp, read.serial_no, read.signature];
        all.iter().all(|value| !value.is_empty()).then_some(read)
    }

    fn timestamp_ms(&self) -> Option<i64> {
        let digits = self.timestamp.bytes().all(|b| b.is_ascii_digit());
        let seconds = self.timestamp.parse::<i64>().ok().filter(|_| digits)?;
        seconds.checked_mul(1_000)
    }
}

/// What is checked before any business is done.
pub struct Gate<'a> {
    /// The only merchant that may ask.
    pub mchid: &'a str,
    /// The serial number of its certificate.
    pub serial: &'a str,
    /// Its public key.
    pub key: &'a Verifier,
    /// How far the timestamp may be off, in milliseconds; 0 means any distance.
    pub tolerance_ms: u64,
}

impl Gate<'_> {
    /// Lets an honest request through.
    ///
    /// # Errors
    /// What to answer to any other.
    pub fn admit(&self, inbound: &Inbound, now_ms: i64) -> Result<(), Refused> {
        if inbound.header("user-agent").is_none_or(str::is_empty) {
            return Err(Refused::param("User-Agent", "Http头缺少Accept或User-Agent"));
        }
        let accept = inbound.header("accept").unwrap_or_default();
        if !["application/json", "*/*"].iter().any(|kind| accept.contains(kind)) {
            return Err(Refused::param("Accept", "Http头缺少Accept或User-Agent"));
        }
        let header = inbound.header("authorization").unwrap_or_default();
        let Some(said) = Authorization::read(header) else {
            return Err(Refused::sign("Http头Authorization值格式错误，请参考接口规则"));
        };
        if said.mchid != self.mchid {
            return Err(Refused::sign("商户号错误，请检查Authorization中的mchid"));
        }
        if said.serial_no != self.serial {
            return Err(Refused::sign("商户证书序列号有误。请使用签名私钥匹配的证书序列号"));
        }
        let timely = match said.timestamp_ms() {
            None => false,
            Some(_) if self.tolerance_ms == 0 => true,
            Some(at_ms) => at_ms.abs_diff(now_ms) <= self.tolerance_ms,
        };
        if !timely {
            return Err(Refused::sign(
                "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟",
            ));
        }
        let signed = message(inbound, said.timestamp, said.nonce_str);
        if !self.key.verifies(&signed, said.signature) {
            return Err(Refused::sign("签名错误，请检查后再试"));
        }
        Ok(())
    }
}

/// What a request's signature covers.
fn message(inbound: &Inbound, timestamp: &str, nonce: &str) -> Vec<u8> {
    let mark = if inbound.query.is_empty() { "" } else { "?" };
    let head = format!(
        "{}\n{}{mark}{}\n{timestamp}\n{nonce}\n",
        inbound.method, inbound.path, inbound.query
    );
    [head.as_bytes(), &inbound.body, b"\n"].concat()
}

/// The body of a request.
///
/// # Errors
/// It is no object.
pub fn object(body: &[u8]) -> Result<Value, Refused> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let object = value.filter(Value::is_object);
    object.ok_or(Refused::param("/", "请求体不是合法的JSON对象"))
}
