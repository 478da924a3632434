//! Alipay (China OpenAPI, v1 gateway with RSA2) as a provider: barcode and QR payments, pages, and
//! orders for its app.
//!
//! Our number of a payment is Alipay's `out_trade_no`, kept for ever, and our number of a refund
//! its `out_request_no`: both are passed verbatim, so a copy of a request is recognised there.
//! Everything in a body comes from the request and the time when it was first built; only the
//! query carries the present.

mod answers;
mod bill;
mod codes;
mod gateway;
mod notification;
mod page;

use interlock_plugin_api::{
    CaptureMode, Class, Credential, Cx, Event, Fact, Fault, Operation, Original, Provider, Request,
    Step, StepResult, TransportLoss, export_provider, format_units,
};
use serde::{Deserialize, Serialize};

use gateway::Purpose;
use page::Door;

/// Fen; Alipay takes 0.01 to 100000000 yuan.
const AMOUNTS: std::ops::RangeInclusive<i64> = 1..=10_000_000_000;
/// How long a page or an order for the app may live, s; Alipay takes up to 15 days.
const PAGE_SECONDS: std::ops::RangeInclusive<u32> = 1..=1_296_000;
/// Characters.
const SUBJECT_MAX: usize = 256;

/// One account at Alipay.
#[derive(Debug, Deserialize)]
pub struct Alipay {
    #[serde(default)]
    app_id: String,
    seller_id: Option<String>,
    subject: Option<String>,
    timeout_express: Option<String>,
    #[serde(default)]
    pages: bool,
    #[serde(default = "page_seconds")]
    page_seconds: u32,
}

/// What is kept between a request and its answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The request that is on the wire.
    sent: Option<Purpose>,
    /// How far a bill is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bill: Option<bill::Reading>,
}

impl State {
    fn sent(purpose: Purpose) -> Self {
        Self { sent: Some(purpose), bill: None }
    }
}

impl Provider for Alipay {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &serde_json::Value) -> Result<Self, Fault> {
        let alipay =
            Self::deserialize(config).map_err(|_| Fault::config("a setting is of another type"))?;
        let fits = |s: &Option<String>, good: fn(&str) -> bool| s.as_deref().is_none_or(good);
        if alipay.app_id.is_empty() {
            return Err(Fault::config("`app_id` is required"));
        }
        if !fits(&alipay.seller_id, |id| !id.is_empty()) {
            return Err(Fault::config("`seller_id` is empty"));
        }
        if !fits(&alipay.subject, |subject| !subject.trim().is_empty()) {
            return Err(Fault::config("`subject` is empty"));
        }
        if !fits(&alipay.timeout_express, is_duration) {
            return Err(Fault::config("`timeout_express` is no duration such as 5m, 2h, 1d or 1c"));
        }
        if !PAGE_SECONDS.contains(&alipay.page_seconds) {
            return Err(Fault::config("`page_seconds` is not from 1 to 1296000"));
        }
        Ok(alipay)
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        if let Some(door) = Door::of(&r.flow) {
            return self.shown(cx, r, e, door);
        }
        let purpose = match r.flow.as_str() {
            "barcode" => Purpose::Pay,
            "qr" => Purpose::Precreate,
            _ => return Err(FLOW),
        };
        let subject = self.subject(r);
        self.exchange(cx, r, (purpose, &r.op_id), s, e, || {
            let code = match (purpose, &r.credential) {
                (Purpose::Precreate, _) => None,
                (_, Some(Credential::AuthCode { auth_code })) => Some(auth_code.as_str()),
                _ => return Err(Fault::input("a barcode payment needs an `auth_code`")),
            };
            if r.capture != CaptureMode::Automatic {
                return Err(Fault::input("alipay takes the money at once"));
            }
            Ok(Order {
                out_trade_no: &r.op_id,
                total_amount: yuan(r)?,
                subject: &subject,
                product_code: "FACE_TO_FACE_PAYMENT",
                scene: code.map(|_| "bar_code"),
                auth_code: code,
                timeout_express: self.timeout_express.as_deref(),
            })
        })
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let trade = &original(r)?.op_id;
        self.exchange(cx, r, (Purpose::Refund, trade), s, e, || {
            Ok(Refund {
                out_trade_no: trade,
                refund_amount: yuan(r)?,
                out_request_no: &r.op_id,
                refund_reason: r.reason.as_deref().filter(|reason| !reason.is_empty()),
            })
        })
    }

    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let trade = &original(r)?.op_id;
        self.exchange(cx, r, (Purpose::Query, trade), s, e, || Ok(Named { out_trade_no: trade }))
    }

    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        if !matches!(r.target, Some((Operation::Refund, _))) {
            return Err(Fault::UNSUPPORTED);
        }
        let trade = &original(r)?.op_id;
        self.exchange(cx, r, (Purpose::RefundQuery, trade), s, e, || {
            Ok(RefundNamed { out_trade_no: trade, out_request_no: &r.op_id })
        })
    }

    fn close(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let purpose = match r.flow.as_str() {
            "barcode" => Purpose::Cancel,
            flow if flow == "qr" || Door::of(flow).is_some() => Purpose::Close,
            _ => return Err(FLOW),
        };
        let trade = &original(r)?.op_id;
        self.exchange(cx, r, (purpose, trade), s, e, || Ok(Named { out_trade_no: trade }))
    }

    /// A question about a number that nobody has: an answer with a good signature shows life.
    fn probe(&self, cx: &Cx<'_>, s: State, e: &Event) -> StepResult<Self> {
        match e {
            Event::Start => {
                let number: String = cx.entropy.chars().filter(|c| c.is_alphanumeric()).collect();
                let named = Named { out_trade_no: &number };
                let (send, body) =
                    gateway::request(cx, &self.app_id, Purpose::Query, None, &named)?;
                Ok(Step::send(send, body, State::sent(Purpose::Query)))
            }
            Event::Response { status, .. } if s.sent == Some(Purpose::Query) => {
                let answer = gateway::open(cx, Purpose::Query, *status)?;
                Ok(Step::done(answer.map_or_else(|doubt| doubt, answers::sign_of_life)))
            }
            _ => Err(NOT_SENT),
        }
    }

    fn parse_notification(&self, cx: &Cx<'_>, _: State, e: &Event) -> StepResult<Self> {
        match e {
            Event::Notification { .. } => Ok(Step::end(notification::read(self, cx)?)),
            _ => Err(Fault::input("only a notification can be read")),
        }
    }

    fn download_statement(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        s: State,
        e: &Event,
    ) -> StepResult<Self> {
        match e {
            Event::Start => {
                let bill_date = bill::day(r)?.to_string();
                let wanted = Bill { bill_type: "trade", bill_date: &bill_date };
                let (send, body) =
                    gateway::request(cx, &self.app_id, Purpose::Bill, None, &wanted)?;
                Ok(Step::send(send, body, State::sent(Purpose::Bill)))
            }
            Event::Response { status, .. } if s.sent == Some(Purpose::Bill) => {
                Ok(Step::part(bill::told(cx, r, *status)?, State::default()))
            }
            Event::Transport { .. } => Err(Fault::input("the bill was not answered for")),
            _ => Err(NOT_SENT),
        }
    }

    fn read_statement(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let Event::Piece { last } = e else {
            return Err(Fault::input("only a piece of a bill can be read"));
        };
        let mut reading = s.bill.unwrap_or_default();
        let part = reading.piece(r, cx.body, *last)?;
        Ok(Step::part(part, State { sent: None, bill: Some(reading) }))
    }
}

impl Alipay {
    /// An offer without a request: it ends where it begins.
    fn shown(&self, cx: &Cx<'_>, r: &Request, e: &Event, door: Door) -> StepResult<Self> {
        if !matches!(e, Event::Start) {
            return Err(NOT_SENT);
        }
        if !self.pages {
            return Err(Fault::input("`pages` is not switched on for this account"));
        }
        if !is_number(&r.op_id) {
            return Err(Fault::input("a number is not of 1 to 64 letters, digits or `_`"));
        }
        if r.capture != CaptureMode::Automatic {
            return Err(Fault::input("alipay takes the money at once"));
        }
        page::offer(self, cx, r, door).map(Step::done)
    }

    /// The one shape of every operation: one request, and what its answer says about `number`.
    fn exchange<C: Serialize>(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        (purpose, number): (Purpose, &str),
        state: State,
        event: &Event,
        content: impl FnOnce() -> Result<C, Fault>,
    ) -> StepResult<Self> {
        match event {
            Event::Start => {
                if [number, &r.op_id].iter().any(|number| !is_number(number)) {
                    return Err(Fault::input("a number is not of 1 to 64 letters, digits or `_`"));
                }
                let pays = matches!(purpose, Purpose::Pay | Purpose::Precreate);
                let notify_url = r.notify_url.as_deref().filter(|_| pays);
                let (send, body) =
                    gateway::request(cx, &self.app_id, purpose, notify_url, &content()?)?;
                Ok(Step::send(send, body, State::sent(purpose)))
            }
            Event::Response { .. } if state.sent != Some(purpose) => Err(NOT_SENT),
            Event::Response { status, .. } => {
                let answer = gateway::open(cx, purpose, *status)?;
                let read = |node| answers::fact(cx, purpose, r, number, &node);
                Ok(Step::done(answer.map_or_else(|doubt| doubt, read)))
            }
            // Whether a byte left is the host's knowledge, and so is what follows from it.
            Event::Transport { outcome, .. } => Ok(Step::done(Fact {
                class: Some(Class::ProviderDown),
                ..Fact::unknown(match outcome {
                    TransportLoss::NotSent => "not_sent",
                    TransportLoss::MaybeSent => "no_answer",
                })
            })),
            Event::Notification { .. } | Event::Piece { .. } => {
                Err(Fault::input("this event is no answer"))
            }
        }
    }

    fn subject(&self, r: &Request) -> String {
        let given = r.description.as_deref().filter(|text| !text.trim().is_empty());
        let text = given.or(self.subject.as_deref()).unwrap_or(&r.op_id);
        text.chars().take(SUBJECT_MAX).collect()
    }
}

const NOT_SENT: Fault = Fault::input("an answer to a request that was not sent");
const FLOW: Fault =
    Fault::input("the flow is not one of `barcode`, `qr`, `redirect`, `wap`, `app`");

fn page_seconds() -> u32 {
    7_200
}

#[derive(Serialize)]
struct Order<'a> {
    out_trade_no: &'a str,
    total_amount: String,
    subject: &'a str,
    product_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scene: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_express: Option<&'a str>,
}

#[derive(Serialize)]
struct Named<'a> {
    out_trade_no: &'a str,
}

#[derive(Serialize)]
struct Refund<'a> {
    out_trade_no: &'a str,
    refund_amount: String,
    out_request_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct RefundNamed<'a> {
    out_trade_no: &'a str,
    out_request_no: &'a str,
}

#[derive(Serialize)]
struct Bill<'a> {
    bill_type: &'static str,
    bill_date: &'a str,
}

fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the payment that it belongs to is missing"))
}

fn yuan(r: &Request) -> Result<String, Fault> {
    if r.amount.currency.as_str() != "CNY" || r.exponent != 2 {
        return Err(Fault::input("alipay takes only CNY in fen"));
    }
    if !AMOUNTS.contains(&r.amount.amount) {
        return Err(Fault::input("the amount is not within 0.01 to 100000000 yuan"));
    }
    Ok(format_units(r.amount.amount, r.exponent))
}

fn is_number(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `90m`, `2h`, `15d` or `1c` (until the day ends).
fn is_duration(text: &str) -> bool {
    let digits = text.strip_suffix(['m', 'h', 'd', 'c']).unwrap_or_default();
    let fits = |count: u32| match text.as_bytes().last() {
        Some(b'm') => (1..=15 * 24 * 60).contains(&count),
        Some(b'h') => (1..=15 * 24).contains(&count),
        Some(b'd') => (1..=15).contains(&count),
        _ => count == 1,
    };
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse().is_ok_and(fits)
}

export_provider!(Alipay);
