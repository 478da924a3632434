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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Signer, fresh_pair};

    #[test]
    fn the_members_of_an_authorization_come_in_any_order_and_once() {
        let header = |members: &str| format!("{SCHEME} {members}");
        let good = header(
            "signature=\"s==\",mchid=\"1\",serial_no=\"A\",timestamp=\"15\",nonce_str=\"n\"",
        );
        let read = Authorization::read(&good).unwrap();
        assert_eq!((read.signature, read.serial_no), ("s==", "A"));
        assert_eq!(read.timestamp_ms(), Some(15_000));
        for bad in [
            good.replace("mchid=\"1\",", ""),
            good.replace("mchid=\"1\"", "mchid=\"1\",mchid=\"2\""),
            good.replace("\"15\"", "15"),
            good.replace("nonce_str", "nonce"),
            good.replace("\"A\"", "\"\""),
            good.replace(SCHEME, "WECHATPAY2-SM2-WITH-SM3"),
            String::new(),
        ] {
            assert_eq!(Authorization::read(&bad), None, "{bad}");
        }
        for bad in ["+15", "-15", "1.5", "99999999999999999999"] {
            let said = Authorization { timestamp: bad, ..Authorization::default() };
            assert_eq!(said.timestamp_ms(), None, "{bad}");
        }
    }

    #[test]
    fn what_is_signed_is_the_target_and_the_body_as_sent() {
        let with = |query: &str, body: &'static str| inbound(query, body, "");
        let text = |inbound: &Inbound| String::from_utf8(message(inbound, "15", "n")).unwrap();
        assert_eq!(text(&with("", "")), "GET\n/v3/x%7C\n15\nn\n\n");
        assert_eq!(text(&with("a=b%20c", "{}\n")), "GET\n/v3/x%7C?a=b%20c\n15\nn\n{}\n\n");
    }

    #[test]
    fn the_gate_has_a_clock_unless_it_is_told_otherwise() {
        let pair = fresh_pair().unwrap();
        let (signer, key) =
            (Signer::read(&pair.private_pem).unwrap(), Verifier::read(&pair.public_pem).unwrap());
        let signature = signer.sign(b"GET\n/v3/x%7C\n1000\nn\n\n");
        let header = format!(
            "{SCHEME} mchid=\"1\",nonce_str=\"n\",timestamp=\"1000\",serial_no=\"A\",\
             signature=\"{signature}\""
        );
        let admit = |tolerance_ms: u64, now_ms: i64| {
            let gate = Gate { mchid: "1", serial: "A", key: &key, tolerance_ms };
            gate.admit(&inbound("", "", &header), now_ms).map_err(|refused| refused.status)
        };
        assert_eq!(admit(300_000, 1_300_000), Ok(()));
        assert_eq!(admit(300_000, 1_300_001), Err(401));
        assert_eq!(admit(300_000, 699_999), Err(401));
        assert_eq!(admit(0, 9_000_000), Ok(()));
    }

    #[test]
    fn paths_are_routes_and_operations() {
        let of = |method: &str, path: &str| {
            let place = Place::of(method, path);
            (place.name(), place.operation(), place.partner)
        };
        let pay = "/v3/pay/transactions";
        assert_eq!(of("POST", &format!("{pay}/h5")), ("h5", Operation::Authorize, false));
        let partner = "/v3/pay/partner/transactions/out-trade-no/n/reverse";
        assert_eq!(of("POST", partner), ("reverse", Operation::Close, true));
        let refund = "/v3/refund/domestic/refunds";
        assert_eq!(of("POST", refund), ("refund", Operation::Refund, false));
        assert_eq!(of("GET", refund), ("", Operation::Inquire, false));
        assert_eq!(of("POST", &format!("{pay}/other")), ("", Operation::Inquire, false));
        let number = Place::of("GET", "/v3/pay/transactions/out-trade-no/a%7C%2Ab").route;
        assert_eq!(number, Route::ByNumber("a|*b".into()));
    }

    fn inbound(query: &str, body: &'static str, authorization: &str) -> Inbound {
        let mut headers = hyper::HeaderMap::new();
        for (name, value) in
            [("user-agent", "t"), ("accept", "*/*"), ("authorization", authorization)]
        {
            headers.insert(name, value.parse().unwrap());
        }
        Inbound {
            method: "GET".into(),
            path: "/v3/x%7C".into(),
            query: query.into(),
            headers,
            body: body.into(),
        }
    }
}
