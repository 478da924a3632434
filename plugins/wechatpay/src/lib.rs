//! WeChat Pay (APIv3) as a provider: QR codes, payment codes at the till, pages in WeChat and in
//! browsers, and orders for its SDK in the merchant's own app.
//!
//! Our number of a payment is WeChat Pay's `out_trade_no`, kept for ever, and our number of a
//! refund its `out_refund_no`: both are passed verbatim, so a copy of a request is recognised
//! there. Everything in a body comes from the request and the time when it was first built; only
//! the `Authorization` carries the present.

mod account;
mod answers;
mod bill;
mod certificates;
mod codes;
mod day;
mod fund_flow;
mod notification;
mod offers;
mod wire;

use std::collections::BTreeMap;

use interlock_plugin_api::{
    CaptureMode, Class, Cx, Event, Fact, Fault, Operation, Original, Provider, Request, Send, Step,
    StepResult, TransportLoss, What, export_provider,
};
use serde::{Deserialize, Serialize};

pub use account::WeChatPay;
use wire::Purpose;

/// Characters of a refund's reason.
const REASON_MAX: usize = 80;
const NOT_ASKED: Fault = Fault::input("an answer to a request that was not sent");
const FLOW: Fault = Fault::input("the flow is not one of `qr`, `barcode`, `jsapi`, `app`, `h5`");

/// What is kept between two steps.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// The request that is on the wire.
    sent: Option<Purpose>,
    /// How far a bill is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    bill: Option<bill::Reading>,
}

impl State {
    fn sent(purpose: Purpose) -> Self {
        Self { sent: Some(purpose), bill: None }
    }
}

impl Provider for WeChatPay {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &serde_json::Value) -> Result<Self, Fault> {
        Self::read(config)
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let purpose = offers::purpose(&r.flow).ok_or(FLOW)?;
        self.exchange(cx, r, purpose, s, e, || {
            if r.capture != CaptureMode::Automatic {
                return Err(Fault::input("wechatpay takes the money at once"));
            }
            offers::body(self, cx, purpose, r)
        })
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let order = original(r)?;
        self.exchange(cx, r, Purpose::Refund, s, e, || {
            let reason = r.reason.as_deref().filter(|reason| !reason.is_empty());
            offers::written(&Refund {
                sub_mchid: self.sub_mchid.as_deref(),
                out_trade_no: &order.op_id,
                out_refund_no: &r.op_id,
                reason: reason.map(|reason| reason.chars().take(REASON_MAX).collect()),
                notify_url: offers::notify_url(r),
                amount: Parts {
                    refund: offers::fen(r)?,
                    total: order.amount.amount,
                    currency: "CNY",
                },
            })
        })
    }

    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        original(r)?;
        self.exchange(cx, r, Purpose::Query, s, e, || Ok(String::new()))
    }

    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        if !matches!(r.target, Some((Operation::Refund, _))) {
            return Err(Fault::UNSUPPORTED);
        }
        original(r)?;
        self.exchange(cx, r, Purpose::RefundQuery, s, e, || Ok(String::new()))
    }

    fn close(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        original(r)?;
        let merchant = || offers::written(&self.merchant());
        match offers::purpose(&r.flow).ok_or(FLOW)? {
            Purpose::Codepay => self.reverse(cx, r, s, e),
            _ => self.exchange(cx, r, Purpose::Close, s, e, merchant),
        }
    }

    fn parse_notification(&self, cx: &Cx<'_>, _: State, e: &Event) -> StepResult<Self> {
        match e {
            Event::Notification { .. } => Ok(Step::end(notification::read(self, cx, e)?)),
            _ => Err(Fault::input("only a notification can be read")),
        }
    }

    fn fetch_keys(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        if r.wanted.as_ref().is_none_or(|wanted| wanted.ring != account::RING) {
            return Err(Fault::input("there is no such ring of keys"));
        }
        match e {
            Event::Start => self.send(cx, r, Purpose::Certificates, String::new()),
            Event::Response { status: 200, .. } if s.sent == Some(Purpose::Certificates) => {
                Ok(Step::end(certificates::read(self, cx, e)?))
            }
            _ => Err(Fault::input("the certificates were not given")),
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
            Event::Start => self.send(cx, r, self.statement.purpose(), String::new()),
            Event::Response { status, .. } if s.sent == Some(self.statement.purpose()) => {
                Ok(Step::part(bill::told(self, cx, r, e, *status)?, State::default()))
            }
            Event::Transport { .. } => Err(Fault::input("the bill was not answered for")),
            _ => Err(NOT_ASKED),
        }
    }

    fn read_statement(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let Event::Piece { last } = e else {
            return Err(Fault::input("only a piece of a bill can be read"));
        };
        let mut reading = s.bill.unwrap_or_default();
        let part = reading.piece(self, r, cx.body, *last)?;
        Ok(Step::part(part, State { sent: None, bill: Some(reading) }))
    }

    /// A question about a number that nobody has: the documented "no such order" shows life.
    fn probe(&self, cx: &Cx<'_>, s: State, e: &Event) -> StepResult<Self> {
        match e {
            Event::Start => {
                let number: String = cx.entropy.chars().filter(|c| c.is_alphanumeric()).collect();
                let (send, body) = self.request(cx, &number, "", Purpose::Query, String::new())?;
                Ok(Step::send(send, body, State::sent(Purpose::Query)))
            }
            Event::Response { status, .. } if s.sent == Some(Purpose::Query) => {
                let known = *status == 200 && wire::is_signed(self, cx, e)?;
                Ok(Step::done(match known {
                    true => Fact::new(What::NotFound),
                    false => codes::fact(Purpose::Query, *status, cx.body),
                }))
            }
            Event::Transport { outcome, .. } => Ok(Step::done(lost(*outcome))),
            _ => Err(NOT_ASKED),
        }
    }
}

impl WeChatPay {
    /// The one shape of most operations: one request, and what its answer says.
    fn exchange(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        purpose: Purpose,
        state: State,
        event: &Event,
        body: impl FnOnce() -> Result<String, Fault>,
    ) -> StepResult<Self> {
        match event {
            Event::Start => self.send(cx, r, purpose, body()?),
            Event::Response { .. } if state.sent == Some(purpose) => {
                Ok(Step::done(answers::fact(self, cx, event, purpose, r)?))
            }
            // Whether a byte left is the host's knowledge, and so is what follows from it.
            Event::Transport { outcome, .. } => Ok(Step::done(lost(*outcome))),
            _ => Err(NOT_ASKED),
        }
    }

    /// Ends a payment by code. What the reverse did is not believed by its own answer: the query
    /// that follows it decides.
    fn reverse(&self, cx: &Cx<'_>, r: &Request, state: State, event: &Event) -> StepResult<Self> {
        match (event, state.sent) {
            (Event::Start, _) => {
                self.send(cx, r, Purpose::Reverse, offers::written(&self.merchant_and_app())?)
            }
            (Event::Response { status, .. }, Some(Purpose::Reverse)) => {
                let said = codes::fact(Purpose::Reverse, *status, cx.body);
                match said.what {
                    What::ClosedNothingFound => Ok(Step::done(said)),
                    _ => self.send(cx, r, Purpose::Query, String::new()),
                }
            }
            (Event::Response { .. }, Some(Purpose::Query)) => {
                let said = answers::fact(self, cx, event, Purpose::Query, r)?;
                Ok(Step::done(answers::after_reverse(said)))
            }
            (Event::Transport { outcome, .. }, _) => Ok(Step::done(lost(*outcome))),
            _ => Err(NOT_ASKED),
        }
    }

    fn send(&self, cx: &Cx<'_>, r: &Request, purpose: Purpose, body: String) -> StepResult<Self> {
        let number = answers::number(r);
        let named = match purpose {
            Purpose::Certificates => "",
            Purpose::Bill | Purpose::FundFlow => &day::day(r)?.to_string(),
            _ if ![number, &r.op_id].iter().all(|number| is_number(number)) => {
                return Err(Fault::input("a number is not of 6 to 32 letters, digits, `_` or `-`"));
            }
            _ => &r.op_id,
        };
        let (send, body) = self.request(cx, number, named, purpose, body)?;
        Ok(Step::send(send, body, State::sent(purpose)))
    }

    /// The signed request; `named` is a refund's number, or a day.
    fn request(
        &self,
        cx: &Cx<'_>,
        number: &str,
        named: &str,
        purpose: Purpose,
        body: String,
    ) -> Result<(Send, Vec<u8>), Fault> {
        let orders = self.orders();
        let (method, path) = match purpose {
            Purpose::Native => ("POST", format!("{orders}/native")),
            Purpose::Jsapi => ("POST", format!("{orders}/jsapi")),
            Purpose::App => ("POST", format!("{orders}/app")),
            Purpose::H5 => ("POST", format!("{orders}/h5")),
            Purpose::Codepay => ("POST", format!("{orders}/codepay")),
            Purpose::Query => ("GET", format!("{orders}/out-trade-no/{number}")),
            Purpose::Close => ("POST", format!("{orders}/out-trade-no/{number}/close")),
            Purpose::Reverse => ("POST", format!("{orders}/out-trade-no/{number}/reverse")),
            Purpose::Refund => ("POST", "/v3/refund/domestic/refunds".into()),
            Purpose::RefundQuery => ("GET", format!("/v3/refund/domestic/refunds/{named}")),
            Purpose::Certificates => ("GET", "/v3/certificates".into()),
            Purpose::Bill => ("GET", "/v3/bill/tradebill".into()),
            Purpose::BillFile => ("GET", bill::FILE.into()),
            Purpose::FundFlow => ("GET", "/v3/bill/fundflowbill".into()),
        };
        let sub = self.sub_mchid.as_deref().map(|sub| ("sub_mchid", sub));
        let query: BTreeMap<&str, &str> = match purpose {
            Purpose::Query => self.merchant(),
            Purpose::RefundQuery => sub.into_iter().collect(),
            Purpose::Bill => {
                let asks = [("bill_date", named), ("bill_type", "ALL"), ("tar_type", "GZIP")];
                asks.into_iter().chain(sub).collect()
            }
            Purpose::FundFlow => BTreeMap::from([
                ("bill_date", named),
                ("account_type", "BASIC"),
                ("tar_type", "GZIP"),
            ]),
            _ => BTreeMap::new(),
        };
        let mut send = Send::to(method, "api", path);
        for (name, value) in query {
            send = send.query(name, value);
        }
        let send = wire::signed(self, cx, purpose, send, &body)?;
        Ok((send, body.into_bytes()))
    }
}

fn lost(outcome: TransportLoss) -> Fact {
    let word = match outcome {
        TransportLoss::NotSent => "not_sent",
        TransportLoss::MaybeSent => "no_answer",
    };
    Fact { class: Some(Class::ProviderDown), ..Fact::unknown(word) }
}

#[derive(Serialize)]
struct Refund<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_mchid: Option<&'a str>,
    out_trade_no: &'a str,
    out_refund_no: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify_url: Option<&'a str>,
    amount: Parts,
}

#[derive(Serialize)]
struct Parts {
    refund: i64,
    total: i64,
    currency: &'static str,
}

fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the payment that it belongs to is missing"))
}

fn is_number(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (6..=32).contains(&text.len()) && text.bytes().all(fits)
}

export_provider!(WeChatPay);
